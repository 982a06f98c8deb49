"""A process of the soak test, which invokes the aggregator's or the compactor's function as its trigger does."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lambdas.aggregator.handler import handler
from lambdas.compactor import handler as compactor
from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.session import Clients
from metering.errors import MeteringError
from tests.support.memory.clock import DeadlineAt

if TYPE_CHECKING:
    from lambdas.sqs import SqsRecord
    from metering.stores.queues import Delivery, ReceivedMessage

_TIMEOUT_MS = 15_000
_MESSAGES = 50
_COMPACT_EVERY_S = 3.0


class Context:
    """The members of Lambda's context object that the functions use."""

    def __init__(self) -> None:
        self._ends_s = time.monotonic() + _TIMEOUT_MS / 1000

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda would stop this invocation."""
        return int((self._ends_s - time.monotonic()) * 1000)


def aggregate(url: str, log: Path) -> None:
    """Receive, invoke, and delete messages with a verdict, until killed. `log` gets a line per invocation."""
    queue = SqsQueue(Clients.from_env(os.environ).sqs, url)
    with log.open("a", buffering=1) as lines:
        while True:
            messages: list[ReceivedMessage] = []
            while len(messages) < _MESSAGES and (got := queue.receive(10)):
                messages += got
            if not messages:
                time.sleep(0.2)
                continue
            began = time.time()
            answer = handler({"Records": [_record(message.delivery) for message in messages]}, Context())
            failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
            ids = ",".join(json.loads(message.delivery.body)["batch_id"] for message in messages)
            lines.write(f"{began:.3f} {time.time():.3f} {ids}\n")
            queue.delete_many([message.receipt for message in messages if message.delivery.message_id not in failed])


def compact() -> None:
    """Roll up and compact repeatedly, until killed."""
    jobs = compactor.dependencies().work
    while True:
        clock = jobs.clock
        deadline = DeadlineAt(clock=clock, at_ms=clock.now_ms() + 600_000)
        try:
            jobs.rollup.run(deadline)
            jobs.compactor.run(deadline)
        except MeteringError as error:
            sys.stderr.write(f"{error!r}\n")
        time.sleep(_COMPACT_EVERY_S)


def _record(delivery: Delivery) -> SqsRecord:
    return {
        "messageId": delivery.message_id,
        # The receipt handle is needed only for a throttle, and the emulator does not throttle.
        "receiptHandle": "",
        "body": delivery.body,
        "attributes": {
            "SentTimestamp": str(delivery.sent_at_ms),
            "ApproximateReceiveCount": str(delivery.receive_count),
            "SenderId": delivery.sender_id,
        },
    }


if __name__ == "__main__":
    if sys.argv[1] == "compactor":
        compact()
    aggregate(sys.argv[2], Path(sys.argv[3]))
