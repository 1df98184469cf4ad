"""A loaded source's bronze tables and the oracle's rows, in a comparable form.

This is the only place that knows how the values of the warehouse correspond to those of the oracle.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from monstera_assets_tests.oracle.source import (
    COLUMNS,
    NULL_WORDS,
    Source,
    is_null,
    similar,
    without_null_words,
)

Tables = dict[str, Counter[tuple[Any, ...]]]
"""The rows per table, each with its number of occurrences."""

_FACT = (
    *("event_id", "entity_id", "entity_type", "event_type", "event_timestamp", "event_date"),
    *("location", "session_id", "product_id", "metadata", "received_at"),
)
SHOWN: Mapping[str, Sequence[str]] = {
    "events": (*_FACT, "is_qualifying_event", "is_activation_event"),
    "subscription_events": (
        *_FACT,
        *("total_seats", "monthly_recurring_revenue", "subscription_tier"),
        *("contract_renewal_date", "effective_date", "grace_until"),
        *("subscription_id", "currency"),
    ),
    "user_aliases": ("alias_id", "user_id", "merged_user_id", "alias_created_at", "faults"),
    "users": (
        *(
            "user_id",
            "alias_id",
            "valid_from",
            "email",
            "account_id",
            "user_created_at",
            "signup_date",
        ),
        *("country", "plan_type", "acquisition_source"),
    ),
    "accounts": (
        *("account_id", "valid_from", "account_name", "subscription_tier", "total_seats"),
        *("account_created_at", "created_date", "first_paid_at", "first_paid_date"),
        *("contract_renewal_date", "monthly_recurring_revenue"),
    ),
    "product_catalog": (
        *("product_id", "product_name", "tier", "parent_product_id", "is_active"),
        *("product_owner", "activation_event_types", "qualifying_event_types"),
        *("active_days", "dormant_days"),
    ),
}
"""The columns compared per table.

The framework does not define the flags of facts, `is_trial` of an account that does not state it, the
family of a node that does not state it, and the creation of a node that does not state it.
"""

_LISTS = ("activation_event_types", "qualifying_event_types")
_NAMED = ("unknown_user", "unknown_account", "unknown_product")
"""The reasons with an id as their detail.

Whether `merged` and the other unknown_* have one is left open.
"""

FAULTS = "SELECT input_name, fault, rows FROM bronze.bronze_source_faults"
"""Input, fault and number of rows; there may be several rows per input and fault."""


# ---------------------------------------------------------------- the oracle


def expected(source: Source, null_words: Collection[str] = NULL_WORDS) -> Tables:
    """Return the oracle's rows."""
    tables = {
        name: Counter(
            tuple(_comparable(column, row[column], null_words) for column in columns)
            for row in getattr(source, name)
        )
        for name, columns in SHOWN.items()
    }
    tables["rejected"] = Counter(
        (
            found.line.input_name,
            found.reason,
            _detail(found.reason, found.detail),
            found.line.file,
            _raw(found.line.input_name, found.line.values, null_words),
        )
        for found in source.rejected
    )
    tables["faults"] = Counter((found.line.input_name, found.fault) for found in source.faults)
    tables["counts"] = Counter((name, *counts) for name, counts in source.counts.items())
    return tables


# ---------------------------------------------------------------- the warehouse


def loaded(
    database: Path,
    event_ids: Collection[str],
    inputs: Collection[str],
    null_words: Collection[str] = NULL_WORDS,
) -> Tables:
    """Return the rows of the bronze tables.

    Args:
        database: the warehouse.
        event_ids: the event ids in the source; any other one is a hash, and compared as null.
        inputs: the inputs in the source; the ledger of others is left out.
        null_words: the words for null.
    """
    with duckdb.connect(str(database), read_only=True) as connection:

        def rows(statement: str) -> list[tuple[Any, ...]]:
            return connection.execute(statement).fetchall()

        tables: Tables = {}
        for name, columns in SHOWN.items():
            selected = ", ".join(f'"{column}"' for column in columns)
            tables[name] = Counter(
                tuple(
                    None
                    if column == "event_id" and value not in event_ids
                    else _comparable(column, value, null_words)
                    for column, value in zip(columns, row, strict=True)
                )
                for row in rows(f"SELECT {selected} FROM bronze.bronze_{name}")
            )
        tables["rejected"] = Counter(_rejected(rows, null_words))
        faults: Counter[tuple[Any, ...]] = Counter()
        for input_name, fault, number in rows(FAULTS):
            faults[input_name, fault] += number
        tables["faults"] = faults
        tables["counts"] = Counter(_counts(rows, inputs))
        return tables


