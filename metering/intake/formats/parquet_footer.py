"""Footer and page headers of a Parquet file, checked before Arrow reads the file.

Arrow trusts both. Arrow allocates the two gigabytes that a page of ten bytes may claim, and some damaged footers crash
the process. So footer and page headers are first read here, as parquet.thrift defines, and must agree with each other
and with the file's size.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

from metering.intake.work import Reason, Work, refusal
from metering.units import KIB, MIB

_MAX_DEPTH = 12
_MAX_VARINT_BYTES = 10
_LAST_BYTE = 0x80
_LONG_LIST = 15

# Thrift's type codes for fields and elements.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_INTEGERS = frozenset((_I16, _I32, _I64))

Value = int | bytes | list["Value"] | dict[int, "Value"]
Structure = dict[int, Value]
"""The fields of a structure by their number."""


class CompactReader:
    """Reads Thrift structures one after another; `position` is the first byte after the last structure read.

    Raises:
        IndexError: The data ends within a Thrift structure.
        BatchRefusedError: The data is not a Thrift structure.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def structure(self, depth: int = 0) -> Structure:
        """The next structure."""
        if depth > _MAX_DEPTH:
            raise broken("nested too deeply")
        fields: Structure = {}
        number = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 0x0F
            number = number + delta if delta else self._signed()
            # A boolean field has no value bytes, because its type is its value.
            fields[number] = int(kind == _TRUE) if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Value:
        if kind in _INTEGERS:
            return self._signed()
        if kind == _BINARY:
            return self._bytes(self._unsigned())
        if kind == _STRUCT:
            return self.structure(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth + 1)
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        raise broken("a field of an unknown type")

    def _list(self, depth: int) -> list[Value]:
        head = self._byte()
        count, kind = head >> 4, head & 0x0F
        if count == _LONG_LIST:
            count = self._unsigned()
        if depth > _MAX_DEPTH:
            raise broken("nested too deeply")
        if count > len(self._data) - self.position:
            # A list has at most as many elements as bytes, because each element has at least one byte.
            raise IndexError
        return [self._value(kind, depth) for _ in range(count)]

    def _bytes(self, size: int) -> bytes:
        self.position += size
        if self.position > len(self._data):
            raise IndexError
        return self._data[self.position - size : self.position]

    def _byte(self) -> int:
        value = self._data[self.position]
        self.position += 1
        return value

    def _unsigned(self) -> int:
        value = 0
        for place in range(_MAX_VARINT_BYTES):
            byte = self._byte()
            value |= (byte & 0x7F) << (7 * place)
            if byte < _LAST_BYTE:
                return value
        raise broken("a number that is too long")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


def broken(detail: str) -> Exception:
    """Error that refuses a file with damaged metadata."""
    return refusal(Reason.PARQUET_UNREADABLE, f"Parquet's metadata: {detail}")


def integer(fields: Structure, number: int) -> int:
    """Value of a required numeric field."""
    value = fields.get(number)
    if not isinstance(value, int):
        raise broken("a number is missing")
    return value


def structures(value: Value | None) -> list[Structure]:
    """The list of structures in a field; empty if the field is absent."""
    found = [] if value is None else value
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise broken("a list of structures is missing")
    return [each for each in found if isinstance(each, dict)]


# The footer of a file with 50,000 rows in a hundred row groups has about 100 KiB.
FOOTER_BYTES = 2 * MIB
# The magic number at both ends of the file (4 bytes each) plus the footer's length (4 bytes).
_SMALLEST_BYTES = 12
_TAIL_BYTES = 8
_MAGIC = b"PAR1"
_ENCRYPTED_MAGIC = b"PARE"
# Statistics may put two whole values into a page header; real headers stay far below this size.
_HEADER_BYTES = 256 * KIB
_FIRST_READ_BYTES = 128
_MAX_NESTING = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Part of a column in row group number `group`. `offset` is its first page's start; sizes are the footer's."""

    group: int
    path: str
    offset: int
    stored_bytes: int
    unpacked_bytes: int
    values: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page: sizes in bytes from its header, and encoding of its values (None if the header names no encoding)."""

    stored_bytes: int
    unpacked_bytes: int
    encoding: int | None


def read_footer(file: IO[bytes], *, limit_bytes: int = FOOTER_BYTES) -> tuple[int, list[Chunk]]:
    """Read the number of rows, and all column chunks. A footer may have at most `limit_bytes`.

    Raises:
        BatchRefusedError: The file is not Parquet, is encrypted or damaged, or needs other files.
    """
    size, footer_bytes = _frame(file, limit_bytes)
    file.seek(size - _TAIL_BYTES - footer_bytes)
    try:
        footer = CompactReader(file.read(footer_bytes)).structure()
    except IndexError:
        raise broken("it breaks off") from None
    rows = integer(footer, 3)
    leaves = _leaves(structures(footer.get(2)))
    groups = structures(footer.get(4))
    if rows < 0 or rows != sum(integer(group, 3) for group in groups):
        raise broken("numbers of rows that do not agree")
    chunks = []
    for number, group in enumerate(groups):
        columns = structures(group.get(1))
        found = [_chunk(column, number, size) for column in columns]
        if [chunk.path for chunk in found] != leaves or integer(group, 3) < 0:
            raise broken("a row group that does not fit the schema")
        chunks += found
    return rows, chunks


def pages(file: IO[bytes], chunk: Chunk, work: Work) -> Iterator[Page]:
    """Read the headers of a chunk's pages, in order.

    Raises:
        BatchRefusedError: A header is damaged, or there are too many headers.
        OutOfTimeError: It takes too long.
    """
    offset, end = chunk.offset, chunk.offset + chunk.stored_bytes
    while offset < end:
        page, header_bytes = _page_at(file, offset, end)
        work.page(header_bytes)
        yield page
        offset += header_bytes + page.stored_bytes


def _frame(file: IO[bytes], limit_bytes: int) -> tuple[int, int]:
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(4)
    if size == 0:
        raise refusal(Reason.OBJECT_EMPTY, "the object has no bytes")
    if start == _ENCRYPTED_MAGIC:
        raise refusal(Reason.PARQUET_UNSUPPORTED, "encrypted Parquet")
    if start != _MAGIC:
        raise refusal(Reason.WRONG_FORMAT, "no Parquet file")
    file.seek(max(size - _TAIL_BYTES, 0))
    tail = file.read(_TAIL_BYTES)
    if size < _SMALLEST_BYTES or tail[4:] != _MAGIC:
        raise refusal(Reason.OBJECT_TRUNCATED, "the Parquet file has no end")
    footer_bytes = int.from_bytes(tail[:4], "little")
    if footer_bytes > min(size - _SMALLEST_BYTES, limit_bytes):
        raise broken("a footer that is too long")
    return size, footer_bytes


def _leaves(elements: list[Structure]) -> list[str]:
    """Paths of the columns. The schema is a tree in depth-first order, and its first element is the root."""
    paths: list[str] = []
    # Ancestors of the next schema element, outermost first: each ancestor's path and its number of remaining children.
    open_parents: list[tuple[list[str], int]] = []
    for place, element in enumerate(elements):
        while open_parents and open_parents[-1][1] == 0:
            open_parents.pop()
        if place and not open_parents:
            raise broken("a schema that is no tree")
        names: list[str] = []
        if open_parents:
            parent, left = open_parents[-1]
            open_parents[-1] = (parent, left - 1)
            names = [*parent, _name(element.get(4))]
        children = element.get(5)
        if isinstance(children, int) and children > 0:
            if len(open_parents) > _MAX_NESTING:
                raise broken("a schema that is nested too deeply")
            open_parents.append((names, children))
        elif place:
            paths.append(".".join(names))
    return paths


def _name(value: Value | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _chunk(column: Structure, group: int, size: int) -> Chunk:
    metadata = column.get(3)
    if 8 in column or not isinstance(metadata, dict):  # crypto_metadata
        raise refusal(Reason.PARQUET_UNSUPPORTED, "a column is encrypted, or has no metadata")
    if 1 in column:
        raise refusal(Reason.PARQUET_UNSUPPORTED, "a column lies in another file")
    path = metadata.get(3)
    names = path if isinstance(path, list) else []
    offset = integer(metadata, 9)
    if metadata.get(11):
        offset = min(offset, integer(metadata, 11))
    chunk = Chunk(
        group=group,
        path=".".join(map(_name, names)),
        offset=offset,
        stored_bytes=integer(metadata, 7),
        unpacked_bytes=integer(metadata, 6),
        values=integer(metadata, 5),
    )
    if min(chunk.offset, chunk.stored_bytes, chunk.unpacked_bytes, chunk.values) < 0:
        raise broken("a number below 0")
    if chunk.values and chunk.offset + chunk.stored_bytes > size - _TAIL_BYTES:
        raise broken("a column behind the end")
    return chunk


def _page_at(file: IO[bytes], offset: int, end: int) -> tuple[Page, int]:
    fields, header_bytes = _header_at(file, offset, end)
    # The encoding is field 2 of DataPageHeader (5) and DictionaryPageHeader (7), and field 4 of DataPageHeaderV2 (8).
    encodings = [integer(part, number) for part, number in _parts(fields, ((5, 2), (7, 2), (8, 4)))]
    page = Page(
        unpacked_bytes=integer(fields, 2), stored_bytes=integer(fields, 3), encoding=encodings[0] if encodings else None
    )
    if page.unpacked_bytes < 0 or not 0 <= page.stored_bytes <= end - offset - header_bytes:
        raise broken("a page of an impossible size")
    return page, header_bytes


def _header_at(file: IO[bytes], offset: int, end: int) -> tuple[Structure, int]:
    size = _FIRST_READ_BYTES
    while True:
        file.seek(offset)
        data = file.read(min(size, end - offset))
        reader = CompactReader(data)
        try:
            return reader.structure(), reader.position
        except IndexError:
            if len(data) < size or size >= _HEADER_BYTES:
                raise broken("a page header breaks off") from None
            size *= 8


def _parts(fields: Structure, numbers: Iterable[tuple[int, int]]) -> Iterator[tuple[Structure, int]]:
    for part_number, number in numbers:
        part = fields.get(part_number)
        if isinstance(part, dict):
            yield part, number
