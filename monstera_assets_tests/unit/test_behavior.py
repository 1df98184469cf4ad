"""The measures from which segments are derived, on both sides of the edges of their windows.

All expected values are counted by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

import pytest

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.lifecycle_warehouse import (
    ACTIVITY,
    CATALOG_NODES,
    ENRICHED,
    EVENTS,
    FEATURE_ACTIVITY,
    HISTORY,
    PRODUCT_HISTORY,
    RUNS,
    SEGMENTS,
    STEPS,
    USERS,
    WORKFLOWS,
    LifecycleWarehouse,
    as_mappings,
)

DAY = date(2025, 6, 30)
SIGNUP = DAY - timedelta(days=450)
POLICY = LifecyclePolicy()

NODES = [
    ("video", "product", None, True),
    ("cut", "feature", "video", True),
    ("captions", "feature", "video", True),
    ("translation", "sub_feature", "captions", True),
    ("old_cut", "feature", "video", False),
    ("canvas", "product", None, True),
    ("layers", "feature", "canvas", True),
    ("fax", "product", None, False),
    ("fax_cover", "feature", "fax", True),
]


@dataclass(frozen=True)
class Use:
    """An event, dated by the number of days before the day to measure."""

    ago: int
    node: str | None = None
    kind: str = "made"
    is_qualifying: bool = True
    target: str | None = None
    project: str | None = None


@pytest.fixture(scope="module")
def warehouse() -> LifecycleWarehouse:
    made = LifecycleWarehouse()
    made.load(
        CATALOG_NODES,
        [
            {"product_id": node, "tier": tier, "parent_product_id": parent, "is_active": is_active}
            for node, tier, parent, is_active in NODES
        ],
    )
    steps = [("w", 1, "canvas", "made"), ("w", 2, "canvas", "published")]
    made.load(
        WORKFLOWS,
        [
            {"workflow_id": flow, "step_number": number, "product_id": node, "event_type": kind}
            for flow, number, node, kind in steps
        ],
    )
    made.load(USERS, [{"user_id": "u", "user_created_at": SIGNUP, "acquisition_source": "organic"}])
    return made


def measured(made: LifecycleWarehouse, uses: Iterable[Use]) -> dict[str, Any]:
    """Return the user's row for the day if the given events are the only ones."""
    made.load(
        EVENTS,
        [
            {
                "event_id": f"e{number:03}",
                "entity_id": "u",
                "entity_type": "user",
                "event_type": use.kind,
                "event_timestamp": datetime.combine(DAY - timedelta(days=use.ago), time(9)),
                "event_date": DAY - timedelta(days=use.ago),
                "product_id": use.node,
                "is_qualifying_event": use.is_qualifying,
                "is_activation_event": use.is_qualifying and use.kind == "made",
                "metadata": json.dumps({"target_user_id": use.target, "project_id": use.project}),
            }
            for number, use in enumerate(uses)
        ],
    )
    for asset in (ACTIVITY, ENRICHED, FEATURE_ACTIVITY, STEPS):
        made.compute(asset)
    for asset in (HISTORY, PRODUCT_HISTORY):
        made.compute(asset, POLICY, DateWindow(SIGNUP, DAY))
    made.compute(RUNS, POLICY)
    [row] = as_mappings(SEGMENTS, made.compute(SEGMENTS, POLICY, DateWindow(DAY, DAY)))
    assert (row["user_id"], row["snapshot_date"]) == ("u", DAY)
    return row


