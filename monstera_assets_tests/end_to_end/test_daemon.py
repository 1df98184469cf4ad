"""Simulate mornings with the real daemon and webserver.

The schedule starts a run with invalid data, and an alert is sent. After the source is corrected, the
sensor rebuilds the day, and the recovery is sent.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

import dagster as dg
import duckdb
import pytest

from monstera_assets.imports import landed_source
from monstera_assets.operations.jobs import DAILY, IMPORT_EXPORTS
from monstera_assets.warehouse.windows import RANGE_END_TAG, RANGE_START_TAG
from monstera_assets_tests.integration.alert_examples import Service, service

pytestmark = pytest.mark.daemon

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 600
DAYS = 4
EVENTS_PER_DAY = 40


@pytest.fixture
def receiver() -> Iterator[Service]:
    with service() as listening:
        yield listening


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_source(folder: Path, first: date) -> None:
    """One user in one account, with one product."""
    write(
        folder / "accounts.csv",
        "account_id,account_name,subscription_tier,total_seats,account_created_at,first_paid_at,"
        "contract_renewal_date,monthly_recurring_revenue,is_trial",
        f"acc,Account,trial,3,{first} 00:00:00,,,0,true",
    )
    write(
        folder / "users.csv",
        "user_id,email,account_id,user_created_at,country,plan_type,acquisition_source",
        f"u,u@example.invalid,acc,{first} 00:00:00,DE,free,organic",
    )
    write(
        folder / "product_catalog.csv",
        "product_id,product_name,product_family_id,tier,parent_product_id,is_active,created_at,"
        "product_owner,activation_event_types,qualifying_event_types,active_days,dormant_days",
        "work,Work,work,family,,true,2024-01-01,team,,,,",
        "video,Video,work,product,work,true,2024-01-01,team,video_created,video_created,,",
    )


def write_day(folder: Path, day: date, *, broken: int = 0) -> None:
    """Return the events of one day. The first event has an unknown location."""
    path = folder / "events" / f"event_date={day}" / "part.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    header = [
        *("event_id", "entity_id", "entity_type", "event_type", "timestamp", "location"),
        *("session_id", "product_id", "is_qualifying_event", "is_activation_event", "metadata"),
    ]
    whole = path.with_suffix(".tmp")
    with whole.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number in range(EVENTS_PER_DAY):
            location = "moon" if number < broken else "web_app"
            at = f"{day} 10:{number:02}:00"
            writer.writerow(
                [
                    *(f"e{day}-{number}", "u", "user", "video_created", at, location),
                    *("", "video", "true", "true", ""),
                ]
            )
    whole.rename(path)


def until(what: Callable[[], bool], name: str, processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: If the condition did not become true in time, or a process ended.
    """
    for _ in range(PATIENCE_SECONDS * 2):
        if what():
            return
        assert all(process.poll() is None for process in processes), (
            f"A process ended before {name}."
        )
        time.sleep(0.5)
    raise AssertionError(f"Timed out waiting for {name}.")


