"""The pages of single accounts and people: facts and history.

There can be thousands of these pages, so the facts of all pages come from one query per table.
"""
# Over 400 lines: accounts and people share the declarations of facts and history.

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from monstera_assets.bronze.bronze_subscription_events import TABLE as BILLING
from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.risk_page import LISTED
from monstera_assets.gold.churn_risk import HIGH
from monstera_assets.gold.gold_product_recommendations import TABLE as RECOMMENDATIONS
from monstera_assets.gold.gold_user_churn_scores import TABLE as USER_SCORES
from monstera_assets.lifecycle.products import IN_USE
from monstera_assets.silver.silver_account_state_intervals import TABLE as ACCOUNT_INTERVALS
from monstera_assets.silver.silver_user_segment_history import SEGMENT_COLUMNS
from monstera_assets.silver.silver_user_state_intervals import TABLE as USER_INTERVALS
from monstera_assets.warehouse.errors import MissingTableError

_OTHER_COLORS = ("seventh", "fifth", "sixth", "fourth", "eighth", *[ma.SECONDARY] * 20)
"""Colors of tiers and segments, which differ from the colors of states."""
_INTERVALS, _ROWS, _FEW = 40, 8, 12
"""Maximum number of intervals in a timeline, of rows in a list, and of rows in a table that replaces a
chart without scripts. They keep pages small."""
_PEOPLE_PER_ACCOUNT = 5
"""Number of people at high risk in each account that needs attention who have a page."""
_SEGMENTS = [one.name for one in SEGMENT_COLUMNS if one.name != "segment_version"]

_IN_USE = (*map(str, IN_USE),)

Found = Mapping[str, ma.Rows]


def _listing(name: str, title: str, fields: tuple[ma.Field, ...], about: ma.About) -> ma.Listing:
    return ma.Listing("", fields, (), about, searchable=False, name=name, title=title)


def _figure(name: str, title: str, chart: ma.Chart, about: ma.About) -> ma.Figure:
    return ma.Figure("", chart, about, chart.kind == "timeline", name, title)


_FACTS = ma.fields("fact/Fact", "value/Value")
_TIMELINE = ma.Chart(
    "timeline",
    ma.fields("lane/What", "first/From/day", "last/Through/day", "value/Value"),
    (),
    few=_FEW,
)
_MEASURE = ma.choice("measure", "Measure", ["Health", "MRR"])
_COURSE = (_MEASURE, ma.ON_DAY, ma.SERIES, *ma.fields("value/Value/,.2f"))
_ACCOUNT_FACTS, _ACCOUNT_HISTORY, _ACCOUNT_COURSE, _ACCOUNT_EVENTS, _ACCOUNT_PEOPLE = (
    _listing(
        *("Facts", "Accounts, Facts, Latest Day", _FACTS),
        ma.about(ACCOUNT_INTERVALS, "current_state"),
    ),
    _figure(
        *("State and tier", "Accounts, State and Tier, to Date, by Interval", _TIMELINE),
        ma.about(ACCOUNT_INTERVALS, "current_state", "subscription_tier"),
    ),
    _figure(
        *("Health and MRR", "Accounts, Health and MRR Biweekly, Last 18 Months"),
        ma.Chart("lines", _COURSE, (), {"Value": ma.PRIMARY}, few=_FEW),
        ma.about(ACCOUNT_INTERVALS, "health_score", "monthly_recurring_revenue"),
    ),
    _listing(
        *("Billing events", "Accounts, Billing Events, to Date"),
        ma.fields("day/Day/day", "event/Event", "mrr/MRR/,.2f/", "currency/Currency", "tier/Tier")
        + ma.fields("seats/Seats/,d/"),
        ma.about(BILLING, "event_type"),
    ),
    _listing(
        *("Users at high risk", "Users, at High Risk, Latest Day"),
        ma.fields("user/User", "risk/Churn risk/.0%", "reason/Main reason"),
        ma.about(USER_SCORES, "churn_probability"),
    ),
)
_PERSON_FACTS, _PERSON_HISTORY, _PERSON_RISK, _PERSON_OFFERS = (
    _listing(
        *("Facts", "Users, Facts, Latest Day", _FACTS), ma.about(USER_INTERVALS, "platform_state")
    ),
    _figure(
        *("States and segment", "Users, States and Segment, to Date", _TIMELINE),
        ma.about(USER_INTERVALS, "platform_state"),
    ),
    _listing(
        *("Churn risk", "Users, Churn Reasons, Latest Day"),
        ma.fields("reason/Reason", "effect/Effect on the risk/+.0%/"),
        ma.about(USER_SCORES, "churn_probability", "reason_1_effect"),
    ),
    _listing(
        *("Products to recommend", "Users, Recommendations, Latest Day"),
        ma.fields("product/Product", "why/Why"),
        ma.about(RECOMMENDATIONS, "why"),
    ),
)


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


