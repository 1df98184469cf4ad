"""Write a company to a source folder atomically.

DuckDB writes the files from NumPy columns, one day at a time, in a second thread. A single thread
writes each file in a fixed row order. With the same versions of DuckDB and NumPy, the same company
therefore always produces identical files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import numpy as np
from numpy.typing import NDArray

from monstera_assets.source.layout import FileFormat
from monstera_assets.source.sql import date_literal, literal
from monstera_assets.synthetic import truth
from monstera_assets.synthetic.accounts import NEVER, VALUES, Facts, Phase
from monstera_assets.synthetic.catalog import (
    CATALOG_COLUMNS,
    EVENT_TYPES,
    WORKFLOW_COLUMNS,
    WORKFLOWS,
    catalog_rows,
)
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.errors import GenerationError
from monstera_assets.synthetic.events import EventMaker, Events, mean_events
from monstera_assets.synthetic.people import INVITATION, State
from monstera_assets.synthetic.simulation import Simulation

Columns = Mapping[str, NDArray[Any]]

TRUTH = "truth"
_ID_DIGITS = 6
_ACCOUNT_DIGITS = 5
_PAUSE_REASONS = ("voluntary_pause", "seasonal")


_OPTIONS = {
    FileFormat.PARQUET: "FORMAT parquet, COMPRESSION snappy",
    FileFormat.CSV: "FORMAT csv, HEADER true",
}


@dataclass(frozen=True)
class Generated:
    """The source folder that was written and the number of rows per input."""

    folder: Path
    rows: Mapping[str, int]


def generate(
    company: Company,
    output: Path,
    kind: FileFormat = FileFormat.PARQUET,
    *,
    with_truth: bool = False,
) -> Generated:
    """Write a company to a source folder, with the true hazards as Parquet if `with_truth` is set.

    Raises:
        GenerationError: If the folder is not empty, writing to the folder fails, or `company.events` is
            too low.
    """
    with _new_folder(output) as folder:
        rows = _Writer(company, folder, kind).write(with_truth=with_truth)
    return Generated(output, rows)


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes the output folder after all files are written."""
    try:
        if output.is_symlink() or (output.exists() and not output.is_dir()):
            raise GenerationError(f"--output {output} is not a folder. Choose a different path.")
        _require_empty(output)
        target = output.absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
        folder.mkdir()
        try:
            yield folder
            try:
                # An empty folder is replaced. Replacing fails if another process has added files.
                folder.replace(target)
            except OSError:
                _require_empty(output)
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except (OSError, duckdb.IOException) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise GenerationError(
            f"Cannot write to --output {output}: {reason}. No files were written. Check the parent"
            " folder's permissions and the free disk space."
        ) from error


def _require_empty(output: Path) -> None:
    if output.exists() and any(output.iterdir()):
        raise GenerationError(
            f"--output {output} is not empty, and existing files are never overwritten. Choose a"
            " different folder, or remove the existing folder first."
        )


