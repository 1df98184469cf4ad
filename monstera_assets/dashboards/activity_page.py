"""The activity page, and the page of each product, which shows its activity, users and adoption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from typing import Any

from monstera_assets.bronze.event_rules import LOCATIONS
from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.lifecycle_page import states_figure
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold import gold_product_adoption as adoption
from monstera_assets.gold import gold_segment_metrics as segment_metrics
from monstera_assets.gold import gold_state_distribution as distribution
from monstera_assets.gold.gold_state_transition_metrics import PRODUCT
from monstera_assets.gold.gold_users_active_daily import USERS_ACTIVE
from monstera_assets.gold.metrics import Metric, MetricTable
from monstera_assets.gold.published_ids import published_id
from monstera_assets.lifecycle.products import IN_USE
from monstera_assets.silver.silver_user_product_state_intervals import ADOPTED_STATES
from monstera_assets.silver.silver_workflow_funnel import TABLE as FUNNEL
from monstera_assets.warehouse.errors import MissingTableError

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
_RUNS = {activity.WORKFLOWS_STARTED: "Started", activity.WORKFLOWS_COMPLETED: "Completed"}

_FUNNEL = dict(zip(("Eligible", "Tried", "Activated", "In use"), adoption.FUNNEL, strict=True))


def activity_page(
    reader: ma.Reader, catalog: ma.Catalog, created: Sequence[MetricTable]
) -> ma.Page:
    """Create the activity page. `created` are the tables of created entities."""
    totals = product_totals(reader)
    by_product = ma.by_part(
        *("Events by product", reader.daily(activity.TABLE, **_TOTALS), _EVENTS, "product_id"),
        by="Product",
        top=_PRODUCTS,
        named=catalog.published_name,
        wide=True,
    )
    return ma.Page(
        "activity.html",
        "Activity",
        "What people do, where, and in which products.",
        ma.tiles(totals, _EVENTS, USERS_ACTIVE, activity.USERS_PRESENT, *_RUNS),
        [
            ma.Section("Events", [by_product, *kinds_of_events(reader, catalog)]),
            ma.Section("Created", [_created_by_week(reader, one) for one in created[:_CREATED]]),
            ma.Section("Segments", [_segments(reader)]),
            ma.Section("Workflows", [_funnel(reader), *workflows(totals)]),
        ],
    )


def product_totals(reader: ma.Reader, product: ma.Product | None = None) -> ma.Daily:
    """Return the totals for one product or all products from gold_activity_metrics."""
    of = published_id(product.id) if product else ma.TOTAL
    return reader.daily(activity.TABLE, product_id=of, **_TOTALS)


def kinds_of_events(
    reader: ma.Reader, catalog: ma.Catalog, product: ma.Product | None = None
) -> list[ma.Item]:
    """Return charts of events by location, event type and feature, in one product or in all."""
    where = {"product_id": published_id(product.id)} if product else {}
    daily, named = reader.daily(activity.TABLE, **where), catalog.published_name
    kinds = partial(ma.by_part, daily=daily, metric=_EVENTS, top=_KINDS, ranked=True)
    places = partial(ma.by_part, daily=daily, metric=_EVENTS, top=len(LOCATIONS))
    without = [ma.TOTAL, ma.NONE]
    return [
        places("Events by location", dimension="location", by="Location"),
        kinds("Event types", dimension="event_type", by="Event Type"),
        kinds("Features", dimension="feature_id", by="Feature", without=without, named=named),
    ]


def workflows(totals: ma.Daily) -> list[ma.Item]:
    """Return charts of workflow runs: started and completed runs, completion rate and duration."""
    rate, hours = {activity.COMPLETION_RATE: "Completed"}, {activity.HOURS_TO_COMPLETE: "Hours"}
    what = "Started and Completed Weekly"
    runs = ma.trend("Started and completed runs", totals, _RUNS, what=what, added_up=True)
    if not isinstance(runs, ma.Figure):
        return [runs]
    return [
        *(runs, ma.trend("Completion rate", totals, rate)),
        ma.trend("Hours to complete", totals, hours),
    ]


@ma.item(
    lambda table, **_: " ".join(table.metrics[0].name.split()[:2]).capitalize(),
    lambda table, **_: ma.title(table.metrics[0], "Week"),
)
def _created_by_week(reader: ma.Reader, table: MetricTable) -> ma.Item:
    [metric], unit = table.metrics, table.metrics[0].unit.value.title()
    ma.require_any([metric], reader.weeks)
    rows = reader.rows(
        f"SELECT {ma.WEEK_SQL} AS week, {ma.SEGMENT_SQL} AS segment, '{unit}' AS series,"
        f" CAST(sum({metric.column_name}) AS BIGINT) FROM {table.name}"
        f" WHERE {ma.DAYS_SQL} AND {ma.WEEK_SQL} >= $start GROUP BY ALL ORDER BY week, segment",
        start=reader.weeks[0],
    )
    totals = [ma.Point(week, count) for week, part, _, count in rows if part == ma.TOTAL]
    ma.require_any([metric], (point.value for point in totals))
    fields = (ma.ON_DAY, ma.SEGMENT, ma.SERIES, ma.metric_field(metric))
    return ma.Figure(
        reader.wording.total(metric, totals, "week"),
        ma.Chart("columns", fields, rows, ma.line_colors([unit])),
        ma.about(table, metric),
    )


@ma.item("Users by segment", "Users, in Segment Active Monthly, Last 18 Months, by Segment")
def _segments(reader: ma.Reader) -> ma.Item:
    columns = ", ".join(metric.column_name for metric in _COUNTED.values())
    found = reader.rows(
        f"SELECT segment_dimension, metric_date, segment_value, {columns} FROM gold_segment_metrics"
        f" WHERE {ma.WEEKLY_SQL} AND segment_dimension NOT IN {_STATES!r} ORDER BY ALL"
    )
    ma.require_any(_COUNTED.values(), (value for row in found for value in row[3:]))
    rows = [
        (ma.words(dimension), label, day, ma.words(value), count)
        for dimension, day, value, *counts in found
        for label, count in zip(_COUNTED, counts, strict=True)
    ]
    values = {
        ma.words(name): [ma.words(one) for one in ones if one != ma.NONE]
        for name, ones in segment_metrics.SEGMENT_VALUES.items()
        if name not in _STATES
    }
    colors = {
        name: color for ones in values.values() for name, color in ma.line_colors(ones).items()
    }
    fields = (
        ma.choice("dimension", "Dimension", [*values]),
        ma.choice("counted", "Users", [*_COUNTED]),
        *(ma.ON_DAY, ma.SERIES, *ma.fields("users/Users/,d")),
    )
    first, active = next(iter(values)), next(iter(_COUNTED))
    shown = [row[3:] for row in rows if row[:3] == (first, active, reader.last)]
    whole, on = sum(count for _, count in shown), f"on {ma.day_text(reader.last)}"
    ranked = ma.ranking("active users", shown, whole=whole, when=on)
    return ma.Figure(
        f"{first}: {ma.lowered(ranked)}",
        ma.Chart("areas", fields, rows, {**colors, ma.words(ma.NONE): ma.SECONDARY}, 260),
        ma.about(segment_metrics.TABLE, *_COUNTED.values()),
        wide=True,
    )


@ma.item("How far runs come", "Workflows, Runs Reaching a Step, to Date, by Step")
def _funnel(reader: ma.Reader) -> ma.Item:
    rows = reader.rows(
        "SELECT CASE WHEN count(DISTINCT workflow_id) OVER (PARTITION BY workflow_name) > 1"
        " THEN workflow_name || ' (' || workflow_id || ')' ELSE workflow_name END AS workflow,"
        " position || '. ' || event_type AS step, runs_reached, reach_rate, runs_started, is_last_step"
        " FROM silver_workflow_funnel ORDER BY runs_started DESC, workflow_id, position"
    )
    ma.require(any(row[2] for row in rows), "No workflow runs were started.")
    found = [
        f"{name}: {reached:,} of {started:,} runs ({rate:.1%}) reached the last step"
        for name, _, reached, rate, started, is_last in rows
        if is_last and started
    ]
    fields = (
        ma.choice("workflow", "Workflow", [*dict.fromkeys(row[0] for row in rows)]),
        *ma.fields("step/Step", "runs/Runs/,d", "share/Share of started/.1%"),
    )
    shown = [(name, ma.words(step), reached, rate) for name, step, reached, rate, *_ in rows]
    return ma.Figure(
        f"{'; '.join(found[:3])}.",
        ma.Chart("bars", fields, shown),
        ma.about(FUNNEL, "workflow_name", "runs_reached", "reach_rate"),
    )


def product_page(reader: ma.Reader, catalog: ma.Catalog, product: ma.Product) -> ma.Page:
    """Create a product's page."""
    totals = product_totals(reader, product)
    users = {USERS_ACTIVE: "Active", activity.USERS_PRESENT: "Present"}
    what = "Active and Present Daily"
    active = ma.trend("Active and present users", totals, users, what=what, wide=True)
    tiles = ma.tiles(totals, USERS_ACTIVE, activity.EVENTS_QUALIFYING, activity.WORKFLOWS_COMPLETED)
    return ma.Page(
        product.file,
        product.name,
        "Who uses the product, for what, and who stopped. In use means active in the last 30 days,"
        " unless the catalog sets another window.",
        [*tiles, *_tiles_to_date(reader, product)],
        [
            ma.Section("Users", [active, _adoption_funnel(reader, product)]),
            ma.Section(
                "States",
                [_product_states(reader, product)],
                "All users who ever accessed the product.",
            ),
            ma.Section("Events", [_events(totals), *kinds_of_events(reader, catalog, product)]),
            ma.Section("Workflows", workflows(totals), "Runs whose first step is in the product."),
        ],
        up=[ma.Link("Products", "products.html")],
        below=[ma.Link(one.name, one.file) for one in catalog.products if one != product],
        below_heading="Other products",
    )


