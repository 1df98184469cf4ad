"""What the tables of states have in common, whatever has the states: columns, and rules.

A scope has four forms of the same states. Its intervals are computed from the facts, once a run;
history, current state and transitions are read from them. Belongs here: what these tables share. Not
here: any rule of a state, which the lifecycle has.
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import NOT_EVALUATED, differing_rows, within
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.intervals import day_number
from monstera_assets.warehouse.tables import Column

VALID_FROM = Column("valid_from", "date", "First day of the interval.")
VALID_TO = Column(
    "valid_to", "date", "First day after the interval; null while it lasts.", nullable=True
)
TRIGGERING_EVENT_ID = Column(
    "triggering_event_id",
    "string",
    "The event that caused the transition with which the interval begins; null if it begins with none,"
    " or it was the passing of time.",
    nullable=True,
)
TRANSITION_DATE = Column("transition_date", "date", "First day of the new state.")
DAYS_IN_PREVIOUS_STATE = Column(
    "days_in_previous_state", "int64", "Days that the previous state lasted."
)


def up_to(as_of: ir.DateValue, events: ir.Table) -> ir.Table:
    """The events that a state as of a date follows from: tables of entities hold later ones too."""
    return events.filter(events.event_date <= as_of)


def state_updated_at(rows: ir.Table) -> ir.TimestampValue:
    """The end of the as-of date."""
    return rows.as_of_date.cast("timestamp") + ibis.interval(days=1)


def days_not_covered(intervals: ir.Table, keys: Sequence[str]) -> ir.Table:
    """Keys whose intervals do not cover each day up to the as-of date once, the last one open."""
    first = day_number(intervals.valid_from)
    end = day_number(intervals.valid_to).fill_null(day_number(intervals.as_of_date) + 1)
    length = end - first
    by_key = intervals.group_by(*keys).aggregate(
        days=length.sum(),
        shortest=length.min(),
        expected_days=day_number(intervals.as_of_date.max()) + 1 - first.min(),
        open_intervals=intervals.valid_to.isnull().sum(),
    )
    return by_key.filter(
        (by_key.days != by_key.expected_days) | (by_key.shortest < 1) | (by_key.open_intervals != 1)
    )


def days_not_in_history(
    history: ir.Table, starts: ir.Table, keys: Sequence[str], window: Window
) -> ir.Table:
    """Keys whose days in the window are not all from their start on, or not once.

    Args:
        history: one row a key and `snapshot_date`.
        starts: one row a key: `keys` and `start_date`, the first date with a state.
        keys: names of the key columns.
        window: the days to look at.
    """
    rows = within(history, "snapshot_date", window)
    days = rows.group_by(*keys).aggregate(
        rows=rows.count(), first_day=rows.snapshot_date.min(), last_day=rows.snapshot_date.max()
    )
    first, last = window.first, window.last
    starts = starts.filter(starts.start_date <= last)
    expected = starts.select(*keys, expected_first_day=ibis.greatest(starts.start_date, first))
    both = expected.outer_join(days, list(keys))
    complete = (
        (both.first_day == both.expected_first_day)
        & (both.last_day == last)
        & (both.rows == day_number(last) - day_number(both.expected_first_day) + 1)
    )
    return both.filter(~complete.fill_null(False))


def differences_from_latest(
    current: ir.Table, history: ir.Table, out_of_date: ir.Table
) -> ir.Table:
    """Rows that only one of current state and the latest day of history has, in shared columns.

    Not judged where that day is out of date: the current state then follows from facts that changed
    after the day was computed.

    Args:
        current: one row a key, with `as_of_date`.
        history: the history.
        out_of_date: the days of history that are out of date.
    """
    latest = history.aggregate(latest=history.snapshot_date.max()).as_scalar()
    rows = history.filter(history.snapshot_date == latest).rename(as_of_date="snapshot_date")
    shared = [name for name in current.columns if name in rows.columns]
    differing = differing_rows(current.select(*shared), rows)
    return differing.mutate(**{NOT_EVALUATED: why_not_evaluated(history, out_of_date)})


def why_not_evaluated(history: ir.Table, out_of_date: ir.Table) -> ir.StringScalar:
    """Why the latest day of history is not compared: it is out of date; null if it is not."""
    latest = history.aggregate(latest=history.snapshot_date.max()).as_scalar()
    reason = ibis.literal("the latest day of history is out of date: a day before it has changed")
    days = out_of_date.filter(out_of_date.day == latest).select(reason=reason)
    return days.aggregate(reason=days.reason.max()).as_scalar()