class _Writer:
    def __init__(self, company: Company, folder: Path, kind: FileFormat) -> None:
        self._company = company
        self._folder = folder
        self._kind = kind
        self._mean_events = mean_events(company)
        self._simulation = Simulation(company)
        self._users = max(_ID_DIGITS, len(str(company.users)))
        self._rows: dict[str, int] = {}

    def write(self, *, with_truth: bool) -> dict[str, int]:
        maker = EventMaker(self._simulation, self._mean_events)
        hazards: list[tuple[int, truth.Hazards]] = []
        self._rows["events"] = 0
        with (
            duckdb.connect(":memory:", config={"threads": 1}) as connection,
            ThreadPoolExecutor(1) as executor,
        ):
            self._connection = connection
            written: Future[Any] = executor.submit(int)
            for day, done in self._simulation.run():
                events = maker.of_day(day, done)
                written.result()
                written = executor.submit(self._write_day, day, events)
                if with_truth and day % truth.EVERY_DAYS == truth.EVERY_DAYS - 1:
                    hazards.append((day, truth.hazards(self._simulation, day)))
            written.result()
            self._write_users()
            self._write_accounts()
            self._write_subscription_events()
            catalog = catalog_rows(self._company.first)
            self._write_constants("product_catalog", CATALOG_COLUMNS, catalog)
            self._write_constants("workflows", WORKFLOW_COLUMNS, WORKFLOWS)
            if with_truth:
                self._write_truth(hazards)
        return self._rows

    def _write_day(self, day: int, events: Events) -> None:
        date = self._company.date_of(day)
        columns = {**events._asdict(), "number": np.arange(len(events.user))}
        prefixes = ("e", "r") if self._company.is_doubled(day) else ("e",)
        start = f"TIMESTAMP '{date} 00:00:00'"
        nodes = [kind.node for kind in EVENT_TYPES]
        places = list(self._company.rates.locations)
        user = self._user_id('"user"')
        query = f"""
            SELECT '{{prefix}}{date:%Y%m%d}_' || lpad(number::VARCHAR, 7, '0') AS event_id,
                {user} AS entity_id,
                'user' AS entity_type,
                {_pick([kind.event_type for kind in EVENT_TYPES], "code")} AS event_type,
                {start} + to_seconds(second) AS timestamp,
                {_pick(places, "place")} AS location,
                'ses_' || {user} || '_{date:%Y%m%d}_' || session::VARCHAR AS session_id,
                {_pick(nodes, "code")} AS product_id,
                {_pick_flag([kind.qualifies for kind in EVENT_TYPES], "code")}
                    AS is_qualifying_event,
                {_pick_flag([kind.activates for kind in EVENT_TYPES], "code")}
                    AS is_activation_event,
                CASE WHEN project >= 0 THEN '{{{{"project_id": "prj_' || {user} || '_'
                    || project::VARCHAR || '"' || CASE WHEN target >= 0
                    THEN ', "target_user_id": "' || {self._user_id("target")} || '"' ELSE '' END
                    || '}}}}' END AS metadata,
                {start} + to_seconds(second + 1 + (number * 7919) % 60) AS received_at
            FROM columns"""
        folder = self._folder / "events" / f"event_date={date}"
        folder.mkdir(parents=True)
        for part, prefix in enumerate(prefixes):
            path = folder / f"part-{part}.{self._kind}"
            self._rows["events"] += self._copy(query.format(prefix=prefix), columns, path)

    def _write_users(self) -> None:
        people, accounts = self._simulation.people, self._simulation.accounts
        rates = self._company.rates
        number = people.signed_up_by(self._company.last_day)
        account = people.account[:number]
        plans = np.where(accounts.first_paid == NEVER, len(rates.tiers), accounts.tier)
        self._write_input(
            "users",
            f"""SELECT {self._user_id("number")} AS user_id,
                {self._user_id("number")} || '@example.invalid' AS email,
                {_account_id("account")} AS account_id,
                {self._moment("day", "second")} AS user_created_at,
                {_pick(list(rates.countries), "country")} AS country,
                {_pick([*rates.tiers, "trial"], "plan")} AS plan_type,
                {_pick([*rates.sources, INVITATION], "source")} AS acquisition_source
            FROM columns""",
            {
                "number": np.arange(number),
                "account": account,
                "day": people.signup[:number],
                "second": people.signup_second[:number],
                "country": people.country[:number],
                "plan": plans[account],
                "source": people.source[:number],
            },
        )

    def _write_accounts(self) -> None:
        accounts, rates = self._simulation.accounts, self._company.rates
        founded = np.flatnonzero(accounts.created <= self._company.last_day)
        unpaid = accounts.first_paid == NEVER
        over = accounts.phase == Phase.LAPSED
        columns = {
            "number": np.arange(len(unpaid)),
            "tier": np.where(unpaid, len(rates.tiers), accounts.tier),
            "seats": np.where(unpaid, np.maximum(accounts.least_seats, 5), accounts.seats),
            "created": accounts.created,
            "created_second": accounts.created_second,
            "unpaid": unpaid,
            "paid": np.where(unpaid, -1, accounts.first_paid),
            "paid_second": accounts.first_paid_second,
            "renewal": np.where(unpaid, -1, accounts.renewal),
            "revenue": np.where(unpaid | over, 0, accounts.revenue),
            "on_trial": accounts.phase == Phase.TRIAL,
        }
        self._write_input(
            "accounts",
            f"""SELECT {_account_id("number")} AS account_id,
                'Account ' || lpad((number + 1)::VARCHAR, {_ACCOUNT_DIGITS}, '0') AS account_name,
                {_pick([*rates.tiers, "trial"], "tier")} AS subscription_tier,
                seats AS total_seats,
                {self._moment("created", "created_second")} AS account_created_at,
                CASE WHEN NOT unpaid THEN {self._moment("paid", "paid_second")} END AS first_paid_at,
                {self._date("renewal")} AS contract_renewal_date,
                revenue::DECIMAL(18, 2) AS monthly_recurring_revenue,
                on_trial AS is_trial
            FROM columns""",
            {name: column[founded] for name, column in columns.items()},
        )

    def _write_subscription_events(self) -> None:
        people, rates = self._simulation.people, self._company.rates
        facts = self._simulation.accounts.facts
        deleted = np.flatnonzero(people.deleted <= self._company.last_day)
        nothing = np.full(len(deleted), -1)
        seconds = 3600 + (deleted * 7919) % (22 * 3600)
        deletions = Facts("user_deleted", deleted, seconds, *[nothing] * len(VALUES))
        types = [*sorted({each.event_type for _, each in facts}), deletions.event_type]
        parts = [(np.full(len(each.account), day), each) for day, each in facts]
        parts.append((people.deleted[deleted], deletions))
        columns: dict[str, NDArray[Any]] = {
            "day": np.concatenate([days for days, _ in parts]),
            "type": np.repeat(
                [types.index(each.event_type) for _, each in parts],
                [len(each.account) for _, each in parts],
            ),
            **{
                name: np.concatenate([getattr(each, name) for _, each in parts])
                for name in ("account", "second", *VALUES)
            },
        }
        columns["of_user"] = columns["type"] == len(types) - 1
        by = ("account", "type", "of_user", "second", "day")
        order = np.lexsort([columns[name] for name in by])
        columns = {name: column[order] for name, column in columns.items()}
        columns["number"] = np.arange(len(order))
        values = {
            "total_seats": "CASE WHEN seats >= 0 THEN seats::VARCHAR END",
            "monthly_recurring_revenue": "CASE WHEN revenue >= 0 THEN revenue::VARCHAR || '.00' END",
            "subscription_tier": f"""'"' || {_pick(list(rates.tiers), "tier")} || '"'""",
            **{
                key: f"""'"' || {self._date(name)}::VARCHAR || '"'"""
                for key, name in (
                    ("contract_renewal_date", "renewal"),
                    ("effective_date", "effective"),
                    ("grace_until", "grace"),
                )
            },
            "reason": f"""'"' || {_pick(_PAUSE_REASONS, "reason")} || '"'""",
        }
        metadata = ", ".join(f"""'"{key}": ' || {value}""" for key, value in values.items())
        user, account = self._user_id("account"), _account_id("account")
        self._write_input(
            "subscription_events",
            f"""SELECT 's' || lpad((number + 1)::VARCHAR, 7, '0') AS event_id,
                CASE WHEN of_user THEN {user} ELSE {account} END AS entity_id,
                CASE WHEN of_user THEN 'user' ELSE 'account' END AS entity_type,
                {_pick(types, "type")} AS event_type,
                {self._moment("day", "second")} AS timestamp,
                'api' AS location,
                NULL::VARCHAR AS session_id,
                NULL::VARCHAR AS product_id,
                false AS is_qualifying_event,
                false AS is_activation_event,
                '{{' || nullif(concat_ws(', ', {metadata}), '') || '}}' AS metadata
            FROM columns""",
            columns,
        )

    def _write_constants(
        self, name: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        values = ", ".join("(" + ", ".join(_constant(value) for value in row) + ")" for row in rows)
        types = {"active_days": "INTEGER", "dormant_days": "INTEGER", "created_at": "TIMESTAMP"}
        chosen = ", ".join(
            f"{each}::{types[each]} AS {each}" if each in types else each for each in names
        )
        query = f"SELECT {chosen} FROM (VALUES {values}) AS constants({', '.join(names)})"
        self._write_input(name, query, {})

    def _write_truth(self, hazards: Sequence[tuple[int, truth.Hazards]]) -> None:
        (self._folder / TRUTH).mkdir()
        kinds = {"user": np.int64, "state": np.int64, "on_trial": np.int64, "no_use": np.float64}
        columns: dict[str, NDArray[Any]] = {
            name: np.concatenate([np.zeros(0, kind), *(getattr(each, name) for _, each in hazards)])
            for name, kind in kinds.items()
        }
        columns["day"] = np.concatenate(
            [np.zeros(0, np.int64), *(np.full(len(each.user), day) for day, each in hazards)]
        )
        states = [state.name.lower() for state in State]
        path = self._folder / TRUTH / "user_hazards.parquet"
        self._rows["truth/user_hazards"] = self._copy(
            f"""SELECT {self._user_id('"user"')} AS user_id,
                {self._date("day")} AS date,
                {_pick(states, "state")} AS hidden_state,
                on_trial = 1 AS is_account_on_trial,
                no_use AS no_use_30_days_probability
            FROM columns""",
            columns,
            path,
            FileFormat.PARQUET,
        )

    def _write_input(self, name: str, query: str, columns: Columns) -> None:
        self._rows[name] = self._copy(query, columns, self._folder / f"{name}.{self._kind}")

    def _copy(
        self, query: str, columns: Columns, path: Path, kind: FileFormat | None = None
    ) -> int:
        cursor = self._connection.cursor()
        try:
            if columns:
                cursor.register("columns", dict(columns))
            options = _OPTIONS[kind or self._kind]
            copied = cursor.execute(f"COPY ({query}) TO {literal(os.fspath(path))} ({options})")
            [(rows,)] = copied.fetchall()
        finally:
            cursor.close()
        return int(rows)

    def _user_id(self, column: str) -> str:
        return f"('u' || lpad(({column} + 1)::VARCHAR, {self._users}, '0'))"

    def _date(self, column: str) -> str:
        """Return SQL that converts a day number to a date, or a negative number to null."""
        first = date_literal(self._company.first)
        return f"(CASE WHEN {column} >= 0 THEN {first} + {column}::INTEGER END)"

    def _moment(self, day: str, second: str) -> str:
        start = f"TIMESTAMP '{self._company.first} 00:00:00'"
        return f"({start} + to_seconds({day} * 86400 + {second}))"


def _account_id(column: str) -> str:
    return f"('acc_' || lpad(({column} + 1)::VARCHAR, {_ACCOUNT_DIGITS}, '0'))"


def _pick(texts: Sequence[str | None], column: str) -> str:
    """Return SQL that selects the text at a zero-based index, or null if the index is negative."""
    listed = ", ".join(_constant(text) for text in texts)
    return f"(CASE WHEN {column} >= 0 THEN (CAST([{listed}] AS VARCHAR[]))[{column} + 1] END)"


def _pick_flag(flags: Sequence[bool], column: str) -> str:
    chosen = ", ".join(str(number) for number, flag in enumerate(flags) if flag)
    return f"({column} IN ({chosen}))"


def _constant(value: str | bool | int | None) -> str:
    if value is None:
        return "NULL"
    return literal(value) if isinstance(value, str) else str(value)
