"""silver_user_product_state_history: every user's state in every product adopted, on every day."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.checks.bit_sets import bit_of, numbers_in, word_of
from monstera_assets.checks.rules import rule, within
from monstera_assets.lifecycle.expressions import Window
from monstera_assets.lifecycle.intervals import day_date, day_number, on_each_day
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.products import IN_USE, KEYS, active_products, product_intervals
from monstera_assets.lifecycle.states import ProductState, UserState
from monstera_assets.silver import OWNERS
from monstera_assets.warehouse.table_asset import UP_TO_DAY, table_asset
from monstera_assets.warehouse.tables import Column, Layer, Reference, Table

KEY_COLUMNS = (
    Column("user_id", "string", "The user.", references=Reference("bronze_users", "user_id")),
    Column(
        "product_id",
        "string",
        "An active product; features and sub-features count for it.",
        references=Reference("bronze_product_catalog", "product_id"),
    ),
)
ADOPTED_STATES = tuple(state for state in ProductState if state != ProductState.NEVER_ADOPTED)

TABLE = Table(
    layer=Layer.SILVER,
    name="silver_user_product_state_history",
    grain="one user, product and date, from first access on",
    description="The state of each user in each product at the end of every day. A user who never"
    " accessed a product has no row: never_adopted follows from the absence of one.",
    owners=OWNERS,
    key=("user_id", "product_id", "snapshot_date"),
    partition_column="snapshot_date",
    columns=(
        *KEY_COLUMNS,
        Column("snapshot_date", "date", "The day whose end is described."),
        Column(
            "current_state",
            "string",
            "State of the user in the product at the end of the day.",
            allowed=ADOPTED_STATES,
        ),
        Column("state_since", "date", "First date of the unbroken run of this state."),
        Column("first_access_at", "timestamp", "First event of any kind in the product, UTC."),
        Column(
            "last_qualifying_event_at",
            "timestamp",
            "Last qualifying event in the product, UTC; null if there was none.",
            nullable=True,
        ),
        Column(
            "activation_date",
            "date",
            "Date of the first activation event; null if there was none.",
            nullable=True,
        ),
        Column("total_qualifying_events", "int64", "Qualifying events up to that day."),
    ),
)


@table_asset(TABLE, days={"silver_daily_user_activity": UP_TO_DAY})
def silver_user_product_state_history(
    silver_daily_user_activity: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    policy: LifecyclePolicy,
    window: Window,
) -> ir.Table:
    """State intervals crossed with the days of the window."""
    intervals = product_intervals(silver_daily_user_activity, bronze_product_catalog, policy)
    days = on_each_day(intervals, window.first, window.last, day_column="day", order_by=[*KEYS])
    return days.select(
        user_id=days.user_id,
        product_id=days.product_id,
        snapshot_date=day_date(days.day),
        current_state=days.product_state,
        state_since=day_date(days.state_since),
        first_access_at=days.first_access_at,
        last_qualifying_event_at=days.last_qualifying_event_at,
        activation_date=day_date(days.activation_day),
        total_qualifying_events=days.total_qualifying_events.fill_null(0),
    )


@rule(TABLE, "Each user has exactly one row a product and day from first access on.")
def one_row_per_user_product_and_day(
    silver_user_product_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    window: Window,
) -> ir.Table:
    """Users and products whose days in the window are not all of them."""
    keys = ["user_id", "product_id"]
    rows = within(silver_user_product_state_history, "snapshot_date", window)
    days = rows.group_by(keys).aggregate(
        rows=rows.count(), first_day=rows.snapshot_date.min(), last_day=rows.snapshot_date.max()
    )
    activity = silver_daily_user_activity
    activity = activity.filter(activity.activity_date <= window.last)
    activity = activity.semi_join(active_products(bronze_product_catalog), "product_id")
    expected = activity.group_by(keys).aggregate(
        expected_first_day=ibis.greatest(activity.activity_date.min(), window.first)
    )
    both = expected.outer_join(days, keys)
    expected_rows = day_number(window.last) - day_number(both.expected_first_day) + 1
    return both.filter(
        both.rows.isnull()
        | both.expected_first_day.isnull()
        | (both.first_day != both.expected_first_day)
        | (both.last_day != window.last)
        | (both.rows != expected_rows)
    )


@rule(TABLE, "Platform and product states tell the same story of who is active and who is gone.")
def reconciles_with_platform(
    silver_user_product_state_history: ir.Table,
    silver_user_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    policy: LifecyclePolicy,
    window: Window,
) -> ir.Table:
    """Users active in a product but not on the platform, or the other way round.

    Asked where all windows are the defaults, as the framework says: of products without windows of
    their own, and the other way round of users whose qualifying events are all in such products.
    """
    products = active_products(bronze_product_catalog)
    usual = products.filter(
        products.active_days.fill_null(policy.active_days) == policy.active_days,
        products.dormant_days.fill_null(policy.dormant_days) == policy.dormant_days,
    ).select("product_id", is_usual=ibis.literal(value=True))
    in_product = within(silver_user_product_state_history, "snapshot_date", window)
    in_product = in_product.filter(in_product.current_state.isin([str(ProductState.NEW), *IN_USE]))
    in_product = in_product.left_join(usual, "product_id").drop("product_id_right")
    in_usual_use = in_product.is_usual & in_product.current_state.isin(IN_USE)
    used = _days_of_users(
        in_product, window, in_usual_use=in_usual_use, in_use=ibis.literal(value=True)
    )
    platform = within(silver_user_state_history, "snapshot_date", window)
    using = [str(UserState.ACTIVE), str(UserState.RETURNING), str(UserState.REACTIVATED)]
    if policy.min_qualifying_events_to_activate > 1:
        using.append(str(UserState.NEW))
    platform = platform.filter(platform.activity_state.isin(using))
    active = _days_of_users(platform, window, on_platform=ibis.literal(value=True))
    activity = silver_daily_user_activity
    elsewhere = activity.filter(activity.qualifying_events > 0).anti_join(usual, "product_id")
    both = used.outer_join(active, ["user_id", "word"])
    both = both.select(
        user_id=ibis.coalesce(both.user_id, both.user_id_right),
        word=ibis.coalesce(both.word, both.word_right),
        **{name: both[name].fill_null(0) for name in ("in_usual_use", "in_use", "on_platform")},
    )
    product_alone = both.mutate(bits=both.in_usual_use & ~both.on_platform)
    platform_alone = both.mutate(bits=both.on_platform & ~both.in_use)
    platform_alone = platform_alone.filter(platform_alone.bits != 0)
    return _dated(product_alone, window, "active in a product, not on the platform").union(
        _dated(
            platform_alone.anti_join(elsewhere, "user_id"),
            window,
            "active on the platform, in no product",
        )
    )


def _days_of_users(rows: ir.Table, window: Window, **kinds: ir.BooleanValue) -> ir.Table:
    """The days of each user's rows of each kind, as sets of days since the window's first."""
    day = day_number(rows.snapshot_date) - day_number(window.first)
    return rows.group_by("user_id", word=word_of(day)).aggregate(
        **{name: bit_of(day).bit_or(where=applies) for name, applies in kinds.items()}
    )


def _dated(sets: ir.Table, window: Window, problem: str) -> ir.Table:
    days = numbers_in(sets.filter(sets.bits != 0), "bits", word="word", number="day")
    return days.select(
        "user_id",
        snapshot_date=day_date(days.day + day_number(window.first)),
        problem=ibis.literal(problem),
    )
