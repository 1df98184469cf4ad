"""A Spark standalone cluster on this machine: a master, two workers and a Spark Connect server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyspark

_HOME = Path(pyspark.__file__).parent
_HOST = "127.0.0.1"
_SECONDS_TO_START = 600
# The tables are small, so that compiling their queries to bytecode would take most of the time.
_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
_SETTINGS = {
    "spark.driver.memory": "1500m",
    "spark.executor.memory": "1g",
    "spark.executor.cores": "1",
    "spark.cores.max": "2",
    "spark.driver.host": _HOST,
    "spark.driver.bindAddress": _HOST,
    "spark.driver.extraJavaOptions": _JAVA,
    "spark.executor.extraJavaOptions": _JAVA,
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "1000",
    "spark.sql.files.openCostInBytes": "65536",
    "spark.ui.enabled": "false",
    "spark.log.level": "WARN",
}


@dataclass
class Cluster:
    """The processes of a cluster, and the URL of its Spark Connect server."""

    folder: Path
    remote: str
    workers: list[subprocess.Popen[bytes]]

    def executors(self) -> list[int]:
        """Return the ids of the processes that run tasks."""
        return [
            child
            for worker in self.workers
            for child in _children(worker.pid)
            if b"CoarseGrainedExecutorBackend" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]


def _children(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


@contextmanager
def standalone_cluster(
    folder: Path, *, worker_disk: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Start a cluster with two workers of one core, and stop it on exit.

    Args:
        folder: an empty folder for logs and temporary files.
        worker_disk: the folder for the temporary files of both workers, by default one below `folder`.
        settings: settings of Spark.
    """
    ports = _free_ports(5)
    master = f"spark://{_HOST}:{ports[0]}"
    deploy = "org.apache.spark.deploy"
    started: list[subprocess.Popen[bytes]] = []

    def start(
        name: str, *command: str, memory: str = "200m", disk: Path | None = None
    ) -> subprocess.Popen[bytes]:
        (folder / name).mkdir()
        with (folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=folder / name,
                env={**_environment(disk or folder / name), "SPARK_DAEMON_MEMORY": memory},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(process)
        return process

    spark_class = str(_HOME / "bin" / "spark-class")
    try:
        start(
            "master",
            *(spark_class, f"{deploy}.master.Master", "--host", _HOST),
            *("--port", str(ports[0]), "--webui-port", str(ports[1])),
        )
        _wait_for(ports[0], started)
        workers = [
            start(
                f"worker_{number}",
                *(spark_class, f"{deploy}.worker.Worker", "--host", _HOST),
                *("--cores", "1", "--memory", "1g", "--webui-port", str(ports[1 + number])),
                *("--work-dir", str(folder / f"worker_{number}" / "work"), master),
                disk=worker_disk,
            )
            for number in (1, 2)
        ]
        connect = {
            **_SETTINGS,
            "spark.connect.grpc.binding.port": str(ports[4]),
            **(settings or {}),
        }
        start(
            "connect",
            *(str(_HOME / "bin" / "spark-submit"), "--master", master),
            *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer"),
            *(part for key, value in connect.items() for part in ("--conf", f"{key}={value}")),
            "spark-internal",
            memory=_SETTINGS["spark.driver.memory"],
        )
        _wait_for(ports[4], started)
        yield Cluster(folder, f"sc://{_HOST}:{ports[4]}", workers)
    finally:
        for process in reversed(started):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "SPARK_HOME": str(_HOME),
        "SPARK_LOCAL_DIRS": str(folder / "local"),
        "SPARK_LOCAL_IP": _HOST,
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_DAEMON_JAVA_OPTS": _JAVA,
    }


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind((_HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _wait_for(port: int, started: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in started):
            break
        try:
            socket.create_connection((_HOST, port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"No process of the cluster listens on port {port}; see the logs.")
