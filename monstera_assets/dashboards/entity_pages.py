"""The pages of single accounts and people: facts and history.

There can be thousands of these pages, so the template is rendered once per kind, with marks in place of
everything that differs. The facts of all pages come from one query per table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import groupby
from operator import itemgetter
from typing import Any

from markupsafe import escape

from monstera_assets.bronze import bronze_subscription_events as billing
from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.risk_page import LISTED
from monstera_assets.gold import gold_account_churn_scores as account_scores
from monstera_assets.gold import gold_accounts_needing_attention as attention
from monstera_assets.gold import gold_product_recommendations as recommendations
from monstera_assets.gold import gold_user_churn_scores as user_scores
from monstera_assets.gold.churn_risk import HIGH
from monstera_assets.silver import silver_account_current_state as accounts
from monstera_assets.silver import silver_account_state_intervals as account_intervals
from monstera_assets.silver import silver_behavioral_segments as segments
from monstera_assets.silver import silver_user_current_state as users
from monstera_assets.silver import silver_user_product_state_intervals as product_intervals
from monstera_assets.silver import silver_user_segment_history as segment_history
from monstera_assets.silver import silver_user_state_intervals as user_intervals
from monstera_assets.warehouse.errors import MissingTableError
from monstera_assets.warehouse.tables import Table

_LANE, _FIRST = ma.Field("lane", "What"), ma.Field("first", "From", ma.DAY)
_LAST, _VALUE = ma.Field("last", "Through", ma.DAY), ma.Field("value", "Value")
_MEASURES = ("Health", "MRR")
_RISK, _EFFECT = (
    ma.Field("risk", "Churn risk", ".0%"),
    ma.Field("effect", "Effect on the risk", "+.0%"),
)
_FACT = (ma.Field("fact", "Fact"), ma.Field("value", "Value"))
_BILLING = (
    *(ma.ON_DAY, ma.Field("event", "Event"), ma.Field("mrr", "MRR")),
    *(ma.Field("seats", "Seats", ",d"), ma.Field("tier", "Tier")),
)
_INTERVALS, _ROWS, _FALLBACK = 40, 8, 12
"""Maximum number of intervals in a timeline, of rows in a list, and of rows in a table that replaces a
chart without scripts. They keep pages small."""
_PEOPLE_PER_ACCOUNT = 5
"""Number of people at high risk in each account that needs attention who have a page."""
_OTHER_COLORS = ("seventh", "fifth", "sixth", "fourth", "eighth", *[ma.SECONDARY] * 20)
"""Colors of tiers and segments, which differ from the colors of states."""
_SEGMENTS = [c.name for c in segment_history.SEGMENT_COLUMNS if c.name != "segment_version"]

Render = Callable[[ma.Page], str]
Rows = Mapping[str, Sequence[tuple[Any, ...]]]


def name_entities(reader: ma.Reader, account_pages: int) -> None:
    """Decide which accounts and people have a page, so that other pages can link to them.

    Accounts that other pages list come first, followed by those with the highest MRR. No one has a page
    without daily metrics.
    """
    if reader.days is None:
        return
    scores, people = account_scores.TABLE.qualified_name, user_scores.TABLE.qualified_name
    by_risk = f"WHERE risk_band = '{HIGH}' ORDER BY churn_probability DESC"
    named = [
        *_column(
            reader,
            [attention.TABLE],
            f"account_id FROM {attention.TABLE.qualified_name} ORDER BY attention_rank LIMIT {LISTED}",
        ),
        *_column(
            reader,
            [account_scores.TABLE],
            f"account_id FROM {scores} {by_risk}, account_id LIMIT {LISTED}",
        ),
        *_column(
            reader,
            [accounts.TABLE],
            f"account_id FROM {accounts.TABLE.qualified_name}"
            f" ORDER BY monthly_recurring_revenue DESC, account_id LIMIT {account_pages}",
        ),
    ]
    chosen = [*dict.fromkeys(named)][:account_pages]
    at_risk = [
        *_column(
            reader, [user_scores.TABLE], f"user_id FROM {people} {by_risk}, user_id LIMIT {LISTED}"
        ),
        *_column(
            reader,
            [user_scores.TABLE, attention.TABLE],
            f"user_id FROM {people} AS s JOIN {attention.TABLE.qualified_name} USING (account_id)"
            f" WHERE s.risk_band = '{HIGH}' AND attention_rank <= {LISTED}"
            " QUALIFY row_number() OVER (PARTITION BY account_id"
            f" ORDER BY s.churn_probability DESC, user_id) <= {_PEOPLE_PER_ACCOUNT}"
            " ORDER BY attention_rank, s.churn_probability DESC, user_id",
        ),
    ]
    reader.accounts = {one: ma.page_file("account", one) for one in chosen}
    reader.people = {one: ma.page_file("person", one) for one in dict.fromkeys(at_risk)}


def account_texts(
    reader: ma.Reader, ids: Sequence[str], render: Render, root: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the file name and text of each account's page, in the order of `ids`, without unknown ids.

    `root` is the path to the folder of all other pages.
    """
    if not ids:
        return
    charts = _account_charts(reader)
    blank = _Blank(render(_account_page(charts)))
    bill, money = (
        "event_date, event_type, monthly_recurring_revenue, currency, total_seats",
        reader.wording.money,
    )
    current = _by_id(
        reader,
        [accounts.TABLE],
        "account_id, current_state, state_since, state_reason, subscription_tier,"
        " monthly_recurring_revenue, contract_renewal_date, days_to_renewal, health_score, health_band,"
        f" active_seats, total_seats, products_active FROM {accounts.TABLE.qualified_name}"
        " WHERE account_id IN (SELECT unnest($ids)) ORDER BY account_id",
        ids,
    )
    lanes = {"State": "current_state", "Tier": "subscription_tier"}
    history = _runs(reader, account_intervals.TABLE, "account_id", lanes, ids)
    grid = reader.frame(ma.LAST_18_MONTHS, 2 * ma.WEEK).days
    weekly = _by_id(
        reader,
        [account_intervals.TABLE],
        "account_id, list(round(health_score, 1) ORDER BY day),"
        " list(CAST(monthly_recurring_revenue AS DOUBLE) ORDER BY day)"
        f" FROM {account_intervals.TABLE.qualified_name} JOIN (SELECT unnest($days) AS day)"
        " ON day >= valid_from AND (valid_to IS NULL OR day < valid_to)"
        " WHERE account_id IN (SELECT unnest($ids)) GROUP BY account_id ORDER BY account_id",
        ids,
        days=grid,
    )
    events = _by_id(
        reader,
        [billing.TABLE],
        f"entity_id, {bill}, subscription_tier FROM {billing.TABLE.qualified_name}"
        " WHERE entity_type = 'account' AND entity_id IN (SELECT unnest($ids)) AND event_date <= $as_of"
        " QUALIFY row_number() OVER (PARTITION BY entity_id ORDER BY event_timestamp DESC, event_id DESC)"
        f" <= {_ROWS} ORDER BY entity_id, event_timestamp DESC, event_id DESC",
        ids,
        as_of=reader.as_of,
    )
    scores = _by_id(
        reader,
        [account_scores.TABLE],
        "account_id, churn_probability, risk_band, reason_1, reason_2, reason_3"
        f" FROM {account_scores.TABLE.qualified_name} WHERE account_id IN (SELECT unnest($ids))"
        " ORDER BY account_id",
        ids,
    )
    why = _by_id(
        reader,
        [attention.TABLE],
        f"account_id, why FROM {attention.TABLE.qualified_name}"
        " WHERE account_id IN (SELECT unnest($ids)) ORDER BY account_id",
        ids,
    )
    people = _by_id(
        reader,
        [user_scores.TABLE],
        "account_id, user_id, churn_probability, reason_1, count(*) OVER (PARTITION BY account_id)"
        f" FROM {user_scores.TABLE.qualified_name} WHERE risk_band = '{HIGH}'"
        " AND account_id IN (SELECT unnest($ids)) QUALIFY row_number() OVER (PARTITION BY account_id"
        f" ORDER BY churn_probability DESC, user_id) <= {_ROWS}"
        " ORDER BY account_id, churn_probability DESC, user_id",
        ids,
    )
    for account in ids:
        if account not in current:
            continue
        [
            (state, since, reason, tier, mrr, renewal, days, health, band, active, seats, products)
        ] = current[account]
        facts = {
            "State": f"{ma.words(state)} since {since}: {reason}",
            "Tier": ma.words(tier),
            "MRR": money(mrr),
            "Renewal": "not set"
            if renewal is None
            else f"{renewal}" + ("" if days is None else f", in {ma.plural(days, 'day')}"),
            "Health": f"{health:.0f} of 100, {band}",
            "Seats": f"{active:,} active of {seats:,}"
            if seats
            else f"{active:,} active, not counted",
            "Products in use": f"{products:,}",
        }
        for chance, risk, *reasons in scores.get(account, ()):
            text = "not known" if chance is None else f"{chance:.0%} within 90 days"
            facts["Churn risk"] = text + (f", {risk}" if risk else ", the same for every account")
            if any(reasons):
                facts["Reasons"] = "; ".join(filter(None, reasons))
        for (text,) in why.get(account, ()):
            facts["Needs attention"] = text
        at_risk = people.get(account, ())
        listed = [row for row in at_risk if row[0] in reader.people]
        healths, revenues = weekly.get(account, [([], [])])[0]
        days_shown = grid[len(grid) - len(healths) :]
        yield (
            ma.page_file("account", account),
            blank.fill(
                {
                    "title": account,
                    "lead": f"Account, {ma.words(state).lower()} since {since}, {money(mrr)} of MRR.",
                    "facts": f"{ma.words(state)}, with {money(mrr)} of MRR and a health of {health:.0f}.",
                    "history": _history_found(history.get(account, ())),
                    "course": _course_found(healths, grid),
                    "people": _people_found(at_risk, listed),
                    "billing": "The latest events first."
                    if account in events
                    else "There are no billing events.",
                },
                {
                    "facts": _facts(facts),
                    "people": [
                        [
                            ma.Cell(user, None, reader.people[user]),
                            ma.cell(chance, _RISK),
                            ma.Cell(text or ""),
                        ]
                        for user, chance, text, _ in listed
                    ],
                    "billing": [
                        [
                            ma.cell(day, ma.ON_DAY),
                            ma.Cell(ma.words(kind)),
                            ma.Cell(_amount(amount, currency, reader)),
                            ma.Cell("" if seats is None else f"{seats:,}", seats),
                            ma.Cell(ma.words(tier) if tier else ""),
                        ]
                        for day, kind, amount, currency, seats, tier in events.get(account, ())
                    ],
                },
                charts,
                {
                    "history": _timeline(history.get(account, ()), [*lanes]),
                    "course": [
                        (name, day, _VALUE.title, value)
                        for name, values in zip(_MEASURES, (healths, revenues), strict=True)
                        for day, value in zip(days_shown, values, strict=True)
                    ],
                },
                root,
            ),
        )


