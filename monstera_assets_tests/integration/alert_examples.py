"""A small graph that can be made to fail, the alert sensor, and a service that receives alerts."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import ibis
import ibis.expr.types as ir
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time
from dagster._daemon.freshness import FreshnessDaemon

from monstera_assets.checks.rules import AlertLevel, rule, within
from monstera_assets.checks.table_checks import build_table_checks
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.operations.alerts.alerts import Alerts, build_alert_sensor
from monstera_assets.operations.schedules import freshness
from monstera_assets.settings import Settings
from monstera_assets.warehouse.connection import connection_config
from monstera_assets.warehouse.io_manager import WarehouseIOManager
from monstera_assets.warehouse.resource import DuckDBWarehouse
from monstera_assets.warehouse.table_asset import IO_MANAGER_KEY
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_assets import (
    FACTS as ANY_FACTS,
)
from monstera_assets_tests.integration.example_assets import (
    NAMES as ANY_NAMES,
)
from monstera_assets_tests.integration.example_assets import (
    QUIET,
    Row,
    day,
    delivering,
    facts,
    frame,
)

FACTS = replace(ANY_FACTS, owners=("team:facts",))
NAMES = replace(ANY_NAMES, owners=("team:names",))
SECRET = "hunter2-is-a-token"  # noqa: S105


@rule(FACTS, "No fact has a remark.", blocking=False)
def no_remarks(silver_facts: ir.Table, *, window: Window) -> ir.Table:
    """Each fact has a remark. The default level of a non-blocking rule is P2."""
    rows = within(silver_facts, "fact_date", window)
    return rows.filter(rows.note.notnull()).select("fact_id", "note")


@rule(
    FACTS,
    "The mean amount per event is within max_volume_deviation of 10.",
    blocking=False,
    level=AlertLevel.P1,
    remedy="Find out which facts have large amounts, and correct them in the source.",
)
def amounts_are_small(silver_facts: ir.Table, *, window: Window) -> ir.Table:
    """The mean amount of each fact is above 12."""
    rows = within(silver_facts, "fact_date", window)
    rows = rows.filter(rows.left_amount >= 12)
    return rows.select(
        metric=ibis.literal("Mean Amount Daily"),
        metric_date=rows.fact_date,
        observed=rows.left_amount * 1.00345,
        expected=ibis.literal(10.0),
        people=ibis.literal(1204),
    )


RULES = (no_remarks, amounts_are_small)


@dataclass(frozen=True)
class Received:
    """A message that a service received, with the path of the request."""

    path: str
    title: str
    text: str
    kind: str


@dataclass
class Service:
    """A service on localhost, which refuses messages while `status` is an error."""

    port: int = 0
    status: int = 200
    received: list[Received] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0

    def url(self, path: str = SECRET) -> str:
        """Return the Apprise URL of this service."""
        return f"json://127.0.0.1:{self.port}/{path}/?format=markdown"

    def titles(self, path: str = SECRET) -> list[str]:
        return [one.title for one in self.received if one.path == f"/{path}/"]


@contextmanager
def service() -> Iterator[Service]:
    state = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if state.status < 300:
                state.bodies.append(body)
                if "title" in body:  # a Slack message has none
                    state.received.append(
                        Received(self.path, body["title"], body["message"], body["type"])
                    )
            else:
                state.refused += 1
            self.send_response(state.status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")  # Slack's answer

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


@dataclass
class House:
    """Two tables with checks, an instance that records runs, and a clock that tests set."""

    folder: Path
    instance: dg.DagsterInstance
    urls: Sequence[str] = field(default=(), repr=False)
    days_later: int = 0
    seconds_later: float = 0.0
    built_at: float = field(default_factory=time.time)

    def clock(self) -> float:
        """Return the time for runs and alerts."""
        return self.built_at + self.days_later * 86_400.0 + self.seconds_later

    @property
    def settings(self) -> Settings:
        return Settings(alert_urls=tuple(self.urls), ui_url="http://127.0.0.1:3000/")

    @property
    def alerts(self) -> Alerts:
        """The alerts of a new process."""
        return Alerts(self.settings, (FACTS, NAMES), self.clock)

    def run(
        self,
        when: date | None = None,
        *,
        note: str | None = None,
        amount: int = 1,
        error: str | None = None,
        names: Sequence[Row] | None = None,
    ) -> str:
        """Materialize and check the facts of a day, and any given names, and return the run id."""

        def deliver_facts(window: DateWindow) -> Any:
            if error is not None:
                raise RuntimeError(error)
            return frame(FACTS, facts(*window, note=note, amount=amount))

        def deliver_names(_: DateWindow) -> Any:
            return frame(NAMES, [{"name_id": key, "label": label} for key, label in names or ()])

        deliveries = {FACTS: deliver_facts, **({NAMES: deliver_names} if names else {})}
        place: dict[str, Any] = {
            "database": str(self.folder / "small.duckdb"),
            "connection_config": connection_config(threads=2),
        }
        job = self._definitions(deliveries, place).resolve_implicit_global_asset_job_def()
        self.seconds_later += 1
        with freeze_time(self.clock()):
            done = job.execute_in_process(
                instance=self.instance,
                run_config=QUIET,
                raise_on_error=False,
                partition_key=(when or day(1)).isoformat(),
            )
        return done.run_id

    def _definitions(self, deliveries: Any, place: Any) -> dg.Definitions:
        return dg.Definitions(
            assets=[delivering(table, delivery) for table, delivery in deliveries.items()],
            asset_checks=[
                build_table_checks(
                    table,
                    [rule for rule in RULES if rule.table == table],
                    lambda _: FACTS.relation,
                    LifecyclePolicy(),
                )
                for table in deliveries
            ],
            resources={
                IO_MANAGER_KEY: WarehouseIOManager(warehouse=DuckDBWarehouse(**place)),
                "warehouse": DuckDBWarehouse(**place),
            },
            executor=dg.in_process_executor,
        )

    def evaluate_freshness(self) -> None:
        """Do what Dagster's daemon does for each table twice a minute."""
        is_fresh = freshness(self.settings)
        graph = dg.Definitions(
            [
                delivering(table, lambda _: None).map_asset_specs(
                    lambda spec: dg.apply_freshness_policy(spec, is_fresh)
                )
                for table in (FACTS, NAMES)
            ],
            resources={IO_MANAGER_KEY: dg.mem_io_manager},
        ).resolve_asset_graph()
        with freeze_time(self.clock()):
            evaluate_freshness(self.instance, graph)

    def lose_a_run(self) -> None:
        """Record a run that failed before its first step, as if its process could not start."""

        @dg.job(name="lost")
        def lost() -> None:
            """Nothing."""

        self.seconds_later += 1
        with freeze_time(self.clock()):
            run = self.instance.create_run_for_job(lost)
            self.instance.report_run_failed(run, "The worker was lost.")

    def command_line(self) -> list[str]:
        return self.alerts.after_run(self.instance)

    def tick(self) -> str:
        """Evaluate the sensor and return its log."""
        sensor = build_alert_sensor(self.alerts)
        with dg.build_sensor_context(instance=self.instance) as context:
            with logged(context.log) as lines:
                sensor.evaluate_tick(context)
            return "\n".join(lines)

    def next_day(self, days: int = 1) -> None:
        self.days_later += days


def evaluate_freshness(instance: dg.DagsterInstance, graph: Any) -> None:
    """Let Dagster evaluate the freshness policies of all assets in a graph."""

    async def evaluate() -> None:
        context = LoadingContextForTest(instance)
        for node in graph.asset_nodes:
            await FreshnessDaemon()._evaluate_asset(context=context, node=node)

    asyncio.run(evaluate())


@contextmanager
def logged(logger: Any) -> Iterator[list[str]]:
    """Collect the lines that a logger writes."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keep(level=logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
