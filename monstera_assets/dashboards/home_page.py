"""The home page: what changed, key figures, and what needs attention."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.lifecycle_page import active_users, states_over_time
from monstera_assets.dashboards.revenue_page import at_risk, needing_attention
from monstera_assets.gold import gold_growth_accounting as growth
from monstera_assets.gold import gold_overall_metrics as overall
from monstera_assets.gold import gold_revenue_metrics as revenue
from monstera_assets.warehouse.errors import MissingTableError

if TYPE_CHECKING:
    from monstera_assets.operations.status import Status

_TILES = (
    *(overall.MONTHLY, overall.DAILY, overall.STICKINESS, overall.ACCOUNTS_ACTIVE),
    *(revenue.REVENUE_CLOSING, revenue.REVENUE_RETAINED_NET, overall.HEALTH),
)
_CHECKS_NAMED = 3
_LATE_DAYS = 30
_LATEST_WEEK = f"metric_date > $last - {ma.WEEK} AND {ma.DAYS_SQL}"


def home_page(reader: ma.Reader, status: Status | None) -> ma.Page:
    """Create the home page. The status, if it is known, adds failing checks and a late day."""
    news = _operations(status) if status else []
    for find in (_growth, _revenue, _anomalies):
        with suppress(MissingTableError):
            news += find(reader)
    return ma.Page(
        ma.HOME,
        "The Company at a Glance",
        "What changed since last week, the key figures, and what needs attention.",
        [*ma.tiles(reader.daily(overall.TABLE), *_TILES), *at_risk(reader)],
        [
            ma.Section("Needing attention", [needing_attention(reader, 5, "accounts.html")]),
            ma.Section("Users", [active_users(reader), states_over_time(reader, "Users")]),
        ],
        news=news,
    )


def _operations(status: Status) -> list[ma.Link]:
    """Describe a late day and failing checks."""
    found = []
    due, latest = status.due.day, status.latest_day
    # Data that ends long ago is history, such as the example data, and not late.
    if status.late and latest and (due - latest).days <= _LATE_DAYS:
        text = f"{ma.day_text(due)} was due by {status.due.deadline:%-d %b %Y %H:%M %Z}."
        found.append(ma.Link(text, "", "The data is late."))
    failing = [
        f"{count} of level {level}" for level, count in status.failing_checks.items() if count
    ]
    if failing:
        names = [f"{one.table}.{name}" for one in status.tables for name in one.failing_checks]
        more = f" and {len(names) - _CHECKS_NAMED} more" if len(names) > _CHECKS_NAMED else ""
        text = f"{', '.join(names[:_CHECKS_NAMED])}{more}. `monstera status` lists them."
        found.append(ma.Link(text, "", f"Checks fail: {', '.join(failing)}."))
    return found


def _growth(reader: ma.Reader) -> list[ma.Link]:
    """Compare the users gained and lost in the latest week with those of the week before."""
    columns = (growth.USERS_NEW, growth.USERS_RESURRECTED, growth.USERS_CHURNED)
    days = [reader.last - timedelta(days=ma.WEEK), reader.last]
    values = reader.daily(growth.TABLE, window_days=ma.WEEK).on(columns, days)
    earlier, (new, back, lost) = zip(*values.values(), strict=True)
    if new is None:
        return []
    before = ""
    if None not in earlier:
        before = " The week before: {:,}, {:,} and {:,}.".format(*earlier)
    if lost > new + back:
        verdict = "More users left than came."
    elif new + back == lost:
        verdict = "Gains and losses were equal."
    elif new == back:
        verdict = "More users came than left, equally new and returning users."
    else:
        verdict = f"More users came than left, mostly {'new' if new > back else 'returning'} users."
    text = f"New: {new:,}, back: {back:,}, left: {lost:,}.{before}"
    return [ma.Link(text, "lifecycle.html", verdict)]


def _revenue(reader: ma.Reader) -> list[ma.Link]:
    """Sum the MRR movements of the latest week."""
    sums = ", ".join(f"sum({metric.column_name})" for metric in revenue.MOVEMENTS.values())
    [moved] = reader.rows(f"SELECT {sums} FROM gold_revenue_metrics WHERE {_LATEST_WEEK}")
    known = {kind: amount for kind, amount in zip(revenue.MOVEMENTS, moved, strict=True) if amount}
    if not known:
        return [ma.Link("No account changed its revenue.", "revenue.html", "MRR is unchanged.")]
    money, total = reader.wording.money, sum(known.values())
    parts = ", ".join(f"{money(amount)} {kind}" for kind, amount in known.items())
    verb = "rose by" if total > 0 else "fell by" if total < 0 else "ended where it began:"
    return [ma.Link(f"{parts}.", "revenue.html", f"MRR {verb} {money(abs(total))}.")]


def _anomalies(reader: ma.Reader) -> list[ma.Link]:
    """Describe the latest week's most severe anomalies."""
    rows = reader.rows(
        "SELECT metric_date, measure, segment_dimension, segment_value, state, direction, observed,"
        f" expected FROM gold_state_distribution_anomalies WHERE {_LATEST_WEEK}"
        " ORDER BY CASE severity WHEN 'high' THEN 0 WHEN 'medium' THEN 1 ELSE 2 END,"
        " abs(score) DESC, metric_date DESC, segment_dimension, segment_value, state LIMIT 3"
    )
    return [
        ma.Link(
            ma.anomaly_text(measure, observed, expected),
            "risk.html",
            f"{ma.anomaly_name(measure, dimension, value, state)} was unusually"
            f" {'high' if direction == 'up' else 'low'} on {ma.day_text(day)}.",
        )
        for day, measure, dimension, value, state, direction, observed, expected in rows
    ]
