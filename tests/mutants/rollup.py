"""Seeded bugs of the roll-up: each violates a rule of docs/protocol.md, by the rows of its table of traps."""

from __future__ import annotations

from tests.mutants.mutant import LAKE, WORLD, seeded

_CLEANER = ("tests/unit/rollup/test_rollup_cleaner.py", *LAKE)
_KINDS = ("tests/unit/ledger/usage/test_kinds.py", *LAKE)
_CLAIMS = ("tests/simulation/test_matrix.py::test_a_lost_late_or_repeated_call_of_any_job_changes_nothing[blocks]",)
_REPAIR = ("tests/simulation/test_repair.py", *LAKE)
_RESTORE = ("tests/simulation/test_restore.py",)
_ROLLUP = ("tests/unit/rollup/test_rollup.py",)
_VERIFY = ("tests/simulation/test_verify.py",)

ROLLUP = (
    *seeded("metering/rollup/rollup.py", LAKE,
        ("P19 a roll-up lists what waits before it reads the newest run",
         """        try:
            plan = self._planner(shard).plan(turn.contradictions)
        except NotWaitingError:
            return True
        if plan is None:
            return False
        # Whether""",
         """        try:
            plan = self._planner(shard).plan(turn.contradictions)
        except NotWaitingError:
            return True
        if plan is None:
            return False
        newest = chain.newest()
        # Whether"""),
        ("P20 a roll-up works from its own plan",
         """            self.metrics.count(metric_names.ROLLUP_RACE_LOST)
        return True""",
         """            own = chain.newest()
            if own is not None:
                self.objects.put(own.plan_key, plan.to_json(), if_absent=False)
        return True"""),
        ("P21 a run is done before its commits have left the list",
         """        for part in self._parts(plan.commits, turn):
            do_all(placing.place, part, threads=self.threads)
        chain.finish(run)
""",
         """        chain.finish(run)
        for part in self._parts(plan.commits, turn):
            do_all(placing.place, part, threads=self.threads)
"""),
        ("P23 commits are placed before all of the run is added",
         """        full = len(plan.commits) >= self.policy.commits
""",
         """        full = len(plan.commits) >= self.policy.commits
        early = Placing(shard=run.shard, items=self.items, retrier=self.retrier, actions=self.limits.transaction)
        do_all(early.place, plan.commits, threads=1)
"""),
    ),
    *seeded("metering/ledger/runs.py", LAKE,
        ("P20 a run is put over another one of its number",
         "put = Put(table=Table.LEDGER, item=run.to_item(), condition=Absent())",
         "put = Put(table=Table.LEDGER, item=run.to_item())"),
    ),
    *seeded("metering/rollup/rollup.py", _ROLLUP,
        ("P34 later commits keep a roll-up that was asked for what waits",
         "placed = awaited is not None and not self._still_waits(awaited)", "placed = False"),
        ("P34 a roll-up ends while what waited is in a run that is not done",
         """if placed and (newest is None or newest.state == "done"):""", "if placed:"),
        ("P34 a roll-up ends when a part of what waited is placed", "            awaited[-_ASKED_AT_ONCE:] = there\n",
         "            awaited[-_ASKED_AT_ONCE:] = []\n"),
    ),
    *seeded("metering/cli/commands/analyst/lake.py", ("tests/unit/cli/test_lake.py",),
        ("P34 metering compact waits for an empty list", "jobs.rollup.run(NoDeadline(), only_waiting=True)",
         "jobs.rollup.run(NoDeadline())"),
    ),
    *seeded("metering/cli/commands/operator/verify.py", ("tests/unit/cli/test_verify.py",),
        ("P34 metering verify --wait waits for an empty list", "rollup.run(NoDeadline(), only_waiting=True)",
         "rollup.run(NoDeadline())"),
    ),
    *seeded("metering/billing/closer.py", ("tests/unit/billing/test_months.py",),
        ("P34 a close waits for an empty list", "self.rollup.run(deadline, only_waiting=True)",
         "self.rollup.run(deadline)"),
    ),
    *seeded("metering/rollup/cleaner.py", _CLEANER,
        ("P22 the newest run of a roll-up expires", "runs = runs_before(self.items, chain, newest.number, first=first)",
         "runs = runs_before(self.items, chain, newest.number + 1, first=first)"),
        ("P31 all plans of a roll-up are deleted when one is old enough", "            if number > over:\n",
         "            if number > over + 1_000:\n"),
    ),
    *seeded("metering/rollup/adding.py", LAKE,
        ("P23 an update has no condition",
         """                set={newest: run.number},
                condition=not_yet,""", """                set={newest: run.number},"""),
        ("P23 an update lands again if its own number is in the item", "LessThan(attribute=newest, value=run.number)))",
         "LessThan(attribute=newest, value=run.number + 1)))"),
        ("P23 an update does not leave its number", "set={newest: run.number},", "set={},"),
        ("P3 a roll-up goes on over an update of unknown outcome",
         """            self.chain.retrier.call(lambda: self.chain.items.update(update))
        except ConditionFailedError as error:""",
         """            self.chain.items.update(update)
        except UnavailableError:
            return 0
        except ConditionFailedError as error:"""),
        ("P23 a commit is placed whether or not it waits", "yield [check, *puts[first : first + size]]",
         "yield puts[first : first + size]"),
        ("P2 a commit leaves the waiting list in the transaction that places it",
         """            yield [check, *puts[first : first + size]]""",
         """            gone = Delete(table=Table.LEDGER, key=key, condition=_WAITS)
            yield [gone if first + size >= len(puts) else check, *puts[first : first + size]]"""),
        ("P2 a commit leaves the waiting list before it is placed",
         """        for actions in self._transactions(commit, key):
            if not self._transact(actions):
                return
        gone = Delete(table=Table.LEDGER, key=key)
        self.retrier.call(lambda: self.items.delete(gone))
""",
         """        gone = Delete(table=Table.LEDGER, key=key)
        self.retrier.call(lambda: self.items.delete(gone))
        for actions in self._transactions(commit, key):
            self._transact(actions[1:])
"""),
        ("P45 two updates of one item under one run",
         """        for kind, totals in buckets.values():
            yield _key(hour, kind), totals
""",
         """        for kind, totals in buckets.values():
            for each, total in totals.items():
                yield _key(hour, kind), {each: total}
"""),
    ),
    *seeded("metering/lake/plan.py", LAKE,
        ("P24 a commit that still waits is compacted", "if out := self.commits.keys() & waiting():",
         "if out := self.commits.keys() & set():"),
    ),
    *seeded("metering/lake/compactor.py", LAKE,
        ("P24 what waits is listed before what is pending", "backlog = Backlog(self._pending(shard, turn), waiting)",
         "before = waiting()\n        backlog = Backlog(self._pending(shard, turn), lambda: before)"),
    ),
    *seeded("metering/commit/committer.py", WORLD,
        ("P16 the waiting entry is not in the transaction of its commit",
         """            self._items.transact(body.actions)
        except""",
         """            self._items.transact([a for a in body.actions if not a.key.pk.startswith("U#")])
            for action in body.actions:
                if action.key.pk.startswith("U#"):
                    self._items.put(action)
        except"""),
    ),
    *seeded("metering/commit/transaction.py", WORLD,
        ("P16 a worker does not look whether a month is closed",
         "return Check(table=Table.LEDGER, key=period_key(month), condition=_NOT_THERE)",
         "return Check(table=Table.LEDGER, key=period_key(f'{month}-never'), condition=_NOT_THERE)"),
    ),
    *seeded("metering/lake/view.py", LAKE,
        ("P25 a reader does not look at what waits",
         "waiting = [_waiting_source(entry, hour_s) for entry in self.waiting if entry.commit_id not in placed]",
         "waiting: list[RowSource] = []"),
        ("P25 a reader looks at what waits after the pointers",
         """            waiting = self._waiting(hour_s)
            pointers = self._pointers(hour_s)
""",
         """            pointers = self._pointers(hour_s)
            waiting = self._waiting(hour_s)
"""),
        ("P25 a commit that waits and is placed counts twice",
         "for entry in self.waiting if entry.commit_id not in placed]", "for entry in self.waiting]"),
        ("P37 a comparison collects what waits as well", "return replace(self, with_waiting=False)", "return self"),
    ),
    *seeded("metering/audit/freshness.py", ("tests/simulation/test_simulation.py",),
        ("P27 completeness goes on while a commit waits", "*_waiting(waiting, self._last()), ", ""),
    ),
    *seeded("metering/rollup/as_of_now.py", LAKE,
        ("P28 a report as of now does not look at the run again", "if _states(self._newest()) != _states(runs):",
         "if not runs:"),
        ("P28 a plan is added whether or not the item has its share", "absent=-1) < number:", "absent=-1) <= number:"),
        ("P28 what a plan has, counts as waiting too", "for each in waiting if each.commit_id not in planned.commits]",
         "for each in waiting]"),
    ),
    *seeded("metering/billing/closer.py", LAKE,
        ("P34 a close asks only what is pending", "return waits or any(", "return any("),
        ("P34 a close asks what is pending before what waits",
         """        waits = any(
            month_of(hour_s) == month for entry in waiting_commits(self.items, self.shards) for hour_s in entry.totals
        )
        return waits or any(
            month_of(hour_s) == month
            for shard in known_shards(self.items, self.shards)
            for item in pending_in(self.items, shard)
            for hour_s in Pending.from_item(item).hours
        )
""",
         """        pends = any(
            month_of(hour_s) == month
            for shard in known_shards(self.items, self.shards)
            for item in pending_in(self.items, shard)
            for hour_s in Pending.from_item(item).hours
        )
        return pends or any(
            month_of(hour_s) == month for entry in waiting_commits(self.items, self.shards) for hour_s in entry.totals
        )
"""),
    ),
    *seeded("metering/audit/settling.py", LAKE,
        ("P37 an item counts as settled while a run is in work on it",
         "return all(number <= done.get(shard, 0) for shard, number in runs.items())",
         "return all(number <= done.get(shard, 0) + 1 for shard, number in runs.items())"),
    ),
    *seeded("metering/audit/incremental.py", LAKE,
        ("P37 a look asks which runs are over after it has collected the rows",
         "            checks |= self._compared(rows, done)\n",
         "            done = self.figures.done_runs()\n"
        "            checks |= self._compared(rows, done)\n"),
    ),
    *seeded("metering/audit/reconciler.py", LAKE,
        ("P37 a second look asks which runs are over after it has collected the rows",
         """        made = HourComparison(hour_s=hour_s, done=self.figures.done_runs())
        placed = self.figures.placed(hour_s, accounts=accounts if alone else None)
""",
         """        placed = self.figures.placed(hour_s, accounts=accounts if alone else None)
        made = HourComparison(hour_s=hour_s, done=self.figures.done_runs())
"""),
    ),
    *seeded("metering/audit/repair.py", _REPAIR,
        ("P38 a repair does not look at the revision", "        yield from _same_revision(seen)\n", ""),
        ("P38 a repair does not leave the numbers of the runs that are over",
         "set={newest_run_of(shard): number for shard, number in self.runs.items() if number},", "set={},"),
        ("P38 a repair leaves the number of a run that is not over",
         "set={newest_run_of(shard): number for shard, number in self.runs.items() if number},",
         "set={newest_run_of(shard): number + 1 for shard, number in self.runs.items() if number},"),
        ("P38 a repair does not ask what later runs have in their plans",
         "if planned is None or place in planned or account_id in unsettled:",
         "if planned is None or account_id in unsettled:"),
    ),
    *seeded("metering/audit/restoring.py", _RESTORE,
        ("P41 a run of the lake that was planned is left as it is", "        self.resume()\n", ""),
        ("P41 what was placed and still waits stays placed", "            self._take_back(shard)\n", ""),
        ("P41 numbers of runs go on where the restored ledger is",
         "number = max(now_ms // 1000, 1 if newest is None else newest.number + 1)",
         "number = 1 if newest is None else newest.number + 1"),
    ),
    *seeded("metering/ledger/usage/kinds.py", _KINDS,
        ("P45 a number is read and then written", "item=item, condition=Absent())\n            for number",
         "item=item)\n            for number"),
        ("P45 an unknown number is skipped",
         """        kind = self.of(account_id).get(number) or self.read_whole(account_id).get(number)
        if kind is None:""",
         """        kind = self.of(account_id).get(number) or UsageKind("", "", "", "")
        if kind is None:"""),
    ),
    *seeded("metering/ledger/usage/kinds.py", _CLAIMS,
        ("P45 a plan relies on a number that is not sure",
         """            numbers = self._retrier.call(lambda: self._names.read(account_id))

    def _begin_claim""",
         """            numbers = {**numbers, **dict(enumerate(missing, start=max(numbers, default=-1) + 1))}

    def _begin_claim"""),
    ),
    *seeded("metering/audit/verifier.py", _VERIFY,
        ("verify asks only before whether all is at rest", "at_rest = at_rest and self._rest()[1]",
         "at_rest = at_rest"),
        ("verify takes a region in which a commit waits for one at rest", "if waiting == 0 and not self._waits():",
         "if waiting == 0:"),
    ),
)  # fmt: skip
