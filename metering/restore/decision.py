"""The decision of a restore: which objects the new ledger adopts, as found once after the fence (P41.4).

Everything that adopts works from the stored decision. Two restorers that decided for themselves could see different
objects, because a late call of the old ledger may put an object in between.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol

from metering.errors import ObjectMissingError, OperationFailedError
from metering.hours import hour_label
from metering.lake.plan import Plan
from metering.ledger import commits
from metering.ledger.booked_hours import LakeFile, Pending, pending_in
from metering.ledger.runs import Run, lake_chain, newest_first, newest_run, rollup_chain
from metering.ledger.usage.generation import usage_generation
from metering.stores.clock import Clock, Retrier, side_by_side
from metering.stores.codec import Fields
from metering.stores.objects import (
    CLOSED_PREFIX,
    HELD_PREFIX,
    RUNS_PREFIX,
    STAGING_PREFIX,
    ObjectStore,
    commit_id_of,
    decision_key,
    is_part_of_plan,
    lake_file_key,
    number_of_plan,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from metering.ledger.periods import PeriodState
    from metering.stores.writes import ItemStore

_SCHEMA = "metering.decision/1"
_MONTH = re.compile(r"closed/(\d{4}-\d{2})(\.json|/.+)")


class AdoptableRows(Protocol):
    """Reads and copies what a restore adopts. Parquet in production, plain rows in the simulation."""

    def plan_of(self, lake_key: str) -> str | None:
        """Key of the plan by which a lake file was made; empty if an earlier release wrote it; None without a file."""

    def copied(
        self, staging_key: str, batch_ids: Collection[str], *, rebooked: Mapping[int, int], markers: bytes
    ) -> bytes:
        """A staging object with the rows of some batches of another one; `rebooked` as in `StagedBatch`.

        Raises:
            ObjectMissingError: It is gone.
            ObjectDamagedError: It cannot be decoded.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedPlan:
    """Files that exist of one plan of the compactor.

    Attributes:
        files: Booked hour, and numbers of its files that exist.
        whole: Whether all its files exist.
    """

    key: str
    shard: int
    number: int
    files: Mapping[int, tuple[int, ...]]
    whole: bool

    def hours(self, plan: Plan) -> Iterator[tuple[int, tuple[LakeFile, ...], frozenset[str]]]:
        """Each hour with files: the hour, its files, and the commits in these files."""
        for hour in plan.hours:
            kept = [(index, hour.files[index]) for index in self.files.get(hour.hour_s, ())]
            if kept:
                files = tuple(
                    LakeFile(key=self.file_key(hour.hour_s, index), rows=each.rows, bytes=each.bytes)
                    for index, each in kept
                )
                yield hour.hour_s, files, frozenset(commit_id for _, each in kept for commit_id in each.commits)

    def part(self, plan: Plan) -> Plan:
        """The plan with the files that exist alone, whose commits are left to adoption."""
        hours = (
            replace(hour, files=tuple(hour.files[index] for index in self.files[hour.hour_s]))
            for hour in plan.hours
            if hour.hour_s in self.files
        )
        return replace(plan, hours=tuple(hours), last=())

    def file_key(self, hour_s: int, index: int) -> str:
        """Key of one of the plan's files."""
        return lake_file_key(hour_s, self.shard, self.number, index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Objects that a restore adopts.

    Attributes:
        lifts: Chain -> number of the run that is put on top of it.
        known: Chain of the lake -> newest run that the restored ledger knows as done.
        plans: Plans of runs that the restored ledger does not know as done, with at least one file.
        staged: Keys of all staging objects.
        placed: Commits of staging objects that the roll-up had placed at T. A restorer places others, too, so only the
            ledger as it was restored tells.
        months: Months that are closed or closing, according to the objects below `closed/`.
    """

    lifts: Mapping[str, int] = field(default_factory=dict)
    known: Mapping[str, int] = field(default_factory=dict)
    plans: tuple[AdoptedPlan, ...] = ()
    staged: tuple[str, ...] = ()
    placed: frozenset[str] = frozenset()
    months: Mapping[str, PeriodState] = field(default_factory=dict)
    _by_key: Mapping[str, AdoptedPlan] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_key", {plan.key: plan for plan in self.plans})

    def has(self, plan: AdoptedPlan, hour_s: int, index: int) -> bool:
        """Whether a file counted in the ledger that this restore made, as far as this restore knows.

        A file of a number below the lift that the restored ledger did not know and that was not adopted came late.
        """
        chain = lake_chain(plan.shard)
        if not self.known.get(chain, 0) < plan.number < self.lifts.get(chain, 0):
            return True
        adopted = self._by_key.get(plan.key)
        return adopted is not None and index in adopted.files.get(hour_s, ())

    def encode(self) -> bytes:
        lines: list[dict[str, object]] = [
            {"schema": _SCHEMA, "lifts": dict(self.lifts), "known": dict(self.known), "months": dict(self.months)}
        ]
        lines += [
            {
                "plan": each.key,
                "shard": each.shard,
                "number": each.number,
                "whole": each.whole,
                "files": {hour_label(hour_s): list(found) for hour_s, found in each.files.items()},
            }
            for each in self.plans
        ]
        lines += [{"staged": key, "placed": commit_id_of(key) in self.placed} for key in self.staged]
        return gzip.compress("".join(f"{json.dumps(line)}\n" for line in lines).encode(), mtime=0)

    @classmethod
    def decode(cls, body: bytes, key: str) -> Decision:
        """Decode what `encode` made.

        Raises:
            LedgerCorruptError: The object is something else.
        """
        first, *rest = (Fields.of_json(line, key) for line in gzip.decompress(body).splitlines())
        first.one_of("schema", (_SCHEMA,))
        lifts, known, months = first.nested("lifts"), first.nested("known"), first.nested("months")
        return cls(
            lifts={chain: lifts.whole(chain) for chain in lifts},
            known={chain: known.whole(chain) for chain in known},
            months={month: months.one_of(month, ("closing", "closed")) for month in months},
            plans=tuple(_plan(line) for line in rest if "plan" in line),
            staged=tuple(line.text("staged") for line in rest if "staged" in line),
            placed=frozenset(commit_id_of(line.text("staged")) for line in rest if line.flag("placed", absent=False)),
        )


def _plan(line: Fields) -> AdoptedPlan:
    files = line.nested("files")
    return AdoptedPlan(
        key=line.text("plan"),
        shard=line.whole("shard"),
        number=line.whole("number"),
        whole=line.flag("whole"),
        files={files.hour_named(label): files.wholes(label) for label in files},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """Finds what the new ledger adopts. Call it only after the fence, and before any change of the new ledger's runs.

    Attributes:
        items: Store of the new ledger, which is still as it was restored.
        shards: The stage's number of shards.
    """

    items: ItemStore
    objects: ObjectStore
    rows: AdoptableRows
    clock: Clock
    retrier: Retrier
    shards: int
    generation: int
    threads: int = 1

    def decide(self) -> Decision:
        """The stored decision, or else the decision of this call, once it is stored.

        Raises:
            OperationFailedError: A lake file of an earlier release fits more than one plan.
            UnavailableError: A store does not respond; call again.
        """
        with suppress(ObjectMissingError):
            return self._stored(self.generation)
        body = self._find().encode()
        self.retrier.call(lambda: self.objects.put(decision_key(self.generation), body, if_absent=True))
        # Another restorer may have been first.
        return self._stored(self.generation)

    def _stored(self, generation: int) -> Decision:
        key = decision_key(generation)
        return Decision.decode(self.retrier.call(lambda: self.objects.get(key)), key)

    def _find(self) -> Decision:
        # Staging is listed first: a commit whose object is not listed has its rows in the lake files listed later.
        staged = tuple(info.key for info in self.objects.list(STAGING_PREFIX))
        # What an earlier restore could not decide is judged anew.
        staged += tuple(info.key for info in self.objects.list(HELD_PREFIX))
        plans: dict[str, list[tuple[int, str]]] = {}
        for info in self.objects.list(RUNS_PREFIX):
            number = number_of_plan(info.key)
            if number is not None and not is_part_of_plan(info.key):
                plans.setdefault(info.key.split("/")[1], []).append((number, info.key))
        before = [self._stored(generation) for generation in range(2, self.generation)]
        used = max([int(chain[1:]) + 1 for chain in plans if chain[1:].isdecimal()], default=0)
        known = self.retrier.call(lambda: commits.known_shards(self.items, self.shards))
        shards = range(max(used, len(known)))
        chains = [make(shard) for shard in shards for make in (rollup_chain, lake_chain)]
        return Decision(
            lifts={chain: self._lift(chain, plans.get(chain, ())) for chain in chains},
            known={chain: self.retrier.call(partial(newest_known, self.items, chain)) for chain in chains[1::2]},
            plans=tuple(
                each
                for shard in shards
                for plan in self._adopted(shard, plans.get(lake_chain(shard), ()))
                if (each := _counted(plan, before)).files
            ),
            staged=staged,
            placed=self._placed() & frozenset(map(commit_id_of, staged)),
            months=self._months(),
        )

    def _placed(self) -> frozenset[str]:
        """Commits that are pending and do not wait; in one read after the other, as the roll-up moves them."""
        placed: set[str] = set()
        for shard in self.retrier.call(lambda: commits.known_shards(self.items, self.shards)):
            placed.update(each.commit_id for each in self.retrier.call(partial(commits_pending, self.items, shard)))
            placed -= {each.commit_id for each in self.retrier.call(partial(commits_waiting, self.items, shard))}
        return frozenset(placed)

    def _lift(self, chain: str, plans: Iterable[tuple[int, str]]) -> int:
        """A number above every run of the lost time, even if this clock is slow."""
        newest = self.retrier.call(lambda: newest_run(self.items, chain))
        known = [number for number, _ in plans] + ([] if newest is None else [newest.number])
        if chain == rollup_chain(int(chain[1:])):
            # Plans of the roll-up are deleted after a day, and usage items keep its numbers.
            known.append(self.retrier.call(lambda: usage_generation(self.items)).runs.get(int(chain[1:]), 0))
        return max(self.clock.now_ms() // 1000, 1 + max(known, default=0))

    def _adopted(self, shard: int, plans: Iterable[tuple[int, str]]) -> Iterator[AdoptedPlan]:
        done = self.retrier.call(lambda: newest_known(self.items, lake_chain(shard)))
        lost = sorted((number, key) for number, key in plans if number > done)
        of_number = Counter(number for number, _ in lost)

        def look(plan: tuple[int, str]) -> AdoptedPlan:
            number, key = plan
            return self._files(shard, number, key, alone=of_number[number] == 1)

        yield from (each for each in side_by_side(look, lost, threads=self.threads) if each.files)

    def _files(self, shard: int, number: int, key: str, *, alone: bool) -> AdoptedPlan:
        """The files of a plan that exist. A plan that lost the race for its number has no file of its own."""
        plan = Plan.from_json(self.retrier.call(lambda: self.objects.get(key)), key)
        files: dict[int, tuple[int, ...]] = {}
        for hour in plan.hours:
            found = []
            for index in range(len(hour.files)):
                file = lake_file_key(hour.hour_s, shard, number, index)
                made_by = self.retrier.call(partial(self.rows.plan_of, file))
                if made_by == "" and not alone:
                    raise OperationFailedError(
                        f"{file} does not name its plan, and there are several plans with number {number}.",
                        "Compare their rows with the file's, and delete the plans of which it was not made.",
                    )
                if made_by in ("", key):
                    found.append(index)
            if found:
                files[hour.hour_s] = tuple(found)
        whole = {hour.hour_s: tuple(range(len(hour.files))) for hour in plan.hours} == files
        return AdoptedPlan(key=key, shard=shard, number=number, files=files, whole=whole)

    def _months(self) -> dict[str, PeriodState]:
        months: dict[str, PeriodState] = {}
        for info in self.objects.list(CLOSED_PREFIX):
            if found := _MONTH.fullmatch(info.key):
                month, what = found.groups()
                if what == ".json":
                    months[month] = "closed"
                else:
                    months.setdefault(month, "closing")
        return months


def _counted(plan: AdoptedPlan, before: Iterable[Decision]) -> AdoptedPlan:
    """The plan without files that came after the decision of an earlier restore."""
    files = {
        hour_s: tuple(index for index in found if all(each.has(plan, hour_s, index) for each in before))
        for hour_s, found in plan.files.items()
    }
    return replace(
        plan,
        files={hour_s: found for hour_s, found in files.items() if found},
        whole=plan.whole and files == plan.files,
    )


def commits_waiting(items: ItemStore, shard: int) -> list[commits.Waiting]:
    """Waiting commits. A retried call begins the query again, and never goes on with one that has failed."""
    return list(map(commits.Waiting.from_item, commits.waiting_in(items, shard)))


def commits_pending(items: ItemStore, shard: int) -> list[Pending]:
    """Pending commits, read as the waiting ones."""
    return list(map(Pending.from_item, pending_in(items, shard)))


def newest_known(items: ItemStore, chain: str) -> int:
    """Number of the newest run that is done in a restored ledger, or 0. Its files are all published."""
    return next((run.number for run in newest_first(items, chain) if run.state == "done"), 0)


def uncleaned(items: ItemStore, chain: str) -> list[Run]:
    """Runs of the lake that are not cleaned, newest first, without those that a restore put."""
    found = takewhile(lambda run: not run.cleaned, newest_first(items, chain))
    return [run for run in found if run.plan_key]
