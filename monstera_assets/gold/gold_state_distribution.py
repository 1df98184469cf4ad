"""gold_state_distribution: members and transitions per state, by scope and segment."""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.gold.gold_state_transition_metrics import (
    ACCOUNT,
    PLATFORM,
    PRODUCT,
    SCOPE,
    with_entry,
)
from monstera_assets.gold.segments import segments_held, user_dimensions, user_segments
from monstera_assets.lifecycle.intervals import ALWAYS
from monstera_assets.lifecycle.products import active_products
from monstera_assets.silver.silver_user_product_state_intervals import ADOPTED_STATES

PRODUCT_DIMENSION = "product"
_STATES = {PLATFORM: ma.UserState, PRODUCT: ADOPTED_STATES, ACCOUNT: ma.AccountState}

MEMBERS = ma.Metric(
    "Members in State Daily",
    "Users, product relationships or accounts in the state at the end of the day.",
    "count(members)",
)
MEMBERS_SHARE = ma.Metric(
    "Members in State Share Daily",
    "Members in the state / all members of the segment; null if there are no members.",
    "in state / count(members)",
    population="all members of the segment",
)
ENTERED = ma.Metric(
    "Members Reached State Daily",
    "Members who entered the state on the date, including members who first appear on that day.",
    "count(moves by to_state) + count(members on their first day)",
    additivity=ma.Additivity.ADDITIVE,
)
LEFT = ma.Metric(
    "Members Left State Daily",
    "Members who left the state on the date.",
    "count(moves by from_state)",
    additivity=ma.Additivity.ADDITIVE,
)
NET_MOVES_SQUARED_BY_ACCOUNT = ma.Metric(
    "Members Moved Together Daily",
    "Sum, over all accounts, of the squared net change in the account's number of members in the"
    " state. The sum equals the number of transitions if each transition occurred in a different"
    " account, and is much larger if members of the same account changed state together.",
    "sum((moves into - moves out of the state, by account) ^ 2)",
    caveats="If accounts act independently, the sum is the variance of the net change.",
    additivity=ma.Additivity.NON_ADDITIVE,
)

SEGMENT_OF_SCOPE = ("scope", "segment_dimension", "segment_value")
"""Columns that identify a segment within a scope."""
_KEY = (*SEGMENT_OF_SCOPE, "state")

TABLE = ma.metric_table(
    "gold_state_distribution",
    group=ma.AssetGroup.LIFECYCLE,
    grain="one date, scope, segment and state, including states without members",
    description="How are users, product relationships and accounts distributed across states"
    f" on each date? Users are counted in total (`{ma.TOTAL}`) and by"
    f" {', '.join(ma.SEGMENT_DIMENSIONS[:-1])} and {ma.SEGMENT_DIMENSIONS[-1]}, as of the date."
    " Product relationships are counted by product, and accounts only in total. A segment value has"
    " rows starting on the first date on which a user has the value, and a product has rows starting on"
    " its launch date or the date of its first use.",
    dimensions=(
        ma.METRIC_DATE,
        SCOPE,
        *ma.segment_columns((*ma.SEGMENT_DIMENSIONS, PRODUCT_DIMENSION), "members"),
        ma.Column("state", "string", "Lifecycle state."),
    ),
    metrics=(MEMBERS, MEMBERS_SHARE, ENTERED, LEFT, NET_MOVES_SQUARED_BY_ACCOUNT),
    slices=[
        ma.Slice(
            scope if name == ma.TOTAL else f"{scope}_by_{name}",
            {"scope": scope, "segment_dimension": name},
        )
        for scope, names in {
            PLATFORM: (ma.TOTAL, *ma.SEGMENT_DIMENSIONS),
            PRODUCT: (PRODUCT_DIMENSION,),
            ACCOUNT: (ma.TOTAL,),
        }.items()
        for name in names
    ],
)


