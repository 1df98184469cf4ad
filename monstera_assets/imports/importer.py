"""Import exports into the source folder: read what is new, compute all rows, write what differs."""
# Over 400 lines: the steps of an import share its folders and its lock.

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from monstera_assets.imports import (
    billing_facts,
    entity_versions,
    event_rows,
    identity,
    landing,
    own_tables,
)
from monstera_assets.imports.awaiting import INPUTS, inputs_digest, raw_files
from monstera_assets.imports.catalog_lookup import read_catalog
from monstera_assets.imports.event_rows import DESCRIBED, LANDED, MALFORMED, REASONS
from monstera_assets.imports.identity import Import
from monstera_assets.imports.own_tables import patterns, stage_tables
from monstera_assets.imports.raw_files import RawFile, pieces
from monstera_assets.imports.raw_staging import (
    StagedFile,
    StagedImport,
    as_records,
    expressions,
    import_key,
    install_macros,
    settings_digest,
    stage_tool,
)
from monstera_assets.imports.setting_expressions import checked_expression
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.settings.imports import ImportKind, ImportSettings
from monstera_assets.source.errors import SourceError
from monstera_assets.source.sql import literal
from monstera_assets.warehouse.connection import connection_config

_STATE_VERSION = 1
_LEDGER_COLUMNS = {
    "file_no": "INTEGER",
    "import": "VARCHAR",
    "kind": "VARCHAR",
    "raw_file": "VARCHAR",
    "content": "VARCHAR",
    "bytes": "BIGINT",
    "sha256": "VARCHAR",
    "is_present": "BOOLEAN",
    "rows_described": "BIGINT",
    "rows_malformed": "BIGINT",
    "rows_excluded": "BIGINT",
}
Opening = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]
_INPUT_NAMES = ("users", "accounts", "subscription_events", "events")


@dataclass(frozen=True)
class ImportReport:
    """What an import found and changed.

    Attributes:
        totals: rows read, landed, described and malformed, and rows set aside by reason.
        files: the number of raw files that are there.
        written: the files of the source that were written.
        removed: the files of the source whose rows no longer exist.
        unrecognized: raw files that do not come from the tool.
        vanished: raw files that no longer exist. Their rows stay in the source.
        cycles: ids of users whose aliases form a cycle.
        conflicts: entities for which two imports state different values.
        merged_names: event types that two or more raw names became, with the names.
        revenue_differences: the days on which revenue changes differently from Stripe's report.
        free_subscriptions: subscriptions that a discount makes free, so that they never start.
    """

    totals: Mapping[str, int]
    files: int
    written: tuple[str, ...]
    removed: tuple[str, ...]
    unrecognized: tuple[str, ...]
    vanished: tuple[str, ...]
    cycles: tuple[str, ...]
    conflicts: tuple[str, ...]
    merged_names: Mapping[str, tuple[str, ...]]
    revenue_differences: tuple[str, ...]
    free_subscriptions: tuple[str, ...]


def run_import(
    settings: Settings, *, rebuild: bool = False, open_warehouse: Opening | None = None
) -> ImportReport:
    """Import all exports in the settings into the source folder.

    Args:
        settings: the configuration.
        rebuild: whether to forget what vanished raw files landed, and to read every file again.
        open_warehouse: a function that opens the warehouse as this process already has it open.

    Raises:
        SettingsError: If there is nothing to import, or an expression cannot be used.
        SourceError: If a raw file or the source folder cannot be read or written.
    """
    _check_expressions(settings)
    inputs = inputs_digest(settings) if settings.imports else ""
    with computed(settings, rebuild=rebuild) as found:
        connection, imports = found.connection, found.imports
        landing.materialize(connection)
        if settings.database.exists():
            # Slow to import, and not needed before there is a warehouse.
            from monstera_assets.imports.erasures import erase_landing, known_erasures

            if erased := known_erasures(settings, open_warehouse):
                erase_landing(connection, *erased)
        landed = landing.write_source(
            connection,
            settings.source,
            _digests(found.state, settings.source),
            _new_state(imports, inputs),
        )
        _delete_unused_batches(settings.source, imports)
        return _report(connection, imports, landed, found.cycles)


@dataclass(frozen=True)
class Computed:
    """The rows of an import, as tables and views of a connection, before they are written."""

    connection: duckdb.DuckDBPyConnection
    imports: Sequence[Import]
    state: Mapping[str, Any]
    cycles: Sequence[str]


