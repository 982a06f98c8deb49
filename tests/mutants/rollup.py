"""Seeded bugs of worker and roll-up: each breaks a rule of docs/protocol.md, from its table of traps."""

from __future__ import annotations

from tests.mutants.mutant import LAKE, WORLD, seeded

_CLAIMS = ("tests/simulation/test_matrix.py::test_a_lost_late_or_repeated_call_of_any_job_changes_nothing[blocks]",)
_REGION = ("tests/unit/rollup/test_region.py",)
_THROTTLES = ("tests/unit/commit/test_throttles.py",)

ROLLUP = (
    *seeded("metering/rollup/rollup.py", LAKE,
        ("P19 a roll-up lists what waits before it reads the newest run",
         """        try:
            plan = self._planner(shard).plan(turn.contradictions)
        except NotWaitingError:
            return True
        if plan is None:
            return False
        # Like""",
         """        try:
            plan = self._planner(shard).plan(turn.contradictions)
        except NotWaitingError:
            return True
        if plan is None:
            return False
        newest = chain.newest()
        # Like"""),
        ("P20 a roll-up works from its own plan", "self.metrics.count(metric_names.ROLLUP_RACE_LOST)\n        return",
         "own = chain.newest()\n            if own is not None:\n"
         "                self.objects.put(own.plan_key, plan.to_json(), if_absent=False)\n        return"),
        ("P21 a run is done before its commits have left the list",
         "        for part in self._parts(plan.commits, turn):\n"
         "            do_all(placing.place, part, threads=self.threads)\n        chain.finish(run)\n",
         "        chain.finish(run)\n        for part in self._parts(plan.commits, turn):\n"
         "            do_all(placing.place, part, threads=self.threads)\n"),
        ("P23 commits are placed before all of the run is added", "full = len(plan.commits) >= self.policy.commits\n",
         "full = len(plan.commits) >= self.policy.commits\n"
         "        early = Placing(shard=run.shard, items=self.items, retrier=self.retrier, "
         "actions=self.limits.transaction)\n        do_all(early.place, plan.commits, threads=1)\n")),
    *seeded("metering/rollup/region.py", _REGION,
        ("P51 the canary counts in the region's totals", "for hour in plan.hours} - {CANARY_ACCOUNT_ID}",
         "for hour in plan.hours}"),
        ("P51 runs of an earlier release are left out", "if start is None or number <= start.runs.get(shard, 0):",
         "if start is None or number:"),
        ("P51 runs of an earlier release are added newest first", "for run in missing):",
         "for run in reversed(missing)):"),
        ("P51 a start goes on although runs are gone", "if len(missing) == number + 1 - first and all(", "if all("),
        ("P51 a plan that is gone counts as added", "        if body is None:\n            return False\n",
         "        if body is None:\n            return True\n")),
    *seeded("metering/rollup/rollup.py", _REGION,
        ("P51 a run begins before the run before it is added",
         "        self.region.complete(chain, run.shard, run.number - 1)\n", ""),
        ("P51 the start is not set", "        self.region.mark(run.shard, run.number)\n", ""),
        ("P51 numbers are claimed after the plan was put", "        self.region.prepare(plan)\n", "")),
    *seeded("metering/rollup/as_of_now.py", _REGION,
        ("P51 a reader does not ask whether the region's totals have all runs",
         "raise RegionIncompleteError\n            look", "pass\n            look"),
        ("P51 a plan of an earlier release is read as if its numbers were sure", "if not plan.region:", "if False:")),
    *seeded("metering/ledger/usage/region.py", _REGION,
        ("P51 the canary is in the region's sums", "if key.account_id != CANARY_ACCOUNT_ID:", "if True:"),
        ("P51 a start counts a run that is only planned", """newest.number - (newest.state == "planned")""",
         "newest.number"),
        ("P51 a start says hours in which earlier runs booked", "NEVER if any(runs.values()) else 0", "0"),
        ("P51 a late start replaces a newer one", "Absent() if instead_of is None else instead_of.unchanged", "None")),
    *seeded("metering/ledger/usage/kinds.py", _REGION,
        ("P52 an account is taken as listed before it is put",
         "        clock.do_all(self._enlist, missing, threads=threads)\n", "")),
    *seeded("metering/ledger/runs.py", LAKE,
        ("P20 a run is put over another one of its number", "=run.to_item(), condition=Absent()", "=run.to_item()")),
    *seeded("metering/rollup/rollup.py", ("tests/unit/rollup/test_rollup.py",),
        ("P34 later commits keep a roll-up that was asked for what waits",
         "placed = awaited is not None and not self._still_waits(awaited)", "placed = False"),
        ("P34 a roll-up ends while what waited is in a run that is not done",
         """if placed and (newest is None or newest.state == "done"):""", "if placed:"),
        ("P34 a roll-up ends when a part of what waited is placed", "= there\n", "= []\n")),
    *seeded("metering/cli/commands/analyst/lake.py", ("tests/unit/cli/test_lake.py",),
        ("P34 metering compact waits for an empty list", "run(NoDeadline(), only_waiting=True)", "run(NoDeadline())")),
    *seeded("metering/cli/commands/operator/verify.py", ("tests/unit/cli/test_lake.py",),
        ("P34 metering verify --wait waits for an empty list", "(NoDeadline(), only_waiting=True)", "(NoDeadline())")),
    *seeded("metering/billing/closer.py", ("tests/unit/billing/test_months.py",),
        ("P34 a close waits for an empty list", "rollup.run(deadline, only_waiting=True)", "rollup.run(deadline)")),
    *seeded("metering/rollup/cleaner.py", ("tests/unit/rollup/test_rollup_cleaner.py", *LAKE),
        ("P22 the newest run of a roll-up expires", "items, chain, newest.number,", "items, chain, newest.number + 1,"),
        ("P31 all plans of a roll-up are deleted when one is old enough", "number > over:", "number > over + 1_000:")),
    *seeded("metering/rollup/adding.py", LAKE,
        ("P23 an update has no condition", ",\n                condition=not_yet,", ","),
        ("P23 an update lands again if its own number is in the item", "value=run.number", "value=run.number + 1"),
        ("P23 an update does not leave its number", "set={newest: run.number},", "set={},"),
        ("P3 a roll-up goes on over an update of unknown outcome",
         "self.chain.retrier.call(lambda: self.chain.items.update(update))\n        except",
         "self.chain.items.update(update)\n        except UnavailableError:\n            return 0\n        except"),
        ("P23 a commit is placed whether or not it waits", "yield [check, *puts[first : first + size]]",
         "yield puts[first : first + size]"),
        ("P2 a commit leaves the waiting list in the transaction that places it",
         """            yield [check, *puts[first : first + size]]""",
         """            gone = Delete(table=Table.LEDGER, key=key, condition=_WAITS)
            yield [gone if first + size >= len(puts) else check, *puts[first : first + size]]"""),
        ("P2 a commit leaves the waiting list before it is placed",
         "for actions in self._transactions(commit, key):\n"
         "            if not self.retrier.transact(self.items, actions):\n                return\n"
         "        gone = Delete(table=Table.LEDGER, key=key)\n"
         "        self.retrier.call(lambda: self.items.delete(gone))\n",
         "gone = Delete(table=Table.LEDGER, key=key)\n        self.retrier.call(lambda: self.items.delete(gone))\n"
         "        for actions in self._transactions(commit, key):\n"
         "            self.retrier.transact(self.items, actions[1:])\n"),
        ("P45 two updates of one item under one run", "():\n            yield _key(hour, kind), totals",
         "():\n            for each, total in totals.items():\n                yield _key(hour, kind), {each: total}")),
    *seeded("metering/lake/plan.py", LAKE,
        ("P24 a commit that still waits is compacted", "self.commits.keys() & waiting", "self.commits.keys() & set")),
    *seeded("metering/lake/compactor.py", LAKE,
        ("P24 what waits is listed before what is pending", "backlog = Backlog(self._pending(shard, turn), waiting)",
         "before = waiting()\n        backlog = Backlog(self._pending(shard, turn), lambda: before)")),
    *seeded("metering/commit/committer.py", WORLD,
        ("P16 the waiting entry is not in the transaction of its commit", "(body.actions)\n",
         '([a for a in body.actions if not a.key.pk.startswith("U#")])\n            for action in body.actions:\n'
         '                if action.key.pk.startswith("U#"):\n                    self._items.put(action)\n')),
    *seeded("metering/commit/transaction.py", WORLD,
        ("P16 a worker does not look whether a month is closed", "=period_key(month)",
         "=period_key(f'{month}-never')")),
    *seeded("metering/lake/view.py", LAKE,
        ("P25 a reader does not look at what waits",
         "waiting = [_waiting_source(entry, hour_s) for entry in self.waiting if entry.commit_id not in placed]",
         "waiting: list[booked_hours.RowSource] = []"),
        ("P25 a reader looks at what waits after the pointers",
         "            waiting = self._waiting(hour_s)\n            pointers = self._pointers(hour_s)\n",
         "            pointers = self._pointers(hour_s)\n            waiting = self._waiting(hour_s)\n"),
        ("P25 a commit that waits and is placed counts twice", "waiting if entry.commit_id not in placed", "waiting"),
        ("P37 a comparison collects what waits as well", "return replace(self, with_waiting=False)", "return self")),
    *seeded("metering/audit/freshness.py", ("tests/simulation/test_simulation.py",),
        ("P27 completeness goes on while a commit waits", "*_waiting(waiting, self._last()), ", "")),
    *seeded("metering/rollup/as_of_now.py", LAKE,
        ("P28 a report as of now does not look at the run again", "if _states(self._newest()) != _states(runs):",
         "if not runs:"),
        ("P28 a plan is added whether or not the item has its share", "absent=-1) < number:", "absent=-1) <= number:"),
        ("P28 what a plan has, counts as waiting too", "waiting if each.commit_id not in planned.commits", "waiting")),
    *seeded("metering/billing/closer.py", LAKE,
        ("P34 a close asks only what is pending", "return waits or any(", "return any("),
        ("P34 a close asks what is pending before what waits",
         "        waits = any(\n"
         "            month_of(hour_s) == month for entry in waiting_commits(self.items, self.shards) for hour_s in "
         "entry.totals\n        )\n        return waits or any(\n            month_of(hour_s) == month\n"
         "            for shard in known_shards(self.items, self.shards)\n"
         "            for item in booked_hours.pending_in(self.items, shard)\n"
         "            for hour_s in booked_hours.Pending.from_item(item).hours\n        )\n",
         "        pends = any(\n            month_of(hour_s) == month\n"
         "            for shard in known_shards(self.items, self.shards)\n"
         "            for item in booked_hours.pending_in(self.items, shard)\n"
         "            for hour_s in booked_hours.Pending.from_item(item).hours\n        )\n"
         "        return pends or any(\n"
         "            month_of(hour_s) == month for entry in waiting_commits(self.items, self.shards) for hour_s in "
         "entry.totals\n        )\n")),
    *seeded("metering/audit/settling.py", LAKE,
        ("P37 an item counts as settled while a run is in work on it", "get(shard, 0) for", "get(shard, 0) + 1 for")),
    *seeded("metering/audit/incremental.py", LAKE,
        ("P37 a look asks which runs are over after it has collected the rows", "checks |= self._compared(rows, done)",
         "done = self.figures.done_runs()\n            checks |= self._compared(rows, done)")),
    *seeded("metering/audit/reconciler.py", LAKE,
        ("P37 a second look asks which runs are over after it has collected the rows",
         "        made = HourComparison(hour_s=hour_s, done=self.figures.done_runs())\n"
         "        placed = self.figures.placed(hour_s, accounts=accounts if alone else None)\n",
         "        placed = self.figures.placed(hour_s, accounts=accounts if alone else None)\n"
         "        made = HourComparison(hour_s=hour_s, done=self.figures.done_runs())\n")),
    *seeded("metering/audit/repair.py", ("tests/simulation/test_repair.py", *LAKE),
        ("P38 a repair does not look at the revision", "        yield from _same_revision(seen)\n", ""),
        ("P38 a repair does not leave the numbers of the runs that are over",
         "set={newest_run_of(shard): number for shard, number in self.runs.items() if number},", "set={},"),
        ("P38 a repair leaves the number of a run that is not over", "(shard): number for", "(shard): number + 1 for"),
        ("P38 a repair does not ask what later runs have in their plans", "None or place in planned or ", "None or ")),
    *seeded("metering/ledger/usage/kinds.py", ("tests/unit/ledger/usage/test_kinds.py", *LAKE),
        ("P45 a number is read and then written", "item=item, condition=Absent())\n            for number",
         "item=item)\n            for number"),
        ("P45 an unknown number is skipped", "self.read_whole(account_id).get(number)", 'UsageKind("", "", "", "")')),
    *seeded("metering/ledger/usage/kinds.py", _CLAIMS,
        ("P45 a plan relies on a number that is not sure", "= self._retrier.call(lambda: self._names.read(account_id))",
         "= {**numbers, **dict(enumerate(missing, start=max(numbers, default=-1) + 1))}")),
    *seeded("metering/audit/verifier.py", ("tests/simulation/test_verify.py",),
        ("verify asks only before whether all is at rest", "= at_rest and self._rest()[1]", "= at_rest"),
        ("verify takes a region in which a commit waits for one at rest", "== 0 and not self._waits():", "== 0:")),
    *seeded("metering/commit/committer.py", _THROTTLES,
        ("P17 a throttled commit is halved", "THROTTLED if error.throttled else _Reply.UNKNOWN\n", "UNKNOWN\n"),
        ("P17 a call that is throttled as a whole is taken for an unknown outcome",
         "        except ThrottledError:\n            return _Reply.THROTTLED\n", ""),
        ("P17 new objects while the table is short of writes", "if self._throttles.pausing:\n", "if False:\n"),
        ("P17 a throttled commit is sent again without a pause", "is None or self._throttles.pausing:", "is None:")),
    *seeded("metering/errors.py", _THROTTLES,
        ("P17 a conflict is taken for a throttle", "reason[0] in _THROTTLES", 'reason[0] != "ConditionalCheckFailed"')),
    *seeded("metering/commit/throttling.py", _THROTTLES,
        ("P17 a throttled commit is thrown away", "self._body = self._body or body\n", "self._body = None\n"),
        ("P17 the receives of a message end within half an hour", "180), (300, 420), (390,",
         "180), (120, 420), (120,")),
    *seeded("metering/commit/aggregator.py", _THROTTLES,
        ("P17 throttled messages come back at once",
         "hide_s=self._hidden(deliveries, retry) if invocation.tally.throttled else {}", "hide_s={}")),
    *seeded("lambdas/aggregator/handler.py", ("tests/unit/lambdas/test_queue_handlers.py",),
        ("P17 a message is hidden for longer than its queue hides it", "min(seconds, longest_s)", "seconds")),
    *seeded("metering/commit/transaction.py", ("tests/unit/commit/test_packing.py",),
        ("P14 ended months take no place in a transaction", "+ months + actions > budget.", "+ actions > budget."),
        ("P14 the size of items is not asked",
         "            or item_bytes + 2 * len(hours) * _HOUR_BYTES > budget.items_bytes\n", "")),
    *seeded("metering/commit/transaction.py", _THROTTLES,
        ("P16 sent_at of a commit is that of its last message", "return min", "return max")),
)  # fmt: skip
