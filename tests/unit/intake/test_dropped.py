"""Objects below `drop/` in a stage whose identity is the checksum: one batch, however often a key encrypts them."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from metering.audit.conservation import names_of
from metering.errors import UnavailableError
from metering.intake.dropped import DropIds, checksum_batch_id
from metering.intake.envelopes import drop_batch_id
from metering.intake.senders import is_producer_name
from metering.stores.objects import crc64nvme
from tests.support.memory.objects import MemoryObjectStore
from tests.support.reading import BUCKET, Desk, message, ndjson, pointer, reasons, record
from tests.unit.intake.test_messages import notification, wrapped

if TYPE_CHECKING:
    from metering.intake.batches import DecodedBatch

KEY = "drop/edge/a.ndjson"
# Check value of CRC-64/NVME for the digits 1 to 9, by the specification of NVM Express.
CHECK = base64.b64encode(bytes.fromhex("ae8b14860a799888")).decode()


class Encrypted(Desk):
    """A versioned bucket with a KMS key."""

    def __init__(self) -> None:
        super().__init__()
        clock = self.objects._clock
        self.objects = MemoryObjectStore(clock, versioned=True, encrypted=True)
        self.reader = replace(self.reader, objects=self.objects, drop_identity="checksum")

    @property
    def ids(self) -> DropIds:
        return DropIds(objects=self.objects, bucket=BUCKET, identity="checksum")

    def announced(self, body: bytes, *, key: str = KEY) -> dict[str, Any]:
        etag = self.objects.upload(key, body)
        return notification(key, etag, version=self.objects.versions(key)[-1])


def test_the_checksum_is_the_one_of_the_specification() -> None:
    assert crc64nvme(b"123456789") == CHECK
    assert crc64nvme(b"") == base64.b64encode(bytes(8)).decode()


@pytest.mark.parametrize("way", ["direct", "sns", "bus"])
def test_an_object_that_is_put_twice_is_one_batch_though_its_etag_differs(way: str) -> None:
    desk, body = Encrypted(), ndjson([record()])
    first, second = desk.announced(body), desk.announced(body)
    assert first["s3"]["object"]["eTag"] != second["s3"]["object"]["eTag"]
    answers: list[DecodedBatch] = [desk.decoded(wrapped(each, way)) for each in (first, second)]
    identity = hashlib.sha256(f"{BUCKET}\n{KEY}\n{len(body)}\n{crc64nvme(body)}".encode()).hexdigest()
    assert [answer.batch_id for answer in answers] == [f"s3c:{identity}"] * 2
    assert answers[0].content_hash == answers[1].content_hash


def test_other_bytes_another_key_and_another_bucket_are_other_batches() -> None:
    def batch_id(bucket: str = "b", key: str = "k", size_bytes: int = 1, crc64nvme: str = "c") -> str:
        return checksum_batch_id(bucket, key, size_bytes=size_bytes, crc64nvme=crc64nvme)

    ids = {batch_id(), batch_id(bucket="c"), batch_id(key="l"), batch_id(size_bytes=2), batch_id(crc64nvme="d")}
    assert len(ids) == 5


def test_a_version_that_was_replaced_has_its_own_checksum() -> None:
    desk = Encrypted()
    entries = [desk.announced(ndjson([record(bytes=size)])) for size in (1, 2)]
    desk.objects.delete([KEY])
    found = [desk.decoded({"Records": [entry]}) for entry in entries]
    assert [sum(total.bytes for total in each.usage.values()) for each in found] == [1, 2]
    assert found[0].batch_id != found[1].batch_id


def test_an_object_without_the_checksum_is_refused_and_kept_under_its_id_by_etag() -> None:
    desk = Encrypted()
    entry = desk.announced(ndjson([record()]))
    desk.objects.without_checksum.add(KEY)
    answer = desk.refused({"Records": [entry]})
    assert reasons(answer) == ["checksum_missing"]
    assert answer.batch_id == drop_batch_id(BUCKET, KEY, entry["s3"]["object"]["eTag"])
    assert json.loads(answer.evidence) == {"Records": [entry]}


@pytest.mark.parametrize(("key", "etag", "reason"), [
    ("drop/gone.ndjson", "e", "object_missing"),
    (KEY, "other", "object_changed"),
    ("drop/a.csv", "e", "unknown_suffix"),
    ("ingest/a.ndjson", "e", "location_not_allowed"),
])  # fmt: skip
def test_what_no_checksum_can_be_asked_of_is_refused_as_elsewhere(key: str, etag: str, reason: str) -> None:
    desk = Encrypted()
    desk.announced(ndjson([record()]))
    answer = desk.refused({"Records": [notification(key, etag)]})
    assert (reasons(answer), answer.batch_id) == ([reason], drop_batch_id(BUCKET, key, etag))


def test_batches_that_s3_does_not_announce_keep_the_ids_that_they_state() -> None:
    desk = Encrypted()
    desk.put("ingest/a.ndjson", ndjson([record()]))
    assert desk.decoded(pointer("ingest/a.ndjson", "ndjson")).batch_id == "edge-1"
    assert desk.decoded(message([record()])).batch_id == "edge-1"


def test_an_s3_that_does_not_answer_settles_nothing() -> None:
    desk = Encrypted()
    entry = desk.announced(ndjson([record()]))

    def silent(call: str) -> None:
        if call == "objects.pinned":
            raise UnavailableError(call, "slow down")

    desk.objects.on_call = silent
    with pytest.raises(UnavailableError):
        desk.read_all({"Records": [entry]})
    with pytest.raises(UnavailableError):
        desk.ids.of_object(KEY, entry["s3"]["object"]["eTag"])


def test_dead_letters_are_named_as_the_worker_would_name_them() -> None:
    desk = Encrypted()
    entry = desk.announced(ndjson([record()]))
    bodies = [json.dumps({"Records": [entry]}), json.dumps({"Records": [notification("drop/gone.ndjson", "e")]})]
    read = desk.decoded({"Records": [entry]})
    assert names_of(bodies, desk.ids) == {read.batch_id, drop_batch_id(BUCKET, "drop/gone.ndjson", "e")}


def test_an_object_is_looked_for_under_both_ids_that_a_verdict_can_have() -> None:
    desk = Encrypted()
    entry = desk.announced(ndjson([record()]))
    etag = entry["s3"]["object"]["eTag"]
    read = desk.decoded({"Records": [entry]})
    by_etag = drop_batch_id(BUCKET, KEY, etag)
    assert desk.ids.of_object(KEY, etag) == (by_etag, read.batch_id)
    assert desk.ids.of_object(KEY, "other") == (drop_batch_id(BUCKET, KEY, "other"),)
    assert replace(desk.ids, identity="etag").of_object(KEY, etag) == (by_etag,)


def test_no_producer_may_have_the_name_that_these_ids_begin_with() -> None:
    assert not is_producer_name("s3c")