@contextmanager
def computed(settings: Settings, *, rebuild: bool = False) -> Iterator[Computed]:
    """Read what is new, and compute all rows. The source folder's inputs stay as they are.

    Raises:
        SettingsError: As `run_import`.
        SourceError: As `run_import`.
    """
    if not settings.imports:
        raise SettingsError(
            "There is nothing to import. Add an [[import]] table to monstera.toml, with the kind and"
            " the path of the export."
        )
    source = settings.source
    _refuse_other_source(source)
    with _locked(source), _opened(settings) as (connection, scratch):
        landing.finish_interrupted(source)
        state = {} if rebuild else _read_state(source)
        imports = [
            _stage(connection, settings, number, each, state, scratch)
            for number, each in enumerate(settings.imports)
        ]
        keys = [each.staged.key for each in imports]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            number = keys.index(twice[0])
            raise SettingsError(
                f"import.{number} has the same kind and path as another import in monstera.toml."
                " Remove one of them."
            )
        cycles = _compute(connection, settings, imports)
        yield Computed(connection, imports, state, cycles)


def _check_expressions(settings: Settings) -> None:
    """Raise an error if an expression in the settings is not one expression, before files are read."""
    for number, each in enumerate(settings.imports):
        setting = f"import.{number}"
        if each.kind is ImportKind.TABLES:
            chosen = [own_tables.expressions(each, name, setting) for name in patterns(each)]
        else:
            chosen = [expressions(each, setting)]
        for text, name in (pair for found in chosen for pair in found.values()):
            checked_expression(text, name)


def _compute(
    connection: duckdb.DuckDBPyConnection, settings: Settings, imports: Sequence[Import]
) -> list[str]:
    """Create the tables and views that are landed, and return the ids in a cycle of aliases.

    Raises:
        SettingsError: If an import states that there is no billing, and another imports billing.
        SourceError: If there is no row at all, or the catalog cannot be read.
    """
    has_billing = any(each.settings.has_billing_facts for each in imports)
    stated = any(each.settings.billing == "none" for each in imports)
    if stated and any(each.settings.kind is ImportKind.STRIPE for each in imports):
        raise SettingsError(
            'billing = "none" conflicts with the Stripe import. Remove the line from monstera.toml.'
        )
    identity.set_options(connection, imports)
    absent = identity.open_relations(connection, imports)
    [(rows,)] = connection.execute(
        "SELECT (SELECT count(*) FROM raw_events) + (SELECT count(*) FROM staged_billing)"
    ).fetchall()
    if not rows:
        names = ", ".join(str(each.settings.path or "tables") for each in imports)
        raise SourceError(
            f"The exports contain no events ({names}). Nothing was imported. Check the path and the"
            " kind in monstera.toml."
        )
    cycles = identity.resolve(connection, absent)
    event_rows.map_names(connection, imports)
    event_rows.find_duplicates(connection)
    billing_facts.find_billing(
        connection, imports, settings.timezone, settings.policy.subscription_tiers
    )
    entity_versions.find_entities(
        connection, imports, settings.timezone, has_billing=has_billing and not stated
    )
    event_rows.classify(connection, read_catalog(connection, settings.source), settings.timezone)
    _write_ledger(connection, imports)
    return cycles


@contextmanager
def _locked(source: Path) -> Iterator[None]:
    """Keep other imports out of the source folder until exit.

    Raises:
        SourceError: If another import is running, or the folder cannot be written.
    """
    path = source / landing.WORK / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise SourceError(
            f"The source folder {source} cannot be written ({error.strerror}). Check its permissions."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SourceError(
                f"Another import is writing to {source}. Try again when it has finished."
            ) from error
        yield


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """Yield a connection in memory, which spills to disk, and a folder for copies.

    Raises:
        SourceError: If memory_limit or the disk's space is too small.
    """
    with tempfile.TemporaryDirectory(
        prefix="monstera-import-", dir=settings.temp_directory
    ) as name:
        scratch = Path(name)
        config: dict[str, Any] = connection_config(
            settings.memory_limit, settings.threads, scratch / "spill"
        )
        # Batches are written in any order, but rows must be numbered in the order of their file.
        config["preserve_insertion_order"] = True
        (scratch / "members").mkdir()
        with duckdb.connect(":memory:", config=config) as connection:
            try:
                install_macros(connection)
                yield connection, scratch / "members"
            except duckdb.OutOfMemoryException as error:
                raise SourceError(
                    f"The import needs more memory ({str(error).splitlines()[0]}). Nothing was"
                    " imported. Increase memory_limit, or set temp_directory to a folder on a disk with"
                    " more space, then run the import again."
                ) from error


def _refuse_other_source(source: Path) -> None:
    """Raise an error if the source folder has inputs that no import wrote."""
    if (source / landing.WORK).is_dir() or not source.is_dir():
        return
    for entry in sorted(source.iterdir()):
        if entry.name.partition(".")[0].removeprefix("seed_") in _INPUT_NAMES:
            raise SettingsError(
                f"The source folder {source} contains {entry.name}, which no import wrote. Set `source`"
                " in monstera.toml to a folder of its own, such as source."
            )


def _read_state(source: Path) -> dict[str, Any]:
    path = source / landing.WORK / landing.STATE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path} cannot be read ({error}). Import all exports again with"
            " `monstera import --rebuild`."
        ) from error
    if state.get("version") != _STATE_VERSION:
        raise SourceError(
            f"{path} was written by another version. Import all exports again with"
            " `monstera import --rebuild`."
        )
    return dict(state)


