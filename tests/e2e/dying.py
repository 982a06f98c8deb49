"""Processes that die at the worst time: production code over the deployed stores, up to one write."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.adapters.aws.stacks import stack_outputs
from metering.stores.queues import Delivery
from metering.stores.writes import Action, Delete, Item, Key, Put, Table, Update
from metering.wiring.connection import RegionConnection
from tests.support.memory.alerts import MemoryAlerts
from tests.support.memory.metrics import MemoryMetrics
from tests.support.region import Parts
from tests.support.small_world import KilledError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.stores.items import ItemStore
    from tests.e2e.conftest import Service


class DyingItems:
    """The tables, up to the put of an item in a partition: the process is dead before any later write."""

    def __init__(self, items: ItemStore, partition: str) -> None:
        self._items = items
        self._partition = partition
        self._dead = False

    def get(self, table: Table, key: Key) -> Item | None:
        return self._items.get(table, key)

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, Item]:
        return self._items.get_many(table, keys)

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[Item]:
        return self._items.query(table, pk, sk_from=sk_from, sk_to=sk_to, descending=descending)

    def scan(self, table: Table, *, part: int = 0, parts: int = 1) -> Iterator[Item]:
        return self._items.scan(table, part=part, parts=parts)

    def put(self, action: Put) -> None:
        self._live()
        self._items.put(action)
        self._note([action])

    def update(self, action: Update) -> Item:
        self._live()
        return self._items.update(action)

    def delete(self, action: Delete) -> None:
        self._live()
        self._items.delete(action)

    def transact(self, actions: Sequence[Action]) -> None:
        self._live()
        self._items.transact(actions)
        self._note(actions)

    def _live(self) -> None:
        if self._dead:
            raise KilledError

    def _note(self, actions: Sequence[Action]) -> None:
        self._dead |= any(
            isinstance(action, Put) and str(action.item["pk"]).startswith(self._partition) for action in actions
        )


def parts_dying_after(service: Service, partition: str) -> Parts:
    """Production parts over the deployed region that die after their first item of a partition."""
    region = RegionConnection(clients=service.clients, names=stack_outputs(service.clients, service.stage))
    return Parts(
        items=DyingItems(region.items, partition),
        objects=region.objects,
        clock=SystemClock(),
        entropy=SystemEntropy(),
        metrics=MemoryMetrics(),
        alerts=MemoryAlerts(),
        settings=region.settings,
    )


def delivery_of(body: str) -> Delivery:
    """A message as the queue would deliver it now."""
    return Delivery(
        message_id="by-hand", body=body, sent_at_ms=int(time.time() * 1000), receive_count=1, sender_id="AROADRILL"
    )
