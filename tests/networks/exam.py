"""The exam of a classifier: it judges log lines whose true usage is known, with a given context of the network.

Each file of an exam has lines of one kind of traffic only. So the outcome of each line is compared with the truth, and
not only the totals.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from metering.hours import hour_of
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import Timeline
from metering.onramps.ingest.totals import Judge
from metering.onramps.kinds import LogKind, recognised
from metering.onramps.reading import FileName, FlowHop, Observation, ReadSettings
from metering.onramps.reasons import Classified, Outcome, Refused, Traffic, Unmetered
from metering.onramps.sources import ANY, Billable
from tests.support.flow_logs import ATTRIBUTES as OF_FIELDS
from tests.support.networks.billing import processing_service
from tests.support.networks.description import description
from tests.support.networks.inventory import EAST, OWNER, PARTNER, WEST
from tests.support.networks.journeys import JOURNEYS
from tests.support.networks.traffic import Network, NetworkPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.support.networks.billing import Movement

FIRST_S = 1_795_617_000
"""2026-11-25T14:30Z: twelve slots pass a full hour."""
REFERENCE = Path(__file__).parent / "reference.json"
_PERCENT = 100


def reference_plan(style: str, **changes: object) -> NetworkPlan:
    """The reference network, whose mix of traffic is not tuned to any result."""
    given = json.loads(REFERENCE.read_text())
    del given["about"]
    return replace(NetworkPlan(first_s=FIRST_S, style=style, **given), **changes)  # type: ignore[arg-type]  # by name


# Names that the reader uses for a log's optional fields.
_NEEDED = ("account-id", "interface-id", "srcaddr", "dstaddr")
ATTRIBUTES = {name: attribute for name, attribute in OF_FIELDS.items() if name not in _NEEDED}


class Question(NamedTuple):
    """Log lines that all belong to one kind of movement."""

    movement: Movement
    knows: str
    fields: tuple[str, ...]
    kind: LogKind
    name: FileName
    observations: tuple[Observation[object], ...]


@dataclass(frozen=True, slots=True)
class Exam:
    """Log lines of a network in one format, read once, to be judged with any context."""

    network: Network
    questions: tuple[Question, ...]

    @property
    def description(self) -> dict[str, object]:
        return description(self.network.inventory, self.network.flow_logs, FIRST_S)

    def forgetting(self, *names: str) -> Exam:
        """The same lines without some log fields; the values of missing fields are empty, as readers return them."""
        gone = dict.fromkeys((ATTRIBUTES[name] for name in names), "")
        less = (
            question._replace(
                fields=tuple(name for name in question.fields if name not in names),
                observations=tuple(_without(each, gone) for each in question.observations),
            )
            for question in self.questions
        )
        return Exam(self.network, tuple(less))

    def marks(self, timeline: Timeline) -> Marks:
        """Judge each line with a timeline of contexts, and compare the outcome with the truth."""
        marks = Marks()
        for question in self.questions:
            judge = Judge(question.kind.classifier(question.name, timeline), Billable(ANY, question.name, timeline))
            for each in question.observations:
                outcome, usage_type, *_ = judge.verdict(each.subject, each.hour_s)
                marks.add(question, each.bytes, outcome, usage_type)
        return marks


class Fault(NamedTuple):
    why: str
    leg: str
    truth: str
    verdict: str
    rule: str


@dataclass(slots=True)
class Marks:
    """Outcomes of the bytes of an exam.

    Attributes:
        refused: Bytes of lines that name no billable owner.
        faults: Wrongly judged bytes, by fault. It must be empty.
        knowable: Unclassified bytes that the log's fields could have classified, by leg of a journey.
        processed: Bytes of processing that were metered; `unprocessed` has those that the log's fields could have told.
    """

    bytes: int = 0
    classified: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)
    knowable: Counter[str] = field(default_factory=Counter)
    processed: Counter[str] = field(default_factory=Counter)
    unprocessed: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """Percentage of unclassified bytes, for output."""
        return _PERCENT * (self.bytes - self.classified) / self.bytes

    def add(self, question: Question, size_bytes: int, outcome: Outcome, usage_type: str) -> None:
        movement = question.movement
        self.bytes += size_bytes
        if isinstance(outcome, Refused) and _names_nothing(question):
            self.refused += size_bytes
        elif isinstance(outcome, Unmetered) and not movement.charged:
            self.classified += size_bytes
        elif not isinstance(outcome, Classified):
            self._fault("not metered", movement, str(outcome), "", size_bytes)
        else:
            self._add_classified(question, size_bytes, outcome, usage_type)

    def _add_classified(self, question: Question, size_bytes: int, outcome: Classified, usage_type: str) -> None:
        movement, shown = question.movement, _shown(outcome.traffic, usage_type)
        for why in _wrong(question, outcome, usage_type):
            self._fault(why, movement, shown, outcome.rule, size_bytes)
        self._add_processed(question, size_bytes, outcome)
        if "Unclassified-" in usage_type:
            self.reasons[outcome.reason] += size_bytes
            if not movement.hides(question.knows):
                self.knowable[movement.leg] += size_bytes
            return
        self.classified += size_bytes
        if movement.hides(question.knows):
            self._fault("a guess", movement, shown, outcome.rule, size_bytes)

    def _add_processed(self, question: Question, size_bytes: int, outcome: Classified) -> None:
        movement, told = question.movement, outcome.processed
        if told is None:
            if movement.processed(question.knows):
                self.unprocessed[movement.leg] += size_bytes
            return
        self.processed[movement.leg] += size_bytes
        traffic, region = told.traffic, movement.near.partition("/")[0]
        service = processing_service(movement.processing)
        wanted = Traffic(movement.account_id, service, outcome.traffic.resource_id, "out", region, region)
        if traffic != wanted._replace(usage_type=movement.processing):
            self._fault("processing", movement, _shown(traffic, traffic.usage_type), told.rule, size_bytes)

    def _fault(self, why: str, movement: Movement, verdict: str, rule: str, size_bytes: int) -> None:
        truth = f"{movement.account_id} {movement.direction} {movement.from_location} -> {movement.to_location} "
        self.faults[Fault(why, movement.leg, truth + movement.usage_type, verdict, rule)] += size_bytes

    def told(self, most: int = 12) -> str:
        """The faults, largest first."""
        lines = [f"{size_bytes:>12,} {fault}" for fault, size_bytes in self.faults.most_common(most)]
        return "\n".join([f"{len(self.faults)} faults", *lines])


def exam(
    style: str,
    *,
    fields: tuple[str, ...] = (),
    lines: int = 6_000,
    variety: int = 5,
    seed: int = 1,
    first_s: int = FIRST_S,
    journeys: Iterable[str] = JOURNEYS,
) -> Exam:
    """An exam over some journeys (default: all), with logs of one format that do not overlap."""
    network = Network(NetworkPlan(
        seed=seed, first_s=first_s, mix=dict.fromkeys(journeys, 1), style=style, fields=fields, lines=lines, slots=1,
        variety=variety, overlaps=False, apart=True, rejected=0, edge_requests=lines // 10,
    ))  # fmt: skip
    return Exam(network, tuple(_questions(network)))


def _questions(network: Network) -> Iterator[Question]:
    settings = ReadSettings()
    for file in network.files():
        found = recognised(file.key)
        assert found is not None, file.key
        kind, name = found
        blocks = list(kind.read(io.BytesIO(file.body), name, settings, digest=len))
        assert not [line for block in blocks for line in block.refused], file.key
        if file.movement is not None:
            observations = tuple(each for block in blocks for each in block.observations)
            yield Question(file.movement, file.log.knows, file.log.fields, kind, name, observations)


def _without(observation: Observation[object], gone: Mapping[str, str]) -> Observation[object]:
    if not isinstance(observation.subject, FlowHop):
        return observation
    return observation._replace(subject=observation.subject._replace(**gone))


def _names_nothing(question: Question) -> bool:
    """Whether the lines name no owner, as for a regional NAT gateway, which has no interface."""
    return question.movement.interface_id == "-" and "resource-id" not in question.fields


def _wrong(question: Question, outcome: Classified, usage_type: str) -> Iterator[str]:
    movement, traffic = question.movement, outcome.traffic
    unclassified = "Unclassified-" in usage_type
    if bool(outcome.reason) is not unclassified:
        yield "a reason if and only if it is unclassified"
    if traffic.account_id != (movement.holder_id or movement.account_id if unclassified else movement.account_id):
        yield "account"
    if traffic.direction != movement.direction:
        if outcome.reason != "direction_unknown" or "flow-direction" in question.fields:
            yield "direction"
        return
    near, far = _sides(traffic.direction, traffic.from_location, traffic.to_location)
    if not _is_or_holds(near, movement.near):
        yield "own side"
    if not unclassified and usage_type != movement.usage_type:
        yield "usage type"
    may_be = ("unknown", movement.near.partition("/")[0]) if unclassified else ()
    if far not in may_be and not _is_or_holds(far, movement.far):
        yield "other side"


def _sides(direction: str, from_location: str, to_location: str) -> tuple[str, str]:
    return (from_location, to_location) if direction == "out" else (to_location, from_location)


def _is_or_holds(said: str, true: str) -> bool:
    """Whether a location is the true location or the region of the true location."""
    return said in (true, true.partition("/")[0])


def _shown(traffic: Traffic, usage_type: str) -> str:
    return f"{traffic.account_id} {traffic.direction} {traffic.from_location} -> {traffic.to_location} {usage_type}"


def context_timeline(described: Mapping[str, object], effective_s: int = hour_of(FIRST_S)) -> Timeline:
    return Timeline(((effective_s, context_of(described, effective_s)),))


def without(described: Mapping[str, object], *names: str, account: str = "", region: str = "") -> dict[str, object]:
    """A description of networks without some of its lists, or without an account or a region."""
    places = described["regions"]
    assert isinstance(places, list)
    kept = [place for place in places if place["account_id"] != account and place["region"] != region]
    lessened = {name: value for name, value in described.items() if name not in names}
    lessened["regions"] = [{name: value for name, value in place.items() if name not in names} for place in kept]
    return lessened


LISTS = (
    "NetworkInterfaces", "VpcPeeringConnections", "Addresses", "TransitGatewayVpcAttachments",
    "TransitGatewayAttachments", "TransitGatewayPeeringAttachments", "TransitGatewayMeteringPolicies", "FlowLogs",
    "ip_ranges", "buckets",
)  # fmt: skip


def layers(described: Mapping[str, object]) -> Iterator[tuple[str, Timeline]]:
    """Contexts for the logs: all known, nothing known, and all known except one list, account or region."""
    yield "all known", context_timeline(described)
    yield "nothing known", Timeline()
    for name in LISTS:
        yield f"without {name}", context_timeline(without(described, name))
    in_subnets = ("Subnets", "NetworkInterfaces", "TransitGatewayVpcAttachments")
    yield "without Subnets and what lies in them", context_timeline(without(described, *in_subnets))
    for account in (OWNER, PARTNER):
        yield f"without account {account}", context_timeline(without(described, account=account))
    for region in (WEST, EAST):
        yield f"without region {region}", context_timeline(without(described, region=region))


def lacking_one(exam_of: Exam) -> Iterator[tuple[str, Timeline]]:
    """Contexts without one interface (not of an instance) or without one subnet, as if created after the capture."""
    described = exam_of.description
    for each in exam_of.network.inventory.interfaces:
        if not each.instance_id and each.id != "-":
            yield f"without one {each.kind}", context_timeline(_lacking(described, "NetworkInterfaceId", each.id))
    for vpc in exam_of.network.inventory.vpcs.values():
        for subnet in vpc.subnets:
            lessened = _lacking(described, "SubnetId", subnet.id)
            yield f"without the subnet {subnet.cidr} of {vpc.name}", context_timeline(lessened)


def _lacking(described: Mapping[str, object], name: str, value: str) -> dict[str, object]:
    """A description without the items whose field `name` is `value` and without what refers to it."""
    places = described["regions"]
    assert isinstance(places, list)
    kept = [{list_name: _items(items, name, value) for list_name, items in place.items()} for place in places]
    return {**described, "regions": kept}


def _items(items: object, name: str, value: str) -> object:
    if not isinstance(items, list):
        return items
    return [_without_subnet(item, value) for item in items if value not in (item.get(name), item.get("ResourceId"))]


def _without_subnet(item: dict[str, object], value: str) -> dict[str, object]:
    ids = item.get("SubnetIds")
    return {**item, "SubnetIds": [each for each in ids if each != value]} if isinstance(ids, list) else item
