"""Raw values are read as section 2 of the framework defines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
import pytest

from monstera_assets.bronze.reading import Reading
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.connection import connection_config

UTC = Reading()
NEW_YORK = Reading(timezone="America/New_York")
BERLIN = Reading(timezone="Europe/Berlin")

AT_TEN = datetime(2025, 3, 5, 10)  # noqa: DTZ001
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
SECONDS = 1_741_168_800
"""2025-03-05 10:00:00 as an epoch."""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def read(reading: Reading, dtype: str, values: Sequence[object], raw_type: str) -> list[Any]:
    """Read values after DuckDB casts them to a source column's raw type."""
    with duckdb.connect(config=dict(connection_config(threads=1))) as connection:
        connection.execute(f"CREATE TABLE raw (place BIGINT, given {raw_type})")
        connection.executemany(
            "INSERT INTO raw VALUES (?, ?)", [(n, value) for n, value in enumerate(values)]
        )
        ibis_type = {
            "VARCHAR": "string",
            "BIGINT": "int64",
            "DOUBLE": "float64",
            "DECIMAL(20, 1)": "decimal(20, 1)",
            "DATE": "date",
            "TIMESTAMP": "timestamp",
            "TIMESTAMPTZ": "timestamp('UTC')",
        }[raw_type]
        raw = ibis.table({"place": "int64", "given": ibis_type}, name="raw")
        given = reading.text(raw.given) if raw_type == "VARCHAR" else raw.given
        # The text is a column of its own, as in `validation.typed`.
        texts = raw.select("place", given=given)
        found = texts.select("place", value=_read(reading, texts.given, dtype)).order_by("place")
        return [value for _, value in connection.execute(compile_duckdb(found)).fetchall()]


def _read(reading: Reading, given: ir.Value, dtype: str) -> ir.Value:
    if dtype == "metadata":
        return reading.metadata(given)
    if dtype == "local_date":
        return reading.local_date(reading.value(given, ibis.dtype("timestamp")))
    return reading.value(given, ibis.dtype(dtype))


def check(
    reading: Reading,
    dtype: str,
    expected: Sequence[tuple[object, object]],
    raw_type: str = "VARCHAR",
) -> None:
    found = read(reading, dtype, [given for given, _ in expected], raw_type)
    assert list(zip((given for given, _ in expected), found, strict=True)) == list(expected)


# ---------------------------------------------------------------- timestamps


def test_timestamps_are_iso_8601_with_an_offset_or_none() -> None:
    check(
        UTC,
        "timestamp",
        [
            ("2025-03-05 10:00:00", AT_TEN),
            ("2025-03-05T10:00:00", AT_TEN),
            ("2025-03-05T10:00", AT_TEN),
            (" 2025-03-05 10:00:00 ", AT_TEN),
            ("2025-03-05T10:00:00Z", AT_TEN),
            ("2025-03-05 10:00:00 Z", AT_TEN),
            ("2025-03-05 10:00:00 UTC", AT_TEN),
            ("2025-03-05 10:00:00UTC", AT_TEN),
            ("2025-03-05 10:00:00 GMT", AT_TEN),
            ("2025-03-05T12:00:00+02:00", AT_TEN),
            ("2025-03-05T12:00:00+02", AT_TEN),
            ("2025-03-05T15:30:00+0530", AT_TEN),
            ("2025-03-05 02:00:00 -0800", AT_TEN),
            ("2025-03-05 02:00:00 -08:00", AT_TEN),
            ("2025-03-05 10:00:00.25", AT_TEN + timedelta(milliseconds=250)),
            ("2025-03-05 10:00:00,25", AT_TEN + timedelta(milliseconds=250)),
            ("2025-03-05 12:00:00,25 +0200", AT_TEN + timedelta(milliseconds=250)),
            ("2025-03-05 10:00:00.123456789", AT_TEN + timedelta(microseconds=123456)),
            ("2025-03-05", at("2025-03-05")),
            ("0001-01-01", at("0001-01-01")),
            ("9999-12-31 23:59:59", at("9999-12-31 23:59:59")),
        ],
    )


