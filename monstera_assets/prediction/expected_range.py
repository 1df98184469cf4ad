"""Expected ranges of daily series, computed only from earlier days.

On each day, a series has a number of members and an amount, such as monthly and daily active users. The
expected amount is the number of members times the median rate on the same weekday of earlier weeks. The
spread is estimated from past absolute residuals. It is never less than the spread expected by chance,
whether members act independently or whole accounts act together.

A day is out of range if its deviation exceeds a threshold. The threshold includes a Bonferroni
correction, so chance alone causes such deviations only at the configured rate per quarter across all
series.

Two spans are evaluated: each day and the week ending on it. Each week is compared with the weeks that
ended 4 to 15 weeks earlier, which reveals drift that is too slow to show on a single day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.intervals import day_date, day_number
from monstera_assets.lifecycle.policy import AnomalyPolicy

MODEL_VERSION = "state-anomaly-1"
"""Method version, which changes whenever the expectation, spread or threshold changes."""
WEEK = 7
QUARTER = 91
FEWEST_RESIDUALS = 84
"""Minimum number of past residuals needed to evaluate a day."""


class Span(StrEnum):
    """Time span that is evaluated as a unit."""

    DAY = "day"
    WEEK = "week"


class Direction(StrEnum):
    """Direction of the deviation."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)
