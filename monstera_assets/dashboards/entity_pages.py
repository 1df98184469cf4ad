"""The pages of single accounts and people: facts and history.

There can be thousands of these pages, so the template is rendered once per kind, and what differs is
filled in. The facts of all pages come from one query per table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from html import escape
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
from monstera_assets.warehouse.tables import Table

_FACTS = (ma.Field("fact", "Fact"), ma.Field("value", "Value"))
_EVENTS = (
    *(ma.ON_DAY, ma.Field("event", "Event"), ma.Field("mrr", "MRR", ",.2f", "")),
    *(ma.Field("currency", "Currency"), ma.Field("tier", "Tier")),
    ma.Field("seats", "Seats", ",d", ""),
)
_AT_RISK = (
    *(ma.Field("user", "User"), ma.Field("risk", "Churn risk", ".0%")),
    ma.Field("reason", "Main reason"),
)
_REASONS = (ma.Field("reason", "Reason"), ma.Field("effect", "Effect on the risk", "+.0%", ""))
_OFFERS = (ma.Field("product", "Product"), ma.Field("why", "Why"))
_TIMELINE = ma.Chart(
    "timeline",
    (
        *(ma.Field("lane", "What"), ma.Field("first", "From", ma.DAY)),
        *(ma.Field("last", "Through", ma.DAY), ma.Field("value", "Value")),
    ),
    (),
)
_MEASURES = ("Health", "MRR")
_COURSE = ma.Chart(
    "lines",
    (
        *(ma.choice("measure", "Measure", _MEASURES), ma.ON_DAY),
        *(ma.SERIES, ma.Field("value", "Value", ",.2f")),
    ),
    (),
    {"Value": ma.PRIMARY},
)
_OTHER_COLORS = ("seventh", "fifth", "sixth", "fourth", "eighth", *[ma.SECONDARY] * 20)
"""Colors of tiers and segments, which differ from the colors of states."""
_INTERVALS, _ROWS, _FALLBACK = 40, 8, 12
"""Maximum number of intervals in a timeline, of rows in a list, and of rows in a table that replaces a
chart without scripts. They keep pages small."""
_PEOPLE_PER_ACCOUNT = 5
"""Number of people at high risk in each account that needs attention who have a page."""
_SEGMENTS = [one.name for one in SEGMENT_COLUMNS if one.name != "segment_version"]

Render = Callable[[ma.Page], str]
Found = Mapping[str, ma.Rows]


def name_entities(reader: ma.Reader, account_pages: int) -> None:
    """Decide which accounts and people have a page, so that other pages can link to them.

    Accounts that other pages list come first, followed by those with the highest MRR. No one has a page
    without daily metrics.
    """
    if reader.days is None:
        return
    high = f"WHERE t.risk_band = '{HIGH}'"
    of_accounts = (
        f"JOIN gold_accounts_needing_attention USING (account_id) {high} AND attention_rank <= {LISTED}"
        " QUALIFY row_number() OVER (PARTITION BY account_id ORDER BY t.churn_probability DESC,"
        f" user_id) <= {_PEOPLE_PER_ACCOUNT} ORDER BY attention_rank, t.churn_probability DESC, user_id"
    )
    limit, highest = f"LIMIT {LISTED}", f"{high} ORDER BY t.churn_probability DESC"
    mrr = f"ORDER BY monthly_recurring_revenue DESC, account_id LIMIT {account_pages}"
    chosen = [
        *_column(
            reader,
            "account_id",
            "gold_accounts_needing_attention",
            f"ORDER BY attention_rank {limit}",
        ),
        *_column(
            reader, "account_id", "gold_account_churn_scores", f"{highest}, account_id {limit}"
        ),
        *_column(reader, "account_id", "silver_account_current_state", mrr),
    ]
    people = [
        *_column(reader, "user_id", "gold_user_churn_scores", f"{highest}, user_id {limit}"),
        *_column(reader, "user_id", "gold_user_churn_scores", of_accounts),
    ]
    first = [*dict.fromkeys(chosen)][:account_pages]
    reader.accounts = {one: ma.page_file("account", one) for one in first}
    reader.people = {one: ma.page_file("person", one) for one in people}


def account_texts(
    reader: ma.Reader, ids: Sequence[str], render: Render, root: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the file name and text of each account's page, in the order of `ids`, if it is known.

    `root` is the path to the folder of all other pages.
    """
    if not ids:
        return
    grid, money, currency = reader.every(14), reader.wording.money, reader.wording.currency
    current = _of(
        *(reader, ids, "silver_account_current_state", "account_id"),
        "current_state, state_since, state_reason, subscription_tier, monthly_recurring_revenue,"
        " contract_renewal_date, days_to_renewal, health_score, health_band, active_seats, total_seats,"
        " products_active",
    )
    lanes = {"State": "current_state", "Tier": "subscription_tier"}
    history = _runs(reader, ids, "silver_account_state_intervals", "account_id", lanes)
    course = _by_id(
        *(reader, ids),
        "SELECT account_id, list(round(health_score, 1) ORDER BY day),"
        " list(CAST(monthly_recurring_revenue AS DOUBLE) ORDER BY day)"
        " FROM silver_account_state_intervals JOIN (SELECT unnest($days) AS day)"
        " ON day >= valid_from AND (valid_to IS NULL OR day < valid_to)"
        " WHERE account_id IN (SELECT unnest($ids)) GROUP BY account_id ORDER BY account_id",
        days=grid,
    )
    events = _of(
        *(reader, ids, "bronze_subscription_events", "entity_id"),
        "event_date, event_type, monthly_recurring_revenue, currency, subscription_tier, total_seats,"
        " count(*) OVER (PARTITION BY entity_id)",
        where="entity_type = 'account' AND event_date <= $last",
        order="event_timestamp DESC, event_id DESC",
    )
    scores = _of(
        *(reader, ids, "gold_account_churn_scores", "account_id"),
        "churn_probability, risk_band, reason_1, reason_2, reason_3",
    )
    why = _of(reader, ids, "gold_accounts_needing_attention", "account_id", "why")
    people = _of(
        *(reader, ids, "gold_user_churn_scores", "account_id"),
        "user_id, churn_probability, reason_1, count(*) OVER (PARTITION BY account_id)",
        where=f"risk_band = '{HIGH}'",
        order="churn_probability DESC, user_id",
    )
    tiers = _column(
        reader, "DISTINCT subscription_tier", "silver_account_state_intervals", "ORDER BY 1"
    )
    blank = _Blank(
        *(render, root),
        {
            "Now": [_facts("Accounts", ACCOUNT_INTERVALS, "current_state")],
            "History": [
                _figure(
                    *(
                        "State and tier",
                        "Accounts, State and Tier, to Date, by Interval",
                        _TIMELINE,
                    ),
                    ma.about(ACCOUNT_INTERVALS, *lanes.values()),
                ),
                _figure(
                    *(
                        "Health and MRR",
                        "Accounts, Health and MRR Biweekly, Last 18 Months",
                        _COURSE,
                    ),
                    ma.about(ACCOUNT_INTERVALS, "health_score", "monthly_recurring_revenue"),
                ),
            ],
            "Billing and people": [
                _listing(
                    *("Billing events", "Accounts, Billing Events, to Date", _EVENTS),
                    ma.about(BILLING, "event_type"),
                ),
                _listing(
                    *("Users at high risk", "Users, at High Risk, Latest Day", _AT_RISK),
                    ma.about(USER_SCORES, "churn_probability"),
                    {"user": reader.people},
                ),
            ],
        },
        _colors(tiers, ma.state_colors(ma.AccountState)),
    )
    for account in filter(current.__contains__, ids):
        [(state, since, reason, tier, mrr, renewal, days, health, band, active, seats, breadth)] = (
            current[account]
        )
        facts = {
            "State": f"{ma.words(state)} since {ma.day_text(since)}: {reason}",
            "Tier": ma.words(tier),
            "MRR": money(mrr),
            "Renewal": (ma.day_text(renewal) if renewal else "not set")
            + ("" if days is None else f", in {ma.plural(days, 'day')}"),
            "Health": f"{health:.0f} of 100, {band}",
            "Seats": f"{active:,} active of {seats or 'an unknown number'}",
            "Products in use": f"{breadth:,}",
        }
        for chance, risk, *reasons in scores.get(account, ()):
            facts["Churn risk"] = _chance(chance, risk, "a lapse within 90 days", "account")
            if any(reasons):
                facts["Reasons"] = "; ".join(filter(None, reasons))
        for (text,) in why.get(account, ()):
            facts["Needs attention"] = text
        at_risk = people.get(account, [])
        listed = [row[:3] for row in at_risk if row[0] in reader.people]
        billed = [
            (
                on,
                ma.words(kind),
                mrr,
                mrr if mrr is None else unit or currency,
                ma.words(of or ""),
                many,
            )
            for on, kind, mrr, unit, of, many, _ in events.get(account, [])
        ]
        past = history.get(account, [])
        [values] = course.get(account, [([], [])])
        shown = grid[len(grid) - len(values[0]) :]
        went = "There is no history."
        if shown:
            went = f"Health was {values[0][0]:.0f} on {ma.day_text(shown[0])} and is {health:.0f}."
        points = [
            (name, on, "Value", value)
            for name, series in zip(_MEASURES, values, strict=True)
            for on, value in zip(shown, series, strict=True)
        ]
        text = blank.fill(
            account,
            f"Account, {ma.words(state).lower()} since {ma.day_text(since)}, {money(mrr)} of MRR.",
            (
                f"{ma.words(state)}, with {money(mrr)} of MRR and health {health:.0f}.",
                facts.items(),
            ),
            (_latest_change(past), _latest(past, [*lanes])),
            (went, points),
            (_events_found(events.get(account, [])), billed),
            (_people_found(at_risk, listed), listed),
        )
        yield ma.page_file("account", account), text


