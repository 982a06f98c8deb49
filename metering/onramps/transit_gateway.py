"""Transit gateway flow logs: their reader, and the rules for processed bytes and their payer."""

from __future__ import annotations

import re
import zlib
from functools import lru_cache
from ipaddress import ip_network
from typing import IO, TYPE_CHECKING, BinaryIO, NamedTuple, Protocol, cast, runtime_checkable

import zstandard

from metering.errors import LogFileRefusedError
from metering.hours import hour_of
from metering.onramps.context import inventory
from metering.onramps.context.document import MeteringPolicy, MeteringRule, address_of
from metering.onramps.formats import rows
from metering.onramps.formats.flows.reader import read_flow_log
from metering.onramps.formats.pieces import peeked
from metering.onramps.reasons import Classified, FileReason, LineReason, Outcome, Refused, Shadowed, Traffic, Unmetered
from metering.onramps.rules import hop_judge
from metering.onramps.rules.causes import ADDRESS_UNKNOWN, Causes, Ends
from metering.onramps.rules.knowledge import Knowledge, knowledge_of
from metering.units import HOUR_S, KIB
from metering.usage.usage_types import UNKNOWN, usage_type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from metering.onramps.context import store
    from metering.onramps.reading import Block, Detail, FileName, FlowHop, ReadSettings

# Rows of transit gateway flow logs. Each flow passes two attachments, and each attachment has one record of it:
# `ingress` where the flow enters the gateway, `egress` where the flow leaves it. The rules decide which charge applies
# to each record. Packet-loss fields count packets and not bytes, so these fields are not read.

GATEWAY, ATTACHMENT = "tgw-id", "tgw-attachment-id"
_PAIR, _OWNER, _REGION = "tgw-pair-attachment-id", "account-id", "region"
_SENDER, _RECEIVER = "tgw-src-vpc-account-id", "tgw-dst-vpc-account-id"
_FLOW = ("srcaddr", "dstaddr", "srcport", "dstport", "protocol")
_BYTES, _START, _END, _STATUS, _DIRECTION = "bytes", "start", "end", "log-status", "flow-direction"
_NEEDED = (ATTACHMENT, _BYTES, _START, _END, _DIRECTION)
# The VPCs and services of a flow's ends, by which its cause and destination are named.
_ENDS = ("tgw-src-vpc-id", "tgw-dst-vpc-id", "pkt-src-aws-service", "pkt-dst-aws-service")
USED_FIELDS = (
    *(GATEWAY, ATTACHMENT, _PAIR, _SENDER, _RECEIVER, _OWNER, _REGION, _BYTES, _START, _END, _STATUS, _DIRECTION),
    *_FLOW,
    *_ENDS,
)

_ACCOUNT = re.compile(r"[0-9]{12}")
_NONE = ("", "-", "unknown")
# Until 2286, times in seconds have ten digits, so longer numbers are milliseconds.
_MILLISECONDS_FROM = 10**11
# Number of cached addresses.
_REMEMBERED = 100_000


class TransitHop(NamedTuple):
    """Traffic at an attachment of a transit gateway, with the accounts of the sender's and the receiver's VPC.

    A field that the log lacks, or writes as `-`, is empty.

    Attributes:
        attachment_id: Attachment at which the traffic entered or left.
        pair_id: Attachment on the other side of the gateway.
        outward: Whether the traffic left the gateway at `attachment_id`.
    """

    gateway_id: str
    attachment_id: str
    pair_id: str = ""
    outward: bool = False
    region: str = ""
    owner_id: str = ""
    sender_id: str = ""
    receiver_id: str = ""
    source: str = ""
    destination: str = ""
    source_port: str = ""
    destination_port: str = ""
    protocol: str = ""
    source_vpc_id: str = ""
    destination_vpc_id: str = ""
    source_service: str = ""
    destination_service: str = ""


@runtime_checkable
class AsksFlows(Protocol):
    """Rules that state if they use addresses, ports and protocols; if not, lines are added up without these fields."""

    def asks_flows(self, gateway_id: str, hour_s: int) -> bool:
        """Whether the rules use the flows of a gateway in an hour, given in epoch seconds."""


