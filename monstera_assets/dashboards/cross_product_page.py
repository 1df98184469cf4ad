"""The cross-product page: products per user, affinity, and adoption paths with retention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.gold import gold_product_adoption as adoption
from monstera_assets.gold.metrics import Metric
from monstera_assets.silver.silver_cross_product_analytics import TABLE as PORTFOLIOS
from monstera_assets.silver.silver_product_adoption_sequences import (
    ARROW,
    RETENTION_FROM,
    products_in,
)
from monstera_assets.silver.silver_product_adoption_sequences import TABLE as PATHS
from monstera_assets.silver.silver_product_affinity import TABLE as AFFINITY

_PRODUCTS_SHOWN = 14
_PATHS_SHOWN = 25
_BREADTHS_SHOWN = 8


def cross_product_page(reader: ma.Reader, catalog: ma.Catalog) -> ma.Page:
    """Create the cross-product page."""
    breadths = [
        breadth(reader, "products_tried", "Tried"),
        breadth(reader, "products_active", "in Use"),
        *(retention(reader, start) for start in RETENTION_FROM),
        by_product(reader, catalog, adoption.USERS_STARTED, "First Product"),
        by_product(reader, catalog, adoption.USERS_IN_USE, "Product"),
    ]
    affinities = [
        affinity(reader, catalog, "co_adoption_rate", "Co-Adopting Share"),
        affinity(reader, catalog, "lift", "Adopting Both, Lift"),
    ]
    return ma.Page(
        file=ma.CROSS_PRODUCT,
        title="Cross-Product",
        lead="Which products users adopt together, in which order, and whether users with more products"
        " stay longer. The figures show correlation, not causation.",
        up=(ma.HOME_LINK,),
        sections=(
            ma.section("Breadth", breadths),
            ma.section(
                "Affinity",
                affinities,
                "Each row is the given product, and each column is a product to compare it with."
                " The values include all users who could use both products.",
            ),
            ma.section("Paths", [paths(reader, catalog)]),
        ),
    )


@ma.item(lambda name: ma.headline("Users", f"with Products {name}", "to Date", "Products"))
def breadth(heading: str, reader: ma.Reader, column: str, name: str) -> ma.Item:
    """Chart users by number of products."""
    rows = reader.rows(
        [PORTFOLIOS],
        f"SELECT least({column}, ?) AS products, count(*) FROM {PORTFOLIOS.qualified_name}"
        " GROUP BY products ORDER BY products",
        [_BREADTHS_SHOWN],
    )
    users = [(_products(products), users) for products, users in rows]
    described = ma.about_columns(PORTFOLIOS, [column])
    return ma.bars(heading, "users", users, described, name="Products", share=True)


@ma.item(
    lambda start: ma.headline(
        "Users", "Retained Share", f"Days {start} to {start + 29} after Adoption", "Products"
    )
)
def retention(heading: str, reader: ma.Reader, start: int) -> ma.Item:
    """Chart the share of users still active in a later period, by number of products adopted."""
    retained, mature = f"retention_{start}", f"users_mature_{start}"
    rows = reader.rows(
        [PATHS],
        # Unlike sums of shares, sums of user counts do not depend on row order.
        "SELECT least(path_length, ?) AS products,"
        f" CAST(sum(round({retained} * {mature})) AS BIGINT), CAST(sum({mature}) AS BIGINT)"
        f" FROM {PATHS.qualified_name} WHERE {mature} > 0 GROUP BY products ORDER BY products",
        [_BREADTHS_SHOWN],
    )
    if not rows:
        reason = f"No users adopted a product more than {start + 29} days ago."
        return ma.Unavailable(heading, reason)
    shown = [
        (_products(products), came / users, f"{came / users:.1%}", users)
        for products, came, users in rows
    ]
    active = ", ".join(f"{share} of users with {name}" for name, _, share, _ in shown)
    all_bars = [
        ma.Bar(f"{name} ({users:,} users)", part, share) for name, part, share, users in shown
    ]
    cells = (
        [ma.Cell(name), ma.Cell(share, part), ma.Cell(f"{users:,}", users)]
        for name, part, share, users in shown
    )
    return ma.Figure(
        title=heading,
        finding=f"Active in this period: {active}.",
        drawing=ma.bar_chart(all_bars, most=1.0),
        table=ma.table(["Products adopted", "Retained", "Users"], cells),
        about=ma.about_columns(PATHS, [retained, mature]),
    )


@ma.item(
    lambda metric, by: ma.title(
        metric, "to Date", by, what=metric.name.removesuffix(" to Date").partition(" ")[2]
    )
)
def by_product(
    heading: str, reader: ma.Reader, catalog: ma.Catalog, metric: Metric, by: str
) -> ma.Item:
    """Chart an adoption metric by product."""
    rows, rest = reader.most(adoption.TABLE, ["product_id"], metric, "", [], _PRODUCTS_SHOWN)
    users = [(catalog.name(product), users) for product, users in rows]
    described = ma.about([metric], adoption.TABLE)
    if metric is adoption.USERS_STARTED:
        return ma.bars(heading, "users", users, described, name="Product", share=True, rest=rest)
    # A user can use several products, so counts of users in use are not parts of a whole.
    item = ma.bars(heading, "users", users, described, name="Product")
    if rest.categories and isinstance(item, ma.Figure):
        hidden = f" The chart leaves out {ma.plural(rest.categories, 'product')} with fewer users."
        return replace(item, finding=item.finding + hidden)
    return item


@ma.item(lambda name: ma.headline("Products", name, "to Date", "Pair"))
def affinity(
    heading: str, reader: ma.Reader, catalog: ma.Catalog, column: str, name: str
) -> ma.Item:
    """Show a measure in a shaded table for each ordered product pair."""
    products = [
        product
        for (product,) in reader.rows(
            [AFFINITY],
            f"SELECT first_product_id FROM {AFFINITY.qualified_name} GROUP BY ALL"
            " ORDER BY max(users_first) DESC, first_product_id LIMIT ?",
            [_PRODUCTS_SHOWN],
        )
    ]
    if len(products) < 2:
        return ma.Unavailable(heading, "There are fewer than two products to compare.")
    rows = reader.rows(
        [AFFINITY],
        f"SELECT first_product_id, second_product_id, {column}, is_low_support"
        f" FROM {AFFINITY.qualified_name}",
    )
    found = {(first, second): (value, few) for first, second, value, few in rows}
    known = [
        (value, first, second)
        for (first, second), (value, few) in found.items()
        if value is not None and not few and first in products and second in products
    ]
    most = max((value for value, _ in found.values() if value is not None), default=0.0)
    form = "{:.0%}" if column == "co_adoption_rate" else "{:.2f}"
    finding = "No pair of products has enough users for a reliable value."
    if known:
        value, first, second = max(known)
        finding = (
            f"Highest value among pairs with enough users: {catalog.name(second)} given"
            f" {catalog.name(first)}, {form.format(value)}."
        )

    def cell(first: str, second: str) -> ma.Cell:
        if first == second:
            return ma.Cell("the same product", quiet=True)
        value, few = found.get((first, second), (None, False))
        if value is None:
            return ma.Cell("not known", quiet=True)
        shade = round(value / most * ma.SHADES) if most else 0
        return ma.Cell(form.format(value) + (" *" if few and value else ""), value, shade)

    return ma.Listing(
        title=heading,
        finding=finding,
        table=ma.table(
            ["Given", *map(catalog.name, products)],
            (
                [ma.Cell(catalog.name(first)), *(cell(first, second) for second in products)]
                for first in products
            ),
        ),
        about=ma.about_columns(AFFINITY, [column, "users_both", "is_low_support"]),
        footnote="* Too few users adopted both products for a reliable value. A cell is empty if"
        " both products are the same or if nobody adopted one of the products.",
    )


@ma.item(ma.headline("Users", "Adopting", "to Date", "Path"))
def paths(heading: str, reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    """List the most frequent adoption paths."""
    columns = (
        *("users", "share_of_adopters", "median_days_since_previous", "users_ending"),
        *("retention_30", "retention_90"),
    )
    rows = reader.rows(
        [PATHS],
        f"SELECT path, {', '.join(columns)}"
        f" FROM {PATHS.qualified_name} ORDER BY users DESC, path_length, path LIMIT ?",
        [_PATHS_SHOWN],
    )
    [(every,)] = reader.rows([PATHS], f"SELECT count(*) FROM {PATHS.qualified_name}")
    if not rows:
        return ma.Unavailable(heading, "No users have adopted a product.")

    def named(path: str) -> str:
        return " → ".join(map(catalog.name, products_in(path)))

    finding = f"{ma.plural(every, 'path')}. The most frequent path is {named(rows[0][0])}"
    longer = next((row for row in rows if ARROW in row[0]), None)
    if longer:
        finding += (
            ". The most frequent path with more than one product is"
            f" {named(longer[0])}, with {ma.plural(longer[1], 'user')}"
        )
    most = rows[0][1]
    alone = ma.Cell("no previous product", quiet=True)
    return ma.Listing(
        title=heading,
        finding=finding + ".",
        table=ma.table(
            [
                *("Path", "Users", "Share of adopters", "Days since previous", "Ending here"),
                *("Retained after 30 days", "Retained after 90 days"),
            ],
            (
                [
                    ma.Cell(named(path)),
                    ma.Cell(f"{users:,}", users, round(users / most * ma.SHADES)),
                    ma.Cell(f"{share:.1%}", share),
                    _optional(days, "{:,.0f}") if ARROW in path else alone,
                    ma.Cell(f"{ending:,}", ending),
                    _optional(after_30, "{:.0%}"),
                    _optional(after_90, "{:.0%}"),
                ]
                for path, users, share, days, ending, after_30, after_90 in rows
            ),
        ),
        about=ma.about_columns(PATHS, columns),
        searchable=True,
        footnote=f"The table shows the {_PATHS_SHOWN} most frequent of {every:,} paths."
        if every > _PATHS_SHOWN
        else "",
    )


def _optional(value: Any, form: str) -> ma.Cell:
    return ma.Cell("not known" if value is None else form.format(value), value)


def _products(count: int) -> str:
    more = " or more" if count == _BREADTHS_SHOWN else ""
    return f"{count}{more} product{'' if count == 1 else 's'}"
