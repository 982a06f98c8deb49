"""A restore: two hours that the restored ledger does not know, and fifty days from nothing (P41).

At the moment of the fence, staging has the commits of an hour that no run has taken, and commits of which only late
rows are left. The latter are known to a ledger restored to a time two hours before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from load_tests.scale.bench import Bench, Result, expect
from load_tests.scale.items import WRITE_UNITS, ComputedItems
from load_tests.scale.meter import Meter
from load_tests.scale.objects import ComputedObjects
from load_tests.scale.region import ACCOUNTS_A_BATCH, COMMIT_BATCHES, KINDS, LATE_DAYS, MARKER_DAYS, Region
from load_tests.scale.templates import Batches, Staging, Templates, write_staged
from metering.ledger.format_version import RESTORED_FORMAT, LedgerFormat
from metering.ledger.markers import Marker, MarkerLine, encode_lines
from metering.ledger.runs import lake_chain
from metering.operations.own_costs import PROCESSING_USD
from metering.restore.decision import Decision
from metering.stores.clock import CALLS_AT_ONCE, in_blocks
from metering.stores.objects import decision_key, lake_file_key, markers_key, plan_key
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.wiring.restore import restoration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from load_tests.scale.bench import Step
    from metering.ledger.booked_hours import Pending
    from metering.restore.adoption import Adopted
    from metering.restore.copies import Copied
    from metering.restore.core import Restoration

LOST_HOURS = 2
RUNS = MARKER_DAYS * 24
# A ledger of these days is made from nothing within these hours by as many processes.
PROCESSES, MOST_HOURS = 4, 24
# What a table takes without a raised quota (DynamoDB developer guide, quotas, us-east-1).
TABLE_UNITS_A_SECOND = 40_000


@dataclass(frozen=True)
class LateLeft(Staging):
    """Commits of which only late rows are left; more than an hour has."""

    def commit_id(self, number: int) -> str:
        round_, place = divmod(number, self.groups)
        return f"{round_:02d}{place:08d}{self.hour_s // HOUR_S:08d}"

    def pending_item(self, commit_id: str) -> Pending:
        return replace(super().pending_item(commit_id), hours=frozenset([self.late_hour_s(self.group_of(commit_id))]))


@dataclass(frozen=True, slots=True)
class Lost:
    """A region whose ledger is restored.

    Attributes:
        left: Number of commits of which only late rows are left.
    """

    region: Region
    left: int

    @property
    def backup(self) -> Region:
        """Contents of the restored ledger."""
        return Region(self.region.accounts, self.region.begin_s, self.region.end_s - LOST_HOURS * HOUR_S)

    @property
    def known(self) -> LateLeft:
        # Their batches are all in the restored ledger, and their late rows in no hour of a lost run.
        before = Region(self.region.accounts, self.region.begin_s, self.backup.end_s - HOUR_S)
        return LateLeft(before, self.left, waiting=False)

    @property
    def runs(self) -> range:
        return range(self.region.newest_run + 1 - LOST_HOURS, self.region.newest_run + 1)

    def files(self, run: int) -> Iterator[tuple[str, Batches]]:
        """Lake files of a run, with their batches."""
        region, end_s = self.region, self.region.hour_of_run(run)
        for days in range(LATE_DAYS + 1):
            hour_s = end_s - days * DAY_S
            if hour_s < region.begin_s or days not in region.file_days(hour_s):
                continue
            for number in range(region.files_of(days)):
                batches = [
                    (round_, block)
                    for round_ in region.rounds_in(days, number)
                    for block in range(region.blocks)
                    if region.late_days(round_, block) == days
                ]
                yield lake_file_key(hour_s, 0, run, number), {hour_s: batches}


def prepare(lost: Lost, folder: Path) -> None:
    """Write what S3 has of the lost hours."""
    region, written = lost.region, folder / "written"
    items = ComputedItems(region, Meter())

    def markers(batches: Batches) -> bytes:
        found = (items.marker(hour_s, *name) for hour_s, names in batches.items() for name in names)
        lines = (MarkerLine(marker=Marker.from_item(item), retry_of="", sent_at_ms=0) for item in found)
        return b"".join(map(encode_lines, in_blocks(lines, COMMIT_BATCHES)))

    def put(key: str, body: bytes) -> None:
        (written / key).parent.mkdir(parents=True, exist_ok=True)
        (written / key).write_bytes(body)

    templates = Templates(folder)
    templates.write(region, rows=True, totals=True)
    templates.write_staging(lost.known, markers)
    plans = ComputedObjects(region, Meter(), templates=templates, written=written)
    for run in lost.runs:
        plan = plans.plan(run)
        put(plan_key(lake_chain(0), run, "0" * 32), replace(plan, last=tuple(plan.commits())).to_json())
        for key, batches in lost.files(run):
            put(markers_key(key), markers(batches))
    unknown = Staging(region, region.commits_an_hour, waiting=True)
    for commit_id in unknown.ids:
        own: dict[int, list[tuple[int, int]]] = {}
        for block in unknown.blocks(unknown.group_of(commit_id)):
            round_ = int(commit_id[:2])
            own.setdefault(unknown.hour_s - region.late_days(round_, block) * DAY_S, []).append((round_, block))
        put(unknown.key(commit_id), b"")
        write_staged(written / unknown.key(commit_id), region, dict(sorted(own.items())), markers(own))


def run(lost: Lost, folder: Path) -> Result:
    """Measure the steps: a run's files and markers, in a restored ledger and in one from nothing; then staging."""
    end_s = lost.region.end_s
    steps: dict[str, Step] = {}
    memory_mib: list[int] = []
    bench: Bench | None = None
    for name, ledger, since_s in (
        ("files", lost.backup, lost.backup.end_s),
        ("nothing", Region(lost.region.accounts, end_s, end_s), 0),
    ):
        bench = Bench(lost.region, folder, ledger=ledger, like=bench)
        made = _restoration(bench, since_s=since_s)
        steps[name] = _of_a_run(bench, made, lost)
        memory_mib.append(bench.result("restore").memory_mib)
        # The next restore decides for itself.
        (folder / "written" / decision_key(2)).unlink()
    # The old roll-up had booked the commits that are unknown to the ledger.
    booked = Region(lost.region.accounts, lost.region.begin_s, end_s + HOUR_S)
    bench = Bench(lost.region, folder, staging=lost.known, ledger=lost.backup, booked=booked, like=bench)
    made = _restoration(bench, since_s=lost.backup.end_s)
    found: list[Decision] = []
    steps["decide"] = bench.step(lambda: found.append(made.decider.decide()))
    decision = replace(found[0], plans=())
    adopted: list[Adopted] = []
    steps["commits"] = bench.step(lambda: adopted.append(made.adoption.run(decision)))
    # Each object has a late batch besides.
    in_place = lost.left * (COMMIT_BATCHES + 1)
    expect(left=len(adopted[0].left) == lost.region.commits_an_hour, in_place=adopted[0].in_place == in_place)
    copied: list[Copied] = []
    steps["copies"] = bench.step(lambda: copied.append(made.copies(decision).run(adopted[0].left)))
    expect(copied=copied[0].batches == lost.region.batches_an_hour, undecided=not copied[0].undecided)
    made.adoption.end(decision)
    steps["usage"] = _of_usage(bench, made, lost, adopted[0])
    last = bench.result("restore", **steps)
    last.memory_mib = max(last.memory_mib, *memory_mib)
    return last


