"""gold_growth_accounting: new, retained, resurrected and churned users per window."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.lifecycle.intervals import sliding_presence

WINDOWS = {1: "daily", 7: "weekly", 30: "monthly"}
"""Period in the name of the active users metric, by window length in days."""

_S, _P = "the window ending on the date", "the preceding window"


def _users(name: str, definition: str, formula: str, caveats: str = "") -> ma.Metric:
    return ma.Metric(f"Users {name} per Window", definition, formula, caveats=caveats)


USERS_ACTIVE = _users("Active", f"Users active in {_S} (S).", "|S|")
USERS_ACTIVE_BEFORE = _users("Active Before", f"Users active in {_P} (P).", "|P|")
USERS_NEW = _users(
    "New",
    f"Users whose first-ever qualifying event is in {_S}.",
    "first day in S",
    "Only loaded events count, so users active before the source's first day appear as new.",
)
USERS_RETAINED = _users("Retained", "Users active in both windows (S and P).", "|S and P|")
USERS_RESURRECTED = _users(
    "Resurrected",
    "Users active in window S and before window P, but not in P.",
    "|S without P| - new",
    "No dormancy threshold applies. With a 7-day window, a one-week gap in activity is enough to count"
    " as resurrected.",
)
USERS_CHURNED = _users(
    "Churned",
    "Users active in window P but not in window S.",
    "|P without S|",
    "This metric differs from the churned state, which starts after dormant_days.",
)
QUICK_RATIO = ma.Metric(
    "Users Quick Ratio per Window",
    "(New + resurrected users) / churned users; null if no users churned.",
    "(new + resurrected) / churned",
    ma.Unit.RATIO,
    short_name="Quick ratio",
    population=f"users active in {_P} but not in {_S}",
    numerator=(USERS_NEW, USERS_RESURRECTED),
    denominator=USERS_CHURNED,
)
_COUNTS = (
    *(USERS_ACTIVE, USERS_ACTIVE_BEFORE, USERS_NEW),
    *(USERS_RETAINED, USERS_RESURRECTED, USERS_CHURNED),
)

TABLE = ma.metric_table(
    "gold_growth_accounting",
    group=ma.AssetGroup.RETENTION,
    grain="one date and window length",
    description="How do new, resurrected and churned users explain the change in active users? For"
    " windows of 1, 7 and 30 days, |S| = |P| + new + resurrected - churned, where S is the set of"
    " users active in the window and P is the set of users active in the preceding window.",
    dimensions=(
        ma.METRIC_DATE,
        ma.Column(
            "window_days",
            "int64",
            f"Number of days in each window: {', '.join(map(str, WINDOWS))}.",
        ),
    ),
    metrics=(*_COUNTS, QUICK_RATIO),
    slices=[
        ma.Slice(f"of_{days}_day{'s' if days > 1 else ''}", {"window_days": days})
        for days in WINDOWS
    ],
)


@ma.table_asset(TABLE, days={"silver_daily_user_activity": ma.UP_TO_DAY})
def gold_growth_accounting(silver_daily_user_activity: ir.Table, *, window: ma.Window) -> ir.Table:
    """Compute running totals of users who enter and leave the current and preceding windows."""
    active = ma.materialized(ma.active_days(silver_daily_user_activity))
    first_days = active.group_by("user_id").aggregate(day=active.day.min())
    changes = ibis.union(*(_changes(active, first_days, days, window) for days in WINDOWS))
    grid = ma.dates(window).select(
        "metric_date", window_days=ibis.array(list(WINDOWS)).cast("array<int64>").unnest()
    )
    levels = ma.running_totals(
        changes, grid, keys=["window_days"], values=["retained", "gained", "churned", "new"]
    )
    return levels.select(
        "metric_date",
        "window_days",
        **{
            USERS_ACTIVE.column_name: levels.retained + levels.gained,
            USERS_ACTIVE_BEFORE.column_name: levels.retained + levels.churned,
            USERS_NEW.column_name: levels.new,
            USERS_RETAINED.column_name: levels.retained,
            USERS_RESURRECTED.column_name: levels.gained - levels.new,
            USERS_CHURNED.column_name: levels.churned,
            QUICK_RATIO.column_name: ma.ratio(levels.gained, levels.churned),
        },
    )


def _changes(active: ir.Table, first_days: ir.Table, days: int, window: ma.Window) -> ir.Table:
    """Return the net daily change in retained, gained (in S but not in P), churned and new users."""
    recent = active.filter(active.day > ma.first_day(window) - 2 * days)
    in_s = sliding_presence(recent, keys=["user_id"], days=days)
    none = ibis.literal(0, "int64")
    moves = in_s.select("user_id", day=in_s.day, s=in_s.change, p=none).union(
        in_s.select("user_id", day=in_s.day + days, s=none, p=in_s.change)
    )
    moves = ma.from_first_day(moves, window)
    by_user = moves.group_by("user_id", "day").aggregate(**ma.sums(moves, "s", "p"))
    so_far = ibis.window(group_by="user_id", order_by="day", preceding=None, following=0)
    levels = by_user.select(
        "user_id",
        "day",
        in_s=by_user.s.sum().over(so_far) > 0,
        in_p=by_user.p.sum().over(so_far) > 0,
    )
    by_day = ibis.window(group_by="user_id", order_by="day")
    kinds = {
        "retained": levels.in_s & levels.in_p,
        "gained": levels.in_s & ~levels.in_p,
        "churned": levels.in_p & ~levels.in_s,
    }
    changes = levels.mutate(
        **{
            kind: applies.cast("int64") - applies.cast("int64").lag().over(by_day).fill_null(0)
            for kind, applies in kinds.items()
        }
    ).select("day", *kinds, new=none)
    newly = first_days.filter(first_days.day > ma.first_day(window) - days)
    begins = newly.select(day=newly.day, **dict.fromkeys(kinds, none), new=none + 1)
    ceases = newly.select(day=newly.day + days, **dict.fromkeys(kinds, none), new=none - 1)
    every = ibis.union(
        changes, ma.from_first_day(begins, window), ma.from_first_day(ceases, window)
    )
    by_day = every.group_by("day").aggregate(**ma.sums(every, *kinds, "new"))
    return by_day.mutate(window_days=ibis.literal(days, "int64"))


@ma.rule(TABLE)
def account_balances(gold_growth_accounting: ir.Table, *, window: ma.Window) -> ir.Table:
    """For each window, active = active before + new + resurrected - churned."""
    rows = ma.within(gold_growth_accounting, "metric_date", window)
    active, before, new, retained, resurrected, churned = ma.metric_columns(rows, *_COUNTS)
    return rows.filter(
        (active != before + new + resurrected - churned)
        | (active != retained + new + resurrected)
        | (before != retained + churned)
        | ibis.or_(*(number < 0 for number in (new, retained, resurrected, churned)))
        | ~rows[QUICK_RATIO.column_name].identical_to(ma.ratio(new + resurrected, churned))
    )


@ma.rule(TABLE)
def agrees_with_users_active(
    gold_growth_accounting: ir.Table,
    gold_users_active_daily: ir.Table,
    gold_users_active_weekly: ir.Table,
    gold_users_active_monthly: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Each window's number of active users equals Users Active Daily, Weekly or Monthly."""
    tables = (gold_users_active_daily, gold_users_active_weekly, gold_users_active_monthly)
    published = ma.materialized(
        ibis.union(
            *(
                table.filter(table.segment_dimension == ma.TOTAL).select(
                    "metric_date",
                    window_days=ibis.literal(days, "int64"),
                    active=table[f"users_active_{period}"],
                )
                for table, (days, period) in zip(tables, WINDOWS.items(), strict=True)
            )
        )
    )
    rows = ma.within(gold_growth_accounting, "metric_date", window)
    now = rows.select("metric_date", "window_days", active=rows[USERS_ACTIVE.column_name])
    # The preceding window is compared only on dates for which the users-active metric exists.
    earlier = published.select(
        day=ma.day_number(published.metric_date) + published.window_days,
        window=published.window_days,
        was_active=published.active,
    )
    then = rows.inner_join(
        earlier,
        [rows.window_days == earlier.window, ma.day_number(rows.metric_date) == earlier.day],
    )
    then = then.filter(then[USERS_ACTIVE_BEFORE.column_name] != then.was_active)
    return ma.differing_rows(now, ma.within(published, "metric_date", window)).union(
        then.select(
            "metric_date",
            "window_days",
            active=then.was_active,
            found_in=ibis.literal("preceding window"),
        )
    )
