"""The reconciler's record of the sources: their sequence numbers, their gaps, and the operators' rulings.

Nothing else writes them. If the record of one source cannot be read or written, the others are still processed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, cast

from metering.audit.sequences import SOURCES_KEPT, Gap, MarkerSurvey, SeenSequences, SourceSightings
from metering.errors import LedgerCorruptError, MeteringError
from metering.ledger.notes.reconciliation import (
    NAMED,
    RULING_PK,
    SILENCE_S,
    SOURCE_PK,
    SOURCES_KEY,
    Ruling,
    RulingKind,
    SourceFigures,
    SourceState,
    source_id_of,
)
from metering.stores import codec
from metering.stores.writes import Item, ItemStore, Put, Table, Value, read_note
from metering.units import HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.stores.clock import Clock

# If a gap is younger than this, its missing batch may still arrive.
GAP_GRACE_S = 15 * MINUTE_S
# Maximum number of rulings that one read returns. Operators create rulings by hand, and old rulings expire.
_RULINGS_READ = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMemory:
    """Record of one source between two passes, with the times of the newest ruling and the newest `forget`."""

    seen: SeenSequences = field(default_factory=SeenSequences)
    last_seen_s: int = 0
    forgotten_ms: int = 0
    ruled_ms: int = 0

    @classmethod
    def from_item(cls, item: Item) -> SourceMemory:
        state, fields = SourceState.from_item(item), codec.Fields.of_item(item)
        return cls(
            seen=SeenSequences(
                last=state.last_sequence,
                last_ms=fields.whole("last_ms"),
                gaps=tuple(
                    Gap(gap.whole("first"), gap.whole("last"), gap.whole("noticed_ms"), gap.whole("since_ms"))
                    for gap in fields.rows("noticed", Gap._fields)
                ),
                unlisted_gaps=state.unlisted_gaps,
                unlisted_numbers=state.unlisted_numbers,
                incredible=state.incredible,
                incredible_first=state.incredible_first,
            ),
            last_seen_s=state.last_seen_s,
            # Items of earlier releases lack this attribute.
            forgotten_ms=fields.whole("forgotten_ms", absent=0),
            ruled_ms=fields.whole("ruled_ms", absent=0),
        )

    def state(self, source_id: str, *, noticed_by_ms: int) -> SourceState:
        """State of the source for people, with the gaps that were noticed by a given time."""
        return SourceState(
            source_id=source_id,
            last_sequence=self.seen.last,
            last_seen_s=self.last_seen_s,
            gaps=tuple((gap.first, gap.last) for gap in self.seen.confirmed(before_ms=noticed_by_ms)),
            unlisted_gaps=self.seen.unlisted_gaps,
            unlisted_numbers=self.seen.unlisted_numbers,
            incredible=self.seen.incredible,
            incredible_first=self.seen.incredible_first,
        )

    def to_item(self, state: SourceState, *, life_s: int) -> dict[str, Value]:
        noticed: list[Value] = [list(gap) for gap in self.seen.gaps]
        return {
            **state.to_item(),
            "last_ms": self.seen.last_ms,
            "noticed": noticed,
            "forgotten_ms": self.forgotten_ms,
            "ruled_ms": self.ruled_ms,
            "expires_at": max(self.last_seen_s, self.forgotten_ms // 1000) + life_s,
        }


@dataclass(slots=True)
class _Tally:
    """Counts of sources in one pass. `since_ms`: earliest production time of a missing batch."""

    sources: int = 0
    silent: int = 0
    gaps: int = 0
    incredible: int = 0
    unkept: int = 0
    names: list[str] = field(default_factory=list)
    since_ms: int | None = None

    def add(self, state: SourceState, seen: SeenSequences, *, noticed_by_ms: int, silent_s: int) -> None:
        """Count one source."""
        self.sources += 1
        self.silent += state.last_seen_s < silent_s
        self.gaps += len(state.gaps) + state.unlisted_gaps
        self.incredible += state.incredible > 0
        for gap in seen.confirmed(before_ms=noticed_by_ms):
            self.since_ms = gap.since_ms if self.since_ms is None else min(self.since_ms, gap.since_ms)

    def miss(self, source_id: str, count: int = 1) -> None:
        """Count a source whose record could not be kept, and add its name to the list of names."""
        if source_id in self.names:
            return
        self.unkept += count
        if len(self.names) < NAMED:
            self.names.append(source_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceKeeper:
    """Keeps the record of the sources.

    Attributes:
        largest_jump: Largest credible gap, in numbers. Larger gaps are counted, but do not hold back completeness.
        life_s: Time without batches after which a source is forgotten. This time must exceed the life of markers:
            markers would otherwise restore the source.
        gap_grace_s: Age at which a gap is reported.
        silence_s: Time without a batch after which a source counts as silent.
    """

    items: ItemStore
    clock: Clock
    largest_jump: int
    life_s: int
    gap_grace_s: int = GAP_GRACE_S
    silence_s: int = SILENCE_S

    def keep(self, survey: MarkerSurvey) -> int | None:
        """Record a whole pass.

        Returns:
            Earliest production time of a missing batch, epoch milliseconds; None if no batch is missing.
        """
        tally = _Tally()
        if survey.unkept:
            tally.miss(survey.unkept_source, survey.unkept)
        return self._pass(survey.sources, tally, scanned_ms=survey.began_ms or self.clock.now_ms())

    def follow(self, survey: MarkerSurvey) -> tuple[int | None] | None:
        """Record what new lake files say of known sources: when a source was last seen, and batches that fill a gap.

        A file lacks refused batches, which have numbers, too. So only a whole pass finds new gaps and new sources.

        Returns:
            As `honour`; None without a source.
        """
        known = self.figures()
        if not survey.sources and not known.sources:
            return self.honour()
        tally = _Tally(unkept=known.unkept, names=list(known.names))
        return (self._pass(survey.sources, tally, scanned_ms=known.scanned_ms, whole=False),)

    def honour(self) -> tuple[int | None] | None:
        """Apply new rulings between full passes, without newer batches.

        Returns:
            None if there is no new ruling; otherwise the result of `keep`.
        """
        known = self.figures()
        newest_ms = max((ruling.at_ms for rulings in self._rulings().values() for ruling in rulings), default=0)
        if newest_ms <= known.ruled_ms:
            return None
        tally = _Tally(unkept=known.unkept, names=list(known.names))
        return (self._pass(None, tally, scanned_ms=known.scanned_ms),)

    def figures(self) -> SourceFigures:
        """Summary of the last pass."""
        return read_note(self.items, SOURCES_KEY, SourceFigures.from_item) or SourceFigures()

    def states(self) -> list[SourceState]:
        """All live sources, ordered by name."""
        now_s = self.clock.now_ms() // 1000
        found = (SourceState.from_item(item) for item in self.items.query(Table.LEDGER, SOURCE_PK))
        return [state for state in found if state.is_live(now_s, self.life_s)]

    def _pass(
        self,
        sightings: Mapping[str, SourceSightings] | None,
        tally: _Tally,
        *,
        scanned_ms: int,
        whole: bool = True,
    ) -> int | None:
        """Record a pass; `scanned_ms` is the time of the last whole one. Otherwise `sightings` are of some batches."""
        rulings = self._rulings()
        stored: set[str] = set()
        # A gap can become old enough to be reported although its source sends no new batches.
        for item in self.items.query(Table.LEDGER, SOURCE_PK):
            source_id = source_id_of(item)
            stored.add(source_id)
            found = None if sightings is None else sightings.get(source_id, SourceSightings())
            self._keep(source_id, item, found, rulings.get(source_id, []), tally, scanned_ms, whole=whole)
        new = (sightings or {}) if whole else {}
        for source_id, seen in sorted(new.items(), key=lambda each: each[0]):
            if source_id in stored:
                continue
            if tally.sources < SOURCES_KEPT:
                self._keep(source_id, None, seen, rulings.get(source_id, []), tally, scanned_ms, whole=whole)
            else:
                tally.miss(source_id, len(seen))
        figures = SourceFigures(
            scanned_ms=scanned_ms,
            ruled_ms=max((ruling.at_ms for each in rulings.values() for ruling in each), default=0),
            sources=tally.sources,
            silent=tally.silent,
            gaps=tally.gaps,
            incredible=tally.incredible,
            unkept=tally.unkept,
            names=tuple(tally.names),
        )
        self.items.put(Put(table=Table.LEDGER, item=figures.to_item()))
        return tally.since_ms

    def _keep(
        self,
        source_id: str,
        before: Item | None,
        found: SourceSightings | None,
        rulings: list[Ruling],
        tally: _Tally,
        scanned_ms: int,
        *,
        whole: bool,
    ) -> None:
        noticed_by_ms = scanned_ms - self.gap_grace_s * 1000
        seen_by_s = (scanned_ms if whole else self.clock.now_ms()) // 1000
        try:
            memory = SourceMemory() if before is None else SourceMemory.from_item(before)
            memory = self._now(memory, found, rulings, whole=whole)
            state = memory.state(source_id, noticed_by_ms=noticed_by_ms)
            silent_s = seen_by_s - self.silence_s - (0 if whole else self._slack_s)
            if state.is_live(self.clock.now_ms() // 1000, self.life_s):
                tally.add(state, memory.seen, noticed_by_ms=noticed_by_ms, silent_s=silent_s)
            after = memory.to_item(state, life_s=self.life_s)
            if before is not None and not whole and _differ_in_little(before, after, slack_s=self._slack_s):
                return
            if after != before and (before is not None or memory.last_seen_s):
                self.items.put(Put(table=Table.LEDGER, item=after))
        except MeteringError:
            tally.miss(source_id)

    @property
    def _slack_s(self) -> int:
        """Time by which a record of when a source was last seen may lag in quick passes, which saves writes."""
        return self.silence_s // 12

    def _now(
        self, memory: SourceMemory, found: SourceSightings | None, rulings: list[Ruling], *, whole: bool
    ) -> SourceMemory:
        """Record of a source after applying new sightings (None without a scan in this pass) and all rulings."""
        forgotten_ms = _forgotten_ms(rulings)
        if forgotten_ms > memory.forgotten_ms:
            memory = SourceMemory(forgotten_ms=forgotten_ms, ruled_ms=forgotten_ms)
        seen, last_seen_s = memory.seen, memory.last_seen_s
        accepted = [r for r in rulings if r.kind is RulingKind.ACCEPT_GAP and r.at_ms > memory.forgotten_ms]
        if found is not None:
            found = found.after(memory.forgotten_ms)
            if not whole:
                seen = seen.filled(number for number, _ in found.in_order())
            else:
                accepted_ms = max((r.at_ms for r in accepted if r.numbers is None), default=0)
                if memory.forgotten_ms:
                    seen = seen.begun_anew(next((number for number, _ in found.in_order()), None))
                seen = seen.plus_ordered(
                    found.in_order(),
                    now_ms=self.clock.now_ms(),
                    largest_jump=self.largest_jump,
                    accepted_ms=accepted_ms,
                )
            last_seen_s = max(last_seen_s, found.newest_ms // 1000)
        for ruling in accepted:
            if ruling.at_ms <= memory.ruled_ms:
                continue
            if ruling.numbers is None:
                seen = seen.accepting_all(noticed_by_ms=ruling.at_ms)
            else:
                seen = seen.accepting(*ruling.numbers)
        return SourceMemory(
            seen=seen,
            last_seen_s=last_seen_s,
            forgotten_ms=memory.forgotten_ms,
            ruled_ms=max((memory.ruled_ms, *(ruling.at_ms for ruling in rulings))),
        )

    def _rulings(self) -> dict[str, list[Ruling]]:
        return rulings_of(self.items, since_s=self.clock.now_ms() // 1000)


def _differ_in_little(before: Item, after: Mapping[str, Value], *, slack_s: int) -> bool:
    """Whether a record differs only by a source that was seen less than the slack later."""
    moved = {name: before.get(name) for name in ("last_seen_s", "expires_at")}
    seen_s = cast("int", after["last_seen_s"]) - cast("int", before.get("last_seen_s", 0))
    return {**after, **moved} == before and seen_s < slack_s


def sources_known(items: ItemStore) -> dict[str, SourceSightings]:
    """Empty sightings of the known sources, without the numbers of earlier scans and forgotten ones."""
    figures = read_note(items, SOURCES_KEY, SourceFigures.from_item) or SourceFigures()
    since_ms = figures.scanned_ms - HOUR_S * 1_000
    rulings = rulings_of(items, since_s=0)
    found: dict[str, SourceSightings] = {}
    for item in islice(items.query(Table.LEDGER, SOURCE_PK), SOURCES_KEPT):
        source_id = source_id_of(item)
        forgotten_ms = _forgotten_ms(rulings.get(source_id, []))
        try:
            memory = SourceMemory.from_item(item)
        except LedgerCorruptError:
            # The scan keeps all numbers, and `SourceKeeper` reports the source.
            found[source_id] = SourceSightings(forgotten_ms=forgotten_ms)
            continue
        seen = None if forgotten_ms > memory.forgotten_ms else memory.seen
        found[source_id] = SourceSightings(seen, since_ms, max(forgotten_ms, memory.forgotten_ms))
    return found


def rulings_of(items: ItemStore, *, since_s: int) -> dict[str, list[Ruling]]:
    """Rulings on sources that still stand at a time, epoch seconds."""
    found: dict[str, list[Ruling]] = {}
    for item in islice(items.query(Table.LEDGER, RULING_PK), _RULINGS_READ):
        ruling = Ruling.from_item(item)
        if ruling.expires_at > since_s:
            found.setdefault(ruling.source_id, []).append(ruling)
    return found


def _forgotten_ms(rulings: Iterable[Ruling]) -> int:
    return max((ruling.at_ms for ruling in rulings if ruling.kind is RulingKind.FORGET), default=0)
