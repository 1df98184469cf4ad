"""Figures for growth accounting and state transitions."""

from __future__ import annotations

from functools import partial

from monstera_assets.dashboards import authoring as ma
from monstera_assets.gold import gold_growth_accounting as growth
from monstera_assets.gold import gold_state_transition_metrics as moves

_TRANSITIONS_SHOWN = 8
_LENGTHS = {7: "Week", 30: "30 Days"}


@ma.item(
    lambda period, window: ma.headline(
        "Users", "New and Resurrected versus Churned", period.name, _LENGTHS[window]
    )
)
def growth_figure(heading: str, reader: ma.Reader, period: ma.Timeframe, window: int) -> ma.Item:
    """Chart the active users gained and lost in adjacent windows through the as-of date."""
    metrics = (growth.USERS_NEW, growth.USERS_RESURRECTED, growth.USERS_CHURNED)
    frame = reader.frame(period, window)
    days = frame.days
    values = reader.daily(growth.TABLE, window_days=window).by_day(metrics, frame)
    new, resurrected, churned = (values[metric] for metric in metrics)
    known = [place for place, value in enumerate(new) if value is not None]
    if not any(new[place] + resurrected[place] + churned[place] for place in known):
        return ma.Unavailable(heading, "No users were gained or lost in this period.")
    gained = [
        None if value is None else value + back
        for value, back in zip(new, resurrected, strict=True)
    ]
    lost = [None if value is None else -value for value in churned]
    won, gone = (sum(value for value in one if value is not None) for one in (gained, lost))
    last, shown = known[-1], ma.count_text
    return ma.charted(
        heading,
        f"Over {len(known):,} windows of {window} days, {shown(won)} users were new or resurrected"
        f" and {shown(-gone)} churned. In the latest window, {shown(gained[last])} users were new or"
        f" resurrected and {shown(churned[last])} churned. A user can be counted in several windows.",
        partial(
            ma.column_chart,
            days,
            ma.Series("Gained", ma.numbers(gained)),
            ma.Series("Lost", ma.numbers(lost)),
            growth.USERS_NEW.unit,
            columns=(1, 2, 3),
        ),
        ma.day_table(reader.wording, days, values, "Window ending"),
        ma.about(metrics, growth.TABLE),
        wide=period is ma.LAST_18_MONTHS,
    )


def rates(reader: ma.Reader, period: ma.Timeframe) -> list[ma.Item]:
    """Return figures for the churn, dormancy, win-back, reactivation and never-activated rates."""
    daily = reader.daily(moves.TABLE, scope=moves.PLATFORM, from_state=ma.TOTAL, to_state=ma.TOTAL)
    return [
        ma.trend(
            daily,
            dict(zip(metrics, names, strict=True)),
            period,
            what=f"{' and '.join(map(str.title, names))} Share Weekly",
        )
        for metrics, names in (
            ((moves.CHURN.share, moves.DORMANCY.share), ("Churned", "Dormant")),
            ((moves.WIN_BACK.share, moves.REACTIVATION.share), ("Won back", "Reactivated")),
            ((moves.NEVER_ACTIVATED.share,), ("Never activated",)),
        )
    ]


@ma.item(ma.headline("Users", "Transitions Daily", ma.LAST_30_DAYS.name, "Transition"))
def transitions(heading: str, reader: ma.Reader) -> ma.Item:
    """Chart the most frequent state transitions in the last 30 days."""
    frame = reader.frame(ma.LAST_30_DAYS)
    rows, rest = reader.most(
        moves.TABLE,
        ["from_state", "to_state"],
        moves.MOVES,
        "WHERE metric_date BETWEEN ? AND ? AND scope = ? AND from_state <> ?"
        f" AND {moves.MOVES.column_name} > 0",
        [frame.first, frame.last, moves.PLATFORM, ma.TOTAL],
        _TRANSITIONS_SHOWN,
    )
    return ma.bars(
        heading,
        "transitions",
        [(f"{ma.words(left)} to {ma.words(to).lower()}", made) for left, to, made in rows],
        ma.about([moves.MOVES], moves.TABLE),
        name="Transition",
        share=True,
        rest=rest,
    )
