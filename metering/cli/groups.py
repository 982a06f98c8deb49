"""The list of all families of commands, and the classes of commands and groups.

A family's module is imported only when the family is named on the command line. To add a family, add one entry here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from typer import TyperException
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_group_from_info
from typer.models import TyperInfo

from metering.cli.failures import WrongUsageError

# Headings of `metering --help` -> name, place, and first sentence of the help (checked by a test).
_LISTED: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Try it out": (
        ("demo", "developer.demo:demo_app",
         "Run the whole service on this machine: start an emulator, deploy, replay traffic, verify, report, and stop "
         "again."),
        ("local", "developer.local:local",
         "The whole service on this machine: an AWS emulator on 127.0.0.1 with the stacks deployed."),
        ("replay", "developer.replay:replay_app",
         "Send traffic to the ingest queue, and write a manifest of the messages with their expected verdicts."),
    ),
    "Look": (
        ("report", "analyst.report:report", "Totals of usage: who moved how many bytes from where to where."),
        ("who", "analyst.who:who_app",
         "Show whose workloads move the bytes, to where and by which path: exact parts of the usage."),
        ("reports", "analyst.saved:reports",
         "Reports that come by themselves: a question is kept, and answered each day, week or month."),
        ("trace", "analyst.report:trace_app",
         "Show what a number of a report is made of: its hours, batches and files, and three sums that must be equal."),
        ("batch", "operator.quarantine:batch", "One batch: its verdict, and everything that happened to it."),
        ("serve", "analyst.query:serve_app",
         "Serve the read-only HTTP API and the usage explorer on this machine, with your own credentials."),
        ("query", "analyst.query:query_app",
         "Run SQL over `transfers` (every accepted record) and `usage` (exact totals), as of now, with DuckDB."),
        ("accounts", "analyst.report:accounts_app",
         "List the accounts of a month: bytes, records, first and last hour."),
        ("storage", "analyst.lake:storage", "Size and cost of the bucket."),
        ("period", "analyst.periods:period", "Billing months: list them, close one for good, show it, verify it."),
    ),
    "Money": (
        ("cost", "finance.cost:cost_app",
         "Show the exact cost of usage, by the price book in force or as invoiced."),
        ("savings", "finance.savings:savings_app",
         "List what changes of the network would save, by causes of the month's bytes."),
        ("what-if", "finance.savings:what_if_app",
         "Show a month as it was, and as it would be if a rule were applied wherever it fits."),
        ("prices", "finance.prices:prices",
         "Prices of data transfer: immutable versions of price books, their differences, and usage without a price."),
        ("organization", "finance.cost:organization",
         "Payers and their accounts, effective by the hour, in immutable versions."),
        ("owners", "finance.owners:owners",
         "Owners of workloads: a book of rules, effective by the hour, in immutable versions."),
        ("invoice", "finance.invoice:invoice",
         "Invoices of data transfer: drafts, issued invoices, credit notes, and their verification."),
        ("export", "finance.invoice:export",
         "A month's charges as files for billing tools, in the formats FOCUS and AWS CUR 2.0."),
        ("budget", "finance.budget:budget", "Budgets in USD or bytes, with forecasts and early alerts."),
        ("anomalies", "finance.budget:anomalies_app",
         "Show days on which an account used far more of a usage type than on that weekday in the "
         "eight weeks before."),
    ),
    "Check": (
        ("verify", "operator.verify:verify_app",
         "Check that nothing is lost or counted twice; exit 0 only if so."),
        ("status", "operator.status:status_app",
         "Show the state of a region: version, completeness, queues, jobs, canary, alarms, sources, months and pager."),
        ("doctor", "operator.doctor:doctor_app",
         "Check that AWS behaves as the service expects: on the first day, and after a change of roles."),
        ("reconcile", "analyst.lake:lake_app",
         "Compare markers, usage table and rows (lake and staging), hour by hour; exit 0 only if all are equal."),
        ("compare", "finance.cost:compare_app",
         "Compare an AWS bill with metered usage, by account, usage type and day; it fails only with --tolerance."),
        ("runbook", "operator.doctor:runbook_app",
         "Show what to do about an alarm: its runbook, with the region and the stage in every command."),
        ("errors", "operator.status:errors_app",
         "Show the errors that the functions logged, grouped by message, the newest message first."),
        ("alerts", "operator.status:alerts", "Alarms with their state, and a test of their receivers."),
        ("sources", "platform.producers:sources_app",
         "Show the producers that number their batches: last number, last batch, and numbers that never arrived."),
        ("logs", "operator.logs:logs",
         "Log sources: the files that each delivered, and the files that are missing."),
        ("context", "platform.context:context",
         "Network descriptions that logs are judged by: inventory, address ranges and flow logs, in immutable "
         "versions."),
        ("audit", "operator.status:audit_app",
         "Show what was changed or deleted by command, newest first: who, when, what, and how it ended."),
    ),
    "Repair": (
        ("dlq", "operator.dlq:dlq", "Dead letters: batches that failed at every receive."),
        ("drops", "operator.dlq:drops", "Objects below `drop/` that S3 never announced, so they became no batch."),
        ("quarantine", "operator.quarantine:quarantine", "Refused batches and records, with every reason."),
        ("rebuild", "analyst.periods:rebuild", "Rebuild derived items from the rows, while the workers run."),
        ("compact", "analyst.lake:lake_app",
         "Roll up waiting commits, turn all pending rows into lake files, then remove objects that are no longer "
         "needed."),
    ),
    "Deploy and operate": (
        ("ingest", "platform.ingest:ingest_app",
         "Meter existing log files: each file once, no matter how often it is ingested."),
        ("producers", "platform.producers:producers",
         "Producers: who may send batches, for which accounts, and under which names."),
        ("token", "platform.producers:token", "Tokens of the HTTP API: who may request what, and until when."),
        ("region", "platform.region:region",
         "Regions of the stage: build them, show their state, take them out of service."),
        ("deploy", "platform.deploy:deploy_app",
         "Deploy this version to a region: opt in, bootstrap, preflight, deploy, canary, bake."),
        ("upgrade", "platform.deploy:upgrade_app",
         "Bring the regions where the stage is deployed to the installed version, newer or older."),
        ("restore", "platform.restore:restore_app",
         "Bring a lost or damaged ledger back: to a point in time or from nothing, with every accepted batch."),
        ("uninstall", "platform.deploy:uninstall_app",
         "Take the stage out of service in all its regions, the home region last, and list what remains."),
        ("settings", "platform.settings:settings",
         "Settings of a stage: the deployed values, the values in metering.toml, and the difference."),
    ),
    "Help": (
        ("help", "developer.manual:manual_app",
         "Explain topics that all commands share: places, output, times, environment, and the words of the glossary."),
        ("completion", "developer.manual:manual_app",
         "Print the script that lets a shell complete commands, options and values."),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Where a family of commands, or a command without a family, is defined.

    Attributes:
        name: The word to type.
        place: Module below `metering.cli.commands`, and the name of its attribute that holds the `typer.Typer`.
        purpose: Heading of the family in `metering --help`.
        about: First sentence of the family's help.
    """

    name: str
    place: str
    purpose: str
    about: str


