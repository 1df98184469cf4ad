"""The error raised when a source cannot be read."""


class SourceError(ValueError):
    """A source cannot be read; the message says what is wrong, in which file, and what to do.

    Unprintable characters, which file names and headers may contain, are escaped. The message is
    therefore one line without terminal control sequences.
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
