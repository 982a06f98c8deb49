"""Compares a bill of any number of files with metered bytes."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, NamedTuple, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from metering.errors import OperationFailedError
from metering.onramps import bill_lines
from metering.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO


# A usage type name takes some 300 bytes. AWS has some thousand usage types per region.
MOST_NAMES = 5_000
OTHERS = "(others)"
_NO_NAME = "(no usage type)"
_NAME = re.compile(r"[A-Za-z0-9 .:/_()+-]{1,130}")
_LONGEST = 40
_EXACT = Context(prec=100)


class Named(NamedTuple):
    """Sums of a usage type; `usd` is None unless the bill prices every line."""

    lines: int
    usd: Decimal | None


_NOTHING = Named(0, Decimal(0))


def count_named(sums: dict[str, Named], usage_type: str, usd: Decimal | None) -> None:
    """Count a line of a usage type; usage types beyond `MOST_NAMES` share one sum."""
    name = usage_type if usage_type in sums else printable(usage_type)
    if name not in sums and len(sums) >= MOST_NAMES:
        name = OTHERS
    lines, before = sums.get(name, _NOTHING)
    total = None if before is None or usd is None else _EXACT.add(before, usd)
    sums[name] = Named(lines + 1, total)


def printable(usage_type: str) -> str:
    """Make a usage type safe to print, because a file can contain any text as usage type."""
    if _NAME.fullmatch(usage_type):
        return usage_type
    return ascii(usage_type[:_LONGEST]) if usage_type else _NO_NAME


SUFFIXES = (".csv", ".csv.gz", ".parquet")
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_BATCH_ROWS = 8 * KIB
# A bill line with its tags has a few KB. A quoted field may contain line ends.
_LINE_CHARS = MIB

Row = tuple[int, "tuple[object, ...] | None"]
"""Number of a row in its file, from 1 after the header, and its fields in the order of `Chosen.columns`. None if the
row has another number of fields than the header."""


def bill_files(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """List the files of a bill, each once, and other files in the folders. Files named directly always count as bills.

    Raises:
        OperationFailedError: A path does not exist, or no file was found.
    """
    found: dict[Path, Path] = {}
    ignored: list[Path] = []
    for path in paths:
        if not path.exists():
            raise OperationFailedError(f"There is no {path}.", "Name files of a bill, or folders with such files.")
        inner = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        for each in inner:
            if path.is_dir() and not each.name.lower().endswith(SUFFIXES):
                ignored.append(each)
            else:
                found.setdefault(each.resolve(), each)
    if not found:
        raise OperationFailedError(
            f"There is no file of a bill in {', '.join(map(str, paths))}.",
            f"Files of a bill end with {', '.join(SUFFIXES)}.",
        )
    return list(found.values()), ignored


BillFile = tuple[str, "Callable[[], BinaryIO]"]
"""Name of a file for people, and the function that opens it as a stream that can seek."""


@contextmanager
def opened(path: str, open_file: Callable[[], BinaryIO]) -> Iterator[tuple[bill_lines.Chosen, Iterator[Row]]]:
    """Yield the columns and rows of a file; its first bytes determine the format.

    Raises:
        OperationFailedError: The file is unreadable, damaged or not a bill; also raised while rows are read.
    """
    try:
        with open_file() as stream:
            head = stream.read(len(_PARQUET))
            stream.seek(0)
            if head == _PARQUET:
                file = pq.ParquetFile(stream, buffer_size=MIB)
                found = bill_lines.chosen(file.schema_arrow.names, path)
                yield found, _parquet_rows(file, found.columns)
                return
            unpacked = gzip.GzipFile(fileobj=stream) if head.startswith(_GZIP) else stream
            with io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="") as text:
                yield _csv(text, path)
    except (OSError, EOFError, zlib.error) as error:
        raise OperationFailedError(
            f"{path} cannot be read to its end: {error or type(error).__name__}.", "Download it again."
        ) from error
    except UnicodeDecodeError as error:
        raise OperationFailedError(f"{path} is no UTF-8 text.", "Name an export of AWS as it was delivered.") from error
    except (csv.Error, pa.ArrowException) as error:
        raise OperationFailedError(f"{path} is damaged: {error}.", "Download it again.") from error


def _parquet_rows(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[Row]:
    number = 0
    wanted = sorted({name for name in columns if name})
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted, use_threads=False):
        values = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        absent = [None] * batch.num_rows
        for fields in zip(*(values.get(name, absent) for name in columns), strict=True):
            number += 1
            yield number, fields


def _csv(text: TextIO, path: str) -> tuple[bill_lines.Chosen, Iterator[Row]]:
    reader = csv.reader(_lines(text, path), strict=True)
    header = next(reader, [])
    found = bill_lines.chosen(header, path)
    places = [header.index(name) if name else -1 for name in found.columns]
    return found, _csv_rows(reader, len(header), places)


def _csv_rows(reader: Iterator[list[str]], width: int, places: Sequence[int]) -> Iterator[Row]:
    for number, fields in enumerate(reader, 1):
        if len(fields) == width:
            yield number, tuple([fields[place] if place >= 0 else None for place in places])
        elif fields:
            yield number, None


def _lines(text: TextIO, path: str) -> Iterator[str]:
    while line := text.readline(_LINE_CHARS):
        if len(line) == _LINE_CHARS:
            raise OperationFailedError(f"{path} has a line of more than {_LINE_CHARS:,} characters: it is no bill.")
        yield line


# Each key takes about 300 bytes: 150 MB in all. A month of 500 accounts with 30 usage types has 450,000 keys.
MOST_KEYS = 500_000
_EXAMPLES = 3
_TOLD_EVERY = 10_000


@dataclass(slots=True, kw_only=True)
class Bill:
    """Sums over the files of a bill. Mutable: files are added when they are read; memory grows with the number of keys.

    Attributes:
        exact: Sum of bytes before lines were rounded.
        negative: Number of compared lines with negative bytes.
        compared: Number and cost of compared lines, by usage type.
        no_transfer: Number and cost of lines other than data transfer, by usage type.
        examples: Descriptions of the first broken lines.
        first_s, last_s: Earliest and latest start of a compared line; None if no line is compared.
    """

    bytes: dict[bill_lines.LineKey, int] = field(default_factory=dict)
    exact: Decimal = Decimal(0)
    lines: int = 0
    negative: int = 0
    compared: dict[str, Named] = field(default_factory=dict)
    left_out: Counter[bill_lines.LeftOut] = field(default_factory=Counter)
    no_transfer: dict[str, Named] = field(default_factory=dict)
    broken: Counter[bill_lines.Broken] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    first_s: int | None = None
    last_s: int | None = None

    @property
    def read(self) -> int:
        return self.lines + self.left_out.total() + self.broken.total()

    @property
    def accounts(self) -> frozenset[str]:
        return frozenset(key.account_id for key in self.bytes)

    @property
    def rounding(self) -> Decimal:
        return _EXACT.subtract(Decimal(sum(self.bytes.values())), self.exact)

    def take(self, found: bill_lines.BilledLine | bill_lines.LeftOutLine | bill_lines.BrokenLine, where: str) -> None:
        """Count a line once.

        Raises:
            OperationFailedError: The bill has more keys than fit into memory.
        """
        if isinstance(found, bill_lines.LeftOutLine):
            self.left_out[found.why] += 1
            if found.why is bill_lines.LeftOut.NO_TRANSFER:
                count_named(self.no_transfer, found.usage_type, found.usd)
        elif isinstance(found, bill_lines.BrokenLine):
            self.broken[found.what] += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(f"{where}: {found.why}")
        else:
            self._add(found)

    def _add(self, line: bill_lines.BilledLine) -> None:
        self.lines += 1
        self.negative += line.bytes < 0
        count_named(self.compared, line.key.usage_type, line.usd)
        self.bytes[line.key] = self.bytes.get(line.key, 0) + line.bytes
        self.exact = _EXACT.add(self.exact, line.exact)
        self.first_s = line.start_s if self.first_s is None else min(self.first_s, line.start_s)
        self.last_s = line.start_s if self.last_s is None else max(self.last_s, line.start_s)
        if len(self.bytes) > MOST_KEYS:
            raise OperationFailedError(
                f"The bill has more than {MOST_KEYS:,} different accounts, usage types and days.",
                "Compare a part of it: --account, --from and --to, or --by month.",
            )


def read_bill(
    paths: Iterable[Path], wanted: bill_lines.Wanted, tell: Callable[[str, int], None] = lambda *_: None
) -> Bill:
    """Read the files of a bill on this machine, as `read_files` does."""
    return read_files(map(_on_disk, paths), wanted, tell)


def _on_disk(path: Path) -> BillFile:
    return str(path), lambda: path.open("rb")


def read_files(
    files: Iterable[BillFile], wanted: bill_lines.Wanted, tell: Callable[[str, int], None] = lambda *_: None
) -> Bill:
    """Read the files of a bill one by one; memory holds one block and the sums.

    `tell` is called periodically with a file and the number of lines read from the file so far.

    Raises:
        OperationFailedError: A file is unreadable or not a bill, or the bill has more keys than fit into memory.
    """
    bill = Bill()
    for path, open_file in files:
        with opened(path, open_file) as (found, rows):
            bill.names.add(found.dialect.name)
            for number, fields in rows:
                bill.take(bill_lines.judged(fields, found.dialect, wanted), f"{path}, row {number:,}")
                if number % _TOLD_EVERY == 0:
                    tell(path, number)
    return bill


_PERCENT_PLACES = Decimal("0.0001")
_HUNDRED = 100
_PERCENT = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,10})?) ?%")
_SIZE = re.compile(r"([0-9]{1,30}) ?(|bytes?|KB|MB|GB|TB)", re.IGNORECASE)
_SIZES = {"": 1, "byte": 1, "bytes": 1, "kb": KIB, "mb": MIB, "gb": GIB, "tb": KIB * GIB}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Tolerated difference of a row: within `bytes`, or within `percent` of the billed bytes; None if not given."""

    bytes: int | None = None
    percent: Decimal | None = None

    def holds(self, row: ComparedRow) -> bool:
        off = abs(row.difference)
        if off <= (self.bytes or 0):
            return True
        if self.percent is None:
            return False
        numerator, denominator = self.percent.as_integer_ratio()
        return off * _HUNDRED * denominator <= numerator * abs(row.billed)


