"""Where Dagster keeps its state: `DAGSTER_HOME` if set, else a folder beside the database."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from dagster import DagsterInstance

from monstera_assets.settings import Settings, SettingsError

CONFIGURATION = "dagster.yaml"


def dagster_home(settings: Settings) -> Path:
    """The folder of Dagster's state, made if need be; absolute.

    A folder without a `dagster.yaml` gets this project's, whose event log writes in batches.

    Raises:
        SettingsError: the folder cannot be made or written to.
    """
    given = os.environ.get("DAGSTER_HOME")
    home = Path(given) if given else settings.database.absolute().parent / "dagster_home"
    home = home.expanduser().absolute()
    configuration = home / CONFIGURATION
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not configuration.exists():
            template = files("monstera_assets.operations").joinpath(CONFIGURATION)
            configuration.write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        name = "DAGSTER_HOME" if given else "the folder of the database"
        raise SettingsError(f"{name}: {home} cannot be used: {error.strerror}") from error
    return home


def open_instance(settings: Settings) -> DagsterInstance:
    """The Dagster instance of a configuration."""
    return DagsterInstance.from_config(str(dagster_home(settings)))
