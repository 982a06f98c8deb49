"""Behaviour of every `ObjectStore`: S3's semantics, as far as the protocol depends on them."""

from __future__ import annotations

import io
import random
import time
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metering.errors import ObjectChangedError, ObjectMissingError
from metering.stores.objects import crc64nvme
from metering.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from metering.stores.objects import ObjectStore


def noise(size_bytes: int) -> bytes:
    return random.Random(size_bytes).randbytes(size_bytes)


def keys(objects: ObjectStore, prefix: str, *, after: str = "") -> list[str]:
    return [info.key for info in objects.list(prefix, after=after)]


def test_an_object_comes_back_whole(objects: ObjectStore, prefix: str) -> None:
    body = bytes(range(256)) * 100
    assert objects.put(prefix + "a", body, if_absent=False)
    assert objects.get(prefix + "a") == body


def test_an_empty_object_is_an_object(objects: ObjectStore, prefix: str) -> None:
    assert objects.put(prefix + "a", b"", if_absent=True)
    assert objects.get(prefix + "a") == b""
    with objects.open(prefix + "a") as stream:
        assert stream.read() == b""


def test_the_first_conditional_put_wins_and_the_second_says_so(objects: ObjectStore, prefix: str) -> None:
    assert objects.put(prefix + "a", b"first", if_absent=True) is True
    assert objects.put(prefix + "a", b"second", if_absent=True) is False
    assert objects.get(prefix + "a") == b"first"


def test_an_unconditional_put_replaces(objects: ObjectStore, prefix: str) -> None:
    objects.put(prefix + "a", b"first", if_absent=True)
    assert objects.put(prefix + "a", b"second", if_absent=False) is True
    assert objects.get(prefix + "a") == b"second"


def test_a_deleted_object_can_be_put_again(objects: ObjectStore, prefix: str) -> None:
    objects.put(prefix + "a", b"first", if_absent=True)
    objects.delete([prefix + "a"])
    assert objects.put(prefix + "a", b"second", if_absent=True) is True


@pytest.mark.parametrize("size_bytes", [0, 1000, 5 * MIB, 11 * MIB + 17], ids=["empty", "small", "one part", "parts"])
def test_a_file_of_any_size_goes_up_as_it_is(
    objects: ObjectStore, prefix: str, tmp_path: Path, size_bytes: int
) -> None:
    body = noise(size_bytes)
    file = tmp_path / "file"
    file.write_bytes(body)
    assert objects.put(prefix + "a", file, if_absent=True) is True
    assert objects.get(prefix + "a") == body
    file.write_bytes(body[::-1])
    assert objects.put(prefix + "a", file, if_absent=True) is False
    assert objects.get(prefix + "a") == body
    assert objects.put(prefix + "a", file, if_absent=False) is True
    assert objects.get(prefix + "a") == body[::-1]


def test_a_missing_object_is_named(objects: ObjectStore, prefix: str) -> None:
    with pytest.raises(ObjectMissingError) as caught:
        objects.get(prefix + "none")
    assert caught.value.key == prefix + "none"
    with pytest.raises(ObjectMissingError):
        objects.open(prefix + "none")
    with pytest.raises(ObjectMissingError):
        objects.open(prefix + "none", if_match='"abc"')
    assert objects.head(prefix + "none") is None


def test_an_uploaded_checksum_is_kept_and_told_of_the_version_that_is_asked_for(
    objects: ObjectStore, prefix: str
) -> None:
    body = noise(5000)
    etag = objects.upload(prefix + "a", body, crc64nvme=crc64nvme(body))
    info = objects.pinned(prefix + "a", if_match=etag)
    assert (info.size_bytes, info.etag.strip('"'), info.crc64nvme) == (5000, etag, crc64nvme(body))
    assert objects.pinned(prefix + "a", if_match=etag, version_id="no-such-version") == info
    with pytest.raises(ObjectChangedError):
        objects.pinned(prefix + "a", if_match="other")
    with pytest.raises(ObjectMissingError):
        objects.pinned(prefix + "none", if_match=etag)


def test_head_and_list_agree(objects: ObjectStore, prefix: str) -> None:
    objects.put(prefix + "a", b"12345", if_absent=True)
    info = objects.head(prefix + "a")
    assert info is not None
    assert (info.key, info.size_bytes, info.storage_class) == (prefix + "a", 5, "STANDARD")
    assert abs(info.modified_s - time.time()) < 60
    assert [info] == list(objects.list(prefix))


def test_a_stream_seeks_and_reads_ranges(objects: ObjectStore, prefix: str) -> None:
    body = noise(5000)
    objects.put(prefix + "a", body, if_absent=True)
    with objects.open(prefix + "a") as stream:
        assert (stream.readable(), stream.seekable(), stream.tell()) == (True, True, 0)
        assert stream.read(10) == body[:10]
        assert stream.tell() == 10
        assert stream.seek(-8, io.SEEK_END) == 4992
        assert stream.read() == body[-8:]
        assert stream.read(5) == b""
        assert stream.seek(100) == 100
        assert stream.read(1000) == body[100:1100]
        assert stream.seek(-50, io.SEEK_CUR) == 1050
        assert stream.read(3) == body[1050:1053]
        assert stream.seek(9000) == 9000
        assert stream.read(1) == b""
        stream.seek(0)
        assert stream.read() == body


