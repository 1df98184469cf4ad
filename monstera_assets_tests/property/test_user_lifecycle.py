"""The lifecycle of users as the tables tell it, and as the oracle works it out day by day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.lifecycle_warehouse import LifecycleWarehouse, as_dicts
from monstera_assets_tests.oracle.billing import billing_history, dunning_by_day
from monstera_assets_tests.oracle.users import Dunning, UserDay, user_history, user_transitions
from monstera_assets_tests.strategies import (
    POLICIES,
    SPAN,
    Population,
    UserCase,
    examples,
    oracle_policy,
    populations,
)
