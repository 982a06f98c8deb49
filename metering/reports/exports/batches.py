"""Charges as columns: what many lines share is stored once, and each line has its number.

A charge says some thirty things, and most of them are said by millions of others: who pays, the account, the price with
what it is for. Each of these parts gets a number when it is first seen. A batch then is a few arrays of numbers, from
which Arrow makes all columns; a Python loop touches each charge once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.money import DECIMALS, UNITS_A_USD, line_cost, quantity_of
from metering.billing.rating.lines import PriceState, RatedLine
from metering.hours import month_bounds_s, month_of
from metering.units import GIB, INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from metering.billing.invoices.composing import Charge
    from metering.billing.organization import Payer
    from metering.usage.totals import Service, UsageType


# Quantities and costs of many lines at once, in integers, equal to `billing.money` line by line.
#
# Arrow has no decimal division with remainder, so the line rule is computed in 64 bits where all numbers of a batch
# fit, and by `billing.money` where they do not.


MONEY = pa.decimal128(38, DECIMALS)
WHOLE = pa.decimal128(38, 0)

_GIB_BITS = 30
# The remainder of a GB times 10^10, plus the half for rounding, stays below 2^64; and the whole quantity below 2^63.
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
    """Quantity of each line in 1e-10 GB, as `quantity_of`: int64, or decimal128(38, 0)."""
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
    """Whole numbers of 1e-10 as decimal128(38, 10): the same digits, read with another scale."""
    whole = units.cast(WHOLE)
    return pa.Array.from_buffers(MONEY, len(whole), whole.buffers(), offset=whole.offset)


def as_doubles(units: pa.Array) -> pa.Array:
    """Whole numbers of 1e-10 as the doubles nearest to them. Arrow's cast of a decimal is up to one unit off."""
    if _small(units, _MOST_IN_DOUBLE):
        # Dividend and divisor are exact, so the quotient is rounded only once.
        return pc.divide(units.cast(pa.float64()), float(UNITS_A_USD))
    return as_money(units).cast(pa.string()).cast(pa.float64())


def of_doubles(amounts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The decimals of ten places that doubles are nearest to; the other way of `as_doubles`, below 524,288."""
    most = pc.max(pc.abs(amounts)).as_py()
    if most is None or most < _MOST_SCALED:
        # Rounded twice, and still nearer to its integer than to any other.
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
# Cached parts: the names of an account, and some thirty columns of a product. A full cache is emptied.
_MOST_PARTS = 200_000


class Billed(NamedTuple):
    """Fields that charges of one document share: its month of use, and whether that is of a correction (`later`)."""

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
    """What charges of one key at one price have in common; `rated` is any of them."""

    rated: RatedLine
    region: str


class Used(NamedTuple):
    """One account, and its resource if the export has that detail."""

    account_id: str
    resource_id: str


@dataclass(slots=True)
class Parts:
    """Parts of charges that were seen, in the order of their numbers. Mutable: it only grows."""

    billed: list[Billed] = field(default_factory=list)
    priced: list[Priced] = field(default_factory=list)
    used: list[Used] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return max(len(self.billed), len(self.priced), len(self.used)) >= _MOST_PARTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Lines in the order in which they came.

    Attributes:
        parts: What the numbers stand for. It has at least the parts of this batch.
        billed, priced, used: Number of each line's parts; int32.
        starts: First second of the period of use, int64.
        bytes: int64, or decimal128(38, 0) if a line has more.
        quantity, cost, list_cost: By the line rule, in 1e-10; int64 or decimal128(38, 0).
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
    """Usage that is no line of an export, because it has no price."""

    state: PriceState
    service: Service
    usage_type: UsageType


@dataclass(slots=True, kw_only=True)
class Collector:
    """Makes batches of charges, and sums the bytes that have no price. Mutable."""

    rows: int = BATCH_ROWS
    unbilled: dict[Unbilled, int] = field(default_factory=dict)

    def batches(self, charges: Iterable[tuple[Charge, str]]) -> Iterator[Batch]:
        """All charges with a price, and the resource of each (empty without that detail)."""
        waiting = iter(charges)
        numbers = _Numbers()
        while batch := self._next(waiting, numbers):
            yield batch
            if numbers.parts.full:
                numbers = _Numbers()

    def _next(self, charges: Iterator[tuple[Charge, str]], numbers: _Numbers) -> Batch | None:  # see below
        # One loop without calls: it runs for each of millions of lines, and takes most of an export's time.
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
            # The key leaves out the state, whose hash is slow.
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
    """Numbers of parts, by what tells them apart. Mutable."""

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
