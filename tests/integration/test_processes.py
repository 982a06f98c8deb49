"""With concurrent aggregators and compactors, random kills, and every message sent twice, all is counted once."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from metering.adapters.aws.session import Clients
from metering.audit.sequences import SeenSequences
from metering.hours import hour_label, parse_hour
from metering.ledger.markers import Marker, is_marker
from metering.units import HOUR_S
from tests.integration import processes
from tests.integration.bench import problems
from tests.integration.producing import KEYS, SOURCE, records_of
from tests.integration.region import Line, Region, Scenario, added, body, delivery, record
from tests.support.emulated import clients_of, make_resources

pytestmark = pytest.mark.emulator

BATCHES = 160
ACCOUNTS = 12
AGGREGATORS, COMPACTORS = 3, 2
KILL_EVERY_S = 0.7
AT_LEAST_KILLS = 8
LIMIT_S = 120


@pytest.fixture
def site(ministack: str, tmp_path: Path) -> processes.Site:
    clients = clients_of(ministack)
    queue_url = clients.sqs.create_queue(
        QueueName=f"q-{tmp_path.name[:60]}-{time.time_ns()}",
        Attributes={"VisibilityTimeout": str(processes.VISIBILITY_S)},
    )["QueueUrl"]
    return processes.Site(endpoint=ministack, resources=make_resources(clients), queue_url=queue_url, log_dir=tmp_path)


@pytest.fixture
def crew(site: processes.Site) -> Iterator[processes.Crew]:
    made = processes.Crew(site, [*[processes.aggregate] * AGGREGATORS, *[processes.compact] * COMPACTORS])
    yield made
    made.stop()


def traffic() -> tuple[list[str], Scenario]:
    """Batches of this hour and of the previous one, and their expected totals."""
    now_s = int(time.time())
    hours = [hour_label(now_s - now_s % HOUR_S - HOUR_S * back) for back in (1, 2)]
    bodies: list[str] = []
    figures: list[tuple[Line, int, int]] = []
    for number in range(BATCHES):
        account = number % ACCOUNTS
        records = [
            record(account, 2**60 + number * 10 + place, start=f"{hour}:{number % 60:02d}:00Z")
            for place, hour in enumerate(hours)
        ]
        bodies.append(body(f"b{number}", records))
        figures += [
            (Line(hour, f"{account:012d}", "DataTransfer-Out-Bytes"), 2**60 + number * 10 + place, 1)
            for place, hour in enumerate(hours)
        ]
    verdicts = {(f"b{number}", "M", "accepted") for number in range(BATCHES)}
    return bodies, Scenario(deliveries=[], totals=added(figures), verdicts=verdicts)


class Watch:
    """A reader that polls, and checks that the totals never exceed the sent totals and never decrease."""

    def __init__(self, region: Region, made: Scenario) -> None:
        self._view = region.jobs().view
        self._hours = sorted({line.hour for line in made.totals})
        self._made = made
        self._seen: dict[Line, int] = {}

    def look(self) -> None:
        for hour in self._hours:
            for key, total in self._view.hour_usage(parse_hour(hour)).items():
                line = Line(hour, key.account_id, key.usage_type)
                assert self._seen.get(line, 0) <= total.bytes <= self._made.totals[line][0]
                self._seen[line] = total.bytes


def settled(region: Region) -> bool:
    return not any(str(item["pk"]).startswith(("P#", "U#")) for item in region.ledger())


def test_processes_that_are_killed_at_random_count_everything_once(site: processes.Site, crew: processes.Crew) -> None:
    bodies, made = traffic()
    queue, region = processes.queue_of(site), processes.region_of(site)
    watch = Watch(region, made)
    chance = random.Random(1)
    # The messages of an invocation, with each block twice: two workers process the same messages at the same time.
    blocks = [bodies[start : start + processes.MESSAGES] for start in range(0, BATCHES, processes.MESSAGES)]
    assert queue.send_many([text for block in blocks for text in (*block, *block)]) == []
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        time.sleep(KILL_EVERY_S)
        assert crew.dead() == []
        watch.look()
        if crew.kills >= AT_LEAST_KILLS and queue.depth().total == 0 and settled(region):
            break
        if queue.depth().total or crew.kills < AT_LEAST_KILLS:
            crew.kill_one(chance.randrange(AGGREGATORS + COMPACTORS))
    watch.look()
    assert queue.depth().total == 0, "messages are left"
    assert settled(region), "commits are left uncompacted"
    assert problems(region, made) == []
    assert crew.kills >= AT_LEAST_KILLS
    assert processes.overlapping(processes.works(site.log_dir)) > 0, (
        "no two processes ever had the same batch at the same time"
    )


# A producer that is killed repeatedly sends to a real queue and bucket, and each record is metered once.

ROOT = Path(__file__).parents[2]
KILLS = 8


def received(clients: Clients, queue_url: str) -> list[str]:
    """Bodies of all queued messages; while they are received, no process may delete messages."""
    bodies: list[str] = []
    while messages := clients.sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages", []):
        bodies += [message["Body"] for message in messages]
    return bodies


def test_each_record_is_metered_once_and_no_number_is_missing(ministack: str, tmp_path: Path) -> None:
    clients = clients_of(ministack)
    region = Region(clients)
    queue_url = clients.sqs.create_queue(QueueName=f"q-{time.time_ns()}", Attributes={"VisibilityTimeout": "600"})[
        "QueueUrl"
    ]
    command = [sys.executable, "-m", "tests.integration.producing", ministack, queue_url, region.resources.bucket]
    chance = random.Random(7)
    kills = 0
    while kills < KILLS:
        caller = subprocess.Popen([*command, str(tmp_path / "state")], cwd=ROOT)
        try:
            caller.wait(timeout=0.7 + chance.random())
        except subprocess.TimeoutExpired:
            caller.kill()
            kills += 1
        assert caller.wait() in (0, -9)
        # A producer that has finished starts again with other data, so that later kills occur at other positions.
        if caller.returncode == 0:
            kills += 1
    done = subprocess.run([*command, str(tmp_path / "state")], cwd=ROOT, check=False, timeout=120)
    assert done.returncode == 0

    bodies = received(clients, queue_url)
    assert len(bodies) >= KEYS
    for start in range(0, len(bodies), 10):
        group = [delivery(f"m{start + number}", body) for number, body in enumerate(bodies[start : start + 10])]
        assert not region.handle(group).retry
    region.roll_up()
    assert {(line.account_id, *figures) for line, figures in region.usage().items()} == {
        (str(record["account_id"]), record["bytes"], 1) for key in range(KEYS) for record in records_of(key)
    }
    markers = [Marker.from_item(item) for item in region.ledger() if is_marker(item)]
    assert {(marker.verdict, marker.source_id) for marker in markers} == {("accepted", SOURCE)}
    numbers = {marker.sequence: marker.decided_at_ms for marker in markers if marker.sequence is not None}
    seen = SeenSequences().plus(numbers, now_ms=1, largest_jump=100)
    assert (seen.last, seen.gaps) == (len(markers) - 1, ())
