"""In-memory bucket of a region."""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_left, bisect_right, insort
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from metering.errors import ObjectChangedError, ObjectMissingError, UnavailableError
from metering.stores.objects import ObjectInfo, Ranges
from metering.stores.objects import crc64nvme as checksum_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from _typeshed import WriteableBuffer

    from metering.stores.clock import Clock


class MemoryRanges(Ranges):
    """A stream over an in-memory object.

    Args:
        size_bytes: Size of the opened version.
        read: Returns the content of the opened version; raises an error if the object was deleted or replaced.
        end: Range that the open call has already read: its first position, and the content of the whole object.
    """

    def __init__(self, size_bytes: int, read: Callable[[], bytes], *, end: tuple[int, bytes] | None = None) -> None:
        super().__init__(size_bytes)
        self._read = read
        self._end_from, self._end = end if end is not None else (size_bytes, b"")

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        if self._position >= self._size:
            return 0
        known = self._end if self._position >= self._end_from else self._read()
        content = known[self._position : self._position + len(view)]
        view[: len(content)] = content
        self._position += len(content)
        return len(content)


class _Stored(NamedTuple):
    body: bytes
    info: ObjectInfo

    @property
    def etag(self) -> str:
        return self.info.etag


def _ignore(_call: str) -> None:
    """Do nothing at a call."""


def _none() -> int:
    return 0


