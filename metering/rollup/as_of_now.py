"""Usage of accounts as of now: the usage table, plus the additions of running runs, plus waiting commits (P28)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from metering.errors import (
    EarlyEndError,
    LedgerCorruptError,
    ObjectDamagedError,
    ObjectMissingError,
    OperationFailedError,
    UnavailableError,
)
from metering.hours import month_of
from metering.ledger.commits import Waiting, known_shards, waiting_in
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.ledger.runs import Run, newest_run, rollup_chain
from metering.ledger.usage.items import newest_run_of, usage_item_key
from metering.ledger.usage.kinds import all_accounts, partition_of_kinds
from metering.ledger.usage.reading import Fold, Grain, UsageReading
from metering.ledger.usage.region import known_numbers, region_start, region_sums
from metering.rollup.plan import PlannedHour, RollupPlan
from metering.rollup.region import region_hours
from metering.stores.clock import side_by_side
from metering.stores.codec import Fields
from metering.stores.writes import Item, Key, key_of
from metering.units import HOUR_S
from metering.usage.totals import REGION, Total, UsageKey, UsageKind, add_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from metering.lake.ports import StagedUsage
    from metering.stores.objects import ObjectStore

# A report that is not as of now looks at no more waiting commits than this: more would take longer than the report.
_FEW_COMMITS = 8
_FEW_ROWS = 200_000
_FEW_LOOKS = 3


class RegionIncompleteError(EarlyEndError):
    """The region's totals lack usage of the requested hours: the accounts' usage has to be read."""


class TooMuchWaitsError(OperationFailedError):
    """More commits wait for the roll-up than one answer may read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Usage of accounts, with waiting usage kept separate.

    Attributes:
        booked: Totals in the usage table; None if a plain read of the table suffices.
        waiting: Totals that are not in the usage table yet; None if they were not read.
        since_ms: Smallest SentTimestamp of any account's commits that wait in these hours; None without such commits.
    """

    booked: Iterator[tuple[UsageKey, Total]] | None = None
    waiting: Sequence[tuple[UsageKey, Total]] | None = None
    since_ms: int | None = None


class _Look(NamedTuple):
    """One read of usage: the items' totals, the additions that items lack, and the commits that wait in these hours."""

    fold: Fold
    more: list[tuple[UsageKey, Total]]
    waiting: list[Waiting]


class _Asked(NamedTuple):
    """The requested usage: booked in these months, in hours of `[from_s, to_s)`.

    Attributes:
        accounts: Ids of the accounts; None for every account but the canary.
    """

    accounts: frozenset[str] | None
    months: frozenset[str]
    from_s: int
    to_s: int

    @classmethod
    def of(cls, accounts: Collection[str] | None, months: Iterable[str], from_s: int, to_s: int) -> _Asked:
        """The whole hours that overlap a range."""
        named = None if accounts is None else frozenset(accounts)
        return cls(named, frozenset(months), from_s - from_s % HOUR_S, -(-to_s // HOUR_S) * HOUR_S)

    @property
    def of_region(self) -> bool:
        """Whether the sums over all accounts are asked for."""
        return self.accounts is not None and REGION in self.accounts

    def takes(self, account_id: str, hour_s: int) -> bool:
        return self._takes_account(account_id) and self.takes_hour(hour_s)

    def _takes_account(self, account_id: str) -> bool:
        return account_id != CANARY_ACCOUNT_ID if self.accounts is None else account_id in self.accounts

    def usage_of(self, entries: Iterable[tuple[UsageKey, Total]]) -> Iterator[tuple[UsageKey, Total]]:
        """Usage of these accounts and hours, summed over all accounts if the region is asked for."""
        asked = ((key, total) for key, total in entries if self.takes_hour(key.hour_s))
        if self.of_region:
            return iter(region_sums(asked).items())
        return ((key, total) for key, total in asked if self._takes_account(key.account_id))

    def takes_hour(self, hour_s: int) -> bool:
        return self.from_s <= hour_s < self.to_s and month_of(hour_s) in self.months


@dataclass(slots=True)
class _Planned:
    """Additions of planned runs to usage items, for the requested accounts and hours. Mutable.

    Attributes:
        adds: Key of a usage item -> shard and number of a run, and the run's addition to the item.
    """

    commits: set[str] = field(default_factory=set)
    adds: dict[Key, list[tuple[int, int, dict[UsageKey, Total]]]] = field(default_factory=dict)
    found: dict[Key, Item] = field(default_factory=dict)

    def add(self, run: Run, key: UsageKey, number: int | None, total: Total) -> None:
        runs = self.adds.setdefault(usage_item_key(key, number), [])
        if not runs or runs[-1][:2] != (run.shard, run.number):
            runs.append((run.shard, run.number, {}))
        runs[-1][2][key] = total

    def note(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield usage items unchanged, and store the items to which a run adds."""
        for item in items:
            key = key_of(item)
            if key in self.adds:
                self.found[key] = item
            yield item

    def not_added(self) -> Iterator[tuple[UsageKey, Total]]:
        """Additions that were not in their items when the items were read."""
        for key, runs in self.adds.items():
            item = self.found.get(key, {})
            for shard, number, totals in runs:
                if Fields.of_item(item).whole(newest_run_of(shard), absent=-1) < number:
                    yield from totals.items()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageNow:
    """Reads usage of accounts as of now: an answer has every commit before the call, and no commit after the call.

    Attributes:
        threads: Number of staging objects that are read concurrently.
        attempts: Maximum reads in one call. Another read means that a chain advanced during the previous read.
        most: Maximum number of staging objects that one call reads; None for no limit.
    """

    reading: UsageReading
    objects: ObjectStore
    staged: StagedUsage
    shards: int
    threads: int = 1
    attempts: int = 50
    most: int | None = None

    def usage(
        self, accounts: Collection[str] | None, months: Sequence[str], *, from_s: int = 0, to_s: int = 1 << 62
    ) -> dict[UsageKey, Total]:
        """Totals of some accounts in some months, by usage key; see `entries`."""
        totals: dict[UsageKey, Total] = {}
        for key, total in self.entries(accounts, months, from_s=from_s, to_s=to_s):
            add_totals(totals, {key: total})
        return totals

    def entries(
        self,
        accounts: Collection[str] | None,
        months: Sequence[str],
        *,
        from_s: int = 0,
        to_s: int = 1 << 62,
        grain: Grain = Grain.HOUR,
        counts: Callable[[int, int | None], bool] = lambda _hour_s, _corrects_s: True,
    ) -> Iterator[tuple[UsageKey, Total]]:
        """Totals of some accounts in some months, unsummed. Everything is read before the first total is yielded.

        Args:
            accounts: Ids of the accounts. None for every account but the canary: the directory is read after the newest
                runs, so it has the accounts of their plans (P52).
            months: Months such as `2026-11`; of each month, the hours that overlap `[from_s, to_s)`.
            from_s: A time in the first booked hour.
            to_s: End of the last hour, or a time within that hour.
            grain: Length of the hour groups that are summed as one, as in `Fold`.
            counts: Returns whether to include usage, given its booked hour and the hour that it corrects.

        Raises:
            LedgerCorruptError: A staging object, a plan or a number is missing, although the ledger refers to it.
            RegionIncompleteError: The region's totals, or the directory, lack usage of these hours.
            TooMuchWaitsError: More than `most` commits wait.
            UnavailableError: A store did not respond, or a chain advanced during every attempt.
        """
        look = self._settled(_Asked.of(accounts, months, from_s, to_s), grain, counts)
        if look is None:
            raise UnavailableError(
                "UsageNow.usage", "the roll-up was at work during every look", may_have_applied=False
            )
        return self._named(look.fold, look.more)

    def apart(
        self,
        accounts: Collection[str] | None,
        months: Sequence[str],
        *,
        from_s: int,
        to_s: int,
        grain: Grain,
        counts: Callable[[int, int | None], bool],
    ) -> Apart:
        """Totals in the usage table, and waiting usage, for the arguments of `entries`, with few reads.

        If no commit waits, the only reads are one query for each shard, and the number of shards. If too many commits
        wait to be read, only the time since which usage waits is known.

        Raises:
            LedgerCorruptError: As `entries` raises it.
            RegionIncompleteError: As `entries` raises it.
        """
        asked = _Asked.of(accounts, months, from_s, to_s)
        waiting = self._listed(asked, known_shards(self.reading.items, self.shards))
        since_ms = _since_ms(waiting)
        rows = sum(total.records for entry in waiting for total in entry.totals.values())
        if not waiting or len(waiting) > _FEW_COMMITS or rows > _FEW_ROWS:
            return Apart(since_ms=since_ms)
        few = replace(self, most=_FEW_COMMITS, attempts=_FEW_LOOKS)
        try:
            look = few._settled(asked, grain, counts)
        except TooMuchWaitsError:
            look = None
        if look is None:
            return Apart(since_ms=since_ms)
        return Apart(booked=self._named(look.fold, ()), waiting=look.more, since_ms=_since_ms(look.waiting))

    def _settled(self, asked: _Asked, grain: Grain, counts: Callable[[int, int | None], bool]) -> _Look | None:
        """A read during which no chain advanced; None if a chain advanced during every attempt."""
        for _ in range(self.attempts):
            runs = self._newest()
            # The directory is as complete as the region's totals: a release that knows neither lists no account.
            if (asked.accounts is None or asked.of_region) and not self._has_region(runs, asked.from_s):
                raise RegionIncompleteError
            look = _Look(Fold(grain, counts), [], [])
            gone = ""
            try:
                look = self._look(asked, runs, look.fold)
            except ObjectMissingError as error:
                gone = error.key
            if _states(self._newest()) != _states(runs):
                continue
            if gone:
                # The chain that needs the object has not advanced in the meantime.
                raise LedgerCorruptError(f"{gone} is gone, and usage as of now needs it")
            more = [entry for entry in look.more if counts(entry[0].hour_s, entry[0].corrects_s)]
            return look._replace(more=more)
        return None

    def _look(self, asked: _Asked, runs: Mapping[int, Run | None], fold: Fold) -> _Look:
        """Add the items' totals, in the order of P28, and find additions that the items do not contain yet."""
        waiting = self._listed(asked, runs)
        planned = self._planned(asked, runs)

        def stored(place: tuple[str, str]) -> list[Item]:
            return list(self.reading.stored(*place, from_s=asked.from_s, to_s=asked.to_s))

        accounts = all_accounts(self.reading.items) if asked.accounts is None else sorted(asked.accounts)
        places = product(accounts, sorted(asked.months))
        for items in side_by_side(stored, places, threads=self.threads):
            fold.add(planned.note(items))
        return _Look(fold, [*planned.not_added(), *self._waiting(asked, waiting, planned)], waiting)

    def _listed(self, asked: _Asked, shards: Iterable[int]) -> list[Waiting]:
        """Waiting commits that have rows in the requested hours."""
        listed = (Waiting.from_item(item) for shard in shards for item in waiting_in(self.reading.items, shard))
        return [entry for entry in listed if any(map(asked.takes_hour, entry.totals))]

    def _newest(self) -> dict[int, Run | None]:
        shards = known_shards(self.reading.items, self.shards)
        return {shard: newest_run(self.reading.items, rollup_chain(shard)) for shard in shards}

    def _planned(self, asked: _Asked, runs: Mapping[int, Run | None]) -> _Planned:
        found = _Planned()
        for run in runs.values():
            if run is None or run.state != "planned":
                continue
            plan = RollupPlan.from_json(self.objects.get(run.plan_key), run.plan_key)
            found.commits.update(commit.commit_id for commit in plan.commits)
            for hour in self._hours(asked, plan):
                if asked.takes(hour.account_id, hour.hour_s):
                    numbers = self._numbers(hour)
                    for key, total in hour.totals():
                        found.add(run, key, numbers.get(key.kind), total)
        return found

    def _hours(self, asked: _Asked, plan: RollupPlan) -> Iterable[PlannedHour]:
        if not asked.of_region:
            return plan.hours
        if not plan.region:
            raise RegionIncompleteError
        return region_hours(plan, known_numbers(self.reading.names, plan.kinds))

    def _has_region(self, runs: Mapping[int, Run | None], from_s: int) -> bool:
        """Whether the region's totals of hours from `from_s` on have all done runs of those just read (P51)."""
        start = region_start(self.reading.items)
        if start is None or from_s < start.since_s:
            return False
        return not any(start.lacks(shard, run) for shard, run in runs.items())

    def _numbers(self, hour: PlannedHour) -> dict[UsageKind, int]:
        """Numbers of the kinds that the plan books by number. All were durable before the plan was put (P45)."""
        names = self.reading.names
        known = {kind: number for number, kind in names.of(hour.account_id).items()}
        if not known.keys() >= hour.numbered.keys():
            known = {kind: number for number, kind in names.read_whole(hour.account_id).items()}
        lost = [kind for kind in hour.numbered if kind not in known]
        if lost:
            partition = partition_of_kinds(hour.account_id)
            raise LedgerCorruptError(f"{partition} has no number of {'#'.join(lost[0])}, and a plan relies on it")
        return {kind: known[kind] for kind in hour.numbered}

    def _waiting(
        self, asked: _Asked, waiting: Sequence[Waiting], planned: _Planned
    ) -> Iterator[tuple[UsageKey, Total]]:
        """Usage of waiting commits that are in no plan."""
        keys = [each.staging_key for each in waiting if each.commit_id not in planned.commits]
        if self.most is not None and len(keys) > self.most:
            raise TooMuchWaitsError(
                f"{len(keys):,} commits wait for the roll-up, and one answer as of now reads at most {self.most:,}.",
                "The roll-up is behind. Without `now`, an answer says up to when its usage is complete.",
            )
        for usage in side_by_side(self._staged, keys, threads=self.threads):
            yield from asked.usage_of(usage.items())

    def _staged(self, key: str) -> dict[UsageKey, Total]:
        try:
            return self.staged.usage(key)
        except ObjectDamagedError as error:
            raise LedgerCorruptError(f"a commit waits: {error}") from error

    def _named(self, fold: Fold, more: Iterable[tuple[UsageKey, Total]]) -> Iterator[tuple[UsageKey, Total]]:
        for item in fold.items():
            yield from self.reading.totals(item)
        yield from more


def _states(runs: Mapping[int, Run | None]) -> dict[int, tuple[int, str]]:
    return {shard: (0, "") if run is None else (run.number, run.state) for shard, run in runs.items()}


def _since_ms(waiting: Iterable[Waiting]) -> int | None:
    return min((entry.sent_at_ms for entry in waiting), default=None)
