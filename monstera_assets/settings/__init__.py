"""Load settings from flags, environment variables and `monstera.toml`, in that order of precedence."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, time
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.timezone import UTC, checked_timezone
from monstera_assets.settings.alert_urls import parse_entries, split_entries
from monstera_assets.settings.engines import check_catalog, check_remote, check_warehouse
from monstera_assets.settings.entities_created import DEFAULT_ENTITIES_CREATED, EntityCreated
from monstera_assets.settings.imports import ImportSettings

SETTINGS_FILE = "monstera.toml"
ENVIRONMENT_PREFIX = "MONSTERA_"
NESTED = "__"

OTHER_VARIABLES = frozenset({"MONSTERA_EXAMPLES_FACTOR"})
"""Environment variables that have the prefix but are not settings.

`MONSTERA_EXAMPLES_FACTOR` scales the number of test examples.
"""

RENAMED_SETTINGS: Mapping[str, str] = {}
"""New names for renamed settings, keyed by old name. An error about an old name shows the new name."""


class SettingsError(ValueError):
    """A setting is invalid. The message shows the setting's name and where the setting was set."""


class Settings(BaseSettings):
    """The complete configuration."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter=NESTED,
        toml_file=SETTINGS_FILE,
        extra="forbid",
        frozen=True,
        validate_default=True,
        # An invalid value may be a secret. `load_settings` shows only values that are not secrets.
        hide_input_in_errors=True,
    )

    source: Path = Field(Path("seeds"), description="The folder that contains the input files.")
    database: Path = Field(Path("data/monstera.duckdb"), description="The warehouse's DuckDB file.")
    engine: Literal["duckdb", "spark"] = Field(
        "duckdb",
        description="What stores and computes the silver and gold tables: duckdb, which stores all"
        " tables in `database`, or spark, which needs the extra `spark` and the settings"
        " `spark_remote`, `warehouse` and `catalog` (see docs/how-to/spark.md).",
    )
    spark_remote: SecretStr | None = Field(
        None,
        description="The Spark Connect server, such as sc://host:15002. The URL is kept secret.",
    )
    warehouse: str | None = Field(
        None,
        description="The URL of the folder with the files of the Iceberg tables, such as"
        " s3://bucket/monstera, abfss://container@account.dfs.core.windows.net/monstera or"
        " file:///data/monstera.",
    )
    catalog: dict[str, SecretStr] = Field(
        {},
        description="The properties of the pyiceberg catalog, such as type and uri, as a [catalog]"
        " table in monstera.toml or a JSON object. The values are kept secret.",
    )
    start_date: date | None = Field(
        None,
        description="The date of the first daily partition, which also contains facts from earlier"
        " days. Default: the first day with an accepted event or subscription event.",
    )
    timezone: str = Field(
        UTC,
        description="The time zone that defines days, as an IANA name such as Europe/Berlin. Timestamps"
        " are always stored in UTC.",
    )
    earliest_event_date: date = Field(
        date(1990, 1, 1),
        description="The earliest accepted date. Rows with earlier dates are rejected.",
    )
    null_words: tuple[str, ...] = Field(
        ("NULL", "\\N", "null", "None", "NaN", "NaT"),
        description="Values that are treated as missing, in addition to empty strings.",
    )
    csv_delimiter: str | None = Field(
        None,
        description="The delimiter in all CSV files: a comma, a semicolon, a pipe or `tab`. Default:"
        " detected for each file.",
    )
    memory_limit: str | None = Field(
        None,
        pattern=r"^\d+(\.\d+)?\s*([KMGT]i?B|%)$",
        description="DuckDB's memory limit, such as 4GB. Default: 80% of the machine's memory.",
    )
    threads: int | None = Field(
        None, ge=1, description="The number of DuckDB threads. Default: one per CPU core."
    )
    temp_directory: Path | None = Field(
        None, description="The folder for DuckDB's temporary files. Default: next to the database."
    )
    lock_timeout_seconds: float = Field(
        30.0,
        ge=0,
        description="The number of seconds to wait for another process to release the database.",
    )
    daily_run_at: time = Field(
        time(5, 0),
        description="The daily run's start time, as HH:MM in the time zone set by `timezone`. When the"
        " run starts, the source must contain the previous day's data.",
    )
    restate_days: int = Field(
        90,
        ge=0,
        description="The number of earlier days that the daily run recomputes at most if their data"
        " changed. Changes that affect older days are held back until `monstera run --changed`.",
    )
    export_directory: Path | None = Field(
        None,
        description="The folder to which each run exports tables for BI tools. Default: no export.",
    )
    dashboard_directory: Path | None = Field(
        None,
        description="The dashboard folder, whose home page is current/index.html. Default: a folder"
        " named dashboards, next to the database.",
    )
    account_pages: int = Field(
        5000,
        ge=0,
        description="The largest number of accounts that have a page in the dashboards. Accounts that"
        " other pages list come first, followed by those with the highest revenue.",
    )
    published_tables: Annotated[tuple[str, ...], NoDecode] = Field(
        ("gold", "silver", "silver_daily_user_activity"),
        description="The tables in the published copy, separated by commas: table names, gold for all"
        " gold tables, and silver for the current silver tables. If empty, nothing is published."
        " Default: gold,silver,silver_daily_user_activity.",
    )
    raw_event_retention_days: int = Field(
        730,
        ge=1,
        description="The number of days for which `monstera expire` keeps raw events.",
    )
    entities_created: tuple[EntityCreated, ...] = Field(
        DEFAULT_ENTITIES_CREATED,
        description="The entities that users create, with the event types that create each entity. Each"
        " entity adds a gold_ENTITY_created_daily table.",
    )
    alert_urls: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Apprise URLs that receive alerts, such as slack://..., separated by commas or"
        " spaces, or as a JSON list. URLs are kept secret. To limit the alerts for a URL, add a level,"
        " owners or both as a prefix. For example, P1+team:data-platform=slack://... receives P0 and P1"
        " alerts for the tables of team:data-platform. If no URLs are set, alerts are only logged.",
    )
    ui_url: str = Field(
        "http://127.0.0.1:3000",
        pattern=r"^https?://[^\s@<>]+$",
        description="The Dagster UI's address, which is used for links in alerts.",
    )
    documentation_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s@<>]+$",
        description="The address at which `make docs-site` is served, which the Dagster UI links to for"
        " each table. Default: no links.",
    )
    imports: tuple[ImportSettings, ...] = Field(
        (),
        description="The exports that `monstera import` turns into the source, one [[import]] table in"
        " monstera.toml for each (see docs/how-to/importing.md).",
    )
    policy: LifecyclePolicy = Field(
        default_factory=LifecyclePolicy, description="The lifecycle thresholds."
    )

    @property
    def dashboards(self) -> Path:
        """The dashboard folder."""
        return self.dashboard_directory or self.database.parent / "dashboards"

    @property
    def published(self) -> Path:
        """The copy of the database that each successful run publishes."""
        return self.database.parent / "published" / self.database.name

    @model_validator(mode="before")
    @classmethod
    def _rename_import(cls, values: Any) -> Any:
        # A field cannot be called `import`, which is a keyword.
        if isinstance(values, dict) and "import" in values:
            values = {**values, "imports": values["import"]}
            del values["import"]
        return values

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        return checked_timezone(value)

    @field_validator("spark_remote")
    @classmethod
    def _check_remote(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        check_remote(None if value is None else value.get_secret_value(), **_engine_of(info))
        return value

    @field_validator("warehouse")
    @classmethod
    def _check_warehouse(cls, value: str | None, info: ValidationInfo) -> str | None:
        check_warehouse(value, **_engine_of(info))
        return value

    @field_validator("catalog")
    @classmethod
    def _check_catalog(
        cls, value: dict[str, SecretStr], info: ValidationInfo
    ) -> dict[str, SecretStr]:
        check_catalog(value, **_engine_of(info))
        return value

    @field_validator("csv_delimiter")
    @classmethod
    def _check_delimiter(cls, value: str | None) -> str | None:
        if value not in {None, ",", ";", "|", "\t", "tab"}:
            raise ValueError("is not a comma, semicolon, pipe or `tab`")
        return "\t" if value == "tab" else value

    @field_validator("published_tables", mode="before")
    @classmethod
    def _split_published_tables(cls, value: object) -> object:
        return value.replace(",", " ").split() if isinstance(value, str) else value

    @field_validator("alert_urls", mode="before")
    @classmethod
    def _split_alert_urls(cls, value: object) -> object:
        return split_entries(value)

    @field_validator("alert_urls")
    @classmethod
    def _check_alert_urls(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        parse_entries(value)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read flags first, then environment variables, then the file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(**flags: Any) -> Settings:
    """Read the settings. Flags that are None are ignored.

    Raises:
        SettingsError: If a setting is invalid. The message shows the setting's name, where the setting
            was set and what is wrong.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    in_file = _read_file()
    _refuse_unknown_variables()
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = "; ".join(_problem(detail, given, in_file) for detail in error.errors())
        raise SettingsError(f"Invalid setting: {problems}") from error
    except ValueError as error:  # a value is not JSON, but a list is expected
        raise SettingsError(f"Invalid environment variable: {error}") from error


