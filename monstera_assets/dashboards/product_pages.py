"""The views of a product: Overall (90 days), Segment and Activity (18 months)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from monstera_assets.dashboards import findings
from monstera_assets.dashboards.design import (
    LAST_18_MONTHS,
    LAST_30_DAYS,
    LAST_90_DAYS,
    headline,
    words,
)
from monstera_assets.dashboards.figures import (
    about,
    about_columns,
    attempt,
    bars,
    columns,
    multiples_of,
    tile,
    trend,
)
from monstera_assets.dashboards.model import (
    Figure,
    Item,
    Link,
    Page,
    Tile,
    Unavailable,
    section,
)
from monstera_assets.dashboards.reading import WEEK, Frame, Reader
from monstera_assets.dashboards.structure import (
    ACTIVITY,
    OVERALL,
    SEGMENTS,
    VIEWS,
    Catalog,
    Product,
    home_link,
    products_below,
    view_file,
    views_beside,
)
from monstera_assets.dashboards.usage import by_kind, features, product_totals, workflow_figures
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold import gold_product_adoption as adoption
from monstera_assets.gold.gold_users_active_daily import USERS_ACTIVE
from monstera_assets.gold.metrics import Metric
from monstera_assets.lifecycle.states import ProductState
from monstera_assets.silver.silver_user_product_state_history import TABLE as HISTORY
from monstera_assets.warehouse.errors import MissingTableError

_DAILY = (
    USERS_ACTIVE,
    activity.EVENTS_QUALIFYING,
    activity.WORKFLOWS_COMPLETED,
)
_TO_DATE = (
    adoption.USERS_IN_USE,
    adoption.ADOPTION_RATE,
    adoption.ACTIVATION_RATE,
)
_FUNNEL = (
    adoption.USERS_ELIGIBLE,
    adoption.USERS_TRIED,
    adoption.USERS_ACTIVATED,
    adoption.USERS_IN_USE,
)


def overall_page(reader: Reader, catalog: Catalog, product: Product) -> Page:
    """A product's figures with their change over a week, and how they went in 90 days."""
    where = product_totals(product)
    return Page(
        file=product.file(OVERALL),
        title=f"{product.name}: {VIEWS[OVERALL]}",
        lead="How much the product is used and how far its users come: the latest day, compared"
        " with a week before, and the last 90 days.",
        **_around(OVERALL, catalog, product),
        tiles=_tiles(reader, product),
        sections=(
            section(
                "Use",
                [
                    trend(
                        reader,
                        activity.TABLE,
                        {USERS_ACTIVE: "Active", activity.USERS_PRESENT: "Present"},
                        LAST_90_DAYS,
                        heading=headline("Users", "Active and Present Daily", LAST_90_DAYS.name),
                        where=where,
                        wide=True,
                    ),
                    funnel(reader, product),
                    columns(
                        reader,
                        activity.TABLE,
                        activity.EVENTS_QUALIFYING,
                        LAST_90_DAYS,
                        weekly=False,
                        where=where,
                    ),
                    states_now(reader, product),
                    trend(
                        reader,
                        activity.TABLE,
                        {activity.COMPLETION_RATE: "Completed"},
                        LAST_90_DAYS,
                        where=where,
                    ),
                ],
            ),
        ),
    )


def segments_page(reader: Reader, catalog: Catalog, product: Product) -> Page:
    """A product's users by state."""
    return Page(
        file=product.file(SEGMENTS),
        title=f"{product.name}: {VIEWS[SEGMENTS]}",
        lead="The users who ever came to the product, by their state in it, week by week over 18"
        " months.",
        **_around(SEGMENTS, catalog, product),
        sections=(
            section(
                "States",
                [states_over_time(reader, product), states_now(reader, product)],
                "Those who never adopted the product have no history in it.",
            ),
        ),
    )


def activity_page(reader: Reader, catalog: Catalog, product: Product) -> Page:
    """What users do in a product."""
    return Page(
        file=product.file(ACTIVITY),
        title=f"{product.name}: {VIEWS[ACTIVITY]}",
        lead="What users do in the product: events, features and workflows that begin in it.",
        **_around(ACTIVITY, catalog, product),
        sections=(
            section(
                "Use",
                [
                    columns(
                        reader,
                        activity.TABLE,
                        activity.EVENTS_QUALIFYING,
                        LAST_18_MONTHS,
                        weekly=True,
                        where=product_totals(product),
                        wide=True,
                    ),
                    by_kind(reader, "location", LAST_18_MONTHS, product),
                    features(reader, "event_type", LAST_30_DAYS, product, words),
                    features(reader, "feature_id", LAST_30_DAYS, product, catalog.name),
                    trend(
                        reader,
                        activity.TABLE,
                        {USERS_ACTIVE: "Active"},
                        LAST_18_MONTHS,
                        where=product_totals(product),
                    ),
                ],
            ),
            section("Workflows", workflow_figures(reader, LAST_18_MONTHS, product)),
        ),
    )


