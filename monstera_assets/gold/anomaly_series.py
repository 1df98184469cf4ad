"""Series evaluated by gold_state_distribution_anomalies: state shares and user activity."""

from __future__ import annotations

from enum import StrEnum

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold import gold_state_distribution as distribution
from monstera_assets.gold import gold_users_active_daily as active_daily
from monstera_assets.gold import gold_users_active_monthly as active_monthly
from monstera_assets.gold.gold_state_transition_metrics import PLATFORM

SERIES = ("measure", *distribution.SEGMENT_OF_SCOPE, "state")
"""Columns that identify a series."""


class Measure(StrEnum):
    """A measure evaluated for each segment."""

    STATE_SHARE = "state_share"
    ACTIVE_SHARE = "active_share"
    EVENTS_PER_USER = "events_per_active_user"


def state_shares(rows: ir.Table, policy: ma.LifecyclePolicy) -> ir.Table:
    """Return each state's net gain: members minus the number implied by the previous day's share."""
    members, _, reached, departed, together = ma.metric_columns(rows, *distribution.TABLE.metrics)
    of_segment = ibis.window(group_by=["metric_date", *distribution.SEGMENT_OF_SCOPE])
    rows = rows.mutate(in_state=members, everybody=members.sum().over(of_segment).cast("int64"))
    rows = rows.mutate(share=rows.in_state / rows.everybody.cast("float64").nullif(0.0))
    by_series = ibis.window(group_by=list(SERIES[1:]), order_by="metric_date")
    before = rows.share.lag().over(by_series)
    return rows.select(
        "metric_date",
        *SERIES[1:],
        measure=ibis.literal(str(Measure.STATE_SHARE)),
        members=rows.everybody,
        amount=rows.in_state - rows.everybody * before,
        turnover=reached + departed,
        base=before,
        together=together,
        is_proportion=ibis.literal(value=False),
        least_deviation=ibis.literal(policy.anomalies.min_share_deviation),
        least_relative_deviation=ibis.literal(0.0),
    )


def active_shares(daily: ir.Table, monthly: ir.Table, policy: ma.LifecyclePolicy) -> ir.Table:
    """Return the share of monthly active users who were active on each day."""
    rows = daily.inner_join(monthly, ["metric_date", "segment_dimension", "segment_value"])
    return _of_activity(
        rows,
        Measure.ACTIVE_SHARE,
        members=rows[active_monthly.USERS_ACTIVE.column_name],
        amount=rows[active_daily.USERS_ACTIVE.column_name],
        policy=policy,
    )


def events_per_user(rows: ir.Table, policy: ma.LifecyclePolicy) -> ir.Table:
    """Return the number of qualifying events per active user for each day."""
    rows = rows.filter(*(rows[name] == ma.TOTAL for name in activity.WHAT))
    rows = rows.mutate(**dict.fromkeys(ma.SEGMENT, ibis.literal(ma.TOTAL)))
    return _of_activity(
        rows,
        Measure.EVENTS_PER_USER,
        members=rows[active_daily.USERS_ACTIVE.column_name],
        amount=rows[activity.EVENTS_QUALIFYING.column_name],
        policy=policy,
    )


def _of_activity(
    rows: ir.Table,
    measure: Measure,
    *,
    members: ir.IntegerValue,
    amount: ir.IntegerValue,
    policy: ma.LifecyclePolicy,
) -> ir.Table:
    return rows.select(
        "metric_date",
        "segment_dimension",
        "segment_value",
        scope=ibis.literal(PLATFORM),
        state=ibis.literal(ma.TOTAL),
        measure=ibis.literal(str(measure)),
        members=members,
        amount=amount.cast("float64"),
        turnover=amount,
        base=ibis.literal(0.0),
        together=ibis.literal(0, "int64"),
        is_proportion=ibis.literal(measure == Measure.ACTIVE_SHARE),
        least_deviation=ibis.literal(0.0),
        least_relative_deviation=ibis.literal(policy.anomalies.min_relative_deviation),
    )
