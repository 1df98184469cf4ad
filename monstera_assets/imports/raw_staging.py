"""Read raw files into Parquet files of a common shape, once for each content of a file.

The rows that were read are kept in the source folder, so that a daily import reads only new files,
and the rows of a file that no longer exists stay. A batch is the result of one reading, of files
with the same columns.
"""
# Over 400 lines: reading, naming and keeping a batch depend on the same columns.

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path

import duckdb

from monstera_assets.imports.own_properties import MOST_FREQUENT, SAMPLED_ROWS
from monstera_assets.imports.raw_files import Piece, RawFile, RawFormat
from monstera_assets.imports.registry import TOOLS
from monstera_assets.imports.setting_expressions import checked_expression, columns_of
from monstera_assets.imports.tools import (
    OVERRIDES,
    RELATIONS,
    Kind,
    Role,
    Select,
    pointer,
    unchecked,
)
from monstera_assets.lifecycle.timezone import UTC
from monstera_assets.settings import SettingsError
from monstera_assets.settings.imports import ImportKind, ImportSettings
from monstera_assets.source.errors import SourceError
from monstera_assets.source.parquet_files import NOT_THE_FILE
from monstera_assets.source.sql import identifier, literal

STAGING_VERSION = 3
"""Increase this number when a SELECT changes, so that files are read again."""

MALFORMED = "malformed"
_FILES_PER_BATCH = 1_000
_LARGEST_OBJECT = 64 << 20
# These options take a third less time to write than the defaults. With zstd, the file is 40% smaller,
# but an import takes 5% longer. Each thread keeps row groups in memory, so they are small.
_PARQUET = (
    "FORMAT parquet, COMPRESSION lz4, PARQUET_VERSION v2, DICTIONARY_SIZE_LIMIT 1000,"
    " ROW_GROUP_SIZE 30720"
)
_NEVER = "\x01"  # a delimiter that no line contains
_HASHED = ("name", "ts", "map_id", "anon_id", "user_id", "props", "session_id", "account_id")
"""The columns whose digest is the id of an event without an id."""


@dataclass(frozen=True)
class StagedFile:
    """What is known of a raw file that was read.

    Attributes:
        described: the number of rows that describe. Rows of events are counted later.
        malformed: the number of rows that should describe, but cannot be read.
        excluded: the number of rows that the settings leave out.
    """

    name: str
    size: int
    modified_ns: int
    sha256: str
    role: str
    batch: str
    described: int = 0
    malformed: int = 0
    excluded: int = 0
    is_present: bool = True


@dataclass
class StagedImport:
    """The files of one `[[import]]` that were read, by name, and where their rows are."""

    key: str
    folder: Path
    settings_digest: str = ""
    files: dict[str, StagedFile] = field(default_factory=dict)

    def relation(self, name: str) -> list[Path]:
        """Return the Parquet files of a relation."""
        batches = sorted({file.batch for file in self.files.values() if file.batch})
        paths = (self.folder / batch / f"{name}.parquet" for batch in batches)
        return [path for path in paths if path.exists()]


def import_key(settings: ImportSettings) -> str:
    """Return the name under which an import's rows are kept, which other settings do not change."""
    tables = (settings.events, settings.users, settings.accounts)
    origins = [str(table.get("from", "")) for table in tables]
    text = json.dumps([settings.kind, settings.path, origins])
    return f"{settings.kind}-{sha256(text.encode()).hexdigest()[:12]}"


def settings_digest(settings: ImportSettings, timezone: str) -> str:
    """Return a digest of the settings that a staged row depends on."""
    named = settings.model_dump(mode="json", exclude={"anonymous", "billing", "names", "tiers"})
    return sha256(
        json.dumps([STAGING_VERSION, timezone, named], sort_keys=True).encode()
    ).hexdigest()


