"""A stage's settings as its data stack publishes them, for people's commands and for the functions alike.

One canonical JSON document in a parameter of the region, with its hash in the outputs of the stacks:

    {"given": {"file": {...}, "like": "local", "set": {...}, "version": "0.1.0"}, "policy": {"shards": 1, ...},
     "queues": {...}, "schema": "metering.settings/1", "stage": "local"}

The policy is strict both ways, because this version can work neither without a field nor by one that it does not know.
Other sections may be added. `given` is what the next deployment begins from; functions know nothing of it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from metering.errors import SettingsError
from metering.settings import Policy

# Largest value of a standard parameter (Systems Manager user guide). An advanced one costs 0.05 USD a month and region.
STANDARD_BYTES = 4_096


class QueueSettings(BaseModel):
    """Times and limits of the ingest queue and its dead-letter queue."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    retention_s: int
    dead_letter_retention_s: int
    visibility_s: int
    max_receives: int


class GivenSettings(BaseModel):
    """What a deployment was given: values that differ from those of its base, by name with dots (`rollout.home`).

    Attributes:
        like: Name of the base.
        version: Version of the package that deployed; empty if it was one that kept nothing.
        by_file: Values of the stage's table in a settings file.
        by_option: Values of `--set`, of this deployment and of earlier ones.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    like: str
    version: str = ""
    by_file: dict[str, JsonValue] = Field(default_factory=dict, alias="file")
    by_option: dict[str, JsonValue] = Field(default_factory=dict, alias="set")

    @classmethod
    def read(cls, text: str, *, stage: str, sha256: str) -> GivenSettings | None:
        """Read this section alone from a document, whose policy may be that of another version.

        Args:
            text: The document as it was found.
            stage: The stage that it must be of.
            sha256: The hash that it must have.

        Returns:
            None if the document is not the one that was deployed, or says nothing of it.
        """
        try:
            found = _Section.model_validate_json(text)
        except ValidationError:
            return None
        sound = found.stage == stage and document_sha256(text) == sha256
        return found.given if sound else None


class _Section(BaseModel):
    """What every version reads of a document."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: str
    given: GivenSettings | None = None


class StageSettings(BaseModel):
    """Decisions of a stage that others than its stacks need."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_name: Literal["metering.settings/1"] = Field(default="metering.settings/1", alias="schema")
    stage: str
    policy: Policy
    queues: QueueSettings
    given: GivenSettings | None = None

    def to_json(self) -> str:
        """The document with sorted names and without spaces, so that equal settings have one text and one hash."""
        absent = {"given"} if self.given is None else set()
        return json.dumps(
            self.model_dump(mode="json", by_alias=True, exclude=absent), sort_keys=True, separators=(",", ":")
        )

    @property
    def sha256(self) -> str:
        """Hex digest of the document."""
        return document_sha256(self.to_json())

    @property
    def functions_sha256(self) -> str:
        """Hex digest of what functions work with. Another subscription or version does not change it."""
        return self.model_copy(update={"given": None}).sha256

    @classmethod
    def read(cls, text: str, *, sha256: str) -> StageSettings:
        """Read the settings from a document.

        Args:
            text: The document as it was found.
            sha256: The hash that it must have.

        Raises:
            SettingsError: The document has another hash, is broken, or is for another version.
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
