"""Errors of the command line: each says what happened, and then what to do."""

from metering.errors import OperationFailedError
from metering.reports.parameters import InvalidParametersError


class CommandFailedError(OperationFailedError):
    """The command ends with exit code 1."""


class WrongUsageError(CommandFailedError):
    """The options or arguments make no sense; the command ends with exit code 2."""


class CommandStoppedError(CommandFailedError):
    """A person stopped the command (Ctrl-C); it ends with exit code 130."""


def wrong_options(error: InvalidParametersError) -> WrongUsageError:
    """Name the options that a question's parameters came from."""
    reasons = [f"--{each.parameter.replace('_', '-')} {each.value} {each.problem}" for each in error.problems]
    advice = dict.fromkeys(each.advice for each in error.problems if each.advice)
    return WrongUsageError(" ".join(reasons), " ".join(advice))
