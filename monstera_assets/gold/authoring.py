"""What the module of a gold table needs: `monstera_assets.authoring`, and metrics and segments."""

from __future__ import annotations

from monstera_assets.authoring import *
from monstera_assets.gold.metrics import (
    Metric,
    MetricTable,
    Unit,
    columns,
    metric_columns,
    metric_table,
    title_case,
)
from monstera_assets.gold.segments import (
    SEGMENT,
    SEGMENT_DIMENSIONS,
    TOTAL,
    counted_by_dimension,
    segment_columns,
    segment_grid,
)
from monstera_assets.gold.series import (
    active_days,
    dates,
    first_day,
    from_first_day,
    running_totals,
    totals_of_day,
    weekly_trend,
)
