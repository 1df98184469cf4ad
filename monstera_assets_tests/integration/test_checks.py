"""Every check detects its fault, and a failed blocking check stops downstream tables."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import ibis.expr.types as ir
import pytest

from monstera_assets.checks.contract import (
    ALLOWED,
    NOT_NULL,
    REFERENCES,
    SHARES,
    TYPES,
    UNIQUE,
    contract_rules,
    evaluate_contract,
)
from monstera_assets.checks.rules import Finding, Rule, rule
from monstera_assets.checks.table_checks import build_table_checks
from monstera_assets.definitions import rules, tables
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.segments import COMPOSITE, DIMENSIONS
from monstera_assets.warehouse.compiler import compile_query
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.io_manager import WarehouseIOManager
from monstera_assets.warehouse.resource import DuckDBWarehouse
from monstera_assets.warehouse.table_asset import IO_MANAGER_KEY, SAME_DAYS, asset_key
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_assets import (
    FACTS,
    PARTITIONS,
    QUIET,
    SEEN,
    day,
    delivering,
    expression,
    facts,
    in_memory_instance,
    reading,
    types_of,
)
from monstera_assets_tests.integration.example_runs import SeedsRun

TABLES = {table.name: table for table in tables()}
RULES = {(rule.table.name, rule.name): rule for rule in rules()}
POLICY = LifecyclePolicy()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, seeds_run: SeedsRun) -> Path:
    """Copy the database of the seeds for this module, which never commits a fault to the copy."""
    copy = tmp_path_factory.mktemp("checks") / "warehouse.duckdb"
    shutil.copy(seeds_run.database, copy)
    return copy


@pytest.fixture(scope="module")
def connection(database: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(str(database), connection_config(threads=2)) as connection:
        yield connection


@contextmanager
def planted(connection: duckdb.DuckDBPyConnection, *statements: str) -> Iterator[None]:
    """Apply the statements and roll them back afterward."""
    connection.execute("BEGIN TRANSACTION")
    try:
        for statement in statements:
            connection.execute(statement)
        yield
    finally:
        connection.execute("ROLLBACK")


def _one(table: str, change: str, where: str = "true") -> str:
    return f"UPDATE {TABLES[table].qualified_name} SET {change} WHERE {_chosen(table, where)}"


def _drop_one(table: str, where: str = "true") -> str:
    return f"DELETE FROM {TABLES[table].qualified_name} WHERE {_chosen(table, where)}"


def _aliases(rows: str) -> str:
    return f"INSERT INTO bronze.bronze_user_aliases VALUES {rows}"


def _chosen(table: str, where: str) -> str:
    """Select one row, always the same one, although the order of stored rows is not fixed."""
    name = TABLES[table].qualified_name
    return (
        f"rowid = (SELECT rowid FROM {name} AS t WHERE {where}"
        " ORDER BY hash(t::VARCHAR), t::VARCHAR LIMIT 1)"
    )


# ---------------------------------------------------------------- before


def test_all_checks_pass_on_the_seeds(seeds_run: SeedsRun) -> None:
    assert seeds_run.success
    assert [e for e in seeds_run.evaluations if not e.passed] == []
    evaluated = {(e.asset_key.path[-1], e.check_name) for e in seeds_run.evaluations}
    contracts = {(name, rule) for name, table in TABLES.items() for rule in contract_rules(table)}
    assert evaluated == contracts | RULES.keys()
    assert len(seeds_run.evaluations) == len(evaluated)


# ---------------------------------------------------------------- the contract


def _broken(
    connection: duckdb.DuckDBPyConnection, table: Table, days: DateWindow | None
) -> dict[str, Finding]:
    findings = evaluate_contract(DuckDBEngine(connection), table, days)
    assert findings.keys() == set(contract_rules(table))
    return {name: finding for name, finding in findings.items() if not finding.passed}


def _fill(table: Table) -> list[str]:
    """Return statements that add a row on the last day to a table that is empty for the seeds."""
    if table.name == _ANOMALIES:
        return [_out()]
    if table.name == "bronze_source_faults":
        return [_CORRECTED]
    if table.name == "bronze_user_aliases":
        return [_aliases("('a', 'b', 'b', NULL, NULL)")]
    if "rejected" not in table.name:
        return []
    row = ", ".join(
        "DATE '2025-06-30'" if column.dtype.is_date() else "'x'" for column in table.columns
    )
    return [f"INSERT INTO {table.qualified_name} SELECT {row}"]


@pytest.fixture(params=TABLES.values(), ids=list(TABLES))
def table(request: pytest.FixtureRequest) -> Table:
    declared: Table = request.param
    return declared


def test_contract_passes_as_built(
    connection: duckdb.DuckDBPyConnection, table: Table, seeds_run: SeedsRun
) -> None:
    for days in (None, seeds_run.days, DateWindow(seeds_run.days.last, seeds_run.days.last)):
        assert _broken(connection, table, days) == {}


def test_wrong_columns_and_types_are_found(
    connection: duckdb.DuckDBPyConnection, table: Table, seeds_run: SeedsRun
) -> None:
    name, last = table.qualified_name, table.columns[-1]
    for statement, difference in (
        (
            f"ALTER TABLE {name} ADD COLUMN surprise INTEGER",
            ("surprise", "not declared", "INTEGER"),
        ),
        (f'ALTER TABLE {name} RENAME "{last.name}" TO renamed', ("renamed", "not declared", None)),
        (f'ALTER TABLE {name} DROP "{last.name}"', (last.name, None, "missing")),
        (
            f'ALTER TABLE {name} ALTER "{last.name}" TYPE INTEGER[] USING NULL',
            (last.name, None, "INTEGER[]"),
        ),
    ):
        loosened = (
            [] if last.nullable else [f'ALTER TABLE {name} ALTER "{last.name}" DROP NOT NULL']
        )
        with planted(connection, *loosened, statement):
            broken = _broken(connection, table, seeds_run.days)
        assert any(
            all(want in (None, got) for want, got in zip(difference, example, strict=True))
            for example in broken[TYPES].examples
        ), statement
        assert broken.keys() == set(contract_rules(table)), "the others are not evaluated"


def test_missing_table_breaks_its_contract(
    connection: duckdb.DuckDBPyConnection, table: Table, seeds_run: SeedsRun
) -> None:
    with planted(connection, f"DROP TABLE {table.qualified_name}"):
        broken = _broken(connection, table, seeds_run.days)
    assert broken[TYPES].violations == len(table.columns)


def test_null_is_found_in_every_column_that_may_have_none(
    connection: duckdb.DuckDBPyConnection, table: Table, seeds_run: SeedsRun
) -> None:
    for column in table.columns:
        null = f'UPDATE {table.qualified_name} SET "{column.name}" = NULL'
        if not column.nullable:
            with (
                pytest.raises(duckdb.ConstraintException),
                planted(connection, *_fill(table), null),
            ):
                pass
        # A row with a null day belongs to no day, so only the table itself can reject it, as it just
        # did.
        if column.nullable or column.name == table.partition_column:
            continue
        with planted(
            connection,
            *_fill(table),
            f'ALTER TABLE {table.qualified_name} ALTER "{column.name}" DROP NOT NULL',
            _one(table.name, f'"{column.name}" = NULL'),
        ):
            broken = _broken(connection, table, seeds_run.days)
        assert broken[NOT_NULL].examples == ((column.name, 1),)
        assert broken.keys() <= {NOT_NULL, UNIQUE}


def test_repeated_key_is_found(
    connection: duckdb.DuckDBPyConnection, table: Table, seeds_run: SeedsRun
) -> None:
    if not table.key:
        assert UNIQUE not in contract_rules(table)
        return
    name = table.qualified_name
    [(of_day,)] = connection.execute(
        f"SELECT max({table.partition_column or 'NULL'}) FROM {name}"
    ).fetchall()
    if table.partition_column and _fill(table):
        of_day = seeds_run.days.last
    only = f" WHERE {table.partition_column} = '{of_day}'" if of_day else ""
    repeated = f"INSERT INTO {name} SELECT * FROM {name}{only} LIMIT 1"
    with planted(connection, *_fill(table), repeated):
        assert _broken(connection, table, seeds_run.days).keys() == {UNIQUE}
        assert _broken(connection, table, None).keys() == {UNIQUE}
        if of_day:
            other = seeds_run.days.first
            assert _broken(connection, table, DateWindow(of_day, of_day)).keys() == {UNIQUE}
            assert _broken(connection, table, DateWindow(other, other)) == {}


def test_key_repeated_on_another_day_is_found_where_days_do_not_part_keys(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    events = TABLES["bronze_events"]
    [(first, last)] = connection.execute(
        "SELECT min(event_date), max(event_date) FROM bronze.bronze_events"
    ).fetchall()
    copied = (
        "INSERT INTO bronze.bronze_events SELECT * REPLACE (DATE"
        f" '{last}' AS event_date) FROM bronze.bronze_events WHERE event_date = '{first}' LIMIT 1"
    )
    with planted(connection, copied):
        for day_with_it in (first, last):
            found = _broken(connection, events, DateWindow(day_with_it, day_with_it))
            assert found.keys() == {UNIQUE}
            assert found[UNIQUE].columns == ("event_id", "rows")


def test_unknown_value_and_reference_are_found(
    connection: duckdb.DuckDBPyConnection, table: Table, seeds_run: SeedsRun
) -> None:
    for column in table.columns:
        kinds = {ALLOWED: column.allowed, REFERENCES: column.references}
        expected = {name for name, applies in kinds.items() if applies}
        if not expected:
            continue
        unknown = _one(table.name, f"\"{column.name}\" = 'nobody'")
        with planted(connection, *_fill(table), unknown):
            broken = _broken(connection, table, seeds_run.days)
        assert broken.keys() == expected
        for finding in broken.values():
            assert finding.examples == ((column.name, 1),)


@pytest.mark.parametrize("outside", ["-0.01", "1.01", "'nan'", "'inf'"])
def test_a_share_outside_0_to_1_is_found(
    connection: duckdb.DuckDBPyConnection, table: Table, seeds_run: SeedsRun, outside: str
) -> None:
    for column in table.columns:
        if not column.is_share:
            continue
        with planted(connection, *_fill(table), _one(table.name, f'"{column.name}" = {outside}')):
            broken = _broken(connection, table, seeds_run.days)
        assert broken.keys() == {SHARES}
        assert broken[SHARES].examples == ((column.name, 1),)


# ---------------------------------------------------------------- the rules

_HISTORY = "silver_user_state_history"
_MOVES = "silver_user_state_transitions"
_ACCOUNT_HISTORY = "silver_account_state_history"
_ACCOUNT_MOVES = "silver_account_state_transitions"
_PRODUCT_HISTORY = "silver_user_product_state_history"
_SEGMENTS = "silver_user_segment_history"
_ADOPTIONS = "silver_user_product_adoptions"
_PATHS = "silver_product_adoption_sequences"
_AFFINITY = "silver_product_affinity"
_PORTFOLIOS = "silver_cross_product_analytics"
_MOVEMENT = "silver_cross_product_activity"
_CHURNS = "silver_user_product_churn"
_RUNS = "silver_workflow_runs"
_FUNNEL = "silver_workflow_funnel"


_ACTIVITY = "gold_activity_metrics"
_CURVE = "gold_engagement_power_curve"
_ON_DAYS = "users_active_per_window_by_active_days"
_GROWTH = "gold_growth_accounting"
_CATALOG = "gold_metric_catalog"
_OVERALL = "gold_overall_metrics"
_ADOPTION = "gold_product_adoption"
_COHORTS = "gold_retention_cohorts"
_MATURE = "users_retained_per_period IS NOT NULL"
_REVENUE = "gold_revenue_metrics"
_BY_SEGMENT = "gold_segment_metrics"
_FLOWS = "gold_state_transition_metrics"


def _not_the_first_of(table: str) -> str:
    """Return the condition that row `t` is not the first interval of its key."""
    of_key = " AND ".join(f"o.{name} = t.{name}" for name in TABLES[table].key[:-1])
    return f"EXISTS (FROM silver.{table} AS o WHERE {of_key} AND o.valid_from < t.valid_from)"


def _metric(
    table: str, dimensions: Sequence[str] = ("country", "account_tier")
) -> Mapping[tuple[str, str], list[list[str]]]:
    metric = table.removeprefix("gold_")
    signups = table == "gold_users_created_daily"
    recomputed = "recomputed_from_users" if signups else "recomputed_from_raw_events"
    more = f"{metric} = {metric} + 1"
    return {
        (table, recomputed): [
            [_one(table, more, "segment_dimension = 'all'")],
            [_drop_one(table, f"segment_dimension = 'all' AND {metric} > 0")],
        ],
        (table, "segments_add_up"): [
            *([_one(table, more, f"segment_dimension = '{name}'")] for name in dimensions),
            [_one(table, more, "segment_dimension = 'all'")],
        ],
    }


_LAST = "DATE '2025-06-30'"

_CORRECTED = (
    "INSERT INTO bronze.bronze_source_faults"
    f" VALUES ('events', 'f', 'e', 1, {_LAST}, {_LAST}, ['x'])"
)


def _rejected_users(rows: int) -> str:
    """Return a statement that adds rejected rows of the input users."""
    return (
        "INSERT INTO bronze.bronze_rejected_entities"
        f" SELECT 'users', 'r', NULL, 'f', '{{}}' FROM range({rows})"
    )


def _rejected_events(rows: int) -> str:
    """Return a statement that adds rejected events of the last day."""
    return (
        "INSERT INTO bronze.bronze_rejected_events"
        f" SELECT {_LAST}, {_LAST}, 'r', NULL, 'f', '{{}}' FROM range({rows})"
    )


def _rate_changes(table: str, rate: str, now: int) -> list[str]:
    """Return statements that set a rate of 200 of 1,000 users one week before the last day."""
    return [
        f"UPDATE gold.{table} SET {rate}_population_weekly = 1000,"
        f" {rate}_weekly = CASE WHEN metric_date = {_LAST} THEN {now} ELSE 200 END"
    ]


def _events_of_last_day(events: int) -> list[str]:
    """Return statements that set the events of the last day, and 100 events on every other day."""
    return [
        f"UPDATE gold.{_ACTIVITY} SET events_recorded_daily ="
        f" CASE WHEN metric_date = {_LAST} THEN {events} ELSE 100 END WHERE product_id = 'all'"
    ]


_EVALUATION = "gold_churn_model_evaluation"
_IS_ACTIVE = "activity_state = 'active'"


def _evaluated(
    entity: str, day: str, predictor: str, auc: float, brier: float, *, is_published: bool = False
) -> str:
    """Return a statement that adds an evaluation of 100 rows, 20 of which churned."""
    return (
        f"INSERT INTO gold.{_EVALUATION} BY NAME SELECT '{entity}' AS entity, {day} AS"
        f" evaluation_date, '{predictor}' AS predictor, 0 AS decile, 100 AS rows_scored,"
        f" 20 AS rows_churned, {auc} AS auc, {brier} AS brier_score,"
        f" {is_published} AS is_published, 'x' AS model_version, 0 AS training_rows"
    )


_STATES = "gold_state_distribution"
_ANOMALIES = "gold_state_distribution_anomalies"
_DAY = "metric_date = '2025-06-30'"


def _out(**values: str) -> str:
    """Return a statement that adds a possible anomaly on the last day, with the given SQL values."""
    row = {
        "metric_date": _LAST,
        "span": "'day'",
        "measure": "'state_share'",
        "scope": "'platform'",
        "segment_dimension": "'all'",
        "segment_value": "'all'",
        "state": "'new'",
        "members": "20",
        "observed": "(SELECT members_in_state_share_daily FROM gold.gold_state_distribution WHERE"
        f" metric_date = {_LAST} AND scope = 'platform' AND segment_value = 'all' AND state = 'new')",
        "expected": "0.02",
        "expected_low": "0.01",
        "expected_high": "0.03",
        "members_deviating": "2",
        "direction": "'up'",
        "score": "5.0",
        "threshold": "4.0",
        "series_judged": "1",
        "days_in_row": "1",
        "severity": "'medium'",
        "model_version": "'x'",
        "training_first_date": "DATE '2025-03-01'",
        "training_last_date": "DATE '2025-06-29'",
    }
    columns = ", ".join(f"{value} AS {name}" for name, value in (row | values).items())
    return f"INSERT INTO gold.{_ANOMALIES} BY NAME SELECT {columns}"


def _faults_of_scores(entity: str) -> list[list[str]]:
    """Return the faults that apply to both user scores and account scores."""
    name = f"gold_{entity}_churn_scores"
    return [
        [_one(name, "risk_band = 'low'")],
        [_one(name, "reason_1 = 'x'")],
        [_one(name, "score_source = 'model', risk_band = 'high', reason_1 = 'x'")],
        [_one(name, "score_source = 'baseline', churn_probability = NULL")],
        [
            f"UPDATE gold.{_EVALUATION} SET predictor = 'model'",
            f"UPDATE gold.{name} SET score_source = 'model', reason_1 = 'x', risk_band = 'low',"
            " churn_probability = 0.9",
        ],
    ]


_RECOMMENDED = "gold_product_recommendations"
_FORESEEN = "gold_recommendation_evaluation"
_PAIR = ("users_both", "support", "co_adoption_rate", "lift")
_RECOMMENDED_BY_WHAT_NOBODY_HAS = [
    "UPDATE silver.silver_product_affinity SET users_in_order = 9",
    f"UPDATE gold.{_RECOMMENDED} AS rows SET recommendation_source = 'affinity',"
    " because_product_id = pairs.first_product_id, users_in_order = 9,"
    f" users_without = pairs.users_first - 9, {', '.join(f'{n} = pairs.{n}' for n in _PAIR)}"
    " FROM silver.silver_product_affinity AS pairs"
    " WHERE pairs.second_product_id = rows.product_id AND NOT EXISTS"
    " (FROM silver.silver_user_product_adoptions AS had WHERE had.user_id = rows.user_id"
    " AND had.product_id = pairs.first_product_id)",
]
_FAULTS_OF_RECOMMENDATIONS: Mapping[tuple[str, str], list[list[str]]] = {
    (_RECOMMENDED, "everybody_has_what_is_left"): [
        [_drop_one(_RECOMMENDED)],
        [_one(_RECOMMENDED, "recommendation_rank = 4", "recommendation_rank = 1")],
        [_one(_RECOMMENDED, "recommendation_rank = 0", "recommendation_rank = 1")],
        [f"UPDATE gold.{_RECOMMENDED} SET product_id = 'team_spaces' WHERE user_id = 'usr_01'"],
        [_one("silver_user_current_state", "platform_state = 'deleted'", _IS_ACTIVE)],
        [_one("silver_user_current_state", "platform_state = 'new'", "platform_state = 'churned'")],
        ["UPDATE silver.silver_user_product_states SET current_state = 'new_to_product'"],
    ],
    (_RECOMMENDED, "nothing_adopted_is_recommended"): [
        [
            f"UPDATE gold.{_RECOMMENDED} AS rows SET product_id = had.product_id"
            " FROM silver.silver_user_product_adoptions AS had WHERE had.user_id = rows.user_id"
        ],
        [_one(_RECOMMENDED, "product_id = 'content_creation'")],
        *(
            [
                f"UPDATE bronze.bronze_product_catalog SET {change}"
                " WHERE product_id = 'design_canvas'"
            ]
            for change in ("is_active = false", "created_date = DATE '2025-07-01'")
        ),
    ],
    (_RECOMMENDED, "reasons_are_those_of_affinity"): [
        [_one(_RECOMMENDED, "because_product_id = 'video_studio'")],
        [_one(_RECOMMENDED, "lift = 2")],
        [_one(_RECOMMENDED, "recommendation_source = 'affinity'")],
        _RECOMMENDED_BY_WHAT_NOBODY_HAS,
    ],
    (_RECOMMENDED, "scores_are_consistent"): [
        [_one(_RECOMMENDED, "score = 0.9", "recommendation_rank = 3")],
        [_one(_RECOMMENDED, "recommendation_source = 'affinity'", "recommendation_rank = 1")],
        [
            f"UPDATE gold.{_FORESEEN} SET is_published = predictor = 'affinity'",
            _one(_RECOMMENDED, "recommendation_source = 'affinity'", "recommendation_rank = 2"),
        ],
    ],
    (_FORESEEN, "the_better_one_is_published"): [
        [_one(_FORESEEN, "is_published = false", "is_published")],
        [_one(_FORESEEN, "is_published = true", "predictor = 'chance'")],
        [
            f"UPDATE gold.{_FORESEEN} SET users_judged = 100, hit_rate_at_3 = 1,"
            " mean_reciprocal_rank = CASE predictor WHEN 'affinity' THEN 0.9 ELSE 0.8 END"
        ],
    ],
    (_FORESEEN, "nothing_is_learned_from_the_future"): [
        [
            f"UPDATE gold.{_FORESEEN} SET training_last_date = evaluation_date + 1"
            " WHERE evaluation_date IS NOT NULL"
        ]
    ],
    (_FORESEEN, "within_bounds"): [
        [_one(_FORESEEN, change)]
        for change in (
            "hit_rate_at_1 = -0.1",
            "hit_rate_at_1 = 0.6, hit_rate_at_3 = 0.5, mean_reciprocal_rank = 0.7",
            "hit_rate_at_1 = 0.6, hit_rate_at_3 = 1, mean_reciprocal_rank = 0.5",
            "hit_rate_at_3 = 1.1",
            "mean_reciprocal_rank = NULL",
            "users_judged = 0",
            "users_judged = users_judged + 1",
        )
    ]
    + [
        [_drop_one(_FORESEEN)],
        [f"UPDATE gold.{_FORESEEN} SET users_judged = 9 WHERE evaluation_date IS NULL"],
    ],
    (_FORESEEN, "affinity_beats_popularity"): [
        [
            f"UPDATE gold.{_FORESEEN} SET users_judged = 100, mean_reciprocal_rank = 0.5,"
            " hit_rate_at_3 = 0.5",
            f"UPDATE gold.{_FORESEEN} SET {better} = 0.9 WHERE predictor = '{order}'",
        ]
        for better, order in (
            ("mean_reciprocal_rank", "popularity"),
            ("hit_rate_at_3", "affinity"),
        )
    ],
}

FAULTS: Mapping[tuple[str, str], list[list[str]]] = {
    **_FAULTS_OF_RECOMMENDATIONS,
    ("bronze_entity_loads", "most_rows_are_accepted"): [
        [
            "UPDATE bronze.bronze_entity_loads SET rows_accepted = 9 WHERE input_name = 'users'",
            _rejected_users(10),
        ],
        [
            "UPDATE bronze.bronze_entity_loads SET rows_accepted = 0 WHERE input_name = 'users'",
            _rejected_users(1),
        ],
    ],
    ("bronze_entity_loads", "rows_add_up"): [
        [_drop_one("bronze_users")],
        [_drop_one("bronze_workflows")],
        [_drop_one("bronze_entity_loads")],
        [_one("bronze_entity_loads", "rows_read = rows_read + 1")],
        [_one("bronze_entity_loads", "rows_accepted = rows_accepted + 1")],
        ["INSERT INTO bronze.bronze_rejected_entities VALUES ('users', 'r', NULL, 'f', '{}')"],
    ],
    ("bronze_loads", "digest_is_of_the_rows_read"): [
        [_one("bronze_loads", "rows_digest = '9' || rows_digest")],
        [_one("bronze_loads", "rows_digest = 'nothing'")],
        [_one("bronze_loads", "rows_read = rows_read + 1, rows_accepted = rows_accepted + 1")],
    ],
    ("bronze_loads", "most_rows_are_accepted"): [
        # One day, which has just enough rows to be evaluated.
        [
            f"UPDATE bronze.bronze_loads SET rows_accepted = 14 WHERE partition_date = {_LAST}",
            _rejected_events(16),
        ],
        # The days together, of which none has enough rows.
        ["UPDATE bronze.bronze_loads SET rows_accepted = 0", _rejected_events(1)],
    ],
    ("bronze_loads", "rows_add_up"): [
        [_drop_one("bronze_events")],
        [_drop_one("bronze_loads", "rows_read > 0")],
        [_one("bronze_loads", "rows_read = rows_read + 1")],
        [_one("bronze_loads", "rows_rejected = rows_rejected + 1, rows_read = rows_read + 1")],
        [
            "INSERT INTO bronze.bronze_rejected_events"
            " VALUES ('2025-06-30', '2025-06-30', 'r', NULL, 'f', '{}')"
        ],
    ],
    ("bronze_product_catalog", "names_follow_convention"): [
        [_one("bronze_product_catalog", "product_name = 'video studio'")],
        [_one("bronze_product_catalog", "product_id = 'VideoStudio'")],
    ],
    ("bronze_product_catalog", "taxonomy_is_a_tree"): [
        [_one("bronze_product_catalog", "parent_product_id = NULL", "tier = 'feature'")],
        [_one("bronze_product_catalog", "parent_product_id = product_id", "tier = 'feature'")],
        [_one("bronze_product_catalog", "parent_product_id = 'analytics'", "tier = 'family'")],
        [_one("bronze_product_catalog", "product_family_id = 'other'", "tier = 'product'")],
    ],
    ("bronze_rejected_entities", "nothing_is_rejected"): [
        ["INSERT INTO bronze.bronze_rejected_entities VALUES ('users', 'r', NULL, 'f', '{}')"]
    ],
    ("bronze_rejected_events", "nothing_is_rejected"): [
        [
            "INSERT INTO bronze.bronze_rejected_events"
            " VALUES ('2025-06-30', '2025-06-30', 'r', NULL, 'f', '{}')"
        ]
    ],
    ("bronze_source_faults", "nothing_is_corrected"): [[_CORRECTED]],
    ("bronze_user_aliases", "chains_end_at_users"): [
        [_aliases("('a', 'b', 'b', NULL, NULL), ('b', 'c', 'c', NULL, NULL)")],
        [_aliases("('a', 'b', 'a', NULL, NULL)")],
    ],
    ("bronze_users", "no_user_is_an_alias"): [[_aliases("('usr_01', 'x', 'x', NULL, NULL)")]],
    ("gold_accounts_needing_attention", "all_are_listed"): [
        [_drop_one("gold_accounts_needing_attention")],
        [_one("gold_account_churn_scores", "risk_band = 'high'", "current_state = 'active'")],
        ["UPDATE silver.silver_account_current_state SET current_state = 'active'"],
        [
            _one(
                "gold_accounts_needing_attention",
                "monthly_recurring_revenue = monthly_recurring_revenue + 1",
            )
        ],
    ],
    ("gold_accounts_needing_attention", "ranks_follow_revenue"): [
        [_one("gold_accounts_needing_attention", "attention_rank = 99", "attention_rank = 1")],
        [_one("gold_accounts_needing_attention", "revenue_before_lapse = -1")],
        [
            _one(
                "gold_accounts_needing_attention",
                "revenue_before_lapse = 1e6",
                "attention_rank = 2",
            )
        ],
    ],
    ("gold_account_churn_scores", "every_account_is_scored"): [
        [_drop_one("gold_account_churn_scores")],
        [_one("gold_account_churn_scores", "health_score = health_score + 1")],
        ["UPDATE silver.silver_account_current_state SET current_state = 'churned'"],
    ],
    ("gold_account_churn_scores", "scores_are_consistent"): _faults_of_scores("account"),
    ("gold_user_churn_scores", "everybody_is_scored"): [
        [_drop_one("gold_user_churn_scores")],
        [_one("gold_user_churn_scores", "activity_state = 'reactivated'", _IS_ACTIVE)],
        [_one("silver_user_current_state", "platform_state = 'deleted'", _IS_ACTIVE)],
    ],
    ("gold_user_churn_scores", "scores_are_consistent"): _faults_of_scores("user"),
    (_EVALUATION, "one_predictor_is_published"): [
        [_one(_EVALUATION, "is_published = false")],
        [_evaluated("user", "NULL", "model", 0.9, 0.1, is_published=True)],
        [
            _evaluated("user", "NULL", "model", 0.9, 0.1),
            _evaluated("user", "DATE '2025-05-31'", "model", 0.9, 0.1, is_published=True),
        ],
    ],
    (_EVALUATION, "nothing_is_learned_from_the_future"): [
        [
            _evaluated(entity, "DATE '2025-03-31'", "model", 0.9, 0.1),
            f"UPDATE gold.{_EVALUATION} SET training_last_date ="
            f" evaluation_date - {horizon - 1} WHERE evaluation_date IS NOT NULL",
        ]
        for entity, horizon in (("user", 30), ("account", 90))
    ],
    (_EVALUATION, "tenths_add_up"): [
        [_evaluated("user", "NULL", "model", 0.9, 0.1)],
        *(
            [
                _evaluated("user", "NULL", "model", 0.9, 0.1),
                f"INSERT INTO gold.{_EVALUATION} SELECT * EXCLUDE (tenth) REPLACE"
                f" (tenth AS decile, {rows} AS rows_scored, {churned} AS rows_churned)"
                f" FROM gold.{_EVALUATION}, range(1, 11) AS t(tenth) WHERE predictor = 'model'",
            ]
            for rows, churned in ((9, 2), (10, 3))
        ),
    ],
    (_EVALUATION, "model_beats_baseline"): [
        [
            _evaluated("user", "NULL", "model", model_auc, model_brier),
            _evaluated("user", "NULL", "baseline", 0.8, 0.1, is_published=True),
            f"UPDATE gold.{_EVALUATION} SET is_published = false WHERE predictor = 'base_rate'",
        ]
        for model_auc, model_brier in ((0.79, 0.09), (0.81, 0.11))
    ],
    ("silver_account_churn_features", "outcomes_recomputed_from_history"): [
        [_one("silver_account_churn_features", "churned = NOT churned", "churned IS NOT NULL")],
        [_one("silver_account_churn_features", "churned = true", "churned IS NULL")],
        [_one("silver_account_churn_features", "churned = NULL", "churned IS NOT NULL")],
    ],
    ("silver_user_churn_features", "outcomes_recomputed_from_activity"): [
        [_one("silver_user_churn_features", "churned = NOT churned", "churned IS NOT NULL")],
        [_one("silver_user_churn_features", "churned = false", "churned IS NULL")],
        [_one("silver_user_churn_features", "churned = NULL", "churned IS NOT NULL")],
        [
            "UPDATE silver.silver_daily_user_activity SET qualifying_events = 0",
        ],
    ],
    ("silver_account_current_state", "agrees_with_history"): [
        [_one("silver_account_current_state", "total_seats = total_seats + 1")],
        [_drop_one("silver_account_current_state")],
        [_drop_one(_ACCOUNT_HISTORY, "snapshot_date = '2025-06-30'")],
    ],
    ("silver_account_current_state", "accounts_table_is_up_to_date"): [
        [_one("bronze_accounts", "total_seats = total_seats + 1", "account_id = 'acc_02'")],
        [_one("bronze_accounts", "contract_renewal_date = NULL", "account_id = 'acc_02'")],
        [_one("bronze_accounts", "subscription_tier = 'trial'", "account_id = 'acc_02'")],
        [_one("bronze_accounts", "monthly_recurring_revenue = 0.01", "account_id = 'acc_02'")],
    ],
    ("silver_account_current_state", "nobody_is_active_on_a_lapsed_account"): [
        [
            "UPDATE silver.silver_user_current_state SET platform_state = 'active' WHERE account_id"
            " IN (SELECT account_id FROM silver.silver_account_current_state"
            " WHERE state_reason LIKE 'subscription lapsed%')"
        ]
    ],
    (_ACCOUNT_HISTORY, "one_row_per_account_and_day"): [
        [_drop_one(_ACCOUNT_HISTORY)],
        [_drop_one(_ACCOUNT_HISTORY, "snapshot_date = '2025-06-30'")],
        [f"DELETE FROM silver.{_ACCOUNT_HISTORY} WHERE account_id = 'acc_01'"],
    ],
    (_ACCOUNT_HISTORY, "health_is_sum_of_components"): [
        [_one(_ACCOUNT_HISTORY, "health_score = health_score + 0.5")],
        [
            _one(
                _ACCOUNT_HISTORY,
                "seat_utilization_score = seat_utilization_score + 200,"
                " health_score = health_score + 50",
            )
        ],
    ],
    (_ACCOUNT_HISTORY, "seats_recomputed_from_raw_events"): [
        [_one(_ACCOUNT_HISTORY, "active_seats = active_seats + 1", "snapshot_date = '2025-06-30'")],
        [_one(_ACCOUNT_HISTORY, "seat_utilization_pct = 1", "snapshot_date = '2025-05-31'")],
        [
            _one(
                _ACCOUNT_HISTORY,
                "total_seats = total_seats + 1",
                "active_seats > 0 AND snapshot_date = '2025-06-30'",
            )
        ],
        [
            "DELETE FROM bronze.bronze_events WHERE is_qualifying_event AND event_date > '2025-06-01'"
        ],
    ],
    (_ACCOUNT_HISTORY, "seats_within_contract"): [
        [_one(_ACCOUNT_HISTORY, "seat_utilization_pct = 101", "active_seats > 0")]
    ],
    ("silver_account_current_state", "tiers_are_in_the_list"): [
        [_one("silver_account_current_state", "subscription_tier = 'gold'")]
    ],
    ("silver_account_current_state", "facts_on_lapsed_subscriptions"): [
        [
            "INSERT INTO bronze.bronze_subscription_events SELECT * REPLACE ('late' AS event_id,"
            " 'acc_07' AS entity_id, DATE '2025-05-01' AS event_date,"
            " TIMESTAMP '2025-05-01 08:00:00' AS event_timestamp)"
            " FROM bronze.bronze_subscription_events WHERE event_id = 'sub_022'"
        ]
    ],
    ("silver_account_current_state", "facts_name_their_subscriptions"): [
        [
            _one(
                "bronze_subscription_events",
                "subscription_id = 'A'",
                "entity_id = 'acc_06' AND event_type = 'subscription_started'",
            )
        ]
    ],
    ("silver_account_current_state", "currencies_have_a_rate"): [
        [
            _one(
                "bronze_subscription_events",
                "currency = 'EUR'",
                "monthly_recurring_revenue IS NOT NULL",
            )
        ]
    ],
    (_ACCOUNT_MOVES, "transitions_are_allowed"): [
        [_one(_ACCOUNT_MOVES, "from_state = 'active', to_state = 'trial'")]
    ],
    (_ACCOUNT_MOVES, "equal_history_differences"): [
        [_drop_one(_ACCOUNT_MOVES)],
        [_one(_ACCOUNT_MOVES, "mrr_change = mrr_change + 1")],
        [_one(_ACCOUNT_MOVES, "seat_change = seat_change + 1")],
        [_one(_ACCOUNT_MOVES, "transition_date = transition_date + 1")],
        [_one(_ACCOUNT_HISTORY, "current_state = 'frozen'", "current_state = 'active'")],
        [_one(_ACCOUNT_MOVES, "days_in_previous_state = days_in_previous_state + 1")],
    ],
    ("silver_events_enriched", "flags_follow_the_catalog"): [
        [
            _one(
                "silver_events_enriched",
                "is_qualifying_event = NOT is_qualifying_event",
                "is_qualifying_event",
            )
        ],
        [
            _one(
                "silver_events_enriched",
                "is_activation_event = NOT is_activation_event",
                "is_qualifying_event",
            )
        ],
        ["UPDATE bronze.bronze_product_catalog SET activation_event_types = ''"],
    ],
    ("silver_events_enriched", "no_email_leaves_bronze"): [
        [
            _one(
                "silver_events_enriched",
                'metadata = \'{"note": "ask \' || (SELECT upper(email) FROM bronze.bronze_users'
                " WHERE user_id = 'usr_01') || '.\"}'",
            )
        ]
    ],
    ("silver_user_current_state", "agrees_with_history"): [
        [_one("silver_user_current_state", "total_qualifying_events = 99")],
        [_drop_one("silver_user_current_state")],
        [_drop_one(_HISTORY, "snapshot_date = '2025-06-30'")],
    ],
    (_PRODUCT_HISTORY, "one_row_per_user_product_and_day"): [
        [_drop_one(_PRODUCT_HISTORY)],
        [_drop_one(_PRODUCT_HISTORY, "snapshot_date = '2025-06-30'")],
        [_one(_PRODUCT_HISTORY, "user_id = 'usr_01'", "user_id <> 'usr_01'")],
        [f"DELETE FROM silver.{_PRODUCT_HISTORY} WHERE user_id = 'usr_17'"],
    ],
    (_PRODUCT_HISTORY, "reconciles_with_platform"): [
        [
            _one(
                _PRODUCT_HISTORY,
                "current_state = 'active_in_product'",
                "snapshot_date = '2025-06-30' AND current_state = 'churned_from_product' AND user_id"
                " IN (SELECT user_id FROM silver.silver_user_current_state"
                " WHERE activity_state = 'churned')",
            )
        ],
        [
            _one(
                _HISTORY,
                "activity_state = 'churned'",
                "activity_state = 'active' AND user_id = 'usr_02'",
            )
        ],
    ],
    ("silver_user_product_states", "agrees_with_history"): [
        [
            _one(
                "silver_user_product_states",
                "total_qualifying_events = 99",
                "current_state <> 'never_adopted'",
            )
        ],
        [_drop_one("silver_user_product_states", "current_state <> 'never_adopted'")],
        [
            _one(
                "silver_user_product_states",
                "current_state = 'active_in_product'",
                "current_state = 'never_adopted'",
            )
        ],
        [_drop_one(_PRODUCT_HISTORY, "snapshot_date = '2025-06-30'")],
        # The product history ends a day before the user history, so no product seems to be adopted.
        [
            f"DELETE FROM silver.{_PRODUCT_HISTORY} WHERE snapshot_date = '2025-06-30'",
            "UPDATE silver.silver_user_product_states SET current_state = 'never_adopted'",
        ],
    ],
    **{
        (table, "cover_every_day"): [
            [_drop_one(table, f"valid_to IS NULL AND {_not_the_first_of(table)}")],
            [_drop_one(table, f"valid_to IS NOT NULL AND {_not_the_first_of(table)}")],
            [_one(table, "valid_to = valid_to + 1", "valid_to IS NOT NULL")],
            [_one(table, "valid_to = as_of_date + 1", "valid_to IS NULL")],
        ]
        for table in (
            "silver_user_state_intervals",
            "silver_user_product_state_intervals",
            "silver_account_state_intervals",
        )
    },
    (_HISTORY, "states_recomputed_from_facts"): [
        *(
            [_one(_HISTORY, change, "snapshot_date = '2025-06-30'")]
            for change in (
                "platform_state = 'dunning', activity_state = 'returning'",
                "platform_state_since = platform_state_since - 1",
                "is_dunning = NOT is_dunning",
                "qualifying_events_count = qualifying_events_count + 1",
                "total_qualifying_events = total_qualifying_events + 1",
                "days_since_signup = days_since_signup - 1",
            )
        ),
        [_drop_one(_HISTORY, "snapshot_date = '2025-06-30'")],
        [_drop_one("silver_daily_user_activity", "qualifying_events > 0")],
        ["DELETE FROM bronze.bronze_subscription_events WHERE event_type = 'user_deleted'"],
        ["DELETE FROM bronze.bronze_subscription_events WHERE event_type = 'payment_failed'"],
    ],
    (_PRODUCT_HISTORY, "product_states_recomputed_from_facts"): [
        *(
            [_one(_PRODUCT_HISTORY, change, "snapshot_date = '2025-06-30'")]
            for change in (
                "current_state = 'reactivated_in_product', state_since = snapshot_date - 1",
                "state_since = state_since - 1",
                "first_access_at = first_access_at + INTERVAL 1 SECOND",
                "first_access_date = first_access_date - 1",
                "total_qualifying_events = total_qualifying_events + 1",
            )
        ),
        [_drop_one(_PRODUCT_HISTORY, "snapshot_date = '2025-06-30'")],
        ["DELETE FROM silver.silver_daily_user_activity WHERE product_id IS NOT NULL"],
    ],
    (_ACCOUNT_HISTORY, "account_states_recomputed_from_facts"): [
        *(
            [_one(_ACCOUNT_HISTORY, change, "snapshot_date = '2025-06-30'")]
            for change in (
                "current_state = 'contracting', state_since = snapshot_date - 3",
                "state_since = state_since - 1",
                "total_seats = total_seats + 1",
                "active_seats = active_seats + 1",
                "health_score = health_score + 0.5",
                "monthly_recurring_revenue = monthly_recurring_revenue + 1",
                "contract_renewal_date = DATE '2031-01-01'",
                "products_active = products_active + 1",
            )
        ),
        [_drop_one(_ACCOUNT_HISTORY, "snapshot_date = '2025-06-30'")],
        ["DELETE FROM bronze.bronze_subscription_events WHERE entity_type = 'account'"],
    ],
    (_HISTORY, "one_row_per_user_and_day"): [
        [_drop_one(_HISTORY)],
        [_drop_one(_HISTORY, "snapshot_date = '2025-06-30'")],
        [f"DELETE FROM silver.{_HISTORY} WHERE user_id = 'usr_01'"],
    ],
    (_HISTORY, "runs_are_unbroken"): [
        [_one(_HISTORY, "platform_state_since = platform_state_since + 1")],
        [_one(_HISTORY, "platform_state = 'deleted'", "platform_state = 'active'")],
    ],
    (_SEGMENTS, "same_days_as_states"): [
        [_drop_one(_SEGMENTS)],
        [_drop_one(_SEGMENTS, "snapshot_date = '2025-06-30'")],
        [f"DELETE FROM silver.{_SEGMENTS} WHERE user_id = 'usr_01'"],
        [f"DELETE FROM silver.{_HISTORY} WHERE user_id = 'usr_01'"],
    ],
    (_SEGMENTS, "segments_follow_their_rules"): [
        [_one(_SEGMENTS, f"{name} = '{wrong}'", f"{name} <> '{wrong}'")]
        for dimension in (*DIMENSIONS, COMPOSITE)
        for name in (dimension.name,)
        for wrong in dimension.values
    ]
    + [
        [_one(_SEGMENTS, "segment_version = 'older'")],
        [_one(_SEGMENTS, "events_28 = 4", "engagement_intensity = 'casual'")],
    ],
    (_SEGMENTS, "measures_agree_with_sources"): [
        *(
            [_one(_SEGMENTS, f"{measure} = {measure} + 1", "snapshot_date = '2025-06-30'")]
            for measure in (
                "events_28",
                "events_30",
                "events_before_30",
                "active_days_28",
                "active_days_30",
                "products_tried",
                "products_active",
                "days_since_signup",
            )
        ),
        [_one(_SEGMENTS, "days_quiet = 99", "snapshot_date = '2025-06-30' AND days_quiet = 0")],
        [_one(_SEGMENTS, "is_engaged = NOT is_engaged", "snapshot_date = '2025-06-30'")],
        [
            "DELETE FROM bronze.bronze_events WHERE is_qualifying_event AND event_date > '2025-06-01'"
        ],
    ],
    ("silver_behavioral_segments", "agrees_with_history"): [
        [_one("silver_behavioral_segments", "events_28 = 99")],
        [_one("silver_behavioral_segments", "journey_stage = 'loyalty'")],
        [_drop_one("silver_behavioral_segments")],
        [
            _drop_one("silver_behavioral_segments", "user_id = 'usr_01'"),
            _drop_one(_SEGMENTS, "user_id = 'usr_01' AND snapshot_date = '2025-06-30'"),
        ],
    ],
    (_RUNS, "runs_have_a_first_step"): [
        [_drop_one(_RUNS)],
        [_one(_RUNS, "started_at = started_at - INTERVAL 1 MINUTE")],
        [_drop_one("silver_workflow_steps", "step_number = 1")],
    ],
    (_RUNS, "status_fits_steps"): [
        [_one(_RUNS, "status = 'open'", "status = 'abandoned'")],
        [_one(_RUNS, "status = 'completed'", "status = 'abandoned'")],
        [_one(_RUNS, "status = 'abandoned'", "status = 'open'")],
        [_one(_RUNS, "completed_at = NULL", "status = 'completed'")],
        [_one(_RUNS, "steps_reached = steps_reached - 1", "status = 'completed'")],
        [_one(_RUNS, "steps_reached = 0", "status = 'abandoned'")],
        [_one(_RUNS, "last_step_date = last_step_date + 8", "steps_reached = 1")],
    ],
    (_FUNNEL, "agrees_with_runs"): [
        [_one(_FUNNEL, "runs_started = runs_started + 1")],
        [_one(_FUNNEL, "runs_reached = runs_reached + 1", "position = 1")],
        [_one(_FUNNEL, "runs_reached = runs_reached + 1", "is_last_step")],
        [_one(_FUNNEL, "runs_abandoned = runs_abandoned + 1")],
        [_one(_FUNNEL, "runs_open = runs_open + 1")],
        [_drop_one(_RUNS)],
    ],
    (_ADOPTIONS, "agree_with_product_states"): [
        [_drop_one(_ADOPTIONS)],
        [_one(_ADOPTIONS, "sequence_number = sequence_number + 1")],
        [_one(_ADOPTIONS, "products_adopted = products_adopted + 1")],
        [_one(_ADOPTIONS, "days_since_signup = -1")],
        [_one(_ADOPTIONS, "adopted_at = '1999-01-01'", "sequence_number = 2")],
        [
            _one(
                "silver_user_product_states",
                "current_state = 'active_in_product'",
                "current_state = 'never_adopted'",
            )
        ],
    ],
    (_PATHS, "sequences_partition_the_adopters"): [
        [_drop_one(_PATHS, "path_length = 2")],
        [_one(_PATHS, "users = users + 1")],
        [_one(_PATHS, "users_ending = users_ending + 1")],
        [_one(_PATHS, "users_ending = users_ending + 1, users = users + 1", "path_length = 1")],
        [_drop_one(_ADOPTIONS)],
    ],
    (_AFFINITY, "symmetric_where_it_must_be"): [
        [_drop_one(_AFFINITY)],
        *(
            [_one(_AFFINITY, f"{name} = coalesce({name}, 0) + 1")]
            for name in ("support", "lift", "jaccard", "users_both", "users_first")
        ),
        [_one(_AFFINITY, "is_low_support = NOT is_low_support")],
    ],
    (_AFFINITY, "within_bounds"): [
        [_one(_AFFINITY, "users_both = users_first + 1")],
        [_one(_AFFINITY, "users_in_order = users_both + 1")],
        [_one(_AFFINITY, "users_first = users_first + 1")],
        [_one(_AFFINITY, "jaccard = 1.5")],
        [_one(_AFFINITY, "co_adoption_rate = -0.1")],
        [_one(_AFFINITY, "retention_lift = -1")],
        [_drop_one(_ADOPTIONS)],
    ],
    (_PORTFOLIOS, "agrees_with_product_states"): [
        [_drop_one(_PORTFOLIOS)],
        *(
            [_one(_PORTFOLIOS, f"{name} = {name} + 1")]
            for name in (
                "products_tried",
                "products_activated",
                "products_active",
                "total_qualifying_events",
            )
        ),
        [_one(_PORTFOLIOS, "diversity = 1.5")],
        [_one(_PORTFOLIOS, "diversity = 0.5", "diversity = 0")],
        [_one(_PORTFOLIOS, "diversity = NULL", "diversity = 0")],
        [_one(_PORTFOLIOS, "primary_product_id = NULL", "primary_product_id IS NOT NULL")],
    ],
    (_MOVEMENT, "agrees_with_daily_activity"): [
        [_drop_one(_MOVEMENT)],
        [_one(_MOVEMENT, "products_visited = products_visited + 1")],
        [_one(_MOVEMENT, "products_used = products_used + 1")],
        [_drop_one("silver_daily_user_activity", "product_id IS NOT NULL")],
    ],
    (_MOVEMENT, "counts_are_possible"): [
        [_one(_MOVEMENT, "product_switches = 1", "products_visited = 1")],
        [_one(_MOVEMENT, "products_visited = 3")],
        [_one(_MOVEMENT, "workflows_completed = workflows_completed + 1")],
        [_one(_MOVEMENT, "cross_product_workflows_completed = 2")],
        [_drop_one(_RUNS, "completed_at IS NOT NULL")],
    ],
    (_CHURNS, "agree_with_transitions"): [
        [_drop_one(_CHURNS)],
        [_one(_CHURNS, "churn_number = churn_number + 1")],
        [_one(_CHURNS, "from_state = 'reactivated_in_product'")],
        [_one(_CHURNS, "platform_churned_on = churned_on - 1")],
        [_one(_CHURNS, "returned_on = churned_on")],
        [_one(_CHURNS, "next_churned_on = churned_on - 1")],
        [_drop_one(_MOVES, "to_state = 'churned_from_product'")],
    ],
    (_CHURNS, "platform_state_is_the_historys"): [
        [_one(_CHURNS, "platform_state = 'new'")],
        [
            f"DELETE FROM silver.{_HISTORY} WHERE (user_id, snapshot_date) IN"
            f" (SELECT (user_id, churned_on) FROM silver.{_CHURNS})"
        ],
    ],
    (_MOVES, "transitions_are_allowed"): [
        [_one(_MOVES, "from_state = 'deleted', to_state = 'active'", "scope = 'platform'")],
        [
            _one(
                _MOVES,
                "from_state = 'churned_from_product', to_state = 'new_to_product'",
                "scope = 'product'",
            )
        ],
    ],
    (_MOVES, "equal_history_differences"): [
        [_drop_one(_MOVES, "scope = 'platform'")],
        [_drop_one(_MOVES, "scope = 'product'")],
        [_one(_MOVES, "days_in_previous_state = days_in_previous_state + 1")],
        [_one(_HISTORY, "platform_state = 'deleted'", "platform_state = 'active'")],
    ],
    **_metric("gold_users_active_daily"),
    **_metric("gold_users_active_weekly"),
    **_metric("gold_users_active_monthly"),
    **_metric("gold_users_created_daily"),
    **_metric("gold_videos_created_daily"),
    **_metric("gold_accounts_active_monthly", ("account_tier", "account_state")),
    (_ACTIVITY, "events_add_up"): [
        [
            _one(
                _ACTIVITY, "events_recorded_daily = events_recorded_daily + 1", "product_id = 'all'"
            )
        ],
        [
            _one(
                _ACTIVITY,
                "events_recorded_daily = events_recorded_daily + 1",
                "event_type <> 'all'",
            )
        ],
        [
            _one(
                _ACTIVITY,
                "events_qualifying_daily = events_qualifying_daily + 1",
                "event_type = 'all' AND product_id <> 'all'",
            )
        ],
        [_drop_one(_ACTIVITY, "event_type <> 'all'")],
        [_drop_one("bronze_events")],
    ],
    (_ACTIVITY, "users_agree_with_daily_activity"): [
        [_one(_ACTIVITY, f"{column} = {column} + 1", "feature_id = 'all' AND product_id <> 'all'")]
        for column in ("users_present_daily", "users_active_daily")
    ],
    (_CURVE, "days_add_up_to_users_active_daily"): [
        [_one(_CURVE, f"{_ON_DAYS} = {_ON_DAYS} + 1", "window_days = 28")],
        [_one(_CURVE, f"{_ON_DAYS} = {_ON_DAYS} - 1", f"window_days = 7 AND {_ON_DAYS} > 0")],
        [_drop_one(_CURVE, f"{_ON_DAYS} > 0")],
        [_one("gold_users_active_daily", "users_active_daily = 5", "segment_dimension = 'all'")],
    ],
    (_GROWTH, "account_balances"): [
        [_one(_GROWTH, f"users_{name}_per_window = users_{name}_per_window + 1")]
        for name in ("active", "active_before", "new", "retained", "resurrected", "churned")
    ]
    + [
        [_one(_GROWTH, "users_quick_ratio_per_window = 9")],
        [
            _one(
                _GROWTH,
                "users_new_per_window = -1, users_resurrected_per_window ="
                " users_resurrected_per_window + users_new_per_window + 1",
            )
        ],
    ],
    (_GROWTH, "agrees_with_users_active"): [
        [_one(_GROWTH, "users_active_per_window = users_active_per_window + 1")],
        [
            _one(
                _GROWTH,
                "users_active_before_per_window = users_active_before_per_window + 1",
                "metric_date > '2025-01-01'",
            )
        ],
        [_drop_one(_GROWTH)],
    ],
    (_CATALOG, "names_follow_convention"): [
        [_one(_CATALOG, "metric_name = 'users active monthly'")],
        [_one(_CATALOG, "metric_name = 'Users Active'")],
        [_one(_CATALOG, "metric_name = 'Monthly'")],
        [_one(_CATALOG, "column_name = 'mau'")],
    ],
    (_CATALOG, "one_meaning_a_name"): [
        [_one(_CATALOG, "formula = 'otherwise'", "metric_name = 'Users Active Daily'")]
    ],
    (_CATALOG, "nothing_is_left_empty"): [
        [_one(_CATALOG, f"{column} = ' '")]
        for column in ("description", "formula", "unit", "business_owner", "source_tables")
    ],
    (_OVERALL, "states_add_up"): [
        [_one(_OVERALL, "users_in_state_new_daily = users_in_state_new_daily + 1")],
        [_one(_OVERALL, "accounts_in_state_trial_daily = accounts_in_state_trial_daily + 1")],
        [_drop_one(_HISTORY)],
        [_drop_one(_ACCOUNT_HISTORY)],
    ],
    (_OVERALL, "headlines_are_in_bounds"): [
        [_one(_OVERALL, "accounts_health_mean_daily = 101")],
        [_one(_OVERALL, "users_active_daily = users_active_weekly + 1")],
        [_one(_OVERALL, "users_active_weekly = users_active_monthly + 1")],
    ],
    (_OVERALL, "means_recomputed"): [
        [_one(_OVERALL, f"users_active_stickiness_monthly = {value}", f"metric_date = {_LAST}")]
        for value in ("0.999", "NULL")
    ]
    + [
        [_one(_OVERALL, f"accounts_health_mean_daily = {value}", f"metric_date = {_LAST}")]
        for value in ("accounts_health_mean_daily / 2", "NULL")
    ],
    (_ADOPTION, "counts_fit_together"): [
        [_one(_ADOPTION, f"{column} = {column} + 30")]
        for column in (
            "users_eligible_to_date",
            "users_tried_to_date",
            "users_activated_to_date",
            "users_in_use_to_date",
            "users_started_to_date",
            "users_in_state_never_adopted_to_date",
        )
    ],
    (_ADOPTION, "agrees_with_raw_events"): [
        [_one(_ADOPTION, "users_tried_to_date = users_tried_to_date + 1")],
        [_one(_ADOPTION, "users_started_to_date = users_started_to_date + 1")],
        [_drop_one(_ADOPTION, "users_started_to_date > 0")],
    ],
    (_COHORTS, "cohorts_add_up_to_signups"): [
        [
            _one(
                _COHORTS,
                "users_in_cohort_per_period = users_in_cohort_per_period + 1",
                "segment_dimension = 'all'",
            )
        ],
        [_drop_one(_COHORTS, "period_number = 0 AND segment_dimension = 'all'")],
        [_drop_one("bronze_users")],
    ],
    (_COHORTS, "segments_add_up"): [
        *(
            [_one(_COHORTS, f"{name} = {name} + 1", f"segment_dimension = 'all' AND {_MATURE}")]
            for name in (
                "users_in_cohort_per_period",
                "users_retained_per_period",
                "users_retained_unbounded_per_period",
                "users_in_state_churned_per_period",
            )
        ),
        [
            _drop_one(
                _COHORTS,
                "segment_dimension = 'plan_type' AND cohort_type = 'month' AND period_number = 0"
                " AND cohort_start = '2024-07-01'",
            )
        ],
    ],
    (_COHORTS, "retention_is_in_bounds"): [
        [_one(_COHORTS, f"{change}", _MATURE)]
        for change in (
            "users_retained_per_period = users_retained_unbounded_per_period + 1",
            "users_retained_unbounded_per_period = users_in_cohort_per_period + 1",
            "users_retained_per_period = -1",
            "users_retained_share_per_period = 0.77",
            "users_retained_unbounded_share_per_period = 0.77",
            "users_in_state_new_per_period = users_in_state_new_per_period + 1",
            "users_in_state_new_per_period = NULL",
            "users_retained_share_per_period = NULL",
        )
    ],
    (_COHORTS, "immature_cells_are_null"): [
        [_one(_COHORTS, "users_retained_per_period = NULL", _MATURE)],
        [_one(_COHORTS, "users_retained_per_period = 0", "users_retained_per_period IS NULL")],
    ],
    ("gold_revenue_by_tier", "movements_agree_with_account_history"): [
        [_one("gold_revenue_by_tier", f"{name} = {name} + 1")]
        for name in ("revenue_opening_daily", "revenue_closing_daily", "revenue_new_daily")
    ]
    + [[_one(_ACCOUNT_HISTORY, "monthly_recurring_revenue = 1")]],
    ("gold_revenue_by_tier", "tiers_add_up"): [
        [_one("gold_revenue_by_tier", "revenue_churned_daily = revenue_churned_daily - 1")],
        [_one(_REVENUE, "revenue_closing_daily = revenue_closing_daily + 1")],
        [_drop_one("gold_revenue_by_tier", "revenue_closing_daily > 0")],
    ],
    (_REVENUE, "movements_add_up"): [
        [_one(_REVENUE, f"revenue_{name}_daily = revenue_{name}_daily + 1")]
        for name in (
            "opening",
            "new",
            "expansion",
            "contraction",
            "churned",
            "reactivated",
            "closing",
        )
    ]
    + [
        [
            _one(
                _REVENUE,
                "revenue_opening_daily = revenue_opening_daily + 1,"
                " revenue_closing_daily = revenue_closing_daily + 1",
            )
        ]
    ],
    (_REVENUE, "agrees_with_account_history"): [
        [_one(_REVENUE, "revenue_closing_daily = revenue_closing_daily + 1")],
        [_one(_REVENUE, "accounts_paying_daily = accounts_paying_daily + 1")],
        [_drop_one(_ACCOUNT_HISTORY, "is_paid")],
    ],
    (_REVENUE, "retention_is_in_bounds"): [
        [_one(_REVENUE, f"revenue_retained_{change}", "revenue_retained_net_monthly IS NOT NULL")]
        for change in (
            "gross_monthly = 1.1",
            "gross_monthly = -0.1",
            "gross_monthly = NULL",
            "net_monthly = 0",
        )
    ],
    (_BY_SEGMENT, "segments_add_up"): [
        [_one(_BY_SEGMENT, f"{column} = {column} + 1")]
        for column in (
            "users_in_segment_daily",
            "users_in_segment_active_daily",
            "users_in_segment_active_monthly",
        )
    ]
    + [
        [_drop_one(_BY_SEGMENT, "users_in_segment_daily > 0")],
        [_drop_one(_HISTORY)],
    ],
    (_STATES, "states_add_up"): [
        *(
            [
                _one(
                    _STATES,
                    "members_in_state_daily = members_in_state_daily + 1",
                    f"scope = '{scope}'",
                )
            ]
            for scope in ("platform", "product", "account")
        ),
        [_drop_one("silver_user_state_history", "snapshot_date = '2025-06-30'")],
        [_drop_one("silver_user_product_state_history", "snapshot_date = '2025-06-30'")],
        [_drop_one("silver_account_state_history", "snapshot_date = '2025-06-30'")],
    ],
    (_STATES, "moves_explain_members"): [
        [_one(_STATES, "members_in_state_daily = members_in_state_daily + 1", _DAY)],
        [_one(_STATES, "members_reached_state_daily = members_reached_state_daily + 1", _DAY)],
        [_one(_STATES, "members_left_state_daily = members_left_state_daily + 1", _DAY)],
    ],
    (_ANOMALIES, "rows_are_out_of_range"): [
        [_out(expected_high="0.9")],
        [_out(score="3.0")],
        [_out(direction="'down'")],
        [_out(expected_low="0.025")],
        [_out(days_in_row="0")],
        [_out(observed="1.5")],
        [_out(training_last_date=_LAST)],
    ],
    (_ANOMALIES, "observed_is_published"): [
        [_out(observed="0.9")],
        [_out(state="'active'")],
        [_out(measure="'active_share'", state="'all'", observed="0.99")],
        [_out(segment_value="'nowhere'")],
    ],
    (_ANOMALIES, "activity_is_as_expected"): [[_out(severity="'high'")]],
    (_ANOMALIES, "segments_and_states_are_as_expected"): [[_out(severity="'medium'")]],
    (_ANOMALIES, "activity_does_not_drift"): [[_out(severity="'low'")]],
    (_FLOWS, "agree_with_transitions"): [
        [_one(_FLOWS, "moves_made_daily = moves_made_daily + 1", "from_state = 'all'")],
        [_one(_FLOWS, "moves_made_daily = moves_made_daily + 1", "from_state <> 'all'")],
        [_drop_one(_MOVES)],
        [_drop_one(_ACCOUNT_MOVES)],
    ],
    (_FLOWS, "flows_equal_differences_of_counts"): [
        [
            _one(
                _FLOWS,
                "moves_made_daily = moves_made_daily + 1",
                f"from_state <> 'all' AND scope = '{scope}' AND metric_date > '2025-01-01'",
            )
        ]
        for scope in ("platform", "product", "account")
    ]
    + [
        [_drop_one(_HISTORY, "snapshot_date = '2025-03-01'")],
        [_drop_one(_PRODUCT_HISTORY, "snapshot_date = '2025-03-01'")],
        [_drop_one(_ACCOUNT_HISTORY, "snapshot_date = '2025-03-01'")],
    ],
    (_FLOWS, "churn_rate_is_steady"): [_rate_changes(_FLOWS, "users_churned", 270)],
    (_FLOWS, "dormancy_rate_is_steady"): [_rate_changes(_FLOWS, "users_dormant", 270)],
    (_FLOWS, "reactivation_rate_is_steady"): [_rate_changes(_FLOWS, "users_reactivated", 130)],
    (_FLOWS, "dunning_is_recovered"): [
        [
            f"UPDATE gold.{_FLOWS} SET accounts_dunning_recovered_population_monthly = 40,"
            " accounts_dunning_recovered_share_monthly = 0.5"
            f" WHERE metric_date = {_LAST} AND scope = 'account' AND from_state = 'all'"
        ]
    ],
    (_FLOWS, "time_in_new_is_steady"): [
        [
            f"UPDATE gold.{_FLOWS} SET moves_made_daily = 40, moves_days_in_state_mean_daily ="
            f" CASE WHEN metric_date > {_LAST} - 28 THEN 20 ELSE 10 END WHERE from_state = 'new'"
        ]
    ],
    (_OVERALL, "activation_rate_is_steady"): [_rate_changes(_OVERALL, "users_activated", 130)],
    (_OVERALL, "users_do_not_decline_slowly"): [
        [
            f"UPDATE gold.{_OVERALL} SET users_active_monthly ="
            f" 100 - date_diff('day', {_LAST} - 50, metric_date)"
        ]
    ],
    (_BY_SEGMENT, "state_shares_are_steady"): [
        [
            f"UPDATE gold.{_BY_SEGMENT} SET users_in_segment_daily = 40"
            " WHERE segment_value = 'dormant'",
            f"UPDATE gold.{_BY_SEGMENT} SET users_in_segment_share_daily = 0.9"
            f" WHERE segment_value = 'dormant' AND metric_date = {_LAST}",
        ]
    ],
    (_ACTIVITY, "volume_is_as_expected"): [_events_of_last_day(79), _events_of_last_day(121)],
    (_ACTIVITY, "there_is_data"): [_events_of_last_day(0)],
    (_ACTIVITY, "days_have_events"): [
        [
            f"UPDATE gold.{_ACTIVITY} SET events_recorded_daily ="
            f" CASE WHEN metric_date = {_LAST} - 3 THEN 0 ELSE 30 END WHERE product_id = 'all'"
        ]
    ],
    (_ACTIVITY, "last_day_follows_the_others"): [
        [
            f"UPDATE gold.{_ACTIVITY} SET events_recorded_daily = 0"
            f" WHERE metric_date BETWEEN {_LAST} - 14 AND {_LAST} - 1",
            f"UPDATE bronze.bronze_subscription_events SET event_date = {_LAST} - 15"
            f" WHERE event_date > {_LAST} - 15",
            f"UPDATE bronze.bronze_users SET signup_date = {_LAST} - 15"
            f" WHERE signup_date > {_LAST} - 15",
        ]
    ],
    ("bronze_loads", "schema_is_complied_with"): [
        [
            "UPDATE bronze.bronze_loads SET rows_read = 100, rows_accepted = 94, rows_rejected = 6"
            f" WHERE partition_date = {_LAST}"
        ]
    ],
}


def test_every_rule_has_a_planted_fault() -> None:
    assert RULES.keys() == FAULTS.keys()
    assert len(RULES) == len(rules()), "two rules of a table have the same name"


@pytest.mark.parametrize(("table_name", "rule_name"), RULES, ids=["-".join(key) for key in RULES])
def test_rule_finds_its_fault(
    connection: duckdb.DuckDBPyConnection, seeds_run: SeedsRun, table_name: str, rule_name: str
) -> None:
    rule = RULES[table_name, rule_name]
    days = seeds_run.days if rule.table.partition_column else None
    relations = [TABLES[name].relation for name in rule.inputs]
    query = compile_query(rule.rows(relations, POLICY))
    for statements in FAULTS[table_name, rule_name]:
        with planted(connection, *statements):
            finding = rule.evaluate(DuckDBEngine(connection), query, days)
        assert not finding.passed, statements
        assert finding.examples
        assert finding.columns


def test_a_figure_of_too_few_passes_with_a_note(
    connection: duckdb.DuckDBPyConnection, seeds_run: SeedsRun
) -> None:
    """The seeds have 20 users. Figures for fewer than 30 are not evaluated (framework, section 9)."""
    rule = RULES["gold_segment_metrics", "state_shares_are_steady"]
    query = compile_query(rule.rows([TABLES[name].relation for name in rule.inputs], POLICY))
    finding = rule.evaluate(DuckDBEngine(connection), query, seeds_run.days)
    assert finding.passed
    assert finding.note == "not evaluated: only 20 users (minimum 30) for State shares"


@pytest.mark.parametrize(
    ("table_name", "history", "fault"),
    [
        ("silver_user_current_state", _HISTORY, "total_qualifying_events = 99"),
        ("silver_user_product_states", _PRODUCT_HISTORY, "first_access_at = '2020-01-01'"),
        ("silver_account_current_state", _ACCOUNT_HISTORY, "total_seats = 99"),
    ],
)
def test_a_current_state_is_not_compared_with_a_history_that_is_out_of_date(
    connection: duckdb.DuckDBPyConnection, table_name: str, history: str, fault: str
) -> None:
    rule = RULES[table_name, "agrees_with_history"]
    query = compile_query(rule.rows([TABLES[name].relation for name in rule.inputs], POLICY))

    def evaluate(*statements: str) -> Finding:
        differs = _one(table_name, fault, "current_state <> 'never_adopted'")
        if table_name == "silver_user_current_state":
            differs = _one(table_name, fault)
        with planted(connection, differs, *statements):
            return rule.evaluate(DuckDBEngine(connection), query, None)

    def noted(affects_from: str) -> str:
        return f"INSERT INTO operations.source_changes VALUES ('events', '{affects_from}', now())"

    computed_again = (
        "UPDATE operations.materializations SET materialized_at = now() + INTERVAL 1 DAY"
        f" WHERE table_name = '{history}' AND partition_date = '2025-06-30'"
    )
    assert not evaluate().passed
    old = evaluate(noted("2025-06-20"))
    assert old.passed
    assert "out of date" in old.note
    assert not evaluate(noted("2025-07-01")).passed, "the change affects later days only"
    assert not evaluate(noted("2025-06-20"), computed_again).passed


# ---------------------------------------------------------------- from findings to runs

_FACTS_KEY = asset_key(FACTS.name)


def _job(
    database: Path, checks: dg.AssetChecksDefinition, *delivered: dict[str, object]
) -> dg.ExecuteInProcessResult:
    """Materialize facts, run their checks and materialize a table that reads the facts."""
    warehouse = DuckDBWarehouse(
        database=str(database), connection_config=connection_config(threads=2)
    )
    definitions = dg.Definitions(
        assets=[
            delivering(FACTS, lambda _: expression(types_of(FACTS), delivered)),
            reading(SAME_DAYS),
        ],
        asset_checks=[checks],
        resources={
            IO_MANAGER_KEY: WarehouseIOManager(warehouse=warehouse),
            "warehouse": warehouse,
        },
    )
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=in_memory_instance(),
        run_config=QUIET,
        partition_key=PARTITIONS.get_first_partition_key(),
        raise_on_error=False,
    )


def _checks(*facts_rules: Rule) -> dg.AssetChecksDefinition:
    return build_table_checks(FACTS, facts_rules, lambda _: FACTS.relation, POLICY)


def _evaluations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def _materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    return {
        event.asset_key.path[-1]
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }


def _notes(silver_facts: ir.Table) -> ir.Table:
    """Return the facts that have a note."""
    return silver_facts.filter(silver_facts.note.notnull()).select("fact_id", "note")


def test_broken_contract_keeps_what_comes_after_from_running(tmp_path: Path) -> None:
    result = _job(tmp_path / "w.duckdb", _checks(), *facts(day(1)), *facts(day(1)))
    evaluations = _evaluations(result)
    assert {name for name, e in evaluations.items() if not e.passed} == {UNIQUE}
    assert evaluations[UNIQUE].severity == dg.AssetCheckSeverity.ERROR
    assert not result.success
    assert _materialized(result) == {FACTS.name}


@pytest.mark.parametrize("blocking", [True, False])
def test_only_a_blocking_rule_keeps_what_comes_after_from_running(
    tmp_path: Path, blocking: bool
) -> None:
    checks = _checks(rule(FACTS, "No remarks.", blocking=blocking)(_notes))
    result = _job(tmp_path / "w.duckdb", checks, *facts(day(1), note="hm"))
    finding = _evaluations(result)["_notes"]
    assert not finding.passed
    assert finding.severity.value == ("ERROR" if blocking else "WARN")
    assert result.success is not blocking
    assert _materialized(result) == ({FACTS.name} if blocking else {FACTS.name, SEEN.name})


@pytest.mark.parametrize("blocking", [True, False])
def test_rule_that_raises_is_a_failed_result_and_the_next_one_runs(
    tmp_path: Path, blocking: bool
) -> None:
    def raising(silver_facts: ir.Table) -> ir.Table:
        raise LookupError("no such thing")

    def failing_in_the_engine(silver_facts: ir.Table) -> ir.Table:
        return silver_facts.filter(silver_facts.note.cast("int64") == 1)

    checks = _checks(
        rule(FACTS, "Raises.", blocking=blocking)(raising),
        rule(FACTS, "Fails.", blocking=blocking)(failing_in_the_engine),
        rule(FACTS, "No remarks.", blocking=False)(_notes),
    )
    result = _job(tmp_path / "w.duckdb", checks, *facts(day(1), note="hm"))
    evaluations = _evaluations(result)
    note = evaluations["raising"].metadata["note"].value
    assert note == "could not be evaluated: LookupError: no such thing"
    assert "ConversionException" in str(evaluations["failing_in_the_engine"].metadata["note"].value)
    assert not any(
        evaluations[name].passed for name in ("raising", "failing_in_the_engine", "_notes")
    )
    assert evaluations[TYPES].passed
    assert result.success is not blocking


def test_examples_are_escaped(tmp_path: Path) -> None:
    note = 'a|b\\|\n<img src="x"> ![x](http://x) `c` &lt; **d**\r| e |'
    checks = _checks(rule(FACTS, "No remarks.", blocking=False)(_notes))
    result = _job(tmp_path / "w.duckdb", checks, *facts(day(1), note=note))
    finding = _evaluations(result)["_notes"]
    assert finding.metadata["violations"].value == 1
    assert str(finding.metadata["examples"].value).split("\n") == [
        "| fact_id | note |",
        "| --- | --- |",
        r"| fact 2025-01-01 | a\|b\\\| &lt;img src=\"x\"> !\[x\](http://x) \`c\` &amp;lt;".replace(
            r"\"", '"'
        )
        + r" \*\*d\*\* \| e \| |",
    ]


def test_finding_shows_a_few_rows_in_a_fixed_order(tmp_path: Path) -> None:
    many = [
        fact | {"fact_id": f"f{n}"} for n in range(9, 0, -1) for fact in facts(day(1), note="n")
    ]
    checks = _checks(rule(FACTS, "No remarks.", blocking=False)(_notes))
    finding = _evaluations(_job(tmp_path / "w.duckdb", checks, *many))["_notes"]
    assert finding.metadata["violations"].value == 9
    lines = str(finding.metadata["examples"].value).split("\n")[2:]
    assert lines == [f"| f{n} | n |" for n in range(1, 6)]


def test_check_of_a_run_looks_at_the_days_of_the_run_only(tmp_path: Path) -> None:
    def not_on_the_second(silver_facts: ir.Table, *, window: DateWindow) -> ir.Table:
        days = silver_facts.filter(silver_facts.fact_date.between(window.first, window.last))
        return days.filter(days.fact_date == date(2025, 1, 2))

    checks = _checks(rule(FACTS, "Nothing on the second.")(not_on_the_second))
    result = _job(tmp_path / "w.duckdb", checks, *facts(day(1)))
    assert _evaluations(result)["not_on_the_second"].passed
    assert result.success
