"""Turns JSON records into columns, either from the message or streamed from newline-delimited JSON."""

from __future__ import annotations

from array import array
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from metering.intake.admission import MAX_TIME_CHARS
from metering.intake.formats.assembly import RAW_CHARS, BatchAssembly, Columns, ExceptionEntry, HeadTable
from metering.intake.formats.columns import ARROW_FROM_ROWS, is_plain, strings
from metering.intake.json_values import (
    MAX_DEPTH,
    DepthError,
    JsonError,
    ascii_json,
    canonical_json,
    check_depth,
    parse_json,
)
from metering.intake.records import (
    BYTES,
    END,
    RECORD,
    RESOURCE_ID,
    START,
    AnyRecord,
    ExactRecord,
    Integer,
    Text,
    Undecodable,
    WireRecord,
    decode_record,
    instant_of,
    integer_of,
    record_problems,
    short_instant_of,
)
from metering.intake.work import ReadLimits, Reason, Work, refusal
from metering.units import INT64_MAX, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from metering.errors import BatchRefusedError

# msgspec raises these errors for invalid input; for invalid UTF-8 it raises ValueError.
REFUSALS = (msgspec.MsgspecError, ValueError, RecursionError)

_decode_one = msgspec.json.Decoder(WireRecord).decode
_resource_ids: Callable[[AnyRecord], Text] = attrgetter("resource_id")
_sizes: Callable[[AnyRecord], Integer] = attrgetter("bytes")
_starts: Callable[[AnyRecord], int | Text] = attrgetter("start")
_ends: Callable[[AnyRecord], int | Text] = attrgetter("end")


class InstantTable(dict["int | Text", "Integer"]):
    """Instants by text; each text is parsed once per batch. Texts longer than any valid time are not cached."""

    def __missing__(self, value: int | Text) -> Integer:
        if isinstance(value, str) and len(value) <= MAX_TIME_CHARS:
            instant = self[value] = short_instant_of(value)
            return instant
        if isinstance(value, int) and -INT64_MAX <= value <= INT64_MAX:
            instant = self[value] = instant_of(value)
            return instant
        return instant_of(value)


class JsonIntake:
    """Passes a batch's decoded JSON records to the batch's assembly."""

    def __init__(self, assembly: BatchAssembly) -> None:
        self._assembly = assembly
        self._instants = InstantTable()

    def add(self, records: Sequence[AnyRecord], text_at: Callable[[int], bytes]) -> None:
        """Add some records; `text_at` returns the JSON text of a record by its index in the list."""
        if not records:
            return
        assembly = self._assembly
        assembly.add(
            columns_of(records, assembly.heads, self._instants),
            problems_at=lambda position: record_problems(
                records[position], admission=assembly.admission, sent_at_ms=assembly.sent_at_ms
            ),
            raw_at=lambda position: _raw_text(text_at(position)),
        )


def _raw_text(text: bytes) -> str:
    return ascii_json(text[:RAW_CHARS].decode("utf-8", errors="surrogateescape"))


def decode_any(text: bytes, work: Work) -> AnyRecord:
    """Decode the text of one record; any text yields a record.

    Raises:
        BatchRefusedError: Too many bytes of the batch need the slow parser.
        OutOfTimeError: It takes too long.
    """
    try:
        return _decode_one(text)
    except REFUSALS:
        work.take_pains(len(text))
        return decode_record(text)


def opening_brackets(text: bytes) -> int:
    """Number of opening brackets, including those in strings: an upper bound of the nesting depth."""
    # replace() finds bytes with memchr; count() is four times as slow.
    return 2 * len(text) - len(text.replace(b"[", b"")) - len(text.replace(b"{", b""))


def columns_of(records: Sequence[AnyRecord], heads: HeadTable, instants: InstantTable) -> Columns:
    """Columns of decoded records; new heads get numbers in `heads`."""
    found: dict[tuple[int, int], Undecodable | bytes | None] = {}
    head_index = heads.numbers_of(records)
    resource_ids, joined = _strings(list(map(_resource_ids, records)), found)
    sizes = _int64(list(map(_sizes, records)), BYTES, found)
    starts = _int64(_instants(list(map(_starts, records)), instants), START, found)
    ends = _int64(_instants(list(map(_ends, records)), instants), END, found)
    if found:
        _find_broken(records, found)
    if joined.isascii():
        lengths, joined_bytes = array("I", map(len, resource_ids)), joined.encode()
    else:
        encoded = [resource_id.encode() for resource_id in resource_ids]
        lengths, joined_bytes = array("I", map(len, encoded)), b"".join(encoded)
    return Columns(
        head_index=head_index,
        # Many small long-lived strings would occupy CPU cache that the next records could use.
        resource_ids=resource_ids if len(records) < ARROW_FROM_ROWS else strings(lengths, joined_bytes),
        lengths=lengths,
        resource_bytes=joined_bytes,
        doubtful_ids=_doubtful_ids(resource_ids, joined_bytes),
        sizes=sizes,
        starts=starts,
        ends=ends,
        exceptions=_in_order(found),
    )


def _instants(values: list[int | Text], instants: InstantTable) -> list[Integer]:
    # In a small batch, times rarely repeat, but often occurred in earlier batches, so the common cache is better.
    if len(values) < ARROW_FROM_ROWS and _are_short_texts(values):
        return list(map(short_instant_of, values))
    return list(map(instants.__getitem__, values))


