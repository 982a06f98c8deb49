"""Seeded bugs of the roll-up: each leaves out a rule of docs/protocol.md, by the rows of its table of traps."""

from __future__ import annotations

from tests.mutants.mutant import LAKE, Mutant

_CLEANER = ("tests/unit/rollup/test_rollup_cleaner.py", *LAKE)
_KINDS = ("tests/unit/ledger/usage/test_kinds.py", *LAKE)
_CLAIMS = ("tests/simulation/test_matrix.py::test_a_lost_late_or_repeated_call_of_any_job_changes_nothing[blocks]",)
_REPAIR = ("tests/simulation/test_repair.py", *LAKE)
_RESTORE = ("tests/simulation/test_restore.py",)
_ROLLUP = ("tests/unit/rollup/test_rollup.py",)
_VERIFY = ("tests/simulation/test_verify.py",)

ROLLUP = (
    Mutant(
        name="P19 a roll-up lists what waits before it reads the newest run",
        path="metering/rollup/rollup.py",
        old="""        try:
            plan = self._planner(shard).plan(turn.contradictions)
        except NotWaitingError:
            return True
        if plan is None:
            return False
        # Whether""",
        new="""        try:
            plan = self._planner(shard).plan(turn.contradictions)
        except NotWaitingError:
            return True
        if plan is None:
            return False
        newest = chain.newest()
        # Whether""",
        suites=LAKE,
    ),
    Mutant(
        name="P20 a run is put over another one of its number",
        path="metering/ledger/runs.py",
        old="put = Put(table=Table.LEDGER, item=run.to_item(), condition=Absent())",
        new="put = Put(table=Table.LEDGER, item=run.to_item())",
        suites=LAKE,
    ),
    Mutant(
        name="P20 a roll-up works from its own plan",
        path="metering/rollup/rollup.py",
        old="""            self.metrics.count(metric_names.ROLLUP_RACE_LOST)
        return True""",
        new="""            own = chain.newest()
            if own is not None:
                self.objects.put(own.plan_key, plan.to_json(), if_absent=False)
        return True""",
        suites=LAKE,
    ),
    Mutant(
        name="P21 a run is done before its commits have left the list",
        path="metering/rollup/rollup.py",
        old="""        for part in self._parts(plan.commits, turn):
            do_all(placing.place, part, threads=self.threads)
        chain.finish(run)
""",
        new="""        chain.finish(run)
        for part in self._parts(plan.commits, turn):
            do_all(placing.place, part, threads=self.threads)
""",
        suites=LAKE,
    ),
    Mutant(
        name="P34 later commits keep a roll-up that was asked for what waits",
        path="metering/rollup/rollup.py",
        old="placed = awaited is not None and not self._still_waits(awaited)",
        new="placed = False",
        suites=_ROLLUP,
    ),
    Mutant(
        name="P34 a roll-up ends while what waited is in a run that is not done",
        path="metering/rollup/rollup.py",
        old="""if placed and (newest is None or newest.state == "done"):""",
        new="if placed:",
        suites=_ROLLUP,
    ),
    Mutant(
        name="P34 a roll-up ends when a part of what waited is placed",
        path="metering/rollup/rollup.py",
        old="            awaited[-_ASKED_AT_ONCE:] = there\n",
        new="            awaited[-_ASKED_AT_ONCE:] = []\n",
        suites=_ROLLUP,
    ),
    Mutant(
        name="P34 metering compact waits for an empty list",
        path="metering/cli/commands/analyst/lake.py",
        old="jobs.rollup.run(NoDeadline(), only_waiting=True)",
        new="jobs.rollup.run(NoDeadline())",
        suites=("tests/unit/cli/test_compact.py",),
    ),
    Mutant(
        name="P34 metering verify --wait waits for an empty list",
        path="metering/cli/commands/operator/verify.py",
        old="rollup.run(NoDeadline(), only_waiting=True)",
        new="rollup.run(NoDeadline())",
        suites=("tests/unit/cli/test_verify.py",),
    ),
    Mutant(
        name="P34 a close waits for an empty list",
        path="metering/billing/closer.py",
        old="self.rollup.run(deadline, only_waiting=True)",
        new="self.rollup.run(deadline)",
        suites=("tests/unit/billing/test_closing_races.py",),
    ),
    Mutant(
        name="P22 the newest run of a roll-up expires",
        path="metering/rollup/cleaner.py",
        old="runs = runs_before(self.items, chain, newest.number, first=first)",
        new="runs = runs_before(self.items, chain, newest.number + 1, first=first)",
        suites=_CLEANER,
    ),
    Mutant(
        name="P23 an update has no condition",
        path="metering/rollup/adding.py",
        old="""                set={newest: run.number},
                condition=not_yet,""",
        new="""                set={newest: run.number},""",
        suites=LAKE,
    ),
    Mutant(
        name="P23 an update lands again if its own number is in the item",
        path="metering/rollup/adding.py",
        old="LessThan(attribute=newest, value=run.number)))",
        new="LessThan(attribute=newest, value=run.number + 1)))",
        suites=LAKE,
    ),
    Mutant(
        name="P23 an update does not leave its number",
        path="metering/rollup/adding.py",
        old="set={newest: run.number},",
        new="set={},",
        suites=LAKE,
    ),
    Mutant(
        name="P3 a roll-up goes on over an update of unknown outcome",
        path="metering/rollup/adding.py",
        old="""            self.chain.retrier.call(lambda: self.chain.items.update(update))
        except ConditionFailedError as error:""",
        new="""            self.chain.items.update(update)
        except UnavailableError:
            return 0
        except ConditionFailedError as error:""",
        suites=LAKE,
    ),
    Mutant(
        name="P23 commits are placed before all of the run is added",
        path="metering/rollup/rollup.py",
        old="""        full = len(plan.commits) >= self.policy.commits
""",
        new="""        full = len(plan.commits) >= self.policy.commits
        early = Placing(shard=run.shard, items=self.items, retrier=self.retrier, actions=self.limits.transaction)
        do_all(early.place, plan.commits, threads=1)
""",
        suites=LAKE,
    ),
    Mutant(
        name="P23 a commit is placed whether or not it waits",
        path="metering/rollup/adding.py",
        old="yield [check, *puts[first : first + size]]",
        new="yield puts[first : first + size]",
        suites=LAKE,
    ),
    Mutant(
        name="P2 a commit leaves the waiting list in the transaction that places it",
        path="metering/rollup/adding.py",
        old="""            yield [check, *puts[first : first + size]]""",
        new="""            gone = Delete(table=Table.LEDGER, key=key, condition=_WAITS)
            yield [gone if first + size >= len(puts) else check, *puts[first : first + size]]""",
        suites=LAKE,
    ),
    Mutant(
        name="P2 a commit leaves the waiting list before it is placed",
        path="metering/rollup/adding.py",
        old="""        for actions in self._transactions(commit, key):
            if not self._transact(actions):
                return
        gone = Delete(table=Table.LEDGER, key=key)
        self.retrier.call(lambda: self.items.delete(gone))
""",
        new="""        gone = Delete(table=Table.LEDGER, key=key)
        self.retrier.call(lambda: self.items.delete(gone))
        for actions in self._transactions(commit, key):
            self._transact(actions[1:])
""",
        suites=LAKE,
    ),
    Mutant(
        name="P24 a commit that still waits is compacted",
        path="metering/lake/plan.py",
        old="if out := self.commits.keys() & waiting():",
        new="if out := self.commits.keys() & set():",
        suites=LAKE,
    ),
    Mutant(
        name="P24 what waits is listed before what is pending",
        path="metering/lake/compactor.py",
        old="backlog = Backlog(self._pending(shard, turn), waiting)",
        new="before = waiting()\n        backlog = Backlog(self._pending(shard, turn), lambda: before)",
        suites=LAKE,
    ),
    Mutant(
        name="P16 the waiting entry is not in the transaction of its commit",
        path="metering/commit/committer.py",
        old="""            self._items.transact(body.actions)
        except""",
        new="""            self._items.transact([a for a in body.actions if not a.key.pk.startswith("U#")])
            for action in body.actions:
                if action.key.pk.startswith("U#"):
                    self._items.put(action)
        except""",
    ),
    Mutant(
        name="P16 a worker does not look whether a month is closed",
        path="metering/commit/transaction.py",
        old="return Check(table=Table.LEDGER, key=period_key(month), condition=_NOT_THERE)",
        new="return Check(table=Table.LEDGER, key=period_key(f'{month}-never'), condition=_NOT_THERE)",
    ),
    Mutant(
        name="P25 a reader does not look at what waits",
        path="metering/lake/view.py",
        old="waiting = [_waiting_source(entry, hour_s) for entry in self.waiting if entry.commit_id not in placed]",
        new="waiting: list[RowSource] = []",
        suites=LAKE,
    ),
    Mutant(
        name="P25 a reader looks at what waits after the pointers",
        path="metering/lake/view.py",
        old="""            waiting = self._waiting(hour_s)
            pointers = self._pointers(hour_s)
""",
        new="""            pointers = self._pointers(hour_s)
            waiting = self._waiting(hour_s)
""",
        suites=LAKE,
    ),
    Mutant(
        name="P25 a commit that waits and is placed counts twice",
        path="metering/lake/view.py",
        old="for entry in self.waiting if entry.commit_id not in placed]",
        new="for entry in self.waiting]",
        suites=LAKE,
    ),
    Mutant(
        name="P27 completeness goes on while a commit waits",
        path="metering/audit/freshness.py",
        old="*_waiting(waiting, self._last()), ",
        new="",
        suites=("tests/simulation/test_simulation.py",),
    ),
    Mutant(
        name="P28 a report as of now does not look at the run again",
        path="metering/rollup/as_of_now.py",
        old="if _states(self._newest()) != _states(runs):",
        new="if not runs:",
        suites=LAKE,
    ),
    Mutant(
        name="P28 a plan is added whether or not the item has its share",
        path="metering/rollup/as_of_now.py",
        old="absent=-1) < number:",
        new="absent=-1) <= number:",
        suites=LAKE,
    ),
    Mutant(
        name="P28 what a plan has, counts as waiting too",
        path="metering/rollup/as_of_now.py",
        old="for each in waiting if each.commit_id not in planned.commits]",
        new="for each in waiting]",
        suites=LAKE,
    ),
    Mutant(
        name="P31 all plans of a roll-up are deleted when one is old enough",
        path="metering/rollup/cleaner.py",
        old="            if number > over:\n",
        new="            if number > over + 1_000:\n",
        suites=_CLEANER,
    ),
    Mutant(
        name="P34 a close asks only what is pending",
        path="metering/billing/closer.py",
        old="return waits or any(",
        new="return any(",
        suites=LAKE,
    ),
    Mutant(
        name="P34 a close asks what is pending before what waits",
        path="metering/billing/closer.py",
        old="""        waits = any(
            month_of(hour_s) == month for entry in waiting_commits(self.items, self.shards) for hour_s in entry.totals
        )
        return waits or any(
            month_of(hour_s) == month
            for shard in known_shards(self.items, self.shards)
            for item in pending_in(self.items, shard)
            for hour_s in Pending.from_item(item).hours
        )
""",
        new="""        pends = any(
            month_of(hour_s) == month
            for shard in known_shards(self.items, self.shards)
            for item in pending_in(self.items, shard)
            for hour_s in Pending.from_item(item).hours
        )
        return pends or any(
            month_of(hour_s) == month for entry in waiting_commits(self.items, self.shards) for hour_s in entry.totals
        )
""",
        suites=LAKE,
    ),
    Mutant(
        name="P37 an item counts as settled while a run is in work on it",
        path="metering/audit/settling.py",
        old="return all(number <= done.get(shard, 0) for shard, number in runs.items())",
        new="return all(number <= done.get(shard, 0) + 1 for shard, number in runs.items())",
        suites=LAKE,
    ),
    Mutant(
        name="P37 a comparison collects what waits as well",
        path="metering/lake/view.py",
        old="return replace(self, with_waiting=False)",
        new="return self",
        suites=LAKE,
    ),
    Mutant(
        name="P37 a look asks which runs are over after it has collected the rows",
        path="metering/audit/incremental.py",
        old="            checks |= self._compared(rows, done)\n",
        new="            done = settled_runs(self.items, self.view.shards)\n"
        "            checks |= self._compared(rows, done)\n",
        suites=LAKE,
    ),
    Mutant(
        name="P37 a second look asks which runs are over after it has collected the rows",
        path="metering/audit/reconciler.py",
        old="""        done = settled_runs(self.items, self.shards)
        placed = self.placed(hour_s, accounts=accounts if alone else None)
""",
        new="""        placed = self.placed(hour_s, accounts=accounts if alone else None)
        done = settled_runs(self.items, self.shards)
""",
        suites=LAKE,
    ),
    Mutant(
        name="P38 a repair does not look at the revision",
        path="metering/audit/repair.py",
        old="        yield from _same_revision(seen)\n",
        new="",
        suites=_REPAIR,
    ),
    Mutant(
        name="P38 a repair does not leave the numbers of the runs that are over",
        path="metering/audit/repair.py",
        old="set={newest_run_of(shard): number for shard, number in self.runs.items() if number},",
        new="set={},",
        suites=_REPAIR,
    ),
    Mutant(
        name="P38 a repair leaves the number of a run that is not over",
        path="metering/audit/repair.py",
        old="set={newest_run_of(shard): number for shard, number in self.runs.items() if number},",
        new="set={newest_run_of(shard): number + 1 for shard, number in self.runs.items() if number},",
        suites=_REPAIR,
    ),
    Mutant(
        name="P38 a repair does not ask what later runs have in their plans",
        path="metering/audit/repair.py",
        old="if planned is None or place in planned or account_id in unsettled:",
        new="if planned is None or account_id in unsettled:",
        suites=_REPAIR,
    ),
    Mutant(
        name="P41 a run of the lake that was planned is left as it is",
        path="metering/audit/restoring.py",
        old="        self.resume()\n",
        new="",
        suites=_RESTORE,
    ),
    Mutant(
        name="P41 what was placed and still waits stays placed",
        path="metering/audit/restoring.py",
        old="            self._take_back(shard)\n",
        new="",
        suites=_RESTORE,
    ),
    Mutant(
        name="P41 numbers of runs go on where the restored ledger is",
        path="metering/audit/restoring.py",
        old="number = max(now_ms // 1000, 1 if newest is None else newest.number + 1)",
        new="number = 1 if newest is None else newest.number + 1",
        suites=_RESTORE,
    ),
    Mutant(
        name="P45 a number is read and then written",
        path="metering/ledger/usage/kinds.py",
        old="item=item, condition=Absent())\n            for number",
        new="item=item)\n            for number",
        suites=_KINDS,
    ),
    Mutant(
        name="P45 a plan relies on a number that is not sure",
        path="metering/ledger/usage/kinds.py",
        old="""            numbers = self._retrier.call(lambda: self._names.read(account_id))

    def _begin_claim""",
        new="""            numbers = {**numbers, **dict(enumerate(missing, start=max(numbers, default=-1) + 1))}

    def _begin_claim""",
        suites=_CLAIMS,
    ),
    Mutant(
        name="P45 an unknown number is skipped",
        path="metering/ledger/usage/kinds.py",
        old="""        kind = self.of(account_id).get(number) or self.read_whole(account_id).get(number)
        if kind is None:""",
        new="""        kind = self.of(account_id).get(number) or UsageKind("", "", "", "")
        if kind is None:""",
        suites=_KINDS,
    ),
    Mutant(
        name="P45 two updates of one item under one run",
        path="metering/rollup/adding.py",
        old="""        for kind, totals in buckets.values():
            yield _key(hour, kind), totals
""",
        new="""        for kind, totals in buckets.values():
            for each, total in totals.items():
                yield _key(hour, kind), {each: total}
""",
        suites=LAKE,
    ),
    Mutant(
        name="verify asks only before whether all is at rest",
        path="metering/audit/verifier.py",
        old="at_rest = at_rest and self._rest()[1]",
        new="at_rest = at_rest",
        suites=_VERIFY,
    ),
    Mutant(
        name="verify takes a region in which a commit waits for one at rest",
        path="metering/audit/verifier.py",
        old="if waiting == 0 and not self._waits():",
        new="if waiting == 0:",
        suites=_VERIFY,
    ),
)
