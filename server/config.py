"""The platform's settings: `platform.toml`, which `init` writes and people edit.

The file is read strictly: a key that is not known, a value of a wrong type or out of bounds is an error
that names the key and the file and says what to write instead. A setting that was misspelt and silently
ignored would be a limit that does not hold.

Not protected against: somebody who may write the file. The gate's rules are not in it, on purpose.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

from purposematch.protocol.agreement import (
    DEFAULT_MAX_LIST_ELEMENTS,
    DEFAULT_MIN_LIST_ELEMENTS,
    LARGEST_LIST_ELEMENTS,
)
from purposematch.protocol.errors import ConfigurationError, InputError
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.identifiers.phone import checked_region
from purposematch.protocol.messages import MAX_WINDOW
from purposematch.protocol.scope import PLATFORM_ID
from purposematch.server.keys import KeyReference

__all__ = [
    "DEFAULT_LISTEN",
    "DEFAULT_ROOT_KEY",
    "MAX_CONFIG_BYTES",
    "Limits",
    "ListenAddress",
    "PlatformConfig",
    "config_text",
    "load_config",
]

DEFAULT_LISTEN: Final = "127.0.0.1:7443"
"""Where `serve` listens unless told otherwise."""

DEFAULT_ROOT_KEY: Final = "file:keys/root.key"
"""Where `init` puts the root key."""

MAX_CONFIG_BYTES: Final = 1_048_576
"""The longest platform.toml that is read, in bytes."""

_ADDRESS: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")

_BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "min_list_elements": (1, LARGEST_LIST_ELEMENTS),
    "max_list_elements": (1, LARGEST_LIST_ELEMENTS),
    # The composite index of a DLEQ proof is two bytes long (RFC 9497 section 2.2.1).
    "max_batch_elements": (1, 65_535),
    "batches_in_flight": (1, MAX_WINDOW),
    "epoch_days": (1, 30),
    "generation_max_age_hours": (1, 24),
    "evaluation_threads": (0, 1_024),
}


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen.

    Attributes:
        host: a name or address; an IPv6 address stands in brackets.
        port: 0 to 65535; 0 lets the system pick a free one.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `HOST:PORT`, such as `127.0.0.1:7443` or `[::1]:0`.

        Raises:
            ConfigurationError: `text` is not of that form.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match[2]) > 65_535:
            raise ConfigurationError(
                "an address to listen on is HOST:PORT, such as 127.0.0.1:7443 or [::1]:7443"
            )
        return cls(match[1], int(match[2]))

    def __str__(self) -> str:
        """The address as `parse` reads it."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the service.

    Attributes:
        min_list_elements: distinct identifiers that a session must bring at least.
        max_list_elements: distinct identifiers that a session may bring at most.
        max_batch_elements: elements in one batch at most; a proof covers one batch.
        batches_in_flight: batches that a session may have under way unanswered.
        epoch_days: the life of a scope's keys, in days.
        generation_max_age_hours: how long a generation may be used, in hours.
        evaluation_threads: threads that evaluate; 0 stands for the number of cores.
    """

    min_list_elements: int = DEFAULT_MIN_LIST_ELEMENTS
    max_list_elements: int = DEFAULT_MAX_LIST_ELEMENTS
    max_batch_elements: int = 8_192
    batches_in_flight: int = 8
    epoch_days: int = 30
    generation_max_age_hours: int = 24
    evaluation_threads: int = 0


@dataclass(frozen=True, slots=True)
class PlatformConfig:
    """The settings in `platform.toml`.

    Attributes:
        platform_id: the id of the platform.
        profile: the normalization profile of the platform's scope.
        region: the region of phone numbers without `+`, two capital letters, or None.
        root_key: where the root key is.
        listen: where `serve` listens unless told otherwise.
        limits: the limits of the service.
    """

    platform_id: str
    profile: Profile
    region: str | None
    root_key: KeyReference
    listen: ListenAddress
    limits: Limits


def config_text(platform_id: str, profile: Profile, region: str | None) -> str:
    """The commented `platform.toml` of a new platform; `load_config` reads it back."""
    limits = Limits()
    batch, in_flight = _bounds("max_batch_elements"), _bounds("batches_in_flight")
    epoch, age = _bounds("epoch_days"), _bounds("generation_max_age_hours")
    region_line = f'region = "{region}"' if region is not None else '# region = "US"'
    return f"""\
# The settings of this purposematch platform. After a change, restart `purposematch-platform serve`.

# The id of the platform. Scopes, certificates and agreements are bound to it: never change it.
platform_id = "{platform_id}"

# The rule that makes identifiers canonical, one of {", ".join(Profile)}.
# The registry holds digests made under it: never change it once something is enrolled.
profile = "{profile.value}"

# The country of phone numbers without "+", by its two letters (ISO 3166). Without one they are invalid.
{region_line}

