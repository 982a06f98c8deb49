"""Lines of several regions, rated together: a region's part of a line keeps the place that it has in the whole."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from metering.billing.rating.lines import RatedLine
    from metering.billing.rating.rater import Rater
    from metering.billing.usage.ports import UsageLine

_Part = tuple["UsageLine", str]


def regions_rated(lines: Iterable[_Part], rater: Rater) -> Iterator[tuple[str, RatedLine]]:
    """Rate lines of several regions, in the order of rating. A key in two regions is one line when it is cut."""
    for _, same in groupby(lines, key=lambda part: part[0].key):
        parts = list(same)
        whole = parts[0][0]._replace(bytes=sum(line.bytes for line, _ in parts))
        yield from _allotted(rater.rate(whole), parts)


def _allotted(pieces: Iterable[RatedLine], parts: Sequence[_Part]) -> Iterator[tuple[str, RatedLine]]:
    """Pieces of one line for the regions that have it, the first region's bytes first."""
    waiting = iter(parts)
    line, region = next(waiting)
    left = line.bytes
    for piece in pieces:
        size = piece.line.bytes
        while size > left:
            if left:
                yield region, piece._replace(line=piece.line._replace(bytes=left))
                size -= left
            line, region = next(waiting)
            left = line.bytes
        yield region, piece._replace(line=piece.line._replace(bytes=size))
        left -= size
