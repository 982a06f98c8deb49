"""Assembly of a batch from pieces: content hash, verdict of each record, rows and exact totals.

The readers of all formats pass `Columns` to this module. First, whole columns are checked. Only rows that may fail this
check are checked one by one against the rules for records.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import compress
from operator import sub
from typing import TYPE_CHECKING, cast

from metering.intake.admission import HOUR_US, SECOND_US, Admission
from metering.intake.batches import RefusedRecord
from metering.intake.formats.columns import BatchRows, RowBlock, bounds, span_bounds, sums
from metering.intake.records import (
    MAX_RESOURCE_ID_CHARS,
    AnyRecord,
    ContentHasher,
    Head,
    HeadText,
    LongText,
    Traffic,
    Undecodable,
    head_of,
    kept_head,
    little_endian,
    traffic_of,
    written_head,
)
from metering.intake.work import Problem, Reason, Work, refusal
from metering.units import KIB, MIB
from metering.usage.totals import Service, Total, UsageKey, UsageType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pyarrow as pa

RAW_CHARS = 4 * KIB
# Once the evidence of a batch exceeds this many characters, less of each further refused record is kept.
_RAW_BUDGET_CHARS = 16 * MIB
_SPARE_RAW_CHARS = 256
# Memory of a `LongText`: its first characters, its digest, and the object overhead.
_LONG_TEXT_BYTES = 512

ExceptionEntry = tuple[int, int, "Undecodable | bytes | None"]
"""Position in the piece, column and value of an exception of `content_hash`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A decoded piece of a batch: one entry per record; an entry is 0 or empty if its value is in `exceptions`.

    Attributes:
        lengths: UTF-8 bytes of each resource id, u32.
        resource_bytes: All resource ids, joined, in UTF-8.
        doubtful_ids: Positions of resource ids that may break a rule other than the length limit.
        exceptions: Values that could not be decoded, in the order of the content hash.
    """

    head_index: array[int]
    resource_ids: list[str] | pa.Array
    lengths: array[int]
    resource_bytes: bytes | memoryview
    doubtful_ids: Iterable[int]
    sizes: array[int]
    starts: array[int]
    ends: array[int]
    exceptions: Sequence[ExceptionEntry] = ()


class HeadTable:
    """Assigns numbers to distinct heads in order of first appearance; each head is hashed and checked once.

    A string longer than any valid string is checked before it is stored; only its `LongText` is kept.

    Attributes:
        heads: The stored heads, by number.
        traffic: The result of the record rules for each head, by number.

    Raises:
        BatchRefusedError: The distinct heads exceed the byte limit of a batch.
    """

    def __init__(self, *, hasher: ContentHasher | None, work: Work) -> None:
        self.heads: list[Head] = []
        self.traffic: list[Traffic] = []
        self.refused: set[int] = set()
        self._hasher = hasher
        self._work = work
        self._numbers: dict[Head, int] = {}
        self._hashed_heads = 0
        self._kept_bytes = 0

    def number(self, head: Head) -> int:
        """The number of a head; a new head is hashed and checked."""
        known = self._numbers.get(head)
        if known is not None:
            return known
        kept = kept_head(head)
        if kept is head:
            return self._add(head)
        return self.number_long(kept, lambda: written_head(head))

    def numbers_of(self, records: Sequence[AnyRecord]) -> array[int]:
        """The number of each record's head, u32."""
        try:
            # Fast path: known heads are looked up without calling a Python function.
            return array("I", map(self._numbers.__getitem__, map(head_of, records)))
        except KeyError:
            return array("I", map(self.number, map(head_of, records)))

    def number_long(self, kept: Head, values: Callable[[], Sequence[bytes | memoryview]]) -> int:
        """The number of a head with a string that is too long to be stored.

        Args:
            kept: The head with its `LongText`.
            values: Returns the head's fields as input of the content hash; called only for a new head.
        """
        if kept in self._numbers:
            return self._numbers[kept]
        number = self._add(kept)
        written = values()
        self._work.hash(sum(map(len, written)))
        if self._hasher is not None:
            self._hash(number)
            self._hasher.add_written_head(written)
        self._hashed_heads = number + 1
        return number

    def hash_new(self) -> None:
        """Hash all heads that are not yet hashed."""
        self._hash(len(self.heads))

    def _hash(self, end: int) -> None:
        if self._hasher is not None and end > self._hashed_heads:
            self._hasher.add_heads(self.heads[self._hashed_heads : end])
        self._hashed_heads = end

    def _add(self, head: Head) -> int:
        self._kept_bytes += sum(map(_kept_bytes, head))
        limit_bytes = self._work.limits.head_bytes
        if self._kept_bytes > limit_bytes:
            raise refusal(Reason.OBJECT_TOO_LARGE, f"distinct heads of more than {limit_bytes} bytes")
        number = self._numbers[head] = len(self.heads)
        self.heads.append(head)
        traffic = traffic_of(head)
        self.traffic.append(traffic)
        if traffic.problems:
            self.refused.add(number)
        return number


