"""Plans of the roll-up: the commits of a run, and the run's addition to each usage item (P23). A plan never changes.

Plans contain the names of kinds, never their numbers. The plan states whether a kind has a number. Two processes that
work on one run must book a kind in the same item, even if the kind's number is claimed in the meantime.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from heapq import nsmallest
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, ClassVar

from metering import metric_names
from metering.errors import EarlyEndError, LedgerCorruptError, ObjectDamagedError, ObjectMissingError, UnavailableError
from metering.hours import hour_label
from metering.ledger.booked_hours import HourTotals, StagingKey  # noqa: TC001 - the codec reads annotations
from metering.ledger.commits import Waiting, waiting_commit_of, waiting_in
from metering.ledger.usage.kinds import KindNumbers, KindsBeyondCap, kind_of
from metering.stores.clock import Clock, Entropy, Metrics, Retrier, side_by_side
from metering.stores.codec import Form, Hour, StoredDocument, Unwritten
from metering.stores.writes import Item, Put, Table
from metering.usage.totals import Total, UsageKey, UsageKind, add_totals, by_hour

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.lake.ports import StagedUsage
    from metering.ledger.runs import Contradictions
    from metering.stores.codec import Fields
    from metering.stores.writes import ItemStore


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCommit:
    """A commit of a run, with the contents of the commit's waiting entry."""

    commit_id: Annotated[str, "commit"]
    staging_key: StagingKey
    totals: HourTotals
    created_at_ms: int
    sent_at_ms: int


_COLUMNS = ("usage_type", "service", "from", "to", "bytes", "records")


def _sums(kinds: Mapping[UsageKind, Total]) -> list[list[str | int]]:
    # Sums of bytes are strings, because other languages lose digits of large numbers.
    return [[*kind, str(total.bytes), total.records] for kind, total in kinds.items()]


def _kinds(hour: Fields, name: str) -> dict[UsageKind, Total]:
    return {kind_of(row): Total(row.decimal("bytes"), row.whole("records")) for row in hour.rows(name, _COLUMNS)}


_CORRECTS = Form(
    lambda hour, name: hour.hour_named(hour.text(name)) if hour.any_text(name) else None,
    lambda corrects_s: "" if corrects_s is None else hour_label(corrects_s),
)
_Sums = Annotated[Mapping[UsageKind, Total], Form(_kinds, _sums)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedHour:
    """Sums of one account in one booked hour.

    Attributes:
        numbered: Sum of each kind that had a number when the plan was made. Sums go to the items of their buckets.
        named: Sum of each kind without a number, because the account's numbers were at the cap. Each has its own item.
    """

    account_id: Annotated[str, "account"]
    hour_s: Annotated[Hour, "hour"]
    corrects_s: Annotated[int | None, "corrects", _CORRECTS]
    numbered: _Sums
    named: _Sums

    def totals(self) -> Iterator[tuple[UsageKey, Total]]:
        """All sums, by usage key."""
        for kinds in (self.numbered, self.named):
            for kind, total in kinds.items():
                yield UsageKey(self.hour_s, self.account_id, *kind, self.corrects_s), total


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupPlan(StoredDocument):
    """Plan of one run of a roll-up.

    Attributes:
        region: Whether the region's numbers of all kinds were claimed before the plan was put (P51).
    """

    SCHEMA: ClassVar[str] = "metering.rollup/1"
    shard: int
    commits: tuple[PlannedCommit, ...]
    hours: tuple[PlannedHour, ...]
    region: Annotated[bool, Unwritten(False)] = False

    @property
    def kinds(self) -> set[UsageKind]:
        """Kinds of all sums."""
        return {kind for hour in self.hours for kinds in (hour.numbered, hour.named) for kind in kinds}


# Sums of one plan. A run takes no further commits once it has this number of sums, which bounds its memory and its plan
# object: a sum takes about 600 bytes in memory and 120 in the plan.
MOST_SUMS = 200_000

# A plan reads this many entries of the waiting list for each commit that the plan may take.
_READ_PER_COMMIT = 10

# An account, an hour of it, and the hour that this hour corrects.
_Place = tuple[str, int, int | None]


class NotWaitingError(EarlyEndError):
    """A listed commit no longer waits, because another process rolled it up first; the step is restarted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Makes the plans of one shard's runs.

    Attributes:
        commits: Maximum number of commits in a plan.
        threads: Number of staging objects and dictionaries that are read concurrently.
        most_sums: Once a plan has this many sums, no commit is added to it.
    """

    shard: int
    items: ItemStore
    staged: StagedUsage
    numbers: KindNumbers
    clock: Clock
    entropy: Entropy
    retrier: Retrier
    metrics: Metrics
    commits: int
    threads: int = 1
    most_sums: int = MOST_SUMS

    def plan(self, contradictions: Contradictions) -> RollupPlan | None:
        """The plan of the next run, or None if nothing waits. Call this after reading the newest run (P19).

        Every number that the plan uses is durable when this returns (P45).

        Args:
            contradictions: Receives the entries that cannot be read. Such entries are skipped, and keep waiting.

        Raises:
            NotWaitingError: A staging object and its waiting entry are gone.
            LedgerCorruptError: A staging object is missing or damaged although its commit waits.
        """
        listed = self.retrier.call(lambda: self._oldest(contradictions))
        if not listed:
            return None
        taken: list[Waiting] = []
        sums: dict[UsageKey, Total] = {}
        for waiting, usage in zip(listed, side_by_side(self._usage, listed, threads=self.threads), strict=False):
            add_totals(sums, usage)
            taken.append(waiting)
            if len(sums) >= self.most_sums:
                break
        return RollupPlan(
            shard=self.shard, commits=tuple(map(_planned, taken)), hours=tuple(self._hours(by_place(sums)))
        )

    def _oldest(self, contradictions: Contradictions) -> list[Waiting]:
        """The oldest of those waiting commits that are read.

        If the list is long, only a part is read, starting at a random position. Ids are random, so each part is a
        random sample, and no commit is skipped forever.
        """
        most = _READ_PER_COMMIT * self.commits
        begin = self.entropy.token()
        parts = (waiting_in(self.items, self.shard, sk_from=begin), waiting_in(self.items, self.shard, sk_to=begin))
        items = nsmallest(self.commits, islice(chain(*parts), most), key=_age)
        found: list[Waiting] = []
        for item in items:
            with contradictions.noted():
                found.append(Waiting.from_item(item))
        return found

    def _usage(self, waiting: Waiting) -> dict[UsageKey, Total]:
        try:
            usage = self.retrier.call(lambda: self.staged.usage(waiting.staging_key))
        except ObjectMissingError:
            if self.retrier.call(lambda: self.items.get(Table.LEDGER, waiting.key)) is None:
                raise NotWaitingError from None
            raise LedgerCorruptError(
                f"commit {waiting.commit_id} waits, and its staging object {waiting.staging_key} is gone"
            ) from None
        except ObjectDamagedError as error:
            raise LedgerCorruptError(f"commit {waiting.commit_id} waits: {error}") from error
        # This is a safety check: the writer of the entry must have counted the same rows.
        if by_hour(usage) != dict(waiting.totals):
            raise LedgerCorruptError(
                f"commit {waiting.commit_id} waits, and {waiting.staging_key} does not hold the rows of its entry"
            )
        return usage

    def _hours(self, places: Mapping[_Place, Mapping[UsageKind, Total]]) -> Iterator[PlannedHour]:
        kinds: dict[str, set[UsageKind]] = {}
        for (account_id, _, _), found in places.items():
            kinds.setdefault(account_id, set()).update(found)
        unnumbered: dict[str, frozenset[UsageKind]] = dict.fromkeys(kinds, frozenset())
        # Usually, every kind already has its number, and a thread would take longer than the look-up.
        asked = [account_id for account_id, found in kinds.items() if not self.numbers.remembers(account_id, found)]
        answers = side_by_side(lambda account: self._unnumbered(account, kinds[account]), asked, threads=self.threads)
        unnumbered.update(zip(asked, answers, strict=True))
        self._note({account_id: kinds for account_id, kinds in unnumbered.items() if kinds})
        for (account_id, hour_s, corrects_s), found in places.items():
            without = unnumbered[account_id]
            yield PlannedHour(
                account_id=account_id,
                hour_s=hour_s,
                corrects_s=corrects_s,
                numbered={kind: total for kind, total in found.items() if kind not in without},
                named={kind: total for kind, total in found.items() if kind in without},
            )

    def _note(self, beyond: Mapping[str, frozenset[UsageKind]]) -> None:
        """Count and note kinds beyond the cap. Nothing relies on the note, so the run continues if the write fails."""
        if beyond:
            self.metrics.count(metric_names.KINDS_BEYOND_CAP, sum(map(len, beyond.values())))
        for account_id, kinds in beyond.items():
            note = KindsBeyondCap(
                account_id=account_id,
                kinds=len(kinds),
                example="#".join(min(kinds)),
                seen_s=self.clock.now_ms() // 1000,
            )
            with suppress(UnavailableError):
                self.items.put(Put(table=Table.LEDGER, item=note.to_item()))

    def _unnumbered(self, account_id: str, kinds: Iterable[UsageKind]) -> frozenset[UsageKind]:
        """Kinds beyond the account's cap, after all other kinds have durable numbers."""
        numbers = self.numbers.claim(account_id, frozenset(kinds))
        return frozenset(kind for kind, number in numbers.items() if number is None)


def _age(item: Item) -> tuple[int, str]:
    """Order in which commits are planned. A commit with an unreadable time is first, so that its error is noticed."""
    created_at_ms = item.get("created_at_ms")
    return (created_at_ms if isinstance(created_at_ms, int) else 0, waiting_commit_of(item))


def _planned(waiting: Waiting) -> PlannedCommit:
    return PlannedCommit(
        commit_id=waiting.commit_id,
        staging_key=waiting.staging_key,
        totals=waiting.totals,
        created_at_ms=waiting.created_at_ms,
        sent_at_ms=waiting.sent_at_ms,
    )


def by_place(sums: Mapping[UsageKey, Total]) -> dict[_Place, dict[UsageKind, Total]]:
    """Totals by account, hour and corrected hour, and by kind."""
    places: dict[_Place, dict[UsageKind, Total]] = {}
    for key, total in sums.items():
        places.setdefault((key.account_id, key.hour_s, key.corrects_s), {})[key.kind] = total
    return places
