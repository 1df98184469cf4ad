"""Compare the first minutes with the package with the installation of Dagster's webserver alone.

    python -m benchmarks.install [--runs N] [--folder FOLDER]

Each run creates two environments: one with `dagster-webserver`, and one with the wheel of this
repository, both with the locked versions. In the second one, `monstera demo` and `monstera dashboard`
run in an empty folder with empty caches. The runs alternate, and the command prints the medians. The
CPU time does not depend on other processes and hardly on the network. A first run fills pip's cache.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from statistics import median

from benchmarks.processes import Measured, measure

_REPOSITORY = Path(__file__).parent.parent
WEBSERVER, WHEEL = "pip install dagster-webserver", "pip install monstera-assets"
DEMO, DASHBOARD = "monstera demo", "monstera dashboard"


class Beginner:
    """Someone who begins with an empty folder in `folder`, and what each step took."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.taken: dict[str, list[Measured]] = {}

    def begin(self, wheel: Path) -> None:
        """Install both packages, and take the first steps with the wheel."""
        webserver = self._environment("webserver")
        steps = {WEBSERVER: self._measure(*self._install(webserver), "dagster-webserver")}
        own = self._environment("own")
        steps[WHEEL] = self._measure(*self._install(own), str(wheel))
        work = self._emptied("work")
        database = str(work / "data" / "monstera.duckdb")
        command = str(own / "bin" / "monstera")
        steps[DEMO] = self._measure(command, "demo", "--output", str(work))
        steps[DASHBOARD] = self._measure(command, "dashboard", "--no-open", "--database", database)
        for step, measured in steps.items():
            self.taken.setdefault(step, []).append(measured)

    def _emptied(self, name: str) -> Path:
        folder = self._folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _environment(self, name: str) -> Path:
        folder = self._emptied(name)
        self._measure(sys.executable, "-m", "venv", str(folder))
        return folder

    def _install(self, environment: Path) -> tuple[str, ...]:
        pip = (str(environment / "bin" / "pip"), "install", "--quiet")
        return (*pip, "--constraint", str(_REPOSITORY / "requirements.lock"))

    def _measure(self, *command: str) -> Measured:
        cache = self._emptied("cache") if "demo" in command else self._folder / "cache"
        variables = {"PYTHONPATH": "", "DAGSTER_HOME": ""}
        if "pip" not in Path(command[0]).name:
            variables["XDG_CACHE_HOME"] = str(cache)
        return measure(command, self._folder / "log.txt", variables)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("data/benchmark/install"))
    given = parser.parse_args()
    folder = given.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    beginner = Beginner(folder)
    # setuptools writes next to what it builds.
    ignored = shutil.ignore_patterns(".git", ".venv", "data", "build", "*.egg-info", "__pycache__")
    copy = shutil.copytree(_REPOSITORY, folder / "copy", symlinks=True, ignore=ignored)
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder))
    measure([sys.executable, *build, str(copy)], folder / "log.txt")
    [wheel] = folder.glob("*.whl")
    for _ in range(given.runs):
        beginner.begin(wheel)
    print("| step | seconds | CPU | peak MB |\n|---|---:|---:|---:|")
    for step, measured in beginner.taken.items():
        wall, cpu = median(one.wall for one in measured), median(one.cpu for one in measured)
        print(f"| `{step}` | {wall:.1f} | {cpu:.1f} | {max(one.memory for one in measured):,.0f} |")


if __name__ == "__main__":
    main()
