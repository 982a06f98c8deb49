"""Charges as columns: what many lines share is stored once, and each line has its number.

A charge says some thirty things, and most of them are said by millions of others: who pays, the account, the price with
what it is for. Each of these parts gets a number when it is first seen. A batch then is a few arrays of numbers, from
which Arrow makes all columns; a Python loop touches each charge once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from metering.billing.rating.lines import PriceState
from metering.hours import month_of
from metering.reports.exports.amounts import costs, quantities, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.billing.charges import Charge
    from metering.billing.organization.payers import Payer
    from metering.billing.rating.lines import RatedLine
    from metering.usage.totals import Service, UsageType

_PricedKey = tuple["Service", "UsageType", str, str, tuple[object, ...], str]
BATCH_ROWS = 65_536
"""Lines that are held in memory at once; each batch is a row group."""
# Parts that are remembered: the names of an account, and some thirty columns of a product. Beyond them all begin anew.
_MOST_PARTS = 200_000


class Billed(NamedTuple):
    """What charges of one document have in common.

    Attributes:
        month: Month of use: of a correction or a credit note that which it is about.
        later: It is one of these: FOCUS's class Correction.
    """

    payer: Payer
    invoice_id: str
    billing_month: str
    month: str
    later: bool
    credit_of: str


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
    """Makes batches of charges. Mutable.

    Attributes:
        rows: Lines in a batch.
        unbilled: Bytes of what has no price, so far.
    """

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
        # One loop without calls: it runs for each of millions of lines, and is most of an export's time.
        billed, priced, used = numbers.billed, numbers.priced, numbers.used
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
            at = billed.get((invoice_id, month, later, payer.payer_id, billing_month, credit_of))
            if at is None:
                at = numbers.new_billed(Billed(payer, invoice_id, billing_month, month, later, credit_of))
            of_billed.append(at)
            # Without the state, whose hash is slow.
            at = priced.get((line.service, line.usage_type, line.from_location, line.to_location, rated[2:], region))
            if at is None:
                at = numbers.new_priced(Priced(rated, region))
            of_priced.append(at)
            at = used.get((line.account_id, resource_id))
            if at is None:
                at = numbers.new_used(Used(line.account_id, resource_id))
            of_used.append(at)
            starts.append(start_s)
            total_bytes.append(line.bytes)
            left -= 1
            if not left:
                break
        if not starts:
            return None
        return _batch(numbers.parts, of_billed, of_priced, of_used, starts, total_bytes)

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

    def new_billed(self, part: Billed) -> int:
        key = (part.invoice_id, part.month, part.later, part.payer.payer_id, part.billing_month, part.credit_of)
        at = self.billed[key] = len(self.parts.billed)
        self.parts.billed.append(part)
        return at

    def new_priced(self, part: Priced) -> int:
        line, terms = part.rated.line, part.rated[2:]
        key = (line.service, line.usage_type, line.from_location, line.to_location, terms, part.region)
        at = self.priced[key] = len(self.parts.priced)
        self.parts.priced.append(part)
        return at

    def new_used(self, part: Used) -> int:
        at = self.used[part] = len(self.parts.used)
        self.parts.used.append(part)
        return at


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
