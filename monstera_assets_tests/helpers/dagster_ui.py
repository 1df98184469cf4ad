"""Press the buttons of the Dagster UI without a browser.

The functions send the same GraphQL as the UI of the pinned version, and choose between runs and
backfills as the UI does (`LaunchAssetExecutionButton.tsx`, `LaunchAssetChoosePartitionsDialog.tsx`,
`ExecuteChecksButton.tsx`). The daemon and the runs are in this process.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.launcher.sync_in_memory_run_launcher import SyncInMemoryRunLauncher
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.run_coordinator import DefaultRunCoordinator
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.test.utils import execute_dagster_graphql

from monstera_assets.warehouse.windows import RANGE_END_TAG, RANGE_START_TAG

LAUNCHER = (
    f"run_launcher:\n  module: {SyncInMemoryRunLauncher.__module__}\n"
    f"  class: {SyncInMemoryRunLauncher.__name__}\n"
    f"run_coordinator:\n  module: {DefaultRunCoordinator.__module__}\n"
    f"  class: {DefaultRunCoordinator.__name__}\n"
)
"""Settings of an instance whose runs are executed in the process that launches them."""

Node = Mapping[str, Any]
Materialized = set[tuple[str, str | None]]

_LOCATION = "monstera_assets"
_FROM_UI = [{"key": "dagster/from_ui", "value": "true"}]
_TICKS = 40
_NODES = """
{ assetNodes {
    assetKey { path } jobNames isPartitioned isExecutable
    partitionStats { numMaterialized numFailed }
    assetChecksOrError { ... on AssetChecks { checks {
        name jobNames canExecuteIndividually partitionDefinition { name }
        executionForLatestMaterialization { status }
    } } }
} }
"""
_LATEST = """
query Latest($keys: [AssetKeyInput!]!) {
    assetsLatestInfo(assetKeys: $keys) { assetKey { path } latestRun { status } }
}
"""
_PARTITION_TAGS = """
query Tags($job: String!, $repository: String!, $location: String!, $day: String!,
        $keys: [AssetKeyInput!]!) {
    pipelineOrError(params: {
        pipelineName: $job, repositoryName: $repository, repositoryLocationName: $location
    }) { ... on Pipeline { partition(partitionName: $day, selectedAssetKeys: $keys) {
        tagsOrError { ... on PartitionTags { results { key value } } }
    } } }
}
"""
_LAUNCH_RUN = """
mutation Launch($params: ExecutionParams!) {
    launchPipelineExecution(executionParams: $params) {
        __typename
        ... on LaunchRunSuccess { run { id } }
        ... on PythonError { message stack }
    }
}
"""
_LAUNCH_BACKFILL = """
mutation Launch($params: LaunchBackfillParams!) {
    launchPartitionBackfill(backfillParams: $params) {
        __typename
        ... on LaunchBackfillSuccess { backfillId }
        ... on PythonError { message stack }
    }
}
"""


@dataclass(frozen=True)
class Pressed:
    """The effect of a button.

    Attributes:
        runs: the finished runs, in the order in which they were created.
        backfill: the final status of the backfill, or None if there was no backfill.
        materialized: the tables, each with the day, or None if the table is not partitioned.
        errors: the messages of the failed steps and of the runs.
    """

    runs: Sequence[dg.DagsterRun]
    backfill: BulkActionStatus | None
    materialized: Materialized
    errors: Sequence[str]

    @property
    def succeeded(self) -> bool:
        """Whether all runs and the backfill succeeded."""
        return self.backfill in (None, BulkActionStatus.COMPLETED_SUCCESS) and all(
            run.status == dg.DagsterRunStatus.SUCCESS for run in self.runs
        )


@dataclass(frozen=True)
class DagsterUi:
    """The buttons of the UI."""

    process: WorkspaceProcessContext

    def nodes(self) -> Mapping[str, Node]:
        """Return what the UI knows about each asset, by the asset's name."""
        nodes = self._query(_NODES, {})["assetNodes"]
        return {node["assetKey"]["path"][-1]: node for node in nodes}

    def materialize(
        self, names: Collection[str], days: Sequence[date] = (), page_of_job: str = ""
    ) -> Pressed:
        """Press `Materialize`, and choose the days in the dialog if a selected asset is partitioned."""
        nodes = [node for name, node in self.nodes().items() if name in names]
        assert len(nodes) == len(names)
        in_common = [
            job for job in nodes[0]["jobNames"] if all(job in node["jobNames"] for node in nodes)
        ]
        job = page_of_job if page_of_job in in_common else in_common[0]
        keys = [{"path": node["assetKey"]["path"]} for node in nodes]
        if not any(node["isPartitioned"] for node in nodes):
            return self._launch_run(job, nodes, [])
        if len(days) == 1:
            tags = self._query(
                _PARTITION_TAGS,
                {"job": job, **self._repository, "day": str(days[0]), "keys": keys},
            )["pipelineOrError"]["partition"]["tagsOrError"]["results"]
            return self._launch_run(job, nodes, tags)
        params: dict[str, Any] = {
            "tags": _FROM_UI,
            "assetSelection": keys,
            "partitionNames": [str(day) for day in days],
            "fromFailure": False,
        }
        if not job.startswith("__ASSET_JOB"):
            params["selector"] = {
                "partitionSetName": f"{job}_partition_set",
                "repositorySelector": {
                    "repositoryLocationName": _LOCATION,
                    "repositoryName": self._repository["repository"],
                },
            }
        return self._launch_backfill(params)

    def execute_checks(self, name: str) -> Pressed:
        """Press `Execute all` on the page of a table's checks."""
        node = self.nodes()[name]
        checks = node["assetChecksOrError"]["checks"]
        # The UI disables the button for partitioned checks.
        assert {check["partitionDefinition"] for check in checks} == {None}
        assert {check["canExecuteIndividually"] for check in checks} == {"CAN_EXECUTE"}
        job = next(
            job
            for job in checks[0]["jobNames"]
            if all(job in check["jobNames"] for check in checks)
        )
        return self._launch_run(job, [node], [], only_checks=True)

    def red(self) -> set[str]:
        """Return the assets, and the checks with their table, that the UI shows as failed."""
        nodes = self.nodes()
        keys = [{"path": node["assetKey"]["path"]} for node in nodes.values()]
        latest = self._query(_LATEST, {"keys": keys})["assetsLatestInfo"]
        failed = {
            info["assetKey"]["path"][-1]
            for info in latest
            if info["latestRun"] and info["latestRun"]["status"] == "FAILURE"
        }
        for name, node in nodes.items():
            if (node["partitionStats"] or {}).get("numFailed"):
                failed.add(name)
            for check in node["assetChecksOrError"].get("checks", []):
                execution = check["executionForLatestMaterialization"]
                if execution and execution["status"] in ("FAILED", "EXECUTION_FAILED"):
                    failed.add(f"{name}.{check['name']}")
        return failed

    @property
    def _instance(self) -> dg.DagsterInstance:
        return self.process.instance

    @property
    def _repository(self) -> dict[str, str]:
        [location] = self.process.create_request_context().code_locations
        [repository] = location.get_repositories()
        return {"repository": repository, "location": location.name}

    def _query(self, text: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        context = self.process.create_request_context()
        result = execute_dagster_graphql(context, text, dict(variables))
        assert not result.errors, result.errors
        return dict(result.data)

    def _launch_run(
        self,
        job: str,
        nodes: Sequence[Node],
        tags: Sequence[Mapping[str, str]],
        *,
        only_checks: bool = False,
    ) -> Pressed:
        before = self._run_ids()
        selector = {
            "repositoryLocationName": _LOCATION,
            "repositoryName": self._repository["repository"],
            "pipelineName": job,
            "assetSelection": []
            if only_checks
            else [{"path": node["assetKey"]["path"]} for node in nodes],
            "assetCheckSelection": [
                {"assetKey": {"path": node["assetKey"]["path"]}, "name": check["name"]}
                for node in nodes
                for check in node["assetChecksOrError"].get("checks", [])
                if job in check["jobNames"]
            ],
        }
        params = {
            "mode": "default",
            "executionMetadata": {"tags": [*tags, *_FROM_UI]},
            "runConfigData": "{}",
            "selector": selector,
        }
        launched = self._query(_LAUNCH_RUN, {"params": params})["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return self._pressed(before, None)

    def _launch_backfill(self, params: Mapping[str, Any]) -> Pressed:
        before = self._run_ids()
        launched = self._query(_LAUNCH_BACKFILL, {"params": params})["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        for _ in range(_TICKS):
            errors = list(execute_backfill_iteration(self.process, logging.getLogger(__name__)))
            assert not any(errors), errors
            backfill = self._instance.get_backfill(launched["backfillId"])
            assert backfill is not None
            if backfill.status != BulkActionStatus.REQUESTED:
                return self._pressed(before, backfill.status)
        raise AssertionError(f"The backfill did not finish in {_TICKS} ticks of the daemon.")

    def _run_ids(self) -> set[str]:
        return set(self._instance.get_run_ids())

    def _pressed(self, before: set[str], backfill: BulkActionStatus | None) -> Pressed:
        runs = [run for run in self._instance.get_runs()[::-1] if run.run_id not in before]
        assert all(run.is_finished for run in runs)
        return Pressed(
            runs,
            backfill,
            {made for run in runs for made in self._materialized(run)},
            [error for run in runs for error in self._errors(run)],
        )

    def _materialized(self, run: dg.DagsterRun) -> Iterator[tuple[str, str | None]]:
        kind = dg.DagsterEventType.ASSET_MATERIALIZATION
        for record in self._instance.get_records_for_run(run.run_id, of_type=kind).records:
            made = record.event_log_entry.asset_materialization
            assert made is not None
            yield made.asset_key.path[-1], made.partition

    def _errors(self, run: dg.DagsterRun) -> Iterator[str]:
        for entry in self._instance.all_logs(run.run_id):
            event = entry.dagster_event
            error = event and getattr(event.event_specific_data, "error", None)
            while error is not None and error.cause is not None:
                error = error.cause
            if error is not None:
                yield error.message


def ranges(runs: Sequence[dg.DagsterRun]) -> set[tuple[str, str]]:
    """Return the first and last day of each run that has a range of days."""
    return {
        (run.tags[RANGE_START_TAG], run.tags[RANGE_END_TAG])
        for run in runs
        if RANGE_START_TAG in run.tags
    }


@contextmanager
def dagster_ui(instance: dg.DagsterInstance) -> Iterator[DagsterUi]:
    """Load the code location with the settings in the environment."""
    target = LoadableTargetOrigin(
        module_name="monstera_assets.definitions", executable_path=sys.executable
    )
    origin = InProcessCodeLocationOrigin(target, location_name=_LOCATION)
    with WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as process:
        yield DagsterUi(process)
