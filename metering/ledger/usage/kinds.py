"""Numbers of an account's kinds of usage: the dictionary for its usage items (P45).

| pk            | sk                                    | attributes                        |
|---------------|---------------------------------------|-----------------------------------|
| `D#<account>` | `K#<usage type>#<service>#<from>#<to>` | `number`                         |
| `D#<account>` | `N#<number>`, 6 digits                | `usage_type, service, from, to`   |

Numbers belong to one account and are dense from 0. A transaction writes a number and its name, both only if absent;
neither of them ever changes. Numbers never leave the usage table: plans, responses and logs contain names.

Each of the two items states the number and the name. So a lost item is read from the other item, and the next claim
restores it. If both items are lost, the meaning of the number is unknown. Reading it raises `LedgerCorruptError` until
a rebuild assigns the number to a kind of the rows without number, and corrects the figures.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from metering.errors import ConditionFailedError, LedgerCorruptError, TransactionCanceledError, UnavailableError
from metering.ledger import partitions
from metering.ledger.usage.items import BUCKET_KINDS
from metering.stores import clock
from metering.stores.codec import Fields, SortKey, StoredItem, item_of
from metering.stores.writes import (
    MAX_TRANSACTION_ACTIONS,
    Absent,
    Check,
    Item,
    ItemStore,
    Key,
    Put,
    Table,
    Value,
    key_of,
)
from metering.units import DAY_S
from metering.usage.totals import REGION, Service, UsageKind, UsageType

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence


# Maximum number of kinds in an account's dictionary; it is the same for all accounts and permanent (P45).
#
# | pk        | sk             | attributes |
# |-----------|----------------|------------|
# | `S#kinds` | `<generation>` | `cap`      |
#
# The process that claims the first number of a usage generation makes its own setting the cap of that generation. No
# number at or above the cap is ever claimed. So a full dictionary stays full, and from then on, a kind outside the
# dictionary is booked under its name. If the cap rose, one kind of one hour would be in two items, and neither item
# would settle against the rows.


KIND_CAPS_PK = "S#kinds"


def kind_cap_key(generation: int) -> Key:
    """Key of the item with the kind cap of a usage generation."""
    return Key(KIND_CAPS_PK, str(generation))


def known_kind_cap(items: ItemStore, generation: int) -> int | None:
    """Kind cap of a usage generation; None if no number of this generation has been claimed yet.

    Raises:
        LedgerCorruptError: It cannot be read.
    """
    item = items.get(Table.LEDGER, kind_cap_key(generation))
    return None if item is None else Fields.of_item(item).whole("cap", least=1)


def settled_kind_cap(items: ItemStore, generation: int, setting: int) -> int:
    """The kind cap of a usage generation; the first caller stores the cap.

    Raises:
        LedgerCorruptError: It cannot be read.
        UnavailableError: It is unknown whether the cap is durable. The next process retries.
    """
    known = known_kind_cap(items, generation)
    if known is not None:
        return known
    put = Put(table=Table.LEDGER, item={**kind_cap_key(generation)._asdict(), "cap": setting}, condition=Absent())
    # The stored value remains, whichever process wrote it first.
    with suppress(ConditionFailedError):
        items.put(put)
    return settled_kind_cap(items, generation, setting)


# Partition of the directory: an item for each account that has usage, whose sort key is the account's id.
DIRECTORY = f"{partitions.KINDS}accounts"
# Maximum number of kinds in the region's dictionary (`region`): 8 items an hour.
REGION_KINDS = 8 * BUCKET_KINDS

_NAME = "K#"
_AFTER_NAMES = "K$"
_NUMBER = "N#"
_AFTER_NUMBERS = "N$"
# Number of dictionaries that a process caches: more than three times the accounts that the service is designed for. A
# run over more accounts than that has no cache hits. With 20 kinds, an account takes 1.4 KB.
_ACCOUNTS_KEPT = 40_000
# Remedy that is named in error messages about a lost number.
_MENDED_BY = "`metering rebuild usage` gives it a new name, and corrects usage by the rows"
# Number of kinds whose objects all these dictionaries share.
_KINDS_SHARED = 100_000


def partition_of_kinds(account_id: str) -> str:
    """Partition with an account's dictionary of kinds."""
    return f"{partitions.KINDS}{account_id}"


def kind_key(account_id: str, kind: UsageKind) -> Key:
    """Key of the item that holds the number of a kind."""
    return Key(partition_of_kinds(account_id), _NAME + "#".join(kind))


def number_key(account_id: str, number: int) -> Key:
    """Key of the item that holds the kind of a number."""
    return Key(partition_of_kinds(account_id), f"{_NUMBER}{number:06d}")


