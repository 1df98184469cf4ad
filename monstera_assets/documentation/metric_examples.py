"""Worked examples of the metrics: figures of the seeds that a reader can compute by hand.

Each example selects its operands from bronze or silver tables, states a calculation with them, and
names the row in gold that has the result. A test runs the queries on the warehouse of the seeds, which
`monstera run --source seeds` creates, and evaluates the calculation.
"""
# Over 400 lines: a list of examples, in the order of the metric catalog.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from monstera_assets.gold.metrics import snake_case
from monstera_assets.warehouse.layers import Layer


@dataclass(frozen=True)
class Example:
    """A metric's value in one row, and how it is computed.

    Attributes:
        table: the gold table.
        row: the SQL condition that selects one row of the table.
        calculation: a formula with its operands and result, rounded to four decimal places. It
            uses arithmetic operators or `count`, `sum`, `sum_of_squares`, `mean` or `median`.
        query: the SQL query that selects the operands in order. An operand that a formula of
            arithmetic operators uses twice is selected once.
    """

    table: str
    row: str
    calculation: str
    query: str

    def result_query(self, column: str) -> str:
        """Return the SQL query that selects the metric's value from the gold table."""
        return f"SELECT {column}\nFROM {Layer.GOLD}.{self.table}\nWHERE {self.row}"


_DAY = "2025-06-30"
_OVERALL, _REVENUE = "gold_overall_metrics", "gold_revenue_metrics"
_ALL_USERS = ", ".join(f"usr_{number:02}" for number in range(1, 21))


def _on(day: str) -> str:
    return f"metric_date = '{day}'"


def _in_total(day: str) -> str:
    return f"{_on(day)} AND segment_dimension = 'all'"


# Activity: users, accounts and events by day.


def _used(first: str, last: str) -> str:
    period = f"= '{last}'" if first == last else f"BETWEEN '{first}' AND '{last}'"
    return f"entity_type = 'user' AND is_qualifying_event AND event_date {period}"


def _users_active(first: str, last: str) -> str:
    return (
        "SELECT DISTINCT entity_id\nFROM bronze.bronze_events\n"
        f"WHERE {_used(first, last)}\nORDER BY entity_id"
    )


_EVENTS = (
    "SELECT {operand}\nFROM bronze.bronze_events\n"
    "WHERE entity_type = 'user' AND event_date = '2025-06-15'{condition}\nORDER BY 1"
)
_ACTIVITY_TOTAL = (
    " AND product_id = 'all' AND feature_id = 'all' AND event_type = 'all' AND location = 'all'"
)


def _activity(day: str, calculation: str, query: str) -> Example:
    return Example("gold_activity_metrics", _on(day) + _ACTIVITY_TOTAL, calculation, query)


