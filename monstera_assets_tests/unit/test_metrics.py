"""Tests of the metric declarations: names, columns and the catalog."""

from __future__ import annotations

import re
from datetime import date

import pytest

from monstera_assets.bronze import bronze_accounts, bronze_events, bronze_users
from monstera_assets.definitions import table_assets, tables
from monstera_assets.gold.entities_created import EntityCreated
from monstera_assets.gold.entity_created_table import entity_created_daily
from monstera_assets.gold.gold_metric_catalog import TABLE as CATALOG
from monstera_assets.gold.gold_metric_catalog import catalog_rows
from monstera_assets.gold.metrics import Metric, MetricTable, Unit, snake_case, title_case
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.silver.silver_events_enriched import TABLE as ENRICHED
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.tables import TREND_FLAGS, Layer
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse

ACCOUNTS, USERS = bronze_accounts.TABLE, bronze_users.TABLE

# Framework, section 8, and the catalog, which contains no metric.
GOLD_TABLES = {
    "gold_users_active_daily",
    "gold_users_active_weekly",
    "gold_users_active_monthly",
    "gold_users_created_daily",
    "gold_videos_created_daily",
    "gold_accounts_active_monthly",
    "gold_overall_metrics",
    "gold_segment_metrics",
    "gold_activity_metrics",
    "gold_product_adoption",
    "gold_retention_cohorts",
    "gold_state_transition_metrics",
    "gold_growth_accounting",
    "gold_engagement_power_curve",
    "gold_revenue_by_tier",
    "gold_revenue_metrics",
    "gold_metric_catalog",
    # Input of the anomalies.
    "gold_state_distribution",
}


def metric(name: str, unit: Unit = Unit.USERS) -> Metric:
    return Metric(name, "What it is.", "count(*)", unit)


@pytest.mark.parametrize(
    "name",
    [
        "Users Active Monthly",
        "Users Active Monthly by Country",
        "Users in State New to Product to Date",
        "Users Active Daily Week on Week",
        "Users Active per Window by Active Days",
        "Videos Created Daily",
    ],
)
def test_names_by_the_convention(name: str) -> None:
    assert metric(name).column_name == name.lower().replace(" ", "_")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "MAU",
        "Users Monthly",  # no action or state
        "Users Active",  # no time period
        "users active monthly",
        "Users active Monthly",
        "Users Active Yearly",
        "Users Active Monthly by",
        "Users Active Monthly by country",
        "Users  Active Monthly",
        "Users Active Monthly; DROP TABLE x",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"does not follow the pattern \[Entity\]"):
        metric(name)


def test_units_follow_from_names() -> None:
    def unit(name: str) -> Unit:
        return Metric(name, "What it is.", "count(*)").unit

    assert unit("Users Active Daily") is Unit.USERS
    assert unit("Revenue Closing Daily") is Unit.MONEY
    assert unit("Users Tried Share to Date") is Unit.SHARE
    with pytest.raises(ValueError, match="has no unit"):
        unit("Videos Created Daily")


# Framework, section 8.
SHORT_NAMES = {
    "DAU": "Users Active Daily",
    "WAU": "Users Active Weekly",
    "MAU": "Users Active Monthly",
    "MRR": "Revenue Closing Daily",
    "ARR": "Revenue Annualized Daily",
    "NRR": "Revenue Retained Net Monthly",
    "GRR": "Revenue Retained Gross Monthly",
    "Quick ratio": "Users Quick Ratio per Window",
}
METRICS = [
    metric for table in tables() if isinstance(table, MetricTable) for metric in table.metrics
]
COUNTED = {
    "users",
    "accounts",
    "users, relationships or accounts",
    "events",
    "workflow runs",
    "moves",
}


def test_metrics_have_the_short_names_in_general_use() -> None:
    found = {metric.short_name: metric.name for metric in METRICS if metric.short_name}
    assert found.items() >= SHORT_NAMES.items()
    assert len(found) == len({metric.name for metric in METRICS if metric.short_name})


def test_people_are_shown_both_names() -> None:
    named = Metric("Users Active Monthly", "What it is.", "count(*)", short_name="MAU")
    assert named.title == "MAU (Users Active Monthly)"
    assert named.column.description == "What it is. Short name: MAU."
    assert named.change(7).short_name == "MAU Week on Week"
    assert metric("Users Created Daily").title == "Users Created Daily"
    assert metric("Users Created Daily").change(7).short_name == ""


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_what_divides_has_a_population(metric: Metric) -> None:
    divides_nothing = metric.unit in COUNTED or metric.unit.startswith("reporting currency per ")
    assert bool(metric.population) is not divides_nothing


