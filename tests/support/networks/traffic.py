"""A network's traffic as a stream of log files. The sums of the true usage grow while files are made."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from metering.units import HOUR_S, MINUTE_S
from tests.support.networks import flow_logs
from tests.support.networks.billing import Movement, at
from tests.support.networks.files import Line, LogFile, Tally, log_file
from tests.support.networks.gateways import Pass, billed
from tests.support.networks.gateways import values_of as gateway_values_of
from tests.support.networks.inventory import OWNER, WEST, Inventory, build_inventory
from tests.support.networks.journeys import HOSTILE, JOURNEYS, Journey, Side, Trip

if TYPE_CHECKING:
    from tests.support.networks.causes import Named


class Sum(NamedTuple):
    bytes: int
    lines: int


class Hour(NamedTuple):
    """A movement in an hour, seen by logs with the fields of version `knows`."""

    hour_s: int
    knows: str
    movement: Movement


class Processed(NamedTuple):
    hour_s: int
    account_id: str
    resource_id: str
    usage_type: str


@dataclass(slots=True)
class Truth:
    """Exact sums of all traffic in a network's logs, each counted once, and sums of repeated (shadowed) lines."""

    tally: Tally = field(default_factory=Tally)
    shadowed: dict[str, Sum] = field(default_factory=dict)
    _sums: dict[Hour, list[int]] = field(default_factory=dict)

    def move(self, hour: Hour, size_bytes: int, lines: int = 1) -> None:
        """Count a side of a hop once. A line with both directions counts as a line of its first direction."""
        entry = self._sums.setdefault(hour, [0, 0])
        entry[0] += size_bytes
        entry[1] += lines

    def shadow(self, log_id: str, size_bytes: int) -> None:
        before = self.shadowed.get(log_id, Sum(0, 0))
        self.shadowed[log_id] = Sum(before.bytes + size_bytes, before.lines + 1)

    @property
    def sums(self) -> Mapping[Hour, Sum]:
        return {hour: Sum(size_bytes, lines) for hour, (size_bytes, lines) in self._sums.items()}

    @property
    def metered_bytes(self) -> int:
        return sum(size_bytes for size_bytes, _ in self._sums.values())

    def processed(self) -> Counter[Processed]:
        """Bytes that gateways and endpoints charge for processing, as far as the fields of their logs tell."""
        sums: Counter[Processed] = Counter()
        for (hour_s, knows, movement), (size_bytes, _) in self._sums.items():
            if usage_type := movement.processed(knows):
                sums[Processed(hour_s, movement.account_id, movement.resource_id, usage_type)] += size_bytes
        return sums

    def hidden_bytes(self) -> int:
        """Bytes that the fields of their log do not suffice to classify, even with the whole inventory."""
        return sum(entry[0] for hour, entry in self._sums.items() if hour.movement.hides(hour.knows))


KNOWS = "edge"
"""What the fields of these logs are called among the versions of flow logs."""

_SHORT = ("date", "time", "x-edge-location", "sc-bytes", "cs-bytes")
_WHOLE = (*_SHORT, "cs-method", "x-edge-result-type")
# Edge -> its billing area. The airport of the last edge is in no list.
_EDGES = {"LHR61-P2": "EU", "IAD89-C3": "US", "GRU3-C1": "SA", "NRT57-P3": "JP", "QQQ1-C1": ""}
_FREE, _TO_ORIGIN, _UNTOLD = "DataTransfer-In-Bytes", "DataTransfer-Out-OBytes", ""
# Method, result, and the usage under which AWS bills the request's bytes. A log does not show who caused an error.
_REQUESTS = (
    ("GET", "Hit", _FREE),
    ("GET", "Miss", _FREE),
    ("HEAD", "Error", _FREE),
    ("POST", "Miss", _TO_ORIGIN),
    ("PUT", "Miss", _TO_ORIGIN),
    ("POST", "Redirect", _FREE),
    ("PUT", "Error", _UNTOLD),
)
_MOST_EDGE_BYTES = 400_000


