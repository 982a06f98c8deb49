"""Input and output of every reader of log files: names of files, settings, observations and the balance."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Annotated, Any, BinaryIO, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from metering.stores.codec import Added, DecimalText, Unwritten
from metering.units import GIB, KIB, MIB

# Every line has exactly one of these outcomes. Reports list them in this order.
OUTCOMES = ("header", "metered", "rejected", "nodata", "skipdata", "shadowed", "refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Lines by outcome, with the bytes stated in the lines.

    `nodata` lines state no traffic, `skipdata` lines state lost records, and `refused` lines cannot be metered.

    Attributes:
        header: Lines that name fields, and comments.
        rejected: Lines of traffic that never crossed a boundary (action REJECT), or that by the rules of the log kind
            moved nothing over the metered boundary (an S3 copy, the egress side of a transit gateway).
        metered_bytes: Bytes of metered lines; likewise `rejected_bytes`, `shadowed_bytes` and `refused_bytes`.
        processed: Metered lines that are metered a second time, as processing by a gateway or endpoint.
        processed_bytes: Bytes of these lines. The batches of a file have `metered_bytes` and `processed_bytes`.
    """

    lines: int = 0
    header: int = 0
    metered: int = 0
    rejected: int = 0
    nodata: int = 0
    skipdata: int = 0
    shadowed: int = 0
    refused: int = 0
    stated_bytes: DecimalText = 0
    metered_bytes: DecimalText = 0
    rejected_bytes: DecimalText = 0
    shadowed_bytes: DecimalText = 0
    refused_bytes: DecimalText = 0
    processed: Annotated[int, Unwritten(0)] = 0
    processed_bytes: Annotated[DecimalText, Added(0), Unwritten(0)] = 0

    @property
    def batched_bytes(self) -> int:
        """Bytes that the batches of the file have together."""
        return self.metered_bytes + self.processed_bytes

    def __add__(self, other: Balance) -> Balance:
        return Balance(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})

    @property
    def holds(self) -> bool:
        """Whether every line, and every byte, has exactly one outcome."""
        lines = sum(getattr(self, outcome) for outcome in OUTCOMES)
        became = self.metered_bytes + self.rejected_bytes + self.shadowed_bytes + self.refused_bytes
        return lines == self.lines and became == self.stated_bytes


class Others(NamedTuple):
    """Lines of accounts other than the accounts in the names of the files.

    `billed_lines` are metered anyway; the other lines are refused.
    """

    lines: int = 0
    bytes: DecimalText = 0
    billed_lines: int = 0
    billed_bytes: DecimalText = 0

    def plus(self, other: Others) -> Others:
        return Others(*(one + each for one, each in zip(self, other, strict=True)))


NO_OTHERS = Others()


# Output of a reader of log files: a block's summed lines, with the balance of the block. Before judging, a reader sums
# lines about the same transfer, so that the rules judge each distinct subject of a block once. This module does not
# depend on any log format.

SubjectT = TypeVar("SubjectT")


class Observation(NamedTuple, Generic[SubjectT]):
    """Lines of one hour with the same subject.

    Attributes:
        subject: Everything in the lines except time and size: a `FlowHop`, or the subject of another kind of log.
        hour_s: Start of the hour that contains the start of each line, in epoch seconds.
        start_s: Earliest start of the lines.
        end_s: Latest end of the lines, at most an hour after the start of each line.
    """

    subject: SubjectT
    hour_s: int
    bytes: int
    lines: int
    start_s: int
    end_s: int


