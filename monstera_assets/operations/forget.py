"""Erase a person on request by replacing their id everywhere with a random tombstone.

This module rewrites stored tables, the database file, Dagster's logs and exports. The rules for
pseudonymizing rows are in `monstera_assets.bronze.forgotten` because loads also apply these rules.

The steps are ordered so that an erasure can be resumed. The logs are rewritten first, while the id
and address are still known, followed by all tables in one transaction. The lists next to the backups,
the database file, the exports, the published copy and the dashboards come last, since rewriting them
requires neither the id nor the address. To complete an interrupted erasure, run it again.
"""
# Over 400 lines: an erasure is complete only if every place is in this list, in this order.

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from monstera_assets.bronze import bronze_users, event_rules
from monstera_assets.bronze.forgotten import (
    ALIASES,
    FORGOTTEN,
    KEY,
    PEOPLE,
    TEXTS,
    TOMBSTONE_PREFIX,
    VALUES,
    Erasure,
    Forgetting,
    Key,
    forgetting,
    is_person,
    key_of,
    key_path,
    make_key,
    personal_values,
    record,
    recorded,
)
from monstera_assets.operations.erasure_lists import list_beside_backups
from monstera_assets.operations.exports import export_again
from monstera_assets.operations.home import dagster_home
from monstera_assets.operations.logs import forget_in_logs
from monstera_assets.operations.open_warehouse import open_warehouse
from monstera_assets.operations.publishing import STORAGE, replacing_copy
from monstera_assets.settings import Settings
from monstera_assets.source.sql import literal
from monstera_assets.warehouse.compaction import compact_file, request_compaction
from monstera_assets.warehouse.connection import connect, connection_config
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine, quote
from monstera_assets.warehouse.engine import Engine
from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.files import attached, copy_database
from monstera_assets.warehouse.tables import OPERATIONS_SCHEMA, Layer, Table

_EVENT_COLUMNS = {"event_id", "entity_id", "entity_type", "session_id", "metadata"}
_EVENT_FIELDS = event_rules.SOURCE_COLUMNS
_REJECTED_EVENTS = "bronze.bronze_rejected_events"
_REJECTED_ENTITIES = "bronze.bronze_rejected_entities"
_USERS = "bronze.bronze_users"
_FAULTS = "bronze.bronze_source_faults"
_ROWS = "forgotten_rows"
_EMAILS_OF_USERS = f"SELECT coalesce(alias_id, user_id) AS user_id, email FROM {_USERS}"
"""The query for each address with the id that has the address in the source."""

Columns = Mapping[str, str]
"""DuckDB types, by column name."""


class ForgetError(WarehouseError):
    """The id does not identify a person. No data was erased."""


@dataclass(frozen=True)
class Forgotten:
    """The result of an erasure.

    Attributes:
        tombstone: the tombstone for the given id. Each other id of the person has its own tombstone.
        already: whether all ids of the person had already been erased.
        logs: the Dagster files and PostgreSQL database that contained the id or address.
        exports: the rewritten export folders.
        published: the rewritten published copy, if it exists.
        sites: the folders of the rebuilt dashboards.
        unreached: the backup folders that do not exist, whose lists of erasures were not updated.
    """

    tombstone: str
    already: bool
    logs: tuple[Path | str, ...]
    exports: tuple[Path, ...]
    published: Path | None
    sites: tuple[Path, ...]
    unreached: tuple[Path, ...]