class TransitRowJudge:
    """Counts the rows of one file. Without rules, rows keep all fields that rules might use; `detail` keeps the ends.

    Raises:
        LogFileRefusedError: A field that metering requires is missing.
    """

    def __init__(self, fields: Collection[str], rules: object = None, detail: Detail | None = None) -> None:
        self._rules = rules if isinstance(rules, AsksFlows) else None
        self._detail = detail
        self._alike: dict[tuple[str, int], str] = {}
        self._asked: dict[tuple[str, int], bool] = {}
        missing = [name for name in _NEEDED if name not in fields]
        if missing:
            problem = f"the flow log of a transit gateway has no {', no '.join(missing)}"
            raise LogFileRefusedError(FileReason.MISSING_FIELD, problem)

    def judge(self, number: int, text: str, value: Callable[[str], str], tally: rows.Tally[TransitHop]) -> None:
        """Count a row; `value` returns a field of `USED_FIELDS`, empty if the row lacks it."""
        status = value(_STATUS)
        if status == "NODATA":
            tally.nodata()
            return
        if status == "SKIPDATA":
            tally.skipdata()
            return
        size_bytes = rows.number_of(value(_BYTES))
        if size_bytes is None:
            tally.refuse(number, LineReason.INVALID_NUMBER, "bytes is no number from 0 to 2^63-1", text)
            return
        problem = self._count(value, size_bytes, tally)
        if problem is not None:
            tally.refuse(number, *problem, text, size_bytes)

    def _asks(self, gateway_id: str, hour_s: int) -> bool:
        if self._rules is None:
            return True
        asked = self._asked.get((gateway_id, hour_s))
        if asked is None:
            asked = self._asked[gateway_id, hour_s] = self._rules.asks_flows(gateway_id, hour_s)
        return asked

    def _count(
        self, value: Callable[[str], str], size_bytes: int, tally: rows.Tally[TransitHop]
    ) -> tuple[LineReason, str] | None:
        start_s, end_s = _seconds(value(_START)), _seconds(value(_END))
        if start_s is None or end_s is None or end_s < start_s:
            return LineReason.INVALID_TIME, "start and end are no times in order"
        if end_s - start_s > HOUR_S:
            return LineReason.SPANS_OVER_AN_HOUR, f"{end_s - start_s} s"
        direction = value(_DIRECTION)
        if direction not in ("egress", "ingress"):
            return LineReason.INVALID_VALUE, f"flow-direction is {direction[:64]!r}, neither ingress nor egress"
        accounts = [_text(value(name)) for name in (_OWNER, _SENDER, _RECEIVER)]
        for account_id in accounts:
            if account_id and _ACCOUNT.fullmatch(account_id) is None:
                return LineReason.INVALID_ACCOUNT, f"{account_id[:64]!r} is no account of 12 digits"
        gateway_id, attachment_id, pair_id = (_text(value(name)) for name in (GATEWAY, ATTACHMENT, _PAIR))
        hour_s = hour_of(start_s)
        flow = [_text(value(name)) for name in _FLOW] if self._asks(gateway_id, hour_s) else []
        if self._detail is not None:
            flow = flow or [*(self._address(_text(value(name)), hour_s) for name in _FLOW[:2]), "", "", ""]
            flow += [_text(value(name)) for name in _ENDS]
        hop = TransitHop(
            gateway_id,
            attachment_id or gateway_id,
            pair_id,
            direction == "egress",
            _text(value(_REGION)),
            *accounts,
            *flow,
        )
        tally.metered([rows.Moved(hop, size_bytes)], start_s, end_s)
        return None

    def _address(self, text: str, hour_s: int) -> str:
        """The address, or one that is named alike."""
        found = self._alike.get((text, hour_s))
        if found is None and self._detail is not None:
            if len(self._alike) >= _REMEMBERED:
                self._alike.clear()
            [found] = self._detail.apart([text], [hour_s], directed=True)
            self._alike[text, hour_s] = found
        return found or ""


def _text(value: str) -> str:
    return "" if value in _NONE else value


def _seconds(text: str) -> int | None:
    number = rows.number_of(text)
    return number // 1000 if number is not None and number >= _MILLISECONDS_FROM else number


_LOOK_BYTES = 64 * KIB
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def read_flow_file(
    stream: BinaryIO, name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object]
) -> Iterator[Block[FlowHop] | Block[TransitHop]]:
    """Read a flow log of a transit gateway or of interfaces (`LogReader`)."""
    start, whole = peeked(stream, _LOOK_BYTES)
    if name.parquet or start[:4] in rows.PARQUET_MAGIC:
        with rows.seekable(whole, digest) as file:
            yield from _read_parquet(file, name, settings)
    elif _is_transit(start, settings):
        yield from rows.read_lines(whole, settings, digest, _Lines(settings))
    else:
        yield from read_flow_log(whole, name, settings, digest=digest)


