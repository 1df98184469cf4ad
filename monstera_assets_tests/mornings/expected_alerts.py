"""Which alerts a morning must raise, by the test's own queries.

The queries follow the text of the framework (sections 3, 5, 8 and 9) and docs/generated/alerts.md.
They are literal: they count rows of the state histories and of bronze tables on single dates, and read
no gold table, except for the alerts of a statistical model. All thresholds are written out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

import duckdb

LEAST = 30
"""min_alert_population: a figure of fewer people, events or accounts raises no alert."""
SIGNIFICANCE = 0.001
"""alert_significance: a change of a rate that chance explains more often raises no alert."""

ACCOUNT_LIMIT = 2.5
"""Standard deviations by which an account's part counts more or less than expected, in that test."""
LARGE_ACCOUNT = 0.5
"""Share of all people from which an account counts in full."""

IN_USE = ("active", "returning", "reactivated", "dunning")
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Verdict:
    """Whether a check must fail, and the figures from which this follows."""

    fails: bool
    figures: str


@dataclass(frozen=True)
class Share:
    """A share of people. It is null if there are no people."""

    part: int
    whole: int

    @property
    def value(self) -> float | None:
        return self.part / self.whole if self.whole else None

    def __str__(self) -> str:
        return f"{self.part}/{self.whole}"


Accounts = Mapping[object, Share]
"""The share of each account's people."""


class Warehouse:
    """A warehouse after a run through `last`, and the days that the run computed."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, first: date, last: date) -> None:
        self._connection, self.first, self.last = connection, first, last

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        return self._connection.execute(query, list(values)).fetchall()

    def row(self, query: str, *values: object) -> tuple[object, ...]:
        [row] = self.rows(query, *values)
        return row

    def number(self, query: str, *values: object) -> int:
        [number] = self.row(query, *values)
        assert isinstance(number, int)
        return number


def expected_alerts(warehouse: Warehouse) -> dict[str, Verdict]:
    """Return the verdict on each check that has a query, by table and check."""
    return {name: query(warehouse) for name, query in QUERIES.items()}


def against_weeks_before(
    warehouse: Warehouse, shares_on: Callable[[date], Accounts], limit: float
) -> Verdict:
    """Return whether a rate has changed by more than a limit, in the direction of the limit's sign.

    The changed rate is compared with the week before, and the test of chance with up to 4 weeks before.
    """
    days = [warehouse.last - week * 7 * DAY for week in range(5)]
    if not _has_partition(warehouse, days[1]):
        return Verdict(False, "no week before")
    now, *before = (shares_on(day) for day in days if _has_partition(warehouse, day))
    return changed(now, before, limit)


def changed(now: Accounts, before: Sequence[Accounts], limit: float) -> Verdict:
    """Return whether a rate has changed by more than a limit, and significantly.

    Args:
        now: the share of each account.
        before: the same one week before, and in the weeks before that.
        limit: the limit of the relative change against the week before.
    """
    share, week_before = total([now]), total(before[:1])
    figures = f"{share} after {week_before}"
    if share.value is None or week_before.value is None:
        return Verdict(False, f"{figures}: too few")
    if min(share.whole, week_before.whole) < LEAST:
        return Verdict(False, f"{figures}: too few")
    if week_before.value == 0:
        return Verdict(False, f"{figures}: no change of nothing")
    change = round(share.value / week_before.value - 1, 9)
    crossed = change > limit if limit > 0 else change < limit
    expected = total(before).value
    assert expected is not None
    chance = p_value(
        total([bounded(now, expected)]), total([bounded(week, expected) for week in before])
    )
    return Verdict(
        crossed and chance < SIGNIFICANCE, f"{figures}: change {change:+.3f}, p {chance:.5f}"
    )


def total(weeks: Sequence[Accounts]) -> Share:
    """Return the share of all accounts in all weeks."""
    shares = [share for week in weeks for share in week.values()]
    return Share(sum(share.part for share in shares), sum(share.whole for share in shares))


def bounded(week: Accounts, expected: float) -> Accounts:
    """Return the shares with each account's part within the bounds of chance.

    One account's members act together, so that an account counts at most as much as independent people
    would, and at least as much. Large accounts count in full.
    """
    found = dict(week)
    everyone = total([week]).whole
    for account, share in week.items():
        if share.whole >= LARGE_ACCOUNT * everyone:
            continue
        mean = share.whole * expected
        spread = ACCOUNT_LIMIT * math.sqrt(mean * (1 - expected))
        most = max(1, math.floor(mean + spread))
        least = max(0, min(share.whole - 1, math.ceil(mean - spread)))
        found[account] = Share(min(max(share.part, least), most), share.whole)
    return found


def p_value(one: Share, other: Share) -> float:
    """Return how often two samples of one share differ by at least as much as two shares.

    The two-sided test of two proportions, with the pooled share (Fleiss, Statistical Methods for Rates
    and Proportions, without the correction for continuity).
    """
    pooled = (one.part + other.part) / (one.whole + other.whole)
    error = math.sqrt(pooled * (1 - pooled) * (1 / one.whole + 1 / other.whole))
    if error == 0:
        return 1.0
    distance = abs(one.part / one.whole - other.part / other.whole) / error
    return math.erfc(distance / math.sqrt(2))


# ---------------------------------------------------------------- rates of users


ACCOUNT_OF_DAY = """
    SELECT user_id, coalesce(
        arg_max(account_id, valid_from) FILTER (valid_from <= $1 - 7),
        arg_min(account_id, valid_from)) AS account_id
    FROM bronze.bronze_users GROUP BY user_id