def install_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the functions that the SELECTs of all tools use.

    `instant(text)` reads a UTC timestamp: ISO 8601 with or without an offset, or a number of the epoch
    whose digits give its unit. `instant_in(text, zone)` reads a time without an offset in a time zone.
    A local time that the clock shows twice is the later one.
    """
    connection.execute(r"""
        CREATE OR REPLACE TEMP MACRO epoch_number(t) AS
            try_cast(regexp_extract(trim(t), '^(\d+)(\.0+)?$', 1) AS BIGINT);
        CREATE OR REPLACE TEMP MACRO epoch_instant(n) AS
            CASE WHEN length(n::VARCHAR) BETWEEN 9 AND 10 THEN make_timestamp(n * 1000000)
                WHEN length(n::VARCHAR) BETWEEN 12 AND 13 THEN make_timestamp(n * 1000)
                WHEN length(n::VARCHAR) BETWEEN 15 AND 16 THEN make_timestamp(n)
                WHEN length(n::VARCHAR) BETWEEN 18 AND 19 THEN make_timestamp(n // 1000) END;
        CREATE OR REPLACE TEMP MACRO instant(t) AS
            coalesce(timezone('UTC', try_cast(trim(t) AS TIMESTAMPTZ)),
                epoch_instant(epoch_number(t)));
        CREATE OR REPLACE TEMP MACRO instant_in(t, zone) AS
            CASE WHEN try_cast(trim(t) AS TIMESTAMP) IS NULL OR regexp_matches(trim(t),
                    '\d{1,2}:\d{2}.*([+-]\d{2}(:?\d{2})?|[Zz]|UTC|GMT)$')
                THEN instant(t)
                ELSE timezone('UTC', timezone(zone, try_cast(trim(t) AS TIMESTAMP))) END;
        CREATE OR REPLACE TEMP MACRO known(t) AS nullif(t::VARCHAR, '');
    """)


def role_of(piece: Piece, roles: Sequence[Role]) -> Role | None:
    """Return the first role whose columns a file has, or None."""
    columns = piece.columns
    if piece.format is RawFormat.TSV_LINES:
        return next((role for role in roles if role.names_in_order), None)
    if piece.format is RawFormat.JSON_LINES and not columns:
        return roles[-1]  # no line is readable, so each of them will be counted as malformed
    return next((role for role in roles if role.accepts(columns, piece.raw_file)), None)


def stage_tool(
    connection: duckdb.DuckDBPyConnection,
    settings: ImportSettings,
    found: Mapping[RawFile, Sequence[Piece]],
    digests: Mapping[str, str],
    folder: Path,
    setting: str,
    *,
    is_first: bool,
) -> list[StagedFile]:
    """Read raw files of a tool into new batches, and return what is known of each file.

    Args:
        connection: a connection with the macros.
        settings: the import.
        found: the raw files to read, with their readable parts.
        digests: the files' SHA-256 digests, keyed by name.
        folder: where to write the batches.
        setting: the import's name in messages.
        is_first: whether no file was read with these settings before. Then a column in an expression
            must occur in a file. Later files may lack it.

    Raises:
        SettingsError: If an expression in the settings cannot be used.
        SourceError: If a file is corrupt or truncated.
    """
    roles = TOOLS[settings.kind].roles(settings)
    if is_first:
        known = {name for role in roles for name in (*role.columns, *role.names_in_order)}
        known.update(name for parts in found.values() for piece in parts for name in piece.columns)
        _check_names(expressions(settings, setting), known)
    groups: dict[tuple[object, ...], list[Piece]] = defaultdict(list)
    by_name = {role.name: role for role in roles}
    role_names: dict[str, str] = {}
    for file, parts in found.items():
        for piece in parts:
            role = role_of(piece, roles) if piece.format is not RawFormat.EMPTY else None
            if role is None:
                kind = "empty" if piece.format is RawFormat.EMPTY else "not recognized"
                role_names.setdefault(file.name, kind)
                continue
            role_names[file.name] = role.name
            shape: tuple[object, ...] = (role.name, piece.format, piece.compression)
            if piece.format in {RawFormat.PARQUET, RawFormat.CSV}:
                shape += (piece.columns, piece.types, piece.delimiter)
            groups[shape].append(piece)
    batches: dict[str, str] = {}
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    batch = _batch_name(digests, found)
    number = 0
    for shape, group in groups.items():
        for start in range(0, len(group), _FILES_PER_BATCH):
            part = group[start : start + _FILES_PER_BATCH]
            name = f"{batch}-{number:05d}"
            number += 1
            _stage_batch(
                connection, settings, by_name[str(shape[0])], part, folder / name, counts, setting
            )
            batches.update((piece.raw_file, name) for piece in part)
    return [
        StagedFile(
            file.name,
            file.size,
            file.modified_ns,
            digests[file.name],
            role_names.get(file.name, "empty"),
            batches.get(file.name, ""),
            described=counts[file.name][0],
            malformed=counts[file.name][1],
        )
        for file in found
    ]


def _batch_name(digests: Mapping[str, str], found: Iterable[RawFile]) -> str:
    content = sha256()
    for file in found:
        content.update(f"{file.name}\0{digests[file.name]}\0".encode())
    return content.hexdigest()[:16]


def _stage_batch(
    connection: duckdb.DuckDBPyConnection,
    settings: ImportSettings,
    role: Role,
    group: Sequence[Piece],
    folder: Path,
    counts: dict[str, list[int]],
    setting: str,
) -> None:
    chosen = {} if role.describes else expressions(settings, setting)
    extra = [each for texts in chosen.values() for each in columns_of(*texts)]
    raw = _raw(group, role, extra, settings)
    origins = ", ".join(
        f"({literal(str(piece.path))}, {literal(piece.raw_file)}, {number})"
        for number, piece in enumerate(group)
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE pieces AS SELECT * FROM (VALUES {origins})"
        " AS pieces(path_, raw_file, piece_)"
    )
    connection.execute(f"CREATE OR REPLACE TEMP VIEW raw AS {raw}")
    _check_expressions(connection, chosen)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name, select in role.selects.items():
            query = staged_select(
                name,
                select,
                chosen if name == "events" else {},
                _frequent_properties(connection, select),
            )
            write_relation(connection, query, folder / f"{name}.parquet")
        if role.describes:
            malformed = f"count(*) FILTER ({identifier(role.key or '')} IS NULL)"
            rows = connection.execute(
                f"SELECT raw_file, sum({role.rows}) - {malformed}, {malformed} FROM raw"
                " GROUP BY raw_file"
            ).fetchall()
            for raw_file, described, faulty in rows:
                counts[raw_file][0] += described
                counts[raw_file][1] += faulty
    except NOT_THE_FILE:
        raise
    except duckdb.Error as error:
        raise _unreadable(connection, group, error) from error


def _frequent_properties(connection: duckdb.DuckDBPyConnection, select: Select) -> list[str]:
    """Return the most frequent names of properties to keep in the first rows."""
    if select.properties is None:
        return []
    rows = connection.execute(rf"""
        SELECT name FROM (
            SELECT unnest(names_) AS name
            FROM {select.properties.opened(f"(FROM {select.source} LIMIT {SAMPLED_ROWS})")})
        WHERE regexp_full_match(name, '[a-zA-Z_$][\w $.:-]{{0,99}}')
        GROUP BY name ORDER BY count(*) DESC, name LIMIT {MOST_FREQUENT}""").fetchall()
    varying = select.properties.varying
    names = {row[0].lower(): row[0] for row in reversed(rows) if row[0] not in varying}
    return sorted(names.values())


def write_relation(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write the result of a query to a Parquet file."""
    connection.execute(f"COPY ({query}) TO {literal(str(path))} ({_PARQUET})")


def staged_select(
    name: str,
    select: Select,
    overrides: Mapping[str, tuple[str, str]],
    frequent: Sequence[str] = (),
) -> str:
    """Return the query for a relation. It has no columns for what the SELECT does not give.

    A column without values takes as long to write as a short one with them.

    Args:
        name: the relation.
        select: what becomes of the raw rows.
        overrides: the settings' expressions and their names, keyed by staged column.
        frequent: the names of frequent properties.
    """
    chosen, source = {**select.columns}, select.source
    if select.properties is not None:
        source = select.properties.opened(source, frequent)
        chosen["props"] = select.properties.as_json(frequent)
    for column, (text, setting) in overrides.items():
        chosen[column] = _override(column, checked_expression(text, setting))
    if overrides.keys() & {"account_name", "account_plan"}:
        described = chosen.get("described_account", "NULL")
        chosen["described_account"] = f"coalesce({described}, {chosen.get('account_id', 'NULL')})"
    given = {column: value for column, value in chosen.items() if value != "NULL"}
    if name == "events":
        given = dict.fromkeys(("event_id", "name", "ts"), "NULL") | given
    columns = []
    for column, kind in RELATIONS[name].items():
        if column not in given:
            continue
        value = given[column]
        if kind == "VARCHAR" and column != "props":
            value = f"known({value})"
        columns.append(f"CAST({value} AS {kind}) AS {column}")
    inner = f"SELECT raw_file, row, {', '.join(columns)} FROM {source} WHERE {select.where}"
    if name != "events":
        return inner
    hashed = ", ".join(f"{column}::VARCHAR" for column in _HASHED if column in given)
    return f"""
        SELECT * REPLACE (coalesce(event_id, md5(concat_ws('|', {hashed}))) AS event_id),
            name IS NULL OR ts IS NULL AS is_malformed
        FROM ({inner})"""


def _override(column: str, expression: str) -> str:
    """Return an expression of the settings, cast to the staged column's type."""
    value = f"TRY({expression})"
    if RELATIONS["events"][column] == "TIMESTAMP":
        return f"instant(CAST({value} AS VARCHAR))"
    if RELATIONS["events"][column] == "BOOLEAN":
        return value
    return f"CAST({value} AS VARCHAR)"


def _check_names(chosen: Mapping[str, tuple[str, str]], known: Iterable[str]) -> None:
    by_lower = {name.lower(): name for name in known}
    for text, setting in chosen.values():
        for name in columns_of(text, setting):
            if name.lower() in by_lower:
                continue
            near = get_close_matches(name.lower(), by_lower, n=1)
            similar = f" Did you mean {by_lower[near[0]]}?" if near else ""
            raise SettingsError(
                f"{setting} uses the column {name}, which no file of the export contains.{similar}"
            )


def expressions(settings: ImportSettings, setting: str) -> dict[str, tuple[str, str]]:
    """Return the settings' expressions and their names, keyed by staged column."""
    found = {}
    for name, text in settings.columns.items():
        if name not in OVERRIDES:
            raise SettingsError(
                f"{setting}.events.columns.{name} is not a supported setting. Supported expressions:"
                f" {', '.join(OVERRIDES)}."
            )
        found[OVERRIDES[name]] = (text, f"{setting}.events.columns.{name}")
    if settings.deleted_when:
        found["is_deletion"] = (settings.deleted_when, f"{setting}.deleted_when")
    return found


def _check_expressions(
    connection: duckdb.DuckDBPyConnection, chosen: Mapping[str, tuple[str, str]]
) -> None:
    for text, setting in chosen.values():
        try:
            connection.execute(f"DESCRIBE SELECT {checked_expression(text, setting)} FROM raw")
        except duckdb.Error as error:
            raise SettingsError(
                f"{setting} cannot be used: {str(error).splitlines()[0]} (given: {text!r})."
            ) from error


def _unreadable(
    connection: duckdb.DuckDBPyConnection, group: Sequence[Piece], error: duckdb.Error
) -> SourceError:
    """Return an error that names the file, which is found by reading each file alone."""
    for piece in group:
        try:
            connection.execute(f"SELECT count(*) FROM ({_scan([piece])})").fetchall()
        except duckdb.Error as alone:
            return SourceError(
                f"{piece.raw_file} is corrupt or truncated ({str(alone).splitlines()[0]}). Nothing was"
                " imported. Download or copy the file again."
            )
    if isinstance(error, duckdb.IOException):
        return SourceError(
            f"What was read cannot be written: {str(error).splitlines()[0]}. Nothing was imported."
            " Check the free disk space for the source folder and the temporary files, then run the"
            " import again."
        )
    names = ", ".join(sorted({piece.raw_file for piece in group})[:3])
    return SourceError(
        f"{names} cannot be read: {str(error).splitlines()[0]}. Nothing was imported."
    )


def _scan(group: Sequence[Piece], columns: Mapping[str, Kind] | None = None) -> str:
    """Return a query that reads files of one shape, with `path_` and an ascending `number_`."""
    first = group[0]
    paths = "[" + ", ".join(piece.literal for piece in group) + "]"
    ordered = "row_number() OVER () AS number_"
    if first.format is RawFormat.PARQUET:
        return (
            "SELECT * EXCLUDE (import_path_), import_path_ AS path_, file_row_number AS number_"
            f" FROM read_parquet({paths}, filename = 'import_path_', binary_as_string = true)"
        )
    if first.format in {RawFormat.JSON, RawFormat.JSON_LINES}:
        types = ", ".join(
            f"{literal(name)}: {literal('JSON' if kind is Kind.JSON else 'VARCHAR')}"
            for name, kind in (columns or {"a": Kind.TEXT}).items()
        )
        is_lines = first.format is RawFormat.JSON_LINES
        options = (
            "format = 'newline_delimited', ignore_errors = true" if is_lines else "format = 'auto'"
        )
        return (
            f"SELECT * EXCLUDE (import_path_), import_path_ AS path_, {ordered} FROM read_json({paths},"
            f" columns = {{{types}}}, {options}, compression = {literal(first.compression)},"
            f" maximum_object_size = {_LARGEST_OBJECT}, filename = 'import_path_')"
        )
    if first.format is RawFormat.TSV_LINES:
        return (
            f"SELECT string_split(line_, chr(9)) AS line_, import_path_ AS path_, {ordered}"
            f" FROM read_csv({paths}, columns = {{'line_': 'VARCHAR'}}, header = false,"
            f" delim = '{_NEVER}', quote = '', escape = '', auto_detect = false,"
            f" max_line_size = {_LARGEST_OBJECT}, null_padding = true, ignore_errors = true,"
            f" compression = {literal(first.compression)}, filename = 'import_path_')"
        )
    return (
        f"SELECT * EXCLUDE (import_path_), import_path_ AS path_, {ordered}"
        f" FROM read_csv({paths}, header = true, all_varchar = true, null_padding = true,"
        f" delim = {literal(first.delimiter)},"
        f" max_line_size = {_LARGEST_OBJECT}, compression = {literal(first.compression)},"
        " filename = 'import_path_')"
    )


def _whole_objects(group: Sequence[Piece], columns: Mapping[str, Kind]) -> str:
    """Return a query like that of `_scan` for JSON, with the whole object as `row_`."""
    first = group[0]
    is_lines = first.format is RawFormat.JSON_LINES
    options = (
        "format = 'newline_delimited', ignore_errors = true" if is_lines else "format = 'auto'"
    )
    fields = ", ".join(
        f"json_extract{'' if kind is Kind.JSON else '_string'}(json, {pointer(name)})"
        f" AS {identifier(name)}"
        for name, kind in columns.items()
        if name != "row_"
    )
    paths = "[" + ", ".join(piece.literal for piece in group) + "]"
    return (
        f"SELECT json AS row_, {fields}, import_path_ AS path_, row_number() OVER () AS number_"
        f" FROM read_json_objects({paths}, {options}, compression = {literal(first.compression)},"
        f" maximum_object_size = {_LARGEST_OBJECT}, filename = 'import_path_')"
    )


def _raw(group: Sequence[Piece], role: Role, extra: Iterable[str], settings: ImportSettings) -> str:
    """Return the query for the view `raw`: the role's columns, raw_file and row."""
    first = group[0]
    declared = {name.lower() for name in role.columns}
    wanted = {**role.columns, **{n: Kind.TEXT for n in extra if n.lower() not in declared}}
    zone = settings.timezone if settings.kind is ImportKind.TABLES else UTC
    if first.format in {RawFormat.JSON, RawFormat.JSON_LINES}:
        names = {
            each: kind
            for name, kind in wanted.items()
            for each in (name, *role.other_names.get(name, ()))
        }
        types = dict.fromkeys(names, "VARCHAR") | {
            name: "JSON" for name, kind in names.items() if kind is Kind.JSON
        }
        scan = _whole_objects(group, names) if "row_" in names else _scan(group, names)
    elif first.format is RawFormat.TSV_LINES:
        types = dict.fromkeys(role.names_in_order, "VARCHAR")
        complete = f"len(line_) >= {len(role.names_in_order) - 5}"
        fields = ", ".join(
            f"CASE WHEN {complete} THEN line_[{place}] END AS {identifier(name)}"
            for place, name in enumerate(role.names_in_order, start=1)
        )
        scan = f"SELECT {fields}, path_, number_ FROM ({_scan(group)})"
    else:
        types = dict(
            zip(first.columns, first.types or ["VARCHAR"] * len(first.columns), strict=True)
        )
        scan = _scan(group)
    columns = [
        f"{_read(name, kind, role, types, zone)} AS {identifier(name)}"
        for name, kind in wanted.items()
    ]
    # The code that reads these columns checks the JSON while parsing it.
    columns += [
        f"{_read(name, kind, role, types, zone, checks=False)} AS {identifier(unchecked(name))}"
        for name, kind in wanted.items()
        if kind is Kind.JSON and name != "row_"
    ]
    return (
        f"SELECT {', '.join(columns)}, pieces.raw_file, pieces.piece_ * {1 << 40} + number_ AS row"
        f" FROM ({scan}) AS scan_ JOIN pieces USING (path_)"
    )


def _read(
    name: str,
    kind: Kind,
    role: Role,
    types: Mapping[str, str],
    zone: str,
    *,
    checks: bool = True,
) -> str:
    """Return an expression that reads a raw column of any type as text, JSON or a timestamp."""
    if name == "row_":
        return "scan_.row_" if name in types else "to_json(scan_)"
    by_lower = {each.lower(): each for each in types}
    names = [by_lower.get(each.lower()) for each in (name, *role.other_names.get(name, ()))]
    values = [_value(each, kind, types[each], zone) for each in names if each is not None]
    if not checks:
        values = [
            f"CAST({f'scan_.{identifier(each)}' if types[each] == 'VARCHAR' else value} AS VARCHAR)"
            for each, value in zip(filter(None, names), values, strict=True)
        ]
        kind = Kind.TEXT
    null = {Kind.TEXT: "VARCHAR", Kind.JSON: "JSON", Kind.TIME: "TIMESTAMP"}[kind]
    return f"coalesce({', '.join(values)})" if values else f"CAST(NULL AS {null})"


def _value(name: str, kind: Kind, type_name: str, zone: str) -> str:
    column = f"scan_.{identifier(name)}"
    is_text = type_name in {"VARCHAR", "UUID"}
    is_nested = type_name.endswith("]") or type_name.startswith(("STRUCT", "MAP"))
    if kind is Kind.JSON:
        if type_name == "JSON":
            text = f"json_extract_string({column}, '$')"  # of JSON that was written as text
            is_written = f"starts_with({column}::VARCHAR, '\"') AND json_valid({text})"
            return f"CASE WHEN {is_written} THEN {text}::JSON ELSE {column} END"
        if is_nested:
            return f"to_json({column})"
        return f"TRY_CAST({column}::VARCHAR AS JSON)"
    if kind is Kind.TIME:
        if type_name == "TIMESTAMP WITH TIME ZONE":
            # timezone('UTC', ...) takes five times as long. An infinite timestamp becomes null.
            return f"make_timestamp(epoch_us({column}))"
        if type_name.startswith("TIMESTAMP") or type_name == "DATE":
            return f"CAST({column} AS TIMESTAMP)"
        if zone == UTC:
            return f"instant({column}::VARCHAR)"
        return f"instant_in({column}::VARCHAR, {literal(zone)})"
    if is_text:
        return column
    return f"CAST({f'to_json({column})' if is_nested else column} AS VARCHAR)"


def as_records(files: Iterable[StagedFile]) -> list[dict[str, object]]:
    """Return the files in a form that can be written as JSON."""
    return [asdict(file) for file in files]
