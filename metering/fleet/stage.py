"""Configuration of a stage, and its validation. Durations are in seconds unless their name states another unit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from metering.commit.throttling import REFUSED_FROM_RECEIVE
from metering.errors import SettingsError
from metering.fleet.settings import organisation
from metering.fleet.settings.bases import STAGES, flat, nested
from metering.fleet.settings.log_sources import (
    MOST_BYTES,
    ApiGroup,
    BillExportSetting,
    ChatChannel,
    LogSource,
    Subscription,
    problems_of_exports,
    problems_together,
)
from metering.fleet.settings.words import InWords, problems_of, shown, unknown
from metering.intake.admission import shortest_marker_life_s
from metering.operations.runbooks import CONSOLE_HOSTS, DEFAULT_PARTITION
from metering.settings import GivenSettings, Policy, QueueSettings, StageSettings
from metering.units import DAY_S, HOUR_S, MIB, MINUTE_S
from metering.version import DropIdentity


class RolloutRules(BaseModel):
    """Rules for the regions of a stage, and precautions of a rollout. This is a part of the stage's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: str = Field("us-east-1", description="Holds the state of all regions, and the project that builds them.")
    allow: tuple[str, ...] = Field((), description="Patterns of regions that `reconcile` builds; none: no region.")
    deny: tuple[str, ...] = Field((), description="Patterns that it never builds, even if `allow` names them.")
    opt_in: bool = Field(default=False, description="Regions that the account has disabled are enabled first.")
    largest_wave: int = Field(4, ge=1, description="Waves double from one region up to this many.")
    bake_min: int = Field(15, ge=0, description="Minutes that a new region is watched before it is ready.")
    canaries: int = Field(3, ge=0, description="Good canary results that a bake needs at least.")
    canary_wait_min: int = Field(30, ge=1, description="Minutes that they may take after the bake.")
    pager_needed: bool = Field(default=False, description="Ready needs a confirmed subscription to the page topic.")
    x86_regions: tuple[str, ...] = Field((), description="Patterns of regions that are built for x86_64 at once.")

    def admits(self, region: str) -> bool:
        """Whether `reconcile` may build `region`."""
        return bool(self.allow) and not self.excludes(region)

    def excludes(self, region: str) -> bool:
        """Whether a person who names `region` breaks the rules: without `allow`, the name is consent enough."""
        return matches(region, self.deny) or (bool(self.allow) and not matches(region, self.allow))


