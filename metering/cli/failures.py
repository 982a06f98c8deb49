"""How a command says that it could not do what was asked: a sentence, and what to do about it."""

from metering.errors import OperationFailedError


class CommandFailedError(OperationFailedError):
    """The command ends with exit code 1."""


class WrongUsageError(CommandFailedError):
    """What was asked for makes no sense; the command ends with exit code 2."""
