"""The rows that the charts and tables of the dashboard pages should contain, each from an SQL query.

Each item on each page has an entry, which was written from the definition of the item. Nothing is
read with the code of the dashboards.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

import duckdb
import pytest

MIN_BASE = 30
"""Counts and amounts below this number are too small for a change in percent."""
Row = tuple[Any, ...]
Form = Callable[[Any], str]


# ---------------------------------------------------------------- how values are written


def count(value: Any) -> str:
    return "not known" if value is None else f"{value:,}"


def percent(value: Any) -> str:
    return "not known" if value is None else f"{value * 100:.1f}%"


def money(value: Any) -> str:
    if value is None:
        return "not known"
    return f"{value:,.0f} USD" if abs(value) >= 100 else f"{value:,.2f} USD"


def number(value: Any) -> str:
    return "not known" if value is None else f"{value:.1f}"


def hours(value: Any) -> str:
    return number(value)


def ratio(value: Any) -> str:
    return "not known" if value is None else f"{value:,.2f}"


def day_text(day: date) -> str:
    return f"{day.day} {day:%b %Y}"


def label(name: str) -> str:
    return "API" if name == "api" else name.replace("_", " ").capitalize()


def difference(then: Any, now: Any, form: Form, points: str) -> str:
    """Return a change as displayed, or an empty text if only the two values are displayed."""
    if form is percent:
        return f"{(now - then) * 100:+.1f} {points}"
    if form is number:
        return f"{now - then:+.1f}"
    if form is ratio:
        return f"{now - then:+.2f}"
    if then < MIN_BASE and form is not hours:
        return ""
    change = float(now - then) / float(then) if then else 0.0
    return f"{change:+,.1%}" if 0.0005 <= abs(change) <= 10 else ""


# ---------------------------------------------------------------- what is expected


@dataclass(frozen=True)
class Expected:
    """What an item should contain.

    Attributes:
        rows: the rows of a chart, or the raw values of a table.
        finding: the names and numbers in its finding, in order.
        footnote: the numbers in its footnote.
    """

    rows: Sequence[Row]
    finding: Sequence[str]
    footnote: Sequence[str] = ()


@dataclass(frozen=True)
class Company:
    """A company's tables, its first and last days, and the queries that were run."""

    connection: duckdb.DuckDBPyConnection
    first: date
    last: date
    queries: list[str] = field(default_factory=list)

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        self.queries.append(sql)
        return self.connection.execute(sql, parameters).fetchall()

    def start(self, days: int) -> date:
        """Return the first day of the last `days` days that the history has."""
        return max(self.first, self.last - timedelta(days=days - 1))

    def days(self, days: int, step: int = 1) -> list[date]:
        """Return the days shown, the latest first."""
        span = (self.last - self.start(days)).days
        return [self.last - timedelta(days=n) for n in range(0, span + 1, step)]

    @property
    def weeks(self) -> list[date]:
        """The last days of the whole weeks in 18 months, the latest first."""
        weeks = ((self.last - self.start(548)).days + 1) // 7
        return [self.last - timedelta(days=7 * n) for n in range(weeks)]

    @cached_property
    def names(self) -> dict[str, str]:
        """The name of each node of the catalog, with its id where several have the same name."""
        return {
            node: f"{name} ({node})" if nodes > 1 else name
            for node, name, nodes in self.query(
                "SELECT product_id, product_name, count(*) OVER (PARTITION BY product_name)"
                " FROM bronze.bronze_product_catalog"
            )
        }

    @cached_property
    def products(self) -> list[str]:
        """The ids of the active products in the order of their names."""
        return [
            product
            for (product,) in self.query(
                "SELECT product_id FROM bronze.bronze_product_catalog"
                " WHERE tier = 'product' AND is_active ORDER BY product_name, product_id"
            )
        ]

    def published_name(self, node: str) -> str:
        """Return the name for an id in gold_activity_metrics, where `all` and `none` have a meaning."""
        if node == "none":
            return "None"
        return self.names[node[:-1] if re.fullmatch("(all|none)_+", node) else node]


Entry = Callable[[Company], Expected]
Entries = dict[str, Entry]
"""By the item's name."""


# ---------------------------------------------------------------- findings


def trend_finding(points: Sequence[tuple[date, Any]], form: Form, *, brief: bool) -> list[str]:
    """Return the names and numbers that describe a line, whose points are in order of days."""
    known = [(day, value) for day, value in points if value is not None]
    if not known:
        return []
    last, new = known[-1]
    if len(known) == 1:
        return [form(new), day_text(last)]
    # The latest known value at least 4 weeks before, or else the first one.
    month = last - timedelta(weeks=4)
    first, old = max(
        (one for one in known if one[0] <= month), default=known[0], key=lambda o: o[0]
    )
    span = (last - first).days
    same = form(old) == form(new)
    change = [] if same else [difference(old, new, form, "points")]
    parts = [form(new)] if same else [form(old), form(new), *(part for part in change if part)]
    parts.append(f"{span:,} day")
    if not brief:
        highest = max(value for _, value in known)
        parts += [form(highest), day_text(next(day for day, value in known if value == highest))]
    return parts if last == points[-1][0] else [*parts, day_text(last)]


def ranking_finding(
    parts: Sequence[tuple[str, Any]], whole: Any = None, day: str = "", form: Form = count
) -> list[str]:
    """Return the names and numbers that describe the categories with the highest counts."""
    when = [day] if day else []
    most = max((value for _, value in parts), default=0)
    if not most:
        return when
    share = [f"{most / whole:.1%}", form(whole)] if whole else []
    # Of equal values, the first one comes first.
    (first, _), *rest = sorted((part for part in parts if part[1]), key=lambda part: -part[1])
    second = [rest[0][0], form(rest[0][1])] if rest else []
    return [*when, first, form(most), *share, *second]


# ---------------------------------------------------------------- kinds of items


def trend(
    table: str, columns: Mapping[str, str], form: Form = count, where: str = "true", days: int = 548
) -> Entry:
    """Return a row per day and line, for columns by the name of their line."""

    def expected(company: Company) -> Expected:
        found = {
            day: values
            for day, *values in company.query(
                f"SELECT metric_date, {', '.join(columns.values())} FROM gold.{table} WHERE {where}"
            )
        }
        shown = company.days(days)[::-1]
        values = {day: found.get(day, [None] * len(columns)) for day in shown}
        finding: list[str] = []
        for place in range(len(columns)):
            points = [(day, values[day][place]) for day in shown]
            finding += trend_finding(points, form, brief=place > 0)
        rows = [
            (day, name, value)
            for day in shown
            for name, value in zip(columns, values[day], strict=True)
        ]
        return Expected(rows, finding)

    return expected


def weekly(table: str, columns: Mapping[str, str], where: str) -> Entry:
    """Return the sums of whole weeks by the name of their line; none for a week with a missing day."""

    def expected(company: Company) -> Expected:
        found = {
            day: values
            for day, *values in company.query(
                f"SELECT metric_date, {', '.join(columns.values())} FROM gold.{table} WHERE {where}"
            )
        }
        rows: list[Row] = []
        finding: list[str] = []
        for place, name in enumerate(columns):
            points: list[tuple[date, Any]] = []
            for last in company.weeks[::-1]:
                days = [found.get(last - timedelta(days=n)) for n in range(7)]
                values = [day[place] for day in days if day and day[place] is not None]
                points.append((last, sum(values) if None not in days and values else None))
            rows += [(day, name, value) for day, value in points]
            finding += trend_finding(points, count, brief=place > 0)
        return Expected(rows, finding)

    return expected


def bars(parts: Sequence[tuple[str, Any]]) -> Expected:
    """Return a row per category with its share of all."""
    total = sum(value for _, value in parts)
    rows = [(name, value, value / total if total else None) for name, value in parts]
    return Expected(rows, ranking_finding(parts, total))


# ---------------------------------------------------------------- items on several pages