class Move(NamedTuple):
    movement: Movement
    bytes: int


class Request(NamedTuple):
    time_s: int
    text: str
    moves: tuple[Move, ...]


def distribution_logs(seed: int) -> tuple[flow_logs.FlowLog, ...]:
    return tuple(
        flow_logs.FlowLog(
            id=_distribution(seed, fields),
            account_id=OWNER,
            region=WEST,
            resource_id=_distribution(seed, fields),
            created_s=0,
            fields=fields,
            knows=KNOWS,
            bucket="acme-edge-logs",
        )
        for fields in (_WHOLE, _SHORT)
    )


def _distribution(seed: int, fields: tuple[str, ...]) -> str:
    return f"E{hashlib.sha256(f'{seed}/{fields}'.encode()).hexdigest()[:13].upper()}"


def requests(log: flow_logs.FlowLog, seed: int, number: int, first_s: int, last_s: int) -> Iterator[Request]:
    """Yield `number` reproducible requests between two times, in epoch seconds."""
    rng = random.Random(f"{seed}/{log.id}")
    for _ in range(number):
        edge = rng.choice(tuple(_EDGES))
        method, result, inward = rng.choice(_REQUESTS)
        sent, received = rng.randrange(1, _MOST_EDGE_BYTES), rng.randrange(1, _MOST_EDGE_BYTES)
        time_s = rng.randrange(first_s, last_s)
        told = inward if log.fields == _WHOLE else _UNTOLD
        moves = Move(_movement(log, edge, "DataTransfer-Out-Bytes"), sent), Move(_movement(log, edge, told), received)
        moment = datetime.fromtimestamp(time_s, UTC)
        values = [f"{moment:%Y-%m-%d}", f"{moment:%H:%M:%S}", edge, str(sent), str(received), method, result]
        yield Request(time_s, "\t".join(values[: len(log.fields)]), moves)


def alone(request: Request, move: Move) -> Request:
    """The request, with the bytes of only one direction."""
    values = request.text.split("\t")
    values[4 if move is request.moves[0] else 3] = "-"
    return Request(request.time_s, "\t".join(values), (move,))


def _movement(log: flow_logs.FlowLog, edge: str, traffic: str) -> Movement:
    area = _EDGES[edge]
    inward = traffic in (_FREE, _UNTOLD)
    usage_type = f"{area}-{traffic}" if area and traffic else ""
    return Movement(
        account_id=OWNER,
        service="AmazonCloudFront",
        resource_id=log.id,
        interface_id=log.id,
        direction="in" if inward else "out",
        near="cloudfront",
        far="unknown" if traffic == _TO_ORIGIN else "internet",
        usage_type=usage_type,
        leg=f"edge: {traffic or 'what nobody can say'} at {area or 'an unknown area'}",
        hidden=() if usage_type else ("*",),
    )


def edge_file(log: flow_logs.FlowLog, hour_s: int, found: Sequence[Request], movement: Movement | None) -> LogFile:
    """The log file of an hour; `movement` is the movement of all lines, if they have the same."""
    tally = Tally()
    tally.add("header", lines=2)
    lines = [Line("metered", sum(move.bytes for move in each.moves), each.text) for each in found]
    for outcome, size_bytes, _ in lines:
        tally.add(outcome, size_bytes)
    text = "\n".join(["#Version: 1.0", f"#Fields: {' '.join(log.fields)}", *(line.text for line in lines), ""])
    unique = hashlib.sha256(f"{log.id}/{hour_s}/{movement}".encode()).hexdigest()[:8]
    hour = datetime.fromtimestamp(hour_s - hour_s % HOUR_S, UTC)
    key = f"AWSLogs/{log.account_id}/CloudFront/{log.id}.{hour:%Y-%m-%d-%H}.{unique}.gz"
    body = gzip.compress(text.encode(), 6, mtime=0)
    return LogFile(log=log, bucket=log.bucket, key=key, body=body, tally=tally, movement=movement)