class FlowHop(NamedTuple):
    """One side of one hop in a VPC flow log. A field that the log lacks, or writes as `-`, is empty.

    The attributes are named after AWS's fields. `source` and `destination` are `srcaddr` and `dstaddr`, `packet_source`
    and `packet_destination` are `pkt-srcaddr` and `pkt-dstaddr`, `zone_id` is `az-id`, `path` is `traffic-path`.
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
    """Line that cannot be metered; its text is truncated at 4 KB.

    Attributes:
        number: Number of the line or row in the file, from 1.
        bytes: Bytes that the line states; 0 if unreadable.
    """

    number: int
    reason: str
    detail: str
    text: str
    bytes: int


class Shown(NamedTuple):
    """Address that an interface has by its own lines of an hour.

    `lines` is 0 if the lines state their direction. Otherwise, it is the number of lines that have the address at
    either end, and the empty address has the number of all lines of the interface.
    """

    hour_s: int
    interface_id: str
    address: str
    lines: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block(Generic[SubjectT]):
    """Part of a file. The memory of a block is limited, regardless of the size of the file.

    Attributes:
        observations: Sums of the lines that may be metered.
        refused: Refused lines, up to the reader's limit per file; the balance counts all refused lines.
        refusals: Lines and bytes of all refused lines by reason, including lines that are not kept.
        balance: Outcomes of the block's lines; lines in `observations` are `metered`.
        read_bytes: Bytes of the stored file read so far, for a progress bar.
        fields: Fields that all lines of the block have, as AWS names them; None for kinds of logs with fixed fields.
        shown: Own addresses of interfaces, if the settings ask for detail.
    """

    observations: Sequence[Observation[SubjectT]]
    refused: Sequence[RefusedLine] = ()
    refusals: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    balance: Balance = field(default_factory=Balance)
    read_bytes: int = 0
    fields: frozenset[str] | None = None
    shown: Sequence[Shown] = ()


MAX_IDENTITY_CHARS = 120
"""A batch id has up to 128 characters, and a part adds its number."""

CONTENT_SCHEME = "sha256:"
"""Identities of files without AWS's name begin with it."""

_FIT_FOR_ID = re.compile(r"[A-Za-z0-9._:-]+")

