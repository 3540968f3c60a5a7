"""The platform's settings: `platform.toml`, which `init` writes and people edit.

Every setting can be overridden by an environment variable, but for those that what is stored depends on:
see `purposematch.server.settings`, which also says what is refused.

Not protected against: somebody who may write the file. The gate's rules are not in it, on purpose.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Self

from purposematch.protocol.agreement import (
    DEFAULT_MAX_LIST_ELEMENTS,
    DEFAULT_MIN_LIST_ELEMENTS,
    LARGEST_LIST_ELEMENTS,
)
from purposematch.protocol.audience import DEFAULT_KEEP_DAYS, LARGEST_KEEP_DAYS
from purposematch.protocol.errors import ConfigurationError, InputError
from purposematch.protocol.identifiers import Profile
from purposematch.protocol.identifiers.phone import checked_region
from purposematch.protocol.messages import MAX_WINDOW
from purposematch.protocol.scope import PLATFORM_ID
from purposematch.server.budget_limits import (
    BUDGET_SECTION,
    BUDGET_SETTINGS,
    BudgetLimits,
    budget_text,
)
from purposematch.server.keys import KeyReference
from purposematch.server.settings import Given, Setting, read_settings

__all__ = [
    "DEFAULT_LISTEN",
    "DEFAULT_ROOT_KEY",
    "LOG_FORMATS",
    "SETTINGS",
    "Limits",
    "ListenAddress",
    "PlatformConfig",
    "Telemetry",
    "config_text",
    "given_settings",
    "load_config",
]

DEFAULT_LISTEN: Final = "127.0.0.1:7443"
"""Where `serve` listens unless told otherwise."""

DEFAULT_ROOT_KEY: Final = "file:keys/root.key"
"""Where `init` puts the root key."""

LOG_FORMATS: Final = ("text", "json")
"""How `serve` can write its log."""

_ADDRESS: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")

_BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "min_list_elements": (1, LARGEST_LIST_ELEMENTS),
    "max_list_elements": (1, LARGEST_LIST_ELEMENTS),
    # The composite index of a DLEQ proof is two bytes long (RFC 9497 section 2.2.1).
    "max_batch_elements": (1, 65_535),
    "batches_in_flight": (1, MAX_WINDOW),
    "epoch_days": (1, 30),
    "generation_max_age_hours": (1, 24),
    "audience_days": (1, LARGEST_KEEP_DAYS),
    "evaluation_threads": (0, 1_024),
    "silence_seconds": (1, 86_400),
    "least_rate": (1, 100_000_000),
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
        audience_days: how long whom a session matched stays in an audience, in days.
        evaluation_threads: threads that evaluate; 0 stands for the number of cores.
        silence_seconds: how long a client may say nothing in a stream while it owes a message.
        least_rate: identifiers a second that every advertiser being served can count on.
    """

    min_list_elements: int = DEFAULT_MIN_LIST_ELEMENTS
    max_list_elements: int = DEFAULT_MAX_LIST_ELEMENTS
    max_batch_elements: int = 8_192
    batches_in_flight: int = 8
    epoch_days: int = 30
    generation_max_age_hours: int = 24
    audience_days: int = DEFAULT_KEEP_DAYS
    evaluation_threads: int = 0
    silence_seconds: int = 300
    least_rate: int = 1_000


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a running server shows of itself.

    Attributes:
        metrics_listen: where Prometheus may ask for metrics; None if nowhere.
        log_format: one of `LOG_FORMATS`.
    """

    metrics_listen: ListenAddress | None = None
    log_format: str = LOG_FORMATS[0]


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
        budget: what noisy counts may cost.
        telemetry: what a running server shows of itself.
    """

    platform_id: str
    profile: Profile
    region: str | None
    root_key: KeyReference
    listen: ListenAddress
    limits: Limits
    budget: BudgetLimits = field(default_factory=BudgetLimits)
    telemetry: Telemetry = Telemetry()


def config_text(platform_id: str, profile: Profile, region: str | None) -> str:
    """The commented `platform.toml` of a new platform; `load_config` reads it back."""
    limits = Limits()
    batch, in_flight = _bounds("max_batch_elements"), _bounds("batches_in_flight")
    epoch, age = _bounds("epoch_days"), _bounds("generation_max_age_hours")
    silence, rate = _bounds("silence_seconds"), _bounds("least_rate")
    region_line = f'region = "{region}"' if region is not None else '# region = "US"'
    return f"""\
# The settings of this purposematch platform. After a change, restart `purposematch-platform serve`.
# `purposematch-platform config check` says what is wrong, `config show` what is in force. An environment
# variable overrides a setting, such as PURPOSEMATCH_LIMITS_EPOCH_DAYS or PURPOSEMATCH_PLATFORM_LISTEN.

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

# How long whom a session matched stays in an audience, in days, {_bounds("audience_days")}.
audience_days = {limits.audience_days}

# Threads that evaluate; 0 stands for the number of cores.
evaluation_threads = {limits.evaluation_threads}

# Seconds that a client may say nothing while it owes a message, {silence}; then its stream is ended and
# what it held is freed. The session stays for an hour, and the client goes on with it. A batch must fit in.
silence_seconds = {limits.silence_seconds}

# Identifiers a second that every advertiser being served can count on, {rate}. Advertisers
# share the processor equally; one more is told to come back where this server is seen to be too slow for it.
least_rate = {limits.least_rate}

{budget_text()}
[telemetry]
# Where Prometheus asks for metrics, as http://HOST:PORT/metrics. There is neither TLS nor a password, and the
# page shows how many are enrolled and matched, so keep it on this machine or in a network of your own.
# metrics_listen = "127.0.0.1:9464"

# How `serve` writes its log on stderr: "text", or "json" for programs, an object a line with session ids.
log_format = "{Telemetry().log_format}"
"""


def given_settings(path: Path, environ: Mapping[str, str]) -> dict[str, Given]:
    """Every setting by its name, with where it comes from; see `load_config`."""
    return read_settings(path, environ, SETTINGS)


def load_config(path: Path, environ: Mapping[str, str] | None = None) -> PlatformConfig:
    """Reads `platform.toml`.

    Args:
        path: of the file.
        environ: the environment variables, which override it; none if None.

    Raises:
        ConfigurationError: the file is missing, is not TOML, or a setting is missing, unknown or wrong.
    """
    values = {name: given.value for name, given in given_settings(path, environ or {}).items()}
    limits, budget, telemetry = (
        {name.removeprefix(section): value for name, value in values.items() if name.startswith(section)}
        for section in ("limits.", f"{BUDGET_SECTION}.", "telemetry.")
    )
    if limits["min_list_elements"] > limits["max_list_elements"]:
        raise ConfigurationError(
            f"limits.min_list_elements in {path} must not be larger than limits.max_list_elements"
        )
    top = {name: value for name, value in values.items() if "." not in name}
    try:
        checked = BudgetLimits(**budget)
    except ConfigurationError as error:
        raise ConfigurationError(f"[{BUDGET_SECTION}] in {path} {error}") from None
    return PlatformConfig(**top, limits=Limits(**limits), budget=checked, telemetry=Telemetry(**telemetry))


def _bounds(name: str) -> str:
    low, high = _BOUNDS[name]
    return f"{low:,} to {high:,}"


def _integer(name: str, value: int | None) -> int:
    low, high = _BOUNDS[name]
    if value is None or not low <= value <= high:
        raise ConfigurationError(f"must be a whole number, {_bounds(name)}")
    return value


def _platform_id(text: str) -> str:
    if PLATFORM_ID.fullmatch(text) is None:
        raise ConfigurationError("must be the id that was given to init")
    return text


def _profile(text: str) -> Profile:
    return Profile(_one_of(tuple(Profile), text))


def _one_of(allowed: tuple[str, ...], text: str) -> str:
    if text not in allowed:
        raise ConfigurationError(f"must be one of {', '.join(allowed)}")
    return text


def _region(text: str) -> str | None:
    try:
        return checked_region(text)
    except InputError:
        raise ConfigurationError("must be a two-letter country code, such as US, or be left out") from None


def _root_key(text: str) -> KeyReference:
    try:
        return KeyReference.parse(text)
    except ConfigurationError:
        raise ConfigurationError("must be file:PATH or env:NAME") from None


def _address(text: str) -> ListenAddress:
    try:
        return ListenAddress.parse(text)
    except ConfigurationError:
        raise ConfigurationError("must be HOST:PORT, such as 127.0.0.1:7443 or [::1]:7443") from None


SETTINGS: Final = (
    Setting("platform_id", str, _platform_id, fixed=True),
    Setting("profile", str, _profile, fixed=True),
    Setting("region", str, _region, None),
    Setting("root_key", str, _root_key),
    Setting("listen", str, _address, ListenAddress.parse(DEFAULT_LISTEN)),
    *(Setting(f"limits.{name}", int, partial(_integer, name), getattr(Limits(), name)) for name in _BOUNDS),
    *BUDGET_SETTINGS,
    Setting("telemetry.metrics_listen", str, _address, None),
    Setting("telemetry.log_format", str, partial(_one_of, LOG_FORMATS), LOG_FORMATS[0]),
)
"""Every setting there is, in the order of the file."""
