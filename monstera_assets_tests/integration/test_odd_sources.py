"""Odd sources: which rows are accepted, which are rejected and why, and what stops a run.

The first part runs the whole graph on small sources with the oddities on which runs have failed. The
second part loads inputs that people have reported in public trackers. Each input names the report;
wording and data are our own. Timestamps without another date are in June 2025.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monstera_assets.operations.runs import failures_of
from monstera_assets.settings import Settings
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import Outcome, monstera, query
from monstera_assets_tests.helpers.shared import Shared
from monstera_assets_tests.helpers.source_files import Texts, write_rows, write_source
from monstera_assets_tests.integration.example_runs import ENTITIES, EVENTS, Graph
from monstera_assets_tests.oracle.source import load

at = datetime
FIRST, LAST = date(2025, 6, 1), date(2025, 6, 30)
DAY = date(2025, 6, 20)
"""The day of a reported event that does not specify a different one."""

ACCOUNT = {
    "account_id": "acc",
    "account_name": "Account",
    "subscription_tier": "starter",
    "total_seats": "5",
    "account_created_at": "2025-01-01 10:00:00",
    "first_paid_at": "2025-01-02",
    "contract_renewal_date": "2026-01-02",
    "monthly_recurring_revenue": "90.50",
    "is_trial": "false",
}
USER = {
    "user_id": "ada",
    "email": "ada@example.com",
    "account_id": "acc",
    "user_created_at": "2025-06-01 08:00:00",
    "country": "US",
    "plan_type": "paid",
    "acquisition_source": "organic",
}
FAMILY = {
    "product_id": "media",
    "product_name": "Media",
    "product_family_id": "media",
    "tier": "family",
    "parent_product_id": "",
    "is_active": "true",
    "created_at": "2024-01-01",
    "product_owner": "team",
    "activation_event_types": "",
    "qualifying_event_types": "",
    "active_days": "",
    "dormant_days": "",
}
VIDEO = {
    **FAMILY,
    "product_id": "video",
    "product_name": "Video Studio",
    "tier": "product",
    "parent_product_id": "media",
    "activation_event_types": "video_created",
    "qualifying_event_types": "video_created|video_edited",
}
EVENT = {
    "event_id": "e",
    "entity_id": "ada",
    "entity_type": "user",
    "event_type": "video_created",
    "timestamp": f"{DAY} 10:00:00",
    "location": "web_app",
    "session_id": "",
    "product_id": "video",
    "is_qualifying_event": "true",
    "is_activation_event": "true",
    "metadata": "",
    "received_at": "",
}
FACT = {
    **EVENT,
    "event_id": "f",
    "entity_id": "acc",
    "entity_type": "account",
    "event_type": "seats_changed",
    "timestamp": "2025-06-03 10:00:00",
    "location": "api",
    "product_id": "",
    "is_qualifying_event": "false",
    "is_activation_event": "false",
    "metadata": '{"total_seats": 7}',
}
ROWS: Mapping[str, Texts] = {
    "accounts": ACCOUNT,
    "users": USER,
    "product_catalog": VIDEO,
    "subscription_events": FACT,
    "events": EVENT,
}
KEYS = {
    "accounts": "account_id",
    "users": "user_id",
    "product_catalog": "product_id",
    "subscription_events": "event_id",
    "events": "event_id",
}


def events_of(first: date, days: int, **values: str) -> list[Texts]:
    """Return one event per day."""
    return [
        {
            **EVENT,
            "event_id": f"{values.get('entity_id', 'e')}_{number}",
            "timestamp": f"{first + timedelta(days=number)} 10:00:00",
            **values,
        }
        for number in range(days)
    ]


def as_parquet(path: Path, rows: Sequence[Texts], **columns: str) -> None:
    """Write rows as Parquet, with text columns except those given as SQL expressions."""
    texts = write_rows(path.with_suffix(".texts"), rows)
    replaced = ", ".join(f"{value} AS {column}" for column, value in columns.items())
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT *{f' REPLACE ({replaced})' if columns else ''}"
            f" FROM read_csv('{texts}', all_varchar = true)) TO '{path}' (FORMAT parquet)"
        )
    texts.unlink()


# ---------------------------------------------------------------- whole runs

NAMES = ("Import from CSV", "iOS App", "Éditeur", "Reports (Beta)", "動画スタジオ")
NODES = ("csv", "all", "none", "VID-1", "動画")
"""The ids of the products with these names."""
RUN_DAYS = 9


def write_faults(folder: Path) -> None:
    """Write a source with all content faults that must not stop the graph."""
    nodes = [
        {
            **VIDEO,
            "product_id": node,
            "product_name": name,
            "activation_event_types": "",
            "qualifying_event_types": "draft_created",
        }
        for node, name in zip(NODES, NAMES, strict=True)
    ]
    users = [USER, *({**USER, "user_id": name} for name in ("101", "U_Case", "00042", "of_late"))]
    last = FIRST + timedelta(days=RUN_DAYS - 1)
    noon = f"{last} 12:00:00"
    seconds = int((at.combine(last, at.min.time()) - at(1970, 1, 1)).total_seconds()) + 12 * 3600

    def event(event_id: str, **values: str) -> Texts:
        return {**EVENT, "event_id": event_id, "timestamp": noon, **values}

    odd = [
        *(
            event(
                f"of_{node}",
                product_id=node,
                event_type="draft_created",
                is_activation_event="false",
            )
            for node in NODES
        ),
        event("no_product", product_id=""),
        event("flags", event_type="video_edited", is_qualifying_event="false"),
        event("unlisted", event_type="video_shared", is_activation_event="false"),
        event("email", metadata='{"invitee": "juniper@example.com"}'),
        event("old", timestamp="2000-01-01 00:00:13"),
        event("snowflake", timestamp=f"{noon}.000 -0800"),
        event("space_z", timestamp=f"{noon}.000 Z"),
        event("gmt", timestamp=f"{noon} GMT"),
        event("seconds", timestamp=f"{seconds}"),
        event("milliseconds", timestamp=f"{seconds}000.0"),
        event("nanoseconds", timestamp=f"{seconds}123456789"),
        event("bst", timestamp=f"{noon} BST"),
        event("pst", timestamp=f"{noon} PST"),
        event("float_id", entity_id="101.0"),
        event("lower_id", entity_id="u_case"),
        event("no_zeros", entity_id="42"),
        event("of_zero", entity_id="zero"),
        *(
            event(f"null_{number}", session_id=word, metadata=word, product_id=word)
            for number, word in enumerate(("NULL", r"\N", "null", "None", "NaN"))
        ),
    ]
    write_source(
        folder,
        {
            "accounts": [
                {**ACCOUNT, "account_created_at": "1998-05-01"},
                {**ACCOUNT, "account_id": "free", "subscription_tier": "free"},
                {**ACCOUNT, "account_id": "pro", "subscription_tier": "Professional"},
                {**ACCOUNT, "account_id": "no_seats", "total_seats": "NULL"},
                {**ACCOUNT, "account_id": "late", "account_created_at": "2025-06-06"},
            ],
            "users": [
                *users[:-1],
                {**users[-1], "account_id": "late"},
                {**USER, "user_id": "of_free", "account_id": "free"},
                {**USER, "user_id": "of_pro", "account_id": "pro"},
                {**USER, "user_id": "zero", "user_created_at": "0001-01-01T00:00:00Z"},
            ],
            "product_catalog": [FAMILY, VIDEO, *nodes],
            "subscription_events": [FACT],
            "events": [
                *events_of(FIRST, RUN_DAYS),
                *events_of(FIRST, RUN_DAYS, entity_id="of_late"),
                *events_of(FIRST, RUN_DAYS, entity_id="of_free"),
                *events_of(FIRST, RUN_DAYS, entity_id="of_pro"),
                *odd,
            ],
        },
    )


@pytest.fixture(scope="module")
def faults_run(shared: Shared) -> Outcome:
    """Run the whole graph on a source with content faults."""

    def make(folder: Path) -> Outcome:
        write_faults(folder / "source")
        return monstera(folder, "run", source=folder / "source")

    return shared.once("odd_faults_run", make)


def pairs(database: Path, statement: str) -> dict[object, object]:
    """Return a query's second column, keyed by its first."""
    return {key: value for key, value in query(database, statement)}  # noqa: C416


