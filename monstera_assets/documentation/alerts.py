"""The page of alerts: what is alarming, how urgent it is, and the thresholds."""

from __future__ import annotations

from collections.abc import Sequence

from monstera_assets.checks.rules import AlertLevel, Rule
from monstera_assets.documentation.states import thresholds
from monstera_assets.lifecycle.policy import AlertPolicy
from monstera_assets.markdown import code, page, table, text

_LEVELS = {
    AlertLevel.P0: "no data at all, or a broken integrity rule in a published table",
    AlertLevel.P1: "the input of a key metric fails",
    AlertLevel.P2: "something drifts: look at it today",
    AlertLevel.P3: "a slow trend",
}


def alerts_page(rules: Sequence[Rule]) -> str:
    """The levels, the checks of each that do not block, and the thresholds of figures."""
    reporting = sorted(
        (rule for rule in rules if not rule.blocking),
        key=lambda rule: (rule.alert_level, rule.table.name, rule.name),
    )
    blocks = [
        "A check that fails has a level. Checks that block, the contract of every table among them, are"
        " P0; a failed run is P0 too. These report and do not block:",
        table(
            ("level", "meaning"),
            ((str(level), text(meaning)) for level, meaning in _LEVELS.items()),
        ),
        "## Checks that report",
        table(
            ("level", "table", "check", "what holds if it passes"),
            (
                (
                    str(rule.alert_level),
                    code(rule.table.name),
                    code(rule.name),
                    text(rule.description),
                )
                for rule in reporting
            ),
        ),
        "## Thresholds",
        "Each can be set under `[policy.alerts]` in `monstera.toml`, or as a variable such as"
        " `MONSTERA_POLICY__ALERTS__MIN_ALERT_POPULATION`. A figure of fewer than"
        " `min_alert_population` people, events or rows passes with a note.",
        thresholds(AlertPolicy),
    ]
    return page("Alerts", "the rules of the tables and their thresholds", blocks)
