"""Integration tests of recommendations: literal counts, no use of later data, and earlier runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path

import duckdb
import pytest

from monstera_assets.definitions import table_assets, tables
from monstera_assets.lifecycle.policy import LifecyclePolicy, RecommendationPolicy
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.writer import generate
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets_tests.integration.example_assets import Row
from monstera_assets_tests.integration.example_runs import Graph

COMPANY = Company(users=400, days=240)
EARLIER = COMPANY.end - timedelta(days=30)
POLICY = LifecyclePolicy(
    recommendations=RecommendationPolicy(evaluation_dates=3, min_judged_users=20)
)
EVALUATION = "gold_recommendation_evaluation"
RECOMMENDED = "gold_product_recommendations"
TABLES = {table.name: table for table in tables()}
ASSETS = {asset.table.name: asset for asset in table_assets()}


def _run(folder: Path, source: Path, last: date) -> Graph:
    graph = Graph(source, folder / "w.duckdb", folder / "home", COMPANY.first, POLICY)
    return graph.compute((EVALUATION, RECOMMENDED), last)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(COMPANY, tmp_path_factory.mktemp("recommendations") / "source").folder


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Graph:
    return _run(tmp_path_factory.mktemp("recommendations_run"), source, COMPANY.end)


@pytest.fixture
def connection(graph: Graph) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(graph.database)) as connection:
        connection.execute("BEGIN TRANSACTION")
        yield connection
        connection.execute("ROLLBACK")


def computed(connection: duckdb.DuckDBPyConnection, name: str) -> list[Row]:
    asset = ASSETS[name]
    rows = asset(*(TABLES[read].relation for read in asset.inputs), policy=POLICY)
    return connection.execute(f"SELECT * FROM ({compile_duckdb(rows)}) ORDER BY ALL").fetchall()


class Literal:
    """Adoptions known on a day, counted user by user from raw events.

    Affinities are fractions, so that rounding does not hide differences.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, day: date) -> None:
        products = connection.execute(
            "SELECT product_id, product_name, created_date FROM bronze.bronze_product_catalog"
            " WHERE tier = 'product' AND is_active"
        ).fetchall()
        self.names = {product: name for product, name, _ in products}
        self.launched = sorted(product for product, _, on in products if on <= day)
        self.adopted: dict[str, list[str]] = {}
        self.later: dict[str, list[tuple[str, date]]] = {}
        for user, product, at in connection.execute(
            "SELECT events.entity_id, nodes.product, min(events.event_timestamp) AS first_at"
            " FROM bronze.bronze_events AS events JOIN ("
            "  SELECT product_id, CASE tier WHEN 'product' THEN product_id WHEN 'feature'"
            "   THEN parent_product_id ELSE (SELECT above.parent_product_id"
            "    FROM bronze.bronze_product_catalog AS above"
            "    WHERE above.product_id = catalog.parent_product_id) END AS product"
            "  FROM bronze.bronze_product_catalog AS catalog) AS nodes USING (product_id)"
            " WHERE events.entity_type = 'user' GROUP BY ALL ORDER BY first_at, nodes.product"
        ).fetchall():
            if product not in self.names:
                continue
            if at.date() <= day:
                self.adopted.setdefault(user, []).append(product)
            else:
                self.later.setdefault(user, []).append((product, at.date()))
        self.states = dict(
            connection.execute(
                "SELECT user_id, platform_state FROM silver.silver_user_state_history"
                " WHERE snapshot_date = ?",
                [day],
            ).fetchall()
        )
        self.users = Counter(p for products in self.adopted.values() for p in products)
        self.day = day

    def without(self, first: str, second: str) -> tuple[int, int]:
        """Count users who adopted the first product without the second, and those who later did."""
        had = went_on = 0
        for products in self.adopted.values():
            if first not in products:
                continue
            place = products.index(first)
            if second in products[:place]:
                continue
            had += 1
            went_on += second in products[place:]
        return had, went_on

    def affinity(self, first: str, second: str) -> Fraction | None:
        """Return the affinity of a pair, or None below the minimum support."""
        had, went_on = self.without(first, second)
        if went_on < POLICY.min_affinity_support:
            return None
        others = [self.without(other, second) for other in self.launched if other != second]
        usual = Fraction(sum(part for _, part in others), sum(whole for whole, _ in others))
        prior = POLICY.recommendations.prior_users
        return (went_on + prior * usual) / (had + prior)

    def popular(self, had: Sequence[str]) -> list[str]:
        left = [product for product in self.launched if product not in had]
        return sorted(left, key=lambda product: (-self.users[product], product))

    def affinities(self, had: Sequence[str]) -> dict[str, tuple[Fraction, str]]:
        """Return the highest affinity of each remaining product, and the product behind it."""
        found = {}
        for product in self.popular(had):
            pairs = [
                (-affinity, first)
                for first in had
                if first in self.launched
                and (affinity := self.affinity(first, product)) is not None
            ]
            if pairs:
                negative, first = min(pairs)
                found[product] = (-negative, first)
        return found

    def by_affinity(self, had: Sequence[str]) -> list[str]:
        affinities = self.affinities(had)
        popular = self.popular(had)
        first = [product for product in popular if product in affinities]
        return [
            *sorted(first, key=lambda product: -affinities[product][0]),
            *(product for product in popular if product not in affinities),
        ]

    def is_eligible(self, user: str) -> bool:
        return self.states.get(user) not in (None, "churned", "deleted")

    def evaluated(self) -> list[tuple[tuple[str, ...], str]]:
        last = self.day + timedelta(days=30)
        return [
            (tuple(sorted(self.adopted[user])), later[0][0])
            for user, later in self.later.items()
            if user in self.adopted and self.is_eligible(user) and later[0][1] <= last
        ]