def _digests(state: Mapping[str, Any], source: Path) -> dict[str, str]:
    """Return the digests of the files in the source. Without a state, there are none."""
    known = dict(state.get("digests", {}))
    days = source.glob("events/event_date=*/events.parquet")
    for path in (*days, *source.glob(landing.MOVEMENTS)):
        known.setdefault(path.relative_to(source).as_posix(), "")
    return known


def _new_state(imports: Sequence[Import], inputs: str) -> dict[str, object]:
    return {
        "version": _STATE_VERSION,
        INPUTS: inputs,
        "imports": {
            each.staged.key: {
                "settings": each.staged.settings_digest,
                "files": as_records(each.staged.files.values()),
            }
            for each in imports
        },
    }


def _stage(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    number: int,
    chosen: ImportSettings,
    state: Mapping[str, Any],
    scratch: Path,
) -> Import:
    """Read the raw files of an import that are new, or that changed since they were read."""
    key = import_key(chosen)
    known = state.get("imports", {}).get(key, {})
    digest = settings_digest(chosen, settings.timezone)
    before = {each["name"]: StagedFile(**each) for each in known.get("files", ())}
    is_current = known.get("settings") == digest
    folder = settings.source / landing.WORK / key
    by_relation = raw_files(chosen, state)
    if chosen.kind is ImportKind.TABLES:
        paths = [file.path for files in by_relation.values() for file in files]
        # A file that is read as two inputs has a row in the ledger for each.
        by_relation = {
            name: [
                replace(file, name=f"{file.name} ({name})") if paths.count(file.path) > 1 else file
                for file in files
            ]
            for name, files in by_relation.items()
        }
    present = {file.name: file for files in by_relation.values() for file in files}
    digests = {name: _digest_of(file, before.get(name)) for name, file in present.items()}
    unchanged = {
        name: replace(before[name], modified_ns=file.modified_ns, size=file.size, is_present=True)
        for name, file in present.items()
        if is_current and name in before and before[name].sha256 == digests[name]
    }
    setting = f"import.{number}"
    read: list[StagedFile] = []
    for relation, files in by_relation.items():
        new = [file for file in files if file.name not in unchanged]
        if not new:
            continue
        if chosen.kind is ImportKind.TABLES:
            read += stage_tables(
                connection,
                chosen,
                relation,
                new,
                digests,
                folder,
                setting,
                timezone=settings.timezone,
                delimiter=settings.csv_delimiter,
            )
        else:
            found = {file: pieces(connection, file, scratch) for file in new}
            read += stage_tool(
                connection, chosen, found, digests, folder, setting, is_first=not is_current
            )
    contents = set(digests.values())
    vanished = {
        name: replace(file, is_present=False)
        for name, file in before.items()
        if name not in present and file.sha256 not in contents
    }
    staged = {**vanished, **unchanged, **{file.name: file for file in read}}
    if not any(file.batch for file in staged.values()):
        raise SourceError(
            f"None of the {len(present)} files in {chosen.path} contains {chosen.kind} rows. Nothing"
            " was imported. Check the kind and the path in monstera.toml."
        )
    return Import(number, chosen, StagedImport(key, folder, digest, staged))


def _digest_of(file: RawFile, before: StagedFile | None) -> str:
    """Return a file's digest, which is computed only if its size or modification time changed."""
    if before and (before.size, before.modified_ns) == (file.size, file.modified_ns):
        return before.sha256
    try:
        return file.digest()
    except OSError as error:
        raise SourceError(f"{file.path} cannot be read ({error.strerror}).") from error


