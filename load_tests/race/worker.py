"""One worker of a contender; each invocation gets as many messages as a function of `prod` gets.

At the end, the worker prints a line of JSON: its CPU time and its number of invocations.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session

from load_tests.costs import MESSAGES
from load_tests.race.naive import Contender, Powertools, Transact
from load_tests.race.site import Ours, Site
from metering.adapters.aws.queues import queue_at
from metering.stores.queues import Delivery, ReceivedMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from botocore.awsrequest import AWSPreparedRequest

    from metering.adapters.aws.session import Clients

# SQS returns at most ten messages per call.
_A_CALL = 10
_PAUSE_S = 0.05
CONTENDERS: dict[str, Callable[[Clients, Site], Contender]] = {
    "powertools": Powertools,
    "transact": Transact,
    "ours": Ours,
}


class LostReplies:
    """Loses the response to some DynamoDB calls: DynamoDB applies the call, but the SDK gets no response."""

    def __init__(self, clients: Clients, share: float) -> None:
        self._share = share
        self._chance = random.Random(os.getpid())
        self._session = URLLib3Session(timeout=10)
        if share:
            clients.dynamodb.meta.events.register("before-send.dynamodb", self._send)

    def _send(self, *, request: AWSPreparedRequest, **_: Any) -> None:
        if self._chance.random() < self._share:
            self._session.send(request)
            raise ConnectionClosedError(endpoint_url=request.url)


def main(arguments: list[str]) -> int:
    """Work for one contender.

    The arguments are the contender's name, a site as JSON, the share of responses to lose, and a file with this
    worker's messages, one body a line. With an empty file name, the worker reads the site's queue until SIGTERM.
    """
    name, site_json, lost, feed = arguments
    site = Site(**json.loads(site_json))
    clients = site.clients()
    LostReplies(clients, float(lost))
    contender = CONTENDERS[name](clients, site)
    invocations = _of_file(Path(feed)) if feed else _of_queue(site)
    # Clients and connections are warm, as in a function that has been running for a long time.
    clients.dynamodb.list_tables()
    clients.s3.list_buckets()
    print("ready", flush=True)
    # The clock starts when all workers are ready.
    sys.stdin.readline()
    began_s, count = time.process_time(), 0
    for received, delete in invocations:
        back = contender.handle(received)
        delete([each.receipt for each in received if each.delivery.message_id not in back])
        count += 1
    print(json.dumps({"cpu_s": time.process_time() - began_s, "invocations": count}), flush=True)
    return 0


# Messages, and a function that deletes the processed messages by their receipt handles.
Invocation = tuple[list[ReceivedMessage], "Callable[[list[str]], object]"]


def _of_file(path: Path) -> Iterator[Invocation]:
    """Invocations as the event source mapping makes them; polling is not part of the function's work."""
    now_ms = time.time_ns() // 1_000_000
    messages = [
        ReceivedMessage(
            delivery=Delivery(
                message_id=f"{path.stem}-{number}", body=body, sent_at_ms=now_ms, receive_count=1, sender_id="race"
            ),
            receipt=str(number),
        )
        for number, body in enumerate(path.read_text().splitlines())
    ]
    return iter([(messages[start : start + MESSAGES], len) for start in range(0, len(messages), MESSAGES)])


def _of_queue(site: Site) -> Iterator[Invocation]:
    """Invocations with messages from the queue, until SIGTERM."""
    queue = queue_at(site.clients(), site.queue_url)
    ended = False

    def end(_signal: int, _frame: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    while not ended:
        received: list[ReceivedMessage] = []
        while len(received) < MESSAGES and (more := queue.receive(_A_CALL)):
            received += more
        if received:
            yield received, queue.delete_many
        else:
            time.sleep(_PAUSE_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
