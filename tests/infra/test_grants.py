"""Permissions of each role, read from its policies in the template."""

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest

from metering.settings import Settings
from metering.stores.objects import PREFIXES
from tests.infra.support.calls import USAGE_TABLE
from tests.infra.support.models import holds, listed
from tests.infra.support.organisation import KEY
from tests.infra.support.synthesis import STAGE_NAMES, Synthesised, synthesised

READS = {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"}
WRITES = {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem"}

# One partition of each kind of item that affects totals (docs/protocol.md).
KINDS = ("B#1", "C#1", "U#0", "P#0", "H#2026-11-24T13", "R#U0", "R#L0", "D#1", "T#2026-10", "G")


class Grants:
    """The Allow statements of one role."""

    def __init__(self, stage: Synthesised, part: str, role: str) -> None:
        name = next(name for name in stage.resources(part, "AWS::IAM::Role") if name.startswith(role))
        self.statements: list[dict[str, Any]] = [
            dict(statement)
            for policy in stage.policies(part).values()
            if {"Ref": name} in policy["Properties"]["Roles"]
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        ]
        self.managed = stage.resources(part, "AWS::IAM::Role")[name]["Properties"].get("ManagedPolicyArns", [])

    def may(self, action: str, resource: str, suffix: str = "") -> bool:
        """Whether a statement allows `action` on a resource whose name contains `resource` and ends in `suffix`."""
        return any(
            fnmatchcase(action, pattern) and resource in text and (not suffix or f'"{suffix}"' in text)
            for statement in self.statements
            for pattern in listed(statement["Action"])
            for text in map(json.dumps, listed(statement["Resource"]))
        )

    def actions(self, resource: str) -> set[str]:
        """All actions that are allowed on resources whose name contains `resource`."""
        return {
            action
            for statement in self.statements
            for text in map(json.dumps, listed(statement["Resource"]))
            if resource in text
            for action in listed(statement["Action"])
        }

    def everything(self) -> set[str]:
        return {action for statement in self.statements for action in listed(statement["Action"])}

    def listed(self) -> set[str]:
        return {
            prefix.removesuffix("*")
            for statement in self.statements
            if "s3:ListBucket" in listed(statement["Action"])
            for keys in statement["Condition"].values()
            for prefix in listed(keys["s3:prefix"])
        }

    def may_list(self, prefix: str | None) -> bool:
        """Whether `s3:ListBucket` is allowed with this `s3:prefix`; None means a request without one."""
        context = {} if prefix is None else {"s3:prefix": prefix}
        return any(
            "s3:ListBucket" in listed(statement["Action"]) and holds(statement.get("Condition", {}), context)
            for statement in self.statements
        )

    def may_write(self, action: str, table: str, pk: str | None) -> bool:
        """Whether `action` is allowed on items of partition `pk`; None means a call without one."""
        context = {} if pk is None else {"dynamodb:LeadingKeys": pk}
        return any(
            action in listed(statement["Action"])
            and table in json.dumps(statement["Resource"])
            and holds(statement.get("Condition", {}), context)
            for statement in self.statements
        )

    def prefixes(self, action: str) -> set[str]:
        """Prefixes of the bucket for which an object action is allowed."""
        return {
            text.rpartition('"/')[2].partition("*")[0]
            for statement in self.statements
            if action in listed(statement["Action"])
            for text in map(json.dumps, listed(statement["Resource"]))
            # Objects of this region's bucket; other spellings are buckets of other regions.
            if '"/' in text
        }


def test_the_aggregator_commits_and_reads_what_it_is_pointed_to() -> None:
    grants = Grants(synthesised("prod"), "pipeline", "AggregatorRole")
    assert grants.actions("LedgerTable") >= READS | (WRITES - {"dynamodb:DeleteItem"})
    assert not grants.actions(USAGE_TABLE)
    for pk in ("B#1", "C#1", "U#0", "W#conflict", "W#held"):
        assert grants.may_write("dynamodb:PutItem", "LedgerTable", pk)
    assert grants.prefixes("s3:GetObject") == {"ingest/", "drop/"}
    assert grants.prefixes("s3:GetObjectVersion") == {"ingest/", "drop/"}
    assert grants.prefixes("s3:PutObject") == {"staging/", "quarantine/"}
    assert grants.may("sqs:ReceiveMessage", "IngestQueue")
    assert grants.may("sns:Publish", "TopicsPage")
    assert not grants.everything() & {"s3:DeleteObject", "sqs:SendMessage", "dynamodb:Scan"}
    assert not grants.actions("DeadLetters")


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_who_commits_deletes_no_item(stage: str) -> None:
    grants = Grants(synthesised(stage), "pipeline", "AggregatorRole")
    for pk in (*KINDS, "W#held", "W#watch", None):
        assert not grants.may_write("dynamodb:DeleteItem", "LedgerTable", pk)


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_the_compactor_deletes_what_it_published_and_no_marker_commit_run_or_period(stage: str) -> None:
    grants = Grants(synthesised(stage), "pipeline", "CompactorRole")
    allowed = {pk for pk in KINDS if grants.may_write("dynamodb:DeleteItem", "LedgerTable", pk)}
    assert allowed == {"H#2026-11-24T13", "P#0"}
    assert not grants.may_write("dynamodb:DeleteItem", "LedgerTable", None)
    assert "dynamodb:ConditionCheckItem" not in grants.everything()


def test_the_compactor_alone_deletes_and_never_in_the_lake() -> None:
    grants = Grants(synthesised("prod"), "pipeline", "CompactorRole")
    assert grants.prefixes("s3:DeleteObject") == {"staging/", "quarantine/", "runs/U"}
    assert grants.prefixes("s3:PutObject") == {"lake/", "markers/", "runs/", "summaries/"}
    assert not grants.actions(USAGE_TABLE)
    assert not grants.actions("IngestQueue")


@pytest.mark.parametrize("stage", ["dev", "prod"])
@pytest.mark.parametrize(("name", "own", "kept"), [
    ("Canary", ["W#canary"], set()),
    ("Reconciler", ["W#source", "W#reconcile", "W#worklist"], {"audit/"}),
    ("Watch", ["W#watch", "W#complete", "W#figures"], set()),
    ("Biller", ["W#biller", "W#budget-alerts"], {
        "rated/", "reports/", "notes/budget-alerts/",
        "causes/days/", "causes/names/", "causes/index/", "causes/closed/",
    }),
])  # fmt: skip
def test_who_only_looks_puts_its_own_notes_alone(stage: str, name: str, own: list[str], kept: set[str]) -> None:
    grants = Grants(synthesised(stage), "pipeline", f"{name}Role")
    for pk in own:
        assert grants.may_write("dynamodb:PutItem", "LedgerTable", pk)
    for other in (*KINDS, None, *(["W#complete"] if name == "Canary" else [])):
        assert not grants.may_write("dynamodb:PutItem", "LedgerTable", other)
    assert grants.everything() & WRITES == {"dynamodb:PutItem"}
    assert not grants.actions(USAGE_TABLE) & WRITES
    assert grants.prefixes("s3:PutObject") == kept
    assert grants.prefixes("s3:DeleteObject") == kept - {"audit/", "notes/budget-alerts/", "reports/", "causes/closed/"}


def test_who_writes_what_cannot_be_derived_also_puts_it_below_notes_and_nobody_deletes_it() -> None:
    synth = synthesised("prod")
    assert "notes/" in Grants(synth, "data", "RolesOperator").prefixes("s3:PutObject")
    for part in ("data", "pipeline"):
        for name in synth.resources(part, "AWS::IAM::Role"):
            assert not {"notes/", "ledger/", "withdrawn/"} & Grants(synth, part, name).prefixes("s3:DeleteObject")
            assert "ledger/" not in Grants(synth, part, name).prefixes("s3:PutObject")


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_the_biller_sets_no_budget_and_changes_no_price_payer_or_invoice(stage: str) -> None:
    grants = Grants(synthesised(stage), "pipeline", "BillerRole")
    for pk in ("W#budgets", "W#reports", "W#watch", "W#deed-2026-11"):
        assert not grants.may_write("dynamodb:PutItem", "LedgerTable", pk)
    # It answers saved questions, and so reads what the API reads, except for quarantine.
    assert grants.actions(USAGE_TABLE) == {"dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query"}
    assert grants.prefixes("s3:GetObject") == {
        "prices/", "organization/", "rated/", "summaries/", "runs/", "lake/", "staging/", "closed/", "invoices/",
        "reports/", "owners/", "causes/", "context/",
    }  # fmt: skip
    assert grants.may("sns:Publish", "TopicsPage")
    assert not grants.may("sns:Publish", "*")


def test_at_home_the_biller_reads_the_day_sums_of_other_regions_of_its_stage_only() -> None:
    grants = Grants(synthesised("prod"), "pipeline", "BillerRole")
    assert grants.may("s3:GetObject", ":s3:::metering-prod-data-*/rated/*")
    assert not grants.may("s3:GetObject", ":s3:::metering-prod-data-*/prices/*")
    assert not grants.may("s3:PutObject", ":s3:::metering-prod-data-*")
    assert grants.may("cloudformation:DescribeStacks", "stack/metering-prod-data/*")


def test_in_a_region_that_is_not_home_the_biller_reads_no_other_region() -> None:
    grants = Grants(synthesised("prod", region="eu-central-1"), "pipeline", "BillerRole")
    assert not grants.may("s3:GetObject", ":s3:::metering-prod-data-*/rated/*")
    assert not grants.may("cloudformation:DescribeStacks", "stack")


def test_the_reconciler_reads_the_accounts_that_the_biller_keeps_and_writes_its_own_scan_only() -> None:
    grants = Grants(synthesised("prod"), "pipeline", "ReconcilerRole")
    # Quarantine shows which dropped objects were refused for their senders.
    assert grants.prefixes("s3:GetObject") == {
        "staging/", "lake/", "summaries/", "runs/", "rated/", "audit/", "quarantine/"
    }  # fmt: skip


def test_a_grant_that_names_no_partition_would_be_seen() -> None:
    grants = Grants(synthesised("prod"), "pipeline", "CanaryRole")
    for statement in grants.statements:
        statement.pop("Condition", None)
    assert grants.may_write("dynamodb:PutItem", "LedgerTable", "B#1")


def test_the_roll_up_has_these_rights_and_no_others() -> None:
    grants = Grants(synthesised("prod"), "pipeline", "RollupRole")
    assert grants.actions("LedgerTable") == READS | WRITES | {"dynamodb:ConditionCheckItem", "dynamodb:DescribeTable"}
    assert grants.actions(USAGE_TABLE) == {
        "dynamodb:GetItem",
        "dynamodb:BatchGetItem",
        "dynamodb:Query",
        "dynamodb:UpdateItem",
    }
    assert grants.prefixes("s3:GetObject") == {"staging/", "runs/"}
    assert grants.prefixes("s3:PutObject") == {"runs/U"}
    assert not grants.prefixes("s3:DeleteObject")
    assert not grants.actions("IngestQueue")
    assert grants.may("sns:Publish", "TopicsPage")


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_the_roll_up_deletes_what_does_not_wait_any_more_and_nothing_else(stage: str) -> None:
    grants = Grants(synthesised(stage), "pipeline", "RollupRole")
    assert {pk for pk in KINDS if grants.may_write("dynamodb:DeleteItem", "LedgerTable", pk)} == {"U#0"}
    assert not grants.may_write("dynamodb:DeleteItem", "LedgerTable", None)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_the_roll_up_runs_each_minute(stage: str) -> None:
    rules = synthesised(stage).resources("pipeline", "AWS::Events::Rule").values()
    [rollup] = [rule["Properties"] for rule in rules if "rollup" in rule["Properties"]["Description"]]
    assert rollup["ScheduleExpression"] == "rate(1 minute)"


def test_the_watch_reads_and_puts_figures_and_its_own_state_only() -> None:
    grants = Grants(synthesised("prod"), "pipeline", "WatchRole")
    assert not grants.actions(USAGE_TABLE)
    assert grants.may("cloudwatch:PutMetricData", "*")
    assert grants.may("sqs:GetQueueAttributes", "DeadLetters")


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_figures_are_put_in_the_services_own_namespaces_only(stage: str) -> None:
    for policy in synthesised(stage).policies("pipeline").values():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            if "cloudwatch:PutMetricData" in listed(statement["Action"]):
                assert statement["Condition"] == {
                    "StringEquals": {"cloudwatch:namespace": ["Metering", "Metering/Watch"]}
                }


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_producer_sends_and_puts_and_reads_nothing(stage: str) -> None:
    grants = Grants(synthesised(stage), "data", "RolesProducer")
    batches = {"sqs:SendMessageBatch"} if synthesised(stage).config.emulated else set()
    assert grants.everything() == batches | {
        "sqs:SendMessage", "sqs:GetQueueUrl", "s3:PutObject", "s3:AbortMultipartUpload",
        "cloudformation:DescribeStacks",
    }  # fmt: skip
    assert grants.prefixes("s3:PutObject") == {"ingest/", "drop/"}
    assert not grants.actions("DeadLetters")


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_reader_reads_everything_that_was_counted_and_changes_nothing(stage: str) -> None:
    grants = Grants(synthesised(stage), "data", "RolesReader")
    assert grants.actions("LedgerTable") >= READS | {"dynamodb:Scan"}
    assert grants.actions(USAGE_TABLE) >= READS
    assert not grants.everything() & (WRITES | {"s3:DeleteObject", "sqs:SendMessage", "sqs:ReceiveMessage"})
    assert grants.prefixes("s3:PutObject") <= {"athena-results/"}
    assert {"lake/", "staging/", "quarantine/"} <= grants.prefixes("s3:GetObject")


MONEY = {"prices/", "organization/", "owners/", "rated/", "invoices/"}


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_operators_put_prices_payers_and_invoices_and_readers_read_them(stage: str) -> None:
    reader, operator = (Grants(synthesised(stage), "data", role) for role in ("RolesReader", "RolesOperator"))
    assert reader.prefixes("s3:GetObject") >= MONEY | {"summaries/", "closed/"}
    assert operator.prefixes("s3:PutObject") >= MONEY | {"summaries/", "closed/"}
    assert not operator.prefixes("s3:DeleteObject") & (MONEY - {"rated/"})


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_an_operator_puts_dead_letters_and_refused_batches_back(stage: str) -> None:
    grants = Grants(synthesised(stage), "data", "RolesOperator")
    assert grants.may("sqs:ReceiveMessage", "DeadLetters")
    assert grants.may("sqs:StartMessageMoveTask", "DeadLetters")
    assert grants.may("sqs:SendMessage", "IngestQueue")
    assert not grants.may("sqs:ReceiveMessage", "IngestQueue")
    assert grants.actions(USAGE_TABLE) & WRITES == {"dynamodb:UpdateItem"}
    # Like the compactor, roll-up and biller, the operator may clean up, but never in the lake.
    assert grants.prefixes("s3:DeleteObject") == {
        "staging/", "quarantine/", "runs/U", "rated/", "doctor/", "causes/days/", "causes/names/", "causes/index/",
    }  # fmt: skip


def test_an_operator_searches_the_logs_of_the_functions_and_no_others() -> None:
    policy = synthesised("prod").one("pipeline", "AWS::IAM::Policy", "LogReaders")["Properties"]
    search, results = policy["PolicyDocument"]["Statement"]
    assert search["Action"] == "logs:StartQuery"
    assert {next(iter(group)) for group in search["Resource"]} == {"Fn::GetAtt"}
    assert len(search["Resource"]) == 7
    assert (results["Action"], results["Resource"]) == ("logs:GetQueryResults", "*")
    assert "RolesOperator" in json.dumps(policy["Roles"])
    assert len(policy["Roles"]) == 1


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_listing_is_allowed_below_known_prefixes_only(stage: str) -> None:
    for part in ("data", "pipeline"):
        for policy in synthesised(stage).policies(part).values():
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                if "s3:ListBucket" in listed(statement["Action"]):
                    [keys] = statement["Condition"].values()
                    assert all(prefix.endswith("/*") for prefix in keys["s3:prefix"])


ROLES_THAT_READ_OBJECTS = (
    ("pipeline", "AggregatorRole"),
    ("pipeline", "CompactorRole"),
    ("pipeline", "RollupRole"),
    ("pipeline", "ReconcilerRole"),
    ("pipeline", "CanaryRole"),
    ("pipeline", "BillerRole"),
    ("data", "RolesReader"),
    ("data", "RolesOperator"),
)


@pytest.mark.parametrize("stage", STAGE_NAMES)
@pytest.mark.parametrize(("part", "role"), ROLES_THAT_READ_OBJECTS)
def test_who_reads_objects_is_told_that_one_is_missing(stage: str, part: str, role: str) -> None:
    """For a missing key, S3 returns 404 only to callers who may list the bucket, and checks the key as `s3:prefix`."""
    grants = Grants(synthesised(stage), part, role)
    for prefix in grants.prefixes("s3:GetObject") - {"athena-results/"}:
        assert grants.may_list(f"{prefix}2026-11-24/there-is-none")
    assert not grants.may_list("secrets/")
    # X6: a listing without a prefix showed all keys to every role.
    assert not grants.may_list(None)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_no_other_role_reads_objects_or_lists(stage: str) -> None:
    synth = synthesised(stage)
    for part in ("data", "pipeline"):
        for name in synth.resources(part, "AWS::IAM::Role"):
            grants = Grants(synth, part, name)
            known = any(part == p and name.startswith(role) for p, role in ROLES_THAT_READ_OBJECTS)
            assert known or not grants.may("s3:GetObject", "DataBucket"), name
            assert known or not grants.listed(), name


def test_a_listing_under_the_old_condition_would_be_seen() -> None:
    grants = Grants(synthesised("prod"), "pipeline", "CompactorRole")
    for statement in grants.statements:
        if "s3:ListBucket" in listed(statement["Action"]):
            statement["Condition"] = {"StringLikeIfExists": statement["Condition"]["StringLike"]}
    assert grants.may_list(None)


@pytest.mark.parametrize("stage", STAGE_NAMES)
@pytest.mark.parametrize("role", ["RolesReader", "RolesOperator"])
def test_who_reports_may_ask_for_completeness_status_and_costs_of_the_region(stage: str, role: str) -> None:
    grants = Grants(synthesised(stage), "data", role)
    # Before the watch's first run, a report measures `complete_through` itself.
    assert grants.may("cloudwatch:GetMetricStatistics", "*")
    assert grants.may("sqs:GetQueueAttributes", "IngestQueue")
    assert grants.may("sqs:GetQueueAttributes", "DeadLetters")
    # `metering status` shows alarms and the pager's subscribers as well as the watch's figures.
    assert grants.may("cloudwatch:DescribeAlarms", "*")
    assert grants.may("sns:ListSubscriptionsByTopic", "TopicsPage")
    assert grants.may("cloudformation:DescribeStacks", "metering-")
    assert grants.listed() >= set(PREFIXES)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_operators_and_no_readers_read_what_producers_left(stage: str) -> None:
    incoming = {"ingest/", "drop/"}
    assert Grants(synthesised(stage), "data", "RolesOperator").prefixes("s3:GetObject") >= incoming
    assert not Grants(synthesised(stage), "data", "RolesReader").prefixes("s3:GetObject") & incoming


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_operators_read_the_versions_that_a_worker_would_read(stage: str) -> None:
    """Otherwise `dlq list --deep` would report a change for an object that a redrive would meter."""
    worker = Grants(synthesised(stage), "pipeline", "AggregatorRole").prefixes("s3:GetObjectVersion")
    assert Grants(synthesised(stage), "data", "RolesOperator").prefixes("s3:GetObjectVersion") == worker
    assert not Grants(synthesised(stage), "data", "RolesReader").prefixes("s3:GetObjectVersion")


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_each_function_has_a_role_of_its_own_without_managed_policies(stage: str) -> None:
    synth = synthesised(stage)
    functions = synth.resources("pipeline", "AWS::Lambda::Function")
    roles = {function["Properties"]["Role"]["Fn::GetAtt"][0] for function in functions.values()}
    assert len(roles) == len(functions)
    for part in ("data", "pipeline"):
        for role in synth.resources(part, "AWS::IAM::Role").values():
            assert "ManagedPolicyArns" not in role["Properties"]


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_functions_environment_is_settings_that_it_understands(stage: str) -> None:
    for function in synthesised(stage).resources("pipeline", "AWS::Lambda::Function").values():
        variables = function["Properties"]["Environment"]["Variables"]
        given = {name: value if isinstance(value, str) else "made-by-the-stack" for name, value in variables.items()}
        settings = Settings.from_env(given)
        assert settings.stage == stage
        assert settings.marker_life_s == synthesised(stage).config.marker_life_s
        assert settings.page_topic_arn
        # An endpoint belongs to the machine on which the function runs, never to the template.
        assert not [name for name in variables if name.startswith("AWS_")]


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_each_function_has_a_log_group_that_forgets(stage: str) -> None:
    synth = synthesised(stage)
    groups = synth.resources("pipeline", "AWS::Logs::LogGroup")
    assert len(groups) == len(synth.resources("pipeline", "AWS::Lambda::Function"))
    for group in groups.values():
        assert group["Properties"]["RetentionInDays"] == synth.config.log_retention_days


_BY_CHECKSUM = json.dumps({"drop_identity": "checksum", "kms_key_arn": KEY})


def test_who_looks_for_lost_objects_by_checksum_may_read_what_s3_tells_it_of() -> None:
    by_etag, by_checksum = (
        Grants(synthesised("prod", overrides=overrides), "pipeline", "ReconcilerRole")
        for overrides in ("{}", _BY_CHECKSUM)
    )
    assert "drop/" not in by_etag.prefixes("s3:GetObject")
    assert by_checksum.prefixes("s3:GetObject") == by_etag.prefixes("s3:GetObject") | {"drop/"}
    assert by_checksum.prefixes("s3:PutObject") == by_etag.prefixes("s3:PutObject")


def test_functions_learn_the_identity_only_where_it_is_not_that_of_every_earlier_stage() -> None:
    for overrides, told in (("{}", None), (_BY_CHECKSUM, "checksum")):
        functions = synthesised("prod", overrides=overrides).resources("pipeline", "AWS::Lambda::Function")
        found = {
            each["Properties"]["Environment"]["Variables"].get("METERING_DROP_IDENTITY") for each in functions.values()
        }
        assert found == {told}
