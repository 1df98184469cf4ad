"""Define remedies for rejected rows, and find groups in which too many rows are rejected."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.reading import without_addresses
from monstera_assets.bronze.validation import DETAIL, MERGED, REASON, SET_ASIDE

_UNKNOWN = "Add the missing id to the input {}, or correct the id in the row."
REMEDIES = {
    "malformed_row": "Use a CSV or JSON library to write the file.",
    "missing": "Fill in the missing value in the source.",
    "unknown_entity_type": "Use user, admin, system or account, or leave entity_type empty.",
    "unknown_location": "Use web_app, mobile_app, desktop_app or api, or leave location empty.",
    "invalid_event_type": "Write each event type as two or more lowercase words joined by underscores.",
    "unreadable_metadata": "Use a JSON object, or leave metadata empty.",
    "unreadable": "Use ISO 8601 times with an offset or in UTC, or use Unix epoch times.",
    "before_earliest": "Correct the date, or set MONSTERA_EARLIEST_EVENT_DATE to an earlier date.",
    "not_on_date": "Move the row to the folder for the row's local date, or check MONSTERA_TIMEZONE.",
    "user_rejected": "Correct the user's row first.",
    "account_rejected": "Correct the account's row first.",
    "unknown_user": _UNKNOWN.format("users"),
    "unknown_account": _UNKNOWN.format("accounts"),
    "unknown_product": _UNKNOWN.format("product_catalog"),
    "before_user_creation": "Correct user_created_at or the event's timestamp.",
    "held_back": "Run monstera run --changed, which recomputes all affected days.",
    "after_user_deletion": "Correct the event's timestamp or the timestamp of the user_deleted event.",
    MERGED: "Nothing: the row's id is an alias of another user.",
}
"""Remedies, keyed by the start of the rejection reason."""

_DEFAULT = "Correct the row in the source."
_SIMILAR = "Use the id {} in all inputs."


def remedy(reason: ir.StringValue, detail: ir.StringValue) -> ir.StringValue:
    """Return the remedy for a rejection reason."""
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
    """Return the groups in which too many rows are rejected, with each group's most frequent reason.

    Repeated, superseded and merged rows and rows that are held back are not counted.

    Args:
        loads: the ledger.
        rejected: the rejected rows.
        by: the column that contains the group in both tables.
        max_share: the maximum share of rejected rows.
        min_rows: the minimum number of rows that a group needs to be evaluated.
    """
    rejected = rejected.filter(rejected[REASON].notin(SET_ASIDE))
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
