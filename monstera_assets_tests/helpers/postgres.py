"""A PostgreSQL server for tests, in a temporary folder and with a socket only."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import dagster as dg
import yaml

_OWNER = "postgres"
_CONFIGURATION = Path(__file__).parents[2] / "deploy" / "dagster.yaml"
_numbers = count(1)


@contextmanager
def postgres_server(*, fsync: bool = False) -> Iterator[Path]:
    """Start a server; yield its folder, which also contains its socket.

    Args:
        fsync: whether each commit is flushed to the disk.

    Raises:
        FileNotFoundError: If PostgreSQL is not installed.
    """
    folder = Path(tempfile.mkdtemp(prefix="monstera-postgres-"))
    if os.geteuid() == 0:  # the server does not run as root
        shutil.chown(folder, _OWNER)
    data = str(folder / "data")
    try:
        _as_owner("initdb", "--pgdata", data, "--username", _OWNER, "--auth", "trust", "--no-sync")
        flushes = "on" if fsync else "off"
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync={flushes}"
        log = str(folder / "log")
        _as_owner("pg_ctl", "start", "--pgdata", data, "--wait", "--log", log, "--options", options)
        try:
            yield folder
        finally:
            _as_owner("pg_ctl", "stop", "--pgdata", data, "--mode", "immediate")
    finally:
        shutil.rmtree(folder)


def new_database(server: Path) -> str:
    """Return the URL of a new database of the server."""
    database = f"dagster_{next(_numbers)}"
    _as_owner("createdb", "--host", str(server), database)
    return f"postgresql+psycopg2://{_OWNER}@/{database}?host={server}"


def postgres_instance(server: Path, home: Path, settings: str = "") -> dg.DagsterInstance:
    """Return an instance with its state in a new database, with the storages in deploy/dagster.yaml.

    Args:
        server: the folder of the server.
        home: the folder for the instance, which must not exist.
        settings: lines that are appended to dagster.yaml.
    """
    configured = yaml.safe_load(_CONFIGURATION.read_text(encoding="utf-8"))
    storages = {name: config for name, config in configured.items() if name.endswith("_storage")}
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(
        f"{yaml.safe_dump({'telemetry': {'enabled': False}, **storages})}{settings}"
    )
    os.environ["DAGSTER_POSTGRES_URL"] = new_database(server)
    return dg.DagsterInstance.from_config(str(home))


def _as_owner(program: str, *arguments: str) -> None:
    user = ["runuser", "--user", _OWNER, "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*user, _program(program), *arguments],
        check=False,
        # Not a pipe, since the server keeps its standard streams open.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    if done.returncode:
        raise RuntimeError(f"{program} ended with exit code {done.returncode}")


@cache
def _program(name: str) -> str:
    found = shutil.which(name)
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if found is None and not versions:
        raise FileNotFoundError(f"{name} of PostgreSQL is not installed: apt install postgresql")
    return found or str(versions[-1])