"""
"""The account of each user 7 days before the day $1. The first version holds for all days before it."""


def _of_states(warehouse: Warehouse, day: date, states: Sequence[str], now: str) -> Accounts:
    """Return for how many of the users in some states 7 days earlier a condition is true now.

    Users who are deleted now do not count.
    """
    return _shares(
        warehouse.rows(
            f"""
            SELECT account_id, count(*) FILTER ({now}), count(*)
            FROM silver.silver_user_state_history AS week_ago
            LEFT JOIN ({ACCOUNT_OF_DAY}) AS accounts ON accounts.user_id = week_ago.user_id
            JOIN silver.silver_user_state_history AS today
                ON today.user_id = week_ago.user_id AND today.snapshot_date = week_ago.snapshot_date + 7
            WHERE today.snapshot_date = $1 AND today.platform_state <> 'deleted'
                AND list_contains({list(states)}, week_ago.platform_state)
            GROUP BY account_id
            """,
            day,
        )
    )


def _shares(rows: Sequence[tuple[object, ...]]) -> Accounts:
    found = {}
    for account, part, whole in rows:
        assert isinstance(part, int)
        assert isinstance(whole, int)
        found[account] = Share(part, whole)
    return found


def _churned(warehouse: Warehouse, day: date) -> Accounts:
    """Of the users in use or dormant 7 days earlier, those churned now."""
    return _of_states(warehouse, day, (*IN_USE, "dormant"), "today.platform_state = 'churned'")


def churn(warehouse: Warehouse) -> Verdict:
    """Churn rate +20 % week on week."""
    return against_weeks_before(warehouse, lambda day: _churned(warehouse, day), 0.2)


def _dormant(warehouse: Warehouse, day: date) -> Accounts:
    """Of the users in use 7 days earlier, those dormant now."""
    return _of_states(warehouse, day, IN_USE, "today.platform_state = 'dormant'")


def dormancy(warehouse: Warehouse) -> Verdict:
    """Dormancy rate +10 % week on week."""
    return against_weeks_before(warehouse, lambda day: _dormant(warehouse, day), 0.1)


def _reactivated(warehouse: Warehouse, day: date) -> Accounts:
    """Of the users churned 7 days earlier after a qualifying event, those with one in these days."""
    return _shares(
        warehouse.rows(
            f"""
            WITH uses AS (
                SELECT entity_id AS user_id, event_date FROM bronze.bronze_events
                WHERE entity_type = 'user' AND is_qualifying_event
            ), churned AS (
                SELECT user_id FROM silver.silver_user_state_history
                WHERE snapshot_date = $1 - 7 AND platform_state = 'churned'
                    AND user_id IN (SELECT user_id FROM uses WHERE event_date <= $1 - 7)
            )
            SELECT account_id, count(*) FILTER (user_id IN (
                    SELECT user_id FROM uses WHERE event_date BETWEEN $1 - 6 AND $1
                )), count(*)
            FROM churned JOIN silver.silver_user_state_history AS today USING (user_id)
            LEFT JOIN ({ACCOUNT_OF_DAY}) AS accounts USING (user_id)
            WHERE snapshot_date = $1 AND platform_state <> 'deleted'
            GROUP BY account_id
            """,
            day,
        )
    )


def reactivation(warehouse: Warehouse) -> Verdict:
    """Reactivation rate -25 % week on week."""
    return against_weeks_before(warehouse, lambda day: _reactivated(warehouse, day), -0.25)


def _activated(warehouse: Warehouse, day: date) -> Accounts:
    """Of the signups of D-13 to D-7, those with a qualifying event within 7 days of signup."""
    return _shares(
        warehouse.rows(
            f"""
            SELECT account_id, count(*) FILTER (user_id IN (
                    SELECT entity_id FROM bronze.bronze_events
                    WHERE entity_type = 'user' AND is_qualifying_event
                        AND event_date BETWEEN signup_date AND signup_date + 7
                )), count(*)
            FROM (SELECT user_id, signup_date FROM bronze.bronze_users_current) AS users
            LEFT JOIN ({ACCOUNT_OF_DAY}) AS accounts USING (user_id)
            WHERE signup_date BETWEEN $1 - 13 AND $1 - 7
            GROUP BY account_id
            """,
            day,
        )
    )


def activation(warehouse: Warehouse) -> Verdict:
    """Activation rate -15 % week on week."""
    return against_weeks_before(warehouse, lambda day: _activated(warehouse, day), -0.15)


def state_shares(warehouse: Warehouse) -> Verdict:
    """A state's share moved > 5 points from its mean over the previous 28 days."""
    rows = warehouse.rows(
        """
        SELECT snapshot_date, platform_state, count(*) FROM silver.silver_user_state_history
        WHERE snapshot_date BETWEEN $1 - 28 AND $1 GROUP BY ALL
        """,
        warehouse.last,
    )
    users: dict[object, dict[object, int]] = {}
    for day, state, count in rows:
        assert isinstance(count, int)
        users.setdefault(day, {})[state] = count
    days = [warehouse.last - n * DAY for n in range(29)]
    if any(day not in users for day in days):
        return Verdict(False, "less than 28 days")
    today = users[warehouse.last]
    moved = {}
    for state in {state for of_day in users.values() for state in of_day}:
        shares = [users[day].get(state, 0) / sum(users[day].values()) for day in days]
        shift = round(abs(shares[0] - sum(shares[1:]) / 28), 9)
        if shift > 0.05:
            moved[str(state)] = round(shift, 4)
    people = sum(today.values())
    return Verdict(bool(moved) and people >= LEAST, f"{people} users, moved: {moved}")


