"""Numbers of an account's kinds of usage: the dictionary that usage items are written with (P45).

| pk            | sk                                    | attributes                        |
|---------------|---------------------------------------|-----------------------------------|
| `D#<account>` | `K#<usage type>#<service>#<from>#<to>` | `number`                         |
| `D#<account>` | `N#<number>`, 6 digits                | `usage_type, service, from, to`   |

Numbers are an account's own, dense from 0. A number and its name are claimed in one transaction, each if absent, and
neither ever changes. Numbers never leave the usage table: plans, answers and logs carry names.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING

from metering.errors import LedgerCorruptError, TransactionCanceledError, UnavailableError
from metering.ledger import partitions
from metering.ledger.usage.kind_cap import settled_kind_cap
from metering.stores.fields import Fields
from metering.stores.writes import MAX_TRANSACTION_ACTIONS, Absent, Key, Put, Table
from metering.usage.totals import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from metering.stores.items import ItemStore
    from metering.stores.retrying import Retrier
    from metering.stores.writes import Item

_NAME = "K#"
_NUMBER = "N#"
_AFTER_NUMBERS = "N$"
# Dictionaries that a process remembers: more than three times the accounts that the service is made for. A run that
# goes over more accounts than these finds none of them again. With 20 kinds an account takes 1.4 KB.
_ACCOUNTS_KEPT = 40_000
# Kinds that are one object in all of these dictionaries.
_KINDS_SHARED = 100_000


def partition_of_kinds(account_id: str) -> str:
    """Partition of an account's dictionary."""
    return f"{partitions.KINDS}{account_id}"


def kind_key(account_id: str, kind: Kind) -> Key:
    """Key of the item that says a kind's number."""
    return Key(partition_of_kinds(account_id), _NAME + "#".join(kind))


def number_key(account_id: str, number: int) -> Key:
    """Key of the item that says what a number stands for."""
    return Key(partition_of_kinds(account_id), f"{_NUMBER}{number:06d}")


def kind_items(account_id: str, number: int, kind: Kind) -> tuple[Item, Item]:
    """The two items that give a kind its number: that of the number, and that of the name."""
    named = {
        "usage_type": kind.usage_type,
        "service": kind.service,
        "from": kind.from_location,
        "to": kind.to_location,
    }
    return (
        {**number_key(account_id, number)._asdict(), **named},
        {**kind_key(account_id, kind)._asdict(), "number": number},
    )


def _named(item: Item) -> tuple[int, Kind]:
    fields = Fields.of_item(item)
    number = fields.number_after("sk", _NUMBER)
    return number, Kind(fields.text("usage_type"), fields.text("service"), fields.text("from"), fields.text("to"))


class KindNames:
    """What the numbers of each account stand for. A number that is not known is read again, then it is an error.

    A plain class: it remembers the dictionaries of some accounts. They only grow, so an old memory is never wrong.
    """

    def __init__(self, items: ItemStore, *, accounts_kept: int = _ACCOUNTS_KEPT) -> None:
        self._items = items
        self._kept = accounts_kept
        self._known: OrderedDict[str, dict[int, Kind]] = OrderedDict()
        # Most accounts have the same kinds, and each would be half a kilobyte once more.
        self._shared: dict[Kind, Kind] = {}

    def of(self, account_id: str) -> Mapping[int, Kind]:
        """The account's kinds by number, as they were read last; read now if they never were."""
        known = self.remembered(account_id)
        return self.read(account_id) if known is None else known

    def remembered(self, account_id: str) -> Mapping[int, Kind] | None:
        """The same as far as it is remembered; nothing is read."""
        known = self._known.get(account_id)
        if known is not None:
            with suppress(KeyError):
                # Another thread may just have dropped it.
                self._known.move_to_end(account_id)
        return known

    def read(self, account_id: str) -> Mapping[int, Kind]:
        """The account's kinds by number, read now.

        Raises:
            LedgerCorruptError: An item of the dictionary cannot be read.
            UnavailableError: The ledger gives no answer.
        """
        known = {number: self._one(kind) for number, kind in _numbers(self._items, account_id)}
        self._known.pop(account_id, None)
        self._known[account_id] = known
        while len(self._known) > self._kept:
            self._known.popitem(last=False)
        return known

    def _one(self, kind: Kind) -> Kind:
        """The object that stands for all equal kinds."""
        if len(self._shared) >= _KINDS_SHARED:
            self._shared.clear()
        return self._shared.setdefault(kind, kind)

    def kind(self, account_id: str, number: int) -> Kind:
        """What a number of an account stands for.

        Raises:
            LedgerCorruptError: The dictionary, read again, does not have it: it was lost (docs/protocol.md, P41).
            UnavailableError: The ledger gives no answer.
        """
        kind = self.of(account_id).get(number) or self.read(account_id).get(number)
        if kind is None:
            key = number_key(account_id, number)
            raise LedgerCorruptError(f"{key.pk} / {key.sk} is missing, and usage items have that number")
        return kind


