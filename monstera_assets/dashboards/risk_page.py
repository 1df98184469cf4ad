"""The risk page: who may leave, how accurate that prediction is, and unusual days."""

from __future__ import annotations

from typing import Any

from monstera_assets.dashboards import authoring as ma
from monstera_assets.gold import gold_account_churn_scores as account_scores
from monstera_assets.gold import gold_activity_metrics as activity
from monstera_assets.gold import gold_churn_model_evaluation as evaluation
from monstera_assets.gold import gold_state_distribution as distribution
from monstera_assets.gold import gold_state_distribution_anomalies as anomalies
from monstera_assets.gold import gold_user_churn_scores as user_scores
from monstera_assets.gold import gold_users_active_daily as active_daily
from monstera_assets.gold import gold_users_active_monthly as active_monthly
from monstera_assets.gold.anomaly_series import Measure
from monstera_assets.gold.churn_risk import HIGH, LOW, MEDIUM
from monstera_assets.gold.gold_state_transition_metrics import PLATFORM
from monstera_assets.prediction.churn_prediction import Predictor
from monstera_assets.prediction.expected_range import DAYS_OF, Span

LISTED = 200
"""Maximum number of rows in each list."""
_CHARTED = 12
_BEFORE, _AFTER = 90, 30
"""Number of days to show before and after an anomaly."""
_SCORES = {"Users": user_scores.TABLE, "Accounts": account_scores.TABLE}
_POPULATIONS = {"user": "Users", "account": "Accounts"}
_OUTCOMES = {
    "Users": "users stay without a qualifying event for 30 days",
    "Accounts": "accounts lapse within 90 days",
}
_LINES = {Predictor.MODEL: "Model", Predictor.BASELINE: "Baseline"}
_COLORS = ma.line_colors([*_LINES.values()])
_POPULATION = ma.Field("population", "Population")
_TENTH = ma.Field("tenth", "Tenth by risk, 10 is the highest", ",d")
_PREDICTED, _OBSERVED = (
    ma.Field("predicted", "Predicted", ".1%"),
    ma.Field("observed", "Churned", ".1%"),
)
_SCORED = ma.Field("scored", "Scored", ",d")
_ANOMALY = ma.Field("anomaly", "Anomaly")
_PER_USER = "events per user"
_EVENTS = Measure.EVENTS_PER_USER


def risk_page(reader: ma.Reader) -> ma.Page:
    """Create the risk page."""
    return ma.Page(
        file=ma.RISK,
        title="Risk",
        lead="Who may leave, how far the prediction can be trusted, and days that were unusual.",
        up=(ma.HOME_LINK,),
        sections=(
            ma.section("Churn risk", [bands(reader, entities) for entities in _SCORES]),
            ma.section("At high risk", [at_high_risk(reader, entities) for entities in _SCORES]),
            ma.section("Accuracy on past dates", [calibration(reader), tenths(reader)]),
            ma.section("Anomalies", [*anomaly_charts(reader), anomaly_list(reader)]),
        ),
    )


@ma.item(
    lambda entities: ma.head(
        f"{entities} by churn risk", entities, "Scored", ma.LATEST_DAY.name, by="Risk Band"
    )
)
def bands(heading: ma.Head, reader: ma.Reader, entities: str) -> ma.Item:
    """Chart users or accounts by risk band."""
    table = _SCORES[entities]
    found = dict(
        reader.rows([table], f"SELECT risk_band, count(*) FROM {table.qualified_name} GROUP BY ALL")
    )
    if not found.keys() - {None}:
        return ma.Unavailable(*heading, _no_predictions(reader, entities))
    rows = [(ma.words(band), found.get(band, 0)) for band in (HIGH, MEDIUM, LOW)]
    described = ma.about_columns(table, ["risk_band", "churn_probability", "score_source"])
    return ma.bars(heading, entities.lower(), rows, described, name="Risk", whole=True)


