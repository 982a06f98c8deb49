"""The regions of the lively stage, as the commands that build and remove regions see them: a fleet of real parts.

Only AWS is in memory: the account, CloudFormation, the CDK, and the parts that run in a region.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from metering.fleet.ports import Deployment, Release, StackResource, StackStatus
from metering.fleet.regions import Phase, RegionState, Step
from metering.fleet.settings.bases import flat
from metering.fleet.settings.layers import Asked, Planned, StageTable, planned
from metering.fleet.steps import FleetPorts
from metering.ledger.format_version import FORMAT_VERSION
from metering.wiring.fleet import Fleet
from tests.cli.lively import REGION, Lively
from tests.support.lake_world import NOW_S
from tests.support.memory.regions import STACKS, MemoryAccount, MemoryDeployedSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.settings import StageSettings
    from metering.stores.items import ItemStore

BEFORE = Release(version="0.2.0", data_format=FORMAT_VERSION, commit="7d1c04e")
NOW = Release(version="0.3.0", data_format=FORMAT_VERSION, commit="b95f2aa")

_DEPLOYED = """\
[stage.local]
max_concurrency = 20
rollout.allow = ["us-*", "eu-*", "ap-*"]

[[stage.local.subscriptions]]
severity = "page"
protocol = "email"
endpoint = "oncall@example.com"
"""
_TICKETS = """
[[stage.local.subscriptions]]
severity = "ticket"
protocol = "sqs"
endpoint = "arn:aws:sqs:us-east-1:111122223333:tickets"

[stage.emea]
like = "prod"
lake_retention_days = 365
"""
# Working folder of the commands: settings of the next deployment, and of the last one.
FILES = {"metering.toml": _DEPLOYED.replace("20", "40") + _TICKETS, "deployed.toml": _DEPLOYED}


class LivelyAccount(MemoryAccount):
    """Account with four regions, whose deployed regions also return their settings."""

    def __init__(self) -> None:
        listed = {"us-east-1": "ENABLED_BY_DEFAULT", "eu-west-1": "ENABLED", "sa-east-1": "ENABLED"}
        super().__init__({**listed, "me-south-1": "DISABLED"})
        self.settings = MemoryDeployedSettings()
        self.settings_of: Callable[[str], Planned] | None = None

    def deploy(self, deployment: Deployment) -> None:
        super().deploy(deployment)
        if self.settings_of is not None:
            brought = self.settings_of(deployment.region)
            self.settings.documents[deployment.region] = brought.config.published(brought.given)

    def published(self, region: str) -> StageSettings | None:
        return self.settings.published(region)

    def subscriptions(self, region: str) -> Sequence[Mapping[str, str]]:
        return self.settings.subscriptions(region)


@dataclass(frozen=True, kw_only=True)
class LivelyFleet(Fleet):
    """Fleet over that account, with its states in the lively region's ledger."""

    lively: Lively
    account: LivelyAccount = field(default_factory=LivelyAccount)

    @cached_property
    def deployed(self) -> LivelyAccount:  # type: ignore[override]  # as much of it as is used
        return self.account

    @cached_property
    def ports(self) -> FleetPorts:
        self.account.settings_of = self.settings.of
        return FleetPorts(
            account=self.account, stacks=self.account, builder=self.account, probe=self.account,
            deployed=self.account, clock=self.lively.world.clock, rules=self.rules,
            no_pager=self.no_pager,
        )  # fmt: skip

    def caller(self) -> str:
        return self.lively.caller()

    def home_items(self) -> ItemStore:
        return self.lively.world.items


def lively_account(region: Lively) -> LivelyAccount:
    """Four regions: ready, failed, missing and out of service."""
    account = LivelyAccount()
    values = flat(tomllib.loads(_DEPLOYED)["stage"]["local"])
    table = StageTable(place="metering.toml [stage.local]", like="local", values=values)
    given = planned(Asked(stage="local", table=table, options={"tunables.shards": 2, "lake_retention_days": 400}), None)
    account.settings.documents |= dict.fromkeys((REGION, "eu-west-1"), given.config.published(given.given))
    fleet = LivelyFleet(
        asked=Asked(stage="local"), home=REGION, endpoint=None, environ={}, no_pager=True, lively=region,
        account=account,
    )  # fmt: skip
    account.outputs = BEFORE.outputs
    fleet.manager.add(REGION)
    account.subscribers[REGION] = 2
    data = StackStatus(name=STACKS.data, status="CREATE_COMPLETE", outputs=BEFORE.outputs)
    account.found["eu-west-1", STACKS.data] = data
    account.retained = _resources()
    account.outputs = NOW.outputs
    fleet.states.save(
        RegionState(
            region="eu-west-1",
            phase=Phase.FAILED,
            step=Step.DEPLOY,
            reason="metering-local-pipeline is ROLLBACK_COMPLETE: it needs 102 concurrent executions, and has 10",
            advice="Raise the quota of concurrent executions in eu-west-1, then: metering region add eu-west-1",
            left_out=("analytics",),
            attempts=2,
            listed=True,
            updated_s=NOW_S - 3_600,
        )
    )
    return account


def _resources() -> dict[str, list[StackResource]]:
    """Resources that an uninstall lists: some are retained with their stack, and some are orphans."""
    key = "4f0e2c1a-58b7-4d0e-9a57-2f1d3c6b8e90"
    data = [
        StackResource(kind="AWS::S3::Bucket", name="metering-local-data-bucket43879c71-x1k9q0v7r2m4", retained=False),
        StackResource(kind="AWS::DynamoDB::GlobalTable", name="metering-local-data-ledger8d1f-1Q2W3E4R", retained=True),
        StackResource(kind="AWS::KMS::Key", name=key, retained=True),
    ]
    log = StackResource(kind="AWS::Logs::LogGroup", name="/metering/local/aggregator", retained=True)
    return {STACKS.data: data, STACKS.pipeline: [log]}
