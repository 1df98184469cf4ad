"""Expressions compile for other engines, and what is rewritten for them keeps its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import pytest

from monstera_assets.definitions import rules, table_assets, tables
from monstera_assets.documentation.dialects import render_dialects
from monstera_assets.lifecycle.expressions import key_number
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.portable import in_portable_stages
from monstera_assets.warehouse.spark_compiler import compile_spark
from monstera_assets.warehouse.tables import register

PAGE = Path(__file__).parents[2] / "docs" / "generated" / "dialects.md"
DAYS = ibis.table({"key": "string", "day": "int64"}, name="days")
LEVELS = ibis.table({"key": "string", "since": "int64", "level": "int64"}, name="levels")


def rewritten(expression: ir.Table) -> str:
    """Return the DuckDB SQL of the expression that other engines compile."""
    _, last = in_portable_stages(expression, lambda node: compile_duckdb(node.to_expr()))
    return compile_duckdb(last.to_expr())


def rows(sql: str) -> Sequence[tuple[object, ...]]:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE days AS SELECT * FROM (VALUES ('a', 1), ('a', 5), ('a', 9), ('b', 5))"
            " AS days(key, day);"
            "CREATE TABLE levels AS SELECT * FROM (VALUES ('a', 2, 20), ('a', 5, 50), ('c', 1, 10))"
            " AS levels(key, since, level)"
        )
        return connection.execute(f"SELECT * FROM ({sql}) ORDER BY ALL").fetchall()


def test_the_latest_row_is_joined_without_an_asof_join() -> None:
    joined = DAYS.asof_join(LEVELS, on=DAYS.day >= LEVELS.since, predicates="key")
    sql = rewritten(joined.select("key", "day", "since", "level"))
    assert "ASOF" not in sql
    assert rows(sql) == [
        ("a", 1, None, None),
        ("a", 5, 5, 50),
        ("a", 9, 5, 50),
        ("b", 5, None, None),
    ]


def test_a_window_in_a_condition_is_computed_before_it() -> None:
    before = DAYS.day.lag().over(group_by="key", order_by="day")
    sql = rewritten(DAYS.filter((DAYS.day - before > 3).fill_null(DAYS.key == "b")))
    assert "QUALIFY" not in sql
    assert rows(sql) == [("a", 5), ("a", 9), ("b", 5)]


def test_key_numbers_are_in_order_in_duckdb_and_in_groups_in_spark() -> None:
    numbered = LEVELS.mutate(number=key_number(LEVELS.key, LEVELS.since))
    assert rows(compile_duckdb(numbered.select("since", "number"))) == [(1, 2), (2, 0), (5, 1)]
    assert "PARTITION BY" in compile_spark(numbered).select


@pytest.mark.slow
def test_all_tables_and_rules_compile_for_spark() -> None:
    policy, declared = LifecyclePolicy(), {table.name: table for table in tables()}
    for table in declared.values():
        register(table)
    assets = {asset.table.name: asset for asset in table_assets() if asset.is_query}
    for asset in assets.values():
        for earlier in (None, assets):
            assert compile_spark(asset.rows(declared, policy, assets=earlier)).select
    for rule in rules():
        assert compile_spark(
            rule.rows([declared[name].relation for name in rule.inputs], policy)
        ).select


@pytest.mark.slow
def test_the_page_is_up_to_date() -> None:
    page = render_dialects(table_assets(), tables())["dialects.md"]
    is_current = PAGE.read_text(encoding="utf-8") == page
    assert is_current, "docs/generated/dialects.md is out of date. Run `make docs`."


@pytest.mark.parametrize(("most_repeated", "number"), [(None, 0), (2, 0), (1, 1)])
def test_what_would_be_planned_again_is_a_stage(most_repeated: int | None, number: int) -> None:
    counted = DAYS.group_by("key").aggregate(days=DAYS.count())  # two operations, read twice
    both = counted.union(counted.mutate(days=counted.days + 1))
    stages, last = in_portable_stages(
        both, lambda node: compile_duckdb(node.to_expr()), most_repeated
    )
    assert len(stages) == number
    sql = compile_duckdb(last.to_expr())
    for name, select in stages.items():
        sql = sql.replace(f'"{name}"', f"({select})")
    assert rows(sql) == [("a", 3), ("a", 4), ("b", 1), ("b", 2)]