_RUNS = "SELECT instance_id\nFROM silver.silver_workflow_runs\nWHERE {condition}"
_ACTIVITY_EXAMPLES = {
    "Users Active Daily": Example(
        "gold_users_active_daily",
        _in_total(_DAY),
        "count(usr_10, usr_11, usr_13, usr_18) = 4",
        _users_active(_DAY, _DAY),
    ),
    "Users Active Weekly": Example(
        "gold_users_active_weekly",
        _in_total("2025-06-20"),
        "count(usr_02, usr_06, usr_14, usr_17, usr_18) = 5",
        _users_active("2025-06-14", "2025-06-20"),
    ),
    "Users Active Monthly": Example(
        "gold_users_active_monthly",
        _in_total(_DAY),
        "count(usr_02, usr_03, usr_05, usr_06, usr_08, usr_10, usr_11, usr_13, usr_14, usr_17, usr_18,"
        " usr_19) = 12",
        _users_active("2025-06-01", _DAY),
    ),
    "Users Active Stickiness Monthly": Example(
        _OVERALL,
        _on(_DAY),
        "20 / 30 / 12 = 0.0556",
        "SELECT count(DISTINCT (entity_id, event_date)), 30, count(DISTINCT entity_id)\n"
        f"FROM bronze.bronze_events\nWHERE {_used('2025-06-01', _DAY)}",
    ),
    "Users Created Daily": Example(
        "gold_users_created_daily",
        _in_total("2025-05-19"),
        "count(usr_06, usr_11) = 2",
        "SELECT user_id\nFROM bronze.bronze_users_current\nWHERE signup_date = '2025-05-19'\n"
        "ORDER BY user_id",
    ),
    "Videos Created Daily": Example(
        "gold_videos_created_daily",
        _in_total(_DAY),
        "count(evt_040) = 1",
        "SELECT event_id\nFROM bronze.bronze_events\nWHERE entity_type = 'user' AND"
        f" event_type = 'video_created' AND event_date = '{_DAY}'",
    ),
    "Accounts Active Monthly": Example(
        "gold_accounts_active_monthly",
        _in_total(_DAY),
        "count(acc_01, acc_02, acc_03, acc_04, acc_05, acc_06, acc_08, acc_09) = 8",
        "SELECT DISTINCT account_id\nFROM bronze.bronze_events\n"
        "JOIN bronze.bronze_users_current ON user_id = entity_id\n"
        f"WHERE {_used('2025-06-01', _DAY)}\nORDER BY account_id",
    ),
    "Events Recorded Daily": _activity(
        "2025-06-15",
        "count(evt_029, evt_030) = 2",
        _EVENTS.format(operand="event_id", condition=""),
    ),
    "Events Qualifying Daily": _activity(
        "2025-06-15",
        "count(evt_029) = 1",
        _EVENTS.format(operand="event_id", condition=" AND is_qualifying_event"),
    ),
    "Users Present Daily": _activity(
        "2025-06-15",
        "count(usr_11, usr_18) = 2",
        _EVENTS.format(operand="DISTINCT entity_id", condition=""),
    ),
    "Workflows Started Daily": _activity(
        "2025-06-10",
        "count(prj_04) = 1",
        _RUNS.format(condition="started_date = '2025-06-10'"),
    ),
    "Workflows Completed Daily": _activity(
        "2025-06-12",
        "count(prj_04) = 1",
        _RUNS.format(condition="CAST(completed_at AS DATE) = '2025-06-12'"),
    ),
    "Workflows Completed Share Weekly": _activity(
        "2025-06-17",
        "1 / 1 = 1",
        "SELECT count(*) FILTER (status = 'completed'), count(*)\nFROM silver.silver_workflow_runs\n"
        "WHERE started_date = '2025-06-10'",
    ),
    "Workflows Hours to Complete Median Daily": _activity(
        "2025-06-12",
        "median(50) = 50",
        "SELECT epoch(completed_at - started_at) / 3600\nFROM silver.silver_workflow_runs\n"
        "WHERE CAST(completed_at AS DATE) = '2025-06-12'",
    ),
    "Users Active per Window by Active Days": Example(
        "gold_engagement_power_curve",
        f"{_on(_DAY)} AND window_days = 28 AND active_days = 2",
        "count(usr_02, usr_08, usr_17, usr_18) = 4",
        "SELECT entity_id\nFROM bronze.bronze_events\n"
        f"WHERE {_used('2025-06-03', _DAY)}\n"
        "GROUP BY entity_id\nHAVING count(DISTINCT event_date) = 2\nORDER BY entity_id",
    ),
}

_GROWTH = """\
SELECT {operands}
FROM (
  SELECT entity_id AS user_id, min(event_date) AS first_date,
    bool_or(event_date BETWEEN '2025-06-01' AND '2025-06-30') AS in_s,
    bool_or(event_date BETWEEN '2025-05-02' AND '2025-05-31') AS in_p
  FROM bronze.bronze_events
  WHERE entity_type = 'user' AND is_qualifying_event AND event_date <= '2025-06-30'
  GROUP BY entity_id
)"""
_NEW, _RESURRECTED = "first_date >= '2025-06-01'", "in_s AND NOT in_p AND first_date < '2025-06-01'"


def _growth(calculation: str, condition: str) -> Example:
    return Example(
        "gold_growth_accounting",
        f"{_on(_DAY)} AND window_days = 30",
        calculation,
        f"{_GROWTH.format(operands='user_id')}\nWHERE {condition}\nORDER BY user_id",
    )


_GROWTH_EXAMPLES = {
    "Users Active per Window": _growth(
        "count(usr_02, usr_03, usr_05, usr_06, usr_08, usr_10, usr_11, usr_13, usr_14, usr_17, usr_18,"
        " usr_19) = 12",
        "in_s",
    ),
    "Users Active Before per Window": _growth(
        "count(usr_06, usr_07, usr_09, usr_11, usr_17, usr_20) = 6", "in_p"
    ),
    "Users New per Window": _growth(
        "count(usr_02, usr_03, usr_10, usr_14, usr_18, usr_19) = 6", _NEW
    ),
    "Users Retained per Window": _growth("count(usr_06, usr_11, usr_17) = 3", "in_s AND in_p"),
    "Users Resurrected per Window": _growth("count(usr_05, usr_08, usr_13) = 3", _RESURRECTED),
    "Users Churned per Window": _growth("count(usr_07, usr_09, usr_20) = 3", "in_p AND NOT in_s"),
    "Users Quick Ratio per Window": Example(
        "gold_growth_accounting",
        f"{_on(_DAY)} AND window_days = 30",
        "(6 + 3) / 3 = 3",
        _GROWTH.format(
            operands=f"count(*) FILTER ({_NEW}),\n  count(*) FILTER ({_RESURRECTED}),"
            "\n  count(*) FILTER (in_p AND NOT in_s)"
        ),
    ),
}


