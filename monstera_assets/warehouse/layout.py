"""Version the warehouse file's layout and upgrade older files.

The layout consists of the names and types of stored tables and columns. A change that makes
existing tables unreadable requires a step in `STEPS`. A new table does not require a step, since the
next run creates the table.
"""
# Over 400 lines: the steps of an upgrade are only ever added, in order.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import duckdb

from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.layers import OPERATIONS_SCHEMA

Step = Callable[[duckdb.DuckDBPyConnection], None]

_VERSION = f"{OPERATIONS_SCHEMA}.layout"
DELIVERY = f"{OPERATIONS_SCHEMA}.delivery"
"""Table with one row about the files that the last load read."""
_FIRST_VERSION = 1
"""The layout version of a file without a recorded version."""


def _record_the_version(_connection: duckdb.DuckDBPyConnection) -> None:
    """Upgrade from version 1 to 2, which only records the version."""


@dataclass(frozen=True)
class _Added:
    """A column that an upgrade step adds, and the SQL expression for the column in stored rows."""

    table: str
    column: str
    stored_type: str
    value: str = "NULL"


def _date_of(table: str, column: str, moment: str) -> _Added:
    # Days in older files are UTC days.
    return _Added(table, column, "DATE", f"CAST({moment} AS DATE)")


_ADDED_IN_3 = (
    *(
        _Added(f"bronze.bronze_{name}", "faults", "VARCHAR")
        for name in ("users", "accounts", "product_catalog", "events", "subscription_events")
    ),
    *(
        _Added(f"bronze.bronze_rejected_{name}", "rejection_detail", "VARCHAR")
        for name in ("events", "entities")
    ),
    _Added("bronze.bronze_loads", "rows_repeated", "BIGINT", "0"),
    _Added("bronze.bronze_entity_loads", "rows_repeated", "BIGINT", "0"),
    _Added("bronze.bronze_entity_loads", "rows_derived", "BIGINT", "0"),
    _date_of("bronze.bronze_users", "signup_date", "user_created_at"),
    _date_of("bronze.bronze_accounts", "created_date", "account_created_at"),
    _date_of("bronze.bronze_accounts", "first_paid_date", "first_paid_at"),
    _date_of("bronze.bronze_product_catalog", "created_date", "created_at"),
    _date_of("silver.silver_user_product_state_intervals", "first_access_date", "first_access_at"),
    _date_of("silver.silver_user_product_state_history", "first_access_date", "first_access_at"),
    _date_of("silver.silver_user_product_states", "first_access_date", "first_access_at"),
    _date_of("silver.silver_workflow_runs", "started_date", "started_at"),
    _date_of("silver.silver_workflow_runs", "last_step_date", "last_step_at"),
)


_NULLABLE_IN_3 = (
    ("bronze.bronze_users", "email"),
    ("bronze.bronze_accounts", "total_seats"),
    ("silver.silver_account_churn_features", "seat_utilization_pct"),
    ("silver.silver_account_current_state", "seat_utilization_pct"),
    ("silver.silver_account_state_history", "seat_utilization_pct"),
    ("silver.silver_account_state_intervals", "seat_utilization_pct"),
)


_TIERS_NOT_YET_HELD = """
DELETE FROM gold.gold_accounts_active_monthly AS rows USING (
    SELECT segment_value, min(snapshot_date) AS held_from
    FROM (SELECT DISTINCT segment_value FROM gold.gold_accounts_active_monthly
        WHERE segment_dimension = 'account_tier') AS tiers
    LEFT JOIN silver.silver_account_state_history ON subscription_tier = segment_value
    GROUP BY segment_value
) AS tiers
WHERE rows.segment_dimension = 'account_tier' AND rows.segment_value = tiers.segment_value
    AND (held_from IS NULL OR metric_date < held_from)
"""