@ma.item("Adoption funnel", "Users, Eligible, Tried, Activated and in Use, to Date")
def _adoption_funnel(reader: ma.Reader, product: ma.Product) -> ma.Item:
    values = _adoption(reader, product, _FUNNEL.values())
    described = ma.about(adoption.TABLE, *_FUNNEL.values())
    made = ma.bars("users", zip(_FUNNEL, values, strict=True), described, name="Step")
    eligible, tried, _, in_use = map(ma.count_text, values)
    finding = f"{tried} of {eligible} users tried the product, and {in_use} use it now."
    return replace(made, finding=finding)


@ma.item("States over time", "Users, in State Daily, Last 18 Months, by State")
def _product_states(reader: ma.Reader, product: ma.Product) -> ma.Item:
    rows = [row[1:] for row in _states_by_week(reader) if row[0] == product.id]
    ma.require(any(users for *_, users in rows), "No users have accessed the product.")
    return states_figure(reader, "Users", (ma.ON_DAY,), rows, ADOPTED_STATES)


@ma.item("Qualifying events", ma.title(activity.EVENTS_QUALIFYING))
def _events(totals: ma.Daily) -> ma.Item:
    metric, reader = activity.EVENTS_QUALIFYING, totals.reader
    days = reader.every(1)
    by_grain = {
        "Week": (reader.weeks, totals.by_week([metric])[metric]),
        "Day": (days, totals.on([metric], days)[metric]),
    }
    values = by_grain["Day"][1]
    ma.require_any([metric], values)
    rows = [
        (grain, day, "Events", value)
        for grain, (ends, counts) in by_grain.items()
        for day, value in zip(ends, counts, strict=True)
    ]
    grain = ma.choice("grain", "Grain", [*by_grain])
    fields = (grain, ma.ON_DAY, ma.SERIES, ma.metric_field(metric))
    return ma.Figure(
        reader.wording.total(metric, ma.points(days, values), "day"),
        ma.Chart("columns", fields, rows, ma.line_colors(["Events"])),
        ma.about(totals.table, metric),
        wide=True,
    )


