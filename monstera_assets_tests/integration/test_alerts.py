"""Test alerts from real runs with a real event log, which a local service receives."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import dagster as dg
import pytest

from monstera_assets.operations.alerts.sensors import OF_LATENESS, OF_SUCCEEDED, UNSENT
from monstera_assets.operations.alerts.state import FILE
from monstera_assets.operations.jobs import Due
from monstera_assets.settings import Settings, SettingsError
from monstera_assets_tests.integration.alert_examples import SECRET, House, Service, service
from monstera_assets_tests.integration.example_assets import day, process
from monstera_assets_tests.integration.example_runs import batched_instance
from monstera_assets_tests.postgres import postgres_instance, postgres_server

TWICE = (("n1", "First"), ("n1", "Again"))


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
    """The example graph on one of Dagster's storages, with its sensors started and one URL."""
    home = tmp_path / "home"
    if request.param == "postgres":
        made = postgres_instance(request.getfixturevalue("postgres"), home)
    else:
        made = batched_instance(home)
    with made as instance:
        built = House(tmp_path, instance, [receiver.url()])
        assert built.tick() == ""  # the first tick only stores the position in the log
        yield built


def test_a_failing_non_blocking_check_of_a_successful_run_is_reported(
    house: House, receiver: Service
) -> None:
    run_id = house.run(note="odd")
    assert house.instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.SUCCESS  # type: ignore[union-attr]
    assert house.tick() == ""
    [message] = receiver.received
    assert message.title == "[P2] Monstera: silver_facts.no_remarks fails"
    assert message.kind == "warning"
    head, rows, end = message.text.split("\n\n", 3)[1:]
    first, *others = head.split("\n")
    assert first.startswith("- `silver_facts.no_remarks` has been failing since ")
    assert others == [
        "  Owner: team:facts",
        "  Expected: No fact has a remark.",
        "  Violations: 1, expected 0",
    ]
    assert rows == "```\nfact_id          note\nfact 2025-01-01  odd\n```"
    assert end.startswith("Run of `__ASSET_JOB` for 2025-01-01, ended ")
    assert end.endswith(f" UTC: <http://127.0.0.1:3000/runs/{run_id}>")


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
            "**P0**",
            "`silver_names.key_is_unique`",
            "Expected: No two rows have the same key.",
            "n1       2",
            "**P1**",
            "`silver_facts.amounts_are_small`",
            "**P2**",
            "`silver_facts.no_remarks`",
        )
    ]
    assert places == sorted(places)
    assert "step" not in message.text  # it failed only because the check failed


def test_a_continuing_failure_is_reported_weekly_and_a_recovery_once(
    house: House, receiver: Service
) -> None:
    first_run = house.run(day(1), note="odd")
    house.tick()
    for later in (1, 6):
        house.days_later = later
        house.run(day(1 + later), note="odd")
        house.tick()
        assert len(receiver.received) == 1, later
    for later, note in ((7, "odd"), (8, "odd"), (9, None), (10, None)):
        house.days_later = later
        house.run(day(1 + later), note=note)
        house.tick()
    assert receiver.titles() == [
        "[P2] Monstera: silver_facts.no_remarks fails",
        "[P2] Monstera: silver_facts.no_remarks fails",
        "[P2 recovered] Monstera: silver_facts.no_remarks recovered",
    ]
    first, reminder, recovery = (message.text for message in receiver.received)
    since = first.split("has been failing since ")[1].split("\n")[0]
    link = f"[run {first_run[:8]}](http://127.0.0.1:3000/runs/{first_run})"
    assert f"still fails after first failing at {since} ({link}, for 2025-01-01)\n" in reminder
    assert (
        "- `silver_facts.no_remarks` passes again for 2025-01-10 after first failing at"
        f" {since} ({link}, for 2025-01-01)\n"
    ) in recovery
    assert receiver.received[2].kind == "success"