def kind_items(account_id: str, number: int, kind: UsageKind) -> tuple[Item, Item]:
    """The two items that assign a number to a kind: one by number, one by name."""
    named = {"usage_type": kind.usage_type, "service": kind.service, "from": kind.from_location, "to": kind.to_location}
    return (
        {**number_key(account_id, number)._asdict(), **named},
        {**kind_key(account_id, kind)._asdict(), "number": number},
    )


def _named(item: Item) -> tuple[int, UsageKind]:
    fields = Fields.of_item(item)
    number = fields.number_after("sk", _NUMBER)
    return number, kind_of(fields)


def kind_of(fields: Fields) -> UsageKind:
    """The kind with these fields."""
    return UsageKind(
        UsageType(fields.text("usage_type")), Service(fields.text("service")), fields.text("from"), fields.text("to")
    )


class _Dictionary(NamedTuple):
    """An account's dictionary of kinds, read from the items by number and the items by name."""

    by_number: Mapping[int, UsageKind]
    by_name: Mapping[UsageKind, int]

    @property
    def following(self) -> int:
        """Next number to claim; valid only if no item of the dictionary is missing."""
        return max(self.by_number, default=-1) + 1

    def whole(self, account_id: str) -> dict[int, UsageKind]:
        """The kinds by number.

        Raises:
            LedgerCorruptError: A number is assigned to two kinds.
        """
        for kind, number in self.by_name.items():
            if self.by_number.get(number, kind) != kind:
                key = number_key(account_id, number)
                raise LedgerCorruptError(f"{key.pk} / {key.sk} stands for two kinds, one of them {'#'.join(kind)}")
        return {**{number: kind for kind, number in self.by_name.items()}, **self.by_number}


class KindNames:
    """Kinds of each account by number. If a number is unknown, the dictionary is read again before an error is raised.

    This is a plain class, because it caches the dictionaries of some accounts. Dictionaries only grow, so a cached
    dictionary is never wrong, only incomplete.
    """

    def __init__(self, items: ItemStore, *, accounts_kept: int = _ACCOUNTS_KEPT) -> None:
        self._items = items
        self._kept = accounts_kept
        self._known: OrderedDict[str, dict[int, UsageKind]] = OrderedDict()
        # Most accounts have the same kinds, and each copy of a kind would take half a kilobyte.
        self._shared: dict[UsageKind, UsageKind] = {}

    def of(self, account_id: str) -> Mapping[int, UsageKind]:
        """The account's kinds by number from the cache; read if not cached."""
        known = self.remembered(account_id)
        return self.read(account_id) if known is None else known

    def remembered(self, account_id: str) -> Mapping[int, UsageKind] | None:
        """The account's cached kinds by number; None if not cached."""
        known = self._known.get(account_id)
        if known is not None:
            with suppress(KeyError):
                # Another thread may just have evicted the account.
                self._known.move_to_end(account_id)
        return known

    def read(self, account_id: str) -> Mapping[int, UsageKind]:
        """The account's kinds by number, read now.

        Raises:
            LedgerCorruptError: An item of the dictionary cannot be read.
        """
        named = dict(_numbers(self._items, account_id))
        if not _is_dense(named):
            # Either another process is claiming a number now, or an item was lost.
            return self._keep(account_id, self.dictionary(account_id).whole(account_id))
        return self._keep(account_id, named)

    def read_whole(self, account_id: str) -> Mapping[int, UsageKind]:
        """Like `read`, but from the items by number and the items by name, for callers that lack a number or a name.

        Raises:
            LedgerCorruptError: An item of the dictionary cannot be read, or a number is assigned to two kinds.
        """
        return self._keep(account_id, self.dictionary(account_id).whole(account_id))

    def dictionary(self, account_id: str) -> _Dictionary:
        """The items by number and the items by name of an account's dictionary, read now."""
        pk = partition_of_kinds(account_id)
        names = self._items.query(Table.LEDGER, pk, sk_from=_NAME, sk_to=_AFTER_NAMES)
        return _Dictionary(by_number=dict(_numbers(self._items, account_id)), by_name=dict(map(_numbered, names)))

    def _keep(self, account_id: str, named: Mapping[int, UsageKind]) -> Mapping[int, UsageKind]:
        known = {number: self._one(kind) for number, kind in named.items()}
        self._known.pop(account_id, None)
        self._known[account_id] = known
        while len(self._known) > self._kept:
            self._known.popitem(last=False)
        return known

    def _one(self, kind: UsageKind) -> UsageKind:
        """The object that represents all equal kinds."""
        if len(self._shared) >= _KINDS_SHARED:
            self._shared.clear()
        return self._shared.setdefault(kind, kind)

    def kind(self, account_id: str, number: int) -> UsageKind:
        """The kind with this number in an account.

        Raises:
            LedgerCorruptError: The dictionary, read again, lacks the number, which was lost (docs/protocol.md, P41).
        """
        kind = self.of(account_id).get(number) or self.read_whole(account_id).get(number)
        if kind is None:
            key = number_key(account_id, number)
            raise LedgerCorruptError(f"{key.pk} / {key.sk} is missing, and usage items have that number: {_MENDED_BY}")
        return kind


