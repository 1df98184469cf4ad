"""Run code in processes that are forks of a process that has already imported the package.

The import takes longer than most of this code. A fork has its own memory, limits and exit code. Tests
of what the package imports need a new interpreter instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

_ROOT = Path(__file__).parents[2]
_SERVER = """
import json, os, sys, time
import monstera_assets.cli, monstera_assets.definitions

def next_task():
    for line in sys.stdin:
        if not (child := os.fork()):
            return json.loads(line)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()

assert len(os.listdir("/proc/self/task")) == 1, "A fork would lack the other threads."
task = next_task()
os.chdir(task["folder"])
os.environ.clear()
os.environ.update(task["environment"])
time.tzset()
for number, path in enumerate(task["files"]):
    os.dup2(os.open(path, os.O_RDWR), number)
sys.argv = ["-c", *task["arguments"]]
exec(compile(task["code"], "<string>", "exec"), {"__name__": "__main__"})
"""
_lock = Lock()


@cache
def _server() -> subprocess.Popen[str]:
    """Start the process of which the others are forks. It ends with this process."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        # Threads of linear algebra, and of Arrow's allocator, would not survive the fork.
        env={
            **os.environ,
            "PYTHONPATH": str(_ROOT),
            "OPENBLAS_NUM_THREADS": "1",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",
        },
    )


def run_forked(
    code: str,
    *arguments: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run code like `python -c CODE ARGUMENTS`, and return its exit code and output."""
    with _lock, TemporaryDirectory() as temporary:
        out, err = Path(temporary) / "out", Path(temporary) / "err"
        out.touch()
        err.touch()
        task = {
            "code": code,
            "arguments": arguments,
            "folder": str(folder or Path.cwd()),
            "environment": dict(os.environ if environment is None else environment),
            "files": [os.devnull, str(out), str(err)],
        }
        server = _server()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(task) + "\n")
        server.stdin.flush()
        exit_code = server.stdout.readline()
        assert exit_code, "The process that forks the others has failed."
        return subprocess.CompletedProcess(
            [sys.executable, "-c", code, *arguments],
            int(exit_code),
            out.read_text(),
            err.read_text(),
        )
