"""The engine on Spark gives what the engine on DuckDB gives.

Each test runs on both engines. Expected values are computed by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pandas as pd
import pytest

from monstera_assets.checks.contract import (
    ALLOWED,
    NOT_NULL,
    REFERENCES,
    UNIQUE,
    evaluate_contract,
)
from monstera_assets.checks.rules import Rule, rule
from monstera_assets.lifecycle.expressions import Window, materialized
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.compiler import Query, compile_query
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.engine import Engine
from monstera_assets.warehouse.errors import (
    MissingPartitionsError,
    MissingTableError,
    WarehouseError,
)
from monstera_assets.warehouse.iceberg.catalog import open_catalog
from monstera_assets.warehouse.layers import AssetGroup
from monstera_assets.warehouse.recorded_settings import (
    ChangedSettingsError,
    require_same_settings,
)
from monstera_assets.warehouse.spark_compiler import compile_spark
from monstera_assets.warehouse.spark_engine import SparkEngine
from monstera_assets.warehouse.spark_views import SparkViews
from monstera_assets.warehouse.tables import (
    TREND_FLAGS,
    Column,
    Layer,
    Reference,
    Table,
    register,
)
from monstera_assets.warehouse.windows import DateWindow

pytestmark = pytest.mark.spark

TEAMS = Table(
    layer=Layer.SILVER,
    name="silver_teams",
    grain="one row per team",
    description="Teams.",
    columns=(Column("team", "string", "Team."),),
    key=("team",),
    owners=("team:tests",),
    group=AssetGroup.INTAKE,
)
GAMES = Table(
    layer=Layer.SILVER,
    name="silver_games",
    grain="one row per team and day",
    description="Games.",
    columns=(
        Column("day", "date", "Day."),
        Column("team", "string", "Team.", references=Reference("silver_teams", "team")),
        Column("points", "int64", "Points."),
        Column("share", "float64", "Share.", nullable=True),
        Column("place", "string", "Place.", nullable=True, allowed=("home", "away")),
        Column("ended_at", "timestamp", "End in UTC.", nullable=True),
        *TREND_FLAGS,
    ),
    key=("day", "team"),
    owners=("team:tests",),
    group=AssetGroup.INTAKE,
    partition_column="day",
)
TOTALS = replace(GAMES, name="silver_totals")
POLICY = LifecyclePolicy()


def june(first: int, last: int | None = None) -> DateWindow:
    return DateWindow(date(2025, 6, first), date(2025, 6, last or first))


class Opened:
    """An engine with the compiler of its queries."""

    def __init__(self, engine: Engine, compiler: Callable[[ir.Table], Query]) -> None:
        self.engine = engine
        self.compiled = compiler

    def rows(self) -> list[tuple[object, ...]]:
        """Return the rows of games, sorted."""
        return sorted(self.engine.records(self.compiled(GAMES.relation)).rows)


@pytest.fixture(params=["duckdb", "spark"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """An engine without tables."""
    register(TEAMS)
    register(GAMES)
    register(TOTALS)
    if request.param == "duckdb":
        with connect(str(tmp_path / "w.duckdb"), connection_config(threads=1)) as connection:
            yield Opened(DuckDBEngine(connection), compile_query)
        return
    uri = f"sqlite:///{tmp_path}/catalog.db"
    catalog = open_catalog(f"file://{tmp_path}/warehouse", {"type": "sql", "uri": uri})
    with connect(str(tmp_path / "w.duckdb"), connection_config(threads=1)) as connection:
        driver = DuckDBEngine(connection)
        views = SparkViews(request.getfixturevalue("spark"), catalog)
        yield Opened(SparkEngine(views, driver), compile_spark)
        views.close()
    catalog.close()


def game(day: int, team: str = "a", points: int = 1, **others: object) -> dict[str, object]:
    return {
        "day": date(2025, 6, day),
        "team": team,
        "points": points,
        "share": None,
        "place": None,
        "ended_at": None,
        **others,
    }


def frame(*games: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(games, columns=[column.name for column in GAMES.data_columns])


def test_days_are_replaced_by_frames_and_read(opened: Opened) -> None:
    engine, ended = opened.engine, datetime(2025, 6, 2, 20, 15, 0, 5)  # noqa: DTZ001  # in UTC
    with pytest.raises(MissingTableError):
        engine.require_table(GAMES)
    assert engine.materialized_window(GAMES) is None
    assert engine.stored_columns(GAMES) == {}
    first = frame(game(1), game(2, points=2, ended_at=ended), game(2, "b"), game(3))
    assert engine.replace(GAMES, first, june(1, 3)) == 4
    assert engine.replace(GAMES, frame(game(1, points=5, share=0.5)), june(1)) == 1
    assert engine.replace(GAMES, frame(), june(3)) == 0
    # June 2 is now the latest day, so it is current, and all days are among the last 90.
    assert opened.rows() == [
        (date(2025, 6, 1), "a", 5, 0.5, None, None, False, True),
        (date(2025, 6, 2), "a", 2, None, None, ended, True, True),
        (date(2025, 6, 2), "b", 1, None, None, None, True, True),
    ]
    assert engine.total_rows(GAMES) == 3
    assert engine.materialized_window(GAMES) == june(1, 3)
    assert engine.ends(GAMES, "day") == (date(2025, 6, 1), date(2025, 6, 2))
    read = engine.frame(GAMES, (date(2025, 6, 2), date(2025, 6, 9)))
    assert sorted(read.points) == [1, 2]
    assert str(read.ended_at.dtype) == "datetime64[us]"
    engine.require_table(GAMES)
    engine.require_partitions(GAMES, june(1, 3))
    with pytest.raises(MissingPartitionsError, match=r"2025-06-04 to 2025-06-05 \(2 days\)"):
        engine.require_partitions(GAMES, june(2, 5))


def test_a_query_with_stages_and_parameters_replaces_days(opened: Opened) -> None:
    engine = opened.engine
    engine.replace(GAMES, frame(game(1), game(2, points=2), game(3, points=3)), june(1, 3))
    window = Window.parameters()
    games = GAMES.relation
    chosen = materialized(
        games.filter(games.day >= window.first, games.day <= window.last).select(
            *(column.name for column in GAMES.data_columns)
        )
    )
    total = chosen.aggregate(points=chosen.points.sum()).as_scalar()
    query = opened.compiled(chosen.mutate(points=(total * 10).cast("int64")))
    days = dict(zip(query.parameters, (date(2025, 6, 2), date(2025, 6, 3)), strict=True))
    assert engine.replace(TOTALS, query, june(2, 3), days) == 2
    found = engine.records(opened.compiled(TOTALS.relation)).rows
    assert sorted((row[0].day, row[2]) for row in found) == [(2, 50), (3, 50)]


def test_what_a_session_keeps_follows_the_tables(opened: Opened) -> None:
    """A stage, and the copy of a table with many files, are made again after a change."""
    games = GAMES.relation
    totals = materialized(games.group_by("team").aggregate(points=games.points.sum()))
    query = opened.compiled(totals.union(totals))
    opened.engine.replace(GAMES, frame(*(game(day) for day in range(1, 21))), june(1, 20))
    for _ in range(2):
        assert opened.engine.records(query).rows == [("a", 20)] * 2
    opened.engine.replace(GAMES, frame(game(20, points=5)), june(20))
    assert opened.engine.records(query).rows == [("a", 24)] * 2
    assert len(opened.rows()) == 20


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (game(2, team=None), "team"),  # type: ignore[arg-type]
        (game(1), "2025-06-01"),
    ],
)
def test_a_wrong_row_leaves_the_table_as_it_was(
    opened: Opened, wrong: dict[str, object], message: str
) -> None:
    opened.engine.replace(GAMES, frame(game(1), game(2)), june(1, 2))
    before = opened.rows()
    for rows in (frame(game(2, points=9), wrong), expression_of(wrong)):
        with pytest.raises(WarehouseError, match=message):
            opened.engine.replace(GAMES, rows, june(2))
        assert opened.rows() == before


def expression_of(row: dict[str, object]) -> ir.Table:
    """Return a stored row with some values replaced, as an expression over the table."""
    games = GAMES.relation
    types = {column.name: column.dtype for column in GAMES.data_columns}
    names = [column.name for column in GAMES.data_columns]
    return games.select(*names).mutate(
        **{
            name: (ibis.null() if row[name] is None else ibis.literal(row[name])).cast(types[name])
            for name in names
        }
    )


def _few(silver_games: ir.Table) -> ir.Table:
    """No team has more than one point."""
    games = silver_games
    late = ibis.ifelse(games.day == ibis.date(2025, 6, 3), "too late", ibis.null("string"))
    return games.filter(games.points > 1).select("team", "points", not_evaluated=late)


FEW: Rule = rule(GAMES)(_few)


def test_rules_and_the_contract_find_the_same(opened: Opened) -> None:
    engine = opened.engine
    engine.replace(TEAMS, pd.DataFrame({"team": ["a"]}), None)
    given = (
        game(1, points=7),
        game(2, "b", points=8, place="moon"),
        game(2, "b", place="home"),
        game(3, points=9, share=1.5),
    )
    engine.replace(GAMES, frame(*given), june(1, 3))
    query = opened.compiled(FEW.rows([GAMES.relation], POLICY))
    found = FEW.evaluate(engine, query, june(1, 3))
    assert found.violations == 2
    assert found.columns == ("team", "points")
    assert found.examples == (("a", 7), ("b", 8))
    assert found.note == "too late"
    findings = evaluate_contract(engine, GAMES, june(1, 3))
    assert {name: one.violations for name, one in findings.items() if one.violations} == {
        UNIQUE: 1,
        ALLOWED: 1,
        REFERENCES: 2,
    }
    assert findings[REFERENCES].examples == (("team", 2),)
    assert findings[NOT_NULL].passed
    assert evaluate_contract(engine, GAMES, june(1))[UNIQUE].passed


def test_changed_settings_are_refused(opened: Opened) -> None:
    require_same_settings(opened.engine, "here", {"timezone": "UTC"})
    opened.engine.replace(GAMES, frame(game(1)), june(1))
    require_same_settings(opened.engine, "here", {"timezone": "UTC"})
    with pytest.raises(ChangedSettingsError, match="timezone was UTC and is now Asia/Tokyo"):
        require_same_settings(opened.engine, "here", {"timezone": "Asia/Tokyo"})
