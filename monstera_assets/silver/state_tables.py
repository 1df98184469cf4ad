"""What the tables of states have in common, whatever has the states: columns, and rules.

A scope has four forms of the same states. Its intervals are computed from the facts, once a run;
history, current state and transitions are read from them. Belongs here: what these tables share. Not
here: any rule of a state, which the lifecycle has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.checks.rules import NOT_EVALUATED
from monstera_assets.lifecycle.intervals import on_each_day

VALID_FROM = ma.Column("valid_from", "date", "First day of the interval.")
VALID_TO = ma.nullable("valid_to", "date", "First day after the interval; null while it lasts.")
TRIGGERING_EVENT_ID = ma.nullable(
    "triggering_event_id",
    "string",
    "The event that caused the transition with which the interval begins; null if it begins with none,"
    " or it was the passing of time.",
)
TRANSITION_DATE = ma.Column("transition_date", "date", "First day of the new state.")
DAYS_IN_PREVIOUS_STATE = ma.Column(
    "days_in_previous_state", "int64", "Days that the previous state lasted."
)


def stored_intervals(
    table: ma.Table, intervals: ir.Table, as_of: ir.DateValue, **columns: ir.Value
) -> ir.Table:
    """The intervals that have begun by a date, as the rows of a table.

    `valid_to` is the first day after an interval, and null while it lasts.

    Args:
        table: the table of the intervals.
        intervals: interval table of the lifecycle, made from facts dated up to `as_of`.
        as_of: the last date that the stored intervals describe.
        columns: the columns that the intervals have by another name, or as numbers of days.
    """
    today = ma.day_number(as_of)
    begun = intervals.filter(intervals.valid_from <= today)
    ended = ibis.ifelse(begun.valid_to < today, begun.valid_to + 1, None)
    return begun.mutate(
        valid_from=ma.day_date(begun.valid_from),
        valid_to=ma.day_date(ended),
        # Not `as_of` itself: Ibis would give its other uses the column's name, too.
        as_of_date=ibis.coalesce(as_of),
        **columns,
    ).select(ma.column_names(table.columns))


def days_of(stored: ir.Table, window: ma.Window, *, keys: Sequence[str]) -> ir.Table:
    """Stored intervals crossed with a calendar, up to their as-of date; adds `day`, a number."""
    last_day = (ma.day_number(stored.valid_to) - 1).fill_null(ma.day_number(stored.as_of_date))
    intervals = stored.mutate(valid_from=ma.day_number(stored.valid_from), valid_to=last_day)
    return on_each_day(intervals, window.first, window.last, day_column="day", order_by=keys)


def transitions_of(stored: ir.Table, window: ma.Window, *, keys: Sequence[str]) -> ir.Table:
    """Where a stored interval meets the next one, of another state, within some days.

    Returns:
        The intervals that begin so, with the columns of the intervals before them as `previous_*`,
        and the columns that all transitions have.
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
    """The events that a state as of a date follows from: tables of entities hold later ones too."""
    return events.filter(events.event_date <= as_of)


def current(intervals: ir.Table) -> ir.Table:
    """The intervals that hold the as-of date, with `state_updated_at`, the end of that date."""
    now = intervals.filter(intervals.valid_to.isnull())
    return now.mutate(state_updated_at=now.as_of_date.cast("timestamp") + ibis.interval(days=1))


def cover_every_day(table: ma.Table) -> ma.Rule:
    """The rule that a table's intervals leave out no day and overlap on none."""
    keys = [name for name in table.key if name != VALID_FROM.name]

    def cover_every_day(intervals: ir.Table) -> ir.Table:
        """The intervals of each key cover every day from its first to the as-of date once."""
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
    """The rule that current states are those of history's latest day, in the columns of both.

    Not evaluated where that day is out of date: the current state then follows from facts that changed
    after the day was computed.

    Args:
        table: the table of the current states.
        history: name of the table of the history.
        but: a state that history does not have.
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

    text = "The current states are those of the latest day of history"
    checked = ma.rule(table, f"{text}, {but} apart." if but else f"{text}.")(agrees_with_history)
    return replace(checked, reads=(table.name, history))


def why_not_evaluated(history: ir.Table, out_of_date: ir.Table) -> ir.StringScalar:
    """Why the latest day of history is not compared: it is out of date; null if it is not."""
    reason = ibis.literal("the latest day of history is out of date: a day before it has changed")
    days = out_of_date.filter(out_of_date.day == _latest_day(history)).select(reason=reason)
    return days.aggregate(reason=days.reason.max()).as_scalar()


def _latest_day(history: ir.Table) -> ir.DateScalar:
    return history.aggregate(latest=history.snapshot_date.max()).as_scalar()


def days_not_in_history(
    history: ir.Table, starts: ir.Table, keys: Sequence[str], window: ma.Window
) -> ir.Table:
    """Keys whose days in the window are not all from their start on, or not once.

    Args:
        history: one row a key and `snapshot_date`.
        starts: one row a key: `keys` and `start_date`, the first date with a state.
        keys: names of the key columns.
        window: the days to look at.
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
    """The days of history in a window, and the day before it."""
    first = ma.days_earlier(window.first, 1)
    return history.filter(history.snapshot_date.between(first, window.last))


def differing_moves(
    moves: ir.Table, changes: ir.Table, history: ir.Table, window: ma.Window
) -> ir.Table:
    """Moves that history does not show, and differences in history without a move.

    Args:
        moves: the table of the transitions.
        changes: the differences between consecutive days of history, in columns of the moves.
        history: the days of history that were compared; moves on the first of them are left out.
        window: the days to look at.
    """
    first_day = history.aggregate(day=history.snapshot_date.min()).as_scalar()
    moves = ma.within(moves, "transition_date", window)
    moves = moves.filter(moves.transition_date > first_day)
    return ma.differing_rows(moves.select(*changes.columns), changes)
