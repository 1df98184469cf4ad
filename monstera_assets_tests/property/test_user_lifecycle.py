"""The lifecycle of users as the tables tell it, and as the oracle works it out day by day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from monstera_assets.checks.rules import Rule
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.silver import (
    silver_user_current_state,
    silver_user_state_history,
    silver_user_state_transitions,
)
from monstera_assets.warehouse.tables import Table
from monstera_assets_tests.lifecycle_warehouse import (
    CURRENT,
    HISTORY,
    TRANSITIONS,
    LifecycleWarehouse,
)
from monstera_assets_tests.memory_warehouse import Row
from monstera_assets_tests.oracle.billing import billing_history, dunning_by_day
from monstera_assets_tests.oracle.users import Dunning, UserDay, user_history, user_transitions
from monstera_assets_tests.strategies import (
    POLICIES,
    SPAN,
    Population,
    UserCase,
    examples,
    oracle_policy,
    populations,
)

Scenario = tuple[LifecyclePolicy, Population]

scenarios = st.sampled_from(POLICIES).flatmap(
    lambda policy: st.tuples(st.just(policy), populations(policy))
)


@pytest.fixture(scope="module")
def warehouse() -> LifecycleWarehouse:
    return LifecycleWarehouse()


@examples(100)
@given(scenario=scenarios)
def test_history_current_state_and_transitions_are_the_oracles(
    warehouse: LifecycleWarehouse, scenario: Scenario
) -> None:
    policy, population = scenario
    histories = oracle_histories(policy, population)
    warehouse.load_facts(population.accounts, population.users)
    for table, expected in (
        (HISTORY, (history_row(day) for _, days in histories for day in days)),
        (CURRENT, (current_row(user, days[-1]) for user, days in histories if days)),
        (TRANSITIONS, (move for _, days in histories for move in transition_rows(days))),
    ):
        warehouse.compute(table, policy, SPAN)
        compare(table, warehouse.stored(table), expected, population)


RULES = (
    silver_user_state_history.one_row_per_user_and_day,
    silver_user_state_history.runs_are_unbroken,
    silver_user_current_state.agrees_with_history,
    silver_user_state_transitions.moves_are_allowed,
    silver_user_state_transitions.equal_history_differences,
)


def oracle_histories(
    policy: LifecyclePolicy, population: Population
) -> list[tuple[UserCase, list[UserDay]]]:
    """The days of each user up to the end of the span, by the oracle."""
    thresholds = oracle_policy(policy)
    dunning = {
        case.account.account_id: dunning_by_day(
            billing_history(case.account, case.events, SPAN.last, thresholds)
        )
        for case in population.accounts
    }
    histories = []
    for user in population.users:
        debts = dunning[user.account_id]
        deleted_at, deletion_event_id = min(user.deletion_events, default=(None, None))
        days = user_history(
            user.user_id,
            user.signed_up_at.date(),
            user.qualifying_days,
            SPAN.last,
            deleted_on=deleted_at.date() if deleted_at else None,
            deletion_event_id=deletion_event_id,
            dunning=lambda day, debts=debts: debts.get(day, Dunning()),  # type: ignore[misc]
            policy=thresholds,
        )
        histories.append((user, days))
    return histories


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
    of_the_day_only = {"snapshot_date", "qualifying_events_count"}
    return {
        **{n: value for n, value in history_row(day).items() if n not in of_the_day_only},
        "account_id": user.account_id,
        "dunning_since": day.dunning_since,
        "last_qualifying_event_at": user.last_qualifying_at(day.snapshot_date),
        "as_of_date": day.snapshot_date,
        "state_updated_at": datetime.combine(day.snapshot_date + timedelta(days=1), time.min),
    }


def transition_rows(days: list[UserDay]) -> list[Mapping[str, object]]:
    return [
        {
            "user_id": days[0].user_id,
            "scope": "platform",
            "product_id": None,
            "from_state": move.from_state,
            "to_state": move.to_state,
            "transition_date": move.transition_date,
            "triggering_event_id": move.triggering_event_id,
            "days_in_previous_state": move.days_in_previous_state,
        }
        for move in user_transitions(days)
    ]


def compare(
    table: Table,
    rows: list[Row],
    expected: Iterable[Mapping[str, object]],
    population: Population,
) -> None:
    """Compare all columns of all rows; on failure show one user's facts and differing rows."""
    names = [column.name for column in table.columns]
    wanted = [tuple(row[name] for name in names) for row in expected]
    if sorted(wanted, key=str) == sorted(rows, key=str):
        return
    extra, lacking = set(rows) - set(wanted), set(wanted) - set(rows)
    user_id = min(row[0] for row in extra | lacking)
    user = next(user for user in population.users if user.user_id == user_id)
    account = next(
        a for a in population.accounts if a.account.account_id == user.account_id
    )
    note(f"{user}\n{account}")
    of_user = [sorted(row for row in part if row[0] == user_id)[:5] for part in (extra, lacking)]
    pytest.fail(
        f"{table.name} {names}\n"
        + "\n".join(["engine", *map(str, of_user[0]), "oracle", *map(str, of_user[1])])
    )
