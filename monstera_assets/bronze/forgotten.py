"""Pseudonymize erased people's rows during every load and in stored tables.

The warehouse maps keyed hashes (HMAC-SHA-256) of an erased person's id and email address to a random
tombstone id, and does not keep any other identifier. The key is in a file next to the warehouse. The
source still contains the person's rows, so each load hashes the ids that it reads and replaces the ids
of erased people. `monstera forget` applies the same functions to stored rows.

Values that affect totals are replaced with keyed hashes instead of being dropped. Session ids, project
ids and target user ids affect totals, and project ids also distinguish workflow runs. Equal values have
equal hashes.

The key is always passed as a bound parameter, so statements and error messages never contain the key.
"""
# Over 400 lines: what is pseudonymized, and how, must be seen at once to be complete.

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
"""Tombstone table with the columns `kind` (user_id, email or key), `keyed_hash` and `tombstone`."""
Erasure = tuple[str, str, str]
"""A row of the tombstone table. The row with the kind `KEY` identifies the key and has no tombstone."""
KEY = "key"
TOMBSTONE_PREFIX = "forgotten_"
NO_ADDRESS = "@forgotten.invalid"
"""Suffix of the placeholders that replace erased people's email addresses."""
REMOVED = "removed"

PEOPLE = "forgotten_people"
TEXTS = "forgotten_texts"
VALUES = "forgotten_values"
_EMAILS = "forgotten_emails"
_WORDS = "forgotten_words"
_TEMPORARY = (PEOPLE, TEXTS, VALUES, _EMAILS, _WORDS)

EVENT_INPUTS = ("events", "subscription_events")
ALIASES = "bronze.bronze_user_aliases"
_KEPT_IN_METADATA = (
    "total_seats",
    "monthly_recurring_revenue",
    "subscription_tier",
    "contract_renewal_date",
    "effective_date",
    "grace_until",
)
"""Subscription values that must stay readable so that their rows are accepted."""

_KEY_BYTES = 32
_BLOCK = 64
_KEY_SUFFIX = ".forgotten-key"
_OWNER_ONLY = 0o600

# Each pattern splits a string into pieces whose concatenation is the original string.
_USER_NUMBER = r'"(?:\w*user_id|alias_id)"\s*:\s*"?-?[0-9]+"?'
_LITERAL = r'"(?:[^"\\]|\\.)*"'
_WORD = r"[\p{L}\p{N}_@+-]+(?:\.[\p{L}\p{N}_@+-]+)*"
_FIELD = r'[^,;\t|"\r\n]+'
_PIECES = (rf"(?s){_USER_NUMBER}|.", rf'(?s){_LITERAL}|[^"]+|"', rf"(?s){_WORD}|.")
_NUMBER = r"-?[0-9.]+"


class ForgottenKeyError(WarehouseError):
    """The key that identifies erased people is missing or unusable, or belongs to another warehouse."""


def key_path(database: Path) -> Path:
    """Return the path of a warehouse's key file."""
    return database.absolute().with_name(database.name + _KEY_SUFFIX)


@dataclass(frozen=True, repr=False)
class Key:
    """The secret key for keyed hashes."""

    secret: bytes

    @property
    def parameters(self) -> Mapping[str, bytes]:
        """The padded HMAC blocks, as parameters for statements that contain `keyed_hash_sql`."""
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
    """Read the key, or create a key file that only the file's owner can read.

    Raises:
        ForgottenKeyError: If the file cannot be created or read.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    except FileExistsError:
        return read_key(path)
    except OSError as error:
        raise ForgottenKeyError(f"Cannot create {path}: {error.strerror}.") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(_KEY_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return read_key(path)


def read_key(path: Path) -> Key:
    """Read the key from a file.

    Raises:
        ForgottenKeyError: If the file is missing, does not contain a key or is readable by other users.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
        secret = bytes.fromhex(text)
    except FileNotFoundError as error:
        raise ForgottenKeyError(
            f"The key file {path} is missing. Without the key that identifies erased people, a load"
            " would restore their data. Copy the key file from the original warehouse's folder."
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the file does not contain a key"
        raise ForgottenKeyError(
            f"The key file {path} cannot be read: {reason}. Restore the file."
        ) from error
    if mode & 0o077:
        raise ForgottenKeyError(
            f"The key file {path} is readable by other users. Run chmod 600 on the file."
        )
    if len(secret) != _KEY_BYTES:
        raise ForgottenKeyError(
            f"The key file {path} cannot be read: the file does not contain a key."
            " Restore the file."
        )
    return Key(secret)


def forgetting(connection: duckdb.DuckDBPyConnection) -> Forgetting | None:
    """Return a `Forgetting`, or None if no one was erased.

    Raises:
        ForgottenKeyError: If people were erased and the key is missing, unusable or wrong.
    """
    known = recorded(connection)
    if not known:
        return None
    # The current database may be a copy in memory, which is compared with the attached warehouse.
    [(path,)] = connection.execute(
        "SELECT path FROM duckdb_databases() WHERE path IS NOT NULL"
        " ORDER BY database_name = current_database() DESC LIMIT 1"
    ).fetchall()
    return Forgetting(connection, key_of(known, Path(path)))


def recorded(connection: duckdb.DuckDBPyConnection) -> list[Erasure]:
    """Return the recorded erasures, sorted."""
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name || '.' || table_name = ?",
        [FORGOTTEN],
    ).fetchall()
    if not found[0][0]:
        return []
    rows = connection.execute(f"SELECT kind, keyed_hash, tombstone FROM {FORGOTTEN} ORDER BY ALL")
    return [(kind, keyed_hash, tombstone) for kind, keyed_hash, tombstone in rows.fetchall()]


