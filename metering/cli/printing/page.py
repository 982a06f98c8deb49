"""A page of Markdown on a terminal. Its commands are never wrapped, so that they can be pasted."""

import re

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```\n?", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_WIDTH = 100
_INDENT = "    "


def print_page(text: str, console: Console) -> None:
    """Print a page: text wrapped to the width of the terminal, commands as one line each, without their `$`."""
    at = 0
    for fence in _FENCE.finditer(text):
        _prose(text[at : fence.start()], console)
        console.print()
        for line in fence[1].splitlines():
            console.print(Text(_INDENT + line.removeprefix("$ "), style="bold cyan"), soft_wrap=True)
        at = fence.end()
    _prose(text[at:], console)


def _prose(text: str, console: Console) -> None:
    if text.strip():
        console.print()
        # A relative link leads nowhere from a terminal; who prints the page says how to open what it names.
        console.print(Markdown(_LINK.sub(r"**\1**", text)), width=min(console.width, _WIDTH))
