"""The range that a day of a series is expected in, from the days before it alone.

A series is a number of members and an amount of them, day by day: those active of those in use, the net
gain of a state out of all in the segment, the events of those active. The amount expected is the
median rate of the same weekday in the weeks before, times the members. How far amounts stray from
that is told from how far they strayed before, by the absolute residuals, and is never less than
chance alone makes them stray: as many members who do the same independently of each other, or as many
accounts whose members do the same together.

A day is out of range where its distance is greater than would happen by chance, in all of a quarter's
days and series together, as often as false alarms are borne (Bonferroni's correction).

Two spans are judged: each day by itself, and the week that ends on it against the weeks 4 to 15
before, which sees what moves too slowly to be seen in a day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.intervals import day_date, day_number
from monstera_assets.lifecycle.policy import AnomalyPolicy
from monstera_assets.prediction.quantiles import student_quantile

MODEL_VERSION = "state-anomaly-1"
"""Another one for any change of what is expected, of the spread or of the threshold."""
WEEK = 7
QUARTER = 91
FEWEST_RESIDUALS = 84
"""Of the days before, on fewer of which nothing is judged."""


class Span(StrEnum):
    """What is judged as one."""

    DAY = "day"
    WEEK = "week"


class Direction(StrEnum):
    """Where to a series can leave its range."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)
class _Shape:
    """How a span is compared.

    Attributes:
        days: that are added up.
        first_week, last_week: the weeks before whose same weekday tells the rate expected.
        fewest_weeks: on fewer of which nothing is expected.
        first_residual, last_residual: the days before whose residuals tell the spread.
        to_deviation: what makes the standard deviation of a normal distribution of the spread.
        freedom: degrees of freedom that a residual is worth.
    """

    days: int
    first_week: int
    last_week: int
    fewest_weeks: int
    first_residual: int
    last_residual: int
    to_deviation: float
    freedom: float

    @property
    def reach(self) -> int:
        """Days before a date back to the first that has a part in what is expected of it."""
        return self.last_residual + self.days - 1 + WEEK * self.last_week

    @property
    def ends(self) -> int:
        """Days before a date down to the last that has."""
        return min(self.first_residual, WEEK * self.first_week)


# Of the median absolute residual: 1.4826, and 37 % as much as a standard deviation would tell of a
# normal distribution; of the mean: sqrt(pi / 2), and 88 % (P. J. Huber, Robust Statistics, 1981). Of
# sums over a week, residuals of a week tell about as much as one.
_SHAPES = {
    Span.DAY: _Shape(1, 1, 6, 4, 1, 84, 1.4826, 0.37),
    Span.WEEK: _Shape(WEEK, 4, 15, 6, 28, 111, 1.2533, 0.88 / WEEK),
}
DAYS_OF = {span: shape.days for span, shape in _SHAPES.items()}
"""Days of a span."""
DAYS_NEEDED = max(shape.reach for shape in _SHAPES.values()) + 1
"""Days before a day that can have a part in what is expected of it; one more, for changes."""
DAYS_BEFORE_JUDGED = {
    span: shape.days
    - 1
    + WEEK * (shape.first_week - 1 + shape.fewest_weeks)
    + shape.first_residual
    - 1
    + FEWEST_RESIDUALS
    for span, shape in _SHAPES.items()
}
"""Days that must lie before the first that is judged, by span."""
_MOST_OF_A_DAY = 3.0
_MICRO = 1_000_000


def judged(
    series: ir.Table,
    *,
    keys: Sequence[str],
    span: Span,
    policy: AnomalyPolicy,
    false_alarms: float,
) -> ir.Table:
    """The days of series that can be judged, with their expected range.

    Args:
        series: one row a series and date, without gaps: `keys`, `metric_date`, `members`, `amount`,
            `turnover` (how many did what makes up the amount), `together` (the variance of the amount
            if accounts act as one, 0 if it is not known), `base` (the rate that the amount over the
            members is added to), `least_deviation` and `least_relative_deviation` (of the rate, the
            latter as a share of the one expected, below which no day is out), `is_proportion`
            (whether each member counts in the amount or not; else the amount varies by chance as the
            turnover does).
        keys: the columns that name a series.
        span: what is judged.
        policy: from how much on it can be.
        false_alarms: that these series together may give in a quarter.

    Returns:
        `keys`, `metric_date`, `members` and `members_deviating` (the amount less what was expected),
        both of a mean day of the span, `observed`, `expected`, `expected_low`, `expected_high`
        (rates), `score` (the distance in standard deviations), `threshold`, `series_judged` (of the
        date), `training_first_date` and `training_last_date` (between which lies all that decides what
        is expected), `is_out`.
    """
    shape = _SHAPES[span]
    of_series = ibis.window(group_by=list(keys))
    rows = series.mutate(first_date=series.metric_date.min().over(of_series))
    rows = _with_expected(rows, keys, shape)
    if shape.days > 1:
        rows = _added_up(rows, keys, shape)
    rows = _with_spread(rows, keys, shape)
    can_be_judged = (
        (rows.members >= policy.min_members * shape.days)
        & rows.spread.notnull()
        & (rows.residuals >= FEWEST_RESIDUALS)
    )
    rows = rows.filter(can_be_judged)
    of_date = ibis.window(group_by="metric_date")
    rows = rows.mutate(series_judged=rows.count().over(of_date))
    tail = false_alarms / len(Direction) / QUARTER / rows.series_judged.cast("float64")
    threshold = student_quantile(tail, rows.residuals.cast("float64") * shape.freedom)
    rows = rows.mutate(threshold=threshold)
    return _out(rows, keys, shape)


