"""Builds blocks of a flow log from sections of lines, and judges their rows column by column.

A row is metered, rejected, without data, or refused with a reason: the first matching verdict in the order of
`RowJudge.judge`. Each distinct text is checked once.
"""

import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, repeat
from typing import NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from metering.intake.formats.columns import exact_sum, halves, joined
from metering.onramps.formats.flows.columns import ACTION, STATUS, Rows, rows_of, rows_with
from metering.onramps.formats.flows.shown import ShownAddresses, forwarding
from metering.onramps.reading import (
    Balance,
    Block,
    Detail,
    FileName,
    FlowHop,
    Folding,
    Observation,
    ReadSettings,
    RefusedLine,
    Shown,
)
from metering.onramps.reasons import LineReason
from metering.units import HOUR_S, INT64_MAX
from metering.usage.usage_types import is_region

_ACCOUNT = re.compile(r"[0-9]{12}")
_UNKNOWN = "unknown"
# Maximum length of a resource id (docs/contract.md). No field of a flow log that is used here is longer.
_MAX_CHARS = 512
# Number of valid texts that are cached. The cache is bounded, because the number of internet addresses is not.
_REMEMBERED = 200_000


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address in its usual form."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def _is_plain(text: str) -> bool:
    return 0 < len(text) <= _MAX_CHARS and text.isprintable()


_ADDRESS = (is_address, LineReason.INVALID_ADDRESS, "is no address")
_PLAIN = (_is_plain, LineReason.INVALID_VALUE, "is empty, too long or not printable")
_CHECKS: Mapping[str, tuple[Callable[[str], object], LineReason, str]] = {
    "source": _ADDRESS,
    "destination": _ADDRESS,
    "packet_source": _ADDRESS,
    "packet_destination": _ADDRESS,
    "flow_direction": (("egress", "ingress").__contains__, LineReason.INVALID_VALUE, "is not egress or ingress"),
    "region": (is_region, LineReason.INVALID_VALUE, "is no region"),
    "zone_id": (re.compile(r"[a-z0-9-]{1,32}").fullmatch, LineReason.INVALID_VALUE, "is no zone id"),
}


class Texts:
    """Checks the texts of one file, block by block. A line without an account gets the account in the file name."""

    def __init__(self, account_id: str) -> None:
        self._account_id = account_id
        self._right: dict[Callable[[str], object], set[str]] = {}

    def problems(self, rows: Rows) -> Iterator[tuple[pa.BooleanArray, str, str]]:
        """Rows with an invalid text, as `(rows, reason, detail)`."""
        accounts = rows.words.get("account_id")
        if accounts is not None:
            unknown = bool(self._account_id)
            bad = rows_with(accounts, lambda word: not (_ACCOUNT.fullmatch(word) or (unknown and word == _UNKNOWN)),
                            null=not unknown)  # fmt: skip
            if bad is not None:
                yield bad, LineReason.INVALID_ACCOUNT, "account-id has no 12 digits, nor does the file's name help"
        for attribute, column in rows.words.items():
            if attribute != "account_id":
                yield from self._problem(attribute, column, rows.texts(attribute))

    def account(self, word: str) -> str:
        return self._account_id if word in ("", _UNKNOWN) else word

    def _problem(
        self, attribute: str, column: pa.DictionaryArray, words: list[str]
    ) -> Iterator[tuple[pa.BooleanArray, str, str]]:
        fits, reason, detail = _CHECKS.get(attribute, _PLAIN)
        right = self._right.setdefault(fits, set())
        new = set(words).difference(right)
        wrong = {word for word in new if not fits(word)}
        right |= new - wrong
        if len(right) > _REMEMBERED:
            right.clear()
        if wrong:
            bad = rows_of(column, [place for place, word in enumerate(words) if word in wrong])
            if bad is not None:
                yield bad, reason, f"{attribute.replace('_', '-')} {detail}"


# Times with 13 digits are in milliseconds, contrary to AWS's documentation. Until the year 2286, all other times have
# at most 10 digits.
_MILLISECONDS_FROM = 10**12
_TIMES_BELOW_S = 10**10


class RefusedRows(NamedTuple):
    """Rows refused for one reason: the first of the rows, the number of all rows, and the sum of all stated bytes."""

    rows: list[int]
    reason: str
    detail: str
    lines: int
    bytes: int


