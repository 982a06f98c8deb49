"""State of a census. The state can be saved, so that another process can resume."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from metering.audit import source_keeping
from metering.audit.sequences import MarkerSurvey, SourceSightings
from metering.audit.settling import Fingerprint
from metering.errors import ObjectMissingError
from metering.ledger.format_version import generations_of
from metering.ledger.markers import VerdictCounts
from metering.stores.objects import SCAN_KEY, ObjectStore
from metering.units import HOUR_S
from metering.usage.totals import Total, add_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from metering.stores import writes

# Memory of a cell, including its entries in two dictionaries, measured with Python 3.13.
_CELL_BYTES = 400
# Kinds of cells in a scan: usage, rows for usage, markers and rows for markers.
_KINDS = 4
# Fraction of a scan's memory that its cells may use. The rest is for the keys of an hour while they are summed: at
# three times the target, one of 25 parts of an hour has 60,000 batches.
SHARE_OF_CELLS = 16
_FEWEST_PARTS, _MOST_PARTS = 16, 1_024

Saved = dict[str, list[list[int | str]]]


def parts_in(memory_bytes: int, hours: int) -> int:
    """Number of parts per hour with which the cells of a scan stay within their share of the memory."""
    most = memory_bytes // SHARE_OF_CELLS // (_CELL_BYTES * _KINDS * max(hours, 1))
    return max(_FEWEST_PARTS, min(most, _MOST_PARTS))


def span_hours(from_s: int, to_s: int) -> int:
    """Number of hours of a range, at most as many as can have both rows and markers."""
    return min(max((to_s - from_s) // HOUR_S, 1), 24 * 70)


def part_of(name: str, parts: int) -> int:
    """Part number of an account or a batch."""
    return zlib.crc32(name.encode()) % parts


class Cells:
    """Fingerprints by hour and part: millions of keys' totals in bounded memory. Mutable, so a plain class.

    Two objects are compared cell by cell. If two cells differ, the keys of that hour and part are compared one by one.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self._hours: dict[int, dict[int, Fingerprint]] = {}

    def __iter__(self) -> Iterator[int]:
        """Hours with a cell, in arbitrary order."""
        return iter(self._hours)

    def add(self, hour_s: int, name: str, key: Hashable, total: Total) -> None:
        """Add the total of a key to the cell of an hour and of the part that contains `name`."""
        self._cell(hour_s, part_of(name, self.parts)).add(key, total)

    def merge(self, other: Cells) -> None:
        """Add all cells of another object with the same number of parts."""
        for hour_s, cells in other._hours.items():
            for part, cell in cells.items():
                self._cell(hour_s, part).merge(cell)

    def of(self, hour_s: int) -> Mapping[int, Fingerprint]:
        """Cells by part."""
        return self._hours.get(hour_s, {})

    def counts(self, hour_s: int) -> bool:
        """Whether any cell of an hour is not zero."""
        return any(cell != Fingerprint() for cell in self.of(hour_s).values())

    def differing(self, other: Cells, hour_s: int) -> frozenset[int]:
        """Parts of an hour in which the cells of two objects differ."""
        mine, theirs, empty = self.of(hour_s), other.of(hour_s), Fingerprint()
        return frozenset(part for part in {*mine, *theirs} if mine.get(part, empty) != theirs.get(part, empty))

    def saved(self) -> Saved:
        """Form for JSON, exact."""
        return {
            str(hour_s): [
                [part, str(cell.total.bytes), cell.total.records, str(cell.value)] for part, cell in cells.items()
            ]
            for hour_s, cells in self._hours.items()
        }

    @classmethod
    def of_saved(cls, parts: int, saved: Saved) -> Cells:
        """Inverse of `saved`."""
        made = cls(parts)
        for hour, cells in saved.items():
            made._hours[int(hour)] = {
                int(part): Fingerprint(total=Total(int(size), int(records)), value=int(value))
                for part, size, records, value in cells
            }
        return made

    def _cell(self, hour_s: int, part: int) -> Fingerprint:
        return self._hours.setdefault(hour_s, {}).setdefault(part, Fingerprint())