def test_a_stream_gives_lines(objects: ObjectStore, prefix: str) -> None:
    lines = [b"x" * n + b"\n" for n in range(60)]
    objects.put(prefix + "a", b"".join(lines), if_absent=True)
    with objects.open(prefix + "a") as stream:
        assert list(stream) == lines


def test_parquet_reads_from_a_stream(objects: ObjectStore, prefix: str) -> None:
    table = pa.table({"hour": [n // 100 for n in range(1000)], "bytes": [2**60 + n for n in range(1000)]})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=100)
    objects.put(prefix + "a", sink.getvalue(), if_absent=True)
    with objects.open(prefix + "a") as stream, pq.ParquetFile(stream) as file:
        assert file.read_row_group(3).equals(table.slice(300, 100))
        assert file.read().equals(table)


@pytest.mark.parametrize("last_bytes", [1, 100, 5_000, 100_000])
@pytest.mark.parametrize("size_bytes", [0, 1, 5_000])
def test_a_stream_that_begins_with_the_end_reads_the_same(
    objects: ObjectStore, prefix: str, size_bytes: int, last_bytes: int
) -> None:
    body = noise(size_bytes)
    objects.put(prefix + "a", body, if_absent=True)
    with objects.open_end(prefix + "a", last_bytes=last_bytes) as stream:
        assert stream.seek(0, io.SEEK_END) == size_bytes
        assert stream.seek(max(0, size_bytes - 50)) == max(0, size_bytes - 50)
        assert stream.read() == body[-50:]
        stream.seek(0)
        assert stream.read() == body
    with pytest.raises(ObjectMissingError):
        objects.open_end(prefix + "none", last_bytes=last_bytes)


def test_a_stream_opens_only_the_object_that_was_announced(objects: ObjectStore, prefix: str) -> None:
    objects.put(prefix + "a", b"first", if_absent=False)
    info = objects.head(prefix + "a")
    assert info is not None
    with objects.open(prefix + "a", if_match=info.etag) as stream:
        assert stream.read() == b"first"
    # Notifications have the ETag without quotes.
    with objects.open(prefix + "a", if_match=info.etag.strip('"')) as stream:
        assert stream.read() == b"first"
    objects.put(prefix + "a", b"other", if_absent=False)
    with pytest.raises(ObjectChangedError):
        objects.open(prefix + "a", if_match=info.etag)


def test_a_stream_never_mixes_two_versions(objects: ObjectStore, prefix: str) -> None:
    objects.put(prefix + "a", b"1" * 5000, if_absent=False)
    with objects.open(prefix + "a") as stream:
        assert stream.read(1) == b"1"
        objects.put(prefix + "a", b"2" * 5000, if_absent=False)
        with pytest.raises(ObjectChangedError):
            stream.read()


def test_a_stream_notices_that_its_object_was_deleted(objects: ObjectStore, prefix: str) -> None:
    objects.put(prefix + "a", b"1" * 5000, if_absent=False)
    with objects.open(prefix + "a") as stream:
        assert stream.read(1) == b"1"
        objects.delete([prefix + "a"])
        with pytest.raises(ObjectMissingError):
            stream.read()


def test_a_listing_is_in_key_order_below_its_prefix(objects: ObjectStore, prefix: str) -> None:
    for name in ("b", "a/2", "a/1", "a", "é", "c"):
        objects.put(prefix + name, b"", if_absent=True)
    objects.put(prefix.rstrip("/") + "-other", b"", if_absent=True)
    assert keys(objects, prefix) == [prefix + name for name in ("a", "a/1", "a/2", "b", "c", "é")]
    assert keys(objects, prefix + "a/") == [prefix + "a/1", prefix + "a/2"]
    assert keys(objects, prefix + "none") == []


def test_a_listing_starts_after_a_key_whether_it_is_there_or_not(objects: ObjectStore, prefix: str) -> None:
    for name in ("a", "b", "d"):
        objects.put(prefix + name, b"", if_absent=True)
    assert keys(objects, prefix, after=prefix + "b") == [prefix + "d"]
    assert keys(objects, prefix, after=prefix + "c") == [prefix + "d"]
    assert keys(objects, prefix, after=prefix + "d") == []
    assert keys(objects, prefix, after="a") == keys(objects, prefix)
    assert keys(objects, prefix, after="zzz") == []


def test_a_listing_and_a_deletion_go_on_over_more_than_a_thousand_objects(objects: ObjectStore, prefix: str) -> None:
    names = [f"{prefix}{n:04d}" for n in range(1003)]
    for name in names:
        objects.put(name, b"", if_absent=False)
    assert keys(objects, prefix) == names
    objects.delete([*names[1:], *names[1:]])
    assert keys(objects, prefix) == names[:1]


def test_deleting_an_object_that_is_not_there_is_no_error(objects: ObjectStore, prefix: str) -> None:
    objects.put(prefix + "a", b"", if_absent=True)
    objects.delete([prefix + "a", prefix + "none"])
    objects.delete([prefix + "a"])
    objects.delete([])
    assert objects.head(prefix + "a") is None
