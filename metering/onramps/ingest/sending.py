"""Sending of a plan's parts: each is stored once, and announced by an ordinary batch message."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import ObjectMissingError, UnavailableError
from metering.onramps.ingest.parts import message_of, parquet_of, part_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.onramps.ingest.parts import LogRecord, PartRecords
    from metering.onramps.plans import Part
    from metering.stores.clock import Clock
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Queue

_ATTEMPTS = 6
_BACKOFF_MS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSender:
    """Stores parts and sends their messages. Doing it again sends the same messages, which the ledger knows.

    Attributes:
        objects: The region's data bucket.
        bucket: Its name, as messages state it.
        queue: The ingest queue.
        clock: Waits before the next attempt.
    """

    objects: ObjectStore
    bucket: str
    queue: Queue
    clock: Clock

    def store(self, identity: str, parts: Iterable[PartRecords]) -> list[str]:
        """Store parts, unless they are there already; returns their messages."""
        return [self._stored(identity, part, records) for part, records in parts]

    def _stored(self, identity: str, part: Part, records: Sequence[LogRecord]) -> str:
        key = part_key(identity, part)
        body = parquet_of(records)
        if not self.objects.put(key, body, if_absent=True):
            # Another version of pyarrow may have written the same records as other bytes.
            body = self.objects.get(key)
        return self._message(key, part, body)

    def stored(self, identity: str, parts: Sequence[Part]) -> list[str] | None:
        """Messages of parts that are all stored already; None if one is not."""
        messages = []
        for part in parts:
            key = part_key(identity, part)
            try:
                body = self.objects.get(key)
            except ObjectMissingError:
                return None
            messages.append(self._message(key, part, body))
        return messages

    def _message(self, key: str, part: Part, body: bytes) -> str:
        return message_of(part, bucket=self.bucket, key=key, stored_sha256=hashlib.sha256(body).hexdigest())

    def send(self, messages: Sequence[str]) -> int:
        """Send messages; returns their number.

        Raises:
            UnavailableError: The queue did not take all of them, after several attempts. What was taken does no harm.
        """
        waiting = list(messages)
        for attempt in range(_ATTEMPTS):
            waiting = [waiting[position] for position in self.queue.send_many(waiting)] if waiting else []
            if not waiting:
                return len(messages)
            self.clock.sleep_ms(_BACKOFF_MS << attempt)
        raise UnavailableError("sqs.SendMessageBatch", f"the queue did not take {len(waiting)} messages of a log file")
