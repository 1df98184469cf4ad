"""The rows of a day depend only on the facts dated up to that day."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstera_assets.warehouse.table_asset import TableAsset
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.lifecycle_warehouse import (
    HISTORY,
    TRANSITIONS,
    LifecycleWarehouse,
)
from monstera_assets_tests.helpers.memory_warehouse import Row
from monstera_assets_tests.inputs.strategies import (
    POLICIES,
    SPAN,
    Population,
    examples,
    populations,
)

POLICY = POLICIES[0]
DAYS = (date(2024, 1, 1), date(2024, 2, 29), date(2024, 4, 20))

scenarios = st.tuples(st.sampled_from(DAYS), populations(POLICY, users=80, accounts=25))


@pytest.fixture(scope="module")
def warehouse() -> LifecycleWarehouse:
    return LifecycleWarehouse()


@pytest.mark.parametrize("asset", [HISTORY, TRANSITIONS], ids=["history", "transitions"])
@examples(4)
@given(scenario=scenarios)
def test_a_day_depends_on_the_facts_up_to_it_alone(
    warehouse: LifecycleWarehouse, asset: TableAsset, scenario: tuple[date, Population]
) -> None:
    day, population = scenario
    accounts, users = population.accounts, population.users
    one_day = DateWindow(day, day)

    warehouse.load_facts(accounts, users)
    whole = warehouse.compute(asset, POLICY, SPAN)
    known_later = warehouse.compute(asset, POLICY, one_day)

    warehouse.load_facts(accounts, users, through=day)
    up_to_day = warehouse.compute(asset, POLICY, SPAN)
    known_then = warehouse.compute(asset, POLICY, one_day, as_of=day)

    slice_of_whole = dated(asset, whole, one_day)
    assert known_then == slice_of_whole
    assert known_later == slice_of_whole
    through_day = DateWindow(SPAN.first, day)
    assert dated(asset, up_to_day, through_day) == dated(asset, whole, through_day)


def dated(asset: TableAsset, rows: list[Row], window: DateWindow) -> list[Row]:
    names = [column.name for column in asset.table.columns]
    position = names.index(str(asset.table.partition_column))
    return [row for row in rows if window.first <= row[position] <= window.last]