def person_texts(
    reader: ma.Reader, ids: Sequence[str], render: Render, root: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the file name and text of each person's page, in the order of `ids`, without unknown ids.

    `root` is the path to the folder of all other pages.
    """
    if not ids:
        return
    charts = _person_charts(reader)
    blank = _Blank(render(_person_page(charts)))
    catalog = ma.read_catalog(reader)
    current = _by_id(
        reader,
        [users.TABLE],
        "user_id, account_id, platform_state, platform_state_since, CAST(last_qualifying_event_at AS DATE),"
        f" total_qualifying_events, days_since_signup FROM {users.TABLE.qualified_name}"
        " WHERE user_id IN (SELECT unnest($ids)) ORDER BY user_id",
        ids,
    )
    platform = _runs(reader, user_intervals.TABLE, "user_id", {"Platform": "platform_state"}, ids)
    products = _runs(
        reader, product_intervals.TABLE, "user_id", {"": "current_state"}, ids, "product_id"
    )
    segment = _runs(reader, segment_history.TABLE, "user_id", {"Segment": "composite_segment"}, ids)
    now = _by_id(
        reader,
        [segments.TABLE],
        f"user_id, {', '.join(_SEGMENTS)} FROM {segments.TABLE.qualified_name}"
        " WHERE user_id IN (SELECT unnest($ids)) ORDER BY user_id",
        ids,
    )
    scores = _by_id(
        reader,
        [user_scores.TABLE],
        "user_id, churn_probability, risk_band, reason_1, reason_1_effect, reason_2, reason_2_effect,"
        f" reason_3, reason_3_effect FROM {user_scores.TABLE.qualified_name}"
        " WHERE user_id IN (SELECT unnest($ids)) ORDER BY user_id",
        ids,
    )
    offers = _by_id(
        reader,
        [recommendations.TABLE],
        f"user_id, product_id, why FROM {recommendations.TABLE.qualified_name}"
        " WHERE user_id IN (SELECT unnest($ids)) ORDER BY user_id, recommendation_rank",
        ids,
    )
    for person in ids:
        if person not in current:
            continue
        [(account, state, since, last, events, age)] = current[person]
        [(chance, band, *why)] = scores.get(person, [(None, None)])
        facts: dict[str, str | ma.Cell] = {
            "State": f"{ma.words(state)} since {since}",
            "Account": ma.Cell(account, None, reader.accounts.get(account, ""))
            if account
            else "none",
            "Last qualifying event": "none" if last is None else f"{last}",
            "Qualifying events": f"{events:,} in {ma.plural(age, 'day')} since signup",
        }
        for values in now.get(person, ()):
            facts |= {
                ma.words(name): ma.words(value)
                for name, value in zip(_SEGMENTS, values, strict=True)
            }
        if chance is None:
            risk = "No churn risk: only active, returning and reactivated users are scored."
        else:
            risk = f"{chance:.0%} likely to have no qualifying event in the next 30 days" + (
                f", a {band} risk." if band else ", the same for everyone."
            )
        reasons = [(text, size) for text, size in zip(why[::2], why[1::2], strict=True) if text]
        used = [(catalog.name(node), *row) for node, *row in products.get(person, ())]
        rows = [*platform.get(person, ()), *used, *segment.get(person, ())]
        lanes = ["Platform", *sorted({name for name, *_ in used}), "Segment"]
        suggested = offers.get(person, ())
        yield (
            ma.page_file("person", person),
            blank.fill(
                {
                    "title": person,
                    "lead": f"Person, {ma.words(state).lower()} since {since}.",
                    "facts": f"{ma.words(state)} since {since}.",
                    "history": _history_found(rows),
                    "reasons": risk,
                    "offers": f"{ma.plural(len(suggested), 'product')} to recommend."
                    if suggested
                    else "There is nothing to recommend.",
                },
                {
                    "facts": _facts(facts),
                    "reasons": [[ma.Cell(text), ma.cell(size, _EFFECT)] for text, size in reasons],
                    "offers": [
                        [ma.Cell(catalog.name(node)), ma.Cell(text)]
                        for node, text in suggested[:_ROWS]
                    ],
                },
                charts,
                {"history": _timeline(rows, lanes)},
                root,
            ),
        )


TEXTS = {"account": account_texts, "person": person_texts}
"""The function that writes the pages of each kind of entity."""


class _Blank:
    """A page with marks in place of what differs, such as `@@title@@`."""

    def __init__(self, text: str) -> None:
        text = re.sub(r'"(@@(columns_\w+|domain|range)@@)"', r"\1", text)
        text = re.sub(r"<tr><th scope=row[^>]*>(@@rows_\w+@@)</th></tr>", r"\1", text)
        self._parts = re.split(r"@@(\w+)@@", text)

    def fill(
        self,
        texts: Mapping[str, str],
        tables: Mapping[str, Sequence[Sequence[ma.Cell]]],
        charts: Mapping[str, _BlankChart],
        rows: Mapping[str, Sequence[tuple[Any, ...]]],
        root: str,
    ) -> str:
        """Return the page with all marks replaced."""
        values = {name: str(escape(text)) for name, text in texts.items()}
        for name, table in tables.items():
            values[f"rows_{name}"] = "".join(_html(row, root) for row in table)
        for name, chart in charts.items():
            filled = ma.Chart(
                chart.fields,
                rows[name],
                {},
                series=chart.series,
                colors=chart.colors,
                choices=chart.choices,
            )
            values[f"columns_{name}"] = ma.json_text(filled.payload()["columns"])
            shown = replace(filled, rows=rows[name][:: -chart.step][:_FALLBACK])
            values[f"rows_{name}"] = "".join(_html(row, root) for row in shown.table().rows)
            if chart.values:
                present = {row[-1] for row in rows[name]}
                used = {value: color for value, color in chart.values.items() if value in present}
                values["domain"] = ma.json_text([*used])
                values["range"] = ma.json_text([ma.charts.var(color) for color in used.values()])
        return "".join(values[part] if n % 2 else part for n, part in enumerate(self._parts))


@dataclass(frozen=True)
class _BlankChart(ma.Chart):
    """A chart that is rendered with marks in place of its rows.

    The table that replaces it without scripts shows each `step`-th row, latest first. `values` are the
    colors of a timeline's values.
    """

    name: str = ""
    step: int = 1
    values: Mapping[str, str] = field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        return {**super().payload(), "columns": f"@@columns_{self.name}@@"}

    def table(self) -> ma.DataTable:
        shown = [one for one in self.fields if one.name != self.series]
        return replace(_blank_table(shown, self.name), headings=super().table().headings)


def _blank_table(fields: Sequence[ma.Field], name: str) -> ma.DataTable:
    numeric = tuple(one.format != ma.TEXT for one in fields)
    return ma.DataTable(
        tuple(one.title for one in fields), ((ma.Cell(f"@@rows_{name}@@"),),), numeric
    )


def _html(row: Sequence[ma.Cell], root: str) -> str:
    """Return a table row as the page template writes it."""
    cells = []
    for n, (text, order, link) in enumerate(row):
        shown = escape(text)
        linked = f'<a href="{root}{link}">{shown}</a>' if link else shown
        number = ' class="number"' if order is not None else ""
        cells.append(f"<td{number}>{linked}</td>" if n else f"<th scope=row{number}>{linked}</th>")
    return f"<tr>{''.join(cells)}</tr>\n"


def _account_charts(reader: ma.Reader) -> dict[str, _BlankChart]:
    measure, value = ma.Field("measure", "Measure"), ma.Field("value", "Value", ",.2f")
    states = {ma.words(state): ma.state_color(state) for state in ma.AccountState}
    tiers = [
        tier
        for (tier,) in reader.ask(
            [accounts.TABLE],
            f"SELECT DISTINCT subscription_tier FROM {accounts.TABLE.qualified_name} ORDER BY 1",
        )
    ]
    colors = {**dict(zip(map(ma.words, tiers), _OTHER_COLORS, strict=False)), **states}
    return {
        "history": _history(colors),
        "course": _BlankChart(
            (measure, ma.ON_DAY, ma.SERIES, value),
            (),
            ma.charts.lines(ma.ON_DAY, value, {_VALUE.title: ma.PRIMARY}),
            day=ma.ON_DAY.name,
            series=ma.SERIES.name,
            colors={_VALUE.title: ma.PRIMARY},
            choices=(ma.Choice.of(measure, _MEASURES),),
            name="course",
            step=4,
        ),
    }


def _person_charts(reader: ma.Reader) -> dict[str, _BlankChart]:
    del reader
    names = sorted({*map(str, ma.UserState), *map(str, ma.ProductState)})
    composite = next(
        one for one in segment_history.SEGMENT_COLUMNS if one.name == "composite_segment"
    )
    colors = dict(zip(map(ma.words, composite.allowed or ()), _OTHER_COLORS, strict=False))
    return {
        "history": _history({**colors, **{_state(name): ma.state_color(name) for name in names}})
    }


def _history(colors: Mapping[str, str]) -> _BlankChart:
    spec = ma.charts.timeline(_LANE, _FIRST, _LAST, _VALUE, {})
    spec["encoding"]["color"]["scale"] = {"domain": "@@domain@@", "range": "@@range@@"}
    return _BlankChart((_LANE, _FIRST, _LAST, _VALUE), (), spec, name="history", values=colors)


def _account_page(charts: Mapping[str, _BlankChart]) -> ma.Page:
    day, to_date, long = ma.LATEST_DAY.name, "to Date", ma.LAST_18_MONTHS.name
    of_state = ma.about_columns(account_intervals.TABLE, ["current_state", "subscription_tier"])
    course = ma.about_columns(
        account_intervals.TABLE, ["health_score", "monthly_recurring_revenue"]
    )
    return ma.Page(
        file="",
        title="@@title@@",
        lead="@@lead@@",
        up=(ma.HOME_LINK, ma.Link("Accounts", ma.ACCOUNTS)),
        sections=(
            ma.section(
                "Now",
                [_listing("facts", ma.head("Facts", "Accounts", "Facts", day), _FACT, of_state)],
            ),
            ma.section(
                "History",
                [
                    _figure(
                        charts["history"],
                        ma.head("State and tier", "Accounts", "State and Tier", to_date, by="Interval"),
                        of_state,
                    ),
                    _figure(
                        charts["course"],
                        ma.head("Health and MRR", "Accounts", "Health and MRR Biweekly", long),
                        course,
                    ),
                ],
            ),
            ma.section(
                "Billing and people",
                [
                    _listing(
                        "billing",
                        ma.head("Billing events", "Accounts", "Billing Events", to_date),
                        _BILLING,
                        ma.about_columns(billing.TABLE, ["event_type"]),
                    ),
                    _listing(
                        "people",
                        ma.head("Users at high risk", "Users", "at High Risk", day),
                        [ma.Field("user", "User"), _RISK, ma.Field("reason", "Main reason")],
                        ma.about_columns(user_scores.TABLE, ["churn_probability"]),
                    ),
                ],
            ),
        ),
    )


def _person_page(charts: Mapping[str, _BlankChart]) -> ma.Page:
    day = ma.LATEST_DAY.name
    of_state = ma.about_columns(user_intervals.TABLE, ["platform_state"])
    return ma.Page(
        file="",
        title="@@title@@",
        lead="@@lead@@",
        up=(ma.HOME_LINK, ma.Link("Accounts", ma.ACCOUNTS)),
        sections=(
            ma.section(
                "Now", [_listing("facts", ma.head("Facts", "Users", "Facts", day), _FACT, of_state)]
            ),
            ma.section(
                "History",
                [
                    _figure(
                        charts["history"],
                        ma.head("States and segment", "Users", "States and Segment", "to Date"),
                        of_state,
                    )
                ],
            ),
            ma.section(
                "Predictions",
                [
                    _listing(
                        "reasons",
                        ma.head("Churn risk", "Users", "Churn Reasons", day),
                        [ma.Field("reason", "Reason"), _EFFECT],
                        ma.about_columns(
                            user_scores.TABLE, ["churn_probability", "reason_1_effect"]
                        ),
                    ),
                    _listing(
                        "offers",
                        ma.head("Products to recommend", "Users", "Recommendations", day),
                        [ma.Field("product", "Product"), ma.Field("why", "Why")],
                        ma.about_columns(recommendations.TABLE, ["why"]),
                    ),
                ],
            ),
        ),
    )


def _figure(chart: _BlankChart, heading: ma.Head, described: ma.About) -> ma.Figure:
    return ma.Figure(*heading, f"@@{chart.name}@@", chart, described, wide=chart.name == "history")


def _listing(
    name: str, heading: ma.Head, fields: Sequence[ma.Field], described: ma.About
) -> ma.Listing:
    return ma.Listing(*heading, f"@@{name}@@", _blank_table(fields, name), described)


def _facts(facts: Mapping[str, str | ma.Cell]) -> list[list[ma.Cell]]:
    return [
        [ma.Cell(name), value if isinstance(value, ma.Cell) else ma.Cell(value)]
        for name, value in facts.items()
    ]


def _amount(amount: Any, currency: str | None, reader: ma.Reader) -> str:
    return "" if amount is None else f"{amount:,.2f} {currency or reader.wording.currency}"


def _history_found(rows: Sequence[tuple[Any, ...]]) -> str:
    if not rows:
        return "There is no history."
    lane, first, _, value = max(rows, key=itemgetter(1, 0))
    most = f" The {_INTERVALS} latest intervals are shown." if len(rows) >= _INTERVALS else ""
    return f"The latest change is {lane}: {_state(value).lower()}, on {first}.{most}"


def _course_found(healths: Sequence[float], grid: Sequence[date]) -> str:
    if not healths:
        return "There is no history."
    first = grid[len(grid) - len(healths)]
    return f"Health was {healths[0]:.0f} on {first} and {healths[-1]:.0f} on {grid[-1]}."


def _people_found(at_risk: Sequence[tuple[Any, ...]], listed: Sequence[tuple[Any, ...]]) -> str:
    if not at_risk:
        return "No users are at high risk."
    count = at_risk[0][-1]
    text = f"{ma.plural(count, 'user')} {'is' if count == 1 else 'are'} at high risk."
    if not listed:
        return f"{text} The command monstera person ID opens the page of any person."
    return f"{text} {len(listed):,} {'is' if len(listed) == 1 else 'are'} listed." if count > len(listed) else text


def _timeline(rows: Sequence[tuple[Any, ...]], lanes: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the latest intervals, by lane and day."""
    latest = sorted(rows, key=itemgetter(1, 0))[-_INTERVALS:]
    place = {lane: n for n, lane in enumerate(lanes)}
    ordered = sorted(latest, key=lambda row: (place[row[0]], row[1]))
    return [(lane, first, last, _state(value)) for lane, first, last, value in ordered]


def _state(name: str) -> str:
    """Return a state, without what says that it is one in a product."""
    return ma.words(re.sub(r"_(in|to|from)_product$", "", name))


def _column(reader: ma.Reader, tables: Sequence[Table], select: str) -> list[str]:
    with suppress(MissingTableError):
        return [value for (value,) in reader.ask(tables, f"SELECT {select}")]
    return []


def _by_id(
    reader: ma.Reader, tables: Sequence[Table], select: str, ids: Sequence[str], **more: Any
) -> Rows:
    """Return the rows of a query without their first column, by the first column.

    The result is empty if a table was never materialized.
    """
    with suppress(MissingTableError):
        rows = reader.ask(tables, f"SELECT {select}", {"ids": list(ids), **more})
        return {key: [row[1:] for row in group] for key, group in groupby(rows, itemgetter(0))}
    return {}


def _runs(
    reader: ma.Reader,
    table: Table,
    key: str,
    lanes: Mapping[str, str],
    ids: Sequence[str],
    lane: str = "",
) -> Rows:
    """Return intervals in which a column has one value: lane, first and last day, and value.

    `lanes` maps each lane to its column. If `lane` is set, that column names the lanes.
    """
    is_daily = table.partition_column is not None
    first, last = (
        ("snapshot_date", "snapshot_date")
        if is_daily
        else ("valid_from", "coalesce(valid_to - 1, as_of_date)")
    )
    names = lane or f"unnest({[*lanes]!r})"
    return _by_id(
        reader,
        [table],
        f"""id, lane, min(first), max(last), any_value(value) FROM (
            SELECT *, count(*) FILTER (starts) OVER (PARTITION BY id, lane ORDER BY first) AS run FROM (
                SELECT *, value IS DISTINCT FROM lag(value) OVER (PARTITION BY id, lane ORDER BY first) AS starts
                FROM (
                    SELECT {key} AS id, {names} AS lane, unnest([{", ".join(lanes.values())}]) AS value,
                        {first} AS first, {last} AS last
                    FROM {table.qualified_name} WHERE {key} IN (SELECT unnest($ids))
                )
            )
        ) GROUP BY id, lane, run
        QUALIFY row_number() OVER (PARTITION BY id ORDER BY min(first) DESC, lane) <= {_INTERVALS}
        ORDER BY id, 3, lane""",
        ids,
    )