FAMILIES = tuple(
    Family(name=name, place=place, purpose=purpose, about=about)
    for purpose, families in _LISTED.items()
    for name, place, about in families
)


Part = str | list[tuple[str, str]]
"""A line, or names with their explanations."""


def show(parts: Iterable[Part]) -> None:
    """Print the parts of a page. Lines that begin with a space are never wrapped, so that users can copy them."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    for part in parts:
        if isinstance(part, str):
            console.print(part, soft_wrap=part.startswith(" "))
            continue
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(overflow="fold", max_width=console.width * 2 // 5)
        table.add_column(overflow="fold")
        for row in part:
            table.add_row(*row)
        console.print(Padding(table, (0, 0, 0, 2), expand=False))


if TYPE_CHECKING:
    import typer
    from typer._click import Command, Context, HelpFormatter, Parameter

    _Command = Command
else:
    _Command = object

COMPLETION = "_METERING_COMPLETE"
"""Environment variable that the scripts of shells ask with; Typer makes its name from the program's."""

_COMMANDS = "metering.cli.commands"
_EXTRA = re.compile(r"Got unexpected extra argument(?:\(s\)|s)? \((.*)\)")
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}
# Placeholders by type, for option values that have no name of their own.
_VALUES = {int: "N", float: "NUMBER"}
# A message lists at most this many names.
_MOST_NAMES = 12
_DRAW = "It was removed: `metering serve` draws reports, and a notebook draws what metering.connect answers."
_OWN_FILE = "It was removed: log files of AWS never grow. Put the new lines of a file of your own into another file."
# Replacements of removed options and commands, which are kept for one release.
_REMOVED = {
    "budget forecast --backtest": "It was removed: forecasts are tried in development, load_tests.billing.backtest.",
    "cost --blended": "It was removed: exports in CUR have blended costs, metering export cur.",
    "cost --plot": _DRAW,
    "ingest --append": _OWN_FILE,
    "logs verify": "It was removed: `metering logs coverage` names what is missing, and `metering ingest` meters it.",
    "report usage --plot": _DRAW,
}


