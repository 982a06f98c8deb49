"""The rows of a line: their totals by batch, and the files that they are in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.lake.rows import USAGE_COLUMNS, RowQuery, batches_of, usage_of
from metering.reports.usage_rows import matching
from metering.usage.totals import ZERO, Total, add_totals, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metering.lake.ports import LakeReader
    from metering.lake.rows import Group
    from metering.ledger.row_sources import RowSource
    from metering.reports.query import UsageQuery
    from metering.reports.usage_rows import Values

# Threads that read files of an hour side by side.
_READERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FileShare:
    """One object that holds rows of a line.

    Attributes:
        key: Key of the lake file or staging object.
        staged: It is a staging object: its rows are in no lake file yet.
        total: Its rows of the line.
    """

    key: str
    staged: bool
    total: Total


@dataclass(frozen=True, slots=True, kw_only=True)
class HourRows:
    """Rows of a line in one booked hour, all counted from the rows.

    Attributes:
        usage: By key: the columns of `KEY_COLUMNS`.
        batches: By batch id.
        whole: Of the same batches, all of their rows of this hour, whatever line they are on.
        files: In the order of their keys; lake files first.
    """

    hour_s: int
    usage: Mapping[Values, Total] = field(default_factory=dict)
    batches: Mapping[str, Total] = field(default_factory=dict)
    whole: Mapping[str, Total] = field(default_factory=dict)
    files: tuple[FileShare, ...] = ()

    @property
    def total(self) -> Total:
        return sum_totals(self.batches.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class LineReader:
    """Reads the rows of a line.

    Attributes:
        query: The line: `TraceParameters.query`.
    """

    reader: LakeReader
    query: UsageQuery

    def hour(self, hour_s: int, sources: Sequence[RowSource]) -> HourRows:
        """Rows of the line in an hour whose rows are in these sources.

        Raises:
            ObjectMissingError: An object is gone.
            ObjectDamagedError: An object cannot be decoded.
        """
        with ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(lambda source: self._source(hour_s, source), sources))
        usage: dict[Values, Total] = {}
        batches: dict[str, Total] = {}
        whole: dict[str, Total] = {}
        files: list[FileShare] = []
        for source, part in zip(sources, found, strict=True):
            add_totals(usage, part.usage)
            add_totals(batches, part.batches)
            add_totals(whole, part.whole)
            if part.batches:
                files.append(FileShare(key=source.key, staged=source.staged, total=part.total))
        files.sort(key=lambda file: (file.staged, file.key))
        return HourRows(hour_s=hour_s, usage=usage, batches=batches, whole=whole, files=tuple(files))

    def _source(self, hour_s: int, source: RowSource) -> HourRows:
        # `matching` drops what the other filters do not let through.
        where = (("account_id", self.query.accounts),)
        groups = self.reader.totals([source], RowQuery(columns=(*USAGE_COLUMNS, "batch_id"), where=where))
        usage: dict[Values, Total] = {}
        batches: dict[str, Total] = {}
        for group, total in groups.items():
            for values, matched in self._of_line(hour_s, group, total):
                add_totals(usage, {values: matched})
                add_totals(batches, {str(group[-1]): matched})
        # A batch has all of its rows of an hour in one object, because they came in one commit.
        return HourRows(hour_s=hour_s, usage=usage, batches=batches, whole=self._whole(source, frozenset(batches)))

    def _of_line(self, hour_s: int, group: Group, total: Total) -> Iterable[tuple[Values, Total]]:
        usage = usage_of(hour_s, {group[: len(USAGE_COLUMNS)]: total})
        return matching(usage.items(), self.query)

    def _whole(self, source: RowSource, batch_ids: frozenset[str]) -> dict[str, Total]:
        if not batch_ids:
            return {}
        query = RowQuery(columns=("batch_id",), where=(("batch_id", batch_ids),))
        return batches_of(self.reader.totals([source], query))


def without_rows(hour_s: int) -> HourRows:
    """An hour in which the line has no rows."""
    return HourRows(hour_s=hour_s)


def difference(expected: Mapping[Values, Total], found: Mapping[Values, Total]) -> dict[Values, tuple[Total, Total]]:
    """Both figures of each key that differs; keys that neither has count as nothing."""
    pairs = {key: (expected.get(key, ZERO), found.get(key, ZERO)) for key in sorted({*expected, *found})}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
