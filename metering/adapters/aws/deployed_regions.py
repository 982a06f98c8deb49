"""`DeployedRegion` over Lambda, SQS, CloudWatch, SNS and the ledger of a region."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from metering.adapters.aws import alerts, cloudwatch, published_settings, queues, session, stacks
from metering.adapters.aws.capacity import LedgerCapacity
from metering.adapters.aws.cloudformation import CloudFormationStacks
from metering.adapters.aws.errors import translated
from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.restoring import DynamoDbTables
from metering.errors import OperationFailedError, SettingsError
from metering.fleet import ports
from metering.fleet.regions import LedgerRegionStates, RegionState, executions_of
from metering.fleet.settings.layers import config_of
from metering.ledger import commits
from metering.ledger.format_version import check_format, check_readable, ledger_format, stored_format
from metering.ledger.notes.checks import CANARY_PK, CanaryRun, CanaryVerdict
from metering.operations.alarms import ALARMS, ROLLBACK_ALARMS, alarm_name
from metering.stores.writes import ItemStore, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

    from metering.fleet.stage import StageConfig
    from metering.operations import logged_errors
    from metering.settings import GivenSettings, StageSettings

SEVERITIES = ("page", "ticket")
_FUNCTION_NAME = "FunctionName"
# Outputs of the data stack that name a table, also the exports of tables that have left the stack.
_TABLE_OUTPUT = re.compile(r"(Ledger|Usage)Table(Before)?Name$|ExportsOutputRef(Ledger|Usage)\d*Table")


class DeployedRegions:
    """Deployed regions of one stage: `DeployedRegion` and `DeployedSettings`.

    Args:
        clients_of: Returns the SDK clients of a region.
        stage: Name of the stage.
        ledger_of: Returns the restored ledger that the next deployment of a region takes; empty for the deployed one.
    """

    def __init__(
        self,
        clients_of: Callable[[str], session.Clients],
        *,
        stage: str,
        ledger_of: Callable[[str], str] = lambda _region: "",
    ) -> None:
        self._clients_of = clients_of
        self._stage = stage
        self._ledger_of = ledger_of

    def invoke_canary(self, region: str) -> None:
        name = self._function(region, "Canary")
        with translated("lambda.Invoke"):
            self._clients_of(region).lambda_.invoke(FunctionName=name, InvocationType="Event", Payload=b"{}")

    def good_canaries(self, region: str, *, since_s: int) -> int:
        items = self._items(region).query(Table.LEDGER, CANARY_PK, descending=True)
        runs = [CanaryRun.from_item(item) for item in items]
        return sum(run.verdict is CanaryVerdict.GOOD and run.settled_s >= since_s for run in runs)

    def firing_alarms(self, region: str) -> Sequence[str]:
        return [alarm.name for alarm in self._page_alarms(region) if alarm.state == "ALARM"]

    def rollback_alarms(self, region: str) -> Sequence[str]:
        arns = {alarm.name: alarm.arn for alarm in self._page_alarms(region) if alarm.state != "ALARM"}
        names = [alarm_name(self._stage, name) for name in ROLLBACK_ALARMS]
        return [arns[name] for name in names if name in arns]

    def start(self, region: str) -> None:
        clients = self._clients_of(region)
        for rule in self._resource_ids(region, "AWS::Events::Rule"):
            with translated("events.EnableRule"):
                clients.events.enable_rule(Name=rule.rpartition("|")[2])
        shards = self._shards(region)
        # A region that runs an older version may lack one of these functions.
        reserved = {
            name: executions_of(construct.lower(), shards=shards) for construct, name in self._functions(region).items()
        }
        for function in self._resource_ids(region, "AWS::Lambda::Function"):
            _let_run(clients, function, reserved=reserved.get(function))
        given = self.given(region)
        config = None if given is None else config_of(self._stage, given, {})
        if api := self._api_function(region):
            _let_run(clients, api, reserved=None if config is None else config.api_concurrency)
        # Each message that a stopped function is given counts as received, so functions start before the intake.
        self.set_intake(region, enabled=True)
        if config is not None and config.ledger_scales:
            # A stopped rebuild may have left the ledger on demand, and its unchanged template would keep it so.
            self.bill(region, self._resources(region).ledger_table, config)

    def bill(self, region: str, ledger: str, config: StageConfig) -> None:
        """Give a table the billing mode of a ledger with these settings."""
        LedgerCapacity(self._clients_of(region).dynamodb, config.ledger_scales).bill(ledger)

    def _api_function(self, region: str) -> str | None:
        """Name of the API's function; None without an API."""
        try:
            outputs = stacks.read_outputs(self._clients_of(region), ports.RegionStacks.of(self._stage).api)
        except SettingsError:
            return None
        return outputs.get(f"Api{_FUNCTION_NAME}")

    def set_intake(self, region: str, *, enabled: bool) -> None:
        # A region without log sources has no on-ramp. The on-ramp is stopped first, because it sends batches.
        onramp = self._mappings(region, "Onramp") if "Onramp" in self._functions(region) else []
        for mapping, _ in (*onramp, *self._mappings(region)):
            with translated("lambda.UpdateEventSourceMapping"):
                self._clients_of(region).lambda_.update_event_source_mapping(UUID=mapping, Enabled=enabled)

    def intake(self, region: str) -> str:
        states = [state for _, state in self._mappings(region)]
        return states[0] if states else "none"

    def in_flight(self, region: str) -> Mapping[str, int]:
        resources = self._resources(region)
        shards = published_settings.read_settings(self._clients_of(region), self._stage).policy.shards
        sqs = self._clients_of(region).sqs
        queue = queues.SqsQueue(sqs, resources.ingest_queue_url).depth()
        dead = queues.SqsQueue(sqs, resources.dead_letter_queue_url).depth()
        return {
            "queued": queue.visible + queue.delayed,
            "received": queue.in_flight,
            "dead": dead.total,
            "waiting_commits": sum(1 for _ in commits.waiting_commits(self._items(region), shards)),
        }

    def kept_states(self, region: str) -> Sequence[RegionState]:
        return LedgerRegionStates(lambda: self._items(region)).everything()

    def pager_subscriptions(self, region: str) -> int:
        return sum(subscriber.alerted for subscriber in self._topics(region).subscribers("page"))

    def published(self, region: str) -> StageSettings | None:
        return published_settings.deployed_settings(self._clients_of(region), self._stage)

    def given(self, region: str) -> GivenSettings | None:
        return published_settings.deployed_given(self._clients_of(region), self._stage)

    def subscriptions(self, region: str) -> Sequence[Mapping[str, str]]:
        topics = self._topics(region)
        return [
            {"severity": severity, "protocol": each.protocol, "endpoint": each.endpoint}
            for severity in SEVERITIES
            for each in topics.subscribers(severity)
        ]

    def _shards(self, region: str) -> int:
        """Published number of shards; 1 if this version cannot read settings that another version published."""
        try:
            published = published_settings.deployed_settings(self._clients_of(region), self._stage)
        except SettingsError:
            return 1
        return 1 if published is None else published.policy.shards

    def _topics(self, region: str) -> alerts.SnsAlerts:
        resources = self._resources(region)
        clients = self._clients_of(region)
        return alerts.SnsAlerts(
            clients.sns,
            None if clients.access.custom_endpoint else clients.cloudwatch,
            page_topic_arn=resources.page_topic_arn,
            ticket_topic_arn=resources.ticket_topic_arn,
        )

    def empty_bucket(self, region: str) -> int:
        bucket, s3 = self._resources(region).data_bucket, self._clients_of(region).s3
        deleted = 0
        with translated("s3.ListObjectVersions"):
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
                found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                keys = [{"Key": each.get("Key", ""), "VersionId": each.get("VersionId", "null")} for each in found]
                if keys:
                    s3.delete_objects(Bucket=bucket, Delete={"Objects": cast("list[ObjectIdentifierTypeDef]", keys)})
                deleted += len(keys)
        return deleted

    def data_format(self, region: str) -> int:
        return stored_format(self._tables(region))

    def tables(self, region: str) -> Sequence[str]:
        found = stacks.read_outputs(self._clients_of(region), ports.RegionStacks.of(self._stage).data)
        names = {value for name, value in found.items() if _TABLE_OUTPUT.match(name)}
        return sorted(filter(self._by_name(region).exists, names))

    def delete_table(self, region: str, name: str) -> None:
        self._by_name(region).drop(name)

    def check_tables(self, region: str, *, ledger: str, usage: str) -> None:
        """Refuse a deployment that would exchange a region's tables for others that lack its data.

        Args:
            region: The region.
            ledger: Setting `ledger_table` of the deployment.
            usage: Setting `usage_table` of it.

        Raises:
            SettingsError: It would.
        """
        try:
            found = self._resources(region)
        except SettingsError:
            ledger_now, usage_now = "", ""
        else:
            ledger_now, usage_now = found.ledger_table, found.usage_table
        if ledger not in ("", ledger_now):
            self._check_restored(region, ledger)
        if not ledger_now or (ledger, usage) == (ledger_now, usage_now):
            return
        own = self._stack_resources(region)
        problems = [
            f"{setting} of {region} must stay {now}: {why}"
            for setting, wanted, now, why in (
                ("ledger_table", ledger, ledger_now, "an empty ledger would accept every batch once more"),
                ("usage_table", usage or ledger != ledger_now, usage_now, "the stack's own table lacks totals"),
            )
            if not wanted and now not in own
        ]
        if ledger not in ("", ledger_now) and ledger_now in own and not own[ledger_now].retained:
            problems.append(
                f"the deployed stack of {region} would delete its ledger {ledger_now}: deploy this version first, "
                "without ledger_table"
            )
        if problems:
            raise SettingsError(problems)

    def _stack_resources(self, region: str) -> dict[str, ports.StackResource]:
        """Resources of the data stack, by name."""
        stack = ports.RegionStacks.of(self._stage).data
        return {each.name: each for each in CloudFormationStacks(self._clients_of).resources(region, stack)}

    def _check_restored(self, region: str, ledger: str) -> None:
        if self._by_name(region).exists(ledger):
            found = ledger_format(self._store(region, ledger, ""))
            if found is not None and found.state == "open" and found.generation > 1:
                return
        raise SettingsError([f"ledger_table is {ledger}, which is no ledger in {region} that a restore has completed"])

    def usage_generation(self, region: str) -> int:
        """Generation of the usage table that belongs to the region's data; 0 if nothing is deployed.

        Raises:
            FormatTooNewError: A newer release wrote the data.
            FormatTooOldError: An older release wrote the data, and no upgrade has run.
        """
        try:
            resources = self._resources(region)
        except SettingsError:
            return 0
        found = check_format(self._tables(region))
        # If the region has metered nothing yet, its deployment determines the usage table.
        return resources.usage_generation if found is None else found.usage_generation

    def _page_alarms(self, region: str) -> list[logged_errors.AlarmState]:
        names = {alarm_name(self._stage, spec.name) for spec in ALARMS if spec.severity == "page"}
        alarms = cloudwatch.CloudWatchAlarms(self._clients_of(region).cloudwatch, stage=self._stage)
        return [alarm for alarm in alarms.states() if alarm.name in names]

    def _mappings(self, region: str, function: str = "Aggregator") -> list[tuple[str, str]]:
        name = self._function(region, function)
        with translated("lambda.ListEventSourceMappings"):
            pages = (
                self._clients_of(region).lambda_.get_paginator("list_event_source_mappings").paginate(FunctionName=name)
            )
            mappings = [each for page in pages for each in page.get("EventSourceMappings", [])]
        return [(each["UUID"], each.get("State", "")) for each in mappings]

    def _resource_ids(self, region: str, kind: str) -> list[str]:
        client = self._clients_of(region).cloudformation
        with translated("cloudformation.ListStackResources"):
            pages = client.get_paginator("list_stack_resources").paginate(
                StackName=ports.RegionStacks.of(self._stage).pipeline
            )
            found = [each for page in pages for each in page["StackResourceSummaries"]]
        return [each.get("PhysicalResourceId", "") for each in found if each["ResourceType"] == kind]

    def _function(self, region: str, name: str) -> str:
        found = self._functions(region)
        if name not in found:
            stack = ports.RegionStacks.of(self._stage).pipeline
            raise OperationFailedError(f"Stack {stack} in {region} has no function {name}.")
        return found[name]

    def _functions(self, region: str) -> dict[str, str]:
        """Physical names of the functions, by the ids of their constructs."""
        stack = ports.RegionStacks.of(self._stage).pipeline
        with translated("cloudformation.DescribeStacks"):
            described = self._clients_of(region).cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        outputs = {each.get("OutputKey", ""): each.get("OutputValue", "") for each in described.get("Outputs", [])}
        return {
            name.removesuffix(_FUNCTION_NAME): value for name, value in outputs.items() if name.endswith(_FUNCTION_NAME)
        }

    def _resources(self, region: str) -> stacks.RegionResources:
        return stacks.stack_outputs(self._clients_of(region), self._stage)

    def _items(self, region: str) -> ItemStore:
        items = self._tables(region)
        # The attributes read here are the same in all ledger formats.
        check_readable(items)
        return items

    def _tables(self, region: str) -> ItemStore:
        resources = self._resources(region)
        # The deployed ledger may be closed or gone, once a restore has made another one.
        return self._store(region, self._ledger_of(region) or resources.ledger_table, resources.usage_table)

    def _store(self, region: str, ledger: str, usage: str) -> ItemStore:
        return DynamoDbItemStore(self._clients_of(region).dynamodb, {Table.LEDGER: ledger, Table.USAGE: usage})

    def _by_name(self, region: str) -> DynamoDbTables:
        return DynamoDbTables(self._clients_of(region), like="", retained=False)


def _let_run(clients: session.Clients, function: str, *, reserved: int | None) -> None:
    """Undo a reserved concurrency of 0. CloudFormation would keep the 0, because the template is unchanged."""
    with translated("lambda.GetFunctionConcurrency"):
        held = clients.lambda_.get_function_concurrency(FunctionName=function)
    if held.get("ReservedConcurrentExecutions") != 0:
        return
    if reserved is not None:
        with translated("lambda.PutFunctionConcurrency"):
            clients.lambda_.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=reserved)
        return
    with translated("lambda.DeleteFunctionConcurrency"):
        clients.lambda_.delete_function_concurrency(FunctionName=function)
