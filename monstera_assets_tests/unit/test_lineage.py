"""Lineage of columns, read off expressions that are simple enough to tell by looking."""

from __future__ import annotations

import ibis

from monstera_assets.warehouse.lineage import column_lineage

USERS = ibis.table({"user_id": "string", "country": "string", "age": "int64"}, name="users")
EVENTS = ibis.table({"user_id": "string", "day": "date", "weight": "float64"}, name="events")
BOTH = ("users", "events")


def test_values_come_from_where_they_are_computed_from() -> None:
    joined = EVENTS.left_join(USERS, "user_id").filter(ibis._.age > 17)
    rows = joined.group_by(joined.country).aggregate(
        heavy=(joined.weight * joined.age).sum(), people=joined.user_id.nunique(), one=1
    )
    assert column_lineage(rows, BOTH) == {
        "country": [("users", "country")],
        "heavy": [("events", "weight"), ("users", "age")],
        "people": [("events", "user_id")],
        "one": [],  # a constant; and that only adults count decides on rows, not on values
    }


def test_through_views_unions_and_subqueries() -> None:
    shared = USERS.select("user_id", label=USERS.country.upper()).view()
    renamed = EVENTS.select("user_id", label=EVENTS.day.cast("string")).distinct()
    rows = shared.union(renamed).mutate(oldest=USERS.age.max().as_scalar())
    assert column_lineage(rows, BOTH) == {
        "user_id": [("events", "user_id"), ("users", "user_id")],
        "label": [("events", "day"), ("users", "country")],
        "oldest": [("users", "age")],
    }


def test_windows_count_and_other_tables_do_not() -> None:
    rank = ibis.row_number().over(group_by=EVENTS.user_id, order_by=EVENTS.day)
    assert column_lineage(EVENTS.select(rank=rank), BOTH) == {
        "rank": [("events", "day"), ("events", "user_id")]
    }
    assert column_lineage(EVENTS.select("day"), ["users"]) == {"day": []}
