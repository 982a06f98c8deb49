"""A stage in an organisation: tags, boundary, path, network, key and trust on everything that takes them."""

import json
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import (
    App,
    CustomResourceProvider,
    CustomResourceProviderRuntime,
    DefaultStackSynthesizer,
    Stack,
    Validations,
)
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk.assertions import Template
from cdk_nag import NIST80053R5Checks

from infra.app import check, new_app
from infra.components.organisation import comply
from infra.components.shared import RegionStack
from infra.endpoints import called_services
from metering.errors import SettingsError
from metering.fleet.stage import StageConfig
from tests.infra.support.models import holds, listed, place_of
from tests.infra.support.organisation import BOUNDARY, EVERYTHING, KEY, NETWORK, PATH, SETTINGS, TAGS
from tests.infra.support.synthesis import Synthesised, app_of, synthesised
from tests.infra.test_grants import Grants
from tests.infra.test_policies import _ROLES, heard

# Types of these templates that AWS gives no tags (their schemas in the CloudFormation registry).
_NO_TAGS = {
    "AWS::ApiGatewayV2::ApiMapping", "AWS::ApiGatewayV2::Integration", "AWS::ApiGatewayV2::Route",
    "AWS::Glue::Database", "AWS::Glue::Table", "AWS::IAM::ManagedPolicy", "AWS::IAM::Policy",
    "AWS::Lambda::EventInvokeConfig", "AWS::Lambda::Permission", "AWS::Route53::RecordSet", "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription", "AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy",
}  # fmt: skip
_SENSITIVE = "s3:x-amz-server-side-encryption"


def organised(**changes: Any) -> Synthesised:
    return synthesised("prod", overrides=json.dumps({**SETTINGS, **changes}))


def tags_of(properties: dict[str, Any]) -> dict[str, str]:
    """Tags of a resource: a list, a mapping, or those of a global table's replica."""
    found = properties.get("Tags") or next((each.get("Tags") for each in properties.get("Replicas", [])), None) or {}
    return found if isinstance(found, dict) else {each["Key"]: each["Value"] for each in found}


def test_everything_that_takes_tags_has_those_of_the_stage() -> None:
    for name, resource in organised().all_resources().items():
        if resource["Type"] not in _NO_TAGS:
            assert tags_of(resource["Properties"]).items() >= TAGS.items(), name


def bounded(role: dict[str, Any]) -> bool:
    arn = place_of({}, AccountId="123456789012").text(role["Properties"].get("PermissionsBoundary", ""))
    return arn == f"arn:aws:iam::123456789012:policy/{BOUNDARY}" and role["Properties"].get("Path") == PATH


def test_every_role_has_the_boundary_and_the_path() -> None:
    for part in ("data", "pipeline", "api"):
        roles = organised().resources(part, "AWS::IAM::Role")
        assert roles
        assert [name for name, role in roles.items() if not bounded(role)] == []


@pytest.mark.parametrize("settings", [SETTINGS, {}], ids=["organised", "plain"])
def test_so_has_the_role_of_a_custom_resource(tmp_path: Path, settings: dict[str, Any]) -> None:
    (tmp_path / "index.js").write_text("exports.handler = async () => {};")
    stack = Stack(App(), "with-custom-resource")
    CustomResourceProvider.get_or_create_provider(
        stack, "Custom::Other", code_directory=str(tmp_path), runtime=CustomResourceProviderRuntime.NODEJS_22_X
    )
    comply([stack], StageConfig.load("prod", settings))
    (role,) = Template.from_stack(stack).find_resources("AWS::IAM::Role").values()
    assert bounded(dict(role)) is bool(settings)


def test_write_once_holds_for_roles_with_a_path() -> None:
    policy = organised().one("data", "AWS::S3::BucketPolicy")["Properties"]["PolicyDocument"]
    (statement,) = [each for each in policy["Statement"] if each.get("Sid") == "WriteOnce"]
    patterns = [place_of({}).text(each) for each in statement["Condition"]["ArnLike"]["aws:PrincipalArn"]]
    assert {each.rpartition("role")[2] for each in patterns} == {
        "/metering/metering-prod-data*", "/metering/metering-prod-pipeline*", "/metering/metering-prod-api*"
    }  # fmt: skip


def trust_of(synth: Synthesised, role: str) -> list[dict[str, Any]]:
    statements = synth.one("data", "AWS::IAM::Role", f"Roles{role}")["Properties"]["AssumeRolePolicyDocument"]
    found: list[dict[str, Any]] = statements["Statement"]
    return found


