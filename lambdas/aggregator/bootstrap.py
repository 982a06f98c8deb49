"""What the aggregator function is made of, built on first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from aws_lambda_powertools import Logger

from metering.adapters.aws.alerts import SnsAlerts
from metering.adapters.aws.emf import EmfMetrics
from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.adapters.aws.session import Clients
from metering.adapters.records.codec import ParquetRowCodec
from metering.adapters.records.reader import ReadLimits, RecordBatchReader
from metering.domain.items import Table
from metering.settings import Settings
from metering.usecases.aggregate import Aggregator

SERVICE = "aggregator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The use case, and what the handler says about it."""

    aggregator: Aggregator
    metrics: EmfMetrics
    logger: Logger


@cache
def dependencies() -> Dependencies:
    """The function's parts, from its environment.

    Raises:
        SettingsError: With every problem of the environment.
    """
    settings = Settings.from_env(os.environ)
    clients = Clients.from_env(os.environ)
    objects = S3ObjectStore(clients.s3, settings.data_bucket)
    metrics = EmfMetrics(service=SERVICE, stage=settings.stage)
    tables = {Table.LEDGER: settings.ledger_table, Table.USAGE: settings.usage_table}
    aggregator = Aggregator(
        store=DynamoDbItemStore(clients.dynamodb, tables),
        objects=objects,
        reader=RecordBatchReader(
            objects, bucket=settings.data_bucket, limits=ReadLimits(object_bytes=settings.object_bytes)
        ),
        codec=ParquetRowCodec(),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        metrics=metrics,
        settings=settings,
        alerts=SnsAlerts(
            clients.sns, page_topic_arn=settings.page_topic_arn, ticket_topic_arn=settings.ticket_topic_arn
        ),
    )
    return Dependencies(aggregator=aggregator, metrics=metrics, logger=Logger(service=SERVICE))
