"""Lines and files of each room: a table, compared with an earlier revision, and checks of the budgets in READMEs.

    python -m tests.size            print the table; exit 1 if a budget or the table of docs/architecture.md is wrong
    python -m tests.size --write    lower budgets to what is there, and write that table

A room is a folder of `metering`, or one of `lambdas`, `infra`, `load_tests`, `tests`. Its README says

    Budget: 1,931 lines in 14 files.

If a room grows, append the increase with its reason: `; 120 lines in 1 file more for the filter direction`.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from tests import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

PAGE = ROOT / "docs" / "architecture.md"
BESIDE = "5c2c24bd"
# Budgets and the table may exceed the actual size by this much; small rooms get some lines and a file.
SLACK, SLACK_LINES, SLACK_FILES = 0.03, 20, 1
# Budgets and allowances are checked in both directions: if a room shrinks, its figures must be lowered.
TIGHT = True
LONG_FILE = 800
# Package markers and other tiny files do not count for the median.
TINY_FILE = 5
# Sums that are printed below the rows of the rooms.
TOTALS = {"metering": "metering, whole", "tests": "tests, load_tests", "load_tests": "tests, load_tests"}
_TREES = ("infra", "lambdas", "load_tests", "metering", "tests")
_NUMBERS = r"([\d,]+) lines in ([\d,]+) files?"
_BUDGET = re.compile(rf"^Budget: {_NUMBERS}((?:; {_NUMBERS} more for [^;\n]{{10,}})*)\.$", re.MULTILINE)
_ADDITION = re.compile(rf"; {_NUMBERS} more for ")
_LONG = re.compile(r"^Over 800 lines: `([^`]+)`, because \S.{9,}$", re.MULTILINE)
_TABLE = re.compile(r"(?<=<!-- make size WRITE=1 -->\n).*?(?=<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Size of a room.

    Attributes:
        files: Tracked Python files.
        lines: Their lines.
        median: Lines of the median file among those with more than 5 lines.
        imports: Lines of import statements.
    """

    files: int
    lines: int
    median: int
    imports: int


