"""HTML as text, in which nothing that comes from data can become markup."""

from __future__ import annotations

from html import escape
from typing import NewType

from metering.reports.safe_text import printable, spreadsheet_text

Markup = NewType("Markup", str)
"""Text that is HTML already."""

_EMPTY_ELEMENTS = frozenset({"meta", "rect", "line"})


def text(value: str) -> Markup:
    """Text of data: it is no markup, steers no terminal, and is no formula where somebody pastes it."""
    return Markup(escape(spreadsheet_text(printable(value))))


def words(value: str) -> Markup:
    """Our own words and numbers, which may begin with any sign."""
    return Markup(escape(printable(value)))


def tag(name: str, /, *inside: Markup, **attributes: str | int) -> Markup:
    """An element. An attribute `class_` is `class`, and `_` in its name is `-`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(printable(str(value)))}"' for key, value in attributes.items()
    )
    if name in _EMPTY_ELEMENTS:
        return Markup(f"<{name}{given}/>" if name != "meta" else f"<{name}{given}>")
    return Markup(f"<{name}{given}>{''.join(inside)}</{name}>")


def lines(*parts: Markup) -> Markup:
    """Parts below each other."""
    return Markup("\n".join(parts))
