"""`ObjectStore`: the region's data bucket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """Properties of an object from a listing or a HEAD. `modified_s` is in epoch seconds."""

    key: str
    size_bytes: int
    etag: str
    modified_s: int
    storage_class: str = "STANDARD"


class ObjectStore(Protocol):
    """The region's data bucket."""

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        """Write a whole object. Returns False if `if_absent` and the object exists already (412)."""
        ...

    def upload(self, key: str, body: bytes) -> str:
        """Write a whole object, replacing an existing one; returns its ETag, without quotes."""
        ...

    def get(self, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissingError: There is no such object.
        """
        ...

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        """A seekable stream that reads ranges of the object on demand; close it.

        Args:
            key: Key of the object.
            if_match: ETag that the object must have.
            version_id: Version to look at first; it may have been replaced since, and the newest version is looked at
                next. A version is only taken with `if_match`.

        Raises:
            ObjectMissingError: There is no such object.
            ObjectChangedError: Its ETag is not `if_match`.
            ObjectUnreadableError: The object exists, and the store will not hand it out.
        """
        ...

    def open_end(self, key: str, *, last_bytes: int) -> BinaryIO:
        """A stream as that of `open`, whose first call reads the end of the object and says how large it is.

        A reader that needs the end first, as that of a Parquet file does, saves a call; of an object of up to
        `last_bytes`, it needs no other.

        Raises:
            ObjectMissingError: There is no such object.
        """
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """Properties of the object, or None if it does not exist."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Objects below `prefix` with keys after `after`, in key order."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects. A missing object is no error. All of them are gone when this returns."""
        ...
