"""Workflow runs and their funnel, computed from events written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import pytest

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets_tests.helpers.lifecycle_warehouse import (
    CATALOG_NODES,
    ENRICHED,
    EVENTS,
    FUNNEL,
    HISTORY,
    RUNS,
    STEPS,
    USERS,
    WORKFLOWS,
    LifecycleWarehouse,
    as_mappings,
)

AS_OF = date(2025, 3, 31)
POLICY = LifecyclePolicy()

FLOWS = {
    "publish": [("video", "created"), ("video", "edited"), ("video", "published")],
    "handoff": [("canvas", "created"), ("spaces", "shared")],
    "twice": [("captions", "created"), ("captions", "created")],
}
NODES = [
    ("video", "product", None),
    ("captions", "feature", "video"),
    ("canvas", "product", None),
    ("spaces", "product", None),
]

Moment = tuple[str, str, str]
"""The time, node and event type."""


@pytest.fixture(scope="module")
def warehouse() -> LifecycleWarehouse:
    made = LifecycleWarehouse()
    made.load(USERS, [{"user_id": "u"}])
    made.load(HISTORY.table, [{"user_id": "u", "snapshot_date": AS_OF}])
    made.load(
        CATALOG_NODES,
        [
            {"product_id": node, "tier": tier, "parent_product_id": parent, "is_active": True}
            for node, tier, parent in NODES
        ],
    )
    made.load(
        WORKFLOWS,
        [
            {"workflow_id": flow, "step_number": number, "product_id": node, "event_type": kind}
            for flow, steps in FLOWS.items()
            for number, (node, kind) in enumerate(steps, start=1)
        ],
    )
    return made


def load(made: LifecycleWarehouse, moments: Sequence[Moment], **metadata: str) -> None:
    """Replace the events with one per moment, in the order of their ids and with the given metadata."""
    made.load(
        EVENTS,
        [
            {
                "event_id": f"e{number}",
                "entity_id": "u",
                "entity_type": "user",
                "event_type": kind,
                "event_timestamp": datetime.fromisoformat(at),
                "event_date": at[:10],
                "product_id": node,
                "session_id": metadata.get("session_id"),
                "metadata": json.dumps(metadata),
            }
            for number, (at, node, kind) in enumerate(moments, start=1)
        ],
    )
    for asset in (ENRICHED, STEPS):
        made.compute(asset)


def runs(
    made: LifecycleWarehouse, moments: Sequence[Moment], **metadata: str
) -> list[dict[str, Any]]:
    load(made, moments, **metadata)
    return as_mappings(RUNS, made.compute(RUNS, POLICY))


def test_steps_in_order_complete_a_run(warehouse: LifecycleWarehouse) -> None:
    [run] = runs(
        warehouse,
        [
            ("2025-03-01 09:00:00", "video", "created"),
            ("2025-03-01 10:30:00", "video", "edited"),
            ("2025-03-02 09:45:00", "video", "published"),
        ],
        project_id="p",
    )
    assert run["workflow_id"] == "publish"
    assert (run["instance_type"], run["instance_id"]) == ("project", "p")
    assert (run["steps"], run["steps_reached"]) == (3, 3)
    assert run["status"] == "completed"
    assert run["completed_at"] == datetime.fromisoformat("2025-03-02 09:45")
    assert run["hours_to_complete"] == 24.75


def test_hours_are_time_passed_and_not_turns_of_the_clock(warehouse: LifecycleWarehouse) -> None:
    [run] = runs(
        warehouse,
        [
            ("2025-03-01 23:59:59.500000", "canvas", "created"),
            ("2025-03-02 00:00:00.250000", "spaces", "shared"),
        ],
        project_id="p",
    )
    assert run["hours_to_complete"] == 0.75 / 3600


def test_a_step_that_comes_too_early_does_not_count(warehouse: LifecycleWarehouse) -> None:
    [run] = runs(
        warehouse,
        [
            ("2025-03-25 08:00:00", "video", "edited"),
            ("2025-03-25 09:00:00", "video", "created"),
            ("2025-03-25 10:00:00", "video", "published"),
        ],
        project_id="p",
    )
    assert run["steps_reached"] == 1
    assert run["started_at"] == datetime.fromisoformat("2025-03-25 09:00")


def test_a_repeated_step_leaves_the_run_where_it_is(warehouse: LifecycleWarehouse) -> None:
    [run] = runs(
        warehouse,
        [
            ("2025-03-01 09:00:00", "video", "created"),
            ("2025-03-01 10:00:00", "video", "created"),
            ("2025-03-01 11:00:00", "video", "edited"),
            ("2025-03-01 12:00:00", "video", "edited"),
            ("2025-03-01 13:00:00", "video", "published"),
            ("2025-03-01 14:00:00", "video", "published"),
        ],
        project_id="p",
    )
    assert run["started_at"] == datetime.fromisoformat("2025-03-01 09:00")
    assert run["completed_at"] == datetime.fromisoformat("2025-03-01 13:00")


@pytest.mark.parametrize(
    ("events", "reached", "status"), [(1, 1, "abandoned"), (2, 2, "completed")]
)
def test_two_steps_of_one_kind_take_two_events(
    warehouse: LifecycleWarehouse, events: int, reached: int, status: str
) -> None:
    moments = [("2025-03-01 09:00:00", "captions", "created")] * events
    found = {run["workflow_id"]: run for run in runs(warehouse, moments, project_id="p")}
    assert (found["twice"]["steps_reached"], found["twice"]["status"]) == (reached, status)
    # Captions are part of video, so the same events also start a run of the workflow for video.
    assert found["publish"]["steps_reached"] == 1


@pytest.mark.parametrize(
    ("last_step", "status"),
    [
        ("2025-03-08 00:00:00", "completed"),  # 7 days by date, but less in hours
        ("2025-03-08 23:59:59", "completed"),
        ("2025-03-09 00:00:00", "abandoned"),
    ],
)
def test_the_last_step_follows_within_seven_days(
    warehouse: LifecycleWarehouse, last_step: str, status: str
) -> None:
    [run] = runs(
        warehouse,
        [("2025-03-01 23:00:00", "canvas", "created"), (last_step, "spaces", "shared")],
        project_id="p",
    )
    assert run["status"] == status


@pytest.mark.parametrize(("started", "status"), [("24", "open"), ("23", "abandoned")])
def test_a_run_is_open_while_it_can_be_completed(
    warehouse: LifecycleWarehouse, started: str, status: str
) -> None:
    [run] = runs(warehouse, [(f"2025-03-{started} 12:00:00", "canvas", "created")], project_id="p")
    assert run["status"] == status
    assert run["completed_at"] is None
    assert run["hours_to_complete"] is None


def test_events_after_the_as_of_date_are_not_known(warehouse: LifecycleWarehouse) -> None:
    [run] = runs(
        warehouse,
        [
            ("2025-03-31 23:00:00", "canvas", "created"),
            ("2025-04-01 00:00:00", "spaces", "shared"),
        ],
        project_id="p",
    )
    assert run["status"] == "open"


def test_without_a_project_the_session_is_the_instance(warehouse: LifecycleWarehouse) -> None:
    moments = [
        ("2025-03-01 23:00:00", "canvas", "created"),
        ("2025-03-02 01:00:00", "spaces", "shared"),
    ]
    [run] = runs(warehouse, moments, session_id="s")
    assert (run["instance_type"], run["instance_id"]) == ("session", "s")
    assert run["status"] == "completed"
    [run] = runs(warehouse, moments, session_id="s", project_id="p")
    assert (run["instance_type"], run["instance_id"]) == ("project", "p")


def test_without_a_session_the_day_is_the_instance(warehouse: LifecycleWarehouse) -> None:
    [run] = runs(
        warehouse,
        [
            ("2025-03-01 23:00:00", "canvas", "created"),
            ("2025-03-02 01:00:00", "spaces", "shared"),
        ],
    )
    assert (run["instance_type"], run["instance_id"]) == ("day", "2025-03-01")
    assert run["status"] == "abandoned"


def test_steps_of_one_moment_go_by_event_id(warehouse: LifecycleWarehouse) -> None:
    at = "2025-03-01 09:00:00"
    in_order = [(at, "canvas", "created"), (at, "spaces", "shared")]
    [run] = runs(warehouse, in_order, project_id="p")
    assert (run["status"], run["hours_to_complete"]) == ("completed", 0)
    [run] = runs(warehouse, in_order[::-1], project_id="p")
    assert run["status"] == "abandoned"


def test_the_funnel_counts_how_far_runs_come(warehouse: LifecycleWarehouse) -> None:
    load(
        warehouse,
        [
            # Completed in 3 hours.
            ("2025-03-01 09:00:00", "video", "created"),
            ("2025-03-01 10:00:00", "video", "edited"),
            ("2025-03-01 12:00:00", "video", "published"),
            # Abandoned after the second step, which took 2 hours.
            ("2025-03-05 09:00:00", "video", "created"),
            ("2025-03-05 11:00:00", "video", "edited"),
            # Abandoned after the first step.
            ("2025-03-06 09:00:00", "video", "created"),
            # Still open.
            ("2025-03-30 09:00:00", "video", "created"),
        ],
    )
    warehouse.compute(RUNS, POLICY)
    rows = as_mappings(FUNNEL, warehouse.compute(FUNNEL, POLICY))
    funnel = {
        row["position"]: (
            row["runs_started"],
            row["runs_reached"],
            row["runs_abandoned"],
            row["runs_open"],
            row["reach_rate"],
            row["median_hours_since_start"],
        )
        for row in rows
        if row["workflow_id"] == "publish"
    }
    assert funnel == {
        1: (4, 4, 1, 1, 1.0, 0.0),
        2: (4, 2, 1, 0, 0.5, 1.5),
        3: (4, 1, 0, 0, 0.25, 3.0),
    }
    unused = [row for row in rows if row["workflow_id"] == "handoff"]
    assert [(row["runs_started"], row["reach_rate"]) for row in unused] == [(0, None), (0, None)]
    assert {row["products"] for row in unused} == {2}
