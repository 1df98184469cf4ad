"""Pseudonymize the rows of erased people, in every load and in stored tables.

The warehouse maps a keyed hash (HMAC-SHA-256) of an erased person's id and email address to a
random tombstone id, and keeps no other identifier. The key is in a file next to the warehouse. The
source still contains the person's rows, so each load hashes the ids that it reads and replaces the
erased ones. `monstera forget` applies the same functions to stored rows.

Values on which totals depend are replaced, not dropped: sessions, projects (which distinguish
workflow runs) and the people whom the person reached become keyed hashes. Equal values stay equal.

The key is always a bound parameter, so no statement and no error message contains it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.tables import OPERATIONS_SCHEMA

FORGOTTEN = f"{OPERATIONS_SCHEMA}.forgotten"
"""Table of tombstones by keyed hash: `kind` (user_id, email or key), `keyed_hash`, `tombstone`."""
TOMBSTONE_PREFIX = "forgotten_"
NO_ADDRESS = "@forgotten.invalid"
"""Suffix of the placeholders for email addresses of erased people."""
REMOVED = "removed"

PEOPLE = "forgotten_people"
TEXTS = "forgotten_texts"
VALUES = "forgotten_values"
_EMAILS = "forgotten_emails"
_WORDS = "forgotten_words"
_TEMPORARY = (PEOPLE, TEXTS, VALUES, _EMAILS, _WORDS)

EVENT_INPUTS = ("events", "subscription_events")
_KEPT_IN_METADATA = (
    "total_seats",
    "monthly_recurring_revenue",
    "subscription_tier",
    "contract_renewal_date",
    "effective_date",
    "grace_until",
)
"""Numbers, dates and tiers of subscriptions, which must stay readable for rows to be accepted."""

_KEY_BYTES = 32
_BLOCK = 64
_KEY_SUFFIX = ".forgotten-key"
_OWNER_ONLY = 0o600

# Each pattern splits a text into pieces that concatenate to the same text.
_USER_NUMBER = r'"\w*user_id"\s*:\s*"?-?[0-9]+"?'
_LITERAL = r'"(?:[^"\\]|\\.)*"'
_WORD = r"[\p{L}\p{N}_@+-]+(?:\.[\p{L}\p{N}_@+-]+)*"
_FIELD = r'[^,;\t|"\r\n]+'
_PIECES = (rf"(?s){_USER_NUMBER}|.", rf'(?s){_LITERAL}|[^"]+|"', rf"(?s){_WORD}|.")
_NUMBER = r"-?[0-9.]+"


class ForgottenKeyError(WarehouseError):
    """The key that identifies erased people is missing, unusable or from another warehouse."""


def key_path(database: Path) -> Path:
    """Return the path of a warehouse's key."""
    return database.absolute().with_name(database.name + _KEY_SUFFIX)


@dataclass(frozen=True, repr=False)
class Key:
    """The secret key of the keyed hashes."""

    secret: bytes

    @property
    def parameters(self) -> Mapping[str, bytes]:
        """The parameters of statements with `keyed_hash_sql`: the padded blocks of HMAC."""
        padded = self.secret.ljust(_BLOCK, b"\0")
        return {
            "inner": bytes(byte ^ 0x36 for byte in padded),
            "outer": bytes(byte ^ 0x5C for byte in padded),
        }

    def keyed_hash(self, kind: str, value: str) -> str:
        """Return the HMAC-SHA-256 of a value and its kind, in hexadecimal."""
        message = f"{kind}:{value}".encode()
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()

    @property
    def check(self) -> str:
        """The hash that identifies the key."""
        return self.keyed_hash("key", "")


