"""The seeds give the same bronze tables in each format and layout."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import pytest

from monstera_assets.bronze.load_entities import entity_batch
from monstera_assets.bronze.load_events import event_batch
from monstera_assets.bronze.loading import open_queries
from monstera_assets.bronze.reading import Reading
from monstera_assets.source.layout import discover_source
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.windows import DateWindow

SEEDS = Path(__file__).parents[2] / "seeds"
DAYS = DateWindow(date(2024, 7, 1), date(2025, 6, 30), is_opening=True)
TABLES = (
    *("events", "subscription_events", "users", "accounts", "product_catalog", "workflows"),
    *("rejected_events", "rejected_entities"),
)

Write = Callable[[Path], None]


def _copied(extension: str, options: str = "", *, all_text: bool = True) -> Write:
    """Return a function that writes each input of the seeds in another format."""

    def write(folder: Path) -> None:
        for path in SEEDS.glob("seed_*.csv"):
            name = path.stem.removeprefix("seed_")
            rows = f"read_csv('{path}', all_varchar = {str(all_text).lower()}, header = true)"
            duckdb.sql(f"COPY (FROM {rows}) TO '{folder}/{name}.{extension}' {options}")

    return write


def _by_day(folder: Path) -> None:
    _copied("csv")(folder)
    rows = "read_csv('events.csv', all_varchar = true)".replace(
        "events.csv", f"{folder}/events.csv"
    )
    duckdb.sql(
        f"COPY (SELECT *, CAST(timestamp AS DATE) AS event_date FROM {rows})"
        f" TO '{folder}/events' (FORMAT parquet, PARTITION_BY (event_date))"
    )
    (folder / "events.csv").unlink()


def _by_hour(folder: Path) -> None:
    _copied("csv")(folder)
    lines = (folder / "events.csv").read_text().splitlines(keepends=True)
    (folder / "events.csv").unlink()
    (folder / "events").mkdir()
    for number, line in enumerate(lines[1:]):
        (folder / "events" / f"{number:04}.csv").write_text(lines[0] + line)


FORMS: dict[str, Write] = {
    "semicolons": _copied("csv", "(DELIMITER ';')"),
    "tabs": _copied("tsv", "(FORMAT csv, DELIMITER '\t')"),
    "pipes": _copied("csv", "(DELIMITER '|')"),
    "gzip": _copied("csv.gz", "(FORMAT csv, COMPRESSION gzip)"),
    "zstd": _copied("csv.zst", "(FORMAT csv, COMPRESSION zstd)"),
    "JSON lines": _copied("jsonl", "(FORMAT json)"),
    "typed JSON lines, gzip": _copied(
        "ndjson.gz", "(FORMAT json, COMPRESSION gzip)", all_text=False
    ),
    "Parquet of text": _copied("parquet"),
    "typed Parquet": _copied("parquet", all_text=False),
    "by day": _by_day,
    "a file per event": _by_hour,
}


def _loaded(source: Path, database: Path) -> dict[str, list[tuple[object, ...]]]:
    reading = Reading(first_day=DAYS.first)
    inputs, queries = discover_source(source), open_queries()
    with connect(str(database), connection_config(threads=1)) as connection:
        with DuckDBEngine(connection).transaction():
            entity_batch(inputs, reading, queries).write(connection, None)
        with DuckDBEngine(connection).transaction():
            events = event_batch(inputs, window=DAYS, reading=reading, queries=queries)
            events.write(connection, DAYS)
        found = {
            name: connection.execute(f"FROM bronze.bronze_{name} ORDER BY ALL").fetchall()
            for name in TABLES
        }
        counts = "rows_read, rows_repeated, rows_accepted, rows_rejected"
        found["loads"] = connection.execute(
            f"SELECT partition_date, {counts} FROM bronze.bronze_loads ORDER BY ALL"
        ).fetchall()
        return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[object, ...]]]:
    return _loaded(SEEDS, tmp_path_factory.mktemp("plain") / "warehouse.duckdb")


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_tables(
    tmp_path: Path, plain: dict[str, list[tuple[object, ...]]], form: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    FORMS[form](source)
    assert len(plain["events"]) == 40
    assert _loaded(source, tmp_path / "warehouse.duckdb") == plain
