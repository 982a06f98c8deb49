"""Sends shipments over several connections at a steady rate, and says what was sent."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from metering.errors import UnavailableError
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from metering.adapters.traffic.forms import Upload
    from metering.adapters.traffic.synthesis import Shipment
    from metering.ports import ObjectStore, Queue
    from metering.usecases.manifest import SentBatch

# SendMessageBatch: 10 messages, 1 MiB in all.
_GROUP_MESSAGES = 10
_GROUP_BYTES = MIB
_ATTEMPTS = 6
_BACKOFF_S = 0.2


class Sender:
    """Sends messages, objects first.

    Args:
        queue: The ingest queue.
        objects: The data bucket.
        bucket: Its name: part of the id of a dropped object's batch.
        threads: Connections at work.
        rate_per_s: Messages a second at most; None for as fast as possible.
    """

    def __init__(
        self, *, queue: Queue, objects: ObjectStore, bucket: str, threads: int = 8, rate_per_s: float | None = None
    ) -> None:
        self._queue = queue
        self._objects = objects
        self._bucket = bucket
        self._threads = threads
        self._rate_per_s = rate_per_s

    def send(self, shipments: Iterable[Shipment], sent: Callable[[Sequence[SentBatch]], None]) -> int:
        """Send all of them; `sent` is told of each group, in order, from this thread. Returns their number.

        Raises:
            UnavailableError: The queue or bucket did not take something, however often it was tried.
        """
        number = 0
        waiting: deque[Future[list[SentBatch]]] = deque()
        began = time.monotonic()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="replay") as pool:
            for group in _groups(shipments):
                self._pace(began, number)
                waiting.append(pool.submit(self._send_group, group))
                number += len(group)
                while len(waiting) > 2 * self._threads or (waiting and waiting[0].done()):
                    sent(waiting.popleft().result())
            for future in waiting:
                sent(future.result())
        return number

    def _pace(self, began: float, number: int) -> None:
        if self._rate_per_s is not None:
            time.sleep(max(0.0, began + number / self._rate_per_s - time.monotonic()))

    def _send_group(self, group: Sequence[Shipment]) -> list[SentBatch]:
        lines = [self._put(shipment) for shipment in group]
        bodies = [shipment.body for shipment in group if shipment.body]
        for attempt in range(_ATTEMPTS):
            bodies = self._send_bodies(bodies, last=attempt == _ATTEMPTS - 1)
            if not bodies:
                return lines
            time.sleep(_BACKOFF_S * 2**attempt)
        raise UnavailableError("sqs.SendMessageBatch", f"{len(bodies)} messages were not taken")

    def _send_bodies(self, bodies: list[str], *, last: bool) -> list[str]:
        """Those that must be sent again. What was taken although its reply was lost comes twice, which is harmless."""
        if not bodies:
            return []
        try:
            return [bodies[position] for position in self._queue.send_many(bodies)]
        except UnavailableError:
            if last:
                raise
            return bodies

    def _put(self, shipment: Shipment) -> SentBatch:
        upload = shipment.upload
        if upload is None:
            return shipment.sent
        etag = self._upload(upload)
        return shipment.sent if shipment.body else self._dropped(shipment.sent, upload.key, etag)

    def _upload(self, upload: Upload) -> str:
        for attempt in range(_ATTEMPTS):
            try:
                return self._objects.upload(upload.key, upload.body)
            except UnavailableError:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_BACKOFF_S * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _dropped(self, sent: SentBatch, key: str, etag: str) -> SentBatch:
        # The contract's identity of an object that announces itself, written out here a second time on purpose.
        identity = "\n".join((self._bucket, key, etag))
        return replace(sent, batch_id=f"s3:{hashlib.sha256(identity.encode()).hexdigest()}")


def _groups(shipments: Iterable[Shipment]) -> Iterator[list[Shipment]]:
    group: list[Shipment] = []
    used_bytes = 0
    for shipment in shipments:
        size_bytes = len(shipment.body.encode())
        if group and (len(group) == _GROUP_MESSAGES or used_bytes + size_bytes > _GROUP_BYTES):
            yield group
            group, used_bytes = [], 0
        group.append(shipment)
        used_bytes += size_bytes
    if group:
        yield group
