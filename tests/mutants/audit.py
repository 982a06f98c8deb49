"""Seeded bugs of the audit: scans in parts, account days, repairs, freshness, figures of jobs."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_RECONCILE = (
    "tests/unit/audit/test_reconcile.py",
    "tests/unit/audit/test_reconcile_tick.py",
    "tests/unit/audit/test_account_days.py",
    "tests/unit/audit/test_census.py",
)
_REBUILD = ("tests/unit/audit/test_rebuild.py", "tests/unit/audit/test_repair.py")
_MARKERS = ("tests/unit/audit/test_rebuild_markers.py",)
_CLOSE = ("tests/unit/billing/test_months.py", "tests/unit/billing/test_closing_races.py")
_WATCH = ("tests/unit/operations/test_watch.py",)
_RECENT = ("tests/unit/audit/test_recent.py",)
_SUSPECTS = ("tests/unit/audit/test_suspects.py",)
_VERIFY = (
    "tests/unit/audit/test_verify.py",
    "tests/unit/audit/test_verification.py",
    "tests/simulation/test_verify.py",
)
_DROPS = ("tests/unit/audit/test_drops.py",)
_RECONCILER = ("tests/unit/lambdas/test_lake_handlers.py",)
_COMPACTOR = _RECONCILER
_CLEANING = ("tests/unit/lake/test_compaction.py", "tests/unit/rollup/test_rollup_cleaner.py")
_MONTH_CHECK = ("tests/unit/audit/test_month_check.py",)
_FRESHNESS = ("tests/unit/audit/test_freshness.py",)

AUDIT = (
    Mutant(
        name="P27 a report is complete although commits wait for the roll-up",
        path="metering/audit/freshness.py",
        old="holds = [*undecided.holds(looked), *_waiting(waiting, self._last()),",
        new="holds = [*undecided.holds(looked),",
        suites=_FRESHNESS,
    ),
    Mutant(
        name="P27 what waits and was not read holds nothing back",
        path="metering/audit/freshness.py",
        old="since_s = min(since_s, 0 if last is None else last.through_s)",
        new="pass",
        suites=_FRESHNESS,
    ),
    Mutant(
        name="P34 a close does not ask what waits",
        path="metering/billing/closer.py",
        old="return waits or any(",
        new="return any(",
        suites=_CLOSE,
    ),
    Mutant(
        name="P37 usage that a later run has booked in is compared",
        path="metering/audit/settling.py",
        old="return all(number <= done.get(shard, 0) for shard, number in runs.items())",
        new="return True",
        suites=_RECONCILE,
    ),
    Mutant(
        name="P37 usage is compared with what waits, too",
        path="metering/audit/incremental.py",
        old="placed = self.view.placed",
        new="placed = self.view",
        suites=_RECONCILE,
    ),
    Mutant(
        name="P37 the done runs are read after the rows",
        path="metering/audit/reconciler.py",
        old="        done = settled_runs(self.items, self.shards)\n"
        "        placed = self.placed(hour_s, accounts=accounts if alone else None)\n",
        new="        placed = self.placed(hour_s, accounts=accounts if alone else None)\n"
        "        done = settled_runs(self.items, self.shards)\n",
        suites=_RECONCILE,
    ),
    Mutant(
        name="P37 a difference is confirmed although its items were written meanwhile",
        path="metering/audit/hour_check.py",
        old="return _revisions(self.seen, place) == _revisions(earlier.seen, place)",
        new="return True",
        suites=_RECONCILE,
    ),
    Mutant(
        name="P38 a kind's own item is repaired although it has a number by now",
        path="metering/audit/repair.py",
        old="self.items.transact([correction.update, check])",
        new="self.items.update(correction.update)",
        suites=_REBUILD,
    ),
    Mutant(
        name="P39 usage of a closed month is repaired to what the lake has now",
        path="metering/audit/rebuild.py",
        old="if not work.frozen.is_closed(hour_s):\n            return None if self._is_damaged",
        new="if True:\n            return None if self._is_damaged",
        suites=_REBUILD,
    ),
    Mutant(
        name="P39 usage is repaired to a frozen object that was changed",
        path="metering/audit/repair.py",
        old='self._sound[hour_s] = digest == frozen.digest if frozen is not None else digest != "none"',
        new='self._sound[hour_s] = digest != "none"',
        suites=_REBUILD,
    ),
    Mutant(
        name="usage is repaired to files that do not hold what was accepted",
        path="metering/audit/rebuild.py",
        old="return hour_s in work.damaged\n",
        new="return False\n",
        suites=_REBUILD,
    ),
    Mutant(
        name="P40 a rebuilt marker has one hour of its batch",
        path="metering/audit/rebuild.py",
        old="found.setdefault(batch_id, {})[hour_s] =",
        new="found[batch_id] = {}; found[batch_id][hour_s] =",
        suites=_MARKERS,
    ),
    Mutant(
        name="P40 a rejected marker is taken for an accepted one",
        path="metering/audit/rebuild.py",
        old=' if item.get("verdict") == "accepted"}',
        new="}",
        suites=_MARKERS,
    ),
    Mutant(
        name="P40 a rebuilt marker has what the first reading has found",
        path="metering/audit/rebuild.py",
        old="            for hour_s in self.view.hours(from_s=from_s):\n                self._collect",
        new="            for hour_s in self.view.hours(from_s=from_s)[1:]:\n                self._collect",
        suites=_MARKERS,
    ),
    Mutant(
        name="P40 of the missing batches only a part gets its markers",
        path="metering/audit/rebuild.py",
        old="% parts == part",
        new="% parts == 0",
        suites=_MARKERS,
    ),
    Mutant(
        name="rebuild markers reads the rows twice although nothing is missing",
        path="metering/audit/rebuild.py",
        old="if not missing.lines:",
        new="if missing.lines < 0:",
        suites=_MARKERS,
    ),
    Mutant(
        name="rebuild markers counts a batch in each of its hours",
        path="metering/audit/rebuild.py",
        old="elif _first_hour(found[batch_id], first, label) == label:",
        new="else:",
        suites=_MARKERS,
    ),
    Mutant(
        name="the newest hours starve what waits the longest",
        path="metering/audit/incremental.py",
        old="for order, until_ms in ((newest, self.turn_ms), (oldest, self.end_ms)):",
        new="for order, until_ms in ((newest, self.end_ms),):",
        suites=_RECONCILE,
    ),
    Mutant(
        name="a cell of a scan takes one number of each key",
        path="metering/audit/settling.py",
        old="self.value = (self.value + (of_both >> 128) * size + (of_both & _HALF) * records) % _PRIME",
        new="self.value = (self.value + size + records) % _PRIME",
        suites=("tests/unit/audit/test_month_check.py", *_RECONCILE),
    ),
    Mutant(
        name="what differs in a part of a scan is not looked at",
        path="metering/audit/findings.py",
        old="accounts=state.placed.differing(state.usage, hour_s),\n",
        new="accounts=frozenset(),\n",
        suites=_RECONCILE,
    ),
    Mutant(
        name="P37 the rows of a scan are listed before its markers are read",
        path="metering/audit/census.py",
        old="""            self._markers(state, limit, tell)
            self._begin_rows(state)
