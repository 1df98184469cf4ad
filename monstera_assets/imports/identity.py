"""Say which user each event belongs to, as of the event.

An event belongs to the user that the tool's own map gives for it, else to the user that it names. An
anonymous event belongs to the only user that other events name with the same key of the tool, else to
the last user of its device before it, else to the first after. Then aliases are followed to the end of
their chain; ids in a cycle, or leading into one, stay as they are.

Sources: Amplitude attributes an anonymous event after a login to the device's last user. Models that
take a device's last user for all of its past change history whenever a second person logs in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from monstera_assets.imports.raw_staging import StagedImport
from monstera_assets.imports.tools import RELATIONS
from monstera_assets.settings.imports import ImportSettings
from monstera_assets.source.sql import literal

_ROWS_PER_INSERT = 10_000
CONTENT_COLUMNS = ("event_id", "location", "session_id", "props", "product_id", "url")
"""Columns of raw events that are read only for rows that land, or share the hash of their event id."""

_IDENTIFYING = ("user_id", "map_id", "anon_id", "alias_of")
"""Columns of raw events that are read only to identify users."""

_FLAGS = (
    *("is_bookkeeping", "is_excluded", "is_part", "is_deletion", "is_provisional"),
    "is_malformed",
)
"""Columns of raw events that are false where a tool says nothing."""


@dataclass(frozen=True)
class Import:
    """An `[[import]]` and what was read for it. `number` is its place in the settings, from 0."""

    number: int
    settings: ImportSettings
    staged: StagedImport


def open_relations(
    connection: duckdb.DuckDBPyConnection, imports: Sequence[Import]
) -> Mapping[str, str]:
    """Create the table `files`, and the views raw_events, staged_users, _accounts and _ids.

    Files are numbered by import and name, so that a higher number is the later file. The views have
    the staged columns, file_no, imp (the number of the import) and kind.

    Returns:
        the columns of raw_events that no file has, with the constant that each has in the view.
    """
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE files (file_no INTEGER, imp INTEGER, kind VARCHAR,"
        " raw_file VARCHAR, folder VARCHAR)"
    )
    rows = [
        (each.number, str(each.settings.kind), file.name, _folder(each.staged, file.batch))
        for each in imports
        for file in sorted(each.staged.files.values(), key=lambda file: file.name)
    ]
    for start in range(0, len(rows), _ROWS_PER_INSERT):
        values = ", ".join(
            f"({number}, {imp}, {literal(kind)}, {literal(name)}, {literal(folder)})"
            for number, (imp, kind, name, folder) in enumerate(
                rows[start : start + _ROWS_PER_INSERT], start=start
            )
        )
        connection.execute(f"INSERT INTO files VALUES {values}")
    absent: dict[str, str] = {}
    for name, columns in RELATIONS.items():
        paths = [path for each in imports for path in each.staged.relation(name)]
        declared = {column: f"NULL::{kind}" for column, kind in columns.items()}
        if name == "events":
            declared |= dict.fromkeys(_FLAGS, "false")
        found = _columns(connection, paths)
        missing = {column: value for column, value in declared.items() if column not in found}
        view = "raw_events" if name == "events" else f"staged_{name}"
        query = _relation(name, missing, paths) if paths else _no_rows(missing)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {query}")
        if name == "events":
            absent = missing
    return absent


def _folder(staged: StagedImport, batch: str) -> str:
    return f"{staged.folder / batch}/" if batch else ""


def _columns(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path]) -> set[str]:
    if not paths:
        return set()
    return {row[0] for row in connection.execute(f"DESCRIBE FROM {_files(paths)}").fetchall()}


def _files(paths: Sequence[Path]) -> str:
    listed = ", ".join(literal(str(path)) for path in paths)
    by_name = len(paths) > 1
    return f"read_parquet([{listed}], filename = true, union_by_name = {by_name})"


def _no_rows(missing: Mapping[str, str]) -> str:
    nulls = ", ".join(f"{value} AS {column}" for column, value in missing.items())
    return (
        "SELECT NULL::INTEGER AS file_no, NULL::INTEGER AS imp, NULL::VARCHAR AS kind,"
        f" NULL::BIGINT AS row, {nulls} WHERE false"
    )


def _relation(name: str, missing: Mapping[str, str], paths: Sequence[Path]) -> str:
    flags = ""
    if name == "events":
        present = (flag for flag in _FLAGS if flag not in missing)
        flags = ", ".join(f"coalesce({flag}, false) AS {flag}" for flag in present)
    replaced = f" REPLACE ({flags})" if flags else ""
    constants = "".join(f", {value} AS {column}" for column, value in missing.items())
    return (
        "SELECT files.file_no, files.imp, files.kind,"
        f" staged_.* EXCLUDE (raw_file, filename){replaced}{constants}"
        f" FROM {_files(paths)} AS staged_ JOIN files"
        " ON staged_.raw_file = files.raw_file"
        f" AND staged_.filename = files.folder || {literal(f'{name}.parquet')}"
    )


def resolve(connection: duckdb.DuckDBPyConnection, absent: Mapping[str, str]) -> list[str]:
    """Create the view `identified`, and return the ids of users in a cycle of aliases.

    The view has the columns of raw_events that decide what becomes of a row, the hash of event_id, and
    uid, the event's user, or null if there is none. `carries_user` is whether the event itself names
    its user.

    Args:
        connection: a connection with the views of `open_relations`.
        absent: the constants that `open_relations` returned. The table below the view lacks them.
    """
    _map_keys(connection)
    connection.execute("""
        CREATE OR REPLACE TEMP VIEW own AS
        SELECT events.*,
            coalesce(tool_map.stated_user, events.user_id, tool_map.seen_user) AS own_user
        FROM raw_events AS events
        LEFT JOIN tool_map ON events.kind = tool_map.kind AND events.map_id = tool_map.map_id""")
    cycles = _follow_aliases(connection)
    _follow_devices(connection)
    unused = ("own_user", *_IDENTIFYING, *CONTENT_COLUMNS)
    constants = {column: value for column, value in absent.items() if column not in unused}
    excluded = ", ".join((*unused, *constants))
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE identified_rows AS
        SELECT own.* EXCLUDE ({excluded}), hash(own.event_id) AS event_hash,
            own.user_id IS NOT NULL AS carries_user,
            coalesce(alias_ends.user_id, own.own_user, devices.user_id,
                CASE WHEN options.keeps_visitors THEN own.anon_id END) AS uid
        FROM own
        JOIN options ON own.imp = options.imp
        LEFT JOIN device_users AS devices
            ON own.own_user IS NULL AND own.file_no = devices.file_no AND own.row = devices.row
        LEFT JOIN alias_ends ON coalesce(own.own_user, devices.user_id) = alias_ends.alias_id""")
    added = "".join(f", {value} AS {column}" for column, value in constants.items())
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW identified AS SELECT *{added} FROM identified_rows"
    )
    return cycles