def _of_a_run(bench: Bench, made: Restoration, lost: Lost) -> Step:
    """Adopt the files of one run, and their markers."""
    number = lost.runs[-1]
    plans = tuple(each for each in made.decider.decide().plans if each.number == number)
    decision = Decision(plans=plans)

    def work() -> None:
        adopted = made.adoption.run(decision)
        batches = sum(len(names) for _, hours in lost.files(number) for names in hours.values())
        expect(markers=adopted.markers == batches, lines=not adopted.without_lines, files=adopted.files > 0)

    return bench.step(work)


def _of_usage(bench: Bench, made: Restoration, lost: Lost, adopted: Adopted) -> Step:
    """Take back what was booked of commits that wait again."""
    region = lost.region
    days = range(1, (region.end_s - region.begin_s) // DAY_S + 1)
    late = sum(len(region.late_blocks.get(each, ())) for each in days)

    def work() -> None:
        done = made.usage(adopted.hours, lambda _step: None)
        unmeasured = (*done.unstable, *done.unreadable, *done.damaged)
        on_time = region.accounts * KINDS
        expect(repaired=done.repaired == on_time + late * ACCOUNTS_A_BATCH, measured=not unmeasured)

    return bench.step(work)


def _restoration(bench: Bench, *, since_s: int) -> Restoration:
    state = LedgerFormat(number=RESTORED_FORMAT, written_by="scale", usage_generation=1, generation=2, state="adopting")
    bench.items.put(Put(table=Table.LEDGER, item=state.to_item()))
    made = restoration(bench.jobs, generation=2, since_ms=since_s * 1_000, old=None, threads=CALLS_AT_ONCE)
    made.adoption.changes.take_over()
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class FromNothing:
    """Projection of a ledger made from nothing.

    Attributes:
        shared_s: Seconds of each step that processes share.
        alone_s: Seconds of each step of one process.
    """

    shared_s: Mapping[str, float]
    alone_s: Mapping[str, float]
    write_units: float

    @classmethod
    def of(cls, small: Result, large: Result) -> FromNothing:
        """Extend the line through two sizes to the target, and a run to all runs."""

        def at(share: float, figure: Callable[[Result], float]) -> float:
            each = (figure(large) - figure(small)) / (large.share - small.share)
            return figure(small) + each * (share - small.share)

        def seconds(name: str, share: float = 1.0) -> float:
            return at(share, lambda result: result.steps[name].seconds)

        def units(name: str) -> float:
            return at(1, lambda result: result.steps[name].calls.get(WRITE_UNITS, 0))

        # A run's files are the same few in every region, so what does not grow is theirs.
        files_s = max(0.0, seconds("nothing", 0))
        alone = {
            "decision": seconds("decide") + RUNS / LOST_HOURS * small.steps["decide"].seconds,
            "commits in staging": seconds("commits"),
            "copies": seconds("copies"),
            "usage": seconds("usage"),
        }
        return cls(
            shared_s={"plans and files": RUNS * files_s, "markers": RUNS * (seconds("nothing") - files_s)},
            alone_s=alone,
            write_units=RUNS * units("nothing") + sum(map(units, ("commits", "copies", "usage"))),
        )

    def hours(self, processes: int) -> float:
        """Hours of some processes, which write no faster than the table takes it."""
        shared_s = max(sum(self.shared_s.values()) / processes, self.write_units / TABLE_UNITS_A_SECOND)
        return (shared_s + sum(self.alone_s.values())) / HOUR_S

    def lines(self) -> list[str]:
        """Lines of a table."""
        usd = self.write_units * float(PROCESSING_USD["DynamoDB write request unit (on demand)"])
        hours = ", ".join(f"{self.hours(count):.1f} h" for count in (1, PROCESSES, 16))
        return [
            f"| from nothing, {MARKER_DAYS} days | seconds at the target |",
            "|---|---:|",
            *(f"| {name}, by all processes | {each:,.0f} |" for name, each in self.shared_s.items()),
            *(f"| {name} | {each:,.0f} |" for name, each in self.alone_s.items()),
            f"| all, by 1, {PROCESSES} and 16 processes | {hours} |",
            f"| write units | {self.write_units / 1e6:,.0f} million, {usd:,.0f} USD |",
        ]

    def problems(self) -> list[str]:
        hours = self.hours(PROCESSES)
        return [f"restore from nothing: {hours:.1f} h by {PROCESSES} processes"] if hours > MOST_HOURS else []
