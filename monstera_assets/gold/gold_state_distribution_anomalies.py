"""gold_state_distribution_anomalies: days and weeks with state shares or activity out of range."""

from __future__ import annotations

from enum import StrEnum

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.gold import gold_state_distribution as distribution
from monstera_assets.gold import gold_users_active_daily as active_daily
from monstera_assets.gold import gold_users_active_monthly as active_monthly
from monstera_assets.gold.anomaly_series import (
    SERIES,
    Measure,
    active_shares,
    events_per_user,
    state_shares,
)
from monstera_assets.gold.contributing_transitions import BASELINE_DAYS, contributing_transitions
from monstera_assets.gold.gold_state_transition_metrics import PLATFORM, SCOPE
from monstera_assets.gold.segments import user_segments
from monstera_assets.prediction.expected_range import (
    DAYS_NEEDED,
    DAYS_OF,
    MODEL_VERSION,
    Direction,
    Span,
    evaluate,
)

ROW_DAYS = 28
"""Maximum value of `days_in_row`."""
_ROUNDING = 1e-9


class Severity(StrEnum):
    """The severity of an anomaly."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


TABLE = ma.declare_table(
    "gold_state_distribution_anomalies",
    group=ma.AssetGroup.PREDICTION,
    grain="one date, span, measure and segment (and state, for state shares) out of range",
    description="On which days and in which weeks did a measure fall outside its expected range?"
    " The measures are state shares, the daily share of monthly active users, and events per active"
    " user. The expected range for a date is computed from earlier days only.",
    key=("metric_date", "span", *SERIES),
    partition_column=ma.METRIC_DATE.name,
    columns=(
        ma.METRIC_DATE,
        ma.Column(
            "span",
            "string",
            "Evaluated period: the day, or the week ending on that day. A week is compared with the"
            " weeks that ended 4 to 15 weeks earlier.",
            allowed=tuple(Span),
        ),
        ma.Column(
            "measure",
            "string",
            "Evaluated measure. state_share: members in the state / members of the segment, evaluated"
            " by the change from the previous day. active_share: users active on the day / users active"
            " in the 30 days ending on that day. events_per_active_user: qualifying events on the day /"
            " users active on that day.",
            allowed=tuple(Measure),
        ),
        SCOPE,
        *ma.segment_columns((*ma.SEGMENT_DIMENSIONS, distribution.PRODUCT_DIMENSION), "members"),
        *ma.columns("string", state=f"Lifecycle state; `{ma.TOTAL}` for activity measures."),
        *ma.columns(
            "int64",
            members="Number of members in the segment. For active_share, only users active in the last"
            " 30 days are counted. For events_per_active_user, only users active on the day are"
            " counted. For weeks, the value is the daily mean.",
        ),
        *ma.columns(
            "float64",
            observed="Observed value: a share between 0 and 1, or events per user.",
            expected="Expected value, in the same unit as `observed`.",
            expected_low="Lower bound of the expected range.",
            expected_high="Upper bound of the expected range.",
        ),
        *ma.columns(
            "int64",
            members_deviating="Observed minus expected number of members or events; for a week, the"
            " daily mean.",
        ),
        ma.Column("direction", "string", "Direction of the deviation.", allowed=tuple(Direction)),
        *ma.columns(
            "float64",
            score="Deviation from the expected value, in standard deviations.",
            threshold="Absolute score above which the measure is out of range.",
        ),
        *ma.columns(
            "int64",
            series_judged="Number of series of the same kind (state shares, daily or weekly activity)"
            " that were evaluated on the date.",
            days_in_row="Number of consecutive days, ending on the date, on which the series was out of"
            f" range: 1 on the first day, and at most {ROW_DAYS}.",
        ),
        ma.Column(
            "severity",
            "string",
            "Severity: high for daily activity across all users, medium for other daily anomalies, and"
            " low for weekly anomalies.",
            allowed=tuple(Severity),
        ),
        *ma.columns("string", model_version="Version of the detection method."),
        *ma.columns(
            "date",
            training_first_date="First day used to compute the expected value.",
            training_last_date="Last day used to compute the expected value; always before the date.",
        ),
        *ma.columns(
            "string",
            nullable=True,
            moves_behind="Transitions in the segment and span whose counts differ most from their usual"
            f" counts (means over the previous {BASELINE_DAYS} days), with the actual and usual counts;"
            " null if no count differs.",
        ),
    ),
)

_DAYS = ma.last_days(DAYS_NEEDED + ROW_DAYS, before_first_partition=False)
_TRANSITION_DAYS = ma.last_days(max(DAYS_OF.values()) + BASELINE_DAYS, before_first_partition=False)


def _by_severity(relation: ir.Table) -> ir.Table:
    latest = relation.metric_date.max().over(ibis.window())
    recent = relation.mutate(ago=ma.day_number(latest) - ma.day_number(relation.metric_date))
    recent = recent.filter(recent.ago < ROW_DAYS, recent.days_in_row == 1)
    shown = recent.order_by(ibis.desc("metric_date"), ibis.desc(recent.score.abs()), *SERIES)
    return shown.select(
        "metric_date",
        "severity",
        "measure",
        "segment_value",
        "state",
        "direction",
        observed=shown.observed.round(4).cast("string"),
        expected=shown.expected.round(4).cast("string"),
    ).limit(20)


@ma.table_asset(
    TABLE,
    days={
        "gold_state_distribution": _DAYS,
        "gold_users_active_daily": _DAYS,
        "gold_users_active_monthly": _DAYS,
        "gold_activity_metrics": _DAYS,
        "silver_user_state_transitions": _TRANSITION_DAYS,
        "silver_account_state_transitions": _TRANSITION_DAYS,
        "silver_account_state_intervals": ma.UP_TO_AS_OF,
    },
    previews=[
        ma.Preview("Anomalies that started in the 28 days ending on the latest date", _by_severity)
    ],
)
def gold_state_distribution_anomalies(
    gold_state_distribution: ir.Table,
    gold_users_active_daily: ir.Table,
    gold_users_active_monthly: ir.Table,
    gold_activity_metrics: ir.Table,
    silver_user_state_transitions: ir.Table,
    silver_account_state_transitions: ir.Table,
    bronze_users: ir.Table,
    silver_account_state_intervals: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    window: ma.Window,
) -> ir.Table:
    """Evaluate each series by day, and the active-user shares also by week."""
    active = active_shares(gold_users_active_daily, gold_users_active_monthly, policy)
    activity = active.union(events_per_user(gold_activity_metrics, policy))
    states = state_shares(gold_state_distribution, policy)
    families = ((states, Span.DAY), (activity, Span.DAY), (active, Span.WEEK))
    # The false-alert budget is divided among the series families so that the many state series do not
    # widen the ranges for activity.
    false_alarms = policy.anomalies.max_false_alarms / len(families)
    rows = ibis.union(
        *(_out_of_range(series, span, false_alarms, policy) for series, span in families)
    )
    rows = ma.materialized(ma.within(rows, ma.METRIC_DATE.name, window))
    segments = user_segments(bronze_users, silver_account_state_intervals)
    transitions = distribution.segment_transitions(
        silver_user_state_transitions, silver_account_state_transitions, segments
    )
    found = rows.left_join(contributing_transitions(rows, transitions, TABLE.key), TABLE.key)
    is_total = (rows.segment_dimension == ma.TOTAL) & (rows.measure != str(Measure.STATE_SHARE))
    return found.mutate(
        model_version=ibis.literal(MODEL_VERSION),
        direction=ibis.ifelse(found.score > 0, str(Direction.UP), str(Direction.DOWN)),
        severity=ibis.cases(
            (rows.span == str(Span.WEEK), str(Severity.LOW)),
            (is_total, str(Severity.HIGH)),
            else_=str(Severity.MEDIUM),
        ),
    ).select([column.name for column in TABLE.columns])


def _out_of_range(
    series: ir.Table, span: Span, false_alarms: float, policy: ma.LifecyclePolicy
) -> ir.Table:
    """Return the out-of-range days, each with the number of consecutive days out of range so far."""
    rows = evaluate(
        series, keys=SERIES, span=span, policy=policy.anomalies, false_alarms=false_alarms
    )
    lately = ibis.window(
        group_by=list(SERIES), order_by="metric_date", preceding=ROW_DAYS - 1, following=0
    )
    last_in_range = (
        ibis.ifelse(rows.is_out, None, ma.day_number(rows.metric_date)).max().over(lately)
    )
    in_row = ma.day_number(rows.metric_date) - last_in_range
    rows = rows.mutate(
        span=ibis.literal(str(span)),
        days_in_row=in_row.fill_null(rows.metric_date.count().over(lately)),
    )
    return rows.filter(rows.is_out).drop("is_out")


@ma.rule(TABLE)
def rows_are_out_of_range(
    gold_state_distribution_anomalies: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Each row is out of range, exceeds its threshold and was evaluated using only earlier days.

    Observed shares are between 0 and 1.
    """
    rows = ma.within(gold_state_distribution_anomalies, ma.METRIC_DATE.name, window)
    is_up = rows.direction == str(Direction.UP)
    is_out = ibis.ifelse(
        is_up,
        (rows.observed > rows.expected_high) & (rows.score > rows.threshold),
        (rows.observed < rows.expected_low) & (rows.score < -rows.threshold),
    )
    return rows.filter(
        ~is_out
        | (rows.expected_low > rows.expected)
        | (rows.expected_high < rows.expected)
        | (rows.training_last_date >= rows.metric_date)
        | ~rows.days_in_row.between(1, ROW_DAYS)
        | ((rows.measure != str(Measure.EVENTS_PER_USER)) & ~rows.observed.between(0, 1))
    ).select(ma.METRIC_DATE.name, "span", *SERIES, "observed", "expected", "score", "threshold")