def variables(
    model: type[BaseModel] = Settings, prefix: str = ENVIRONMENT_PREFIX
) -> dict[str, FieldInfo]:
    """Return each setting's field, keyed by environment variable."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= variables(field.annotation, variable + NESTED)
        else:
            found[variable] = field
    return found


def _engine_of(info: ValidationInfo) -> dict[str, bool]:
    return {"is_used": info.data.get("engine") == "spark"}


def _read_file() -> dict[str, Any]:
    path = Path(SETTINGS_FILE)
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise SettingsError(
                f"{SETTINGS_FILE} is a broken link. Remove or fix the link."
            ) from error
        return {}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(
            f"{SETTINGS_FILE} cannot be read: {reason}. Correct the file."
        ) from error


def _refuse_unknown_variables() -> None:
    """Raise an error for unknown variables, which the settings library silently ignores."""
    known = variables()
    for name in sorted(os.environ):
        variable = name.upper()
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in {*known, *OTHER_VARIABLES}:
            continue
        if new := RENAMED_SETTINGS.get(_setting(variable)):
            raise SettingsError(f"Environment variable {name} is now called {_variable(new)}.")
        similar = _similar(_setting(variable), known)
        suggestion = (
            f"Did you mean {_variable(similar)}?" if similar else "Rename or unset the variable."
        )
        raise SettingsError(f"Unknown environment variable {name}. {suggestion}")


def _problem(detail: ErrorDetails, flags: Mapping[str, Any], in_file: Mapping[str, Any]) -> str:
    path = [str(part) for part in detail["loc"]]
    path[:1] = ["import" if part == "imports" else part for part in path[:1]]
    name = ".".join(path)
    setting = f"{name} (from {' and '.join(_origins(path, flags, in_file))})"
    known = variables()
    if detail["type"] == "extra_forbidden":
        if new := RENAMED_SETTINGS.get(name):
            return f"{setting} is now called {new}"
        # Do not show the value, because the value may be a misplaced secret.
        similar = _similar(name, known)
        suggestion = f"; did you mean {similar}?" if similar else ""
        return f"{setting} does not exist{suggestion}"
    message = detail["msg"].removeprefix("Value error, ")
    field, value = known.get(_variable(name)), detail["input"]
    is_secret = field is None or "Secret" in repr(field.annotation)
    shown = isinstance(value, str | int | float | date | Path) and not is_secret
    return f"{setting}: {message}" + (f" (given: {str(value)!r})" if shown else "")


def _origins(path: list[str], flags: Mapping[str, Any], in_file: Mapping[str, Any]) -> list[str]:
    """Return where a setting, or a group of incompatible settings, was set."""
    if path[0] in flags:
        return [f"--{path[0].replace('_', '-')}"]
    variable = _variable(".".join(path))
    exact = [name for name in os.environ if name.upper() == variable]
    if exact:
        return exact
    part_of = sorted(name for name in os.environ if name.upper().startswith(variable + NESTED))
    value: Any = in_file
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return [*part_of, *([SETTINGS_FILE] if value is not None or not part_of else [])]


def _variable(setting: str) -> str:
    return ENVIRONMENT_PREFIX + setting.replace(".", NESTED).upper()


def _setting(variable: str) -> str:
    return variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace(NESTED, ".")


def _similar(setting: str, known: Iterable[str]) -> str | None:
    """Return the most similar known setting, if any."""
    return next(iter(get_close_matches(setting, map(_setting, known), n=1)), None)
