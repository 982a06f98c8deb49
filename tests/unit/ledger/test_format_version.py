"""Code that is older than the format of a ledger never changes the ledger."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import metering
from metering.errors import (
    FormatTooNewError,
    FormatTooOldError,
    GenerationError,
    LedgerCorruptError,
    OperationFailedError,
    UnavailableError,
)
from metering.ledger.format_version import (
    FORMAT_KEY,
    FORMAT_VERSION,
    RESTORED_FORMAT,
    LedgerFormat,
    LedgerState,
    WatchedLedger,
    check_format,
    check_readable,
    remember_format,
    stored_format,
)
from metering.ledger.runs import Run, rollup_chain
from metering.ledger.usage.generation import (
    GENERATION_KEY,
    UsageGeneration,
    check_chains,
    check_generation,
    mark_run,
    remember_generation,
    usage_generation,
)
from metering.stores.writes import Check, Delete, Exists, ItemStore, Key, Put, Table, Update
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore

NEWER = LedgerFormat(number=RESTORED_FORMAT + 1, written_by="0.2.0", usage_generation=2, drop_identity="etag")


def ledger(found: LedgerFormat | None = None) -> tuple[MemoryItemStore, list[str]]:
    """A ledger that records the calls that it receives."""
    items = MemoryItemStore()
    if found is not None:
        items.put(Put(table=Table.LEDGER, item=found.to_item()))
    calls: list[str] = []
    items.on_call = calls.append
    return items, calls


def remembered(items: MemoryItemStore) -> LedgerFormat | None:
    return next(map(LedgerFormat.from_item, items.everything(Table.LEDGER)), None)


def test_a_ledger_that_does_not_say_its_format_is_new_and_asking_writes_nothing() -> None:
    items, calls = ledger()
    check_format(items)
    assert (remembered(items), calls) == (None, ["items.get"])


def test_the_first_writer_makes_the_format_known_and_those_after_it_write_nothing() -> None:
    items, calls = ledger()
    remember_format(items, written_by="0.1.0", usage_generation=2, drop_identity="etag")
    remember_format(items, written_by="0.1.1", usage_generation=2, drop_identity="etag")
    check_format(items)
    assert remembered(items) == LedgerFormat(
        number=FORMAT_VERSION, written_by="0.1.0", usage_generation=2, drop_identity="etag"
    )
    assert calls == ["items.get", "items.put", "items.get", "items.get"]


def _remember(items: ItemStore) -> None:
    remember_format(items, written_by="0.1.0", usage_generation=2, drop_identity="etag")


@pytest.mark.parametrize("opening", [check_format, _remember])
def test_a_newer_format_is_refused_and_left_as_it_is(opening: Callable[[ItemStore], None]) -> None:
    items, calls = ledger(NEWER)
    with pytest.raises(FormatTooNewError) as caught:
        opening(items)
    assert (caught.value.found, caught.value.known, caught.value.needed) == (NEWER.number, RESTORED_FORMAT, "0.2.0")
    assert str(caught.value) == (
        f"The region's data has format {NEWER.number}, and this version of metering knows formats up to "
        f"{RESTORED_FORMAT}: use metering 0.2.0 or newer."
    )
    assert (remembered(items), calls) == (NEWER, ["items.get"])


@pytest.mark.parametrize("opening", [check_format, _remember])
def test_an_older_format_is_refused_with_the_cure_and_left_as_it_is(opening: Callable[[ItemStore], None]) -> None:
    old = LedgerFormat(number=1, written_by="0.1.0", usage_generation=1)
    items, calls = ledger(old)
    with pytest.raises(FormatTooOldError) as caught:
        opening(items)
    assert str(caught.value) == (
        "The region's data has format 1, and this version of metering works with format 2: run metering upgrade."
    )
    assert (remembered(items), calls) == (old, ["items.get"])
    check_readable(items)


def test_a_ledger_of_another_usage_table_is_refused_whoever_opens_it() -> None:
    items, _ = ledger(LedgerFormat(number=FORMAT_VERSION, written_by="0.2.0", usage_generation=3))
    with pytest.raises(GenerationError, match="usage table 3, and 2 is deployed"):
        _remember(items)
    with pytest.raises(GenerationError):
        check_format(items, usage_generation=2)
    check_format(items, usage_generation=3)
    # Code that does not use the usage table need not know the table's generation.
    check_format(items)


def test_a_ledger_keeps_the_identity_of_dropped_objects_for_ever() -> None:
    items = MemoryItemStore()
    remember_format(items, written_by="0.1.0", usage_generation=2, drop_identity="checksum")
    remember_format(items, written_by="0.1.1", usage_generation=2, drop_identity="checksum")
    # A release that knows no checksums refuses the ledger; the others upgrade it as any other.
    found = remembered(items)
    assert (found and found.number, stored_format(items)) == (RESTORED_FORMAT, FORMAT_VERSION)
    with pytest.raises(GenerationError, match="by checksum, and etag is deployed"):
        _remember(items)
    items = MemoryItemStore()
    _remember(items)
    assert "drop_identity" not in (items.get(Table.LEDGER, FORMAT_KEY) or {})
    with pytest.raises(GenerationError, match="by etag, and checksum is deployed"):
        remember_format(items, written_by="0.1.0", usage_generation=2, drop_identity="checksum")


class Racing(MemoryItemStore):
    """Simulates that another process writes between the read and the write."""

    def __init__(self, other: LedgerFormat) -> None:
        super().__init__()
        self.other = other

    def put(self, action: Put) -> None:
        if self.get(Table.LEDGER, FORMAT_KEY) is None:
            super().put(Put(table=Table.LEDGER, item=self.other.to_item()))
        super().put(action)


def test_of_two_first_writers_the_later_one_goes_by_what_is_there() -> None:
    same = LedgerFormat(number=FORMAT_VERSION, written_by="0.1.1", usage_generation=2, drop_identity="etag")
    items = Racing(same)
    remember_format(items, written_by="0.1.0", usage_generation=2, drop_identity="etag")
    assert remembered(items) == same
    items = Racing(NEWER)
    with pytest.raises(FormatTooNewError):
        remember_format(items, written_by="0.1.0", usage_generation=2, drop_identity="etag")
    assert remembered(items) == NEWER


@pytest.mark.parametrize("change", [{"number": 0}, {"number": True}, {"number": "1"}, {"written_by": ""}])
def test_what_is_no_format_stops_whoever_asks(change: dict[str, str | int]) -> None:
    items = MemoryItemStore()
    items.put(Put(table=Table.LEDGER, item={**NEWER.to_item(), **change}))
    with pytest.raises(LedgerCorruptError, match="S#format / S"):
        check_format(items)


def test_a_ledger_without_an_answer_is_not_taken_for_one_without_a_format() -> None:
    def throttled(call: str) -> None:
        raise UnavailableError(call, "throttled")

    items, _ = ledger()
    items.on_call = throttled
    with pytest.raises(UnavailableError):
        remember_format(items, written_by="0.1.0", usage_generation=2, drop_identity="etag")
    assert remembered(items) is None


def test_whoever_opens_the_tables_asks_for_the_format() -> None:
    opening = {
        path: path.read_text()
        for path in Path(metering.__file__).parent.rglob("*.py")
        if "DynamoDbItemStore(" in path.read_text()
        and "class DynamoDbItemStore" not in path.read_text()
        # The doctor's own table contains no data of a region.
        and path.parts[-2:] != ("aws", "doctor.py")
    }
    assert len(opening) > 1
    asks = ("check_format(", "check_readable(")
    assert [path for path, text in opening.items() if not any(ask in text for ask in asks)] == []


# A process that lives long asks once a minute whether the ledger is still in use.


def test_a_long_lived_reader_asks_once_a_minute_and_refuses_a_ledger_that_was_restored() -> None:
    first = LedgerFormat(number=FORMAT_VERSION, written_by="0.2.0", usage_generation=2, drop_identity="etag")
    items, calls = ledger(first)
    clock = ManualClock(1_000)
    watched = WatchedLedger(items, clock, check_format(items))
    calls.clear()
    items.put(Put(table=Table.LEDGER, item=replace(first, state="fenced").to_item()))
    calls.clear()
    clock.advance_s(59)
    assert list(watched.query(Table.LEDGER, "B#1")) == []
    assert calls == ["items.query"]
    clock.advance_s(1)
    for _ in range(2):
        with pytest.raises(OperationFailedError, match="restored, and this process reads the old one"):
            watched.query(Table.LEDGER, "B#1")
    items.put(Put(table=Table.LEDGER, item=first.to_item()))
    calls.clear()
    for _ in range(3):
        watched.get_many(Table.USAGE, [])
    assert calls.count("items.get") == 1
    clock.advance_s(60)
    items.put(Put(table=Table.LEDGER, item=replace(first, number=RESTORED_FORMAT, generation=2).to_item()))
    with pytest.raises(OperationFailedError):
        watched.get(Table.USAGE, FORMAT_KEY)


def test_a_long_lived_reader_that_gets_no_answer_asks_again() -> None:
    items, _ = ledger(LedgerFormat(number=FORMAT_VERSION, written_by="0.2.0", usage_generation=2, state="fenced"))
    clock = ManualClock(1_000)
    watched = WatchedLedger(items, clock, None)
    clock.advance_s(60)

    def throttled(call: str) -> None:
        raise UnavailableError(call, "throttled")

    items.on_call = throttled
    with pytest.raises(UnavailableError):
        watched.scan(Table.LEDGER)
    items.on_call = lambda _call: None
    with pytest.raises(OperationFailedError):
        watched.scan(Table.LEDGER)


def test_a_watched_ledger_takes_every_call() -> None:
    items = MemoryItemStore()
    watched: ItemStore = WatchedLedger(items, ManualClock(1_000), None)
    key = Key("a", "b")
    watched.put(Put(table=Table.LEDGER, item={**key._asdict(), "v": 1}))
    assert watched.update(Update(table=Table.LEDGER, key=key, add={"v": 1})) == {**key._asdict(), "v": 2}
    assert watched.get(Table.LEDGER, key) == watched.get_many(Table.LEDGER, [key])[key]
    assert list(watched.scan(Table.LEDGER)) == list(watched.query(Table.LEDGER, "a", sk_to="c"))
    assert list(watched.query(Table.LEDGER, "a", sk_from="c", descending=True)) == []
    watched.transact([Check(table=Table.LEDGER, key=key, condition=Exists())])
    watched.delete(Delete(table=Table.LEDGER, key=key))
    assert watched.get(Table.LEDGER, key) is None


# If ledger and usage table do not match, this is noticed before a number is given twice.


def run(shard: int, number: int) -> Put:
    made = Run(chain=rollup_chain(shard), number=number, state="planned", plan_key="p", planned_at_ms=1)
    return Put(table=Table.LEDGER, item=made.to_item())


def test_the_first_writer_says_which_table_it_is_and_another_one_is_refused() -> None:
    items = MemoryItemStore()
    check_generation(items, 2)
    remember_generation(items, 2)
    remember_generation(items, 2)
    check_generation(items, 2)
    with pytest.raises(GenerationError, match="says that it is number 2, and it should be 3"):
        remember_generation(items, 3)
    with pytest.raises(GenerationError):
        check_generation(items, 3)
    assert usage_generation(items).number == 2


def test_marks_only_grow_and_are_kept_beside_the_number() -> None:
    items = MemoryItemStore()
    mark_run(items, 1, 7)
    mark_run(items, 1, 5)
    mark_run(items, 0, 3)
    remember_generation(items, 2)
    found = usage_generation(items)
    assert found == UsageGeneration(number=2, runs={0: 3, 1: 7})
    assert UsageGeneration.from_item(found.to_item()) == found


def test_a_chain_that_its_usage_table_is_ahead_of_was_restored() -> None:
    items = MemoryItemStore()
    check_chains(items, range(2))
    items.put(run(1, 4))
    mark_run(items, 1, 4)
    check_chains(items, range(2))
    items.put(run(1, 5))
    # The run was killed before it set its mark.
    check_chains(items, range(2))
    mark_run(items, 1, 6)
    with pytest.raises(GenerationError, match="has run 6 of chain U1, and the ledger does not know it"):
        check_chains(items, range(2))
    check_chains(items, range(1))


def test_what_is_no_generation_stops_whoever_asks() -> None:
    items = MemoryItemStore()
    items.put(Put(table=Table.USAGE, item={**GENERATION_KEY._asdict(), "number": "two"}))
    with pytest.raises(LedgerCorruptError, match="S#generation / S"):
        check_generation(items, 2)


def test_a_run_that_begins_while_somebody_looks_is_no_restore() -> None:
    items = MemoryItemStore()
    calls: list[str] = []

    def met(name: str) -> None:
        calls.append(name)
        if len(calls) == 2:
            items.on_call = lambda _name: None
            items.put(run(0, 7))
            mark_run(items, 0, 7)

    items.on_call = met
    check_chains(items, range(1))
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("state", "said"), [("adopting", "is being restored"), ("fenced", "generation 2 was replaced by a restore")]
)
def test_a_ledger_that_is_restored_or_replaced_is_refused(state: LedgerState, said: str) -> None:
    items, _ = ledger(
        LedgerFormat(number=RESTORED_FORMAT, written_by="0.2.0", usage_generation=2, generation=2, state=state)
    )
    with pytest.raises(GenerationError, match=said):
        check_format(items)


def test_a_restored_ledger_is_used_like_one_of_the_newest_format() -> None:
    restored = LedgerFormat(number=RESTORED_FORMAT, written_by="0.2.0", usage_generation=2, generation=2)
    items, _ = ledger(restored)
    assert check_format(items, usage_generation=2) == restored
    assert stored_format(items) == FORMAT_VERSION
