"""Policy and settings of the stage `prod`, for benchmarks of single components."""

from __future__ import annotations

from collections.abc import Sequence

from metering.fleet.stage import StageConfig
from metering.intake.admission import Admission
from metering.intake.work import ReadLimits
from metering.settings import Settings

POLICY = StageConfig.load("prod").policy()
ADMISSION = Admission.of(POLICY)
LIMITS = ReadLimits(object_bytes=POLICY.object_bytes)


def judged(problems: Sequence[str]) -> int:
    """Print the missed limits; returns 1 if there are any."""
    for problem in problems:
        print(f"MISSED: {problem}")
    return 1 if problems else 0


def settings(*, ledger_table: str, usage_table: str, data_bucket: str) -> Settings:
    """Make a function's settings with these tables and this bucket, without a queue or a topic."""
    names = {"ledger_table": ledger_table, "usage_table": usage_table, "data_bucket": data_bucket}
    none = dict.fromkeys(("ingest_queue_url", "dead_letter_queue_url", "page_topic_arn", "ticket_topic_arn"), "")
    return Settings.model_validate(
        {**POLICY.model_dump(), "stage": "prod", "settings_sha256": "0" * 64, **none, **names}
    )
