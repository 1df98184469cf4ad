"""Each record of an input is staged exactly once, as a row or as a malformed record."""

from __future__ import annotations

import csv
import io
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monstera_assets.source.csv_files import TextStager
from monstera_assets.source.csv_records import MAX_RECORD_CHARACTERS
from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import FileStamp, SourceFile, SourceInput, input_format
from monstera_assets.source.reader import RawColumn, stage_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

COUNT = "malformed_row_field_count"
QUOTING = "malformed_row_quoting"
ENCODING = "malformed_row_encoding"
TOO_LONG = "malformed_row_too_long"

Rows = list[tuple[Any, ...]]


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def source(*paths: Path, root: Path | None = None) -> SourceInput:
    files = []
    for path in paths:
        relative = path.relative_to(root or path.parent).as_posix()
        day = path.parent.name.removeprefix("event_date=")
        folder_date = date.fromisoformat(day) if day != path.parent.name else None
        status = path.stat()
        parts = input_format(path.name)
        assert parts is not None
        _, kind, compression = parts
        stamp = FileStamp(status.st_size, status.st_mtime_ns)
        files.append(SourceFile(path, relative, kind, folder_date, compression, stamp))
    return SourceInput("events", tuple(files), by_day=any(file.folder_date for file in files))


def stage(
    connection: duckdb.DuckDBPyConnection, source_input: SourceInput, columns: str = "a b c"
) -> tuple[Rows, Rows]:
    """Stage the columns, optional if in brackets; return rows and malformed records."""
    wanted = [RawColumn(name.strip("[]"), "[" not in name) for name in columns.split()]
    staged = stage_rows(connection, source_input, wanted, "raw")
    names = ", ".join(f'"{column.name}"' for column in wanted)
    rows = connection.execute(f"SELECT {names} FROM {staged.rows} ORDER BY ALL").fetchall()
    malformed = connection.execute(
        f"SELECT line_number, raw_line, reason FROM {staged.malformed} ORDER BY ALL"
    ).fetchall()
    return rows, malformed


def stage_bytes(
    connection: duckdb.DuckDBPyConnection, folder: Path, content: bytes, columns: str = "a b c"
) -> tuple[Rows, Rows]:
    path = folder / "events.csv"
    path.write_bytes(content)
    return stage(connection, source(path), columns)


GOOD = [
    pytest.param(b"1,2,3\n", [("1", "2", "3")], id="plain"),
    pytest.param(b"1,2,3", [("1", "2", "3")], id="no line end"),
    pytest.param(b"1,2,3\r\n4,5,6\r\n", [("1", "2", "3"), ("4", "5", "6")], id="crlf"),
    pytest.param(b"1,2,3\r4,5,6\r", [("1", "2", "3"), ("4", "5", "6")], id="cr"),
    pytest.param(b"1,2,3\r\n4,5,6\n", [("1", "2", "3"), ("4", "5", "6")], id="mixed line ends"),
    pytest.param(b",,\n", [(None, None, None)], id="all empty"),
    pytest.param(b'"",2,""\n', [(None, "2", None)], id="quoted empty"),
    pytest.param(b'1,"2,""x""",3\n', [("1", '2,"x"', "3")], id="quoted"),
    pytest.param(b'1,"2\n\n2",3\n', [("1", "2\n\n2", "3")], id="quoted line ends"),
    pytest.param(b'1,"2\r\n2",3\r\n', [("1", "2\r\n2", "3")], id="quoted crlf"),
    pytest.param(b'1,"2\r2",3\n', [("1", "2\r2", "3")], id="quoted cr"),
    pytest.param(b"1,2\x002,3\n", [("1", "2\x002", "3")], id="nul"),
    pytest.param(b"\n1,2,3\n\n\n", [("1", "2", "3")], id="empty lines"),
    pytest.param(b' 1 ,"2" , "3"\n', [(" 1 ", "2", "3")], id="spaces"),
    pytest.param(b'1,5"5,6"\n', [("1", '5"5', '6"')], id="quotes inside"),
    pytest.param("1,é\u2028😀,ﬀ\n".encode(), [("1", "é\u2028😀", "ﬀ")], id="unicode"),
    pytest.param(b"NULL,null,\\N\n", [("NULL", "null", "\\N")], id="no null words"),
    pytest.param(b"#1,2,3\n", [("#1", "2", "3")], id="no comments"),
    pytest.param(b"", [], id="only a header"),
]


