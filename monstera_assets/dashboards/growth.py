"""Figures of coming and going: growth accounting, rates of state moves, and the moves themselves."""

from __future__ import annotations

from monstera_assets.dashboards.charts import Series, column_chart
from monstera_assets.dashboards.design import (
    CARD_WIDTH,
    CHART_HEIGHT,
    LAST_18_MONTHS,
    LAST_30_DAYS,
    WIDE_HEIGHT,
    WIDE_WIDTH,
    Timeframe,
    headline,
    words,
)
from monstera_assets.dashboards.figures import about, attempt, bars, trend
from monstera_assets.dashboards.model import Cell, Drawing, Figure, Item, Unavailable, table
from monstera_assets.dashboards.reading import Frame, Reader
from monstera_assets.gold import gold_growth_accounting as growth
from monstera_assets.gold import gold_state_transition_metrics as moves
from monstera_assets.gold.segments import TOTAL

_MOVES_SHOWN = 8
_PLATFORM_TOTAL = {"scope": moves.PLATFORM, "from_state": TOTAL, "to_state": TOTAL}


def growth_figure(reader: Reader, period: Timeframe, window: int) -> Item:
    """Active users won and lost from one window to the next, windows side by side up to the last."""
    length = {7: "Week", 30: "30 Days"}[window]
    heading = headline("Users", "New and Resurrected against Churned", period.name, length)
    metrics = (growth.USERS_NEW, growth.USERS_RESURRECTED, growth.USERS_CHURNED)

    def build() -> Item:
        whole = reader.frame(period)
        frame = Frame(whole.first, whole.last, window)
        values = reader.by_day(growth.TABLE, metrics, frame, {"window_days": window})
        days = frame.days
        new, resurrected, churned = (values[metric] for metric in metrics)
        known = [place for place, value in enumerate(new) if value is not None]
        if not any(new[place] + resurrected[place] + churned[place] for place in known):
            return Unavailable(heading, "Nobody came or went on any of these days.")
        gained = [
            None if value is None else float(value + resurrected[place])
            for place, value in enumerate(new)
        ]
        lost = [None if value is None else -float(value) for value in churned]
        won = sum(value for value in gained if value is not None)
        gone = -sum(value for value in lost if value is not None)
        shown = growth.USERS_ACTIVE.format

        def draw(width: int, height: int) -> Drawing:
            return column_chart(
                days,
                Series("Came", gained),
                Series("Went", lost),
                growth.USERS_NEW.unit,
                width=width,
                height=height,
                columns=(1, 2, 3),
            )

        return Figure(
            title=heading,
            finding=f"In {len(known):,} windows of {window} days, {shown(int(won))} came or came back"
            f" and {shown(int(gone))} went; in the last one {shown(int(gained[known[-1]] or 0))}"
            f" and {shown(churned[known[-1]])}. People count in each window anew.",
            drawing=draw(CARD_WIDTH, CHART_HEIGHT),
            wide=draw(WIDE_WIDTH, WIDE_HEIGHT) if period is LAST_18_MONTHS else None,
            table=table(
                ["Window to", *(metric.name for metric in metrics)],
                (
                    [
                        Cell(str(day)),
                        *(
                            Cell(metric.format(values[metric][place]), values[metric][place])
                            for metric in metrics
                        ),
                    ]
                    for place, day in reversed([*enumerate(days)])
                ),
            ),
            about=about(metrics, [growth.TABLE]),
        )

    return attempt(heading, build)


def rates(reader: Reader, period: Timeframe) -> list[Item]:
    """The shares of users who fall away, and of those who come back."""
    return [
        trend(
            reader,
            moves.TABLE,
            {moves.CHURN_RATE: "Churned", moves.DORMANCY_RATE: "Dormant"},
            period,
            heading=headline("Users", "Churned and Dormant Share Weekly", period.name),
            where=_PLATFORM_TOTAL,
        ),
        trend(
            reader,
            moves.TABLE,
            {moves.WIN_BACK_RATE: "Won back", moves.REACTIVATION_RATE: "Reactivated"},
            period,
            heading=headline("Users", "Won Back and Reactivated Share Weekly", period.name),
            where=_PLATFORM_TOTAL,
        ),
    ]


def movers(reader: Reader, scope: str = moves.PLATFORM) -> Item:
    """The most frequent moves between states in the last 30 days."""
    heading = headline("Users", "Moves Made Daily", LAST_30_DAYS.name, "Move")

    def build() -> Item:
        frame = reader.frame(LAST_30_DAYS)
        rows = reader.rows(
            [moves.TABLE],
            f"SELECT from_state, to_state, CAST(sum({moves.MOVES.column_name}) AS BIGINT) AS made"
            f" FROM {moves.TABLE.qualified_name} WHERE metric_date BETWEEN ? AND ? AND scope = ?"
            " AND from_state <> ? GROUP BY ALL HAVING made > 0"
            " ORDER BY made DESC, from_state, to_state LIMIT ?",
            [frame.first, frame.last, scope, TOTAL, _MOVES_SHOWN],
        )
        return bars(
            heading,
            "moves",
            [
                (f"{words(origin)} to {words(target).lower()}", made, moves.MOVES.format(made))
                for origin, target, made in rows
            ],
            about([moves.MOVES], [moves.TABLE]),
            name="Move",
            value="Moves",
        )

    return attempt(heading, build)
