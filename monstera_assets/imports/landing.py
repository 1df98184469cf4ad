"""Write the rows of the source, so that a reader sees either the old or the new source.

New files are written to a folder in the source that no reader reads, together with the list of moves
that puts them in place. Only then are they moved. An import that was killed while it moved files is
completed by the next one. A day's file is written only if its rows differ from the file's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from monstera_assets.source.errors import SourceError
from monstera_assets.source.sql import date_literal, literal
from monstera_assets.warehouse.files import replacing_file, synchronize

WORK = "_import"
"""The folder in the source with what was read. Readers of a source skip names with an underscore."""

STATE = "state.json"
INCOMING, MOVES = "incoming", "moves.json"
"""The folder of files that are about to be moved into place, and the list of moves in it."""

LEDGER = "imports.parquet"
MOVEMENTS = "revenue_movements.parquet"
"""The file that compares movements of revenue. It exists if an export contains the tool's own."""

_WRITES_AT_ONCE = 4
_ROW_GROUP = 122_880
# Files of version 2 are 15% smaller, and take no longer to write.
_PARQUET = f"FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2, ROW_GROUP_SIZE {_ROW_GROUP}"

EVENT_COLUMNS = (
    *("event_id", "entity_id", "entity_type", "event_type", "timestamp", "location", "session_id"),
    *("product_id", "is_qualifying_event", "is_activation_event", "metadata", "received_at"),
)
EVENT_ORDER = "event_date, timestamp, event_id"
"""The order of landed_events, so that each day's rows are contiguous, and sorted in the day's file."""

_INPUTS = {
    "users": "SELECT * FROM user_versions ORDER BY user_id, valid_from",
    "accounts": "SELECT * FROM account_versions ORDER BY account_id, valid_from",
    "subscription_events": "SELECT * FROM subscription_rows ORDER BY timestamp, event_id",
    "imports": "SELECT * FROM ledger ORDER BY import, raw_file",
    "revenue_movements": "SELECT * FROM revenue_movements"
    " ORDER BY import, subscription_id, currency, date",
}


@dataclass(frozen=True)
class Landed:
    """What an import changed.

    Attributes:
        digests: a digest of each landed file's rows, keyed by the file's path in the source.
        written: the files that were written.
        removed: the files whose rows no longer exist.
    """

    digests: Mapping[str, str]
    written: tuple[str, ...]
    removed: tuple[str, ...]


def finish_interrupted(source: Path) -> None:
    """Complete the moves of an import that was killed, and delete what an earlier one left."""
    incoming = source / WORK / INCOMING
    if (incoming / MOVES).exists():
        _move(source)
    shutil.rmtree(incoming, ignore_errors=True)


