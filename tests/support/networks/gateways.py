"""Transit gateways of a network: their attachments, their logs, and their charges by account.

Each region has a gateway; the two gateways are peered and have the same owner. The western gateway has a metering
policy with the traps of real policies: rules in order, by attachment, type, addresses and ports; a rule that begins and
a rule that ends at a full hour while traffic flows; and a middlebox. The payer comes from an independent table, based
on AWS's pages, that shares nothing with the service's rules.
"""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from metering.replay.network import made_id
from metering.units import HOUR_S
from tests.support.networks.billing import NOTHING, Movement, other_region, processed
from tests.support.networks.inventory import EAST, ECHO, OWNER, PARTNER, WEST, Inventory, Packet

if TYPE_CHECKING:
    from tests.support.networks.causes import Named

# Default fields of a gateway's log (Amazon VPC Transit Gateways, "Transit Gateway Flow Log records").
_FIELDS = (
    "version resource-type account-id tgw-id tgw-attachment-id tgw-src-vpc-account-id tgw-dst-vpc-account-id "
    "tgw-src-vpc-id tgw-dst-vpc-id tgw-src-subnet-id tgw-dst-subnet-id tgw-src-eni tgw-dst-eni tgw-src-az-id "
    "tgw-dst-az-id tgw-pair-attachment-id srcaddr dstaddr srcport dstport protocol packets bytes start end log-status "
    "type packets-lost-no-route packets-lost-blackhole packets-lost-mtu-exceeded packets-lost-ttl-expired tcp-flags "
    "region flow-direction pkt-src-aws-service pkt-dst-aws-service"
)
FIELDS = tuple(_FIELDS.split())
KNOWS = "v6"
"""The version of those fields. All of these logs have them, whatever the style of the network's."""

VPC, VPN, PEERING, FIREWALL = "vpc", "vpn", "peering", "network-function"
# A part of the spoke's addresses, and the port that all requests use.
_PART, _PORT = "10.2.16.0/20", "443"


class Attachment(NamedTuple):
    """An attachment of a gateway. `name` is the VPC or the kind, by which journeys refer to it."""

    name: str
    id: str
    kind: str
    gateway_id: str
    region: str
    owner_id: str
    vpc_id: str = "-"
    peer_region: str = ""


class Pass(NamedTuple):
    """The record that a flow leaves at one attachment of a gateway; `named` is the true cause and destination."""

    source: Attachment
    destination: Attachment
    outward: bool
    answer: bool
    packet: Packet
    leg: str
    named: Named

    @property
    def at(self) -> Attachment:
        return self.destination if self.outward else self.source

    @property
    def resources(self) -> tuple[str, str]:
        """Ids of the resources whose logs have this record, widest first."""
        return self.at.gateway_id, self.at.id


def gateway_id(seed: int, region: str) -> str:
    return made_id("tgw", seed) if region == WEST else made_id("tgw", seed, region)


def attached_vpcs(inventory: Inventory) -> tuple[str, ...]:
    """Names of the VPCs that are attached to a gateway."""
    return tuple(name for name in ("main", "spoke", "far", ECHO) if name in inventory.vpcs)


def attachments(inventory: Inventory) -> tuple[Attachment, ...]:
    """All attachments. A peering has the same id on both sides."""
    seed, found = inventory.seed, []
    for name in attached_vpcs(inventory):
        vpc = inventory.vpcs[name]
        gateway = gateway_id(seed, vpc.region)
        attachment_id = made_id("tgw-attach", seed, name)
        found.append(Attachment(name, attachment_id, VPC, gateway, vpc.region, vpc.account_id, vpc.id))
    west = gateway_id(seed, WEST)
    found.append(Attachment(VPN, made_id("tgw-attach", seed, VPN), VPN, west, WEST, PARTNER))
    found.append(Attachment(FIREWALL, made_id("tgw-attach", seed, FIREWALL), FIREWALL, west, WEST, OWNER))
    for region, peer in ((WEST, EAST), (EAST, WEST)):
        peering_id = made_id("tgw-attach", seed, PEERING)
        gateway = gateway_id(seed, region)
        found.append(Attachment(f"{PEERING} {region}", peering_id, PEERING, gateway, region, OWNER, peer_region=peer))
    return tuple(found)


def passes(
    inventory: Inventory, names: tuple[str, ...], packet: Packet, journey: str, named: Named, *, answer: bool
) -> tuple[Pass, ...]:
    """Records of a flow through gateways; `names` lists attachments in pairs of entry and exit."""
    by_name = {each.name: each for each in attachments(inventory)}
    found = []
    for source, destination in zip(names[::2], names[1::2], strict=True):
        one, other = by_name[source], by_name[destination]
        for outward in (False, True):
            way = "leaves to" if outward else "enters from"
            leg = f"{journey}: transit gateway, {way} {other.kind if outward else one.kind}"
            found.append(Pass(one, other, outward, answer, packet, leg, named))
    return tuple(found)


def billed(record: Pass, changed_s: int, hour_s: int) -> Movement:
    """The charge of a record in an hour; the metering policy changes at `changed_s`."""
    at, peer_region = record.at, record.at.peer_region
    hidden: tuple[str, ...] = ()
    if record.outward:
        usage_type = other_region(at.region, peer_region, "out") if peer_region else NOTHING
    elif at.kind == FIREWALL:
        # The traffic previously came through another attachment, which no field states.
        usage_type, hidden = "", ("*",)
    else:
        usage_type = NOTHING if at.kind == PEERING else processed(at.region)
    return Movement(
        account_id=_payer(record, changed=hour_s >= changed_s),
        service="AmazonEC2" if peer_region else "AmazonVPC",
        resource_id=at.id,
        interface_id=at.id,
        direction="out",
        near=at.region,
        far=peer_region if record.outward and peer_region else at.region,
        usage_type=usage_type,
        leg=record.leg,
        hidden=hidden,
        holder_id=OWNER,
    )


