"""Test the sources of settings, their precedence and error messages."""

import os
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import BaseModel

from monstera_assets.lifecycle.policy import (
    AlertPolicy,
    AnomalyPolicy,
    ChurnPolicy,
    LifecyclePolicy,
    RecommendationPolicy,
    SegmentPolicy,
)
from monstera_assets.settings import (
    ENVIRONMENT_PREFIX,
    RENAMED_SETTINGS,
    SETTINGS_FILE,
    Settings,
    SettingsError,
    load_settings,
    variables,
)
from monstera_assets.warehouse.connection import DEFAULT_LOCK_TIMEOUT_SECONDS


@pytest.fixture(autouse=True)
def _nothing_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(name)


def message(**flags: object) -> str:
    """Return the error message of loading the settings."""
    with pytest.raises(SettingsError) as raised:
        load_settings(**flags)
    text = str(raised.value)
    assert "\n" not in text
    return text


def write(text: str) -> None:
    Path(SETTINGS_FILE).write_text(text, encoding="utf-8")


def test_defaults() -> None:
    settings = load_settings()
    assert settings.source == Path("seeds")
    assert settings.database == Path("data/monstera.duckdb")
    assert settings.start_date is None
    assert settings.earliest_event_date == date(1990, 1, 1)
    assert settings.lock_timeout_seconds == DEFAULT_LOCK_TIMEOUT_SECONDS
    assert settings.policy == LifecyclePolicy()


class Given(NamedTuple):
    """The values of `source` in the three places, and the one that takes effect."""

    flag: str | None
    variable: str | None
    in_file: str | None
    wins: str


