"""Checks before the permanent close of a month, and a close that is refused if a check blocks it.

A check's state is `ok`, `attention` or `blocks`. A person may accept a blocking check by its name; rows that arrive
later become corrections. The check that 72 hours have passed since the month's end cannot be accepted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING

from metering.audit.freshness import Complete, Freshness, duration
from metering.billing import freezing
from metering.hours import month_bounds_s, month_of, rfc3339
from metering.ledger import periods
from metering.ledger.notes import reconciliation
from metering.ledger.notes.checks import CANARY_PK, CanaryRun, CanaryVerdict
from metering.stores import writes
from metering.units import DAY_S, HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from metering.audit import census_state
    from metering.billing.closer import PeriodCloser
    from metering.quarantine.entries import QuarantineEntries
    from metering.stores import queues
    from metering.stores.clock import Clock, Deadline

# Each is an object.
_ENTRIES_READ = 1_000
_CANARIES_READ = 20
# The same limits as the alarms `canary-late` and `reconciliation-stalled`.
_CANARY_LATE_S = 20 * MINUTE_S
_PASS_LATE_S = 3 * HOUR_S


class CheckState(StrEnum):
    """Result of a check."""

    OK = "ok"
    ATTENTION = "attention"
    BLOCKS = "blocks"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseCheck:
    """One check; if it is `acceptable`, a person may accept the check by its name.

    Attributes:
        todo: Remedy: a command or a text; empty if the check is ok.
        acceptable: Whether a person may close the month although this check blocks.
    """

    name: str
    state: CheckState
    value: str
    todo: str = ""
    acceptable: bool = True


def _check(name: str, *, bad: bool, value: str, todo: str, state: CheckState = CheckState.BLOCKS) -> CloseCheck:
    """Make a check with state `ok`, or with `state` and `todo` if `bad`."""
    return CloseCheck(name=name, state=state if bad else CheckState.OK, value=value, todo=todo if bad else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checklist:
    """All checks of a month."""

    month: str
    checks: tuple[CloseCheck, ...]

    def blocking(self, accepted: Collection[str] = ()) -> tuple[CloseCheck, ...]:
        """Checks that block the close, except those accepted by name."""
        return tuple(
            check
            for check in self.checks
            if check.state is CheckState.BLOCKS and not (check.acceptable and check.name in accepted)
        )

    def demand(self, accepted: Collection[str] = ()) -> None:
        """Refuse the close if a check blocks it.

        Raises:
            PeriodNotClosableError: A check blocks; the error names it, its cure, and the option that accepts it.
        """
        blocking = self.blocking(accepted)
        if not blocking:
            return
        found = "; ".join(f"{check.name}: {check.value} ({check.todo})" for check in blocking)
        options = " ".join(f"--accept {check.name}" for check in blocking if check.acceptable)
        final = any(not check.acceptable for check in blocking)
        hint = "" if final else f". What cannot be cured may be accepted, for good: {options}"
        raise freezing.PeriodNotClosableError(self.month, freezing.NotClosable.CHECKLIST, f"{found}{hint}")


ACCEPTABLE = ("freshness", "queue", "dead-letters", "gaps", "differences")
"""Names that can be accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedClose:
    """Closes a month if no check blocks it.

    Attributes:
        region, stage: Values of the options in the commands that messages contain.
    """

    closer: PeriodCloser
    items: writes.ItemStore
    ingest: queues.Queue
    dead: queues.Queue
    quarantine: QuarantineEntries
    freshness: Freshness
    clock: Clock
    region: str
    stage: str

    def close(
        self,
        checklist: Checklist,
        deadline: Deadline,
        *,
        accepted: Collection[str] = (),
        tell: Callable[[census_state.HourStep], None] = lambda _step: None,
        counted: census_state.CensusState | None = None,
        keep: Callable[[census_state.CensusState], None] = lambda _state: None,
    ) -> periods.FrozenMonth:
        """Check again, because the checklist may be hours old, and close the month.

        Args:
            checklist: The agreed one.
            deadline: End of the process.
            accepted: Names of the blocking checks that a person accepts.
            tell: As for `PeriodCloser.close`.
            counted: As for `PeriodCloser.close`.
            keep: As for `PeriodCloser.close`.

        Raises:
            PeriodNotClosableError: A check that was not accepted blocks the close, or the close itself fails.
        """
        self.look(checklist.month).demand(accepted)
        return self.closer.close(checklist.month, deadline, tell, counted=counted, keep=keep)

    def look(self, month: str) -> Checklist:
        """Run all checks once, without changing anything.

        In state `closing`, no acceptable check blocks the month, because late rows are booked in the current hour.

        Raises:
            ValueError: `month` is not a month such as `2026-11`.
            UnavailableError: A store does not respond.
        """
        first_s, after_s = month_bounds_s(month)
        now_s = self.clock.now_ms() // 1000
        complete = self.freshness.answer()
        counted = complete.through_s >= after_s
        item = self.items.get(writes.Table.LEDGER, reconciliation.RECONCILIATION_KEY)
        known = None if item is None else reconciliation.Reconciliation.from_item(item)
        checks = (
            self._ended(after_s, now_s),
            _freshness(complete, after_s),
            self._queue(counted=counted),
            self._dead_letters(),
            self._gaps(known, after_s),
            *self._reconciler(known, now_s),
            self._quarantine(month, first_s),
            self._earlier(month),
            self._canary(now_s),
        )
        if self.closer.show(month) is not None:
            checks = tuple(
                replace(each, state=CheckState.ATTENTION)
                if each.state is CheckState.BLOCKS and each.acceptable
                else each
                for each in checks
            )
        return Checklist(month=month, checks=checks)

    def _ended(self, after_s: int, now_s: int) -> CloseCheck:
        from_s = after_s + self.closer.wait_s
        early = now_s < from_s
        value = "72 hours have not passed since its end" if early else f"{duration(now_s - after_s)} ago"
        check = _check("ended", bad=early, value=value, todo=f"it can be closed from {rfc3339(from_s)} on")
        return replace(check, acceptable=False)

    def _queue(self, *, counted: bool) -> CloseCheck:
        waiting = self.ingest.depth().total
        return _check(
            "queue",
            bad=waiting > 0,
            value=f"{waiting:,} waiting" if waiting else "empty",
            todo=self._typed("metering verify --wait 5m") + " waits for them; those of the month become corrections",
            # If all usage of the month is counted, the waiting messages were sent later.
            state=CheckState.ATTENTION if counted else CheckState.BLOCKS,
        )

    def _dead_letters(self) -> CloseCheck:
        dead = self.dead.depth().total
        value = f"{dead:,}, which may be of the month" if dead else "none"
        return _check("dead-letters", bad=dead > 0, value=value, todo=self._typed("metering dlq redrive"))

    def _gaps(self, known: reconciliation.Reconciliation | None, after_s: int) -> CloseCheck:
        since_s = None if known is None else known.gaps_since_s
        sources = writes.read_note(self.items, reconciliation.SOURCES_KEY, reconciliation.SourceFigures.from_item)
        if sources is not None and sources.sources and sources.scanned_ms // 1000 < after_s + DAY_S:
            looked = rfc3339(sources.scanned_ms // 1000)
            value = f"last looked for at {looked}, before the month was over for a day"
            return _check("gaps", bad=True, value=value, todo=self._typed("metering reconcile"))
        return _check(
            "gaps",
            bad=since_s is not None,
            value="none" if since_s is None else f"a source misses numbers since {rfc3339(since_s)}",
            todo=self._typed("metering sources --gaps"),
            state=CheckState.BLOCKS if since_s is None or since_s < after_s else CheckState.ATTENTION,
        )

    def _reconciler(self, known: reconciliation.Reconciliation | None, now_s: int) -> tuple[CloseCheck, ...]:
        todo = self._typed("metering reconcile")
        if known is None:
            value = "the reconciler has not finished a pass yet"
            return (_check("differences", bad=True, value=value, todo=todo, state=CheckState.ATTENTION),)
        late = now_s - known.finished_s > _PASS_LATE_S
        waits = known.backlog.waiting
        return (
            _check(
                "differences",
                bad=known.differences > 0,
                value=f"hours that differ: {known.differences:,}",
                todo=f"{todo}, and runbook reconciliation-differences",
            ),
            _check(
                "reconciler",
                bad=late or waits > 0,
                value=f"finished {duration(max(now_s - known.finished_s, 0))} ago, {waits:,} still wait",
                todo=todo,
                state=CheckState.ATTENTION,
            ),
        )

    def _quarantine(self, month: str, first_s: int) -> CloseCheck:
        found = list(islice(self.quarantine.entries(from_s=first_s), _ENTRIES_READ))
        left = sum(not entry.retried_as for entry in found)
        many = "at least " if len(found) == _ENTRIES_READ else ""
        return _check(
            "quarantine",
            bad=left > 0,
            value=f"refused since the month began: {many}{len(found):,}, not retried: {left:,}",
            todo=self._typed(f"metering quarantine list --from {month}"),
            state=CheckState.ATTENTION,
        )

    def _earlier(self, month: str) -> CloseCheck:
        before = month_of(month_bounds_s(month)[0] - 1)
        state = next((period.state for period in periods.periods_of(self.items, [before]).values()), "open")
        first_s = self.closer.view.first_hour_s()
        used = first_s is not None and month_of(first_s) <= before
        return _check(
            "earlier-month",
            bad=used and state != "closed",
            value=f"{before} is {state}" if used else f"{before} has no rows",
            todo=self._typed(f"metering period close {before}"),
            state=CheckState.ATTENTION,
        )

    def _canary(self, now_s: int) -> CloseCheck:
        notes = islice(self.items.query(writes.Table.LEDGER, CANARY_PK, descending=True), _CANARIES_READ)
        runs = [CanaryRun.from_item(item) for item in notes]
        good_s = max((run.settled_s for run in runs if run.verdict is CanaryVerdict.GOOD), default=0)
        doubled = any(run.verdict is CanaryVerdict.DOUBLED for run in runs)
        late = now_s - good_s > _CANARY_LATE_S
        last = f"last good {duration(max(now_s - good_s, 0))} ago" if good_s else "none was seen good"
        return _check(
            "canary",
            bad=late or doubled,
            value="one was counted twice" if doubled else last,
            todo=self._typed(f"metering runbook canary-{'doubled' if doubled else 'late'}"),
            state=CheckState.ATTENTION,
        )

    def _typed(self, command: str) -> str:
        return f"{command} --region {self.region} --stage {self.stage}"


def _freshness(complete: Complete, after_s: int) -> CloseCheck:
    through = f"complete through {rfc3339(complete.through_s)}" if complete.through_s else "not known yet"
    short = complete.through_s < after_s
    held = [each for each in complete.held_back_by if short and (each.since_s is None or each.since_s < after_s)]
    return _check(
        "freshness",
        bad=short,
        value=f"{through}, held back by {'; '.join(each.what for each in held)}" if held else through,
        todo=held[0].cure if held else "wait until it is past the end of the month",
    )
