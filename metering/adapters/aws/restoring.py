"""Tables and fence of a restore (P41): `LedgerTables` over DynamoDB, `Fence` over Lambda, DynamoDB and IAM."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from metering.adapters.aws.capacity import MISSING, described
from metering.adapters.aws.cloudformation import CloudFormationStacks
from metering.adapters.aws.demands import NOTHING, Demands
from metering.adapters.aws.errors import error_code, is_denied, is_unknown_call, translated
from metering.errors import OperationFailedError, UnavailableError
from metering.fleet.ports import RegionStacks
from metering.ledger.format_version import FORMAT_KEY
from metering.stores.writes import EXPIRES_AT
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeValueTypeDef,
        TableDescriptionTypeDef,
        TagTypeDef,
        UpdateTableInputTypeDef,
        WriteRequestUnionTypeDef,
    )

    from metering.adapters.aws.session import Clients

# A BatchWriteItem takes at most 25 items (DynamoDB API reference).
_BATCH_ITEMS = 25
_BATCH_ROUNDS = 8
_FIRST_WAIT_S = 0.05
_POLL_S = 2
_UPDATE_LIMIT_S = 10 * MINUTE_S
# Longest and default recovery period of point-in-time recovery (DynamoDB API reference).
_RECOVERY_DAYS = 35
_EXISTS = frozenset({"ResourceInUseException", "TableAlreadyExistsException"})
_NO_RESTORE = frozenset(
    {
        "InvalidRestoreTimeException",
        "PointInTimeRecoveryUnavailableException",
        *MISSING,
        "ContinuousBackupsUnavailable",
    }
)
# AWS reserves this prefix of tags, such as those of CloudFormation.
_RESERVED_TAG = "aws:"

FENCE_POLICY = "metering-restore-fence"
_WRITES = tuple(
    f"dynamodb:{action}"
    for action in (
        *("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"),
        *("PartiQLInsert", "PartiQLUpdate", "PartiQLDelete"),
    )
)
_STOPPED = frozenset({"Disabled", "Disabling"})


def tags_of(client: DynamoDBClient, arn: str) -> dict[str, str]:
    """Tags of a table, without CloudFormation's own tags."""
    with translated("dynamodb.ListTagsOfResource"):
        pages = client.get_paginator("list_tags_of_resource").paginate(ResourceArn=arn)
        return {
            tag["Key"]: tag["Value"]
            for page in pages
            for tag in page["Tags"]
            if not tag["Key"].startswith(_RESERVED_TAG)
        }