@pytest.mark.parametrize(
    ("unit", "bounds"),
    [
        (Unit.USERS, (0, None)),
        (Unit.SHARE, (0, 1)),
        (Unit.RATIO, (0, None)),
        (Unit.CHANGE, (-1, None)),
        (Unit.SCORE, (0, 100)),
        (Unit.POSITION, (1, None)),
        (Unit.MONEY, (0, None)),
    ],
)
def test_units_have_bounds(unit: Unit, bounds: tuple[float | None, float | None]) -> None:
    assert metric("Users Active Daily", unit).bounds == bounds


def test_lost_revenue_is_never_above_0() -> None:
    found = {metric.name for metric in METRICS if metric.bounds == (None, 0)}
    assert found == {"Revenue Contraction Daily", "Revenue Churned Daily"}


def test_money_carries_its_currency() -> None:
    assert Unit.MONEY.in_currency("EUR") == "EUR per month"
    assert Unit.YEARLY_MONEY.in_currency("EUR") == "EUR per year"
    assert Unit.USERS.in_currency("EUR") == "users"
    units = {
        row["column_name"]: row["unit"] for row in catalog_rows(table_assets(), LifecyclePolicy())
    }
    assert units["revenue_closing_daily"] == "USD per month"
    assert units["revenue_annualized_daily"] == "USD per year"


NO_SHARES = {
    "auc": "the chance that a ranking is right, not a part of a whole",
    "log_loss": "a loss, which has no upper bound",
    "brier_score": "a mean of squared differences",
    "active_days_missed": "a number of days",
    "top_tenth_lift": "a quotient of two shares",
    "retention_lift": "a quotient of two shares",
    "reason_1_effect": "a difference of two probabilities",
    "reason_2_effect": "a difference of two probabilities",
    "reason_3_effect": "a difference of two probabilities",
    "observed": "a share or a number of events, checked by rows_are_out_of_range",
}
"""Columns of numbers that are described with a share, a rate or a probability, but are none."""


def test_every_share_of_silver_and_gold_is_declared() -> None:
    """The contract checks that declared shares are between 0 and 1."""
    described = re.compile(r"\b(share|rate|probability|proportion)\b|between 0 and 1\b")
    undeclared = {
        column.name
        for table in tables()
        for column in table.columns
        if column.type == "float64" and not column.is_share and described.search(column.description)
    }
    assert undeclared <= NO_SHARES.keys()
    shares = {column.name for table in tables() for column in table.columns if column.is_share}
    assert shares >= {"churn_probability", "score", "users_churned_share_weekly", "support"}
    assert not shares & NO_SHARES.keys()


def test_the_catalog_describes_a_metric_in_full() -> None:
    rows = catalog_rows(table_assets(), LifecyclePolicy())
    [row] = [row for row in rows if row["column_name"] == "users_dormant_share_weekly"]
    assert row["short_name"] is None
    assert (row["unit"], row["lower_bound"], row["upper_bound"]) == ("share", 0, 1)
    assert str(row["population"]).startswith(
        "users who were active, returning, reactivated or dunning"
    )


def test_snake_case_and_back() -> None:
    assert snake_case("Users in State New") == "users_in_state_new"
    assert title_case("new_to_product") == "New to Product"


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        (Unit.USERS, 12345, "12,345"),
        (Unit.SHARE, 1 / 3, "33.3%"),
        (Unit.CHANGE, -0.125, "-12.5%"),
        (Unit.CHANGE, 0.5, "+50.0%"),
        (Unit.RETENTION, 1.125, "112.5%"),
        (Unit.RATIO, 1.2666, "1.27"),
        (Unit.MONEY, 1234.5, "1,234.50 USD"),
        (Unit.SCORE, 47.9166, "47.9"),
        (Unit.SHARE, None, "not known"),
        (Unit.USERS, 0, "0"),
    ],
)
def test_values_as_people_read_them(unit: Unit, value: float | None, shown: str) -> None:
    assert metric("Users Active Daily", unit).format(value, "USD") == shown


PREDICTIONS = {
    "gold_state_distribution_anomalies",
    "gold_user_churn_scores",
    "gold_churn_model_evaluation",
    "gold_account_churn_scores",
    "gold_accounts_needing_attention",
    "gold_product_recommendations",
    "gold_recommendation_evaluation",
}
"""The gold tables that have no metrics."""


def test_the_gold_tables_are_the_frameworks() -> None:
    found = {table.name for table in tables() if table.layer == Layer.GOLD}
    assert found == GOLD_TABLES | PREDICTIONS


@pytest.mark.parametrize(
    "table",
    [t for t in tables() if t.layer == Layer.GOLD and t.name not in {CATALOG.name, *PREDICTIONS}],
    ids=lambda table: str(table.name),
)
def test_every_column_of_gold_is_a_dimension_or_a_declared_metric(table: MetricTable) -> None:
    assert isinstance(table, MetricTable)
    flags = TREND_FLAGS if table.partition_column else ()
    assert table.columns == (*table.dimensions, *(m.column for m in table.metrics), *flags)
    assert set(table.key) <= {column.name for column in table.dimensions}


