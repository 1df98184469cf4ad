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
_LINES = {Predictor.MODEL: "Model", Predictor.BASELINE: "Baseline"}
_COLORS = ma.line_colors(_LINES.values())
_DECILE, _OBSERVED = ma.fields("decile/Decile by risk, 10 is highest/,d", "observed/Churned/.1%")
_GOOD_LIFT, _CLOSE = 2.0, 0.05
"""Lift from which a ranking can be trusted, and share by which percentages may differ."""
_NO_PREDICTIONS = (
    "Prediction is off because there is not enough history: a model needs"
    " policy.churn.min_training_rows past rows, and policy.churn.min_outcomes that churned and as many"
    " that did not. It switches on by itself once there are enough. To switch it on earlier, lower"
    " these settings in monstera.toml and run monstera run."
)
_PER_USER, _EVENTS = "events per user", Measure.EVENTS_PER_USER


def risk_page(reader: ma.Reader) -> ma.Page:
    """Create the risk page."""
    unusual = [
        _anomaly_series(reader, "shares", ".1%"),
        _anomaly_series(reader, _PER_USER, ",.1f"),
    ]
    return ma.Page(
        "risk.html",
        "Risk",
        "Who may leave, how far the prediction can be trusted, and days that were unusual.",
        sections=[
            ma.Section(
                "Churn risk",
                [_bands(reader, entities) for entities in _SCORES],
                "Churn: 30 days without a qualifying event for users, a lapse in 90 days for accounts.",
            ),
            ma.Section("At high risk", [_at_high_risk(reader, entities) for entities in _SCORES]),
            ma.Section("Accuracy on past dates", [_calibration(reader), _lift(reader)]),
            ma.Section("Anomalies", [*unusual, _anomaly_list(reader)]),
        ],
    )


@ma.item("{entities} by churn risk", "{entities}, Scored, Latest Day, by Risk Band")
def _bands(reader: ma.Reader, entities: str) -> ma.Item:
    table = _SCORES[entities]
    select = f"SELECT risk_band, count(*) FROM {table.name} GROUP BY ALL"
    found: dict[str | None, int] = dict(reader.rows(select))
    ma.require(found.keys() - {None}, _NO_PREDICTIONS)
    rows = [(ma.words(band), found.get(band, 0)) for band in (HIGH, MEDIUM, LOW)]
    described = ma.about(table, "risk_band", "churn_probability", "score_source")
    return ma.bars(entities.lower(), rows, described, name="Risk")


@ma.item("{entities} at high risk", "{entities}, at High Risk, Latest Day")
def _at_high_risk(reader: ma.Reader, entities: str) -> ma.Item:
    table, is_user, one = _SCORES[entities], entities == "Users", entities[:-1]
    key, command = ("user_id", "person") if is_user else ("account_id", "account")
    fields = ma.fields(
        *(f"{key}/{one}", "churn_probability/Churn risk/.0%", "reason_1/Reason 1"),
        *("reason_2/Reason 2", "reason_3/Reason 3", *(["account_id/Account"] if is_user else [])),
        "a.current_state/Account state/words",
    )
    columns = ", ".join(one.name for one in fields)
    rows = reader.rows(
        f"SELECT count(*) OVER (), {columns} FROM {table.name}"
        f" LEFT JOIN silver_account_current_state AS a USING (account_id) WHERE risk_band = '{HIGH}'"
        f" ORDER BY churn_probability DESC, {key} LIMIT {LISTED}"
    )
    if not rows:
        [(banded,)] = reader.rows(f"SELECT count(risk_band) FROM {table.name}")
        ma.require(banded, _NO_PREDICTIONS)
    ma.require(rows, f"No {entities.lower()} are at high risk.")
    count, _, highest, *_ = rows[0]
    return ma.Listing(
        f"{ma.plural(count, one.lower())} {'is' if count == 1 else 'are'} at high risk. The highest"
        f" risk is {highest:.0%}.",
        fields,
        [row[1:] for row in rows],
        ma.about(table, "churn_probability", "reason_1", "reason_2", "reason_3"),
        {"user_id": reader.people, "account_id": reader.accounts},
        f"{len(rows):,} of {count:,} shown, highest risk first. The command monstera {command} ID opens"
        " the page of any other.",
    )