Phase = Literal["markers", "rows", "usage", "done"]
# A table is scanned in this many segments. A segment is either counted completely or counted again from its start.
SEGMENTS = 16
_MOST_SEGMENTS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class HourRows:
    """Rows of one hour.

    Attributes:
        booked: Total of the placed rows in the ledger.
        placed: Total of the placed rows, summed from the rows of each key.
        all_rows: Total of the rows to compare with markers; None if markers may have expired, or commits kept arriving.
        keys: Number of usage keys, in a deep census.
        digest: Digest of the placed rows by usage key, if requested.
    """

    booked: Total
    placed: Total
    all_rows: Total | None
    keys: int
    digest: str = ""


@dataclass(slots=True, kw_only=True)
class Names:
    """Accounts and batches found so far in parts of hours that differ. Mutable.

    Attributes:
        accounts: Hour -> accounts that have usage.
        batches: Hour -> batch -> total of its marker.
        too_many: Whether more batches were found than fit into memory; none is then held.
        usage_done, markers_done: Number of parts of the usage table and of the markers that have been read.
    """

    accounts: dict[int, set[str]] = field(default_factory=dict)
    batches: dict[int, dict[str, Total]] = field(default_factory=dict)
    too_many: bool = False
    usage_done: int = 0
    markers_done: int = 0

    @property
    def done(self) -> int:
        return self.usage_done + self.markers_done


@dataclass(slots=True, kw_only=True)
class CensusState:
    """Counts of a census so far. Mutable.

    Attributes:
        deep: Count rows, also by batch; if false, use the totals beside the files, and compare markers by the hour.
        began_ms: Time of the first marker read, epoch milliseconds.
        generation: Generation of the ledger that is counted. Under another one, the count begins anew (P41).
        done: Number of parts or hours already counted in this phase.
        with_markers: Markers are compared, too.
        digests: Whether to compute a digest of each hour's rows.
        judged: Number of timeouts while the differences were examined, without a newly read part of names.
        runs: Newest done roll-up run of each shard, read before the rows.
        verdicts: Verdicts of batches with records in the range, or decided in it without records; None if not counted.
        marked: Marker totals by hour; unless `deep`, without commits made after `began_ms`.
        marks, batches: Fingerprints of markers and of rows by batch, if `deep`.
        placed, usage: Fingerprints of rows and of settled usage items by key.
        used: Total of settled and unsettled usage by hour.
        latest: Shard -> newest roll-up run in unsettled usage items.
        names: Accounts and batches in parts of hours that differ, read after the count.
        unsettled: Hour -> bit mask of the parts with unsettled usage.
    """

    from_s: int
    to_s: int
    deep: bool
    parts: int
    began_ms: int
    generation: int = 1
    segments: int = SEGMENTS
    phase: Phase = "markers"
    done: int = 0
    judged: int = 0
    with_markers: bool = True
    digests: bool = False
    hours: list[int] = field(default_factory=list)
    runs: dict[int, int] = field(default_factory=dict)
    survey: MarkerSurvey = field(default_factory=MarkerSurvey)
    verdicts: VerdictCounts | None = None
    marked: dict[int, Total] = field(default_factory=dict)
    rows: dict[int, HourRows] = field(default_factory=dict)
    used: dict[int, Total] = field(default_factory=dict)
    unsettled: dict[int, int] = field(default_factory=dict)
    latest: dict[int, int] = field(default_factory=dict)
    names: Names = field(default_factory=Names)
    marks: Cells = field(init=False)
    batches: Cells = field(init=False)
    placed: Cells = field(init=False)
    usage: Cells = field(init=False)

    def __post_init__(self) -> None:
        self.marks, self.batches, self.placed, self.usage = (Cells(self.parts) for _ in range(4))

    def part(self) -> CensusState:
        """Return an empty state in which to count one part of a table."""
        return CensusState(
            from_s=self.from_s,
            to_s=self.to_s,
            deep=self.deep,
            parts=self.parts,
            began_ms=self.began_ms,
            runs=self.runs,
            survey=self.survey.part(),
            verdicts=None if self.verdicts is None else VerdictCounts(),
        )

    def merge(self, part: CensusState) -> None:
        """Add the counts of a part of a table."""
        self.survey.merge(part.survey)
        self.marks.merge(part.marks)
        self.usage.merge(part.usage)
        if self.verdicts is not None and part.verdicts is not None:
            self.verdicts.add(part.verdicts)
        add_totals(self.marked, part.marked)
        add_totals(self.used, part.used)
        for hour_s, bits in part.unsettled.items():
            self.unsettled[hour_s] = self.unsettled.get(hour_s, 0) | bits
        for shard, number in part.latest.items():
            self.latest[shard] = max(number, self.latest.get(shard, 0))

    def unsettled_parts(self, hour_s: int) -> frozenset[int]:
        """Parts of an hour with unsettled usage."""
        bits = self.unsettled.get(hour_s, 0)
        return frozenset(part for part in range(self.parts) if bits >> part & 1) if bits else frozenset()

    @property
    def of(self) -> int:
        """Number of parts or hours in the current phase."""
        return len(self.hours) if self.phase == "rows" else self.segments

    def in_smaller_parts(self) -> None:
        """Divide a table into more parts, because even the first part took too long."""
        if self.phase in ("markers", "usage") and not self.done:
            self.segments = min(self.segments * 8, _MOST_SEGMENTS)

    def begin(self, phase: Phase) -> None:
        """Start the next phase."""
        self.phase, self.done = phase, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HourStep:
    """Progress of a close or a rebuild: `done` of `hours` hours are done."""

    doing: Literal["compared", "frozen", "measured", "repaired"]
    hour_s: int
    done: int
    hours: int