class _Shape:
    """Comparison parameters for one span.

    Attributes:
        days: number of days in the span.
        first_week, last_week: range of earlier weeks that determine the expected weekday rate.
        fewest_weeks: minimum number of those weeks with data.
        first_residual, last_residual: range of earlier days whose residuals determine the spread.
        to_deviation: factor that converts the spread to the standard deviation of a normal
            distribution.
        freedom: degrees of freedom per residual.
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
        """Days between a date and the first day that its expected range depends on."""
        return self.last_residual + self.days - 1 + WEEK * self.last_week

    @property
    def ends(self) -> int:
        """Days between a date and the last day that its expected range depends on."""
        return min(self.first_residual, WEEK * self.first_week)

    @property
    def days_before_judged(self) -> int:
        """Days of history needed before a day can be evaluated."""
        weeks = self.first_week - 1 + self.fewest_weeks
        return self.days - 1 + WEEK * weeks + self.first_residual - 1 + FEWEST_RESIDUALS


# Factor and efficiency under a normal distribution (P. J. Huber, Robust Statistics, 1981): 1.4826 and
# 37% for the median absolute residual, sqrt(pi / 2) and 88% for the mean absolute residual. Weekly sums
# overlap, so seven of their residuals count as one.
_SHAPES = {
    Span.DAY: _Shape(1, 1, 6, 4, 1, 84, 1.4826, 0.37),
    Span.WEEK: _Shape(WEEK, 4, 15, 6, 28, 111, 1.2533, 0.88 / WEEK),
}
DAYS_OF = {span: shape.days for span, shape in _SHAPES.items()}
"""Number of days per span."""
DAYS_NEEDED = max(shape.reach for shape in _SHAPES.values()) + 1
"""Number of earlier days needed for an expected range, plus one for day-over-day changes."""
DAYS_BEFORE_JUDGED = {span: shape.days_before_judged for span, shape in _SHAPES.items()}
"""Days of history needed before a day can be evaluated, by span."""
_MAX_DAILY_RESIDUAL = 3.0
_MICRO = 1_000_000


def evaluate(
    series: ir.Table, *, keys: Sequence[str], span: Span, policy: AnomalyPolicy, false_alarms: float
) -> ir.Table:
    """Return the expected range of each day that can be evaluated.

    Args:
        series: one row per series and date, without gaps: `keys`, `metric_date`, `members`, `amount`,
            `turnover` (members that changed the amount), `together` (the variance of the amount if
            each account's members act together, 0 if unknown), `base` (the rate to which amount /
            members is added), `least_deviation` and `least_relative_deviation` (the minimum rate
            deviation for a day to be out of range, absolute and relative to the expected rate), and
            `is_proportion` (whether the amount is a number of members; if not, the turnover is the
            variance due to chance).
        keys: columns that identify a series.
        span: the days to evaluate together.
        policy: provides the minimum number of members.
        false_alarms: expected number of false alerts per quarter across all of these series.

    Returns:
        `keys`, `metric_date`, `members` and `members_deviating` (the amount minus the expected amount),
        both per day of the span, `observed`, `expected`, `expected_low`, `expected_high` (rates),
        `score` (the deviation in standard deviations), `threshold`, `series_judged` (on that date),
        `training_first_date` and `training_last_date` (the days that the expectation depends on), and
        `is_out`.
    """
    shape = _SHAPES[span]
    of_series = ibis.window(group_by=list(keys))
    rows = series.mutate(first_date=series.metric_date.min().over(of_series))
    rows = _with_expected(rows, keys, shape)
    if shape.days > 1:
        rows = _added_up(rows, keys, shape)
    rows = _with_spread(rows, keys, shape)
    rows = rows.filter(
        rows.members >= policy.min_members * shape.days,
        rows.spread.notnull(),
        rows.residuals >= FEWEST_RESIDUALS,
    )
    of_date = ibis.window(group_by="metric_date")
    rows = rows.mutate(series_judged=rows.count().over(of_date))
    tail = false_alarms / len(Direction) / QUARTER / rows.series_judged.cast("float64")
    threshold = student_quantile(tail, rows.residuals.cast("float64") * shape.freedom)
    return _out(rows.mutate(threshold=threshold), keys, shape)


def _with_expected(rows: ir.Table, keys: Sequence[str], shape: _Shape) -> ir.Table:
    """Add `expected_amount`, its variance due to `chance`, and the standardized `residual`."""
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
    # If transitions are rare, adding 1 keeps a single transition in range.
    independent = rows.members * per_member + 1.0
    rows = rows.mutate(
        expected_amount=rows.members * rate,
        chance=ibis.greatest(independent, rows.together.cast("float64")),
    )
    residual = (rows.amount - rows.expected_amount) / rows.chance.sqrt()
    return rows.mutate(residual=residual).drop("rate", "turned", "weekday")


def _added_up(rows: ir.Table, keys: Sequence[str], shape: _Shape) -> ir.Table:
    """Sum the days of each span, dropping spans with a day that has no expected value.

    Residuals are clipped to `_MAX_DAILY_RESIDUAL`, because one extreme day is not a drift.
    """
    span = ibis.window(
        group_by=list(keys), order_by="metric_date", preceding=shape.days - 1, following=0
    )
    clipped = rows.residual.clip(-_MAX_DAILY_RESIDUAL, _MAX_DAILY_RESIDUAL)
    micro = {"expected_amount": rows.expected_amount, "chance": rows.chance, "residual": clipped}
    days = rows.mutate(
        days=rows.residual.count().over(span),
        **{
            name: rows[name].sum().over(span).cast(rows[name].type())
            for name in ("members", "amount")
        },
        **{
            name: _in_micro(value).sum().over(span).cast("float64") / _MICRO
            for name, value in micro.items()
        },
    )
    days = days.filter(days.days == shape.days).drop("days")
    return days.mutate(
        expected_rate=days.expected_amount / days.members.cast("float64"),
        residual=days.residual / float(shape.days) ** 0.5,
    )


def _with_spread(rows: ir.Table, keys: Sequence[str], shape: _Shape) -> ir.Table:
    """Add the `spread` (relative to chance, at least 1) and the number of `residuals`."""
    before = ibis.window(
        group_by=list(keys),
        order_by="metric_date",
        preceding=(shape.last_residual, shape.first_residual),
    )
    distance = rows.residual.abs()
    if shape.days == 1:
        typical = distance.median().over(before)
    else:
        micro = _in_micro(distance)
        typical = micro.sum().over(before).cast("float64") / micro.count().over(before) / _MICRO
    spread = ibis.greatest(typical * shape.to_deviation, 1.0)
    return rows.mutate(
        spread=ibis.ifelse(rows.residual.isnull(), ibis.null("float64"), spread),
        residuals=rows.residual.count().over(before),
    )


def _in_micro(value: ir.FloatingValue) -> ir.IntegerValue:
    """Convert to integer millionths, because integer sums do not depend on the order of their terms."""
    return (value * _MICRO).round().cast("int64")


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


# DuckDB has no quantile functions for these distributions. Source: M. Abramowitz and I. A. Stegun
# (eds.), Handbook of Mathematical Functions, 1964: formula 26.2.23 for the normal distribution (error
# below 4.5e-4) and expansion 26.7.5 for Student's t.


def normal_quantile(tail: ir.FloatingValue) -> ir.FloatingValue:
    """Return the standard normal quantile for an upper-tail probability of at most one half."""
    t = (-2.0 * tail.ln()).sqrt()
    above = 2.515517 + t * (0.802853 + t * 0.010328)
    below = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    return t - above / below


def student_quantile(tail: ir.FloatingValue, freedom: ir.FloatingValue) -> ir.FloatingValue:
    """Return the quantile of Student's t-distribution for a small upper-tail probability.

    Args:
        tail: the upper-tail probability.
        freedom: degrees of freedom. From 10 on, the error is below 2% for tails down to 1e-5.
    """
    x = normal_quantile(tail)
    square = x * x
    terms = (
        (square + 1.0) * x / 4.0,
        ((5.0 * square + 16.0) * square + 3.0) * x / 96.0,
        (((3.0 * square + 19.0) * square + 17.0) * square - 15.0) * x / 384.0,
    )
    first, second, third = terms
    return x + (first + (second + third / freedom) / freedom) / freedom
