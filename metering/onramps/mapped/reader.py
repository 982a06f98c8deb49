"""Reader of logs that a mapping describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metering.intake.instants import HOUR_US, SECOND_US
from metering.onramps.mapped.rows import Unreadable, rows_of
from metering.onramps.mapped.values import text_of
from metering.onramps.reasons import LineReason
from metering.onramps.rows.line_reader import read_lines
from metering.onramps.rows.tally import Moved
from metering.onramps.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from metering.onramps.mapped.document import Mapping
    from metering.onramps.mapped.values import Row
    from metering.onramps.names import FileName
    from metering.onramps.observations import Block
    from metering.onramps.reading import ReadSettings
    from metering.onramps.rows.tally import Tally

_TEXTS = ("account", "service", "resource", "direction", "from", "to", "usage_type")


class _Problem(NamedTuple):
    reason: LineReason
    detail: str


def read_mapped_log(
    mapping: Mapping, stream: BinaryIO, name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object]
) -> Iterator[Block[Traffic]]:
    """Read a file (`LogReader`, once its mapping is given)."""
    return read_lines(stream, settings, digest, _Lines(mapping, name))


class _Lines:
    """`LineJudge` of one file."""

    def __init__(self, mapping: Mapping, name: FileName) -> None:
        self._mapping = mapping
        self._account_id = name.account_id
        self._rows = rows_of(mapping)

    def judge(self, number: int, line: str, tally: Tally[Traffic]) -> None:
        row = self._rows.row(number, line)
        if row is None:
            tally.header()
            return
        if isinstance(row, Unreadable):
            reason, detail = row
            tally.refuse(number, reason, detail, line)
            return
        size_bytes = self._bytes(row)
        stated_bytes = size_bytes if isinstance(size_bytes, int) else 0
        if not self._passes(row):
            tally.rejected(stated_bytes)
            return
        times = self._times(row)
        traffic = self._traffic(row)
        if isinstance(size_bytes, _Problem) or isinstance(times, _Problem) or isinstance(traffic, _Problem):
            problem = next(each for each in (size_bytes, times, traffic) if isinstance(each, _Problem))
            tally.refuse(number, problem.reason, problem.detail, line, stated_bytes)
            return
        tally.metered([Moved(traffic, size_bytes)], *times)

    def _passes(self, row: Row) -> bool:
        return all((text_of(row(each.column)) in each.values) == each.keep for each in self._mapping.filters)

    def _bytes(self, row: Row) -> int | _Problem:
        try:
            return self._mapping.bytes.of(row)
        except ValueError as error:
            return _Problem(LineReason.INVALID_NUMBER, str(error))

    def _traffic(self, row: Row) -> Traffic | _Problem:
        texts = self._mapping.texts
        try:
            values = [texts[name].of(row) if name in texts else "" for name in _TEXTS]
        except ValueError as error:
            return _Problem(LineReason.INVALID_VALUE, str(error))
        return Traffic(values[0] or self._account_id, *values[1:])

    def _times(self, row: Row) -> tuple[int, int] | _Problem:
        """Start and end in whole seconds, fractions cut off."""
        try:
            start_us = self._mapping.start.of(row)
            end_us = start_us
            if self._mapping.end is not None:
                end_us = self._mapping.end.of(row)
            elif self._mapping.duration is not None:
                end_us = start_us + self._mapping.duration.of(row)
        except ValueError as error:
            return _Problem(LineReason.INVALID_TIME, str(error))
        if end_us < start_us:
            return _Problem(LineReason.INVALID_TIME, "it ends before it starts")
        if end_us - start_us > HOUR_US:
            detail = f"it takes {(end_us - start_us) // SECOND_US} s: a record spans an hour at most"
            return _Problem(LineReason.SPANS_OVER_AN_HOUR, detail)
        return start_us // SECOND_US, end_us // SECOND_US
