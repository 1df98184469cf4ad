"""Snapshots: what was known at the end of some past days, thirty days apart, and what came of it.

Snapshot 0 is as of the latest date of history, snapshot n as of 30 n days before it. The 30 days that
end on a snapshot's date are its block: blocks share out all days, so a sum over the 90 days before a
date is a sum of three blocks, and the outcome of snapshot n lies in the blocks n - 1, n - 2, ...
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.intervals import day_number
from monstera_assets.lifecycle.policy import ChurnPolicy

STEP_DAYS = 30
"""Days between two snapshots, and days within which a user that does nothing has churned."""
USER_HORIZON_STEPS = 1
"""Steps after a snapshot that tell whether a user churned: 30 days."""
ACCOUNT_HORIZON_STEPS = 3
"""Steps after a snapshot that tell whether an account churned: 90 days."""


def oldest_snapshot(policy: ChurnPolicy, horizon_steps: int) -> int:
    """The number of the oldest snapshot that any model learns from.

    The last outcome that is known is that of snapshot `horizon_steps`; the models that are evaluated
    learn from snapshots as much older again, so that all they learn was known by then.
    """
    return 2 * horizon_steps + policy.evaluation_dates + policy.training_dates - 2


def with_snapshot(history: ir.Table, as_of: ir.DateScalar, oldest: int) -> ir.Table:
    """The rows of a history that are dated on a snapshot, with its number in `snapshot`."""
    ago = day_number(as_of) - day_number(history.snapshot_date)
    chosen = history.filter((ago % STEP_DAYS == 0) & (ago <= oldest * STEP_DAYS))
    ago = day_number(as_of) - day_number(chosen.snapshot_date)
    return chosen.mutate(snapshot=(ago // STEP_DAYS).cast("int64"))


def block_of(day: ir.DateValue, as_of: ir.DateScalar) -> ir.IntegerValue:
    """The number of the block that a day lies in, which is not after the as-of date."""
    return ((day_number(as_of) - day_number(day)) // STEP_DAYS).cast("int64")


def sampled(rows: ir.Table, by: Sequence[str], key: str, policy: ChurnPolicy) -> ir.Table:
    """All rows of snapshot 0, and of each other one `max_rows_per_date` at most.

    Who is in the sample is a hash: neither chance nor order has a part in it, and a later run takes
    the same sample of the same date.

    Args:
        rows: one a key and `snapshot_date`, with `snapshot`.
        by: columns whose values, with the date, are hashed.
        key: decides between rows of the same hash.
        policy: says how many.
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
