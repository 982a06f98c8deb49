"""Files without AWS's name: their content is their identity, and a place whose file changed is told from a new one.

Each place remembers what was taken of its file, in numbered notes that are put once, as
`plans/places/<place>/<number>.json`. The note goes before the plan. A file that has grown or changed since is refused:
its old lines would count again under another identity. Of two processes that find the same new file, one puts the note,
and the other one follows it.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from metering.errors import LogFileRefusedError
from metering.onramps.formats.pieces import Pieces
from metering.onramps.plans import PLACES_PREFIX
from metering.onramps.reading import identity_by_content
from metering.onramps.reasons import FileReason
from metering.stores.codec import AnyText, StoredDocument

if TYPE_CHECKING:
    from metering.onramps.ingest.files import LogFile
    from metering.onramps.ingest.planning import Planner
    from metering.stores.objects import ObjectStore

_COPY = "if it is another file, give it another name and take it from there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(StoredDocument):
    """The content that was taken last from a place.

    Attributes:
        until_byte: Length of the decompressed content.
        content_sha256: SHA-256 of that content.
        whole_lines: Whether it ends with a line. Release 0.2.0 reads it.
        from_byte: Byte at which the lines begin that 0.2.0 appended to a file: those before have another plan. 0 in
            notes of later releases.
        after: Identity of the content before `from_byte`; empty if there is none.
        sent: Whether its messages were sent.
    """

    SCHEMA: ClassVar[str] = "metering.place/1"
    place: AnyText
    number: int
    from_byte: int = 0
    until_byte: int
    content_sha256: str
    after: str = ""
    whole_lines: bool
    sent: bool = False

    @property
    def identity(self) -> str:
        return identity_by_content(self.content_sha256)

    @property
    def key(self) -> str:
        return f"{places_prefix(self.place)}{self.number:08d}.json"


def places_prefix(place: str) -> str:
    """Prefix of the notes of one place."""
    return f"{PLACES_PREFIX}{hashlib.sha256(place.encode('utf-8', errors='surrogatepass')).hexdigest()[:40]}/"


class _Scan(NamedTuple):
    """Length and hash of a content, and its hash up to a given byte, which is empty if it is shorter."""

    bytes: int
    sha256: str
    whole_lines: bool
    marked_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Remembers by place the content of files without AWS's name. `planner` tells whether content has a plan."""

    objects: ObjectStore
    planner: Planner

    def note(self, file: LogFile) -> Note:
        """The note of a file as it is now, which is put if there is none. Call `sent` once the file was sent.

        Raises:
            LogFileRefusedError: Its place had other content before, which was or may have been sent.
        """
        while True:
            last = self._last(file)
            scan = _scan(file, mark_byte=last.until_byte if last else 0)
            if last is not None and last.content_sha256 == scan.sha256:
                if last.from_byte and self._plan_is_missing(last, file):
                    # Release 0.2.0 began to append the lines after this byte, and never planned them.
                    raise _grew(scan, last.from_byte)
                return last
            if last is not None:
                self._check_nothing_was_sent(last, scan, file)
            found = Note(
                place=file.place,
                number=0 if last is None else last.number + 1,
                until_byte=scan.bytes,
                content_sha256=scan.sha256,
                whole_lines=scan.whole_lines,
            )
            if self.objects.put(found.key, found.to_json(), if_absent=True):
                return found
            # Another process wrote its note first, which the next round reads.

    def sent(self, note: Note) -> None:
        """Remember that a file was sent, so that no other content is taken in its place."""
        if not note.sent:
            self.objects.put(note.key, replace(note, sent=True).to_json(), if_absent=False)

    def _last(self, file: LogFile) -> Note | None:
        last = None
        for info in self.objects.list(places_prefix(file.place)):
            last = info.key
        return None if last is None else Note.from_json(self.objects.get(last), last)

    def _plan_is_missing(self, note: Note, file: LogFile) -> bool:
        return self.planner.found(file.called(note.identity)) is None

    def _check_nothing_was_sent(self, last: Note, scan: _Scan, file: LogFile) -> None:
        """Refuse other content than the last note's, unless nothing of that was sent.

        Raises:
            LogFileRefusedError: Something was, or a process that still runs may send it.
        """
        if not last.until_byte:
            return
        if last.content_sha256 == scan.marked_sha256:
            raise _grew(scan, last.until_byte)
        if last.sent or last.from_byte or not self._plan_is_missing(last, file):
            raise LogFileRefusedError(
                FileReason.CHANGED_SINCE,
                f"it is not the file that was taken from this place before, nor that one with more lines; {_COPY}",
            )


def _grew(scan: _Scan, taken_bytes: int) -> LogFileRefusedError:
    return LogFileRefusedError(
        FileReason.GREW,
        f"it has {scan.bytes - taken_bytes:,} more bytes than when it was taken; take its first {taken_bytes:,} bytes "
        "once more, and the others as a file of their own",
    )


def _scan(file: LogFile, *, mark_byte: int) -> _Scan:
    """Read a file once for its hashes.

    Raises:
        LogFileRefusedError: It cannot be decompressed.
    """
    digest, marked, length, whole = hashlib.sha256(), "", 0, True
    with closing(file.open()) as stream:
        for piece in Pieces(stream, file.settings, len):
            if length < mark_byte <= length + len(piece):
                upto = digest.copy()
                upto.update(piece[: mark_byte - length])
                marked = upto.hexdigest()
            digest.update(piece)
            length += len(piece)
            whole = piece.endswith(b"\n")
    return _Scan(length, digest.hexdigest(), whole or file.name.parquet, marked)