def _read_parquet(
    file: IO[bytes], name: FileName, settings: ReadSettings
) -> Iterator[Block[FlowHop] | Block[TransitHop]]:
    columns = rows.column_names(file, settings)
    file.seek(0)
    if GATEWAY in columns:
        used = tuple(name for name in USED_FIELDS if name in columns)
        yield from rows.read_rows(file, settings, used, TransitRowJudge(columns, settings.folding, settings.detail))
    else:
        # It has been hashed.
        yield from read_flow_log(cast("BinaryIO", file), name, settings, digest=len)


def _is_transit(start: bytes, settings: ReadSettings) -> bool:
    """Whether a text is a transit gateway log, judged by the given fields, else by its first line."""
    if settings.fields:
        return GATEWAY in settings.fields
    return GATEWAY.encode() in _unpacked(start).partition(b"\n")[0].split()


def _unpacked(start: bytes) -> bytes:
    """Decompress the start of the text. If damaged, return nothing: the reader refuses the file, with the reason."""
    try:
        if start.startswith(_GZIP):
            return zlib.decompressobj(wbits=31).decompress(start, _LOOK_BYTES)
        if start.startswith(_ZSTD):
            return zstandard.ZstdDecompressor().stream_reader(start).read(_LOOK_BYTES)
    except (zlib.error, zstandard.ZstdError):
        return b""
    return start


class _Lines:
    """`LineJudge` of one file."""

    def __init__(self, settings: ReadSettings) -> None:
        self._folding, self._detail = settings.folding, settings.detail
        self._names: list[str] = []
        self._places: dict[str, int] = {}
        self._rows: TransitRowJudge | None = None
        if settings.fields:
            self._know(list(settings.fields))

    def judge(self, number: int, line: str, tally: rows.Tally[TransitHop]) -> None:
        values = line.split(" ")
        if GATEWAY in values:
            self._know(values)
            tally.header()
            return
        if self._rows is None:
            raise LogFileRefusedError(FileReason.NO_HEADER, "the first line does not name the fields")
        if len(values) != len(self._names):
            detail = f"{len(values)} fields, and the file has {len(self._names)}"
            tally.refuse(number, LineReason.FIELD_COUNT, detail, line)
            return
        places = self._places
        self._rows.judge(number, line, lambda name: values[places[name]] if name in places else "", tally)

    def _know(self, names: list[str]) -> None:
        self._names = names
        self._rows = TransitRowJudge(names, self._folding, self._detail)
        self._places = {name: place for place, name in enumerate(names) if name in USED_FIELDS}


# The gateway's metering policy names the payer of a transit gateway's traffic. Without a policy, the sender pays. A
# policy has ordered rules, and the first rule that matches decides. If no rule matches, the owner of the source
# attachment pays. A change takes effect two billing hours later, at a time that the policy and its rules state. If
# neither line nor context has a field's value, a rule may match or not, and the payer is known only if all possible
# payers are one account. (VPC documentation, "Flexible cost allocation"; the shapes are those of EC2's API.)
#
# If a flow passes a middlebox (an appliance named by a policy), the line has the middlebox as source or destination,
# but AWS means the unknown attachments beyond it.

SOURCE, DESTINATION, GATEWAY_OWNER = "source-attachment-owner", "destination-attachment-owner", "transit-gateway-owner"
_ALL = frozenset({SOURCE, DESTINATION, GATEWAY_OWNER})
_BY_DEFAULT = frozenset({SOURCE})
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


class _End(NamedTuple):
    """One end of a flow through a gateway. Empty texts are unknown."""

    id: str
    kind: str
    owner_id: str
    address: str
    port: str


_Ends = tuple[_End, _End]


def payer_of(hop: TransitHop, owner_id: str, region: str, hour_s: int, knowledge: Knowledge) -> str:
    """Account that pays; empty if unknown."""
    policies = knowledge.policies.get(hop.gateway_id, ())
    ends = _ends(hop, knowledge)
    if (owner_id, region) not in knowledge.policy_places or len(policies) > 1:
        payers = _ALL
    elif policies:
        [policy] = policies
        ends = _beyond(ends, policy)
        payers = _payers(policy, ends, hop.protocol, hour_s)
    else:
        payers = _BY_DEFAULT
    source, destination = ends
    accounts = {SOURCE: source.owner_id, DESTINATION: destination.owner_id, GATEWAY_OWNER: owner_id}
    meant = {accounts.get(each, "") for each in payers}
    return meant.pop() if len(meant) == 1 else ""


