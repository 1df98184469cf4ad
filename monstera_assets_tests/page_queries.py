"""The rows that the charts and tables of the dashboard pages should contain, each from an SQL query.

Each item on each page has an entry, which was written from the definition of the item. Nothing is
read with the code of the dashboards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

import duckdb

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
    (first, old), (last, new) = known[0], known[-1]
    if len(known) == 1:
        return [form(old), day_text(first)]
    span = (last - first).days
    if all(value == new for _, value in known):
        return [form(new), f"{span + 1:,}"]
    same = form(old) == form(new)
    change = [] if same else [difference(old, new, form, "points")]
    parts = [form(new)] if same else [form(old), form(new), *(part for part in change if part)]
    parts.append(f"{span:,} day")
    if not brief:
        highest = max(value for _, value in known)
        parts += [form(highest), day_text(next(day for day, value in known if value == highest))]
    return parts if last == points[-1][0] else [*parts, day_text(last)]


def total_finding(points: Sequence[tuple[date, Any]], form: Form) -> list[str]:
    known = [(day, value) for day, value in points if value is not None]
    if not known:
        return []
    added = sum(value for _, value in known)
    parts = [form(added), f"{len(known):,}"]
    if not added:
        return parts
    highest = max(value for _, value in known)
    return [*parts, form(highest), day_text(next(day for day, value in known if value == highest))]


def ranking_finding(
    parts: Sequence[tuple[str, Any]], whole: Any = None, day: str = "", form: Form = count
) -> list[str]:
    """Return the names and numbers that describe the categories with the highest counts."""
    when = [day] if day else []
    most = max((value for _, value in parts), default=0)
    if not most:
        return when
    share = [f"{most / whole:.1%}", form(whole)] if whole else []
    first = [name for name, value in parts if value == most]
    if len(first) > 1:
        more = [f"{len(first) - 3} more"] if len(first) > 3 else []
        return [*when, *first[:3], *more, form(most), *share]
    rest = sorted(((value, name) for name, value in parts if 0 < value < most), reverse=True)
    second = [rest[0][1], form(rest[0][0])] if rest else []
    return [*when, first[0], form(most), *share, *second]


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


def totals(table: str, columns: Mapping[str, str], where: str, form: Form = count) -> Entry:
    """Return the days' values and the sums of whole weeks; a week with a missing day has no sum."""

    def expected(company: Company) -> Expected:
        found = {
            day: dict(zip(columns, values, strict=True))
            for day, *values in company.query(
                f"SELECT metric_date, {', '.join(columns.values())} FROM gold.{table} WHERE {where}"
            )
        }
        shown = company.days(548)[::-1]
        rows: list[Row] = []
        for last in company.weeks[::-1]:
            days = [found.get(last - timedelta(days=n)) for n in range(7)]
            for name in columns:
                values = [day[name] for day in days if day and day[name] is not None]
                whole = None not in days and values
                rows.append(("Week", last, name, sum(values) if whole else None))
        rows += [
            ("Day", day, name, found[day][name] if day in found else None)
            for day in shown
            for name in columns
        ]
        finding: list[str] = []
        for name in [*columns][:2]:
            points = [(day, found[day][name] if day in found else None) for day in shown]
            finding += total_finding(points, form)
        return Expected(rows, finding)

    return expected


def bars(
    parts: Sequence[tuple[str, Any]], *, whole: bool = False, rest: Sequence[int] = ()
) -> Expected:
    """Return a row per category, with its share if the categories are the parts of a whole."""
    drawn = [*parts, *([(f"Other ({len(rest):,})", sum(rest))] if rest else [])]
    total = sum(value for _, value in drawn)
    rows = [(name, value, value / total) if whole else (name, value) for name, value in drawn]
    return Expected(rows, ranking_finding(parts, total if whole else None))


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
        parts = [(label(state), users) for state, users in now.items()]
        return Expected(rows, ranking_finding(parts, sum(now.values()), day_text(company.last)))

    return expected


def states_now(entities: str, states: Sequence[str]) -> Entry:
    def expected(company: Company) -> Expected:
        columns = ", ".join(f"{entities}_in_state_{state}_daily" for state in states)
        [values] = company.query(
            f"SELECT {columns} FROM gold.gold_overall_metrics WHERE metric_date = ?", company.last
        )
        return bars(list(zip(map(label, states), values, strict=True)), whole=True)

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
    return bars(
        [(f"{4 * n - 3} to {4 * n} days", users) for n, users in sorted(steps.items())], whole=True
    )


