"""Totals that the service must report for given records, computed by plain sums and a table of its own.

This module uses neither the classification (`metering/usage/usage_types.py`) nor the aggregation of the service, so its
agreement with them is evidence. To add a usage type here, read the contract and not that module.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from metering.usage.totals import Service, Total, UsageKey, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HOUR_S = 3_600

# Billing prefixes as the data-transfer pages of AWS list them, long name first.
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
        # A whole number may be written as 2.0 or 2e3.
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
    """Regions with one bill are charged as pairs. GovCloud has that of the commercial regions, the others their own."""
    for start in ("cn-", "us-iso-", "us-isob-", "eu-isoe-", "us-isof-", "eusc-"):
        if region.startswith(start):
            return start
    return "commercial and GovCloud"