SLOT_S = 5 * MINUTE_S
_LONGEST_S = 10 * MINUTE_S
# Number of interfaces in a slot that have no traffic.
_QUIET = 5
_PERCENT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """The traffic to make. The same plan makes the same files on every machine.

    Attributes:
        mix: Weight of each journey, by bytes. Journeys that are not listed do not occur.
        lines: Approximate number of traffic lines to make.
        first_s: Start of the first 5-minute slot, in epoch seconds.
        style: Formats of the logs: `mixed`, or `v2` to `v11` for one format everywhere.
        fields: Fields of all logs, if they differ from the fields of the style.
        instances: Private instances in each subnet.
        variety: Number of different pairs of endpoints per journey.
        file_lines: Maximum lines per file; a slot has as many files as needed.
        rejected: Rejected lines per 1,000; likewise `untold` (lines without optional metadata) and `equal` (two
            connections with equal bytes, whose lines are equal).
        overlaps: Whether two logs cover some interfaces.
        apart: Whether each file has lines of only one kind of movement.
        named: Whether each file has lines of only one cause and destination.
        hostile: Whether an address changes hands at the first full hour, and spokes have the same addresses.
        edge_requests: Number of requests that CloudFront logs in all slots together.
        flow_bytes: Least and most bytes of a flow.
    """

    seed: int = 1
    mix: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(JOURNEYS, 1))
    lines: int = 10_000
    first_s: int
    slots: int = 12
    style: str = flow_logs.MIXED
    fields: tuple[str, ...] = ()
    instances: int = 6
    variety: int = 40
    file_lines: int = 200_000
    rejected: int = 20
    untold: int = 10
    equal: int = 5
    overlaps: bool = True
    apart: bool = False
    named: bool = False
    hostile: bool = False
    edge_requests: int = 0
    flow_bytes: tuple[int, int] = (2_000, 2_000_000)


class _Seen(NamedTuple):
    """A side of a hop, with its line in each log: a text with placeholders for changing values.

    `moved` returns the side's movement in an hour. `rejectable` is false for sides of a transit gateway. `life` is that
    of an interface whose address changes hands.
    """

    answer: bool
    rejectable: bool
    moved: Callable[[int], Movement]
    logs: tuple[flow_logs.FlowLog, ...]
    texts: tuple[tuple[flow_logs.FlowLog, str], ...]
    named: Named
    life: str = ""


class _Flow(NamedTuple):
    start_s: int
    end_s: int
    port: int

    def values(self, own_bytes: int, action: str) -> dict[str, object]:
        return {
            "srcport": self.port,
            "dstport": 443,
            "packets": 1 + own_bytes // 1_000,
            "bytes": own_bytes,
            "start": self.start_s,
            "end": self.end_s,
            "action": action,
            "log-status": "OK",
        }


# Lines of future files by log and, if movements are in separate files, by movement.
Piles = dict[tuple[str, "Movement | None", "Named | None"], list[Line]]


