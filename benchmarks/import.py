# ruff: noqa: N999, S608
"""Time an import of PostHog-shaped events against a plain copy of the same rows.

The copy writes the raw rows, with their properties, to zstd Parquet files partitioned by day. Both use
the same connection settings. Run: `python benchmarks/import.py --events 2000000`.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from monstera_assets.imports.importer import run_import
from monstera_assets.settings import Settings

DAYS = 90
USERS = 20_000
FILES = 30

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


def copy(raw: Path, target: Path, memory_limit: str | None, threads: int | None) -> float:
    """Return the seconds that a plain copy of the raw rows takes, partitioned by day."""
    started = time.perf_counter()
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET temp_directory = '{target}.spill'")
        if memory_limit:
            connection.execute(f"SET memory_limit = '{memory_limit}'")
        if threads:
            connection.execute(f"SET threads = {threads}")
        connection.execute(
            f"COPY (SELECT *, timestamp::DATE AS day FROM '{raw / 'events' / '*.parquet'}') TO"
            f" '{target}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (day))"
        )
    return time.perf_counter() - started


def main() -> None:
    """Print the seconds of a copy, of a first import and of an import without new files."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--memory-limit")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="benchmark-import-") as name:
        folder = Path(name)
        generate(folder / "raw", options.events)
        copied = copy(folder / "raw", folder / "copy", options.memory_limit, options.threads)
        size = sum(file.stat().st_size for file in (folder / "copy").rglob("*.parquet"))
        shutil.rmtree(folder / "copy")
        settings = Settings(
            source=folder / "source",
            temp_directory=folder,
            memory_limit=options.memory_limit,
            threads=options.threads,
            imports=({"kind": "posthog", "path": str(folder / "raw")},),
        )
        for label in ("first import", "import without new files"):
            started = time.perf_counter()
            report = run_import(settings)
            seconds = time.perf_counter() - started
            print(f"{label}: {seconds:.1f} s, {seconds / copied:.2f} times the copy")
        print(f"copy: {copied:.1f} s, {size / 1e6:.0f} MB")
        print(f"{dict(report.totals)}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"peak memory: {peak:.2f} GB")


if __name__ == "__main__":
    main()
