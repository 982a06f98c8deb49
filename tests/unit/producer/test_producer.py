"""A producer numbers, splits and sends records; a key always results in the same batches; each record counts once."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from metering.errors import OperationFailedError, UnavailableError
from metering.intake.work import MAX_RECORDS
from metering.producer import journal
from metering.producer.batches import BATCH_BYTES, JournalError, KeyReusedError, NotSentError, RecordsRefusedError
from metering.producer.producer import Outlet, Place, Producer
from metering.units import DAY_S, MIB
from tests.support.lake_world import record
from tests.unit.producer.meter import Meter, expected, records_of

ROOT = Path(__file__).parents[3]


def bodies(meter: Meter) -> list[dict[str, Any]]:
    return [json.loads(body) for body in meter.queue.bodies()]


@pytest.fixture
def meter() -> Meter:
    return Meter()


def test_records_are_metered_once_and_numbered_from_0(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        first = producer.send(records_of(1, 3), key="flows.log:0")
        second = producer.send(records_of(2, 2), key="flows.log:4096")
    meter.deliver()
    assert (first.records, first.first_sequence, second.first_sequence) == (3, 0, 1)
    assert [(each["source_id"], each["sequence"]) for each in bodies(meter)] == [("edge-7f3a", 0), ("edge-7f3a", 1)]
    assert {marker.batch_id for marker in meter.markers()} == {*first.batch_ids, *second.batch_ids}
    assert meter.metered() == expected([*records_of(1, 3), *records_of(2, 2)])


def test_a_key_that_is_sent_again_gets_no_new_number_and_no_new_message(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        first = producer.send(records_of(1, 3), key="a")
    with meter.producer(tmp_path) as producer:
        again = producer.send((dict(reversed(each.items())) for each in records_of(1, 3)), key="a")
        assert (again.again, again.batch_ids, again.first_sequence) == (True, first.batch_ids, 0)
        assert (first.again, producer.next_sequence, producer.unsent) == (False, 1, 0)
    assert len(meter.queue.bodies()) == 1


def test_a_key_with_other_records_is_refused_and_sends_nothing(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        producer.send(records_of(1, 3), key="a")
        with pytest.raises(KeyReusedError, match="'a' was used for other records"):
            producer.send(records_of(1, 2), key="a")
        assert producer.next_sequence == 1
    assert len(meter.queue.bodies()) == 1


def test_the_batch_ids_of_a_key_are_the_same_in_every_release(meter: Meter) -> None:
    """Batch ids are public: a key sent before and after an upgrade must not count twice."""
    sent = meter.producer(None).send(records_of(1, 1), key="flows.log:4096")
    assert sent.batch_ids == ("edge-7f3a/18a89c111fefd5830acfc989d3ef6833741d1a85-0",)
    assert meter.producer(None, name="edge").send(records_of(1, 1), key="flows.log:4096").batch_ids != sent.batch_ids


def test_without_a_journal_the_key_gives_the_same_ids_and_there_are_no_numbers(meter: Meter) -> None:
    first = meter.producer(None).send(records_of(1, 3), key="event-1")
    again = meter.producer(None).send(iter(records_of(1, 3)), key="event-1")
    meter.deliver()
    assert (first.batch_ids, first.first_sequence) == (again.batch_ids, None)
    assert all("sequence" not in body and "source_id" not in body for body in bodies(meter))
    assert meter.metered() == expected(records_of(1, 3))
    with pytest.raises(OperationFailedError, match="without a key need a journal"):
        meter.producer(None).send(records_of(1, 3))


def test_without_a_key_each_call_is_new(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        assert producer.send(records_of(1, 1)).key != producer.send(records_of(1, 1)).key
    assert len({body["batch_id"] for body in bodies(meter)}) == 2


def test_records_are_split_by_their_number(meter: Meter, tmp_path: Path) -> None:
    records = ({**record(1), "bytes": 1} for _ in range(MAX_RECORDS + 1))
    with meter.producer(tmp_path) as producer:
        sent = producer.send(records, key="many")
    meter.deliver()
    assert sent.records == MAX_RECORDS + 1
    assert [body["record_count"] for body in bodies(meter)] == [MAX_RECORDS, 1]
    assert [body["sequence"] for body in bodies(meter)] == [0, 1]
    assert sum(marker.metered for marker in meter.markers()) == MAX_RECORDS + 1


def test_records_are_split_by_their_size_and_what_is_above_a_message_is_an_object(meter: Meter, tmp_path: Path) -> None:
    # An unknown field is what makes a record large. The service ignores it.
    size = MIB - 1_000
    records = [{**each, "note": "x" * size} for each in records_of(1, BATCH_BYTES // size)] + records_of(2, 1)
    records[-1]["note"] = "x" * 100_000
    with meter.producer(tmp_path) as producer:
        sent = producer.send(records, key="large")
    assert [set(body) & {"records", "location"} for body in bodies(meter)] == [{"location"}, {"records"}]
    assert len(sent.batch_ids) == 2
    keys = meter.world.objects.keys("ingest/")
    assert [key.startswith(f"ingest/{sent.batch_ids[0]}-") for key in keys] == [True]
    meter.deliver()
    assert meter.metered() == expected(records)


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("source_id", ["edge", "\U0001f4e6" * 128])
def test_a_message_is_never_larger_than_the_queue_takes(tmp_path: Path, source_id: str, over: int) -> None:
    """A batch at the size limit is sent inline or as an object, whatever the lengths of source and number are."""
    from metering.producer.batches import INLINE_BYTES, record_lines, split

    half = [{**each, "note": ""} for each in records_of(1, 2)]
    room = INLINE_BYTES - 1 - sum(len(line) + 1 for line in record_lines(half)) + over
    half[0]["note"], half[1]["note"] = "x" * (room // 2), "x" * (room - room // 2)
    packed = list(split(record_lines(half)))
    assert [each.inline for each in packed] == [not over]
    meter = Meter()
    with Producer(source_id, name="n" * 64, state=tmp_path, outlet=meter.outlet, first_sequence=2**62) as producer:
        producer.send(half, key="k")
    (body,) = meter.queue.bodies()
    assert len(body.encode()) <= MIB
    meter.deliver()
    assert meter.metered() == expected(records_of(1, 2))


def test_no_records_are_a_key_without_batches(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        sent = producer.send([], key="empty")
        assert (sent.batch_ids, sent.first_sequence, producer.next_sequence) == ((), None, 0)
        with pytest.raises(KeyReusedError):
            producer.send(records_of(1, 1), key="empty")
    assert not meter.producer(None).send([], key="empty").batch_ids


def test_a_message_holds_only_characters_that_sqs_takes_and_the_record_stays_what_it_was(tmp_path: Path) -> None:
    meter = Meter()
    resource = "a\ufffeb\uffffc\ufffdd\u2603\U0001f4e6"
    with meter.producer(tmp_path) as producer:
        producer.send(records_of(1, 1, resource=resource), key="a")
    (body,) = meter.queue.bodies()
    # Characters that SQS allows, from the API reference of SendMessage.
    assert re.fullmatch("[\x09\x0a\x0d\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*", body)
    assert json.loads(body)["records"][0]["resource_id"] == resource


class Text(str):
    """A string like NumPy's."""

    __slots__ = ()