@ma.item(
    lambda entities: ma.head(
        f"{entities} at high risk", entities, "at High Risk", ma.LATEST_DAY.name, by=entities[:-1]
    )
)
def at_high_risk(heading: ma.Head, reader: ma.Reader, entities: str) -> ma.Item:
    """List the users or accounts at high risk with the reasons, highest risk first."""
    table, is_user = _SCORES[entities], entities == "Users"
    key = "user_id" if is_user else "account_id"
    columns = {
        key: ma.Field("id", entities[:-1]),
        "churn_probability": ma.Field("risk", "Churn risk", ".0%"),
        **{f"reason_{n}": ma.Field(f"reason_{n}", f"Reason {n}") for n in (1, 2, 3)},
        **({"account_id": ma.Field("account", "Account")} if is_user else {}),
    }
    rows = reader.rows(
        [table],
        f"SELECT {', '.join(columns)}, count(*) OVER () FROM {table.qualified_name} WHERE risk_band = ?"
        f" ORDER BY churn_probability DESC, {key} LIMIT ?",
        [HIGH, LISTED],
    )
    if not rows:
        [(banded,)] = reader.rows([table], f"SELECT count(risk_band) FROM {table.qualified_name}")
        none = f"No {entities.lower()} are at high risk."
        return ma.Unavailable(*heading, none if banded else _no_predictions(reader, entities))
    links = {"id": reader.people if is_user else reader.accounts, "account": reader.accounts}
    count, command = rows[0][-1], "person" if is_user else "account"
    are = f"{ma.plural(count, entities[:-1].lower())} {'is' if count == 1 else 'are'} at high risk."
    return ma.listing(
        heading,
        f"{are} The highest risk is {rows[0][1]:.0%}.",
        [*columns.values()],
        [row[:-1] for row in rows],
        ma.about_columns(table, ["churn_probability", "reason_1", "reason_2", "reason_3"]),
        links=links,
        footnote=f"The table shows the {LISTED} with the highest risk out of {count:,}. The command"
        f" monstera {command} ID opens the page of each one."
        if count > LISTED
        else "",
    )