NO_USE = {
    "events_28": 0,
    "events_30": 0,
    "events_before_30": 0,
    "active_days_28": 0,
    "active_days_30": 0,
    "weeks_active": 0,
    "months_active": 0,
    "days_quiet": None,
}
IN_28 = {"events_28": 2, "active_days_28": 1, "weeks_active": 1}
IN_30 = {"events_30": 2, "active_days_30": 1, "months_active": 1}


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        (0, {**IN_28, **IN_30, "days_quiet": 0}),
        (27, {**IN_28, **IN_30, "days_quiet": 27}),
        (28, {**IN_30, "days_quiet": 28}),
        (29, {**IN_30, "days_quiet": 29}),
        (30, {"events_before_30": 2, "months_active": 1, "days_quiet": 30}),
        (59, {"events_before_30": 2, "months_active": 1, "days_quiet": 59}),
        (60, {"months_active": 1, "days_quiet": 60}),
        (89, {"months_active": 1, "days_quiet": 89}),
        (90, {}),
    ],
)
def test_windows_of_use(
    warehouse: LifecycleWarehouse, ago: int, expected: dict[str, object]
) -> None:
    row = measured(warehouse, [Use(ago), Use(ago), Use(ago, is_qualifying=False)])
    assert {name: row[name] for name in NO_USE} == {**NO_USE, **expected}


def test_what_does_not_qualify_is_no_use(warehouse: LifecycleWarehouse) -> None:
    row = measured(warehouse, [Use(1, "video", is_qualifying=False)])
    assert {name: row[name] for name in NO_USE} == NO_USE
    assert row["products_used_30"] == 0
    assert row["products_tried"] == 1  # any event counts as access


@pytest.mark.parametrize(
    ("agos", "weeks", "months"),
    [
        ([0, 6], 1, 1),
        ([0, 7], 2, 1),
        ([6, 13, 20, 27], 4, 1),
        ([0, 7, 14, 28], 3, 1),
        ([29, 30], 0, 2),
        ([0, 59, 60, 89], 1, 3),
    ],
)
def test_weeks_and_months_are_counted_back_from_the_day(
    warehouse: LifecycleWarehouse, agos: list[int], weeks: int, months: int
) -> None:
    row = measured(warehouse, [Use(ago) for ago in agos])
    assert (row["weeks_active"], row["months_active"]) == (weeks, months)


def test_products_and_features_used(warehouse: LifecycleWarehouse) -> None:
    row = measured(
        warehouse,
        [
            Use(0, "video"),
            Use(29, "layers"),  # canvas and its only feature
            Use(3, "translation"),  # video, and its feature captions
            Use(3, "captions"),
            Use(3, "old_cut"),  # video, whose feature is retired
            Use(
                3, "fax_cover"
            ),  # fax is retired; it counts as a product, but its features do not count
            Use(30, "cut"),  # a day too early
            Use(3, None),
        ],
    )
    assert row["products_used_30"] == 3
    assert row["features_used_30"] == 2  # captions, layers
    assert row["features_available_30"] == 3  # cut, captions, layers


@pytest.mark.parametrize(("ago", "used"), [(29, 1), (30, 0)])
def test_features_of_the_last_thirty_days(
    warehouse: LifecycleWarehouse, ago: int, used: int
) -> None:
    row = measured(warehouse, [Use(ago, "cut")])
    assert row["features_used_30"] == used
    assert row["features_available_30"] == 2 * used
    assert row["has_used_features"] is True


def test_a_product_is_no_feature(warehouse: LifecycleWarehouse) -> None:
    assert measured(warehouse, [Use(400, "video")])["has_used_features"] is False
    assert measured(warehouse, [Use(400, "old_cut")])["has_used_features"] is False


def test_products_active_now_and_before(warehouse: LifecycleWarehouse) -> None:
    row = measured(warehouse, [Use(40, "video"), Use(40, "canvas"), Use(5, "canvas")])
    assert row["products_tried"] == 2
    assert row["products_active"] == 1  # video has not been used for 40 days
    assert row["products_active_before"] == 2


@pytest.mark.parametrize(("ago", "before"), [(30, 1), (29, 0)])
def test_before_is_thirty_days_before(warehouse: LifecycleWarehouse, ago: int, before: int) -> None:
    row = measured(warehouse, [Use(ago, "video"), Use(0, "video")])
    assert (row["products_active"], row["products_active_before"]) == (1, before)


