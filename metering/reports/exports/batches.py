"""Charges as columns: values that many lines share are stored once, and lines refer to these values by number.

A charge has some thirty fields, most of them equal in millions of charges: payer, account, price and its product. Each
such part is numbered when it first occurs. So a batch is a few arrays of numbers, from which Arrow makes all columns of
an export; a Python loop visits each charge once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from operator import attrgetter
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.money import DECIMALS, UNITS_A_USD, line_cost, quantity_of
from metering.billing.rating.payer_prices import PriceState, RatedLine
from metering.hours import month_bounds_s, month_of
from metering.reports.answer import spreadsheet_text
from metering.reports.exports.grains import Grain, ends_of, labels_of
from metering.units import GIB, INT64_MAX
from metering.usage import usage_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.billing.invoices.composing import Charge
    from metering.billing.payers import Payer
    from metering.billing.usage.months import UsageLine
    from metering.usage.totals import Service, UsageType

# Quantities and costs of many lines at once, in integers, equal to `billing.money` line by line.
#
# Arrow has no decimal division with remainder, so the line rule is computed in 64 bits if all numbers of a batch fit,
# and by `billing.money` if they do not.


MONEY = pa.decimal128(38, DECIMALS)
WHOLE = pa.decimal128(38, 0)

_GIB_BITS = 30
# The remainder of a GB times 10^10, plus the half for rounding, is below 2^64; and the whole quantity is below 2^63.
_MOST_BYTES = 2**58
# The part of a quantity below a GB is under 10^10. At a price below this, its product plus a half fits 64 bits.
_MOST_PRICE = 1_800_000_000
_MOST_COST = INT64_MAX
# A double represents every integer below this exactly.
_MOST_IN_DOUBLE = 2**53
_MOST_SCALED = 2**50 / UNITS_A_USD


def whole_numbers(numbers: Sequence[int | None]) -> pa.Array:
    """Whole numbers (or null) as int64 if they fit, else as decimal128(38, 0)."""
    try:
        return pa.array(numbers, pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        # Arrow parses digits faster than it converts a Decimal.
        return pa.array([None if number is None else str(number) for number in numbers], pa.string()).cast(WHOLE)


def quantities(total_bytes: pa.Array) -> pa.Array:
    """Quantity of each line in 1e-10 GB, computed as in `quantity_of`: int64, or decimal128(38, 0)."""
    if not _small(total_bytes, _MOST_BYTES):
        return whole_numbers([quantity_of(int(each)) for each in total_bytes.to_pylist()])
    size = pc.abs(total_bytes)
    rest = pc.bit_wise_and(size, GIB - 1).cast(pa.uint64())
    scaled = pc.add(pc.multiply(rest, _unsigned(UNITS_A_USD)), _unsigned(GIB // 2))
    part = pc.shift_right(scaled, _unsigned(_GIB_BITS)).cast(pa.int64())
    return _signed(total_bytes, pc.add(pc.multiply(pc.shift_right(size, _GIB_BITS), UNITS_A_USD), part))


def costs(total_bytes: pa.Array, quantity: pa.Array, prices: pa.Array) -> pa.Array:
    """Cost of each line in 1e-10 USD by `line_cost`, at prices in 1e-10 USD a GB: int64, or decimal128(38, 0)."""
    if not _fits(quantity, prices):
        pairs = zip(total_bytes.to_pylist(), prices.to_pylist(), strict=True)
        return whole_numbers([line_cost(int(each), int(price)) for each, price in pairs])
    size = pc.abs(quantity)
    whole = pc.divide(size, UNITS_A_USD)
    rest = pc.subtract(size, pc.multiply(whole, UNITS_A_USD)).cast(pa.uint64())
    product = pc.add(pc.multiply(rest, prices.cast(pa.uint64())), _unsigned(UNITS_A_USD // 2))
    part = pc.divide(product, _unsigned(UNITS_A_USD)).cast(pa.int64())
    return _signed(quantity, pc.add(pc.multiply(whole, prices), part))


def as_money(units: pa.Array) -> pa.Array:
    """Convert integers in units of 1e-10 to decimal128(38, 10): the same digits with another scale."""
    whole = units.cast(WHOLE)
    return pa.Array.from_buffers(MONEY, len(whole), whole.buffers(), offset=whole.offset)


def as_doubles(units: pa.Array) -> pa.Array:
    """Convert integers in units of 1e-10 to the nearest doubles. Arrow's own cast of a decimal can be one unit off."""
    if _small(units, _MOST_IN_DOUBLE):
        # Dividend and divisor are exact, so the quotient is rounded only once.
        return pc.divide(units.cast(pa.float64()), float(UNITS_A_USD))
    return as_money(units).cast(pa.string()).cast(pa.float64())


