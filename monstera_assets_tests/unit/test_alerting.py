"""Test alert rules on both sides of each threshold, and with too few rows to evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import pytest

from monstera_assets.bronze import (
    bronze_accounts,
    bronze_loads,
    bronze_rejected_events,
    bronze_subscription_events,
    bronze_users,
)
from monstera_assets.checks.rules import AlertLevel, Rule
from monstera_assets.definitions import rules
from monstera_assets.gold import (
    alerting,
    gold_activity_metrics,
    gold_overall_metrics,
    gold_segment_metrics,
    gold_state_transition_metrics,
)
from monstera_assets.lifecycle.policy import AlertPolicy, LifecyclePolicy
from monstera_assets.silver import silver_user_state_intervals
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.tables import Table
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse

LAST = date(2025, 6, 30)
WINDOW = DateWindow(LAST - timedelta(days=2), LAST)
POLICY = LifecyclePolicy()
OVERALL, FLOWS, SEGMENTS, ACTIVITY, LOADS, INTERVALS = (
    module.TABLE
    for module in (
        gold_overall_metrics,
        gold_state_transition_metrics,
        gold_segment_metrics,
        gold_activity_metrics,
        bronze_loads,
        silver_user_state_intervals,
    )
)
REJECTED = bronze_rejected_events.TABLE
DATED = (bronze_subscription_events.TABLE, bronze_users.TABLE, bronze_accounts.TABLE, REJECTED)
TABLES = {
    table.name: table for table in (OVERALL, FLOWS, SEGMENTS, ACTIVITY, LOADS, INTERVALS, *DATED)
}


@pytest.fixture(scope="module")
def made() -> MemoryWarehouse:
    return MemoryWarehouse(TABLES.values())


def ago(days: int) -> date:
    return LAST - timedelta(days=days)


def found(
    made: MemoryWarehouse,
    rule: Rule,
    facts: Mapping[str, Sequence[Mapping[str, Any]]],
    policy: LifecyclePolicy = POLICY,
) -> list[tuple[Any, ...]]:
    for name in rule.inputs:
        made.load(TABLES[name], facts[name])
    relations = [TABLES[name].relation for name in rule.inputs]
    return made.rows(compile_duckdb(rule.violations(relations, policy=policy, window=WINDOW)))


def reasons(
    made: MemoryWarehouse, rule: Rule, facts: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[str]:
    """Return the reasons why a rule does not evaluate the given rows."""
    for name in rule.inputs:
        made.load(TABLES[name], facts[name])
    relations = [TABLES[name].relation for name in rule.inputs]
    notes = rule.not_evaluated(relations, policy=POLICY, window=WINDOW)
    assert notes is not None
    return [reason for (reason,) in made.rows(compile_duckdb(notes))]


Share = tuple[int | None, int | None]
"""A part and its population."""

RATES: dict[str, tuple[Rule, Table, str, tuple[int, int], tuple[int, int]]] = {
    # For each rule: the table, the rate, and a passing and a failing number of 100,000 people after
    # 20,000 one week earlier.
    "churn": (
        *(alerting.churn_rate_is_steady, FLOWS, "users_churned"),
        *((24_000, 24_001), (16_000, 28_000)),
    ),
    "dormancy": (
        *(alerting.dormancy_rate_is_steady, FLOWS, "users_dormant"),
        *((22_000, 22_001), (18_000, 24_000)),
    ),
    "reactivation": (
        *(alerting.reactivation_rate_is_steady, FLOWS, "users_reactivated"),
        *((15_000, 14_999), (25_000, 12_000)),
    ),
    "activation": (
        *(alerting.activation_rate_is_steady, OVERALL, "users_activated"),
        *((17_000, 16_999), (23_000, 14_000)),
    ),
}


def rate_facts(
    table: Table, rate: str, now: Share, before: Share | None
) -> dict[str, list[dict[str, Any]]]:
    """Return a rate on the last day and one week earlier, and other figures that must not count."""

    def row(
        days_ago: int, share: Share, scope: str = "platform", state: str = "all"
    ) -> dict[str, Any]:
        of_scope = {"scope": scope, "from_state": state, "to_state": state}
        return {
            "metric_date": ago(days_ago),
            f"{rate}_weekly": share[0],
            f"{rate}_population_weekly": share[1],
            **(of_scope if table is FLOWS else {}),
        }

    days = [row(0, now), row(1, (1, 2)), row(8, (1, 2))]
    if before is not None:
        days.append(row(7, before))
    if table is FLOWS:
        days += [row(n, (1, 2), "product") for n in (0, 7)]
        days += [row(n, (None, None), "platform", "active") for n in (0, 7)]
    return {table.name: days, INTERVALS.name: []}


@pytest.mark.parametrize("name", RATES)
def test_a_rate_fails_beyond_its_threshold(made: MemoryWarehouse, name: str) -> None:
    rule, table, rate, (passing, failing), (other_way, _) = RATES[name]
    before = (20_000, 100_000)
    for part, count in ((passing, 0), (failing, 1), (other_way, 0), (20_000, 0)):
        rows = found(made, rule, rate_facts(table, rate, (part, 100_000), before))
        assert len(rows) == count
    [row] = found(made, rule, rate_facts(table, rate, (failing, 100_000), before))
    assert failing / 100_000 in row
    assert 0.2 in row


@pytest.mark.parametrize("name", RATES)
def test_a_rate_of_few_people_is_not_evaluated(made: MemoryWarehouse, name: str) -> None:
    """A change from none of 30 people to all of them, or back, is significant."""
    rule, table, rate, _, (_, failing) = RATES[name]
    rises = failing > 20_000
    for people in ((30, 30), (29, 30), (30, 29), (29, 29)):
        now, before = (people[0], 1) if rises else (1, people[1])
        shares = (now, people[0]), (before, people[1])
        facts = rate_facts(table, rate, *shares)
        too_few = min(people) < POLICY.alerts.min_alert_population
        assert len(found(made, rule, facts)) == (0 if too_few else 1)
        notes = reasons(made, rule, facts)
        assert len(notes) == (1 if too_few else 0)
        assert all(
            note.startswith("not evaluated: only 29 people (minimum 30) for Users ")
            for note in notes
        )


@pytest.mark.parametrize("name", RATES)
def test_a_rate_without_comparison_is_not_evaluated(made: MemoryWarehouse, name: str) -> None:
    rule, table, rate, _, (_, failing) = RATES[name]
    share = (failing, 100_000)
    for now, before in (
        (share, None),  # the first week
        (share, (0, 100_000)),  # a change of nothing
        (share, (0, 0)),
        ((0, 0), share),
        ((0, 100_000), (0, 100_000)),
        ((100_000, 100_000), (100_000, 100_000)),
    ):
        assert found(made, rule, rate_facts(table, rate, now, before)) == []


@pytest.mark.parametrize(
    ("now", "before", "count"),
    [
        # Of 1,000 people each, 200 before: with 264, p = 0.232 and z = 64 / sqrt(0.232 * 0.768 * 2 *
        # 1,000) = 64 / 18.878 = 3.390. The limit is 3.2905, the quantile of the standard normal
        # distribution at 0.9995. With 261, p = 0.2305 and z = 61 / 18.835 = 3.239.
        ((264, 1_000), (200, 1_000), 1),
        ((262, 1_000), (200, 1_000), 0),
        ((261, 1_000), (200, 1_000), 0),
        # Of 900 and 1,100 people: p = 458 / 2,000 = 0.229, 238 / 900 - 220 / 1,100 = 0.06444 and
        # z = 0.06444 / sqrt(0.229 * 0.771 * (1 / 900 + 1 / 1,100)) = 0.06444 / 0.018886 = 3.412.
        ((238, 900), (220, 1_100), 1),
        ((235, 900), (220, 1_100), 0),
        # Twice as many, but few.
        ((20, 100), (10, 100), 0),
        ((200, 1_000), (100, 1_000), 1),
    ],
)
def test_a_change_of_a_rate_is_beyond_chance(
    made: MemoryWarehouse, now: Share, before: Share, count: int
) -> None:
    rule = alerting.churn_rate_is_steady
    assert len(found(made, rule, rate_facts(FLOWS, "users_churned", now, before))) == count


def weekly(
    table: Table, rate: str, now: int, before: Sequence[int]
) -> dict[str, list[dict[str, Any]]]:
    """Return a rate of 1,000 people on the last day and in the weeks before."""
    facts = rate_facts(table, rate, (now, 1_000), (before[0], 1_000))
    for week, part in enumerate(before[1:], start=2):
        [row] = rate_facts(table, rate, (part, 1_000), None)[table.name][:1]
        facts[table.name].append({**row, "metric_date": ago(7 * week)})
    return facts


@pytest.mark.parametrize(
    ("now", "before", "count"),
    [
        # Of 1,000 people in each week. After 4 weeks with 200: with 248, p = 1,048 / 5,000 = 0.2096 and
        # z = 0.048 / sqrt(0.2096 * 0.7904 * (1 / 1,000 + 1 / 4,000)) = 0.048 / 0.014391 = 3.336. The
        # limit is 3.2905. With 247, z = 0.047 / 0.014385 = 3.267.
        (248, (200, 200, 200, 200), 1),
        (247, (200, 200, 200, 200), 0),
        # After only one week: z = 0.048 / sqrt(0.224 * 0.776 * 2 / 1,000) = 0.048 / 0.018645 = 2.574.
        (248, (200,), 0),
        # After 2 weeks: with 253, p = 653 / 3,000 and z = 0.053 / sqrt(0.21767 * 0.78233 * 1.5 / 1,000)
        # = 0.053 / 0.015982 = 3.316. With 252, z = 0.052 / 0.015973 = 3.255.
        (253, (200, 200), 1),
        (252, (200, 200), 0),
        # Only the week before was low: 950 of 4,000, z = 0.0125 / 0.0151 = 0.83.
        (250, (200, 250, 250, 250), 0),
        # A fifth week does not count.
        (248, (200, 200, 200, 200, 600), 1),
        # The threshold is compared with the week before: a rise of 200 / 1,000 in 2 weeks.
        (300, (260, 100, 100, 100), 0),
    ],
)
def test_a_change_is_tested_against_the_four_weeks_before(
    made: MemoryWarehouse, now: int, before: Sequence[int], count: int
) -> None:
    facts = weekly(FLOWS, "users_churned", now, before)
    assert len(found(made, alerting.churn_rate_is_steady, facts)) == count


def stopping(account: str, users: int) -> list[dict[str, Any]]:
    """Return the intervals of users who were in use 7 days before the last day, and are churned now."""
    return [
        {
            "user_id": f"{account}_{user}",
            "account_id": account,
            "platform_state": state,
            "valid_from": ago(begins),
            "valid_to": ends,
            "last_qualifying_date": ago(65),
            "signup_date": ago(100),
        }
        for user in range(users)
        for state, begins, ends in (("dormant", 10, ago(3)), ("churned", 3, None))
    ]


@pytest.mark.parametrize(
    ("now", "accounts", "users", "count"),
    [
        # Of an account's 60 members, 0.2 * 60 = 12 are expected to churn, with the standard deviation
        # sqrt(60 * 0.2 * 0.8) = 3.098. At most 12 + 2.5 * 3.098 = 19.7, rounded down to 19, count in
        # the test. All 60 churned, so 41 do not count. 289 - 41 = 248 of 1,000 are significant, and
        # 247 are not.
        (289, 1, 60, 1),
        (288, 1, 60, 0),
        # Two such accounts.
        (330, 2, 60, 1),
        (329, 2, 60, 0),
        # An account of one member is within bounds.
        (248, 60, 1, 1),
        (247, 60, 1, 0),
        # Of 2 members, 0.4 + 2.5 * 0.566 = 1.8 are rounded down to 1.
        (278, 30, 2, 1),
        (277, 30, 2, 0),
        # Of 499 members, 99.8 + 2.5 * 8.935 = 122.1 are rounded down to 122. 625 - 377 = 248.
        (625, 1, 499, 1),
        (624, 1, 499, 0),
        # Half of 1,000 people have no bounds.
        (248, 1, 500, 1),
        (247, 1, 500, 0),
    ],
)
def test_an_account_counts_within_the_bounds_of_chance(
    made: MemoryWarehouse, now: int, accounts: int, users: int, count: int
) -> None:
    facts = weekly(FLOWS, "users_churned", now, (200, 200, 200, 200))
    facts[INTERVALS.name] = [
        row for number in range(accounts) for row in stopping(f"a{number}", users)
    ]
    rows = found(made, alerting.churn_rate_is_steady, facts)
    assert len(rows) == count
    # The alert shows the rate of all people.
    assert all(now / 1_000 in row for row in rows)


@pytest.mark.parametrize(
    ("now", "used", "count"),
    [
        # Of 60 members, at least 12 - 2.5 * 3.098 = 4.3, rounded up to 5, count in the test. Nobody is
        # activated: with 149, 154 count, p = 954 / 5,000 = 0.1908 and z = 0.046 / sqrt(0.1908 * 0.8092
        # * 0.00125) = 0.046 / 0.013892 = 3.311. With 155, z = 0.045 / 0.013898 = 3.238.
        (149, None, 1),
        (150, None, 0),
        # Use 8 days after signup is no activation.
        (149, 4, 1),
        (150, 4, 0),
        # All 60 are activated within 7 days: 19 count, and 41 do not. With 165, 124 count: z = 5.54.
        # Without bounds, z = 0.035 / sqrt(0.193 * 0.807 * 0.00125) = 2.51.
        (165, 5, 1),
    ],
)
def test_an_account_that_does_not_start_counts_within_the_bounds_of_chance(
    made: MemoryWarehouse, now: int, used: int | None, count: int
) -> None:
    facts = weekly(OVERALL, "users_activated", now, (200, 200, 200, 200))
    facts[INTERVALS.name] = [
        {
            "user_id": f"u{user}",
            "account_id": "a",
            "platform_state": state,
            "valid_from": ago(begins),
            "last_qualifying_date": None if state == "new" else ago(begins),
            "signup_date": ago(12),
        }
        for user in range(60)
        for state, begins in (("new", 12), *([("active", used)] if used is not None else []))
    ]
    assert len(found(made, alerting.activation_rate_is_steady, facts)) == count


def test_the_significance_is_a_setting(made: MemoryWarehouse) -> None:
    """With z = 3.239, p is 0.0012: between 0.001 and 0.002."""
    facts = rate_facts(FLOWS, "users_churned", (261, 1_000), (200, 1_000))
    for significance, count in ((0.001, 0), (0.0011, 0), (0.0013, 1), (0.002, 1)):
        policy = LifecyclePolicy(alerts=AlertPolicy(alert_significance=significance))
        assert len(found(made, alerting.churn_rate_is_steady, facts, policy)) == count


@pytest.mark.parametrize(
    ("recovered", "closed", "count"), [(0.6, 30, 0), (0.59, 30, 1), (0.1, 29, 0), (None, 0, 0)]
)
def test_dunning_recovery(
    made: MemoryWarehouse, recovered: float | None, closed: int, count: int
) -> None:
    row = {
        "metric_date": LAST,
        "scope": "account",
        "from_state": "all",
        "to_state": "all",
        "accounts_dunning_recovered_share_monthly": recovered,
        "accounts_dunning_recovered_population_monthly": closed,
    }
    facts = {
        FLOWS.name: [
            row,
            {**row, "metric_date": ago(1), "accounts_dunning_recovered_share_monthly": 0},
        ]
    }
    rule = alerting.dunning_is_recovered
    assert len(found(made, rule, facts)) == count
    assert bool(reasons(made, rule, facts)) is (closed < 30)


@pytest.mark.parametrize(
    ("days_now", "moves_now", "count"),
    [(12.0, 30, 0), (12.5, 30, 1), (12.5, 29, 0)],
)
def test_time_in_new(made: MemoryWarehouse, days_now: float, moves_now: int, count: int) -> None:
    def left_new(days_ago: int, moves: int, days: float) -> dict[str, Any]:
        return {
            "metric_date": ago(days_ago),
            "scope": "platform",
            "from_state": "new",
            "to_state": "active",
            "moves_made_daily": moves,
            "moves_days_in_state_mean_daily": days,
        }

    facts = {
        FLOWS.name: [
            left_new(0, moves_now, days_now),
            left_new(27, 0, 0),
            left_new(28, 10, 10.0),
            left_new(55, 20, 10.0),
            left_new(56, 99, 99.0),  # before the baseline
        ]
    }
    rule = alerting.time_in_new_is_steady
    assert len(found(made, rule, facts)) == count
    assert bool(reasons(made, rule, facts)) is (moves_now < 30)


@pytest.mark.parametrize(
    ("share_now", "users", "days", "count"),
    [
        (0.35, 100, 28, 0),
        (0.36, 100, 28, 1),
        (0.24, 100, 28, 1),
        (0.36, 29, 28, 0),
        (0.36, 100, 27, 0),
    ],
)
def test_state_shares(
    made: MemoryWarehouse, share_now: float, users: int, days: int, count: int
) -> None:
    rows = [
        {
            "metric_date": ago(n),
            "segment_dimension": "platform_state",
            "segment_value": state,
            "users_in_segment_daily": users if state == "dormant" else 0,
            "users_in_segment_share_daily": share_now if n == 0 and state == "dormant" else 0.3,
        }
        for n in range(days + 1)
        for state in ("dormant", "dunning")
    ]
    rule, facts = alerting.state_shares_are_steady, {SEGMENTS.name: rows}
    assert len(found(made, rule, facts)) == count
    notes = ["not evaluated: only 29 users (minimum 30) for State shares"] if users < 30 else []
    assert reasons(made, rule, facts) == notes


def volume(now: int, weeks: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    total = {"product_id": "all", "feature_id": "all", "event_type": "all", "location": "all"}
    return {
        ACTIVITY.name: [
            {**total, "metric_date": ago(0), "events_recorded_daily": now},
            {**total, "metric_date": ago(1), "events_recorded_daily": 7},
            {**total, "metric_date": ago(0), "product_id": "video", "events_recorded_daily": 9},
            *(
                {**total, "metric_date": ago(7 * n), "events_recorded_daily": events}
                for n, events in enumerate(weeks, start=1)
            ),
        ]
    }


@pytest.mark.parametrize(
    ("now", "weeks", "deviates", "is_missing"),
    [
        (120, (90, 110, 100, 100), False, False),
        (121, (90, 110, 100, 100), True, False),
        (80, (90, 110, 100, 100), False, False),
        (79, (90, 110, 100, 100), True, False),
        (0, (90, 110, 100, 100), False, True),
        (0, (29, 29, 29, 29), False, False),  # too few expected events
        (0, (100, 100, 100), False, False),  # three weeks
    ],
)
def test_volume(
    made: MemoryWarehouse, now: int, weeks: Sequence[int], deviates: bool, is_missing: bool
) -> None:
    facts = volume(now, weeks)
    assert bool(found(made, alerting.volume_is_as_expected, facts)) is deviates
    assert bool(found(made, alerting.there_is_data, facts)) is is_missing
    notes = ["not evaluated: only 29 expected events (minimum 30) for Events Recorded Daily"]
    assert reasons(made, alerting.there_is_data, facts) == (notes if weeks[0] == 29 else [])


@pytest.mark.parametrize(
    ("weeks", "day", "count"),
    [
        ((30, 30, 30, 30), 0, 1),
        ((30, 30, 30, 30), 1, 0),
        ((0, 30, 30, 30), 0, 1),
        ((0, 0, 60, 60), 0, 1),  # median 30
        ((0, 0, 59, 60), 0, 0),
        ((29, 29, 29, 99), 0, 0),
        ((30, 30, 30), 0, 0),  # too few weeks
    ],
)
def test_a_day_without_events(
    made: MemoryWarehouse, weeks: Sequence[int], day: int, count: int
) -> None:
    def rows(days_ago: int) -> list[dict[str, Any]]:
        counts = {days_ago: day, **{days_ago + 7 * n: w for n, w in enumerate(weeks, 1)}}
        return [
            {"metric_date": ago(n), "product_id": "all", "events_recorded_daily": events}
            for n, events in counts.items()
        ]

    rule = alerting.days_have_events
    for days_ago, is_checked in ((2, True), (1, True), (0, False), (3, False)):
        violations = found(made, rule, {ACTIVITY.name: rows(days_ago)})
        assert len(violations) == (count if is_checked else 0)
        assert all(row[0] == ago(days_ago) for row in violations)


@pytest.mark.parametrize(
    ("event_days", "fact_days", "signups", "gap"),
    [
        ((0, 14), (), (), None),
        ((0, 15), (), (), 15),
        ((0, 400), (), (), 400),
        ((0, 400), (3,), (), None),
        ((0, 400), (), (14,), None),
        ((20, 21), (), (0,), 20),
        ((0,), (), (), None),
        ((), (), (), None),
        ((-30, 0, 1), (), (), None),  # a later day is not part of the run
    ],
)
def test_a_last_day_far_from_the_others(
    made: MemoryWarehouse,
    event_days: Sequence[int],
    fact_days: Sequence[int],
    signups: Sequence[int],
    gap: int | None,
) -> None:
    facts: Mapping[str, Sequence[Mapping[str, Any]]] = {
        ACTIVITY.name: [
            {"metric_date": ago(n), "product_id": "all", "events_recorded_daily": 1}
            for n in event_days
        ]
        + [{"metric_date": ago(5), "product_id": "all", "events_recorded_daily": 0}],
        "bronze_subscription_events": [{"event_date": ago(n)} for n in fact_days],
        "bronze_users": [{"signup_date": ago(n)} for n in signups],
        "bronze_accounts": [],
    }
    violations = found(made, alerting.last_day_follows_the_others, facts)
    assert [row[-1] for row in violations] == ([gap] if gap else [])


@pytest.mark.parametrize(
    ("accepted", "read", "count"), [(95, 100, 0), (94, 100, 1), (10, 29, 0), (0, 30, 1)]
)
def test_schema_compliance(made: MemoryWarehouse, accepted: int, read: int, count: int) -> None:
    rows = [
        {"partition_date": LAST, "rows_read": read, "rows_accepted": accepted, "files": "[]"},
        {"partition_date": ago(1), "rows_read": 100, "rows_accepted": 0, "files": "[]"},
    ]
    rows = [{**row, "rows_rejected": read - accepted} for row in rows]
    # Superseded rows do not count, and neither do repeated rows.
    superseded = {"partition_date": LAST, "rejection_reason": "superseded"}
    rows[0]["rows_read"], rows[0]["rows_rejected"] = read + 50, read - accepted + 5
    rule = alerting.schema_is_complied_with
    facts = {LOADS.name: rows, REJECTED.name: [superseded] * 5}
    assert len(found(made, rule, facts)) == count
    notes = ["not evaluated: only 29 rows (minimum 30) for Share of rows accepted"]
    assert reasons(made, rule, facts) == (notes if read == 29 else [])


@pytest.mark.parametrize(
    ("weekly", "count"),
    [
        ((94, 96, 97, 99, 100), 1),
        ((95, 96, 97, 99, 100), 0),  # exactly 5%
        ((90, 91, 91, 99, 100), 0),  # not in each week
        ((20, 25, 26, 27, 29), 0),  # too few users
    ],
)
def test_slow_decline(made: MemoryWarehouse, weekly: Sequence[int], count: int) -> None:
    rows = [
        {"metric_date": ago(7 * n), "users_active_monthly": users} for n, users in enumerate(weekly)
    ]
    rule, facts = alerting.users_do_not_decline_slowly, {OVERALL.name: rows}
    assert len(found(made, rule, facts)) == count
    notes = ["not evaluated: only 29 users 4 weeks earlier (minimum 30) for Users Active Monthly"]
    assert reasons(made, rule, facts) == (notes if weekly[-1] == 29 else [])


def test_levels_are_the_frameworks() -> None:
    """Framework, section 9."""
    levels: Mapping[AlertLevel, tuple[Rule, ...]] = {
        AlertLevel.P0: (alerting.there_is_data,),
        AlertLevel.P1: (
            alerting.schema_is_complied_with,
            alerting.churn_rate_is_steady,
            alerting.activation_rate_is_steady,
            alerting.reactivation_rate_is_steady,
            alerting.dunning_is_recovered,
            alerting.days_have_events,
            alerting.last_day_follows_the_others,
        ),
        AlertLevel.P2: (
            alerting.dormancy_rate_is_steady,
            alerting.volume_is_as_expected,
            alerting.state_shares_are_steady,
        ),
        AlertLevel.P3: (alerting.time_in_new_is_steady, alerting.users_do_not_decline_slowly),
    }
    for level, of_level in levels.items():
        for rule in of_level:
            assert (rule.alert_level, rule.blocking) == (level, False), rule.name


def test_tables_of_the_alerts_are_declared() -> None:
    named = [value for value in vars(alerting).values() if isinstance(value, Rule)]
    tables: list[Table] = [rule.table for rule in named]
    assert len(named) == 13
    read = {table.name for table in (INTERVALS, *DATED)}
    assert {table.name for table in tables} == TABLES.keys() - read


def test_each_rule_that_does_not_block_has_a_remedy_of_its_own() -> None:
    remedies = {
        f"{rule.table.name}.{rule.name}": rule.remedy for rule in rules() if not rule.blocking
    }
    assert len(remedies) > 20
    assert len(set(remedies.values())) == len(remedies)
    for name, remedy in remedies.items():
        assert remedy.endswith("."), name
        assert 20 < len(remedy) < 120, name