def rejections(database: Path, table: str, key: str) -> dict[str, tuple[str, str | None]]:
    """Return the reason and detail of each rejected row in a table, by id."""
    return {
        json.loads(str(raw_row))[key]: (str(reason), None if detail is None else str(detail))
        for raw_row, reason, detail in query(
            database, f"SELECT raw_row, rejection_reason, rejection_detail FROM bronze.{table}"
        )
    }


def accepted_ids(database: Path) -> set[object]:
    return {row for (row,) in query(database, "SELECT event_id FROM bronze.bronze_events")}


def test_faults_of_content_do_not_stop_the_graph(faults_run: Outcome) -> None:
    assert faults_run.code == 0, faults_run.out + faults_run.err
    assert "Run: succeeded" in faults_run.out
    warnings = [line for line in faults_run.out.splitlines() if line.startswith("  WARN")]
    assert any("bronze_source_faults" in line for line in warnings)


def test_the_range_is_that_of_the_accepted_events(faults_run: Outcome) -> None:
    """An account from 1998 and a rejected event from 2000 do not extend the range."""
    last = FIRST + timedelta(days=RUN_DAYS - 1)
    assert f": {FIRST} to {last} ({RUN_DAYS} days)" in faults_run.out.splitlines()[0]
    assert query(
        faults_run.database, "SELECT min(snapshot_date) FROM silver.silver_account_state_history"
    ) == [(FIRST,)]


def test_names_and_ids_are_free(faults_run: Outcome) -> None:
    names = pairs(
        faults_run.database, "SELECT product_id, product_name FROM bronze.bronze_product_catalog"
    )
    assert dict(zip(NODES, NAMES, strict=True)).items() <= names.items()
    used = query(
        faults_run.database,
        "SELECT product_id FROM gold.gold_product_adoption WHERE users_tried_to_date > 0 ORDER BY ALL",
    )
    assert {*NODES, "video"} <= {product for (product,) in used}


@pytest.mark.parametrize(
    ("event_id", "shown"),
    [
        ("no_product", (None, True, True)),
        ("flags", ("video", True, False)),
        ("unlisted", ("video", True, False)),
        ("null_0", (None, True, True)),
    ],
)
def test_mended_events(faults_run: Outcome, event_id: str, shown: tuple[object, ...]) -> None:
    assert query(
        faults_run.database,
        "SELECT product_id, is_qualifying_event, is_activation_event FROM bronze.bronze_events"
        f" WHERE event_id = '{event_id}'",
    ) == [shown]


def test_faults_are_counted(faults_run: Outcome) -> None:
    faults = {
        (str(name), str(fault)): int(str(rows))
        for name, fault, rows in query(
            faults_run.database,
            "SELECT input_name, fault, sum(rows) FROM bronze.bronze_source_faults GROUP BY ALL",
        )
    }
    assert faults == {
        ("accounts", "unknown_subscription_tier"): 2,
        ("events", "event_without_product"): 1 + 5,
        ("events", "flag_differs_from_catalog"): 1,
        ("events", "qualifying_type_in_no_list"): 1,
        ("events", "email_in_metadata"): 1,
    }


def test_an_address_in_metadata_is_replaced(faults_run: Outcome) -> None:
    [(metadata,)] = query(
        faults_run.database, "SELECT metadata FROM bronze.bronze_events WHERE event_id = 'email'"
    )
    assert json.loads(str(metadata)) == {"invitee": "[email]"}


def test_forms_of_timestamps(faults_run: Outcome) -> None:
    noon = at.combine(FIRST + timedelta(days=RUN_DAYS - 1), at.min.time()) + timedelta(hours=12)
    expected = {
        **dict.fromkeys(("space_z", "gmt", "seconds", "milliseconds"), noon),
        "nanoseconds": noon + timedelta(microseconds=123456),
    }
    found = pairs(faults_run.database, "SELECT event_id, event_timestamp FROM bronze.bronze_events")
    assert expected.items() <= found.items()
    assert found["snowflake"] == noon + timedelta(hours=8)


