"""An in-memory region with examples of every kind of data, and its fleet, for the command line's commands.

In-memory substitutes replace only the fleet's AWS parts: the account, CloudFormation, the CDK, a region's functions.
"""

from __future__ import annotations

import json
import tomllib
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING

from metering.fleet.ports import Deployment, Release, StackResource, StackStatus
from metering.fleet.regions import Phase, RegionState, Step
from metering.fleet.settings.bases import flat
from metering.fleet.settings.layers import Asked, Planned, StageTable, planned
from metering.fleet.steps import FleetPorts
from metering.ledger.format_version import FORMAT_VERSION
from metering.ledger.notes.access import Role
from metering.ledger.notes.deeds import Consent, Deed, DeedState
from metering.ledger.usage.kinds import KindNames
from metering.onramps.coverage.looking import SLOT_S
from metering.onramps.reading import Balance
from metering.onramps.sources import LogSource
from metering.operations.access import ProducerBook, TokenBook
from metering.operations.alarms import ALARMS, alarm_name
from metering.operations.logged_errors import AlarmState, DeedTrail, LoggedLine, Subscriber
from metering.stores.queues import Redelivery
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.wiring.fleet import Fleet
from metering.wiring.onramps import build_coverage
from tests.support.lake_world import NOW_S, World, record
from tests.support.memory.clock import MemoryAlerts
from tests.support.memory.queues import MemoryBucketEvents, MemoryQueue
from tests.support.memory.regions import STACKS, MemoryAccount, MemoryDeployedSettings, MemoryProducerRoles
from tests.unit.onramps.coverage.world import ACCOUNT, plan
from tests.unit.restore.world import Parts
from tests.unit.restore.world import World as RestoreWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.intake.senders import ServiceSenders
    from metering.onramps.coverage.job import CoverageJob
    from metering.onramps.plans import Plan
    from metering.settings import StageSettings
    from metering.stores.writes import ItemStore

REGION = "us-east-1"
_RETENTION_S = 14 * DAY_S
LOG_SOURCES = (LogSource(name="network", bucket="acme-logs", region=REGION, prefix="AWSLogs/", billed_as="named"),)
_CALM = SimpleNamespace(
    oldest_age_s=lambda: 0, longest_retention_s=lambda: _RETENTION_S, dead_letter_retention_s=lambda: _RETENTION_S,
    redelivery=lambda: Redelivery(visibility_s=6 * 15 * MINUTE_S, max_receives=5),
)  # fmt: skip
_MORE = ("lines", "refused", "refused_bytes", "stated_bytes")
_OF_ITS_WORLD = ("items", "objects", "clock", "entropy", "jobs")
_FIRING = ("dead-letters", "oldest-message")


class PagedAlerts(MemoryAlerts):
    def subscribers(self, severity: str) -> Sequence[Subscriber]:
        address = "https://events.pagerduty.com/integration/0123456789abcdef0123456789abcdef/enqueue"
        pagers = (
            Subscriber(protocol="email", endpoint="oncall@example.com", confirmed=True),
            Subscriber(protocol="https", endpoint=address, confirmed=False),
        )
        return pagers if severity == "page" else ()


@dataclass(frozen=True)
class Logs:
    """Function logs with two kinds of errors: a repeated error with ids, and the error of a killed process."""

    @property
    def functions(self) -> Sequence[str]:
        return ["aggregator", "canary", "compactor", "reconciler", "rollup", "watch"]

    def errors(self, functions: Sequence[str], *, from_s: int, to_s: int, limit: int) -> Sequence[LoggedLine]:
        del from_s, limit
        refused = "The object cannot be read: NoSuchKey: The specified key does not exist."
        text = json.dumps({"level": "ERROR", "message": refused, "version": "0.2.0"})
        request_id = "f2a9d3c4-11de-4b7a-8a55-90b1c2d3e4f5"
        killed = f"2026-11-24T13:15:00.000Z {request_id} Task timed out after 60.00 seconds"
        lines = [
            *(("aggregator", 600 + 60 * n, text, f"8c7e1a52-6a0f-4d6f-9d1e-0c2b5a7f4e{n:02}") for n in range(7)),
            ("compactor", 900, killed, request_id),
        ]
        return [
            LoggedLine(function=function, at_ms=(to_s - ago_s) * 1000, text=text, request_id=request_id)
            for function, ago_s, text, request_id in lines
            if function in functions
        ]