def test_people_reached(warehouse: LifecycleWarehouse) -> None:
    row = measured(
        warehouse,
        [
            Use(1, kind="member_invited", target="ada"),
            Use(2, kind="project_shared", target="ada"),
            Use(89, kind="member_invited", target="bob"),
            Use(90, kind="member_invited", target="eve"),  # a day too early
            Use(1, kind="project_shared"),  # no target, counts as one person
            Use(1, kind="project_shared", is_qualifying=False),  # and another one
            Use(1, kind="made", target="joe"),  # not a collaboration event
        ],
    )
    assert row["people_reached"] == 4


@pytest.mark.parametrize(("started", "runs"), [(89, (1, 1)), (90, (0, 0))])
def test_runs_count_by_their_start(
    warehouse: LifecycleWarehouse, started: int, runs: tuple[int, int]
) -> None:
    row = measured(
        warehouse,
        [
            Use(started, "canvas", project="p"),
            Use(started - 7, "canvas", kind="published", project="p"),
        ],
    )
    assert (row["workflows_started"], row["workflows_completed"]) == runs


def test_open_and_abandoned_runs_count_as_started(warehouse: LifecycleWarehouse) -> None:
    row = measured(
        warehouse,
        [
            Use(1, "canvas", project="open"),
            Use(20, "canvas", project="late"),
            Use(12, "canvas", kind="published", project="late"),  # after 8 days
            Use(20, "canvas", project="done"),
            Use(20, "canvas", kind="published", project="done"),
        ],
    )
    assert (row["workflows_started"], row["workflows_completed"]) == (3, 1)


@pytest.mark.parametrize(("ago", "expected"), [(0, 0), (30, 30), (31, None)])
def test_days_since_reactivation(
    warehouse: LifecycleWarehouse, ago: int, expected: int | None
) -> None:
    row = measured(warehouse, [Use(400), Use(ago)])
    assert row["days_since_reactivation"] == expected


def test_late_activation_is_no_reactivation(warehouse: LifecycleWarehouse) -> None:
    assert measured(warehouse, [Use(10)])["days_since_reactivation"] is None


@pytest.mark.parametrize(("ago", "is_engaged"), [(9, True), (30, True), (31, False)])
def test_engaged_is_active_or_returning(
    warehouse: LifecycleWarehouse, ago: int, is_engaged: bool
) -> None:
    row = measured(warehouse, [Use(ago + 10), Use(ago)])
    assert row["is_engaged"] is is_engaged


@pytest.mark.parametrize(
    ("agos", "is_back"),
    [
        ([381, 0], False),
        ([380, 0], True),
        ([350, 0], True),
        ([349, 0], False),
        # Only quiet periods of 60 days, and then one of 61.
        ([360, 299, 238, 177, 116, 55, 0], False),
        ([360, 299, 238, 177, 116, 54, 0], True),
        # The quiet period was before last year's use.
        ([448, 380, 340, 300, 260, 220, 180, 140, 100, 60, 20, 0], False),
        # The quiet period ended some time ago.
        ([380, 300, 260, 220, 180, 140, 100, 60, 20], True),
        # The quiet period has not ended yet.
        ([380, 340, 300, 260, 220, 180, 140, 100], False),
    ],
)
def test_back_in_season(warehouse: LifecycleWarehouse, agos: list[int], is_back: bool) -> None:
    assert measured(warehouse, [Use(ago) for ago in agos])["is_back_in_season"] is is_back


def test_a_user_who_did_nothing_has_a_row(warehouse: LifecycleWarehouse) -> None:
    row = measured(warehouse, [])
    assert row["days_since_signup"] == 450
    assert {name: row[name] for name in NO_USE} == NO_USE
    assert row["engagement_intensity"] == "inactive"
