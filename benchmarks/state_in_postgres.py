"""Compare a run over a year of the seeds with Dagster's state in PostgreSQL and in SQLite.

    python -m benchmarks.state_in_postgres [--runs N] [--folder FOLDER]

Both runs start with an empty warehouse and an empty state, and they alternate. The command prints the
median wall and CPU seconds (user and system) and their ratio. The CPU seconds of PostgreSQL's server
count. The server is temporary, on this machine, and flushes each commit to the disk, as SQLite does.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from benchmarks.processes import measure, monstera
from monstera_assets_tests.helpers.postgres import new_database, postgres_server

_REPOSITORY = Path(__file__).parent.parent
_CONFIGURATIONS = {"SQLite": "dagster.yaml", "PostgreSQL": "deploy/dagster.yaml"}
_AT_MOST = 1.5


def server_cpu(server: Path) -> float:
    """Return the CPU seconds of a server since its start, including connections that have ended."""
    pid = (server / "data" / "postmaster.pid").read_text().split()[0]
    processes = [pid, *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    ticks = 0
    for process in processes:
        # Fields 14 and 15 are the process's own time, and 16 and 17 that of its ended children.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def seconds_of(storage: str, folder: Path, server: Path) -> tuple[float, float]:
    """Compute all days of the seeds, and return the wall and CPU seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    home = folder / "dagster_home"
    home.mkdir(parents=True)
    shutil.copy(_REPOSITORY / _CONFIGURATIONS[storage], home / "dagster.yaml")
    variables: Mapping[str, str] = {"DAGSTER_HOME": str(home)}
    if storage == "PostgreSQL":
        variables = {**variables, "DAGSTER_POSTGRES_URL": new_database(server)}
    where = ("--source", str(_REPOSITORY / "seeds"), "--database", str(folder / "monstera.duckdb"))
    before = server_cpu(server)
    run = measure(monstera("run", *where), folder / "run.log", variables)
    of_server = server_cpu(server) - before if storage == "PostgreSQL" else 0.0
    return run.wall, run.cpu + of_server


def main() -> None:
    """Measure both storages alternately and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("data/state_in_postgres"))
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in _CONFIGURATIONS}
    with postgres_server(fsync=True) as server:
        seconds_of("SQLite", folder, server)  # fills all caches
        for _ in range(asked.runs):
            for storage, of_runs in measured.items():
                of_runs.append(seconds_of(storage, folder, server))
    print("| what | SQLite | PostgreSQL | ratio | at most |\n|---|---:|---:|---:|---:|")
    for what, number in (("seconds", 0), ("CPU seconds", 1)):
        one, other = (median(of[number] for of in of_runs) for of_runs in measured.values())
        print(f"| {what} | {one:.1f} | {other:.1f} | {other / one:.2f} | {_AT_MOST} |")


if __name__ == "__main__":
    main()
