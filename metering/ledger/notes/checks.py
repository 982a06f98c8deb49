"""Notes of checks: canaries, objects below `drop/` that were never announced, and the items of `metering doctor`."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, NamedTuple

from metering.hours import hour_of, rfc3339
from metering.ledger.partitions import NOTE
from metering.stores import codec
from metering.stores.writes import Key, Value
from metering.units import DAY_S, HOUR_S, MINUTE_S

DROPS_KEY = Key(f"{NOTE}drops", "W")


class LostDrop(NamedTuple):
    """An object below `drop/` without a batch.

    Attributes:
        etag: Its ETag, without quotes.
    """

    key: str
    etag: str
    put_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedObjects(codec.StoredItem):
    """Passes over `drop/`. Each pass reads the objects put since the previous pass.

    Attributes:
        lost: The first objects found without a batch.
        from_s: The last pass read the objects that were put from this time on, epoch seconds.
        seen_to_s: All objects put before this time have been read.
        began_s: When the last pass began; 0 if there was none.
        finished_s: When the last pass finished; 0 if none has finished.
        upto_s: The running pass reads the objects that were put before this time; 0 if no pass is running.
        after: The last key that the running pass read.
        refused_to_s: Batches that entered quarantine before this time are not in `lost`, epoch seconds.
    """

    key: ClassVar[Key] = DROPS_KEY
    lost: tuple[LostDrop, ...] = ()
    more: int = 0
    from_s: int = 0
    seen_to_s: int = 0
    began_s: int = 0
    finished_s: int = 0
    upto_s: int = 0
    after: str = ""
    refused_to_s: Annotated[int, codec.Added(0)] = 0

    @property
    def count(self) -> int:
        return len(self.lost) + self.more


DOCTOR_PK = f"{NOTE}doctor"


def doctor_key(name: str) -> Key:
    """Key of an item of one run of `metering doctor`."""
    return Key(DOCTOR_PK, name)


def doctor_item(name: str, *, expires_s: int, filler: str = "") -> dict[str, Value]:
    """An item that has an expiry, in case it is not deleted."""
    return {**doctor_key(name)._asdict(), "n": 1, "expires_at": expires_s, **({"filler": filler} if filler else {})}


# Canary batches: known batches of a reserved account that are sent twice and must be counted once.
#
# Each canary has its own slot (a minute), and each minute of an hour has its own usage type. So the total for a booked
# hour and usage type shows whether one batch was counted once, twice or not yet. The canary has as many usage kinds as
# an hour has minutes, because kinds keep their numbers (P45). Reports omit the reserved account unless a query names
# it.


# No AWS account has this id. A report shows this account only if the query names it.
CANARY_ACCOUNT_ID = "000000000000"
CANARY_PREFIX = "canary:"
CANARY_SERVICE = "MeteringCanary"
CANARY_USAGE_TYPES = "Canary-"

# An odd number, so that a doubled or halved total is recognised.
CANARY_BYTES = 1_000_003


def of_canary(name: str) -> bool:
    """Whether an account, service or usage type is the canary's."""
    return name in {CANARY_ACCOUNT_ID, CANARY_SERVICE} or name.startswith(CANARY_USAGE_TYPES)


def slot_of(epoch_s: int) -> int:
    """Start of the minute. At most one canary batch is sent per minute."""
    return epoch_s - epoch_s % MINUTE_S


def canary_batch_id(slot_s: int) -> str:
    """Id of the canary batch of a minute. A canary repeated within the same minute sends the same batch again."""
    return f"{CANARY_PREFIX}{rfc3339(slot_s)}"


def canary_usage_type(slot_s: int) -> str:
    """Usage type of this slot's batch; no other batch of the hour has this usage type."""
    return f"{CANARY_USAGE_TYPES}{slot_s % HOUR_S // MINUTE_S:02d}"


def canary_hour(slot_s: int) -> int:
    """Usage hour in which the canary batch counts."""
    return hour_of(slot_s)


def canary_body(slot_s: int, region: str) -> str:
    """Message with one record. The batch is the same for the same slot and region, so copies are duplicates."""
    # Reports need only the names of this module, and importing the message rules takes long.
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


CANARY_PK = f"{NOTE}canary"
# Retention of the notes about canaries and conflicts.
REMEMBERED_S = 7 * DAY_S


class CanaryVerdict(StrEnum):
    """Verdict on a canary batch."""

    SENT = "sent"
    GOOD = "good"
    LATE = "late"
    DOUBLED = "doubled"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRun(codec.StoredItem):
    """One canary batch.

    Attributes:
        slot_s: Start of the canary's minute, epoch seconds; part of the batch id.
        settled_s: Time of the verdict; 0 while the state is `sent`.
    """

    slot_s: int
    sent_s: int
    verdict: CanaryVerdict = CanaryVerdict.SENT
    settled_s: int = 0

    @property
    def key(self) -> Key:
        return canary_key(self.slot_s)

    def to_item(self) -> dict[str, Value]:
        return codec.item_of(self) | {"expires_at": self.sent_s + REMEMBERED_S}


def canary_key(slot_s: int) -> Key:
    """Key of a canary. Keys sort by time."""
    return Key(CANARY_PK, rfc3339(slot_s))