def explained(error: typer.TyperException) -> WrongUsageError:
    """Turn an error of Typer's parser into a usage error whose message is a sentence."""
    context: Context | None = getattr(error, "ctx", None)
    return WrongUsageError(_sentence(error, context), _see(context))


def is_bare(error: typer.TyperException) -> bool:
    """Whether a group was named without a command, to which Typer responds with the group's help page."""
    return type(error).__name__ == "NoArgsIsHelpError"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to `name`, ignoring leading dashes; None if no name is similar."""
    bare = {each.lstrip("-"): each for each in known}
    found = get_close_matches(name.lstrip("-").lower(), bare, n=1)
    return bare[found[0]] if found else None


def _meant(name: str, known: Iterable[str], context: Context) -> str:
    removed = _REMOVED.get(f"{context.command_path.partition(' ')[2]} {name}")
    if removed is not None:
        return f" {removed}"
    names_known = list(known)
    near = nearest(name, names_known)
    if near is not None:
        return f" Did you mean {near}?"
    return f" It has: {', '.join(names_known)}." if len(names_known) <= _MOST_NAMES else ""


def _see(context: Context | None) -> str:
    return f"See: {context.command_path if context else 'metering'} --help"


def _sentence(error: typer.TyperException, context: Context | None) -> str:
    option = getattr(error, "option_name", None)
    if isinstance(option, str) and context is not None:
        return _of_option(error, option, context)
    parameter = getattr(error, "param", None)
    if isinstance(parameter, TyperArgument | TyperOption):
        return _of_value(error, parameter)
    lacks_command = is_bare(error) or error.message == "Missing command."
    if context is not None and isinstance(context.command, TyperGroup) and lacks_command:
        return f"{context.command_path} needs one of its commands."
    extra = _EXTRA.match(error.message)
    if context is not None and extra is not None:
        takes = [names(each) for each in context.command.get_params(context) if isinstance(each, TyperArgument)]
        return f"{extra[1]} is too much: {context.command_path} takes {', '.join(takes) or 'options only'}."
    return _one_line(error.message)


def names(parameter: TyperArgument | TyperOption) -> str:
    """Spelling of a parameter with the name of its value: `-o, --output FILE`."""
    value = parameter.metavar or _VALUES.get(parameter.type_descriptor.annotation, parameter.name.upper())
    if isinstance(parameter, TyperArgument):
        return value
    written = sorted((*parameter.opts, *parameter.secondary_opts), key=lambda name: name.startswith("--"))
    return ", ".join(written) if parameter.is_flag else f"{', '.join(written)} {value}"


def _of_option(error: typer.TyperException, name: str, context: Context) -> str:
    """Describe an unknown option, or an option whose value is missing or superfluous."""
    own = [each for each in context.command.get_params(context) if isinstance(each, TyperOption) and not each.hidden]
    options = {spelled: each for each in own for spelled in (*each.opts, *each.secondary_opts)}
    known = options.get(name)
    if known is None:
        long = [spelled for spelled in options if spelled.startswith("--")]
        return f"{context.command_path} has no option {name}.{_meant(name, long, context)}"
    if known.is_flag:
        return f"{name} takes no value."
    return f"{name} needs a value: {names(known)}."


def _of_value(error: typer.TyperException, parameter: TyperArgument | TyperOption) -> str:
    """Describe a missing value, or a value that is invalid for the parameter."""
    said = max((*parameter.opts, names(parameter).split()[-1]), key=lambda name: name.startswith("--"))
    name = names(parameter) if isinstance(parameter, TyperArgument) else said
    if type(error).__name__ == "MissingParameter":
        return f"{name} is missing. {parameter.help or ''}".strip()
    value = _given(error)
    wanted = _wanted(parameter)
    if wanted is None:
        return f"{name}{value}: {_one_line(error.message)}"
    return f"{name}{value} is not {wanted}."


def _given(error: BaseException) -> str:
    """The refused value, if the error states it."""
    details = getattr(error.__cause__, "errors", None)
    problems = details() if callable(details) else []
    first = problems[0] if problems else {}
    value = first.get("input") if isinstance(first, Mapping) else None
    return "" if value is None else f" {value.value if isinstance(value, Enum) else value}"


def _wanted(parameter: TyperArgument | TyperOption) -> str | None:
    """Describe the values that a parameter accepts: its choices, or its range of numbers."""
    described = parameter.type_descriptor
    if described.choices:
        choices = [str(each.value if isinstance(each, Enum) else each) for each in described.choices]
        return f"one of: {', '.join(choices)}"
    kind = _KINDS.get(described.annotation)
    if kind is None:
        return None
    least, most = parameter.min, parameter.max
    if least is not None and most is not None:
        return f"{kind} from {least} to {most}"
    if least is not None:
        return f"{kind} of at least {least}"
    return kind if most is None else f"{kind} of at most {most}"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if line.endswith((".", "?", "!")) else f"{line}."


class QuickOption(TyperOption):
    """Uses a missing value or a text unchanged: Typer's module that converts values is slow to import.

    An empty text is refused: it typically comes from an unset variable in a script, and ignoring it might select
    another endpoint, region or stage.
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


