"""Seeded bugs: one-line changes of production code, each of which the suites must find.

Most come from the traps of docs/protocol.md: each was tried by somebody, and fails.
"""

from __future__ import annotations

from dataclasses import dataclass

WORLD = ("tests/unit/usecases", "tests/simulation/test_simulation.py", "tests/simulation/test_matrix.py")
LAKE = (
    "tests/simulation/test_interleavings.py",
    "tests/simulation/test_repair.py",
    "tests/simulation/test_simulation.py",
    "tests/simulation/test_matrix.py",
)
SOURCES = ("tests/unit/usecases/test_source_keeping.py",)
UNDECIDED = ("tests/unit/usecases/test_undecided.py",)
CONTENT = ("tests/property/test_content_identity.py",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One seeded bug.

    Attributes:
        old: Text that is there exactly once in `path`.
        suites: Where it is looked for, in this order.
    """

    name: str
    path: str
    old: str
    new: str
    suites: tuple[str, ...] = WORLD


_USECASES = "metering/usecases/"
_DOMAIN = "metering/domain/"

MUTANTS = (
    Mutant(
        name="bare ADD: markers are put whatever is there",
        path=_USECASES + "transaction.py",
        old="item=marker.to_item(), condition=_NO_VERDICT_OR_REJECTED)",
        new="item=marker.to_item())",
    ),
    Mutant(
        name="a marker of a refused batch cannot be replaced",
        path=_USECASES + "transaction.py",
        old='AnyOf((Absent(), Equals(attribute="verdict", value="rejected")))',
        new="AnyOf((Absent(), Absent()))",
    ),
    Mutant(
        name="the commit item is put whatever is there",
        path=_USECASES + "transaction.py",
        old="return Put(table=Table.LEDGER, item=record.to_item(), condition=_NOT_THERE)",
        new="return Put(table=Table.LEDGER, item=record.to_item())",
    ),
    Mutant(
        name="a fenced commit counts as landed",
        path=_USECASES + "transaction.py",
        old='landed=_state(failed[0]) != "aborted"',
        new="landed=True",
    ),
    Mutant(
        name="commit without asking whether the month is closed",
        path=_USECASES + "transaction.py",
        old="for month in self._months]",
        new="for month in ()]",
    ),
    Mutant(
        name="acknowledge what has no verdict",
        path=_USECASES + "aggregate.py",
        old="retry=invocation.tally.put_back",
        new="retry=()",
    ),
    Mutant(
        name="other content is decided although the first has no verdict",
        path=_USECASES + "aggregate.py",
        old="undecided |= {content.group for content in ready if content.verdict is Verdict.PUT_BACK}",
        new="undecided |= set()",
        suites=("tests/unit/usecases/test_aggregate.py", *WORLD),
    ),
    Mutant(
        name="objects are written after the transaction",
        path=_USECASES + "commit.py",
        old="""            self._write_objects(body)
        except UnavailableError:
            return _put_back(plan, invocation)
        reply = self._send(body, invocation.deadline)""",
        new="""            reply = self._send(body, invocation.deadline)
            self._write_objects(body)
        except UnavailableError:
            return _put_back(plan, invocation)""",
    ),
    Mutant(
        name="swallow a failed write and go on",
        path=_USECASES + "commit.py",
        old="""            self._write_objects(body)
        except UnavailableError:
            return _put_back(plan, invocation)""",
        new="""            self._write_objects(body)
        except UnavailableError:
            pass""",
    ),
    Mutant(
        name="an unknown outcome is a success",
        path=_USECASES + "commit.py",
        old="                return _Reply.UNKNOWN\n",
        new="                return _Reply.LANDED\n",
    ),
    Mutant(
        name="commit ids follow from content",
        path=_USECASES + "commit.py",
        old="build_commit(plan, self._entropy.token(), now_ms",
        new="build_commit(plan, plan.batches[0].batch.content_hash, now_ms",
    ),
    Mutant(
        name="no write-ahead object before the claim",
        path=_USECASES + "commit.py",
        old="        if body.write_ahead is not None:\n            self._put(",
        new="        if body.write_ahead is None:\n            self._put(",
    ),
    Mutant(
        name="messageId as identity",
        path=_USECASES + "contents.py",
        old="groups.setdefault(fresh.group, {})",
        new='groups.setdefault((copy.delivery.message_id, ""), {})',
    ),
    Mutant(
        name="a correction does not name what it corrects",
        path=_USECASES + "booking.py",
        old="return key._replace(hour_s=now_hour_s, corrects_s=key.hour_s)",
        new="return key._replace(hour_s=now_hour_s)",
    ),
    Mutant(
        name="usage counts in the hour of the worker's clock",
        path=_USECASES + "booking.py",
        old="if month_of(hour_s) in closed} if closed else {}",
        new="if hour_s != now_hour_s}",
    ),
    Mutant(
        name="a chunk is applied without its condition",
        path=_USECASES + "finish.py",
        old='AllOf((Equals(attribute="state", value="open"), Equals(attribute="next", value=number)))',
        new='AllOf((Equals(attribute="chunks", value=work.ahead.chunks),))',
    ),
    Mutant(
        name="a commit is applied before its last chunk",
        path=_USECASES + "finish.py",
        old='({"state": "applied"} if number + 1 == work.ahead.chunks else {})',
        new='({"state": "applied"} if number + 2 >= work.ahead.chunks else {})',
    ),
    Mutant(
        name="a refusal overwrites the marker",
        path=_USECASES + "refusal.py",
        old="put = Put(table=Table.LEDGER, item=marker.to_item(), condition=Absent())",
        new="put = Put(table=Table.LEDGER, item=marker.to_item())",
    ),
    Mutant(
        name="other content under a known id is a duplicate",
        path=_USECASES + "verdicts.py",
        old="return Match.SAME if marker.content_hash == batch.content_hash else Match.OTHER",
        new="return Match.SAME",
    ),
    Mutant(
        name="markers live shorter than the window",
        path="metering/settings.py",
        old="marker_life_s: int = Field(50 * DAY_S",
        new="marker_life_s: int = Field(9 * DAY_S",
        suites=LAKE,
    ),
    Mutant(
        name="the window is widened without a floor",
        path=_DOMAIN + "admission.py",
        old="max(sent_at_s - self.window_s, self.floor_s)",
        new="sent_at_s - self.window_s",
        suites=("tests/unit/domain",),
    ),
    Mutant(
        name="int64 totals",
        path=_DOMAIN + "usage.py",
        old="return Total(self.bytes + other.bytes,",
        new="return Total((self.bytes + other.bytes + 2**63) % 2**64 - 2**63,",
    ),
    Mutant(
        name="float totals",
        path=_DOMAIN + "usage.py",
        old="return Total(self.bytes + other.bytes,",
        new="return Total(int(float(self.bytes) + float(other.bytes)),",
    ),
    Mutant(
        name="hash of the decodable values only",
        path=_DOMAIN + "content_hash.py",
        old="self._streams[7].update(",
        new="self._streams[7].copy().update(",
        suites=CONTENT,
    ),
    Mutant(
        name="hash of the raw body",
        path="metering/adapters/records/reader.py",
        old="            content_hash=self.assembly.content_hash(),",
        new="            content_hash=body_hash(self.delivery.body),",
        suites=CONTENT,
    ),
    Mutant(
        name="hash without the bytes",
        path=_DOMAIN + "content_hash.py",
        old="columns = (head_index, lengths, resource_ids, sizes, starts, ends)",
        new="columns = (head_index, lengths, resource_ids, starts, starts, ends)",
        suites=CONTENT,
    ),
    Mutant(
        name="two compactors announce the same run",
        path=_USECASES + "compact.py",
        old="put = Put(table=Table.LEDGER, item=run.to_item(), condition=Absent())",
        new="put = Put(table=Table.LEDGER, item=run.to_item())",
        suites=LAKE,
    ),
    Mutant(
        name="an hour of a commit is planned twice: pending is listed before the newest run is read",
        path=_USECASES + "compact.py",
        old="        self._announce(plan, 1 if latest is None else latest.run + 1)",
        new="        latest = newest_run(self.items, shard)\n"
        "        self._announce(plan, 1 if latest is None else latest.run + 1)",
        suites=LAKE,
    ),
    Mutant(
        name="open commits are planned",
        path=_USECASES + "compact.py",
        old="            if not open_commits:",
        new="            if True:",
        suites=("tests/unit/lake/test_compaction.py", *LAKE),
    ),
    Mutant(
        name="publish without marking",
        path=_USECASES + "compaction_run.py",
        old='            set={"run": run_name(',
        new='            set={"seen": run_name(',
        suites=LAKE,
    ),
    Mutant(
        name="publish before the file is written",
        path=_USECASES + "compaction_run.py",
        old="if self.patience.call(lambda: self.objects.head(key)) is not None:",
        new="if self.patience.call(lambda: self.objects.head(key)) is None:",
        suites=LAKE,
    ),
    Mutant(
        name="pending is updated whether it is there or not",
        path=_USECASES + "compaction_run.py",
        old="            condition=_THERE,\n",
        new="",
        suites=LAKE,
    ),
    Mutant(
        name="pending is deleted with hours left",
        path=_USECASES + "compaction_run.py",
        old='        if "hours" in left:\n            return\n        emptied = '
        "Delete(table=Table.LEDGER, key=key, condition=_NO_HOURS)",
        new="        emptied = Delete(table=Table.LEDGER, key=key)",
        suites=LAKE,
    ),
    Mutant(
        name="staging is deleted when one hour of a commit is done",
        path=_DOMAIN + "plan.py",
        old="in taken.items() if len(taken_hours) == left[commit_id]))",
        new="in taken.items() if len(taken_hours) <= left[commit_id]))",
        suites=LAKE,
    ),
    Mutant(
        name="an orphan is removed while its transaction may still land",
        path=_USECASES + "orphans.py",
        old="        except (ConditionFailedError, UnavailableError):\n            return False",
        new="        except (ConditionFailedError, UnavailableError):\n            return True",
        suites=LAKE,
    ),
    Mutant(
        name="an orphan is removed by its age alone",
        path=_USECASES + "orphans.py",
        old="return [*found.staged, *found.quarantined] if self._fence(commit_id) else []",
        new="return [*found.staged, *found.quarantined]",
        suites=LAKE,
    ),
    Mutant(
        name="a reader reads pointers before published hours",
        path=_USECASES + "lake_view.py",
        old="""            published = self._published(hour_s)
            pointers = self._pointers(hour_s)
            again""",
        new="""            pointers = self._pointers(hour_s)
            published = self._published(hour_s)
            again""",
        suites=LAKE,
    ),
    Mutant(
        name="a reader takes a marked pointer as published",
        path=_USECASES + "lake_view.py",
        old='if item.get("run") not in runs)',
        new='if not item.get("run"))',
        suites=LAKE,
    ),
    Mutant(
        name="a repair does not look at rev",
        path=_USECASES + "rebuild.py",
        old="Equals(attribute=attribute, value=rev)",
        new='Absent(attribute="nothing")',
        suites=LAKE,
    ),
    Mutant(
        name="hours of one usage item overwrite each other in a commit",
        path=_DOMAIN + "wal.py",
        old="items.setdefault(usage_key(key, suffix), {})[key.hour_s] = total",
        new="items[usage_key(key, suffix)] = {key.hour_s: total}",
    ),
    Mutant(
        name="all hours of a day count in its first",
        path=_DOMAIN + "usage_items.py",
        old="return _NAMES_OF_HOUR[hour_s % DAY_S // HOUR_S]",
        new="return _NAMES_OF_HOUR[0]",
    ),
    Mutant(
        name="markers are made anew whatever is there",
        path=_USECASES + "rebuild.py",
        old='condition=AnyOf((Absent(), Equals(attribute="verdict", value="rejected")))',
        new="condition=None",
        suites=LAKE,
    ),
    Mutant(
        name="markers are rebuilt while a commit is open",
        path=_USECASES + "rebuild.py",
        old="unsettled = self._open_hours()",
        new="unsettled: set[int] = set()",
        suites=LAKE,
    ),
    Mutant(
        name="an hour is settled while a commit has booked a part of it",
        path=_USECASES + "reconcile.py",
        old="settled=same and not unfinished,",
        new="settled=same,",
        suites=("tests/unit/lake/test_reconcile_tick.py",),
    ),
    Mutant(
        name="a month has several names",
        path=_DOMAIN + "hours.py",
        old='if first.strftime("%Y-%m") != month:',
        new="if not month:",
        suites=("tests/unit/domain/test_hours.py",),
    ),
    Mutant(
        name="dead letters hold nothing back",
        path=_USECASES + "undecided.py",
        old="unseen=self.dead.depth().total > 0 or len(held) > NOTES_READ,",
        new="unseen=len(held) > NOTES_READ,",
        suites=UNDECIDED,
    ),
    Mutant(
        name="a message holds nothing back once the queue's age leaves it out",
        path=_DOMAIN + "queue_memory.py",
        old="decided_s = _least(min(least_s, before_s), look.held_s)",
        new="decided_s = _least(look.left_s, look.held_s)",
        suites=UNDECIDED,
    ),
    Mutant(
        name="a redriven batch holds nothing back until it dies again",
        path=_DOMAIN + "queue_memory.py",
        old="unseen_s = look.now_s if look.unseen or self.unseen else self.unseen_s",
        new="unseen_s = 0",
        suites=UNDECIDED,
    ),
    Mutant(
        name="gap list unbounded",
        path=_DOMAIN + "sources.py",
        old="        dropped = self.gaps[:-GAPS_KEPT]",
        new="        return self",
        suites=SOURCES,
    ),
    Mutant(
        name="one source's error ends the pass",
        path=_USECASES + "source_keeping.py",
        old="        except MeteringError:\n            tally.miss(source_id)",
        new="        except MeteringError:\n            raise",
        suites=SOURCES,
    ),
    Mutant(
        name="a jump of any size is a gap",
        path=_DOMAIN + "sources.py",
        old="if sequence - last - 1 > largest_jump:",
        new="if sequence - last - 1 > largest_jump**9:",
        suites=SOURCES,
    ),
    Mutant(
        name="a forgotten source is derived from its old markers again",
        path=_USECASES + "source_keeping.py",
        old="found = found.after(memory.forgotten_ms)",
        new="found = found.after(0)",
        suites=SOURCES,
    ),
    Mutant(
        name="a pass that left something has finished",
        path=_USECASES + "reconciler_state.py",
        old="last.finished_s if check.skipped else",
        new="last.finished_s if False else",
        suites=("tests/unit/lake/test_reconcile_tick.py",),
    ),
    Mutant(
        name="the sweep of each minute is told of no open commit",
        path=_USECASES + "freshness.py",
        old="for commit in oldest[:_OPEN_NAMED])",
        new="for commit in oldest[:0])",
        suites=("tests/unit/usecases/test_finish.py", "tests/unit/usecases/test_freshness.py"),
    ),
)
