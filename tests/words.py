"""Draws sentences for a reader to judge, and counts three habits that make docstrings hard to read.

    python -m tests.words --draw 20261129    40 sentences
    python -m tests.words --habits           docstrings with each habit, room by room
    python -m tests.words --lower            lower the allowances of the rooms to what is there

Docstrings, comments, documents and help contribute equally many sentences. An independent reader marks each sentence
that had to be read twice. The seed makes a draw repeatable for one revision.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import random
import re
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from tests import ROOT
from tests.size import TIGHT, read_tree, room_of
from tests.support.command_line import help_texts

TREES = ("metering", "lambdas", "infra", "load_tests", "tests")
SENTENCES = 40
# A sentence ends at a punctuation mark before whitespace and a capital letter, or at the end of its paragraph.
_END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z`*])")
# A paragraph also ends before a list item, a table row, and a name in a section of a docstring.
_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*|#>]|\d+\.|[\w*, ]+:)\s)")
_WORDS_AT_LEAST = 5
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# If a line begins with words and a colon, it continues a sentence on a page, but documents an argument in a docstring.
_CONTINUED = re.compile(r"(?<=\S)\n[ \t]*(?=[\w*, ]+:\s)")
_DIRECTIVE = re.compile(r"#\s*(noqa|type:|pragma|fmt:|ruff:|mypy:|!)")

ALLOWED = ROOT / "tests" / "unit" / "house" / "habits.json"
_CLAUSE = re.compile(
    r"(?:What|Whatever|Who|Whom|Whose|Whoever|Ones? (?:that|who|which)|That which|Those (?:that|who|which)) "
)
# `None` is a Python keyword, and "there is no" is ordinary English.
_NEGATED = re.compile(
    r"(?<!\b[Tt]here )\b(?:is|are|was|were|be|been) no\b(?! (?:longer|more)\b)|\bno \w+'s\b|\b(?:none|[Nn]obody)\b"
)
_POINTERS = re.compile(r"\b(?:it|that|one|ones|those|which)\b", re.IGNORECASE)
_CHAIN = 4
_SLACK = 3
_QUOTED = re.compile(r"`[^`]*`|\"[^\"]*\"|\*[^*\n]+\*")

# Place and sentence.
Found: TypeAlias = tuple[str, str]


def sentences(text: str) -> list[str]:
    """Sentences of a text with at least five words, without tables, headings and list markers."""
    paragraphs = _PARAGRAPH.split(text)
    plain = (" ".join(paragraph.split()) for paragraph in paragraphs if not re.match(r"\s*[|#<\[]", paragraph))
    cut = (re.sub(r"^(?:[-*>]|\d+\.)\s+", "", part) for one in plain for part in _END.split(one))
    return [part for part in cut if len(part.split()) >= _WORDS_AT_LEAST]


def docstrings(trees: Iterable[str] = TREES) -> Iterator[Found]:
    """Each sentence of a docstring, with its place."""
    for path, text in _python(trees):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                line = 1 if isinstance(node, ast.Module) else node.lineno
                yield from ((f"{path}:{line}", one) for one in sentences(ast.get_docstring(node) or ""))


def comments(trees: Iterable[str] = TREES) -> Iterator[Found]:
    """Each sentence of a block of comments, with its place."""
    for path, text in _python(trees):
        block: list[str] = []
        begin = last = 0
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type != tokenize.COMMENT or _DIRECTIVE.match(token.string):
                continue
            line = token.start[0]
            if line != last + 1 and block:
                yield from ((f"{path}:{begin}", one) for one in sentences("\n".join(block)))
                block = []
            begin = begin if block else line
            last = line
            block.append(token.string.lstrip("#").strip())
        yield from ((f"{path}:{begin}", one) for one in sentences("\n".join(block)))


def documents() -> Iterator[Found]:
    """Each sentence of the pages, with its place."""
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")]):
        text = _CONTINUED.sub(" ", _FENCED.sub("", path.read_text()))
        yield from ((str(path.relative_to(ROOT)), one) for one in sentences(text))


def helps() -> Iterator[Found]:
    """Each sentence of the commands' help, with the first command whose help has the sentence."""
    first_place: dict[str, str] = {}
    for name, text in help_texts():
        for one in sentences(text):
            first_place.setdefault(one, f"metering {name}".rstrip() + " --help")
    yield from ((place, one) for one, place in first_place.items())