@pytest.mark.parametrize(("body", "rows"), GOOD)
@pytest.mark.parametrize("damage", [b"", b"\nbroken\n"], ids=["alone", "with a malformed one"])
def test_good_records(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, body: bytes, rows: Rows, damage: bytes
) -> None:
    # A malformed record changes how the file is read, but not which records are valid.
    staged, malformed = stage_bytes(connection, tmp_path, b"a,b,c\n" + body + damage)
    assert staged == rows
    assert [(text, reason) for _, text, reason in malformed] == [("broken", COUNT)] * bool(damage)


BAD = [
    pytest.param(b"4,5\n", [(3, "4,5", COUNT)], id="too few"),
    pytest.param(b"4,5,6,7\n", [(3, "4,5,6,7", COUNT)], id="too many"),
    pytest.param(b"4,5,6,\n", [(3, "4,5,6,", COUNT)], id="one extra empty field"),
    pytest.param(b'4,5,6,,""\n', [(3, '4,5,6,,""', COUNT)], id="extra empty fields"),
    pytest.param(b"   \n", [(3, "   ", COUNT)], id="blanks"),
    pytest.param(b'4,"5"x,6\n', [(3, '4,"5"x,6', QUOTING)], id="text after a quote"),
    pytest.param(b'4,"5\\"x",6\n', [(3, '4,"5\\"x",6', QUOTING)], id="backslash"),
    pytest.param(b'4,"5,6\n', [(3, '4,"5,6', QUOTING)], id="unterminated"),
    pytest.param(b'"\n', [(3, '"', QUOTING)], id="a lone quote"),
    pytest.param(b'"4\n5"x,6\n', [(3, '"4', QUOTING), (4, '5"x,6', COUNT)], id="two lines"),
    pytest.param(b'"4\n4",5\n', [(3, '"4\n4",5', COUNT)], id="too few, with a line end"),
    pytest.param(b"4,\xff5,6\n", [(3, "4,\\xff5,6", ENCODING)], id="no utf-8"),
    pytest.param(b"4,\xff5,\xfe\n", [(3, "4,\\xff5,\\xfe", ENCODING)], id="no utf-8 twice"),
    pytest.param(b"4,\xed\xa0\x80,6\n", [(3, "4,\\xed\\xa0\\x80,6", ENCODING)], id="surrogate"),
    pytest.param(b'4,"\xc3\n",6\n', [(3, '4,"\\xc3\n",6', ENCODING)], id="cut character"),
    pytest.param(b"4,\xff\n", [(3, "4,\\xff", COUNT)], id="two faults"),
]


@pytest.mark.parametrize(("record", "malformed"), BAD)
@pytest.mark.parametrize("after", [b"", b"7,8,9\n", b'7,"8",9\n7,8,9\n'])
def test_malformed_records(
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    record: bytes,
    malformed: Rows,
    after: bytes,
) -> None:
    rows, rejected = stage_bytes(connection, tmp_path, b"a,b,c\n1,2,3\n" + record + after)
    assert rejected == malformed
    assert rows == [("1", "2", "3")] + [("7", "8", "9")] * after.count(b"\n")


