"""The activity page, and the page of each product, which shows its activity, users and adoption."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.lifecycle_page import states_figure
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold import gold_product_adoption as adoption
from monstera_assets.gold import gold_segment_metrics as segment_metrics
from monstera_assets.gold.gold_state_transition_metrics import PRODUCT
from monstera_assets.gold.gold_users_active_daily import USERS_ACTIVE
from monstera_assets.gold.metrics import MetricTable
from monstera_assets.gold.published_ids import published_id
from monstera_assets.silver.silver_user_product_state_intervals import ADOPTED_STATES
from monstera_assets.silver.silver_workflow_funnel import TABLE as FUNNEL
from monstera_assets.warehouse.errors import MissingTableError

_EVENTS = activity.EVENTS_QUALIFYING
_PARTS, _CREATED = 8, 6
"""Maximum numbers of series in a chart and of tables of created entities."""
_TOTALS = dict.fromkeys(activity.WHAT[1:], ma.TOTAL)
_STATES = ("platform_state", "activity_state")
"""Dimensions that the lifecycle page shows."""
_ADOPTED = (*adoption.FUNNEL[1:], adoption.ADOPTION_RATE, adoption.ACTIVATION_RATE)
_RUNS = {activity.WORKFLOWS_STARTED: "Started", activity.WORKFLOWS_COMPLETED: "Completed"}


def activity_page(
    reader: ma.Reader, catalog: ma.Catalog, created: Sequence[MetricTable]
) -> ma.Page:
    """Create the activity page. `created` are the tables of created entities."""
    totals = product_totals(reader)
    by_product = ma.by_part(
        *("Events by product", reader.daily(activity.TABLE, **_TOTALS), _EVENTS, "product_id"),
        by="Product",
        top=_PARTS,
        named=catalog.published_name,
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


def product_totals(reader: ma.Reader, product: str | None = None) -> ma.Daily:
    """Return the totals for one product or all products from gold_activity_metrics."""
    of = published_id(product) if product else ma.TOTAL
    return reader.daily(activity.TABLE, product_id=of, **_TOTALS)


def kinds_of_events(
    reader: ma.Reader, catalog: ma.Catalog, product: str | None = None
) -> list[ma.Item]:
    """Return charts of events by location, event type and feature, in one product or in all."""
    where = {"product_id": published_id(product)} if product else {}
    daily, named = reader.daily(activity.TABLE, **where), catalog.published_name
    kinds = partial(ma.by_part, daily=daily, metric=_EVENTS, top=_PARTS)
    return [
        kinds("Events by location", dimension="location", by="Location"),
        kinds("Event types", dimension="event_type", by="Event Type"),
        kinds("Features", dimension="feature_id", by="Feature", without=[ma.NONE], named=named),
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
        reader.wording.trend_summary(metric, totals, weekly=True),
        ma.Chart("columns", fields, rows, ma.line_colors([unit])),
        ma.about(table, metric),
    )


@ma.item("Users by segment", "Users, in Segment Active Monthly, Last 18 Months, by Segment")
def _segments(reader: ma.Reader) -> ma.Item:
    metric = segment_metrics.SEGMENT_ACTIVE_MONTHLY
    found = reader.rows(
        f"SELECT segment_dimension, metric_date, segment_value, {metric.column_name}"
        f" FROM gold_segment_metrics WHERE {ma.WEEKLY_SQL} AND segment_dimension NOT IN {_STATES!r}"
        " ORDER BY ALL"
    )
    ma.require_any([metric], (users for *_, users in found))
    rows = [(ma.words(name), day, ma.words(value), users) for name, day, value, users in found]
    values = {
        ma.words(name): [ma.words(one) for one in ones if one != ma.NONE]
        for name, ones in segment_metrics.SEGMENT_VALUES.items()
        if name not in _STATES
    }
    colors = {
        name: color for ones in values.values() for name, color in ma.line_colors(ones).items()
    }
    dimension = ma.choice("dimension", "Dimension", [*values])
    shown = [row[2:] for row in rows if row[:2] == (dimension.default, reader.last)]
    whole, on = sum(count for _, count in shown), f"on {ma.day_text(reader.last)}"
    ranked = ma.ranking("active users", shown, whole=whole, when=on)
    fields = (dimension, ma.ON_DAY, ma.SERIES, *ma.fields("users/Users/,d"))
    return ma.Figure(
        f"{dimension.default}: {ma.lowered(ranked)}",
        ma.Chart("areas", fields, rows, {**colors, ma.words(ma.NONE): ma.SECONDARY}, 260),
        ma.about(segment_metrics.TABLE, metric),
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


def product_page(reader: ma.Reader, catalog: ma.Catalog, product: str) -> ma.Page:
    """Create a product's page."""
    totals = product_totals(reader, product)
    users = {USERS_ACTIVE: "Active", activity.USERS_PRESENT: "Present"}
    what = "Active and Present Daily"
    active = ma.trend("Active and present users", totals, users, what=what, wide=True)
    tiles = ma.tiles(totals, USERS_ACTIVE, _EVENTS, activity.WORKFLOWS_COMPLETED)
    events = ma.trend(
        *("Qualifying events", totals, {_EVENTS: "Events"}), what="Qualifying Weekly", added_up=True
    )
    return ma.Page(
        ma.page_file("product", product),
        catalog.name(product),
        "Who uses the product, for what, and who stopped. In use means active in the last 30 days,"
        " unless the catalog sets another window.",
        [*tiles, *_tiles_to_date(reader, product)],
        [
            ma.Section("Users", [active]),
            ma.Section(
                "States",
                [_product_states(reader, product)],
                "All users who ever accessed the product.",
            ),
            ma.Section("Events", [events, *kinds_of_events(reader, catalog, product)]),
            ma.Section("Workflows", workflows(totals), "Runs whose first step is in the product."),
        ],
        up=[ma.Link("Products", "products.html")],
        below=[
            ma.Link(catalog.name(one), ma.page_file("product", one))
            for one in catalog.products
            if one != product
        ],
        below_heading="Other products",
    )


@ma.item("States over time", "Users, in State Daily, Last 18 Months, by State")
def _product_states(reader: ma.Reader, product: str) -> ma.Item:
    # One query for the pages of all products.
    found = reader.rows(
        "SELECT segment_value, metric_date, state, members_in_state_daily FROM gold_state_distribution"
        f" WHERE {ma.WEEKLY_SQL} AND scope = $scope ORDER BY ALL",
        scope=PRODUCT,
    )
    rows = [row[1:] for row in found if row[0] == product]
    ma.require(any(users for *_, users in rows), "No users have accessed the product.")
    return states_figure(reader, "Users", (ma.ON_DAY,), rows, ADOPTED_STATES)


def _tiles_to_date(reader: ma.Reader, product: str) -> list[ma.Tile]:
    """Return tiles with the adoption metrics of a product, if they are known."""
    try:
        found = reader.by_key(adoption.TABLE, "product_id").get(product, {})
    except MissingTableError:
        return []
    text, source = reader.wording.text, adoption.TABLE.qualified_name
    return [
        ma.Tile(one.name, text(one, found[one]), ma.definition(one), source, note="latest day")
        for one in _ADOPTED
        if one in found
    ]
