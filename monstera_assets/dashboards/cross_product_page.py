"""The page across products: what is taken up together, on which paths, and who stays."""

from __future__ import annotations

from typing import Any

from monstera_assets.dashboards.charts import Bar, bar_chart
from monstera_assets.dashboards.design import headline
from monstera_assets.dashboards.figures import about, about_columns, attempt, bars
from monstera_assets.dashboards.model import (
    Cell,
    Figure,
    Item,
    Listing,
    Page,
    Unavailable,
    section,
    table,
)
from monstera_assets.dashboards.reading import Reader
from monstera_assets.dashboards.structure import CROSS_PRODUCT, Catalog, home_link
from monstera_assets.gold import gold_product_adoption as adoption
from monstera_assets.gold.metrics import Metric
from monstera_assets.silver.silver_cross_product_analytics import TABLE as PORTFOLIOS
from monstera_assets.silver.silver_product_adoption_sequences import ARROW, RETENTION_FROM
from monstera_assets.silver.silver_product_adoption_sequences import TABLE as PATHS
from monstera_assets.silver.silver_product_affinity import TABLE as AFFINITY

_PRODUCTS_SHOWN = 14
_PATHS_SHOWN = 25
_BREADTHS_SHOWN = 8
_SHADES = 9


def cross_product_page(reader: Reader, catalog: Catalog) -> Page:
    """Affinity, paths of adoption, and retention by breadth."""
    return Page(
        file=CROSS_PRODUCT,
        title="Cross-Product",
        lead="Which products are taken up by the same users, in which order, and whether those who"
        " use more of them stay. None of it says that one leads to the other.",
        up=(home_link(),),
        sections=(
            section(
                "Breadth",
                [
                    breadth(reader, "products_tried", "Tried"),
                    breadth(reader, "products_active", "in Use"),
                    *(kept(reader, start) for start in RETENTION_FROM),
                    by_product(reader, catalog, adoption.USERS_STARTED, "First Product"),
                    by_product(reader, catalog, adoption.USERS_IN_USE, "Product"),
                ],
            ),
            section(
                "Affinity",
                [
                    affinity(reader, catalog, "co_adoption_rate", "Co-Adopting Share"),
                    affinity(reader, catalog, "lift", "Adopting Both, Lift"),
                ],
                "Rows are the product given, columns the product looked at, over all users who could"
                " use both.",
            ),
            section("Paths", [paths(reader, catalog)]),
        ),
    )


def breadth(reader: Reader, column: str, name: str) -> Item:
    """Users by number of products."""
    heading = headline("Users", f"with Products {name}", "to Date", "Products")

    def build() -> Item:
        rows = reader.rows(
            [PORTFOLIOS],
            f"SELECT least({column}, ?) AS products, count(*) FROM {PORTFOLIOS.qualified_name}"
            " GROUP BY products ORDER BY products",
            [_BREADTHS_SHOWN],
        )
        return bars(
            heading,
            "users",
            [(_products(products), users, f"{users:,}") for products, users in rows],
            about_columns(PORTFOLIOS, [column]),
            name="Products",
            value="Users",
            share=True,
        )

    return attempt(heading, build)


def kept(reader: Reader, start: int) -> Item:
    """Of those who adopted an n-th product, who is active a while after."""
    heading = headline(
        "Users", "Retained Share", f"Days {start} to {start + 29} after Adoption", "Products"
    )
    retained, mature = f"retention_{start}", f"users_mature_{start}"

    def build() -> Item:
        rows = reader.rows(
            [PATHS],
            # Shares of whole people: added up as such, the sum does not depend on the order.
            "SELECT least(path_length, ?) AS products,"
            f" CAST(sum(round({retained} * {mature})) AS BIGINT), CAST(sum({mature}) AS BIGINT)"
            f" FROM {PATHS.qualified_name} WHERE {mature} > 0 GROUP BY products ORDER BY products",
            [_BREADTHS_SHOWN],
        )
        if not rows:
            return Unavailable(
                heading, f"Nobody adopted a product more than {start + 29} days ago yet."
            )
        shown = [(_products(number), came / users, f"{came / users:.1%}", users)
                 for number, came, users in rows]  # fmt: skip
        return Figure(
            title=heading,
            finding="Active then: "
            + ", ".join(f"{share} of those with {name}" for name, _, share, _ in shown)
            + ".",
            drawing=bar_chart(
                [
                    Bar(f"{name}, of {users:,} users", part, share)
                    for name, part, share, users in shown
                ],
                most=1.0,
            ),
            table=table(
                ["Products adopted", "Retained", "Users"],
                (
                    [Cell(name), Cell(share, part), Cell(f"{users:,}", users)]
                    for name, part, share, users in shown
                ),
            ),
            about=about_columns(PATHS, [retained, mature]),
        )

    return attempt(heading, build)