@ma.table_asset(
    TABLE,
    days={
        "silver_user_state_history": ma.SAME_DAYS,
        "silver_user_product_state_history": ma.SAME_DAYS,
        "silver_account_state_history": ma.SAME_DAYS,
        "silver_user_state_transitions": ma.SAME_DAYS,
        "silver_account_state_transitions": ma.SAME_DAYS,
        "silver_account_state_intervals": ma.UP_TO_AS_OF,
    },
)
def gold_state_distribution(
    silver_user_state_history: ir.Table,
    silver_user_product_state_history: ir.Table,
    silver_account_state_history: ir.Table,
    silver_user_state_transitions: ir.Table,
    silver_account_state_transitions: ir.Table,
    bronze_users: ir.Table,
    bronze_accounts: ir.Table,
    silver_account_state_intervals: ir.Table,
    silver_user_product_state_intervals: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Count the members at the end of each day and the transitions on that day."""
    segments = ma.materialized(user_segments(bronze_users, silver_account_state_intervals))
    histories = with_entry(
        silver_user_state_history,
        silver_user_product_state_history,
        silver_account_state_history,
        bronze_accounts,
    )
    total = ibis.literal(ma.TOTAL)
    counted = ibis.union(
        _of_users(histories[PLATFORM], bronze_users, silver_account_state_intervals),
        _counted(PRODUCT, histories[PRODUCT], {PRODUCT_DIMENSION: "product_id"}),
        _counted(ACCOUNT, histories[ACCOUNT], {ma.TOTAL: total}),
    )
    made = _transitioned(silver_user_state_transitions, silver_account_state_transitions, segments)
    held = segments_held(bronze_users, silver_account_state_intervals)
    uses = silver_user_product_state_intervals
    used = uses.group_by("product_id").aggregate(
        used_from=ma.day_number(uses.first_access_date.min())
    )
    products = active_products(bronze_product_catalog).left_join(used, "product_id")
    launched = ma.day_number(products.created_date)
    products = products.select("product_id", held_from=ibis.least(launched, products.used_from))
    grid = _grid(held, products, window)
    rows = ma.left_joined(grid, counted, made, on=["metric_date", *_KEY])
    members = rows.members.fill_null(0)
    everybody = members.sum().over(ibis.window(group_by=["metric_date", *SEGMENT_OF_SCOPE]))
    return rows.select(
        "metric_date",
        *_KEY,
        **{
            MEMBERS.column_name: members,
            MEMBERS_SHARE.column_name: ma.ratio(members, everybody),
            ENTERED.column_name: rows.arrived.fill_null(0) + rows.entered.fill_null(0),
            LEFT.column_name: rows.departed.fill_null(0),
            NET_MOVES_SQUARED_BY_ACCOUNT.column_name: rows.net_squared.fill_null(0),
        },
    )


def _of_users(history: ir.Table, users: ir.Table, account_intervals: ir.Table) -> ir.Table:
    people = user_dimensions(users, account_intervals).drop("account_id")
    rows = ma.at_day(history, ma.day_number(history.snapshot_date), people, "user_id")
    # Few combinations of dimension values occur, so the users are aggregated by combination first.
    combined = ma.materialized(
        rows.group_by("snapshot_date", "state", *ma.SEGMENT_DIMENSIONS).aggregate(
            members=rows.count(), entered=rows.count(where=rows.enters)
        )
    )
    values = {name: combined[name] for name in ma.SEGMENT_DIMENSIONS}
    values = {ma.TOTAL: ibis.literal(ma.TOTAL), **values}
    return _counted(PLATFORM, combined, values, ma.sums(combined, "members", "entered"))


def _counted(
    scope: str,
    rows: ir.Table,
    values: Mapping[str, ir.Value | str],
    counts: Mapping[str, ir.Value] | None = None,
) -> ir.Table:
    """Count members, and members on their first day, by date, segment and state."""
    counts = counts or {"members": rows.count(), "entered": rows.count(where=rows.enters)}
    by = {"metric_date": "snapshot_date", "scope": ibis.literal(scope), "state": "state"}
    counted = ma.counted_by_dimension(rows, values, counts, **by)
    return counted.select("metric_date", *_KEY, *counts)


def _transitioned(users: ir.Table, accounts: ir.Table, segments: ir.Table) -> ir.Table:
    """Count transitions into and out of each state, and sum the squared net change per account."""
    made = segment_transitions(users, accounts, segments)
    whose = ("metric_date", *SEGMENT_OF_SCOPE, "account_id")
    both = made.select(*whose, state="to_state", into=ibis.literal(1, "int64")).union(
        made.select(*whose, state="from_state", into=ibis.literal(-1, "int64"))
    )
    of_account = both.group_by("metric_date", *_KEY, "account_id").aggregate(
        arrived=both.count(where=both.into > 0),
        departed=both.count(where=both.into < 0),
        net=both.into.sum().cast("int64"),
    )
    return of_account.group_by("metric_date", *_KEY).aggregate(
        **ma.sums(of_account, "arrived", "departed"),
        net_squared=(of_account.net * of_account.net).sum().cast("int64"),
    )


def segment_transitions(users: ir.Table, accounts: ir.Table, segments: ir.Table) -> ir.Table:
    """Return one row per transition and segment.

    Args:
        users: silver_user_state_transitions.
        accounts: silver_account_state_transitions.
        segments: the result of `user_segments`.

    Returns:
        A table with `metric_date`, `scope`, `segment_dimension`, `segment_value`, `account_id`,
        `from_state` and `to_state`.
    """
    day = ma.day_number(users.transition_date)
    platform = ma.at_day(users, day, segments, "user_id").filter(ibis._.scope == PLATFORM)
    of_total = segments.filter(segments.segment_dimension == ma.TOTAL).drop(*ma.SEGMENT)
    product = ma.at_day(users, day, of_total, "user_id").filter(ibis._.scope == PRODUCT)
    product = product.mutate(
        segment_dimension=ibis.literal(PRODUCT_DIMENSION), segment_value=product.product_id
    )
    whole = {name: ibis.literal(ma.TOTAL) for name in ma.SEGMENT}
    accounts = accounts.mutate(scope=ibis.literal(ACCOUNT), **whole)
    columns = (*SEGMENT_OF_SCOPE, "account_id", "from_state", "to_state")
    return ibis.union(
        *(
            rows.select(*columns, metric_date="transition_date")
            for rows in (platform, product, accounts)
        )
    )


def _grid(held: ir.Table, products: ir.Table, window: ma.Window) -> ir.Table:
    columns = (*SEGMENT_OF_SCOPE, "held_from")
    always = ibis.literal(ALWAYS, "int64")
    whose = ibis.union(
        held.mutate(scope=ibis.literal(PLATFORM)).select(*columns),
        products.select(
            scope=ibis.literal(PRODUCT),
            segment_dimension=ibis.literal(PRODUCT_DIMENSION),
            segment_value="product_id",
            held_from="held_from",
        ),
        ibis.literal(ACCOUNT)
        .name("scope")
        .as_table()
        .mutate(
            segment_dimension=ibis.literal(ma.TOTAL),
            segment_value=ibis.literal(ma.TOTAL),
            held_from=always,
        ),
    )
    states = ibis.cases(
        *(
            (whose.scope == scope, ibis.array([str(state) for state in of_scope]))
            for scope, of_scope in _STATES.items()
        )
    )
    every, whose = ma.dates(window), whose.mutate(state=states.unnest())
    return every.inner_join(whose, ma.day_number(every.metric_date) >= whose.held_from).drop(
        "held_from"
    )


@ma.rule(TABLE)
def states_add_up(
    gold_state_distribution: ir.Table,
    silver_user_state_history: ir.Table,
    silver_user_product_state_history: ir.Table,
    silver_account_state_history: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """For each dimension, the state counts add up to the number of rows in the history."""
    rows = ma.within(gold_state_distribution, "metric_date", window)
    published = rows.group_by("metric_date", "scope", "segment_dimension").aggregate(
        members=rows[MEMBERS.column_name].sum().cast("int64")
    )
    histories = {
        PLATFORM: silver_user_state_history,
        PRODUCT: silver_user_product_state_history,
        ACCOUNT: silver_account_state_history,
    }
    counted = ibis.union(
        *(
            ma.within(history, "snapshot_date", window)
            .group_by(metric_date="snapshot_date", scope=ibis.literal(scope))
            .aggregate(expected=ibis._.count())
            for scope, history in histories.items()
        )
    )
    both = ma.left_joined(published, counted, on=["metric_date", "scope"])
    return both.filter(both.members != both.expected.fill_null(0)).select(
        "metric_date", "scope", "segment_dimension", "members", "expected"
    )


@ma.rule(TABLE)
def moves_explain_members(gold_state_distribution: ir.Table, *, window: ma.Window) -> ir.Table:
    """Each state's count is the previous day's count plus entries minus exits.

    Users can change segments without changing states, so only totals and products are checked.
    """
    rows = gold_state_distribution
    rows = rows.filter(rows.segment_dimension.isin([ma.TOTAL, PRODUCT_DIMENSION]))
    nearby = ma.materialized(
        rows.filter(rows.metric_date.between(ma.days_earlier(window.first, 1), window.last))
    )
    before = nearby.select(
        *_KEY,
        metric_date=ma.day_date(ma.day_number(nearby.metric_date) + 1),
        before=nearby[MEMBERS.column_name],
    )
    both = ma.within(nearby, "metric_date", window).inner_join(before, ["metric_date", *_KEY])
    moved = both[ENTERED.column_name] - both[LEFT.column_name]
    return both.filter(both[MEMBERS.column_name] != both.before + moved).select(
        "metric_date", *_KEY, "before", *(m.column_name for m in (MEMBERS, ENTERED, LEFT))
    )