class Counted(NamedTuple):
    """Number of rows, and the sum of their stated bytes."""

    lines: int = 0
    bytes: int = 0


class RowJudge:
    """Judges the rows of one block. After `judge`, `live` holds the metered rows, and `start` and `end` their times.

    Attributes:
        live: Mask of rows without a verdict so far; None stands for all rows.
        start: Start of each row in epoch seconds; valid only for live rows. So for `end`.
    """

    def __init__(self, rows: Rows, texts: Texts, kept: int) -> None:
        self._rows = rows
        self._texts = texts
        self._kept = kept
        self.live: pa.BooleanArray | None = None
        self.start: pa.Int64Array = rows.start
        self.end: pa.Int64Array = rows.end
        self.refused: list[RefusedRows] = []
        self.rejected = Counted()
        self.nodata = 0
        self.skipdata = 0

    def judge(self) -> None:
        self._judge_status()
        self._judge_blocked()
        self._judge_bytes()
        self._judge_action()
        self._judge_times()
        for bad, reason, detail in self._texts.problems(self._rows):
            self._refuse(bad, reason, detail)

    def _judge_status(self) -> None:
        status = self._rows.words.get(STATUS)
        if status is None:
            # In a log without a status field, missing bytes mean that there was no traffic.
            self.nodata = self._take(self._without_bytes()).lines
            return
        self.nodata = self._take(rows_with(status, lambda word: word == "NODATA")).lines
        self.skipdata = self._take(rows_with(status, lambda word: word == "SKIPDATA")).lines
        other = rows_with(status, lambda word: word not in ("OK", "NODATA", "SKIPDATA"), null=True)
        self._refuse(other, LineReason.INVALID_VALUE, "log-status is not OK, NODATA or SKIPDATA")

    def _judge_blocked(self) -> None:
        """Reject records of VPC block public access, which have no bytes."""
        action, absent = self._rows.words.get(ACTION), self._without_bytes()
        if action is None or absent is None:
            return
        rejected = rows_with(action, lambda word: word == "REJECT")
        self.rejected = Counted() if rejected is None else self._take(pc.and_(rejected, absent))

    def _without_bytes(self) -> pa.BooleanArray | None:
        if not self._rows.bytes.null_count:
            return None
        absent = self._rows.bytes.is_null()
        return absent if self._rows.unreadable is None else pc.and_not(absent, self._rows.unreadable)

    def _judge_bytes(self) -> None:
        numbers = self._rows.bytes
        if numbers.null_count or not _within(numbers, 0, INT64_MAX):
            bad = pc.less(numbers, 0).fill_null(True)
            self._refuse(bad, LineReason.INVALID_NUMBER, "bytes is no integer from 0 to 2^63-1")

    def _judge_action(self) -> None:
        action = self._rows.words.get(ACTION)
        if action is None:
            return
        found = self._take(rows_with(action, lambda word: word == "REJECT"))
        self.rejected = Counted(self.rejected.lines + found.lines, found.bytes)
        other = rows_with(action, lambda word: word not in ("ACCEPT", "REJECT"), null=True)
        self._refuse(other, LineReason.INVALID_VALUE, "action is not ACCEPT or REJECT")

    def _judge_times(self) -> None:
        self.start, self.end = _seconds(self._rows.start), _seconds(self._rows.end)
        for name, times in (("start", self.start), ("end", self.end)):
            if times.null_count or not _within(times, 1, _TIMES_BELOW_S - 1):
                bad = pc.or_(pc.less_equal(times, 0), pc.greater_equal(times, _TIMES_BELOW_S)).fill_null(True)
                self._refuse(bad, LineReason.INVALID_TIME, f"{name} is no time in epoch seconds")
        self._judge_spans()

    def _judge_spans(self) -> None:
        # Rows that are already refused may have any numbers. Their difference may wrap, but is not used.
        spans = pc.subtract(self.end, self.start)
        if _within(spans, 0, HOUR_S):
            return
        self._refuse(pc.less(spans, 0).fill_null(False), LineReason.INVALID_TIME, "end is before start")
        long = pc.greater(spans, HOUR_S).fill_null(False)
        self._refuse(long, LineReason.SPANS_OVER_AN_HOUR, "from start to end is more than an hour")

    def _taken(self, mask: pa.BooleanArray | None) -> pa.BooleanArray | None:
        """Remove the live rows in `mask` from `live`, and return the removed rows; None without such rows."""
        if mask is None:
            return None
        taken = mask if self.live is None else pc.and_(mask, self.live)
        if not taken.true_count:
            return None
        self.live = pc.invert(mask) if self.live is None else pc.and_not(self.live, mask)
        return taken

    def _take(self, mask: pa.BooleanArray | None) -> Counted:
        taken = self._taken(mask)
        return Counted() if taken is None else Counted(taken.true_count, _stated_bytes(self._rows, taken))

    def _refuse(self, mask: pa.BooleanArray | None, reason: str, detail: str) -> None:
        taken = self._taken(mask)
        if taken is None:
            return
        first = pc.indices_nonzero(taken)[: self._kept].to_pylist()
        self.refused.append(RefusedRows(first, reason, detail, taken.true_count, _stated_bytes(self._rows, taken)))


