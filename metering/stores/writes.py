"""Items, conditions and actions as plain data, and `ItemStore`: the operations of DynamoDB that the protocol uses.

Services build the protocol's exact conditional writes from these values, and an `ItemStore` only executes them. So the
conditions that make a commit exact are in one place, and simulation and DynamoDB evaluate the same conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar


@dataclass(frozen=True, slots=True)
class Foreign:
    """A value of a type that the service never writes: a fraction, null, bytes, a set of numbers.

    Such a value was written by hand. No field reader accepts such a value. An item that has such a value can still be
    named, compared and repaired (P49).

    Attributes:
        kind: The store's name of the type, such as `NULL`.
    """

    kind: str
    value: object

    def __repr__(self) -> str:
        return f"{self.value} ({self.kind})"


# Attribute by which items of the ledger expire, epoch seconds; an item without it never does.
EXPIRES_AT = "expires_at"

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
    """Write a whole item. `item` includes the key attributes `pk` and `sk`."""

    table: Table
    item: Item
    condition: Condition | None = None

    @property
    def key(self) -> Key:
        return key_of(self.item)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Change attributes of one item; an absent item is created unless a condition forbids that.

    Attributes:
        add: Numbers to add to attributes; an absent attribute counts as 0.
        discard: Strings to remove from a set. When its last string is removed, the attribute is removed too.
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
    """Delete one item. A missing item is an error only if a condition requires it."""

    table: Table
    key: Key
    condition: Condition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Condition check: cancel the transaction unless the condition holds. Only for transactions."""

    table: Table
    key: Key
    condition: Condition


Action = Put | Update | Delete | Check

# TransactWriteItems accepts at most 100 actions, and no two actions on the same item (DynamoDB API reference).
MAX_TRANSACTION_ACTIONS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionLimits:
    """Maximum number of actions in a transaction. Simulations of small batches set a lower maximum."""

    transaction: int = MAX_TRANSACTION_ACTIONS


DYNAMODB_LIMITS = ActionLimits()


T = TypeVar("T")


class ItemStore(Protocol):
    """The operations of DynamoDB that the protocol uses.

    Reads are strongly consistent. Transactions are atomic for writers, but a reader may see a partial transaction. Each
    call, and every function that makes one, may raise UnavailableError.
    """

    def get(self, table: Table, key: Key) -> Item | None:
        """The item as of now, or None."""

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, Item]:
        """The items that exist, for any number of keys. Each item is read at a different time."""

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[Item]:
        """Items of a partition with `sk_from <= sk < sk_to` in key order. Each item is read at a different time.

        Pages are read lazily, while the caller iterates.
        """

    def scan(self, table: Table, *, part: int = 0, parts: int = 1, prefixes: Sequence[str] = ()) -> Iterator[Item]:
        """All items of the table or of one part of it, unordered. For verification and repair, never in the hot path.

        Args:
            table: The table.
            part: Number of the part, from 0. An item is always in the same part.
            parts: Number of parts that the table is divided into.
            prefixes: Return only items whose `pk` begins with one of these. The whole part is read, but not sent.
        """

    def put(self, action: Put) -> None:
        """Write one item.

        Raises:
            ConditionFailedError: With the item found.
            ItemTooLargeError: Nothing was written.
        """

    def update(self, action: Update) -> Item:
        """Change one item; returns the changed item (ALL_NEW).

        Raises:
            ConditionFailedError: With the item found.
            ItemTooLargeError: Nothing was written.
            LedgerCorruptError: The update would add to a non-numeric attribute; nothing was written.
        """

    def delete(self, action: Delete) -> None:
        """Delete one item.

        Raises:
            ConditionFailedError: With the item found.
        """

    def transact(self, actions: Sequence[Action]) -> None:
        """Apply 1-100 actions on distinct items, all or nothing.

        If the outcome is unknown, resend the same actions only if applying them makes one of their conditions
        permanently false. A resend can then raise `TransactionCanceledError`, although the first attempt succeeded.

        Raises:
            ValueError: There are no actions, more than 100, or two on the same item; nothing was sent.
            TransactionCanceledError: Not applied; one reason for each action, with the item found (ALL_OLD).
            ItemTooLargeError: An item or the whole transaction is too large; nothing was written.
            LedgerCorruptError: An action would add to a non-numeric attribute; nothing was written.
            UnavailableError: The call was throttled, or its outcome is unknown: the actions may still be applied.
        """


def read_note(items: ItemStore, key: Key, decode: Callable[[Item], T]) -> T | None:
    """Read one item of the ledger; None if it does not exist."""
    item = items.get(Table.LEDGER, key)
    return None if item is None else decode(item)


# Size of an item by DynamoDB's rules. Items that grow with the input must stay below DynamoDB's limits.
#
# From the developer guide, "Item sizes and formats": names and strings count their UTF-8 bytes; a number counts one
# byte per two significant digits plus one; a boolean one; a list or map three, plus one per element.


def item_bytes(item: Item) -> int:
    """Size of an item."""
    return sum(_text_bytes(name) + value_bytes(value) for name, value in item.items())


def value_bytes(value: Value) -> int:
    """Size of one value."""
    if isinstance(value, str | Foreign):
        return _text_bytes(str(value))
    if isinstance(value, bool):
        return 1
    if isinstance(value, int):
        return _number_bytes(value)
    if isinstance(value, frozenset):
        return sum(map(_text_bytes, value))
    if isinstance(value, list):
        return 3 + sum(1 + value_bytes(element) for element in value)
    return 3 + sum(1 + _text_bytes(name) + value_bytes(element) for name, element in value.items())


def _text_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _number_bytes(value: int) -> int:
    digits = len(str(abs(value)).rstrip("0"))
    # The guide says "approximately": a negative number takes one more byte.
    return (digits + 1) // 2 + 1 + (value < 0)
