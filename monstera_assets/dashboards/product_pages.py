"""The page of each product: its users, adoption, states, events and workflows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.activity_page import kinds_of_events, product_totals, workflows
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold import gold_product_adoption as adoption
from monstera_assets.gold import gold_state_distribution as distribution
from monstera_assets.gold.gold_state_transition_metrics import PRODUCT
from monstera_assets.gold.gold_users_active_daily import USERS_ACTIVE
from monstera_assets.gold.metrics import Metric
from monstera_assets.silver.silver_user_product_state_intervals import ADOPTED_STATES
from monstera_assets.warehouse.errors import MissingTableError

_PERIOD = ma.LAST_18_MONTHS
_DAILY = (USERS_ACTIVE, activity.EVENTS_QUALIFYING, activity.WORKFLOWS_COMPLETED)
_TO_DATE = (adoption.USERS_IN_USE, adoption.ADOPTION_RATE, adoption.ACTIVATION_RATE)
_FUNNEL = dict(zip(("Eligible", "Tried", "Activated", "In use"), adoption.FUNNEL, strict=True))
_NO_ROW = "The adoption table has no row for this product."


def product_page(reader: ma.Reader, catalog: ma.Catalog, product: ma.Product) -> ma.Page:
    """Create a product's page."""
    totals = product_totals(reader, product)
    users = {USERS_ACTIVE: "Active", activity.USERS_PRESENT: "Present"}
    what = "Active and Present Daily"
    return ma.Page(
        file=product.file,
        title=product.name,
        lead="Who uses the product, for what, and who stopped.",
        up=(ma.HOME_LINK, ma.Link("Products", ma.PRODUCTS)),
        tiles=(*ma.tiles(totals, _DAILY), *_tiles_to_date(reader, product)),
        sections=(
            ma.section(
                "Users",
                [
                    ma.trend(
                        "Active and present users", totals, users, _PERIOD, what=what, wide=True
                    ),
                    funnel(reader, product),
                ],
            ),
            ma.section(
                "States",
                [states_over_time(reader, product), states_now(reader, product)],
                "All users who ever accessed the product.",
            ),
            ma.section(
                "Events",
                [
                    ma.totals(
                        *("Qualifying events", totals),
                        {activity.EVENTS_QUALIFYING: "Events"},
                        _PERIOD,
                        wide=True,
                    ),
                    *kinds_of_events(reader, catalog, product),
                ],
            ),
            ma.section("Workflows", workflows(totals), "Runs whose first step is in the product."),
        ),
        below=tuple(ma.Link(one.name, one.file) for one in catalog.products if one != product),
        below_heading="Other products",
    )


@ma.item(ma.head("Adoption funnel", "Users", "Eligible, Tried, Activated and in Use", "to Date"))
def funnel(heading: ma.Head, reader: ma.Reader, product: ma.Product) -> ma.Item:
    """Chart a product's adoption funnel: users eligible, tried, activated and in use."""
    values = _adoption(reader, product, _FUNNEL.values())
    if not values:
        return ma.Unavailable(*heading, _NO_ROW)
    described = ma.about(_FUNNEL.values(), adoption.TABLE)
    item = ma.bars(heading, "users", zip(_FUNNEL, values, strict=True), described, name="Step")
    eligible, tried, _, in_use = map(ma.count_text, values)
    finding = f"{tried} of {eligible} users tried the product, and {in_use} use it now."
    return replace(item, finding=finding) if isinstance(item, ma.Figure) else item


@ma.item(ma.head("States over time", "Users", "in State Daily", _PERIOD.name, by="State"))
def states_over_time(heading: ma.Head, reader: ma.Reader, product: ma.Product) -> ma.Item:
    """Plot users by product state on the last day of each week."""
    frame, members = reader.frame(_PERIOD), ma.Field("members", "Users", ",d")
    found = reader.rows(
        [distribution.TABLE],
        f"SELECT segment_value, metric_date, state, {distribution.MEMBERS.column_name}"
        f" FROM {distribution.TABLE.qualified_name} WHERE metric_date BETWEEN ? AND ? AND scope = ?"
        f" AND (? - metric_date) % {ma.WEEK} = 0 ORDER BY ALL",
        [frame.first, frame.last, PRODUCT, frame.last],
    )
    rows = [(day, ma.words(state), users) for own, day, state, users in found if own == product.id]
    if not any(users for _, _, users in rows):
        return ma.Unavailable(*heading, "No users have accessed the product.")
    latest = [
        (state, users, ma.count_text(users)) for day, state, users in rows if day == frame.last
    ]
    whole = sum(users for _, users, _ in latest)
    finding = ma.ranking("users", latest, whole=whole, when=f"on {ma.day_text(frame.last)}")
    described = ma.about([distribution.MEMBERS], distribution.TABLE)
    return ma.stacked_areas(heading, rows, members, ADOPTED_STATES, finding, described)


@ma.item(ma.head("States now", "Users", "in State to Date", ma.LATEST_DAY.name, by="State"))
def states_now(heading: ma.Head, reader: ma.Reader, product: ma.Product) -> ma.Item:
    """Chart users by product state."""
    states = {state: adoption.USERS_IN_STATE[state] for state in ADOPTED_STATES}
    values = _adoption(reader, product, states.values())
    if not values:
        return ma.Unavailable(*heading, _NO_ROW)
    described = ma.about(states.values(), adoption.TABLE)
    rows = zip(map(ma.words, states), values, strict=True)
    return ma.bars(heading, "users", rows, described, name="State", whole=True)


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
