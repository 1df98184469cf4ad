"""The pages of single accounts and people: facts and history.

There can be thousands of these pages, so the template is rendered once per kind, with marks such as
`@@title@@` in place of what differs. The facts of all pages come from one query per table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from operator import itemgetter
from typing import Any

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
_MEASURE, _POINT = ma.Field("measure", "Measure"), ma.Field("value", "Value", ",.2f")
_TABLES = {
    "facts": (ma.Field("fact", "Fact"), ma.Field("value", "Value")),
    "billing": (
        *(ma.ON_DAY, ma.Field("event", "Event"), ma.Field("mrr", "MRR", ",.2f")),
        *(ma.Field("currency", "Currency"), ma.Field("tier", "Tier")),
        ma.Field("seats", "Seats", ",d"),
    ),
    "people": (
        *(ma.Field("user", "User"), ma.Field("risk", "Churn risk", ".0%")),
        ma.Field("reason", "Main reason"),
    ),
    "reasons": (ma.Field("reason", "Reason"), ma.Field("effect", "Effect on the risk", "+.0%")),
    "offers": (ma.Field("product", "Product"), ma.Field("why", "Why")),
}
"""The columns of each table."""
_MEASURES = ("Health", "MRR")
_LINE = {"Value": ma.PRIMARY}
_OTHER_COLORS = ("seventh", "fifth", "sixth", "fourth", "eighth", *[ma.SECONDARY] * 20)
"""Colors of tiers and segments, which differ from the colors of states."""
_INTERVALS, _ROWS, _FALLBACK = 40, 8, 12
"""Maximum number of intervals in a timeline, of rows in a list, and of rows in a table that replaces a
chart without scripts. They keep pages small."""
_PEOPLE_PER_ACCOUNT = 5
"""Number of people at high risk in each account that needs attention who have a page."""
_SEGMENTS = [one.name for one in segment_history.SEGMENT_COLUMNS if one.name != "segment_version"]

Render = Callable[[ma.Page], str]
Found = Mapping[str, Sequence[tuple[Any, ...]]]


def name_entities(reader: ma.Reader, account_pages: int) -> None:
    """Decide which accounts and people have a page, so that other pages can link to them.

    Accounts that other pages list come first, followed by those with the highest MRR. No one has a page
    without daily metrics.
    """
    if reader.days is None:
        return

    def ids(key: str, table: Table, within: str, *more: Table) -> list[str]:
        return _column(
            reader, table, f"SELECT {key} FROM {table.qualified_name} AS t {within}", *more
        )

    needing, limit = attention.TABLE, f"LIMIT {LISTED}"
    high = f"WHERE t.risk_band = '{HIGH}'"
    risk = "ORDER BY t.churn_probability DESC"
    mrr = f"ORDER BY monthly_recurring_revenue DESC, account_id LIMIT {account_pages}"
    chosen = [
        *ids("account_id", needing, f"ORDER BY attention_rank {limit}"),
        *ids("account_id", account_scores.TABLE, f"{high} {risk}, account_id {limit}"),
        *ids("account_id", accounts.TABLE, mrr),
    ]
    of_accounts = (
        f"JOIN {needing.qualified_name} USING (account_id) {high} AND attention_rank <= {LISTED}"
        f" QUALIFY row_number() OVER (PARTITION BY account_id {risk}, user_id) <= {_PEOPLE_PER_ACCOUNT}"
        " ORDER BY attention_rank, t.churn_probability DESC, user_id"
    )
    people = [
        *ids("user_id", user_scores.TABLE, f"{high} {risk}, user_id {limit}"),
        *ids("user_id", user_scores.TABLE, of_accounts, needing),
    ]
    chosen = [*dict.fromkeys(chosen)][:account_pages]
    reader.accounts = {one: ma.page_file("account", one) for one in chosen}
    reader.people = {one: ma.page_file("person", one) for one in dict.fromkeys(people)}


def account_texts(
    reader: ma.Reader, ids: Sequence[str], render: Render, root: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the file name and text of each account's page, in the order of `ids`, if it is known.

    `root` is the path to the folder of all other pages.
    """
    if not ids:
        return
    grid = reader.frame(ma.LAST_18_MONTHS, 2 * ma.WEEK).days
    money, currency = reader.wording.money, reader.wording.currency
    intervals = account_intervals.TABLE
    current = _of(
        reader,
        accounts.TABLE,
        "account_id",
        "current_state, state_since, state_reason, subscription_tier, monthly_recurring_revenue,"
        " contract_renewal_date, days_to_renewal, health_score, health_band, active_seats, total_seats,"
        " products_active",
        ids,
    )
    lanes = {"State": "current_state", "Tier": "subscription_tier"}
    history = _runs(reader, intervals, "account_id", lanes, ids)
    course = _by_id(
        reader,
        intervals,
        "SELECT account_id, list(round(health_score, 1) ORDER BY day),"
        " list(CAST(monthly_recurring_revenue AS DOUBLE) ORDER BY day)"
        f" FROM {intervals.qualified_name} JOIN (SELECT unnest($days) AS day)"
        " ON day >= valid_from AND (valid_to IS NULL OR day < valid_to)"
        " WHERE account_id IN (SELECT unnest($ids)) GROUP BY account_id ORDER BY account_id",
        ids,
        days=grid,
    )
    events = _of(
        reader,
        billing.TABLE,
        "entity_id",
        "event_date, event_type, monthly_recurring_revenue, currency, total_seats, subscription_tier,"
        " count(*) OVER (PARTITION BY entity_id)",
        ids,
        where="entity_type = 'account' AND event_date <= $as_of",
        order="event_timestamp DESC, event_id DESC",
        as_of=reader.as_of,
    )
    reasons = "churn_probability, risk_band, reason_1, reason_2, reason_3"
    scores = _of(reader, account_scores.TABLE, "account_id", reasons, ids)
    why = _of(reader, attention.TABLE, "account_id", "why", ids)
    people = _of(
        reader,
        user_scores.TABLE,
        "account_id",
        "user_id, churn_probability, reason_1, count(*) OVER (PARTITION BY account_id)",
        ids,
        where=f"risk_band = '{HIGH}'",
        order="churn_probability DESC, user_id",
    )
    select = f"SELECT DISTINCT subscription_tier FROM {intervals.qualified_name} ORDER BY 1"
    tiers = _column(reader, intervals, select)
    states = {ma.words(state): ma.state_color(state) for state in ma.AccountState}
    colors = {**dict(zip(map(ma.words, tiers), _OTHER_COLORS, strict=False)), **states}
    day, to_date, state_columns = (
        ma.LATEST_DAY.name,
        "to Date",
        ["current_state", "subscription_tier"],
    )
    timeline, line = _timeline_chart(), _line_chart()
    blank = _Blank(
        render,
        {
            "Now": [_facts_list("Accounts", intervals, "current_state")],
            "History": [
                _figure(
                    timeline,
                    ma.head("State and tier", "Accounts", "State and Tier", to_date, by="Interval"),
                    ma.about_columns(intervals, state_columns),
                ),
                _figure(
                    line,
                    ma.head(
                        "Health and MRR", "Accounts", "Health and MRR Biweekly", "Last 18 Months"
                    ),
                    ma.about_columns(intervals, ["health_score", "monthly_recurring_revenue"]),
                ),
            ],
            "Billing and people": [
                _list(
                    "billing",
                    ma.head("Billing events", "Accounts", "Billing Events", to_date),
                    ma.about_columns(billing.TABLE, ["event_type"]),
                ),
                _list(
                    "people",
                    ma.head("Users at high risk", "Users", "at High Risk", day),
                    ma.about_columns(user_scores.TABLE, ["churn_probability"]),
                ),
            ],
        },
        colors,
        {"user": reader.people},
        root,
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
        for chance, risk, *reasons_found in scores.get(account, ()):
            facts["Churn risk"] = _chance(chance, risk, "a lapse within 90 days", "account")
            if any(reasons_found):
                facts["Reasons"] = "; ".join(filter(None, reasons_found))
        for (text,) in why.get(account, ()):
            facts["Needs attention"] = text
        at_risk = people.get(account, ())
        listed = [row for row in at_risk if row[0] in reader.people]
        past = history.get(account, ())
        [values] = course.get(account, [([], [])])
        shown = grid[len(grid) - len(values[0]) :]
        yield (
            ma.page_file("account", account),
            blank.fill(
                {
                    "title": account,
                    "lead": f"Account, {ma.words(state).lower()} since {ma.day_text(since)},"
                    f" {money(mrr)} of MRR.",
                    "facts": f"{ma.words(state)}, with {money(mrr)} of MRR and health {health:.0f}.",
                    "history": _latest_change(past),
                    "course": f"Health was {values[0][0]:.0f} on {ma.day_text(shown[0])} and is"
                    f" {health:.0f}."
                    if shown
                    else "There is no history.",
                    "billing": _events_found(events.get(account, ())),
                    "people": _people_found(at_risk, listed),
                },
                {
                    "facts": [*facts.items()],
                    "billing": [
                        (
                            *(on, ma.words(kind), amount),
                            None if amount is None else unit or currency,
                            *(ma.words(bought or ""), number),
                        )
                        for on, kind, amount, unit, number, bought, _ in events.get(account, ())
                    ],
                    "people": [row[:3] for row in listed],
                },
                [
                    replace(timeline, rows=_latest(past, [*lanes])),
                    replace(
                        line,
                        rows=[
                            (name, on, "Value", value)
                            for name, series in zip(_MEASURES, values, strict=True)
                            for on, value in zip(shown, series, strict=True)
                        ],
                    ),
                ],
            ),
        )


def person_texts(
    reader: ma.Reader, ids: Sequence[str], render: Render, root: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the file name and text of each person's page, in the order of `ids`, if it is known.

    `root` is the path to the folder of all other pages.
    """
    if not ids:
        return
    catalog, day = ma.read_catalog(reader), ma.LATEST_DAY.name
    current = _of(
        reader,
        users.TABLE,
        "user_id",
        "account_id, platform_state, platform_state_since, CAST(last_qualifying_event_at AS DATE),"
        " total_qualifying_events, days_since_signup",
        ids,
    )
    states = {"Platform": "platform_state"}
    platform = _runs(reader, user_intervals.TABLE, "user_id", states, ids)
    products = _runs(
        reader, product_intervals.TABLE, "user_id", {"": "current_state"}, ids, lane="product_id"
    )
    composite = {"Segment": "composite_segment"}
    history = _runs(reader, segment_history.TABLE, "user_id", composite, ids)
    now = _of(reader, segments.TABLE, "user_id", ", ".join(_SEGMENTS), ids)
    reasons = ", ".join(f"reason_{n}, reason_{n}_effect" for n in (1, 2, 3))
    scores = _of(
        reader, user_scores.TABLE, "user_id", f"churn_probability, risk_band, {reasons}", ids
    )
    offers = _of(
        reader,
        recommendations.TABLE,
        "user_id",
        "product_id, why",
        ids,
        order="recommendation_rank",
    )
    names = sorted({*ma.UserState, *ma.ProductState})
    [combined] = [
        one.allowed for one in segment_history.SEGMENT_COLUMNS if one.name in composite.values()
    ]
    colors = {
        **dict(zip(map(ma.words, combined or ()), _OTHER_COLORS, strict=False)),
        **{_state(name): ma.state_color(name) for name in names},
    }
    timeline = _timeline_chart()
    blank = _Blank(
        render,
        {
            "Now": [_facts_list("Users", user_intervals.TABLE, "platform_state")],
            "History": [
                _figure(
                    timeline,
                    ma.head("States and segment", "Users", "States and Segment", "to Date"),
                    ma.about_columns(user_intervals.TABLE, ["platform_state"]),
                )
            ],
            "Predictions": [
                _list(
                    "reasons",
                    ma.head("Churn risk", "Users", "Churn Reasons", day),
                    ma.about_columns(user_scores.TABLE, ["churn_probability", "reason_1_effect"]),
                ),
                _list(
                    "offers",
                    ma.head("Products to recommend", "Users", "Recommendations", day),
                    ma.about_columns(recommendations.TABLE, ["why"]),
                ),
            ],
        },
        colors,
        {"value": reader.accounts},
        root,
    )
    for person in filter(current.__contains__, ids):
        [(account, state, since, last, events, age)] = current[person]
        [(chance, band, *why)] = scores.get(person, [(None, None)])
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
        suggested = offers.get(person, ())
        yield (
            ma.page_file("person", person),
            blank.fill(
                {
                    "title": person,
                    "lead": f"Person, {ma.words(state).lower()} since {ma.day_text(since)}.",
                    "facts": f"{ma.words(state)} since {ma.day_text(since)}.",
                    "history": _latest_change(past),
                    "reasons": f"{_chance(chance, band, 'no qualifying event for 30 days', 'user')}."
                    if person in scores
                    else "Only active, returning and reactivated users are scored.",
                    "offers": f"{ma.plural(len(suggested), 'product')} to recommend.",
                },
                {
                    "facts": [*facts.items()],
                    "reasons": [pair for pair in zip(why[::2], why[1::2], strict=True) if pair[0]],
                    "offers": [(catalog.name(node), text) for node, text in suggested],
                },
                [replace(timeline, rows=_latest(past, lanes))],
            ),
        )


TEXTS = {"account": account_texts, "person": person_texts}
"""The function that writes the pages of each kind of entity."""


@dataclass(frozen=True)
class _Entry(ma.Chart):
    """A chart of each page. It is rendered with marks in place of its data.

    The table that replaces it without scripts shows each `step`-th row, latest first.
    """

    name: str = ""
    step: int = 1

    def payload(self) -> dict[str, Any]:
        return {**super().payload(), "columns": f"@@columns_{self.name}@@"}

    def table(self) -> ma.DataTable:
        shown = [one for one in self.fields if one.name not in (self.series, _MEASURE.name)]
        return _marked(shown, self.name, super().table().headings)


class _Blank:
    """A rendered page in which the data of each account or person is filled."""

    def __init__(
        self,
        render: Render,
        sections: Mapping[str, Sequence[ma.Item]],
        colors: Mapping[str, str],
        links: Mapping[str, Mapping[str, str]],
        root: str,
    ) -> None:
        page = ma.Page(
            file="",
            title="@@title@@",
            lead="@@lead@@",
            up=(ma.HOME_LINK, ma.Link("Accounts", ma.ACCOUNTS)),
            sections=tuple(ma.section(name, items) for name, items in sections.items()),
        )
        text = re.sub(r'"(@@(columns_\w+|domain|range)@@)"', r"\1", render(page))
        text = re.sub(r"<tr><th scope=row[^>]*>(@@rows_\w+@@)</th></tr>", r"\1", text)
        self._parts = re.split(r"@@(\w+)@@", text)
        self._colors, self._links, self._root = colors, links, root

    def fill(
        self,
        texts: Mapping[str, str],
        tables: Mapping[str, Sequence[Sequence[Any]]],
        charts: Sequence[_Entry],
    ) -> str:
        """Return the page with texts, the rows of tables, and charts, the timeline first."""
        values: dict[str, str] = {name: escape(text) for name, text in texts.items()}
        for name, rows in tables.items():
            cells = (ma.cells(_TABLES[name], row, self._links) for row in rows)
            values[f"rows_{name}"] = self._rows(ma.table(_TABLES[name], cells))
        for chart in charts:
            values[f"columns_{chart.name}"] = ma.json_text(ma.Chart.payload(chart)["columns"])
            few = replace(chart, rows=chart.rows[:: -chart.step][:_FALLBACK])
            values[f"rows_{chart.name}"] = self._rows(ma.Chart.table(few))
        present = {row[-1] for row in charts[0].rows}
        used = {value: color for value, color in self._colors.items() if value in present}
        values["domain"] = ma.json_text([*used])
        values["range"] = ma.json_text([*map(ma.charts.var, used.values())])
        return "".join(values[part] if n % 2 else part for n, part in enumerate(self._parts))

    def _rows(self, table: ma.DataTable) -> str:
        """Return a table's rows as the page template writes them."""
        made = []
        for row in table.rows:
            made.append("<tr>")
            for n, ((text, _, link), numeric) in enumerate(zip(row, table.numeric, strict=True)):
                shown = f'<a href="{self._root}{link}">{escape(text)}</a>' if link else escape(text)
                number = ' class="number"' if numeric else ""
                made.append(
                    f"<td{number}>{shown}</td>" if n else f"<th scope=row{number}>{shown}</th>"
                )
            made.append("</tr>\n")
        return "".join(made)


def _timeline_chart() -> _Entry:
    fields = (_LANE, _FIRST, _LAST, _VALUE)
    spec = ma.charts.timeline(*fields, {})
    spec["encoding"]["color"]["scale"] = {"domain": "@@domain@@", "range": "@@range@@"}
    return _Entry(fields, (), spec, name="history")


def _line_chart() -> _Entry:
    spec, on = ma.charts.lines(ma.ON_DAY, _POINT, _LINE), ma.ON_DAY
    fields, choices = (_MEASURE, on, ma.SERIES, _POINT), (ma.Choice.of(_MEASURE, _MEASURES),)
    series = ma.SERIES.name
    return _Entry(fields, (), spec, on.name, series, _LINE, choices=choices, name="course", step=4)


def _figure(chart: _Entry, heading: ma.Head, described: ma.About) -> ma.Figure:
    return ma.Figure(*heading, f"@@{chart.name}@@", chart, described, wide=chart.name == "history")


def _facts_list(entities: str, table: Table, column: str) -> ma.Listing:
    heading = ma.head("Facts", entities, "Facts", ma.LATEST_DAY.name)
    return _list("facts", heading, ma.about_columns(table, [column]))


def _list(name: str, heading: ma.Head, described: ma.About) -> ma.Listing:
    return ma.Listing(*heading, f"@@{name}@@", _marked(_TABLES[name], name), described)


def _marked(fields: Sequence[ma.Field], name: str, headings: Sequence[str] = ()) -> ma.DataTable:
    marked = ma.table(fields, [[ma.Cell(f"@@rows_{name}@@")]])
    return replace(marked, headings=tuple(headings)) if headings else marked


def _chance(chance: float | None, band: str | None, outcome: str, entity: str) -> str:
    if chance is None:
        return "not known"
    return f"{chance:.0%} chance of {outcome}, " + (
        f"{band} risk" if band else f"the same for every {entity}"
    )


def _events_found(listed: Sequence[tuple[Any, ...]]) -> str:
    count = listed[0][-1] if listed else 0
    most = f" The latest {len(listed)} are shown." if count > len(listed) else ""
    return f"{ma.plural(count, 'billing event')}.{most}"


def _people_found(at_risk: Sequence[tuple[Any, ...]], listed: Sequence[tuple[Any, ...]]) -> str:
    if not at_risk:
        return "No users are at high risk."
    count = at_risk[0][-1]
    text = f"{ma.plural(count, 'user')} {'is' if count == 1 else 'are'} at high risk."
    if not listed:
        return f"{text} The command monstera person ID opens the page of any person."
    return text if count == len(listed) else f"{text} {len(listed)} of them are listed."


def _latest_change(rows: Sequence[tuple[Any, ...]]) -> str:
    if not rows:
        return "There is no history."
    lane, first, _, value = max(rows, key=itemgetter(1, 0))
    most = f" The {_INTERVALS} latest intervals are shown." if len(rows) >= _INTERVALS else ""
    return f"The latest change is {lane}: {_state(value).lower()}, on {ma.day_text(first)}.{most}"


def _latest(rows: Sequence[tuple[Any, ...]], lanes: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the latest intervals, by lane and day."""
    latest = sorted(rows, key=itemgetter(1, 0))[-_INTERVALS:]
    latest.sort(key=lambda row: (lanes.index(row[0]), row[1]))
    return [(lane, first, last, _state(value)) for lane, first, last, value in latest]


def _state(name: str) -> str:
    """Return a state for display, without saying that it is one in a product."""
    return ma.words(re.sub(r"_(in|to|from)_product$", "", name))


def _column(reader: ma.Reader, table: Table, select: str, *more: Table) -> list[str]:
    """Return the values of a query, none if a table was never materialized."""
    with suppress(MissingTableError):
        return [value for (value,) in reader.ask([table, *more], select)]
    return []


def _by_id(reader: ma.Reader, table: Table, select: str, ids: Sequence[str], **more: Any) -> Found:
    """Return the rows of a query without their first column, by the first column.

    The result is empty if the table was never materialized.
    """
    with suppress(MissingTableError):
        rows = reader.ask([table], select, {"ids": list(ids), **more})
        return {key: [row[1:] for row in group] for key, group in groupby(rows, itemgetter(0))}
    return {}


def _of(
    reader: ma.Reader,
    table: Table,
    key: str,
    columns: str,
    ids: Sequence[str],
    *,
    where: str = "TRUE",
    order: str = "",
    **more: Any,
) -> Found:
    """Return columns by id. If `order` is set, an id has at most `_ROWS` rows."""
    most = f" QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {order}) <= {_ROWS}"
    select = (
        f"SELECT {key}, {columns} FROM {table.qualified_name} WHERE {key} IN (SELECT unnest($ids))"
        f" AND {where}{most if order else ''} ORDER BY {', '.join(filter(None, [key, order]))}"
    )
    return _by_id(reader, table, select, ids, **more)


def _runs(
    reader: ma.Reader,
    table: Table,
    key: str,
    lanes: Mapping[str, str],
    ids: Sequence[str],
    *,
    lane: str = "",
) -> Found:
    """Return the latest intervals with one value: lane, first and last day, and value.

    `lanes` maps each lane to its column. If `lane` is set, the values of that column are the lanes.
    """
    first, last = "valid_from", "coalesce(valid_to - 1, as_of_date)"
    if table.partition_column:
        first = last = table.partition_column
    names = lane or f"unnest({[*lanes]!r})"
    by_day = "PARTITION BY id, lane ORDER BY first"
    return _by_id(
        reader,
        table,
        f"""SELECT id, lane, min(first), max(last), any_value(value) FROM (
            SELECT *, count(*) FILTER (starts) OVER ({by_day}) AS run FROM (
                SELECT *, value IS DISTINCT FROM lag(value) OVER ({by_day}) AS starts FROM (
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
