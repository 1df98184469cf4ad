"""The one error that reading a source raises."""


class SourceError(ValueError):
    """A source cannot be read; the message names the file, what is wrong and what to do."""
