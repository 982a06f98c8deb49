"""What a census says of each hour: that it agrees, or in which parts it is to be looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.audit.reconcile.hour_check import HourCheck
from metering.audit.scan.cells import part_of
from metering.audit.scan.state import HourRows
from metering.usage.totals import ZERO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from metering.audit.scan.state import CensusState

_NOTHING = HourRows(booked=ZERO, placed=ZERO, all_rows=ZERO, keys=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What of an hour a census could not find equal.

    Attributes:
        accounts: Parts in which usage and rows differ.
        unsettled: Parts in which some usage was not settled.
        batches: Parts in which markers and rows differ.
        whole: The files do not hold the total that the ledger has for them.
        all_batches: Markers and rows differ by their total.
        moving: Commits kept coming, so markers and rows could not be compared.
    """

    accounts: frozenset[int] = frozenset()
    unsettled: frozenset[int] = frozenset()
    batches: frozenset[int] = frozenset()
    whole: bool = False
    all_batches: bool = False
    moving: bool = False

    def __bool__(self) -> bool:
        return bool(self.accounts or self.unsettled or self.batches or self.whole or self.all_batches or self.moving)

    @property
    def settled(self) -> Doubt:
        """The same without the parts in which something was not settled."""
        return replace(self, accounts=self.accounts - self.unsettled, unsettled=frozenset())

    @property
    def differs(self) -> bool:
        """Whether there is anything but commits that kept coming."""
        return bool(replace(self, moving=False))

    @property
    def marked(self) -> bool:
        """Whether batches are to be looked at."""
        return self.all_batches or bool(self.batches)

    def has_account(self, name: str, parts: int) -> bool:
        """Whether an account is in one of the parts."""
        part = part_of(name, parts)
        return part in self.accounts or part in self.unsettled

    def has_batch(self, name: str, parts: int) -> bool:
        """Whether a batch is in one of the parts."""
        return self.all_batches or part_of(name, parts) in self.batches


@dataclass(frozen=True, slots=True)
class Findings:
    """Compares what a census counted.

    Attributes:
        state: It was counted to its end.
        may_lack_markers: Whether markers of an hour may have expired.
    """

    state: CensusState
    may_lack_markers: Callable[[int], bool]

    def checks(self) -> dict[int, tuple[HourCheck, Doubt]]:
        """Each hour that rows, usage or markers know, in order, with what of it is in doubt."""
        return {hour_s: self._hour(hour_s) for hour_s in _hours_of(self.state)}

    def _hour(self, hour_s: int) -> tuple[HourCheck, Doubt]:
        state = self.state
        rows = state.rows.get(hour_s, _NOTHING)
        with_markers = state.with_markers and not self.may_lack_markers(hour_s)
        marked = state.marked.get(hour_s, ZERO)
        compared = with_markers and rows.all_rows is not None
        doubt = Doubt(
            accounts=state.placed.differing(state.usage, hour_s),
            unsettled=state.unsettled_parts(hour_s),
            batches=state.marks.differing(state.batches, hour_s) if with_markers and state.deep else frozenset(),
            whole=rows.booked != rows.placed,
            all_batches=compared and not state.deep and marked != rows.all_rows,
            moving=with_markers and rows.all_rows is None,
        )
        check = HourCheck(
            hour_s=hour_s,
            stable=not doubt,
            deep=state.deep,
            markers=marked if with_markers else None,
            usage=state.used.get(hour_s, ZERO),
            rows=rows.placed,
            differences=(),
            digest=rows.digest,
        )
        return check, doubt


def _hours_of(state: CensusState) -> Iterable[int]:
    """Every hour that rows, usage or markers know, in order."""
    used = {hour_s for hour_s in (*state.used, *state.usage) if state.usage.counts(hour_s) or hour_s in state.unsettled}
    return sorted({*state.rows, *used, *state.unsettled, *state.marked})
