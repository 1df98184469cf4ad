"""Figures of use: events by feature, type and place, and workflows, of a product or of all."""

from __future__ import annotations

from collections.abc import Callable

from monstera_assets.dashboards.charts import Series, line_chart
from monstera_assets.dashboards.design import Timeframe, headline, title, words
from monstera_assets.dashboards.figures import about, attempt, bars, segment_figure, trend
from monstera_assets.dashboards.findings import Point, total
from monstera_assets.dashboards.model import Cell, Figure, Item, Unavailable, table
from monstera_assets.dashboards.reading import WEEK, Reader
from monstera_assets.dashboards.structure import Product
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold.segments import TOTAL

_SHOWN = 10
_BY = {"event_type": "Event Type", "feature_id": "Feature", "location": "Location"}
_TOTALS = dict.fromkeys(("feature_id", "event_type", "location"), TOTAL)


def product_totals(product: Product | None) -> dict[str, str]:
    """The rows of gold_activity_metrics that are totals, of a product or of all."""
    return {"product_id": product.id if product else TOTAL, **_TOTALS}


def features(
    reader: Reader,
    dimension: str,
    period: Timeframe,
    product: Product | None,
    name: Callable[[str], str],
) -> Item:
    """Qualifying events of a period by feature or type, those with most."""
    metric = activity.EVENTS_QUALIFYING
    heading = title(metric, period.name, _BY[dimension])

    def build() -> Item:
        frame = reader.frame(period)
        only = "AND product_id = ?" if product else ""
        rows = reader.rows(
            [activity.TABLE],
            f"SELECT {dimension}, CAST(sum({metric.column_name}) AS BIGINT) AS events"
            f" FROM {activity.TABLE.qualified_name}"
            f" WHERE metric_date BETWEEN ? AND ? AND event_type <> ? AND {dimension} <> ? {only}"
            f" GROUP BY ALL HAVING events > 0 ORDER BY events DESC, {dimension} LIMIT ?",
            [
                frame.first,
                frame.last,
                TOTAL,
                activity.NONE,
                *([product.id] if product else []),
                _SHOWN,
            ],
        )
        return bars(
            heading,
            "qualifying events",
            [(name(value), events, metric.format(events)) for value, events in rows],
            about([metric], [activity.TABLE]),
            name=_BY[dimension],
            value="Events",
        )

    return attempt(heading, build)


def by_kind(reader: Reader, dimension: str, period: Timeframe, product: Product | None) -> Item:
    """Qualifying events by week and place."""
    metric = activity.EVENTS_QUALIFYING
    heading = title(metric, period.name, f"{_BY[dimension]} and Week")

    def build() -> Item:
        frame = reader.frame(period, WEEK)
        only = "AND product_id = ?" if product else ""
        rows = reader.rows(
            [activity.TABLE],
            f"SELECT {dimension}, metric_date + CAST((? - metric_date) % {WEEK} AS INTEGER) AS day,"
            f" CAST(sum({metric.column_name}) AS BIGINT) FROM {activity.TABLE.qualified_name}"
            f" WHERE metric_date BETWEEN ? AND ? AND event_type <> ? {only} GROUP BY ALL"
            f" ORDER BY {dimension}, day",
            [frame.last, frame.first, frame.last, TOTAL, *([product.id] if product else [])],
        )
        # The table has a total for each of its days; a week without all of them is not known.
        whole = reader.by_week(activity.TABLE, [metric], frame, product_totals(product))[metric]
        found: dict[str, dict[object, int]] = {}
        for value, day, events in rows:
            found.setdefault(value, {})[day] = events
        values = {
            words(value): [
                None if in_all is None else numbers.get(day, 0)
                for day, in_all in zip(frame.whole_weeks, whole, strict=True)
            ]
            for value, numbers in found.items()
        }
        return segment_figure(heading, frame.whole_weeks, metric, values, activity.TABLE)

    return attempt(heading, build)


def workflow_figures(reader: Reader, period: Timeframe, product: Product | None) -> list[Item]:
    """Workflow runs begun and completed, how many of them were, and how long that took."""
    where = product_totals(product)
    return [
        runs_by_week(reader, period, product),
        trend(reader, activity.TABLE, {activity.COMPLETION_RATE: "Completed"}, period, where=where),
        trend(reader, activity.TABLE, {activity.HOURS_TO_COMPLETE: "Hours"}, period, where=where),
    ]


def runs_by_week(reader: Reader, period: Timeframe, product: Product | None) -> Item:
    """Workflow runs started and completed, week by week."""
    metrics = {activity.WORKFLOWS_STARTED: "Started", activity.WORKFLOWS_COMPLETED: "Completed"}
    heading = headline("Workflows", "Started and Completed Daily", period.name, "Week")

    def build() -> Item:
        frame = reader.frame(period)
        days = frame.whole_weeks
        values = reader.by_week(activity.TABLE, [*metrics], frame, product_totals(product))
        if not any(value for one in values.values() for value in one):
            return Unavailable(heading, "No workflow was started or completed in these weeks.")
        return Figure(
            title=heading,
            finding=" ".join(
                total(metric, [Point(*pair) for pair in zip(days, one, strict=True)], "week")
                for metric, one in values.items()
            ),
            drawing=line_chart(
                days,
                [
                    Series(
                        metrics[metric],
                        [None if value is None else float(value) for value in one],
                        metric.format(one[-1]),
                    )
                    for metric, one in values.items()
                ],
                activity.WORKFLOWS_STARTED.unit,
            ),
            table=table(
                ["Week to", *(metric.name for metric in metrics)],
                (
                    [
                        Cell(str(day)),
                        *(Cell(metric.format(one[n]), one[n]) for metric, one in values.items()),
                    ]
                    for n, day in reversed([*enumerate(days)])
                ),
            ),
            about=about(metrics, [activity.TABLE]),
        )

    return attempt(heading, build)
