"""Versions of users and accounts (framework, section 2, "Versions").

A version is a row of the source that applies from its first day until the next version starts. If the
source does not specify the first day, the version starts on the last day of the run that first reads
the row. The warehouse keeps all versions, because most sources contain only the current rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.reading import Reading
from monstera_assets.bronze.validation import REASON, REPEATED, SUPERSEDED, Rejection, unreadable
from monstera_assets.lifecycle.expressions import parameter
from monstera_assets.warehouse.duckdb_engine import quote
from monstera_assets.warehouse.tables import Column, Table

VALID_FROM = Column(
    "valid_from",
    "date",
    "First day of the version. An entity's first version also applies to earlier days.",
)
UPDATED_AT = Column("updated_at", "timestamp", "Time of the last change, UTC.", nullable=True)
LAST_DAY = "versions_last_day"
"""The query parameter for the first day of versions for which the source does not specify a day."""
STATED_BY = (VALID_FROM.name, UPDATED_AT.name)
"""Source columns that specify the first day of a version."""


def with_stated_day(rows: ir.Table, reading: Reading) -> ir.Table:
    """Set `valid_from` to the first day of each row's version.

    The day comes from the column `valid_from`, the local date of `updated_at`, the date of the file's
    folder or, if the source does not specify a day, the query parameter `LAST_DAY`. For the columns
    that are added, see `faults_of_day`.
    """
    rows = rows.mutate(**dict(unreadable(rows, STATED_BY)))
    day = ibis.coalesce(
        rows.valid_from,
        reading.local_date(rows.updated_at),
        rows.folder_date,
        first_day_of_undated(),
    )
    return rows.mutate(valid_from=day)


def first_day_of_undated() -> ir.DateScalar:
    """Return the first day of versions for which the source does not specify a day."""
    return parameter(LAST_DAY, "date")


def faults_of_day(rows: ir.Table) -> list[Rejection]:
    """Return the faults in the columns of `STATED_BY`, after `with_stated_day`."""
    return [(f"unreadable_{name}", rows[f"unreadable_{name}"]) for name in STATED_BY]


def settle_versions(rows: ir.Table, key: str, content: Sequence[str]) -> ir.Table:
    """Set the rejection reason of accepted rows that are not versions.

    Of the rows for one entity and day, the one with the latest `updated_at` is kept, or the last row of
    the last file. The others are `repeated` if a later row has the same content, and `superseded`
    otherwise. A version with the same content as the version before it is also `repeated`.
    """
    accepted = rows[REASON].isnull()
    place = [
        ibis.desc(rows.updated_at, nulls_first=False),
        rows.source_file.desc(),
        rows.row_number.desc(),
    ]

    def is_first(*group_by: ir.Value | str) -> ir.BooleanValue:
        window = ibis.window(group_by=[*group_by, accepted], order_by=place)
        return ibis.row_number().over(window) == 0

    rows = rows.mutate(
        wins=accepted & is_first(key, rows.valid_from),
        wins_content=accepted & is_first(key, rows.valid_from, *content),
    )
    values = ibis.struct({name: rows[name] for name in content})
    in_order = ibis.window(group_by=[rows[key], rows.wins], order_by="valid_from")
    is_unchanged = (values == values.lag().over(in_order)).fill_null(False)
    reason = ibis.cases(
        (~accepted, rows[REASON]),
        (rows.wins & is_unchanged, REPEATED),
        (rows.wins, None),
        (rows.wins_content, SUPERSEDED),
        else_=REPEATED,
    )
    return rows.mutate(**{REASON: reason}).drop("wins", "wins_content")


def current_versions(versions: ir.Table, key: str) -> ir.Table:
    """Return the latest version of each entity."""
    latest = ibis.window(group_by=key, order_by=ibis.desc("valid_from"))
    ranked = versions.mutate(place=ibis.row_number().over(latest))
    return ranked.filter(ranked.place == 0).drop("place")


@dataclass(frozen=True)
class Versioning:
    """The columns of a table with versions.

    Attributes:
        varying: the columns that can differ between an entity's versions.
        first: the columns whose values come from the first version.
        latest: the columns whose values come from the latest version that has one.
        dates: for each column of local dates, the column of timestamps. These columns are equal in all
            versions.
    """

    varying: Sequence[str]
    first: Sequence[str]
    latest: Sequence[str] = ()
    dates: Mapping[str, str] = field(default_factory=dict)


def merged_versions(table: Table, versions: Versioning, classified: str, stored: str) -> str:
    """Return the query for the stored versions and those of a load.

    A version from the load replaces a stored version of the same day. A version with the same values as
    the version before it is dropped.

    Args:
        table: bronze_users or bronze_accounts.
        versions: its columns.
        classified: the table with the classified rows of the load.
        stored: the table with the versions from previous loads.
    """
    key = table.key[0]
    columns = ", ".join(quote(column.name) for column in table.columns)
    content = (
        f"struct_pack({', '.join(f'{quote(name)} := {quote(name)}' for name in versions.varying)})"
    )
    of_entity = f"PARTITION BY {quote(key)} ORDER BY valid_from"
    every = "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"
    constants = ", ".join(
        (
            *(
                f"first_value({name}) OVER ({of_entity} {every}) AS {name}"
                for name in versions.first
            ),
            *(
                f"last_value({name} IGNORE NULLS) OVER ({of_entity} {every}) AS {name}"
                for name in versions.latest
            ),
        )
    )
    return f"""
        WITH every AS (
            SELECT {columns}, 0 AS load FROM {stored}
            UNION ALL BY NAME
            SELECT {columns}, 1 AS load FROM {classified} WHERE {REASON} IS NULL
        ), by_day AS (
            SELECT * EXCLUDE (load) FROM every QUALIFY row_number() OVER (
                PARTITION BY {quote(key)}, valid_from ORDER BY load DESC
            ) = 1
        ), known AS (
            SELECT * REPLACE ({constants}), {content} AS content FROM by_day
        ), compared AS (
            SELECT *, lag(content) OVER ({of_entity}) AS content_before FROM known
        )
        SELECT {columns} FROM compared
        WHERE content_before IS NULL OR content IS DISTINCT FROM content_before
    """
