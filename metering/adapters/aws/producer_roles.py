"""`ProducerRoles` over IAM: one role per producer and stage, with one policy per region of its registration."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from metering.adapters.aws import session
from metering.adapters.aws.errors import error_code, translated
from metering.errors import OperationFailedError
from metering.fleet.settings.organisation import policy_arn
from metering.fleet.stage import StageConfig
from metering.operations.access import ProducerRole
from metering.stores.objects import DROP_PREFIX, INGEST_PREFIX

if TYPE_CHECKING:
    from mypy_boto3_iam.type_defs import TagTypeDef

_NO_SUCH_ROLE = "NoSuchEntity"
_EXISTS = "EntityAlreadyExists"
_MALFORMED = "MalformedPolicyDocument"


class _Demanded(TypedDict, total=False):
    Path: str
    PermissionsBoundary: str
    Tags: "list[TagTypeDef]"


@dataclass(frozen=True, slots=True, kw_only=True)
class IamProducerRoles:
    """Roles of a stage's producers in one region, with permission to send to its queue and write to its bucket."""

    clients: session.Clients
    config: StageConfig
    queue_url: str
    bucket: str

    def find(self, name: str) -> ProducerRole | None:
        try:
            with translated("iam.GetRole"):
                found = self.clients.iam.get_role(RoleName=self._role_name(name))["Role"]
        except ClientError as error:
            if error_code(error) == _NO_SUCH_ROLE:
                return None
            raise
        trust = found["AssumeRolePolicyDocument"]
        return ProducerRole(arn=found["Arn"], role_id=found["RoleId"], trusted=tuple(_principals(trust)))

    def put(self, name: str, *, trusted_arn: str) -> ProducerRole:
        _, partition, _, _, account, *_ = session.caller_arn(self.clients.sts).split(":")
        root = f"arn:{partition}:iam::{account}:root"
        foreign = trusted_arn.split(":")[4:5] not in ([], [account])
        trust = json.dumps(_trust(trusted_arn or root, self._asked_of_strangers if foreign else {}))
        try:
            self._put_trust(self._role_name(name), trust, partition=partition, account=account)
        except ClientError as error:
            if error_code(error) != _MALFORMED:
                raise
            raise OperationFailedError(
                f"IAM does not take the trust in {trusted_arn}: {error}",
                "Name a role, a user or an account that is there.",
            ) from error
        with translated("iam.PutRolePolicy"):
            self.clients.iam.put_role_policy(
                RoleName=self._role_name(name),
                PolicyName=self._policy_name,
                PolicyDocument=json.dumps(self._policy(name, partition)),
            )
        found = self.find(name)
        if found is None:
            raise OperationFailedError(f"The role of {name} was removed while it was made.", "Run it again.")
        return found

    def remove(self, name: str) -> bool:
        role = self._role_name(name)
        try:
            with translated("iam.DeleteRolePolicy"):
                self.clients.iam.delete_role_policy(RoleName=role, PolicyName=self._policy_name)
        except ClientError as error:
            if error_code(error) != _NO_SUCH_ROLE:
                raise
        if self.find(name) is None:
            return True
        with translated("iam.ListRolePolicies"):
            others = self.clients.iam.list_role_policies(RoleName=role)["PolicyNames"]
        if others:
            return False
        with translated("iam.DeleteRole"):
            self.clients.iam.delete_role(RoleName=role)
        return True

    def _role_name(self, name: str) -> str:
        return f"metering-{self.config.stage}-producer-{name}"

    @property
    def _policy_name(self) -> str:
        return f"metering-{self.clients.access.region}"

    @property
    def _asked_of_strangers(self) -> Mapping[str, str]:
        """Conditions on principals of other accounts. An emulator does not know these keys."""
        asked = {"aws:PrincipalOrgID": self.config.org_id, "sts:ExternalId": self.config.external_id}
        return {} if self._emulated else {name: value for name, value in asked.items() if value}

    @property
    def _emulated(self) -> bool:
        return self.clients.access.custom_endpoint

    def _put_trust(self, role: str, trust: str, *, partition: str, account: str) -> None:
        iam = self.clients.iam
        boundary = policy_arn(self.config.permissions_boundary, partition=partition, account=account)
        tags: list[TagTypeDef] = [{"Key": name, "Value": value} for name, value in self.config.tags.items()]
        demanded: _Demanded = {"Path": self.config.role_path or "/"}
        if boundary:
            demanded["PermissionsBoundary"] = boundary
        if tags:
            demanded["Tags"] = tags
        try:
            with translated("iam.CreateRole"):
                iam.create_role(
                    RoleName=role,
                    AssumeRolePolicyDocument=trust,
                    Description="A producer of metering. `metering producers` made it, and removes it.",
                    **demanded,
                )
        except ClientError as error:
            if error_code(error) != _EXISTS:
                raise
            # A role cannot get another path.
            with translated("iam.UpdateAssumeRolePolicy"):
                iam.update_assume_role_policy(RoleName=role, PolicyDocument=trust)
            if boundary:
                with translated("iam.PutRolePermissionsBoundary"):
                    iam.put_role_permissions_boundary(RoleName=role, PermissionsBoundary=boundary)
            if tags:
                with translated("iam.TagRole"):
                    iam.tag_role(RoleName=role, Tags=tags)

    def _policy(self, name: str, partition: str) -> Mapping[str, object]:
        account, queue = urlsplit(self.queue_url).path.strip("/").split("/")[-2:]
        queue_arn = f"arn:{partition}:sqs:{self.clients.access.region}:{account}:{queue}"
        return {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "SendBatches",
                    "Effect": "Allow",
                    "Action": ["sqs:SendMessage", "sqs:GetQueueUrl"],
                    "Resource": queue_arn,
                },
                {
                    "Sid": "PutBelowOneOwnPrefix",
                    "Effect": "Allow",
                    "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
                    "Resource": [
                        f"arn:{partition}:s3:::{self.bucket}/{prefix}{name}/*"
                        for prefix in (INGEST_PREFIX, DROP_PREFIX)
                    ],
                },
                *self._of_key(),
            ],
        }

    def _of_key(self) -> list[Mapping[str, object]]:
        """Permission to encrypt by the stage's key, through the queue and the bucket only."""
        if not self.config.kms_key_arn or self._emulated:
            return []
        places = [f"{service}.{self.clients.access.region}.*" for service in ("sqs", "s3")]
        return [
            {
                "Sid": "EncryptForQueueAndBucket",
                "Effect": "Allow",
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": self.config.kms_key_arn,
                "Condition": {"StringLike": {"kms:ViaService": places}},
            }
        ]


def _trust(principal: str, asked: Mapping[str, str]) -> Mapping[str, object]:
    condition = {"Condition": {"StringEquals": asked}} if asked else {}
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole", **condition}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _principals(trust: object) -> Iterator[str]:
    """Principals that may assume a role. The SDK decodes the policy document, but possibly not an emulator's."""
    document = json.loads(trust) if isinstance(trust, str) else trust
    statements = document.get("Statement", ()) if isinstance(document, dict) else ()
    for statement in [statements] if isinstance(statements, dict) else statements:
        principal = statement.get("Principal", {})
        named = principal.get("AWS", ()) if isinstance(principal, dict) else (principal,)
        yield from [named] if isinstance(named, str) else named