def _changed(day: str, calculation: str, query: str) -> Example:
    return Example(_OVERALL, _on(day), calculation, query)


def _users_changed(
    calculation: str, now: tuple[str, str], then: tuple[str, str], counted: str = "entity_id"
) -> Example:
    """Compare the users, or their accounts, that are active in two periods."""
    users = "\nJOIN bronze.bronze_users_current ON user_id = entity_id"
    return _changed(
        now[1],
        calculation,
        f"SELECT count(DISTINCT {counted}) FILTER ({_used(*now)}),\n"
        f"  count(DISTINCT {counted}) FILTER ({_used(*then)})\n"
        f"FROM bronze.bronze_events{'' if counted == 'entity_id' else users}",
    )


def _created_changed(calculation: str, now: str, then: str) -> Example:
    return _changed(
        now,
        calculation,
        f"SELECT count(*) FILTER (signup_date = '{now}'),\n"
        f"  count(*) FILTER (signup_date = '{then}')\nFROM bronze.bronze_users_current",
    )


def _revenue_changed(calculation: str, now: str, then: str) -> Example:
    return _changed(now, calculation, _REVENUE_ON_TWO_DAYS.format(now=now, then=then))


_REVENUE_ON_TWO_DAYS = """\
SELECT sum(monthly_recurring_revenue) FILTER (snapshot_date = '{now}'),
  sum(monthly_recurring_revenue) FILTER (snapshot_date = '{then}')
FROM silver.silver_account_state_history"""
_CHANGE_EXAMPLES = {
    "Users Active Daily Week on Week": _users_changed(
        "(2 - 1) / 1 = 1", ("2025-06-18", "2025-06-18"), ("2025-06-11", "2025-06-11")
    ),
    "Users Active Daily Month on Month": _users_changed(
        "(0 - 2) / 2 = -1", ("2025-06-19", "2025-06-19"), ("2025-05-20", "2025-05-20")
    ),
    "Users Active Weekly Week on Week": _users_changed(
        "(4 - 3) / 3 = 0.3333", ("2025-06-24", _DAY), ("2025-06-17", "2025-06-23")
    ),
    "Users Active Weekly Month on Month": _users_changed(
        "(5 - 4) / 4 = 0.25", ("2025-06-14", "2025-06-20"), ("2025-05-15", "2025-05-21")
    ),
    "Users Active Monthly Week on Week": _users_changed(
        "(12 - 9) / 9 = 0.3333", ("2025-06-01", _DAY), ("2025-05-25", "2025-06-23")
    ),
    "Users Active Monthly Month on Month": _users_changed(
        "(12 - 6) / 6 = 1", ("2025-06-01", _DAY), ("2025-05-02", "2025-05-31")
    ),
    "Users Created Daily Week on Week": _created_changed(
        "(1 - 2) / 2 = -0.5", "2025-05-12", "2025-05-05"
    ),
    "Users Created Daily Month on Month": _created_changed(
        "(1 - 2) / 2 = -0.5", "2025-06-04", "2025-05-05"
    ),
    "Accounts Active Monthly Week on Week": _users_changed(
        "(8 - 7) / 7 = 0.1429", ("2025-06-01", _DAY), ("2025-05-25", "2025-06-23"), "account_id"
    ),
    "Accounts Active Monthly Month on Month": _users_changed(
        "(8 - 5) / 5 = 0.6", ("2025-06-01", _DAY), ("2025-05-02", "2025-05-31"), "account_id"
    ),
    "Revenue Closing Daily Week on Week": _revenue_changed(
        "(3000 - 2800) / 2800 = 0.0714", "2025-06-17", "2025-06-10"
    ),
    "Revenue Closing Daily Month on Month": _revenue_changed(
        "(3000 - 3120) / 3120 = -0.0385", _DAY, "2025-05-31"
    ),
}

# Revenue and accounts.

_ACCOUNTS = "FROM silver.silver_account_state_history\nWHERE snapshot_date = '{day}'"


def _revenue(day: str, calculation: str, query: str) -> Example:
    return Example(_REVENUE, _on(day), calculation, query)


