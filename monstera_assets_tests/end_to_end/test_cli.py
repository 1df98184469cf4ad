"""Test the output, exit codes and tables of command-line processes.

A run of the whole graph is slow. Therefore, one fixture starts all processes in this module, two at a
time, and each test examines the results of one process.
"""

import csv
import os
import pty
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from dagster import DagsterInstance, build_sensor_context

from monstera_assets.cli import main
from monstera_assets.definitions import build_alerts, build_definitions
from monstera_assets.operations.alerts.alerts import build_alert_sensor
from monstera_assets.operations.runs import run_range, whole_graph
from monstera_assets.settings import Settings, variables
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import (
    MONSTERA,
    SEEDS,
    Outcome,
    copy_of,
    environment,
    held,
    in_this_process,
    monstera,
    query,
    run_monstera,
    snapshot,
)
from monstera_assets_tests.integration.alert_examples import SECRET, Service, service
from monstera_assets_tests.integration.example_runs import SeedsRun

FIRST, LAST = date(2024, 7, 1), date(2025, 6, 30)
UNKNOWN = DateWindow(FIRST, date(2025, 5, 20))
"""Days whose record is deleted from one database; the 30 days up to LAST are later."""
FUTURE = datetime.now(UTC).date() + timedelta(days=400)

LATE_EVENT = (
    "evt_late,usr_05,user,video_edited,2025-06-13 08:00:00,web_app,,video_studio,true,false,\n"
)
"""On 2025-06-13, one other user is active in the seeds; usr_05 is active on the days before."""


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Write rows as CSV with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def event(number: int, day: date, user: str = "u1") -> dict[str, object]:
    """Return a row of events.csv."""
    return {
        "event_id": f"e{number}",
        "entity_id": user,
        "entity_type": "user",
        "event_type": "video_created",
        "timestamp": f"{day} 12:00:00",
        "location": "web_app",
        "is_qualifying_event": "true",
        "is_activation_event": "true",
        "product_id": "video_studio",
    }


def small_source(folder: Path, today: date) -> Path:
    """Write one user with events before, in and after the last few days, two of which are rejected."""
    folder.mkdir(parents=True)
    shutil.copy(SEEDS / "seed_product_catalog.csv", folder / "product_catalog.csv")
    long_ago = f"{today - timedelta(days=100)} 09:00:00"
    write_csv(
        folder / "accounts.csv",
        [
            {
                "account_id": "a1",
                "account_name": "Fernhill",
                "subscription_tier": "trial",
                "total_seats": 1,
                "account_created_at": long_ago,
                "monthly_recurring_revenue": 0,
                "is_trial": "true",
            }
        ],
    )
    write_csv(
        folder / "users.csv",
        [
            {
                "user_id": "u1",
                "email": "u1@example.com",
                "account_id": "a1",
                "user_created_at": long_ago,
                "country": "US",
                "plan_type": "trial",
                "acquisition_source": "organic",
            }
        ],
    )
    days = (-50, -3, -2, -2, -3, -3)
    users = ("u1", "u1", "u1", "u1", "nobody", "nobody")
    write_csv(
        folder / "events.csv",
        [
            *(
                event(number, today + timedelta(days=offset), user)
                for number, (offset, user) in enumerate(zip(days, users, strict=True))
            ),
            event(98, FUTURE),
            event(99, FUTURE),
        ],
    )
    return folder


def on_a_terminal(folder: Path, *arguments: str, source: Path) -> Outcome:
    """Run with a pseudo-terminal as standard output, and remove control sequences from the output."""
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [MONSTERA, "run", *arguments],
        cwd=folder,
        env=environment(MONSTERA_SOURCE=str(source), TERM="xterm-256color", COLUMNS="120"),
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(terminal)
        shown = b""
        try:
            while part := os.read(controller, 65536):
                shown += part
        except OSError:  # on Linux, the other end is closed
            pass
        os.close(controller)
        _, err = process.communicate()
    out = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r\n", "\n")
    outcome = Outcome(folder, process.returncode, out, err, {})
    return replace(outcome, tables=snapshot(outcome.database))