def write_source(
    connection: duckdb.DuckDBPyConnection,
    source: Path,
    digests: Mapping[str, str],
    state: Mapping[str, object],
) -> Landed:
    """Write the files whose rows differ, and move them into place together with the new state.

    Args:
        connection: a connection with the tables of `materialize` and the tables of entities.
        source: the source folder.
        digests: the digests of the files that lie there, by path.
        state: what to remember, to which the new digests are added.

    Raises:
        SourceError: If the folder cannot be written.
    """
    incoming = source / WORK / INCOMING
    try:
        incoming.mkdir(parents=True)
        new = {**_day_digests(connection), **_input_digests(connection)}
        rows = {path: int(digest.partition("-")[0]) for path, digest in new.items()}
        written = sorted(
            path
            for path, digest in new.items()
            if digests.get(path) != digest or not (source / path).exists()
        )
        days = [path for path in written if path.startswith("events/")]
        for path in sorted(set(written) - set(days)):
            _write(connection, incoming, path, rows[path])
        with ThreadPoolExecutor(_WRITES_AT_ONCE) as executor:
            list(
                executor.map(
                    lambda path: _write(connection.cursor(), incoming, path, rows[path]), days
                )
            )
        removed = sorted(path for path in digests if path not in new)
        text = json.dumps({**state, "digests": new}, indent=1, sort_keys=True)
        (incoming / STATE).write_text(text, encoding="utf-8")
        synchronize(incoming / STATE)
        moves = json.dumps({"written": written, "removed": removed})
        with replacing_file(incoming / MOVES, ".part") as part:
            part.write_text(moves, encoding="utf-8")
        _move(source)
    except (OSError, duckdb.IOException) as error:
        if not (incoming / MOVES).exists():
            shutil.rmtree(incoming, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise SourceError(
            f"The source folder {source} cannot be written: {reason}. Check the folder's permissions"
            " and the free disk space, then run the import again."
        ) from error
    return Landed(new, tuple(written), tuple(removed))


def _write(connection: duckdb.DuckDBPyConnection, incoming: Path, path: str, rows: int) -> None:
    target = incoming / path
    target.parent.mkdir(parents=True, exist_ok=True)
    connection.execute(f"COPY ({_query_of(path, rows)}) TO {literal(str(target))} ({_PARQUET})")
    synchronize(target)


def _move(source: Path) -> None:
    """Put the incoming files in place. Repeating a move that was made changes nothing."""
    incoming = source / WORK / INCOMING
    moves = json.loads((incoming / MOVES).read_text(encoding="utf-8"))
    for path in moves["written"]:
        if (incoming / path).exists():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (incoming / path).replace(source / path)
    for path in moves["removed"]:
        (source / path).unlink(missing_ok=True)
        folder = (source / path).parent
        if folder != source and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    for folder in {(source / path).parent for path in moves["written"]}:
        synchronize(folder)
    if (incoming / STATE).exists():
        (incoming / STATE).replace(source / WORK / STATE)
    synchronize(source / WORK)
    shutil.rmtree(incoming)


def materialize(connection: duckdb.DuckDBPyConnection) -> None:
    """Compute the rows to write.

    `landed_events` is not temporary, because several cursors write its days.
    """
    columns = ", ".join(EVENT_COLUMNS)
    connection.execute(f"""
        CREATE OR REPLACE TABLE landed_events AS
        SELECT {columns}, event_date FROM landing WHERE NOT is_deletion
        ORDER BY {EVENT_ORDER}""")
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE subscription_rows AS
        SELECT {columns} FROM landing WHERE is_deletion
        UNION ALL
        SELECT event_id, entity_id, 'account', event_type, timestamp, 'api', NULL, NULL, false, false,
            metadata, NULL
        FROM billing_facts
        UNION ALL
        SELECT 'deleted-' || uid, uid, 'user', 'user_deleted', min(deleted_at), 'api', NULL, NULL,
            false, false, NULL, NULL
        FROM deletions GROUP BY uid""")


_DIGEST = "concat_ws('-', count(*), sum(row_hash::HUGEINT), bit_xor(hash(row_hash)))"
"""A digest of a group's rows, which begins with their number and does not depend on their order."""


def _day_digests(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    rows = connection.execute(
        f"SELECT event_date, {_DIGEST} FROM (SELECT event_date, hash({', '.join(EVENT_COLUMNS)})"
        " AS row_hash FROM landed_events) GROUP BY event_date"
    ).fetchall()
    return {f"events/event_date={day.isoformat()}/events.parquet": digest for day, digest in rows}


def _input_digests(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    found = {}
    for name, query in _INPUTS.items():
        [(digest,)] = connection.execute(
            f"SELECT {_DIGEST} FROM (SELECT hash(to_json(rows)::VARCHAR) AS row_hash"
            f" FROM ({query}) AS rows)"
        ).fetchall()
        found[f"{name}.parquet"] = digest
    [(moved,)] = connection.execute("SELECT count(*) FROM revenue_movements").fetchall()
    if not moved:
        del found[MOVEMENTS]
    return found


def _query_of(path: str, rows: int) -> str:
    name = path.removesuffix(".parquet")
    if name in _INPUTS:
        return _INPUTS[name]
    day = date.fromisoformat(path.split("=")[1].split("/")[0])
    columns = ", ".join(EVENT_COLUMNS)
    # The rows are sorted already. But where a row group of the file ends depends on the rows of other
    # days, unless the day is sorted again, which takes a quarter of the time to write it.
    order = " ORDER BY timestamp, event_id" if rows > _ROW_GROUP else ""
    return f"SELECT {columns} FROM landed_events WHERE event_date = {date_literal(day)}{order}"
