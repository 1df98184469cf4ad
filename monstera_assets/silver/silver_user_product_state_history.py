"""silver_user_product_state_history: each user's state in each adopted product on each day."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.checks.bit_sets import bit_of, numbers_in, word_of
from monstera_assets.lifecycle.products import IN_USE, KEYS, active_products
from monstera_assets.silver import state_tables
from monstera_assets.silver.silver_user_product_state_intervals import KEY_COLUMNS, STATE_COLUMNS

TABLE = ma.declare_table(
    "silver_user_product_state_history",
    group=ma.AssetGroup.PRODUCTS,
    grain="one user, product and date",
    description="In which state was each user in each product at the end of each day? Rows start on"
    " the day of first access. If a user has no row for a product, the state is never_adopted. For"
    " durations, query silver_user_product_state_intervals.",
    key=(*KEYS, "snapshot_date"),
    partition_column="snapshot_date",
    columns=(*KEY_COLUMNS, ma.SNAPSHOT_DATE, *STATE_COLUMNS),
)


@ma.table_asset(TABLE, days={"silver_user_product_state_intervals": ma.UP_TO_AS_OF})
def silver_user_product_state_history(
    silver_user_product_state_intervals: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Expand the intervals to one row per user, product and day in the window."""
    days = state_tables.days_of(silver_user_product_state_intervals, window, keys=KEYS)
    return days.select(*KEYS, *ma.column_names(STATE_COLUMNS), snapshot_date=ma.day_date(days.day))


@ma.rule(TABLE)
def one_row_per_user_product_and_day(
    silver_user_product_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Each user has exactly one row per product and day since first access."""
    activity = silver_daily_user_activity
    activity = activity.filter(activity.activity_date <= window.last)
    activity = activity.semi_join(active_products(bronze_product_catalog), "product_id")
    starts = activity.group_by(*KEYS).aggregate(start_date=activity.activity_date.min())
    return state_tables.days_not_in_history(silver_user_product_state_history, starts, KEYS, window)


@ma.rule(TABLE)
def reconciles_with_platform(
    silver_user_product_state_history: ir.Table,
    silver_user_state_history: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    window: ma.Window,
) -> ir.Table:
    """Platform states and product states agree on which users are active.

    As defined in the framework, this rule applies only to products with the default active and dormant
    windows. A user who is active in such a product must be active on the platform. A user who is
    active on the platform must be active in a product, unless some of the user's qualifying events
    are in other products or in no product.
    """
    products = active_products(bronze_product_catalog)
    usual = products.filter(
        products.active_days.fill_null(policy.active_days) == policy.active_days,
        products.dormant_days.fill_null(policy.dormant_days) == policy.dormant_days,
    ).select("product_id", is_usual=ibis.literal(value=True))
    in_product = ma.within(silver_user_product_state_history, "snapshot_date", window)
    in_product = in_product.filter(in_product.current_state.isin([ma.ProductState.NEW, *IN_USE]))
    in_product = ma.left_joined(in_product, usual, on=["product_id"])
    in_usual_use = in_product.is_usual & in_product.current_state.isin(IN_USE)
    used = _days_of_users(
        in_product, window, in_usual_use=in_usual_use, in_use=ibis.literal(value=True)
    )
    platform = ma.within(silver_user_state_history, "snapshot_date", window)
    using = [ma.UserState.ACTIVE, ma.UserState.RETURNING, ma.UserState.REACTIVATED]
    if policy.min_qualifying_events_to_activate > 1:
        using.append(ma.UserState.NEW)
    platform = platform.filter(platform.activity_state.isin(list(map(str, using))))
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
    platform_alone = platform_alone.anti_join(elsewhere, "user_id")
    return _dated(product_alone, window, "active in a product but not on the platform").union(
        _dated(platform_alone, window, "active on the platform but in no product")
    )


def _days_of_users(rows: ir.Table, window: ma.Window, **kinds: ir.BooleanValue) -> ir.Table:
    """Return each user's days as bit sets by kind, counting from the window's first day."""
    day = ma.day_number(rows.snapshot_date) - ma.day_number(window.first)
    return rows.group_by("user_id", word=word_of(day)).aggregate(
        **{name: bit_of(day).bit_or(where=applies) for name, applies in kinds.items()}
    )


def _dated(sets: ir.Table, window: ma.Window, problem: str) -> ir.Table:
    days = numbers_in(sets.filter(sets.bits != 0), "bits", word="word", number="day")
    return days.select(
        "user_id",
        snapshot_date=ma.day_date(days.day + ma.day_number(window.first)),
        problem=ibis.literal(problem),
    )
