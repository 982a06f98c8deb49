"""The deployed HTTP API under load from one token: other tokens are served as before; that token is refused at once."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

import httpx
import pytest

from metering.adapters.emulator.ministack import api_address
from metering.api.authentication import Limits
from metering.fleet.ports import RegionStacks
from metering.hours import hour_of
from metering.units import HOUR_S
from tests.e2e.test_api_drill import outputs
from tests.e2e.test_regions import HOME, World, record
from tests.support.emulated import running_emulator

pytestmark = [pytest.mark.emulator, pytest.mark.regions, pytest.mark.drill]

STACKS = RegionStacks.of("local")
HOSTILE, OTHER = "123456789012", "210987654321"
AT_ONCE, LIGHT, TURNS = 18, 200, 2
NOTHING = "&service=AmazonNone&usage_type=None-Bytes&from_location=eu-west-9&to_location=eu-west-9"
DEAR = f"/v1/usage?last=7d&detail=resource_id{NOTHING}"
SMALL = ("/v1/freshness", "/v1/usage?last=24h")
_BATCHES, _HOURS = 4, 167


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Asks with one token."""

    base: str
    token: str
    answers: list[tuple[int, float]] = field(default_factory=list)

    def ask(self, path: str) -> int:
        began_s = time.monotonic()
        answer = httpx.get(f"{self.base}{path}", headers={"Authorization": f"Bearer {self.token}"}, timeout=90)
        self.answers.append((answer.status_code, time.monotonic() - began_s))
        return answer.status_code

    def seconds(self, status: int) -> list[float]:
        """Response times with a status, in seconds, ascending."""
        return sorted(took_s for answered, took_s in self.answers if answered == status)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running_emulator(4720) as running:
        yield World(endpoint=running.endpoint)


@pytest.fixture(scope="module")
def base(world: World) -> str:
    """Address of an API whose region has a week of usage, of two accounts in each hour."""
    world.ask("region", "add", HOME)
    queue, newest_s = outputs(world, STACKS.data)["IngestQueueUrl"], hour_of(int(time.time()))
    for number in range(_BATCHES):
        records = [
            {**record(1_000), "account_id": account, "resource_id": f"i-{number}", "start": start_s, "end": start_s}
            for account in (HOSTILE, OTHER)
            for start_s in range(newest_s - _HOURS * HOUR_S, newest_s, HOUR_S)
        ]
        body = {
            "schema": "metering.batch/1", "batch_id": f"week-{number}", "record_count": len(records), "records": records
        }  # fmt: skip
        world.clients(HOME).sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(body))
    assert world.ask("verify", "--wait", "3m")["passed"]
    world.ask("compact")
    return api_address(outputs(world, STACKS.api)["ApiUrl"], world.endpoint).base


def asker(world: World, base: str, account: str) -> Asker:
    return Asker(base=base, token=world.ask("token", "create", "--role", "customer", "--account", account)["token"])


def ask_lightly(light: Asker, number: int) -> None:
    """Send `count` small requests, at a token's rate limit."""
    began_s, spacing_s = time.monotonic(), 1.02 / Limits().token_rate_per_s
    with ThreadPoolExecutor(4) as pool:

        def one(place: int) -> int:
            time.sleep(max(began_s + place * spacing_s - time.monotonic(), 0))
            return light.ask(SMALL[place % len(SMALL)])

        assert list(pool.map(one, range(number))) == [200] * number


def rest() -> None:
    """Wait until a token's burst allowance is full again."""
    time.sleep(Limits().token_burst / Limits().token_rate_per_s)


def p95(seconds: list[float]) -> float:
    return seconds[int(0.95 * len(seconds))]


def test_one_token_takes_the_api_from_nobody(world: World, base: str) -> None:
    hostile, alone = asker(world, base, HOSTILE), asker(world, base, OTHER)
    beside = replace(alone, answers=[])
    with ThreadPoolExecutor(2 * AT_ONCE) as pool:
        # The function has as many warm processes as the test needs, because a cold start takes at least a second.
        warm = [pool.submit(hostile.ask, DEAR) for _ in range(AT_ONCE)]
        wait([*warm, *(pool.submit(alone.ask, SMALL[0]) for _ in range(AT_ONCE))])
        hostile.answers.clear()
        alone.answers.clear()
        rest()
        # Measures the time that the same number of concurrent small requests takes on this machine.
        crowd = replace(alone, answers=[])
        wait([pool.submit(crowd.ask, SMALL[0]) for _ in range(AT_ONCE)])
        # The measurements alternate, so that the machine's load is the same for both.
        for _ in range(TURNS):
            rest()
            ask_lightly(alone, LIGHT // TURNS)
            asked = [pool.submit(hostile.ask, DEAR) for _ in range(AT_ONCE)]
            ask_lightly(beside, LIGHT // TURNS)
            wait(asked)
    without, light, refused = alone.seconds(200), beside.seconds(200), hostile.seconds(429)
    # A large request that takes too long is abandoned.
    answered = sorted([*hostile.seconds(200), *hostile.seconds(503)])
    other_answers = [each for each in hostile.answers if each[0] not in {200, 429, 503}]
    figures = (
        f"small ones: p95 alone {p95(without):.3f} s, beside {p95(light):.3f} s, longest {light[-1]:.3f} s; large: "
        f"{len(answered)} answered in {answered[0]:.1f} to {answered[-1]:.1f} s, {len(refused)} refused, "
        f"p95 {p95(refused):.3f} s, longest {refused[-1]:.3f} s, others {other_answers}; "
        f"18 small ones at once p95 {p95(crowd.seconds(200)):.3f} s\n"
    )
    sys.stdout.write(figures)
    assert not other_answers, figures
    assert p95(light) <= 3 * p95(without), figures
    assert light[-1] <= 5, figures
    # On a busy machine, the limit is twice the time of as many concurrent small requests.
    assert p95(refused) <= max(0.5, 2 * p95(crowd.seconds(200))), figures
    # Reads in the log and in the metric: one pass over the range, even for names without a match.
    lines = world.clients(HOME).logs.filter_log_events(logGroupName=outputs(world, STACKS.api)["ApiLogGroupName"])
    told = [json.loads(each["message"]) for each in lines["events"] if "request answered" in each["message"]]
    hours = [each["hours"] for each in told if each.get("hours")]
    assert hours
    assert max(hours) <= 1.1 * Limits().hours
