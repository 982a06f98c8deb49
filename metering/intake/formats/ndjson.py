"""Newline-delimited JSON, streamed: memory holds a few megabytes at a time of an object of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from metering.intake.formats.json_records import REFUSALS, JsonIntake, decode_any, opening_brackets
from metering.intake.json_values import MAX_DEPTH, DepthError, check_depth
from metering.intake.reasons import Reason
from metering.intake.records import WireRecord, decode_record
from metering.intake.work import refusal
from metering.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from metering.errors import BatchRefusedError
    from metering.intake.formats.assembly import BatchAssembly
    from metering.intake.records import AnyRecord
    from metering.intake.work import ReadLimits, Work

# The size of the largest record that fits into a message.
MAX_LINE_BYTES = MIB

_decode_one = msgspec.json.Decoder(WireRecord).decode
# The records of a block stay in the processor's cache between the steps, which is a quarter faster than with blocks of
# 2 MiB.
_BLOCK_BYTES = 256 * KIB


def read_ndjson(pieces: Iterable[bytes], assembly: BatchAssembly, limits: ReadLimits) -> int:
    """Read all records (`ObjectReader`). Lines of white space are skipped."""
    intake = JsonIntake(assembly)
    work = assembly.work
    count = size_bytes = 0
    for block in _blocks(pieces):
        work.look()
        size_bytes += len(block)
        lines = block.split(b"\n")
        if not lines[-1]:
            lines.pop()
        if len(block) > MAX_LINE_BYTES and max(map(len, lines)) > MAX_LINE_BYTES:
            raise _line_too_long()
        records = _decode_lines(lines, work)
        if opening_brackets(block) - len(records) >= MAX_DEPTH:
            _refuse_deep(records, lines, work)
        count += len(records)
        if count > limits.batch_records:
            raise refusal(Reason.TOO_MANY_RECORDS, f"more than {limits.batch_records} records")
        intake.add(records, lines.__getitem__)
    return size_bytes


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Blocks of whole lines, of about `_BLOCK_BYTES` each."""
    held: list[bytes] = []
    held_bytes = 0
    for piece in pieces:
        begin = 0
        while held_bytes + len(piece) - begin >= _BLOCK_BYTES:
            end = _line_end(piece, begin, begin + max(_BLOCK_BYTES - held_bytes, 0))
            if not end:
                break
            yield b"".join([*held, piece[begin:end]])
            held, held_bytes, begin = [], 0, end
        held.append(piece[begin:])
        held_bytes += len(piece) - begin
        if held_bytes > MAX_LINE_BYTES:
            # The piece has no more line ends, but the bytes held before it may have some.
            lines, _, rest = b"".join(held).rpartition(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise _line_too_long()
            yield lines + b"\n"
            held, held_bytes = [rest], len(rest)
    last = b"".join(held)
    if last:
        yield last


def _line_end(piece: bytes, begin: int, limit: int) -> int:
    """Position after the last line that ends before `limit`, else after the first line; 0 if no line ends."""
    return piece.rfind(b"\n", begin, limit) + 1 or piece.find(b"\n", limit) + 1


def _decode_lines(lines: list[bytes], work: Work) -> list[AnyRecord]:
    """Record of each line. Lines of white space are removed from `lines`."""
    try:
        records: list[AnyRecord] = list(map(_decode_one, lines))
    except REFUSALS:
        found = [line for line in lines if line.strip(b" \t\r")]
        work.skip(len(lines) - len(found))
        lines[:] = found
        records = [decode_any(line, work) for line in lines]
    return records


def _line_too_long() -> BatchRefusedError:
    return refusal(Reason.LINE_TOO_LONG, f"a line of more than {MAX_LINE_BYTES} bytes")


def _refuse_deep(records: list[AnyRecord], lines: Sequence[bytes], work: Work) -> None:
    """Decode deep lines again, because the fast parser's limit of nesting depends on the stack; ours is fixed."""
    for position, line in enumerate(lines):
        if opening_brackets(line) <= MAX_DEPTH:
            continue
        work.take_pains(len(line))
        if _is_deep(line):
            records[position] = decode_record(line)


def _is_deep(line: bytes) -> bool:
    try:
        check_depth(line.decode("utf-8", errors="surrogateescape"))
    except DepthError:
        return True
    return False
