"""Conditions of IAM policies, for the operators that ours use (IAM's reference of condition operators)."""

from fnmatch import fnmatchcase
from typing import Any


def holds(condition: dict[str, dict[str, Any]], context: dict[str, str]) -> bool:
    """Whether a condition is true, as IAM's reference has it for the operators that these policies use."""
    return all(
        _one_holds(operator, context.get(key), _as_list(expected))
        for operator, keys in condition.items()
        for key, expected in keys.items()
    )


def _one_holds(operator: str, actual: str | None, expected: list[str]) -> bool:
    if operator == "Null":
        return (actual is None) == (expected == ["true"])
    absent_passes = {
        "StringEquals": False,
        "StringLike": False,
        "ArnLike": False,
        "StringLikeIfExists": True,
        "ForAllValues:StringLike": True,
        "StringNotEquals": True,
    }[operator]
    if actual is None:
        return absent_passes
    if operator == "StringNotEquals":
        return actual not in expected
    if operator == "StringEquals":
        return actual in expected
    return any(fnmatchcase(actual, pattern) for pattern in expected)


def _as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
