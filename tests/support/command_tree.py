"""All commands of the command line, found by walking its tree: every test that walks includes new commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from metering.cli.app import app
from metering.cli.groups import RootGroup, load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Placeholder in help -> a valid value of the argument.
_VALUES: Mapping[str, str] = {
    "YYYY-MM": "2026-10",
    "REGION": "eu-west-1",
    "SQL": "SELECT 1",
    "NUMBERS": "17",
    "SHELL": "bash",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A leaf command, with the words that lead to it."""

    words: tuple[str, ...]
    command: TyperCommand | TyperGroup

    @property
    def options(self) -> list[TyperOption]:
        return [each for each in self.command.params if isinstance(each, TyperOption) and not each.hidden]

    @property
    def arguments(self) -> list[TyperArgument]:
        return [each for each in self.command.params if isinstance(each, TyperArgument)]

    @property
    def needed(self) -> list[str]:
        """Values for the required arguments."""
        return [_VALUES.get(each.metavar or "", "edge-7f3a") for each in self.arguments if each.required]


def tree() -> list[tuple[tuple[str, ...], Any]]:
    """Every command and every family with its words, the root first."""
    return [*_below((), get_command(app))]


def _below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name in getattr(command, "commands", ()):
        yield from _below((*words, name), command_named(command, name))


def command_named(group: Any, name: str) -> Any:
    """A command of a group; the root has its own lookup."""
    return load(name) if isinstance(group, RootGroup) else group.commands[name]


def leaves() -> list[Leaf]:
    """Every command that does something."""
    return [
        Leaf(words=words, command=command)
        for words, command in tree()
        if not isinstance(command, TyperGroup) or command.invoke_without_command
    ]


def groups() -> list[tuple[str, ...]]:
    """The words of every group of commands, the root first."""
    return [words for words, command in tree() if isinstance(command, TyperGroup)]


def long_name(option: TyperOption) -> str:
    """`--from` of an option."""
    return next(name for name in option.opts if name.startswith("--"))
