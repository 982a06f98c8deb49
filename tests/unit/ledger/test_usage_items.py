"""Items of the usage table: a day each, and what they count of each hour."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from metering.commit.write_ahead import usage_deltas
from metering.ledger.usage_items import UsageEntry, usage_day, usage_entries, usage_key

from metering.adapters.memory.items import MemoryItemStore
from metering.hours import parse_hour
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total, UsageKey

DAY = parse_hour("2026-11-24T00")


def key(hour: int, *, usage_type: str = "DataTransfer-Out-Bytes", corrects_s: int | None = None) -> UsageKey:
    return UsageKey(DAY + hour * HOUR_S, "123456789012", usage_type, "AmazonEC2", "us-west-2", "internet", corrects_s)


_KEYS = st.builds(
    key,
    st.integers(-30, 60),
    usage_type=st.sampled_from(["DataTransfer-Out-Bytes", "USW2-CloudFront-Out-Bytes"]),
    corrects_s=st.sampled_from([None, DAY - 40 * DAY_S]),
)
_USAGE = st.dictionaries(_KEYS, st.builds(Total, st.integers(0, 2**80), st.integers(0, 10**6)), max_size=60)


def booked(*usages: dict[UsageKey, Total], suffix: int = 0) -> MemoryItemStore:
    items = MemoryItemStore()
    for usage in usages:
        for delta in usage_deltas(usage, suffix):
            items.update(delta.action())
    return items


@given(usage=_USAGE, suffix=st.integers(0, 3), times=st.integers(1, 3))
def test_what_is_read_is_what_was_booked_hour_by_hour(usage: dict[UsageKey, Total], suffix: int, times: int) -> None:
    table = booked(*[usage] * times, suffix=suffix).everything(Table.USAGE)
    read = {entry for item in table for entry in usage_entries(item)}
    assert read == {
        UsageEntry(key, suffix, Total(total.bytes * times, total.records * times), times)
        for key, total in usage.items()
    }


@given(usage=_USAGE)
def test_a_commit_has_one_action_an_item_and_an_item_is_a_day(usage: dict[UsageKey, Total]) -> None:
    deltas = usage_deltas(usage, 0)
    assert {delta.key for delta in deltas} == {usage_key(key, 0) for key in usage}
    assert len({delta.key for delta in deltas}) == len(deltas) == len({key.of_day() for key in usage})


def test_one_hour_is_read_without_the_others_of_its_day() -> None:
    [item] = booked({key(0): Total(1, 1), key(13): Total(2, 2)}).everything(Table.USAGE)
    assert [entry.total for entry in usage_entries(item, hour_s=key(13).hour_s)] == [Total(2, 2)]
    assert list(usage_entries(item, hour_s=key(14).hour_s)) == []


def test_what_was_added_by_hand_counts_too_and_has_no_revision() -> None:
    [item] = booked({key(13): Total(2, 2)}).everything(Table.USAGE)
    by_hand = {**item, "b14": 9}
    assert [(entry.total, entry.rev) for entry in usage_entries(by_hand)] == [(Total(2, 2), 1), (Total(9, 0), None)]


def test_what_was_added_beside_the_hours_is_not_overlooked() -> None:
    [item] = booked({key(13): Total(2, 2), key(14): Total(3, 3)}).everything(Table.USAGE)
    by_hand = {**item, "bytes": -1, "records": 5}
    assert [entry.total for entry in usage_entries(by_hand)] == [Total(1, 7), Total(3, 3)]
    assert [entry.total for entry in usage_entries(by_hand, hour_s=key(14).hour_s)] == [Total(3, 3)]
    assert usage_day(by_hand) == (key(0), Total(4, 10))