def _upgrade_to_3(connection: duckdb.DuckDBPyConnection) -> None:
    """Add local dates, faults and rejection details, and allow nulls in optional columns.

    Rows for an account tier are deleted if they are older than the first day on which an account had
    that tier.
    """
    stored = connection.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
        " WHERE database_name = current_database()"
    ).fetchall()
    for each in _ADDED_IN_3:
        if (each.table,) in stored:
            connection.execute(
                f"ALTER TABLE {each.table} ADD COLUMN {each.column} {each.stored_type};"
                f" UPDATE {each.table} SET {each.column} = {each.value}"
            )
    for table, column in _NULLABLE_IN_3:
        if (table,) in stored:
            connection.execute(f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL")
    read = {("gold.gold_accounts_active_monthly",), ("silver.silver_account_state_history",)}
    if read <= set(stored):
        connection.execute(_TIERS_NOT_YET_HELD)
    # Days in older files are UTC days.
    create_bookkeeping(connection)
    connection.execute(f"INSERT INTO {OPERATIONS_SCHEMA}.settings VALUES ('timezone', 'UTC')")


_SEGMENTS_NOT_YET_HELD = """
DELETE FROM {table} AS rows USING (
    SELECT segment.dimension, segment.value, min(segment.held_from) AS held_from FROM (
        SELECT unnest([
            {{'dimension': 'country', 'value': country, 'held_from': signup_date}},
            {{'dimension': 'plan_type', 'value': plan_type, 'held_from': signup_date}},
            {{'dimension': 'acquisition_source', 'value': acquisition_source,
              'held_from': signup_date}},
            {{'dimension': 'account_tier', 'value': subscription_tier,
              'held_from': greatest(signup_date, created_date)}}
        ]) AS segment
        FROM bronze.bronze_users JOIN bronze.bronze_accounts USING (account_id)
    ) GROUP BY ALL
) AS held
WHERE segment_dimension = held.dimension AND segment_value = held.value AND metric_date < held_from
"""


def _upgrade_to_4(connection: duckdb.DuckDBPyConnection) -> None:
    """Turn the stored users and accounts into versions that apply from the last stored day on.

    Segment values have rows only from the first date on which a user has them.
    """
    stored = connection.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
        " WHERE database_name = current_database()"
    ).fetchall()
    last_day = f"SELECT max(partition_date) FROM {OPERATIONS_SCHEMA}.materializations"
    for name in ("bronze.bronze_users", "bronze.bronze_accounts"):
        if (name,) in stored:
            connection.execute(
                f"ALTER TABLE {name} ADD COLUMN valid_from DATE;"
                f" UPDATE {name} SET valid_from = coalesce(({last_day}), DATE '1970-01-01')"
            )
    if {("bronze.bronze_users",), ("bronze.bronze_accounts",)} <= set(stored):
        segmented = connection.execute(
            "SELECT table_name FROM duckdb_columns() WHERE database_name = current_database()"
            " AND schema_name = 'gold' AND column_name = 'segment_dimension'"
            " AND table_name <> 'gold_accounts_active_monthly'"
        ).fetchall()
        for (name,) in segmented:
            connection.execute(_SEGMENTS_NOT_YET_HELD.format(table=f'gold."{name}"'))
    if ("bronze.bronze_entity_loads",) in stored:
        connection.execute(
            "ALTER TABLE bronze.bronze_entity_loads ADD COLUMN rows_stored BIGINT;"
            " UPDATE bronze.bronze_entity_loads SET rows_stored = rows_accepted + rows_derived"
        )


_BEFORE_LAUNCH = """
DELETE FROM {table} AS rows USING (
    SELECT product, least(created_date, used_from) AS shown_from FROM (
        SELECT {product} AS product, min(metric_date) FILTER ({used}) AS used_from
        FROM {table} WHERE {of_product} GROUP BY {product}
    ) JOIN bronze.bronze_product_catalog ON product_id = product
) AS products
WHERE {of_product} AND rows.{product} = products.product AND metric_date < shown_from
"""
_NO_ALIASES = """
CREATE TABLE bronze.bronze_user_aliases (alias_id VARCHAR NOT NULL, user_id VARCHAR NOT NULL,
    merged_user_id VARCHAR NOT NULL, alias_created_at TIMESTAMP, faults VARCHAR)
"""
_LEDGER_OF_NO_ALIASES = """
INSERT INTO bronze.bronze_entity_loads BY NAME SELECT 'user_aliases' AS input_name, [] AS files,
    0 AS rows_read, 0 AS rows_repeated, 0 AS rows_accepted, 0 AS rows_rejected, 0 AS rows_derived,
    0 AS rows_stored, 0 AS rows_kept
"""


