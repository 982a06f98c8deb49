"""`DeployedRegion` over Lambda, SQS, CloudWatch, SNS and the ledger of a region."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.aws.alarms import CloudWatchAlarms
from metering.adapters.aws.alerts import SnsAlerts
from metering.adapters.aws.dynamodb.items import DynamoDbItemStore
from metering.adapters.aws.errors import translated
from metering.adapters.aws.published_settings import read_settings
from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.stacks import stack_outputs
from metering.errors import OperationFailedError
from metering.fleet.ports import RegionStacks
from metering.fleet.regions import ALONE_FUNCTIONS
from metering.ledger.format_version import check_format
from metering.ledger.notes.canary_runs import CANARY_PK, CanaryRun, CanaryVerdict
from metering.ledger.waiting_commits import waiting_commits
from metering.operations.alarms import ALARMS, ROLLBACK_ALARMS, alarm_name
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.adapters.aws.session import Clients
    from metering.adapters.aws.stacks import RegionResources
    from metering.operations.ports import AlarmState
    from metering.stores.items import ItemStore


class DeployedRegions:
    """Deployed regions of one stage.

    Args:
        clients_of: Gives the clients of a region.
    """

    def __init__(self, clients_of: Callable[[str], Clients], *, stage: str) -> None:
        self._clients_of = clients_of
        self._stage = stage

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
        self.set_intake(region, enabled=True)
        for rule in self._resource_ids(region, "AWS::Events::Rule"):
            with translated("events.EnableRule"):
                clients.events.enable_rule(Name=rule.rpartition("|")[2])
        alone = {self._function(region, name.capitalize()) for name in ALONE_FUNCTIONS}
        for function in self._resource_ids(region, "AWS::Lambda::Function"):
            with translated("lambda.GetFunctionConcurrency"):
                held = clients.lambda_.get_function_concurrency(FunctionName=function)
            if held.get("ReservedConcurrentExecutions") == 0:
                _let_run(clients, function, alone=function in alone)

    def set_intake(self, region: str, *, enabled: bool) -> None:
        for mapping, _ in self._mappings(region):
            with translated("lambda.UpdateEventSourceMapping"):
                self._clients_of(region).lambda_.update_event_source_mapping(UUID=mapping, Enabled=enabled)

    def intake(self, region: str) -> str:
        states = [state for _, state in self._mappings(region)]
        return states[0] if states else "none"

    def in_flight(self, region: str) -> Mapping[str, int]:
        resources = self._resources(region)
        shards = read_settings(self._clients_of(region), self._stage).policy.shards
        sqs = self._clients_of(region).sqs
        queue = SqsQueue(sqs, resources.ingest_queue_url).depth()
        dead = SqsQueue(sqs, resources.dead_letter_queue_url).depth()
        return {
            "queued": queue.visible + queue.delayed,
            "received": queue.in_flight,
            "dead": dead.total,
            "open_commits": len(waiting_commits(self._items(region), shards).open),
        }

    def pager_subscriptions(self, region: str) -> int:
        resources = self._resources(region)
        topics = SnsAlerts(
            self._clients_of(region).sns,
            page_topic_arn=resources.page_topic_arn,
            ticket_topic_arn=resources.ticket_topic_arn,
        )
        return sum(subscriber.confirmed for subscriber in topics.subscribers("page"))

    def _page_alarms(self, region: str) -> list[AlarmState]:
        names = {alarm_name(self._stage, spec.name) for spec in ALARMS if spec.severity == "page"}
        alarms = CloudWatchAlarms(self._clients_of(region).cloudwatch, stage=self._stage)
        return [alarm for alarm in alarms.states() if alarm.name in names]

    def _mappings(self, region: str) -> list[tuple[str, str]]:
        name = self._function(region, "Aggregator")
        with translated("lambda.ListEventSourceMappings"):
            pages = (
                self._clients_of(region).lambda_.get_paginator("list_event_source_mappings").paginate(FunctionName=name)
            )
            mappings = [each for page in pages for each in page.get("EventSourceMappings", [])]
        return [(each["UUID"], each.get("State", "")) for each in mappings]

    def _resource_ids(self, region: str, kind: str) -> list[str]:
        """Physical ids of the resources of a type in the pipeline stack."""
        client = self._clients_of(region).cloudformation
        with translated("cloudformation.ListStackResources"):
            pages = client.get_paginator("list_stack_resources").paginate(
                StackName=RegionStacks.of(self._stage).pipeline
            )
            found = [each for page in pages for each in page["StackResourceSummaries"]]
        return [each.get("PhysicalResourceId", "") for each in found if each["ResourceType"] == kind]

    def _function(self, region: str, name: str) -> str:
        """Physical name of a function, by the id of its construct."""
        stack = RegionStacks.of(self._stage).pipeline
        with translated("cloudformation.DescribeStacks"):
            described = self._clients_of(region).cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        for output in described.get("Outputs", []):
            if output.get("OutputKey") == f"{name}FunctionName":
                return output.get("OutputValue", "")
        raise OperationFailedError(f"Stack {stack} in {region} has no function {name}.")

    def _resources(self, region: str) -> RegionResources:
        return stack_outputs(self._clients_of(region), self._stage)

    def _items(self, region: str) -> ItemStore:
        resources = self._resources(region)
        tables = {Table.LEDGER: resources.ledger_table, Table.USAGE: resources.usage_table}
        items = DynamoDbItemStore(self._clients_of(region).dynamodb, tables)
        check_format(items)
        return items


def _let_run(clients: Clients, function: str, *, alone: bool) -> None:
    """Undo a concurrency of 0. CloudFormation would not, because the template did not change."""
    if alone:
        with translated("lambda.PutFunctionConcurrency"):
            clients.lambda_.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=1)
        return
    with translated("lambda.DeleteFunctionConcurrency"):
        clients.lambda_.delete_function_concurrency(FunctionName=function)