def time_in_new(warehouse: Warehouse) -> Verdict:
    """The mean time in state new rose by > 20 % against the 28 days before."""
    means: list[tuple[int, float]] = []
    for ago in (0, 28):
        count, days = warehouse.row(
            """
            SELECT count(*), coalesce(sum(days_in_previous_state), 0)::INTEGER
            FROM silver.silver_user_state_transitions
            WHERE scope = 'platform' AND from_state = 'new'
                AND transition_date BETWEEN $1 - 27 AND $1
            """,
            warehouse.last - ago * DAY,
        )
        assert isinstance(count, int)
        assert isinstance(days, int)
        means.append((count, days / count if count else math.nan))
    (left, now), (left_before, before) = means
    figures = f"{left} users after {now:.2f} days, {left_before} after {before:.2f}"
    if min(left, left_before) < LEAST or not before:
        return Verdict(False, figures)
    return Verdict(round(now / before - 1, 9) > 0.2, figures)


def slow_decline(warehouse: Warehouse) -> Verdict:
    """Monthly users fell in each of 4 weeks, by > 5 % in total."""
    users = [
        warehouse.number(
            """
            SELECT count(DISTINCT entity_id) FROM bronze.bronze_events
            WHERE entity_type = 'user' AND is_qualifying_event
                AND event_date BETWEEN $1 - 29 AND $1
            """,
            warehouse.last - week * 7 * DAY,
        )
        for week in range(5)
    ]
    if not _has_partition(warehouse, warehouse.last - 28 * DAY) or users[4] < LEAST:
        return Verdict(False, f"{users}: too few")
    fell = all(now < before for now, before in pairwise(users))
    decline = round((users[4] - users[0]) / users[4], 9)
    return Verdict(fell and decline > 0.05, f"{users}")


