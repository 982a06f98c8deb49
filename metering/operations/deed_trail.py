"""The audit trail of a region: the deeds in its ledger, written as they begin and end, and read newest first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.hours import hour_of, month_bounds_s, month_of
from metering.ledger.notes.deeds import Deed, DeedState, deeds_pk, moment_of
from metering.stores.writes import Put, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.items import ItemStore

# The first month of any trail: no version before it wrote one.
FIRST_MONTH_S = month_bounds_s("2026-11")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeedTrail:
    """The trail in one ledger."""

    items: ItemStore

    def begin(self, deed: Deed) -> None:
        """Write that a deed begins. Its id is new, so nothing can lie at its key.

        Raises:
            UnavailableError: The ledger gave no answer, and the deed must not begin.
        """
        self.items.put(Put(table=Table.LEDGER, item=deed.to_item()))

    def end(self, deed: Deed, *, state: DeedState, ended_ms: int, result: str) -> Deed:
        """Write how a deed ended, and return it. It is written whole: its begin may not have been written.

        Raises:
            UnavailableError: The ledger gave no answer; the trail may say for ever that the deed began.
        """
        ended = replace(deed, state=state, ended_ms=ended_ms, result=result)
        self.items.put(Put(table=Table.LEDGER, item=ended.to_item()))
        return ended

    def between(self, from_s: int, to_s: int) -> Iterator[Deed]:
        """Deeds that began at or after `from_s` and before `to_s` (epoch seconds), newest first.

        A partition is read when the caller comes to its month.
        """
        first_s = max(from_s, FIRST_MONTH_S)
        before_s = to_s
        while before_s > first_s:
            month_s = month_bounds_s(month_of(hour_of(before_s - 1)))[0]
            lowest, highest = (moment_of(1000 * each) for each in (max(month_s, first_s), before_s))
            pk = deeds_pk(1000 * month_s)
            for item in self.items.query(Table.LEDGER, pk, sk_from=lowest, sk_to=highest, descending=True):
                yield Deed.from_item(item)
            before_s = month_s