def _states_by_week(reader: ma.Reader) -> ma.Rows:
    """Return product, day, state and users on each last day of a week, of all products."""
    return reader.rows(
        "SELECT segment_value, metric_date, state, members_in_state_daily FROM gold_state_distribution"
        f" WHERE {ma.WEEKLY_SQL} AND scope = $scope ORDER BY ALL",
        scope=PRODUCT,
    )


def _tiles_to_date(reader: ma.Reader, product: ma.Product) -> list[ma.Tile]:
    metrics = (adoption.ADOPTION_RATE, adoption.ACTIVATION_RATE)
    source, wording, used = adoption.TABLE.qualified_name, reader.wording, adoption.USERS_IN_USE
    in_use: Counter[date] = Counter()
    try:
        values = zip(metrics, _adoption(reader, product, metrics), strict=True)
        for own, day, state, users in _states_by_week(reader):
            in_use[day] += users * (own == product.id and state in IN_USE)
    except (MissingTableError, ma.NothingToShowError):
        return []
    now, then = in_use[reader.last], in_use.get(reader.last - timedelta(days=ma.WEEK))
    defined = replace(ma.definition(used), name="Users in Use Daily")
    of, change = distribution.TABLE.qualified_name, wording.week_on_week(used, now, then)
    tiles = [ma.Tile(defined.name, f"{now:,}", defined, of, change, short_name="Users in use now")]
    for one, value in values:
        text, meaning = wording.text(one, value), ma.definition(one)
        tiles.append(ma.Tile(one.name, text, meaning, source, note="all time"))
    return tiles


def _adoption(reader: ma.Reader, product: ma.Product, metrics: Iterable[Metric]) -> list[Any]:
    """Return adoption metrics for a product."""
    found = reader.by_key(adoption.TABLE, "product_id").get(product.id, {})
    ma.require(found, "The adoption table has no row for this product.")
    return [found[metric] for metric in metrics]
