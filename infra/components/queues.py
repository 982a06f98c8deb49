"""Queues: one for batches and one for log files, each with its dead-letter queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws, Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.components.organisation import READS, WRITES, customer_key, grant_key
from infra.components.shared import acknowledge, removal_policy

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms

    from metering.fleet.stage import StageConfig


class OnrampQueue(Construct):
    """Events of new log files: a standard queue with SSE-SQS, TLS only, and a dead-letter queue.

    The queue is in the functions' stack and is deleted with it. A lost event loses no usage: log files stay in their
    buckets, and `metering ingest` meters missed files.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: StageConfig) -> None:
        super().__init__(scope, construct_id)
        hidden = Duration.seconds(config.onramp_visibility_s)
        key = customer_key(self, config)
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=_encryption(key),
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=Duration.seconds(config.dead_letter_retention_s),
            visibility_timeout=hidden,
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            encryption=_encryption(key),
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=Duration.seconds(config.queue_retention_s),
            visibility_timeout=hidden,
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=config.max_receives),
        )


class IngestQueue(Construct):
    """A standard queue for incoming batches with SSE-SQS, TLS only, and a dead-letter queue.

    Attributes:
        policy: Policy of the ingest queue. A resource that makes S3 send to the queue must depend on this policy.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: StageConfig) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self._stack = config.stack_name("data")
        key = customer_key(self, config)
        removal = removal_policy(config)
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=_encryption(key),
            encryption_master_key=key,
            enforce_ssl=True,
            retention_period=Duration.seconds(config.dead_letter_retention_s),
            visibility_timeout=Duration.seconds(config.visibility_s),
            removal_policy=removal,
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            encryption=_encryption(key),
            encryption_master_key=key,
            retention_period=Duration.seconds(config.queue_retention_s),
            visibility_timeout=Duration.seconds(config.visibility_s),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=config.max_receives),
            removal_policy=removal,
        )
        self.policy = self._policy()
        acknowledge(
            self.queue,
            "SQS4",
            "The queue policy enforces TLS. The policy is a separate resource, so that the bucket's notifications can "
            "depend on it.",
        )

    def grant_send(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` send batches, and get the queue's URL by its name."""
        self._grant(grantee, self.queue, "sqs:SendMessage", "sqs:GetQueueUrl")

    def grant_watch(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` read the attributes of both queues, such as their number of messages."""
        self._grant(grantee, self.queue, "sqs:GetQueueAttributes", "sqs:GetQueueUrl")
        self._grant(grantee, self.dead_letters, "sqs:GetQueueAttributes", "sqs:GetQueueUrl")

    def grant_redrive(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` read dead letters and redrive them to the ingest queue."""
        self.grant_send(grantee)
        self.grant_watch(grantee)
        place = self.dead_letters.queue_arn
        allow(grantee, place, *CONSUME, config=self._config)
        allow_move(grantee, place, emulated=self._config.emulated)

    def _grant(self, grantee: iam.IGrantable, queue: sqs.Queue, *actions: str) -> None:
        allow(grantee, queue.queue_arn, *actions, config=self._config)

    def _policy(self) -> sqs.CfnQueuePolicy:
        statements = [
            iam.PolicyStatement(
                sid="OnlyTls",
                effect=iam.Effect.DENY,
                principals=[iam.AnyPrincipal()],
                actions=["sqs:*"],
                resources=[self.queue.queue_arn],
                conditions={"Bool": {"aws:SecureTransport": "false"}},
            ),
            # The bucket is created after this policy, so the ARN of the bucket is not yet known here. CloudFormation
            # builds a bucket's name from the names of the stack and of the resource.
            iam.PolicyStatement(
                sid="NotificationsOfOwnBucket",
                principals=[iam.ServicePrincipal("s3.amazonaws.com")],
                actions=["sqs:SendMessage"],
                resources=[self.queue.queue_arn],
                conditions={
                    "StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID},
                    "ArnLike": {"aws:SourceArn": f"arn:{Aws.PARTITION}:s3:::{self._stack}-databucket*"},
                },
            ),
        ]
        return sqs.CfnQueuePolicy(
            self, "Policy", queues=[self.queue.queue_url], policy_document=iam.PolicyDocument(statements=statements)
        )


def _encryption(key: kms.IKey | None) -> sqs.QueueEncryption:
    return sqs.QueueEncryption.SQS_MANAGED if key is None else sqs.QueueEncryption.KMS


def allow(grantee: iam.IGrantable, place: str, *actions: str, config: StageConfig) -> None:
    """Allow `grantee` the `actions` on the queues that match `place`, an ARN that may end in `*`, and their key."""
    batches = _EMULATED_BATCHES if config.emulated else {}
    asked = [*actions, *(batches[action] for action in actions if action in batches)]
    iam.Grant.add_to_principal(grantee=grantee, actions=asked, resource_arns=[place])
    if used := [_KEY_USES[action] for action in actions if action in _KEY_USES]:
        grant_key(grantee, config, "sqs", max(used, key=len))


def allow_move(grantee: iam.IGrantable, place: str, *, emulated: bool) -> None:
    """Let `grantee` start SQS redrives from the queues that match `place` to their source queues."""
    # MiniStack finds the queue of a call by its URL. These calls state an ARN, so MiniStack checks their permission for
    # any queue. MiniStack implements none, but says so only to a permitted caller, who then moves the messages.
    places = [place, "*"] if emulated else [place]
    iam.Grant.add_to_principal(grantee=grantee, actions=list(_MOVE), resource_arns=places)


_MOVE = ("sqs:StartMessageMoveTask", "sqs:CancelMessageMoveTask", "sqs:ListMessageMoveTasks")
CONSUME = (
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
    "sqs:GetQueueAttributes",
    "sqs:GetQueueUrl",
)
# Calls for which SQS uses the key of a queue, with the permissions that their caller needs on it.
_KEY_USES = {"sqs:SendMessage": WRITES, "sqs:ReceiveMessage": READS}
# For a batch call, SQS checks the permission of the single call. MiniStack checks that of the batch call.
_EMULATED_BATCHES = {
    "sqs:SendMessage": "sqs:SendMessageBatch",
    "sqs:DeleteMessage": "sqs:DeleteMessageBatch",
    "sqs:ChangeMessageVisibility": "sqs:ChangeMessageVisibilityBatch",
}
