"""JSON of any size, read member by member: at no time more than one member of a large object is held."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, NoReturn, TextIO

from metering.billing.documents.strict_json import DocumentRefusedError
from metering.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_CHARS = 256 * KIB
MOST_MEMBER_CHARS = 4 * MIB
"""A product or its terms have some thousand characters."""
MOST_MEMBERS = 500_000
_MOST_DEPTH = 8
_SPACE = " \t\n\r"


class JsonStream:
    """A position in a JSON text.

    The members of an object are read by `members`; after each of its names, one of `value` and `members` must take the
    member's value. Names that stand twice in an object are kept in `twice`.

    Args:
        file: The text.
        what: Its name, for errors.
    """

    def __init__(self, file: TextIO, what: str) -> None:
        self.twice: list[str] = []
        self._file = file
        self._what = what
        self._text = ""
        self._at = 0
        self._ended = False
        self._depth = 0
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._once, parse_float=Decimal, parse_constant=_refuse_constant
        )

    def peek(self) -> str:
        """The next character that is no space, without taking it; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def members(self) -> Iterator[str]:
        """Names of the members of the object at this position, in order.

        Raises:
            DocumentRefusedError: It is no JSON, ends too early, or is too large.
        """
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            self._refuse("it is nested too deeply")
        self._take("{")
        names: set[str] = set()
        while self.peek() != "}":
            if names:
                self._take(",")
            name = self.value()
            if not isinstance(name, str):
                self._refuse("the name of a member is no text")
            if name in names:
                self.twice.append(name)
            names.add(name)
            if len(names) > MOST_MEMBERS:
                self._refuse(f"an object has more than {MOST_MEMBERS:,} members")
            self._take(":")
            yield name
        self._take("}")
        self._depth -= 1

    def value(self) -> object:
        """The value at this position, as a whole.

        Raises:
            DocumentRefusedError: As for `members`.
        """
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                self._refuse("it is nested too deeply")
            except (ValueError, ArithmeticError) as error:
                self._read_on(str(error))
                continue
            # A number at the end of what was read may go on.
            if end == len(self._text) and self._more():
                continue
            self._at = end
            return value

    def end(self) -> None:
        """Check that nothing follows.

        Raises:
            DocumentRefusedError: Something does, or a name stood twice in one object.
        """
        if self.peek():
            self._refuse("something follows the end of its object")
        if self.twice:
            named = dict.fromkeys(self.twice)
            raise DocumentRefusedError(self._what, [f"the key {name!r} stands twice in one object" for name in named])

    def _read_on(self, problem: str) -> None:
        """Read more, if what was read so far may be the beginning of a value."""
        if len(self._text) - self._at > MOST_MEMBER_CHARS:
            self._refuse(f"it is no JSON, or one of its members has more than {MOST_MEMBER_CHARS:,} characters")
        if not self._more():
            self._refuse(f"it is no JSON, or it is cut off ({problem})")

    def _more(self) -> bool:
        if self._ended:
            return False
        # As much as is held already, so that a long member is not tried again and again.
        wanted = max(CHUNK_CHARS, len(self._text) - self._at)
        try:
            chunk = self._file.read(wanted)
        except UnicodeDecodeError as error:
            raise DocumentRefusedError(self._what, [f"it is no UTF-8 ({error.reason})"]) from error
        self._ended = not chunk
        self._text = self._text[self._at :] + chunk
        self._at = 0
        return bool(chunk)

    def _take(self, sign: str) -> None:
        found = self.peek()
        if found != sign:
            self._refuse(f"{sign!r} is missing" if found else "it is cut off")
        self._at += 1

    def _once(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            self.twice.extend(name for name, count in counts.items() if count > 1)
        return made

    def _refuse(self, problem: str) -> NoReturn:
        raise DocumentRefusedError(self._what, [problem])


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
