"""Findings with a reason, and seeded ones. Reasons for findings of cdk-nag are beside the resources, in `infra`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Finding of a tool: its rule, and the place `stage/stack/logical id`, or the id of an output."""

    rule: str
    place: str
    said: str


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a rule may be broken.

    Attributes:
        places: Pattern of the places from their beginning.
        why: Full sentences.
    """

    rule: str
    places: str
    why: str

    def covers(self, finding: Finding) -> bool:
        return self.rule == finding.rule and re.match(self.places, finding.place) is not None


_EVERY = "[^/]+/[^/]+/"
_EMULATED = "(local|killtest)/[^/]+/"
# Without the settings for an organisation.
_PLAIN = "(dev|killtest|local|prod|prod-with-api)/[^/]+/"
REASONS = (
    Reason("W3005", f"{_EVERY}.*Function", "The CDK lets each function wait for its role, although it refers to it."),
    Reason("W3037", f"{_EMULATED}(Canary|Roles|Doctor)", "MiniStack has permissions of its own for calls of batches."),
    Reason("W6001", f"{_EVERY}ServiceSenders", "The output joins roles of two stacks, for those who register senders."),
    Reason("E3006", f"{_EVERY}TopicsChat", "A channel names its region, and the service is not in China and GovCloud."),
    Reason("E3006", f"{_EVERY}Project", "The project is in the home region alone, which must have CodeBuild."),
    Reason("CKV_AWS_18", f"{_EVERY}DataBucket", "Access logs would cost more than the objects that they describe."),
    Reason("CKV_AWS_21", f"{_EMULATED}DataBucket", "What is on an emulator is thrown away."),
    Reason("CKV_AWS_27", f"{_PLAIN}Ingest", "Queues have the key of SQS, which checkov ignores, or `kms_key_arn`."),
    Reason("CKV_AWS_108", f"{_EVERY}ProjectRole", "Regions that are not known yet have no ARNs."),
    Reason("CKV_AWS_111", f"{_EVERY}ProjectRole", "Regions that are not known yet have no ARNs."),
    Reason("CKV_AWS_111", f"{_EVERY}.*Network", "Lambda needs it for interfaces, and a Deny takes it from the code."),
    Reason("CKV_AWS_111", f"{_EMULATED}(RolesOperator|Doctor)", "MiniStack checks some calls as if for any queue."),
    Reason("CKV_AWS_115", f"{_EMULATED}.*Function", "MiniStack ignores reservations."),
    Reason("CKV_AWS_115", f"{_EVERY}(Aggregator|LogSources)", "Its event source bounds how many run at once."),
    Reason("CKV_AWS_115", f"{_EVERY}(Canary|Watch)", "Runs of it may overlap, and end before the next ones begin."),
    Reason("CKV_AWS_116", f"{_EVERY}.*Function", "Lambda sends only ticks there, and the next tick does their work."),
    Reason("CKV_AWS_117", f"{_PLAIN}.*Function", "It calls AWS alone. `vpc` names subnets."),
    Reason("CKV_AWS_158", f"{_PLAIN}.*Log", "Logs have the key of CloudWatch, or `kms_key_arn`."),
    Reason(
        "CKV_AWS_173", f"{_EVERY}.*Function", "It has names and limits, which are published as settings, no secret."
    ),
)

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seed:
    """A change to a resource of the stage that has all settings, and the rule that must find it.

    Attributes:
        name: Logical id without the hash that the CDK appends.
    """

    rule: str
    part: str
    name: str
    change: Callable[[Resource], object]

    def is_at(self, part: str, logical_id: str) -> bool:
        return part == self.part and re.fullmatch(f"{self.name}[0-9A-F]{{8}}", logical_id) is not None


def _sets(**properties: object) -> Callable[[Resource], object]:
    return lambda resource: resource["Properties"].update(properties)


def _without(*names: str) -> Callable[[Resource], object]:
    return lambda resource: [resource["Properties"].pop(name) for name in names]


def _allows(*actions: str) -> Callable[[Resource], object]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return lambda resource: resource["Properties"]["PolicyDocument"]["Statement"].append(statement)


SEEDS = (
    Seed("E3002", "data", "IngestQueue", _sets(VisibilityTimeOut=450)),
    Seed("E3034", "data", "IngestDeadLetters", _sets(VisibilityTimeout=43_201)),
    Seed("E1010", "pipeline", "AggregatorFunction", _sets(Role={"Fn::GetAtt": ["AggregatorRole2F3D6B04", "Name"]})),
    Seed("E3006", "pipeline", "CanaryRate", lambda resource: resource.update(Type="AWS::Events::Rules")),
    Seed("E2531", "pipeline", "WatchFunction", _sets(Runtime="python3.7")),
    Seed("W3037", "data", "RolesReaderDefaultPolicy", _allows("dynamodb:GetItems")),
    Seed("CKV_AWS_53", "data", "DataBucket", _without("PublicAccessBlockConfiguration")),
    Seed("CKV_AWS_27", "data", "IngestQueue", _without("KmsMasterKeyId")),
    Seed("CKV_AWS_26", "data", "TopicsPage", _without("KmsMasterKeyId")),
    Seed("CKV_AWS_111", "data", "RolesProducerDefaultPolicy", _allows("s3:PutObject")),
    Seed("CKV_AWS_62", "api", "ApiRoleDefaultPolicy", _allows("*")),
    Seed("CKV_AWS_117", "api", "ApiFunction", _without("VpcConfig")),
    Seed("CKV_AWS_158", "pipeline", "AggregatorLogs", _without("KmsKeyId")),
)
