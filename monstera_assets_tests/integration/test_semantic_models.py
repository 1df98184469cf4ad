"""Test the semantic models with MetricFlow on the published copy of the seeds' warehouse."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest
import yaml
from click.testing import CliRunner
from metricflow.data_table.mf_table import MetricFlowDataTable
from metricflow.engine.metricflow_engine import MetricFlowEngine, MetricFlowQueryRequest
from metricflow.protocols.sql_client import SqlClient, SqlEngine
from metricflow.sql.render.duckdb_renderer import DuckDbSqlPlanRenderer
from metricflow_semantics.model.semantic_manifest_lookup import SemanticManifestLookup

from monstera_assets.cli import main
from monstera_assets.definitions import metric_tables
from monstera_assets.documentation.semantic_models import semantic_models
from monstera_assets.settings import Settings
from monstera_assets.settings.entities_created import EntityCreated
from monstera_assets_tests.integration.example_runs import SeedsRun

# One row is not a date, so that a query without a product or period would count members several times.
OF_PRODUCTS = (
    *("users_eligible_to_date", "users_tried_to_date", "users_activated_to_date"),
    *("users_in_use_to_date", "users_tried_share_to_date", "users_activated_share_to_date"),
    *("users_days_to_activation_median_to_date", "users_started_to_date"),
    "users_sequence_position_mean_to_date",
    *(
        f"users_in_state_{state}_to_date"
        for state in (
            *("never_adopted", "new_to_product", "active_in_product", "dormant_in_product"),
            *("churned_from_product", "reactivated_in_product"),
        )
    ),
)
OF_COHORTS = (
    *("users_in_cohort_per_period", "users_retained_per_period"),
    *("users_retained_share_per_period", "users_retained_unbounded_per_period"),
    "users_retained_unbounded_share_per_period",
    *(
        f"users_in_state_{state}_per_period"
        for state in (
            *("new", "active", "returning", "dormant", "churned"),
            *("reactivated", "dunning", "deleted"),
        )
    ),
)
NOT_ADDITIVE = (
    *("users_in_segment_share_daily", "members_in_state_share_daily"),
    "members_moved_together_daily",
)
LEFT_OUT = {
    **dict.fromkeys(OF_PRODUCTS, "gold_product_adoption counts a member in several rows"),
    **dict.fromkeys(OF_COHORTS, "gold_retention_cohorts counts a member in several rows"),
    **dict.fromkeys(NOT_ADDITIVE, "the values do not add up"),
}

_ACTIVITY_TOTAL = (
    "FROM gold.gold_activity_metrics WHERE product_id = 'all' AND feature_id = 'all'"
    " AND event_type = 'all' AND location = 'all'"
)
_DAILY = {
    # Distinct users on a day, in 7 days and in 30 days.
    "users_active_daily": "users_active_daily FROM gold.gold_overall_metrics",
    "users_active_weekly": "users_active_weekly FROM gold.gold_overall_metrics",
    "users_active_monthly": "users_active_monthly FROM gold.gold_overall_metrics",
    "users_present_daily": f"users_present_daily {_ACTIVITY_TOTAL}",
    # Changes and other quotients.
    "users_active_monthly_month_on_month": "users_active_monthly_month_on_month"
    " FROM gold.gold_overall_metrics",
    "users_active_daily_week_on_week": "users_active_daily_week_on_week"
    " FROM gold.gold_overall_metrics",
    "users_activated_share_weekly": "users_activated_share_weekly FROM gold.gold_overall_metrics",
    "users_quick_ratio_per_window_of_7_days": "users_quick_ratio_per_window"
    " FROM gold.gold_growth_accounting WHERE window_days = 7",
    "users_churned_share_weekly_platform": "users_churned_share_weekly"
    " FROM gold.gold_state_transition_metrics WHERE scope = 'platform' AND from_state = 'all'",
    "accounts_dunning_recovered_share_monthly_account": "accounts_dunning_recovered_share_monthly"
    " FROM gold.gold_state_transition_metrics WHERE scope = 'account' AND from_state = 'all'",
    # Other metrics.
    "users_active_stickiness_monthly": "users_active_stickiness_monthly"
    " FROM gold.gold_overall_metrics",
    "users_in_state_dormant_daily": "users_in_state_dormant_daily FROM gold.gold_overall_metrics",
    "accounts_health_mean_daily": "accounts_health_mean_daily FROM gold.gold_overall_metrics",
    "revenue_closing_daily": "revenue_closing_daily FROM gold.gold_revenue_metrics",
    "revenue_churned_daily": "revenue_churned_daily FROM gold.gold_revenue_metrics",
    "revenue_retained_net_monthly": "revenue_retained_net_monthly FROM gold.gold_revenue_metrics",
    "users_new_per_window_of_30_days": "users_new_per_window FROM gold.gold_growth_accounting"
    " WHERE window_days = 30",
    "workflows_completed_daily": f"workflows_completed_daily {_ACTIVITY_TOTAL}",
    "videos_created_daily": "videos_created_daily FROM gold.gold_videos_created_daily"
    " WHERE segment_dimension = 'all'",
}
"""For each metric, its column in gold and the rows with one value a date."""

_BY_PART = [
    (
        "users_active_weekly_by_country",
        ["metric_time", "gold_users_active_weekly__segment_value"],
        "SELECT metric_date, segment_value, users_active_weekly FROM gold.gold_users_active_weekly"
        " WHERE segment_dimension = 'country'",
    ),
    (
        "revenue_closing_daily_by_account_tier",
        ["metric_time", "gold_revenue_by_tier__account_tier"],
        "SELECT metric_date, account_tier, revenue_closing_daily FROM gold.gold_revenue_by_tier",
    ),
    (
        "members_in_state_daily_product_by_product",
        [
            "metric_time",
            "gold_state_distribution__segment_value",
            "gold_state_distribution__state",
        ],
        "SELECT metric_date, segment_value, state, members_in_state_daily"
        " FROM gold.gold_state_distribution WHERE scope = 'product'",
    ),
    # Totals over the parts.
    (
        "users_active_weekly_by_country",
        ["metric_time"],
        "SELECT metric_date, users_active_weekly FROM gold.gold_overall_metrics"
        # no user has a country before
        " WHERE metric_date >= (SELECT min(metric_date) FROM gold.gold_users_active_weekly"
        " WHERE segment_dimension = 'country')",
    ),
    # Months: users count once, stocks are those of the last day, and movements add up.
    (
        "users_active_daily",
        ["metric_time__month"],
        "SELECT date_trunc('month', date_day), count(DISTINCT user_id) FROM gold.time_spine"
        " LEFT JOIN silver.silver_daily_user_activity"
        " ON activity_date = date_day AND qualifying_events > 0 GROUP BY 1",
    ),
    (
        "users_active_monthly",
        ["metric_time__month"],
        "SELECT date_trunc('month', metric_date), users_active_monthly"
        " FROM gold.gold_overall_metrics WHERE metric_date = last_day(metric_date)",
    ),
    (
        "revenue_closing_daily",
        ["metric_time__month"],
        "SELECT date_trunc('month', metric_date), revenue_closing_daily"
        " FROM gold.gold_overall_metrics WHERE metric_date = last_day(metric_date)",
    ),
    (
        "revenue_opening_daily",
        ["metric_time__month"],
        "SELECT metric_date, revenue_opening_daily FROM gold.gold_revenue_metrics"
        " WHERE day(metric_date) = 1",
    ),
    (
        "revenue_new_daily",
        ["metric_time__month"],
        "SELECT date_trunc('month', metric_date), sum(revenue_new_daily)"
        " FROM gold.gold_revenue_metrics GROUP BY 1",
    ),
    (
        "users_churned_share_weekly_platform",
        ["metric_time__month"],
        "SELECT date_trunc('month', metric_date), users_churned_weekly"
        " / nullif(users_churned_population_weekly, 0) FROM gold.gold_state_transition_metrics"
        " WHERE scope = 'platform' AND from_state = 'all' AND metric_date = last_day(metric_date)",
    ),
]


class Client:
    """What MetricFlow needs to query a DuckDB file."""

    sql_engine_type = SqlEngine.DUCKDB
    sql_plan_renderer = DuckDbSqlPlanRenderer()

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Read from the connection."""
        self.connection = connection

    def query(self, stmt: str, sql_bind_parameter_set: object = None) -> MetricFlowDataTable:
        """Return the rows."""
        del sql_bind_parameter_set  # the queries have none
        found = self.connection.execute(stmt)
        names = [name for name, *_ in found.description or []]
        return MetricFlowDataTable.create_from_rows(names, found.fetchall())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the command writes."""
    path = tmp_path_factory.mktemp("semantic") / "semantic_models.yml"
    result = CliRunner().invoke(main, ["semantic-models", "--output", str(path)])
    assert result.exit_code == 0, result.output
    assert result.output == f"{path}\n"
    return path


def parsed(package: str, file: Path) -> Any:
    """Return the manifest that a package's parser reads, which its validator accepts."""
    parser = import_module(f"{package}.parsing.dir_to_model")
    validator = import_module(f"{package}.validations.semantic_manifest_validator")
    manifest = parser.parse_yaml_file_paths_to_semantic_manifest([str(file)]).semantic_manifest
    found = validator.SemanticManifestValidator().validate_semantic_manifest(manifest)
    # The parser itself adds the metric to the two cumulative metrics.
    added = "should not have both a measure and a metric as inputs"
    assert not [issue.message for issue in found.all_issues if added not in issue.message]
    return manifest


