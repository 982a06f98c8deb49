"""The command tree, and which commands answer with data."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from tests.support.command_line import tree

if TYPE_CHECKING:
    from collections.abc import Iterator


@cache
def commands_with(option: str) -> frozenset[str]:
    """Names of the commands that have an option, such as `report usage`."""
    return frozenset(
        " ".join(words) for words, command in tree() if any(option in parameter.opts for parameter in command.params)
    )


def read_commands() -> frozenset[str]:
    """Names of the commands that answer with data."""
    return commands_with("--format")


def command_of(line: list[str]) -> str:
    """The words of a line that name its command."""
    known = [line[:words] for words in range(len(line), 0, -1) if " ".join(line[:words]) in read_commands()]
    return " ".join(known[0])


def help_texts() -> Iterator[tuple[str, str]]:
    """Each command's words, with its help and that of its options and arguments, one paragraph each."""
    for words, command in tree():
        texts = [command.help, *(one.help for one in command.params)]
        yield " ".join(words), "\n\n".join(text for text in texts if text)