@pytest.mark.parametrize(
    "given",
    [
        Given("flag", "variable", "file", "flag"),
        Given("flag", None, "file", "flag"),
        Given(None, "variable", "file", "variable"),
        Given(None, None, "file", "file"),
        Given(None, None, None, "seeds"),
    ],
)
def test_flag_before_environment_before_file(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    if given.variable:
        monkeypatch.setenv("MONSTERA_SOURCE", given.variable)
    if given.in_file:
        write(f'source = "{given.in_file}"')
    assert load_settings(source=given.flag).source == Path(given.wins)


def test_types_from_file_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    write('start_date = 2025-06-01\nthreads = 3\nmemory_limit = "1.5GiB"\ntemp_directory = "spill"')
    monkeypatch.setenv("MONSTERA_EARLIEST_EVENT_DATE", "2001-02-03")
    monkeypatch.setenv("MONSTERA_LOCK_TIMEOUT_SECONDS", "0.5")
    settings = load_settings()
    assert settings.start_date == date(2025, 6, 1)
    assert settings.threads == 3
    assert settings.memory_limit == "1.5GiB"
    assert settings.temp_directory == Path("spill")
    assert settings.earliest_event_date == date(2001, 2, 3)
    assert settings.lock_timeout_seconds == 0.5


def test_policy_from_file() -> None:
    write("[policy]\nactive_days = 45")
    assert load_settings().policy == LifecyclePolicy(active_days=45)


def test_policy_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONSTERA_POLICY__ACTIVE_DAYS", "45")
    assert load_settings().policy == LifecyclePolicy(active_days=45)


@pytest.mark.parametrize("origin", ["file", "environment"])
def test_exchange_rates(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if origin == "file":
        write('[policy]\nreporting_currency = "CHF"\nexchange_rates = {EUR = 0.94, DKK = "0.126"}')
    else:
        monkeypatch.setenv("MONSTERA_POLICY__REPORTING_CURRENCY", "CHF")
        monkeypatch.setenv("MONSTERA_POLICY__EXCHANGE_RATES", '{"EUR": 0.94, "DKK": "0.126"}')
    policy = load_settings().policy
    assert policy.reporting_currency == "CHF"
    # The order in which they are given does not matter, so that the recorded setting is the same.
    assert policy.exchange_rates == (("DKK", Decimal("0.126")), ("EUR", Decimal("0.94")))


@pytest.mark.parametrize("rates", [{"eur": 1}, {"EUR": 0}, {"EUR": "much"}, {"EUR": 1e-9}])
def test_exchange_rates_are_positive_numbers_by_code(rates: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exchange_rates"):
        LifecyclePolicy.model_validate({"exchange_rates": rates})


def test_policy_from_both(monkeypatch: pytest.MonkeyPatch) -> None:
    write("[policy]\nactive_days = 14\ndormant_days = 28")
    monkeypatch.setenv("MONSTERA_POLICY__ACTIVE_DAYS", "21")
    assert load_settings().policy == LifecyclePolicy(active_days=21, dormant_days=28)


def test_thresholds_of_segments_from_file_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    write('[policy.segments]\npower_min_events = 30\ninvitation_sources = ["referral"]')
    monkeypatch.setenv("MONSTERA_POLICY__SEGMENTS__REGULAR_MIN_EVENTS", "6")
    monkeypatch.setenv(
        "MONSTERA_POLICY__SEGMENTS__COLLABORATION_EVENT_TYPES", '["member_invited", "file_sent"]'
    )
    assert load_settings().policy.segments == SegmentPolicy(
        power_min_events=30,
        invitation_sources=("referral",),
        regular_min_events=6,
        collaboration_event_types=("member_invited", "file_sent"),
    )


def test_thresholds_of_segments_must_be_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONSTERA_POLICY__SEGMENTS__REGULAR_MIN_EVENTS", "21")
    assert "regular_min_events (21) must not exceed power_min_events (20)" in message()


def test_every_field_has_a_variable_that_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    groups: dict[str, type[BaseModel]] = {
        "segments": SegmentPolicy,
        "alerts": AlertPolicy,
        "anomalies": AnomalyPolicy,
        "churn": ChurnPolicy,
        "recommendations": RecommendationPolicy,
    }
    fields = {
        *(set(Settings.model_fields) - {"policy"}),
        *(f"policy__{name}" for name in set(LifecyclePolicy.model_fields) - set(groups)),
        *(
            f"policy__{group}__{name}"
            for group, model in groups.items()
            for name in model.model_fields
        ),
    }
    assert set(variables()) == {f"MONSTERA_{name.upper()}" for name in fields}
    monkeypatch.setenv("MONSTERA_EXAMPLES_FACTOR", "2")  # only used by tests
    load_settings()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "MONSTERA_THREADS",
            "many",
            "threads (from MONSTERA_THREADS): Input should be a valid int",
        ),
        ("monstera_threads", "0", "threads (from monstera_threads): Input should be greater than"),
        ("MONSTERA_START_DATE", "June", "start_date (from MONSTERA_START_DATE): Input should be"),
        ("MONSTERA_MEMORY_LIMIT", "4 cats", "memory_limit (from MONSTERA_MEMORY_LIMIT): String"),
        ("MONSTERA_LOCK_TIMEOUT_SECONDS", "-1", "lock_timeout_seconds (from MONSTERA_LOCK_TIMEOUT"),
        (
            "MONSTERA_POLICY__ACTIVE_DAYS",
            "often",
            "policy.active_days (from MONSTERA_POLICY__ACTIVE_DAYS): Input should be a valid int",
        ),
    ],
)
def test_wrong_value_in_the_environment(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    text = message()
    assert text.startswith(f"Invalid setting: {expected}")
    assert text.endswith(f"(given: '{value}')")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("threads = 'all'", "threads (from monstera.toml): Input should be a valid integer"),
        ("memory_limit = '4 cats'", "memory_limit (from monstera.toml): String should match"),
        ("memory_limit = 4", "memory_limit (from monstera.toml): Input should be a valid string"),
        ("policy = 30", "policy (from monstera.toml): Input should be a valid dictionary"),
        (
            "[policy]\nactive_days = 0",
            "policy.active_days (from monstera.toml): Input should be greater than or equal to 1",
        ),
        (
            "[[import]]\nkind = 'mystery'",
            "import.0.kind (from monstera.toml): Input should be 'posthog', 'segment',",
        ),
        (
            "[[import]]\nkind = 'posthog'",
            "import.0 (from monstera.toml): path is missing. Set it to the folder",
        ),
        (
            "sauce = 'x'",
            "sauce (from monstera.toml) does not exist; did you mean source",
        ),
        (
            "[policy]\nactive_day = 4",
            "policy.active_day (from monstera.toml) does not exist; did you mean"
            " policy.active_days?",
        ),
    ],
)
def test_wrong_setting_in_the_file(text: str, expected: str) -> None:
    write(text)
    assert message().startswith(f"Invalid setting: {expected}")


def test_wrong_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONSTERA_START_DATE", "2025-01-01")
    text = message(start_date="soon")
    assert text.startswith("Invalid setting: start_date (from --start-date): ")


def test_overruled_value_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    write("threads = 'all'")
    monkeypatch.setenv("MONSTERA_THREADS", "2")
    assert load_settings().threads == 2


