"""The product views: Overall (90 days), Segment and Activity (18 months)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.usage import by_location, features, product_totals, workflow_figures
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold import gold_product_adoption as adoption
from monstera_assets.gold.gold_users_active_daily import USERS_ACTIVE
from monstera_assets.gold.metrics import Metric
from monstera_assets.silver.silver_user_product_state_history import TABLE as HISTORY
from monstera_assets.warehouse.errors import MissingTableError

_DAILY = (USERS_ACTIVE, activity.EVENTS_QUALIFYING, activity.WORKFLOWS_COMPLETED)
_TO_DATE = (adoption.USERS_IN_USE, adoption.ADOPTION_RATE, adoption.ACTIVATION_RATE)
_FUNNEL = dict(zip(("Eligible", "Tried", "Activated", "In Use"), adoption.FUNNEL, strict=True))
_STATES = {
    state: metric
    for state, metric in adoption.USERS_IN_STATE.items()
    if state is not ma.ProductState.NEVER_ADOPTED
}
_NO_ROW = "The adoption table has no row for this product."


def overall_page(reader: ma.Reader, catalog: ma.Catalog, product: ma.Product) -> ma.Page:
    """Create the page with a product's figures, weekly changes, and trends over 90 days."""
    period, totals = ma.LAST_90_DAYS, product_totals(reader, product)
    use = [
        ma.trend(
            totals,
            {USERS_ACTIVE: "Active", activity.USERS_PRESENT: "Present"},
            period,
            what="Active and Present Daily",
            wide=True,
        ),
        funnel(reader, product),
        ma.column_chart_figure(totals, activity.EVENTS_QUALIFYING, period, weekly=False),
        states_now(reader, product),
        ma.trend(totals, {activity.COMPLETION_RATE: "Completed"}, period),
    ]
    return ma.view_page(
        ma.OVERALL,
        catalog,
        product,
        "Product use and adoption on the latest day, compared with a week earlier, and over 90 days.",
        [ma.section("Use", use)],
        [*ma.tiles(totals, _DAILY), *_tiles_to_date(reader, product)],
    )


def segments_page(reader: ma.Reader, catalog: ma.Catalog, product: ma.Product) -> ma.Page:
    """Create the page that shows a product's users by state."""
    states = ma.section(
        "States",
        [states_over_time(reader, product), states_now(reader, product)],
        "Users who have never adopted the product are not included.",
    )
    return ma.view_page(
        ma.SEGMENTS,
        catalog,
        product,
        "All users who have ever accessed the product, by product state and week over 18 months.",
        [states],
    )


def activity_page(reader: ma.Reader, catalog: ma.Catalog, product: ma.Product) -> ma.Page:
    """Create the page that shows user activity in a product."""
    period, totals = ma.LAST_18_MONTHS, product_totals(reader, product)
    use = [
        ma.column_chart_figure(totals, activity.EVENTS_QUALIFYING, period, weekly=True, wide=True),
        by_location(reader, period, product),
        features(reader, "event_type", ma.LAST_30_DAYS, product, ma.words),
        features(reader, "feature_id", ma.LAST_30_DAYS, product, catalog.published_name),
        ma.trend(totals, {USERS_ACTIVE: "Active"}, period),
    ]
    return ma.view_page(
        ma.ACTIVITY,
        catalog,
        product,
        "User activity in the product: events, features, and workflows that start in the product.",
        [
            ma.section("Use", use),
            ma.section("Workflows", workflow_figures(reader, period, product)),
        ],
    )


@ma.item(ma.headline("Users", "Eligible, Tried, Activated and in Use", "to Date"))
def funnel(heading: str, reader: ma.Reader, product: ma.Product) -> ma.Item:
    """Chart a product's adoption funnel: users eligible, tried, activated and in use."""
    values = _adoption(reader, product, _FUNNEL.values())
    if not values:
        return ma.Unavailable(heading, _NO_ROW)
    item = ma.metric_bars(heading, "users", _FUNNEL, values, adoption.TABLE, name="Step")
    eligible, tried, _, in_use = map(ma.count_text, values)
    finding = f"{tried} of {eligible} users tried the product, and {in_use} use it now."
    return replace(item, finding=finding) if isinstance(item, ma.Figure) else item


@ma.item(ma.headline("Users", "in State to Date", ma.LATEST_DAY.name, "State"))
def states_now(heading: str, reader: ma.Reader, product: ma.Product) -> ma.Item:
    """Chart users by product state."""
    values = _adoption(reader, product, _STATES.values())
    if not values:
        return ma.Unavailable(heading, _NO_ROW)
    return ma.metric_bars(heading, "users", _STATES, values, adoption.TABLE)


@ma.item(ma.headline("Users", "in State", ma.LAST_18_MONTHS.name, "State"))
def states_over_time(heading: str, reader: ma.Reader, product: ma.Product) -> ma.Item:
    """Plot users by product state on the last day of each week."""
    frame = reader.frame(ma.LAST_18_MONTHS, ma.WEEK)
    rows = reader.rows(
        [HISTORY],
        "SELECT snapshot_date, current_state, count(*)"
        f" FROM {HISTORY.qualified_name} WHERE product_id = ?"
        " AND snapshot_date BETWEEN ? AND ? AND (? - snapshot_date) % ? = 0 GROUP BY ALL",
        [product.id, frame.first, frame.last, frame.last, ma.WEEK],
    )
    found = {(day, state): users for day, state, users in rows}
    if not found:
        return ma.Unavailable(heading, "No users have accessed the product.")
    values = [
        (ma.words(state), [found.get((day, str(state)), 0) for day in frame.days])
        for state in _STATES
    ]
    described = ma.about_columns(HISTORY, ["current_state"])
    return ma.small_lines(heading, frame.days, "users", values, described)


def _tiles_to_date(reader: ma.Reader, product: ma.Product) -> list[ma.Tile]:
    try:
        values = _adoption(reader, product, _TO_DATE)
    except MissingTableError:
        return []
    return [
        ma.Tile(
            metric.name,
            reader.wording.text(metric, value),
            ma.definition(metric),
            adoption.TABLE.qualified_name,
            note="all time",
        )
        for metric, value in zip(_TO_DATE, values, strict=False)
    ]


def _adoption(reader: ma.Reader, product: ma.Product, metrics: Iterable[Metric]) -> list[Any]:
    """Return adoption metrics for a product, or an empty list if the product has no row."""
    found = reader.by_key(adoption.TABLE, "product_id").get(product.id)
    return [found[metric] for metric in metrics] if found else []
