"""A glance at a marker says what the whole marker says, or refuses it with the same words."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import LedgerCorruptError
from metering.ledger.markers import LedgerFacts, Marker, MarkerGlance, read_batches
from metering.ledger.retries import RetryNote
from metering.stores.writes import Item, Put, Table
from metering.units import HOUR_S
from metering.usage.totals import Total
from tests.support.memory.items import MemoryItemStore
from tests.support.verdicts import conflict_of, marker_of

ITEM: dict[str, Any] = marker_of(
    "b1",
    source_id="edge",
    sequence=7,
    records=3,
    metered=3,
    hours={HOUR_S * 500_000: Total(2**70, 2), HOUR_S * 500_001: Total(5, 1)},
).to_item()


def of_whole(item: Item) -> MarkerGlance:
    marker = Marker.from_item(item)
    return MarkerGlance(
        marker.batch_id, marker.verdict, marker.hours, marker.decided_at_ms, marker.source_id, marker.sequence
    )


def said(read: Callable[[Item], MarkerGlance], item: Item) -> MarkerGlance | str:
    """What was read, or why not."""
    try:
        return read(item)
    except LedgerCorruptError as error:
        return str(error)


@pytest.mark.parametrize("left_out", [(), ("source",), ("sequence",), ("source", "sequence")])
def test_a_glance_says_what_the_whole_marker_says(left_out: tuple[str, ...]) -> None:
    item = {name: value for name, value in ITEM.items() if name not in left_out}
    assert MarkerGlance.of_item(item) == of_whole(item)
    rejected = {**item, "verdict": "rejected", "reason": "schema_unknown", "quarantine": "q"}
    del rejected["hours"]
    assert MarkerGlance.of_item(rejected) == of_whole(rejected)
    nothing = {**item, "metered": 0}
    del nothing["hours"]
    assert MarkerGlance.of_item(nothing) == of_whole(nothing)


values = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=3), st.lists(st.integers(-1, 2), max_size=3)
)


@given(st.sampled_from(["verdict", "hours", "decided_at_ms", "source", "sequence"]), values)
def test_what_is_looked_at_and_cannot_be_read_is_refused_as_the_whole_marker_is(name: str, value: Any) -> None:
    item = {**ITEM, name: value}
    if value is None:
        del item[name]
    assert said(MarkerGlance.of_item, item) == said(of_whole, item)


@given(st.dictionaries(st.sampled_from(["2026-11-24T13", "2026-11-24", "x"]), values, min_size=1))
def test_hours_that_cannot_be_read_are_refused_too(hours: dict[str, Any]) -> None:
    item = {**ITEM, "hours": hours}
    assert said(MarkerGlance.of_item, item) == said(of_whole, item)


# What verification takes from the ledger: markers and conflicts of its batches; notes of retries are neither.

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