class Whole:
    """An integer like NumPy's."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


def test_values_of_python_programs_become_those_of_the_contract(meter: Meter, tmp_path: Path) -> None:
    at = datetime(2026, 11, 24, 14, 0, tzinfo=timezone(timedelta(hours=1)))
    base = {**record(1), "start": at, "end": at}
    sizes = [Whole(1), Decimal(2), Fraction(4), Decimal("8.0"), 16]
    with meter.producer(tmp_path) as producer:
        producer.send([{**base, "bytes": size, "account_id": Text("123456789012")} for size in sizes], key="a")
    assert {(each["bytes"], each["start"]) for each in bodies(meter)[0]["records"]} == {
        (size, "2026-11-24T14:00:00+01:00") for size in (1, 2, 4, 8, 16)
    }
    meter.deliver()
    assert meter.metered() == {"123456789012": (31, 5)}


@pytest.mark.parametrize(("value", "told"), [
    (1.0, "bytes is a float"), (float("nan"), "bytes is a float"), ([1], "bytes is a list"),
    (object(), "bytes is a object"), (b"1", "bytes is a bytes"), (Decimal("1.5"), "bytes is no whole number"),
    (Decimal("NaN"), "no JSON"), ("\ud800", "no JSON"), ("x" * MIB, "a record has"),
    (datetime(2026, 11, 24, 13), "time without a zone"),  # noqa: DTZ001 - what it is about
], ids=lambda value: str(value)[:20].encode("ascii", "replace").decode())  # fmt: skip
@pytest.mark.parametrize("numbered", [True, False])
def test_a_record_that_cannot_be_written_is_named_and_nothing_is_sent(
    meter: Meter, tmp_path: Path, value: object, told: str, *, numbered: bool
) -> None:
    producer = meter.producer(tmp_path if numbered else None)
    records: list[Any] = [*records_of(1, 2), {**record(1), "bytes": value}, *records_of(2, 2), "no mapping", {1: 2}]
    with pytest.raises(RecordsRefusedError) as refused:
        producer.send(records, key="a")
    assert [position for position, _ in refused.value.problems] == [2, 5, 6]
    assert told in refused.value.problems[0][1]
    assert not meter.queue.bodies()
    # The key can be used again, and no number is lost.
    assert producer.send(records_of(1, 2), key="a").first_sequence == (0 if numbered else None)
    producer.close()


def test_only_the_first_problems_are_told_and_all_are_counted() -> None:
    with pytest.raises(RecordsRefusedError, match=r"record 19: .*; and 80 more") as refused:
        Meter().producer(None).send([{"bytes": 0.5}] * 100, key="a")
    assert (len(refused.value.problems), refused.value.refused) == (20, 100)


def test_records_that_end_in_an_error_of_the_caller_are_not_sent_and_not_numbered(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, str | int]]:
        yield from records_of(1, 2)
        raise ZeroDivisionError

    meter = Meter()
    with meter.producer(tmp_path) as producer:
        with pytest.raises(ZeroDivisionError):
            producer.send(broken(), key="a")
        assert (producer.next_sequence, producer.unsent) == (0, 0)
        assert producer.send(records_of(1, 3), key="a").first_sequence == 0


class Outage:
    """Makes calls to the queue or the bucket fail while `on`."""

    on = True

    def __call__(self, call: str) -> None:
        if self.on and call in {"queue.send_many", "objects.put"}:
            raise UnavailableError(call, "throttled")


def test_what_could_not_be_sent_is_in_the_journal_and_a_later_call_sends_it(meter: Meter, tmp_path: Path) -> None:
    outage = Outage()
    meter.queue.on_call = outage
    with meter.producer(tmp_path) as producer, pytest.raises(NotSentError, match="1 batch is not known") as error:
        producer.send(records_of(1, 3), key="a")
    assert (error.value.unsent, error.value.journalled, error.value.retryable) == (1, True, True)
    outage.on = False
    with meter.producer(tmp_path) as producer:
        assert producer.unsent == 1
        sent = producer.send(records_of(2, 1), key="b")
        assert (sent.first_sequence, producer.unsent, producer.flush()) == (1, 0, 0)
    meter.deliver()
    assert meter.metered() == expected([*records_of(1, 3), *records_of(2, 1)])


def test_a_call_tries_again_until_its_patience_ends(meter: Meter, tmp_path: Path) -> None:
    outage = Outage()
    meter.queue.on_call = outage
    began_ms = meter.world.clock.now_ms()
    with meter.producer(tmp_path, patience_s=30) as producer, pytest.raises(NotSentError):
        producer.send(records_of(1, 1), key="a")
    assert 30_000 <= meter.world.clock.now_ms() - began_ms <= 31_100
    with meter.producer(None, patience_s=30) as producer, pytest.raises(NotSentError, match="Send the same key again"):
        producer.send(records_of(1, 1), key="a")


def test_an_outage_that_ends_in_time_is_not_seen_by_the_caller(meter: Meter) -> None:
    calls: list[str] = []

    def two_fail(call: str) -> None:
        calls.append(call)
        if len(calls) < 3:
            raise UnavailableError(call, "throttled")

    meter.queue.on_call = two_fail
    sent = meter.producer(None).send(records_of(1, 1), key="a")
    assert len(calls) == 3
    assert [body["batch_id"] for body in bodies(meter)] == list(sent.batch_ids)


def test_messages_that_the_queue_did_not_take_are_sent_again_and_only_they(meter: Meter, tmp_path: Path) -> None:
    taken: list[str] = []

    class Picky:
        """A queue that accepts only the first message of a request."""

        def send_many(self, bodies: list[str]) -> list[int]:
            taken.append(bodies[0])
            return list(range(1, len(bodies)))

    outlet = replace(meter.outlet, queue=Picky())  # type: ignore[arg-type]  # a list is a sequence
    meter.queue.on_call = Outage()
    with meter.producer(tmp_path, patience_s=0) as producer:
        for each in range(3):
            with pytest.raises(NotSentError):
                producer.send(records_of(each, 1), key=str(each))
    with Producer("edge-7f3a", state=tmp_path, outlet=outlet) as producer:
        assert producer.flush() == 3
    assert [json.loads(body)["sequence"] for body in taken] == [0, 1, 2]


def test_nothing_is_sent_before_it_is_in_the_journal_and_synced(meter: Meter, tmp_path: Path) -> None:
    """With the data that is on disk at the first call, another machine can send everything."""
    (state, copy) = (tmp_path / "state", tmp_path / "copy")

    def copy_at_first_call(call: str) -> None:
        if call == "queue.send_many" and not copy.exists():
            copy.mkdir()
            for file in state.iterdir():
                (copy / file.name).write_bytes(file.read_bytes())
            raise UnavailableError(call, "the power failed")

    meter.queue.on_call = copy_at_first_call
    with meter.producer(state, patience_s=0) as producer:
        with pytest.raises(NotSentError):
            producer.send(records_of(1, 3), key="a")
        # FULL: SQLite syncs its write-ahead file before a transaction is committed (sqlite.org, pragma synchronous).
        assert producer._journal is not None
        database = producer._journal._database
        pragmas = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
        assert pragmas == [2, "wal"]
    with meter.producer(copy) as producer:
        assert producer.flush() == 1
    meter.deliver()
    assert meter.metered() == expected(records_of(1, 3))


def test_a_journal_is_of_one_process_one_source_and_one_name(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path), pytest.raises(JournalError, match="another Producer of this one, uses the journal"):
        meter.producer(tmp_path)
    with pytest.raises(JournalError, match="is of source_id 'edge-7f3a', not 'edge-8'"):
        meter.producer(tmp_path, "edge-8")
    with pytest.raises(JournalError, match="is of name 'edge-7f3a', not 'edge'"):
        meter.producer(tmp_path, name="edge")
    assert oct(tmp_path.stat().st_mode)[-3:] == "700"


def test_a_journal_that_cannot_be_used_is_an_error_with_words(meter: Meter, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(JournalError, match="cannot be opened"):
        meter.producer(tmp_path / "file")
    (tmp_path / "journal.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(JournalError, match="cannot be used: file is not a database"):
        meter.producer(tmp_path)


def test_a_journal_of_a_newer_release_is_left_alone(meter: Meter, tmp_path: Path) -> None:
    meter.producer(tmp_path).close()
    database = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
    database.execute("UPDATE about SET value = '3' WHERE name = 'version'")
    database.close()
    with pytest.raises(JournalError, match="is of form 3"):
        meter.producer(tmp_path)


def test_keys_are_forgotten_when_they_are_of_no_use_any_more(
    meter: Meter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of old keys are too old to be admitted, and a journal must not grow forever. Unsent batches stay."""
    monkeypatch.setattr(journal, "_KEPT_BATCHES", 0)
    with meter.producer(tmp_path) as producer:
        producer.send(records_of(1, 1), key="old")
    meter.queue.on_call = outage = Outage()
    with meter.producer(tmp_path, patience_s=0) as producer, pytest.raises(NotSentError):
        producer.send(records_of(2, 1), key="stuck")
    meter.world.clock.advance_s(91 * DAY_S)
    with meter.producer(tmp_path, patience_s=0) as producer:
        with pytest.raises(NotSentError):
            producer.send(records_of(3, 1), key="new")
        outage.on = False
        assert producer.send(records_of(2, 1), key="stuck").again
        assert not producer.send(records_of(1, 1), key="old").again
        assert producer.next_sequence == 4