class KindNumbers:
    """Assigns numbers to kinds, for processes that write usage items.

    Args:
        cap: Maximum numbers of an account, if this usage generation has no cap yet (`kind_cap`). Kinds beyond this
            maximum have no number, but items of their own.
        actions: Maximum actions of one transaction that claims numbers.
        region_cap: Maximum numbers of the region. It never changes, because a full dictionary stays full.
    """

    def __init__(
        self,
        items: ItemStore,
        *,
        retrier: clock.Retrier,
        cap: int,
        generation: int,
        names: KindNames | None = None,
        actions: int = MAX_TRANSACTION_ACTIONS,
        region_cap: int = REGION_KINDS,
    ) -> None:
        self._items = items
        self._retrier = retrier
        self._setting = cap
        self._generation = generation
        self._cap: int | None = None
        self._names = KindNames(items) if names is None else names
        self._claimed_at_once = max(1, actions // 2)
        self._region_cap = region_cap
        self._listed: set[str] | None = None

    @property
    def names(self) -> KindNames:
        return self._names

    def known(self, account_id: str, kinds: Collection[UsageKind]) -> dict[UsageKind, int]:
        """Return the number of each kind that has a number; claim no new numbers.

        Raises:
            LedgerCorruptError: The dictionary cannot be read.
        """
        found = _by_kind(self._retrier.call(lambda: self._names.of(account_id)))
        if not found.keys() >= set(kinds):
            found = _by_kind(self._retrier.call(lambda: self._names.read_whole(account_id)))
        return {kind: found[kind] for kind in kinds if kind in found}

    def remembers(self, account_id: str, kinds: Collection[UsageKind]) -> bool:
        """Whether the cache has numbers for all of the kinds: `claim` would only return these numbers."""
        known = self._names.remembered(account_id)
        return known is not None and set(kinds) <= set(known.values())

    def claim(
        self, account_id: str, kinds: Collection[UsageKind], *, fills: bool = False
    ) -> dict[UsageKind, int | None]:
        """Return the number of each kind, and claim missing numbers; None for a kind beyond the cap.

        The returned numbers are durable (P3), so a plan may use them.

        Args:
            account_id: Id of the account.
            kinds: The kinds that need a number.
            fills: Assign a lost number, whose name is also lost, to one of the kinds. Usage items with this number then
                count as that kind, so the caller must next compare these items with the rows.

        Raises:
            LedgerCorruptError: The dictionary cannot be read, or a number was lost together with its name.
            UnavailableError: It is unknown whether the claim of the numbers succeeded. The next process retries.
        """
        failures = 0
        cap = self._region_cap if account_id == REGION else self._settled_cap()
        numbers: Mapping[int, UsageKind] = self._retrier.call(lambda: self._names.of(account_id))
        while True:
            found = _by_kind(numbers)
            missing = sorted(set(kinds) - found.keys())
            # A full dictionary stays full, and a kind outside it never gets a number.
            if not missing or (_is_dense(numbers) and len(numbers) >= cap):
                return {kind: found.get(kind) for kind in kinds}
            if not self._begin_claim(account_id, missing, cap, fills=fills):
                failures += 1
                if failures > self._retrier.attempts:
                    raise UnavailableError("KindNumbers.claim", f"kinds of account {account_id} are being claimed")
                self._retrier.pause(failures)
            numbers = self._retrier.call(lambda: self._names.read(account_id))

    def _begin_claim(self, account_id: str, kinds: Sequence[UsageKind], cap: int, *, fills: bool) -> bool:
        """Whether a claim of some kinds certainly succeeded, or is not needed. If False, the dictionary is read again.

        No number is assigned twice, even if one of the number's two items was lost. So both are read.
        """
        found = self._retrier.call(lambda: self._names.dictionary(account_id))
        whole = found.whole(account_id)
        halves = [
            item
            for number, kind in whole.items()
            if number not in found.by_number or kind not in found.by_name
            for item in kind_items(account_id, number, kind)
        ]
        if halves:
            self._put_back(halves)
            return False
        missing = [kind for kind in kinds if kind not in found.by_name]
        hole = next((number for number in range(found.following) if number not in whole), None)
        if hole is not None:
            lost = self._is_lost(account_id, hole)
            if lost and not fills:
                key = number_key(account_id, hole)
                raise LedgerCorruptError(f"{key.pk} / {key.sk} is missing, and so is its name: {_MENDED_BY}")
            return lost and bool(missing) and self._claim(account_id, hole, missing[:1])
        block = missing[: min(self._claimed_at_once, max(0, cap - found.following))]
        return not block or self._claim(account_id, found.following, block)

    def enlist(self, accounts: Collection[str], *, threads: int = 1) -> None:
        """Put accounts into the directory. Afterwards all of them are there, for sure (P3).

        Raises:
            UnavailableError: It is unknown whether an account was put; repeat the call before continuing.
        """
        if self._listed is None:
            self._listed = set(self._retrier.call(lambda: list(all_accounts(self._items))))
        missing = sorted(set(accounts) - self._listed)
        clock.do_all(self._enlist, missing, threads=threads)
        self._listed.update(missing)

    def _enlist(self, account_id: str) -> None:
        put = Put(table=Table.LEDGER, item=Key(DIRECTORY, account_id)._asdict(), condition=Absent())
        with suppress(ConditionFailedError):
            self._retrier.call(lambda: self._items.put(put))

    def _put_back(self, items: Sequence[Item]) -> None:
        """Restore lost items from the other item of each pair; skip items that a concurrent claim has written."""
        for item in items:
            with suppress(ConditionFailedError, UnavailableError):
                self._items.put(Put(table=Table.LEDGER, item=item, condition=Absent()))

    def _is_lost(self, account_id: str, number: int) -> bool:
        """Whether a number below the last number is certainly missing.

        A query may see part of a transaction, so a gap may be a claim in progress. A transaction sees another
        transaction fully or not at all. The check fails if the number exists, or another transaction is claiming it.
        """
        check = Check(table=Table.LEDGER, key=number_key(account_id, number), condition=Absent())
        try:
            self._items.transact([check])
        except (TransactionCanceledError, UnavailableError):
            return False
        return True

    def _settled_cap(self) -> int:
        if self._cap is None:
            settled = self._retrier.call(lambda: settled_kind_cap(self._items, self._generation, self._setting))
            self._cap = settled
        return self._cap

    def _claim(self, account_id: str, first: int, kinds: list[UsageKind]) -> bool:
        """Whether this claim certainly succeeded. If False, the dictionary is read again first."""
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


def all_accounts(items: ItemStore) -> Iterator[str]:
    """The accounts of the directory, in order: all that have usage, but the canary's (P52)."""
    return (key_of(item).sk for item in items.query(Table.LEDGER, DIRECTORY))


def _numbers(items: ItemStore, account_id: str) -> Iterator[tuple[int, UsageKind]]:
    found = items.query(Table.LEDGER, partition_of_kinds(account_id), sk_from=_NUMBER, sk_to=_AFTER_NUMBERS)
    return map(_named, found)


def _numbered(item: Item) -> tuple[UsageKind, int]:
    fields = Fields.of_item(item)
    texts = fields.after("sk", _NAME).split("#")
    return (
        UsageKind._make(texts) if len(texts) == len(UsageKind._fields) else fields.fail("sk", "the name of a kind")
    ), fields.whole("number")


def _is_dense(numbers: Collection[int]) -> bool:
    """Whether all numbers from 0 to the highest are present."""
    return len(numbers) == max(numbers, default=-1) + 1


def _by_kind(numbers: Mapping[int, UsageKind]) -> dict[UsageKind, int]:
    return {kind: number for number, kind in numbers.items()}


BEYOND_CAP_PK = f"{partitions.NOTE}kinds"
# A note lasts longer than an alarm's period, but then expires.
_LIFE_S = 2 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class KindsBeyondCap(StoredItem):
    """Kinds of an account that the roll-up last booked without numbers.

    Attributes:
        kinds: Number of kinds without a number in one run.
        example: One of these kinds, as `<usage type>#<service>#<from>#<to>`.
    """

    account_id: SortKey
    kinds: int
    example: str
    seen_s: int

    @property
    def key(self) -> Key:
        return Key(BEYOND_CAP_PK, self.account_id)

    def to_item(self) -> dict[str, Value]:
        return item_of(self) | {"expires_at": self.seen_s + _LIFE_S}
