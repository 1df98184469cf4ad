"""The retention page: the share of each signup cohort that is active in later periods."""

from __future__ import annotations

from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.gold import gold_retention_cohorts as cohorts

_PERIOD = ma.LAST_18_MONTHS
_COHORTS = {"month": 18, "week": 26}
"""Number of cohorts and periods to show."""
_KINDS = {"month": "Months (30 days)", "week": "Weeks (7 days)"}
_AVERAGE = "All cohorts"
_COUNTED = {
    "Active in the period": (cohorts.USERS_RETAINED, cohorts.RETENTION),
    "Active in it or later": (cohorts.USERS_RETAINED_UNBOUNDED, cohorts.RETENTION_UNBOUNDED),
}
_KIND, _COUNTING = ma.Field("kind", "Periods"), ma.Field("series", "Counting")
_COHORT, _NUMBER = (
    ma.Field("cohort", "Signed up in"),
    ma.Field("period", "Periods since signup", ",d"),
)
_SHARE = ma.Field("share", "Retained", ".1%")


def retention_page(reader: ma.Reader) -> ma.Page:
    """Create the retention page."""
    return ma.Page(
        file=ma.RETENTION,
        title="Retention",
        lead="What share of the people who sign up together is active later. Period 0 starts with"
        " each person's signup. A period is shown once it has ended for the whole cohort.",
        up=(ma.HOME_LINK,),
        sections=(ma.section("Cohorts", [triangle(reader), curve(reader), sizes(reader)]),),
    )