@ma.item("Predicted and actual churn", "Churn, Predicted and Observed, to Date, by Decile")
def _calibration(reader: ma.Reader) -> ma.Item:
    population, rows = _deciles(reader)
    fields = (
        *(population, *ma.fields("model/Series"), _DECILE),
        *(*ma.fields("scored/Scored/,d", "predicted/Predicted/.1%"), _OBSERVED),
    )
    options = {"most": max(value for row in rows for value in row[4:])}
    columns = ("predicted_share", "observed_share", "auc", "brier_score", "top_tenth_lift")
    return ma.Figure(
        f"{_verdict(reader, rows)} On the diagonal, predictions are exact.",
        ma.Chart("points", fields, rows, _COLORS, 300, options=options),
        ma.about(evaluation.TABLE, *columns),
    )


@ma.item("Churn by risk decile", "Churn, Observed, to Date, by Decile")
def _lift(reader: ma.Reader) -> ma.Item:
    population, found = _deciles(reader)
    rows = [(name, decile, line, observed) for name, line, decile, *_, observed in found]
    return ma.Figure(
        "The steeper the line, the better the risk separates those who leave from those who stay.",
        ma.Chart(
            "lines",
            (population, _DECILE, ma.SERIES, _OBSERVED),
            rows,
            _COLORS,
            270,
            options={"dots": True},
        ),
        ma.about(evaluation.TABLE, "decile", "observed_share", "top_tenth_lift"),
    )


@ma.item("Unusual {what}", "Anomalies, Observed and Expected, Last 18 Months, by Anomaly")
def _anomaly_series(reader: ma.Reader, what: str, form: str) -> ma.Item:
    found = f"WHERE measure {'=' if what == _PER_USER else '<>'} '{_EVENTS}'"
    only = _LATEST.format(f"{found} ORDER BY place LIMIT {_CHARTED}")
    latest = reader.rows(only)
    ma.require(latest, _NO_ANOMALIES)
    columns = ["span", "measure", "scope", "segment_dimension", "segment_value", "state"]
    same = " AND ".join(f"{{0}}.{name} = {{1}}.{name}" for name in columns)
    members, daily = distribution.MEMBERS.column_name, active_daily.USERS_ACTIVE.column_name
    # A week is the sum of its amounts divided by the sum of its members, as in the table.
    rows = reader.rows(
        f"""WITH l AS ({only}), amounts AS (
            SELECT metric_date, '{Measure.STATE_SHARE}' AS measure, scope, segment_dimension,
                segment_value, state, {members} AS amount, sum({members}) OVER (
                    PARTITION BY metric_date, scope, segment_dimension, segment_value
                ) AS members
            FROM gold_state_distribution
            UNION ALL SELECT metric_date, '{Measure.ACTIVE_SHARE}', '{PLATFORM}', segment_dimension,
                segment_value, '{ma.TOTAL}', {daily}, {active_monthly.USERS_ACTIVE.column_name}
            FROM gold_users_active_daily JOIN gold_users_active_monthly
                USING (metric_date, segment_dimension, segment_value)
            UNION ALL SELECT metric_date, '{_EVENTS}', '{PLATFORM}', '{ma.TOTAL}',
                '{ma.TOTAL}', '{ma.TOTAL}', {activity.EVENTS_QUALIFYING.column_name}, {daily}
            FROM gold_activity_metrics
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
        FROM l JOIN by_span AS r ON {same.format("r", "l")}
            AND r.metric_date BETWEEN l.metric_date - {_BEFORE} AND l.metric_date + {_AFTER}
        LEFT JOIN gold_state_distribution_anomalies AS a
            ON a.metric_date = r.metric_date AND {same.format("a", "r")}
        ORDER BY l.place, r.metric_date"""
    )
    names = [f"{ma.day_text(row[1])}: {_what(row)}" for row in latest]
    fields = (
        *(ma.choice("anomaly", "Anomaly", names), ma.ON_DAY),
        *ma.fields(f"expected/Expected/{form}", f"low/Expected from/{form}"),
        *ma.fields(f"high/Expected to/{form}", f"observed/Observed/{form}"),
    )
    shown = [(names[place - 1], *row) for place, *row in rows]
    columns = ["measure", "observed", "expected", "expected_low", "expected_high", "span"]
    return ma.Figure(
        f"Latest: {names[0]}, {_text(latest[0])} The gray bar is the expected range on a day that left"
        " it.",
        ma.Chart("flagged", fields, shown, height=280),
        ma.about(anomalies.TABLE, *columns),
        wide=True,
    )


