"""Reads settings from a TOML file and from the environment, strictly.

What is set is a table of `Setting`s. Both sources are checked alike: a name that is not known is an error
that says which known one is nearest, and a value of a wrong type or out of bounds says what to write instead.
A setting that was misspelt and silently ignored would be a limit that does not hold.

The variable of `limits.epoch_days` is PURPOSEMATCH_LIMITS_EPOCH_DAYS, that of `listen`, which stands in no
section, PURPOSEMATCH_PLATFORM_LISTEN. A variable overrides the file.

Not protected against: somebody who may write the file or the environment.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from purposematch.protocol.errors import ConfigurationError

__all__ = ["MAX_CONFIG_BYTES", "REQUIRED", "Given", "Setting", "read_settings"]

MAX_CONFIG_BYTES: Final = 1_048_576
"""The longest file of settings that is read, in bytes."""

REQUIRED: Final = object()
"""The default of a setting that has none."""

DEFAULT_SOURCE: Final = "default"

_PREFIX: Final = "PURPOSEMATCH_"
_NO_SECTION: Final = "platform"
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        name: as in the file, behind its section and a dot if it stands in one.
        kind: the type of its value in TOML.
        check: gives the value that the program works with, or raises ConfigurationError with what is allowed.
        default: the value that the program works with where none is given; `REQUIRED` if one must be.
        fixed: whether what is stored depends on it, so that no variable may override it.
    """

    name: str
    kind: type[str] | type[int]
    check: Callable[[Any], Any]
    default: object = REQUIRED
    fixed: bool = False

    @property
    def section(self) -> str:
        """The table that it stands in; empty for none."""
        return self.name.rpartition(".")[0]

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        section, _, name = self.name.rpartition(".")
        return f"{_PREFIX}{section or _NO_SECTION}_{name}".upper()


@dataclass(frozen=True, slots=True)
class Given:
    """The value of a setting, and where it comes from.

    Attributes:
        value: as the program works with it.
        source: `default`, the name of the file, or the name of a variable.
    """

    value: Any
    source: str


def read_settings(path: Path, environ: Mapping[str, str], known: Sequence[Setting]) -> dict[str, Given]:
    """Every known setting by its name, in the order given.

    Raises:
        ConfigurationError: the file is missing or is not TOML, or a setting is missing, unknown or wrong.
    """
    by_name = {setting.name: setting for setting in known}
    in_file = dict(_in_file(path, _parsed(path), by_name))
    overrides = dict(_in_environment(environ, known))
    given = {}
    for name, setting in by_name.items():
        if name in overrides:
            variable, text = overrides[name]
            given[name] = Given(_checked(setting, text, f"the variable {variable}", as_text=True), variable)
        elif name in in_file:
            given[name] = Given(_checked(setting, in_file[name], str(path)), path.name)
        elif setting.default is REQUIRED:
            raise _error(name, str(path), "is missing: add it, init wrote one")
        else:
            given[name] = Given(setting.default, DEFAULT_SOURCE)
    return given


def _parsed(path: Path) -> dict[str, object]:
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
        return tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8: save it as UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None


def _in_file(
    path: Path, content: Mapping[str, object], known: Mapping[str, Setting]
) -> Iterator[tuple[str, object]]:
    """The settings in the file, by names with their sections."""
    sections = {setting.section for setting in known.values()} - {""}
    flat: dict[str, object] = {}
    for name, value in content.items():
        if name not in sections:
            flat[name] = value
        elif not isinstance(value, dict):
            raise _error(name, str(path), f"is not a table: write it as [{name}]")
        else:
            flat |= {f"{name}.{inner}": each for inner, each in value.items()}
    for name, value in flat.items():
        if name not in known:
            raise _error(name, str(path), _not_a_setting(name, list(known)))
        yield name, value


def _in_environment(
    environ: Mapping[str, str], known: Sequence[Setting]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Variable and value by the name of the setting that they override."""
    by_variable = {setting.variable: setting for setting in known}
    sections = tuple(f"{_PREFIX}{each.section or _NO_SECTION}_".upper() for each in known)
    for variable in sorted(environ):
        setting = by_variable.get(variable)
        if setting is None:
            # Other variables of this program, and those of other programs, are none of ours.
            if variable.startswith(sections):
                names = [each.variable for each in known if not each.fixed]
                raise _error(variable, "the environment", _not_a_setting(variable, names))
        elif setting.fixed:
            raise _error(
                setting.name, f"the variable {variable}", "cannot be overridden: what is stored depends on it"
            )
        else:
            yield setting.name, (variable, environ[variable])


def _checked(setting: Setting, value: object, source: str, *, as_text: bool = False) -> object:
    if setting.kind is int:
        if as_text and isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        if type(value) is not int:
            # The check knows the bounds, and says them of every number.
            value = None
    elif type(value) is not str:
        raise _error(setting.name, source, "must be a text in quotes")
    try:
        return setting.check(value)
    except ConfigurationError as error:
        raise _error(setting.name, source, str(error)) from None


def _not_a_setting(name: str, names: Sequence[str]) -> str:
    nearest = get_close_matches(name, names, 1)
    if nearest:
        return f"is not a setting: did you mean {nearest[0]}?"
    return f"is not a setting: remove it or write one of {', '.join(names)}"


def _error(name: str, source: str, advice: str) -> ConfigurationError:
    # A quoted TOML key may hold a line break, and an error is one line. The value is never repeated.
    shown = name.encode("unicode_escape").decode("ascii")
    return ConfigurationError(f"{shown} in {source} {advice}")
