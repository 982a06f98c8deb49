"""The words of the project with their meanings, read from the page of the documentation that keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metering.adapters.checkout import project_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE = "architecture.md"
_HEADING = "## Words"


def words() -> list[tuple[str, str]]:
    """Each word, or words that belong together, with their meaning, in the order of the page."""
    return [*_rows(_page().read_text(encoding="utf-8"))]


def _page() -> Path:
    """The page in a checkout, or the copy of it that an installed package has."""
    installed = Path(__file__).with_name(_PAGE)
    return installed if installed.exists() else project_dir() / "docs" / _PAGE


def _rows(page: str) -> Iterator[tuple[str, str]]:
    section = page.partition(f"{_HEADING}\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == 2 and cells[0] != "word":
            yield cells[0], cells[1].replace("*", "")
