"""Plans of log files in `verify`: lines that do not add up, and bytes that are not those of the batches, are named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.audit import verifier
from metering.audit.verification import LogTotals, Verification, sum_verifications
from metering.audit.verifier import PlanCheck
from metering.onramps.coverage.looking import SLOT_S
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore
from tests.support.verdicts import marker_of
from tests.unit.onramps.coverage.world import HOUR, LOG, plan

if TYPE_CHECKING:
    from metering.ledger.markers import Marker
    from metering.onramps.plans import Plan

NOW_S = HOUR + HOUR_S


class Region:
    """Plans in a bucket, and markers of their batches."""

    def __init__(self) -> None:
        self.items = MemoryItemStore()
        self.objects = MemoryObjectStore(ManualClock(NOW_S * 1000))
        self.markers: dict[str, Marker] = {}

    def put(self, made: Plan, *, metered_bytes: int = 600, refused: int = 0, verdict: str = "accepted") -> None:
        self.objects.put(made.key, made.to_json(), if_absent=True)
        for part in made.parts:
            self.markers[part.batch_id] = marker_of(
                part.batch_id,
                verdict,
                records=2,
                metered=2 - refused if verdict == "accepted" else 0,
                refused=refused,
                hours={HOUR: Total(metered_bytes, 2)} if verdict == "accepted" else {},
                decided_at_ms=NOW_S * 1000,
                expires_at_s=NOW_S + DAY_S,
                reason="" if verdict == "accepted" else "invalid_json",
            )

    def check(self, *, from_s: int = 0, to_s: int = NOW_S + DAY_S) -> LogTotals:
        return PlanCheck(
            items=self.items,
            objects=self.objects,
            markers=self.markers,
            now_s=NOW_S,
            markers_since_s=NOW_S - 50 * DAY_S,
        ).run(from_s=from_s, to_s=to_s)


def test_plans_whose_bytes_are_those_of_their_batches_add_up() -> None:
    region = Region()
    for number in range(700):
        region.put(plan(HOUR - number * SLOT_S))
    found = region.check()
    assert (found.plans, found.lines, found.differences) == (700, 7_000, ())
    assert found.metered_bytes == found.accepted_bytes == 700 * 600
    assert not found.left_out


def test_a_region_without_plans_has_none() -> None:
    assert Region().check() == LogTotals()


def test_lines_that_became_nothing_are_named() -> None:
    region = Region()
    made = plan(HOUR)
    region.put(replace(made, balance=replace(made.balance, lines=11)))
    [(name, problem)] = region.check().differences
    assert name == made.identity
    assert "do not add up" in problem


def test_bytes_of_lines_that_are_in_no_batch_are_named() -> None:
    region = Region()
    made = plan(HOUR)
    region.put(replace(made, parts=(made.parts[0]._replace(bytes=599),)), metered_bytes=599)
    assert region.check().differences == ((made.identity, "its lines have 600 metered bytes, its batches 599"),)


def test_a_batch_that_is_metered_with_other_bytes_is_named() -> None:
    region = Region()
    made = plan(HOUR)
    region.put(made, metered_bytes=601)
    assert region.check().differences == ((made.parts[0].batch_id, "600 bytes were planned, 601 are metered"),)


def test_a_batch_without_a_verdict_is_named_unless_it_is_young_or_its_marker_is_too_old() -> None:
    region = Region()
    times = {"young": NOW_S - 60, "lost": NOW_S - HOUR_S, "aged": NOW_S - 51 * DAY_S}
    for number, planned_s in enumerate(times.values()):
        region.put(plan(HOUR, number=number, planned_s=planned_s))
    region.markers.clear()
    assert region.check().differences == (
        (plan(HOUR, number=1).parts[0].batch_id, "it was planned, and has no verdict"),
    )


def test_a_batch_that_was_accepted_after_the_markers_were_read_is_no_difference() -> None:
    region = Region()
    region.put(plan(HOUR))
    [marker] = region.markers.values()
    region.items.put(Put(table=Table.LEDGER, item=marker.to_item()))
    region.markers.clear()
    found = region.check()
    assert (found.differences, found.accepted_bytes) == ((), 600)


@pytest.mark.parametrize(("verdict", "refused", "refused_bytes"), [("rejected", 0, 600), ("accepted", 1, 100)])
def test_what_is_in_quarantine_is_no_difference(verdict: str, refused: int, refused_bytes: int) -> None:
    region = Region()
    region.put(plan(HOUR), verdict=verdict, refused=refused, metered_bytes=500)
    found = region.check()
    assert (found.refused_bytes, found.differences) == (refused_bytes, ())
    assert found.metered_bytes == found.accepted_bytes + found.refused_bytes


def test_a_range_takes_the_plans_of_its_slots_and_none_without_a_slot() -> None:
    region = Region()
    region.put(plan(HOUR - 3 * HOUR_S))
    region.put(plan(HOUR))
    region.put(plan(HOUR + 2 * HOUR_S, log="fl-0b"))
    region.put(plan(None, log="", kind="mapped"))
    assert region.check().plans == 4
    assert region.check(from_s=HOUR, to_s=HOUR + HOUR_S).plans == 1


def test_a_damaged_plan_is_named_and_the_others_are_checked() -> None:
    region = Region()
    region.put(plan(HOUR))
    damaged = plan(HOUR + SLOT_S).key
    region.objects.put(damaged, b"{}", if_absent=True)
    found = region.check()
    assert found.plans == 1
    assert [name for name, _problem in found.differences] == [damaged]


def test_more_plans_than_one_verification_reads_are_left_out_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    region = Region()
    for number in range(3):
        region.put(plan(HOUR + number * SLOT_S))
    monkeypatch.setattr(verifier, "MOST_PLANS", 2)
    found = region.check()
    assert (found.plans, found.left_out) == (2, True)


def test_a_difference_of_a_log_file_fails_the_verification() -> None:
    wrong = Verification(logs=LogTotals(differences=((LOG, "wrong"),)))
    assert Verification(logs=LogTotals(plans=1)).passed
    assert not sum_verifications((Verification(), wrong)).passed
