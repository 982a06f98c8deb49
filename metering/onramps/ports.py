"""Ports of this room."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.objects import ObjectInfo


class LogStore(Protocol):
    """Where log files lie: a bucket of anyone, or a folder. The reading half of `metering.stores.objects.ObjectStore`.

    A key is the key of the object, or the path below the folder with `/` between its parts.
    """

    @property
    def place(self) -> str:
        """How people call it, without the key: `s3://acme-logs/`, or the folder."""
        ...

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        """A seekable stream of the object; close it.

        Raises:
            ObjectMissingError: There is no such object.
            ObjectChangedError: Its ETag is not `if_match`, at the start or while it is read.
            ObjectUnreadableError: The object exists, and the store will not hand it out.
        """
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """Properties of the object, or None if it does not exist."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Objects below `prefix` with keys after `after`, in key order."""
        ...
