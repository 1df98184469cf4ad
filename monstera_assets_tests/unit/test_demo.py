"""Where `monstera demo` writes the example data, and when it refuses to."""

from __future__ import annotations

from pathlib import Path

import pytest

from monstera_assets.operations.demo import DATABASE, SEEDS, place_example
from monstera_assets.settings import SettingsError
from monstera_assets_tests.helpers.command_line import SEEDS as REPOSITORY_SEEDS
from monstera_assets_tests.helpers.command_line import in_this_process


def test_the_example_is_copied_once(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    place_example(folder, folder / DATABASE)
    copied = {path.name: path.read_bytes() for path in (folder / SEEDS).iterdir()}
    assert copied == {path.name: path.read_bytes() for path in REPOSITORY_SEEDS.iterdir()}
    assert [path.name for path in folder.iterdir()] == [SEEDS]
    changed = folder / SEEDS / "seed_events.csv"
    changed.write_text("changed", encoding="utf-8")
    (folder / "data").mkdir()
    (folder / DATABASE).touch()
    place_example(folder, folder / DATABASE)
    assert changed.read_text(encoding="utf-8") == "changed"


@pytest.mark.parametrize(
    ("present", "error"),
    [
        ("monstera.toml", "contains monstera.toml, whose settings belong to other data"),
        ("data/monstera.duckdb", "data/monstera.duckdb was computed from other data"),
        (".seeds.incoming", "Cannot write the example data to .: "),
    ],
)
def test_a_folder_with_other_data_is_refused(
    present: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / present).parent.mkdir(exist_ok=True)
    (tmp_path / present).touch()
    with pytest.raises(SettingsError, match=error):
        place_example(Path(), DATABASE)
    assert not (tmp_path / SEEDS).exists()


def test_the_command_reports_the_error_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    done = in_this_process(monkeypatch, tmp_path, "demo", "--output", "file/below")
    assert done.code == 2
    assert done.err.startswith("monstera: Cannot write the example data to file/below: ")
    assert done.err.count("\n") == 1