def forget_person(
    settings: Settings,
    user_id: str,
    tables: Sequence[Table],
    rebuild_sites: Callable[[], Sequence[Path]] = tuple,
) -> Forgotten:
    """Replace a person with a tombstone in the warehouse, exports, dashboards, logs and later loads.

    Every id that is merged with the given id by an alias is replaced as well.

    Args:
        settings: the warehouse settings.
        user_id: the person's id in the source.
        tables: all declared tables.
        rebuild_sites: rebuilds the dashboards and returns their folders.

    Raises:
        ForgetError: If the id is unknown.
        ForgottenKeyError: If other people have already been erased and the key for their hashes is
            missing.
        WarehouseLockedError: If the database remains locked.
        WarehouseError: If the disk is full. Repeat the call to complete the erasure.
    """
    if not user_id.strip():
        raise ForgetError("The user id is empty. Pass the id that the user has in the source.")
    logs: list[Path | str] = []
    with _writing(settings) as connection:
        known = forgetting(connection)
        path = key_path(settings.database)
        tombstone = _tombstone_of(connection, known, user_id)
        if tombstone is None:
            _require_known(connection, user_id)
        ids = _remaining_ids(connection, tombstone or user_id)
        tombstones = {each: TOMBSTONE_PREFIX + secrets.token_hex(8) for each in ids}
        if tombstones:
            key = known.key if known else make_key(path)
            emails = {each: _emails(connection, each) for each in tombstones}
            for each, replacement in tombstones.items():
                logs += forget_in_logs(dagster_home(settings), [each, *emails[each]], replacement)
            with DuckDBEngine(connection).transaction():
                request_compaction(connection)
                for each, replacement in tombstones.items():
                    _note(connection, key, each, emails[each], replacement)
                forgotten = Forgetting(connection, key)
                connection.execute(
                    f"CREATE OR REPLACE TEMP TABLE {PEOPLE} AS"
                    " SELECT unnest(?::VARCHAR[]) AS real_id, unnest(?::VARCHAR[]) AS tombstone",
                    [list(tombstones), list(tombstones.values())],
                )
                _erase(connection, forgotten, tables)
            forgotten.drop_temporary()
        with open_warehouse(settings).open() as engine:
            _erase_outside_the_file(engine, recorded(connection), settings.database, tables)
        # Restoring a backup reads these lists, and cannot start while the database is locked.
        unreached = list_beside_backups(settings.database, recorded(connection))
    compact_file(settings.database, settings.lock_timeout_seconds)
    return Forgotten(
        tombstone or tombstones[user_id],
        not tombstones,
        tuple(dict.fromkeys(logs)),
        tuple(export_again(settings, tables)),
        _erase_published(settings, tables),
        tuple(rebuild_sites()),
        tuple(unreached),
    )


def erase_recorded(
    connection: duckdb.DuckDBPyConnection,
    key: Key,
    erasures: Sequence[Erasure],
    tables: Sequence[Table],
) -> None:
    """Erase people from a database that was written before their erasures were recorded.

    Free pages of the file still contain the erased rows.
    """
    with DuckDBEngine(connection).transaction():
        record(connection, erasures)
        forgotten = Forgetting(connection, key)
        stored = _stored(connection)
        forgotten.find_people(
            [
                *_id_queries(stored),
                *(
                    f"SELECT {quote(column)} FROM {name}"
                    for name, columns in stored.items()
                    for column in _user_columns(name, columns, tables)
                ),
            ]
        )
        people = connection.execute(f"SELECT real_id, tombstone FROM {PEOPLE}").fetchall()
        for user_id, tombstone in people:
            _note(connection, key, user_id, _emails(connection, user_id), tombstone)
        _erase(connection, forgotten, tables)
    forgotten.drop_temporary()


def _erase_outside_the_file(
    engine: Engine, erasures: Sequence[Erasure], database: Path, tables: Sequence[Table]
) -> None:
    """Erase all erased people from the tables that the engine stores outside of the DuckDB file.

    An interrupted erasure is completed by a repeated one, since all erased people are looked for.
    """
    if not erasures:
        return
    key = key_of(erasures, database)

    def find(connection: duckdb.DuckDBPyConnection, views: Mapping[Table, str]) -> set[str]:
        """Return the ids and addresses of erased people that the tables still contain."""
        record(connection, erasures)
        named = {view: _text_columns(table) for table, view in views.items()}
        queries = [
            f"SELECT {quote(column)} FROM {view}"
            for (table, view), columns in zip(views.items(), named.values(), strict=True)
            for column in _user_columns(table.qualified_name, columns, tables)
        ]
        queries += [
            f"SELECT entity_id FROM {view} WHERE {is_person()}"
            for view, columns in named.items()
            if {*columns} >= _EVENT_COLUMNS
        ]
        forgotten = Forgetting(connection, key)
        forgotten.find_people(queries)
        of_people = f"IN (SELECT real_id FROM {PEOPLE})"
        found = [f"SELECT real_id FROM {PEOPLE}"]
        if users := views.get(bronze_users.TABLE):
            found.append(
                f"SELECT email FROM {users} WHERE email <> '' AND (user_id {of_people}"
                f" OR alias_id {of_people})"
            )
        texts = connection.execute(" UNION ".join(found)).fetchall()
        forgotten.drop_temporary()
        return {text for (text,) in texts}

    engine.rewrite(
        tables, find, lambda connection: erase_recorded(connection, key, erasures, tables)
    )


