"""Modules of a tree of Python files, and import cycles."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set
    from pathlib import Path


def modules_below(folders: Iterable[Path]) -> list[Path]:
    """The modules in some folders and below them."""
    return sorted(path for folder in folders for path in folder.rglob("*.py") if "cdk.out" not in path.parts)


def circle(imports: Mapping[str, Set[str]]) -> list[str]:
    """Modules that import each other in a cycle, the first repeated at the end; empty without a cycle.

    Args:
        imports: Module -> the modules that it imports.
    """
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []
