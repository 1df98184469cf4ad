"""The error of Dagster's state; apart, so that it can be named without importing Dagster."""


class StateError(RuntimeError):
    """What Dagster remembers of runs cannot be read or written; the message says what to do."""