# Files, lines, median and imports of revision 5c2c24bd, for clones that lack it; a test compares them where it exists.
_BEFORE = {
    "infra": (35, 4417, 140, 455),
    "lambdas": (35, 1219, 46, 237),
    "load_tests": (60, 9393, 174, 1035),
    "metering": (8, 965, 96, 37),
    "metering/adapters": (70, 7229, 91, 625),
    "metering/api": (33, 3653, 122, 329),
    "metering/audit": (42, 6522, 146, 607),
    "metering/billing": (98, 12390, 135, 1086),
    "metering/cli": (117, 15387, 132, 1776),
    "metering/client": (8, 1034, 151, 106),
    "metering/commit": (15, 1948, 106, 202),
    "metering/fleet": (27, 3621, 133, 219),
    "metering/intake": (36, 4553, 123, 366),
    "metering/lake": (34, 4266, 114, 443),
    "metering/ledger": (49, 5503, 106, 401),
    "metering/onramps": (119, 12486, 114, 1081),
    "metering/operations": (28, 3932, 126, 308),
    "metering/producer": (7, 1091, 152, 76),
    "metering/quarantine": (7, 1030, 130, 94),
    "metering/replay": (26, 3513, 136, 227),
    "metering/reports": (112, 14410, 138, 1187),
    "metering/rollup": (9, 1357, 146, 142),
    "metering/stores": (14, 1235, 60, 59),
    "metering/upgrade": (8, 943, 116, 109),
    "metering/usage": (4, 272, 94, 16),
    "metering/wiring": (37, 3381, 77, 548),
    "tests": (684, 95613, 130, 8642),
    "metering, whole": (908, 110721, 124, 10044),
    "tests, load_tests": (744, 105006, 134, 9677),
}
BEFORE = {
    room: Size(files=files, lines=lines, median=median_lines, imports=imports)
    for room, (files, lines, median_lines, imports) in _BEFORE.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Size that the README of a room allows.

    Attributes:
        lines: With the additions.
        files: With the additions.
        base_lines: Lines without the additions; these lines need no reason.
        additions: Text of the additions; empty if there are none.
    """

    lines: int
    files: int
    base_lines: int
    additions: str


def room_of(path: str) -> str:
    """Room of a file: `metering/lake`, `tests`; `metering` for modules that are in no subfolder."""
    parts = path.split("/")
    return "/".join(parts[: 2 if parts[0] == "metering" and len(parts) > 2 else 1])


def read_tree(root: Path = ROOT) -> dict[str, str]:
    """Path -> text of each existing Python file that git tracks."""
    listed = _git("ls-files", "--", *(f"{tree}/**.py" for tree in _TREES), root=root).splitlines()
    return {path: (root / path).read_text() for path in listed if (root / path).exists()}


def read_revision(revision: str) -> dict[str, str]:
    """Path -> text of each Python file of a revision; empty if this clone lacks the revision."""
    listed = _git("ls-tree", "-r", "--name-only", revision, "--", *_TREES).splitlines()
    return read_blobs(revision, [path for path in listed if path.endswith(".py")])


def read_blobs(revision: str, paths: Iterable[str]) -> dict[str, str]:
    """Path -> text of each of `paths` that exists in a revision."""
    found: dict[str, str] = {}
    paths = list(paths)
    command, names = ["git", "cat-file", "--batch"], "".join(f"{revision}:{path}\n" for path in paths)
    answer = subprocess.run(command, cwd=ROOT, input=names.encode(), capture_output=True, check=False).stdout
    for path in paths:
        head, _, answer = answer.partition(b"\n")
        if head and not head.endswith(b" missing"):
            length = int(head.rsplit(b" ", 1)[1])
            found[path], answer = answer[:length].decode(), answer[length + 1 :]
    return found


def _git(*arguments: str, root: Path = ROOT) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False).stdout


def measure(texts: Iterable[str], *, imports: bool = False) -> Size:
    """Size of some files; import lines only on request, because counting them parses every file."""
    texts = list(texts)
    lines = [len(text.splitlines()) for text in texts]
    return Size(
        files=len(lines),
        lines=sum(lines),
        median=round(median([count for count in lines if count > TINY_FILE] or [0])),
        imports=sum(map(_import_lines, texts)) if imports else 0,
    )


def _import_lines(text: str) -> int:
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in found)


def rooms(files: Mapping[str, str], name: Callable[[str], str] = room_of) -> dict[str, list[str]]:
    """Room -> texts of its files."""
    grouped: dict[str, list[str]] = defaultdict(list)
    for path in sorted(files):
        grouped[name(path)].append(files[path])
    return dict(sorted(grouped.items()))


def budget(readme: str) -> Budget | None:
    """Budget that a README states; None if it states no budget in the fixed form."""
    if (found := _BUDGET.search(readme)) is None:
        return None
    added = _ADDITION.findall(found[3])
    base_lines, base_files = _number(found[1]), _number(found[2])
    return Budget(
        lines=base_lines + sum(_number(lines) for lines, _ in added),
        files=base_files + sum(_number(files) for _, files in added),
        base_lines=base_lines,
        additions=found[3],
    )


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def over_budget(room: str, size: Size, readme: str, *, tight: bool = TIGHT) -> list[str]:
    """Reasons why a room is over or under its budget; empty if it is within the budget."""
    if (allowed := budget(readme)) is None:
        return [f"{room}/README.md states no budget: Budget: {size.lines:,} lines in {size.files} files."]
    problems = []
    if (more := size.lines - allowed.lines) > 0 or size.files > allowed.files:
        wanted = f"{max(more, 0):,} lines in {max(size.files - allowed.files, 0)} files more for …"
        problems.append(f"{room}/README.md: add what it grew for to its line Budget: …; {wanted}.")
    if tight and (_slack(allowed.lines, size.lines, SLACK_LINES) or _slack(allowed.files, size.files, SLACK_FILES)):
        problems.append(f"{room} became smaller than its budget: make size WRITE=1")
    return problems


def _slack(stated: int, real: int, least: int) -> bool:
    return abs(stated - real) > max(least, real * SLACK)


def raised_without_reason(before: str, after: str) -> bool:
    """Whether an edit of a README raises the budget without stating a reason."""
    old, new = budget(before), budget(after)
    return old is not None and new is not None and new.base_lines > old.lines


def long_files(room: str, files: Mapping[str, str], readme: str) -> list[str]:
    """Files of a room that have over 800 lines, and no reason for this in the room's README."""
    excused = {f"{room}/{path}" for path in _LONG.findall(readme)}
    mine = {path: len(text.splitlines()) for path, text in files.items() if room_of(path) == room}
    return sorted(path for path, lines in mine.items() if lines > LONG_FILE and path not in excused)


def lowered(readme: str, size: Size) -> str:
    """README text with the budget lowered to the room's size; unchanged if the room exceeds its budget."""
    if (allowed := budget(readme)) is None or size.lines > allowed.lines or size.files > allowed.files:
        return readme
    added = _ADDITION.findall(allowed.additions)
    lines = size.lines - sum(_number(lines) for lines, _ in added)
    files = size.files - sum(_number(files) for _, files in added)
    # A room smaller than its former addition needs no addition.
    kept = allowed.additions if min(lines, files) > 0 else ""
    lines, files = (lines, files) if kept else (size.lines, size.files)
    line = f"Budget: {lines:,} lines in {files} {'file' if files == 1 else 'files'}{kept}."
    return _BUDGET.sub(lambda _: line, readme)


def readme_of(room: str) -> Path:
    return ROOT / room / "README.md"


def table(sizes: Mapping[str, Size]) -> str:
    """Table of rooms of docs/architecture.md."""
    rows = ["| room | what it is for | files | lines | median |", "|---|---|---:|---:|---:|"]
    for room, size in sizes.items():
        heading = readme_of(room).read_text().partition("\n")[0]
        purpose = heading.partition(": ")[2] or f"(the heading of {room}/README.md says it not)"
        rows.append(f"| [{room}](../{room}/README.md) | {purpose} | {size.files} | {size.lines:,} | {size.median} |")
    return "\n".join(rows) + "\n"


def stale_rows(page: str, written: str, *, tight: bool = TIGHT) -> list[str]:
    """Missing, surplus or wrong rows in a page's table of rooms; figures are compared only if `tight`."""
    found = _TABLE.search(page)
    stated, real = _rows(found[0] if found else ""), _rows(written)
    wrong = [room for room in {**real, **stated} if stated.get(room, ([], []))[0] != real.get(room, ([], []))[0]]
    if tight:
        leasts = (SLACK_FILES, SLACK_LINES, SLACK_LINES)
        both = [room for room in real if room in stated]
        pairs = {room: zip(real[room][1], stated[room][1], leasts, strict=True) for room in both}
        wrong += [room for room, each in pairs.items() if any(_slack(was, now, least) for now, was, least in each)]
    return wrong


def _rows(text: str) -> dict[str, tuple[list[str], list[int]]]:
    """First cell of a row -> texts and figures of the row."""
    cells = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    return {row[0]: (row[:2], [_number(cell) for cell in row[2:]]) for row in cells}


def measured(files: Mapping[str, str]) -> dict[str, Size]:
    """Sizes of all rooms and of their totals, with import lines."""
    both = {**rooms(files), **rooms(files, lambda path: TOTALS.get(path.split("/")[0], ""))}
    return {room: measure(texts, imports=True) for room, texts in both.items() if room}


def compare(now: Mapping[str, Size], before: Mapping[str, Size], beside: str) -> str:
    """Table of two revisions, room by room."""
    head = f"{'files   lines  median  imports':>32} |"
    lines = [f"{'':<22}|{'here':^33}|{beside:^33}|  lines", f"{'':<22}|{head}{head}"]
    none = Size(files=0, lines=0, median=0, imports=0)
    for room in sorted({*now, *before}, key=lambda room: (", " in room, room)):
        here, there = now.get(room, none), before.get(room, none)
        change = f"{here.lines / there.lines - 1:+7.1%}" if there.lines else ""
        lines.append(f"{room:<22}|{_figures(here)} |{_figures(there)} |{change}".rstrip())
    return "\n".join(lines) + "\n"


def _figures(size: Size) -> str:
    return f"{size.files:>6}{size.lines:>9,}{size.median:>7}{size.imports / max(size.lines, 1):>10.1%}"


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.size", description=__doc__)
    parser.add_argument("--write", action="store_true", help="lower budgets, and write the table of rooms")
    parser.add_argument("--beside", default=BESIDE, help="revision to compare with")
    options = parser.parse_args()
    files = read_tree()
    sizes = {room: measure(texts) for room, texts in rooms(files).items()}
    if options.write:
        for room, size in sizes.items():
            readme_of(room).write_text(lowered(readme_of(room).read_text(), size))
        PAGE.write_text(_TABLE.sub(lambda _: table(sizes), PAGE.read_text()))
    else:
        print(compare(measured(files), measured(read_revision(options.beside)) or BEFORE, options.beside))
    problems = [each for room, size in sizes.items() for each in over_budget(room, size, readme_of(room).read_text())]
    print("\n".join(problems), file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
