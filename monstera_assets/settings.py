"""Settings: by flag, environment variable or `monstera.toml`, in this order of precedence."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.connection import DEFAULT_LOCK_TIMEOUT_SECONDS

SETTINGS_FILE = "monstera.toml"
ENVIRONMENT_PREFIX = "MONSTERA_"


class SettingsError(ValueError):
    """A setting is wrong; the message names it and where it came from."""


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        toml_file=SETTINGS_FILE,
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    source: Path = Field(default=Path("seeds"), description="Folder of the source.")
    database: Path = Field(
        default=Path("data/monstera.duckdb"), description="The warehouse's DuckDB file."
    )
    start_date: date | None = Field(
        default=None,
        description="First daily partition; by default the earliest date in the source.",
    )
    earliest_event_date: date = Field(
        default=date(1990, 1, 1), description="Older events are rejected."
    )
    memory_limit: str | None = Field(
        default=None,
        pattern=r"^\d+(\.\d+)?\s*([KMGT]i?B|%)$",
        description="Memory that DuckDB may use, such as 4GB; by default 80 % of the machine's.",
    )
    threads: int | None = Field(
        default=None, ge=1, description="Threads that DuckDB may use; by default all cores."
    )
    temp_directory: Path | None = Field(
        default=None, description="Where DuckDB spills to; by default beside the database."
    )
    lock_timeout_seconds: float = Field(
        default=DEFAULT_LOCK_TIMEOUT_SECONDS,
        ge=0,
        description="How long to wait for another process to release the database.",
    )
    policy: LifecyclePolicy = Field(
        default_factory=LifecyclePolicy, description="Thresholds of the lifecycle."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags before environment before file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(**flags: Any) -> Settings:
    """Read the settings; flags that are None count as not given.

    Raises:
        SettingsError: naming the setting, its value and what is wrong with it.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = "; ".join(
            f"{_name(problem['loc'], given)}: {problem['msg']} (given: {problem['input']!r})"
            for problem in error.errors()
        )
        raise SettingsError(f"wrong setting: {problems}") from error
    except ValueError as error:  # a file that is no TOML, a variable that is no JSON
        raise SettingsError(f"{SETTINGS_FILE} or environment: {error}") from error


def _name(location: tuple[int | str, ...], flags: dict[str, Any]) -> str:
    path = [str(part) for part in location]
    if path and path[0] in flags:
        return f"--{path[0].replace('_', '-')}"
    variable = ENVIRONMENT_PREFIX + "__".join(path).upper()
    return f"{'.'.join(path)} (in {SETTINGS_FILE}, or {variable})"
