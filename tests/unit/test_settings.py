"""Settings from the environment: overrides that are checked like the file, and names that are refused."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from purposematch.protocol.errors import ConfigurationError
from purposematch.protocol.identifiers import Profile
from purposematch.server.config import SETTINGS, ListenAddress, config_text, given_settings, load_config
from purposematch.server.keys import KeyReference
from purposematch.server.settings import REQUIRED

TEXT = config_text("example", Profile.PLAIN, "CH")
VARIABLES = {setting.name: setting.variable for setting in SETTINGS if not setting.fixed}
OTHERS = {
    "region": ("US", "US"),
    "root_key": ("env:ROOT", KeyReference("env", "ROOT")),
    "listen": ("[::1]:0", ListenAddress("[::1]", 0)),
    "limits.min_list_elements": ("999", 999),
    "limits.max_list_elements": ("2000", 2_000),
    "limits.max_batch_elements": ("65535", 65_535),
    "limits.batches_in_flight": ("1", 1),
    "limits.epoch_days": ("7", 7),
    "limits.generation_max_age_hours": ("1", 1),
    "limits.audience_days": ("540", 540),
    "limits.evaluation_threads": ("2", 2),
    "budget.release": ("0.1", 100_000),
    "budget.entity_30_days": ("2", 2_000_000),
    "budget.entity_365_days": ("4.5", 4_500_000),
    "budget.scope_30_days": ("19.999999", 19_999_999),
    "telemetry.metrics_listen": ("127.0.0.1:9464", ListenAddress("127.0.0.1", 9464)),
    "telemetry.log_format": ("json", "json"),
}
"""For every setting that may be overridden: a text, and the value that it stands for."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "platform.toml"
    path.write_text(TEXT)
    return path


def test_every_setting_is_tested_here() -> None:
    assert OTHERS.keys() <= VARIABLES.keys()
    # Whoever adds a limit need not list it here: whole numbers are all read alike.
    assert {name for name in VARIABLES if not name.startswith("limits.")} <= OTHERS.keys()


@pytest.mark.parametrize("name", OTHERS)
def test_a_variable_overrides_the_file_and_nothing_else(file: Path, name: str) -> None:
    text, value = OTHERS[name]
    before = given_settings(file, {})
    after = given_settings(file, {VARIABLES[name]: text, "PATH": "/bin", "PURPOSEMATCH_GROUP": "sodium"})
    assert (after[name].value, after[name].source) == (value, VARIABLES[name])
    assert before[name].value != value
    assert {each: given for each, given in after.items() if each != name} == {
        each: given for each, given in before.items() if each != name
    }


def test_the_names_of_the_variables_are_as_documented() -> None:
    assert VARIABLES["limits.epoch_days"] == "PURPOSEMATCH_LIMITS_EPOCH_DAYS"
    assert VARIABLES["listen"] == "PURPOSEMATCH_PLATFORM_LISTEN"
    assert len(set(VARIABLES.values())) == len(VARIABLES)


def test_where_a_value_comes_from_is_told(file: Path) -> None:
    shown = given_settings(file, {"PURPOSEMATCH_LIMITS_EPOCH_DAYS": "7"})
    assert shown["limits.epoch_days"].source == "PURPOSEMATCH_LIMITS_EPOCH_DAYS"
    assert shown["limits.batches_in_flight"].source == "platform.toml"
    assert shown["telemetry.metrics_listen"].source == "default"


def test_a_variable_can_give_what_the_file_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "platform.toml"
    path.write_text(TEXT.replace('root_key = "file:keys/root.key"', ""))
    with pytest.raises(ConfigurationError, match="root_key"):
        load_config(path)
    config = load_config(path, {"PURPOSEMATCH_PLATFORM_ROOT_KEY": "env:ROOT"})
    assert config.root_key == KeyReference("env", "ROOT")


