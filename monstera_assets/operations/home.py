"""The folder for Dagster's state: `DAGSTER_HOME` if set, otherwise a folder next to the database."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from dagster import DagsterInstance
from sqlalchemy.exc import DBAPIError

from monstera_assets.operations.errors import StateError
from monstera_assets.settings import Settings, SettingsError

CONFIGURATION = "dagster.yaml"
_LOCK = ".monstera.lock"


def dagster_home(settings: Settings) -> Path:
    """Return the absolute path to the folder for Dagster's state, creating it if necessary.

    If the folder has no `dagster.yaml`, this project's `dagster.yaml` is copied to the folder. This
    file configures the event log to write in batches.

    Raises:
        SettingsError: If the folder cannot be created or written to.
    """
    given = os.environ.get("DAGSTER_HOME")
    home = Path(given) if given else settings.database.absolute().parent / "dagster_home"
    home = home.expanduser().absolute()
    configuration = home / CONFIGURATION
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(home):
            if not configuration.exists():
                template = files("monstera_assets.operations").joinpath(CONFIGURATION)
                configuration.write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        name = "DAGSTER_HOME" if given else "The default DAGSTER_HOME"
        raise SettingsError(
            f"{name}, {home}, cannot be used: {error.strerror}. Check the folder's permissions,"
            " or set DAGSTER_HOME to another folder."
        ) from error
    return home


@contextmanager
def open_instance(settings: Settings) -> Iterator[DagsterInstance]:
    """Open the Dagster instance for the given settings.

    Raises:
        SettingsError: If the folder for Dagster's state cannot be created or written to.
        StateError: If Dagster's state cannot be read or written, either now or while the instance
            is in use.
    """
    home = dagster_home(settings)
    try:
        with _one_at_a_time(home):
            instance = DagsterInstance.from_config(str(home))
            # Create the files now, under the lock, rather than on first use.
            _ = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
        with instance:
            yield instance
    except DBAPIError as error:
        raise StateError(
            f"{home}: Dagster's state cannot be read or written: {error.orig}. Finished tables are"
            " kept. Check the disk space and the permissions, then run the command again."
        ) from error


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Lock out other processes, since Dagster fails if two processes create a SQLite file at once.

    The operating system releases the lock when the process exits.
    """
    with (home / _LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