def test_every_line_with_an_unterminated_quote(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    lines = [f'{number},"x,y' for number in range(500)]
    rows, malformed = stage_bytes(connection, tmp_path, "\n".join(["a,b,c", *lines]).encode())
    assert rows == []
    assert malformed == [(2 + index, line, QUOTING) for index, line in enumerate(lines)]


@pytest.mark.parametrize("size", [MAX_RECORD_CHARACTERS - 5, 3 * MAX_RECORD_CHARACTERS])
@pytest.mark.parametrize("filler", ["x", "é", '""'])
def test_long_records(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, size: int, filler: str
) -> None:
    long = filler * (size // len(filler) - 2)
    content = f'a,b,c\n1,2,3\n1,"{long}",3\n4,5,6\n'.encode()
    rows, malformed = stage_bytes(connection, tmp_path, content)
    if size < MAX_RECORD_CHARACTERS:
        assert sorted(rows)[0:2] == sorted([("1", "2", "3"), ("1", long.replace('""', '"'), "3")])
        assert malformed == []
    else:
        assert rows == [("1", "2", "3"), ("4", "5", "6")]
        assert malformed == [(3, f'1,"{long}'[:10_000], TOO_LONG)]


def test_a_long_value_of_many_lines_does_not_take_the_rest_along(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    lines = f"{'x' * 99}\n" * (MAX_RECORD_CHARACTERS // 100)
    rows, malformed = stage_bytes(connection, tmp_path, f'a,b\n1,"{lines}4,5\n'.encode(), "a b")
    assert rows == [("4", "5")]
    reasons = Counter(reason for _, _, reason in malformed)
    assert reasons == {QUOTING: 1, COUNT: MAX_RECORD_CHARACTERS // 100 - 1}


def expect(
    connection: duckdb.DuckDBPyConnection, folder: Path, content: bytes, *parts: str
) -> None:
    with pytest.raises(SourceError) as caught:
        stage_bytes(connection, folder, content)
    for part in ("events.csv", *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"\na,b,c\n"])
def test_no_header(connection: duckdb.DuckDBPyConnection, tmp_path: Path, content: bytes) -> None:
    expect(connection, tmp_path, content, "does not have a header")


def test_unreadable_headers(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    expect(connection, tmp_path, "a,b,c\n".encode("utf-16"), "UTF-16", "UTF-8")
    expect(connection, tmp_path, "a,b,c\n".encode("utf-16-le"), "UTF-8")
    expect(connection, tmp_path, b"a,b,c\xe9\n", "UTF-8")
    expect(connection, tmp_path, b'a,b,"c\n1,2,3\n', QUOTING)
    expect(connection, tmp_path, b"x" * 3 * MAX_RECORD_CHARACTERS, TOO_LONG)
    expect(connection, tmp_path, b"a,b, a ,c\n", "a more than once")


def test_missing_columns_are_all_named(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    expect(connection, tmp_path, b"B,x,y\n", "is missing required columns: a, c")


def test_latin_1_costs_only_the_rows_that_need_it(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    content = "a,b,c\n1,Zoe,3\n1,Zoë,3\n".encode("latin-1")
    rows, malformed = stage_bytes(connection, tmp_path, content)
    assert (rows, malformed) == ([("1", "Zoe", "3")], [(3, "1,Zo\\xeb,3", ENCODING)])


def test_headers(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf c ,"x,""\ny", a ,,A,\n3,,1,,,\n'
    assert stage_bytes(connection, tmp_path, content, "a [b] c") == ([("1", None, "3")], [])


def test_one_column(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    staged = stage_bytes(connection, tmp_path, b'a\n1\n\n""\n2,3\n4', "a [b]")
    assert staged == ([("1", None), ("4", None), (None, None)], [(5, "2,3", COUNT)])


def test_columns_with_the_names_of_the_reader(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    content = b"filename,c1,origin,raw\n1,2,3,4\n"
    staged = stage_bytes(connection, tmp_path, content, "raw origin c1 filename")
    assert staged == ([("4", "3", "2", "1")], [])


def test_files_of_different_headers_and_days(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    contents = {
        "event_date=2025-06-01/a.csv": "a,b\n1,2\nx\n",
        "event_date=2025-06-01/b.csv": "b,a,c\n4,3,5\n",
        "event_date=2025-06-02/a.csv": "a,b\n6,7\n",
        "event_date=2025-06-02/b.csv": "a,b\n",
        "event_date=2025-06-03/a.csv": 'a,b\n8,"9\n',
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    files = source(*(tmp_path / name for name in contents), root=tmp_path)
    columns = [RawColumn("a", required=True), RawColumn("c", required=False)]
    staged = stage_rows(connection, files, columns, "raw")
    assert connection.execute(f"FROM {staged.rows} ORDER BY a").fetchall() == [
        ("1", None, "event_date=2025-06-01/a.csv", date(2025, 6, 1), 2),
        ("3", "5", "event_date=2025-06-01/b.csv", date(2025, 6, 1), 0),
        ("6", None, "event_date=2025-06-02/a.csv", date(2025, 6, 2), 0),
    ]
    assert connection.execute(f"FROM {staged.malformed} ORDER BY ALL").fetchall() == [
        ("event_date=2025-06-01/a.csv", 3, "x", COUNT, date(2025, 6, 1)),
        ("event_date=2025-06-03/a.csv", 2, '8,"9', QUOTING, date(2025, 6, 3)),
    ]


def test_no_files(connection: duckdb.DuckDBPyConnection) -> None:
    assert stage(connection, SourceInput("events", (), by_day=False)) == ([], [])
    described = connection.execute("DESCRIBE raw_malformed").fetchall()
    assert [(name, kind) for name, kind, *_ in described] == [
        ("source_file", "VARCHAR"),
        ("line_number", "BIGINT"),
        ("raw_line", "VARCHAR"),
        ("reason", "VARCHAR"),
        ("folder_date", "DATE"),
    ]


ODD_NAMES = [
    "a[1]",
    "a*",
    "a?",
    "[",
    "a[!b]",
    "q'uo\"te",
    "sp ace",
    "é",
    "{a,b}",
    "n\nl",
    "%41",
    "~",
]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_odd_paths_are_opened_as_they_are(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, suffix: str
) -> None:
    # Decoys that a glob would match, in a folder whose name is also a glob.
    folder = tmp_path / "s[ab]*?"
    folder.mkdir()
    (tmp_path / "sabc").mkdir()
    names = [*ODD_NAMES, "a1", "aa"]
    for number, name in enumerate(names):
        for place in (folder, tmp_path / "sabc"):
            value = number if place == folder else -1
            target = place / f"{name}.{suffix}"
            if suffix == "csv":
                target.write_text(f"a,b\n{value},x\n", encoding="utf-8")
            else:
                connection.execute(f"COPY (SELECT {value} AS a) TO '{tmp_path}/plain.parquet'")
                (tmp_path / "plain.parquet").rename(target)
    files = source(*(folder / f"{name}.{suffix}" for name in names))
    stage(connection, files, "a")
    rows = connection.execute("SELECT a::INTEGER, source_file FROM raw_rows ORDER BY 1").fetchall()
    assert rows == [(number, f"{name}.{suffix}") for number, name in enumerate(names)]


def test_a_backslash_in_a_path(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    for name in ("back\\slash.csv", "back\\sl*sh.csv"):
        (tmp_path / name).write_text("a,b,c\n1,2,3\n", encoding="utf-8")
    rows, _ = stage(connection, source(tmp_path / "back\\slash.csv"))
    assert rows == [("1", "2", "3")]
    with pytest.raises(SourceError, match=r"sl\*sh\.csv .* Rename"):
        stage(connection, source(tmp_path / "back\\sl*sh.csv"))


def test_a_transaction_survives_and_owns_the_result(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE kept AS SELECT 1 AS x")
        rows, malformed = stage_bytes(connection, tmp_path, b'a,b,c\n1,"2\n1,2,3\r\n4\n')
        assert (len(rows), len(malformed)) == (1, 2)
        with pytest.raises(SourceError):
            stage_bytes(connection, tmp_path, b"a,b\n")
        rows, malformed = stage_bytes(connection, tmp_path, b"a,b,c\n1,2,3\n1,2,3\n")
        assert (len(rows), len(malformed)) == (2, 0)
        connection.execute("COMMIT")
        assert connection.execute("SELECT x FROM kept").fetchall() == [(1,)]
        databases = connection.execute("SELECT database_name FROM duckdb_databases()").fetchall()
        assert {name for [name] in databases} == {"warehouse", "system", "temp"}
        tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        assert {name for [name] in tables} == {"kept", "raw_rows", "raw_malformed", "raw_origins"}


def test_a_read_only_warehouse(tmp_path: Path) -> None:
    database = str(tmp_path / "warehouse.duckdb")
    duckdb.connect(database).close()
    with duckdb.connect(database, read_only=True) as connection:
        rows, malformed = stage_bytes(connection, tmp_path, b"a,b,c\n1,2,3\n4\n")
    assert (rows, malformed) == ([("1", "2", "3")], [(3, "4", COUNT)])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_that_change_or_disappear(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"events.{suffix}"
    connection.execute(f"COPY (SELECT 1 AS a, 2 AS b, 3 AS c) TO '{path}'")
    found = source(path)
    path.write_bytes(path.read_bytes() + b"4,5,6\n")
    with pytest.raises(SourceError, match=rf"events\.{suffix} has changed"):
        stage(connection, found)
    path.unlink()
    with pytest.raises(SourceError, match=rf"events\.{suffix} cannot be read"):
        stage(connection, found)


@pytest.mark.parametrize("vanishes", [True, False])
def test_a_file_that_changes_while_it_is_read(
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    vanishes: bool,
) -> None:
    path = tmp_path / "events.csv"
    load = TextStager._load

    def meddle(*args: Any, **kwargs: Any) -> str:
        if vanishes:
            path.unlink()
        else:
            path.write_bytes(b"a,b,c\n1,2,3\n4,5,6\n")
        return load(*args, **kwargs)

    monkeypatch.setattr(TextStager, "_load", meddle)
    with pytest.raises(SourceError, match=r"events\.csv"):
        stage_bytes(connection, tmp_path, b"a,b,c\n1,2,3\n")


def parquet(connection: duckdb.DuckDBPyConnection, path: Path, query: str) -> Path:
    connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return path


def test_parquet_keeps_plain_types_on_which_files_agree(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    first = parquet(
        connection,
        tmp_path / "a.parquet",
        "SELECT 1 AS n, 1.5::DECIMAL(9,2) AS d, true AS t, TIMESTAMP '2025-06-01 10:00:00' AS at, "
        "'' AS s, DATE '2025-06-01' AS differs, 7 AS only_here, 'x' AS filename",
    )
    second = parquet(
        connection,
        tmp_path / "b.parquet",
        "SELECT 'y' AS s, TIMESTAMP '2025-06-02' AS differs, 2 AS n, NULL::DECIMAL(9,2) AS d, "
        "false AS t, TIMESTAMP '2025-06-02 10:00:00' AS at",
    )
    rows, malformed = stage(
        connection, source(first, second), "n d t at s differs [only_here] [nowhere]"
    )
    assert malformed == []
    moment = datetime(2025, 6, 1, 10)  # noqa: DTZ001
    assert rows == [
        (1, Decimal("1.50"), True, moment, None, "2025-06-01", 7, None),
        (2, None, False, moment.replace(day=2), "y", "2025-06-02 00:00:00", None, None),
    ]


def test_parquet_beside_csv_is_text(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    query = "SELECT 1 AS a, true AS b, TIMESTAMP '2025-06-01 10:00:00' AS c"
    first = parquet(connection, tmp_path / "a.parquet", query)
    second = tmp_path / "b.csv"
    second.write_text("a,b,c\n2,false,x\n", encoding="utf-8")
    rows, _ = stage(connection, source(first, second))
    assert rows == [("1", "true", "2025-06-01 10:00:00"), ("2", "false", "x")]


def test_parquet_types_that_are_not_plain(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    connection.execute("SET TimeZone = 'Asia/Tokyo'")
    path = parquet(
        connection,
        tmp_path / "a.parquet",
        "SELECT TIMESTAMPTZ '2025-06-01 12:00:00+02' AS zoned, ['x', 'y'] AS texts, "
        "{'k': 1} AS pair, MAP {'k': 'v'} AS map, [1, 2] AS numbers, encode('é') AS blob, "
        "TIMESTAMP_NS '2025-06-01 23:59:59.999999999' AS nanos, TIME '10:00' AS clock, "
        "'{\"k\": 1}'::JSON AS json, [TIMESTAMP '2025-06-01'] AS moments, "
        "'0b4a1f0e-0000-4000-8000-000000000000'::UUID AS uuid",
    )
    columns = "zoned texts pair map numbers blob nanos clock json moments uuid"
    [row], _ = stage(connection, source(path), columns)
    assert row == (
        datetime(2025, 6, 1, 10),  # noqa: DTZ001
        "x|y",
        '{"k":1}',
        '{"k":"v"}',
        "[1,2]",
        "é",
        datetime(2025, 6, 1, 23, 59, 59, 999999),  # noqa: DTZ001
        "10:00:00",
        '{"k": 1}',
        '["2025-06-01 00:00:00"]',
        "0b4a1f0e-0000-4000-8000-000000000000",
    )


def test_parquet_without_a_required_column(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    path = parquet(connection, tmp_path / "a.parquet", "SELECT 1 AS x, 2 AS B")
    with pytest.raises(SourceError, match=r"a\.parquet is missing required columns: a, c"):
        stage(connection, source(path))


def test_damaged_parquet_is_named(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    query = "SELECT range AS a, range::VARCHAR AS b, hash(range) AS c FROM range(5000)"
    good = parquet(connection, tmp_path / "good.parquet", query)
    content = good.read_bytes()
    middle = len(content) // 2
    faults = {
        "cut.parquet": content[:middle],
        "empty.parquet": b"",
        "text.parquet": b"a,b,c\n1,2,3\n",
        "page.parquet": content[:4] + b"\xff" * middle + content[4 + middle :],
    }
    for name, fault in faults.items():
        (tmp_path / name).write_bytes(fault)
        with pytest.raises(SourceError, match=rf"^{name} cannot be read as Parquet"):
            stage(connection, source(good, tmp_path / name))
        rows, _ = stage(connection, source(good))
        assert len(rows) == 5000


def test_the_name_must_be_plain(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ValueError, match="must consist of lowercase letters"):
        stage_rows(connection, SourceInput("events", (), by_day=False), [], "x; DROP TABLE y")


def reference(content: bytes, names: str) -> tuple[Rows, Rows]:
    """Read with Python's csv module, restarting at the line after a fault."""
    text = content.decode("utf-8", "surrogateescape")
    lines = list(io.StringIO(text, newline=""))[1:]
    rows: Rows = []
    malformed: Rows = []
    position = 0
    while position < len(lines):
        reader = csv.reader(lines[position:], strict=True)
        first = position
        reason = None
        try:
            record = next(reader)
            position += reader.line_num
            raw = "".join(lines[first:position]).rstrip("\r\n")
            if not record:
                continue
            if len(record) != len(names):
                reason = COUNT
            elif not raw.isascii() and any("\udc80" <= char <= "\udcff" for char in raw):
                reason = ENCODING
        except csv.Error:
            record = []
            position += 1
            raw = lines[first].rstrip("\r\n")
            reason = QUOTING
        if reason is None:
            rows.append(tuple(value or None for value in record))
        else:
            shown = raw.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            malformed.append((first + 2, shown, reason))
    return rows, malformed


PIECES = [b"x", b",", b'"', b'""', b"\n", b"\r\n", b"\r", b"\xff", "é".encode(), b"\x00"]
FIELDS = [b"x", b"", b'"x"', b'"x,y"', b'"x""y"', b'"x\ny"', b'"x\r\ny"', b'x"y', b'""', b'"x\ry"']


@st.composite
def contents(draw: st.DrawFn, names: str) -> bytes:
    """Draw a CSV file of mostly valid rows, and some records of arbitrary pieces."""
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    row = st.lists(st.sampled_from(FIELDS), min_size=len(names), max_size=len(names))
    noise = st.lists(st.sampled_from(PIECES), max_size=6)
    records = st.one_of(row.map(b",".join), row.map(b",".join), noise.map(b"".join))
    body = draw(st.lists(records, max_size=6))
    last = draw(st.sampled_from([end, end, b""]))
    return b",".join(name.encode() for name in names) + end + end.join(body) + last


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), names=st.sampled_from(["ab", "abc", "a"]))
def test_any_file_against_python(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, data: st.DataObject, names: str
) -> None:
    content = data.draw(contents(names))
    expected_rows, expected_malformed = reference(content, names)
    delimiter = data.draw(st.sampled_from(",;\t|")) if len(names) > 1 else ","
    content = content.replace(b",", delimiter.encode())
    expected_rows = [
        tuple(value and value.replace(",", delimiter) for value in row) for row in expected_rows
    ]
    expected_malformed = [
        (line, text.replace(",", delimiter), reason) for line, text, reason in expected_malformed
    ]
    rows, malformed = stage_bytes(connection, tmp_path, content, " ".join(names))
    assert Counter(rows) == Counter(expected_rows)
    assert malformed == expected_malformed


# The lines of the last value look like rows. DuckDB's parallel mode cannot detect where a record
# begins: it refuses such a file or, when skipping errors, reads the lines as rows.
VALUES = ["x,y", 'a\nb""c"",', '{""k"": ""v""}\n' * 8, "7,x8,y\n" * 400]
DAMAGE = ['x,"unterminated,y\n', "1,2\n"]


def check_big(
    connection: duckdb.DuckDBPyConnection, path: Path, value: str, size: int, damage: Sequence[str]
) -> None:
    """Stage many records with a quoted value, and with damaged lines in the middle."""
    records = size // (len(value) + 12)
    lines = [f'{number},"{value}",z\n' for number in range(records)]
    lines[records // 2 : records // 2] = damage
    path.write_text("a,b,c\n" + "".join(lines), encoding="utf-8")
    plain = value.replace('""', '"')
    total = records * (records - 1) // 2
    for threads in (1, 4):
        connection.execute(f"SET threads = {threads}")
        wanted = [RawColumn(name, required=True) for name in "abc"]
        stage_rows(connection, source(path), wanted, "raw")
        [summary] = connection.execute(
            "SELECT count(*), count(DISTINCT a), sum(a::BIGINT), min(b), max(b), min(c), max(c) "
            "FROM raw_rows"
        ).fetchall()
        assert summary == (records, records, total, plain, plain, "z", "z")
        malformed = connection.execute("SELECT raw_line || chr(10) FROM raw_malformed ORDER BY ALL")
        assert [line for [line] in malformed.fetchall()] == sorted(damage)


@pytest.mark.parametrize("value", VALUES, ids=["short", "lines", "json", "rows inside"])
def test_a_big_file_is_the_same_with_any_number_of_threads(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, value: str
) -> None:
    check_big(connection, tmp_path / "events.csv", value, 18_000_000, [])


def test_a_big_damaged_file_is_the_same_with_any_number_of_threads(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    check_big(connection, tmp_path / "events.csv", VALUES[2], 10_000_000, DAMAGE)
