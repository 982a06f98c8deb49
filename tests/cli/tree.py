"""The tree of commands, and which of them answer with data."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from metering.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator


@cache
def commands_with(option: str) -> frozenset[str]:
    """Names of the commands that have an option, such as `report usage`."""
    return frozenset(
        " ".join(words)
        for words, command in _commands(get_command(app), ())
        if isinstance(command, TyperCommand | TyperGroup)
        and any(option in parameter.opts for parameter in command.params)
    )


def read_commands() -> frozenset[str]:
    """Names of the commands that answer with data."""
    return commands_with("--format")


def command_of(line: list[str]) -> str:
    """The words of a line that name its command."""
    known = [line[:words] for words in range(len(line), 0, -1) if " ".join(line[:words]) in read_commands()]
    return " ".join(known[0])


def help_texts() -> Iterator[tuple[str, str]]:
    """Each command's words, with its help and that of each of its options and arguments, a paragraph each."""
    for words, command in _commands(get_command(app), ()):
        texts = [
            getattr(command, "help", None),
            *(getattr(one, "help", None) for one in getattr(command, "params", ())),
        ]
        yield " ".join(words), "\n\n".join(text for text in texts if text)


def _commands(command: object, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    yield words, command
    if isinstance(command, TyperGroup):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from _commands(command.get_command(context, name), (*words, name))
