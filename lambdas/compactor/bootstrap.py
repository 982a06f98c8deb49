"""What the compactor function is made of, built on first use."""

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
from metering.adapters.lake.jobs import LakeJobs
from metering.domain.items import Table
from metering.settings import Settings
from metering.usecases.sweep import Sweeper

SERVICE = "compactor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The use cases, and what the handler says about them."""

    sweeper: Sweeper
    jobs: LakeJobs
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
    metrics = EmfMetrics(service=SERVICE, stage=settings.stage)
    tables = {Table.LEDGER: settings.ledger_table, Table.USAGE: settings.usage_table}
    jobs = LakeJobs(
        items=DynamoDbItemStore(clients.dynamodb, tables),
        objects=S3ObjectStore(clients.s3, settings.data_bucket),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        metrics=metrics,
        alerts=SnsAlerts(
            clients.sns, page_topic_arn=settings.page_topic_arn, ticket_topic_arn=settings.ticket_topic_arn
        ),
        settings=settings,
    )
    sweeper = Sweeper(
        store=jobs.items,
        objects=jobs.objects,
        clock=jobs.clock,
        entropy=jobs.entropy,
        metrics=metrics,
        settings=settings,
    )
    return Dependencies(sweeper=sweeper, jobs=jobs, metrics=metrics, logger=Logger(service=SERVICE))
