"""Connections to a deployed region, built from the outputs of its stacks.

A report needs neither jobs nor the settings of a stage. Their imports take as long as the report.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Self

from metering.adapters import inert
from metering.adapters.aws import log_buckets, published_settings, queues
from metering.adapters.aws.capacity import LedgerCapacity
from metering.adapters.aws.cloudwatch import CloudWatchAlarms, CloudWatchFunctionLogs, log_groups
from metering.adapters.aws.pacing import pace
from metering.adapters.aws.session import Clients, ReadOnlyClients, caller_arn, caller_id
from metering.adapters.aws.stacks import RegionResources, read_outputs, stack_outputs
from metering.fleet.ports import RegionStacks
from metering.intake.senders import ServiceSenders, decode_services
from metering.settings import GivenSettings, Settings
from metering.stores import clock
from metering.units import MIB
from metering.wiring import lake, region

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from metering.adapters.aws.producer_roles import IamProducerRoles
    from metering.fleet.stage import StageConfig
    from metering.lake.view import LakeView
    from metering.onramps.coverage.job import CoverageJob
    from metering.onramps.sources import LogSource
    from metering.wiring.jobs import LakeJobs


# A command that reads hour after hour meets each staging object in several of them.
_KEPT_BYTES = 64 * MIB


class OnrampQueues(NamedTuple):
    """Queues for log files: the queue of events about new files, and its dead-letter queue."""

    events: queues.SqsQueue
    dead: queues.SqsQueue


@dataclass(frozen=True)
class RegionConnection(region.RegionPorts):
    """Ports, settings and jobs of one deployed region, each created on first use."""

    WATCHES = True
    names: RegionResources

    @property
    def stage(self) -> str:
        return self.names.stage

    @property
    def emulated(self) -> bool:
        """Whether the endpoint is an emulator or another custom endpoint."""
        return self.clients.access.custom_endpoint

    @cached_property
    def version(self) -> str:
        """Deployed version, as the deployment published it; empty if no version was published."""
        return read_outputs(self.clients, RegionStacks.of(self.stage).data).get("Version", "")

    @cached_property
    def onramp(self) -> OnrampQueues | None:
        """Queues of log files; None for a region without log sources."""
        outputs = read_outputs(self.clients, RegionStacks.of(self.stage).pipeline)
        urls = [outputs.get(name, "") for name in ("OnrampQueueUrl", "OnrampDeadLetterQueueUrl")]
        if not all(urls):
            return None
        events, dead = (queues.SqsQueue(self.clients.sqs, url) for url in urls)
        return OnrampQueues(events=events, dead=dead)

    def read_only(self) -> Self:
        """The same region with clients that refuse every write call."""
        return replace(self, clients=ReadOnlyClients(self.clients.access))

    @cached_property
    def services(self) -> ServiceSenders | None:
        """The service's own senders; None if only the queue policy limits senders."""
        text = read_outputs(self.clients, RegionStacks.of(self.stage).pipeline).get("ServiceSenders", "")
        return decode_services(text) if text else None

    @cached_property
    def producer_roles(self) -> IamProducerRoles:
        from metering.adapters.aws.producer_roles import IamProducerRoles

        return IamProducerRoles(
            clients=self.clients,
            config=self.config,
            queue_url=self.names.ingest_queue_url,
            bucket=self.names.data_bucket,
        )

    def caller(self) -> str:
        return caller_arn(self.clients.sts)

    def caller_id(self) -> str:
        """Unique id of the caller, in the form of SQS's sender ids."""
        return caller_id(self.clients.sts)

    @cached_property
    def alarms(self) -> CloudWatchAlarms:
        return CloudWatchAlarms(self.clients.cloudwatch, stage=self.stage)

    @cached_property
    def function_logs(self) -> CloudWatchFunctionLogs:
        """Logs of the functions.

        Raises:
            OperationFailedError: The deployed version does not publish the names of its log groups.
        """
        return CloudWatchFunctionLogs(self.clients.logs, log_groups(self.clients, self.stage))

    @cached_property
    def settings(self) -> Settings:
        """The settings that the functions use.

        Raises:
            OperationFailedError: The settings cannot be read; defaults would be wrong.
            UnavailableError: The region does not answer.
        """
        published = published_settings.read_settings(self.clients, self.stage)
        return Settings.model_validate(
            {**published.policy.model_dump(), **asdict(self.names), "settings_sha256": published.functions_sha256}
        )

    @cached_property
    def config(self) -> StageConfig:
        """Configuration of the stage in this region: that which the deployment published, or the base of the stage."""
        from metering.fleet.settings.bases import SAFEST, STAGES
        from metering.fleet.settings.layers import config_of

        given = published_settings.read_settings(self.clients, self.stage).given
        base = self.stage if self.stage in STAGES else SAFEST
        return config_of(self.stage, given or GivenSettings(like=base), {}).in_region(self.region)

    @cached_property
    def log_sources(self) -> tuple[LogSource, ...]:
        """Log sources of the stage whose bucket is in this region, as the deployment published them."""
        return tuple(source.plain() for source in self.config.log_sources)

    @property
    def chats(self) -> bool:
        return bool(self.config.chat)

    @cached_property
    def coverage(self) -> CoverageJob:
        from metering.wiring import onramps

        return onramps.build_coverage(self, self.log_sources)

    @cached_property
    def bucket_events(self) -> log_buckets.S3BucketEvents:
        return log_buckets.S3BucketEvents(self.clients.s3)

    @cached_property
    def view(self) -> LakeView:
        return lake.lake_view(
            self.items,
            self.objects,
            shards=self.settings.shards,
            life_s=self.settings.lake_life_s,
            clock=self.clock,
            kept_bytes=_KEPT_BYTES,
        )

    def on_demand(self, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """Keep the ledger on demand within a block that reads or writes it in bulk, if its capacity is provisioned."""
        return LedgerCapacity(self.clients.dynamodb, self.config.ledger_scales).on_demand(self.names.ledger_table, say)

    @cached_property
    def jobs(self) -> LakeJobs:
        from metering.wiring.jobs import lake_jobs

        jobs = lake_jobs(self, inert.NoMetrics(), threads=clock.scans_at_once(emulated=self.emulated))
        # Only a ledger whose format is known is asked for its capacity.
        pace(self.clients, self.names.ledger_table)
        return jobs


def connected(clients: Clients, stage: str) -> RegionConnection:
    """Connect to the region of `clients`.

    Raises:
        SettingsError: The stage is not deployed there.
        UnavailableError: The region does not answer.
    """
    return RegionConnection(clients=clients, names=stack_outputs(clients, stage))