def tolerance_of(texts: Iterable[str]) -> Tolerance | None:
    """Parse tolerances: `0.5%`, `1000`, `10 MB`. None without a tolerance.

    Raises:
        OperationFailedError: A text is neither a percentage nor a number of bytes, or either is given twice.
    """
    size: int | None = None
    percent: Decimal | None = None
    said = list(texts)
    for text in said:
        if (found := _PERCENT.fullmatch(text.strip())) and percent is None:
            percent = Decimal(found[1])
        elif (found := _SIZE.fullmatch(text.strip())) and size is None:
            size = int(found[1]) * _SIZES[found[2].lower()]
        else:
            raise OperationFailedError(
                f"{text!r} is no tolerance, or the second of its kind.",
                "Give a percentage such as 0.5%, a number of bytes such as 1000 or 10MB, or one of each.",
            )
    return Tolerance(bytes=size, percent=percent) if said else None


class ComparedRow(NamedTuple):
    """A row of the comparison; 0 on a side without bytes."""

    key: bill_lines.LineKey
    billed: int
    metered: int

    @property
    def difference(self) -> int:
        return self.metered - self.billed

    @property
    def percent(self) -> Decimal | None:
        """Difference in percent of the billed bytes, with 4 decimals; None if nothing was billed."""
        if not self.billed:
            return None
        share = _EXACT.divide(Decimal(self.difference * _HUNDRED), Decimal(abs(self.billed)))
        return share.quantize(_PERCENT_PLACES, ROUND_HALF_EVEN, _EXACT)


