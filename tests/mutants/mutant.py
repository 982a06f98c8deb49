"""Definition of a seeded bug, and the suites that must find most seeded bugs."""

from __future__ import annotations

from dataclasses import dataclass

WORLD = ("tests/unit/commit", "tests/simulation/test_simulation.py", "tests/simulation/test_matrix.py")
LAKE = (
    "tests/simulation/test_interleavings.py",
    "tests/simulation/test_repair.py",
    "tests/simulation/test_simulation.py",
    "tests/simulation/test_matrix.py",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One seeded bug.

    Attributes:
        old: Text to replace; occurs exactly once in `path`.
        suites: Suites that should find the bug, in this order.
    """

    name: str
    path: str
    old: str
    new: str
    suites: tuple[str, ...] = WORLD


def seeded(path: str, suites: tuple[str, ...], *bugs: tuple[str, str, str]) -> tuple[Mutant, ...]:
    """Define bugs of one file for the same suites; each bug is its name, old text and new text."""
    return tuple(Mutant(name=name, path=path, old=old, new=new, suites=suites) for name, old, new in bugs)
