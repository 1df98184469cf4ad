"""The products page: adoption, affinity, adoption order and recommendations of all products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.gold import gold_product_adoption as adoption
from monstera_assets.gold.gold_product_recommendations import TABLE as RECOMMENDATIONS
from monstera_assets.gold.gold_recommendation_evaluation import TABLE as EVALUATION
from monstera_assets.gold.metrics import Metric
from monstera_assets.silver import silver_product_adoption_sequences as sequences
from monstera_assets.silver.silver_cross_product_analytics import TABLE as PORTFOLIOS
from monstera_assets.silver.silver_product_affinity import TABLE as AFFINITY

_PRODUCTS, _NODES, _PATHS, _BREADTHS = 14, 8, 25, 8
"""Maximum numbers of products in a chart, of nodes of the flows, of paths and of products per user."""
_STEPS = {
    "Eligible": (adoption.USERS_ELIGIBLE, ma.SECONDARY),
    "Tried": (adoption.USERS_TRIED, "fourth"),
    "Activated": (adoption.USERS_ACTIVATED, "second"),
    "In use": (adoption.USERS_IN_USE, ma.PRIMARY),
}
_COLUMNS = (
    *(adoption.USERS_IN_USE, adoption.USERS_TRIED, adoption.ADOPTION_RATE),
    *(adoption.ACTIVATION_RATE, adoption.DAYS_TO_ACTIVATION, adoption.USERS_STARTED),
)
_NOBODY, _OTHERS = "None yet", "Other products"
_ANY, _BEST = "Any of three", "Best only"
_ORDERS = {"affinity": ma.PRIMARY, "popularity": "second", "chance": ma.SECONDARY}
_RATES = {
    "Hit rate at 1": "hit_rate_at_1",
    "Hit rate at 3": "hit_rate_at_3",
    "Mean reciprocal rank": "mean_reciprocal_rank",
}
_PRODUCT, _USERS = ma.fields("product/Product", "users/Users/,d")


def products_page(reader: ma.Reader, catalog: ma.Catalog) -> ma.Page:
    """Create the products page."""
    breadths = [_first_products(reader, catalog), _breadth(reader), _retention(reader)]
    return ma.Page(
        "products.html",
        "Products",
        "What people adopt, together with what, in which order, and what they may adopt next.",
        sections=[
            ma.Section("Adoption", [_all_products(reader, catalog), _funnels(reader, catalog)]),
            ma.Section(
                "Together",
                [_affinity(reader, catalog)],
                "Each row is a product that users have, and each column is a product that they may have"
                " too. Blue pairs have more users than chance, red ones fewer, and white ones as many:"
                " there, lift is 1. * marks pairs with too few users for a reliable value. This is"
                " correlation, not causation.",
            ),
            ma.Section(
                "Order and breadth",
                [_next_products(reader, catalog), *breadths, _paths(reader, catalog)],
            ),
            ma.Section(
                "Recommendations",
                [_recommended(reader, catalog), _accuracy(reader)],
                "What each user may adopt next, and how often past recommendations came true.",
            ),
        ],
    )


@ma.item("All products", "Products, Adopted by Users, to Date, by Product")
def _all_products(reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    found = _by_use(reader)
    ma.require(catalog.products, "The product catalog has no active products.")
    pages = {product.id: product for product in catalog.products}
    order = [*filter(pages.get, found), *(own for own in pages if own not in found)]
    titles = {metric: metric.name.removesuffix(" to Date") for metric in _COLUMNS}
    fields = [_PRODUCT, *(ma.metric_field(one, title=text) for one, text in titles.items())]
    rows = [(pages[own].name, *map(found.get(own, {}).get, _COLUMNS)) for own in order]
    return ma.Listing(
        f"Most used product: {rows[0][0]}, with {ma.count_text(rows[0][1])} users.",
        fields,
        rows,
        ma.about(adoption.TABLE, *_COLUMNS),
        {"product": {product.name: product.file for product in catalog.products}},
    )


@ma.item("Adoption funnel", "Users, Eligible, Tried, Activated and in Use, to Date, by Product")
def _funnels(reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    found = _by_use(reader)
    shown = [own for own in found if own in catalog.names][:_PRODUCTS]
    tried = any(found[own][adoption.USERS_TRIED] for own in shown)
    ma.require(tried, "No users have accessed a product.")
    rows = [
        (catalog.name(own), step, found[own][metric])
        for own in shown
        for step, (metric, _) in _STEPS.items()
    ]
    kept = [
        (one[adoption.USERS_IN_USE] / one[adoption.USERS_TRIED], own)
        for own, one in found.items()
        if one[adoption.USERS_TRIED]
    ]
    best, worst = max(kept, key=lambda one: one[0]), min(kept, key=lambda one: one[0])
    finding = f"{catalog.name(best[1])} keeps most of those who tried it ({best[0]:.1%} use it now)"
    if worst[0] < best[0]:
        finding += f", {catalog.name(worst[1])} least ({worst[0]:.1%})"
    if len(found) > len(shown):
        finding += f". The chart shows {len(shown)} of {len(found)} products, most used first"
    colors = {step: color for step, (_, color) in _STEPS.items()}
    described = ma.about(adoption.TABLE, *(metric for metric, _ in _STEPS.values()))
    chart = ma.Chart("grouped", (_PRODUCT, ma.SERIES, _USERS), rows, colors)
    return ma.Figure(f"{finding}.", chart, described, wide=True)


@ma.item("Adopted together", "Products, Adopted Together, to Date, by Pair")
def _affinity(reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    found = reader.rows(
        f"""WITH most AS (
            SELECT first_product_id AS id,
                row_number() OVER (ORDER BY max(users_first) DESC, first_product_id) AS place
            FROM silver_product_affinity GROUP BY id LIMIT {_PRODUCTS}
        )
        SELECT first_product_id, second_product_id, co_adoption_rate, lift, users_both, is_low_support
        FROM silver_product_affinity JOIN most AS a ON first_product_id = a.id
        JOIN most AS b ON second_product_id = b.id WHERE lift IS NOT NULL ORDER BY a.place, b.place"""
    )
    ma.require(found, "There are no two products that users adopted.")
    rows = [
        (
            *(measure, catalog.name(first), catalog.name(second)),
            *(lift if measure == "Lift" else rate, lift, users),
            "few users" if few else "enough users",
        )
        for measure in ("Lift", "Co-adoption rate")
        for first, second, rate, lift, users, few in found
    ]
    known = [(one[3], *one[:2]) for one in found if not one[5] and one[0] < one[1]]
    finding = "No pair of products has enough users for a reliable value."
    if known:
        pairs = [
            f"{catalog.name(first)} with {catalog.name(second)} ({lift:.2f} times chance)"
            for lift, first, second in (max(known), min(known))
        ]
        finding = f"Highest lift: {pairs[0]}."
        finding += f" Lowest: {pairs[1]}." if len(known) > 1 else ""
    few, names = "datum.support === 'few users'", list(dict.fromkeys(row[1] for row in rows))
    options = {
        "middle": 1,
        "most": max(2.0, *(one[3] for one in found)),
        "shade": "lift",
        "label": f"format(datum.value, datum.measure === 'Lift' ? '.2f' : '.0%') + ({few} ? ' *' : '')",
        "faint": few,
        "order": names,
    }
    fields = (
        ma.choice("measure", "Measure", ["Lift", "Co-adoption rate"]),
        *ma.fields("given/Has", "other/Has too", "value/Value/,.2f", "lift/Lift/,.2f"),
        *ma.fields("users_both/Users with both/,d", "support/Support"),
    )
    described = ma.about(AFFINITY, "co_adoption_rate", "lift", "users_both", "is_low_support")
    chart = ma.Chart("heatmap", fields, rows, options=options)
    return ma.Figure(finding, chart, described, wide=len(names) > 4)


@ma.item(
    "From the first product to the next", "Users, Adopting a Second Product, to Date, by Product"
)
def _next_products(reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    found = reader.rows(
        f"""WITH steps AS (
            SELECT first_product_id AS first, last_product_id AS next, users
            FROM silver_product_adoption_sequences WHERE path_length = 2
            UNION ALL SELECT first_product_id, NULL, users_ending
            FROM silver_product_adoption_sequences WHERE path_length = 1
        ), most AS (
            SELECT id FROM (
                SELECT first AS id, users FROM steps
                UNION ALL SELECT next, users FROM steps WHERE next IS NOT NULL
            ) GROUP BY id ORDER BY sum(users) DESC, id LIMIT {_NODES}
        )
        SELECT CASE WHEN first IN (FROM most) THEN first ELSE '' END AS first,
            CASE WHEN next IS NULL OR next IN (FROM most) THEN next ELSE '' END AS next,
            CAST(sum(users) AS BIGINT)
        FROM steps WHERE users > 0 GROUP BY ALL ORDER BY ALL"""
    )
    ma.require(found, "No users have adopted a product.")
    names = {own: catalog.name(own) for row in found for own in row[:2] if own}
    colors = ma.line_colors(sorted({*names.values()})) | {_OTHERS: ma.MUTED, _NOBODY: ma.SECONDARY}
    names |= {None: _NOBODY, "": _OTHERS}
    rows = [(names[first], names[after], users) for first, after, users in found]
    going = [
        (f"{names[first]} to {names[after]}", users)
        for first, after, users in found
        if first and after
    ]
    everybody = sum(users for *_, users in rows)
    went = sum(users for _, after, users in found if after is not None)
    finding = f"{went:,} of {everybody:,} users adopted a second product."
    finding += f" {ma.ranking('users', going, whole=went)}" if going else ""
    fields = ma.fields("first/First product", "next/Next product", "users/Users/,d")
    described = ma.about(sequences.TABLE, "path", "users", "users_ending")
    return ma.Figure(finding, ma.Chart("flows", fields, rows, colors, 340), described, wide=True)


@ma.item("First product", "Users, Started, to Date, by Product")
def _first_products(reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    found = {own: one[adoption.USERS_STARTED] or 0 for own, one in _by_use(reader).items()}
    counts = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    users = [(catalog.name(own), count) for own, count in counts[:_PRODUCTS]]
    described = ma.about(adoption.TABLE, adoption.USERS_STARTED)
    rest = [count for _, count in counts[_PRODUCTS:]]
    return ma.bars("users", users, described, name="Product", whole=True, rest=rest)


@ma.item("Products per user", "Users, with Products Tried and in Use, to Date, by Products")
def _breadth(reader: ma.Reader) -> ma.Item:
    columns = {"Tried": "products_tried", "In use": "products_active"}
    selects = (
        f"SELECT '{label}', least({column}, {_BREADTHS}) AS products, count(*)"
        " FROM silver_cross_product_analytics GROUP BY products"
        for label, column in columns.items()
    )
    users = {(label, n): count for label, n, count in reader.rows(" UNION ALL ".join(selects))}
    ma.require(users, "No users have signed up.")
    numbers = range(max(n for _, n in users) + 1)
    rows = [(_products(n), label, users.get((label, n), 0)) for n in numbers for label in columns]
    everybody = sum(count for (label, _), count in users.items() if label == "Tried")
    tried, in_use = (
        sum(count for (label, n), count in users.items() if label == one and n > 1)
        for one in columns
    )
    colors = {label: _STEPS[label][1] for label in columns}
    fields = ma.fields("products/Products", "series/Series", "users/Users/,d")
    return ma.Figure(
        f"{tried:,} of {everybody:,} users tried more than one product, and {in_use:,} use more than"
        " one now.",
        ma.Chart("grouped", fields, rows, colors),
        ma.about(PORTFOLIOS, *columns.values()),
    )


@ma.item(
    "Retention by number of products", "Users, Retained Share after Adoption, to Date, by Products"
)
def _retention(reader: ma.Reader) -> ma.Item:
    starts, span = sequences.RETENTION_FROM, sequences.PERIOD_DAYS - 1
    labels = {n: f"Days {n} to {n + span}" for n in starts}
    # Unlike sums of shares, sums of user counts do not depend on row order.
    selects = (
        f"SELECT least(path_length, {_BREADTHS}) AS products, {n} AS start,"
        f" CAST(sum(round(retention_{n} * users_mature_{n})) AS BIGINT) / sum(users_mature_{n})"
        f" FROM silver_product_adoption_sequences WHERE users_mature_{n} > 0 GROUP BY products"
        for n in starts
    )
    found = reader.rows(f"{' UNION ALL '.join(selects)} ORDER BY products, start")
    ma.require(found, f"No users adopted a product more than {min(starts) + span} days ago.")
    rows = [(_products(products), labels[start], share) for products, start, share in found]
    first = [row for row in rows if row[1] == rows[0][1]]
    shares = ", ".join(f"{share:.1%} of users with {name}" for name, _, share in first)
    columns = [f"{name}_{n}" for n in starts for name in ("retention", "users_mature")]
    fields = ma.fields("products/Products adopted", "series/Series", "share/Retained/.1%")
    return ma.Figure(
        f"Active on {ma.lowered(first[0][1])} after the adoption: {shares}.",
        ma.Chart("grouped", fields, rows, ma.line_colors(labels.values())),
        ma.about(sequences.TABLE, *columns),
    )


@ma.item("Most frequent paths", "Users, Adopting, to Date, by Path")
def _paths(reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    fields = ma.fields(
        *("path/Path", "users/Users/,d", "share_of_adopters/Share of adopters/.1%"),
        "median_days_since_previous/Days since previous/,.0f/no previous product",
        *("users_ending/Ending here/,d", "retention_30/Retained after 30 days/.0%"),
        "retention_90/Retained after 90 days/.0%",
    )
    columns = [one.name for one in fields]
    found = reader.rows(
        f"SELECT count(*) OVER (), path_length, {', '.join(columns)}"
        " FROM silver_product_adoption_sequences"
        f" ORDER BY users DESC, path_length, path LIMIT {_PATHS}"
    )
    ma.require(found, "No users have adopted a product.")
    rows = [
        (" → ".join(map(catalog.name, sequences.products_in(path))), *values)
        for _, _, path, *values in found
    ]
    every = found[0][0]
    finding = f"{ma.plural(every, 'path')}. The most frequent path is {rows[0][0]}"
    longer = [row for (_, length, *_), row in zip(found, rows, strict=True) if length > 1]
    if longer:
        finding += (
            f". The most frequent path with more than one product is {longer[0][0]}, with"
            f" {ma.plural(longer[0][1], 'user')}"
        )
    most = f"The table shows the {_PATHS} most frequent of {every:,} paths."
    return ma.Listing(
        f"{finding}.",
        fields,
        rows,
        ma.about(sequences.TABLE, *columns),
        footnote=most if every > _PATHS else "",
    )


@ma.item("Recommended products", "Users, with Recommendation, to Date, by Product")
def _recommended(reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    counts: Counter[tuple[str, str, str]] = Counter()
    sums: Counter[str] = Counter()
    found = reader.rows(
        "SELECT product_id, recommendation_source, count(*),"
        " count(*) FILTER (recommendation_rank = 1) FROM gold_product_recommendations GROUP BY 1, 2"
        " ORDER BY sum(count(*)) OVER (PARTITION BY product_id) DESC, product_id, recommendation_source"
    )
    ma.require(found, "There is no user to whom a product could be recommended.")
    for own, source, users, best in found:
        counts[_ANY, catalog.name(own), ma.words(source)] += users
        counts[_BEST, catalog.name(own), ma.words(source)] += best
        sums[catalog.name(own)] += best
    colors = {ma.words(order): _ORDERS[order] for order in ("affinity", "popularity")}
    shown = [*sums][:_PRODUCTS]
    rows = [(*key, users) for key, users in counts.items() if key[1] in shown]
    fields = (ma.choice("rank", "Rank", [_ANY, _BEST]), _PRODUCT, ma.SERIES, _USERS)
    return ma.Figure(
        f"As the best next product, {ma.lowered(ma.ranking('users', sums.items()))}",
        ma.Chart("grouped", fields, rows, colors, options={"stacked": True}),
        ma.about(RECOMMENDATIONS, "recommendation_rank", "recommendation_source"),
    )


@ma.item("How often they came true", "Users, Adopting a Predicted Product, to Date, by Order")
def _accuracy(reader: ma.Reader) -> ma.Item:
    found = reader.rows(
        f"SELECT predictor, users_judged, is_published, {', '.join(_RATES.values())}"
        " FROM gold_recommendation_evaluation WHERE evaluation_date IS NULL AND users_judged > 0"
        " ORDER BY predictor"
    )
    ma.require(found, "Nobody adopted another product after the evaluation dates.")
    rates = {order: dict(zip(_RATES, values, strict=True)) for order, _, _, *values in found}
    rows = [(label, ma.words(order), rates[order][label]) for label in _RATES for order in _ORDERS]
    [published] = [order for order, _, is_published, *_ in found if is_published]
    at_1, at_3, _ = _RATES
    compared = ", ".join(f"{order} {rates[order][at_1]:.1%}" for order in _ORDERS)
    colors = {ma.words(order): color for order, color in _ORDERS.items()}
    fields = ma.fields("measure/Measure", "series/Series", "rate/Rate/.2f")
    return ma.Figure(
        f"Share of {ma.plural(found[0][1], 'adoption')} whose product was ranked first: {compared}."
        f" Recommendations follow {published}, which ranked {rates[published][at_3]:.1%} in its first"
        " three.",
        ma.Chart("grouped", fields, rows, colors),
        ma.about(EVALUATION, "predictor", *_RATES.values(), "users_judged", "is_published"),
        wide=True,
    )


def _by_use(reader: ma.Reader) -> Mapping[str, Mapping[Metric, Any]]:
    """Return the adoption metrics of each product, most used products first."""
    found = reader.by_key(adoption.TABLE, "product_id", "ORDER BY product_id")
    return dict(sorted(found.items(), key=lambda one: -(one[1][adoption.USERS_IN_USE] or 0)))


def _products(count: int) -> str:
    return f"{ma.plural(count, 'product')}{' or more' if count == _BREADTHS else ''}"
