"""Result of a census for each hour: it agrees, or some of its parts are to be looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.audit.census_state import CensusState, HourRows, Names, part_of
from metering.audit.hour_check import HourCheck
from metering.audit.settling import limited
from metering.ledger.markers import MarkerGlance, is_marker
from metering.ledger.runs import Contradictions
from metering.stores.clock import side_by_side
from metering.stores.writes import Item, Table
from metering.usage.totals import ZERO, Total

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.audit.figures import Figures


_NOTHING = HourRows(booked=ZERO, placed=ZERO, all_rows=ZERO, keys=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Parts of an hour that a census did not find equal.

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
        """The same without unsettled parts."""
        return replace(self, accounts=self.accounts - self.unsettled, unsettled=frozenset())

    @property
    def differs(self) -> bool:
        """Whether more than the commits that kept coming is in doubt."""
        return bool(replace(self, moving=False))

    @property
    def marked(self) -> bool:
        """Whether markers and rows differ."""
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
    """Compares the counts of a census.

    Attributes:
        state: Counted to its end.
        may_lack_markers: Whether markers of an hour may have expired.
    """

    state: CensusState
    may_lack_markers: Callable[[int], bool]

    def checks(self) -> dict[int, tuple[HourCheck, Doubt]]:
        """Each hour that rows, usage or markers know, in order, with its doubts."""
        state, usage = self.state, self.state.usage
        used = {hour_s for hour_s in (*state.used, *usage) if usage.counts(hour_s) or hour_s in state.unsettled}
        return {hour_s: self._hour(hour_s) for hour_s in sorted({*state.rows, *used, *state.unsettled, *state.marked})}

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
            digest=rows.digest,
        )
        return check, doubt


@dataclass(frozen=True, slots=True, kw_only=True)
class NameSearch:
    """Reads the names in the parts of a census that differ, by another scan of each table.

    The names are in the state of the census: another process resumes there.

    Attributes:
        most: Most batches that are held.
        limit: Called while something is read; it may raise ScanTooLongError.
    """

    figures: Figures
    most: int
    limit: Callable[[], None]

    def run(self, state: CensusState, doubts: Mapping[int, Doubt]) -> Names:
        """Read the names that the doubts ask for.

        Raises:
            ScanTooLongError: As `limit` says. `state` has the names so far.
        """
        if any(doubt.accounts or doubt.unsettled for doubt in doubts.values()):
            self._accounts(state, doubts)
        if any(doubt.marked for doubt in doubts.values()) and not state.names.too_many:
            self._batches(state, doubts)
        return state.names

    def _accounts(self, state: CensusState, doubts: Mapping[int, Doubt]) -> None:
        names = state.names

        def read(part: int) -> set[tuple[int, str]]:
            found = self.figures.usage.scan(
                Contradictions(), part=part, parts=state.segments, from_s=state.from_s, to_s=state.to_s
            )
            places = ((item.hour_s, item.account_id) for item in limited(found, self.limit))
            return {
                (hour_s, name)
                for hour_s, name in places
                if hour_s in doubts and doubts[hour_s].has_account(name, state.parts)
            }

        for found in side_by_side(read, range(names.usage_done, state.segments), threads=self.figures.threads):
            for hour_s, name in found:
                names.accounts.setdefault(hour_s, set()).add(name)
            names.usage_done += 1

    def _batches(self, state: CensusState, doubts: Mapping[int, Doubt]) -> None:
        names = state.names
        held = sum(map(len, names.batches.values()))

        def read(part: int) -> list[tuple[int, str, Total]]:
            found: list[tuple[int, str, Total]] = []
            for item in limited(self.figures.items.scan(Table.LEDGER, part=part, parts=state.segments), self.limit):
                if is_marker(item) and len(found) <= self.most:
                    found += _marked(item, state, doubts)
            return found

        for found in side_by_side(read, range(names.markers_done, state.segments), threads=self.figures.threads):
            held += len(found)
            if held > self.most:
                names.batches, names.too_many = {}, True
                return
            for hour_s, batch_id, total in found:
                names.batches.setdefault(hour_s, {})[batch_id] = total
            names.markers_done += 1


def _marked(item: Item, state: CensusState, doubts: Mapping[int, Doubt]) -> list[tuple[int, str, Total]]:
    """Totals of a marker in the hours in doubt; none if it cannot be read, which the census has noted."""
    with Contradictions().noted():
        marker = MarkerGlance.of_item(item)
        hours = [(hour_s, total) for hour_s, total in marker.hours.items() if hour_s in doubts]
        parts, batch_id = state.parts, marker.batch_id
        return [(hour_s, batch_id, total) for hour_s, total in hours if doubts[hour_s].has_batch(batch_id, parts)]
    return []