def of_doubles(amounts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Convert doubles to the nearest decimals of ten places: the inverse of `as_doubles` below 524,288."""
    most = pc.max(pc.abs(amounts)).as_py()
    if most is None or most < _MOST_SCALED:
        # The value is rounded twice, but stays nearest to its integer.
        units = pc.round(pc.multiply(amounts, float(UNITS_A_USD))).cast(pa.int64())
        if isinstance(units, pa.ChunkedArray):
            return pa.chunked_array([as_money(chunk) for chunk in units.chunks], MONEY)
        return as_money(units)
    return amounts.cast(pa.string()).cast(MONEY)


def _fits(quantity: pa.Array, prices: pa.Array) -> bool:
    if not len(prices):
        return True
    if not (_small(quantity, INT64_MAX) and pa.types.is_int64(prices.type)):
        return False
    bounds = pc.min_max(prices)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low < 0 or high >= _MOST_PRICE:
        return False
    most = pc.max(pc.abs(quantity)).as_py()
    return bool((most // UNITS_A_USD + 1) * (high + 1) < _MOST_COST)


def _small(numbers: pa.Array, most: int) -> bool:
    if not pa.types.is_int64(numbers.type):
        return False
    if len(numbers) == numbers.null_count:
        return True
    bounds = pc.min_max(numbers)
    return bool(bounds["min"].as_py() > -most and bounds["max"].as_py() < most)


def _signed(like: pa.Array, size: pa.Array) -> pa.Array:
    negative = pc.less(like, 0)
    return pc.if_else(negative, pc.negate(size), size) if pc.any(negative).as_py() else size


def _unsigned(number: int) -> pa.Scalar:
    return pa.scalar(number, pa.uint64())


_PricedKey = tuple["Service", "UsageType", str, str, tuple[object, ...], str]
BATCH_ROWS = 65_536
"""Lines that are held in memory at once; each batch is a row group."""
# Parts that are cached: the names of an account, and about thirty columns of a product. When a cache is full, it is
# emptied.
_MOST_PARTS = 200_000


class Billed(NamedTuple):
    """Fields that charges of one document share, such as the month of use; `later` is set for a correction."""

    payer: Payer
    invoice_id: str
    billing_month: str
    month: str
    later: bool
    credit_of: str

    @property
    def begins_s(self) -> int:
        return month_bounds_s(self.billing_month)[0]

    @property
    def ends_s(self) -> int:
        return month_bounds_s(self.billing_month)[1]


class Priced(NamedTuple):
    """Fields that charges with the same key and price share; `rated` is any one of these charges."""

    rated: RatedLine
    region: str


class Used(NamedTuple):
    """One account, and its resource if the export is by resource."""

    account_id: str
    resource_id: str


@dataclass(slots=True)
class Parts:
    """All parts of charges so far, in the order of the parts' numbers. Mutable: it only grows."""

    billed: list[Billed] = field(default_factory=list)
    priced: list[Priced] = field(default_factory=list)
    used: list[Used] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return max(len(self.billed), len(self.priced), len(self.used)) >= _MOST_PARTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Lines, in the order in which they arrived.

    Attributes:
        parts: Values to which the numbers in `billed`, `priced` and `used` refer; may include values of other batches.
        billed, priced, used: Number of each line's part in `parts`; int32.
        starts: First second of each line's period of use; int64.
        bytes: int64, or decimal128(38, 0) if a line exceeds int64.
        quantity, cost, list_cost: Amounts by the line rule, in 1e-10; int64 or decimal128(38, 0).
    """

    parts: Parts
    billed: pa.Array
    priced: pa.Array
    used: pa.Array
    starts: pa.Array
    bytes: pa.Array
    quantity: pa.Array
    cost: pa.Array
    list_cost: pa.Array

    def __len__(self) -> int:
        return len(self.starts)


class Unbilled(NamedTuple):
    """Usage that an export omits because the usage has no price."""

    state: PriceState
    service: Service
    usage_type: UsageType


@dataclass(slots=True, kw_only=True)
class Collector:
    """Makes batches of charges, and sums the bytes that have no price. Mutable."""

    rows: int = BATCH_ROWS
    unbilled: dict[Unbilled, int] = field(default_factory=dict)

    def batches(self, charges: Iterable[tuple[Charge, str]]) -> Iterator[Batch]:
        """All priced charges, each with its resource (empty if charges are not split by resource)."""
        waiting = iter(charges)
        numbers = _Numbers()
        while batch := self._next(waiting, numbers):
            yield batch
            if numbers.parts.full:
                numbers = _Numbers()

    def _next(self, charges: Iterator[tuple[Charge, str]], numbers: _Numbers) -> Batch | None:  # see below
        # One loop without calls, because it runs for millions of lines, and takes most of an export's time.
        parts, billed, priced, used = numbers.parts, numbers.billed, numbers.priced, numbers.used
        of_billed: list[int] = []
        of_priced: list[int] = []
        of_used: list[int] = []
        starts: list[int] = []
        total_bytes: list[int] = []
        left = self.rows
        for charge, resource_id in charges:
            payer, rated, invoice_id, region, billing_month, corrects, credit_of = charge
            line = rated.line
            if rated.state is not PriceState.PRICED:
                self._leave_out(rated)
                continue
            start_s = line.hour_s
            later = corrects or bool(credit_of)
            month = month_of(start_s) if later else billing_month
            of_document = (invoice_id, month, later, payer.payer_id, billing_month, credit_of)
            at = billed.get(of_document)
            if at is None:
                at = billed[of_document] = len(billed)
                parts.billed.append(Billed(payer, invoice_id, billing_month, month, later, credit_of))
            of_billed.append(at)
            # The key does not include the state, because hashing the state is slow.
            of_price = (line.service, line.usage_type, line.from_location, line.to_location, rated[2:], region)
            at = priced.get(of_price)
            if at is None:
                at = priced[of_price] = len(priced)
                parts.priced.append(Priced(rated, region))
            of_priced.append(at)
            of_account = (line.account_id, resource_id)
            at = used.get(of_account)
            if at is None:
                at = used[of_account] = len(used)
                parts.used.append(Used(*of_account))
            of_used.append(at)
            starts.append(start_s)
            total_bytes.append(line.bytes)
            left -= 1
            if not left:
                break
        if not starts:
            return None
        return _batch(parts, of_billed, of_priced, of_used, starts, total_bytes)

    def _leave_out(self, rated: RatedLine) -> None:
        key = Unbilled(rated.state, rated.line.service, rated.line.usage_type)
        self.unbilled[key] = self.unbilled.get(key, 0) + rated.line.bytes


@dataclass(slots=True)
class _Numbers:
    """Numbers of parts, by the fields that identify a part. Mutable."""

    parts: Parts = field(default_factory=Parts)
    billed: dict[tuple[object, ...], int] = field(default_factory=dict)
    priced: dict[_PricedKey, int] = field(default_factory=dict)
    used: dict[tuple[str, str], int] = field(default_factory=dict)


def _batch(
    parts: Parts, billed: list[int], priced: list[int], used: list[int], starts: list[int], total_bytes: list[int]
) -> Batch:
    of_priced, of_bytes = pa.array(priced, pa.int32()), whole_numbers(total_bytes)
    prices = whole_numbers([part.rated.price for part in parts.priced])
    lists = whole_numbers([part.rated.list_price for part in parts.priced])
    quantity = quantities(of_bytes)
    cost = costs(of_bytes, quantity, prices.take(of_priced))
    same = prices.equals(lists)
    return Batch(
        parts=parts,
        billed=pa.array(billed, pa.int32()),
        priced=of_priced,
        used=pa.array(used, pa.int32()),
        starts=pa.array(starts, pa.int64()),
        bytes=of_bytes,
        quantity=quantity,
        cost=cost,
        list_cost=cost if same else costs(of_bytes, quantity, lists.take(of_priced)),
    )


Kind = Literal["text", "number", "money", "time", "double", "map"]
"""`number` is a text of digits that we made: no spreadsheet runs it, so it needs no apostrophe if it is negative."""

Value = str | int | tuple[tuple[str, str], ...] | None
"""Text; a whole number of 1e-10 for money and doubles; epoch seconds of a time; pairs of a map."""
FileFormat = Literal["parquet", "csv"]

_TEXT = pa.dictionary(pa.int32(), pa.string())
_MAP = pa.map_(pa.string(), pa.string())
_TIME = pa.timestamp("us", "UTC")
_PARQUET: Mapping[Kind, pa.DataType] = {
    "text": pa.string(), "number": pa.string(), "money": MONEY, "time": _TIME, "double": pa.float64(), "map": _MAP,
}  # fmt: skip
_CSV: Mapping[Kind, pa.DataType] = {**_PARQUET, "time": pa.string(), "double": MONEY, "map": pa.string()}
TYPES: Mapping[FileFormat, Mapping[Kind, pa.DataType]] = {"parquet": _PARQUET, "csv": _CSV}
_MICROSECONDS = 1_000_000
P = TypeVar("P", Billed, Priced, Used)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of an export: makes an array for each batch, dictionary-encoded if its texts repeat (`repeats`)."""

    name: str
    kind: Kind
    values: Callable[[Batch, Layout], pa.Array]
    repeats: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A file's columns in order, and the tables made of them. Columns cache values, so each file needs its own."""

    columns: Sequence[Column]
    form: FileFormat
    time_text: Callable[[int], str]

    @property
    def schema(self) -> pa.Schema:
        """Types of its tables."""
        return pa.schema([(column.name, self._stored(column)) for column in self.columns])

    def table(self, batch: Batch) -> pa.Table:
        """A batch as columns. Texts that lines share are dictionary-encoded."""
        arrays = [_stored_as(self._stored(column), column.values(batch, self)) for column in self.columns]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def type_of(self, kind: Kind) -> pa.DataType:
        """Arrow type of a kind in the file format."""
        return TYPES[self.form][kind]

    def _stored(self, column: Column) -> pa.DataType:
        kind = self.type_of(column.kind)
        return _TEXT if pa.types.is_string(kind) and column.repeats else kind


def billed(value: str | Callable[[Billed], Value], *names: str, kind: Kind = "text") -> Iterator[Column]:
    """Columns whose value depends only on the document: an attribute's path, or a function of the document."""
    return _of_parts("billed", value, names, kind)


def priced(value: str | Callable[[Priced], Value], *names: str, kind: Kind = "text") -> Iterator[Column]:
    """Columns whose value depends only on key and price."""
    return _of_parts("priced", value, names, kind)


def used(value: str | Callable[[Used], Value], *names: str) -> Iterator[Column]:
    """Columns whose value depends only on account and resource."""
    return _of_parts("used", value, names, "text")


def always(value: Value, *names: str, kind: Kind = "text") -> Iterator[Column]:
    """Columns that have the same value in every line."""
    return billed(lambda _: value, *names, kind=kind)


def empty(*names: str, kind: Kind = "text") -> Iterator[Column]:
    """Columns that are always empty, but that readers require."""
    for name in names:
        yield Column(name=name, kind=kind, values=lambda batch, layout: pa.nulls(len(batch), layout.type_of(kind)))


def amounts(of: Literal["cost", "list_cost", "quantity"], *names: str, kind: Kind = "money") -> Iterator[Column]:
    """Columns of an amount: decimals; doubles in Parquet if their kind is `double`."""
    for name in names:
        yield Column(
            name=name,
            kind=kind,
            values=lambda batch, layout: money(getattr(batch, of), layout.form, double=kind == "double"),
        )


def texts(name: str, values: Callable[[Batch], pa.Array], *, kind: Kind = "text", repeats: bool = False) -> Column:
    """A column of texts computed for all lines of a batch at once."""
    return Column(name=name, kind=kind, values=lambda batch, _: values(batch), repeats=repeats)


def period(start: str, end: str, grain: Grain) -> Iterator[Column]:
    """Columns of the beginning and the end of the period of use."""
    yield Column(
        name=start, kind="time", values=lambda batch, layout: moments(batch.starts, layout.form, layout.time_text),
        repeats=True,
    )  # fmt: skip
    yield Column(
        name=end, kind="time",
        values=lambda batch, layout: moments(ends_of(batch.starts, grain), layout.form, layout.time_text), repeats=True,
    )  # fmt: skip


def _of_parts(
    part: Literal["billed", "priced", "used"], value: str | Callable[[P], Value], names: Sequence[str], kind: Kind
) -> Iterator[Column]:
    read = attrgetter(value) if isinstance(value, str) else value
    for name in names:
        yield Column(name=name, kind=kind, values=_PartValues(kind=kind, part=part, read=read).of, repeats=True)


@dataclass(slots=True, kw_only=True)
class _PartValues(Generic[P]):
    """Values of one column for all parts seen so far. Mutable."""

    kind: Kind
    part: Literal["billed", "priced", "used"]
    read: Callable[[P], Value]
    _parts: Parts | None = None
    _shown: list[Value] = field(default_factory=list)
    _array: pa.Array = None

    def of(self, batch: Batch, layout: Layout) -> pa.Array:
        if batch.parts is not self._parts:
            self._parts, self._shown = batch.parts, []
        parts, numbers = getattr(batch.parts, self.part), getattr(batch, self.part)
        if len(parts) > len(self._shown):
            new = map(self.read, parts[len(self._shown) :])
            self._shown += [shown_value(self.kind, layout.form, layout.time_text, value) for value in new]
            values = array_of(self._shown, layout.type_of(self.kind))
            self._array = values.dictionary_encode() if pa.types.is_string(values.type) else values
        if pa.types.is_dictionary(self._array.type):
            return pa.DictionaryArray.from_arrays(self._array.indices.take(numbers), self._array.dictionary)
        return self._array.take(numbers)


def shown_value(kind: Kind, form: FileFormat, time_text: Callable[[int], str], value: Value) -> Value:
    """Convert a value to the file format; money stays an integer, as do times in Parquet."""
    if form == "parquet" or value is None:
        return value
    if kind == "text" and isinstance(value, str):
        return spreadsheet_text(value)
    if kind == "time" and isinstance(value, int):
        return time_text(value)
    return json.dumps(dict(value), separators=(",", ":")) if isinstance(value, tuple) else value


def moments(batch_s: pa.Array, form: FileFormat, time_text: Callable[[int], str]) -> pa.Array:
    """Times of lines (epoch seconds) in the file's format. Few of them differ."""
    if form == "parquet":
        return pc.multiply(batch_s, _MICROSECONDS).cast(_TIME)
    encoded = batch_s.dictionary_encode()
    texts = pa.array([time_text(each) for each in encoded.dictionary.to_pylist()], pa.string())
    return pa.DictionaryArray.from_arrays(encoded.indices, texts)


def money(units: pa.Array, form: FileFormat, *, double: bool = False) -> pa.Array:
    """Convert amounts in units of 1e-10 to decimals, or to doubles in Parquet where AWS's own files have doubles."""
    return as_doubles(units) if double and form == "parquet" else as_money(units)


def _stored_as(kind: pa.DataType, array: pa.Array) -> pa.Array:
    if array.type == kind:
        return array
    return array.dictionary_encode() if pa.types.is_dictionary(kind) else array.dictionary_decode()


def array_of(values: Sequence[Value], kind: pa.DataType) -> pa.Array:
    """Convert values of `shown_value` to an array of a column's type."""
    if pa.types.is_decimal(kind):
        return as_money(_whole(values))
    if pa.types.is_floating(kind):
        return as_doubles(_whole(values))
    return moments(_whole(values), "parquet", str) if pa.types.is_timestamp(kind) else pa.array(values, kind)


def _whole(values: Sequence[Value]) -> pa.Array:
    return whole_numbers([value if isinstance(value, int) else None for value in values])


_PRICED_CHARS = 20
_BILLED_CHARS = 12
_RESOURCE_CHARS = 12


def detail_id(billed: Billed, priced: Priced) -> str:
    """InvoiceDetailId of a charge; see `line_id`."""
    month = "" if billed.month == billed.billing_month else billed.month
    return line_id(billed.invoice_id, priced.region, priced.rated.rate_code, month)


def line_id(invoice_id: str, region: str, rate_code: str, month: str) -> str:
    """Id of an invoice line: `<invoice>:<region>:<rate code>`; plus `:<month of use>` if booked by a later month."""
    return f"{invoice_id}:{region}:{rate_code}" + (f":{month}" if month else "")


def charge_key(name: str) -> Column:
    """`<account>:<digest of key and price>:<digest of the document>:<hour>`: unique in an export."""
    used = _PartValues(kind="number", part="used", read=_used_digest)
    priced = _PartValues(kind="number", part="priced", read=_priced_digest)
    billed = _PartValues(kind="number", part="billed", read=_billed_digest)

    def keys(batch: Batch, layout: Layout) -> pa.Array:
        parts = (each.of(batch, layout).dictionary_decode() for each in (used, priced, billed))
        return pc.binary_join_element_wise(*parts, labels_of(batch.starts), ":")

    return Column(name=name, kind="text", values=keys)


def detail_ids(batch: Batch) -> pa.Array:
    """InvoiceDetailId of each line, as a dictionary-encoded array."""
    pairs = line_numbers(batch).dictionary_encode()
    ids = [detail_id(*parts_of(batch.parts, pair)) for pair in pairs.dictionary.to_pylist()]
    encoded = pa.array(ids, pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.take(pairs.indices), encoded.dictionary)


# Larger than the maximum number of cached prices.
_PRICED = 2**20


def line_numbers(batch: Batch) -> pa.Array:
    """A number for each line that identifies document and price: `parts_of` gives them back."""
    return pc.add(pc.multiply(batch.billed.cast(pa.int64()), _PRICED), batch.priced.cast(pa.int64()))


def parts_of(parts: Parts, number: int) -> tuple[Billed, Priced]:
    """The document and the price that a line's number identifies."""
    billed, priced = divmod(number, _PRICED)
    return parts.billed[billed], parts.priced[priced]


def _billed_digest(part: Billed) -> str:
    # A draft and its invoice have the same keys. Several credit notes may contain the same line.
    note = part.invoice_id if part.credit_of else ""
    return _digest([part.payer.payer_id, part.billing_month, part.later, part.credit_of, note], _BILLED_CHARS)


def _priced_digest(part: Priced) -> str:
    line = part.rated.line
    key = (line.service, line.usage_type, line.from_location, line.to_location)
    return _digest([part.region, *key, *part.rated[2:]], _PRICED_CHARS)


def _used_digest(part: Used) -> str:
    resource = f"/{_digest([part.resource_id], _RESOURCE_CHARS)}" if part.resource_id else ""
    return f"{part.account_id}{resource}"


def _digest(values: list[object], chars: int) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:chars]


