"""A region's HTTP API is added and removed, and the metering is unaffected."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from metering.adapters.emulator.ministack import api_address
from metering.fleet.ports import RegionStacks
from tests.e2e.test_regions import HOME, World, record
from tests.support.emulated import running_emulator

pytestmark = [pytest.mark.emulator, pytest.mark.regions, pytest.mark.drill]

STACKS = RegionStacks.of("local")
ACCOUNT = "123456789012"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running_emulator(4690) as running:
        yield World(endpoint=running.endpoint)


def outputs(world: World, stack: str) -> dict[str, str]:
    found = world.clients(HOME).cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    return {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]}


def standing(world: World) -> set[str]:
    found = world.clients(HOME).cloudformation.list_stacks(StackStatusFilter=["CREATE_COMPLETE", "UPDATE_COMPLETE"])[
        "StackSummaries"
    ]
    return {each["StackName"] for each in found}


def alarms(world: World) -> set[str]:
    pages = world.clients(HOME).cloudwatch.get_paginator("describe_alarms").paginate()
    return {alarm["AlarmName"] for page in pages for alarm in page["MetricAlarms"]}


def add(world: World, *options: str) -> Any:
    return world.ask("region", "add", HOME, *options)


def send(world: World, batch_id: str, size: int) -> None:
    body = {"schema": "metering.batch/1", "batch_id": batch_id, "record_count": 1, "records": [record(size)]}
    queue = outputs(world, STACKS.data)["IngestQueueUrl"]
    world.clients(HOME).sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(body))


def reported(world: World) -> int:
    assert world.ask("verify", "--wait", "2m")["passed"]
    return sum(int(row["bytes"]) for row in world.ask("report", "usage", "--account", ACCOUNT)["rows"])


def test_an_api_goes_and_comes_back_and_leaves_with_its_region(world: World) -> None:
    add(world)
    assert standing(world) == set(STACKS.in_order)
    base = api_address(outputs(world, STACKS.api)["ApiUrl"], world.endpoint).base
    assert httpx.get(f"{base}/v1/health").json() == {"status": "ok"}
    token = world.ask("token", "create", "--role", "analyst")["token"]
    assert [name for name in alarms(world) if name.startswith("metering-local-api-")]
    pipeline = outputs(world, STACKS.pipeline)

    # Batches arrive while the API is removed.
    send(world, "while-it-goes", 1_000)
    told = world.run("region", "add", HOME, "--no-api", "--redeploy")
    assert told.returncode == 0, told.stderr
    assert "the HTTP API is deleted" in told.stderr
    assert standing(world) == set(STACKS.everywhere)
    assert not [name for name in alarms(world) if name.startswith("metering-local-api-")]
    assert outputs(world, STACKS.pipeline)["AggregatorFunctionName"] == pipeline["AggregatorFunctionName"]
    assert reported(world) == 1_000

    send(world, "while-it-comes", 500)
    add(world, "--api", "--redeploy")
    assert standing(world) == set(STACKS.in_order)
    assert reported(world) == 1_500
    base = api_address(outputs(world, STACKS.api)["ApiUrl"], world.endpoint).base
    # A token stays valid when the API for which it was made is removed.
    found = httpx.get(
        f"{base}/v1/usage", params={"account": ACCOUNT, "last": "2d"}, headers={"Authorization": f"Bearer {token}"}
    ).json()
    assert sum(int(row["bytes"]) for row in found["rows"]) == 1_500

    end_s = time.monotonic() + 120
    while (done := world.run("region", "remove", HOME)).returncode != 0:
        # The canary's own batches are occasionally in flight.
        assert time.monotonic() < end_s, done.stderr
        time.sleep(2)
    assert standing(world) == {STACKS.data}
    assert not alarms(world)
