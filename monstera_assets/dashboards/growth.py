"""Figures of coming and going: growth accounting, rates of state moves, and the moves themselves."""

from __future__ import annotations

from functools import partial

from monstera_assets.dashboards import authoring as ma
from monstera_assets.gold import gold_growth_accounting as growth
from monstera_assets.gold import gold_state_transition_metrics as moves

_MOVES_SHOWN = 8
_LENGTHS = {7: "Week", 30: "30 Days"}


@ma.item(
    lambda period, window: ma.headline(
        "Users", "New and Resurrected against Churned", period.name, _LENGTHS[window]
    )
)
def growth_figure(heading: str, reader: ma.Reader, period: ma.Timeframe, window: int) -> ma.Item:
    """Active users won and lost from one window to the next, windows side by side up to the last."""
    metrics = (growth.USERS_NEW, growth.USERS_RESURRECTED, growth.USERS_CHURNED)
    frame = reader.frame(period, window)
    days = frame.days
    values = reader.daily(growth.TABLE, window_days=window).by_day(metrics, frame)
    new, resurrected, churned = (values[metric] for metric in metrics)
    known = [place for place, value in enumerate(new) if value is not None]
    if not any(new[place] + resurrected[place] + churned[place] for place in known):
        return ma.Unavailable(heading, "Nobody came or went on any of these days.")
    gained = [
        None if value is None else value + back
        for value, back in zip(new, resurrected, strict=True)
    ]
    lost = [None if value is None else -value for value in churned]
    won, gone = (sum(value for value in one if value is not None) for one in (gained, lost))
    last, shown = known[-1], ma.count_text
    return ma.charted(
        heading,
        f"In {len(known):,} windows of {window} days, {shown(won)} came or came back"
        f" and {shown(-gone)} went; in the last one {shown(gained[last])}"
        f" and {shown(churned[last])}. People count in each window anew.",
        partial(
            ma.column_chart,
            days,
            ma.Series("Came", ma.numbers(gained)),
            ma.Series("Went", ma.numbers(lost)),
            growth.USERS_NEW.unit,
            columns=(1, 2, 3),
        ),
        ma.day_table(days, values, "Window to"),
        ma.about(metrics, growth.TABLE),
        wide=period is ma.LAST_18_MONTHS,
    )


def rates(reader: ma.Reader, period: ma.Timeframe) -> list[ma.Item]:
    """The shares of users who fall away, and of those who come back."""
    daily = reader.daily(moves.TABLE, scope=moves.PLATFORM, from_state=ma.TOTAL, to_state=ma.TOTAL)
    return [
        ma.trend(
            daily,
            dict(zip(metrics, names, strict=True)),
            period,
            what=f"{' and '.join(map(str.title, names))} Share Weekly",
        )
        for metrics, names in (
            ((moves.CHURN_RATE, moves.DORMANCY_RATE), ("Churned", "Dormant")),
            ((moves.WIN_BACK_RATE, moves.REACTIVATION_RATE), ("Won back", "Reactivated")),
        )
    ]


@ma.item(ma.headline("Users", "Moves Made Daily", ma.LAST_30_DAYS.name, "Move"))
def movers(heading: str, reader: ma.Reader) -> ma.Item:
    """The most frequent moves between states in the last 30 days."""
    frame = reader.frame(ma.LAST_30_DAYS)
    rows = reader.rows(
        [moves.TABLE],
        f"SELECT from_state, to_state, CAST(sum({moves.MOVES.column_name}) AS BIGINT) AS made"
        f" FROM {moves.TABLE.qualified_name} WHERE metric_date BETWEEN ? AND ? AND scope = ?"
        " AND from_state <> ? GROUP BY ALL HAVING made > 0"
        " ORDER BY made DESC, from_state, to_state LIMIT ?",
        [frame.first, frame.last, moves.PLATFORM, ma.TOTAL, _MOVES_SHOWN],
    )
    return ma.bars(
        heading,
        "moves",
        [(f"{ma.words(left)} to {ma.words(to).lower()}", made) for left, to, made in rows],
        ma.about([moves.MOVES], moves.TABLE),
        name="Move",
    )
