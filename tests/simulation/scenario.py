"""The scenario of the matrices: a small region in which each job has work of every kind."""

from __future__ import annotations

import pickle
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from metering.billing.day_sums.index import DayIndex, DayIndexes
from metering.billing.freezing import PeriodNotClosableError
from metering.billing.invoices.document import InvoiceStore
from metering.billing.invoices.issuing import Asked, IssueRefusedError
from metering.errors import UnavailableError
from metering.hours import hour_of, month_of
from metering.ledger.format_version import ledger_format
from metering.ledger.usage.items import BUCKET_KINDS, is_usage_item
from metering.ledger.usage.kinds import kind_items
from metering.metric_names import BATCHES_CONFLICT, BATCHES_DUPLICATE
from metering.stores.writes import ActionLimits, Item, Key, Put, Table, Update
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import ZERO, Service, Total, UsageKind, UsageType, add_totals
from tests.simulation.checks.checker import check, lake_rows
from tests.simulation.checks.restored import Before
from tests.simulation.checks.watch import ViolationError
from tests.simulation.region import invoices, jobs
from tests.simulation.region.faults import HOUR_MS, MINUTE_MS, Fault, ScriptedFaults
from tests.simulation.region.ports import Process, ProcessItems
from tests.simulation.region.scheduler import KilledError
from tests.simulation.region.world import VISIBILITY_MS, World
from tests.simulation.sent.traffic import DAY_MS, SentContent, retry_of
from tests.support.memory.clock import ManualClock, MemoryAlerts
from tests.support.memory.rows import PlainRow, plain_usage
from tests.support.usage_items import tear, write_by_hand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from metering.rollup.rollup import Rollup

NOW_MS = 1_796_083_200_000 + 5 * HOUR_MS  # 2026-12-01T05:00Z: what is late by a day is of a month that has ended
_MONTH = "2026-11"
# Fewer actions than DynamoDB's 100, so that placing a commit with many hours takes several transactions.
FEW_ACTIONS = ActionLimits(transaction=14)
# Numbered kinds that the account has but never uses: these put the scenario's kinds into two buckets.
_KINDS_BEFORE = BUCKET_KINDS - 2
SUBJECT = "subject"
_ATTEMPTS = 8
# Batches that are sent in a later step.
_SENT_BEFORE_THE_MOMENT = ("early.0", "mixed.0", "turned.0")
_SENT_AFTER_THE_MOMENT = ("mixed.1", "turned.1", "lost.0", "retry:mixed.1")
_SENT_LATER = (
    *("dead.0", "b0.1", "halved.0", "waits.0", "tardy.0"),
    *_SENT_BEFORE_THE_MOMENT,
    *_SENT_AFTER_THE_MOMENT,
)
# Conflicting content of b2, under a new id.
_RETRY = "retry:b2.1"
# Batches whose markers are lost: in one hour, with conflicting content, in many hours, partly refused, and with two
# rows per hour.
_MARKERS_LOST = ("b0", "b2", "hours", "partly", "wide")


