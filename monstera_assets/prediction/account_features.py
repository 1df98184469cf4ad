"""What is known of an account under contract at the end of a day, and whether it then lapsed."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import AccountState
from monstera_assets.prediction.snapshots import (
    ACCOUNT_HORIZON_STEPS,
    block_of,
    oldest_snapshot,
    sampled,
    with_snapshot,
)

LAPSED = "subscription lapsed"
"""How the reason of the state of an account begins whose subscription has ended."""
_CHANGES = {"30": 1, "90": 3}
"""Days over which changes are told, with the steps that they are."""


def under_contract(rows: ir.Table) -> ir.BooleanValue:
    """Whether an account has a subscription that has not lapsed."""
    without = [str(AccountState.TRIAL), str(AccountState.CHURNED)]
    return ~rows.current_state.isin(without) & ~rows.state_reason.startswith(LAPSED)


def account_features(
    account_history: ir.Table, accounts: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    """The accounts under contract at each snapshot, what was known of them, and what came of it.

    Args:
        account_history: `silver_account_state_history`.
        accounts: `bronze_accounts`.
        policy: the thresholds.

    Returns:
        One row an account and snapshot; `churned` is null where its 90 days have not passed.
    """
    as_of = account_history.aggregate(day=account_history.snapshot_date.max()).day.as_scalar()
    oldest = oldest_snapshot(policy.churn, ACCOUNT_HORIZON_STEPS)
    rows = with_snapshot(account_history, as_of, oldest + max(_CHANGES.values())).view()
    found = rows.filter(under_contract(rows), rows.snapshot <= oldest)
    found = sampled(found, ["account_id"], "account_id", policy.churn)
    for days, steps in _CHANGES.items():
        before = rows.select(
            "account_id",
            snapshot=rows.snapshot - steps,
            **{f"health_{days}": rows.health_score, f"seats_{days}": rows.active_seats},
        )
        found = found.left_join(before, ["account_id", "snapshot"]).drop(
            "account_id_right", "snapshot_right"
        )
    outcome = _outcome(account_history, as_of, oldest)
    found = found.left_join(outcome, ["account_id", "snapshot"]).drop(
        "account_id_right", "snapshot_right"
    )
    found = found.inner_join(
        accounts.select("account_id", created_on=accounts.account_created_at.date()), "account_id"
    )
    return found.select(
        "account_id",
        "snapshot_date",
        "current_state",
        "subscription_tier",
        "total_seats",
        "active_seats",
        "products_active",
        "health_score",
        "seat_utilization_pct",
        "recent_activity_score",
        "contract_status_score",
        "monthly_recurring_revenue",
        "days_to_renewal",
        days_in_state=found.snapshot_date.delta(found.state_since, unit="day"),
        days_since_creation=found.snapshot_date.delta(found.created_on, unit="day"),
        # Of an account that is younger, the change since it was founded is not known, and null.
        **{
            f"health_change_{days}": found.health_score - found[f"health_{days}"]
            for days in _CHANGES
        },
        **{
            f"active_seats_change_{days}": found.active_seats - found[f"seats_{days}"]
            for days in _CHANGES
        },
        churned=ibis.ifelse(
            found.snapshot >= ACCOUNT_HORIZON_STEPS, found.churned.fill_null(False), None
        ),
        as_of_date=as_of,
    )


def _outcome(history: ir.Table, as_of: ir.DateScalar, oldest: int) -> ir.Table:
    """The accounts that were not under contract on some day of the 90 after a snapshot."""
    lost = history.filter(~under_contract(history))
    lost = lost.select("account_id", block=block_of(lost.snapshot_date, as_of)).distinct()
    lost = lost.filter(lost.block < oldest)
    later = ibis.range(1, ACCOUNT_HORIZON_STEPS + 1).unnest().name("later").as_table()
    each = lost.cross_join(later)
    return (
        each.select("account_id", snapshot=(each.block + each.later).cast("int64"))
        .distinct()
        .mutate(churned=ibis.literal(value=True))
    )
