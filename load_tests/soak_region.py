"""Region of the soak test, its processes, and the expected totals of its batches."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from load_tests.stage import settings
from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.adapters.aws.session import Access, Clients
from metering.ledger.markers import marker_key
from metering.ledger.runs import Contradictions
from metering.settings import as_environment
from metering.stores.writes import Table
from metering.wiring.jobs import LakeJobs
from tests.support.memory.alerts import MemoryAlerts
from tests.support.memory.clock import DeadlineAt
from tests.support.memory.metrics import MemoryMetrics

if TYPE_CHECKING:
    from collections.abc import Iterable

_RECORDS = 20
_DUPLICATES = 20
_VISIBILITY_S = 20
_AGGREGATORS, _COMPACTORS = 3, 2


def records_of(number: int) -> list[dict[str, object]]:
    """Make the records of a batch. Bytes and accounts depend only on its number."""
    chance = random.Random(number)
    now_s = int(time.time())
    return [
        {
            "account_id": f"{100_000_000_000 + number % 50}",
            "service": "AmazonEC2",
            "resource_id": f"i-{number}-{position}",
            "direction": "out",
            "from": "us-east-1",
            "to": ("internet", "us-west-2", "cloudfront")[position % 3],
            "bytes": chance.randrange(2**50),
            "start": now_s,
            "end": now_s,
        }
        for position in range(_RECORDS)
    ]


def expected_bytes(first: int, after: int) -> Counter[str]:
    """Sum the bytes of the batches `first <= n < after` by account."""
    totals: Counter[str] = Counter()
    for number in range(first, after):
        chance = random.Random(number)
        totals[f"{100_000_000_000 + number % 50}"] += sum(chance.randrange(2**50) for _ in range(_RECORDS))
    return totals


class Region:
    """Tables, bucket and queues of the soak test, and the processes that work on them."""

    def __init__(self, endpoint: str, name: str, folder: Path) -> None:
        self._endpoint, self._name, self._folder = endpoint, name, folder
        self._clients = Clients(Access(region="us-east-1", endpoint_url=endpoint, access_key=("test", "test")))
        self._tables = {Table.LEDGER: f"{name}-ledger", Table.USAGE: f"{name}-usage"}
        self.items = DynamoDbItemStore(self._clients.dynamodb, self._tables)
        self._settings = settings(
            ledger_table=self._tables[Table.LEDGER], usage_table=self._tables[Table.USAGE], data_bucket=name
        )
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def make(self) -> None:
        """Create tables, bucket and queues on a new emulator."""
        for table in self._tables.values():
            self._clients.dynamodb.create_table(
                TableName=table,
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
                AttributeDefinitions=[
                    {"AttributeName": "pk", "AttributeType": "S"},
                    {"AttributeName": "sk", "AttributeType": "S"},
                ],
            )
        self._clients.s3.create_bucket(Bucket=self._name)
        dead = self._clients.sqs.create_queue(QueueName=f"{self._name}-dead")["QueueUrl"]
        arn = self._clients.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]
        policy = json.dumps({"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": 5})
        self._clients.sqs.create_queue(
            QueueName=f"{self._name}-ingest",
            Attributes={"VisibilityTimeout": str(_VISIBILITY_S), "RedrivePolicy": policy},
        )

    def url(self, kind: str) -> str:
        """Return the URL of the queue `ingest` or `dead`."""
        return self._clients.sqs.get_queue_url(QueueName=f"{self._name}-{kind}")["QueueUrl"]

    def queue(self, kind: str) -> SqsQueue:
        """Return the queue `ingest` or `dead`."""
        return SqsQueue(self._clients.sqs, self.url(kind))

    def send(self, numbers: Iterable[int]) -> None:
        """Send a few batches, and one in twenty of them twice."""
        bodies, again = [], []
        for number in numbers:
            records = records_of(number)
            message = {"schema": "metering.batch/1", "batch_id": f"soak-{number:08d}", "record_count": _RECORDS}
            bodies.append(json.dumps(message | {"records": records}))
            if number % _DUPLICATES == 0:
                again.append(bodies[-1])
            if len(again) == 2:
                # The copy follows soon, but in another receive, so that another process gets it.
                bodies += again
                again = []
        bodies += again
        missed = self.queue("ingest").send_many(bodies)
        if missed:
            raise RuntimeError(f"the queue did not accept {len(missed)} messages")

    def depth(self, kind: str) -> int:
        """Count the messages in a queue, visible or not."""
        return self.queue(kind).depth().total

    def redrive(self) -> int:
        """Move dead letters back to the ingest queue. Returns their number."""
        dead, moved = self.queue("dead"), 0
        while found := dead.receive(10):
            self.queue("ingest").send_many([message.delivery.body for message in found])
            dead.delete_many([message.receipt for message in found])
            moved += len(found)
        return moved

    def start_all(self) -> None:
        """Start the processes that are not running."""
        for number in range(_AGGREGATORS):
            self._ensure(f"aggregator-{number}", "aggregator", self.url("ingest"), str(self._log(number)))
        for number in range(_COMPACTORS):
            self._ensure(f"compactor-{number}", "compactor")

    def kill_one(self) -> None:
        """Kill a random process with SIGKILL, but not the first aggregator, whose memory is measured."""
        name = random.choice(sorted(set(self._processes) - {"aggregator-0"}))
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop_all(self) -> None:
        """Kill all processes."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._processes.clear()

    def memory_mib(self) -> int:
        """Return the resident memory of the aggregator that is never killed."""
        status = Path(f"/proc/{self._processes['aggregator-0'].pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) // 1024

    def overlaps(self) -> int:
        """Count how often two processes had the same batch at once."""
        spans: dict[str, list[tuple[float, float, int]]] = {}
        for number in range(_AGGREGATORS):
            log = self._log(number)
            for line in log.read_text().splitlines() if log.exists() else []:
                began, ended, ids = line.split(" ", 2)
                for batch_id in ids.split(","):
                    spans.setdefault(batch_id, []).append((float(began), float(ended), number))
        return sum(
            any(a[2] != b[2] and a[0] < b[1] and b[0] < a[1] for a in found for b in found) for found in spans.values()
        )

    def unmarked(self, first: int, after: int) -> list[str]:
        """List the batches that lack an accepted marker with all their records."""
        keys = {marker_key(f"soak-{number:08d}"): number for number in range(first, after)}
        found = self.items.get_many(Table.LEDGER, list(keys))
        return [
            key.pk
            for key in keys
            if key not in found or found[key]["verdict"] != "accepted" or found[key]["metered"] != _RECORDS
        ]

    def usage_bytes(self) -> Counter[str]:
        """Bytes by account in the usage table, once no commit waits any more."""
        jobs = self._jobs()
        deadline = DeadlineAt(clock=jobs.clock, at_ms=jobs.clock.now_ms() + 600_000)
        if not jobs.rollup.run(deadline).finished:
            raise RuntimeError("the roll-up left something")
        totals: Counter[str] = Counter()
        for item in jobs.usage_reading.scan(Contradictions()):
            for _, total in jobs.usage_reading.totals(item):
                totals[item.account_id] += total.bytes
        return totals

    def differences(self) -> int:
        """Count the hours in which markers, usage, and the rows of lake and staging differ, or do not settle."""
        result = self._jobs().reconciler.check(from_s=0, to_s=int(time.time()) + 86_400, deep=True)
        return len(result.different) + len(result.unstable)

    def _jobs(self) -> LakeJobs:
        return LakeJobs(
            items=self.items,
            objects=S3ObjectStore(self._clients.s3, self._name),
            clock=SystemClock(),
            entropy=SystemEntropy(),
            metrics=MemoryMetrics(),
            alerts=MemoryAlerts(),
            settings=self._settings,
        )

    def _log(self, number: int) -> Path:
        return self._folder / f"aggregator-{number}.log"

    def _ensure(self, name: str, *arguments: str) -> None:
        running = self._processes.get(name)
        if running is not None and running.poll() is None:
            return
        settings = self._settings
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": self._endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            # A short wait, so that compaction runs from the first tenth on.
            **as_environment({**settings.model_dump(), "compact_wait_today_s": 5, "reserve_ms": 3_000}),
        }
        output = (self._folder / f"{name}.out").open("ab")
        self._processes[name] = subprocess.Popen(
            [sys.executable, "-m", "load_tests.soak_worker", *arguments],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        output.close()
