"""The shape of an answer: typed columns, rows, and what surrounds them in JSON and in a printed table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

Cell = str | int | bool | Decimal | None
Json = str | int | bool | None | Sequence["Json"] | Mapping[str, "Json"]
Kind = Literal["text", "bytes", "whole", "integer", "money", "flag", "time"]
TextForm = Literal["short", "copied", "prose", "number", "time"]

KEEP = 1
"""Priority of a column that no table leaves out."""
USUAL = 2
"""Priority of a column that goes only where the window is very narrow."""
ROOMY = 3
"""Priority of a column for windows with room for it. Greater numbers go earlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of an answer.

    Attributes:
        name: Key of its values in a row.
        kind: `text`; `bytes` for an exact byte total (a decimal string in JSON); `whole` for a whole number of any size
            that need not be bytes (likewise); `integer` for counts that JSON can hold; `money` for Decimals; `flag`;
            `time` for RFC 3339 text.
        title: Heading in tables; the name if empty.
        text: How a text is printed. `copied` is what people copy (ids, keys, names of files, commands): never cut or
            broken, and of an integer without groups. `prose` is wrapped between its words. `short` is shortened in the
            middle where the window is narrow. `number` and `time` are texts that hold a number or a time of SQL.
        priority: Which columns a narrow table leaves out: those of the greatest number first, and of equal ones the
            rightmost. `KEEP` never goes.
        sized: Print a size beside the exact number of bytes, such as `19.4 PB`. None: if the kind is `bytes`.
        about: Words of explanation where a row stands upright.
    """

    name: str
    kind: Kind = "text"
    title: str = ""
    text: TextForm = "short"
    priority: int = USUAL
    sized: bool | None = None
    about: str = ""

    @property
    def heading(self) -> str:
        return self.title or self.name

    @property
    def shows_size(self) -> bool:
        return self.kind == "bytes" if self.sized is None else self.sized


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of a command or request that reads.

    Printed, a single row stands upright if the answer has a `document` of its own (then it is one thing, not a list of
    one) or more than four columns.

    Attributes:
        columns: In the order of tables and CSV files.
        rows: Values by column name.
        document: The JSON form. None: `{**meta, "rows": rows}`.
        meta: Fields of the JSON document that stand next to its rows.
        title: Heading of the table.
        footer: Lines of plain text below the table, wrapped between words. A command in backticks, or after a colon at
            the end of a line, stays whole.
        others: One further row, the sum of the rows that were left out; in JSON it stands among `meta`.
        empty: What to say in place of a table without rows.
        commands: What to type next, each whole on a line of its own.
    """

    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Cell]]
    document: Mapping[str, Json] | None = None
    meta: Mapping[str, Json] = field(default_factory=dict)
    title: str = ""
    footer: tuple[str, ...] = ()
    others: Mapping[str, Cell] | None = None
    empty: str = "Nothing to show."
    commands: tuple[str, ...] = ()

    def rows_and_others(self) -> Iterator[Mapping[str, Cell]]:
        """The rows, and then the sum of the others if some were left out: together the whole."""
        yield from self.rows
        if self.others is not None:
            yield self.others