def person_texts(
    reader: ma.Reader, ids: Sequence[str], render: Render, root: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the file name and text of each person's page, in the order of `ids`, if it is known.

    `root` is the path to the folder of all other pages.
    """
    if not ids:
        return
    catalog = ma.read_catalog(reader)
    current = _of(
        *(reader, ids, "silver_user_current_state", "user_id"),
        "account_id, platform_state, platform_state_since, CAST(last_qualifying_event_at AS DATE),"
        " total_qualifying_events, days_since_signup",
    )
    of_platform, of_product = {"Platform": "platform_state"}, {"": "current_state"}
    platform = _runs(reader, ids, "silver_user_state_intervals", "user_id", of_platform)
    products = _runs(
        *(reader, ids, "silver_user_product_state_intervals", "user_id", of_product),
        lane="product_id",
    )
    composite, days = {"Segment": "composite_segment"}, "snapshot_date AS first, first AS last"
    history = _runs(reader, ids, "silver_user_segment_history", "user_id", composite, days=days)
    now = _of(reader, ids, "silver_behavioral_segments", "user_id", ", ".join(_SEGMENTS))
    reasons = ", ".join(f"reason_{n}, reason_{n}_effect" for n in (1, 2, 3))
    columns = f"churn_probability, risk_band, {reasons}"
    scores = _of(reader, ids, "gold_user_churn_scores", "user_id", columns)
    offers = _of(
        *(reader, ids, "gold_product_recommendations", "user_id", "product_id, why"),
        order="recommendation_rank",
    )
    [combined] = [one.allowed or () for one in SEGMENT_COLUMNS if one.name == "composite_segment"]
    names = sorted({*ma.UserState, *ma.ProductState})
    blank = _Blank(
        *(render, root),
        {
            "Now": [_facts("Users", USER_INTERVALS, "platform_state", reader.accounts)],
            "History": [
                _figure(
                    *("States and segment", "Users, States and Segment, to Date", _TIMELINE),
                    ma.about(USER_INTERVALS, "platform_state"),
                )
            ],
            "Predictions": [
                _listing(
                    *("Churn risk", "Users, Churn Reasons, Latest Day", _REASONS),
                    ma.about(USER_SCORES, "churn_probability", "reason_1_effect"),
                ),
                _listing(
                    *("Products to recommend", "Users, Recommendations, Latest Day", _OFFERS),
                    ma.about(RECOMMENDATIONS, "why"),
                ),
            ],
        },
        _colors(combined, {_state(name): ma.state_color(name) for name in names}),
    )
    for person in filter(current.__contains__, ids):
        [(account, state, since, last, events, age)] = current[person]
        facts = {
            "State": f"{ma.words(state)} since {ma.day_text(since)}",
            "Account": account or "none",
            "Last qualifying event": ma.day_text(last) if last else "none",
            "Qualifying events": f"{events:,} in {ma.plural(age, 'day')} since signup",
        }
        for found in now.get(person, ()):
            facts |= dict(zip(map(ma.words, _SEGMENTS), map(ma.words, found), strict=True))
        used = [(catalog.name(node), *row) for node, *row in products.get(person, ())]
        past = [*platform.get(person, ()), *used, *history.get(person, ())]
        lanes = ["Platform", *sorted({name for name, *_ in used}), "Segment"]
        risk, why = "Only active, returning and reactivated users are scored.", []
        for chance, band, *parts in scores.get(person, ()):
            risk = f"{_chance(chance, band, 'no qualifying event for 30 days', 'user')}."
            why = [pair for pair in zip(parts[::2], parts[1::2], strict=True) if pair[0]]
        suggested = [(catalog.name(node), text) for node, text in offers.get(person, ())]
        text = blank.fill(
            person,
            f"Person, {ma.words(state).lower()} since {ma.day_text(since)}.",
            (f"{ma.words(state)} since {ma.day_text(since)}.", facts.items()),
            (_latest_change(past), _latest(past, lanes)),
            (risk, why),
            (f"{ma.plural(len(suggested), 'product')} to recommend.", suggested),
        )
        yield ma.page_file("person", person), text


TEXTS = {"account": account_texts, "person": person_texts}
"""The function that writes the pages of each kind of entity."""


class _Blank:
    """A rendered page in which the data of each account or person is filled."""

    def __init__(
        self,
        render: Render,
        root: str,
        sections: Mapping[str, Sequence[ma.Figure | ma.Listing]],
        colors: Mapping[str, str],
    ) -> None:
        self._root, self._colors = root, colors
        self._items: list[ma.Figure | ma.Listing] = []
        made = [
            ma.Section(heading, [self._mark(item) for item in items])
            for heading, items in sections.items()
        ]
        up = [ma.Link("Accounts", "accounts.html")]
        text = render(ma.Page("", "@@title@@", "@@lead@@", sections=made, up=up))
        self._marks = ["@@title@@", "@@lead@@", *map(str, self._texts(self._items))]
        self._parts = re.split(f"({'|'.join(map(re.escape, self._marks))})", text)

    def _mark(self, item: ma.Figure | ma.Listing) -> ma.Item:
        """Return an item with one row, which the texts of each page replace."""
        mark = f"@@{len(self._items)}@@"
        fields = item.fields if isinstance(item, ma.Listing) else item.chart.fields
        row = [
            one.default or ("Value" if one == ma.SERIES else None if one.format else mark)
            for one in fields
        ]
        self._items.append(_with_rows(item, mark, [row], {mark: mark}))
        return self._items[-1]

    def _texts(self, items: Iterable[ma.Figure | ma.Listing]) -> Iterator[str]:
        """Yield the texts that differ between pages, as the page template renders them."""
        for item in items:
            yield escape(item.finding)
            if isinstance(item, ma.Listing):
                yield item.table.html(root=self._root)
                continue
            payload, table = item.chart.payload(), item.chart.table()
            yield ma.json_text(payload["columns"])
            yield ma.json_text(payload["colors"])
            few = table.rows[:: -1 if item.chart.kind == "timeline" else -4][:_FALLBACK]
            yield replace(table, rows=few).html()

    def fill(self, title: str, lead: str, *contents: tuple[str, Iterable[Sequence[Any]]]) -> str:
        """Return the page with a title, a lead, and the finding and rows of each item."""
        items = []
        for item, (finding, rows) in zip(self._items, contents, strict=True):
            shown = [*rows]
            present = {row[-1] for row in shown}
            used = {value: color for value, color in self._colors.items() if value in present}
            items.append(_with_rows(item, finding, shown, used))
        values = [escape(title), escape(lead), *self._texts(items)]
        found = dict(zip(self._marks, values, strict=True))
        return "".join(found[part] if n % 2 else part for n, part in enumerate(self._parts))


def _with_rows(
    item: ma.Figure | ma.Listing, finding: str, rows: Sequence[Any], colors: Mapping[str, str]
) -> ma.Figure | ma.Listing:
    if isinstance(item, ma.Listing):
        return replace(item, finding=finding, rows=rows)
    colors = colors if item.chart.kind == "timeline" else item.chart.colors
    return replace(item, finding=finding, chart=replace(item.chart, rows=rows, colors=colors))


def _figure(name: str, title: str, chart: ma.Chart, described: ma.About) -> ma.Figure:
    return ma.Figure("", chart, described, chart.kind == "timeline", name, title)


def _listing(
    name: str,
    title: str,
    fields: Sequence[ma.Field],
    described: ma.About,
    links: Mapping[str, Mapping[str, str]] | None = None,
) -> ma.Listing:
    return ma.Listing(
        "", fields, (), described, links or {}, searchable=False, name=name, title=title
    )


def _facts(
    entities: str, table: Table, column: str, links: Mapping[str, str] | None = None
) -> ma.Listing:
    described = ma.about(table, column)
    return _listing(
        "Facts", f"{entities}, Facts, Latest Day", _FACTS, described, {"value": links or {}}
    )


def _colors(others: Iterable[str], states: Mapping[str, str]) -> dict[str, str]:
    return {**dict(zip(map(ma.words, others), _OTHER_COLORS, strict=False)), **states}


def _chance(chance: float | None, band: str | None, outcome: str, entity: str) -> str:
    if chance is None:
        return "not known"
    risk = f"{band} risk" if band else f"the same for every {entity}"
    return f"{chance:.0%} chance of {outcome}, {risk}"


def _events_found(listed: ma.Rows) -> str:
    count = listed[0][-1] if listed else 0
    most = f" The latest {len(listed)} are shown." if count > len(listed) else ""
    return f"{ma.plural(count, 'billing event')}.{most}"


def _people_found(at_risk: ma.Rows, listed: ma.Rows) -> str:
    if not at_risk:
        return "No users are at high risk."
    count = at_risk[0][-1]
    text = f"{ma.plural(count, 'user')} {'is' if count == 1 else 'are'} at high risk."
    if not listed:
        return f"{text} The command monstera person ID opens the page of any person."
    return text if count == len(listed) else f"{text} {len(listed)} of them are listed."


def _latest_change(rows: ma.Rows) -> str:
    if not rows:
        return "There is no history."
    lane, first, _, value = max(rows, key=itemgetter(1, 0))
    most = f" The {_INTERVALS} latest intervals are shown." if len(rows) >= _INTERVALS else ""
    return f"The latest change is {lane}: {_state(value).lower()}, on {ma.day_text(first)}.{most}"


def _latest(rows: ma.Rows, lanes: Sequence[str]) -> ma.Rows:
    """Return the latest intervals, by lane and day."""
    latest = sorted(rows, key=itemgetter(1, 0))[-_INTERVALS:]
    latest.sort(key=lambda row: (lanes.index(row[0]), row[1]))
    return [(lane, first, last, _state(value)) for lane, first, last, value in latest]


def _state(name: str) -> str:
    """Return a state for display, without saying that it is one in a product."""
    return ma.words(re.sub(r"_(in|to|from)_product$", "", name))


def _column(reader: ma.Reader, column: str, table: str, within: str) -> list[str]:
    """Return the values of a column, none if a table was never materialized."""
    with suppress(MissingTableError):
        return [value for (value,) in reader.ask(f"SELECT {column} FROM {table} AS t {within}")]
    return []


def _by_id(reader: ma.Reader, ids: Sequence[str], select: str, **more: Any) -> Found:
    """Return the rows of a query without their first column, by the first column.

    The result is empty if a table was never materialized.
    """
    with suppress(MissingTableError):
        rows = reader.ask(select, ids=[*ids], **more)
        return {key: [row[1:] for row in group] for key, group in groupby(rows, itemgetter(0))}
    return {}


def _of(
    reader: ma.Reader,
    ids: Sequence[str],
    table: str,
    key: str,
    columns: str,
    *,
    where: str = "TRUE",
    order: str = "",
) -> Found:
    """Return columns by id. If `order` is set, an id has at most `_ROWS` rows."""
    most = f" QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {order}) <= {_ROWS}"
    return _by_id(
        *(reader, ids),
        f"SELECT {key}, {columns} FROM {table} WHERE {key} IN (SELECT unnest($ids)) AND {where}"
        f"{most if order else ''} ORDER BY {', '.join(filter(None, [key, order]))}",
    )


def _runs(
    reader: ma.Reader,
    ids: Sequence[str],
    table: str,
    key: str,
    lanes: Mapping[str, str],
    *,
    lane: str = "",
    days: str = "valid_from AS first, coalesce(valid_to - 1, as_of_date) AS last",
) -> Found:
    """Return the latest intervals with one value: lane, first and last day, and value.

    `lanes` maps each lane to its column. If `lane` is set, the values of that column are the lanes.
    """
    names, by_day = lane or f"unnest({[*lanes]!r})", "PARTITION BY id, lane ORDER BY first"
    return _by_id(
        *(reader, ids),
        f"""SELECT id, lane, min(first), max(last), any_value(value) FROM (
            SELECT *, count(*) FILTER (starts) OVER ({by_day}) AS run FROM (
                SELECT *, value IS DISTINCT FROM lag(value) OVER ({by_day}) AS starts FROM (
                    SELECT {key} AS id, {names} AS lane, {days},
                        unnest([{", ".join(lanes.values())}]) AS value
                    FROM {table} WHERE {key} IN (SELECT unnest($ids))
                )
            )
        ) GROUP BY id, lane, run
        QUALIFY row_number() OVER (PARTITION BY id ORDER BY min(first) DESC, lane) <= {_INTERVALS}
        ORDER BY id, 3, lane""",
    )