@dataclass(frozen=True)
class Lively:
    """A connection to the region, like `RegionConnection`."""

    world: World = field(default_factory=World)
    region: str = REGION
    stage: str = "local"
    version: str = "0.1.0"
    services: ServiceSenders | None = None
    emulated: bool = False

    items, objects, clock, entropy, jobs = (property(attrgetter(f"world.{name}")) for name in _OF_ITS_WORLD)
    settings = names = property(attrgetter("world.settings"))
    view = property(attrgetter("world.jobs.view"))
    function_logs = property(lambda _self: Logs())
    queue_facts = _CALM
    log_sources = property(lambda _self: LOG_SOURCES)

    def on_demand(self, _say: object) -> nullcontext[None]:
        return nullcontext()

    @cached_property
    def producer_roles(self) -> MemoryProducerRoles:
        return MemoryProducerRoles()

    @cached_property
    def dead_letters(self) -> MemoryQueue:
        return MemoryQueue(self.world.clock, name="dead")

    @cached_property
    def ingest(self) -> MemoryQueue:
        return MemoryQueue(self.world.clock, name="ingest", dead=self.dead_letters)

    @cached_property
    def alerts(self) -> PagedAlerts:
        return PagedAlerts()

    @cached_property
    def kind_names(self) -> KindNames:
        return KindNames(self.world.items)

    @cached_property
    def restoring(self) -> Parts:
        world = RestoreWorld()
        world.place = f"--stage {self.stage} --region {self.region}"
        return Parts(world)

    @property
    def alarms(self) -> object:
        names = {alarm_name(self.stage, spec.name): spec.name for spec in ALARMS}
        states = [
            AlarmState(name=name, arn=f"arn:{name}", state="ALARM" if short in _FIRING else "OK")
            for name, short in names.items()
        ]
        return SimpleNamespace(states=lambda: states)

    @cached_property
    def dead_log_files(self) -> MemoryQueue:
        return MemoryQueue(self.world.clock, name="dead-logs")

    @property
    def onramp(self) -> object | None:
        """Its log queues. None while there are no dead log events: then only commands meter files."""
        dead = self.dead_log_files
        return SimpleNamespace(events=MemoryQueue(self.world.clock), dead=dead) if dead.depth().total else None

    @property
    def coverage(self) -> CoverageJob:
        return build_coverage(self, self.log_sources)

    @cached_property
    def bucket_events(self) -> MemoryBucketEvents:
        return MemoryBucketEvents({LOG_SOURCES[0].bucket: {}}, region=self.region)

    def read_only(self) -> Lively:
        return self

    def make_tokens(self) -> None:
        """Create tokens of every role: one valid, one expired, and one revoked."""
        day = TokenBook(items=self.world.items, clock=self.world.clock, draw=self._draw)
        accounts = ["123456789012", "210987654321"]
        self.world.clock.advance_s(-40 * DAY_S)
        day.create(role=Role.CUSTOMER, accounts=accounts, life_s=30 * DAY_S, made_by=self.caller(), label="Acme")
        self.world.clock.advance_s(39 * DAY_S)
        revoked = day.create(role=Role.OPERATOR, accounts=None, life_s=DAY_S, made_by=self.caller())
        self.world.clock.advance_s(DAY_S)
        day.revoke(revoked.stored.token_id, revoked_by=self.caller())
        day.create(role=Role.ANALYST, accounts=None, life_s=366 * DAY_S, made_by=self.caller(), label="finance")

    def _draw(self, size: int) -> bytes:
        return bytes.fromhex(self.world.entropy.token() * 2)[:size]

    def caller(self) -> str:
        return "arn:aws:sts::123456789012:assumed-role/MeteringOperator/somebody@example.com"

    def caller_id(self) -> str:
        return "AROAOPERATOR:somebody"

    def work(self) -> None:
        """Let the worker process the ingest queue, and let the roll-up process the resulting commits."""
        while received := self.ingest.receive(10):
            deliveries = [each.delivery for each in received]
            failed = set(self.world.aggregator.handle(deliveries, self.world.deadline()).retry)
            self.ingest.delete_many([each.receipt for each in received if each.delivery.message_id not in failed])
        self.world.roll_up()

    def register(self, name: str) -> None:
        book = ProducerBook(items=self.world.items, roles=self.producer_roles, clock=self.world.clock)
        book.add(name, accounts=None, trusted_arn="", registered_by=self.caller())

    def lose_a_letter(self, batch_id: str) -> None:
        """Put a batch into the dead-letter queue, as if every receive had failed."""
        body = {"schema": "metering.batch/1", "batch_id": batch_id, "record_count": 1, "records": [record(7)]}
        sent_at_ms = (NOW_S - 3 * DAY_S) * 1000
        self.dead_letters.put_dead("6b1f0f0e-7c6e-4f5e-9d5b-0a3f1c2d3e4f", json.dumps(body), sent_at_ms, 5, "AIDATEST")

    def lose_log_files(self) -> None:
        """Put two log file events into the dead-letter queue: of a flow log before any context, and of no log file."""
        name = f"{ACCOUNT}_vpcflowlogs_{REGION}_fl-0a1b2c3d4e5f60718_20261124T1135Z_1a2b3c4d.log.gz"
        for number, key in enumerate((f"AWSLogs/{ACCOUNT}/vpcflowlogs/{REGION}/2026/11/24/{name}", "notes/today.txt")):
            detail = {"bucket": {"name": "acme-logs"}, "object": {"key": key, "etag": "1a2b"}}
            body = json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail})
            sent_at_ms = (NOW_S - (2 - number) * HOUR_S) * 1000
            self.dead_log_files.put_dead(f"7c2f0f0e-7c6e-4f5e-9d5b-0a3f1c2d3e4{number}", body, sent_at_ms, 5, "events")

    def deliver_logs(self) -> None:
        """Deliver files of three flow logs: one complete, one with gaps and refused lines, one that ended hours ago."""
        end_s = NOW_S - NOW_S % SLOT_S
        gaps = {end_s - 2 * HOUR_S, end_s - 90 * MINUTE_S, end_s - 85 * MINUTE_S}
        for number in range(3, 6 * 12):
            slot_s = end_s - number * SLOT_S
            self._plan(plan(slot_s))
            if slot_s not in gaps:
                refused = (("account_not_allowed", 1, 9),)
                more = Balance(lines=11, refused=1, refused_bytes=9, stated_bytes=649)
                shadowed = (("fl-0never00000000000", 3, 4_000_000),)
                whole = plan(slot_s, log="fl-0b1b2c3d4e5f60719")
                balance = replace(whole.balance, **{name: getattr(more, name) for name in _MORE})
                self._plan(replace(whole, balance=balance, refusals=refused, shadowed=shadowed))
            if number > 4 * 12:
                self._plan(plan(slot_s, log="fl-0c1b2c3d4e5f60720"))

    def _plan(self, made: Plan) -> None:
        self.world.objects.put(made.key, made.to_json(), if_absent=True)

    def leave_a_trail(self) -> None:
        """Record operators' deeds: a successful deed, a failed deed, and an unfinished deed."""
        trail = DeedTrail(items=self.world.items)
        done = (
            ("period close", "2026-10", DeedState.OK, "closed, 120 hours"),
            ("dlq redrive", "", DeedState.FAILED, "The ingest queue did not take 2 messages."),
            ("rebuild usage", "2026-11-24T13:00:00Z", DeedState.BEGUN, ""),
        )
        for hours, (what, subject, state, result) in enumerate(done):
            at_ms = (NOW_S - 5 * HOUR_S + hours * HOUR_S) * 1000
            trail.begin(
                Deed(
                    deed_id=f"4f1c9a{hours}", at_ms=at_ms, what=what, subject=subject,
                    consequence="What it does stands here, in one sentence.", who=self.caller(), stage=self.stage,
                    region=self.region, version="0.1.0", consent=Consent.TYPED, state=state,
                    ended_ms=0 if state is DeedState.BEGUN else at_ms + 61_000, result=result,
                )
            )  # fmt: skip


