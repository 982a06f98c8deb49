"""Settings that the running service reads from its environment, checked all at once.

The stage decides them in `infra/config.py`; a function gets them as `METERING_<NAME>`, upper case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metering.errors import SettingsError
from metering.units import DAY_S, HOUR_S, MIB, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "METERING_"


class Settings(BaseModel):
    """One region's resources and the budgets of its workers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str = Field("local", pattern=r"^[a-z][a-z0-9-]{0,15}$", description="Stage name, part of the stack names.")
    ledger_table: str
    usage_table: str
    data_bucket: str
    ingest_queue_url: str = ""
    dead_letter_queue_url: str = ""
    page_topic_arn: str = ""
    ticket_topic_arn: str = ""

    window_s: int = Field(35 * DAY_S, ge=DAY_S, description="Admission window: how old a record may be.")
    ahead_s: int = Field(5 * MINUTE_S, ge=0, description="How far ahead of its message a record may start.")
    admission_floor_s: int = Field(
        0, ge=0, description="Records before this epoch second stay too late (docs/protocol.md)."
    )
    marker_life_s: int = Field(50 * DAY_S, description="How long a marker lives after acceptance.")

    shards: int = Field(1, ge=1, le=64, description="Compaction shards (P# and R# partitions).")
    usage_shards: int = Field(4, ge=1, le=100, description="Suffixes of a usage item, summed by readers.")

    commit_records: int = Field(200_000, ge=1, description="Records in one commit at most (one batch may exceed it).")
    commit_bytes: int = Field(
        64 * MIB, ge=MIB, description="Decoded bytes in one commit at most (one batch may exceed it)."
    )
    commit_keys: int = Field(5_000, ge=1, description="Usage keys in one commit at most (one batch may exceed it).")
    object_bytes: int = Field(512 * MIB, ge=MIB, description="Size of an object's records after decompression at most.")
    reserve_ms: int = Field(
        10_000, ge=0, description="Time an invocation keeps: no new commit is begun with less left."
    )
    attempts: int = Field(
        4, ge=1, le=20, description="Times the same transaction is sent before it is split or put back."
    )

    compact_file_rows: int = Field(12_000_000, ge=1, description="Rows of a full lake file.")
    compact_run_rows: int = Field(60_000_000, ge=1, description="Rows that one compaction run takes at most.")
    compact_run_pairs: int = Field(20_000, ge=1, description="Commits, counted in each hour, that a run takes at most.")
    compact_wait_today_s: int = Field(HOUR_S, ge=0, description="How long an hour of today waits for a full file.")
    compact_wait_older_s: int = Field(DAY_S, ge=0, description="How long an older hour waits for a full file.")
    scan_every_s: int = Field(
        0, ge=0, description="How often the reconciler reads both tables whole; 0 for every tick."
    )
    source_jump: int = Field(
        1_000_000, ge=1, description="A gap of more numbers in a source's sequence is counted as not credible."
    )
    source_life_s: int = Field(
        60 * DAY_S, ge=DAY_S, description="A source that sends nothing for so long is forgotten; longer than markers."
    )
    clean_wait_s: int = Field(
        DAY_S, ge=0, description="How long staging stays after its run: spares readers a restart."
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Settings from `METERING_*` variables; unknown ones are a problem, others are not looked at.

        Raises:
            SettingsError: With every problem found.
        """
        values = {name[len(_PREFIX) :].lower(): value for name, value in environ.items() if name.startswith(_PREFIX)}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = [
                f"{_PREFIX}{'.'.join(str(part) for part in e['loc']).upper()}: {e['msg']}" for e in error.errors()
            ]
            raise SettingsError(problems) from error
