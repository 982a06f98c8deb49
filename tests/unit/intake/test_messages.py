"""Every form of message, valid and invalid."""

import hashlib
import json
from typing import Any

import pytest

from metering.errors import ObjectUnreadableError
from metering.intake.batches import DecodedBatch, NoBatch, RefusedBatch
from metering.intake.envelopes import drop_batch_id
from tests.support.reading import BUCKET, PACK, Desk, message, ndjson, pointer, reasons, record


def test_an_inline_batch_is_read() -> None:
    answer = Desk().decoded(message([record(), record(bytes=1e3), record(bytes=-1)]))
    assert (answer.batch_id, answer.source_id, answer.sequence, answer.sender_id) == ("edge-1", "edge", 1, "sender")
    assert (answer.records, len(answer.rows), len(answer.refused)) == (3, 2, 1)
    (key,) = answer.usage
    assert (key.account_id, key.usage_type, key.hour_s) == ("123456789012", "DataTransfer-Out-Bytes", 1_795_525_200)
    assert answer.usage[key] == (41943040 + 1000, 2)
    assert answer.hash_version == 1
    assert json.loads(answer.refused[0].raw)["bytes"] == -1


def test_source_and_sequence_may_be_left_out_together() -> None:
    answer = Desk().decoded(message([record()], source_id=..., sequence=None))
    assert (answer.source_id, answer.sequence) == ("", None)


@pytest.mark.parametrize(("body", "expected"), [
    ("", ["not_json"]),
    ("not json", ["not_json"]),
    ("[]", ["unknown_message"]),
    ("null", ["unknown_message"]),
    ("{}", ["unknown_message"]),
    ('"text"', ["unknown_message"]),
    ("[" * 100_000, ["too_deeply_nested"]),
    ('{"a":' * 100_000, ["too_deeply_nested"]),
    ("\ud800", ["not_json"]),
    ('{"batch_id": "x"', ["not_json"]),
    ("x" * (1024 * 1024 + 1), ["message_too_large"]),
    ("é" * (512 * 1024 + 1), ["message_too_large"]),
    ('{"Event": "s3:Other"}', ["unknown_message"]),
    ('{"Records": []}', ["invalid_notification"]),
    ('{"Records": {}}', ["invalid_notification"]),
    ('{"Records": [1]}', ["invalid_notification"]),
    ('{"Type": "Notification", "Message": "hello"}', ["invalid_notification"]),
    ('{"Type": "Notification", "Message": 5}', ["invalid_notification"]),
    ('{"source": "aws.s3", "detail-type": "Object Created", "detail": 5}', ["invalid_notification"]),
    ('{"specversion": "1.0"}', ["invalid_cloud_event"] * 4),
])  # fmt: skip
def test_what_is_no_batch_message_is_refused_without_an_id(body: str, expected: list[str]) -> None:
    answer = Desk().refused(body)
    assert reasons(answer) == expected
    assert answer.batch_id == ""
    assert answer.hash_version == 0
    assert answer.content_hash == hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
    assert answer.evidence == body.encode("utf-8", "surrogatepass")[: 1024 * 1024]


