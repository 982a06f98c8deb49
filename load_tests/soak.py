"""Soak test: a long run through the real aggregator and compactor on MiniStack (`--batches 200000`).

Three aggregator and two compactor processes work on one region. Every two seconds SIGKILL ends a random process, except
the first aggregator. Messages become visible again after a shortened visibility timeout, and one in twenty batches is
sent twice. After each tenth of the run every batch must have its marker, and usage must equal the sent bytes. At the
end markers, usage and lake must be equal. A stopped run resumes after the last checked tenth; the state file names it.
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
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import linear_regression

from load_tests.stage import settings
from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.adapters.aws.session import Access, Clients
from metering.adapters.emulator import ministack as emulator
from metering.adapters.emulator.state import process_began
from metering.ledger.markers import marker_key
from metering.ledger.runs import Contradictions
from metering.settings import as_environment
from metering.stores.writes import Table
from metering.wiring.jobs import LakeJobs
from tests.support.emulated import make_tables
from tests.support.memory.clock import DeadlineAt, MemoryAlerts, MemoryMetrics

_RECORDS = 20
_DUPLICATES = 20
_VISIBILITY_S = 20
_AGGREGATORS, _COMPACTORS = 3, 2


def records_of(number: int) -> list[dict[str, object]]:
    """Make the records of a batch. Bytes and accounts depend only on the batch number."""
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
        make_tables(self._clients, self._tables.values(), bucket=self._name)
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
                # The copy follows soon, but is received separately, so that another process gets it.
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
        """Redrive dead letters to the ingest queue. Returns their number."""
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
        process = self._processes.pop(random.choice(sorted(set(self._processes) - {"aggregator-0"})))
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
        """Count how often two processes handled the same batch at the same time."""
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
        """Bytes by account in the usage table, read when no commit waits for the roll-up any more."""
        jobs = self._jobs()
        if not jobs.rollup.run(DeadlineAt(clock=jobs.clock, at_ms=jobs.clock.now_ms() + 600_000)).finished:
            raise RuntimeError("the roll-up left something")
        totals: Counter[str] = Counter()
        for item in jobs.usage_reading.scan(Contradictions()):
            for _, total in jobs.usage_reading.totals(item):
                totals[item.account_id] += total.bytes
        return totals

    def differences(self) -> int:
        """Count the hours whose markers, usage, and rows in lake and staging differ or are still changing."""
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
            # The wait is short, so that compaction runs from the first tenth on.
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


_PORT = 4650
_KILL_EVERY_S = 2.0
_BACKLOG = 400
# No process is killed during the last few messages: each kill would delay the end by a visibility timeout.
_CALM = 100
_TENTHS = 10
# Time for the processes to start.
_WARM_UP_S = 5.0
_LEG_LIMIT_S = 3_600.0
_FLAT = 1.15


@dataclass(slots=True)
class Leg:
    """Measurements of a tenth of the run.

    Attributes:
        sending_s: Seconds until all batches were sent. Sending pauses while the queue is long.
        settling_s: Seconds from the last send until the last verdict. Messages of killed processes become visible again
            only after the visibility timeout.
        overlaps: Number of times that two processes handled the same batch at the same time.
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
    """State from which a later call resumes. `base` is the first batch that was sent to this emulator."""

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


def run_leg(region: Region, first: int, batches: int) -> Leg:
    """Send a tenth of the batches, kill processes meanwhile, and wait for all verdicts."""
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
    """Compare markers and usage with the sent batches after a tenth. Returns the problems."""
    problems = [f"{pk} has no verdict" for pk in region.unmarked(leg.first, leg.first + leg.batches)[:5]]
    expected, counted = expected_bytes(state.base, leg.first + leg.batches), region.usage_bytes()
    problems += [
        f"account {account}: {counted[account]} bytes counted, {expected[account]} sent"
        for account in sorted(expected.keys() | counted.keys())
        if expected[account] != counted[account]
    ]
    return problems


def main() -> int:
    """Run the test, or resume it. Returns 1 if a problem was found."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.soak", description=__doc__)
    parser.add_argument("--batches", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, default=Path(".local/soak"), help="folder of the state file")
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
        problems += [f"{differences} hours differ or do not come to rest"] if differences else []
    finally:
        region.stop_all()
    problems += trends(state.legs)
    for problem in problems:
        sys.stdout.write(f"WRONG: {problem}\n")
    if not problems:
        emulator.stop(state.pid)
        path.unlink()
        rates = ", ".join(f"{leg.rate:.0f}" for leg in state.legs)
        sys.stdout.write(f"batches/s in each tenth: {rates}\n")
        total = sum(leg.batches for leg in state.legs)
        sys.stdout.write(f"{total} batches: exact; markers = usage = lake\n")
    return 1 if problems else 0


def _attach(state: State, folder: Path) -> Region:
    """Return the state's region if its emulator still runs, else a new region for the remaining batches."""
    if state.pid and process_began(state.pid) == state.began:
        return Region(state.endpoint, state.name, folder)
    running = emulator.start(emulator.free_port(_PORT), region="us-east-1")
    state.endpoint, state.pid, state.began = running.endpoint, running.pid, running.began
    state.name = f"soak-{os.urandom(4).hex()}"
    state.base = len(state.legs) * (state.batches // _TENTHS)
    for log in folder.glob("aggregator-*"):
        log.unlink()
    region = Region(state.endpoint, state.name, folder)
    region.make()
    state.save(folder / "state.json")
    return region


def trends(legs: list[Leg]) -> list[str]:
    """Check the conditions on the complete run. Returns the problems."""
    if len(legs) < _TENTHS:
        return ["not finished"]
    problems = []
    # One tenth of the run says little: its rate varies by a tenth with the number of batches that a killed process had.
    slope, first = linear_regression(range(len(legs)), [leg.rate for leg in legs])
    last = first + slope * (len(legs) - 1)
    if last * _FLAT < first:
        problems.append(f"rate fell from {first:.0f} to {last:.0f} batches/s, by the line through all tenths")
    # The first tenth fills caches, so growth is measured from the second tenth on.
    if legs[-1].memory_mib > legs[1].memory_mib * _FLAT:
        problems.append(f"memory grew from {legs[1].memory_mib} to {legs[-1].memory_mib} MiB")
    if not sum(leg.overlaps for leg in legs):
        problems.append("no batch was ever in two processes at once, so the run proves nothing")
    return problems


def _line(leg: Leg) -> str:
    return (
        f"batches {leg.first} to {leg.first + leg.batches - 1}: {leg.rate:.0f} batches/s, last verdict "
        f"{leg.settling_s:.0f} s later, {leg.kills} kills, {leg.overlaps} batches in two processes at once, "
        f"{leg.redriven} redriven, {leg.memory_mib} MiB"
    )


if __name__ == "__main__":
    sys.exit(main())
