"""The report about the tasks in Spark's event log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.spark_tasks import report
from monstera_assets.warehouse.spark_session import connect_spark
from monstera_assets_tests.spark.cluster import standalone_cluster

pytestmark = pytest.mark.spark


def task(stage: int, read: int, shuffled: int, reason: str = "Success") -> str:
    return json.dumps(
        {
            "Event": "SparkListenerTaskEnd",
            "Stage ID": stage,
            "Stage Attempt ID": 0,
            "Task End Reason": {"Reason": reason},
            "Task Metrics": {
                "Input Metrics": {"Records Read": read},
                "Shuffle Read Metrics": {"Total Records Read": shuffled},
            },
        }
    )


def test_a_stage_is_as_uneven_as_its_largest_task() -> None:
    name = {"Stage ID": 1, "Stage Attempt ID": 0, "Stage Name": "parquet at X.scala:1"}
    log = [
        *(task(0, 0, 100), task(1, 600, 100), task(1, 100, 0), task(1, 200, 0)),
        *(task(1, 9000, 0, "ExecutorLostFailure"), task(2, 500, 0), task(2, 500, 0)),
        *(task(3, 501, 0), task(3, 500, 0)),
        json.dumps({"Event": "SparkListenerStageCompleted", "Stage Info": name}),
    ]
    assert [*report(log, 999)] == [
        "3 stages read more than 999 rows",
        "stage 1.0: 1,000 rows, 3 tasks, the largest reads 70.0% (parquet at X.scala:1)",
        "stage 3.0: 1,001 rows, 2 tasks, the largest reads 50.0% ()",
        "stage 2.0: 1,000 rows, 2 tasks, the largest reads 50.0% ()",
    ]


def test_the_tasks_of_a_cluster_are_read(tmp_path: Path) -> None:
    """Of 2,000,000 rows, all but 20 have the same key."""
    (tmp_path / "logs").mkdir()
    settings = {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"file://{tmp_path}/logs",
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
    }
    with standalone_cluster(tmp_path, settings=settings) as cluster:
        spark = connect_spark(cluster.remote)
        spark.sql(
            "SELECT max(of_key) FROM (SELECT max(id) OVER (PARTITION BY greatest(id, 1999979))"
            " AS of_key FROM range(2000000))"
        ).collect()
        spark.stop()
    [log] = (tmp_path / "logs").iterdir()
    with log.open() as lines:
        found = [*report(lines, 1_000_000)]
    assert len(found) > 1
    assert "the largest reads 100.0%" in found[1]