@ma.item("Anomalies", "Anomalies, Found, to Date, by Day")
def _anomaly_list(reader: ma.Reader) -> ma.Item:
    rows = reader.rows(_LATEST.format(f"ORDER BY place LIMIT {LISTED}"))
    ma.require(rows, _NO_ANOMALIES)
    count = rows[0][-1]
    shown = [
        (
            *(row[1], _what(row), _text(row).rstrip(".")),
            " to ".join(_value(row, end) for end in row[11:13]),
            *(row[8], row[13]),
        )
        for row in rows
    ]
    were = "anomaly was" if count == 1 else "anomalies were"
    return ma.Listing(
        f"{count:,} {were} found, the latest on {ma.day_text(rows[0][1])}.",
        ma.fields(
            *("day/Day/day", "what/What", "observed/Observed and expected", "range/Expected range"),
            *("severity/Severity/words", "moves/Transitions behind it"),
        ),
        shown,
        ma.about(anomalies.TABLE, "measure", "observed", "expected", "severity", "moves_behind"),
        footnote=f"The table shows the latest {LISTED} of {count:,}." if count > LISTED else "",
    )


_NO_ANOMALIES = (
    "No anomalies were found. A series is evaluated once it has enough members and about half a year of"
    " history."
)
_LATEST = """SELECT row_number() OVER (ORDER BY metric_date DESC, abs(score) DESC, span, measure, scope,
        segment_dimension, segment_value, state) AS place, metric_date, span, measure, scope,
        segment_dimension, segment_value, state, severity, observed, expected, expected_low,
        expected_high, moves_behind, count(*) OVER () AS anomalies
    FROM gold_state_distribution_anomalies {}"""


def _what(row: tuple[Any, ...]) -> str:
    _, _, span, measure, scope, dimension, value, state, *_ = row
    of = "" if scope == PLATFORM else f" ({scope})"
    week = ", in the week" if span == Span.WEEK else ""
    return f"{ma.anomaly_name(measure, dimension, value, state)}{of}{week}"


def _value(row: tuple[Any, ...], value: float) -> str:
    # The range of a share close to 0 can begin below 0.
    return format(max(value, 0), ",.1f" if row[3] == _EVENTS else ".1%")


def _text(row: tuple[Any, ...]) -> str:
    return ma.anomaly_text(row[3], row[9], row[10])


def _deciles(reader: ma.Reader) -> tuple[ma.Field, ma.Rows]:
    """Return the choice of a population, and its predicted and observed churn by decile.

    The rows contain population, predictor, decile, number of rows, predicted and observed churn.
    """
    found = reader.rows(
        "SELECT entity, predictor, decile, rows_scored, predicted_share, observed_share"
        " FROM gold_churn_model_evaluation WHERE evaluation_date IS NULL AND decile > 0"
        f" AND rows_scored > 0 AND predictor <> '{Predictor.BASE_RATE}'"
        " ORDER BY entity DESC, predictor DESC, decile"
    )
    ma.require(found, _NO_PREDICTIONS)
    rows = [(f"{entity.title()}s", _LINES[predictor], *row) for entity, predictor, *row in found]
    names = dict.fromkeys(row[0] for row in rows)
    return ma.choice("population", "Population", [*names]), rows


def _verdict(reader: ma.Reader, deciles: ma.Rows) -> str:
    """Return how far the ranking and the percentages of each published risk can be trusted."""
    highest = {row[:2]: row[4:] for row in deciles if row[2] == 10}
    sentences = []
    for entity, predictor, auc, brier, lift in reader.rows(
        "SELECT entity, predictor, auc, brier_score, top_tenth_lift FROM gold_churn_model_evaluation"
        " WHERE evaluation_date IS NULL AND decile = 0 AND is_published ORDER BY entity DESC"
    ):
        name, line = f"{entity.title()}s", _LINES.get(predictor)
        if not lift or (name, line) not in highest:
            sentences.append(f"{name}: {ma.words(predictor).lower()}, the same risk for all.")
            continue
        predicted, churned = highest[name, line]
        trust = "can be trusted" if lift >= _GOOD_LIFT else "says little"
        gap = "too high" if predicted > churned + _CLOSE else "about right"
        gap = "too low" if predicted < churned - _CLOSE else gap
        sentences.append(
            f"{name}: the ranking by the {predictor} {trust}. The decile with the highest risk"
            f" churned {lift:.1f} times as often as all. Percentages in this decile are {gap}:"
            f" {predicted:.1%} was predicted, {churned:.1%} churned (AUC {auc:.3f}, Brier {brier:.3f})."
        )
    return " ".join(sentences)
