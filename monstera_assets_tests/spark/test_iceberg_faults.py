"""Test killed writers, full disks, and readers during commits of Iceberg tables."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monstera_assets.warehouse.errors import WarehouseError
from monstera_assets.warehouse.iceberg.catalog import open_catalog
from monstera_assets.warehouse.iceberg.cleanup import clean_up
from monstera_assets.warehouse.iceberg.loads import Load, incomplete_days
from monstera_assets.warehouse.iceberg.replacement import replace_rows
from monstera_assets_tests.spark.iceberg_tables import (
    ACCEPTED,
    HISTORY,
    JUNE,
    LEDGER,
    REJECTED,
    ROWS,
    catalog_in,
    content,
    of_versions,
    replace_days,
    window,
    write_days,
    write_query,
)
from monstera_assets_tests.spark.test_iceberg_loads import files_below, files_of, in_hours

pytestmark = pytest.mark.spark

TABLES = (ACCEPTED, REJECTED, LEDGER)
ROOT = Path(__file__).parents[2]

# Loads the second version, and kills itself at a commit: before it, after its metadata file is written
# but before the catalog refers to the file, or after it.
_KILLED_LOAD = """
import os, signal, sys
from pathlib import Path
from pyiceberg.catalog.sql import SqlCatalog
from monstera_assets.warehouse.iceberg.loads import Load
from monstera_assets_tests.spark.iceberg_tables import catalog_in, window
from monstera_assets_tests.spark.test_iceberg_faults import TABLES
from monstera_assets_tests.spark.test_iceberg_loads import files_of

folder, uri, number, stage = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
load = Load.open(catalog_in(folder, uri), TABLES)
files = files_of(load, 2)
commits = 0

def kill(at):
    if at == stage and commits == number:
        os.kill(os.getpid(), signal.SIGKILL)

commit_table, write_metadata = SqlCatalog.commit_table, SqlCatalog._write_metadata

def commit_and_kill(self, *arguments):
    global commits
    commits += 1
    kill("before")
    response = commit_table(self, *arguments)
    kill("after")
    return response

def write_and_kill(*arguments, **named):
    write_metadata(*arguments, **named)
    kill("metadata")

SqlCatalog.commit_table = commit_and_kill
SqlCatalog._write_metadata = staticmethod(write_and_kill)
load.replace(files, [window(1, 2)])
"""

# Reads until it has read 25 times and has seen two versions, and prints the versions of each read.
_READER = """
import json, sys
from pathlib import Path
from monstera_assets_tests.spark.iceberg_tables import HISTORY, catalog_in, content

catalog = catalog_in(Path(sys.argv[1]), sys.argv[2])
reads = []
while len(reads) < 25 or len({read[0][1] for read in reads}) < 2:
    reads.append([(str(day), version, rows) for day, version, rows in content(catalog.stored(HISTORY))])
