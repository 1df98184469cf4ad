"""The views of the platform: Overall (90 days), Segment and Activity (18 months)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from monstera_assets.dashboards import findings
from monstera_assets.dashboards.design import (
    LAST_18_MONTHS,
    LAST_30_DAYS,
    LAST_90_DAYS,
    LATEST_DAY,
    headline,
    title,
    words,
)
from monstera_assets.dashboards.figures import (
    about,
    attempt,
    bars,
    columns,
    multiples,
    tile,
    trend,
)
from monstera_assets.dashboards.growth import growth_figure, movers, rates
from monstera_assets.dashboards.model import (
    Cell,
    Item,
    Listing,
    Page,
    Tile,
    Unavailable,
    section,
    table,
)
from monstera_assets.dashboards.reading import WEEK, Frame, Reader
from monstera_assets.dashboards.structure import (
    ACTIVITY,
    OVERALL,
    SEGMENTS,
    VIEWS,
    Catalog,
    home_link,
    products_below,
    view_file,
    views_beside,
)
from monstera_assets.dashboards.usage import (
    by_kind,
    features,
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
from monstera_assets.gold.metrics import Metric, MetricTable
from monstera_assets.gold.segments import SEGMENT_DIMENSIONS, TOTAL
from monstera_assets.lifecycle.states import AccountState, UserState
from monstera_assets.warehouse.errors import MissingTableError

_COHORTS = 18
_POWER_STEP = 4
_CREATED_SHOWN = 4
_TOTALS = dict.fromkeys(("feature_id", "event_type", "location"), TOTAL)
_PLATFORM = {"product_id": TOTAL, **_TOTALS}


def overall_page(reader: Reader, catalog: Catalog) -> Page:
    """Headline figures with their change over a week, and how they went in 90 days."""
    period = LAST_90_DAYS

    def line(metrics: dict[Metric, str], heading: str = "", wide: bool = False) -> Item:
        return trend(reader, overall.TABLE, metrics, period, heading=heading, wide=wide)

    use = section(
        "Use",
        [
            active_users(reader),
            states_now(reader),
            line({overall.STICKINESS: "Stickiness"}),
            columns(reader, overall.TABLE, overall.CREATED, period, weekly=False),
            line({overall.ACTIVATION_RATE: "Activated"}),
        ],
    )
    movement = section(
        "Coming and going",
        [growth_figure(reader, period, WEEK), *rates(reader, period)],
    )
    business = section(
        "Accounts and revenue",
        [
            line({revenue.REVENUE_CLOSING: "MRR"}, wide=True),
            line(
                {revenue.REVENUE_RETAINED_NET: "Net", revenue.REVENUE_RETAINED_GROSS: "Gross"},
                headline("Revenue", "Retained Net and Gross Monthly", period.name),
            ),
            line({overall.ACCOUNTS_ACTIVE: "Accounts"}),
            line({overall.HEALTH: "Health"}),
            account_states_now(reader),
        ],
    )
    return Page(
        file=view_file(OVERALL, None),
        title=VIEWS[OVERALL],
        lead="The headline figures of the whole platform: the latest day, compared with a week"
        " before, and the last 90 days.",
        up=(home_link(),),
        beside=views_beside(OVERALL, None),
        below=products_below(OVERALL, catalog),
        below_heading="The same view of a product",
        tiles=tiles_of(reader, overall.BIG_NUMBERS),
        sections=(use, movement, business),
    )


def segments_page(reader: Reader, catalog: Catalog) -> Page:
    """Users by state, behaviour and origin over 18 months, and the cohorts they signed up in."""
    dimensions = {
        name: multiples(
            reader,
            segment_metrics.TABLE,
            segment_metrics.USERS_IN_SEGMENT,
            LAST_18_MONTHS,
            "segment_value",
            _dimension(name),
            where={"segment_dimension": name},
            order=values,
        )
        for name, values in segment_metrics.SEGMENT_VALUES.items()
        if name != "activity_state"
    }
    return Page(
        file=view_file(SEGMENTS, None),
        title=VIEWS[SEGMENTS],
        lead="Who the users are: by lifecycle state, by what they do and by where they come from,"
        " week by week over 18 months.",
        up=(home_link(),),
        beside=views_beside(SEGMENTS, None),
        below=products_below(SEGMENTS, catalog),
        below_heading="The same view of a product",
        sections=(
            section("Retention", [cohort_table(reader)]),
            section(
                "States and behaviour",
                dimensions.values(),
                "Each dimension shares out all users. All small lines of a chart have one scale.",
            ),
            section(
                "Origin",
                [
                    multiples(
                        reader,
                        active_monthly.TABLE,
                        active_monthly.USERS_ACTIVE,
                        LAST_18_MONTHS,
                        "segment_value",
                        _dimension(name),
                        where={"segment_dimension": name},
                        name=str if name == "country" else words,
                    )
                    for name in SEGMENT_DIMENSIONS
                ]
                + [
                    multiples(
                        reader,
                        created_daily.TABLE,
                        overall.CREATED,
                        LAST_18_MONTHS,
                        "segment_value",
                        _dimension(name),
                        where={"segment_dimension": name},
                        name=str if name == "country" else words,
                        added_up=True,
                    )
                    for name in ("acquisition_source", "country")
                ],
                "As the user's and account's latest row says; the eight segments with most.",
            ),
        ),
    )


def activity_page(reader: Reader, catalog: Catalog, created: Sequence[MetricTable]) -> Page:
    """What users do, over 18 months."""
    period = LAST_18_MONTHS
    use = section(
        "Use",
        [
            columns(
                reader,
                activity.TABLE,
                activity.EVENTS_QUALIFYING,
                period,
                weekly=True,
                where=_PLATFORM,
                wide=True,
            ),
            trend(
                reader,
                overall.TABLE,
                {overall.MONTHLY: "Monthly", overall.WEEKLY: "Weekly"},
                period,
                heading=headline("Users", "Active Monthly and Weekly", period.name),
            ),
            multiples(
                reader,
                activity.TABLE,
                activity.EVENTS_QUALIFYING,
                period,
                "product_id",
                "Product",
                where=_TOTALS,
                order=[product.id for product in catalog.products][:16],
                name=catalog.name,
                added_up=True,
            ),
            by_kind(reader, "location", period, None),
            power(reader),
        ],
    )
    return Page(
        file=view_file(ACTIVITY, None),
        title=VIEWS[ACTIVITY],
        lead="What users do: events, features, workflows, and how the active users of a month change.",
        up=(home_link(),),
        beside=views_beside(ACTIVITY, None),
        below=products_below(ACTIVITY, catalog),
        below_heading="The same view of a product",
        sections=(
            use,
            section(
                "What was done",
                [
                    features(reader, "event_type", LAST_30_DAYS, None, words),
                    features(reader, "feature_id", LAST_30_DAYS, None, catalog.name),
                    *(
                        columns(
                            reader,
                            source,
                            source.metrics[0],
                            period,
                            weekly=True,
                            where={"segment_dimension": TOTAL},
                        )
                        for source in created[:_CREATED_SHOWN]
                    ),
                ],
            ),
            section("Workflows", workflow_figures(reader, period, None)),
            section(
                "Coming and going",
                [
                    growth_figure(reader, period, 30),
                    movers(reader),
                    *rates(reader, period),
                    trend(
                        reader,
                        growth.TABLE,
                        {growth.QUICK_RATIO: "Quick ratio"},
                        period,
                        where={"window_days": 30},
                    ),
                ],
            ),
        ),
    )


def tiles_of(reader: Reader, metrics: Sequence[Metric]) -> tuple[Tile, ...]:
    """Headline metrics on the as-of date, with their change over a week; none without the table."""
    changing = [metric for metric in metrics if metric in overall.HEADLINES]
    try:
        now = reader.latest(overall.TABLE, metrics)
        week_ago = reader.as_of - timedelta(days=WEEK)
        before = reader.by_day(overall.TABLE, metrics, Frame(week_ago, week_ago, 1))
        told = reader.latest(overall.TABLE, [metric.change(WEEK) for metric in changing])
    except MissingTableError:
        return ()
    changes = dict(zip(changing, told, strict=True))
    return tuple(
        tile(
            metric,
            value,
            findings.week_on_week(metric, value, before[metric][0], changes.get(metric)),
        )
        for metric, value in zip(metrics, now, strict=True)
    )


def active_users(reader: Reader) -> Item:
    """Users active in a month, a week and a day, over 90 days."""
    return trend(
        reader,
        overall.TABLE,
        {overall.MONTHLY: "Monthly", overall.WEEKLY: "Weekly", overall.DAILY: "Daily"},
        LAST_90_DAYS,
        heading=headline("Users", "Active Monthly, Weekly and Daily", LAST_90_DAYS.name),
        wide=True,
    )


def states_now(reader: Reader) -> Item:
    """Users by platform state on the as-of date."""
    metrics = overall.USERS_IN_STATE
    heading = headline("Users", "in State Daily", LATEST_DAY.name, "State")
    return attempt(
        heading,
        lambda: bars(
            heading,
            "users",
            [
                (words(state), value, metrics[state].format(value))
                for state, value in zip(
                    UserState, reader.latest(overall.TABLE, [*metrics.values()]), strict=True
                )
            ],
            about(metrics.values(), [overall.TABLE]),
            name="State",
            value="Users",
            share=True,
        ),
    )


def account_states_now(reader: Reader) -> Item:
    """Accounts by state on the as-of date."""
    metrics = overall.ACCOUNTS_IN_STATE
    heading = headline("Accounts", "in State Daily", LATEST_DAY.name, "State")
    return attempt(
        heading,
        lambda: bars(
            heading,
            "accounts",
            [
                (words(state), value, metrics[state].format(value))
                for state, value in zip(
                    AccountState, reader.latest(overall.TABLE, [*metrics.values()]), strict=True
                )
            ],
            about(metrics.values(), [overall.TABLE]),
            name="State",
            value="Accounts",
            share=True,
        ),
    )


def power(reader: Reader) -> Item:
    """Users by the number of days on which they were active, in steps of four."""
    metric, window = power_curve.USERS_BY_ACTIVE_DAYS, max(power_curve.WINDOWS)
    heading = headline("Users", "Active per Window", f"Last {window} Days", "Active Days")

    def build() -> Item:
        rows = reader.rows(
            [power_curve.TABLE],
            f"SELECT (active_days - 1) // {_POWER_STEP} AS step,"
            f" CAST(sum({metric.column_name}) AS BIGINT) FROM {power_curve.TABLE.qualified_name}"
            " WHERE metric_date = ? AND window_days = ? GROUP BY step ORDER BY step",
            [reader.as_of, window],
        )
        return bars(
            heading,
            "users",
            [
                (
                    f"{step * _POWER_STEP + 1} to {(step + 1) * _POWER_STEP} days",
                    users,
                    metric.format(users),
                )
                for step, users in rows
            ],
            about([metric], [power_curve.TABLE]),
            name="Active days",
            value="Users",
            share=True,
        )

    return attempt(heading, build)


def cohort_table(reader: Reader) -> Item:
    """Retention of the latest monthly cohorts, shaded."""
    heading = title(cohorts.RETENTION, LAST_18_MONTHS.name, "Month of Signup")

    def build() -> Item:
        rows = reader.rows(
            [cohorts.TABLE],
            f"SELECT cohort_start, period_number, {cohorts.USERS_IN_COHORT.column_name},"
            f" {cohorts.RETENTION.column_name} FROM {cohorts.TABLE.qualified_name}"
            " WHERE cohort_type = 'month' AND cohort_start IN"
            f" (SELECT DISTINCT cohort_start FROM {cohorts.TABLE.qualified_name}"
            "  WHERE cohort_type = 'month' ORDER BY cohort_start DESC LIMIT ?)"
            " AND period_number < ? ORDER BY cohort_start, period_number",
            [_COHORTS, _COHORTS],
        )
        found: dict[object, dict[int, float | None]] = {}
        sizes = {}
        for start, period, users, share in rows:
            found.setdefault(start, {})[period] = share
            sizes[start] = users
        if not found:
            return Unavailable(heading, "Nobody has signed up yet.")
        periods = range(max(max(cells) for cells in found.values()) + 1)
        known = [
            (share, start, period)
            for start, cells in found.items()
            for period, share in cells.items()
            if share is not None and period > 0
        ]
        finding = (
            f"{len(found)} monthly cohorts. No period after the first is over for any of them."
        )
        if known:
            share, start, period = max(known, key=lambda cell: (cell[0], cell[1]))
            finding = (
                f"{len(found)} monthly cohorts; best kept after the first period: those of"
                f" {start:%B %Y}, of whom {cohorts.RETENTION.format(share)} came in period {period}."
            )
        return Listing(
            title=heading,
            finding=finding,
            table=table(
                ["Signed up in", "Users", *map(str, periods)],
                (
                    [
                        Cell(f"{start:%b %Y}"),
                        Cell(cohorts.USERS_IN_COHORT.format(sizes[start]), sizes[start]),
                        *(_share_cell(cells.get(period)) for period in periods),
                    ]
                    for start, cells in reversed(found.items())
                ),
            ),
            about=about([cohorts.RETENTION, cohorts.USERS_IN_COHORT], [cohorts.TABLE]),
            footnote="Columns are periods of 30 days after each user's own signup. A cell is empty"
            " until every member of the cohort has lived through the period.",
        )

    return attempt(heading, build)


def _share_cell(share: float | None) -> Cell:
    if share is None:
        return Cell(cohorts.RETENTION.format(None), quiet=True)
    return Cell(cohorts.RETENTION.format(share), share, shade=round(share * 9))


def _dimension(name: str) -> str:
    return " ".join(word.capitalize() for word in name.split("_"))