def interrupted_run(
    folder: Path,
    *arguments: str,
    source: Path = SEEDS,
    by: signal.Signals = signal.SIGINT,
) -> Outcome:
    """Start a run, and interrupt or kill the process when the events are loaded."""
    with subprocess.Popen(
        [MONSTERA, "run", *arguments],
        cwd=folder,
        env=environment(MONSTERA_SOURCE=str(source)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        shown = ""
        while "load_events" not in shown:
            line = process.stdout.readline()
            assert line, shown
            shown += line
        process.send_signal(by)
        out, err = process.communicate()
    outcome = Outcome(folder, process.returncode, shown + out, err, {})
    return replace(outcome, tables=snapshot(outcome.database))


def run_without_raw_events(folder: Path) -> Outcome:
    """Recompute the last day in a warehouse without raw events for older days."""
    database = folder / "data" / "monstera.duckdb"
    query(database, f"DELETE FROM bronze.bronze_events WHERE event_date < '{LAST}'")
    return monstera(folder, "run", "--from", str(LAST), "--to", str(LAST))


def run_without_history(folder: Path) -> Outcome:
    """Recompute the last day in a warehouse without records for older days."""
    database = folder / "data" / "monstera.duckdb"
    for statement in (
        "UPDATE operations.materializations SET materialized_at = '2000-01-01'",
        "DELETE FROM operations.materializations WHERE table_name = 'silver_daily_user_activity'"
        f" AND partition_date <= '{UNKNOWN.last}'",
    ):
        query(database, statement)
    return monstera(folder, "run", "--from", str(LAST), "--to", str(LAST))


def runs_on_changed_source(folder: Path, source: Path) -> dict[str, Outcome]:
    """Run --changed after a change: killed, and then on a terminal."""
    shutil.copytree(SEEDS, source)
    outcomes = dict[str, Outcome]()
    with (source / "seed_events.csv").open("a", encoding="utf-8") as file:
        file.write(LATE_EVENT)
    outcomes["killed"] = interrupted_run(folder, "--changed", source=source, by=signal.SIGKILL)
    outcomes["again"] = on_a_terminal(folder, "--changed", source=source)
    return outcomes


def runs_on_held_database(folder: Path) -> tuple[Outcome, Outcome]:
    """Run `run` and `status` while another process holds the database."""
    with held(folder / "data" / "monstera.duckdb"):
        held_run, held_status = (
            run_monstera(
                folder,
                command,
                MONSTERA_SOURCE=str(SEEDS),
                MONSTERA_LOCK_TIMEOUT_SECONDS="0.2",
            )
            for command in ("run", "status")
        )
    tables = snapshot(folder / "data" / "monstera.duckdb")
    return (
        Outcome(folder, held_run.returncode, held_run.stdout, held_run.stderr, tables),
        Outcome(folder, held_status.returncode, held_status.stdout, held_status.stderr, tables),
    )


class Processes:
    """All processes in this module, of which two run at a time."""

    def __init__(
        self, folder: Path, pool: ThreadPoolExecutor, inbox: Service, seeds_run: SeedsRun
    ) -> None:
        self.inbox = inbox
        self.today = datetime.now(UTC).date()
        small = small_source(folder / "small_source", self.today)

        of_all = seeds_run.outcome
        self.first: Future[Outcome] = pool.submit(
            lambda: replace(of_all, folder=copy_of(of_all, folder / "seeds"))
        )
        self.without_events: Future[Outcome] = pool.submit(
            lambda: run_without_raw_events(copy_of(self.first.result(), folder / "without_events"))
        )
        self.without_history: Future[Outcome] = pool.submit(
            lambda: run_without_history(copy_of(self.first.result(), folder / "without_history"))
        )
        self.interrupted: Future[Outcome] = pool.submit(
            lambda: interrupted_run(copy_of(self.first.result(), folder / "interrupted"))
        )
        self.changed: Future[dict[str, Outcome]] = pool.submit(
            lambda: runs_on_changed_source(
                copy_of(self.first.result(), folder / "changed"), folder / "changed_source"
            )
        )
        self.on_held: Future[tuple[Outcome, Outcome]] = pool.submit(
            lambda: runs_on_held_database(copy_of(self.first.result(), folder / "held"))
        )
        variables = {
            "MONSTERA_START_DATE": str(self.today - timedelta(days=4)),
            "DAGSTER_HOME": str(folder / "small" / "dagster_elsewhere"),
            "MONSTERA_ALERT_URLS": f"P2+team:data-platform={inbox.url()}",
        }
        with pytest.MonkeyPatch.context() as patch:  # while the processes run
            self.small = in_this_process(
                patch, folder / "small", "run", source=small, variables=variables
            )


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory, seeds_run: SeedsRun) -> Iterator[Processes]:
    with service() as inbox, ThreadPoolExecutor(max_workers=2) as pool:
        yield Processes(tmp_path_factory.mktemp("cli"), pool, inbox, seeds_run)


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def table_lines(text: str) -> dict[str, list[str]]:
    """Return the words of each line of the summary, by table."""
    return {
        words[0]: words
        for words in map(str.split, text.splitlines())
        if words and re.fullmatch(r"(bronze|silver|gold)_\w+", words[0]) and len(words) > 2
    }


def test_run_on_the_seeds(processes: Processes) -> None:
    run = processes.first.result()
    assert (run.code, run.err) == (0, "")
    lines = lines_of(run.out)
    assert lines[0] == f"{SEEDS} into data/monstera.duckdb: {FIRST} to {LAST} (365 days)"
    assert lines[-2:] == [
        "Database: data/monstera.duckdb",
        "Dashboards: data/dashboards/current/index.html",
    ]
    assert re.fullmatch(r"Run: succeeded \([0-9a-f-]{36}\)", lines[-3])
    assert re.search(r"^Checks: \d+ passed, 0 failed$", run.out, re.MULTILINE)
    assert run.database.exists()
    assert (run.folder / "data" / "dagster_home" / "dagster.yaml").exists()


def test_headline_figures(processes: Processes) -> None:
    run = processes.first.result()
    states = query(
        run.database,
        "SELECT platform_state, count(*) FROM silver.silver_user_current_state"
        " GROUP BY platform_state ORDER BY platform_state",
    )
    assert len(states) == 8
    shown = ", ".join(f"{state} {count}" for state, count in states)
    assert f"Users on {LAST}: {shown}" in run.out
    for period in ("daily", "weekly", "monthly"):
        [(users,)] = query(
            run.database,
            f"SELECT users_active_{period} FROM gold.gold_users_active_{period}"
            f" WHERE metric_date = '{LAST}' AND segment_dimension = 'all'",
        )
        short_name = f"{period[0].upper()}AU"
        assert f"{short_name} (Users Active {period.title()}): {users}" in lines_of(run.out)
    # From seeds/README.md. On 31 May, seven accounts paid 3,120 per month. Since then, acc_04
    # has grown by 200 and acc_06 has shrunk by 410, and acc_02 was added with 90.
    for line in (
        "Users Active Stickiness Monthly: 5.6%",  # 20 user days / 30 days / 12 users
        "Users Created Daily: 0",
        "Users Activated Share Weekly: not known",  # no signups from 17 to 23 June
        "Accounts Active Monthly: 8",  # no user of acc_07 and acc_10 was active in June
        "MRR (Revenue Closing Daily): 3,000.00 USD",
        "NRR (Revenue Retained Net Monthly): 93.3%",  # 2,910 of 3,120
        "GRR (Revenue Retained Gross Monthly): 86.9%",  # 2,710 of 3,120
    ):
        assert line in lines_of(run.out)


def test_plain_lines_without_a_terminal(processes: Processes) -> None:
    run = processes.first.result()
    assert "\x1b" not in run.out
    assert "\r" not in run.out
    steps = re.findall(r"^\[ *(\d+)/(\d+)\] (\w+)(  [\d,]+ rows)?  \d+\.\d s$", run.out, re.M)
    assert [int(done) for done, *_ in steps] == list(range(1, len(steps) + 1))
    assert {int(total) for _, total, *_ in steps} == {len(steps)}
    rows = {name: count.strip() for *_, name, count in steps}
    assert rows["silver_daily_user_activity"] == "40 rows"
    assert rows["load_entities"] == "81 rows"  # 10 + 17 + 20 + 23 + 5 rows and 6 ledger entries


def test_summary_shows_the_content_of_the_tables(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = processes.first.result()
    status = in_this_process(monkeypatch, run.folder, "status", source=tmp_path / "nowhere")
    assert (status.code, status.err) == (1, "")  # the last day of the seeds is late
    shown = table_lines(status.out)
    assert shown == table_lines(run.out)
    assert {name: int(words[1].replace(",", "")) for name, words in shown.items()} == {
        name.split(".")[1]: rows for name, (rows, _) in run.tables.items()
    }
    assert shown["silver_user_state_history"][2:4] == [str(FIRST), str(LAST)]
    materialized_on = date.fromisoformat(shown["bronze_users"][2])
    begun_at = (run.folder / "data" / "dagster_home" / "dagster.yaml").stat().st_mtime
    begun_on = datetime.fromtimestamp(begun_at, UTC).date()
    assert begun_on <= materialized_on <= datetime.now(UTC).date()
    lines = lines_of(status.out)
    assert lines[0].startswith(f"Latest day: {LAST}, late (")  # the seeds ended years ago
    assert "; failing checks: none; last run: succeeded, " in lines[0]
    assert len(lines) == 2 + len(shown)  # nothing is missing and no check fails


def test_terminal_shows_a_progress_bar(processes: Processes) -> None:
    shown = processes.changed.result()["again"].out
    bars = re.findall(r"━ +(\d+)/(\d+) (\w+) ([\d,]+) rows 0:\d\d:\d\d", shown)
    [total] = {int(total) for _, total, *_ in bars}
    done = [int(done) for done, *_ in bars]
    rows = [int(rows.replace(",", "")) for *_, rows in bars]
    assert done == sorted(done)
    assert done[0] == 0
    assert total - 2 <= done[-1] <= total
    assert rows == sorted(rows)
    assert rows[-1] > 18 * 20  # a single table has one row per day and user
    assert {"load_entities", "load_events"} <= {name for *_, name, _ in bars}
    assert not re.search(r"^\[ *\d+/\d+\]", shown, re.MULTILINE)
    assert "Database: data/monstera.duckdb" in shown


def test_only_the_range_is_computed(processes: Processes) -> None:
    run = processes.without_history.result()
    assert lines_of(run.out)[0].endswith(f": {LAST} (1 day)")
    days = query(
        run.database,
        "SELECT DISTINCT partition_date FROM operations.materializations"
        " WHERE materialized_at > '2000-01-01' AND partition_date IS NOT NULL",
    )
    assert days == [(LAST,)]
    assert f"Source rows outside {LAST}, which are not loaded: 36" in run.out


def test_range_without_its_history(processes: Processes) -> None:
    run = processes.without_history.result()
    assert run.code == 1
    [line] = lines_of(run.err)
    # the first tables that require these days, and the number of others
    assert line.startswith("monstera: gold_growth_accounting, silver_account_state_intervals, ")
    assert " and 2 more" in line
    assert f"silver_daily_user_activity has no partitions for {UNKNOWN} (324 days)" in line
    assert line.endswith(f"monstera run --from {UNKNOWN.first} --to {UNKNOWN.last}")
    assert "Run: failed" in run.out


def test_failed_tables_are_unchanged(processes: Processes) -> None:
    name = "silver.silver_user_state_history"
    assert processes.without_history.result().tables[name] == processes.first.result().tables[name]


def test_failing_check_of_severity_error(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = processes.without_events.result()
    assert run.code == 1
    assert re.search(r"^Checks: \d+ passed, [1-9]\d* failed$", run.out, re.MULTILINE)
    assert "  ERROR  gold_users_active_monthly.recomputed_from_raw_events: 1 violation" in run.out
    assert "check" not in run.err  # checks are in the report, and stderr has only failed steps
    lines = lines_of(in_this_process(monkeypatch, run.folder, "status").out)
    assert "gold_users_active_monthly: failing checks: recomputed_from_raw_events" in lines
    # The published copy is still the one of the successful run.
    first = processes.first.result()
    copies = [each.folder / "data" / "published" / "monstera.duckdb" for each in (run, first)]
    assert copies[0].read_bytes() == copies[1].read_bytes()


def test_checks_after_a_failed_step(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    run = processes.without_history.result()
    lines = lines_of(in_this_process(monkeypatch, run.folder, "status").out)
    unreached = "silver_user_current_state: [1-9] checks not reached by the last run"
    assert any(re.fullmatch(unreached, line) for line in lines)


def test_a_failed_check_is_reported_once_although_the_daemon_runs(
    processes: Processes,
) -> None:
    run = processes.small
    assert run.err == ""
    assert SECRET not in run.out
    [run_id] = re.findall(r"Run: succeeded \(([0-9a-f-]+)\)", run.out)
    alerts = build_alerts(Settings(alert_urls=(processes.inbox.url(),)))
    with (
        DagsterInstance.from_config(str(run.folder / "dagster_elsewhere")) as instance,
        build_sensor_context(instance=instance) as context,
    ):
        build_alert_sensor(alerts).evaluate_tick(context)
    [alert] = processes.inbox.received
    assert alert.title == "[P2] Monstera: bronze_rejected_events.nothing_is_rejected fails"
    assert "Owner: team:data-platform\n" in alert.text
    assert "- Expected: No event row was rejected. Superseded rows are not counted.\n" in alert.text
    # The two events of a missing user.
    assert re.search(r"^unknown_user +2 +events\.csv$", alert.text, re.MULTILINE)
    assert alert.text.endswith(f" UTC: <http://127.0.0.1:3000/runs/{run_id}>")


def test_small_source_is_cut_at_yesterday(processes: Processes) -> None:
    run = processes.small
    found = re.search(
        rf"^The source has dates through {FUTURE}, but (\S+) is the last complete day\.$",
        run.out,
        re.MULTILINE,
    )
    assert found is not None
    last = date.fromisoformat(found[1])
    yesterdays = {processes.today, datetime.now(UTC).date()}
    assert last + timedelta(days=1) in yesterdays
    first = processes.today - timedelta(days=4)  # MONSTERA_START_DATE
    assert any(f": {first} to {last} (" in line for line in lines_of(run.out)[:2])
    outside = f"Source rows outside {first} to {last}, which are not loaded: 2"
    assert outside in lines_of(run.out)
    assert run.tables["bronze.bronze_loads"][0] == (last - first).days + 1


def test_rejected_rows_are_a_warning(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    run = processes.small
    assert (run.code, run.err) == (0, "")
    assert "  WARN  bronze_rejected_events.nothing_is_rejected: 1 violation" in run.out
    # The first partition, four days ago, also contains the event of 50 days ago.
    assert query(run.database, "SELECT event_date FROM bronze.bronze_events ORDER BY ALL") == [
        (processes.today + timedelta(days=offset),) for offset in (-50, -3, -2, -2)
    ]
    assert query(run.database, "SELECT rejection_reason FROM bronze.bronze_rejected_events") == [
        ("unknown_user",),
        ("unknown_user",),
    ]
    home = {"DAGSTER_HOME": str(run.folder / "dagster_elsewhere")}
    status = in_this_process(monkeypatch, run.folder, "status", variables=home)
    assert "bronze_rejected_events: failing checks: nothing_is_rejected" in lines_of(status.out)


def test_dagster_home_is_respected(processes: Processes) -> None:
    run = processes.small
    assert (run.folder / "dagster_elsewhere" / "dagster.yaml").exists()
    assert not (run.folder / "data" / "dagster_home").exists()


@pytest.mark.parametrize(
    ("arguments", "variables", "step"),
    [
        # The run does not start, because the first day is that of the first accepted event.
        ([], {}, ""),
        (
            ["--from", str(LAST), "--to", str(LAST)],
            {"MONSTERA_START_DATE": str(LAST)},
            "load_events: ",
        ),
    ],
)
def test_missing_column_is_source_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    variables: dict[str, str],
    step: str,
) -> None:
    no_type = shutil.copytree(SEEDS, tmp_path / "no_type")
    events = no_type / "seed_events.csv"
    events.write_text(events.read_text(encoding="utf-8").replace("event_type", "kind", 1))
    run = in_this_process(
        monkeypatch, tmp_path / "here", "run", *arguments, source=no_type, variables=variables
    )
    assert run.code == 2
    [line] = lines_of(run.err)
    assert line.startswith(
        f"monstera: {step}seed_events.csv is missing required columns: event_type."
    )
    computed = {name for name in run.tables if not name.startswith("bronze.")}
    assert computed <= {  # which read no events
        "gold.gold_metric_catalog",
        "gold.gold_revenue_by_tier",
        "gold.gold_revenue_metrics",
        "gold.gold_users_created_daily",
    }
    assert "bronze.bronze_events" not in run.tables


def test_missing_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = in_this_process(monkeypatch, tmp_path / "here", "run", source=tmp_path / "nowhere")
    assert (run.code, run.out) == (2, "")
    [line] = lines_of(run.err)
    assert line.startswith("monstera: The source folder ")
    assert "nowhere does not exist" in line


@pytest.mark.parametrize(
    ("arguments", "variables", "named"),
    [
        (
            ["run", "--from", "2024-06-30"],
            {},
            "--from 2024-06-30 has no partition. Choose a day from 2024",
        ),
        (["run", "--changed", "--to", "2025-06-30"], {}, "--changed determines the days"),
        (
            ["run", "--to", str(FUTURE)],
            {},
            f"--to {FUTURE} has no partition. Choose a day from 2024-07-01",
        ),
        (["run", "--from", "2025-01-02", "--to", "2025-01-01"], {}, "2025-01-01 is empty"),
        (["run"], {"MONSTERA_START_DATE": str(FUTURE)}, f"start_date: {FUTURE} has not ended"),
        (["run"], {"MONSTERA_THREADS": "all"}, "threads (from MONSTERA_THREADS): Input should be"),
        (["run"], {"MONSTERA_DATABASE": "silver.db"}, "silver.db: a database file cannot have"),
        (["status"], {}, "data/monstera.duckdb does not exist. Create it with"),
    ],
)
def test_user_errors_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    variables: dict[str, str],
    named: str,
) -> None:
    outcome = in_this_process(monkeypatch, tmp_path, *arguments, variables=variables)
    assert (outcome.code, outcome.out) == (2, "")
    [line] = lines_of(outcome.err)
    assert line.startswith("monstera: ")
    assert named in line
    assert not list(tmp_path.iterdir())


def test_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    incomplete = shutil.copytree(SEEDS, tmp_path / "incomplete")
    (incomplete / "seed_events.csv").unlink()
    outcome = in_this_process(monkeypatch, tmp_path / "here", "run", source=incomplete)
    assert (outcome.code, outcome.out) == (2, "")
    [line] = lines_of(outcome.err)
    assert "does not contain the input events. Add events.csv" in line


def test_invalid_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = in_this_process(monkeypatch, tmp_path, "run", "--to", "soon")
    assert outcome.code == 2
    assert "Invalid value for '--to': 'soon'" in outcome.err


def test_locked_database(processes: Processes) -> None:
    run, status = processes.on_held.result()
    assert run.code == 2
    [line] = lines_of(run.err)
    assert line.startswith(
        "monstera: data/monstera.duckdb was locked by another process for 0.2 s."
    )
    assert run.tables == processes.first.result().tables
    assert (status.code, status.err) == (1, "")  # the last day of the seeds is late
    assert table_lines(status.out) == table_lines(processes.first.result().out)


def test_database_that_is_locked_between_check_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(
        source=SEEDS,
        database=tmp_path / "monstera.duckdb",
        start_date=LAST,
        lock_timeout_seconds=0,
    )
    job = whole_graph(build_definitions(settings))
    with held(settings.database), DagsterInstance.ephemeral() as instance:
        report = run_range(job, instance, DateWindow(LAST, LAST))
    assert not report.succeeded
    assert not report.healthy
    [failure] = report.failures
    assert failure.kind == "WarehouseLockedError"
    assert str(failure).startswith(f"{settings.database} was locked by another process for 0 s.")


def test_interrupted_run(processes: Processes) -> None:
    run = processes.interrupted.result()
    assert run.code == 130
    assert run.err.startswith("monstera: Interrupted. Finished tables are kept. ")
    assert "Run:" not in run.out
    # The source is the same, so an unchanged table and a complete one are equal.
    assert run.tables == processes.first.result().tables


def test_changed_without_a_change_does_nothing(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, again = processes.first.result(), processes.changed.result()["again"]
    unchanged = copy_of(first, tmp_path / "unchanged"), shutil.copytree(SEEDS, tmp_path / "source")
    changed = again.folder, again.folder.with_name("changed_source")
    before, after = (
        in_this_process(monkeypatch, folder, "run", "--changed", source=source)
        for folder, source in (unchanged, changed)
    )
    for run in (before, after):
        assert (run.code, run.err) == (0, "")
        assert lines_of(run.out) == ["The source has not changed. All tables are up to date."]
    assert before.tables == first.tables
    assert after.tables == again.tables


def test_changed_computes_what_a_late_event_affects(processes: Processes) -> None:
    killed = lines_of(processes.changed.result()["killed"].out)
    assert killed[:2] == [
        "Event days changed: 2025-06-13",
        "To do: load events for 2025-06-13, compute 2025-06-13 to 2025-06-30 (18 days, 18 recomputed)",
    ]


def test_changed_completes_a_killed_run(processes: Processes) -> None:
    outcomes = processes.changed.result()
    assert outcomes["killed"].code == -signal.SIGKILL
    run = outcomes["again"]
    assert (run.code, run.err) == (0, "")
    assert lines_of(run.out)[:2] == [
        "Not completed by an earlier run: 2025-06-13 to 2025-06-30",
        "To do: load no events, compute 2025-06-13 to 2025-06-30 (18 days, 18 recomputed)",
    ]
    assert re.search(r"^Checks: \d+ passed, 0 failed$", run.out, re.MULTILINE)
    daily = (
        "SELECT users_active_daily FROM gold.gold_users_active_daily"
        " WHERE metric_date = '2025-06-13' AND segment_dimension = 'all'"
    )
    assert query(processes.first.result().database, daily) == [(1,)]
    assert query(run.database, daily) == [(2,)]


@pytest.mark.parametrize("command", ["", *main.commands])
def test_help_fits_one_screen(command: str) -> None:
    outcome = CliRunner().invoke(main, [*command.split(), "--help"], terminal_width=80)
    assert outcome.exit_code == 0
    assert len(outcome.output.splitlines()) <= 40
    assert max(map(len, outcome.output.splitlines())) <= 88  # examples are not wrapped


def test_without_a_command_the_first_steps_and_all_commands_are_shown() -> None:
    outcome = CliRunner().invoke(main, [])
    assert outcome.exit_code == 0
    assert "monstera run --source FOLDER --database FILE" in outcome.output
    listed = re.findall(
        r"^  ([a-z][a-z-]*)  ", outcome.output.partition("Commands:")[2], re.MULTILINE
    )
    assert listed == list(main.commands)


def test_settings_lists_every_variable() -> None:
    outcome = CliRunner().invoke(main, ["settings"])
    assert outcome.exit_code == 0
    listed = {line.split()[0] for line in outcome.output.splitlines()}
    assert listed >= {"DAGSTER_HOME", *variables()}
