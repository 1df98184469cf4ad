"""The one error of generating a company; apart, so that it can be named without importing NumPy."""


class GenerationError(ValueError):
    """A company cannot be generated as asked; the message says what to do."""
