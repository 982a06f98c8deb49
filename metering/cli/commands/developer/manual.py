"""`metering help` and `metering completion`: help topics, and completion for shells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli import options
from metering.cli.failures import WrongUsageError
from metering.cli.groups import COMPLETION, OneCommand, Part, nearest, show
from metering.cli.help.topics import TOPICS, contents, words

if TYPE_CHECKING:
    from typer._click import Context

manual_app = typer.Typer()

_HELP_EXAMPLES = """Examples:

    metering help times
    metering help glossary marker
    metering help report usage
"""
_COMPLETION_EXAMPLES = """Examples:

    metering completion bash > ~/.local/share/bash-completion/completions/metering
    metering completion zsh > ~/.zfunc/_metering
    metering completion fish > ~/.config/fish/completions/metering.fish
"""


def _topics() -> list[str]:
    return [*TOPICS]


def _shells() -> list[str]:
    return ["bash", "zsh", "fish"]


@manual_app.command("help", cls=OneCommand, epilog=_HELP_EXAMPLES)
def help_(
    context: typer.Context,
    given: Annotated[
        list[str] | None, options.argument("TOPIC", "A topic, or the words of a command.", autocompletion=_topics)
    ] = None,
) -> None:
    """Explain topics that all commands share: places, output, times, environment, and the words of the glossary."""
    asked, *rest = given or [""]
    if asked == "glossary" and rest:
        show([_meanings(rest)])
    elif asked in TOPICS:
        show(TOPICS[asked]())
    elif asked:
        _of_command(context.find_root(), [asked, *rest])
    else:
        show(contents())


def _meanings(asked: list[str]) -> Part:
    known = words()
    wanted = " ".join(asked).lower()
    found = [(word, meaning) for word, meaning in known if wanted in word.lower().split(", ") or wanted == word.lower()]
    if not found:
        near = nearest(wanted, [each for word, _ in known for each in word.split(", ")])
        meant = f" Did you mean {near}?" if near else ""
        raise WrongUsageError(f"The glossary has no word {wanted}.{meant}", "To see all: metering help glossary")
    return found


def _of_command(root: Context, asked: list[str]) -> None:
    """Print the help page of a command."""
    known = [*TOPICS, *root.command.list_commands(root)]  # type: ignore[attr-defined]  # the root is a group
    if asked[0] not in known:
        near = nearest(asked[0], known)
        meant = f" Did you mean {near}?" if near else ""
        raise WrongUsageError(f"There is no topic or command {asked[0]}.{meant}", "To see all topics: metering help")
    # When called as a function, the command returns its exit code instead of exiting.
    code: int = root.command.main([*asked, "--help"], prog_name=root.info_name, standalone_mode=False)
    if code:
        raise typer.Exit(code)


@manual_app.command("completion", cls=OneCommand, epilog=_COMPLETION_EXAMPLES)
def completion(shell: Annotated[str, options.argument("SHELL", "bash, zsh or fish.", autocompletion=_shells)]) -> None:
    """Print the script that lets a shell complete commands, options and values."""
    from typer._completion_shared import get_completion_script

    if shell not in _shells():
        raise WrongUsageError(f"{shell} is not a shell that can be served.", f"It serves {', '.join(_shells())}.")
    typer.echo(get_completion_script(prog_name="metering", complete_var=COMPLETION, shell=shell))
