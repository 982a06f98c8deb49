"""What the rules make of a subject of a log: traffic of the contract, or a reason why it is not metered."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

SubjectT = TypeVar("SubjectT", contravariant=True)


class Traffic(NamedTuple):
    """The fields of a record that are neither times nor bytes (docs/contract.md, the record).

    `usage_type` is empty where the contract's table decides; else it is the on-ramp's own.
    """

    account_id: str
    service: str
    resource_id: str
    direction: str
    from_location: str
    to_location: str
    usage_type: str = ""


class Classified(NamedTuple):
    """Traffic, and how it became known.

    Attributes:
        traffic: It is metered as this.
        rule: Name of the rule that decided, a name of the rule file.
        reason: Why it is unclassified, a name of the rule file; empty if it is classified.
    """

    traffic: Traffic
    rule: str
    reason: str = ""


class Shadowed(NamedTuple):
    """Another log has the authority over the resource in this hour; `by` names it."""

    by: str


class Unmetered(NamedTuple):
    """It moved nothing over the metered boundary, by a rule of its kind (a copy within S3)."""

    rule: str


class Refused(NamedTuple):
    """It cannot be metered; `reason` is one of `metering.onramps.reasons`."""

    reason: str
    detail: str


Outcome = Classified | Shadowed | Unmetered | Refused


class Classifier(Protocol[SubjectT]):
    """Judges subjects of one kind of log, against the context of one file."""

    def outcome(self, subject: SubjectT, hour_s: int) -> Outcome:
        """Judge a subject in an hour. The same context and rules give the same outcome for ever."""
        ...