def _text_columns(table: Table) -> Columns:
    return {column.name: column.stored_type for column in table.columns}


def _erase_published(settings: Settings, tables: Sequence[Table]) -> Path | None:
    """Erase all erased people from the published copy, and return its path if it exists.

    The warehouse may contain the results of a failed run, which are not published.
    """
    path = settings.published
    if not path.exists():
        return None
    # A run that starts now waits, because it would replace the copy.
    with (
        connect(
            str(settings.database),
            {},
            lock_timeout_seconds=settings.lock_timeout_seconds,
            read_only=True,
        ) as connection,
        replacing_copy(path) as incoming,
    ):
        erasures = recorded(connection)
        old = incoming.with_name(incoming.name + ".old")
        shutil.copyfile(path, old)
        config = connection_config(settings.memory_limit, settings.threads, settings.temp_directory)
        with connect(str(old), config, any_layout=True) as copy:
            erase_recorded(copy, key_of(erasures, settings.database), erasures, tables)
            copy.execute(f"DROP SCHEMA {OPERATIONS_SCHEMA} CASCADE")
            with attached(copy, incoming, "rewritten", STORAGE):
                copy_database(copy, "rewritten")
        old.unlink()
    return path


def _tombstone_of(
    connection: duckdb.DuckDBPyConnection, known: Forgetting | None, user_id: str
) -> str | None:
    if known is None:
        return None
    found = connection.execute(
        f"SELECT tombstone FROM {FORGOTTEN} WHERE kind = 'user_id' AND keyed_hash = ?",
        [known.key.keyed_hash("user_id", user_id)],
    ).fetchall()
    if found:
        return str(found[0][0])
    if connection.execute(
        f"SELECT 1 FROM {FORGOTTEN} WHERE kind = 'user_id' AND tombstone = ?", [user_id]
    ).fetchall():
        raise ForgetError(
            f"{user_id} is a tombstone: this person has already been erased. Pass an id from the"
            " source."
        )
    return None


def _remaining_ids(connection: duckdb.DuckDBPyConnection, stored_id: str) -> list[str]:
    """Return the ids that are merged with a stored id and not yet erased, starting with the user's id.

    A person can get further aliases after an erasure.
    """
    stored = _stored(connection)
    ids = [stored_id]
    if ALIASES in stored:
        ids = [
            found
            for (found,) in connection.execute(
                f"WITH same AS (SELECT $1 AS id UNION SELECT merged_user_id FROM {ALIASES}"
                f" WHERE alias_id = $1) SELECT id FROM (SELECT id FROM same UNION SELECT alias_id"
                f" FROM {ALIASES} WHERE merged_user_id IN (SELECT id FROM same))"
                f" ORDER BY id IN (SELECT alias_id FROM {ALIASES}), id",
                [stored_id],
            ).fetchall()
        ]
    if FORGOTTEN not in stored:
        return ids
    erased = connection.execute(f"SELECT tombstone FROM {FORGOTTEN}").fetchall()
    return [each for each in ids if (each,) not in erased]


def _require_known(connection: duckdb.DuckDBPyConnection, user_id: str) -> None:
    queries = _id_queries(_stored(connection))
    found = (
        queries
        and connection.execute(
            f"SELECT 1 FROM ({' UNION ALL '.join(queries)}) WHERE id = ? LIMIT 1", [user_id]
        ).fetchall()
    )
    if not found:
        raise ForgetError(
            "The warehouse contains no user with this id. No data was erased. Check the id, which is"
            " case-sensitive, or load the source first."
        )


def _id_queries(stored: Mapping[str, Columns]) -> list[str]:
    """Return queries for the ids of people in bronze tables."""
    queries = [f"SELECT user_id AS id FROM {_USERS}"] if _USERS in stored else []
    queries += [
        f"SELECT entity_id AS id FROM {name} WHERE {is_person()}" for name in _event_tables(stored)
    ]
    if _REJECTED_EVENTS in stored:
        rows = _rejected_as_events(_REJECTED_EVENTS)
        queries.append(f"SELECT entity_id AS id FROM ({rows}) WHERE {is_person()}")
    if _REJECTED_ENTITIES in stored:
        queries.append(f"SELECT user_id AS id FROM ({_rejected_users()})")
    if ALIASES in stored:
        queries.append(f"SELECT unnest([alias_id, user_id]) AS id FROM {ALIASES}")
    return queries


