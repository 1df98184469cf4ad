"""The command line as a user has it: what a process, or a call in this one, prints and leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from monstera_assets.cli import main

SEEDS = Path(__file__).parents[1] / "seeds"
MONSTERA = Path(sys.executable).with_name("monstera")

Snapshot = dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Outcome:
    """What a process left behind."""

    folder: Path
    code: int
    out: str
    err: str
    tables: Snapshot

    @property
    def database(self) -> Path:
        """The warehouse, where it lies by default."""
        return self.folder / "data" / "monstera.duckdb"


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process: nothing of Monstera's or Dagster's but what is given."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MONSTERA_", "DAGSTER_"))
    }
    return {**inherited, **variables}


def monstera(folder: Path, *arguments: str, source: Path = SEEDS, **variables: str) -> Outcome:
    """Run `monstera` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [MONSTERA, *arguments],
        cwd=folder,
        env=environment(MONSTERA_SOURCE=str(source), **variables),
        capture_output=True,
        text=True,
        check=False,
    )
    outcome = Outcome(folder, done.returncode, done.stdout, done.stderr, {})
    return replace(outcome, tables=snapshot(outcome.database))


def snapshot(database: Path) -> Snapshot:
    """Number and hash of the rows of each table of bronze, silver and gold."""
    if not database.exists():
        return {}
    with duckdb.connect(database, read_only=True) as connection:
        names = connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
            " WHERE schema_name IN ('bronze', 'silver', 'gold')"
        ).fetchall()
        return {
            name: connection.execute(
                f"SELECT count(*), coalesce(sum(hash(t)), 0)::VARCHAR FROM {name} AS t"
            ).fetchall()[0]
            for (name,) in names
        }


def query(database: Path, statement: str) -> list[tuple[object, ...]]:
    """Rows of a query, or nothing for a statement that changes the database."""
    with duckdb.connect(database) as connection:
        return connection.execute(statement).fetchall()


def in_this_process(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *arguments: str,
    source: Path = SEEDS,
    variables: Mapping[str, str] | None = None,
) -> Outcome:
    """The same as `monstera`, in a process that has everything imported already."""
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)
    for name, value in {"MONSTERA_SOURCE": str(source), **(variables or {})}.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(main, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    outcome = Outcome(folder, done.exit_code, done.stdout, done.stderr, {})
    return replace(outcome, tables=snapshot(outcome.database))


def copy_of(outcome: Outcome, folder: Path) -> Path:
    """A copy of a folder with its database and Dagster's state."""
    shutil.copytree(outcome.folder, folder, symlinks=True)
    return folder


@contextmanager
def held(database: Path) -> Iterator[None]:
    """Another process has the database open for writing."""
    program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open'); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield
        process.communicate()