class Scenario:
    """A small region in which each job has work of every kind."""

    def __init__(self, job: str, faults: ScriptedFaults) -> None:
        self._job = job
        self.faults = faults
        self.world = World(7, faults, now_ms=NOW_MS, limits=FEW_ACTIONS)
        self.world.queue.odd = False
        self.world.contents = {content.name: content for content in _contents()}
        self._topic = MemoryAlerts()
        put_kinds(self.world, "111111111111", _KINDS_BEFORE)
        self._settings = jobs.settings(1, 200, kinds=_KINDS_BEFORE + 3)
        self._blocks = jobs.settings(1, 200, kinds=_KINDS_BEFORE + 3, rollup_blocks=1)
        self._policy = jobs.policy(4, 6, 0)
        self._names: Counter[str] = Counter()
        self._done = 0
        self._moment: tuple[int, tuple[Item, ...]] = (0, ())
        self._before: Before | None = None

    def run(self) -> None:
        """Run all remaining steps."""
        for _, step in self._steps()[self._done :]:
            step()
            self._done += 1

    def kept(self) -> bytes:
        """Run the steps before the job under test, and save the state in which each run with a fault starts."""
        steps = self._steps()
        while steps[self._done][0] != self._job:
            steps[self._done][1]()
            self._done += 1
        return pickle.dumps(self)

    @staticmethod
    def again(kept: bytes, script: Mapping[int, Fault]) -> Scenario:
        """The saved scenario, with the given faults."""
        scenario: Scenario = pickle.loads(kept)  # noqa: S301  # of this process
        scenario.faults.script = script
        return scenario

    def _steps(self) -> Sequence[tuple[str, Callable[[], None]]]:
        """The steps, in order; faults are applied in the first step of the job under test."""
        world, done = self.world, self._until_done
        return (
            ("worker", self._send_all),
            ("", self._send_again),
            ("blocks", lambda: done("blocks", self._roll_up_in_blocks, lambda: not self._listed("U#"))),
            ("redrive", lambda: done("redrive", self._redrive, lambda: not world.queue.dead)),
            ("", self._bring_what_was_gone),
            ("retry", lambda: done("retry", self._retry)),
            ("", self._all_is_accepted),
            ("rollup", lambda: done("rollup", self._roll_up, lambda: not self._listed("U#"))),
            ("", self._lose_usage),
            ("rebuild", lambda: done("rebuild", self._rebuild)),
            ("", self._lose_markers),
            ("markers", lambda: done("markers", self._rebuild_markers, lambda: not world.watch.markers_lost)),
            ("", self._send_copies),
            ("", self._roll_up_by_half),
            ("reader", lambda: done("reader", self._read)),
            ("now", lambda: done("now", self._read_now)),
            ("", lambda: done("rest", self._roll_up, lambda: not self._listed("U#"))),
            ("compactor", lambda: done("compactor", self._compact, lambda: not self._listed("P#"))),
            ("reconciler", lambda: done("reconciler", self._reconcile)),
            ("quick pass", self._look_at_runs),
            ("biller", self._bill_once),
            ("", self._lose_ledger),
            ("restorer", self._restore_ledger),
            ("", self._orphan),
            ("", lambda: self._pass(25 * HOUR_MS)),
            ("cleaner", lambda: done("cleaner", self._clean)),
            ("plans", lambda: done("plans", self._clean_plans)),
            ("orphans", lambda: done("orphans", self._orphans)),
            ("", self._take_another_turn),
            ("", lambda: self._pass(3 * DAY_MS)),
            ("", self._send_tardy),
            ("closer", lambda: done("closer", self._close)),
            ("", self._take_away_the_last),
            ("", lambda: invoices.put_prices(world.objects, "0.09")),
            ("issuer", lambda: done("issuer", self._issue)),
            ("", lambda: invoices.put_prices(world.objects, "0.08")),
            ("creditor", lambda: done("creditor", self._credit)),
            ("", self._check_invoices),
            ("", self._check),
        )

    def _send_all(self) -> None:
        world = self.world
        world.queue.send("dead.0", "S1")
        world.queue.dead, world.queue.messages = world.queue.messages, {}
        for content in world.contents.values():
            if content.name not in _SENT_LATER:
                world.queue.send(content.name, content.sender_id)
        # One copy arrives in the same invocation, and another after the first copy has its verdict.
        world.queue.send("b0.0", "S1")
        self._until_worked_off("worker")

    def _send_again(self) -> None:
        self.world.queue.send("b1.0", "S1")
        self.world.queue.send(_RETRY, "operator")
        self._until_worked_off("worker again")

    def _take_another_turn(self) -> None:
        """Run each job once more, after all delayed calls were applied, to clean up what these calls left."""
        self._pass(DAY_MS)
        self._until_worked_off("w")
        self._until_done("u", self._roll_up)
        self._until_done("c", self._compact)
        self._pass(25 * HOUR_MS)
        self._until_done("l", self._clean)
        self._until_done("o", self._orphans)

    def _pass(self, duration_ms: int) -> None:
        self.world.scheduler.run_until(self.world.scheduler.now_ms + duration_ms)

    def _until_worked_off(self, job: str) -> None:
        self._until_done(job, self._work, lambda: not self.world.queue.messages, pause_ms=VISIBILITY_MS + 1)

    def _until_done(
        self,
        job: str,
        run: Callable[[Process], object],
        done: Callable[[], bool] = lambda: True,
        *,
        pause_ms: int = MINUTE_MS,
    ) -> None:
        """Start a job repeatedly until it completes; faults are applied to the first process of the job under test."""
        ended = False
        for attempt in range(_ATTEMPTS):
            ended = self._start(SUBJECT if job == self._job and attempt == 0 else f"{job} {attempt}", run)
            if ended and done():
                return
            self._pass(pause_ms)
        raise ViolationError(f"{job} does not come to an end")

    def _start(self, name: str, run: Callable[[Process], object]) -> bool:
        process = self.world.process(name)
        result: list[bool] = []

        def body() -> None:
            try:
                run(process)
            except (KilledError, UnavailableError, PeriodNotClosableError):
                result.append(False)
            else:
                result.append(True)

        self.world.scheduler.spawn(body)
        self.world.scheduler.run_while(lambda: not result, limit_ms=DAY_MS)
        return result == [True]

    def _work(self, process: Process) -> None:
        """Run invocations until no message can be received."""
        world = self.world
        function = jobs.aggregator(process, self._settings)
        while deliveries := world.queue.receive(10):
            result = function.handle(deliveries, jobs.deadline(process, MINUTE_MS))
            done = [each.message_id for each in deliveries if each.message_id not in result.retry]
            for message in world.queue.acknowledge(done):
                world.watch.acknowledged(world.contents.get(message.body))

    def _roll_up(self, process: Process) -> None:
        _must_finish(jobs.rollup(process, self._settings), process)

    def _roll_up_in_blocks(self, process: Process) -> None:
        _must_finish(jobs.rollup(process, self._blocks), process)

    def _roll_up_by_half(self) -> None:
        """Leave one commit waiting, and another commit partly booked by a run whose process was killed."""
        self.world.queue.send("halved.0", "S1")
        self._until_worked_off("worker at last")
        process = self.world.process("halfway")
        process.items = DiesHalfway(process)
        self._start_and_die(process)
        self.world.queue.send("waits.0", "S1")
        self._until_worked_off("worker afterwards")

    def _read_now(self, process: Process) -> None:
        """Check that usage as of now includes all accepted batches: booked, planned and waiting."""
        totals = jobs.usage_now(process, shards=1).usage(["111111111111"], ["2026-10", "2026-11", "2026-12"])
        expected = plain_usage([row for _, rows in self.world.watch.booked for row in rows])
        if {key: total for key, total in totals.items() if total != ZERO} != expected:
            raise ViolationError(f"as of now a reader saw {totals}, not {expected}")

    def _bring_what_was_gone(self) -> None:
        """Create the object that was missing when its batch was refused."""
        self._until_worked_off("redriven")
        self.world.objects.put("ingest/gone", b"", if_absent=True)

    def _all_is_accepted(self) -> None:
        """Check that redriven and retried batches are accepted."""
        self._until_worked_off("retried")
        left = {"dead", "gone", _RETRY} - self.world.watch.accepted.keys()
        if left:
            raise ViolationError(f"{sorted(left)} was put back and is not accepted")

    def _redrive(self, process: Process) -> None:
        jobs.dead_letters(process).redrive(by_hand=True)

    def _retry(self, process: Process) -> None:
        entries = jobs.quarantine_entries(process)
        for entry in entries.entries():
            # The simulated messages of the other kinds cannot be written again.
            if entry.kind == "refused":
                entries.retry(entry)

    def _compact(self, process: Process) -> None:
        jobs.compactor(process, self._policy, shards=1).run(jobs.deadline(process, HOUR_MS))

    def _lose_usage(self) -> None:
        """Delete every second usage item, as a restore might; damage the others by manual writes."""
        items = self.world.items
        for number, item in enumerate(filter(is_usage_item, list(items.everything(Table.USAGE)))):
            key = Key(str(item["pk"]), str(item["sk"]))
            if number % 2 == 0:
                items.remove(Table.USAGE, key)
            elif number % 4 == 1:
                write_by_hand(items, key, {"bytes": 777, next(name for name in item if name.startswith("b")): "mine"})
            else:
                tear(items, key, "v", *(name for name in item if name.startswith("n")))

    def _rebuild(self, process: Process) -> None:
        jobs.rebuilder(process, self._settings, shards=1).usage()

    def _lose_markers(self) -> None:
        """Delete some markers, as a ledger restore might."""
        for batch_id in _MARKERS_LOST:
            self.world.watch.lose_marker(batch_id)

    def _rebuild_markers(self, process: Process) -> None:
        jobs.rebuilder(process, self._settings, shards=1).markers()

    def _send_copies(self) -> None:
        """Send copies of batches whose markers came back, which are duplicates, and other content, which conflicts."""
        world = self.world
        copies = [*(f"{batch_id}.0" for batch_id in _MARKERS_LOST), "b0.1", _RETRY]
        for name in copies:
            world.queue.send(name, "S1")
        duplicates, conflicts = (world.metrics.counts[name] for name in (BATCHES_DUPLICATE, BATCHES_CONFLICT))
        self._until_worked_off("copies")
        if world.metrics.counts[BATCHES_DUPLICATE] - duplicates != len(copies) - 1:
            raise ViolationError("a copy of a batch whose marker came back is no duplicate")
        if world.metrics.counts[BATCHES_CONFLICT] - conflicts != 1:
            raise ViolationError("other content under the id of a batch whose marker came back is no conflict")

    def _reconcile(self, process: Process) -> None:
        to_s = self.world.scheduler.now_ms // 1000 + DAY_S
        result = jobs.reconciler(process, shards=1).check(from_s=0, to_s=to_s, deep=True)
        if result.different:
            raise ViolationError(f"the reconciler found {result.different[0]}")

    def _check_runs(self, process: Process) -> None:
        result = jobs.run_checker(process, shards=1).run(jobs.deadline(process, HOUR_MS))
        if result.different or result.left:
            raise ViolationError(f"the quick pass found {result.different}, and left {result.left}")

    def _look_at_runs(self) -> None:
        # The quick pass changes only its own list, which no other job reads.
        if self._job == "quick pass":
            self._until_done("quick pass", self._check_runs)

    def _lose_ledger(self) -> None:
        """Go back to a moment with waiting, planned, placed and rejected batches, of which a part was compacted since.

        Only if the restorer is under test, because the other jobs' calls stay as they are.
        """
        if self._job != "restorer":
            return
        world, done = self.world, self._until_done
        for name in _SENT_BEFORE_THE_MOMENT:
            world.queue.send(name, "S1")
        self._until_worked_off("worker before the moment")
        process = world.process("plans only")
        process.items = DiesHalfway(process)
        self._start_and_die(process)
        self._moment = (world.scheduler.now_ms, tuple(world.items.everything(Table.LEDGER)))
        done("rest", self._roll_up, lambda: not self._listed("U#"))
        done("since", self._compact, lambda: not self._listed("P#"))
        self._pass(25 * HOUR_MS)
        done("cleaned", self._clean)
        for name in _SENT_AFTER_THE_MOMENT:
            world.queue.send(name, "S1")
            self._until_worked_off("worker after the moment")
        # One more is compacted, one is planned, and one waits.
        self._before = Before.of(world)
        world.restore_ledger(self._moment[1], generation=2)

    def _restore_ledger(self) -> None:
        if self._job != "restorer":
            return
        since_ms, _ = self._moment

        def restore(process: Process) -> None:
            jobs.restoration(process, self._settings, generation=2, since_ms=since_ms, shards=1).run()

        def is_open() -> bool:
            found = ledger_format(self.world.items)
            return found is not None and found.state == "open"

        self._until_done("restorer", restore, is_open)
        assert self._before is not None
        self._before.check(self.world, broken=False)
        # By now, delayed calls have been applied: they must find an open ledger, and change nothing.
        self._pass(2 * HOUR_MS)
        for name in (*_SENT_BEFORE_THE_MOMENT, *_SENT_AFTER_THE_MOMENT):
            self.world.queue.send(name, "S1")
        self._until_worked_off("worker of the restored ledger")
        self._until_done("restored", self._roll_up, lambda: not self._listed("U#"))
        self._until_done("compacted again", self._compact, lambda: not self._listed("P#"))
        self._until_done("reconciled again", self._reconcile)

    def _start_and_die(self, process: Process) -> None:
        """Plan a run of the roll-up, and stop in the middle of it."""
        done: list[bool] = []

        def body() -> None:
            with suppress(KilledError):
                jobs.rollup(process, self._settings).run(jobs.deadline(process, HOUR_MS))
            done.append(True)

        self.world.scheduler.spawn(body)
        self.world.scheduler.run_while(lambda: not done, limit_ms=DAY_MS)

    def _bill_once(self) -> None:
        # No other job reads the biller's state.
        if self._job == "biller":
            invoices.set_budgets(self.world.items, ManualClock(NOW_MS))
            self._until_done("biller", self._bill)
            # By now, delayed calls have been applied.
            self._pass(HOUR_MS)
            self._start("biller again", self._bill)
            self._check_alerts()

    def _bill(self, process: Process) -> None:
        invoices.biller(process, self._topic).run(jobs.deadline(process, HOUR_MS))

    def _check_alerts(self) -> None:
        made = invoices.kept(self.world.items)
        if sorted(alert.fields["period"] for alert in made) != [_MONTH, "2026-12"]:
            raise ViolationError(f"there is not one alert a month: {[each.subject for each in made]}")
        if any(alert.state != "sent" for alert in made):
            raise ViolationError("an alert was never sent")
        told = Counter(str(alert.fields["id"]) for alert in self._topic.sent)
        if told.keys() != {alert.id for alert in made}:
            raise ViolationError(f"told {told}, and there is {[alert.id for alert in made]}")
        if not self.faults.script and max(told.values()) > 1:
            raise ViolationError("somebody was told twice, and nothing went wrong")
        kept = DayIndexes(objects=self.world.objects).newest()
        counted = sum(
            sum(head.hours[place])
            for month in (_MONTH, "2026-12")
            for head in invoices.sums(self.world.objects, kept, month)
            for place in range(len(head.kinds))
        )
        rows = sum(row.bytes for row in lake_rows(self.world) if row.booked_s == hour_of(row.start_s))
        if counted != rows:
            raise ViolationError(f"the sums have {counted} bytes, and the lake {rows}")
        self._check_accounts(kept)

    def _check_accounts(self, kept: DayIndex) -> None:
        for month in (_MONTH, "2026-12"):
            of_lake: dict[str, Total] = {}
            for row in lake_rows(self.world):
                if month_of(row.booked_s) == month:
                    add_totals(of_lake, {row.account_id: Total(row.bytes, 1)})
            found = invoices.accounts(self.world.objects, kept, month)
            if found != of_lake:
                raise ViolationError(f"the accounts of {month} have {found}, and the lake {of_lake}")

    def _close(self, process: Process) -> None:
        closer = jobs.period_closer(process, self._policy, self._settings, shards=1)
        closer.close(_MONTH, jobs.deadline(process, HOUR_MS))
        problems = closer.verify(_MONTH)
        if problems:
            raise ViolationError(problems[0])

    def _issue(self, process: Process) -> None:
        for _ in range(2):
            if len(list(invoices.issuer(process).issue(Asked(month=_MONTH)))) != 1:
                raise ViolationError("the payer has no invoice")

    def _credit(self, process: Process) -> None:
        """Run the crediting twice; only the first run finds a difference."""
        for _ in range(2):
            with suppress(IssueRefusedError):
                invoices.crediting(process).credit(f"{invoices.PAYER}-{_MONTH}-1", "The price was wrong.")

    def _check_invoices(self) -> None:
        found = list(InvoiceStore(self.world.objects).list(_MONTH))
        if [each.number for each in found] != [1, 2]:
            raise ViolationError(f"there is not one invoice and one credit note: {[each.id for each in found]}")
        result: list[str] = []
        self._start("auditor", lambda each: result.extend(p for i in found for p in invoices.problems(each, i.id)))
        if result:
            raise ViolationError(result[0])

    def _clean(self, process: Process) -> None:
        jobs.cleaner(process, shards=1).run(jobs.deadline(process, HOUR_MS))

    def _clean_plans(self, process: Process) -> None:
        jobs.rollup_cleaner(process, shards=1).run(jobs.deadline(process, HOUR_MS))

    def _send_tardy(self) -> None:
        """Send a batch whose commit still waits for the roll-up when the month closes."""
        self.world.queue.send("tardy.0", "S1")
        self._until_worked_off("worker of the month")

    def _take_away_the_last(self) -> None:
        # A close that died may have left an unfinished run whose rows are already in place.
        self._until_done("c", self._compact)
        self._pass(25 * HOUR_MS)
        self._until_done("l", self._clean)

    def _orphans(self, process: Process) -> None:
        jobs.orphan_cleaner(process, age_s=HOUR_S).run(jobs.deadline(process, HOUR_MS))

    def _read(self, process: Process) -> None:
        view = jobs.lake_view(process, shards=1)
        for hour_s in view.hours():
            seen = view.hour_totals(hour_s, jobs.BY_ROW)
            expected = self.world.watch.visible_since[hour_s]
            if {str(group[1]) for group in seen} != set(expected) or any(t.records != 1 for t in seen.values()):
                raise ViolationError(f"a reader saw {sorted(map(str, seen))}, not {sorted(expected)}")

    def _orphan(self) -> None:
        """Put the staging object of a commit whose transaction was never sent."""
        self.world.objects.put(f"staging/2026-12-01/{'f' * 32}.parquet", b"", if_absent=True)

    def _listed(self, prefix: str) -> bool:
        return any(str(item["pk"]).startswith(prefix) for item in self.world.items.everything(Table.LEDGER))

    def _check(self) -> None:
        findings = check(self.world, lake_rows(self.world))
        if findings:
            raise ViolationError(str(findings))
        left = self.world.objects.keys("staging/")
        if left or self._listed("P#") or self._listed("U#"):
            raise ViolationError(f"left over: {left}")
        if self.world.alerts.sent and self.world.alerts.sent[0].severity == "page":
            raise ViolationError(f"paged: {self.world.alerts.sent[0]}")