def figures(cases: Sequence[tuple[Sequence[str], str]]) -> tuple[int, float, float, float]:
    """Return the users, the hit rates at 1 and 3 and the mean reciprocal rank."""
    places = [order.index(adopted) + 1 for order, adopted in cases]
    number = len(places)
    return (
        number,
        float(Fraction(sum(place == 1 for place in places), number)),
        float(Fraction(sum(place <= 3 for place in places), number)),
        float(sum(Fraction(1, place) for place in places) / number),
    )


def test_evaluation_is_what_a_literal_count_says(graph: Graph) -> None:
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        stored = {
            (day, predictor): (users, *rates)
            for day, predictor, users, *rates in connection.execute(
                "SELECT evaluation_date, predictor, users_judged, hit_rate_at_1, hit_rate_at_3,"
                f" mean_reciprocal_rank FROM gold.{EVALUATION}"
            ).fetchall()
        }
        days = [COMPANY.end - timedelta(days=30 * step) for step in (1, 2, 3)]
        pooled: Mapping[str, list[tuple[Sequence[str], str]]] = {"affinity": [], "popularity": []}
        chances: list[tuple[Fraction, Fraction, Fraction]] = []
        for day in days:
            known = Literal(connection, day)
            orders: dict[tuple[str, ...], list[str]] = {}
            cases = known.evaluated()
            for had, _ in cases:
                orders.setdefault(had, known.by_affinity(had))
            by_affinity = [(orders[had], adopted) for had, adopted in cases]
            by_popularity = [(known.popular(had), adopted) for had, adopted in cases]
            assert stored[day, "affinity"] == pytest.approx(figures(by_affinity), rel=1e-12)
            assert stored[day, "popularity"] == pytest.approx(figures(by_popularity), rel=1e-12)
            pooled["affinity"].extend(by_affinity)
            pooled["popularity"].extend(by_popularity)
            for order, _ in by_popularity:
                left = len(order)
                harmonic = sum((Fraction(1, place) for place in range(1, left + 1)), Fraction(0))
                chances.append((Fraction(1, left), Fraction(min(3, left), left), harmonic / left))
    assert set(stored) == {
        (day, order) for day in (None, *days) for order in ("affinity", "popularity", "chance")
    }
    for name, rows in pooled.items():
        assert stored[None, name] == pytest.approx(figures(rows), rel=1e-12)
    assert len(chances) >= 60
    expected = [float(sum(each) / len(chances)) for each in zip(*chances, strict=True)]
    assert stored[None, "chance"] == pytest.approx((len(chances), *expected), rel=1e-12)


@pytest.mark.parametrize("source_of_all", ["affinity", "popularity"])
def test_recommendations_are_what_a_literal_count_says(
    connection: duckdb.DuckDBPyConnection, source_of_all: str
) -> None:
    connection.execute(f"UPDATE gold.{EVALUATION} SET is_published = predictor = '{source_of_all}'")
    names = [column.name for column in TABLES[RECOMMENDED].columns]
    stored: dict[str, list[dict[str, object]]] = {}
    for row in computed(connection, RECOMMENDED):
        values = dict(zip(names, row, strict=True))
        stored.setdefault(values["user_id"], []).append(values)
    known = Literal(connection, COMPANY.end)
    orders: dict[tuple[str, ...], list[tuple[str, float, str | None]]] = {}
    for user in known.states:
        had = tuple(sorted(known.adopted.get(user, ())))
        if had not in orders:
            is_affinity = source_of_all == "affinity"
            affinities = known.affinities(had) if is_affinity else {}
            order = known.by_affinity(had) if is_affinity else known.popular(had)
            orders[had] = [
                (product, float(affinities[product][0]), affinities[product][1])
                if product in affinities
                else (product, known.users[product] / len(known.states), None)
                for product in order[:3]
            ]
        if not known.is_eligible(user) or not orders[had]:
            assert user not in stored
            continue
        found = sorted(stored.pop(user), key=lambda each: str(each["recommendation_rank"]))
        assert [each["recommendation_rank"] for each in found] == [*range(1, len(found) + 1)]
        for each, (product, score, because) in zip(found, orders[had], strict=True):
            assert (each["product_id"], each["because_product_id"]) == (product, because)
            assert each["score"] == pytest.approx(score, rel=1e-12)
            if because is not None:
                whole, part = known.without(because, product)
                assert (each["users_without"], each["users_in_order"]) == (whole, part)
                assert each["why"] == (
                    f"{part} of {whole} users who had {known.names[because]} but not yet"
                    f" {known.names[product]} adopted it later ({round(100 * part / whole)}%)"
                )
    assert stored == {}


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM silver.silver_user_product_adoptions WHERE adoption_date > '{earlier}'"
        " AND user_id LIKE '%7'",
        "UPDATE silver.silver_user_product_adoptions SET adoption_date = '{end}'"
        " WHERE adoption_date > '{earlier}'",
        "UPDATE silver.silver_user_product_adoptions SET product_id = product_id || '_other'"
        " WHERE adoption_date > '{earlier}'",
        "UPDATE silver.silver_user_state_history SET platform_state = 'churned'"
        " WHERE snapshot_date > '{earlier}'",
        "UPDATE silver.silver_user_current_state SET platform_state = 'deleted'",
        "INSERT INTO bronze.bronze_product_catalog SELECT * REPLACE ('new' AS product_id,"
        " DATE '{earlier}' + 1 AS created_date)"
        " FROM bronze.bronze_product_catalog WHERE product_id = 'video_studio'",
    ],
)
def test_another_future_moves_nothing_of_earlier_dates(
    connection: duckdb.DuckDBPyConnection, change: str
) -> None:
    """Changes to later data leave evaluations bit-for-bit identical.

    The evaluation 60 days before the end depends on adoptions up to 30 days before it.
    """
    before = computed(connection, EVALUATION)
    connection.execute(change.format(earlier=EARLIER, end=COMPANY.end))
    after = computed(connection, EVALUATION)
    assert _up_to(before, EARLIER - timedelta(days=1)) == _up_to(after, EARLIER - timedelta(days=1))
    assert len({row[0] for row in before}) == 4
    if "adoptions" in change and "adoption_date = " not in change:
        assert repr(before) != repr(after), "The change does not affect the input."