class BatchAssembly:
    """A batch that is being read. Pieces are added in order, and record positions continue from piece to piece.

    Attributes:
        sent_at_ms: SentTimestamp of the message, against which records are admitted.
    """

    def __init__(self, *, admission: Admission, sent_at_ms: int, hasher: ContentHasher | None, work: Work) -> None:
        self.heads = HeadTable(hasher=hasher, work=work)
        self.work = work
        self.records = 0
        self.refused: list[RefusedRecord] = []
        self.admission = admission
        self.sent_at_ms = sent_at_ms
        self._hasher = hasher
        self._blocks: list[RowBlock] = []
        self._raw_chars = 0

    def add(
        self, piece: Columns, *, problems_at: Callable[[int], tuple[Problem, ...]], raw_at: Callable[[int], str]
    ) -> None:
        """Take the next piece.

        Args:
            piece: Columns of the piece; `head_index` refers to `heads`.
            problems_at: Returns the problems of the record at a position of the piece.
            raw_at: Returns the original text of the record at a position of the piece.
        """
        self.work.look()
        self._hash(piece)
        refused = self._refuse(piece, problems_at, raw_at)
        self.records += len(piece.head_index)
        block = _kept(piece, refused) if refused else _whole(piece)
        if len(block):
            self._blocks.append(block)

    def content_hash(self) -> str:
        return "" if self._hasher is None else self._hasher.hexdigest()

    def rows(self) -> BatchRows:
        return BatchRows(heads=self.heads.heads, traffic=self.heads.traffic, blocks=self._blocks)

    def usage(self) -> dict[UsageKey, Total]:
        usage: dict[UsageKey, Total] = {}
        for number, hour_us, size, count in sums(self._blocks):
            account_id, service, _, from_location, to_location, _ = cast("tuple[str, ...]", self.heads.heads[number])
            usage_type = UsageType(self.heads.traffic[number].usage_type)
            key = UsageKey(hour_us // SECOND_US, account_id, usage_type, Service(service), from_location, to_location)
            total = Total(size, count)
            # Heads that differ only in direction may share an explicit usage type.
            usage[key] = usage[key].plus(total) if key in usage else total
        return usage

    def unknown_regions(self) -> frozenset[str]:
        """Regions without a known billing prefix in the usage types of the accepted records."""
        unknown = {number for number, traffic in enumerate(self.heads.traffic) if traffic.unknown_regions}
        if not unknown:
            return frozenset()
        metered = {number for block in self._blocks for number in unknown.intersection(block.head_index)}
        return frozenset().union(*(self.heads.traffic[number].unknown_regions for number in metered))

    def _hash(self, piece: Columns) -> None:
        if self._hasher is None:
            return
        self.heads.hash_new()
        self._hasher.add_columns(
            memoryview(little_endian(piece.head_index)).cast("B"),
            memoryview(little_endian(piece.lengths)).cast("B"),
            piece.resource_bytes,
            memoryview(little_endian(piece.sizes)).cast("B"),
            memoryview(little_endian(piece.starts)).cast("B"),
            memoryview(little_endian(piece.ends)).cast("B"),
        )
        for position, column, value in piece.exceptions:
            self._hasher.add_exception(self.records + position, column, value)

    def _refuse(
        self, piece: Columns, problems_at: Callable[[int], tuple[Problem, ...]], raw_at: Callable[[int], str]
    ) -> set[int]:
        refused = set()
        for position in sorted(self._doubtful(piece)):
            problems = problems_at(position)
            if problems:
                refused.add(position)
                self.refused.append(
                    RefusedRecord(position=self.records + position, reasons=problems, raw=self._raw(raw_at(position)))
                )
        return refused

    def _doubtful(self, piece: Columns) -> set[int]:
        doubtful = {position for position, _, _ in piece.exceptions}
        doubtful.update(piece.doubtful_ids)
        if self.heads.refused:
            doubtful.update(_where(piece.head_index, self.heads.refused.__contains__))
        shortest, longest = bounds(piece.lengths)
        if shortest < 1 or longest > MAX_RESOURCE_ID_CHARS:
            doubtful.update(_where(piece.lengths, lambda length: not 1 <= length <= MAX_RESOURCE_ID_CHARS))
        if bounds(piece.sizes)[0] < 0:
            doubtful.update(_where(piece.sizes, lambda size: size < 0))
        doubtful.update(self._doubtful_times(piece))
        return doubtful

    def _doubtful_times(self, piece: Columns) -> set[int]:
        doubtful: set[int] = set()
        shortest, longest = span_bounds(piece.starts, piece.ends)
        if shortest < 0 or longest > HOUR_US:
            spans = map(sub, piece.ends, piece.starts)
            doubtful.update(_where(spans, lambda span: not 0 <= span <= HOUR_US))
        if not all(map(self._admits, bounds(piece.starts))):
            doubtful.update(_where(piece.starts, lambda start: not self._admits(start)))
        return doubtful

    def _admits(self, start_us: int) -> bool:
        return self.admission.refusal(start_us // SECOND_US, self.sent_at_ms) is None

    def _raw(self, raw: str) -> str:
        limit = RAW_CHARS if self._raw_chars < _RAW_BUDGET_CHARS else _SPARE_RAW_CHARS
        self._raw_chars += min(len(raw), limit)
        return raw[:limit]


def _kept_bytes(text: HeadText) -> int:
    if text is None:
        return 0
    if isinstance(text, LongText):
        return _LONG_TEXT_BYTES
    return len(text) if isinstance(text, Undecodable) or text.isascii() else 4 * len(text)


def _where(column: Iterable[int], test: Callable[[int], bool]) -> list[int]:
    return [position for position, value in enumerate(column) if test(value)]


def _whole(piece: Columns) -> RowBlock:
    return RowBlock(
        head_index=piece.head_index,
        resource_ids=piece.resource_ids,
        sizes=piece.sizes,
        starts=piece.starts,
        ends=piece.ends,
    )


def _kept(piece: Columns, refused: set[int]) -> RowBlock:
    kept = [position not in refused for position in range(len(piece.head_index))]
    ids = piece.resource_ids
    return RowBlock(
        head_index=array("I", compress(piece.head_index, kept)),
        resource_ids=list(compress(ids, kept)) if isinstance(ids, list) else ids.filter(kept),
        sizes=array("q", compress(piece.sizes, kept)),
        starts=array("q", compress(piece.starts, kept)),
        ends=array("q", compress(piece.ends, kept)),
    )
