"""Plans of the compactor: which commits of which hours go into which lake file. A written plan never changes.

A plan is stored as a JSON object. The plan and the run's number alone determine the name and rows of each file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, NamedTuple

from metering.hours import month_of
from metering.stores.codec import Hour, StoredDocument
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from metering.ledger.booked_hours import Pending
    from metering.settings import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """A file to be written: all rows of its commits in one hour. `rows` and `bytes` are its expected totals."""

    commits: tuple[str, ...]
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanHour:
    """Files that a run adds to one hour. Each commit is in exactly one of the files."""

    hour_s: Annotated[Hour, "hour"]
    files: tuple[PlanFile, ...]

    @property
    def commits(self) -> Iterator[str]:
        for file in self.files:
            yield from file.commits


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(StoredDocument):
    """Plan of one run.

    Attributes:
        last: Commits whose remaining hours are all in the plan: cleaning the run removes their staging objects.
    """

    shard: int
    hours: tuple[PlanHour, ...]
    last: tuple[str, ...]

    def commits(self) -> dict[str, list[int]]:
        """Hours that the plan compacts, by commit id."""
        taken: dict[str, list[int]] = {}
        for hour in self.hours:
            for commit_id in hour.commits:
                taken.setdefault(commit_id, []).append(hour.hour_s)
        return taken

    def ends(self) -> dict[int, frozenset[str]]:
        """Of the commits in `last`, those whose latest planned hour is the given hour. Each of them ends once."""
        latest = {commit_id: max(hours) for commit_id, hours in self.commits().items()}
        ends: dict[int, set[str]] = {}
        for commit_id in self.last:
            ends.setdefault(latest[commit_id], set()).add(commit_id)
        return {hour_s: frozenset(commits) for hour_s, commits in ends.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionPolicy:
    """When an hour is compacted, and how much at once. The correctness of the protocol does not depend on this policy.

    Attributes:
        file_rows: Number of rows of a full lake file. 12 million rows of about 14 bytes are about 170 MB.
        run_rows: Maximum number of rows of one run; a single file may exceed this.
        run_pairs: Maximum number of commit-hour pairs of one run: each pair is marked by one write.
        wait_today_s: Maximum time for which an hour of the current day waits for a full file.
        wait_older_s: Maximum time for which an older hour waits, so that late data does not create many small files.
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
        """Policy with the same sizes, by which all pending rows are due without waiting for full files."""
        # The values are negative, so that commits of a process with a fast clock are also due.
        return replace(self, wait_today_s=-DAY_S, wait_older_s=-DAY_S)


class _Pair(NamedTuple):
    """Rows and bytes of a commit in one hour, not yet in a run's plan. Sort key for assigning commits to files."""

    created_at_ms: int
    commit_id: str
    rows: int
    bytes: int


class Backlog:
    """Pending pairs of a shard, in compact form, because a region has hundreds of thousands of pairs.

    Args:
        pending: Entries of pending commits. Only hours in a commit's `hours` may be planned.
        waiting: Ids of commits to omit, because they still wait for the roll-up (P24). Taken after the entries.
    """

    def __init__(self, pending: Iterable[Pending], waiting: Callable[[], Collection[str]] = frozenset) -> None:
        self.hours: dict[int, list[_Pair]] = {}
        # Hours of each commit.
        self.commits: dict[str, int] = {}
        for entry in pending:
            self.commits[entry.commit_id] = len(entry.hours)
            for hour_s in entry.hours:
                total = entry.totals[hour_s]
                pair = _Pair(entry.created_at_ms, entry.commit_id, total.records, total.bytes)
                self.hours.setdefault(hour_s, []).append(pair)
        if out := self.commits.keys() & waiting():
            self.hours = {h: [pair for pair in pairs if pair.commit_id not in out] for h, pairs in self.hours.items()}
            self.hours = {hour_s: pairs for hour_s, pairs in self.hours.items() if pairs}
            self.commits = {commit_id: hours for commit_id, hours in self.commits.items() if commit_id not in out}

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest commit was made; None without commits."""
        return min((pair.created_at_ms for pairs in self.hours.values() for pair in pairs), default=None)


def make_plan(
    shard: int, backlog: Backlog, *, now_s: int, policy: CompactionPolicy, closing: frozenset[str] = frozenset()
) -> Plan | None:
    """The next plan of a shard, or None if nothing is due.

    Args:
        shard: Shard to plan for.
        backlog: The shard's pending pairs.
        now_s: Now, epoch seconds.
        policy: Decides which hours are due.
        closing: Months whose hours are all due, regardless of the policy.
    """
    due = (
        (hour_s, file)
        for hour_s in sorted(backlog.hours)
        for file in _due_files(hour_s, backlog.hours[hour_s], now_s, policy, forced=month_of(hour_s) in closing)
    )
    chosen = _within_budget(due, policy)
    if not chosen:
        return None
    plan_hours = tuple(PlanHour(hour_s=hour_s, files=tuple(files)) for hour_s, files in chosen.items())
    taken = Plan(shard=shard, hours=plan_hours, last=()).commits()
    last = tuple(sorted(commit_id for commit_id, hours in taken.items() if len(hours) == backlog.commits[commit_id]))
    return Plan(shard=shard, hours=plan_hours, last=last)


def _due_files(
    hour_s: int, pairs: Sequence[_Pair], now_s: int, policy: CompactionPolicy, *, forced: bool
) -> list[PlanFile]:
    pairs = sorted(pairs)
    waited_s = now_s - pairs[0].created_at_ms // 1000
    is_today = hour_s // DAY_S >= now_s // DAY_S
    if forced or waited_s >= (policy.wait_today_s if is_today else policy.wait_older_s):
        return list(_cut(pairs, policy))
    if sum(pair.rows for pair in pairs) < policy.file_rows:
        return []
    return [file for file in _cut(pairs, policy) if file.rows >= policy.file_rows]


def _cut(pairs: Iterable[_Pair], policy: CompactionPolicy) -> Iterator[PlanFile]:
    """Fill one file after the other with commits. All rows of a commit in an hour stay in one file."""
    commits: list[str] = []
    rows = total_bytes = 0
    for pair in pairs:
        commits.append(pair.commit_id)
        rows += pair.rows
        total_bytes += pair.bytes
        if rows >= policy.file_rows or len(commits) >= policy.run_pairs:
            yield PlanFile(commits=tuple(commits), rows=rows, bytes=total_bytes)
            commits, rows, total_bytes = [], 0, 0
    if commits:
        yield PlanFile(commits=tuple(commits), rows=rows, bytes=total_bytes)


def _within_budget(due: Iterable[tuple[int, PlanFile]], policy: CompactionPolicy) -> dict[int, list[PlanFile]]:
    """Files within the limits of one run, oldest hour first; at least one file if any is due."""
    chosen: dict[int, list[PlanFile]] = {}
    rows = pairs = 0
    for hour_s, file in due:
        rows += file.rows
        pairs += len(file.commits)
        if chosen and (rows > policy.run_rows or pairs > policy.run_pairs):
            break
        chosen.setdefault(hour_s, []).append(file)
    return chosen
