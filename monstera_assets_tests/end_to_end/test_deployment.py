"""The files in deploy/ describe services that run, with the least permissions.

Containers are built and started if Docker or Podman is installed and the base image is available.
"""

from __future__ import annotations

import configparser
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml

from monstera_assets_tests.end_to_end.test_daemon import free_port
from monstera_assets_tests.helpers.command_line import SEEDS, environment
from monstera_assets_tests.helpers.postgres import new_database, postgres_server

pytestmark = pytest.mark.deploy

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
INSTALLED = "/opt/monstera"
BIN = Path(sys.executable).parent
BASE = "docker.io/library/python:3.11-slim-bookworm"
UNITS = ("monstera-daemon", "monstera-webserver")
MAX_EXPOSURE = 20
"""The limit of `systemd-analyze security`, from 0 to 100. A unit without restrictions has 96."""
PATIENCE_SECONDS = 180


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def unit(name: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(DEPLOY / "systemd" / f"{name}.service")
    return parser["Service"]


def is_true(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> bool:
    """Wait until a condition is true."""
    for _ in range(PATIENCE_SECONDS):
        if condition():
            return True
        assert process is None or process.poll() is None, "The process has ended."
        time.sleep(1)
    return False


def responds(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5) as response:
            return "dagster_version" in json.load(response)
    except (URLError, ConnectionError, TimeoutError):
        return False


# ---------------------------------------------------------------- the files


def test_only_localhost_reaches_the_webserver() -> None:
    services = compose()["services"]
    published = {name: service.get("ports", []) for name, service in services.items()}
    assert published == {
        "postgres": [],
        "daemon": [],
        "webserver": ["127.0.0.1:${PORT:-3000}:3000"],
    }
    assert "--host 127.0.0.1 " in unit("monstera-webserver")["ExecStart"]


def test_no_container_can_gain_permissions() -> None:
    for name in ("daemon", "webserver"):
        service = compose()["services"][name]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        [source] = [mount for mount in service["volumes"] if ":/source" in mount]
        assert source.endswith(":ro")


def test_every_service_has_a_health_check() -> None:
    for name, service in compose()["services"].items():
        assert service["healthcheck"]["test"][0] == "CMD", name


def test_no_secret_has_a_default() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    assert "${POSTGRES_PASSWORD:?" in text
    assert text.count("${POSTGRES_PASSWORD") == text.count("${POSTGRES_PASSWORD:?")


def test_dagster_is_configured_as_on_sqlite_except_for_the_storage() -> None:
    on_postgres = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    on_sqlite = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    storages = {"event_log_storage", "run_storage", "schedule_storage"}
    for name in storages:
        assert on_postgres[name]["config"] == {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}
    assert {name: value for name, value in on_postgres.items() if name not in storages} == {
        name: value for name, value in on_sqlite.items() if name not in storages
    }


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.service"
    text = (DEPLOY / "systemd" / path.name).read_text()
    path.write_text(text.replace(f"{INSTALLED}/.venv/bin", str(BIN)).replace(INSTALLED, str(ROOT)))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    limit = f"--threshold={MAX_EXPOSURE}"
    exposed = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", limit, path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert exposed.returncode == 0, exposed.stdout[-300:]


# ---------------------------------------------------------------- on this machine


@contextmanager
def started(
    command: list[str], variables: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process, and stop it as systemd and containers do."""
    with (
        log.open("wb") as file,
        subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=file, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        except BaseException:
            process.kill()
            print(log.read_text()[-2000:])  # noqa: T201
            raise


def test_the_units_commands_run_on_postgresql(tmp_path: Path) -> None:
    """Both services start and stop, and a run's state is in PostgreSQL."""
    port = free_port()
    commands = {
        name: [
            word.replace(f"{INSTALLED}/.venv/bin", str(BIN)).replace("3000", str(port))
            for word in shlex.split(unit(name)["ExecStart"])
        ]
        for name in UNITS
    }
    with postgres_server() as server:
        home = tmp_path / "dagster_home"
        home.mkdir()
        shutil.copy(DEPLOY / "dagster.yaml", home)
        variables = environment(
            DAGSTER_HOME=str(home),
            DAGSTER_POSTGRES_URL=new_database(server),
            MONSTERA_SOURCE=str(SEEDS),
            MONSTERA_DATABASE=str(tmp_path / "monstera.duckdb"),
        )

        def succeeds(*command: str) -> bool:
            return (
                subprocess.run(
                    [str(BIN / command[0]), *command[1:]],
                    cwd=ROOT,
                    env=variables,
                    capture_output=True,
                    check=False,
                ).returncode
                == 0
            )

        health = compose()["services"]["daemon"]["healthcheck"]["test"][1:]
        assert not succeeds(*health), "The daemon is healthy before it has been started."
        with (
            started(commands["monstera-daemon"], variables, tmp_path / "daemon.log") as daemon,
            started(commands["monstera-webserver"], variables, tmp_path / "web.log") as webserver,
        ):
            assert is_true(lambda: responds(port), webserver)
            assert is_true(lambda: succeeds(*health), daemon)
            assert succeeds("monstera", "run")
        assert (daemon.returncode, webserver.returncode) == (0, 0)
        assert not list(home.rglob("*.db")), "Dagster's state is in SQLite files."


# ---------------------------------------------------------------- in containers


@pytest.fixture(scope="module")
def engine() -> str:
    """Return the name of a container engine that runs the base image, pulling it if necessary."""
    for name in ("docker", "podman"):
        if shutil.which(name) is None:
            continue
        command = [name, "run", "--rm", BASE, "true"]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return name
    pytest.skip(f"No container engine on this machine runs {BASE}.")


@pytest.fixture(scope="module")
def image(engine: str) -> str:
    name = "monstera:test"
    # Additional arguments, for example for a proxy.
    arguments = shlex.split(os.environ.get("BUILD_ARGUMENTS", ""))
    subprocess.run(
        [engine, "build", "--tag", name, "--file", "deploy/Dockerfile", *arguments, "."],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return name


def test_the_image_runs_the_graph_without_permissions(
    engine: str, image: str, tmp_path: Path
) -> None:
    volume = tmp_path / "data"
    volume.mkdir()
    volume.chmod(0o777)  # a bind mount does not get the image's owner
    [mounted] = compose()["services"]["daemon"]["tmpfs"]
    done = subprocess.run(
        [
            *(engine, "run", "--rm", "--network=none", "--read-only", f"--tmpfs={mounted}"),
            *("--cap-drop=ALL", "--security-opt=no-new-privileges"),
            *(f"--volume={SEEDS}:/source:ro", f"--volume={volume}:/data"),
            *(image, "sh", "-c", "id -u && monstera run"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0] == "10001"
    assert (volume / "monstera.duckdb").stat().st_uid == 10001
