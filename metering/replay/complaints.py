"""Words for what the service finds wrong with a record, for whoever wrote the file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from metering.intake.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

# The field that a reason is about.
_FIELDS = {
    Reason.INVALID_ACCOUNT_ID: "account_id",
    Reason.INVALID_SERVICE: "service",
    Reason.INVALID_RESOURCE_ID: "resource_id",
    Reason.INVALID_DIRECTION: "direction",
    Reason.INVALID_FROM: "from",
    Reason.INVALID_TO: "to",
    Reason.INVALID_BYTES: "bytes",
    Reason.INVALID_START: "start",
    Reason.INVALID_END: "end",
    Reason.INVALID_USAGE_TYPE: "usage_type",
    Reason.TOO_LATE: "start",
    Reason.IN_THE_FUTURE: "start",
    Reason.END_BEFORE_START: "end",
    Reason.SPANS_OVER_AN_HOUR: "end",
}
_TYPES = {"bytes": "whole number", "start": "time", "end": "time"}
TOO_OLD = "is too old to be admitted"
_WORDS = {
    Reason.TOO_LATE: TOO_OLD,
    Reason.IN_THE_FUTURE: "is in the future",
    Reason.END_BEFORE_START: "is before the start",
    Reason.SPANS_OVER_AN_HOUR: "is more than an hour after the start",
}
_NOT_OF_TYPE = "not of its type: "
_CHARS = 60


def complaint(reason: str, detail: str, record: Mapping[str, object]) -> str:
    """A problem in words: `bytes: 12.5 is no whole number`.

    Args:
        reason: The service's reason.
        detail: The service's detail.
        record: The record.
    """
    known = Reason(reason)
    if known is Reason.MISSING_FIELD:
        return f"{detail} is missing"
    field = _FIELDS.get(known)
    if field is None:
        return detail
    if known in _WORDS:
        return f"{field}: {_shown(record.get(field))} {_WORDS[known]}"
    if detail.startswith(_NOT_OF_TYPE):
        return f"{field}: {_shown(record.get(field))} is no {_TYPES.get(field, 'text')}"
    return f"{field}: {detail}"


def _shown(value: object) -> str:
    """A value as it stands in the file, cut if it is long."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _CHARS else f"{text[:_CHARS]}..."
