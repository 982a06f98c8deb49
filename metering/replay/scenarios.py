"""Scenarios of synthetic traffic, by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Form(StrEnum):
    """Form in which a batch's records are sent: inline, or as an object."""

    INLINE = "inline"
    CLOUD_EVENT = "cloud_event"
    NDJSON = "ndjson"
    NDJSON_GZIP = "ndjson.gz"
    NDJSON_ZSTD = "ndjson.zst"
    PARQUET = "parquet"
    DROP_NDJSON = "drop.ndjson"
    DROP_NDJSON_GZIP = "drop.ndjson.gz"
    DROP_NDJSON_ZSTD = "drop.ndjson.zst"
    DROP_PARQUET = "drop.parquet"

    @property
    def dropped(self) -> bool:
        """Whether an S3 event announces the object, so the producer sends no message."""
        return self.value.startswith("drop.")

    @property
    def suffix(self) -> str:
        """Suffix of the object's key."""
        return self.value.removeprefix("drop.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Season:
    """Steady traffic: each account sends each flow in each batch, by the time since the batch before, and the season.

    The n-th account and the n-th flow have 1/n of the traffic of the first.

    Attributes:
        flows: Number of flows.
        week: Weights of the days from Monday to Sunday.
        bytes_a_weight: Bytes of the first account's first flow in an hour whose weights of hour and day are 1.
        unusual_days_ago: Day on which the second account's first flow is `unusual_times` as much as usual.
    """

    flows: int
    week: tuple[int, ...]
    bytes_a_weight: int
    unusual_days_ago: int
    unusual_times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Shape of synthetic traffic. Shares are fractions of all messages, 0 to 1.

    Attributes:
        about: One sentence for people.
        batches: Default number of messages, copies and conflicts included.
        records_per_batch: Number of records in each batch.
        accounts: Number of accounts; the first accounts have most of the traffic.
        accounts_per_batch: Maximum number of accounts in a batch.
        keys_per_batch: Maximum number of usage keys in a batch.
        hours: Number of hours, the newest included, in which records start.
        busy: Weights of the 24 hours of the day (UTC); empty if all hours are equal.
        mean_bits: Bytes of a record are uniform in [0, 2**mean_bits).
        forms: Weight of each form.
        duplicates: Share of messages that are copies of earlier batches.
        conflicts: Share of messages with an earlier batch's id but other content.
        late: Share of batches of old records. Half of old batches are days old but admitted; the others are too late.
        season: Steady traffic, one batch after the other in time, in place of random kinds, hours and bytes.
        malformed: Share of bad batches. Half of bad batches are refused as a whole; the others have some bad records.
    """

    about: str
    batches: int = 1_000
    records_per_batch: int = 100
    accounts: int = 200
    accounts_per_batch: int = 4
    keys_per_batch: int = 8
    hours: int = 3
    busy: tuple[int, ...] = ()
    mean_bits: int = 28
    forms: Mapping[Form, int] = field(default_factory=lambda: {Form.INLINE: 1})
    duplicates: float = 0.0
    conflicts: float = 0.0
    late: float = 0.0
    malformed: float = 0.0
    season: Season | None = None


# At night, traffic is a tenth of daytime traffic, as in access networks.
_DAY_AND_NIGHT = (3, 2, 1, 1, 1, 1, 2, 4, 6, 8, 9, 9, 9, 9, 9, 9, 9, 9, 10, 10, 10, 9, 7, 5)

_ALL_FORMS = dict.fromkeys(Form, 3) | {Form.INLINE: 60, Form.CLOUD_EVENT: 10}

SCENARIOS: dict[str, Scenario] = {
    "mixed": Scenario(about="All forms; copies, conflicts, late, bad and partly bad batches.", forms=_ALL_FORMS,
        duplicates=0.05, conflicts=0.01, late=0.03, malformed=0.04),
    "clean": Scenario(about="Inline batches without a fault."),
    "week": Scenario(about="Seven days, busy by day and quiet at night, for reports by day.",
        batches=2_000, records_per_batch=50, accounts=50, hours=7 * 24, busy=_DAY_AND_NIGHT, duplicates=0.02),
    # An hour less than the 35 days in which records are admitted, and one for the time that a replay takes.
    "month": Scenario(about="Five weeks, steady by weekday, with one unusual day, for forecasts.",
        batches=419, records_per_batch=48, accounts=8, hours=35 * 24 - 2, busy=_DAY_AND_NIGHT, season=Season(flows=6,
        week=(9, 10, 10, 10, 9, 4, 3), bytes_a_weight=2**28, unusual_days_ago=3, unusual_times=6)),
    "load": Scenario(about="500 accounts; a batch touches up to 8 of them with 16 usage keys.",
        batches=10_000, accounts=500, accounts_per_batch=8, keys_per_batch=16, hours=1),
    "load-5": Scenario(about="As load, but with 5 usage keys a batch.",
        batches=10_000, accounts=500, accounts_per_batch=5, keys_per_batch=5, hours=1),
    "load-1": Scenario(about="As load, but with 1 usage key a batch.",
        batches=10_000, accounts=500, accounts_per_batch=1, keys_per_batch=1, hours=1),
    "objects": Scenario(about="Only objects: references and drops, in every format.",
        forms={form: 1 for form in Form if form not in (Form.INLINE, Form.CLOUD_EVENT)}),
    "huge": Scenario(about="One account that moves more than 2^63 bytes: totals must stay exact.",
        batches=20, records_per_batch=50, accounts=1, accounts_per_batch=1, keys_per_batch=2, mean_bits=62),
}  # fmt: skip
