"""gold_state_distribution: how the states are distributed, by scope and segment, and who moved."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.rules import rule, within
from monstera_assets.gold.gold_state_transition_metrics import ACCOUNT, PLATFORM, PRODUCT, SCOPES
from monstera_assets.gold.metrics import METRIC_DATE, Metric, Unit, metric_table
from monstera_assets.gold.segments import SEGMENT_DIMENSIONS, TOTAL, user_dimensions, user_segments
from monstera_assets.gold.series import dates, share
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.intervals import day_date, day_number, days_earlier
from monstera_assets.lifecycle.products import active_products
from monstera_assets.lifecycle.states import AccountState, UserState
from monstera_assets.silver.silver_user_product_state_history import ADOPTED_STATES
from monstera_assets.warehouse.table_asset import SAME_DAYS, table_asset
from monstera_assets.warehouse.tables import Column

PRODUCT_DIMENSION = "product"
_STATES = {PLATFORM: UserState, PRODUCT: ADOPTED_STATES, ACCOUNT: AccountState}

MEMBERS = Metric(
    "Members in State Daily",
    "Users, relationships with the product, or accounts in the state at the end of the date.",
    "count(members)",
    Unit.MEMBERS,
)
MEMBERS_SHARE = Metric(
    "Members in State Share Daily",
    "Members in the state / members of the segment in any state; null without members.",
    "in state / count(members)",
    Unit.SHARE,
    nullable=True,
)
REACHED = Metric(
    "Members Reached State Daily",
    "Members who moved into the state on the date, or began in it.",
    "count(moves by to_state) + count(members whose first day it is)",
    Unit.MEMBERS,
)
DEPARTED = Metric(
    "Members Left State Daily",
    "Members who moved out of the state on the date.",
    "count(moves by from_state)",
    Unit.MEMBERS,
)
MOVED_TOGETHER = Metric(
    "Members Moved Together Daily",
    "Sum over accounts of the square of the number by which moves changed the account's members in the"
    " state: as many as there were moves if each was another account's, many more if one account's"
    " members moved together.",
    "sum((moves into - moves out of the state, by account) ^ 2)",
    Unit.MEMBERS,
    caveats="The variance of the net moves, if accounts move independently of each other.",
)

SEGMENT_OF_SCOPE = ("scope", "segment_dimension", "segment_value")
"""The columns that name whose states are distributed."""
_KEY = (*SEGMENT_OF_SCOPE, "state")

TABLE = metric_table(
    "gold_state_distribution",
    grain="one date, scope, segment and state, with members or without",
    description="How users on the platform, relationships with products, and accounts are distributed"
    f" over their states: users in total (`{TOTAL}`) and by {', '.join(SEGMENT_DIMENSIONS)}, as the"
    " user's and account's latest row says, relationships by product, accounts in total.",
    dimensions=(
        METRIC_DATE,
        Column(
            "scope", "string", "Whose states: users', relationships' or accounts'.", allowed=SCOPES
        ),
        Column(
            "segment_dimension",
            "string",
            f"What they are shared out by; `{TOTAL}` for the total.",
            allowed=(TOTAL, *SEGMENT_DIMENSIONS, PRODUCT_DIMENSION),
        ),
        Column("segment_value", "string", f"The segment; `{TOTAL}` for the total."),
        Column("state", "string", "The state."),
    ),
    metrics=(MEMBERS, MEMBERS_SHARE, REACHED, DEPARTED, MOVED_TOGETHER),
)


@table_asset(
    TABLE,
    days={
        "silver_user_state_history": SAME_DAYS,
        "silver_user_product_state_history": SAME_DAYS,
        "silver_account_state_history": SAME_DAYS,
        "silver_user_state_transitions": SAME_DAYS,
        "silver_account_state_transitions": SAME_DAYS,
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
    bronze_product_catalog: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """Members counted at the end of each date, and moves counted on it."""
    segments = segments_and_accounts(bronze_users, bronze_accounts).view()
    counted = ibis.union(
        _of_users(silver_user_state_history, bronze_users, bronze_accounts),
        _of_relationships(silver_user_product_state_history),
        _of_accounts(silver_account_state_history, bronze_accounts),
    )
    moved = _moved(silver_user_state_transitions, silver_account_state_transitions, segments)
    grid = _grid(segments, active_products(bronze_product_catalog), window)
    rows = grid
    for part in (counted, moved):
        rows = rows.left_join(part, ["metric_date", *_KEY]).drop(
            "metric_date_right", *(f"{name}_right" for name in _KEY)
        )
    members = rows.members.fill_null(0)
    everybody = members.sum().over(ibis.window(group_by=["metric_date", *SEGMENT_OF_SCOPE]))
    return rows.select(
        "metric_date",
        *_KEY,
        **{
            MEMBERS.column_name: members,
            MEMBERS_SHARE.column_name: share(members, everybody),
            REACHED.column_name: rows.reached.fill_null(0) + rows.started.fill_null(0),
            DEPARTED.column_name: rows.departed.fill_null(0),
            MOVED_TOGETHER.column_name: rows.together.fill_null(0),
        },
    )


def segments_and_accounts(users: ir.Table, accounts: ir.Table) -> ir.Table:
    """What `user_segments` gives, with each user's `account_id`."""
    return user_segments(users, accounts).inner_join(
        users.select("user_id", "account_id"), "user_id"
    )


