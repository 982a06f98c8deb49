"""The true cause and destination of one side of a hop. The tables share nothing with the rules of the service.

A journey knows between which ends it moves bytes, and each side is told when it is made. So no address is looked up.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import NamedTuple

from tests.support.networks.inventory import Interface, Kind, Peer

End = Interface | Peer
# Interfaces that charge for the bytes of others. What a VPC has of a transit gateway is free, and its own.
_GATEWAYS = frozenset((Kind.NAT, Kind.REGIONAL_NAT, Kind.ENDPOINT))
# How a destination outside of all networks is called.
_FAMILIES = {
    "internet": "internet",
    "internet-ipv6": "internet",
    "cloudfront": "cloudfront",
    "ec2-here": "EC2.us-west-2",
    "ec2-east": "EC2.us-east-1",
    "ec2-ireland": "EC2.eu-west-1",
    "s3-here": "S3.us-west-2",
    "s3-east": "S3.us-east-1",
    "dynamodb-here": "DYNAMODB.us-west-2",
    "amazon-here": "AMAZON.us-west-2",
    "accelerator": "GLOBALACCELERATOR",
    "on-premises": "private",
}
# Destinations that people may have named: parts of families, one within another, and the networks of all VPCs.
NETWORKS = {
    "datadog": ("185.60.16.0/21", "81.2.0.0/21"),
    "datadog-eu": ("185.60.20.0/24",),
    "edge": ("64.252.72.0/21",),
    "inside": ("10.0.0.0/8", "100.64.0.0/10"),
    "mirror": ("52.92.0.0/20",),
    "office": ("192.168.42.0/23",),
    "partner-v6": ("2a0b:4140::/116",),
}
_OWN_PUBLIC = {"us-west-2": "EC2.us-west-2", "us-east-1": "EC2.us-east-1"}


class Named(NamedTuple):
    """True cause and destination of bytes.

    Attributes:
        causes: Ids of the cause: of the interface, and of the resource that holds the interface.
        destinations: Right names of the destination, the most precise first.
    """

    causes: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()


NOBODY = Named()


def ids(each: Interface) -> tuple[str, ...]:
    """Ids by which a workload is named."""
    return tuple(dict.fromkeys(name for name in (each.holder, each.instance_id, each.resource_id, each.id) if name))


def names(end: End, *, public: bool = False) -> tuple[str, ...]:
    """Names of an end as a destination. A peer sees an interface by its public address as an address of EC2."""
    if isinstance(end, Peer):
        return (*_of_people(end.address), _FAMILIES[end.family.name])
    if public:
        return (_OWN_PUBLIC[end.vpc.region],)
    return tuple(name for name in (end.group, end.subnet.id, *ids(end), end.vpc.id) if name)


def _of_people(text: str) -> tuple[str, ...]:
    """The name that people have for an address: that of the smallest block."""
    blocks = ((ip_network(cidr), name) for name, cidrs in NETWORKS.items() for cidr in cidrs)
    found = [(block.prefixlen, name) for block, name in blocks if ip_address(text) in block]
    return (max(found)[1],) if found else ()


def of_side(own: Interface, sender: End, receiver: End, direction: str, *, public: bool = False) -> Named:
    """Cause and destination of the bytes that `own` logs on their way from sender to receiver.

    At a gateway, the cause is the workload at an end; of two workloads the sender. Elsewhere it is the interface.
    """
    other = receiver if direction == "out" else sender
    if own.kind not in _GATEWAYS:
        return Named(ids(own), names(other, public=public))
    near = sender if isinstance(sender, Interface) and sender is not own else receiver
    far = receiver if near is sender else sender
    if not isinstance(near, Interface) or near is own:
        return Named((), names(far))
    if own.kind is Kind.ENDPOINT:
        return Named(ids(near), names(own))
    return Named(ids(near), names(far))


def of_pass(sender: End, receiver: End) -> Named:
    """Cause and destination of bytes that a transit gateway passes on."""
    near, far = (sender, receiver) if isinstance(sender, Interface) else (receiver, sender)
    return Named(ids(near) if isinstance(near, Interface) else (), names(far))
