"""A census that another process goes on with: what was counted so far, in one object (`audit/scan.json.gz`)."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

from metering.audit.marker_survey import MarkerSurvey
from metering.audit.scan.cells import Cells
from metering.audit.scan.state import CensusState, HourRows, Names
from metering.audit.sequences import SourceSightings
from metering.audit.source_keeping import sources_known
from metering.errors import ObjectMissingError
from metering.ledger.snapshot import VerdictCounts
from metering.stores.bucket import SCAN_KEY
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore

# Another number for another form: an older census is begun anew.
_FORM = 3


def keep_census(objects: ObjectStore, state: CensusState) -> None:
    """Save what was counted so far.

    Raises:
        UnavailableError: It is unknown whether it is saved; the next process begins where the last one was saved.
    """
    objects.put(SCAN_KEY, census_bytes(state), if_absent=False)


def kept_census(objects: ObjectStore, items: ItemStore) -> CensusState | None:
    """What was counted so far; None if nothing is saved, or another version saved it.

    Raises:
        UnavailableError: It cannot be read now.
    """
    try:
        body = objects.get(SCAN_KEY)
    except ObjectMissingError:
        return None
    return census_of(body, items)


def census_bytes(state: CensusState) -> bytes:
    """What was counted so far, as it is saved."""
    return gzip.compress(json.dumps(_saved(state), separators=(",", ":")).encode(), mtime=0)


def census_of(body: bytes, items: ItemStore) -> CensusState | None:
    """Inverse of `census_bytes`; None for what another version saved, or is none.

    Args:
        body: What was saved.
        items: Ledger of the region, which knows what earlier scans saw of the sources.
    """
    try:
        document = json.loads(gzip.decompress(body))
        return _restored(document, items) if document["form"] == _FORM else None
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        # It is only a sum that can be counted again.
        return None


def _saved(state: CensusState) -> dict[str, object]:
    survey = state.survey
    return {
        "form": _FORM,
        "from_s": state.from_s,
        "to_s": state.to_s,
        "deep": state.deep,
        "parts": state.parts,
        "began_ms": state.began_ms,
        "segments": state.segments,
        "phase": state.phase,
        "done": state.done,
        "judged": state.judged,
        "with_markers": state.with_markers,
        "digests": state.digests,
        "hours": state.hours,
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


def _restored(saved: dict[str, Any], items: ItemStore) -> CensusState:
    state = CensusState(
        from_s=saved["from_s"],
        to_s=saved["to_s"],
        deep=saved["deep"],
        parts=saved["parts"],
        began_ms=saved["began_ms"],
        segments=saved["segments"],
        phase=saved["phase"],
        done=saved["done"],
        judged=saved["judged"],
        with_markers=saved["with_markers"],
        digests=saved["digests"],
        hours=saved["hours"],
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


def _survey(saved: dict[str, Any], items: ItemStore) -> MarkerSurvey:
    with_sources = saved["with_sources"]
    known = sources_known(items) if with_sources else {}
    survey = MarkerSurvey(sources=known, began_ms=saved["began_ms"], with_sources=with_sources)
    for source_id, (numbers, moments, newest_ms) in saved["sources"].items():
        survey.sources.setdefault(source_id, SourceSightings()).add_saved(numbers, moments, newest_ms)
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


def _totals(totals: Mapping[int, Total]) -> dict[str, list[str | int]]:
    return {str(hour_s): [str(total.bytes), total.records] for hour_s, total in totals.items()}


def _of_totals(saved: dict[str, list[str | int]]) -> dict[int, Total]:
    return {int(hour): Total(int(size), int(records)) for hour, (size, records) in saved.items()}


def _rows(rows: HourRows) -> list[object]:
    booked, placed, all_rows = (
        None if total is None else [str(total.bytes), total.records]
        for total in (rows.booked, rows.placed, rows.all_rows)
    )
    return [booked, placed, all_rows, rows.keys, rows.digest]


def _of_rows(saved: list[Any]) -> HourRows:
    booked, placed, all_rows, keys, digest = saved
    return HourRows(
        booked=Total(int(booked[0]), booked[1]),
        placed=Total(int(placed[0]), placed[1]),
        all_rows=None if all_rows is None else Total(int(all_rows[0]), all_rows[1]),
        keys=keys,
        digest=digest,
    )
