"""How `S3ObjectStore` handles responses that no emulator returns."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from urllib3.response import HTTPResponse

from metering.adapters.aws.log_buckets import S3LogStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.errors import (
    MeteringError,
    ObjectChangedError,
    ObjectMissingError,
    ObjectUnreadableError,
    OperationFailedError,
    UnavailableError,
)
from metering.onramps.sources import LogStore
from tests.unit.adapters.aws.stubs import Stubbed, stubbed
from tests.unit.adapters.aws.stubs import client as made_client


@pytest.fixture
def s3() -> Iterator[Stubbed]:
    yield from stubbed("s3")


@pytest.fixture
def objects(s3: Stubbed) -> S3ObjectStore:
    return S3ObjectStore(s3[0], "bucket", part_bytes=10)


def body(content: bytes, *, announced: int | None = None) -> StreamingBody:
    return StreamingBody(io.BytesIO(content), len(content) if announced is None else announced)


def test_a_put_that_meets_another_one_is_to_be_repeated(objects: S3ObjectStore, s3: Stubbed) -> None:
    s3[1].add_client_error("put_object", "ConditionalRequestConflict", "again", 409)
    with pytest.raises(UnavailableError):
        objects.put("k", b"x", if_absent=True)


def test_a_failed_precondition_is_an_answer_only_to_a_conditional_put(objects: S3ObjectStore, s3: Stubbed) -> None:
    s3[1].add_client_error("put_object", "PreconditionFailed", "there", 412)
    assert objects.put("k", b"x", if_absent=True) is False
    s3[1].add_client_error("put_object", "PreconditionFailed", "there", 412)
    with pytest.raises(ClientError):
        objects.put("k", b"x", if_absent=False)


@pytest.mark.parametrize(("answered", "kept"), [
    ({"ChecksumCRC64NVME": "AQ==", "ChecksumType": "FULL_OBJECT"}, "AQ=="),
    ({"ChecksumCRC64NVME": "AQ==-3", "ChecksumType": "COMPOSITE"}, ""),
    ({"ChecksumCRC32": "AQ==", "ChecksumType": "FULL_OBJECT"}, ""),
    ({}, ""),
])  # fmt: skip
def test_only_the_checksum_of_the_whole_object_counts(
    objects: S3ObjectStore, s3: Stubbed, answered: dict[str, str], kept: str
) -> None:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    asked = {"Bucket": "bucket", "Key": "k", "IfMatch": '"e"', "VersionId": "v", "ChecksumMode": "ENABLED"}
    answer = {"ContentLength": 3, "ETag": '"e"', "LastModified": at, **answered}
    s3[1].add_response("head_object", answer, asked)
    assert objects.pinned("k", if_match="e", version_id="v").crc64nvme == kept


def test_a_put_sends_its_body_without_asking_first() -> None:
    client = made_client("s3")
    sent: list[Any] = []

    def answer(request: Any, **_others: object) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, HTTPHeaders(), HTTPResponse(io.BytesIO()))

    client.meta.events.register("before-send.s3.PutObject", answer)
    client.put_object(Bucket="bucket", Key="k", Body=b"x")
    S3ObjectStore(client, "bucket").put("k", b"x", if_absent=True)
    assert ["Expect" in request.headers for request in sent] == [True, False]


@pytest.mark.parametrize("code", ["403", "AccessDenied"])
def test_a_denied_read_is_never_taken_for_a_missing_object(objects: S3ObjectStore, s3: Stubbed, code: str) -> None:
    """S3 also returns 403 for a missing key if the role may not list, so the batch is not refused."""
    s3[1].add_client_error("get_object", code, "no", 403)
    with pytest.raises(UnavailableError):
        objects.get("k")
    s3[1].add_client_error("head_object", code, "no", 403)
    with pytest.raises(UnavailableError):
        objects.open("k")
    s3[1].add_client_error("head_object", code, "no", 403)
    with pytest.raises(UnavailableError):
        objects.head("k")


@pytest.mark.parametrize("code", ["InvalidRequest", "KMS.DisabledException", "KMS.KMSInvalidStateException"])
def test_an_object_that_s3_will_not_hand_out_is_unreadable(objects: S3ObjectStore, s3: Stubbed, code: str) -> None:
    """S3 returns 400 without details for a HEAD of an object that is encrypted with a customer-provided key."""
    s3[1].add_client_error("head_object", "400", "Bad Request", 400)
    s3[1].add_client_error("get_object", code, "no", 400)
    with pytest.raises(ObjectUnreadableError, match=code):
        objects.open("k")
    s3[1].add_response("head_object", {"ContentLength": 5, "ETag": '"e"'})
    s3[1].add_client_error("get_object", code, "no", 400)
    with pytest.raises(ObjectUnreadableError), objects.open("k") as stream:
        stream.read()


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeout", "ThrottlingException"])
def test_an_answer_about_the_caller_says_nothing_of_the_object(objects: S3ObjectStore, s3: Stubbed, code: str) -> None:
    s3[1].add_client_error("head_object", "400", "Bad Request", 400)
    s3[1].add_client_error("get_object", code, "no", 400)
    with pytest.raises(UnavailableError):
        objects.open("k")


def test_a_head_that_fails_where_a_get_does_not_says_nothing_either(objects: S3ObjectStore, s3: Stubbed) -> None:
    s3[1].add_client_error("head_object", "400", "Bad Request", 400)
    s3[1].add_response("get_object", {"Body": body(b"1")})
    with pytest.raises(UnavailableError):
        objects.open("k")


def test_a_denial_is_logged_by_operation_and_key(
    objects: S3ObjectStore, s3: Stubbed, caplog: pytest.LogCaptureFixture
) -> None:
    """The denial is logged, because only people can change a policy, and five redeliveries do not show the cause."""
    for operation, read in (("get_object", objects.get), ("head_object", objects.open), ("head_object", objects.head)):
        s3[1].add_client_error(operation, "AccessDenied", "no", 403)
        with pytest.raises(UnavailableError):
            read("ingest/batch.ndjson")
    s3[1].add_client_error("get_object", "NoSuchKey", "none", 404)
    with pytest.raises(ObjectMissingError):
        objects.get("ingest/other.ndjson")
    told = [(entry.levelname, entry.getMessage().partition(":")[0]) for entry in caplog.records]
    assert told == [
        ("ERROR", f"{operation} of ingest/batch.ndjson was denied (AccessDenied)")
        for operation in ("s3.GetObject", "s3.HeadObject", "s3.HeadObject")
    ]


def test_a_missing_bucket_is_not_a_missing_object(objects: S3ObjectStore, s3: Stubbed) -> None:
    s3[1].add_client_error("get_object", "NoSuchBucket", "none", 404)
    with pytest.raises(ClientError):
        objects.get("k")
    s3[1].add_client_error("get_object", "NoSuchKey", "none", 404)
    with pytest.raises(ObjectMissingError):
        objects.get("k")


def test_a_write_that_is_not_allowed_is_loud(objects: S3ObjectStore, s3: Stubbed) -> None:
    s3[1].add_client_error("put_object", "AccessDenied", "no", 403)
    with pytest.raises(ClientError):
        objects.put("k", b"x", if_absent=True)


def test_a_body_that_breaks_off_is_unavailable(objects: S3ObjectStore, s3: Stubbed) -> None:
    s3[1].add_response("get_object", {"Body": body(b"123", announced=5)})
    with pytest.raises(UnavailableError):
        objects.get("k")


def test_a_range_that_is_too_short_is_unavailable(objects: S3ObjectStore, s3: Stubbed) -> None:
    s3[1].add_response("head_object", {"ContentLength": 5, "ETag": '"e"'})
    s3[1].add_response(
        "get_object", {"Body": body(b"123")}, {"Bucket": "bucket", "Key": "k", "Range": "bytes=0-4", "IfMatch": '"e"'}
    )
    with objects.open("k") as stream, pytest.raises(UnavailableError):
        stream.read()


def test_objects_that_could_not_be_deleted_are_an_error(objects: S3ObjectStore, s3: Stubbed) -> None:
    s3[1].add_response("delete_objects", {"Errors": [{"Key": "a", "Code": "SlowDown"}]})
    with pytest.raises(UnavailableError):
        objects.delete(["a", "b"])
    s3[1].add_response("delete_objects", {"Errors": [{"Key": "a", "Code": "AccessDenied"}]})
    with pytest.raises(MeteringError, match="AccessDenied for a") as caught:
        objects.delete(["a", "b"])
    assert not caught.value.retryable


@pytest.fixture
def large(tmp_path: Path) -> Path:
    file = tmp_path / "large"
    file.write_bytes(b"x" * 15)
    return file


def test_an_upload_that_fails_leaves_no_parts(objects: S3ObjectStore, s3: Stubbed, large: Path) -> None:
    s3[1].add_response("create_multipart_upload", {"UploadId": "u"})
    s3[1].add_response("upload_part", {"ETag": '"1"'})
    s3[1].add_client_error("upload_part", "InternalError", "oops", 500)
    s3[1].add_response("abort_multipart_upload", {}, {"Bucket": "bucket", "Key": "k", "UploadId": "u"})
    with pytest.raises(UnavailableError):
        objects.put("k", large, if_absent=True)


def test_a_failed_abort_does_not_hide_why_the_upload_failed(objects: S3ObjectStore, s3: Stubbed, large: Path) -> None:
    s3[1].add_response("create_multipart_upload", {"UploadId": "u"})
    s3[1].add_client_error("upload_part", "AccessDenied", "no", 403)
    s3[1].add_client_error("abort_multipart_upload", "SlowDown", "later", 503)
    with pytest.raises(ClientError, match="AccessDenied"):
        objects.put("k", large, if_absent=True)


def test_an_upload_whose_completion_was_lost_may_be_complete(objects: S3ObjectStore, s3: Stubbed, large: Path) -> None:
    s3[1].add_response("create_multipart_upload", {"UploadId": "u"})
    for _ in range(2):
        s3[1].add_response("upload_part", {"ETag": '"1"'})
    s3[1].add_client_error("complete_multipart_upload", "NoSuchUpload", "gone", 404)
    s3[1].add_response("abort_multipart_upload", {})
    with pytest.raises(UnavailableError) as caught:
        objects.put("k", large, if_absent=True)
    assert caught.value.may_have_applied


def test_parts_come_with_the_checksum_that_was_announced(objects: S3ObjectStore, s3: Stubbed, large: Path) -> None:
    """Otherwise S3 and LocalStack return InvalidPart at the end; MiniStack and moto do not check the checksums."""
    named = {"Bucket": "bucket", "Key": "k"}
    s3[1].add_response("create_multipart_upload", {"UploadId": "u"}, {**named, "ChecksumAlgorithm": "CRC32"})
    parts = []
    for number in (1, 2):
        s3[1].add_response("upload_part", {"ETag": f'"{number}"', "ChecksumCRC32": f"c{number}"})
        parts.append({"PartNumber": number, "ETag": f'"{number}"', "ChecksumCRC32": f"c{number}"})
    s3[1].add_response(
        "complete_multipart_upload",
        {},
        {**named, "UploadId": "u", "MultipartUpload": {"Parts": parts}, "IfNoneMatch": "*"},
    )
    assert objects.put("k", large, if_absent=True) is True


def listed(key: str) -> dict[str, Any]:
    return {"Key": key, "Size": 1, "ETag": '"e"', "LastModified": datetime(2026, 11, 24, tzinfo=UTC)}


def test_a_listing_goes_on_by_its_token_over_empty_pages_and_asks_for_each_page_once(
    objects: S3ObjectStore, s3: Stubbed
) -> None:
    asked = {"Bucket": "bucket", "Prefix": "p/"}
    pages: tuple[tuple[dict[str, str], list[dict[str, Any]], str], ...] = (
        ({"StartAfter": "p/0"}, [], "t1"),
        ({"ContinuationToken": "t1"}, [listed("p/a"), listed("p/b")], "t2"),
        ({"ContinuationToken": "t2"}, [], "t3"),
        ({"ContinuationToken": "t3"}, [listed("p/c")], "t4"),
        ({"ContinuationToken": "t4"}, [], ""),
    )
    for place, contents, token in pages:
        more = {"IsTruncated": True, "NextContinuationToken": token} if token else {"IsTruncated": False}
        s3[1].add_response("list_objects_v2", {"Contents": contents, **more}, {**asked, **place})
    assert [info.key for info in objects.list("p/", after="p/0")] == ["p/a", "p/b", "p/c"]


def test_a_listing_that_cannot_go_on_does_not_end_as_if_it_were_whole(objects: S3ObjectStore, s3: Stubbed) -> None:
    s3[1].add_response("list_objects_v2", {"Contents": [listed("a")], "IsTruncated": True})
    with pytest.raises(UnavailableError):
        list(objects.list(""))


def test_a_version_is_read_by_its_id_and_its_etag(objects: S3ObjectStore, s3: Stubbed) -> None:
    asked = {"Bucket": "bucket", "Key": "k", "VersionId": "v0"}
    s3[1].add_response("head_object", {"ContentLength": 2, "ETag": '"e"'}, {**asked, "IfMatch": '"e"'})
    s3[1].add_response("get_object", {"Body": body(b"ab")}, {**asked, "IfMatch": '"e"', "Range": "bytes=0-1"})
    assert objects.open("k", if_match="e", version_id="v0").read() == b"ab"


@pytest.mark.parametrize("status", [400, 403, 404, 405, 412])
def test_an_unreadable_version_leaves_the_newest_object(status: int, objects: S3ObjectStore, s3: Stubbed) -> None:
    s3[1].add_client_error("head_object", str(status), "no", status)
    newest = {"Bucket": "bucket", "Key": "k", "IfMatch": '"e"'}
    s3[1].add_response("head_object", {"ContentLength": 2, "ETag": '"e"'}, newest)
    s3[1].add_response("get_object", {"Body": body(b"ab")}, {**newest, "Range": "bytes=0-1"})
    assert objects.open("k", if_match="e", version_id="v0").read() == b"ab"


def test_a_version_without_an_answer_is_trouble_and_not_another_object(objects: S3ObjectStore, s3: Stubbed) -> None:
    s3[1].add_client_error("head_object", "503", "slow down", 503)
    with pytest.raises(UnavailableError):
        objects.open("k", if_match="e", version_id="v0")


def test_a_list_of_etags_is_no_etag_of_the_object(objects: S3ObjectStore, s3: Stubbed) -> None:
    # S3 may accept a list in the header. Each spelling of an ETag would be another batch id for the same records.
    s3[1].add_response("head_object", {"ContentLength": 2, "ETag": '"e"'})
    with pytest.raises(ObjectChangedError):
        objects.open("k", if_match='x", "e')


# Buckets of any owner, and the messages when access is refused.


@pytest.fixture
def store(s3: Stubbed) -> LogStore:
    return S3LogStore(s3[0], "acme-logs")


def test_a_listing_goes_through(store: LogStore, s3: Stubbed) -> None:
    found = {"Key": "p/a", "Size": 5, "ETag": '"e"', "LastModified": datetime(2026, 11, 24, tzinfo=UTC)}
    s3[1].add_response("list_objects_v2", {"IsTruncated": False, "Contents": [found]})
    (info,) = store.list("p/", after="p")
    assert (info.key, info.size_bytes, store.place) == ("p/a", 5, "s3://acme-logs/")


def test_a_listing_that_is_denied_says_what_to_ask_for(store: LogStore, s3: Stubbed) -> None:
    s3[1].add_client_error("list_objects_v2", "AccessDenied", "no", 403)
    with pytest.raises(OperationFailedError, match=r"s3://acme-logs/p/ may not be listed \(AccessDenied\)") as caught:
        list(store.list("p/"))
    assert "s3:ListBucket on arn:aws:s3:::acme-logs" in caught.value.advice


def test_a_bucket_that_does_not_exist_is_said_in_words(store: LogStore, s3: Stubbed) -> None:
    s3[1].add_client_error("list_objects_v2", "NoSuchBucket", "no", 404)
    with pytest.raises(OperationFailedError, match="There is no bucket acme-logs"):
        list(store.list(""))


def test_an_object_of_a_bucket_that_does_not_exist_is_missing(store: LogStore, s3: Stubbed) -> None:
    """A HEAD response has no body, so the response does not say whether the bucket or the object is missing."""
    s3[1].add_client_error("head_object", "404", "Not Found", 404)
    with pytest.raises(ObjectMissingError):
        store.open("k")


def test_a_denied_object_is_not_taken_for_a_missing_one_and_says_what_it_takes(store: LogStore, s3: Stubbed) -> None:
    for ask in (store.head, store.open):
        s3[1].add_client_error("head_object", "403", "Forbidden", 403)
        with pytest.raises(UnavailableError, match="s3://acme-logs/k may not be read") as caught:
            ask("k")
        assert "kms:Decrypt" in caught.value.detail
        assert not caught.value.may_have_applied


def test_a_throttle_stays_a_throttle(store: LogStore, s3: Stubbed) -> None:
    s3[1].add_client_error("head_object", "SlowDown", "slower", 503)
    with pytest.raises(UnavailableError, match="SlowDown"):
        store.head("k")


def test_an_unknown_error_passes_through(store: LogStore, s3: Stubbed) -> None:
    s3[1].add_client_error("list_objects_v2", "Surprise", "what", 418)
    with pytest.raises(ClientError):
        list(store.list(""))
