"""A deployed region as CloudFormation and CloudWatch describe it."""

from __future__ import annotations

from dataclasses import dataclass
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

    cloudwatch: Any


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
