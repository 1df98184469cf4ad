"""Errors of the warehouse; each message says what happened and what to do."""


class WarehouseError(RuntimeError):
    """The warehouse could not do what was asked; its tables are as they were before."""


class WarehouseLockedError(WarehouseError):
    """Another process holds the database file's write lock."""


class SchemaMismatchError(WarehouseError):
    """What an asset delivers, or what is stored, is not what the table declares."""


class MissingPartitionsError(WarehouseError):
    """Days that a result depends on were never materialized."""