class BilledOnly(NamedTuple):
    """Billed bytes of a usage type without metered bytes, and the reason in words."""

    bytes: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Billed and metered bytes by row, in the order of keys.

    Attributes:
        apart: Metered bytes by usage type that never occurs in a bill: within a zone, unclassified.
        own: Metered bytes by usage type other than AWS's data transfer: senders may define usage types.
        billed_apart: Billed bytes by usage type that no account of the bill meters, and the excusing reason.
        tolerance: None if differences are not checked.
    """

    rows: Sequence[ComparedRow]
    apart: Mapping[str, int]
    own: Mapping[str, int]
    billed_apart: Mapping[str, BilledOnly]
    tolerance: Tolerance | None

    @property
    def billed(self) -> int:
        return sum(row.billed for row in self.rows)

    @property
    def metered(self) -> int:
        """Metered bytes of all rows, without bytes that are listed apart."""
        return sum(row.metered for row in self.rows)

    @property
    def one_sided(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Bytes by usage type of rows that are only billed, and of rows that are only metered. They are differences."""
        sums: dict[str, tuple[int, int]] = {}
        for key, billed, metered in self.rows:
            before = sums.get(key.usage_type, (0, 0))
            sums[key.usage_type] = (before[0] + billed, before[1] + metered)
        billed_only = {name: billed for name, (billed, metered) in sums.items() if billed and not metered}
        metered_only = {name: metered for name, (billed, metered) in sums.items() if metered and not billed}
        return billed_only, metered_only

    @property
    def beyond(self) -> int | None:
        """Rows beyond the tolerance; None without a tolerance."""
        if self.tolerance is None:
            return None
        return sum(not self.tolerance.holds(row) for row in self.rows)


