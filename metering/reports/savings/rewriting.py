"""Cause rows as the usage that would be, if a network were changed as a rule advises.

A row is rewritten only if its cause, its path and, where the rule needs it, its destination are known. Other bytes are
not judged. A rule whose rewrite assumes more than rows tell is an upper bound.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.usage.months import LineKey, UsageLine
from metering.errors import LedgerCorruptError
from metering.usage.totals import Service, UsageType
from metering.usage.usage_types import usage_type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from metering.billing.owners import Attributes
    from metering.reports.savings.rules import Move, SavingsRule

_TOLD, _NAT, _NAME = "told", "nat_gateway", "name:"


class Row(NamedTuple):
    """A cause row of a month, with the booked hour in epoch seconds (`metering.billing.causes.days`)."""

    hour_s: int
    account_id: str
    service: str
    usage_type: str
    resource_id: str
    cause: str
    destination: str
    path: str
    direction: str
    from_location: str
    to_location: str
    basis: str
    bytes: int

    @property
    def places(self) -> tuple[str, str]:
        """Locations of the side that is metered, and of the other side."""
        ends = self.from_location, self.to_location
        return ends if self.direction == "out" else ends[::-1]

    @property
    def region(self) -> str:
        return self.places[0].partition("/")[0]


class _End(NamedTuple):
    """A cause or a destination. Its label is what a destination is called: the group, else the subnet."""

    label: str
    vpc: str = ""
    subnet: str = ""
    account: str = ""


class Networks:
    """Zones, VPCs and accounts of causes and destinations, as all rows of a month tell them. Mutable."""

    def __init__(self, named: Callable[[str, int], Attributes | None]) -> None:
        self._named = named
        self.regions: set[str] = set()
        # Cause, group or subnet -> zones, VPCs and accounts; VPC -> zones of NAT gateways.
        self.zones, self._vpcs, self._accounts, self.gateways = (defaultdict[str, set[str]](set) for _ in range(4))
        self._ends: dict[tuple[str, int], _End] = {}

    def learn(self, row: Row) -> None:
        """Note the region of a row, and the zones of its cause and of its NAT gateway."""
        self.regions |= {row.region} - {""}
        if not row.cause:
            return
        end, (own, far) = self.end(row), row.places
        for name in {row.cause, end.label, end.subnet} - {""}:
            self.zones[name] |= _zones(own if row.basis == _TOLD else far)
            self._vpcs[name] |= {end.vpc} - {""}
            self._accounts[name] |= {end.account} - {""}
        if row.path == _NAT and row.basis != _TOLD:
            self.gateways[end.vpc] |= _zones(own)

    def end(self, row: Row) -> _End:
        """The cause of a row as an end; its label is the cause if nothing is known of it."""
        known = self._ends.get((row.cause, row.hour_s))
        if known is None:
            known, found = _End(row.cause), self._named(row.cause, row.hour_s)
            if found is not None:
                # A destination is never called by a tag of people, or by the id of an instance.
                grouped = ":" in found.workload and not found.workload.startswith(_NAME)
                label = found.workload if grouped else found.subnet or found.vpc or row.cause
                known = _End(label, found.vpc, found.subnet, found.account)
            self._ends[row.cause, row.hour_s] = known
        return known

    def destination(self, row: Row) -> _End:
        """The destination of a row as an end. Its VPC is empty if it is unknown or one of several."""
        label = row.destination
        return _End(label, _only(self._vpcs.get(label)), account=_only(self._accounts.get(label)))

    def in_one_zone(self, row: Row) -> tuple[bool, bool]:
        """Whether cause and destination may be in one zone, and whether this is certain."""
        near, far = self.zones.get(row.cause, set()), self.zones.get(row.destination, set())
        return not (near and far and near.isdisjoint(far)), bool(near and far) and len(near | far) == 1

    def in_both_zones(self, row: Row) -> bool:
        """Whether both workloads of a hop are in both of its zones. Both sides have the same result."""
        own, far = row.places
        return own in self.zones.get(row.destination, {far}) and far in self.zones.get(self.end(row).label, {own})


def _zones(place: str) -> set[str]:
    return {place} if "/" in place else set()


def _only(found: set[str] | None) -> str:
    return next(iter(found)) if found is not None and len(found) == 1 else ""


def _type(region: str, usage: str) -> str:
    return usage_type_of(region, usage).usage_type


@dataclass(slots=True, kw_only=True)
class Case:
    """Changes by a rule for one payer. Mutable.

    Attributes:
        places: Bytes that the rule counts, by place; `assumed_bytes` of them are rewritten by an assumption.
        gateways: Gateways that are metered, with their bytes.
        changes: Bytes to add to usage, by key; negative where usage goes away.
        zones: Zones in which something is charged by the hour.
    """

    rule: SavingsRule
    payer_id: str
    places: Counter[str] = field(default_factory=Counter)
    assumed_bytes: int = 0
    gateways: Counter[str] = field(default_factory=Counter)
    changes: Counter[LineKey] = field(default_factory=Counter)
    zones: set[str] = field(default_factory=set)

    def lines(self) -> Iterator[UsageLine]:
        """The changes as lines."""
        return (UsageLine(*key, size) for key, size in self.changes.items() if size)


class _Plan(NamedTuple):
    """A rule for rows of a usage type in a region."""

    rule: SavingsRule
    moves: tuple[Move, ...]
    counted: bool
    wanted: frozenset[str]

    @classmethod
    def of(cls, rule: SavingsRule, usage: str, region: str) -> _Plan:
        wanted = frozenset(each.format(region=region) for each in rule.destinations)
        return cls(rule, tuple(each for each in rule.moves if each.usage == usage), usage in rule.counts, wanted)


class Rewriting:
    """Rewrites cause rows by some rules. Mutable: it adds up cases.

    Attributes:
        rules: The rules.
        cases: Cases by rule, place and payer; if places are not `apart`, their name is empty.
        about: Bytes of the usage types that a rule counts, by rule; it cannot judge `unknown` bytes of them.
    """

    def __init__(
        self, rules: Sequence[SavingsRule], payer_of: Callable[[str, int], str], *, apart: bool = True
    ) -> None:
        self.rules = rules
        self.cases: dict[tuple[str, str, str], Case] = {}
        self.about, self.unknown = Counter[str](), Counter[str]()
        self._payer_of, self._apart = payer_of, apart
        self._plans: dict[str, list[_Plan]] = {}

    def usage_types(self, networks: Networks) -> frozenset[str]:
        """Usage types that any rule counts or moves in the regions of these networks."""
        for region in networks.regions:
            for usage in {
                usage for rule in self.rules for usage in (*rule.counts, *(each.usage for each in rule.moves))
            }:
                self._plans[_type(region, usage)] = [_Plan.of(rule, usage, region) for rule in self.rules]
        return frozenset(self._plans)

    def take(self, row: Row, networks: Networks) -> None:
        """Rewrite a row by each rule. Take each row of `usage_types` once; `networks` has learned all rows."""
        for plan in self._plans[row.usage_type]:
            rule = plan.rule
            if plan.counted:
                known = row.cause and (row.destination or (rule.place == "vpc" and not rule.destinations))
                self.about[rule.name] += row.bytes
                self.unknown[rule.name] += 0 if known else row.bytes
            if row.cause and row.path in rule.paths and (not plan.wanted or row.destination in plan.wanted):
                move = next((each for each in plan.moves if _fits(each, row, networks)), None)
                if move is not None and (place := _place(rule, row, networks)):
                    self._add(rule, place, move, row, networks, counted=plan.counted)

    def add_usage(self, used: Mapping[str, int]) -> None:
        """Take all usage, by usage type without prefix. What has no causes is unknown: of others, or not counted yet.

        Raises:
            LedgerCorruptError: The causes have more bytes than the usage.
        """
        for rule in self.rules:
            about, used_bytes = self.about[rule.name], sum(used.get(name, 0) for name in rule.counts)
            if about > used_bytes:
                types = ", ".join(rule.counts)
                raise LedgerCorruptError(f"causes of {types} have {about:,} bytes, and their usage {used_bytes:,}")
            self.about[rule.name] = used_bytes
            self.unknown[rule.name] += used_bytes - about

    def _add(self, rule: SavingsRule, place: str, move: Move, row: Row, networks: Networks, *, counted: bool) -> None:
        payer_id = self._payer_of(row.account_id, row.hour_s)
        key = rule.name, place if self._apart else "", payer_id
        case = self.cases.setdefault(key, Case(rule=rule, payer_id=payer_id))
        if counted:
            case.places[place] += row.bytes
            certain = not rule.at_most or (move.ends and (move.becomes or networks.in_one_zone(row)[1]))
            case.assumed_bytes += 0 if certain else row.bytes
            if row.basis != _TOLD:
                case.gateways[row.resource_id] += row.bytes
        case.changes[_key(row, row.usage_type)] -= row.bytes
        for each in move.becomes:
            # An account of another payer is rated here, too: the saving is that of both.
            ends = {"cause": networks.end, "destination": networks.destination}
            account = ends[each.account](row).account if each.account else ""
            usage_type = _type(row.region, each.usage.format(way="Out" if row.direction == "out" else "In"))
            case.changes[_key(row, usage_type, each.service, account)] += row.bytes
        if rule.hours_of:
            without = networks.gateways[networks.end(row).vpc] if rule.in_zones_without else set()
            case.zones |= networks.zones.get(row.cause, set()) - without


def _fits(move: Move, row: Row, networks: Networks) -> bool:
    own, far = row.places
    if move.of and (move.of == "workload") is not (row.basis == _TOLD):
        return False
    if move.hop == "zones" and not (_zones(own) and _zones(far)):
        return False
    if move.hop == "public" and not (_zones(own) and far == row.region):
        return False
    return not move.ends or (move.ends == "one_zone") is networks.in_one_zone(row)[0]


def _place(rule: SavingsRule, row: Row, networks: Networks) -> str:
    """Where the rule would change something for a row; empty if it does not fit the row."""
    end = networks.end(row)
    if rule.place == "vpc":
        return end.vpc or row.cause
    other = networks.destination(row)
    pair = (end.vpc, other.vpc) if rule.place == "vpcs" else (end.label, other.label)
    fits = all(pair) and (rule.place != "vpcs" or pair[0] != pair[1])
    fits = fits and (not rule.common_zones or networks.in_both_zones(row))
    return " and ".join(sorted(pair)) if fits else ""


def _key(row: Row, usage_type: str, service: str = "", account_id: str = "") -> LineKey:
    sold = Service(service or row.service), UsageType(usage_type)
    return (row.hour_s, account_id or row.account_id, *sold, row.from_location, row.to_location)
