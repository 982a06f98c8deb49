"""Files without AWS's name: their content is their identity, and a file that grew is told from a new one.

Each place remembers what was taken of its file, in numbered notes that are put once, as
`plans/places/<place>/<number>.json`. The note goes before the plan. So whoever dies, and whatever was appended since,
the lines up to the note's length have one identity, and only those after it get another one. Of two processes that find
the same growth, one puts the note, and the other one follows it.

The identity of an appended piece is the hash of all content up to its end. A copy of the whole file elsewhere therefore
has the identity of its last piece, and finds its plan.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.errors import LogFileRefusedError
from metering.onramps.ingest.contents import scanned
from metering.onramps.names import identity_by_content
from metering.onramps.plans import PLACES_PREFIX
from metering.onramps.reasons import FileReason
from metering.stores.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.onramps.ingest.contents import Scan
    from metering.onramps.ingest.files import LogFile
    from metering.onramps.ingest.planning import Planner
    from metering.stores.objects import ObjectStore

_SCHEMA = "metering.place/1"
_COPY = "if it is another file, give it another name and take it from there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What was taken last of the file at a place.

    Attributes:
        place: Where the file lies.
        number: Number of the note, from 0.
        from_byte: Byte of the decompressed content at which the piece begins; 0 unless the file had grown.
        until_byte: Byte at which it ends: so much of the content is known.
        content_sha256: SHA-256 of the content up to there.
        after: Identity of the content before `from_byte`; empty if there is none.
        whole_lines: Whether the piece ends with a line.
        sent: Whether its messages were sent.
    """

    place: str
    number: int
    from_byte: int
    until_byte: int
    content_sha256: str
    after: str
    whole_lines: bool
    sent: bool = False

    @property
    def identity(self) -> str:
        return identity_by_content(self.content_sha256)

    @property
    def key(self) -> str:
        return f"{places_prefix(self.place)}{self.number:08d}.json"

    def piece_of(self, file: LogFile) -> LogFile:
        """The part of the file that the note is about."""
        return replace(
            file.called(self.identity), from_byte=self.from_byte, until_byte=self.until_byte, after=self.after
        )

    def encode(self) -> bytes:
        """The object's content."""
        document = {
            "schema": _SCHEMA,
            "place": self.place,
            "number": self.number,
            "from_byte": self.from_byte,
            "until_byte": self.until_byte,
            "content_sha256": self.content_sha256,
            "after": self.after,
            "whole_lines": self.whole_lines,
            "sent": self.sent,
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, body: bytes, key: str = "note") -> Note:
        """Inverse of `encode`.

        Args:
            body: The object's content.
            key: Its key, for errors.

        Raises:
            LedgerCorruptError: It is no such note.
        """
        document = Fields.of_json(body, key)
        document.one_of("schema", (_SCHEMA,))
        return cls(
            place=document.any_text("place"),
            number=document.whole("number"),
            from_byte=document.whole("from_byte"),
            until_byte=document.whole("until_byte"),
            content_sha256=document.text("content_sha256"),
            after=document.any_text("after"),
            whole_lines=document.flag("whole_lines"),
            sent=document.flag("sent"),
        )


def places_prefix(place: str) -> str:
    """Prefix of the notes of one place."""
    return f"{PLACES_PREFIX}{hashlib.sha256(place.encode('utf-8', errors='surrogatepass')).hexdigest()[:40]}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Remembers by place how much of a file without AWS's name was taken.

    Attributes:
        objects: The region's data bucket.
        planner: Tells whether content has a plan already.
    """

    objects: ObjectStore
    planner: Planner

    def notes(self, file: LogFile, *, append: bool) -> Iterator[Note]:
        """The pieces of a file that have to be taken, in order. Call `sent` once one of them is.

        Raises:
            LogFileRefusedError: The file grew, and `append` is not set; or it is another one than before.
        """
        while True:
            last = self._last(file)
            scan = _scanned(file, mark_byte=last.until_byte if last else None)
            if last is not None and not last.sent and last.content_sha256 == scan.marked_sha256:
                yield last
            found = self._next(last, scan, file, append=append)
            if found is None:
                if last is not None and last.sent:
                    yield last
                return
            if self.objects.put(found.key, found.encode(), if_absent=True):
                yield found
                return
            # Another process was faster; its note says how far the content is taken.

    def _next(self, last: Note | None, scan: Scan, file: LogFile, *, append: bool) -> Note | None:
        """The note to put; None if the last one says all."""
        if last is None:
            return self._first(file, scan, append=append)
        changed = last.content_sha256 != scan.marked_sha256
        if changed and not last.sent and self.planner.found(last.piece_of(file)) is None:
            # Nothing of it was ever sent, so what lies here now may be taken in its place.
            return replace(self._first(file, scan, append=append), number=last.number + 1)
        return _appended(last, scan, append=append)

    def sent(self, note: Note) -> None:
        """Remember that a piece was sent, so that it is not read again when the file has grown."""
        if not note.sent:
            self.objects.put(note.key, replace(note, sent=True).encode(), if_absent=False)

    def _last(self, file: LogFile) -> Note | None:
        last = None
        for info in self.objects.list(places_prefix(file.place)):
            last = info.key
        return None if last is None else Note.decode(self.objects.get(last), last)

    def _first(self, file: LogFile, scan: Scan, *, append: bool) -> Note:
        """The note of a file that nothing is known of at its place."""
        length, sha256 = (scan.whole_lines_bytes, scan.whole_lines_sha256) if append else (scan.bytes, scan.sha256)
        note = Note(
            place=file.place,
            number=0,
            from_byte=0,
            until_byte=length,
            content_sha256=sha256,
            after="",
            whole_lines=length == scan.whole_lines_bytes,
        )
        # A copy of a file that grew elsewhere: its earlier pieces are taken, and the plan says where the last begins.
        plan = self.planner.found(note.piece_of(file))
        return note if plan is None else replace(note, from_byte=plan.from_byte, after=plan.after)


def _scanned(file: LogFile, *, mark_byte: int | None) -> Scan:
    with closing(file.open()) as stream:
        return scanned(stream, file.settings, parquet=file.name.parquet, mark_byte=mark_byte)


def _appended(last: Note, scan: Scan, *, append: bool) -> Note | None:
    """The note of what was appended since; None if nothing was.

    Raises:
        LogFileRefusedError: It may not be taken, or is no growth.
    """
    if scan.marked_sha256 != last.content_sha256:
        raise LogFileRefusedError(
            FileReason.CHANGED_SINCE,
            f"it is not the file that was taken from this place before, nor that one with more lines; {_COPY}",
        )
    if scan.bytes == last.until_byte:
        return None
    more = scan.bytes - last.until_byte
    if not append:
        raise LogFileRefusedError(
            FileReason.GREW, f"it has {more:,} more bytes than when it was taken; to take its new lines: --append"
        )
    if not last.whole_lines:
        raise LogFileRefusedError(
            FileReason.GREW,
            "when it was taken, its last line was not complete, and now it is another one; "
            "take files that still grow with --append from the beginning",
        )
    if scan.whole_lines_bytes <= last.until_byte:
        return None
    return Note(
        place=last.place,
        number=last.number + 1,
        from_byte=last.until_byte,
        until_byte=scan.whole_lines_bytes,
        content_sha256=scan.whole_lines_sha256,
        after=last.identity,
        whole_lines=True,
    )