@pytest.mark.parametrize(
    "text",
    [
        *("yesterday", "2025-02-30", "2025-13-01 10:00:00", "2025-03-05 25:00:00"),
        *("infinity", "-infinity", "epoch", "now", "10000-01-01", "290000-01-01 00:00:00"),
        *(f"2025-06-10 12:00:00 {zone}" for zone in ("BST", "IST", "CST", "PST", "AST", "EST")),
        *("2025-06-10 12:00:00 Europe/Berlin", "2025-06-10 12:00:00 +02:00 DST"),
        *("05/03/2025", "5.3.2025", "2025-03", "10:00:00"),
    ],
)
def test_other_timestamps_are_unreadable(text: str) -> None:
    check(UTC, "timestamp", [(text, None)])


_EPOCHS: list[tuple[str, datetime]] = [
    ("100000000", EPOCH + timedelta(seconds=100_000_000)),
    (f"{SECONDS}", AT_TEN),
    ("9999999999", EPOCH + timedelta(seconds=9_999_999_999)),
    ("100000000000", EPOCH + timedelta(seconds=100_000_000)),
    (f"{SECONDS}250", AT_TEN + timedelta(milliseconds=250)),
    ("100000000000000", EPOCH + timedelta(seconds=100_000_000)),
    (f"{SECONDS}000250", AT_TEN + timedelta(microseconds=250)),
    ("100000000000000000", EPOCH + timedelta(seconds=100_000_000)),
    (f"{SECONDS}000250999", AT_TEN + timedelta(microseconds=250)),
]
"""Numbers with 9, 10, 12, 13, 15, 16, 18 and 19 digits, and their times."""

_NO_EPOCHS = (
    *("0", "1", "20250305", f"-{SECONDS}", "10000000000", "99999999999"),
    *("10000000000000", "99999999999999", "10000000000000000", "99999999999999999"),
)
"""Numbers with other numbers of digits, and a negative number."""


def test_epochs_by_their_number_of_digits() -> None:
    expected = [*_EPOCHS, *((number, None) for number in _NO_EPOCHS)]
    more = [
        *((f"{number}.0", moment) for number, moment in _EPOCHS),
        *((f"{SECONDS}.5", None), (f"{SECONDS}e3", None), (f"{SECONDS},0", None)),
        ("99999999999999999999", None),
    ]
    check(UTC, "timestamp", [*expected, *more])
    check(UTC, "timestamp", expected, "BIGINT")
    exact = [(number, moment) for number, moment in expected if len(number) < 16]
    check(UTC, "timestamp", [(float(number), moment) for number, moment in exact], "DOUBLE")
    check(UTC, "timestamp", expected, "DECIMAL(20, 1)")


def test_numbers_that_are_no_epochs() -> None:
    check(UTC, "timestamp", [(SECONDS + 0.5, None), (1e300, None)], "DOUBLE")
    assert read(UTC, "timestamp", [float("nan"), float("inf")], "DOUBLE") == [None, None]


def test_types_of_parquet() -> None:
    found = read(UTC, "timestamp", ["2025-03-05", "infinity"], "DATE")
    assert found == [at("2025-03-05"), None]
    assert read(NEW_YORK, "timestamp", ["2025-03-05"], "DATE") == [at("2025-03-05 05:00")]
    for reading in (UTC, NEW_YORK):
        found = read(reading, "timestamp", ["2025-03-05 10:00:00", "infinity"], "TIMESTAMP")
        assert found == [AT_TEN, None]
        found = read(reading, "timestamp", ["2025-03-05 12:00:00+02"], "TIMESTAMPTZ")
        assert found == [AT_TEN]


# ---------------------------------------------------------------- dates