def _emails(connection: duckdb.DuckDBPyConnection, user_id: str) -> list[str]:
    stored = _stored(connection)
    queries = [_EMAILS_OF_USERS] if "email" in stored.get(_USERS, {}) else []
    if _REJECTED_ENTITIES in stored:
        queries.append(f"SELECT user_id, email FROM ({_rejected_users()})")
    if not queries:
        return []
    return [
        email
        for (email,) in connection.execute(
            f"SELECT DISTINCT email FROM ({' UNION ALL '.join(queries)})"
            " WHERE user_id = ? AND email <> '' ORDER BY email",
            [user_id],
        ).fetchall()
    ]


def _note(
    connection: duckdb.DuckDBPyConnection,
    key: Key,
    user_id: str,
    emails: Sequence[str],
    tombstone: str,
) -> None:
    rows = [
        (KEY, key.check, ""),
        ("user_id", key.keyed_hash("user_id", user_id), tombstone),
        *(("email", key.keyed_hash("email", email.lower()), tombstone) for email in emails),
    ]
    record(connection, rows)


def _erase(
    connection: duckdb.DuckDBPyConnection,
    forgotten: Forgetting,
    tables: Sequence[Table],
) -> None:
    """Pseudonymize all stored rows of the people in `PEOPLE`, as a load would."""
    stored = _stored(connection)
    has_emails = "email" in stored.get(_USERS, {})  # unlike in a published copy
    events = _event_tables(stored)
    sessions = [name for name, columns in stored.items() if {"user_id", "session_id"} <= {*columns}]
    runs = [name for name, columns in stored.items() if {"user_id", "instance_id"} <= {*columns}]
    if ALIASES in stored:
        # Loads also replace the aliases before all other rows.
        _erase_ids(connection, ALIASES, _user_columns(ALIASES, stored[ALIASES], tables))
    rejected = [name for name in (_REJECTED_EVENTS, _REJECTED_ENTITIES) if name in stored]
    rejected_events = [f"({_rejected_as_events(name)})" for name in rejected]
    emails = [_EMAILS_OF_USERS] if has_emails else []
    if _REJECTED_ENTITIES in stored:
        emails.append(f"SELECT user_id, email FROM ({_rejected_users()})")
    if emails:
        forgotten.find_emails(emails)
    values = personal_values([*events, *rejected_events])
    of_person = f"user_id IN (SELECT real_id FROM {PEOPLE})"
    for kind, queries in (
        (
            "session",
            [
                f"SELECT user_id AS real_id, session_id AS value FROM {name} WHERE {of_person}"
                for name in sessions
            ],
        ),
        *(
            (
                kind,
                [
                    f"SELECT user_id AS real_id, instance_id AS value FROM {name} WHERE {of_person}"
                    f" AND instance_type = '{kind}'"
                    for name in runs
                ],
            )
            for kind in ("session", "project")
        ),
    ):
        values[kind] = " UNION ALL ".join(filter(None, [values[kind], *queries]))
    if any(values.values()):
        forgotten.find_values({kind: query for kind, query in values.items() if query})
    forgotten.find_texts(
        [
            *(f"SELECT metadata FROM {name}" for name in (*events, *rejected_events)),
            *(f"SELECT CAST(to_json(instance_id) AS VARCHAR) FROM {name}" for name in runs),
        ]
    )
    for name in events:
        _erase_events(connection, forgotten, name, has_faults="faults" in stored[name])
    for name in rejected:
        _erase_rejected_events(connection, forgotten, name)
    if _REJECTED_ENTITIES in stored:
        _erase_rejected_users(connection, forgotten)
    if has_emails:
        rows = (
            "(SELECT DISTINCT user_id AS old_id, email AS old_email, user_id, email"
            f" FROM ({_EMAILS_OF_USERS}) WHERE {of_person})"
        )
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {_ROWS} AS {forgotten.users_sql(rows)}")
        connection.execute(
            f"UPDATE {_USERS} AS t SET email = r.email FROM {_ROWS} AS r"
            " WHERE coalesce(t.alias_id, t.user_id) = r.old_id AND t.email = r.old_email"
        )
    for name in sessions:
        connection.execute(
            f"UPDATE {name} AS t SET session_id = v.replacement FROM {VALUES} AS v"
            " WHERE v.kind = 'session' AND t.user_id = v.real_id AND t.session_id = v.value"
        )
    for name in runs:
        _erase_runs(connection, name)
    for name, columns in stored.items():
        _erase_ids(connection, name, _user_columns(name, columns, tables))
    if _FAULTS in stored:
        connection.execute(
            f"UPDATE {_FAULTS} SET example_ids = list_transform(example_ids,"
            " lambda id: coalesce(known[id], id))"
            f" FROM (SELECT map(list(real_id), list(tombstone)) AS known FROM {PEOPLE})"
            " WHERE event_type = ''"
        )
    for name in rejected:
        is_row = "CASE WHEN json_valid(raw_row) THEN json_type(raw_row) = 'OBJECT' ELSE FALSE END"
        forgotten.texts(name, "raw_row", is_row)
        forgotten.lines(name, "raw_row", f"NOT ({is_row})")
    for name, columns in stored.items():
        if name.startswith(f"{OPERATIONS_SCHEMA}.") and name != FORGOTTEN:
            for column, dtype in columns.items():
                if dtype == "VARCHAR":
                    forgotten.texts(name, quote(column))


