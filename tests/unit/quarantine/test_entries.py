"""Quarantine entries: refused batches are listed, and resent by the contract's rule."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import LedgerCorruptError, OperationFailedError
from metering.intake.batches import RefusedRecord
from metering.ledger.markers import Conflict, Marker, marker_key
from metering.ledger.retries import Alias
from metering.quarantine.documents import QuarantinedBatch, QuarantinedRecord, decode_records, encode_records, readable
from metering.stores.objects import commit_of_refused_records, quarantined_batch_key, refused_records_key
from metering.stores.writes import Put, Table
from metering.units import MIB
from metering.usage.totals import Total
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue
from tests.support.region import quarantine_of
from tests.support.verdicts import conflict_of, marker_of, quarantined

NOW_S = 1_800_000_000


class Setup:
    def __init__(self) -> None:
        self.clock = ManualClock(NOW_S * 1000)
        self.items = MemoryItemStore()
        self.objects = MemoryObjectStore(self.clock)
        self.queue = MemoryQueue(self.clock)
        self.entries = quarantine_of(self, self.queue)

    def write(self, record: Marker | Alias | Conflict) -> None:
        self.items.put(Put(table=Table.LEDGER, item=record.to_item()))

    def partly(self, batch_id: str, *raws: str, commit_id: str = "c1", accepted: bool = True) -> str:
        key = refused_records_key(commit_id, NOW_S)
        records = tuple(
            RefusedRecord(position=n * 2, reasons=(("invalid_bytes", "-1"),), raw=raw) for n, raw in enumerate(raws)
        )
        self.objects.put(key, encode_records({batch_id: records}), if_absent=True)
        if accepted:
            self.write(partly_metered(batch_id, "accepted", key))
        return key

    def whole(self, batch_id: str, body: str, *, conflict: bool = False) -> QuarantinedBatch:
        kind = "conflict" if conflict else "refused"
        batch = quarantined(
            batch_id,
            kind=kind,
            content_hash="ff",
            problems=(("conflict" if conflict else "too_late", "x"),),
            sender_id="AIDA2",
            first_sender_id="AIDA1" if conflict else "",
            records=3,
            body=body,
        )
        self.objects.put(batch.key, batch.to_json(), if_absent=False)
        if conflict:
            found = conflict_of(batch_id, content_hash="ff", quarantine_key=batch.key, records=3)
            self.write(found)
            self.write(partly_metered(batch_id, "accepted", ""))
        else:
            self.write(partly_metered(batch_id, "rejected", batch.key))
        return batch


def partly_metered(batch_id: str, verdict: str, key: str) -> Marker:
    return marker_of(batch_id, verdict, records=5, metered=3, refused=2, quarantine_key=key)


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_refused_records_are_sent_as_a_batch_named_by_their_batch_and_positions(setup: Setup) -> None:
    setup.partly("edge-1", '{"bytes": -1}', '{"bytes": -2}')
    [entry] = setup.entries.entries()
    assert (entry.kind, entry.reasons) == ("records", {"invalid_bytes": 2})
    retry = setup.entries.retry(entry)
    digest = hashlib.sha256(b"edge-1\n0\n2").hexdigest()
    assert retry.retry_id == f"retry:{digest}"
    [body] = setup.queue.bodies()
    assert json.loads(body) == {
        "schema": "metering.batch/1",
        "batch_id": retry.retry_id,
        "record_count": 2,
        "records": [{"bytes": -1}, {"bytes": -2}],
    }


def test_the_entry_names_its_retry_and_a_second_retry_is_the_same_batch(setup: Setup) -> None:
    setup.partly("edge-1", '{"bytes": -1}')
    [entry] = setup.entries.find("edge-1")
    first = setup.entries.retry(entry)
    [named] = setup.entries.find("edge-1")
    assert named.retried_as == (first.retry_id,)
    second = setup.entries.retry(named)
    assert second.retry_id == first.retry_id
    one, two = setup.queue.bodies()
    assert one == two


def test_records_that_were_cut_or_are_no_objects_are_named_and_not_sent(setup: Setup) -> None:
    setup.partly("edge-1", '{"bytes": -1}', '{"bytes": "cut he', "7")
    [entry] = setup.entries.entries()
    retry = setup.entries.retry(entry)
    assert retry.records == 1
    assert retry.skipped == (2, 4)


def test_nothing_to_send_is_said(setup: Setup) -> None:
    setup.partly("edge-1", "not json")
    [entry] = setup.entries.entries()
    with pytest.raises(OperationFailedError, match="kept whole"):
        setup.entries.retry(entry)


def test_a_retry_too_long_for_a_message_goes_through_an_object(setup: Setup) -> None:
    raws = [json.dumps({"n": n, "x": "y" * 4000}) for n in range(300)]
    setup.partly("edge-1", *raws)
    [entry] = setup.entries.entries()
    retry = setup.entries.retry(entry)
    [body] = setup.queue.bodies()
    location = json.loads(body)["location"]
    assert location["bucket"] == "data"
    stored = setup.objects.get(location["key"]).decode().splitlines()
    assert stored == raws
    assert json.loads(body)["record_count"] == retry.records == 300


def test_objects_of_commits_that_never_were_are_left_out(setup: Setup) -> None:
    setup.partly("edge-1", '{"bytes": -1}', commit_id="c0", accepted=False)
    setup.partly("edge-1", '{"bytes": -1}', commit_id="c1")
    assert [entry.key for entry in setup.entries.entries()] == [refused_records_key("c1", NOW_S)]


def test_a_refused_batch_is_sent_again_as_it_came(setup: Setup) -> None:
    batch = setup.whole("edge-2", '{"batch_id": "edge-2", "records": []}')
    [entry] = setup.entries.find("edge-2")
    retry = setup.entries.retry(entry)
    assert retry.retry_id == "edge-2"
    assert setup.queue.bodies() == [batch.body]
    setup.write(partly_metered("edge-2", "accepted", ""))
    [settled] = setup.entries.find(batch.key)
    assert settled.retried_as == ("edge-2",)


def test_a_conflict_is_only_sent_under_an_id_of_its_own(setup: Setup) -> None:
    setup.whole("edge-3", '{"batch_id": "edge-3", "records": []}', conflict=True)
    [entry] = setup.entries.find("edge-3")
    with pytest.raises(OperationFailedError, match="other content"):
        setup.entries.retry(entry)
    retry = setup.entries.retry(entry, as_new_id=True)
    assert retry.retry_id == "retry:" + hashlib.sha256(b"edge-3\nff").hexdigest()
    [body] = setup.queue.bodies()
    assert json.loads(body) == {"batch_id": retry.retry_id, "retry_of": "edge-3", "records": []}
    [waiting] = setup.entries.find("edge-3")
    assert waiting.retried_as == ()
    setup.write(Alias(batch_id="edge-3", content_hash="ff", retry_id=retry.retry_id, expires_at_s=9))
    [named] = setup.entries.find("edge-3")
    assert named.retried_as == (retry.retry_id,)


def test_a_conflict_whose_retry_was_read_with_other_content_than_before_still_names_it(setup: Setup) -> None:
    setup.whole("edge-3", '{"batch_id": "edge-3"}', conflict=True)
    retry_id = "retry:" + hashlib.sha256(b"edge-3\nff").hexdigest()
    for content_hash, name in (("aa", "retry:other"), ("bb", retry_id)):
        setup.write(Alias(batch_id="edge-3", content_hash=content_hash, retry_id=name, expires_at_s=9))
    [entry] = setup.entries.find("edge-3")
    assert entry.retried_as == (retry_id,)


def test_a_refused_batch_is_not_sent_under_a_new_id_because_its_own_is_free(setup: Setup) -> None:
    setup.whole("edge-2", '{"batch_id": "edge-2", "records": []}')
    [entry] = setup.entries.find("edge-2")
    with pytest.raises(OperationFailedError, match="own id"):
        setup.entries.retry(entry, as_new_id=True)
    assert setup.queue.bodies() == []


def test_what_is_metered_under_another_id_is_not_sent_under_its_own(setup: Setup) -> None:
    setup.whole("edge-2", '{"batch_id": "edge-2", "records": []}')
    setup.write(Alias(batch_id="edge-2", content_hash="ff", retry_id="retry:1", expires_at_s=9))
    [entry] = setup.entries.find("edge-2")
    with pytest.raises(OperationFailedError, match="metered already, as retry:1"):
        setup.entries.retry(entry)


def test_a_conflict_whose_id_has_become_free_is_sent_under_it(setup: Setup) -> None:
    batch = setup.whole("edge-3", '{"batch_id": "edge-3", "records": []}', conflict=True)
    setup.items.remove(Table.LEDGER, marker_key("edge-3"))
    [entry] = setup.entries.find(batch.key)
    with pytest.raises(OperationFailedError, match="own id"):
        setup.entries.retry(entry, as_new_id=True)
    assert setup.entries.retry(entry).retry_id == "edge-3"


def test_a_retry_of_a_retry_names_the_id_that_came_first(setup: Setup) -> None:
    setup.whole("retry:1", '{"batch_id": "retry:1", "retry_of": "edge-3", "records": []}', conflict=True)
    [entry] = setup.entries.find("retry:1")
    setup.entries.retry(entry, as_new_id=True)
    assert json.loads(setup.queue.bodies()[0])["retry_of"] == "edge-3"


def test_a_message_without_room_for_another_id_is_not_sent(setup: Setup) -> None:
    setup.whole("edge-3", json.dumps({"batch_id": "edge-3", "records": ["x" * (MIB - 100)]}), conflict=True)
    [entry] = setup.entries.find("edge-3")
    with pytest.raises(OperationFailedError, match="too long"):
        setup.entries.retry(entry, as_new_id=True)


def test_a_cloud_event_gets_the_new_id_inside(setup: Setup) -> None:
    event = {"specversion": "1.0", "type": "t", "source": "s", "id": "1", "data": {"batch_id": "edge-3"}}
    setup.whole("edge-3", json.dumps(event), conflict=True)
    [entry] = setup.entries.find("edge-3")
    retry = setup.entries.retry(entry, as_new_id=True)
    assert json.loads(setup.queue.bodies()[0])["data"]["batch_id"] == retry.retry_id


def test_a_dry_run_sends_and_notes_nothing(setup: Setup) -> None:
    setup.partly("edge-1", '{"bytes": -1}')
    [entry] = setup.entries.entries()
    assert setup.entries.retry(entry, dry_run=True).records == 1
    assert setup.queue.bodies() == []
    assert next(setup.entries.entries()).retried_as == ()


def test_entries_are_chosen_by_time(setup: Setup) -> None:
    setup.partly("edge-1", '{"bytes": -1}')
    assert list(setup.entries.entries(from_s=NOW_S + 1)) == []
    assert list(setup.entries.entries(to_s=NOW_S)) == []
    assert len(list(setup.entries.entries(from_s=NOW_S, to_s=NOW_S + 1))) == 1


def test_an_unknown_name_is_said() -> None:
    with pytest.raises(OperationFailedError, match="nothing in quarantine"):
        Setup().entries.find("nobody")


def test_the_newest_entry_comes_first_and_only_as_many_are_read_as_are_asked_for(setup: Setup) -> None:
    for number in range(4):
        setup.whole(f"edge-{number}", "{}")
        setup.clock.advance_s(60)
    assert [entry.batch_id for entry in setup.entries.entries()] == ["edge-3", "edge-2", "edge-1", "edge-0"]
    calls: list[str] = []
    setup.objects.on_call = calls.append
    assert next(setup.entries.entries()).batch_id == "edge-3"
    assert len([call for call in calls if "get" in call.lower()]) == 1


def test_an_entry_says_what_became_of_its_retry(setup: Setup) -> None:
    setup.partly("edge-1", '{"bytes": -1}', '{"bytes": -2}')
    [entry] = setup.entries.find("edge-1")
    assert entry.became == "not metered"
    retry_id = setup.entries.retry(entry).retry_id
    [entry] = setup.entries.find("edge-1")
    assert entry.became == "sent again, without a verdict yet"
    for verdict, became in (("accepted", "3 metered, 2 refused again"), ("rejected", "refused again: too_late")):
        marker = replace(partly_metered(retry_id, verdict, ""), reason="too_late" if verdict == "rejected" else "")
        setup.write(marker)
        [entry] = setup.entries.find("edge-1")
        assert entry.became == became


def test_a_refused_batch_that_was_sent_again_and_metered_says_so(setup: Setup) -> None:
    setup.whole("edge-1", "{}")
    [entry] = setup.entries.find("edge-1")
    assert entry.became == "not metered"
    setup.write(partly_metered("edge-1", "accepted", entry.key))
    assert [entry.became for entry in setup.entries.entries()] == ["metered as edge-1"]


def test_content_refused_before_other_content_was_accepted_under_its_id_is_not_metered_as_it(setup: Setup) -> None:
    batch = setup.whole("edge-1", '{"batch_id": "edge-1", "records": []}')
    setup.write(partly_metered("edge-1", "accepted", ""))
    assert setup.entries.find("edge-1")[0].retried_as == ("edge-1",)
    setup.write(conflict_of("edge-1", content_hash=batch.content_hash, quarantine_key=batch.key, records=3))
    [entry] = setup.entries.find("edge-1")
    assert entry.retried_as == ()
    assert "metered as" not in entry.became


def test_a_conflict_says_in_what_it_differs_from_what_is_metered_under_its_id(setup: Setup) -> None:
    setup.whole("edge-1", '{"batch_id": "edge-1", "records": [{"bytes": 100}, {"bytes": 23}]}', conflict=True)
    setup.write(
        replace(
            partly_metered("edge-1", "accepted", ""),
            records=2,
            metered=2,
            refused=0,
            hours={NOW_S - NOW_S % 3600: Total(118, 2)},
        )
    )
    [entry] = setup.entries.find("edge-1")
    assert [(each.what, each.metered, each.this) for each in entry.differs] == [
        ("sender", "AIDA1", "AIDA2"),
        ("records", "2", "3"),
        ("bytes", "118", "123"),
        ("content hash", "ee", "ff"),
    ]


@pytest.mark.parametrize(
    "body", ["no JSON", '{"location": {"key": "k"}}', '{"records": [{"bytes": "1"}]}', '{"records": 3}', "[" * 100_000]
)
def test_what_the_body_does_not_tell_is_not_compared(setup: Setup, body: str) -> None:
    setup.whole("edge-1", body, conflict=True)
    [entry] = setup.entries.find("edge-1")
    assert "bytes" not in {each.what for each in entry.differs}


def test_a_message_is_shown_with_the_digits_that_it_came_with() -> None:
    assert readable('{"a": 0.5, "b": 1e3, "c": 12345678901234567890.5, "d": NaN, "e": 7}') == {
        "a": 0.5,
        "b": "1e3",
        "c": "12345678901234567890.5",
        "d": "NaN",
        "e": 7,
    }
    assert readable(f'{{"a": {"[" * 300}{"]" * 300}}}') is None
    assert readable('{"specversion": "1.0", "data": {"batch_id": "edge-1"}}') == {"batch_id": "edge-1"}


# Shapes of quarantine objects.

_PROBLEMS = st.lists(st.tuples(st.text(min_size=1), st.text()), min_size=1, max_size=3).map(tuple)
_RECORDS = st.builds(RefusedRecord, position=st.integers(0, 50_000), reasons=_PROBLEMS, raw=st.text())
_BATCHES = st.builds(
    QuarantinedBatch,
    kind=st.sampled_from(["refused", "conflict"]),
    batch_id=st.text(),
    content_hash=st.text(min_size=1),
    hash_version=st.integers(0, 3),
    problems=_PROBLEMS,
    source_id=st.text(),
    sequence=st.none() | st.integers(0),
    sender_id=st.text(),
    first_sender_id=st.text(),
    records=st.integers(0, 50_000),
    body=st.text(),
    evidence=st.text(),
)


@given(st.dictionaries(st.text(), st.lists(_RECORDS, min_size=1, max_size=3).map(tuple), max_size=3))
def test_refused_records_come_back_as_they_were(refused: dict[str, tuple[RefusedRecord, ...]]) -> None:
    expected = [
        QuarantinedRecord(batch_id=batch_id, record=record)
        for batch_id, records in refused.items()
        for record in records
    ]
    assert list(decode_records(encode_records(refused))) == expected


@given(_BATCHES)
def test_a_refused_batch_comes_back_as_it_was(batch: QuarantinedBatch) -> None:
    assert QuarantinedBatch.from_json(batch.to_json()) == batch


def test_hostile_text_is_plain_ascii_in_quarantine() -> None:
    record = RefusedRecord(position=0, reasons=(("not_json", "\x1b[31m"),), raw="\ud800\u2028\n=1+1")
    body = encode_records({"b": (record,)})
    assert body.isascii()
    assert body.count(b"\n") == 1
    assert [each.record for each in decode_records(body)] == [record]


def test_only_records_go_with_a_commit() -> None:
    assert commit_of_refused_records(refused_records_key("c1", 1_800_000_000)) == "c1"
    assert commit_of_refused_records(quarantined_batch_key("b1", "hash")) is None


@pytest.mark.parametrize("body", [b"{", b"\xff"])
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(LedgerCorruptError):
        QuarantinedBatch.from_json(body)
