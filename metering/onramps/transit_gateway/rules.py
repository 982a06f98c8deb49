"""Rules of transit gateway flow logs: what entered a gateway was processed, and what left it to another region crossed.

Processing is a second record of bytes that the flow logs of interfaces have, too, as it is on the bill: those tell
transfer, this tells processing. Transfer to another region over peered gateways is told by no interface, whose hop ends
at the gateway and is free: so what leaves by a peering attachment to another region is metered here, once, on the side
that sends.

| what | where it is said |
|---|---|
| VPC, VPN and Direct Connect pay for each GB that they send into a gateway | price page of transit gateways |
| what comes from a peering attachment is not processed again | AWS's post on peering gateways inside a region |
| between regions the standard transfer is charged, on the side that sends | AWS's overview of data transfer costs |
| inside a region nothing is charged between gateways' attachments | free since April 2022 across zones |
| who pays for either | `payers` |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.onramps.context.attached import PEERING
from metering.onramps.reading import Folding
from metering.onramps.reasons import LineReason
from metering.onramps.rules.knowledge import knowledge_of
from metering.onramps.traffic import Classified, Refused, Shadowed, Traffic, Unmetered
from metering.onramps.transit_gateway.payers import asks_flow, payer_of
from metering.onramps.transit_gateway.rows import TransitHop
from metering.usage.locations import UNKNOWN
from metering.usage.usage_types import usage_type_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.onramps.context.timeline import Timeline
    from metering.onramps.names import FileName
    from metering.onramps.observations import FlowHop
    from metering.onramps.rules.knowledge import Knowledge
    from metering.onramps.traffic import Classifier, Outcome

PROCESSING, PEERED_ELSEWHERE = "transit_gateway_processing", "transit_gateway_peered_elsewhere"
FROM_PEERING, LEAVES = "transit_gateway_from_peering", "transit_gateway_leaves"
PEERED_INSIDE = "transit_gateway_peered_inside"
ATTACHMENT_UNKNOWN, PEER_REGION_UNKNOWN, PAYER_UNKNOWN = "attachment_unknown", "peer_region_unknown", "payer_unknown"
# What these send into a gateway is charged. Other types have no rule that was measured.
_CHARGED = frozenset({"vpc", "vpn", "vpn-concentrator", "direct-connect-gateway", "connect"})
_INSIDE, _OUT = "Unclassified-Regional-Bytes", "Unclassified-Out-Bytes"


class WithTransit:
    """Judges the flow logs of one file, whichever kind it is of: AWS names both alike (`Classifier`).

    Args:
        name: What the file's name says.
        timeline: The contexts that judge it.
        flows: Judge of hops of interfaces.
    """

    def __init__(self, name: FileName, timeline: Timeline, flows: Classifier[FlowHop]) -> None:
        self._name = name
        self._timeline = timeline
        self._flows = flows

    def outcome(self, subject: FlowHop | TransitHop, hour_s: int) -> Outcome:
        """Judge a hop of an interface, or traffic at an attachment of a transit gateway."""
        if isinstance(subject, TransitHop):
            knowledge = knowledge_of(self._timeline.at(hour_s))
            shadow = _shadow(subject, self._name, knowledge, hour_s)
            return shadow or _outcome(subject, self._name, knowledge, hour_s)
        return self._flows.outcome(subject, hour_s)

    def asks_flows(self, gateway_id: str, hour_s: int) -> bool:
        """Whether a metering policy of a gateway asks for addresses, ports or protocols in an hour (`AsksFlows`)."""
        policies = knowledge_of(self._timeline.at(hour_s)).policies.get(gateway_id, ())
        return any(asks_flow(rule) for policy in policies for rule in policy.rules or ())

    def alike(self, addresses: Sequence[str], hours: Iterable[int], *, directed: bool) -> Sequence[str]:
        """Addresses that the judge of hops does not tell apart (`Folding`)."""
        if isinstance(self._flows, Folding):
            return self._flows.alike(addresses, hours, directed=directed)
        return addresses


def _shadow(subject: TransitHop, name: FileName, knowledge: Knowledge, hour_s: int) -> Shadowed | None:
    """The log that counts, if it is another one: a gateway and each of its attachments may have one."""
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
    peered = kind == PEERING
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
    """The rule by which nothing is charged at an attachment; empty if something is, or may be."""
    if kind == PEERING:
        return FROM_PEERING if not hop.outward else PEERED_INSIDE if inside else ""
    return LEAVES if kind and hop.outward else ""


def _unknown(kind: str, peer_region: str) -> str:
    """What of an attachment has to be known, and is not; empty if all is."""
    if kind == PEERING:
        return "" if peer_region else PEER_REGION_UNKNOWN
    return "" if kind in _CHARGED else ATTACHMENT_UNKNOWN


def _unclassified(hop: TransitHop, owner_id: str, region: str, rule: str, reason: str) -> Classified:
    """What is not known stands with the owner of the gateway, whose log it is."""
    traffic = usage_type_of(region, _OUT if hop.outward else _INSIDE).usage_type
    far = UNKNOWN if hop.outward else region
    return Classified(Traffic(owner_id, "AmazonVPC", hop.attachment_id, "out", region, far, traffic), rule, reason)
