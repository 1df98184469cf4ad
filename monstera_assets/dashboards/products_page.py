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
from monstera_assets.silver.silver_product_affinity import TABLE as AFFINITY

_PRODUCTS, _NODES, _PATHS = 14, 8, 25
"""Maximum numbers of products in a chart, of nodes of the flows and of paths."""
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
            ma.Section("Order", [_next_products(reader, catalog), _paths(reader, catalog)]),
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
    files = {own: ma.page_file("product", own) for own in catalog.products}
    order = [*filter(files.get, found), *(own for own in files if own not in found)]
    titles = {metric: metric.name.removesuffix(" to Date") for metric in _COLUMNS}
    fields = [_PRODUCT, *(ma.metric_field(one, title=text) for one, text in titles.items())]
    rows = [(catalog.name(own), *map(found.get(own, {}).get, _COLUMNS)) for own in order]
    return ma.Listing(
        f"Most used product: {rows[0][0]}, with {ma.count_text(rows[0][1])} users.",
        fields,
        rows,
        ma.about(adoption.TABLE, *_COLUMNS),
        {"product": {catalog.name(own): file for own, file in files.items()}},
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
    kept = sorted(
        (one[adoption.USERS_IN_USE] / one[adoption.USERS_TRIED], catalog.name(own))
        for own, one in found.items()
        if one[adoption.USERS_TRIED]
    )
    (worst, last), (best, first) = kept[0], kept[-1]
    finding = f"{first} keeps most of those who tried it ({best:.1%} use it now)"
    finding += f", {last} least ({worst:.1%})" if worst < best else ""
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
            *(catalog.name(first), catalog.name(second), rate, users),
            *("few users" if few else "enough users", lift),
        )
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
    names = list(dict.fromkeys(row[0] for row in rows))
    options = {
        "middle": 1,
        "most": max(2.0, *(one[3] for one in found)),
        "faint": "datum.support === 'few users'",
        "order": names,
    }
    fields = ma.fields(
        *("given/Has", "other/Has too", "rate/Of those with the first/.0%"),
        *("users_both/Users with both/,d", "support/Support", "lift/Lift/.2f"),
    )
    described = ma.about(AFFINITY, "co_adoption_rate", "lift", "users_both", "is_low_support")
    chart = ma.Chart("heatmap", fields, rows, options=options)
    return ma.Figure(finding, chart, described, wide=len(names) > 4)


@ma.item(
    "From the first product to the next", "Users, Adopting a Second Product, to Date, by Product"
)
def _next_products(reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    found = reader.rows(
        "SELECT first_product_id, last_product_id, users FROM silver_product_adoption_sequences"
        " WHERE path_length = 2 AND users > 0"
        " UNION ALL SELECT first_product_id, NULL, users_ending FROM silver_product_adoption_sequences"
        " WHERE path_length = 1 AND users_ending > 0 ORDER BY ALL"
    )
    ma.require(found, "No users have adopted a product.")
    sums, flows = Counter[str](), Counter[tuple[str, str]]()
    for first, after, users in found:
        sums.update({own: users for own in (first, after) if own})
    most = sorted(sums, key=lambda own: (-sums[own], own))[:_NODES]
    names = dict.fromkeys(sums, _OTHERS) | {own: catalog.name(own) for own in most}
    colors = ma.line_colors(sorted(names[own] for own in most))
    colors |= {_OTHERS: ma.MUTED, _NOBODY: ma.SECONDARY}
    for first, after, users in found:
        flows[names[first], names[after] if after else _NOBODY] += users
    rows = [(*pair, users) for pair, users in flows.items()]
    went = sum(users for (_, after), users in flows.items() if after != _NOBODY)
    finding = f"{went:,} of {flows.total():,} users adopted a second product."
    going = [
        (f"{first} to {after}", users)
        for first, after, users in rows
        if not {first, after} & {_OTHERS, _NOBODY}
    ]
    finding += f" {ma.ranking('users', going, whole=went)}" if going else ""
    fields = ma.fields("first/First product", "next/Next product", "users/Users/,d")
    described = ma.about(sequences.TABLE, "path", "users", "users_ending")
    return ma.Figure(finding, ma.Chart("flows", fields, rows, colors, 340), described, wide=True)


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
        f"SELECT {', '.join(columns)}, count(*) OVER () FROM silver_product_adoption_sequences"
        f" ORDER BY users DESC, path_length, path LIMIT {_PATHS}"
    )
    ma.require(found, "No users have adopted a product.")
    every = found[0][-1]
    paths = [[*map(catalog.name, sequences.products_in(path))] for path, *_ in found]
    rows = [(" → ".join(path), *row[1:-1]) for path, row in zip(paths, found, strict=True)]
    finding = f"{ma.plural(every, 'path')}. The most frequent path is {rows[0][0]}."
    longer = [row for path, row in zip(paths, rows, strict=True) if len(path) > 1][:1]
    for path, users, *_ in longer:
        finding += f" That with more than one product is {path}, with {ma.plural(users, 'user')}."
    most = f"The table shows the {_PATHS} most frequent of {every:,} paths."
    described, footnote = ma.about(sequences.TABLE, *columns), most if every > _PATHS else ""
    return ma.Listing(finding, fields, rows, described, footnote=footnote)


@ma.item("Recommended products", "Users, with Recommendation, to Date, by Product")
def _recommended(reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    found = reader.rows(
        "SELECT product_id, recommendation_source, count(*),"
        " count(*) FILTER (recommendation_rank = 1) FROM gold_product_recommendations"
        " GROUP BY 1, 2 ORDER BY 1, 2"
    )
    ma.require(found, "There is no user to whom a product could be recommended.")
    sums: Counter[str] = Counter()
    for own, _, _, best in found:
        sums[own] += best
    rows = [
        (rank, catalog.name(own), ma.words(order), users[place])
        for place, rank in enumerate((_ANY, _BEST))
        for own, _ in sums.most_common(_PRODUCTS)
        for product, order, *users in found
        if product == own
    ]
    best_of = [(catalog.name(own), best) for own, best in sums.items()]
    colors = {ma.words(order): _ORDERS[order] for order in ("affinity", "popularity")}
    fields = (ma.choice("rank", "Rank", [_ANY, _BEST], _BEST), _PRODUCT, ma.SERIES, _USERS)
    return ma.Figure(
        f"As the best next product, {ma.lowered(ma.ranking('users', best_of))}",
        ma.Chart("grouped", fields, rows, colors),
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