def _upgrade_to_5(connection: duckdb.DuckDBPyConnection) -> None:
    """Add columns for aliases and kept rows, and delete products' rows from before their launch."""
    stored = {
        name
        for (name,) in connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
            " WHERE database_name = current_database()"
        ).fetchall()
    }
    if "bronze.bronze_users" in stored:
        # A view of all columns does not allow the table's columns to change.
        connection.execute(
            "DROP VIEW IF EXISTS bronze.bronze_users_current;"
            " ALTER TABLE bronze.bronze_users ADD COLUMN stated_created_at TIMESTAMP;"
            " UPDATE bronze.bronze_users SET stated_created_at = user_created_at;"
            " ALTER TABLE bronze.bronze_users ADD COLUMN alias_id VARCHAR;"
            " CREATE VIEW bronze.bronze_users_current AS FROM bronze.bronze_users"
            " QUALIFY valid_from = max(valid_from) OVER (PARTITION BY user_id)"
        )
    if "bronze.bronze_entity_loads" in stored:
        connection.execute(
            "ALTER TABLE bronze.bronze_entity_loads ADD COLUMN rows_kept BIGINT;"
            " UPDATE bronze.bronze_entity_loads SET rows_kept = 0"
        )
        # Without an entry, the next comparison with the source would find a changed input.
        connection.execute(_NO_ALIASES)
        connection.execute(_LEDGER_OF_NO_ALIASES)
    for table, product, used, of_product in (
        (
            "gold.gold_state_distribution",
            "segment_value",
            "members_in_state_daily > 0",
            "scope = 'product'",
        ),
        (
            "gold.gold_activity_metrics",
            "product_id",
            "events_recorded_daily > 0",
            "event_type = 'all' AND product_id NOT IN ('all', 'none')",
        ),
    ):
        if table in stored:
            connection.execute(
                _BEFORE_LAUNCH.format(
                    table=table, product=product, used=used, of_product=of_product
                )
            )


_USER_RATES = ("churned", "dormant", "won_back", "reactivated", "never_activated")
_STATES_OF_USERS = """
CREATE TEMP TABLE states_of_users AS
SELECT 'platform' AS scope, user_id, '' AS product_id, snapshot_date, platform_state AS state,
    total_qualifying_events AS uses, days_since_signup AS days
FROM silver.silver_user_state_history
UNION ALL
SELECT 'product', user_id, product_id, snapshot_date,
    regexp_replace(current_state, '_(in|from|to)_product$', ''), total_qualifying_events,
    snapshot_date - first_access_date
FROM silver.silver_user_product_state_history
"""
_COUNTS_OF_USERS = """
CREATE TEMP TABLE counts_of_users AS
WITH people AS (
    SELECT today.scope, today.snapshot_date AS metric_date, today.state,
        before.state IN ('active', 'returning', 'reactivated', 'dunning') AS in_use,
        before.state = 'dormant' AS was_dormant,
        before.state = 'churned' AND before.uses > 0 AS was_churned,
        today.uses > before.uses AS came_back,
        today.days BETWEEN {new_days} AND {new_days} + 6 AS is_due,
        today.uses = 0 AS is_unused,
        deleted.user_id IS NOT NULL AS is_deleted
    FROM states_of_users AS today
    LEFT JOIN states_of_users AS before ON before.scope = today.scope
        AND before.user_id = today.user_id AND before.product_id = today.product_id
        AND before.snapshot_date = today.snapshot_date - 7
    LEFT JOIN states_of_users AS deleted ON deleted.state = 'deleted'
        AND deleted.user_id = today.user_id AND deleted.snapshot_date = today.snapshot_date
)
SELECT scope, metric_date,
    count(*) FILTER (NOT is_deleted AND (in_use OR was_dormant) AND state = 'churned') AS churned,
    count(*) FILTER (NOT is_deleted AND (in_use OR was_dormant)) AS churned_population,
    count(*) FILTER (NOT is_deleted AND in_use AND state = 'dormant') AS dormant,
    count(*) FILTER (NOT is_deleted AND in_use) AS dormant_population,
    count(*) FILTER (NOT is_deleted AND was_dormant AND came_back) AS won_back,
    count(*) FILTER (NOT is_deleted AND was_dormant) AS won_back_population,
    count(*) FILTER (NOT is_deleted AND was_churned AND came_back) AS reactivated,
    count(*) FILTER (NOT is_deleted AND was_churned) AS reactivated_population,
    count(*) FILTER (is_due AND is_unused) AS never_activated,
    count(*) FILTER (is_due) AS never_activated_population
FROM people GROUP BY ALL
"""
_COUNTS_OF_SIGNUPS = """
CREATE TEMP TABLE counts_of_signups AS
SELECT metric_date, count(user_id) AS activated_population,
    count(user_id) FILTER (first_used - signup_date <= 7) AS activated
FROM gold.gold_overall_metrics
LEFT JOIN (SELECT DISTINCT user_id, signup_date FROM bronze.bronze_users)
    ON signup_date BETWEEN metric_date - 13 AND metric_date - 7
LEFT JOIN (SELECT user_id, min(activity_date) AS first_used FROM silver.silver_daily_user_activity
    WHERE qualifying_events > 0 GROUP BY ALL) USING (user_id)
GROUP BY ALL
"""


