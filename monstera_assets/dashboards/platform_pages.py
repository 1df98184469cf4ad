"""The platform views: Overall (90 days), Segment and Activity (18 months)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.growth import growth_figure, rates, transitions
from monstera_assets.dashboards.usage import (
    TOTALS,
    by_location,
    features,
    product_totals,
    workflow_figures,
)
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold import gold_engagement_power_curve as power_curve
from monstera_assets.gold import gold_growth_accounting as growth
from monstera_assets.gold import gold_overall_metrics as overall
from monstera_assets.gold import gold_retention_cohorts as cohorts
from monstera_assets.gold import gold_revenue_metrics as revenue
from monstera_assets.gold import gold_segment_metrics as segment_metrics
from monstera_assets.gold import gold_users_active_monthly as active_monthly
from monstera_assets.gold import gold_users_created_daily as created_daily
from monstera_assets.gold.metrics import Metric, MetricTable, title_case

_IN_STATE: dict[str, Mapping[Any, Metric]] = {
    "Users": overall.USERS_IN_STATE,
    "Accounts": overall.ACCOUNTS_IN_STATE,
}
_COHORTS = 18
_POWER_STEP, _POWER_WINDOW = 4, max(power_curve.WINDOWS)
_CREATED_SHOWN, _PRODUCTS_SHOWN = 4, 16


def overall_page(reader: ma.Reader, catalog: ma.Catalog) -> ma.Page:
    """Create the page with headline figures, weekly changes, and trends over 90 days."""
    period, headlines = ma.LAST_90_DAYS, reader.daily(overall.TABLE)

    def line(metric: Metric, name: str, *, wide: bool = False) -> ma.Item:
        return ma.trend(headlines, {metric: name}, period, wide=wide)

    use = [
        active_users(reader),
        states_now(reader, "Users"),
        line(overall.STICKINESS, "Stickiness"),
        ma.column_chart_figure(headlines, overall.CREATED, period, weekly=False),
        line(overall.ACTIVATION.share, "Activated"),
    ]
    business = [
        line(revenue.REVENUE_CLOSING, "MRR", wide=True),
        retained_revenue(headlines, period),
        line(overall.ACCOUNTS_ACTIVE, "Accounts"),
        line(overall.HEALTH, "Health"),
        states_now(reader, "Accounts"),
    ]
    return ma.view_page(
        ma.OVERALL,
        catalog,
        None,
        "Headline figures for the platform on the latest day, compared with a week earlier, and over 90"
        " days.",
        [
            ma.section("Use", use),
            ma.section(
                "Growth and churn", [growth_figure(reader, period, ma.WEEK), *rates(reader, period)]
            ),
            ma.section("Accounts and revenue", business),
        ],
        ma.tiles(headlines, overall.BIG_NUMBERS),
    )


def segments_page(reader: ma.Reader, catalog: ma.Catalog) -> ma.Page:
    """Create the page that shows users by state, behavior, origin and cohort over 18 months."""

    def by(
        source: MetricTable,
        metric: Metric,
        dimension: str,
        order: Sequence[str] = (),
        *,
        added_up: bool = False,
    ) -> ma.Item:
        return ma.small_multiples_figure(
            reader.daily(source, segment_dimension=dimension),
            metric,
            ma.LAST_18_MONTHS,
            "segment_value",
            title_case(dimension),
            order=order,
            name=str if dimension == "country" else ma.words,
            added_up=added_up,
        )

    created, active = created_daily.TABLE, active_monthly.TABLE
    return ma.view_page(
        ma.SEGMENTS,
        catalog,
        None,
        "Users by lifecycle state, behavior and origin, by week over 18 months.",
        [
            ma.section("Retention", [cohort_table(reader)]),
            ma.section(
                "States and behavior",
                [
                    by(segment_metrics.TABLE, segment_metrics.USERS_IN_SEGMENT, name, values)
                    for name, values in segment_metrics.SEGMENT_VALUES.items()
                    if name != "activity_state"
                ],
                "Each dimension divides all users into segments. All lines in a chart use the same"
                " scale.",
            ),
            ma.section(
                "Origin",
                [
                    *(by(active, active_monthly.USERS_ACTIVE, d) for d in ma.SEGMENT_DIMENSIONS),
                    by(created, overall.CREATED, "acquisition_source", added_up=True),
                    by(created, overall.CREATED, "country", added_up=True),
                ],
                "Each chart shows the eight segments with the highest values.",
            ),
        ],
    )


def activity_page(
    reader: ma.Reader, catalog: ma.Catalog, created: Sequence[MetricTable]
) -> ma.Page:
    """Create the page that shows user activity over 18 months."""
    period = ma.LAST_18_MONTHS
    events, totals = activity.EVENTS_QUALIFYING, product_totals(reader, None)
    use = [
        ma.column_chart_figure(totals, events, period, weekly=True, wide=True),
        ma.trend(
            reader.daily(overall.TABLE),
            {overall.MONTHLY: "Monthly", overall.WEEKLY: "Weekly"},
            period,
            what="Active Monthly and Weekly",
        ),
        ma.small_multiples_figure(
            reader.daily(activity.TABLE, **TOTALS),
            events,
            period,
            "product_id",
            "Product",
            order=[product.id for product in catalog.products][:_PRODUCTS_SHOWN],
            name=catalog.name,
            added_up=True,
        ),
        by_location(reader, period, None),
        power(reader),
    ]
    in_all = [reader.daily(source, segment_dimension=ma.TOTAL) for source in created]
    done = [
        features(reader, "event_type", ma.LAST_30_DAYS, None, ma.words),
        features(reader, "feature_id", ma.LAST_30_DAYS, None, catalog.name),
        *(
            ma.column_chart_figure(daily, daily.table.metrics[0], period, weekly=True)
            for daily in in_all[:_CREATED_SHOWN]
        ),
    ]
    growth_and_churn = [
        growth_figure(reader, period, 30),
        transitions(reader),
        *rates(reader, period),
        ma.trend(
            reader.daily(growth.TABLE, window_days=30), {growth.QUICK_RATIO: "Quick ratio"}, period
        ),
    ]
    return ma.view_page(
        ma.ACTIVITY,
        catalog,
        None,
        "User activity: events, features, workflows, growth and churn.",
        [
            ma.section("Use", use),
            ma.section("Features and content", done),
            ma.section("Workflows", workflow_figures(reader, period, None)),
            ma.section("Growth and churn", growth_and_churn),
        ],
    )


def active_users(reader: ma.Reader) -> ma.Item:
    """Plot monthly, weekly and daily active users over 90 days."""
    return ma.trend(
        reader.daily(overall.TABLE),
        {overall.MONTHLY: "Monthly", overall.WEEKLY: "Weekly", overall.DAILY: "Daily"},
        ma.LAST_90_DAYS,
        what="Active Monthly, Weekly and Daily",
        wide=True,
    )


def retained_revenue(daily: ma.Daily, period: ma.Timeframe) -> ma.Item:
    """Plot net and gross retained revenue."""
    labels = {revenue.REVENUE_RETAINED_NET: "Net", revenue.REVENUE_RETAINED_GROSS: "Gross"}
    return ma.trend(daily, labels, period, what="Retained Net and Gross Monthly")


@ma.item(lambda entities: ma.headline(entities, "in State Daily", ma.LATEST_DAY.name, "State"))
def states_now(heading: str, reader: ma.Reader, entities: str) -> ma.Item:
    """Chart users by platform state, or accounts by state, on the as-of date."""
    metrics = _IN_STATE[entities]
    values = reader.daily(overall.TABLE).latest(metrics.values())
    return ma.metric_bars(heading, entities.lower(), metrics, values, overall.TABLE)


@ma.item(ma.headline("Users", "Active per Window", f"Last {_POWER_WINDOW} Days", "Active Days"))
def power(heading: str, reader: ma.Reader) -> ma.Item:
    """Chart users by their number of active days, in steps of four."""
    metric, source = power_curve.USERS_BY_ACTIVE_DAYS, power_curve.TABLE
    rows = reader.rows(
        [source],
        f"SELECT (active_days - 1) // {_POWER_STEP} * {_POWER_STEP} AS step,"
        f" CAST(sum({metric.column_name}) AS BIGINT) FROM {source.qualified_name}"
        " WHERE metric_date = ? AND window_days = ? GROUP BY step ORDER BY step",
        [reader.as_of, _POWER_WINDOW],
    )
    steps = [(f"{step + 1} to {step + _POWER_STEP} days", users) for step, users in rows]
    described = ma.about([metric], source)
    return ma.bars(heading, "users", steps, described, name="Active days", share=True)


@ma.item(ma.title(cohorts.RETENTION, ma.LAST_18_MONTHS.name, "Month of Signup"))
def cohort_table(heading: str, reader: ma.Reader) -> ma.Item:
    """Show retention for the latest monthly cohorts in a shaded table."""
    rows = reader.rows(
        [cohorts.TABLE],
        f"SELECT cohort_start, period_number, {cohorts.USERS_IN_COHORT.column_name},"
        f" {cohorts.RETENTION.column_name} FROM {cohorts.TABLE.qualified_name}"
        f" WHERE cohort_type = 'month' AND segment_dimension = '{ma.TOTAL}' AND cohort_start IN"
        f" (SELECT DISTINCT cohort_start FROM {cohorts.TABLE.qualified_name}"
        "  WHERE cohort_type = 'month' ORDER BY cohort_start DESC LIMIT ?)"
        " AND period_number < ? ORDER BY cohort_start, period_number",
        [_COHORTS, _COHORTS],
    )
    if not rows:
        return ma.Unavailable(heading, "No users have signed up.")
    shares = {(start, period): share for start, period, _, share in rows}
    sizes = {start: users for start, _, users, _ in rows}
    periods = range(max(period for _, period in shares) + 1)
    known = [
        (share, start, period)
        for (start, period), share in shares.items()
        if share is not None and period > 0
    ]
    finding = f"{len(sizes)} monthly cohorts, none of which has completed a second period."
    if known:
        share, start, period = max(known, key=lambda cell: (cell[0], cell[1]))
        finding = (
            f"{len(sizes)} monthly cohorts. The highest retention after the first period is"
            f" {cohorts.RETENTION.format(share)}, for {start:%B %Y} in period {period}."
        )
    return ma.Listing(
        title=heading,
        finding=finding,
        table=ma.table(
            ["Signed up in", "Users", *map(str, periods)],
            (
                [
                    ma.Cell(f"{start:%b %Y}"),
                    ma.Cell(cohorts.USERS_IN_COHORT.format(users), users),
                    *(_share_cell(shares.get((start, period))) for period in periods),
                ]
                for start, users in reversed(sizes.items())
            ),
        ),
        about=ma.about([cohorts.RETENTION, cohorts.USERS_IN_COHORT], cohorts.TABLE),
        footnote="Columns are 30-day periods after each user's signup. A cell is empty until the"
        " period has ended for every user in the cohort.",
    )


def _share_cell(share: float | None) -> ma.Cell:
    text = cohorts.RETENTION.format(share)
    if share is None:
        return ma.Cell(text, quiet=True)
    return ma.Cell(text, share, shade=round(share * ma.SHADES))
