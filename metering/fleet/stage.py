"""Differences between stages, in one object that checks itself.

`-c stage=prod` chooses a stage, and `-c field=value` sets any field (lists and mappings as JSON). Durations are in
seconds unless their name has another unit. This module does not import the CDK.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from metering.commit.shares import REFUSED_FROM_RECEIVE
from metering.errors import SettingsError
from metering.fleet.regions import RolloutRules
from metering.intake.admission import shortest_marker_life_s
from metering.operations.alarms import Severity
from metering.settings import Policy
from metering.stage_settings import QueueSettings, StageSettings
from metering.units import DAY_S, HOUR_S, MIB, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Architecture = Literal["arm64", "x86_64"]

# The mapping may hand one batch over six times before it becomes visible to another poller (AWS's own advice).
VISIBILITY_FACTOR = 6
# SQS keeps a message for at most 14 days and hides it for at most 12 hours.
SQS_RETENTION_MAX_S = 14 * DAY_S
SQS_VISIBILITY_MAX_S = 12 * 3_600


# Fields of `metering.settings.Policy` that a stage changes by `tunables`. `StageConfig` has fields for the other two.
TUNABLES: dict[str, int] = {
    "ahead_s": 5 * MINUTE_S,
    "admission_floor_s": 0,
    "shards": 1,
    "usage_shards": 4,
    "commit_records": 200_000,
    "commit_bytes": 64 * MIB,
    "commit_keys": 5_000,
    "object_bytes": 512 * MIB,
    "reserve_ms": 10_000,
    "attempts": 4,
    # 12 million rows of about 14 bytes are about 170 MB.
    "compact_file_rows": 12_000_000,
    "compact_run_rows": 60_000_000,
    "compact_run_pairs": 20_000,
    "compact_wait_today_s": HOUR_S,
    "compact_wait_older_s": DAY_S,
    "scan_every_s": 0,
    "source_jump": 1_000_000,
    # Longer than a marker lives: a forgotten source has no marker left that it would be derived from again.
    "source_life_s": 60 * DAY_S,
    "clean_wait_s": DAY_S,
}


class Subscription(BaseModel):
    """Subscriber to the alerts of a severity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Severity
    protocol: Literal["email", "https", "sqs", "lambda"]
    endpoint: str = Field(min_length=1)


