"""Pace of jobs over a ledger with provisioned capacity: commits come first, so jobs take a share of the capacity.

A pace counts the units that DynamoDB says each call consumed. The next call waits until the units of the calls before
have passed at the job's share of the capacity. The capacity is asked again each minute, because auto scaling changes
it. A table on demand is not paced, and neither is an emulator, which has no capacity.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol, cast

from botocore.exceptions import BotoCoreError, ClientError

from metering.adapters.aws.capacity import described
from metering.errors import MeteringError
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping

    from mypy_boto3_dynamodb import DynamoDBClient

    from metering.adapters.aws.session import Clients

# Jobs read alone: commits read nothing unless copies come. The share is above the target of auto scaling (70 %), so a
# job that needs more makes it provision more.
READ_SHARE = 0.8
# Commits use up to the target. Of the rest, the roll-up and the compactor take a half each.
WRITE_SHARE = 0.15
_READS = frozenset({"GetItem", "BatchGetItem", "Query", "Scan"})
_WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"})
_AGAIN_S = MINUTE_S
# A scan's page of 1 MB takes 256 units: sixteen threads would wait half a minute for a page of a small table.
_LEAST_ITEMS = 100


def pace(clients: Clients, table: str) -> None:
    """Pace the calls of a region's DynamoDB client on a table. A second call has no effect."""
    if clients.access.custom_endpoint:
        return
    LedgerPace(clients.dynamodb, table).attach()


class LedgerPace:
    """Shares of a table's capacity, for all threads of a process together.

    Args:
        client: Client whose calls are paced.
        table: Name of the table.
        now_s, sleep: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        table: str,
        *,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._table = table
        self._now_s = now_s
        self._sleep = sleep
        self._lock = threading.Lock()
        self._asked_s: float | None = None
        # Units a second, and the time at which the units of earlier calls have passed, of reads and of writes.
        self._rates: tuple[float, float] = (0, 0)
        self._free_s = [0.0, 0.0]

    def attach(self) -> None:
        """Pace each call of the client on the table."""
        events = self._client.meta.events
        events.register("provide-client-params.dynamodb", self._wait, unique_id=f"metering-pace-{self._table}")
        events.register("after-call.dynamodb", self._count, unique_id=f"metering-paced-{self._table}")

    def _wait(self, *, params: MutableMapping[str, object], model: _Operation, **_others: object) -> None:
        if not (model.name in _READS or model.name in _WRITES) or self._table not in _tables(params):
            return
        writes = model.name in _WRITES
        with self._lock:
            self._ask()
            rate = self._rates[writes]
            wait_s = self._free_s[writes] - self._now_s()
        if not rate:
            return
        params["ReturnConsumedCapacity"] = "TOTAL"
        if model.name == "Scan":
            params.setdefault("Limit", max(_LEAST_ITEMS, int(rate)))
        if wait_s > 0:
            self._sleep(wait_s)

    def _count(self, *, parsed: Mapping[str, object], model: _Operation, **_others: object) -> None:
        if "ConsumedCapacity" not in parsed:
            return
        consumed = cast("_Consumed | list[_Consumed]", parsed["ConsumedCapacity"])
        of_table = [each for each in _listed(consumed) if each.get("TableName") == self._table]
        writes = model.name in _WRITES
        with self._lock:
            if rate := self._rates[writes]:
                units = sum(cast("float", each.get("CapacityUnits", 0)) for each in of_table)
                self._free_s[writes] = max(self._free_s[writes], self._now_s()) + units / rate

    def _ask(self) -> None:
        """Read the capacity, if it was not read within the last minute."""
        now_s = self._now_s()
        if self._asked_s is not None and now_s < self._asked_s + _AGAIN_S:
            return
        self._asked_s = now_s
        try:
            found = (described(self._client, self._table) or {}).get("ProvisionedThroughput", {})
        except (MeteringError, ClientError, BotoCoreError):
            # The call that is paced is worth more than its pace, which stays as it was.
            return
        self._rates = (
            READ_SHARE * found.get("ReadCapacityUnits", 0),
            WRITE_SHARE * found.get("WriteCapacityUnits", 0),
        )


_Consumed = dict[str, object]


class _Operation(Protocol):
    name: str


def _listed(consumed: _Consumed | list[_Consumed]) -> list[_Consumed]:
    return consumed if isinstance(consumed, list) else [consumed]


def _tables(params: Mapping[str, object]) -> Iterable[object]:
    """Tables that a call names."""
    if "TransactItems" in params:
        items = cast("list[dict[str, dict[str, object]]]", params["TransactItems"])
        return {action["TableName"] for each in items for action in each.values()}
    return cast("Mapping[str, object]", params.get("RequestItems", {params.get("TableName"): ()}))
