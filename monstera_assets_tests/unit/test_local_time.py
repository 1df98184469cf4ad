"""Local dates and midnights agree with values computed by hand."""

from __future__ import annotations

from datetime import date, datetime

import ibis
import pytest

from monstera_assets.bronze.local_time import local_date, local_midnight
from monstera_assets.settings import SettingsError, load_settings
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse

MOMENTS = ibis.table({"moment": "timestamp"}, name="moments")
DAYS = ibis.table({"day": "date"}, name="days")

LOS_ANGELES, BERLIN = "America/Los_Angeles", "Europe/Berlin"
KOLKATA, HAVANA, SAO_PAULO = "Asia/Kolkata", "America/Havana", "America/Sao_Paulo"


def computed(table: ibis.Table, value: ibis.Value, given: str) -> object:
    [(result,)] = MemoryWarehouse([]).rows(
        f"WITH {table.get_name()} AS (SELECT {given} AS {table.columns[0]})"
        f" {compile_duckdb(table.select(result=value))}"
    )
    return result


@pytest.mark.parametrize(
    ("zone", "moment", "day"),
    [
        ("UTC", "2025-03-09 23:59:59.999999", date(2025, 3, 9)),
        # Clocks in Los Angeles go from UTC-8 to UTC-7 on 9 March 2025 and back on 2 November.
        (LOS_ANGELES, "2025-03-09 07:59:59", date(2025, 3, 8)),
        (LOS_ANGELES, "2025-03-09 08:00:00", date(2025, 3, 9)),
        (LOS_ANGELES, "2025-03-10 06:59:59", date(2025, 3, 9)),
        (LOS_ANGELES, "2025-03-10 07:00:00", date(2025, 3, 10)),
        (LOS_ANGELES, "2025-11-02 06:59:59", date(2025, 11, 1)),
        (LOS_ANGELES, "2025-11-03 07:59:59", date(2025, 11, 2)),
        (LOS_ANGELES, "2025-11-03 08:00:00", date(2025, 11, 3)),
        (KOLKATA, "2025-06-01 18:29:59", date(2025, 6, 1)),
        (KOLKATA, "2025-06-01 18:30:00", date(2025, 6, 2)),
        (BERLIN, "1969-12-31 23:30:00", date(1970, 1, 1)),
    ],
)
def test_a_moment_belongs_to_the_local_day(zone: str, moment: str, day: date) -> None:
    value = local_date(MOMENTS.moment, zone)
    assert computed(MOMENTS, value, f"TIMESTAMP '{moment}'") == day


@pytest.mark.parametrize(
    ("zone", "day", "begins"),
    [
        ("UTC", "2025-03-09", "2025-03-09 00:00"),
        (LOS_ANGELES, "2025-03-09", "2025-03-09 08:00"),
        (LOS_ANGELES, "2025-03-10", "2025-03-10 07:00"),
        (BERLIN, "2025-10-26", "2025-10-25 22:00"),
        (BERLIN, "2025-10-27", "2025-10-26 23:00"),
        (KOLKATA, "2025-06-02", "2025-06-01 18:30"),
        # At 01:00 the clocks go back to 00:00. The day begins at the first midnight.
        (HAVANA, "2025-11-02", "2025-11-02 04:00"),
        # At 00:00 the clocks go forward to 01:00.
        (SAO_PAULO, "2018-11-04", "2018-11-04 03:00"),
    ],
)
def test_a_day_begins_at_the_first_local_moment(zone: str, day: str, begins: str) -> None:
    value = local_midnight(DAYS.day, zone)
    assert computed(DAYS, value, f"DATE '{day}'") == datetime.fromisoformat(begins)


def test_a_day_ends_when_the_next_one_begins() -> None:
    zones = (LOS_ANGELES, BERLIN, KOLKATA, HAVANA, SAO_PAULO, "Australia/Lord_Howe")
    days = DAYS.select(
        **{
            f"{zone} {when}": local_date(
                local_midnight(DAYS.day, zone) - ibis.interval(microseconds=before), zone
            ).delta(DAYS.day, unit="day")
            for zone in zones
            for when, before in (("first", 0), ("before", 1))
        }
    )
    rows = MemoryWarehouse([]).rows(
        "WITH days AS (SELECT unnest(generate_series(DATE '2015-01-01', DATE '2026-12-31',"
        f" INTERVAL 1 DAY))::DATE AS day) SELECT DISTINCT * FROM ({compile_duckdb(days)})"
    )
    assert rows == [(0, -1) * len(zones)]


def test_utc_needs_no_conversion() -> None:
    assert compile_duckdb(MOMENTS.select(day=local_date(MOMENTS.moment, "UTC"))) == compile_duckdb(
        MOMENTS.select(day=MOMENTS.moment.date())
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("PST", "timezone .*: is not an IANA time zone such as America/New_York"),
        ("europe/berlin", "Did you mean Europe/Berlin"),
        ("America", "is not an IANA time zone"),
        ("../UTC", "is not an IANA time zone"),
        ("localtime", "is not an IANA time zone"),
        ("", "is not an IANA time zone"),
    ],
)
def test_only_iana_names_are_time_zones(name: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(timezone=name)
    assert load_settings(timezone=KOLKATA).timezone == KOLKATA
