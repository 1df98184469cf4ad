"""Alert errors."""


class AlertStateError(RuntimeError):
    """The alert file cannot be read or written. No alert was sent or lost."""
