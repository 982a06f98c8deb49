"""What a reader of log files hands over: lines of a block, added up, with the balance of the block.

A reader adds up lines that say the same of a transfer before anyone judges them, so that the rules judge each distinct
subject of a block once. Nothing here knows a format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from metering.onramps.balance import Balance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SubjectT = TypeVar("SubjectT")


class Observation(NamedTuple, Generic[SubjectT]):
    """Lines of one hour with the same subject.

    Attributes:
        subject: What the lines say but for time and size: a `FlowHop`, or what another kind of log has.
        hour_s: Start of the hour that the lines began in, in epoch seconds.
        bytes: Their bytes, exact.
        lines: Their number.
        start_s: The least start of the lines.
        end_s: The greatest end of the lines, at most an hour after the start of any of them.
    """

    subject: SubjectT
    hour_s: int
    bytes: int
    lines: int
    start_s: int
    end_s: int


class FlowHop(NamedTuple):
    """One side of one hop, as a VPC flow log tells it. A field that the log has not, or where it says `-`, is empty.

    The names are those of AWS's fields. `source` and `destination` are `srcaddr` and `dstaddr`, `packet_source` and
    `packet_destination` are `pkt-srcaddr` and `pkt-dstaddr`, `zone_id` is `az-id`, `path` is `traffic-path`.
    """

    account_id: str = ""
    interface_id: str = ""
    resource_id: str = ""
    instance_id: str = ""
    vpc_id: str = ""
    subnet_id: str = ""
    region: str = ""
    zone_id: str = ""
    sublocation_type: str = ""
    interface_type: str = ""
    flow_direction: str = ""
    source: str = ""
    destination: str = ""
    packet_source: str = ""
    packet_destination: str = ""
    source_service: str = ""
    destination_service: str = ""
    path: str = ""
    next_hop_interface_id: str = ""
    next_hop_zone_id: str = ""
    next_hop_vpc_id: str = ""
    next_hop_interface_type: str = ""


class RefusedLine(NamedTuple):
    """A line that cannot be metered.

    Attributes:
        number: Number of the line or row in the file, from 1.
        reason: A stable name, one of `metering.onramps.reasons`.
        detail: Why, for people.
        text: The line, cut at 4 KB.
        bytes: Bytes that the line states; 0 if it states none that can be read.
    """

    number: int
    reason: str
    detail: str
    text: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block(Generic[SubjectT]):
    """Part of a file. Its memory is bounded, whatever the size of the file.

    Attributes:
        observations: What may be metered, added up.
        refused: Lines that cannot be, at most as many as a reader keeps of a file; the balance counts all.
        refusals: Lines and bytes of all refused lines by reason, kept or not.
        balance: What became of the block's lines. `metered` are those of `observations`.
        read_bytes: Bytes of the file that have been read so far, as stored: for a progress bar.
        fields: Fields that all of its lines have, as AWS names them; None of a kind of log whose fields nobody chooses.
    """

    observations: Sequence[Observation[SubjectT]]
    refused: Sequence[RefusedLine] = ()
    refusals: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    balance: Balance = field(default_factory=Balance)
    read_bytes: int = 0
    fields: frozenset[str] | None = None