@pytest.mark.parametrize(
    ("reading", "moments"),
    [
        # The clock goes forward on March 9 and back on November 2.
        (
            NEW_YORK,
            [
                ("2025-03-09 04:59:59", date(2025, 3, 8)),
                ("2025-03-09 05:00:00", date(2025, 3, 9)),
                ("2025-03-10 03:59:59", date(2025, 3, 9)),
                ("2025-03-10 04:00:00", date(2025, 3, 10)),
                ("2025-11-02 03:59:59", date(2025, 11, 1)),
                ("2025-11-02 04:00:00", date(2025, 11, 2)),
                ("2025-11-03 04:59:59", date(2025, 11, 2)),
                ("2025-11-03 05:00:00", date(2025, 11, 3)),
            ],
        ),
        # The clock goes forward on March 30 and back on October 26.
        (
            BERLIN,
            [
                ("2025-03-29 22:59:59", date(2025, 3, 29)),
                ("2025-03-29 23:00:00", date(2025, 3, 30)),
                ("2025-03-30 21:59:59", date(2025, 3, 30)),
                ("2025-03-30 22:00:00", date(2025, 3, 31)),
                ("2025-10-25 21:59:59", date(2025, 10, 25)),
                ("2025-10-25 22:00:00", date(2025, 10, 26)),
                ("2025-10-26 22:59:59", date(2025, 10, 26)),
                ("2025-10-26 23:00:00", date(2025, 10, 27)),
            ],
        ),
    ],
    ids=["New York", "Berlin"],
)
def test_local_dates_across_changes_of_the_clock(
    reading: Reading, moments: list[tuple[str, date]]
) -> None:
    check(reading, "local_date", moments)


@pytest.mark.parametrize(
    ("zone", "days"),
    [
        ("America/New_York", ["2025-03-09", "2025-03-10", "2025-11-02", "2025-11-03"]),
        ("Europe/Berlin", ["2025-03-30", "2025-03-31", "2025-10-26", "2025-10-27"]),
        # On these days the clock goes from 00:00 to 01:00, or from 24:00 back to 23:00.
        ("Africa/Cairo", ["2025-04-24", "2025-04-25", "2025-10-30", "2025-10-31"]),
        ("America/Sao_Paulo", ["2018-11-04", "2019-02-16", "2019-02-17"]),
        ("Pacific/Kiritimati", ["2025-03-05"]),
        ("UTC", ["2025-03-05"]),
    ],
)
def test_value_without_a_time_of_day_is_that_local_date(zone: str, days: list[str]) -> None:
    reading = Reading(timezone=zone)
    expected = [(day, date.fromisoformat(day)) for day in days]
    check(reading, "local_date", expected)
    check(reading, "date", expected)
    assert read(reading, "local_date", days, "DATE") == [day for _, day in expected]


def test_start_of_a_local_day_in_utc() -> None:
    check(
        NEW_YORK,
        "timestamp",
        [
            ("2025-03-09", at("2025-03-09 05:00:00")),
            ("2025-03-10", at("2025-03-10 04:00:00")),
            # A time of day without an offset is UTC.
            ("2025-03-09 00:00:00", at("2025-03-09 00:00:00")),
        ],
    )


def test_columns_of_dates() -> None:
    sixth = date(2025, 6, 1)
    before = date(2025, 5, 31)
    check(
        NEW_YORK,
        "date",
        [
            ("2025-06-01", sixth),
            # A midnight without an offset is the date itself.
            ("2025-06-01 00:00:00", sixth),
            ("2025-06-01T00:00", sixth),
            ("2025-06-01T00:00:00.000", sixth),
            # Other times are read in UTC, and their local date counts.
            ("2025-06-01T00:00:00Z", before),
            ("2025-06-01 00:00:00+00:00", before),
            ("2025-06-01 03:59:59", before),
            ("2025-06-01 04:00:00", sixth),
            ("2025-06-01 00:00:00-04:00", sixth),
            ("9999-12-31", date(9999, 12, 31)),
            ("2025-02-30", None),
            ("2025-02-30 00:00:00", None),
            ("next year", None),
            ("infinity", None),
        ],
    )
    assert read(NEW_YORK, "date", ["2025-06-01"], "DATE") == [sixth]
    naive = ["2025-06-01 00:00:00", "2025-06-01 03:59:59"]
    assert read(NEW_YORK, "date", naive, "TIMESTAMP") == [sixth, before]
    zoned = ["2025-06-01 00:00:00+00", "2025-06-01 04:00:00+00"]
    assert read(NEW_YORK, "date", zoned, "TIMESTAMPTZ") == [before, sixth]


