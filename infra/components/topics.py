"""Topics `page` and `ticket`, with the permissions that CloudWatch and the functions need to publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws, CfnCondition, CfnResource, Duration, Fn
from aws_cdk import aws_chatbot as chatbot
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.components.organisation import WRITES, customer_key, grant_key
from infra.components.shared import acknowledge_wildcard, removal_policy

if TYPE_CHECKING:
    from metering.fleet.settings.log_sources import ChatChannel, Subscription
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
        self._config = config
        self._key = customer_key(self, config) or self._own_key(config)
        self.page = self._topic("Page", "Metering page: act now")
        self.ticket = self._topic("Ticket", "Metering ticket: can wait until morning")
        self._topics: dict[str, sns.Topic] = {"page": self.page, "ticket": self.ticket}
        for subscription in config.subscriptions:
            self._subscribe(subscription)
        # Emulators have no chat service.
        self.chats = () if config.emulated else tuple(self._chat(channel) for channel in config.chat)

    def _own_key(self, config: StageConfig) -> kms.Key:
        key = kms.Key(
            self,
            "Key",
            description="Encrypts the alert topics of metering.",
            enable_key_rotation=True,
            pending_window=Duration.days(7),
            removal_policy=removal_policy(config),
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="CloudWatchPublishes",
                principals=[iam.ServicePrincipal(_CLOUDWATCH)],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )
        return key

    def topic(self, severity: Severity) -> sns.Topic:
        """Return the topic of a severity."""
        return self._topics[severity]

    def grant_publish(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` publish alerts of both severities."""
        topics = [self.page.topic_arn, self.ticket.topic_arn]
        iam.Grant.add_to_principal(grantee=grantee, actions=["sns:Publish"], resource_arns=topics)
        if self._config.customer_key_arn:
            grant_key(grantee, self._config, "sns", WRITES)
            return
        iam.Grant.add_to_principal(grantee=grantee, actions=list(WRITES), resource_arns=[self._key.key_arn])

    def grant_look(self, role: iam.Role) -> None:
        """Let `role` list the subscribers and read the state of alarms."""
        topics = [self.page.topic_arn, self.ticket.topic_arn]
        iam.Grant.add_to_principal(grantee=role, actions=["sns:ListSubscriptionsByTopic"], resource_arns=topics)
        iam.Grant.add_to_principal(grantee=role, actions=["cloudwatch:DescribeAlarms"], resource_arns=["*"])
        acknowledge_wildcard(
            role, "*", "DescribeAlarms is used for all alarms of a region, and only reads their state."
        )

    def _topic(self, construct_id: str, display_name: str) -> sns.Topic:
        topic = sns.Topic(self, construct_id, display_name=display_name, master_key=self._key, enforce_ssl=True)
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
        if subscription.protocol == "lambda":
            self._permit(topic, subscription.endpoint, construct_id)

    def _permit(self, topic: sns.Topic, function_arn: str, construct_id: str) -> None:
        """Let the topic call a function of the stack's account and region; preflight asks about any other function."""
        _, _, _, region, account, _ = function_arn.split(":", 5)
        here = CfnCondition(
            topic,
            f"{construct_id}-here",
            expression=Fn.condition_and(
                Fn.condition_equals(Aws.ACCOUNT_ID, account), Fn.condition_equals(Aws.REGION, region)
            ),
        )
        permission = lambda_.CfnPermission(
            topic,
            f"{construct_id}-permission",
            action="lambda:InvokeFunction",
            function_name=function_arn,
            principal="sns.amazonaws.com",
            source_arn=topic.topic_arn,
        )
        permission.cfn_options.condition = here

    def _chat(self, channel: ChatChannel) -> CfnResource:
        """Connect a channel to the topics. People in the channel can only read what arrives there.

        Without a guardrail policy of its own, a channel would be limited by AdministratorAccess only.
        """
        scope = Construct(self, f"Chat-{channel.name}")
        role = iam.Role(
            scope,
            "Role",
            assumed_by=iam.ServicePrincipal("chatbot.amazonaws.com"),
            description=f"Role of the chat channel {channel.name} of metering. It has no permission.",
        )
        topics = [topic.topic_arn for name, topic in self._topics.items() if channel.severity in (name, "all")]
        limits = [f"arn:{Aws.PARTITION}:iam::aws:policy/AWSDenyAll"]
        if channel.kind == "slack":
            return chatbot.CfnSlackChannelConfiguration(
                scope,
                "Channel",
                configuration_name=channel.name,
                iam_role_arn=role.role_arn,
                slack_workspace_id=channel.workspace_id,
                slack_channel_id=channel.channel_id,
                sns_topic_arns=topics,
                guardrail_policies=limits,
            )
        return chatbot.CfnMicrosoftTeamsChannelConfiguration(
            scope,
            "Channel",
            configuration_name=channel.name,
            iam_role_arn=role.role_arn,
            team_id=channel.team_id,
            teams_tenant_id=channel.tenant_id,
            teams_channel_id=channel.channel_id,
            sns_topic_arns=topics,
            guardrail_policies=limits,
        )
