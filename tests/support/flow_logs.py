"""Flow logs for tests, and the results of a line-by-line reader that shares no code with the real reader."""

from __future__ import annotations

import gzip
import io
import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from metering.onramps.kinds import KINDS, recognised
from metering.onramps.reading import Balance, Block, FileName, FlowHop, Observation, ReadSettings, RefusedLine

VPC_FLOW = next(kind for kind in KINDS if kind.name == "vpc-flow")
ACCOUNT = "012345678901"
START_S = 1_795_525_500
HOUR_S = 3_600
V2 = (
    "version", "account-id", "interface-id", "srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets", "bytes",
    "start", "end", "action", "log-status",
)  # fmt: skip
"""The default format, as AWS documents it."""
KEY = f"AWSLogs/{ACCOUNT}/vpcflowlogs/us-east-1/{ACCOUNT}_vpcflowlogs_us-east-1_fl-0a1b_20261124T1305Z_a1b2.log.gz"
USUAL: Mapping[str, str] = {
    "version": "5",
    "account-id": ACCOUNT,
    "interface-id": "eni-0a",
    "srcaddr": "10.0.0.5",
    "dstaddr": "192.0.2.7",
    "srcport": "443",
    "dstport": "50123",
    "protocol": "6",
    "packets": "3",
    "bytes": "1000",
    "start": str(START_S),
    "end": str(START_S + 60),
    "action": "ACCEPT",
    "log-status": "OK",
    "flow-direction": "egress",
    "region": "us-east-1",
    "az-id": "use1-az2",
}


def line(names: Sequence[str] = V2, **changed: str) -> str:
    """A log line with the fields `names`; keywords use `_` for `-`. Other values are `-`."""
    values = dict(USUAL) | {name.replace("_", "-"): value for name, value in changed.items()}
    return " ".join(values.get(name, "-") for name in names)


def text(*lines: str, names: Sequence[str] = V2) -> bytes:
    return "".join(f"{each}\n" for each in (" ".join(names), *lines)).encode()


