"""Pipeline stack: the functions, the event source mapping of the aggregator, and the schedules of the jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws, CfnOutput, Environment, IStackSynthesizer
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_

from infra.components.doctor import DoctorGrants
from infra.components.functions import FunctionSpec, LogReaders, MeteringFunction, function_settings
from infra.components.log_buckets import grant_read_bills
from infra.components.log_sources import LogSources
from infra.components.organisation import grant_key_of
from infra.components.shared import RegionStack, acknowledge_wildcard
from metering.billing.bill_export import encode_exports
from metering.fleet.regions import ROLLUP_EVERY_MIN
from metering.intake.senders import encode_services
from metering.ledger import partitions
from metering.ledger.notes.checks import CANARY_PK
from metering.ledger.notes.money import ALERTS_PK, BILLER_KEY
from metering.settings import as_environment
from metering.stores.objects import (
    AUDIT_PREFIX,
    CAUSE_DAYS_PREFIX,
    CAUSE_INDEX_PREFIX,
    CAUSE_NAMES_PREFIX,
    CAUSE_PARTS_PREFIX,
    CAUSE_PINS_PREFIX,
    CAUSES_PREFIX,
    CLOSED_PREFIX,
    CONTEXT_PREFIX,
    DROP_PREFIX,
    INGEST_PREFIX,
    INVOICES_PREFIX,
    LAKE_PREFIX,
    LOG_PARTS_PREFIX,
    MARKERS_PREFIX,
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
    notes_prefix,
)
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from constructs import Construct

    from infra.stacks.data import DataStack
    from metering.fleet.stage import StageConfig


# Time of a tick plus work begun before its end, such as making a plan, which does not check the clock.
_ROLLUP_TIMEOUT_S = 3 * MINUTE_S


class PipelineStack(RegionStack):
    """Functions of a region.

    To add a function, create its folder below `lambdas/`. Then add an entry to `specs` and its grants to `_GRANTS`.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        data: DataStack,
        code: lambda_.Code,
        synthesizer: IStackSynthesizer,
        env: Environment | None = None,
    ) -> None:
        super().__init__(scope, construct_id, "Metering functions", synthesizer=synthesizer, env=env)
        self._data = data
        environment = {**data.function_environment(), **function_settings(config)}
        self.functions: dict[str, MeteringFunction] = {}
        for spec in specs(config):
            function = MeteringFunction(
                self, spec.construct_id, config=config, spec=spec, code=code, environment=environment
            )
            self.functions[spec.name] = function
            _GRANTS[spec.name](function, data)
            if spec.every_min is None:
                function.consume(data.ingest, config=config)
            else:
                function.schedule()
            CfnOutput(self, f"{spec.construct_id}FunctionName", value=function.function.function_name)
            CfnOutput(self, f"{spec.construct_id}LogGroupName", value=function.log_group.log_group_name)
        if config.drop_identity == "checksum":
            # The ids that the reconciler looks for are derived from checksums, which S3 tells who may read.
            data.data.grant_read(self.functions["reconciler"].role, DROP_PREFIX)
        region = None if config.emulated or env is None else env.region
        if region in (None, config.rollout.home):
            _grant_other_regions(self.functions["biller"], config, *_SUMMED)
        if config.bill_exports:
            _grant_bills(self.functions["biller"], config)
        self.log_sources = self._log_sources(config, code, environment) if config.log_sources else None
        if self.log_sources is not None and not config.emulated and region != config.rollout.home:
            _grant_other_regions(self.log_sources.log_context, config, OWNERS_PREFIX, region=config.rollout.home)
        if config.producers == "registered":
            self._judge_senders()
        logged = [*self.functions.values(), *(self.log_sources.functions if self.log_sources is not None else ())]
        LogReaders(self, "LogReaders", config=config, functions=logged, role=data.roles.operator)
        DoctorGrants(
            self,
            "Doctor",
            config=config,
            operator=data.roles.operator,
            tables=(data.ledger, data.usage),
            data=data.data,
            compactor=self.functions["compactor"],
        )
        # A deployment may stop between two stacks. Commands refuse to work unless this hash equals that of the data
        # stack. Version 0.1.0 compares this hash; later versions the next one, which no changed subscription affects.
        CfnOutput(self, "SettingsSha256", value=data.settings.sha256)
        CfnOutput(self, "FunctionSettingsSha256", value=config.published().functions_sha256)

    def _judge_senders(self) -> None:
        """Pass the service's roles to the aggregator, which accepts batches only from these roles and producers."""
        onramp = self.log_sources.onramp.role if self.log_sources is not None else None
        senders = encode_services(
            operators=[self._data.roles.operator.role_id],
            onramp="" if onramp is None else onramp.role_id,
            canary=self.functions["canary"].role.role_id,
        )
        for name, value in as_environment({"senders": senders}).items():
            self.functions["aggregator"].function.add_environment(name, value)
        # Commands that resend dead letters also need the senders.
        CfnOutput(self, "ServiceSenders", value=senders)

    def _log_sources(self, config: StageConfig, code: lambda_.Code, environment: dict[str, str]) -> LogSources:
        """Create the optional resources of a region with log sources."""
        topics = self._data.topics
        made = LogSources(self, "LogSources", config=config, topics=topics, code=code, environment=environment)
        _grant_onramp(made.onramp, self._data)
        _grant_log_context(made.log_context, self._data)
        return made