@pytest.mark.parametrize(("changes", "expected"), [
    ({"schema": "metering.batch/2"}, "unsupported_schema"),
    ({"schema": ...}, "unsupported_schema"),
    ({"batch_id": ""}, "invalid_batch_id"),
    ({"batch_id": ...}, "invalid_batch_id"),
    ({"batch_id": "x" * 129}, "invalid_batch_id"),
    ({"batch_id": "a b"}, "invalid_batch_id"),
    ({"batch_id": "a\n"}, "invalid_batch_id"),
    ({"batch_id": "a#b"}, "invalid_batch_id"),
    ({"batch_id": 5}, "invalid_batch_id"),
    ({"batch_id": "\ud800"}, "invalid_batch_id"),
    ({"source_id": ""}, "invalid_source"),
    ({"source_id": "s" * 129}, "invalid_source"),
    ({"source_id": "a\x1b"}, "invalid_source"),
    ({"source_id": ...}, "invalid_source"),
    ({"sequence": ...}, "invalid_source"),
    ({"sequence": -1}, "invalid_source"),
    ({"sequence": 1.5}, "invalid_source"),
    ({"sequence": True}, "invalid_source"),
    ({"sequence": 2**63}, "invalid_source"),
    ({"record_count": ...}, "invalid_record_count"),
    ({"record_count": "1"}, "invalid_record_count"),
    ({"record_count": True}, "invalid_record_count"),
    ({"record_count": float("nan")}, "invalid_record_count"),
    ({"record_count": 2}, "record_count_mismatch"),
    ({"record_count": 50_001}, "too_many_records"),
    ({"records_": ...}, "invalid_records"),
    ({"records_": {}}, "invalid_records"),
    ({"records_": "x"}, "invalid_records"),
    ({"location": {}}, "invalid_location"),
    ({"sha256": "xyz"}, "invalid_location"),
])  # fmt: skip
def test_a_wrong_field_of_the_message_refuses_the_batch(changes: dict[str, Any], expected: str) -> None:
    answer = Desk().refused(message([record()], **changes))
    assert expected in reasons(answer)
    assert answer.batch_id == ("" if "batch_id" in changes else "edge-1")


def test_all_problems_of_a_message_are_reported_at_once() -> None:
    answer = Desk().refused(message([record()], schema="x", batch_id="", sequence=-1, record_count=5))
    assert reasons(answer) == ["unsupported_schema", "invalid_batch_id", "invalid_source", "record_count_mismatch"]


def test_a_batch_without_records_is_refused() -> None:
    assert reasons(Desk().refused(message([]))) == ["no_records"]
    assert reasons(Desk().refused(message([], record_count=3))) == ["no_records", "record_count_mismatch"]


def test_50_000_records_are_a_batch_and_one_more_is_none() -> None:
    assert Desk().refused(message([{}] * 50_000)).reason == "missing_field"
    assert Desk().refused(message([{}] * 50_001)).reason == "too_many_records"
    assert Desk().refused(message([{}] * 50_001, record_count=1)).reason == "too_many_records"


def test_a_refused_batch_whose_records_can_be_read_keeps_their_hash() -> None:
    desk = Desk()
    good = desk.decoded(message([record()]))
    bad = desk.refused(message([record()], record_count=2))
    assert (bad.content_hash, bad.hash_version, bad.records) == (good.content_hash, 1, 1)


def test_a_batch_of_refused_records_is_refused_by_their_common_reason() -> None:
    late = record(start=0, end=0)
    assert reasons(Desk().refused(message([late, late]))) == ["too_late"]
    mixed = Desk().refused(message([late, record(bytes=-1)]))
    assert reasons(mixed) == ["no_record_admitted", "too_late", "invalid_bytes"]


def test_deep_nesting_in_one_record_refuses_the_message_whatever_the_stack() -> None:
    body = json.dumps(message([record(), record(x=5)])).replace('"x": 5', '"x": ' + "[" * 150 + "]" * 150)
    assert Desk().refused(body).reason == "too_deeply_nested"
    shallow = json.dumps(message([record(), record(x=5)])).replace('"x": 5', '"x": ' + "[" * 90 + "]" * 90)
    assert len(Desk().decoded(shallow).rows) == 2


def test_lone_surrogates_and_nan_cost_a_record_not_the_batch() -> None:
    answer = Desk().decoded(message([record(), record(resource_id="\ud800"), record(bytes=float("nan"))]))
    assert [each.position for each in answer.refused] == [1, 2]
    assert (reasons(answer, 1), reasons(answer, 2)) == (["invalid_resource_id"], ["invalid_bytes"])
    assert all(each.raw.isascii() for each in answer.refused)


def test_evidence_of_long_records_is_cut() -> None:
    answer = Desk().decoded(message([record(), record(resource_id="\U0001f600" * 5_000)]))
    assert len(answer.refused[0].raw) == 4_096
    assert answer.refused[0].raw.isascii()


def test_a_cloud_event_carries_the_same_batch() -> None:
    desk = Desk()
    event = {"specversion": "1.0", "id": "1", "source": "/edge", "type": "batch", "data": message([record()])}
    assert desk.decoded(event).content_hash == desk.decoded(message([record()])).content_hash


