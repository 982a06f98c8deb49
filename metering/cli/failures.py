"""How a command says that it could not do what was asked: a sentence, and what to do about it."""

from metering.errors import MeteringError


class CommandFailedError(MeteringError):
    """The command ends with exit code 1.

    Attributes:
        message: What is wrong, one sentence.
        hint: What to do about it, or empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class WrongUsageError(CommandFailedError):
    """What was asked for makes no sense; the command ends with exit code 2."""