def asks_flow(rule: MeteringRule) -> bool:
    """Whether a rule distinguishes flows between the same attachments."""
    ends = rule.source_cidr, rule.source_ports, rule.destination_cidr, rule.destination_ports
    return any((*ends, rule.protocol))


def _ends(hop: TransitHop, knowledge: Knowledge) -> _Ends:
    source_id, destination_id = (hop.attachment_id, hop.pair_id)[:: -1 if hop.outward else 1]
    return (
        _end(hop.gateway_id, source_id, hop.sender_id, hop.source, hop.source_port, knowledge),
        _end(hop.gateway_id, destination_id, hop.receiver_id, hop.destination, hop.destination_port, knowledge),
    )


def _end(gateway_id: str, attachment_id: str, told_id: str, address: str, port: str, knowledge: Knowledge) -> _End:
    attachment = knowledge.attachments.get((gateway_id, attachment_id))
    if attachment is None:
        return _End(attachment_id, "", "", address, port)
    # Behind a peering attachment, a line may name the account of a VPC that is attached to the other gateway.
    owners = {attachment.owner_id, told_id if attachment.kind == inventory.VPC else ""} - {""}
    return _End(attachment_id, attachment.kind, owners.pop() if len(owners) == 1 else "", address, port)


def _beyond(ends: _Ends, policy: MeteringPolicy) -> _Ends:
    """Keep only the addresses of ends behind a middlebox: the rest is unknown."""
    one, other = (end._replace(id="", kind="", owner_id="") if end.id in policy.middleboxes else end for end in ends)
    return one, other


def _payers(policy: MeteringPolicy, ends: _Ends, protocol: str, hour_s: int) -> frozenset[str]:
    holds = _policy_holds(policy, hour_s)
    if holds is None or (holds and policy.rules is None):
        return _ALL
    if not holds:
        return _BY_DEFAULT
    payers = set()
    for rule in policy.rules or ():
        fits = _all((_in_force(rule.effective_s, hour_s, removed=rule.removed), _fits(rule, ends, protocol)))
        if fits is not False:
            payers.add(rule.payer)
        if fits:
            return frozenset(payers)
    return frozenset(payers | _BY_DEFAULT)


def _policy_holds(policy: MeteringPolicy, hour_s: int) -> bool | None:
    """Whether a policy applies as listed; False without a policy in this hour, None if unknown."""
    begun = _in_force(policy.effective_s, hour_s)
    if policy.state in ("available", "modifying"):
        # Until a change takes effect, the previous policy (or no policy) applies, and nothing shows which.
        return True if begun and (policy.effective_s or policy.state == "available") else None
    if not policy.effective_s:
        return None
    if policy.state == "pending":
        return begun
    if policy.state in ("deleting", "deleted"):
        return None if begun is None else not begun
    return None


def _in_force(effective_s: int, hour_s: int, *, removed: bool = False) -> bool | None:
    """Whether a policy or rule holds all hour, from or (`removed`) until `effective_s`; None if only in part."""
    if hour_s < effective_s < hour_s + HOUR_S:
        return None
    return (effective_s <= hour_s) is not removed


def _fits(rule: MeteringRule, ends: _Ends, protocol: str) -> bool | None:
    """Whether a rule matches a flow; None if unknown."""
    asked = (
        (rule.source_id, rule.source_kind, rule.source_cidr, rule.source_ports),
        (rule.destination_id, rule.destination_kind, rule.destination_cidr, rule.destination_ports),
    )
    verdicts = [_same(rule.protocol, protocol)]
    for end, (wanted_id, kind, cidr, ports) in zip(ends, asked, strict=True):
        verdicts += [_same(wanted_id, end.id), _same(kind, end.kind)]
        verdicts += [_inside(cidr, end.address), _between(ports, end.port)]
    return _all(tuple(verdicts))


def _same(wanted: str, found: str) -> bool | None:
    if not wanted:
        return True
    return wanted == found if found else None


def _inside(cidr: str, address: str) -> bool | None:
    if not cidr:
        return True
    found, block = address_of(address), _block(cidr)
    if found is None or block is None:
        return None
    version, first, last = block
    return version == found.version and first <= found.number <= last


@lru_cache(maxsize=4_096)
def _block(cidr: str) -> tuple[int, int, int] | None:
    """IP version, first and last address of a CIDR block; None for any other text."""
    try:
        block = ip_network(cidr, strict=False)
    except ValueError:
        return None
    return block.version, int(block.network_address), int(block.broadcast_address)