def test_the_catalog_has_every_metric_of_every_table() -> None:
    rows = catalog_rows(table_assets(), LifecyclePolicy())
    assert {name for row in rows for name in row} == {column.name for column in CATALOG.columns}
    listed = {(row["table_name"], row["column_name"]): row for row in rows}
    assert len(listed) == len(rows)
    assert listed.keys() == {
        (table.name, m.column_name)
        for table in tables()
        if isinstance(table, MetricTable)
        for m in table.metrics
    }
    monthly = listed["gold_users_active_monthly", "users_active_monthly"]
    assert monthly["metric_name"] == "Users Active Monthly"
    assert monthly["dimensions"] == "metric_date, segment_dimension, segment_value"
    assert (
        monthly["source_tables"]
        == "bronze_users, silver_account_state_intervals, silver_daily_user_activity"
    )


def test_a_company_configures_what_its_users_create() -> None:
    songs = EntityCreated(entity="Cover Songs", event_types=("song_uploaded", "song_recorded"))
    settings = Settings(entities_created=(songs,))
    names = {table.name for table in tables(settings)}
    assert "gold_cover_songs_created_daily" in names
    assert "gold_videos_created_daily" not in names
    described = {
        row["table_name"]: row for row in catalog_rows(table_assets(settings), settings.policy)
    }
    row = described["gold_cover_songs_created_daily"]
    assert row["metric_name"] == "Cover Songs Created Daily"
    assert "song_uploaded, song_recorded" in str(row["formula"])


@pytest.mark.parametrize("entity", ["Users", "Videos"])
def test_an_existing_table_is_refused(entity: str) -> None:
    created = EntityCreated(entity=entity, event_types=("x_made",))
    settings = Settings(entities_created=(created, created))
    with pytest.raises(SettingsError, match=f"gold_{entity.lower()}_created_daily"):
        table_assets(settings)


@pytest.mark.parametrize(
    "given",
    [
        {"entity": "songs", "event_types": ["song_uploaded"]},
        {"entity": "Songs; DROP", "event_types": ["song_uploaded"]},
        {"entity": "Songs", "event_types": []},
        {"entity": "Songs", "event_types": ["Song Uploaded"]},
        {"entity": "Songs", "event_types": ["song_uploaded"], "color": "red"},
    ],
)
def test_wrong_entities_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        EntityCreated.model_validate(given)


def test_entities_created_are_counted_by_segment() -> None:
    """Only user events of a configured type count, each on its own date."""
    songs = EntityCreated(entity="Songs", event_types=("song_uploaded", "song_recorded"))
    asset, rules = entity_created_daily(songs)
    made = MemoryWarehouse((ACCOUNTS, USERS, ENRICHED, bronze_events.TABLE, asset.table))
    made.load(ACCOUNTS, [{"account_id": "acc", "subscription_tier": "starter"}])
    made.load(
        USERS,
        [
            {"user_id": "ann", "account_id": "acc", "country": "DE"},
            {"user_id": "ben", "account_id": "acc", "country": "FR"},
        ],
    )
    happened = [
        ("ann", "2025-06-01", "song_uploaded", "user"),
        ("ann", "2025-06-01", "song_recorded", "user"),
        ("ben", "2025-06-01", "song_uploaded", "user"),
        ("ben", "2025-06-01", "song_played", "user"),  # creates nothing
        ("ann", "2025-06-01", "song_uploaded", "system"),  # no user
        ("ben", "2025-06-03", "song_recorded", "user"),
    ]
    facts = [
        {
            "event_id": f"e{number}",
            "entity_id": who,
            "event_date": day,
            "event_type": kind,
            "entity_type": entity,
        }
        for number, (who, day, kind, entity) in enumerate(happened)
    ]
    made.load(ENRICHED, facts)
    made.load(bronze_events.TABLE, facts)
    window = DateWindow(date(2025, 6, 1), date(2025, 6, 3))
    relations = [ENRICHED.relation, USERS.relation, ACCOUNTS.relation]
    made.store(asset.table, _with_flags(compile_duckdb(asset(*relations, window=window))))
    counted = made.rows(
        "SELECT segment_value, list(songs_created_daily ORDER BY metric_date)"
        f" FROM {asset.table.qualified_name} WHERE segment_dimension IN ('all', 'country')"
        " GROUP BY segment_value"
    )
    assert counted == [("DE", [2, 0, 0]), ("FR", [1, 0, 1]), ("all", [3, 0, 1])]
    for rule in rules:
        tables_read = [
            {asset.table.name: asset.table, "bronze_events": bronze_events.TABLE}[name].relation
            for name in rule.inputs
        ]
        broken = rule.violations(tables_read, policy=LifecyclePolicy(), window=window)
        assert made.rows(compile_duckdb(broken)) == []


def _with_flags(select: str) -> str:
    """Add the trend flags, as the writer does."""
    return f"SELECT *, false AS is_current_day, false AS is_last_90_days FROM ({select})"