print(json.dumps(reads))
"""


@contextmanager
def script(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run code in a process of its own, in which `monstera_assets_tests` can be imported."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


@pytest.mark.parametrize(
    ("uri", "number", "stage"),
    [
        *(("sqlite", n, stage) for n in (1, 2, 3) for stage in ("before", "metadata", "after")),
        *(("postgres", n, "metadata") for n in (1, 2, 3)),
    ],
    indirect=["uri"],
)
def test_a_killed_load_leaves_whole_tables_and_is_repaired(
    tmp_path: Path, uri: str, number: int, stage: str
) -> None:
    catalog = catalog_in(tmp_path, uri)
    load = Load.open(catalog, TABLES)
    load.replace(files_of(load, 1), [window(1, 2)])

    with script(_KILLED_LOAD, tmp_path, uri, number, stage) as process:
        assert process.communicate() == ("", "")
    assert process.returncode == -signal.SIGKILL

    reached = number if stage == "after" else number - 1
    for position, table in enumerate(TABLES):
        version = 2 if position < reached else 1
        assert content(catalog.stored(table)) == of_versions((window(1, 2), version))
    assert incomplete_days(catalog, TABLES) == ([] if reached in (0, 3) else [*JUNE[:2]])

    load = Load.open(catalog, TABLES)
    load.replace(files_of(load, 3), [window(1, 2)])
    assert incomplete_days(catalog, TABLES) == []
    for table in TABLES:
        clean_up(catalog.opened(table), in_hours(1))
        stored = catalog.stored(table)
        assert content(stored) == of_versions((window(1, 2), 3))
        assert sum(path.suffix == ".parquet" for path in files_below(stored)) == 2


def test_readers_during_commits_never_see_a_mixture(tmp_path: Path, uri: str) -> None:
    """Four readers read 100 times or more, during 20 commits or more."""
    catalog = catalog_in(tmp_path, uri)
    replace_days(catalog.opened(HISTORY), window(1, 4), 0)
    replace_days(catalog.opened(HISTORY), window(5, 6), -1)
    version = 0
    readers = [script(_READER, tmp_path, uri) for _ in range(4)]
    processes = [reader.__enter__() for reader in readers]
    try:
        while version < 20 or any(process.poll() is None for process in processes):
            version += 1
            replace_days(catalog.opened(HISTORY), window(1, 4), version)
        reads = []
        for process in processes:
            output, errors = process.communicate()
            assert errors == ""
            reads += json.loads(output)
    finally:
        for process, reader in zip(processes, readers, strict=True):
            process.kill()
            reader.__exit__(None, None, None)
    assert len(reads) >= 100
    for read in reads:
        seen = read[0][1]
        assert read == [
            *([str(day), seen, ROWS] for day in JUNE[:4]),
            *([str(day), -1, ROWS] for day in JUNE[4:6]),
        ]


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a small file system on a folder, which needs root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize("room", [0, 4, 8, 12, 16, 20, 24, 40])
def test_a_full_disk_leaves_the_table_whole(tmp_path: Path, room: int) -> None:
    """The disk is full when a manifest, a manifest list, the metadata or the catalog is written.

    The catalog and the data files are on the disk, too. The room is in KiB, of 4 KiB blocks.
    """
    disk = tmp_path / "disk"
    with small_disk(disk, 1024 * 1024):
        catalog = open_catalog(
            f"file://{disk}/warehouse", {"type": "sql", "uri": f"sqlite:///{disk}/catalog.db"}
        )
        replace_days(catalog.opened(HISTORY), window(1, 3), 1)
        stored = catalog.opened(HISTORY)
        files = write_days(stored, JUNE[1:3], 2)
        filler = disk / "filler"
        status = os.statvfs(disk)
        filler.write_bytes(b"x" * (status.f_bavail * status.f_bsize - room * 1024))
        message = ""
        try:
            replace_rows(stored, files, [window(2, 3)])
        except WarehouseError as error:
            message = str(error)
        filler.unlink()
        expected = of_versions((window(1, 3), 1))
        written = of_versions((window(1), 1), (window(2, 3), 2))
        catalog = open_catalog(
            f"file://{disk}/warehouse", {"type": "sql", "uri": f"sqlite:///{disk}/catalog.db"}
        )
        assert content(catalog.stored(HISTORY)) == (expected if message else written)
        assert "silver.silver_history" in message or room > 8
        replace_days(catalog.opened(HISTORY), window(2, 3), 2)
        assert content(catalog.stored(HISTORY)) == written


def test_rows_larger_than_the_disk_fail_before_the_commit(tmp_path: Path) -> None:
    """The engine's error ends the run, and its partial file is not part of the table."""
    catalog = catalog_in(tmp_path, f"sqlite:///{tmp_path}/catalog.db")
    replace_days(catalog.opened(HISTORY), window(1), 1)
    stored = catalog.opened(HISTORY)
    large = (
        "SELECT DATE '2025-06-01' AS day, i AS number, (hash(i) >> 1)::BIGINT AS version"
        " FROM range(1000000) AS t(i)"
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(Exception, match=r"File too large|No space"):
            write_query(stored, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert content(catalog.stored(HISTORY)) == of_versions((window(1), 1))
