"""Define columns and rules shared by the user, product and account state tables.

Each run computes the intervals from the facts only once. The history, current and transition tables
are derived from these intervals. The rules that determine states are in `lifecycle`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.bronze.local_time import local_midnight
from monstera_assets.checks.rules import NOT_EVALUATED
from monstera_assets.lifecycle.intervals import on_each_day

VALID_FROM = ma.Column("valid_from", "date", "First day of the interval.")
VALID_TO = ma.nullable(
    "valid_to", "date", "First day after the interval, or null for the latest interval."
)
TRIGGERING_EVENT_ID = ma.nullable(
    "triggering_event_id",
    "string",
    "Event that caused the transition at the start of the interval, or null if there was no transition"
    " or if only the passage of time caused the transition.",
)
TRANSITION_DATE = ma.Column("transition_date", "date", "First day in the new state.")
DAYS_IN_PREVIOUS_STATE = ma.Column(
    "days_in_previous_state", "int64", "Number of days spent in the previous state."
)


def stored_intervals(
    table: ma.Table, intervals: ir.Table, as_of: ir.DateValue, **columns: ir.Value
) -> ir.Table:
    """Return the intervals that start on or before a date, as table rows.

    Args:
        table: the table that stores the intervals.
        intervals: an interval table from `lifecycle`, computed from facts dated through `as_of`.
        as_of: the last date that the stored intervals cover.
        columns: table columns that have different names or are day numbers in `intervals`.
    """
    today = ma.day_number(as_of)
    begun = intervals.filter(intervals.valid_from <= today)
    ended = ibis.ifelse(begun.valid_to < today, begun.valid_to + 1, None)
    return begun.mutate(
        valid_from=ma.day_date(begun.valid_from),
        valid_to=ma.day_date(ended),
        # Use a copy of `as_of`, since Ibis would otherwise rename other uses of `as_of` to the
        # column's name.
        as_of_date=ibis.coalesce(as_of),
        **columns,
    ).select(ma.column_names(table.columns))


def days_of(stored: ir.Table, window: ma.Window, *, keys: Sequence[str]) -> ir.Table:
    """Expand stored intervals through their as-of date to one row per `day`, which is a day number."""
    last_day = (ma.day_number(stored.valid_to) - 1).fill_null(ma.day_number(stored.as_of_date))
    intervals = stored.mutate(valid_from=ma.day_number(stored.valid_from), valid_to=last_day)
    return on_each_day(intervals, window.first, window.last, day_column="day", order_by=keys)


def transitions_of(stored: ir.Table, window: ma.Window, *, keys: Sequence[str]) -> ir.Table:
    """Return the stored intervals that start with a transition in a window.

    Returns:
        The intervals, with the previous interval's columns as `previous_*` and the columns that all
        transition tables share.
    """
    begun = stored.filter(stored.valid_from.between(window.first, window.last))
    ended = stored.filter(stored.valid_to.between(window.first, window.last))
    ended = ended.select(**{f"previous_{name}": ended[name] for name in ended.columns})
    moves = begun.inner_join(
        ended,
        [
            *(begun[key] == ended[f"previous_{key}"] for key in keys),
            begun.valid_from == ended.previous_valid_to,
            begun.current_state != ended.previous_current_state,
        ],
    )
    days_in_state = ma.day_number(moves.valid_from) - ma.day_number(moves.previous_state_since)
    return moves.mutate(
        from_state=moves.previous_current_state,
        to_state=moves.current_state,
        transition_date=moves.valid_from,
        days_in_previous_state=days_in_state,
    )


def up_to(as_of: ir.DateValue, events: ir.Table) -> ir.Table:
    """Return the events dated on or before `as_of`."""
    return events.filter(events.event_date <= as_of)


def current(intervals: ir.Table, timezone: str) -> ir.Table:
    """Return the intervals that contain the as-of date, with that date's end as `state_updated_at`."""
    now = intervals.filter(intervals.valid_to.isnull())
    next_day = ma.days_earlier(now.as_of_date, -1)
    return now.mutate(state_updated_at=local_midnight(next_day, timezone))