# The root key, from which all keys at rest are derived: file:PATH (mode 0600, relative to this folder) or
# env:NAME. Whoever has this folder and the key can read what is enrolled, so keep the key elsewhere.
# Without the key nothing here opens again: back it up, and not beside this folder.
root_key = "{DEFAULT_ROOT_KEY}"

# Where the service listens unless --listen says otherwise.
listen = "{DEFAULT_LISTEN}"

[limits]
# Distinct identifiers that a session brings at least and at most. The lower limit guards against accidents;
# it does not stop an advertiser that invents identifiers.
min_list_elements = {limits.min_list_elements}
max_list_elements = {limits.max_list_elements}

# Elements in one batch, {batch}, and batches of one session under way, {in_flight}.
max_batch_elements = {limits.max_batch_elements}
batches_in_flight = {limits.batches_in_flight}

# The life of a scope's keys in days, {epoch}. An advertiser can use what it learned until they change.
epoch_days = {limits.epoch_days}

# How long a generation may be used before it is built again, in hours, {age}.
generation_max_age_hours = {limits.generation_max_age_hours}

# Threads that evaluate; 0 stands for the number of cores.
evaluation_threads = {limits.evaluation_threads}
"""


def load_config(path: Path) -> PlatformConfig:
    """Reads `platform.toml`.

    Raises:
        ConfigurationError: the file is missing, is not TOML, or a setting is missing, unknown or wrong.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path} is missing: create the platform with purposematch-platform init"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_CONFIG_BYTES:
        raise ConfigurationError(f"{path} is longer than {MAX_CONFIG_BYTES} bytes")
    try:
        settings = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8: save it as UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    return _Reader(path, "", settings).platform()


class _Reader:
    """The settings of one table of one file, for error texts that name both."""

    def __init__(self, path: Path, prefix: str, settings: Mapping[str, object]) -> None:
        self._path = path
        self._prefix = prefix
        self._settings = settings

    def platform(self) -> PlatformConfig:
        self._only(field.name for field in fields(PlatformConfig))
        limits = self._settings.get("limits", {})
        if not isinstance(limits, dict):
            raise self._error("limits", "is not a table: write it as [limits]")
        platform_id = self._text("platform_id")
        if PLATFORM_ID.fullmatch(platform_id) is None:
            raise self._error("platform_id", "must be the id that was given to init")
        profile = self._text("profile")
        if profile not in list(Profile):
            raise self._error("profile", f"must be one of {', '.join(Profile)}")
        named = self._text("region") if "region" in self._settings else None
        try:
            region = checked_region(named)
        except InputError:
            advice = "must be a two-letter country code, such as US, or be left out"
            raise self._error("region", advice) from None
        reference, address = self._text("root_key"), self._text("listen", DEFAULT_LISTEN)
        try:
            root_key = KeyReference.parse(reference)
        except ConfigurationError:
            raise self._error("root_key", "must be file:PATH or env:NAME") from None
        try:
            listen = ListenAddress.parse(address)
        except ConfigurationError:
            raise self._error("listen", "must be HOST:PORT, such as 127.0.0.1:7443 or [::1]:7443") from None
        return PlatformConfig(
            platform_id=platform_id,
            profile=Profile(profile),
            region=region,
            root_key=root_key,
            listen=listen,
            limits=_Reader(self._path, "limits.", limits).limits(),
        )

    def limits(self) -> Limits:
        self._only(_BOUNDS)
        limits = Limits(**{name: self._integer(name) for name in self._settings})
        if limits.min_list_elements > limits.max_list_elements:
            raise self._error("min_list_elements", "must not be larger than limits.max_list_elements")
        return limits

    def _only(self, names: Iterable[str]) -> None:
        known = list(names)
        for name in self._settings:
            if name not in known:
                raise self._error(name, f"is not a setting: remove it or write one of {', '.join(known)}")

    def _text(self, name: str, default: str | None = None) -> str:
        value = self._settings.get(name, default)
        if value is None:
            raise self._error(name, "is missing: add it, init wrote one")
        if not isinstance(value, str):
            raise self._error(name, "must be a text in quotes")
        return value

    def _integer(self, name: str) -> int:
        value = self._settings[name]
        low, high = _BOUNDS[name]
        if type(value) is not int or not low <= value <= high:
            raise self._error(name, f"must be a whole number, {_bounds(name)}")
        return value

    def _error(self, name: str, advice: str) -> ConfigurationError:
        # A quoted TOML key may hold a line break, and an error is one line.
        shown = (self._prefix + name).encode("unicode_escape").decode("ascii")
        return ConfigurationError(f"{shown} in {self._path} {advice}")


def _bounds(name: str) -> str:
    low, high = _BOUNDS[name]
    return f"{low:,} to {high:,}"
