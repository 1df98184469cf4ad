"""The error raised by the generator, in its own module so that it can be imported without NumPy."""


class GenerationError(ValueError):
    """A company cannot be generated with the given arguments."""
