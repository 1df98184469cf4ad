"""Findings: sentences that summarize a chart, computed from its numbers.

A finding is shown below the title and also serves as the chart's alternative text. The metric's
declaration determines the number format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from monstera_assets.dashboards.model import Change, count_text, day_text, plural
from monstera_assets.gold.metrics import COUNTS, Metric, Unit, money_text
from monstera_assets.gold.published_ids import TOTAL
from monstera_assets.settings import Settings

_IN_POINTS = (Unit.SHARE, Unit.RETENTION)
_ABSOLUTE = {Unit.SCORE: "{:+.1f}", Unit.RATIO: "{:+.2f}"}
"""Formats of the differences of units whose changes are shown as differences."""
_LARGE_AMOUNT = 100
"""Amount of money from which pages show whole units of the currency."""
_COMPARED_DAYS = 28
"""Number of days over which findings compare values: from the start, a company only grows."""
_SMALLEST_PART = 0.0005
"""Smallest relative change to show. Smaller changes would be shown as 0.0%."""
_LARGEST_PART = 10.0
"""Largest relative change to show, which is elevenfold. Percentages above 1,000% are hard to read."""


@dataclass(frozen=True)
class Point:
    """A day and its value, which is None if unknown."""

    day: date
    value: Any


@dataclass(frozen=True)
class Wording:
    """How the pages of a site express amounts and changes: with one currency for all money.

    A change from less than `minimum_base` is shown as the two values, not as a percentage.
    """

    currency: str
    minimum_base: float

    @classmethod
    def of(cls, settings: Settings) -> Wording:
        """Return the wording for the settings: `minimum_base` is `min_alert_population`."""
        policy = settings.policy
        return cls(policy.reporting_currency, policy.alerts.min_alert_population)

    def text(self, metric: Metric, value: Any) -> str:
        """Format a metric's value."""
        if metric.unit.is_money and value is not None:
            return self.money(value)
        return metric.format(value, self.currency)

    def money(self, amount: Any) -> str:
        """Format an amount of money, without decimal places if it is large."""
        if abs(amount) >= _LARGE_AMOUNT:
            return f"{amount:,.0f} {self.currency}"
        return money_text(amount, self.currency)

    def trend_summary(
        self, metric: Metric, points: Sequence[Point], *, brief: bool = False, weekly: bool = False
    ) -> str:
        """Describe the change in 4 weeks to the last known value, and the highest unless `brief`.

        If no value is known 4 weeks earlier or before, the change is that from the first value. The
        values of a daily metric are sums of seven days if `weekly` is set.
        """
        name = metric.name.replace(" Daily", " Weekly") if weekly else metric.name
        known = [point for point in points if point.value is not None]
        if not known:
            return f"{name} has no known values in this period."
        last = known[-1]
        earlier = [point for point in known if (last.day - point.day).days >= _COMPARED_DAYS]
        first = earlier[-1] if earlier else known[0]
        old, new = self.text(metric, first.value), self.text(metric, last.value)
        if len(known) == 1:
            return f"{name} was {old} on {day_text(first.day)}, the only day with a value."
        highest = max(known, key=lambda point: point.value)
        days = (last.day - first.day).days
        if new == old:
            change = f"{name} is {new}, the same as {plural(days, 'day')} earlier"
        else:
            verb = "rose" if last.value > first.value else "fell"
            by = self.difference(metric, first.value, last.value, "points")
            part = f" ({by})" if by else ""
            change = f"{name} {verb} from {old} to {new}{part} in {plural(days, 'day')}"
        unknown = "" if last == points[-1] else f" No value is known after {day_text(last.day)}."
        if brief:
            return f"{change}.{unknown}"
        most = self.text(metric, highest.value)
        return f"{change}. The highest value was {most} on {day_text(highest.day)}.{unknown}"

    def week_on_week(self, metric: Metric, now: Any, then: Any) -> Change:
        """Return the change from a week earlier, as both values if a percentage would mislead."""
        if now is None or then is None:
            return Change("unknown", "change not known")
        old, new = self.text(metric, then), self.text(metric, now)
        if new == old:
            return Change("flat", "unchanged")
        direction = "up" if now > then else "down"
        by = self.difference(metric, then, now, "pts")
        if not by:
            return Change(direction, f"from {old} to {new}")
        return Change(direction, f"{by} from {old}")

    def difference(self, metric: Metric, first: Any, last: Any, points: str) -> str:
        """Return the change between two values, or an empty string if only the values are shown."""
        if metric.unit in _IN_POINTS:
            return f"{(last - first) * 100:+.1f} {points}"
        if metric.unit in _ABSOLUTE:
            return _ABSOLUTE[metric.unit].format(last - first)
        is_amount = metric.unit in COUNTS or metric.unit.is_money
        is_small = is_amount and first < self.minimum_base
        if metric.unit is Unit.CHANGE or first <= 0 or is_small:
            return ""
        part = float(last - first) / float(first)
        return f"{part:+,.1%}" if _SMALLEST_PART <= abs(part) <= _LARGEST_PART else ""


def ranking(
    what: str,
    parts: Iterable[tuple[str, Any]],
    *,
    whole: float | None = None,
    when: str = "",
    text: Callable[[Any], str] = count_text,
) -> str:
    """List the categories with the highest and second-highest values.

    `what` is counted, such as `users`. `whole` is the count in all categories, if they are parts of a
    whole: the highest value is then also shown as a share of it. `when` starts the sentence.
    """
    when, values = f"{when}, " if when else "", [*parts]
    most = max((value for _, value in values), default=0)
    if not most:
        return _capital(f"{when}there are no {what}.")
    part = f" ({most / whole:.1%} of {count_text(int(whole))})" if whole else ""
    (first, _), *rest = sorted((one for one in values if one[1]), key=lambda one: -one[1])
    second = f", followed by {rest[0][0]} with {text(rest[0][1])}" if rest else ""
    return _capital(f"{when}most {what}: {first} with {text(most)}{part}{second}.")


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def anomaly_name(measure: str, dimension: str, value: str, state: str) -> str:
    """Return what an anomaly was found in, such as `Share of churned users with country US`."""
    what = {
        "state_share": f"Share of {state.replace('_', ' ')} members",
        "active_share": "Share of monthly users who were active",
        "events_per_active_user": "Events per active user",
    }[measure]
    return what if dimension == TOTAL else f"{what} with {dimension.replace('_', ' ')} {value}"


def anomaly_text(measure: str, observed: float, expected: float) -> str:
    """Return an anomaly's observed and expected values."""
    form = ",.1f" if measure == "events_per_active_user" else ".1%"
    return f"{observed:{form}}, expected {expected:{form}}."
