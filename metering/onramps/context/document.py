"""A context: inventory, address ranges and flow logs at one time, as one document that never changes.

Its name is the SHA-256 of its canonical JSON, so `gunzip -c FILE | sha256sum` checks a stored one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = "metering.context/1"
_NOTHING: Mapping[str, str] = MappingProxyType({})
_NO_DISTRIBUTIONS: Mapping[str, Distribution] = MappingProxyType({})
_NO_FLOW_LOGS: Mapping[str, FlowLog] = MappingProxyType({})


class ContextUnreadableError(MeteringError):
    """A stored context is none, or not the one that its name says."""


class _Document(msgspec.Struct, kw_only=True, frozen=True, gc=False, omit_defaults=True):
    """The JSON of a context. Lists are sorted by whoever makes the context, so that equal ones have equal bytes.

    What came later has a default, so that contexts without it keep their bytes, and their names.
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


# Contexts are compared and cached by identity: they are large, and a store hands out one object a version.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Context:
    """What is known beside the logs. `Context.of` makes one.

    Attributes:
        sha256: SHA-256 of its canonical JSON, which is its name.
        effective_s: Hour from which it holds, in epoch seconds.
        accounts: Accounts that were captured.
        places: Account and region of each capture.
        vpcs: VPCs, sorted, as are all that follow.
        subnets: Subnets of those VPCs.
        interfaces: Network interfaces in those subnets.
        peerings: Active peerings.
        transit_vpcs: Ids of VPCs with an attachment of a transit gateway.
        public_addresses: Public IPv4 addresses of those accounts.
        flow_logs: Flow logs by id, of all kinds and destinations.
        buckets: Region of each bucket that is known.
        prefixes: Address prefixes of AWS; empty if they are not known.
        notes: What was left out of it, and why, for people.
        bucket_owners: Account of each bucket whose owner is known.
        distributions: CloudFront distributions by id.
        attachments: Attachments of transit gateways, sorted by gateway.
        metering_policies: Metering policies of transit gateways, sorted.
        policy_places: Account and region of each capture that has the metering policies: a gateway there that none is
            listed of has none.
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
    flow_logs: Mapping[str, FlowLog] = field(default_factory=lambda: _NO_FLOW_LOGS)
    buckets: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    prefixes: tuple[Prefix, ...] = ()
    notes: tuple[str, ...] = ()
    bucket_owners: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    distributions: Mapping[str, Distribution] = field(default_factory=lambda: _NO_DISTRIBUTIONS)
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
        """The same context under the name that its content has."""
        document = _document(self)
        return _context(document, hashlib.sha256(msgspec.json.encode(document)).hexdigest())

    def says_the_same(self, other: Context) -> bool:
        """Whether both know the same, from whichever hour each holds."""
        return msgspec.structs.replace(_document(self), effective_s=0) == msgspec.structs.replace(
            _document(other), effective_s=0
        )


def _document(context: Context) -> _Document:
    return _Document(
        schema=SCHEMA,
        effective_s=context.effective_s,
        accounts=tuple(sorted(context.accounts)),
        places=context.places,
        vpcs=context.vpcs,
        subnets=context.subnets,
        interfaces=context.interfaces,
        peerings=context.peerings,
        transit_vpcs=context.transit_vpcs,
        public_addresses=context.public_addresses,
        flow_logs=tuple(context.flow_logs[each] for each in sorted(context.flow_logs)),
        buckets=tuple(sorted(context.buckets.items())),
        prefixes=context.prefixes,
        notes=context.notes,
        bucket_owners=tuple(sorted(context.bucket_owners.items())),
        distributions=tuple(context.distributions[each] for each in sorted(context.distributions)),
        attachments=context.attachments,
        metering_policies=context.metering_policies,
        policy_places=context.policy_places,
    )


def _context(document: _Document, sha256: str) -> Context:
    return Context(
        sha256=sha256,
        effective_s=document.effective_s,
        accounts=frozenset(document.accounts),
        places=document.places,
        vpcs=document.vpcs,
        subnets=document.subnets,
        interfaces=document.interfaces,
        peerings=document.peerings,
        transit_vpcs=document.transit_vpcs,
        public_addresses=document.public_addresses,
        flow_logs=MappingProxyType({each.id: each for each in document.flow_logs}),
        buckets=MappingProxyType(dict(document.buckets)),
        prefixes=document.prefixes,
        notes=document.notes,
        bucket_owners=MappingProxyType(dict(document.bucket_owners)),
        distributions=MappingProxyType({each.id: each for each in document.distributions}),
        attachments=document.attachments,
        metering_policies=document.metering_policies,
        policy_places=document.policy_places,
    )
