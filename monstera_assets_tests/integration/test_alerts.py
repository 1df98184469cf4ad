"""Test alerts from real runs with a real event log, which a local service receives."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from monstera_assets.operations.jobs import Due
from monstera_assets.settings import Settings, SettingsError
from monstera_assets_tests.helpers.postgres import postgres_instance, postgres_server
from monstera_assets_tests.integration.alert_examples import SECRET, House, Service, service
from monstera_assets_tests.integration.alert_page import BEGIN, END, PAGE, examples
from monstera_assets_tests.integration.example_assets import day
from monstera_assets_tests.integration.example_runs import batched_instance

TWICE = (("n1", "First"), ("n1", "Again"))
NAMES = (("n1", "one"),)


@pytest.fixture
def receiver() -> Iterator[Service]:
    with service() as listening:
        yield listening


@pytest.fixture(scope="module")
def postgres() -> Iterator[Path]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def house(request: pytest.FixtureRequest, tmp_path: Path, receiver: Service) -> Iterator[House]:
    """The example graph on one of Dagster's storages, with one URL."""
    home = tmp_path / "home"
    if request.param == "postgres":
        made = postgres_instance(request.getfixturevalue("postgres"), home)
    else:
        made = batched_instance(home)
    with made as instance:
        yield House(tmp_path, instance, [receiver.url()])


def test_a_failing_non_blocking_check_of_a_successful_run_is_reported(
    house: House, receiver: Service
) -> None:
    house.built_at = datetime(2025, 1, 2, 5, tzinfo=UTC).timestamp()
    run_id = house.run(note="odd")
    assert house.instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.SUCCESS  # type: ignore[union-attr]
    assert house.tick() == ""
    [message] = receiver.received
    assert message.title == "[P2] Monstera: silver_facts.no_remarks fails"
    assert message.kind == "warning"
    assert message.text == (
        "**P2: `silver_facts.no_remarks`** fails. Owner: team:facts\n\n"
        "- Since: 2025-01-02 05:00 UTC\n"
        "- Expected: No fact has a remark.\n"
        "- Observed: `1 row that breaks the rule.`\n"
        "- What to do: Find out today what has changed in the product or in the source.\n"
        "- Command: `monstera dashboard`\n\n"
        "```\nfact_id          note\nfact 2025-01-01  odd\n```\n\n"
        "Run of `__ASSET_JOB` for 2025-01-01, ended 2025-01-02 05:00 UTC:"
        f" <http://127.0.0.1:3000/runs/{run_id}>"
    )


def test_all_failures_of_a_run_are_one_message_by_level(house: House, receiver: Service) -> None:
    run_id = house.run(note="odd", amount=12, names=TWICE)
    assert house.instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]
    house.tick()
    [message] = receiver.received
    assert message.title == "[P0] Monstera: silver_names.key_is_unique and 2 others fail"
    assert message.kind == "failure"
    places = [
        message.text.index(part)
        for part in (
            "**P0: `silver_names.key_is_unique`** fails",
            "Expected: No two rows have the same key.",
            "Dependent tables were not computed.",
            "Command: `monstera run --from 2025-01-01 --to 2025-01-01`",
            "n1       2",
            "**P1: `silver_facts.amounts_are_small`** fails",
            "**P2: `silver_facts.no_remarks`** fails",
        )
    ]
    assert places == sorted(places)
    assert "step" not in message.text  # it failed only because the check failed


def test_a_continuing_failure_is_reported_weekly_and_a_recovery_once(
    house: House, receiver: Service
) -> None:
    house.built_at = datetime(2025, 1, 2, 5, tzinfo=UTC).timestamp()
    for later, note in enumerate(["odd"] * 9 + [None, None]):
        house.days_later = later
        house.run(day(1 + later), note=note)
        house.tick()
        house.tick()
    assert receiver.titles() == [
        "[P2] Monstera: silver_facts.no_remarks fails",
        "[P2] Monstera: silver_facts.no_remarks fails",
        "[P2 recovered] Monstera: silver_facts.no_remarks recovered",
    ]
    _, reminder, recovery = (message.text for message in receiver.received)
    assert reminder.startswith("**P2: `silver_facts.no_remarks`** still fails. Owner: team:facts\n")
    assert "- Since: 2025-01-02 05:00 UTC\n" in reminder
    assert " for 2025-01-08, ended " in reminder
    assert recovery.startswith(
        "**P2: `silver_facts.no_remarks`** recovered. Owner: team:facts\n\n"
        "- Since: 2025-01-02 05:00 UTC\n"
        "- Expected: No fact has a remark.\n"
        "- Observed: It passes again.\n"
        "- What to do: Nothing.\n\n"
    )
    assert " for 2025-01-10, ended " in recovery
    assert receiver.received[2].kind == "success"