def set_options(connection: duckdb.DuckDBPyConnection, imports: Sequence[Import]) -> None:
    """Create the table `options`, which has what the shared steps need of each import's settings."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE options"
        " (imp INTEGER, keeps_visitors BOOLEAN, is_by_domain BOOLEAN)"
    )
    connection.executemany(
        "INSERT INTO options VALUES (?, ?, ?)",
        [
            [
                each.number,
                each.settings.anonymous == "keep",
                each.settings.account == "email_domain",
            ]
            for each in imports
        ],
    )


def chain_ends(edges: str) -> str:
    """Return a query for the end of each chain: from_id and to_id, null for ids that lead to a cycle.

    Args:
        edges: a query with one row for each from_id, and another id as to_id.
    """
    return f"""
        WITH RECURSIVE edges AS ({edges}), walk(from_id, at_id) AS (
            SELECT from_id, to_id FROM edges
            UNION
            SELECT walk.from_id, edges.to_id FROM walk JOIN edges ON walk.at_id = edges.from_id)
        SELECT edges.from_id, ends.at_id AS to_id FROM edges LEFT JOIN (
            SELECT walk.from_id, walk.at_id FROM walk
            ANTI JOIN edges ON walk.at_id = edges.from_id) AS ends ON edges.from_id = ends.from_id"""


def _map_keys(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `tool_map`: for each key of a tool's own map, its stated user and its seen user.

    The seen user is the only one that events name with the key. It is null if there are several, and
    is not searched for where there is a stated one, which counts before it.
    """
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE stated_keys AS
        SELECT kind, from_id AS map_id, to_id AS user_id FROM staged_ids
        WHERE what = 'map' AND from_id IS NOT NULL AND to_id IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY kind, from_id
            ORDER BY version DESC NULLS LAST, file_no DESC, row DESC) = 1""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE seen_keys AS
        SELECT kind, map_id, min(user_id) AS user_id
        FROM raw_events ANTI JOIN stated_keys USING (kind, map_id)
        WHERE map_id IS NOT NULL AND user_id IS NOT NULL AND NOT is_malformed
        GROUP BY ALL HAVING min(user_id) = max(user_id)""")
    ends = chain_ends("""
        SELECT kind || chr(0) || from_id AS from_id, kind || chr(0) || to_id AS to_id
        FROM staged_ids WHERE what = 'merge' AND from_id <> to_id
        QUALIFY row_number() OVER (PARTITION BY kind, from_id
            ORDER BY ts DESC NULLS LAST, file_no DESC, row DESC) = 1""")
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE tool_map AS
        WITH merges AS (
            SELECT split_part(from_id, chr(0), 1) AS kind, split_part(from_id, chr(0), 2) AS map_id,
                split_part(to_id, chr(0), 2) AS end_id FROM ({ends}) WHERE to_id IS NOT NULL),
        keys AS (SELECT kind, map_id FROM seen_keys UNION SELECT kind, map_id FROM stated_keys
            UNION SELECT kind, map_id FROM merges)
        SELECT keys.kind, keys.map_id, coalesce(stated.user_id, stated_end.user_id) AS stated_user,
            coalesce(seen_end.user_id, seen.user_id) AS seen_user
        FROM keys
        LEFT JOIN stated_keys AS stated USING (kind, map_id)
        LEFT JOIN seen_keys AS seen USING (kind, map_id)
        LEFT JOIN merges USING (kind, map_id)
        LEFT JOIN stated_keys AS stated_end
            ON keys.kind = stated_end.kind AND merges.end_id = stated_end.map_id
        LEFT JOIN seen_keys AS seen_end
            ON keys.kind = seen_end.kind AND merges.end_id = seen_end.map_id""")


