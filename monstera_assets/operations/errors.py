"""The error for Dagster's state, in a separate module so that Dagster is not imported."""


class StateError(RuntimeError):
    """Raised when Dagster's state cannot be read or written."""
