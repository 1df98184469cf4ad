"""Record the files that the last load read, to recognize a day on which no file is delivered."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

import duckdb

from monstera_assets.source.fingerprint import FileFingerprint
from monstera_assets.warehouse.layout import DELIVERY


class Delivery(NamedTuple):
    """The content of a source.

    Attributes:
        digest: digest of all files' fingerprints.
        last_date: the latest date of an event on a day that had ended when the files were loaded, or
            None if there are no such events.
    """

    digest: str
    last_date: date | None


def delivery_digest(prints: Mapping[str, Sequence[FileFingerprint]]) -> str:
    """Return a digest of the fingerprints of each input's files."""
    lines = sorted(f"{name} {file}" for name, files in prints.items() for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def recorded_delivery(connection: duckdb.DuckDBPyConnection) -> Delivery | None:
    """Return what the last load read, or None if it is unknown."""
    exists = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name || '.' || table_name = ?",
        [DELIVERY],
    ).fetchall()
    if not exists[0][0]:
        return None
    found = connection.execute(f"SELECT digest, last_date FROM {DELIVERY}").fetchall()
    return Delivery(*found[0]) if found else None


def record_delivery(connection: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """Replace the record in the caller's transaction."""
    connection.execute(f"DELETE FROM {DELIVERY}")
    connection.execute(f"INSERT INTO {DELIVERY} VALUES (?, ?)", list(delivery))