# ---------------------------------------------------------------- null words and other types


def test_null_words() -> None:
    nulls = ("", "  ", "NULL", "\\N", "null", "None", "NaN", "NaT", " NULL ", "\tNone\n")
    texts = ("Null", "nan", "none", "N/A", "-", "NULLS", "0", "the word NULL")
    expected: list[tuple[object, object]] = [(word, None) for word in nulls]
    check(UTC, "string", [*expected, *((text, text) for text in texts)])
    other = Reading(null_words=("n/a", "(none)"))
    check(other, "string", [("n/a", None), (" (none) ", None), ("", None), ("NULL", "NULL")])
    check(UTC, "int64", [("NULL", None), ("7", 7)])


def test_numbers_and_flags() -> None:
    check(
        UTC,
        "int64",
        [
            ("5", 5),
            (" 5 ", 5),
            ("5.0", 5),
            ("3.7", None),
            ("many", None),
            ("1e2", 100),
            ("inf", None),
        ],
    )
    check(UTC, "int64", [(5.0, 5), (3.7, None), (float("inf"), None)], "DOUBLE")
    flags = [("true", True), ("FALSE", False), ("1", True), ("0.0", False), ("1.0", True)]
    check(UTC, "boolean", [*flags, ("perhaps", None), ("2025", None), ("NULL", None)])
    check(UTC, "boolean", [(1.0, True), (0.0, False)], "DOUBLE")


# ---------------------------------------------------------------- metadata


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": "NULL"}', {"a": None}),
        ('{"a":"\\\\N","b": " None ","c":""}', {"a": None, "b": None, "c": None}),
        ('{"a": {"b": "NaN"}}', {"a": {"b": None}}),
        ('{"a": "Null", "NULL": 1, "b": "no NULL here"}', None),
        ('{"a": "said: \\"NULL\\"", "b:": "x", "c": ":"}', None),
        ('{"by": "ada@example.com"}', {"by": "[email]"}),
        ('{"by": "ada\\u0040example.com"}', {"by": "[email]"}),
        ('{"by": "Ada <ada.l+x@mail.example.co.uk>, Ben"}', {"by": "Ada <[email]>, Ben"}),
        ('{"a@b.cd": ["x@y.zz", "e@f.gh"]}', {"[email]": ["[email]", "[email]"]}),
        ('{"by": "jörg@münchen.de"}', {"by": "[email]"}),
        ('{"by": "j\\u00f6rg@m\\u00fcnchen.de"}', {"by": "[email]"}),
        (
            '{"note": "from\\nada@example.com\\nto\\tben@example.com"}',
            {"note": "from\n[email]\nto\t[email]"},
        ),
        ('{"path": "C:\\\\users\\\\ada@example.com"}', {"path": "C:\\users\\[email]"}),
        ('{"path": "\\\\\\nada@example.com"}', {"path": "\\\n[email]"}),
        ('{"by": "\\"ada@example.com\\""}', {"by": '"[email]"'}),
        ('{"path": "\\\\uabcd@example.com"}', {"path": "\\[email]"}),
        ('{"a": "x\\\\u0040y"}', None),
        ('{"a": "p\\\\\\u0040q"}', None),
        ('{"json": "{\\"by\\": \\"ada\\\\u0040example.com\\"}"}', {"json": '{"by": "[email]"}'}),
        ('{"a": "@ada, see ada@home, 5 @ 3"}', None),
    ],
)
def test_metadata(text: str, expected: dict[str, object] | None) -> None:
    """Null words become null, and addresses become `[email]`. All other text is unchanged."""
    [found] = read(UTC, "metadata", [text], "VARCHAR")
    assert json.loads(found) == (expected or json.loads(text))
