"""States recomputed from the facts equal the history, and differ from a wrong one."""

from __future__ import annotations

import ast
import inspect
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import duckdb
import ibis
import pytest

from monstera_assets.checks.rules import Rule
from monstera_assets.definitions import table_assets, tables
from monstera_assets.lifecycle import accounts, billing
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.silver import states_recomputed
from monstera_assets.silver.states_recomputed import (
    account_states_recomputed_from_facts,
    product_states_recomputed_from_facts,
    states_recomputed_from_facts,
)
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_runs import SeedsRun

RULES = (
    states_recomputed_from_facts,
    product_states_recomputed_from_facts,
    account_states_recomputed_from_facts,
)
POLICY = LifecyclePolicy()
TABLES = {table.name: table for table in tables()}
ASSETS = {asset.table.name: asset for asset in table_assets()}
SENTINEL = date(2999, 12, 31)
EACH_RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


@pytest.fixture(scope="module")
def connection(
    tmp_path_factory: pytest.TempPathFactory, seeds_run: SeedsRun
) -> Iterator[duckdb.DuckDBPyConnection]:
    copy = tmp_path_factory.mktemp("recomputed") / "warehouse.duckdb"
    shutil.copy(seeds_run.database, copy)
    with connect(str(copy), connection_config(threads=1)) as connection:
        yield connection


def violations_sql(rule: Rule, day: date, policy: LifecyclePolicy = POLICY) -> str:
    relations = [TABLES[name].relation for name in rule.inputs]
    window = DateWindow(day, day)
    return compile_duckdb(rule.violations(relations, policy=policy, window=window))


def differing_days(
    connection: duckdb.DuckDBPyConnection, rule: Rule, days: Iterator[date]
) -> list[date]:
    """Return the days on which history differs from the rule, which is compiled once."""
    text = violations_sql(rule, SENTINEL)
    differing = []
    for day in days:
        query = text
        for before in (0, 1, 29, 30):
            then = SENTINEL - timedelta(days=before)
            now = day - timedelta(days=before)
            query = query.replace(
                f"MAKE_DATE({then.year}, {then.month}, {then.day})",
                f"MAKE_DATE({now.year}, {now.month}, {now.day})",
            )
        if connection.execute(query).fetchall():
            differing.append(day)
    return differing


@pytest.mark.slow
@EACH_RULE
def test_every_day_of_the_seeds_is_what_its_facts_say(
    connection: duckdb.DuckDBPyConnection, seeds_run: SeedsRun, rule: Rule
) -> None:
    assert differing_days(connection, rule, iter(seeds_run.days)) == []


@EACH_RULE
def test_some_days_of_the_seeds_are_what_their_facts_say(
    connection: duckdb.DuckDBPyConnection, seeds_run: SeedsRun, rule: Rule
) -> None:
    some = (day for day in seeds_run.days if day.day in (1, 11, 24))
    assert differing_days(connection, rule, some) == []


def recompute(
    connection: duckdb.DuckDBPyConnection, names: tuple[str, ...], policy: LifecyclePolicy
) -> None:
    """Compute tables for the last day again, with the current lifecycle functions."""
    day = date(2025, 6, 30)
    keywords = {
        "policy": policy,
        "window": DateWindow(day, day),
        "as_of": ibis.literal(day),
    }
    for name in names:
        asset = ASSETS[name]
        accepts = inspect.signature(asset.function).parameters
        rows = asset(
            *(TABLES[read].relation for read in asset.inputs),
            **{key: value for key, value in keywords.items() if key in accepts},
        )
        where = f" WHERE snapshot_date = '{day}'" if asset.table.partition_column else ""
        connection.execute(f"DELETE FROM silver.{name}{where}")
        connection.execute(f"INSERT INTO silver.{name} BY NAME {compile_duckdb(rows)}")


USERS = ("silver_user_state_intervals", "silver_user_state_history")
PRODUCTS = ("silver_user_product_state_intervals", "silver_user_product_state_history")
ACCOUNTS = ("silver_account_state_intervals", "silver_account_state_history")


@pytest.mark.parametrize(
    ("rule", "names", "wrong"),
    [
        (states_recomputed_from_facts, USERS, {"active_days": 8}),
        (states_recomputed_from_facts, USERS, {"dormant_days": 33}),
        (states_recomputed_from_facts, USERS, {"new_user_days": 3}),
        (product_states_recomputed_from_facts, PRODUCTS, {"active_days": 8}),
        (product_states_recomputed_from_facts, PRODUCTS, {"new_user_days": 3}),
        (account_states_recomputed_from_facts, ACCOUNTS, {"churn_days": 5}),
        (account_states_recomputed_from_facts, ACCOUNTS, {"breadth_target": 3}),
    ],
)
def test_an_engine_with_another_threshold_is_found_out(
    connection: duckdb.DuckDBPyConnection,
    rule: Rule,
    names: tuple[str, ...],
    wrong: dict[str, int],
) -> None:
    query = violations_sql(rule, date(2025, 6, 30))
    connection.execute("BEGIN TRANSACTION")
    try:
        recompute(connection, names, POLICY)
        assert connection.execute(query).fetchall() == []
        recompute(connection, names, POLICY.model_copy(update=wrong))
        assert connection.execute(query).fetchall() != []
    finally:
        connection.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        (accounts, "_WINDOW", 8),
        (accounts, "_LOW_UTILIZATION", 101),
        (billing, "_RECOVERED", "subscription_renewed"),
    ],
)
def test_an_engine_that_is_broken_is_found_out(
    connection: duckdb.DuckDBPyConnection,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    name: str,
    wrong: object,
) -> None:
    query = violations_sql(account_states_recomputed_from_facts, date(2025, 6, 30))
    monkeypatch.setattr(module, name, wrong)
    connection.execute("BEGIN TRANSACTION")
    try:
        recompute(connection, ACCOUNTS, POLICY)
        assert connection.execute(query).fetchall() != []
    finally:
        connection.execute("ROLLBACK")


def test_nothing_is_shared_with_the_engine() -> None:
    tree = ast.parse(Path(states_recomputed.__file__).read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    of_the_lifecycle = {name for name in imported if name and "lifecycle" in name}
    assert of_the_lifecycle == {
        "monstera_assets.lifecycle.expressions",  # the days of a run as parameters
        "monstera_assets.lifecycle.policy",
        "monstera_assets.lifecycle.states",
    }
    assert "importlib" not in imported
