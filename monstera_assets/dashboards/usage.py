"""Figures for workflows and for events by feature, type and location, per product or in total."""

from __future__ import annotations

from collections.abc import Callable

from monstera_assets.bronze.event_rules import LOCATIONS
from monstera_assets.dashboards import authoring as ma
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold.published_ids import NONE, published_id

_SHOWN = 10
_BY = {"event_type": "Event Type", "feature_id": "Feature", "location": "Location"}
_EVENTS = activity.EVENTS_QUALIFYING
TOTALS = dict.fromkeys(activity.WHAT[1:], ma.TOTAL)
"""Values of dimensions other than `product_id` in the product totals in gold_activity_metrics."""


def product_totals(reader: ma.Reader, product: ma.Product | None) -> ma.Daily:
    """Return the totals for one product or all products from gold_activity_metrics."""
    return reader.daily(activity.TABLE, product_id=_published(product) or ma.TOTAL, **TOTALS)


def _published(product: ma.Product | None) -> str | None:
    return published_id(product.id) if product else None


@ma.item(lambda dimension, period: ma.title(_EVENTS, period.name, _BY[dimension]))
def features(
    heading: str,
    reader: ma.Reader,
    dimension: str,
    period: ma.Timeframe,
    product: ma.Product | None,
    name: Callable[[str], str],
) -> ma.Item:
    """Chart the features or event types with the most qualifying events in a period."""
    frame = reader.frame(period)
    rows, rest = reader.most(
        activity.TABLE,
        [dimension],
        _EVENTS,
        f"WHERE metric_date BETWEEN ? AND ? AND event_type <> ? AND {dimension} <> ?"
        f" AND {_EVENTS.column_name} > 0 AND (? IS NULL OR product_id = ?)",
        [*(frame.first, frame.last, ma.TOTAL, NONE), *[_published(product)] * 2],
        _SHOWN,
    )
    return ma.bars(
        heading,
        "qualifying events",
        [(name(value), events) for value, events in rows],
        ma.about([_EVENTS], activity.TABLE),
        name=_BY[dimension],
        share=True,
        rest=rest,
    )


@ma.item(lambda period: ma.title(_EVENTS, period.name, "Location and Week"))
def by_location(
    heading: str, reader: ma.Reader, period: ma.Timeframe, product: ma.Product | None
) -> ma.Item:
    """Plot qualifying events by location and week."""
    frame = reader.frame(period, ma.WEEK)
    where = {"product_id": _published(product)} if product else {}
    daily = reader.daily(activity.TABLE, **where)
    found = daily.by_segment(
        _EVENTS, "location", frame, top=len(LOCATIONS), added_up=True, without=ma.TOTAL
    ).shown
    # Every computed day has a total, so a week with fewer than seven totals is incomplete.
    whole = product_totals(reader, product).by_week([_EVENTS], frame)[_EVENTS]
    values = [
        (
            ma.words(place),
            [
                None if in_all is None else events
                for events, in_all in zip(found[place], whole, strict=True)
            ],
        )
        for place in sorted(found)
    ]
    described = ma.about([_EVENTS], activity.TABLE)
    what = _EVENTS.unit.value
    return ma.small_lines(heading, frame.whole_weeks, what, values, described, added_up=True)


def workflow_figures(
    reader: ma.Reader, period: ma.Timeframe, product: ma.Product | None
) -> list[ma.Item]:
    """Return figures for workflow runs: started and completed runs, completion rate and duration."""
    totals = product_totals(reader, product)
    return [
        runs_by_week(totals, period),
        ma.trend(totals, {activity.COMPLETION_RATE: "Completed"}, period),
        ma.trend(totals, {activity.HOURS_TO_COMPLETE: "Hours"}, period),
    ]


@ma.item(
    lambda period: ma.headline("Workflows", "Started and Completed Daily", period.name, "Week")
)
def runs_by_week(heading: str, totals: ma.Daily, period: ma.Timeframe) -> ma.Item:
    """Plot workflow runs started and completed per week."""
    labels = {activity.WORKFLOWS_STARTED: "Started", activity.WORKFLOWS_COMPLETED: "Completed"}
    frame = totals.reader.frame(period)
    days, values = frame.whole_weeks, totals.by_week(labels, frame)
    if not any(value for one in values.values() for value in one):
        return ma.Unavailable(heading, "No workflows were started or completed in this period.")
    finding = " ".join(
        totals.reader.wording.total(metric, ma.points(days, one), "week")
        for metric, one in values.items()
    )
    return ma.line_figure(heading, finding, days, labels, values, totals, first_heading=ma.WEEK_TO)
