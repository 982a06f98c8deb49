"""An in-memory region that meters the flow logs of a generated network, and keeps the causes of their bytes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from metering.billing.causes.days import COLUMNS, CauseDays
from metering.billing.causes.index import CauseIndex, CauseIndexes
from metering.billing.causes.keeper import CauseKeeper, KeptCauses
from metering.billing.causes.names import CauseNames
from metering.lake.parquet.reader import ParquetLakeReader
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import ContextStore
from metering.onramps.ingest.taking import LogIngest, Taken
from metering.stores.queues import Delivery
from metering.units import HOUR_S
from tests.support.budget_world import BudgetWorld
from tests.support.lake_world import HOUR
from tests.support.memory.queues import MemoryQueue
from tests.support.networks.description import description
from tests.support.networks.traffic import Network, NetworkPlan
from tests.support.small_logs import LogBucket

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.networks.files import LogFile


def network_of(**plan: object) -> Network:
    """A network with NAT gateways, endpoints and transit gateways, whose first slot is a full hour ago."""
    given: dict[str, object] = {"lines": 800, "slots": 1, "overlaps": False, "style": "v5", "first_s": HOUR - HOUR_S}
    return Network(NetworkPlan(**{**given, **plan}))  # type: ignore[arg-type]  # the fields of a plan


class CauseWorld(BudgetWorld):
    """A home region with an on-ramp."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.queue, self.logs = MemoryQueue(self.clock), LogBucket(self.clock)
        self.delivered = 0
        self.capture(HOUR - HOUR_S)

    @property
    def contexts(self) -> ContextStore:
        """The region's contexts, as another process finds them."""
        return ContextStore(self.objects)

    def capture(self, effective_s: int) -> None:
        """Store the context of an hour, as it is at the end of the hour before."""
        described = description(self.network.inventory, self.network.flow_logs, effective_s)
        self.contexts.put(context_of(described, effective_s))

    def take(self, file: LogFile, *, causes: bool = True) -> Taken:
        """Ingest a log file."""
        self.logs.put(file.key, file.body, if_absent=False)
        ingest = LogIngest(
            objects=self.objects, bucket=self.settings.data_bucket, queue=self.queue, contexts=self.contexts,
            clock=self.clock, window_s=None, causes=causes,
        )  # fmt: skip
        return ingest.take(self.logs, file.key)

    def meter(self, files: Iterable[LogFile], *, causes: bool = True) -> None:
        """Ingest log files, and let their batches be committed, rolled up and compacted."""
        for file in files:
            self.take(file, causes=causes)
        while received := self.queue.receive(10):
            deliveries = []
            for each in received:
                self.delivered += 1
                deliveries.append(Delivery(
                    message_id=f"log-{self.delivered}", body=each.delivery.body, sent_at_ms=self.clock.now_ms(),
                    receive_count=1, sender_id="onramp",
                ))  # fmt: skip
            assert not self.aggregator.handle(deliveries, self.deadline()).retry
            self.queue.delete_many([each.receipt for each in received])
        self.roll_up()
        self.compact_all()

    def cause_keeper(self, *, most_files: int = 2_000, most_rows: int = 1_000_000) -> CauseKeeper:
        """The keeper, as in another process on the same stores."""
        return CauseKeeper(
            sums=self.keeper(), objects=self.objects, lake=ParquetLakeReader(self.objects), contexts=self.contexts,
            most_files=most_files, most_rows=most_rows,
        )  # fmt: skip

    def keep_causes(self, **limits: int) -> KeptCauses:
        """Count new files in the day sums, and then their causes."""
        kept = self.keep()
        return self.cause_keeper(**limits).keep(self.deadline(), kept)

    @property
    def cause_index(self) -> CauseIndex:
        return CauseIndexes(objects=self.objects).newest()

    def cause_rows(self) -> list[dict[str, object]]:
        """Rows of all days, as a reader finds them."""
        index = self.cause_index
        reused = {day_s: self.names(day_s).reused for day_s in index.days}
        days = CauseDays(self.objects, index, reused)
        return [row for day_s in index.days for table in days.tables(day_s, COLUMNS) for row in table.to_pylist()]

    def names(self, day_s: int) -> CauseNames:
        return CauseNames.read(self.objects, day_s, self.cause_index.names.get(day_s))

    def cause_sums(self) -> Counter[tuple[object, ...]]:
        """Bytes of the rows by usage and booked hour."""
        sums: Counter[tuple[object, ...]] = Counter()
        for row in self.cause_rows():
            sums[tuple(row[name] for name in ("hour", "account_id", "usage_type", "from", "to"))] += row["bytes"]  # type: ignore[operator]  # a number
        return sums

    def lake_sums(self) -> Counter[tuple[object, ...]]:
        """Bytes of the lake in the same form."""
        sums: Counter[tuple[object, ...]] = Counter()
        for key, total in self.visible().items():
            sums[key.hour_s, key.account_id, key.usage_type, key.from_location, key.to_location] += total.bytes
        return sums
