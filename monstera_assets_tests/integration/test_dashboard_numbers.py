"""The numbers on the dashboard pages equal the results of SQL queries on the tables.

Each figure title has a query below. A figure without a query fails, and so does a query without a
figure. Pages are read from the HTML.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monstera_assets_tests.integration.example_runs import SeedsRun
from monstera_assets_tests.site_page import cards, drawn_texts, read, shown_table, tiles

LAST = date(2025, 6, 30)
FIRST_OF_90 = LAST - timedelta(days=89)
HISTORY = date(2024, 7, 1)
"""First day of the seeds, less than 18 months before the last."""
WEEKS = [LAST - timedelta(days=7 * n) for n in range(52)]
"""Last days of the weeks that are completely in the history, latest first."""
WEEK_ENDS = [LAST - timedelta(days=7 * n) for n in range(53)]


def count(value: Any) -> str:
    return "not known" if value is None else f"{value:,}"


def percent(value: Any) -> str:
    return "not known" if value is None else f"{value * 100:.1f}%"


def money(value: Any) -> str:
    return "not known" if value is None else f"{value:,.2f}"


def number(value: Any) -> str:
    return "not known" if value is None else f"{value:.1f}"


@dataclass(frozen=True)
class Site:
    """The pages of the seeds and their tables."""

    folder: Path
    connection: duckdb.DuckDBPyConnection

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, parameters).fetchall()


@pytest.fixture(scope="module")
def site(seeds_run: SeedsRun) -> Iterator[Site]:
    """The site built by the run of the seeds."""
    output = seeds_run.database.parent / "dashboards"
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        yield Site(output / "current", connection)


Rows = list[list[str]]
Expected = dict[str, Callable[[Site], Rows]]


def daily(table: str, columns: Sequence[str], first: date, form: Any, where: str = "true") -> Any:
    """Return the rows of a figure with one row per day, latest first."""

    def rows(site: Site) -> Rows:
        found = site.query(
            f"SELECT metric_date, {', '.join(columns)} FROM gold.{table}"
            f" WHERE metric_date >= ? AND {where} ORDER BY metric_date DESC",
            first,
        )
        assert len(found) == (LAST - first).days + 1
        return [[str(day), *map(form, values)] for day, *values in found]

    return rows


def weekly_sums(table: str, columns: Sequence[str], where: str) -> Any:
    """Return the rows of a figure with sums per week, latest first."""

    def rows(site: Site) -> Rows:
        found = {
            day: values
            for day, *values in site.query(
                f"SELECT metric_date, {', '.join(columns)} FROM gold.{table} WHERE {where}"
            )
        }
        return [
            [
                str(week),
                *(
                    count(sum(found[week - timedelta(days=n)][place] for n in range(7)))
                    for place in range(len(columns))
                ),
            ]
            for week in WEEKS
        ]

    return rows


def by_segment(table: str, column: str, dimension: str, values: Sequence[str]) -> Any:
    """Return the rows of a figure with the last days of weeks and one column per segment."""

    def rows(site: Site) -> Rows:
        found = {
            (day, value): number_
            for day, value, number_ in site.query(
                f"SELECT metric_date, segment_value, {column} FROM gold.{table}"
                " WHERE segment_dimension = ?",
                dimension,
            )
        }
        # A value has rows starting on the first date on which a user has it.
        return [
            [str(day), *(count(found.get((day, value))) for value in values)] for day in WEEK_ENDS
        ]

    return rows


def most_first(table: str, column: str, dimension: str, how: str) -> Any:
    """Return the rows of `by_segment`, or weekly sums if `how` is "sum", largest segments first."""

    def rows(site: Site) -> Rows:
        ranked = [
            value
            for (value,) in site.query(
                f"SELECT segment_value FROM gold.{table} WHERE segment_dimension = ?"
                + (
                    f" AND metric_date = '{LAST}' ORDER BY {column} DESC, segment_value"
                    if how == "last"
                    else f" GROUP BY 1 ORDER BY sum({column}) DESC, segment_value"
                ),
                dimension,
            )
        ][:8]
        if how == "last":
            built: Rows = by_segment(table, column, dimension, ranked)(site)
            return built
        found = {
            (day, value): number_
            for day, value, number_ in site.query(
                f"SELECT metric_date, segment_value, {column} FROM gold.{table}"
                " WHERE segment_dimension = ?",
                dimension,
            )
        }
        return [
            [
                str(week),
                *(
                    count(sum(found.get((week - timedelta(days=n), value), 0) for n in range(7)))
                    for value in ranked
                ),
            ]
            for week in WEEKS
        ]

    return rows


def one_row(sql: str, names: Sequence[str], form: Any = count) -> Any:
    """Return the columns of one table row as rows of name and value."""

    def rows(site: Site) -> Rows:
        [values] = site.query(sql)
        return [[name, form(value)] for name, value in zip(names, values, strict=True)]

    return rows


def query_rows(sql: str, *forms: Any) -> Any:
    """Return the formatted rows of a query."""

    def rows(site: Site) -> Rows:
        return [
            [form(value) for form, value in zip(forms, row, strict=True)] for row in site.query(sql)
        ]

    return rows


USER_STATES = [
    "new",
    "active",
    "returning",
    "dormant",
    "churned",
    "reactivated",
    "dunning",
    "deleted",
]
ACCOUNT_STATES = [
    "trial",
    "new_paid",
    "active",
    "expanding",
    "at_risk",
    "contracting",
    "churned",
    "reactivated",
    "frozen",
]
PRODUCT_STATES = [
    "new_to_product",
    "active_in_product",
    "dormant_in_product",
    "churned_from_product",
    "reactivated_in_product",
]
TOTAL = "feature_id = 'all' AND event_type = 'all' AND location = 'all'"
PLATFORM = "scope = 'platform' AND from_state = 'all'"


def label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def growth(first: date, window: int) -> Any:
    columns = ("users_new", "users_resurrected", "users_churned")

    def rows(site: Site) -> Rows:
        found = site.query(
            f"SELECT metric_date, {', '.join(f'{name}_per_window' for name in columns)}"
            f" FROM gold.gold_growth_accounting WHERE window_days = {window}"
            " ORDER BY metric_date DESC"
        )
        return [[str(day), *map(count, values)] for day, *values in found[::window] if day >= first]

    return rows


def rates(period: str, first: date) -> Expected:
    table = "gold_state_transition_metrics"
    return {
        f"Users, Churned and Dormant Share Weekly, {period}": daily(
            table, ["users_churned_share_weekly", "users_dormant_share_weekly"], first, percent,
            PLATFORM,
        ),
        f"Users, Won Back and Reactivated Share Weekly, {period}": daily(
            table, ["users_won_back_share_weekly", "users_reactivated_share_weekly"], first, percent,
            PLATFORM,
        ),
        f"Users, Never Activated Share Weekly, {period}": daily(
            table, ["users_never_activated_share_weekly"], first, percent, PLATFORM,
        ),
    }  # fmt: skip


def overall(columns: Sequence[str], form: Any = count, first: date = FIRST_OF_90) -> Any:
    return daily("gold_overall_metrics", columns, first, form)


STATES_NOW: Expected = {
    "Users, in State Daily, Latest Day, by State": one_row(
        f"SELECT {', '.join(f'users_in_state_{state}_daily' for state in USER_STATES)}"
        " FROM gold.gold_overall_metrics WHERE is_current_day",
        [label(state) for state in USER_STATES],
    )
}
ACTIVE_USERS: Expected = {
    "Users, Active Monthly, Weekly and Daily, Last 90 Days": overall(
        ["users_active_monthly", "users_active_weekly", "users_active_daily"]
    )
}
ACCOUNTS_NOW: Expected = {
    "Accounts, in State Daily, Latest Day, by State": one_row(
        f"SELECT {', '.join(f'accounts_in_state_{state}_daily' for state in ACCOUNT_STATES)}"
        " FROM gold.gold_overall_metrics WHERE is_current_day",
        [label(state) for state in ACCOUNT_STATES],
    )
}

HOME: Expected = {
    **ACTIVE_USERS,
    **STATES_NOW,
    "Products, Adopted by Users, to Date, by Product": query_rows(
        "SELECT product_name, users_in_use_to_date, users_tried_to_date, users_tried_share_to_date,"
        " users_activated_share_to_date, 'Overall Segment Activity' FROM gold.gold_product_adoption"
        " JOIN bronze.bronze_product_catalog USING (product_id)"
        " ORDER BY users_in_use_to_date DESC, product_name",
        str, count, count, percent, percent, str,
    ),
}  # fmt: skip

OVERALL: Expected = {
    **ACTIVE_USERS,
    **STATES_NOW,
    **ACCOUNTS_NOW,
    **rates("Last 90 Days", FIRST_OF_90),
    "Users, Active Stickiness Monthly, Last 90 Days": overall(
        ["users_active_stickiness_monthly"], percent
    ),
    "Users, Created Daily, Last 90 Days": overall(["users_created_daily"]),
    "Users, Activated Share Weekly, Last 90 Days": overall(
        ["users_activated_share_weekly"], percent
    ),
    "Users, New and Resurrected versus Churned, Last 90 Days, by Week": growth(FIRST_OF_90, 7),
    "Revenue, Closing Daily, Last 90 Days": overall(["revenue_closing_daily"], money),
    "Revenue, Retained Net and Gross Monthly, Last 90 Days": overall(
        ["revenue_retained_net_monthly", "revenue_retained_gross_monthly"], percent
    ),
    "Accounts, Active Monthly, Last 90 Days": overall(["accounts_active_monthly"]),
    "Accounts, Health Mean Daily, Last 90 Days": overall(["accounts_health_mean_daily"], number),
}

DIMENSIONS = {
    "Platform State": USER_STATES,
    "Engagement Intensity": ["at_risk", "power", "regular", "casual", "inactive"],
    "Value Realization": ["high", "moderate", "low", "none"],
    "Product Breadth": ["platform_power", "multi", "explorer", "single", "none"],
    "Journey Stage": ["reactivation", "onboarding", "adoption", "retention", "loyalty"],
    "Feature Adoption": ["completionist", "advanced", "abandoner", "core"],
    "Collaboration Type": ["team_leader", "collaborator", "team_member", "solo"],
    "Temporal Pattern": ["daily", "weekly", "monthly", "seasonal", "erratic"],
    "Composite Segment": [
        "struggling_new_user",
        "expanding_power_user",
        "at_risk_core_user",
        "high_value_team_leader",
        "standard",
    ],
}
"""Title of each dimension to its segments (framework, section 7)."""


def column_of(title: str) -> str:
    return title.lower().replace(" ", "_")


def cohorts(site: Site) -> Rows:
    found: dict[date, dict[int, Any]] = {}
    sizes = {}
    for start, period, users, share in site.query(
        "SELECT cohort_start, period_number, users_in_cohort_per_period,"
        " users_retained_share_per_period FROM gold.gold_retention_cohorts"
        " WHERE cohort_type = 'month' AND segment_dimension = 'all'"
    ):
        found.setdefault(start, {})[period] = share
        sizes[start] = users
    periods = max(max(cells) for cells in found.values()) + 1
    return [
        [
            f"{start:%b %Y}",
            count(sizes[start]),
            *(percent(found[start].get(period)) for period in range(periods)),
        ]
        for start in sorted(found, reverse=True)
    ]


SEGMENTS: Expected = {
    "Users, Retained Share per Period, Last 18 Months, by Month of Signup": cohorts,
    **{
        f"Users, in Segment Daily, Last 18 Months, by {name}": by_segment(
            "gold_segment_metrics", "users_in_segment_daily", column_of(name), values
        )
        for name, values in DIMENSIONS.items()
    },
    **{
        f"Users, Active Monthly, Last 18 Months, by {name}": most_first(
            "gold_users_active_monthly", "users_active_monthly", column_of(name), "last"
        )
        for name in ("Country", "Plan Type", "Acquisition Source", "Account Tier")
    },
    **{
        f"Users, Created Daily, Last 18 Months, by {name} and Week": most_first(
            "gold_users_created_daily", "users_created_daily", column_of(name), "sum"
        )
        for name in ("Country", "Acquisition Source")
    },
}


def recent_events(dimension: str, names: str, product: str = "") -> Any:
    only = f" AND m.product_id = '{product}'" if product else ""
    return query_rows(
        f"SELECT {names}, sum(events_qualifying_daily) AS n FROM gold.gold_activity_metrics AS m"
        f" LEFT JOIN bronze.bronze_product_catalog AS c ON c.product_id = m.{dimension}"
        f" WHERE metric_date BETWEEN DATE '{LAST}' - 29 AND '{LAST}' AND event_type <> 'all'"
        f" AND {dimension} <> 'none'{only} GROUP BY {dimension}, 1 HAVING n > 0"
        f" ORDER BY n DESC, {dimension} LIMIT 10",
        str,
        lambda value: count(int(value)),
    )


def places(product: str = "") -> Any:
    only = f"AND product_id = '{product}'" if product else ""

    def rows(site: Site) -> Rows:
        found = {
            (day, place): int(events)
            for day, place, events in site.query(
                "SELECT metric_date, location, sum(events_qualifying_daily)"
                f" FROM gold.gold_activity_metrics WHERE event_type <> 'all' {only} GROUP BY ALL"
            )
        }
        names = sorted({place for _, place in found})
        return [
            [
                str(week),
                *(
                    count(sum(found.get((week - timedelta(days=n), place), 0) for n in range(7)))
                    for place in names
                ),
            ]
            for week in WEEKS
        ]

    return rows


def products_by_week(site: Site) -> Rows:
    products = site.query(
        "SELECT product_id FROM bronze.bronze_product_catalog WHERE tier = 'product' AND is_active"
        " ORDER BY product_name"
    )
    parts = [
        weekly_sums(
            "gold_activity_metrics", ["events_qualifying_daily"],
            f"product_id = '{product}' AND {TOTAL}",
        )(site)
        for (product,) in products
    ]  # fmt: skip
    return [[row[0], *(part[place][1] for part in parts)] for place, row in enumerate(parts[0])]


def workflows(period: str, first: date, product: str) -> Expected:
    where = f"product_id = '{product}' AND {TOTAL}"
    table = "gold_activity_metrics"
    return {
        f"Workflows, Started and Completed Daily, {period}, by Week": weekly_sums(
            table, ["workflows_started_daily", "workflows_completed_daily"], where
        ),
        f"Workflows, Completed Share Weekly, {period}": daily(
            table, ["workflows_completed_share_weekly"], first, percent, where
        ),
        f"Workflows, Hours to Complete Median Daily, {period}": daily(
            table, ["workflows_hours_to_complete_median_daily"], first, number, where
        ),
    }


ACTIVITY: Expected = {
    "Events, Qualifying Daily, Last 18 Months, by Week": weekly_sums(
        "gold_activity_metrics", ["events_qualifying_daily"], f"product_id = 'all' AND {TOTAL}"
    ),
    "Users, Active Monthly and Weekly, Last 18 Months": overall(
        ["users_active_monthly", "users_active_weekly"], first=HISTORY
    ),
    "Events, Qualifying Daily, Last 18 Months, by Product and Week": products_by_week,
    "Events, Qualifying Daily, Last 18 Months, by Location and Week": places(),
    "Users, Active per Window, Last 28 Days, by Active Days": query_rows(
        "SELECT CASE WHEN active_days <= 4 THEN '1 to 4 days' WHEN active_days <= 8 THEN '5 to 8 days'"
        " WHEN active_days <= 12 THEN '9 to 12 days' WHEN active_days <= 16 THEN '13 to 16 days'"
        " WHEN active_days <= 20 THEN '17 to 20 days' WHEN active_days <= 24 THEN '21 to 24 days'"
        " ELSE '25 to 28 days' END AS step, sum(users_active_per_window_by_active_days)"
        " FROM gold.gold_engagement_power_curve WHERE is_current_day AND window_days = 28"
        " GROUP BY step ORDER BY min(active_days)",
        str, lambda value: count(int(value)),
    ),
    "Events, Qualifying Daily, Last 30 Days, by Event Type": recent_events(
        "event_type", "upper(event_type[1]) || replace(event_type[2:], '_', ' ')"
    ),
    "Events, Qualifying Daily, Last 30 Days, by Feature": recent_events(
        "feature_id", "product_name"
    ),
    "Videos, Created Daily, Last 18 Months, by Week": weekly_sums(
        "gold_videos_created_daily", ["videos_created_daily"], "segment_dimension = 'all'"
    ),
    **workflows("Last 18 Months", HISTORY, "all"),
    "Users, New and Resurrected versus Churned, Last 18 Months, by 30 Days": growth(HISTORY, 30),
    "Users, Transitions Daily, Last 30 Days, by Transition": query_rows(
        "SELECT upper(from_state[1]) || from_state[2:] || ' to ' || to_state,"
        " sum(moves_made_daily) AS n FROM gold.gold_state_transition_metrics"
        f" WHERE scope = 'platform' AND from_state <> 'all' AND metric_date > DATE '{LAST}' - 30"
        " GROUP BY from_state, to_state HAVING n > 0 ORDER BY n DESC, from_state, to_state LIMIT 8",
        str, lambda value: count(int(value)),
    ),
    **rates("Last 18 Months", HISTORY),
    "Users, Quick Ratio per Window, Last 18 Months": daily(
        "gold_growth_accounting", ["users_quick_ratio_per_window"], HISTORY, percent,
        "window_days = 30",
    ),
}  # fmt: skip


def movements(site: Site) -> Rows:
    columns = ("new", "expansion", "contraction", "churned", "reactivated")
    found = site.query(
        f"SELECT metric_date, {', '.join(f'revenue_{name}_daily' for name in columns)}"
        " FROM gold.gold_revenue_metrics ORDER BY metric_date"
    )
    months: dict[str, list[Decimal]] = {}
    for day, *values in found:
        sums = months.setdefault(f"{day:%b %Y}", [Decimal(0)] * len(columns))
        months[f"{day:%b %Y}"] = [a + b for a, b in zip(sums, values, strict=True)]
    return [[month, *map(money, sums)] for month, sums in reversed(months.items())]


ACCOUNTS: Expected = {
    **ACCOUNTS_NOW,
    "Accounts, Needing Attention, Latest Day, by Account": query_rows(
        "SELECT account_id, upper(subscription_tier[1]) || subscription_tier[2:],"
        " history.monthly_recurring_revenue, history.days_to_renewal, history.health_score,"
        " seat_utilization_pct, history.state_since, why"
        " FROM silver.silver_account_state_history AS history"
        " LEFT JOIN gold.gold_accounts_needing_attention USING (account_id)"
        f" WHERE snapshot_date = '{LAST}' AND (history.current_state IN"
        " ('at_risk', 'contracting', 'frozen') OR account_id IN"
        " (SELECT account_id FROM gold.gold_account_churn_scores WHERE risk_band = 'high'))"
        " ORDER BY attention_rank",
        str, str, money, count, number, lambda value: f"{value:.0f}%", str, str,
    ),
    "Accounts, Health, Latest Day, by Band": query_rows(
        "SELECT label, count(account_id) FROM (VALUES (1, 'Excellent, 90 or more', 90, 101),"
        " (2, 'Good, 70 to 90', 70, 90), (3, 'Fair, 50 to 70', 50, 70),"
        " (4, 'Poor, 30 to 50', 30, 50), (5, 'Critical, below 30', 0, 30)) AS b(n, label, low, high)"
        " LEFT JOIN silver.silver_account_current_state ON health_score >= low"
        " AND health_score < high GROUP BY n, label ORDER BY n",
        str, count,
    ),
    "Accounts, in State Daily, Last 18 Months, by State": query_rows(
        f"SELECT metric_date, {', '.join(f'accounts_in_state_{s}_daily' for s in ACCOUNT_STATES)}"
        f" FROM gold.gold_overall_metrics WHERE (DATE '{LAST}' - metric_date) % 7 = 0"
        " ORDER BY metric_date DESC",
        str, *[count] * len(ACCOUNT_STATES),
    ),
    "Revenue, Won and Lost, Last 18 Months, by Month": movements,
    "Revenue, Closing Daily, Last 18 Months": daily(
        "gold_revenue_metrics", ["revenue_closing_daily"], HISTORY, money
    ),
    "Accounts, Paying Daily, Last 18 Months": daily(
        "gold_revenue_metrics", ["accounts_paying_daily"], HISTORY, count
    ),
    "Revenue, Retained Net and Gross Monthly, Last 18 Months": daily(
        "gold_revenue_metrics",
        ["revenue_retained_net_monthly", "revenue_retained_gross_monthly"], HISTORY, percent,
    ),
    "Accounts, Health Mean Daily, Last 18 Months": overall(
        ["accounts_health_mean_daily"], number, HISTORY
    ),
}  # fmt: skip


def products_of(column: str) -> Any:
    def rows(site: Site) -> Rows:
        counts: dict[int, int] = {}
        for (products,) in site.query(
            f"SELECT {column} FROM silver.silver_cross_product_analytics"
        ):
            counts[products] = counts.get(products, 0) + 1
        return [
            [f"{products} product{'' if products == 1 else 's'}", count(users)]
            for products, users in sorted(counts.items())
        ]

    return rows


def kept(start: int) -> Any:
    def rows(site: Site) -> Rows:
        came: dict[int, float] = {}
        users: dict[int, int] = {}
        for length, share, mature in site.query(
            f"SELECT path_length, retention_{start}, users_mature_{start}"
            f" FROM silver.silver_product_adoption_sequences WHERE users_mature_{start} > 0"
        ):
            came[length] = came.get(length, 0) + share * mature
            users[length] = users.get(length, 0) + mature
        return [
            [
                f"{length} product{'' if length == 1 else 's'}",
                percent(came[length] / users[length]),
                count(users[length]),
            ]
            for length in sorted(users)
        ]

    return rows


def affinity(column: str, form: Callable[[float], str]) -> Any:
    def rows(site: Site) -> Rows:
        names = dict(
            site.query("SELECT product_id, product_name FROM bronze.bronze_product_catalog")
        )
        pairs = {
            (first, second): (value, few)
            for first, second, value, few in site.query(
                f"SELECT first_product_id, second_product_id, {column}, is_low_support"
                " FROM silver.silver_product_affinity"
            )
        }
        products = [
            product
            for product, _ in site.query(
                "SELECT DISTINCT first_product_id, users_first FROM silver.silver_product_affinity"
                " ORDER BY users_first DESC, first_product_id"
            )
        ]

        def cell(first: str, second: str) -> str:
            if first == second:
                return "the same product"
            value, few = pairs[first, second]
            return "not known" if value is None else form(value) + (" *" if few and value else "")

        return [[names[first], *(cell(first, second) for second in products)] for first in products]

    return rows


def paths(site: Site) -> Rows:
    names = dict(site.query("SELECT product_id, product_name FROM bronze.bronze_product_catalog"))
    found = site.query(
        "SELECT path, users, share_of_adopters, median_days_since_previous, users_ending,"
        " retention_30, retention_90 FROM silver.silver_product_adoption_sequences"
        " ORDER BY users DESC, path_length, path LIMIT 25"
    )
    return [
        [
            " → ".join(names[product] for product in path.split(" > ")),
            count(users),
            percent(share),
            f"{days:.0f}" if " > " in path else "no previous product",
            count(ending),
            *(
                "not known" if kept is None else f"{kept * 100:.0f}%"
                for kept in (after_30, after_90)
            ),
        ]
        for path, users, share, days, ending, after_30, after_90 in found
    ]


def by_product(column: str) -> Any:
    return query_rows(
        f"SELECT product_name, {column} FROM gold.gold_product_adoption"
        " JOIN bronze.bronze_product_catalog USING (product_id)"
        f" ORDER BY {column} DESC, product_id",
        str, count,
    )  # fmt: skip


CROSS_PRODUCT: Expected = {
    "Users, with Products Tried, to Date, by Products": products_of("products_tried"),
    "Users, with Products in Use, to Date, by Products": products_of("products_active"),
    "Users, Retained Share, Days 30 to 59 after Adoption, by Products": kept(30),
    "Users, Retained Share, Days 90 to 119 after Adoption, by Products": kept(90),
    "Users, Started, to Date, by First Product": by_product("users_started_to_date"),
    "Users, in Use, to Date, by Product": by_product("users_in_use_to_date"),
    "Products, Co-Adopting Share, to Date, by Pair": affinity(
        "co_adoption_rate", lambda value: f"{value * 100:.0f}%"
    ),
    "Products, Adopting Both, Lift, to Date, by Pair": affinity(
        "lift", lambda value: f"{value:.2f}"
    ),
    "Users, Adopting, to Date, by Path": paths,
}

PRODUCTS = (
    "audience_surveys", "design_canvas", "insight_dashboards", "live_review", "script_writer",
    "team_spaces", "video_studio",
)  # fmt: skip


def product_pages(product: str) -> dict[str, Expected]:
    where = f"product_id = '{product}' AND {TOTAL}"
    table = "gold_activity_metrics"
    adoption = f"FROM gold.gold_product_adoption WHERE product_id = '{product}'"
    states_now: Expected = {
        "Users, in State to Date, Latest Day, by State": one_row(
            f"SELECT {', '.join(f'users_in_state_{state}_to_date' for state in PRODUCT_STATES)}"
            f" {adoption}",
            [label(state) for state in PRODUCT_STATES],
        )
    }
    states = ", ".join(
        f"(SELECT count(*) FROM silver.silver_user_product_state_history AS h WHERE h.product_id ="
        f" '{product}' AND h.snapshot_date = day AND h.current_state = '{state}')"
        for state in PRODUCT_STATES
    )
    days = ", ".join(f"(DATE '{day}')" for day in WEEK_ENDS)
    return {
        "overall": {
            **states_now,
            "Users, Active and Present Daily, Last 90 Days": daily(
                table, ["users_active_daily", "users_present_daily"], FIRST_OF_90, count, where
            ),
            "Users, Eligible, Tried, Activated and in Use, to Date": one_row(
                "SELECT users_eligible_to_date, users_tried_to_date, users_activated_to_date,"
                f" users_in_use_to_date {adoption}",
                ["Eligible", "Tried", "Activated", "In Use"],
            ),
            "Events, Qualifying Daily, Last 90 Days": daily(
                table, ["events_qualifying_daily"], FIRST_OF_90, count, where
            ),
            "Workflows, Completed Share Weekly, Last 90 Days": daily(
                table, ["workflows_completed_share_weekly"], FIRST_OF_90, percent, where
            ),
        },
        "segments": {
            **states_now,
            "Users, in State, Last 18 Months, by State": query_rows(
                f"SELECT day, {states} FROM (VALUES {days}) AS d(day) ORDER BY day DESC",
                str, *[count] * len(PRODUCT_STATES),
            ),
        },
        "activity": {
            "Events, Qualifying Daily, Last 18 Months, by Week": weekly_sums(
                table, ["events_qualifying_daily"], where
            ),
            "Events, Qualifying Daily, Last 18 Months, by Location and Week": places(product),
            "Events, Qualifying Daily, Last 30 Days, by Event Type": recent_events(
                "event_type", "upper(event_type[1]) || replace(event_type[2:], '_', ' ')", product
            ),
            "Events, Qualifying Daily, Last 30 Days, by Feature": recent_events(
                "feature_id", "product_name", product
            ),
            "Users, Active Daily, Last 18 Months": daily(
                table, ["users_active_daily"], HISTORY, count, where
            ),
            **workflows("Last 18 Months", HISTORY, product),
        },
    }  # fmt: skip


PAGES: dict[str, Expected] = {
    "index.html": HOME,
    "overall.html": OVERALL,
    "segments.html": SEGMENTS,
    "activity.html": ACTIVITY,
    "accounts.html": ACCOUNTS,
    "cross_product.html": CROSS_PRODUCT,
    **{
        f"product_{product}_{view}.html": expected
        for product in PRODUCTS
        for view, expected in product_pages(product).items()
    },
}


def test_every_page_is_compared(site: Site) -> None:
    assert {path.name for path in site.folder.iterdir()} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_those_of_the_warehouse(site: Site, name: str) -> None:
    found = cards(read(site.folder / name))
    assert set(found) == set(PAGES[name])
    for title, expected in PAGES[name].items():
        rows = expected(site)
        if "unavailable" in found[title].classes:
            # Shown only if all values are 0 or not known.
            assert {cell for row in rows for cell in row[1:]} <= {"0", "0.0%", "not known"}, title
        else:
            assert shown_table(found[title]).rows == rows, title


@pytest.mark.parametrize("name", PAGES)
def test_drawings_say_what_their_tables_say(site: Site, name: str) -> None:
    for title, card in cards(read(site.folder / name)).items():
        for chart in card.all("div", "chart"):
            data, [texts] = shown_table(card), drawn_texts(chart)
            plots = json.loads(chart.attributes["data-plots"])
            columns = list(zip(*data.rows, strict=True))
            latest = [next((v for v in one if v != "not known"), "") for one in columns[1:]]
            if not plots:  # bars: names and values
                assert [*columns[1]] == texts[len(data.rows) :], title
                for shown, heading in zip(texts, columns[0], strict=False):
                    whole = heading if shown.endswith("…") else shown.partition(" (")[0]
                    assert whole == heading, title
                    assert heading.startswith(shown.rstrip("…")[:9]), title
            elif plots[0][3] < 50:  # sparklines: names, then latest values
                assert len(plots) == len(latest)
                assert texts[len(latest) : 2 * len(latest)] == [one[0] for one in columns[1:]], (
                    title
                )
            elif "data-bands" not in chart.attributes:  # lines: latest known value at the end
                ends = [text.rpartition(" ")[2] for text in texts[-len(latest) :]]
                assert ends == [value for value in latest if value], title


BIG_NUMBERS = {
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
ON_PAGE = {
    "overall.html": set(BIG_NUMBERS),
    "index.html": {
        "Users Active Monthly", "Users Active Daily", "Users Active Stickiness Monthly",
        "Accounts Active Monthly", "Revenue Closing Daily", "Accounts Health Mean Daily",
    },
    "accounts.html": {
        "Revenue Closing Daily", "Accounts Active Monthly", "Accounts Health Mean Daily",
        "Revenue Retained Net Monthly", "Revenue Retained Gross Monthly", "Revenue at Risk",
    },
}  # fmt: skip


def change(now: Any, then: Any, form: Any) -> str:
    """Return a change over a week as displayed on the pages."""
    if now is None or then is None:
        return "change not known from a week earlier"
    if form(now) == form(then):
        return "unchanged from a week earlier"
    if form is percent:
        text = f"{(now - then) * 100:+.1f} pts "
    elif form is number:
        text = f"{now - then:+.1f} "
    else:
        text = f"{float(now - then) / float(then):+.1%} " if then else ""
    return f"{text}from {form(then)} a week earlier"


@pytest.mark.parametrize("name", ON_PAGE)
def test_big_numbers_and_their_changes(site: Site, name: str) -> None:
    shown = tiles(read(site.folder / name))
    assert set(shown) == ON_PAGE[name]
    for title, (value, text) in shown.items():
        if title == "Revenue at Risk":
            [(at_risk,)] = site.query(
                "SELECT sum(monthly_recurring_revenue) FROM silver.silver_account_current_state"
                " WHERE current_state IN ('at_risk', 'contracting', 'frozen') OR account_id IN"
                " (SELECT account_id FROM gold.gold_account_churn_scores WHERE risk_band = 'high')"
            )
            assert value == money(at_risk)
            continue
        column, form = BIG_NUMBERS[title]
        [(now,), (then,)] = site.query(
            f"SELECT {column} FROM gold.gold_overall_metrics WHERE metric_date IN (?, ?)"
            " ORDER BY metric_date DESC",
            LAST,
            LAST - timedelta(days=7),
        )
        assert value == form(now), title
        assert text == change(now, then, form), title


@pytest.mark.parametrize("product", PRODUCTS)
def test_big_numbers_of_a_product(site: Site, product: str) -> None:
    shown = tiles(read(site.folder / f"product_{product}_overall.html"))
    columns = ("users_active_daily", "events_qualifying_daily", "workflows_completed_daily")
    now, then = site.query(
        f"SELECT {', '.join(columns)} FROM gold.gold_activity_metrics WHERE product_id = ?"
        f" AND {TOTAL} AND metric_date IN (?, ?) ORDER BY metric_date DESC",
        product,
        LAST,
        LAST - timedelta(days=7),
    )
    [adoption] = site.query(
        "SELECT users_in_use_to_date, users_tried_share_to_date, users_activated_share_to_date"
        " FROM gold.gold_product_adoption WHERE product_id = ?",
        product,
    )
    assert list(shown.values()) == [
        *((count(a), change(a, b, count)) for a, b in zip(now, then, strict=True)),
        (count(adoption[0]), "all time"),
        (percent(adoption[1]), "all time"),
        (percent(adoption[2]), "all time"),
    ]