def _upgrade_to_6(connection: duckdb.DuckDBPyConnection) -> None:
    """Turn the weekly rates into shares, and add the counts from which they are computed.

    The recovery rate counts accounts instead of failures. It needs the billing rules, so it is null
    until a run computes the day again.
    """
    stored = {
        name
        for (name,) in connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
            " WHERE database_name = current_database()"
        ).fetchall()
    }
    flows, overall = "gold.gold_state_transition_metrics", "gold.gold_overall_metrics"
    if flows in stored:
        [(new_days,)] = connection.execute(
            f"SELECT coalesce(max(CAST(value AS INTEGER)), 30) FROM {OPERATIONS_SCHEMA}.settings"
            " WHERE name = 'policy.new_user_days'"
        ).fetchall()
        connection.execute(_STATES_OF_USERS)
        connection.execute(_COUNTS_OF_USERS.format(new_days=new_days))
        for rate in _USER_RATES:
            _store_counts(connection, flows, rate, "counts_of_users", "scope, metric_date")
        connection.execute(
            f"UPDATE {flows} SET accounts_dunning_recovered_share_monthly = NULL; ALTER TABLE {flows}"
            " DROP COLUMN accounts_dunning_failures_closed_monthly; ALTER TABLE"
            f" {flows} ADD COLUMN accounts_dunning_recovered_monthly BIGINT; ALTER TABLE {flows}"
            " ADD COLUMN accounts_dunning_recovered_population_monthly BIGINT;"
            " DROP TABLE counts_of_users; DROP TABLE states_of_users"
        )
    if overall in stored:
        connection.execute(_COUNTS_OF_SIGNUPS)
        _store_counts(connection, overall, "activated", "counts_of_signups", "metric_date")
        connection.execute("DROP TABLE counts_of_signups")


def _store_counts(
    connection: duckdb.DuckDBPyConnection, table: str, rate: str, counts: str, keys: str
) -> None:
    """Add a rate's part and population to a table's total rows, and compute the share from them."""
    part, population, share = (
        f"users_{rate}_{name}weekly" for name in ("", "population_", "share_")
    )
    connection.execute(
        f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {share} DOUBLE;"
        f" ALTER TABLE {table} ADD COLUMN {part} BIGINT;"
        f" ALTER TABLE {table} ADD COLUMN {population} BIGINT"
    )
    where = " AND ".join(f"rows.{key} = counts.{key}" for key in keys.split(", "))
    total = " AND rows.from_state = 'all'" if "scope" in keys else ""
    scopes = " AND rows.scope IN ('platform', 'product')" if "scope" in keys else ""
    if total:
        connection.execute(
            f"UPDATE {table} AS rows SET {part} = 0, {population} = 0, {share} = NULL"
            f" WHERE true{total}{scopes}"
        )
    connection.execute(
        f"UPDATE {table} AS rows SET {part} = counts.{rate}, {population} ="
        f" counts.{rate}_population, {share} = CAST(counts.{rate} AS DOUBLE)"
        f" / nullif(CAST(counts.{rate}_population AS DOUBLE), 0) FROM {counts} AS counts"
        f" WHERE {where}{total}"
    )