def test_a_restated_past_raises_no_alert(house: House, receiver: Service) -> None:
    house.run(day(3))
    house.tick()
    house.run(day(1), note="odd")
    house.tick()
    house.run(day(4))
    house.tick()
    assert receiver.received == []
    house.run(day(5), note="odd")
    house.tick()
    assert receiver.titles() == TWO[:1]


def test_a_restated_past_resolves_no_failure(house: House, receiver: Service) -> None:
    house.run(day(3), note="odd")
    house.tick()
    house.run(day(1))
    house.tick()
    house.run(day(4), note="odd")
    house.tick()
    assert receiver.titles() == TWO[:1]


def test_a_failing_step_is_reported_with_its_reason(house: House, receiver: Service) -> None:
    for error in ("the disk is full", "the disk is full", None):
        house.run(error=error)
        house.tick()
        house.next_day()
    assert receiver.titles() == [
        "[P0] Monstera: step silver_facts fails",
        "[P0 recovered] Monstera: step silver_facts recovered",
    ]
    text = receiver.received[0].text
    assert text.startswith("**P0: `step silver_facts`** fails. Owner: team:facts\n")
    assert "- Expected: The run of `__ASSET_JOB` for 2025-01-01 succeeds.\n" in text
    assert "- Observed: `RuntimeError: the disk is full`\n" in text
    assert "- Command: `monstera run --from 2025-01-01 --to 2025-01-01`\n" in text


def test_a_run_that_fails_before_any_step_is_reported(house: House, receiver: Service) -> None:
    house.lose_a_run()
    house.tick()
    assert receiver.titles() == ["[P0] Monstera: run of lost fails"]
    assert "- Observed: `The worker was lost.`" in receiver.received[0].text


def test_owners_and_levels_decide_who_gets_what(house: House, receiver: Service) -> None:
    house.urls = [
        receiver.url("everything"),
        f"P0={receiver.url('urgent')}",
        f"team:facts={receiver.url('facts')}",
        f"P1+team:facts={receiver.url('urgent-facts')}",
        f"P0+team:names={receiver.url('both')}",
        f"team:facts={receiver.url('both')}",
    ]
    house.run(note="odd", amount=12, names=TWICE)
    house.tick()
    names = "[P0] Monstera: silver_names.key_is_unique"
    amounts = "[P1] Monstera: silver_facts.amounts_are_small"
    assert {path: receiver.titles(path) for path in PATHS} == {
        "everything": [f"{names} and 2 others fail"],
        "urgent": [f"{names} fails"],
        "facts": [f"{amounts} and 1 other fail"],
        "urgent-facts": [f"{amounts} fails"],
        "both": [f"{names} and 2 others fail"],
    }
    house.run(amount=12)
    house.tick()
    recovered = "[P2 recovered] Monstera: silver_facts.no_remarks recovered"
    assert [receiver.titles(path)[1:] for path in PATHS] == [
        [recovered],
        [],
        [recovered],
        [],
        [recovered],
    ]


PATHS = ("everything", "urgent", "facts", "urgent-facts", "both")
TWO = [
    "[P2] Monstera: silver_facts.no_remarks fails",
    "[P2 recovered] Monstera: silver_facts.no_remarks recovered",
]


def test_a_failure_without_owner_is_sent_to_every_url(house: House, receiver: Service) -> None:
    house.urls = [f"P0+team:names={receiver.url()}"]
    house.lose_a_run()
    house.tick()
    assert receiver.titles() == ["[P0] Monstera: run of lost fails"]


