"""The help page of a command or of a family of commands."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from metering.adapters.checkout import in_checkout
from metering.cli.families import Family, Purpose
from metering.cli.options import OUTPUT, WHERE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typer._click import Context


_WIDEST = 100
_NARROWEST = 40
# Names that are longer stand on a line of their own.
_NAME_WIDTH = 22
_INDENT = "  "
_CONTINUED = " \\"
# A quoted text, which may have spaces, or anything without spaces.
_WORDS = re.compile(r"""(?:[^\s"']+|"[^"]*"|'[^']*')+""")


def width() -> int:
    """Characters in a line of help."""
    return max(_NARROWEST, min(shutil.get_terminal_size().columns, _WIDEST))


def heading(text: str) -> str:
    """A heading, bold where the terminal shows that."""
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[1m{text}\x1b[0m"


def paragraph(text: str, columns: int, *, first: str = _INDENT, rest: str = _INDENT) -> list[str]:
    """Text wrapped between words; `first` and `rest` begin its lines."""
    return textwrap.wrap(
        text, columns, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def table(rows: Sequence[tuple[str, str]], columns: int) -> Iterator[str]:
    """Names with their explanations in a second column."""
    known = [len(name) for name, _ in rows if len(name) <= _NAME_WIDTH]
    room = " " * (len(_INDENT) + max(known, default=0) + 2)
    for name, about in rows:
        begun = f"{_INDENT}{name}"
        if len(begun) + 2 <= len(room):
            yield from paragraph(about, columns, first=begun.ljust(len(room)), rest=room) or [begun]
        else:
            yield from paragraph(name, columns, rest=_INDENT * 3)
            yield from paragraph(about, columns, first=room, rest=room)


def example(command: str, columns: int) -> list[str]:
    """A command that can be pasted as it stands: lines end between its words, and say that they go on.

    A quoted text that is longer than a line is broken at its spaces, which SQL allows.
    """
    if len(command) + len(_INDENT) <= columns:
        return [_INDENT + command]
    lines, line = [], _INDENT
    for piece in _pieces(_WORDS.findall(command)):
        room = columns - len(_CONTINUED)
        if len(line) + len(piece) > room and line.strip():
            lines.append(line.rstrip() + _CONTINUED)
            line = _INDENT * 3
        # More than one part only if the piece is longer than a line.
        *whole, last = paragraph(piece, columns, first=line, rest=_INDENT * 4) if line.strip() == "" else [line + piece]
        lines += whole
        line = f"{last} "
    return [*lines, line.rstrip()]


def _pieces(words: Iterable[str]) -> Iterator[str]:
    """An option together with its value, which should not stand on different lines."""
    option = ""
    for word in words:
        if option and not word.startswith("-"):
            yield f"{option} {word}"
            option = ""
            continue
        if option:
            yield option
        option = word if word.startswith("--") else ""
        if not option:
            yield word
    if option:
        yield option


def unwrapped(text: str) -> str:
    """Each paragraph of a docstring as one line, which the terminal wraps to its own width."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


# Options of nearly every command, explained once: their panel, and the topic that explains them.
SHARED_PANELS = {WHERE: "places", OUTPUT: "output"}

_NEEDS_CHECKOUT = (
    "It needs a checkout of the project, and metering runs from an installed package. Clone the project, run "
    "`make install` there, and use its .venv/bin/metering."
)
# Names of values that have none of their own, by type.
_VALUES = {int: "N", float: "NUMBER"}

Parameter = TyperArgument | TyperOption


def page(command: TyperCommand | TyperGroup, context: Context) -> str:
    """The help page of a command; no line is wider than the terminal."""
    return "\n".join(_lines(command, context, width())) + "\n"


def root_page(root: TyperGroup, context: Context, families: Sequence[Family]) -> str:
    """The help page of `metering`: what one wants, and the families that do it."""
    return "\n".join(_root_lines(root, context, families, width())) + "\n"


def _root_lines(root: TyperGroup, context: Context, families: Sequence[Family], columns: int) -> Iterator[str]:
    yield from usage(root, context, columns)
    yield ""
    yield from paragraph(root.help or "", columns)
    for purpose in dict.fromkeys(sorted((family.purpose for family in families), key=list(Purpose).index)):
        yield ""
        yield heading(f"{purpose}:")
        found = [each for each in families if each.purpose is purpose]
        yield from table([(each.name, f"{each.about}{_lacking(each)}") for each in found], columns)
    own = [each for each in root.get_params(context) if isinstance(each, Parameter)]
    yield from _parameters(own, columns)
    yield from _shared(own, columns)
    yield from _epilog(root.epilog or "", columns)


def _lacking(family: Family) -> str:
    return " (Needs a checkout of the project.)" if family.checkout and not in_checkout() else ""


def _lines(command: TyperCommand | TyperGroup, context: Context, columns: int) -> Iterator[str]:
    own = [each for each in command.get_params(context) if isinstance(each, Parameter) and not each.hidden]
    yield from usage(command, context, columns)
    for text in (command.help or "").split("\n\n"):
        yield ""
        yield from paragraph(" ".join(text.split()), columns)
    if getattr(command.callback, "needs_checkout", False) and not in_checkout():
        yield ""
        yield from paragraph(_NEEDS_CHECKOUT, columns)
    yield from _parameters(own, columns)
    if isinstance(command, TyperGroup):
        yield from _commands(command, context, columns)
    yield from _shared(own, columns)
    yield from _epilog(command.epilog or "", columns)


def usage(command: TyperCommand | TyperGroup, context: Context, columns: int) -> list[str]:
    """What can be typed, in one line if it fits."""
    arguments = [_in_usage(each) for each in command.get_params(context) if isinstance(each, TyperArgument)]
    rest = ["COMMAND ..."] if isinstance(command, TyperGroup) else []
    if isinstance(command, TyperGroup) and command.invoke_without_command:
        rest = ["[COMMAND ...]"]
    words = [context.command_path, "[OPTIONS]", *arguments, *rest]
    begun = "Usage: "
    lines = paragraph(" ".join(words), columns, first=begun, rest=" " * len(begun))
    return [line.replace(begun, f"{heading('Usage:')} ", 1) for line in lines]


def _in_usage(argument: TyperArgument) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _parameters(own: Sequence[Parameter], columns: int) -> Iterator[str]:
    panels: dict[str, list[tuple[str, str]]] = {}
    for each in own:
        kind = "Arguments" if isinstance(each, TyperArgument) else "Options"
        panel = each.rich_help_panel or kind
        if panel not in SHARED_PANELS:
            panels.setdefault(panel, []).append((names(each), explained(each)))
    for panel, rows in panels.items():
        yield ""
        yield heading(f"{panel}:")
        yield from table(rows, columns)


def _shared(own: Sequence[Parameter], columns: int) -> Iterator[str]:
    for panel, topic in SHARED_PANELS.items():
        options = [names(each) for each in own if each.rich_help_panel == panel]
        if options:
            yield ""
            begun = f"{panel}: "
            # A name must not be parted from its value.
            text = ", ".join(option.replace(" ", "\0") for option in options)
            lines = paragraph(f"{text}.", columns, first=begun, rest=_INDENT)
            yield from (line.replace("\0", " ").replace(begun, f"{heading(f'{panel}:')} ", 1) for line in lines)
            yield from paragraph(f"Explained by: metering help {topic}", columns)


# How an example begins: what is typed at a shell.
_TYPED = ("metering ", "eval ")
_GOES_ON = re.compile(r"\s*\\\n\s*")
# Characters for the names in a list below the options.
_LISTED = 8


def names(parameter: Parameter) -> str:
    """What to type for a parameter, with the name of its value: `-o, --output FILE`."""
    value = parameter.metavar or _VALUES.get(parameter.type_descriptor.annotation, parameter.name.upper())
    if isinstance(parameter, TyperArgument):
        return value
    written = sorted((*parameter.opts, *parameter.secondary_opts), key=lambda name: name.startswith("--"))
    return ", ".join(written) if parameter.is_flag else f"{', '.join(written)} {value}"


def explained(parameter: Parameter) -> str:
    """The help of a parameter, with its range and its default as sentences."""
    told = [parameter.help or "", _range(parameter)]
    default = parameter.default
    if default not in (None, False, "") and not isinstance(default, (list, tuple)) and "Default:" not in told[0]:
        told.append(f"Default: {default}.")
    return " ".join(filter(None, told))


def _range(parameter: Parameter) -> str:
    least, most = parameter.min, parameter.max
    if least is None and most is None:
        return ""
    if most is None:
        return f"At least {least}."
    return f"At most {most}." if least is None else f"From {least} to {most}."


def _commands(group: TyperGroup, context: Context, columns: int) -> Iterator[str]:
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    rows = [
        (name, first_sentence(command.help or "")) for name, command in found.items() if command and not command.hidden
    ]
    yield ""
    yield heading("Commands:")
    yield from table(rows, columns)


def first_sentence(text: str) -> str:
    """The first sentence of a help text."""
    begun, stop, _ = " ".join(text.split()).partition(". ")
    return f"{begun}{stop}".strip()


def _epilog(text: str, columns: int) -> Iterator[str]:
    """Examples, one a line, and sentences between them."""
    for number, line in enumerate(_GOES_ON.sub(" ", text.rstrip()).split("\n")):
        stripped = line.strip()
        if stripped.endswith(":") or (stripped and number == 0):
            yield ""
        if stripped.startswith(_TYPED):
            yield from example(stripped, columns)
        elif stripped.startswith("- "):
            name, _, about = stripped.removeprefix("- ").partition(": ")
            yield from table([(name.ljust(_LISTED), about)], columns)
        elif stripped.endswith(":") and len(stripped.split()) == 1:
            yield heading(stripped)
        elif stripped:
            yield from paragraph(stripped, columns, first="", rest=_INDENT)
