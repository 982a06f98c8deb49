"""All reasons for which a line or a whole log file is refused.

Reasons are public: plans, quarantine, figures and reports contain reasons. Reasons may be added, but never renamed.
"""

from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar


class LineReason(StrEnum):
    """Reason why a line is not metered."""

    FIELD_COUNT = "field_count"
    INVALID_NUMBER = "invalid_number"
    INVALID_ADDRESS = "invalid_address"
    INVALID_TIME = "invalid_time"
    INVALID_ACCOUNT = "invalid_account"
    INVALID_VALUE = "invalid_value"
    SPANS_OVER_AN_HOUR = "spans_over_an_hour"
    LINE_TOO_LONG = "line_too_long"
    NOT_TEXT = "not_text"
    REPEATED_LINE = "repeated_line"
    NO_REGION = "no_region"
    ACCOUNT_NOT_ALLOWED = "account_not_allowed"
    OTHER_ACCOUNT = "other_account"
    OTHER = "other"


class FileReason(StrEnum):
    """Reason why a whole file is not metered."""

    UNKNOWN_NAME = "unknown_name"
    NOT_METERED_KIND = "not_metered_kind"
    WRONG_FORMAT = "wrong_format"
    TRUNCATED = "truncated"
    EXPANDS_TOO_FAR = "expands_too_far"
    MISSING_FIELD = "missing_field"
    NO_HEADER = "no_header"
    TOO_DIVERSE = "too_diverse"
    TOO_MANY_BAD_LINES = "too_many_bad_lines"
    CHANGED_WHILE_READ = "changed_while_read"
    GREW = "grew"
    CHANGED_SINCE = "changed_since"
    OTHER_RULES = "other_rules"
    TOO_OLD = "too_old"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    NO_CONTEXT = "no_context"
    NOT_ALLOWED = "not_allowed"
    ACCOUNT_CONTRADICTS = "account_contradicts"


SubjectT = TypeVar("SubjectT", contravariant=True)


class Traffic(NamedTuple):
    """Fields of a record except times and bytes; `usage_type` is empty if the contract's table decides."""

    account_id: str
    service: str
    resource_id: str
    direction: str
    from_location: str
    to_location: str
    usage_type: str = ""


class Processed(NamedTuple):
    """The charge of a gateway for processing traffic: a second count of the same bytes, with the name of its rule."""

    traffic: Traffic
    rule: str


class Classified(NamedTuple):
    """Metered traffic, with the name of its rule; `reason` is empty unless the traffic is unclassified.

    `processed` is None unless a gateway charges for processing this traffic, in addition to its transfer.
    """

    traffic: Traffic
    rule: str
    reason: str = ""
    processed: Processed | None = None


class Shadowed(NamedTuple):
    """Outcome if another log (`by`) has the authority over the resource in this hour."""

    by: str


class Unmetered(NamedTuple):
    """Subject that moved nothing over the metered boundary, by a rule of its kind (a copy within S3)."""

    rule: str


class Refused(NamedTuple):
    """Subject that cannot be metered; `reason` is defined in `metering.onramps.reasons`."""

    reason: str
    detail: str


Outcome = Classified | Shadowed | Unmetered | Refused


class Classifier(Protocol[SubjectT]):
    """Classifies subjects of one kind of log by the contexts of one file."""

    def outcome(self, subject: SubjectT, hour_s: int) -> Outcome:
        """Judge a subject in an hour. The same context and rules always give the same outcome."""