def _between(ports: str, port: str) -> bool | None:
    if not ports:
        return True
    asked = _PORTS.fullmatch(ports)
    if asked is None or not port.isdecimal():
        return None
    return int(asked[1]) <= int(port) <= int(asked[2] or asked[1])


def _all(verdicts: tuple[bool | None, ...]) -> bool | None:
    """Three-valued AND: Logical AND of values that may be unknown: False if any is False, else None if any is None."""
    if False in verdicts:
        return False
    return None if None in verdicts else True


# Rules of transit gateway flow logs: traffic that entered a gateway was processed, and traffic that left for another
# region crossed regions.
#
# Processing is a second record of bytes that are also in interface flow logs, as on the bill: the interface records
# meter transfer, and the gateway's records meter processing. No interface log shows transfer to another region over
# peered gateways, because from the interface's point of view, the hop ends at the gateway and is free. So traffic that
# leaves through a peering attachment to another region is metered here, once, on the sending side.
#
# | what | where it is said |
# |---|---|
# | VPC, VPN and Direct Connect pay for each GB that they send into a gateway | price page of transit gateways |
# | what comes from a peering attachment is not processed again | AWS's post on peering gateways inside a region |
# | between regions the standard transfer is charged, on the side that sends | AWS's overview of data transfer costs |
# | inside a region nothing is charged between gateways' attachments | free since April 2022 across zones |
# | who pays for either | `payers` |

PROCESSING, PEERED_ELSEWHERE = "transit_gateway_processing", "transit_gateway_peered_elsewhere"
PATH = "transit_gateway"
FROM_PEERING, LEAVES = "transit_gateway_from_peering", "transit_gateway_leaves"
PEERED_INSIDE = "transit_gateway_peered_inside"
ATTACHMENT_UNKNOWN, PEER_REGION_UNKNOWN, PAYER_UNKNOWN = "attachment_unknown", "peer_region_unknown", "payer_unknown"
# Traffic from these attachments into a gateway is charged. No rule of any other type was confirmed by measurement.
_CHARGED = frozenset({"vpc", "vpn", "vpn-concentrator", "direct-connect-gateway", "connect"})
# Behind these attachments, there are networks outside AWS.
_ON_PREMISES = _CHARGED - {"vpc", "connect"}
_INSIDE, _OUT = "Unclassified-Regional-Bytes", "Unclassified-Out-Bytes"


class WithTransit:
    """Classifies flow logs of transit gateways and of interfaces, which have similar file names (`Classifier`)."""

    def __init__(self, name: FileName, timeline: store.Timeline) -> None:
        self._name = name
        self._timeline = timeline
        self._flows = hop_judge.FlowClassifier(name, timeline)

    def outcome(self, subject: FlowHop | TransitHop, hour_s: int) -> Outcome:
        if isinstance(subject, TransitHop):
            knowledge = knowledge_of(self._timeline.at(hour_s))
            shadow = _shadow(subject, self._name, knowledge, hour_s)
            return shadow or _outcome(subject, self._name, knowledge, hour_s)
        return self._flows.outcome(subject, hour_s)

    def causes(self, *, later: bool) -> Causes:
        """Causes of the file's bytes (`metering.onramps.rules.causes.Naming`)."""
        return TransitCauses(self._flows, self._name, self._timeline, later=later)

    def asks_flows(self, gateway_id: str, hour_s: int) -> bool:
        """Whether a metering policy uses addresses, ports or protocols of a gateway in an hour (`AsksFlows`)."""
        policies = knowledge_of(self._timeline.at(hour_s)).policies.get(gateway_id, ())
        return any(asks_flow(rule) for policy in policies for rule in policy.rules or ())

    def alike(self, addresses: Sequence[str], hours: Iterable[int], *, directed: bool) -> Sequence[str]:
        """For each address, return an address that the hop rules treat alike (`Folding`)."""
        return self._flows.alike(addresses, hours, directed=directed)


