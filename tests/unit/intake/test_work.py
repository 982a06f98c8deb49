"""Work and memory per object are bounded, even for objects within every other limit."""

import gzip
import io
import random
import time
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import BatchRefusedError, OutOfTimeError
from metering.intake.batches import Allowance, DecodedBatch, RefusedBatch
from metering.intake.formats.compression import unpacked
from metering.intake.work import CONTRACT_WORK, Work
from metering.stores.queues import Delivery
from metering.units import KIB, MIB
from tests.support.examples import examples
from tests.support.heavy import assert_bounded
from tests.support.memory.clock import UNHURRIED
from tests.support.reading import PACK, SENT_AT_S, Desk, ndjson, parquet, pointer, reasons
from tests.support.reading import record as good_record
from tests.support.stage import ADMISSION, LIMITS


def record(**changes: object) -> dict[str, Any]:
    """A record that is valid in every format, including Parquet with only integer times."""
    return good_record(**({"start": SENT_AT_S, "end": SENT_AT_S} | changes))


# Each takes two seconds at most, including the creation of the data.
_QUICK = (
    "Parquet: 42 texts of 1,000 emoji in 50,000 combinations",
    "gzip of empty members",
    "gzip of empty blocks",
    "128 MiB of line ends",
)


@pytest.mark.parametrize("name", _QUICK, ids=lambda name: name.replace(" ", "-"))
def test_the_hardest_objects_are_read_in_bounded_memory_and_time(name: str, tmp_path: Path) -> None:
    assert_bounded(name, tmp_path)


def peak_of(desk: Desk, body: dict[str, Any]) -> tuple[Any, int]:
    tracemalloc.start()
    try:
        answer = desk.read(body)
        return answer, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("field", ["account_id", "service", "direction", "from", "to", "usage_type", "start", "end"])
@pytest.mark.parametrize("value", [lambda text: text, lambda text: [text]], ids=["text", "undecodable"])
def test_a_text_that_is_too_long_is_judged_before_it_is_kept(field: str, value: Any) -> None:
    records = [record(**{field: value(f"{n:06d}".ljust(20_000, "x"))}) for n in range(1_000)] + [record()]
    desk = Desk().put("ingest/x", gzip.compress(ndjson(records), 1))
    answer, peak_bytes = peak_of(desk, pointer("ingest/x", "ndjson", "gzip", count=1_001))
    assert isinstance(answer, DecodedBatch)
    assert (len(answer.refused), len(answer.rows)) == (1_000, 1)
    # The texts have 20 MB; the evidence keeps 4 KiB of each text.
    assert peak_bytes < 16 * MIB


def test_long_heads_that_differ_behind_what_is_kept_of_them_are_distinct() -> None:
    desk = Desk()
    answers = []
    for ends in (("a", "b"), ("a", "a"), ("b", "a")):
        records = [record(to="x" * 1_000 + end) for end in ends]
        desk.put("ingest/x", ndjson(records))
        answers.append(desk.refused(pointer("ingest/x", "ndjson", count=2)).content_hash)
    assert len(set(answers)) == 3


LONG = st.sampled_from(["x" * 129, "x" * 129 + "y", "\N{GRINNING FACE}" * 129, "é" * 128, "us-east-1", "x" * 5_000])


@examples(40)
@given(st.lists(st.tuples(LONG, LONG, LONG, st.sampled_from(["i-1", "r" * 600])), min_size=1, max_size=9))
def test_long_texts_get_one_hash_and_one_verdict_from_every_format(values: list[tuple[str, str, str, str]]) -> None:
    records = [record(from_=a, usage_type=b, service=c, resource_id=d) for a, b, c, d in values]
    desk = Desk()
    answers = []
    for key, object_format, body in (
        ("ingest/n", "ndjson", ndjson(records)),
        ("ingest/p", "parquet", parquet(pa.Table.from_pylist(records))),
        ("ingest/q", "parquet", parquet(pa.Table.from_pylist(records), row_group_size=2, use_dictionary=False)),
    ):
        desk.put(key, body)
        answer = desk.read(pointer(key, object_format, count=len(records)))
        refused = answer.refused if isinstance(answer, DecodedBatch) else answer.problems
        plain = [(each.position, each.reasons) for each in refused] if isinstance(answer, DecodedBatch) else refused
        answers.append((answer.content_hash, answer.hash_version, plain))
    assert answers[0] == answers[1] == answers[2]


def limited(**changes: int) -> Desk:
    return Desk(replace(LIMITS, work=replace(CONTRACT_WORK, **changes)))


