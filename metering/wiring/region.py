"""Ports to the stores, queues and topics of a region, for functions and commands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from metering.adapters.aws.alerts import SnsAlerts
from metering.adapters.aws.dynamodb.items import DynamoDbItemStore
from metering.adapters.aws.queue_facts import SqsQueueFacts
from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.adapters.aws.s3.objects import S3ObjectStore
from metering.ledger.format_version import check_format, check_readable
from metering.ledger.usage.kinds import KindNames
from metering.stores.writes import Table

if TYPE_CHECKING:
    from metering.adapters.aws.session import Clients
    from metering.stores.items import ItemStore


class ResourceNames(Protocol):
    """Names of a region's resources: `Settings` in a function, `RegionResources` from the outputs of the stacks."""

    @property
    def ledger_table(self) -> str: ...
    @property
    def usage_table(self) -> str: ...
    @property
    def usage_generation(self) -> int: ...
    @property
    def data_bucket(self) -> str: ...
    @property
    def ingest_queue_url(self) -> str: ...
    @property
    def dead_letter_queue_url(self) -> str: ...
    @property
    def page_topic_arn(self) -> str: ...
    @property
    def ticket_topic_arn(self) -> str: ...


@dataclass(frozen=True)
class RegionPorts:
    """Ports to the resources that `names` names, each made on first use."""

    clients: Clients
    names: ResourceNames

    @property
    def region(self) -> str:
        return self.clients.access.region

    @cached_property
    def clock(self) -> SystemClock:
        return SystemClock()

    @cached_property
    def entropy(self) -> SystemEntropy:
        return SystemEntropy()

    @cached_property
    def items(self) -> DynamoDbItemStore:
        """The two tables. The first use reads format and generation of the data, and fails if they are others.

        Raises:
            FormatTooNewError: Newer code wrote the ledger.
            FormatTooOldError: Older code wrote it, and it was not upgraded.
            GenerationError: The ledger goes with another usage table.
            LedgerCorruptError: What the ledger says is no format.
            UnavailableError: The ledger gave no answer.
        """
        tables = {Table.LEDGER: self.names.ledger_table, Table.USAGE: self.names.usage_table}
        items = DynamoDbItemStore(self.clients.dynamodb, tables)
        self._open(items)
        return items

    def _open(self, items: ItemStore) -> None:
        check_format(items, usage_generation=self.names.usage_generation)

    @cached_property
    def kind_names(self) -> KindNames:
        """What the numbers of usage items stand for, remembered from one question to the next."""
        return KindNames(self.items)

    @cached_property
    def objects(self) -> S3ObjectStore:
        return S3ObjectStore(self.clients.s3, self.names.data_bucket)

    @cached_property
    def ingest(self) -> SqsQueue:
        return SqsQueue(self.clients.sqs, self.names.ingest_queue_url)

    @cached_property
    def queue_facts(self) -> SqsQueueFacts:
        return SqsQueueFacts(
            self.clients.sqs,
            self.clients.cloudwatch,
            ingest_url=self.names.ingest_queue_url,
            dead_letter_url=self.names.dead_letter_queue_url,
        )

    @cached_property
    def dead_letters(self) -> SqsQueue:
        return SqsQueue(self.clients.sqs, self.names.dead_letter_queue_url)

    @cached_property
    def alerts(self) -> SnsAlerts:
        return SnsAlerts(
            self.clients.sns, page_topic_arn=self.names.page_topic_arn, ticket_topic_arn=self.names.ticket_topic_arn
        )


@dataclass(frozen=True)
class StatePorts(RegionPorts):
    """Ports for what is the same in all formats: the states of regions."""

    def _open(self, items: ItemStore) -> None:
        check_readable(items)
