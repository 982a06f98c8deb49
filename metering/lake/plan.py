"""Plans of the compactor: which commits of which hours go into which lake file. A written plan never changes.

A plan is stored as a JSON object. File names and the rows of each file follow from the plan and the run's number alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.hours import hour_label, month_of
from metering.stores.fields import Fields
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from metering.ledger.booked_hours import Pending
    from metering.settings import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """One file to write: all rows that its commits have in one hour. `rows` and `bytes` are its expected totals."""

    commits: tuple[str, ...]
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanHour:
    """Files that a run adds to one hour. Each commit is in exactly one of them."""

    hour_s: int
    files: tuple[PlanFile, ...]

    @property
    def commits(self) -> Iterator[str]:
        for file in self.files:
            yield from file.commits


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Plan of one run.

    Attributes:
        last: Commits of which the plan takes all remaining hours: cleaning the run removes their staging objects.
    """

    shard: int
    hours: tuple[PlanHour, ...]
    last: tuple[str, ...]

    def commits(self) -> dict[str, list[int]]:
        """Hours that the plan takes, by commit id."""
        taken: dict[str, list[int]] = {}
        for hour in self.hours:
            for commit_id in hour.commits:
                taken.setdefault(commit_id, []).append(hour.hour_s)
        return taken

    def to_json(self) -> bytes:
        """Content of the plan object."""
        hours = [
            {
                "hour": hour_label(hour.hour_s),
                "files": [{"commits": file.commits, "rows": file.rows, "bytes": file.bytes} for file in hour.files],
            }
            for hour in self.hours
        ]
        return json.dumps({"shard": self.shard, "hours": hours, "last": self.last}, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, body: bytes, key: str) -> Plan:
        """Inverse of `to_json`.

        Args:
            body: The object's content.
            key: Its key.

        Raises:
            LedgerCorruptError: The content is not a plan.
        """
        plan = Fields.of_json(body, key)
        hours = tuple(
            PlanHour(
                hour_s=hour.hour("hour"),
                files=tuple(
                    PlanFile(commits=file.texts("commits"), rows=file.whole("rows"), bytes=file.whole("bytes"))
                    for file in hour.objects("files")
                ),
            )
            for hour in plan.objects("hours")
        )
        return cls(shard=plan.whole("shard"), hours=hours, last=plan.texts("last"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionPolicy:
    """When an hour is compacted, and how much at once. Safety does not depend on it.

    Attributes:
        file_rows: Rows of a full lake file. 12 million rows of about 14 bytes are about 170 MB.
        run_rows: Most rows of one run; a single file may exceed it.
        run_pairs: Most pairs of commit and hour of one run: each pair is marked by one write.
        wait_today_s: How long an hour of the current day waits for a full file.
        wait_older_s: How long an older hour waits, so that late data does not make small files for ever.
    """

    file_rows: int
    run_rows: int
    run_pairs: int
    wait_today_s: int
    wait_older_s: int

    @classmethod
    def of(cls, policy: Policy) -> CompactionPolicy:
        """Compaction part of a stage's policy."""
        return cls(
            file_rows=policy.compact_file_rows,
            run_rows=policy.compact_run_rows,
            run_pairs=policy.compact_run_pairs,
            wait_today_s=policy.compact_wait_today_s,
            wait_older_s=policy.compact_wait_older_s,
        )

    def everything(self) -> CompactionPolicy:
        """The same sizes, but everything pending is due: nothing waits for a full file."""
        # Below zero, so that commits of a process whose clock is ahead are due too.
        return replace(self, wait_today_s=-DAY_S, wait_older_s=-DAY_S)


def make_plan(
    shard: int,
    pending: Sequence[Pending],
    *,
    now_s: int,
    policy: CompactionPolicy,
    closing: frozenset[str] = frozenset(),
) -> Plan | None:
    """The next plan of a shard, or None if nothing is due.

    Args:
        shard: Shard to plan for.
        pending: Entries of applied commits. Only the hours in their `hours` may be planned.
        now_s: Now, epoch seconds.
        policy: Decides which hours are due.
        closing: Months whose hours are all due, whatever the policy says.
    """
    hours: dict[int, list[Pending]] = {}
    for entry in pending:
        for hour_s in entry.hours:
            hours.setdefault(hour_s, []).append(entry)
    due = [
        (hour_s, file)
        for hour_s, entries in sorted(hours.items())
        for file in _due_files(hour_s, entries, now_s, policy, forced=month_of(hour_s) in closing)
    ]
    chosen = _within_budget(due, policy)
    if not chosen:
        return None
    plan_hours = tuple(PlanHour(hour_s=hour_s, files=tuple(files)) for hour_s, files in chosen.items())
    left = {entry.commit_id: len(entry.hours) for entry in pending}
    taken = Plan(shard=shard, hours=plan_hours, last=()).commits()
    last = tuple(sorted(commit_id for commit_id, taken_hours in taken.items() if len(taken_hours) == left[commit_id]))
    return Plan(shard=shard, hours=plan_hours, last=last)


def _due_files(
    hour_s: int, entries: list[Pending], now_s: int, policy: CompactionPolicy, *, forced: bool
) -> list[PlanFile]:
    entries.sort(key=lambda entry: (entry.created_at_ms, entry.commit_id))
    waited_s = now_s - entries[0].created_at_ms // 1000
    is_today = hour_s // DAY_S >= now_s // DAY_S
    if forced or waited_s >= (policy.wait_today_s if is_today else policy.wait_older_s):
        return list(_cut(hour_s, entries, policy))
    if sum(entry.totals[hour_s].records for entry in entries) < policy.file_rows:
        return []
    return [file for file in _cut(hour_s, entries, policy) if file.rows >= policy.file_rows]


def _cut(hour_s: int, entries: Iterable[Pending], policy: CompactionPolicy) -> Iterator[PlanFile]:
    """Fill one file after the other. The rows that a commit has in an hour stay together."""
    commits: list[str] = []
    rows = total_bytes = 0
    for entry in entries:
        total = entry.totals[hour_s]
        commits.append(entry.commit_id)
        rows += total.records
        total_bytes += total.bytes
        if rows >= policy.file_rows or len(commits) >= policy.run_pairs:
            yield PlanFile(commits=tuple(commits), rows=rows, bytes=total_bytes)
            commits, rows, total_bytes = [], 0, 0
    if commits:
        yield PlanFile(commits=tuple(commits), rows=rows, bytes=total_bytes)


def _within_budget(due: Iterable[tuple[int, PlanFile]], policy: CompactionPolicy) -> dict[int, list[PlanFile]]:
    """Files that one run can write, oldest hour first; at least one file if any is due."""
    chosen: dict[int, list[PlanFile]] = {}
    rows = pairs = 0
    for hour_s, file in due:
        rows += file.rows
        pairs += len(file.commits)
        if chosen and (rows > policy.run_rows or pairs > policy.run_pairs):
            break
        chosen.setdefault(hour_s, []).append(file)
    return chosen
