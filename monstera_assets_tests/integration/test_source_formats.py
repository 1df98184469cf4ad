"""The same source yields the same staged rows in every format and layout."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from backports import zstd

from monstera_assets.source.databases import place_of, shown_source
from monstera_assets.source.errors import SourceError
from monstera_assets.source.fingerprint import fingerprint
from monstera_assets.source.layout import SourceInput, discover_source
from monstera_assets.source.reader import RawColumn, stage_rows

NAMES = ("event_id", "entity_id", "timestamp", "location", "metadata")
RECORDS = [
    ("e1", "u1", "1748736000000", "web_app", '{"k":"a;b|c"}'),
    ("e2", "u2", "2025-06-01 10:00:00", "", ""),
    ("e3", "ü,\t;|3", "2025-06-01T10:00:00Z", 'say "hi"', '{"k":"line\\nend","n":{"x":[1,2]}}'),
    ("e4", "", "1748736000", "two\nlines", "{}"),
]
COLUMNS = [RawColumn(name, required=name in NAMES[:3]) for name in NAMES]
STAGED = [tuple(value or None for value in record) for record in RECORDS]

Write = Callable[[Path], None]


@pytest.fixture
def connection() -> Any:
    with duckdb.connect(config={"preserve_insertion_order": False}) as connection:
        yield connection


def separated(
    delimiter: str = ",",
    names: tuple[str, ...] = NAMES,
    records: Sequence[tuple[str, ...]] = RECORDS,
    end: str = "\n",
) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    writer.writerows([names, *records])
    return text.getvalue().encode()


def objects(records: Sequence[tuple[str, ...]] = RECORDS) -> list[dict[str, Any]]:
    """Return the records with nested metadata, and without keys for empty values."""
    return [
        {
            name: json.loads(value) if name == "metadata" else value
            for name, value in zip(NAMES, record, strict=True)
            if value
        }
        for record in records
    ]


def lines(records: Sequence[tuple[str, ...]] = RECORDS) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in objects(records))


def saved(name: str, content: bytes) -> Write:
    def write(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return write


def several(*writes: Write) -> Write:
    def write(folder: Path) -> None:
        for each in writes:
            each(folder)

    return write


def as_parquet(columns: str = "*") -> Write:
    def write(folder: Path) -> None:
        saved("plain.csv", separated())(folder)
        duckdb.sql(
            f"COPY (SELECT {columns} FROM read_csv('{folder}/plain.csv', all_varchar = true))"
            f" TO '{folder}/events.parquet'"
        )
        (folder / "plain.csv").unlink()

    return write


UPPER = tuple(f" {name.upper()} " for name in NAMES)
FORMS: dict[str, Write] = {
    "comma": saved("events.csv", separated()),
    "semicolon": saved("events.csv", separated(";")),
    "tab": saved("events.csv", separated("\t")),
    "tsv": saved("events.tsv", separated("\t")),
    "pipe": saved("events.CSV", separated("|")),
    "upper case": saved("events.csv", separated(",", UPPER)),
    "byte order mark": saved("events.csv", b"\xef\xbb\xbf" + separated(";", UPPER)),
    "CR LF": saved("events.csv", separated(";", end="\r\n")),
    "CSV gz": saved("events.csv.gz", gzip.compress(separated())),
    "CSV zst": saved("events.csv.zst", zstd.compress(separated("\t"))),
    "gz in parts": saved(
        "events.csv.gz", gzip.compress(separated()[:90]) + gzip.compress(separated()[90:])
    ),
    "JSON lines": saved("events.jsonl", lines()),
    "JSON lines, no line end": saved("events.ndjson", lines().rstrip() + b"\n\n \n"),
    "JSON, upper case": saved("events.json", lines().replace(b'"entity_id"', b'"Entity_ID"')),
    "JSON gz": saved("events.json.gz", gzip.compress(lines())),
    "JSON zst": saved("events.jsonl.zst", zstd.compress(lines())),
    "JSON array": saved("events.json", json.dumps(objects(), indent=2).encode()),
    "Parquet": as_parquet(),
    "Parquet, upper case": as_parquet(", ".join(f'{name} AS "{name.upper()} "' for name in NAMES)),
    "a file per row": several(
        *(saved(f"events/{n}.csv", separated(records=[each])) for n, each in enumerate(RECORDS))
    ),
    "many files": several(
        *(saved(f"events/a{n:02}.csv", separated(records=[])) for n in range(20)),
        *(saved(f"events/b{n}.csv", separated(records=[r])) for n, r in enumerate(RECORDS)),
    ),
    "many files of many forms": several(
        *(saved(f"events/a{n:02}.csv", separated(";", records=[])) for n in range(20)),
        saved("events/b.csv", separated(";", records=RECORDS[:1])),
        saved("events/c.csv.gz", gzip.compress(separated("|", UPPER, RECORDS[1:2]))),
        saved("events/d.jsonl", lines(RECORDS[2:3])),
        saved("events/e.csv", separated("\t", NAMES[::-1], [RECORDS[3][::-1]])),
    ),
}


def stage(connection: duckdb.DuckDBPyConnection, events: SourceInput) -> list[tuple[Any, ...]]:
    """Stage events, and return the rows ordered by file and position."""
    staged = stage_rows(connection, events, COLUMNS, "raw")
    return connection.execute(
        f"SELECT * EXCLUDE (source_file, folder_date, row_number) FROM {staged.rows}"
        " ORDER BY source_file, row_number"
    ).fetchall()


def malformed(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT source_file, line_number, raw_line, reason FROM raw_malformed ORDER BY ALL"
    ).fetchall()


@pytest.mark.parametrize("form", FORMS)
def test_forms(connection: duckdb.DuckDBPyConnection, tmp_path: Path, form: str) -> None:
    FORMS[form](tmp_path)
    source = discover_source(tmp_path)
    assert stage(connection, source["events"]) == STAGED
    assert malformed(connection) == []
    assert source.ignored == ()


@pytest.mark.parametrize("table", ["events", "seed_events", "EVENTS"])
@pytest.mark.parametrize("kind", ["TABLE", "VIEW"])
def test_a_database(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, table: str, kind: str
) -> None:
    as_parquet()(tmp_path)
    database = tmp_path / "shop.duckdb"
    with duckdb.connect(str(database)) as shop:
        shop.execute(f"CREATE {kind} {table} AS FROM '{tmp_path}/events.parquet'")
        shop.execute("CREATE TABLE users AS SELECT 1 AS user_id")
        shop.execute("CREATE TABLE other AS SELECT 1 AS x; CREATE TABLE event AS SELECT 1 AS x")
    source = discover_source(Path(f"duckdb:{database}"))
    assert set(source) == {"events", "users"}
    assert [path for path, _ in source.ignored] == ["event"]
    assert stage(connection, source["events"]) == STAGED
    [file] = source["users"].files
    before = fingerprint(file)
    assert before == fingerprint(file)
    assert connection.execute("SELECT count(*) FROM duckdb_databases()").fetchall() == [(3,)]
    with duckdb.connect(str(database)) as shop:
        shop.execute("INSERT INTO users VALUES (2)")
    with pytest.raises(SourceError, match="has changed since"):
        stage(connection, source["events"])
    [file] = discover_source(Path(f"duckdb:{database}"))["users"].files
    assert fingerprint(file) != before


def test_a_url(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    as_parquet()(tmp_path)
    (tmp_path / "events").mkdir()
    (tmp_path / "events.parquet").rename(tmp_path / "events" / "part.parquet")
    source = discover_source(Path(f"file://{tmp_path}/"))
    assert set(source) == {"events"}
    assert stage(connection, source["events"]) == STAGED
    assert fingerprint(source["events"].files[0]) == fingerprint(source["events"].files[0])


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("sqlite:shop.db", ["sqlite:shop.db requires DuckDB's sqlite extension", "INSTALL sqlite"]),
        ("postgres:host=x password=geheim", ["postgres: requires", "postgres extension"]),
        ("postgresql://me:geheim@host/shop", ["postgres: requires", "INSTALL postgres"]),
        ("s3://geheim/folder", ["s3: requires DuckDB's httpfs extension", "INSTALL httpfs"]),
        ("https://me:geheim@host/folder", ["https: requires", "INSTALL httpfs"]),
        ("duckdb:nowhere.duckdb", ["duckdb:nowhere.duckdb cannot be read", "does not exist"]),
        ("file:///nowhere", ["file: does not contain a Parquet file or folder named events"]),
    ],
)
def test_a_place_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, parts: list[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # without extensions
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError) as caught:
        discover_source(Path(source))
    for part in parts:
        assert part in str(caught.value)
    assert "geheim" not in str(caught.value) + shown_source(Path(source)) + repr(
        place_of(Path(source))
    )


def test_a_database_without_events_or_with_two(tmp_path: Path) -> None:
    database = tmp_path / "shop.duckdb"
    with duckdb.connect(str(database)) as shop:
        shop.execute("CREATE TABLE users AS SELECT 1 AS user_id")
    with pytest.raises(SourceError, match="does not contain a table or view named events"):
        discover_source(Path(f"duckdb:{database}"))
    with duckdb.connect(str(database)) as shop:
        shop.execute("CREATE TABLE events AS SELECT 1 AS x; CREATE SCHEMA old")
        shop.execute("CREATE TABLE old.events AS SELECT 1 AS x")
    with pytest.raises(
        SourceError, match=r"Found 2 tables for the input events: main\.events, old\.events"
    ):
        discover_source(Path(f"duckdb:{database}"))


def test_each_line_that_is_not_an_object_is_malformed(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    good = lines().splitlines()
    faults = [b"[1, 2]", b"5", b'"x"', b"null", b'{"event_id":', b"{}{}", b"\xff{}", b"e1,u1"]
    saved("events/a.jsonl", b"\n".join([good[0], *faults, b"", *good[1:]]))(tmp_path)
    saved("events/b.jsonl", b"x" * 600_000)(tmp_path)
    assert stage(connection, discover_source(tmp_path)["events"]) == STAGED
    expected = [
        ("events/a.jsonl", line, text.decode("utf-8", "backslashreplace"), "malformed_row_json")
        for line, text in enumerate(faults, start=2)
    ]
    expected[6] = (*expected[6][:3], "malformed_row_encoding")
    last = ("events/b.jsonl", 1, "x" * 10_000, "malformed_row_too_long")
    assert malformed(connection) == [*expected, last]


def test_values_of_json(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    values: list[tuple[Any, str | None]] = [
        (1748736000000, "1748736000000"),
        (1.5, "1.5"),
        (True, "true"),
        (None, None),
        ("", None),
        (["a", 'b"'], 'a|b"'),
        ([1, 2], "[1,2]"),
        ([], "[]"),
        ({"k": 'v"'}, '{"k":"v\\""}'),
        ('["not JSON', '["not JSON'),
        ("null", "null"),
        ("\u0000x", "\u0000x"),
    ]
    content = [
        {"event_id": f"{n:02}", "entity_id": "u", "timestamp": 1, "metadata": value}
        for n, (value, _) in enumerate(values)
    ]
    saved("events.jsonl", "\n".join(map(json.dumps, content)).encode())(tmp_path)
    rows = stage(connection, discover_source(tmp_path)["events"])
    assert [row[-1] for row in rows] == [expected for _, expected in values]


def test_json_without_a_required_key(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    saved("events.jsonl", b'{"event_id": 1}\n{"entity_id": 2}\n')(tmp_path)
    with pytest.raises(SourceError, match="is missing required columns: timestamp"):
        stage(connection, discover_source(tmp_path)["events"])


@pytest.mark.parametrize(
    "content", [b"[", b'[{"a": 1},', b'[{"a": 1}] x', b'[{"a": 1} {"a": 2}]', b"[{]", b'[{"a":1},]']
)
def test_a_damaged_array_is_refused(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, content: bytes
) -> None:
    saved("events.json", content)(tmp_path)
    with pytest.raises(SourceError, match=r"events\.json contains an invalid JSON array"):
        stage(connection, discover_source(tmp_path)["events"])


@pytest.mark.parametrize("name", ["events.csv.gz", "events.jsonl.gz", "events.csv.zst"])
def test_a_damaged_compressed_file_is_refused(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, name: str
) -> None:
    content = lines() if "json" in name else separated()
    packed = gzip.compress(content) if name.endswith("gz") else zstd.compress(content)
    for damaged in (packed[: len(packed) // 2], packed[:-3], content, b"", packed + b"x" * 9):
        saved(name, damaged)(tmp_path)
        with pytest.raises(SourceError, match=name):
            stage(connection, discover_source(tmp_path)["events"])


def test_a_known_name_decides_the_delimiter(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    header = b"event_id;entity_id;timestamp;a,b,c,d,e,f,g\n"
    saved("events.csv", header + b"e1;u1;t1;x\n")(tmp_path)
    assert stage(connection, discover_source(tmp_path)["events"]) == [
        ("e1", "u1", "t1", None, None)
    ]


def test_records_decide_between_delimiters(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    saved("events.csv", b'a,event_id;b\n1;"2,3"\n4;5\n')(tmp_path)
    stage_rows(connection, discover_source(tmp_path)["events"], [RawColumn("b", False)], "raw")
    assert connection.execute("SELECT b FROM raw_rows").fetchall() == [("2,3",), ("5",)]


def test_a_set_delimiter_is_not_detected(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    saved("events.csv", b"a,b,c;event_id\n1,2,3;4\n")(tmp_path)
    for delimiter, value in ((None, "4"), (",", None)):
        events = discover_source(tmp_path, delimiter=delimiter)["events"]
        stage_rows(connection, events, [RawColumn("event_id", required=False)], "raw")
        assert connection.execute("SELECT event_id FROM raw_rows").fetchall() == [(value,)]


def test_many_small_files_with_faults(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    day = tmp_path / "events" / "event_date=2025-06-01"
    day.mkdir(parents=True)
    for n in range(40):
        record = f"e{n},u{n},t{n}\n"
        fault = "x\n" if n % 10 == 0 else ""
        (day / f"{n:02}.csv").write_text(f"event_id,entity_id,timestamp\n{fault}{record}{record}")
    rows = stage(connection, discover_source(tmp_path)["events"])
    assert rows == [(f"e{n}", f"u{n}", f"t{n}", None, None) for n in range(40) for _ in range(2)]
    origins = connection.execute(
        "SELECT DISTINCT source_file, entity_id, folder_date::VARCHAR FROM raw_rows ORDER BY ALL"
    ).fetchall()
    prefix = "events/event_date=2025-06-01"
    assert origins == [(f"{prefix}/{n:02}.csv", f"u{n}", "2025-06-01") for n in range(40)]
    assert malformed(connection) == [
        (f"{prefix}/{n:02}.csv", 2, "x", "malformed_row_field_count") for n in range(0, 40, 10)
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_row_numbers_ascend_in_large_files(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, kind: str
) -> None:
    rows = "SELECT range AS event_id, 'u' AS entity_id, range AS timestamp FROM range(400_000)"
    connection.execute(f"COPY ({rows}) TO '{tmp_path}/events.{kind}'")
    for copy in (True, False):
        events = discover_source(tmp_path)["events"]
        staged = stage_rows(connection, events, COLUMNS, "raw", copy=copy)
        assert connection.execute(
            f"SELECT count(*), count(*) FILTER (event_id::BIGINT <> row_number) FROM {staged.rows}"
        ).fetchall() == [(400_000, 0)]
    described = connection.execute("DESCRIBE raw_rows").fetchall()
    assert [tuple(each[:2]) for each in described[-3:]] == [
        ("source_file", "VARCHAR"),
        ("folder_date", "DATE"),
        ("row_number", "BIGINT"),
    ]
