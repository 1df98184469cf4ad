"""The retention page: the share of each signup cohort that is active in later periods."""

from __future__ import annotations

from monstera_assets.dashboards import authoring as ma
from monstera_assets.gold import gold_retention_cohorts as cohorts

_COHORTS = {"month": (18, "Months (30 days)"), "week": (26, "Weeks (7 days)")}
"""Number of cohorts and periods to show, and the name of the periods."""
_COUNTED = {
    "Active in the period": (cohorts.USERS_RETAINED, cohorts.RETENTION),
    "Active in it or later": (cohorts.USERS_RETAINED_UNBOUNDED, cohorts.RETENTION_UNBOUNDED),
}
_COMPARED = 3
"""The month in which cohorts are compared."""
_MONTHS, _BRACKET = _COHORTS["month"][1], "Active in the period"
_KIND = ma.choice("kind", "Periods", [name for _, name in _COHORTS.values()])
_COHORT, _NUMBER, _SHARE = ma.fields(
    "cohort/Signed up in", "period/Month or week since signup/,d", "share/Retained/.1%"
)


def retention_page(reader: ma.Reader) -> ma.Page:
    """Create the retention page."""
    return ma.Page(
        "retention.html",
        "Retention",
        "What share of the people who sign up together is active later. Month 0 starts with each"
        " person's signup. A month is shown once it has ended for the whole cohort. The average leaves"
        " out months that too few users have completed.",
        sections=[ma.Section("Cohorts", [_triangle(reader), _curve(reader)])],
    )


@ma.item("Retention by cohort", "Users, Retained Share per Period, Last 18 Months, by Cohort")
def _triangle(reader: ma.Reader) -> ma.Item:
    found = _shares(reader)
    rows = [
        (kind, counting, segment, _name(kind, start, users), period, share)
        for kind, counting, segment, start, users, period, share in found
    ]
    known = [
        (share, start)
        for *shown, start, users, period, share in found
        if shown == [_MONTHS, _BRACKET, ma.TOTAL]
        and (start and period == _COMPARED and users >= reader.wording.minimum_base)
    ]
    finding = f"No monthly cohort that is large enough to compare has completed month {_COMPARED}."
    if known:
        (best, first), (worst, second) = max(known), min(known)
        finding = (
            f"In month {_COMPARED}, the cohort of {first:%B %Y} kept most ({best:.1%}) and that of"
            f" {second:%B %Y} least ({worst:.1%})."
        )
    counting = ma.choice("series", "Counting", [*_COUNTED])
    fields = (_KIND, counting, ma.SEGMENT, _COHORT, _NUMBER, _SHARE)
    metrics = (cohorts.RETENTION, cohorts.RETENTION_UNBOUNDED, cohorts.USERS_IN_COHORT)
    chart = ma.Chart("heatmap", fields, rows, options={"most": 1})
    return ma.Figure(finding, chart, ma.about(cohorts.TABLE, *metrics), wide=True)


@ma.item("Retention curve", "Users, Retained Share per Period, Last 18 Months")
def _curve(reader: ma.Reader) -> ma.Item:
    rows = [
        (kind, segment, period, counting, share)
        for kind, counting, segment, start, _, period, share in _shares(reader)
        if start is None
    ]
    ma.require(rows, "Too few users have completed a period for a reliable average.")
    months = {
        period: share
        for kind, segment, period, counting, share in rows
        if (kind, segment, counting) == (_MONTHS, ma.TOTAL, _BRACKET)
    }
    finding = "; ".join(f"{months[n]:.1%} in month {n}" for n in (0, 1, 3, 6, 12) if n in months)
    counting = ma.Field("series", "Counting")
    fields = (_KIND, ma.SEGMENT, _NUMBER, counting, _SHARE)
    return ma.Figure(
        f"Active of all who signed up: {finding}.",
        ma.Chart("lines", fields, rows, ma.line_colors(_COUNTED), options={"dots": True}),
        ma.about(cohorts.TABLE, cohorts.RETENTION, cohorts.RETENTION_UNBOUNDED),
    )


def _shares(reader: ma.Reader) -> ma.Rows:
    """Return kind, counting, segment, cohort (None for all), its size, period and share."""
    size, parts = cohorts.USERS_IN_COHORT.column_name, []
    for kind, (most, name) in _COHORTS.items():
        for counting, (retained, rate) in _COUNTED.items():
            kept = retained.column_name
            chosen = (
                f"SELECT '{name}' AS kind, '{counting}' AS counting, {ma.SEGMENT_SQL} AS segment"
            )
            within = (
                f"FROM gold_retention_cohorts WHERE cohort_type = '{kind}' AND {kept} IS NOT NULL"
                f" AND period_number < {most}"
            )
            parts += [
                f"{chosen}, NULL AS cohort, CAST(sum({size}) AS BIGINT) AS users, period_number,"
                f" sum({kept}) / sum({size}) AS share {within} GROUP BY ALL"
                f" HAVING users >= {reader.wording.minimum_base}",
                f"{chosen}, cohort_start, {size}, period_number, {rate.column_name} {within}"
                f" QUALIFY dense_rank() OVER (ORDER BY cohort_start DESC) <= {most}",
            ]
    select = " UNION ALL ".join(f"({part})" for part in parts)
    order = " ORDER BY kind, counting, segment, cohort DESC NULLS FIRST, period_number"
    rows = reader.rows(select + order)
    ma.require(rows, "No cohort has completed a period.")
    return rows


def _name(kind: str, start: object, users: int) -> str:
    if start is None:
        return "All cohorts (average)"
    return f"{start:%b %Y} ({users:,})" if kind == _MONTHS else f"{start} ({users:,})"
