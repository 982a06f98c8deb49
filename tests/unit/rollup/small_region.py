"""A region with waiting commits of plain rows, made without workers: the roll-up's input and its result."""

from collections.abc import Callable, Iterable
from typing import Self

from metering.errors import UnavailableError
from metering.hours import hour_of
from metering.ledger.commits import Waiting
from metering.ledger.usage.items import is_usage_item
from metering.ledger.usage.kinds import REGION_KINDS, KindNumbers
from metering.ledger.usage.reading import UsageReading
from metering.rollup.as_of_now import UsageNow
from metering.rollup.rollup import Rollup, RollupPolicy
from metering.stores.clock import Retrier
from metering.stores.objects import ObjectStore, staging_key
from metering.stores.writes import ActionLimits, Item, ItemStore, Put, Table
from metering.units import HOUR_S
from metering.usage.totals import Total, UsageKey, add_totals, by_hour
from tests.support.memory.clock import DeadlineAt
from tests.support.memory.rows import PlainLake, PlainRow, encode_rows, plain_usage
from tests.support.region import MemoryRegion
from tests.support.stage import settings

NOW_S = 1_795_651_200  # 2026-11-26T00:00Z
ACCOUNT = "123456789012"


def row(
    size: int,
    *,
    hour_s: int = NOW_S,
    account: str = ACCOUNT,
    usage_type: str = "DataTransfer-Out-Bytes",
    booked_s: int | None = None,
) -> PlainRow:
    """A row of `size` bytes; `booked_s` sets a booked hour that differs from the row's own hour."""
    return PlainRow(
        booked_s=hour_of(hour_s) if booked_s is None else booked_s,
        batch_id="batch",
        resource_id="i-1",
        account_id=account,
        service="AmazonEC2",
        direction="out",
        from_location="us-east-1",
        to_location="internet",
        usage_type=usage_type,
        bytes=size,
        start_s=hour_s,
    )


class SmallRegion(MemoryRegion):
    """In-memory stores, and the roll-ups of several processes on them."""

    def __init__(self, *, seed: int = 1) -> None:
        super().__init__(now_s=NOW_S, settings=settings(), seed=seed)
        self.committed: dict[UsageKey, Total] = {}

    def commit(self, commit_id: str, rows: Iterable[PlainRow], *, shard: int = 0) -> Waiting:
        """Store what the roll-up reads of a worker's commit: a staging object and a waiting entry."""
        kept = list(rows)
        key = staging_key(commit_id, NOW_S)
        self.objects.put(key, encode_rows(kept), if_absent=True)
        usage = plain_usage(kept)
        waiting = Waiting(
            shard=shard,
            commit_id=commit_id,
            totals=by_hour(usage),
            staging_key=key,
            created_at_ms=self.clock.now_ms(),
            sent_at_ms=self.clock.now_ms() - 1000,
        )
        self.items.put(Put(table=Table.LEDGER, item=waiting.to_item()))
        add_totals(self.committed, usage)
        return waiting

    def rollup(
        self,
        *,
        items: ItemStore | None = None,
        objects: ObjectStore | None = None,
        commits: int = 2_000,
        blocks: bool = False,
        sums: int = 1_000,
        cap: int = 1_000,
        actions: int = 100,
        shards: int = 1,
        attempts: int = 4,
        region_cap: int = REGION_KINDS,
    ) -> Rollup:
        """The roll-up, as in another process."""
        items = self.items if items is None else items
        objects = self.objects if objects is None else objects
        retrier = Retrier(clock=self.clock, entropy=self.entropy, attempts=attempts)
        return Rollup(
            items=items,
            objects=objects,
            staged=PlainLake(objects),
            numbers=KindNumbers(items, retrier=retrier, cap=cap, generation=2, actions=actions, region_cap=region_cap),
            clock=self.clock,
            entropy=self.entropy,
            retrier=retrier,
            metrics=self.metrics,
            alerts=self.alerts,
            policy=RollupPolicy(commits=commits, blocks=blocks, sums=sums),
            limits=ActionLimits(transaction=actions),
            shards=shards,
            generation=2,
        )

    def now(self, *, shards: int = 1) -> UsageNow:
        """A reader of usage as of now."""
        return UsageNow(
            reading=UsageReading(self.items), objects=self.objects, staged=PlainLake(self.objects), shards=shards
        )

    def deadline(self, time_s: int = HOUR_S) -> DeadlineAt:
        return super().deadline(time_s)

    def usage_items(self) -> list[Item]:
        return [item for item in self.items.everything(Table.USAGE) if is_usage_item(item)]


# Interrupts a roll-up process at one of its calls: the process dies, the reply is lost, or others work in the meantime.


class KilledError(Exception):
    """The process died."""


class AtCall:
    """Context manager that runs an action once, at call number `number` (from 0) to a region's stores.

    Calls by the action itself are not counted. `done` says whether the call was reached.
    """

    def __init__(self, region: SmallRegion, number: int, do: Callable[[], object], *, reply: bool = False) -> None:
        self._stores = (region.items, region.objects)
        self._left = number
        self._do = do
        self._reply = reply
        self._busy = False
        self.done = False

    def __enter__(self) -> Self:
        self._listen(self._on)
        return self

    def __exit__(self, *error: object) -> None:
        self._listen(_ignore)

    def _listen(self, on: Callable[[str], None]) -> None:
        for store in self._stores:
            if self._reply:
                store.on_reply = on
            else:
                store.on_call = on

    def _on(self, call: str) -> None:
        del call
        if self._busy or self.done:
            return
        if self._left:
            self._left -= 1
            return
        self.done = True
        self._busy = True
        try:
            self._do()
        finally:
            self._busy = False


def _ignore(_call: str) -> None:
    """Do nothing at a call."""


def die() -> None:
    raise KilledError


def lose() -> None:
    raise UnavailableError("test", "no reply")
