"""A stage's settings as its data stack publishes them, for people's commands and for the functions alike.

One canonical JSON document in a parameter of the region, with its hash in the outputs of the stacks:

    {"policy": {"shards": 1, ...}, "queues": {...}, "schema": "metering.settings/1", "stage": "local"}

The policy is strict both ways, because this version can work neither without a field nor by one that it does not know.
Other sections may be added.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metering.errors import SettingsError
from metering.settings import Policy


class QueueSettings(BaseModel):
    """Times and limits of the ingest queue and its dead-letter queue."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    retention_s: int
    dead_letter_retention_s: int
    visibility_s: int
    max_receives: int


class StageSettings(BaseModel):
    """Decisions of a stage that others than its stacks need."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_name: Literal["metering.settings/1"] = Field(default="metering.settings/1", alias="schema")
    stage: str
    policy: Policy
    queues: QueueSettings

    def to_json(self) -> str:
        """The document with sorted names and without spaces, so that equal settings have one text and one hash."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        """Hex digest of the document."""
        return document_sha256(self.to_json())

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
