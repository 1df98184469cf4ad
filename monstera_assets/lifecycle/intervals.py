"""Turn dated facts into intervals of constant state.

Between two facts, a state can change only after a fixed number of days: on the day after a
qualifying event, and at the end of the active, dormant or new period. A key therefore has only a
few intervals per qualifying day, and the other state tables are derived from these intervals. The
history has one row for each day in an interval. The current state comes from the interval that
contains the as-of date. A transition occurs where one interval follows another.
`activity_intervals` contains the activity rules for users and products. The account logic uses only
the functions that follow `activity_intervals`.

An interval table has key columns, the inclusive bounds `valid_from` and `valid_to`, and payload
columns whose values apply to each day in the interval. Each key's last interval ends on `FOREVER`.
The state on a day depends only on facts dated through that day, so a later fact can end an interval
but cannot change the interval's state. Each run therefore stores the intervals once
(`silver/state_tables.py`), and the other state tables read the stored intervals.

Within the engine, a day is represented by the number of days since 1970-01-01. A key is represented
by a single number, even if the key has several columns. Integers are faster than dates and strings
and behave the same in every database. `day_number` and `day_date` convert days. `numbered` assigns
key numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.expressions import key_number, materialized, union_by_name

_EPOCH = date(1970, 1, 1)
FOREVER = (date(9999, 12, 31) - _EPOCH).days
"""Last day number of an interval without an end."""
ALWAYS = (date(1, 1, 1) - _EPOCH).days
"""First day number of an interval without a start."""
_ACTIVITY = ("activity_day", "previous_day", "next_day", "activated", "activated_before")
"""Columns that the engine reads for each qualifying day, in addition to the key."""


def day_number(day: ir.DateValue | date) -> ir.IntegerValue:
    """Return the number of days since 1970-01-01."""
    value = ibis.literal(day) if isinstance(day, date) else day
    return value.delta(ibis.literal(_EPOCH), unit="day").cast("int64")


def day_date(number: ir.IntegerValue) -> ir.DateValue:
    """Return the date for a day number."""
    # Add the days to a timestamp, since Ibis treats a date plus days as a date and would drop the cast.
    midnight = ibis.literal(datetime.combine(_EPOCH, time.min))
    return (midnight + number.cast("int32").as_interval("D")).cast("date")


def days_earlier(day: ir.DateValue, days: int) -> ir.DateValue:
    """Return the date that is `days` days before `day`."""
    return day_date(day_number(day) - days)


def numbered(keys: ir.Table, *, by: Sequence[str], number: str) -> ir.Table:
    """Number a table's rows. The `by` columns identify each row (see `key_number`)."""
    return materialized(keys.mutate(**{number: key_number(*(keys[name] for name in by))}))


def first_of(
    value: ir.Value, *, order_by: Sequence[ir.Value], where: ir.BooleanValue | None = None
) -> ir.Value:
    """Aggregate rows to the value in the first row, sorted by `order_by`.

    If rows are tied, the smallest value is used. The function takes the minimum of a struct, which
    keeps only one row in memory, whereas a sorted aggregate keeps all rows.

    Args:
        value: the value to return, which must not be null.
        order_by: the expressions that sort the rows, which must not be null.
        where: a condition that selects rows. The result is null if no rows match.
    """
    keys = {f"key_{number}": key for number, key in enumerate(order_by)}
    return ibis.struct({**keys, "value": value}).min(where=where)["value"]


def hours_between(start: ir.TimestampValue, end: ir.TimestampValue) -> ir.FloatingValue:
    """Return the number of hours between two timestamps, with microsecond precision."""
    # With a coarser unit, a delta counts the boundaries crossed rather than the time elapsed.
    return end.delta(start, unit="microsecond").cast("float64") / 3.6e9


@dataclass(frozen=True)
class ActivityLabels:
    """The names of a scope's activity states.

    `returning` is None if the scope has no state for users who return after being dormant.
    """

    new: str
    active: str
    dormant: str
    churned: str
    reactivated: str
    returning: str | None


