"""A glance at a marker says what the whole marker says, or refuses it with the same words."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import LedgerCorruptError
from metering.ledger.markers import Marker, MarkerGlance
from metering.stores.writes import Item
from metering.units import HOUR_S
from metering.usage.totals import Total
from tests.support.verdicts import marker_of

ITEM: dict[str, Any] = marker_of(
    "b1",
    source_id="edge",
    sequence=7,
    records=3,
    metered=3,
    hours={HOUR_S * 500_000: Total(2**70, 2), HOUR_S * 500_001: Total(5, 1)},
).to_item()


def of_whole(item: Item) -> MarkerGlance:
    marker = Marker.from_item(item)
    return MarkerGlance(
        marker.batch_id, marker.verdict, marker.hours, marker.decided_at_ms, marker.source_id, marker.sequence
    )


def said(read: Callable[[Item], MarkerGlance], item: Item) -> MarkerGlance | str:
    """What was read, or why not."""
    try:
        return read(item)
    except LedgerCorruptError as error:
        return str(error)


@pytest.mark.parametrize("left_out", [(), ("source",), ("sequence",), ("source", "sequence")])
def test_a_glance_says_what_the_whole_marker_says(left_out: tuple[str, ...]) -> None:
    item = {name: value for name, value in ITEM.items() if name not in left_out}
    assert MarkerGlance.of_item(item) == of_whole(item)
    rejected = {**item, "verdict": "rejected", "reason": "schema_unknown", "quarantine": "q"}
    del rejected["hours"]
    assert MarkerGlance.of_item(rejected) == of_whole(rejected)
    nothing = {**item, "metered": 0}
    del nothing["hours"]
    assert MarkerGlance.of_item(nothing) == of_whole(nothing)


values = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=3), st.lists(st.integers(-1, 2), max_size=3)
)


@given(st.sampled_from(["verdict", "hours", "decided_at_ms", "source", "sequence"]), values)
def test_what_is_looked_at_and_cannot_be_read_is_refused_as_the_whole_marker_is(name: str, value: Any) -> None:
    item = {**ITEM, name: value}
    if value is None:
        del item[name]
    assert said(MarkerGlance.of_item, item) == said(of_whole, item)


@given(st.dictionaries(st.sampled_from(["2026-11-24T13", "2026-11-24", "x"]), values, min_size=1))
def test_hours_that_cannot_be_read_are_refused_too(hours: dict[str, Any]) -> None:
    item = {**ITEM, "hours": hours}
    assert said(MarkerGlance.of_item, item) == said(of_whole, item)