def _delete_unused_batches(source: Path, imports: Sequence[Import]) -> None:
    """Delete what was read of files that have changed since, and of imports that were removed."""
    used = {
        each.staged.folder / file.batch for each in imports for file in each.staged.files.values()
    }
    for folder in (source / landing.WORK).iterdir():
        for batch in folder.iterdir() if folder.is_dir() else ():
            if batch.is_dir() and batch not in used:
                shutil.rmtree(batch, ignore_errors=True)


def _write_ledger(connection: duckdb.DuckDBPyConnection, imports: Sequence[Import]) -> None:
    """Create `ledger`: a row for each raw file, with the counts of its rows."""
    pairs = [
        (each, file)
        for each in imports
        for file in sorted(each.staged.files.values(), key=lambda file: file.name)
    ]
    records = [
        {
            "file_no": number,
            "import": f"import.{each.number}",
            "kind": str(each.settings.kind),
            "raw_file": file.name,
            "content": file.role,
            "bytes": file.size,
            "sha256": file.sha256,
            "is_present": file.is_present,
            "rows_described": file.described,
            "rows_malformed": file.malformed,
            "rows_excluded": file.excluded,
        }
        for number, (each, file) in enumerate(pairs)
    ]
    structure = json.dumps([_LEDGER_COLUMNS])
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE ledger_files AS"
        f" SELECT unnest(from_json(?, {literal(structure)}), recursive := true)",
        [json.dumps(records)],
    )
    counted = ", ".join(
        f"coalesce(sum(rows) FILTER (reason = '{reason}'), 0)::BIGINT AS {reason}"
        for reason in (*REASONS, DESCRIBED, MALFORMED, LANDED)
    )
    reasons = ", ".join(
        f"coalesce({reason}, 0){' + rows_excluded' if reason == 'bookkeeping' else ''} AS {reason}"
        for reason in REASONS
    )
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE ledger AS
        WITH counted AS (
            SELECT file_no, {counted} FROM (
                SELECT file_no, coalesce(reason, '{LANDED}') AS reason, count(*) AS rows
                FROM (SELECT file_no, reason FROM classified
                    UNION ALL SELECT file_no, reason FROM billing_reasons)
                GROUP BY ALL)
            GROUP BY file_no),
        -- What was read is counted before rows are identified and classified, so that the graph's
        -- checks find a row that is lost or repeated in between.
        staged AS (
            SELECT file_no, count(*) AS rows
            FROM (SELECT file_no FROM raw_events UNION ALL SELECT file_no FROM staged_billing)
            GROUP BY file_no)
        SELECT import, kind, raw_file, content, bytes, sha256, is_present,
            coalesce(rows, 0) + rows_described + rows_malformed + rows_excluded AS rows_read,
            coalesce({LANDED}, 0) AS landed, rows_described + coalesce({DESCRIBED}, 0) AS described,
            rows_malformed + coalesce({MALFORMED}, 0) AS malformed, {reasons}
        FROM ledger_files LEFT JOIN counted USING (file_no) LEFT JOIN staged USING (file_no)""")


def _report(
    connection: duckdb.DuckDBPyConnection,
    imports: Sequence[Import],
    landed: landing.Landed,
    cycles: Sequence[str],
) -> ImportReport:
    names = ("rows_read", LANDED, DESCRIBED, MALFORMED, *REASONS)
    sums = ", ".join(f"sum({name})::BIGINT" for name in names)
    [row] = connection.execute(f"SELECT {sums} FROM ledger").fetchall()
    merged = connection.execute(
        "SELECT event_type, list(DISTINCT name ORDER BY name) FROM names GROUP BY event_type"
        " HAVING count(DISTINCT name) > 1 ORDER BY event_type"
    ).fetchall()
    conflicts = connection.execute("SELECT DISTINCT id FROM conflicts ORDER BY id").fetchall()
    files = [file for each in imports for file in each.staged.files.values()]
    return ImportReport(
        totals=dict(zip(names, (value or 0 for value in row), strict=True)),
        files=sum(file.is_present for file in files),
        written=landed.written,
        removed=landed.removed,
        unrecognized=tuple(sorted(f.name for f in files if f.role == "not recognized")),
        vanished=tuple(sorted(file.name for file in files if not file.is_present)),
        cycles=tuple(cycles),
        conflicts=tuple(row[0] for row in conflicts),
        merged_names={event_type: tuple(found) for event_type, found in merged},
        revenue_differences=tuple(billing_facts.revenue_differences(connection)),
        free_subscriptions=tuple(billing_facts.free_subscriptions(connection)),
    )