@pytest.mark.parametrize(
    ("variable", "text", "advice"),
    [
        ("PURPOSEMATCH_LIMITS_EPOCH_DAYS", "31", "a whole number, 1 to 30"),
        ("PURPOSEMATCH_LIMITS_EPOCH_DAYS", "", "a whole number, 1 to 30"),
        ("PURPOSEMATCH_LIMITS_EPOCH_DAYS", "1.5", "a whole number, 1 to 30"),
        ("PURPOSEMATCH_LIMITS_EPOCH_DAYS", " 7", "a whole number, 1 to 30"),
        ("PURPOSEMATCH_LIMITS_EPOCH_DAYS", "\u0667", "a whole number, 1 to 30"),
        ("PURPOSEMATCH_LIMITS_EPOCH_DAYS", "9" * 5_000, "a whole number, 1 to 30"),
        ("PURPOSEMATCH_LIMITS_MIN_LIST_ELEMENTS", "100000001", "must not be larger"),
        ("PURPOSEMATCH_PLATFORM_LISTEN", "7443", "HOST:PORT"),
        ("PURPOSEMATCH_PLATFORM_REGION", "", "two-letter"),
        ("PURPOSEMATCH_PLATFORM_ROOT_KEY", "5ec7e7" * 10 + "5ec7", "file:PATH or env:NAME"),
        ("PURPOSEMATCH_TELEMETRY_LOG_FORMAT", "xml", "must be one of text, json"),
        ("PURPOSEMATCH_TELEMETRY_METRICS_LISTEN", "9464", "HOST:PORT"),
        ("PURPOSEMATCH_PLATFORM_PROFILE", "meta-v1", "cannot be overridden"),
        ("PURPOSEMATCH_PLATFORM_PLATFORM_ID", "other", "cannot be overridden"),
        ("PURPOSEMATCH_LIMITS_EPOCH_DAY", "7", "did you mean PURPOSEMATCH_LIMITS_EPOCH_DAYS?"),
        ("PURPOSEMATCH_LIMITS_", "7", "is not a setting"),
        ("PURPOSEMATCH_PLATFORM_LISTENING", "7", "did you mean PURPOSEMATCH_PLATFORM_LISTEN?"),
        ("PURPOSEMATCH_TELEMETRY_QQQQQQQQQQQQQQQQ", "1", "is not a setting"),
    ],
)
def test_a_wrong_variable_is_refused_by_name_and_its_value_is_not_repeated(
    file: Path, variable: str, text: str, advice: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_config(file, {variable: text})
    assert advice in str(caught.value)
    assert variable in str(caught.value) or "min_list_elements" in str(caught.value)
    assert len(text) < 5 or text not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "nearest"),
    [
        ("[limits]\nepoch_day = 1", "limits.epoch_days"),
        ("[limits]\nepochdays = 1", "limits.epoch_days"),
        ('[telemetry]\nmetrics_lissten = "127.0.0.1:1"', "telemetry.metrics_listen"),
    ],
)
def test_an_unknown_name_in_the_file_is_answered_with_the_nearest_known_one(
    tmp_path: Path, line: str, nearest: str
) -> None:
    path = tmp_path / "platform.toml"
    path.write_text(TEXT[: TEXT.index("[limits]")] + line)
    with pytest.raises(ConfigurationError, match=f"did you mean {nearest}\\?"):
        load_config(path)


def test_what_has_no_default_is_in_the_file_that_init_writes(file: Path) -> None:
    shown = given_settings(file, {})
    for setting in SETTINGS:
        assert setting.default is not REQUIRED or shown[setting.name].source == "platform.toml"
        # Every setting is in the file or in a comment that shows it, under its own section.
        before, heading, rest = TEXT.partition(f"[{setting.section}]\n" if setting.section else "\n")
        own = (rest if heading else before).partition("\n[")[0]
        assert f"\n{setting.name.rpartition('.')[2]} = " in own.replace("\n# ", "\n")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(VARIABLES.values())), st.text(max_size=12))
def test_any_text_in_a_variable_is_read_or_refused(file: Path, variable: str, text: str) -> None:
    try:
        config = load_config(file, {variable: text})
    except ConfigurationError:
        return
    assert 1 <= config.limits.epoch_days <= 30
