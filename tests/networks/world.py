"""An in-memory region that meters a network's logs, and the expected results."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from metering.audit.freshness import Complete
from metering.audit.verifier import Verifier
from metering.cli.printing.output import Format, encoded
from metering.hours import hour_of
from metering.intake.dropped import DropIds
from metering.lake.ports import RowQuery
from metering.ledger.markers import marker_key
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import ContextStore
from metering.onramps.ingest.taking import LogIngest, Taken
from metering.onramps.plans import Plan
from metering.onramps.reading import OUTCOMES
from metering.onramps.sources import SHARED_SUBNETS
from metering.reports.query import UsageQuery
from metering.reports.source import UsageTable
from metering.reports.usage_answer import usage_answer
from metering.reports.usage_rows import grouped
from metering.stores.objects import PLANS_PREFIX
from metering.stores.writes import ItemStore, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.usage_types import is_processing
from tests.networks.exam import FIRST_S
from tests.support.lake_world import World
from tests.support.memory.queues import MemoryQueue
from tests.support.networks.description import description
from tests.support.networks.traffic import Processed
from tests.support.small_logs import LogBucket

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.lake.view import LakeView
    from metering.onramps.kinds import LogKind
    from tests.support.networks.billing import Movement
    from tests.support.networks.files import LogFile
    from tests.support.networks.traffic import Network

NOW_S = FIRST_S + 3 * HOUR_S
_MESSAGES = 10
_COLUMNS = (
    "account_id", "service", "resource_id", "direction", "from_location", "to_location", "usage_type", "own_hour",
)  # fmt: skip


class Row(NamedTuple):
    account_id: str
    service: str
    resource_id: str
    direction: str
    from_location: str
    to_location: str
    usage_type: str
    hour_s: int


class NetworkWorld(World):
    def __init__(self, first_s: int = FIRST_S) -> None:
        super().__init__(now_s=first_s + NOW_S - FIRST_S)
        self.first_s = first_s
        self.buckets: dict[str, LogBucket] = {}
        self.queue = MemoryQueue(self.clock)
        self.contexts = ContextStore(self.objects)
        # The kinds of logs in this world; if empty, the kinds of this release.
        self.kinds: Sequence[LogKind] = ()

    def put(self, files: Iterable[LogFile]) -> list[tuple[str, str]]:
        """Put log files into their buckets; return bucket and key of each file."""
        places = []
        for file in files:
            bucket = self.buckets.setdefault(file.bucket, LogBucket(self.clock, file.bucket))
            bucket.put(file.key, file.body, if_absent=False)
            places.append((file.bucket, file.key))
        return places

    def know(self, described: Mapping[str, object], effective_s: int = 0) -> None:
        """Store a context, by default one that applies from the network's first hour."""
        self.contexts.put(context_of(described, effective_s or hour_of(self.first_s)))

    def know_all(self, network: Network) -> None:
        self.know(description(network.inventory, network.flow_logs, self.clock.now_ms() // 1000))

    def take(self, place: tuple[str, str]) -> Taken:
        """Ingest one log file, as in a new process."""
        ingest = LogIngest(
            objects=self.objects, bucket="data", queue=self.queue, contexts=ContextStore(self.objects),
            clock=self.clock, window_s=None, kinds=self.kinds,
            is_booked=lambda batch_id: self.items.get(Table.LEDGER, marker_key(batch_id)) is not None,
        )  # fmt: skip
        bucket, key = place
        return ingest.take(self.buckets[bucket], key, bills=SHARED_SUBNETS)

    def take_all(self, places: Iterable[tuple[str, str]]) -> Counter[str]:
        """Ingest log files one by one; return their counts by verdict."""
        return Counter(self.take(place).verdict for place in places)

    def work(self) -> None:
        while received := self.queue.receive(_MESSAGES):
            retry = self.aggregator.handle([each.delivery for each in received], self.deadline()).retry
            assert not retry
            self.queue.delete_many([each.receipt for each in received])
        self.roll_up()

    def plans(self) -> Iterator[Plan]:
        for info in self.objects.list(PLANS_PREFIX):
            yield Plan.from_json(self.objects.get(info.key))

    def rows(self) -> dict[Row, int]:
        return rows_of(self.jobs.view)

    def verified(self) -> bool:
        """Whether markers, usage and lake agree, and no message is in flight (I1, I2)."""
        verifier = Verifier(
            items=self.items, objects=self.objects, view=self.jobs.view, ingest=self.queue,
            dead_letters=MemoryQueue(self.clock), clock=self.clock, drops=DropIds(objects=self.objects, bucket="data"),
            marker_life_s=self.settings.marker_life_s,
        )  # fmt: skip
        return verifier.verify(from_s=self.first_s - DAY_S, to_s=self.first_s + DAY_S).passed

    def report(self) -> bytes:
        return report_of(self.items, self.first_s)


def metered(network: Network, files: Iterable[LogFile]) -> NetworkWorld:
    """A region that knows a network's context and has metered all files."""
    world = NetworkWorld()
    world.know_all(network)
    assert set(world.take_all(world.put(files))) <= {"metered", "empty"}
    world.work()
    return world


def rows_of(view: LakeView) -> dict[Row, int]:
    sums: dict[Row, int] = {}
    for hour_s in view.hours():
        for group, total in view.hour_totals(hour_s, RowQuery(columns=_COLUMNS)).items():
            sums[Row(*group)] = total.bytes  # type: ignore[arg-type]  # the columns are those of a row
    return sums


def report_of(items: ItemStore, first_s: int) -> bytes:
    """Full report on a network's traffic as JSON bytes; the `as of` time is always the same."""
    asked_s = first_s + DAY_S
    query = UsageQuery(from_s=hour_of(first_s - DAY_S), to_s=hour_of(asked_s),
                       group_by=("account_id", "service", "usage_type", "from", "to", "hour"))  # fmt: skip
    rows = grouped(UsageTable(items=items).usage(query, now_s=asked_s), query)
    answer = usage_answer(query, rows, as_of_s=asked_s, complete=Complete(through_s=asked_s, held_back_by=()))
    return encoded(answer, Format.JSON)


def shuffled(places: Sequence[tuple[str, str]], seed: int) -> list[tuple[str, str]]:
    return random.Random(seed).sample(list(places), len(places))


class _Cell(NamedTuple):
    """Fields of a record that must equal the truth. `direction` is empty if the log lacks it."""

    hour_s: int
    account_id: str
    resource_id: str
    direction: str


def differences(network: Network, rows: Mapping[Row, int]) -> list[str]:
    """Differences between rows and a network's true traffic; empty if each byte is counted once and correctly."""
    resources = {each.id: each.log_resource for each in network.inventory.interfaces if each.id != "-"}
    silent = _without_direction(network)
    wanted: dict[_Cell, Counter[str]] = {}
    services: dict[_Cell, set[str]] = {}
    for hour, each in network.truth.sums.items():
        cell = _cell(hour.hour_s, hour.movement.account_id, hour.movement.resource_id, hour.movement.direction, silent)
        wanted.setdefault(cell, Counter())[_key(hour.movement)] += each.bytes
        services.setdefault(cell, set()).add(hour.movement.service)
    found: dict[_Cell, Counter[str]] = {}
    problems = []
    processed: Counter[Processed] = Counter()
    for row, size_bytes in rows.items():
        if is_processing(row.usage_type) and "TransitGateway" not in row.usage_type:
            resource_id = resources.get(row.resource_id, row.resource_id)
            processed[Processed(row.hour_s, row.account_id, resource_id, row.usage_type)] += size_bytes
            continue
        resource_id = resources.get(row.resource_id, row.resource_id)
        cell = _cell(row.hour_s, row.account_id, resource_id, row.direction, silent)
        found.setdefault(cell, Counter())[_row_key(row)] += size_bytes
        if row.service not in services.get(cell, {row.service}):
            problems.append(f"service of {row}")
    for cell in wanted.keys() | found.keys():
        problems += _compared(cell, wanted.get(cell, Counter()), found.get(cell, Counter()))
    truth = network.truth.processed()
    problems += [
        f"{each}: {processed[each]:,} bytes are metered, and {truth[each]:,} were processed"
        for each in truth.keys() | processed.keys()
        if truth[each] != processed[each]
    ]
    return sorted(problems)


def _compared(cell: _Cell, wanted: Counter[str], found: Counter[str]) -> Iterator[str]:
    if wanted.total() != found.total():
        yield f"{cell}: {found.total():,} bytes, and {wanted.total():,} were moved"
    for key, size_bytes in found.items():
        if key and size_bytes > wanted[key]:
            yield f"{cell}: {size_bytes:,} bytes as {key}, and there were {wanted[key]:,}"


def _cell(hour_s: int, account_id: str, resource_id: str, direction: str, silent: frozenset[str]) -> _Cell:
    return _Cell(hour_s, account_id, resource_id, "" if resource_id in silent else direction)


def _without_direction(network: Network) -> frozenset[str]:
    """Regional NAT gateways whose log lacks the direction field; no inventory lists the gateways' private addresses."""
    return frozenset(
        each.resource_id
        for each in network.inventory.interfaces
        for log in network.flow_logs.of(each)
        if each.resource_id and "flow-direction" not in log.fields
    )


def _key(movement: Movement) -> str:
    """A usage type and the regions of both sides, without zones, because rows may omit zones."""
    return " ".join((movement.usage_type, *_regions(movement.from_location, movement.to_location)))


def _row_key(row: Row) -> str:
    if "Unclassified-" in row.usage_type:
        return ""
    return " ".join((row.usage_type, *_regions(row.from_location, row.to_location)))


def _regions(*locations: str) -> list[str]:
    return [location.partition("/")[0] for location in locations]


def unclassified_bytes(rows: Mapping[Row, int]) -> int:
    return sum(size_bytes for row, size_bytes in rows.items() if "Unclassified-" in row.usage_type)


def tally_of(plans: Iterable[Plan]) -> tuple[dict[str, int], dict[str, int]]:
    """Lines and bytes of all plans, by outcome."""
    lines: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for plan in plans:
        assert plan.balance.holds
        for outcome in OUTCOMES:
            lines[outcome] += getattr(plan.balance, outcome)
            sizes[outcome] += getattr(plan.balance, f"{outcome}_bytes", 0)
    return dict(+lines), dict(+sizes)


def shadowed_of(plans: Iterable[Plan]) -> dict[str, tuple[int, int]]:
    """Shadowed bytes and lines (counted from another log), by the log that contains them."""
    sums: dict[str, tuple[int, int]] = {}
    for plan in plans:
        for by, lines, size_bytes in plan.shadowed:
            assert by != plan.source
            before = sums.get(plan.source, (0, 0))
            sums[plan.source] = (before[0] + size_bytes, before[1] + lines)
    return sums
