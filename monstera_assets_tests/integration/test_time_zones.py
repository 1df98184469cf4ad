"""States in other time zones, over both clock changes, are those of the oracle day by day."""

from __future__ import annotations

import csv
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest

from monstera_assets.operations.runs import failures_of
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_runs import ENTITIES, EVENTS, Graph
from monstera_assets_tests.oracle.users import QualifyingDay, user_history

FIRST = datetime(2025, 2, 20, tzinfo=UTC)
CHANGES = [datetime(2025, 3, 9, 10, tzinfo=UTC), datetime(2025, 11, 2, 9, tzinfo=UTC)]
"""The times at which clocks in Los Angeles change. In Kolkata they never do."""
LAST = datetime(2025, 11, 20, tzinfo=UTC)
SILVER = (
    "silver_daily_user_activity",
    "silver_user_state_intervals",
    "silver_user_state_history",
)


def _write(source: Path) -> tuple[dict[str, datetime], list[tuple[str, datetime]]]:
    """Write users and events near midnight in both zones, and return their times in UTC."""
    numbers = random.Random(9)  # noqa: S311
    moments = [
        base
        + timedelta(days=numbers.randrange(-3, 4), hours=hour, minutes=numbers.choice([0, 29, 59]))
        for base in CHANGES
        for hour in (-5, -4, -3, -2, -1, 0, 8, 9, 21, 22)
    ]
    moments += [FIRST + (LAST - FIRST) * numbers.random() for _ in range(40)]
    signups = {f"user_{n:02}": FIRST + (CHANGES[1] - FIRST) * numbers.random() for n in range(20)}
    signups |= {"user_00": FIRST, "user_01": CHANGES[0] - timedelta(hours=2, minutes=1)}
    events = [
        (user, moment)
        for moment in moments
        for user in numbers.sample(sorted(signups), 4)
        if moment >= signups[user] + timedelta(days=1)
    ]
    source.mkdir()
    with (source / "users.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("user_id", "user_created_at"), *((u, at.isoformat()) for u, at in signups.items())]
        )
    with (source / "events.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ("entity_id", "event_type", "timestamp"),
                *((user, "report_created", at.isoformat()) for user, at in events),
            ]
        )
    return signups, events


@pytest.mark.parametrize("timezone", ["America/Los_Angeles", "Asia/Kolkata"])
def test_states_are_the_oracles(tmp_path: Path, timezone: str) -> None:
    signups, events = _write(tmp_path / "source")
    zone = ZoneInfo(timezone)

    def local(moment: datetime) -> date:
        return moment.astimezone(zone).date()

    days = DateWindow(local(FIRST), local(LAST))
    graph = Graph(
        tmp_path / "source",
        tmp_path / "warehouse.duckdb",
        tmp_path / "home",
        days.first,
        timezone=timezone,
    )
    with graph.instance:
        result = graph.run(days, only=ENTITIES + EVENTS + SILVER)
    assert failures_of(result.all_events) == []
    expected = set()
    for user, signed_up in signups.items():
        # Rows with equal content are one event.
        own = Counter(local(at) for at in {at for who, at in events if who == user})
        qualifying = [QualifyingDay(day, number) for day, number in sorted(own.items())]
        for row in user_history(user, local(signed_up), qualifying, days.last):
            expected.add(
                (
                    row.user_id,
                    row.snapshot_date,
                    row.platform_state,
                    row.platform_state_since,
                    row.qualifying_events_count,
                    row.days_since_signup,
                    row.days_since_last_qualifying_event,
                )
            )
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        found = connection.execute(
            "SELECT user_id, snapshot_date, platform_state, platform_state_since,"
            " qualifying_events_count, days_since_signup, days_since_last_qualifying_event"
            " FROM silver.silver_user_state_history"
        ).fetchall()
    assert len(found) == len(set(found))
    assert {row for row in expected if row[1] >= days.first} == set(found)
    assert len({row[2] for row in found}) >= 5
