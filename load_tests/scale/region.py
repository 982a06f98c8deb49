"""A region of any size, computed from its parameters: every item and file is computed when read, never stored.

In each hour, every account has usage of every kind, and each kind is in as many batches as there are rounds. A batch
has records of the same kind for five accounts. One in forty-eight batches (more in the smallest regions) is late by
whole days, so that totals of past hours depend on the elapsed time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from metering.fleet.stage import TUNABLES
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import ZERO, Service, Total, UsageKind, UsageType, sum_totals

# The target: 12 million batches of 100 records a day, from 10,000 accounts with 20 usage kinds in each hour.
TARGET_ACCOUNTS = 10_000
TARGET_BATCHES_A_DAY = 12_000_000
MARKER_DAYS = 50

KINDS = 20
ROUNDS = 12
ACCOUNTS_A_BATCH = 5
RECORDS = 100
RECORDS_OF_A_KIND = RECORDS // ACCOUNTS_A_BATCH
COMMIT_BATCHES = 40
LATE_DAYS = 35
_LATE_EVERY = 4
_LATE_ROUND = ROUNDS - 1
# Number of rows in a full lake file, which may have up to one more commit (setting `compact_file_rows`).
_FULL_ROWS = TUNABLES["compact_file_rows"]
_FILES = [count for count in range(1, ROUNDS + 1) if ROUNDS % count == 0]


def account_id(account: int) -> str:
    """Id of an account by its number; the ids sort in the order of the numbers."""
    return f"{100_000_000_000 + account:012d}"


def kind(number: int) -> UsageKind:
    """A usage kind, by its number in every account's dictionary."""
    return UsageKind(
        UsageType(f"USW2-Type{number:02d}-Out-Bytes"),
        Service(("AmazonEC2", "AmazonS3")[number % 2]),
        "us-west-2/usw2-az1",
        ("internet", "us-east-1", "us-west-2/usw2-az2")[number % 3],
    )


@dataclass(frozen=True)
class Region:
    """A region and its history.

    Attributes:
        accounts: A multiple of ten.
        begin_s: Its first hour.
        end_s: The hour after the last hour with usage. Late rows that would arrive at or after this hour are missing.
    """

    accounts: int
    begin_s: int
    end_s: int
    hours: int = field(init=False)

    def __post_init__(self) -> None:
        if self.accounts % (2 * ACCOUNTS_A_BATCH):
            raise ValueError("the number of accounts is a multiple of ten")
        object.__setattr__(self, "hours", (self.end_s - self.begin_s) // HOUR_S)

    @property
    def share(self) -> float:
        """Size as a share of the target."""
        return self.batches_an_hour * 24 / TARGET_BATCHES_A_DAY

    @cached_property
    def blocks(self) -> int:
        """Batches of a round."""
        return self.accounts * KINDS // ACCOUNTS_A_BATCH

    @property
    def batches_an_hour(self) -> int:
        return self.blocks * ROUNDS

    @property
    def commits_an_hour(self) -> int:
        return self.batches_an_hour // COMMIT_BATCHES

    @cached_property
    def late_every(self) -> int:
        """In the last round, one in this many batches is late, so that an hour has a file for each day if possible.

        At the target size, an hour has a file for each day of lateness. If small regions had fewer files, the fitted
        line of waiting time would be too steep.
        """
        return max(1, min(_LATE_EVERY, self.blocks // LATE_DAYS))

    # A batch's name consists of its booked hour, its round and its block.

    def keys(self, block: int) -> Iterator[tuple[int, int]]:
        """Accounts and kinds of a batch."""
        for part in range(ACCOUNTS_A_BATCH):
            yield divmod(block + part * self.blocks, KINDS)

    def record_bytes(self, account: int, number: int) -> int:
        """Mean bytes of a record; the bytes of a kind's records in a batch add up to a multiple of this mean."""
        return 9_000_000 + 1_013 * number + 7 * (account % 101)

    def batch_total(self, block: int) -> Total:
        return Total(sum(RECORDS_OF_A_KIND * self.record_bytes(*key) for key in self.keys(block)), RECORDS)

    def late_days(self, round_: int, block: int) -> int:
        """Days by which a batch is late; 0 if it is on time."""
        if round_ != _LATE_ROUND or block % self.late_every:
            return 0
        return 1 + block // self.late_every % LATE_DAYS

    def there(self, hour_s: int, days: int) -> bool:
        """Whether an hour's rows that are `days` days late have arrived."""
        return hour_s + days * DAY_S < self.end_s

    def days_there(self, hour_s: int) -> int:
        """Lateness, in days, of the latest rows that have arrived for an hour."""
        return min(LATE_DAYS, (self.end_s - 1 - hour_s) // DAY_S)

    def rounds_of(self, account: int, number: int, days_there: int) -> int:
        """Number of batches that contain an account's kind in an hour."""
        return ROUNDS - (self.late_days(_LATE_ROUND, (account * KINDS + number) % self.blocks) > days_there)

    def kind_total(self, account: int, number: int, days_there: int) -> Total:
        """Usage of a kind of an account in an hour."""
        records = RECORDS_OF_A_KIND * self.rounds_of(account, number, days_there)
        return Total(records * self.record_bytes(account, number), records)

    @cached_property
    def late_blocks(self) -> dict[int, tuple[int, ...]]:
        """Blocks of an hour's late batches, by days of lateness."""
        found: dict[int, list[int]] = {days: [] for days in range(1, LATE_DAYS + 1)}
        for block in range(0, self.blocks, self.late_every):
            found[self.late_days(_LATE_ROUND, block)].append(block)
        return {days: tuple(blocks) for days, blocks in found.items()}

    @cached_property
    def files(self) -> int:
        """Number of an hour's files with rows on time: as few as possible without exceeding a full file's rows."""
        rows = self.blocks * RECORDS
        return next(count for count in _FILES if ROUNDS // count * rows <= _FULL_ROWS or count == ROUNDS)

    def files_of(self, days: int) -> int:
        """Number of an hour's files with rows that are `days` days late; 0 days means rows on time."""
        return 1 if days else self.files

    def rounds_in(self, days: int, number: int) -> range:
        """Rounds whose batches are in file `number` of the rows that are `days` days late."""
        a_file = ROUNDS // self.files_of(days)
        return range(number * a_file, (number + 1) * a_file)

    def file_total(self, days: int, number: int | None = None) -> Total:
        """Total of an hour's file `number` with rows that are `days` days late; None for all such files."""
        total = self._file_totals[days]
        if number is None or days:
            return total
        rounds, one = self.rounds_in(0, number), self._round_total
        others = ROUNDS - len(rounds)
        if _LATE_ROUND not in rounds:
            return Total(len(rounds) * one.bytes, len(rounds) * one.records)
        return total.minus(Total(others * one.bytes, others * one.records))

    @cached_property
    def _round_total(self) -> Total:
        """Total of a round, including late rows. Every published file's total is computed from this total."""
        return sum_totals(map(self.batch_total, range(self.blocks)))

    @cached_property
    def _file_totals(self) -> dict[int, Total]:
        late = {d: sum_totals(map(self.batch_total, blocks)) for d, blocks in self.late_blocks.items()}
        one = self._round_total
        return {0: Total(ROUNDS * one.bytes, ROUNDS * one.records).minus(sum_totals(late.values())), **late}

    def hour_total(self, hour_s: int) -> Total:
        """Total of an hour at the region's end."""
        return sum_totals(self.file_total(days) for days in range(self.days_there(hour_s) + 1))

    def file_days(self, hour_s: int) -> list[int]:
        """Days of lateness for which an hour has files."""
        return [days for days in range(self.days_there(hour_s) + 1) if self.file_total(days) != ZERO]

    # The run of an hour compacts that hour, and late rows for the same hour of earlier days.

    def run_of(self, hour_s: int, days: int) -> int:
        """Number of the run that published a file of an hour."""
        return (hour_s + days * DAY_S - self.begin_s) // HOUR_S + 1

    def hour_of_run(self, run: int) -> int:
        """The hour whose first file a run published."""
        return self.begin_s + (run - 1) * HOUR_S

    @property
    def newest_run(self) -> int:
        return self.hours
