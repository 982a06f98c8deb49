"""Finds duplicated logic: runs of equal lines in two places of production code.

Lines are compared as formatted, so that equal code has equal lines. Comments, docstrings, imports, blank lines and lone
brackets do not count. All parameters and variables of a function count as the same name: a copy with other names is
still a copy.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MOST_LINES = 12
_SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
_BRACKETS = frozenset("()[]{},:")
_OWN = "·"


class Line(NamedTuple):
    """A line that counts: its number, and its text without layout and without the function's own names."""

    number: int
    text: str


class Repeat(NamedTuple):
    """A run of equal lines in two places, each named by file and first line."""

    first: str
    second: str
    lines: int


def repeats(modules: Iterable[Path], *, most: int = MOST_LINES) -> list[Repeat]:
    """Runs of more than `most` equal lines, only the longest ones: part of a run does not count."""
    files = {module: logic_lines(module.read_text()) for module in modules}
    places: dict[tuple[str, ...], list[tuple[Path, int]]] = defaultdict(list)
    for module, lines in files.items():
        texts = [line.text for line in lines]
        for start in range(len(texts) - most):
            places[tuple(texts[start : start + most + 1])].append((module, start))
    found = []
    for same in places.values():
        for position, first in enumerate(same):
            found += [
                _repeat(files, first, second)
                for second in same[position + 1 :]
                if _begins(files, first, second) and not _overlap(first, second, most)
            ]
    return sorted(found, key=lambda repeat: (-repeat.lines, repeat))


def _overlap(first: tuple[Path, int], second: tuple[Path, int], most: int) -> bool:
    return first[0] == second[0] and second[1] - first[1] <= most


def _begins(files: dict[Path, list[Line]], first: tuple[Path, int], second: tuple[Path, int]) -> bool:
    """Whether the preceding lines differ."""
    if not first[1] or not second[1]:
        return True
    return files[first[0]][first[1] - 1].text != files[second[0]][second[1] - 1].text


def _repeat(files: dict[Path, list[Line]], first: tuple[Path, int], second: tuple[Path, int]) -> Repeat:
    one, other = files[first[0]][first[1] :], files[second[0]][second[1] :]
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine.text != theirs.text:
            break
        count += 1
    return Repeat(f"{first[0]}:{one[0].number}", f"{second[0]}:{other[0].number}", count)


def logic_lines(source: str) -> list[Line]:
    """The lines of a module that count."""
    tree = ast.parse(source)
    left_out = set(_left_out(tree))
    own = _own_names(tree)
    texts: dict[int, list[str]] = defaultdict(list)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        number = token.start[0]
        if token.type not in _SILENT and number not in left_out:
            is_own = token.type == tokenize.NAME and token.string in own.get(number, ())
            texts[number].append(_OWN if is_own else token.string)
    lines = [Line(number, " ".join(words)) for number, words in sorted(texts.items())]
    return [line for line in lines if not _BRACKETS.issuperset(line.text.replace(" ", ""))]


def _left_out(tree: ast.Module) -> Iterator[int]:
    """Lines of docstrings and imports."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Expr, ast.Import, ast.ImportFrom)):
            continue
        if not isinstance(node, ast.Expr) or isinstance(node.value, ast.Constant):
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _own_names(tree: ast.Module) -> dict[int, set[str]]:
    """Line -> names of parameters and variables of the functions around it."""
    own: dict[int, set[str]] = defaultdict(set)
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
            names |= {
                node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
            for number in range(function.lineno, (function.end_lineno or function.lineno) + 1):
                own[number] |= names - {"self", "cls"}
    return own
