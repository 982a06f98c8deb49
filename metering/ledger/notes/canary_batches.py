"""Canary batches: known batches of a reserved account, sent twice and expected to count once.

Each canary has a slot (a minute) of its own, and each minute of an hour has a usage type of its own. So the total of a
booked hour and usage type says whether one batch was counted once, twice or not yet. They are as many kinds as an hour
has minutes, for ever: kinds keep their numbers (P45). Reports leave the reserved account out unless they ask for it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from metering.hours import hour_of, rfc3339
from metering.units import HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from metering.stores.writes import Value

# No AWS account has this id. A report shows it only if the query names it.
CANARY_ACCOUNT_ID = "000000000000"
CANARY_PREFIX = "canary:"
CANARY_SERVICE = "MeteringCanary"
CANARY_USAGE_TYPES = "Canary-"

# An odd figure, so that a doubled or halved one is recognised.
CANARY_BYTES = 1_000_003


def of_canary(name: str) -> bool:
    """Whether an account, service or usage type is the canary's."""
    return name in {CANARY_ACCOUNT_ID, CANARY_SERVICE} or name.startswith(CANARY_USAGE_TYPES)


def slot_of(epoch_s: int) -> int:
    """Start of the minute. There is at most one canary batch a minute."""
    return epoch_s - epoch_s % MINUTE_S


def canary_batch_id(slot_s: int) -> str:
    """Id of a slot's batch. A canary that is repeated in its minute sends the same batch again."""
    return f"{CANARY_PREFIX}{rfc3339(slot_s)}"


def canary_usage_type(slot_s: int) -> str:
    """Usage type of this slot's batch; no other batch of its hour has it."""
    return f"{CANARY_USAGE_TYPES}{slot_s % HOUR_S // MINUTE_S:02d}"


def canary_hour(slot_s: int) -> int:
    """Usage hour that the batch counts in."""
    return hour_of(slot_s)


def canary_body(slot_s: int, region: str) -> str:
    """Message with one record. It is the same for the same slot and region, so that copies are duplicates."""
    # Reports need only the names of this module, and the rules of messages take long to import.
    from metering.intake.messages import SCHEMA

    moment = rfc3339(slot_s)
    record: dict[str, Value] = {
        "account_id": CANARY_ACCOUNT_ID,
        "service": CANARY_SERVICE,
        "resource_id": "canary",
        "direction": "out",
        "from": region,
        "to": "internet",
        "bytes": CANARY_BYTES,
        "start": moment,
        "end": moment,
        "usage_type": canary_usage_type(slot_s),
    }
    message: dict[str, Value] = {
        "schema": SCHEMA,
        "batch_id": canary_batch_id(slot_s),
        "record_count": 1,
        "records": [record],
    }
    return json.dumps(message)