@ma.item(
    ma.head("Retention by cohort", "Users", "Retained Share per Period", _PERIOD.name, by="Cohort")
)
def triangle(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Draw the share of each cohort that is retained in each period, with the average of all."""
    rows = [
        (kind, counting, segment, cohort, period, share)
        for kind, counting, segment, start, users, period, share in _shares(reader)
        for cohort in [_name(kind, start, users)]
    ]
    if not rows:
        return ma.Unavailable(*heading, "No cohort has completed a period.")
    found = [
        (share, start)
        for kind, counting, segment, start, users, period, share in _shares(reader)
        if (kind, counting, segment) == (_KINDS["month"], next(iter(_COUNTED)), ma.TOTAL)
        and start is not None
        and period == 1
        and users >= reader.wording.minimum_base
    ]
    finding = "No monthly cohort that is large enough to compare has completed its second period."
    if found:
        best, worst = max(found), min(found)
        finding = (
            f"In the second month, the cohort of {best[1]:%B %Y} kept most ({best[0]:.1%}) and that of"
            f" {worst[1]:%B %Y} least ({worst[0]:.1%})."
        )
    chart = ma.Chart(
        (_KIND, _COUNTING, ma.SEGMENT, _COHORT, _NUMBER, _SHARE),
        rows,
        ma.charts.heatmap(_NUMBER, _COHORT, _SHARE, most=1),
        segment=ma.SEGMENT.name,
        choices=(ma.Choice.of(_KIND, _KINDS.values()), ma.Choice.of(_COUNTING, _COUNTED)),
    )
    metrics = (cohorts.RETENTION, cohorts.RETENTION_UNBOUNDED, cohorts.USERS_IN_COHORT)
    return ma.Figure(*heading, finding, chart, ma.about(metrics, cohorts.TABLE), wide=True)


@ma.item(ma.head("Retention curve", "Users", "Retained Share per Period", _PERIOD.name))
def curve(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Plot the share of all cohorts that is retained, by periods since signup."""
    rows = [
        (kind, segment, period, counting, share)
        for kind, counting, segment, start, _, period, share in _shares(reader)
        if start is None
    ]
    if not rows:
        return ma.Unavailable(*heading, "No cohort has completed a period.")
    months = {
        period: share
        for kind, segment, period, counting, share in rows
        if (kind, segment, counting) == (_KINDS["month"], ma.TOTAL, next(iter(_COUNTED)))
    }
    finding = "; ".join(f"{months[n]:.1%} in month {n}" for n in (0, 1, 3, 6, 12) if n in months)
    colors = ma.line_colors([*_COUNTED])
    chart = ma.Chart(
        (_KIND, ma.SEGMENT, _NUMBER, _COUNTING, _SHARE),
        rows,
        ma.charts.lines(_NUMBER, _SHARE, colors, dots=True),
        series=_COUNTING.name,
        colors=colors,
        segment=ma.SEGMENT.name,
        choices=(ma.Choice.of(_KIND, _KINDS.values()),),
    )
    described = ma.about((cohorts.RETENTION, cohorts.RETENTION_UNBOUNDED), cohorts.TABLE)
    return ma.Figure(*heading, f"Active of all who signed up: {finding}.", chart, described)


@ma.item(ma.head("Cohort sizes", "Users", "in Cohort per Period", _PERIOD.name, by="Cohort"))
def sizes(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Chart the number of users in each monthly cohort."""
    rows = reader.rows(
        [cohorts.TABLE],
        f"SELECT cohort_start, {ma.SEGMENT_SQL}, {cohorts.USERS_IN_COHORT.column_name}"
        f" FROM {cohorts.TABLE.qualified_name} WHERE cohort_type = 'month' AND period_number = 0"
        " QUALIFY dense_rank() OVER (ORDER BY cohort_start DESC) <= ? ORDER BY ALL",
        [_COHORTS["month"]],
    )
    if not rows:
        return ma.Unavailable(*heading, "No users have signed up.")
    totals = [
        (f"{day:%B %Y}", users, f"{users:,}") for day, segment, users in rows if segment == ma.TOTAL
    ]
    month, users = ma.Field("day", "Month of signup", ma.DAY), ma.Field("users", "Users", ",d")
    label = {"Users": "primary"}
    chart = ma.Chart(
        (month, ma.SEGMENT, ma.SERIES, users),
        [(day, segment, "Users", count) for day, segment, count in rows],
        ma.charts.columns(month, users, label),
        day=month.name,
        series=ma.SERIES.name,
        colors=label,
        segment=ma.SEGMENT.name,
    )
    described = ma.about([cohorts.USERS_IN_COHORT], cohorts.TABLE)
    return ma.Figure(*heading, ma.ranking("users", totals), chart, described)


def _shares(reader: ma.Reader) -> list[tuple[Any, ...]]:
    """Return kind, counting, segment, cohort, its size, period and share; no cohort means all."""
    table = cohorts.TABLE.qualified_name
    parts = []
    for kind, most in _COHORTS.items():
        for counting, (retained, share) in _COUNTED.items():
            size, kept = cohorts.USERS_IN_COHORT.column_name, retained.column_name
            where = (
                f"WHERE cohort_type = '{kind}' AND {kept} IS NOT NULL AND period_number < {most}"
            )
            chosen = (
                f"'{_KINDS[kind]}' AS kind, '{counting}' AS counting, {ma.SEGMENT_SQL} AS segment"
            )
            parts += [
                f"SELECT {chosen}, NULL AS cohort, CAST(sum({size}) AS BIGINT) AS users, period_number,"
                f" sum({kept}) / sum({size}) AS share FROM {table} {where} GROUP BY ALL",
                f"SELECT {chosen}, cohort_start, {size}, period_number, {share.column_name}"
                f" FROM {table} {where}"
                f" QUALIFY dense_rank() OVER (ORDER BY cohort_start DESC) <= {most}",
            ]
    select = " UNION ALL ".join(f"({part})" for part in parts)
    order = " ORDER BY kind, counting, segment, cohort DESC NULLS FIRST, period_number"
    return reader.rows([cohorts.TABLE], select + order)


def _name(kind: str, start: object, users: int) -> str:
    if start is None:
        return _AVERAGE
    return f"{start:%b %Y} ({users:,})" if kind == _KINDS["month"] else f"{start} ({users:,})"
