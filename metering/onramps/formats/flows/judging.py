"""Verdicts on the rows of a block, column by column: metered, rejected, without data, or refused with a reason.

A row gets the first verdict that fits, in the order of `RowJudge.judge`. Texts are checked once for each distinct one.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from metering.intake.formats.columns import exact_sum
from metering.onramps.formats.flows.columns import ACTION, STATUS, Rows, rows_of, rows_with
from metering.onramps.reasons import LineReason
from metering.units import HOUR_S, INT64_MAX
from metering.usage.usage_types import is_region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa


_ACCOUNT = re.compile(r"[0-9]{12}")
_UNKNOWN = "unknown"
# Maximum length of a resource id (docs/contract.md). No flow log text that is used is longer.
_MAX_CHARS = 512
# This many valid texts are cached. The cache is bounded, because internet addresses are unbounded.
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
    """Checks the texts of one file, block after block. A line without an account has that of the file's name."""

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


# Times of 13 digits are in milliseconds, contrary to AWS's documentation. All other times have at most 10 digits until
# the year 2286.
_MILLISECONDS_FROM = 10**12
_TIMES_BELOW_S = 10**10


class RefusedRows(NamedTuple):
    """Rows that are refused for one reason: the first of them, the number of all, and the bytes that all state."""

    rows: list[int]
    reason: str
    detail: str
    lines: int
    bytes: int


class Counted(NamedTuple):
    """Number of rows, and the bytes that they state."""

    lines: int = 0
    bytes: int = 0


class RowJudge:
    """Judges the rows of one block. `judge` leaves the metered ones in `live`, and their times in `start` and `end`.

    Attributes:
        live: Rows without a verdict so far; None stands for all.
        start: Start of each row in epoch seconds; right where a row is live. So for `end`.
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
            # A log without a status field shows by absent bytes that there was no traffic.
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
        # Rows that are already refused may have any numbers, so their difference may wrap; it is not used.
        spans = pc.subtract(self.end, self.start)
        if _within(spans, 0, HOUR_S):
            return
        self._refuse(pc.less(spans, 0).fill_null(False), LineReason.INVALID_TIME, "end is before start")
        long = pc.greater(spans, HOUR_S).fill_null(False)
        self._refuse(long, LineReason.SPANS_OVER_AN_HOUR, "from start to end is more than an hour")

    def _taken(self, mask: pa.BooleanArray | None) -> pa.BooleanArray | None:
        """The live rows of `mask`, which are live no longer; None if there are none."""
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
