"""A producer that is killed again and again sends to a real queue and bucket, and each record is metered once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from metering.audit.sequences import SeenSequences
from metering.ledger.markers import Marker, is_marker
from tests.integration.producing import KEYS, SOURCE, records_of
from tests.integration.region import Region, delivery
from tests.support.emulated import clients_of

if TYPE_CHECKING:
    from metering.adapters.aws.session import Clients

pytestmark = pytest.mark.emulator

ROOT = Path(__file__).parents[2]
KILLS = 8


def received(clients: Clients, queue_url: str) -> list[str]:
    """Bodies of all messages; nobody deletes them meanwhile."""
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
        # A producer that finished starts again elsewhere, so that later kills hit other places.
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
