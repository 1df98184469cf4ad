"""Tests of state and activity anomalies: series, contributing transitions, severity and alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import ibis
import pytest

from monstera_assets.bronze import bronze_users
from monstera_assets.checks.rules import AlertLevel, Rule
from monstera_assets.gold import (
    anomaly_alerts,
    gold_activity_metrics,
    gold_state_distribution,
    gold_users_active_daily,
    gold_users_active_monthly,
)
from monstera_assets.gold import gold_state_distribution_anomalies as anomalies
from monstera_assets.gold.anomaly_series import state_shares
from monstera_assets.gold.contributing_transitions import contributing_transitions
from monstera_assets.gold.segments import user_segments
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.prediction.expected_range import DAYS_BEFORE_JUDGED, Span
from monstera_assets.silver import (
    silver_account_state_intervals,
    silver_account_state_transitions,
    silver_user_state_transitions,
)
from monstera_assets.warehouse.compiler import compile_duckdb
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.memory_warehouse import MemoryWarehouse

TABLE = anomalies.TABLE
STATES, DAILY, MONTHLY, ACTIVITY, MOVES, ACCOUNT_TRANSITIONS, USERS, ACCOUNTS = (
    module.TABLE
    for module in (
        gold_state_distribution,
        gold_users_active_daily,
        gold_users_active_monthly,
        gold_activity_metrics,
        silver_user_state_transitions,
        silver_account_state_transitions,
        bronze_users,
        silver_account_state_intervals,
    )
)
INPUTS = (STATES, DAILY, MONTHLY, ACTIVITY, MOVES, ACCOUNT_TRANSITIONS, USERS, ACCOUNTS)
POLICY = LifecyclePolicy()
LAST = date(2025, 6, 29)
DAYS = 320
FIRST = LAST - timedelta(days=DAYS - 1)
OUTAGE = LAST - timedelta(days=40)
"""On this day, half of the activity is missing, and all users in FR become dormant."""


@pytest.fixture(scope="module")
def made() -> MemoryWarehouse:
    """A warehouse with 1,100 users in two countries. Each day, 30% of them are active."""
    made = MemoryWarehouse((*INPUTS, TABLE))
    made.connection.execute(
        "CREATE TABLE days AS SELECT unnest(generate_series(?::DATE, ?::DATE, INTERVAL 1 DAY))::DATE"
        " AS metric_date",
        [FIRST, LAST],
    )
    made.connection.execute(
        "CREATE TABLE segments AS FROM (VALUES ('all', 'all', 1100), ('country', 'DE', 800),"
        " ('country', 'FR', 300)) AS s (segment_dimension, segment_value, people)"
    )
    noise = "(hash(metric_date::VARCHAR || segment_value) % 11)::BIGINT - 5"
    is_outage = f"metric_date = DATE '{OUTAGE}'"
    for table, amount in (
        (MONTHLY, "people"),
        (
            DAILY,
            f"CASE WHEN {is_outage} THEN people * 15 // 100 ELSE people * 3 // 10 + {noise} END",
        ),
    ):
        metric = table.name.removeprefix("gold_")
        made.store(
            table,
            f"SELECT metric_date, segment_dimension, segment_value, {amount} AS {metric}, FALSE AS"
            " is_current_day, FALSE AS is_last_90_days FROM days CROSS JOIN segments",
        )
    made.load(
        ACTIVITY,
        [
            {
                "metric_date": FIRST + timedelta(days=number),
                **dict.fromkeys(("product_id", "feature_id", "event_type", "location"), "all"),
                "users_active_daily": 330,
                "events_qualifying_daily": 1980 if FIRST + timedelta(days=number) == LAST else 990,
            }
            for number in range(DAYS)
        ],
    )
    made.store(
        STATES,
        "SELECT metric_date, 'platform' AS scope, segment_dimension, segment_value, state,"
        " CASE WHEN state = 'churned' THEN 0"
        f" WHEN segment_value = 'FR' AND metric_date >= DATE '{OUTAGE}' THEN"
        "  CASE state WHEN 'dormant' THEN people ELSE 0 END"
        " ELSE people // 2 END AS members_in_state_daily,"
        " NULL AS members_in_state_share_daily,"
        f" CASE WHEN segment_value = 'FR' AND {is_outage} AND state = 'dormant' THEN 150 ELSE 1 END"
        " AS members_reached_state_daily,"
        f" CASE WHEN segment_value = 'FR' AND {is_outage} AND state = 'active' THEN 150 ELSE 1 END"
        " AS members_left_state_daily,"
        f" CASE WHEN segment_value = 'FR' AND {is_outage} AND state <> 'churned' THEN 150 ELSE 2 END"
        " AS members_moved_together_daily, FALSE AS is_current_day, FALSE AS is_last_90_days"
        " FROM days CROSS JOIN segments CROSS JOIN (VALUES ('active'), ('dormant'), ('churned'))"
        " AS states (state) WHERE segment_dimension = 'country'",
    )
    made.load(
        USERS,
        [
            {
                "user_id": f"u{number}",
                "account_id": f"a{number}",
                "country": "FR",
                "plan_type": "pro",
            }
            for number in range(150)
        ],
    )
    made.load(ACCOUNTS, [{"account_id": f"a{number}"} for number in range(150)])
    moved = {"scope": "platform", "from_state": "active", "to_state": "dormant"}
    made.load(
        MOVES,
        [
            *(
                {"user_id": f"u{number}", "transition_date": OUTAGE, **moved}
                for number in range(150)
            ),
            *(
                # There are 14 in the 28 days before, so one every second day is usual.
                {"user_id": f"u{day}", "transition_date": OUTAGE - timedelta(days=day), **moved}
                for day in range(1, 29, 2)
            ),
        ],
    )
    made.load(ACCOUNT_TRANSITIONS, [])
    return made


def found(made: MemoryWarehouse, window: DateWindow) -> list[dict[str, Any]]:
    asset = anomalies.gold_state_distribution_anomalies
    rows = asset(*(table.relation for table in INPUTS), policy=POLICY, window=window)
    names = rows.columns
    return [dict(zip(names, row, strict=True)) for row in made.rows(compile_duckdb(rows))]


def test_each_disturbance_is_found_on_its_day_and_nothing_else(made: MemoryWarehouse) -> None:
    rows = found(made, DateWindow(FIRST, LAST))
    shown = {
        (row["metric_date"], row["measure"], row["segment_value"], row["state"]): (
            row["direction"],
            row["severity"],
            row["days_in_row"],
        )
        for row in rows
    }
    assert shown == {
        (OUTAGE, "active_share", "all", "all"): ("down", "high", 1),
        (OUTAGE, "active_share", "DE", "all"): ("down", "medium", 1),
        (OUTAGE, "active_share", "FR", "all"): ("down", "medium", 1),
        (OUTAGE, "state_share", "FR", "active"): ("down", "medium", 1),
        (OUTAGE, "state_share", "FR", "dormant"): ("up", "medium", 1),
        (LAST, "events_per_active_user", "all", "all"): ("up", "high", 1),
    }


def test_figures_of_an_anomaly_by_hand(made: MemoryWarehouse) -> None:
    rows = {
        (row["measure"], row["segment_value"], row["state"]): row
        for row in found(made, DateWindow(OUTAGE, OUTAGE))
    }
    everybody = rows["active_share", "all", "all"]
    assert (everybody["observed"], everybody["members"]) == (165 / 1100, 1100)
    assert everybody["expected"] == pytest.approx(0.3, abs=5 / 1100)
    dormant = rows["state_share", "FR", "dormant"]
    # Half of 300 users were dormant the day before. The other 150 follow, each in a different account.
    assert (dormant["observed"], dormant["expected"], dormant["members"]) == (1.0, 0.5, 300)
    assert dormant["members_deviating"] == 150
    assert dormant["score"] == pytest.approx(150 / 150**0.5)
    assert dormant["moves_behind"] == "active → dormant: 150 (usual 1)"
    # All of these transitions are by users in FR, who are part of the total.
    assert everybody["moves_behind"] == dormant["moves_behind"]
    assert rows["active_share", "DE", "all"]["moves_behind"] is None


def test_a_single_day_equals_the_same_day_of_a_year(made: MemoryWarehouse) -> None:
    year = found(made, DateWindow(FIRST, LAST))
    for day in (OUTAGE, LAST):
        assert found(made, DateWindow(day, day)) == [r for r in year if r["metric_date"] == day]


def test_the_share_of_a_state_is_that_of_its_segment(made: MemoryWarehouse) -> None:
    rows = state_shares(STATES.relation, POLICY)
    on = rows.filter(rows.metric_date == OUTAGE, rows.segment_value == "FR")
    columns = ("state", "members", "amount", "turnover", "base", "together")
    assert made.rows(compile_duckdb(on.select(*columns))) == [
        ("active", 300, -150.0, 151, 0.5, 150),
        ("churned", 300, 0.0, 2, 0.0, 2),
        ("dormant", 300, 150.0, 151, 0.5, 150),
    ]


def test_usual_moves_of_a_week_are_those_of_seven_days(made: MemoryWarehouse) -> None:
    """14 transitions in 28 days are 3.5 per week. Later transitions do not count."""
    made.connection.execute("DROP VIEW IF EXISTS out")
    made.connection.execute(
        f"CREATE VIEW out AS SELECT DATE '{OUTAGE - timedelta(days=1)}' AS metric_date, 'week' AS span,"
        " 'active_share' AS measure, 'platform' AS scope, 'country' AS segment_dimension, 'FR' AS"
        " segment_value, 'all' AS state"
    )
    out = ibis.table(
        {
            "metric_date": "date",
            **dict.fromkeys(
                ("span", "measure", "scope", "segment_dimension", "segment_value", "state"),
                "string",
            ),
        },
        "out",
    )
    segments = user_segments(USERS.relation, ACCOUNTS.relation)
    moves = gold_state_distribution.segment_transitions(
        MOVES.relation, ACCOUNT_TRANSITIONS.relation, segments
    )
    texts = contributing_transitions(out, moves, TABLE.key)
    # Days 1, 3, 5 and 7 before the outage are in the week, and days 9 to 27 in the 28 days before it.
    assert [row[-1] for row in made.rows(compile_duckdb(texts))] == [
        "active → dormant: 4 (usual 3)"
    ]


# ---------------------------------------------------------------- alerts

ANOMALY = {"metric_date": LAST, "span": "day", "direction": "up", "severity": "high"}


def violations(
    made: MemoryWarehouse,
    rule: Rule,
    rows: Sequence[Mapping[str, Any]],
    days: int = DAYS_BEFORE_JUDGED[Span.WEEK] + 1,
) -> tuple[int, list[str]]:
    """Return the number of violations and the notes of a rule with `days` days of history."""
    made.load(TABLE, rows)
    stored = made.connection.execute(f"SELECT * FROM {STATES.qualified_name}").df()
    made.load(STATES, [{"metric_date": LAST - timedelta(days=ago)} for ago in range(days)])
    relations = [TABLE.relation, STATES.relation]
    window = DateWindow(LAST, LAST)
    try:
        found = made.rows(compile_duckdb(rule.violations(relations, policy=POLICY, window=window)))
        notes = rule.not_evaluated(relations, policy=POLICY, window=window)
        assert notes is not None
        return len(found), [reason for (reason,) in made.rows(compile_duckdb(notes))]
    finally:
        made.connection.register("stored", stored)
        made.store(STATES, "SELECT * FROM stored")


@pytest.mark.parametrize(
    ("rule", "level", "severity", "span"),
    [
        (anomaly_alerts.activity_is_as_expected, AlertLevel.P1, "high", Span.DAY),
        (anomaly_alerts.segments_and_states_are_as_expected, AlertLevel.P2, "medium", Span.DAY),
        (anomaly_alerts.activity_does_not_drift, AlertLevel.P3, "low", Span.WEEK),
    ],
)
def test_severity_decides_which_alert_is_sent(
    made: MemoryWarehouse, rule: Rule, level: AlertLevel, severity: str, span: Span
) -> None:
    assert (rule.alert_level, rule.blocking) == (level, False)
    of_severity = {**ANOMALY, "severity": severity, "span": str(span)}
    others = [
        {**of_severity, "severity": other}
        for other in ("high", "medium", "low")
        if other != severity
    ]
    earlier = {**of_severity, "metric_date": LAST - timedelta(days=1)}
    assert violations(made, rule, [*others, earlier]) == (0, [])
    assert violations(made, rule, [*others, earlier, of_severity]) == (1, [])
    needed = DAYS_BEFORE_JUDGED[span] + 1
    assert violations(made, rule, [], days=needed) == (0, [])
    assert violations(made, rule, [], days=needed - 1) == (
        0,
        [f"not evaluated: only {needed - 1} days of history (minimum {needed})"],
    )
