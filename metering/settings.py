"""Settings that a function reads from its environment, all checked together.

The stage defines the settings in `metering/fleet/stage.py`; a function gets each setting as `METERING_<NAME>`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from metering.errors import SettingsError
from metering.units import DAY_S, MIB
from metering.version import DropIdentity

_PREFIX = "METERING_"

PEOPLE_PATH = "/people"
"""Path of the HTTP API below which people who signed in ask what others ask with a token."""


def as_environment(values: Mapping[str, object]) -> dict[str, str]:
    """Encode `values` as the environment variables that `Settings.from_env` reads."""
    return {f"{_PREFIX}{name.upper()}": str(value) for name, value in values.items()}


_AS_BEFORE = (("drop_identity", "etag"), ("lake_life_s", 0))


class Policy(BaseModel):
    """Limits and intervals that a stage decides. Functions and operators' commands must use the same values.

    Fields have no defaults: only the stage defines values (`metering/fleet/stage.py`), and a missing field is an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_s: int = Field(ge=DAY_S, description="Admission window: greatest age of a record.")
    ahead_s: int = Field(ge=0, description="Longest time by which a record may start after its message was sent.")
    admission_floor_s: int = Field(
        ge=0, description="Records before this epoch second stay too late (docs/protocol.md)."
    )
    marker_life_s: int = Field(ge=DAY_S, description="Life of a marker after acceptance.")

    shards: int = Field(
        ge=1, le=64, description="Shards that new commits go to; each has a chain of roll-up and one of compaction."
    )
    rollup_every_s: int = Field(
        ge=0,
        description="Least time between two runs of a shard's roll-up. From 60 s on, in whole minutes, the function "
        "ends between runs: at the target, 60 s save about 3 USD a day with 500 accounts, and 5 with 10,000.",
    )
    rollup_commits: int = Field(ge=1, description="Most waiting commits that one run of the roll-up takes.")
    rollup_blocks: int = Field(
        ge=0,
        le=1,
        description="1: the roll-up books up to 100 usage items in a transaction, at twice the write units, also when "
        "it is not behind.",
    )
    kinds_per_account: int = Field(
        ge=1,
        le=1_000_000,
        description="Most kinds of usage of an account that get a number; further ones get items of their own.",
    )
    usage_generation: int = Field(
        ge=2,
        le=10_000,
        description="Number of the usage table. Raised after a restore of the ledger, to begin a new one.",
    )

    commit_records: int = Field(ge=1, description="Most records in one commit (a single batch may exceed it).")
    commit_bytes: int = Field(ge=MIB, description="Most decoded bytes in one commit (a single batch may exceed it).")
    object_bytes: int = Field(ge=MIB, description="Greatest size of an object's records after decompression.")
    reserve_ms: int = Field(ge=0, description="Reserve of an invocation: it begins no commit with less time left.")
    attempts: int = Field(ge=1, le=20, description="Times that a transaction is sent before it is split or put back.")

    compact_file_rows: int = Field(ge=1, description="Rows of a full lake file.")
    compact_run_rows: int = Field(ge=1, description="Most rows that one compaction run takes.")
    compact_run_pairs: int = Field(ge=1, description="Most commits, counted per hour, that one run takes.")
    compact_wait_today_s: int = Field(ge=0, description="Longest time that an hour of today waits for a full file.")
    compact_wait_older_s: int = Field(ge=0, description="Longest time that an older hour waits for a full file.")
    scan_every_s: int = Field(
        ge=0,
        description="Time between full scans of both tables by the reconciler; 0 for every tick. One more follows each "
        "month's end. At the target, a scan costs about 8 USD.",
    )
    scan_memory_mb: int = Field(ge=64, description="Memory that a full scan may take: it counts in as many parts, MB.")
    source_jump: int = Field(ge=1, description="Most missing numbers in a row that are a credible gap.")
    source_life_s: int = Field(ge=DAY_S, description="Silence after which a source is forgotten.")
    clean_wait_s: int = Field(
        ge=0, description="Time that staging objects outlive their run, which spares readers a restart."
    )
    log_unclassified_percent: int = Field(
        ge=0, le=100, description="Unclassified share of a log source's bytes above which its alarm fires."
    )

    # These have defaults, because stages that were deployed before they existed count by ETag and keep their lake.
    drop_identity: DropIdentity = "etag"
    lake_life_s: int = Field(0, ge=0, description="Life of lake files; 0: for ever.")

    @model_serializer(mode="wrap")
    def _as_published(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out what every earlier stage has, so that its settings keep their text and hash.

        An earlier release refuses anything else as an unknown field, and so never counts under ids of its own.
        """
        values: dict[str, object] = write(self)
        return {name: value for name, value in values.items() if (name, value) not in _AS_BEFORE}


class Settings(Policy):
    """Policy of a stage, and resource names of one region."""

    stage: str = Field(pattern=r"^[a-z][a-z0-9-]{0,15}$", description="Stage name, part of the stack names.")
    ledger_table: str
    usage_table: str
    data_bucket: str
    ingest_queue_url: str
    dead_letter_queue_url: str
    page_topic_arn: str
    ticket_topic_arn: str
    chat: bool = Field(default=False, description="Whether a chat channel listens to the topics.")

    settings_sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="Hash of the published settings without what the deployment was given."
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read settings from the `METERING_*` variables; a missing or unknown one is an error. Others are ignored.

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


_HOME = Field(
    "", description="Home region of the stage, where prices are; empty on an emulator: whichever region it is in."
)


class AggregatorSettings(Settings):
    """Settings of the function that judges batches by their senders."""

    senders: str = Field(
        "",
        description="The service's own senders, as `metering.intake.senders` writes them, in a stage whose "
        "producers are registered; empty in one that is open to whoever may send to its queue.",
    )


class BillerSettings(Settings):
    """Settings of the function that sums days, and compares AWS's own bill with them."""

    bill_exports: str = Field("[]", description="Exports of the bill, as `metering.billing.bill_export` writes them.")


class OnrampSettings(Settings):
    """Settings of a function that works on log files."""

    log_sources: str = Field(description="Log sources of the region, as `metering.onramps.sources` writes them.")
    causes: bool = Field(default=False, description="Whether the causes of log files are kept.")
    tag_keys: str = Field("", description="Keys of the tags that contexts are captured with, separated by commas.")
    home_region: str = _HOME


class ApiSettings(Settings):
    """Settings of the function that answers requests to the HTTP API."""

    sign_in: str = Field("", description="How people sign in, as `metering.api.people` writes it; empty: by tokens.")
    home_region: str = _HOME


# A stage's settings as published by its data stack, for commands and functions.
#
# One canonical JSON document in a parameter of the region, with its hash in the outputs of the stacks:
#
#     {"given": {"file": {...}, "like": "local", "set": {...}, "version": "0.1.0"}, "policy": {"shards": 1, ...},
#      "queues": {...}, "schema": "metering.settings/1", "stage": "local"}
#
# The policy is strict in both directions: this version can neither work without a field nor follow a field that it does
# not know. Other sections may be added. The next deployment starts from `given`; functions do not read this section.


# Maximum size of a standard parameter (Systems Manager user guide). An advanced one costs 0.05 USD a month and region.
STANDARD_BYTES = 4_096


class QueueSettings(BaseModel):
    """Times and limits of the ingest queue and its dead-letter queue."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    retention_s: int
    dead_letter_retention_s: int
    visibility_s: int
    max_receives: int


class GivenSettings(BaseModel):
    """Settings given to a deployment: values that differ from the deployment's base, by dotted name (`rollout.home`).

    Attributes:
        like: Name of the base.
        version: Version of the package that deployed; empty for a version that did not store these settings yet.
        by_file: Values of the stage's table in a settings file.
        by_option: Values of `--set`, of this and earlier deployments.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    like: str
    version: str = ""
    by_file: dict[str, JsonValue] = Field(default_factory=dict, alias="file")
    by_option: dict[str, JsonValue] = Field(default_factory=dict, alias="set")

    @classmethod
    def read(cls, text: str, *, stage: str, sha256: str) -> GivenSettings | None:
        """Read only this section of the document with this stage and hash, as the policy may be of another version.

        Return None if stage or hash differ, or the section is missing.
        """
        try:
            found = _Section.model_validate_json(text)
        except ValidationError:
            return None
        sound = found.stage == stage and document_sha256(text) == sha256
        return found.given if sound else None


class _Section(BaseModel):
    """Fields of a document that every version can read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: str
    given: GivenSettings | None = None


class StageSettings(BaseModel):
    """Settings of a stage, for programs outside its stacks."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_name: Literal["metering.settings/1"] = Field(default="metering.settings/1", alias="schema")
    stage: str
    policy: Policy
    queues: QueueSettings
    given: GivenSettings | None = None

    def to_json(self) -> str:
        """The document with sorted names and without spaces, so that equal settings have the same text and hash."""
        absent = {"given"} if self.given is None else set()
        return json.dumps(
            self.model_dump(mode="json", by_alias=True, exclude=absent), sort_keys=True, separators=(",", ":")
        )

    @property
    def sha256(self) -> str:
        return document_sha256(self.to_json())

    @property
    def functions_sha256(self) -> str:
        """Hex digest of the settings that functions work with. The digest ignores subscriptions and the version."""
        return self.model_copy(update={"given": None}).sha256

    @classmethod
    def read(cls, text: str, *, sha256: str) -> StageSettings:
        """Read the settings from a document, and verify the document's hash.

        Raises:
            SettingsError: The document has a different hash, is invalid, or is for another version.
        """
        if document_sha256(text) != sha256:
            raise SettingsError(["the settings are not those that were deployed: their hash differs"])
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, e['loc'])) or 'the document'}: {e['msg']}" for e in error.errors()]
            raise SettingsError(problems) from error


def document_sha256(text: str) -> str:
    """Hex digest of the text of a document."""
    return hashlib.sha256(text.encode()).hexdigest()