_UNKNOWN_SERVICE = ("Other", "Other (Other)")
# Prefix of a resource id in logs -> type of that resource.
_RESOURCES = {
    "i-": "Instance", "eni-": "Network Interface", "nat-": "NAT Gateway", "vpce-": "VPC Endpoint",
    "tgw-": "Transit Gateway", "app/": "Load Balancer", "net/": "Load Balancer", "gwy/": "Load Balancer",
    "restapis/": "API",
}  # fmt: skip
_ANY_RESOURCE = "Resource"
# Names in AWS's price lists.
_OUTSIDE = {usage_types.INTERNET: "External", usage_types.CLOUDFRONT: "Amazon CloudFront"}


def region_name(region: str) -> str:
    """`US East (N. Virginia)`; the region's own name if AWS's is not known."""
    return str(_json("regions.json").get(region, region))


def location_name(location: str) -> str:
    """A location's name in AWS's price lists: a region's long name, or `External` for the internet."""
    region = location.partition("/")[0]
    return _OUTSIDE.get(region) or region_name(region)


def location_type(location: str) -> str:
    """`AWS Region` or `Other`."""
    return "AWS Region" if region_code(location) else "Other"


def region_code(location: str) -> str | None:
    """The region of a location, which may include a zone; None if the location belongs to no region."""
    region = location.partition("/")[0]
    return region if usage_types.is_region(region) else None


