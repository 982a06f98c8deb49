"""Charges by day or month: lines of one key and price become one line, in bounded memory.

By the hour, charges pass as they come. Corrections and credit notes are summed at every grain: bytes that move twice
within one hour would be two lines that no reader can tell apart.
"""

from __future__ import annotations

import heapq
import json
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, cast

from metering.billing.charges import Charge
from metering.billing.rating.lines import PriceState, RatedLine
from metering.billing.usage.ports import UsageLine
from metering.reports.exports.periods import period_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO

    from metering.billing.organization.payers import Payer
    from metering.reports.exports.periods import Grain
    from metering.usage.totals import Service, UsageType

# Some 150 MB of keys. What is more waits in files, each sorted.
MOST_KEYS = 200_000

Resourced = tuple[Charge, str]
"""A charge, and the id of its resource; empty without that detail."""


class _Key(NamedTuple):
    """Everything that a charge says but its bytes, in the order of lines. All of it can be compared."""

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


# The last tier has no end.
_NO_END = -1


def summed(charges: Iterable[Resourced], grain: Grain, *, most_keys: int = MOST_KEYS) -> Iterator[Resourced]:
    """Charges of which each has another key, price, period, document and resource; sums are sorted, and come last."""
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
        # What cancels out is no line, as usage of no bytes is none.
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
