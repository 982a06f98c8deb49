"""Numbers of an account's kinds of usage: the dictionary for its usage items (P45).

| pk            | sk                                    | attributes                        |
|---------------|---------------------------------------|-----------------------------------|
| `D#<account>` | `K#<usage type>#<service>#<from>#<to>` | `number`                         |
| `D#<account>` | `N#<number>`, 6 digits                | `usage_type, service, from, to`   |

Numbers belong to one account and are dense from 0. A number and its name are claimed in one transaction, each if
absent, and neither ever changes. Numbers never leave the usage table: plans, answers and logs carry names.

Each of the two items states what the other does. So a lost item is read from the other one, and put back by the next
claim. If both are lost, the meaning of the number is unknown. This is a `LedgerCorruptError` until a rebuild gives the
number to a kind of the rows that has none, and corrects the figures by the rows.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from metering.errors import ConditionFailedError, LedgerCorruptError, TransactionCanceledError, UnavailableError
from metering.ledger import partitions
from metering.stores.codec import Fields, SortKey, StoredItem, item_of
from metering.stores.writes import MAX_TRANSACTION_ACTIONS, Absent, Check, Item, ItemStore, Key, Put, Table, Value
from metering.units import DAY_S
from metering.usage.totals import Service, UsageKind, UsageType

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from metering.stores import clock

# Maximum number of kinds in an account's dictionary, the same for all accounts and permanent (P45).
#
# | pk        | sk             | attributes |
# |-----------|----------------|------------|
# | `S#kinds` | `<generation>` | `cap`      |
#
# The process that claims the first number of a usage generation makes its own setting the cap of that generation. No
# number at or above it is ever claimed. So a full dictionary stays full, and a kind that is not in it is booked under
# its name from then on: a cap that rose would put one kind of one hour into two items, and neither would settle against
# the rows.


_PK = "S#kinds"


def kind_cap_key(generation: int) -> Key:
    """Key of the cap of a usage generation."""
    return Key(_PK, str(generation))


def known_kind_cap(items: ItemStore, generation: int) -> int | None:
    """The cap of a usage generation; None if no number of it has been claimed yet.

    Raises:
        LedgerCorruptError: It cannot be read.
    """
    item = items.get(Table.LEDGER, kind_cap_key(generation))
    return None if item is None else Fields.of_item(item).whole("cap", least=1)


def settled_kind_cap(items: ItemStore, generation: int, setting: int) -> int:
    """The cap of a usage generation, made durable by the first caller.

    Raises:
        LedgerCorruptError: It cannot be read.
        UnavailableError: It is unknown whether it is durable. The next process begins again.
    """
    known = known_kind_cap(items, generation)
    if known is not None:
        return known
    put = Put(table=Table.LEDGER, item={**kind_cap_key(generation)._asdict(), "cap": setting}, condition=Absent())
    # Whichever process was first, the stored value stays.
    with suppress(ConditionFailedError):
        items.put(put)
    return settled_kind_cap(items, generation, setting)


_NAME = "K#"
_AFTER_NAMES = "K$"
_NUMBER = "N#"
_AFTER_NUMBERS = "N$"
# A process caches this many dictionaries: more than three times the accounts that the service is designed for. A run
# over more accounts than that has no cache hits. With 20 kinds, an account takes 1.4 KB.
_ACCOUNTS_KEPT = 40_000
# Remedy in the message of an error about a lost number.
_MENDED_BY = "`metering rebuild usage` gives it a new name, and corrects usage by the rows"
# This many kinds are shared objects in all of these dictionaries.
_KINDS_SHARED = 100_000


def partition_of_kinds(account_id: str) -> str:
    """Partition of an account's dictionary."""
    return f"{partitions.KINDS}{account_id}"


def kind_key(account_id: str, kind: UsageKind) -> Key:
    """Key of the item that says a kind's number."""
    return Key(partition_of_kinds(account_id), _NAME + "#".join(kind))


def number_key(account_id: str, number: int) -> Key:
    """Key of the item that says what a number stands for."""
    return Key(partition_of_kinds(account_id), f"{_NUMBER}{number:06d}")


def kind_items(account_id: str, number: int, kind: UsageKind) -> tuple[Item, Item]:
    """The two items that give a kind its number: the number's, and the name's."""
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
    """An account's dictionary, as both kinds of its items state it."""

    by_number: Mapping[int, UsageKind]
    by_name: Mapping[UsageKind, int]

    @property
    def following(self) -> int:
        """The number after the last claimed one, once no half of the dictionary is missing."""
        return max(self.by_number, default=-1) + 1

    def whole(self, account_id: str) -> dict[int, UsageKind]:
        """The kinds by number.

        Raises:
            LedgerCorruptError: A number stands for two kinds.
        """
        for kind, number in self.by_name.items():
            if self.by_number.get(number, kind) != kind:
                key = number_key(account_id, number)
                raise LedgerCorruptError(f"{key.pk} / {key.sk} stands for two kinds, one of them {'#'.join(kind)}")
        return {**{number: kind for kind, number in self.by_name.items()}, **self.by_number}


