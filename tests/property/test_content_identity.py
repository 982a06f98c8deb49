"""Content identity, from outside: what may differ without being other content, and what may not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from metering.adapters.memory.clock import ManualClock
from metering.adapters.memory.objects import MemoryObjectStore
from metering.adapters.records.reader import ReadLimits, RecordBatchReader
from metering.domain.admission import Admission
from metering.domain.batches import Delivery, NoBatch

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW_S = 1_795_527_000
_READER = RecordBatchReader(MemoryObjectStore(ManualClock(NOW_S * 1000)), bucket="data", limits=ReadLimits())

_RECORDS = st.fixed_dictionaries(
    {
        "account_id": st.sampled_from(("123456789012", "210987654321", "not an account")),
        "service": st.just("AmazonEC2"),
        "resource_id": st.text(min_size=1, max_size=5),
        "direction": st.sampled_from(("out", "in", "sideways")),
        "from": st.just("us-west-2"),
        "to": st.sampled_from(("us-east-1", "internet")),
        "bytes": st.one_of(st.integers(0, 2**63 - 1), st.just("much"), st.none()),
        "start": st.integers(NOW_S - 3600, NOW_S),
        "end": st.just(NOW_S),
    }
)


def _hash(records: list[Mapping[str, Any]], *, sent_s: int = NOW_S, indent: int | None = None) -> str:
    message = {"schema": "metering.batch/1", "batch_id": "b", "record_count": len(records), "records": records}
    delivery = Delivery(
        message_id="m",
        body=json.dumps(message, indent=indent),
        sent_at_ms=sent_s * 1000,
        receive_count=1,
        sender_id="S",
    )
    [batch] = _READER.read(delivery, admission=Admission()).batches
    assert not isinstance(batch, NoBatch)
    return batch.content_hash


@given(st.lists(_RECORDS, min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_space_key_order_and_the_clock_are_no_content(records: list[dict[str, Any]]) -> None:
    turned = [dict(reversed(record.items())) for record in records]

    assert _hash(records) == _hash(turned, indent=2) == _hash(records, sent_s=NOW_S + 40 * 86_400)


@given(st.lists(_RECORDS, min_size=1, max_size=4), st.data())
@settings(max_examples=100, deadline=None)
def test_every_value_of_every_record_is_content(records: list[dict[str, Any]], data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(records) - 1))
    field = data.draw(st.sampled_from(sorted(records[position])))
    other = data.draw(_RECORDS)
    changed = [*records[:position], {**records[position], field: other[field]}, *records[position + 1 :]]

    assert (_hash(changed) == _hash(records)) is (other[field] == records[position][field])


@pytest.mark.parametrize(("left", "right"), [("much", "more"), (None, "much"), (-1, -2), (1, 2)])
def test_what_cannot_be_metered_is_content_all_the_same(left: object, right: object) -> None:
    good = {
        "account_id": "123456789012",
        "service": "AmazonEC2",
        "resource_id": "i",
        "direction": "out",
        "from": "us-west-2",
        "to": "internet",
        "bytes": 1,
        "start": NOW_S,
        "end": NOW_S,
    }

    assert _hash([good, {**good, "bytes": left}]) != _hash([good, {**good, "bytes": right}])
