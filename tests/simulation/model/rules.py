"""Vocabulary of the model: names of items, and rules that can be switched off to see their purpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.simulation.model.world import Item

BUCKET = 2

# Additions of a commit: (account, hour, kind) -> bytes. A commit's bytes are one octal digit of its own, so a sum shows
# which commits it contains, and how often.
Sums = dict[tuple[str, int, str], int]
AccountHour = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Rules of a history."""

    shards: int
    cap: int
    raised_cap: int = 0
    left_out: frozenset[str] = frozenset()

    def keeps(self, rule: str) -> bool:
        """Whether the rule is followed."""
        return rule not in self.left_out


@dataclass(frozen=True, slots=True)
class RollupPlan:
    """Plan of a run that books usage."""

    commits: dict[str, tuple[int, ...]]
    numbered: dict[AccountHour, dict[str, int]]
    named: dict[AccountHour, dict[str, int]]


@dataclass(frozen=True, slots=True)
class LakePlan:
    """Plan of a run that compacts."""

    hours: dict[int, tuple[str, ...]]
    last: tuple[str, ...]


def run_sk(number: int) -> str:
    """Sort key of a run."""
    return f"{number:012d}"


def usage_place(account: str, hour: int, kind: str, number: int | None) -> tuple[str, str]:
    """Key of the usage item that counts a kind."""
    return account, f"{hour}/={kind}" if number is None else f"{hour}/#{number // BUCKET}"


def figure(number: int | None) -> str:
    """Attribute with the bytes of a kind in its usage item."""
    return "b" if number is None else f"b{number}"


def figures(item: Item | None) -> dict[str, int]:
    """All bytes of a usage item, by attribute."""
    return {name: value for name, value in (item or {}).items() if isinstance(value, int) and name.startswith("b")}


def runs_in(item: Item | None) -> dict[int, int]:
    """Number of each shard's newest run in a usage item."""
    return {
        int(name[1:]): value for name, value in (item or {}).items() if isinstance(value, int) and name.startswith("n")
    }


def odd(item: Item | None) -> Item:
    """Attributes of a usage item that only a manual write creates (P49)."""
    return {
        name: value
        for name, value in (item or {}).items()
        if not (isinstance(value, int) and (name == "v" or name.startswith(("b", "n"))))
    }


def whole(item: Item, name: str) -> int:
    """A number attribute of an item."""
    value = item[name]
    assert isinstance(value, int)
    return value


def text(item: Item, name: str) -> str:
    """A string attribute of an item."""
    value = item[name]
    assert isinstance(value, str)
    return value


def added(into: dict[str, int], sums: Mapping[str, int]) -> None:
    """Add figures to figures."""
    for name, value in sums.items():
        into[name] = into.get(name, 0) + value


def summed(parts: Iterable[Sums]) -> Sums:
    """Sum of the additions of several commits."""
    total: Sums = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total.get(key, 0) + value
    return total
