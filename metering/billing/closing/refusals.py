"""Why a month cannot be closed now, or not verified."""

from __future__ import annotations

from enum import StrEnum

from metering.errors import MeteringError


class NotClosable(StrEnum):
    """Why a month cannot be closed, or verified, now."""

    TOO_EARLY = "too_early"
    CHECKLIST = "checklist"
    COMPACTION_UNFINISHED = "compaction_unfinished"
    ROLLUP_UNFINISHED = "rollup_unfinished"
    TOTALS_DIFFER = "totals_differ"
    HOURS_UNSTABLE = "hours_unstable"
    HOUR_UNPUBLISHED = "hour_unpublished"
    OBJECT_DIFFERS = "object_differs"
    NOT_CLOSED = "not_closed"


class PeriodNotClosableError(MeteringError):
    """A month cannot be closed now. Nothing is lost; `why` says what to do about it.

    Attributes:
        month: `2026-11`.
        cause: What code decides by.
        why: One sentence.
    """

    def __init__(self, month: str, cause: NotClosable, why: str) -> None:
        super().__init__(month, cause, why)
        self.month = month
        self.cause = cause
        self.why = why

    def __str__(self) -> str:
        return f"{self.month} is not closed: {self.why}"
