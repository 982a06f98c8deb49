"""How fresh regions are: up to when their counts are complete, what holds that back, and what was last proved."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from metering.audit.freshness import Complete, HeldBack, complete_of, merged
from metering.hours import rfc3339
from metering.ledger.notes.checks import CANARY_PK, CanaryRun, CanaryVerdict
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.ledger.notes.watch import COMPLETENESS_KEY, Completeness
from metering.reports.answer import KEEP, Answer, Cell, Json, ListedRows, copied, integer, prose, short, timed
from metering.reports.source import naming
from metering.reports.usage_answer import held_back_document
from metering.stores.writes import Table
from metering.wiring.reports import build_freshness

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.wiring.connection import RegionConnection
    from metering.wiring.lake import ReadableRegion


def stored_completeness(regions: Sequence[ReadableRegion]) -> Complete:
    """Up to when all of the regions are complete, without measuring: nothing but the ledger is read.

    Raises:
        UnavailableError: A ledger gives no answer; the error names the region.
    """
    known: dict[str, Complete] = {}
    for region in regions:
        with naming(region.region):
            known[region.region] = stored_of(region)
    return merged(known)


def measured_completeness(regions: Sequence[RegionConnection]) -> Complete:
    """Up to when all of the regions are complete, measured where a watch has not just done so: queues are asked, too.

    Raises:
        UnavailableError: A region gives no answer; the error names it.
    """
    known: dict[str, Complete] = {}
    for region in regions:
        with naming(region.region):
            known[region.region] = build_freshness(region).answer()
    return merged(known)


def in_short(complete: Complete) -> Complete:
    """The same for somebody who does not run the service: since when, but not what its parts are called."""
    held = tuple(
        HeldBack(what="usage that is not counted yet", since_s=each.since_s, cure="Ask again later.", usual=each.usual)
        for each in complete.held_back_by
    )
    return Complete(through_s=complete.through_s, held_back_by=tuple(dict.fromkeys(held)))


def stored_of(region: ReadableRegion) -> Complete:
    """Up to when one region is complete, without measuring.

    Raises:
        UnavailableError: Its ledger gives no answer.
    """
    item = region.items.get(Table.LEDGER, COMPLETENESS_KEY)
    if item is None:
        cure = f"metering status --region {region.region} --stage {region.stage}"
        held = HeldBack(what="the watch, which has not measured yet", since_s=None, cure=cure)
        return Complete(through_s=0, held_back_by=(held,))
    now_s = region.clock.now_ms() // 1_000
    return complete_of(Completeness.from_item(item), now_s=now_s, region=region.region, stage=region.stage)


# A canary gets its verdict after some minutes, and one is sent every few minutes.
_CANARIES = 20
_COLUMNS = ListedRows(
    copied("region", priority=KEEP), timed("complete_through", priority=KEEP), prose("held_back_by")
).columns
_PROVED = ListedRows(timed("reconciled"), integer("differences"), short("canary")).columns


def freshness_of(regions: Sequence[ReadableRegion], *, now_s: int, in_full: bool = True) -> Answer:
    """How fresh regions are, a row each, without measuring: what watch, reconciler and canary last said.

    `in_full` names what holds completeness back with its cure, and what was proved; otherwise only since when.

    Raises:
        UnavailableError: A ledger gives no answer; the error names the region.
    """
    known: dict[str, Complete] = {}
    proved: dict[str, dict[str, Json]] = {}
    for region in regions:
        with naming(region.region):
            complete = stored_of(region)
            known[region.region] = complete if in_full else in_short(complete)
            proved[region.region] = _proved(region) if in_full else {}
    whole = merged(known) if in_full else in_short(merged(known))
    return Answer(
        columns=(*_COLUMNS, *(_PROVED if in_full else ())),
        rows=[_row(name, complete, proved[name], now_s) for name, complete in known.items()],
        document={
            "as_of": rfc3339(now_s),
            **_document(whole, now_s),
            "regions": {name: {**_document(complete, now_s), **proved[name]} for name, complete in known.items()},
        },
        title="Freshness",
    )


def _document(complete: Complete, now_s: int) -> dict[str, Json]:
    return {
        "complete_through": rfc3339(min(complete.through_s, now_s)),
        "held_back_by": held_back_document(complete.held_back_by),
    }


def _row(region: str, complete: Complete, proved: Mapping[str, Json], now_s: int) -> dict[str, Cell]:
    row: dict[str, Cell] = {
        "region": region,
        "complete_through": rfc3339(min(complete.through_s, now_s)),
        "held_back_by": "; ".join(each.what for each in complete.held_back_by),
    }
    reconciliation, canary = proved.get("reconciliation"), proved.get("canary")
    if isinstance(reconciliation, dict):
        row |= {"reconciled": reconciliation["finished"], "differences": reconciliation["differences"]}
    if isinstance(canary, dict):
        row["canary"] = canary["verdict"]
    return row


def _proved(region: ReadableRegion) -> dict[str, Json]:
    return {"reconciliation": _reconciliation(region), "canary": _canary(region)}


def _reconciliation(region: ReadableRegion) -> dict[str, Json] | None:
    item = region.items.get(Table.LEDGER, RECONCILIATION_KEY)
    if item is None:
        return None
    last = Reconciliation.from_item(item)
    return {
        "finished": rfc3339(last.finished_s),
        "hours": last.hours,
        "differences": last.differences,
        "waiting": last.backlog.waiting,
        "waiting_since": None if last.backlog.since_s is None else rfc3339(last.backlog.since_s),
    }


def _canary(region: ReadableRegion) -> dict[str, Json] | None:
    """The newest canary that has a verdict, and the newest good one; None if there is none of the last week."""
    items = region.items.query(Table.LEDGER, CANARY_PK, descending=True)
    settled = [run for run in map(CanaryRun.from_item, islice(items, _CANARIES)) if run.settled_s]
    if not settled:
        return None
    good = next((run for run in settled if run.verdict is CanaryVerdict.GOOD), None)
    return {
        "verdict": settled[0].verdict.value,
        "settled": rfc3339(settled[0].settled_s),
        "last_good": None if good is None else rfc3339(good.slot_s),
    }
