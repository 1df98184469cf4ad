"""Compute tables in this process, and compare the tables of two warehouses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import duckdb

from monstera_assets.definitions import tables
from monstera_assets.warehouse.duckdb_engine import quote

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def compute(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    tags: Mapping[str, str],
    selection: dg.AssetSelection | None = None,
) -> None:
    """Compute the selected tables (all by default) for the days in the tags, without checks."""
    dg.materialize(
        [a for a in definitions.assets or [] if isinstance(a, dg.AssetsDefinition)],
        selection=selection,
        instance=instance,
        resources=definitions.resources,
        run_config=_QUIET,
        tags=tags,
    )


def digest(connection: duckdb.DuckDBPyConnection) -> str:
    """Return a digest of all declared tables, computed from row counts and row hashes.

    The digest does not depend on row order, but it does depend on the DuckDB version.
    """
    of_all = hashlib.sha256()
    for table in tables():
        columns = ", ".join(quote(column.name) for column in table.columns)
        row = connection.execute(
            f"SELECT count(*), sum(hash({columns})) FROM {table.qualified_name}"  # noqa: S608
        ).fetchall()
        of_all.update(f"{table.name}: {row}\n".encode())
    return of_all.hexdigest()[:16]


def differing_tables(left: Path, right: Path) -> list[str]:
    """Return the tables that differ between two databases, with the number of differing rows."""
    with duckdb.connect() as connection:
        for name, path in (("l", left), ("r", right)):
            connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
        differing = []
        for table in tables():
            one, other = (f"FROM {name}.{table.qualified_name}" for name in "lr")
            [(rows,)] = connection.execute(
                f"SELECT count(*) FROM (({one} EXCEPT ALL {other})"  # noqa: S608
                f" UNION ALL ({other} EXCEPT ALL {one}))"
            ).fetchall()
            differing += [f"{table.name} ({rows} rows)"] if rows else []
        return differing