def _paying(operands: str, day: str) -> str:
    order = "" if "(" in operands else "\nORDER BY account_id"
    return (
        f"SELECT {operands}\n{_ACCOUNTS.format(day=day)} AND monthly_recurring_revenue > 0{order}"
    )


def _moved(day: str, day_before: str, calculation: str) -> Example:
    """Select the revenue of the account that changed on the day, now and then."""
    return _revenue(
        day,
        calculation,
        "SELECT now.monthly_recurring_revenue, before.monthly_recurring_revenue\n"
        "FROM silver.silver_account_state_history AS now\n"
        "JOIN silver.silver_account_state_history AS before USING (account_id)\n"
        f"WHERE now.snapshot_date = '{day}' AND before.snapshot_date = '{day_before}'\n"
        "  AND now.monthly_recurring_revenue <> before.monthly_recurring_revenue",
    )


def _retained(calculation: str, kept: str) -> Example:
    return _revenue(
        _DAY,
        calculation,
        f"SELECT sum({kept}),\n  sum(before.monthly_recurring_revenue)\n"
        "FROM silver.silver_account_state_history AS now\n"
        "JOIN silver.silver_account_state_history AS before USING (account_id)\n"
        f"WHERE now.snapshot_date = '{_DAY}' AND before.snapshot_date = '2025-05-31'\n"
        "  AND before.monthly_recurring_revenue > 0",
    )


_REVENUE_EXAMPLES = {
    "Revenue Opening Daily": _revenue(
        "2025-06-12",
        "sum(90, 400, 400, 60, 90, 1500, 200, 60) = 2800",
        _paying("monthly_recurring_revenue", "2025-06-11"),
    ),
    "Revenue New Daily": _moved("2025-06-03", "2025-06-02", "90 - 0 = 90"),
    "Revenue Expansion Daily": _moved("2025-06-12", "2025-06-11", "600 - 400 = 200"),
    "Revenue Contraction Daily": _moved("2025-06-10", "2025-06-09", "90 - 500 = -410"),
    "Revenue Churned Daily": _moved("2024-11-01", "2024-10-31", "0 - 400 = -400"),
    "Revenue Reactivated Daily": _moved("2025-05-15", "2025-05-14", "1500 - 0 = 1500"),
    "Revenue Closing Daily": _revenue(
        _DAY,
        "sum(90, 400, 600, 60, 90, 1500, 200, 60) = 3000",
        _paying("monthly_recurring_revenue", _DAY),
    ),
    "Revenue Annualized Daily": _revenue(
        _DAY, "12 * 3000 = 36000", _paying("12, sum(monthly_recurring_revenue)", _DAY)
    ),
    "Accounts Paying Daily": _revenue(
        _DAY,
        "count(acc_02, acc_03, acc_04, acc_05, acc_06, acc_08, acc_09, acc_10) = 8",
        _paying("account_id", _DAY),
    ),
    "Revenue Retained Net Monthly": _retained(
        "2910 / 3120 = 0.9327", "now.monthly_recurring_revenue"
    ),
    "Revenue Retained Gross Monthly": _retained(
        "2710 / 3120 = 0.8686",
        "least(now.monthly_recurring_revenue, before.monthly_recurring_revenue)",
    ),
    "Accounts Health Mean Daily": Example(
        _OVERALL,
        _on("2024-07-20"),
        "mean(72.5, 55) = 63.75",
        f"SELECT health_score\n{_ACCOUNTS.format(day='2024-07-20')} AND is_paid\nORDER BY account_id",
    ),
}

# States of users, accounts and users in a product.

_STATE_EXAMPLES = {
    **{
        f"Users in State {state} Daily": Example(
            _OVERALL,
            _on(_DAY),
            calculation,
            "SELECT user_id\nFROM silver.silver_user_state_history\nWHERE snapshot_date ="
            f" '{_DAY}' AND platform_state = '{snake_case(state)}'\nORDER BY user_id",
        )
        for state, calculation in {
            "New": "count(usr_01, usr_04) = 2",
            "Active": "count(usr_02, usr_03, usr_05, usr_06, usr_08, usr_14, usr_17, usr_18) = 8",
            "Returning": "count(usr_11) = 1",
            "Dormant": "count(usr_07, usr_09, usr_20) = 3",
            "Churned": "count(usr_12, usr_15) = 2",
            "Reactivated": "count(usr_10, usr_13) = 2",
            "Dunning": "count(usr_19) = 1",
            "Deleted": "count(usr_16) = 1",
        }.items()
    },
    **{
        f"Accounts in State {state} Daily": Example(
            _OVERALL,
            _on(_DAY),
            calculation,
            f"SELECT account_id\n{_ACCOUNTS.format(day=_DAY)} AND current_state ="
            f" '{snake_case(state)}'\nORDER BY account_id",
        )
        for state, calculation in {
            "Trial": "count(acc_01) = 1",
            "New Paid": "count(acc_02) = 1",
            "Active": "count(acc_03) = 1",
            "Expanding": "count(acc_04) = 1",
            "At Risk": "count(acc_05) = 1",
            "Contracting": "count(acc_06) = 1",
            "Churned": "count(acc_07) = 1",
            "Reactivated": "count(acc_08) = 1",
            "Frozen": "count(acc_09, acc_10) = 2",
        }.items()
    },
}