@ma.rule(TABLE)
def observed_is_published(
    gold_state_distribution_anomalies: ir.Table,
    gold_state_distribution: ir.Table,
    gold_users_active_daily: ir.Table,
    gold_users_active_monthly: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Each day's observed value equals the value in the state and activity tables."""
    rows = ma.within(gold_state_distribution_anomalies, ma.METRIC_DATE.name, window)
    rows = rows.filter(rows.span == str(Span.DAY), rows.measure != str(Measure.EVENTS_PER_USER))
    states = ma.within(gold_state_distribution, ma.METRIC_DATE.name, window)
    daily = ma.within(gold_users_active_daily, ma.METRIC_DATE.name, window)
    active = daily.inner_join(gold_users_active_monthly, [ma.METRIC_DATE.name, *ma.SEGMENT])
    published = states.select(
        ma.METRIC_DATE.name,
        *SERIES[1:],
        measure=ibis.literal(str(Measure.STATE_SHARE)),
        published=states[distribution.MEMBERS_SHARE.column_name],
    ).union(
        active.select(
            ma.METRIC_DATE.name,
            scope=ibis.literal(PLATFORM),
            **{name: active[name] for name in ma.SEGMENT},
            state=ibis.literal(ma.TOTAL),
            measure=ibis.literal(str(Measure.ACTIVE_SHARE)),
            published=ma.ratio(
                active[active_daily.USERS_ACTIVE.column_name],
                active[active_monthly.USERS_ACTIVE.column_name],
            ),
        )
    )
    both = rows.left_join(published, [ma.METRIC_DATE.name, *SERIES])
    differs = (both.observed - both.published).abs() > _ROUNDING
    return both.filter(both.published.isnull() | differs).select(
        ma.METRIC_DATE.name, *SERIES, "observed", "published"
    )