def compare(
    billed: Mapping[bill_lines.LineKey, int],
    metered: Mapping[bill_lines.LineKey, int],
    tolerance: Tolerance | None = None,
) -> Comparison:
    """Compare billed and metered bytes key by key. Bytes that no bill can contain are listed separately."""
    apart: dict[str, int] = {}
    own: dict[str, int] = {}
    beside: dict[bill_lines.LineKey, int] = {}
    for key, size in metered.items():
        if key not in billed and bill_lines.is_metered_only(key.usage_type):
            apart[key.usage_type] = apart.get(key.usage_type, 0) + size
        elif key not in billed and not bill_lines.is_transfer(key.usage_type):
            own[key.usage_type] = own.get(key.usage_type, 0) + size
        else:
            beside[key] = size
    left, billed_apart = _billed_apart(billed, beside)
    rows = [ComparedRow(key, left.get(key, 0), beside.get(key, 0)) for key in sorted(left.keys() | beside.keys())]
    return Comparison(rows=rows, apart=apart, own=own, billed_apart=billed_apart, tolerance=tolerance)


def _billed_apart(
    billed: Mapping[bill_lines.LineKey, int], metered: Mapping[bill_lines.LineKey, int]
) -> tuple[dict[bill_lines.LineKey, int], dict[str, BilledOnly]]:
    """Split billed lines into compared lines, and lines of usage types that their account does not meter."""
    known = {(key.account_id, key.usage_type) for key in metered}
    left: dict[bill_lines.LineKey, int] = {}
    apart: dict[str, BilledOnly] = {}
    for key, size in billed.items():
        why = "" if key[:2] in known else bill_lines.why_billed_only(key.usage_type)
        if why:
            before = apart.get(key.usage_type)
            apart[key.usage_type] = BilledOnly(size + (before.bytes if before else 0), why)
        else:
            left[key] = size
    return left, apart
