"""Who pays for what a transit gateway carries: its metering policy says it, and without one the sender pays.

A policy has rules in order; the first that fits a flow decides, and where none fits the owner of the source attachment
pays. A change takes effect two billing hours later, and policy and rules say when. What a line and the context do not
say may fit or not: then the payer is known only if every account that may be meant is the same one. (VPC documentation,
"Flexible cost allocation"; the shapes are those of EC2's API.)

Of a flow by way of a middlebox (an appliance that a policy names), the line has the middlebox as source or destination,
and AWS means the attachments beyond it: those are not known.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple

from metering.onramps.context.attached import VPC
from metering.onramps.context.prefixes import address_of
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.onramps.context.facts import MeteringPolicy, MeteringRule
    from metering.onramps.rules.knowledge import Knowledge
    from metering.onramps.transit_gateway.rows import TransitHop

SOURCE, DESTINATION, GATEWAY = "source-attachment-owner", "destination-attachment-owner", "transit-gateway-owner"
_ALL = frozenset({SOURCE, DESTINATION, GATEWAY})
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
    """The account that pays; empty if that is not known.

    Args:
        hop: Traffic at an attachment.
        owner_id: Owner of the gateway.
        region: Its region.
        hour_s: The hour, in epoch seconds.
        knowledge: What the context knows.
    """
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
    accounts = {SOURCE: source.owner_id, DESTINATION: destination.owner_id, GATEWAY: owner_id}
    meant = {accounts.get(each, "") for each in payers}
    return meant.pop() if len(meant) == 1 else ""


def asks_flow(rule: MeteringRule) -> bool:
    """Whether a rule asks for what flows between the same attachments differ in."""
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
    # Behind a peering a line may name the account of a VPC that is attached to the other gateway.
    owners = {attachment.owner_id, told_id if attachment.kind == VPC else ""} - {""}
    return _End(attachment_id, attachment.kind, owners.pop() if len(owners) == 1 else "", address, port)


def _beyond(ends: _Ends, policy: MeteringPolicy) -> _Ends:
    """The ends that a policy means: behind a middlebox nothing is known but addresses."""
    one, other = (end._replace(id="", kind="", owner_id="") if end.id in policy.middleboxes else end for end in ends)
    return one, other


def _payers(policy: MeteringPolicy, ends: _Ends, protocol: str, hour_s: int) -> frozenset[str]:
    """Payers that may be meant by a policy in an hour."""
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
    """Whether a policy holds as it is listed; False if there is none in this hour, None if that is not known."""
    begun = _in_force(policy.effective_s, hour_s)
    if policy.state in ("available", "modifying"):
        # Before a change takes effect the policy is what it was, or was not there, and nothing says which.
        return True if begun and (policy.effective_s or policy.state == "available") else None
    if not policy.effective_s:
        return None
    if policy.state == "pending":
        return begun
    if policy.state in ("deleting", "deleted"):
        return None if begun is None else not begun
    return None


def _in_force(effective_s: int, hour_s: int, *, removed: bool = False) -> bool | None:
    """Whether a change is in force all of an hour; None if it takes effect inside. One that was removed ends then."""
    if hour_s < effective_s < hour_s + HOUR_S:
        return None
    return (effective_s <= hour_s) is not removed


def _fits(rule: MeteringRule, ends: _Ends, protocol: str) -> bool | None:
    """Whether a rule fits a flow; None if that is not known."""
    source, destination = ends
    return _all(
        (
            *_end_fits(source, rule.source_id, rule.source_kind, rule.source_cidr, rule.source_ports),
            *_end_fits(
                destination,
                rule.destination_id,
                rule.destination_kind,
                rule.destination_cidr,
                rule.destination_ports,
            ),
            _same(rule.protocol, protocol),
        )
    )


def _end_fits(end: _End, wanted_id: str, kind: str, cidr: str, ports: str) -> Iterator[bool | None]:
    yield _same(wanted_id, end.id)
    yield _same(kind, end.kind)
    yield _inside(cidr, end.address)
    yield _between(ports, end.port)


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
    """Family and first and last address of a block; None if the text writes none."""
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
    """Whether all hold; None if none is known to fail, and some are not known."""
    if False in verdicts:
        return False
    return None if None in verdicts else True
