"""Lines of CloudFront standard logs: W3C with `#Fields`, plain with a line of names, JSON, and raw with names given.

Version 2 lets its owner choose the fields and what stands between them. A file says the first in its header; the second
follows from its first line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from metering.errors import LogFileRefusedError
from metering.onramps.cloudfront.rows import LEGACY_FIELDS, SENT, USED_FIELDS, EdgeTransfer, RowJudge
from metering.onramps.reasons import FileReason, LineReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.onramps.rows.tally import Tally

LEGACY, V2 = "legacy", "v2"
_FIELDS = "#Fields:"
_DELIMITERS = ("\t", ",", " ", "|", ";")
_BETWEEN_NAMES = re.compile(r"[\s,|;]+")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9()_-]*")
_USED = frozenset(USED_FIELDS)
_decode_json = msgspec.json.Decoder(dict[str, object]).decode


class TextJudge:
    """`LineJudge` of one file.

    Args:
        fields: Names of the fields of a file without a header; empty if it has one.
        known_as_v2: Whether the file's key says that it is of version 2.
    """

    def __init__(self, fields: Sequence[str], *, known_as_v2: bool) -> None:
        self._known_as_v2 = known_as_v2
        self._names: tuple[str, ...] = ()
        self._places: dict[str, int] = {}
        self._delimiter = ""
        self._rows: RowJudge | None = None
        self._json_rows: RowJudge | None = None
        if fields:
            self._know(fields)

    def judge(self, number: int, line: str, tally: Tally[EdgeTransfer]) -> None:
        if line.startswith("#"):
            if line.startswith(_FIELDS):
                self._know(_names(line.removeprefix(_FIELDS)))
            tally.header()
        elif line.startswith("{"):
            self._judge_json(number, line, tally)
        elif _is_header(line):
            self._know(_names(line))
            tally.header()
        else:
            self._judge_fields(number, line, tally)

    def _know(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        legacy = self._names == LEGACY_FIELDS and not self._known_as_v2
        self._rows = RowJudge(self._names, LEGACY if legacy else V2)
        self._places = {name: place for place, name in enumerate(self._names) if name in _USED}
        self._delimiter = ""

    def _judge_fields(self, number: int, line: str, tally: Tally[EdgeTransfer]) -> None:
        if self._rows is None and self._json_rows is not None:
            tally.refuse(
                number, LineReason.INVALID_VALUE, "the line is no JSON object, as others of the file are", line
            )
            return
        if self._rows is None:
            detail = "no line names the fields: give them with --fields, in the order of the delivery"
            raise LogFileRefusedError(FileReason.NO_HEADER, detail)
        if not self._delimiter:
            self._delimiter = next((each for each in _DELIMITERS if line.count(each) + 1 == len(self._names)), "")
        values = line.split(self._delimiter) if self._delimiter else [line]
        if len(values) != len(self._names):
            detail = f"{len(values)} fields, and the file has {len(self._names)}"
            tally.refuse(number, LineReason.FIELD_COUNT, detail, line)
            return
        places = self._places
        self._rows.judge(number, line, lambda name: values[places[name]] if name in places else "", tally)

    def _judge_json(self, number: int, line: str, tally: Tally[EdgeTransfer]) -> None:
        try:
            document = _decode_json(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            tally.refuse(number, LineReason.INVALID_VALUE, f"the line is no JSON: {error}", line)
            return
        if self._json_rows is None:
            self._json_rows = RowJudge(document, V2)
        self._json_rows.judge(number, line, _value_in(document), tally)


def _value_in(document: dict[str, object]) -> Callable[[str], str]:
    def value(name: str) -> str:
        found = document.get(name, "")
        return found if isinstance(found, str) else str(found) if isinstance(found, int | float) else ""

    return value


def _names(text: str) -> list[str]:
    return [name for name in _BETWEEN_NAMES.split(text.strip()) if name]


def _is_header(line: str) -> bool:
    """Whether a line has names of fields where others have values: the bytes of a request are no name."""
    if SENT not in line:
        return False
    names = _names(line)
    return SENT in names and all(map(_NAME.fullmatch, names))
