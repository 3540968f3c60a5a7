"""Creating a platform: its folder, keys, certificates, settings and policy.

Everything is written into a folder that is new or empty. When a step fails, what was made is removed
again; `platform.toml` comes last, so that a folder without it is never taken for a platform.

Not protected against: the root key lying beside what it protects. That is how a new platform starts;
`platform.toml` says how to move it.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime

from purposematch.protocol.errors import ConfigurationError, DecodeError
from purposematch.protocol.group import RandomBytes
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.identifiers.phone import checked_region
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.protocol.log.tree import EMPTY_ROOT
from purposematch.protocol.policy import DEFAULT_POLICY_TOML
from purposematch.protocol.scope import check_platform_id
from purposematch.protocol.signing import IdentitySeed
from purposematch.server.config import PlatformConfig, config_text, load_config
from purposematch.server.data_dir import DataDir
from purposematch.server.key_store import KeyStore
from purposematch.server.keys import PlatformKeys, RootKey, derive_keys, encode_root_key, load_root_key
from purposematch.server.pki import create_authority, issue_server, server_name
from purposematch.server.private_files import PRIVATE_FOLDER, fresh_folder, write_new

__all__ = ["initialize", "load_platform_keys"]


def initialize(
    data_dir: DataDir,
    *,
    platform_id: str,
    profile: Profile,
    region: str | None,
    hosts: Sequence[str],
    now: datetime,
    random_bytes: RandomBytes,
) -> PlatformConfig:
    """Creates a platform and returns its settings.

    Args:
        data_dir: the folder; it must not exist yet, or be empty.
        platform_id: the id of the platform.
        profile: the normalization profile of its scope.
        region: the region of phone numbers without `+`, or None.
        hosts: DNS names and addresses that the server certificate carries besides the loopback names.
        now: the time, with a time zone.
        random_bytes: the source of the root key and the identity key.

    Raises:
        ConfigurationError: the folder holds a platform or something else already, cannot be written, or
            an argument is not of its form. Nothing is left behind.
        InputError: `region` is no region that phone numbers are assigned to.
    """
    try:
        check_platform_id(platform_id)
    except DecodeError as error:
        raise ConfigurationError(str(error)) from None
    server_name(platform_id)
    region = checked_region(region)
    if os.path.exists(data_dir.config):
        raise ConfigurationError(f"{data_dir.root} already holds a platform: choose another folder")
    with fresh_folder(data_dir.root):
        for folder in (data_dir.keys, data_dir.tls, data_dir.generations):
            folder.mkdir(PRIVATE_FOLDER)
        root = RootKey(random_bytes(RootKey.LENGTH))
        write_new(data_dir.root_key, encode_root_key(root))
        key_store = KeyStore(data_dir, platform_id, derive_keys(root).wrapping)
        identity = IdentitySeed.generate(random_bytes)
        key_store.store_identity(identity)
        # From the beginning there is a last checkpoint, so that a missing one is noticed.
        empty = Checkpoint(log_origin(platform_id), 0, EMPTY_ROOT)
        write_new(data_dir.checkpoint, empty.sign(identity))
        authority = create_authority(platform_id, now)
        authority.write(data_dir.authority_certificate, data_dir.authority_key)
        server = issue_server(authority, platform_id, hosts, now)
        server.write(data_dir.server_certificate, data_dir.server_key)
        write_new(data_dir.policy, DEFAULT_POLICY_TOML.encode("utf-8"))
        write_new(data_dir.config, config_text(platform_id, profile, region).encode("utf-8"))
        # What is read back decides: a value that the file cannot hold must fail now.
        return load_config(data_dir.config)


def load_platform_keys(data_dir: DataDir, config: PlatformConfig, environ: Mapping[str, str]) -> PlatformKeys:
    """The keys of the platform, derived from the root key that its settings refer to.

    Raises:
        ConfigurationError: the root key is missing, malformed or open to others.
    """
    return derive_keys(load_root_key(config.root_key, data_dir.root, environ))
