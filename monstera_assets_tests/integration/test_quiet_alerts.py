"""Alerts on rates are quiet on ordinary days and find large changes.

The companies have the generator's default rates: accounts are paused, fail to pay and leave, which
stops all of an account's users at once. The graph computes one small company. For the other companies,
the test counts the rates from the simulated days of work and writes the users' state intervals, and the
rules read these tables. The first test compares the rates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache, cached_property
from pathlib import Path

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray

from monstera_assets.checks.rules import Rule
from monstera_assets.definitions import tables
from monstera_assets.gold import alerting
from monstera_assets.gold.gold_overall_metrics import TABLE as OVERALL
from monstera_assets.gold.gold_state_transition_metrics import TABLE as FLOWS
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.silver.silver_user_state_intervals import TABLE as INTERVALS
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.simulation import Simulation
from monstera_assets.synthetic.writer import generate
from monstera_assets.warehouse.compiler import compile_query
from monstera_assets.warehouse.duckdb_engine import DuckDBEngine
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse
from monstera_assets_tests.integration.example_runs import Graph, computed_from

pytestmark = pytest.mark.slow

DAYS = 240
"""Number of evaluated days, after the first days of a company that starts without users."""
COMPANY_DAYS = 548
MAX_SHARE_OF_DAYS = 0.02
HISTORY_DAYS = 36
"""Days that a rule reads: the last day, 4 weeks before it, and 7 days before the first of them."""
RULES: Mapping[str, Rule] = {
    "churned": alerting.churn_rate_is_steady,
    "dormant": alerting.dormancy_rate_is_steady,
    "reactivated": alerting.reactivation_rate_is_steady,
    "activated": alerting.activation_rate_is_steady,
}
THRESHOLDS = {"churned": 0.2, "dormant": 0.1, "reactivated": -0.25, "activated": -0.15}
NEVER = 10**6

Count = tuple[int, int]
"""A part and its population."""
Counts = dict[int, dict[str, Count]]
"""The counts of each rate by day."""
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Work:
    """On which days each user of a company worked. Days are numbered from 0."""

    company: Company
    worked: Flags  # a row per day, a column per user
    signup: NDArray[np.int64]
    deleted: NDArray[np.int64]
    account: NDArray[np.int64]

    @cached_property
    def last_use(self) -> NDArray[np.int64]:
        """Return each user's last day of work by the end of each day."""
        days = np.arange(len(self.worked))[:, None]
        return np.maximum.accumulate(np.where(self.worked, days, -NEVER), axis=0)

    @cached_property
    def first_use(self) -> NDArray[np.int64]:
        """Return each user's first day of work."""
        return np.where(self.worked.any(axis=0), self.worked.argmax(axis=0), NEVER)


@cache
def work(users: int, seed: int) -> Work:
    """Simulate a company with the default rates."""
    company = Company(users=users, days=COMPANY_DAYS, seed=seed)
    simulation = Simulation(company)
    worked = np.zeros((COMPANY_DAYS, users), dtype=np.bool_)
    for day, done in simulation.run():
        worked[day, done.working] = True
    people = simulation.people
    return Work(company, worked, people.signup, people.deleted, people.account)


def members(of: Work, day: int) -> dict[str, tuple[Flags, Flags]]:
    """Return each rate's population and part on a day, by the text of the framework.

    Dunning does not matter: in the rates, it counts as in use, like active.
    """
    last, first = of.last_use, of.first_use
    stays, gap, then = of.deleted > day, day - last[day], day - 7 - last[day - 7]
    # Seven days earlier: in use up to 30 days after the last use, dormant up to 60 days.
    in_use, dormant = stays & (then <= 30), stays & (then > 30) & (then <= 60)
    churned = stays & (then > 60) & (then < NEVER - COMPANY_DAYS)
    due = (of.signup >= day - 13) & (of.signup <= day - 7)
    return {
        "churned": (in_use | dormant, gap > 60),
        "dormant": (in_use, (gap > 30) & (gap <= 60)),
        "reactivated": (churned, gap <= 6),
        "activated": (due, first - of.signup <= 7),
    }


def counted(of: Work, days: Iterable[int]) -> Counts:
    """Count the rates on the given days."""
    return {
        day: {
            name: (int((population & part).sum()), int(population.sum()))
            for name, (population, part) in members(of, day).items()
        }
        for day in days
    }


def is_crossed(name: str, now: Count, before: Count) -> bool:
    """Return whether a rate has changed by more than its threshold."""
    if not now[1] or not before[0]:
        return False  # no rate, or a change of nothing
    change = (now[0] / now[1]) / (before[0] / before[1]) - 1
    threshold = THRESHOLDS[name]
    return change > threshold if threshold > 0 else change < threshold