class KindNames:
    """Kinds of each account by number. An unknown number is read again before it raises an error.

    This is a plain class, because it caches the dictionaries of some accounts. They only grow, so a cached one is never
    wrong.
    """

    def __init__(self, items: ItemStore, *, accounts_kept: int = _ACCOUNTS_KEPT) -> None:
        self._items = items
        self._kept = accounts_kept
        self._known: OrderedDict[str, dict[int, UsageKind]] = OrderedDict()
        # Most accounts have the same kinds, and each copy would take half a kilobyte.
        self._shared: dict[UsageKind, UsageKind] = {}

    def of(self, account_id: str) -> Mapping[int, UsageKind]:
        """The account's kinds by number, as last read; read now if not read before."""
        known = self.remembered(account_id)
        return self.read(account_id) if known is None else known

    def remembered(self, account_id: str) -> Mapping[int, UsageKind] | None:
        """The same as far as it is cached; nothing is read."""
        known = self._known.get(account_id)
        if known is not None:
            with suppress(KeyError):
                # Another thread may just have evicted it.
                self._known.move_to_end(account_id)
        return known

    def read(self, account_id: str) -> Mapping[int, UsageKind]:
        """The account's kinds by number, read now.

        Raises:
            LedgerCorruptError: An item of the dictionary cannot be read.
        """
        named = dict(_numbers(self._items, account_id))
        if not _is_dense(named):
            # Another process is claiming a number now, or an item was lost.
            return self._keep(account_id, self.dictionary(account_id).whole(account_id))
        return self._keep(account_id, named)

    def read_whole(self, account_id: str) -> Mapping[int, UsageKind]:
        """The same from both kinds of items, for callers that miss a number or a name.

        Raises:
            LedgerCorruptError: An item of the dictionary cannot be read, or a number stands for two kinds.
        """
        return self._keep(account_id, self.dictionary(account_id).whole(account_id))

    def dictionary(self, account_id: str) -> _Dictionary:
        """Both kinds of items, read now."""
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
        """The kind of a number of an account.

        Raises:
            LedgerCorruptError: The dictionary, read again, does not have it, so it was lost (docs/protocol.md, P41).
        """
        kind = self.of(account_id).get(number) or self.read_whole(account_id).get(number)
        if kind is None:
            key = number_key(account_id, number)
            raise LedgerCorruptError(f"{key.pk} / {key.sk} is missing, and usage items have that number: {_MENDED_BY}")
        return kind


class KindNumbers:
    """Assigns numbers to kinds, for processes that write usage items.

    Args:
        cap: Maximum numbers of an account, if this usage generation has no cap yet (`kind_cap`). Further kinds have no
            number, and get their own items.
        actions: Maximum actions of one claim.
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

    def known(self, account_id: str, kinds: Collection[UsageKind]) -> dict[UsageKind, int]:
        """The numbers of those kinds that have one; claims none.

        Raises:
            LedgerCorruptError: The dictionary cannot be read.
        """
        found = _by_kind(self._retrier.call(lambda: self._names.of(account_id)))
        if not found.keys() >= set(kinds):
            found = _by_kind(self._retrier.call(lambda: self._names.read_whole(account_id)))
        return {kind: found[kind] for kind in kinds if kind in found}

    def remembers(self, account_id: str, kinds: Collection[UsageKind]) -> bool:
        """Whether all of the kinds are known to have numbers, without a call: `claim` would only return them."""
        known = self._names.remembered(account_id)
        return known is not None and set(kinds) <= set(known.values())

    def claim(
        self, account_id: str, kinds: Collection[UsageKind], *, fills: bool = False
    ) -> dict[UsageKind, int | None]:
        """The number of each kind, claimed if it has none yet; None for a kind beyond the cap.

        Every number is sure when this returns (P3); only then may a plan use it.

        Args:
            account_id: Id of the account.
            kinds: The kinds that need a number.
            fills: Give a number that was lost with its name to one of the kinds. Usage items under this number then
                count as that kind, so it is only for callers that compare them with the rows next.

        Raises:
            LedgerCorruptError: The dictionary cannot be read, or a number and its name are lost.
            UnavailableError: It is unknown whether the numbers are claimed. The next process begins again.
        """
        failures = 0
        cap = self._settled_cap()
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
        """Whether a claim of some of the kinds surely landed, or is not needed. If not, everything is read again.

        An assigned number is never assigned again, even if one of its two items was lost. So both are read.
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

    def _put_back(self, items: Sequence[Item]) -> None:
        """Put a lost item from its other half; for a claim that is landing, the item is there already."""
        for item in items:
            with suppress(ConditionFailedError, UnavailableError):
                self._items.put(Put(table=Table.LEDGER, item=item, condition=Absent()))

    def _is_lost(self, account_id: str, number: int) -> bool:
        """Whether a number below the last one is surely missing.

        A query sees a transaction item by item, so a gap may be a claim that is just landing. A transaction sees all of
        another one or nothing. It is refused if the number is there, and cancelled while the number's claim lands.
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
        """Whether this claim surely landed. If not, the dictionary is read again first."""
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
    """Whether no number is missing below the last one."""
    return len(numbers) == max(numbers, default=-1) + 1


def _by_kind(numbers: Mapping[int, UsageKind]) -> dict[UsageKind, int]:
    return {kind: number for number, kind in numbers.items()}


BEYOND_CAP_PK = f"{partitions.NOTE}kinds"
# A note outlives the period of an alarm, and no account is noted forever.
_LIFE_S = 2 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class KindsBeyondCap(StoredItem):
    """Kinds of an account that the roll-up last booked without numbers.

    Attributes:
        kinds: Kinds without a number in one run.
        example: One of them, as `<usage type>#<service>#<from>#<to>`.
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
