"""Define behavioral segments as data: dimensions, values and rules (framework, section 7).

In each dimension, a user has the value of the first rule that applies, or the last value if no rule
applies. The rules read the measures from `lifecycle/behavior.py`. The engine, the checks and the
documentation all use these dimensions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.policy import LifecyclePolicy, SegmentPolicy

_RULES_VERSION = 1
"""Increment this number when anything other than a threshold changes in a rule."""

_STATE_THRESHOLDS = (
    *("new_user_days", "active_days", "dormant_days"),
    *("min_qualifying_events_to_activate", "workflow_days"),
)
"""Lifecycle policy fields that the measures depend on, in addition to the segment thresholds."""

Condition = Callable[[ir.Table, SegmentPolicy], ir.BooleanValue]


def _always(_: ir.Table, __: SegmentPolicy) -> ir.BooleanValue:
    return ibis.literal(value=True)


@dataclass(frozen=True)
class Segment:
    """One value of a dimension.

    `applies` is the rule, and `meaning` describes the rule, with threshold names in braces.
    """

    value: str
    meaning: str
    applies: Condition = _always


@dataclass(frozen=True)
class Dimension:
    """A behavioral dimension, with its segments in the order in which their rules are evaluated."""

    name: str
    description: str
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        *cascade, rest = self.segments
        if rest.applies is not _always or any(each.applies is _always for each in cascade):
            raise ValueError(f"{self.name}: every segment except the last must have a rule")

    @property
    def values(self) -> tuple[str, ...]:
        """Return the values in rule order."""
        return tuple(segment.value for segment in self.segments)

    def label(self, measures: ir.Table, policy: SegmentPolicy) -> ir.StringValue:
        """Return the value of the first rule that applies, for each row."""
        return ibis.cases(
            *((segment.applies(measures, policy), segment.value) for segment in self.segments)
        )


def _is_at_risk(user: ir.Table, policy: SegmentPolicy) -> ir.BooleanValue:
    """Select active or returning users whose activity has declined in one of three ways."""
    declines = (user.events_before_30 >= policy.at_risk_min_events_before) & (
        _share(user.events_30, user.events_before_30) <= policy.at_risk_max_event_share
    )
    falls_quiet = user.days_quiet.between(policy.at_risk_quiet_days, policy.at_risk_max_quiet_days)
    gives_up_products = user.products_active < user.products_active_before
    return user.is_engaged & (declines | falls_quiet.fill_null(False) | gives_up_products)


def _is_power(user: ir.Table, policy: SegmentPolicy) -> ir.BooleanValue:
    return (user.events_28 >= policy.power_min_events) & (
        (user.products_used_30 >= policy.power_min_products)
        | (user.features_used_30 >= policy.power_min_features)
        | (user.active_days_30 >= policy.power_min_active_days)
    )


def _is_completionist(user: ir.Table, policy: SegmentPolicy) -> ir.BooleanValue:
    return (user.features_used_30 >= policy.completionist_min_features) & (
        _share(user.features_used_30, user.features_available_30) >= policy.completionist_min_share
    )


def _is_struggling(user: ir.Table, policy: SegmentPolicy) -> ir.BooleanValue:
    """Select new users with little or no activity and no completed workflow."""
    return (
        (user.journey_stage == "onboarding")
        & (user.days_since_signup <= policy.struggling_days)
        & (user.value_realization == "none")
        & user.engagement_intensity.isin(["casual", "inactive"])
    )


def _is_established(user: ir.Table) -> ir.BooleanValue:
    return user.journey_stage.isin(["retention", "loyalty"])


def _completion(user: ir.Table) -> ir.FloatingValue:
    return _share(user.workflows_completed, user.workflows_started)


def _share(part: ir.IntegerValue, whole: ir.IntegerValue) -> ir.FloatingValue:
    """Return the share, rounded only once so that it can equal a threshold, or 0 if `whole` is 0."""
    return ibis.ifelse(whole > 0, part.cast("float64") / whole.cast("float64"), 0.0)


DIMENSIONS = (
    Dimension(
        "engagement_intensity",
        "Level of activity and whether activity is declining.",
        (
            Segment(
                "at_risk",
                "active or returning, with a decline in activity: at least"
                " {at_risk_min_events_before} qualifying events in the 30 days before the last 30 days"
                " and at most {at_risk_max_event_share} times that number in the last 30 days,"
                " {at_risk_quiet_days} through {at_risk_max_quiet_days} quiet days, or fewer active"
                " products than 30 days earlier",
                _is_at_risk,
            ),
            Segment(
                "power",
                "at least {power_min_events} qualifying events in 28 days and, in 30 days, at least"
                " {power_min_products} products used, {power_min_features} features used or"
                " {power_min_active_days} active days",
                _is_power,
            ),
            Segment(
                "regular",
                "at least {regular_min_events} qualifying events in 28 days",
                lambda user, policy: user.events_28 >= policy.regular_min_events,
            ),
            Segment(
                "casual",
                "at least one qualifying event in 28 days",
                lambda user, _: user.events_28 >= 1,
            ),
            Segment("inactive", "no qualifying events in 28 days"),
        ),
    ),
    Dimension(
        "value_realization",
        "Completion level of the workflow runs started in the last 90 days.",
        (
            Segment(
                "high",
                "share of completed runs above {value_high_above}",
                lambda user, policy: _completion(user) > policy.value_high_above,
            ),
            Segment(
                "moderate",
                "share of completed runs at or above {value_moderate_from}",
                lambda user, policy: (
                    (user.workflows_completed >= 1)
                    & (_completion(user) >= policy.value_moderate_from)
                ),
            ),
            Segment(
                "low", "at least one completed run", lambda user, _: user.workflows_completed >= 1
            ),
            Segment("none", "no completed runs"),
        ),
    ),
    Dimension(
        "product_breadth",
        "Range of products in which the user is active.",
        (
            Segment(
                "platform_power",
                "active in at least {platform_power_min_products} products",
                lambda user, policy: user.products_active >= policy.platform_power_min_products,
            ),
            Segment(
                "multi",
                "active in at least {multi_min_products} products",
                lambda user, policy: user.products_active >= policy.multi_min_products,
            ),
            Segment(
                "explorer",
                "tried at least {explorer_min_products} products, but active in fewer than"
                " {multi_min_products}",
                lambda user, policy: user.products_tried >= policy.explorer_min_products,
            ),
            Segment("single", "active in one product", lambda user, _: user.products_active >= 1),
            Segment("none", "not active in any product"),
        ),
    ),
    Dimension(
        "journey_stage",
        "Stage of the user's journey on the platform.",
        (
            Segment(
                "reactivation",
                "up to {reactivation_days} days after a reactivation",
                lambda user, policy: (
                    user.days_since_reactivation <= policy.reactivation_days
                ).fill_null(False),
            ),
            Segment(
                "onboarding",
                "up to {onboarding_days} days since signup",
                lambda user, policy: user.days_since_signup <= policy.onboarding_days,
            ),
            Segment(
                "adoption",
                "up to {adoption_days} days since signup",
                lambda user, policy: user.days_since_signup <= policy.adoption_days,
            ),
            Segment(
                "retention",
                "up to {retention_days} days since signup",
                lambda user, policy: user.days_since_signup <= policy.retention_days,
            ),
            Segment("loyalty", "more than {retention_days} days since signup"),
        ),
    ),
    Dimension(
        "feature_adoption",
        "Use of features beyond each product's core.",
        (
            Segment(
                "completionist",
                "at least {completionist_min_features} features used in 30 days, with a share of at"
                " least {completionist_min_share} of the features in the products used",
                _is_completionist,
            ),
            Segment(
                "advanced",
                "at least one feature used in 30 days",
                lambda user, _: user.features_used_30 >= 1,
            ),
            Segment(
                "abandoner",
                "features used in the past, but no features used in 30 days",
                lambda user, _: user.has_used_features,
            ),
            Segment("core", "no features ever used"),
        ),
    ),
    Dimension(
        "collaboration_type",
        "Level of collaboration, based on the number of people reached in the last 90 days.",
        (
            Segment(
                "team_leader",
                "at least {team_leader_min_people} people reached",
                lambda user, policy: user.people_reached >= policy.team_leader_min_people,
            ),
            Segment(
                "collaborator",
                "at least one person reached",
                lambda user, _: user.people_reached >= 1,
            ),
            Segment(
                "team_member",
                "no one reached, but invited to the platform",
                lambda user, policy: user.acquisition_source.isin(policy.invitation_sources),
            ),
            Segment("solo", "no one reached"),
        ),
    ),
    Dimension(
        "temporal_pattern",
        "Regularity of activity.",
        (
            Segment(
                "daily",
                "active on at least {daily_min_days} of the last 28 days",
                lambda user, policy: user.active_days_28 >= policy.daily_min_days,
            ),
            Segment(
                "weekly",
                "active in at least {weekly_min_weeks} of the last 4 weeks",
                lambda user, policy: user.weeks_active >= policy.weekly_min_weeks,
            ),
            Segment(
                "monthly",
                "active in at least {monthly_min_months} of the last three 30-day windows",
                lambda user, policy: user.months_active >= policy.monthly_min_months,
            ),
            Segment(
                "seasonal",
                "active in the last 30 days and within {seasonal_tolerance_days} days of a year ago,"
                " with more than {seasonal_quiet_days} quiet days in between",
                lambda user, _: user.is_back_in_season & (user.active_days_30 >= 1),
            ),
            Segment("erratic", "no other pattern"),
        ),
    ),
)
"""The seven dimensions, in the framework's order."""