def test_a_failing_step_is_reported_with_its_reason(house: House, receiver: Service) -> None:
    house.run(error="the disk is full")
    house.tick()
    house.next_day()
    house.run(error="the disk is full")
    house.tick()
    house.run()
    house.tick()
    assert receiver.titles() == [
        "[P0] Monstera: step silver_facts fails",
        "[P0 recovered] Monstera: step silver_facts recovered",
    ]
    text = receiver.received[0].text
    assert "- `step silver_facts` has been failing since" in text
    assert "  Owner: team:facts\n" in text
    assert "  Observed: `RuntimeError: the disk is full`\n" in text


def test_a_run_that_fails_before_any_step_is_reported(house: House, receiver: Service) -> None:
    house.lose_a_run()
    house.tick()
    assert receiver.titles() == ["[P0] Monstera: run of lost fails"]
    assert "Observed: `The worker was lost.`" in receiver.received[0].text


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


def test_a_failure_without_owner_is_sent_to_every_url(house: House, receiver: Service) -> None:
    house.urls = [f"P0+team:names={receiver.url()}"]
    house.lose_a_run()
    house.tick()
    assert receiver.titles() == ["[P0] Monstera: run of lost fails"]


def test_a_service_that_is_down_gets_everything_in_order_when_it_is_back(
    house: House, receiver: Service
) -> None:
    with service() as other:
        house.urls = [receiver.url("down"), other.url("up")]
        receiver.status = 503
        house.run(note="odd")
        said = house.tick(OF_SUCCEEDED)
        assert "alert URL 1 (JSON) refused a message. The next attempt is in 60 s." in said
        house.run()
        house.tick(OF_SUCCEEDED)
        assert other.titles("up") == TWO
        assert receiver.refused == 1  # the next attempt is not due for either message
        house.seconds_later += 60
        assert "next attempt is in 120 s" in house.tick(UNSENT)
        assert receiver.refused == 2
        receiver.status = 200
        house.tick(UNSENT)
        assert receiver.received == []
        house.seconds_later += 120
        house.tick(UNSENT)
        house.tick(UNSENT)
        assert receiver.titles("down") == TWO
        assert other.titles("up") == TWO


TWO = [
    "[P2] Monstera: silver_facts.no_remarks fails",
    "[P2 recovered] Monstera: silver_facts.no_remarks recovered",
]


def test_a_refused_connection_is_a_service_that_is_down(house: House, receiver: Service) -> None:
    with service() as gone:
        url = gone.url("gone")
    house.urls = [url, receiver.url()]
    house.run(note="odd")
    assert "alert URL 1 (JSON) refused a message" in house.tick(OF_SUCCEEDED)
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


def test_an_added_url_gets_no_delivered_messages(house: House, receiver: Service) -> None:
    house.run(note="odd")
    house.tick()
    house.urls = [*house.urls, receiver.url("late")]
    house.tick()
    assert receiver.titles("late") == []
    house.run()
    house.tick()
    assert receiver.titles("late") == TWO[1:]


def test_the_command_line_and_the_daemon_report_a_run_once(house: House, receiver: Service) -> None:
    run_id = house.run(note="odd")
    assert house.command_line(run_id) == []
    house.tick()
    assert house.command_line(run_id) == []
    house.tick()
    assert receiver.titles() == TWO[:1]


def test_without_urls_a_run_is_logged_and_sent_later(house: House, receiver: Service) -> None:
    house.urls = []
    house.run(note="odd")
    said = house.tick()
    assert said.startswith("[P2] Monstera: silver_facts.no_remarks fails\n\n**P2**\n\n- `silver_")
    assert house.tick() == ""
    assert receiver.received == []
    house.urls = [receiver.url()]
    house.tick()
    assert receiver.titles() == TWO[:1]


def test_a_run_whose_process_ended_before_its_alerts_is_found(
    house: House, receiver: Service
) -> None:
    house.run(note="odd")
    house.tick(UNSENT)
    assert receiver.titles() == TWO[:1]
    house.tick()
    assert len(receiver.received) == 1


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
    assert line.startswith("  Observed: `RuntimeError: row '(e-mail)', <b>bad</b> zzz")
    assert line.endswith("z…`")
    assert len(line) == len("  Observed: ``") + 500


