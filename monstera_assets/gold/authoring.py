"""The authoring interface for gold tables: `monstera_assets.authoring`, metrics and segments."""

from __future__ import annotations

from monstera_assets.authoring import *
from monstera_assets.gold.metrics import (
    Additivity,
    DistinctUsers,
    Metric,
    MetricTable,
    Proportion,
    Slice,
    Unit,
    columns,
    counted_by_state,
    metric_columns,
    metric_table,
    proportion,
    title_case,
    zero_filled,
)
from monstera_assets.gold.published_ids import NONE, TOTAL, published_ids
from monstera_assets.gold.segments import (
    SEGMENT,
    counted_by_dimension,
    segment_columns,
    segment_grid,
    segment_slices,
)
from monstera_assets.gold.series import (
    active_days,
    dates,
    first_day,
    from_first_day,
    range_first_day,
    running_totals,
    sums,
    totals_of_day,
    totals_of_last_days,
    weekly_trend,
)
