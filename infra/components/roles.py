"""Roles for people and producers, each with the permissions of one task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.components.log_buckets import grant_announce, grant_describe, grant_read_logs
from infra.components.queues import CONSUME, IngestQueue, allow, allow_move
from infra.components.shared import acknowledge_wildcard
from metering.stores.objects import (
    ATHENA_RESULTS_PREFIX,
    AUDIT_PREFIX,
    CAUSE_DAYS_PREFIX,
    CAUSE_INDEX_PREFIX,
    CAUSE_NAMES_PREFIX,
    CAUSES_PREFIX,
    CLOSED_PREFIX,
    CONTEXT_PREFIX,
    DOCTOR_PREFIX,
    DROP_PREFIX,
    INGEST_PREFIX,
    INVOICES_PREFIX,
    LAKE_PREFIX,
    LEDGER_PREFIX,
    MARKERS_PREFIX,
    NOTES_PREFIX,
    ORGANIZATION_PREFIX,
    OWNERS_PREFIX,
    PLANS_PREFIX,
    PRICES_PREFIX,
    QUARANTINE_PREFIX,
    RATED_PREFIX,
    REPORTS_PREFIX,
    ROLLUP_PLANS_PREFIX,
    RUNS_PREFIX,
    STAGING_PREFIX,
    SUMMARIES_PREFIX,
    WITHDRAWN_PREFIX,
)

if TYPE_CHECKING:
    from infra.components.bucket import DataBucket
    from infra.components.tables import MeteringTable
    from infra.components.topics import AlertTopics
    from metering.fleet.stage import StageConfig


class AccessRoles(Construct):
    """Roles: the producer sends; the reader reads reports and verifies; the operator also runs jobs and redrives."""

    def __init__(self, scope: Construct, construct_id: str, *, config: StageConfig) -> None:
        super().__init__(scope, construct_id)
        people, senders = _people(config), iam.CompositePrincipal(iam.AccountRootPrincipal(), *_others(config))
        self._stacks = config.stack_name("*")
        self._pipeline = config.stack_name("pipeline")
        self._provisioned = config.ledger_scales is not None
        self.producer = self._role("Producer", "Sends batches to metering.", senders)
        self.reader = self._role("Reader", "Reads metered usage.", people)
        self.operator = self._role(
            "Operator",
            "Reads metered usage, runs the jobs of metering, and sends refused batches and dead letters again.",
            people,
        )

    def grant(
        self, *, ingest: IngestQueue, data: DataBucket, ledger: MeteringTable, usage: MeteringTable, topics: AlertTopics
    ) -> None:
        """Grant each role the permissions of its task."""
        for role in (self.producer, self.reader, self.operator):
            self._find_stacks(role)
        ingest.grant_send(self.producer)
        data.grant_write(self.producer, INGEST_PREFIX, DROP_PREFIX)
        for role in (self.reader, self.operator):
            ledger.grant_read(role)
            ledger.grant_scan(role)
            usage.grant_read(role)
            usage.grant_scan(role)
            data.grant_read(role, *_READABLE)
            data.grant_list(role, *_WEIGHED)
            ingest.grant_watch(role)
            self._read_queue_age(role)
            # `metering status` shows which alarms are firing, and whether the pager topic has subscribers.
            topics.grant_look(role)
        ingest.grant_redrive(self.operator)
        topics.grant_publish(self.operator)
        # To predict the result of a redrive or a retry, the operator must read the same objects as the worker.
        data.grant_read(self.operator, INGEST_PREFIX, DROP_PREFIX)
        data.grant_read_versions(self.operator, INGEST_PREFIX, DROP_PREFIX)
        self._grant_jobs(data=data, ledger=ledger, usage=usage)
        if self._provisioned:
            # `metering rebuild` sets the ledger on demand for its time.
            ledger.grant_bill(self.operator)

    def grant_onramp(self, config: StageConfig) -> None:
        """Let readers see whether log files are queued, and let operators do manually what the log functions do.

        Operators resend dead letters, meter and verify the sources' files, capture contexts, and enable the buckets'
        events.

        The queues are in the pipeline stack; this stack is deployed first and cannot refer to them. The queues'
        generated names begin with the name of the pipeline stack, which has no other queues.
        """
        place = f"arn:{Aws.PARTITION}:sqs:{Aws.REGION}:{Aws.ACCOUNT_ID}:{self._pipeline}-*"
        for role in (self.reader, self.operator):
            allow(role, place, "sqs:GetQueueAttributes", "sqs:GetQueueUrl", config=config)
            acknowledge_wildcard(
                role,
                f"arn:<AWS::Partition>:sqs:<AWS::Region>:<AWS::AccountId>:{self._pipeline}-*",
                "The queue of log files is in another stack and has a generated name, which begins with the stack's.",
            )
        allow(self.operator, place, *CONSUME, "sqs:SendMessage", config=config)
        allow_move(self.operator, place, emulated=config.emulated)
        grant_read_logs(self.operator, config.log_sources, config=config)
        grant_announce(self.operator, config.log_sources)
        grant_describe(self.operator, config.log_sources)

    def _grant_jobs(self, *, data: DataBucket, ledger: MeteringTable, usage: MeteringTable) -> None:
        """Grant the permissions of jobs that people may run by command: compact, reconcile, close a month, rebuild."""
        ledger.grant_read_write(self.operator)
        usage.grant_add(self.operator)
        # With commands, the operator meters log files, captures contexts, and puts prices, payers, owners and invoices.
        data.grant_write(self.operator, INGEST_PREFIX, DROP_PREFIX, QUARANTINE_PREFIX, DOCTOR_PREFIX, *_MADE)
        # Like the compactor and the biller, the operator may clean up after jobs, but never in the lake.
        data.grant_delete(
            self.operator, STAGING_PREFIX, QUARANTINE_PREFIX, RATED_PREFIX, ROLLUP_PLANS_PREFIX, DOCTOR_PREFIX,
            CAUSE_DAYS_PREFIX, CAUSE_NAMES_PREFIX, CAUSE_INDEX_PREFIX,
        )  # fmt: skip
        data.grant_read(self.operator, DOCTOR_PREFIX)

    def _role(self, construct_id: str, description: str, principal: iam.IPrincipal) -> iam.Role:
        return iam.Role(self, construct_id, description=description, assumed_by=principal)

    def _read_queue_age(self, role: iam.IRole) -> None:
        """Let `role` read the queue's age, from which a report computes completeness if the watch has not."""
        iam.Grant.add_to_principal(grantee=role, actions=["cloudwatch:GetMetricStatistics"], resource_arns=["*"])
        acknowledge_wildcard(role, "*", "GetMetricStatistics does not support resource ARNs, and only reads metrics.")

    def _find_stacks(self, role: iam.Role) -> None:
        """Let `role` read stack outputs, in which the command line finds a region's resources."""
        place = f"arn:{Aws.PARTITION}:cloudformation:{Aws.REGION}:{Aws.ACCOUNT_ID}"
        stacks = f"stack/{self._stacks}/*"
        iam.Grant.add_to_principal(
            grantee=role, actions=["cloudformation:DescribeStacks"], resource_arns=[f"{place}:{stacks}"]
        )
        acknowledge_wildcard(
            role,
            f"arn:<AWS::Partition>:cloudformation:<AWS::Region>:<AWS::AccountId>:{stacks}",
            "A stack's ARN ends in an id that is generated at creation. The names are those of this stage.",
        )


