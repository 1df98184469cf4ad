"""Feature snapshots, taken every 30 days: the features known on a date and the outcome after it.

Snapshot 0 is taken on the history's latest date, and snapshot n is taken 30 * n days earlier. The 30
days ending on a snapshot date form its block. Every day is in exactly one block, so a sum over the 90
days through a snapshot date is a sum over three blocks. The outcome of snapshot n comes from blocks
n - 1, n - 2, ...
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.intervals import day_number
from monstera_assets.lifecycle.policy import ChurnPolicy
from monstera_assets.prediction.targets import STEP_DAYS, Target


def oldest_snapshot(policy: ChurnPolicy, horizon_steps: int) -> int:
    """Return the number of the oldest snapshot used for training.

    Snapshot `horizon_steps` is the latest one with a known outcome. Evaluated models are trained on
    snapshots taken at least `horizon_steps` steps before the evaluation date, because only their
    outcomes were known by then.
    """
    return 2 * horizon_steps + policy.evaluation_dates + policy.training_dates - 2


def with_snapshot(history: ir.Table, as_of: ir.DateScalar, oldest: int) -> ir.Table:
    """Return the history rows for snapshot dates, with the snapshot number in `snapshot`."""
    ago = day_number(as_of) - day_number(history.snapshot_date)
    chosen = history.filter((ago % STEP_DAYS == 0) & (ago <= oldest * STEP_DAYS))
    ago = day_number(as_of) - day_number(chosen.snapshot_date)
    return chosen.mutate(snapshot=(ago // STEP_DAYS).cast("int64"))


def block_of(day: ir.DateValue, as_of: ir.DateScalar) -> ir.IntegerValue:
    """Return the block number of a day on or before the as-of date."""
    return ((day_number(as_of) - day_number(day)) // STEP_DAYS).cast("int64")


def sampled(rows: ir.Table, by: Sequence[str], key: str, policy: ChurnPolicy) -> ir.Table:
    """Return all rows of snapshot 0 and at most `max_rows_per_date` rows per other snapshot.

    Rows are sampled by hash, so later runs select the same rows for the same date.

    Args:
        rows: one row per key and `snapshot_date`, with `snapshot`.
        by: columns to hash together with the date.
        key: column that breaks ties between rows with equal hashes.
        policy: provides the sample size.
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
    """Return the rows whose outcome contradicts the days after the snapshot or is known too early.

    Args:
        features: one row per key and `snapshot_date`, with `churned` and `as_of_date`.
        days: one row per key and day number (`day`) that determines an outcome.
        target: the prediction target, which sets the horizon.
        churned_if_any: whether such a day within the horizon means churned rather than retained.
    """
    rows = features.select(target.key, "snapshot_date", "churned", "as_of_date")
    since = day_number(rows.snapshot_date)
    in_horizon = (days.day > since) & (days.day <= since + target.horizon_days)
    found = rows.left_join(days, [target.key, in_horizon])
    rows = found.group_by(rows.columns).aggregate(has_any=found.day.notnull().any())
    is_known = day_number(rows.as_of_date) - day_number(rows.snapshot_date) >= target.horizon_days
    expected = ibis.ifelse(is_known, rows.has_any == churned_if_any, None)
    return rows.filter(~rows.churned.identical_to(expected))
