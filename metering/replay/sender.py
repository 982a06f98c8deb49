"""The sender of a replay: sends shipments over several connections at a steady rate, and reports each sent batch."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from metering.errors import OperationFailedError, UnavailableError
from metering.stores.objects import crc64nvme
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from metering.audit.verification import SentBatch
    from metering.replay.synthesis import Shipment, Upload
    from metering.stores import queues
    from metering.stores.objects import ObjectStore
    from metering.version import DropIdentity

# SendMessageBatch accepts 10 messages of 1 MiB in total.
_GROUP_MESSAGES = 10
_GROUP_BYTES = MIB
_ATTEMPTS = 6
_BACKOFF_S = 0.2


class SendingFailedError(OperationFailedError):
    """SQS did not accept a message, or S3 did not accept an object.

    Attributes:
        detail: Error that the queue or the bucket returned.
        batch_ids: Ids of batches that may have been sent; an empty entry is a batch that has no id yet.
    """

    def __init__(self, detail: str, batch_ids: Sequence[str]) -> None:
        named = ", ".join(batch_id or "(no id)" for batch_id in batch_ids)
        super().__init__(
            f"Sending stopped: {detail}. It is not known whether these were sent, and the manifest does not name them: "
            f"{named}.",
            "All that the manifest names was sent.",
        )
        self.detail = detail
        self.batch_ids = tuple(batch_ids)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.detail, self.batch_ids))


@dataclass(slots=True, kw_only=True)
class _Failures:
    """Groups of shipments that could not be sent, and the first error."""

    error: UnavailableError | None = None
    shipments: list[Shipment] = field(default_factory=list)

    def take(
        self, group: list[Shipment], future: Future[list[SentBatch]], sent: Callable[[Sequence[SentBatch]], None]
    ) -> None:
        """Report a group that was sent, or store a group that failed."""
        try:
            lines = future.result()
        except UnavailableError as error:
            self.error = self.error or error
            self.shipments += group
        else:
            sent(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Sends shipments; an object is put before its message is sent.

    Attributes:
        bucket: Name of the data bucket; a dropped object's batch id is derived from it.
        drop_identity: What else it is derived from: the ETag, or size and checksum.
        threads: Number of connections.
        rate_per_s: Maximum number of messages per second; None for no limit.
    """

    queue: queues.Queue
    objects: ObjectStore
    bucket: str
    drop_identity: DropIdentity
    threads: int = 8
    rate_per_s: float | None = None

    def send(self, shipments: Iterable[Shipment], sent: Callable[[Sequence[SentBatch]], None]) -> int:
        """Send all shipments; returns their number. `sent` is called for each group, in order, from this thread.

        After a failure no further group is started, and `sent` is still called for groups in flight.

        Raises:
            SendingFailedError: The queue or the bucket still refused a group after all attempts.
        """
        number = 0
        waiting: deque[tuple[list[Shipment], Future[list[SentBatch]]]] = deque()
        failed = _Failures()
        began = time.monotonic()
        with ThreadPoolExecutor(self.threads, thread_name_prefix="replay") as pool:
            for group in _groups(shipments):
                self._pace(began, number)
                waiting.append((group, pool.submit(self._send_group, group)))
                number += len(group)
                while len(waiting) > 2 * self.threads or (waiting and waiting[0][1].done()):
                    failed.take(*waiting.popleft(), sent)
                if failed.error is not None:
                    break
            for group, future in waiting:
                failed.take(group, future, sent)
        if failed.error is not None:
            raise SendingFailedError(
                str(failed.error), [shipment.sent.batch_id for shipment in failed.shipments]
            ) from failed.error
        return number

    def _pace(self, began: float, number: int) -> None:
        if self.rate_per_s is not None:
            time.sleep(max(0.0, began + number / self.rate_per_s - time.monotonic()))

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
        """Send bodies; return those to retry. A message whose reply was lost is sent twice, which is harmless."""
        if not bodies:
            return []
        try:
            return [bodies[position] for position in self.queue.send_many(bodies)]
        except UnavailableError:
            if last:
                raise
            return bodies

    def _put(self, shipment: Shipment) -> SentBatch:
        upload = shipment.upload
        if upload is None:
            return shipment.sent
        by_checksum = not shipment.body and self.drop_identity == "checksum"
        checksum = crc64nvme(upload.body) if by_checksum else ""
        etag = self._upload(upload, checksum)
        if shipment.body:
            return shipment.sent
        # Batch id by the contract for an object that an S3 event announces. Computing it a second time is intended.
        form, parts = ("s3c", (str(len(upload.body)), checksum)) if by_checksum else ("s3", (etag,))
        identity = "\n".join((self.bucket, upload.key, *parts))
        return replace(shipment.sent, batch_id=f"{form}:{hashlib.sha256(identity.encode()).hexdigest()}")

    def _upload(self, upload: Upload, checksum: str) -> str:
        for attempt in range(_ATTEMPTS):
            try:
                return self.objects.upload(upload.key, upload.body, crc64nvme=checksum)
            except UnavailableError:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_BACKOFF_S * 2**attempt)
        raise AssertionError("the last attempt returns or raises")


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
