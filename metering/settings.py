"""Settings that the running service reads from its environment, checked all at once.

The stage decides them in `metering/fleet/stage.py`; a function gets all of them as `METERING_<NAME>`, upper case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metering.errors import SettingsError
from metering.units import DAY_S, MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "METERING_"


def as_environment(values: Mapping[str, object]) -> dict[str, str]:
    """The variables that `Settings.from_env` reads `values` from."""
    return {f"{_PREFIX}{name.upper()}": str(value) for name, value in values.items()}


class Policy(BaseModel):
    """What a stage decides about its work. Functions and people's commands must work with the same one.

    Nothing has a default: the stage is the one source (`metering/fleet/stage.py`), and what is missing is a problem.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_s: int = Field(ge=DAY_S, description="Admission window: how old a record may be.")
    ahead_s: int = Field(ge=0, description="How far ahead of its message a record may start.")
    admission_floor_s: int = Field(
        ge=0, description="Records before this epoch second stay too late (docs/protocol.md)."
    )
    marker_life_s: int = Field(ge=DAY_S, description="How long a marker lives after acceptance.")

    shards: int = Field(ge=1, le=64, description="Compaction shards that new commits go to (P# and R# partitions).")
    usage_shards: int = Field(ge=1, le=100, description="Suffixes of a usage item, summed by readers.")

    commit_records: int = Field(ge=1, description="Records in one commit at most (one batch may exceed it).")
    commit_bytes: int = Field(ge=MIB, description="Decoded bytes in one commit at most (one batch may exceed it).")
    commit_keys: int = Field(ge=1, description="Usage keys in one commit at most (one batch may exceed it).")
    object_bytes: int = Field(ge=MIB, description="Size of an object's records after decompression at most.")
    reserve_ms: int = Field(ge=0, description="Time an invocation keeps: no new commit is begun with less left.")
    attempts: int = Field(ge=1, le=20, description="Times the same transaction is sent before it is split or put back.")

    compact_file_rows: int = Field(ge=1, description="Rows of a full lake file.")
    compact_run_rows: int = Field(ge=1, description="Rows that one compaction run takes at most.")
    compact_run_pairs: int = Field(ge=1, description="Commits, counted in each hour, that a run takes at most.")
    compact_wait_today_s: int = Field(ge=0, description="How long an hour of today waits for a full file.")
    compact_wait_older_s: int = Field(ge=0, description="How long an older hour waits for a full file.")
    scan_every_s: int = Field(ge=0, description="How often the reconciler reads both tables whole; 0 for every tick.")
    source_jump: int = Field(ge=1, description="More missing numbers in a row are no credible gap.")
    source_life_s: int = Field(ge=DAY_S, description="A source that sends nothing for so long is forgotten.")
    clean_wait_s: int = Field(ge=0, description="How long staging stays after its run: spares readers a restart.")


class Settings(Policy):
    """A stage's policy, and the names of its resources in one region."""

    stage: str = Field(pattern=r"^[a-z][a-z0-9-]{0,15}$", description="Stage name, part of the stack names.")
    ledger_table: str
    usage_table: str
    data_bucket: str
    ingest_queue_url: str
    dead_letter_queue_url: str
    page_topic_arn: str
    ticket_topic_arn: str

    settings_sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="Hash of the stage's published settings that the policy is part of."
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Settings from `METERING_*` variables; missing and unknown ones are a problem, others are not looked at.

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
