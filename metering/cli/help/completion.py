"""Completion of command lines by shells: Typer's own, without the library that it renders help with."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

from typer._click.shell_completion import add_completion_class
from typer._completion_classes import BashComplete, FishComplete, ZshComplete
from typer._completion_shared import get_completion_script

if TYPE_CHECKING:
    from typer._click.shell_completion import CompletionItem

PROGRAM = "metering"
VARIABLE = f"_{PROGRAM.upper()}_COMPLETE"
"""Environment variable that the scripts ask with; Typer makes its name from the program's."""


class Shell(StrEnum):
    """Shells that complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


class _Zsh(ZshComplete):
    def format_completion(self, item: CompletionItem) -> str:
        value = _quoted(item.value)
        return f'"{value}":"{_quoted(item.help)}"' if item.help else f'"{value}"'


class _Fish(FishComplete):
    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.value}\t{' '.join(item.help.split())}" if item.help else f"{item.value}"


def _quoted(text: str) -> str:
    return re.sub(r"([$`])", r"\\\1", text.replace('"', '""').replace("'", "''")).replace(":", r"\\:")


def answer_shells() -> None:
    """Let the command line answer what the scripts ask."""
    add_completion_class(BashComplete, Shell.BASH.value)
    add_completion_class(_Zsh, Shell.ZSH.value)
    add_completion_class(_Fish, Shell.FISH.value)


def script(shell: Shell) -> str:
    """The script that a shell reads to complete `metering`."""
    return get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value)
