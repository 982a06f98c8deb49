"""What a picture shows of an answer: exact sums by time and by the largest values of one more column."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.reports.parameters import InvalidParametersError, ParameterProblem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.reports.answer import Answer, Cell

TIMES = ("hour", "day", "month")
# The tenth colour is for the rest: more than ten are hard to tell apart.
MOST_SERIES = 9
MOST_TIMES = 3_000
_FIGURES = frozenset(
    {"bytes", "records", "quantity_gb", "cost_usd", "blended_cost_usd", "unpriced_bytes", "unrated_bytes"}
)
_SHAPE = "Group by one of hour, day and month, and by at most one column more: --group-by day,usage_type"

Number = int | Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which columns of an answer become which parts of a picture.

    Attributes:
        time: `hour`, `day` or `month`.
        series: The other column; empty if there is none.
        value: The column of figures that is drawn.
    """

    time: str
    series: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Exact sums of a picture.

    Attributes:
        series: Names from the largest sum to the smallest; the rest, if there is one, is the last.
        sums: Time, as RFC 3339 in UTC -> name -> sum, in the order of time.
        rest: How many values of the other column the rest is made of.
    """

    layout: Layout
    series: tuple[str, ...]
    sums: Mapping[str, Mapping[str, Number]]
    rest: int = 0

    @property
    def total(self) -> Number:
        """Sum of all bars."""
        return sum(size for names in self.sums.values() for size in names.values())

    @property
    def highest(self) -> Number:
        """The highest bar."""
        return max((sum(names.values()) for names in self.sums.values()), default=0)


def layout_of(columns: Sequence[str], *, value: str) -> Layout:
    """What a picture of an answer with these columns shows.

    Args:
        columns: Columns that name the rows, in order.
        value: The column of figures that is drawn.

    Raises:
        InvalidParametersError: No picture has room for them.
    """
    times = [name for name in columns if name in TIMES]
    others = [name for name in columns if name not in TIMES and name not in _FIGURES]
    if len(times) != 1:
        problem = "has no column of time." if not times else "has several columns of time."
        raise InvalidParametersError([_problem(columns, problem)])
    if len(others) > 1:
        raise InvalidParametersError([_problem(columns, f"has {len(others)} columns beside the time.")])
    return Layout(time=times[0], series=others[0] if others else "", value=value)


def bars_of(answer: Answer, layout: Layout) -> Bars:
    """The sums of an answer's rows. Rows without a figure (a cost that is not known) are left out.

    Raises:
        InvalidParametersError: There are more times than a picture has room for.
    """
    sums: dict[str, dict[str, Number]] = defaultdict(dict)
    of_series: dict[str, Number] = {}
    for row in answer.rows:
        value = row[layout.value]
        if not isinstance(value, int | Decimal):
            continue
        name = _name(row, layout)
        into = sums[_utc(str(row[layout.time]))]
        into[name] = into.get(name, 0) + value
        of_series[name] = of_series.get(name, 0) + value
    if len(sums) > MOST_TIMES:
        problem = f"are {len(sums):,}, and a picture has room for {MOST_TIMES:,}."
        advice = "Group by a longer time, or ask for a shorter range."
        raise InvalidParametersError(
            [ParameterProblem(parameter="plot", value=f"times by {layout.time}", problem=problem, advice=advice)]
        )
    ranked = sorted(of_series, key=lambda name: (-of_series[name], name))
    shown = _shown(ranked, of_series)
    rest = len(ranked) - len(shown)
    other = _rest_name(rest, frozenset(shown))
    return Bars(
        layout=layout,
        series=(*shown, *([other] if rest else [])),
        sums={time: _cut(sums[time], frozenset(shown), other) for time in sorted(sums)},
        rest=rest,
    )


def _shown(ranked: Sequence[str], sums: Mapping[str, Number]) -> Sequence[str]:
    """Names with a colour of their own: what sums to nothing cannot be seen, and would fill the legend."""
    seen = [name for name in ranked if sums[name]] or ranked
    everything = len(seen) == len(ranked) <= MOST_SERIES + 1
    return seen if everything else seen[:MOST_SERIES]


def _cut(names: Mapping[str, Number], shown: frozenset[str], other: str) -> dict[str, Number]:
    cut: dict[str, Number] = {}
    for name, size in names.items():
        place = name if name in shown else other
        cut[place] = cut.get(place, 0) + size
    return cut


def _rest_name(rest: int, taken: frozenset[str]) -> str:
    name = f"{rest:,} others"
    return name if name not in taken else f"{name} (summed)"


def _name(row: Mapping[str, Cell], layout: Layout) -> str:
    if not layout.series:
        return layout.value
    return str(row[layout.series] or "") or "none"


def _utc(label: str) -> str:
    """A label as a moment in UTC. A day or month of another zone keeps its date."""
    moment = datetime.fromisoformat(f"{label}-01" if len(label) == len("2026-11") else label)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return rfc3339(int(aware.timestamp()))


def _problem(columns: Sequence[str], problem: str) -> ParameterProblem:
    return ParameterProblem(parameter="group_by", value=",".join(columns), problem=problem, advice=_SHAPE)
