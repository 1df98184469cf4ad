"""Errors of alerts; each message says what happened and what to do."""


class AlertStateError(RuntimeError):
    """The file of alerts cannot be read or written; nothing was told and nothing is lost."""
