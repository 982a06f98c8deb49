"""The person on call, simulated: receives an alert, opens the alert's runbook, and runs the runbook's commands."""

from __future__ import annotations

import json
import re
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from metering.operations.runbooks import commands_by_part

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tests.e2e.conftest import Service

# Runbook without a drill -> the reason. The drills of regions run the commands of these runbooks anyway.
UNDRILLED = {
    "api-guessing": "No emulator makes metrics of what a function counts in its log, so its alarm sees no figure.",
    "api-reads": "No emulator makes metrics of what a function counts in its log, so its alarm sees no figure.",
    "api-slow": "No emulator makes metrics of what a function counts in its log, so its alarm sees no figure.",
    "api-throttled": "No emulator reserves executions or counts what it turns away, so that its alarm sees no figure.",
    "aws-bill": "AWS alone writes exports of a bill, so that on an emulator no biller has one to compare.",
    "rollout-failed": "No emulator runs CodeBuild, so that neither its project nor its alarm is deployed there.",
    "unkept-sources": "More than 20,000 sources would each have to send a batch, which takes an emulator an hour.",
}
SEE, MITIGATE, CHECK = "How to see", "How to mitigate", "How to check"
# LocalStack reads the metric of a queue once a minute, and evaluates alarms as often.
_PATIENCE_S = 200


def hear(service: Service, pager: str, names: Collection[str]) -> dict[str, Any]:
    """Wait for the first alert of any of these alarms; the watch is invoked here, without waiting for its schedule."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        figures(service)
        while alert := next_alert(service, pager, 5):
            if alert.get("NewStateValue") == "ALARM" and alarm_of(service, alert) in names:
                return alert
    pytest.fail(f"nobody was paged for any of {sorted(names)}")


def next_alert(service: Service, pager: str, wait_s: int) -> dict[str, Any]:
    """The pager's next message; empty after `wait_s`."""
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        for found in service.clients.sqs.receive_message(QueueUrl=pager, WaitTimeSeconds=2).get("Messages", []):
            service.clients.sqs.delete_message(QueueUrl=pager, ReceiptHandle=found["ReceiptHandle"])
            alert: dict[str, Any] = json.loads(found["Body"])
            return alert
    return {}


def alarm_of(service: Service, alert: dict[str, Any]) -> str:
    """The name of the alert's alarm in the catalogue."""
    return str(alert.get("AlarmName", "")).removeprefix(f"metering-{service.stage}-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A runbook, as the command in its alert prints it."""

    name: str
    text: str


def follows(*_runbooks: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a test as the drill of runbooks: `tests/unit/house/test_docs.py` checks that each runbook has a drill."""
    return lambda test: test


def runbook_of(service: Service, alert: dict[str, Any]) -> Page:
    """Run the command in the alert, exactly as written."""
    [line] = re.findall(r"^Type: (metering runbook .+)$", alert["AlarmDescription"], re.MULTILINE)
    done = service.type("operator", line)
    assert done.returncode == 0, done.stderr
    return Page(name=shlex.split(line)[2], text=done.stdout)


def follow(service: Service, page: Page, part: str, **filled: str) -> list[int]:
    """Run the commands of one part, in order; returns their exit codes. Region commands run as deployer."""
    lines = [line for heading, line in commands_by_part(page.text) if heading == part]
    assert lines, f"{page.name} has no command under {part}"
    codes = []
    for written in lines:
        line = re.sub(r"\b[A-Z]{5,}\b", lambda word: filled[word[0]], written)
        role = "deployer" if line.startswith(("metering region ", "metering upgrade ")) else "operator"
        done = service.type(role, line)
        print(f"$ {line}: {done.returncode}\n{done.stdout}{done.stderr}")  # The output is shown if the test fails.
        assert done.returncode in {0, 1}, f"{line}: {done.stderr}"
        assert "Traceback" not in done.stderr, f"{line}: {done.stderr}"
        assert "AccessDenied" not in done.stderr, f"{line}: {done.stderr}"
        codes.append(done.returncode)
    return codes


def heard(service: Service, pager: str, name: str) -> Page:
    """Wait for the alert of an alarm on a figure of the watch; returns the runbook that the alert names."""
    page = runbook_of(service, hear(service, pager, {name}))
    assert page.name == name
    return page


def told(service: Service, pager: str, name: str) -> Page:
    """Wait for the alert of an alarm that does not depend on the watch; returns the runbook that the alert names."""
    while alert := next_alert(service, pager, 60):
        if alert.get("NewStateValue") == "ALARM" and alarm_of(service, alert) == name:
            return runbook_of(service, alert)
    pytest.fail(f"nobody was paged for {name}")


def cured(service: Service, page: Page, **filled: str) -> tuple[list[int], ...]:
    """Run all commands of a runbook, part by part."""
    return tuple(follow(service, page, part, **filled) for part in (SEE, MITIGATE, CHECK))


def figures(service: Service) -> dict[str, int]:
    """Figures that the watch publishes now."""
    answer = service.clients.lambda_.invoke(FunctionName=function(service, "Watch"), Payload=b"{}")
    published: dict[str, int] = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, published
    return published


def function(service: Service, name: str) -> str:
    """Physical name of a function, found by the id of its construct."""
    part = "api" if name == "Api" else "pipeline"
    stack = service.clients.cloudformation.describe_stacks(StackName=f"metering-{service.stage}-{part}")["Stacks"][0]
    return next(o["OutputValue"] for o in stack["Outputs"] if o["OutputKey"] == f"{name}FunctionName")


def mapping(service: Service) -> str:
    """The aggregator's event source mapping."""
    name = function(service, "Aggregator")
    [found] = service.clients.lambda_.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
    return found["UUID"]


def until(true: Callable[[], object], limit_s: float) -> None:
    """Call `true` until its result is true; fail after `limit_s`."""
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.5)
