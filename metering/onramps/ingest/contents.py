"""Decompressed content of a file: its hash at several lengths, its beginning, and the difference of two measures."""

from __future__ import annotations

import hashlib
import io
from dataclasses import fields, replace
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from metering.onramps.balance import Balance
from metering.onramps.formats.pieces import Pieces
from metering.onramps.ingest.totals import HourTotal, Measured

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.onramps.plans import Share
    from metering.onramps.reading import ReadSettings
    from metering.onramps.traffic import Traffic


class Scan(NamedTuple):
    """Lengths and hashes of a content.

    Attributes:
        bytes: Its length.
        sha256: Its hash.
        whole_lines_bytes: Its length up to the last line feed; of a Parquet file, all of it.
        whole_lines_sha256: Its hash up to there.
        marked_sha256: Its hash up to the byte that was asked for; empty if it is shorter, or none was.
    """

    bytes: int
    sha256: str
    whole_lines_bytes: int
    whole_lines_sha256: str
    marked_sha256: str


def scanned(stream: BinaryIO, settings: ReadSettings, *, parquet: bool, mark_byte: int | None) -> Scan:
    """Read a file once for its hashes.

    Args:
        stream: The file as stored; it is not closed.
        settings: Limits of reading.
        parquet: Whether it is a Parquet file, which has no lines.
        mark_byte: A length to which the hash is wanted, too.

    Raises:
        LogFileRefusedError: It cannot be decompressed.
    """
    digest = hashlib.sha256()
    length = lines_bytes = 0
    lines_sha256, marked = digest.hexdigest(), digest.hexdigest() if mark_byte == 0 else ""
    for piece in Pieces(stream, settings, _ignore):
        if mark_byte is not None and length < mark_byte <= length + len(piece):
            upto = digest.copy()
            upto.update(piece[: mark_byte - length])
            marked = upto.hexdigest()
        feed = piece.rfind(b"\n") + 1
        if feed:
            upto = digest.copy()
            upto.update(piece[:feed])
            lines_bytes, lines_sha256 = length + feed, upto.hexdigest()
        digest.update(piece)
        length += len(piece)
    if parquet:
        lines_bytes, lines_sha256 = length, digest.hexdigest()
    return Scan(length, digest.hexdigest(), lines_bytes, lines_sha256, marked)


class Beginning(io.RawIOBase):
    """The first bytes of the decompressed content of a file, as a stream.

    Args:
        stream: The file as stored.
        settings: Limits of reading.
        until_byte: Length of the beginning.
    """

    def __init__(self, stream: BinaryIO, settings: ReadSettings, until_byte: int) -> None:
        self._pieces: Iterator[bytes] = iter(Pieces(stream, settings, _ignore))
        self._left = until_byte
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # as io.RawIOBase calls it
        if not self._rest and self._left:
            piece = next(self._pieces, b"")[: self._left]
            self._left = self._left - len(piece) if piece else 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def beginning(stream: BinaryIO, settings: ReadSettings, until_byte: int) -> BinaryIO:
    """A buffered stream of the first bytes of the decompressed content."""
    return cast("BinaryIO", io.BufferedReader(Beginning(stream, settings, until_byte)))


def appended(whole: Measured, before: Measured) -> Measured:
    """What a file is metered as beyond an earlier length of it.

    The times of a record are those of all lines of its hour so far: which of them are new is not kept.

    Args:
        whole: The file as it is.
        before: Its beginning, judged by the same contexts.
    """
    seen = set(before.refused)
    return Measured(
        content_sha256=whole.content_sha256,
        content_bytes=whole.content_bytes,
        totals={key: total for key, total in _more_totals(whole, before) if total.lines or total.bytes},
        balance=Balance(
            **{
                each.name: getattr(whole.balance, each.name) - getattr(before.balance, each.name)
                for each in fields(Balance)
            }
        ),
        shares=_more_shares(whole.shares, before.shares),
        shadowed=_more_rows(whole.shadowed, before.shadowed),
        refusals=_more_rows(whole.refusals, before.refusals),
        refused=tuple(line for line in whole.refused if line not in seen),
        hours=whole.hours,
        others=whole.others.plus(before.others, -1),
    )


def _more_totals(whole: Measured, before: Measured) -> Iterator[tuple[tuple[Traffic, int], HourTotal]]:
    for key, total in whole.totals.items():
        known = before.totals.get(key, HourTotal(0, 0, 0, 0))
        yield key, total._replace(bytes=total.bytes - known.bytes, lines=total.lines - known.lines)


def _more_shares(whole: Iterable[Share], before: Iterable[Share]) -> tuple[Share, ...]:
    known = {(share.usage_type, share.rule, share.reason): (share.lines, share.bytes) for share in before}
    found = []
    for share in whole:
        lines, size = known.get((share.usage_type, share.rule, share.reason), (0, 0))
        if (share.lines, share.bytes) != (lines, size):
            found.append(replace(share, lines=share.lines - lines, bytes=share.bytes - size))
    return tuple(found)


def _more_rows(
    whole: tuple[tuple[str, int, int], ...], before: tuple[tuple[str, int, int], ...]
) -> tuple[tuple[str, int, int], ...]:
    known: Mapping[str, tuple[int, int]] = {name: (lines, size) for name, lines, size in before}
    rows = [
        (name, lines - known.get(name, (0, 0))[0], size - known.get(name, (0, 0))[1]) for name, lines, size in whole
    ]
    return tuple(row for row in rows if row[1] or row[2])


def _ignore(_piece: bytes) -> None:
    """Hash nothing."""
