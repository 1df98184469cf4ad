"""The home page: key figures and links to all pages."""

from __future__ import annotations

from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.platform_pages import active_users, states_now
from monstera_assets.gold import gold_overall_metrics as overall
from monstera_assets.gold import gold_product_adoption as adoption
from monstera_assets.gold import gold_revenue_metrics as revenue
from monstera_assets.gold.metrics import Metric

_TILES = (
    *(overall.MONTHLY, overall.DAILY, overall.STICKINESS, overall.ACCOUNTS_ACTIVE),
    *(revenue.REVENUE_CLOSING, overall.HEALTH),
)
_COLUMNS = (
    *(adoption.USERS_IN_USE, adoption.USERS_TRIED),
    *(adoption.ADOPTION_RATE, adoption.ACTIVATION_RATE),
)
_BELOW = {
    ma.OVERALL: "Headline figures, 90 days",
    ma.SEGMENTS: "Users by segment, 18 months",
    ma.ACTIVITY: "User activity, 18 months",
}


def home_page(reader: ma.Reader, catalog: ma.Catalog) -> ma.Page:
    """Create the home page."""
    return ma.Page(
        file=ma.HOME,
        title="The Company at a Glance",
        lead="Key figures for the latest day, and links to all views.",
        up=(),
        below=(
            *(ma.Link(ma.VIEWS[v], ma.view_file(v, None), note) for v, note in _BELOW.items()),
            ma.Link("Accounts", ma.ACCOUNTS, "Health, risk and revenue"),
            ma.Link("Cross-Product", ma.CROSS_PRODUCT, "Affinity, adoption paths and breadth"),
        ),
        below_heading="All views",
        tiles=ma.tiles(reader.daily(overall.TABLE), _TILES),
        sections=(
            ma.section("Users", [active_users(reader), states_now(reader, "Users")]),
            ma.section("Products", [products(reader, catalog)]),
        ),
    )


@ma.item(ma.headline("Products", "Adopted by Users", "to Date", "Product"))
def products(heading: str, reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    """List the active products with their adoption metrics and links to their pages."""
    found = reader.by_key(adoption.TABLE, "product_id")
    if not catalog.products:
        return ma.Unavailable(heading, "The product catalog has no active products.")
    unknown: dict[Metric, Any] = dict.fromkeys(_COLUMNS)
    values = {product: found.get(product.id, unknown) for product in catalog.products}
    in_order = sorted(values, key=lambda product: -(values[product][_COLUMNS[0]] or 0))
    in_use = ma.count_text(values[in_order[0]][adoption.USERS_IN_USE])
    headings = (metric.name.removesuffix(" to Date") for metric in _COLUMNS)

    def row(product: ma.Product) -> list[ma.Cell]:
        views = (
            ma.Link(name.removesuffix(" View"), product.file(view))
            for view, name in ma.VIEWS.items()
        )
        return [
            ma.Cell(product.name, link=product.file(ma.OVERALL)),
            *(
                ma.Cell(reader.wording.text(metric, value), value)
                for metric in _COLUMNS
                for value in [values[product][metric]]
            ),
            ma.Cell("", links=tuple(views)),
        ]

    return ma.Listing(
        title=heading,
        finding=f"Most used product: {in_order[0].name}, with {in_use} users.",
        table=ma.table(["Product", *headings, "Pages"], map(row, in_order)),
        about=ma.about(_COLUMNS, adoption.TABLE),
        searchable=True,
    )
