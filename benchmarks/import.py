# ruff: noqa: N999, S608
"""Time an import of PostHog-shaped events against a plain copy of the same rows.

The copy writes the raw rows, with their properties, to zstd Parquet files partitioned by day. Both use
the same connection settings, and each runs in its own process, which also starts Python. Run:
`python -m benchmarks.import --events 2000000 --runs 3`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import duckdb

from benchmarks.processes import Measured, in_duckdb, measure

DAYS = 90
USERS = 20_000
FILES = 30

_IMPORT = """
import json, sys
from pathlib import Path
from monstera_assets.imports.importer import run_import
from monstera_assets.settings import Settings
folder, values = Path(sys.argv[1]), json.loads(sys.argv[2])
report = run_import(Settings(
    source=folder / "source", temp_directory=folder, memory_limit=values["memory_limit"],
    threads=values["threads"], imports=({"kind": values["kind"], "path": values["path"]},)))
print(dict(report.totals))
"""
_EVENTS = """
    SELECT printf('%08x-0000-7000-8000-%012x', i // 4096, i) AS uuid,
        ['$pageview', 'Document Created', 'Document Published', 'commentAdded', 'Board Created',
            'Card Moved', 'login', '$autocapture'][1 + (hash(i, 1) % 8)::INTEGER] AS event,
        CASE WHEN hash(i, 2) % 10 = 0 THEN 'dev-' ELSE 'u_' END || (hash(i, 3) % {users})
            AS distinct_id,
        'person-' || (hash(i, 3) % {users}) AS person_id,
        '{{"$lib":"web","$lib_version":"1.249.0","$session_id":"s-' || (i // 20)
            || '","$current_url":"https://app.example.com/editor/doc_' || (hash(i, 4) % 100000)
            || '","$device_type":"Desktop","$os":"Mac OS X","$os_version":"10.15.7",'
            || '"$browser":"Chrome",'
            || '"$browser_version":137,"$screen_height":1117,"$screen_width":1728,'
            || '"$viewport_height":961,'
            || '"$referrer":"$direct","$referring_domain":"$direct","$is_identified":true,'
            || '"$process_person_profile":'
            || CASE WHEN hash(i, 2) % 10 = 0 THEN 'false' ELSE 'true' END
            || ',"$geoip_country_code":"US","$geoip_city_name":"Austin","$ip":"203.0.113.7",'
            || '"$groups":{{"company":"acct_' || (hash(i, 3) % 500) || '"}},"doc":{{"id":"doc_'
            || (hash(i, 4) % 100000) || '","tags":["draft","q2"]}},"project_id":"prj_'
            || (hash(i, 5) % 5000) || '"}}' AS properties,
        '{{"email":"u' || (hash(i, 3) % {users}) || '@example.invalid"}}' AS person_properties,
        '' AS elements_chain, moment AS timestamp,
        moment + to_milliseconds((hash(i, 6) % 5000)::BIGINT) AS created_at, moment AS _inserted_at
    FROM (SELECT i, TIMESTAMPTZ '2025-01-01 00:00:00+00'
        + to_seconds((i::DOUBLE / {events} * {days} * 86400)::BIGINT) AS moment
        FROM range({first}, {last}) AS numbers(i))"""

_PERSONS = """
    SELECT prefix || n AS distinct_id, 'person-' || n AS person_id,
        '{{"email":"u' || n || '@example.invalid","$geoip_country_code":"US"}}' AS properties,
        0 AS person_distinct_id_version, 1 AS person_version,
        TIMESTAMPTZ '2024-12-01 00:00:00+00' AS created_at, created_at AS _inserted_at,
        false AS is_deleted
    FROM range({users}) AS numbers(n), (VALUES ('u_'), ('dev-')) AS prefixes(prefix)"""


def generate(folder: Path, events: int) -> None:
    """Write an export of events and persons."""
    (folder / "events").mkdir(parents=True)
    (folder / "persons").mkdir()
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for number in range(FILES):
            first, last = events * number // FILES, events * (number + 1) // FILES
            query = _EVENTS.format(first=first, last=last, events=events, days=DAYS, users=USERS)
            path = folder / "events" / f"{number:03}.parquet"
            connection.execute(f"COPY ({query}) TO '{path}' (COMPRESSION zstd)")
        query = _PERSONS.format(users=USERS)
        connection.execute(f"COPY ({query}) TO '{folder / 'persons' / 'all.parquet'}'")


def copy_command(
    raw: Path, target: Path, memory_limit: str | None, threads: int | None
) -> list[str]:
    """Return a command that copies the raw rows, partitioned by day."""
    statements = ["SET TimeZone = 'UTC'", f"SET temp_directory = '{target}.spill'"]
    if memory_limit:
        statements.append(f"SET memory_limit = '{memory_limit}'")
    if threads:
        statements.append(f"SET threads = {threads}")
    statements.append(
        f"COPY (SELECT *, timestamp::DATE AS day FROM '{raw / 'events' / '*.parquet'}') TO"
        f" '{target}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (day))"
    )
    return in_duckdb(":memory:", *statements)


def import_command(
    raw: Path, folder: Path, memory_limit: str | None, threads: int | None
) -> list[str]:
    """Return a command that imports the raw files into `folder`/source."""
    values = {"memory_limit": memory_limit, "threads": threads, "kind": "posthog", "path": str(raw)}
    return [sys.executable, "-c", _IMPORT, str(folder), json.dumps(values)]


def main() -> None:
    """Print the medians of copies, first imports and imports without new files, which alternate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--memory-limit")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--raw", type=Path, help="where the export is, or is generated")
    options = parser.parse_args()
    limits = (options.memory_limit, options.threads)
    with TemporaryDirectory(prefix="benchmark-import-") as name:
        folder = Path(name)
        raw = options.raw or folder / "raw"
        if not raw.exists():
            generate(raw, options.events)
        commands = {
            "copy": copy_command(raw, folder / "copy", *limits),
            "first import": import_command(raw, folder, *limits),
            "import without new files": import_command(raw, folder, *limits),
        }
        runs: dict[str, list[Measured]] = {label: [] for label in commands}
        for _ in range(options.runs):
            for label, command in commands.items():
                runs[label].append(measure(command, folder / "log"))
            totals = runs["first import"][-1].output
            size = sum(file.stat().st_size for file in (folder / "copy").rglob("*.parquet"))
            for path in (folder / "copy", folder / "source"):
                shutil.rmtree(path)
        reference = runs["copy"]
        for label, measured in runs.items():
            wall, cpu = (median(getattr(run, kind) for run in measured) for kind in ("wall", "cpu"))
            ratios = [run.wall / one.wall for run, one in zip(measured, reference, strict=True)]
            of_cpu = [run.cpu / one.cpu for run, one in zip(measured, reference, strict=True)]
            peak = max(run.memory for run in measured)
            print(
                f"{label}: {wall:.1f} s, CPU {cpu:.1f} s, {median(ratios):.2f} times the copy"
                f" (CPU {median(of_cpu):.2f}), peak {peak:,.0f} MB"
            )
        print(f"size of the copy: {size / 1e6:.0f} MB")
        print(totals.splitlines()[-1])


if __name__ == "__main__":
    main()
