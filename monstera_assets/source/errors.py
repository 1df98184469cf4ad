"""The error that is raised when a source cannot be read."""


class SourceError(ValueError):
    """A source cannot be read. The message describes the problem, the file and the solution.

    Unprintable characters in file names and headers are escaped, so the message is a single line
    without terminal control sequences.
    """

    def __init__(self, message: str) -> None:
        super().__init__(
            "".join(
                character
                if character.isprintable()
                else character.encode("unicode_escape").decode("ascii")
                for character in message
            )
        )
