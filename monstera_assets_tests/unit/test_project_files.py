"""The workflows run make targets, and the pages for contributors name what exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PACKAGE = ROOT / "monstera_assets"
LONG = 400
"""Lines of a module, above which its head says why it is not split."""
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def workflow(path: Path) -> dict[str, Any]:
    """Read a workflow. YAML 1.1 reads the key `on` as true."""
    read: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in read.items()}


def targets(path: Path) -> list[str]:
    """Return the make targets that a workflow runs."""
    return [
        target
        for job in workflow(path)["jobs"].values()
        for target in job["strategy"]["matrix"]["target"]
    ]


def test_the_workflows_run_every_test_target_once() -> None:
    found = [target for path in WORKFLOWS for target in targets(path)]
    assert len(found) == len({*found})
    assert {*found} <= TARGETS
    assert {target for target in TARGETS if target.startswith("test")} <= {*found}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_only_read_and_only_call_make(path: Path) -> None:
    read = workflow(path)
    assert read["permissions"] == {"contents": "read"}
    for job in read["jobs"].values():
        assert "permissions" not in job
        uses = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", one) for one in uses)
        [checkout] = [step for step in job["steps"] if "checkout" in step.get("uses", "")]
        assert checkout["with"]["persist-credentials"] is False
        assert [step["run"] for step in job["steps"] if "run" in step] == [
            "make ${{ matrix.target }}"
        ]


def test_every_issue_form_requires_an_answer() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*_*.yml"))
    assert [form.stem for form in forms] == ["bug_report", "feature_request"]
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= form.keys()
        ids = [field["id"] for field in form["body"] if "id" in field]
        assert len(ids) == len({*ids})
        assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_long_modules_say_why_they_are_whole() -> None:
    silent = []
    for path in PACKAGE.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        imports = (n for n, line in enumerate(lines) if re.match(r"(from \S+ )?import \w", line))
        first = next(imports, len(lines))
        says = any(line.startswith(f"# Over {LONG} lines: ") for line in lines[:first])
        place = path.relative_to(PACKAGE)
        if says != (len(lines) > LONG):
            silent.append((str(place), len(lines)))
    assert silent == []


def test_the_code_layout_lists_every_folder() -> None:
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([\w/.-]+/)`", page.split("## Code layout")[1]))
    folders = {
        f"{path.relative_to(ROOT)}/"
        for path in (*ROOT.iterdir(), *PACKAGE.iterdir())
        if path.is_dir() and not path.is_symlink() and not path.name.startswith((".", "__"))
    }
    made = {name for name in folders if name.endswith(".egg-info/")} | {"data/", "build/", "dist/"}
    assert folders - listed - made == {"docs/", "monstera_assets/"}
