"""Computing some days of a range after others gives what computing all at once gives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import duckdb
import ibis
import ibis.expr.types as ir
import pytest

from monstera_assets.definitions import table_assets
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.writer import generate
from monstera_assets.warehouse import spans
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.spans import DayByDay, narrowed, of_days, parted
from monstera_assets.warehouse.table_asset import (
    ALL_DAYS,
    SAME_DAYS,
    UP_TO_DAY,
    Days,
    last_days,
    table_asset,
)
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_assets import FACTS, errors
from monstera_assets_tests.integration.example_runs import Graph, assert_same

COMPANY = Company(users=150, days=60)
IN_SPANS = [asset for asset in table_assets() if asset.in_spans]
JANUARY = DateWindow(date(2025, 1, 1), date(2025, 1, 31))
ROWS = ibis.table({"day": "date", "amount": "int64"}, name="amounts")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """A run whose tables are small enough to be computed at once."""
    folder = tmp_path_factory.mktemp("spans")
    source = generate(COMPANY, folder / "source").folder
    graph = Graph(source, folder / "w.duckdb", folder / "home", COMPANY.first)
    return graph.compute([asset.table.name for asset in IN_SPANS], COMPANY.end)


def test_spans_together_are_the_range(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [asset.table.name for asset in IN_SPANS]
    at_once = graph.contents_of(names)
    assert all(at_once.values())
    taken: list[Sequence[DateWindow]] = []
    spans_of = DayByDay.spans

    def seen(
        day_by_day: DayByDay, connection: duckdb.DuckDBPyConnection, window: DateWindow
    ) -> Sequence[DateWindow]:
        taken.append(spans_of(day_by_day, connection, window))
        return taken[-1]

    monkeypatch.setattr(DayByDay, "spans", seen)
    monkeypatch.setattr(spans, "ROWS_OF_A_SPAN", 700)
    with graph.instance:
        result = graph.run(DateWindow(COMPANY.first, COMPANY.end), only=names)
    assert errors(result) == {}
    assert len(taken) == len(names) > 1
    assert all(len(windows) > 5 for windows in taken)
    assert_same(graph.contents_of(names), at_once)


def test_there_are_as_many_spans_as_the_rows_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE amounts AS SELECT DATE '2024-12-31' + (i % 40)::INTEGER AS day, i AS amount"
        " FROM range(4000) AS r(i)"
    )
    rows = of_days(ROWS, "day", JANUARY)
    day_by_day = DayByDay([rows, rows], lambda span: narrowed(rows, span))
    # 40 days with 100 rows each, 31 of them in January, read twice over
    for rows_of_a_span, expected in ((6200, 1), (6199, 2), (1000, 7), (1, 31)):
        monkeypatch.setattr(spans, "ROWS_OF_A_SPAN", rows_of_a_span)
        windows = day_by_day.spans(connection, JANUARY)
        assert len(windows) == expected
        assert [day for window in windows for day in window] == list(JANUARY)
        found = [
            connection.execute(compile_duckdb(day_by_day.compute(window))).fetchall()
            for window in windows
        ]
        assert [len(part) for part in found] == [100 * len(window) for window in windows]


@pytest.mark.parametrize(
    ("parts", "lengths"),
    [(1, [31]), (2, [15, 16]), (4, [7, 8, 8, 8]), (31, [1] * 31), (99, [1] * 31)],
)
def test_parts_are_of_like_length(parts: int, lengths: list[int]) -> None:
    windows = parted(JANUARY, parts)
    assert sorted(len(window) for window in windows) == lengths
    assert [day for window in windows for day in window] == list(JANUARY)


def test_rows_of_no_range_cannot_be_narrowed() -> None:
    with pytest.raises(WarehouseError, match="rows of a range of days are expected"):
        narrowed(ROWS, JANUARY)


def test_days_and_those_before_begin_with_the_first_of_the_range() -> None:
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE amounts AS SELECT DATE '2024-12-25' + i::INTEGER AS day, i AS amount"
        " FROM range(60) AS r(i)"
    )
    week = DateWindow(date(2025, 1, 10), date(2025, 1, 16))
    rows = narrowed(of_days(ROWS, "day", JANUARY), week, and_before=True)
    [found] = connection.execute(
        f"SELECT min(day), max(day), count(*) FROM ({compile_duckdb(rows)})"
    ).fetchall()
    assert found == (date(2025, 1, 1), date(2025, 1, 16), 16)


@pytest.mark.parametrize(
    "days",
    [
        {},
        {"silver_facts": UP_TO_DAY},
        {"silver_facts": SAME_DAYS, "silver_names": last_days(2)},
        {"silver_facts": SAME_DAYS, "silver_names": ALL_DAYS},
    ],
)
def test_only_days_that_stand_alone_can_be_in_spans(days: dict[str, Days]) -> None:
    def function(silver_facts: ir.Table, silver_names: ir.Table) -> ir.Table:
        return silver_facts.semi_join(silver_names, silver_facts.note == silver_names.label)

    with pytest.raises(ValueError, match="silver_facts: spans need an input of the same days"):
        table_asset(FACTS, days, in_spans=True)(function)
