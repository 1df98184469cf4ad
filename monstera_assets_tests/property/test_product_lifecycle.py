"""The tables about users in products agree with the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import PRODUCT_TRANSITIONS
from monstera_assets_tests.helpers.lifecycle_warehouse import (
    ACTIVITY,
    CATALOG_NODES,
    EVENTS,
    INTERVALS,
    PRODUCT_HISTORY,
    PRODUCT_STATES,
    TRANSITIONS,
    LifecycleWarehouse,
)
from monstera_assets_tests.inputs.product_strategies import (
    POLICIES,
    PRODUCTS,
    Node,
    catalog_rows,
    populations,
    product_of,
)
from monstera_assets_tests.inputs.strategies import (
    SPAN,
    Population,
    ProductEvent,
    UserCase,
    examples,
    oracle_policy,
    qualifying_days,
)
from monstera_assets_tests.oracle.products import (
    ProductDay,
    product_history,
    product_transitions,
)
from monstera_assets_tests.property.comparison import compare

EDGES = {
    (str(origin), str(target))
    for origin, targets in PRODUCT_TRANSITIONS.items()
    for target in targets
}

scenarios = st.sampled_from((POLICIES[0], *POLICIES)).flatmap(
    lambda policy: st.tuples(st.just(policy), populations(policy, users=60))
)


@pytest.fixture(scope="module")
def warehouse() -> LifecycleWarehouse:
    warehouse = LifecycleWarehouse()
    warehouse.load(CATALOG_NODES, catalog_rows())
    return warehouse


@dataclass(frozen=True)
class Relationship:
    """A user in an active product, with the user's events and the rows that the oracle computes."""

    user: UserCase
    product: Node
    events: Sequence[ProductEvent]
    days: Sequence[ProductDay]

    def row(self, day: ProductDay) -> Mapping[str, object]:
        """Return the columns that the history and the current table share."""
        qualifying = [
            event.at
            for event in self.events
            if event.is_qualifying and event.at.date() <= day.snapshot_date
        ]
        return {
            "user_id": day.user_id,
            "product_id": day.product_id,
            "current_state": day.current_state,
            "state_since": day.state_since,
            "first_access_at": min(e.at for e in self.events) if day.is_stored else None,
            "first_access_date": day.first_access_date,
            "last_qualifying_event_at": max(qualifying, default=None),
            "activation_date": day.activation_date,
            "total_qualifying_events": day.total_qualifying_events,
        }

    def history_rows(self) -> list[Mapping[str, object]]:
        return [
            {**self.row(day), "snapshot_date": day.snapshot_date}
            for day in self.days
            if day.is_stored
        ]

    def current_row(self) -> Mapping[str, object]:
        as_of = self.days[-1].snapshot_date
        return {
            **self.row(self.days[-1]),
            "as_of_date": as_of,
            "state_updated_at": datetime.combine(as_of + timedelta(days=1), time.min),
        }

    def transition_rows(self) -> list[Mapping[str, object]]:
        return [
            {
                "user_id": self.user.user_id,
                "scope": "product",
                "product_id": self.product.product_id,
                "from_state": move.from_state,
                "to_state": move.to_state,
                "transition_date": move.transition_date,
                "triggering_event_id": move.triggering_event_id,
                "days_in_previous_state": move.days_in_previous_state,
            }
            for move in product_transitions(self.days)
        ]


@examples(4)
@given(scenario=scenarios)
def test_history_states_and_transitions_are_the_oracles(
    warehouse: LifecycleWarehouse, scenario: tuple[LifecyclePolicy, Population]
) -> None:
    policy, population = scenario
    load(warehouse, population)
    relationships = oracle_relationships(policy, population)

    compare(
        [column.name for column in PRODUCT_HISTORY.table.columns],
        warehouse.compute(PRODUCT_HISTORY, policy, SPAN),
        [row for relationship in relationships for row in relationship.history_rows()],
        population.facts_of_user,
    )
    warehouse.compute(INTERVALS, policy)
    compare(
        [column.name for column in PRODUCT_STATES.table.columns],
        warehouse.compute(PRODUCT_STATES, policy),
        [relationship.current_row() for relationship in relationships if relationship.days],
        population.facts_of_user,
    )
    transitions = [
        row for row in warehouse.compute(TRANSITIONS, policy, SPAN) if row[1] == "product"
    ]
    compare(
        [column.name for column in TRANSITIONS.table.columns],
        transitions,
        [row for relationship in relationships for row in relationship.transition_rows()],
        population.facts_of_user,
    )
    assert {(row[3], row[4]) for row in transitions} <= EDGES


def oracle_relationships(policy: LifecyclePolicy, population: Population) -> list[Relationship]:
    """Return the oracle's result for every user in every active product, up to the end of the span."""
    relationships = []
    for user in population.users:
        for product in PRODUCTS:
            events = [e for e in user.events if product_of(e.node_id) == product.product_id]
            days = product_history(
                user.user_id,
                product.product_id,
                user.signed_up_at.date(),
                SPAN.last,
                first_access=first_day(events),
                activation=first_day([event for event in events if event.is_activating]),
                qualifying_days=qualifying_days(events),
                active_days=product.active_days,
                dormant_days=product.dormant_days,
                policy=oracle_policy(policy),
            )
            relationships.append(Relationship(user, product, events, days))
    return relationships


def first_day(events: Sequence[ProductEvent]) -> date | None:
    return min((event.at.date() for event in events), default=None)


def load(warehouse: LifecycleWarehouse, population: Population) -> None:
    """Replace all facts and add events of other entity types that have the ids of users."""
    warehouse.load_facts(population.accounts, population.users)
    of_users = [row for user in population.users for row in user.event_rows]
    of_others: list[Mapping[str, object]] = [
        {**row, "event_id": f"{entity_type}-{row['event_id']}", "entity_type": entity_type}
        for entity_type, row in zip(("admin", "system", "account"), of_users, strict=False)
    ]
    warehouse.load(EVENTS, of_users + of_others)
    warehouse.compute(ACTIVITY)
