"""Write the package's example data, from which `monstera demo` computes all tables."""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from pathlib import Path

from monstera_assets.settings import SETTINGS_FILE, SettingsError

SEEDS = "seeds"
DATABASE = Path("data", "monstera.duckdb")


def place_example(folder: Path, database: Path) -> None:
    """Copy the example data to the folder `seeds` in `folder`, complete or not at all.

    An existing folder `seeds` is used as it is, so that the command can be repeated.

    Raises:
        SettingsError: If the current folder has settings, if the database was computed from other data,
            or if `folder` cannot be written to.
    """
    source = folder / SEEDS
    if Path(SETTINGS_FILE).exists():
        raise SettingsError(
            f"This folder contains {SETTINGS_FILE}, whose settings belong to other data. Run the"
            " command in another folder."
        )
    if source.exists():
        return
    if database.exists():
        raise SettingsError(
            f"The database {database} was computed from other data. Choose an empty folder with"
            " --output."
        )
    incoming = folder / f".{SEEDS}.incoming"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(incoming, ignore_errors=True)
        with as_file(files("monstera_assets") / SEEDS) as packaged:
            shutil.copytree(packaged, incoming)
        incoming.rename(source)
    except OSError as error:
        shutil.rmtree(incoming, ignore_errors=True)
        raise SettingsError(
            f"Cannot write the example data to {folder}: {error.strerror}. Choose another folder with"
            " --output."
        ) from error