class TransitCauses(Causes):
    """Names the causes of flow logs of transit gateways and of interfaces.

    The workload is the end of the flow in a VPC; of two workloads, the sender.
    """

    def ends(self, subject: FlowHop | TransitHop, hour_s: int, outcome: Classified, usage_type: str) -> Ends:
        """Ends of the bytes of a classified subject."""
        if not isinstance(subject, TransitHop):
            return super().ends(subject, hour_s, outcome, usage_type)
        source = subject.source, subject.source_vpc_id, subject.source_service
        destination = subject.destination, subject.destination_vpc_id, subject.destination_service
        # An address outside of its VPC came over another gateway there. A firewall or a peer is in no VPC of the line.
        if self._is_inside(source, destination, hour_s):
            (near, vpc_id, _), (far, far_vpc_id, service) = source, destination
        elif self._is_outside(subject, hour_s) and self._is_inside(destination, source, hour_s):
            (near, vpc_id, _), (far, far_vpc_id, service) = destination, source
        else:
            return Ends(path=PATH, reason=ADDRESS_UNKNOWN)
        return Ends(
            near=near,
            far=far,
            service=service,
            vpc_id=vpc_id or far_vpc_id,
            far_vpc_id=far_vpc_id or vpc_id,
            path=PATH,
        )

    def _is_outside(self, hop: TransitHop, hour_s: int) -> bool:
        """Whether the sender is surely outside AWS, by a public address, or by its attachment."""
        knowledge = knowledge_of(self.timeline.at(hour_s))
        source_id = hop.pair_id if hop.outward else hop.attachment_id
        attachment = knowledge.attachments.get((hop.gateway_id, source_id))
        return self.is_outside(hop.source, hour_s) or (attachment is not None and attachment.kind in _ON_PREMISES)

    def _is_inside(self, end: tuple[str, str, str], other: tuple[str, str, str], hour_s: int) -> bool:
        address, vpc_id, _ = end
        return self.is_in(address, vpc_id, hour_s) or (not vpc_id and self.is_joined(address, other[1], hour_s))


def _shadow(subject: TransitHop, name: FileName, knowledge: Knowledge, hour_s: int) -> Shadowed | None:
    """The other log that has the authority, if any: a gateway and each of its attachments may have a log."""
    authorities = knowledge.authorities
    if authorities is None or not name.source:
        return None
    authority = authorities.over((subject.gateway_id, subject.attachment_id), hour_s)
    return None if authority is None or authority.id == name.source else Shadowed(authority.id)


def _outcome(hop: TransitHop, name: FileName, knowledge: Knowledge, hour_s: int) -> Outcome:
    owner_id = hop.owner_id or name.account_id
    region = hop.region or name.region
    if not owner_id:
        return Refused(LineReason.INVALID_ACCOUNT, "neither the line nor the file's name has the account")
    if not region:
        return Refused(LineReason.NO_REGION, "neither the line nor the file's name has the region")
    attachment = knowledge.attachments.get((hop.gateway_id, hop.attachment_id))
    kind, peer_region = (attachment.kind, attachment.peer_region) if attachment is not None else ("", "")
    free = _free(kind, hop, inside=peer_region == region)
    if free:
        return Unmetered(free)
    peered = kind == inventory.PEERING
    rule = PEERED_ELSEWHERE if peered else PROCESSING
    reason = _unknown(kind, peer_region)
    payer_id = "" if reason else payer_of(hop, owner_id, region, hour_s, knowledge)
    if not payer_id:
        return _unclassified(hop, owner_id, region, rule, reason or PAYER_UNKNOWN)
    if peered:
        return Classified(Traffic(payer_id, "AmazonEC2", hop.attachment_id, "out", region, peer_region), rule)
    usage_type = usage_type_of(region, "TransitGateway-Bytes").usage_type
    return Classified(Traffic(payer_id, "AmazonVPC", hop.attachment_id, "out", region, region, usage_type), rule)


def _free(kind: str, hop: TransitHop, *, inside: bool) -> str:
    """Rule by which an attachment is not charged; empty if there is or may be a charge."""
    if kind == inventory.PEERING:
        return FROM_PEERING if not hop.outward else PEERED_INSIDE if inside else ""
    return LEAVES if kind and hop.outward else ""


def _unknown(kind: str, peer_region: str) -> str:
    """Reason why a required fact about an attachment is unknown; empty if all facts are known."""
    if kind == inventory.PEERING:
        return "" if peer_region else PEER_REGION_UNKNOWN
    return "" if kind in _CHARGED else ATTACHMENT_UNKNOWN


def _unclassified(hop: TransitHop, owner_id: str, region: str, rule: str, reason: str) -> Classified:
    """Assign unclassified bytes to the owner of the logged gateway."""
    traffic = usage_type_of(region, _OUT if hop.outward else _INSIDE).usage_type
    far = UNKNOWN if hop.outward else region
    return Classified(Traffic(owner_id, "AmazonVPC", hop.attachment_id, "out", region, far, traffic), rule, reason)