def test_all_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    write("threads = 'all'")
    monkeypatch.setenv("MONSTERA_START_DATE", "June")
    text = message()
    assert "threads (from monstera.toml)" in text
    assert "start_date (from MONSTERA_START_DATE)" in text


@pytest.mark.parametrize(
    ("environment", "text", "origin"),
    [
        ({"ACTIVE_DAYS": "61"}, "", "MONSTERA_POLICY__ACTIVE_DAYS"),
        ({}, "[policy]\nactive_days = 61", "monstera.toml"),
        (
            {"DORMANT_DAYS": "60"},
            "[policy]\nactive_days = 61",
            "MONSTERA_POLICY__DORMANT_DAYS and monstera.toml",
        ),
        (
            {"DORMANT_DAYS": "60", "ACTIVE_DAYS": "61"},
            "",
            "MONSTERA_POLICY__ACTIVE_DAYS and MONSTERA_POLICY__DORMANT_DAYS",
        ),
    ],
)
def test_dormant_below_active(
    environment: Mapping[str, str], text: str, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"MONSTERA_POLICY__{name}", value)
    write(text)
    assert message() == (
        f"Invalid setting: policy (from {origin}): dormant_days (60) must not be less than active_days"
        " (61)"
    )


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("MONSTERA_SORCE", "MONSTERA_SOURCE"),
        ("MONSTERA_POLICY__ACTIV_DAYS", "MONSTERA_POLICY__ACTIVE_DAYS"),
        ("MONSTERA_POLICY_ACTIVE_DAYS", "MONSTERA_POLICY__ACTIVE_DAYS"),
        ("MONSTERA_SOURCE__X", "MONSTERA_SOURCE"),
        ("monstera_treads", "MONSTERA_THREADS"),
    ],
)
def test_unknown_variable(name: str, similar: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "hunter2")
    assert message() == f"Unknown environment variable {name}. Did you mean {similar}?"


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        (
            "monstera_policy__quiet_days",
            "",
            "Environment variable monstera_policy__quiet_days is now called"
            " MONSTERA_POLICY__ACTIVE_DAYS.",
        ),
        (
            "",
            "[policy]\nquiet_days = 30",
            "Invalid setting: policy.quiet_days (from monstera.toml) is now called"
            " policy.active_days",
        ),
        (
            "",
            "folder = 'seeds'",
            "Invalid setting: folder (from monstera.toml) is now called source",
        ),
    ],
)
def test_renamed_setting_is_named_by_its_new_name(
    variable: str, text: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = {"policy.quiet_days": "policy.active_days", "folder": "source"}
    monkeypatch.setattr("monstera_assets.settings.RENAMED_SETTINGS", renamed)
    if variable:
        monkeypatch.setenv(variable, "30")
    write(text)
    assert message() == expected


def test_renamed_settings_lead_to_settings_that_there_are() -> None:
    settings = {name.removeprefix(ENVIRONMENT_PREFIX) for name in variables()}
    new = {name.replace(".", "__").upper() for name in RENAMED_SETTINGS.values()}
    old = {name.replace(".", "__").upper() for name in RENAMED_SETTINGS}
    assert new <= settings
    assert not old & settings


def test_unknown_variable_like_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONSTERA_QQ", "hunter2")
    assert message() == "Unknown environment variable MONSTERA_QQ. Rename or unset the variable."


def test_secret_in_the_wrong_place_is_not_shown() -> None:
    write("slack_token = 'hunter2'\n[policy]\npassword = 'hunter2'")
    text = message()
    assert "slack_token" in text
    assert "policy.password" in text
    assert "hunter2" not in text


def test_file_that_is_no_toml() -> None:
    write("source = 'seeds'\ndatabase = hunter2")
    text = message()
    assert text.startswith("monstera.toml cannot be read: ")
    assert "line 2" in text
    assert "hunter2" not in text


def test_file_that_is_no_text() -> None:
    Path(SETTINGS_FILE).write_bytes(b"\xff\xfe")
    assert message().startswith("monstera.toml cannot be read: ")


def test_file_that_is_a_folder() -> None:
    Path(SETTINGS_FILE).mkdir()
    assert message() == "monstera.toml cannot be read: Is a directory. Correct the file."


def test_file_that_is_a_broken_link() -> None:
    Path(SETTINGS_FILE).symlink_to("gone.toml")
    assert message() == "monstera.toml is a broken link. Remove or fix the link."


def test_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    write("threads = 1")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert message() == "monstera.toml cannot be read: Permission denied. Correct the file."
