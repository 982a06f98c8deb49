"""The two tables: the ledger, which is the fact, and the usage totals derived from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

if TYPE_CHECKING:
    from infra.config import StageConfig

EXPIRES_AT = "expires_at"

_READ = ("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:DescribeTable")
_WRITE = ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem")


class MeteringTable(Construct):
    """A table keyed by `pk` and `sk`: pay per request, encrypted, restorable to any second of 35 days."""

    def __init__(
        self, scope: Construct, construct_id: str, *, config: StageConfig, time_to_live_attribute: str | None = None
    ) -> None:
        super().__init__(scope, construct_id)
        self.table = dynamodb.TableV2(
            self,
            "Table",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            billing=dynamodb.Billing.on_demand(),
            encryption=dynamodb.TableEncryptionV2.dynamo_owned_key(),
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            time_to_live_attribute=time_to_live_attribute,
            deletion_protection=config.stateful_retained,
            removal_policy=RemovalPolicy.RETAIN if config.stateful_retained else RemovalPolicy.DESTROY,
        )

    @property
    def name(self) -> str:
        return self.table.table_name

    def grant_read(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` read items by key and partition."""
        self._grant(grantee, *_READ)

    def grant_scan(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` read the whole table: people's jobs, never the hot path."""
        self._grant(grantee, "dynamodb:Scan")

    def grant_read_write(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` read and write items."""
        self._grant(grantee, *_READ, *_WRITE)

    def grant_put(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` write whole items, and delete none."""
        self._grant(grantee, "dynamodb:PutItem")

    def grant_add(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` change items one by one (`ADD` in a transaction), without reading or deleting any."""
        self._grant(grantee, "dynamodb:UpdateItem")

    def _grant(self, grantee: iam.IGrantable, *actions: str) -> None:
        iam.Grant.add_to_principal(grantee=grantee, actions=list(actions), resource_arns=[self.table.table_arn])
