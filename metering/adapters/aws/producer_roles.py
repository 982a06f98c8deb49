"""`ProducerRoles` over IAM: one role per producer and stage, with one policy per region of its registration."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from metering.adapters.aws import session
from metering.adapters.aws.errors import error_code, translated
from metering.errors import OperationFailedError
from metering.operations.access import ProducerRole
from metering.stores.objects import DROP_PREFIX, INGEST_PREFIX

_NO_SUCH_ROLE = "NoSuchEntity"
_EXISTS = "EntityAlreadyExists"
_MALFORMED = "MalformedPolicyDocument"


@dataclass(frozen=True, slots=True, kw_only=True)
class IamProducerRoles:
    """Roles of a stage's producers in one region, with permission to send to its queue and write to its bucket."""

    clients: session.Clients
    stage: str
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
        trust = json.dumps(_trust(trusted_arn or f"arn:{partition}:iam::{account}:root"))
        try:
            self._put_trust(self._role_name(name), trust)
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
        return f"metering-{self.stage}-producer-{name}"

    @property
    def _policy_name(self) -> str:
        return f"metering-{self.clients.access.region}"

    def _put_trust(self, role: str, trust: str) -> None:
        try:
            with translated("iam.CreateRole"):
                self.clients.iam.create_role(
                    RoleName=role,
                    AssumeRolePolicyDocument=trust,
                    Description="A producer of metering. `metering producers` made it, and removes it.",
                )
        except ClientError as error:
            if error_code(error) != _EXISTS:
                raise
            with translated("iam.UpdateAssumeRolePolicy"):
                self.clients.iam.update_assume_role_policy(RoleName=role, PolicyDocument=trust)

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
            ],
        }


def _trust(principal: str) -> Mapping[str, object]:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}],
    }


def _principals(trust: object) -> Iterator[str]:
    """Principals that may assume a role. The SDK decodes the policy document, but possibly not an emulator's."""
    document = json.loads(trust) if isinstance(trust, str) else trust
    statements = document.get("Statement", ()) if isinstance(document, dict) else ()
    for statement in [statements] if isinstance(statements, dict) else statements:
        principal = statement.get("Principal", {})
        named = principal.get("AWS", ()) if isinstance(principal, dict) else (principal,)
        yield from [named] if isinstance(named, str) else named