def zone_of(line: UsageLine, region: str) -> str | None:
    """The zone of the metered side; None if unknown.

    Between two zones of a region, both sides are metered under one usage type, and a line does not state which side.
    """
    zones = [
        zone
        for name, _, zone in (each.partition("/") for each in (line.from_location, line.to_location))
        if name == region
    ]
    return zones[0] or None if len(zones) == 1 else None


def resource_type(resource_id: str) -> str | None:
    """Type of a resource, derived from its id; None without an id."""
    if not resource_id:
        return None
    name = resource_id.rpartition(":")[2]
    return next((kind for begin, kind in _RESOURCES.items() if name.startswith(begin)), _ANY_RESOURCE)


def service_category(service: str) -> Sequence[str]:
    """FOCUS's ServiceCategory and ServiceSubcategory of an AWS product code."""
    return _json("services.json").get(service, _UNKNOWN_SERVICE)


@cache
def cur_names() -> tuple[str, ...]:
    """Column names of a CUR 2.0 export without resource ids, in AWS's order; the file of names states its source."""
    return tuple(line for line in _text("cur_columns.txt").splitlines() if line and not line.startswith("#"))


@cache
def _json(name: str) -> Mapping[str, Sequence[str]]:
    return cast("dict[str, Sequence[str]]", json.loads(_text(name)))


def _text(name: str) -> str:
    return resources.files("metering.reports.exports.datasets").joinpath(name).read_text("utf-8")