def _people(config: StageConfig) -> iam.IPrincipal:
    """People who may become reader or operator: whom the account lets, or only those whose ARN matches a pattern."""
    root = iam.AccountRootPrincipal()
    # MiniStack does not know the condition keys of trust policies.
    if not config.operator_principals or config.emulated:
        return root
    return root.with_conditions({"ArnLike": {"aws:PrincipalArn": list(config.operator_principals)}})


def _others(config: StageConfig) -> list[iam.IPrincipal]:
    """Accounts of other owners that may become the producer, if they are of the organization and state its word."""
    asked = {
        **({"aws:PrincipalOrgID": config.org_id} if config.org_id else {}),
        **({"sts:ExternalId": config.external_id} if config.external_id else {}),
    }
    accounts = [iam.AccountPrincipal(account) for account in config.trusted_accounts]
    if not asked or config.emulated:
        return [*accounts]
    return [account.with_conditions({"StringEquals": asked}) for account in accounts]


# Objects that jobs and operators' commands write and that readers read.
_MADE = (
    LAKE_PREFIX,
    RUNS_PREFIX,
    SUMMARIES_PREFIX,
    MARKERS_PREFIX,
    CLOSED_PREFIX,
    PRICES_PREFIX,
    ORGANIZATION_PREFIX,
    OWNERS_PREFIX,
    RATED_PREFIX,
    REPORTS_PREFIX,
    INVOICES_PREFIX,
    PLANS_PREFIX,
    CONTEXT_PREFIX,
    CAUSES_PREFIX,
    NOTES_PREFIX,
)
_READABLE = (STAGING_PREFIX, QUARANTINE_PREFIX, LEDGER_PREFIX, *_MADE)
# Readers must not read producers' batches, but `metering storage report` needs the sizes of the batches.
_WEIGHED = (INGEST_PREFIX, DROP_PREFIX, ATHENA_RESULTS_PREFIX, AUDIT_PREFIX, DOCTOR_PREFIX, WITHDRAWN_PREFIX)
