"""Valid synthetic records of a batch: drawn from a seed, written as JSON or columns, and summed independently."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from metering.hours import hour_label, rfc3339
from metering.replay.flows import FLOWS, Flow
from metering.usage.totals import Service, Total, UsageKey, UsageKind, UsageType

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

_HOUR_S = 3_600
_SLOT_S = 300
_SLOTS = 12
_RESOURCES = 8


class Row(NamedTuple):
    """One record: place of its kind, number of its resource, bytes, five-minute slot of its hour."""

    key: int
    resource: int
    bytes: int
    slot: int


class Kind(NamedTuple):
    """Common part of the records of one usage key."""

    account_id: str
    flow: Flow
    hour_s: int


@dataclass(frozen=True)
class Records:
    """The records of a batch."""

    kinds: Sequence[Kind]
    rows: Sequence[Row]

    @cached_property
    def texts(self) -> list[str]:
        """Each record as a JSON object."""
        heads = [_head(kind) for kind in self.kinds]
        times = [_times(kind.hour_s) for kind in self.kinds]
        return [
            f"{heads[key][0]}{resource:04x}{heads[key][1]}{size}{times[key][slot]}"
            for key, resource, size, slot in self.rows
        ]

    def columns(self) -> dict[str, list[str] | list[int]]:
        """The records as columns of the contract, with `start` and `end` in epoch seconds."""
        kinds = [self.kinds[row.key] for row in self.rows]
        flows = [kind.flow for kind in kinds]
        starts = [kind.hour_s + row.slot * _SLOT_S for kind, row in zip(kinds, self.rows, strict=True)]
        return {
            "account_id": [kind.account_id for kind in kinds],
            "service": [flow.service for flow in flows],
            "resource_id": [
                f"{_resource_start(kind)}{row.resource:04x}" for kind, row in zip(kinds, self.rows, strict=True)
            ],
            "direction": [flow.direction for flow in flows],
            "from": [flow.from_location for flow in flows],
            "to": [flow.to_location for flow in flows],
            "bytes": [row.bytes for row in self.rows],
            "start": starts,
            "end": [start + _SLOT_S for start in starts],
            "usage_type": [flow.usage_type if flow.own else "" for flow in flows],
        }

    def totals(self) -> dict[UsageKey, Total]:
        """Totals of the records by hour and key, as plain sums."""
        sums = [[0, 0] for _ in self.kinds]
        for row in self.rows:
            entry = sums[row.key]
            entry[0] += row.bytes
            entry[1] += 1
        totals: dict[UsageKey, Total] = {}
        for (account_id, flow, hour_s), (size, count) in zip(self.kinds, sums, strict=True):
            if count:
                kind = UsageKind(
                    UsageType(flow.usage_type), Service(flow.service), flow.from_location, flow.to_location
                )
                key = UsageKey(hour_s, account_id, *kind)
                before = totals.get(key, Total(0, 0))
                totals[key] = Total(before.bytes + size, before.records + count)
        return totals

    def changed(self) -> Records:
        """Records with other content and another total: the first one has one byte more."""
        first = self.rows[0]
        return Records(self.kinds, [first._replace(bytes=first.bytes + 1), *self.rows[1:]])

    def without(self, positions: frozenset[int]) -> Records:
        """The records without those at `positions`."""
        return Records(self.kinds, [row for place, row in enumerate(self.rows) if place not in positions])


class RecordGenerator:
    """Draws the records of batches.

    Args:
        accounts: Account ids, the busiest first.
        accounts_per_batch: Most accounts in a batch.
        keys_per_batch: Most usage keys in a batch.
        mean_bits: Bytes of a record are uniform below 2 to this power.
    """

    def __init__(
        self, accounts: Sequence[str], *, accounts_per_batch: int, keys_per_batch: int, mean_bits: int
    ) -> None:
        self._accounts = accounts
        self._accounts_per_batch = accounts_per_batch
        self._keys = keys_per_batch
        self._bits = mean_bits
        # Zipf's law: the n-th account has 1/n of the traffic of the first.
        self._weights = list(accumulate(1 / (place + 1) for place in range(len(accounts))))

    def draw(self, rng: random.Random, count: int, hours: Sequence[int]) -> Records:
        """Draw `count` records that start in `hours`, which are epoch seconds of hour starts."""
        chosen = list(dict.fromkeys(self._account(rng) for _ in range(rng.randint(1, self._accounts_per_batch))))
        pairs = len(chosen) * len(FLOWS)
        kinds = [
            Kind(chosen[pair % len(chosen)], FLOWS[pair // len(chosen)], hours[rng.randrange(len(hours))])
            for pair in rng.sample(range(pairs), min(self._keys, count, pairs))
        ]
        return Records(kinds, [self._row(rng, n % len(kinds)) for n in range(count)])

    def _account(self, rng: random.Random) -> str:
        return self._accounts[bisect.bisect(self._weights, rng.random() * self._weights[-1])]

    def _row(self, rng: random.Random, key: int) -> Row:
        # One draw serves all fields, because drawing takes most of a replay's processor time.
        bits = rng.getrandbits(self._bits + 16)
        size, rest = bits >> 16, bits & 0xFFFF
        return Row(key, rest % _RESOURCES, size, (rest >> 3) % _SLOTS)


def _head(kind: Kind) -> tuple[str, str]:
    flow = kind.flow
    own = f'"usage_type":"{flow.usage_type}",' if flow.own else ""
    return (
        f'{{"account_id":"{kind.account_id}","service":"{flow.service}","resource_id":"{_resource_start(kind)}',
        f'","direction":"{flow.direction}","from":"{flow.from_location}","to":"{flow.to_location}",{own}"bytes":',
    )


def _resource_start(kind: Kind) -> str:
    return f"{'i' if kind.flow.service == 'AmazonEC2' else 'r'}-{kind.account_id[-6:]}{kind.flow.direction}"


def _times(hour_s: int) -> list[str]:
    label = hour_label(hour_s)
    ends = [f"{label}:{minute:02d}:00Z" for minute in range(5, 60, 5)] + [rfc3339(hour_s + _HOUR_S)]
    return [f',"start":"{label}:{slot * 5:02d}:00Z","end":"{ends[slot]}"}}' for slot in range(_SLOTS)]