USER_STATES = (
    *("new", "active", "returning", "dormant", "churned", "reactivated", "dunning", "deleted"),
)
ACCOUNT_STATES = (
    *("trial", "new_paid", "active", "expanding", "at_risk", "contracting", "churned"),
    *("reactivated", "frozen"),
)
PRODUCT_STATES = (
    *("new_to_product", "active_in_product", "dormant_in_product", "churned_from_product"),
    "reactivated_in_product",
)
PLATFORM = "scope = 'platform' AND from_state = 'all'"
SEGMENT = (
    "if(segment_dimension = 'all', 'all', concat(segment_dimension, ':', segment_value)) AS segment"
)


def overall(columns: Mapping[str, str], form: Form = count) -> Entry:
    return trend("gold_overall_metrics", columns, form)


def active_users(company: Company) -> Expected:
    """Return the active users by segment on each seventh day, and all active users on each day."""
    rows: list[Row] = []
    monthly: list[tuple[date, int]] = []
    for name in ("Monthly", "Weekly", "Daily"):
        for day, segment, users in company.query(
            f"SELECT metric_date, {SEGMENT}, users_active_{name.lower()}"
            f" FROM gold.gold_users_active_{name.lower()} WHERE metric_date >= ?"
            " ORDER BY metric_date",
            company.start(548),
        ):
            if segment == "all" or (company.last - day).days % 7 == 0:
                rows.append((day, segment, name, users))
            if segment == "all" and name == "Monthly":
                monthly.append((day, users))
    return Expected(rows, trend_finding(monthly, count, brief=False))


def states_over_time(scope: str) -> Entry:
    def expected(company: Company) -> Expected:
        rows = [
            (day, segment, label(state), members)
            for day, segment, state, members in company.query(
                f"SELECT metric_date, {SEGMENT}, state, members_in_state_daily"
                " FROM gold.gold_state_distribution WHERE scope = ? AND metric_date >= ?",
                scope,
                company.start(548),
            )
            if (company.last - day).days % 7 == 0
        ]
        # The latest states come from the history, from which the table is computed.
        name = {"platform": "user", "account": "account"}[scope]
        column = {"platform": "platform_state", "account": "current_state"}[scope]
        now = dict(
            company.query(
                f"SELECT {column}, count(*) FROM silver.silver_{name}_state_history"
                " WHERE snapshot_date = ? GROUP BY 1",
                company.last,
            )
        )
        parts = [(label(state), users) for state, users in sorted(now.items())]
        return Expected(rows, ranking_finding(parts, sum(now.values()), day_text(company.last)))

    return expected


def moves(scope: str) -> Entry:
    def expected(company: Company) -> Expected:
        rows = [
            (day, label(left), label(to), made)
            for day, left, to, made in company.query(
                "SELECT metric_date, from_state, to_state, moves_made_daily"
                " FROM gold.gold_state_transition_metrics WHERE scope = ? AND from_state <> 'all'"
                " AND moves_made_daily <> 0 AND metric_date >= ?",
                scope,
                company.start(548),
            )
        ]
        sums: dict[str, int] = {}
        for _, left, to, made in sorted(rows):
            name = f"{left} to {to.lower()}"
            sums[name] = sums.get(name, 0) + made
        return Expected(rows, ranking_finding([*sums.items()], sum(sums.values())))

    return expected


def revenue_at_risk(company: Company) -> dict[str, Decimal]:
    """Return the MRR of each account that is at risk, contracting, frozen or likely to churn."""
    return dict(
        company.query(
            "SELECT account_id, monthly_recurring_revenue FROM silver.silver_account_state_history"
            " WHERE snapshot_date = ? AND (current_state IN ('at_risk', 'contracting', 'frozen')"
            " OR account_id IN (SELECT account_id FROM gold.gold_account_churn_scores"
            " WHERE risk_band = 'high'))",
            company.last,
        )
    )


def attention(most: int) -> Entry:
    def expected(company: Company) -> Expected:
        rows = company.query(
            "SELECT account_id, why, monthly_recurring_revenue, churn_probability,"
            " days_to_renewal, health_score, health_change_30, active_seats, total_seats, state_since"
            " FROM gold.gold_accounts_needing_attention ORDER BY attention_rank"
        )
        assert {row[0]: row[2] for row in rows} == revenue_at_risk(company)
        ahead = [row[4] for row in rows if row[4] is not None and row[4] >= 0]
        next_renewal = [f"{min(ahead):,} day"] if ahead else []
        if len({row[3] for row in rows if row[3] is not None}) < 2:
            rows = [(*row[:3], *row[4:]) for row in rows]
        return Expected(
            rows[:most],
            [count(len(rows)), money(sum(row[2] for row in rows)), *next_renewal],
            [count(most), count(len(rows))] if len(rows) > most else [],
        )

    return expected


# ---------------------------------------------------------------- lifecycle


def growth(company: Company) -> Expected:
    rows: list[Row] = []
    latest: dict[date, Row] = {}
    for day, window, new, retained, back, gone in company.query(
        "SELECT metric_date, window_days, users_new_per_window, users_retained_per_window,"
        " users_resurrected_per_window, users_churned_per_window FROM gold.gold_growth_accounting"
        " WHERE metric_date >= ?",
        company.start(548),
    ):
        if (company.last - day).days % window:
            continue
        grain = {30: "Month", 7: "Week", 1: "Day"}[window]
        rows += [
            (grain, day, "New", new),
            (grain, day, "Retained", retained),
            (grain, day, "Resurrected", back),
            (grain, day, "Churned", None if gone is None else -gone),
        ]
        if window == 7 and new is not None:
            latest[day] = (new, back, gone, retained)
    week = latest[max(latest)] if latest else (0, 0, 0, 0)
    return Expected(rows, ["7", f"{week[0]:,} user", *map(count, week[1:])])


def dwell_times(company: Company) -> Expected:
    sums: dict[str, list[float]] = {}
    for state, made, days in company.query(
        "SELECT from_state, moves_made_daily, moves_days_in_state_mean_daily"
        " FROM gold.gold_state_transition_metrics WHERE scope = 'platform' AND from_state <> 'all'"
        " AND moves_days_in_state_mean_daily IS NOT NULL AND metric_date >= ? ORDER BY metric_date",
        company.start(548),
    ):
        found = sums.setdefault(state, [0, 0])
        sums[state] = [found[0] + made * days, found[1] + made]
    rows = sorted(
        ((label(state), days / made, made) for state, (days, made) in sums.items()),
        key=lambda row: (-row[1], row[0]),
    )
    return Expected(rows, [rows[0][0].lower(), number(rows[0][1])])


def power(company: Company) -> Expected:
    steps: dict[int, int] = {}
    for days, users in company.query(
        "SELECT active_days, users_active_per_window_by_active_days"
        " FROM gold.gold_engagement_power_curve WHERE metric_date = ? AND window_days = 28",
        company.last,
    ):
        step = (days + 3) // 4
        steps[step] = steps.get(step, 0) + users
    return bars([(f"{4 * n - 3} to {4 * n} days", users) for n, users in sorted(steps.items())])


def rate(*names: str) -> Entry:
    columns = {label(name).title(): f"users_{name}_share_weekly" for name in names}
    return trend("gold_state_transition_metrics", columns, percent, PLATFORM)


LIFECYCLE: Entries = {
    "Gained and lost users": growth,
    "Active users": active_users,
    "Gained per lost user in 30 days": trend(
        "gold_growth_accounting",
        {"Quick ratio": "users_quick_ratio_per_window"},
        ratio,
        "window_days = 30",
    ),
    "States over time": states_over_time("platform"),
    "Transitions between states": moves("platform"),
    "Leaving": rate("churned", "dormant"),
    "Coming back": rate("won_back", "reactivated"),
    "Never activated": rate("never_activated"),
    "Days in a state before leaving it": dwell_times,
    "Activated within 7 days": overall({"Activated": "users_activated_share_weekly"}, percent),
    "Stickiness": overall({"DAU / MAU": "users_active_stickiness_monthly"}, percent),
    "Days active": power,
}


