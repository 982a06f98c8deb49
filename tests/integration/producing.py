"""A process that sends with a producer and can be killed: each run sends all keys, even those already sent."""

import sys

from metering.adapters.aws.objects import bucket_named
from metering.adapters.aws.queues import queue_at
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.producer.producer import Outlet, Producer
from tests.integration.region import record
from tests.support.emulated import clients_of

SOURCE = "edge-7f3a"
KEYS = 24
RECORDS = 3
# The records of every sixth key are too large for a message.
_LARGE_CHARS = 500_000


def records_of(key: int) -> list[dict[str, object]]:
    """Records of a key, each with its own account."""
    note = "x" * _LARGE_CHARS if key % 6 == 0 else ""
    return [{**record(100 * key + each, 1_000 * key + each + 1), "note": note} for each in range(RECORDS)]


def main(endpoint: str, queue_url: str, bucket: str, state: str) -> None:
    """Send the records of all keys, even of those that an earlier run sent."""
    clients = clients_of(endpoint)
    outlet = Outlet(
        queue=queue_at(clients, queue_url),
        objects=bucket_named(clients, bucket),
        bucket=bucket,
        clock=SystemClock(),
        entropy=SystemEntropy(),
    )
    with Producer(SOURCE, state=state, outlet=outlet) as producer:
        for key in range(KEYS):
            producer.send(records_of(key), key=f"flows.log:{key}")


if __name__ == "__main__":
    main(*sys.argv[1:])
