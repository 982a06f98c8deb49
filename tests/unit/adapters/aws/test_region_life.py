"""A deployed region as CloudFormation and CloudWatch describe it."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from metering.adapters.aws.region_life import DeployedRegions
from tests.unit.adapters.aws.stubs import stubbed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.stub import Stubber

    from metering.adapters.aws.session import Clients


@dataclass(frozen=True, slots=True, kw_only=True)
class StubbedClients:
    """All that these tests ask of a region."""

    cloudwatch: Any = None
    cloudformation: Any = None
    lambda_: Any = None
    events: Any = None


@pytest.fixture
def cloudwatch() -> Iterator[tuple[Any, Stubber]]:
    yield from stubbed("cloudwatch")


def alarm(name: str, state: str) -> dict[str, str]:
    full = f"metering-prod-{name}"
    return {"AlarmName": full, "AlarmArn": f"arn:aws:cloudwatch:us-east-1:1:alarm:{full}", "StateValue": state}


def test_a_deployment_is_turned_back_by_what_it_breaks_and_not_by_what_was_broken_before(
    cloudwatch: tuple[Any, Stubber],
) -> None:
    client, stubber = cloudwatch
    states = {
        "aggregator-errors": "ALARM",
        "canary-doubled": "OK",
        "canary-late": "OK",
        "conflicts": "OK",
        "dead-letters": "INSUFFICIENT_DATA",
        "marker-life": "OK",
        "oldest-batch": "ALARM",
        "open-commits": "OK",
        "reconciliation-differences": "OK",
        "watch-silent": "OK",
    }
    stubber.add_response("describe_alarms", {"MetricAlarms": [alarm(name, state) for name, state in states.items()]})
    regions = DeployedRegions(lambda _: cast("Clients", StubbedClients(cloudwatch=client)), stage="prod")

    arns = regions.rollback_alarms("us-east-1")

    names = [arn.rpartition("alarm:metering-prod-")[2] for arn in arns]
    assert names == ["canary-doubled", "dead-letters", "open-commits", "reconciliation-differences"]


class Answers:
    """A client that answers as told, and remembers what was asked."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.asked.append((name, arguments))
            answer = self.answers.get(name, {})
            return answer(arguments) if callable(answer) else answer

        return call

    def get_paginator(self, name: str) -> Any:
        return SimpleNamespace(paginate=lambda **_: [self.answers[name]])


def test_what_somebody_stopped_runs_again_and_those_that_run_alone_stay_alone() -> None:
    functions = ("aggregator", "compactor", "reconciler", "watch")
    outputs = [{"OutputKey": f"{name.capitalize()}FunctionName", "OutputValue": name} for name in functions]
    resources = [{"ResourceType": "AWS::Lambda::Function", "PhysicalResourceId": name} for name in functions]
    held = {"aggregator": 0, "compactor": 0, "reconciler": 1}
    lambda_ = Answers({
        "get_function_concurrency": lambda asked: (
            {"ReservedConcurrentExecutions": held[asked["FunctionName"]]} if asked["FunctionName"] in held else {}
        ),
    })  # fmt: skip
    cloudformation = Answers({
        "describe_stacks": {"Stacks": [{"Outputs": outputs}]},
        "list_stack_resources": {"StackResourceSummaries": resources},
    })  # fmt: skip
    clients = StubbedClients(cloudformation=cloudformation, lambda_=lambda_, events=Answers({}))

    DeployedRegions(lambda _: cast("Clients", clients), stage="prod").start("us-east-1")

    changed = [call for call in lambda_.asked if call[0].endswith("function_concurrency") and "get" not in call[0]]
    assert changed == [
        ("delete_function_concurrency", {"FunctionName": "aggregator"}),
        ("put_function_concurrency", {"FunctionName": "compactor", "ReservedConcurrentExecutions": 1}),
    ]
