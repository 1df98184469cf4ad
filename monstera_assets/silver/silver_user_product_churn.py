"""silver_user_product_churn: when users churned from products, and what happened next."""

from __future__ import annotations

from datetime import date
from enum import StrEnum

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.lifecycle.products import IN_USE
from monstera_assets.silver.silver_user_product_state_intervals import ADOPTED_STATES, KEY_COLUMNS
from monstera_assets.silver.silver_user_state_transitions import transitions_in


class WhatFollowed(StrEnum):
    """What happened first after a user churned from a product."""

    OFF_THE_PLATFORM = "already_off_the_platform"
    PLATFORM_CHURN = "platform_churn"
    RETURNED = "returned"
    ANOTHER_PRODUCT = "another_product_churn"
    NOTHING_YET = "nothing_yet"


TABLE = ma.declare_table(
    "silver_user_product_churn",
    group=ma.AssetGroup.PRODUCTS,
    grain="one user's churn from a product",
    description="Which product does a user leave first, and what happens next? Each row is a"
    " transition to churned_from_product on or before the as-of date and shows whether the user"
    " then churned from the platform. A user who returns to a product can churn from that"
    " product more than once.",
    key=("user_id", "product_id", "churned_on"),
    columns=(
        *KEY_COLUMNS,
        ma.Column("churned_on", "date", "First day in the churned_from_product state."),
        ma.Column(
            "churn_number",
            "int64",
            "Position in the user's sequence of product churns, starting at 1. Ties are ordered by"
            " product id.",
        ),
        ma.Column(
            "from_state",
            "string",
            "Previous state in the product. The value is new_to_product if the user was never activated"
            " or active in the product.",
            allowed=ADOPTED_STATES,
        ),
        ma.Column(
            "other_products_active",
            "int64",
            "Number of other products in which the user was active on the churned_on date.",
        ),
        ma.Column(
            "platform_state",
            "string",
            "User's platform state on the churned_on date.",
            allowed=tuple(ma.UserState),
        ),
        ma.nullable(
            "platform_churned_on",
            "date",
            "Date of the user's first churn from the platform on or after the churned_on date, or null"
            " if there is none.",
        ),
        ma.nullable(
            "returned_on",
            "date",
            "Date of the next reactivation in the product, or null if there is none.",
        ),
        ma.product_column(
            "next_churned_product_id",
            "Product that the user churned from next, or null if there is none.",
            nullable=True,
        ),
        ma.nullable(
            "next_churned_on",
            "date",
            "Date of the user's next churn from a product, or null if there is none.",
        ),
        ma.Column(
            "what_followed",
            "string",
            "What happened first after the churn. If several outcomes occur on the same day, churn"
            " from the platform takes precedence, followed by a return to the product and churn from"
            " another product. already_off_the_platform means that the user had already churned"
            " from the platform or been deleted.",
            allowed=tuple(WhatFollowed),
        ),
        ma.AS_OF_DATE,
    ),
)


@ma.table_asset(TABLE)
def silver_user_product_churn(
    silver_user_state_intervals: ir.Table,
    silver_user_product_state_intervals: ir.Table,
    silver_user_current_state: ir.Table,
) -> ir.Table:
    """Join each churn from a product to the transitions that followed it."""
    people = silver_user_current_state
    moves = transitions_in(
        ma.Window.of(date.min, date.max),
        silver_user_state_intervals,
        silver_user_product_state_intervals,
    )
    moves = moves.cross_join(people.aggregate(as_of_date=people.as_of_date.max()))
    platform = moves.filter(moves.scope == "platform")
    in_order = ibis.window(group_by="user_id", order_by=["transition_date", "product_id"])
    left = moves.filter(moves.to_state == ma.ProductState.CHURNED)
    churns = ma.materialized(
        left.select(
            "user_id",
            "product_id",
            "from_state",
            "as_of_date",
            churned_on=left.transition_date,
            churn_number=ibis.row_number().over(in_order) + 1,
            next_churned_product_id=left.product_id.lead().over(in_order),
            next_churned_on=left.transition_date.lead().over(in_order),
        )
    )
    off = platform.filter(platform.to_state == ma.UserState.CHURNED)
    off = off.select("user_id", off_on="transition_date")
    later = churns.inner_join(off, ["user_id", churns.churned_on <= off.off_on])
    platform_churn = later.group_by(TABLE.key).aggregate(platform_churned_on=later.off_on.min())
    back = moves.filter(moves.to_state == ma.ProductState.REACTIVATED)
    back = back.select("user_id", "product_id", back_on="transition_date")
    again = churns.inner_join(back, ["user_id", "product_id", churns.churned_on < back.back_on])
    rows = ma.left_joined(
        churns,
        platform_churn,
        again.group_by(TABLE.key).aggregate(returned_on=again.back_on.min()),
        _other_products(churns, silver_user_product_state_intervals),
        _on_the_platform(churns, platform, people),
        on=TABLE.key,
    )
    was_off = rows.platform_state.isin([ma.UserState.CHURNED, ma.UserState.DELETED]) & (
        rows.platform_since < rows.churned_on
    ).fill_null(True)
    first = ibis.least(rows.platform_churned_on, rows.returned_on, rows.next_churned_on)
    return rows.mutate(
        other_products_active=rows.other_products_active.fill_null(0),
        what_followed=ibis.cases(
            (was_off, WhatFollowed.OFF_THE_PLATFORM),
            (rows.platform_churned_on == first, WhatFollowed.PLATFORM_CHURN),
            (rows.returned_on == first, WhatFollowed.RETURNED),
            (rows.next_churned_on == first, WhatFollowed.ANOTHER_PRODUCT),
            else_=WhatFollowed.NOTHING_YET,
        ),
    ).drop("platform_since")