def _erase_ids(connection: duckdb.DuckDBPyConnection, name: str, columns: Sequence[str]) -> None:
    for column in columns:
        connection.execute(
            f"UPDATE {name} AS t SET {quote(column)} = p.tombstone FROM {PEOPLE} AS p"
            f" WHERE t.{quote(column)} = p.real_id"
        )


def _erase_events(
    connection: duckdb.DuckDBPyConnection, forgotten: Forgetting, name: str, *, has_faults: bool
) -> None:
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_ROWS} AS SELECT event_id, entity_id, entity_type,"
        f" session_id, metadata FROM {name} WHERE entity_id IN (SELECT real_id FROM {PEOPLE})"
        f" OR metadata IN (SELECT text FROM {TEXTS})"
    )
    connection.execute(
        f"UPDATE {name} AS t SET entity_id = r.entity_id, session_id = r.session_id,"
        f" metadata = r.metadata FROM ({forgotten.events_sql(_ROWS)}) AS r"
        " WHERE t.event_id = r.event_id"
    )
    if has_faults:
        # The person's own metadata no longer contains addresses.
        connection.execute(
            f"UPDATE {name} SET faults = nullif(array_to_string(list_filter(split(faults, ','),"
            " lambda fault: fault <> 'email_in_metadata'), ','), '')"
            f" WHERE faults IS NOT NULL AND entity_id IN (SELECT tombstone FROM {PEOPLE})"
        )
        _count_addresses(connection, name)


def _count_addresses(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Recount the addresses in a table's metadata for `bronze_source_faults`."""
    input_name = name.removeprefix("bronze.bronze_")
    of_input = f"input_name = '{input_name}' AND fault = 'email_in_metadata'"
    counted = connection.execute(
        "SELECT 1 FROM duckdb_tables() WHERE table_name = 'bronze_source_faults'"
    ).fetchall()
    if counted:
        connection.execute(f"DELETE FROM {_FAULTS} WHERE {of_input}")
        connection.execute(
            f"INSERT INTO {_FAULTS} BY NAME SELECT '{input_name}' AS input_name,"
            " 'email_in_metadata' AS fault, event_type, count(*) AS rows,"
            " min(event_date) AS first_date, max(event_date) AS last_date,"
            f" min(event_id, 3) AS example_ids FROM {name}"
            " WHERE list_contains(split(faults, ','), 'email_in_metadata') GROUP BY event_type"
        )


def _erase_rejected_events(
    connection: duckdb.DuckDBPyConnection, forgotten: Forgetting, name: str
) -> None:
    _erase_raw_rows(
        connection, name, forgotten.events_sql(f"({_rejected_as_events(name)})"), _EVENT_FIELDS
    )


def _erase_rejected_users(connection: duckdb.DuckDBPyConnection, forgotten: Forgetting) -> None:
    _erase_raw_rows(
        connection,
        _REJECTED_ENTITIES,
        forgotten.users_sql(f"({_rejected_users()})"),
        bronze_users.SOURCE_COLUMNS,
    )


def _erase_raw_rows(
    connection: duckdb.DuckDBPyConnection, name: str, rows: str, fields: Sequence[str]
) -> None:
    """Rewrite raw rows in the format that `validation.raw_row` uses."""
    row = ", ".join(f"{literal(field)}: {quote(field)}" for field in fields)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_ROWS} AS SELECT DISTINCT raw_row,"
        f" CAST(CAST({{{row}}} AS JSON) AS VARCHAR) AS pseudonymized FROM ({rows})"
    )
    connection.execute(
        f"UPDATE {name} AS t SET raw_row = r.pseudonymized FROM {_ROWS} AS r"
        " WHERE t.raw_row = r.raw_row AND r.pseudonymized <> r.raw_row"
    )