def _of_product(
    calculation: str,
    condition: str = "",
    *,
    operands: str = "user_id",
    product: str = "team_spaces",
    table: str = "silver_user_product_states",
) -> Example:
    row, order = f"product_id = '{product}'", "" if "(" in operands else "\nORDER BY user_id"
    return Example(
        "gold_product_adoption",
        row,
        calculation,
        f"SELECT {operands}\nFROM silver.{table}\nWHERE {row}{condition}{order}",
    )


_TRIED, _ACTIVATED = "current_state <> 'never_adopted'", "activation_date IS NOT NULL"
_ADOPTIONS = "silver_user_product_adoptions"
_PRODUCT_EXAMPLES = {
    "Users Eligible to Date": _of_product(f"count({_ALL_USERS}) = 20"),
    "Users Tried to Date": _of_product(
        "count(usr_03, usr_08, usr_10, usr_17) = 4", f" AND {_TRIED}"
    ),
    "Users Activated to Date": _of_product("count(usr_08, usr_17) = 2", f" AND {_ACTIVATED}"),
    "Users in Use to Date": _of_product(
        "count(usr_10, usr_17) = 2",
        "\n  AND current_state IN ('active_in_product', 'reactivated_in_product')",
    ),
    "Users Tried Share to Date": _of_product(
        "4 / 20 = 0.2", operands=f"count(*) FILTER ({_TRIED}), count(*)"
    ),
    "Users Activated Share to Date": _of_product(
        "2 / 4 = 0.5", operands=f"count(*) FILTER ({_ACTIVATED}), count(*) FILTER ({_TRIED})"
    ),
    "Users Days to Activation Median to Date": _of_product(
        "median(0, 0) = 0",
        f" AND {_ACTIVATED}",
        operands="activation_date - adoption_date",
        table=_ADOPTIONS,
    ),
    "Users Started to Date": _of_product(
        "count(usr_08, usr_10, usr_17) = 3", " AND sequence_number = 1", table=_ADOPTIONS
    ),
    "Users Sequence Position Mean to Date": _of_product(
        "mean(2, 1, 1, 1) = 1.25", operands="sequence_number", table=_ADOPTIONS
    ),
    **{
        f"Users in State {state} to Date": _of_product(
            calculation, f" AND current_state = '{snake_case(state)}'", product=product
        )
        for state, product, calculation in (
            (
                "Never Adopted",
                "video_studio",
                "count(usr_03, usr_04, usr_07, usr_08, usr_09, usr_10, usr_11, usr_12, usr_14, usr_16,"
                " usr_17, usr_19, usr_20) = 13",
            ),
            ("New to Product", "video_studio", "count(usr_01) = 1"),
            (
                "Active in Product",
                "video_studio",
                "count(usr_02, usr_05, usr_06, usr_18) = 4",
            ),
            ("Dormant in Product", "script_writer", "count(usr_07, usr_20) = 2"),
            ("Churned from Product", "video_studio", "count(usr_15) = 1"),
            ("Reactivated in Product", "video_studio", "count(usr_13) = 1"),
        )
    },
}

# Cohorts.


def _part_of(population: str, part: str, member: str = "user_id") -> tuple[str, str, str]:
    """Return queries for a share, the members of its part, and the members of its population.

    Args:
        population: the `FROM` and `WHERE` clauses that select the population.
        part: the condition that a member of the part meets.
        member: the column that identifies a member.
    """
    members, order = f"SELECT DISTINCT {member}\n{population}", f"\nORDER BY {member}"
    count = f"count(DISTINCT {member})"
    return (
        f"SELECT {count} FILTER ({part}),\n  {count}\n{population}",
        f"{members}\n  AND {part}{order}",
        f"{members}{order}",
    )


_JULY = ("month", "2024-07-01", 2)
_PERIOD_DAYS = {"month": 30, "week": 7}


