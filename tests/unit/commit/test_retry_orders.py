"""Retries under the same and under new ids, with copies of the message, in every order: each content counts once."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import permutations

import pytest

from metering.commit.deduplication import Verdict
from metering.errors import OperationFailedError
from metering.ledger.markers import Marker, marker_key
from metering.quarantine.entries import Entry
from metering.stores.writes import Key, Put, Table, Update
from metering.units import DAY_S
from tests.property.sent import inline, pointing
from tests.support.memory.clock import DeadlineAt
from tests.support.memory.queues import MemoryQueue
from tests.support.region import MemoryRegion, quarantine_of
from tests.support.small_world import KilledError
from tests.support.stage import settings
from tests.support.usage_items import usage_of
from tests.support.written_down import written_down

NOW_S = 1_796_083_200
SETTINGS = settings()


class Region(MemoryRegion):
    """Worker, queue and operators' commands on the same stores, with real JSON and Parquet."""

    def __init__(self) -> None:
        super().__init__(now_s=NOW_S, settings=SETTINGS)
        self.queue = MemoryQueue(self.clock)
        self.entries = quarantine_of(self, self.queue)
        self.aggregator = self.parts().worker()

    def send(self, *bodies: str) -> None:
        self.queue.send_many(list(bodies))

    def work(self, *bodies: str, at_once: int = 10) -> None:
        self.send(*bodies)
        deadline = self.deadline(50)
        while received := self.queue.receive(at_once):
            result = self.aggregator.handle([each.delivery for each in received], deadline)
            assert result.retry == ()
            self.queue.delete_many([each.receipt for each in received])

    def counted(self) -> tuple[int, int]:
        self.roll_up()
        totals = [entry.total for entry in usage_of(self.items)]
        return sum(total.bytes for total in totals), sum(total.records for total in totals)

    def markers(self) -> dict[str, Marker]:
        items = [item for item in self.items.everything(Table.LEDGER) if str(item["pk"])[:2] == "B#"]
        return {str(item["pk"])[2:]: Marker.from_item(item) for item in items if item["sk"] == "M"}


def test_a_batch_that_was_accepted_after_its_own_retry_is_not_counted_under_a_new_id_beside_it() -> None:
    region = Region()
    sent, lines = pointing("edge-1", "ingest/1.ndjson", ((NOW_S, 1_000),))
    region.work(sent.body)
    region.objects.put("ingest/1.ndjson", lines, if_absent=True)
    [refused] = region.entries.find("edge-1")
    region.entries.retry(refused)
    region.work()
    assert region.counted() == (1_000, 1)
    [again] = region.entries.find(refused.key)
    with pytest.raises(OperationFailedError, match="under its own id"):
        region.entries.retry(again, as_new_id=True)
    region.work()
    assert region.counted() == (1_000, 1)


def test_bytes_of_a_conflict_survive_its_retry_to_the_last_digit() -> None:
    region = Region()
    other = inline("edge-1", ((NOW_S, 1),)).body.replace('"bytes": 1', '"bytes": 9007199254740993.0')
    region.work(inline("edge-1", ((NOW_S, 7),)).body)
    region.work(other)
    [entry] = region.entries.find("edge-1")
    region.entries.retry(entry, as_new_id=True)
    region.work()
    assert region.counted() == (7 + 9_007_199_254_740_993, 2)


def test_a_retry_whose_original_cannot_be_read_goes_back_and_takes_nothing_with_it() -> None:
    region = Region()
    region.work(inline("edge-1", ((NOW_S, 7),)).body)
    region.work(inline("edge-1", ((NOW_S, 8),)).body)
    [entry] = region.entries.find("edge-1")
    region.entries.retry(entry, as_new_id=True)
    region.send(inline("edge-2", ((NOW_S, 5),)).body)
    damaged = Update(table=Table.LEDGER, key=marker_key("edge-1"), set={"verdict": "acepted"})
    region.items.update(damaged)
    received = region.queue.receive(10)
    deadline = DeadlineAt(clock=region.clock, at_ms=region.clock.now_ms() + 50_000)
    result = region.aggregator.handle([each.delivery for each in received], deadline)
    assert result.counts == {Verdict.PUT_BACK: 1, Verdict.ACCEPTED: 1}
    assert [each for each in result.contradictions if "B#edge-1 / M" in each]
    region.items.update(replace(damaged, set={"verdict": "accepted"}))
    region.aggregator.handle([each.delivery for each in received], deadline)
    assert region.counted() == (7 + 8 + 5, 3)


