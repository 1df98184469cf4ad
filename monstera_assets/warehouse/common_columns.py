"""Columns that several tables have, each declared once."""

from __future__ import annotations

from collections.abc import Iterable

from monstera_assets.warehouse.tables import Column, Reference


def nullable(name: str, dtype: str, description: str) -> Column:
    """A column that can be null; its description says when."""
    return Column(name, dtype, description, nullable=True)


def product_column(name: str, description: str, *, nullable: bool = False) -> Column:
    """A column that names a product, feature or sub-feature."""
    return Column(name, "string", description, nullable=nullable, references=PRODUCT)


def column_names(columns: Iterable[Column]) -> list[str]:
    """The names of columns, in their order."""
    return [column.name for column in columns]


PRODUCT = Reference("bronze_product_catalog", "product_id")
"""A product, feature or sub-feature of the catalog."""

ACCOUNT = Reference("bronze_accounts", "account_id")

USER_ID = Column("user_id", "string", "The user.", references=Reference("bronze_users", "user_id"))
ACCOUNT_ID = Column("account_id", "string", "The account.", references=ACCOUNT)
ACCOUNT_OF_USER = Column("account_id", "string", "The user's account.", references=ACCOUNT)
PRODUCT_ID = product_column("product_id", "The product.")
ACTIVITY_DATE = Column("activity_date", "date", "UTC date of the events.")
SNAPSHOT_DATE = Column("snapshot_date", "date", "The day whose end is described.")
METRIC_DATE = Column("metric_date", "date", "The day whose end is described.")
AS_OF_DATE = Column("as_of_date", "date", "The latest date for which history exists.")
STATE_SINCE = Column("state_since", "date", "First date of the unbroken run of this state.")
STATE_UPDATED_AT = Column("state_updated_at", "timestamp", "End of the as-of date, UTC.")
QUALIFYING_EVENTS = Column("qualifying_events", "int64", "Number of qualifying events.")
TOTAL_QUALIFYING_EVENTS = Column(
    "total_qualifying_events", "int64", "Qualifying events up to the day described."
)
LAST_QUALIFYING_EVENT_AT = nullable(
    "last_qualifying_event_at", "timestamp", "Last qualifying event, UTC; null if there was none."
)
ACTIVATION_DATE = nullable(
    "activation_date", "date", "Date of the first activation event; null if there was none."
)
DAYS_SINCE_SIGNUP = Column("days_since_signup", "int64", "Days from signup to the day described.")
DAYS_SINCE_LAST_QUALIFYING_EVENT = nullable(
    "days_since_last_qualifying_event",
    "int64",
    "Days from the last qualifying event to the day described; null if there was none.",
)
WORKFLOW_ID = Column("workflow_id", "string", "The workflow.")
STEP_NUMBER = Column("step_number", "int64", "The step.")
REJECTED_ROW = (
    Column("rejection_reason", "string", "The first rule that the row breaks."),
    Column("source_file", "string", "File, relative to the source folder."),
    Column("raw_row", "string", "The row as JSON, or its line if it is no row at all."),
)
