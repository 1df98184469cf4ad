"""The page of each product: its users, adoption, states, events and workflows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.activity_page import kinds_of_events, product_totals, workflows
from monstera_assets.dashboards.lifecycle_page import states_figure
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold import gold_product_adoption as adoption
from monstera_assets.gold.gold_state_transition_metrics import PRODUCT
from monstera_assets.gold.gold_users_active_daily import USERS_ACTIVE
from monstera_assets.gold.metrics import Metric
from monstera_assets.silver.silver_user_product_state_intervals import ADOPTED_STATES
from monstera_assets.warehouse.errors import MissingTableError

_FUNNEL = dict(zip(("Eligible", "Tried", "Activated", "In use"), adoption.FUNNEL, strict=True))


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
        "Who uses the product, for what, and who stopped.",
        [*tiles, *_tiles_to_date(reader, product)],
        [
            ma.Section("Users", [active, _funnel(reader, product)]),
            ma.Section(
                "States",
                [_states_over_time(reader, product), _states_now(reader, product)],
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
def _funnel(reader: ma.Reader, product: ma.Product) -> ma.Item:
    values = _adoption(reader, product, _FUNNEL.values())
    described = ma.about(adoption.TABLE, *_FUNNEL.values())
    made = ma.bars("users", zip(_FUNNEL, values, strict=True), described, name="Step")
    eligible, tried, _, in_use = map(ma.count_text, values)
    finding = f"{tried} of {eligible} users tried the product, and {in_use} use it now."
    return replace(made, finding=finding)


@ma.item("States over time", "Users, in State Daily, Last 18 Months, by State")
def _states_over_time(reader: ma.Reader, product: ma.Product) -> ma.Item:
    # One query for all products.
    found = reader.rows(
        "SELECT segment_value, metric_date, state, members_in_state_daily FROM gold_state_distribution"
        f" WHERE {ma.WEEKLY_SQL} AND scope = $scope ORDER BY ALL",
        scope=PRODUCT,
    )
    rows = [row[1:] for row in found if row[0] == product.id]
    ma.require(any(users for *_, users in rows), "No users have accessed the product.")
    return states_figure(reader, "Users", (ma.ON_DAY,), rows, ADOPTED_STATES)


@ma.item("States now", "Users, in State to Date, Latest Day, by State")
def _states_now(reader: ma.Reader, product: ma.Product) -> ma.Item:
    states = {state: adoption.USERS_IN_STATE[state] for state in ADOPTED_STATES}
    values = _adoption(reader, product, states.values())
    rows = zip(map(ma.words, states), values, strict=True)
    described = ma.about(adoption.TABLE, *states.values())
    return ma.bars("users", rows, described, name="State", whole=True)


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


def _tiles_to_date(reader: ma.Reader, product: ma.Product) -> list[ma.Tile]:
    metrics = (adoption.USERS_IN_USE, adoption.ADOPTION_RATE, adoption.ACTIVATION_RATE)
    source, text = adoption.TABLE.qualified_name, reader.wording.text
    try:
        values = zip(metrics, _adoption(reader, product, metrics), strict=True)
    except (MissingTableError, ma.NothingToShowError):
        return []
    return [
        ma.Tile(one.name, text(one, value), ma.definition(one), source, note="all time")
        for one, value in values
    ]


def _adoption(reader: ma.Reader, product: ma.Product, metrics: Iterable[Metric]) -> list[Any]:
    """Return adoption metrics for a product."""
    found = reader.by_key(adoption.TABLE, "product_id").get(product.id, {})
    ma.require(found, "The adoption table has no row for this product.")
    return [found[metric] for metric in metrics]