@contextmanager
def running(
    folder: Path, variables: dict[str, str], *command: str
) -> Iterator[subprocess.Popen[bytes]]:
    log = (folder / f"{command[0]}.log").open("wb")
    with (
        log,
        subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            env=variables,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_broken_day_is_reported_fixed_and_reported_as_recovered(
    tmp_path: Path, receiver: Service
) -> None:
    now = datetime.now(UTC)
    soon = now + timedelta(seconds=90)
    yesterday = soon.date() - timedelta(days=1)
    first = yesterday - timedelta(days=DAYS - 1)
    source, database = tmp_path / "source", tmp_path / "data" / "monstera.duckdb"
    write_source(source, first)
    for n in range(DAYS):
        write_day(source, first + timedelta(days=n), broken=10 if n == DAYS - 1 else 0)
    port = free_port()
    variables = {
        **os.environ,
        "MONSTERA_SOURCE": str(source),
        "MONSTERA_DATABASE": str(database),
        "MONSTERA_DAILY_RUN_AT": f"{soon:%H:%M}",
        "MONSTERA_ALERT_URLS": receiver.url(),
        "MONSTERA_UI_URL": f"http://127.0.0.1:{port}",
    }
    variables["DAGSTER_HOME"] = subprocess.run(
        [str(BIN / "monstera"), "home"], env=variables, check=True, capture_output=True, text=True
    ).stdout.strip()
    workspace = ("--workspace", str(ROOT / "workspace.yaml"))
    with (
        running(tmp_path, variables, "dagster-daemon", "run", *workspace) as daemon,
        running(
            tmp_path,
            variables,
            *("dagster-webserver", *workspace, "--host", "127.0.0.1", "--port", str(port)),
        ) as webserver,
    ):
        both = [daemon, webserver]
        until(lambda: _answers(port), "the webserver", both)
        until(lambda: bool(receiver.received), "the alert", both)
        alert = receiver.received[0]
        assert alert.title.startswith("[P1] Monstera: ")
        assert "bronze_loads.schema_is_complied_with" in alert.text
        assert "/runs/" in alert.text
        assert _accepted(database, yesterday) == EVENTS_PER_DAY - 10

        write_day(source, yesterday)
        started = subprocess.run(
            [str(BIN / "dagster"), "sensor", "start", "source_changes", *workspace],
            env=variables,
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert started.returncode == 0, started.stderr
        until(lambda: len(receiver.received) > 1, "the recovery", both)
        recovered = receiver.received[-1]
        assert "recovered" in recovered.title + recovered.text
        assert "bronze_loads.schema_is_complied_with" in recovered.text
        assert _accepted(database, yesterday) == EVENTS_PER_DAY


def test_an_export_is_imported_before_its_day_is_computed(tmp_path: Path) -> None:
    """The schedule of the real daemon imports a new file. The daily run begins with the import."""
    now = datetime.now(UTC)
    soon = now + timedelta(seconds=90)
    yesterday = soon.date() - timedelta(days=1)
    exports = tmp_path / "exports"
    exports.mkdir()
    for n in range(DAYS):
        _write_calls(exports, yesterday - timedelta(days=n), calls=3)
    latest = exports / str(yesterday)
    late = latest.rename(tmp_path / "late")
    variables = {
        **os.environ,
        "MONSTERA_IMPORTS": json.dumps([{"kind": "segment", "path": str(exports)}]),
        "MONSTERA_SOURCE": str(tmp_path / "source"),
        "MONSTERA_DATABASE": str(tmp_path / "data" / "monstera.duckdb"),
        "MONSTERA_DAILY_RUN_AT": f"{soon:%H:%M}",
    }
    subprocess.run([str(BIN / "monstera"), "import"], env=variables, check=True, cwd=tmp_path)
    home = variables["DAGSTER_HOME"] = subprocess.run(
        [str(BIN / "monstera"), "home"], env=variables, check=True, capture_output=True, text=True
    ).stdout.strip()
    late.rename(latest)
    workspace = ("--workspace", str(ROOT / "workspace.yaml"))
    with (
        running(tmp_path, variables, "dagster-daemon", "run", *workspace) as daemon,
        dg.DagsterInstance.from_config(home) as instance,
    ):

        def succeeded(job: str) -> bool:
            runs = instance.get_runs(dg.RunsFilter(job_name=job))
            assert not any(run.is_failure for run in runs), f"A run of {job} failed."
            return any(run.is_success for run in runs)

        until(lambda: succeeded(IMPORT_EXPORTS), "the import", [daemon])
        first = yesterday - timedelta(days=DAYS - 1)
        tags = {RANGE_START_TAG: str(first), RANGE_END_TAG: str(yesterday)}
        launched = subprocess.run(
            [
                *(str(BIN / "dagster"), "job", "launch", *workspace, "--job", DAILY),
                *("--tags", json.dumps(tags)),
            ],
            env=variables,
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert launched.returncode == 0, launched.stderr
        until(lambda: succeeded(DAILY), "the daily run", [daemon])

        run = instance.get_runs(dg.RunsFilter(job_name=DAILY))[-1]  # the first
        events = [record.event_log_entry.dagster_event for record in _events(instance, run.run_id)]
        made = [
            each.asset_key.path
            for each in events
            if each and each.is_step_materialization and each.asset_key
        ]
        # A table that reads no source can be first.
        before = made[: made.index(landed_source.KEY.path)]
        assert not any(path[0] == "bronze" for path in before)
        evaluated = {
            each.asset_check_evaluation_data.check_name: each.asset_check_evaluation_data.passed
            for each in events
            if each
            and each.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
            and each.asset_check_evaluation_data.asset_key == landed_source.KEY
        }
        assert {"rows_add_up", "landed_rows_are_in_the_source"} < evaluated.keys()
        assert all(evaluated.values())
    assert _accepted(tmp_path / "data" / "monstera.duckdb", yesterday) == 3


def _write_calls(folder: Path, day: date, *, calls: int) -> None:
    """Write a file of Segment's: documents that one user published in one account."""
    rows = [
        {
            "type": "track",
            "messageId": f"{day}-{number}",
            "userId": "u",
            "event": "Document Published",
            "timestamp": f"{day}T10:{number:02}:00Z",
            "context": {"groupId": "acc"},
        }
        for number in range(calls)
    ]
    write(folder / str(day), *(json.dumps(row) for row in rows))


def _events(instance: dg.DagsterInstance, run_id: str) -> Sequence[dg.EventLogRecord]:
    return instance.get_records_for_run(run_id).records


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _accepted(database: Path, day: date) -> int:
    with duckdb.connect(str(database), read_only=True) as connection:
        [(count,)] = connection.execute(
            "SELECT count(*) FROM bronze.bronze_events WHERE event_date = ?", [day]
        ).fetchall()
    return int(count)
