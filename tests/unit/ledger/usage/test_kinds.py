"""Kind numbers are dense, per account, reliably claimed, and never assigned twice (P45)."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import pytest

from metering.errors import LedgerCorruptError, TransactionCanceledError, UnavailableError
from metering.ledger.usage.kinds import (
    KindNames,
    KindNumbers,
    kind_key,
    known_kind_cap,
    number_key,
    partition_of_kinds,
    settled_kind_cap,
)
from metering.stores.clock import Retrier
from metering.stores.writes import Action, Item, Key, Put, Table
from metering.usage.totals import Service, UsageKind, UsageType
from tests.support.memory.clock import ManualClock, SeededEntropy
from tests.support.memory.items import MemoryItemStore

ONE, OTHER = "111111111111", "222222222222"


def kinds(*names: str) -> list[UsageKind]:
    return [UsageKind(UsageType(name), Service("AmazonEC2"), "us-east-1", "internet") for name in names]


def numbers_over(items: MemoryItemStore, *, cap: int = 100, actions: int = 100, generation: int = 2) -> KindNumbers:
    retrier = Retrier(clock=ManualClock(0), entropy=SeededEntropy(1), attempts=4)
    return KindNumbers(items, retrier=retrier, cap=cap, generation=generation, actions=actions)


def with_kinds(*names: str, cap: int = 100) -> MemoryItemStore:
    items = MemoryItemStore()
    numbers_over(items, cap=cap).claim(ONE, kinds(*names))
    return items


def assert_sound(items: MemoryItemStore, accounts: Iterable[str] = (ONE, OTHER)) -> None:
    """Check that numbers are dense from 0, and that number items and name items match."""
    for account in accounts:
        named = dict(KindNames(items).read(account))
        assert sorted(named) == list(range(len(named)))
        assert len(set(named.values())) == len(named)
        for number, kind in named.items():
            item = items.peek(Table.LEDGER, kind_key(account, kind))
            assert item is not None
            assert item["number"] == number
        assert len(list(items.query(Table.LEDGER, partition_of_kinds(account)))) == 2 * len(named)


def test_numbers_are_an_accounts_own_and_dense_from_0() -> None:
    items = MemoryItemStore()
    numbers = numbers_over(items)
    assert list(numbers.claim(ONE, kinds("b", "a")).values()) == [1, 0]
    assert list(numbers.claim(ONE, kinds("c", "a")).values()) == [2, 0]
    assert numbers.claim(OTHER, kinds("c")) == {kinds("c")[0]: 0}
    assert_sound(items)


def test_another_process_finds_the_numbers_that_were_given() -> None:
    items = with_kinds("a", "b")
    second = numbers_over(items)
    assert second.known(ONE, kinds("b", "z")) == {kinds("b")[0]: 1}
    assert second.claim(ONE, kinds("z", "b")) == dict(zip(kinds("z", "b"), (2, 1), strict=True))


def test_a_memory_that_is_behind_reads_again_before_it_says_that_a_kind_has_no_number() -> None:
    items = MemoryItemStore()
    behind = numbers_over(items)
    behind.claim(ONE, kinds("a"))
    numbers_over(items).claim(ONE, kinds("b"))
    assert behind.known(ONE, kinds("b")) == {kinds("b")[0]: 1}
    names = KindNames(items)
    names.read(ONE)
    numbers_over(items).claim(ONE, kinds("c"))
    assert names.kind(ONE, 2) == kinds("c")[0]


def test_a_number_that_no_name_has_is_an_error_and_never_skipped() -> None:
    items = with_kinds("a")
    with pytest.raises(LedgerCorruptError, match="N#000001 is missing"):
        KindNames(items).kind(ONE, 1)


def test_more_kinds_than_a_transaction_takes_are_claimed_by_several() -> None:
    items = MemoryItemStore()
    found = numbers_over(items, actions=10).claim(ONE, kinds(*(f"{each:02d}" for each in range(23))))
    assert sorted(number for number in found.values() if number is not None) == list(range(23))
    assert_sound(items)


@pytest.mark.parametrize("later", [2, 3, 4])
def test_the_cap_of_the_first_claim_is_that_of_the_usage_generation_whatever_is_set_later(later: int) -> None:
    items = MemoryItemStore()
    found = numbers_over(items, cap=3).claim(ONE, kinds("a", "b", "c", "d"))
    assert list(found.values()) == [0, 1, 2, None]
    numbers = numbers_over(items, cap=later)
    assert numbers.claim(ONE, kinds("c", "d", "e")) == dict(zip(kinds("c", "d", "e"), (2, None, None), strict=True))
    assert list(numbers.claim(OTHER, kinds("a", "b", "c", "d")).values()) == [0, 1, 2, None]
    assert known_kind_cap(items, 2) == 3
    assert_sound(items)


def test_another_usage_generation_has_a_cap_of_its_own() -> None:
    items = MemoryItemStore()
    numbers_over(items, cap=1).claim(ONE, kinds("a", "b"))
    assert numbers_over(items, cap=2, generation=3).claim(ONE, kinds("b")) == {kinds("b")[0]: 1}


def test_two_that_ask_first_at_the_same_time_get_the_same_cap() -> None:
    for at in range(3):
        items = MemoryItemStore()
        left = [at]

        def overtake(_call: str, items: MemoryItemStore = items, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                assert settled_kind_cap(items, 2, 7) in (7, 9)

        items.on_call = overtake
        found = settled_kind_cap(items, 2, 9)
        assert left[0] < 0
        assert found == settled_kind_cap(items, 2, 5) == known_kind_cap(items, 2)


@pytest.mark.parametrize("lost", [False, True], ids=["refused", "reply lost"])
def test_a_claim_whose_outcome_is_unknown_is_begun_again(*, lost: bool) -> None:
    for number in count():
        items = MemoryItemStore()
        calls = iter(range(number + 1))

        def fail(call: str, calls: Iterable[int] = calls, last: int = number) -> None:
            if next(iter(calls), None) == last:
                raise UnavailableError(call, "test")

        if lost:
            items.on_reply = fail
        else:
            items.on_call = fail
        found = numbers_over(items, actions=4).claim(ONE, kinds("a", "b", "c", "d", "e"))
        items.on_call = items.on_reply = lambda _call: None
        assert sorted(each for each in found.values() if each is not None) == [0, 1, 2, 3, 4]
        assert_sound(items)
        if next(calls, None) is not None:
            break
    assert number >= 2


class _Overtaken:
    """A store in which another process claims kinds right before one of the calls."""

    def __init__(self, at: int) -> None:
        self.items = MemoryItemStore()
        self.done = False
        self._left = at
        self.items.on_call = self._on

    def _on(self, _call: str) -> None:
        if self.done:
            return
        self.done = self._left == 0
        self._left -= 1
        if self.done:
            numbers_over(self.items, actions=6).claim(ONE, kinds("c", "d", "e", "f"))


def test_two_processes_that_claim_at_the_same_time_never_give_a_number_twice() -> None:
    for at in count():
        overtaken = _Overtaken(at)
        items = overtaken.items
        found = numbers_over(items, actions=6).claim(ONE, kinds("a", "b", "c", "d"))
        if not overtaken.done:
            break
        assert_sound(items)
        assert found == numbers_over(items).claim(ONE, kinds("a", "b", "c", "d"))
    assert at > 5


def test_a_claim_that_never_gets_through_is_unavailable_and_nothing_is_half_claimed() -> None:
    items = MemoryItemStore()

    def unavailable(call: str) -> None:
        if call == "items.transact":
            raise UnavailableError(call, "test")

    items.on_call = unavailable
    with pytest.raises(UnavailableError):
        numbers_over(items).claim(ONE, kinds("a"))
    assert items.peek(Table.LEDGER, number_key(ONE, 0)) is None


def test_only_so_many_dictionaries_are_remembered() -> None:
    items = MemoryItemStore()
    numbers = numbers_over(items)
    for account in (ONE, OTHER):
        numbers.claim(account, kinds("a"))
    names = KindNames(items, accounts_kept=1)
    reads = 0

    def counted(call: str) -> None:
        nonlocal reads
        reads += call == "items.query"

    items.on_call = counted
    for account in (ONE, ONE, OTHER, OTHER, ONE):
        assert names.of(account) == {0: kinds("a")[0]}
    assert reads == 3


def test_what_is_remembered_is_said_without_a_call() -> None:
    items = with_kinds("a", "b")
    numbers = numbers_over(items)
    calls: list[str] = []
    items.on_call = calls.append
    assert not numbers.remembers(ONE, kinds("a"))
    assert calls == []
    numbers.names.read(ONE)
    calls.clear()
    assert numbers.remembers(ONE, kinds("b", "a"))
    assert not numbers.remembers(ONE, kinds("a", "c"))
    assert not numbers.remembers(OTHER, kinds("a"))
    assert calls == []


def test_dictionaries_share_the_kinds_that_they_have_in_common() -> None:
    items = MemoryItemStore()
    for account in (ONE, OTHER):
        numbers_over(items).claim(account, kinds("a", "b"))
    names = KindNames(items)
    assert all(names.of(ONE)[number] is names.of(OTHER)[number] for number in (0, 1))


def lose(items: MemoryItemStore, *keys: Key) -> None:
    for key in keys:
        assert items.peek(Table.LEDGER, key) is not None
        items.remove(Table.LEDGER, key)


def outcome(numbers: KindNumbers, *names: str) -> str:
    """Outcome of a claim, as text."""
    try:
        return str(sorted(numbers.claim(ONE, kinds(*names)).values(), key=str))
    except (LedgerCorruptError, UnavailableError) as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_number_that_was_lost_is_read_from_its_name_and_put_back(lost: int) -> None:
    items = with_kinds("a", "b", "c")
    lose(items, number_key(ONE, lost))
    found = outcome(numbers_over(items), "d")
    assert found == "[3]", "a hole is taken for a claim that is landing, for ever, or a number is given twice"
    assert_sound(items)


@pytest.mark.parametrize("lost", ["a", "b", "c"])
def test_a_name_that_was_lost_is_put_back_by_the_next_claim(lost: str) -> None:
    items = with_kinds("a", "b", "c")
    lose(items, kind_key(ONE, kinds(lost)[0]))
    assert outcome(numbers_over(items), "d") == "[3]"
    assert_sound(items)


def test_readers_know_a_number_by_its_name_before_anybody_puts_it_back() -> None:
    items = with_kinds("a", "b", "c")
    for number, kind in enumerate(kinds("a", "b", "c")):
        lose(items, number_key(ONE, number))
        assert KindNames(items).kind(ONE, number) == kind
        assert numbers_over(items).known(ONE, [kind]) == {kind: number}


def test_a_number_that_is_lost_with_its_name_is_corrupt_and_not_a_claim_that_is_landing() -> None:
    items = with_kinds("a", "b", "c")
    lose(items, number_key(ONE, 1), kind_key(ONE, kinds("b")[0]))
    found = outcome(numbers_over(items), "d")
    assert found.startswith("LedgerCorruptError: D#111111111111 / N#000001 is missing"), "it is held for a claim"
    assert "`metering rebuild usage`" in found
    # Numbered kinds need no claim, so their booking continues; no number was assigned in the meantime.
    assert outcome(numbers_over(items), "a", "c") == "[0, 2]"
    assert sorted(KindNames(items).read(ONE)) == [0, 2]


def test_a_lost_number_of_a_full_dictionary_is_corrupt_too() -> None:
    """Otherwise the lost kind would be booked by name, and so would be in two usage items."""
    items = with_kinds("a", "b", "c", cap=3)
    lose(items, number_key(ONE, 1), kind_key(ONE, kinds("b")[0]))
    assert outcome(numbers_over(items, cap=3), "b").startswith("LedgerCorruptError: ")


class Landing(MemoryItemStore):
    """A claim in progress: others see its `hidden` items only after `queries` queries; before, nothing is written."""

    def __init__(self, hidden: Collection[str], queries: int) -> None:
        super().__init__()
        self.hidden, self.queries = hidden, queries

    def query(self, table: Table, pk: str, **rest: Any) -> Iterator[Item]:
        self.queries -= 1
        return (item for item in super().query(table, pk, **rest) if self.queries < 0 or item["sk"] not in self.hidden)

    def transact(self, actions: Sequence[Action]) -> None:
        if self.queries >= 0 and any(action.key.sk in self.hidden for action in actions):
            raise TransactionCanceledError([("TransactionConflict", None)] * len(actions))
        super().transact(actions)

    def put(self, action: Put) -> None:
        if self.queries >= 0 and action.key.sk in self.hidden:
            raise UnavailableError("items.put", "TransactionConflict", may_have_applied=False)
        super().put(action)


HALVES = ["N#000001", kind_key(ONE, kinds("b")[0]).sk]


@pytest.mark.parametrize("hidden", [HALVES, HALVES[:1], HALVES[1:]])
@pytest.mark.parametrize("queries", range(8))
def test_a_claim_that_is_landing_is_waited_for_and_never_taken_for_a_loss(hidden: list[str], queries: int) -> None:
    items = Landing(hidden, -1)
    numbers_over(items).claim(ONE, kinds("a", "b", "c"))
    items.queries = queries
    assert outcome(numbers_over(items), "d") == "[3]"
    items.queries = -1
    assert_sound(items)


def test_who_compares_with_the_rows_next_may_give_a_lost_number_to_a_kind_that_has_none() -> None:
    items = with_kinds("a", "b", "c")
    lose(items, number_key(ONE, 1), kind_key(ONE, kinds("b")[0]))
    assert numbers_over(items).claim(ONE, kinds("e", "d"), fills=True) == dict(
        zip(kinds("d", "e"), (1, 3), strict=True)
    )
    assert_sound(items)


def test_a_number_of_two_kinds_is_corrupt() -> None:
    items = with_kinds("a", "b")
    items.put(Put(table=Table.LEDGER, item={**kind_key(ONE, kinds("c")[0])._asdict(), "number": 1}))
    assert "stands for two kinds" in outcome(numbers_over(items), "d")