def test_a_service_that_is_down_gets_one_message_when_it_is_back(
    house: House, receiver: Service
) -> None:
    with service() as other:
        house.urls = [receiver.url("down"), other.url("up")]
        receiver.status = 503
        house.run(note="odd")
        assert house.tick() == "alert URL 1 (JSON) refused a message. The next look tries again."
        house.run(note="odd", amount=12)
        house.tick()
        assert len(other.titles("up")) == 2
        receiver.status = 200
        house.tick()
        house.tick()
        assert receiver.titles("down") == [
            "[P1] Monstera: silver_facts.amounts_are_small and 1 other fail"
        ]
        assert len(other.titles("up")) == 2


def test_a_refused_connection_is_a_service_that_is_down(house: House, receiver: Service) -> None:
    with service() as gone:
        url = gone.url("gone")
    house.urls = [url, receiver.url()]
    house.run(note="odd")
    assert "alert URL 1 (JSON) refused a message" in house.tick()
    assert receiver.titles() == TWO[:1]


def test_a_corrected_url_gets_what_the_wrong_one_did_not(house: House, receiver: Service) -> None:
    receiver.status = 404
    house.urls = [receiver.url("wrong")]
    house.run(note="odd")
    house.tick()
    receiver.status = 200
    house.urls = [receiver.url("right")]
    house.tick()
    house.tick()
    assert receiver.titles("right") == TWO[:1]


def test_an_added_url_gets_what_fails_and_no_earlier_recovery(
    house: House, receiver: Service
) -> None:
    house.run(note="odd", amount=12)
    house.run(amount=12)
    house.tick()
    house.urls = [*house.urls, receiver.url("added")]
    house.tick()
    assert receiver.titles("added") == ["[P1] Monstera: silver_facts.amounts_are_small fails"]


def test_without_urls_a_run_is_logged_and_sent_later(house: House, receiver: Service) -> None:
    house.urls = []
    house.run(note="odd")
    assert house.command_line() == []
    assert house.tick().startswith("[P2] Monstera: silver_facts.no_remarks fails\n\n**P2: `silver_")
    assert house.tick() == ""
    assert receiver.received == []
    house.urls = [receiver.url()]
    house.tick()
    assert receiver.titles() == TWO[:1]


def test_the_command_line_reports_only_without_a_running_daemon(
    house: House, receiver: Service
) -> None:
    house.run(note="odd")
    for age, expected in ((60, []), (180, TWO[:1])):
        house.instance.add_daemon_heartbeat(
            DaemonHeartbeat(house.clock() - age, "SENSOR", "the daemon", [])
        )
        assert house.command_line() == []
        assert receiver.titles() == expected
    house.tick()
    assert house.command_line() == []
    assert receiver.titles() == TWO[:1]


def test_a_message_is_repeated_rather_than_lost(house: House, receiver: Service) -> None:
    """A process that is killed while it sends leaves the position of the URL as it was."""
    house.run(note="odd")
    before = house.instance.run_storage.get_cursor_values({"monstera_alerts/1"})
    assert before == {}
    house.tick()
    house.instance.run_storage.set_cursor_values({"monstera_alerts/1": "{}"})
    house.tick()
    assert receiver.titles() == TWO[:1] * 2


def test_hostile_data_stays_text_and_bounded(house: House, receiver: Service) -> None:
    note = (
        "```\n# Head\n<!channel> <b>*x*</b> [a](http://evil) | \x1b[31m\u202e ann@example.com "
        + ("y" * 5000)
    )
    house.run(note=note)
    house.tick()
    text = receiver.received[0].text
    assert len(text) < 1500
    shown = [line for line in text.splitlines() if line.startswith("fact 2025")]
    assert shown == ["fact 2025-01-01  ''' # Head <!channel> <b>*x*</b> [a](ht…"]
    assert text.count("```") == 2


