"""A source's range extends from its first accepted fact to its last fact or creation."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from dagster import AssetCheckSeverity

from monstera_assets.operations.source_range import source_range
from monstera_assets.settings import Settings
from monstera_assets.source.errors import SourceError
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import SEEDS
from monstera_assets_tests.integration.example_runs import Graph

WHOLE = DateWindow(date(2024, 7, 1), date(2025, 6, 30))
"""From subscription event sub_001 to event evt_040."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the seeds."""
    return Path(shutil.copytree(SEEDS, tmp_path / "source"))


def add(source: Path, name: str, *changes: Mapping[str, str]) -> None:
    """Add modified copies of an input's last row."""
    path = source / f"seed_{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writerows({**rows[-1], **change} for change in changes)


def keep(source: Path, name: str, keeps: int) -> None:
    """Keep only an input's first rows."""
    path = source / f"seed_{name}.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[: keeps + 1]), encoding="utf-8")


def found(source: Path, **settings: object) -> tuple[str, str]:
    days = source_range(Settings.model_validate({"source": source, **settings}))
    return str(days.first), str(days.last)


def test_the_seeds(source: Path) -> None:
    assert source_range(Settings(source=source)) == WHOLE


def test_creations_extend_only_the_end(source: Path) -> None:
    account = {"account_id": "acc_old", "account_created_at": "1998-02-03 10:00:00"}
    add(source, "accounts", account)
    assert found(source) == ("2024-07-01", "2025-06-30")
    add(source, "users", {"user_id": "usr_new", "user_created_at": "2025-07-02 09:00:00"})
    assert found(source) == ("2024-07-01", "2025-07-02")


def test_rejected_rows_do_not_extend_it(source: Path) -> None:
    first, last = date(2001, 1, 1), date(2025, 8, 1)
    # Before the creation of the user, of an unknown user, without a type, and before the earliest date.
    add(
        source,
        "events",
        *(
            {"event_id": f"e{n}", "timestamp": f"{first + timedelta(days=n)} 01:00:00"}
            for n in range(40)
        ),
    )
    add(
        source,
        "events",
        *(
            {
                "event_id": f"l{n}",
                "entity_id": "?",
                "timestamp": f"{last + timedelta(days=n)} 01:00:00",
            }
            for n in range(40)
        ),
    )
    add(source, "events", {"event_id": "n1", "event_type": "", "timestamp": "2025-07-09 01:00:00"})
    add(source, "events", {"event_id": "n2", "timestamp": "1970-01-01 00:00:00"})
    add(
        source,
        "subscription_events",
        {"event_id": "n3", "event_type": "?", "timestamp": "2025-07-09 01:00:00"},
    )
    assert found(source) == ("2024-07-01", "2025-06-30")


def test_rejected_entities_and_scheduled_dates_do_not_extend_it(source: Path) -> None:
    add(
        source,
        "users",
        {"user_id": "usr_x", "account_id": "?", "user_created_at": "2025-09-01 01:00:00"},
    )
    add(source, "accounts", {"account_id": "acc_x", "contract_renewal_date": "2031-01-01"})
    assert found(source) == ("2024-07-01", "2025-06-30")


def test_facts_before_the_earliest_date_do_not_extend_it(source: Path) -> None:
    # Users and accounts from before January 2025 are rejected, and so are their events. The first event
    # of the others is evt_011.
    (source / "seed_subscription_events.csv").unlink()
    assert found(source, earliest_event_date="2025-01-01")[0] == "2025-05-08"


def test_days_are_local(source: Path) -> None:
    # sub_001 is at 10:00 UTC, and evt_040 at 16:00 UTC.
    assert found(source, timezone="Pacific/Kiritimati") == ("2024-07-02", "2025-07-01")
    assert found(source, timezone="Pacific/Niue") == ("2024-06-30", "2025-06-30")


@pytest.mark.parametrize("timestamp_type", ["TIMESTAMP", "VARCHAR"])
def test_events_in_parquet_and_by_day(source: Path, timestamp_type: str) -> None:
    add(source, "events", {"event_id": "old", "timestamp": "2000-01-01 01:00:00"})
    (source / "seed_subscription_events.csv").unlink()
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE events AS SELECT * REPLACE (CAST(timestamp AS"
            f" {timestamp_type}) AS timestamp) FROM read_csv('{source}/seed_events.csv')"
        )
        (source / "seed_events.csv").unlink()
        connection.execute(f"COPY events TO '{source}/events.parquet'")
        assert found(source) == ("2024-07-03", "2025-06-30")
        (source / "events.parquet").unlink()
        connection.execute(
            "COPY (SELECT *, CAST(timestamp AS DATE) AS event_date FROM events)"
            f" TO '{source}/events' (FORMAT parquet, PARTITION_BY (event_date))"
        )
    assert found(source) == ("2024-07-03", "2025-06-30")


def test_without_facts_it_begins_with_the_first_creation(source: Path) -> None:
    (source / "seed_subscription_events.csv").unlink()
    keep(source, "events", 0)
    assert found(source) == ("2024-07-01", "2025-06-16")
    for name in ("users", "accounts"):
        keep(source, name, 0)
    with pytest.raises(SourceError, match="has no valid row with a date"):
        found(source)


@pytest.mark.slow
def test_older_entities_have_states_from_the_first_day_on(source: Path, tmp_path: Path) -> None:
    created = "1998-02-03 10:00:00"
    add(source, "accounts", {"account_id": "acc_old", "account_created_at": created})
    add(
        source,
        "users",
        {"user_id": "usr_old", "account_id": "acc_old", "user_created_at": created},
    )
    graph = Graph(source, tmp_path / "w.duckdb", tmp_path / "home", WHOLE.first)
    days = DateWindow(WHOLE.first, WHOLE.first + timedelta(days=9))
    with graph.instance:
        result = graph.run(days)
    assert result.success
    failed = [e for e in result.get_asset_check_evaluations() if not e.passed]
    assert [e for e in failed if e.severity == AssetCheckSeverity.ERROR] == []
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        users = connection.execute(
            "SELECT min(snapshot_date), count(*), min(days_since_signup), min(platform_state_since)"
            " FROM silver.silver_user_state_history WHERE user_id = 'usr_old'"
        ).fetchall()
        accounts = connection.execute(
            "SELECT min(snapshot_date), count(*) FROM silver.silver_account_state_history"
            " WHERE account_id = 'acc_old'"
        ).fetchall()
    # From February 3, 1998 to July 1, 2024 there are 9,645 days; day 31 after signup is March 6.
    assert users == [(WHOLE.first, 10, 9645, date(1998, 3, 6))]
    assert accounts == [(WHOLE.first, 10)]