def refused(desk: Desk, body: bytes, compression: str = "none", count: int = 1, form: str = "ndjson") -> list[str]:
    desk.put("ingest/x", body)
    answer = desk.read(pointer("ingest/x", form, compression, count=count))
    return reasons(answer) if isinstance(answer, RefusedBatch) else []


def test_stored_bytes_are_limited() -> None:
    body = ndjson([record()])
    assert refused(limited(stored_bytes=len(body)), body) == []
    assert refused(limited(stored_bytes=len(body) - 1), body) == ["object_too_large"]


def test_distinct_heads_are_limited() -> None:
    records = [record(account_id=f"{n:012d}") for n in range(100)]
    assert refused(limited(head_bytes=100 * 100), ndjson(records), count=100) == []
    assert refused(limited(head_bytes=50 * 51), ndjson(records), count=100) == ["object_too_large"]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_members_are_limited(compression: str) -> None:
    body = PACK[compression](ndjson([record()])) * 10
    assert refused(limited(members=9), body, compression, 10) == []
    assert refused(limited(members=8), body, compression, 10) == ["too_slow"]


@pytest.mark.parametrize("blank", [b"\n", b" \t\r\n"])
@pytest.mark.parametrize("compression", PACK)
def test_blank_lines_are_limited(blank: bytes, compression: str) -> None:
    body = PACK[compression](ndjson([record()]) + blank * 1_000)
    assert refused(limited(blank_lines=1_000), body, compression) == []
    assert refused(limited(blank_lines=999), body, compression) == ["too_slow"]


@pytest.mark.parametrize("line", [b'{"x": NaN}', b'{"bytes": 1.5}', b"no JSON"])
def test_lines_for_the_patient_parser_are_limited(line: bytes) -> None:
    body = ndjson([record()]) + (line + b"\n") * 100
    assert refused(limited(patient_bytes=100 * len(line)), body, count=101) == []
    assert refused(limited(patient_bytes=100 * len(line) - 1), body, count=101) == ["too_slow"]


def test_lines_full_of_brackets_are_limited() -> None:
    line = b'{"x": [' + b"[]," * 1_000 + b"[]]}"
    body = ndjson([record()]) + (line + b"\n") * 10
    assert refused(limited(patient_bytes=10 * len(line)), body, count=11) == []
    assert refused(limited(patient_bytes=10 * len(line) - 1), body, count=11) == ["too_slow"]


def test_pages_and_row_groups_of_parquet_are_limited() -> None:
    body = parquet(pa.Table.from_pylist([record(resource_id=f"i-{n}") for n in range(100)]), row_group_size=10)
    assert refused(limited(), body, count=100, form="parquet") == []
    assert refused(limited(pages=50), body, count=100, form="parquet") == ["parquet_unsupported"]
    assert refused(limited(page_header_bytes=500), body, count=100, form="parquet") == ["parquet_unsupported"]
    assert refused(limited(group_bytes=200), body, count=100, form="parquet") == ["object_too_large"]


@dataclass
class _Looks:
    """A `Deadline` that is over after `left` checks."""

    left: int
    looks: int = 0

    def remaining_ms(self) -> int:
        self.looks += 1
        return 1 if self.looks <= self.left else 0


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_unpacking_looks_at_the_clock_however_little_comes_out(compression: str) -> None:
    noise = random.Random(1).randbytes(2 * MIB)  # Incompressible bytes.
    body = gzip.compress(noise, 1) if compression == "gzip" else zstandard.compress(noise, 1)
    work = Work(CONTRACT_WORK, Allowance(until=_Looks(left=4), final=False))
    with pytest.raises(OutOfTimeError):
        list(unpacked(io.BytesIO(body), compression, limit_bytes=4 * MIB, work=work, seen=None))  # type: ignore[arg-type]  # of a list


@pytest.mark.parametrize("form", ["ndjson", "parquet"])
@pytest.mark.parametrize("compression", PACK)
def test_reading_stops_at_each_look_and_refuses_only_if_it_is_final(form: str, compression: str) -> None:
    records = [record(resource_id=f"i-{n}", bytes=1.5 if n % 2 else 1) for n in range(3_000)]
    if form == "parquet":
        records = [record(resource_id=f"i-{n}") for n in range(3_000)]
    body = ndjson(records) if form == "ndjson" else parquet(pa.Table.from_pylist(records), row_group_size=300)
    desk = Desk().put("ingest/x", PACK[compression](body))
    whole = read(desk, form, compression, count=3_000, allowance=UNHURRIED)
    counted = _Looks(left=10**9)
    read(desk, form, compression, count=3_000, allowance=Allowance(until=counted, final=False))
    assert counted.looks > 2
    for left in range(counted.looks):
        with pytest.raises(OutOfTimeError):
            read(desk, form, compression, count=3_000, allowance=Allowance(until=_Looks(left=left), final=False))
        final = read(desk, form, compression, count=3_000, allowance=Allowance(until=_Looks(left=left), final=True))
        assert isinstance(final, RefusedBatch)
        assert reasons(final) == ["too_slow"]
        assert (final.batch_id, final.hash_version) == ("edge-1", 0)
    last = read(desk, form, compression, count=3_000, allowance=Allowance(until=_Looks(counted.looks), final=True))
    assert last.content_hash == whole.content_hash


