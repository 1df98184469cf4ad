"""Run a process and measure its wall and CPU time, peak memory and output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_STEP = re.compile(r"^\[ *\d+/\d+\] (\w+) .*?(\d+\.\d) s$", re.MULTILINE)


@dataclass(frozen=True)
class Measured:
    """The wall and CPU time in seconds, peak memory in MB, and output of a finished process."""

    wall: float
    cpu: float
    memory: float
    output: str


def measure(
    command: Sequence[str],
    log: Path,
    variables: Mapping[str, str] | None = None,
    exit_code: int = 0,
) -> Measured:
    """Run a command in its own process; exit this program unless the command returns `exit_code`."""
    before = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **(variables or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - before
    output = log.read_text(errors="replace")
    if process.returncode != exit_code:
        sys.exit(f"`{' '.join(command)}` exited with code {process.returncode}:\n{output[-3000:]}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output)


def monstera(*arguments: str) -> list[str]:
    """Return a command for this environment's `monstera` program."""
    return [str(Path(sys.executable).with_name("monstera")), *arguments]


def run_graph(
    source: Path,
    database: Path,
    log: Path,
    options: Sequence[object] = (),
    variables: Mapping[str, str] | None = None,
) -> Measured:
    """Run the graph in its own process."""
    where = ("--source", str(source), "--database", str(database))
    return measure(monstera("run", *where, *map(str, options)), log, variables)


def seconds_by_step(run: Measured) -> dict[str, float]:
    """Return each step's seconds, as printed by the run."""
    return {step: float(seconds) for step, seconds in _STEP.findall(run.output)}


def in_duckdb(*statements: str) -> list[str]:
    """Return a command that runs statements on the DuckDB file named by the first argument."""
    program = (
        "import sys, duckdb\nc = duckdb.connect(sys.argv[1])\nfor s in sys.argv[2:]: c.execute(s)"
    )
    return [sys.executable, "-c", program, *statements]