@pytest.mark.parametrize("role", ["Reader", "Operator"])
@pytest.mark.parametrize(("name", "taken"), [("ops-lead", True), ("developer", False)])
def test_only_those_who_are_named_become_reader_or_operator(role: str, name: str, taken: bool) -> None:
    (statement,) = trust_of(organised(), role)
    caller = {"aws:PrincipalArn": f"arn:aws:iam::123456789012:role/{name}"}
    assert holds(statement["Condition"], caller) is taken
    (anyone,) = trust_of(synthesised("prod"), role)
    assert "Condition" not in anyone


@pytest.mark.parametrize(("org", "word", "taken"), [
    ("o-a1b2c3d4e5", "metering-4711", True), ("o-other00000", "metering-4711", False), ("o-a1b2c3d4e5", "guess", False),
])  # fmt: skip
def test_a_producer_of_another_account_is_of_the_organization_and_states_its_word(
    org: str, word: str, taken: bool
) -> None:
    (other,) = [each for each in trust_of(organised(), "Producer") if "210987654321" in json.dumps(each["Principal"])]
    assert holds(other["Condition"], {"aws:PrincipalOrgID": org, "sts:ExternalId": word}) is taken


def test_tables_logs_topics_queues_bucket_and_results_have_the_key_and_the_stage_makes_none() -> None:
    synth = organised()
    keys = {
        "AWS::DynamoDB::GlobalTable": lambda p: p["Replicas"][0]["SSESpecification"]["KMSMasterKeyId"],
        "AWS::Logs::LogGroup": lambda p: p["KmsKeyId"],
        "AWS::SNS::Topic": lambda p: p["KmsMasterKeyId"],
        "AWS::SQS::Queue": lambda p: p["KmsMasterKeyId"],
        "AWS::S3::Bucket": lambda p: p["BucketEncryption"]["ServerSideEncryptionConfiguration"][0][
            "ServerSideEncryptionByDefault"
        ]["KMSMasterKeyID"],
        "AWS::Athena::WorkGroup": lambda p: p["WorkGroupConfiguration"]["ResultConfiguration"][
            "EncryptionConfiguration"
        ]["KmsKey"],
    }
    met = set()
    for name, resource in synth.all_resources().items():
        if resource["Type"] in keys:
            met.add(resource["Type"])
            assert keys[resource["Type"]](resource["Properties"]) == KEY, name
    assert met == set(keys)
    assert not synth.resources("data", "AWS::KMS::Key")


def test_every_role_uses_the_key_through_the_services_only_that_hold_its_data() -> None:
    synth = organised()
    through: dict[str, set[str]] = {}
    for part in ("data", "pipeline", "api"):
        for name, policy in synth.policies(part).items():
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                # S3 replicates by a role of the CDK's.
                if KEY not in json.dumps(statement["Resource"]) or "Replication" in name:
                    continue
                if "Condition" not in statement:
                    # The CDK's own, of who reads an encrypted queue.
                    assert listed(statement["Action"]) == ["kms:Decrypt"]
                    continue
                [names] = statement["Condition"].values()
                service = place_of({}).text(names["kms:ViaService"]).partition(".")[0]
                through.setdefault(name.partition("Default")[0], set()).add(service)
    assert through["RolesProducer"] == {"sqs", "s3"}
    assert through["AggregatorRole"] == {"dynamodb", "s3", "sns"}
    assert through["WatchRole"] == {"dynamodb"}


def test_who_reads_other_regions_may_use_their_keys_through_s3_alone() -> None:
    for role, region in (("Biller", "*"), ("LogSourcesLogContext", "us-east-1")):
        grants = Grants(organised(), "pipeline", f"{role}Role")
        [found] = [each for each in grants.statements if f"s3.{region}." in json.dumps(each.get("Condition"))]
        assert (found["Action"], found["Resource"]) == ("kms:Decrypt", KEY.replace("us-east-1", region))


