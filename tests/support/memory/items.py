"""DynamoDB in memory: its conditions, cancellation reasons and isolation, as far as the protocol needs them.

A transaction is atomic for writers. As in DynamoDB, a query reads each item at a separate time, so a query can see half
of a transaction. Items are replaced, never changed in place, so an item does not change after it was read.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from metering.errors import (
    ConditionFailedError,
    ItemTooLargeError,
    LedgerCorruptError,
    TransactionCanceledError,
    UnavailableError,
)
from metering.stores import writes
from metering.stores.writes import item_bytes
from metering.units import KIB, MIB

_EMPTY: writes.Item = {}
# Limits of DynamoDB (service quotas).
MAX_ITEM_BYTES = 400 * KIB
MAX_TRANSACTION_BYTES = 4 * MIB
_CONTAINERS = (list, dict)
# A DynamoDB number holds 38 digits.
_MAX_MAGNITUDE = 10**38


def holds(condition: writes.Condition, item: writes.Item | None) -> bool:
    """Whether a condition holds for an item; None is a missing item."""
    attributes = _EMPTY if item is None else item
    if isinstance(condition, writes.Absent):
        return condition.attribute not in attributes
    if isinstance(condition, writes.Exists):
        return condition.attribute in attributes
    if isinstance(condition, writes.Equals):
        found = attributes.get(condition.attribute)
        # In DynamoDB a boolean never equals a number, although True == 1 in Python.
        return found == condition.value and isinstance(found, bool) == isinstance(condition.value, bool)
    if isinstance(condition, writes.LessThan):
        found = attributes.get(condition.attribute)
        # In DynamoDB, a comparison with a value of another type is false.
        return isinstance(found, int) and not isinstance(found, bool) and found < condition.value
    if isinstance(condition, writes.AnyOf):
        return any(holds(part, item) for part in condition.conditions)
    return all(holds(part, item) for part in condition.conditions)


class _Partition:
    """Items of one partition key, and their sort keys in order."""

    __slots__ = ("items", "sort_keys")

    def __init__(self) -> None:
        self.items: dict[str, writes.Item] = {}
        self.sort_keys: list[str] = []

    def write(self, sk: str, item: writes.Item) -> None:
        if sk not in self.items:
            insort(self.sort_keys, sk)
        self.items[sk] = item

    def remove(self, sk: str) -> None:
        if self.items.pop(sk, None) is not None:
            del self.sort_keys[bisect_left(self.sort_keys, sk)]

    def next_in(self, low: str, high: str, *, descending: bool, after: str | None) -> str | None:
        """The next sort key in the partition with `low <= sk < high`, or None."""
        keys = self.sort_keys
        if descending:
            index = bisect_left(keys, high if after is None else after) - 1
            return keys[index] if index >= 0 and keys[index] >= low else None
        index = bisect_left(keys, low) if after is None else bisect_right(keys, after)
        return keys[index] if index < len(keys) and keys[index] < high else None


def _ignore(_call: str) -> None:
    """Do nothing at a call."""


def _none() -> int:
    return 0


class MemoryItemStore:
    """`ItemStore` of dictionaries.

    Args:
        on_call: Called with the call's name (`items.transact`) before each call, and with `items.query.next` before
            each item of a query after the first; likewise for `items.get_many` and `items.scan`. If the callback
            raises, the caller gets the error, and nothing is applied.
        on_reply: Called with the call's name after a write was applied. If it raises, the reply is lost.
        empty_pages: Number of empty pages before the next item, or the end, of a query or a scan. Each is a call:
            `items.query.page`, `items.scan.page`.
        throttled: Returns the cancellation code of an action in a transaction, such as `ThrottlingError`; empty for
            none.

    Attributes:
        transaction_bytes: Maximum total bytes of a transaction's items.
    """

    def __init__(
        self,
        *,
        on_call: Callable[[str], None] | None = None,
        on_reply: Callable[[str], None] | None = None,
        empty_pages: Callable[[], int] | None = None,
        throttled: Callable[[writes.Action], str] | None = None,
    ) -> None:
        self.on_call = on_call or _ignore
        self.on_reply = on_reply or _ignore
        self._empty_pages = empty_pages or _none
        self._throttled = throttled
        self.transaction_bytes = MAX_TRANSACTION_BYTES
        self._tables: dict[writes.Table, dict[str, _Partition]] = {table: {} for table in writes.Table}
        self._fenced = False

    def restored(self, ledger: Iterable[writes.Item]) -> MemoryItemStore:
        """A store with another ledger that has these items, and the usage table of this one."""
        made = MemoryItemStore(on_call=self.on_call, on_reply=self.on_reply, throttled=self._throttled)
        made._tables[writes.Table.USAGE] = self._tables[writes.Table.USAGE]
        for item in ledger:
            made.put(writes.Put(table=writes.Table.LEDGER, item=item))
        return made

    def fence(self) -> None:
        """Refuse every later write of the ledger, as a table's policy does."""
        self._fenced = True

    def _check_open(self, *tables: writes.Table) -> None:
        if self._fenced and writes.Table.LEDGER in tables:
            raise UnavailableError("dynamodb", "AccessDeniedException", may_have_applied=False)

    def get(self, table: writes.Table, key: writes.Key) -> writes.Item | None:
        self.on_call("items.get")
        return self.peek(table, key)

    def get_many(self, table: writes.Table, keys: Sequence[writes.Key]) -> dict[writes.Key, writes.Item]:
        self.on_call("items.get_many")
        found: dict[writes.Key, writes.Item] = {}
        for position, key in enumerate(dict.fromkeys(keys)):
            if position:
                self.on_call("items.get_many.next")
            item = self.peek(table, key)
            if item is not None:
                found[key] = item
        return found

    def query(
        self, table: writes.Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[writes.Item]:
        self.on_call("items.query")
        sk: str | None = None
        while True:
            self._turn_pages("items.query.page")
            # The partition is looked up for each item, because an empty partition is dropped and later made again.
            partition = self._tables[table].get(pk)
            if partition is None:
                return
            sk = partition.next_in(sk_from, sk_to, descending=descending, after=sk)
            if sk is None:
                return
            yield partition.items[sk]
            self.on_call("items.query.next")

    def scan(
        self, table: writes.Table, *, part: int = 0, parts: int = 1, prefixes: Sequence[str] = ()
    ) -> Iterator[writes.Item]:
        self.on_call("items.scan")
        chosen = [
            partition
            for pk, partition in self._tables[table].items()
            if (parts == 1 or zlib.crc32(pk.encode()) % parts == part)
            and (not prefixes or pk.startswith(tuple(prefixes)))
        ]
        for partition in chosen:
            for sk in list(partition.sort_keys):
                self._turn_pages("items.scan.page")
                item = partition.items.get(sk)
                if item is not None:
                    yield item
                    self.on_call("items.scan.next")
        self._turn_pages("items.scan.page")

    def put(self, action: writes.Put) -> None:
        self._write("items.put", action)

    def update(self, action: writes.Update) -> writes.Item:
        return self._write("items.update", action)

    def delete(self, action: writes.Delete) -> None:
        self._write("items.delete", action)

    def transact(self, actions: Sequence[writes.Action]) -> None:
        self.on_call("items.transact")
        if not 1 <= len(actions) <= writes.MAX_TRANSACTION_ACTIONS:
            raise ValueError(f"a transaction has 1 to {writes.MAX_TRANSACTION_ACTIONS} actions, not {len(actions)}")
        targets = [(action.table, action.key) for action in actions]
        self._check_open(*{action.table for action in actions})
        if len(set(targets)) < len(targets):
            raise ValueError("two actions of a transaction are on one item")
        for action in actions:
            _check_values(action)
        codes = {} if self._throttled is None else dict(enumerate(map(self._throttled, actions)))
        if refusal := self.refusal(actions, codes):
            raise refusal
        found = [self.peek(table, key) for table, key in targets]
        after = [_after(action, item) for action, item in zip(actions, found, strict=True)]
        size = _checked_bytes(targets, after)
        if size > self.transaction_bytes:
            raise ItemTooLargeError(f"a transaction of {len(actions)} actions", f"{size} bytes")
        for action, (table, key), item in zip(actions, targets, after, strict=True):
            if not isinstance(action, writes.Check):
                self._replace(table, key, item)
        self.on_reply("items.transact")

    def refusal(self, actions: Sequence[writes.Action], codes: Mapping[int, str]) -> TransactionCanceledError | None:
        """The error that a transaction would get in the current state, or None; not counted as a call."""
        reasons: list[tuple[str, writes.Item | None] | None] = []
        for place, action in enumerate(actions):
            item = self.peek(action.table, action.key)
            if codes.get(place):
                reasons.append((codes[place], None))
            elif action.condition is None or holds(action.condition, item):
                reasons.append(None)
            else:
                reasons.append(("ConditionalCheckFailed", item))
        return TransactionCanceledError(reasons) if any(reasons) else None

    def peek(self, table: writes.Table, key: writes.Key) -> writes.Item | None:
        """Return an item, for checkers; not counted as a call."""
        partition = self._tables[table].get(key.pk)
        return None if partition is None else partition.items.get(key.sk)

    def remove(self, table: writes.Table, key: writes.Key) -> None:
        partition = self._tables[table].get(key.pk)
        if partition is None:
            return
        partition.remove(key.sk)
        if not partition.items:
            del self._tables[table][key.pk]

    def everything(self, table: writes.Table) -> Iterator[writes.Item]:
        """Yield every item, for checkers; not counted as a call."""
        for partition in self._tables[table].values():
            yield from partition.items.values()

    def _write(self, call: str, action: writes.Put | writes.Update | writes.Delete) -> writes.Item:
        self.on_call(call)
        _check_values(action)
        self._check_open(action.table)
        key = action.key
        found = self.peek(action.table, key)
        if action.condition is not None and not holds(action.condition, found):
            raise ConditionFailedError(found)
        after = _after(action, found)
        _checked_bytes([(action.table, key)], [after])
        self._replace(action.table, key, after)
        self.on_reply(call)
        return _EMPTY if after is None else after

    def _replace(self, table: writes.Table, key: writes.Key, item: writes.Item | None) -> None:
        if item is None:
            self.remove(table, key)
            return
        partitions = self._tables[table]
        partition = partitions.get(key.pk)
        if partition is None:
            partition = partitions[key.pk] = _Partition()
        partition.write(key.sk, item)

    def _turn_pages(self, call: str) -> None:
        for _ in range(self._empty_pages()):
            self.on_call(call)


def _after(action: writes.Action, found: writes.Item | None) -> writes.Item | None:
    """Item after the action."""
    if isinstance(action, writes.Put):
        return _own_attributes(action.item)
    if isinstance(action, writes.Update):
        return _updated(action, action.key, found)
    return found if isinstance(action, writes.Check) else None


def _checked_bytes(targets: Sequence[tuple[writes.Table, writes.Key]], after: Sequence[writes.Item | None]) -> int:
    """Total size of the items; first checks that no item is too large."""
    sizes = [0 if item is None else item_bytes(item) for item in after]
    for (_, key), size in zip(targets, sizes, strict=True):
        if size > MAX_ITEM_BYTES:
            raise ItemTooLargeError(f"{key.pk} / {key.sk}", f"{size} bytes")
    return sum(sizes)


def _own_attributes(attributes: writes.Item) -> dict[str, writes.Value]:
    """A deep copy, which later changes of the original do not affect."""
    own = dict(attributes)
    for name, value in own.items():
        if isinstance(value, _CONTAINERS):
            own[name] = _own(value)
    return own


def _own(value: writes.Value) -> writes.Value:
    if isinstance(value, list):
        return [_own(element) if isinstance(element, _CONTAINERS) else element for element in value]
    return _own_attributes(value) if isinstance(value, dict) else value


def _check_values(action: writes.Action) -> None:
    """Raise an error for values that DynamoDB rejects before it reads the item."""
    if isinstance(action, writes.Put):
        _check_all(action.item.values())
    elif isinstance(action, writes.Update):
        if not (action.set or action.add or action.discard or action.remove):
            raise ValueError(f"an update of {action.key} that changes nothing")
        names = [*action.set, *action.add, *action.discard, *action.remove]
        if len(names) != len({*names}):
            raise ValueError(f"an update of {action.key} names an attribute twice")
        for changes in (action.set, action.add, action.discard):
            if changes:
                _check_all(changes.values())


def _check_all(values: Iterable[writes.Value]) -> None:
    for value in values:
        if isinstance(value, str):
            continue
        if isinstance(value, int):
            if not -_MAX_MAGNITUDE < value < _MAX_MAGNITUDE:
                raise ValueError("a number holds 38 digits")
        elif isinstance(value, list):
            _check_all(value)
        elif isinstance(value, dict):
            _check_all(value.values())
        elif not value:
            raise ValueError("there are no empty sets")


def _updated(action: writes.Update, key: writes.Key, found: writes.Item | None) -> writes.Item:
    item: dict[str, writes.Value] = {"pk": key.pk, "sk": key.sk} if found is None else dict(found)
    item |= _own_attributes(action.set)
    for name, amount in action.add.items():
        before = item.get(name, 0)
        # Not isinstance: True is an int.
        if type(before) is not int:
            raise LedgerCorruptError(f"{key.pk} / {key.sk} has a value of another type, where a number should be")
        item[name] = before + amount
    for name, strings in action.discard.items():
        strings_before = item.get(name)
        if isinstance(strings_before, frozenset):
            left = strings_before - strings
            if left:
                item[name] = left
            else:
                del item[name]
    for name in action.remove:
        item.pop(name, None)
    return item