def by_product(reader: Reader, catalog: Catalog, metric: Metric, by: str) -> Item:
    """A metric of adoption, product by product."""
    entities, what = metric.name.removesuffix(" to Date").split(" ", 1)
    heading = headline(entities, what, "to Date", by)

    def build() -> Item:
        rows = reader.rows(
            [adoption.TABLE],
            f"SELECT product_id, {metric.column_name} FROM {adoption.TABLE.qualified_name}"
            f" ORDER BY {metric.column_name} DESC, product_id LIMIT ?",
            [_PRODUCTS_SHOWN],
        )
        return bars(
            heading,
            "users",
            [(catalog.name(product), users, metric.format(users)) for product, users in rows],
            about([metric], [adoption.TABLE]),
            name="Product",
            value="Users",
            share=metric is adoption.USERS_STARTED,
        )

    return attempt(heading, build)


def affinity(reader: Reader, catalog: Catalog, column: str, name: str) -> Item:
    """A shaded table of ordered pairs of products."""
    heading = headline("Products", name, "to Date", "Pair")

    def build() -> Item:
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
            return Unavailable(heading, "There are no two products to compare.")
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
        most = max((value for value, *_ in found.values() if value is not None), default=0.0)
        if known:
            value, first, second = max(known)
            finding = (
                f"Highest among pairs with enough users: {catalog.name(second)} given"
                f" {catalog.name(first)}, {_affinity(column, value)}."
            )
        else:
            finding = "No pair has enough users yet to be read as more than chance."

        def cell(first: str, second: str) -> Cell:
            if first == second:
                return Cell("the same product", quiet=True)
            value, few = found.get((first, second), (None, False))
            if value is None:
                return Cell("not known", quiet=True)
            shade = round(value / most * _SHADES) if most else 0
            return Cell(_affinity(column, value) + (" *" if few and value else ""), value, shade)

        return Listing(
            title=heading,
            finding=finding,
            table=table(
                ["Given", *(catalog.name(product) for product in products)],
                (
                    [Cell(catalog.name(first)), *(cell(first, second) for second in products)]
                    for first in products
                ),
            ),
            about=about_columns(AFFINITY, [column, "users_both", "is_low_support"]),
            footnote="* so few users adopted both that it may be chance. Empty: the same product, or"
            " nobody adopted one of them.",
        )

    return attempt(heading, build)


def paths(reader: Reader, catalog: Catalog) -> Item:
    """The most walked paths of adoption."""
    heading = headline("Users", "Adopting", "to Date", "Path")
    columns = ("users", "share_of_adopters", "median_days_since_previous", "users_ending")

    def build() -> Item:
        rows = reader.rows(
            [PATHS],
            f"SELECT path, {', '.join(columns)}, retention_30, retention_90"
            f" FROM {PATHS.qualified_name} ORDER BY users DESC, path_length, path LIMIT ?",
            [_PATHS_SHOWN],
        )
        [(every,)] = reader.rows([PATHS], f"SELECT count(*) FROM {PATHS.qualified_name}")
        if not rows:
            return Unavailable(heading, "Nobody has adopted a product yet.")
        longer = [row for row in rows if ARROW in row[0]]
        finding = f"{every:,} paths; most begin with {_named(catalog, rows[0][0])}"
        if longer:
            finding += (
                f"; the most walked from one product to another is"
                f" {_named(catalog, longer[0][0])}, by {longer[0][1]:,}"
                f" user{'' if longer[0][1] == 1 else 's'}"
            )
        most = rows[0][1]
        return Listing(
            title=heading,
            finding=finding + ".",
            table=table(
                [
                    "Path",
                    "Users",
                    "Of adopters",
                    "Days since the one before",
                    "Ending here",
                    "Retained after 30 days",
                    "Retained after 90 days",
                ],
                (
                    [
                        Cell(_named(catalog, path)),
                        Cell(f"{users:,}", users, round(users / most * _SHADES)),
                        Cell(f"{share:.1%}", share),
                        _optional(days, "{:,.0f}")
                        if ARROW in path
                        else Cell("no product before", quiet=True),
                        Cell(f"{ending:,}", ending),
                        _optional(after_30, "{:.0%}"),
                        _optional(after_90, "{:.0%}"),
                    ]
                    for path, users, share, days, ending, after_30, after_90 in rows
                ),
            ),
            about=about_columns(PATHS, [*columns, "retention_30", "retention_90"]),
            searchable=True,
            footnote=(
                f"The {_PATHS_SHOWN} most walked of {every:,} paths."
                if every > _PATHS_SHOWN
                else ""
            ),
        )

    return attempt(heading, build)


def _affinity(column: str, value: float) -> str:
    return f"{value:.0%}" if column == "co_adoption_rate" else f"{value:.2f}"


def _optional(value: Any, form: str) -> Cell:
    return Cell("not known") if value is None else Cell(form.format(value), value)


def _products(count: int) -> str:
    more = " or more" if count == _BREADTHS_SHOWN else ""
    return f"{count}{more} product{'' if count == 1 else 's'}"


def _named(catalog: Catalog, path: str) -> str:
    return " → ".join(catalog.name(product) for product in path.split(ARROW))