@pytest.mark.parametrize(("prefix", "sent", "put"), [
    # Below drop/, the ETag identifies a batch, so the object must not be encrypted with a key.
    ("drop", {}, False), ("drop", {_SENSITIVE: "AES256"}, True),
    ("drop", {_SENSITIVE: "aws:kms", f"{_SENSITIVE}-aws-kms-key-id": KEY}, False),
    ("ingest", {}, True), ("ingest", {_SENSITIVE: "AES256"}, True),
    ("ingest", {_SENSITIVE: "aws:kms", f"{_SENSITIVE}-aws-kms-key-id": KEY}, True),
    ("ingest", {_SENSITIVE: "aws:kms", f"{_SENSITIVE}-aws-kms-key-id": "arn:aws:kms:us-east-1:2:key/other"}, False),
    ("ingest", {f"{_SENSITIVE}-customer-algorithm": "AES256"}, False),
    ("drop", {_SENSITIVE: "AES256", f"{_SENSITIVE}-customer-algorithm": "AES256"}, False),
])  # fmt: skip
def test_with_a_key_of_the_stage_drop_keeps_its_identity_and_ingest_takes_that_key(
    prefix: str, sent: dict[str, str], put: bool
) -> None:
    policy = organised(drop_identity="etag").one("data", "AWS::S3::BucketPolicy")["Properties"]["PolicyDocument"]
    assert refuses(policy, prefix, sent) is not put


def refuses(policy: dict[str, Any], prefix: str, sent: dict[str, str]) -> bool:
    """Whether the bucket's rules on encryption refuse an upload below a prefix with these headers."""
    denied = [
        statement
        for statement in policy["Statement"]
        if str(statement.get("Sid", "")).startswith("No")
        and f"/{prefix}/*" in json.dumps(statement["Resource"])
        and holds(statement["Condition"], sent)
    ]
    return bool(denied)


@pytest.mark.parametrize("prefix", ["drop", "ingest"])
def test_where_checksums_identify_drops_both_prefixes_take_the_key_and_no_other(prefix: str) -> None:
    policy = organised().one("data", "AWS::S3::BucketPolicy")["Properties"]["PolicyDocument"]
    other = {_SENSITIVE: "aws:kms", f"{_SENSITIVE}-aws-kms-key-id": "arn:aws:kms:us-east-1:2:key/other"}
    for sent in ({}, {_SENSITIVE: "AES256"}, {_SENSITIVE: "aws:kms", f"{_SENSITIVE}-aws-kms-key-id": KEY}):
        assert not refuses(policy, prefix, sent)
    assert refuses(policy, prefix, other)
    assert refuses(policy, prefix, {f"{_SENSITIVE}-customer-algorithm": "AES256"})


def test_events_of_log_files_reach_an_encrypted_queue_by_their_own_rule_only() -> None:
    synth = organised()
    policy = synth.one("pipeline", "AWS::SQS::QueuePolicy", "LogSourcesEventsQueue")["Properties"]["PolicyDocument"]
    (allow,) = [each for each in policy["Statement"] if each["Effect"] == "Allow"]
    assert allow["Principal"] == {"Service": "events.amazonaws.com"}
    assert "LogSourcesRuleFlows" in json.dumps(allow["Condition"]["ArnEquals"]["aws:SourceArn"])


def test_every_function_runs_in_the_network_and_its_code_makes_no_network_interface() -> None:
    synth = organised()
    functions = [f for part in ("pipeline", "api") for f in synth.resources(part, "AWS::Lambda::Function").values()]
    assert len(functions) == 10
    for function in functions:
        assert function["Properties"]["VpcConfig"] == {
            "SubnetIds": NETWORK["subnets"], "SecurityGroupIds": NETWORK["security_groups"]
        }  # fmt: skip
    allow, deny = synth.one("pipeline", "AWS::IAM::Policy", "WatchNetwork")["Properties"]["PolicyDocument"]["Statement"]
    assert allow["Action"] == deny["Action"]
    own = {"lambda:SourceFunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:metering-prod-pipeline-Watch1"}
    wanted = {"ArnLike": {name: place_of({}).text(each) for name, each in deny["Condition"]["ArnLike"].items()}}
    assert holds(wanted, own)
    assert not holds(wanted, {})


def test_an_emulator_has_neither_the_key_nor_the_network_nor_the_organization() -> None:
    resources = synthesised("prod", overrides=json.dumps(SETTINGS), own='{"emulated": true}').all_resources()
    text = json.dumps([each for each in resources.values() if each["Type"] != "AWS::SSM::Parameter"])
    for absent in ("VpcConfig", "o-a1b2c3d4e5", KEY, 'aws:PrincipalArn": ["arn:aws:iam::123456789012:role/ops'):
        assert absent not in text


def with_nist(app: App) -> App:
    check(app)
    Validations.of(app).add_plugins(NIST80053R5Checks(app))
    return app


def test_every_finding_is_acknowledged_in_an_organisation_those_of_nist_800_53_too() -> None:
    app, _ = app_of(StageConfig.load("prod", EVERYTHING))
    with_nist(app).synth()