def activity_intervals(
    starts: ir.Table, activity: ir.Table, *, keys: Sequence[str], labels: ActivityLabels
) -> ir.Table:
    """Return each key's activity state for every day since its start (framework, sections 3 and 4).

    Args:
        starts: one row per key, with `keys`, `start_day` (the first day with a state), `new_until` (the
            last day on which the key can be new), `active_days` and `dormant_days`.
        activity: one row per key and qualifying day on or after the key's start, with `keys`,
            `activity_day`, `previous_day` and `next_day` (the neighboring qualifying days, or null),
            `activated` (whether the key is activated at the end of that day, after which the key is
            no longer new), `activated_before` (whether the key was activated on the day before) and
            any payload.
        keys: the names of the key columns.
        labels: the scope's activity states.

    Returns:
        An interval table: `keys`, `valid_from`, `valid_to`, `activity_state`, `start_day`,
        `last_activity_day` (null before the first activity day), `activity_decides` (whether the state
        on the last activity day would have been different without that activity) and that day's
        payload.
    """
    payload = [name for name in activity.columns if name not in {*keys, *_ACTIVITY}]
    phases = ibis.range(5).unnest().name("phase").as_table()
    spell = _spells(starts, activity, keys).cross_join(phases)

    was_new = (spell.activity_day <= spell.new_until + 1) & ~spell.activated_before
    never_before = spell.previous_day.isnull()
    quiet_days = spell.activity_day - spell.previous_day - 1
    was_churned = never_before | (quiet_days > spell.dormant_days)
    was_away = was_churned if labels.returning is None else quiet_days > spell.active_days
    comes_back = (spell.activity_day > spell.start_day) & ~was_new & (never_before | was_away)
    # The first day of the spell on which the key is no longer new.
    settled = ibis.ifelse(
        spell.activated, spell.spell_from, ibis.greatest(spell.spell_from, spell.new_until + 1)
    )
    in_new_days = spell.activity_day <= spell.new_until
    is_new = in_new_days & ~spell.activated
    would_be_new = in_new_days & ~spell.activated_before
    gap = spell.activity_day - spell.previous_day
    would_be_active = ~would_be_new & (gap <= spell.active_days).fill_null(False)
    # The condition is null, and therefore false, before the first qualifying day.
    marks_return = comes_back & (settled == spell.activity_day)
    active_until = spell.activity_day + spell.active_days
    dormant_until = spell.activity_day + spell.dormant_days
    came_back_as = (
        ibis.literal(labels.reactivated)
        if labels.returning is None
        else ibis.ifelse(was_churned, labels.reactivated, labels.returning)
    )
    # State, first day and last day of each phase. The days are null if the phase does not occur.
    phases_of_a_spell = (
        (labels.new, spell.spell_from, ibis.ifelse(spell.activated, None, spell.new_until)),
        (came_back_as, spell.activity_day, ibis.ifelse(marks_return, spell.activity_day, None)),
        (labels.active, ibis.ifelse(marks_return, spell.activity_day + 1, settled), active_until),
        (labels.dormant, ibis.greatest(settled, active_until + 1), dormant_until),
        (labels.churned, ibis.greatest(settled, dormant_until + 1), ibis.literal(FOREVER, "int64")),
    )
    states, firsts, lasts = (
        ibis.cases(*((spell.phase == n, part[i]) for n, part in enumerate(phases_of_a_spell)))
        for i in range(3)
    )
    intervals = spell.select(
        *(*keys, "start_day", "spell_to", *payload),
        valid_from=firsts.cast("int64"),
        phase_to=lasts.cast("int64"),
        activity_state=states,
        last_activity_day=spell.activity_day,
        activity_decides=(~is_new & ~would_be_active).fill_null(False),
    )
    # least() ignores nulls, so a phase that does not occur would otherwise end with the spell.
    intervals = intervals.filter(intervals.phase_to.notnull()).mutate(
        valid_to=ibis.least(ibis._.phase_to, ibis._.spell_to)
    )
    return intervals.filter(intervals.valid_from <= intervals.valid_to).drop("phase_to", "spell_to")


def _spells(starts: ir.Table, activity: ir.Table, keys: Sequence[str]) -> ir.Table:
    """Return one row per key and spell, with the key's start and windows.

    A spell lasts from one qualifying day through the day before the next one. The spell before the
    first qualifying day has no `activity_day`. A key that starts with a qualifying day does not have
    this initial spell.
    """
    after = activity.inner_join(starts, list(keys)).mutate(
        spell_from=ibis._.activity_day,
        spell_to=(ibis._.next_day - 1).fill_null(FOREVER).cast("int64"),
    )
    first = activity.filter(activity.previous_day.isnull())
    first = first.select(*keys, first_day=first.activity_day)
    before = starts.left_join(first, list(keys))
    before = before.filter(before.first_day.isnull() | (before.first_day > before.start_day))
    before = before.select(
        *starts.columns,
        spell_from=before.start_day,
        spell_to=(before.first_day - 1).fill_null(FOREVER).cast("int64"),
        activated=ibis.literal(value=False),
        activated_before=ibis.literal(value=False),
    )
    return union_by_name(before, after)


def fill_gaps(pieces: ir.Table, *, keys: Sequence[str]) -> ir.Table:
    """Fill the gaps between each key's sparse intervals, from `ALWAYS` through `FOREVER`.

    `pieces` is an interval table without overlaps that includes `begun_by_event_id` and
    `ended_by_event_id`. Added intervals have a null payload, except for `begun_by_event_id`, which
    is the previous interval's `ended_by_event_id`.
    """
    by_key = ibis.window(group_by=list(keys), order_by="valid_from")
    neighbours = pieces.mutate(
        previous_to=pieces.valid_to.lag().over(by_key),
        next_from=pieces.valid_from.lead().over(by_key),
    )
    after = neighbours.select(
        *keys,
        valid_from=neighbours.valid_to + 1,
        valid_to=(neighbours.next_from - 1).fill_null(FOREVER).cast("int64"),
        begun_by_event_id=neighbours.ended_by_event_id,
    )
    before = neighbours.filter(neighbours.previous_to.isnull()).select(
        *keys,
        valid_from=ibis.literal(ALWAYS, "int64"),
        valid_to=neighbours.valid_from - 1,
        begun_by_event_id=ibis.null("string"),
    )
    added = after.union(before)
    return union_by_name(
        pieces.drop("ended_by_event_id"), added.filter(added.valid_from <= added.valid_to)
    )


