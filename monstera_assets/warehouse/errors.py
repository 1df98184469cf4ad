"""Errors of the warehouse; each message says what happened and what to do."""


class WarehouseError(RuntimeError):
    """The warehouse could not do what was asked; its tables are as they were before."""


class WarehouseLockedError(WarehouseError):
    """Another process holds the database file's write lock."""


class SchemaMismatchError(WarehouseError):
    """What an asset delivers, or what is stored, is not what the table declares."""


class MissingTableError(WarehouseError):
    """A table that a result depends on was never materialized."""


class MissingPartitionsError(MissingTableError):
    """Days that a result depends on were never materialized."""
