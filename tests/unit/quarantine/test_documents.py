"""Shapes of quarantine objects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import LedgerCorruptError
from metering.intake.batches import RefusedRecord
from metering.quarantine.documents import QuarantinedBatch, QuarantinedRecord, decode_records, encode_records
from metering.stores.objects import commit_of_refused_records, quarantined_batch_key, refused_records_key

_PROBLEMS = st.lists(st.tuples(st.text(min_size=1), st.text()), min_size=1, max_size=3).map(tuple)
_RECORDS = st.builds(RefusedRecord, position=st.integers(0, 50_000), reasons=_PROBLEMS, raw=st.text())
_BATCHES = st.builds(
    QuarantinedBatch,
    kind=st.sampled_from(["refused", "conflict"]),
    batch_id=st.text(),
    content_hash=st.text(min_size=1),
    hash_version=st.integers(0, 3),
    problems=_PROBLEMS,
    source_id=st.text(),
    sequence=st.none() | st.integers(0),
    sender_id=st.text(),
    first_sender_id=st.text(),
    records=st.integers(0, 50_000),
    body=st.text(),
    evidence=st.text(),
)


@given(st.dictionaries(st.text(), st.lists(_RECORDS, min_size=1, max_size=3).map(tuple), max_size=3))
def test_refused_records_come_back_as_they_were(refused: dict[str, tuple[RefusedRecord, ...]]) -> None:
    expected = [
        QuarantinedRecord(batch_id=batch_id, record=record)
        for batch_id, records in refused.items()
        for record in records
    ]
    assert list(decode_records(encode_records(refused))) == expected


@given(_BATCHES)
def test_a_refused_batch_comes_back_as_it_was(batch: QuarantinedBatch) -> None:
    assert QuarantinedBatch.from_json(batch.to_json()) == batch


def test_hostile_text_is_plain_ascii_in_quarantine() -> None:
    record = RefusedRecord(position=0, reasons=(("not_json", "\x1b[31m"),), raw="\ud800\u2028\n=1+1")
    body = encode_records({"b": (record,)})
    assert body.isascii()
    assert body.count(b"\n") == 1
    assert [each.record for each in decode_records(body)] == [record]


def test_only_records_go_with_a_commit() -> None:
    assert commit_of_refused_records(refused_records_key("c1", 1_800_000_000)) == "c1"
    assert commit_of_refused_records(quarantined_batch_key("b1", "hash")) is None


@pytest.mark.parametrize("body", [b"{", b"\xff"])
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(LedgerCorruptError):
        QuarantinedBatch.from_json(body)