_IS_PAID = """
ALTER TABLE {table} ADD COLUMN is_paid BOOLEAN;
UPDATE {table} SET is_paid = current_state NOT IN ('trial', 'churned')
    AND NOT (current_state = 'at_risk' AND contract_status_score = 25)
"""
_SEGMENTS_OF_COHORTS = """
ALTER TABLE gold.gold_retention_cohorts ADD COLUMN segment_dimension VARCHAR;
ALTER TABLE gold.gold_retention_cohorts ADD COLUMN segment_value VARCHAR;
UPDATE gold.gold_retention_cohorts SET segment_dimension = 'all', segment_value = 'all'
"""
_REVENUE_OF_LISTED_ACCOUNTS = """
ALTER TABLE gold.gold_accounts_needing_attention ADD COLUMN monthly_recurring_revenue DECIMAL(18, 2);
ALTER TABLE gold.gold_accounts_needing_attention ADD COLUMN revenue_before_lapse DECIMAL(18, 2);
UPDATE gold.gold_accounts_needing_attention AS rows SET
    monthly_recurring_revenue = account.monthly_recurring_revenue,
    revenue_before_lapse = CASE WHEN NOT is_paid THEN revenue_at_stake END
    FROM silver.silver_account_current_state AS account WHERE account.account_id = rows.account_id;
ALTER TABLE gold.gold_accounts_needing_attention DROP COLUMN revenue_at_stake
"""
_SUBSCRIPTIONS_AND_CURRENCIES = """
ALTER TABLE bronze.bronze_subscription_events ADD COLUMN subscription_id VARCHAR;
ALTER TABLE bronze.bronze_subscription_events ADD COLUMN currency VARCHAR;
UPDATE bronze.bronze_subscription_events SET
    subscription_id = nullif(trim(metadata ->> 'subscription_id'), ''),
    currency = nullif(upper(trim(metadata ->> 'currency')), '')
"""
_ALL_DAYS_ARE_OUT_OF_DATE = """
INSERT INTO {operations}.source_changes
SELECT cause, min(partition_date), max(materialized_at) + INTERVAL 1 MICROSECOND
FROM {operations}.materializations CROSS JOIN (VALUES ('entities'), ('events')) AS causes (cause)
GROUP BY cause HAVING min(partition_date) IS NOT NULL
"""


def _upgrade_to_7(connection: duckdb.DuckDBPyConnection) -> None:
    """Add columns for subscriptions, segments and the metric catalog, and mark days as out of date.

    Contracts and metrics of stored days have new definitions, which need the billing rules and each
    day's facts. The days are computed again by the next runs.
    """
    stored = {
        name
        for (name,) in connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
            " WHERE database_name = current_database()"
        ).fetchall()
    }
    catalog, revenue = "gold.gold_metric_catalog", "gold.gold_revenue_metrics"
    if catalog in stored:
        for name, kind in (
            ("short_name", "VARCHAR"),
            ("lower_bound", "DOUBLE"),
            ("upper_bound", "DOUBLE"),
            ("population", "VARCHAR"),
        ):
            connection.execute(f"ALTER TABLE {catalog} ADD COLUMN {name} {kind}")
    if revenue in stored:
        connection.execute(
            f"ALTER TABLE {revenue} ADD COLUMN revenue_annualized_daily DECIMAL(18, 2);"
            f" UPDATE {revenue} SET revenue_annualized_daily = 12 * revenue_closing_daily"
        )
    accounts = ("silver.silver_account_state_history", "silver.silver_account_current_state")
    for table in accounts:
        if table in stored:
            connection.execute(_IS_PAID.format(table=table))
    if "bronze.bronze_subscription_events" in stored:
        connection.execute(_SUBSCRIPTIONS_AND_CURRENCIES)
    if "gold.gold_retention_cohorts" in stored:
        connection.execute(_SEGMENTS_OF_COHORTS)
    if {"gold.gold_accounts_needing_attention", accounts[1]} <= stored:
        connection.execute(_REVENUE_OF_LISTED_ACCOUNTS)
    connection.execute(_ALL_DAYS_ARE_OUT_OF_DATE.format(operations=OPERATIONS_SCHEMA))


