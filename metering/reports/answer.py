"""The shape of an answer: typed columns, rows, and what surrounds them in JSON and in a printed table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

Cell = str | int | bool | Decimal | None
Json = str | int | bool | None | Sequence["Json"] | Mapping[str, "Json"]
Kind = Literal["text", "bytes", "integer", "money", "flag", "time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of an answer.

    Attributes:
        name: Key of its values in a row.
        kind: `text`; `bytes` for an exact byte total (a decimal string in JSON); `integer` for counts that JSON can
            hold; `money` for Decimals; `flag`; `time` for RFC 3339 text.
        title: Heading in tables; the name if empty.
    """

    name: str
    kind: Kind = "text"
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of a command or request that reads.

    Attributes:
        columns: In the order of tables and CSV files.
        rows: Values by column name.
        document: The JSON form. None: `{**meta, "rows": rows}`.
        meta: Fields of the JSON document that stand next to its rows.
        title: Heading of the table.
        footer: Lines of plain text below the table.
    """

    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Cell]]
    document: Mapping[str, Json] | None = None
    meta: Mapping[str, Json] = field(default_factory=dict)
    title: str = ""
    footer: tuple[str, ...] = ()
