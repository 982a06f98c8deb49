"""Deeds: changes and deletions made by commands. Key: `W#deed-<month>`, time and id; no deed expires.

The item of a deed is written before the deed starts (`begun`), and again when the deed ends. The deed of a killed
process stays `begun`: its progress is unknown.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from metering.ledger.partitions import NOTE
from metering.stores import codec
from metering.stores.writes import Key


class DeedState(StrEnum):
    """Progress of a deed, according to the audit trail."""

    BEGUN = "begun"
    OK = "ok"
    FAILED = "failed"


class Consent(StrEnum):
    """How the user confirmed a deed."""

    TYPED = "typed"
    ANSWERED = "answered"
    YES = "--yes"
    EMULATOR = "emulator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed(codec.StoredItem):
    """One deed.

    Attributes:
        deed_id: Random id that distinguishes deeds of the same millisecond.
        what: The command's words, such as `period close`.
        subject: Object of the command, such as `2026-10`; may be empty.
        consequence: The consequence that was shown to the person.
        who: ARN of the caller, according to STS.
        ended_ms: Time when the deed ended; 0 while `begun`.
        result: Result of the deed, or the error that ended it; empty while `begun`.
    """

    deed_id: str
    at_ms: int
    what: str
    subject: codec.AnyText
    consequence: codec.AnyText
    who: str
    stage: str
    region: str
    version: str
    consent: Consent
    state: DeedState = DeedState.BEGUN
    ended_ms: int = 0
    result: str = ""

    @property
    def key(self) -> Key:
        return Key(deeds_pk(self.at_ms), f"{moment_of(self.at_ms)}#{self.deed_id}")


def deeds_pk(at_ms: int) -> str:
    """Partition of the deeds of the month that contains `at_ms`."""
    return f"{NOTE}deed-{moment_of(at_ms)[:7]}"


def moment_of(at_ms: int) -> str:
    """Sort key of a time, `2026-11-24T13:00:00.000Z`, which sorts chronologically."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{at_ms % 1000:03}Z"