def _of_cohort(calculation: str, query: str, cohort: tuple[str, str, int] = _JULY) -> Example:
    kind, start, number = cohort
    row = (
        f"cohort_type = '{kind}' AND cohort_start = '{start}' AND period_number = {number}\n"
        "  AND segment_dimension = 'all'"
    )
    return Example("gold_retention_cohorts", row, calculation, query)


def _in_state(calculation: str, state: str, cohort: tuple[str, str, int]) -> Example:
    """Select the users of a cohort who are in a state on the last day of a period."""
    kind, start, number = cohort
    query = (
        "SELECT user_id\nFROM silver.silver_user_state_history\n"
        "JOIN bronze.bronze_users_current USING (user_id)\n"
        f"WHERE date_trunc('{kind}', signup_date) = '{start}'\n"
        f"  AND snapshot_date - signup_date = {_PERIOD_DAYS[kind] * (number + 1) - 1}"
        f" AND platform_state = '{snake_case(state)}'\nORDER BY user_id"
    )
    return _of_cohort(calculation, query, cohort)


_USED_AFTER = (
    "user_id IN (\n    SELECT entity_id FROM bronze.bronze_events\n"
    "    WHERE is_qualifying_event AND event_date - signup_date {days})"
)
_RETAINED, _UNBOUNDED = (
    _part_of(
        "FROM bronze.bronze_users_current\nWHERE signup_date BETWEEN '2024-07-01' AND '2024-07-31'",
        _USED_AFTER.format(days=days),
    )
    for days in ("BETWEEN 60 AND 89", ">= 60")
)
_COHORT_EXAMPLES = {
    "Users in Cohort per Period": _of_cohort("count(usr_15, usr_16, usr_17) = 3", _RETAINED[2]),
    "Users Retained per Period": _of_cohort("count(usr_15) = 1", _RETAINED[1]),
    "Users Retained Share per Period": _of_cohort("1 / 3 = 0.3333", _RETAINED[0]),
    "Users Retained Unbounded per Period": _of_cohort("count(usr_15, usr_17) = 2", _UNBOUNDED[1]),
    "Users Retained Unbounded Share per Period": _of_cohort("2 / 3 = 0.6667", _UNBOUNDED[0]),
    **{
        f"Users in State {state} per Period": _in_state(calculation, state, cohort)
        for state, cohort, calculation in (
            ("New", ("month", "2025-04-01", 0), "count(usr_10) = 1"),
            ("Active", _JULY, "count(usr_15) = 1"),
            ("Returning", _JULY, "count() = 0"),
            ("Dormant", ("month", "2024-07-01", 1), "count(usr_15, usr_16, usr_17) = 3"),
            ("Churned", _JULY, "count(usr_16, usr_17) = 2"),
            ("Reactivated", _JULY, "count() = 0"),
            ("Dunning", ("week", "2025-06-02", 2), "count(usr_19) = 1"),
            ("Deleted", ("month", "2024-07-01", 8), "count(usr_16) = 1"),
        )
    },
}

# Segments and state distributions.


def _of_segment(calculation: str, query: str) -> Example:
    row = f"{_on(_DAY)} AND segment_dimension = 'engagement_intensity' AND segment_value = 'casual'"
    return Example("gold_segment_metrics", row, calculation, query)


_SEGMENT = "FROM silver.silver_user_segment_history\n"
_IN_SEGMENT = f"WHERE snapshot_date = '{_DAY}' AND engagement_intensity = 'casual'"
_SEGMENT_EVENTS = (
    f"SELECT {{operands}}\n{_SEGMENT}JOIN bronze.bronze_events ON entity_id = user_id\n"
    f"  AND is_qualifying_event AND event_date BETWEEN '{{first}}' AND '{_DAY}'\n{_IN_SEGMENT}\n"
)
_SEGMENT_EXAMPLES = {
    "Users in Segment Daily": _of_segment(
        "count(usr_02, usr_06, usr_10, usr_11, usr_13, usr_14, usr_17, usr_18) = 8",
        f"SELECT user_id\n{_SEGMENT}{_IN_SEGMENT}\nORDER BY user_id",
    ),
    "Users in Segment Share Daily": _of_segment(
        "8 / 20 = 0.4",
        f"SELECT count(*) FILTER (engagement_intensity = 'casual'), count(*)\n{_SEGMENT}"
        f"WHERE snapshot_date = '{_DAY}'",
    ),
    "Users in Segment Active Daily": _of_segment(
        "count(usr_10, usr_11, usr_13, usr_18) = 4",
        _SEGMENT_EVENTS.format(operands="DISTINCT user_id", first=_DAY) + "ORDER BY user_id",
    ),
    "Users in Segment Active Monthly": _of_segment(
        "count(usr_02, usr_06, usr_10, usr_11, usr_13, usr_14, usr_17, usr_18) = 8",
        _SEGMENT_EVENTS.format(operands="DISTINCT user_id", first="2025-06-01")
        + "ORDER BY user_id",
    ),
    "Events in Segment Qualifying Monthly": _of_segment(
        "sum(2, 1, 1, 1, 1, 1, 2, 2) = 11",
        _SEGMENT_EVENTS.format(operands="count(*)", first="2025-06-01")
        + "GROUP BY user_id\nORDER BY user_id",
    ),
}

