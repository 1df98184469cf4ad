"""Test the types of Iceberg tables, added columns, trend flags and the record of days."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from monstera_assets.definitions import tables
from monstera_assets.warehouse.errors import SchemaMismatchError, WarehouseError
from monstera_assets.warehouse.iceberg.catalog import open_catalog
from monstera_assets.warehouse.iceberg.materializations import Materializations, recorded
from monstera_assets.warehouse.iceberg.replacement import replace_rows
from monstera_assets.warehouse.iceberg.schemas import iceberg_schema
from monstera_assets.warehouse.tables import Column, same_type
from monstera_assets_tests.spark.iceberg_tables import (
    FLAGGED,
    HISTORY,
    JUNE,
    catalog_in,
    fetched,
    replace_days,
    table,
    window,
    write_query,
)

pytestmark = pytest.mark.spark

TYPED = table(
    "typed",
    Column("flag", "boolean", "."),
    Column("small", "int32", "."),
    Column("ratio", "float64", "."),
    Column("amount", "decimal(18, 2)", "."),
    Column("at", "timestamp", "."),
    Column("at_utc", "timestamp('UTC')", "."),
    Column("text", "string", "."),
    Column("properties", "json", "."),
    Column("tags", "array<string>", "."),
    Column("steps", "array<struct<step: int64, name: string>>", "."),
    daily=False,
)


def test_values_of_all_types_return_from_a_file(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    stored = catalog.opened(TYPED)
    query = (
        "SELECT 1::BIGINT AS number, 2::BIGINT AS version, true AS flag, 3::INTEGER AS small,"
        " 0.1::DOUBLE AS ratio, 12345.67::DECIMAL(18, 2) AS amount,"
        " TIMESTAMP '2025-06-01 12:34:56.123456' AS at,"
        " TIMESTAMPTZ '2025-06-01 12:34:56.123456+02' AS at_utc, 'naïve ''text''' AS text,"
        """ '{"a": 1}' AS properties, ['x', NULL, ''] AS tags,"""
        " [{'step': 1::BIGINT, 'name': 'first'}, {'step': NULL, 'name': NULL}] AS steps"
    )
    replace_rows(stored, [write_query(stored, query)], None)
    rows = catalog.stored(TYPED).duckdb_rows()
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    columns = connection.execute(f"DESCRIBE {rows}").fetchall()
    assert [name for name, *_ in columns] == [column.name for column in TYPED.columns]
    for (_, kind, *_), column in zip(columns, TYPED.columns, strict=True):
        assert same_type(kind, column.stored_type), column.name
    [row] = connection.execute(
        f"SELECT * REPLACE (CAST(at_utc AS VARCHAR) AS at_utc) FROM ({rows})"
    ).fetchall()
    assert row == (
        *(1, 2, True, 3, 0.1, Decimal("12345.67"), datetime(2025, 6, 1, 12, 34, 56, 123456)),  # noqa: DTZ001
        *("2025-06-01 10:34:56.123456+00", "naïve 'text'", '{"a": 1}', ["x", None, ""]),
        [{"step": 1, "name": "first"}, {"step": None, "name": None}],
    )


def test_every_declared_table_has_a_schema() -> None:
    assert len(tables()) > 40
    for declared in tables():
        fields = iceberg_schema(declared).fields
        assert [field.name for field in fields] == [each.name for each in declared.data_columns]
        assert not any(field.required for field in fields)


@pytest.mark.parametrize(
    "kind", ["timestamp(9)", "time", "decimal", "uint64", "map<string, int64>"]
)
def test_a_type_that_iceberg_cannot_store_is_an_error(tmp_path: Path, kind: str) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    with pytest.raises(SchemaMismatchError, match=r"silver\.silver_odd\.odd is declared as"):
        catalog.opened(table("odd", Column("odd", kind, ".")))


def test_an_added_column_is_null_in_older_files(tmp_path: Path, uri: str) -> None:
    catalog = catalog_in(tmp_path, uri)
    replace_days(catalog.opened(HISTORY), window(1, 2), 1)
    wider = table(
        "history", Column("note", "string", "."), Column("parts", "array<struct<n: int64>>", ".")
    )
    rows = catalog.stored(wider).duckdb_rows()  # a reader is newer than the latest commit
    assert fetched(f"SELECT DISTINCT note, parts FROM ({rows})") == [(None, None)]

    one, other = catalog.opened(wider), catalog_in(tmp_path, uri).opened(wider)
    query = (
        "SELECT DATE '2025-06-02' AS day, 7::BIGINT AS number, 2::BIGINT AS version, 'new' AS note,"
        " [{'n': 5::BIGINT}] AS parts"
    )
    replace_rows(one, [write_query(one, query)], [window(2)])
    replace_rows(other, [write_query(other, query.replace("-02'", "-03'"))], [window(3)])
    rows = catalog.stored(wider).duckdb_rows()
    found = f"SELECT day, count(*), any_value(note), any_value(parts) FROM ({rows})"
    assert fetched(f"{found} GROUP BY day ORDER BY day") == [
        (JUNE[0], 3, None, None),
        (JUNE[1], 1, "new", [{"n": 5}]),
        (JUNE[2], 1, "new", [{"n": 5}]),
    ]
    with pytest.raises(SchemaMismatchError, match="note is not declared; parts is not declared"):
        catalog.opened(HISTORY)


def test_a_changed_type_is_an_error(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    catalog.opened(table("odd", Column("odd", "array<struct<n: int64>>", ".")))
    with pytest.raises(
        SchemaMismatchError, match=r"odd is list<struct<.*long>> but is declared as list<.*string>>"
    ):
        catalog.opened(table("odd", Column("odd", "array<struct<n: string>>", ".")))


def test_trend_flags_are_computed_from_the_latest_day(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    query = "SELECT DATE '{}' AS day, 1::BIGINT AS number, 1::BIGINT AS version"
    days = [date(2025, 4, 1), date(2025, 4, 2), date(2025, 6, 30)]
    stored = catalog.opened(FLAGGED)
    flags = f"SELECT day, is_current_day, is_last_90_days FROM ({stored.duckdb_rows()})"
    assert fetched(flags) == []
    for day in days:
        stored = catalog.opened(FLAGGED)
        files = [write_query(stored, query.format(day))]
        replace_rows(stored, files, [type(window(1))(day, day)])
    rows = catalog.stored(FLAGGED).duckdb_rows()
    flags = f"SELECT day, is_current_day, is_last_90_days FROM ({rows}) ORDER BY day"
    # 2025-04-02 is the 89th day before 2025-06-30.
    assert fetched(flags) == [
        (days[0], False, False),
        (days[1], False, True),
        (days[2], True, True),
    ]


def test_the_record_returns_from_its_properties(tmp_path: Path) -> None:
    early, late = datetime(2025, 7, 1, 2, 3, 4, 5), datetime(2025, 7, 2)  # noqa: DTZ001
    times: dict[date | None, datetime] = {
        **dict.fromkeys((JUNE[0], JUNE[1], JUNE[3]), early),
        **dict.fromkeys((JUNE[2], JUNE[8]), late),
    }
    written = Materializations(times, "run", JUNE[8]).properties()
    assert written == {
        "monstera.materialized": "2025-06-01/2025-06-02@2025-07-01T02:03:04.000005,"
        "2025-06-03@2025-07-02T00:00:00.000000,2025-06-04@2025-07-01T02:03:04.000005,"
        "2025-06-09@2025-07-02T00:00:00.000000",
        "monstera.run-id": "run",
        "monstera.as-of-date": "2025-06-09",
    }
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    handle = catalog.opened(HISTORY).handle
    with handle.transaction() as transaction:
        transaction.add_files([], snapshot_properties=written)
    assert recorded(handle.metadata) == Materializations(times, "run", JUNE[8])
    # Other writers do not write a record. The latest record then applies.
    handle.append(handle.scan().to_arrow())
    assert recorded(catalog.stored(HISTORY).loaded) == Materializations(times, "run", JUNE[8])


def test_times_increase_although_the_clock_does_not(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    future = datetime(2100, 1, 1)  # noqa: DTZ001
    replace_rows(catalog.opened(HISTORY), [], [window(1)], time=future)
    assert catalog.opened(HISTORY).opened_at == datetime(2100, 1, 1, 0, 0, 0, 1)  # noqa: DTZ001
    before = datetime.now(UTC).replace(tzinfo=None)
    other = catalog.opened(table("other"))
    assert before <= other.opened_at <= datetime.now(UTC).replace(tzinfo=None)


def test_manifests_do_not_contain_values_of_columns(tmp_path: Path) -> None:
    """Only the smallest and largest day of a file are needed; other columns have personal data."""
    personal = table("personal", Column("email", "string", "."))
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    stored = catalog.opened(personal)
    query = (
        "SELECT DATE '2025-06-01' AS day, 1::BIGINT AS number, 1::BIGINT AS version,"
        " 'ann@example.com' AS email"
    )
    replace_rows(stored, [write_query(stored, query)], [window(1)])
    [task] = catalog.stored(personal).handle.scan().plan_files()
    day = stored.handle.schema().find_field("day").field_id
    assert list(task.file.lower_bounds) == list(task.file.upper_bounds) == [day]


@pytest.mark.parametrize(
    "properties",
    [
        {"type": "nonsense"},
        {"type": "sql"},
        {"type": "sql", "uri": "postgresql+psycopg2://postgres@/none?host=/no/such/folder"},
        {"type": "rest", "uri": "http://127.0.0.1:9"},
    ],
    ids=["type", "no address", "no server", "no REST server"],
)
def test_a_catalog_that_cannot_be_opened_is_an_error(
    tmp_path: Path, properties: dict[str, str]
) -> None:
    with pytest.raises(WarehouseError, match=r"The Iceberg catalog could not be opened: .+ Check"):
        open_catalog(f"file://{tmp_path}/warehouse", properties)
