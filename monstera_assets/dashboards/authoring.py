"""The authoring interface for dashboard pages."""

from __future__ import annotations

from monstera_assets.dashboards.figures import *
from monstera_assets.dashboards.findings import *
from monstera_assets.dashboards.model import *
from monstera_assets.dashboards.reading import *
from monstera_assets.gold.published_ids import NONE, TOTAL
from monstera_assets.lifecycle.states import AccountState, HealthBand, ProductState, UserState