class BootstrapRules(BaseModel):
    """The CDK's bootstrap of a region, which a platform team may own. This is a part of the stage's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["auto", "never"] = Field(
        "auto",
        description="auto: a missing or old bootstrap is made by the deployment; never: it is refused.",
    )
    qualifier: str = Field(
        "hnb659fds", pattern=r"^[a-z0-9]{1,10}$", description="In the names of its roles and of its bucket."
    )
    toolkit_stack: str = Field("CDKToolkit", pattern=r"^[A-Za-z][A-Za-z0-9-]{0,127}$", description="Name of its stack.")
    policies: tuple[str, ...] = Field((), description="ARNs of what CloudFormation may do; none: as an administrator.")
    boundary: str = Field(
        "",
        pattern=r"^[A-Za-z0-9+=,.@_/-]{0,128}$",
        description="Policy that bounds its roles; empty: none.",
    )
    kms: str = Field(
        "", pattern=r"^[A-Za-z0-9_:/-]{0,128}$", description="Id of its bucket's key, or AWS_MANAGED_KEY; empty: S3's."
    )


# Keys of tags as AWS allows them (Tag Editor user guide), and as many as fit into a function's environment.
_TAG_KEY = r"^[\w .:/=+@-]{1,128}$"
_TAG_KEYS_CHARS = 400


class CauseRules(BaseModel):
    """Rules for causes, which say whose workloads move bytes. This is a part of the stage's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="Keep the causes of log files (docs/causes.md) for 15 days.")
    tags: tuple[Annotated[str, Field(pattern=_TAG_KEY)], ...] = Field(
        ("Name",), description="Keys of the tags that contexts are captured with; none: only those of AWS's services."
    )

    @field_validator("tags")
    @classmethod
    def _few(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        if len(",".join(tags)) > _TAG_KEYS_CHARS:
            raise ValueError(f"a function's environment has room for {_TAG_KEYS_CHARS} characters of keys")
        return tags


TABLE_MODELS: dict[str, type[BaseModel]] = {"rollout": RolloutRules, "bootstrap": BootstrapRules, "causes": CauseRules}
"""Fields that are tables with a model of their own."""


def matches(region: str, patterns: Iterable[str]) -> bool:
    """Whether the name of a region matches at least one of the patterns (`eu-*`)."""
    return any(fnmatchcase(region, pattern) for pattern in patterns)


# Fields of `metering.settings.Policy` that a stage can override in `tunables`. `StageConfig` has its two other fields.
TUNABLES: dict[str, int] = {
    "ahead_s": 5 * MINUTE_S,
    "admission_floor_s": 0,
    "shards": 1,
    "rollup_every_s": 15,
    "rollup_commits": 2_000,
    "rollup_blocks": 0,
    "kinds_per_account": 4_096,
    # Generation 1 was the usage table of release 0.1.0 (docs/decisions/0044-upgrade.md).
    "usage_generation": 2,
    "commit_records": 200_000,
    "commit_bytes": 64 * MIB,
    "object_bytes": 512 * MIB,
    "reserve_ms": 10_000,
    "attempts": 4,
    # 12 million rows of about 14 bytes are about 170 MB.
    "compact_file_rows": 12_000_000,
    "compact_run_rows": 60_000_000,
    "compact_run_pairs": 20_000,
    "compact_wait_today_s": HOUR_S,
    "compact_wait_older_s": DAY_S,
    "scan_every_s": 7 * DAY_S,
    "scan_memory_mb": 1_024,
    "source_jump": 1_000_000,
    # Longer than a marker's life, so that a remaining marker cannot bring a forgotten source back.
    "source_life_s": 60 * DAY_S,
    "clean_wait_s": HOUR_S,
    # With an inventory and version 5 of flow logs, about 11 % is unclassifiable (docs/on-ramps.md).
    "log_unclassified_percent": 20,
}
# Write units per second that a new on-demand table accepts (DynamoDB developer guide, warm throughput).
TABLE_WRITES_PER_S = 4_000
# Share of provisioned capacity that auto scaling aims to have used.
TARGET_PERCENT = 70
# Least and greatest units per second of `Read` and `Write`.
Scales = Mapping[str, tuple[int, int]]


def peak_writes_per_s(*warm: int) -> int:
    """Write units per second that a table's quota must allow, given the warm throughput settings of all tables."""
    return max(TABLE_WRITES_PER_S, *warm)


ApiFront = Literal["http", "url"]

# An HTTP API times out after 30 s (API Gateway quotas), and the function should answer before that.
API_TIMEOUT_MAX_S = 29
REGION_MARK = "{region}"
"""Stands for the region's name in `api_domain` and `replicate_to`: two regions must not share either."""

# Matches the domain with a sample for `{region}`: region names have only characters that this pattern allows.
_HOST = re.compile(r"^(?=.{4,200}$)([a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?\.)+[a-z]{2,40}$")


def domain_in(domain: str, region: str) -> str:
    """Host name of the HTTP API in a region."""
    return domain.replace(REGION_MARK, region)


Architecture = Literal["arm64", "x86_64"]

# Name of a DynamoDB table (DynamoDB developer guide, naming rules), or empty.
TABLE_NAME = r"^([A-Za-z0-9_.-]{3,255})?$"

# The event source mapping may retry a batch six times before another poller sees it (AWS's recommendation).
VISIBILITY_FACTOR = 6
# SQS keeps a message for at most 14 days and hides it for at most 12 hours.
SQS_RETENTION_MAX_S = 14 * DAY_S
SQS_VISIBILITY_MAX_S = 12 * 3_600
# A batch may stay in a queue for 14 days after its plan was executed, and its marker's life begins only then.
PLAN_OUTLIVES_DAYS = 15

# Fields of a stage that are not settings.
NO_SETTINGS = ("stage", "rehearsal", "first_build", "usage_before", "exports_before")


class StageConfig(BaseModel):
    """Configuration of one stage. Defaults are for a stage in an AWS account; `STAGES` lists deviations from them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str = Field(pattern=r"^[a-z][a-z0-9-]{0,15}$", description="Name of the stage, part of the stack names.")
    # Bundles for an emulator contain only sources, because the emulator runs them in the project's own environment.
    emulated: bool = Field(
        default=False, description="It runs on an emulator: deployed as the caller, without what emulators lack."
    )
    # A rehearsal deployment sets this field itself (`REHEARSAL`), and its stacks state it.
    rehearsal: bool = Field(default=False, description="A stage of an account is tried on an emulator.")
    # Set by the deployment: the ledger's usage table until an upgrade or a restore ends.
    usage_before: int = Field(0, ge=0, description="An older usage table that is kept, too; 0 for none.")
    # Set by the deployment: the previous pipeline imports these until it is deployed itself, after the data stack.
    exports_before: dict[str, str] = Field(
        default_factory=dict, description="Exports of tables that are not the data stack's own any more."
    )
    # Set by the deployment: if a stack's first creation is rolled back, its resources must be deleted, and deletion
    # protection would retain a table.
    first_build: bool = Field(default=False, description="The data stack is created, and may be rolled back.")
    stateful_retained: bool = Field(
        default=True, description="Data outlives its stack: RETAIN, deletion and termination protection."
    )
    architecture: Architecture = Field("arm64", description="Processors of the functions.")
    log_level: Literal["DEBUG", "INFO", "WARNING"] = Field("INFO", description="Least severe line that is logged.")
    log_retention_days: Literal[1, 7, 30, 90, 365] = Field(90, description="Life of the functions' logs.")
    tracing: bool = Field(default=False, description="X-Ray traces of the functions.")

    # With the checks of a few ended months, 95 batches fill one transaction. More messages would need a second one.
    batch_size: int = Field(95, ge=1, le=10_000, description="Most messages that one invocation gets.")
    batch_window_s: int = Field(
        15, ge=0, le=300, description="Longest wait for that many messages; 15 s fill them with 20 pollers."
    )
    timeout_s: int = Field(60, ge=1, le=900, description="Longest run of the aggregator.")
    visibility_s: int = Field(450, ge=1, le=SQS_VISIBILITY_MAX_S, description="Time that a received message is hidden.")
    # In tests, the messages of killed workers must become visible again before the test ends.
    short_visibility: bool = Field(default=False, description="Break the rule for visibility_s; emulated stages only.")
    max_receives: int = Field(
        7,
        ge=REFUSED_FROM_RECEIVE,
        description="At least the receive from which a batch that is too slow is refused; 7 outlast a throttle of half "
        "an hour.",
    )
    max_concurrency: int = Field(20, ge=2, le=1_000, description="Most aggregators at a time.")
    aggregator_memory_mb: int = Field(1_769, ge=512, le=10_240, description="1,769 MB is one whole core.")
    queue_retention_s: int = Field(
        4 * DAY_S, ge=MINUTE_S, le=SQS_RETENTION_MAX_S, description="Life of a message in the ingest queue."
    )
    dead_letter_retention_s: int = Field(
        14 * DAY_S, ge=MINUTE_S, le=SQS_RETENTION_MAX_S, description="Life of a dead letter, from its first send on."
    )

    job_timeout_s: int = Field(900, ge=30, le=900, description="Longest run of compactor and reconciler.")
    job_memory_mb: int = Field(2_048, ge=512, le=10_240, description="Memory of compactor and reconciler.")
    compactor_scratch_mb: int = Field(
        4_096, ge=512, le=10_240, description="Sorted runs of a full lake file: about 70 bytes a row."
    )
    small_job_memory_mb: int = Field(512, ge=256, le=10_240, description="Memory of canary and watch.")
    compactor_every_min: int = Field(5, ge=1, description="Minutes between two runs of the compactor.")
    rollup_memory_mb: int = Field(1_769, ge=512, le=10_240, description="Memory of the roll-up.")
    reconciler_every_min: int = Field(15, ge=1, description="Minutes between two runs of the reconciler.")
    canary_every_min: int = Field(5, ge=1, description="Minutes between two runs of the canary.")
    watch_every_min: int = Field(1, ge=1, description="Minutes between two runs of the watch.")
    biller_every_min: int = Field(60, ge=1, le=120, description="Minutes between two runs of the biller.")
    biller_memory_mb: int = Field(1_769, ge=512, le=10_240, description="Memory of the biller.")

    onramp_timeout_s: int = Field(300, ge=30, le=900, description="Longest run of the on-ramp for one log file.")
    onramp_memory_mb: int = Field(1_769, ge=512, le=10_240, description="Memory of the on-ramp.")
    onramp_concurrency: int = Field(5, ge=2, le=1_000, description="Most log files that are read at a time.")
    log_context_every_min: int = Field(5, ge=1, description="Minutes between two looks at what logs need to be judged.")

    api: bool = Field(default=False, description="HTTP API and explorer page of the region.")
    api_front: ApiFront = Field("http", description="What stands before it: an HTTP API, or a URL of the function.")
    api_rate_per_s: int = Field(20, ge=1, le=10_000, description="Requests a second that the HTTP API lets through.")
    api_burst: int = Field(40, ge=1, le=10_000, description="Requests at once that the HTTP API lets through.")
    api_concurrency: int = Field(10, ge=1, le=500, description="Executions reserved for it, and most of it at a time.")
    api_memory_mb: int = Field(1_769, ge=512, le=10_240, description="Memory of the function of the API.")
    api_timeout_s: int = Field(29, ge=5, le=API_TIMEOUT_MAX_S, description="Longest run of one request.")
    api_domain: str = Field("", description="Host name of the API, with {region} in it; empty: what AWS makes.")
    api_zone_id: str = Field(
        "", pattern=r"^[A-Z0-9]{0,32}$", description="Hosted zone of Route 53 that api_domain is in."
    )

    api_issuer: Annotated[str, InWords("the URL of an issuer, such as https://login.example.com")] = Field(
        "",
        pattern=r"^(https://[A-Za-z0-9._/-]{4,256})?$",
        description="Identity provider of people; empty: tokens only.",
    )
    api_audience: str = Field(
        "", pattern=r"^[!-~]{0,256}$", description="Audience, or client id, that the provider puts into its tokens."
    )
    api_groups_claim: str = Field(
        "groups", pattern=r"^[A-Za-z0-9._:/-]{1,128}$", description="Claim that has a person's groups."
    )
    api_client_id: str = Field(
        "", pattern=r"^[!-~]{0,256}$", description="The explorer page's own id at the provider; empty: no button."
    )
    api_token_endpoint: Annotated[str, InWords("the token_endpoint of the provider's openid-configuration")] = Field(
        "",
        pattern=r"^(https://[A-Za-z0-9._/-]{4,256})?$",
        description="Where the page exchanges a code for a token; the only other address that it may reach.",
    )
    api_scopes: str = Field(
        "openid", pattern=r"^openid( [!#-\[\]-~]{1,128}){0,16}$", description="What the page asks the provider for."
    )
    api_groups: tuple[ApiGroup, ...] = Field((), description="What people see by their groups; the first one counts.")

    admission_window_s: int = Field(35 * DAY_S, ge=DAY_S, description="Greatest age of a record that is metered.")
    marker_life_s: int = Field(50 * DAY_S, ge=DAY_S, description="Time that a batch is remembered after its verdict.")
    drop_identity: DropIdentity = Field(
        "etag",
        description="What the batch id of an object below drop/ is derived from, beside bucket and key. checksum is "
        "for a stage with kms_key_arn, where each upload gets another ETag; it is chosen before the first deployment.",
    )
    tunables: dict[str, int] = Field(default_factory=dict, description="Other limits and intervals of the functions.")

    # A restore makes the table, and the region's stack takes it by its name (P41). It belongs to one region.
    ledger_table: str = Field("", pattern=TABLE_NAME, description="Restored ledger of one region; empty: the stack's.")
    usage_table: str = Field("", pattern=TABLE_NAME, description="Usage table of one region; empty: the stack's.")

    # A new table accepts this many writes per second. Later, the table accepts twice its highest previous peak.
    ledger_warm_writes_per_s: int = Field(0, ge=0, le=1_000_000, description="Ledger's warm throughput; 0: AWS's own.")
    usage_warm_writes_per_s: int = Field(0, ge=0, le=1_000_000, description="Usage's warm throughput; 0: AWS's own.")

    # A full commit needs 194 write units at once. The greatest writes are what a new table on demand takes, which is
    # three times the peak of the target (docs/decisions/0050-provisioned.md).
    billing: Literal["on-demand", "provisioned"] = Field(
        "on-demand", description="How the ledger is paid: by request, or for capacity that auto scaling provisions."
    )
    ledger_min_writes_per_s: int = Field(200, ge=200, le=1_000_000, description="Least provisioned writes; a commit.")
    ledger_max_writes_per_s: int = Field(TABLE_WRITES_PER_S, ge=200, le=1_000_000, description="Most of them.")
    ledger_min_reads_per_s: int = Field(200, ge=100, le=1_000_000, description="Least provisioned reads.")
    ledger_max_reads_per_s: int = Field(4_000, ge=100, le=1_000_000, description="Most of them.")

    versioned: bool = Field(default=True, description="The bucket keeps older versions of its objects.")
    noncurrent_days: int = Field(
        35, ge=35, description="Life of an older version: it outlives restore points, and damage until a scan finds it."
    )
    replicate_to: str = Field(
        "",
        pattern=r"^[a-z0-9.{}-]{0,80}$",
        description="Bucket, with {region} in its name, that gets a copy of money, lake files and markers.",
    )
    incomplete_upload_days: int = Field(1, ge=1, description="Life of an upload that was not finished.")
    incoming_retention_days: int = Field(65, ge=1, description="ingest/ and drop/: what producers left there.")
    quarantine_retention_days: int = Field(400, ge=1, description="Life of what was refused.")
    rated_retention_days: int = Field(
        400, ge=250, description="Life of what the biller keeps: forecasts are tried on six months."
    )
    lake_infrequent_days: int = Field(60, ge=30, description="STANDARD_IA takes objects of 30 days and older.")
    lake_archive_days: int = Field(180, ge=30, description="Age from which lake files are in Glacier IR.")
    lake_retention_days: int | None = Field(
        None, ge=1, description="Life of lake files, and so of rows; by default they are kept for ever."
    )

    lake_first_day: str = Field(
        "2026-01-01", pattern=r"^\d{4}-\d{2}-\d{2}$", description="Before it the Athena table looks for nothing."
    )
    analytics: bool = Field(default=True, description="Glue database, Athena workgroup; not every region has them.")
    composite_alarms: bool = Field(default=True, description="Alarms over alarms; not every region has them.")
    console_host: str = Field(
        CONSOLE_HOSTS[DEFAULT_PARTITION],
        pattern=r"^[a-z0-9.-]+$",
        description="Host of the console that alerts link to; each partition has its own.",
    )
    runbook_base: str = Field(
        "", pattern=r"^(https?://\S+)?$", description="URL that alerts link to runbooks below; empty: no link."
    )
    subscriptions: tuple[Subscription, ...] = Field((), description="Who gets alerts: severity, protocol, endpoint.")
    chat: tuple[ChatChannel, ...] = Field((), description="Chat channels that get alerts by AWS's own service.")
    log_sources: tuple[LogSource, ...] = Field((), description="Buckets whose log files are metered without a command.")
    bill_exports: tuple[BillExportSetting, ...] = Field(
        (), description="Exports of AWS's own bill that are compared with what was metered, in the home region."
    )
    rollout: RolloutRules = Field(RolloutRules.model_validate({}), description="Rules of the rollout to regions.")
    causes: CauseRules = Field(CauseRules.model_validate({}), description="Whose workloads move bytes.")
    bootstrap: BootstrapRules = Field(BootstrapRules.model_validate({}), description="The CDK's bootstrap.")
    rollout_project: bool | None = Field(
        None, description="A project in the home region builds missing ones by itself. Unset: one that stands stays."
    )
    rollout_every_h: int = Field(24, ge=2, description="Hours between two runs of it.")
    package_index: str = Field(
        "",
        pattern=r"^(https://[^@\s]+)?$",
        description="Index that it installs packages from; unset: the public one.",
    )
    producers: Literal["open", "registered"] = Field(
        "open", description="Whom batches are taken of: whoever may send to the queue, or registered producers only."
    )
    trusted_accounts: tuple[str, ...] = Field((), description="Other accounts whose producers may take the role.")

    tags: organisation.Tags = Field(default_factory=dict, description="Tags of everything that takes tags.")
    permissions_boundary: str = Field(
        "", pattern=organisation.POLICY, description="Policy that bounds every role: its ARN, or its name."
    )
    role_path: str = Field("", pattern=organisation.ROLE_PATH, description="Path of every role, such as /metering/.")
    vpc: tuple[organisation.Network, ...] = Field((), description="Subnets that the functions run in, by region.")
    kms_key_arn: str = Field(
        "",
        pattern=organisation.KEY,
        description="Key of tables, logs, topics, queues and bucket; {region} in the ARN of a multi-region key.",
    )
    replicate_key_arn: str = Field("", pattern=organisation.KEY, description="Key of the bucket replicate_to.")
    operator_principals: organisation.Principals = Field(
        (), description="Who may become reader or operator: ARNs with * in them; empty: whom the account lets."
    )
    org_id: str = Field("", pattern=organisation.ORG, description="Organization that producers must belong to.")
    external_id: str = Field(
        "", pattern=r"^([A-Za-z0-9+=,.@:/_-]{2,1224})?$", description="What producers of other accounts must state."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> StageConfig:
        problems = [problem for rule in _RULES if (problem := rule(self))]
        if problems:
            raise ValueError(*problems)
        return self

    @classmethod
    def load(cls, stage: str, overrides: Mapping[str, object] | None = None, *, like: str | None = None) -> StageConfig:
        """Load the configuration of a stage.

        Args:
            stage: Name of the stage.
            overrides: Values that differ from those of the base, by name. A text that contains a JSON list or mapping
                is decoded.
            like: Base of the stage, one of `STAGES`; None for the base with the stage's own name.

        Raises:
            SettingsError: Names every problem.
        """
        if (like or stage) not in STAGES:
            raise SettingsError([f"stage {like or stage!r} is not one of {', '.join(sorted(STAGES))}"])
        values = {name: decoded(name, value) for name, value in (overrides or {}).items()}
        try:
            return cls.over(stage, like or stage, values)
        except ValidationError as error:
            raise SettingsError([str(each) for each in problems_of(error, cls, setting_names())]) from error

    @classmethod
    def over(cls, stage: str, like: str, values: Mapping[str, object]) -> StageConfig:
        """Apply values to a stage's base. A table or a dotted name changes only those entries that it names.

        Raises:
            ValidationError: Raised by Pydantic; `problems_of` describes this error in words.
        """
        return cls.model_validate({**nested({**flat(STAGES[like]), **flat(values)}), "stage": stage})

    def effective(self) -> dict[str, object]:
        """Every setting by its dotted name, with its value as a JSON type."""
        values = self.model_dump(mode="json", exclude={*NO_SETTINGS})
        return flat({**values, "tunables": {**TUNABLES, **self.tunables}})

    def policy(self) -> Policy:
        """Policy that the stage's functions and commands follow. Computed only here."""
        own = {
            "window_s": self.admission_window_s,
            "marker_life_s": self.marker_life_s,
            "drop_identity": self.drop_identity,
            "lake_life_s": (self.lake_retention_days or 0) * DAY_S,
        }
        return Policy.model_validate({**TUNABLES, **own, **self.tunables})

    def published(self, given: GivenSettings | None = None) -> StageSettings:
        """Settings that the data stack publishes; if `given` is None, they lack the section `given`."""
        return StageSettings(
            stage=self.stage,
            policy=self.policy(),
            queues=QueueSettings(
                retention_s=self.queue_retention_s,
                dead_letter_retention_s=self.dead_letter_retention_s,
                visibility_s=self.visibility_s,
                max_receives=self.max_receives,
            ),
            given=given,
        )

    def in_region(self, region: str) -> StageConfig:
        """Configuration of one region, with its log sources, channels, network and key, and bills at home only.

        Raises:
            SettingsError: The stage runs in networks, but lacks one there, or its key is in another region. Or `region`
                is empty, and settings belong to a region.
        """
        placed = [name for name in ("vpc", "kms_key_arn", "chat", "log_sources") if getattr(self, name)]
        if placed and not region:
            raise SettingsError([f"{' and '.join(placed)} belong to a region: name it, by AWS_REGION or in an `env`"])
        here = {
            "log_sources": tuple(source for source in self.log_sources if source.region == region),
            "chat": tuple(channel for channel in self.chat if channel.region == region),
            "bill_exports": self.bill_exports if region in ("", self.rollout.home) else (),
            "vpc": tuple(network for network in self.vpc if network.region == region),
            "kms_key_arn": self.kms_key_arn.replace(REGION_MARK, region),
        }
        problems = []
        if self.vpc and not here["vpc"]:
            problems.append(f"vpc names no subnets in {region}: functions there would run outside of a network")
        if self.kms_key_arn and str(here["kms_key_arn"]).split(":")[3] != region:
            problems.append(
                f"kms_key_arn is a key of another region than {region}: make a multi-region key, and write "
                f"{REGION_MARK} for its region"
            )
        if problems:
            raise SettingsError(problems)
        return (
            self if all(getattr(self, name) == value for name, value in here.items()) else self.model_copy(update=here)
        )

    @property
    def customer_key_arn(self) -> str:
        """Key of the account that encrypts the stage's data; empty for AWS's own keys, and on emulators."""
        return "" if self.emulated else self.kms_key_arn

    @property
    def onramp_visibility_s(self) -> int:
        """Visibility timeout for log file events, in seconds; derived like `visibility_s`."""
        return self.onramp_timeout_s * (1 if self.short_visibility else VISIBILITY_FACTOR)

    @property
    def warm_tables(self) -> dict[str, int]:
        """Settings for the warm throughput of tables, by name."""
        return {name: getattr(self, name) for name in ("ledger_warm_writes_per_s", "usage_warm_writes_per_s")}

    @property
    def sign_in(self) -> str:
        """How people sign in, for the function of the API; empty if only tokens are accepted."""
        if not self.api_issuer:
            return ""
        groups = [each.model_dump() for each in self.api_groups]
        values = {"issuer": self.api_issuer, "audience": self.api_audience, "claim": self.api_groups_claim}
        if self.api_client_id:
            client = {"client": self.api_client_id, "token_endpoint": self.api_token_endpoint}
            values |= {**client, "scopes": self.api_scopes}
        return json.dumps({**values, "groups": groups}, separators=(",", ":"), sort_keys=True)

    @property
    def reads_per_s(self) -> tuple[int, int]:
        """Least and greatest provisioned reads of the ledger."""
        return self.ledger_min_reads_per_s, self.ledger_max_reads_per_s

    @property
    def writes_per_s(self) -> tuple[int, int]:
        """Least and greatest provisioned writes of the ledger."""
        return self.ledger_min_writes_per_s, self.ledger_max_writes_per_s

    @property
    def ledger_scales(self) -> Scales | None:
        """Capacity of the ledger, if it is provisioned; None if it is on demand."""
        return {"Read": self.reads_per_s, "Write": self.writes_per_s} if self.billing == "provisioned" else None

    @property
    def table_peaks(self) -> dict[str, int]:
        """Write units per second that a table must take at its peak, by name (`ledger`, `usage`)."""
        scales, warm = self.ledger_scales, peak_writes_per_s(self.ledger_warm_writes_per_s)
        return {
            "ledger": scales["Write"][1] if scales else warm,
            "usage": peak_writes_per_s(self.usage_warm_writes_per_s),
        }

    @property
    def plan_life_days(self) -> int:
        """Lifetime of the plans and contexts of log files: longer than that of any marker of the files' batches.

        While a marker exists, a redelivered file must result in the same batches, by the same plan.
        """
        return -(-self.marker_life_s // DAY_S) + PLAN_OUTLIVES_DAYS

    @property
    def markers_days(self) -> int:
        """Lifetime of the markers beside lake files: a day longer than that of the ledger's markers (P50)."""
        return -(-self.marker_life_s // DAY_S) + 1

    def stack_name(self, part: str) -> str:
        """Name of the stack for `part` (data, pipeline, api or observability)."""
        return f"metering-{self.stage}-{part}"


def setting_names() -> tuple[str, ...]:
    """Dotted names of all settings, in the order of the model."""
    entries = {**{name: tuple(model.model_fields) for name, model in TABLE_MODELS.items()}, "tunables": tuple(TUNABLES)}
    names = [name for name in StageConfig.model_fields if name not in NO_SETTINGS]
    return tuple(
        each for name in names for each in ([f"{name}.{e}" for e in entries[name]] if name in entries else [name])
    )


def decoded(name: str, value: object) -> object:
    """Decode a command-line value that looks like a JSON list or mapping.

    Raises:
        SettingsError: It is not JSON.
    """
    if not isinstance(value, str) or value[:1] not in {"[", "{"} or value.startswith(REGION_MARK):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise SettingsError([f"{name} is {shown(value)}; that is not JSON: {error}"]) from error


def _visibility(config: StageConfig) -> str | None:
    needed = VISIBILITY_FACTOR * (config.timeout_s + config.batch_window_s)
    if config.short_visibility:
        if not config.emulated:
            return "short_visibility is for emulated stages only"
        return None if config.visibility_s >= config.timeout_s else "visibility_s must not be under timeout_s"
    if config.visibility_s < needed:
        return f"visibility_s must be at least {needed} ({VISIBILITY_FACTOR} x (timeout_s + batch_window_s))"
    return None


def _marker_life(config: StageConfig) -> str | None:
    # A redrive from the DLQ restarts the retention period, for which SQS allows up to 14 days in the ingest queue.
    retention_s = max(config.queue_retention_s, SQS_RETENTION_MAX_S)
    needed = shortest_marker_life_s(config.admission_window_s, retention_s)
    if config.marker_life_s < needed:
        return f"marker_life_s must be at least {needed} (admission window + 14 days in a queue + 1 day)"
    return None


def _source_life(config: StageConfig) -> str | None:
    if config.tunables.get("source_life_s", TUNABLES["source_life_s"]) <= config.marker_life_s:
        return (
            "tunables.source_life_s must be above marker_life_s: a source is derived again from markers that are left"
        )
    return None


def _scan(config: StageConfig) -> str | None:
    most_s = min(config.marker_life_s, config.noncurrent_days * DAY_S) // 2
    if config.tunables.get("scan_every_s", TUNABLES["scan_every_s"]) <= most_s:
        return None
    return f"tunables.scan_every_s must be at most {most_s}: two scans in the life of a marker and of an older version"


def _dead_letters(config: StageConfig) -> str | None:
    if config.dead_letter_retention_s < config.queue_retention_s:
        return "dead_letter_retention_s must not be under queue_retention_s: a message keeps its age in the DLQ"
    return None


def _incoming_objects(config: StageConfig) -> str | None:
    if config.incoming_retention_days * DAY_S < config.marker_life_s:
        return "incoming_retention_days must not be under the marker life: a pointer's object would be gone before it"
    return None


def _drop_identity(config: StageConfig) -> str | None:
    if config.drop_identity == "etag" or config.emulated:
        return None
    if not config.kms_key_arn:
        return "drop_identity checksum is for a stage with kms_key_arn: elsewhere an ETag identifies an object's bytes"
    if not config.versioned:
        return (
            "drop_identity checksum needs versioned: of an object that was deleted since its announcement, only a "
            "version tells the checksum, and so the id"
        )
    return None


def _batch_window(config: StageConfig) -> str | None:
    if config.batch_size > 10 and config.batch_window_s == 0 and not config.emulated:
        return "batch_window_s must be at least 1 for more than 10 messages an invocation"
    return None


def _lake_classes(config: StageConfig) -> str | None:
    if config.lake_archive_days < config.lake_infrequent_days + 30:
        return "lake_archive_days must be 30 days after lake_infrequent_days: IA bills 30 days at least"
    kept_days = config.lake_retention_days
    if kept_days is not None and kept_days < config.lake_archive_days + 90:
        return "lake_retention_days must be 90 days after lake_archive_days: Glacier IR bills 90 days at least"
    if kept_days is not None and kept_days * DAY_S < config.admission_window_s + 2 * DAY_S:
        return "lake_retention_days must be two days above the admission window: rows of metered hours must be there"
    return None


def _tunable_names(config: StageConfig) -> str | None:
    wrong = [f"tunables.{name}" for name in sorted(set(config.tunables) - set(TUNABLES))]
    return "; ".join(str(unknown(name, setting_names())) for name in wrong) or None


def _policy(config: StageConfig) -> str | None:
    try:
        config.policy()
    except ValidationError as error:
        return (
            "; ".join(f"tunables.{each}" for each in problems_of(error, Policy, TUNABLES) if each.field in TUNABLES)
            or None
        )
    return None


def _protection(config: StageConfig) -> str | None:
    if config.stage == "prod" and not config.stateful_retained:
        return "prod keeps its data: stateful_retained must be true"
    return None


def _log_sources(config: StageConfig) -> str | None:
    return "; ".join(problems_together(config.log_sources, stage=config.stage)) or None


def _chat(config: StageConfig) -> str | None:
    names = [channel.name for channel in config.chat]
    places = [(channel.workspace_id or channel.team_id, channel.channel_id) for channel in config.chat]
    if len(set(names)) < len(names):
        return "chat has one name twice: AWS knows a channel by its name, in all regions of an account"
    if len(set(places)) < len(places):
        return "chat has one channel twice: AWS connects a channel once; use severity all, or another channel a region"
    return None


def _people(config: StageConfig) -> str | None:
    people = bool(config.api_issuer), bool(config.api_audience), bool(config.api_groups)
    if any(people) and not all(people):
        return "api_issuer, api_audience and api_groups belong together: who issues, for whom, and what its groups see"
    if config.api_client_id and not config.api_issuer:
        return "api_client_id needs api_issuer: it is the id of the explorer page at that provider"
    if bool(config.api_client_id) != bool(config.api_token_endpoint):
        return (
            "api_client_id and api_token_endpoint belong together: the page reaches no other address, so write "
            f"token_endpoint of {config.api_issuer or 'the issuer'}/.well-known/openid-configuration"
        )
    if any(people) and config.api_front == "url":
        return "api_issuer needs api_front http: the URL of a function has no authorizer"
    if len(config.sign_in) > MOST_BYTES:
        return f"api_groups take {len(config.sign_in)} bytes of a function's environment; {MOST_BYTES} are left"
    return None


def _api(config: StageConfig) -> str | None:
    front, domain = config.api_front, config.api_domain
    if front == "url" and not config.emulated:
        return "api_front may be url on emulated stages only: the URL of a function has no throttle and no access log"
    if bool(domain) != bool(config.api_zone_id):
        return "api_domain and api_zone_id belong together: the hosted zone proves who owns the name"
    if domain and front == "url":
        return "api_domain needs api_front http: the URL of a function cannot have another name"
    if domain and (domain.count(REGION_MARK) != 1 or not _HOST.match(domain.replace(REGION_MARK, "eu-west-1"))):
        return f"api_domain is a host name with {REGION_MARK} in it, such as usage.{REGION_MARK}.example.com"
    return None


def _copies(config: StageConfig) -> str | None:
    if not config.replicate_to:
        return None
    if not config.versioned:
        return "replicate_to needs versioned: S3 replicates versions"
    if bool(config.kms_key_arn) and not config.replicate_key_arn:
        return "replicate_to needs replicate_key_arn in a stage with kms_key_arn: S3 encrypts the copies with that key"
    if config.replicate_to.count(REGION_MARK) != 1:
        return f"replicate_to is the name of a bucket with {REGION_MARK} in it: two regions have objects of one key"
    return None


def _networks(config: StageConfig) -> str | None:
    return "; ".join(organisation.problems_of_networks(config.vpc)) or None


def _foreign_producers(config: StageConfig) -> str | None:
    if config.external_id and not config.trusted_accounts and config.producers == "open":
        return "external_id is what producers of other accounts state: name them in trusted_accounts, or register them"
    return None


def _warm_tables(config: StageConfig) -> str | None:
    # AWS refuses a warm throughput below the table's default.
    wrong = [name for name, writes in config.warm_tables.items() if 0 < writes < TABLE_WRITES_PER_S]
    return f"{' and '.join(wrong)} must be 0 or at least {TABLE_WRITES_PER_S}, as a new table has" if wrong else None


def _capacity(config: StageConfig) -> str | None:
    wrong = [
        f"ledger_min_{what}_per_s must not be above ledger_max_{what}_per_s"
        for what, (least, most) in (("reads", config.reads_per_s), ("writes", config.writes_per_s))
        if least > most
    ]
    return "; ".join(wrong) or None


def _bill_exports(config: StageConfig) -> str | None:
    return "; ".join(problems_of_exports(config.bill_exports)) or None


def _bootstrap(config: StageConfig) -> str | None:
    rules, usual = config.bootstrap, BootstrapRules.model_validate({})
    if rules.mode == "never" or rules.qualifier == usual.qualifier or rules.toolkit_stack != usual.toolkit_stack:
        return None
    return (
        f"bootstrap.qualifier {rules.qualifier} needs bootstrap.toolkit_stack, too: a deployment would change "
        f"{usual.toolkit_stack}, which every other CDK app of the account uses"
    )


def _account_ids(config: StageConfig) -> str | None:
    wrong = [account for account in config.trusted_accounts if not (len(account) == 12 and account.isdigit())]
    return f"trusted_accounts are not account ids: {', '.join(wrong)}" if wrong else None


_RULES: tuple[Callable[[StageConfig], str | None], ...] = (
    *(_visibility, _marker_life, _source_life, _dead_letters, _incoming_objects, _batch_window, _warm_tables),
    *(_drop_identity, _lake_classes, _tunable_names, _policy, _protection, _account_ids, _log_sources, _chat, _api),
    *(_capacity, _people, _scan, _copies, _networks, _foreign_producers, _bill_exports, _bootstrap),
)