def specs(config: StageConfig) -> tuple[FunctionSpec, ...]:
    """List the functions of a region."""
    return (
        FunctionSpec(
            name="aggregator",
            description="Commits each batch of the ingest queue exactly once.",
            timeout_s=config.timeout_s,
            memory_mb=config.aggregator_memory_mb,
        ),
        FunctionSpec(
            name="compactor",
            description="Compacts staging into the lake, and removes what is not needed any more after it.",
            timeout_s=config.job_timeout_s,
            memory_mb=config.job_memory_mb,
            scratch_mb=config.compactor_scratch_mb,
            every_min=config.compactor_every_min,
            shards=config.policy().shards,
        ),
        FunctionSpec(
            name="rollup",
            description="Books the usage of waiting commits, and hands them on to the compactor.",
            timeout_s=_ROLLUP_TIMEOUT_S,
            memory_mb=config.rollup_memory_mb,
            every_min=ROLLUP_EVERY_MIN,
            shards=config.policy().shards,
        ),
        FunctionSpec(
            name="reconciler",
            description="Compares markers, usage and lake, and finds gaps in the sequences of sources.",
            timeout_s=config.job_timeout_s,
            memory_mb=config.job_memory_mb,
            every_min=config.reconciler_every_min,
        ),
        FunctionSpec(
            name="canary",
            description="Sends a known batch twice, and checks that it is counted once.",
            timeout_s=4 * MINUTE_S,
            memory_mb=config.small_job_memory_mb,
            every_min=config.canary_every_min,
        ),
        FunctionSpec(
            name="watch",
            description="Measures the ledger and the queues, and publishes the figures that alarms compare.",
            timeout_s=MINUTE_S,
            memory_mb=config.small_job_memory_mb,
            every_min=config.watch_every_min,
        ),
        FunctionSpec(
            name="biller",
            description="Sums what was published by day, and tells which budgets are crossed and which days unusual.",
            timeout_s=config.job_timeout_s,
            memory_mb=config.biller_memory_mb,
            every_min=config.biller_every_min,
        ),
    )


# Notes for people and alarms (`metering.ledger.notes`). The prefix does not cover any marker, commit or period.
_NOTES = f"{partitions.NOTE}*"


