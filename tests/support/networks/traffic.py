"""A network's traffic as a stream of log files. The truth grows while files are made."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from metering.units import HOUR_S, MINUTE_S
from tests.support.networks.billing import at
from tests.support.networks.edges import Request, alone, distribution_logs, edge_file, requests
from tests.support.networks.files import Line, LogFile, log_file
from tests.support.networks.flow_logs import MIXED, FlowLog, FlowLogs, build_flow_logs
from tests.support.networks.gateways import Pass, billed
from tests.support.networks.gateways import values_of as gateway_values_of
from tests.support.networks.inventory import Inventory, build_inventory
from tests.support.networks.journeys import JOURNEYS, trip_of
from tests.support.networks.layouts import CHANGING, quiet_values_of, values_of
from tests.support.networks.truth import Hour, Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.networks.billing import Movement
    from tests.support.networks.hops import Side

SLOT_S = 5 * MINUTE_S
_LONGEST_S = 10 * MINUTE_S
_LEAST_BYTES, _MOST_BYTES = 2_000, 2_000_000
# Number of a slot's interfaces without traffic.
_QUIET = 5
_PERCENT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """The traffic to make. The same plan makes the same files on every machine.

    Attributes:
        mix: Weight of each journey, by bytes. Other journeys do not occur.
        lines: Approximate number of traffic lines to make.
        first_s: Start of the first 5-minute slot, in epoch seconds.
        style: Formats of the logs: `mixed`, or `v2` to `v11` for one format everywhere.
        fields: Fields of all logs, if they differ from the style's.
        instances: Private instances in each subnet.
        variety: Number of different pairs of endpoints per journey.
        file_lines: Maximum lines per file; a slot has as many files as needed.
        rejected: Rejected lines per 1,000 others; likewise `untold`, metadata that a log omits, and `equal`, repeated
            lines, because two connections moved the same bytes.
        overlaps: Whether two logs see some interfaces.
        apart: Whether each file has lines of only one kind of movement.
        edge_requests: Number of requests that CloudFront logs over the whole time.
    """

    seed: int = 1
    mix: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(JOURNEYS, 1))
    lines: int = 10_000
    first_s: int
    slots: int = 12
    style: str = MIXED
    fields: tuple[str, ...] = ()
    instances: int = 6
    variety: int = 40
    file_lines: int = 200_000
    rejected: int = 20
    untold: int = 10
    equal: int = 5
    overlaps: bool = True
    apart: bool = False
    edge_requests: int = 0


class _Seen(NamedTuple):
    """A side of a hop with its lines: a log, and a text with placeholders for changing values.

    `moved` gives its movement in an hour. A firewall may reject it, unless it is a transit gateway's.
    """

    answer: bool
    rejectable: bool
    moved: Callable[[int], Movement]
    logs: tuple[FlowLog, ...]
    texts: tuple[tuple[FlowLog, str], ...]


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


# Lines of future files by log, and by movement if movements are kept separate.
_Piles = dict[tuple[str, "Movement | None"], list[Line]]


class Network:
    """A network under traffic. `truth` is complete once `files` is exhausted."""

    def __init__(self, plan: NetworkPlan) -> None:
        self._plan = plan
        self.inventory: Inventory = build_inventory(plan.seed, plan.instances)
        self.flow_logs: FlowLogs = build_flow_logs(
            self.inventory, plan.style, plan.first_s, plan.fields, overlaps=plan.overlaps
        )
        self.truth = Truth()
        self._logs = {log.id: log for log in self.flow_logs.logs}
        self._changing = {log.id: tuple(name for name in log.fields if name in CHANGING) for log in self.flow_logs.logs}
        self._journeys = [name for name, weight in plan.mix.items() if weight]
        self._weights = [plan.mix[name] for name in self._journeys]
        self._routes = {name: self._route(name) for name in self._journeys}

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
        piles: _Piles = {}
        made = 0
        while made < lines:
            name = rng.choices(self._journeys, self._weights)[0]
            made += self._travel(rng, slot_s, name, piles)
        self._be_quiet(rng, slot_s, piles)
        numbers: dict[str, int] = {}
        for (log_id, movement), pile in piles.items():
            log = self._logs[log_id]
            for first in range(0, len(pile), self._plan.file_lines):
                part = pile[first : first + self._plan.file_lines]
                number = numbers[log_id] = numbers.get(log_id, 0) + 1
                yield self._told(log_file(log, slot_s, number, part, movement))

    def _travel(self, rng: random.Random, slot_s: int, name: str, piles: _Piles) -> int:
        """One flow of a journey: a line for each side of each hop, in each log that sees it."""
        size_bytes = rng.randint(_LEAST_BYTES, _MOST_BYTES)
        answered = size_bytes * JOURNEYS[name].answer // _PERCENT
        end_s = slot_s + rng.randrange(SLOT_S)
        flow = _Flow(end_s - rng.randrange(1, _LONGEST_S), end_s, rng.randint(32_768, 60_999))
        sides = self._routes[name][rng.randrange(self._plan.variety)]
        for side in sides:
            # Each side counts its own bytes, which differ by acknowledgements and retransmissions.
            own_bytes = (answered if side.answer else size_bytes - answered) + rng.randrange(_PERCENT)
            rejected = rng.randrange(1_000) < self._plan.rejected and side.rejectable
            # Two connections between the same places may move the same at once: without ports, their lines are equal.
            for _ in range(2 if rng.randrange(1_000) < self._plan.equal else 1):
                self._write(piles, side, flow, own_bytes, rejected=rejected)
        return len(sides)

    def _write(self, piles: _Piles, side: _Seen, flow: _Flow, own_bytes: int, *, rejected: bool) -> None:
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
            self._pile(piles, log, movement).append(Line(outcome, own_bytes, line))

    def _pile(self, piles: _Piles, log: FlowLog, movement: Movement | None) -> list[Line]:
        kind = _without_resource(movement) if self._plan.apart and movement else None
        return piles.setdefault((log.id, kind), [])

    def _be_quiet(self, rng: random.Random, slot_s: int, piles: _Piles) -> None:
        """Lines of interfaces without traffic, and of records that the log lost."""
        for interface in rng.sample(self.inventory.interfaces, _QUIET):
            for log in self.flow_logs.of(interface):
                if log.created_s > slot_s:
                    continue
                status = "SKIPDATA" if rng.randrange(10) == 0 else "NODATA"
                values = dict.fromkeys(CHANGING, "-")
                values |= {"start": str(slot_s), "end": str(slot_s + MINUTE_S), "log-status": status}
                text = _text(log, quiet_values_of(interface, log.fields))
                line = text % tuple(values[name] for name in self._changing[log.id])
                self._pile(piles, log, None).append(Line(status.lower(), 0, line))

    def _told(self, file: LogFile) -> LogFile:
        self.truth.tally.merge(file.tally)
        return file

    def _route(self, name: str) -> list[tuple[_Seen, ...]]:
        """The endpoints of a journey, as many as planned."""
        routes = []
        for number in range(self._plan.variety):
            rng = random.Random(f"{self._plan.seed}/{name}/{number}")
            sides = trip_of(name, self.inventory, rng).sides
            routes.append(
                tuple(
                    self._passing(side) if isinstance(side, Pass) else self._seen(self._forgetful(side, rng))
                    for side in sides
                )
            )
        return routes

    def _passing(self, record: Pass) -> _Seen:
        logs = self.flow_logs.of_gateway(record)
        texts = tuple((log, _text(log, gateway_values_of(record))) for log in logs)
        return _Seen(record.answer, False, partial(billed, record, self.flow_logs.changed_s), logs, texts)

    def _forgetful(self, side: Side, rng: random.Random) -> Side:
        """The side, occasionally without metadata that a log gives only on a best-effort basis."""
        if side.next_hop is None or rng.randrange(1_000) >= self._plan.untold:
            return side
        hidden = side.movement.hidden
        moved = side.movement._replace(hidden=(*hidden, "v11") if hidden else ())
        return side._replace(next_hop=None, movement=moved)

    def _seen(self, side: Side) -> _Seen:
        logs = self.flow_logs.of(side.own)
        texts = tuple((log, _text(log, values_of(side, log.fields))) for log in logs)
        return _Seen(side.answer, True, partial(at, side.movement), logs, texts)


def _without_resource(movement: Movement) -> Movement:
    """The kind of a movement. A movement without an interface is a kind of its own."""
    return movement._replace(resource_id="", interface_id="-" if movement.interface_id == "-" else "")


def _text(log: FlowLog, values: Mapping[str, str]) -> str:
    return " ".join("%s" if name in CHANGING else values[name] for name in log.fields)