_PLATFORM = "scope = 'platform'"
_MOVES = (
    "SELECT {operands}\nFROM silver.silver_user_state_transitions\n"
    f"WHERE {_PLATFORM} AND transition_date = '{_DAY}' AND {{condition}}\nORDER BY user_id"
)


def _members(state: str, calculation: str, query: str) -> Example:
    return Example(
        "gold_state_distribution",
        f"{_in_total(_DAY)}\n  AND {_PLATFORM} AND state = '{state}'",
        calculation,
        query,
    )


_STATES_ON_DAY = (
    "SELECT {operands}\nFROM silver.silver_user_state_history\n"
    f"WHERE snapshot_date = '{_DAY}'{{condition}}"
)
_DISTRIBUTION_EXAMPLES = {
    "Members in State Daily": _members(
        "dormant",
        "count(usr_07, usr_09, usr_20) = 3",
        _STATES_ON_DAY.format(operands="user_id", condition=" AND platform_state = 'dormant'")
        + "\nORDER BY user_id",
    ),
    "Members in State Share Daily": _members(
        "dormant",
        "3 / 20 = 0.15",
        _STATES_ON_DAY.format(
            operands="count(*) FILTER (platform_state = 'dormant'), count(*)", condition=""
        ),
    ),
    "Members Reached State Daily": _members(
        "reactivated",
        "count(usr_10, usr_13) = 2",
        _MOVES.format(operands="user_id", condition="to_state = 'reactivated'"),
    ),
    "Members Left State Daily": _members(
        "dormant",
        "count(usr_11) = 1",
        _MOVES.format(operands="user_id", condition="from_state = 'dormant'"),
    ),
    "Members Moved Together Daily": _members(
        "reactivated",
        "sum_of_squares(1, 1) = 2",
        "SELECT count(*) FILTER (to_state = 'reactivated')\n"
        "  - count(*) FILTER (from_state = 'reactivated')\n"
        "FROM silver.silver_user_state_transitions\n"
        "JOIN bronze.bronze_users_current USING (user_id)\n"
        f"WHERE {_PLATFORM} AND transition_date = '{_DAY}'\n"
        "  AND 'reactivated' IN (from_state, to_state)\nGROUP BY account_id\nORDER BY account_id",
    ),
    **{
        name: Example(
            "gold_state_transition_metrics",
            f"{_on(_DAY)} AND {_PLATFORM}\n"
            "  AND from_state = 'churned' AND to_state = 'reactivated'",
            calculation,
            _MOVES.format(
                operands=operands,
                condition="from_state = 'churned'\n  AND to_state = 'reactivated'",
            ),
        )
        for name, calculation, operands in (
            ("Moves Made Daily", "count(usr_10, usr_13) = 2", "user_id"),
            ("Moves Days in State Mean Daily", "mean(46, 36) = 41", "days_in_previous_state"),
        )
    },
}

# Rates: shares with their part and their population.


def _rate(
    name: str,
    period: str,
    row: str,
    *,
    population: str,
    part: str,
    counts: tuple[str, str, str],
    member: str = "user_id",
    table: str = "gold_state_transition_metrics",
) -> Mapping[str, Example]:
    """Return the examples of a share, its part and its population, selected by `_part_of`.

    `counts` are the calculations of the share, the part and the population.
    """
    names = (f"{name} Share {period}", f"{name} {period}", f"{name} Population {period}")
    return {
        metric: Example(table, row, calculation, query)
        for metric, calculation, query in zip(
            names, counts, _part_of(population, part, member), strict=True
        )
    }


def _of_state(
    name: str, week_before: str, day: str, *, then: str, now: str, counts: tuple[str, str, str]
) -> Mapping[str, Example]:
    """Return the examples of a rate of the users who were in a state seven days earlier."""
    return _rate(
        name,
        "Weekly",
        f"{_on(day)} AND {_PLATFORM} AND from_state = 'all'",
        population="FROM silver.silver_user_state_history AS before\n"
        "JOIN silver.silver_user_state_history AS now USING (user_id)\n"
        f"WHERE before.snapshot_date = '{week_before}' AND now.snapshot_date = '{day}'\n"
        f"  AND now.platform_state <> 'deleted'\n  AND {then}",
        part=now,
        counts=counts,
    )


