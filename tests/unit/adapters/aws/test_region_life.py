"""A deployed region as CloudFormation and CloudWatch describe it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from metering.adapters.aws.fleet.cloudformation import _first_failure
from metering.adapters.aws.fleet.deployed_regions import DeployedRegions
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
    sns: Any = None
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


def test_every_page_of_a_functions_mappings_is_read() -> None:
    [(cloudformation, stacks), (lambda_, functions)] = (next(stubbed(name)) for name in ("cloudformation", "lambda"))
    stack = {"StackName": "metering-prod-pipeline", "CreationTime": datetime(2026, 1, 1, tzinfo=UTC)}
    output = {"OutputKey": "AggregatorFunctionName", "OutputValue": "aggregator"}
    described = {**stack, "StackStatus": "CREATE_COMPLETE", "Outputs": [output]}
    regions = DeployedRegions(
        lambda _: cast("Clients", StubbedClients(cloudformation=cloudformation, lambda_=lambda_)), stage="prod"
    )
    with stacks, functions:
        stacks.add_response("describe_stacks", {"Stacks": [described]})
        functions.add_response(
            "list_event_source_mappings", {"EventSourceMappings": [], "NextMarker": "m"}, {"FunctionName": "aggregator"}
        )
        functions.add_response(
            "list_event_source_mappings",
            {"EventSourceMappings": [{"UUID": "u" * 36, "State": "Enabled"}]},
            {"FunctionName": "aggregator", "Marker": "m"},
        )
        assert regions.intake("us-east-1") == "Enabled"


def test_the_reason_of_a_failed_deployment_is_its_own_first_one_on_whatever_page() -> None:
    client, stubber = next(stubbed("cloudformation"))
    with stubber:
        stubber.add_response(
            "describe_stack_events",
            {
                "StackEvents": [event("s", "UPDATE_ROLLBACK_COMPLETE"), event("b", "UPDATE_FAILED", "second")],
                "NextToken": "n",
            },
        )
        older = [
            event("a", "UPDATE_FAILED", "first"),
            event("s", "UPDATE_IN_PROGRESS"),
            event("c", "UPDATE_FAILED", "of an earlier deployment"),
        ]
        stubber.add_response("describe_stack_events", {"StackEvents": older}, {"StackName": "s", "NextToken": "n"})
        assert _first_failure(client, "s", "unknown") == "a: first"


def event(resource: str, status: str, reason: str = "") -> dict[str, Any]:
    return {
        "StackId": "id-of-s",
        "EventId": f"{resource}-{status}",
        "StackName": "s",
        "LogicalResourceId": resource,
        "PhysicalResourceId": f"id-of-{resource}",
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
        "Timestamp": datetime(2026, 1, 1, tzinfo=UTC),
    }


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
        "list_event_source_mappings": {"EventSourceMappings": []},
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