def test_urls_are_in_no_log_and_no_file(
    house: House, receiver: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.status = 500
    house.run(note="odd")
    said = house.tick()
    assert "refused a message" in said
    receiver.status = 200
    house.seconds_later += 60
    said += house.tick()
    assert receiver.titles() == TWO[:1]
    assert SECRET not in said
    assert SECRET not in caplog.text
    assert SECRET not in repr(house.settings) + str(house.settings) + repr(house.alerts.__dict__)
    files = [path for path in house.folder.rglob("*") if path.is_file()]
    assert any(path.name == FILE for path in files)
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


def test_a_state_that_cannot_be_written_loses_no_run(house: House, receiver: Service) -> None:
    path = Path(house.instance.root_directory) / FILE
    kept = path.with_suffix(".kept")
    shutil.copy(path, kept)
    path.write_bytes(b"no database" * 100)
    run_id = house.run(note="odd")
    [said] = house.command_line(run_id)
    assert said.startswith(f"The alert file {path} cannot be used: file is not a database.")
    assert "move the file elsewhere" in said
    assert f"The alert file {path} cannot be used" in house.tick(OF_SUCCEEDED)
    kept.replace(path)
    house.tick()
    assert receiver.titles() == TWO[:1]


def check_lateness(house: House, when: datetime) -> None:
    house.built_at = when.timestamp()
    assert house.tick(OF_LATENESS) == ""


def test_a_late_day_is_reported_once_and_once_when_complete(
    house: House, receiver: Service
) -> None:
    """The daily run starts at 5:00. Two hours later, yesterday is late (framework, section 9)."""
    check_lateness(house, datetime(2025, 1, 2, 12, tzinfo=UTC))
    assert receiver.received == []  # an empty warehouse is not late
    names = [("n1", "one")]
    house.run(day(1), names=names)
    check_lateness(house, datetime(2025, 1, 3, 6, 59, tzinfo=UTC))
    assert receiver.received == []
    for later in (datetime(2025, 1, 3, 7, tzinfo=UTC), datetime(2025, 1, 4, 9, tzinfo=UTC)):
        check_lateness(house, later)
        check_lateness(house, later + timedelta(hours=1))
    [message] = receiver.received
    assert message.title == "[P2] Monstera: freshness check for the daily tables fails"
    assert "  Owner: team:facts\n" in message.text
    assert "  Expected: 2025-01-02 is materialized by 2025-01-03 07:00 UTC.\n" in message.text
    assert "  Observed: `the latest day in silver_facts is 2025-01-01`" in message.text
    assert message.text.endswith("Checked 2025-01-03 07:00 UTC: <http://127.0.0.1:3000/assets>")
    for number in (2, 3):
        house.run(day(number), names=names)
    check_lateness(house, datetime(2025, 1, 4, 10, 5, tzinfo=UTC))
    check_lateness(house, datetime(2025, 1, 4, 10, 10, tzinfo=UTC))
    _, recovered = receiver.received
    assert recovered.title == (
        "[P2 recovered] Monstera: freshness check for the daily tables recovered"
    )
    assert (
        "passes again for 2025-01-03 after first failing at 2025-01-03 07:00 UTC (for 2025-01-02)"
        in recovered.text
    )


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


SENDING = """
import sys
from monstera_assets_tests.integration.alert_examples import House
from pathlib import Path
import dagster as dg
folder, url, run_id = sys.argv[1:]
with dg.DagsterInstance.from_config(folder + "/home") as instance:
    house = House(Path(folder), instance, [url])
    alerts = house.alerts
    print("ready", flush=True)
    sys.stdin.readline()
    print(alerts.after_run(instance, run_id), flush=True)
"""


def test_two_concurrent_processes_send_the_message_of_a_run_once(
    house: House, receiver: Service
) -> None:
    run_id = house.run(note="odd")
    arguments = (SENDING, house.folder, receiver.url(), run_id)
    with process(*arguments) as one, process(*arguments) as other:
        for child in (one, other):
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in (one, other):
            assert child.stdout is not None
            assert child.stdout.readline() == "[]\n"
    house.tick()
    assert receiver.titles() == TWO[:1]