def published(of: Work, counts: Counts) -> MemoryWarehouse:
    """Return a warehouse with the rates, and the intervals that end after the first day's week."""
    warehouse = MemoryWarehouse([FLOWS, OVERALL, INTERVALS])
    rows = [
        {
            "metric_date": of.company.date_of(day),
            "scope": "platform",
            "from_state": "all",
            "to_state": "all",
            **{f"users_{name}_weekly": part for name, (part, _) in of_day.items()},
            **{f"users_{name}_population_weekly": size for name, (_, size) in of_day.items()},
        }
        for day, of_day in counts.items()
    ]
    for table in (FLOWS, OVERALL):
        names = {column.name for column in table.columns}
        warehouse.load(table, [{name: row[name] for name in row if name in names} for row in rows])
    _load_intervals(warehouse, of, min(counts) - 7)
    return warehouse


def _load_intervals(warehouse: MemoryWarehouse, of: Work, first_day: int) -> None:
    """Write the intervals of active, dormant, churned, new and deleted users from a day on."""
    user, used = np.nonzero(of.worked.T)
    same = np.append(user[1:] == user[:-1], False)
    next_use = np.where(same, np.append(used[1:], NEVER), NEVER)
    everyone, first = np.arange(of.company.users), of.first_use
    nothing = np.full(of.company.users, -1)
    parts = [
        ("active", user, used, np.minimum(used + 31, next_use), used),
        ("dormant", user, used + 31, np.minimum(used + 61, next_use), used),
        ("churned", user, used + 61, next_use, used),
        ("new", everyone, of.signup, np.minimum(of.signup + 31, first), nothing),
        ("churned", everyone, of.signup + 31, first, nothing),
    ]
    # Deletion ends all of these.
    parts = [
        (state, who, a, np.minimum(b, of.deleted[who]), use) for state, who, a, b, use in parts
    ]
    parts.append(("deleted", everyone, of.deleted, np.full(len(everyone), NEVER), nothing))
    states = np.repeat(np.array([state for state, *_ in parts]), [len(who) for _, who, *_ in parts])
    who, begins, ends, use = (np.concatenate([part[n] for part in parts]) for n in range(1, 5))
    kept = (begins < ends) & (ends > first_day) & (begins < COMPANY_DAYS)
    columns = {
        "user_id": who[kept],
        "account_id": of.account[who[kept]],
        "state": states[kept].astype(object),
        "begins": begins[kept],
        "ends": ends[kept],
        "used": use[kept],
        "signup": of.signup[who[kept]],
    }
    warehouse.connection.register("given", columns)
    day = f"(DATE '{of.company.first}' + {{}}::INTEGER)".format
    given = {
        "user_id": "user_id::VARCHAR",
        "account_id": "account_id::VARCHAR",
        "valid_from": day("begins"),
        "valid_to": f"CASE WHEN ends < {COMPANY_DAYS} THEN {day('ends')} END",
        "platform_state": "state",
        "last_qualifying_date": f"CASE WHEN used >= 0 THEN {day('used')} END",
        "signup_date": day("signup"),
    }
    # The rules do not read the other columns.
    other = {"VARCHAR": "''", "BOOLEAN": "false", "BIGINT": "0", "DATE": "DATE '2000-01-01'"}
    selected = ", ".join(
        f"{given.get(c.name) or ('NULL' if c.nullable else other[c.stored_type])} AS {c.name}"
        for c in INTERVALS.columns
    )
    warehouse.store(INTERVALS, f"SELECT {selected} FROM given")
    warehouse.connection.unregister("given")


def last_days(company: Company, number: int = DAYS) -> list[date]:
    return [company.end - timedelta(days=n) for n in range(number)]


def failing(
    connection: duckdb.DuckDBPyConnection, rules: Iterable[Rule], days: Sequence[date]
) -> dict[str, list[date]]:
    """Return the days as of which each rule fails."""
    relations = {table.name: table.relation for table in tables()}
    found = {}
    for rule in rules:
        query = compile_query(
            rule.rows([relations[name] for name in rule.inputs], LifecyclePolicy())
        )
        found[rule.name] = [
            day
            for day in days
            if not rule.evaluate(DuckDBEngine(connection), query, DateWindow(day, day)).passed
        ]
    return found


def share_of_days(found: Mapping[str, Sequence[date]]) -> float:
    return len({day for days in found.values() for day in days}) / DAYS


