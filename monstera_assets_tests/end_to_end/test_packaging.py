"""The wheel contains everything that an installation needs, without the repository.

The tests that install the wheel read the package index. `make test-package` runs them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from monstera_assets_tests.helpers.command_line import SEEDS, Outcome, environment, snapshot
from monstera_assets_tests.helpers.shared import Shared
from monstera_assets_tests.integration.example_runs import SeedsRun
from monstera_assets_tests.integration.test_extras import INSTALL, PREDICTIONS

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
ALLOWED = re.search(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"$', PROJECT, re.MULTILINE)
assert ALLOWED
OTHER_VERSIONS = [
    f"3.{minor}" for minor in range(*map(int, ALLOWED.groups())) if minor != sys.version_info.minor
]
"""The versions of Python that pyproject.toml allows, without this one."""
NOT_SOURCE = (".git", ".venv", "data", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")

REFUSE_THE_REPOSITORY = """
import sys

def refuse(event, arguments, root={root!r}):
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(root):
        raise PermissionError(f"{{arguments[0]}} is in the repository")

sys.addaudithook(refuse)
"""


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the repository, with the tools that are installed."""
    copy = shutil.copytree(
        ROOT, folder / "copy", symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE)
    )
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--no-index", "--wheel-dir", str(folder), str(copy)),
        ],
        env=environment(),
        check=True,
    )
    shutil.rmtree(copy)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheel(shared: Shared) -> Path:
    """Return the wheel."""
    return shared.once("wheel", build_wheel)


def test_the_wheel_contains_the_files_that_commands_read(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    packages = {name.split("/")[0] for name in content}
    assert packages == {"monstera_assets", f"{wheel.name.split('-py3')[0]}.dist-info"}
    read = [
        *(path for path in SEEDS.iterdir()),
        *(ROOT / "monstera_assets" / "dashboards" / "templates").iterdir(),
        *(ROOT / "monstera_assets").rglob("*.py"),
        ROOT / "monstera_assets" / "operations" / "dagster.yaml",
        ROOT / "monstera_assets" / "py.typed",
    ]
    for path in read:
        folder = Path("monstera_assets") if path.parent == SEEDS else Path()
        assert content[str(folder / path.relative_to(ROOT))] == path.read_bytes(), path
    [metadata] = [text for name, text in content.items() if name.endswith("/METADATA")]
    required = re.findall(r"^Requires-Dist: ([\w.-]+)(.*)$", metadata.decode(), re.MULTILINE)
    assert "scikit-learn" not in {name for name, rest in required if "extra ==" not in rest}
    assert {name for name, rest in required if 'extra == "predict"' in rest} == {"scikit-learn"}


@dataclass(frozen=True)
class Installation:
    """An environment that contains the wheel and only what it requires."""

    folder: Path
    wheel: Path

    @property
    def lock(self) -> Path:
        """A copy of the lock file."""
        return self.folder / LOCK.name

    def pip(self, *arguments: str) -> str:
        """Run pip and return its output."""
        return self.run("python", "-m", "pip", "--disable-pip-version-check", *arguments).out

    def run(self, program: str, *arguments: str, folder: Path | None = None) -> Outcome:
        """Run an installed program in a folder, by default the environment's, and require success."""
        where = folder or self.folder
        variables = environment(HOME=str(self.folder), BROWSER="true")
        variables.pop("PYTHONPATH", None)
        done = subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=where,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return Outcome(
            where,
            done.returncode,
            done.stdout,
            done.stderr,
            snapshot(where / "data" / "monstera.duckdb"),
        )


def install(
    folder: Path, wheel: Path, python: str = sys.executable, extra: str = ""
) -> Installation:
    """Install the wheel and the locked versions into an environment that cannot read the repository."""
    made = Installation(folder, wheel)
    subprocess.run([python, "-m", "venv", str(folder)], env=environment(), check=True)
    shutil.copy(LOCK, made.lock)
    made.pip("install", "--quiet", "--constraint", str(made.lock), f"{wheel}{extra}")
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "sitecustomize.py").write_text(REFUSE_THE_REPOSITORY.format(root=f"{ROOT}/"))
    return made


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installation:
    """Install the wheel without any extra, with this version of Python."""
    return install(tmp_path_factory.mktemp("environment"), wheel)


def without_predictions(tables: Mapping[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    """Return the tables that neither are predictions nor read any."""
    depends = {*PREDICTIONS, "gold_accounts_needing_attention"}
    return {name: found for name, found in tables.items() if name.split(".")[-1] not in depends}


@pytest.mark.packaging
def test_the_wheel_is_enough(
    installation: Installation, seeds_run: SeedsRun, tmp_path: Path
) -> None:
    listed = installation.pip("list").lower()
    assert "scikit-learn" not in listed
    assert "pytest" not in listed

    demo = installation.run("monstera", "demo", folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"seeds", "data"}
    for path in SEEDS.iterdir():
        assert (tmp_path / "seeds" / path.name).read_bytes() == path.read_bytes()
    assert re.search(r"^Checks: \d+ passed, 0 failed$", demo.out, re.MULTILINE), demo.out
    assert not [name for name in demo.tables if name.split(".")[-1] in PREDICTIONS]
    assert demo.tables.keys() - without_predictions(demo.tables).keys() == {
        "gold.gold_accounts_needing_attention"
    }
    assert without_predictions(demo.tables) == without_predictions(seeds_run.outcome.tables)

    shutil.rmtree(tmp_path / "data" / "dashboards")
    said = installation.run("monstera", "dashboard", folder=tmp_path).out
    index = tmp_path / re.findall(r"^Dashboards: (.*)$", said, re.MULTILINE)[0]
    assert index.is_file()
    risk = (index.parent / "risk.html").read_text(encoding="utf-8")
    assert INSTALL.replace("'", "&#39;") in risk

    # What the page says to do.
    installation.pip(
        *("install", "--quiet", "--constraint", str(installation.lock)),
        f"{installation.wheel}[predict]",
    )
    again = installation.run("monstera", "run", folder=tmp_path)
    assert again.tables == seeds_run.outcome.tables
    assert INSTALL.replace("'", "&#39;") not in (index.parent / "risk.html").read_text()


@pytest.mark.packaging
@pytest.mark.parametrize("version", OTHER_VERSIONS)
def test_other_versions_of_python_compute_the_same_tables(
    version: str, wheel: Path, seeds_run: SeedsRun, tmp_path: Path
) -> None:
    python = f"python{version}"
    if shutil.which(python) is None or subprocess.run([python, "-V"], check=False).returncode:
        pytest.skip(f"{python} is not installed.")
    made = install(tmp_path / "environment", wheel, python, "[predict]")
    folder = tmp_path / "work"
    folder.mkdir()
    demo = made.run("monstera", "demo", folder=folder)
    assert re.search(r"^Checks: \d+ passed, 0 failed$", demo.out, re.MULTILINE), demo.out
    assert demo.tables == seeds_run.outcome.tables


@pytest.mark.packaging
@pytest.mark.parametrize("version", OTHER_VERSIONS)
def test_the_lock_file_resolves_to_wheels(version: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"),
            *("--no-deps", "--only-binary", ":all:", "--python-version", version),
            *("--target", str(tmp_path), "--requirement", str(LOCK)),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [would] = re.findall(r"^Would install (.*)$", done.stdout, re.MULTILINE)
    pinned = re.findall(r"^([\w.-]+)==", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(would.split()) == len(pinned)
