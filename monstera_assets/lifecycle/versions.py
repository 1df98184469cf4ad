"""Versions of users and accounts as intervals (framework, section 2, "Versions").

The version on a day is the latest one that starts on or before that day. An entity's first version also
applies to all earlier days.
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.expressions import materialized
from monstera_assets.lifecycle.intervals import ALWAYS, FOREVER, day_number, overlay

UNKNOWN = "unknown"
"""Tier on days before the account's creation."""
USER_DIMENSIONS = ("country", "plan_type", "acquisition_source")
SEGMENT_DIMENSIONS = (*USER_DIMENSIONS, "account_tier")


def one_row_per_entity(versions: ir.Table, columns: Sequence[str]) -> ir.Table:
    """Return columns that are equal in all versions of an entity, such as its creation."""
    return versions.select(*columns).distinct()


def version_intervals(versions: ir.Table, key: str, columns: Sequence[str]) -> ir.Table:
    """Return the version on each day.

    Returns:
        Interval table by `key` with `columns`, from `ALWAYS` to `FOREVER`.
    """
    by_key = ibis.window(group_by=key, order_by="valid_from")
    days = versions.select(key, *columns, valid_from=day_number(versions.valid_from))
    return materialized(
        days.mutate(
            valid_from=ibis.ifelse(
                ibis.row_number().over(by_key) == 0, ALWAYS, days.valid_from
            ).cast("int64"),
            valid_to=(days.valid_from.lead().over(by_key) - 1).fill_null(FOREVER).cast("int64"),
        )
    )


def memberships(users: ir.Table) -> ir.Table:
    """Return the account of each user on each day.

    Returns:
        Interval table by `user_id` with `account_id`, from `ALWAYS` to `FOREVER`.
    """
    return version_intervals(users, "user_id", ["account_id"])


def user_dimensions(users: ir.Table, tiers: ir.Table) -> ir.Table:
    """Return the account and the segments of each user on each day.

    Args:
        users: bronze_users.
        tiers: one row per account and day on which its tier can change, with `account_id`,
            `account_tier` and `valid_from` (a day number). The first row is that of the account's
            creation.

    Returns:
        Interval table by `user_id` with `account_id` and `SEGMENT_DIMENSIONS`, from `ALWAYS` to
        `FOREVER`. The tier is `UNKNOWN` before the account's creation.
    """
    people = version_intervals(users, "user_id", ["account_id", *USER_DIMENSIONS])
    before = tiers.select(
        "account_id",
        account_tier=ibis.literal(UNKNOWN),
        valid_from=ibis.literal(ALWAYS, "int64"),
    )
    tiers = tiers.select(*before.columns).union(before.distinct())
    by_account = ibis.window(group_by="account_id", order_by="valid_from")
    tiers = tiers.mutate(is_new=tiers.account_tier != tiers.account_tier.lag().over(by_account))
    tiers = tiers.filter(tiers.is_new.fill_null(True)).drop("is_new")
    until = (tiers.valid_from.lead().over(by_account) - 1).fill_null(FOREVER)
    tiers = materialized(tiers.mutate(valid_to=until.cast("int64")))
    people = overlay(people, tiers, keys=["account_id"], columns=["account_tier"])
    return materialized(people.mutate(account_tier=people.account_tier.fill_null(UNKNOWN)))


def at_day(rows: ir.Table, day: ir.IntegerValue, intervals: ir.Table, key: str) -> ir.Table:
    """Join each row with the interval of its key that contains a day, if there is one.

    Args:
        rows: rows with `key`.
        day: each row's day number.
        intervals: interval table by `key`.
        key: the name of the key.
    """
    joined = rows.inner_join(
        intervals, [key, intervals.valid_from <= day, intervals.valid_to >= day]
    )
    return joined.drop("valid_from", "valid_to", f"{key}_right")
