"""Help as lines of text: wrapped to the terminal, with examples that stay whole commands."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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