def account_pages(reader: ma.Reader, ids: Sequence[str]) -> Iterator[ma.Page]:
    """Yield each account's page, in the order of `ids`, if it is known."""
    if not ids:
        return
    grid, money, currency = reader.every(14), reader.wording.money, reader.wording.currency
    of = partial(_of, reader, ids, "account_id")
    current = of(
        "silver_account_current_state",
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
        *(reader, ids, "entity_id", "bronze_subscription_events"),
        "event_date, event_type, monthly_recurring_revenue, currency, subscription_tier, total_seats,"
        " count(*) OVER (PARTITION BY entity_id)",
        where="entity_type = 'account' AND event_date <= $last",
        order="event_timestamp DESC, event_id DESC",
    )
    reasons = "churn_probability, risk_band, reason_1, reason_2, reason_3"
    scores = of("gold_account_churn_scores", reasons)
    why = of("gold_accounts_needing_attention", "why")
    people = of(
        "gold_user_churn_scores",
        "user_id, churn_probability, reason_1, count(*) OVER (PARTITION BY account_id)",
        where=f"risk_band = '{HIGH}'",
        order="churn_probability DESC, user_id",
    )
    tiers = _column(
        reader, "DISTINCT subscription_tier FROM silver_account_state_intervals ORDER BY 1"
    )
    colors = _colors(tiers, ma.state_colors(ma.AccountState))
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
        for chance, risk, *named in scores.get(account, ()):
            facts["Churn risk"] = _chance(chance, risk, "a lapse within 90 days", "account")
            if any(named):
                facts["Reasons"] = "; ".join(filter(None, named))
        for (text,) in why.get(account, ()):
            facts["Needs attention"] = text
        billed = [
            (on, ma.words(kind), amount, amount and (unit or currency), ma.words(of or ""), many)
            for on, kind, amount, unit, of, many, _ in events.get(account, [])
        ]
        at_risk = people.get(account, [])
        listed = [row[:3] for row in at_risk if row[0] in reader.people]
        [(scores_by_day, amounts)] = course.get(account, [([], [])])
        shown = grid[len(grid) - len(amounts) :]
        went = "There is no history."
        if shown:
            went = (
                f"Health was {scores_by_day[0]:.0f} on {ma.day_text(shown[0])} and is {health:.0f}."
            )
        points = [
            (name, on, "Value", value)
            for name, series in (("Health", scores_by_day), ("MRR", amounts))
            for on, value in zip(shown, series, strict=True)
        ]
        present = f"{ma.words(state)}, with {money(mrr)} of MRR and health {health:.0f}."
        chart = replace(_ACCOUNT_COURSE.chart, rows=points)
        past = _latest(_ACCOUNT_HISTORY, history.get(account, []), [*lanes], colors)
        billing = _events_found(events.get(account, []))
        risky = _people_found(at_risk, listed)
        sections: dict[str, list[ma.Item]] = {
            "Now": [replace(_ACCOUNT_FACTS, finding=present, rows=[*facts.items()])],
            "History": [past, replace(_ACCOUNT_COURSE, finding=went, chart=chart)],
            "Billing and people": [
                replace(_ACCOUNT_EVENTS, finding=billing, rows=billed),
                replace(_ACCOUNT_PEOPLE, finding=risky, rows=listed, links={"user": reader.people}),
            ],
        }
        since_text = f"{ma.words(state).lower()} since {ma.day_text(since)}"
        yield _page("account", account, f"{since_text}, {money(mrr)} of MRR.", sections)


