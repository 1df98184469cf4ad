"""The state engine: from dated facts to intervals in which nothing changes.

Between two facts a state moves only at fixed distances: the day after a qualifying day, when the
active days are over, when the dormant days are over, when the days of being new are over. So the
states of a key, over all days, are a handful of intervals a qualifying day, and everything else
follows from them: history is intervals crossed with a calendar, the current state is the interval
that holds the as-of date, a transition is one interval's end meeting the next one's start. The rules
are in `activity_intervals`, and nowhere else; users, products and accounts share it and the
operations on intervals below it.

An interval table has the key columns, `valid_from` and `valid_to` (both included; the last interval
of a key ends on `FOREVER`), and payload columns that hold for each of its days. Only facts dated up
to a day decide what holds on that day: a later fact can end an interval, never change its label. So
the intervals are stored once a run (`silver/state_tables.py`), and history, current state and
transitions are read from the stored ones.

Where several parts of a computation read the same intermediate table, it is marked as `materialized`;
the compiler has it computed once.

Within the engine a day is its number, days since 1970-01-01, and a key is one number too, whatever
it consists of: whole numbers add, compare, sort and unnest faster than dates and texts, and the same
in every engine. `day_number` and `day_date` convert days, `numbered` numbers keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.expressions import materialized, union_by_name

_EPOCH = date(1970, 1, 1)
FOREVER = (date(9999, 12, 31) - _EPOCH).days
"""The number of the last day of an interval that nothing has ended."""
ALWAYS = (date(1, 1, 1) - _EPOCH).days
"""The number of the first day of an interval without a beginning."""
_ACTIVITY = ("activity_day", "previous_day", "next_day", "activated", "activated_before")
"""What the engine reads of a qualifying day, besides its key."""


def day_number(day: ir.DateValue | date) -> ir.IntegerValue:
    """Days since 1970-01-01."""
    value = ibis.literal(day) if isinstance(day, date) else day
    return value.delta(ibis.literal(_EPOCH), unit="day").cast("int64")


def day_date(number: ir.IntegerValue) -> ir.DateValue:
    """The date of a day number."""
    # From a timestamp: of a date plus days Ibis believes that it is a date and leaves the cast out.
    midnight = ibis.literal(datetime.combine(_EPOCH, time.min))
    return (midnight + number.cast("int32").as_interval("D")).cast("date")


def days_earlier(day: ir.DateValue, days: int) -> ir.DateValue:
    """The date so many days before another."""
    return day_date(day_number(day) - days)


def numbered(keys: ir.Table, *, by: Sequence[str], number: str) -> ir.Table:
    """Number the rows of a table in the order of the columns `by`, in which they differ."""
    in_order = ibis.window(order_by=list(by))
    return materialized(keys.mutate(**{number: ibis.row_number().over(in_order)}))


def first_of(
    value: ir.Value, *, order_by: Sequence[ir.Value], where: ir.BooleanValue | None = None
) -> ir.Value:
    """An aggregate: the value of the row that is first in an order, ties going to the least value.

    The minimum of rows as wholes keeps one row at a time, where a sorted aggregate keeps them all.

    Args:
        value: what is wanted, never null.
        order_by: what the rows are ordered by, never null.
        where: which rows count; null if none does.
    """
    keys = {f"key_{number}": key for number, key in enumerate(order_by)}
    return ibis.struct({**keys, "value": value}).min(where=where)["value"]


def hours_between(start: ir.TimestampValue, end: ir.TimestampValue) -> ir.FloatingValue:
    """Hours from one moment to another, to the microsecond."""
    # Not in seconds: a difference in a unit counts how often the clock turned over in it.
    return end.delta(start, unit="microsecond").cast("float64") / 3.6e9


@dataclass(frozen=True)
class ActivityLabels:
    """The states that activity leads to in a scope.

    `returning` is None where coming back from dormancy has no state of its own.
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
    """The activity state of each key over all days from its start on (framework, sections 3 and 4).

    Args:
        starts: one row a key: `keys`, `start_day` (the first day that has a state), `new_until`
            (the last day on which the key can be new), `active_days` and `dormant_days` (days).
        activity: one row a key and qualifying day: `keys`, `activity_day`, `previous_day` and
            `next_day` (the key's qualifying days before and after; null if none), `activated`
            (whether the key counts as activated at the end of that day, which ends being new),
            `activated_before` (whether it did so before that day) and any payload. No day lies
            before the key's start.
        keys: names of the key columns.
        labels: the scope's states.

    Returns:
        Interval table: `keys`, `valid_from`, `valid_to`, `activity_state`, `start_day`,
        `last_activity_day` (null before the first), `activity_decides` (whether the state of the last
        activity day would have been another one without its activity, by the same rules) and the
        payload of the last activity day.
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
    # The first day of the spell on which the key is new no longer.
    settled = ibis.ifelse(
        spell.activated, spell.spell_from, ibis.greatest(spell.spell_from, spell.new_until + 1)
    )
    in_new_days = spell.activity_day <= spell.new_until
    is_new = in_new_days & ~spell.activated
    would_be_new = in_new_days & ~spell.activated_before
    gap = spell.activity_day - spell.previous_day
    would_be_active = ~would_be_new & (gap <= spell.active_days).fill_null(False)
    # Null, so false, in the spell before the first qualifying day.
    marks_return = comes_back & (settled == spell.activity_day)
    active_until = spell.activity_day + spell.active_days
    dormant_until = spell.activity_day + spell.dormant_days
    came_back_as = (
        ibis.literal(labels.reactivated)
        if labels.returning is None
        else ibis.ifelse(was_churned, labels.reactivated, labels.returning)
    )
    # phase: its state, its first day, its last day; null where the phase does not occur
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
    # least() skips nulls, so a phase that does not occur is dropped by its own end.
    intervals = intervals.filter(intervals.phase_to.notnull()).mutate(
        valid_to=ibis.least(ibis._.phase_to, ibis._.spell_to)
    )
    return intervals.filter(intervals.valid_from <= intervals.valid_to).drop("phase_to", "spell_to")


def _spells(starts: ir.Table, activity: ir.Table, keys: Sequence[str]) -> ir.Table:
    """One row a key and stretch between qualifying days, with the key's start and windows.

    The stretch before the first qualifying day has no `activity_day`; it is left out where the key
    starts with one.
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
    """Make sparse intervals of a key cover all days, from `ALWAYS` to `FOREVER`.

    The added intervals have null payload, except `ended_by_event_id`, which an added interval takes
    over as `begun_by_event_id` from the interval before it.

    `pieces` is an interval table without overlaps, with `begun_by_event_id` and `ended_by_event_id`.
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
    """Split the intervals of `base` where those of `cover` begin and end, and add its columns.

    Args:
        base: interval table.
        cover: interval table that covers all days of each key that it has (see `fill_gaps`); keys
            that it does not have pass through, with null in `columns`.
        keys: names of the columns by which the two belong together.
        columns: the columns of `cover` to add.
    """
    cover = cover.select(*keys, *columns, cover_from=cover.valid_from, cover_to=cover.valid_to)
    meets = (cover.cover_from <= base.valid_to) & (cover.cover_to >= base.valid_from)
    joined = base.left_join(cover, [*keys, meets])
    return joined.mutate(
        # greatest() and least() skip the nulls of keys without a cover
        valid_from=ibis.greatest(joined.valid_from, joined.cover_from),
        valid_to=ibis.least(joined.valid_to, joined.cover_to),
    ).select(*base.columns, *columns)


def with_state_since(intervals: ir.Table, *, keys: Sequence[str], state: str) -> ir.Table:
    """Add `state_since`, the first day of the unbroken run of the state, and `previous_state`.

    `previous_state` is the state of the day before the interval; null on the key's first day.
    """
    by_key = ibis.window(group_by=list(keys), order_by="valid_from")
    changes = intervals.mutate(previous_state=intervals[state].lag().over(by_key))
    begins = changes.previous_state.isnull() | (changes.previous_state != changes[state])
    so_far = ibis.cumulative_window(group_by=list(keys), order_by="valid_from")
    begun_on = ibis.ifelse(begins, changes.valid_from, None).max()
    return changes.mutate(state_since=begun_on.over(so_far))


def neighbours(day: ir.IntegerColumn, *, keys: Sequence[str]) -> dict[str, ir.IntegerValue]:
    """The columns `previous_day` and `next_day`: the key's days before and after; null if none.

    Beside other columns over windows of the same keys and order, DuckDB sorts once for all of them.
    """
    by_key = ibis.window(group_by=list(keys), order_by=day)
    return {"previous_day": day.lag().over(by_key), "next_day": day.lead().over(by_key)}


def sliding_presence(active_days: ir.Table, *, keys: Sequence[str], days: int) -> ir.Table:
    """When a key begins and ceases to count in a sliding window of days.

    A key counts from a day on which it was active until `days` later; a further active day before
    that prolongs it, so that nobody is ever counted twice. `active_days` has one row a key and active
    day: `keys` and `day` (number).

    Returns:
        `keys`, `day` and `change`: 1 where the key begins to count, -1 where it ceases to.
    """
    spans = active_days.mutate(**neighbours(active_days.day, keys=keys))
    return presence_of(spans, keys=keys, days=days)


def presence_of(spans: ir.Table, *, keys: Sequence[str], days: int) -> ir.Table:
    """`sliding_presence` of active days that have their `neighbours`."""
    begins = spans.filter(spans.previous_day.isnull() | (spans.day - spans.previous_day > days))
    ceases = spans.filter(spans.next_day.isnull() | (spans.next_day - spans.day > days))
    return begins.select(*keys, day=begins.day, change=ibis.literal(1, "int64")).union(
        ceases.select(*keys, day=ceases.day + days, change=ibis.literal(-1, "int64"))
    )


def calendar(first: ir.DateValue, last: ir.DateValue, day_column: str) -> ir.Table:
    """One row a date from `first` to `last`."""
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
    """One row a key and day from `first` to `last`: intervals crossed with the calendar.

    Args:
        intervals: interval table.
        first: the first day of the calendar.
        last: its last day.
        day_column: name of the column to add, of day numbers.
        order_by: columns of the key that rows will be looked up by. To order intervals is cheap, and
            their days then lie beside each other in the stored table.
    """
    from_day, to_day = day_number(first), day_number(last)
    within = intervals.filter(intervals.valid_from <= to_day, intervals.valid_to >= from_day)
    if order_by:
        within = within.order_by(*order_by, "valid_from")
    days = ibis.range(
        ibis.greatest(within.valid_from, from_day), ibis.least(within.valid_to, to_day) + 1
    )
    return within.mutate(**{day_column: days.unnest().cast("int64")})
