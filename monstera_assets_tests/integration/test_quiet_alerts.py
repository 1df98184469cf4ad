"""Alerts on rates are quiet on ordinary days and find large changes.

The two-proportion test assumes that people act independently of each other. Therefore, all accounts of
these companies pay, and none of them is paused, fails to pay or leaves, which would stop all of its
users on one day. The small company is computed by the graph. For the large company, the test counts
the rates from the simulated days of work, and the rules read these counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest

from monstera_assets.checks.rules import Rule
from monstera_assets.definitions import tables
from monstera_assets.gold import alerting
from monstera_assets.gold.gold_overall_metrics import TABLE as OVERALL
from monstera_assets.gold.gold_state_transition_metrics import TABLE as FLOWS
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.rates import DEFAULT_RATES
from monstera_assets.synthetic.simulation import Simulation
from monstera_assets.synthetic.writer import generate
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.integration.example_runs import Graph, computed_from
from monstera_assets_tests.memory_warehouse import MemoryWarehouse

pytestmark = pytest.mark.slow

DAYS = 240
"""Number of evaluated days, after the first days of a company that starts without users."""
COMPANY_DAYS = 548
MAX_SHARE_OF_DAYS = 0.02
RULES: Mapping[str, Rule] = {
    "churned": alerting.churn_rate_is_steady,
    "dormant": alerting.dormancy_rate_is_steady,
    "reactivated": alerting.reactivation_rate_is_steady,
    "activated": alerting.activation_rate_is_steady,
}
INDEPENDENT = DEFAULT_RATES.model_copy(
    update={
        "conversion_per_day": 1.0,
        "leaving_per_day": 0.0,
        "failure_per_day": 0.0,
        "pause_per_day": 0.0,
        # The rates depend on whether people work, not on the number of events.
        "events_per_active_day": 3.0,
    }
)

Count = tuple[int, int]
"""A part and its population."""
Counts = list[dict[str, Count]]
"""The counts of each rate by day."""


def company(users: int, seed: int) -> Company:
    return Company(users=users, days=COMPANY_DAYS, seed=seed, rates=INDEPENDENT)


def last_days(made: Company) -> list[date]:
    return [made.end - timedelta(days=n) for n in range(DAYS)]


def failing(
    connection: duckdb.DuckDBPyConnection, rules: Iterable[Rule], days: Sequence[date]
) -> dict[str, list[date]]:
    """Return the days as of which each rule fails."""
    relations = {table.name: table.relation for table in tables()}
    found = {}
    for rule in rules:
        query = rule.query([relations[name] for name in rule.inputs], LifecyclePolicy())
        found[rule.name] = [
            day for day in days if not rule.evaluate(connection, query, DateWindow(day, day)).passed
        ]
    return found


def share_of_days(found: Mapping[str, Sequence[date]]) -> float:
    return len({day for days in found.values() for day in days}) / DAYS


def test_rates_of_a_small_company_are_quiet(tmp_path: Path) -> None:
    made = company(2_000, 7)
    source = generate(made, tmp_path / "source").folder
    graph = Graph(source, tmp_path / "warehouse.duckdb", tmp_path / "home", made.first)
    with graph.instance:
        only = computed_from([FLOWS.name, OVERALL.name])
        assert graph.run(DateWindow(made.first, made.end), only=only).success
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        found = failing(
            connection, [*RULES.values(), alerting.dunning_is_recovered], last_days(made)
        )
    assert share_of_days(found) <= MAX_SHARE_OF_DAYS, found


# ---------------------------------------------------------------- a large company


def counted(made: Company) -> Counts:
    """Count each rate on each day, by the text of the framework.

    Nobody is in dunning in this company. Signups and activations are those of the simulation.
    """
    simulation = Simulation(made)
    people, never = simulation.people, 10**6
    first, last = np.full(made.users, never), np.full(made.users, -never)
    gaps: list[np.ndarray] = []
    counts: Counts = []
    for day, done in simulation.run():
        first[done.working] = np.minimum(first[done.working], day)
        last[done.working] = day
        gap, stays = day - last, people.deleted > day
        gaps.append(gap)
        # Seven days earlier: in use up to 30 days after the last use, dormant up to 60 days.
        then = gaps[day - 7] if day >= 7 else np.full(made.users, never)
        in_use, dormant = stays & (then <= 30), stays & (then > 30) & (then <= 60)
        churned = stays & (then > 60) & (then < never - COMPANY_DAYS)
        came_back = gap <= 6
        due = (people.signup >= day - 13) & (people.signup <= day - 7)
        parts = {
            "churned": (in_use | dormant, gap > 60),
            "dormant": (in_use, (gap > 30) & (gap <= 60)),
            "reactivated": (churned, came_back),
            "activated": (due, first - people.signup <= 7),
        }
        counts.append(
            {
                name: (int((population & part).sum()), int(population.sum()))
                for name, (population, part) in parts.items()
            }
        )
    return counts


@pytest.fixture(scope="module")
def large() -> tuple[Company, Counts]:
    made = company(20_000, 7)
    return made, counted(made)


def published(made: Company, counts: Counts) -> MemoryWarehouse:
    """Return a warehouse with the counts."""
    warehouse = MemoryWarehouse([FLOWS, OVERALL])
    rows = [
        {
            "metric_date": made.date_of(day),
            "scope": "platform",
            "from_state": "all",
            "to_state": "all",
            **{f"users_{name}_weekly": part for name, (part, _) in of_day.items()},
            **{f"users_{name}_population_weekly": size for name, (_, size) in of_day.items()},
        }
        for day, of_day in enumerate(counts)
    ]
    for table in (FLOWS, OVERALL):
        names = {column.name for column in table.columns}
        warehouse.load(table, [{name: row[name] for name in row if name in names} for row in rows])
    return warehouse


def test_rates_of_a_large_company_are_quiet(large: tuple[Company, Counts]) -> None:
    made, counts = large
    found = failing(published(made, counts).connection, RULES.values(), last_days(made))
    assert share_of_days(found) <= MAX_SHARE_OF_DAYS, found


@pytest.mark.parametrize(
    ("name", "change", "is_found"),
    [
        # Twice the thresholds of 20 %, 25 % and 15 %.
        ("churned", 0.4, True),
        ("reactivated", -0.5, True),
        ("activated", -0.3, True),
        # Twice the threshold of 10 %: of some 10,500 users in use, some 460 become dormant in a week.
        # 20 % more are z = 0.2 sqrt(460) / sqrt(2.2 * 0.95) = 2.97, and the limit is 3.29.
        ("dormant", 0.2, False),
        ("dormant", 0.3, True),
    ],
)
def test_a_change_for_a_week_is_found_within_seven_days(
    large: tuple[Company, Counts], name: str, change: float, *, is_found: bool
) -> None:
    """In the last week, the part grows or shrinks by the same number of people each day."""
    made, counts = large
    changed = [dict(of_day) for of_day in counts]
    part_before, population_before = counts[-8][name]
    for day in range(-7, 0):
        _, population = counts[day][name]
        share = part_before / population_before * (1 + change * (day + 8) / 7)
        changed[day][name] = (round(share * population), population)
    week = [made.end - timedelta(days=n) for n in range(7)]
    [days] = failing(published(made, changed).connection, [RULES[name]], week).values()
    assert bool(days) is is_found