STEPS: Sequence[Step] = (
    *(_record_the_version, _upgrade_to_3, _upgrade_to_4),
    *(_upgrade_to_5, _upgrade_to_6, _upgrade_to_7),
)
"""Upgrade steps in version order, starting with the step from version 1 to version 2.

Steps run in the caller's transaction.
"""


def bring_up_to_date(
    connection: duckdb.DuckDBPyConnection,
    database: str,
    *,
    read_only: bool,
    steps: Sequence[Step] | None = None,
) -> None:
    """Apply any missing upgrade steps and record the version in one transaction.

    Unless the connection is read-only, also create any missing tables in the `operations` schema.

    Args:
        connection: the connection. After an error, the caller must close it to roll back the
            transaction.
        database: the path to the file, for error messages.
        read_only: whether the connection is read-only.
        steps: the upgrade steps.

    Raises:
        WarehouseError: If the file's layout is newer than supported, if the layout is older and the
            connection is read-only, or if a step fails. The file is unchanged.
    """
    steps = STEPS if steps is None else steps
    current = _FIRST_VERSION + len(steps)
    version = stored_version(connection)
    if version is None and read_only:
        return
    if version == current:
        if not read_only:
            create_bookkeeping(connection)
        return
    if version is not None and version > current:
        raise WarehouseError(
            f"{database} has layout {version}, but this version of Monstera supports layouts up to"
            f" {current}. Install the version that wrote the file, or a newer version."
        )
    if read_only:
        raise WarehouseError(
            f"{database} has layout {version}, but this version of Monstera reads layout {current}."
            " Upgrade the file with: monstera run"
        )
    missing = () if version is None else steps[version - _FIRST_VERSION :]
    try:
        connection.execute("BEGIN TRANSACTION")
        for step in missing:
            step(connection)
        create_bookkeeping(connection)
        connection.execute(f"CREATE OR REPLACE TABLE {_VERSION} AS SELECT {current} AS version")
        connection.execute("COMMIT")
    except duckdb.Error as error:
        raise WarehouseError(
            f"{database} could not be upgraded from layout {version} to {current} and is unchanged:"
            f" {error}"
        ) from error


def stored_version(connection: duckdb.DuckDBPyConnection) -> int | None:
    """Return the connected file's layout version, or None if the file is empty."""
    tables = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name = ? AND table_name IN ('layout', 'materializations') ORDER BY ALL",
        [OPERATIONS_SCHEMA],
    ).fetchall()
    if ("layout",) in tables:
        [(version,)] = connection.execute(f"SELECT version FROM {_VERSION}").fetchall()
        return int(version)
    return _FIRST_VERSION if tables else None


def create_bookkeeping(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the `operations` tables that the writer uses, unless they exist."""
    connection.execute(
        f"CREATE SCHEMA IF NOT EXISTS {OPERATIONS_SCHEMA};"
        f"CREATE TABLE IF NOT EXISTS {OPERATIONS_SCHEMA}.materializations (schema_name VARCHAR NOT"
        " NULL, table_name VARCHAR NOT NULL, partition_date DATE, materialized_at TIMESTAMP NOT"
        f" NULL); CREATE TABLE IF NOT EXISTS {OPERATIONS_SCHEMA}.source_changes (cause VARCHAR NOT"
        " NULL, affects_from DATE NOT NULL, changed_at TIMESTAMP NOT NULL);"
        f" CREATE TABLE IF NOT EXISTS {OPERATIONS_SCHEMA}.settings (name VARCHAR NOT NULL, value"
        f" VARCHAR NOT NULL); CREATE TABLE IF NOT EXISTS {DELIVERY} (digest VARCHAR NOT NULL,"
        " last_date DATE)"
    )