COMPOSITE = Dimension(
    "composite_segment",
    "Segment that combines several dimensions.",
    (
        Segment(
            "struggling_new_user",
            "in onboarding for at most {struggling_days} days, with value realization none and"
            " engagement casual or inactive",
            _is_struggling,
        ),
        Segment(
            "expanding_power_user",
            "engagement power, breadth multi or platform_power, and stage retention or loyalty",
            lambda user, _: (
                (user.engagement_intensity == "power")
                & user.product_breadth.isin(["multi", "platform_power"])
                & _is_established(user)
            ),
        ),
        Segment(
            "at_risk_core_user",
            "engagement at_risk, stage retention or loyalty, and value realization high or moderate",
            lambda user, _: (
                (user.engagement_intensity == "at_risk")
                & _is_established(user)
                & user.value_realization.isin(["high", "moderate"])
            ),
        ),
        Segment(
            "high_value_team_leader",
            "collaboration team_leader and value realization high",
            lambda user, _: (
                (user.collaboration_type == "team_leader") & (user.value_realization == "high")
            ),
        ),
        Segment("standard", "all other users"),
    ),
)
"""The composite dimension, which is evaluated last because it depends on the other dimensions."""


def with_segments(measures: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """Add each dimension's value, the composite segment and the rule version."""
    thresholds = policy.segments
    labelled = measures.mutate(
        **{dimension.name: dimension.label(measures, thresholds) for dimension in DIMENSIONS}
    )
    return labelled.mutate(
        **{COMPOSITE.name: COMPOSITE.label(labelled, thresholds)},
        segment_version=ibis.literal(segment_version(policy)),
    )


def disagreeing(
    labelled: ir.Table, policy: LifecyclePolicy, dimensions: Iterable[Dimension]
) -> ir.BooleanValue:
    """Select rows with a value whose rule does not apply or follows another rule that applies.

    This function evaluates each rule separately, whereas `Dimension.label` evaluates rules in order.
    """
    return ibis.or_(*(_disagrees(labelled, policy.segments, dimension) for dimension in dimensions))


def segment_version(policy: LifecyclePolicy) -> str:
    """Return a version that changes with the rules and with every segment threshold."""
    thresholds = {
        **{name: getattr(policy, name) for name in _STATE_THRESHOLDS},
        **policy.segments.model_dump(),
    }
    digest = hashlib.sha256(json.dumps(thresholds, sort_keys=True).encode()).hexdigest()
    return f"{_RULES_VERSION}-{digest[:8]}"


def _disagrees(labelled: ir.Table, policy: SegmentPolicy, dimension: Dimension) -> ir.BooleanValue:
    value = labelled[dimension.name]
    wrong = []
    earlier = ibis.literal(value=False)
    for segment in dimension.segments:
        applies = segment.applies(labelled, policy)
        wrong.append((value == segment.value) & (earlier | ~applies))
        earlier = earlier | applies
    return ibis.or_(*wrong)
