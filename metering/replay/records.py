"""Valid synthetic records of a batch: drawn from a seed, written as JSON or columns, and summed independently."""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from metering.hours import hour_label, rfc3339
from metering.usage.totals import Service, Total, UsageKey, UsageKind, UsageType

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping, Sequence


# Usage types are copied from the billing documentation, and not computed by `metering/usage/usage_types.py`: a replay
# must not share code with the service that it checks.


class Flow(NamedTuple):
    """One kind of traffic. Records must be metered under `usage_type`; `own` if the records state this type."""

    service: str
    direction: str
    from_location: str
    to_location: str
    usage_type: str
    own: bool = False


FLOWS = (
    Flow("AmazonEC2", "out", "us-east-1/use1-az2", "internet", "DataTransfer-Out-Bytes"),
    Flow("AmazonEC2", "in", "internet", "us-west-2/usw2-az1", "USW2-DataTransfer-In-Bytes"),
    Flow("AmazonS3", "out", "eu-west-1", "cloudfront", "EU-CloudFront-Out-Bytes"),
    Flow("AmazonEC2", "out", "us-east-1/use1-az4", "us-west-2", "USE1-USW2-AWS-Out-Bytes"),
    Flow("AmazonS3", "out", "us-west-2", "internet", "USW2-DataTransfer-Out-Bytes"),
    Flow("AmazonEC2", "out", "us-east-1/use1-az1", "us-east-1/use1-az2", "DataTransfer-Regional-Bytes"),
    Flow("AmazonRDS", "in", "us-east-1/use1-az1", "us-east-1/use1-az6", "DataTransfer-Regional-Bytes"),
    Flow("AWSELB", "in", "ap-south-1", "eu-central-1", "EUC1-APS3-AWS-In-Bytes"),
    Flow("AmazonEC2", "out", "ap-northeast-1/apne1-az4", "internet", "APN1-DataTransfer-Out-Bytes"),
    Flow("AmazonEC2", "out", "us-west-2/usw2-lax1-az1", "us-west-2/usw2-lax1-az1", "USW2-C3DataTransfer-Out-Bytes"),
    Flow("AmazonS3", "in", "eu-west-2", "eu-west-2", "EUW2-C3DataTransfer-In-Bytes"),
    Flow("AmazonEC2", "out", "eu-central-1/euc1-az2", "cn-north-1", "EUC1-DataTransfer-Out-Bytes"),
    Flow("AmazonEC2", "out", "ap-southeast-1/apse1-az1", "us-gov-west-1", "APS1-UGW1-AWS-Out-Bytes"),
    Flow("AmazonEC2", "in", "ap-southeast-1", "us-gov-west-1", "UGW1-APS1-AWS-In-Bytes"),
    Flow("AmazonS3", "out", "ap-southeast-9", "internet", "ap-southeast-9-DataTransfer-Out-Bytes"),
    Flow("AmazonEC2", "in", "ap-southeast-9", "us-east-1", "USE1-ap-southeast-9-AWS-In-Bytes"),
    Flow("AmazonCloudFront", "in", "cloudfront", "us-east-1", "CloudFront-In-Bytes"),
    Flow("AmazonVPC", "out", "us-west-2/usw2-az2", "internet", "USW2-NatGateway-Bytes", own=True),
    Flow("AmazonEC2", "out", "us-east-1/use1-az2", "unknown", "Unclassified-Out-Bytes"),
    Flow("AmazonEC2", "in", "unknown", "eu-west-1", "EU-Unclassified-In-Bytes"),
    Flow("AmazonEC2", "in", "us-west-2", "us-west-2/usw2-az1", "USW2-Unclassified-Regional-Bytes", own=True),
    Flow("AmazonCloudFront", "out", "cloudfront", "internet", "EU-DataTransfer-Out-Bytes", own=True),
)


_HOUR_S = 3_600
_SLOT_S = 300
_SLOTS = 12
_RESOURCES = 8


class Row(NamedTuple):
    """One record: index of its kind, number of its resource, bytes, and five-minute slot within the hour."""

    key: int
    resource: int
    bytes: int
    slot: int


class Kind(NamedTuple):
    """Fields shared by the records of one usage key."""

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
        """Totals of the records by hour and key, by simple addition."""
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
        """Copy with different content and a different total: the first record has one byte more."""
        first = self.rows[0]
        return Records(self.kinds, [first._replace(bytes=first.bytes + 1), *self.rows[1:]])

    def without(self, positions: frozenset[int]) -> Records:
        """Leave out the records at `positions`."""
        return Records(self.kinds, [row for place, row in enumerate(self.rows) if place not in positions])