def _of_users(history: ir.Table, users: ir.Table, accounts: ir.Table) -> ir.Table:
    people = user_dimensions(users, accounts).drop("account_id")
    rows = history.inner_join(people, "user_id")
    # Few combinations of all dimensions occur, so that the users are gone through once.
    combined = (
        rows.group_by("snapshot_date", "platform_state", *SEGMENT_DIMENSIONS)
        .aggregate(members=rows.count(), started=rows.count(where=rows.days_since_signup == 0))
        .view()
    )
    return ibis.union(
        *(
            combined.group_by(
                metric_date="snapshot_date",
                scope=ibis.literal(PLATFORM),
                segment_dimension=ibis.literal(dimension),
                segment_value=ibis.literal(TOTAL) if dimension == TOTAL else combined[dimension],
                state="platform_state",
            ).aggregate(
                members=combined.members.sum().cast("int64"),
                started=combined.started.sum().cast("int64"),
            )
            for dimension in (TOTAL, *SEGMENT_DIMENSIONS)
        )
    )


def _of_relationships(history: ir.Table) -> ir.Table:
    return history.group_by(
        metric_date="snapshot_date",
        scope=ibis.literal(PRODUCT),
        segment_dimension=ibis.literal(PRODUCT_DIMENSION),
        segment_value="product_id",
        state="current_state",
    ).aggregate(
        members=history.count(),
        started=history.count(where=history.first_access_at.date() == history.snapshot_date),
    )


def _of_accounts(history: ir.Table, accounts: ir.Table) -> ir.Table:
    created = accounts.select("account_id", created_on=accounts.account_created_at.date())
    rows = history.inner_join(created, "account_id")
    return rows.group_by(
        metric_date="snapshot_date",
        scope=ibis.literal(ACCOUNT),
        segment_dimension=ibis.literal(TOTAL),
        segment_value=ibis.literal(TOTAL),
        state="current_state",
    ).aggregate(
        members=rows.count(), started=rows.count(where=rows.created_on == rows.snapshot_date)
    )


def _moved(users: ir.Table, accounts: ir.Table, segments: ir.Table) -> ir.Table:
    """By date, segment and state, the moves into and out of it, and how far accounts moved as one."""
    moves = segment_moves(users, accounts, segments)
    whose = ("metric_date", *SEGMENT_OF_SCOPE, "account_id")
    both = moves.select(*whose, state="to_state", into=ibis.literal(1, "int64")).union(
        moves.select(*whose, state="from_state", into=ibis.literal(-1, "int64"))
    )
    of_account = both.group_by("metric_date", *_KEY, "account_id").aggregate(
        reached=both.count(where=both.into > 0),
        departed=both.count(where=both.into < 0),
        net=both.into.sum().cast("int64"),
    )
    return of_account.group_by("metric_date", *_KEY).aggregate(
        reached=of_account.reached.sum().cast("int64"),
        departed=of_account.departed.sum().cast("int64"),
        together=(of_account.net * of_account.net).sum().cast("int64"),
    )