def _within(numbers: pa.Int64Array, least: int, most: int) -> bool:
    bounds = pc.min_max(numbers).as_py()
    return bounds["min"] is None or (least <= bounds["min"] and bounds["max"] <= most)


def _seconds(times: pa.Int64Array) -> pa.Int64Array:
    if (pc.max(times).as_py() or 0) < _MILLISECONDS_FROM:
        return times
    return pc.if_else(pc.greater_equal(times, _MILLISECONDS_FROM), pc.divide(times, 1000), times)


def _stated_bytes(rows: Rows, taken: pa.BooleanArray) -> int:
    numbers = rows.bytes.filter(taken)
    if numbers.null_count or not _within(numbers, 0, INT64_MAX):
        numbers = numbers.filter(pc.greater_equal(numbers, 0).fill_null(False))
    return exact_sum(numbers)


# Metered rows, summed by subject and hour over several blocks. Arrow groups the rows of each block, then the groups of
# several blocks, and Python makes one tuple per resulting group. A text has the same number in all blocks that are
# summed together.

ADDRESSES = ("source", "destination", "packet_source", "packet_destination")
# Aggregates of a group: halves of bytes (see `exact_sums`), lines, least start and greatest end.
_SUMS = {"low": "sum", "high": "sum", "lines": "sum", "start": "min", "end": "max"}

# Like `_make`, but without a Python call per group.
_HOP = cast("Callable[[tuple[str, ...]], FlowHop]", partial(tuple.__new__, FlowHop))
_OBSERVATION = cast("Callable[[tuple[object, ...]], Observation[FlowHop]]", partial(tuple.__new__, Observation))


class _Numbers(dict[str, int]):
    """Maps texts to numbers, which are assigned from 0 on. A known text is found without a Python call."""

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self)
        return number


