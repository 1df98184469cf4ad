"""The activity page: events by product, place and kind, created content, segments and workflows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from monstera_assets.bronze.event_rules import LOCATIONS
from monstera_assets.dashboards import authoring as ma
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold import gold_segment_metrics as segment_metrics
from monstera_assets.gold.gold_users_active_daily import USERS_ACTIVE
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.gold.published_ids import NONE, published_id
from monstera_assets.silver.silver_workflow_funnel import TABLE as FUNNEL

_PERIOD = ma.LAST_18_MONTHS
_EVENTS = activity.EVENTS_QUALIFYING
_PRODUCTS, _KINDS, _CREATED = 8, 10, 6
"""Maximum numbers of products, of features or event types, and of tables of created entities."""
_TOTALS = dict.fromkeys(activity.WHAT[1:], ma.TOTAL)
_STATES = ("platform_state", "activity_state")
"""Dimensions that the lifecycle page shows."""
_COUNTED = {
    "Active in 30 days": segment_metrics.SEGMENT_ACTIVE_MONTHLY,
    "All users": segment_metrics.USERS_IN_SEGMENT,
}


def activity_page(
    reader: ma.Reader, catalog: ma.Catalog, created: Sequence[MetricTable]
) -> ma.Page:
    """Create the activity page. `created` are the tables of created entities."""
    totals = product_totals(reader)
    shown = (_EVENTS, USERS_ACTIVE, activity.USERS_PRESENT, *_RUNS)
    by_product = ma.by_part(
        "Events by product",
        reader.daily(activity.TABLE, **_TOTALS),
        _EVENTS,
        _PERIOD,
        by="Product",
        dimension="product_id",
        top=_PRODUCTS,
        without=[ma.TOTAL],
        named=catalog.published_name,
        wide=True,
    )
    return ma.Page(
        file=ma.ACTIVITY,
        title="Activity",
        lead="What people do, where, and in which products.",
        up=(ma.HOME_LINK,),
        tiles=ma.tiles(totals, shown),
        sections=(
            ma.section("Events", [by_product, *kinds_of_events(reader, catalog)]),
            ma.section("Created", [created_by_week(reader, table) for table in created[:_CREATED]]),
            ma.section("Segments", [segments(reader)]),
            ma.section("Workflows", [funnel(reader), *workflows(totals)]),
        ),
    )


def product_totals(reader: ma.Reader, product: ma.Product | None = None) -> ma.Daily:
    """Return the totals for one product or all products from gold_activity_metrics."""
    of = published_id(product.id) if product else ma.TOTAL
    return reader.daily(activity.TABLE, product_id=of, **_TOTALS)


def kinds_of_events(
    reader: ma.Reader, catalog: ma.Catalog, product: ma.Product | None = None
) -> list[ma.Item]:
    """Return figures for events by location, event type and feature, in one product or in all."""
    where = {"product_id": published_id(product.id)} if product else {}
    daily = reader.daily(activity.TABLE, **where)
    return [
        ma.by_part(
            name,
            daily,
            _EVENTS,
            _PERIOD,
            by=by,
            dimension=dimension,
            top=len(LOCATIONS) if dimension == "location" else _KINDS,
            without=[ma.TOTAL, NONE] if dimension == "feature_id" else [ma.TOTAL],
            named=catalog.published_name if dimension == "feature_id" else ma.words,
            ranked=dimension != "location",
        )
        for name, dimension, by in (
            ("Events by location", "location", "Location"),
            ("Event types", "event_type", "Event Type"),
            ("Features", "feature_id", "Feature"),
        )
    ]


_RUNS = {activity.WORKFLOWS_STARTED: "Started", activity.WORKFLOWS_COMPLETED: "Completed"}


def workflows(totals: ma.Daily) -> list[ma.Item]:
    """Return figures for workflow runs: started and completed runs, completion rate and duration."""
    rate, hours = {activity.COMPLETION_RATE: "Completed"}, {activity.HOURS_TO_COMPLETE: "Hours"}
    what = "Started and Completed Weekly"
    runs = ma.trend("Started and completed runs", totals, _RUNS, _PERIOD, what=what, added_up=True)
    if not isinstance(runs, ma.Figure):
        return [runs]
    return [
        runs,
        ma.trend("Completion rate", totals, rate, _PERIOD),
        ma.trend("Hours to complete", totals, hours, _PERIOD),
    ]


@ma.item(lambda table: ma.head(_created_name(table), *_parts(table), _PERIOD.name, by="Week"))
def created_by_week(heading: ma.Head, reader: ma.Reader, table: MetricTable) -> ma.Item:
    """Chart the number of created entities by complete week, in total and by segment."""
    [metric], frame = table.metrics, reader.frame(_PERIOD)
    weeks = frame.whole_weeks
    rows = reader.rows(
        [table],
        f"SELECT metric_date + CAST(($last - metric_date) % {ma.WEEK} AS INTEGER) AS week,"
        f" {ma.SEGMENT_SQL} AS segment, '{metric.unit.value.title()}' AS series,"
        f" CAST(sum({metric.column_name}) AS BIGINT) FROM {table.qualified_name}"
        " WHERE metric_date BETWEEN $first AND $last GROUP BY ALL ORDER BY week, segment",
        {
            "first": weeks[0] - timedelta(days=ma.WEEK - 1) if weeks else frame.last,
            "last": frame.last,
        },
    )
    totals = [ma.Point(week, count) for week, segment, _, count in rows if segment == ma.TOTAL]
    if not weeks or not any(point.value for point in totals):
        return ma.Unavailable(*heading, ma.nothing_known([metric]))
    value, colors = ma.metric_field(metric), ma.line_colors([metric.unit.value.title()])
    chart = ma.Chart(
        (ma.ON_DAY, ma.SEGMENT, ma.SERIES, value),
        rows,
        ma.charts.columns(ma.ON_DAY, value, colors),
        day=ma.ON_DAY.name,
        series=ma.SERIES.name,
        colors=colors,
        segment=ma.SEGMENT.name,
    )
    finding = reader.wording.total(metric, totals, "week")
    return ma.Figure(*heading, finding, chart, ma.about([metric], table))


@ma.item(
    ma.head("Users by segment", "Users", "in Segment Active Monthly", _PERIOD.name, by="Segment")
)
def segments(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Plot users by the values of a behavioral dimension on the last day of each week."""
    frame, source = reader.frame(_PERIOD), segment_metrics.TABLE
    columns = ", ".join(metric.column_name for metric in _COUNTED.values())
    found = reader.rows(
        [source],
        f"SELECT segment_dimension, metric_date, segment_value, {columns} FROM {source.qualified_name}"
        f" WHERE metric_date BETWEEN ? AND ? AND (? - metric_date) % {ma.WEEK} = 0"
        " AND segment_dimension NOT IN (?, ?) ORDER BY ALL",
        [frame.first, frame.last, frame.last, *_STATES],
    )
    if not any(value for *_, active, everybody in found for value in (active, everybody)):
        return ma.Unavailable(*heading, ma.nothing_known(_COUNTED.values()))
    chosen = [name for name in segment_metrics.SEGMENT_VALUES if name not in _STATES]
    dimension, counted = ma.Field("dimension", "Dimension"), ma.Field("counted", "Users")
    users = ma.Field("users", "Users", ",d")
    rows = [
        (ma.words(name), label, day, ma.words(value), count)
        for name, day, value, *counts in found
        for label, count in zip(_COUNTED, counts, strict=True)
    ]
    colors: dict[str, str] = {}
    for name in chosen:
        values = [
            ma.words(value) for value in segment_metrics.SEGMENT_VALUES[name] if value != NONE
        ]
        colors |= ma.line_colors(values)
    colors[ma.words(NONE)] = ma.SECONDARY
    chart = ma.Chart(
        (dimension, counted, ma.ON_DAY, ma.SERIES, users),
        rows,
        ma.charts.areas(ma.ON_DAY, users, colors),
        day=ma.ON_DAY.name,
        series=ma.SERIES.name,
        colors=colors,
        choices=(ma.Choice.of(dimension, map(ma.words, chosen)), ma.Choice.of(counted, _COUNTED)),
        height=260,
    )
    latest = [
        (ma.words(value), active, ma.count_text(active))
        for name, day, value, active, _ in found
        if day == frame.last and name == chosen[0]
    ]
    whole = sum(count for _, count, _ in latest)
    ranked = ma.ranking("active users", latest, whole=whole, when=f"on {ma.day_text(frame.last)}")
    finding = f"{ma.words(chosen[0])}: {ranked[0].lower()}{ranked[1:]}"
    return ma.Figure(*heading, finding, chart, ma.about(_COUNTED.values(), source), wide=True)


