"""From the decision to the open ledger: steps 4 to 8 of a restore, each repeatable (P41)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import GenerationError, LedgerCorruptError, OperationFailedError
from metering.hours import hour_label
from metering.restore.adoption import open_ledger
from metering.usage.totals import REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.audit.census_state import HourStep
    from metering.audit.rebuild import MarkerRebuild, UsageRebuild
    from metering.restore.adoption import Adopted, Adoption
    from metering.restore.carried import Carried
    from metering.restore.copies import BatchCopies, Copied
    from metering.restore.decision import Decider, Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """Result of a restore.

    Attributes:
        rebuilt: Markers that came back from rows alone, without hash; None if every file has its markers in S3.
        usage: Corrections of usage.
    """

    carried: Carried
    adopted: Adopted
    copied: Copied
    rebuilt: MarkerRebuild | None
    usage: UsageRebuild


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """Makes a restored ledger complete, and opens it.

    Attributes:
        carry: Carries items that S3's rows do not give.
        copies: Made with the months that the decision says are closed.
        markers: Rebuilds lost markers from rows (P40).
        marks: Marks usage items that the old roll-up may still update. Returns further hours of the region to correct.
        region: States that the region's totals have what the old ledger had booked.
        usage: Corrects the usage of some accounts by hour; None for all usage (P38).
        whole: Whether the usage table is a new one, so that all usage has to be filled.
    """

    decider: Decider
    carry: Callable[[], Carried]
    adoption: Adoption
    copies: Callable[[Decision], BatchCopies]
    markers: Callable[[], MarkerRebuild]
    marks: Callable[[Decision], set[int]]
    region: Callable[[], None]
    usage: Callable[[Mapping[int, set[str]] | None, Callable[[HourStep], None]], UsageRebuild]
    whole: bool = False

    def run(
        self,
        tell: Callable[[str, int, int], None] = lambda *_: None,
        tell_hour: Callable[[HourStep], None] = lambda _: None,
    ) -> Restored:
        """Prepare the new ledger, and open it; raises as `prepare`."""
        restored = self.prepare(tell, tell_hour)
        self.open()
        return restored

    def open(self) -> None:
        """Open the new ledger. Repeat the call after any failure; raises as `open_ledger`."""
        open_ledger(self.adoption.items, self.adoption.retrier, self.adoption.generation)

    def prepare(
        self,
        tell: Callable[[str, int, int], None] = lambda *_: None,
        tell_hour: Callable[[HourStep], None] = lambda _: None,
    ) -> Restored:
        """Decide, adopt and correct usage.

        Raises:
            OperationFailedError: Some usage could not be measured, or another restorer has opened the ledger.
            LedgerCorruptError: Rows of accepted commits are gone, or an item contradicts the protocol.
            UnavailableError: A store does not respond; call again.
        """
        try:
            return self._prepare(tell, tell_hour)
        except (LedgerCorruptError, GenerationError):
            # What functions do with an open ledger looks like a contradiction to a restorer that is late.
            self.adoption.changes.check()
            raise

    def assist(self, tell: Callable[[str, int, int], None] = lambda *_: None) -> Adopted:
        """Adopt files and markers in a further process; see `Adoption.assist`. Call it once the decision is stored."""
        return self.adoption.assist(self.decider.decide(), tell)

    def _prepare(self, tell: Callable[[str, int, int], None], tell_hour: Callable[[HourStep], None]) -> Restored:
        decision = self.decider.decide()
        self.adoption.changes.take_over()
        carried = self.carry()
        adopted = self.adoption.run(decision, tell)
        copied = self.copies(decision).run(adopted.left, tell)
        rebuilt = self.markers() if adopted.without_lines else None
        self.adoption.end(decision)
        # What was read so far was no half of another restorer's changes. From here on, rows do not change.
        self.adoption.changes.check()
        unsure = set() if self.whole else self.marks(decision)
        # The region's totals of an hour change with any account's.
        hours = {hour_s: adopted.hours.get(hour_s, set()) | {REGION} for hour_s in adopted.hours.keys() | unsure}
        usage = self.usage(None if self.whole else hours, tell_hour)
        if usage.unstable:
            named = ", ".join(map(hour_label, usage.unstable[:5]))
            raise OperationFailedError(
                f"{len(usage.unstable)} hours could not be measured: {named}.", "Run it again; it does the rest."
            )
        if usage.unreadable:
            raise LedgerCorruptError(usage.unreadable[0])
        self.region()
        return Restored(carried=carried, adopted=adopted, copied=copied, rebuilt=rebuilt, usage=usage)
