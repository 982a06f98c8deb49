"""When each commit's usage became visible, according to the plans and ends of the roll-up's runs.

Two times are separate here that users see as one: from a message to its commit, which grows with the queue, and from
the commit until its usage is booked, which depends on the roll-up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from metering.ledger.runs import newest_first, rollup_chain
from metering.ledger.shards import known_shards
from metering.rollup.plan import RollupPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """A commit whose usage is visible; epoch milliseconds.

    Attributes:
        sent_at_ms: Time at which its first message was sent.
        created_at_ms: When it was committed.
        visible_at_ms: End of the run that booked it. Usage became visible just before.
    """

    sent_at_ms: int
    created_at_ms: int
    visible_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedRun:
    """A roll-up run and its commits.

    Attributes:
        full: Whether it took the maximum number of commits: the chain lagged behind.
    """

    planned_at_ms: int
    done_at_ms: int
    full: bool
    commits: tuple[Booked, ...]


def booked_runs(
    items: ItemStore, objects: ObjectStore, *, shards: int, most_commits: int, since_ms: int
) -> list[BookedRun]:
    """All done runs that were planned since `since_ms`, ordered by the times of their plans.

    Raises:
        ObjectMissingError: A plan was already cleaned.
    """
    found = []
    for shard in known_shards(items, shards):
        for run in newest_first(items, rollup_chain(shard)):
            if run.planned_at_ms < since_ms:
                break
            if run.done_at_ms is None or not run.plan_key:
                continue
            plan = RollupPlan.from_json(objects.get(run.plan_key), run.plan_key)
            commits = tuple(
                Booked(sent_at_ms=each.sent_at_ms, created_at_ms=each.created_at_ms, visible_at_ms=run.done_at_ms)
                for each in plan.commits
            )
            found.append(
                BookedRun(
                    planned_at_ms=run.planned_at_ms,
                    done_at_ms=run.done_at_ms,
                    full=len(commits) >= most_commits,
                    commits=commits,
                )
            )
    return sorted(found, key=lambda run: run.planned_at_ms)


def caught_up_ms(runs: Sequence[BookedRun]) -> int | None:
    """Time at which the backlog before the first run was booked; None if it never was."""
    return next((run.done_at_ms for run in runs if not run.full), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visibility:
    """Times of commits, in seconds.

    Attributes:
        steady: Commits since the function first found work.
        before: Those before. The function ends when no commit waits, and starts once a minute.
    """

    steady: tuple[Booked, ...]
    before: tuple[Booked, ...]

    @classmethod
    def of(cls, runs: Sequence[BookedRun]) -> Visibility:
        """Times of the commits of runs."""
        began_ms = runs[0].planned_at_ms if runs else 0
        commits = [each for run in runs for each in run.commits]
        return cls(
            steady=tuple(each for each in commits if each.created_at_ms >= began_ms),
            before=tuple(each for each in commits if each.created_at_ms < began_ms),
        )

    @property
    def p99_s(self) -> float:
        """Time from sending to visible usage, for 99 % of the steady commits."""
        return p99(_whole(self.steady))

    def lines(self) -> list[str]:
        """Lines of the printed summary."""
        if not self.steady:
            return []
        committed = [(each.created_at_ms - each.sent_at_ms) / 1_000 for each in self.steady]
        booked = [(each.visible_at_ms - each.created_at_ms) / 1_000 for each in self.steady]
        told = [
            f"{title}: median {median(times):.0f} s, p99 {p99(times):.0f} s, of {len(times):,} commits"
            for title, times in (
                ("from the sending of a commit's first message until it is committed", committed),
                ("from the commit until it is in usage", booked),
                ("from the sending until it is in usage", _whole(self.steady)),
            )
        ]
        if self.before:
            told.append(
                f"{len(self.before):,} commits that came while the function was not running, for nothing had waited: "
                f"at most {max(_whole(self.before)):.0f} s"
            )
        return told


def p99(times: Iterable[float]) -> float:
    """The 99th percentile; 0 of an empty list."""
    ordered = sorted(times)
    return ordered[math.ceil(len(ordered) * 0.99) - 1] if ordered else 0.0


def _whole(commits: Iterable[Booked]) -> list[float]:
    return [(each.visible_at_ms - each.sent_at_ms) / 1_000 for each in commits]
