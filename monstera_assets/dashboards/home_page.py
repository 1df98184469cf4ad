"""The home page: the main figures, and the ways to all pages."""

from __future__ import annotations

from monstera_assets.dashboards.design import headline
from monstera_assets.dashboards.figures import about, attempt
from monstera_assets.dashboards.model import (
    Cell,
    Item,
    Link,
    Listing,
    Page,
    Unavailable,
    section,
    table,
)
from monstera_assets.dashboards.platform_pages import active_users, states_now, tiles_of
from monstera_assets.dashboards.reading import Reader
from monstera_assets.dashboards.structure import (
    ACCOUNTS,
    ACTIVITY,
    CROSS_PRODUCT,
    HOME,
    OVERALL,
    SEGMENTS,
    VIEWS,
    Catalog,
    view_file,
)
from monstera_assets.gold import gold_overall_metrics as overall
from monstera_assets.gold import gold_product_adoption as adoption
from monstera_assets.gold import gold_revenue_metrics as revenue

_TILES = (
    overall.MONTHLY,
    overall.DAILY,
    overall.STICKINESS,
    overall.ACCOUNTS_ACTIVE,
    revenue.REVENUE_CLOSING,
    overall.HEALTH,
)
_COLUMNS = (
    adoption.USERS_IN_USE,
    adoption.USERS_TRIED,
    adoption.ADOPTION_RATE,
    adoption.ACTIVATION_RATE,
)


def home_page(reader: Reader, catalog: Catalog) -> Page:
    """The way in."""
    return Page(
        file=HOME,
        title="The Company at a Glance",
        lead="Where the company stands on the latest day, and the ways to all figures.",
        up=(),
        below=(
            Link(VIEWS[OVERALL], view_file(OVERALL, None), "Headline figures, 90 days"),
            Link(VIEWS[SEGMENTS], view_file(SEGMENTS, None), "Who the users are, 18 months"),
            Link(VIEWS[ACTIVITY], view_file(ACTIVITY, None), "What they do, 18 months"),
            Link("Accounts", ACCOUNTS, "Health, risk and revenue"),
            Link("Cross-Product", CROSS_PRODUCT, "Affinity, paths and breadth"),
        ),
        below_heading="All views",
        tiles=tiles_of(reader, _TILES),
        sections=(
            section("Users", [active_users(reader), states_now(reader)]),
            section("Products", [products(reader, catalog)]),
        ),
    )


def products(reader: Reader, catalog: Catalog) -> Item:
    """Every active product with its adoption and the ways to its pages."""
    heading = headline("Products", "Adopted by Users", "to Date", "Product")

    def build() -> Item:
        columns = ", ".join(metric.column_name for metric in _COLUMNS)
        found = {
            product: values
            for product, *values in reader.rows(
                [adoption.TABLE],
                f"SELECT product_id, {columns} FROM {adoption.TABLE.qualified_name}",
            )
        }
        if not catalog.products:
            return Unavailable(heading, "The catalog has no active product.")
        rows = sorted(
            catalog.products,
            key=lambda product: -(found.get(product.id, [0])[0] or 0),
        )
        leader = rows[0]
        in_use = found.get(leader.id, [None])[0]
        return Listing(
            title=heading,
            finding=f"Most in use: {leader.name}, by {adoption.USERS_IN_USE.format(in_use)} users.",
            table=table(
                [
                    "Product",
                    *(metric.name.removesuffix(" to Date") for metric in _COLUMNS),
                    "Pages",
                ],
                (
                    [
                        Cell(product.name, link=product.file(OVERALL)),
                        *(
                            Cell(metric.format(value), value)
                            for metric, value in zip(
                                _COLUMNS,
                                found.get(product.id, [None] * len(_COLUMNS)),
                                strict=True,
                            )
                        ),
                        Cell(
                            "",
                            links=tuple(
                                Link(name.removesuffix(" View"), product.file(view))
                                for view, name in VIEWS.items()
                            ),
                        ),
                    ]
                    for product in rows
                ),
            ),
            about=about(_COLUMNS, [adoption.TABLE]),
            searchable=True,
        )

    return attempt(heading, build)
