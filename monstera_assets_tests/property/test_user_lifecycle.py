"""The user tables agree with the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets_tests.helpers.lifecycle_warehouse import (
    CURRENT,
    HISTORY,
    TRANSITIONS,
    LifecycleWarehouse,
)
from monstera_assets_tests.inputs.strategies import (
    POLICIES,
    SPAN,
    Population,
    UserCase,
    examples,
    oracle_policy,
    populations,
    qualifying_days,
)
from monstera_assets_tests.oracle.billing import billing_history, dunning_by_day
from monstera_assets_tests.oracle.users import (
    Dunning,
    Transition,
    UserDay,
    user_history,
    user_transitions,
)
from monstera_assets_tests.property.comparison import compare

scenarios = st.sampled_from(POLICIES).flatmap(
    lambda policy: st.tuples(st.just(policy), populations(policy, users=100, accounts=25))
)


@pytest.fixture(scope="module")
def warehouse() -> LifecycleWarehouse:
    return LifecycleWarehouse()


@examples(5)
@given(scenario=scenarios)
def test_history_current_state_and_transitions_are_the_oracles(
    warehouse: LifecycleWarehouse, scenario: tuple[LifecyclePolicy, Population]
) -> None:
    policy, population = scenario
    warehouse.load_facts(population.accounts, population.users)
    histories = oracle_histories(policy, population)
    by_id = {user.user_id: (user, days) for user, days in histories}

    compare(
        [column.name for column in HISTORY.table.columns],
        warehouse.compute(HISTORY, policy, SPAN),
        [history_row(day) for _, days in histories for day in days],
        population.facts_of_user,
    )
    compare(
        [column.name for column in CURRENT.table.columns],
        warehouse.compute(CURRENT, policy),
        [current_row(user, days[-1]) for user, days in by_id.values() if days],
        population.facts_of_user,
    )
    transitions = warehouse.compute(TRANSITIONS, policy, SPAN)
    compare(
        [column.name for column in TRANSITIONS.table.columns],
        [row for row in transitions if row[1] == "platform"],
        [
            transition_row(user.user_id, move)
            for user, days in histories
            for move in user_transitions(days)
        ],
        population.facts_of_user,
    )


def oracle_histories(
    policy: LifecyclePolicy, population: Population
) -> list[tuple[UserCase, list[UserDay]]]:
    """Return the oracle's rows for each user, up to the end of the span."""
    thresholds = oracle_policy(policy)
    dunning = {
        case.account.account_id: dunning_by_day(
            billing_history(case.account, case.events, SPAN.last, thresholds)
        )
        for case in population.accounts
    }
    return [(user, oracle_history(policy, user, dunning)) for user in population.users]


def oracle_history(
    policy: LifecyclePolicy, user: UserCase, dunning: Mapping[str, Mapping[date, Dunning]]
) -> list[UserDay]:
    """Return the oracle's rows for one user, up to the end of the span.

    Args:
        policy: the thresholds.
        user: the user.
        dunning: the dunning of each account on each day.
    """
    deleted_at, deletion_event_id = min(user.deletion_events, default=(None, None))
    return user_history(
        user.user_id,
        user.signed_up_at.date(),
        qualifying_days(user.events),
        SPAN.last,
        deleted_on=deleted_at.date() if deleted_at else None,
        deletion_event_id=deletion_event_id,
        dunning=lambda day: dunning[user.accounts.on(day)].get(day, Dunning()),
        policy=oracle_policy(policy),
    )


def history_row(day: UserDay) -> Mapping[str, object]:
    return {
        "user_id": day.user_id,
        "snapshot_date": day.snapshot_date,
        "platform_state": day.platform_state,
        "platform_state_since": day.platform_state_since,
        "activity_state": day.activity_state,
        "is_dunning": day.is_dunning,
        "dunning_type": day.dunning_type,
        "qualifying_events_count": day.qualifying_events_count,
        "total_qualifying_events": day.total_qualifying_events,
        "days_since_signup": day.days_since_signup,
        "days_since_last_qualifying_event": day.days_since_last_qualifying_event,
    }


def current_row(user: UserCase, day: UserDay) -> Mapping[str, object]:
    as_of = day.snapshot_date
    return {
        **history_row(day),
        "account_id": user.accounts.on(as_of),
        "dunning_since": day.dunning_since,
        "last_qualifying_event_at": max(
            (e.at for e in user.events if e.is_qualifying and e.at.date() <= as_of), default=None
        ),
        "as_of_date": as_of,
        "state_updated_at": datetime.combine(as_of + timedelta(days=1), time.min),
    }


def transition_row(user_id: str, move: Transition) -> Mapping[str, object]:
    return {
        "user_id": user_id,
        "scope": "platform",
        "product_id": None,
        "from_state": move.from_state,
        "to_state": move.to_state,
        "transition_date": move.transition_date,
        "triggering_event_id": move.triggering_event_id,
        "days_in_previous_state": move.days_in_previous_state,
    }
