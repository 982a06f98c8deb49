"""Charges of resources, split by the causes of their bytes: FOCUS's columns `Allocated…`.

Each charge of a resource becomes its parts, by the method `metering:bytes-by-line:1`. The parts of a charge add up to
it in every amount: they are rounded by the largest remainder. What no cause is known for is a part without a resource
id. Corrections and credit notes have no resource, and stay whole.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict, deque
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain, groupby, starmap
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import pyarrow as pa

from metering.billing.money import DECIMALS, UNITS_A_USD, usd_text
from metering.billing.rating.payer_prices import PriceState
from metering.errors import OperationFailedError
from metering.hours import month_bounds_s, month_of, parse_hour
from metering.reports.exports.batches import MONEY, as_money, whole_numbers
from metering.reports.query import UsageQuery
from metering.reports.who import OTHER_USAGE, WhoQuery
from metering.reports.who_costs import METHOD
from metering.reports.who_sums import CauseSums
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.invoices.composing import Charge
    from metering.billing.owners import Owners
    from metering.reports.exports.grains import Grain, Resourced
    from metering.reports.query import GroupColumn
    from metering.reports.who_sums import CauseSource

_AMOUNTS = (
    "BilledCost", "ContractedCost", "EffectiveCost", "PricingCurrencyEffectiveCost", "ListCost", "PricingQuantity",
    "ConsumedQuantity",
)  # fmt: skip
_BYTES, _KEY = "x_Bytes", "x_ChargeKey"
_PART, _KEY_CHARS = "#", 12
ALLOCATED = (
    "AllocatedMethodId", "AllocatedMethodDetails", "AllocatedResourceId", "AllocatedResourceName", "AllocatedTags",
)  # fmt: skip
"""Columns of FOCUS that only parts of charges have."""
# Cost and quantity of a part are rounded apart, each by less than one unit, and so was the cost of the whole.
_MOST_OFF = Decimal("0.0000000003")
_DETAILS, _RATIO = "AllocatedMethodDetails", "AllocatedRatio"
_COLUMNS = ("account", "service", "usage_type", "from", "to", "resource")
_NAMES = ("cause", "workload", "owner", "destination", "path", "tags")
_OWN_TAGS = {"owner": "metering/owner", "destination": "metering/destination", "path": "metering/path"}


class Part(NamedTuple):
    """Bytes of a resource by one cause; without a cause, a reason. `tags` is a JSON object."""

    cause: str
    workload: str
    owner: str
    destination: str
    path: str
    tags: str
    reason: str
    bytes: int


Parts = tuple[Part, ...]
_ResourceKey = tuple[str, ...]


class PartSource(Protocol):
    """Causes of the bytes of resources."""

    def of(self, region: str, start_s: int) -> Mapping[_ResourceKey, Parts]:
        """Parts by account, service, usage type, beginning, end and resource, in the period that begins then."""


@dataclass(kw_only=True)
class CauseParts:
    """Parts from the days of causes, for charges at one grain. Mutable: it keeps the parts of one period a region.

    Attributes:
        sources: Causes by region.
        accounts: Accounts whose parts are read.
    """

    sources: Mapping[str, CauseSource]
    owners: Owners
    accounts: frozenset[str]
    grain: Grain
    _kept: dict[str, tuple[int, dict[int, dict[_ResourceKey, Parts]]]] = field(default_factory=dict)

    def of(self, region: str, start_s: int) -> Mapping[_ResourceKey, Parts]:
        """Parts as `PartSource` says. Raises as `CauseSums.add` does."""
        from_s, to_s = month_bounds_s(month_of(start_s)) if self.grain == "month" else _day(start_s)
        if region not in self.sources:
            return {}
        if self._kept.get(region, (-1,))[0] != from_s:
            self._kept[region] = from_s, self._read(self.sources[region], from_s, to_s)
        return self._kept[region][1].get(start_s, {})

    def _read(self, source: CauseSource, from_s: int, to_s: int) -> dict[int, dict[_ResourceKey, Parts]]:
        times: tuple[GroupColumn, ...] = ("hour",) if self.grain == "hour" else ()
        usage = UsageQuery(from_s=from_s, to_s=to_s, group_by=("usage_type", *times), accounts=self.accounts)
        query = WhoQuery(usage=usage, group_by=(*_COLUMNS, *_NAMES, *times), given={"account": self.accounts})
        sums = CauseSums(query, self.owners, corrections=False)
        sums.add(source)
        found: dict[int, dict[_ResourceKey, list[Part]]] = defaultdict(lambda: defaultdict(list))
        for values, size, _ in sums.entries():
            start_s = parse_hour(values["hour"][:13]) if times else from_s
            part = Part._make([*(values[name] for name in _NAMES), values["reason"], size])
            found[start_s][tuple(values[name] for name in _COLUMNS)].append(part)
        return {start_s: {key: tuple(sorted(parts)) for key, parts in of.items()} for start_s, of in found.items()}


def _day(start_s: int) -> tuple[int, int]:
    first_s = start_s - start_s % DAY_S
    return first_s, first_s + DAY_S


@dataclass
class Allocation:
    """Splits charges on their way into a table. Mutable: it remembers the parts of the charges that come next."""

    parts: PartSource
    rows: int = 0
    _next: deque[Parts] = field(default_factory=deque)

    def noted(self, charges: Iterable[Resourced]) -> Iterator[Resourced]:
        """The same charges, in order; the parts of those with a price are remembered.

        Raises:
            OperationFailedError: A resource has causes of more bytes than it is charged for.
        """
        for _, of_key in groupby(charges, lambda each: (each[0].rated.line[:-1], each[0].region)):
            group = list(of_key)
            priced = [each for each in group if each[0].rated.state is PriceState.PRICED]
            known: dict[str, Parts] = {}
            for charge, resource_id in priced:
                if resource_id and resource_id not in known:
                    same = (other for other, its_id in group if its_id == resource_id)
                    known[resource_id] = self._of(charge, resource_id, sum(each.rated.line.bytes for each in same))
            self._next += [known[resource_id] if resource_id else () for _, resource_id in priced]
            yield from group

    def _of(self, charge: Charge, resource_id: str, charged: int) -> Parts:
        line = charge.rated.line
        key = (*line[1:6], resource_id)
        parts = self.parts.of(charge.region, line.hour_s).get(key, ())
        left = charged - sum(part.bytes for part in parts)
        if left < 0:
            raise OperationFailedError(
                f"{line.account_id} {line.usage_type}: {resource_id} is charged for {charged:,} bytes, and its causes "
                f"have {-left:,} more.",
                "Usage of an open month may have come in meanwhile: run it again.",
            )
        rest = Part("", "", "", "", "", "{}", OTHER_USAGE, left)
        return (*parts, rest) if left or not parts else parts

    def table(self, table: pa.Table) -> pa.Table:
        """A table of the next charges, with a row for each of their parts."""
        each = [self._next.popleft() for _ in range(table.num_rows)]
        places = [place for place, parts in enumerate(each) for _ in parts or (None,)]
        self.rows += len(places)
        weights = [[part.bytes for part in parts] for parts in each]
        made = table.take(pa.array(places, pa.int64()))
        for name in _AMOUNTS:
            made = _replaced(made, name, _split(_units(table.column(name)), weights))
        sizes = [int(size) for size in table.column(_BYTES).to_pylist()]
        made = _replaced(made, _BYTES, [None if size is None else str(size) for size in _split(sizes, weights)])
        of_charges = zip(table.column(_KEY).to_pylist(), each, strict=True)
        made = _replaced(made, _KEY, list(chain.from_iterable(starmap(_keys, of_charges))))
        for name, values in _allocated(each, sizes).items():
            made = _replaced(made, name, values)
        return made


def shares(whole: int, weights: Sequence[int]) -> list[int]:
    """Cut a whole number in proportion to weights by the largest remainder; the first of equal ones gets more."""
    total, sign = sum(weights), -1 if whole < 0 else 1
    if not total:
        return [whole, *[0] * (len(weights) - 1)]
    cut = [divmod(abs(whole) * weight, total) for weight in weights]
    order = sorted(range(len(cut)), key=lambda place: (-cut[place][1], place))
    more = set(order[: abs(whole) - sum(part for part, _ in cut)])
    return [sign * (part + (place in more)) for place, (part, _) in enumerate(cut)]


def _split(values: Sequence[int | None], weights: Sequence[Sequence[int]]) -> list[int | None]:
    found: list[int | None] = []
    for value, of_line in zip(values, weights, strict=True):
        found += [value] * max(len(of_line), 1) if value is None or not of_line else shares(value, of_line)
    return found


def _keys(key: str, parts: Parts) -> Iterator[str]:
    """A key for each part, which begins with the key of its charge; of a whole charge, that key."""
    if not parts:
        yield key
    for part in parts:
        yield f"{key}{_PART}{hashlib.sha256(json.dumps(part[:-1]).encode()).hexdigest()[:_KEY_CHARS]}"


def _units(column: pa.ChunkedArray) -> list[int | None]:
    return [None if each is None else int(each.scaleb(DECIMALS)) for each in column.to_pylist()]


def _allocated(each: Sequence[Parts], sizes: Sequence[int]) -> dict[str, list[str | None]]:
    """Values of the columns `Allocated…`; null in a charge that stays whole."""
    found: dict[str, list[str | None]] = {name: [] for name in ALLOCATED}
    for parts, size in zip(each, sizes, strict=True):
        if not parts:
            for values in found.values():
                values.append(None)
            continue
        weights = [part.bytes for part in parts]
        ratios = shares(UNITS_A_USD, weights)
        for part, ratio, used in zip(parts, ratios, shares(size, weights), strict=True):
            # Digits of a ratio are written as they are: a float may have others.
            share = Decimal(usd_text(ratio)).normalize()
            element = f'{{"{_RATIO}": {share:f}, "UsageUnit": "Bytes", "UsageQuantity": {used}}}'
            own = {name: getattr(part, field) for field, name in _OWN_TAGS.items() if getattr(part, field)}
            row = (
                METHOD, f'{{"Elements": [{element}]}}', part.cause or None, part.workload if part.cause else None,
                json.dumps({**json.loads(part.tags), **own}),
            )  # fmt: skip
            for values, value in zip(found.values(), row, strict=True):
                values.append(value)
    return found


def _replaced(table: pa.Table, name: str, values: Sequence[int | None] | Sequence[str | None]) -> pa.Table:
    place = table.schema.get_field_index(name)
    kind = table.schema.field(place).type
    if kind == MONEY:
        array = as_money(whole_numbers(cast("Sequence[int | None]", values)))
    else:
        array = pa.array(values, pa.string())
        array = array.dictionary_encode() if pa.types.is_dictionary(kind) else array
    return table.set_column(place, table.schema.field(place), array)


def problems_of(origin: pa.Table, parts: pa.Table) -> Iterator[str]:
    """Faults of charges that were split: sums of amounts and of ratios, whole charges, tags, costs beside prices."""
    yield from (f"parts do not add up to {name}" for name in _AMOUNTS if _sums(origin, name) != _sums(parts, name))
    yield from _ratio_problems(parts)
    amounts = (parts.column(name).to_pylist() for name in ("BilledCost", "PricingQuantity", "ContractedUnitPrice"))
    for cost, quantity, price in zip(*amounts, strict=True):
        if abs(cost - quantity * price) > _MOST_OFF:
            yield f"BilledCost {cost} is far from {quantity} times {price}"


def _ratio_problems(parts: pa.Table) -> Iterator[str]:
    names = (_KEY, _DETAILS, "AllocatedResourceId", "AllocatedResourceName", "AllocatedTags", "Tags")
    ratios: dict[str, Decimal] = defaultdict(Decimal)
    columns = (parts.column(name).to_pylist() for name in names)
    for key, details, its_id, its_name, tags, own_tags in zip(*columns, strict=True):
        if (its_id is None) != (its_name is None):
            yield f"{key} has a cause without a name, or a name without a cause"
        if details is None:
            if its_id or tags:
                yield f"{key} is whole, and has a cause"
            continue
        ratio = json.loads(details, parse_float=Decimal, parse_int=Decimal)["Elements"][0][_RATIO]
        ratios[key.partition(_PART)[0]] += ratio
        if json.loads(tags).keys() & json.loads(own_tags).keys():
            yield f"{key} has a tag twice"
    if any(ratio != int(ratio) for ratio in ratios.values()):
        yield "ratios do not add up to 1"


def _sums(table: pa.Table, name: str) -> dict[str, Decimal]:
    values = (table.column(column).to_pylist() for column in (_KEY, name))
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for key, value in zip(*values, strict=True):
        sums[key.partition(_PART)[0]] += value or 0
    return sums