# ---------------------------------------------------------------- events and rows


def _events(warehouse: Warehouse, day: date) -> int:
    return warehouse.number(
        "SELECT count(*) FROM bronze.bronze_events WHERE entity_type = 'user' AND event_date = ?",
        day,
    )


def _has_partition(warehouse: Warehouse, day: date) -> bool:
    return bool(
        warehouse.number("SELECT count(*) FROM bronze.bronze_loads WHERE partition_date = ?", day)
    )


def _usual(warehouse: Warehouse, day: date) -> float | None:
    """Return the mean number of events on the same weekday in the 4 weeks before."""
    days = [day - week * 7 * DAY for week in range(1, 5)]
    if not all(_has_partition(warehouse, one) for one in days):
        return None
    return sum(_events(warehouse, one) for one in days) / 4


def volume(warehouse: Warehouse) -> Verdict:
    """Volume +-20 % from expected."""
    seen, usual = _events(warehouse, warehouse.last), _usual(warehouse, warehouse.last)
    figures = f"{seen} events, usually {usual}"
    if usual is None or usual < LEAST or seen == 0:
        return Verdict(False, figures)
    return Verdict(round(abs(seen / usual - 1), 9) > 0.2, figures)


def no_data(warehouse: Warehouse) -> Verdict:
    """The last day has no events although its weekday usually has."""
    seen, usual = _events(warehouse, warehouse.last), _usual(warehouse, warehouse.last)
    return Verdict(
        usual is not None and usual >= LEAST and seen == 0, f"{seen} events, usually {usual}"
    )


def schema_compliance(warehouse: Warehouse) -> Verdict:
    """Less than 95 % of the day's event rows are accepted. Superseded rows do not count."""
    accepted = warehouse.number(
        "SELECT count(*) FROM bronze.bronze_events WHERE event_date = ?", warehouse.last
    )
    rejected = warehouse.number(
        "SELECT count(*) FROM bronze.bronze_rejected_events"
        " WHERE partition_date = ? AND rejection_reason <> 'superseded'",
        warehouse.last,
    )
    rows = accepted + rejected
    return Verdict(
        rows >= LEAST and accepted / rows < 0.95, f"{accepted} accepted, {rejected} rejected"
    )


def rejected_events(warehouse: Warehouse) -> Verdict:
    """An event row of the run's days is rejected. Superseded rows do not count."""
    rows = warehouse.number(
        "SELECT count(*) FROM bronze.bronze_rejected_events"
        " WHERE partition_date BETWEEN ? AND ? AND rejection_reason <> 'superseded'",
        warehouse.first,
        warehouse.last,
    )
    return Verdict(rows > 0, f"{rows} rows")


def rejected_entities(warehouse: Warehouse) -> Verdict:
    """A row of another input is rejected. Merged and superseded rows do not count."""
    rows = warehouse.number(
        "SELECT count(*) FROM bronze.bronze_rejected_entities"
        " WHERE rejection_reason NOT IN ('superseded', 'merged')"
    )
    return Verdict(rows > 0, f"{rows} rows")


