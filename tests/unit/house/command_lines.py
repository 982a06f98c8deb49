"""Command lines in the documentation, parsed by the command line's own parser."""

from __future__ import annotations

import re
import shlex

import typer
from typer.core import TyperGroup
from typer.main import get_command

from metering.cli.app import app
from tests import ROOT
from tests.support.command_line import command_named

_FIRST = (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))
PAGES = sorted([*_FIRST, *(ROOT / "docs").rglob("*.md")])

# Typer exports only some of its parser's errors.
USAGE_ERROR: type[BaseException] = typer.BadParameter.__mro__[1]
# A sentence may name an option or a command family without stating everything that a call needs.
_INCOMPLETE = "MissingParameter"

_FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?(metering .+)$", re.MULTILINE)
_SPAN = re.compile(r"`(?:\.venv/bin/)?(metering [^`]+)`")


def whole_lines(text: str) -> list[str]:
    """Command lines in code blocks, which readers copy."""
    return [line for block in _FENCED.findall(text) for line in _LINE.findall(block)]


def mentions(text: str) -> list[str]:
    """Commands within sentences; such commands may lack arguments."""
    return [" ".join(line.split()) for line in _SPAN.findall(_FENCED.sub("", text))]


def parsed(line: str, *, whole: bool = True) -> list[str]:
    """Words of the name of the command that a line resolves to.

    Args:
        line: Begins with `metering`.
        whole: Whether the line must contain all required arguments.

    Raises:
        KeyError: The command does not exist. typer's UsageError: An option does not exist, a value is wrong, or (if
            `whole`) an argument is missing.
    """
    program, *arguments = shlex.split(line, comments=True)
    assert program == "metering"
    command, path = get_command(app), []
    context = typer.Context(command, info_name="metering")
    while isinstance(command, TyperGroup) and not _ends_here(command, arguments, whole=whole):
        path.append(arguments.pop(0))
        command = command_named(command, path[-1])
        context = typer.Context(command, info_name=path[-1], parent=context)
    if isinstance(command, TyperGroup) and not command.invoke_without_command:
        return path
    try:
        command.parse_args(context, arguments)
    except USAGE_ERROR as error:
        if whole or type(error).__name__ != _INCOMPLETE:
            raise
    return path


def _ends_here(family: object, arguments: list[str], *, whole: bool) -> bool:
    """Whether a line ends at a command group, which may run without a subcommand, as in `metering sources --gaps`."""
    if not arguments:
        assert not whole or getattr(family, "invoke_without_command", False), "a family of commands does nothing"
        return True
    return arguments[0].startswith("-")
