"""The check of a month before it is closed: a deep census, which holds an hour at a time, not the month (P35).

What does not agree is left to the reconciler, which compares it key by key, a minute apart, and names the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metering.audit.scan.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.audit.reconcile.hour_check import HourCheck
    from metering.audit.reconcile.reconciler import Reconciler
    from metering.audit.scan.state import CensusState
    from metering.ledger.contradictions import Contradictions


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthStep:
    """Progress of a close: hour number `done` of `hours` was compared, or frozen."""

    doing: Literal["compared", "frozen"]
    hour_s: int
    done: int
    hours: int


def tell_nobody(_step: MonthStep) -> None:
    """Tell no progress."""


def keep_nothing(_state: CensusState) -> None:
    """Save nothing of what was counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthChecked:
    """Result of the check.

    Attributes:
        agreeing: Hours whose markers, usage and rows are equal.
        doubtful: Other hours that rows, usage or markers know.
        contradictions: Markers that cannot be read.
    """

    agreeing: Mapping[int, HourCheck]
    doubtful: tuple[int, ...]
    contradictions: Contradictions


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthCheck:
    """Checks the hours of `[from_s, to_s)`."""

    reconciler: Reconciler
    from_s: int
    to_s: int

    def run(
        self,
        tell: Callable[[MonthStep], None] = tell_nobody,
        *,
        counted: CensusState | None = None,
        keep: Callable[[CensusState], None] = keep_nothing,
    ) -> MonthChecked:
        """Compare every hour that has a row source, usage or a marker.

        Args:
            tell: Called after each hour.
            counted: What an earlier check of these hours counted, since the month takes no bookings any more; None to
                begin.
            keep: Called with what was counted so far, after each part of a table and each hour.

        Raises:
            ValueError: What was counted is no such check's.
        """
        state = counted
        if state is None:
            state = self.reconciler.begin(from_s=self.from_s, to_s=self.to_s, deep=True, sources=False)
            state.digests = True
        if not (state.deep and state.digests) or (state.from_s, state.to_s) != (self.from_s, self.to_s):
            raise ValueError("what was counted is of another scan")

        def told(now: CensusState) -> None:
            keep(now)
            if now.phase == "rows":
                tell(MonthStep(doing="compared", hour_s=now.hours[now.done - 1], done=now.done, hours=len(now.hours)))

        self.reconciler.census.go_on(state, tell=told)
        checks = Findings(state, self.reconciler.may_lack_markers).checks()
        return MonthChecked(
            agreeing={hour_s: check for hour_s, (check, doubt) in checks.items() if not doubt},
            doubtful=tuple(hour_s for hour_s, (_, doubt) in checks.items() if doubt),
            contradictions=state.survey.contradictions,
        )
