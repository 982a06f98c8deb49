"""What the canary function is made of, built on first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from aws_lambda_powertools import Logger

from metering.adapters.aws.emf import EmfMetrics
from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.runtime import SystemClock
from metering.adapters.aws.session import Clients
from metering.adapters.lake.reader import ParquetLakeReader
from metering.domain.items import Table
from metering.settings import Settings
from metering.usecases.canary import Canary
from metering.usecases.lake_view import LakeView

SERVICE = "canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The use case, and what the handler says about it."""

    canary: Canary
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
    items = DynamoDbItemStore(
        clients.dynamodb, {Table.LEDGER: settings.ledger_table, Table.USAGE: settings.usage_table}
    )
    objects = S3ObjectStore(clients.s3, settings.data_bucket)
    canary = Canary(
        items=items,
        queue=SqsQueue(clients.sqs, settings.ingest_queue_url),
        view=LakeView(items=items, objects=objects, reader=ParquetLakeReader(objects), shards=settings.shards),
        clock=SystemClock(),
        region=clients.access.region,
    )
    return Dependencies(
        canary=canary,
        metrics=EmfMetrics(service=SERVICE, stage=settings.stage),
        logger=Logger(service=SERVICE),
    )
