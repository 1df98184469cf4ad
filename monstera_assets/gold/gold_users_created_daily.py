"""gold_users_created_daily: users who signed up on the date."""

from __future__ import annotations

import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.gold.entity_created_table import total_differs
from monstera_assets.gold.segments import created_by_segment, segmented_table, segments_add_up_in

USERS_CREATED = ma.Metric(
    "Users Created Daily",
    "Users who signed up on the date.",
    "count(user_id) by the date of user_created_at",
    additivity=ma.Additivity.ADDITIVE,
)
TABLE = segmented_table(USERS_CREATED)


def _signups(users: ir.Table) -> ir.Table:
    return ma.one_row_per_entity(users, ["user_id", "signup_date"]).rename(created_on="signup_date")


@ma.table_asset(TABLE, days={"silver_account_state_intervals": ma.UP_TO_AS_OF})
def gold_users_created_daily(
    bronze_users: ir.Table, silver_account_state_intervals: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Count signups by date and segment."""
    facts = _signups(bronze_users)
    return created_by_segment(
        facts, bronze_users, silver_account_state_intervals, window, USERS_CREATED
    )


@ma.rule(TABLE)
def recomputed_from_users(
    gold_users_created_daily: ir.Table, bronze_users: ir.Table, *, window: ma.Window
) -> ir.Table:
    """The total equals the number of signups."""
    return total_differs(TABLE, gold_users_created_daily, _signups(bronze_users), window)


segments_add_up = segments_add_up_in(TABLE)