def _grant_aggregator(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read(role)
    # The aggregator decodes untrusted input, so it must not delete items of the ledger.
    data.ledger.grant_change(role)
    # The transaction of a commit checks that the months of the commit are not closed.
    data.ledger.grant_check(role)
    data.data.grant_read(role, INGEST_PREFIX, DROP_PREFIX)
    # If an object is put twice within seconds, it is announced twice, and its first version is no longer the newest.
    data.data.grant_read_versions(role, INGEST_PREFIX, DROP_PREFIX)
    data.data.grant_write(role, STAGING_PREFIX, QUARANTINE_PREFIX)
    data.topics.grant_publish(role)


def _grant_compactor(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read(role)
    data.ledger.grant_change(role)
    # The compactor deletes published pointers and empty pending items, but never markers, waiting commits and periods.
    data.ledger.grant_delete(role, f"{partitions.HOUR}*", f"{partitions.PENDING}*")
    # The compactor may read lake objects and their totals, because it checks whether an object already exists. It puts
    # markers beside a lake file, but never reads them.
    data.data.grant_read(role, STAGING_PREFIX, RUNS_PREFIX, LAKE_PREFIX, SUMMARIES_PREFIX, QUARANTINE_PREFIX)
    data.data.grant_write(role, LAKE_PREFIX, RUNS_PREFIX, SUMMARIES_PREFIX, MARKERS_PREFIX)
    # Plans of the roll-up are deleted, but plans of the lake are kept.
    data.data.grant_delete(role, STAGING_PREFIX, QUARANTINE_PREFIX, ROLLUP_PLANS_PREFIX)
    data.topics.grant_publish(role)


def _grant_rollup(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read(role)
    data.ledger.grant_change(role)
    # Placing a commit is a transaction that checks that the commit waits; removal from the list is a separate call.
    data.ledger.grant_check(role)
    data.ledger.grant_delete(role, f"{partitions.WAITING}*")
    data.usage.grant_add(role)
    # Two items store the table's id and the id of the last run that wrote to the table.
    data.usage.grant_look_up(role)
    data.data.grant_read(role, STAGING_PREFIX, RUNS_PREFIX)
    data.data.grant_write(role, ROLLUP_PLANS_PREFIX)
    data.topics.grant_publish(role)


def _grant_reconciler(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read(role)
    data.ledger.grant_scan(role)
    # The reconciler stores its findings, and the state of sources, for the watch and for reports.
    data.ledger.grant_put(role, _NOTES)
    data.usage.grant_read(role)
    data.usage.grant_scan(role)
    # The plans of runs list the published hours. The reconciler also compares the accounts that the biller lists.
    data.data.grant_read(role, STAGING_PREFIX, LAKE_PREFIX, SUMMARIES_PREFIX, RUNS_PREFIX, RATED_PREFIX, AUDIT_PREFIX)
    # If a full scan takes more than one invocation, the scan's state is saved below this prefix.
    data.data.grant_write(role, AUDIT_PREFIX)
    # The reconciler lists dropped objects to find those that S3 did not announce, or those refused for their sender.
    data.data.grant_list(role, DROP_PREFIX)
    data.data.grant_read(role, QUARANTINE_PREFIX)
    data.topics.grant_publish(role)


def _grant_canary(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ingest.grant_send(role)
    data.ledger.grant_read(role)
    # The canary stores its runs, from which the watch derives figures.
    data.ledger.grant_put(role, CANARY_PK)
    data.usage.grant_read(role)
    data.data.grant_read(role, STAGING_PREFIX, LAKE_PREFIX)


def _grant_watch(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ingest.grant_watch(role)
    data.ledger.grant_read(role)
    # The watch stores notes, such as the last time at which the queue was empty.
    data.ledger.grant_put(role, _NOTES)
    function.grant_put_metrics()
    function.grant_read_metrics()


def _grant_biller(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read(role)
    # The biller stores figures for the watch, and alerts of budgets. People set the budgets.
    data.ledger.grant_put(role, BILLER_KEY.pk, ALERTS_PK)
    # Plans name the published files. If a lake file's totals are missing, they are computed from the file's rows.
    data.data.grant_read(
        role, RUNS_PREFIX, SUMMARIES_PREFIX, LAKE_PREFIX, RATED_PREFIX, PRICES_PREFIX, ORGANIZATION_PREFIX
    )
    # Reports of saved questions are answered as the API answers: also from the usage table, staging and closed months.
    data.usage.grant_look_up(role)
    data.data.grant_read(role, STAGING_PREFIX, CLOSED_PREFIX, INVOICES_PREFIX, OWNERS_PREFIX, REPORTS_PREFIX)
    # Each alert of a budget is also put below `notes/`, so that a restored ledger does not give the alert again.
    data.data.grant_write(role, RATED_PREFIX, REPORTS_PREFIX, notes_prefix(ALERTS_PK))
    data.data.grant_delete(role, RATED_PREFIX)
    # Days of causes are made of the on-ramps' parts and of contexts. A closed month pins its days.
    days = (CAUSE_DAYS_PREFIX, CAUSE_NAMES_PREFIX, CAUSE_INDEX_PREFIX)
    data.data.grant_list(role, PLANS_PREFIX)
    data.data.grant_read(role, CAUSES_PREFIX, CONTEXT_PREFIX)
    data.data.grant_write(role, *days, CAUSE_PINS_PREFIX)
    data.data.grant_delete(role, *days)
    data.topics.grant_publish(role)


# Day sums and causes of other regions, which budgets and messages about unusual days need.
_SUMMED = (RATED_PREFIX, SUMMARIES_PREFIX, LAKE_PREFIX, CAUSE_DAYS_PREFIX, CAUSE_NAMES_PREFIX, CAUSE_INDEX_PREFIX)


def _grant_other_regions(function: MeteringFunction, config: StageConfig, *prefixes: str, region: str = "*") -> None:
    """Let a function find the data stacks of a region or of all, and read below prefixes of their buckets.

    The home region's biller reads day sums. Elsewhere, captures read the home region's book of owners.
    """
    partition, account = Aws.PARTITION, Aws.ACCOUNT_ID
    stack = config.stack_name("data")
    stacks = f"arn:{partition}:cloudformation:{region}:{account}:stack/{stack}/*"
    bucket = f"arn:{partition}:s3:::{stack}-*"
    objects = [f"{bucket}/{prefix}*" for prefix in prefixes]
    for actions, resources, conditions in (
        (["cloudformation:DescribeStacks"], [stacks], None),
        (["s3:GetObject"], objects, None),
        (["s3:ListBucket"], [bucket], {"StringLike": {"s3:prefix": [f"{prefix}*" for prefix in prefixes]}}),
    ):
        iam.Grant.add_to_principal(
            grantee=function.role, actions=actions, resource_arns=resources, conditions=conditions
        )
    for place in (stacks, bucket, *objects, *grant_key_of(function.role, config, region)):
        acknowledge_wildcard(
            function.role,
            place.replace(partition, "<AWS::Partition>").replace(account, "<AWS::AccountId>"),
            "Stacks and buckets of other regions have generated names, which begin with those of this stage.",
        )


def _grant_bills(function: MeteringFunction, config: StageConfig) -> None:
    """Name the exports of AWS's own bill to the biller, and let the biller read these exports only."""
    exports = encode_exports(export.plain() for export in config.bill_exports)
    for name, value in as_environment({"bill_exports": exports}).items():
        function.function.add_environment(name, value)
    grant_read_bills(function.role, config.bill_exports, config=config)


def _grant_onramp(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    # The on-ramp reads the data format but writes no items, because the aggregator writes the verdicts on the batches.
    data.ledger.grant_read(role)
    data.ingest.grant_send(role)
    data.data.grant_read(role, PLANS_PREFIX, CONTEXT_PREFIX, LOG_PARTS_PREFIX, CAUSE_PARTS_PREFIX)
    data.data.grant_write(role, PLANS_PREFIX, LOG_PARTS_PREFIX, CAUSE_PARTS_PREFIX, QUARANTINE_PREFIX)


def _grant_log_context(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.data.grant_read(role, PLANS_PREFIX, CONTEXT_PREFIX, OWNERS_PREFIX)
    data.data.grant_write(role, CONTEXT_PREFIX)
    data.ledger.grant_read(role)
    # For each log source, the job stores its findings, which the watch function and reports read.
    data.ledger.grant_put(role, _NOTES)
    function.grant_put_metrics()


_GRANTS = {
    "aggregator": _grant_aggregator,
    "compactor": _grant_compactor,
    "rollup": _grant_rollup,
    "reconciler": _grant_reconciler,
    "canary": _grant_canary,
    "watch": _grant_watch,
    "biller": _grant_biller,
}