def make_key(path: Path) -> Key:
    """Read the key, or create one that only the owner can read.

    Raises:
        ForgottenKeyError: If the file cannot be created or read.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    except FileExistsError:
        return read_key(path)
    except OSError as error:
        raise ForgottenKeyError(f"{path} cannot be created: {error.strerror}.") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(_KEY_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return read_key(path)


def read_key(path: Path) -> Key:
    """Read the key.

    Raises:
        ForgottenKeyError: If the file is missing, contains no key, or is readable by other users.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
        secret = bytes.fromhex(text)
    except FileNotFoundError as error:
        raise ForgottenKeyError(
            f"{path} is missing. It is the key that identifies erased people; without it, a load"
            " would restore their data. Copy it from the original warehouse's folder."
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it contains no key"
        raise ForgottenKeyError(f"{path} cannot be read: {reason}. Restore it.") from error
    if mode & 0o077:
        raise ForgottenKeyError(f"{path} can be read by other users. Run chmod 600 on it.")
    if len(secret) != _KEY_BYTES:
        raise ForgottenKeyError(f"{path} cannot be read: it contains no key. Restore it.")
    return Key(secret)


def forgetting(connection: duckdb.DuckDBPyConnection) -> Forgetting | None:
    """Return a `Forgetting`, or None if no one was erased.

    Raises:
        ForgottenKeyError: If people were erased, and the key is missing, unusable or wrong.
    """
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name || '.' || table_name = ?",
        [FORGOTTEN],
    ).fetchall()
    if not found[0][0]:
        return None
    checks = connection.execute(f"SELECT keyed_hash FROM {FORGOTTEN} WHERE kind = 'key'").fetchall()
    if not checks:
        return None
    [(path,)] = connection.execute(
        "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchall()
    key = read_key(key_path(Path(path)))
    if (key.check,) not in checks:
        raise ForgottenKeyError(
            f"{key_path(Path(path))} is the key of another warehouse; loading with it would restore"
            " the data of erased people. Replace it with the key of this warehouse."
        )
    return Forgetting(connection, key)


class Forgetting:
    """Pseudonymizes erased people in the tables of a connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, key: Key) -> None:
        self._connection = connection
        self.key = key

    def staged(self, input_name: str) -> None:
        """Pseudonymize the staged rows and malformed records of an input."""
        rows = f"{input_name}_rows"
        if input_name == "users":
            self.find_people([f"SELECT user_id FROM {rows}"])
            self.find_emails([f"SELECT user_id, email FROM {rows}"])
            self.find_texts([])
            self._replace(rows, self.users_sql(rows))
        elif input_name in EVENT_INPUTS:
            self.find_people([f"SELECT entity_id FROM {rows} WHERE {is_person()}"])
            # Addresses stay, because a load replaces every address in metadata in the same way.
            self.find_texts([f"SELECT metadata FROM {rows}"], by_email=False)
            self.find_values(personal_values([rows]))
            self._replace(rows, self.events_sql(rows))
        self.lines(f"{input_name}_malformed", "raw_line")
        self.drop_temporary()

    def texts(self, table: str, column: str, where: str = "TRUE") -> None:
        """Replace the ids and addresses of erased people in the texts of a column."""
        self.find_texts([f"SELECT {column} FROM {table} WHERE {where}"])
        self._connection.execute(
            f"UPDATE {table} SET {column} = t.pseudonymized FROM {TEXTS} AS t"
            f" WHERE {table}.{column} = t.text AND ({where})"
        )

    def lines(self, table: str, column: str, where: str = "TRUE") -> None:
        """Replace malformed lines that name an erased person, as their fields cannot be located."""
        candidates = " UNION ALL ".join(
            f"SELECT {column} AS line, trim(unnest(regexp_extract_all({column}, '{pattern}'))) AS token"
            f" FROM {table} WHERE {where}"
            for pattern in (_WORD, _FIELD)
        )
        known = self._known("SELECT DISTINCT token, token AS value FROM pieces")
        self._execute(
            f"CREATE OR REPLACE TEMP TABLE {_WORDS} AS WITH pieces AS MATERIALIZED ({candidates})"
            f" SELECT line, min(tombstone) AS tombstone FROM pieces JOIN ({known}) USING (token)"
            " GROUP BY line"
        )
        self._connection.execute(
            f"UPDATE {table} SET {column} = '[a line about ' || w.tombstone || ', removed]'"
            f" FROM {_WORDS} AS w WHERE {table}.{column} = w.line AND ({where})"
        )

    def find_people(self, queries: Iterable[str]) -> None:
        """Fill `PEOPLE` (real_id, tombstone) with the erased people among the queried ids."""
        ids = _texts(queries)
        self._execute(
            f"CREATE OR REPLACE TEMP TABLE {PEOPLE} AS SELECT text AS real_id, tombstone"
            f" FROM ({ids}) JOIN {FORGOTTEN} ON kind = 'user_id'"
            f" AND keyed_hash = {keyed_hash_sql('user_id', 'text')}"
        )

    def find_emails(self, queries: Iterable[str]) -> None:
        """Number the addresses of each person in `PEOPLE`, given queries for (real_id, email).

        Addresses stay distinct, because rows with different addresses do not repeat each other.
        """
        every = " UNION ".join(
            f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM ({query}) AS q(real_id, email)"
            for query in queries
        )
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_EMAILS} AS SELECT real_id, email,"
            " lpad(CAST(dense_rank() OVER (PARTITION BY real_id ORDER BY email) AS VARCHAR), 4, '0')"
            f" AS position FROM ({every}) JOIN {PEOPLE} USING (real_id) WHERE email <> ''"
        )

    def find_texts(self, queries: Iterable[str], *, by_email: bool = True) -> None:
        """Fill `TEXTS` (text, pseudonymized) with the queried texts that name erased people.

        People are named by their ids and, if `by_email` is true, by their email addresses.

        Numbers count as ids only after a matching key: `"..._user_id": 42`.
        """
        # A literal may contain escapes, such as "caf\u00e9".
        decoded = (
            "CASE WHEN contains(token, '\\') AND json_valid(token)"
            " THEN json_extract_string(token, '$') ELSE token[2:-2] END"
        )
        number = "regexp_extract(token, '(-?[0-9]+)\"?$', 1)"
        kinds = (
            (_USER_NUMBER, number, "regexp_replace(token, '\"?-?[0-9]+\"?$', '\"' || {} || '\"')"),
            (_LITERAL, decoded, "'\"' || {} || '\"'"),
            (_WORD, "token", "{}"),
        )
        every = _texts(queries)
        selects = []
        for pattern, value, replacement in kinds:
            tokens = (
                f"SELECT token, {value} AS value FROM (SELECT DISTINCT"
                f" unnest(regexp_extract_all(text, '{pattern}')) AS token FROM texts)"
            )
            if pattern != _USER_NUMBER:
                tokens = f"SELECT * FROM ({tokens}) WHERE NOT regexp_full_match(value, '{_NUMBER}')"
            selects.append(
                f"SELECT token, {replacement.format('tombstone')} AS replacement"
                f" FROM ({self._known(tokens, by_email=by_email)})"
            )
        self._execute(
            f"CREATE OR REPLACE TEMP TABLE {_WORDS} AS WITH texts AS MATERIALIZED ({every})"
            " SELECT token, min(replacement) AS replacement"
            f" FROM ({' UNION ALL '.join(selects)}) GROUP BY token"
        )
        named = " OR ".join(
            f"list_has_any(regexp_extract_all(text, '{pattern}'), map_keys(known))"
            for pattern, *_ in kinds
        )
        pseudonymized = "text"
        for pattern in _PIECES:
            pseudonymized = (
                f"array_to_string(list_transform(regexp_extract_all({pseudonymized}, '{pattern}'),"
                " lambda piece: coalesce(known[piece], piece)), '')"
            )
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {TEXTS} AS SELECT text, {pseudonymized} AS pseudonymized"
            f" FROM ({every}) CROSS JOIN (SELECT map(list(token), list(replacement)) AS known"
            f" FROM {_WORDS} HAVING count(*) > 0) WHERE {named}"
        )

    def find_values(self, queries: Mapping[str, str]) -> None:
        """Fill `VALUES` (kind, real_id, value, replacement) with values that become keyed hashes.

        Args:
            queries: per kind, a query of `real_id` and `value`.
        """
        every = " UNION ".join(
            f"SELECT '{kind}' AS kind, CAST(real_id AS VARCHAR) AS real_id,"
            f" CAST(value AS VARCHAR) AS value FROM ({query})"
            for kind, query in queries.items()
        )
        # A tombstone counts as the id that it replaced, so that hashes do not depend on the order
        # in which people are erased.
        canonical = f"coalesce(others.keyed_hash, {keyed_hash_sql('user_id', 'value')})"
        hashed = keyed_hash_sql(
            "value", f"found.kind || ' ' || people.tombstone || ' ' || {canonical}"
        )
        self._execute(
            f"CREATE OR REPLACE TEMP TABLE {VALUES} AS SELECT found.kind, real_id, value,"
            f" found.kind || '_' || {hashed}[:32] AS replacement"
            f" FROM ({every}) AS found JOIN {PEOPLE} AS people USING (real_id)"
            f" LEFT JOIN {FORGOTTEN} AS others ON others.kind = 'user_id'"
            " AND others.tombstone = value WHERE value <> ''"
        )

    def users_sql(self, rows: str) -> str:
        """Return the query that pseudonymizes `user_id` and `email`; call `find_emails` first."""
        return (
            "SELECT r.* REPLACE (coalesce(p.tombstone, CAST(r.user_id AS VARCHAR)) AS user_id,"
            " CASE WHEN p.tombstone IS NULL OR e.position IS NULL THEN CAST(r.email AS VARCHAR)"
            f" ELSE p.tombstone || '.' || e.position || '{NO_ADDRESS}' END AS email)"
            f" FROM {rows} AS r LEFT JOIN {PEOPLE} AS p ON CAST(r.user_id AS VARCHAR) = p.real_id"
            f" LEFT JOIN {_EMAILS} AS e ON e.real_id = p.real_id"
            " AND e.email = CAST(r.email AS VARCHAR)"
        )

    def events_sql(self, rows: str) -> str:
        """Return the query that pseudonymizes events; call `find_texts` and `find_values` first."""
        metadata = "CAST(r.metadata AS VARCHAR)"
        kept = ", ".join(
            f'CASE WHEN {value} IS NOT NULL THEN \'"{name}": "\' || CASE WHEN'
            f" regexp_full_match({value}, '[-+0-9.eE:TZ ]*|trial|starter|professional|enterprise')"
            f" THEN {value} ELSE '{REMOVED}' END || '\"' END"
            for name, value in ((name, _text_at(metadata, name)) for name in _KEPT_IN_METADATA)
        )
        of_person = (
            f"CASE WHEN coalesce({metadata}, '') = '' THEN {metadata}"
            f" WHEN {_is_object(metadata)} THEN '{{' || concat_ws(', ',"
            " '\"project_id\": \"' || project.replacement || '\"',"
            f" '\"target_user_id\": \"' || target.replacement || '\"', {kept}) || '}}'"
            f" ELSE '{REMOVED}' END"
        )
        joins = "".join(
            f" LEFT JOIN {VALUES} AS {kind} ON {kind}.kind = '{kind}'"
            f" AND {kind}.real_id = p.real_id AND {kind}.value = {value}"
            for kind, value in (
                ("session", "CAST(r.session_id AS VARCHAR)"),
                ("project", _text_at(metadata, "project_id")),
                ("target", _text_at(metadata, "target_user_id")),
            )
        )
        return (
            "SELECT r.* REPLACE (coalesce(p.tombstone, CAST(r.entity_id AS VARCHAR)) AS entity_id,"
            " coalesce(session.replacement, CAST(r.session_id AS VARCHAR)) AS session_id,"
            f" CASE WHEN p.tombstone IS NULL THEN coalesce(named.pseudonymized, {metadata})"
            f" ELSE {of_person} END AS metadata)"
            f" FROM {rows} AS r LEFT JOIN {PEOPLE} AS p"
            f" ON CAST(r.entity_id AS VARCHAR) = p.real_id AND {is_person('r.')}{joins}"
            f" LEFT JOIN {TEXTS} AS named ON named.text = {metadata}"
        )

    def drop_temporary(self) -> None:
        """Drop the temporary tables of all lookups."""
        for name in _TEMPORARY:
            self._connection.execute(f"DROP TABLE IF EXISTS temp.{name}")

    def _known(self, tokens: str, *, by_email: bool = True) -> str:
        """Return the query for `token` and `value` rows that name erased people, with `tombstone`."""
        kinds = [("user_id", "value"), *([("email", "lower(value)")] if by_email else [])]
        return " UNION ALL ".join(
            f"SELECT token, value, tombstone FROM ({tokens}) JOIN {FORGOTTEN}"
            f" ON (kind = '{kind}' AND keyed_hash = {keyed_hash_sql(kind, value)})"
            for kind, value in kinds
        )

    def _replace(self, table: str, query: str) -> None:
        """Replace a staged table with a query on it, if it names erased people."""
        found = self._connection.execute(
            f"SELECT 1 FROM {PEOPLE} UNION ALL SELECT 1 FROM {TEXTS} LIMIT 1"
        ).fetchall()
        if found:
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {query}")

    def _execute(self, statement: str) -> None:
        self._connection.execute(statement, dict(self.key.parameters))


def keyed_hash_sql(kind: str, value: str) -> str:
    """Return `Key.keyed_hash` in SQL; bind `$inner` and `$outer` to the key's parameters."""
    message = f"encode('{kind}:' || {value})"
    return f"sha256($outer || unhex(sha256($inner || {message})))"


def is_person(prefix: str = "") -> str:
    """Return the SQL condition for entities that can be people; an account may have the same id."""
    return f"coalesce(CAST({prefix}entity_type AS VARCHAR), '') NOT IN ('account', 'system')"


def personal_values(relations: Sequence[str]) -> dict[str, str]:
    """Return queries for people's sessions, projects and targets in events, for `find_values`."""
    values = {
        "session": "session_id",
        "project": _text_at("CAST(metadata AS VARCHAR)", "project_id"),
        "target": _text_at("CAST(metadata AS VARCHAR)", "target_user_id"),
    }
    return {
        kind: " UNION ALL ".join(
            f"SELECT entity_id AS real_id, {value} AS value FROM {relation} WHERE {is_person()}"
            f" AND CAST(entity_id AS VARCHAR) IN (SELECT real_id FROM {PEOPLE})"
            for relation in relations
        )
        for kind, value in values.items()
    }


def _texts(queries: Iterable[str]) -> str:
    every = " UNION ALL ".join(
        f"SELECT CAST(text AS VARCHAR) AS text FROM ({query}) AS q(text)"
        for query in (*queries, "SELECT NULL")
    )
    return f"SELECT DISTINCT text FROM ({every}) WHERE text IS NOT NULL"


def _is_object(text: str) -> str:
    return f"CASE WHEN json_valid({text}) THEN json_type({text}) = 'OBJECT' ELSE FALSE END"


def _text_at(text: str, name: str) -> str:
    # CASE, because AND may evaluate both sides, which fails for text that is not JSON.
    return f"CASE WHEN {_is_object(text)} THEN json_extract_string({text}, '$.{name}') END"