def draw(seed: int, count: int = SENTENCES, trees: Iterable[str] = TREES) -> list[tuple[str, str, str]]:
    """Kind, place and text of `count` random sentences; each kind contributes a quarter."""
    kinds = {"docstring": docstrings(trees), "comment": comments(trees), "document": documents(), "help": helps()}
    chance = random.Random(seed)
    drawn: list[tuple[str, str, str]] = []
    for kind, found in kinds.items():
        drawn += [(kind, place, one) for place, one in chance.sample(sorted(set(found)), count // len(kinds))]
    return drawn


def habits(docstring: str) -> Counter[str]:
    """Count the habits of a docstring.

    Returns:
        `clause`: its subject is a clause ("What …", "One that …"); `negated`: sentences that negate a noun instead of
        the verb ("is no text", "of none"); `chain`: sentences with four or more of *it, that, one, those, which*.
    """
    plain = [_QUOTED.sub("", sentence) for sentence in sentences(docstring)]
    counted = Counter(
        clause=int(bool(_CLAUSE.match(docstring))),
        negated=sum(bool(_NEGATED.search(sentence)) for sentence in plain),
        chain=sum(len(_POINTERS.findall(sentence)) >= _CHAIN for sentence in plain),
    )
    return +counted


def habits_of_rooms(files: Mapping[str, str]) -> dict[str, Counter[str]]:
    """Room -> count of each habit in the room's docstrings."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for path, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found[room_of(path)] += habits(ast.get_docstring(node) or "")
    return {room: counted for room, counted in sorted(found.items()) if counted}


def over_allowance(
    found: Mapping[str, Counter[str]], allowed: Mapping[str, Mapping[str, int]], *, tight: bool = TIGHT
) -> list[str]:
    """Habits of rooms that exceed their allowance, or (`tight`) are clearly below the allowance.

    If not `tight`, only increases of the sums over all rooms are reported, because functions still move between rooms.
    """
    if not tight:
        found, allowed = ({"all rooms": sum(map(Counter, each.values()), Counter())} for each in (found, allowed))
    more = [f"{room}: {habit}" for room, counted in found.items() for habit in counted - Counter(allowed.get(room, {}))]
    fewer = [
        f"{room}: {habit}, make it {found.get(room, Counter())[habit]}: python -m tests.words --lower"
        for room, each in allowed.items()
        for habit, most in each.items()
        if tight and most - found.get(room, Counter())[habit] > _SLACK
    ]
    return more + fewer


def _show_habits(*, lower: bool) -> None:
    found, allowed = habits_of_rooms(read_tree()), json.loads(ALLOWED.read_text())
    for room, counted in found.items():
        sys.stdout.write(f"{room:<22}{counted}\n")
    sys.stdout.write(f"{'all':<22}{sum(found.values(), Counter())}\n")
    # If a function moves to another room, its allowance moves along.
    if lower and not over_allowance(found, allowed, tight=False):
        rows = (f"  {json.dumps(room)}: {json.dumps(dict(sorted(counted.items())))}" for room, counted in found.items())
        ALLOWED.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def _python(trees: Iterable[str]) -> Iterator[Found]:
    for tree in trees:
        for path in sorted((ROOT / tree).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.words", description=__doc__)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--draw", type=int, metavar="SEED", help="seed of the draw")
    chosen.add_argument("--habits", action="store_true", help="count the habits of docstrings, room by room")
    chosen.add_argument("--lower", action="store_true", help="also lower the allowances to them")
    parser.add_argument("--count", type=int, default=SENTENCES, help="sentences in all, a multiple of four")
    options = parser.parse_args()
    if options.draw is None:
        _show_habits(lower=options.lower)
        return 0
    for number, (kind, place, sentence) in enumerate(draw(options.draw, options.count), 1):
        sys.stdout.write(f"{number:>3} {kind}, {place}\n    {sentence}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
