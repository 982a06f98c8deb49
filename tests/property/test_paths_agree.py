"""The fast, the patient and the columnar decoder return the same result for any records."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from metering.intake.batches import DecodedBatch, RefusedBatch
from metering.intake.formats.assembly import BatchAssembly
from metering.intake.formats.json_records import JsonIntake
from metering.intake.records import ContentHasher, decode_record
from metering.intake.work import CONTRACT_WORK, Work
from metering.lake.parquet.codec import staged_table
from metering.lake.ports import StagedBatch
from tests.support.examples import examples
from tests.support.memory.clock import UNHURRIED
from tests.support.reading import PACK, SENT_AT_S, Answer, Desk, message, ndjson, parquet, pointer, record
from tests.support.stage import ADMISSION

_COLUMNS = ("account_id", "service", "resource_id", "direction", "from", "to", "usage_type")
_REGIONS = ["us-east-1", "us-west-2", "us-west-2/usw2-az1", "us-west-2/usw2-az2", "ap-southeast-9", "cn-north-1"]
_OTHERS = ["us-gov-west-1/usgw1-az1", "internet", "cloudfront", "us-west-2/us-west-2a", "nowhere", "", "US-EAST-1"]
_NAMES = st.sampled_from([*_REGIONS, *_OTHERS])
_TEXTS: dict[str, st.SearchStrategy[Any]] = {
    "account_id": st.sampled_from(["123456789012", "000000000001", "12345678901", "12345678901x", "\uff1123456789012"]),
    "service": st.sampled_from(["AmazonEC2", "AmazonS3", "", "Amazon EC2", "A" * 65]),
    "resource_id": st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.just("r" * 513)
    | st.just("é" * 300),
    "direction": st.sampled_from(["out", "in", "both", ""]),
    "from": _NAMES,
    "to": _NAMES,
    "usage_type": st.sampled_from(["USW2-NatGateway-Bytes", "x", "-x", "", "u" * 129]),
}
_WINDOW = st.integers(SENT_AT_S - 40 * 86_400, SENT_AT_S + 3_600)
_SECONDS = _WINDOW | st.sampled_from([0, -1, 2**62, -(2**63), 2**63 - 1, 253_402_300_799, 253_402_300_800])
_SIZES = st.integers(0, 2**63 - 1) | st.integers(-(2**63), -1) | st.just(2**63 - 1)


@st.composite
def typed_records(draw: st.DrawFn) -> dict[str, Any]:
    """A mostly valid record whose field types are possible in Parquet columns."""
    made = record(start=draw(_WINDOW), bytes=draw(st.integers(0, 2**63 - 1)))
    made["end"] = made["start"] + draw(st.integers(0, 3_600))
    for name in draw(st.lists(st.sampled_from([*_COLUMNS, "bytes", "start", "end"]), max_size=3)):
        value = _TEXTS.get(name, _SIZES if name == "bytes" else _SECONDS)
        made[name] = draw(value | st.none())
    return made


@st.composite
def any_records(draw: st.DrawFn) -> Any:
    """Any JSON value in place of a record."""
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800"),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    )
    if draw(st.integers(0, 9)) == 0:
        return draw(json_values)
    made = draw(typed_records())
    for name in draw(st.lists(st.sampled_from([*_COLUMNS, "bytes", "start", "end", "other"]), max_size=2)):
        made[name] = draw(json_values)
    return made


def facts(answer: Answer) -> dict[str, Any]:
    """Fields of a decoder's answer that must not depend on the decoder."""
    assert isinstance(answer, DecodedBatch | RefusedBatch)
    known: dict[str, Any] = {"hash": answer.content_hash, "version": answer.hash_version, "records": answer.records}
    if isinstance(answer, RefusedBatch):
        return known | {"problems": answer.problems}
    return known | {
        "usage": answer.usage,
        "refused": [(each.position, each.reasons) for each in answer.refused],
        "unknown": answer.unknown_regions,
        "rows": rows(answer),
    }


def rows(answer: DecodedBatch) -> list[dict[str, Any]]:
    table = staged_table([StagedBatch(batch_id=answer.batch_id, rows=answer.rows, rebooked={})])
    return sorted(table.to_pylist(), key=str)


def patiently(records: list[Any]) -> dict[str, Any]:
    """Hash, totals and refusals by the patient decoder alone."""
    assembly = BatchAssembly(
        admission=ADMISSION, sent_at_ms=SENT_AT_S * 1000, hasher=ContentHasher(), work=Work(CONTRACT_WORK, UNHURRIED)
    )
    texts = [json.dumps(each).encode() for each in records]
    intake = JsonIntake(assembly)
    intake.add([decode_record(text) for text in texts], texts.__getitem__)
    return {
        "hash": assembly.content_hash(),
        "usage": assembly.usage(),
        "refused": [(each.position, each.reasons) for each in assembly.refused],
    }


@examples(150)
@given(st.lists(any_records(), min_size=1, max_size=12))
@example([record(), {"account_id": "\ud800"}, float("nan"), [], record(bytes=1e3), record(bytes=2**64)])
def test_fast_and_patient_decoding_of_any_json_agree(records: list[Any]) -> None:
    desk = Desk()
    inline = facts(desk.read(message(records)))
    desk.put("ingest/x", ndjson(records))
    assert facts(desk.read(pointer("ingest/x", "ndjson", count=len(records)))) == inline
    patient = patiently(records)
    assert patient["hash"] == inline["hash"]
    if "usage" in inline:
        assert {name: inline[name] for name in patient} == patient
    else:
        assert len(patient["refused"]) == len(records)


@examples(150)
@given(st.lists(typed_records(), min_size=1, max_size=12), st.sampled_from(sorted(PACK)), st.integers(1, 5))
@example([record(start=SENT_AT_S, end=SENT_AT_S, bytes=2**63 - 1)] * 3, "none", 5)
@example([record(start=SENT_AT_S, end=SENT_AT_S, resource_id=None)], "none", 5)
def test_inline_ndjson_and_parquet_agree(records: list[dict[str, Any]], compression: str, group: int) -> None:
    desk = Desk()
    inline = facts(desk.read(message(records)))
    desk.put("ingest/n", PACK[compression](ndjson(records)))
    assert facts(desk.read(pointer("ingest/n", "ndjson", compression, count=len(records)))) == inline
    schema = pa.schema(
        [(name, pa.string()) for name in _COLUMNS] + [("bytes", pa.int64()), ("start", pa.int64()), ("end", pa.int64())]
    )
    body = parquet(pa.Table.from_pylist(records, schema=schema), row_group_size=group)
    desk.put("ingest/p", PACK[compression](body))
    assert facts(desk.read(pointer("ingest/p", "parquet", compression, count=len(records)))) == inline


@examples(60)
@given(st.lists(typed_records(), min_size=2, max_size=40))
def test_every_record_is_metered_or_refused_and_no_byte_is_lost(records: list[dict[str, Any]]) -> None:
    answer = Desk().read(message(records))
    if isinstance(answer, RefusedBatch):
        return
    refused = {each.position for each in answer.refused}
    assert len(answer.rows) + len(refused) == len(records)
    sent = sum(each["bytes"] for position, each in enumerate(records) if position not in refused)
    assert sum(total.bytes for total in answer.usage.values()) == sent
    assert sum(total.records for total in answer.usage.values()) == len(answer.rows)
