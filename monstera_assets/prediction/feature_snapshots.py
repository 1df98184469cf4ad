"""Feature snapshots: what was known at the end of some days, 30 days apart, and what came after.

Snapshot 0 is as of the latest date of history, snapshot n as of 30 n days before it. The 30 days that
end on a snapshot's date are its block. Blocks partition all days, so a sum over the 90 days before a
date is a sum of three blocks, and the outcome of snapshot n lies in the blocks n - 1, n - 2, ...
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.intervals import day_number
from monstera_assets.lifecycle.policy import ChurnPolicy
from monstera_assets.prediction.targets import STEP_DAYS, Target


def oldest_snapshot(policy: ChurnPolicy, horizon_steps: int) -> int:
    """The number of the oldest snapshot that any model is trained on.

    The latest known outcome is that of snapshot `horizon_steps`. The models that are evaluated are
    trained on snapshots that are as much older again, so that all their outcomes were known by then.
    """
    return 2 * horizon_steps + policy.evaluation_dates + policy.training_dates - 2


def with_snapshot(history: ir.Table, as_of: ir.DateScalar, oldest: int) -> ir.Table:
    """The rows of a history that are dated on a snapshot, with its number in `snapshot`."""
    ago = day_number(as_of) - day_number(history.snapshot_date)
    chosen = history.filter((ago % STEP_DAYS == 0) & (ago <= oldest * STEP_DAYS))
    ago = day_number(as_of) - day_number(chosen.snapshot_date)
    return chosen.mutate(snapshot=(ago // STEP_DAYS).cast("int64"))


def block_of(day: ir.DateValue, as_of: ir.DateScalar) -> ir.IntegerValue:
    """The number of the block of a day, which is not after the as-of date."""
    return ((day_number(as_of) - day_number(day)) // STEP_DAYS).cast("int64")


def sampled(rows: ir.Table, by: Sequence[str], key: str, policy: ChurnPolicy) -> ir.Table:
    """All rows of snapshot 0, and at most `max_rows_per_date` of each other snapshot.

    The sample is chosen by a hash: it does not depend on chance or order, and a later run takes the
    same sample of the same date.

    Args:
        rows: one row per key and `snapshot_date`, with `snapshot`.
        by: columns whose values, with the date, are hashed.
        key: decides between rows with the same hash.
        policy: the sample size.
    """
    text = rows.snapshot_date.cast("string")
    for name in by:
        text = text + "/" + rows[name].cast("string")
    place = ibis.row_number().over(
        ibis.window(group_by="snapshot_date", order_by=[text.hexdigest("md5"), rows[key]])
    )
    placed = rows.mutate(place=place)
    kept = placed.filter((placed.snapshot == 0) | (placed.place < policy.max_rows_per_date))
    return kept.drop("place")


def wrong_outcomes(
    features: ir.Table, days: ir.Table, target: Target, *, churned_if_any: bool
) -> ir.Table:
    """Rows whose outcome disagrees with a search of the days after it, or is known too early.

    Args:
        features: one row per key and `snapshot_date`, with `churned` and `as_of_date`.
        days: the key and the number `day` of each day on which something counts for the outcome.
        target: whose outcome it is, and how many days after a snapshot are searched.
        churned_if_any: whether such a day means that the row churned, or that it did not.
    """
    rows = features.select(target.key, "snapshot_date", "churned", "as_of_date")
    since = day_number(rows.snapshot_date)
    in_horizon = (days.day > since) & (days.day <= since + target.horizon_days)
    found = rows.left_join(days, [target.key, in_horizon])
    rows = found.group_by(rows.columns).aggregate(has_any=found.day.notnull().any())
    is_known = day_number(rows.as_of_date) - day_number(rows.snapshot_date) >= target.horizon_days
    expected = ibis.ifelse(is_known, rows.has_any == churned_if_any, None)
    return rows.filter(~rows.churned.identical_to(expected))
