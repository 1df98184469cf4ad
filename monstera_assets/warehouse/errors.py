"""Errors of the warehouse."""


class WarehouseError(RuntimeError):
    """An operation on the warehouse failed. Its tables are unchanged."""


class WarehouseLockedError(WarehouseError):
    """Another process holds the database file's write lock."""


class SchemaMismatchError(WarehouseError):
    """The delivered or stored columns differ from the declaration of the table."""


class MissingTableError(WarehouseError):
    """A required table was never materialized."""


class MissingPartitionsError(MissingTableError):
    """Required days were never materialized."""
