"""Topics `page` and `ticket`, with the permissions that CloudWatch and the functions need to publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws, Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.components.shared import acknowledge_wildcard, removal_policy

if TYPE_CHECKING:
    from metering.fleet.settings.log_sources import Subscription
    from metering.fleet.stage import StageConfig
    from metering.operations.alarms import Severity

_CLOUDWATCH = "cloudwatch.amazonaws.com"


class AlertTopics(Construct):
    """One topic per severity, encrypted with one customer managed key.

    If CloudWatch may not publish to a topic, its alarms fire without a notification. To publish, CloudWatch needs a
    customer managed key (an AWS managed key has a fixed policy), and permission by the topic policy and the key policy.
    Emulators check neither.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: StageConfig) -> None:
        super().__init__(scope, construct_id)
        self.key = kms.Key(
            self,
            "Key",
            description="Encrypts the alert topics of metering.",
            enable_key_rotation=True,
            pending_window=Duration.days(7),
            removal_policy=removal_policy(config),
        )
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="CloudWatchPublishes",
                principals=[iam.ServicePrincipal(_CLOUDWATCH)],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )
        self.page = self._topic("Page", "Metering page: act now")
        self.ticket = self._topic("Ticket", "Metering ticket: can wait until morning")
        for subscription in config.subscriptions:
            self._subscribe(subscription)

    def topic(self, severity: Severity) -> sns.Topic:
        """Return the topic of a severity."""
        return self.page if severity == "page" else self.ticket

    def grant_publish(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` publish alerts of both severities."""
        topics = [self.page.topic_arn, self.ticket.topic_arn]
        iam.Grant.add_to_principal(grantee=grantee, actions=["sns:Publish"], resource_arns=topics)
        iam.Grant.add_to_principal(
            grantee=grantee, actions=["kms:Decrypt", "kms:GenerateDataKey"], resource_arns=[self.key.key_arn]
        )

    def grant_look(self, role: iam.Role) -> None:
        """Let `role` list the subscribers and read the state of alarms."""
        topics = [self.page.topic_arn, self.ticket.topic_arn]
        iam.Grant.add_to_principal(grantee=role, actions=["sns:ListSubscriptionsByTopic"], resource_arns=topics)
        iam.Grant.add_to_principal(grantee=role, actions=["cloudwatch:DescribeAlarms"], resource_arns=["*"])
        acknowledge_wildcard(
            role, "*", "DescribeAlarms is used for all alarms of a region, and only reads their state."
        )

    def _topic(self, construct_id: str, display_name: str) -> sns.Topic:
        topic = sns.Topic(self, construct_id, display_name=display_name, master_key=self.key, enforce_ssl=True)
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsOfThisAccount",
                principals=[iam.ServicePrincipal(_CLOUDWATCH)],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )
        return topic

    def _subscribe(self, subscription: Subscription) -> None:
        topic = self.topic(subscription.severity)
        # The construct id is derived from the endpoint, so that adding a subscriber does not change other subscribers.
        construct_id = f"{subscription.protocol}-{subscription.endpoint}".replace("/", "-")
        sns.CfnSubscription(
            topic,
            construct_id,
            topic_arn=topic.topic_arn,
            protocol=subscription.protocol,
            endpoint=subscription.endpoint,
        )
