"""The manifest of a replay while it is written: whole lines only, and the names of messages it could not take."""

from __future__ import annotations

import io
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO, cast

from metering.audit.verify.manifest import sent_line
from metering.cli.failures import CommandFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from metering.audit.verify.manifest import SentBatch
    from metering.replay.synthesis import Shipment


@dataclass(slots=True)
class SentLog:
    """A manifest that grows with the replay. Mutable.

    Attributes:
        file: The manifest.
        missing: Messages that were sent but could not be written to it.
        error: The error that ended the writing.
    """

    file: TextIO
    missing: list[SentBatch] = field(default_factory=list)
    error: OSError | None = None

    def begin(self, line: str) -> None:
        """Write the first line. If that fails, nothing must be sent."""
        self.file.write(line)
        self.file.flush()

    def add(self, group: Sequence[SentBatch]) -> None:
        """Write messages that were sent, or remember them as missing."""
        if self.error is None:
            whole = self.file.tell()
            try:
                self.file.write("".join(map(sent_line, group)))
                self.file.flush()
            except OSError as error:
                self.error = error
                self._cut(whole)
        if self.error is not None:
            self.missing += group

    def while_it_works(self, shipments: Iterable[Shipment]) -> Iterator[Shipment]:
        """Pass messages on to be sent, until the manifest can no longer be written."""
        for shipment in shipments:
            if self.error is not None:
                return
            yield shipment

    def must_be_whole(self) -> None:
        """Check that the manifest names every message that was sent.

        Raises:
            CommandFailedError: It does not; the error names the missing messages.
        """
        if self.error is None:
            return
        names = ", ".join(sent.batch_id or f"body {sent.body_sha256}" for sent in self.missing)
        raise CommandFailedError(
            f"Writing the manifest failed: {self.error.strerror}. Sending stopped. "
            f"{len(self.missing)} messages were sent that the manifest does not name: {names}.",
            "Everything it names was sent, and `metering verify --manifest` can check that part.",
        )

    def _cut(self, whole: int) -> None:
        """Remove the part of a line that was written; a full disk allows that."""
        with suppress(OSError):
            self.file.seek(whole)
        with suppress(OSError):
            self.file.truncate(whole)


@contextmanager
def manifest_file(path: Path) -> Iterator[TextIO]:
    """Open an empty file for a manifest.

    Raises:
        CommandFailedError: The file cannot be created.
    """
    try:
        file = _Unbuffered(path.open("wb", buffering=0))
    except OSError as error:
        raise CommandFailedError(
            f"Cannot write the manifest {path}: {error.strerror}.", "Name another --manifest."
        ) from error
    with file:
        yield cast("TextIO", file)


class _Unbuffered(io.TextIOBase):
    """A text file without a buffer: when `write` returns, nothing is left that could fail later."""

    def __init__(self, file: io.FileIO) -> None:
        super().__init__()
        self._file = file

    def write(self, text: str, /) -> int:
        """Write all of it, or raise."""
        content = memoryview(text.encode())
        while content:
            content = content[self._file.write(content) or 0 :]
        return len(text)

    def tell(self) -> int:
        return self._file.tell() if self._file.seekable() else 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def truncate(self, size: int | None = None, /) -> int:
        return self._file.truncate(size)

    def close(self) -> None:
        self._file.close()
        super().close()
