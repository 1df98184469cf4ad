"""Define columns shared by several tables."""

from __future__ import annotations

from collections.abc import Iterable

from monstera_assets.warehouse.tables import Column, Reference


def nullable(name: str, dtype: str, description: str) -> Column:
    """Return a nullable column. The description must specify when the value is null."""
    return Column(name, dtype, description, nullable=True)


def share(name: str, description: str) -> Column:
    """Return a column that contains a share, which is null if the whole is 0."""
    return Column(name, "float64", description, nullable=True, is_share=True)


def product_column(name: str, description: str, *, nullable: bool = False) -> Column:
    """Return a column that contains the id of a product, feature or sub-feature."""
    return Column(name, "string", description, nullable=nullable, references=PRODUCT)


def column_names(columns: Iterable[Column]) -> list[str]:
    """Return the column names in order."""
    return [column.name for column in columns]


PRODUCT = Reference("bronze_product_catalog", "product_id")
"""A reference to a product, feature or sub-feature in the catalog."""

ACCOUNT = Reference("bronze_accounts", "account_id")

USER_ID = Column(
    "user_id", "string", "The user's id.", references=Reference("bronze_users", "user_id")
)
ACCOUNT_ID = Column("account_id", "string", "The account's id.", references=ACCOUNT)
ACCOUNT_OF_USER = Column("account_id", "string", "The user's account id.", references=ACCOUNT)
PRODUCT_ID = product_column("product_id", "The product's id.")
ACTIVITY_DATE = Column("activity_date", "date", "Local date of the events.")
SNAPSHOT_DATE = Column("snapshot_date", "date", "Local day. Values are as of the end of the day.")
METRIC_DATE = Column("metric_date", "date", "Local day. Values are as of the end of the day.")
AS_OF_DATE = Column("as_of_date", "date", "Latest date for which history exists.")
STATE_SINCE = Column("state_since", "date", "First day of the uninterrupted period in this state.")
STATE_UPDATED_AT = Column("state_updated_at", "timestamp", "End of the as-of date in UTC.")
QUALIFYING_EVENTS = Column("qualifying_events", "int64", "Number of qualifying events.")
TOTAL_QUALIFYING_EVENTS = Column(
    "total_qualifying_events", "int64", "Number of qualifying events through the end of the day."
)
LAST_QUALIFYING_EVENT_AT = nullable(
    "last_qualifying_event_at",
    "timestamp",
    "Time of the last qualifying event in UTC, or null if there is none.",
)
ACTIVATION_DATE = nullable(
    "activation_date", "date", "Date of the first activation event, or null if there is none."
)
DAYS_SINCE_SIGNUP = Column("days_since_signup", "int64", "Days since signup.")
DAYS_SINCE_LAST_QUALIFYING_EVENT = nullable(
    "days_since_last_qualifying_event",
    "int64",
    "Days since the last qualifying event, or null if there is none.",
)
WORKFLOW_ID = Column("workflow_id", "string", "The workflow's id.")
STEP_NUMBER = Column("step_number", "int64", "The step's number.")
REJECTED_ROW = (
    Column(
        "rejection_reason",
        "string",
        "The first rule that the row breaks. superseded if another row replaces the row, or merged if"
        " the row's id is an alias of a user.",
    ),
    nullable(
        "rejection_detail",
        "string",
        "If the row refers to a rejected user or account, the reason for that rejection. If the row"
        " contains an unknown id, a known id that differs only in case, surrounding spaces or a"
        " trailing .0. Otherwise, null.",
    ),
    Column("source_file", "string", "File path relative to the source folder."),
    Column("raw_row", "string", "The row as JSON, or the raw line if the row cannot be parsed."),
)
