"""Connections to a deployed region, built from the outputs of its stacks."""

from dataclasses import asdict, dataclass
from functools import cached_property

from metering.adapters.aws.alarms import CloudWatchAlarms
from metering.adapters.aws.caller import caller_arn
from metering.adapters.aws.published_settings import read_settings
from metering.adapters.aws.stacks import RegionResources
from metering.adapters.no_metrics import NoMetrics
from metering.lake.view import LakeView
from metering.settings import Settings
from metering.wiring.jobs import LakeJobs, lake_jobs
from metering.wiring.lake import lake_view
from metering.wiring.region import RegionPorts


@dataclass(frozen=True)
class RegionConnection(RegionPorts):
    """Ports, settings and jobs of one deployed region, each made on first use.

    Attributes:
        names: Names of the tables, bucket, queues and topics.
    """

    names: RegionResources

    @property
    def stage(self) -> str:
        return self.names.stage

    def caller(self) -> str:
        """ARN of the caller."""
        return caller_arn(self.clients.sts)

    @cached_property
    def alarms(self) -> CloudWatchAlarms:
        return CloudWatchAlarms(self.clients.cloudwatch, stage=self.stage)

    @cached_property
    def settings(self) -> Settings:
        """Settings that the functions work with.

        Raises:
            OperationFailedError: They cannot be read, and no defaults stand in for them.
            UnavailableError: The region does not answer.
        """
        published = read_settings(self.clients, self.stage)
        return Settings.model_validate(
            {**published.policy.model_dump(), **asdict(self.names), "settings_sha256": published.sha256}
        )

    @cached_property
    def view(self) -> LakeView:
        return lake_view(self.items, self.objects, shards=self.settings.shards)

    @cached_property
    def jobs(self) -> LakeJobs:
        return lake_jobs(self, NoMetrics())
