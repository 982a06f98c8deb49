"""Blocks of a flow log: what a reader hands over, made of the columns of several stretches of lines."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from metering.onramps.balance import Balance
from metering.onramps.formats.flows.judging import RowJudge
from metering.onramps.formats.flows.sums import FlowSums
from metering.onramps.formats.flows.texts import Texts
from metering.onramps.observations import Block, FlowHop, RefusedLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from metering.onramps.formats.flows.columns import Rows
    from metering.onramps.names import FileName
    from metering.onramps.reading import ReadSettings

# A block is handed over with this many groups, which bounds its memory, or lines, so that progress is seen. Groups of
# few stretches would be judged more often than they differ.
_MOST_GROUPS = 60_000
_MOST_LINES = 500_000


class BlockMaker:
    """Makes the blocks of one file, and keeps as many of its refused lines as the settings say."""

    def __init__(self, name: FileName, settings: ReadSettings) -> None:
        self._texts = Texts(name.account_id)
        self._sums = FlowSums(self._texts, settings.folding)
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
        """Add a stretch of lines.

        Args:
            rows: Its rows.
            fields: Fields that the log has there.
            header: Number of its header lines.
            misfits: Number of the lines that became no row, by the reason why.
            refused: These lines in order, as many as are asked for.
            place: Number of a row's line in the file, and its text.
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
        """A block if enough has been added for one, else nothing."""
        if self._sums.groups >= _MOST_GROUPS or self._balance.lines >= _MOST_LINES:
            yield from self.last(read_bytes)

    def last(self, read_bytes: int) -> Iterator[Block[FlowHop]]:
        """A block of what has been added, if anything has; `read_bytes` of the file have been read, as stored."""
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
        )

    def _refuse(self, judge: RowJudge, misfits: Mapping[str, int], kept: list[RefusedLine]) -> tuple[int, int]:
        """Count refused lines and their bytes, and keep the first of them."""
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
    """The rows that are refused, as far as they are kept."""
    for each in judge.refused:
        for row in each.rows:
            number, text = place(row)
            stated = rows.bytes[row].as_py() or 0
            yield RefusedLine(number, each.reason, each.detail, text, max(stated, 0))