class DiesHalfway(ProcessItems):
    """Item store that kills a roll-up right before its second update of a usage item."""

    def __init__(self, process: Process) -> None:
        super().__init__(process, process.world.items)
        self._added = 0

    def update(self, action: Update) -> Item:
        if action.table is Table.USAGE and str(action.key.pk).startswith("A#"):
            if self._added:
                self._process.kill()
            self._added += 1
        return super().update(action)


def _must_finish(rollup: Rollup, process: Process) -> None:
    if not rollup.run(jobs.deadline(process, HOUR_MS)).finished:
        raise UnavailableError("rollup", "something still waits")


def put_kinds(world: World, account_id: str, number: int) -> None:
    for each in range(number):
        for item in kind_items(
            account_id, each, UsageKind(UsageType(f"Unused-{each}"), Service("AmazonEC2"), "us-west-2", "internet")
        ):
            world.items.put(Put(table=Table.LEDGER, item=item))


def _contents() -> Iterator[SentContent]:
    own_s = hour_of(NOW_MS // 1000)
    for number in range(6):
        yield content_of(f"b{number}", 0, [own_s, own_s - HOUR_S * (number % 2)])
    yield content_of("b0", 1, [own_s])
    other = content_of("b2", 1, [own_s])
    yield other
    yield retry_of(other)
    yield content_of("dead", 0, [own_s])
    yield content_of("wide", 0, [own_s - HOUR_S * n for n in range(5)] * 2)
    yield content_of("hours", 0, [own_s - HOUR_S * n for n in range(15)])
    # Four kinds, the last of which is beyond the cap.
    yield content_of("kinds", 0, [own_s, own_s, own_s, own_s], kinds=4)
    yield content_of("halved", 0, [own_s, own_s - HOUR_S, own_s - 2 * HOUR_S])
    yield content_of("waits", 0, [own_s])
    yield content_of("tardy", 0, [own_s - 12 * HOUR_S])
    yield content_of("partly", 0, [own_s, own_s - 40 * DAY_S])
    yield content_of("late", 0, [own_s - 40 * DAY_S])
    # Of a ledger that is lost: conflict, refusal and acceptance, a retry, and refused records, all since the moment.
    yield content_of("early", 0, [own_s, own_s - HOUR_S, own_s - 2 * HOUR_S])
    yield content_of("mixed", 0, [own_s, own_s - HOUR_S])
    mixed = content_of("mixed", 1, [own_s])
    yield mixed
    yield retry_of(mixed)
    yield replace(content_of("turned", 0, [own_s]), refused="count_mismatch")
    yield content_of("turned", 1, [own_s])
    yield content_of("lost", 0, [own_s, own_s - 40 * DAY_S])
    yield replace(content_of("refused", 0, [own_s]), refused="count_mismatch")
    yield replace(content_of("gone", 0, [own_s]), location="ingest/gone")


def content_of(batch_id: str, version: int, starts: Sequence[int], *, kinds: int = 3) -> SentContent:
    """A content whose records start at `starts` and cycle through `kinds` usage types."""
    name = f"{batch_id}.{version}"
    rows = tuple(
        PlainRow(
            hour_of(start_s),
            batch_id,
            f"{name}/{position}",
            "111111111111",
            "AmazonEC2",
            "out",
            "us-west-2",
            "internet",
            f"USW2-DataTransfer-Out-Bytes-{position % kinds}",
            2**62 + position,
            start_s,
        )
        for position, start_s in enumerate(starts)
    )
    return SentContent(name=name, batch_id=batch_id, content_hash=f"h-{name}", sender_id="S1", rows=rows)