class FlowSums:
    """Sums over the metered rows of one file, until `take` returns them."""

    def __init__(self, texts: Texts, folding: Folding | None, detail: Detail | None = None) -> None:
        self._texts = texts
        self._folding = folding if detail is None else detail
        self._detail = detail
        self._shown = None if detail is None else ShownAddresses(detail)
        self._done: list[Observation[FlowHop]] = []
        self._tables: list[pa.Table] = []
        self._numbers: dict[str, _Numbers] = {}
        self.groups = 0

    def add(self, rows: Rows, judge: RowJudge) -> tuple[int, int]:
        """Add the metered rows of a judged block; return their number and bytes."""
        words = {name: column for name, column in rows.words.items() if name not in (STATUS, ACTION)}
        columns = {name: column.indices for name, column in words.items()}
        table = pa.table(columns | {"bytes": rows.bytes, "start": judge.start, "end": judge.end})
        if judge.live is not None:
            table = table.filter(judge.live)
        if not table.num_rows:
            return 0, 0
        if words.keys() != self._numbers.keys():
            self._end()
            self._numbers = {name: _Numbers() for name in words}
        numbers, start = table.column("bytes"), table.column("start")
        table = table.append_column("hour", pc.multiply(pc.divide(start, HOUR_S), HOUR_S))
        distinct = {name: rows.texts(name) for name in words}
        if self._shown is not None:
            self._shown.add(table, distinct)
        table = self._numbered(table, distinct)
        # Sums of a block fit into int64, except for numbers that no real log line has.
        exact = pc.max(numbers).as_py() <= INT64_MAX // table.num_rows
        grouped = _grouped(table, [*words, "hour"], exact=exact)
        self._tables.append(grouped)
        self.groups += grouped.num_rows
        return table.num_rows, pc.sum(numbers).as_py() if exact else exact_sum(numbers)

    def shown(self) -> Sequence[Shown]:
        """Own addresses of interfaces since the last call, if there is detail."""
        return () if self._shown is None else self._shown.take()

    def take(self) -> list[Observation[FlowHop]]:
        self._end()
        done, self._done = self._done, []
        return done

    def _end(self) -> None:
        """Convert groups to observations, and clear the numbers of texts."""
        if self._tables:
            self._done += self._observed()
        self._tables, self.groups = [], 0
        self._numbers = {name: _Numbers() for name in self._numbers}

    def _numbered(self, table: pa.Table, words: dict[str, list[str]]) -> pa.Table:
        """Replace texts by numbers; a text has the same number in all blocks. A missing text counts as empty."""
        directed = "flow_direction" in words and not table.column("flow_direction").null_count
        hours = pc.unique(table.column("hour")).to_pylist() if self._folding is not None else []
        detail = self._detail
        gateways = None if detail is None else forwarding(table, words, detail, hours)
        numbered = table
        for name, texts in words.items():
            alike: Sequence[str] = texts
            if name == "account_id":
                alike = list(map(self._texts.account, texts))
            elif name in ADDRESSES and self._folding is not None:
                alike = self._folding.alike(texts, hours, directed=directed)
            found = self._moved(name, alike, table.column(name))
            if detail is not None and name in ADDRESSES:
                apart = self._moved(name, detail.apart(texts, hours, directed=directed), table.column(name))
                found = apart if gateways is None else pc.if_else(gateways, apart, found)
            numbered = numbered.set_column(table.column_names.index(name), name, found)
        return numbered

    def _moved(self, name: str, texts: Sequence[str], column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Replace the indices of a column by the numbers of these texts."""
        absent = self._texts.account("") if name == "account_id" else ""
        moved = pa.array(list(map(self._numbers[name].__getitem__, (*texts, absent))), pa.int32())
        return pc.take(moved, column.fill_null(len(texts)) if column.null_count else column)

    def _observed(self) -> Iterable[Observation[FlowHop]]:
        grouped = self._tables[0]
        if len(self._tables) > 1:
            grouped = _added(pa.concat_tables(self._tables), [*self._numbers, "hour"])
        starts = grouped.column("start")
        ends = pc.min_element_wise(grouped.column("end"), pc.add(starts, HOUR_S))
        found = zip(
            map(_HOP, zip(*self._columns(grouped), strict=False)),
            _list(grouped.column("hour")),
            map(joined, _list(grouped.column("low")), _list(grouped.column("high"))),
            _list(grouped.column("lines")),
            _list(starts),
            _list(ends),
            strict=True,
        )
        return map(_OBSERVATION, found)

    def _columns(self, grouped: pa.Table) -> list[Iterable[str]]:
        found: list[Iterable[str]] = []
        for name in FlowHop._fields:
            if name in self._numbers:
                found.append(map(list(self._numbers[name]).__getitem__, _list(grouped.column(name))))
            else:
                found.append(repeat(self._texts.account("") if name == "account_id" else ""))
        return found


def _grouped(table: pa.Table, keys: Sequence[str], *, exact: bool) -> pa.Table:
    functions = [("bytes", "count"), ("start", "min"), ("end", "max")]
    if exact:
        grouped = table.group_by(keys, use_threads=False).aggregate([*functions, ("bytes", "sum")])
        low, high = halves(grouped.column("bytes_sum"))
    else:
        low, high = halves(table.column("bytes"))
        table = table.append_column("low", low).append_column("high", high)
        grouped = table.group_by(keys, use_threads=False).aggregate([*functions, ("low", "sum"), ("high", "sum")])
        low, high = grouped.column("low_sum"), grouped.column("high_sum")
    values = (low, high, grouped.column("bytes_count"), grouped.column("start_min"), grouped.column("end_max"))
    return pa.table([*(grouped.column(name) for name in keys), *values], names=[*keys, *_SUMS])


def _added(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    grouped = table.group_by(keys, use_threads=False).aggregate(list(_SUMS.items()))
    columns = [grouped.column(f"{name}_{function}") for name, function in _SUMS.items()]
    return pa.table([*(grouped.column(name) for name in keys), *columns], names=[*keys, *_SUMS])


def _list(column: pa.ChunkedArray) -> list[int]:
    """Convert integers without nulls to a list; reading the buffer takes a fifth of the time of `to_pylist`."""
    array = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    width = array.type.bit_width // 8
    data = memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]
    return data.cast("q" if width == 8 else "i").tolist()


# A block is passed on when it has this many groups, to limit its memory, or this many lines, to show progress. If
# blocks were smaller, the same groups would be judged repeatedly.
_MOST_GROUPS = 60_000
_MOST_LINES = 500_000


class BlockMaker:
    """Builds the blocks of one file, and keeps refused lines up to the limit in the settings."""

    def __init__(self, name: FileName, settings: ReadSettings) -> None:
        self._texts = Texts(name.account_id)
        self._sums = FlowSums(self._texts, settings.folding, settings.detail)
        self._left = settings.kept_refusals
        self._balance = Balance()
        self._kept: list[RefusedLine] = []
        self._refusals: dict[str, tuple[int, int]] = {}
        self._fields: frozenset[str] | None = None

    def add(
        self,
        rows: Rows,
        *,
        fields: Iterable[str],
        header: int,
        misfits: Mapping[str, int],
        refused: Iterable[RefusedLine],
        place: Callable[[int], tuple[int, str]],
    ) -> None:
        """Add a section of lines.

        Args:
            rows: Its rows.
            fields: Fields of the log in this section.
            header: Number of header lines in the section.
            misfits: Number of lines that did not become rows, by reason.
            refused: Iterator of the lines that did not become rows, in order.
            place: Line number of a row in the file, and the text of the line.
        """
        self._fields = frozenset(fields) if self._fields is None else self._fields.intersection(fields)
        judge = RowJudge(rows, self._texts, self._left)
        judge.judge()
        metered, metered_bytes = self._sums.add(rows, judge)
        kept = [*islice(refused, self._left), *_kept(rows, judge, place)]
        count, refused_bytes = self._refuse(judge, misfits, kept)
        counted = (metered, judge.rejected.lines, judge.nodata, judge.skipdata, count, header)
        self._balance += Balance(
            lines=sum(counted),
            header=header,
            metered=metered,
            rejected=judge.rejected.lines,
            nodata=judge.nodata,
            skipdata=judge.skipdata,
            refused=count,
            stated_bytes=metered_bytes + judge.rejected.bytes + refused_bytes,
            metered_bytes=metered_bytes,
            rejected_bytes=judge.rejected.bytes,
            refused_bytes=refused_bytes,
        )

    def full(self, read_bytes: int) -> Iterator[Block[FlowHop]]:
        """Yield a block if enough has been added, else nothing."""
        if self._sums.groups >= _MOST_GROUPS or self._balance.lines >= _MOST_LINES:
            yield from self.last(read_bytes)

    def last(self, read_bytes: int) -> Iterator[Block[FlowHop]]:
        """Yield a block of everything added since the last block, if anything."""
        if not self._balance.lines:
            return
        balance, self._balance = self._balance, Balance()
        kept, self._kept = self._kept, []
        refusals, self._refusals = self._refusals, {}
        yield Block(
            observations=self._sums.take(),
            refused=kept,
            refusals=refusals,
            balance=balance,
            read_bytes=read_bytes,
            fields=self._fields,
            shown=self._sums.shown(),
        )

    def _refuse(self, judge: RowJudge, misfits: Mapping[str, int], kept: list[RefusedLine]) -> tuple[int, int]:
        counts: dict[str, tuple[int, int]] = {reason: (lines, 0) for reason, lines in misfits.items()}
        for each in judge.refused:
            lines, total_bytes = counts.get(each.reason, (0, 0))
            counts[each.reason] = (lines + each.lines, total_bytes + each.bytes)
        kept = sorted(kept, key=lambda line: line.number)[: self._left]
        self._left -= len(kept)
        self._kept += kept
        for reason, (lines, total_bytes) in counts.items():
            before = self._refusals.get(reason, (0, 0))
            self._refusals[reason] = (before[0] + lines, before[1] + total_bytes)
        return sum(lines for lines, _ in counts.values()), sum(total_bytes for _, total_bytes in counts.values())


def _kept(rows: Rows, judge: RowJudge, place: Callable[[int], tuple[int, str]]) -> Iterator[RefusedLine]:
    for each in judge.refused:
        for row in each.rows:
            number, text = place(row)
            stated = rows.bytes[row].as_py() or 0
            yield RefusedLine(number, each.reason, each.detail, text, max(stated, 0))
