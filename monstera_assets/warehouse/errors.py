"""Warehouse errors."""


class WarehouseError(RuntimeError):
    """A warehouse operation failed. The tables are unchanged."""


class WarehouseLockedError(WarehouseError):
    """Another process holds the database file's write lock."""


class SchemaMismatchError(WarehouseError):
    """The returned or stored columns differ from the table's declaration."""


class MissingTableError(WarehouseError):
    """A required table was never materialized."""


class MissingPartitionsError(MissingTableError):
    """Required days were never materialized."""


class ConflictingWriteError(WarehouseError):
    """Another run replaced the same table or days since this run began."""


class UnknownOutcomeError(WarehouseError):
    """The connection was lost during a commit, which may or may not have been applied."""