def _are_short_texts(values: list[int | Text]) -> bool:
    try:
        return max(map(len, values)) <= MAX_TIME_CHARS  # type: ignore[arg-type]  # a TypeError if one is not a text
    except TypeError:
        return False


def _strings(values: list[Text], found: dict[tuple[int, int], Undecodable | bytes | None]) -> tuple[list[str], str]:
    """The strings and their concatenation; values that are not strings are added to `found`."""
    try:
        # join() is the fastest test that all values are strings.
        return values, "".join(values)  # type: ignore[return-value,arg-type]  # a TypeError if one is not a string
    except TypeError:
        strings = [value if isinstance(value, str) else "" for value in values]
    for position, value in enumerate(values):
        if not isinstance(value, str):
            found[position, RESOURCE_ID] = value
    return strings, "".join(strings)


def _int64(values: list[Integer], column: int, found: dict[tuple[int, int], Undecodable | bytes | None]) -> array[int]:
    try:
        return array("q", values)  # type: ignore[arg-type]  # a TypeError if one is not an integer
    except (TypeError, OverflowError):
        numbers = array("q", bytes(8 * len(values)))
    for position, value in enumerate(map(integer_of, values)):
        if isinstance(value, int):
            numbers[position] = value
        else:
            found[position, column] = value
    return numbers


def _find_broken(records: Sequence[AnyRecord], found: dict[tuple[int, int], Undecodable | bytes | None]) -> None:
    # A broken record has no fields, so `found` already contains its position.
    for position in {position for position, _ in found}:
        record = records[position]
        if isinstance(record, ExactRecord) and record.broken is not None:
            found[position, RECORD] = record.broken[1]


def _in_order(found: dict[tuple[int, int], Undecodable | bytes | None]) -> list[ExceptionEntry]:
    entries = [(position, column, value) for (position, column), value in found.items()]
    return sorted(entries, key=lambda entry: (entry[0], (entry[1] + 1) % (RECORD + 1)))


def _doubtful_ids(resource_ids: list[str], joined: bytes) -> Iterable[int]:
    if is_plain(joined):
        return ()
    return [position for position, value in enumerate(resource_ids) if not value.isprintable()]


_decode_all = msgspec.json.Decoder(list[WireRecord]).decode
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Texts:
    """JSON texts of the records in an array. The texts are extracted on first use."""

    def __init__(self, array: bytes) -> None:
        self._array = array
        self._texts: list[bytes] = []

    def at(self, position: int) -> bytes:
        return self.all()[position]

    def all(self) -> list[bytes]:
        """Texts of all records, in order.

        Raises:
            BatchRefusedError: The text is nested too deeply, or is not an array.
        """
        if not self._texts:
            self._texts = self._cut()
        return self._texts

    def _cut(self) -> list[bytes]:
        try:
            return list(map(bytes, _split(self._array)))
        except REFUSALS:
            # Only the patient parser accepts NaN and lone surrogates.
            pass
        try:
            values = parse_json(self._array.decode("utf-8", errors="surrogateescape"))
        except DepthError as error:
            raise refusal(Reason.TOO_DEEPLY_NESTED, str(error)) from error
        except JsonError as error:
            raise refusal(Reason.INVALID_RECORDS, str(error)) from error
        if not isinstance(values, list):
            raise refusal(Reason.INVALID_RECORDS, "records is no array")
        return [canonical_json(value).encode("ascii") for value in values]


def read_inline(array: bytes, assembly: BatchAssembly, limits: ReadLimits) -> int:
    """Read the records of a JSON array; returns its size in bytes.

    Raises:
        BatchRefusedError: The text has too many records, needs too much work, is nested too deeply, or is not an array.
        OutOfTimeError: It takes too long.
    """
    texts = _Texts(array)
    try:
        records: Sequence[AnyRecord] = _decode_all(array)
    except REFUSALS:
        records = [decode_any(text, assembly.work) for text in texts.all()]
    if len(records) > limits.batch_records:
        raise refusal(Reason.TOO_MANY_RECORDS, f"{len(records)} records, more than {limits.batch_records}")
    _check_depth(array, len(records))
    JsonIntake(assembly).add(records, texts.at)
    return len(array)


def _check_depth(array: bytes, records: int) -> None:
    # Each record opens one bracket, and the array opens another. Only deep nesting opens many more brackets than these.
    if opening_brackets(array) - records < MAX_DEPTH - 1:
        return
    try:
        check_depth(array.decode("utf-8", errors="surrogateescape"))
    except DepthError as error:
        raise refusal(Reason.TOO_DEEPLY_NESTED, str(error)) from error


# The size of the largest record that fits into a message.
MAX_LINE_BYTES = MIB
# The records of a block stay in the CPU cache between the steps, which is a quarter faster than with blocks of 2 MiB.
_BLOCK_BYTES = 256 * KIB


def read_ndjson(pieces: Iterable[bytes], assembly: BatchAssembly, limits: ReadLimits) -> int:
    """Read all records (`ObjectReader`). Lines with only white space are skipped."""
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
            # The new piece has no more line ends, but the bytes from earlier pieces may have some.
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
    """Record of each line. Lines with only white space are removed from `lines`."""
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
    """Decode deeply nested lines again with a fixed limit, because the fast parser's limit depends on the stack."""
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
