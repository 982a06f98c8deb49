"""Owners of interfaces: the resource that holds an interface, its workload, and its tags.

Holders and workloads are part of a context. Tags are an object of their own beside the context, because processes that
judge lines do not need them.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from metering.onramps.context.document import Context, ContextUnreadableError, Group, Holder

if TYPE_CHECKING:
    from metering.onramps.context.description import Description, InterfaceItem, Place

# Workloads by tags that AWS's services set, the most telling first. Nodes of a managed node group are also in an Auto
# Scaling group, whose name has a made-up ending, so the node group goes first (Amazon EKS User Guide, managed node
# groups; Amazon ECS Developer Guide, tags; EC2 Auto Scaling User Guide, tags).
_BY_TAGS = (
    ("ecs", ("aws:ecs:clusterName", "aws:ecs:serviceName")),
    ("eks", ("eks:cluster-name", "eks:nodegroup-name")),
    ("asg", ("aws:autoscaling:groupName",)),
)
SERVICE_TAGS = tuple(key for _, keys in _BY_TAGS for key in keys)
"""Keys of the tags that show a workload."""
# Descriptions that AWS's services give to their interfaces, and the kind of workload that the innermost group names.
# The group `holder` is the resource that holds the interface.
_BY_DESCRIPTION = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"AWS Lambda VPC ENI-(.{1,140})-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "lambda"),
        (r"ELB (?P<holder>((?:app|net|gwy)/[^/]+)/[0-9a-f]+)", "elb"),
        (r"ELB (?P<holder>([^/]+))", "elb"),
        (r"ElastiCache (?P<holder>(\S+))", "elasticache"),
        (r"EFS mount target for (?P<holder>(fs-[0-9a-f]+)).*", "efs"),
        (r"Interface for NAT Gateway (?P<holder>nat-[0-9a-f]+)", ""),
        (r"VPC Endpoint Interface (?P<holder>vpce-[0-9a-f]+)", ""),
        (r"Network Interface for Transit Gateway Attachment (?P<holder>tgw-attach-[0-9a-f]+)", ""),
    )
)
_ENDPOINT = "endpoint"
_NAME = "Name"


def holders_of(places: Iterable[Place], known: Iterable[str]) -> tuple[Holder, ...]:
    """Holders of the known interfaces, sorted; an interface that nothing holds is left out."""
    found: dict[str, str] = {}
    for place in places:
        for endpoint in place.endpoints or ():
            found |= dict.fromkeys(endpoint.network_interface_ids, endpoint.vpc_endpoint_id)
        for item in place.interfaces:
            holder = item.attachment.instance_id or _described(item)[0]
            if holder:
                found.setdefault(item.network_interface_id, holder)
    return tuple(Holder(each, found[each]) for each in sorted(found.keys() & set(known)))


def groups_of(places: Iterable[Place], known: Iterable[str], holders: Iterable[Holder]) -> tuple[Group, ...]:
    """Workloads of the known interfaces and of their holders, sorted by id."""
    found: dict[str, str] = {}
    wanted = {*known, *(each.resource_id for each in holders)}
    for place in places:
        for each_id, workload in _workloads(place):
            found.setdefault(each_id, workload)
    return tuple(Group(each, found[each]) for each in sorted(found.keys() & wanted))


def _workloads(place: Place) -> Iterator[tuple[str, str]]:
    """Workload of each id that a place names one for, the most telling first."""
    yield from _tagged(place)
    for item in place.interfaces:
        holder, workload = _described(item)
        if workload:
            yield holder or item.network_interface_id, workload
    for endpoint in place.endpoints or ():
        if endpoint.service_name:
            yield endpoint.vpc_endpoint_id, f"{_ENDPOINT}:{endpoint.service_name}"


def _tagged(place: Place) -> Iterator[tuple[str, str]]:
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    for tag in place.tags or ():
        tags[tag.resource_id][tag.key] = tag.value
    for kind, keys in _BY_TAGS:
        for each_id, its in tags.items():
            if all(its.get(key) for key in keys):
                yield each_id, f"{kind}:{'/'.join(its[key] for key in keys)}"


def _described(item: InterfaceItem) -> tuple[str, str]:
    """Holder and workload by an interface's description; empty texts if unknown."""
    for pattern, kind in _BY_DESCRIPTION:
        match = pattern.fullmatch(item.description)
        if match is not None:
            groups = match.groupdict()
            inner = [text for text in match.groups() if text is not None][-1]
            return groups.get("holder", ""), f"{kind}:{inner}" if kind else ""
    return "", ""