def test_those_who_come_later_move_nothing_of_a_day(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """Users who adopt products on the next day, in reverse order, are not counted or evaluated."""
    before = computed(connection, EVALUATION)
    connection.execute(
        "INSERT INTO silver.silver_user_product_adoptions SELECT * EXCLUDE (n) REPLACE"
        f" (user_id || '_' || n AS user_id, DATE '{EARLIER + timedelta(days=1)}' AS adoption_date,"
        " 1 + products_adopted - sequence_number AS sequence_number)"
        " FROM silver.silver_user_product_adoptions, range(9) AS many(n)"
    )
    after = computed(connection, EVALUATION)
    assert _up_to(before, EARLIER) == _up_to(after, EARLIER)
    assert len({row[0] for row in before}) == 4


def _up_to(rows: Sequence[Row], day: date) -> str:
    """Return the evaluations up to a day without `is_published`, which depends on all dates."""
    place = [column.name for column in TABLES[EVALUATION].columns].index("is_published")
    return repr(
        [row[:place] + row[place + 1 :] for row in rows if row[0] is not None and row[0] <= day]
    )


def test_an_earlier_run_recommends_what_the_later_one_evaluates(
    graph: Graph, source: Path, tmp_path: Path
) -> None:
    """Compare a run that never loaded later events with a run that ends 30 days later."""
    earlier = _run(tmp_path, source, EARLIER)
    with duckdb.connect(str(earlier.database)) as connection:
        connection.execute("BEGIN TRANSACTION")
        connection.execute(f"UPDATE gold.{EVALUATION} SET is_published = predictor = 'affinity'")
        place = [column.name for column in TABLES[RECOMMENDED].columns].index
        recommended: dict[str, list[str]] = {}
        rows = computed(connection, RECOMMENDED)
        for row in sorted(rows, key=lambda row: row[place("recommendation_rank")]):
            recommended.setdefault(row[place("user_id")], []).append(row[place("product_id")])
        connection.execute("ROLLBACK")
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        adopted = connection.execute(
            "SELECT user_id, arg_min(product_id, sequence_number), min(sequence_number)"
            " FROM silver.silver_user_product_adoptions WHERE adoption_date > ? GROUP BY user_id",
            [EARLIER],
        ).fetchall()
        [(users, at_1, at_3)] = connection.execute(
            "SELECT users_judged, users_judged * hit_rate_at_1, users_judged * hit_rate_at_3"
            f" FROM gold.{EVALUATION} WHERE evaluation_date = ? AND predictor = 'affinity'",
            [EARLIER],
        ).fetchall()
    cases = [
        (recommended[user], product)
        for user, product, number in adopted
        if number > 1 and user in recommended
    ]
    assert len(cases) == users
    assert sum(order[0] == product for order, product in cases) == pytest.approx(at_1)
    assert sum(product in order for order, product in cases) == pytest.approx(at_3)


def test_computed_again_the_tables_are_the_same_bit_for_bit(graph: Graph) -> None:
    names = (EVALUATION, RECOMMENDED)
    first = graph.contents_of(names)
    assert all(first.values())
    with graph.instance:
        assert graph.run(only=names).success
    again = graph.contents_of(names)
    assert {name: repr(rows) for name, rows in again.items()} == {
        name: repr(rows) for name, rows in first.items()
    }