def _follow_aliases(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Create `aliases` and `alias_ends`, and return the ids that are in a cycle or lead into one."""
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE aliases AS
        SELECT kind, from_id, to_id, ts FROM (
            SELECT kind, from_id, to_id, ts, file_no, row FROM staged_ids WHERE what = 'alias'
            UNION ALL
            SELECT kind, alias_of, own_user, ts, file_no, row FROM own WHERE alias_of IS NOT NULL)
        WHERE from_id IS NOT NULL AND to_id IS NOT NULL AND from_id <> to_id
        QUALIFY row_number() OVER (PARTITION BY from_id
            ORDER BY ts DESC NULLS LAST, file_no DESC, row DESC) = 1""")
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE alias_chains AS
        {chain_ends("SELECT from_id, to_id FROM aliases")}""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE alias_ends AS
        SELECT from_id AS alias_id, to_id AS user_id FROM alias_chains WHERE to_id IS NOT NULL""")
    rows = connection.execute(
        "SELECT from_id FROM alias_chains WHERE to_id IS NULL ORDER BY from_id"
    ).fetchall()
    return [row[0] for row in rows]


def _follow_devices(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `device_users`: the users of anonymous events, from the users of their devices."""
    # An event without own_user has no user_id either. Stating both filters the rows before the join.
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE visits AS
        SELECT kind, anon_id, ts, file_no, row FROM own
        WHERE own_user IS NULL AND user_id IS NULL AND anon_id IS NOT NULL AND NOT is_malformed""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE links AS
        WITH every AS (
            SELECT kind, anon_id, ts, own_user AS user_id FROM own
            WHERE own_user IS NOT NULL AND anon_id IS NOT NULL AND NOT is_malformed
            UNION ALL
            SELECT kind, anon_id, ts, user_id FROM staged_users
            WHERE anon_id IS NOT NULL AND user_id IS NOT NULL AND ts IS NOT NULL
            UNION ALL
            SELECT kind, from_id, ts, to_id FROM aliases WHERE ts IS NOT NULL),
        moments AS (
            SELECT kind, anon_id, ts, max(user_id) AS user_id FROM every
            SEMI JOIN (SELECT DISTINCT kind, anon_id FROM visits) USING (kind, anon_id)
            GROUP BY ALL)
        SELECT * FROM moments
        QUALIFY user_id IS DISTINCT FROM
            lag(user_id) OVER (PARTITION BY kind, anon_id ORDER BY ts)""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE device_users AS
        SELECT visits.file_no, visits.row, coalesce(before.user_id, after.user_id) AS user_id
        FROM visits
        ASOF LEFT JOIN links AS before ON visits.kind = before.kind
            AND visits.anon_id = before.anon_id AND visits.ts >= before.ts
        LEFT JOIN (SELECT kind, anon_id, arg_min(user_id, ts) AS user_id FROM links GROUP BY ALL)
            AS after ON visits.kind = after.kind AND visits.anon_id = after.anon_id
        WHERE coalesce(before.user_id, after.user_id) IS NOT NULL""")
