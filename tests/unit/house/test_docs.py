"""Pages lead somewhere: links, anchors, decisions, and the code map."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.unit.house.command_lines import PAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DECISIONS = ROOT / "docs" / "decisions"
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADER = re.compile(
    r"# (\d{4}) (.+)\n\n- Status: (accepted|superseded by \d{4})\n- Date: (\d{4}-\d{2}-\d{2})\n\n\S", re.ASCII
)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """What headings are called in a link, by GitHub's rule."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> Iterator[str]:
    for link in _LINK.findall(_FENCED.sub("", text)):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_a_page_and_a_heading_that_exist(page: Path) -> None:
    assert list(broken_links(page, page.read_text())) == []


def test_a_link_that_leads_nowhere_is_noticed() -> None:
    text = "[a](docs/none.md) [b](README.md#for-whom) [c](README.md#for-nobody) [d](https://example.com/none)"
    assert list(broken_links(ROOT / "README.md", text)) == ["docs/none.md", "README.md#for-nobody"]


def test_each_decision_has_its_number_status_and_date_and_is_in_the_index() -> None:
    index = (DECISIONS / "README.md").read_text().splitlines()
    pages = sorted(DECISIONS.glob("[0-9]*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    for page in pages:
        header = _HEADER.match(page.read_text())
        assert header, page.name
        number, title, status, date = header.groups()
        assert page.name.startswith(f"{number}-")
        assert f"| [{number}]({page.name}) | {title} | {status} | {date} |" in index
    assert sum(line.startswith("| [") for line in index) == len(pages)
