"""Data stack: bucket, tables, queues, topics, roles and published settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import CfnOutput, Environment, IStackSynthesizer

from infra.components.analytics import LakeCatalog
from infra.components.bucket import DataBucket
from infra.components.queues import IngestQueue
from infra.components.roles import AccessRoles
from infra.components.settings import PublishedSettings
from infra.components.shared import RegionStack
from infra.components.tables import ledger_table, usage_table
from infra.components.topics import AlertTopics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from constructs import Construct

    from metering.fleet.stage import StageConfig
    from metering.settings import GivenSettings


class DataStack(RegionStack):
    """Durable state of a region, and the roles that may use it."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        given: GivenSettings | None,
        synthesizer: IStackSynthesizer,
        env: Environment | None = None,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            "Metering data stores",
            synthesizer=synthesizer,
            env=env,
            termination_protection=config.stateful_retained,
        )
        self.ingest = IngestQueue(self, "Ingest", config=config)
        self.data = DataBucket(self, "Data", config=config, ingest=self.ingest)
        self.ledger = ledger_table(self, config)
        self.usage = usage_table(self, config, config.policy().usage_generation, name=config.usage_table)
        self._before = usage_table(self, config, config.usage_before) if config.usage_before else None
        self.topics = AlertTopics(self, "Topics", config=config)
        self.roles = AccessRoles(self, "Roles", config=config)
        self.roles.grant(ingest=self.ingest, data=self.data, ledger=self.ledger, usage=self.usage, topics=self.topics)
        if config.log_sources:
            self.roles.grant_onramp(config)
        self.settings = PublishedSettings(self, "Settings", config=config, given=given)
        for role in (self.roles.reader, self.roles.operator):
            self.settings.grant_read(role)
        self.catalog = LakeCatalog(self, "Catalog", config=config, data=self.data) if config.analytics else None
        if self.catalog is not None:
            self.catalog.grant_query(self.roles.reader)
            self.catalog.grant_query(self.roles.operator)
        self._outputs(config)

    def function_environment(self) -> dict[str, str]:
        """Return the environment variables that name the resources to the functions. `metering.settings` reads them."""
        return {
            "METERING_LEDGER_TABLE": self.ledger.name,
            "METERING_USAGE_TABLE": self.usage.name,
            "METERING_DATA_BUCKET": self.data.bucket.bucket_name,
            "METERING_INGEST_QUEUE_URL": self.ingest.queue.queue_url,
            "METERING_DEAD_LETTER_QUEUE_URL": self.ingest.dead_letters.queue_url,
            "METERING_PAGE_TOPIC_ARN": self.topics.page.topic_arn,
            "METERING_TICKET_TOPIC_ARN": self.topics.ticket.topic_arn,
            **({"METERING_CHAT": "true"} if self.topics.chats else {}),
        }

    def _outputs(self, config: StageConfig) -> None:
        outputs = {
            "IngestQueueUrl": self.ingest.queue.queue_url,
            "DeadLetterQueueUrl": self.ingest.dead_letters.queue_url,
            "DataBucketName": self.data.bucket.bucket_name,
            "LedgerTableName": self.ledger.name,
            "UsageTableName": self.usage.name,
            "UsageGeneration": str(config.policy().usage_generation),
            "PageTopicArn": self.topics.page.topic_arn,
            "TicketTopicArn": self.topics.ticket.topic_arn,
            "ProducerRoleArn": self.roles.producer.role_arn,
            "ReaderRoleArn": self.roles.reader.role_arn,
            "OperatorRoleArn": self.roles.operator.role_arn,
            "SettingsParameterName": self.settings.name,
            "SettingsSha256": self.settings.sha256,
        }
        if self.catalog is not None:
            outputs |= {"LakeDatabaseName": self.catalog.database_name, "WorkGroupName": self.catalog.workgroup.name}
        if config.drop_identity != "etag":
            outputs["DropIdentity"] = config.drop_identity
        for name, value in outputs.items():
            CfnOutput(self, name, value=value)
        if self._before is not None:
            CfnOutput(self, "UsageTableBeforeName", value=self._before.name)
            # The previous version's pipeline imports these exports until it is deployed itself, after this stack.
            self.export_value(self._before.table.table_arn)
            self.export_value(self._before.name)
        # The pipeline refers to this export only while producers are registered. This stack is deployed first, and
        # CloudFormation refuses to remove an export while the previous pipeline still imports it.
        self.export_value(self.roles.operator.role_id)
        self._keep_exports(config.exports_before)

    def _keep_exports(self, exports: Mapping[str, str]) -> None:
        """Export the values of tables that left the stack as before, under the same names.

        As long as another stack imports an export, CloudFormation refuses to remove or to change it.
        """
        made = [each for each in self.node.find_child("Exports").node.find_all() if isinstance(each, CfnOutput)]
        own = {self.resolve(each.logical_id) for each in made}
        for name, value in exports.items():
            if name not in own:
                kept = CfnOutput(self, f"Kept{name}", value=value, export_name=f"{self.stack_name}:{name}")
                kept.override_logical_id(name)
