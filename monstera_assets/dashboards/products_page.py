"""The products page: adoption, affinity, adoption order and recommendations of all products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.gold import gold_product_adoption as adoption
from monstera_assets.gold.gold_product_recommendations import TABLE as RECOMMENDATIONS
from monstera_assets.gold.gold_recommendation_evaluation import TABLE as EVALUATION
from monstera_assets.gold.metrics import Metric
from monstera_assets.silver.silver_cross_product_analytics import TABLE as PORTFOLIOS
from monstera_assets.silver.silver_product_adoption_sequences import (
    ARROW,
    PERIOD_DAYS,
    RETENTION_FROM,
    products_in,
)
from monstera_assets.silver.silver_product_adoption_sequences import TABLE as PATHS
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
_LIFT, _RATE = "Lift", "Co-adoption rate"
_NOBODY, _OTHERS, _POPULAR = "None yet", "Other products", "Popular with all"
_ANY, _BEST = "Any of three", "Best only"
_NOTHING = "There is no user to whom a product could be recommended."
_ORDERS = {"affinity": ma.PRIMARY, "popularity": "second", "chance": ma.SECONDARY}
_RATES = {
    "Hit rate at 1": "hit_rate_at_1",
    "Hit rate at 3": "hit_rate_at_3",
    "Mean reciprocal rank": "mean_reciprocal_rank",
}
_PRODUCT, _USERS = ma.Field("product", "Product"), ma.Field("users", "Users", ",d")


def products_page(reader: ma.Reader, catalog: ma.Catalog) -> ma.Page:
    """Create the products page."""
    breadths = [first_products(reader, catalog), breadth(reader), retention(reader)]
    return ma.Page(
        file=ma.PRODUCTS,
        title="Products",
        lead="What people adopt, together with what, in which order, and what they may adopt next.",
        up=(ma.HOME_LINK,),
        sections=(
            ma.section("Adoption", [products(reader, catalog), funnels(reader, catalog)]),
            ma.section(
                "Together",
                [affinity(reader, catalog)],
                "Each row is a product that users have, and each column is a product that they may have"
                " too. Blue pairs have more users than chance, red ones fewer, and white ones as many:"
                " there, lift is 1. * marks pairs with too few users for a reliable value. This is"
                " correlation, not causation.",
            ),
            ma.section(
                "Order and breadth",
                [next_products(reader, catalog), *breadths, paths(reader, catalog)],
            ),
            ma.section(
                "Recommendations",
                [recommended(reader, catalog), reasons(reader, catalog), accuracy(reader)],
                "What each user may adopt next, and how often past recommendations came true.",
            ),
        ),
    )


@ma.item(ma.head("All products", "Products", "Adopted by Users", "to Date", by="Product"))
def products(heading: ma.Head, reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    """List the active products with their adoption metrics and links to their pages."""
    found = _by_use(reader)
    if not catalog.products:
        return ma.Unavailable(*heading, "The product catalog has no active products.")
    pages = {product.id: product for product in catalog.products}
    order = [*filter(pages.get, found), *(own for own in pages if own not in found)]
    fields = {
        metric: ma.metric_field(metric, title=metric.name.removesuffix(" to Date"))
        for metric in _COLUMNS
    }
    rows = [
        [
            ma.Cell(pages[own].name, link=pages[own].file),
            *(ma.cell(found.get(own, {}).get(metric), field) for metric, field in fields.items()),
        ]
        for own in order
    ]
    in_use = ma.count_text(found.get(order[0], {}).get(adoption.USERS_IN_USE))
    return ma.Listing(
        *heading,
        f"Most used product: {pages[order[0]].name}, with {in_use} users.",
        ma.table([_PRODUCT, *fields.values()], rows),
        ma.about(_COLUMNS, adoption.TABLE),
        searchable=True,
    )


@ma.item(
    ma.head(
        "Adoption funnel", "Users", "Eligible, Tried, Activated and in Use", "to Date", by="Product"
    )
)
def funnels(heading: ma.Head, reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    """Chart the adoption funnels of all products side by side."""
    found = _by_use(reader)
    shown = [own for own in found if own in catalog.names][:_PRODUCTS]
    if not any(found[own][adoption.USERS_TRIED] for own in shown):
        return ma.Unavailable(*heading, "No users have accessed a product.")
    rows = [
        (catalog.name(own), step, found[own][metric])
        for own in shown
        for step, (metric, _) in _STEPS.items()
    ]
    kept = {
        own: found[own][adoption.USERS_IN_USE] / tried
        for own in found
        if (tried := found[own][adoption.USERS_TRIED])
    }
    best, worst = max(kept, key=kept.__getitem__), min(kept, key=kept.__getitem__)
    finding = f"{catalog.name(best)} keeps most of those who tried it ({kept[best]:.1%} use it now)"
    if kept[worst] < kept[best]:
        finding += f", {catalog.name(worst)} least ({kept[worst]:.1%})"
    if len(found) > len(shown):
        finding += f". The chart shows {len(shown)} of {len(found)} products, most used first"
    colors = {step: color for step, (_, color) in _STEPS.items()}
    described = ma.about([metric for metric, _ in _STEPS.values()], adoption.TABLE)
    return ma.grouped_bars(
        heading, rows, _PRODUCT, _USERS, colors, f"{finding}.", described, wide=True
    )


@ma.item(ma.head("Adopted together", "Products", "Adopted Together", "to Date", by="Pair"))
def affinity(heading: ma.Head, reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    """Draw lift or the co-adoption rate of each pair of products, shaded by lift around 1."""
    columns = ("co_adoption_rate", "lift", "users_both", "is_low_support")
    found = reader.rows(
        [AFFINITY],
        f"WITH most AS (SELECT first_product_id AS id, row_number() OVER (ORDER BY max(users_first)"
        f" DESC, first_product_id) AS place FROM {AFFINITY.qualified_name} GROUP BY id LIMIT ?)"
        f" SELECT first_product_id, second_product_id, {', '.join(columns)}"
        f" FROM {AFFINITY.qualified_name} JOIN most AS a ON first_product_id = a.id"
        " JOIN most AS b ON second_product_id = b.id WHERE lift IS NOT NULL ORDER BY a.place, b.place",
        [_PRODUCTS],
    )
    if not found:
        return ma.Unavailable(*heading, "There are no two products that users adopted.")
    measure, value = ma.Field("measure", "Measure"), ma.Field("value", "Value", ",.2f")
    given, other = ma.Field("given", "Has"), ma.Field("other", "Has too")
    lift, both = ma.Field("lift", "Lift", ",.2f"), ma.Field("users_both", "Users with both", ",d")
    support = ma.Field("support", "Support")
    names = list(dict.fromkeys(first for first, *_ in found))
    rows = [
        (
            *(name, catalog.name(first), catalog.name(second), number, chance, users),
            "few users" if few else "enough users",
        )
        for name in (_LIFT, _RATE)
        for first, second, rate, chance, users, few in found
        for number in [chance if name == _LIFT else rate]
    ]
    known = [(one[3], *one[:2]) for one in found if not one[5] and one[0] < one[1]]
    finding = "No pair of products has enough users for a reliable value."
    if known:
        pairs = [
            f"{catalog.name(first)} with {catalog.name(second)} ({chance:.2f} times chance)"
            for chance, first, second in (max(known), min(known))
        ]
        finding = f"Highest lift: {pairs[0]}."
        finding += f" Lowest: {pairs[1]}." if len(known) > 1 else ""
    few = f"datum.{support.name} === 'few users'"
    form = f"format(datum.value, datum.{measure.name} === '{_LIFT}' ? '.2f' : '.0%')"
    chart = ma.Chart(
        (measure, given, other, value, lift, both, support),
        rows,
        ma.charts.heatmap(
            *(other, given, value),
            middle=1,
            most=max(2.0, *(one[3] for one in found)),
            shade=lift,
            label=f"{form} + ({few} ? ' *' : '')",
            faint=few,
            order=[catalog.name(own) for own in names],
        ),
        choices=(ma.Choice.of(measure, (_LIFT, _RATE)),),
    )
    return ma.Figure(
        *heading, finding, chart, ma.about_columns(AFFINITY, columns), wide=len(names) > 4
    )


@ma.item(
    ma.head(
        "From the first product to the next",
        "Users",
        "Adopting a Second Product",
        "to Date",
        by="Product",
    )
)
def next_products(heading: ma.Head, reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    """Draw the flow of users from their first product to the next one."""
    found = reader.rows(
        [PATHS],
        "WITH steps AS (SELECT first_product_id AS first, last_product_id AS next, users"
        f" FROM {PATHS.qualified_name} WHERE path_length = 2 UNION ALL"
        f" SELECT first_product_id, NULL, users_ending FROM {PATHS.qualified_name}"
        " WHERE path_length = 1),"
        " most AS (SELECT id FROM (SELECT first AS id, users FROM steps UNION ALL"
        " SELECT next, users FROM steps WHERE next IS NOT NULL)"
        " GROUP BY id ORDER BY sum(users) DESC, id LIMIT ?)"
        " SELECT CASE WHEN first IN (FROM most) THEN first ELSE '' END AS first,"
        " CASE WHEN next IS NULL OR next IN (FROM most) THEN next ELSE '' END AS next,"
        " CAST(sum(users) AS BIGINT) FROM steps WHERE users > 0 GROUP BY ALL ORDER BY ALL",
        [_NODES],
    )
    if not found:
        return ma.Unavailable(*heading, "No users have adopted a product.")

    def named(own: str | None) -> str:
        return _NOBODY if own is None else catalog.name(own) if own else _OTHERS

    rows = [(named(first), named(after), users) for first, after, users in found]
    owns = {own for row in found for own in row[:2] if own}
    colors = ma.line_colors(sorted(map(catalog.name, owns)))
    colors |= {_OTHERS: ma.MUTED, _NOBODY: ma.SECONDARY}
    source, target = ma.Field("first", "First product"), ma.Field("next", "Next product")
    chart = ma.Chart(
        (source, target, _USERS), rows, ma.charts.flows(source, target, _USERS, colors), height=340
    )
    everybody = sum(users for *_, users in rows)
    went = sum(users for _, after, users in rows if after != _NOBODY)
    finding = f"{went:,} of {everybody:,} users adopted a second product."
    going = [
        (f"{first} to {after}", users, ma.count_text(users))
        for first, after, users in rows
        if not {first, after} & {_OTHERS, _NOBODY}
    ]
    if going:
        finding += f" {ma.ranking('users', going, whole=went)}"
    described = ma.about_columns(PATHS, ["path", "users", "users_ending"])
    return ma.Figure(*heading, finding, chart, described, wide=True)


@ma.item(ma.head("First product", "Users", "Started", "to Date", by="Product"))
def first_products(heading: ma.Head, reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    """Chart users by the product that they adopted first."""
    counts = sorted(
        ((found[adoption.USERS_STARTED] or 0, own) for own, found in _by_use(reader).items()),
        key=lambda one: (-one[0], one[1]),
    )
    users = [(catalog.name(own), count) for count, own in counts[:_PRODUCTS]]
    hidden = [count for count, _ in counts[_PRODUCTS:]]
    described = ma.about([adoption.USERS_STARTED], adoption.TABLE)
    rest = ma.Rest(len(hidden), sum(hidden))
    return ma.bars(heading, "users", users, described, name="Product", whole=True, rest=rest)


@ma.item(
    ma.head(
        "Products per user", "Users", "with Products Tried and in Use", "to Date", by="Products"
    )
)
def breadth(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Chart users by the number of products that they tried and that they use."""
    columns = {"Tried": "products_tried", "In use": "products_active"}
    found = reader.rows(
        [PORTFOLIOS],
        " UNION ALL ".join(
            f"SELECT '{label}' AS series, least({column}, ?) AS products, count(*) AS users"
            f" FROM {PORTFOLIOS.qualified_name} GROUP BY products"
            for label, column in columns.items()
        )
        + " ORDER BY products, series DESC",
        [_BREADTHS] * len(columns),
    )
    users = {(label, products): count for label, products, count in found}
    if not users:
        return ma.Unavailable(*heading, "No users have signed up.")
    numbers = range(max(products for _, products in users) + 1)
    rows = [(_products(n), label, users.get((label, n), 0)) for n in numbers for label in columns]
    everybody = sum(count for label, _, count in found if label == "Tried")
    several = {
        one: sum(count for label, n, count in found if label == one and n > 1) for one in columns
    }
    finding = (
        f"{several['Tried']:,} of {everybody:,} users tried more than one product, and"
        f" {several['In use']:,} use more than one now."
    )
    colors = {label: _STEPS[label][1] for label in columns}
    described = ma.about_columns(PORTFOLIOS, [*columns.values()])
    name = ma.Field("products", "Products")
    return ma.grouped_bars(heading, rows, name, _USERS, colors, finding, described)