def tell_hour(state: CensusState, doing: Literal["compared", "measured"], tell: Callable[[HourStep], None]) -> None:
    """Report the last counted hour if the phase is `rows`."""
    if state.phase == "rows":
        hour_s = state.hours[state.done - 1]
        tell(HourStep(doing=doing, hour_s=hour_s, done=state.done, hours=len(state.hours)))


# Format version of a saved census. A census that was saved in another version starts again.
_FORM = 3
# Fields that are saved without conversion.
_AS_IT_IS = (
    *("from_s", "to_s", "deep", "parts", "began_ms", "segments", "phase", "done", "judged"),
    *("with_markers", "digests", "hours"),
)


def keep_census(objects: ObjectStore, state: CensusState) -> None:
    """Save a state.

    Raises:
        UnavailableError: The state may or may not be saved; the next process starts from the last saved state.
    """
    objects.put(SCAN_KEY, census_bytes(state), if_absent=False)


def kept_census(objects: ObjectStore, items: writes.ItemStore) -> CensusState | None:
    """Saved state; None if no state is saved, another version saved it, or the ledger was restored since."""
    try:
        body = objects.get(SCAN_KEY)
    except ObjectMissingError:
        return None
    found = census_of(body, items)
    return None if found is None or found.generation != generations_of(items).ledger else found


def census_bytes(state: CensusState) -> bytes:
    """Serialise a state."""
    return gzip.compress(json.dumps(_saved(state), separators=(",", ":")).encode(), mtime=0)


def census_of(body: bytes, items: writes.ItemStore) -> CensusState | None:
    """Inverse of `census_bytes`, with the ledger's known sources added; None for invalid bytes."""
    try:
        document = json.loads(gzip.decompress(body))
        return _restored(document, items) if document["form"] == _FORM else None
    except (OSError, EOFError, ValueError, KeyError, TypeError, OverflowError):
        # If the saved census is unreadable, the count starts again.
        return None


