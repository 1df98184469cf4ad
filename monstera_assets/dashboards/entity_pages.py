"""The pages of single accounts and people: facts and history.

There can be thousands of these pages, so one query per table reads the rows of all pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from monstera_assets.bronze.bronze_subscription_events import TABLE as BILLING
from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.risk_page import LISTED
from monstera_assets.gold.churn_risk import HIGH
from monstera_assets.gold.gold_product_recommendations import TABLE as RECOMMENDATIONS
from monstera_assets.gold.gold_user_churn_scores import TABLE as USER_SCORES
from monstera_assets.silver.silver_account_state_intervals import TABLE as ACCOUNT_INTERVALS
from monstera_assets.silver.silver_user_segment_history import SEGMENT_COLUMNS
from monstera_assets.silver.silver_user_state_intervals import TABLE as USER_INTERVALS
from monstera_assets.warehouse.errors import MissingTableError

_OTHER_COLORS = ("seventh", "fifth", "third", "eighth", ma.SECONDARY)
"""Colors of tiers and segments, which differ from the colors of states."""
_HEALTH_COLORS = dict(
    zip(ma.HealthBand, ("rising", "fourth", "sixth", "second", "declining"), strict=True)
)
_INTERVALS, _ROWS = 40, 8
"""Maximum number of intervals in a timeline and of rows in a list, which keep pages small."""
_PEOPLE_PER_ACCOUNT = 5
"""Number of people at high risk in each account that needs attention who have a page."""
_FACTS = ma.fields("fact/Fact", "value/Value")
_TIMELINE = ma.fields("lane/What", "first/From/day", "last/Through/day", "value/Value")
_RISK = ma.fields("risk_band/Risk band/words", "churn_probability/Churn risk/.0%")

Found = Mapping[str, ma.Rows]


@dataclass(frozen=True)
class _List:
    """The first rows of an entity in the `order` of `source`, a table and a condition in SQL."""

    name: str
    title: str
    thing: str
    fields: tuple[ma.Field, ...]
    about: ma.About
    source: str
    order: str
    key: str


@dataclass(frozen=True)
class _Kind:
    """What the pages of accounts or of people show.

    Attributes:
        key: the column with the entity's id.
        entities, history: the entities and what the timeline shows, for titles.
        about: the definitions of states.
        facts: columns by table with one row per entity, starting with the state and its first day.
        lanes: names, values and table of the timeline's lanes, in SQL.
        heading, lists: the lists and their section's heading.
    """

    key: str
    entities: str
    history: str
    about: ma.About
    facts: Mapping[str, tuple[ma.Field, ...]]
    lanes: Sequence[tuple[str, str, str]]
    heading: str
    lists: Sequence[_List]


_KINDS = {
    "account": _Kind(
        *("account_id", "Accounts", "State, Health and Tier"),
        ma.about(ACCOUNT_INTERVALS, "current_state", "health_band", "subscription_tier"),
        {
            "silver_account_current_state": ma.fields(
                *("current_state/State/words", "state_since/Since/day", "state_reason/Reason"),
                *("subscription_tier/Tier/words", "monthly_recurring_revenue/MRR/,.2f"),
                *("contract_renewal_date/Renewal/day", "days_to_renewal/Days to renewal/,d"),
                *("health_score/Health of 100/.0f", "health_band/Health band/words"),
                *("active_seats/Active seats/,d", "total_seats/Seats/,d"),
                "products_active/Products in use/,d",
            ),
            # Without a band, the risk is the base rate of all accounts.
            "gold_account_churn_scores WHERE risk_band IS NOT NULL": (
                *_RISK,
                *ma.fields("reason_1/Reason 1", "reason_2/Reason 2", "reason_3/Reason 3"),
            ),
            "gold_accounts_needing_attention": ma.fields("why/Needs attention"),
        },
        [
            ("'State'", "current_state", "silver_account_state_intervals"),
            ("'Health'", "health_band", "silver_account_state_intervals"),
            ("'Tier'", "subscription_tier", "silver_account_state_intervals"),
        ],
        "Billing and people",
        [
            _List(
                *("Billing events", "Accounts, Billing Events, to Date", "billing event"),
                ma.fields(
                    *("event_date/Day/day", "event_type/Event/words"),
                    *("monthly_recurring_revenue/MRR/,.2f/", "currency/Currency"),
                    *("subscription_tier/Tier/words", "total_seats/Seats/,d/"),
                ),
                ma.about(BILLING, "event_type"),
                "bronze_subscription_events WHERE entity_type = 'account' AND event_date <= $last",
                *("event_timestamp DESC, event_id DESC", "entity_id"),
            ),
            _List(
                *("Users at high risk", "Users, at High Risk, Latest Day", "user"),
                ma.fields(
                    "user_id/User", "churn_probability/Churn risk/.0%", "reason_1/Main reason"
                ),
                ma.about(USER_SCORES, "churn_probability"),
                f"gold_user_churn_scores WHERE risk_band = '{HIGH}'",
                *("churn_probability DESC, user_id", "account_id"),
            ),
        ],
    ),
    "person": _Kind(
        *("user_id", "Users", "States and Segment"),
        ma.about(USER_INTERVALS, "platform_state"),
        {
            "silver_user_current_state": ma.fields(
                *("platform_state/State/words", "platform_state_since/Since/day"),
                *("account_id/Account", "last_qualifying_event_at/Last qualifying event/day"),
                "total_qualifying_events/Qualifying events/,d",
                "days_since_signup/Days since signup/,d",
            ),
            "silver_behavioral_segments": tuple(
                ma.Field(one.name, ma.words(one.name), ma.WORDS)
                for one in SEGMENT_COLUMNS
                if one.name != "segment_version"
            ),
            "gold_user_churn_scores": _RISK,
        },
        [
            ("'Platform'", "platform_state", "silver_user_state_intervals"),
            ("product_id", "current_state", "silver_user_product_state_intervals"),
            ("'Segment'", "composite_segment", "silver_user_segment_history"),
        ],
        "Predictions",
        [
            _List(
                *("Reasons for the churn risk", "Users, Churn Reasons, Latest Day", "reason"),
                ma.fields("reason/Reason", "effect/Effect on the risk/+.0%/"),
                ma.about(USER_SCORES, "churn_probability", "reason_1_effect"),
                "(SELECT user_id, unnest([1, 2, 3]) AS place, unnest([reason_1, reason_2, reason_3])"
                " AS reason, unnest([reason_1_effect, reason_2_effect, reason_3_effect]) AS effect"
                " FROM gold_user_churn_scores) WHERE reason IS NOT NULL",
                *("place", "user_id"),
            ),
            _List(
                *("Products to recommend", "Users, Recommendations, Latest Day", "product"),
                ma.fields("product_id/Product", "why/Why"),
                ma.about(RECOMMENDATIONS, "why"),
                "gold_product_recommendations",
                *("recommendation_rank", "user_id"),
            ),
        ],
    ),
}


def name_entities(reader: ma.Reader, account_pages: int) -> None:
    """Decide which accounts and people have a page, so that other pages can link to them.

    Accounts that other pages list come first, followed by those with the highest MRR. No one has a page
    without daily metrics.
    """
    if reader.days is None:
        return
    limit, high = f"LIMIT {LISTED}", f"WHERE t.risk_band = '{HIGH}'"
    risk = "ORDER BY t.churn_probability DESC"
    accounts = [
        f"gold_accounts_needing_attention ORDER BY attention_rank {limit}",
        f"gold_account_churn_scores AS t {high} {risk}, account_id {limit}",
        "silver_account_current_state ORDER BY monthly_recurring_revenue DESC, account_id"
        f" LIMIT {account_pages}",
    ]
    people = [
        f"gold_user_churn_scores AS t {high} {risk}, user_id {limit}",
        "gold_user_churn_scores AS t JOIN gold_accounts_needing_attention USING (account_id)"
        f" {high} AND attention_rank <= {LISTED}"
        f" QUALIFY row_number() OVER (PARTITION BY account_id {risk}, user_id) <= {_PEOPLE_PER_ACCOUNT}"
        " ORDER BY attention_rank, t.churn_probability DESC, user_id",
    ]
    chosen = [one for source in accounts for one in _column(reader, f"account_id FROM {source}")]
    first = [*dict.fromkeys(chosen)][:account_pages]
    reader.accounts = {one: ma.page_file("account", one) for one in first}
    named = [one for source in people for one in _column(reader, f"user_id FROM {source}")]
    reader.people = {one: ma.page_file("person", one) for one in named}


def entity_pages(reader: ma.Reader, kind: str, ids: Sequence[str]) -> Iterator[ma.Page]:
    """Yield the page of each account or person (`kind`) that is known, in the order of `ids`."""
    if not ids:
        return
    shown, catalog = _KINDS[kind], ma.read_catalog(reader)
    facts = [
        _rows(reader, ids, shown.key, [one.name for one in columns], table)
        for table, columns in shown.facts.items()
    ]
    lanes = [_intervals(reader, ids, shown.key, *lane) for lane in shown.lanes]
    lists = [
        _rows(
            *(reader, ids, one.key),
            [*(f.name for f in one.fields), f"count(*) OVER (PARTITION BY {one.key})"],
            *(one.source, one.order, _ROWS),
        )
        for one in shown.lists
    ]
    *_, (_, other, table) = shown.lanes
    others = map(ma.words, _column(reader, f"DISTINCT {other} FROM {table} ORDER BY 1"))
    names = sorted({*ma.AccountState, *ma.UserState, *ma.ProductState})
    colors = dict(zip(others, _OTHER_COLORS, strict=False))
    colors |= {ma.words(band): color for band, color in _HEALTH_COLORS.items()}
    colors |= {_state(name): ma.state_color(name) for name in names}
    for entity in filter(facts[0].__contains__, ids):
        rows = [
            (one.title, _text(reader, one, value))
            for place, (columns, found) in enumerate(zip(shown.facts.values(), facts, strict=True))
            for values in found.get(entity, ())
            for one, value in zip(columns, values, strict=True)
            if value is not None or not place
        ]
        now = f"{rows[0][1]} since {rows[1][1]}."
        past = [
            (place, catalog.name(lane), *row)
            for place, found in enumerate(lanes)
            for lane, *row in found.get(entity, ())
        ]
        listed = [
            _listed(reader, catalog, one, found.get(entity, []))
            for one, found in zip(shown.lists, lists, strict=True)
        ]
        current = ma.Listing(
            *(now, _FACTS, rows, shown.about, {"value": reader.accounts}),
            searchable=False,
            name="Facts",
            title=f"{shown.entities}, Facts, Latest Day",
        )
        yield ma.Page(
            *(ma.page_file(kind, entity), entity, f"{kind.capitalize()}, {ma.lowered(now)}"),
            sections=[
                ma.Section("Now", [current]),
                ma.Section("History", [_timeline(shown, past, colors)]),
                ma.Section(shown.heading, listed),
            ],
            up=[ma.Link("Accounts", "accounts.html")],
        )


def _timeline(kind: _Kind, past: ma.Rows, colors: Mapping[str, str]) -> ma.Figure:
    """Draw the latest intervals, whose rows start with the place of their lane."""
    finding, latest = "There is no history.", sorted(past, key=itemgetter(2, 1))[-_INTERVALS:]
    if latest:
        _, lane, first, _, value = latest[-1]
        finding = f"The latest change is {lane}: {_state(value).lower()}, on {ma.day_text(first)}."
        if len(past) >= _INTERVALS:
            finding += f" The {_INTERVALS} latest intervals are shown."
    rows = [(lane, first, last, _state(value)) for _, lane, first, last, value in sorted(latest)]
    present = {value for *_, value in rows}
    used = {value: color for value, color in colors.items() if value in present}
    return ma.Figure(
        finding,
        ma.Chart("timeline", _TIMELINE, rows, used),
        kind.about,
        wide=True,
        name=kind.history.capitalize(),
        title=f"{kind.entities}, {kind.history}, to Date, by Interval",
    )


def _listed(
    reader: ma.Reader, catalog: ma.Catalog, shown: _List, rows: Sequence[tuple[Any, ...]]
) -> ma.Listing:
    """Show rows that end with the number of all rows."""
    count = rows[0][-1] if rows else 0
    most = f" The first {len(rows)} are shown." if count > len(rows) else ""
    return ma.Listing(
        f"{ma.plural(count, shown.thing)}.{most}",
        shown.fields,
        [(catalog.name(first), *row) for first, *row, _ in rows],  # products by their names
        shown.about,
        {"user_id": reader.people},
        searchable=False,
        name=shown.name,
        title=shown.title,
    )


def _text(reader: ma.Reader, column: ma.Field, value: Any) -> str:
    if column.name == "monthly_recurring_revenue":
        return reader.wording.money(value)
    return column.text(value) or "none"


def _state(name: str) -> str:
    """Return the display name of a state, without the suffix of product states."""
    return ma.words(re.sub(r"_(in|to|from)_product$", "", name))


def _column(reader: ma.Reader, select: str) -> list[str]:
    """Return the values of a column, none if a table was never materialized."""
    with suppress(MissingTableError):
        return [value for (value,) in reader.rows(f"SELECT {select}")]
    return []


def _rows(
    reader: ma.Reader,
    ids: Sequence[str],
    key: str,
    columns: Sequence[str],
    source: str,
    order: str = "1",
    most: int = 1,
) -> Found:
    """Return the first rows of each entity by its id, none if a table was never materialized.

    `source` names a table, and can end with a condition.
    """
    with suppress(MissingTableError):
        rows = reader.ask(
            f"SELECT {key}, {', '.join(columns)} FROM (SELECT * FROM {source})"
            f" WHERE {key} IN (SELECT unnest($ids))"
            f" QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {order}) <= {most}"
            f" ORDER BY {key}, {order}",
            ids=[*ids],
        )
        return {key: [row[1:] for row in found] for key, found in groupby(rows, itemgetter(0))}
    return {}


def _intervals(
    reader: ma.Reader, ids: Sequence[str], key: str, lane: str, value: str, table: str
) -> Found:
    """Return the latest intervals with one value: lane, first and last day, and value."""
    days = "valid_from AS first, coalesce(valid_to - 1, as_of_date) AS last"
    if table.endswith("_history"):
        days = "snapshot_date AS first, snapshot_date AS last"
    by_day = "PARTITION BY id, lane ORDER BY first"
    source = f"""(
        SELECT id, lane, min(first) AS first, max(last) AS last, any_value(value) AS value FROM (
            SELECT *, count(*) FILTER (starts) OVER ({by_day}) AS run FROM (
                SELECT *, value IS DISTINCT FROM lag(value) OVER ({by_day}) AS starts FROM (
                    SELECT {key} AS id, {lane} AS lane, {days}, {value} AS value
                    FROM {table} WHERE {key} IN (SELECT unnest($ids))
                )
            )
        ) GROUP BY id, lane, run)"""
    return _rows(
        *(reader, ids, "id", ("lane", "first", "last", "value"), source),
        *("first DESC, lane", _INTERVALS),
    )