def person_pages(reader: ma.Reader, ids: Sequence[str]) -> Iterator[ma.Page]:
    """Yield each person's page, in the order of `ids`, if it is known."""
    if not ids:
        return
    catalog, of = ma.read_catalog(reader), partial(_of, reader, ids, "user_id")
    current = of(
        "silver_user_current_state",
        "account_id, platform_state, platform_state_since, CAST(last_qualifying_event_at AS DATE),"
        " total_qualifying_events, days_since_signup",
    )
    runs = partial(_runs, reader, ids, key="user_id")
    platform = runs("silver_user_state_intervals", lanes={"Platform": "platform_state"})
    states, composite = {"": "current_state"}, {"Segment": "composite_segment"}
    of_product = "silver_user_product_state_intervals"
    now_used = of(
        of_product, "product_id", where=f"valid_to IS NULL AND current_state IN {_IN_USE}"
    )
    products = runs(of_product, lanes=states, lane="product_id")
    days = "snapshot_date AS first, first AS last"
    history = runs("silver_user_segment_history", lanes=composite, days=days)
    now = of("silver_behavioral_segments", ", ".join(_SEGMENTS))
    reasons = ", ".join(f"reason_{n}, reason_{n}_effect" for n in (1, 2, 3))
    scores = of("gold_user_churn_scores", f"churn_probability, risk_band, {reasons}")
    offers = of("gold_product_recommendations", "product_id, why", order="recommendation_rank")
    [combined] = [one.allowed or () for one in SEGMENT_COLUMNS if one.name == "composite_segment"]
    names = sorted({*ma.UserState, *ma.ProductState})
    colors = _colors(combined, {_state(name): ma.state_color(name) for name in names})
    for person in filter(current.__contains__, ids):
        [(account, state, since, last, events, age)] = current[person]
        facts = {
            "State": f"{ma.words(state)} since {ma.day_text(since)}",
            "Account": account or "none",
            "Last qualifying event": ma.day_text(last) if last else "none",
            "Qualifying events": f"{events:,} in {ma.plural(age, 'day')} since signup",
        }
        used_now = sorted(catalog.name(node) for (node,) in now_used.get(person, ()))
        facts["Products in use"] = ", ".join(used_now) or "none"
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
        offered = f"{ma.plural(len(suggested), 'product')} to recommend."
        since_text = f"{ma.words(state)} since {ma.day_text(since)}"
        now_shown = replace(_PERSON_FACTS, finding=f"{since_text}.", rows=[*facts.items()])
        sections: dict[str, list[ma.Item]] = {
            "Now": [replace(now_shown, links={"value": reader.accounts})],
            "History": [_latest(_PERSON_HISTORY, past, lanes, colors)],
            "Predictions": [
                replace(_PERSON_RISK, finding=risk, rows=why),
                replace(_PERSON_OFFERS, finding=offered, rows=suggested),
            ],
        }
        yield _page("person", person, f"{ma.lowered(since_text)}.", sections)


PAGES = {"account": account_pages, "person": person_pages}
"""The function that creates the pages of each kind of entity."""


def _page(kind: str, entity: str, lead: str, sections: Mapping[str, Sequence[ma.Item]]) -> ma.Page:
    made = [ma.Section(heading, items) for heading, items in sections.items()]
    up, lead = [ma.Link("Accounts", "accounts.html")], f"{kind.capitalize()}, {lead}"
    return ma.Page(ma.page_file(kind, entity), entity, lead, sections=made, up=up)


def _latest(
    figure: ma.Figure, rows: ma.Rows, lanes: Sequence[str], colors: Mapping[str, str]
) -> ma.Figure:
    """Draw the latest intervals, by lane and day."""
    finding = "There is no history."
    if rows:
        lane, first, _, value = max(rows, key=itemgetter(1, 0))
        finding = f"The latest change is {lane}: {_state(value).lower()}, on {ma.day_text(first)}."
        if len(rows) >= _INTERVALS:
            finding += f" The {_INTERVALS} latest intervals are shown."
    latest = sorted(rows, key=itemgetter(1, 0))[-_INTERVALS:]
    latest.sort(key=lambda row: (lanes.index(row[0]), row[1]))
    shown = [(lane, first, last, _state(value)) for lane, first, last, value in latest]
    present = {value for *_, value in shown}
    used = {value: color for value, color in colors.items() if value in present}
    return replace(figure, finding=finding, chart=replace(figure.chart, rows=shown, colors=used))


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


def _state(name: str) -> str:
    """Return a state for display, without saying that it is one in a product."""
    return ma.words(re.sub(r"_(in|to|from)_product$", "", name))


def _column(reader: ma.Reader, select: str) -> list[str]:
    """Return the values of a column, none if a table was never materialized."""
    with suppress(MissingTableError):
        return [value for (value,) in reader.ask(f"SELECT {select}")]
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
    key: str,
    table: str,
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
