"""Section 7 of the framework, computed by loops for one user on one day.

Where the framework leaves room for interpretation, the oracle follows docs/explanation/decisions.md.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from monstera_assets_tests.oracle.versions import Versions
from monstera_assets_tests.oracle.workflows import Run

IN_USE = ("active_in_product", "reactivated_in_product")


@dataclass(frozen=True)
class Use:
    """One event of a user.

    Attributes:
        day: The UTC date.
        is_qualifying: Whether the event counts as use.
        product_id: The product to which the event rolls up, if any.
        feature_id: The active feature of an active product to which the event rolls up, if any.
        reaches: The target of a collaboration event, or the event itself if it has no target.
    """

    day: date
    is_qualifying: bool
    product_id: str | None
    feature_id: str | None
    reaches: str | None


@dataclass(frozen=True)
class Life:
    """All facts about one user.

    Attributes:
        signup: The date of signup.
        acquisition_source: The user's acquisition source on each day.
        uses: The events.
        activity_states: The activity state by date.
        first_activation: The date of the first qualifying event, if any.
        product_states: The state by product and date, without never_adopted days.
    """

    signup: date
    acquisition_source: Versions[str]
    uses: Sequence[Use]
    activity_states: Mapping[date, str]
    first_activation: date | None
    product_states: Mapping[str, Mapping[date, str]]


def measures(
    life: Life, day: date, runs: Collection[Run], features_of_product: Mapping[str, int]
) -> dict[str, object]:
    """Return the measures of a user at the end of a day.

    Args:
        life: The user.
        day: The day to describe. Later facts are ignored.
        runs: The user's workflow runs, computed from events up to the day.
        features_of_product: The number of active features by active product.
    """
    uses = [use for use in life.uses if use.day <= day]
    qualifying = [use for use in uses if use.is_qualifying]

    def ago(use: Use) -> int:
        return (day - use.day).days

    def last(days: int) -> list[Use]:
        return [use for use in qualifying if ago(use) < days]

    active_days = {use.day for use in qualifying}
    products = {use.product_id for use in last(30) if use.product_id}
    quiet = min((ago(use) for use in qualifying), default=None)
    comebacks = [
        (day - when).days
        for when, state in life.activity_states.items()
        if state == "reactivated" and when <= day and when != life.first_activation
    ]
    since_comeback = min(comebacks, default=None)
    recent = [run for run in runs if (day - run.reached[0].date()).days < 90]

    def states(when: date) -> list[str]:
        return [by_day[when] for by_day in life.product_states.values() if when in by_day]

    return {
        "days_since_signup": (day - life.signup).days,
        "events_28": len(last(28)),
        "events_30": len(last(30)),
        "events_before_30": sum(30 <= ago(use) < 60 for use in qualifying),
        "active_days_28": len({use.day for use in last(28)}),
        "active_days_30": len({use.day for use in last(30)}),
        "weeks_active": len({ago(use) // 7 for use in last(28)}),
        "months_active": len({ago(use) // 30 for use in last(90)}),
        "days_quiet": quiet if quiet is not None and quiet < 90 else None,
        "is_engaged": life.activity_states[day] in ("active", "returning"),
        "products_tried": len(states(day)),
        "products_active": sum(state in IN_USE for state in states(day)),
        "products_active_before": sum(
            state in IN_USE for state in states(day - timedelta(days=30))
        ),
        "products_used_30": len(products),
        "features_used_30": len({use.feature_id for use in last(30) if use.feature_id}),
        "features_available_30": sum(features_of_product.get(product, 0) for product in products),
        "has_used_features": any(use.feature_id for use in qualifying),
        "people_reached": len({use.reaches for use in uses if use.reaches and ago(use) < 90}),
        "workflows_started": len(recent),
        "workflows_completed": sum(run.completed_at is not None for run in recent),
        "days_since_reactivation": (
            since_comeback if since_comeback is not None and since_comeback <= 30 else None
        ),
        "is_back_in_season": _is_back_in_season(active_days, day),
        "acquisition_source": life.acquisition_source.on(day),
    }


def segments(user: Mapping[str, object]) -> dict[str, str]:
    """Derive the segments of a user from the measures, rule by rule."""
    m = _Numbers(user)
    share = m["workflows_completed"] / m["workflows_started"] if m["workflows_started"] else 0.0
    quiet, comeback = user["days_quiet"], user["days_since_reactivation"]
    found = {}

    declines = m["events_before_30"] >= 4 and 2 * m["events_30"] <= m["events_before_30"]
    is_quiet = isinstance(quiet, int) and 15 <= quiet <= 30
    drops = m["products_active"] < m["products_active_before"]
    broad = m["products_used_30"] >= 3 or m["features_used_30"] >= 5 or m["active_days_30"] >= 20
    if user["is_engaged"] and (declines or is_quiet or drops):
        found["engagement_intensity"] = "at_risk"
    elif m["events_28"] >= 20 and broad:
        found["engagement_intensity"] = "power"
    elif m["events_28"] >= 4:
        found["engagement_intensity"] = "regular"
    else:
        found["engagement_intensity"] = "casual" if m["events_28"] else "inactive"

    if share > 0.7:
        found["value_realization"] = "high"
    elif share >= 0.3:
        found["value_realization"] = "moderate"
    else:
        found["value_realization"] = "low" if m["workflows_completed"] else "none"

    active = m["products_active"]
    if active >= 4:
        found["product_breadth"] = "platform_power"
    elif active >= 2:
        found["product_breadth"] = "multi"
    elif m["products_tried"] >= 3:
        found["product_breadth"] = "explorer"
    else:
        found["product_breadth"] = "single" if active else "none"

    age = m["days_since_signup"]
    if isinstance(comeback, int) and comeback <= 30:
        found["journey_stage"] = "reactivation"
    elif age <= 30:
        found["journey_stage"] = "onboarding"
    elif age <= 90:
        found["journey_stage"] = "adoption"
    else:
        found["journey_stage"] = "retention" if age <= 365 else "loyalty"

    used = m["features_used_30"]
    if used >= 2 and 10 * used >= 6 * m["features_available_30"]:
        found["feature_adoption"] = "completionist"
    elif used:
        found["feature_adoption"] = "advanced"
    else:
        found["feature_adoption"] = "abandoner" if user["has_used_features"] else "core"

    if m["people_reached"] >= 6:
        found["collaboration_type"] = "team_leader"
    elif m["people_reached"] >= 1:
        found["collaboration_type"] = "collaborator"
    else:
        invited = user["acquisition_source"] == "invitation"
        found["collaboration_type"] = "team_member" if invited else "solo"

    if m["active_days_28"] >= 20:
        found["temporal_pattern"] = "daily"
    elif m["weeks_active"] >= 3:
        found["temporal_pattern"] = "weekly"
    elif m["months_active"] >= 2:
        found["temporal_pattern"] = "monthly"
    elif m["active_days_30"] and user["is_back_in_season"]:
        found["temporal_pattern"] = "seasonal"
    else:
        found["temporal_pattern"] = "erratic"

    found["composite_segment"] = _composite(found, age)
    return found


def _composite(found: Mapping[str, str], age: int) -> str:
    engagement, value = found["engagement_intensity"], found["value_realization"]
    stage = found["journey_stage"]
    established = stage in ("retention", "loyalty")
    is_new = stage == "onboarding" and age <= 14
    if is_new and value == "none" and engagement in ("casual", "inactive"):
        return "struggling_new_user"
    is_broad = found["product_breadth"] in ("multi", "platform_power")
    if engagement == "power" and established and is_broad:
        return "expanding_power_user"
    if engagement == "at_risk" and established and value in ("high", "moderate"):
        return "at_risk_core_user"
    if found["collaboration_type"] == "team_leader" and value == "high":
        return "high_value_team_leader"
    return "standard"


def _is_back_in_season(active_days: Collection[date], day: date) -> bool:
    """Return whether the user was active about a year ago and quiet for over 60 days after that."""
    in_order = sorted(active_days)
    for then in in_order:
        if not 350 <= (day - then).days <= 380:
            continue
        since = [active for active in in_order if active >= then]
        if any((b - a).days - 1 > 60 for a, b in pairwise(since)):
            return True
    return False


class _Numbers(dict[str, int]):
    """The measures whose values are numbers."""

    def __init__(self, user: Mapping[str, object]) -> None:
        super().__init__({k: v for k, v in user.items() if isinstance(v, int)})