def rate(*names: str) -> Entry:
    columns = {label(name).title(): f"users_{name}_share_weekly" for name in names}
    return trend("gold_state_transition_metrics", columns, percent, PLATFORM)


LIFECYCLE: Entries = {
    "Gained and lost users": growth,
    "Active users": active_users,
    "Gained per lost user": trend(
        "gold_growth_accounting",
        {"Quick ratio": "users_quick_ratio_per_window"},
        ratio,
        "window_days = 30",
    ),
    "States over time": states_over_time("platform"),
    "States now": states_now("users", USER_STATES),
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
            ]
    return rows


def triangle(company: Company) -> Expected:
    def name(kind: str, start: date | None, users: int) -> str:
        if start is None:
            return "All cohorts"
        months = kind.startswith("Months")
        return f"{start:%b %Y} ({users:,})" if months else f"{start} ({users:,})"

    rows = retained(company)
    second = [
        (share, start)
        for kind, counting, segment, start, users, period, share in rows
        if (kind, counting, segment) == ("Months (30 days)", "Active in the period", "all")
        and start
        and period == 1
        and users >= MIN_BASE
    ]
    finding = []
    if second:
        best, worst = max(second), min(second)
        finding = [
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


def cohort_sizes(company: Company) -> Expected:
    months = {
        month
        for (month,) in company.query(
            "SELECT DISTINCT cohort_start FROM gold.gold_retention_cohorts"
            " WHERE cohort_type = 'month' ORDER BY 1 DESC LIMIT 18"
        )
    }
    rows = [
        (start, segment, "Users", users)
        for start, segment, users in company.query(
            f"SELECT cohort_start, {SEGMENT}, users_in_cohort_per_period"
            " FROM gold.gold_retention_cohorts WHERE cohort_type = 'month' AND period_number = 0"
        )
        if start in months
    ]
    parts = [(f"{row[0]:%B %Y}", row[3]) for row in sorted(rows) if row[1] == "all"]
    return Expected(rows, ranking_finding(parts))


RETENTION: Entries = {
    "Retention by cohort": triangle,
    "Retention curve": curve,
    "Cohort sizes": cohort_sizes,
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
    rows = [
        row
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
    return Expected(rows, ranking_finding(now, day=day_text(company.last), form=money))


def revenue(columns: Mapping[str, str], form: Form = money) -> Entry:
    return trend("gold_revenue_metrics", columns, form)


REVENUE: Entries = {
    "MRR in one month": waterfall,
    "MRR won and lost": movements,
    "MRR": revenue({"MRR": "revenue_closing_daily"}),
    "ARR": revenue({"ARR": "revenue_annualized_daily"}),
    "MRR by tier": tiers,
    "Retained revenue": revenue(
        {"Net": "revenue_retained_net_monthly", "Gross": "revenue_retained_gross_monthly"}, percent
    ),
    "Paying accounts": revenue({"Paying": "accounts_paying_daily"}, count),
    "Accounts needing attention": attention(200),
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
            else f"mostly from {'new' if new > back else 'returning'} users"
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
    made: dict[tuple[str, str], list[int]] = {}
    for day, left, to, count_ in company.query(
        "SELECT metric_date, from_state, to_state, moves_made_daily"
        " FROM gold.gold_state_transition_metrics WHERE scope = 'platform' AND from_state <> 'all'"
        " AND metric_date > ?",
        last - timedelta(days=14),
    ):
        made.setdefault((left, to), [0, 0])[day <= before] += count_
    changed = [
        (-abs(now - then), left, to, now, then)
        for (left, to), (now, then) in made.items()
        if now != then
    ]
    if changed:
        _, left, to, now, then = min(changed)
        more = "More" if now > then else "Fewer"
        states = [label(left).lower(), label(to).lower()]
        found.append([more, *states, f"{now:,} user", count(then)])
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
}
Tiles = dict[str, tuple[str, str]]
"""The value and the change or note by label."""


def week_on_week(then: Any, now: Any, form: Form) -> str:
    """Return a change over a week as displayed on the pages."""
    if now is None or then is None:
        return "change not known from a week earlier"
    if form(now) == form(then):
        return "unchanged from a week earlier"
    by = difference(then, now, form, "pts")
    return (
        f"{by} from {form(then)} a week earlier"
        if by
        else f"from {form(then)} to {form(now)} in a week"
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
    for page in ("index.html", "revenue.html"):
        found[page]["MRR at Risk"] = (money(sum(accounts.values(), Decimal(0))), note)
    return found
