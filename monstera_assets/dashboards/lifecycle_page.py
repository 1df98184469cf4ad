"""The lifecycle page: growth, states, transitions between states, and their rates."""

from __future__ import annotations

from monstera_assets.dashboards import authoring as ma
from monstera_assets.gold import gold_engagement_power_curve as power_curve
from monstera_assets.gold import gold_growth_accounting as growth
from monstera_assets.gold import gold_overall_metrics as overall
from monstera_assets.gold import gold_state_distribution as distribution
from monstera_assets.gold import gold_state_transition_metrics as moves
from monstera_assets.gold import (
    gold_users_active_daily,
    gold_users_active_monthly,
    gold_users_active_weekly,
)

_PERIOD = ma.LAST_18_MONTHS
_GROWTH = {
    "New": (growth.USERS_NEW, 1, "state-new"),
    "Retained": (growth.USERS_RETAINED, 1, "state-active"),
    "Resurrected": (growth.USERS_RESURRECTED, 1, "state-reactivated"),
    "Churned": (growth.USERS_CHURNED, -1, "state-churned"),
}
_ACTIVE = {
    "Monthly": gold_users_active_monthly,
    "Weekly": gold_users_active_weekly,
    "Daily": gold_users_active_daily,
}
_SCOPES = {"Users": moves.PLATFORM, "Accounts": moves.ACCOUNT}
_POWER_WINDOW, _POWER_STEP = 28, 4
STATES: dict[str, list[str]] = {
    "Users": [*overall.USERS_IN_STATE],
    "Accounts": [*overall.ACCOUNTS_IN_STATE],
}


def lifecycle_page(reader: ma.Reader) -> ma.Page:
    """Create the lifecycle page."""
    daily = reader.daily(overall.TABLE)
    rates = reader.daily(moves.TABLE, scope=moves.PLATFORM, from_state=ma.TOTAL, to_state=ma.TOTAL)
    return ma.Page(
        file=ma.LIFECYCLE,
        title="Lifecycle",
        lead="Who joins, stays, leaves and comes back.",
        up=(ma.HOME_LINK,),
        tiles=ma.tiles(
            daily,
            (overall.MONTHLY, overall.WEEKLY, overall.DAILY, overall.STICKINESS, overall.CREATED),
        ),
        sections=(
            ma.section(
                "Growth", [growth_figure(reader), active_users(reader), quick_ratio(reader)]
            ),
            ma.section("States", [states_over_time(reader, "Users"), states_now(reader, "Users")]),
            ma.section("Moves", [moves_figure(reader, "Users")]),
            ma.section(
                "Rates and times",
                [
                    *(
                        ma.trend(
                            name,
                            rates,
                            {rate.share: label for rate, label in shown.items()},
                            _PERIOD,
                            what=f"{' and '.join(shown.values())} Share Weekly",
                        )
                        for name, shown in (
                            ("Leaving", {moves.CHURN: "Churned", moves.DORMANCY: "Dormant"}),
                            (
                                "Coming back",
                                {moves.WIN_BACK: "Won Back", moves.REACTIVATION: "Reactivated"},
                            ),
                            ("Never activated", {moves.NEVER_ACTIVATED: "Never Activated"}),
                        )
                    ),
                    dwell_times(reader),
                ],
            ),
            ma.section(
                "Engagement",
                [
                    ma.trend(
                        "Activated within 7 days",
                        daily,
                        {overall.ACTIVATION.share: "Activated"},
                        _PERIOD,
                    ),
                    ma.trend("Stickiness", daily, {overall.STICKINESS: "DAU / MAU"}, _PERIOD),
                    power(reader),
                ],
            ),
        ),
    )