@ma.item(
    ma.head(
        "Retention by number of products",
        "Users",
        "Retained Share after Adoption",
        "to Date",
        by="Products",
    )
)
def retention(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Chart the share of users still active in later periods, by number of products adopted."""
    labels = {f"Days {n} to {n + PERIOD_DAYS - 1}": n for n in RETENTION_FROM}
    # Unlike sums of shares, sums of user counts do not depend on row order.
    found = reader.rows(
        [PATHS],
        " UNION ALL ".join(
            f"SELECT least(path_length, ?) AS products, '{label}' AS series,"
            f" CAST(sum(round(retention_{n} * users_mature_{n})) AS BIGINT) / sum(users_mature_{n}),"
            f" {n} AS start FROM {PATHS.qualified_name} WHERE users_mature_{n} > 0 GROUP BY products"
            for label, n in labels.items()
        )
        + " ORDER BY products, start",
        [_BREADTHS] * len(labels),
    )
    if not found:
        least = min(RETENTION_FROM) + PERIOD_DAYS - 1
        return ma.Unavailable(*heading, f"No users adopted a product more than {least} days ago.")
    rows = [(_products(products), label, share) for products, label, share, _ in found]
    first = [row for row in rows if row[1] == rows[0][1]]
    finding = f"Active on {_lowered(first[0][1])} after the adoption: " + ", ".join(
        f"{share:.1%} of users with {name}" for name, _, share in first
    )
    share = ma.Field("share", "Retained", ".1%")
    columns = [f"{name}_{n}" for n in RETENTION_FROM for name in ("retention", "users_mature")]
    described = ma.about_columns(PATHS, columns)
    name = ma.Field("products", "Products adopted")
    return ma.grouped_bars(
        heading, rows, name, share, ma.line_colors([*labels]), f"{finding}.", described
    )


@ma.item(ma.head("Most frequent paths", "Users", "Adopting", "to Date", by="Path"))
def paths(heading: ma.Head, reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    """List the most frequent adoption paths."""
    fields = {
        "users": _USERS,
        "share_of_adopters": ma.Field("share", "Share of adopters", ".1%"),
        "median_days_since_previous": ma.Field("days", "Days since previous", ",.0f"),
        "users_ending": ma.Field("ending", "Ending here", ",d"),
        "retention_30": ma.Field("after_30", "Retained after 30 days", ".0%"),
        "retention_90": ma.Field("after_90", "Retained after 90 days", ".0%"),
    }
    found = reader.rows(
        [PATHS],
        f"SELECT path, {', '.join(fields)}, count(*) OVER () FROM {PATHS.qualified_name}"
        " ORDER BY users DESC, path_length, path LIMIT ?",
        [_PATHS],
    )
    if not found:
        return ma.Unavailable(*heading, "No users have adopted a product.")
    every = found[0][-1]

    def named(path: str) -> str:
        return " → ".join(map(catalog.name, products_in(path)))

    finding = f"{ma.plural(every, 'path')}. The most frequent path is {named(found[0][0])}"
    longer = next((row for row in found if ARROW in row[0]), None)
    if longer:
        finding += (
            ". The most frequent path with more than one product is"
            f" {named(longer[0])}, with {ma.plural(longer[1], 'user')}"
        )
    rows = [
        [
            ma.Cell(named(path)),
            *(
                ma.Cell("no previous product")
                if column == "median_days_since_previous" and ARROW not in path
                else ma.cell(value, field)
                for value, (column, field) in zip(values, fields.items(), strict=True)
            ),
        ]
        for path, *values, _ in found
    ]
    return ma.Listing(
        *heading,
        f"{finding}.",
        ma.table([ma.Field("path", "Path"), *fields.values()], rows),
        ma.about_columns(PATHS, ["path", *fields]),
        searchable=True,
        footnote=f"The table shows the {_PATHS} most frequent of {every:,} paths."
        if every > _PATHS
        else "",
    )


@ma.item(ma.head("Recommended products", "Users", "with Recommendation", "to Date", by="Product"))
def recommended(heading: ma.Head, reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    """Chart users by recommended product and by the basis of the recommendation."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for own, source, _, users, best in _recommendations(reader):
        counts[_ANY, catalog.name(own), ma.words(source)] += users
        counts[_BEST, catalog.name(own), ma.words(source)] += best
    if not counts:
        return ma.Unavailable(*heading, _NOTHING)
    sums: Counter[str] = Counter()
    for (kind, name, _), users in counts.items():
        sums[name] += users * (kind == _BEST)
    known = [(name, users, ma.count_text(users)) for name, users in sums.items()]
    finding = f"As the best next product, {_lowered(ma.ranking('users', known))}"
    colors = {ma.words(order): _ORDERS[order] for order in ("affinity", "popularity")}
    return ma.grouped_bars(
        heading,
        [(*key, users) for key, users in counts.items() if key[1] in [*sums][:_PRODUCTS]],
        *(_PRODUCT, _USERS, colors, finding),
        ma.about_columns(RECOMMENDATIONS, ["recommendation_rank", "recommendation_source"]),
        choice=ma.Choice.of(ma.Field("rank", "Rank"), (_ANY, _BEST)),
        stacked=True,
    )


@ma.item(
    ma.head("Why products are recommended", "Users", "with Recommendation", "to Date", by="Reason")
)
def reasons(heading: ma.Head, reader: ma.Reader, catalog: ma.Catalog) -> ma.Item:
    """Draw the number of recommendations by recommended product and reason."""
    rows = [
        (_POPULAR if because is None else catalog.name(because), catalog.name(own), users)
        for own, _, because, users, _ in _recommendations(reader)
    ]
    if not rows:
        return ma.Unavailable(*heading, _NOTHING)
    shown = [*dict.fromkeys(own for _, own, _ in rows)][:_PRODUCTS]
    rows.sort(key=lambda row: (row[0] == _POPULAR, *row))
    known = [
        (f"{own} because of {because}", users, ma.count_text(users))
        for because, own, users in rows
        if because != _POPULAR
    ]
    finding = "No product is recommended because of another one."
    if known:
        finding = ma.ranking("recommendations", known)
    because, own = ma.Field("because", "Because of"), ma.Field("product", "Recommended")
    drawn = [row for row in rows if row[1] in shown]
    chart = ma.Chart((because, own, _USERS), drawn, ma.charts.heatmap(own, because, _USERS))
    columns = ["because_product_id", "recommendation_source"]
    return ma.Figure(
        *heading, finding, chart, ma.about_columns(RECOMMENDATIONS, columns), wide=True
    )


@ma.item(
    ma.head(
        "How often they came true", "Users", "Adopting a Predicted Product", "to Date", by="Order"
    )
)
def accuracy(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Chart how accurately each order predicted the next product, over all evaluation dates."""
    found = reader.rows(
        [EVALUATION],
        f"SELECT predictor, users_judged, is_published, {', '.join(_RATES.values())}"
        f" FROM {EVALUATION.qualified_name} WHERE evaluation_date IS NULL AND users_judged > 0"
        " ORDER BY predictor",
    )
    if not found:
        return ma.Unavailable(
            *heading, "Nobody adopted another product after the evaluation dates."
        )
    rates = {order: dict(zip(_RATES, values, strict=True)) for order, _, _, *values in found}
    rows = [(label, ma.words(order), rates[order][label]) for label in _RATES for order in _ORDERS]
    [published] = [order for order, _, is_published, *_ in found if is_published]
    at_1, at_3, _ = _RATES
    compared = ", ".join(f"{order} {rates[order][at_1]:.1%}" for order in _ORDERS)
    finding = (
        f"Share of {ma.plural(found[0][1], 'adoption')} whose product was ranked first: {compared}."
        f" Recommendations follow {published}, which ranked {rates[published][at_3]:.1%} in its first"
        " three."
    )
    colors = {ma.words(order): color for order, color in _ORDERS.items()}
    value, name = ma.Field("rate", "Rate", ".2f"), ma.Field("measure", "Measure")
    columns = ["predictor", *_RATES.values(), "users_judged", "is_published"]
    described = ma.about_columns(EVALUATION, columns)
    return ma.grouped_bars(heading, rows, name, value, colors, finding, described, wide=True)


def _by_use(reader: ma.Reader) -> Mapping[str, Mapping[Metric, Any]]:
    """Return the adoption metrics of each product, most used products first."""
    found = reader.by_key(adoption.TABLE, "product_id", "ORDER BY product_id")
    return dict(sorted(found.items(), key=lambda one: -(one[1][adoption.USERS_IN_USE] or 0)))


def _recommendations(reader: ma.Reader) -> Sequence[tuple[str, str, str | None, int, int]]:
    """Return product, source, reason, and the numbers of recommendations and of best ones.

    The most recommended products come first.
    """
    return reader.rows(
        [RECOMMENDATIONS],
        "WITH counted AS (SELECT product_id, recommendation_source, because_product_id,"
        " count(*) AS users, count(*) FILTER (recommendation_rank = 1) AS best"
        f" FROM {RECOMMENDATIONS.qualified_name} GROUP BY ALL),"
        " whole AS (SELECT *, sum(users) OVER (PARTITION BY product_id) AS total FROM counted)"
        " SELECT * EXCLUDE (total) FROM whole"
        " ORDER BY total DESC, product_id, recommendation_source, because_product_id",
    )


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _products(count: int) -> str:
    return f"{ma.plural(count, 'product')}{' or more' if count == _BREADTHS else ''}"
