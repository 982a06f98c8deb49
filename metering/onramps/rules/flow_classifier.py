"""Judge of VPC flow logs: one side of one hop becomes traffic of the contract, or is another log's to count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import hour_of
from metering.onramps.context.facts import Address, address_of, is_public
from metering.onramps.reasons import Outcome, Refused, Shadowed
from metering.onramps.rules.hop import kind_in, zone_in
from metering.onramps.rules.hop_judge import HopJudge, Owner, hop_rules
from metering.onramps.rules.knowledge import Knowledge, knowledge_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from metering.onramps.context.store import Timeline
    from metering.onramps.reading import FileName, FlowHop


# Groups addresses that the judge of flow logs cannot tell apart, so that a reader can sum their lines before they are
# judged. Most internet peers are in one group, and so are most addresses of one subnet. A judge uses only address
# properties that are compared here, so it judges a whole class alike; a test compares both ways over whole networks.
# Measured, a million lines with 40,000 addresses became some ten thousand subjects instead of several hundred thousand.


# Addresses that are remembered. A full cache is emptied, which only costs time.
_REMEMBERED = 200_000


class _Known(dict[str, str]):
    """Alike addresses, by address. A known address is found without a call of Python."""

    def __init__(self, first: Callable[[str], str]) -> None:
        super().__init__()
        self._first = first

    def __missing__(self, text: str) -> str:
        found = self[text] = self._first(text)
        return found


class AddressClasses:
    """Classes of addresses that several contexts tell apart.

    If not every line says its direction, an interface's own addresses tell it, and each of them is a class of its own.
    """

    def __init__(self, knowledges: Iterable[Knowledge], *, directed: bool) -> None:
        self._knowledges = tuple(knowledges)
        self._own: frozenset[Address | None] = frozenset()
        if not directed:
            self._own = frozenset(
                address_of(text)
                for knowledge in self._knowledges
                for interface in knowledge.interfaces.values()
                for text in interface.addresses
            )
        self._firsts: dict[Hashable, str] = {}
        self._known = _Known(self._first)

    def alike(self, addresses: Sequence[str]) -> list[str]:
        """For each address one that is judged alike, the same one for all of a class."""
        if len(self._known) > _REMEMBERED:
            self._known.clear()
            self._firsts.clear()
        return list(map(self._known.__getitem__, addresses))

    def _first(self, text: str) -> str:
        address = address_of(text)
        if address is None or address in self._own:
            return text
        key = (address.version, is_public(address), *(_asked(address, each) for each in self._knowledges))
        return self._firsts.setdefault(key, text)


def _asked(address: Address, knowledge: Knowledge) -> Hashable:
    """All that the judge asks of an address: see `peer_of`, and the directions of `flow_classifier`."""
    vpc_ids = knowledge.blocks.at(address) or ()
    inside = tuple((zone_in(address, each, knowledge), kind_in(address, each, knowledge)) for each in vpc_ids)
    return vpc_ids, inside, knowledge.ranges.at(address), knowledge.public.get(address, "")


# A file covers an hour or two. A file with lines of many hours is judged correctly, but slower.
_HOURS = 48
_CONTEXTS = 4
_OWNERS = 50_000
# Up to this many contexts may judge the hours of one block; beyond, its addresses are not grouped.
_TOLD_APART = 2


class FlowClassifier:
    """Judges hops, each against the context of its hour. A file's judge is used by one thread."""

    def __init__(self, name: FileName, timeline: Timeline) -> None:
        self._name = name
        self._timeline = timeline
        self._hours: dict[int, _HourJudge] = {}
        self._judges: dict[tuple[int, bool], HopJudge] = {}
        self._classes: dict[tuple[frozenset[int], bool], AddressClasses] = {}

    def outcome(self, subject: FlowHop, hour_s: int) -> Outcome:
        judge = self._hours.get(hour_s)
        if judge is None:
            judge = self._begin(hour_s)
        return judge.outcome(subject)

    def alike(self, addresses: Sequence[str], hours: Iterable[int], *, directed: bool) -> Sequence[str]:
        """Addresses that are judged alike in all of these hours (`Folding`)."""
        full = sorted({hour_of(hour) for hour in hours})
        # Contexts are counted by name, because loading one takes a second, and only a few are cached.
        if len(self._timeline.pins(full)) > _TOLD_APART:
            return addresses
        knowledges = {id(each): each for each in (knowledge_of(self._timeline.at(hour_s)) for hour_s in full)}
        key = (frozenset(knowledges), directed)
        classes = self._classes.get(key)
        if classes is None:
            if len(self._classes) >= _CONTEXTS:
                self._classes.clear()
            classes = self._classes[key] = AddressClasses(knowledges.values(), directed=directed)
        return classes.alike(addresses)

    def _begin(self, hour_s: int) -> _HourJudge:
        if len(self._hours) >= _HOURS:
            self._hours.clear()
        knowledge = knowledge_of(self._timeline.at(hour_of(hour_s)))
        apart = hour_s >= hop_rules().peering_apart_from_s
        judge = self._judges.get((id(knowledge), apart))
        if judge is None:
            if len(self._judges) >= _CONTEXTS:
                self._hours.clear()
                self._judges.clear()
            judge = HopJudge(self._name, knowledge, peering_billed_apart=apart)
            self._judges[id(knowledge), apart] = judge
        hour = self._hours[hour_s] = _HourJudge(judge, self._name.source, hour_s)
        return hour


class _HourJudge:
    """Decides which log counts in one hour, and leaves the rest to the judge of the hour's context."""

    def __init__(self, judge: HopJudge, log_id: str, hour_s: int) -> None:
        self._judge = judge
        self._log_id = log_id
        self._hour_s = hour_s
        # The lines' own side -> its owner, or the reason why its bytes are not metered here.
        self._known: dict[tuple[str, ...], Owner | Refused | Shadowed] = {}

    def outcome(self, subject: FlowHop) -> Outcome:
        told = subject[:10]
        known = self._known.get(told)
        if known is None:
            if len(self._known) >= _OWNERS:
                self._known.clear()
            known = self._known[told] = self._shadow(subject) or self._judge.owner(subject)
        return self._judge.outcome(known, subject) if isinstance(known, Owner) else known

    def _shadow(self, subject: FlowHop) -> Shadowed | None:
        """The other log that counts for the line's interface, if there is one."""
        knowledge = self._judge.knowledge
        if knowledge.authorities is None or not self._log_id:
            return None
        # What the log covers holds for each of its lines, even for an interface that is not known yet.
        log = knowledge.flow_logs.get(self._log_id)
        own = {log.resource_type: log.resource_id} if log is not None else {}
        if subject.interface_id:
            interface = knowledge.interfaces.get(subject.interface_id)
            subnet_id = subject.subnet_id or (interface.subnet_id if interface is not None else own.get("subnet", ""))
            subnet = knowledge.subnets.get(subnet_id)
            vpc_id = subject.vpc_id or (subnet.vpc_id if subnet is not None else own.get("vpc", ""))
            resources: tuple[str, ...] = (subject.interface_id, subnet_id, vpc_id)
        else:
            # A regional NAT gateway has its own log and no interface.
            resources = (subject.resource_id or own.get("nat", ""),)
        authority = knowledge.authorities.over(resources, self._hour_s)
        return None if authority is None or authority.id == self._log_id else Shadowed(authority.id)