@ma.item(
    ma.head(
        "Gained and lost users", "Users", "New, Retained, Resurrected and Churned", _PERIOD.name
    )
)
def growth_figure(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Chart growth accounting in adjacent windows of 1, 7 and 30 days, churned users below zero."""
    frame = reader.frame(_PERIOD)
    columns = ", ".join(metric.column_name for metric, _, _ in _GROWTH.values())
    found = reader.rows(
        [growth.TABLE],
        f"SELECT metric_date, window_days, {columns} FROM {growth.TABLE.qualified_name}"
        " WHERE metric_date BETWEEN ? AND ? AND (? - metric_date) % window_days = 0 ORDER BY 1",
        [frame.first, frame.last, frame.last],
    )
    if not any(value for row in found for value in row[2:]):
        return ma.Unavailable(*heading, "No users were gained or lost in this period.")
    grains = {30: "Month", 7: "Week", 1: "Day"}
    rows = [
        (grains[window], day, label, None if value is None else sign * value)
        for window in grains
        for day, days, *values in found
        if days == window
        for (label, (_, sign, _)), value in zip(_GROWTH.items(), values, strict=True)
    ]
    weeks = [row[2:] for row in found if row[1] == ma.WEEK and row[2] is not None]
    new, retained, resurrected, churned = weeks[-1] if weeks else (0, 0, 0, 0)
    grain, users = ma.Field("grain", "Windows"), ma.Field("users", "Users", ",d")
    colors = {label: color for label, (_, _, color) in _GROWTH.items()}
    chart = ma.Chart(
        (grain, ma.ON_DAY, ma.SERIES, users),
        rows,
        ma.charts.columns(ma.ON_DAY, users, colors),
        day=ma.ON_DAY.name,
        series=ma.SERIES.name,
        colors=colors,
        choices=(ma.Choice.of(grain, grains.values(), "Week"),),
        height=280,
    )
    finding = (
        f"In the latest 7 days, {ma.plural(new, 'user')} joined, {resurrected:,} came back"
        f" and {churned:,} of the week before were not active. {retained:,} were active in both weeks."
    )
    described = ma.about([metric for metric, _, _ in _GROWTH.values()], growth.TABLE)
    return ma.Figure(*heading, finding, chart, described, wide=True)


@ma.item(ma.head("Active users", "Users", "Active Monthly, Weekly and Daily", _PERIOD.name))
def active_users(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Plot monthly, weekly and daily active users, in total by day and by segment by week."""
    frame = reader.frame(_PERIOD)
    metrics = {label: module.USERS_ACTIVE for label, module in _ACTIVE.items()}
    rows = reader.rows(
        [module.TABLE for module in _ACTIVE.values()],
        " UNION ALL ".join(
            f"SELECT metric_date AS day, {ma.SEGMENT_SQL} AS segment, '{label}' AS series,"
            f" {metrics[label].column_name} AS users FROM {module.TABLE.qualified_name}"
            " WHERE metric_date BETWEEN $first AND $last"
            f" AND (segment_dimension = '{ma.TOTAL}' OR ($last - metric_date) % {ma.WEEK} = 0)"
            for label, module in _ACTIVE.items()
        )
        + " ORDER BY day, segment, series",
        {"first": frame.first, "last": frame.last},
    )
    totals = [row for row in rows if row[1] == ma.TOTAL]
    monthly = [ma.Point(day, users) for day, _, series, users in totals if series == "Monthly"]
    if not monthly:
        return ma.Unavailable(*heading, ma.nothing_known(metrics.values()))
    users, colors = ma.Field("users", "Users", ",d"), ma.line_colors([*_ACTIVE])
    chart = ma.Chart(
        (ma.ON_DAY, ma.SEGMENT, ma.SERIES, users),
        rows,
        ma.charts.lines(ma.ON_DAY, users, colors),
        day=ma.ON_DAY.name,
        series=ma.SERIES.name,
        colors=colors,
        segment=ma.SEGMENT.name,
    )
    finding = reader.wording.trend_summary(metrics["Monthly"], monthly)
    described = ma.about(metrics.values(), gold_users_active_monthly.TABLE)
    return ma.Figure(*heading, finding, chart, described, wide=True)


def quick_ratio(reader: ma.Reader) -> ma.Item:
    """Plot users gained per user lost over 30 days."""
    daily = reader.daily(growth.TABLE, window_days=30)
    return ma.trend(
        "Gained per lost user", daily, {growth.QUICK_RATIO: "Quick ratio"}, _PERIOD, most=10
    )


@ma.item(
    lambda entities: ma.head(
        "States over time", entities, "in State Daily", _PERIOD.name, by="State"
    )
)
def states_over_time(heading: ma.Head, reader: ma.Reader, entities: str) -> ma.Item:
    """Plot users or accounts by state, in total and by segment, on the last day of each week."""
    frame = reader.frame(_PERIOD)
    members = ma.Field("members", entities, ",d")
    found = reader.rows(
        [distribution.TABLE],
        f"SELECT metric_date, {ma.SEGMENT_SQL}, state, {distribution.MEMBERS.column_name}"
        f" FROM {distribution.TABLE.qualified_name} WHERE metric_date BETWEEN ? AND ? AND scope = ?"
        f" AND (? - metric_date) % {ma.WEEK} = 0 ORDER BY ALL",
        [frame.first, frame.last, _SCOPES[entities], frame.last],
    )
    rows = [(day, segment, ma.words(state), users) for day, segment, state, users in found]
    latest = {row[2]: row[3] for row in rows if row[0] == frame.last and row[1] == ma.TOTAL}
    known = [(name, users, ma.count_text(users)) for name, users in latest.items()]
    finding = ma.ranking(
        entities.lower(), known, whole=sum(latest.values()), when=f"on {ma.day_text(frame.last)}"
    )
    described = ma.about([distribution.MEMBERS], distribution.TABLE)
    states = STATES[entities]
    return ma.stacked_areas(heading, rows, members, states, finding, described, segment=True)


@ma.item(
    lambda entities: ma.head(
        "States now", entities, "in State Daily", ma.LATEST_DAY.name, by="State"
    )
)
def states_now(heading: ma.Head, reader: ma.Reader, entities: str) -> ma.Item:
    """Chart users or accounts by state on the as-of date."""
    metrics = overall.USERS_IN_STATE if entities == "Users" else overall.ACCOUNTS_IN_STATE
    values = reader.daily(overall.TABLE).latest(metrics.values())
    rows = zip(map(ma.words, metrics), values, strict=True)
    described = ma.about(metrics.values(), overall.TABLE)
    return ma.bars(heading, entities.lower(), rows, described, name="State", whole=True)


@ma.item(
    lambda entities: ma.head(
        "Transitions between states", entities, "Moves Daily", _PERIOD.name, by="Transition"
    )
)
def moves_figure(heading: ma.Head, reader: ma.Reader, entities: str) -> ma.Item:
    """Draw the sums of transitions over the chosen days as a Sankey diagram."""
    frame = reader.frame(_PERIOD)
    found = reader.rows(
        [moves.TABLE],
        f"SELECT metric_date, from_state, to_state, {moves.MOVES.column_name}"
        f" FROM {moves.TABLE.qualified_name} WHERE metric_date BETWEEN ? AND ? AND scope = ?"
        f" AND from_state <> '{ma.TOTAL}' AND {moves.MOVES.column_name} > 0 ORDER BY ALL",
        [frame.first, frame.last, _SCOPES[entities]],
    )
    if not found:
        return ma.Unavailable(
            *heading, f"No {entities.lower()} changed their state in this period."
        )
    rows = [(day, ma.words(left), ma.words(to), count) for day, left, to, count in found]
    sums: dict[str, int] = {}
    for _, left, to, count in rows:
        sums[f"{left} to {to.lower()}"] = sums.get(f"{left} to {to.lower()}", 0) + count
    known = [(name, count, ma.count_text(count)) for name, count in sums.items()]
    source, target = ma.Field("from_state", "From"), ma.Field("to_state", "To")
    count = ma.Field("moves", "Moves", ",d")
    colors = {ma.words(state): ma.state_color(state) for state in STATES[entities]}
    chart = ma.Chart(
        (ma.ON_DAY, source, target, count),
        rows,
        ma.charts.flows(source, target, count, colors),
        day=ma.ON_DAY.name,
        height=380,
    )
    finding = (
        f"{ma.ranking('moves', known, whole=sum(sums.values()))} The widths are sums of daily moves, so"
        " somebody who moves twice counts twice."
    )
    return ma.Figure(*heading, finding, chart, ma.about([moves.MOVES], moves.TABLE), wide=True)


@ma.item(
    ma.head(
        "Days in a state before leaving it", "Users", "Days in State Mean", _PERIOD.name, by="State"
    )
)
def dwell_times(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Chart the mean number of days that users were in the state that they left."""
    frame = reader.frame(_PERIOD)
    made, days = moves.MOVES.column_name, moves.DAYS_IN_STATE.column_name
    rows = reader.rows(
        [moves.TABLE],
        f"SELECT from_state, sum({days} * {made}) / sum({made}), CAST(sum({made}) AS BIGINT)"
        f" FROM {moves.TABLE.qualified_name} WHERE metric_date BETWEEN ? AND ? AND scope = ?"
        f" AND from_state <> '{ma.TOTAL}' AND {days} IS NOT NULL GROUP BY from_state"
        " ORDER BY 2 DESC, 1",
        [frame.first, frame.last, moves.PLATFORM],
    )
    if not rows:
        return ma.Unavailable(*heading, "No users changed their state in this period.")
    fields = (
        ma.Field("state", "State"),
        ma.Field("days", "Mean days", ",.1f"),
        ma.Field("moves", "Moves", ",d"),
    )
    shown = [(ma.words(state), mean, count) for state, mean, count in rows]
    finding = (
        f"Users who left a state had been in it longest in {shown[0][0].lower()}:"
        f" {shown[0][1]:,.1f} days on average."
    )
    chart = ma.Chart(fields, shown, ma.charts.bars(*fields[:2]))
    return ma.Figure(
        *heading, finding, chart, ma.about([moves.DAYS_IN_STATE, moves.MOVES], moves.TABLE)
    )


@ma.item(
    ma.head(
        "Days active", "Users", "Active per Window", f"Last {_POWER_WINDOW} Days", by="Active Days"
    )
)
def power(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Chart users by their number of active days, in steps of four."""
    metric, source = power_curve.USERS_BY_ACTIVE_DAYS, power_curve.TABLE
    rows = reader.rows(
        [source],
        f"SELECT (active_days - 1) // {_POWER_STEP} * {_POWER_STEP} AS step,"
        f" CAST(sum({metric.column_name}) AS BIGINT) FROM {source.qualified_name}"
        " WHERE metric_date = ? AND window_days = ? GROUP BY step ORDER BY step",
        [reader.as_of, _POWER_WINDOW],
    )
    steps = [(f"{step + 1} to {step + _POWER_STEP} days", users) for step, users in rows]
    described = ma.about([metric], source)
    return ma.bars(heading, "users", steps, described, name="Active days", whole=True)
