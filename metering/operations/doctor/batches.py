"""Batches of the doctor. They are of the canary's account, so no report shows them and no verification misses them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.intake.messages import SCHEMA
from metering.ledger.notes.canary_batches import CANARY_ACCOUNT_ID, CANARY_PREFIX, CANARY_SERVICE, CANARY_USAGE_TYPES

if TYPE_CHECKING:
    from metering.stores.writes import Value

SENDER_ADVICE = (
    "In a stage whose producers are registered, run it with credentials that may assume the operator role: the service "
    "takes batches of this account of its own roles only."
)


def record(now_s: int, region: str) -> dict[str, Value]:
    """One record of one byte, at the time that is now."""
    moment = rfc3339(now_s)
    return {
        "account_id": CANARY_ACCOUNT_ID,
        "service": CANARY_SERVICE,
        "resource_id": "doctor",
        "direction": "out",
        "from": region,
        "to": "internet",
        "bytes": 1,
        "start": moment,
        "end": moment,
        "usage_type": f"{CANARY_USAGE_TYPES}doctor",
    }


def batch_id(token: str, number: int) -> str:
    """Id of one batch of an examination."""
    return f"{CANARY_PREFIX}doctor:{token}:{number:06d}"


def body(token: str, number: int, *, now_s: int, region: str) -> str:
    """Message with one record."""
    message: dict[str, Value] = {
        "schema": SCHEMA,
        "batch_id": batch_id(token, number),
        "record_count": 1,
        "records": [record(now_s, region)],
    }
    return json.dumps(message)