def _erase_runs(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    connection.execute(
        f"UPDATE {name} AS t SET instance_id = v.replacement FROM {VALUES} AS v"
        " WHERE v.kind = t.instance_type AND t.user_id = v.real_id AND t.instance_id = v.value"
    )
    # The names of other users' projects can contain the id or address.
    connection.execute(
        f"UPDATE {name} AS t SET instance_id = json_extract_string(n.pseudonymized, '$')"
        f" FROM {TEXTS} AS n WHERE t.instance_type = 'project'"
        f" AND t.user_id NOT IN (SELECT real_id FROM {PEOPLE})"
        " AND n.text = CAST(to_json(t.instance_id) AS VARCHAR)"
    )


def _rejected_as_events(name: str) -> str:
    """Return SQL that selects a table's rejected events as raw columns and `raw_row`."""
    inputs = "" if name == _REJECTED_EVENTS else "input_name = 'subscription_events'"
    return _fields(name, _EVENT_FIELDS, inputs)


def _rejected_users() -> str:
    return _fields(_REJECTED_ENTITIES, bronze_users.SOURCE_COLUMNS, "input_name = 'users'")


def _fields(name: str, fields: Sequence[str], condition: str = "") -> str:
    columns = ", ".join(
        f"json_extract_string(raw_row, '$.{field}') AS {quote(field)}" for field in fields
    )
    # A record that could not be parsed is not JSON and must not reach the JSON functions.
    rows = (
        f"SELECT DISTINCT raw_row FROM {name} WHERE {condition or 'TRUE'}"
        " AND CASE WHEN json_valid(raw_row) THEN json_type(raw_row) = 'OBJECT' ELSE FALSE END"
    )
    return f"SELECT raw_row, {columns} FROM ({rows})"


def _user_columns(name: str, columns: Columns, tables: Sequence[Table]) -> list[str]:
    referring = {
        column.name
        for table in tables
        if table.qualified_name == name
        for column in table.columns
        if column.references is not None and column.references.table == "bronze_users"
    }
    return [
        column
        for column, dtype in columns.items()
        if dtype == "VARCHAR"
        and (
            column in referring or column in ("user_id", "alias_id") or column.endswith("_user_id")
        )
    ]


def _event_tables(stored: Mapping[str, Columns]) -> list[str]:
    return [name for name, columns in stored.items() if {*columns} >= _EVENT_COLUMNS]


def _stored(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Return the columns of every stored table, including undeclared tables."""
    schemas = ", ".join(literal(str(schema)) for schema in (*Layer, OPERATIONS_SCHEMA))
    tables: dict[str, dict[str, str]] = {}
    for schema, table, column, dtype in connection.execute(
        "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns()"
        " JOIN duckdb_tables() USING (database_name, schema_name, table_name)"
        " WHERE database_name = current_database() AND NOT duckdb_tables.temporary"
        f" AND schema_name IN ({schemas}) ORDER BY ALL"
    ).fetchall():
        name = (
            f"{schema}.{table}"
            if f"{schema}{table}".isidentifier()
            else (f"{quote(schema)}.{quote(table)}")
        )
        tables.setdefault(name, {})[column] = dtype
    return tables


@contextmanager
def _writing(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(
        str(settings.database),
        connection_config(settings.memory_limit, settings.threads, settings.temp_directory),
        lock_timeout_seconds=settings.lock_timeout_seconds,
    ) as connection:
        yield connection
