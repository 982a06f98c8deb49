"""Policies: each role may do what its code does, and nothing else."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns

from infra.app import check
from metering.fleet.stage import StageConfig
from metering.intake.senders import decode_services
from metering.ledger.format_version import check_format, remember_format
from metering.ledger.notes.access import refused_sender_item
from metering.ledger.notes.deeds import Consent, Deed, DeedState
from metering.ledger.notes.reconciliation import Ruling, RulingKind, SourceState
from metering.ledger.notes.watch import Completeness
from metering.operations.canary import Canary
from metering.operations.logged_errors import FIRST_MONTH_S, DeedTrail
from metering.settings import AggregatorSettings
from metering.stores.writes import ItemStore, Put, Table
from metering.units import DAY_S
from metering.wiring.jobs import LakeJobs
from tests.infra.support.calls import Call, heard_items, heard_objects
from tests.infra.support.models import holds, listed
from tests.infra.support.synthesis import STAGE_NAMES, Synthesised, app_of, synthesised
from tests.infra.test_api import DOMAIN
from tests.infra.test_grants import Grants
from tests.infra.test_log_sources import SOURCES
from tests.simulation.history import History
from tests.simulation.region.ports import Process
from tests.simulation.scenario import NOW_MS
from tests.support.stage import STAGE, settings
from tests.support.watched import WatchedRegion

# Each role may do what its code does: calls of whole histories, compared with the templates of real stages. Emulators
# do not check `dynamodb:LeadingKeys`, so only this test shows that a note's partition is writable for its writer.

_SEEDS = range(30)
# Roles, any of which may run a given process of a history. There are several roles, because people run the jobs, too.
_ROLES_OF = {
    "worker": ("Aggregator",),
    "compactor": ("Compactor", "Operator"),
    "cleaner": ("Compactor", "Operator"),
    "orphans": ("Compactor", "Operator"),
    "rollup": ("Rollup", "Operator"),
    "reconciler": ("Reconciler", "Operator"),
    "run checker": ("Reconciler", "Operator"),
    "reader": ("Reader", "Operator", "Canary"),
    "reader of now": ("Reader", "Operator"),
    "repair": ("Operator",),
    "closer": ("Operator",),
}
_ROLES = {
    "Aggregator": ("pipeline", "AggregatorRole"),
    "Compactor": ("pipeline", "CompactorRole"),
    "Rollup": ("pipeline", "RollupRole"),
    "Reconciler": ("pipeline", "ReconcilerRole"),
    "Canary": ("pipeline", "CanaryRole"),
    "Watch": ("pipeline", "WatchRole"),
    "Reader": ("data", "RolesReader"),
    "Operator": ("data", "RolesOperator"),
}
_NOW_S = NOW_MS // 1000


class _Ear:
    """Calls by role."""

    def __init__(self) -> None:
        self.calls: dict[str, set[Call]] = defaultdict(set)

    def listen(self, process: Process) -> None:
        for role in _ROLES_OF.get(process.name.rstrip(" 0123456789"), ()):
            process.items = heard_items(process.items, self.calls[role])  # type: ignore[assignment]  # the same port
            process.objects = heard_objects(process.objects, self.calls[role])  # type: ignore[assignment]  # the same port


class _Region(WatchedRegion):
    """An idle region with one queued message, for the roles that no other scenario covers."""

    def __init__(self, ear: _Ear) -> None:
        super().__init__(now_s=_NOW_S)
        self._ear = ear
        self.age_s = 60
        self.ingest.send_many(["a"])

    def by(self, role: str) -> ItemStore:
        return heard_items(self.items, self._ear.calls[role])

    def jobs(self, role: str, **changes: object) -> LakeJobs:
        objects = heard_objects(self.objects, self._ear.calls[role])
        return replace(
            self.parts(), items=self.by(role), objects=objects, settings=settings(shards=2, **changes)
        ).jobs()

    def open(self) -> None:
        """Every role reads the data format; the aggregator writes it once."""
        for role in _ROLES:
            check_format(self.by(role))
            if role == "Aggregator":
                remember_format(self.by(role), written_by="0.1.0", usage_generation=2, drop_identity="etag")

    def look(self) -> None:
        """Run the watch twice, because it compares each measurement with the previous one."""
        freshness = replace(self.freshness, items=self.by("Watch"))
        for _ in range(2):
            assert replace(self.watch, items=self.by("Watch"), freshness=freshness).run()

    def report(self, role: str) -> None:
        """Measure a report's completeness before the watch's first run."""
        assert replace(self.freshness, items=self.by(role)).measure()

    def rule(self) -> None:
        """Order that a source be forgotten; reconciler ticks with and without a scan carry the order out."""
        source = SourceState(source_id="edge-1", last_sequence=7, last_seen_s=_NOW_S)
        self.items.put(Put(table=Table.LEDGER, item={**source.to_item(), "last_ms": 1, "noticed": []}))
        for scan_every_s in (0, DAY_S):
            self.clock.advance_s(1)
            now_ms, expires_s = self.clock.now_ms(), _NOW_S + DAY_S
            ruling = Ruling(source_id="edge-1", kind=RulingKind.FORGET, at_ms=now_ms, by="me", expires_at=expires_s)
            self.by("Operator").put(Put(table=Table.LEDGER, item=ruling.to_item()))
            tick = self.jobs("Reconciler", scan_every_s=scan_every_s).reconcile_tick
            assert tick.run(self.deadline()).scanned is (scan_every_s == 0)

    def deed(self) -> None:
        """Write a deed of an operator to the audit trail."""
        trail = DeedTrail(items=self.by("Operator"))
        begun = Deed(
            deed_id="1",
            at_ms=1000 * FIRST_MONTH_S,
            what="dlq redrive",
            subject="",
            consequence="",
            who="me",
            stage="prod",
            region="us-east-1",
            version="0.1.0",
            consent=Consent.YES,
        )
        trail.begin(begun)
        trail.end(begun, state=DeedState.OK, ended_ms=begun.at_ms, result="")

    def drop(self) -> None:
        """Check an object without an event, because otherwise the check does not read the ledger."""
        self.objects.upload("drop/edge/a.ndjson", b"")
        self.clock.advance_s(DAY_S)
        now_s = self.clock.now_ms() // 1_000
        self.put(Completeness(through_s=now_s, measured_s=now_s))
        # If senders are refused, quarantine is read, too.
        self.items.put(Put(table=Table.LEDGER, item=refused_sender_item("AROA:other", now_s)))
        assert self.jobs("Reconciler").drop_check.run(self.deadline()).count == 1
        assert self.jobs("Reader").drop_check.look(since_s=0)
        assert self.jobs("Operator").drop_check.look(since_s=0)

    def canary(self) -> None:
        canary = Canary(
            items=self.by("Canary"),
            queue=self.ingest,
            view=self.jobs("Canary").view,
            usage=self.jobs("Canary").usage_reading,
            rollup_every_s=STAGE.rollup_every_s,
            clock=self.clock,
            region="us-east-1",
        )
        assert canary.run(self.deadline())


@cache
def heard() -> Mapping[str, frozenset[Call]]:
    """Calls that the code of each role makes."""
    ear = _Ear()
    for seed in _SEEDS:
        history = History(seed, dropped_faults=(), dropped_batches=())
        history.world.listen = ear.listen
        history.run()
        history.world.end()
    region = _Region(ear)
    region.open()
    region.report("Reader")
    region.report("Operator")
    region.look()
    region.rule()
    region.deed()
    region.canary()
    region.drop()
    return {role: frozenset(calls) for role, calls in ear.calls.items()}


def _allowed(grants: Grants, call: Call) -> bool:
    if call.action == "s3:ListBucket":
        return grants.may_list(call.place)
    if call.action.startswith("s3:"):
        return any(call.place.startswith(prefix) for prefix in grants.prefixes(call.action))
    return grants.may_write(call.action, call.resource, call.place)


@pytest.mark.parametrize("stage", ["dev", "prod"])
@pytest.mark.parametrize("role", sorted(_ROLES))
def test_a_role_may_do_all_that_its_code_does(role: str, stage: str) -> None:
    grants = Grants(synthesised(stage), *_ROLES[role])
    assert [call for call in sorted(heard()[role]) if not _allowed(grants, call)] == []


@pytest.mark.parametrize(("role", "partitions"), [
    ("Aggregator", {"B", "C", "U", "S#shards", "S#format", "W#held", "W#conflict"}),
    ("Compactor", {"P", "H", "R", "C", "W#lake", "W#cleaning"}),
    ("Rollup", {"U", "P", "H", "R", "D"}),
    ("Reconciler", {"W#source", "W#sources", "W#reconcile", "W#worklist", "W#drops"}),
    ("Watch", {"W#watch", "W#complete", "W#queues"}),
    ("Canary", {"W#canary"}),
    ("Operator", {"W#ruling", "W#deed-2026-11", "T"}),
])  # fmt: skip
def test_the_histories_write_what_each_role_is_there_to_write(role: str, partitions: set[str]) -> None:
    writes = ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem")
    asked = {call.place for call in heard()[role] if call.action in writes and call.resource == "LedgerTable"}
    assert partitions <= {pk if pk[0] in "WS" else pk[0] for pk in asked}


def test_a_grant_for_another_partition_would_be_seen() -> None:
    grants = Grants(synthesised("prod"), *_ROLES["Watch"])
    for statement in grants.statements:
        if "dynamodb:PutItem" in statement["Action"]:
            statement["Condition"] = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["W#watch"]}}
    denied = {call.place for call in heard()["Watch"] if not _allowed(grants, call)}
    assert denied == {"W#complete", "W#figures", "W#queues"}


# The policies in docs/contract/producers.md work as described, and allow no more than the stack's own role does.

_CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "contract" / "producers.md"
_BUCKET = "arn:aws:s3:::metering-prod-data-bucket"
_QUEUE = "arn:aws:sqs:us-east-1:111122223333:metering-prod-data-IngestQueue"


def section() -> str:
    return _CONTRACT.read_text().partition("## Who is trusted\n")[2].partition("\n## ")[0]


def policies() -> list[dict[str, Any]]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section(), re.DOTALL)]


def allows(policy: dict[str, Any], action: str, resource: str) -> bool:
    return any(
        statement["Effect"] == "Allow"
        and action in listed(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
        for statement in policy["Statement"]
    )


def test_the_section_has_a_permission_and_a_trust_policy_that_iam_would_take() -> None:
    permission, trust = policies()
    assert list(iam.PolicyDocument.from_json(permission).validate_for_identity_policy()) == []
    assert list(iam.PolicyDocument.from_json(trust).validate_for_any_policy()) == []
    # A trust policy applies to its own role, so the policy names no resource.
    assert [sorted(statement) for statement in trust["Statement"]] == [
        ["Action", "Condition", "Effect", "Principal", "Sid"]
    ]


@pytest.mark.parametrize(("action", "resource", "allowed"), [
    ("sqs:SendMessage", _QUEUE, True),
    ("s3:PutObject", f"{_BUCKET}/ingest/edge-7f3a/a.ndjson", True),
    ("s3:PutObject", f"{_BUCKET}/drop/edge-7f3a/2026/a.parquet", True),
    ("s3:PutObject", f"{_BUCKET}/ingest/edge-7f3b/a.ndjson", False),
    ("s3:PutObject", f"{_BUCKET}/ingest/edge-7f3a-2/a.ndjson", False),
    ("s3:PutObject", f"{_BUCKET}/lake/a.parquet", False),
    ("s3:GetObject", f"{_BUCKET}/ingest/edge-7f3a/a.ndjson", False),
    ("s3:ListBucket", _BUCKET, False),
    ("sqs:ReceiveMessage", _QUEUE, False),
    ("sts:AssumeRole", "arn:aws:iam::111122223333:role/metering-producer", False),
])  # fmt: skip
def test_a_bound_producer_sends_and_puts_below_its_prefix_alone(action: str, resource: str, allowed: bool) -> None:
    assert allows(policies()[0], action, resource) is allowed


def test_a_bound_producer_may_do_nothing_that_the_shared_role_may_not() -> None:
    shared = {
        action
        for name, policy in synthesised("prod").policies("data").items()
        if name.startswith("RolesProducer")
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        for action in listed(statement["Action"])
    }
    bound = {action for statement in policies()[0]["Statement"] for action in listed(statement["Action"])}
    assert bound == shared - {"cloudformation:DescribeStacks"}


@pytest.mark.parametrize(("name", "taken"), [("edge-7f3a", True), ("edge-7f3b", False), (None, False)])
def test_the_role_is_taken_under_its_own_name_only(name: str | None, taken: bool) -> None:
    [statement] = policies()[1]["Statement"]
    context = {} if name is None else {"sts:RoleSessionName": name}
    assert statement["Principal"] == {"AWS": "arn:aws:iam::444455556666:role/edge-7f3a-workload"}
    assert holds(statement["Condition"], context) is taken


def test_a_policy_that_named_no_prefix_would_be_seen() -> None:
    wide = json.loads(json.dumps(policies()[0]).replace("/edge-7f3a/*", "/*"))
    assert allows(wide, "s3:PutObject", f"{_BUCKET}/ingest/edge-7f3b/a.ndjson")


# Registered producers: the stacks pass the service's own senders to the aggregator; only it checks senders.

# One stage on an emulator and one stage on AWS represent all other stages.
STAGES = ("local", "prod")
REGISTERED: dict[str, Any] = {"producers": "registered"}


def environments(synth: Synthesised) -> dict[str, dict[str, Any]]:
    functions = synth.resources("pipeline", "AWS::Lambda::Function")
    return {name: each["Properties"]["Environment"]["Variables"] for name, each in functions.items()}


def filled(value: Any) -> str:
    """Text of a template value after CloudFormation's substitutions; a role's id becomes the role's logical id."""
    if isinstance(value, str):
        return value
    if "Fn::Join" in value:
        return "".join(filled(each) for each in value["Fn::Join"][1])
    if "Fn::GetAtt" in value:
        name, attribute = value["Fn::GetAtt"]
        assert attribute == "RoleId"
        return str(name)
    return json.dumps(value["Fn::ImportValue"]).strip('"')


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_open_has_no_senders(stage: str) -> None:
    assert "SENDERS" not in json.dumps(synthesised(stage).templates["pipeline"])
    assert "ServiceSenders" not in synthesised(stage).templates["pipeline"]["Outputs"]