def _payer(record: Pass, *, changed: bool) -> str:
    """Payer according to the policy of the western gateway, before or after the change of that policy."""
    source, destination = record.source, record.destination
    if source.region != WEST:
        return source.owner_id
    if source.kind == VPN:
        return destination.owner_id
    in_part = ip_address(record.packet.source) in ip_network(_PART)
    if changed and in_part:
        return OWNER
    if not changed and (source.name, destination.name) == ("spoke", "main"):
        return destination.owner_id
    if source.kind == VPC and destination.kind == PEERING:
        return OWNER
    return source.owner_id


def metering_policy(inventory: Inventory, changed_s: int) -> dict[str, object]:
    ids = {each.name: each.id for each in attachments(inventory)}
    long_ago, then = moment(changed_s - 1_000 * HOUR_S), moment(changed_s)
    return {
        "TransitGatewayMeteringPolicyId": made_id("tgw-mp", inventory.seed),
        "TransitGatewayId": gateway_id(inventory.seed, WEST),
        "MiddleboxAttachmentIds": [ids[FIREWALL]],
        "State": "available",
        "UpdateEffectiveAt": long_ago,
        "TransitGatewayMeteringPolicyEntries": [
            _entry(40, "transit-gateway-owner", long_ago, Source=VPC, Destination=PEERING),
            _entry(10, "destination-attachment-owner", long_ago, Source=VPN),
            _entry(20, "transit-gateway-owner", then, SourceCidrBlock=_PART, DestinationPortRange=_PORT, Protocol="6"),
            _entry(
                30,
                "destination-attachment-owner",
                then,
                state="deleted",
                SourceTransitGatewayAttachmentId=ids["spoke"],
                DestinationTransitGatewayAttachmentId=ids["main"],
            ),
        ],
    }


def _entry(number: int, payer: str, effective: str, state: str = "available", **asked: str) -> dict[str, object]:
    rule = {
        f"{name}TransitGatewayAttachmentType" if name in ("Source", "Destination") else name: value
        for name, value in asked.items()
    }
    return {
        "PolicyRuleNumber": str(number),
        "MeteredAccount": payer,
        "State": state,
        "UpdateEffectiveAt": effective,
        "MeteringPolicyRule": rule,
    }


def described(inventory: Inventory, account_id: str, region: str, changed_s: int) -> dict[str, object]:
    """EC2's description for an account: a gateway's owner sees all attachments, other accounts only their own."""
    seen = [
        each
        for each in attachments(inventory)
        if each.region == region and account_id in (OWNER, each.owner_id) and not _hidden_peering(each, account_id)
    ]
    owned = account_id == OWNER
    return {
        "TransitGatewayAttachments": [_attachment(each) for each in seen],
        "TransitGatewayPeeringAttachments": [_peering(inventory.seed)] if owned else [],
        "TransitGatewayMeteringPolicies": [metering_policy(inventory, changed_s)] if owned and region == WEST else [],
    }


def _hidden_peering(attachment: Attachment, account_id: str) -> bool:
    return attachment.kind == PEERING and account_id != OWNER


def _attachment(each: Attachment) -> dict[str, object]:
    return {
        "TransitGatewayAttachmentId": each.id,
        "TransitGatewayId": each.gateway_id,
        "TransitGatewayOwnerId": OWNER,
        "ResourceOwnerId": each.owner_id,
        "ResourceType": each.kind,
        "ResourceId": each.vpc_id,
        "State": "available",
    }


def _peering(seed: int) -> dict[str, object]:
    one, other = (
        {"TransitGatewayId": gateway_id(seed, region), "OwnerId": OWNER, "Region": region} for region in (WEST, EAST)
    )
    return {
        "TransitGatewayAttachmentId": made_id("tgw-attach", seed, PEERING),
        "RequesterTgwInfo": one,
        "AccepterTgwInfo": other,
        "State": "available",
    }


def values_of(record: Pass) -> dict[str, str]:
    """Field values that all lines of a record share."""
    source, destination = record.source, record.destination
    told = {
        "version": "6",
        "resource-type": "TransitGateway",
        "account-id": OWNER,
        "tgw-id": record.at.gateway_id,
        "tgw-attachment-id": record.at.id,
        "tgw-pair-attachment-id": (source if record.outward else destination).id,
        "tgw-src-vpc-account-id": source.owner_id if source.kind == VPC else "-",
        "tgw-dst-vpc-account-id": destination.owner_id if destination.kind == VPC else "-",
        "tgw-src-vpc-id": source.vpc_id,
        "tgw-dst-vpc-id": destination.vpc_id,
        "srcaddr": record.packet.source,
        "dstaddr": record.packet.destination,
        "protocol": "6",
        "type": "IPv4",
        "tcp-flags": "3",
        "region": record.at.region,
        "flow-direction": "egress" if record.outward else "ingress",
    }
    lost = {name: "0" for name in FIELDS if name.startswith("packets-lost-")}
    return {name: (told | lost).get(name, "-") for name in FIELDS}


def moment(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
