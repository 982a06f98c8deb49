"""Deeds: changes and deletions that people made by command. `W#deed-<month>`, time and id; no deed ever expires.

A deed is written before it acts (`begun`) and again when it ends. A killed deed stays `begun`, which shows that its
progress is unknown.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from metering.ledger.partitions import NOTE
from metering.stores import codec
from metering.stores.writes import Key


class DeedState(StrEnum):
    """Progress of a deed, as far as the trail knows."""

    BEGUN = "begun"
    OK = "ok"
    FAILED = "failed"


class Consent(StrEnum):
    """How the person confirmed a deed."""

    TYPED = "typed"
    ANSWERED = "answered"
    YES = "--yes"
    EMULATOR = "emulator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed(codec.StoredItem):
    """One deed.

    Attributes:
        deed_id: Distinguishes it from another deed of the same millisecond.
        what: Words of the command, such as `period close`.
        subject: Object of the command, such as `2026-10`; may be empty.
        consequence: The consequence that was shown to the person.
        who: The caller's ARN according to STS.
        ended_ms: Time when it ended; 0 while it is `begun`.
        result: Its result, or the error that ended it; empty while it is `begun`.
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
