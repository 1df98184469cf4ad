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
from monstera_assets.gold import gold_state_distribution_anomalies as anomalies
from monstera_assets.gold import gold_state_transition_metrics as moves
from monstera_assets.warehouse.errors import MissingTableError

if TYPE_CHECKING:
    from monstera_assets.operations.status import Status

_TILES = (
    *(overall.MONTHLY, overall.DAILY, overall.STICKINESS, overall.ACCOUNTS_ACTIVE),
    *(revenue.REVENUE_CLOSING, revenue.REVENUE_RETAINED_NET, overall.HEALTH),
)
_LISTED = 5
_ANOMALIES = 3
_CHECKS_NAMED = 3
_LATE_DAYS = 30


def home_page(reader: ma.Reader, status: Status | None) -> ma.Page:
    """Create the home page. The status, if it is known, adds failing checks and a late day."""
    news = _operations(status) if status else []
    for find in (_growth, _revenue, _moves, _anomalies):
        with suppress(MissingTableError):
            news += find(reader)
    return ma.Page(
        file=ma.HOME,
        title="The Company at a Glance",
        lead="What changed since last week, the key figures, and what needs attention.",
        news=tuple(news),
        tiles=(*ma.tiles(reader.daily(overall.TABLE), _TILES), *at_risk(reader)),
        sections=(
            ma.section("Needing attention", [needing_attention(reader, _LISTED)]),
            ma.section("Users", [active_users(reader), states_over_time(reader, "Users")]),
        ),
        below=ma.MAIN_PAGES,
        below_heading="All pages",
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
    values = reader.daily(growth.TABLE, window_days=ma.WEEK).by_day(columns, _two_weeks(reader))
    (new_before, new), (back_before, back), (lost_before, lost) = values.values()
    if new is None:
        return []
    before = (
        f" The week before: {new_before:,}, {back_before:,} and {lost_before:,}."
        if new_before is not None
        else ""
    )
    source = "new" if new > back else "returning"
    verdict = (
        "More users left than came."
        if lost > new + back
        else f"Growth came mostly from {source} users."
        if new + back > lost and new != back
        else "Gains and losses were equal."
        if new + back == lost
        else "Growth came equally from new and returning users."
    )
    text = f"New: {new:,}, back: {back:,}, left: {lost:,}.{before}"
    return [ma.Link(text, ma.LIFECYCLE, verdict)]


def _revenue(reader: ma.Reader) -> list[ma.Link]:
    """Sum the MRR movements of the latest week."""
    frame = reader.frame(ma.Timeframe(ma.WEEK, ""))
    sums = ", ".join(f"sum({metric.column_name})" for metric in revenue.MOVEMENTS.values())
    [moved] = reader.rows(
        [revenue.TABLE],
        f"SELECT {sums} FROM {revenue.TABLE.qualified_name} WHERE metric_date BETWEEN ? AND ?",
        [frame.first, frame.last],
    )
    known = [
        (kind, amount) for kind, amount in zip(revenue.MOVEMENTS, moved, strict=True) if amount
    ]
    if not known:
        return [ma.Link("No account changed its revenue.", ma.REVENUE, "MRR is unchanged.")]
    money, total = reader.wording.money, sum(amount for _, amount in known)
    parts = ", ".join(f"{money(amount)} {kind}" for kind, amount in known)
    verb = "rose by" if total > 0 else "fell by" if total < 0 else "ended where it began:"
    return [ma.Link(f"{parts}.", ma.REVENUE, f"MRR {verb} {money(abs(total))}.")]


def _moves(reader: ma.Reader) -> list[ma.Link]:
    """Name the move between states whose number changed most from the week before."""
    last = reader.as_of
    made = moves.MOVES.column_name
    recent = f"sum({made}) FILTER (metric_date > $middle)"
    earlier = f"sum({made}) FILTER (metric_date <= $middle)"
    rows = reader.rows(
        [moves.TABLE],
        f"SELECT from_state, to_state, CAST(coalesce({recent}, 0) AS BIGINT) AS recent,"
        f" CAST(coalesce({earlier}, 0) AS BIGINT) AS earlier FROM {moves.TABLE.qualified_name}"
        f" WHERE metric_date BETWEEN $first AND $last AND scope = $scope AND from_state <> '{ma.TOTAL}'"
        " GROUP BY ALL HAVING recent <> earlier ORDER BY abs(recent - earlier) DESC, 1, 2 LIMIT 1",
        {
            "first": last - timedelta(days=2 * ma.WEEK - 1),
            "middle": last - timedelta(days=ma.WEEK),
            "last": last,
            "scope": moves.PLATFORM,
        },
    )
    return [
        ma.Link(
            f"{ma.plural(recent, 'user')} this week, {earlier:,} the week before.",
            ma.LIFECYCLE,
            f"{'More' if recent > earlier else 'Fewer'} moves from {ma.words(left).lower()} to"
            f" {ma.words(to).lower()}.",
        )
        for left, to, recent, earlier in rows
    ]


def _anomalies(reader: ma.Reader) -> list[ma.Link]:
    """Describe the latest week's most severe anomalies."""
    frame = reader.frame(ma.Timeframe(ma.WEEK, ""))
    rows = reader.rows(
        [anomalies.TABLE],
        "SELECT metric_date, measure, segment_dimension, segment_value, state, direction, observed,"
        f" expected FROM {anomalies.TABLE.qualified_name} WHERE metric_date BETWEEN ? AND ?"
        " ORDER BY CASE severity WHEN 'high' THEN 0 WHEN 'medium' THEN 1 ELSE 2 END,"
        " abs(score) DESC, metric_date DESC, segment_dimension, segment_value, state LIMIT ?",
        [frame.first, frame.last, _ANOMALIES],
    )
    return [
        ma.Link(
            ma.anomaly_text(measure, observed, expected),
            ma.RISK,
            f"{ma.anomaly_name(measure, dimension, value, state)} was unusually"
            f" {'high' if direction == 'up' else 'low'} on {ma.day_text(day)}.",
        )
        for day, measure, dimension, value, state, direction, observed, expected in rows
    ]


def _two_weeks(reader: ma.Reader) -> ma.Frame:
    return ma.Frame(reader.as_of - timedelta(days=ma.WEEK), reader.as_of, ma.WEEK)