class RecordGenerator:
    """Draws the records of batches.

    Args:
        accounts: Account ids, the busiest first.
        accounts_per_batch: Maximum number of accounts in a batch.
        keys_per_batch: Maximum number of usage keys in a batch.
        mean_bits: Bytes of a record are uniform in [0, 2**mean_bits).
    """

    def __init__(
        self, accounts: Sequence[str], *, accounts_per_batch: int, keys_per_batch: int, mean_bits: int
    ) -> None:
        self._accounts = accounts
        self._accounts_per_batch = accounts_per_batch
        self._keys = keys_per_batch
        self._bits = mean_bits
        # Zipf's law: the n-th account has 1/n of the traffic of the first account.
        self._weights = list(accumulate(1 / (place + 1) for place in range(len(accounts))))

    def draw(self, rng: random.Random, count: int, hours: Sequence[int]) -> Records:
        """Draw `count` records that start in `hours` (epoch seconds of hour starts)."""
        chosen = list(dict.fromkeys(self._account(rng) for _ in range(rng.randint(1, self._accounts_per_batch))))
        pairs = len(chosen) * len(FLOWS)
        kinds = [
            Kind(chosen[pair % len(chosen)], FLOWS[pair // len(chosen)], hours[rng.randrange(len(hours))])
            for pair in rng.sample(range(pairs), min(self._keys, count, pairs))
        ]
        return Records(kinds, [self._row(rng, n % len(kinds)) for n in range(count)])

    def steady(self, rng: random.Random, count: int, hour_s: int, size: Callable[[int, int], int]) -> Records:
        """Make `count` records of an hour: each account in turn has each of the first flows, a twentieth up or down.

        `size(account, flow)` has the expected bytes of a record, by the numbers of account and flow.
        """
        accounts = range(len(self._accounts))
        pairs = [(account, flow) for flow in range(self._keys) for account in accounts][:count]
        kinds = [Kind(self._accounts[account], FLOWS[flow], hour_s) for account, flow in pairs]
        rows = []
        for number in range(count):
            key, turn = number % len(pairs), number // len(pairs)
            share = len(range(key, count, len(pairs)))
            bits = rng.getrandbits(16)
            rows.append(
                Row(
                    key, turn % _RESOURCES, size(*pairs[key]) * rng.randint(950, 1_050) // 1_000 // share, bits % _SLOTS
                )
            )
        return Records(kinds, rows)

    def _account(self, rng: random.Random) -> str:
        return self._accounts[bisect.bisect(self._weights, rng.random() * self._weights[-1])]

    def _row(self, rng: random.Random, key: int) -> Row:
        # One random draw supplies all fields, because drawing takes most of a replay's CPU time.
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


# Billing prefixes as in AWS's data-transfer pages, each after its region's name.
_PREFIX_LIST = (
    "us-east-1=USE1 us-east-2=USE2 us-west-1=USW1 us-west-2=USW2 ca-central-1=CAN1 ca-west-1=CAN2 "
    "mx-central-1=MXC1 af-south-1=AFS1 ap-east-1=APE1 ap-east-2=APE2 ap-northeast-1=APN1 ap-northeast-2=APN2 "
    "ap-northeast-3=APN3 ap-southeast-1=APS1 ap-southeast-2=APS2 ap-south-1=APS3 ap-southeast-3=APS4 "
    "ap-south-2=APS5 ap-southeast-4=APS6 ap-southeast-5=APS7 ap-southeast-6=APS8 ap-southeast-7=APS9 "
    "eu-west-1=EU eu-central-1=EUC1 eu-north-1=EUN1 eu-south-1=EUS1 eu-west-2=EUW2 eu-west-3=EUW3 "
    "me-south-1=MES1 sa-east-1=SAE1 us-gov-west-1=UGW1 us-gov-east-1=UGE1 eu-central-2=EUC2 eu-south-2=EUS2 "
    "me-central-1=MEC1 il-central-1=ILC1 cn-north-1=CNN1 cn-northwest-1=CNW1"
)
_PREFIXES: dict[str, str] = dict(re.findall(r"(\S+)=(\S+)", _PREFIX_LIST))


def expected_usage_type(record: Mapping[str, object]) -> str:
    """Usage type under which a valid record of the contract must be metered."""
    if record.get("usage_type"):
        return str(record["usage_type"])
    outward = record["direction"] == "out"
    near, far = (str(record[side]) for side in (("from", "to") if outward else ("to", "from")))
    way = "Out" if outward else "In"
    region, _, zone = near.partition("/")
    peer, _, peer_zone = far.partition("/")
    if far == "unknown":
        return f"{_before(region)}Unclassified-{way}-Bytes"
    if far == "cloudfront":
        return f"{_before(region)}CloudFront-{way}-Bytes"
    if far == "internet" or _bill(peer) != _bill(region):
        return f"{_before(region)}DataTransfer-{way}-Bytes"
    if peer != region:
        return f"{_PREFIXES.get(region, region)}-{_PREFIXES.get(peer, peer)}-AWS-{way}-Bytes"
    if zone and peer_zone and zone != peer_zone:
        return f"{_before(region)}DataTransfer-Regional-Bytes"
    return f"{_before(region)}C3DataTransfer-{way}-Bytes"


def expected_totals(records: Iterable[Mapping[str, object]]) -> dict[UsageKey, Total]:
    """Exact totals of valid records of the contract, by hour and key."""
    sums: dict[UsageKey, list[int]] = {}
    for record in records:
        start_s = start_of(record)
        key = UsageKey(
            start_s - start_s % _HOUR_S,
            str(record["account_id"]),
            UsageType(expected_usage_type(record)),
            Service(str(record["service"])),
            str(record["from"]),
            str(record["to"]),
        )
        entry = sums.setdefault(key, [0, 0])
        # An integer may be written as 2.0 or 2e3.
        entry[0] += int(Decimal(str(record["bytes"])))
        entry[1] += 1
    return {key: Total(entry[0], entry[1]) for key, entry in sums.items()}


def start_of(record: Mapping[str, object], field: str = "start") -> int:
    """Epoch seconds of a record's `start` or `end`, which may be epoch seconds, RFC 3339 text or a datetime."""
    value = record[field]
    if isinstance(value, int):
        return value
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return int(moment.timestamp())


def _before(region: str) -> str:
    return "" if region == "us-east-1" else f"{_PREFIXES.get(region, region)}-"


def _bill(region: str) -> str:
    """Regions of one bill are charged as pairs. GovCloud is on the commercial bill; other partitions have their own."""
    for start in ("cn-", "us-iso-", "us-isob-", "eu-isoe-", "us-isof-", "eusc-"):
        if region.startswith(start):
            return start
    return "commercial and GovCloud"
