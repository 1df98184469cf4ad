"""Sixty mornings of one company, and 200 of another, whose accounts change seats."""

from __future__ import annotations

from pathlib import Path

import pytest

from monstera_assets_tests.mornings.company import Company
from monstera_assets_tests.mornings.harness import Mornings
from monstera_assets_tests.mornings.plans import (
    SEATS,
    SEATS_RESTATE_DAYS,
    SEATS_SEED,
    SIXTY,
    SIXTY_SEED,
)

pytestmark = pytest.mark.mornings

RAISED = {
    *("churn_rate_is_steady", "dormancy_rate_is_steady", "reactivation_rate_is_steady"),
    *("activation_rate_is_steady", "dunning_is_recovered", "volume_is_as_expected"),
    "state_shares_are_steady",
}
"""The alerts of rates that the incidents of the first company must raise on some morning."""


def test_sixty_mornings(tmp_path: Path) -> None:
    mornings = Mornings(Company(SIXTY, SIXTY_SEED), tmp_path / "company").run()
    mornings.check_truth()
    mornings.check_rebuild()
    assert mornings.problems == []
    raised = {check.name.split(".")[1] for one in mornings.mornings for check in one.failing}
    assert raised >= RAISED


def test_two_hundred_mornings_of_changing_seats(tmp_path: Path) -> None:
    company = Company(SEATS, SEATS_SEED)
    mornings = Mornings(company, tmp_path / "company", restate_days=SEATS_RESTATE_DAYS).run()
    mornings.check_truth()
    mornings.check_rebuild()
    assert mornings.problems == []