def funnel(reader: Reader, product: Product) -> Item:
    """How many users could use the product, tried it, were activated and use it."""
    heading = headline("Users", "Eligible, Tried, Activated and in Use", "to Date")

    def build() -> Item:
        values = _adoption(reader, product, _FUNNEL)
        if values is None:
            return Unavailable(heading, "The product has no row in the table of adoption.")
        eligible, tried, *_, in_use = values
        item = bars(
            heading,
            "users",
            [
                (
                    words(metric.name.split(" ", 1)[1].removesuffix(" to Date")),
                    value,
                    metric.format(value),
                )
                for metric, value in zip(_FUNNEL, values, strict=True)
            ],
            about(_FUNNEL, [adoption.TABLE]),
            name="Step",
            value="Users",
        )
        finding = (
            f"{adoption.USERS_TRIED.format(tried)} of"
            f" {adoption.USERS_ELIGIBLE.format(eligible)} users tried the product;"
            f" {adoption.USERS_IN_USE.format(in_use)} use it now."
        )
        return replace(item, finding=finding) if isinstance(item, Figure) else item

    return attempt(heading, build)


def states_now(reader: Reader, product: Product) -> Item:
    """Users by state in the product."""
    metrics = {
        state: metric
        for state, metric in adoption.USERS_IN_STATE.items()
        if state is not ProductState.NEVER_ADOPTED
    }
    heading = headline("Users", "in State to Date", "Latest Day", "State")

    def build() -> Item:
        values = _adoption(reader, product, tuple(metrics.values()))
        if values is None:
            return Unavailable(heading, "The product has no row in the table of adoption.")
        return bars(
            heading,
            "users",
            [
                (words(state), value, metric.format(value))
                for (state, metric), value in zip(metrics.items(), values, strict=True)
            ],
            about(metrics.values(), [adoption.TABLE]),
            name="State",
            value="Users",
            share=True,
        )

    return attempt(heading, build)


def states_over_time(reader: Reader, product: Product) -> Item:
    """Users by state in the product, on the last day of each week."""
    heading = headline("Users", "in State", LAST_18_MONTHS.name, "State")

    def build() -> Item:
        whole = reader.frame(LAST_18_MONTHS)
        frame = Frame(whole.first, whole.last, WEEK)
        rows = reader.rows(
            [HISTORY],
            "SELECT snapshot_date, current_state, count(*)"
            f" FROM {HISTORY.qualified_name} WHERE product_id = ?"
            " AND snapshot_date BETWEEN ? AND ? AND (? - snapshot_date) % ? = 0 GROUP BY ALL",
            [product.id, frame.first, frame.last, frame.last, WEEK],
        )
        found = {(day, state): users for day, state, users in rows}
        states = [state for state in ProductState if state is not ProductState.NEVER_ADOPTED]
        if not found:
            return Unavailable(heading, "Nobody has come to the product.")
        return multiples_of(
            heading,
            frame.days,
            "users",
            {
                words(state): [found.get((day, str(state)), 0) for day in frame.days]
                for state in states
            },
            about_columns(HISTORY, ["current_state"]),
        )

    return attempt(heading, build)


def _tiles(reader: Reader, product: Product) -> tuple[Tile, ...]:
    where = product_totals(product)
    tiles: list[Tile] = []
    try:
        now = reader.latest(activity.TABLE, _DAILY, where)
        day = reader.as_of - timedelta(days=WEEK)
        before = reader.by_day(activity.TABLE, _DAILY, Frame(day, day, 1), where)
        for metric, value in zip(_DAILY, now, strict=True):
            then = before[metric][0]
            known = value is not None and then
            relative = (value - then) / then if known else None
            tiles.append(tile(metric, value, findings.week_on_week(metric, value, then, relative)))
    except MissingTableError:
        pass
    try:
        values = _adoption(reader, product, _TO_DATE)
    except MissingTableError:
        values = None
    tiles += [
        tile(metric, value, note="all time")
        for metric, value in zip(_TO_DATE, values or (), strict=False)
    ]
    return tuple(tiles)


def _adoption(
    reader: Reader, product: Product, metrics: tuple[Metric, ...]
) -> tuple[Any, ...] | None:
    columns = ", ".join(metric.column_name for metric in metrics)
    rows = reader.rows(
        [adoption.TABLE],
        f"SELECT {columns} FROM {adoption.TABLE.qualified_name} WHERE product_id = ?",
        [product.id],
    )
    return rows[0] if rows else None


def _around(view: str, catalog: Catalog, product: Product) -> dict[str, Any]:
    return {
        "up": (home_link(), Link(VIEWS[view], view_file(view, None))),
        "beside": views_beside(view, product),
        "below": tuple(
            link for link in products_below(view, catalog) if link.href != product.file(view)
        ),
        "below_heading": "The same view of another product",
    }
