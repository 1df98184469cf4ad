"""Any other files: one SQL expression in the settings for each column.

Files are read as those of a source are. Columns of text files are text, and the expressions see every
column under its name. A value that an expression cannot compute for a row counts as missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import duckdb

from monstera_assets.imports.own_properties import own_properties
from monstera_assets.imports.raw_files import RawFile
from monstera_assets.imports.raw_staging import StagedFile, staged_select, write_relation
from monstera_assets.imports.setting_expressions import checked_expression, columns_of
from monstera_assets.imports.tools import RELATIONS, Select
from monstera_assets.settings import SettingsError
from monstera_assets.settings.imports import ImportSettings
from monstera_assets.source.errors import SourceError
from monstera_assets.source.layout import FileStamp, SourceFile, SourceInput, input_format
from monstera_assets.source.reader import RawColumn, stage_rows
from monstera_assets.source.sql import literal

_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "events": {
        "event_id": "event_id",
        "user_id": "user_id",
        "anonymous_id": "anon_id",
        "event": "name",
        "timestamp": "ts",
        "received_at": "received_at",
        "location": "location",
        "session_id": "session_id",
        "properties": "props",
        "account_id": "account_id",
        "product_id": "product_id",
        "url": "url",
    },
    "users": {
        "user_id": "user_id",
        "email": "email",
        "account_id": "account_id",
        "created_at": "created_at",
        "country": "country",
        "acquisition_source": "source",
        "deleted_at": "deleted_at",
        "valid_from": "ts",
    },
    "accounts": {
        "account_id": "account_id",
        "name": "name",
        "tier": "plan",
        "seats": "seats",
        "created_at": "created_at",
        "valid_from": "ts",
        "first_paid_at": "first_paid_at",
        "monthly_recurring_revenue": "revenue",
        "contract_renewal_date": "renewal",
    },
}
"""The staged columns, keyed by relation and by the name of the setting."""


def patterns(settings: ImportSettings) -> Mapping[str, str]:
    """Return the path of each relation's files, keyed by relation."""
    found = {}
    for name in _COLUMNS:
        table: Mapping[str, object] = getattr(settings, name)
        if table:
            found[name] = str(Path(settings.path or ".") / str(table["from"]))
    return found


def expressions(
    settings: ImportSettings, relation: str, setting: str
) -> dict[str, tuple[str, str]]:
    """Return a relation's expressions and their names, keyed by the names of the settings."""
    table: Mapping[str, object] = getattr(settings, relation)
    texts = {
        key: (text, f"{setting}.{relation}.{key}")
        for key, text in table.items()
        if key != "from" and isinstance(text, str)
    }
    if relation == "events" and settings.deleted_when:
        texts["deleted_when"] = (settings.deleted_when, f"{setting}.deleted_when")
    return texts


def stage_tables(
    connection: duckdb.DuckDBPyConnection,
    settings: ImportSettings,
    relation: str,
    files: Sequence[RawFile],
    digests: Mapping[str, str],
    folder: Path,
    setting: str,
    *,
    timezone: str,
    delimiter: str | None,
) -> list[StagedFile]:
    """Read the files of one relation into a new batch, and return what is known of each file.

    Args:
        connection: a connection with the macros.
        settings: the import.
        relation: events, users or accounts.
        files: the raw files to read.
        digests: the files' SHA-256 digests, keyed by name.
        folder: where to write the batch.
        setting: the import's name in messages.
        timezone: the time zone that defines days, for dates without a time.
        delimiter: the delimiter of CSV files, or None to detect it.

    Raises:
        SettingsError: If an expression cannot be used.
        SourceError: If a file cannot be read.
    """
    texts = expressions(settings, relation, setting)
    names = [name.lower() for pair in texts.values() for name in columns_of(*pair)]
    columns = [RawColumn(name, required=True) for name in dict.fromkeys(names)]
    source = SourceInput(
        relation, tuple(_source_file(file, delimiter) for file in files), by_day=False
    )
    staged = stage_rows(connection, source, columns, f"import_{relation}")
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW raw AS SELECT * EXCLUDE (source_file, folder_date, row_number),"
        f" source_file AS raw_file, row_number AS row FROM {staged.rows}"
    )
    types = {key: _type(connection, *pair) for key, pair in texts.items()}
    batch = _batch_name(relation, files, digests)
    (folder / batch).mkdir(parents=True, exist_ok=True)
    path = folder / batch / f"{relation}.parquet"
    select = _select(settings, relation, texts, types, timezone)
    query = staged_select(relation, select, {})
    if relation == "events":
        query = f"{query} UNION ALL BY NAME {_malformed_rows(staged.malformed)}"
    write_relation(connection, query, path)
    counts = {file.name: [0, 0, 0] for file in files}
    if relation != "events":
        key = {"users": "user_id", "accounts": "account_id"}[relation]
        for name, described, malformed, excluded in connection.execute(
            f"SELECT raw_file, count({key}), count(*) - count({key}), -count(*) FROM read_parquet"
            f"({literal(str(path))}) GROUP BY ALL UNION ALL"
            f" SELECT source_file, 0, count(*), 0 FROM {staged.malformed} GROUP BY ALL UNION ALL"
            " SELECT raw_file, 0, 0, count(*) FROM raw GROUP BY ALL"
        ).fetchall():
            counts[name][0] += described
            counts[name][1] += malformed
            counts[name][2] += excluded
    return [
        StagedFile(
            file.name,
            file.size,
            file.modified_ns,
            digests[file.name],
            relation,
            batch,
            described=counts[file.name][0],
            malformed=counts[file.name][1],
            excluded=counts[file.name][2],
        )
        for file in files
    ]


