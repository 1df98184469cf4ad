"""Columns that several tables have, each declared once."""

from __future__ import annotations

from monstera_assets.warehouse.tables import Column, Reference

PRODUCT = Reference("bronze_product_catalog", "product_id")
"""A product, feature or sub-feature of the catalog."""

USER_ID = Column("user_id", "string", "The user.", references=Reference("bronze_users", "user_id"))
ACCOUNT_ID = Column(
    "account_id", "string", "The account.", references=Reference("bronze_accounts", "account_id")
)
ACCOUNT_OF_USER = Column(
    "account_id",
    "string",
    "The user's account.",
    references=Reference("bronze_accounts", "account_id"),
)
PRODUCT_ID = Column("product_id", "string", "The product.", references=PRODUCT)
ACTIVITY_DATE = Column("activity_date", "date", "UTC date of the events.")
SNAPSHOT_DATE = Column("snapshot_date", "date", "The day whose end is described.")
METRIC_DATE = Column("metric_date", "date", "The day whose end is described.")
AS_OF_DATE = Column("as_of_date", "date", "The latest date for which history exists.")
STATE_UPDATED_AT = Column("state_updated_at", "timestamp", "End of the as-of date, UTC.")
WORKFLOW_ID = Column("workflow_id", "string", "The workflow.")
STEP_NUMBER = Column("step_number", "int64", "The step.")
REJECTED_ROW = (
    Column("rejection_reason", "string", "The first rule that the row breaks."),
    Column("source_file", "string", "File, relative to the source folder."),
    Column("raw_row", "string", "The row as JSON, or its line if it is no row at all."),
)


def product_column(name: str, description: str, *, nullable: bool = False) -> Column:
    """A column that names a product, feature or sub-feature."""
    return Column(name, "string", description, nullable=nullable, references=PRODUCT)