# ---------------------------------------------------------------- retention


KINDS = {"month": ("Months (30 days)", 18), "week": ("Weeks (7 days)", 26)}
COUNTED = {
    "Active in the period": "users_retained",
    "Active in it or later": "users_retained_unbounded",
}


def retained(company: Company) -> list[Row]:
    """Return kind, counting, segment, cohort, its users, period and share; None for all cohorts."""
    rows: list[Row] = []
    for kind, (kind_name, most) in KINDS.items():
        for counting, column in COUNTED.items():
            found = company.query(
                f"SELECT cohort_start, {SEGMENT}, users_in_cohort_per_period, period_number,"
                f" {column}_per_period FROM gold.gold_retention_cohorts"
                f" WHERE cohort_type = '{kind}' AND period_number < {most}"
                f" AND {column}_per_period IS NOT NULL"
            )
            latest = sorted({row[0] for row in found}, reverse=True)[:most]
            sums: dict[tuple[str, int], list[int]] = {}
            for start, segment, users, period, kept in found:
                if start in latest:
                    rows.append((kind_name, counting, segment, start, users, period, kept / users))
                known = sums.setdefault((segment, period), [0, 0])
                sums[segment, period] = [known[0] + users, known[1] + kept]
            rows += [
                (kind_name, counting, segment, None, users, period, kept / users)
                for (segment, period), (users, kept) in sums.items()
                if users >= MIN_BASE
            ]
    return rows


def triangle(company: Company) -> Expected:
    def name(kind: str, start: date | None, users: int) -> str:
        if start is None:
            return "All cohorts (average)"
        months = kind.startswith("Months")
        return f"{start:%b %Y} ({users:,})" if months else f"{start} ({users:,})"

    rows = retained(company)
    fourth = [
        (share, start)
        for kind, counting, segment, start, users, period, share in rows
        if (kind, counting, segment) == ("Months (30 days)", "Active in the period", "all")
        and start
        and period == 3
        and users >= MIN_BASE
    ]
    finding = ["month 3"]
    if fourth:
        best, worst = max(fourth), min(fourth)
        finding += [
            *(f"{best[1]:%B %Y}", percent(best[0])),
            *(f"{worst[1]:%B %Y}", percent(worst[0])),
        ]
    return Expected(
        [
            (kind, counting, segment, name(kind, start, users), period, share)
            for kind, counting, segment, start, users, period, share in rows
        ],
        finding,
    )


def curve(company: Company) -> Expected:
    rows = [
        (kind, segment, period, counting, share)
        for kind, counting, segment, start, _, period, share in retained(company)
        if start is None
    ]
    months = {
        row[2]: row[4]
        for row in rows
        if row[:2] == ("Months (30 days)", "all") and row[3] == "Active in the period"
    }
    finding = [
        text for n in (0, 1, 3, 6, 12) if n in months for text in (percent(months[n]), f"{n}")
    ]
    return Expected(rows, finding)


RETENTION: Entries = {
    "Retention by cohort": triangle,
    "Retention curve": curve,
}


# ---------------------------------------------------------------- revenue


MOVED = ("new", "reactivated", "expansion", "contraction", "churned")


def months_of_revenue(company: Company) -> dict[str, tuple[Decimal, list[Decimal], Decimal]]:
    """Return each month's opening MRR, movements and closing MRR by its name."""
    found: dict[tuple[int, int], tuple[Decimal, list[Decimal], Decimal]] = {}
    for day, opening, closing, *moved in company.query(
        "SELECT metric_date, revenue_opening_daily, revenue_closing_daily,"
        f" {', '.join(f'revenue_{kind}_daily' for kind in MOVED)} FROM gold.gold_revenue_metrics"
        " WHERE metric_date >= ? ORDER BY metric_date",
        company.start(548),
    ):
        first, sums, _ = found.get((day.year, day.month), (opening, [Decimal(0)] * 5, closing))
        sums = [a + b for a, b in zip(sums, moved, strict=True)]
        found[day.year, day.month] = (first, sums, closing)
    names = {month: f"{date(*month, 1):%b %Y}" for month in found}
    first, last = company.start(548), company.last
    if first.day > 1:
        names[first.year, first.month] += f", from {first.day} {first:%b}"
    if (last + timedelta(days=1)).day > 1:
        names[last.year, last.month] += f", through {last.day} {last:%b}"
    return {names[month]: values for month, values in found.items()}


def waterfall(company: Company) -> Expected:
    rows: list[Row] = []
    for month, (opening, sums, closing) in months_of_revenue(company).items():
        assert opening + sum(sums) == closing
        rows += [
            (month, "Opening", opening),
            *((month, label(kind), amount) for kind, amount in zip(MOVED, sums, strict=True)),
            (month, "Closing", closing),
        ]
    month, (opening, sums, closing) = [*months_of_revenue(company).items()][-1]
    largest = max(sums, key=abs)
    finding = [month, money(opening), money(closing)]
    finding.append(f"{'+' if closing > opening else ''}{money(closing - opening)}")
    finding += [by] if (by := difference(opening, closing, money, "points")) else []
    finding += [MOVED[sums.index(largest)], money(largest)] if largest else []
    return Expected(rows, finding)