# `<account>_vpcflowlogs_<region>_<flow log>_<time>_<hash>.log.gz` or `.log.parquet`, below any prefix, plain or Hive
# (Amazon VPC User Guide, "Flow log files"). File names of transit gateway flow logs have the same form.
_FLOW_LOG = re.compile(
    r"(?P<account>[0-9]{12})_vpcflowlogs_(?P<region>[a-z0-9-]+)_(?P<source>fl-[0-9a-z]+)_"
    r"(?P<slot>[0-9]{8}T[0-9]{4}Z)_[0-9A-Za-z]+\.log(?P<suffix>|\.gz|\.parquet)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileName:
    """Facts in the name of a log file.

    Attributes:
        identity: Identity of the file, up to 120 characters, valid in a batch id; empty without AWS's name. The hash of
            the decompressed content then identifies the file.
        account_id: Account in the name, 12 digits; empty if the name has no account. So for `region`.
        source: Writer of such files: a flow-log id, a distribution, a logged bucket; empty if not in the name.
        slot_s: Start of the file's slot, in epoch seconds; None if the name states no slot.
        version: Version of the log in the key, such as `v2`; empty if the key has no version.
    """

    kind: str
    identity: str
    account_id: str = ""
    region: str = ""
    source: str = ""
    slot_s: int | None = None
    parquet: bool = False
    version: str = ""


def identity_by_content(sha256: str) -> str:
    """Identity of a file without AWS's name: the hash of its decompressed content."""
    return f"{CONTENT_SCHEME}{sha256}"


def unpacked_name(name: str) -> str:
    """File name without the compression suffix, because copies may add or remove the suffix."""
    return name.removesuffix(".gz").removesuffix(".zst")


def identity_of(scheme: str, name: str) -> str:
    """Identity of a file named by AWS: `flow:<name>`, or the hash of a name that is too long or unfit for an id."""
    identity = f"{scheme}:{name}"
    if len(identity) <= MAX_IDENTITY_CHARS and _FIT_FOR_ID.fullmatch(name) is not None:
        return identity
    return f"{scheme}:{hashlib.sha256(name.encode()).hexdigest()}"


def flow_log_name(key: str) -> FileName | None:
    """Parse the key or path of a VPC flow log as AWS names it; None for any other key.

    Only the last segment of the key counts, without compression suffix: copies change prefixes and partitions, and may
    be decompressed. The time is the start of the five minutes in which the file's records end.
    """
    name = key.rpartition("/")[2]
    found = _FLOW_LOG.fullmatch(name)
    slot_s = None if found is None else epoch_s_of(found["slot"], SLOT_FORM)
    if found is None or slot_s is None:
        return None
    return FileName(
        kind="vpc-flow",
        identity=identity_of("flow", unpacked_name(name)),
        account_id=found["account"],
        region=found["region"],
        source=found["source"],
        slot_s=slot_s,
        parquet=found["suffix"] == ".parquet",
    )


SLOT_FORM = "%Y%m%dT%H%MZ"
"""Form of the time in the name of a flow log, and in the keys of plans."""


def epoch_s_of(text: str, form: str) -> int | None:
    """Epoch seconds of a UTC time in a strptime format; None for any other text."""
    try:
        return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


@runtime_checkable
class Folding(Protocol):
    """Classifier that groups equivalent addresses, so that a reader can add up more lines."""

    def alike(self, addresses: Sequence[str], hours: Iterable[int], *, directed: bool) -> Sequence[str]:
        """For each distinct address, return a representative with the same verdicts in the hours of their lines.

        `directed` means that all of these lines state their direction.
        """


class Detail(Protocol):
    """Grouping of addresses that keeps apart what causes are named by (`metering.onramps.rules.causes`)."""

    def alike(self, addresses: Sequence[str], hours: Iterable[int], *, directed: bool) -> Sequence[str]:
        """For each distinct address, return a representative as `Folding` does, with the same name as destination."""

    def apart(self, addresses: Sequence[str], hours: Iterable[int], *, directed: bool) -> Sequence[str]:
        """As `alike`, for lines of interfaces that forward: each address of a known network stands for itself."""

    def forwarding(self, interface_ids: Sequence[str], hours: Iterable[int]) -> Sequence[bool]:
        """Whether each interface forwards bytes for others, as gateways do."""

    def forwards(self, interface_types: Sequence[str]) -> Sequence[bool]:
        """As `forwarding`, by the types in the lines."""

    def is_known(self, interface_ids: Sequence[str], hours: Iterable[int]) -> Sequence[bool]:
        """Whether the addresses of each interface are known, so that lines without a direction need not show them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSettings:
    """Limits and hints for reading one file.

    Attributes:
        fields: Field names for a text file without a header line; empty for a file with a header line.
        max_text_bytes: Maximum size of a decompressed file, in bytes.
        max_expansion: Maximum growth factor of a decompressed file. Flow logs grow 5 to 30 times; gzip can expand one
            byte to 1,032.
        max_line_bytes: Maximum length of a line; longer lines are refused.
        max_bad_lines: Maximum number of header, comment and unreadable lines in a file, which are each handled
            individually. Empty lines, and readable lines that may not be metered, do not count.
        kept_refusals: Maximum number of refused lines kept per file; all refused lines are counted.
        folding: Groups addresses that rules treat alike; subjects contain one address per group. None keeps each.
        detail: Groups addresses instead, and asks for what lines show about interfaces, to name causes.
        block_bytes: Bytes of text read at once. Memory grows with this value; results do not depend on it.
    """

    fields: tuple[str, ...] = ()
    max_text_bytes: int = 64 * GIB
    max_expansion: int = 250
    max_line_bytes: int = 64 * KIB
    max_bad_lines: int = 100_000
    kept_refusals: int = 1_000
    folding: Folding | None = None
    detail: Detail | None = None
    block_bytes: int = 8 * MIB


class LogReader(Protocol):
    """Reads one file as a stream of blocks. Memory holds one block, regardless of the size of the file."""

    def __call__(
        self, stream: BinaryIO, name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object] = ...
    ) -> Iterator[Block[Any]]:
        """Read a file.

        Args:
            stream: The file as stored. The stream is read once, forwards (Parquet by ranges), and not closed.
            name: What its name says.
            settings: Limits and hints.
            digest: Called with each piece of the decompressed content, in order, to hash it. For Parquet, `digest` gets
                the file as stored.

        Raises:
            LogFileRefusedError: The file as a whole is unreadable; blocks already returned are void.
        """