@pytest.mark.parametrize("sources", [[], SOURCES], ids=["without on-ramp", "with on-ramp"])
@pytest.mark.parametrize("stage", STAGES)
def test_the_aggregator_alone_knows_operator_canary_and_on_ramp(stage: str, sources: list[dict[str, Any]]) -> None:
    synth = synthesised(stage, overrides=json.dumps({**REGISTERED, "log_sources": sources}))
    found = environments(synth)
    (judging,) = [name for name, variables in found.items() if "METERING_SENDERS" in variables]
    assert judging.startswith("Aggregator")
    text = filled(found[judging]["METERING_SENDERS"])
    services = decode_services(text)
    roles = synth.resources("pipeline", "AWS::IAM::Role")
    assert services.canary.startswith("CanaryRole")
    assert services.canary in roles
    assert (services.onramp in roles) == bool(sources)
    assert services.onramp.startswith("LogSourcesOnrampRole" if sources else "")
    (operator,) = services.operators
    assert "RolesOperator" in operator
    assert filled(synth.templates["pipeline"]["Outputs"]["ServiceSenders"]["Value"]) == text
    given = {name: value if isinstance(value, str) else "made" for name, value in found[judging].items()}
    assert AggregatorSettings.from_env(given | {"METERING_SENDERS": text}).senders == text


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_can_be_opened_again_since_the_data_stack_stays_as_it_is(stage: str) -> None:
    registered = synthesised(stage, overrides=json.dumps(REGISTERED))
    outputs = [each.templates["data"]["Outputs"] for each in (synthesised(stage), registered)]
    exports = [{name for name, output in each.items() if "Export" in output} for each in outputs]
    assert exports[0] == exports[1]
    (role_id,) = [name for name in exports[0] if name.startswith("ExportsOutputFnGetAtt") and "RoleId" in name]
    assert "RolesOperator" in role_id


_PRODS: list[dict[str, Any]] = [
    {"api": True}, DOMAIN, REGISTERED, {"rollout_project": True},
    {"tracing": True, "trusted_accounts": ["210987654321"], "architecture": "x86_64"},
    {"replicate_to": "acme-copy-{region}"},
]  # fmt: skip
_EACH: list[dict[str, Any]] = [{}, {"log_sources": SOURCES}]


@pytest.mark.parametrize(
    ("stage", "changes"),
    [*((stage, each) for stage in STAGE_NAMES for each in _EACH), *(("prod", each) for each in _PRODS)],
    ids=lambda each: each if isinstance(each, str) else "+".join(each) or "plain",
)
def test_every_finding_is_acknowledged(stage: str, changes: dict[str, Any]) -> None:
    app, _ = app_of(StageConfig.load(stage, changes))
    check(app)
    app.synth()


def test_a_finding_that_nobody_acknowledged_stops_the_synthesis() -> None:
    app, region = app_of(StageConfig.load("local"))
    check(app)
    sns.Topic(region.data, "InTheOpen")
    with pytest.raises(RuntimeError, match="AwsSolutions-SNS3"):
        app.synth()