def _saved(state: CensusState) -> dict[str, object]:
    survey = state.survey
    return {
        "form": _FORM,
        **{name: getattr(state, name) for name in _AS_IT_IS},
        "generation": state.generation,
        "runs": {str(shard): number for shard, number in state.runs.items()},
        "marked": _totals(state.marked),
        "used": _totals(state.used),
        "rows": {str(hour_s): _rows(rows) for hour_s, rows in state.rows.items()},
        "unsettled": {str(hour_s): f"{bits:x}" for hour_s, bits in state.unsettled.items()},
        "latest": {str(shard): number for shard, number in state.latest.items()},
        "names": _names(state.names),
        "marks": state.marks.saved(),
        "batches": state.batches.saved(),
        "placed": state.placed.saved(),
        "usage": state.usage.saved(),
        "with_sources": survey.with_sources,
        "sources": {source_id: seen.saved() for source_id, seen in survey.sources.items()},
        "verdicts": None if (found := state.verdicts) is None else [found.accepted, found.rejected, found.conflicts],
        "contradictions": survey.contradictions.texts(),
        "unkept": [survey.unkept, survey.unkept_source],
    }


def _restored(saved: dict[str, Any], items: writes.ItemStore) -> CensusState:
    state = CensusState(
        **{name: saved[name] for name in _AS_IT_IS},
        generation=saved.get("generation", 1),
        runs={int(shard): number for shard, number in saved["runs"].items()},
        survey=_survey(saved, items),
        verdicts=None if saved["verdicts"] is None else VerdictCounts(*saved["verdicts"]),
        marked=_of_totals(saved["marked"]),
        used=_of_totals(saved["used"]),
        rows={int(hour): _of_rows(rows) for hour, rows in saved["rows"].items()},
        latest={int(shard): number for shard, number in saved["latest"].items()},
        names=_of_names(saved["names"]),
        unsettled={int(hour): int(bits, 16) for hour, bits in saved["unsettled"].items()},
    )
    for name in ("marks", "batches", "placed", "usage"):
        setattr(state, name, Cells.of_saved(state.parts, saved[name]))
    return state


def _survey(saved: dict[str, Any], items: writes.ItemStore) -> MarkerSurvey:
    with_sources = saved["with_sources"]
    known = source_keeping.sources_known(items) if with_sources else {}
    survey = MarkerSurvey(sources=known, began_ms=saved["began_ms"], with_sources=with_sources)
    for source_id, seen in saved["sources"].items():
        survey.sources.setdefault(source_id, SourceSightings()).add_saved(*seen)
    for text in saved["contradictions"]:
        survey.contradictions.add(text)
    survey.unkept, survey.unkept_source = saved["unkept"]
    return survey


def _names(names: Names) -> list[object]:
    accounts = {str(hour_s): sorted(found) for hour_s, found in names.accounts.items()}
    batches = [
        [hour_s, batch_id, str(total.bytes), total.records]
        for hour_s, found in names.batches.items()
        for batch_id, total in found.items()
    ]
    return [accounts, batches, names.too_many, names.usage_done, names.markers_done]


def _of_names(saved: list[Any]) -> Names:
    accounts, batches, too_many, usage_done, markers_done = saved
    names = Names(too_many=too_many, usage_done=usage_done, markers_done=markers_done)
    names.accounts = {int(hour): set(found) for hour, found in accounts.items()}
    for hour_s, batch_id, size, records in batches:
        names.batches.setdefault(hour_s, {})[batch_id] = Total(int(size), records)
    return names


def _total(total: Total) -> list[str | int]:
    return [str(total.bytes), total.records]


def _of_total(saved: list[Any]) -> Total:
    size, records = saved
    return Total(int(size), int(records))


def _totals(totals: Mapping[int, Total]) -> dict[str, list[str | int]]:
    return {str(hour_s): _total(total) for hour_s, total in totals.items()}


def _of_totals(saved: dict[str, list[str | int]]) -> dict[int, Total]:
    return {int(hour): _of_total(total) for hour, total in saved.items()}


def _rows(rows: HourRows) -> list[object]:
    all_rows = None if rows.all_rows is None else _total(rows.all_rows)
    return [_total(rows.booked), _total(rows.placed), all_rows, rows.keys, rows.digest]


def _of_rows(saved: list[Any]) -> HourRows:
    booked, placed, all_rows, keys, digest = saved
    return HourRows(
        booked=_of_total(booked),
        placed=_of_total(placed),
        all_rows=None if all_rows is None else _of_total(all_rows),
        keys=keys,
        digest=digest,
    )