def corrected_rows(warehouse: Warehouse) -> Verdict:
    """An event names no node, although a node lists its type (the only fault in these sources)."""
    rows = warehouse.number(
        """
        SELECT count(*) FROM bronze.bronze_events
        WHERE product_id IS NULL AND event_type IN (
            SELECT unnest(string_split(qualifying_event_types, '|'))
            FROM bronze.bronze_product_catalog
        )
        """
    )
    return Verdict(rows > 0, f"{rows} events without a node")


# ---------------------------------------------------------------- accounts


def dunning_recovery(warehouse: Warehouse) -> Verdict:
    """Of the accounts whose failure closed in 30 days, fewer than 60 % were recovered.

    A failure is open from the first failed payment of a paying account until a recovery, renewal or
    start, or until the subscription ends: 30 days after the failure, or on a cancellation's date.
    """
    facts = warehouse.rows(
        """
        SELECT entity_id, event_type, event_date, coalesce(effective_date, event_date)
        FROM bronze.bronze_subscription_events
        WHERE entity_type = 'account' AND event_date <= $1
        ORDER BY entity_id, event_timestamp, event_id
        """,
        warehouse.last,
    )
    closed: dict[object, tuple[date, bool]] = {}
    for account in dict.fromkeys(row[0] for row in facts):
        last = _last_closing([row[1:] for row in facts if row[0] == account], warehouse.last)
        if last is not None and last[0] > warehouse.last - 30 * DAY:
            closed[account] = last
    share = Share(sum(recovered for _, recovered in closed.values()), len(closed))
    fails = share.whole >= LEAST and share.part / share.whole < 0.6
    return Verdict(fails, f"{share} accounts recovered")


def _last_closing(facts: Sequence[tuple[object, ...]], through: date) -> tuple[date, bool] | None:
    """Return the day on which an account's failure last closed, and whether it was recovered."""
    last: tuple[date, bool] | None = None
    failing: date | None = None
    ends: date | None = None
    pays = False
    # A subscription that ended before the last day has lapsed by then.
    last_day: tuple[object, ...] = ("", through, None)
    for kind, day, effective in [*facts, last_day]:
        assert isinstance(day, date)
        ended = min(
            [*([failing + 30 * DAY] if failing else []), *([ends] if ends else [])],
            default=None,
        )
        if pays and ended is not None and ended < day:
            if failing is not None:
                last = (ended + DAY, False)
            pays, failing, ends = False, None, None
        if kind in ("subscription_started", "subscription_renewed"):
            if failing is not None:
                last = (day, True)
            pays, failing, ends = True, None, None
        elif pays and kind == "payment_failed":
            failing = failing or day
        elif pays and kind == "payment_recovered" and failing is not None:
            last, failing = (day, True), None
        elif pays and kind == "subscription_cancelled":
            assert isinstance(effective, date)
            ends = effective
    return last


def seats(warehouse: Warehouse) -> Verdict:
    """An account uses more seats than it has on one of the run's days."""
    rows = warehouse.rows(
        "SELECT DISTINCT account_id FROM silver.silver_account_state_history"
        " WHERE snapshot_date BETWEEN ? AND ? AND total_seats > 0 AND active_seats > total_seats",
        warehouse.first,
        warehouse.last,
    )
    return Verdict(bool(rows), f"{len(rows)} accounts")


def active_on_lapsed(warehouse: Warehouse) -> Verdict:
    """A user is active on an account that paid once and has no revenue now."""
    rows = warehouse.number(
        """
        SELECT count(*)
        FROM silver.silver_user_current_state AS users
        JOIN silver.silver_account_current_state AS accounts USING (account_id)
        WHERE platform_state = 'active' AND monthly_recurring_revenue = 0 AND account_id IN (
            SELECT account_id FROM bronze.bronze_accounts WHERE first_paid_date <= $1
            UNION ALL
            SELECT entity_id FROM bronze.bronze_subscription_events
            WHERE event_type = 'subscription_started' AND event_date <= $1
        )
        """,
        warehouse.last,
    )
    return Verdict(rows > 0, f"{rows} users")