def test_rates_of_a_small_company_are_quiet(tmp_path: Path) -> None:
    made = work(2_000, 7)
    first, end = made.company.first, made.company.end
    source = generate(made.company, tmp_path / "source").folder
    graph = Graph(source, tmp_path / "warehouse.duckdb", tmp_path / "home", first)
    with graph.instance:
        only = computed_from([FLOWS.name, OVERALL.name])
        assert graph.run(DateWindow(first, end), only=only).success
    names = {name: f"users_{name}_weekly, users_{name}_population_weekly" for name in RULES}
    with duckdb.connect(str(graph.database), read_only=True) as connection:
        found = failing(
            connection,
            [*RULES.values(), alerting.dunning_is_recovered],
            last_days(made.company),
        )
        rates = connection.execute(
            f"SELECT {', '.join(names.values())} FROM gold.{FLOWS.name}"
            f" JOIN gold.{OVERALL.name} USING (metric_date)"
            " WHERE scope = 'platform' AND from_state = 'all' ORDER BY metric_date"
        ).fetchall()
    assert share_of_days(found) <= MAX_SHARE_OF_DAYS, found
    # The rates of the other companies are counted in the same way.
    days = range(COMPANY_DAYS - DAYS, COMPANY_DAYS)
    for day, of_day in counted(made, days).items():
        assert rates[day] == tuple(n for count in of_day.values() for n in count), day


@pytest.mark.parametrize("seed", [7, 1, 2, 3, 4])
@pytest.mark.parametrize("users", [2_000, 20_000])
def test_rates_of_other_companies_are_quiet(users: int, seed: int) -> None:
    made = work(users, seed)
    days = range(COMPANY_DAYS - DAYS - HISTORY_DAYS, COMPANY_DAYS)
    counts = counted(made, days)
    connection = published(made, counts).connection
    found: dict[str, list[date]] = {}
    number_crossed = 0
    for name, rule in RULES.items():
        # On other days, the rule passes without the test of chance.
        crossed = [
            made.company.date_of(day)
            for day in days[-DAYS:]
            if is_crossed(name, counts[day][name], counts[day - 7][name])
        ]
        # In some large companies, activation never crosses its threshold.
        number_crossed += len(crossed)
        found |= failing(connection, [rule], crossed)
    assert number_crossed >= DAYS / 10
    assert share_of_days(found) <= MAX_SHARE_OF_DAYS, found


# ---------------------------------------------------------------- planted changes


def planted(of: Work, name: str, change: float, end: int) -> Work:
    """Change what people do, so that a rate grows or shrinks by a share within a week.

    The rate on the day `end` covers the whole week of the change:

    - dormant, churned: in one week, more people stop working. They become dormant (churned) 31 (61)
      days after their last day of work, which is in the 7 days that end on `end`.
    - reactivated: in the 7 days that end on `end`, some of the people who come back stay away instead.
    - activated: some of the people who signed up in one week do not work in their first 8 days.
    """
    rng = np.random.default_rng(end)
    worked = of.worked[: end + 1].copy()
    population, part = members(replace(of, worked=worked), end)[name]
    number = round(abs(change) * int((population & part).sum()))
    if name in ("dormant", "churned"):
        week = slice(end - 6 - (31 if name == "dormant" else 61), None)
        days = worked[week][:7]
        people = np.flatnonzero(days.any(axis=0) & population & ~part)
        for user in rng.permutation(people)[:number]:
            last = week.start + rng.choice(np.flatnonzero(days[:, user]))
            worked[last + 1 :, user] = False
        return replace(of, worked=worked)
    for user in rng.permutation(np.flatnonzero(population & part))[:number]:
        first = end - 6 if name == "reactivated" else of.signup[user]
        worked[first : first + 8, user] = False
    return replace(of, worked=worked)


@pytest.mark.parametrize(
    ("name", "change", "is_found"),
    [
        # Twice the thresholds of 20 %, 25 % and 15 %.
        ("churned", 0.4, True),
        ("reactivated", -0.5, True),
        ("activated", -0.3, True),
        # Twice the threshold of 10 % is not always found: some 440 of 8,400 users become dormant in a
        # week. The expected z of 20 % more is 0.2 sqrt(440) / sqrt(1.25 * 0.95) = 3.8, 0.5 above the
        # limit of 3.29 (docs/how-to/alerts.md). In this company, the week has fewer by chance.
        ("dormant", 0.2, False),
        ("dormant", 0.3, True),
    ],
)
def test_a_change_for_a_week_is_found_within_seven_days(
    name: str, change: float, *, is_found: bool
) -> None:
    made = planted(work(20_000, 7), name, change, COMPANY_DAYS - 1)
    days = range(COMPANY_DAYS - 7 - HISTORY_DAYS, COMPANY_DAYS)
    connection = published(made, counted(made, days)).connection
    [found] = failing(connection, [RULES[name]], last_days(made.company, 7)).values()
    assert bool(found) is is_found
