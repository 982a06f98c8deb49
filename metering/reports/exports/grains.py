"""Charges by day or month: lines with the same key and price are summed into one line, in bounded memory.

Hourly charges are passed through one by one. Corrections and credit notes are summed at every grain, because bytes that
move twice within one hour would give two lines that look equal.
"""

from __future__ import annotations

import heapq
import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import groupby
from typing import IO, TYPE_CHECKING, Literal, NamedTuple, Protocol, cast, get_args

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.invoices.composing import Charge
from metering.billing.rating.payer_prices import PriceState, RatedLine
from metering.billing.usage.months import UsageLine
from metering.errors import OperationFailedError
from metering.hours import hour_label, month_bounds_s, month_of, rfc3339
from metering.lake.ports import OWN_HOUR, RowQuery
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.billing.payers import Payer
    from metering.lake.view import LakeView
    from metering.usage.totals import Service, UsageType

Grain = Literal["hour", "day", "month"]
GRAINS: tuple[Grain, ...] = get_args(Grain)
_SIZES_S = {"hour": HOUR_S, "day": DAY_S}


def period_of(hour_s: int, grain: Grain) -> int:
    """First second of the period that contains this hour."""
    return month_bounds_s(month_of(hour_s))[0] if grain == "month" else hour_s - hour_s % _SIZES_S[grain]


def ends_of(starts: pa.Array, grain: Grain) -> pa.Array:
    """Exclusive ends of the periods that begin at these seconds."""
    if grain != "month":
        return pc.add(starts, _SIZES_S[grain])
    return _each(starts, lambda start_s: month_bounds_s(month_of(start_s))[1], pa.int64())


def labels_of(starts: pa.Array) -> pa.Array:
    """Labels of the first hours of these periods: `2026-11-24T13`."""
    return _each(starts, hour_label, pa.string())


def _each(starts: pa.Array, value: Callable[[int], int | str], kind: pa.DataType) -> pa.Array:
    # A month has many lines, but few periods.
    encoded = starts.dictionary_encode()
    return pa.array([value(each) for each in encoded.dictionary.to_pylist()], kind).take(encoded.indices)


# Some 150 MB of keys fit into memory. Keys beyond that are kept in sorted files.
MOST_KEYS = 200_000

Resourced = tuple[Charge, str]
"""A charge, and the id of its resource; empty without that detail."""


class _Key(NamedTuple):
    """All fields of a charge except its bytes, in the order by which lines are sorted. All fields are comparable."""

    start_s: int
    account_id: str
    service: Service
    usage_type: UsageType
    from_location: str
    to_location: str
    resource_id: str
    tier_from_bytes: int
    state: str
    sku: str
    rate_code: str
    price: int
    list_price: int
    tier_to_bytes: int
    allowance: str
    payer_id: str
    invoice_id: str
    region: str
    billing_month: str
    corrects: bool
    credit_of: str


# The last tier has no upper bound.
_NO_END = -1


def summed(charges: Iterable[Resourced], grain: Grain, *, most_keys: int = MOST_KEYS) -> Iterator[Resourced]:
    """Charges summed by key, price, period, document and resource. Sums are sorted, and follow the unsummed charges."""
    sums = _Sums(grain=grain, most_keys=most_keys)
    try:
        for charge, resource_id in charges:
            if grain == "hour" and not charge.corrects and not charge.credit_of:
                yield charge, resource_id
            else:
                sums.add(charge, resource_id)
        yield from sums.charges()
    finally:
        sums.close()


@dataclass(slots=True, kw_only=True)
class _Sums:
    """Bytes by key. Mutable."""

    grain: Grain
    most_keys: int
    bytes: dict[_Key, int] = field(default_factory=dict)
    payers: dict[str, Payer] = field(default_factory=dict)
    runs: list[IO[str]] = field(default_factory=list)

    def add(self, charge: Charge, resource_id: str) -> None:
        key = _key(charge, resource_id, period_of(charge.rated.line.hour_s, self.grain))
        self.payers.setdefault(key.payer_id, charge.payer)
        self.bytes[key] = self.bytes.get(key, 0) + charge.rated.line.bytes
        if len(self.bytes) >= self.most_keys:
            self._spill()

    def charges(self) -> Iterator[Resourced]:
        last: _Key | None = None
        total_bytes = 0
        for key, more_bytes in heapq.merge(sorted(self.bytes.items()), *map(_read, self.runs)):
            if last is not None and key != last:
                yield from self._charge(last, total_bytes)
                total_bytes = 0
            last, total_bytes = key, total_bytes + more_bytes
        if last is not None:
            yield from self._charge(last, total_bytes)

    def close(self) -> None:
        for run in self.runs:
            run.close()

    def _spill(self) -> None:
        run = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # `close` closes it
        self.runs.append(run)
        run.writelines(f"{json.dumps([*key, str(size)])}\n" for key, size in sorted(self.bytes.items()))
        run.seek(0)
        self.bytes = {}

    def _charge(self, key: _Key, total_bytes: int) -> Iterator[Resourced]:
        # Bytes that add up to 0 give no line, like usage of 0 bytes.
        if total_bytes:
            yield _charge_of(key, self.payers[key.payer_id], total_bytes), key.resource_id


