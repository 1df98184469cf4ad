"""Run a company's mornings as the daemon does, in one process, with the clock of the company.

Each morning, the exporter delivers, the code location is loaded again, and the schedule is evaluated
at its own ticks until it requests a run or the deadline passes. The requested run is executed with the
real instance, and alerts process it. At the deadline, alerts look for late days.

Dagster and the alerts see the time of the morning. The wall clock would let runs compute the days
after the morning, since the company's mornings are in the past.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster._core.test_utils import freeze_time
from dagster._utils.schedules import schedule_execution_time_iterator

from monstera_assets.checks.rules import AlertLevel
from monstera_assets.definitions import build_definitions, table_assets, tables
from monstera_assets.operations.alerts.alerts import Alerts
from monstera_assets.operations.alerts.history import LATE
from monstera_assets.operations.alerts.message import AlertEvent, Item, Message
from monstera_assets.operations.jobs import LATE_AFTER
from monstera_assets.operations.recorded_settings import ensure_writable
from monstera_assets.operations.run_plan import plan_changes
from monstera_assets.operations.runs import failures_of, range_tags, run_range, whole_graph
from monstera_assets.settings import Settings
from monstera_assets.warehouse.layers import Layer
from monstera_assets.warehouse.windows import RANGE_END_TAG, RANGE_START_TAG, DateWindow
from monstera_assets_tests.integration.alert_examples import evaluate_freshness
from monstera_assets_tests.integration.example_assets import QUIET
from monstera_assets_tests.integration.example_runs import batched_instance
from monstera_assets_tests.mornings.company import (
    ACTIVE_DAYS,
    ACTIVE_DAYS_LATER,
    NOTES,
    SURVEYS,
    Company,
    Delivery,
)
from monstera_assets_tests.mornings.expected_alerts import (
    NOT_QUERIED,
    QUERIES,
    RATES_OF_P1,
    Warehouse,
    expected_alerts,
)

SCHEDULE = "daily_run"
REMIND_AFTER_DAYS = 7
RUN_KEY = "dagster/run_key"
LEVEL = "alert_level"

ACCEPTED = (
    *("bronze_events", "bronze_subscription_events", "bronze_users", "bronze_accounts"),
    *("bronze_product_catalog", "bronze_workflows"),
)
"""The bronze tables of accepted rows. None has operational columns, such as files or times of loads."""


class Collecting(Alerts):
    """Alerts without a URL that keep their messages."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.messages: list[Message] = []

    @property
    def items(self) -> list[Item]:
        return [item for message in self.messages for item in message.items]

    def text_of(self, message: Message) -> str:
        self.messages.append(message)
        return super().text_of(message)


Command = Callable[[Settings, dg.DagsterInstance], str]
"""Runs `monstera run --changed`, and returns the id of the run."""


@dataclass(frozen=True)
class Failing:
    """A check that failed in a run."""

    name: str
    level: str
    is_error: bool


@dataclass
class Morning:
    """What happened on a morning.

    Attributes:
        skipped: what the schedule said on each tick without a run.
        days: the days that the run computed, or None if there was no run.
        failing: the checks that failed in the run.
        messages: the messages of the alerts.
    """

    number: int
    date: date
    delivery: Delivery | None = None
    skipped: list[str] = field(default_factory=list)
    days: DateWindow | None = None
    run_id: str = ""
    failing: tuple[Failing, ...] = ()
    messages: list[Message] = field(default_factory=list)

    @property
    def items(self) -> list[tuple[AlertEvent, str, str]]:
        """The reason, level and subject of all items in the messages."""
        return [
            (item.news, item.level, item.subject)
            for message in self.messages
            for item in message.items
        ]

    def __str__(self) -> str:
        return f"morning {self.number} ({self.date})"


