"""What verification takes from the ledger: markers and conflicts of its batches; notes of retries are neither."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from metering.ledger.markers import LedgerFacts, read_batches
from metering.ledger.retries import RetryNote
from metering.stores.writes import Item, Put, Table
from tests.support.memory.items import MemoryItemStore
from tests.support.verdicts import conflict_of, marker_of

CONFLICT = conflict_of("b2")


def test_the_note_of_a_retry_is_no_conflict() -> None:
    items = MemoryItemStore()
    note = RetryNote(batch_id="b1", retry_id="retry:ff", positions=(1,), expires_at_s=9)
    for item in (note.to_item(), CONFLICT.to_item()):
        items.put(Put(table=Table.LEDGER, item=item))
    facts = read_batches(items, (), in_conflict=["b1", "b2"])
    assert facts.conflicts == {"b2": {"ee"}}
    assert facts.markers == {}


class _Watched(MemoryItemStore):
    """Nobody may scan it, and it notes the partitions that are queried."""

    def __init__(self) -> None:
        super().__init__()
        self.queried: list[str] = []

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[Item]:
        self.queried.append(pk)
        return super().query(table, pk, sk_from=sk_from, sk_to=sk_to, descending=descending)

    def scan(self, table: Table, *, part: int = 0, parts: int = 1) -> Iterator[Item]:
        raise AssertionError((table, part, parts))


@pytest.mark.parametrize("threads", [1, 4])
def test_of_some_batches_only_their_own_items_are_read(threads: int) -> None:
    items = _Watched()
    for number in range(3_100):
        items.put(Put(table=Table.LEDGER, item=marker_of(f"b{number:05d}").to_item()))
    for batch_id in ("b00001", "b00002"):
        items.put(Put(table=Table.LEDGER, item=replace(CONFLICT, batch_id=batch_id).to_item()))
    names = [f"b{number:05d}" for number in range(2, 2_503)]
    facts = read_batches(items, [*names, "unknown"], in_conflict=["b00001", "unknown too"], threads=threads)
    assert list(facts.markers) == [*names, "b00001"]
    assert facts.conflicts == {"b00001": {"ee"}}, "nobody asked for those of b00002"
    assert items.queried == ["B#b00001", "B#unknown too"]


def test_what_a_later_look_finds_is_added() -> None:
    facts = LedgerFacts(conflicts={"b1": {"ee"}, "b2": {"ee"}})
    facts.merge(LedgerFacts(markers={"b1": marker_of("b1")}, conflicts={"b1": {"ff"}, "b3": {"aa"}}))
    assert facts.conflicts == {"b1": {"ee", "ff"}, "b2": {"ee"}, "b3": {"aa"}}
    assert list(facts.markers) == ["b1"]