def _source_file(file: RawFile, delimiter: str | None) -> SourceFile:
    parts = input_format(file.path.name)
    if parts is None:
        raise SourceError(
            f"{file.name} is not CSV, JSON lines or Parquet, or its name does not say so. Convert or"
            " rename the file."
        )
    _, kind, compression = parts
    stamp = FileStamp(file.size, file.modified_ns)
    found = SourceFile(file.path.absolute(), file.name, kind, None, compression, stamp)
    return replace(found, delimiter=delimiter)


def _batch_name(relation: str, files: Sequence[RawFile], digests: Mapping[str, str]) -> str:
    content = sha256(relation.encode())
    for file in files:
        content.update(f"\0{file.name}\0{digests[file.name]}".encode())
    return content.hexdigest()[:16]


def _malformed_rows(table: str) -> str:
    """Return a query for the records that could not be read, which are counted as malformed."""
    return f"SELECT source_file AS raw_file, -line_number AS row, true AS is_malformed FROM {table}"


def _type(connection: duckdb.DuckDBPyConnection, text: str, setting: str) -> str:
    try:
        [row] = connection.execute(
            f"DESCRIBE SELECT {checked_expression(text, setting)} AS value FROM raw"
        ).fetchall()
    except duckdb.Error as error:
        raise SettingsError(
            f"{setting} cannot be used: {str(error).splitlines()[0]} (given: {text!r})."
        ) from error
    return str(row[1])


def _select(
    settings: ImportSettings,
    relation: str,
    texts: Mapping[str, tuple[str, str]],
    types: Mapping[str, str],
    timezone: str,
) -> Select:
    chosen: dict[str, str] = {}
    source, properties = "raw", None
    for key, column in _COLUMNS[relation].items():
        if key not in texts:
            continue
        value = f"TRY({checked_expression(*texts[key])})"
        if column == "props":
            is_nested = types[key].endswith("]") or types[key].startswith(("STRUCT", "MAP"))
            as_text = f"to_json({value})" if is_nested else value
            source = f"(SELECT *, CAST({as_text} AS VARCHAR) AS props_ FROM raw)"
            properties = own_properties("props_", settings)
        elif RELATIONS[relation][column] == "TIMESTAMP":
            zone = timezone if key == "valid_from" else settings.timezone
            chosen[column] = _instant(value, types[key], zone)
        else:
            chosen[column] = value
    if "where" in texts and relation == "events":
        chosen["is_excluded"] = f"NOT coalesce(TRY({checked_expression(*texts['where'])}), false)"
    if "deleted_when" in texts:
        chosen["is_deletion"] = f"TRY({checked_expression(*texts['deleted_when'])})"
    where = "true"
    if "where" in texts and relation != "events":
        where = f"coalesce(TRY({checked_expression(*texts['where'])}), false)"
    return Select(chosen, source, where, properties)


def _instant(value: str, type_name: str, zone: str) -> str:
    if type_name == "TIMESTAMP WITH TIME ZONE":
        return f"timezone('UTC', {value})"
    if type_name == "DATE" or type_name.startswith("TIMESTAMP"):
        return f"timezone('UTC', timezone({literal(zone)}, CAST({value} AS TIMESTAMP)))"
    return f"instant_in(CAST({value} AS VARCHAR), {literal(zone)})"
