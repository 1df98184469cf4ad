"""The state engine with two key columns, windows per key and no returning state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from random import Random

import duckdb
import ibis
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstera_assets.lifecycle.intervals import (
    activity_intervals,
    day_date,
    on_each_day,
    with_state_since,
)
from monstera_assets.lifecycle.products import PRODUCT_LABELS
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets_tests.inputs.strategies import SPAN, edges, examples, on
from monstera_assets_tests.oracle.policy import OraclePolicy
from monstera_assets_tests.oracle.products import ProductDay, product_history, product_transitions
from monstera_assets_tests.oracle.users import QualifyingDay
from monstera_assets_tests.property.comparison import compare

EPOCH = date(1970, 1, 1)
KEYS = ("user_id", "product_id")
DAYS = (*KEYS, "day", "state", "state_since", "last_activity_date", "total")
MOVES = (*KEYS, "day", "from_state", "to_state", "event_id", "days_in_previous_state")

STARTS = ibis.table(
    {
        **dict.fromkeys(KEYS, "string"),
        **dict.fromkeys(("start_day", "new_until", "active_days", "dormant_days"), "int64"),
    },
    name="starts",
)
ACTIVITY = ibis.table(
    {
        **dict.fromkeys(KEYS, "string"),
        "activity_day": "int64",
        "activated": "boolean",
        "total": "int64",
        "event_id": "string",
    },
    name="activity",
)


@dataclass(frozen=True)
class Use:
    """The use of one product by one user, with days counted from the first day of the span."""

    user_id: str
    product_id: str
    start: int
    new_days: int
    active_days: int
    dormant_days: int
    days: tuple[int, ...]
    activated_on: int | None

    def history(self) -> list[ProductDay]:
        return product_history(
            self.user_id,
            self.product_id,
            on(self.start),
            SPAN.last,
            first_access=on(self.start),
            activation=None if self.activated_on is None else on(self.activated_on),
            qualifying_days=[QualifyingDay(on(day), 2, f"on day {day}") for day in self.days],
            active_days=self.active_days,
            dormant_days=self.dormant_days,
            policy=OraclePolicy(new_user_days=self.new_days),
        )


def some_use(random: Random, user_id: str, product_id: str) -> Use:
    """Draw days of use whose distances are close to the lengths of the windows."""
    new_days = random.choice((0, 1, 14, 30))
    active_days = random.choice((1, 5, 30))
    dormant_days = active_days + random.choice((0, 1, 9, 30))
    start = random.choice((0, 3, 88, 89, 90))
    days, day = list[int](), start + random.choice((0, 1, *edges(new_days)))
    for _ in range(random.randrange(9)):
        days.append(day)
        day += random.choice((1, 1, 2, *edges(new_days, active_days, dormant_days)))
        day += 1 if day == days[-1] else 0
    return Use(
        user_id,
        product_id,
        start,
        new_days,
        active_days,
        dormant_days,
        tuple(days),
        activated_on=random.choice((None, *days)),
    )


uses = st.randoms(use_true_random=True).map(
    lambda random: [
        some_use(random, f"u{user:02}", product)
        for user in range(60)
        for product in ("editor", "boards")
    ]
)


@pytest.fixture(scope="module")
def queries() -> tuple[str, str]:
    """Return the queries for the states on each day of the span and for the transitions within it."""
    by_key = ibis.window(group_by=list(KEYS), order_by="activity_day")
    activity = ACTIVITY.mutate(
        previous_day=ACTIVITY.activity_day.lag().over(by_key),
        next_day=ACTIVITY.activity_day.lead().over(by_key),
        activated_before=ACTIVITY.activated.lag().over(by_key).fill_null(False),
    )
    intervals = with_state_since(
        activity_intervals(STARTS, activity, keys=KEYS, labels=PRODUCT_LABELS),
        keys=KEYS,
        state="activity_state",
    )
    days = on_each_day(intervals, SPAN.first, SPAN.last, day_column="number")
    states = days.select(
        *KEYS,
        day=day_date(days.number),
        state=days.activity_state,
        state_since=day_date(days.state_since),
        last_activity_date=day_date(days.last_activity_day),
        total=days.total.fill_null(0),
    )
    in_order = ibis.window(group_by=list(KEYS), order_by="valid_from")
    moves = intervals.mutate(previous_since=intervals.state_since.lag().over(in_order))
    moves = moves.filter(moves.previous_state != moves.activity_state)
    by_activity = (moves.valid_from == moves.last_activity_day) & moves.activity_decides
    moves = moves.select(
        *KEYS,
        day=day_date(moves.valid_from),
        from_state=moves.previous_state,
        to_state=moves.activity_state,
        event_id=ibis.ifelse(by_activity, moves.event_id, None),
        days_in_previous_state=moves.valid_from - moves.previous_since,
    )
    return compile_duckdb(states), compile_duckdb(moves.filter(moves.day <= SPAN.last))


@examples(5)
@given(batch=uses)
def test_states_and_moves_are_the_oracles(queries: tuple[str, str], batch: list[Use]) -> None:
    histories = [use.history() for use in batch]

    def facts(user_id: str) -> str:
        return "\n".join(str(use) for use in batch if use.user_id == user_id)

    with duckdb.connect() as connection:
        connection.register("starts", start_rows(batch))
        connection.register("activity", activity_rows(batch))
        states, moves = (connection.execute(query).fetchall() for query in queries)
    compare(DAYS, states, [day_row(day) for days in histories for day in days], facts)
    compare(MOVES, moves, [move for days in histories for move in move_rows(days)], facts)


def start_rows(batch: list[Use]) -> pd.DataFrame:
    first = (SPAN.first - EPOCH).days
    return pd.DataFrame(
        {
            "user_id": use.user_id,
            "product_id": use.product_id,
            "start_day": first + use.start,
            "new_until": first + use.start + use.new_days,
            "active_days": use.active_days,
            "dormant_days": use.dormant_days,
        }
        for use in batch
    )


def activity_rows(batch: list[Use]) -> pd.DataFrame:
    """Return the `activity` input of the engine, with two events per day and running totals."""
    first = (SPAN.first - EPOCH).days
    rows = [
        {
            "user_id": use.user_id,
            "product_id": use.product_id,
            "activity_day": first + day,
            "activated": use.activated_on is not None and use.activated_on <= day,
            "total": 2 * (n + 1),
            "event_id": f"on day {day}",
        }
        for use in batch
        for n, day in enumerate(use.days)
    ]
    return pd.DataFrame(rows, columns=list(ACTIVITY.columns))


def day_row(day: ProductDay) -> Mapping[str, object]:
    return {
        "user_id": day.user_id,
        "product_id": day.product_id,
        "day": day.snapshot_date,
        "state": day.current_state,
        "state_since": day.state_since,
        "last_activity_date": day.last_qualifying_date,
        "total": day.total_qualifying_events,
    }


def move_rows(days: list[ProductDay]) -> list[Mapping[str, object]]:
    return [
        {
            "user_id": days[0].user_id,
            "product_id": days[0].product_id,
            "day": move.transition_date,
            "from_state": move.from_state,
            "to_state": move.to_state,
            "event_id": move.triggering_event_id,
            "days_in_previous_state": move.days_in_previous_state,
        }
        for move in product_transitions(days)
    ]
