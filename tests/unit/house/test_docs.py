"""Pages lead somewhere: links, anchors, decisions, and the code map."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.size import read_tree, readme_of, rooms
from tests.support.with_each import with_each
from tests.unit.house.command_lines import PAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DECISIONS = ROOT / "docs" / "decisions"
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADER = re.compile(
    r"# (\d{4}) (.+)\n\n- Status: (accepted|(?:accepted, in part )?superseded by \d{4})\n"
    r"- Date: (\d{4}-\d{2}-\d{2})\n\n\S",
    re.ASCII,
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


@with_each(PAGES, name)
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
        if (later := re.search(r"superseded by (\d{4})", status)) is not None:
            [taker] = DECISIONS.glob(f"{later[1]}-*.md")
            assert number in taker.read_text(), f"{taker.name} does not name {number}"
    assert sum(line.startswith("| [") for line in index) == len(pages)


_PATH = re.compile(r"(?:^|[`\s])((?:metering|lambdas|infra|tests|load_tests|docs)/[\w./-]+)", re.MULTILINE)


@with_each(PAGES, name)
def test_paths_in_sentences_exist(page: Path) -> None:
    text = page.read_text()
    # Its paths have a test of their own.
    text = text.split("\n## Code map\n")[0]
    assert missing([path.rstrip(".") for path in _PATH.findall(text)]) == []


def code_map(text: str) -> dict[str, list[str]]:
    """What is to be changed -> paths to open, in their order."""
    section = re.search(r"^## Code map\n(.+?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section
    rows = [line.strip("| ").split(" | ") for line in section[1].splitlines() if line.startswith("| ")]
    return {change: re.findall(r"`([^`]+)`", " ".join(cells)) for change, *cells in rows[1:]}


def missing(paths: list[str]) -> list[str]:
    return [path for path in paths if not (ROOT / path).exists()]


_SPAN = re.compile(r"`([a-z][\w./-]*)`")
_SUFFIX = re.compile(r"\.(?:py|md|json|js|toml|sh|csv|ipynb|ndjson)$")
_ORDER = re.compile(r"read(?:ing)? order|read in this order|read first", re.IGNORECASE)


def lost_paths(room: Path, text: str) -> list[str]:
    """Paths in a room's README that lead nowhere.

    They may be relative to the room, to any folder in it, to the package or to the project, and lack the suffix of a
    module. Where the README says what to read first, each name is one.
    """
    text = _FENCED.sub("", text)
    named = [name for name in _SPAN.findall(text) if "/" in name or _SUFFIX.search(name)]
    order = [name for part in text.split("\n\n") if _ORDER.search(part) for name in _SPAN.findall(part)]
    names = dict.fromkeys(name.rstrip("/.") for name in named + [name for name in order if "." not in name])
    return [name for name in names if not _leads_somewhere(room, name)]


def _leads_somewhere(room: Path, name: str) -> bool:
    places = [base / file for base in (ROOT, ROOT / "metering", room) for file in (name, f"{name}.py")]
    return any(place.exists() for place in places) or any(
        next(room.rglob(file), None) for file in (name, f"{name}.py") if not name.startswith(".")
    )


@with_each([readme_of(room) for room in rooms(read_tree())], name)
def test_each_path_in_the_readme_of_a_room_exists(readme: Path) -> None:
    assert lost_paths(readme.parent, readme.read_text()) == []


def test_a_path_in_the_readme_of_a_room_that_does_not_exist_is_noticed() -> None:
    text = "`markers`, `lake/plan.py` and `tests/unit/none.py`, `kinds.py`, `none.py`, `usage/` and `none/`, `a word`"
    assert lost_paths(ROOT / "metering" / "ledger", text) == ["tests/unit/none.py", "none.py", "none"]
    order = "**Reading order:** `markers`, `none`, `Marker`."
    assert lost_paths(ROOT / "metering" / "ledger", order) == ["none"]


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_each_path_of_the_code_map_exists() -> None:
    rows = code_map(ARCHITECTURE)
    assert {change: missing(paths) or not paths for change, paths in rows.items()} == dict.fromkeys(rows, False)


def test_a_path_of_the_code_map_that_does_not_exist_is_noticed() -> None:
    rows = code_map("## Code map\n\n| to change | open first |\n|---|---|\n| a | `README.md` |\n| b | `nowhere.py` |\n")
    assert list(rows) == ["a", "b"]
    assert [missing(paths) for paths in rows.values()] == [[], ["nowhere.py"]]


def test_the_code_map_answers_what_newcomers_ask() -> None:
    assert len(code_map(ARCHITECTURE)) >= 12


def test_each_word_has_one_meaning() -> None:
    words = re.findall(r"^\| ([a-z, ]+) \| ", ARCHITECTURE.split("\n## Words\n")[1], re.MULTILINE)[1:]
    assert words
    each = [word for words_of_row in words for word in words_of_row.split(", ")]
    assert len(each) == len(set(each))
