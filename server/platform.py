"""An open platform: settings, keys, registry, generations and group, made once and handed around.

Not protected against: two versions of this program working on one data directory.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from purposematch.protocol.group import Group, RandomBytes, default_group
from purposematch.protocol.policy import Policy
from purposematch.protocol.purpose import Taxonomy
from purposematch.protocol.signing import IdentitySeed, identity_public_key
from purposematch.server.config import PlatformConfig, load_config
from purposematch.server.data_dir import DataDir
from purposematch.server.generations import GenerationStore
from purposematch.server.initialize import load_platform_keys
from purposematch.server.key_store import KeyStore
from purposematch.server.policy_file import load_policy
from purposematch.server.registry import COMMAND_CACHE_KIB, Registry, open_registry
from purposematch.server.taxonomy import load_taxonomy

__all__ = ["Clock", "Platform", "open_platform", "system_clock"]

Clock = Callable[[], int]
"""Gives the time in microseconds since 1970-01-01 UTC."""


def system_clock() -> int:
    """The machine's clock."""
    return time.time_ns() // 1_000


@dataclass(frozen=True)
class Platform:
    """One platform's data directory, opened.

    Attributes:
        data_dir: its paths.
        config: its settings.
        identity: the seed of its identity key.
        key_store: its key files.
        registry: its registry.
        store: its published generations.
        group: the back end that computes.
        taxonomy: the data uses that purposes are keys of.
        clock: the time.
        random_bytes: the source of all randomness.
    """

    data_dir: DataDir
    config: PlatformConfig
    identity: IdentitySeed
    key_store: KeyStore
    registry: Registry
    store: GenerationStore
    group: Group
    clock: Clock
    random_bytes: RandomBytes

    def policy(self) -> Policy:
        """The policy as the file says now; it is read again every time, so that an edit takes effect.

        Raises:
            PolicyError: the file is refused.
        """
        return load_policy(self.data_dir.policy, self.taxonomy)

    @property
    def taxonomy(self) -> Taxonomy:
        """The purposes that exist; loaded by the first command that asks for one."""
        return load_taxonomy()

    @property
    def identity_key(self) -> bytes:
        """The public identity key, 32 bytes."""
        return identity_public_key(self.identity)


def _default_group(threads: int | None) -> Group:
    return default_group(threads, os.environ)


@contextmanager
def open_platform(
    folder: Path,
    *,
    clock: Clock = system_clock,
    random_bytes: RandomBytes = secrets.token_bytes,
    group: Callable[[int | None], Group] = _default_group,
    cache_kib: int = COMMAND_CACHE_KIB,
) -> Iterator[Platform]:
    """Opens the data directory `folder` and closes it after the body.

    Args:
        folder: the data directory.
        clock: the time.
        random_bytes: the source of all randomness.
        group: gives the back end of the group for a number of threads, None standing for all cores.
        cache_kib: memory for database pages, in KiB for each connection.

    Raises:
        ConfigurationError: it is no data directory, or a key or setting is missing or wrong.
        IntegrityError: something in it is damaged.
    """
    data_dir = DataDir(folder)
    config = load_config(data_dir.config, os.environ)
    keys = load_platform_keys(data_dir, config, os.environ)
    key_store = KeyStore(data_dir, config.platform_id, keys.wrapping)
    identity = key_store.load_identity()
    registry = open_registry(data_dir.registry, keys.identifier, keys.sealing, config.profile, cache_kib)
    try:
        yield Platform(
            data_dir=data_dir,
            config=config,
            identity=identity,
            key_store=key_store,
            registry=registry,
            store=GenerationStore(data_dir.generations, identity_public_key(identity)),
            group=group(config.limits.evaluation_threads or None),
            clock=clock,
            random_bytes=random_bytes,
        )
    finally:
        registry.close()
