"""Wrong command lines as sentences: what is wrong, what was probably meant, and where to look it up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING

from typer.core import TyperArgument, TyperGroup, TyperOption

from metering.cli.failures import WrongUsageError
from metering.cli.help.page import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    import typer
    from typer._click import Context

_EXTRA = re.compile(r"Got unexpected extra argument(?:\(s\)|s)? \((.*)\)")
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}
# The longest list of names that a sentence gives.
_MOST_NAMES = 12
_DRAW = "It was removed: `metering serve` draws reports, and a notebook draws what metering.connect answers."
_OWN_FILE = "It was removed: log files of AWS never grow. Put the new lines of a file of your own into another file."
# What took the place of a removed option or command, for one release.
_REMOVED = {
    "budget forecast --backtest": "It was removed: forecasts are tried in development, load_tests.billing.backtest.",
    "cost --blended": "It was removed: exports in CUR have blended costs, metering export cur.",
    "cost --plot": _DRAW,
    "ingest --append": _OWN_FILE,
    "logs verify": "It was removed: `metering logs coverage` names what is missing, and `metering ingest` meters it.",
    "report usage --plot": _DRAW,
}


def explained(error: typer.TyperException) -> WrongUsageError:
    """The error of Typer's parser in a sentence."""
    context: Context | None = getattr(error, "ctx", None)
    return WrongUsageError(_sentence(error, context), _see(context))


def is_bare(error: typer.TyperException) -> bool:
    """Whether a group was named without anything after it, which Typer answers with its help page."""
    return type(error).__name__ == "NoArgsIsHelpError"


def _lacks_command(error: typer.TyperException) -> bool:
    return is_bare(error) or error.message == "Missing command."


def no_such_command(group: TyperGroup, context: Context, name: str) -> WrongUsageError:
    """The error for a word that is none of a group's commands."""
    known = group.list_commands(context)
    return WrongUsageError(
        f"{context.command_path} has no command {name}.{_meant(name, known, context)}",
        _see(context),
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, whatever dashes it begins with; None if none is."""
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
    if context is not None and isinstance(context.command, TyperGroup) and _lacks_command(error):
        return f"{context.command_path} needs one of its commands."
    extra = _EXTRA.match(error.message)
    if context is not None and extra is not None:
        takes = [names(each) for each in context.command.get_params(context) if isinstance(each, TyperArgument)]
        return f"{extra[1]} is too much: {context.command_path} takes {', '.join(takes) or 'options only'}."
    return _one_line(error.message)


def _of_option(error: typer.TyperException, name: str, context: Context) -> str:
    """An option that does not exist, or has a value too many or too few."""
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
    """A value that is missing or is not what the parameter takes."""
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
    """The value that was refused, if the error tells it."""
    details = getattr(error.__cause__, "errors", None)
    problems = details() if callable(details) else []
    first = problems[0] if problems else {}
    value = first.get("input") if isinstance(first, Mapping) else None
    return "" if value is None else f" {value.value if isinstance(value, Enum) else value}"


def _wanted(parameter: TyperArgument | TyperOption) -> str | None:
    """What the parameter takes: one of its choices, or a number of its range."""
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