class KindNumbers:
    """Gives kinds their numbers, for who writes usage items.

    Args:
        cap: Most numbers of an account, if this usage generation has no cap yet (`kind_cap`). Further kinds have none,
            and get items of their own.
        generation: The usage generation that is written to.
        names: The dictionaries that it reads.
        actions: Most actions of one claim.
    """

    def __init__(
        self,
        items: ItemStore,
        *,
        retrier: Retrier,
        cap: int,
        generation: int,
        names: KindNames | None = None,
        actions: int = MAX_TRANSACTION_ACTIONS,
    ) -> None:
        self._items = items
        self._retrier = retrier
        self._setting = cap
        self._generation = generation
        self._cap: int | None = None
        self._names = KindNames(items) if names is None else names
        self._claimed_at_once = max(1, actions // 2)

    @property
    def names(self) -> KindNames:
        return self._names

    def known(self, account_id: str, kinds: Collection[Kind]) -> dict[Kind, int]:
        """The numbers of those of the kinds that have one; claims none.

        Raises:
            LedgerCorruptError: The dictionary cannot be read.
            UnavailableError: The ledger gives no answer.
        """
        found = _by_kind(self._retrier.call(lambda: self._names.of(account_id)))
        if not found.keys() >= set(kinds):
            found = _by_kind(self._retrier.call(lambda: self._names.read(account_id)))
        return {kind: found[kind] for kind in kinds if kind in found}

    def remembers(self, account_id: str, kinds: Collection[Kind]) -> bool:
        """Whether all of the kinds are known to have numbers, without a call: `claim` would only say them."""
        known = self._names.remembered(account_id)
        return known is not None and set(kinds) <= set(known.values())

    def claim(self, account_id: str, kinds: Collection[Kind]) -> dict[Kind, int | None]:
        """The number of each kind, claimed if it has none yet; None for a kind beyond the cap.

        Every number is sure when this returns (P3): only then may a plan rely on it.

        Raises:
            LedgerCorruptError: The dictionary cannot be read.
            UnavailableError: It is unknown whether the numbers are claimed. Whoever comes next begins again.
        """
        failures = 0
        cap = self._settled_cap()
        numbers: Mapping[int, Kind] = self._retrier.call(lambda: self._names.of(account_id))
        while True:
            found = _by_kind(numbers)
            missing = sorted(set(kinds) - found.keys())
            following = max(numbers, default=-1) + 1
            # A query sees a transaction item by item, so a gap is a claim that is just landing. Once a dictionary is
            # full, it stays so, and what is not in it never gets a number.
            settled = len(numbers) == following
            block = missing[: min(self._claimed_at_once, max(0, cap - following))]
            if not missing or (settled and not block):
                return {kind: found.get(kind) for kind in kinds}
            landed = settled and self._claim(account_id, following, block)
            if not landed:
                failures += 1
                if failures > self._retrier.attempts:
                    raise UnavailableError("KindNumbers.claim", f"kinds of account {account_id} are being claimed")
                self._retrier.pause(failures)
            numbers = self._retrier.call(lambda: self._names.read(account_id))

    def _settled_cap(self) -> int:
        if self._cap is None:
            settled = self._retrier.call(lambda: settled_kind_cap(self._items, self._generation, self._setting))
            self._cap = settled
        return self._cap

    def _claim(self, account_id: str, first: int, kinds: list[Kind]) -> bool:
        """Whether this claim surely landed. If not, the dictionary is read again before anything else."""
        actions = [
            Put(table=Table.LEDGER, item=item, condition=Absent())
            for number, kind in enumerate(kinds, start=first)
            for item in kind_items(account_id, number, kind)
        ]
        try:
            self._items.transact(actions)
        except (TransactionCanceledError, UnavailableError):
            return False
        return True


def _numbers(items: ItemStore, account_id: str) -> Iterator[tuple[int, Kind]]:
    found = items.query(Table.LEDGER, partition_of_kinds(account_id), sk_from=_NUMBER, sk_to=_AFTER_NUMBERS)
    return map(_named, found)


def _by_kind(numbers: Mapping[int, Kind]) -> dict[Kind, int]:
    return {kind: number for number, kind in numbers.items()}