def test_threads_share_a_producer_and_leave_no_gap(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        threads = [
            threading.Thread(target=lambda each=each: producer.send(records_of(each, 1), key=str(each)))
            for each in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert producer.next_sequence == 8
    assert sorted(body["sequence"] for body in bodies(meter)) == list(range(8))


@pytest.mark.parametrize("use", [
    lambda producer: producer.send([], key="a"), Producer.flush,
    # Even reading the journal takes locks, and these belong to the parent.
    lambda producer: producer.unsent, lambda producer: producer.next_sequence,
], ids=["send", "flush", "unsent", "next_sequence"])  # fmt: skip
def test_a_producer_that_was_inherited_by_a_fork_is_refused(tmp_path: Path, use: Callable[[Producer], object]) -> None:
    producer = Meter().producer(tmp_path)
    assert producer._journal is not None
    # This is as in a forked child, which has the object but not the lock.
    producer._journal.close()
    producer._process = -1
    with pytest.raises(OperationFailedError, match="made in another process"):
        use(producer)


@pytest.mark.parametrize(("given", "words"), [
    *(({"source_id": text, "name": "edge"}, "is no source id") for text in ("", "x" * 129, "a\nb", "\ud800")),
    *(
        ({"name": text}, "is no name of a producer")
        for text in ("", "x" * 65, "a/b", "..", ".a", "logs", "retry", "canary", "ü")
    ),
    *(({"first_sequence": first}, "first_sequence") for first in (-1, 2**63, True, 1.5, "7")),
    ({"queue_url": "https://sqs.us-east-1.amazonaws.com/1/q"}, "come together or not at all"),
    ({"queue_url": "https://q", "bucket": "b", "stage": "prod"}, "both say where batches go"),
])  # fmt: skip
def test_what_the_service_refuses_of_a_producer_is_refused_here_and_leaves_no_journal(
    tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    outlet = {} if "queue_url" in given else {"outlet": Meter().outlet}
    with pytest.raises(OperationFailedError, match=words):
        Producer(**{"source_id": "edge-7f3a", "state": tmp_path, **outlet, **given})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["", "x" * 1_025, "\ud800"])
def test_a_key_that_is_no_text_is_refused(tmp_path: Path, key: str) -> None:
    with Meter().producer(tmp_path) as producer, pytest.raises(OperationFailedError, match="is no key"):
        producer.send([], key=key)


def test_a_region_that_gives_no_answer_does_not_keep_records_out_of_the_journal(tmp_path: Path) -> None:
    class Silent:
        def outlet(self, clock: object) -> Outlet:
            raise UnavailableError("cloudformation.DescribeStacks", f"no answer at {clock}")

    with Producer("edge", state=tmp_path, stage="dev", patience_s=0) as producer:
        producer._place = Silent()  # type: ignore[assignment]  # as much of it as is used
        with pytest.raises(NotSentError, match="They are in the journal"):
            producer.send(records_of(1, 1), key="a")
        assert producer.unsent == 1


def test_a_place_is_found_by_the_url_of_its_queue_and_a_stage_for_emulators_never_reaches_aws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Meter().world.clock
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path))
    for queue_url, region, found in [
        ("https://sqs.eu-west-1.amazonaws.com/111122223333/ingest", None, "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/111122223333/ingest", None, "cn-north-1"),
        ("https://sqs.eu-west-1.amazonaws.com/111122223333/ingest", "eu-west-2", "eu-west-2"),
        ("http://127.0.0.1:4566/000000000000/ingest", None, "us-east-1"),
    ]:
        place = Place(queue_url=queue_url, bucket="b", region=region)
        assert place._found(keys)[0].access.region == found
        assert place.outlet(clock, keys).bucket == "b"
    with pytest.raises(OperationFailedError, match="Stage local runs on an emulator, and none runs here"):
        Place().outlet(clock, keys)
    with pytest.raises(OperationFailedError, match="runs on an emulator, and https://sqs"):
        Place(endpoint="https://sqs.us-east-1.amazonaws.com").outlet(clock, keys)


