"""The two tables: the ledger, which is the fact, and the usage totals derived from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

if TYPE_CHECKING:
    from metering.fleet.stage import StageConfig

EXPIRES_AT = "expires_at"

_READ = ("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:DescribeTable")
_CHANGE = ("dynamodb:PutItem", "dynamodb:UpdateItem")
_CHECK = "dynamodb:ConditionCheckItem"
_DELETE = "dynamodb:DeleteItem"
# The partition keys that a call names (DynamoDB's part of the service authorization reference).
_LEADING_KEYS = "dynamodb:LeadingKeys"


class MeteringTable(Construct):
    """A table keyed by `pk` and `sk`: pay per request, encrypted, restorable to any second of 35 days."""

    def __init__(
        self, scope: Construct, construct_id: str, *, config: StageConfig, time_to_live_attribute: str | None = None
    ) -> None:
        super().__init__(scope, construct_id)
        self._emulated = config.emulated
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
        """Let `grantee` read, write and delete any item: people's jobs, never a function."""
        self._grant(grantee, *_READ, *_CHANGE, _DELETE, _CHECK)

    def grant_change(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` put and update items, and delete none.

        Not held to partitions: it is for transactions, and how AWS fills `dynamodb:LeadingKeys` in them was never seen.
        """
        self._grant(grantee, *_CHANGE)

    def grant_check(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` make a transaction depend on items that it does not change."""
        self._grant(grantee, _CHECK)

    def grant_put(self, grantee: iam.IGrantable, *partitions: str) -> None:
        """Let `grantee` write whole items of `partitions` (`W#*`), one by one."""
        self._grant(grantee, "dynamodb:PutItem", partitions=partitions)

    def grant_delete(self, grantee: iam.IGrantable, *partitions: str) -> None:
        """Let `grantee` delete items of `partitions`, one by one."""
        self._grant(grantee, _DELETE, partitions=partitions)

    def grant_add(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` change items one by one (`ADD` in a transaction), without reading or deleting any."""
        self._grant(grantee, "dynamodb:UpdateItem")

    def _grant(self, grantee: iam.IGrantable, *actions: str, partitions: tuple[str, ...] = ()) -> None:
        iam.Grant.add_to_principal(
            grantee=grantee,
            actions=list(actions),
            resource_arns=[self.table.table_arn],
            conditions=self._only(partitions) if partitions else None,
        )

    def _only(self, partitions: tuple[str, ...]) -> dict[str, dict[str, object]]:
        # `ForAllValues` alone is true of a call without the key, too. MiniStack fills the key never, so there it is
        # left at that: what the template of a real stage says is tested.
        held: dict[str, dict[str, object]] = {"ForAllValues:StringLike": {_LEADING_KEYS: list(partitions)}}
        return held if self._emulated else {**held, "Null": {_LEADING_KEYS: "false"}}
