"""The names that table modules import with `from monstera_assets import authoring as ma`.

Gold modules import `monstera_assets.gold.authoring`, which also provides metrics. State rules are in
`lifecycle`, and prediction models are in `prediction`.
"""

from __future__ import annotations

from monstera_assets.bronze import OWNERS as _BRONZE_OWNERS
from monstera_assets.checks.rules import (
    NOT_EVALUATED,
    AlertLevel,
    Rule,
    differing_rows,
    rule,
    within,
)
from monstera_assets.gold import OWNERS as _GOLD_OWNERS
from monstera_assets.lifecycle.expressions import Window, by_key, left_joined, materialized, ratio
from monstera_assets.lifecycle.intervals import (
    calendar,
    day_date,
    day_number,
    days_earlier,
    first_of,
    hours_between,
)
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import AccountState, ProductState, UserState
from monstera_assets.lifecycle.versions import (
    SEGMENT_DIMENSIONS,
    USER_DIMENSIONS,
    at_day,
    memberships,
    one_row_per_entity,
    user_dimensions,
    version_intervals,
)
from monstera_assets.silver import OWNERS as _SILVER_OWNERS
from monstera_assets.warehouse.common_columns import (
    ACCOUNT_ID,
    ACCOUNT_OF_USER,
    ACTIVATION_DATE,
    ACTIVITY_DATE,
    AS_OF_DATE,
    DAYS_SINCE_LAST_QUALIFYING_EVENT,
    DAYS_SINCE_SIGNUP,
    LAST_QUALIFYING_EVENT_AT,
    METRIC_DATE,
    PRODUCT,
    PRODUCT_ID,
    QUALIFYING_EVENTS,
    SNAPSHOT_DATE,
    STATE_SINCE,
    STATE_UPDATED_AT,
    STEP_NUMBER,
    TOTAL_QUALIFYING_EVENTS,
    USER_ID,
    WORKFLOW_ID,
    column_names,
    nullable,
    product_column,
    share,
)
from monstera_assets.warehouse.extras import PREDICT
from monstera_assets.warehouse.previews import Preview, distribution
from monstera_assets.warehouse.table_asset import (
    ALL_DAYS,
    LATEST_DAY,
    SAME_DAYS,
    STORED_DAYS,
    UP_TO_AS_OF,
    UP_TO_DAY,
    TableAsset,
    last_days,
    table_asset,
)
from monstera_assets.warehouse.tables import AssetGroup, Column, Layer, Reference, Table

_OWNERS = {
    Layer.BRONZE: _BRONZE_OWNERS,
    Layer.SILVER: _SILVER_OWNERS,
    Layer.GOLD: _GOLD_OWNERS,
}


def declare_table(
    name: str,
    *,
    group: AssetGroup,
    grain: str,
    description: str,
    key: tuple[str, ...],
    columns: tuple[Column, ...],
    partition_column: str | None = None,
    takes_earlier_rows: bool = False,
    extra: str | None = None,
) -> Table:
    """Return a table whose name prefix determines its layer and owners.

    Args:
        name: the table name, which starts with the layer, as in `silver_user_sessions`.
        group: the table's group in the Dagster UI.
        grain: what one row represents, such as "one user and date".
        description: the table description, which starts with the question that the table answers.
        key: the columns that identify a row.
        columns: the columns, in stored order.
        partition_column: the date column of a daily table.
        takes_earlier_rows: whether the first partition also contains rows from earlier days.
        extra: the extra of the package without which the graph does not contain the table.
    """
    layer = Layer(name.split("_", 1)[0])
    return Table(
        layer,
        name,
        grain,
        description,
        columns,
        key,
        _OWNERS[layer],
        group,
        partition_column,
        takes_earlier_rows,
        extra,
    )
