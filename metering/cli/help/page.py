"""Pages of text on stdout: a topic of `metering help`, and what stands below the options of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Part = str | list[tuple[str, str]]
"""A line, or names with their explanations."""


def show(parts: Iterable[Part]) -> None:
    """Print parts of a page. A line that begins with a space is to be copied: it stays whole at any width."""
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