def _rejected(rows: Any, null_words: Collection[str]) -> Iterator[tuple[Any, ...]]:
    columns = "rejection_reason, rejection_detail, source_file, raw_row"
    statement = (
        f"SELECT input_name, {columns} FROM bronze.bronze_rejected_entities"
        f" UNION ALL SELECT 'events', {columns} FROM bronze.bronze_rejected_events"
    )
    for input_name, reason, detail, file, raw_row in rows(statement):
        try:
            values = json.loads(raw_row)
        except ValueError:  # a row that could not be split into the columns
            values = {}
        yield (
            input_name,
            reason,
            _detail(reason, detail),
            file,
            _raw(input_name, values, null_words),
        )


def _counts(rows: Any, inputs: Collection[str]) -> Iterator[tuple[Any, ...]]:
    columns = ("rows_read", "rows_accepted", "rows_repeated", "rows_rejected")
    for row in rows(f"SELECT input_name, {', '.join(columns)} FROM bronze.bronze_entity_loads"):
        if row[0] in inputs:
            yield row
    sums = ", ".join(f"sum({column})::BIGINT" for column in columns)
    yield from rows(f"SELECT 'events', {sums} FROM bronze.bronze_loads")


# ---------------------------------------------------------------- values


def _comparable(column: str, value: Any, null_words: Collection[str]) -> Any:
    if column == "metadata":
        return _metadata(value, null_words)
    if column in _LISTS:
        parts = value if isinstance(value, tuple) else str(value or "").split("|")
        return tuple(part for part in parts if part)
    return value


def _metadata(value: Any, null_words: Collection[str]) -> str | None:
    """Return metadata as text, the same for an object and its JSON, with null for null words."""
    if value is None:
        return None
    parsed = json.loads(value) if isinstance(value, str) else value
    return json.dumps(without_null_words(parsed, null_words), sort_keys=True)


def _raw(
    input_name: str, values: Mapping[str, Any], null_words: Collection[str]
) -> tuple[tuple[str, str], ...]:
    """Return a row's values as delivered, without nulls."""
    return tuple(
        (column, str(value))
        for column in COLUMNS[input_name]
        if not is_null(value := values.get(column), null_words)
    )


def _detail(reason: str, detail: str | None) -> str | None:
    """Return a detail that is the same for all ids that differ only in spelling."""
    if detail is None:
        return None
    if reason in _NAMED:
        return similar(detail)
    return None if reason == "merged" or reason.startswith("unknown_") else detail


# ---------------------------------------------------------------- the comparison

_MOST = 4


def difference(found: Tables, wanted: Tables) -> str:
    """Return the rows that only one side has, or empty text if there are none."""
    parts: list[str] = []
    for name in wanted:
        only_warehouse = list((found[name] - wanted[name]).elements())
        only_oracle = list((wanted[name] - found[name]).elements())
        for origin, rows in (("warehouse", only_warehouse), ("oracle", only_oracle)):
            if rows:
                parts.append(f"{name}: {len(rows)} rows only in the {origin}:")
                parts += [f"  {row}" for row in sorted(rows, key=str)[:_MOST]]
    return "\n".join(parts)


def ids_in(lines: Iterable[Any]) -> set[str]:
    """Return the event ids of the oracle's rows."""
    return {line["event_id"] for line in lines if line["event_id"] is not None}
