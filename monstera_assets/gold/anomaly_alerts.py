"""Alerts on anomalies: rules that fail when the last day, or its week, is out of its expected range."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import NOT_JUDGED, AlertLevel, rule
from monstera_assets.gold.gold_state_distribution import SEGMENT_OF_SCOPE
from monstera_assets.gold.gold_state_distribution_anomalies import TABLE, Severity
from monstera_assets.gold.metrics import METRIC_DATE
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.prediction.expected_range import DAYS_BEFORE_JUDGED, Span


def _alarms(rows: ir.Table, states: ir.Table, severity: Severity, window: Window) -> ir.Table:
    """The last day's anomalies of a severity; a note if there are too few days to judge any."""
    found = rows.filter(rows.metric_date == window.last, rows.severity == str(severity))
    told = found.select(
        METRIC_DATE.name,
        "measure",
        *SEGMENT_OF_SCOPE,
        "state",
        "observed",
        "expected",
        "members_deviating",
        "days_in_row",
        "moves_behind",
    )
    days = states.filter(states.metric_date <= window.last).aggregate(
        days=ibis._.metric_date.nunique()
    )
    span = Span.WEEK if severity == Severity.LOW else Span.DAY
    needed = DAYS_BEFORE_JUDGED[span] + 1
    reason = "not judged: " + days.days.cast("string") + f" days of history, fewer than {needed}"
    young = days.filter(days.days < needed).select(**{NOT_JUDGED: reason})
    nothing = {name: ibis.null(dtype) for name, dtype in told.schema().items()}
    return told.mutate(**{NOT_JUDGED: ibis.null("string")}).union(
        young.select(**nothing, **{NOT_JUDGED: young[NOT_JUDGED]})
    )


@rule(
    TABLE,
    "The activity of all users is in its expected range on the last day.",
    blocking=False,
    level=AlertLevel.P1,
)
def activity_is_as_expected(
    gold_state_distribution_anomalies: ir.Table,
    gold_state_distribution: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """The share of users active, or their events, if out of range."""
    return _alarms(
        gold_state_distribution_anomalies, gold_state_distribution, Severity.HIGH, window
    )


@rule(
    TABLE,
    "Every segment's activity and every state's share are in their expected range on the last day.",
    blocking=False,
    level=AlertLevel.P2,
)
def segments_and_states_are_as_expected(
    gold_state_distribution_anomalies: ir.Table,
    gold_state_distribution: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """Segments and states that are out of range."""
    return _alarms(
        gold_state_distribution_anomalies, gold_state_distribution, Severity.MEDIUM, window
    )


@rule(
    TABLE,
    "Activity has not drifted out of its expected range in the weeks before.",
    blocking=False,
    level=AlertLevel.P3,
)
def activity_does_not_drift(
    gold_state_distribution_anomalies: ir.Table,
    gold_state_distribution: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """Users in all or a segment whose week is out of range."""
    return _alarms(gold_state_distribution_anomalies, gold_state_distribution, Severity.LOW, window)
