"""The generator's error, in a separate module so that the error can be imported without NumPy."""


class GenerationError(ValueError):
    """A company cannot be generated with the given arguments."""
