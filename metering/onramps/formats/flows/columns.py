"""Lines of a block as columns: texts as dictionaries, numbers as int64. Arrow parses; unparsable values stay null.

Arrow reads numbers in one step if all values of a block are numbers or `-`. Otherwise, it reads texts, and each text
that is not a number becomes null. Both ways give the same columns, so a line's verdict does not depend on other lines.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from metering.errors import LogFileRefusedError
from metering.onramps.formats.lines import PLACEHOLDER
from metering.onramps.reasons import FileReason
from metering.units import INT64_MAX

NUMBERS = ("bytes", "start", "end")
"""Fields without which nothing can be metered, all numbers."""
STATUS = "log-status"
ACTION = "action"
_OWNERS = ("interface-id", "resource-id", "instance-id")
# Names of future fields will have this form, too, like those of versions 2 to 11.
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_TRANSIT_GATEWAY = "tgw-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a flow log.

    Attributes:
        version: Version that introduced the field.
        type: Its type in Parquet: `STRING`, `INT_32` or `INT_64`.
        attribute: Attribute of `FlowHop` for this field; empty without such an attribute.
    """

    name: str
    version: int
    type: str
    attribute: str = ""


@cache
def fields() -> Mapping[str, Field]:
    """All known fields by name, in the order of their versions."""
    text = resources.files(__package__).joinpath("fields.json").read_text("utf-8")
    return {each["name"]: Field(**each) for each in json.loads(text)["fields"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Fields of the lines that follow a header.

    Attributes:
        names: AWS's names in order, including unknown names.
        texts: Column name -> attribute of `FlowHop`, or the field's own name, for fields that are read as text.
    """

    names: tuple[str, ...]
    texts: Mapping[str, str]


def layout_of(names: Sequence[str], *, account_id: str) -> Layout:
    """Layout of lines with these fields; `account_id` is the account in the file's name.

    Raises:
        LogFileRefusedError: A field that metering requires is missing, or occurs twice.
    """
    known = fields()
    if _TRANSIT_GATEWAY in names:
        detail = "fields of a transit gateway (transit-gateway flow log) follow lines of something else"
        raise LogFileRefusedError(FileReason.WRONG_FORMAT, detail)
    missing = [name for name in NUMBERS if name not in names]
    if not any(name in names for name in _OWNERS):
        missing.append(" or ".join(_OWNERS))
    if "account-id" not in names and not account_id:
        missing.append("account-id, which the file's name does not state either")
    if missing:
        raise LogFileRefusedError(FileReason.MISSING_FIELD, f"the log has no {'; no '.join(missing)}")
    texts = {name: known[name].attribute for name in names if name in known and known[name].attribute}
    texts |= {name: name for name in (STATUS, ACTION) if name in names}
    twice = sorted({name for name in (*texts, *NUMBERS) if names.count(name) > 1})
    if twice:
        raise LogFileRefusedError(FileReason.WRONG_FORMAT, f"the header names {', '.join(twice)} twice")
    return Layout(names=tuple(names), texts=texts)


def header_names(line: str) -> tuple[str, ...] | None:
    """Parse the field names of a header; None for any other line.

    A header has names in place of numbers, or consists of known names only.
    """
    names = tuple(line.split())
    if len(names) < 2 or not all(map(_NAME.fullmatch, names)):
        return None
    known = fields()
    return names if set(NUMBERS) <= set(names) or all(name in known for name in names) else None


WORDS = pa.dictionary(pa.int32(), pa.string())
_ABSENT = "-"
_PLAIN = "^[0-9]{1,18}$"
_NUMBER = re.compile(r"-?0*[0-9]{1,19}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of a log as columns.

    Attributes:
        words: Texts, as arrays of type `WORDS`, null if absent; by attribute of `FlowHop`, or by the name of any other
            field.
        bytes: Bytes as int64; null if not a number. Likewise `start` and `end`.
        unreadable: Mask of rows whose bytes are neither a number nor absent; None without such rows.
    """

    count: int
    words: Mapping[str, pa.DictionaryArray]
    bytes: pa.Int64Array
    start: pa.Int64Array
    end: pa.Int64Array
    unreadable: pa.BooleanArray | None = None
    _texts: dict[str, list[str]] = field(default_factory=dict, init=False, repr=False)

    def texts(self, name: str) -> list[str]:
        """Distinct texts of a column, in the order of its dictionary. The strings and their hashes are created once."""
        found = self._texts.get(name)
        if found is None:
            found = self._texts[name] = self.words[name].dictionary.to_pylist()
        return found


def parsed(data: bytes, layout: Layout, letters: frozenset[bytes]) -> tuple[Rows, dict[int, int]]:
    """Parse lines of a layout; `letters` are the rare characters that the lines may contain (`LineBlock`).

    Returns:
        The rows; and for lines with a wrong field count, index of the line in `data` -> field count.
    """
    # Arrow would also accept hexadecimal numbers and trim tabs.
    if b"\t" not in letters and not _may_have_hexadecimal(data, letters):
        try:
            table, misfits = _table(data, layout, pa.int64())
        except pa.ArrowInvalid:
            pass
        else:
            return _rows(table, layout, {name: _one(table.column(name)) for name in NUMBERS}, None), misfits
    filled, empty = _filled(data)
    table, misfits = _table(filled, layout, pa.string())
    misfits |= dict.fromkeys(empty, 0)
    numbers = {name: numbers_of(_one(table.column(name))) for name in NUMBERS}
    return _rows(table, layout, numbers, unreadable(_one(table.column("bytes")), numbers["bytes"])), misfits


def rows_with(
    column: pa.DictionaryArray, chosen: Callable[[str], bool], *, null: bool = False
) -> pa.BooleanArray | None:
    """Mask of rows with a chosen text and, if `null`, of rows without text; None if no row matches."""
    words = column.dictionary.to_pylist()
    return rows_of(column, [place for place, word in enumerate(words) if chosen(word)], null=null)


def rows_of(column: pa.DictionaryArray, places: Collection[int], *, null: bool = False) -> pa.BooleanArray | None:
    """Like `rows_with`, but for indices of the dictionary."""
    null = null and column.null_count > 0
    if not places:
        return column.is_null() if null else None
    found = pc.is_in(column.indices, pa.array(places, pa.int32()))
    return pc.or_(found, column.is_null()) if null else found


def _filled(data: bytes) -> tuple[bytes, list[int]]:
    """Replace empty lines by placeholders, because Arrow would read an empty line as a line of empty fields."""
    lines = data.split(b"\n")
    empty = [place for place, line in enumerate(lines[:-1]) if not line]
    for place in empty:
        lines[place] = PLACEHOLDER
    return (b"\n".join(lines) if empty else data), empty


def numbers_of(texts: pa.StringArray) -> pa.Int64Array:
    """Convert texts to int64, null for anything but a 64-bit number."""
    plain = pc.match_substring_regex(texts, _PLAIN).fill_null(False)
    numbers = pc.if_else(plain, texts, None).cast(pa.int64())
    odd = pc.and_(pc.invert(plain), texts.is_valid())
    found = [(row, _number(texts[row].as_py())) for row in pc.indices_nonzero(odd).to_pylist()]
    if not any(number is not None for _, number in found):
        return numbers
    return pc.replace_with_mask(numbers, odd, pa.array([number for _, number in found], pa.int64()))


def unreadable(texts: pa.Array, numbers: pa.Int64Array) -> pa.BooleanArray | None:
    """Mask of rows with a text that is not a number; None without such rows."""
    found = pc.and_(texts.is_valid(), numbers.is_null())
    return found if found.true_count else None


def _number(text: str) -> int | None:
    if _NUMBER.fullmatch(text) is None:
        return None
    number = int(text)
    return number if -INT64_MAX <= number <= INT64_MAX else None


def _may_have_hexadecimal(data: bytes, letters: frozenset[bytes]) -> bool:
    return any(letter in letters and b"0" + letter in data for letter in (b"x", b"X"))


def _table(data: bytes, layout: Layout, number: pa.DataType) -> tuple[pa.Table, dict[int, int]]:
    misfits: dict[int, int] = {}

    def note(row: csv.InvalidRow) -> str:
        misfits[row.number - 1] = row.actual_columns
        return "skip"

    types = dict.fromkeys(layout.texts, WORDS) | dict.fromkeys(NUMBERS, number)
    table = csv.read_csv(
        pa.BufferReader(data),
        # Arrow gives the line numbers of misfits only if a single block is parsed in one thread.
        read_options=csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=layout.names),
        parse_options=csv.ParseOptions(
            delimiter=" ", quote_char=False, ignore_empty_lines=False, invalid_row_handler=note
        ),
        convert_options=csv.ConvertOptions(
            # The encoding of the block has already been checked.
            check_utf8=False,
            column_types=types,
            include_columns=list(types),
            null_values=[_ABSENT],
            strings_can_be_null=True,
        ),
    )
    return table, misfits


def _rows(
    table: pa.Table, layout: Layout, numbers: Mapping[str, pa.Int64Array], unread: pa.BooleanArray | None
) -> Rows:
    words = {target: _one(table.column(name)) for name, target in layout.texts.items()}
    return Rows(count=table.num_rows, words=words, unreadable=unread, **numbers)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