def test_an_error_shows_no_address_and_no_markup(house: House, receiver: Service) -> None:
    house.run(error="row `ann.bee@example.com`,\n<b>bad</b>\x07 " + "z" * 5000)
    house.tick()
    [line] = [line for line in receiver.received[0].text.splitlines() if "Observed" in line]
    assert line.startswith("- Observed: `RuntimeError: row '(e-mail)', <b>bad</b> zzz")
    assert line.endswith("z…`")
    assert len(line) == len("- Observed: ``") + 500


def test_urls_are_in_no_log_and_no_file(
    house: House, receiver: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.status = 500
    house.run(note="odd")
    said = house.tick()
    assert "refused a message" in said
    receiver.status = 200
    said += house.tick()
    assert receiver.titles() == TWO[:1]
    assert SECRET not in said
    assert SECRET not in caplog.text
    assert SECRET not in repr(house.settings) + str(house.settings) + repr(house.alerts.__dict__)
    files = [path for path in house.folder.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            f"team:nobody=json://localhost/{SECRET}",
            "Invalid setting: alert_urls: entry 2: no table is owned by team:nobody. Choose from"
            " team:facts, team:names.",
        ),
        (
            f"slack://{SECRET}",
            "Invalid setting: alert_urls: entry 2 is not a URL supported by Apprise. Run `apprise"
            " --details` to list the services.",
        ),
        (
            f"nothing://{SECRET}",
            "Invalid setting: alert_urls: entry 2 is not a URL supported by Apprise. Run `apprise"
            " --details` to list the services.",
        ),
    ],
)
def test_an_invalid_url_is_an_error_without_the_url(
    house: House, receiver: Service, url: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    house.urls = [receiver.url(), url]
    with pytest.raises(SettingsError) as raised:
        _ = house.alerts
    error: BaseException | None = raised.value
    assert str(error) == expected
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ or error.__context__
    assert SECRET not in caplog.text


def check_late(house: House, when: datetime) -> None:
    house.built_at, house.seconds_later = when.timestamp(), 0.0
    house.evaluate_freshness()
    assert house.tick() == ""
    house.seconds_later += 60
    assert house.tick() == ""


def test_late_tables_are_reported_once_and_once_when_fresh(house: House, receiver: Service) -> None:
    """The daily run starts at 5:00. Two hours later, tables are late (framework, section 9)."""
    check_late(house, datetime(2025, 1, 2, 12, tzinfo=UTC))
    assert receiver.received == []  # an empty warehouse is not late
    house.built_at, house.seconds_later = datetime(2025, 1, 2, 13, tzinfo=UTC).timestamp(), 0.0
    house.run(day(1), names=NAMES)
    check_late(house, datetime(2025, 1, 3, 6, 50, tzinfo=UTC))
    assert receiver.received == []
    for later in (datetime(2025, 1, 3, 7, 1, tzinfo=UTC), datetime(2025, 1, 4, 9, tzinfo=UTC)):
        check_late(house, later)
    [message] = receiver.received
    assert message.title == "[P2] Monstera: freshness of the tables fails"
    lines = message.text.split("\n")
    assert lines[0] == "**P2: `freshness of the tables`** fails. Owner: team:facts, team:names"
    assert lines[2:] == [
        "- Since: 2025-01-03 07:01 UTC",
        "- Expected: 2025-01-02 is materialized by 2025-01-03 07:00 UTC.",
        "- Observed: `silver_facts`, `silver_names`: last materialized 2025-01-02 13:00 UTC.",
        "- What to do: Check whether files were delivered and whether a run is waiting or has stopped."
        " Then compute the day.",
        "- Command: `monstera run --daily`",
        "",
        "Tables: <http://127.0.0.1:3000/assets>",
    ]
    check_late(house, datetime(2025, 1, 10, 9, tzinfo=UTC))
    house.run(day(9), names=NAMES)
    check_late(house, datetime(2025, 1, 10, 10, tzinfo=UTC))
    check_late(house, datetime(2025, 1, 10, 10, 5, tzinfo=UTC))
    _, reminder, recovered = receiver.received
    assert reminder.text.startswith("**P2: `freshness of the tables`** still fails.")
    assert recovered.title == "[P2 recovered] Monstera: freshness of the tables recovered"
    assert "- Since: 2025-01-03 07:01 UTC\n" in recovered.text


def test_a_failed_run_and_its_late_tables_are_one_message(house: House, receiver: Service) -> None:
    house.built_at = datetime(2025, 1, 2, 5, tzinfo=UTC).timestamp()
    house.run(day(1), names=NAMES)
    house.next_day()
    house.run(day(2), error="the disk is full")
    check_late(house, datetime(2025, 1, 3, 7, 1, tzinfo=UTC))
    assert receiver.titles() == ["[P0] Monstera: step silver_facts fails"]


@pytest.mark.parametrize(
    ("begins", "now", "day_due"),
    [
        (time(5), "2025-03-31 06:59Z", date(2025, 3, 29)),
        (time(5), "2025-03-31 07:00Z", date(2025, 3, 30)),  # summer time has begun
        (time(23, 30), "2026-01-01 01:29Z", date(2025, 12, 29)),
        (time(23, 30), "2026-01-01 01:30Z", date(2025, 12, 30)),
        (time(0), "2026-01-01 02:00Z", date(2025, 12, 31)),
    ],
)
def test_the_day_that_is_due(begins: time, now: str, day_due: date) -> None:
    assert Due.at(datetime.fromisoformat(now), Settings(daily_run_at=begins)).day == day_due


@pytest.mark.parametrize(
    ("zone", "begins", "deadline", "day_due"),
    [
        ("America/Los_Angeles", time(5), "2025-03-08 07:00 PST", date(2025, 3, 7)),
        ("America/Los_Angeles", time(5), "2025-03-09 07:00 PDT", date(2025, 3, 8)),
        # Two hours pass between the start and the deadline, although the clocks change in between.
        ("America/Los_Angeles", time(1), "2025-03-09 04:00 PDT", date(2025, 3, 8)),
        ("America/Los_Angeles", time(0, 30), "2025-11-02 01:30 PST", date(2025, 11, 1)),
        ("America/Los_Angeles", time(5), "2025-11-02 07:00 PST", date(2025, 11, 1)),
        ("Europe/Berlin", time(5), "2025-03-29 07:00 CET", date(2025, 3, 28)),
        ("Europe/Berlin", time(5), "2025-03-30 07:00 CEST", date(2025, 3, 29)),
        # The clocks skip 02:30, so the run starts at 03:30.
        ("Europe/Berlin", time(2, 30), "2025-03-30 05:30 CEST", date(2025, 3, 29)),
        ("Europe/Berlin", time(5), "2025-10-26 07:00 CET", date(2025, 10, 25)),
        ("Europe/Berlin", time(1, 30), "2025-10-26 02:30 CET", date(2025, 10, 25)),
        ("Europe/Berlin", time(23), "2025-10-26 01:00 CEST", date(2025, 10, 24)),
        ("Asia/Kolkata", time(5), "2025-06-02 07:00 IST", date(2025, 6, 1)),
    ],
)
def test_the_day_that_is_due_in_a_time_zone(
    zone: str, begins: time, deadline: str, day_due: date
) -> None:
    settings = Settings(daily_run_at=begins, timezone=zone)
    offset = {"PST": -8, "PDT": -7, "CET": 1, "CEST": 2, "IST": 5.5}[deadline.split()[-1]]
    local = datetime.strptime(deadline[:16], "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    moment = local - timedelta(hours=offset)
    due = Due.at(moment, settings)
    assert (due.day, f"{due.deadline:%Y-%m-%d %H:%M %Z}") == (day_due, deadline)
    before = Due.at(moment - timedelta(seconds=1), settings)
    assert before.day == day_due - timedelta(days=1)


def test_the_page_shows_an_alert_of_each_kind(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    shown = page.split(BEGIN)[1].split(END)[0].strip()
    assert shown == examples(tmp_path).strip(), "Run python -m " + examples.__module__
    for text in re.findall(r"^````text\n(.*?)^````$", shown, re.DOTALL | re.MULTILINE):
        for name in ("Since", "Expected", "Observed", "What to do"):
            assert f"\n- {name}: " in text, text
        assert ("\n- Command: `" in text) is ("recovered" not in text), text