def record(connection: duckdb.DuckDBPyConnection, erasures: Iterable[Erasure]) -> None:
    """Record erasures in the caller's transaction. Known hashes keep their tombstones."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {OPERATIONS_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {FORGOTTEN} (kind VARCHAR NOT NULL, keyed_hash VARCHAR NOT"
        " NULL, tombstone VARCHAR NOT NULL)"
    )
    for row in erasures:
        connection.execute(
            f"INSERT INTO {FORGOTTEN} SELECT $1, $2, $3 WHERE $2 NOT IN"
            f" (SELECT keyed_hash FROM {FORGOTTEN} WHERE kind = $1)",
            list(row),
        )


def key_of(erasures: Iterable[Erasure], database: Path) -> Key:
    """Read the key of a warehouse in which these erasures are recorded.

    Raises:
        ForgottenKeyError: If the key is missing, unusable or wrong.
    """
    path = key_path(database)
    key = read_key(path)
    if (KEY, key.check, "") not in erasures:
        raise ForgottenKeyError(
            f"The key file {path} belongs to another warehouse. Loading with this key"
            " would restore the data of erased people. Replace the file with this warehouse's key file."
        )
    return key


class Forgetting:
    """Pseudonymize erased people in a connection's tables."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, key: Key) -> None:
        self._connection = connection
        self.key = key

    def staged(self, input_name: str) -> None:
        """Pseudonymize an input's staged rows and malformed records."""
        rows = f"{input_name}_rows"
        if input_name == "user_aliases":
            self.find_people([f"SELECT {column} FROM {rows}" for column in ("alias_id", "user_id")])
            self.find_texts([])
            self._replace(rows, self.aliases_sql(rows))
        elif input_name == "users":
            self.find_people([f"SELECT user_id FROM {rows}"])
            self.find_emails([f"SELECT user_id, email FROM {rows}"])
            self.find_texts([])
            self._replace(rows, self.users_sql(rows))
        elif input_name in EVENT_INPUTS:
            self.find_people([f"SELECT entity_id FROM {rows} WHERE {is_person()}"])
            # Email addresses are not replaced here, because loads replace all addresses in metadata.
            self.find_texts([f"SELECT metadata FROM {rows}"], by_email=False)
            self.find_values(personal_values([rows]))
            self._replace(rows, self.events_sql(rows))
        self.lines(f"{input_name}_malformed", "raw_line")
        self.drop_temporary()

    def texts(self, table: str, column: str, where: str = "TRUE") -> None:
        """Replace erased people's ids and email addresses in a text column."""
        self.find_texts([f"SELECT {column} FROM {table} WHERE {where}"])
        self._connection.execute(
            f"UPDATE {table} SET {column} = t.pseudonymized FROM {TEXTS} AS t"
            f" WHERE {table}.{column} = t.text AND ({where})"
        )

    def lines(self, table: str, column: str, where: str = "TRUE") -> None:
        """Replace malformed lines that mention an erased person.

        Malformed lines are replaced as a whole, because their fields cannot be located.
        """
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
        """Number each person's email addresses. The queries return `real_id` and `email`.

        Different addresses stay distinct, because rows with different addresses are not repeated rows.
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
        """Fill `TEXTS` (text, pseudonymized) with the queried strings that mention erased people.

        A string mentions a person if the string contains the person's id or, if `by_email` is true, the
        person's email address.

        A number is treated as an id only if the number follows a matching key, as in
        `"..._user_id": 42`.
        """
        # A string literal may contain escapes, such as "caf\u00e9".
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
        """Fill `VALUES` (kind, real_id, value, replacement) with the values that keyed hashes replace.

        Args:
            queries: for each kind, a query that returns `real_id` and `value`.
        """
        every = " UNION ".join(
            f"SELECT '{kind}' AS kind, CAST(real_id AS VARCHAR) AS real_id,"
            f" CAST(value AS VARCHAR) AS value FROM ({query})"
            for kind, query in queries.items()
        )
        # A tombstone is treated as the id that it replaced, so that hashes do not depend on the order
        # in which people are erased. An alias is treated as its user, so that stored rows and rows
        # that are loaded again, whose aliases are not replaced yet, have the same hashes.
        user = "coalesce(alias_of_user.merged_user_id, value)"
        canonical = f"coalesce(others.keyed_hash, {keyed_hash_sql('user_id', user)})"
        person = "coalesce(alias_of_person.merged_user_id, people.tombstone)"
        hashed = keyed_hash_sql("value", f"found.kind || ' ' || {person} || ' ' || {canonical}")
        aliases = self._aliases()
        self._execute(
            f"CREATE OR REPLACE TEMP TABLE {VALUES} AS SELECT found.kind, real_id, value,"
            f" found.kind || '_' || {hashed}[:32] AS replacement"
            f" FROM ({every}) AS found JOIN {PEOPLE} AS people USING (real_id)"
            f" LEFT JOIN {aliases} AS alias_of_person"
            " ON alias_of_person.alias_id = people.tombstone"
            f" LEFT JOIN {FORGOTTEN} AS erased ON erased.kind = 'user_id'"
            f" AND erased.keyed_hash = {keyed_hash_sql('user_id', 'value')}"
            f" LEFT JOIN {aliases} AS alias_of_user ON found.kind = 'target'"
            " AND alias_of_user.alias_id = coalesce(erased.tombstone, value)"
            f" LEFT JOIN {FORGOTTEN} AS others ON others.kind = 'user_id'"
            f" AND others.tombstone = {user} WHERE value <> ''"
        )

    def aliases_sql(self, rows: str) -> str:
        """Return the query that pseudonymizes `alias_id` and `user_id`."""
        return (
            "SELECT r.* REPLACE (coalesce(a.tombstone, CAST(r.alias_id AS VARCHAR)) AS alias_id,"
            " coalesce(u.tombstone, CAST(r.user_id AS VARCHAR)) AS user_id)"
            f" FROM {rows} AS r"
            f" LEFT JOIN {PEOPLE} AS a ON CAST(r.alias_id AS VARCHAR) = a.real_id"
            f" LEFT JOIN {PEOPLE} AS u ON CAST(r.user_id AS VARCHAR) = u.real_id"
        )

    def users_sql(self, rows: str) -> str:
        """Return the query that pseudonymizes `user_id` and `email`. Call `find_emails` first."""
        return (
            "SELECT r.* REPLACE (coalesce(p.tombstone, CAST(r.user_id AS VARCHAR)) AS user_id,"
            " CASE WHEN p.tombstone IS NULL OR e.position IS NULL THEN CAST(r.email AS VARCHAR)"
            f" ELSE p.tombstone || '.' || e.position || '{NO_ADDRESS}' END AS email)"
            f" FROM {rows} AS r LEFT JOIN {PEOPLE} AS p ON CAST(r.user_id AS VARCHAR) = p.real_id"
            f" LEFT JOIN {_EMAILS} AS e ON e.real_id = p.real_id"
            " AND e.email = CAST(r.email AS VARCHAR)"
        )

    def events_sql(self, rows: str) -> str:
        """Return the query that pseudonymizes events. Call `find_texts` and `find_values` first."""
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
        """Drop all temporary lookup tables."""
        for name in _TEMPORARY:
            self._connection.execute(f"DROP TABLE IF EXISTS temp.{name}")

    def _aliases(self) -> str:
        """Return SQL for the stored aliases, which may not have been loaded yet."""
        found = self._connection.execute(
            "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database()"
            " AND schema_name || '.' || table_name = ?",
            [ALIASES],
        ).fetchall()
        none = "(SELECT '' AS alias_id, '' AS merged_user_id WHERE false)"
        return ALIASES if found else none

    def _known(self, tokens: str, *, by_email: bool = True) -> str:
        """Return the query that adds `tombstone` to the tokens that mention erased people."""
        kinds = [("user_id", "value"), *([("email", "lower(value)")] if by_email else [])]
        return " UNION ALL ".join(
            f"SELECT token, value, tombstone FROM ({tokens}) JOIN {FORGOTTEN}"
            f" ON (kind = '{kind}' AND keyed_hash = {keyed_hash_sql(kind, value)})"
            for kind, value in kinds
        )

    def _replace(self, table: str, query: str) -> None:
        """Replace a staged table with the query's result if the table mentions erased people."""
        found = self._connection.execute(
            f"SELECT 1 FROM {PEOPLE} UNION ALL SELECT 1 FROM {TEXTS} LIMIT 1"
        ).fetchall()
        if found:
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {query}")

    def _execute(self, statement: str) -> None:
        self._connection.execute(statement, dict(self.key.parameters))


def keyed_hash_sql(kind: str, value: str) -> str:
    """Return the SQL for `Key.keyed_hash`. Bind `$inner` and `$outer` to the key's parameters."""
    message = f"encode('{kind}:' || {value})"
    return f"sha256($outer || unhex(sha256($inner || {message})))"


def is_person(prefix: str = "") -> str:
    """Return the SQL condition for entities that can be people. An account may share a person's id."""
    return f"coalesce(CAST({prefix}entity_type AS VARCHAR), '') NOT IN ('account', 'system')"


def personal_values(relations: Sequence[str]) -> dict[str, str]:
    """Return the queries for people's sessions, projects and targets that `find_values` needs."""
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
    # CASE is required, because AND may evaluate both sides, which fails for invalid JSON.
    return f"CASE WHEN {_is_object(text)} THEN json_extract_string({text}, '$.{name}') END"