@pytest.mark.parametrize("changes", [{"specversion": "0.3"}, {"id": ""}, {"source": 5}, {"type": None}])
def test_a_wrong_cloud_event_is_refused_under_the_batch_id(changes: dict[str, Any]) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/edge", "type": "batch", "data": message([record()])}
    answer = Desk().refused(event | changes)
    assert (reasons(answer), answer.batch_id, answer.hash_version) == (["invalid_cloud_event"], "edge-1", 1)


@pytest.mark.parametrize("data", [None, "text", [], 5])
def test_a_cloud_event_without_a_batch_is_refused(data: object) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/edge", "type": "batch", "data": data}
    assert reasons(Desk().refused(event)) == ["invalid_cloud_event"]


# --- objects that a message points to


@pytest.mark.parametrize("compression", PACK)
def test_an_object_is_read(compression: str) -> None:
    stored = PACK[compression](ndjson([record(), record()]))
    desk = Desk().put("ingest/a", stored)
    digest = hashlib.sha256(stored).hexdigest()
    inline = desk.decoded(message([record(), record()]))
    body = pointer("ingest/a", "ndjson", compression, count=2, sha256=digest.upper())
    assert desk.decoded(body).content_hash == inline.content_hash
    body["location"]["sha256"] = digest
    assert desk.decoded({name: value for name, value in body.items() if name != "sha256"}).usage == inline.usage


def test_a_wrong_sha256_is_refused_with_the_content_hash() -> None:
    desk = Desk().put("ingest/a", ndjson([record()]))
    answer = desk.refused(pointer("ingest/a", "ndjson", sha256="0" * 64))
    assert (reasons(answer), answer.hash_version) == (["sha256_mismatch"], 1)
    assert reasons(desk.refused(pointer("ingest/a", "ndjson", sha256="0" * 64, count=9))) == [
        "sha256_mismatch",
        "record_count_mismatch",
    ]


@pytest.mark.parametrize(("bucket", "key"), [
    (BUCKET, "drop/a"),
    (BUCKET, "lake/a"),
    (BUCKET, "ingest"),
    (BUCKET, "ingest/"),
    (BUCKET, "ingest/../lake/a"),
    (BUCKET, "/ingest/a"),
    (BUCKET, ""),
    ("other", "ingest/a"),
    (BUCKET, "ingest/" + "x" * 1024),
    (BUCKET, "ingest/\x00"),
])  # fmt: skip
def test_only_objects_below_ingest_of_the_own_bucket_are_read(bucket: str, key: str) -> None:
    location = {"bucket": bucket, "key": key, "format": "ndjson", "compression": "none"}
    answer = Desk().refused(message(record_count=1, location=location))
    assert set(reasons(answer)) == {"location_not_allowed"}


@pytest.mark.parametrize(
    "changes", [{"format": "csv"}, {"compression": "lz4"}, {"key": 5}, {"bucket": None}, {"format": ...}]
)
def test_a_location_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    location = {"bucket": BUCKET, "key": "ingest/a", "format": "ndjson", "compression": "none"} | changes
    location = {name: value for name, value in location.items() if value is not ...}
    assert reasons(Desk().refused(message(record_count=1, location=location))) == ["invalid_location"]


def test_records_and_a_location_together_are_refused() -> None:
    assert reasons(Desk().refused(pointer("ingest/a", "ndjson", records_=[record()]))) == ["invalid_records"]


def test_a_missing_object_is_marked_as_such() -> None:
    answer = Desk().refused(pointer("ingest/gone", "ndjson"))
    assert (reasons(answer), answer.missing_object, answer.batch_id) == (["object_missing"], True, "edge-1")
    assert not Desk().refused(pointer("ingest/gone", "ndjson", batch_id="")).missing_object


def test_an_object_that_the_store_will_not_hand_out_is_refused() -> None:
    desk = Desk()

    def refuse(_call: str) -> None:
        raise ObjectUnreadableError("ingest/a", "InvalidRequest")

    desk.objects.on_call = refuse
    answer = desk.refused(pointer("ingest/a", "ndjson"))
    assert (reasons(answer), answer.missing_object, answer.batch_id) == (["object_unreadable"], False, "edge-1")


