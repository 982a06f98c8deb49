"""Settings of a stage for tests, because the code has no default settings."""

from __future__ import annotations

from dataclasses import replace

from metering.fleet.stage import StageConfig
from metering.intake.admission import Admission
from metering.intake.work import ReadLimits
from metering.lake.cleaner import quarantine_age_s
from metering.lake.plan import CompactionPolicy
from metering.settings import Policy, Settings

STAGE: Policy = StageConfig.load("local").policy()
ADMISSION = Admission.of(STAGE)
LIMITS = ReadLimits(object_bytes=STAGE.object_bytes)
COMPACTION = CompactionPolicy.of(STAGE)
QUARANTINE_AGE_S = quarantine_age_s(STAGE.marker_life_s)


def settings(**changes: object) -> Settings:
    """The settings of a function in a region with invented names."""
    names = {
        "stage": "local",
        "ledger_table": "ledger",
        "usage_table": "usage",
        "data_bucket": "data",
        "ingest_queue_url": "ingest",
        "dead_letter_queue_url": "dead-letters",
        "page_topic_arn": "page",
        "ticket_topic_arn": "ticket",
        "settings_sha256": "0" * 64,
    }
    return Settings.model_validate({**STAGE.model_dump(), **names, **changes})


def admission(**changes: int) -> Admission:
    return replace(ADMISSION, **changes)


def compaction(**changes: int) -> CompactionPolicy:
    return replace(COMPACTION, **changes)
