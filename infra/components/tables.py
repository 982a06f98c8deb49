"""Tables of a region: the ledger of recorded facts, and the usage totals that are derived from the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import CfnResource, RemovalPolicy
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.components.organisation import TABLE_READS, TABLE_WRITES, customer_key, grant_key
from infra.components.shared import removal_policy
from metering.fleet.stage import TARGET_PERCENT
from metering.stores.writes import EXPIRES_AT

if TYPE_CHECKING:
    from metering.fleet.stage import Scales, StageConfig

_LOOK_UP = ("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query")
_READ = (*_LOOK_UP, "dynamodb:DescribeTable")
_CHANGE = ("dynamodb:PutItem", "dynamodb:UpdateItem")
_CHECK = "dynamodb:ConditionCheckItem"
_DELETE = "dynamodb:DeleteItem"
# Condition key of the partition keys in a call (service authorization reference, DynamoDB).
_LEADING_KEYS = "dynamodb:LeadingKeys"


class MeteringTable(Construct):
    """A table with the keys `pk` and `sk`: encryption, and point-in-time recovery for 35 days.

    If `name` is given, a table of that name exists already, and the stack only refers to it. `scales` are the least and
    greatest capacity of reads and of writes, if they are provisioned; None is capacity on demand.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        scales: Scales | None = None,
        warm_writes_per_s: int = 0,
        time_to_live_attribute: str | None = None,
        name: str = "",
        removal: RemovalPolicy | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        self._emulated = config.emulated
        self._config = config
        if name:
            self.table: dynamodb.ITableV2 = dynamodb.TableV2.from_table_name(self, "Table", name)
            for kind, (least, most) in (scales or {}).items():
                self._scale(kind, least, most)
            return
        self.table = dynamodb.TableV2(
            self,
            "Table",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            billing=_billing(scales),
            encryption=dynamodb.TableEncryptionV2.dynamo_owned_key(),
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            time_to_live_attribute=time_to_live_attribute,
            warm_throughput=_warm(warm_writes_per_s),
            # If a first creation fails, it is rolled back, and deletion protection of a table would prevent this.
            deletion_protection=config.stateful_retained and not config.first_build,
            removal_policy=removal or removal_policy(config),
        )
        if (key := customer_key(self, config)) is not None:
            self._encrypt(self.table, key.key_arn)

    @staticmethod
    def _encrypt(table: dynamodb.TableV2, key_arn: str) -> None:
        # The L2 encrypts with a key only if the region is known at synthesis.
        resource = table.node.default_child
        if not isinstance(resource, CfnResource):
            raise TypeError("the table has no CfnGlobalTable")
        resource.add_property_override("SSESpecification", {"SSEEnabled": True, "SSEType": "KMS"})
        resource.add_property_override("Replicas.0.SSESpecification", {"KMSMasterKeyId": key_arn})

    def _scale(self, kind: str, least: int, most: int) -> None:
        """Scale the capacity of a table that is not the stack's. A deployment sets its billing mode before."""
        # The construct of a higher level would make a role; AWS's service-linked role has the permissions already.
        target = scaling.CfnScalableTarget(
            self,
            f"{kind}Capacity",
            service_namespace="dynamodb",
            resource_id=f"table/{self.name}",
            scalable_dimension=f"dynamodb:table:{kind}CapacityUnits",
            min_capacity=least,
            max_capacity=most,
        )
        policy = scaling.CfnScalingPolicy
        policy(
            self,
            f"{kind}Use",
            policy_name=f"{self.name}-{kind}",
            policy_type="TargetTrackingScaling",
            scaling_target_id=target.ref,
            target_tracking_scaling_policy_configuration=policy.TargetTrackingScalingPolicyConfigurationProperty(
                target_value=TARGET_PERCENT,
                predefined_metric_specification=policy.PredefinedMetricSpecificationProperty(
                    predefined_metric_type=f"DynamoDB{kind}CapacityUtilization"
                ),
            ),
        )

    @property
    def name(self) -> str:
        return self.table.table_name

    def grant_bill(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` change the billing mode, for a bulk repair. IAM has no narrower action than `UpdateTable`."""
        self._grant(grantee, "dynamodb:UpdateTable")

    def grant_read(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` read items by key and by partition."""
        self._grant(grantee, *_READ)

    def grant_look_up(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` read items by key and by partition, but not describe the table."""
        self._grant(grantee, *_LOOK_UP)

    def grant_scan(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` scan the table. Only the reconciler and people scan the table, never the hot path."""
        self._grant(grantee, "dynamodb:Scan")

    def grant_read_write(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` read, write and delete any item. Only people get this grant, never a function."""
        self._grant(grantee, *_READ, *_CHANGE, _DELETE, _CHECK)

    def grant_change(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` put and update items, but not delete them.

        The grant is not limited to partitions, because AWS's handling of `dynamodb:LeadingKeys` in transactions was
        never observed.
        """
        self._grant(grantee, *_CHANGE)

    def grant_check(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` check conditions on items that the same transaction does not change."""
        self._grant(grantee, _CHECK)

    def grant_put(self, grantee: iam.IGrantable, *partitions: str) -> None:
        """Let `grantee` put items in `partitions` (such as `W#*`), one item per call."""
        self._grant(grantee, "dynamodb:PutItem", partitions=partitions)

    def grant_delete(self, grantee: iam.IGrantable, *partitions: str) -> None:
        """Let `grantee` delete items in `partitions`, one item per call."""
        self._grant(grantee, _DELETE, partitions=partitions)

    def grant_add(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` update items (`ADD` in a transaction), but not read, put or delete them."""
        self._grant(grantee, "dynamodb:UpdateItem")

    def _grant(self, grantee: iam.IGrantable, *actions: str, partitions: tuple[str, ...] = ()) -> None:
        iam.Grant.add_to_principal(
            grantee=grantee,
            actions=list(actions),
            resource_arns=[self.table.table_arn],
            conditions=self._only(partitions) if partitions else None,
        )
        reads = set(actions) <= {*_READ, "dynamodb:Scan"}
        grant_key(grantee, self._config, "dynamodb", TABLE_READS if reads else TABLE_WRITES)

    def _only(self, partitions: tuple[str, ...]) -> dict[str, dict[str, object]]:
        # `ForAllValues` alone is also true for a call that lacks the key. MiniStack never sets the key, so stages on
        # MiniStack get only this condition. The tests check the templates of AWS stages.
        held: dict[str, dict[str, object]] = {"ForAllValues:StringLike": {_LEADING_KEYS: list(partitions)}}
        return held if self._emulated else {**held, "Null": {_LEADING_KEYS: "false"}}


def ledger_table(scope: Construct, config: StageConfig) -> MeteringTable:
    """Make the ledger, or refer to the restored ledger that the settings name.

    The removal policy retains the ledger even if its stage retains nothing: once a restored ledger is named, this one
    leaves the template, and must remain until the restore is finished. `metering uninstall --delete-data` deletes it.
    """
    return MeteringTable(
        scope,
        "Ledger",
        config=config,
        scales=config.ledger_scales,
        warm_writes_per_s=config.ledger_warm_writes_per_s,
        time_to_live_attribute=EXPIRES_AT,
        name=config.ledger_table,
        removal=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    )


def usage_table(scope: Construct, config: StageConfig, generation: int, *, name: str = "") -> MeteringTable:
    """Make the usage table of a generation. Each generation has its own construct id and thus a new table."""
    warm = config.usage_warm_writes_per_s if generation > 1 else 0
    construct_id = "Usage" if generation == 1 else f"Usage{generation}"
    return MeteringTable(scope, construct_id, config=config, warm_writes_per_s=warm, name=name)


def _billing(scales: Scales | None) -> dynamodb.Billing:
    if scales is None:
        return dynamodb.Billing.on_demand()
    capacity = {
        # A table that was on demand begins with the greatest capacity, so the switch throttles nobody.
        kind: dynamodb.Capacity.autoscaled(
            min_capacity=least, max_capacity=most, seed_capacity=most, target_utilization_percent=TARGET_PERCENT
        )
        for kind, (least, most) in scales.items()
    }
    return dynamodb.Billing.provisioned(read_capacity=capacity["Read"], write_capacity=capacity["Write"])


def _warm(writes_per_s: int) -> dynamodb.WarmThroughput | None:
    return dynamodb.WarmThroughput(write_units_per_second=writes_per_s) if writes_per_s else None
