"""The one error that reading a source raises."""


class SourceError(ValueError):
    """A source cannot be read; the message names the file, what is wrong and what to do.

    Characters of the message that cannot be printed, which a file's name or a header may hold, are
    shown as escapes: it is one line, and cannot steer a terminal.
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
