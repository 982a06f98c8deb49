"""Small model of S3's lifecycle rules, because no emulator applies them.

Covers what our rules use: prefix, minimum size, expiration, transitions. Days count from the object's creation.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """The day an object is deleted, and the day and class of each move. `deleted_day` is None for never."""

    deleted_day: int | None
    moves: tuple[tuple[int, str], ...]


def fate_of(rules: list[dict[str, Any]], key: str, size_bytes: int) -> Fate:
    """Fate of a current object."""
    matching = [rule for rule in rules if _matches(rule, key, size_bytes)]
    deleted = [rule["ExpirationInDays"] for rule in matching if "ExpirationInDays" in rule]
    moves = [
        (transition["TransitionInDays"], transition["StorageClass"])
        for rule in matching
        for transition in rule.get("Transitions", [])
    ]
    return Fate(deleted_day=min(deleted, default=None), moves=tuple(sorted(moves)))


def _matches(rule: dict[str, Any], key: str, size_bytes: int) -> bool:
    return (
        rule["Status"] == "Enabled"
        and key.startswith(rule.get("Prefix", ""))
        and size_bytes > int(rule.get("ObjectSizeGreaterThan", -1))
    )