def test_null_words_are_nulls(faults_run: Outcome) -> None:
    found = query(
        faults_run.database,
        "SELECT DISTINCT session_id, metadata, product_id FROM bronze.bronze_events"
        " WHERE starts_with(event_id, 'null_')",
    )
    assert found == [(None, None, None)]
    assert query(
        faults_run.database,
        "SELECT total_seats FROM bronze.bronze_accounts WHERE account_id = 'no_seats'",
    ) == [(None,)]


def test_tiers_outside_of_the_list_are_kept(faults_run: Outcome) -> None:
    found = query(
        faults_run.database,
        "SELECT account_id, subscription_tier FROM bronze.bronze_accounts"
        " WHERE account_id IN ('free', 'pro') ORDER BY ALL",
    )
    assert found == [("free", "free"), ("pro", "Professional")]
    assert {"of_free_0", "of_pro_0"} <= accepted_ids(faults_run.database)


def test_rejected_events_say_what_would_help(faults_run: Outcome) -> None:
    early = "before_earliest_event_date"
    entities = rejections(faults_run.database, "bronze_rejected_entities", "user_id")
    assert entities == {"zero": (early, None)}
    assert rejections(faults_run.database, "bronze_rejected_events", "event_id") == {
        "old": ("before_user_creation", None),
        "bst": ("unreadable_timestamp", None),
        "pst": ("unreadable_timestamp", None),
        "float_id": ("unknown_user", "101"),
        "lower_id": ("unknown_user", "U_Case"),
        "no_zeros": ("unknown_user", None),
        "of_zero": ("user_rejected", early),
    }


def test_use_before_the_account_exists_is_no_use_of_the_account(faults_run: Outcome) -> None:
    found = query(
        faults_run.database,
        "SELECT min(snapshot_date) FROM silver.silver_account_state_history"
        " WHERE account_id = 'late'",
    )
    assert found == [(date(2025, 6, 6),)]
    assert "of_late_0" in accepted_ids(faults_run.database)


@pytest.mark.slow
def test_epochs_of_a_bigint_column_and_headers_of_other_tools(tmp_path: Path) -> None:
    """Events with epoch milliseconds, an uppercase header, semicolons and tabs."""
    folder = tmp_path / "source"
    write_source(folder, {"product_catalog": [FAMILY, VIDEO]})
    (folder / "accounts.csv").write_text(
        ";".join(ACCOUNT) + "\n" + ";".join(ACCOUNT.values()) + "\n", encoding="utf-8"
    )
    (folder / "users.csv").write_text(
        "\t".join(USER).upper() + "\n" + "\t".join(USER.values()) + "\n", encoding="utf-8"
    )
    as_parquet(
        folder / "events.parquet",
        events_of(FIRST, RUN_DAYS),
        timestamp="epoch_ms(timestamp::TIMESTAMP)",
    )
    write_source(folder, {"events_2025_07": events_of(date(2025, 7, 1), 1)})
    run = monstera(tmp_path, "run", source=folder)
    assert run.code == 0, run.out + run.err
    assert "events_2025_07.csv" in run.out + run.err  # a file that is not an input
    assert query(
        run.database, "SELECT count(*), min(event_timestamp) FROM bronze.bronze_events"
    ) == [(RUN_DAYS, at(2025, 6, 1, 10))]


def test_ids_of_all_events_in_another_case_fail_the_run(tmp_path: Path) -> None:
    write_source(
        tmp_path / "source",
        {
            "accounts": [ACCOUNT],
            "users": [USER],
            "product_catalog": [FAMILY, VIDEO],
            "events": events_of(FIRST, RUN_DAYS, entity_id="ADA"),
        },
    )
    run = monstera(tmp_path, "run", source=tmp_path / "source")
    assert run.code != 0
    assert "Run: succeeded" not in run.out
    for part in ("unknown_user", "ADA", "ada"):
        assert part in run.out + run.err