def segment_moves(users: ir.Table, accounts: ir.Table, segments: ir.Table) -> ir.Table:
    """Moves between states, once for each segment that they are in.

    Args:
        users: `silver_user_state_transitions`.
        accounts: `silver_account_state_transitions`.
        segments: what `segments_and_accounts` gives.

    Returns:
        `metric_date`, `scope`, `segment_dimension`, `segment_value`, `account_id`, `from_state`,
        `to_state`.
    """
    states = ("from_state", "to_state")
    platform = users.filter(users.scope == PLATFORM).inner_join(segments, "user_id")
    of_total = segments.filter(segments.segment_dimension == TOTAL)
    product = users.filter(users.scope == PRODUCT).inner_join(
        of_total.select("user_id", "account_id"), "user_id"
    )
    return ibis.union(
        platform.select(
            metric_date="transition_date",
            scope="scope",
            segment_dimension="segment_dimension",
            segment_value="segment_value",
            account_id="account_id",
            **{name: platform[name] for name in states},
        ),
        product.select(
            metric_date="transition_date",
            scope="scope",
            segment_dimension=ibis.literal(PRODUCT_DIMENSION),
            segment_value="product_id",
            account_id="account_id",
            **{name: product[name] for name in states},
        ),
        accounts.select(
            metric_date="transition_date",
            scope=ibis.literal(ACCOUNT),
            segment_dimension=ibis.literal(TOTAL),
            segment_value=ibis.literal(TOTAL),
            account_id="account_id",
            **{name: accounts[name] for name in states},
        ),
    )


def _grid(segments: ir.Table, products: ir.Table, window: Window) -> ir.Table:
    """Every date of a window with every segment and state that there is."""
    of_users = segments.select("segment_dimension", "segment_value").distinct()
    of_users = of_users.mutate(scope=ibis.literal(PLATFORM))
    whose = ibis.union(
        of_users.select(*SEGMENT_OF_SCOPE),
        products.select(
            scope=ibis.literal(PRODUCT),
            segment_dimension=ibis.literal(PRODUCT_DIMENSION),
            segment_value="product_id",
        ),
        ibis.literal(ACCOUNT)
        .name("scope")
        .as_table()
        .mutate(segment_dimension=ibis.literal(TOTAL), segment_value=ibis.literal(TOTAL)),
    )
    states = ibis.cases(
        *(
            (whose.scope == scope, ibis.array([str(state) for state in of_scope]))
            for scope, of_scope in _STATES.items()
        )
    )
    return dates(window).cross_join(whose.mutate(state=states.unnest()))


@rule(TABLE, "The states of a segment's members add up: of users to all users in every dimension.")
def states_add_up(
    gold_state_distribution: ir.Table,
    silver_user_state_history: ir.Table,
    silver_user_product_state_history: ir.Table,
    silver_account_state_history: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """Dates, scopes and dimensions whose members are not as many as history has."""
    rows = within(gold_state_distribution, "metric_date", window)
    told = rows.group_by("metric_date", "scope", "segment_dimension").aggregate(
        members=rows[MEMBERS.column_name].sum().cast("int64")
    )
    counted = ibis.union(
        *(
            history.group_by(day="snapshot_date", of_scope=ibis.literal(scope)).aggregate(
                expected=history.count()
            )
            for scope, history in (
                (PLATFORM, within(silver_user_state_history, "snapshot_date", window)),
                (PRODUCT, within(silver_user_product_state_history, "snapshot_date", window)),
                (ACCOUNT, within(silver_account_state_history, "snapshot_date", window)),
            )
        )
    )
    both = told.left_join(
        counted, [told.metric_date == counted.day, told.scope == counted.of_scope]
    )
    return both.filter(both.members != both.expected.fill_null(0)).select(
        "metric_date", "scope", "segment_dimension", "members", "expected"
    )


@rule(
    TABLE, "Members in a state are those of the day before, who reached it more, who left it less."
)
def moves_explain_members(gold_state_distribution: ir.Table, *, window: Window) -> ir.Table:
    """Rows whose members are others than the day before and the moves say."""
    rows = gold_state_distribution
    nearby = rows.filter(
        rows.metric_date.between(days_earlier(window.first, 1), window.last)
    ).view()
    before = nearby.select(
        *_KEY,
        metric_date=day_date(day_number(nearby.metric_date) + 1),
        before=nearby[MEMBERS.column_name],
    )
    both = within(nearby, "metric_date", window).inner_join(before, ["metric_date", *_KEY])
    moved = both[REACHED.column_name] - both[DEPARTED.column_name]
    return both.filter(both[MEMBERS.column_name] != both.before + moved).select(
        "metric_date", *_KEY, "before", *(m.column_name for m in (MEMBERS, REACHED, DEPARTED))
    )