def cover_every_day(table: ma.Table) -> ma.Rule:
    """Return a rule that requires a table's intervals to have no gaps or overlaps."""
    keys = [name for name in table.key if name != VALID_FROM.name]

    def cover_every_day(intervals: ir.Table) -> ir.Table:
        """Each key's intervals cover every day from the start through the as-of date exactly once."""
        first = ma.day_number(intervals.valid_from)
        end = ma.day_number(intervals.valid_to).fill_null(ma.day_number(intervals.as_of_date) + 1)
        by_key = intervals.group_by(keys).aggregate(
            days=(end - first).sum(),
            shortest=(end - first).min(),
            expected_days=ma.day_number(intervals.as_of_date.max()) + 1 - first.min(),
            open_intervals=intervals.valid_to.isnull().sum(),
        )
        return by_key.filter(
            (by_key.days != by_key.expected_days)
            | (by_key.shortest < 1)
            | (by_key.open_intervals != 1)
        )

    return replace(ma.rule(table)(cover_every_day), reads=(table.name,))


def agrees_with_history(table: ma.Table, history: str, *, but: str | None = None) -> ma.Rule:
    """Return a rule that compares the current table with the latest day in the history.

    The comparison covers the columns that both tables have. The rule is not evaluated if the latest
    day is out of date, because the current table may include facts that changed after that day was
    computed.

    Args:
        table: the current table.
        history: the name of the history table.
        but: a state that the history does not contain.
    """

    def agrees_with_history(
        states: ir.Table, days: ir.Table, *, out_of_date: Callable[[str], ir.Table]
    ) -> ir.Table:
        if but is not None:
            states = states.filter(states.current_state != but)
        latest = days.filter(days.snapshot_date == _latest_day(days))
        latest = latest.rename(as_of_date="snapshot_date")
        shared = [name for name in states.columns if name in latest.columns]
        differing = ma.differing_rows(states.select(*shared), latest)
        return differing.mutate(**{NOT_EVALUATED: why_not_evaluated(days, out_of_date(history))})

    text = "The current states match the states on the latest day in the history"
    checked = ma.rule(table, f"{text}, except for {but}." if but else f"{text}.")(
        agrees_with_history
    )
    return replace(checked, reads=(table.name, history))


def why_not_evaluated(history: ir.Table, out_of_date: ir.Table) -> ir.StringScalar:
    """Return why the history's latest day is not compared, or null if that day is up to date."""
    reason = ibis.literal(
        "the latest day in the history is out of date because an earlier day has changed"
    )
    days = out_of_date.filter(out_of_date.day == _latest_day(history)).select(reason=reason)
    return days.aggregate(reason=days.reason.max()).as_scalar()


def _latest_day(history: ir.Table) -> ir.DateScalar:
    return history.aggregate(latest=history.snapshot_date.max()).as_scalar()


def days_not_in_history(
    history: ir.Table, starts: ir.Table, keys: Sequence[str], window: ma.Window
) -> ir.Table:
    """Return the keys that do not have exactly one row on each day in the window since their start.

    Args:
        history: one row per key and `snapshot_date`.
        starts: one row per key, with `keys` and `start_date`, the first date with a state.
        keys: the names of the key columns.
        window: the days to check.
    """
    rows = ma.within(history, "snapshot_date", window)
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
        & (both.rows == ma.day_number(last) - ma.day_number(both.expected_first_day) + 1)
    )
    return both.filter(~complete.fill_null(False))


def with_day_before(history: ir.Table, window: ma.Window) -> ir.Table:
    """Return the history rows for the days in a window and for the day before the window."""
    first = ma.days_earlier(window.first, 1)
    return history.filter(history.snapshot_date.between(first, window.last))


def differing_transitions(
    moves: ir.Table, changes: ir.Table, history: ir.Table, window: ma.Window
) -> ir.Table:
    """Return transitions with no change in the history, and changes with no transition.

    Args:
        moves: the transition table.
        changes: the differences between consecutive days in the history, with the same columns.
        history: the days to compare. Transitions on the first day are ignored.
        window: the days to check.
    """
    first_day = history.aggregate(day=history.snapshot_date.min()).as_scalar()
    moves = ma.within(moves, "transition_date", window)
    moves = moves.filter(moves.transition_date > first_day)
    return ma.differing_rows(moves.select(*changes.columns), changes)
