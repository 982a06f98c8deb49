"""One answer about several regions, made of one answer for each: their rows, one region after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from metering.reports.answer import KEEP, Answer, Column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.reports.answer import Cell, Json

REGION = "region"
_REGION_COLUMN = Column(name=REGION, text="copied", priority=KEEP)
_ROWS = "rows"


def regions_answer(parts: Mapping[str, Answer], *, newest: str = "", most: int | None = None) -> Answer:
    """Put the answers of regions below each other; the first column is `region`.

    In JSON, what stands beside the rows of a region stands in `regions`, by the region's name.

    Args:
        parts: Answer by region, in the order of their rows.
        newest: Column of times by which the rows of all regions are sorted, the newest first. Empty: region by region.
        most: Keep only so many rows. None: all.
    """
    columns = {column.name: column for part in parts.values() for column in part.columns if column.name != REGION}
    rows = _cut([_of(region, row) for region, part in parts.items() for row in part.rows], newest, most)
    titles = {part.title for part in parts.values()}
    documents = {region: part.document for region, part in parts.items() if part.document is not None}
    beside = {region: _beside(part) for region, part in parts.items()}
    return Answer(
        columns=(_REGION_COLUMN, *columns.values()),
        rows=rows,
        document={"regions": beside, **_document_rows(documents, newest, most)} if documents else None,
        meta={} if documents else {"regions": beside},
        title=titles.pop() if len(titles) == 1 else "",
        footer=tuple(_lines({region: part.footer for region, part in parts.items()})),
        empty=next((part.empty for part in parts.values()), ""),
        commands=tuple(dict.fromkeys(line for part in parts.values() for line in part.commands)),
    )


def _of(region: str, row: Mapping[str, Cell]) -> dict[str, Cell]:
    return {REGION: region, **{name: value for name, value in row.items() if name != REGION}}


def _beside(part: Answer) -> dict[str, Json]:
    whole = part.meta if part.document is None else part.document
    return {name: value for name, value in whole.items() if name != _ROWS or not _is_list(value)}


def _is_list(value: Json) -> bool:
    """Whether it is rows. In the figures of an hour, `rows` is one total beside others."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def _document_rows(documents: Mapping[str, Mapping[str, Json]], newest: str, most: int | None) -> dict[str, Json]:
    """The rows of answers whose JSON has a form of its own; nothing if that form has no rows."""
    if not any(_is_list(document.get(_ROWS)) for document in documents.values()):
        return {}
    rows = [
        _of(region, cast("Mapping[str, Cell]", row))
        for region, document in documents.items()
        for row in cast("Sequence[Mapping[str, Json]]", document.get(_ROWS, ()))
    ]
    return {_ROWS: cast("Json", _cut(rows, newest, most))}


def _cut(rows: list[dict[str, Cell]], newest: str, most: int | None) -> list[dict[str, Cell]]:
    if newest:
        rows.sort(key=lambda row: str(row[newest]), reverse=True)
    return rows if most is None else rows[:most]


def _lines(footers: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines below the table: once if all regions have it, else with the region's name."""
    common = [line for line in next(iter(footers.values()), ()) if all(line in lines for lines in footers.values())]
    own = [f"{region}: {line}" for region, lines in footers.items() for line in lines if line not in common]
    return [*own, *common]