def _with_expected(rows: ir.Table, keys: Sequence[str], shape: _Shape) -> ir.Table:
    """Add `expected_amount`, its `chance` variance, and the `residual` in standard deviations."""
    members = rows.members.cast("float64")
    rows = rows.mutate(
        rate=rows.amount / members.nullif(0.0),
        turned=rows.turnover / members.nullif(0.0),
        weekday=day_number(rows.metric_date) % WEEK,
    )
    weeks = ibis.window(
        group_by=[*keys, "weekday"],
        order_by="metric_date",
        preceding=(shape.last_week, shape.first_week),
    )
    rows = rows.mutate(
        expected_rate=ibis.ifelse(
            rows.rate.count().over(weeks) >= shape.fewest_weeks,
            rows.rate.median().over(weeks),
            ibis.null("float64"),
        ),
        expected_turned=rows.turned.median().over(weeks),
    )
    rate = rows.expected_rate
    per_member = ibis.ifelse(rows.is_proportion, rate * (1.0 - rate), rows.expected_turned)
    # And one, so that a single move where there are hardly any is no surprise.
    alone = rows.members * per_member + 1.0
    rows = rows.mutate(
        expected_amount=rows.members * rate,
        chance=ibis.greatest(alone, rows.together.cast("float64")),
    )
    residual = (rows.amount - rows.expected_amount) / rows.chance.sqrt()
    return rows.mutate(residual=residual).drop("rate", "turned", "weekday")


def _added_up(rows: ir.Table, keys: Sequence[str], shape: _Shape) -> ir.Table:
    """Days added up to spans; those with a day of which nothing is expected are left out.

    Of the residuals none counts more than `_MOST_OF_A_DAY`: a day out of all proportion is that
    day's anomaly, and no drift.
    """
    span = ibis.window(
        group_by=list(keys), order_by="metric_date", preceding=shape.days - 1, following=0
    )
    # Whole numbers, whose sum does not depend on the order.
    micro = {
        "expected_amount": rows.expected_amount,
        "chance": rows.chance,
        "residual": rows.residual.clip(-_MOST_OF_A_DAY, _MOST_OF_A_DAY),
    }
    sums = {
        name: (value * _MICRO).round().cast("int64").sum().over(span).cast("float64") / _MICRO
        for name, value in micro.items()
    }
    whole = {
        name: rows[name].sum().over(span).cast(rows[name].type()) for name in ("members", "amount")
    }
    days = rows.mutate(days=rows.residual.count().over(span), **whole, **sums)
    days = days.filter(days.days == shape.days).drop("days")
    return days.mutate(
        expected_rate=days.expected_amount / days.members.cast("float64"),
        residual=days.residual / float(shape.days) ** 0.5,
    )


def _with_spread(rows: ir.Table, keys: Sequence[str], shape: _Shape) -> ir.Table:
    """Add `spread` (in standard deviations by chance, 1 at least) and `residuals` (their number)."""
    before = ibis.window(
        group_by=list(keys),
        order_by="metric_date",
        preceding=(shape.last_residual, shape.first_residual),
    )
    distance = rows.residual.abs()
    if shape.days == 1:
        typical = distance.median().over(before)
    else:
        micro = (distance * _MICRO).round().cast("int64")
        typical = micro.sum().over(before).cast("float64") / micro.count().over(before) / _MICRO
    spread = ibis.greatest(typical * shape.to_deviation, 1.0)
    return rows.mutate(
        spread=ibis.ifelse(rows.residual.isnull(), ibis.null("float64"), spread),
        residuals=rows.residual.count().over(before),
    )


def _out(rows: ir.Table, keys: Sequence[str], shape: _Shape) -> ir.Table:
    members = rows.members.cast("float64")
    excess = rows.amount - rows.expected_amount
    score = rows.residual / rows.spread
    expected = rows.base + rows.expected_rate
    reach = rows.threshold * rows.chance.sqrt() * rows.spread
    least = rows.least_deviation + rows.least_relative_deviation * rows.expected_rate
    is_out = (
        (score.abs() > rows.threshold)
        & (excess.abs() > reach)
        & ((excess / members).abs() >= least)
    )
    day, first_day = day_number(rows.metric_date), day_number(rows.first_date)
    return rows.select(
        *keys,
        "metric_date",
        "series_judged",
        "threshold",
        members=(rows.members // shape.days).cast("int64"),
        observed=rows.base + rows.amount / members,
        expected=expected,
        expected_low=expected - reach / members,
        expected_high=expected + reach / members,
        members_deviating=(excess / shape.days).round().cast("int64"),
        score=score,
        training_first_date=day_date(ibis.greatest(day - shape.reach, first_day)),
        training_last_date=day_date(day - shape.ends),
        is_out=is_out,
    )