def test_a_delta_table_is_recognized(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    write_source(folder, {"accounts": [ACCOUNT], "users": [USER], "product_catalog": [VIDEO]})
    for name in ("part-0000", "part-0001"):
        (folder / "events").mkdir(exist_ok=True)
        as_parquet(folder / "events" / f"{name}.snappy.parquet", events_of(FIRST, RUN_DAYS))
    actions = ({"add": {"path": "part-0000.snappy.parquet"}}, {"remove": {"path": "part-0000"}})
    log = folder / "events" / "_delta_log"
    log.mkdir()
    (log / "00000000000000000000.json").write_text(
        "\n".join(json.dumps(action) for action in actions), encoding="utf-8"
    )
    run = monstera(tmp_path, "run", source=folder)
    assert run.code == 2
    [line] = run.err.splitlines()
    assert "Delta" in line
    assert "events" in line


# ---------------------------------------------------------------- reported rows


@dataclass(frozen=True)
class Reported:
    """A reported row and its expected result.

    Attributes:
        name: what is odd.
        report: address of the report.
        input_name: the input of the row.
        values: the values in which the row differs from a valid one.
        reason: the reason for rejecting the row; None if it is accepted.
        detail: the detail of the reason.
        shows: values of the accepted row by column.
        faults: the faults of the accepted row.
    """

    name: str
    report: str
    values: Mapping[str, str]
    input_name: str = "events"
    reason: str | None = None
    detail: str | None = None
    shows: Mapping[str, object] = field(default_factory=dict)
    faults: Sequence[str] = ()


GITHUB = "https://github.com"
REPORTED = [
    Reported(
        "zeros in front of an id are lost",
        f"{GITHUB}/wireservice/csvkit/issues/977",
        {"entity_id": "42"},
        reason="unknown_user",
    ),
    Reported(
        "a column of whole numbers with a gap becomes floating point",
        f"{GITHUB}/pandas-dev/pandas/issues/20717",
        {"entity_id": "101.0"},
        reason="unknown_user",
        detail="101",
    ),
    Reported(
        "a connector reads a text of digits as a number and cuts it",
        f"{GITHUB}/airbytehq/airbyte/issues/25350",
        {"entity_id": "8.215806936390611e+17"},
        reason="unknown_user",
    ),
    Reported(
        "a spreadsheet shows an id with an E as a power of ten",
        f"{GITHUB}/bloom-housing/bloom/issues/4458",
        {"entity_id": "2.19E+26"},
        reason="unknown_user",
    ),
    Reported(
        "an id in decomposed Unicode",
        f"{GITHUB}/wasp-lang/wasp/issues/4698",
        {"entity_id": "ju\u0308rgen"},
        reason="unknown_user",
    ),
    Reported(
        "an id of spaces",
        f"{GITHUB}/PostHog/posthog/pull/48888",
        {"entity_id": "  "},
        reason="missing_entity_id",
    ),
    Reported(
        "null as a text in place of an id",
        f"{GITHUB}/PostHog/posthog.com/pull/2001",
        {"entity_id": "null"},
        reason="missing_entity_id",
    ),
    Reported(
        "ids that differ in case only",
        f"{GITHUB}/azavea/nyc-trees/issues/945",
        {"entity_id": "Ada"},
        reason="unknown_user",
        detail="ada",
    ),
    Reported(
        "a zero date of MySQL",
        f"{GITHUB}/datazip-inc/olake/issues/570",
        {"timestamp": "0000-00-00 00:00:00"},
        reason="unreadable_timestamp",
    ),
    Reported(
        "the 31st of February",
        f"{GITHUB}/datazip-inc/olake/pull/592",
        {"timestamp": "2025-02-31 10:00:00"},
        reason="unreadable_timestamp",
    ),
    Reported(
        "a zero date as a signup",
        f"{GITHUB}/airbytehq/airbyte/issues/4815",
        {"user_created_at": "0000-00-00"},
        input_name="users",
        reason="unreadable_user_created_at",
    ),
    Reported(
        "a signup in the year 7",
        f"{GITHUB}/airbytehq/airbyte/issues/16159",
        {"user_created_at": "0007-01-05"},
        input_name="users",
        reason="before_earliest_event_date",
    ),
    Reported(
        "IST of India, Ireland and Israel",
        f"{GITHUB}/wanasit/chrono/issues/254",
        {"timestamp": f"{DAY} 14:00:00 IST"},
        reason="unreadable_timestamp",
    ),
    Reported(
        "BST of Britain and Bangladesh",
        f"{GITHUB}/tkuchiki/go-timezone/issues/10",
        {"timestamp": f"{DAY} 14:00:00 BST"},
        reason="unreadable_timestamp",
    ),
    Reported(
        "a time as in the header of a mail",
        f"{GITHUB}/moment/moment-timezone/issues/445",
        {"timestamp": "Fri, 20 Jun 2025 11:38:14 PST"},
        reason="unreadable_timestamp",
    ),
    Reported(
        "an offset without a colon",
        f"{GITHUB}/Kotlin/kotlinx-datetime/issues/158",
        {"timestamp": f"{DAY}T22:00:00.000+0100"},
        shows={"event_timestamp": at(2025, 6, 20, 21)},
    ),
    Reported(
        "an offset of hours",
        f"{GITHUB}/VBA-tools/VBA-Web/issues/421",
        {"timestamp": f"{DAY}T07:06:51.000-05"},
        shows={"event_timestamp": at(2025, 6, 20, 12, 6, 51)},
    ),
    Reported(
        "a comma before the fraction of a second",
        f"{GITHUB}/moment/moment/issues/2580",
        {"timestamp": f"{DAY}T12:10:51,555"},
        shows={"event_timestamp": at(2025, 6, 20, 12, 10, 51, 555000)},
    ),
    Reported(
        "seven digits of a fraction",
        f"{GITHUB}/es-shims/es5-shim/pull/147",
        {"timestamp": f"{DAY}T10:33:01.4300913+02:00"},
        shows={"event_timestamp": at(2025, 6, 20, 8, 33, 1, 430091)},
    ),
    Reported(
        "seconds of the epoch",
        f"{GITHUB}/nmn/react-timeago/issues/100",
        {"timestamp": "1750413600"},
        shows={"event_timestamp": at(2025, 6, 20, 10)},
    ),
    Reported(
        "milliseconds of the epoch",
        f"{GITHUB}/faros-ai/faros-events-cli/pull/47",
        {"timestamp": "1750413600000"},
        shows={"event_timestamp": at(2025, 6, 20, 10)},
    ),
    Reported(
        "fourteen digits of the epoch",
        f"{GITHUB}/globalbioticinteractions/globalbioticinteractions/issues/287",
        {"timestamp": "17504136000000"},
        reason="unreadable_timestamp",
    ),
    Reported(
        "a device with the clock of 1980",
        f"{GITHUB}/elastic/beats/issues/5587",
        {"timestamp": "1980-02-29T18:16:01.000Z"},
        reason="before_earliest_event_date",
    ),
    Reported(
        "an event dated after it was sent",
        f"{GITHUB}/segmentio/analytics-react-native/issues/977",
        {"timestamp": f"{DAY}T11:36:12.799Z", "received_at": "2025-06-06T00:08:54.551Z"},
        shows={"received_at": at(2025, 6, 6, 0, 8, 54, 551000)},
    ),
    Reported(
        "months before days",
        "https://www.macroption.com/excel-reverse-date/",
        {"timestamp": "6/20/2025 10:00"},
        reason="unreadable_timestamp",
    ),
    Reported(
        "days since 1900 of a spreadsheet",
        "http://www.daytimesoftware.com/differencia/help/pages/excelDates.html",
        {"timestamp": "45828.416666"},
        reason="unreadable_timestamp",
    ),
    Reported(
        "None in a file of several words for null",
        f"{GITHUB}/duckdb/duckdb/pull/11616",
        {"product_id": "None", "event_type": "user_logged_in", "is_activation_event": "false"},
        shows={"product_id": None},
        faults=["qualifying_type_in_no_list"],
    ),
    Reported(
        "NULL in a column of numbers",
        f"{GITHUB}/dbeaver/dbeaver/issues/4755",
        {"total_seats": "NULL"},
        input_name="accounts",
        shows={"total_seats": None},
    ),
    Reported(
        r"\N, as databases write a null",
        f"{GITHUB}/cockroachdb/cockroach/issues/95906",
        {"contract_renewal_date": r"\N"},
        input_name="accounts",
        shows={"contract_renewal_date": None},
    ),
    Reported(
        "a contract until the end of time",
        f"{GITHUB}/apache/datafusion/issues/1360",
        {"contract_renewal_date": "9999-12-31"},
        input_name="accounts",
        shows={"contract_renewal_date": date(9999, 12, 31)},
    ),
    Reported(
        "an amount with a decimal comma and a currency",
        f"{GITHUB}/firefly-iii/firefly-iii/issues/4106",
        {"monthly_recurring_revenue": "4.711,98 €"},
        input_name="accounts",
        shows={"monthly_recurring_revenue": Decimal(0)},
        faults=["unreadable_monthly_recurring_revenue"],
    ),
    Reported(
        "an amount with thousands",
        f"{GITHUB}/Automattic/woocommerce-payments/issues/10268",
        {"monthly_recurring_revenue": "1,234.50"},
        input_name="accounts",
        shows={"monthly_recurring_revenue": Decimal(0)},
        faults=["unreadable_monthly_recurring_revenue"],
    ),
    Reported(
        "flags of PostgreSQL",
        f"{GITHUB}/augerai/a2ml/issues/269",
        {"is_qualifying_event": "t", "is_activation_event": "t"},
        shows={"is_qualifying_event": True, "is_activation_event": True},
    ),
    Reported(
        "flags in several cases",
        f"{GITHUB}/CartoDB/cartodb/issues/1116",
        {"is_qualifying_event": "TRUE", "is_activation_event": "1"},
        shows={"is_qualifying_event": True, "is_activation_event": True},
    ),
    Reported(
        "a flag of 2",
        f"{GITHUB}/jitsucom/jitsu/issues/1194",
        {"is_qualifying_event": "2"},
        shows={"is_qualifying_event": True},
        faults=["unreadable_is_qualifying_event"],
    ),
    Reported(
        "an event with spaces in its name",
        f"{GITHUB}/Velir/dbt-ga4/issues/164",
        {"event_type": "Sign Up Completed"},
        reason="invalid_event_type",
    ),
    Reported(
        "an event with a bar in its name",
        f"{GITHUB}/segment-boneyard/segment-docs/issues/2745",
        {"event_type": "Home | Nav"},
        reason="invalid_event_type",
    ),
    Reported(
        "an event that a tracker captures by itself",
        f"{GITHUB}/PostHog/posthog/issues/19250",
        {"event_type": "$pageleave"},
        reason="invalid_event_type",
    ),
    Reported(
        "an event with capitals and a slash in its name",
        f"{GITHUB}/Automattic/wp-calypso/pull/114344",
        {"event_type": "StatsModule/city_upgrade_clicked"},
        reason="invalid_event_type",
    ),
    Reported(
        "a header in the middle of merged files",
        f"{GITHUB}/whitfin/s3-concat/issues/3",
        {column: column for column in EVENT if column != "event_id"},
        reason="unknown_entity_type",
    ),
    Reported(
        "properties that are a text of JSON in JSON",
        f"{GITHUB}/MicrosoftDocs/appcenter-docs/issues/190",
        {"metadata": json.dumps('{"extra_00": "5bca"}')},
        reason="unreadable_metadata",
    ),
    Reported(
        "NaN in JSON",
        f"{GITHUB}/apify/apify-client-python/pull/87",
        {"metadata": '{"amount": NaN}'},
        reason="unreadable_metadata",
    ),
    Reported(
        "infinity in JSON",
        f"{GITHUB}/getsentry/sentry/issues/1979",
        {"metadata": '{"amount": -Infinity}'},
        reason="unreadable_metadata",
    ),
    Reported(
        "quotes that are not escaped in JSON",
        f"{GITHUB}/getodk/getodk/issues/953",
        {"metadata": '{"note": "Something is 12" wide."}'},
        reason="unreadable_metadata",
    ),
    Reported(
        "half of a surrogate pair in JSON",
        f"{GITHUB}/kodustech/kodus-ai/pull/1683",
        {"metadata": '{"note": "\\ud83e"}'},
        reason="unreadable_metadata",
    ),
    Reported(
        "the character NUL in JSON",
        f"{GITHUB}/matrix-org/synapse/issues/9341",
        {"metadata": '{"note": "M41\\u0000x"}'},
        shows={"metadata": {"note": "M41\0x"}},
    ),
    Reported(
        "an address in the query of a URL",
        f"{GITHUB}/Automattic/wp-calypso/issues/16318",
        {"metadata": '{"url": "https://app.example/invite?email=ash@example.com&t=1"}'},
        shows={"metadata": {"url": "https://app.example/invite?email=[email]&t=1"}},
        faults=["email_in_metadata"],
    ),
    Reported(
        "an address among the properties of a customer",
        f"{GITHUB}/celadonworks/pixiehog-app/issues/38",
        {"metadata": '{"customer": null, "profile": {"mail": ["ash@shop.example"]}}'},
        shows={"metadata": {"customer": None, "profile": {"mail": ["[email]"]}}},
        faults=["email_in_metadata"],
    ),
    Reported(
        "a line end in a quoted value",
        f"{GITHUB}/pingcap-inc/tidb2dw/issues/88",
        {"session_id": "Data\nWith\r\nNewline"},
        shows={"session_id": "Data\nWith\r\nNewline"},
    ),
]
"""The reported rows. Each row's id is derived from its position."""


def reported_id(number: int) -> str:
    return f"reported {number}"


def reported_rows(input_name: str) -> list[Texts]:
    key = KEYS[input_name]
    return [
        {**ROWS[input_name], key: reported_id(number), **row.values}
        for number, row in enumerate(REPORTED)
        if row.input_name == input_name
    ]


@dataclass(frozen=True)
class Loaded:
    """The loaded rows by input and id: accepted rows with values, rejected rows with reasons."""

    accepted: Mapping[tuple[str, str], Mapping[str, Any]]
    rejected: Mapping[tuple[str, str], tuple[str, str | None]]
    faults: Mapping[tuple[str, str], int]


def load_bronze(
    folder: Path, source: Path, first: date = FIRST, **settings: object
) -> tuple[list[str], Path]:
    """Load a source, and return the failure messages and the warehouse."""
    graph = Graph(source, folder / "warehouse.duckdb", folder / "home", first)
    graph.__dict__["settings"] = Settings.model_validate(
        {
            "source": source,
            "database": graph.database,
            "start_date": first,
            "threads": 2,
            **settings,
        }
    )
    with graph.instance:
        result = graph.run(
            DateWindow(first, LAST), only=(*ENTITIES, *EVENTS, "bronze_source_faults")
        )
    return [str(failure) for failure in failures_of(result.all_events)], graph.database


def loaded_rows(database: Path) -> Loaded:
    """Return the rows of the bronze tables."""
    accepted: dict[tuple[str, str], Mapping[str, Any]] = {}
    rejected: dict[tuple[str, str], tuple[str, str | None]] = {}
    with duckdb.connect(str(database), read_only=True) as connection:
        for name, key in KEYS.items():
            found = connection.execute(f"FROM bronze.bronze_{name}")
            columns = [column for column, *_ in found.description or []]
            for values in found.fetchall():
                row = dict(zip(columns, values, strict=True))
                accepted[name, row[key]] = row
        shown = "rejection_reason, rejection_detail, raw_row"
        for name, reason, detail, raw_row in connection.execute(
            f"SELECT input_name, {shown} FROM bronze.bronze_rejected_entities"
            f" UNION ALL SELECT 'events', {shown} FROM bronze.bronze_rejected_events"
        ).fetchall():
            rejected[name, json.loads(raw_row)[KEYS[name]]] = reason, detail
        faults = {
            (name, fault): rows
            for name, fault, rows in connection.execute(
                "SELECT input_name, fault, sum(rows)::BIGINT FROM bronze.bronze_source_faults"
                " GROUP BY ALL"
            ).fetchall()
        }
    return Loaded(accepted, rejected, faults)


def write_reported(folder: Path) -> Path:
    """Write a source with all reported rows and enough valid rows."""
    people = ("101", "00042", "821580693639061174", "219E01BE", "j\u00fcrgen")
    return write_source(
        folder,
        {
            "accounts": [ACCOUNT, *reported_rows("accounts")],
            "users": [
                USER,
                *({**USER, "user_id": name} for name in people),
                *reported_rows("users"),
            ],
            "product_catalog": [FAMILY, VIDEO],
            "subscription_events": [FACT],
            "events": [
                *({**EVENT, "event_id": f"valid {number}"} for number in range(80)),
                *reported_rows("events"),
            ],
        },
    )


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Load all reported rows at once."""
    folder = tmp_path_factory.mktemp("reported")
    failures, database = load_bronze(folder, write_reported(folder / "source"))
    assert failures == []
    return loaded_rows(database)


@pytest.fixture(scope="module")
def by_the_oracle(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Return the oracle's result for all reported rows."""
    source = load(write_reported(tmp_path_factory.mktemp("oracle") / "source"))
    faults = Counter((found.line.input_name, found.fault) for found in source.faults)
    return Loaded(
        {(name, row[key]): row for name, key in KEYS.items() for row in getattr(source, name)},
        {
            (found.line.input_name, str(found.line[KEYS[found.line.input_name]])): (
                found.reason,
                found.detail,
            )
            for found in source.rejected
        },
        faults,
    )


def assert_as_reported(loaded: Loaded, number: int) -> None:
    row = REPORTED[number]
    key = row.input_name, reported_id(number)
    if row.reason is not None:
        assert loaded.rejected[key] == (row.reason, row.detail)
        assert key not in loaded.accepted
        return
    assert key not in loaded.rejected
    found = dict(loaded.accepted[key])
    if isinstance(found.get("metadata"), str):
        found["metadata"] = json.loads(found["metadata"])
    assert {column: found[column] for column in row.shows} == row.shows


@pytest.mark.parametrize("number", range(len(REPORTED)), ids=[row.name for row in REPORTED])
def test_reported_row(loaded: Loaded, number: int) -> None:
    assert_as_reported(loaded, number)


def faults_of_reported_rows() -> Counter[tuple[str, str]]:
    return Counter((row.input_name, fault) for row in REPORTED for fault in row.faults)


def test_faults_of_the_reported_rows(loaded: Loaded) -> None:
    assert loaded.faults == faults_of_reported_rows()


def test_the_oracle_agrees_with_the_table(by_the_oracle: Loaded) -> None:
    for number in range(len(REPORTED)):
        assert_as_reported(by_the_oracle, number)
    assert by_the_oracle.faults == faults_of_reported_rows()


def test_each_report_is_named() -> None:
    reports = [row.report for row in REPORTED] + [case.report for case in REPORTED_SOURCES]
    assert len(set(reports)) == len(reports) >= 40
    assert all(report.startswith(("https://", "http://")) for report in reports)


# ---------------------------------------------------------------- reported sources

EVENTS_OF_SOURCE = 4


@dataclass(frozen=True)
class ReportedSource:
    """A reported source and the expected result for its events.

    Attributes:
        name: what is odd.
        report: address of the report.
        write: writes the odd files over those of a valid source without events.
        accepted: the number of accepted events, by date if it is a mapping.
        rejected: the number of rejected events, by reason and detail.
        repeated: the number of repeated events.
        error: parts of the error if the source cannot be loaded.
        first: the first day of the load.
        settings: settings of the load.
        holds: the results of further queries.
    """

    name: str
    report: str
    write: Callable[[Path], object]
    accepted: int | Mapping[date, int] = EVENTS_OF_SOURCE
    rejected: Mapping[tuple[str, str | None], int] = field(default_factory=dict)
    repeated: int = 0
    error: Sequence[str] = ()
    first: date = FIRST
    settings: Mapping[str, object] = field(default_factory=dict)
    holds: Mapping[str, list[tuple[object, ...]]] = field(default_factory=dict)


def some_events(**values: str) -> list[Texts]:
    return events_of(DAY, EVENTS_OF_SOURCE, **values)


def text(rows: Sequence[Texts], delimiter: str = ",", *, header: str = "") -> str:
    """Return rows as lines without quotes."""
    lines = [header or delimiter.join(rows[0]), *(delimiter.join(row.values()) for row in rows)]
    return "\n".join(lines) + "\n"


def quoted(rows: Sequence[Texts]) -> str:
    """Return rows as lines with quotes around every value."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(",".join(f'"{value}"' for value in line) + "\n" for line in lines)


def content(relative: str, written: str | bytes) -> Callable[[Path], object]:
    """Return a function that writes a file."""

    def write(folder: Path) -> None:
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(written if isinstance(written, bytes) else written.encode())

    return write


def json_lines(rows: Sequence[Mapping[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def steps(*writes: Callable[[Path], object]) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        for step in writes:
            step(folder)

    return write


def parquet_events(rows: Sequence[Texts], **columns: str) -> Callable[[Path], object]:
    return lambda folder: as_parquet(folder / "events.parquet", rows, **columns)


def by_day(rows: Mapping[date, Sequence[Texts]]) -> Callable[[Path], object]:
    return lambda folder: write_source(
        folder, {f"events/event_date={day}/part": of_day for day, of_day in rows.items()}
    )


FEW = ("event_id", "entity_id", "event_type", "timestamp", "product_id")

FORMS = 10
"""Number of reported sources, the first ones, that differ in the form of a file."""

REPORTED_SOURCES = [
    ReportedSource(
        "a mark of the byte order in front of the header",
        f"{GITHUB}/melihbirim/csvql/issues/103",
        content("events.csv", b"\xef\xbb\xbf" + text(some_events()).encode()),
    ),
    ReportedSource(
        "quotes around every value, nulls included",
        f"{GITHUB}/duckdb/duckdb/issues/6943",
        content("events.csv", quoted(some_events(session_id="null"))),
        holds={"SELECT DISTINCT session_id FROM bronze.bronze_events": [(None,)]},
    ),
    ReportedSource(
        "semicolons as delimiters, with commas in a value",
        f"{GITHUB}/JuliaData/CSV.jl/issues/746",
        content("events.csv", text(some_events(session_id="a,b,c"), ";")),
        holds={"SELECT DISTINCT session_id FROM bronze.bronze_events": [("a,b,c",)]},
    ),
    ReportedSource(
        "a header in capitals",
        f"{GITHUB}/forcedotcom/dataloader/issues/1095",
        content("events.csv", text(some_events(), header=",".join(EVENT).upper())),
    ),
    ReportedSource(
        "a header in mixed case",
        f"{GITHUB}/duckdb/duckdb/issues/673",
        content("events.csv", text(some_events(), header=",".join(EVENT).title())),
    ),
    ReportedSource(
        "a delimiter at the end of each line",
        f"{GITHUB}/deephaven/deephaven-core/issues/1800",
        content("events.csv", text(some_events(), "|").replace("\n", "|\n")),
    ),
    ReportedSource(
        "a compressed file",
        f"{GITHUB}/duckdb/duckdb/issues/5301",
        content("events.csv.gz", gzip.compress(text(some_events()).encode())),
    ),
    ReportedSource(
        "a file that is compressed only by its name",
        f"{GITHUB}/duckdb/duckdb/issues/8630",
        content("events.csv.gz", text(some_events())),
        error=("events.csv.gz",),
    ),
    ReportedSource(
        "a mark of success next to the files",
        f"{GITHUB}/aws/aws-sdk-pandas/issues/326",
        steps(
            content("events/part-0.csv", text(some_events())),
            content("events/_SUCCESS", ""),
        ),
    ),
    ReportedSource(
        "older files that lack a column",
        f"{GITHUB}/duckdb/duckdb/issues/4720",
        lambda folder: write_source(
            folder,
            {
                "events/2024": [
                    {name: row[name] for name in FEW} for row in some_events(entity_id="ada")
                ],
                "events/2025": some_events(entity_id="bob"),
            },
        ),
        accepted=2 * EVENTS_OF_SOURCE,
    ),
    ReportedSource(
        "lines of JSON with different keys",
        f"{GITHUB}/Eventual-Inc/Daft/issues/5647",
        content(
            "events.jsonl",
            json_lines(
                [
                    {name: row[name] for name in FEW if number or name != "event_id"}
                    | ({"metadata": {"amount": 1, "tags": ["a"]}} if number == 2 else {})
                    for number, row in enumerate(some_events())
                ]
            ),
        ),
        holds={
            "SELECT metadata ->> 'amount' FROM bronze.bronze_events WHERE metadata IS NOT NULL": [
                ("1",)
            ]
        },
    ),
    ReportedSource(
        "numbers as texts and texts as numbers in lines of JSON",
        f"{GITHUB}/airbytehq/airbyte/issues/22951",
        content(
            "events.jsonl",
            json_lines(
                [
                    {**row, "entity_id": 101, "is_qualifying_event": "true", "session_id": 7}
                    for row in some_events()
                ]
            ),
        ),
        holds={"SELECT DISTINCT entity_id, session_id FROM bronze.bronze_events": [("101", "7")]},
    ),
    ReportedSource(
        "ids that a connector has made floating point",
        f"{GITHUB}/airbytehq/airbyte/pull/20730",
        parquet_events(some_events(entity_id="101"), entity_id="entity_id::DOUBLE"),
        accepted=0,
        rejected={("unknown_user", "101"): EVENTS_OF_SOURCE},
        settings={"policy": {"max_rejected_share": 1}},
    ),
    ReportedSource(
        "nanoseconds in Parquet",
        f"{GITHUB}/duckdb/duckdb/issues/707",
        parquet_events(some_events(), timestamp="timestamp::TIMESTAMP_NS"),
        holds={
            "SELECT min(event_timestamp) FROM bronze.bronze_events": [(at(2025, 6, 20, 10),)],
        },
    ),
    ReportedSource(
        "nested properties in Parquet",
        f"{GITHUB}/pola-rs/polars/issues/5875",
        parquet_events(some_events(), metadata="{'float': 5.0, 'list': ['a', 'b']}"),
        holds={
            "SELECT DISTINCT metadata -> '$.list[1]' FROM bronze.bronze_events": [('"b"',)],
        },
    ),
    ReportedSource(
        "one id with two payloads, and copies of both",
        f"{GITHUB}/snowplow/snowplow/issues/24",
        lambda folder: write_source(
            folder,
            {
                "events": [
                    {**EVENT, "session_id": "first"},
                    {**EVENT, "session_id": "second", "received_at": "2025-06-22"},
                    {**EVENT, "session_id": "first", "received_at": "2025-06-21"},
                    {**EVENT, "session_id": "second"},
                ]
            },
        ),
        accepted=1,
        rejected={("superseded", None): 1},
        repeated=2,
        holds={
            "SELECT session_id, received_at FROM bronze.bronze_events": [
                ("second", at(2025, 6, 22))
            ]
        },
    ),
    ReportedSource(
        "an event that is delivered three times",
        f"{GITHUB}/dbt-labs/snowplow/issues/100",
        lambda folder: write_source(folder, {"events": [EVENT] * 3}),
        accepted=1,
        repeated=2,
    ),
    ReportedSource(
        "copies of one event without an id",
        f"{GITHUB}/snowplow/enrich/issues/725",
        lambda folder: write_source(
            folder,
            {
                "events": [
                    {**EVENT, "event_id": ""},
                    {**EVENT, "event_id": ""},
                    {**EVENT, "event_id": "", "session_id": "other"},
                ]
            },
        ),
        accepted=2,
        repeated=1,
    ),
    ReportedSource(
        "late rows of events that are known already",
        f"{GITHUB}/mattermost/mattermost-data-warehouse/pull/1673",
        lambda folder: write_source(
            folder,
            {
                "events/a": [{**EVENT, "location": "api", "received_at": "2025-06-25"}],
                "events/b": [{**EVENT, "location": "web_app", "received_at": "2025-06-24"}],
            },
        ),
        accepted=1,
        rejected={("superseded", None): 1},
        holds={"SELECT location FROM bronze.bronze_events": [("api",)]},
    ),
    ReportedSource(
        "a user twice, row for row",
        f"{GITHUB}/dbt-labs/dbt-core/issues/2642",
        steps(
            content("events.csv", text(some_events())),
            lambda folder: write_rows(folder / "users.csv", [USER, USER]),
        ),
        holds={
            "SELECT rows_read, rows_accepted, rows_repeated, rows_rejected"
            " FROM bronze.bronze_entity_loads WHERE input_name = 'users'": [(2, 1, 1, 0)]
        },
    ),
    ReportedSource(
        "days of 24 hours when clocks change",
        f"{GITHUB}/datalust/seq-tickets/issues/902",
        lambda folder: write_source(
            folder,
            {
                "users": [{**USER, "user_created_at": "2025-03-01"}],
                "events": [
                    {**EVENT, "event_id": f"{number}", "timestamp": timestamp}
                    for number, timestamp in enumerate(
                        (
                            "2025-03-09T08:00:00Z",
                            "2025-03-10T06:59:59Z",
                            "2025-03-10T07:00:00Z",
                            "2025-03-10T07:59:59Z",
                        )
                    )
                ],
            },
        ),
        accepted={date(2025, 3, 9): 2, date(2025, 3, 10): 2},
        first=date(2025, 3, 1),
        settings={"timezone": "America/Los_Angeles"},
    ),
    ReportedSource(
        "a zone with half an hour",
        f"{GITHUB}/useautumn/autumn/pull/3447",
        lambda folder: write_source(
            folder,
            {
                "events": [
                    {**EVENT, "event_id": f"{number}", "timestamp": timestamp}
                    for number, timestamp in enumerate(
                        ("2025-06-20T18:29:59Z", "2025-06-20T18:30:00Z", "2025-06-21")
                    )
                ]
            },
        ),
        accepted={DAY: 1, DAY + timedelta(days=1): 2},
        settings={"timezone": "Asia/Kolkata"},
    ),
    ReportedSource(
        "folders of days in another zone than the rows",
        f"{GITHUB}/delta-io/delta/issues/420",
        by_day(
            {
                DAY: [
                    {**EVENT, "event_id": "same", "timestamp": f"{DAY}T00:30:00+03:00"},
                    {**EVENT, "event_id": "other", "timestamp": f"{DAY}T03:30:00+03:00"},
                ]
            }
        ),
        accepted=1,
        rejected={("not_on_date_of_folder", None): 1},
    ),
]


@pytest.mark.parametrize(
    "case",
    # The tests of the source reader cover the first sources, which differ in the form of a file.
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if number < FORMS else [])
        for number, case in enumerate(REPORTED_SOURCES)
    ],
)
def test_reported_source(tmp_path: Path, case: ReportedSource) -> None:
    source = tmp_path / "source"
    write_source(
        source,
        {
            "accounts": [ACCOUNT],
            "users": [USER, *({**USER, "user_id": name} for name in ("bob", "101"))],
            "product_catalog": [FAMILY, VIDEO],
        },
    )
    case.write(source)
    failures, database = load_bronze(tmp_path, source, case.first, **case.settings)
    if case.error:
        [failure] = failures
        assert "\n" not in failure
        for part in case.error:
            assert part in failure
        return
    assert failures == []
    with duckdb.connect(str(database), read_only=True) as connection:

        def rows(statement: str) -> list[tuple[Any, ...]]:
            return connection.execute(statement).fetchall()

        dates = dict(
            rows("SELECT event_date, count(*) FROM bronze.bronze_events GROUP BY ALL ORDER BY ALL")
        )
        if isinstance(case.accepted, int):
            assert sum(dates.values()) == case.accepted
        else:
            assert dates == case.accepted
        found = rows(
            "SELECT rejection_reason, rejection_detail, count(*)"
            " FROM bronze.bronze_rejected_events GROUP BY ALL"
        )
        assert {(reason, detail): count for reason, detail, count in found} == case.rejected
        accepted, rejected = sum(dates.values()), sum(case.rejected.values())
        assert rows(
            "SELECT sum(rows_read)::BIGINT, sum(rows_accepted)::BIGINT,"
            " sum(rows_repeated)::BIGINT, sum(rows_rejected)::BIGINT FROM bronze.bronze_loads"
        ) == [(accepted + case.repeated + rejected, accepted, case.repeated, rejected)]
        for statement, expected in case.holds.items():
            assert rows(statement) == expected
