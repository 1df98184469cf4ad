"""Run a frozen graph with empty functions over a range of partitions, to measure Dagster alone.

    python -m benchmarks.floor_graph HOME FIRST LAST

`floor_graph.json` describes the graph. HOME is a Dagster instance's folder. The module imports no
project code except the classes named in the instance's dagster.yaml.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import dagster as dg

warnings.filterwarnings("ignore", category=dg.BetaWarning)

PARTITIONS = dg.DailyPartitionsDefinition(start_date="2024-07-01")


class StoresNothing(dg.IOManager):
    """Store nothing and load None."""

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Store nothing."""

    def load_input(self, context: dg.InputContext) -> None:
        """Load None."""


def key(text: str) -> dg.AssetKey:
    """Parse a slash-separated key."""
    return dg.AssetKey(text.split("/"))


def mapping(offset: int | str | None) -> dg.TimeWindowPartitionMapping | None:
    """Return the partition mapping for a value in the file, as explained in the file's notes."""
    if offset is None or isinstance(offset, str):
        return dg.TimeWindowPartitionMapping() if offset else None
    return dg.TimeWindowPartitionMapping(
        start_offset=offset, allow_nonexistent_upstream_partitions=True
    )


def assets(step: dict[str, Any]) -> dg.AssetsDefinition:
    """Return a step that materializes one or more assets."""
    keys, partitioned = [key(text) for text in step["keys"]], step["partitioned"]

    @dg.multi_asset(
        name=step["name"],
        outs={k.path[-1]: dg.AssetOut(key=k, dagster_type=Any) for k in keys},
        ins={
            text.split("/")[-1]: dg.AssetIn(key(text), partition_mapping=mapping(m))
            for text, m in step.get("ins", {}).items()
        },
        deps=[
            dg.AssetDep(key(t), partition_mapping=mapping(m))
            for t, m in step.get("deps", {}).items()
        ],
        partitions_def=PARTITIONS if partitioned else None,
        backfill_policy=dg.BackfillPolicy.single_run() if partitioned else None,
    )
    def compute(**inputs: object) -> Any:
        for k in keys:
            yield dg.MaterializeResult(k, value=None)

    return compute


def checks(step: dict[str, Any]) -> dg.AssetChecksDefinition:
    """Return a step of asset checks that always pass."""
    specs = [
        dg.AssetCheckSpec(
            name,
            asset=key(step["asset"]),
            blocking=blocking,
            additional_deps=[key(text) for text in others],
        )
        for name, blocking, others in step["checks"]
    ]

    @dg.multi_asset_check(name=step["name"], specs=specs, can_subset=True)
    def check() -> Any:
        for spec in specs:
            yield dg.AssetCheckResult(passed=True, asset_key=spec.asset_key, check_name=spec.name)

    return check


def run(home: Path, first: str, last: str) -> None:
    """Run the frozen graph over a range of partitions in one run, in-process.

    Raises:
        RuntimeError: If the run fails.
    """
    steps = json.loads(Path(__file__).with_suffix(".json").read_text())["steps"]
    job = dg.Definitions(
        [assets(step) for step in steps if "keys" in step],
        asset_checks=[checks(step) for step in steps if "checks" in step],
        jobs=[dg.define_asset_job("whole_graph", dg.AssetSelection.all())],
        resources={"io_manager": StoresNothing()},
        executor=dg.in_process_executor,
    ).resolve_job_def("whole_graph")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        result = job.execute_in_process(
            instance=instance,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last,
            },
        )
    evaluated = len(result.get_asset_check_evaluations())
    if not result.success or evaluated != sum(len(step.get("checks", ())) for step in steps):
        raise RuntimeError(f"the run of the frozen graph failed: {evaluated} checks evaluated")


if __name__ == "__main__":
    run(Path(sys.argv[1]), *sys.argv[2:])
