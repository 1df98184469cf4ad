"""Alert rules that fail if the last day, or the week ending on that day, has anomalies."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.gold import gold_state_distribution as distribution
from monstera_assets.gold.gold_state_distribution_anomalies import TABLE, Severity
from monstera_assets.prediction.expected_range import DAYS_BEFORE_JUDGED, Span


def _alert(
    name: str, severity: Severity, level: ma.AlertLevel, description: str, remedy: str
) -> ma.Rule:
    """Return a rule that fails if the last day has an anomaly with the given severity."""
    needed = DAYS_BEFORE_JUDGED[Span.WEEK if severity == Severity.LOW else Span.DAY] + 1

    def anomalies(rows: ir.Table, states: ir.Table, *, window: ma.Window) -> ir.Table:
        found = rows.filter(rows.metric_date == window.last, rows.severity == str(severity))
        found = found.select(
            ma.METRIC_DATE.name,
            "measure",
            *distribution.SEGMENT_OF_SCOPE,
            *("state", "observed", "expected", "members_deviating", "days_in_row", "moves_behind"),
        )
        days = states.filter(states.metric_date <= window.last)
        days = days.aggregate(number=days.metric_date.nunique())
        history = days.number.cast("string") + f" days of history (minimum {needed})"
        reason = "not evaluated: only " + history
        nothing = {column: ibis.null(dtype) for column, dtype in found.schema().items()}
        young = days.filter(days.number < needed).select(**nothing, **{ma.NOT_EVALUATED: reason})
        return found.mutate(**{ma.NOT_EVALUATED: ibis.null("string")}).union(young)

    reads = (TABLE.name, distribution.TABLE.name)
    return ma.Rule(
        TABLE, name, description, anomalies, blocking=False, reads=reads, level=level, remedy=remedy
    )


activity_is_as_expected = _alert(
    "activity_is_as_expected",
    Severity.HIGH,
    ma.AlertLevel.P1,
    "Activity across all users is within its expected range on the last day.",
    "Check whether the last day's delivery is complete. Then look up which segments deviate.",
)
segments_and_states_are_as_expected = _alert(
    "segments_and_states_are_as_expected",
    Severity.MEDIUM,
    ma.AlertLevel.P2,
    "Each segment's activity and each state's share are within their expected ranges on the last day.",
    "Find out today what has changed for the segment or state shown.",
)
activity_does_not_drift = _alert(
    "activity_does_not_drift",
    Severity.LOW,
    ma.AlertLevel.P3,
    "Activity in the week ending on the last day is within its expected range.",
    "Review the activity of the last weeks on the dashboard.",
)