def outdated_accounts(warehouse: Warehouse) -> Verdict:
    """The row of a paying account differs from its facts."""
    rows = warehouse.rows(
        """
        SELECT account_id
        FROM silver.silver_account_current_state AS now
        JOIN bronze.bronze_accounts_current AS row USING (account_id)
        WHERE now.monthly_recurring_revenue > 0 AND (
            now.subscription_tier IS DISTINCT FROM row.subscription_tier
            OR now.total_seats IS DISTINCT FROM row.total_seats
            OR now.monthly_recurring_revenue IS DISTINCT FROM row.monthly_recurring_revenue
            OR now.contract_renewal_date IS DISTINCT FROM row.contract_renewal_date
        )
        """
    )
    return Verdict(bool(rows), f"accounts {sorted(rows)}")


def never(_: Warehouse) -> Verdict:
    """The company gives no reason for this alert."""
    return Verdict(False, "never")


# ---------------------------------------------------------------- alerts of a statistical model


def _anomalies(severity: str) -> Callable[[Warehouse], Verdict]:
    """The model itself is tested elsewhere: the alert must agree with the published anomalies."""

    def published(warehouse: Warehouse) -> Verdict:
        rows = warehouse.number(
            "SELECT count(*) FROM gold.gold_state_distribution_anomalies"
            " WHERE metric_date = ? AND severity = ?",
            warehouse.last,
            severity,
        )
        return Verdict(rows > 0, f"{rows} anomalies")

    return published


QUERIES: Mapping[str, Callable[[Warehouse], Verdict]] = {
    "gold_state_transition_metrics.churn_rate_is_steady": churn,
    "gold_state_transition_metrics.dormancy_rate_is_steady": dormancy,
    "gold_state_transition_metrics.reactivation_rate_is_steady": reactivation,
    "gold_overall_metrics.activation_rate_is_steady": activation,
    "gold_state_transition_metrics.dunning_is_recovered": dunning_recovery,
    "gold_segment_metrics.state_shares_are_steady": state_shares,
    "gold_state_transition_metrics.time_in_new_is_steady": time_in_new,
    "gold_overall_metrics.users_do_not_decline_slowly": slow_decline,
    "gold_activity_metrics.volume_is_as_expected": volume,
    "gold_activity_metrics.there_is_data": no_data,
    "gold_activity_metrics.days_have_events": never,
    "gold_activity_metrics.last_day_follows_the_others": never,
    "bronze_loads.schema_is_complied_with": schema_compliance,
    "bronze_rejected_events.nothing_is_rejected": rejected_events,
    "bronze_rejected_entities.nothing_is_rejected": rejected_entities,
    "bronze_source_faults.nothing_is_corrected": corrected_rows,
    "bronze_product_catalog.names_follow_convention": never,
    "silver_account_state_history.seats_within_contract": seats,
    "silver_account_current_state.nobody_is_active_on_a_lapsed_account": active_on_lapsed,
    "silver_account_current_state.accounts_table_is_up_to_date": outdated_accounts,
    "silver_account_current_state.tiers_are_in_the_list": never,
    "silver_account_current_state.facts_on_lapsed_subscriptions": never,
    "silver_account_current_state.facts_name_their_subscriptions": never,
    "silver_account_current_state.currencies_have_a_rate": never,
    "gold_state_distribution_anomalies.activity_is_as_expected": _anomalies("high"),
    "gold_state_distribution_anomalies.segments_and_states_are_as_expected": _anomalies("medium"),
    "gold_state_distribution_anomalies.activity_does_not_drift": _anomalies("low"),
}

RATES_OF_P1 = frozenset(
    name
    for name in QUERIES
    if name.endswith(
        (
            "churn_rate_is_steady",
            "reactivation_rate_is_steady",
            "activation_rate_is_steady",
            "dunning_is_recovered",
            "activity_is_as_expected",
        )
    )
)
"""The alerts of level P1 that a company without faults in its source may raise."""

NOT_QUERIED = frozenset(
    {
        "gold_churn_model_evaluation.model_beats_baseline",
        "gold_recommendation_evaluation.affinity_beats_popularity",
    }
)
"""Alerts of level P3 on the quality of trained models, which no query of a few lines repeats."""
