"""Items, conditions and actions as plain data.

Services build the protocol's exact conditional writes from these values, and an `ItemStore` only executes them. So the
conditions that make a commit exact are in one place, and the simulation evaluates the same conditions as DynamoDB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Foreign:
    """A value of a type that the service never writes: a fraction, null, bytes, a set of numbers.

    Somebody wrote it by hand. No field reader accepts it. An item with such a value can still be named, compared and
    repaired (P49).

    Attributes:
        kind: The store's name of the type, such as `NULL`.
    """

    kind: str
    value: object

    def __repr__(self) -> str:
        return f"{self.value} ({self.kind})"


# Types of an attribute. A frozenset is a string set and never empty, because DynamoDB has no empty sets. No floats.
Value = str | int | bool | frozenset[str] | list["Value"] | dict[str, "Value"] | Foreign
Item = Mapping[str, Value]


class Table(StrEnum):
    """The two tables of a region."""

    LEDGER = "ledger"
    USAGE = "usage"


class Key(NamedTuple):
    """Partition key `pk` and sort key `sk`."""

    pk: str
    sk: str


def key_of(item: Item) -> Key:
    """Key of an item."""
    return Key(str(item["pk"]), str(item["sk"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exists:
    """The attribute exists (`pk`: the item exists)."""

    attribute: str = "pk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """The attribute does not exist (`pk`: the item does not exist)."""

    attribute: str = "pk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Equals:
    """The attribute exists and has this value."""

    attribute: str
    value: str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class LessThan:
    """The attribute exists and is a smaller number than this."""

    attribute: str
    value: int


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of the conditions is true."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of the conditions are true."""

    conditions: tuple[Condition, ...]


Condition = Exists | Absent | Equals | LessThan | AnyOf | AllOf


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Write a whole item. `item` holds `pk` and `sk`."""

    table: Table
    item: Item
    condition: Condition | None = None

    @property
    def key(self) -> Key:
        return key_of(self.item)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Change attributes of one item, creating it unless a condition forbids that.

    Attributes:
        add: Numbers to add to attributes; an absent attribute counts as 0.
        discard: Strings to remove from a set. The attribute disappears with its last string.
    """

    table: Table
    key: Key
    set: Mapping[str, Value] = field(default_factory=dict)
    add: Mapping[str, int] = field(default_factory=dict)
    discard: Mapping[str, frozenset[str]] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    condition: Condition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete one item. A missing item is an error only if a condition says so."""

    table: Table
    key: Key
    condition: Condition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Change nothing, but cancel the transaction unless the condition holds. Only for transactions."""

    table: Table
    key: Key
    condition: Condition


Action = Put | Update | Delete | Check

# TransactWriteItems accepts at most 100 actions, and no two on the same item (DynamoDB API reference).
MAX_TRANSACTION_ACTIONS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionLimits:
    """Maximum actions of a transaction. A simulation of small batches has a smaller maximum."""

    transaction: int = MAX_TRANSACTION_ACTIONS


DYNAMODB_LIMITS = ActionLimits()
