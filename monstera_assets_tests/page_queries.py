"""The numbers that dashboard pages should show, each from an SQL query on the tables.

Each item title on each page has an entry, which was written from the definition of the item. Nothing is
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
MAX_POINTS = 1000
DAY, WEEK = "Day", "Week ending"
Row = list[Any]
Form = Callable[[Any], str]


# ---------------------------------------------------------------- how values are written


def count(value: Any) -> str:
    return "not known" if value is None else f"{value:,}"


def percent(value: Any) -> str:
    return "not known" if value is None else f"{value * 100:.1f}%"


def whole_percent(value: Any) -> str:
    return "not known" if value is None else f"{value * 100:.0f}%"


def money(value: Any) -> str:
    return "not known" if value is None else f"{value:,.2f} USD"


def number(value: Any) -> str:
    return "not known" if value is None else f"{value:.1f}"


def hours(value: Any) -> str:
    return number(value)


def ratio(value: Any) -> str:
    return "not known" if value is None else f"{value:,.2f}"


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
    """What an item should show.

    Attributes:
        rows: the raw values of its table, where the first column has the row headings.
        forms: how the values of each column but the first are written.
        finding: the names and numbers in its finding, in order.
        headings: the headings of the columns after the first, or None if they are not compared.
        drawn: the drawn series, if they are not the columns of the table. Each bar is a series.
        footnote: the numbers in its footnote.
        dated: how its rows are dated, if by day or by week.
    """

    rows: list[Row]
    forms: Sequence[Form]
    finding: Sequence[str]
    headings: Sequence[str] | None = None
    drawn: list[list[float | None]] | None = None
    footnote: Sequence[str] = ()
    dated: str = ""

    @property
    def texts(self) -> list[list[str]]:
        """The rows as displayed."""
        return [
            [row[0], *(form(value) for form, value in zip(self.forms, row[1:], strict=True))]
            for row in self.rows
        ]


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
"""By title."""


# ---------------------------------------------------------------- findings


def trend_finding(points: Sequence[tuple[date, Any]], form: Form, *, brief: bool) -> list[str]:
    """Return the names and numbers that describe a line, whose points are in order of days."""
    known = [(day, value) for day, value in points if value is not None]
    if not known:
        return []
    (first, old), (last, new) = known[0], known[-1]
    if len(known) == 1:
        return [form(old), str(first)]
    span = (last - first).days
    if all(value == new for _, value in known):
        return [form(new), f"{span + 1:,}"]
    same = form(old) == form(new)
    change = [] if same else [difference(old, new, form, "points")]
    parts = [form(new)] if same else [form(old), form(new), *(part for part in change if part)]
    parts.append(f"{span:,} day")
    if not brief:
        highest = max(value for _, value in known)
        parts += [form(highest), str(next(day for day, value in known if value == highest))]
    return parts if last == points[-1][0] else [*parts, str(last)]


def total_finding(points: Sequence[tuple[date, Any]], form: Form) -> list[str]:
    known = [(day, value) for day, value in points if value is not None]
    if not known:
        return []
    added = sum(value for _, value in known)
    parts = [form(added), f"{len(known):,}"]
    if not added:
        return parts
    highest = max(value for _, value in known)
    return [*parts, form(highest), str(next(day for day, value in known if value == highest))]


def ranking_finding(
    parts: Sequence[tuple[str, int]], whole: int | None, day: str = ""
) -> list[str]:
    """Return the names and numbers that describe the categories with the highest counts."""
    when = [day] if day else []
    most = max((value for _, value in parts), default=0)
    if not most:
        return when
    share = [f"{most / whole:.1%}", count(whole)] if whole else []
    first = [name for name, value in parts if value == most]
    if len(first) > 1:
        more = [f"{len(first) - 3} more"] if len(first) > 3 else []
        return [*when, *first[:3], *more, count(most), *share]
    rest = sorted(((value, name) for name, value in parts if 0 < value < most), reverse=True)
    second = [rest[0][1], count(rest[0][0])] if rest else []
    return [*when, first[0], count(most), *share, *second]


# ---------------------------------------------------------------- kinds of items


def lines(
    table: str,
    columns: Sequence[str],
    days: int,
    form: Form,
    where: str = "true",
    *,
    kind: str = "trend",
) -> Entry:
    """Return one row per day, latest first."""

    def expected(company: Company) -> Expected:
        # A line with too many points has one point per week.
        many = len(company.days(days)) * len(columns) > MAX_POINTS
        shown = company.days(days, 7 if many and kind == "trend" else 1)
        found = {
            day: values
            for day, *values in company.query(
                f"SELECT metric_date, {', '.join(columns)} FROM gold.{table} WHERE {where}"
            )
        }
        rows = [[str(day), *found.get(day, [None] * len(columns))] for day in shown]
        finding: list[str] = []
        for place in range(1, len(columns) + 1):
            points = [(day, row[place]) for day, row in zip(shown, rows, strict=True)][::-1]
            finding += (
                trend_finding(points, form, brief=place > 1)
                if kind == "trend"
                else total_finding(points, form)
            )
        return Expected(rows, [form] * len(columns), finding, dated=DAY)

    return expected


def weekly_sums(table: str, columns: Sequence[str], where: str) -> Entry:
    """Return sums per week, latest first; None for weeks of which a day has no row."""

    def expected(company: Company) -> Expected:
        found = {
            day: values
            for day, *values in company.query(
                f"SELECT metric_date, {', '.join(columns)} FROM gold.{table} WHERE {where}"
            )
        }
        rows = []
        for week in company.weeks:
            days = [found.get(week - timedelta(days=n)) for n in range(7)]
            rows.append(
                [
                    str(week),
                    *(
                        None if None in days else sum(day[place] for day in days if day)
                        for place in range(len(columns))
                    ),
                ]
            )
        finding: list[str] = []
        for place in range(1, len(columns) + 1):
            points = [(day, row[place]) for day, row in zip(company.weeks, rows, strict=True)]
            finding += total_finding(points[::-1], count)
        return Expected(rows, [count] * len(columns), finding, dated=WEEK)

    return expected


def small_lines(
    days: Sequence[date],
    values: Mapping[str, Mapping[date, int | None]],
    names: Mapping[str, str],
    whole: Mapping[date, int],
    others: int = 0,
    dated: str = DAY,
) -> Expected:
    """Return one column per segment, and check that the segments and the rest add up to the whole."""
    shown = [one for one in values if any(values[one].get(day) is not None for day in days)]
    rows: list[Row] = [[str(day), *(values[one].get(day) for one in shown)] for day in days]
    for day, (_, *numbers) in zip(days, rows, strict=True):
        if any(value is not None for value in numbers):
            assert sum(value or 0 for value in numbers) == whole[day], day
    latest = [(names[one], values[one].get(days[0]) or 0) for one in shown] if days else []
    named = latest[:-1] if others else latest
    when = f"{'In the week ending' if dated == WEEK else 'On'} {days[0]}" if days else ""
    finding = ranking_finding(named, sum(value for _, value in latest), when)
    headings = [names[one] for one in shown]
    return Expected(rows, [count] * len(shown), finding, headings, dated=dated)


def segments(
    table: str, column: str, dimension: str, order: Sequence[str] = (), *, weekly: bool = False
) -> Entry:
    """Return a count by segment on the last days of weeks, or its sums over weeks.

    The segments are those in `order`, or the eight largest, and one for all others.
    """

    def expected(company: Company) -> Expected:
        found: dict[str, dict[date, int]] = {}
        total: dict[date, int] = {}
        for day, kind, value, users in company.query(
            f"SELECT metric_date, segment_dimension, segment_value, {column} FROM gold.{table}"
            " WHERE segment_dimension IN (?, 'all') AND metric_date >= ?",
            dimension,
            company.start(548),
        ):
            if kind == "all":
                total[day] = users
            else:
                found.setdefault(value, {})[day] = users
        if not total:  # the table has no total
            total = dict(
                company.query(
                    "SELECT snapshot_date, count(*) FROM silver.silver_user_state_history GROUP BY 1"
                )
            )
        if weekly:
            days = company.weeks
            size = {value: sum(of.values()) for value, of in found.items()}
            found = {value: _by_week(of, days) for value, of in found.items()}
            total = _by_week(total, days)
        else:
            days = company.days(548, 7)
            size = {value: of.get(company.last, -1) for value, of in found.items()}
        ranked = order or sorted(found, key=lambda value: (-size[value], value))[:8]
        rest = [value for value in found if value not in ranked]
        values: dict[str, Mapping[date, int | None]] = {one: found[one] for one in ranked}
        names = {one: label(one) if order else one for one in ranked}
        if rest:
            names[""] = f"Other ({len(rest):,})"
            values[""] = {
                day: sum(numbers)
                for day in days
                if (numbers := [found[one][day] for one in rest if day in found[one]])
            }
        return small_lines(days, values, names, total, len(rest), WEEK if weekly else DAY)

    return expected


def _by_week(found: Mapping[date, int], weeks: Sequence[date]) -> dict[date, int]:
    return {week: sum(found.get(week - timedelta(days=n), 0) for n in range(7)) for week in weeks}


def bars(
    parts: Sequence[tuple[str, int]],
    *,
    shares: bool,
    rest: Sequence[int] = (),
    drawn: Sequence[float] | None = None,
    more: Sequence[str] = (),
) -> Expected:
    """Return one row per category, with its share of all of them, and one for the rest."""
    named = [*parts, *([(f"Other ({len(rest):,})", sum(rest))] if rest else [])]
    whole = sum(value for _, value in named)
    rows: list[Row] = [
        [name, value, *([value / whole] if shares and whole else [])] for name, value in named
    ]
    if shares and whole:
        assert abs(sum(row[2] for row in rows) - 1) < 1e-9
    forms = [count, percent] if shares else [count]
    return Expected(
        rows,
        forms,
        [*ranking_finding(parts, whole if shares else None), *more],
        drawn=[[float(value)] for value in (drawn or [value for _, value in named])],
    )


def one_row(
    sql: str, columns: Sequence[str], names: Sequence[str], *, shares: bool = True
) -> Entry:
    """Return the columns of one table row as rows of name and value."""

    def expected(company: Company) -> Expected:
        [values] = company.query(f"SELECT {', '.join(columns)} {sql}")
        return bars(list(zip(names, values, strict=True)), shares=shares)

    return expected


def top(
    rows: Sequence[tuple[Any, ...]], most: int, name: Callable[..., str], **more: Any
) -> Expected:
    """Return the first rows as bars, of which the last column is the count, and the rest as one."""
    parts = [(name(*key), int(users)) for *key, users in rows[:most]]
    return bars(parts, shares=True, rest=[int(row[-1]) for row in rows[most:]], **more)


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
TOTAL = "feature_id = 'all' AND event_type = 'all' AND location = 'all'"
PLATFORM = "scope = 'platform' AND from_state = 'all'"


def overall(columns: Sequence[str], form: Form = count, days: int = 90, **how: Any) -> Entry:
    return lines("gold_overall_metrics", columns, days, form, **how)


def growth(days: int, window: int) -> Entry:
    def expected(company: Company) -> Expected:
        columns = ("users_new", "users_resurrected", "users_churned")
        shown = company.days(days, window)
        found = {
            day: values
            for day, *values in company.query(
                f"SELECT metric_date, {', '.join(f'{name}_per_window' for name in columns)}"
                f" FROM gold.gold_growth_accounting WHERE window_days = {window}"
            )
        }
        rows = [[str(day), *found[day]] for day in shown]
        won = [new + back for _, new, back, _ in rows]
        lost = [gone for *_, gone in rows]
        finding = [
            *(f"{len(rows):,}", f"{window}", count(sum(won)), count(sum(lost))),
            *(count(won[0]), count(lost[0])),
        ]
        drawn: list[list[float | None]] = [
            [float(n) for n in won[::-1]],
            [-float(n) for n in lost[::-1]],
        ]
        return Expected(rows, [count] * 3, finding, drawn=drawn)

    return expected


def rates(period: str, days: int) -> Entries:
    def of(*names: str) -> Entry:
        columns = [f"users_{name}_share_weekly" for name in names]
        return lines("gold_state_transition_metrics", columns, days, percent, PLATFORM)

    return {
        f"Users, Churned and Dormant Share Weekly, {period}": of("churned", "dormant"),
        f"Users, Won Back and Reactivated Share Weekly, {period}": of("won_back", "reactivated"),
        f"Users, Never Activated Share Weekly, {period}": of("never_activated"),
    }


STATES_NOW: Entries = {
    "Users, in State Daily, Latest Day, by State": one_row(
        "FROM gold.gold_overall_metrics WHERE is_current_day",
        [f"users_in_state_{state}_daily" for state in USER_STATES],
        [label(state) for state in USER_STATES],
    )
}
ACTIVE_USERS: Entries = {
    "Users, Active Monthly, Weekly and Daily, Last 90 Days": overall(
        ["users_active_monthly", "users_active_weekly", "users_active_daily"]
    )
}
ACCOUNTS_NOW: Entries = {
    "Accounts, in State Daily, Latest Day, by State": one_row(
        "FROM gold.gold_overall_metrics WHERE is_current_day",
        [f"accounts_in_state_{state}_daily" for state in ACCOUNT_STATES],
        [label(state) for state in ACCOUNT_STATES],
    )
}

# ---------------------------------------------------------------- pages


def products_adopted(company: Company) -> Expected:
    found = {
        product: values
        for product, *values in company.query(
            "SELECT product_id, users_in_use_to_date, users_tried_to_date,"
            " users_tried_share_to_date, users_activated_share_to_date"
            " FROM gold.gold_product_adoption"
        )
    }
    in_order = sorted(company.products, key=lambda product: -found[product][0])
    rows = [[company.names[one], *found[one], ""] for one in in_order]
    return Expected(
        rows,
        [count, count, percent, percent, str],
        [company.names[in_order[0]], count(found[in_order[0]][0])],
    )


HOME: Entries = {
    **ACTIVE_USERS,
    **STATES_NOW,
    "Products, Adopted by Users, to Date, by Product": products_adopted,
}

OVERALL: Entries = {
    **ACTIVE_USERS,
    **STATES_NOW,
    **ACCOUNTS_NOW,
    **rates("Last 90 Days", 90),
    "Users, Active Stickiness Monthly, Last 90 Days": overall(
        ["users_active_stickiness_monthly"], percent
    ),
    "Users, Created Daily, Last 90 Days": overall(["users_created_daily"], kind="total"),
    "Users, Activated Share Weekly, Last 90 Days": overall(
        ["users_activated_share_weekly"], percent
    ),
    "Users, New and Resurrected versus Churned, Last 90 Days, by Week": growth(90, 7),
    "Revenue, Closing Daily, Last 90 Days": overall(["revenue_closing_daily"], money),
    "Revenue, Retained Net and Gross Monthly, Last 90 Days": overall(
        ["revenue_retained_net_monthly", "revenue_retained_gross_monthly"], percent
    ),
    "Accounts, Active Monthly, Last 90 Days": overall(["accounts_active_monthly"]),
    "Accounts, Health Mean Daily, Last 90 Days": overall(["accounts_health_mean_daily"], number),
}

DIMENSIONS = {
    "Platform State": USER_STATES,
    "Engagement Intensity": ("at_risk", "power", "regular", "casual", "inactive"),
    "Value Realization": ("high", "moderate", "low", "none"),
    "Product Breadth": ("platform_power", "multi", "explorer", "single", "none"),
    "Journey Stage": ("reactivation", "onboarding", "adoption", "retention", "loyalty"),
    "Feature Adoption": ("completionist", "advanced", "abandoner", "core"),
    "Collaboration Type": ("team_leader", "collaborator", "team_member", "solo"),
    "Temporal Pattern": ("daily", "weekly", "monthly", "seasonal", "erratic"),
    "Composite Segment": (
        *("struggling_new_user", "expanding_power_user", "at_risk_core_user"),
        *("high_value_team_leader", "standard"),
    ),
}
"""Title of each dimension to its segments (framework, section 7)."""


def column_of(title: str) -> str:
    return title.lower().replace(" ", "_")


def cohorts(company: Company) -> Expected:
    found: dict[date, dict[int, Any]] = {}
    sizes = {}
    for start, period, users, share in company.query(
        "SELECT cohort_start, period_number, users_in_cohort_per_period,"
        " users_retained_share_per_period FROM gold.gold_retention_cohorts"
        " WHERE cohort_type = 'month' AND segment_dimension = 'all' AND period_number < 18"
    ):
        found.setdefault(start, {})[period] = share
        sizes[start] = users
    starts = sorted(found)[-18:]
    periods = max(max(found[start]) for start in starts) + 1
    finding = [f"{len(starts)}"]
    later = [
        (share, start, -period)
        for start in starts
        for period, share in found[start].items()
        if share is not None and period > 0
    ]
    if later:
        share, start, period = max(later)
        finding += [percent(share), f"{start:%B %Y}", f"{-period}"]
    return Expected(
        [
            [f"{start:%b %Y}", sizes[start], *(found[start].get(n) for n in range(periods))]
            for start in reversed(starts)
        ],
        [count, *[percent] * periods],
        finding,
        ["Users", *map(str, range(periods))],
        footnote=["30-day"],
    )


SEGMENTS: Entries = {
    "Users, Retained Share per Period, Last 18 Months, by Month of Signup": cohorts,
    **{
        f"Users, in Segment Daily, Last 18 Months, by {name}": segments(
            "gold_segment_metrics", "users_in_segment_daily", column_of(name), values
        )
        for name, values in DIMENSIONS.items()
    },
    **{
        f"Users, Active Monthly, Last 18 Months, by {name}": segments(
            "gold_users_active_monthly", "users_active_monthly", column_of(name)
        )
        for name in ("Country", "Plan Type", "Acquisition Source", "Account Tier")
    },
    **{
        f"Users, Created Daily, Last 18 Months, by {name} and Week": segments(
            "gold_users_created_daily", "users_created_daily", column_of(name), weekly=True
        )
        for name in ("Country", "Acquisition Source")
    },
}


def recent_events(dimension: str, product: str | None = None) -> Entry:
    def expected(company: Company) -> Expected:
        only = "AND product_id = ?" if product else ""
        rows = company.query(
            f"SELECT {dimension}, sum(events_qualifying_daily) AS n FROM gold.gold_activity_metrics"
            f" WHERE metric_date >= ? AND event_type <> 'all' AND {dimension} <> 'none' {only}"
            f" GROUP BY 1 HAVING n > 0 ORDER BY n DESC, 1",
            company.start(30),
            *([published(product)] if product else []),
        )
        return top(rows, 10, label if dimension == "event_type" else company.published_name)

    return expected


def published(product: str) -> str:
    return f"{product}_" if re.fullmatch("(all|none)_*", product) else product


def places(product: str | None = None) -> Entry:
    def expected(company: Company) -> Expected:
        found: dict[str, dict[date, int]] = {}
        for day, place, events in company.query(
            "SELECT metric_date, location, sum(events_qualifying_daily)::BIGINT"
            " FROM gold.gold_activity_metrics WHERE event_type <> 'all'"
            f" {'AND product_id = ?' if product else ''} AND metric_date >= ? GROUP BY ALL",
            *([published(product)] if product else []),
            company.start(548),
        ):
            found.setdefault(place, {})[day] = events
        total = dict(
            company.query(
                "SELECT metric_date, events_qualifying_daily FROM gold.gold_activity_metrics"
                f" WHERE {TOTAL} AND product_id = ?",
                published(product) if product else "all",
            )
        )
        # A product has totals starting on its first day.
        weeks = company.weeks
        whole = [w for w in weeks if all(w - timedelta(days=n) in total for n in range(7))]
        values: dict[str, Mapping[date, int | None]] = {
            place: _by_week(of, whole) for place, of in sorted(found.items())
        }
        names = {one: label(one) for one in values}
        return small_lines(weeks, values, names, _by_week(total, whole), dated=WEEK)

    return expected


def products_by_week(company: Company) -> Expected:
    found: dict[str, dict[date, int]] = {}
    for day, product, events in company.query(
        "SELECT metric_date, product_id, events_qualifying_daily FROM gold.gold_activity_metrics"
        f" WHERE {TOTAL} AND metric_date >= ?",
        company.start(548),
    ):
        found.setdefault(product, {})[day] = events
    total = found.pop("all")
    ranked = sorted(found, key=lambda product: (-sum(found[product].values()), product))
    shown, rest = ranked[:16], ranked[16:]
    values: dict[str, Mapping[date, int | None]] = {
        one: _by_week(found[one], company.weeks) for one in shown
    }
    names = {one: company.published_name(one) for one in shown}
    if rest:
        names[""] = f"Other ({len(rest)})"
        by_week = [_by_week(found[one], company.weeks) for one in rest]
        values[""] = {week: sum(one[week] for one in by_week) for week in company.weeks}
    whole = _by_week(total, company.weeks)
    return small_lines(company.weeks, values, names, whole, len(rest), WEEK)


def workflows(period: str, days: int, product: str) -> Entries:
    where = f"product_id = '{product}' AND {TOTAL}"
    table = "gold_activity_metrics"
    return {
        f"Workflows, Started and Completed Daily, {period}, by Week": weekly_sums(
            table, ["workflows_started_daily", "workflows_completed_daily"], where
        ),
        f"Workflows, Completed Share Weekly, {period}": lines(
            table, ["workflows_completed_share_weekly"], days, percent, where
        ),
        f"Workflows, Hours to Complete Median Daily, {period}": lines(
            table, ["workflows_hours_to_complete_median_daily"], days, hours, where
        ),
    }


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
        [(f"{4 * n - 3} to {4 * n} days", users) for n, users in sorted(steps.items())], shares=True
    )


def moves(company: Company) -> Expected:
    rows = company.query(
        "SELECT from_state, to_state, sum(moves_made_daily) AS n"
        " FROM gold.gold_state_transition_metrics WHERE scope = 'platform' AND from_state <> 'all'"
        " AND metric_date >= ? GROUP BY 1, 2 HAVING n > 0 ORDER BY n DESC, 1, 2",
        company.start(30),
    )
    return top(rows, 8, lambda left, to: f"{label(left)} to {to}")


ACTIVITY: Entries = {
    "Events, Qualifying Daily, Last 18 Months, by Week": weekly_sums(
        "gold_activity_metrics", ["events_qualifying_daily"], f"product_id = 'all' AND {TOTAL}"
    ),
    "Users, Active Monthly and Weekly, Last 18 Months": overall(
        ["users_active_monthly", "users_active_weekly"], days=548
    ),
    "Events, Qualifying Daily, Last 18 Months, by Product and Week": products_by_week,
    "Events, Qualifying Daily, Last 18 Months, by Location and Week": places(),
    "Users, Active per Window, Last 28 Days, by Active Days": power,
    "Events, Qualifying Daily, Last 30 Days, by Event Type": recent_events("event_type"),
    "Events, Qualifying Daily, Last 30 Days, by Feature": recent_events("feature_id"),
    "Videos, Created Daily, Last 18 Months, by Week": weekly_sums(
        "gold_videos_created_daily", ["videos_created_daily"], "segment_dimension = 'all'"
    ),
    **workflows("Last 18 Months", 548, "all"),
    "Users, New and Resurrected versus Churned, Last 18 Months, by 30 Days": growth(548, 30),
    "Users, Transitions Daily, Last 30 Days, by Transition": moves,
    **rates("Last 18 Months", 548),
    "Users, Quick Ratio per Window, Last 18 Months": lines(
        "gold_growth_accounting", ["users_quick_ratio_per_window"], 548, ratio, "window_days = 30"
    ),
}


def movements(company: Company) -> Expected:
    columns = ("new", "expansion", "contraction", "churned", "reactivated")
    months: dict[tuple[int, int], list[Decimal]] = {}
    for day, *values in company.query(
        f"SELECT metric_date, {', '.join(f'revenue_{name}_daily' for name in columns)}"
        " FROM gold.gold_revenue_metrics WHERE metric_date >= ? ORDER BY metric_date",
        company.start(548),
    ):
        sums = months.setdefault((day.year, day.month), [Decimal(0)] * len(columns))
        months[day.year, day.month] = [a + b for a, b in zip(sums, values, strict=True)]
    first, last = company.start(548), company.last
    names = {month: f"{date(*month, 1):%b %Y}" for month in months}
    if first.day > 1:
        names[first.year, first.month] += f", from {first.day} {first:%b}"
    if (last + timedelta(days=1)).day > 1:
        names[last.year, last.month] += f", through {last.day} {last:%b}"
    won = [new + more + back for new, more, _, _, back in months.values()]
    lost = [less + gone for _, _, less, gone, _ in months.values()]
    return Expected(
        [[names[month], *sums] for month, sums in reversed(months.items())],
        [money] * len(columns),
        [
            *(money(sum(won)), money(-sum(lost)), f"{len(months)}", f"{last:%B %Y}"),
            *(money(won[-1]), money(-lost[-1])),
        ],
        drawn=[[float(n) for n in won], [float(n) for n in lost]],
    )


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


def attention(company: Company) -> Expected:
    """Return the accounts that need attention, from the states and the churn scores."""
    rows = company.query(
        "SELECT account_id, current_state, monthly_recurring_revenue, revenue_before_lapse,"
        " days_to_renewal, health_score, active_seats, total_seats, churn_probability, state_since,"
        " why FROM gold.gold_accounts_needing_attention ORDER BY attention_rank"
    )
    assert {row[0]: row[2] for row in rows} == revenue_at_risk(company)
    ahead = [row[4] for row in rows if row[4] is not None and row[4] >= 0]
    return Expected(
        [list(row) for row in rows[:200]],
        [
            label, money, lambda past: "not lapsed" if past is None else money(past),
            lambda days: "not set" if days is None else f"{days:,}", number, count,
            lambda seats: f"{seats:,}" if seats else "not counted", percent, str, str,
        ],
        [
            count(len(rows)), money(sum(row[2] for row in rows)),
            *([f"{min(ahead):,} day"] if ahead else []),
        ],
        footnote=["200", count(len(rows))] if len(rows) > 200 else [],
    )  # fmt: skip


def health(company: Company) -> Expected:
    bands = {
        "Excellent, 90 or more": (90, 101), "Good, 70 to 90": (70, 90), "Fair, 50 to 70": (50, 70),
        "Poor, 30 to 50": (30, 50), "Critical, below 30": (0, 30),
    }  # fmt: skip
    scores = [s for (s,) in company.query("FROM silver.silver_account_current_state"
                                          " SELECT health_score")]  # fmt: skip
    return bars(
        [(name, sum(low <= s < high for s in scores)) for name, (low, high) in bands.items()],
        shares=True,
    )


def account_states(company: Company) -> Expected:
    found = {
        day: values
        for day, *values in company.query(
            "SELECT metric_date,"
            f" {', '.join(f'accounts_in_state_{state}_daily' for state in ACCOUNT_STATES)}"
            " FROM gold.gold_overall_metrics"
        )
    }
    total = dict(
        company.query(
            "SELECT snapshot_date, count(*) FROM silver.silver_account_state_history GROUP BY 1"
        )
    )
    days = company.days(548, 7)
    values: dict[str, Mapping[date, int | None]] = {
        state: {day: found[day][place] for day in days}
        for place, state in enumerate(ACCOUNT_STATES)
    }
    return small_lines(days, values, {state: label(state) for state in values}, total)


ACCOUNTS: Entries = {
    **ACCOUNTS_NOW,
    "Accounts, Needing Attention, Latest Day, by Account": attention,
    "Accounts, Health, Latest Day, by Band": health,
    "Accounts, in State Daily, Last 18 Months, by State": account_states,
    "Revenue, Won and Lost, Last 18 Months, by Month": movements,
    "Revenue, Closing Daily, Last 18 Months": lines(
        "gold_revenue_metrics", ["revenue_closing_daily"], 548, money
    ),
    "Accounts, Paying Daily, Last 18 Months": lines(
        "gold_revenue_metrics", ["accounts_paying_daily"], 548, count
    ),
    "Revenue, Retained Net and Gross Monthly, Last 18 Months": lines(
        "gold_revenue_metrics",
        ["revenue_retained_net_monthly", "revenue_retained_gross_monthly"],
        548,
        percent,
    ),
    "Accounts, Health Mean Daily, Last 18 Months": overall(
        ["accounts_health_mean_daily"], number, 548
    ),
}


def plural_products(products: int, most: int = 8) -> str:
    return f"{products}{' or more' if products == most else ''} product{'s' * (products != 1)}"


def products_of(column: str) -> Entry:
    def expected(company: Company) -> Expected:
        counts: dict[int, int] = {}
        for (products,) in company.query(
            f"SELECT {column} FROM silver.silver_cross_product_analytics"
        ):
            counts[min(products, 8)] = counts.get(min(products, 8), 0) + 1
        return bars([(plural_products(n), counts[n]) for n in sorted(counts)], shares=True)

    return expected


def kept(start: int) -> Entry:
    def expected(company: Company) -> Expected:
        came: dict[int, int] = {}
        users: dict[int, int] = {}
        for length, share, mature in company.query(
            f"SELECT path_length, retention_{start}, users_mature_{start}"
            f" FROM silver.silver_product_adoption_sequences WHERE users_mature_{start} > 0"
        ):
            products = min(length, 8)
            came[products] = came.get(products, 0) + round(share * mature)
            users[products] = users.get(products, 0) + mature
        rows: list[Row] = [
            [plural_products(n), came[n] / users[n], users[n]] for n in sorted(users)
        ]
        finding = [part for name, share, _ in rows for part in (percent(share), name)]
        drawn: list[list[float | None]] = [[share] for _, share, _ in rows]
        return Expected(rows, [percent, count], finding, drawn=drawn)

    return expected


def affinity(column: str, form: Form) -> Entry:
    def expected(company: Company) -> Expected:
        pairs = {}
        sizes: dict[str, int] = {}
        for first, second, value, few, users in company.query(
            f"SELECT first_product_id, second_product_id, {column}, is_low_support, users_first"
            " FROM silver.silver_product_affinity"
        ):
            pairs[first, second] = value, few
            sizes[first] = users
        products = sorted(sizes, key=lambda product: (-sizes[product], product))[:14]

        def cell(first: str, second: str) -> str:
            if first == second:
                return "the same product"
            value, few = pairs[first, second]
            return "not known" if value is None else form(value) + (" *" if few and value else "")

        sure = [
            (value, first, second)
            for (first, second), (value, few) in pairs.items()
            if value is not None and not few and first in products and second in products
        ]
        finding = []
        if sure:
            value, first, second = max(sure)
            finding = [company.names[second], company.names[first], form(value)]
        return Expected(
            [[company.names[one], *(cell(one, other) for other in products)] for one in products],
            [str] * len(products),
            finding,
            [company.names[product] for product in products],
        )

    return expected


def paths(company: Company) -> Expected:
    found = company.query(
        "SELECT path, users, share_of_adopters, median_days_since_previous, users_ending,"
        " retention_30, retention_90 FROM silver.silver_product_adoption_sequences"
        " ORDER BY users DESC, path_length, path"
    )

    def named(path: str) -> str:
        return " → ".join(company.names[product] for product in path.split(" > "))

    finding = [count(len(found)), named(found[0][0])]
    longer = next((row for row in found[:25] if " > " in row[0]), None)
    if longer:
        finding += [named(longer[0]), count(longer[1])]
    return Expected(
        [
            [named(path), users, share, f"{days:.0f}" if " > " in path else "no previous product",
             *rest]
            for path, users, share, days, *rest in found[:25]
        ],
        [count, percent, str, count, whole_percent, whole_percent],
        finding,
        footnote=["25", count(len(found))] if len(found) > 25 else [],
    )  # fmt: skip


def by_product(column: str, *, shares: bool) -> Entry:
    def expected(company: Company) -> Expected:
        rows = company.query(
            f"SELECT product_id, {column} FROM gold.gold_product_adoption ORDER BY 2 DESC, 1"
        )
        if shares:
            return top(rows, 14, company.names.__getitem__)
        more = [f"{len(rows) - 14}"] if len(rows) > 14 else []
        parts = [(company.names[product], users) for product, users in rows[:14]]
        return bars(parts, shares=False, more=more)

    return expected


CROSS_PRODUCT: Entries = {
    "Users, with Products Tried, to Date, by Products": products_of("products_tried"),
    "Users, with Products in Use, to Date, by Products": products_of("products_active"),
    "Users, Retained Share, Days 30 to 59 after Adoption, by Products": kept(30),
    "Users, Retained Share, Days 90 to 119 after Adoption, by Products": kept(90),
    "Users, Started, to Date, by First Product": by_product("users_started_to_date", shares=True),
    "Users, in Use, to Date, by Product": by_product("users_in_use_to_date", shares=False),
    "Products, Co-Adopting Share, to Date, by Pair": affinity("co_adoption_rate", whole_percent),
    "Products, Adopting Both, Lift, to Date, by Pair": affinity("lift", ratio),
    "Users, Adopting, to Date, by Path": paths,
}


def product_states(product: str) -> Entry:
    def expected(company: Company) -> Expected:
        found: dict[str, dict[date, int]] = {state: {} for state in PRODUCT_STATES}
        for day, state, users in company.query(
            "SELECT snapshot_date, current_state, count(*)"
            " FROM silver.silver_user_product_state_history WHERE product_id = ? GROUP BY ALL",
            product,
        ):
            found[state][day] = users
        days = company.days(548, 7)
        values: dict[str, Mapping[date, int | None]] = {
            state: {day: of.get(day, 0) for day in days} for state, of in found.items()
        }
        tried = company.query(
            "SELECT users_tried_to_date FROM gold.gold_product_adoption WHERE product_id = ?",
            product,
        )
        whole = {day: sum(of.get(day, 0) for of in found.values()) for day in days}
        assert whole[company.last] == tried[0][0]
        return small_lines(days, values, {state: label(state) for state in values}, whole)

    return expected


def funnel(product: str) -> Entry:
    def expected(company: Company) -> Expected:
        [values] = company.query(
            "SELECT users_eligible_to_date, users_tried_to_date, users_activated_to_date,"
            " users_in_use_to_date FROM gold.gold_product_adoption WHERE product_id = ?",
            product,
        )
        rows = [[n, v] for n, v in zip(("Eligible", "Tried", "Activated", "In Use"), values)]  # noqa: B905
        eligible, tried, _, in_use = map(count, values)
        drawn: list[list[float | None]] = [[float(value)] for value in values]
        return Expected(rows, [count], [tried, eligible, in_use], drawn=drawn)

    return expected


def product_pages(product: str) -> dict[str, Entries]:
    where = f"product_id = '{published(product)}' AND {TOTAL}"
    table = "gold_activity_metrics"
    states_now: Entries = {
        "Users, in State to Date, Latest Day, by State": one_row(
            f"FROM gold.gold_product_adoption WHERE product_id = '{product}'",
            [f"users_in_state_{state}_to_date" for state in PRODUCT_STATES],
            [label(state) for state in PRODUCT_STATES],
        )
    }
    return {
        "overall": {
            **states_now,
            "Users, Active and Present Daily, Last 90 Days": lines(
                table, ["users_active_daily", "users_present_daily"], 90, count, where
            ),
            "Users, Eligible, Tried, Activated and in Use, to Date": funnel(product),
            "Events, Qualifying Daily, Last 90 Days": lines(
                table, ["events_qualifying_daily"], 90, count, where, kind="total"
            ),
            "Workflows, Completed Share Weekly, Last 90 Days": lines(
                table, ["workflows_completed_share_weekly"], 90, percent, where
            ),
        },
        "segments": {
            **states_now,
            "Users, in State, Last 18 Months, by State": product_states(product),
        },
        "activity": {
            "Events, Qualifying Daily, Last 18 Months, by Week": weekly_sums(
                table, ["events_qualifying_daily"], where
            ),
            "Events, Qualifying Daily, Last 18 Months, by Location and Week": places(product),
            "Events, Qualifying Daily, Last 30 Days, by Event Type": recent_events(
                "event_type", product
            ),
            "Events, Qualifying Daily, Last 30 Days, by Feature": recent_events(
                "feature_id", product
            ),
            "Users, Active Daily, Last 18 Months": lines(
                table, ["users_active_daily"], 548, count, where
            ),
            **workflows("Last 18 Months", 548, published(product)),
        },
    }


TWO_LINES = (
    "Users, Active Monthly and Weekly, Last 18 Months",
    "Users, Churned and Dormant Share Weekly, Last 18 Months",
    "Users, Won Back and Reactivated Share Weekly, Last 18 Months",
    "Revenue, Retained Net and Gross Monthly, Last 18 Months",
)
"""Titles of two lines, which have too many points for one per day in 18 months."""


def pages(company: Company) -> dict[str, Entries]:
    """Return the entries of all pages by file name."""
    slugs = [re.sub("[^a-z0-9]+", "_", product.lower()) for product in company.products]
    is_long = len(company.days(548)) * 2 > MAX_POINTS

    def titled(entries: Entries) -> Entries:
        return {
            f"{title}, by Week" if is_long and title in TWO_LINES else title: entry
            for title, entry in entries.items()
        }

    return {
        "index.html": HOME,
        "overall.html": OVERALL,
        "segments.html": SEGMENTS,
        "activity.html": titled(ACTIVITY),
        "accounts.html": titled(ACCOUNTS),
        "cross_product.html": CROSS_PRODUCT,
        **{
            f"product_{slug}_{view}.html": entries
            for product, slug in zip(company.products, slugs, strict=True)
            for view, entries in product_pages(product).items()
        },
    }


# ---------------------------------------------------------------- big numbers

BIG_NUMBERS: dict[str, tuple[str, Form]] = {
    "Users Active Daily": ("users_active_daily", count),
    "Users Active Weekly": ("users_active_weekly", count),
    "Users Active Monthly": ("users_active_monthly", count),
    "Users Active Stickiness Monthly": ("users_active_stickiness_monthly", percent),
    "Users Created Daily": ("users_created_daily", count),
    "Users Activated Share Weekly": ("users_activated_share_weekly", percent),
    "Accounts Active Monthly": ("accounts_active_monthly", count),
    "Accounts Health Mean Daily": ("accounts_health_mean_daily", number),
    "Revenue Closing Daily": ("revenue_closing_daily", money),
    "Revenue Retained Net Monthly": ("revenue_retained_net_monthly", percent),
    "Revenue Retained Gross Monthly": ("revenue_retained_gross_monthly", percent),
}
TILES = {
    "overall.html": tuple(BIG_NUMBERS),
    "index.html": (
        *("Users Active Monthly", "Users Active Daily", "Users Active Stickiness Monthly"),
        *("Accounts Active Monthly", "Revenue Closing Daily", "Accounts Health Mean Daily"),
    ),
    "accounts.html": (
        *("Revenue Closing Daily", "Accounts Active Monthly", "Accounts Health Mean Daily"),
        *("Revenue Retained Net Monthly", "Revenue Retained Gross Monthly"),
    ),
}
PRODUCT_NUMBERS = {
    "Users Active Daily": "users_active_daily",
    "Events Qualifying Daily": "events_qualifying_daily",
    "Workflows Completed Daily": "workflows_completed_daily",
}
PRODUCT_NUMBERS_TO_DATE = {
    "Users in Use to Date": ("users_in_use_to_date", count),
    "Users Tried Share to Date": ("users_tried_share_to_date", percent),
    "Users Activated Share to Date": ("users_activated_share_to_date", percent),
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
            company, "gold_overall_metrics", {title: BIG_NUMBERS[title] for title in titles}
        )
        for page, titles in TILES.items()
    }
    at_risk = sum(revenue_at_risk(company).values(), Decimal(0))
    found["accounts.html"]["MRR at Risk"] = (money(at_risk), "latest day")
    for product in company.products:
        slug = re.sub("[^a-z0-9]+", "_", product.lower())
        where = f"product_id = '{published(product)}' AND {TOTAL}"
        daily = {title: (column, count) for title, column in PRODUCT_NUMBERS.items()}
        columns = ", ".join(column for column, _ in PRODUCT_NUMBERS_TO_DATE.values())
        [values] = company.query(
            f"SELECT {columns} FROM gold.gold_product_adoption WHERE product_id = ?", product
        )
        found[f"product_{slug}_overall.html"] = {
            **_tiles(company, "gold_activity_metrics", daily, where),
            **{
                title: (form(value), "all time")
                for (title, (_, form)), value in zip(
                    PRODUCT_NUMBERS_TO_DATE.items(), values, strict=True
                )
            },
        }
    return found