""",
        new="""            self._begin_rows(state)
            hours = state.hours
            state.begin("markers")
            self._markers(state, limit, tell)
            state.hours = hours
            state.begin("rows")
""",
        # Elsewhere a scan that goes on would never end.
        suites=("tests/unit/audit/test_census.py",),
    ),
    Mutant(
        name="a marker that came during a scan of totals is compared",
        path="metering/audit/census.py",
        old="if marker.decided_at_ms > state.began_ms and not state.deep:",
        new="if False:",
        suites=_RECONCILE,
    ),
    Mutant(
        name="one look at what differs is enough",
        path="metering/audit/reconciler.py",
        old="""                confirmed = again.confirmed(found[hour_s])
""",
        new="""                confirmed = found[hour_s] if found[hour_s].differences else None
""",
        suites=_RECONCILE,
    ),
    Mutant(
        name="what only a scan finds is forgotten by the next quick pass",
        path="metering/audit/reconciler_tick.py",
        old="suspects=suspects,",
        new="suspects={},",
        suites=_SUSPECTS,
    ),
    Mutant(
        name="what nobody had time to look at is forgotten",
        path="metering/audit/reconciler_tick.py",
        old="for hour_s in (*result.unjudged, *unnamed)",
        new="for hour_s in unnamed",
        suites=_SUSPECTS,
    ),
    Mutant(
        name="names that the work list has no room for are forgotten",
        path="metering/audit/reconciler_tick.py",
        old="for hour_s in (*result.unjudged, *unnamed)",
        new="for hour_s in result.unjudged",
        suites=_SUSPECTS,
    ),
    Mutant(
        name="runs that the work list has no room for have no age",
        path="metering/audit/incremental.py",
        old=".plus(unlisted),",
        new=",",
        suites=_SUSPECTS,
    ),
    Mutant(
        name="usage that no run can have booked is left to be published",
        path="metering/audit/reconciler.py",
        old="run is not None and number <= run.number",
        new="run is not None",
        suites=_SUSPECTS,
    ),
    Mutant(
        name="a commit that waits is recent although a run has taken it",
        path="metering/audit/census.py",
        old="for commit_id in taken & waiting.keys():",
        new="for commit_id in ():",
        suites=_RECENT,
    ),
    Mutant(
        name="what a run took is forgotten although its commits are still listed",
        path="metering/audit/census.py",
        old='if run.state == "done"]\n',
        new="]\n",
        suites=_RECENT,
    ),
    Mutant(
        name="a scan looks at all usage that was not settled",
        path="metering/audit/reconciler.py",
        old="doubt if settle else doubt.settled",
        new="doubt",
        suites=_SUSPECTS,
    ),
    Mutant(
        name="verify is settled although an hour moves",
        path="metering/audit/verifier.py",
        old="stable=at_rest and not total.unstable,",
        new="stable=at_rest,",
        suites=_VERIFY,
    ),
    Mutant(
        name="sums of many groups are summed again with each part",
        path="metering/lake/parquet/reader.py",
        old="self._most_rows = max(_PARTIAL_ROWS, int(self._rows * _GROWTH))",
        new="self._most_rows = _PARTIAL_ROWS",
        suites=("tests/unit/lake/test_sums.py",),
    ),
    Mutant(
        name="an hour of many keys is held with the next one",
        path="metering/audit/incremental.py",
        old="len(rows) < HOURS_AT_ONCE and keys < KEYS_AT_ONCE:",
        new="len(rows) < HOURS_AT_ONCE:",
        suites=_RECONCILE,
    ),
    Mutant(
        name="rows that wait for the roll-up are all that a scan counts of an hour",
        path="metering/audit/census.py",
        old="            self.cells.add(self.hour_s, str(name), str(name), rows)\n",
        new="            self.cells.add(self.hour_s, str(name), str(name), rows)\n        self.total = Total(0, 0)\n",
        suites=_RECONCILE,
    ),
    Mutant(
        name="a number that is far from the first one of its source is another one",
        path="metering/audit/sequences.py",
        old="return self._offsets.append(value - self._first)",
        new="return self._offsets.append((value - self._first) & 0x7FFF)",
        suites=("tests/unit/audit/test_source_keeping.py",),
    ),
    Mutant(
        name="a scan that goes on begins its rows anew",
        path="metering/audit/census.py",
        old="for hour_s in state.hours[state.done :]:",
        new="for hour_s in state.hours:",
        suites=_RECONCILE,
    ),
    Mutant(
        name="commits that came during a scan make its hours differ",
        path="metering/audit/census.py",
        old="return total.minus(came)",
        new="return total",
        suites=_RECONCILE,
    ),
    Mutant(
        name="a scan that does not come to its end is not overdue",
        path="metering/operations/watch.py",
        old="max(self._now_s() - (known.scan_due_s or state.first_s), 0)",
        new="max(self._now_s() - (known.scan_due_s or self._now_s()), 0)",
        suites=_WATCH,
    ),
    Mutant(
        name="a compactor that does not look any more leaves nothing",
        path="metering/operations/watch.py",
        old="since for since, fresh in zip(since_ms, unsure, strict=True) if not fresh",
        new="look.oldest_ms for look in looks if look.oldest_ms is not None",
        suites=_WATCH,
    ),
    Mutant(
        name="verify judges batches in an hour that moves",
        path="metering/audit/verifier.py",
        old="and moving.isdisjoint(markers[batch_id].hours)",
        new="and markers[batch_id]",
        suites=_VERIFY,
    ),
    Mutant(
        name="verify takes bytes under another usage key than they were sent for right",
        path="metering/audit/verifier.py",
        old="if content.unaccounted != Fingerprint() and",
        new="if content.unaccounted.total != ZERO and",
        suites=_VERIFY,
    ),
    Mutant(
        name="verify looks for late records in the hour that they are booked in",
        path="metering/audit/verifier.py",
        old=".add(_own(key), ZERO.minus(found))",
        new=".add(key, ZERO.minus(found))",
        suites=_VERIFY,
    ),
    Mutant(
        name="verify takes what is counted twice for lost",
        path="metering/audit/verifier.py",
        old="(lost if less else doubled).append(difference.batch_id)",
        new="lost.append(difference.batch_id)",
        suites=_VERIFY,
    ),
    Mutant(
        name="the check of a month takes the totals beside the files for its rows",
        path="metering/audit/reconciler.py",
        old="deep=True, sources",
        new="deep=False, sources",
        suites=_MONTH_CHECK,
    ),
    Mutant(
        name="the check of a month takes what another scan counted",
        path="metering/audit/reconciler.py",
        old="if not (state.deep and state.digests) or",
        new="if not state.deep or",
        suites=_MONTH_CHECK,
    ),
    Mutant(
        name="the check of a month saves nothing",
        path="metering/audit/reconciler.py",
        old="            keep(now)\n",
        new="",
        suites=_MONTH_CHECK,
    ),
    Mutant(
        name="a close does not go on with what was counted",
        path="metering/billing/closer.py",
        old="check.run(tell, counted=counted, keep=keep)",
        new="check.run(tell, keep=keep)",
        suites=_CLOSE,
    ),
    Mutant(
        name="a close takes a scan that began while its month took bookings",
        path="metering/cli/printing/scan_file.py",
        old="if (of := _named(head)) not in (None, self._of):",
        new="of = _named(head)\n        if of and (of.region, of.stage) != (self._of.region, self._of.stage):",
        suites=("tests/unit/cli/test_scan_file.py",),
    ),
    Mutant(
        name="an hour in doubt is frozen",
        path="metering/audit/reconciler.py",
        old="for hour_s, (check, doubt) in checks.items() if not doubt}",
        new="for hour_s, (check, doubt) in checks.items()}",
        suites=_MONTH_CHECK,
    ),
    Mutant(
        name="lost objects: what was not compared with quarantine is lost",
        path="metering/audit/drops.py",
        old="            except OutOfTimeError:\n                return known\n",
        new="            except OutOfTimeError:\n                found = unknown\n",
        suites=_DROPS,
    ),
    Mutant(
        name="lost objects: a look at quarantine has no end",
        path="metering/audit/drops.py",
        old="            if deadline.remaining_ms() <= _RESERVE_MS:\n                raise OutOfTimeError",
        new="            if deadline.remaining_ms() < 0:\n                raise OutOfTimeError",
        suites=_DROPS,
    ),
    Mutant(
        name="lost objects: all of quarantine is read",
        path="metering/audit/conservation.py",
        old="if info.modified_s >= since_s:",
        new="if info.modified_s >= 0:",
        suites=_DROPS,
    ),
    Mutant(
        name="lost objects: what was refused while quarantine was read is never read",
        path="metering/audit/drops.py",
        old="self.read_to_s = began_s - SETTLES_S",
        new="self.read_to_s = began_s + SETTLES_S",
        suites=_DROPS,
    ),
    Mutant(
        name="lost objects: a pass reads of quarantine what is new for those that it named",
        path="metering/audit/drops.py",
        old="        if known.upto_s:\n            since_s.append(known.from_s)\n",
        new="",
        suites=_DROPS,
    ),
    Mutant(
        name="lost objects: quarantine is read where nobody is refused",
        path="metering/audit/drops.py",
        old="if not may_be_refused(check.items):",
        new="if not check.items:",
        suites=_DROPS,
    ),
    Mutant(
        name="hours that cannot be reconciled stop the look for lost objects",
        path="lambdas/reconciler/handler.py",
        old="except MeteringError as error:",
        new="except ZeroDivisionError as error:",
        suites=_RECONCILER,
    ),
    Mutant(
        name="a busy compactor leaves the cleaners nothing",
        path="lambdas/compactor/handler.py",
        old="compactor.run(_leaving(deadline, _FOR_CLEANERS), shard=shard)",
        new="compactor.run(deadline, shard=shard)",
        suites=_COMPACTOR,
    ),
    Mutant(
        name="a busy cleaner leaves the search for orphans nothing",
        path="lambdas/compactor/handler.py",
        old="deadline if shard else _leaving(deadline, _FOR_OTHERS)",
        new="deadline",
        suites=_COMPACTOR,
    ),
    Mutant(
        name="a run that cannot be cleaned is not overdue",
        path="metering/lake/cleaner.py",
        old="                        commits += self._clean(due[0])\n                        due.popleft()\n",
        new="                        commits += self._clean(due.popleft())\n",
        suites=_CLEANING,
    ),
    Mutant(
        name="the oldest run that is left is not the one that is overdue",
        path="metering/lake/cleaner.py",
        old="left[0].done_at_ms",
        new="left[-1].done_at_ms",
        suites=_CLEANING,
    ),
    Mutant(
        name="plans that are left are not overdue",
        path="metering/rollup/cleaner.py",
        old="more = len(cleaned) == _MOST_RUNS",
        new="more = False",
        suites=_CLEANING,
    ),
    Mutant(
        name="a cleaner that does not look any more has left nothing",
        path="metering/operations/watch.py",
        old="if look.due_ms is not None or look.looked_s <= late_s",
        new="if look.due_ms is not None",
        suites=_WATCH,
    ),
    Mutant(
        name="a pass over what is new is a search for all orphans",
        path="metering/operations/watch.py",
        old="whole_s = passes.whole_s or",
        new="whole_s = passes.seen_to_s or",
        suites=_WATCH,
    ),
)
