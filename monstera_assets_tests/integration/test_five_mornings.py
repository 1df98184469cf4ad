"""Five mornings of each company of `make test-mornings`, with a short history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monstera_assets_tests.mornings.company import Company, Plan
from monstera_assets_tests.mornings.harness import Mornings
from monstera_assets_tests.mornings.plans import (
    FIVE_OF_SEATS,
    FIVE_OF_SEATS_SEED,
    FIVE_OF_SIXTY,
    FIVE_OF_SIXTY_SEED,
    FIVE_RESTATE_DAYS,
    SEATS_RESTATE_DAYS,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "seed", "restate_days"),
    [
        pytest.param(FIVE_OF_SIXTY, FIVE_OF_SIXTY_SEED, FIVE_RESTATE_DAYS, id="beyond_the_bound"),
        pytest.param(FIVE_OF_SEATS, FIVE_OF_SEATS_SEED, SEATS_RESTATE_DAYS, id="changing_seats"),
    ],
)
def test_five_mornings(tmp_path: Path, plan: Plan, seed: int, restate_days: int) -> None:
    """No run fails, alerts are those of the queries, and all tables equal those of one run."""
    settings: dict[str, Any] = {"restate_days": restate_days}
    mornings = Mornings(Company(plan, seed), tmp_path / "company", **settings).run()
    mornings.check_truth()
    mornings.check_rebuild()
    assert mornings.problems == []
