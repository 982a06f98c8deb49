"""A context: inventory, address ranges and flow logs at one time, as one document that never changes.

Its name is the SHA-256 of its canonical JSON, so `gunzip -c FILE | sha256sum` checks a stored one.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from metering.errors import MeteringError
from metering.onramps.context.facts import (
    Attachment,
    Distribution,
    FlowLog,
    Interface,
    MeteringPolicy,
    Peering,
    Prefix,
    PublicAddress,
    Subnet,
    Vpc,
)
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


SCHEMA = "metering.context/1"


class ContextUnreadableError(MeteringError):
    """A stored object is no context, or not the one that its name says."""


class _Document(msgspec.Struct, kw_only=True, frozen=True, gc=False, omit_defaults=True):
    """The JSON of a context. Lists are sorted, so that equal contexts have equal bytes.

    Later members have a default, so that contexts without them keep their bytes, and their names.
    """

    schema: str
    effective_s: int
    accounts: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    vpcs: tuple[Vpc, ...]
    subnets: tuple[Subnet, ...]
    interfaces: tuple[Interface, ...]
    peerings: tuple[Peering, ...]
    transit_vpcs: tuple[str, ...]
    public_addresses: tuple[PublicAddress, ...]
    flow_logs: tuple[FlowLog, ...]
    buckets: tuple[tuple[str, str], ...]
    prefixes: tuple[Prefix, ...]
    notes: tuple[str, ...]
    bucket_owners: tuple[tuple[str, str], ...] = ()
    distributions: tuple[Distribution, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    metering_policies: tuple[MeteringPolicy, ...] = ()
    policy_places: tuple[tuple[str, str], ...] = ()


_decode = msgspec.json.Decoder(_Document).decode
# Members of a context that are keyed by id, and members that are pairs of a name and a text.
_BY_ID = ("flow_logs", "distributions")
_PAIRS = ("buckets", "bucket_owners")


# Contexts are compared and cached by identity: they are large, and a store returns one object per version.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Context:
    """Networks, address ranges and flow logs at one time. `context_of` makes one of a description.

    Attributes:
        effective_s: Hour from which it holds, in epoch seconds.
        vpcs: VPCs, sorted, as are subnets, interfaces, attachments and policies.
        flow_logs: Flow logs by id, of all kinds and destinations.
        buckets: Region of each known bucket; `bucket_owners` the account.
        prefixes: Address prefixes of AWS; empty if they are not known.
        policy_places: Account and region of each capture that lists all metering policies: a gateway there that has
            none listed has none.
    """

    sha256: str
    effective_s: int
    accounts: frozenset[str] = frozenset()
    places: tuple[tuple[str, str], ...] = ()
    vpcs: tuple[Vpc, ...] = ()
    subnets: tuple[Subnet, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    peerings: tuple[Peering, ...] = ()
    transit_vpcs: tuple[str, ...] = ()
    public_addresses: tuple[PublicAddress, ...] = ()
    flow_logs: Mapping[str, FlowLog] = field(default_factory=dict)
    buckets: Mapping[str, str] = field(default_factory=dict)
    prefixes: tuple[Prefix, ...] = ()
    notes: tuple[str, ...] = ()
    bucket_owners: Mapping[str, str] = field(default_factory=dict)
    distributions: Mapping[str, Distribution] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    metering_policies: tuple[MeteringPolicy, ...] = ()
    policy_places: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        """Canonical JSON of the context: equal contexts have equal bytes."""
        return msgspec.json.encode(_document(self))

    @staticmethod
    def decode(body: bytes) -> Context:
        """The context of canonical JSON; the inverse of `encode`.

        Raises:
            ContextUnreadableError: It is no context, or of a schema that this release does not know.
        """
        try:
            document = _decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ContextUnreadableError(f"it is no context: {error}") from error
        if document.schema != SCHEMA:
            raise ContextUnreadableError(f"its schema is {document.schema[:60]!r}, and this release knows {SCHEMA}")
        return _context(document, hashlib.sha256(body).hexdigest())

    def named(self) -> Context:
        """The same context under the name of its content."""
        document = _document(self)
        return _context(document, hashlib.sha256(msgspec.json.encode(document)).hexdigest())

    def says_the_same(self, other: Context) -> bool:
        """Whether both know the same, from whichever hour each holds."""
        return msgspec.structs.replace(_document(self), effective_s=0) == msgspec.structs.replace(
            _document(other), effective_s=0
        )


def _document(context: Context) -> _Document:
    listed: dict[str, Any] = {
        name: getattr(context, name) for name in _Document.__struct_fields__ if name not in ("schema", *_BY_ID, *_PAIRS)
    }
    listed |= {name: tuple(each for _, each in sorted(getattr(context, name).items())) for name in _BY_ID}
    listed |= {name: tuple(sorted(getattr(context, name).items())) for name in _PAIRS}
    return _Document(schema=SCHEMA, **listed | {"accounts": tuple(sorted(context.accounts))})


def _context(document: _Document, sha256: str) -> Context:
    known: dict[str, Any] = {name: getattr(document, name) for name in document.__struct_fields__ if name != "schema"}
    known |= {name: MappingProxyType({each.id: each for each in known[name]}) for name in _BY_ID}
    known |= {name: MappingProxyType(dict(known[name])) for name in _PAIRS}
    return Context(sha256=sha256, **known | {"accounts": frozenset(document.accounts)})


# Authority: which flow log counts where several log the same interface. Of the logs that deliver to S3 and see a
# resource in an hour, the broadest has authority, then the log with the most informative fields, then the oldest.
# Authority is decided for full hours: a log takes part from the first full hour after its creation, unless no other log
# existed at the start of the hour. A log has seen nothing before its creation: in those hours, files of a log that was
# deleted since and is in no context count.


# The broadest first. A regional NAT gateway has a log of its own, which no VPC's log covers; and it does not see what a
# transit gateway or its attachments log.
_BREADTH = {"vpc": 0, "subnet": 1, "eni": 2, "nat": 3, "tgw": 4, "tgw-attach": 5}
_TELLING = frozenset(
    (
        *(
            "flow-direction",
            "traffic-path",
            "az-id",
            "vpc-id",
            "subnet-id",
            "instance-id",
            "region",
            "sublocation-type",
        ),
        *("pkt-srcaddr", "pkt-dstaddr", "pkt-src-aws-service", "pkt-dst-aws-service", "resource-id", "interface-type"),
        *("next-hop-interface-id", "next-hop-az-id", "next-hop-vpc-id", "next-hop-interface-type"),
    )
)


class Overlap(NamedTuple):
    """A flow log that has the authority over a resource that other logs see.

    If the authority is not ingested, what only the `shadowed` ones have is not metered.
    """

    authority: str
    shadowed: tuple[str, ...]


class Authorities:
    """The flow log that counts, by resource and hour."""

    def __init__(self, context: Context) -> None:
        self._logs: dict[str, list[FlowLog]] = defaultdict(list)
        for log in context.flow_logs.values():
            if log.destination_type == "s3" and log.traffic_type != "REJECT" and log.resource_type in _BREADTH:
                self._logs[log.resource_id].append(log)
        self._subnets = {subnet.id: (subnet.id, subnet.vpc_id) for subnet in context.subnets}
        # Keeps only those of the many interfaces that have a log of their own.
        self._interfaces = {
            each.id: (each.id, *self._subnets[each.subnet_id]) for each in context.interfaces if each.id in self._logs
        }

    def over(self, resource_ids: Iterable[str], hour_s: int) -> FlowLog | None:
        """The log that counts for a resource in an hour, by all that contains it; None if no log is known."""
        known = (log for resource_id in resource_ids for log in self._logs.get(resource_id, ()))
        seen = [log for log in known if log.created_s < hour_s + HOUR_S]
        there = [log for log in seen if log.created_s <= hour_s] or seen
        return min(there, key=_rank, default=None)

    def overlaps(self, hour_s: int) -> tuple[Overlap, ...]:
        """Logs that have the authority over something that another log sees as well, by id.

        A broader log sees all that a narrower one sees, so only what logs name is looked at.
        """
        shadowed: dict[str, set[str]] = defaultdict(set)
        for resource_id in self._logs:
            ids = self._interfaces.get(resource_id) or self._subnets.get(resource_id) or (resource_id,)
            seen = {log.id for each in ids for log in self._logs.get(each, ())}
            authority = self.over(ids, hour_s)
            if authority is not None and len(seen) > 1:
                shadowed[authority.id] |= seen - {authority.id}
        return tuple(Overlap(each, tuple(sorted(shadowed[each]))) for each in sorted(shadowed))


def _rank(log: FlowLog) -> tuple[int, int, int, str]:
    return _BREADTH[log.resource_type], -len(_TELLING.intersection(log.fields)), log.created_s, log.id