# --- retries under another id


def test_a_message_says_what_it_is_a_retry_of() -> None:
    answer = Desk().decoded(message([record()], batch_id="retry:1", retry_of="edge-1"))
    assert answer.retry_of == "edge-1"


@pytest.mark.parametrize("value", [None, "edge-1"])
def test_what_names_nothing_or_itself_is_no_retry(value: object) -> None:
    answer = Desk().decoded(message([record()], batch_id="edge-1", retry_of=value))
    assert answer.retry_of == ""


@pytest.mark.parametrize("value", [5, "", "a b", ["edge-1"]])
def test_a_claim_that_nobody_can_check_is_refused(value: object) -> None:
    answer = Desk().refused(message([record()], batch_id="retry:1", retry_of=value))
    assert reasons(answer) == ["invalid_retry_of"]


# --- notifications of S3


def etag_of(desk: Desk, key: str) -> str:
    info = desk.objects.head(key)
    assert info is not None
    return info.etag


def notification(
    key: str, etag: str, *, bucket: str = BUCKET, name: str = "ObjectCreated:Put", version: object = None
) -> dict[str, Any]:
    announced = {"key": key, "eTag": etag} | ({} if version is None else {"versionId": version})
    return {"eventName": name, "s3": {"bucket": {"name": bucket}, "object": announced}}


def wrapped(entry: dict[str, Any], way: str) -> dict[str, Any]:
    if way == "direct":
        return {"Records": [entry]}
    if way == "sns":
        return {"Type": "Notification", "MessageId": "1", "TopicArn": "t", "Message": json.dumps({"Records": [entry]})}
    found = entry["s3"]["object"]
    announced = {"key": found["key"], "etag": found["eTag"]}
    if "versionId" in found:
        announced["version-id"] = found["versionId"]
    detail = {"bucket": entry["s3"]["bucket"], "object": announced}
    return {"version": "0", "source": "aws.s3", "detail-type": "Object Created", "detail": detail}


@pytest.mark.parametrize("way", ["direct", "sns", "bus"])
def test_an_announced_object_is_a_batch_of_its_own_id(way: str) -> None:
    desk = Desk().put("drop/a b.ndjson", ndjson([record()]))
    etag = etag_of(desk, "drop/a b.ndjson").strip('"')
    key = "drop/a b.ndjson" if way == "bus" else "drop/a+b.ndjson"
    answer = desk.decoded(wrapped(notification(key, etag), way))
    identity = hashlib.sha256(f"{BUCKET}\ndrop/a b.ndjson\n{etag}".encode()).hexdigest()
    assert answer.batch_id == f"s3:{identity}" == drop_batch_id(BUCKET, "drop/a b.ndjson", f'"{etag}"')
    assert (answer.source_id, answer.sequence, len(answer.rows)) == ("", None, 1)


@pytest.mark.parametrize("way", ["direct", "sns"])
def test_keys_of_notifications_are_url_decoded(way: str) -> None:
    desk = Desk().put("drop/é+%.ndjson", ndjson([record()]))
    etag = etag_of(desk, "drop/é+%.ndjson")
    assert desk.decoded(wrapped(notification("drop/%C3%A9%2B%25.ndjson", etag), way)).records == 1


@pytest.mark.parametrize("suffix", [".ndjson", ".ndjson.gz", ".ndjson.zst"])
def test_the_suffix_gives_the_format(suffix: str) -> None:
    pack = {".ndjson": "none", ".ndjson.gz": "gzip", ".ndjson.zst": "zstd"}[suffix]
    desk = Desk().put(f"drop/x{suffix}", PACK[pack](ndjson([record()])))
    etag = etag_of(desk, f"drop/x{suffix}")
    assert desk.decoded({"Records": [notification(f"drop/x{suffix}", etag)]}).records == 1


