"""A lake in a folder, written from replayed traffic, and the service's report of the same usage."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from metering.hours import rfc3339
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.replay.scenarios import SCENARIOS, Form
from metering.replay.synthesis import Shipment, Synthesis
from metering.reports.query import UsageQuery
from metering.reports.source import report_rows
from metering.stores.queues import Delivery
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import HOUR, World, record

_HOURS = 30
_AT_ONCE = 100
# This account transfers more bytes than a bigint can represent.
HUGE = "210987654321"


class Line(NamedTuple):
    """Key of a total: the columns of a statement's GROUP BY; `hour` is empty in totals of a day."""

    dt: str
    hour: str
    account_id: str
    usage_type: str


class Sum(NamedTuple):
    bytes: int
    records: int


Totals = dict[Line, Sum]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A lake, and its expected totals.

    Attributes:
        folder: Contains `lake/` and `summaries/`, as the bucket does.
        by_hour: Final totals of `metering report usage`.
    """

    folder: Path
    by_hour: Totals

    @property
    def days(self) -> list[str]:
        """Days with usage, in order."""
        return sorted({line.dt for line in self.by_hour})

    def of_day(self, day: str) -> Totals:
        """Totals by hour, account and usage type."""
        return {line: total for line, total in self.by_hour.items() if line.dt == day}

    def of_whole_day(self, day: str) -> Totals:
        """Totals by account and usage type."""
        whole: Totals = {}
        for line, total in self.of_day(day).items():
            key = line._replace(hour="")
            before = whole.get(key, Sum(0, 0))
            whole[key] = Sum(before.bytes + total.bytes, before.records + total.records)
        return whole


def replayed(folder: Path, *, batches: int, seed: int = 7) -> Replayed:
    """Replay traffic through worker, roll-up and compactor in memory, and write the lake to a folder.

    The traffic covers a day and a quarter, with copies, conflicts, late, refused and partly refused batches, the
    canary, and one account whose bytes exceed 2^63. Some hours have several files.
    """
    world = World(now_s=HOUR + HOUR_S)
    scenario = replace(SCENARIOS["mixed"], hours=_HOURS, forms={Form.INLINE: 1}, accounts=40)
    synthesis = Synthesis(name="engines", scenario=scenario, seed=seed, base_hour_s=HOUR, bucket="data")
    shipments = list(synthesis.shipments(batches))
    for some in (shipments[: batches // 2], shipments[batches // 2 :]):
        _send(world, some)
        world.send([record(2**62, account=HUGE, start_s=HOUR - n * HOUR_S) for n in range(3) for _ in range(3)])
        world.send([record(5, account=CANARY_ACCOUNT_ID, start_s=HOUR)])
        world.compact_all()
    for prefix in ("lake/", "summaries/"):
        for key in world.objects.keys(prefix):
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(world.objects.get(key))
    return Replayed(folder=folder, by_hour=_reported(world))


def _send(world: World, shipments: Iterable[Shipment]) -> None:
    waiting = [
        Delivery(
            message_id=f"engines-{number}",
            body=shipment.body,
            sent_at_ms=world.clock.now_ms(),
            receive_count=1,
            sender_id="sender",
        )
        for number, shipment in enumerate(shipments)
    ]
    while waiting:
        result = world.aggregator.handle(waiting[:_AT_ONCE], world.deadline())
        if result.retry:
            raise AssertionError("the worker gave messages back")
        waiting = waiting[_AT_ONCE:]
    world.roll_up()


def _reported(world: World) -> Totals:
    """The report over all accounts from the lake; fails if the report from the usage table is different."""
    query = UsageQuery(from_s=HOUR - 60 * DAY_S, to_s=HOUR + 2 * HOUR_S, group_by=("hour", "account_id", "usage_type"))
    rows = report_rows([world.source()], query, now_s=HOUR + HOUR_S)
    found = {
        Line(row.values[0][:10], row.values[0][11:13], *row.values[1:]): Sum(row.total.bytes, row.total.records)
        for row in rows
    }
    table: dict[Line, Sum] = {}
    for key, total in world.usage().items():
        if key.account_id != CANARY_ACCOUNT_ID:
            hour = rfc3339(key.hour_s)
            line = Line(hour[:10], hour[11:13], key.account_id, key.usage_type)
            before = table.get(line, Sum(0, 0))
            table[line] = Sum(before.bytes + total.bytes, before.records + total.records)
    if found != table:
        raise AssertionError("the service's own two views differ")
    return found
