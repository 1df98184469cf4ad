"""Section 4 of the framework, day by day: one user and one product.

The caller must roll features and sub-features up to the product and drop retired products. Assumptions
where the framework leaves room for interpretation:

* Rows start on the user's signup date, regardless of when the product was launched. They include
  ``never_adopted`` days, with a flag. The stored history lacks these days, so the first access is not a
  transition there.
* A user with qualifying events but no activation event stays new_to_product for the first days, because
  rule 2 depends only on activation.
* There is no returning state. A user who returns from dormant_in_product is active_in_product.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from monstera_assets_tests.oracle.policy import OraclePolicy
from monstera_assets_tests.oracle.users import ONE_DAY, QualifyingDay, Transition


@dataclass(frozen=True)
class ProductDay:
    """One user in one product at the end of one day (section 4).

    ``is_stored`` is false on never_adopted days, which the history table lacks. All values are as known
    at the end of the day. Dates are UTC dates.
    """

    user_id: str
    product_id: str
    snapshot_date: date
    current_state: str
    state_since: date
    is_stored: bool
    first_access_date: date | None
    last_qualifying_date: date | None
    activation_date: date | None
    total_qualifying_events: int
    triggering_event_id: str | None


def product_state(
    day: date,
    first_access: date | None,
    activation: date | None,
    qualifying: Sequence[QualifyingDay],
    yesterday: str | None,
    *,
    new_days: int,
    active_days: int,
    dormant_days: int,
) -> str:
    """Return the state of one user in one product at the end of a day (section 4, rules 1 to 6).

    Args:
        day: The day to evaluate.
        first_access: The date of the first event of any kind, if it is not after ``day``.
        activation: The date of the first activation event, if it is not after ``day``.
        qualifying: The days with qualifying events in the product, up to ``day``.
        yesterday: The state of the day before; None on the signup date.
        new_days: Maximum days since first access for new_to_product.
        active_days: Maximum days since the last qualifying event for active_in_product.
        dormant_days: Maximum days since the last qualifying event for dormant_in_product.
    """
    if first_access is None:
        return "never_adopted"
    if (day - first_access).days <= new_days and activation is None:
        return "new_to_product"
    if not qualifying:
        return "churned_from_product"
    last = max(q.day for q in qualifying)
    gap = (day - last).days
    if day == last and yesterday == "churned_from_product":
        return "reactivated_in_product"
    if gap <= active_days:
        return "active_in_product"
    if gap <= dormant_days:
        return "dormant_in_product"
    return "churned_from_product"


def product_history(
    user_id: str,
    product_id: str,
    signup: date,
    through: date,
    *,
    first_access: date | None,
    activation: date | None,
    qualifying_days: Iterable[QualifyingDay],
    active_days: int | None = None,
    dormant_days: int | None = None,
    policy: OraclePolicy | None = None,
) -> list[ProductDay]:
    """Return one row per date for one user in one product, oldest first (section 4).

    Args:
        user_id: The user.
        product_id: The product. Events in its features are already rolled up.
        signup: The signup date of the user, which is the date of the first row.
        through: The last date (inclusive).
        first_access: The date of the first event of any kind in the product, ever.
        activation: The date of the first activation event in the product, ever.
        qualifying_days: Dates with qualifying events in the product, in any order.
        active_days: The product's own window from the catalog, in days, if any.
        dormant_days: The product's own window from the catalog, in days, if any.
        policy: The thresholds, by default those of the framework.
    """
    policy = policy or OraclePolicy()
    facts = list(qualifying_days)
    active_window = policy.active_days if active_days is None else active_days
    dormant_window = policy.dormant_days if dormant_days is None else dormant_days
    rows: list[ProductDay] = []
    day = signup
    while day <= through:
        before = rows[-1] if rows else None
        yesterday = before.current_state if before else None
        qualifying = [q for q in facts if q.day <= day]
        earlier = [q for q in facts if q.day < day]
        today = [q for q in facts if q.day == day]
        accessed = first_access if first_access is not None and first_access <= day else None
        activated = activation if activation is not None and activation <= day else None
        activated_earlier = activated if activated is not None and activated < day else None

        state = product_state(
            day,
            accessed,
            activated,
            qualifying,
            yesterday,
            new_days=policy.new_user_days,
            active_days=active_window,
            dormant_days=dormant_window,
        )
        without_today = product_state(
            day,
            accessed,
            activated_earlier,
            earlier,
            yesterday,
            new_days=policy.new_user_days,
            active_days=active_window,
            dormant_days=dormant_window,
        )
        since, trigger = day, None
        if before is not None and before.current_state == state:
            since = before.state_since
        elif before is not None and today and state != without_today:
            trigger = today[0].first_event_id
        rows.append(
            ProductDay(
                user_id=user_id,
                product_id=product_id,
                snapshot_date=day,
                current_state=state,
                state_since=since,
                is_stored=state != "never_adopted",
                first_access_date=accessed,
                last_qualifying_date=max((q.day for q in qualifying), default=None),
                activation_date=activated,
                total_qualifying_events=sum(q.events for q in qualifying),
                triggering_event_id=trigger,
            )
        )
        day += ONE_DAY
    return rows


def product_transitions(rows: Sequence[ProductDay]) -> list[Transition]:
    """Return the transitions between the stored days of ``product_history`` (section 6).

    The first access is not a transition.
    """
    stored = [row for row in rows if row.is_stored]
    return [
        Transition(
            from_state=before.current_state,
            to_state=after.current_state,
            transition_date=after.snapshot_date,
            days_in_previous_state=(after.snapshot_date - before.state_since).days,
            triggering_event_id=after.triggering_event_id,
        )
        for before, after in pairwise(stored)
        if before.current_state != after.current_state
    ]
