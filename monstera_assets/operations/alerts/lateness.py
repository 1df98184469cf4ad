"""Detect late days, which no run can report because the run itself is missing.

A late day is reported like a failing check: first when it becomes late, then weekly, and finally
when it is complete.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime

from dagster import DagsterInstance

from monstera_assets.checks.rules import AlertLevel
from monstera_assets.operations.alerts.outcomes import OBSERVATION, FinishedRun, Outcome
from monstera_assets.operations.jobs import Due
from monstera_assets.warehouse.table_asset import asset_key
from monstera_assets.warehouse.tables import Table

_SUBJECT = "freshness check for the daily tables"
_NAMED = 5


def observation(due: Due, *, is_late: bool) -> str:
    """Return an artificial run id so that a day is reported as late once and as complete once."""
    return f"{OBSERVATION}{due.day}:{'late' if is_late else 'there'}"


def observe(
    instance: DagsterInstance,
    tables: Sequence[Table],
    due: Due,
    first_partition: date,
    now: datetime,
) -> FinishedRun | None:
    """Check whether the daily tables contain the due day.

    Returns:
        The outcome in the form of a run, or None if no day is due yet or no daily table has ever
        been materialized. An empty warehouse is not late.
    """
    daily = [table for table in tables if table.partition_column]
    days = {table: instance.get_materialized_partitions(asset_key(table.name)) for table in daily}
    if due.day < first_partition or not any(days.values()):
        return None
    late = [table for table in daily if due.day.isoformat() not in days[table]]
    return FinishedRun(
        run_id=observation(due, is_late=bool(late)),
        job="",
        days=due.day.isoformat(),
        ended_at=now.timestamp(),
        outcomes=(
            Outcome(
                subject="freshness",
                title=_SUBJECT,
                failing=bool(late),
                at=now.timestamp(),
                level=str(AlertLevel.P2),
                owners=tuple(sorted({owner for table in late or daily for owner in table.owners})),
                description=f"{due.day} is materialized by {due.deadline:%Y-%m-%d %H:%M %Z}.",
                note=_latest_day(late, [days[table] for table in late]) if late else "",
            ),
        ),
    )


def _latest_day(late: Sequence[Table], days: Sequence[Collection[str]]) -> str:
    latest = max((max(of_table) for of_table in days if of_table), default="none")
    names = ", ".join(table.name for table in late[:_NAMED])
    more = len(late) - _NAMED
    return f"the latest day in {names}{f' and {more} other tables' if more > 0 else ''} is {latest}"
