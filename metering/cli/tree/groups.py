"""The kinds of commands and groups that the command line is made of: their help, and families imported when named."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from typer import TyperException
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_group_from_info
from typer.models import TyperInfo

from metering.cli.failures import WrongUsageError
from metering.cli.help.page import page, root_page
from metering.cli.tree.families import FAMILIES, Family
from metering.cli.tree.mistakes import no_such_command

if TYPE_CHECKING:
    import typer
    from typer._click import Command, Context, HelpFormatter, Parameter
    from typer._click.shell_completion import CompletionItem

_COMMANDS = "metering.cli.commands"


class QuickOption(TyperOption):
    """An option that is not given, or is text, is taken as it is: what Typer converts values with is slow to import.

    An empty text is refused: it is a variable of a script that was not set, and leaving it out may mean another place.
    """

    def process_value(self, ctx: Context, value: object) -> object:
        if any(isinstance(each, str) and not each.strip() for each in _each(value)):
            raise WrongUsageError(f"{self.opts[-1]} is empty.", "Give it a value, or leave it out.")
        text = self.type_descriptor.annotation is str and isinstance(value, str)
        if text or (value is None and not self.required):
            return value if self.callback is None else self.callback(ctx, self, value)
        return super().process_value(ctx, value)


def _each(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else (value,)


def _quick(parameters: list[Parameter]) -> list[Parameter]:
    """Make options quick. Typer builds them itself, and lets nobody choose their class."""
    for parameter in parameters:
        if type(parameter) is TyperOption:
            parameter.__class__ = QuickOption
    return parameters


@contextmanager
def _placed(context: Context) -> Iterator[None]:
    """Say of an error of the parser in which command it is; Typer leaves that out of some."""
    try:
        yield
    except TyperException as error:
        if getattr(error, "ctx", None) is None:
            error.ctx = context  # type: ignore[attr-defined]  # of every error of the parser
        raise


class OneCommand(TyperCommand):
    """A command with a help page of ours."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        with _placed(ctx):
            return super().parse_args(ctx, args)

    def get_params(self, ctx: Context) -> list[Parameter]:
        return _quick(super().get_params(ctx))

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        formatter.write(page(self, ctx))


class CommandGroup(TyperGroup):
    """A family of commands with a help page of ours, which names the nearest to a command that it does not have."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        with _placed(ctx):
            return super().parse_args(ctx, args)

    def get_params(self, ctx: Context) -> list[Parameter]:
        return _quick(super().get_params(ctx))

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        formatter.write(page(self, ctx))

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise no_such_command(self, ctx, args[0])
        return super().resolve_command(ctx, args)


class LoadedFamilies(MutableMapping[str, "Command"]):
    """Families by name, each imported when it is first asked for. Mutable."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._listed = {family.name: family for family in families}
        self._loaded: dict[str, Command] = {}

    def __getitem__(self, name: str) -> Command:
        if name not in self._loaded:
            self._loaded[name] = _load(self._listed[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._listed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)


class RootGroup(CommandGroup):
    """`metering` itself. Its help and its completion import no family."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**{**settings, "commands": LoadedFamilies(FAMILIES)})  # type: ignore[arg-type]  # typer's own settings, passed on

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        formatter.write(root_page(self, ctx, FAMILIES))

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        from typer._click.shell_completion import CompletionItem

        found = [family for family in FAMILIES if family.name.startswith(incomplete)]
        # The options; the way of a group would import every family to say what it is.
        options = TyperCommand.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(family.name, help=family.about) for family in found), *options]


def _load(family: Family) -> Command:
    """Import a family, or a command that stands alone."""
    module, _, attribute = family.place.partition(":")
    app: typer.Typer = getattr(import_module(f"{_COMMANDS}.{module}"), attribute)
    group = get_group_from_info(
        TyperInfo(app, name=family.name, cls=CommandGroup),
        pretty_exceptions_short=False,
        suggest_commands=True,
        rich_markup_mode=None,
    )
    return group.commands[family.name] if family.alone else group