def _other_products(churns: ir.Table, intervals: ir.Table) -> ir.Table:
    """Count the other products in which the user was active on the day of each churn."""
    active = intervals.filter(intervals.current_state.isin(IN_USE))
    active = active.select("user_id", "valid_from", "valid_to")
    found = churns.inner_join(
        active,
        [
            "user_id",
            churns.churned_on >= active.valid_from,
            (churns.churned_on < active.valid_to).fill_null(True),
        ],
    )
    return found.group_by(TABLE.key).aggregate(other_products_active=found.count())


def _on_the_platform(churns: ir.Table, platform: ir.Table, current: ir.Table) -> ir.Table:
    """Return the platform state on the day of each churn, and the first day in that state.

    The platform state is the state before the next transition, or the current state if there is no
    later transition. The first day is null for the user's first state.
    """
    moved = platform.select("user_id", moved_on="transition_date", moved_from="from_state")
    found = ma.left_joined(churns.drop("from_state"), moved, on=["user_id"])
    later = found.moved_on > found.churned_on
    at_churn = found.group_by(TABLE.key).aggregate(
        left_next=found.moved_from.first(where=later, order_by=found.moved_on),
        platform_since=found.moved_on.max(where=~later),
    )
    now = current.select("user_id", current_state="platform_state")
    joined = at_churn.inner_join(now, "user_id")
    return joined.select(
        *TABLE.key,
        "platform_since",
        platform_state=ibis.coalesce(joined.left_next, joined.current_state),
    )


def _first_day(history: ir.Table) -> ir.DateScalar:
    """Return the first day in the history. Intervals and churns can be older."""
    return history.aggregate(day=history.snapshot_date.min()).as_scalar()


@ma.rule(TABLE)
def agree_with_transitions(
    silver_user_product_churn: ir.Table,
    silver_user_state_transitions: ir.Table,
    silver_user_state_history: ir.Table,
) -> ir.Table:
    """The churn rows match all transitions to churned_from_product, and churn_number has no gaps."""
    churns = silver_user_product_churn
    stored = churns.filter(churns.churned_on >= _first_day(silver_user_state_history))
    as_of = churns.aggregate(day=churns.as_of_date.max())
    moves = silver_user_state_transitions
    moves = moves.filter(
        moves.to_state == ma.ProductState.CHURNED,
        (moves.transition_date <= as_of.day.as_scalar()).fill_null(True),
    ).rename(churned_on="transition_date")
    columns = (*TABLE.key, "from_state")
    differing = ma.differing_rows(stored.select(*columns), moves.select(*columns))
    in_order = ibis.window(group_by="user_id", order_by=["churned_on", "product_id"])
    numbered = churns.mutate(expected=ibis.row_number().over(in_order) + 1)
    wrong = numbered.filter(
        (numbered.churn_number != numbered.expected)
        | (numbered.platform_churned_on < numbered.churned_on).fill_null(False)
        | (numbered.returned_on <= numbered.churned_on).fill_null(False)
        | (numbered.next_churned_on < numbered.churned_on).fill_null(False)
    )
    return differing.union(wrong.select(*columns, found_in=ibis.literal("numbered incorrectly")))


@ma.rule(TABLE)
def platform_state_is_the_historys(
    silver_user_product_churn: ir.Table, silver_user_state_history: ir.Table
) -> ir.Table:
    """The platform state on the day of each churn matches silver_user_state_history."""
    churns, history = silver_user_product_churn, silver_user_state_history
    churns = churns.filter(churns.churned_on >= _first_day(history))
    days = history.select("user_id", churned_on="snapshot_date", state="platform_state")
    days = days.semi_join(churns, ["user_id", "churned_on"])
    both = ma.left_joined(churns, days, on=["user_id", "churned_on"])
    differs = ~both.platform_state.identical_to(both.state)
    return both.filter(differs).select(*TABLE.key, "platform_state", "state")
