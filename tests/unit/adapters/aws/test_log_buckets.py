"""A bucket of anyone, and what a refusal says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from metering.adapters.aws.log_buckets import S3LogStore
from metering.errors import ObjectMissingError, OperationFailedError, UnavailableError
from tests.unit.adapters.aws.stubs import stubbed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.stub import Stubber

    from metering.onramps.sources import LogStore


@pytest.fixture
def s3() -> Iterator[tuple[Any, Stubber]]:
    yield from stubbed("s3")


@pytest.fixture
def store(s3: tuple[Any, Stubber]) -> LogStore:
    return S3LogStore(s3[0], "acme-logs")


def test_a_listing_goes_through(store: LogStore, s3: tuple[Any, Stubber]) -> None:
    found = {"Key": "p/a", "Size": 5, "ETag": '"e"', "LastModified": datetime(2026, 11, 24, tzinfo=UTC)}
    s3[1].add_response("list_objects_v2", {"IsTruncated": False, "Contents": [found]})
    (info,) = store.list("p/", after="p")
    assert (info.key, info.size_bytes, store.place) == ("p/a", 5, "s3://acme-logs/")


def test_a_listing_that_is_denied_says_what_to_ask_for(store: LogStore, s3: tuple[Any, Stubber]) -> None:
    s3[1].add_client_error("list_objects_v2", "AccessDenied", "no", 403)
    with pytest.raises(OperationFailedError, match=r"s3://acme-logs/p/ may not be listed \(AccessDenied\)") as caught:
        list(store.list("p/"))
    assert "s3:ListBucket on arn:aws:s3:::acme-logs" in caught.value.advice


def test_a_bucket_that_does_not_exist_is_said_in_words(store: LogStore, s3: tuple[Any, Stubber]) -> None:
    s3[1].add_client_error("list_objects_v2", "NoSuchBucket", "no", 404)
    with pytest.raises(OperationFailedError, match="There is no bucket acme-logs"):
        list(store.list(""))


def test_an_object_of_a_bucket_that_does_not_exist_is_missing(store: LogStore, s3: tuple[Any, Stubber]) -> None:
    """An answer to HEAD has no body, so nobody can tell which of the two is missing."""
    s3[1].add_client_error("head_object", "404", "Not Found", 404)
    with pytest.raises(ObjectMissingError):
        store.open("k")


def test_a_denied_object_is_not_taken_for_a_missing_one_and_says_what_it_takes(
    store: LogStore, s3: tuple[Any, Stubber]
) -> None:
    for ask in (store.head, store.open):
        s3[1].add_client_error("head_object", "403", "Forbidden", 403)
        with pytest.raises(UnavailableError, match="s3://acme-logs/k may not be read") as caught:
            ask("k")
        assert "kms:Decrypt" in caught.value.detail
        assert not caught.value.may_have_applied


def test_a_throttle_stays_a_throttle(store: LogStore, s3: tuple[Any, Stubber]) -> None:
    s3[1].add_client_error("head_object", "SlowDown", "slower", 503)
    with pytest.raises(UnavailableError, match="SlowDown"):
        store.head("k")


def test_an_unknown_error_passes_through(store: LogStore, s3: tuple[Any, Stubber]) -> None:
    s3[1].add_client_error("list_objects_v2", "Surprise", "what", 418)
    with pytest.raises(ClientError):
        list(store.list(""))
