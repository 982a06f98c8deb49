"""From JSON records to columns. msgspec decodes many in one call; those that it refuses are decoded one by one."""

from __future__ import annotations

from array import array
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from metering.intake.content_hash import BYTES, END, RECORD, RESOURCE_ID, START
from metering.intake.formats.assembly import RAW_CHARS, Columns
from metering.intake.formats.columns import ARROW_FROM_ROWS, is_plain, strings
from metering.intake.instants import MAX_TIME_CHARS
from metering.intake.json_values import ascii_json
from metering.intake.record_rules import record_problems
from metering.intake.records import (
    AnyRecord,
    ExactRecord,
    Integer,
    Text,
    Undecodable,
    WireRecord,
    decode_record,
    instant_of,
    integer_of,
    short_instant_of,
)
from metering.units import INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from metering.intake.formats.assembly import BatchAssembly, ExceptionEntry, HeadTable
    from metering.intake.work import Work

# Errors of msgspec for input that it refuses; bad UTF-8 is a ValueError.
REFUSALS = (msgspec.MsgspecError, ValueError, RecursionError)

_decode_one = msgspec.json.Decoder(WireRecord).decode
_resource_ids: Callable[[AnyRecord], Text] = attrgetter("resource_id")
_sizes: Callable[[AnyRecord], Integer] = attrgetter("bytes")
_starts: Callable[[AnyRecord], int | Text] = attrgetter("start")
_ends: Callable[[AnyRecord], int | Text] = attrgetter("end")


class InstantTable(dict["int | Text", "Integer"]):
    """Instants by their wire value, each parsed once in a batch. Times longer than any valid one are not kept."""

    def __missing__(self, value: int | Text) -> Integer:
        if isinstance(value, str) and len(value) <= MAX_TIME_CHARS:
            instant = self[value] = short_instant_of(value)
            return instant
        if isinstance(value, int) and -INT64_MAX <= value <= INT64_MAX:
            instant = self[value] = instant_of(value)
            return instant
        return instant_of(value)


class JsonIntake:
    """Hands decoded JSON records of one batch to its assembly."""

    def __init__(self, assembly: BatchAssembly) -> None:
        self._assembly = assembly
        self._instants = InstantTable()

    def add(self, records: Sequence[AnyRecord], text_at: Callable[[int], bytes]) -> None:
        """Take some records; `text_at` gives the JSON text of each by its position among them."""
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
    """JSON text of a record as evidence: ASCII, on one line, cut to `RAW_CHARS`."""
    return ascii_json(text[:RAW_CHARS].decode("utf-8", errors="surrogateescape"))


def decode_any(text: bytes, work: Work) -> AnyRecord:
    """Decode the text of one record; any text gives a record.

    Raises:
        BatchRefusedError: Too much of the batch needs the patient parser.
        OutOfTimeError: It takes too long.
    """
    try:
        return _decode_one(text)
    except REFUSALS:
        work.take_pains(len(text))
        return decode_record(text)


def opening_brackets(text: bytes) -> int:
    """Number of opening brackets, with those in strings: an upper bound of the depth of nesting."""
    # replace() finds bytes with memchr; count() is four times slower.
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
        # Many small strings that live long would take up memory that the next records could use while it is cached.
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
    # A small batch repeats few of its own times, but shares times with earlier batches, so the common cache is better.
    if len(values) < ARROW_FROM_ROWS and _are_short_texts(values):
        return list(map(short_instant_of, values))
    return list(map(instants.__getitem__, values))


def _are_short_texts(values: list[int | Text]) -> bool:
    try:
        return max(map(len, values)) <= MAX_TIME_CHARS  # type: ignore[arg-type]  # a TypeError if one is not a text
    except TypeError:
        return False


def _strings(values: list[Text], found: dict[tuple[int, int], Undecodable | bytes | None]) -> tuple[list[str], str]:
    """The strings, and all of them joined; values that are not strings go to `found`."""
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
    # A broken record has no fields, so its position is in `found` already.
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