def _read(run: IO[str]) -> Iterator[tuple[_Key, int]]:
    for line in run:
        *values, size = cast("list[str]", json.loads(line))
        yield _Key(*values), int(size)  # type: ignore[arg-type]  # written by `_spill` in this order


def _key(charge: Charge, resource_id: str, start_s: int) -> _Key:
    rated = charge.rated
    _, account_id, service, usage_type, from_location, to_location, _ = rated.line
    return _Key(
        start_s, account_id, service, usage_type, from_location, to_location, resource_id, rated.tier_from_bytes,
        str(rated.state), rated.sku, rated.rate_code, rated.price, rated.list_price,
        _NO_END if rated.tier_to_bytes is None else rated.tier_to_bytes, rated.allowance, charge.payer.payer_id,
        charge.invoice_id, charge.region, charge.billing_month, charge.corrects, charge.credit_of,
    )  # fmt: skip


def _charge_of(key: _Key, payer: Payer, total_bytes: int) -> Charge:
    line = UsageLine(
        key.start_s, key.account_id, key.service, key.usage_type, key.from_location, key.to_location, total_bytes
    )
    rated = RatedLine(
        line, PriceState(key.state), key.sku, key.rate_code, key.price, key.list_price, key.tier_from_bytes,
        None if key.tier_to_bytes == _NO_END else key.tier_to_bytes, key.allowance,
    )  # fmt: skip
    return Charge(payer, rated, key.invoice_id, key.region, key.billing_month, key.corrects, key.credit_of)


# Charges by resource: each line is split into the resources whose bytes it bills, which are known only to the lake.
#
# A key's bytes of an hour are assigned to its resources in the order of their ids, and to its lines in the order of
# their tiers: both are walked together, so each byte is counted exactly once. Memory holds one hour of one payer.
# Corrections and credit notes have no resource, because bytes that move between prices belong to no single resource.


Key = tuple[str, ...]
"""Account, service, usage type, and from and to location."""
_COLUMNS = UsageLine._fields[1:-1]


class ResourceRows(Protocol):
    """Usage of resources."""

    def of(self, hour_s: int) -> Mapping[Key, Sequence[tuple[str, int]]]:
        """Bytes of each resource in an hour, by key, sorted by resource id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeResources:
    """Usage of some accounts' resources, read from the lakes of all regions."""

    views: Sequence[LakeView]
    accounts: frozenset[str]

    def of(self, hour_s: int) -> Mapping[Key, Sequence[tuple[str, int]]]:
        query = RowQuery(columns=(*_COLUMNS, "resource_id", OWN_HOUR), where=(("account_id", self.accounts),))
        sums: dict[Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for view in self.views:
            for group, total in view.hour_totals(hour_s, query).items():
                *key, resource_id, own_s = group
                # A correction booked in this hour is not usage of this hour.
                if own_s == hour_s:
                    sums[tuple(map(str, key))][str(resource_id)] += total.bytes
        return {key: sorted(of.items()) for key, of in sums.items()}


def by_resource(charges: Iterable[Charge], resources: ResourceRows) -> Iterator[Resourced]:
    """Charges of one document, split by resource, in the order of hours.

    Raises:
        OperationFailedError: The rows of the lake differ from the usage that was rated.
    """
    hour_s = -1
    rows: Mapping[Key, Sequence[tuple[str, int]]] = {}
    for (own_s, *key), group in groupby(charges, lambda charge: charge.rated.line.key):
        lines = list(group)
        if lines[0].corrects or lines[0].credit_of or lines[0].rated.state is not PriceState.PRICED:
            yield from ((charge, "") for charge in lines)
            continue
        if own_s != hour_s:
            hour_s = own_s
            rows = resources.of(hour_s)
        yield from _cut(lines, rows.get(tuple(key), ()))


def _cut(lines: Sequence[Charge], resources: Sequence[tuple[str, int]]) -> Iterator[Resourced]:
    charged, used = sum(charge.rated.line.bytes for charge in lines), sum(size for _, size in resources)
    if charged != used:
        raise _differs(lines[0], charged, used)
    waiting = iter(resources)
    resource_id, left = "", 0
    for charge in lines:
        wanted = charge.rated.line.bytes
        while wanted:
            if not left:
                resource_id, left = next(waiting)
            taken = min(wanted, left)
            if taken:
                rated = charge.rated
                yield charge._replace(rated=rated._replace(line=rated.line._replace(bytes=taken))), resource_id
            wanted, left = wanted - taken, left - taken


def _differs(charge: Charge, charged: int, used: int) -> OperationFailedError:
    line = charge.rated.line
    return OperationFailedError(
        f"{line.account_id} {line.usage_type} at {rfc3339(line.hour_s)}: {charged:,} bytes are charged, and the rows "
        f"of its resources have {used:,}.",
        "Usage of an open month may have come in meanwhile: run it again. Of a closed month: metering period verify",
    )
