"""The manifest while a replay writes it: whole lines, and what is sent but not in it is known by name."""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, cast

from metering.audit.verify.manifest import SentBatch, sent_line
from metering.cli.failures import CommandFailedError
from metering.replay.synthesis import Shipment


@dataclass(slots=True)
class SentLog:
    """The manifest while it grows: whole lines only, and what could not be written is known."""

    file: TextIO
    missing: list[SentBatch] = field(default_factory=list)
    error: OSError | None = None

    def begin(self, line: str) -> None:
        """Write the first line. Nothing is sent if that fails."""
        self.file.write(line)
        self.file.flush()

    def add(self, group: Sequence[SentBatch]) -> None:
        """Write what was sent, or remember it."""
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
        """What is to be sent: no more of it once the manifest cannot be written."""
        for shipment in shipments:
            if self.error is not None:
                return
            yield shipment

    def must_be_whole(self) -> None:
        """All that was sent is in the manifest.

        Raises:
            CommandFailedError: Some of it is not; it is named.
        """
        if self.error is None:
            return
        names = ", ".join(sent.batch_id or f"body {sent.body_sha256}" for sent in self.missing)
        raise CommandFailedError(
            f"The manifest could not be written any further: {self.error.strerror}. Sending stopped; "
            f"{len(self.missing)} messages were sent that it does not name: {names}.",
            "All that it names was sent: `metering verify --manifest` is right about that.",
        )

    def _cut(self, whole: int) -> None:
        """Take away the part of a line that was written; a full disk lets one do that."""
        with suppress(OSError):
            self.file.seek(whole)
        with suppress(OSError):
            self.file.truncate(whole)


@contextmanager
def manifest_file(path: Path) -> Iterator[TextIO]:
    """A file for a manifest, empty.

    Raises:
        CommandFailedError: It cannot be made.
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
    """Text that is on the disk when `write` returns: nothing is left in a buffer that fails later."""

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
