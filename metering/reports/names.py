"""Names that a report was asked for and did not find, with the nearest ones that its range has.

The report itself says exactly which names it lacks. What stands near them is searched in the lake, newest hours first,
and only so far: a wrong digit must not cost the reading of a month.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING

from metering.hours import hour_of
from metering.lake.rows import RowQuery
from metering.ledger.notes.canary_batches import of_canary
from metering.reports.source import naming

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metering.lake.view import LakeView
    from metering.ledger.row_sources import HourState, RowSource
    from metering.reports.query import UsageQuery
    from metering.reports.source import ReportSource
    from metering.reports.usage_rows import Seen

_COLUMN_OF = {
    "account": "account_id",
    "service": "service",
    "usage_type": "usage_type",
    "from_location": "from_location",
    "to_location": "to_location",
}
# A few seconds of reading: the columns of names are small, and each object costs a request.
_MOST_ROWS = 5_000_000
_MOST_OBJECTS = 200
_MOST_NAMES = 200_000
_NEAREST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingName:
    """A name that no counted row has.

    Attributes:
        parameter: The filter that named it, such as `account`.
        value: The name.
        nearest: The most similar names of the range, most similar first.
        elsewhere: The range does have the name, but not together with the report's other filters.
        cut: The search for names ended before it had seen the whole range.
    """

    parameter: str
    value: str
    nearest: tuple[str, ...] = ()
    elsewhere: bool = False
    cut: bool = False


def missing_names(sources: Sequence[ReportSource], query: UsageQuery, seen: Seen) -> list[MissingName]:
    """The names that the report did not find, in the order of its parameters.

    Raises:
        UnavailableError: An hour could not be read.
    """
    if seen.complete:
        return []
    missing = seen.missing()
    search = _Search(columns=tuple(_COLUMN_OF[parameter] for parameter in missing))
    for source in sources:
        with naming(source.region):
            search.read(source, from_s=hour_of(query.from_s), to_s=query.to_s)
    return [
        _missing(parameter, value, names, cut=search.cut)
        for (parameter, values), names in zip(missing.items(), search.names.values(), strict=True)
        for value in values
    ]


def _missing(parameter: str, value: str, names: Iterable[str], *, cut: bool) -> MissingName:
    by_small = {name.lower(): name for name in names}
    if by_small.get(value.lower()) == value:
        return MissingName(parameter=parameter, value=value, elsewhere=True, cut=cut)
    near = get_close_matches(value.lower(), by_small, n=_NEAREST)
    return MissingName(parameter=parameter, value=value, nearest=tuple(by_small[name] for name in near), cut=cut)


@dataclass(slots=True, kw_only=True)
class _Search:
    """Collects names until a limit is reached. Mutable."""

    columns: tuple[str, ...]
    names: dict[str, set[str]] = field(init=False)
    rows: int = 0
    objects: int = 0
    cut: bool = False

    def __post_init__(self) -> None:
        self.names = {column: set() for column in self.columns}

    def read(self, source: ReportSource, *, from_s: int, to_s: int) -> None:
        view = source.view
        for hour_s in reversed(view.hours(from_s=from_s, to_s=to_s)):
            if self._is_over():
                self.cut = True
                return
            source.meter.hours()
            for column, names in view.read(hour_s, lambda state: self._names(view, state)).items():
                self.names[column] |= names

    def _names(self, view: LakeView, state: HourState) -> Mapping[str, set[str]]:
        sources: list[RowSource] = []
        for source in state.sources:
            if self._is_over():
                self.cut = True
                break
            sources.append(source)
            self.rows += source.rows
            self.objects += 1
        groups = view.reader.totals(sources, RowQuery(columns=self.columns))
        return {
            column: {str(group[place]) for group in groups if not of_canary(str(group[place]))}
            for place, column in enumerate(self.columns)
        }

    def _is_over(self) -> bool:
        found = sum(map(len, self.names.values()))
        return self.rows >= _MOST_ROWS or self.objects >= _MOST_OBJECTS or found >= _MOST_NAMES
