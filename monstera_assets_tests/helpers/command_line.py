"""Run the command line in a new process or in this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from monstera_assets.cli import main
from monstera_assets_tests.helpers.forked_process import run_forked

SEEDS = Path(__file__).parents[2] / "seeds"
MONSTERA = Path(sys.executable).with_name("monstera")
_MAIN = "import sys; from monstera_assets.cli import main; sys.argv[0] = 'monstera'; main()"

Snapshot = dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Outcome:
    """The result of a command."""

    folder: Path
    code: int
    out: str
    err: str
    tables: Snapshot

    @property
    def database(self) -> Path:
        """The default path of the warehouse."""
        return self.folder / "data" / "monstera.duckdb"


def environment(**variables: str) -> dict[str, str]:
    """Return an environment with only the given variables of Monstera and Dagster."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MONSTERA_", "DAGSTER_"))
    }
    return {**inherited, **variables}


def monstera(
    folder: Path, *arguments: str, source: Path | None = SEEDS, **variables: str
) -> Outcome:
    """Run `monstera` in a folder. If `source` is None, the settings in the folder name the source."""
    folder.mkdir(parents=True, exist_ok=True)
    if source is not None:
        variables["MONSTERA_SOURCE"] = str(source)
    done = run_monstera(folder, *arguments, **variables)
    outcome = Outcome(folder, done.returncode, done.stdout, done.stderr, {})
    return replace(outcome, tables=snapshot(outcome.database))


def run_monstera(
    folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `monstera` in a folder without reading the database."""
    return run_forked(_MAIN, *arguments, folder=folder, environment=environment(**variables))


def snapshot(database: Path, schemas: Sequence[str] = ("bronze", "silver", "gold")) -> Snapshot:
    """Return the number and hash of the rows of each table in the schemas."""
    if not database.exists():
        return {}
    with duckdb.connect(database, read_only=True) as connection:
        names = connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
            " WHERE list_contains(?, schema_name)",
            [list(schemas)],
        ).fetchall()
        return {
            name: connection.execute(
                f"SELECT count(*), coalesce(sum(hash(t)), 0)::VARCHAR FROM {name} AS t"
            ).fetchall()[0]
            for (name,) in names
        }


def query(database: Path, statement: str) -> list[tuple[object, ...]]:
    """Run a statement and return its rows, if any."""
    with duckdb.connect(database) as connection:
        return connection.execute(statement).fetchall()


def in_this_process(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *arguments: str,
    source: Path = SEEDS,
    variables: Mapping[str, str] | None = None,
) -> Outcome:
    """Run `monstera` in this process, which has already imported all modules."""
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
    """Copy a folder with its database and Dagster's state."""
    shutil.copytree(outcome.folder, folder, symlinks=True)
    return folder


@contextmanager
def held(database: Path) -> Iterator[None]:
    """Hold the database open for writing in another process."""
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