@contextmanager
def _placed(context: Context) -> Iterator[None]:
    """Add the command's context to those parser errors that Typer raises without one."""
    try:
        yield
    except TyperException as error:
        if getattr(error, "ctx", None) is None:
            error.ctx = context  # type: ignore[attr-defined]  # of every error of the parser
        raise


class _Helpful(_Command):
    """Commands and families with quick options; their examples are printed below their help."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        with _placed(ctx):
            return super().parse_args(ctx, args)

    def get_params(self, ctx: Context) -> list[Parameter]:
        # Typer creates options itself and does not allow another class.
        found = super().get_params(ctx)
        for parameter in found:
            if type(parameter) is TyperOption:
                parameter.__class__ = QuickOption
        return found

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        # Typer would wrap the example commands, which people paste.
        below, self.epilog = self.epilog, None
        super().format_help(ctx, formatter)
        self.epilog = below
        show((below or "").splitlines())


class OneCommand(_Helpful, TyperCommand):
    """A command."""


class CommandGroup(_Helpful, TyperGroup):
    """A family of commands; for an unknown name, it suggests the most similar command."""

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            meant = _meant(args[0], self.list_commands(ctx), ctx)
            raise WrongUsageError(f"{ctx.command_path} has no command {args[0]}.{meant}", _see(ctx))
        return super().resolve_command(ctx, args)


class RootGroup(CommandGroup):
    """The command `metering`: help and completion read the list of families without importing any family."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]  # typer's own settings, passed on
        self.commands = {family.name: _entry(family) for family in FAMILIES}

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        name, found, rest = super().resolve_command(ctx, args)
        return name, found and load(found.name or ""), rest


def _entry(family: Family) -> Command:
    return TyperCommand(family.name, help=family.about, short_help=family.about, rich_help_panel=family.purpose)


@cache
def load(name: str) -> Command:
    """Import the module of a family, or of a command without a family."""
    [family] = [family for family in FAMILIES if family.name == name]
    module, _, attribute = family.place.partition(":")
    app: typer.Typer = getattr(import_module(f"{_COMMANDS}.{module}"), attribute)
    group = get_group_from_info(
        TyperInfo(app, name=name, cls=CommandGroup),
        pretty_exceptions_short=False,
        suggest_commands=True,
        rich_markup_mode="rich",
    )
    return group.commands.get(name, group)
