"""Markers are read strictly, and the quick way of reading ordinary ones never gives anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import LedgerCorruptError
from metering.ledger import markers
from metering.ledger.markers import Marker
from metering.units import HOUR_S
from metering.usage.totals import Total

if TYPE_CHECKING:
    from metering.stores.writes import Item, Value

HOUR = 1_795_525_200
MARKER = Marker(
    batch_id="edge-1",
    verdict="accepted",
    content_hash="5f" * 32,
    hash_version=1,
    commit_id="0" * 32,
    source_id="edge",
    sequence=7,
    sender_id="AROAEXAMPLE",
    records=3,
    metered=2,
    refused=1,
    hours={HOUR: Total(2**70, 1), HOUR - HOUR_S: Total(0, 1)},
    decided_at_ms=HOUR * 1_000,
    expires_at_s=HOUR,
)
ITEM: Item = MARKER.to_item()
odd_values = st.sampled_from(
    [
        "", "x", 0, -1, 1, True, 1.5, None, [], ["x"], {}, frozenset({"a"}), "accepted", "rejected", "B#", "B#x", "M",
        {"2026-11-24T13": [1, 2]}, {"2026-11-24T13": [1]}, {"2026-11-24T13": (1, 2)}, {"2026-11-24T13": "12"},
        {"2026-11-24T13": [True, 2]}, {"2026-11-24T13": [1, -2]}, {"noon": [1, 2]}, {7: [1, 2]},
    ]
)  # fmt: skip


def outcome(read: object, item: Item) -> object:
    try:
        return read(item)  # type: ignore[operator]  # one of two functions
    except LedgerCorruptError as error:
        return str(error)


@given(
    st.dictionaries(st.sampled_from([*ITEM, "reason", "quarantine", "extra"]), odd_values, max_size=3),
    st.sets(st.sampled_from(sorted(ITEM)), max_size=2),
)
def test_both_ways_of_reading_come_to_the_same(changed: dict[str, Value], without: set[str]) -> None:
    item = {name: value for name, value in {**ITEM, **changed}.items() if name not in without}
    assert outcome(Marker.from_item, item) == outcome(Marker.strictly, item)


def test_an_ordinary_marker_is_read_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Marker, "strictly", None)
    assert Marker.from_item(ITEM) == MARKER
    unnumbered = {name: value for name, value in ITEM.items() if name not in ("source", "sequence")}
    assert Marker.from_item(unnumbered).sequence is None


@pytest.mark.parametrize("verdict", ["rejected", "accepted"])
def test_every_other_marker_is_read_strictly(verdict: str) -> None:
    item = {**ITEM, "verdict": verdict, "reason": "too_late"}
    assert markers._ordinary(item) is None
    assert Marker.from_item(item).reason == "too_late"
