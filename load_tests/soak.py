"""`python -m load_tests.soak --batches 200000`: a long run through the real aggregator and compactor on MiniStack.

Three aggregator and two compactor processes work on one region; a random one but the first is killed (SIGKILL) every
two seconds; messages come back after a shortened visibility timeout; one in twenty batches is sent twice. After each
tenth every batch must have its marker, and markers, usage and lake must be equal to what was sent. It goes on where it
stopped: what was proven is in the state file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from load_tests.stage import settings
from metering.adapters.aws.dynamodb.items import DynamoDbItemStore
from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.adapters.aws.s3.objects import S3ObjectStore
from metering.adapters.aws.session import Access, Clients
from metering.adapters.emulator import ministack as emulator
from metering.adapters.emulator.processes import process_began
from metering.adapters.memory.alerts import MemoryAlerts
from metering.adapters.memory.metrics import MemoryMetrics
from metering.ledger.markers import marker_key
from metering.ledger.usage_items import usage_entries
from metering.settings import as_environment
from metering.stores.writes import Table
from metering.wiring.jobs import LakeJobs

if TYPE_CHECKING:
    from collections.abc import Iterable

_PORT = 4650
_RECORDS = 20
_DUPLICATES = 20
_VISIBILITY_S = 20
_AGGREGATORS, _COMPACTORS = 3, 2
_KILL_EVERY_S = 2.0
_BACKLOG = 400
# The last few messages are left in peace, or each kill would put the end off by a visibility timeout.
_CALM = 100
_TENTHS = 10
# Until the processes have started.
_WARM_UP_S = 5.0
_LEG_LIMIT_S = 3_600.0
_FLAT = 1.15


@dataclass(slots=True)
class Leg:
    """A tenth of the run, as it was proven.

    Attributes:
        sending_s: Until all of it was sent, never more than a short queue ahead of what had its verdict.
        settling_s: From then on: what killed processes had in hand comes back after the visibility timeout.
    """

    first: int
    batches: int
    sending_s: float
    settling_s: float
    kills: int
    overlaps: int
    redriven: int
    memory_mib: int

    @property
    def rate(self) -> float:
        return self.batches / self.sending_s


@dataclass(slots=True)
class State:
    """What a later call needs to go on. `base`: first batch that was sent to this emulator."""

    batches: int
    endpoint: str = ""
    pid: int = 0
    began: str = ""
    name: str = ""
    base: int = 0
    legs: list[Leg] = field(default_factory=list)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path, batches: int) -> State:
        if path.exists():
            values = json.loads(path.read_text())
            if values["batches"] == batches:
                return cls(**{**values, "legs": [Leg(**leg) for leg in values["legs"]]})
        return cls(batches)


def records_of(number: int) -> list[dict[str, object]]:
    """Records of a batch: decided by its number alone."""
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
    """Bytes by account of batches `first <= n < after`."""
    totals: Counter[str] = Counter()
    for number in range(first, after):
        chance = random.Random(number)
        totals[f"{100_000_000_000 + number % 50}"] += sum(chance.randrange(2**50) for _ in range(_RECORDS))
    return totals


class Region:
    """Tables, bucket and queues of the soak, and the processes that work on them."""

    def __init__(self, state: State, folder: Path) -> None:
        self._state, self._folder = state, folder
        self._clients = Clients(Access(region="us-east-1", endpoint_url=state.endpoint, access_key=("test", "test")))
        self._tables = {Table.LEDGER: f"{state.name}-ledger", Table.USAGE: f"{state.name}-usage"}
        self.items = DynamoDbItemStore(self._clients.dynamodb, self._tables)
        self._settings = settings(
            ledger_table=self._tables[Table.LEDGER],
            usage_table=self._tables[Table.USAGE],
            data_bucket=state.name,
        )
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def make(self) -> None:
        """Create what a fresh emulator lacks."""
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
        self._clients.s3.create_bucket(Bucket=self._state.name)
        dead = self._clients.sqs.create_queue(QueueName=f"{self._state.name}-dead")["QueueUrl"]
        arn = self._clients.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]
        policy = json.dumps({"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": 5})
        self._clients.sqs.create_queue(
            QueueName=f"{self._state.name}-ingest",
            Attributes={"VisibilityTimeout": str(_VISIBILITY_S), "RedrivePolicy": policy},
        )

    def url(self, kind: str) -> str:
        """URL of the queue `ingest` or `dead`."""
        return self._clients.sqs.get_queue_url(QueueName=f"{self._state.name}-{kind}")["QueueUrl"]

    def queue(self, kind: str) -> SqsQueue:
        """The queue `ingest` or `dead`."""
        return SqsQueue(self._clients.sqs, self.url(kind))

    def send(self, numbers: Iterable[int]) -> None:
        """Send a few batches, one in twenty of them twice."""
        bodies, again = [], []
        for number in numbers:
            records = records_of(number)
            message = {"schema": "metering.batch/1", "batch_id": f"soak-{number:08d}", "record_count": _RECORDS}
            bodies.append(json.dumps(message | {"records": records}))
            if number % _DUPLICATES == 0:
                again.append(bodies[-1])
            if len(again) == 2:
                # Soon after the first, but not in the same receive: so that another process gets it meanwhile.
                bodies += again
                again = []
        bodies += again
        missed = self.queue("ingest").send_many(bodies)
        if missed:
            raise RuntimeError(f"{len(missed)} messages were not taken")

    def depth(self, kind: str) -> int:
        """Messages in a queue, whoever has them."""
        return self.queue(kind).depth().total

    def redrive(self) -> int:
        """Put dead letters back."""
        dead, moved = self.queue("dead"), 0
        while found := dead.receive(10):
            self.queue("ingest").send_many([message.delivery.body for message in found])
            dead.delete_many([message.receipt for message in found])
            moved += len(found)
        return moved

    def start_all(self) -> None:
        """Start what does not run."""
        for number in range(_AGGREGATORS):
            self._ensure(f"aggregator-{number}", "aggregator", self.url("ingest"), str(self._log(number)))
        for number in range(_COMPACTORS):
            self._ensure(f"compactor-{number}", "compactor")

    def kill_one(self) -> None:
        """SIGKILL a process, but for the first aggregator: its memory is looked at."""
        name = random.choice(sorted(set(self._processes) - {"aggregator-0"}))
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop_all(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._processes.clear()

    def memory_mib(self) -> int:
        """Resident memory of the aggregator that is never killed."""
        status = Path(f"/proc/{self._processes['aggregator-0'].pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) // 1024

    def overlaps(self) -> int:
        """How often two processes had the same batch in hand at the same time."""
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
        """Batches without an accepted marker of all their records."""
        keys = {marker_key(f"soak-{number:08d}"): number for number in range(first, after)}
        found = self.items.get_many(Table.LEDGER, list(keys))
        return [
            key.pk
            for key in keys
            if key not in found or found[key]["verdict"] != "accepted" or found[key]["metered"] != _RECORDS
        ]

    def usage_bytes(self) -> Counter[str]:
        totals: Counter[str] = Counter()
        for item in self.items.scan(Table.USAGE):
            for entry in usage_entries(item):
                totals[entry.key.account_id] += entry.total.bytes
        return totals

    def differences(self) -> int:
        """Hours in which markers, usage and the rows of lake and staging differ, or do not settle."""
        jobs = LakeJobs(
            items=self.items,
            objects=S3ObjectStore(self._clients.s3, self._state.name),
            clock=SystemClock(),
            entropy=SystemEntropy(),
            metrics=MemoryMetrics(),
            alerts=MemoryAlerts(),
            settings=self._settings,
        )
        result = jobs.reconciler.check(from_s=0, to_s=int(time.time()) + 86_400, deep=True)
        return len(result.different) + len(result.unstable)

    def _log(self, number: int) -> Path:
        return self._folder / f"aggregator-{number}.log"

    def _ensure(self, name: str, *arguments: str) -> None:
        running = self._processes.get(name)
        if running is not None and running.poll() is None:
            return
        settings = self._settings
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": self._state.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            # So soon that compaction is at work from the first tenth on.
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


def run_leg(region: Region, first: int, batches: int) -> Leg:
    """Send a tenth, with kills, until all of it has its verdict."""
    before = region.overlaps()
    began = sent = last_kill = time.monotonic()
    next_number, sent_all, kills, redriven = first, False, 0, 0
    while not sent_all or region.depth("ingest") + region.depth("dead"):
        if time.monotonic() - began > _LEG_LIMIT_S:
            raise RuntimeError("the queue does not become empty")
        region.start_all()
        if not sent_all and region.depth("ingest") < _BACKLOG:
            after = min(next_number + 200, first + batches)
            region.send(range(next_number, after))
            next_number, sent_all, sent = after, after == first + batches, time.monotonic()
        elif sent_all:
            redriven += region.redrive()
            time.sleep(0.2)
        else:
            time.sleep(0.1)
        if time.monotonic() - last_kill > _KILL_EVERY_S and (not sent_all or region.depth("ingest") > _CALM):
            region.kill_one()
            kills, last_kill = kills + 1, time.monotonic()
    return Leg(
        first=first,
        batches=batches,
        sending_s=round(sent - began, 1),
        settling_s=round(time.monotonic() - sent, 1),
        kills=kills,
        overlaps=region.overlaps() - before,
        redriven=redriven,
        memory_mib=region.memory_mib(),
    )


def prove(region: Region, state: State, leg: Leg) -> list[str]:
    """What is wrong after a tenth; nothing if all is as it was sent."""
    problems = [f"{pk} has no verdict" for pk in region.unmarked(leg.first, leg.first + leg.batches)[:5]]
    expected, counted = expected_bytes(state.base, leg.first + leg.batches), region.usage_bytes()
    problems += [
        f"account {account}: {counted[account]} bytes counted, {expected[account]} sent"
        for account in sorted(expected.keys() | counted.keys())
        if expected[account] != counted[account]
    ]
    return problems


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.soak", description=__doc__)
    parser.add_argument("--batches", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, default=Path(".local/soak"), help="where the state is kept")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "state.json"
    state = State.load(path, options.batches)
    region = _attach(state, options.folder)
    size = options.batches // _TENTHS
    problems: list[str] = []
    try:
        region.start_all()
        time.sleep(_WARM_UP_S)
        while len(state.legs) < _TENTHS and not problems:
            leg = run_leg(region, len(state.legs) * size, size)
            problems = prove(region, state, leg)
            if not problems:
                state.legs.append(leg)
                state.save(path)
            sys.stdout.write(f"{_line(leg)}{'' if not problems else ' WRONG'}\n")
            sys.stdout.flush()
        differences = region.differences()
        problems += [f"{differences} hours differ or do not settle"] if differences else []
    finally:
        region.stop_all()
    problems += _trends(state.legs)
    for problem in problems:
        sys.stdout.write(f"WRONG: {problem}\n")
    if not problems:
        emulator.stop(state.pid)
        path.unlink()
        total = sum(leg.batches for leg in state.legs)
        sys.stdout.write(f"{total} batches: exact; markers = usage = lake\n")
    return 1 if problems else 0


def _attach(state: State, folder: Path) -> Region:
    """The region of the state if its emulator still runs, else a fresh one for what is left."""
    if state.pid and process_began(state.pid) == state.began:
        return Region(state, folder)
    running = emulator.start(emulator.free_port(_PORT), region="us-east-1")
    state.endpoint, state.pid, state.began = running.endpoint, running.pid, running.began
    state.name = f"soak-{os.urandom(4).hex()}"
    state.base = len(state.legs) * (state.batches // _TENTHS)
    for log in folder.glob("aggregator-*"):
        log.unlink()
    region = Region(state, folder)
    region.make()
    state.save(folder / "state.json")
    return region


def _trends(legs: list[Leg]) -> list[str]:
    """What must hold over the whole run."""
    if len(legs) < _TENTHS:
        return ["not finished"]
    problems = []
    if legs[-1].rate * _FLAT < legs[0].rate:
        problems.append(f"rate fell from {legs[0].rate:.0f} to {legs[-1].rate:.0f} a second")
    # The first tenth fills caches, so growth counts from the second on.
    if legs[-1].memory_mib > legs[1].memory_mib * _FLAT:
        problems.append(f"memory grew from {legs[1].memory_mib} to {legs[-1].memory_mib} MiB")
    if not sum(leg.overlaps for leg in legs):
        problems.append("no batch was ever in two hands at once: nothing was proven")
    return problems


def _line(leg: Leg) -> str:
    return (
        f"batches {leg.first} to {leg.first + leg.batches - 1}: {leg.rate:.0f} a second, settled after "
        f"{leg.settling_s:.0f} s more, {leg.kills} kills, {leg.overlaps} batches in two hands at once, "
        f"{leg.redriven} redriven, {leg.memory_mib} MiB"
    )


if __name__ == "__main__":
    sys.exit(main())