def test_one_notification_may_announce_several_objects() -> None:
    desk = Desk().put("drop/a.ndjson", ndjson([record()]))
    etag = etag_of(desk, "drop/a.ndjson")
    entries = [
        notification("drop/a.ndjson", etag),
        notification("drop/gone.ndjson", "e"),
        notification("drop/a.csv", "e"),
        notification("ingest/a.ndjson", "e"),
        notification("drop/a.ndjson", "e", bucket="other"),
        notification("drop/a.ndjson", etag, name="ObjectRemoved:Delete"),
        {"eventName": "ObjectRemoved:Delete"},
        {"eventName": "ObjectCreated:Put"},
    ]
    answers = desk.read_all({"Records": entries})
    assert [type(answer) for answer in answers] == [DecodedBatch, *[RefusedBatch] * 4, NoBatch, NoBatch, RefusedBatch]
    assert [answer.reason for answer in answers if isinstance(answer, RefusedBatch)] == [
        "object_missing", "unknown_suffix", "location_not_allowed", "location_not_allowed", "invalid_notification",
    ]  # fmt: skip
    assert len({answer.batch_id for answer in answers if isinstance(answer, RefusedBatch)}) == 5


def test_an_object_that_was_replaced_is_not_the_announced_one() -> None:
    desk = Desk().put("drop/a.ndjson", ndjson([record()]))
    answer = desk.refused({"Records": [notification("drop/a.ndjson", "other")]})
    assert (reasons(answer), answer.missing_object) == (["object_changed"], False)


@pytest.mark.parametrize("way", ["direct", "sns", "bus"])
def test_an_object_that_was_put_twice_quickly_is_read_by_the_version_that_was_announced(way: str) -> None:
    desk = Desk(versioned=True)
    etags = []
    for size in (1, 2):
        desk.put("drop/a.ndjson", ndjson([record(bytes=size)]))
        etags.append(etag_of(desk, "drop/a.ndjson"))
    for size, etag, version in zip((1, 2), etags, desk.objects.versions("drop/a.ndjson"), strict=True):
        answer = desk.decoded(wrapped(notification("drop/a.ndjson", etag, version=version), way))
        assert [total.bytes for total in answer.usage.values()] == [size]
        # The batch id does not contain the version id, which only states where to read.
        assert answer.batch_id == drop_batch_id(BUCKET, "drop/a.ndjson", etag)
    desk.objects.delete(["drop/a.ndjson"])
    assert desk.decoded(wrapped(notification("drop/a.ndjson", etags[0], version="v0"), way)).records == 1


@pytest.mark.parametrize("version", ["v1", "v9", "null", ""])
def test_a_version_that_is_another_one_or_none_leaves_the_newest_object(version: str) -> None:
    desk = Desk(versioned=True).put("drop/a.ndjson", ndjson([record(bytes=1)]))
    first = etag_of(desk, "drop/a.ndjson")
    assert desk.decoded({"Records": [notification("drop/a.ndjson", first, version=version)]}).records == 1
    desk.put("drop/a.ndjson", ndjson([record(bytes=2)]))
    answer = desk.refused({"Records": [notification("drop/a.ndjson", first, version=version)]})
    assert reasons(answer) == ["object_changed"]


@pytest.mark.parametrize("version", [5, "a b", "\u20ac", "x" * 1025, ["v0"]])
def test_a_version_that_cannot_be_one_is_refused(version: object) -> None:
    desk = Desk(versioned=True).put("drop/a.ndjson", ndjson([record()]))
    etag = etag_of(desk, "drop/a.ndjson")
    answer = desk.refused({"Records": [notification("drop/a.ndjson", etag, version=version)]})
    assert reasons(answer) == ["invalid_notification"]


@pytest.mark.parametrize("way", ["direct", "sns"])
def test_the_test_event_of_s3_is_no_batch(way: str) -> None:
    event: dict[str, Any] = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET}
    body = event if way == "direct" else {"Type": "Notification", "Message": json.dumps(event)}
    assert isinstance(Desk().read(body), NoBatch)


def test_an_event_bus_event_that_creates_nothing_is_no_batch() -> None:
    assert isinstance(Desk().read({"source": "aws.s3", "detail-type": "Object Deleted", "detail": {}}), NoBatch)