def read(desk: Desk, form: str, compression: str, *, count: int, allowance: Allowance) -> Any:
    delivery = Delivery(
        message_id="m",
        body=desk.text(pointer("ingest/x", form, compression, count=count)),
        sent_at_ms=desk.sent_at_ms,
        receive_count=1,
        sender_id="s",
    )
    return desk.reader.read(delivery, admission=ADMISSION, allowance=allowance).batches[0]


def test_hard_lines_look_at_the_clock_within_a_block() -> None:
    looks = _Looks(left=10)
    work = Work(CONTRACT_WORK, Allowance(until=looks, final=False))
    for _ in range(16):
        work.take_pains(16 * KIB)
    assert looks.looks == 4


def test_long_resource_ids_in_a_dictionary_unfold_in_pieces() -> None:
    texts = pa.array([f"{number:06d}".ljust(10_000, "x") for number in range(50)])
    ids = pa.DictionaryArray.from_arrays(pa.array([row % 50 for row in range(5_000)], pa.int32()), texts)
    table = pa.Table.from_pylist([record()] * 5_000)
    table = table.set_column(table.column_names.index("resource_id"), "resource_id", ids)
    desk = Desk().put("ingest/x", parquet(table))
    pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        answer = desk.refused(pointer("ingest/x", "parquet", count=5_000))
    finally:
        pa.set_memory_pool(before)
    assert reasons(answer) == ["invalid_resource_id"]
    # Decoding all the texts at once would take 50 MB.
    assert pool.max_memory() < 24 * MIB


def test_empty_members_make_no_quadratic_work() -> None:
    work = Work(CONTRACT_WORK, UNHURRIED)
    began_s = time.process_time()
    with pytest.raises(BatchRefusedError, match="too_slow"):
        list(unpacked(io.BytesIO(gzip.compress(b"") * 300_000), "gzip", limit_bytes=MIB, work=work, seen=None))
    # With pieces of 4 MiB, this would take 14 s.
    assert time.process_time() - began_s < 3


BITS = st.sampled_from(
    [
        b"\n",
        b" \n",
        b"{}\n",
        b"NaN\n",
        b"[" * 120 + b"\n",
        b'{"from": "' + b"x" * 300 + b'"}\n',
        b'{"start": 1' + b"0" * 400 + b"}\n",
        b"\xf0\x9f\x98\x80\n",
        b'{"x": [' + b"[]," * 60 + b"1]}\n",
    ]
)
PARTS = st.lists(st.tuples(BITS, st.integers(1, 400)), min_size=1, max_size=6)
SMALL = replace(
    CONTRACT_WORK, stored_bytes=200 * KIB, members=50, blank_lines=500, patient_bytes=20 * KIB, head_bytes=8 * KIB
)


@examples(100)
@given(
    st.lists(st.tuples(BITS, st.integers(1, 400)), min_size=1, max_size=6), st.sampled_from(sorted(PACK)), st.booleans()
)
def test_whatever_is_sent_is_read_or_refused_within_the_budgets_and_the_same_each_time(
    parts: list[tuple[bytes, int]], compression: str, members: bool
) -> None:
    pieces = [bit * times for bit, times in parts]
    body = b"".join(map(PACK[compression], pieces)) if members else PACK[compression](b"".join(pieces))
    desk = Desk(replace(LIMITS, work=SMALL)).put("ingest/x", body)
    answers = []
    for _ in range(2):
        began_s = time.process_time()
        answer, peak_bytes = peak_of(desk, pointer("ingest/x", "ndjson", compression, count=1))
        # 20 KiB of difficult lines, 8 KiB of heads, and blocks of 256 KiB; the largest part is a zstd window.
        assert peak_bytes < 16 * MIB
        assert time.process_time() - began_s < 2
        answers.append((answer.content_hash, answer.hash_version))
    assert answers[0] == answers[1]