class DynamoDbTables:
    """Tables by name.

    Args:
        clients: Clients of the region.
        like: Table whose tags `make_fit` copies: the ledger in use.
        retained: Whether the stage retains its data; its tables then have deletion protection.
        warm_writes_per_s: Warm throughput of the stage's ledger; 0 for AWS's own.
        demands: Tags and key of a table that is created.
        sleep: Waits that many seconds.
    """

    def __init__(
        self,
        clients: Clients,
        *,
        like: str,
        retained: bool,
        warm_writes_per_s: int = 0,
        demands: Demands = NOTHING,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clients = clients
        self._demands = demands
        self._like = like
        self._retained = retained
        self._warm_writes_per_s = warm_writes_per_s
        self._sleep = sleep

    def exists(self, name: str) -> bool:
        return self._described(name) is not None

    def is_active(self, name: str) -> bool:
        found = self._described(name)
        return found is not None and found.get("TableStatus") == "ACTIVE"

    def size(self, name: str) -> tuple[int, int]:
        found = self._described(name) or {}
        return found.get("ItemCount", 0), found.get("TableSizeBytes", 0)

    def window(self, name: str) -> tuple[int, int] | None:
        if self._clients.access.custom_endpoint:
            return None
        try:
            with translated("dynamodb.DescribeContinuousBackups"):
                answer = self._dynamodb.describe_continuous_backups(TableName=name)
        except ClientError as error:
            if error_code(error) in MISSING:
                return None
            raise
        found = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
        earliest, latest = found.get("EarliestRestorableDateTime"), found.get("LatestRestorableDateTime")
        if earliest is None or latest is None:
            return None
        # The earliest time is rounded up, because AWS refuses an earlier one.
        return -int(-earliest.timestamp() // 1), int(latest.timestamp())

    def restore(self, source: str, target: str, at_s: int) -> None:
        """Start a point-in-time restore. An existing target is not an error.

        Raises:
            OperationFailedError: AWS cannot restore the table to that time; or an emulator, which has one state only.
        """
        if self.exists(target):
            return
        if self._clients.access.custom_endpoint:
            raise OperationFailedError(
                "An emulator cannot restore a table to a time.", "Name a copy of the ledger: --from-copy TABLE."
            )
        try:
            with translated("dynamodb.RestoreTableToPointInTime"):
                self._dynamodb.restore_table_to_point_in_time(
                    SourceTableName=source,
                    TargetTableName=target,
                    RestoreDateTime=datetime.fromtimestamp(at_s, UTC),
                    BillingModeOverride="PAY_PER_REQUEST",
                )
        except ClientError as error:
            if error_code(error) in _EXISTS:
                return
            if error_code(error) in _NO_RESTORE:
                raise OperationFailedError(
                    f"AWS cannot restore table {source} to that time: {error}",
                    "Choose a time within the table's restore window, or restore with --from-nothing.",
                ) from error
            raise

    def create(self, target: str) -> None:
        if self.exists(target):
            return
        try:
            with translated("dynamodb.CreateTable"):
                self._dynamodb.create_table(
                    TableName=target,
                    AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
                    KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
                    BillingMode="PAY_PER_REQUEST",
                    **self._demands.of_table,
                )
        except ClientError as error:
            if error_code(error) not in _EXISTS:
                raise

    def copy(self, source: str, target: str) -> None:
        """Create the target and copy all items, the ledger's format last. A target with a format is complete.

        A late call thus does not put copied items over those that a restore has changed since.

        Raises:
            OperationFailedError: There is no table `source`.
            UnavailableError: DynamoDB refuses the writes for a long time.
        """
        if not self.exists(source):
            raise OperationFailedError(f"There is no table {source}.", "Name a copy of the ledger: --from-copy TABLE.")
        self.create(target)
        self._wait(target)
        last: list[dict[str, AttributeValueTypeDef]] = []
        for page in self._pages(source):
            last += [item for item in page if _is_format(item)]
            rest = [item for item in page if not _is_format(item)]
            for start in range(0, len(rest), _BATCH_ITEMS):
                if self._has_format(target):
                    return
                self._put(target, rest[start : start + _BATCH_ITEMS])
        if last and not self._has_format(target):
            self._put(target, last)

    def make_fit(self, name: str) -> None:
        """Set what a restored table lacks: TTL, point-in-time recovery, protection, tags, warm throughput.

        Raises:
            OperationFailedError: A change takes more than ten minutes.
        """
        self._wait(name)
        self._expire(name)
        with translated("dynamodb.UpdateContinuousBackups"):
            self._dynamodb.update_continuous_backups(
                TableName=name,
                PointInTimeRecoverySpecification={
                    "PointInTimeRecoveryEnabled": True,
                    "RecoveryPeriodInDays": _RECOVERY_DAYS,
                },
            )
        for change in self._changes(name):
            self._update({"TableName": name, **change})
        self._tag(name)

    def drop(self, name: str) -> None:
        """Delete a table with its deletion protection. A missing table is not an error."""
        found = self._described(name)
        if found is None:
            return
        if found.get("DeletionProtectionEnabled"):
            self._update({"TableName": name, "DeletionProtectionEnabled": False})
        try:
            with translated("dynamodb.DeleteTable"):
                self._dynamodb.delete_table(TableName=name)
        except ClientError as error:
            # A table that is being deleted is in use.
            if error_code(error) not in {*MISSING, *_EXISTS}:
                raise

    @property
    def _dynamodb(self) -> DynamoDBClient:
        return self._clients.dynamodb

    def _described(self, name: str) -> TableDescriptionTypeDef | None:
        return described(self._dynamodb, name)

    def _wait(self, name: str) -> None:
        for _ in range(_UPDATE_LIMIT_S // _POLL_S):
            if self.is_active(name):
                return
            self._sleep(_POLL_S)
        raise OperationFailedError(
            f"Table {name} is not active after {_UPDATE_LIMIT_S // MINUTE_S} minutes.", "Run it again."
        )

    def _update(self, change: UpdateTableInputTypeDef) -> None:
        with translated("dynamodb.UpdateTable"):
            self._dynamodb.update_table(**change)
        self._wait(change["TableName"])

    def _changes(self, name: str) -> Iterator[UpdateTableInputTypeDef]:
        """Changes that the table needs, each in a call of its own, as UpdateTable requires."""
        found = self._described(name) or {}
        if self._retained and not found.get("DeletionProtectionEnabled"):
            yield {"TableName": name, "DeletionProtectionEnabled": True}
        # Warm throughput cannot be lowered, and an equal value is an error.
        if found.get("WarmThroughput", {}).get("WriteUnitsPerSecond", 0) < self._warm_writes_per_s:
            yield {"TableName": name, "WarmThroughput": {"WriteUnitsPerSecond": self._warm_writes_per_s}}

    def _expire(self, name: str) -> None:
        with translated("dynamodb.DescribeTimeToLive"):
            answer = self._dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        # DynamoDB refuses to enable what is enabled.
        if answer.get("TimeToLiveStatus") not in {"ENABLED", "ENABLING"}:
            with translated("dynamodb.UpdateTimeToLive"):
                self._dynamodb.update_time_to_live(
                    TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": EXPIRES_AT}
                )

    def _tag(self, name: str) -> None:
        like, own = self._described(self._like), self._described(name)
        if like is None or own is None:
            return
        tags: list[TagTypeDef] = [
            {"Key": key, "Value": value} for key, value in tags_of(self._dynamodb, like["TableArn"]).items()
        ]
        if tags:
            with translated("dynamodb.TagResource"):
                self._dynamodb.tag_resource(ResourceArn=own["TableArn"], Tags=tags)

    def _pages(self, name: str) -> Iterator[list[dict[str, AttributeValueTypeDef]]]:
        with translated("dynamodb.Scan"):
            for page in self._dynamodb.get_paginator("scan").paginate(TableName=name, ConsistentRead=True):
                yield [dict(item) for item in page["Items"]]

    def _has_format(self, name: str) -> bool:
        with translated("dynamodb.GetItem"):
            answer = self._dynamodb.get_item(
                TableName=name, Key={"pk": {"S": FORMAT_KEY.pk}, "sk": {"S": FORMAT_KEY.sk}}, ConsistentRead=True
            )
        return bool(answer.get("Item"))

    def _put(self, name: str, items: Sequence[dict[str, AttributeValueTypeDef]]) -> None:
        left: Sequence[WriteRequestUnionTypeDef] = [{"PutRequest": {"Item": item}} for item in items]
        for attempt in range(_BATCH_ROUNDS):
            if attempt:
                self._sleep(_FIRST_WAIT_S * 2**attempt)
            with translated("dynamodb.BatchWriteItem"):
                answer = self._dynamodb.batch_write_item(RequestItems={name: left})
            left = answer.get("UnprocessedItems", {}).get(name, [])
            if not left:
                return
        raise UnavailableError("dynamodb.BatchWriteItem", f"{len(left)} items stay unprocessed", may_have_applied=True)


def _is_format(item: dict[str, AttributeValueTypeDef]) -> bool:
    return item["pk"].get("S") == FORMAT_KEY.pk and item["sk"].get("S") == FORMAT_KEY.sk


class RegionFence:
    """Fence around the ledger of a stage's region: its functions stop, and writes of the table are denied."""

    def __init__(self, clients: Clients, *, stage: str) -> None:
        self._clients = clients
        self._stage = stage

    def stop(self) -> None:
        """Disable all event source mappings, and reserve no execution for any function of pipeline and API."""
        client = self._clients.lambda_
        functions = self._functions()
        for function in functions:
            with translated("lambda.ListEventSourceMappings"):
                pages = client.get_paginator("list_event_source_mappings").paginate(FunctionName=function)
                mappings = [each for page in pages for each in page.get("EventSourceMappings", [])]
            for each in mappings:
                # Lambda refuses to change a mapping that is changing.
                if each.get("State") not in _STOPPED:
                    with translated("lambda.UpdateEventSourceMapping"):
                        client.update_event_source_mapping(UUID=each["UUID"], Enabled=False)
        for function in functions:
            with translated("lambda.PutFunctionConcurrency"):
                client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)

    def longest_timeout_s(self) -> int:
        """Longest timeout of the functions; 0 without functions."""
        return max((timeout_s for timeout_s, _ in self._configurations()), default=0)

    def deny(self, table: str) -> str:
        """Deny writes to the table to everybody: by its resource policy, else in the roles of the functions.

        Emulators accept a resource policy of a table, but do not enforce it, so they get both.
        """
        found = described(self._clients.dynamodb, table)
        if found is None:
            return f"table {table} does not exist"
        statement = {"Sid": "MeteringRestoreFence", "Effect": "Deny", "Action": _WRITES, "Resource": found["TableArn"]}
        if self._close_table(found["TableArn"], statement) and not self._clients.access.custom_endpoint:
            return f"the resource policy of table {table}"
        roles = self._roles()
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        for role in roles:
            with translated("iam.PutRolePolicy"):
                self._clients.iam.put_role_policy(RoleName=role, PolicyName=FENCE_POLICY, PolicyDocument=document)
        return f"policy {FENCE_POLICY} of the functions' {len(roles)} roles"

    def is_denied(self, table: str) -> bool:
        """Whether a write of the caller is refused, or each role of a function has the policy against it."""
        found = described(self._clients.dynamodb, table)
        if found is None or self._is_refused(table):
            return True
        return all(self._is_denied_to(role, found["TableArn"]) for role in self._roles())

    def _is_refused(self, table: str) -> bool:
        try:
            with translated("dynamodb.DeleteItem"):
                # The condition never holds, so that the probe changes nothing.
                self._clients.dynamodb.delete_item(
                    TableName=table,
                    Key={"pk": {"S": FENCE_POLICY}, "sk": {"S": FENCE_POLICY}},
                    ConditionExpression="attribute_exists(pk)",
                )
        except ClientError as error:
            if is_denied(error):
                return True
            if error_code(error) != "ConditionalCheckFailedException":
                raise
        return False

    def _close_table(self, arn: str, statement: Mapping[str, object]) -> bool:
        policy = json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Principal": "*"}]})
        try:
            with translated("dynamodb.PutResourcePolicy"):
                self._clients.dynamodb.put_resource_policy(ResourceArn=arn, Policy=policy)
        except ClientError as error:
            if is_unknown_call(error):
                return False
            raise
        return True

    def _is_denied_to(self, role: str, table_arn: str) -> bool:
        try:
            with translated("iam.GetRolePolicy"):
                found = self._clients.iam.get_role_policy(RoleName=role, PolicyName=FENCE_POLICY)
        except ClientError as error:
            if error_code(error) == "NoSuchEntity":
                return False
            raise
        # The SDK decodes the document, but its types say that it is a text.
        return table_arn in json.dumps(found["PolicyDocument"])

    def _functions(self) -> list[str]:
        stacks, names = CloudFormationStacks(lambda _: self._clients), RegionStacks.of(self._stage)
        region = self._clients.access.region
        there = [name for name in (names.pipeline, names.api) if stacks.describe(region, name) is not None]
        found = [each for name in there for each in stacks.resources(region, name)]
        return [each.name for each in found if each.kind == "AWS::Lambda::Function" and each.name]

    def _configurations(self) -> Iterator[tuple[int, str]]:
        """Timeout and role of each function."""
        for function in self._functions():
            with translated("lambda.GetFunctionConfiguration"):
                found = self._clients.lambda_.get_function_configuration(FunctionName=function)
            yield found["Timeout"], found["Role"]

    def _roles(self) -> list[str]:
        return sorted({role.rpartition("/")[2] for _, role in self._configurations()})
