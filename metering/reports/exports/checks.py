"""What is checked of each line while it is written: the values, which no validator of FOCUS looks at.

They read what goes into the file, not what it was made of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.money import DECIMALS, UNITS_A_USD
from metering.errors import OperationFailedError
from metering.hours import month_bounds_s
from metering.reports.exports.batches import Batch, of_doubles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.billing.prices.book import PriceBook
    from metering.reports.exports.grains import Grain

_EXAMPLES = 5
# Factors whose product has at most 38 digits, which are fast, and at most 76, which are Arrow's limit.
_USUAL = (pa.decimal128(20, DECIMALS), pa.decimal128(17, DECIMALS))
_LARGE = (pa.decimal256(38, DECIMALS), pa.decimal256(37, DECIMALS))
# From 2^19 on, neighbouring doubles are further apart than the tenth decimal.
_MOST_TOLD = 2.0**19
_DOUBLE_STEP = 2.0**-52


class ExportWrongError(OperationFailedError):
    """An export is not what it should be, so it has no manifest and must not be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Names of money columns that have to fit together: cost is quantity times price, rounded half up."""

    cost: str
    quantity: str
    price: str


FOCUS_AMOUNTS = (
    Amounts(cost="BilledCost", quantity="PricingQuantity", price="ContractedUnitPrice"),
    Amounts(cost="ListCost", quantity="PricingQuantity", price="ListUnitPrice"),
)
CUR_AMOUNTS = (
    Amounts(cost="line_item_unblended_cost", quantity="line_item_usage_amount", price="line_item_unblended_rate"),
    Amounts(
        cost="pricing_public_on_demand_cost", quantity="line_item_usage_amount", price="pricing_public_on_demand_rate"
    ),
)


@dataclass(slots=True, kw_only=True)
class LineChecks:
    """Checks batches and the tables made of them, by the books of their rate codes. Mutable: it keeps problems."""

    books: Sequence[PriceBook]
    grain: Grain
    amounts: tuple[Amounts, ...]
    problems: list[str] = field(default_factory=list)
    _codes: frozenset[str] = frozenset()
    _steps: dict[str, int] = field(default_factory=dict)

    def look(self, batch: Batch, table: pa.Table) -> None:
        """Check a batch.

        Raises:
            ExportWrongError: Something is wrong with it. It names the first lines.
        """
        if len(table) != len(batch):
            self.problems.append(f"{len(batch):,} lines became {len(table):,} rows")
        self.problems += (*self._amounts(table), *self._periods(batch), *self._prices(batch), *self._keys(batch))
        if self.problems:
            raise wrong(self.problems)

    def _amounts(self, table: pa.Table) -> Iterator[str]:
        checked: list[tuple[pa.ChunkedArray, ...]] = []
        for each in self.amounts:
            columns = tuple(table.column(name) for name in (each.cost, each.quantity, each.price))
            # Where no payer has prices of its own, its columns equal those of the list prices.
            if any(all(map(pa.ChunkedArray.equals, columns, others)) for others in checked):
                continue
            checked.append(columns)
            cost, quantity, price = map(_exact, columns)
            right = pc.round(_product(quantity, price), DECIMALS, "half_towards_infinity")
            same = _close(right.cast(_narrow(right.type)), cost, *columns[:2])
            if not pc.all(same).as_py():
                at = pc.index(same.combine_chunks(), pa.scalar(value=False)).as_py()
                yield (
                    f"{each.cost} {cost[at]} is not {each.quantity} {quantity[at]} times {each.price} {price[at]}, "
                    "rounded half up"
                )

    def _periods(self, batch: Batch) -> Iterator[str]:
        """The period of use lies in the month that books it, but for corrections, which lie before it."""
        starts = pa.table({"part": batch.billed, "start": batch.starts}).group_by("part", use_threads=False)
        bounds = starts.aggregate([("start", "min"), ("start", "max")])
        columns = (bounds.column(name).to_pylist() for name in ("part", "start_min", "start_max"))
        for number, first_s, last_s in zip(*columns, strict=True):
            part = batch.parts.billed[number]
            begins_s, ends_s = month_bounds_s(part.billing_month)
            # A credit note may be issued within the month that it corrects.
            if part.later and last_s >= (ends_s if part.credit_of else begins_s):
                yield f"{part.invoice_id}: a correction of {part.billing_month} is of that month itself"
            if not part.later and not begins_s <= first_s <= last_s < ends_s:
                yield f"{part.invoice_id}: usage is outside {part.billing_month}, and no correction"
            if not part.invoice_id:
                yield "a charge has no invoice id: a file must not mix those that have one with those that have none"

    def _prices(self, batch: Batch) -> Iterator[str]:
        self._codes = self._codes or rate_codes(self.books)
        for number in pc.unique(batch.priced).to_pylist():
            code = batch.parts.priced[number].rated.rate_code
            if code not in self._codes:
                yield f"rate code {code!r} is not in the price book"

    def _keys(self, batch: Batch) -> Iterator[str]:
        """A key and hour has a line a tier at most, and one for the allowance."""
        usual = pc.invert(pa.array([part.later for part in batch.parts.billed], pa.bool_()).take(batch.billed))
        known: dict[tuple[object, ...], int] = {}
        numbers = [known.setdefault((each.rated.line.kind, each.region), len(known)) for each in batch.parts.priced]
        places = pa.array(numbers, pa.int32()).take(batch.priced)
        columns = {"key": places, "used": batch.used, "start": batch.starts, "billed": batch.billed}
        counted = (
            pa.table(columns)
            .filter(usual)
            .group_by(["key", "used", "start", "billed"], use_threads=False)
            .aggregate([("key", "count")])
        )
        if not len(counted):
            return
        most = pc.max(counted.column("key_count")).as_py()
        if most > self._most_lines(batch):
            yield f"a key has {most} lines in one {self.grain}, more than its tiers and allowances"

    def _most_lines(self, batch: Batch) -> int:
        skus = {part.rated.sku for part in batch.parts.priced}
        for sku in skus - self._steps.keys():
            versions = [book.by_sku[sku].versions for book in self.books if sku in book.by_sku]
            tiers = [len(version.tiers) for of in versions for version in of]
            # Within a day or a month, prices of several versions may apply.
            steps = (max(tiers, default=0) if self.grain == "hour" else sum(tiers)) + 1
            self._steps[sku] = steps if tiers else len(batch)
        return max((self._steps[sku] for sku in skus), default=0)


def rate_codes(books: Sequence[PriceBook]) -> frozenset[str]:
    """Every rate code of some books, with those of allowances."""
    sold = (tier for book in books for each in book.products for version in each.versions for tier in version.tiers)
    free = (code for book in books for allowance in book.allowances for code in allowance.rate_codes.values())
    return frozenset((*(tier.rate_code for tier in sold), *free))


def wrong(problems: list[str]) -> ExportWrongError:
    """The error for an export with problems; it names the first of them."""
    more = f" (and {len(problems) - _EXAMPLES:,} more)" if len(problems) > _EXAMPLES else ""
    return ExportWrongError(
        f"The export is wrong, and has no manifest: {'; '.join(problems[:_EXAMPLES])}{more}.",
        "Do not use its files. This is an error of metering itself: please report it with these lines.",
    )


def _product(quantity: pa.ChunkedArray, price: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return pc.multiply(quantity.cast(_USUAL[0]), price.cast(_USUAL[1]))
    except pa.ArrowInvalid:
        return pc.multiply(quantity.cast(_LARGE[0]), price.cast(_LARGE[1]))


def _close(
    right: pa.ChunkedArray, cost: pa.ChunkedArray, written: pa.ChunkedArray, quantity: pa.ChunkedArray
) -> pa.ChunkedArray:
    """Whether each cost is what it should be: to the last digit, or as near as the doubles written can say."""
    if not pa.types.is_floating(written.type) or max(map(_largest, (written, quantity))) < _MOST_TOLD:
        return pc.equal(right, cost)
    off = pc.abs(pc.subtract(right, cost.cast(right.type))).cast(pa.float64())
    return pc.less_equal(off, pc.add(pc.multiply(pc.abs(written), _DOUBLE_STEP), 1 / UNITS_A_USD))


def _largest(amounts: pa.ChunkedArray) -> float:
    most: float | None = pc.max(pc.abs(amounts)).as_py()
    return most or 0.0


def _narrow(product: pa.DataType) -> pa.DataType:
    """A product's type after its last digits were rounded away."""
    wide = pa.decimal128 if pa.types.is_decimal128(product) else pa.decimal256
    return wide(product.precision - DECIMALS, DECIMALS)


def _exact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as decimals. A double below 524,288 is nearest to one number of ten decimals."""
    money = pa.decimal128(38, DECIMALS)
    if pa.types.is_dictionary(column.type):
        return pa.chunked_array([chunk.dictionary.cast(money).take(chunk.indices) for chunk in column.chunks], money)
    return of_doubles(column) if pa.types.is_floating(column.type) else column.cast(money)
