"""Tests of the behavioral segments on both sides of each threshold (framework, section 7)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache

import pytest
from pydantic import ValidationError

from monstera_assets.lifecycle.policy import LifecyclePolicy, SegmentPolicy
from monstera_assets.lifecycle.segments import (
    COMPOSITE,
    DIMENSIONS,
    disagreeing,
    segment_version,
    with_segments,
)
from monstera_assets.silver.silver_user_segment_history import MEASURE_COLUMNS, TABLE
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse

EVERY = (*DIMENSIONS, COMPOSITE)

QUIET: Mapping[str, object] = {
    **{c.name: False if c.type == "boolean" else 0 for c in MEASURE_COLUMNS if not c.nullable},
    "days_since_signup": 1000,
    "acquisition_source": "organic",
}
"""A long-standing user who signed up without an invitation and has long been inactive."""

REGULAR = {"events_28": 4, "events_30": 4, "events_before_30": 4, "is_engaged": True}
DECLINED = {"is_engaged": True, "events_28": 9, "events_30": 2, "events_before_30": 4}
POWER = {"events_28": 20, "events_30": 20}
HIGH = {"workflows_started": 1, "workflows_completed": 1}
SEVEN_OF_TEN = {"workflows_started": 10, "workflows_completed": 7}

Case = tuple[Mapping[str, object], str]

CASES: Mapping[str, list[Case]] = {
    "engagement_intensity": [
        # a decline to at most half of at least 4 events, only for active and returning users
        (DECLINED, "at_risk"),
        ({**DECLINED, "events_30": 3}, "regular"),
        ({**DECLINED, "events_before_30": 3, "events_30": 1}, "regular"),
        ({**DECLINED, "events_before_30": 5, "events_30": 2}, "at_risk"),
        ({**DECLINED, "events_before_30": 5, "events_30": 3}, "regular"),
        ({**DECLINED, "is_engaged": False}, "regular"),
        ({"events_before_30": 40, "is_engaged": False}, "inactive"),
        # quiet for 15 to 30 days
        ({**REGULAR, "days_quiet": 14}, "regular"),
        ({**REGULAR, "days_quiet": 15}, "at_risk"),
        ({**REGULAR, "days_quiet": 30}, "at_risk"),
        ({**REGULAR, "days_quiet": 31}, "regular"),
        ({**REGULAR, "days_quiet": 15, "is_engaged": False}, "regular"),
        # fewer active products than 30 days earlier
        ({**REGULAR, "products_active": 1, "products_active_before": 2}, "at_risk"),
        ({**REGULAR, "products_active": 2, "products_active_before": 2}, "regular"),
        ({**REGULAR, "products_active": 3, "products_active_before": 2}, "regular"),
        # at_risk takes precedence over power
        ({**POWER, "products_used_30": 3, "is_engaged": True, "events_before_30": 40}, "at_risk"),
        # power requires 20 events, and 3 products, 5 features or 20 days
        ({**POWER, "products_used_30": 3}, "power"),
        ({**POWER, "products_used_30": 2}, "regular"),
        ({**POWER, "features_used_30": 5}, "power"),
        ({**POWER, "features_used_30": 4}, "regular"),
        ({**POWER, "active_days_30": 20}, "power"),
        ({**POWER, "active_days_30": 19}, "regular"),
        ({**POWER, "events_28": 19, "products_used_30": 3}, "regular"),
        ({**POWER, "events_28": 19, "events_30": 30, "active_days_30": 30}, "regular"),
        # regular, casual and inactive depend on the events in 28 days
        ({"events_28": 4}, "regular"),
        ({"events_28": 3}, "casual"),
        ({"events_28": 1}, "casual"),
        ({"events_28": 0, "events_30": 9}, "inactive"),
    ],
    "value_realization": [
        ({"workflows_started": 10, "workflows_completed": 8}, "high"),
        ({"workflows_started": 10, "workflows_completed": 7}, "moderate"),
        ({"workflows_started": 1000, "workflows_completed": 701}, "high"),
        ({"workflows_started": 10, "workflows_completed": 3}, "moderate"),
        ({"workflows_started": 1000, "workflows_completed": 299}, "low"),
        ({"workflows_started": 10, "workflows_completed": 1}, "low"),
        ({"workflows_started": 10, "workflows_completed": 0}, "none"),
        ({"workflows_started": 0, "workflows_completed": 0}, "none"),
        (HIGH, "high"),
    ],
    "product_breadth": [
        ({"products_active": 4, "products_tried": 4}, "platform_power"),
        ({"products_active": 3, "products_tried": 9}, "multi"),
        ({"products_active": 2, "products_tried": 2}, "multi"),
        ({"products_active": 1, "products_tried": 3}, "explorer"),
        ({"products_active": 0, "products_tried": 3}, "explorer"),
        ({"products_active": 1, "products_tried": 2}, "single"),
        ({"products_active": 0, "products_tried": 2}, "none"),
    ],
    "journey_stage": [
        ({"days_since_reactivation": 0}, "reactivation"),
        ({"days_since_reactivation": 30}, "reactivation"),
        ({"days_since_reactivation": 31}, "loyalty"),
        ({"days_since_signup": 20, "days_since_reactivation": 3}, "reactivation"),
        ({"days_since_signup": 0}, "onboarding"),
        ({"days_since_signup": 30}, "onboarding"),
        ({"days_since_signup": 31}, "adoption"),
        ({"days_since_signup": 90}, "adoption"),
        ({"days_since_signup": 91}, "retention"),
        ({"days_since_signup": 365}, "retention"),
        ({"days_since_signup": 366}, "loyalty"),
    ],
    "feature_adoption": [
        ({"features_used_30": 3, "features_available_30": 5}, "completionist"),
        ({"features_used_30": 2, "features_available_30": 3}, "completionist"),
        ({"features_used_30": 2, "features_available_30": 4}, "advanced"),
        ({"features_used_30": 59, "features_available_30": 100}, "advanced"),
        ({"features_used_30": 60, "features_available_30": 100}, "completionist"),
        ({"features_used_30": 1, "features_available_30": 1}, "advanced"),
        ({"features_used_30": 0, "has_used_features": True}, "abandoner"),
        ({"features_used_30": 0, "features_available_30": 3}, "core"),
    ],
    "collaboration_type": [
        ({"people_reached": 6}, "team_leader"),
        ({"people_reached": 5}, "collaborator"),
        ({"people_reached": 1}, "collaborator"),
        ({"people_reached": 1, "acquisition_source": "invitation"}, "collaborator"),
        ({"people_reached": 0, "acquisition_source": "invitation"}, "team_member"),
        ({"people_reached": 0, "acquisition_source": "partner"}, "solo"),
    ],
    "temporal_pattern": [
        ({"active_days_28": 20, "weeks_active": 4, "months_active": 3}, "daily"),
        ({"active_days_28": 19, "weeks_active": 4, "months_active": 3}, "weekly"),
        ({"active_days_28": 3, "weeks_active": 3, "months_active": 1}, "weekly"),
        ({"active_days_28": 3, "weeks_active": 2, "months_active": 2}, "monthly"),
        ({"active_days_30": 2, "weeks_active": 2, "months_active": 1}, "erratic"),
        ({"active_days_30": 1, "is_back_in_season": True, "months_active": 1}, "seasonal"),
        ({"active_days_30": 0, "is_back_in_season": True, "months_active": 1}, "erratic"),
        ({"active_days_30": 1, "is_back_in_season": True, "months_active": 2}, "monthly"),
    ],
    "composite_segment": [
        ({"days_since_signup": 14, "events_28": 3}, "struggling_new_user"),
        ({"days_since_signup": 14}, "struggling_new_user"),
        ({"days_since_signup": 15}, "standard"),
        ({"days_since_signup": 14, "events_28": 4}, "standard"),
        ({"days_since_signup": 14, "events_28": 3, **HIGH}, "standard"),
        ({"days_since_signup": 14, "days_since_reactivation": 1}, "standard"),
        ({**POWER, "products_used_30": 3, "products_active": 2}, "expanding_power_user"),
        ({**POWER, "products_used_30": 3, "products_active": 4}, "expanding_power_user"),
        (
            {**POWER, "products_used_30": 3, "products_active": 2, "days_since_signup": 91},
            "expanding_power_user",
        ),
        (
            {**POWER, "products_used_30": 3, "products_active": 2, "days_since_signup": 90},
            "standard",
        ),
        ({**POWER, "products_used_30": 3, "products_active": 1}, "standard"),
        ({**POWER, "products_used_30": 2, "products_active": 2}, "standard"),
        ({**DECLINED, **HIGH}, "at_risk_core_user"),
        (
            {**DECLINED, "workflows_started": 2, "workflows_completed": 1, "days_since_signup": 91},
            "at_risk_core_user",
        ),
        ({**DECLINED, **HIGH, "days_since_signup": 90}, "standard"),
        ({**DECLINED, "workflows_started": 4, "workflows_completed": 1}, "standard"),
        # a team leader who is at risk is at_risk_core_user
        ({**DECLINED, **HIGH, "people_reached": 6}, "at_risk_core_user"),
        ({**HIGH, "people_reached": 6}, "high_value_team_leader"),
        ({**HIGH, "people_reached": 5}, "standard"),
        (
            {"workflows_started": 10, "workflows_completed": 7, "people_reached": 6},
            "standard",
        ),
    ],
}

LISTED = [(name, *case) for name, cases in CASES.items() for case in cases]


def labelled(
    measures: Sequence[Mapping[str, object]], policy: LifecyclePolicy | None = None
) -> list[Mapping[str, object]]:
    """Return the segments of users with these measures, and whether the separate rules disagree."""
    policy = policy or LifecyclePolicy()
    made = MemoryWarehouse([TABLE])
    made.load(TABLE, [{**QUIET, **row, "user_id": f"{n:04}"} for n, row in enumerate(measures)])
    given = TABLE.relation.select("user_id", *(column.name for column in MEASURE_COLUMNS))
    users = with_segments(given, policy)
    names = [*(dimension.name for dimension in EVERY), "segment_version"]
    query = users.select("user_id", *names, disagrees=disagreeing(users, policy, EVERY))
    rows = made.rows(compile_duckdb(query))
    return [dict(zip([*names, "disagrees"], row[1:], strict=True)) for row in rows]


@cache
def by_default() -> list[Mapping[str, object]]:
    return labelled([measures for _, measures, _ in LISTED])


@pytest.mark.parametrize("number", range(len(LISTED)))
def test_value_on_this_side_of_its_threshold(number: int) -> None:
    dimension, measures, expected = LISTED[number]
    assert by_default()[number][dimension] == expected, measures
    assert by_default()[number]["disagrees"] is False


def test_every_value_of_every_dimension_has_a_row() -> None:
    for dimension in EVERY:
        assert {value for _, value in CASES[dimension.name]} == set(dimension.values)
    assert set(CASES) == {dimension.name for dimension in EVERY}


@pytest.mark.parametrize(
    ("threshold", "value", "dimension", "measures", "expected"),
    [
        ("at_risk_min_events_before", 5, "engagement_intensity", DECLINED, "regular"),
        ("at_risk_max_event_share", 0.4, "engagement_intensity", DECLINED, "regular"),
        (
            "at_risk_quiet_days",
            16,
            "engagement_intensity",
            {**REGULAR, "days_quiet": 15},
            "regular",
        ),
        (
            "at_risk_max_quiet_days",
            29,
            "engagement_intensity",
            {**REGULAR, "days_quiet": 30},
            "regular",
        ),
        (
            "power_min_events",
            21,
            "engagement_intensity",
            {**POWER, "products_used_30": 3},
            "regular",
        ),
        (
            "power_min_products",
            4,
            "engagement_intensity",
            {**POWER, "products_used_30": 3},
            "regular",
        ),
        (
            "power_min_features",
            6,
            "engagement_intensity",
            {**POWER, "features_used_30": 5},
            "regular",
        ),
        (
            "power_min_active_days",
            21,
            "engagement_intensity",
            {**POWER, "active_days_30": 20},
            "regular",
        ),
        ("regular_min_events", 5, "engagement_intensity", {"events_28": 4}, "casual"),
        ("value_high_above", 0.69, "value_realization", SEVEN_OF_TEN, "high"),
        ("value_moderate_from", 0.7, "value_realization", SEVEN_OF_TEN, "moderate"),
        (
            "platform_power_min_products",
            3,
            "product_breadth",
            {"products_active": 3},
            "platform_power",
        ),
        ("multi_min_products", 3, "product_breadth", {"products_active": 2}, "single"),
        ("explorer_min_products", 4, "product_breadth", {"products_tried": 3}, "none"),
        ("reactivation_days", 29, "journey_stage", {"days_since_reactivation": 30}, "loyalty"),
        ("onboarding_days", 29, "journey_stage", {"days_since_signup": 30}, "adoption"),
        ("adoption_days", 89, "journey_stage", {"days_since_signup": 90}, "retention"),
        ("retention_days", 364, "journey_stage", {"days_since_signup": 365}, "loyalty"),
        (
            "completionist_min_share",
            0.61,
            "feature_adoption",
            {"features_used_30": 3, "features_available_30": 5},
            "advanced",
        ),
        (
            "completionist_min_features",
            4,
            "feature_adoption",
            {"features_used_30": 3, "features_available_30": 5},
            "advanced",
        ),
        ("team_leader_min_people", 7, "collaboration_type", {"people_reached": 6}, "collaborator"),
        (
            "invitation_sources",
            ("partner",),
            "collaboration_type",
            {"acquisition_source": "partner"},
            "team_member",
        ),
        ("daily_min_days", 19, "temporal_pattern", {"active_days_28": 19}, "daily"),
        ("weekly_min_weeks", 2, "temporal_pattern", {"weeks_active": 2}, "weekly"),
        ("monthly_min_months", 1, "temporal_pattern", {"months_active": 1}, "monthly"),
        ("struggling_days", 13, "composite_segment", {"days_since_signup": 14}, "standard"),
    ],
)
def test_a_threshold_moves_with_the_policy(
    threshold: str, value: object, dimension: str, measures: Mapping[str, object], expected: str
) -> None:
    policy = LifecyclePolicy(segments=SegmentPolicy(**{threshold: value}))
    [before], [after] = labelled([measures]), labelled([measures], policy)
    assert after[dimension] == expected
    if (
        threshold != "value_moderate_from"
    ):  # a share equal to this threshold is included in both cases
        assert before[dimension] != expected
    assert after["segment_version"] == segment_version(policy) != before["segment_version"]


def test_the_version_changes_with_every_threshold() -> None:
    default = LifecyclePolicy()
    segments = [
        default.model_copy(
            update={"segments": default.segments.model_copy(update={name: _other(value)})}
        )
        for name, value in default.segments.model_dump().items()
    ]
    states = [
        default.model_copy(update={name: getattr(default, name) + 1})
        for name in (
            "new_user_days",
            "active_days",
            "dormant_days",
            "min_qualifying_events_to_activate",
            "workflow_days",
        )
    ]
    versions = [segment_version(policy) for policy in (default, *segments, *states)]
    assert len(set(versions)) == len(versions)
    assert segment_version(default.model_copy(update={"trial_days": 1})) == versions[0]


def test_the_version_is_the_same_in_another_process() -> None:
    program = (
        "from monstera_assets.lifecycle.policy import LifecyclePolicy as P;"
        "from monstera_assets.lifecycle.segments import segment_version;"
        "print(segment_version(P()))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert printed.strip() == segment_version(LifecyclePolicy())


def test_asked_singly_the_rules_find_every_wrong_label() -> None:
    made = MemoryWarehouse([TABLE])
    right = labelled([QUIET])[0]
    wrong = [
        {**QUIET, **right, "user_id": f"{dimension.name} {value}", dimension.name: value}
        for dimension in DIMENSIONS
        for value in dimension.values
        if value != right[dimension.name]
    ]
    for row in wrong:
        del row["disagrees"]
    made.load(TABLE, wrong)
    users = TABLE.relation
    found = users.filter(disagreeing(users, LifecyclePolicy(), EVERY)).select("user_id")
    assert made.rows(compile_duckdb(found)) == sorted((row["user_id"],) for row in wrong)


def test_thresholds_out_of_order_are_refused() -> None:
    for lower, upper in (
        ("at_risk_quiet_days", "at_risk_max_quiet_days"),
        ("regular_min_events", "power_min_events"),
        ("value_moderate_from", "value_high_above"),
        ("adoption_days", "retention_days"),
    ):
        above = {"value_high_above": 0.75}.get(upper, getattr(SegmentPolicy(), upper) + 1)
        with pytest.raises(ValidationError, match=f"{lower} .* must not exceed {upper}"):
            SegmentPolicy(**{lower: above})


def _other(value: object) -> object:
    if isinstance(value, tuple):
        return (*value, "more")
    return value + 1 if isinstance(value, int) else value / 2  # type: ignore[operator]