@ma.item(ma.head("How far runs come", "Workflows", "Runs Reaching a Step", "to Date", by="Step"))
def funnel(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Chart the runs of a workflow that reached each step."""
    rows = reader.rows(
        [FUNNEL],
        "SELECT CASE WHEN count(DISTINCT workflow_id) OVER (PARTITION BY workflow_name) > 1"
        " THEN workflow_name || ' (' || workflow_id || ')' ELSE workflow_name END AS workflow,"
        " position || '. ' || event_type AS step, runs_reached, reach_rate, runs_started, is_last_step"
        f" FROM {FUNNEL.qualified_name} ORDER BY runs_started DESC, workflow_id, position",
    )
    if not any(row[2] for row in rows):
        return ma.Unavailable(*heading, "No workflow runs were started.")
    workflow, step = ma.Field("workflow", "Workflow"), ma.Field("step", "Step")
    runs, share = ma.Field("runs", "Runs", ",d"), ma.Field("share", "Share of started", ".1%")
    chart = ma.Chart(
        (workflow, step, runs, share),
        [(name, ma.words(text), reached, rate) for name, text, reached, rate, _, _ in rows],
        ma.charts.bars(step, runs),
        choices=(ma.Choice.of(workflow, dict.fromkeys(name for name, *_ in rows)),),
    )
    found = [
        f"{name}: {reached:,} of {started:,} runs ({rate:.1%}) reached the last step"
        for name, _, reached, rate, started, is_last in rows
        if is_last and started
    ]
    names = ["workflow_name", "runs_reached", "reach_rate"]
    finding = f"{'; '.join(found[:3])}."
    return ma.Figure(*heading, finding, chart, ma.about_columns(FUNNEL, names))


def _created_name(table: MetricTable) -> str:
    entities, what = _parts(table)
    return f"{entities} {what.partition(' ')[0].lower()}"


def _parts(table: MetricTable) -> tuple[str, str]:
    entities, _, what = table.metrics[0].name.partition(" ")
    return entities, what