class StageConfig(BaseModel):
    """Configuration of one stage. The defaults are those of a stage in an account; `STAGES` has the differences.

    Attributes:
        emulated: The stage runs on an emulator. Its bundles hold sources only (the emulator runs them in the project's
            own environment), it deploys with the caller's credentials, and it leaves out the parts that emulators lack.
        stateful_retained: Data outlives its stack: RETAIN, deletion protection and termination protection.
        short_visibility: The stage breaks the rule for the visibility timeout on purpose, so that the messages of
            killed workers come back within a test.
        rollout: Rules of the rollout to regions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str = Field(pattern=r"^[a-z][a-z0-9-]{0,15}$")
    emulated: bool = False
    stateful_retained: bool = True
    architecture: Architecture = "arm64"
    log_level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"
    log_retention_days: Literal[1, 7, 30, 90, 365] = 90
    tracing: bool = False

    batch_size: int = Field(100, ge=1, le=10_000)
    batch_window_s: int = Field(5, ge=0, le=300)
    timeout_s: int = Field(60, ge=1, le=900)
    visibility_s: int = Field(420, ge=1, le=SQS_VISIBILITY_MAX_S)
    short_visibility: bool = False
    max_receives: int = Field(
        5, ge=REFUSED_FROM_RECEIVE, description="At least the receive from which a batch that is too slow is refused."
    )
    max_concurrency: int = Field(20, ge=2, le=1_000)
    aggregator_memory_mb: int = Field(1_769, ge=512, le=10_240, description="1,769 MB is one whole core.")
    queue_retention_s: int = Field(4 * DAY_S, ge=MINUTE_S, le=SQS_RETENTION_MAX_S)
    dead_letter_retention_s: int = Field(14 * DAY_S, ge=MINUTE_S, le=SQS_RETENTION_MAX_S)

    job_timeout_s: int = Field(900, ge=30, le=900)
    job_memory_mb: int = Field(2_048, ge=512, le=10_240)
    compactor_scratch_mb: int = Field(
        4_096, ge=512, le=10_240, description="Sorted runs of a full lake file: about 70 bytes a row."
    )
    small_job_memory_mb: int = Field(512, ge=256, le=10_240)
    compactor_every_min: int = Field(5, ge=1)
    sweeper_every_min: int = Field(1, ge=1)
    reconciler_every_min: int = Field(15, ge=1)
    canary_every_min: int = Field(5, ge=1)
    watch_every_min: int = Field(1, ge=1)

    admission_window_s: int = Field(35 * DAY_S, ge=DAY_S)
    marker_life_s: int = Field(50 * DAY_S, ge=DAY_S)
    tunables: dict[str, int] = Field(default_factory=dict, description="Other values of `TUNABLES`, by name.")

    versioned: bool = True
    noncurrent_days: int = Field(7, ge=1)
    incomplete_upload_days: int = Field(1, ge=1)
    incoming_retention_days: int = Field(65, ge=1, description="ingest/ and drop/: what producers left there.")
    quarantine_retention_days: int = Field(400, ge=1)
    lake_infrequent_days: int = Field(60, ge=30, description="STANDARD_IA takes objects of 30 days and older.")
    lake_archive_days: int = Field(180, ge=30)
    lake_retention_days: int | None = Field(None, ge=1, description="None keeps the lake for ever.")

    lake_first_day: str = Field(
        "2026-01-01", pattern=r"^\d{4}-\d{2}-\d{2}$", description="Before it the Athena table looks for nothing."
    )
    analytics: bool = Field(default=True, description="Glue database, Athena workgroup; not every region has them.")
    composite_alarms: bool = True
    runbook_base: str = Field("docs/runbooks", description="What an alarm's link starts with.")
    subscriptions: tuple[Subscription, ...] = ()
    rollout: RolloutRules = RolloutRules.model_validate({})
    rollout_project: bool = Field(default=False, description="Also what builds regions; in the home region only.")
    rollout_every_h: int = Field(24, ge=2, description="Hours between two runs of it.")
    trusted_accounts: tuple[str, ...] = Field((), description="Other accounts whose producers may take the role.")

    @model_validator(mode="after")
    def _fits_together(self) -> StageConfig:
        problems = [problem for rule in _RULES if (problem := rule(self))]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @classmethod
    def load(cls, stage: str, overrides: Mapping[str, object] | None = None) -> StageConfig:
        """Load the configuration of a stage. Strings among `overrides` that hold JSON are decoded.

        Raises:
            SettingsError: Names every problem.
        """
        if stage not in STAGES:
            raise SettingsError([f"stage {stage!r} is not one of {', '.join(sorted(STAGES))}"])
        values = {name: _decoded(value) for name, value in (overrides or {}).items()}
        try:
            return cls.model_validate({"stage": stage, **_merged(STAGES[stage], values)})
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, e['loc'])) or 'stage'}: {e['msg']}" for e in error.errors()]
            raise SettingsError(problems) from error

    def policy(self) -> Policy:
        """Policy that the functions and commands of the stage work with. It is computed here only."""
        return Policy.model_validate(
            {
                **TUNABLES,
                "window_s": self.admission_window_s,
                "marker_life_s": self.marker_life_s,
                **self.tunables,
            }
        )

    def published(self) -> StageSettings:
        """Settings that the data stack publishes. The functions get the same policy, and the hash of these settings."""
        return StageSettings(
            stage=self.stage,
            policy=self.policy(),
            queues=QueueSettings(
                retention_s=self.queue_retention_s,
                dead_letter_retention_s=self.dead_letter_retention_s,
                visibility_s=self.visibility_s,
                max_receives=self.max_receives,
            ),
        )

    def stack_name(self, part: str) -> str:
        """Name of the stack `part` (data, pipeline or observability)."""
        return f"metering-{self.stage}-{part}"


def _merged(base: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """Lay `changes` over `base`. A mapping changes only the entries that it names."""
    merged = {**base, **changes}
    for name in base.keys() & changes.keys():
        old, new = base[name], changes[name]
        if isinstance(old, dict) and isinstance(new, dict):
            merged[name] = {**old, **new}
    return merged


def _decoded(value: object) -> object:
    if isinstance(value, str) and value[:1] in {"[", "{"}:
        return json.loads(value)
    return value


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
    # A redrive from the DLQ starts another full retention of the ingest queue, which SQS allows to be up to 14 days.
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


def _dead_letters(config: StageConfig) -> str | None:
    if config.dead_letter_retention_s < config.queue_retention_s:
        return "dead_letter_retention_s must not be under queue_retention_s: a message keeps its age in the DLQ"
    return None


def _incoming_objects(config: StageConfig) -> str | None:
    if config.incoming_retention_days * DAY_S < config.marker_life_s:
        return "incoming_retention_days must not be under the marker life: a pointer's object would be gone before it"
    return None


def _batch_window(config: StageConfig) -> str | None:
    if config.batch_size > 10 and config.batch_window_s == 0 and not config.emulated:
        return "batch_window_s must be at least 1 for more than 10 messages an invocation"
    return None


def _lake_classes(config: StageConfig) -> str | None:
    if config.lake_archive_days < config.lake_infrequent_days + 30:
        return "lake_archive_days must be 30 days after lake_infrequent_days: IA bills 30 days at least"
    if config.lake_retention_days is not None and config.lake_retention_days < config.lake_archive_days + 90:
        return "lake_retention_days must be 90 days after lake_archive_days: Glacier IR bills 90 days at least"
    return None


def _tunable_names(config: StageConfig) -> str | None:
    unknown = sorted(set(config.tunables) - set(TUNABLES))
    return f"tunables are not settings of the functions: {', '.join(unknown)}" if unknown else None


def _policy(config: StageConfig) -> str | None:
    try:
        config.policy()
    except ValidationError as error:
        return "; ".join(f"tunables.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return None


def _protection(config: StageConfig) -> str | None:
    if config.stage == "prod" and not config.stateful_retained:
        return "prod keeps its data: stateful_retained must be true"
    return None


def _account_ids(config: StageConfig) -> str | None:
    wrong = [account for account in config.trusted_accounts if not (len(account) == 12 and account.isdigit())]
    return f"trusted_accounts are not account ids: {', '.join(wrong)}" if wrong else None


_RULES: tuple[Callable[[StageConfig], str | None], ...] = (
    _visibility,
    _marker_life,
    _source_life,
    _dead_letters,
    _incoming_objects,
    _batch_window,
    _lake_classes,
    _tunable_names,
    _policy,
    _protection,
    _account_ids,
)

_EMULATED: dict[str, object] = {
    "emulated": True,
    "stateful_retained": False,
    "log_retention_days": 1,
    "batch_window_s": 1,
    "max_concurrency": 4,
    "versioned": False,
    "analytics": False,
    "composite_alarms": False,
    "rollout": {
        "bake_min": 0,
        "canaries": 1,
        "canary_wait_min": 5,
        # A laptop builds these in minutes. Any other region is built when it is named.
        "allow": ["us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1", "sa-east-1"],
    },
}

STAGES: dict[str, dict[str, object]] = {
    "local": _EMULATED,
    # 15 s and 20 s: the messages of a killed worker are back before a test times out.
    "killtest": {
        **_EMULATED,
        "batch_window_s": 0,
        "timeout_s": 15,
        "visibility_s": 20,
        "short_visibility": True,
        "tunables": {"reserve_ms": 5_000},
    },
    "dev": {"stateful_retained": False, "log_retention_days": 30, "lake_retention_days": 365},
    # Reading every marker each quarter of an hour is too expensive: docs/decisions/0013-reconciliation.md.
    "prod": {"log_retention_days": 365, "rollout": {"pager_needed": True}, "tunables": {"scan_every_s": DAY_S}},
}