def movements(company: Company) -> Expected:
    first = company.start(548)
    sums: dict[tuple[str, date], list[Decimal]] = {}
    for day, *moved in company.query(
        f"SELECT metric_date, {', '.join(f'revenue_{kind}_daily' for kind in MOVED)}"
        " FROM gold.gold_revenue_metrics WHERE metric_date >= ?",
        first,
    ):
        week = company.last - timedelta(days=(company.last - day).days // 7 * 7)
        for key in (("Month", day.replace(day=1)), ("Week", week), ("Day", day)):
            before = sums.setdefault(key, [Decimal(0)] * 5)
            sums[key] = [a + b for a, b in zip(before, moved, strict=True)]
    rows = [
        (grain, day, label(kind), amount)
        for (grain, day), amounts in sums.items()
        for kind, amount in zip(MOVED, amounts, strict=True)
    ]
    days = [row[3] for row in rows if row[0] == "Day"]
    won, lost = sum(n for n in days if n > 0), sum(n for n in days if n < 0)
    return Expected(rows, [day_text(first), day_text(company.last), money(won), money(-lost)])


def tiers(company: Company) -> Expected:
    every = [
        tier
        for [tier] in company.query("SELECT DISTINCT account_tier FROM gold.gold_revenue_by_tier")
    ]
    alike = {tier for tier in every if sum(label(tier) == label(one) for one in every) > 1}
    names = {tier: tier if tier in alike else label(tier) for tier in every}
    rows = [
        (row[0], names[row[1]], row[2])
        for row in company.query(
            "SELECT metric_date, account_tier, revenue_closing_daily FROM gold.gold_revenue_by_tier"
            " WHERE metric_date >= ?",
            company.start(548),
        )
        if (company.last - row[0]).days % 7 == 0
    ]
    # The latest amounts come from the accounts.
    now = company.query(
        "SELECT subscription_tier, sum(monthly_recurring_revenue)"
        " FROM silver.silver_account_state_history WHERE snapshot_date = ? GROUP BY 1",
        company.last,
    )
    parts = [(names[tier], mrr) for tier, mrr in sorted(now)]
    return Expected(rows, ranking_finding(parts, day=day_text(company.last), form=money))


def revenue(columns: Mapping[str, str], form: Form = money) -> Entry:
    return trend("gold_revenue_metrics", columns, form)


REVENUE: Entries = {
    "MRR in one month": waterfall,
    "MRR won and lost": movements,
    "MRR": revenue({"MRR": "revenue_closing_daily"}),
    "MRR by tier": tiers,
    "Retained revenue": revenue(
        {"Net": "revenue_retained_net_monthly", "Gross": "revenue_retained_gross_monthly"}, percent
    ),
    "Paying accounts": revenue({"Paying": "accounts_paying_daily"}, count),
}


# ---------------------------------------------------------------- products


def by_use(company: Company) -> list[str]:
    """Return the products of the adoption table, those with most users first."""
    users: dict[str, int] = {
        product: 0
        for (product,) in company.query("FROM gold.gold_product_adoption SELECT product_id")
    }
    for product, state, members in company.query(
        "SELECT product_id, current_state, count(*) FROM silver.silver_user_product_states GROUP BY ALL"
    ):
        users[product] += members * (state in ("active_in_product", "reactivated_in_product"))
    return sorted(users, key=lambda product: (-users[product], product))


def adopted(company: Company) -> dict[str, list[tuple[str, date]]]:
    """Return the products that each user adopted with the days, in their order."""
    found: dict[str, list[tuple[str, date]]] = {}
    for user, product, day in company.query(
        "SELECT user_id, product_id, adoption_date FROM silver.silver_user_product_adoptions"
        " ORDER BY user_id, sequence_number"
    ):
        found.setdefault(user, []).append((product, day))
    return found


def steps(company: Company) -> dict[str, list[int]]:
    """Return the users eligible, who tried, who activated and who use each product."""
    return {
        product: found
        for product, *found in company.query(
            "SELECT product_id, count(*), count(first_access_date), count(activation_date),"
            " count(*) FILTER (current_state IN ('active_in_product', 'reactivated_in_product'))"
            " FROM silver.silver_user_product_states GROUP BY 1"
        )
    }


def all_products(company: Company) -> Expected:
    found = steps(company)
    first = Counter(path[0][0] for path in adopted(company).values())
    days = dict(
        company.query(
            "SELECT product_id, median(activation_date - first_access_date)"
            " FROM silver.silver_user_product_states GROUP BY 1"
        )
    )
    rows = []
    for product in by_use(company):
        eligible, tried, activated, in_use = found[product]
        shares = (tried / eligible, activated / tried if tried else None)
        rows.append((company.names[product], in_use, tried, *shares, days[product], first[product]))
    return Expected(rows, [rows[0][0], count(rows[0][1])])


STEPS = ("Eligible", "Tried", "Activated", "In use")


def funnels(company: Company) -> Expected:
    products, found = by_use(company), steps(company)
    shown = products[:14]
    rows = [
        (company.names[product], step, users)
        for product in shown
        for step, users in zip(STEPS, found[product], strict=True)
    ]
    kept = [
        (company.names[product], found[product][3] / found[product][1])
        for product in products
        if found[product][1]
    ]
    if not kept:
        return Expected([], [])
    best, worst = (end(kept, key=lambda one: (one[1], one[0])) for end in (max, min))
    finding = [best[0], percent(best[1])]
    finding += [worst[0], percent(worst[1])] if worst[1] < best[1] else []
    finding += ["14", count(len(products))] if len(products) > 14 else []
    return Expected(rows, finding)


def affinity(company: Company) -> Expected:
    holders: dict[str, set[str]] = {}
    everybody: set[str] = set()
    for product, user, day in company.query(
        "SELECT product_id, user_id, first_access_date FROM silver.silver_user_product_states"
    ):
        everybody.add(user)
        holders.setdefault(product, set())
        if day:
            holders[product].add(user)
    few = {
        (first, second)
        for first, second in company.query(
            "SELECT first_product_id, second_product_id FROM silver.silver_product_affinity"
            " WHERE is_low_support"
        )
    }
    shown = sorted(holders, key=lambda product: (-len(holders[product]), product))[:14]
    rows: list[Row] = []
    known = []
    for first in shown:
        for second in shown:
            one, other = holders[first], holders[second]
            if first == second or not one or not other:
                continue
            both = len(one & other)
            lift = len(everybody) * both / (len(one) * len(other))
            support = "few users" if (first, second) in few else "enough users"
            names = (company.names[first], company.names[second])
            rows.append((*names, both / len(one), both, support, lift))
            if first < second and support == "enough users":
                known.append((lift, first, second))
    ends = ([max(known)] if known else []) + ([min(known)] if len(known) > 1 else [])
    return Expected(
        rows,
        [
            part
            for lift, first, second in ends
            for part in (company.names[first], company.names[second], ratio(lift))
        ],
    )


def next_products(company: Company) -> Expected:
    flows: Counter[tuple[str, str | None]] = Counter(
        (path[0][0], path[1][0] if len(path) > 1 else None) for path in adopted(company).values()
    )
    assert company.query(
        "SELECT sum(users_ending) FROM silver.silver_product_adoption_sequences"
    ) == [(sum(flows.values()) or None,)]
    through: Counter[str] = Counter()
    for (first, after), users in flows.items():
        for product in (first, after):
            if product:
                through[product] += users
    nodes = sorted(through, key=lambda product: (-through[product], product))[:8]
    drawn: Counter[tuple[str, str]] = Counter()
    for (first, after), users in flows.items():
        # Others come first, and those without a second product last.
        left = first if first in nodes else ""
        drawn[left, "~" if after is None else after if after in nodes else ""] += users
    named = {"": "Other products", "~": "None yet", **{one: company.names[one] for one in nodes}}
    rows = [(named[left], named[right], drawn[left, right]) for left, right in sorted(drawn)]
    went = sum(users for _, right, users in rows if right != "None yet")
    moved = [
        (f"{left} to {right}", users)
        for left, right, users in rows
        if not {left, right} & {"None yet", "Other products"}
    ]
    ranked = ranking_finding(moved, went) if moved else []
    return Expected(rows, [count(went), count(sum(flows.values())), *ranked])


def paths(company: Company) -> Expected:
    going: Counter[tuple[str, ...]] = Counter()
    ending: Counter[tuple[str, ...]] = Counter()
    users = adopted(company)
    for adoptions in users.values():
        products = tuple(product for product, _ in adoptions)
        ending[products] += 1
        going.update(products[:length] for length in range(1, len(products) + 1))
    more = {
        tuple(path.split(" > ")): values
        for path, *values in company.query(
            "SELECT path, median_days_since_previous, retention_30, retention_90"
            " FROM silver.silver_product_adoption_sequences"
        )
    }
    assert {*more} == {*going}
    ranked = sorted(going, key=lambda path: (-going[path], len(path), " > ".join(path)))

    def named(path: tuple[str, ...]) -> str:
        return " → ".join(company.names[product] for product in path)

    rows = []
    for path in ranked[:25]:
        days, month, quarter = more[path]
        since = days if len(path) > 1 else "no previous product"
        share = going[path] / len(users)
        rows.append((named(path), going[path], share, since, ending[path], month, quarter))
    longer = next((path for path in ranked[:25] if len(path) > 1), None)
    finding = [f"{len(going):,} path", named(ranked[0])] if going else []
    finding += [named(longer), f"{going[longer]:,} user"] if longer else []
    return Expected(rows, finding, ["25", count(len(going))] if len(going) > 25 else [])


def suggestions(company: Company) -> list[tuple[str, str, str | None, int]]:
    """Return the product, source, reason and rank of the recommendations that charts count."""
    found = company.query(
        "SELECT product_id, recommendation_source, because_product_id, recommendation_rank"
        " FROM gold.gold_product_recommendations"
    )
    best = Counter(product for product, *_, rank in found if rank == 1)
    of = {product for product, *_ in found}
    shown = sorted(of, key=lambda product: (-best[product], product))[:14]
    return sorted(
        (row for row in found if row[0] in shown), key=lambda row: (shown.index(row[0]), row[3])
    )


def recommended(company: Company) -> Expected:
    users: Counter[tuple[str, str, str]] = Counter()
    best: dict[str, int] = {}
    for product, source, _, rank in suggestions(company):
        name = company.names[product]
        users["Any of three", name, label(source)] += 1
        users["Best only", name, label(source)] += rank == 1
        best[name] = best.get(name, 0) + (rank == 1)
    return Expected([(*key, n) for key, n in users.items()], ranking_finding([*best.items()]))


def came_true(company: Company) -> Expected:
    rates = {
        "Hit rate at 1": "hit_rate_at_1",
        "Hit rate at 3": "hit_rate_at_3",
        "Mean reciprocal rank": "mean_reciprocal_rank",
    }
    found = {
        predictor: values
        for predictor, *values in company.query(
            f"SELECT predictor, is_published, users_judged, {', '.join(rates.values())}"
            " FROM gold.gold_recommendation_evaluation"
            " WHERE evaluation_date IS NULL AND users_judged > 0"
        )
    }
    if not found:
        return Expected([], [])
    # All dates together have the hits of each date. Those by chance are fractions.
    for predictor, judged, hits in company.query(
        "SELECT predictor, sum(users_judged), sum(hit_rate_at_1 * users_judged)"
        " FROM gold.gold_recommendation_evaluation WHERE evaluation_date IS NOT NULL GROUP BY 1"
    ):
        assert found[predictor][1:3] == [judged, pytest.approx(hits / judged)]
    rows = [
        (name, label(predictor), values[2 + place])
        for predictor, values in found.items()
        for place, name in enumerate(rates)
    ]
    first = [
        part
        for predictor in ("affinity", "popularity", "chance")
        for part in (predictor, percent(found[predictor][2]))
    ]
    [(published, values)] = [one for one in found.items() if one[1][0]]
    finding = [f"{values[1]:,} adoption", *first, published, percent(values[3])]
    return Expected(rows, finding)


PRODUCTS: Entries = {
    "All products": all_products,
    "Adoption funnel": funnels,
    "Adopted together": affinity,
    "From the first product to the next": next_products,
    "Most frequent paths": paths,
    "Recommended products": recommended,
    "How often they came true": came_true,
}


# ---------------------------------------------------------------- activity


WHOLE = "feature_id = 'all' AND event_type = 'all' AND location = 'all'"


def published(product: str) -> str:
    """Return the id of a product in gold_activity_metrics."""
    return f"{product}_" if re.fullmatch("(all|none)_*", product) else product


def events_by(
    column: str, named: Callable[[Company, str], str], most: int, product: str | None = None
) -> Entry:
    """Return the qualifying events of whole weeks by the values of a column of events."""

    def expected(company: Company) -> Expected:
        company.query("SELECT 1 FROM gold.gold_activity_metrics LIMIT 1")
        weeks = company.weeks
        sums: Counter[str] = Counter()
        found: dict[str, Counter[date]] = {}
        for value, day, events in company.query(
            f"SELECT coalesce({column}, ''), event_date, count(*) FROM silver.silver_events_enriched"
            " WHERE is_qualifying_event AND entity_type = 'user' AND event_date BETWEEN ? AND ?"
            f"{'' if product is None else ' AND product_id = ?'} GROUP BY ALL",
            company.start(548),
            company.last,
            *([] if product is None else [product]),
        ):
            week = company.last - timedelta(days=(company.last - day).days // 7 * 7)
            if week in weeks and (value or column == "product_id"):
                sums[value] += events
                found.setdefault(value, Counter())[week] += events
        ranked = sorted(sums, key=lambda value: (-sums[value], published(value) or "none"))
        parts = {named(company, value): [found[value]] for value in ranked[:most]}
        rest = [found[value] for value in ranked[most:]]
        drawn = {**parts, **({f"Other ({len(rest):,})": rest} if rest else {})}
        rows = [
            (week, name, sum(one[week] for one in of))
            for name, of in drawn.items()
            for week in weeks
        ]
        totals: Counter[str] = Counter()
        for _, name, events in rows:
            totals[name] += events
        finding = ranking_finding([(name, totals[name]) for name in parts], totals.total())
        return Expected(rows, finding)

    return expected


def kinds_of_events(product: str | None = None) -> Entries:
    def name(company: Company, node: str) -> str:
        return company.names[node]

    def words(_: Company, value: str) -> str:
        return label(value)

    return {
        "Events by location": events_by("location", words, 8, product),
        "Event types": events_by("event_type", words, 8, product),
        "Features": events_by("feature_id", name, 8, product),
    }


def created(entity: str, series: str) -> Entry:
    def expected(company: Company) -> Expected:
        sums: Counter[tuple[date, str]] = Counter()
        for day, segment, made in company.query(
            f"SELECT metric_date, {SEGMENT}, {entity}_created_daily"
            f" FROM gold.gold_{entity}_created_daily"
        ):
            sums[company.last - timedelta(days=(company.last - day).days // 7 * 7), segment] += made
        weeks = company.weeks[::-1]
        rows = [(week, part, series, n) for (week, part), n in sums.items() if week in weeks]
        points = [(week, sums[week, "all"]) for week in weeks]
        return Expected(rows, trend_finding(points, count, brief=False))

    return expected


DIMENSIONS = (
    *("engagement_intensity", "value_realization", "product_breadth", "journey_stage"),
    *("feature_adoption", "collaboration_type", "temporal_pattern", "composite_segment"),
)


def behavior(company: Company) -> Expected:
    days = company.days(548, 7)
    users: dict[tuple[str, date, str], int] = {
        (dimension, day, value): 0
        for dimension, day, value in company.query(
            "SELECT segment_dimension, metric_date, segment_value FROM gold.gold_segment_metrics"
        )
        if dimension in DIMENSIONS and day in days
    }
    for dimension in DIMENSIONS:
        for day, value, active in company.query(
            f"SELECT snapshot_date, {dimension},"
            " count(*) FILTER (days_since_last_qualifying_event <= 29)"
            " FROM silver.silver_user_segment_history"
            " JOIN silver.silver_user_state_history USING (user_id, snapshot_date)"
            " WHERE snapshot_date IN (SELECT unnest(?)) GROUP BY ALL",
            days,
        ):
            users[dimension, day, value] = active
    rows = [
        (label(dimension), day, label(value), active)
        for (dimension, day, value), active in users.items()
    ]
    now = [
        (label(value), active)
        for (dimension, day, value), active in sorted(users.items())
        if (dimension, day) == (DIMENSIONS[0], company.last)
    ]
    ranked = ranking_finding(now, sum(n for _, n in now), day_text(company.last))
    return Expected(rows, [label(DIMENSIONS[0]), *ranked])


def runs_reaching(company: Company) -> Expected:
    names = dict(
        company.query("SELECT DISTINCT workflow_id, workflow_name FROM bronze.bronze_workflows")
    )
    twice = {name for name, n in Counter(names.values()).items() if n > 1}
    reached: Counter[tuple[str, int]] = Counter()
    for workflow, steps_made, runs in company.query(
        "SELECT workflow_id, steps_reached, count(*) FROM silver.silver_workflow_runs GROUP BY ALL"
    ):
        for place in range(steps_made):
            reached[workflow, place] += runs
    listed: dict[str, list[tuple[str, int]]] = {}
    for workflow, kind, n in company.query(
        "SELECT workflow_id, event_type, runs_reached FROM silver.silver_workflow_funnel"
        " ORDER BY workflow_id, step_number"
    ):
        listed.setdefault(workflow, []).append((kind, n))
    rows: list[Row] = []
    finding: list[str] = []
    order = sorted(listed, key=lambda workflow: (-reached[workflow, 0], workflow))
    for workflow in order:
        started = reached[workflow, 0]
        name = names[workflow] + (f" ({workflow})" if names[workflow] in twice else "")
        for place, (kind, n) in enumerate(listed[workflow]):
            runs = reached[workflow, place]
            assert n == runs
            step = f"{place + 1}. {kind.replace('_', ' ')}"
            rows.append((name, step, runs, runs / started if started else None))
        if started and workflow in [one for one in order if reached[one, 0]][:3]:
            finding += [name, count(runs), count(started), percent(runs / started)]
    return Expected(rows, finding)


def workflow_runs(product: str | None) -> Entry:
    """Return the runs started and completed in whole weeks, from the runs."""

    def expected(company: Company) -> Expected:
        known = {
            day
            for (day,) in company.query(
                f"SELECT metric_date FROM gold.gold_activity_metrics WHERE {WHOLE} AND product_id = ?",
                "all" if product is None else published(product),
            )
        }
        first = dict(
            company.query(
                "SELECT workflow_id, product_id FROM bronze.bronze_workflows"
                " QUALIFY row_number() OVER (PARTITION BY workflow_id ORDER BY step_number) = 1"
            )
        )
        found: dict[str, Counter[date]] = {}
        for name, column in (("Started", "started_at"), ("Completed", "completed_at")):
            made = found[name] = Counter()
            for day, workflow, runs in company.query(
                f"SELECT CAST({column} AS DATE), workflow_id, count(*)"
                f" FROM silver.silver_workflow_runs WHERE {column} IS NOT NULL GROUP BY ALL"
            ):
                made[day] += runs if product in (None, first[workflow]) else 0
        rows: list[Row] = []
        finding: list[str] = []
        for name, made in found.items():
            points = []
            for week in company.weeks[::-1]:
                days = [week - timedelta(days=n) for n in range(7)]
                points.append((week, sum(made[day] for day in days) if {*days} <= known else None))
            rows += [(week, name, n) for week, n in points]
            finding += trend_finding(points, count, brief=name == "Completed")
        return Expected(rows, finding)

    return expected


def workflows(company: Company, product: str | None = None) -> Entries:
    """Return the entries about workflow runs, one if there are no runs."""
    runs = workflow_runs(product)
    shown: Entries = {"Started and completed runs": runs}
    if any(row[-1] for row in runs(company).rows):
        where = f"{WHOLE} AND product_id = '{'all' if product is None else published(product)}'"
        for name, column, line, form in (
            ("Completion rate", "completed_share_weekly", "Completed", percent),
            ("Hours to complete", "hours_to_complete_median_daily", "Hours", hours),
        ):
            shown[name] = trend("gold_activity_metrics", {line: f"workflows_{column}"}, form, where)
    return shown


def activity(company: Company) -> Entries:
    def name(known: Company, product: str) -> str:
        return known.names[product] if product else "None"

    return {
        "Events by product": events_by("product_id", name, 8),
        **kinds_of_events(),
        "Users created": created("users", "Users"),
        "Videos created": created("videos", "Events"),
        "Users by segment": behavior,
        "How far runs come": runs_reaching,
        **workflows(company),
    }


# ---------------------------------------------------------------- one product


def product_states(product: str) -> Entry:
    def expected(company: Company) -> Expected:
        days = [
            day
            for (day,) in company.query(
                "SELECT DISTINCT metric_date FROM gold.gold_state_distribution"
                " WHERE scope = 'product' AND segment_value = ?",
                product,
            )
            if day in company.days(548, 7)
        ]
        users: Counter[tuple[date, str]] = Counter()
        for day, state, members in company.query(
            "SELECT snapshot_date, current_state, count(*)"
            " FROM silver.silver_user_product_state_history WHERE product_id = ? GROUP BY ALL",
            product,
        ):
            users[day, state] = members
        rows = [(day, label(state), users[day, state]) for day in days for state in PRODUCT_STATES]
        now = [(label(state), users[company.last, state]) for state in sorted(PRODUCT_STATES)]
        return Expected(rows, ranking_finding(now, sum(n for _, n in now), day_text(company.last)))

    return expected


def of_product(company: Company, product: str) -> Entries:
    table, where = "gold_activity_metrics", f"{WHOLE} AND product_id = '{published(product)}'"
    users = {"Active": "users_active_daily", "Present": "users_present_daily"}
    return {
        "Active and present users": trend(table, users, count, where),
        "States over time": product_states(product),
        "Qualifying events": weekly(table, {"Events": "events_qualifying_daily"}, where),
        **kinds_of_events(product),
        **workflows(company, product),
    }


def product_file(product: str) -> str:
    return f"product_{re.sub('[^a-z0-9]+', '_', product.lower())}.html"


# ---------------------------------------------------------------- risk


OF = {"Users": "user", "Accounts": "account"}


def risk_bands(entities: str) -> Entry:
    def expected(company: Company) -> Expected:
        found = Counter(
            band
            for (band,) in company.query(
                f"SELECT risk_band FROM gold.gold_{OF[entities]}_churn_scores"
                " WHERE risk_band IS NOT NULL"
            )
        )
        bands = [(label(band), found[band]) for band in ("high", "medium", "low")]
        return bars(bands)

    return expected


def at_high_risk(entities: str) -> Entry:
    def expected(company: Company) -> Expected:
        own = f"{OF[entities]}_id"
        last = ", account_id" if entities == "Users" else ""
        rows = company.query(
            f"SELECT {own}, churn_probability, reason_1, reason_2, reason_3{last}, a.current_state"
            f" FROM gold.gold_{OF[entities]}_churn_scores LEFT JOIN (SELECT account_id, current_state"
            " FROM silver.silver_account_state_history WHERE snapshot_date = ?) AS a USING (account_id)"
            " WHERE risk_band = 'high'",
            company.last,
        )
        rows = [(*row[:-1], label(row[-1] or "")) for row in rows]
        rows.sort(key=lambda row: (-row[1], row[0]))
        if not rows:
            return Expected([], [])
        return Expected(
            rows[:200],
            [f"{len(rows):,} {OF[entities]}", f"{rows[0][1]:.0%}"],
            [count(min(len(rows), 200)), count(len(rows))],
        )

    return expected


PREDICTORS = {"model": "Model", "baseline": "Baseline"}


def deciles(company: Company) -> list[Row]:
    """Return population, predictor, decile, those scored, and the predicted and observed shares."""
    return [
        (label(entity) + "s", PREDICTORS[predictor], *rest)
        for entity, predictor, *rest, churned in company.query(
            "SELECT entity, predictor, decile, rows_scored, predicted_share, observed_share,"
            " rows_churned FROM gold.gold_churn_model_evaluation"
            " WHERE evaluation_date IS NULL AND decile > 0 AND rows_scored > 0"
        )
        if predictor in PREDICTORS and rest[3] == pytest.approx(churned / rest[1])
    ]


def risk_deciles(company: Company) -> Expected:
    rows = [(who, decile, name, seen) for who, name, decile, _, _, seen in deciles(company)]
    return Expected(rows, [])


def calibration(company: Company) -> Expected:
    rows = deciles(company)
    finding = []
    for entity, predictor, auc, brier, lift in company.query(
        "SELECT entity, predictor, auc, brier_score, top_tenth_lift"
        " FROM gold.gold_churn_model_evaluation"
        " WHERE evaluation_date IS NULL AND decile = 0 AND is_published ORDER BY entity DESC"
    ):
        who = label(entity) + "s"
        name = PREDICTORS.get(predictor)
        top = [row for row in rows if row[:3] == (who, name, 10)]
        finding.append(who)
        if not lift or not top:
            finding.append(predictor.replace("_", " "))
            continue
        # The lift compares the decile with everybody who was scored.
        of = [row for row in rows if row[:2] == (who, name)]
        everybody = sum(row[3] * row[5] for row in of) / sum(row[3] for row in of)
        [(*_, predicted, seen)] = top
        assert lift == pytest.approx(seen / everybody, rel=0.02)
        over = predicted - seen
        near = -0.05 < over < 0.05
        finding += [
            *(predictor, "can be trusted" if lift >= 2 else "says little", f"{lift:.1f}"),
            "about right" if near else "too high" if over > 0 else "too low",
            *(percent(predicted), percent(seen), f"{auc:.3f}", f"{brier:.3f}"),
        ]
    return Expected(rows, finding)


@dataclass(frozen=True)
class Anomaly:
    """A row of the anomalies."""

    day: date
    span: str
    measure: str
    scope: str
    dimension: str
    value: str
    state: str
    severity: str
    observed: float
    expected: float
    low: float
    high: float
    behind: str | None
    score: float

    @property
    def is_share(self) -> bool:
        return self.measure != "events_per_active_user"

    @property
    def series(self) -> Row:
        return (self.span, self.measure, self.scope, self.dimension, self.value, self.state)

    @property
    def what(self) -> str:
        text = {
            "state_share": f"Share of {self.state.replace('_', ' ')} members",
            "active_share": "Share of monthly users who were active",
            "events_per_active_user": "Events per active user",
        }[self.measure]
        if self.dimension != "all":
            text += f" with {self.dimension.replace('_', ' ')} {self.value}"
        if self.scope != "platform":
            text += f" ({self.scope})"
        return f"{text}, in the week" if self.span == "week" else text

    def form(self, value: float) -> str:
        return percent(value) if self.is_share else f"{value:,.1f}"


def anomalies(company: Company) -> list[Anomaly]:
    """Return the anomalies, the latest first."""
    found = [
        Anomaly(*row)
        for row in company.query(
            "SELECT metric_date, span, measure, scope, segment_dimension, segment_value, state,"
            " severity, observed, expected, expected_low, expected_high, moves_behind, score"
            " FROM gold.gold_state_distribution_anomalies"
        )
    ]
    return sorted(found, key=lambda one: (-one.day.toordinal(), -abs(one.score), one.series))


def amounts(company: Company, one: Anomaly) -> dict[date, tuple[int, int]]:
    """Return the two numbers of each day whose ratio an anomaly's series is."""
    if one.measure == "state_share":
        found: dict[date, tuple[int, int]] = {}
        for day, state, members in company.query(
            "SELECT metric_date, state, members_in_state_daily FROM gold.gold_state_distribution"
            " WHERE scope = ? AND segment_dimension = ? AND segment_value = ?",
            *one.series[2:5],
        ):
            of, everybody = found.get(day, (0, 0))
            found[day] = (of + members * (state == one.state), everybody + members)
        return found
    daily, monthly = (
        dict(
            company.query(
                f"SELECT metric_date, users_active_{often} FROM gold.gold_users_active_{often}"
                " WHERE segment_dimension = ? AND segment_value = ?",
                one.dimension,
                one.value,
            )
        )
        for often in ("daily", "monthly")
    )
    if one.is_share:
        return {day: (users, monthly[day]) for day, users in daily.items()}
    events = dict(
        company.query(
            "SELECT event_date, count(*) FROM silver.silver_events_enriched"
            " WHERE is_qualifying_event AND entity_type = 'user' GROUP BY 1"
        )
    )
    return {day: (events.get(day, 0), users) for day, users in daily.items()}


def anomaly_series(*, shares: bool) -> Entry:
    def expected(company: Company) -> Expected:
        every = anomalies(company)
        charted = [one for one in every if one.is_share == shares][:12]
        rows: list[Row] = []
        for one in charted:
            ranges = {
                other.day: (other.expected, other.low, other.high)
                for other in every
                if other.series == one.series
            }
            found = amounts(company, one)
            for number_of_days in range(-90, 31):
                day = one.day + timedelta(days=number_of_days)
                if day not in found:
                    continue
                span = range(7 if one.span == "week" else 1)
                pairs = [found.get(day - timedelta(days=n), (0, 0)) for n in span]
                of, whole = (sum(pair[place] for pair in pairs) for place in (0, 1))
                known = ranges.get(day, (None,) * 3)
                if day == one.day:
                    assert of / whole == pytest.approx(one.observed)
                name = f"{day_text(one.day)}: {one.what}"
                rows.append((name, day, *known, of / whole if whole else None))
        finding = []
        if charted:
            one = charted[0]
            finding = [day_text(one.day), one.what, one.form(one.observed), one.form(one.expected)]
        return Expected(rows, finding)

    return expected


def anomaly_list(company: Company) -> Expected:
    found = anomalies(company)
    if not found:
        return Expected([], [])
    rows = [
        (
            *(one.day, one.what),
            f"{one.form(one.observed)}, expected {one.form(one.expected)}",
            f"{one.form(max(one.low, 0))} to {one.form(max(one.high, 0))}",
            *(label(one.severity), one.behind),
        )
        for one in found[:200]
    ]
    finding = [count(len(found)), day_text(found[0].day)]
    return Expected(rows, finding, ["200", count(len(found))] if len(found) > 200 else [])


def risk() -> Entries:
    return {
        "Users by churn risk": risk_bands("Users"),
        "Accounts by churn risk": risk_bands("Accounts"),
        "Users at high risk": at_high_risk("Users"),
        "Accounts at high risk": at_high_risk("Accounts"),
        "Predicted and actual churn": calibration,
        "Churn by risk decile": risk_deciles,
        "Unusual shares": anomaly_series(shares=True),
        "Unusual events per user": anomaly_series(shares=False),
        "Anomalies": anomaly_list,
    }


# ---------------------------------------------------------------- accounts


def all_accounts(company: Company) -> Expected:
    rows = company.query(
        "SELECT account_id, current_state, state_since, monthly_recurring_revenue, health_score,"
        " contract_renewal_date FROM silver.silver_account_state_history WHERE snapshot_date = ?",
        company.last,
    )
    rows.sort(key=lambda row: (-row[3], row[0]))
    found = company.query("SELECT count(*) FROM silver.silver_account_current_state")
    assert found == [(len(rows),)]
    return Expected(
        [(account, label(state), *rest) for account, state, *rest in rows],
        [f"{len(rows):,} account"],
    )


def people(company: Company) -> Expected:
    """Return the people at high risk that the risk page and the pages of accounts list."""
    needing = {
        account
        for (account,) in company.query(
            "SELECT account_id FROM gold.gold_accounts_needing_attention WHERE attention_rank <= 200"
        )
    }
    high = company.query(
        "SELECT user_id, account_id FROM gold.gold_user_churn_scores WHERE risk_band = 'high'"
        " ORDER BY churn_probability DESC, user_id"
    )
    chosen = {user for user, _ in high[:200]}
    listed: Counter[str] = Counter()
    for user, account in high:
        listed[account] += 1
        if account in needing and listed[account] <= 5:
            chosen.add(user)
    rows = [
        (user, label(state), since, account)
        for user, state, since, account in company.query(
            "SELECT user_id, platform_state, platform_state_since, account_id"
            " FROM silver.silver_user_current_state ORDER BY user_id"
        )
        if user in chosen
    ]
    return Expected(rows, [count(len(rows))])


def health(company: Company) -> Expected:
    bands = {
        "Excellent, 90 or more": (90, 101),
        "Good, 70 to 90": (70, 90),
        "Fair, 50 to 70": (50, 70),
        "Poor, 30 to 50": (30, 50),
        "Critical, below 30": (0, 30),
    }
    scores = [
        score
        for (score,) in company.query(
            "SELECT now.health_score FROM silver.silver_account_current_state AS now"
            " JOIN silver.silver_account_state_history AS history USING (account_id)"
            " WHERE snapshot_date = ? AND history.is_paid",
            company.last,
        )
    ]
    parts = [(name, sum(low <= s < high for s in scores)) for name, (low, high) in bands.items()]
    return bars(parts)


ACCOUNTS: Entries = {
    "Accounts needing attention": attention(200),
    "All accounts": all_accounts,
    "People": people,
    "Paying accounts by health": health,
    "States over time": states_over_time("account"),
    "Mean health of paying accounts": overall({"Health": "accounts_health_mean_daily"}, number),
    "Transitions between states": moves("account"),
}


# ---------------------------------------------------------------- all pages


HOME: Entries = {
    "Accounts needing attention": attention(5),
    "Active users": active_users,
    "States over time": states_over_time("platform"),
}


def news(company: Company) -> list[list[str]]:
    """Return the names and numbers in each sentence about what changed, in order."""
    last, before = company.last, company.last - timedelta(days=7)
    found: list[list[str]] = []
    weeks = {
        day: values
        for day, *values in company.query(
            "SELECT metric_date, users_new_per_window, users_resurrected_per_window,"
            " users_churned_per_window FROM gold.gold_growth_accounting WHERE window_days = 7"
        )
    }
    new, back, gone = weeks.get(last, [None] * 3)
    if new is not None:
        verdict = (
            "More users left than came"
            if gone > new + back
            else "Gains and losses were equal"
            if gone == new + back
            else "equally"
            if new == back
            else f"mostly {'new' if new > back else 'returning'} users"
        )
        earlier = weeks.get(before, [None])
        found.append([verdict, *map(count, (new, back, gone))])
        found[-1] += map(count, earlier) if earlier[0] is not None else []
    sums = [Decimal(0)] * 5
    kinds = ("new", "expansion", "contraction", "churned", "reactivated")
    days = company.query(
        f"SELECT {', '.join(f'revenue_{kind}_daily' for kind in kinds)}"
        " FROM gold.gold_revenue_metrics WHERE metric_date > ?",
        before,
    )
    for moved in days:
        sums = [a + b for a, b in zip(sums, moved, strict=True)]
    if any(sums):
        verb = (
            "rose by" if sum(sums) > 0 else "fell by" if sum(sums) < 0 else "ended where it began"
        )
        found.append([verb, money(abs(sum(sums)))])
        found[-1] += [
            text for kind, n in zip(kinds, sums, strict=True) if n for text in (money(n), kind)
        ]
    else:
        found.append(["MRR is unchanged"])
    severity = {"high": 0, "medium": 1, "low": 2}
    anomalies = company.query(
        "SELECT severity, score, metric_date, measure, segment_value, state, observed, expected,"
        " direction, segment_dimension FROM gold.gold_state_distribution_anomalies"
        " WHERE metric_date > ?",
        before,
    )
    anomalies.sort(key=lambda a: (severity[a[0]], -abs(a[1]), -a[2].toordinal(), a[9], a[4], a[5]))
    for _, _, day, measure, value, state, observed, expected, direction, _ in anomalies[:3]:
        form = number if measure == "events_per_active_user" else percent
        names = [state.replace("_", " ")] if measure == "state_share" else []
        names += [value] if value != "all" else []
        high = "high" if direction == "up" else "low"
        found.append([*names, high, day_text(day), form(observed), form(expected)])
    return found


def pages(company: Company) -> dict[str, Entries]:
    """Return the entries of each page by file name."""
    return {
        "index.html": HOME,
        "lifecycle.html": LIFECYCLE,
        "retention.html": RETENTION,
        "revenue.html": REVENUE,
        "products.html": PRODUCTS,
        "activity.html": activity(company),
        "risk.html": risk(),
        "accounts.html": ACCOUNTS,
        **{product_file(product): of_product(company, product) for product in company.products},
    }


# ---------------------------------------------------------------- big numbers


OVERALL_TILES = {
    "Users Active Monthly": ("users_active_monthly", count),
    "Users Active Weekly": ("users_active_weekly", count),
    "Users Active Daily": ("users_active_daily", count),
    "Users Active Stickiness Monthly": ("users_active_stickiness_monthly", percent),
    "Users Created Daily": ("users_created_daily", count),
    "Accounts Active Monthly": ("accounts_active_monthly", count),
    "Revenue Closing Daily": ("revenue_closing_daily", money),
    "Revenue Retained Net Monthly": ("revenue_retained_net_monthly", percent),
    "Accounts Health Mean Daily": ("accounts_health_mean_daily", number),
}
REVENUE_TILES = {
    "Revenue Closing Daily": ("revenue_closing_daily", money),
    "Revenue Annualized Daily": ("revenue_annualized_daily", money),
    "Revenue Retained Net Monthly": ("revenue_retained_net_monthly", percent),
    "Revenue Retained Gross Monthly": ("revenue_retained_gross_monthly", percent),
    "Accounts Paying Daily": ("accounts_paying_daily", count),
}
ACTIVITY_TILES = {
    "Users Active Daily": ("users_active_daily", count),
    "Events Qualifying Daily": ("events_qualifying_daily", count),
    "Users Present Daily": ("users_present_daily", count),
    "Workflows Started Daily": ("workflows_started_daily", count),
    "Workflows Completed Daily": ("workflows_completed_daily", count),
}
PRODUCT_TILES = ("Users Active Daily", "Events Qualifying Daily", "Workflows Completed Daily")
TO_DATE_TILES = {
    "Users Tried to Date": ("users_tried_to_date", count),
    "Users Activated to Date": ("users_activated_to_date", count),
    "Users in Use to Date": ("users_in_use_to_date", count),
    "Users Tried Share to Date": ("users_tried_share_to_date", percent),
    "Users Activated Share to Date": ("users_activated_share_to_date", percent),
}
TILES = {
    "index.html": (
        *("Users Active Monthly", "Users Active Daily", "Users Active Stickiness Monthly"),
        *("Accounts Active Monthly", "Revenue Closing Daily", "Revenue Retained Net Monthly"),
        "Accounts Health Mean Daily",
    ),
    "lifecycle.html": (
        *("Users Active Monthly", "Users Active Weekly", "Users Active Daily"),
        *("Users Active Stickiness Monthly", "Users Created Daily"),
    ),
    "accounts.html": ("Accounts Active Monthly", "Accounts Health Mean Daily"),
}
Tiles = dict[str, tuple[str, str]]
"""The value and the change or note by label."""


def week_on_week(then: Any, now: Any, form: Form) -> str:
    """Return a change over a week as displayed on the pages."""
    if now is None or then is None:
        return "change not known in a week"
    if form(now) == form(then):
        return "unchanged in a week"
    by = difference(then, now, form, "pts")
    return (
        f"{by} from {form(then)} in a week" if by else f"from {form(then)} to {form(now)} in a week"
    )


def _tiles(
    company: Company, table: str, numbers: Mapping[str, tuple[str, Form]], where: str = "true"
) -> Tiles:
    columns = [column for column, _ in numbers.values()]
    found = {
        day: values
        for day, *values in company.query(
            f"SELECT metric_date, {', '.join(columns)} FROM gold.{table} WHERE {where}"
        )
    }
    nothing = [None] * len(columns)
    then = found.get(company.last - timedelta(days=7), nothing)
    return {
        title: (form(now), week_on_week(before, now, form))
        for (title, (_, form)), before, now in zip(
            numbers.items(), then, found[company.last], strict=True
        )
    }


def tiles(company: Company) -> dict[str, Tiles]:
    """Return the big numbers of all pages that have any."""
    found = {
        page: _tiles(
            company, "gold_overall_metrics", {title: OVERALL_TILES[title] for title in titles}
        )
        for page, titles in TILES.items()
    }
    found["revenue.html"] = _tiles(company, "gold_revenue_metrics", REVENUE_TILES)
    accounts = revenue_at_risk(company)
    note = f"{len(accounts):,} account{'s' * (len(accounts) != 1)}"
    for page in ("index.html", "revenue.html", "accounts.html"):
        found[page]["MRR at Risk"] = (money(sum(accounts.values(), Decimal(0))), note)
    for label_ in ("Accounts Paying Daily", "Revenue Closing Daily"):
        found["accounts.html"][label_] = found["revenue.html"][label_]
    table = "gold_activity_metrics"
    found["activity.html"] = _tiles(
        company, table, ACTIVITY_TILES, f"{WHOLE} AND product_id = 'all'"
    )
    for product in company.products:
        columns = {name: ACTIVITY_TILES[name] for name in PRODUCT_TILES}
        where = f"{WHOLE} AND product_id = '{published(product)}'"
        [values] = company.query(
            f"SELECT {', '.join(column for column, _ in TO_DATE_TILES.values())}"
            " FROM gold.gold_product_adoption WHERE product_id = ?",
            product,
        )
        found[product_file(product)] = _tiles(company, table, columns, where) | {
            name: (form(value), "latest day")
            for (name, (_, form)), value in zip(TO_DATE_TILES.items(), values, strict=True)
        }
        assert values[:3] == tuple(steps(company)[product][1:])
    return found
