"""The error of Dagster's state, importable without Dagster."""


class StateError(RuntimeError):
    """Dagster's state cannot be read or written."""