def conflicting(region: Region, *, sizes: tuple[int, int] = (5, 1_000)) -> tuple[str, str, str]:
    """Accept `edge-1` and make a conflict; return the message bodies of both contents and of the conflict's retry."""
    first, other = (inline("edge-1", ((NOW_S, size),)).body for size in sizes)
    region.work(first)
    region.work(other)
    [entry] = region.entries.find("edge-1")
    region.entries.retry(entry, as_new_id=True)
    [retried] = region.queue.bodies()
    region.work()
    assert region.counted() == (sum(sizes), 2)
    return first, other, retried


def test_the_markers_in_a_staging_object_name_what_a_retry_retries() -> None:
    region = Region()
    conflicting(region)
    lines = [line for found in written_down(region.objects.keys(""), region.objects.get).values() for _, line in found]
    assert {line.marker.batch_id: line.marker for line in lines} == region.markers()
    assert [line.retry_of for line in lines if line.marker.batch_id != "edge-1"] == ["edge-1"]


@pytest.mark.parametrize("at_once", [1, 10])
def test_both_contents_count_once_in_whatever_order_messages_retries_and_their_copies_come(at_once: int) -> None:
    first, other, retried = conflicting(Region())
    for order in permutations([first, other, other, retried, retried]):
        region = Region()
        region.work(*order, at_once=at_once)
        # The first content under the id is metered; then people retry the other content, and copies arrive late.
        for entry in region.entries.entries():
            retry(region, entry)
        region.work(*order, at_once=at_once)
        assert region.counted() == (1_005, 2), order


def retry(region: Region, entry: Entry) -> None:
    try:
        region.entries.retry(entry, as_new_id=entry.kind == "conflict")
    except OperationFailedError:
        assert entry.retried_as


def test_a_retry_under_a_new_id_is_refused_while_its_own_is_free_and_counts_once_afterwards() -> None:
    _, other, retried = conflicting(Region())
    region = Region()
    region.work(retried)
    [refused] = region.markers().values()
    assert (refused.verdict, refused.reason) == ("rejected", "retry_without_conflict")
    region.work(other, retried)
    region.work()
    assert region.counted() == (1_000, 1)


def test_a_content_that_was_retried_under_two_ids_counts_under_one() -> None:
    """Two messages with the same content are two entries, because the content was unreadable when they were refused."""
    region = Region()
    sent, lines = pointing("edge-1", "ingest/1.ndjson", ((NOW_S, 1_000),))
    region.work(inline("edge-1", ((NOW_S, 5),)).body)
    region.objects.put("ingest/1.ndjson", b"", if_absent=False)
    region.work(sent.body, sent.body.replace(": ", ":  "))
    entries = region.entries.find("edge-1")
    region.objects.put("ingest/1.ndjson", lines, if_absent=False)
    names = {region.entries.retry(entry, as_new_id=True).retry_id for entry in entries}
    assert len(names) == 2
    region.work()
    assert region.counted() == (1_005, 2)


def test_a_conflict_of_a_retry_is_retried_once_whatever_it_is_called() -> None:
    """A message that refers to a changing object has new content each time; each content counts once, under some id."""
    region = Region()
    sent, one = pointing("edge-1", "ingest/1.ndjson", ((NOW_S, 1_000),))
    _, two = pointing("edge-1", "ingest/1.ndjson", ((NOW_S, 30_000),))
    region.work(inline("edge-1", ((NOW_S, 5),)).body)
    for _ in range(3):
        for lines in (one, two):
            region.objects.put("ingest/1.ndjson", lines, if_absent=False)
            region.work(sent.body)
            for entry in region.entries.entries():
                retry(region, entry)
            region.work()
    assert region.counted() == (31_005, 3)


def test_a_copy_under_the_first_id_comes_after_the_life_of_its_marker_and_is_still_a_conflict() -> None:
    region = Region()
    first = inline("edge-1", ((NOW_S, 5),)).body
    region.work(first)
    region.clock.advance_s(40 * DAY_S)
    other = inline("edge-1", ((NOW_S + 40 * DAY_S, 1_000),)).body
    region.work(other)
    [entry] = region.entries.find("edge-1")
    region.entries.retry(entry, as_new_id=True)
    region.work()
    region.clock.advance_s(12 * DAY_S)
    for item in list(region.items.everything(Table.LEDGER)):
        # Time to live.
        if "expires_at" in item and int(str(item["expires_at"])) < region.clock.now_ms() // 1_000:
            region.items.remove(Table.LEDGER, Key(str(item["pk"]), str(item["sk"])))
    region.work(other)
    assert region.counted() == (1_005, 2)


def test_a_retry_of_a_batch_whose_marker_was_rebuilt_is_refused_because_nobody_can_compare() -> None:
    _, other, retried = conflicting(Region())
    region = Region()
    region.work(other)
    marker = replace(region.markers()["edge-1"], content_hash=None, hash_version=0)
    region.items.put(Put(table=Table.LEDGER, item=marker.to_item()))
    region.work(retried)
    assert region.counted() == (1_000, 1)
    assert {marker.reason for marker in region.markers().values()} == {"", "retry_without_conflict"}


