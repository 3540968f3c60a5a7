"""The settings of a platform: what init writes, what is read back, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from purposematch.protocol.errors import ConfigurationError
from purposematch.protocol.identifiers import Profile
from purposematch.server.budget_limits import BudgetLimits
from purposematch.server.config import (
    Limits,
    ListenAddress,
    PlatformConfig,
    config_text,
    load_config,
)
from purposematch.server.keys import KeyReference
from purposematch.server.settings import MAX_CONFIG_BYTES

TEXT = config_text("example", Profile.PLAIN, "CH")


def _load(folder: Path, text: str | bytes) -> PlatformConfig:
    path = folder / "platform.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_config(path)


def test_what_init_writes_is_read_back_with_the_documented_defaults(tmp_path: Path) -> None:
    assert _load(tmp_path, TEXT) == PlatformConfig(
        platform_id="example",
        profile=Profile.PLAIN,
        region="CH",
        root_key=KeyReference("file", "keys/root.key"),
        listen=ListenAddress("127.0.0.1", 7443),
        limits=Limits(
            min_list_elements=1_000,
            max_list_elements=100_000_000,
            max_batch_elements=8_192,
            batches_in_flight=8,
            epoch_days=30,
            generation_max_age_hours=24,
            evaluation_threads=0,
        ),
        budget=BudgetLimits(
            release=250_000, entity_30_days=1_000_000, entity_365_days=4_000_000, scope_30_days=20_000_000
        ),
    )


@pytest.mark.parametrize("profile", list(Profile))
def test_every_profile_is_read_back(tmp_path: Path, profile: Profile) -> None:
    config = _load(tmp_path, config_text("example", profile, None))
    assert (config.profile, config.region) == (profile, None)


def test_a_region_is_read_in_any_case(tmp_path: Path) -> None:
    assert _load(tmp_path, TEXT.replace('"CH"', '"ch"')).region == "CH"


def test_limits_that_are_left_out_have_their_defaults(tmp_path: Path) -> None:
    shorter = TEXT[: TEXT.index("[limits]")]
    assert _load(tmp_path, shorter).limits == Limits()
    assert _load(tmp_path, shorter + "[limits]\nepoch_days = 7\n").limits == Limits(epoch_days=7)


def test_the_comments_say_where_the_root_key_belongs() -> None:
    assert "keep the key elsewhere" in TEXT
    assert all(len(line) <= 120 for line in TEXT.splitlines())


@pytest.mark.parametrize(
    ("old", "new", "key", "advice"),
    [
        ('platform_id = "example"', "", "platform_id", "is missing"),
        ('platform_id = "example"', "platform_id = 1", "platform_id", "text in quotes"),
        ('platform_id = "example"', 'platform_id = "Example"', "platform_id", "given to init"),
        ('profile = "plain-v1"', 'profile = "plain"', "profile", "plain-v1, uid2-v1"),
        ('profile = "plain-v1"', "", "profile", "is missing"),
        ('release = "0.25"', "release = 0.25", "budget.release", "text in quotes"),
        ('release = "0.25"', 'release = "0,25"', "budget.release", '"0.25", 0.001 to 10'),
        ('release = "0.25"', 'release = "0.0009"', "budget.release", "0.001 to 10"),
        ('release = "0.25"', 'release = "10.1"', "budget.release", "0.001 to 10"),
        ('release = "0.25"', 'release = "2"', "[budget]", "must not fall"),
        ('scope_30_days = "20"', 'scope_30_days = "1001"', "budget.scope_30_days", "0.001 to 1000"),
        ('scope_30_days = "20"', 'scope_30_days = "0.2"', "[budget]", "nothing could be answered"),
        (
            "entity_365_days",
            "entity_3665_days",
            "budget.entity_3665_days",
            "did you mean budget.entity_365_days",
        ),
        ('region = "CH"', 'region = "XX"', "region", "two-letter country code"),
        ('region = "CH"', 'region = ""', "region", "left out"),
        ('region = "CH"', "region = true", "region", "text in quotes"),
        ('root_key = "file:keys/root.key"', "", "root_key", "is missing"),
        (
            'root_key = "file:keys/root.key"',
            'root_key = "keys/root.key"',
            "root_key",
            "file:PATH or env:NAME",
        ),
        ('listen = "127.0.0.1:7443"', 'listen = "7443"', "listen", "HOST:PORT"),
        ('listen = "127.0.0.1:7443"', 'listen = "[::1]:65536"', "listen", "HOST:PORT"),
        ("min_list_elements = 1000", "min_list_elements = 0", "limits.min_list_elements", "1 to"),
        ("min_list_elements = 1000", "min_list_elements = true", "limits.min_list_elements", "whole number"),
        ("min_list_elements = 1000", 'min_list_elements = "1"', "limits.min_list_elements", "whole number"),
        (
            "max_list_elements = 100000000",
            "max_list_elements = 999",
            "limits.min_list_elements",
            "not be larger",
        ),
        (
            "max_batch_elements = 8192",
            "max_batch_elements = 65536",
            "limits.max_batch_elements",
            "1 to 65,535",
        ),
        ("batches_in_flight = 8", "batches_in_flight = 0", "limits.batches_in_flight", "1 to 16"),
        ("epoch_days = 30", "epoch_days = 31", "limits.epoch_days", "1 to 30"),
        ("epoch_days = 30", "epoch_days = 1.5", "limits.epoch_days", "whole number"),
        (
            "generation_max_age_hours = 24",
            "generation_max_age_hours = 25",
            "limits.generation_max_age_hours",
            "1 to 24",
        ),
        ("evaluation_threads = 0", "evaluation_threads = -1", "limits.evaluation_threads", "0 to"),
        ("evaluation_threads = 0", "evaluation_treads = 0", "limits.evaluation_treads", "is not a setting"),
        ("[limits]", "polcy = 1\n[limits]", "polcy", "is not a setting"),
        ("[limits]", '"a\\nb" = 1\n[limits]', "a\\nb", "is not a setting"),
        (TEXT[TEXT.index("[limits]") :], "limits = 3", "limits", "[limits]"),
    ],
)
def test_a_wrong_setting_names_key_file_and_remedy(
    tmp_path: Path, old: str, new: str, key: str, advice: str
) -> None:
    assert old in TEXT
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, TEXT.replace(old, new))
    text = str(caught.value)
    assert text.startswith(f"{key} in {tmp_path / 'platform.toml'} ")
    assert advice in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"a = ", b"a = 1\na = 2\n", b"[[[[", b"a = " + b"[" * 20_000, b"\0"]
)
def test_a_file_that_is_not_toml_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"platform\.toml"):
        _load(tmp_path, content)


def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="longer than"):
        _load(tmp_path, TEXT.encode() + b"\n" * MAX_CONFIG_BYTES)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="purposematch-platform init"):
        load_config(tmp_path / "platform.toml")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_config(tmp_path)


def test_a_root_key_put_in_place_of_its_reference_is_not_repeated(tmp_path: Path) -> None:
    planted = "5ec7e7" * 10 + "5ec7"
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, TEXT.replace("file:keys/root.key", planted))
    assert planted not in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(TEXT)), st.text(max_size=6))
def test_an_edit_anywhere_raises_nothing_but_a_configuration_error(
    tmp_path: Path, position: int, insertion: str
) -> None:
    content = (TEXT[:position] + insertion + TEXT[position + 1 :]).encode("utf-8", "surrogatepass")
    try:
        config = _load(tmp_path, content)
    except ConfigurationError:
        return
    assert config.limits.epoch_days <= 30


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]:65535", "[::1]", 65_535),
        ("db-1.example:7443", "db-1.example", 7443),
    ],
)
def test_an_address_is_read_and_shown_alike(text: str, host: str, port: int) -> None:
    address = ListenAddress.parse(text)
    assert address == ListenAddress(host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", ":1", "host", "host:", "::1:80", "host:-1", "host:٣", "a b:1", "host:1\n"]
)
def test_an_address_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        ListenAddress.parse(text)
