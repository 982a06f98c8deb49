"""The audit trail: what began, what ended, and what nobody saw the end of."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from metering.ledger.notes.deeds import Consent, Deed, DeedState
from metering.operations.logged_errors import FIRST_MONTH_S, DeedTrail
from metering.units import DAY_S
from tests.support.memory.items import MemoryItemStore

YEAR_S = 365 * DAY_S


def deed(at_s: int, deed_id: str = "one") -> Deed:
    return Deed(
        deed_id=deed_id,
        at_ms=1000 * at_s,
        what="dlq redrive",
        subject="",
        consequence="3 messages go back into the ingest queue.",
        who="arn:aws:sts::123456789012:assumed-role/Operator/ada",
        stage="prod",
        region="eu-west-1",
        version="0.1.0",
        consent=Consent.ANSWERED,
    )


def test_a_deed_that_was_killed_has_begun_and_has_no_end() -> None:
    trail = DeedTrail(items=MemoryItemStore())
    trail.begin(deed(FIRST_MONTH_S))
    [found] = trail.between(0, FIRST_MONTH_S + 1)
    assert (found.state, found.ended_ms, found.result) == (DeedState.BEGUN, 0, "")


def test_a_deed_that_ended_says_how_and_when_in_one_line() -> None:
    trail = DeedTrail(items=MemoryItemStore())
    begun = deed(FIRST_MONTH_S)
    trail.begin(begun)
    ended = trail.end(begun, state=DeedState.OK, ended_ms=begun.at_ms + 5, result="3 moved")
    assert list(trail.between(0, FIRST_MONTH_S + DAY_S)) == [ended]
    assert (ended.state, ended.result) == (DeedState.OK, "3 moved")


def test_two_deeds_of_one_moment_are_both_kept() -> None:
    trail = DeedTrail(items=MemoryItemStore())
    trail.begin(deed(FIRST_MONTH_S, "one"))
    trail.begin(deed(FIRST_MONTH_S, "two"))
    assert len(list(trail.between(FIRST_MONTH_S, FIRST_MONTH_S + 1))) == 2


def test_a_deed_never_expires() -> None:
    assert "expires_at" not in deed(FIRST_MONTH_S).to_item()


@given(
    st.sets(st.integers(FIRST_MONTH_S, FIRST_MONTH_S + 2 * YEAR_S), max_size=20),
    st.integers(FIRST_MONTH_S - DAY_S, FIRST_MONTH_S + 2 * YEAR_S),
    st.integers(0, 2 * YEAR_S),
)
def test_a_range_gives_its_deeds_newest_first(times_s: set[int], from_s: int, length_s: int) -> None:
    trail = DeedTrail(items=MemoryItemStore())
    for at_s in times_s:
        trail.begin(deed(at_s))
    found = [each.at_ms // 1000 for each in trail.between(from_s, from_s + length_s)]
    assert found == sorted((at_s for at_s in times_s if from_s <= at_s < from_s + length_s), reverse=True)


def test_only_the_months_that_are_needed_are_read() -> None:
    items = MemoryItemStore()
    trail = DeedTrail(items=items)
    last_s = FIRST_MONTH_S + YEAR_S
    trail.begin(deed(last_s))
    calls: list[str] = []
    items.on_call = calls.append
    assert len(list(islice(trail.between(0, last_s + 1), 1))) == 1
    assert len(calls) <= 2