class Network:
    """A network under traffic. `truth` is complete once `files` is exhausted."""

    def __init__(self, plan: NetworkPlan) -> None:
        self._plan = plan
        self.inventory: Inventory = self._build()
        self.flow_logs: flow_logs.FlowLogs = flow_logs.build_flow_logs(
            self.inventory, plan.style, plan.first_s, plan.fields, overlaps=plan.overlaps
        )
        self.truth = Truth()
        self._logs = {log.id: log for log in self.flow_logs.logs}
        self._changing = {
            log.id: tuple(name for name in log.fields if name in flow_logs.CHANGING) for log in self.flow_logs.logs
        }
        self._journeys = [name for name, weight in plan.mix.items() if weight]
        self._weights = [plan.mix[name] for name in self._journeys]
        self._routes = {name: self._route(name) for name in self._journeys}

    def _build(self) -> Inventory:
        return build_inventory(self._plan.seed, self._plan.instances, hostile=self._plan.hostile)

    def _journey(self, name: str) -> Journey:
        return (JOURNEYS | HOSTILE)[name]

    def files(self) -> Iterator[LogFile]:
        """All log files, slot by slot, each as AWS would write it."""
        per_slot = self._plan.lines // self._plan.slots
        for number in range(self._plan.slots):
            slot_s = self._plan.first_s + number * SLOT_S
            yield from self._slot(random.Random(f"{self._plan.seed}/{slot_s}"), slot_s, per_slot)
        yield from self._edge_files()

    def _edge_files(self) -> Iterator[LogFile]:
        plan, logs = self._plan, distribution_logs(self._plan.seed)
        last_s = plan.first_s + plan.slots * SLOT_S
        for log in logs:
            piles: dict[tuple[int, Movement | None], list[Request]] = {}
            for number, each in enumerate(
                requests(log, plan.seed, plan.edge_requests // len(logs), plan.first_s, last_s)
            ):
                request = alone(each, each.moves[number % 2]) if plan.apart else each
                hour_s = request.time_s - request.time_s % HOUR_S
                for place, move in enumerate(request.moves):
                    self.truth.move(Hour(hour_s, log.knows, move.movement), move.bytes, lines=0 if place else 1)
                kind = _without_resource(request.moves[0].movement) if plan.apart else None
                piles.setdefault((hour_s, kind), []).append(request)
            for (hour_s, kind), found in piles.items():
                yield self._told(edge_file(log, hour_s, found, kind))

    def _slot(self, rng: random.Random, slot_s: int, lines: int) -> Iterator[LogFile]:
        piles: Piles = {}
        self._fill(rng, slot_s, lines, piles)
        self._be_quiet(rng, slot_s, piles)
        numbers: dict[str, int] = {}
        for (log_id, movement, named), pile in piles.items():
            log = self._logs[log_id]
            for first in range(0, len(pile), self._plan.file_lines):
                part = pile[first : first + self._plan.file_lines]
                number = numbers[log_id] = numbers.get(log_id, 0) + 1
                yield self._told(log_file(log, slot_s, number, part, movement, named))

    def _fill(self, rng: random.Random, slot_s: int, lines: int, piles: Piles) -> None:
        """Add flows of random journeys, until there are about as many lines as wanted."""
        made = 0
        while made < lines:
            made += self._travel(rng, slot_s, rng.choices(self._journeys, self._weights)[0], piles)

    def _travel(self, rng: random.Random, slot_s: int, name: str, piles: Piles) -> int:
        """Add one flow of a journey: for each side of each hop, a line in each log that covers the side."""
        size_bytes = rng.randint(*self._plan.flow_bytes)
        answered = size_bytes * self._journey(name).answer // _PERCENT
        end_s = slot_s + rng.randrange(SLOT_S)
        flow = _Flow(end_s - rng.randrange(1, _LONGEST_S), end_s, rng.randint(32_768, 60_999))
        sides = self._routes[name][rng.randrange(self._plan.variety)]
        if not self._alive(sides, flow):
            return 0
        for side in sides:
            # Each side of a flow counts its own bytes. The counts differ by acknowledgements and retransmissions.
            own_bytes = (answered if side.answer else size_bytes - answered) + rng.randrange(_PERCENT)
            rejected = rng.randrange(1_000) < self._plan.rejected and side.rejectable
            # Two connections between the same places may move the same at once: without ports, their lines are equal.
            for _ in range(2 if rng.randrange(1_000) < self._plan.equal else 1):
                self._write(piles, side, flow, own_bytes, rejected=rejected)
        return len(sides)

    def _alive(self, sides: tuple[_Seen, ...], flow: _Flow) -> bool:
        """Whether the interfaces of a flow have their addresses as long as the flow lasts."""
        lives = {side.life for side in sides}
        handed_over_s = self.flow_logs.handed_over_s
        first, second = flow.end_s < handed_over_s, flow.start_s >= handed_over_s
        return (first or "first" not in lives) and (second or "second" not in lives)

    def _write(self, piles: Piles, side: _Seen, flow: _Flow, own_bytes: int, *, rejected: bool) -> None:
        hour_s = flow.start_s - flow.start_s % HOUR_S
        authority, movement = self.flow_logs.authority(side.logs, hour_s), side.moved(hour_s)
        if not rejected and movement.charged:
            self.truth.move(Hour(hour_s, authority.knows, movement), own_bytes)
        values = flow.values(own_bytes, "REJECT" if rejected else "ACCEPT")
        for log, text in side.texts:
            if log.created_s > flow.end_s:
                continue
            shadowed = log is not authority and not rejected
            if shadowed:
                self.truth.shadow(log.id, own_bytes)
            outcome = "shadowed" if shadowed else "metered" if movement.charged and not rejected else "rejected"
            line = text % tuple(values[name] for name in self._changing[log.id])
            self._pile(piles, log, movement, side.named).append(Line(outcome, own_bytes, line))

    def _pile(
        self, piles: Piles, log: flow_logs.FlowLog, movement: Movement | None, named: Named | None = None
    ) -> list[Line]:
        kind = _without_resource(movement) if self._plan.apart and movement else None
        return piles.setdefault((log.id, kind, named if self._plan.named else None), [])

    def _be_quiet(self, rng: random.Random, slot_s: int, piles: Piles) -> None:
        """Add lines of interfaces without traffic (NODATA) or with lost records (SKIPDATA)."""
        for interface in rng.sample(self.inventory.interfaces, _QUIET):
            for log in self.flow_logs.of(interface):
                if log.created_s > slot_s:
                    continue
                status = "SKIPDATA" if rng.randrange(10) == 0 else "NODATA"
                values = dict.fromkeys(flow_logs.CHANGING, "-")
                values |= {"start": str(slot_s), "end": str(slot_s + MINUTE_S), "log-status": status}
                text = _text(log, flow_logs.quiet_values_of(interface, log.fields))
                line = text % tuple(values[name] for name in self._changing[log.id])
                self._pile(piles, log, None).append(Line(status.lower(), 0, line))

    def _told(self, file: LogFile) -> LogFile:
        self.truth.tally.merge(file.tally)
        return file

    def _route(self, name: str) -> list[tuple[_Seen, ...]]:
        """The planned number of variants of a journey, with different endpoints."""
        routes = []
        for number in range(self._plan.variety):
            rng = self._chance(name, number)
            trip = Trip(name)
            self._journey(name).make(trip, self.inventory, rng)
            routes.append(
                tuple(
                    self._passing(side) if isinstance(side, Pass) else self._seen(self._forgetful(side, rng))
                    for side in trip.sides
                )
            )
        return routes

    def _chance(self, name: str, number: int) -> random.Random:
        return random.Random(f"{self._plan.seed}/{name}/{number}")

    def _passing(self, record: Pass) -> _Seen:
        logs = self.flow_logs.of_gateway(record)
        texts = tuple((log, _text(log, gateway_values_of(record))) for log in logs)
        return _Seen(record.answer, False, partial(billed, record, self.flow_logs.changed_s), logs, texts, record.named)

    def _forgetful(self, side: Side, rng: random.Random) -> Side:
        """The side, occasionally without its next hop, which a log names only on a best-effort basis."""
        if side.next_hop is None or rng.randrange(1_000) >= self._plan.untold:
            return side
        hidden = side.movement.hidden
        moved = side.movement._replace(hidden=(*hidden, "v11") if hidden else ())
        return side._replace(next_hop=None, movement=moved)

    def _seen(self, side: Side) -> _Seen:
        logs = self.flow_logs.of(side.own)
        texts = tuple((log, _text(log, flow_logs.values_of(side, log.fields))) for log in logs)
        return _Seen(side.answer, True, partial(at, side.movement), logs, texts, side.named, side.own.life)


def _without_resource(movement: Movement) -> Movement:
    """The kind of a movement. Movements without an interface are a separate kind."""
    return movement._replace(resource_id="", interface_id="-" if movement.interface_id == "-" else "")


def _text(log: flow_logs.FlowLog, values: Mapping[str, str]) -> str:
    return " ".join("%s" if name in flow_logs.CHANGING else values[name] for name in log.fields)