def changed_by_hand(clock: Callable[[], float]) -> Command:
    """Return a function that does what `monstera run --changed` does, under the company's clock."""

    def run(settings: Settings, instance: dg.DagsterInstance) -> str:
        plan = plan_changes(settings, table_assets(settings))
        assert plan.days is not None, "The command finds no change."
        definitions = build_definitions(
            settings.model_copy(update={"start_date": plan.first_partition})
        )
        done = run_range(whole_graph(definitions), instance, plan.days, tags=plan.tags)
        assert done.succeeded, done.failures
        return done.run_id

    return run


class Mornings:
    """A company's warehouse, which each morning brings up to date.

    Attributes:
        problems: how the mornings differ from the requirement, in order.
    """

    def __init__(
        self,
        company: Company,
        folder: Path,
        command: Callable[[Callable[[], float]], Command] = changed_by_hand,
        **settings: Any,
    ) -> None:
        """Create the folder of a company before its first morning.

        Args:
            company: the company.
            folder: the folder for the source, the warehouse and Dagster's state.
            command: makes the function that runs `monstera run --changed`, from the clock.
            settings: settings other than the defaults.
        """
        self.company, self.folder = company, folder
        self.source = folder / "source"
        self.source.mkdir(parents=True)
        self.settings = Settings(
            **{
                "source": self.source,
                "database": folder / "warehouse" / "monstera.duckdb",
                "start_date": company.plan.first,
                "threads": 2,
                **settings,
            }
        )
        self.settings.database.parent.mkdir()
        self.now = datetime.combine(company.morning_date(1), time(), UTC)
        self.command = command(self.clock)
        self.mornings: list[Morning] = []
        self.problems: list[str] = []
        self._failing: dict[str, date] = {}
        self._last_run = company.morning_date(1)
        self._is_late = False

    def clock(self) -> float:
        """Return the company's time in seconds since the Unix epoch."""
        return self.now.timestamp()

    @property
    def last(self) -> date:
        """The last day that has been delivered."""
        return self.company.date_of(self.company.plan.delivers(self.mornings[-1].number))

    def run(self) -> Mornings:
        """Let all mornings pass.

        Raises:
            AssertionError: If a run failed, which leaves nothing to compare.
        """
        with batched_instance(self.folder / "home") as instance:
            for number in range(1, self.company.plan.mornings + 1):
                self._pass(instance, number)
        return self

    # ------------------------------------------------------------ one morning

    def _pass(self, instance: dg.DagsterInstance, number: int) -> None:
        company = self.company
        delivered_at = company.delivered_at(number)
        morning = Morning(number, company.morning_date(number))
        self.mornings.append(morning)
        for tick in self._ticks(morning.date):
            is_there = delivered_at is not None and delivered_at.replace(tzinfo=UTC) <= tick
            if is_there and morning.delivery is None:
                morning.delivery = company.deliver(number, self.source)
            if self._tick(instance, morning, tick):
                break
        self._again(instance, morning)
        self._after_deadline(instance, morning)
        self._check(morning)

    def _ticks(self, day: date) -> list[datetime]:
        """Return the schedule's own ticks from the daily run until the deadline."""
        schedule = build_definitions(self.settings).resolve_schedule_def(SCHEDULE)
        starts = datetime.combine(day, self.settings.daily_run_at, UTC)
        ticks = []
        for tick in schedule_execution_time_iterator(
            starts.timestamp() - 1,
            schedule.cron_schedule,
            schedule.execution_timezone,
            ascending=True,
        ):
            if tick >= starts + LATE_AFTER:
                break
            ticks.append(tick.astimezone(UTC))
        assert ticks[0] == starts, f"The schedule starts at {ticks[0]}, not at {starts}."
        return ticks

    def _evaluate(
        self, instance: dg.DagsterInstance, at: datetime
    ) -> tuple[dg.Definitions, dg.RunRequest | dg.SkipReason]:
        """Load the code location and evaluate its schedule at a time."""
        self.now = at
        definitions = build_definitions(self.settings)
        schedule = definitions.resolve_schedule_def(SCHEDULE)
        with dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=at,
            repository_def=definitions.get_repository_def(),
        ) as context:
            data = schedule.evaluate_tick(context)
        if data.run_requests:
            [request] = data.run_requests
            return definitions, request
        return definitions, dg.SkipReason(data.skip_message)

    def _tick(self, instance: dg.DagsterInstance, morning: Morning, at: datetime) -> bool:
        """Evaluate the schedule, or run the command in its place; return whether there was a run."""
        with freeze_time(at):
            if morning.number == self.company.plan.command:
                self.now = at
                morning.run_id = self.command(self.settings, instance)
            else:
                before = self._state(instance)
                definitions, asked = self._evaluate(instance, at)
                if isinstance(asked, dg.SkipReason):
                    morning.skipped.append(asked.skip_message or "")
                    self._expect(morning, self._state(instance) == before, "a skipped run wrote")
                    return False
                self._execute(instance, morning, definitions, asked)
            self._read_run(instance, morning)
        return True

    def _execute(
        self,
        instance: dg.DagsterInstance,
        morning: Morning,
        definitions: dg.Definitions,
        request: dg.RunRequest,
    ) -> None:
        tags = dict(request.tags)
        if request.run_key is not None:
            # The daemon requests no second run with the same key.
            tags[RUN_KEY] = request.run_key
            known = instance.get_runs(dg.RunsFilter(tags={RUN_KEY: request.run_key}), limit=1)
            self._expect(morning, not known, f"the run key {request.run_key} was used before")
        name = request.job_name or definitions.resolve_schedule_def(SCHEDULE).job_name
        result = definitions.resolve_job_def(name).execute_in_process(
            instance=instance,
            run_config={**QUIET, **request.run_config},
            partition_key=request.partition_key,
            tags=tags,
            raise_on_error=False,
        )
        assert result.success, f"{morning}, {tags}: {_reasons(result)}"
        morning.run_id = result.run_id

    def _read_run(self, instance: dg.DagsterInstance, morning: Morning) -> None:
        run = instance.get_run_by_id(morning.run_id)
        assert run is not None
        first, last = run.tags[RANGE_START_TAG], run.tags[RANGE_END_TAG]
        morning.days = DateWindow(date.fromisoformat(first), date.fromisoformat(last))
        evaluated = instance.get_records_for_run(
            run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        )
        failing = []
        for record in evaluated.records:
            found = record.event_log_entry.get_dagster_event().asset_check_evaluation_data
            if not found.passed:
                is_error = found.severity == dg.AssetCheckSeverity.ERROR
                level = found.metadata.get(LEVEL)
                failing.append(
                    Failing(
                        f"{found.asset_key.path[-1]}.{found.check_name}",
                        str(level.value)
                        if level
                        else str(AlertLevel.P0 if is_error else AlertLevel.P2),
                        is_error,
                    )
                )
        morning.failing = tuple(failing)

    def _again(self, instance: dg.DagsterInstance, morning: Morning) -> None:
        """Ten minutes after a run, nothing is left to do."""
        if morning.days is None:
            return
        at = self.now + timedelta(minutes=10)
        with freeze_time(at):
            before = self._state(instance)
            _, asked = self._evaluate(instance, at)
            said = asked.tags if isinstance(asked, dg.RunRequest) else ""
            self._expect(morning, said == "", f"the schedule requests another run: {said}")
            self._expect(morning, self._state(instance) == before, "a skipped run wrote")

    def _after_deadline(self, instance: dg.DagsterInstance, morning: Morning) -> None:
        """Let the alerts look for late days before, at and after the deadline, and read them."""
        graph = build_definitions(self.settings).resolve_asset_graph()
        deadline = datetime.combine(morning.date, self.settings.daily_run_at, UTC) + LATE_AFTER
        for minutes in (-5, 1, 3, 300):
            self.now = deadline + timedelta(minutes=minutes)
            with freeze_time(self.now):
                evaluate_freshness(instance, graph)
                alerts = Collecting(self.settings, tables(self.settings), self.clock)
                alerts.report(instance, lambda _: True)
            morning.messages += alerts.messages
            is_late = any(item.subject == LATE and item.failing for item in alerts.items)
            self._expect(
                morning, not is_late or minutes == 3, f"late tables are reported at {minutes} min."
            )

    def _state(self, instance: dg.DagsterInstance) -> tuple[str, int]:
        """Return what a skipped run must leave as it is: the warehouse and the number of runs."""
        database = self.settings.database
        content = hashlib.sha256(database.read_bytes()).hexdigest() if database.exists() else ""
        return content, instance.get_runs_count()

    # ------------------------------------------------------------ the requirement

    def _expect(self, morning: Morning, holds: bool, otherwise: str) -> None:
        if not holds:
            self.problems.append(f"{morning}: {otherwise}")

    def _check(self, morning: Morning) -> None:
        self._check_run(morning)
        self._check_lateness(morning)
        if morning.days is not None:
            self._check_alerts(morning)
            with self._reading() as connection:
                self._check_queries(morning, connection)
                self._check_catalog(morning, connection)

    def _reading(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(str(self.settings.database), read_only=True)

    def _check_run(self, morning: Morning) -> None:
        """A run computes the missing days and restates no more than the delivery can change."""
        plan, delivery = self.company.plan, morning.delivery
        if delivery is None:
            self._expect(morning, morning.days is None, "a run without a delivery")
            self._expect(morning, bool(morning.skipped), "the schedule says nothing")
            self._expect(morning, all(morning.skipped), f"no reason: {morning.skipped}")
            return
        if morning.days is None:
            raise AssertionError(f"{morning}: no run. The schedule said {morning.skipped}.")
        self._expect(
            morning,
            morning.number in plan.delayed or not morning.skipped,
            f"the schedule waited: {morning.skipped}",
        )
        self._expect(
            morning, morning.days.last == self.last, f"the run ends on {morning.days.last}"
        )
        first_missing = self.company.date_of(min(delivery.arrival_days))
        self._expect(
            morning,
            morning.days.first <= first_missing,
            f"the run starts on {morning.days.first}, but {first_missing} is missing",
        )
        self._expect(
            morning,
            morning.number == plan.command or delivery.earliest <= morning.days.first,
            f"the run starts on {morning.days.first}, but nothing before {delivery.earliest} changed",
        )

    def _check_lateness(self, morning: Morning) -> None:
        """An outage raises one P2 about a late day, and the morning after reports its recovery."""
        seen = [(news, level) for news, level, subject in morning.items if subject == LATE]
        expected = []
        if morning.delivery is None:
            expected = [(AlertEvent.NEW, str(AlertLevel.P2))]
        elif self._is_late:
            expected = [(AlertEvent.RECOVERED, str(AlertLevel.P2))]
        self._is_late = morning.delivery is None
        self._expect(morning, seen == expected, f"late days: {seen}, expected {expected}")

    def _check_alerts(self, morning: Morning) -> None:
        """Messages report the run's failing checks when they begin, weekly, and when they end."""
        failing = {check.name: check for check in morning.failing}
        for check in failing.values():
            is_rate = check.name in RATES_OF_P1
            self._expect(
                morning,
                not check.is_error and (check.level > AlertLevel.P1 or is_rate),
                f"{check.level} {check.name}",
            )
        reported = {
            (news, subject.split(":", 1)[1].split("/")[-1].replace(":", "."))
            for news, _, subject in morning.items
            if subject.startswith("check:")
        }
        others = [
            item for item in morning.items if item[2] != LATE and not item[2].startswith("check:")
        ]
        self._expect(morning, not others, f"alerts of other kinds: {others}")
        expected = {(AlertEvent.RECOVERED, name) for name in self._failing if name not in failing}
        for name in failing:
            since = self._failing.setdefault(name, morning.date)
            weeks, weeks_before = (
                (at - since).days // REMIND_AFTER_DAYS for at in (morning.date, self._last_run)
            )
            if since == morning.date:
                expected.add((AlertEvent.NEW, name))
            elif weeks > weeks_before:
                expected.add((AlertEvent.REMINDER, name))
        self._expect(
            morning,
            reported == expected,
            f"reported {_sorted(reported)}, expected {_sorted(expected)}",
        )
        self._failing = {name: self._failing[name] for name in failing}
        self._last_run = morning.date

    def _check_queries(self, morning: Morning, connection: duckdb.DuckDBPyConnection) -> None:
        """A check fails if and only if the test's own query says so."""
        assert morning.days is not None
        failing = {check.name for check in morning.failing}
        verdicts = expected_alerts(Warehouse(connection, *_ends(morning.days)))
        for name, verdict in verdicts.items():
            self._expect(
                morning,
                (name in failing) == verdict.fails,
                f"{name} {'fails' if name in failing else 'passes'}, but the query finds"
                f" {verdict.figures}",
            )
        unknown = failing - set(QUERIES) - NOT_QUERIED
        self._expect(morning, not unknown, f"failing checks without a query: {sorted(unknown)}")

    def _check_catalog(self, morning: Morning, connection: duckdb.DuckDBPyConnection) -> None:
        """Nodes that are added, renamed or given away hold at once, and other windows later."""
        plan, number = self.company.plan, morning.number
        stored = {
            product: (name, owner, active_days)
            for product, name, owner, active_days in connection.execute(
                "SELECT product_id, product_name, product_owner, active_days::VARCHAR"
                " FROM bronze.bronze_product_catalog"
            ).fetchall()
        }
        now = {row["product_id"]: row for row in self.company.rows("product_catalog", number)}
        self._expect(
            morning, set(stored) == set(now), f"the catalog has {sorted(set(stored) ^ set(now))}"
        )
        if NOTES in now and NOTES in stored:
            expected = (now[NOTES]["product_name"], now[NOTES]["product_owner"], None)
            self._expect(morning, stored[NOTES] == expected, f"{NOTES} is {stored[NOTES]}")
        if plan.windows_changed is not None:
            holds_from = plan.windows_changed if plan.command is None else plan.command
            days = ACTIVE_DAYS if number < holds_from else ACTIVE_DAYS_LATER
            seen = stored[SURVEYS][2]
            self._expect(morning, seen == days, f"{SURVEYS} has {seen} active days, not {days}")

    # ------------------------------------------------------------ after the last morning

    def check_truth(self) -> None:
        """Compare accepted events and versions with what the company knows."""
        number = self.mornings[-1].number
        with self._reading() as connection:
            self._check_events(number, connection)
            self._check_versions(connection)

    def _check_events(self, number: int, connection: duckdb.DuckDBPyConnection) -> None:
        seen = {
            event_id: values
            for event_id, *values in connection.execute(
                "SELECT event_id, entity_id, event_type, date_trunc('second', event_timestamp)"
                "::VARCHAR, location, coalesce(product_id, '') FROM bronze.bronze_events"
            ).fetchall()
        }
        columns = ("entity_id", "event_type", "timestamp", "location", "product_id")
        truth = {
            event_id: [row[column] for column in columns]
            for event_id, row in self.company.accepted_events(number).items()
        }
        self._compare("events", seen, truth)

    def _check_versions(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The version of each delivered day is the row of the dump of the next morning.

        Users who are merged, and the users whom they become, are compared by events alone.
        """
        merged = self.company.merged(self.mornings[-1].number)
        left_out = {*merged, *merged.values()}
        for table, key, columns in (
            ("users", "user_id", ("account_id", "country", "plan_type")),
            (
                "accounts",
                "account_id",
                ("subscription_tier", "total_seats::VARCHAR", "is_trial::VARCHAR"),
            ),
        ):
            seen, truth = {}, {}
            for morning in self.mornings:
                if morning.days is None:
                    continue
                day = morning.days.last
                for entity, *values in connection.execute(
                    f"SELECT {key}, {', '.join(columns)} FROM bronze.bronze_{table}"
                    " WHERE valid_from <= ? QUALIFY row_number() OVER"
                    f" (PARTITION BY {key} ORDER BY valid_from DESC) = 1",
                    [day],
                ).fetchall():
                    seen[str(day), entity] = values
                for row in self.company.rows(table, morning.number):
                    names = [column.split(":")[0] for column in columns]
                    truth[str(day), row[key]] = [row[name] for name in names]
            # An entity that later dumps lack keeps its last version.
            seen = {
                where: values
                for where, values in seen.items()
                if where in truth and where[1] not in left_out
            }
            truth = {where: row for where, row in truth.items() if where[1] not in left_out}
            self._compare(f"versions of {table}", seen, truth)

    def _compare(self, what: str, seen: Mapping[Any, Any], truth: Mapping[Any, Any]) -> None:
        different = [
            f"{key}: {seen.get(key)}, expected {truth.get(key)}"
            for key in sorted({*seen, *truth})
            if seen.get(key) != truth.get(key)
        ]
        if different:
            self.problems.append(f"{len(different)} {what} differ: {different[:5]}")

    def check_rebuild(self) -> None:
        """Compare all tables with one run over everything with the recorded versions.

        The run is made in a copy of the warehouse, whose computed days are deleted first.
        """
        copy = self.folder / "copy" / "monstera.duckdb"
        copy.parent.mkdir()
        shutil.copy(self.settings.database, copy)
        settings = self.settings.model_copy(update={"database": copy})
        ensure_writable(settings, rebuild=True)
        window = DateWindow(self.company.plan.first, self.last)
        with freeze_time(self.now), batched_instance(self.folder / "copy" / "home") as instance:
            done = whole_graph(build_definitions(settings)).execute_in_process(
                instance=instance, run_config=QUIET, tags=range_tags(window), raise_on_error=False
            )
            assert done.success, _reasons(done)
        self.problems += differences(self.settings.database, copy)


def differences(mornings: Path, one_run: Path) -> Iterator[str]:
    """Yield a line for each table whose digests differ, with some rows."""
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(f"ATTACH '{mornings}' AS mornings (READ_ONLY)")
        connection.execute(f"ATTACH '{one_run}' AS one_run (READ_ONLY)")
        for table in tables():
            if table.layer == Layer.BRONZE and table.name not in ACCEPTED:
                continue
            columns = ", ".join(f'"{column.name}"' for column in table.columns)
            digests = [
                connection.execute(
                    "SELECT md5(string_agg(md5(content), '' ORDER BY content))"
                    f" FROM (SELECT ({columns})::VARCHAR AS content"
                    f" FROM {database}.{table.qualified_name})"
                ).fetchone()
                for database in ("mornings", "one_run")
            ]
            if digests[0] == digests[1]:
                continue
            for one, other in (("mornings", "one_run"), ("one_run", "mornings")):
                only = (
                    f"SELECT {columns} FROM {one}.{table.qualified_name} EXCEPT ALL"
                    f" SELECT {columns} FROM {other}.{table.qualified_name}"
                )
                [(count,)] = connection.execute(f"SELECT count(*) FROM ({only})").fetchall()
                rows = connection.execute(f"{only} ORDER BY ALL LIMIT 3").fetchall()
                yield f"{table.name}: {count} rows only in {one}: {rows}"


def _reasons(result: dg.ExecuteInProcessResult) -> str:
    """Return why a run failed: the failed steps, and the failed blocking checks with examples."""
    failures = [str(failure) for failure in failures_of(result.all_events)]
    checks = [
        f"{found.asset_key.path[-1]}.{found.check_name}: {found.metadata['examples'].value}"
        for found in result.get_asset_check_evaluations()
        if not found.passed and found.severity == dg.AssetCheckSeverity.ERROR
    ]
    return "\n".join([*failures, *checks])


def _ends(days: DateWindow) -> tuple[date, date]:
    return days.first, days.last


def _sorted(items: set[tuple[AlertEvent, str]]) -> list[str]:
    return sorted(f"{news} {name}" for news, name in items)