# Regions of the lively stage, for the commands that build and remove regions.

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
# Working folder of the commands, with the settings of the next deployment and of the last one.
FILES = {"metering.toml": _DEPLOYED.replace("20", "40") + _TICKETS, "deployed.toml": _DEPLOYED}


class LivelyAccount(MemoryAccount):
    """Account with four regions; those that are deployed also return their settings."""

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
    """Fleet over a `LivelyAccount`, with its states in the ledger of `lively`."""

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
            region="eu-west-1", phase=Phase.FAILED, step=Step.DEPLOY,
            reason="metering-local-pipeline is ROLLBACK_COMPLETE: it needs 102 concurrent executions, and has 10",
            advice="Raise the quota of concurrent executions in eu-west-1, then: metering region add eu-west-1",
            left_out=("analytics",), attempts=2, listed=True, updated_s=NOW_S - 3_600,
        )
    )  # fmt: skip
    return account


def _resources() -> dict[str, list[StackResource]]:
    """Resources that an uninstall lists: some retained with their stack, and some orphaned."""
    key = "4f0e2c1a-58b7-4d0e-9a57-2f1d3c6b8e90"
    data = [
        StackResource(kind="AWS::S3::Bucket", name="metering-local-data-bucket43879c71-x1k9q0v7r2m4", retained=False),
        StackResource(kind="AWS::DynamoDB::GlobalTable", name="metering-local-data-ledger8d1f-1Q2W3E4R", retained=True),
        StackResource(kind="AWS::KMS::Key", name=key, retained=True),
    ]
    log = StackResource(kind="AWS::Logs::LogGroup", name="/metering/local/aggregator", retained=True)
    return {STACKS.data: data, STACKS.pipeline: [log]}