def _without_hash(region: Region) -> None:
    marker = replace(region.markers()["edge-1"], content_hash=None, hash_version=0, commit_id="")
    region.items.put(Put(table=Table.LEDGER, item=marker.to_item()))


def test_unverified_content_is_sent_under_a_new_id_and_counts_once_however_often_it_is_sent() -> None:
    first, other, retried = conflicting(Region())
    region = Region()
    region.work(first)
    _without_hash(region)
    # Even a retry that names its original is refused, because nobody can tell whether its content is metered.
    region.work(other, first, retried)
    assert region.counted() == (5, 1)
    kept = [each for each in region.entries.entries() if each.batch_id == "edge-1"]
    [entry] = [each for each in kept if each.kind == "unverified"]
    assert (entry.reasons, entry.became, entry.retried_as) == ({"unverified": 1}, "not metered", ())
    with pytest.raises(OperationFailedError, match="no longer known"):
        region.entries.retry(entry)
    for _ in range(3):
        sent = region.entries.retry(entry, as_new_id=True)
        region.work()
    assert region.counted() == (1_005, 2)
    [shown] = [each for each in region.entries.find(entry.key) if each.kind == "unverified"]
    assert shown.retried_as == (sent.retry_id,)
    assert [(each.what, each.metered, each.this) for each in shown.differs] == [("bytes", "5", "1000")]


def test_unverified_content_of_an_id_whose_hash_came_back_is_retried_as_a_conflict() -> None:
    first, other, retried = conflicting(Region())
    region = Region()
    region.work(first)
    known = region.markers()["edge-1"]
    _without_hash(region)
    region.work(other)
    [entry] = region.entries.find("edge-1")
    region.items.put(Put(table=Table.LEDGER, item=known.to_item()))
    # The producer's own retry and the operator's are one content.
    region.work(re.sub("retry:[0-9a-f]{64}", "edge-2", retried))
    assert region.counted() == (1_005, 2)
    region.entries.retry(entry, as_new_id=True)
    region.work()
    assert region.counted() == (1_005, 2)


def test_a_claim_loses_no_batch_that_is_sent_without_it() -> None:
    _, _, retried = conflicting(Region())
    plain = retried.replace('"retry_of"', '"other"')
    for order in permutations([plain, retried, retried]):
        for at_once in (1, 10):
            region = Region()
            region.work(*order, at_once=at_once)
            assert region.counted() == (1_000, 1)


def test_the_original_that_changes_while_a_retry_is_committed_is_read_again() -> None:
    first, other, retried = conflicting(Region())
    region = Region()
    region.work(first)
    changed: list[str] = []

    def extend(name: str) -> None:
        if name == "items.transact" and not changed:
            changed.append(name)
            marker = region.markers()["edge-1"]
            later = replace(marker, expires_at_s=marker.expires_at_s + DAY_S)
            region.items.put(Put(table=Table.LEDGER, item=later.to_item()))

    region.items.on_call = extend
    region.work(retried)
    region.work(other)
    assert changed
    assert region.counted() == (1_005, 2)


def test_retries_and_their_originals_are_no_two_writes_of_one_item() -> None:
    """One invocation may include a retry and its original, two retries of a batch, and retries of retries."""
    first, _, retried = conflicting(Region())
    region = Region()
    region.work(first)
    bodies = [first, retried]
    for number in range(5):
        body = inline(f"edge-{number + 2}", ((NOW_S, 10),)).body
        bodies += [
            body,
            inline("x", ((NOW_S, number + 100),)).body.replace('"x"', f'"n{number}", "retry_of": "edge-1"'),
        ]
    region.work(*bodies, *bodies)
    region.work()
    assert region.counted() == (5 + 1_000 + 50 + 510, 12)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_at_any_call_of_a_retry_counts_it_once(moment: str) -> None:
    first, other, retried = conflicting(Region())
    calls: list[str] = []
    number = 0
    while number <= len(calls):
        region = Region()
        region.work(first)
        calls = []
        hook = kill_at(number, calls)
        if moment == "before":
            region.items.on_call = region.objects.on_call = hook
        else:
            region.items.on_reply = region.objects.on_reply = hook
        region.send(retried, other)
        with suppress(KilledError):
            region.work()
        for store in (region.items, region.objects):
            store.on_call = store.on_reply = lambda _name: None
        region.clock.advance_s(3_600)
        region.work(retried, other)
        assert region.counted() == (1_005, 2), (number, calls)
        number += 1
    assert number > 5


def kill_at(number: int, calls: list[str]) -> Callable[[str], None]:
    def hook(name: str) -> None:
        calls.append(name)
        if len(calls) == number + 1:
            raise KilledError

    return hook
