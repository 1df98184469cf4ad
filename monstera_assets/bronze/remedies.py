"""Remedies for rejected rows, and the rule that a load must not reject most of its rows."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.reading import without_addresses
from monstera_assets.bronze.validation import DETAIL, REASON, SUPERSEDED

_UNKNOWN = "Add it to the input {}, or correct the id."
REMEDIES = {
    "malformed_row": "Write the file again with a CSV or JSON library.",
    "missing": "Fill in the column in the source.",
    "unknown_entity_type": "Use user, admin, system or account, or leave the column empty.",
    "unknown_location": "Use web_app, mobile_app, desktop_app or api, or leave the column empty.",
    "invalid_event_type": "Write event types as lowercase words joined by underscores.",
    "unreadable_metadata": "Write metadata as a JSON object, or leave it empty.",
    "unreadable": "Write times in ISO 8601 with an offset or in UTC, or as a Unix epoch.",
    "before_earliest": "Correct the date, or set an earlier MONSTERA_EARLIEST_EVENT_DATE.",
    "not_on_date": "Move the row to the folder for its local date, or check MONSTERA_TIMEZONE.",
    "user_rejected": "Correct the user's row first.",
    "account_rejected": "Correct the account's row first.",
    "unknown_user": _UNKNOWN.format("users"),
    "unknown_account": _UNKNOWN.format("accounts"),
    "unknown_product": _UNKNOWN.format("product_catalog"),
    "before_user_creation": "Correct user_created_at or the event's time.",
    "after_user_deletion": "Correct the event's time or the time of user_deleted.",
}
"""The remedy for each rejection reason, by the start of the reason's name."""

_DEFAULT = "Correct the row in the source."
_SIMILAR = "Write the id as {} in all inputs."


def remedy(reason: ir.StringValue, detail: ir.StringValue) -> ir.StringValue:
    """Return what to do about a rejection."""
    return ibis.cases(
        (
            reason.startswith("unknown_") & detail.notnull(),
            ibis.literal(_SIMILAR).replace("{}", detail),
        ),
        *((reason.startswith(start), text) for start, text in REMEDIES.items()),
        else_=_DEFAULT,
    )


def mostly_rejected(
    loads: ir.Table, rejected: ir.Table, by: str, *, max_share: float, min_rows: int = 1
) -> ir.Table:
    """Return the groups in which too many rows are rejected, with the most frequent reason.

    Repeated and superseded rows do not count.

    Args:
        loads: the ledger.
        rejected: the rejected rows.
        by: the column that contains the group, in both tables.
        max_share: the maximum share of rejected rows.
        min_rows: the minimum number of rows for a group to be evaluated.
    """
    rejected = rejected.filter(rejected[REASON] != SUPERSEDED)
    place_in_source = rejected.source_file + rejected.raw_row
    reasons = rejected.group_by(by, REASON).aggregate(
        rows=rejected.count(),
        example_row=without_addresses(rejected.raw_row).argmin(place_in_source),
        example_file=rejected.source_file.argmin(place_in_source),
        example_detail=rejected[DETAIL].argmin(place_in_source),
    )
    place = ibis.row_number().over(
        ibis.window(group_by=by, order_by=[reasons.rows.desc(), reasons[REASON]])
    )
    most_frequent = reasons.mutate(place=place)
    most_frequent = most_frequent.filter(most_frequent.place == 0)
    counted = rejected.group_by(by).aggregate(rows_rejected=rejected.count())
    read = loads.group_by(by).aggregate(rows_accepted=loads.rows_accepted.sum())
    both = read.inner_join(counted, by).inner_join(most_frequent, by)
    rows = both.rows_accepted + both.rows_rejected
    return both.filter(both.rows_rejected > max_share * rows, rows >= min_rows).select(
        by,
        rows=rows,
        rows_rejected=both.rows_rejected,
        most_frequent_reason=both[REASON],
        example_file=both.example_file,
        example_row=both.example_row,
        remedy=remedy(both[REASON], both.example_detail),
    )