def overlay(
    base: ir.Table, cover: ir.Table, *, keys: Sequence[str], columns: Sequence[str]
) -> ir.Table:
    """Split `base` intervals where `cover` intervals start or end, and add columns from `cover`.

    Args:
        base: the interval table to split.
        cover: an interval table that covers all days for each of its keys (see `fill_gaps`). Intervals
            with other keys are not split, and their `columns` are null.
        keys: the names of the join columns.
        columns: the `cover` columns to add.
    """
    cover = cover.select(*keys, *columns, cover_from=cover.valid_from, cover_to=cover.valid_to)
    meets = (cover.cover_from <= base.valid_to) & (cover.cover_to >= base.valid_from)
    joined = base.left_join(cover, [*keys, meets])
    return joined.mutate(
        # The `cover` dates are null for missing keys, and greatest() and least() ignore nulls.
        valid_from=ibis.greatest(joined.valid_from, joined.cover_from),
        valid_to=ibis.least(joined.valid_to, joined.cover_to),
    ).select(*base.columns, *columns)


def with_state_since(intervals: ir.Table, *, keys: Sequence[str], state: str) -> ir.Table:
    """Add `previous_state` and `state_since`, the first day of the uninterrupted period in the state.

    `previous_state` is the state before the interval, or null for the key's first interval.
    """
    by_key = ibis.window(group_by=list(keys), order_by="valid_from")
    changes = intervals.mutate(previous_state=intervals[state].lag().over(by_key))
    begins = changes.previous_state.isnull() | (changes.previous_state != changes[state])
    so_far = ibis.cumulative_window(group_by=list(keys), order_by="valid_from")
    begun_on = ibis.ifelse(begins, changes.valid_from, None).max()
    return changes.mutate(state_since=begun_on.over(so_far))


def neighbours(day: ir.IntegerColumn, *, keys: Sequence[str]) -> dict[str, ir.IntegerValue]:
    """Return `previous_day` and `next_day`, the key's neighboring days, or null at either end.

    DuckDB sorts the rows only once for all window columns with the same keys and order.
    """
    by_key = ibis.window(group_by=list(keys), order_by=day)
    return {"previous_day": day.lag().over(by_key), "next_day": day.lead().over(by_key)}


def sliding_presence(active_days: ir.Table, *, keys: Sequence[str], days: int) -> ir.Table:
    """Return the days on which a key starts or stops counting in a sliding window of days.

    A key counts for `days` days, starting on an active day. Another active day within that period
    extends the period, so no key is counted twice. `active_days` has one row per key and active day,
    with `keys` and `day` (a number).

    Returns:
        The columns `keys`, `day` and `change`, which is 1 if the key starts counting on that day and
        -1 if the key stops counting.
    """
    spans = active_days.mutate(**neighbours(active_days.day, keys=keys))
    return presence_of(spans, keys=keys, days=days)


def presence_of(spans: ir.Table, *, keys: Sequence[str], days: int) -> ir.Table:
    """Return the `sliding_presence` rows for active days that already have the `neighbours` columns."""
    begins = spans.filter(spans.previous_day.isnull() | (spans.day - spans.previous_day > days))
    ceases = spans.filter(spans.next_day.isnull() | (spans.next_day - spans.day > days))
    return begins.select(*keys, day=begins.day, change=ibis.literal(1, "int64")).union(
        ceases.select(*keys, day=ceases.day + days, change=ibis.literal(-1, "int64"))
    )


def calendar(first: ir.DateValue, last: ir.DateValue, day_column: str) -> ir.Table:
    """Return one row per date from `first` through `last`."""
    numbers = ibis.range(day_number(first), day_number(last) + 1).unnest()
    days = numbers.name("number").as_table()
    return days.select(**{day_column: day_date(days.number)})


def on_each_day(
    intervals: ir.Table,
    first: ir.DateValue,
    last: ir.DateValue,
    *,
    day_column: str,
    order_by: Sequence[str] = (),
) -> ir.Table:
    """Expand intervals to one row per key and day from `first` through `last`.

    Args:
        intervals: the interval table to expand.
        first: the first day of the calendar.
        last: the last day of the calendar.
        day_column: the name of the day number column to add.
        order_by: the key columns that readers use to look up rows. Sorting intervals is cheap and keeps
            a key's days adjacent in the stored table.
    """
    from_day, to_day = day_number(first), day_number(last)
    within = intervals.filter(intervals.valid_from <= to_day, intervals.valid_to >= from_day)
    if order_by:
        within = within.order_by(*order_by, "valid_from")
    days = ibis.range(
        ibis.greatest(within.valid_from, from_day), ibis.least(within.valid_to, to_day) + 1
    )
    return within.mutate(**{day_column: days.unnest().cast("int64")})
