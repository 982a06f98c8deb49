"""An in-memory region that meters producers' messages, each twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.ledger.markers import Marker, is_marker
from metering.producer.producer import Outlet, Producer
from metering.stores.queues import Delivery
from metering.stores.writes import Table
from tests.support.lake_world import World, record
from tests.support.memory.queues import MemoryQueue

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Maximum number of messages in an invocation.
_INVOCATION = 200


def records_of(number: int, count: int, *, resource: str = "i-0abc") -> list[dict[str, str | int]]:
    """Records for one key. Each record has a unique account and size, so that lost and doubled records are seen."""
    return [
        record(1_000 * number + each + 1, account=f"{number:06d}{each:06d}", resource=resource) for each in range(count)
    ]


class Meter:
    def __init__(self) -> None:
        self.world = World()
        self.queue = MemoryQueue(self.world.clock)
        self.outlet = Outlet(
            queue=self.queue, objects=self.world.objects, bucket=self.world.settings.data_bucket,
            clock=self.world.clock, entropy=self.world.entropy,
        )  # fmt: skip

    def producer(
        self, state: Path | None, source_id: str = "edge-7f3a", *, name: str | None = None, patience_s: int = 60
    ) -> Producer:
        return Producer(source_id, state=state, name=name, patience_s=patience_s, outlet=self.outlet)

    def deliver(self, bodies: Iterable[str] | None = None) -> None:
        """Let workers process all messages twice."""
        messages = [
            Delivery(
                message_id=f"m{number}", body=body, sent_at_ms=self.world.clock.now_ms(), receive_count=1,
                sender_id="AROAEDGE:session",
            )
            for number, body in enumerate(self.queue.bodies() if bodies is None else bodies)
        ]  # fmt: skip
        for _ in range(2):
            for start in range(0, len(messages), _INVOCATION):
                some = messages[start : start + _INVOCATION]
                assert not self.world.parts().worker().handle(some, self.world.deadline()).retry
        self.world.roll_up()

    def metered(self) -> dict[str, tuple[int, int]]:
        """Account -> metered bytes and records."""
        found = [(key.account_id, (total.bytes, total.records)) for key, total in self.world.usage().items()]
        assert len(dict(found)) == len(found), "each account has one record, so one total"
        return dict(found)

    def markers(self) -> list[Marker]:
        items = self.world.items.everything(Table.LEDGER)
        return [Marker.from_item(item) for item in items if is_marker(item)]


def expected(records: Iterable[dict[str, str | int]]) -> dict[str, tuple[int, int]]:
    """The result that `Meter.metered` should return: each record is counted once."""
    return {str(each["account_id"]): (int(each["bytes"]), 1) for each in records}