@pytest.fixture(scope="module")
def published(seeds_run: SeedsRun) -> Iterator[duckdb.DuckDBPyConnection]:
    """The published copy of the seeds' warehouse."""
    copy = seeds_run.database.parent / "published" / seeds_run.database.name
    with duckdb.connect(copy, read_only=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def engine(file: Path, published: duckdb.DuckDBPyConnection) -> MetricFlowEngine:
    """MetricFlow, with the file and the published copy."""
    manifest = parsed("metricflow_semantic_interfaces", file)
    client = cast("SqlClient", Client(published))
    return MetricFlowEngine(SemanticManifestLookup(manifest), client)


def measured(
    engine: MetricFlowEngine, metric: str, by: Sequence[str]
) -> Mapping[tuple[object, ...], float | None]:
    """Return a metric's values, keyed by the values of `by`."""
    asked = MetricFlowQueryRequest.create(metric_names=[metric], group_by_names=by)
    result = engine.query(asked).result_df
    assert result
    return keyed(result.rows)


def keyed(rows: Sequence[Sequence[Any]]) -> Mapping[tuple[object, ...], float | None]:
    """Return the values in the last column, keyed by all other columns."""
    found = {
        tuple(each.date() if isinstance(each, datetime) else each for each in key): value
        for *key, value in rows
    }
    assert len(found) == len(rows)
    return {key: None if value is None else float(value) for key, value in found.items()}


@pytest.mark.parametrize("package", ["dbt_semantic_interfaces", "metricflow_semantic_interfaces"])
def test_parsers_accept_the_file(package: str, file: Path) -> None:
    documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    manifest = parsed(package, file)
    assert [each.name for each in manifest.metrics] == [
        each["metric"]["name"] for each in documents if "metric" in each
    ]
    assert len(manifest.semantic_models) == sum("semantic_model" in each for each in documents)


def test_each_metric_of_the_catalog_is_in_the_file_or_left_out(
    file: Path, published: duckdb.DuckDBPyConnection
) -> None:
    left_out = semantic_models(metric_tables()).left_out
    assert left_out.keys() == LEFT_OUT.keys()
    assert all(left_out[name].startswith(reason) for name, reason in LEFT_OUT.items())
    content = file.read_text(encoding="utf-8")
    comment, _, _ = content.partition("\n---\n")
    assert {line[4:] for line in comment.splitlines() if line.startswith("# - ")} == {*LEFT_OUT}
    documents = list(yaml.safe_load_all(content))
    texts = [each["metric"]["description"] for each in documents if "metric" in each]
    catalog = published.execute(
        "SELECT DISTINCT column_name, description FROM gold.gold_metric_catalog"
    ).fetchall()
    assert {
        column for column, description in catalog if not any(map(_starts(description), texts))
    } == {*LEFT_OUT}


def _starts(beginning: str) -> Callable[[str], bool]:
    return lambda text: text.startswith(beginning)


def test_the_file_is_always_the_same(file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.yml"
    subprocess.run(
        [
            *(sys.executable, "-c", "from monstera_assets.cli import main; main()"),
            *("semantic-models", "--output", str(again)),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "7"},
    )
    assert again.read_bytes() == file.read_bytes()


def test_configured_entities_have_metrics() -> None:
    entity = EntityCreated(entity="Boards", event_types=("board_created",))
    models = semantic_models(metric_tables(Settings(entities_created=(entity,))))
    names = {each["metric"]["name"] for each in models.documents if "metric" in each}
    assert {"boards_created_daily", "boards_created_daily_by_country"} <= names
    assert "videos_created_daily" not in names


def test_a_path_that_cannot_be_written() -> None:
    result = CliRunner().invoke(main, ["semantic-models", "--output", "/no/such/folder/file.yml"])
    assert result.exit_code == 2
    assert "Cannot write to --output /no/such/folder/file.yml: No such file" in result.output


@pytest.mark.parametrize("metric", _DAILY)
def test_a_metric_by_day_equals_gold(
    metric: str, engine: MetricFlowEngine, published: duckdb.DuckDBPyConnection
) -> None:
    expected = keyed(published.execute(f"SELECT metric_date, {_DAILY[metric]}").fetchall())
    assert len(expected) == 365
    assert any(expected.values())
    assert measured(engine, metric, ["metric_time"]) == pytest.approx(expected, nan_ok=False)


@pytest.mark.parametrize(("metric", "by", "query"), _BY_PART)
def test_a_metric_by_part_or_month_equals_gold(
    metric: str,
    by: Sequence[str],
    query: str,
    engine: MetricFlowEngine,
    published: duckdb.DuckDBPyConnection,
) -> None:
    expected = keyed(published.execute(query).fetchall())
    assert any(expected.values())
    assert measured(engine, metric, by) == pytest.approx(expected)


@pytest.mark.slow
def test_every_metric_has_values(engine: MetricFlowEngine, file: Path) -> None:
    for metric in parsed("metricflow_semantic_interfaces", file).metrics:
        values = measured(engine, metric.name, ["metric_time"]).values()
        assert any(value is not None for value in values), metric.name