def test_a_full_disk_is_an_error_with_words_and_nothing_is_sent_or_numbered(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        assert producer._journal is not None
        database = producer._journal._database
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages + 4}").fetchall()
        large = records_of(1, 200, resource="x" * 500)
        with pytest.raises(JournalError, match="database or disk is full") as error:
            producer.send(large, key="a")
        assert "room on its disk" in error.value.advice
        assert (producer.next_sequence, producer.unsent, meter.queue.bodies()) == (0, 0, [])
        database.execute("PRAGMA max_page_count = 1000000").fetchall()
        assert producer.send(large, key="a").first_sequence == 0


_PEAK = """
import resource, sys
from tests.unit.producer.meter import Meter, record
meter = Meter()
one = record(1)
with meter.producer(None) as producer:
    producer.send((one for _ in range(int(sys.argv[1]))), key="k")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_records() -> None:
    def peak_kib(records: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, str(records)], capture_output=True, text=True, check=True, cwd=ROOT
        )
        return int(done.stdout)

    assert peak_kib(1_000_000) - peak_kib(100_000) < 24 * 1024


def test_a_digit_that_the_disk_changed_is_found_and_not_sent(meter: Meter, tmp_path: Path) -> None:
    meter.queue.on_call = outage = Outage()
    with meter.producer(tmp_path, patience_s=0) as producer, pytest.raises(NotSentError):
        producer.send(records_of(1, 1), key="a")
    outage.on = False
    database = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
    [(payload,)] = database.execute("SELECT payload FROM unsent").fetchall()
    changed = payload.replace(b'"bytes":1001', b'"bytes":9001')
    assert changed != payload
    database.execute("UPDATE unsent SET payload = ?", (changed,))
    database.close()
    with meter.producer(tmp_path) as producer:
        with pytest.raises(JournalError, match="is damaged"):
            producer.flush()
        assert producer.unsent == 1
    assert meter.queue.bodies() == []
