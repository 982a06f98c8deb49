"""`ObjectStore`: the region's data bucket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a listing or a HEAD says of an object. `modified_s` is epoch seconds."""

    key: str
    size_bytes: int
    etag: str
    modified_s: int
    storage_class: str = "STANDARD"


class ObjectStore(Protocol):
    """The region's data bucket."""

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        """Write an object whole. Returns False if `if_absent` and there is one already (412); that is no error."""
        ...

    def upload(self, key: str, body: bytes) -> str:
        """Write an object whole, over what may be there; returns its ETag, without quotes."""
        ...

    def get(self, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissingError: There is none.
        """
        ...

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        """A seekable stream that reads ranges of the object on demand; close it.

        Args:
            key: Of the object.
            if_match: ETag that it must have.
            version_id: Look for it in this version first, which may have been replaced since; then in the newest. A
                version is only taken with `if_match`.

        Raises:
            ObjectMissingError: There is none.
            ObjectChangedError: Its ETag is not `if_match`.
            ObjectUnreadableError: It is there, and the store will not hand it out.
        """
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """What is known of the object, or None."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Objects below `prefix` in key order, those after the key `after`."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that is not there is no error. All of them are gone when it returns."""
        ...