_IN_USE = "'active', 'returning', 'reactivated', 'dunning'"
_USED_SINCE = "now.total_qualifying_events > before.total_qualifying_events"
_RATE_EXAMPLES = {
    **_rate(
        "Users Activated",
        "Weekly",
        _on("2025-05-18"),
        table=_OVERALL,
        population="FROM bronze.bronze_users_current\n"
        "WHERE signup_date BETWEEN '2025-05-05' AND '2025-05-11'",
        part="user_id IN (\n    SELECT entity_id FROM bronze.bronze_events\n"
        "    WHERE is_qualifying_event AND event_date <= signup_date + 7)",
        counts=(
            "2 / 3 = 0.6667",
            "count(usr_09, usr_20) = 2",
            "count(usr_07, usr_09, usr_20) = 3",
        ),
    ),
    **_of_state(
        "Users Churned",
        "2025-06-01",
        "2025-06-08",
        then=f"before.platform_state IN ({_IN_USE}, 'dormant')",
        now="now.platform_state = 'churned'",
        counts=(
            "1 / 7 = 0.1429",
            "count(usr_05) = 1",
            "count(usr_05, usr_06, usr_07, usr_09, usr_11, usr_17, usr_20) = 7",
        ),
    ),
    **_of_state(
        "Users Dormant",
        "2025-06-01",
        "2025-06-08",
        then=f"before.platform_state IN ({_IN_USE})",
        now="now.platform_state = 'dormant'",
        counts=(
            "1 / 6 = 0.1667",
            "count(usr_20) = 1",
            "count(usr_06, usr_07, usr_09, usr_11, usr_17, usr_20) = 6",
        ),
    ),
    **_of_state(
        "Users Won Back",
        "2025-06-23",
        _DAY,
        then="before.platform_state = 'dormant'",
        now=_USED_SINCE,
        counts=(
            "1 / 4 = 0.25",
            "count(usr_11) = 1",
            "count(usr_07, usr_09, usr_11, usr_20) = 4",
        ),
    ),
    **_of_state(
        "Users Reactivated",
        "2025-06-23",
        _DAY,
        then="before.platform_state = 'churned' AND before.total_qualifying_events > 0",
        now=_USED_SINCE,
        counts=("1 / 3 = 0.3333", "count(usr_13) = 1", "count(usr_12, usr_13, usr_15) = 3"),
    ),
    **_rate(
        "Users Never Activated",
        "Weekly",
        f"{_on('2025-05-18')} AND {_PLATFORM} AND from_state = 'all'",
        population="FROM silver.silver_user_state_history\n"
        "WHERE snapshot_date = '2025-05-18' AND days_since_signup BETWEEN 30 AND 36",
        part="total_qualifying_events = 0",
        counts=("1 / 1 = 1", "count(usr_10) = 1", "count(usr_10) = 1"),
    ),
    **_rate(
        "Accounts Dunning Recovered",
        "Monthly",
        f"{_on('2025-01-20')} AND scope = 'account' AND from_state = 'all'",
        # In these days, a lapse closed no failure.
        population="FROM bronze.bronze_subscription_events AS failure\n"
        "JOIN bronze.bronze_subscription_events AS closing USING (entity_id)\n"
        "WHERE failure.event_type = 'payment_failed'"
        " AND closing.event_timestamp > failure.event_timestamp\n"
        "  AND closing.event_date BETWEEN '2024-12-22' AND '2025-01-20'",
        part="closing.event_type IN\n"
        "    ('payment_recovered', 'subscription_renewed', 'subscription_started')",
        counts=("1 / 1 = 1", "count(acc_03) = 1", "count(acc_03) = 1"),
        member="entity_id",
    ),
}

EXAMPLES: Mapping[str, Example] = {
    **_ACTIVITY_EXAMPLES,
    **_GROWTH_EXAMPLES,
    **_CHANGE_EXAMPLES,
    **_REVENUE_EXAMPLES,
    **_STATE_EXAMPLES,
    **_PRODUCT_EXAMPLES,
    **_COHORT_EXAMPLES,
    **_SEGMENT_EXAMPLES,
    **_DISTRIBUTION_EXAMPLES,
    **_RATE_EXAMPLES,
}
"""Examples by metric name.

A metric that the setting `entities_created` adds has none, because the seeds need not have its events.
"""
