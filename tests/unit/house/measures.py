"""What the rules about size and circles measure, of any tree of Python files."""

from __future__ import annotations

from collections import Counter
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set
    from pathlib import Path

MOST_LINES = 400
MOST_MODULES = 16


def modules_below(folders: Iterable[Path]) -> list[Path]:
    """The modules in some folders and below them."""
    return sorted(path for folder in folders for path in folder.rglob("*.py") if "cdk.out" not in path.parts)


def too_long(modules: Iterable[Path]) -> dict[Path, int]:
    """Modules with more lines than a module may have."""
    lines = {module: len(module.read_text().splitlines()) for module in modules}
    return {module: count for module, count in lines.items() if count > MOST_LINES}


def too_full(modules: Iterable[Path]) -> dict[Path, int]:
    """Folders with more modules than a folder may have; what makes a folder a package does not count."""
    counts = Counter(module.parent for module in modules if module.name != "__init__.py")
    return {folder: count for folder, count in counts.items() if count > MOST_MODULES}


def circle(imports: Mapping[str, Set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first again at the end; empty if none do.

    Args:
        imports: Module -> the modules that it imports.
    """
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []
