"""One history per seed: simulated weeks of a region with every kind of fault, followed by checks."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

from metering.billing.freezing import NotClosable, PeriodNotClosableError
from metering.errors import LedgerCorruptError
from metering.hours import month_bounds_s, month_of
from metering.ledger.usage.items import BUCKET_KINDS
from metering.ledger.usage.region import complete_since_s, region_sums
from metering.rollup.as_of_now import RegionIncompleteError
from metering.stores.writes import ActionLimits, Key, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import REGION, ZERO, Service, Total, UsageKey, UsageKind, UsageType, add_totals, sum_totals
from tests.simulation.checks.checker import CompletenessCheck, Findings, MarkerLoss, check, check_trace, lake_rows
from tests.simulation.checks.restored import late_files
from tests.simulation.checks.watch import ViolationError
from tests.simulation.region import jobs
from tests.simulation.region.faults import HOUR_MS, MINUTE_MS, RandomFaults
from tests.simulation.region.invoices import Billing
from tests.simulation.region.world import LANDS_MS, World
from tests.simulation.restores import Restores
from tests.simulation.scenario import put_kinds
from tests.simulation.sent.senders import Senders
from tests.simulation.sent.traffic import ACCOUNTS, DAY_MS, Sending, Traffic
from tests.support.earlier import earlier
from tests.support.memory.rows import PlainRow, decode_rows, plain_usage
from tests.support.usage_items import region_of, tear, usage_of, write_by_hand

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Collection, Iterator, Mapping

    from metering.lake.ports import Group
    from metering.ledger.booked_hours import HourState
    from metering.settings import Settings
    from tests.simulation.region.ports import Process

_NOON_MS = 1_795_521_600_000  # 2026-11-24T12:00Z
_EPOCH_MS = 30 * MINUTE_MS
_GAPS_MS = (HOUR_MS, 6 * HOUR_MS, DAY_MS, 3 * DAY_MS, 10 * DAY_MS, 20 * DAY_MS, 52 * DAY_MS)
_INGEST_LIFE_S = 50 * DAY_S


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Outcome of a history.

    Attributes:
        violation: Violations; empty if there are none.
        faults: Number and name of each fault that happened, in order.
    """

    seed: int
    violation: str
    faults: list[tuple[int, str]]
    batches: int
    commits: int
    findings: Findings = field(default_factory=Findings)
    histogram: Counter[str]


def run_history(
    seed: int,
    *,
    dropped_faults: Collection[int] = (),
    dropped_batches: Collection[int] = (),
    restores: bool = False,
) -> Outcome:
    """Run a seed's history; a search for a shorter history drops some faults and batches from it.

    Args:
        seed: Decides all of it.
        dropped_faults: Numbers of the faults to omit.
        dropped_batches: Numbers of the batches to omit.
        restores: Whether the ledger is restored in any case, instead of in a fifth of all histories.
    """
    history = History(seed, dropped_faults=dropped_faults, dropped_batches=dropped_batches, restores=restores)
    violation = ""
    findings = Findings()
    try:
        findings = history.run()
    except ViolationError as error:
        violation = str(error)
    except Exception as error:  # noqa: BLE001 - whatever production code raises here is a finding, and must be shown
        violation = f"{type(error).__name__}: {error}"
    outcome = Outcome(
        seed=seed,
        violation=violation or (str(findings) if findings else ""),
        faults=history.faults.happened,
        batches=len(history.world.contents),
        commits=len({commit for _, commit, _ in history.world.watch.accepted.values()}),
        findings=findings,
        histogram=history.faults.histogram,
    )
    history.world.end()
    return outcome


class History:
    """A region and its random events."""

    def __init__(
        self, seed: int, *, dropped_faults: Collection[int], dropped_batches: Collection[int], restores: bool = False
    ) -> None:
        self.chance = chance = random.Random(f"history {seed}")
        self.faults = RandomFaults(seed, rate=chance.choice((0.01, 0.03, 0.06, 0.12)), dropped=dropped_faults)
        now_ms = _NOON_MS + chance.randrange(0, 11 * 24) * HOUR_MS + chance.randrange(0, HOUR_MS)
        # The senders have their own random stream, as below.
        self.senders = Senders(seed)
        self.world = World(seed, self.faults, now_ms=now_ms, senders=self.senders)
        self.completeness = CompletenessCheck(self.world)
        self.world.limits = ActionLimits(transaction=chance.choice((10, 16, 30, 100)))
        self.shards = chance.choice((1, 2, 3))
        self.epochs = chance.choice((1, 1, 1, 2, 3))
        self.commit_records = chance.choice((3, 20))
        self.rollup_commits, self.rollup_blocks = chance.choice((2, 5, 100)), chance.choice((0, 1))
        # Accounts with existing kind numbers, so that their kinds are in two buckets; and how many more they may get.
        self.kinds = chance.choice((0, 0, BUCKET_KINDS - 1))
        self.more_kinds = chance.choice((1, 2, 50))
        for account_id in ACCOUNTS if self.kinds else ():
            put_kinds(self.world, account_id, self.kinds)
        self.settings = self._settings()
        self.policy = jobs.policy(chance.choice((3, 10)), chance.choice((5, 30)), chance.choice((0, 60, 600)))
        self.clean_wait_s = chance.choice((0, 60, DAY_S))
        self.orphan_age_s = chance.choice((0, HOUR_S))
        self.traffic = Traffic(
            random.Random(f"traffic {seed}"),
            now_ms // 1000,
            batches=20 + chance.randrange(3),
            epochs=self.epochs,
            histogram=self.faults.histogram,
            retries=random.Random(f"retries {seed}"),
            dropped=dropped_batches,
        )
        self.faults.histogram["sent by a foreign sender"] += self.senders.take_over(self.traffic)
        self.world.contents = self.traffic.contents
        self.workers: list[jobs.Worker] = []
        # Lost usage of a month must be rebuilt before the month is closed, so a history has either losses or a close.
        self.breaks = chance.random() < 0.12
        self.broken = False
        self.lost: set[UsageKey] = set()
        self.billing = Billing(self.world, seed)
        self.marker_loss = MarkerLoss(self.world, seed, self.settings, shards=self.shards)
        # A separate random stream, because a change to a stage's shards must not change the rest of a seed's history.
        self.deployments = random.Random(f"deployments {seed}")
        self.changes_shards = self.deployments.random() < 0.3
        self.shortages = random.Random(f"shortages {seed}")
        self.falls_short = self.shortages.random() < 0.15
        # A separate random stream for manual writes.
        self.hands = random.Random(f"hands {seed}")
        # A separate random stream for the clock drift of some roll-up processes.
        self.clocks = random.Random(f"clocks {seed}")
        # A separate random stream for roll-ups of an earlier release, and the number of the region's kinds.
        self.releases = random.Random(f"releases {seed}")
        self.mixes = self.releases.random() < 0.25
        self.world.region_kinds = self.releases.choice((2, 5, 512))
        self.restores = Restores(
            self.world,
            seed,
            epochs=self.epochs,
            settings=lambda: (self.settings, self.shards),
            opened=self._begin_again,
            broken=lambda: self.broken,
            always=restores,
        )
        self._jobs = 0

    def _settings(self) -> Settings:
        return jobs.settings(
            self.shards,
            self.commit_records,
            rollup_commits=self.rollup_commits,
            rollup_blocks=self.rollup_blocks,
            kinds=self.kinds + self.more_kinds,
        )

    def run(self) -> Findings:
        for content in self.world.contents.values():
            if content.location:
                self.world.objects.put(content.location, b"", if_absent=False)
        self._start_workers()
        for epoch in range(self.epochs):
            if epoch:
                self._pass_time(self.chance.choice(_GAPS_MS))
            self._live(epoch)
        return self._rest()

    def _start_workers(self) -> None:
        for number in range(3):
            self._start_worker(number)

    def _begin_again(self) -> None:
        """Start everything on a restored ledger."""
        self.workers = []
        self._start_workers()
        self._spawn_jobs()
        self._close_months(self.world.scheduler.now_ms)
        self.billing.live(self.world.scheduler.now_ms)

    def _start_worker(self, number: int) -> None:
        skew_ms = self.chance.randrange(-2 * MINUTE_MS, 2 * MINUTE_MS)
        self.faults.histogram["wrong clock"] += 1
        worker = jobs.Worker(
            self.world.process(f"worker {number}", skew_ms=skew_ms),
            self.settings,
            messages=self.chance.choice((2, 5, 10)),
            immortal=self.chance.random() < 0.3,
        )
        self.workers.append(worker)
        self.world.scheduler.spawn(worker.body)

    def _live(self, epoch: int) -> None:
        """Run half an hour of traffic and jobs."""
        world, start_ms = self.world, self.world.scheduler.now_ms
        for sending in self.traffic.sendings:
            if sending.epoch == epoch:
                world.scheduler.at(start_ms + sending.after_ms, partial(self._send, sending))
        self._spawn_jobs()
        if self.breaks and self.chance.random() < 0.5:
            # Two repairs run at the same time, while workers continue.
            world.scheduler.at(start_ms + self.chance.randrange(_EPOCH_MS), self._break_usage)
            self._spawn("repair", self._repair)
            self._spawn("repair", self._repair)
        self._close_months(start_ms)
        self._deploy(start_ms)
        if self.falls_short:
            world.scheduler.at(start_ms + self.shortages.randrange(_EPOCH_MS), self._fall_short)
        self.billing.live(start_ms)
        self.completeness.during(start_ms, _EPOCH_MS)
        self.restores.live(epoch, start_ms)
        world.scheduler.run_until(start_ms + _EPOCH_MS)
        self.restores.finish()

    def _spawn_jobs(self) -> None:
        for _ in range(self.chance.choice((2, 4, 8))):
            self._spawn("rollup", self._roll_up)
        for _ in range(self.chance.choice((1, 2))):
            self._spawn("compactor", self._compact)
        self._spawn("cleaner", self._clean)
        if self.chance.random() < 0.5:
            self._spawn("orphans", self._orphans)
        self._spawn("reader", self._read)
        for _ in range(2):
            self._spawn("reader of now", self._read_now)
        if self.chance.random() < 0.25:
            self._spawn("reconciler", self._reconcile)
        if self.chance.random() < 0.4:
            self._spawn("run checker", self._check_runs)

    def _deploy(self, start_ms: int) -> None:
        for _ in range(2 if self.changes_shards else 0):
            self.world.scheduler.at(start_ms + self.deployments.randrange(_EPOCH_MS), self._change_shards)

    def _fall_short(self) -> None:
        """Let tables throttle writes for 1 to 15 minutes."""
        self.world.short_until_ms = self.world.scheduler.now_ms + self.shortages.randrange(MINUTE_MS, 15 * MINUTE_MS)

    def _change_shards(self) -> None:
        """Deploy a different number of shards. Workers switch one by one; jobs use it from their next start."""
        self.shards = self.deployments.choice([shards for shards in (1, 2, 3) if shards != self.shards])
        self.settings = self._settings()
        for worker in self.workers:
            delay_ms = self.deployments.randrange(2 * MINUTE_MS)
            self.world.scheduler.at(self.world.scheduler.now_ms + delay_ms, partial(worker.redeploy, self.settings))
        self.faults.histogram["number of shards changed"] += 1

    def _send(self, sending: Sending) -> None:
        content = self.world.contents[sending.content]
        self.world.queue.send(sending.content, sending.sender_id, self.senders.stated(sending, content))

    def _spawn(self, name: str, run: Callable[[Process], object]) -> None:
        self._jobs += 1
        process = self.world.process(f"{name} {self._jobs}", skew_ms=self.chance.randrange(-60_000, 60_000))
        self.world.scheduler.spawn(jobs.job(process, lambda: run(process)), delay_ms=self.chance.randrange(_EPOCH_MS))

    def _roll_up(self, process: Process) -> None:
        if self.clocks.random() < 0.1:
            # An operator's machine. Processes do not wait for their own clocks.
            process.skew_ms = self.clocks.randrange(-DAY_MS, 10 * DAY_MS)
            self.faults.histogram["rolled up by a clock that is days wrong"] += 1
        rollup = jobs.rollup(process, self.settings)
        if self.mixes and self.releases.random() < 0.4:
            rollup = earlier(rollup)
            self.faults.histogram["rolled up by the release before"] += 1
        with self._corrupt_by_hand():
            rollup.run(jobs.deadline(process, 2 * MINUTE_MS))

    @contextmanager
    def _corrupt_by_hand(self) -> Iterator[None]:
        """Allow a job to stop with an error because of manual writes, but only if manual writes were made."""
        try:
            yield
        except LedgerCorruptError:
            if not self.broken:
                raise

    def _roll_up_all(self, process: Process) -> None:
        if not jobs.rollup(process, self.settings).run(jobs.deadline(process, DAY_MS)).finished:
            raise ViolationError("the roll-up at rest left what waits")

    def _compact(self, process: Process) -> None:
        jobs.compactor(process, self.policy, shards=self.shards).run(jobs.deadline(process, 14 * MINUTE_MS))

    def _compact_all(self, process: Process) -> None:
        jobs.compactor(process, jobs.policy(1000, 1000, 0), shards=self.shards).run(jobs.deadline(process, DAY_MS))

    def _clean(self, process: Process) -> None:
        deadline = jobs.deadline(process, 5 * MINUTE_MS)
        jobs.cleaner(process, shards=self.shards, wait_s=self.clean_wait_s).run(deadline)
        jobs.rollup_cleaner(process, shards=self.shards, wait_s=self.clean_wait_s).run(deadline)

    def _orphans(self, process: Process) -> None:
        jobs.orphan_cleaner(process, age_s=self.orphan_age_s).run(jobs.deadline(process, 5 * MINUTE_MS))

    def _close_months(self, now_ms: int) -> None:
        for month in ("2026-10", "2026-11", "2026-12"):
            ended_ms = month_bounds_s(month)[1] * 1000
            if now_ms > ended_ms + 3 * DAY_MS + HOUR_MS and self.chance.random() < 0.5 and not self.breaks:
                self._spawn("closer", partial(self._close, month))

    def _close(self, month: str, process: Process) -> None:
        closer = jobs.period_closer(process, self.policy, self.settings, shards=self.shards)
        try:
            closer.close(month, jobs.deadline(process, 14 * MINUTE_MS))
        except PeriodNotClosableError as error:
            if error.cause is NotClosable.TOTALS_DIFFER and not self.broken:
                raise ViolationError(f"I2: {error}") from error
            return
        self.faults.histogram["months closed"] += 1

    def _reconcile(self, process: Process) -> None:
        now_s = self.world.scheduler.now_ms // 1000
        broken = self.broken
        result = jobs.reconciler(process, shards=self.shards).check(from_s=0, to_s=now_s + DAY_S, deep=True)
        if result.different and not broken and not self.broken:
            raise ViolationError(f"I2: the reconciler found {result.different[0]}")
        self.faults.histogram["reconciled while workers went on"] += 1

    def _check_runs(self, process: Process) -> None:
        broken = self.broken
        result = jobs.run_checker(process, shards=self.shards).run(jobs.deadline(process, 14 * MINUTE_MS))
        if result.different and not broken and not self.broken:
            raise ViolationError(f"I2: the quick pass found {result.different[0]}")
        self.faults.histogram["new files reconciled while workers went on"] += result.files

    def _break_usage(self) -> None:
        """Delete or damage usage items, only of open months, because closed months are not repaired."""
        if not self.world.watch.follows:
            # Between fence and opening, the ledger does not have its kinds of usage yet.
            return
        lost = [
            Key(str(item["pk"]), str(item["sk"]))
            for item in self.world.items.everything(Table.USAGE)
            if str(item["pk"]).startswith(("A#", "G#"))
            and str(item["pk"])[-7:] not in self.world.watch.closing
            and self.chance.random() < 0.7
        ]
        entries = (*usage_of(self.world.items), *region_of(self.world.items))
        self.lost |= {entry.key for entry in entries if entry.item_key in lost}
        for key in lost:
            if self.hands.random() < 0.5:
                self._write_by_hand(key)
            else:
                self.world.items.remove(Table.USAGE, key)
        self.broken = self.broken or bool(lost)
        self.faults.histogram["usage items lost, to be rebuilt"] += len(lost)

    def _write_by_hand(self, key: Key) -> None:
        """Simulate a manual write into a usage item: set or remove attributes."""
        items = self.world.items
        item = items.peek(Table.USAGE, key) or {}
        figures = [name for name in item if name.startswith(("b", "r"))]
        way = self.hands.choice(
            ("an attribute", "a list", "text", "a figure gone", "the revision gone", "numbers gone")
        )
        if way == "an attribute":
            write_by_hand(items, key, {"bytes": 777})
        elif way == "a list":
            write_by_hand(items, key, {"note": ["mine"], "b999": 5})
        elif way == "text":
            write_by_hand(items, key, {self.hands.choice([*figures, "v"]): "mine"})
        elif way == "a figure gone":
            tear(items, key, self.hands.choice([*figures, "v"]))
        else:
            numbers = [name for name in item if name.startswith("n")] if way == "numbers gone" else []
            tear(items, key, "v", *numbers)
        self.faults.histogram["usage items written by hand, to be mended"] += 1

    def _mend(self, process: Process) -> None:
        """Rebuild usage; a later call repairs items that a stopped run may still update."""
        jobs.rebuilder(process, self.settings, shards=self.shards).usage()

    def _repair(self, process: Process) -> None:
        # Hours of which the region's totals lack something are filled.
        lost, since_s = set(self.lost), complete_since_s(self.world.items, self.shards)
        result = jobs.rebuilder(process, self.settings, shards=self.shards).usage()
        # If nothing was lost, there is nothing to correct, even while everything runs; and corrections are permanent.
        wrong = {repair.key for repair in result.repairs} - lost - self.lost
        if not self.mixes:
            wrong = {key for key in wrong if key.account_id != REGION or key.hour_s >= since_s}
        else:
            # Meanwhile, a roll-up of an earlier release may have left out more.
            wrong = {key for key in wrong if key.account_id != REGION}
        if wrong:
            raise ViolationError(f"P38: a repair found {wrong}, and nothing of it was lost")
        self.faults.histogram["repaired while workers went on"] += result.repaired

    def _repair_all(self, process: Process) -> None:
        unsettled = jobs.rebuilder(process, self.settings, shards=self.shards).usage().unstable
        if unsettled:
            raise ViolationError(f"the repair at rest left hours {unsettled}")

    def _read_now(self, process: Process) -> None:
        """Read an account as of now; check that the result has all earlier commits and no later commits."""
        if self.broken:
            return
        account_id = self.chance.choice(ACCOUNTS)
        # A separate random stream, so that the rest of a history stays as it was.
        if self.releases.random() < 0.3:
            account_id = REGION
        # Until a transaction has landed as a whole, a query may miss its items (P2).
        landed_ms = self.world.scheduler.now_ms - LANDS_MS
        begun = sum(at_ms <= landed_ms for at_ms, _ in self.world.watch.booked)
        months = sorted({month_of(row.booked_s) for _, rows in self.world.watch.booked for row in rows})
        totals: dict[UsageKey, Total] = {}
        try:
            with self._corrupt_by_hand():
                totals = jobs.usage_now(process, shards=self.shards).usage([account_id], months)
        except RegionIncompleteError:
            self.faults.histogram["the region's totals were not complete"] += 1
            return
        if self.broken:
            return
        if account_id == REGION:
            self.faults.histogram["the region's totals read as of now"] += 1
            totals = _by_hour(totals)
            commits = [_by_hour(region_sums(plain_usage(rows).items())) for _, rows in self.world.watch.booked]
        else:
            self.faults.histogram["usage read as of now"] += 1
            commits = [
                plain_usage([r for r in rows if r.account_id == account_id]) for _, rows in self.world.watch.booked
            ]
        for key in set().union(totals, *commits):
            before = [commit[key] for commit in commits[:begun] if key in commit]
            since = [commit[key] for commit in commits[begun:] if key in commit and month_of(key.hour_s) in months]
            possible = {
                sum_totals([*before, *some]) for size in range(len(since) + 1) for some in combinations(since, size)
            }
            if totals.get(key, ZERO) not in possible:
                raise ViolationError(f"P28: as of now {key} has {totals.get(key)}, with {before} and perhaps {since}")

    def _read(self, process: Process) -> None:
        """Read one hour, and check that the result is a state that existed during the read."""
        hours = self.world.watch.visible_since
        if not hours:
            return
        hour_s = self.chance.choice(sorted(hours))
        before_ms = self.world.scheduler.now_ms
        totals = jobs.lake_view(process, shards=self.shards).hour_totals(hour_s, jobs.BY_ROW)
        self._check_reading(hour_s, before_ms, totals)
        self.faults.histogram["hours read while they changed"] += 1

    def _check_reading(self, hour_s: int, before_ms: int, totals: dict[Group, Total]) -> None:
        since = self.world.watch.visible_since[hour_s]
        seen = {str(group[1]): total.records for group, total in totals.items()}
        doubled = [name for name, count in seen.items() if count > 1]
        lost = [name for name, at_ms in since.items() if at_ms < before_ms and name not in seen]
        unknown = [name for name in seen if name not in since]
        if doubled or lost or unknown:
            raise ViolationError(f"I3: a reader saw {doubled} twice, missed {lost}, and invented {unknown}")

    def _pass_time(self, gap_ms: int) -> None:
        """Let hours to weeks pass without traffic. No message may exceed the queue's retention."""
        world = self.world
        if gap_ms > 2 * DAY_MS:
            if gap_ms > 4 * DAY_MS:
                self._redrive()
            self._drain()
        world.scheduler.run_until(world.scheduler.now_ms + gap_ms)
        if gap_ms <= 4 * DAY_MS or self.chance.random() < 0.5:
            self._redrive()
        self.faults.histogram["deleted by TTL"] += world.expire(self.chance)
        self.faults.histogram["deleted by a lifecycle rule"] += world.end_of_life(
            "ingest/", _INGEST_LIFE_S, self.chance
        )
        if gap_ms > 14 * DAY_MS:
            self.faults.histogram["replay after weeks"] += 1

    def _redrive(self) -> None:
        self.faults.histogram["redriven from the dead-letter queue"] += self.world.queue.redrive()

    def _drain(self) -> None:
        """Process messages until the queue is empty; faults continue, so some messages may become dead letters."""
        world = self.world
        world.scheduler.run_while(lambda: not jobs.is_idle(world, self.workers), limit_ms=4 * DAY_MS)

    def _rest(self) -> Findings:
        """No more faults. Apply delayed calls, redrive dead letters, run every job, and check the region."""
        world = self.world
        self.faults.enabled = False
        world.queue.odd = False
        for _ in range(3):
            self._drain()
            self._redrive()
        # By now, late calls have been applied.
        world.scheduler.run_until(world.scheduler.now_ms + 4 * DAY_MS)
        self._drain()
        if not jobs.is_idle(world, self.workers):
            raise ViolationError("the queue does not become empty")
        for run in (self._mend, self._roll_up_all, self._repair_all) if self.broken else (self._roll_up_all,):
            self._finally(run)
        self._lose_markers()
        if self.chance.random() < 0.4:
            findings = check(world, self._finally(self._view))
            if findings:
                return findings
        for _ in range(2):
            self._finally(self._roll_up_all)
            self._finally(self._compact_all)
            world.scheduler.run_until(world.scheduler.now_ms + 25 * HOUR_MS)
            self._finally(self._clean)
            self._finally(self._orphans)
            if not self._left_over():
                break
        self._check_clean()
        self._finally(self._check_closed)
        self._finally(self.billing.check)
        check_trace(self.world, shards=self.shards)
        return check(world, lake_rows(world))

    def _lose_markers(self) -> None:
        if not self.marker_loss.happens:
            return
        self.marker_loss.lose()
        self.faults.enabled = True
        self.marker_loss.rebuild_amid_faults(self._roll_up)
        self.faults.enabled = False
        self._finally(self.marker_loss.rebuild_rest)
        self.marker_loss.send_copies()
        self._drain()

    def _finally(self, run: Callable[[Process], object]) -> list[PlainRow]:
        """Complete a job, alone."""
        self._jobs += 1
        process = self.world.process(f"last {self._jobs}")
        done: list[object] = []
        self.world.scheduler.spawn(lambda: done.append(run(process)))
        self.world.scheduler.run_while(lambda: not done, limit_ms=2 * DAY_MS)
        if not done:
            raise ViolationError(f"{run.__name__} does not end")
        return done[0]  # type: ignore[return-value]  # what `run` returns

    def _view(self, process: Process) -> list[PlainRow]:
        """All rows that the production reader returns after the last faults."""
        view = jobs.lake_view(process, shards=self.shards)
        rows: list[PlainRow] = []
        for hour_s in view.hours():
            rows += view.read(hour_s, lambda state: rows_of(process, state))
        return rows

    def _check_closed(self, process: Process) -> None:
        """I6: check that the files of closed months are unchanged.

        Late files of a replaced ledger are told too, until `metering restore finish` takes them away.
        """
        late = late_files(self.world)
        closer = jobs.period_closer(process, self.policy, self.settings, shards=self.shards)
        for month in sorted(self.world.watch.frozen):
            problems = [each for each in closer.verify(month) if not any(key in each for key in late)]
            if problems:
                raise ViolationError(f"I6: {problems[0]}")

    def _left_over(self) -> list[str]:
        lists = ("P#", "U#")
        pending = [item["sk"] for item in self.world.items.everything(Table.LEDGER) if str(item["pk"])[:2] in lists]
        return [*map(str, pending), *self.world.objects.keys("staging/")]

    def _check_clean(self) -> None:
        """Check that no leftovers exist after all jobs ran."""
        left = self._left_over()
        if left:
            raise ViolationError(f"left over: {left}")
        if not self.broken and any(alert.severity == "page" for alert in self.world.alerts.sent):
            raise ViolationError(f"paged: {self.world.alerts.sent[0]}")


def rows_of(process: Process, state: HourState) -> list[PlainRow]:
    """All rows of an hour, in the state in which a reader found the hour."""
    rows = []
    for source in state.sources:
        rows += [row for row in decode_rows(process.objects.get(source.key)) if row.booked_s == source.hour_s]
    return rows


_NO_KIND = UsageKind(UsageType(""), Service(""), "", "")


def _by_hour(usage: Mapping[UsageKey, Total]) -> dict[UsageKey, Total]:
    """Totals by hour and corrected hour, whichever kind: the region's totals put kinds together."""
    hours: dict[UsageKey, Total] = {}
    for key, total in usage.items():
        add_totals(hours, {UsageKey(key.hour_s, key.account_id, *_NO_KIND, key.corrects_s): total})
    return hours
