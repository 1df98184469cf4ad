"""The error for problems with Dagster's state. This module does not import Dagster."""


class StateError(RuntimeError):
    """Dagster's state cannot be read or written."""