def test_what_is_seeded_is_found_although_a_stack_of_the_region_acknowledges_its_inline_policies(
    tmp_path: Path,
) -> None:
    app = new_app(str(tmp_path))
    stack = RegionStack(app, "seeded", "Seeded.", synthesizer=DefaultStackSynthesizer(), env=None)
    s3.CfnBucket(stack, "Public")
    sqs.Queue(stack, "InTheOpen", encryption=sqs.QueueEncryption.UNENCRYPTED)
    sns.Topic(stack, "Plain")
    logs.CfnLogGroup(stack, "Forever")
    anything = iam.PolicyStatement(actions=["*"], resources=["*"])
    iam.Role(stack, "Admin", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com")).add_to_policy(anything)
    with pytest.raises(RuntimeError):
        with_nist(app).synth()
    packs = json.loads((tmp_path / "validation-report.json").read_text())["pluginReports"]
    found = {
        f"{each['constructPath'].split('/')[1]} {violation['ruleName'].rpartition('-')[2]}"
        for pack in packs
        for violation in pack["violations"]
        for each in violation["violatingConstructs"]
    }
    assert found >= {
        "Public S1", "Public S10", "Public S3BucketPublicReadProhibited", "Public S3DefaultEncryptionKMS",
        "InTheOpen SQS2", "InTheOpen SQS4", "Plain SNS3", "Plain SNSEncryptedKMS",
        "Forever CloudWatchLogGroupEncrypted", "Admin IAM5[Action::*]", "Admin IAMPolicyNoStatementsWithAdminAccess",
    }  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), [
    ({"tags": {"aws:x": "1"}}, "'aws:x' is no tag"),
    ({"tags": {"team": "a\nb"}}, "no value of a tag"),
    ({"tags": {"team": 5}}, "tags.team is 5; it must be text"),
    ({"role_path": "metering"}, "role_path is 'metering'"),
    ({"operator_principals": ["ops"]}, "'ops': no ARN of roles or users"),
    ({"vpc": [NETWORK, NETWORK]}, "vpc has two tables for us-east-1"),
    ({"vpc": [{**NETWORK, "subnets": []}]}, "vpc.subnets (entry 1)"),
    ({"kms_key_arn": "arn:aws:kms:us-east-1:123456789012:alias/x"}, "kms_key_arn is"),
    ({"kms_key_arn": KEY, "replicate_to": "copy-{region}"}, "replicate_to needs replicate_key_arn"),
    ({"external_id": "word"}, "name them in trusted_accounts"),
])  # fmt: skip
def test_a_setting_that_aws_would_refuse_is_told_before(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        StageConfig.load("prod", changes)
    assert said in " ".join(caught.value.problems)


def test_each_region_has_its_own_network_and_key() -> None:
    everywhere = KEY.replace("us-east-1", "{region}")
    west = {**NETWORK, "region": "us-west-2"}
    stage = StageConfig.load("prod", {"vpc": [NETWORK, west], "kms_key_arn": everywhere})
    here = stage.in_region("us-west-2")
    assert [network.region for network in here.vpc] == ["us-west-2"]
    assert here.kms_key_arn == KEY.replace("us-east-1", "us-west-2")
    with pytest.raises(SettingsError, match="vpc names no subnets in eu-west-1"):
        stage.in_region("eu-west-1")
    with pytest.raises(SettingsError, match="key of another region than eu-west-1"):
        StageConfig.load("prod", {"kms_key_arn": KEY}).in_region("eu-west-1")


def test_the_services_that_functions_call_are_those_of_their_permissions() -> None:
    called = called_services(organised().templates.values())
    assert set(called) == {"cloudformation", "dynamodb", "ec2", "monitoring", "s3", "sns", "sqs", "sts"}
    assert called["monitoring"] == ["log-context", "watch"]
    assert called["ec2"] == called["sts"] == ["log-context"]
    assert called["cloudformation"] == ["biller"]


def test_each_service_that_the_code_of_a_function_called_is_among_them() -> None:
    """The calls are those of whole histories, with which the policies are compared."""
    called = called_services(organised().templates.values())
    functions = {role: role.lower() for role, (part, _) in _ROLES.items() if part == "pipeline"}
    made = {(call.action.partition(":")[0], name) for role, name in functions.items() for call in heard()[role]}
    assert len({service for service, _ in made}) > 1
    assert [each for each in sorted(made) if each[1] not in called[each[0]]] == []
