"""Small models of AWS's evaluation of a template: policy conditions, lifecycle rules, intrinsic functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

Context = Mapping[str, str | list[str]]


def holds(condition: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    """Whether a policy condition is true according to IAM's reference; an operator that it does not know is an error.

    The context has the values of a request's keys: a list if a key has several.
    """
    return all(
        _one_holds(operator, context.get(key), listed(expected))
        for operator, keys in condition.items()
        for key, expected in keys.items()
    )


def _one_holds(operator: str, actual: str | list[str] | None, expected: list[Any]) -> bool:
    quantifier, _, name = operator.rpartition(":")
    if name == "Null":
        return (not actual) == (str(expected[0]).lower() == "true")
    base = name.removesuffix("IfExists")
    matches = _MATCHES[base.replace("Not", "")]
    negated = "Not" in base
    if not actual:
        # `ForAllValues` is true for a request without the key, `ForAnyValue` is false.
        return {"ForAllValues": True, "ForAnyValue": False}.get(quantifier, negated or base != name)
    each = [negated is not any(matches(value, str(pattern)) for pattern in expected) for value in listed(actual)]
    return all(each) if quantifier == "ForAllValues" else any(each)


_MATCHES: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringEqualsIgnoreCase": lambda value, wanted: value.lower() == wanted.lower(),
    "StringLike": fnmatchcase,
    "ArnLike": fnmatchcase,
    "ArnEquals": fnmatchcase,
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
}


def listed(value: Any) -> list[Any]:
    """The values of an element that may be a single value or a list."""
    return value if isinstance(value, list) else [value]


# A small model of S3's lifecycle rules, because no emulator applies such rules.
#
# Covers what our rules use: prefix, minimum size, expiration, transitions. Days are counted from the object's creation.


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """Day an object is deleted on, and day and storage class of each transition. `deleted_day` None means never."""

    deleted_day: int | None
    moves: tuple[tuple[int, str], ...]


def fate_of(rules: list[dict[str, Any]], key: str, size_bytes: int) -> Fate:
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


# Text of a template with its intrinsic functions resolved, as CloudFormation would do in a region.

PSEUDO = {
    "AWS::Region": "eu-west-1",
    "AWS::Partition": "aws",
    "AWS::AccountId": "123456789012",
    "AWS::URLSuffix": "amazonaws.com",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Context for resolving template values: pseudo parameters and conditions."""

    conditions: dict[str, Any] = field(default_factory=dict)
    pseudo: dict[str, str] = field(default_factory=lambda: dict(PSEUDO))

    def text(self, value: Any) -> str:
        """The string that a template value resolves to; a reference to a resource becomes the resource's logical id."""
        if isinstance(value, str):
            return value
        [(function, argument)] = value.items()
        if function == "Fn::Join":
            separator, parts = argument
            return str(separator).join(self.text(part) for part in parts)
        if function == "Fn::If":
            name, then, otherwise = argument
            return self.text(then if self.holds(name) else otherwise)
        if function == "Ref":
            return self.pseudo.get(argument, str(argument))
        if function == "Fn::GetAtt":
            resource, attribute = argument
            return f"arn:aws:cloudwatch:eu-west-1:123456789012:{resource}" if attribute == "Arn" else str(resource)
        assert function == "Fn::ImportValue", function
        return self.text(argument).split(":", 1)[-1]

    def holds(self, condition: str) -> bool:
        one, other = self.conditions[condition]["Fn::Equals"]
        return self.text(one) == self.text(other)


def place_of(template: dict[str, Any], **pseudo: str) -> Place:
    """A template's `Place` in eu-west-1; `Partition="aws-cn"` changes a pseudo parameter."""
    changed = {f"AWS::{name}": value for name, value in pseudo.items()}
    return Place(conditions=template.get("Conditions", {}), pseudo={**PSEUDO, **changed})