class Tag(NamedTuple):
    """A tag that people gave a resource."""

    id: str
    key: str
    value: str


class Tags(msgspec.Struct, kw_only=True, frozen=True):
    """Tags of resources that hold from a full hour, sorted.

    Attributes:
        effective_s: Hour from which they hold, in epoch seconds.
    """

    SCHEMA = "metering.tags/1"
    schema: str
    effective_s: int
    tags: tuple[Tag, ...]

    def encode(self) -> bytes:
        """Canonical JSON: equal tags have equal bytes."""
        return msgspec.json.encode(self)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.encode()).hexdigest()

    def by_id(self) -> Mapping[str, Mapping[str, str]]:
        """Values by key of each resource."""
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for tag in self.tags:
            found[tag.id][tag.key] = tag.value
        return found


_decode = msgspec.json.Decoder(Tags).decode


def decoded_tags(body: bytes) -> Tags:
    """Decode tags from canonical JSON.

    Raises:
        ContextUnreadableError: The body is not such a document.
    """
    try:
        found = _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ContextUnreadableError(f"these are no tags: {error}") from error
    if found.schema != Tags.SCHEMA:
        raise ContextUnreadableError(f"their schema is {found.schema[:60]!r}, and this release knows {Tags.SCHEMA}")
    return found


def tags_of(described: Description, effective_s: int) -> Tags | None:
    """Tags that people gave, of a description; None if the capture did not describe tags."""
    asked = [place.tags for place in described.regions if place.tags is not None]
    if not asked:
        return None
    found = {Tag(tag.resource_id, tag.key, tag.value) for tags in asked for tag in tags if tag.key not in SERVICE_TAGS}
    return Tags(schema=Tags.SCHEMA, effective_s=effective_s, tags=tuple(sorted(found)))


class Owned(NamedTuple):
    """Owner of an interface.

    Attributes:
        resource_id: The resource that holds the interface, else the interface.
        workload: `ecs:prod/indexer`, `asg:ci-runners` and the like, else `name:` with the tag Name, else the resource.
    """

    resource_id: str
    workload: str
    tags: Mapping[str, str]


class Location(NamedTuple):
    """Where an interface is. Empty texts are unknown.

    Attributes:
        account_id: Account of the interface; another account may own the VPC.
    """

    account_id: str = ""
    vpc_id: str = ""
    subnet_id: str = ""


class Workloads:
    """Looks up whose an interface or resource is. Without tags, the tag Name is never the answer."""

    def __init__(self, context: Context | None, tags: Tags | None = None) -> None:
        self._context = context
        self._holders = {} if context is None else dict(context.holders)
        self._groups = {} if context is None else dict(context.groups)
        self._tags: Mapping[str, Mapping[str, str]] = {} if tags is None else tags.by_id()

    def of(self, its_id: str) -> Owned:
        """Owner of an interface, or of a resource that holds interfaces."""
        holder = self._holders.get(its_id, its_id)
        tags = {**self._tags.get(holder, {}), **self._tags.get(its_id, {})}
        workload = self._groups.get(its_id) or self._groups.get(holder)
        if not workload:
            workload = f"name:{tags[_NAME]}" if tags.get(_NAME) else holder
        return Owned(holder, workload, tags)

    @property
    def hour_s(self) -> int:
        """Hour from which the context holds, epoch seconds; 0 without a context."""
        return 0 if self._context is None else self._context.effective_s

    def resources(self) -> Iterable[str]:
        """Resources that hold interfaces, and interfaces that nothing holds."""
        return self._locations.keys() - self._holders.keys()

    def location(self, its_id: str) -> Location:
        """Where an interface, or the first interface of a resource, is."""
        return self._locations.get(its_id, Location())

    @cached_property
    def _locations(self) -> Mapping[str, Location]:
        found: dict[str, Location] = {}
        if self._context is not None:
            vpcs = {subnet.id: subnet.vpc_id for subnet in self._context.subnets}
            for each in self._context.interfaces:
                at = Location(each.account_id, vpcs.get(each.subnet_id, ""), each.subnet_id)
                found[each.id] = at
                found.setdefault(self._holders.get(each.id, each.id), at)
        return found
