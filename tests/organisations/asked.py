"""Calls of AWS that templates and commands make, each with its resource and the keys that policies can see."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from infra.deploy import bootstrap_arguments
from metering.adapters.aws import probe
from metering.adapters.aws.change_sets import BOOTSTRAP_TEMPLATE, ChangeSets
from metering.adapters.aws.cloudformation import CloudFormationStacks
from metering.adapters.aws.demands import Demands
from metering.adapters.aws.doctor import AwsScratch
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.producer_roles import IamProducerRoles
from metering.adapters.aws.restoring import DynamoDbTables
from metering.adapters.aws.session import Access, Clients
from metering.stores.objects import crc64nvme
from tests.infra.support.models import listed, place_of
from tests.infra.support.synthesis import app_of
from tests.organisations.policies import ACCOUNT, REGION, tags_of

if TYPE_CHECKING:
    from metering.fleet.stage import StageConfig
    from tests.infra.support.synthesis import Synthesised

_PLACE = place_of({}, Region=REGION, AccountId=ACCOUNT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A call of AWS.

    Attributes:
        source: Who makes it, for people: a template's resource or a command.
        context: Keys that conditions see.
    """

    source: str
    action: str
    resource: str = "*"
    context: Mapping[str, str | list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """All that a stage asks of AWS.

    Attributes:
        requests: Calls that make resources.
        resources: Type and properties of each resource, by its name.
        grants: Actions of each role, with the boundary of the role.
    """

    requests: tuple[Request, ...]
    resources: Mapping[str, tuple[str, Mapping[str, Any]]]
    grants: tuple[Request, ...]


def asked_by(synth: Synthesised) -> Asked:
    """Calls for the templates of a stage, and of the commands that make something outside of them."""
    resources = {name: (each["Type"], each.get("Properties", {})) for name, each in synth.all_resources().items()}
    return Asked(
        requests=(*_of_templates(resources), *_of_commands(synth.config)),
        resources=resources,
        grants=tuple(_grants(synth)),
    )


# Calls that CloudFormation makes with the deployer's role to create a resource of a type (service authorization
# reference). A type that is not here fails the gate, so that a new one is thought about.
_CREATES: dict[str, tuple[str, ...]] = {
    "AWS::ApiGatewayV2::Api": ("apigateway:POST",),
    "AWS::ApiGatewayV2::Integration": (),
    "AWS::ApiGatewayV2::Route": (),
    "AWS::ApiGatewayV2::Stage": ("apigateway:POST",),
    "AWS::Athena::WorkGroup": ("athena:CreateWorkGroup",),
    "AWS::CloudWatch::Alarm": ("cloudwatch:PutMetricAlarm",),
    "AWS::CloudWatch::CompositeAlarm": ("cloudwatch:PutCompositeAlarm",),
    "AWS::CloudWatch::Dashboard": ("cloudwatch:PutDashboard",),
    "AWS::DynamoDB::GlobalTable": ("dynamodb:CreateTable",),
    "AWS::Events::Rule": ("events:PutRule", "events:PutTargets"),
    "AWS::Glue::Database": ("glue:CreateDatabase",),
    "AWS::Glue::Table": ("glue:CreateTable",),
    "AWS::IAM::ManagedPolicy": ("iam:CreatePolicy",),
    "AWS::IAM::Policy": ("iam:PutRolePolicy",),
    "AWS::IAM::Role": ("iam:CreateRole",),
    "AWS::KMS::Key": ("kms:CreateKey",),
    "AWS::Lambda::EventInvokeConfig": ("lambda:PutFunctionEventInvokeConfig",),
    "AWS::Lambda::EventSourceMapping": ("lambda:CreateEventSourceMapping",),
    "AWS::Lambda::Function": ("lambda:CreateFunction", "iam:PassRole"),
    "AWS::Lambda::Permission": ("lambda:AddPermission",),
    "AWS::Logs::LogGroup": ("logs:CreateLogGroup", "logs:PutRetentionPolicy"),
    "AWS::S3::Bucket": ("s3:CreateBucket", "s3:PutBucketTagging", "s3:PutEncryptionConfiguration"),
    "AWS::S3::BucketPolicy": ("s3:PutBucketPolicy",),
    "AWS::SNS::Topic": ("sns:CreateTopic",),
    "AWS::SNS::TopicPolicy": ("sns:SetTopicAttributes",),
    "AWS::SQS::Queue": ("sqs:CreateQueue",),
    "AWS::SQS::QueuePolicy": ("sqs:SetQueueAttributes",),
    "AWS::SSM::Parameter": ("ssm:PutParameter",),
}


def _of_templates(resources: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Iterator[Request]:
    roles = {name.partition("/")[2]: found for name, (kind, found) in resources.items() if kind == "AWS::IAM::Role"}
    for name, (kind, properties) in resources.items():
        context = {**_tag_keys(tags_of(properties)), **_own_keys(kind, properties)}
        places = [_arn_of(kind, name, properties)]
        if kind == "AWS::IAM::Policy":
            held = [each["Ref"] for each in properties["Roles"] if each.get("Ref") in roles]
            places = [_role_arn(role, roles[role]) for role in held]
            context |= _own_keys("AWS::IAM::Role", roles[held[0]]) if held else {}
        if kind == "AWS::Lambda::Function":
            role = properties["Role"]["Fn::GetAtt"][0]
            places = [_role_arn(role, roles[role])]
        yield from (
            Request(source=name, action=action, resource=place, context=context)
            for action in _CREATES[kind]
            for place in places
        )


def _tag_keys(tags: Mapping[str, str]) -> dict[str, str | list[str]]:
    own: dict[str, str | list[str]] = {f"aws:RequestTag/{name}": value for name, value in tags.items()}
    return {**own, "aws:TagKeys": sorted(tags), "aws:RequestedRegion": REGION}


def _own_keys(kind: str, properties: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Condition keys that a service fills from the properties of a type."""
    if kind == "AWS::IAM::Role" and "PermissionsBoundary" in properties:
        return {"iam:PermissionsBoundary": _PLACE.text(properties["PermissionsBoundary"])}
    if kind == "AWS::Lambda::Function" and "VpcConfig" in properties:
        network = properties["VpcConfig"]
        return {
            "lambda:VpcIds": "vpc-of-the-subnets",
            "lambda:SubnetIds": network["SubnetIds"],
            "lambda:SecurityGroupIds": network["SecurityGroupIds"],
        }
    return {}


def _arn_of(kind: str, name: str, properties: Mapping[str, Any]) -> str:
    if kind == "AWS::IAM::Role":
        return _role_arn(name, properties)
    if kind == "AWS::IAM::ManagedPolicy":
        return f"arn:aws:iam::{ACCOUNT}:policy{properties.get('Path', '/')}{name.rpartition('/')[2]}"
    return "*"


def _role_arn(name: str, role: Mapping[str, Any]) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role{role.get('Path', '/')}{name.rpartition('/')[2]}"


def _grants(synth: Synthesised) -> Iterator[Request]:
    """Each action that a role of the stage is granted: its boundary must allow it.

    The calls themselves are those of commands, so a grant to make something stands for a call with the stage's tags.
    """
    for part in synth.templates:
        for name, policy in synth.policies(part).items():
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                if statement["Effect"] == "Allow":
                    for action in listed(statement["Action"]):
                        yield Request(source=f"{part}/{name}", action=action, context=_tag_keys(synth.config.tags))


# What commands ask: their own code runs, up to the answers of AWS, which are made up here.


_ACCESS = Access(region=REGION, access_key=("test", "test"))


class Recorder(Clients):
    """Clients that note each call with its arguments, and answer it without a network."""

    def __init__(
        self,
        source: str,
        answers: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]],
        access: Access = _ACCESS,
        requests: list[Request] | None = None,
    ) -> None:
        super().__init__(access)
        self.requests: list[Request] = [] if requests is None else requests
        self._source, self._answers = source, answers

    def with_access(self, access: Access) -> Recorder:
        return Recorder(self._source, self._answers, access, self.requests)

    def _make(self, service: str) -> object:
        client = cast("Any", super()._make(service))
        client.meta.events.register("provide-client-params", self._note)
        client.meta.events.register("before-call", self._answer)
        return client

    def _note(self, *, params: Mapping[str, Any], model: Any, **_others: object) -> None:
        signed = model.service_model.signing_name
        prefix = {"monitoring": "cloudwatch"}.get(signed, signed)
        context = {**_keys_of(params), "aws:RequestedRegion": self.access.region}
        name = _ACTIONS.get(model.name, model.name)
        named = _named_by(params)
        self.requests.append(Request(source=self._source, action=f"{prefix}:{name}", resource=named, context=context))
        if "RoleARN" in params:
            # CloudFormation works with that role, so the caller passes it.
            self.requests.append(
                Request(source=self._source, action="iam:PassRole", resource=params["RoleARN"], context=context)
            )
        self._last = params

    def _answer(self, *, model: Any, **_others: object) -> tuple[object, Mapping[str, Any]]:
        answer = self._answers.get(model.name, _nothing)(self._last)
        status = 400 if "Error" in answer else 200
        return SimpleNamespace(status_code=status), {"ResponseMetadata": {"HTTPStatusCode": status}, **answer}


# Calls whose permission has another name.
_ACTIONS = {
    "CreateMultipartUpload": "PutObject",
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "UploadPart": "PutObject",
}


def _named_by(params: Mapping[str, Any]) -> str:
    if "RoleName" in params:
        return f"arn:aws:iam::{ACCOUNT}:role{params.get('Path', '/')}{params['RoleName']}"
    if "RoleArn" in params:
        return str(params["RoleArn"])
    return f"arn:aws:s3:::{params['Bucket']}/{params['Key']}" if "Key" in params else "*"


def _keys_of(params: Mapping[str, Any]) -> dict[str, str | list[str]]:
    tags = params.get("Tags") or params.get("tags") or {}
    tags = dict(tags) if isinstance(tags, Mapping) else {each["Key"]: each["Value"] for each in tags}
    named = {
        "iam:PermissionsBoundary": params.get("PermissionsBoundary"),
        "s3:x-amz-server-side-encryption": params.get("ServerSideEncryption"),
    }
    return {**_tag_keys(tags), **{name: str(value) for name, value in named.items() if value}}


def _queue(params: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"QueueUrl": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{params['QueueName']}"}


def _role(params: Mapping[str, Any]) -> Mapping[str, Any]:
    trust = json.dumps({"Statement": [{"Principal": {"AWS": "arn:aws:iam::444455556666:root"}}]})
    arn = f"arn:aws:iam::{ACCOUNT}:role/{params['RoleName']}"
    return {"Role": {"Arn": arn, "RoleId": "AROA", "AssumeRolePolicyDocument": trust}}


def _nothing(_params: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


def _table(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The doctor waits for its table; a restore makes one that is not there."""
    if params["TableName"].startswith(_SCRATCH):
        return {"Table": _TABLE}
    return {"Error": {"Code": "ResourceNotFoundException", "Message": "none"}}


class _Stacks:
    """CloudFormation before a first deployment. An executed change set makes its stack. Mutable."""

    def __init__(self) -> None:
        self._made: set[str] = set()

    def execute(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        self._made.add(params["StackName"])
        return {}

    def describe(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        name = params["StackName"]
        if name not in self._made:
            return {"Error": {"Code": "ValidationError", "Message": f"{name} does not exist"}}
        return {"Stacks": [{"StackName": name, "StackStatus": "CREATE_COMPLETE"}]}

    def answers(self) -> dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
        return {"ExecuteChangeSet": self.execute, "DescribeStacks": self.describe}


_SCRATCH = "metering-doctor"
_TABLE = {"TableStatus": "ACTIVE", "TableArn": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/new"}
_KEYS = {"AccessKeyId": "test", "SecretAccessKey": "test", "SessionToken": "test"}
_ANSWERS: dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    "AssumeRole": lambda _: {"Credentials": _KEYS},
    "DescribeChangeSet": lambda _: {"Status": "CREATE_COMPLETE", "Changes": []},
    "DescribeRouteTables": lambda _: {"RouteTables": []},
    "DescribeSecurityGroups": lambda _: {"SecurityGroups": [{"VpcId": "vpc-1"}]},
    "DescribeStackEvents": lambda _: {"StackEvents": []},
    "DescribeSubnets": lambda _: {"Subnets": [{"VpcId": "vpc-1"}]},
    "DescribeVpcEndpoints": lambda _: {"VpcEndpoints": []},
    "GetParameter": lambda _: {"Error": {"Code": "ParameterNotFound", "Message": "none"}},
    "CreateQueue": _queue,
    "CreateRole": _role,
    "CreateTable": lambda _: {"TableDescription": _TABLE},
    "DescribeTable": _table,
    "GetCallerIdentity": lambda _: {"Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/me", "Account": ACCOUNT},
    "GetQueueAttributes": lambda _: {"Attributes": {"QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:scratch"}},
    "GetQueueUrl": _queue,
    "GetRole": _role,
    "PutObject": lambda _: {"ETag": '"0"'},
    "Subscribe": lambda _: {"SubscriptionArn": "arn:subscription"},
}
WORKLOAD = "arn:aws:iam::444455556666:role/edge"


def _of_commands(config: StageConfig) -> Iterator[Request]:
    for source, run in _COMMANDS.items():
        clients = Recorder(source, {**_ANSWERS, **_Stacks().answers()})
        run(clients, config)
        yield from _with_role(clients.requests)


def _with_role(requests: Iterable[Request]) -> Iterator[Request]:
    """The requests; those on a role that was made among them see its ARN and its boundary, as IAM does."""
    made: Request | None = None
    for request in requests:
        if request.action == "iam:CreateRole":
            made = request
        elif made is not None and request.action.startswith("iam:"):
            bound = {k: v for k, v in made.context.items() if k == "iam:PermissionsBoundary"}
            yield Request(
                source=request.source,
                action=request.action,
                resource=made.resource,
                context={**request.context, **bound},
            )
            continue
        yield request


def _producer(clients: Clients, config: StageConfig) -> None:
    roles = IamProducerRoles(clients=clients, config=config, queue_url=_QUEUE, bucket="data")
    roles.put("edge", trusted_arn=WORKLOAD)


def _doctor(clients: Clients, config: StageConfig) -> None:
    topics = {"page": f"arn:aws:sns:{REGION}:{ACCOUNT}:page"}
    scratch = AwsScratch(clients, prefix=_SCRATCH, token="0" * 12, topics=topics, demands=Demands.of(config, clients))
    for made in (scratch.queues(), scratch.slow_table(), scratch.alarm("page")):
        with made:
            pass


def _restore(clients: Clients, config: StageConfig) -> None:
    DynamoDbTables(clients, like="old", retained=False, demands=Demands.of(config, clients)).create("new")


def _objects(clients: Clients, config: StageConfig) -> None:
    store, checksum = S3ObjectStore(clients.s3, "data"), crc64nvme(b"{}") if config.drop_identity == "checksum" else ""
    store.upload("ingest/edge/1.ndjson", b"{}")
    store.upload("drop/edge/1.ndjson", b"{}", crc64nvme=checksum)


def _deploy(clients: Clients, config: StageConfig) -> None:
    """Make the calls of `metering deploy --assembly` in a region, step by step."""
    app, _ = app_of(config, region=REGION, account=ACCOUNT)
    with tempfile.TemporaryDirectory() as place:
        _deploy_assembly(clients, config, Path(shutil.move(app.synth().directory, place)))


def _deploy_assembly(clients: Clients, config: StageConfig, assembly: Path) -> None:
    for folder in [each for each in assembly.glob("asset.*") if each.is_dir()]:
        # An artefact has archives in place of folders.
        shutil.rmtree(folder)
        folder.touch()
    stacks = CloudFormationStacks(lambda _: clients)
    stacks.describe(REGION, config.stack_name("data"))
    (assembly.parent / BOOTSTRAP_TEMPLATE).write_text("{}")
    tool = ChangeSets(assembly=assembly, clients=clients, progress=lambda _: None, pause=lambda _: None)
    tool.run("bootstrap", *bootstrap_arguments(config.bootstrap, config.tags))
    types = sorted({each["Type"] for stack in assembly.glob("*.template.json") for each in _resources_of(stack)})
    looking = probe.RegionProbe(
        lambda _: clients,
        reserved=1,
        api_concurrency=config.api_concurrency,
        writes_per_s=1,
        qualifier=config.bootstrap.qualifier,
        subscribers=lambda _: [("sqs", f"arn:aws:sqs:{REGION}:{ACCOUNT}:alerts")],
        networks=lambda _: next(iter(config.vpc), None),
    )
    looking.preflight(REGION, types, {"sqs": ["aggregator"]})
    tool.run("deploy", "--all")


def _resources_of(template: Path) -> Iterable[Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = json.loads(template.read_text())["Resources"]
    return found.values()


_QUEUE = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/ingest"
_COMMANDS: dict[str, Callable[[Clients, StageConfig], None]] = {
    "metering deploy": _deploy,
    "metering producers add": _producer,
    "metering doctor": _doctor,
    "metering restore": _restore,
    "metering replay": _objects,
}