@ma.item(
    ma.head("Predicted and actual churn", "Churn", "Predicted and Observed", "to Date", by="Tenth")
)
def calibration(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Plot the predicted against the observed churn of each tenth of the scores."""
    rows = _tenths(reader)
    if not rows:
        return ma.Unavailable(*heading, _no_predictions(reader))
    most = max(value for *_, predicted, observed in rows for value in (predicted, observed))
    chart = ma.Chart(
        (_POPULATION, ma.SERIES, _TENTH, _SCORED, _PREDICTED, _OBSERVED),
        rows,
        ma.charts.points(_PREDICTED, _OBSERVED, _SCORED, _COLORS, most),
        choices=(ma.Choice.of(_POPULATION, dict.fromkeys(row[0] for row in rows)),),
        height=300,
    )
    finding = " ".join(
        f"{population}: the {published} is published."
        + "".join(
            f" {name}: AUC {auc:.3f}, Brier score {brier:.3f}."
            for name, (auc, brier, _) in scores.items()
            if auc is not None
        )
        for population, (published, scores) in _overall(reader).items()
    )
    described = ma.about_columns(
        evaluation.TABLE,
        ["predicted_share", "observed_share", "auc", "brier_score", "is_published"],
    )
    return ma.Figure(
        *heading, f"{finding} On the diagonal, predictions are exact.", chart, described
    )


@ma.item(ma.head("Churn by tenth of the risk", "Churn", "Observed", "to Date", by="Tenth"))
def tenths(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Plot the observed churn of each tenth of the scores and the lift over the average."""
    found = _tenths(reader)
    if not found:
        return ma.Unavailable(*heading, _no_predictions(reader))
    rows = [(population, tenth, name, observed) for population, name, tenth, *_, observed in found]
    chart = ma.Chart(
        (_POPULATION, _TENTH, ma.SERIES, _OBSERVED),
        rows,
        ma.charts.lines(_TENTH, _OBSERVED, _COLORS, dots=True),
        series=ma.SERIES.name,
        colors=_COLORS,
        choices=(ma.Choice.of(_POPULATION, dict.fromkeys(row[0] for row in rows)),),
        height=270,
    )
    lifts = {
        population: [
            f"{lift:.1f} times by the {name.lower()}" for name, (*_, lift) in scores.items() if lift
        ]
        for population, (_, scores) in _overall(reader).items()
    }
    finding = " ".join(
        f"{population}: in the tenth with the highest risk, the share who churned was"
        f" {' and '.join(shown)} the share of all."
        for population, shown in lifts.items()
        if shown
    )
    described = ma.about_columns(evaluation.TABLE, ["decile", "observed_share", "top_tenth_lift"])
    return ma.Figure(
        *heading, finding or "No one churned on the evaluated dates.", chart, described
    )


def anomaly_charts(reader: ma.Reader) -> list[ma.Item]:
    """Return figures for the latest anomalies of shares and, if any, of events per user."""
    shown = [anomaly_series(reader, "shares", ".1%"), anomaly_series(reader, _PER_USER, ",.1f")]
    return [one for one in shown if one is shown[0] or isinstance(one, ma.Figure)]


@ma.item(
    lambda what: ma.head(
        f"Unusual {what}",
        "Anomalies",
        "Observed and Expected",
        ma.LAST_18_MONTHS.name,
        by="Anomaly",
    )
)
def anomaly_series(heading: ma.Head, reader: ma.Reader, what: str, form: str) -> ma.Item:
    """Plot the series of the latest anomalies, with the expected range on unusual days.

    `what` names shares or events per user, whose values have the format `form`.
    """
    only = _LATEST.format(f"WHERE measure {'=' if what == _PER_USER else '<>'} '{_EVENTS}'")
    latest = reader.rows([anomalies.TABLE], only, [_CHARTED])
    if not latest:
        return ma.Unavailable(*heading, _NO_ANOMALIES)
    columns = ["span", "measure", "scope", "segment_dimension", "segment_value", "state"]
    same = " AND ".join(f"{{0}}.{name} = {{1}}.{name}" for name in columns)
    members, daily = distribution.MEMBERS.column_name, active_daily.USERS_ACTIVE.column_name
    days = f"BETWEEN l.metric_date - {_BEFORE} AND l.metric_date + {_AFTER}"
    # A week is the sum of its amounts divided by the sum of its members, as in the table.
    rows = reader.rows(
        [one.TABLE for one in (anomalies, distribution, active_daily, active_monthly, activity)],
        f"""
        WITH l AS ({only}), amounts AS (
            SELECT metric_date, '{Measure.STATE_SHARE}' AS measure, scope, segment_dimension,
                segment_value, state, {members} AS amount, sum({members}) OVER (
                    PARTITION BY metric_date, scope, segment_dimension, segment_value
                ) AS members
            FROM {distribution.TABLE.qualified_name}
            UNION ALL SELECT metric_date, '{Measure.ACTIVE_SHARE}', '{PLATFORM}', segment_dimension,
                segment_value, '{ma.TOTAL}', {daily}, {active_monthly.USERS_ACTIVE.column_name}
            FROM {active_daily.TABLE.qualified_name} JOIN {active_monthly.TABLE.qualified_name}
                USING (metric_date, segment_dimension, segment_value)
            UNION ALL SELECT metric_date, '{_EVENTS}', '{PLATFORM}', '{ma.TOTAL}',
                '{ma.TOTAL}', '{ma.TOTAL}', {activity.EVENTS_QUALIFYING.column_name}, {daily}
            FROM {activity.TABLE.qualified_name}
            WHERE {" AND ".join(f"{name} = '{ma.TOTAL}'" for name in activity.WHAT)}
        ), by_span AS (
            SELECT '{Span.DAY}' AS span, *, amount / nullif(members, 0) AS observed FROM amounts
            UNION ALL SELECT '{Span.WEEK}', *, sum(amount) OVER week / nullif(sum(members) OVER week, 0)
            FROM amounts WINDOW week AS (
                PARTITION BY measure, scope, segment_dimension, segment_value, state
                ORDER BY metric_date
                RANGE BETWEEN INTERVAL {DAYS_OF[Span.WEEK] - 1} DAYS PRECEDING AND CURRENT ROW
            )
        )
        SELECT l.place, r.metric_date, a.expected, a.expected_low, a.expected_high, r.observed
        FROM l JOIN by_span AS r ON {same.format("r", "l")} AND r.metric_date {days}
        LEFT JOIN {anomalies.TABLE.qualified_name} AS a
            ON a.metric_date = r.metric_date AND {same.format("a", "r")}
        ORDER BY l.place, r.metric_date
        """,
        [_CHARTED],
    )
    names = [_name(row) for row in latest]
    titles = {"expected": "Expected", "low": "Expected from", "high": "Expected to"}
    expected = [ma.Field(name, title, form) for name, title in titles.items()]
    observed = ma.Field("observed", "Observed", form)
    chart = ma.Chart(
        (_ANOMALY, ma.ON_DAY, *expected, observed),
        [(names[place - 1], *row) for place, *row in rows],
        ma.charts.flagged(ma.ON_DAY, observed, expected),
        day=ma.ON_DAY.name,
        choices=(ma.Choice.of(_ANOMALY, names),),
        height=280,
    )
    finding = (
        f"Latest: {names[0]}, {_text(latest[0])} The gray bar is the expected range on a day that left"
        " it."
    )
    described = ma.about_columns(
        anomalies.TABLE,
        ["measure", "observed", "expected", "expected_low", "expected_high", "span"],
    )
    return ma.Figure(*heading, finding, chart, described, wide=True)


@ma.item(ma.head("Anomalies", "Anomalies", "Found", "to Date", by="Day"))
def anomaly_list(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """List the anomalies, latest first."""
    rows = reader.rows([anomalies.TABLE], _LATEST.format(""), [LISTED])
    if not rows:
        return ma.Unavailable(*heading, _NO_ANOMALIES)
    count = rows[0][-1]
    severe = sum(row[8] == anomalies.Severity.HIGH for row in rows)
    titles = (
        "What",
        "Observed and expected",
        "Expected range",
        "Severity",
        "Transitions behind it",
    )
    shown = [
        (
            *(row[1], _what(row), _text(row).rstrip(".")),
            " to ".join(_value(row, end) for end in (row[11], row[12])),
            *(ma.words(row[8]), row[13]),
        )
        for row in rows
    ]
    were = "anomaly was" if count == 1 else "anomalies were"
    finding = f"{count:,} {were} found, the latest on {ma.day_text(rows[0][1])}."
    if severe:
        finding += f" {severe:,} of those shown {'has' if severe == 1 else 'have'} a high severity."
    columns = ["measure", "observed", "expected", "severity", "moves_behind"]
    return ma.listing(
        heading,
        finding,
        [ma.ON_DAY, *(ma.Field(title, title) for title in titles)],
        shown,
        ma.about_columns(anomalies.TABLE, columns),
        footnote=f"The table shows the latest {LISTED} of {count:,}." if count > LISTED else "",
    )


_NO_ANOMALIES = (
    "No anomalies were found. A series is evaluated once it has enough members and about half a year of"
    " history."
)
_LATEST = f"""
    SELECT row_number() OVER (ORDER BY metric_date DESC, abs(score) DESC, span, measure, scope,
        segment_dimension, segment_value, state) AS place, metric_date, span, measure, scope,
        segment_dimension, segment_value, state, severity, observed, expected, expected_low,
        expected_high, moves_behind,
        count(*) OVER () AS anomalies
    FROM {anomalies.TABLE.qualified_name} {{}} ORDER BY place LIMIT ?
"""


def _what(row: tuple[Any, ...]) -> str:
    _, _, span, measure, scope, dimension, value, state, *_ = row
    of = "" if scope == PLATFORM else f" ({scope})"
    week = ", in the week" if span == Span.WEEK else ""
    return f"{ma.anomaly_name(measure, dimension, value, state)}{of}{week}"


def _name(row: tuple[Any, ...]) -> str:
    return f"{ma.day_text(row[1])}: {_what(row)}"


def _value(row: tuple[Any, ...], value: float) -> str:
    # The range of a share close to 0 can begin below 0.
    return format(max(value, 0), ",.1f" if row[3] == _EVENTS else ".1%")


def _text(row: tuple[Any, ...]) -> str:
    return ma.anomaly_text(row[3], row[9], row[10])


def _tenths(reader: ma.Reader) -> list[tuple[Any, ...]]:
    """Return each population, predictor and tenth with its predicted and observed churn."""
    rows = reader.rows(
        [evaluation.TABLE],
        "SELECT entity, predictor, decile, rows_scored, predicted_share, observed_share"
        f" FROM {evaluation.TABLE.qualified_name} WHERE evaluation_date IS NULL AND decile > 0"
        " AND rows_scored > 0 AND predictor <> ? ORDER BY entity DESC, predictor DESC, decile",
        [str(Predictor.BASE_RATE)],
    )
    return [(_POPULATIONS[entity], _LINES[predictor], *row) for entity, predictor, *row in rows]


def _overall(reader: ma.Reader) -> dict[str, tuple[str, dict[str, tuple[Any, ...]]]]:
    """Return each population's published predictor, and the AUC, Brier score and lift of each one."""
    found: dict[str, tuple[str, dict[str, tuple[Any, ...]]]] = {}
    for entity, predictor, is_published, *scores in reader.rows(
        [evaluation.TABLE],
        f"SELECT entity, predictor, is_published, auc, brier_score, top_tenth_lift"
        f" FROM {evaluation.TABLE.qualified_name} WHERE evaluation_date IS NULL AND decile = 0"
        " ORDER BY entity DESC, predictor DESC",
    ):
        published, lines = found.get(_POPULATIONS[entity], ("", {}))
        if predictor in _LINES:
            lines[_LINES[predictor]] = tuple(scores)
        name = ma.words(predictor).lower() if is_published else published
        found[_POPULATIONS[entity]] = (name, lines)
    return found


def _no_predictions(reader: ma.Reader, entities: str = "") -> str:
    """Return why there are no predictions, and which settings switch them on."""
    of = f" for {entities.lower()}" if entities else ""
    return (
        f"Prediction{of} is off because there is not enough history: a model needs"
        " policy.churn.min_training_rows past rows, and policy.churn.min_outcomes that churned and as"
        " many that did not. It switches on by itself once there are enough. To switch it on earlier,"
        " lower these settings in monstera.toml and run monstera run."
    )
