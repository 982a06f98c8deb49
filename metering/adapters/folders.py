"""`ObjectStore` and `LogStore` over a local folder: a key is the path below the folder, with `/` as separator.

Listings are in key order, as in S3, and keep one page of names per folder in memory, however many files the folder has.
Symbolic links to files are followed; links to folders are not, because they may form a cycle.
"""

from __future__ import annotations

import heapq
import io
import os
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, BinaryIO

from metering.errors import ObjectChangedError, ObjectMissingError, ObjectUnreadableError, OperationFailedError
from metering.stores.objects import ObjectInfo, crc64nvme
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from _typeshed import WriteableBuffer

# Number of a folder's names that are sorted in one pass.
PAGE_NAMES = 10_000
_READ_AHEAD_BYTES = MIB
# Prefix of files that are still being written. Unfinished files are not objects yet.
_UNFINISHED = ".metering-"
# Sorts after every character that a key can contain.
_LAST = chr(0x10FFFF)


class FolderLogStore:
    """Files below a folder.

    The ETag of a file consists of its size, modification time and inode: enough to detect that the file was written or
    replaced during a read, but no proof of its content.

    Args:
        page_names: Number of a folder's names that are sorted in one pass.
        unnamed: Called with each non-UTF-8 path, perhaps more than once; listings skip the path. None: they end.
    """

    def __init__(
        self, root: Path, *, page_names: int = PAGE_NAMES, unnamed: Callable[[str], object] | None = None
    ) -> None:
        self._root = root.absolute()
        self._page_names = page_names
        self._unnamed = unnamed

    @property
    def place(self) -> str:
        return f"{str(self._root).rstrip('/')}/"

    def open_end(self, key: str, *, last_bytes: int) -> BinaryIO:
        del last_bytes  # Reading the end of a local file costs no extra call.
        return self.open(key)

    def pinned(self, key: str, *, if_match: str, version_id: str = "") -> ObjectInfo:
        del version_id
        with self.open(key, if_match=if_match) as stream:
            body = stream.read()
        info = self.head(key)
        if info is None:
            raise ObjectMissingError(key)
        return replace(info, crc64nvme=crc64nvme(body))

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        del version_id  # A folder has no object versions.
        path = self._path(key)
        if path is None or not path.is_file():
            raise ObjectMissingError(key)
        try:
            raw = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise ObjectMissingError(key) from None
        except OSError as error:
            raise ObjectUnreadableError(key, error.strerror or str(error)) from error
        if if_match is None:
            # A file that is still being written can be read up to its current end.
            return io.BufferedReader(raw, buffer_size=_READ_AHEAD_BYTES)
        opened = _Unchanged(raw, key)
        if if_match.strip('"') != opened.etag.strip('"'):
            opened.close()
            raise ObjectChangedError(key)
        return io.BufferedReader(opened, buffer_size=_READ_AHEAD_BYTES)

    def head(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        try:
            return None if path is None or not path.is_file() else _info(key, path.stat())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ObjectUnreadableError(key, error.strerror or str(error)) from error

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Files whose keys begin with `prefix` and sort after `after`, in key order.

        Raises:
            OperationFailedError: A folder cannot be listed; or a name is not UTF-8, and `unnamed` is None.
        """
        yield from self._below("", prefix, after)

    def get(self, key: str) -> bytes:
        with self.open(key) as stream:
            return stream.read()

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        path = self._path(key)
        if path is None:
            raise ObjectUnreadableError(key, "the key leads out of the folder")
        if path.is_dir():
            raise ObjectUnreadableError(key, "there is a folder of that name")
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=_UNFINISHED, delete=False) as file:
            if isinstance(body, Path):
                # Copied in chunks: a file may be larger than memory.
                with body.open("rb") as source:
                    shutil.copyfileobj(source, file, _READ_AHEAD_BYTES)
            else:
                file.write(body)
        written = Path(file.name)
        try:
            if if_absent:
                # A hard link is created atomically, and never replaces a file.
                path.hardlink_to(written)
            else:
                written.replace(path)
        except FileExistsError:
            return False
        finally:
            written.unlink(missing_ok=True)
        return True

    def upload(self, key: str, body: bytes, *, crc64nvme: str = "") -> str:
        del crc64nvme  # A folder keeps no checksums.
        self.put(key, body, if_absent=False)
        info = self.head(key)
        return "" if info is None else info.etag.strip('"')

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            path = self._path(key)
            if path is not None:
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path | None:
        """Path of a key; None if the key leaves the folder or has a form that no listing returns."""
        parts = key.split("/")
        if "\0" in key or any(part in ("", ".", "..") for part in parts):
            return None
        return self._root.joinpath(*parts)

    def _below(self, folder: str, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """Files below `folder`, which is empty or ends with `/`."""
        last = ""
        while names := self._page(folder, prefix, after, last):
            for name in names:
                key = folder + name
                if name.endswith("/"):
                    yield from self._below(key, prefix, after)
                elif (info := self.head(key)) is not None:
                    yield info
            last = names[-1]

    def _page(self, folder: str, prefix: str, after: str, last: str) -> Sequence[str]:
        """The next names in a folder after `last`, sorted. Folder names end with `/`, to sort like the keys below."""

        def names() -> Iterator[str]:
            with os.scandir(self._root / folder) as entries:
                for entry in entries:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    name = f"{entry.name}/" if is_folder else entry.name
                    if name.startswith(_UNFINISHED):
                        continue
                    wanted = name > last and _is_wanted(folder + name, prefix, after)
                    if wanted and (is_folder or entry.is_file()) and self._is_text(folder, name):
                        yield name

        try:
            return heapq.nsmallest(self._page_names, names())
        except FileNotFoundError:
            if folder:
                return []
            raise OperationFailedError(f"There is no folder {self._root}.") from None
        except OSError as error:
            raise OperationFailedError(
                f"{self._root / folder} cannot be listed: {error.strerror}.", "Ask for the right to read it."
            ) from error

    def _is_text(self, folder: str, name: str) -> bool:
        try:
            name.encode()
        except UnicodeEncodeError:
            if self._unnamed is not None:
                self._unnamed(f"{self._root / folder}/{name}")
                return False
            raise OperationFailedError(
                f"A name in {self._root / folder} is no UTF-8: {name!r}.", "Rename it: a key is text."
            ) from None
        return True


def _is_wanted(key: str, prefix: str, after: str) -> bool:
    """Whether a file's key, or some key below a folder, begins with `prefix` and sorts after `after`."""
    if not key.endswith("/"):
        return key > after and key.startswith(prefix)
    return key + _LAST > after and (key.startswith(prefix) or prefix.startswith(key))


class _Unchanged(io.RawIOBase):
    """A file that must not change while it is open: its ETag is checked after each read."""

    def __init__(self, raw: io.FileIO, key: str) -> None:
        self._raw = raw
        self._key = key
        self.etag = _etag(os.fstat(raw.fileno()))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            size = self._raw.readinto(buffer)
        except OSError as error:
            raise ObjectUnreadableError(self._key, error.strerror or str(error)) from error
        if _etag(os.fstat(self._raw.fileno())) != self.etag:
            raise ObjectChangedError(self._key)
        return size or 0

    def close(self) -> None:
        self._raw.close()
        super().close()


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(
        key=key, size_bytes=status.st_size, etag=_etag(status), modified_s=status.st_mtime_ns // 1_000_000_000
    )


def _etag(status: os.stat_result) -> str:
    return f'"{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ino:x}"'
