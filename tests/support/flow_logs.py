"""Flow logs for tests, and the results of a line-by-line reader that shares no code with the real one."""

from __future__ import annotations

import gzip
import io
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from metering.onramps.kinds import KINDS, recognised
from metering.onramps.reading import Balance, Block, FileName, FlowHop, Observation, ReadSettings, RefusedLine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    """A log line with these fields; keywords have `_` for `-`. An unnamed field is `-`."""
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
    """Read a stored file to its end, and check its balance."""
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
    """Content as several gzip members, split at these positions."""
    places = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    return b"".join(gzip.compress(content[start:end], 1, mtime=0) for start, end in pairwise(places))