class Reading(NamedTuple):
    """Complete output of a reader for a file."""

    observations: list[Observation[FlowHop]]
    refused: list[RefusedLine]
    balance: Balance
    reasons: dict[str, tuple[int, int]]
    blocks: list[Block[FlowHop]]
    content: bytes

    def totals(self) -> dict[tuple[FlowHop, int], tuple[int, int]]:
        found: dict[tuple[FlowHop, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
        for each in self.observations:
            total_bytes, lines = found[each.subject, each.hour_s]
            found[each.subject, each.hour_s] = (total_bytes + each.bytes, lines + each.lines)
        return dict(found)


def known_name(key: str = KEY) -> FileName:
    found = recognised(key)
    assert found is not None
    return found[1]


def nameless() -> FileName:
    return FileName(kind="vpc-flow", identity="")


def read(stored: bytes, name: FileName | None = None, settings: ReadSettings | None = None) -> Reading:
    """Read a stored file to its end, and check the balance of the file."""
    from metering.onramps.formats.flows.reader import read_flow_log

    pieces: list[bytes] = []
    blocks = list(
        read_flow_log(io.BytesIO(stored), name or known_name(), settings or ReadSettings(), digest=pieces.append)
    )
    reasons: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for block in blocks:
        for reason, (lines, total_bytes) in block.refusals.items():
            reasons[reason] = (reasons[reason][0] + lines, reasons[reason][1] + total_bytes)
        assert block.balance.holds
        assert sum(each.lines for each in block.observations) == block.balance.metered
        assert sum(each.bytes for each in block.observations) == block.balance.metered_bytes
    balance = sum((block.balance for block in blocks), Balance())
    assert balance.holds
    assert sum(lines for lines, _ in reasons.values()) == balance.refused
    assert sum(total_bytes for _, total_bytes in reasons.values()) == balance.refused_bytes
    return Reading(
        [each for block in blocks for each in block.observations],
        [each for block in blocks for each in block.refused],
        balance,
        dict(reasons),
        blocks,
        b"".join(pieces),
    )


def members(content: bytes, cuts: Sequence[int]) -> bytes:
    """Content compressed as several gzip members, split at these positions."""
    places = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    return b"".join(gzip.compress(content[start:end], 1, mtime=0) for start, end in pairwise(places))


ATTRIBUTES = {
    "account-id": "account_id",
    "interface-id": "interface_id",
    "resource-id": "resource_id",
    "instance-id": "instance_id",
    "vpc-id": "vpc_id",
    "subnet-id": "subnet_id",
    "region": "region",
    "az-id": "zone_id",
    "sublocation-type": "sublocation_type",
    "interface-type": "interface_type",
    "flow-direction": "flow_direction",
    "srcaddr": "source",
    "dstaddr": "destination",
    "pkt-srcaddr": "packet_source",
    "pkt-dstaddr": "packet_destination",
    "pkt-src-aws-service": "source_service",
    "pkt-dst-aws-service": "destination_service",
    "traffic-path": "path",
    "next-hop-interface-id": "next_hop_interface_id",
    "next-hop-az-id": "next_hop_zone_id",
    "next-hop-vpc-id": "next_hop_vpc_id",
    "next-hop-interface-type": "next_hop_interface_type",
}
_ADDRESSES = ("srcaddr", "dstaddr", "pkt-srcaddr", "pkt-dstaddr")


class Opinion(NamedTuple):
    """Expected outcome of a line: its outcome in the balance or reason of refusal, its bytes and its subject."""

    outcome: str
    bytes: int = 0
    subject: FlowHop | None = None
    hour_s: int = 0


def opinion(values: Mapping[str, str], account_id: str) -> Opinion:
    size = _number(values["bytes"])
    stated = max(size or 0, 0)
    status = values.get("log-status", "NODATA" if values["bytes"] == "-" else "OK")
    if status in ("NODATA", "SKIPDATA"):
        return Opinion(status.lower(), stated)
    if status != "OK":
        return Opinion("invalid_value", stated)
    if values["bytes"] == "-" and values.get("action") == "REJECT":
        return Opinion("rejected")
    if size is None or size < 0:
        return Opinion("invalid_number")
    action = values.get("action", "ACCEPT")
    if action != "ACCEPT":
        return Opinion("rejected" if action == "REJECT" else "invalid_value", size)
    problem = _wrong_times(values) or _wrong_text(values, account_id)
    return Opinion(problem, size) if problem else _metered(values, account_id, size)


def _metered(values: Mapping[str, str], account_id: str, size: int) -> Opinion:
    attributes = {ATTRIBUTES[name]: "" if text == "-" else text for name, text in values.items() if name in ATTRIBUTES}
    if attributes.get("account_id", "") in ("", "unknown"):
        attributes["account_id"] = account_id
    start = _time(values["start"]) or 0
    return Opinion("metered", size, FlowHop(**attributes), start - start % 3_600)


def _wrong_times(values: Mapping[str, str]) -> str:
    start, end = _time(values["start"]), _time(values["end"])
    if start is None or end is None or end < start:
        return "invalid_time"
    return "spans_over_an_hour" if end - start > 3_600 else ""


def opinions(lines: Iterable[str], names: Sequence[str], account_id: str) -> list[Opinion]:
    """Expected outcome of each line of a log, including header lines."""
    found = []
    for line in lines:
        parts = line.split(" ")
        if tuple(parts) == tuple(names):
            found.append(Opinion("header"))
        elif len(parts) != len(names) or not line:
            found.append(Opinion("field_count"))
        else:
            found.append(opinion(dict(zip(names, parts, strict=True)), account_id))
    return found


def totals(found: Iterable[Opinion]) -> dict[tuple[FlowHop, int], tuple[int, int]]:
    sums: dict[tuple[FlowHop, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for each in found:
        if each.subject is not None:
            total_bytes, lines = sums[each.subject, each.hour_s]
            sums[each.subject, each.hour_s] = (total_bytes + each.bytes, lines + 1)
    return dict(sums)


def _number(text: str) -> int | None:
    if re.fullmatch(r"-?[0-9]+", text) is None:
        return None
    number = int(text)
    return number if abs(number) < 2**63 else None


def _time(text: str) -> int | None:
    number = _number(text)
    if number is not None and number >= 10**12:
        number //= 1_000
    return number if number is not None and 0 < number < 10**10 else None


def _wrong_text(values: Mapping[str, str], account_id: str) -> str:
    account = values.get("account-id", "-")
    if re.fullmatch("[0-9]{12}", account) is None and (account not in ("-", "unknown") or not account_id):
        return "invalid_account"
    for name, text in values.items():
        if name in _ADDRESSES and text != "-" and not _is_address(text):
            return "invalid_address"
        if name in ATTRIBUTES and name != "account-id" and text != "-" and not _is_value(name, text):
            return "invalid_value"
    return ""


def _is_value(name: str, text: str) -> bool:
    if name == "flow-direction":
        return text in ("egress", "ingress")
    if name == "region":
        return re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-[0-9]+", text) is not None
    if name == "az-id":
        return re.fullmatch(r"[a-z0-9-]{1,32}", text) is not None
    return 0 < len(text) <= 512 and text.isprintable()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