class MemoryObjectStore:
    """`ObjectStore` of one dictionary.

    Args:
        clock: Clock for the modification times of objects.
        on_call: Called with the call's name (`objects.put`) before each call, with `objects.list.next` before each
            listed object after the first, and with `objects.open.next` before each range that a stream reads. If the
            callback raises, the caller gets the error.
        on_reply: Called with the call's name after a write was applied. If it raises, the reply is lost.
        read_ahead_bytes: Minimum number of bytes that a stream reads at once.
        empty_pages: Number of empty pages before the next object, or the end, of a listing. Each page is a call,
            `objects.list.page`.
        versioned: Whether a replaced or deleted object remains as a version.
        encrypted: Give each upload an ETag of its own, as S3 does with a KMS key.
        hides_missing: Return 403 for a missing key, as S3 does for a role that may not list the bucket.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        on_call: Callable[[str], None] | None = None,
        on_reply: Callable[[str], None] | None = None,
        read_ahead_bytes: int = io.DEFAULT_BUFFER_SIZE,
        empty_pages: Callable[[], int] | None = None,
        hides_missing: bool = False,
        versioned: bool = False,
        encrypted: bool = False,
    ) -> None:
        self._versions: dict[tuple[str, str], _Stored] | None = {} if versioned else None
        self._empty_pages = empty_pages or _none
        self._hides_missing = hides_missing
        self.on_call = on_call or _ignore
        self.on_reply = on_reply or _ignore
        self._clock = clock
        self._read_ahead_bytes = read_ahead_bytes
        self._objects: dict[str, _Stored] = {}
        # Keys of objects whose sender had S3 keep another checksum.
        self.without_checksum: set[str] = set()
        self._encrypted = 0 if encrypted else None
        self._keys: list[str] = []

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        self.on_call("objects.put")
        if if_absent and key in self._objects:
            return False
        content = body.read_bytes() if isinstance(body, Path) else body
        etag = f'"{hashlib.md5(content + self._salt(), usedforsecurity=False).hexdigest()}"'
        if key not in self._objects:
            insort(self._keys, key)
        modified_s = self._clock.now_ms() // 1000
        self._objects[key] = _Stored(
            content, ObjectInfo(key=key, size_bytes=len(content), etag=etag, modified_s=modified_s)
        )
        if self._versions is not None:
            self._versions[key, f"v{len(self._versions)}"] = self._objects[key]
        self.on_reply("objects.put")
        return True

    def upload(self, key: str, body: bytes, *, crc64nvme: str = "") -> str:
        assert crc64nvme in ("", checksum_of(body))
        self.put(key, body, if_absent=False)
        return self._objects[key].etag.strip('"')

    def get(self, key: str) -> bytes:
        self.on_call("objects.get")
        return self._stored(key).body

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        self.on_call("objects.open")
        stored, kept = self._pinned(key, if_match, version_id)
        if kept:
            body = stored.body
            return io.BufferedReader(MemoryRanges(len(body), lambda: body), buffer_size=self._read_ahead_bytes)
        raw = MemoryRanges(len(stored.body), lambda: self._same(key, stored.etag).body)
        return io.BufferedReader(raw, buffer_size=self._read_ahead_bytes)

    def pinned(self, key: str, *, if_match: str, version_id: str = "") -> ObjectInfo:
        self.on_call("objects.pinned")
        stored, _ = self._pinned(key, if_match, version_id)
        return replace(stored.info, crc64nvme="" if key in self.without_checksum else checksum_of(stored.body))

    def _pinned(self, key: str, if_match: str | None, version_id: str | None) -> tuple[_Stored, bool]:
        version = (self._versions or {}).get((key, version_id or ""))
        if version is not None and if_match is not None and if_match.strip('"') == version.etag.strip('"'):
            return version, True
        stored = self._stored(key)
        if if_match is not None and if_match.strip('"') != stored.etag.strip('"'):
            raise ObjectChangedError(key)
        return stored, False

    def _salt(self) -> bytes:
        if self._encrypted is None:
            return b""
        self._encrypted += 1
        return str(self._encrypted).encode()

    def open_end(self, key: str, *, last_bytes: int) -> BinaryIO:
        self.on_call("objects.open")
        stored = self._stored(key)
        end = (max(0, len(stored.body) - last_bytes), stored.body)
        return cast("BinaryIO", MemoryRanges(len(stored.body), lambda: self._same(key, stored.etag).body, end=end))

    def head(self, key: str) -> ObjectInfo | None:
        self.on_call("objects.head")
        stored = self._objects.get(key)
        if stored is None and self._hides_missing:
            raise _forbidden(key)
        return None if stored is None else stored.info

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        self.on_call("objects.list")
        last = after
        while True:
            for _ in range(self._empty_pages()):
                self.on_call("objects.list.page")
            index = bisect_right(self._keys, last) if last >= prefix else bisect_left(self._keys, prefix)
            if index >= len(self._keys) or not self._keys[index].startswith(prefix):
                return
            last = self._keys[index]
            yield self._objects[last].info
            self.on_call("objects.list.next")

    def delete(self, keys: Sequence[str]) -> None:
        self.on_call("objects.delete")
        for key in keys:
            self.remove(key)
        self.on_reply("objects.delete")

    def versions(self, key: str) -> tuple[str, ...]:
        """Version ids of an object, oldest first; empty if the bucket is not versioned; not counted as a call."""
        return tuple(version_id for name, version_id in self._versions or {} if name == key)

    def peek(self, key: str) -> bytes | None:
        """Content of an object, for checkers; not counted as a call."""
        stored = self._objects.get(key)
        return None if stored is None else stored.body

    def keys(self, prefix: str = "") -> tuple[str, ...]:
        """Keys below `prefix`, in order, for checkers; not counted as a call."""
        return tuple(key for key in self._keys if key.startswith(prefix))

    def remove(self, key: str) -> None:
        """Remove an object, for lifecycle rules and for tests that damage a bucket; not counted as a call."""
        if self._objects.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]

    def _same(self, key: str, etag: str) -> _Stored:
        self.on_call("objects.open.next")
        stored = self._stored(key)
        if stored.etag != etag:
            raise ObjectChangedError(key)
        return stored

    def _stored(self, key: str) -> _Stored:
        stored = self._objects.get(key)
        if stored is None:
            raise _forbidden(key) if self._hides_missing else ObjectMissingError(key)
        return stored


def _forbidden(key: str) -> UnavailableError:
    return UnavailableError("s3.HeadObject", f"403: {key}", may_have_applied=False)
