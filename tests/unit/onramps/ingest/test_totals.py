"""Each measurement of a log file returns the same records in the same order."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pyarrow.parquet as pq
import pytest

from metering.errors import LogFileRefusedError
from metering.intake.work import MAX_RECORDS
from metering.onramps.context.store import Timeline
from metering.onramps.ingest.outcomes import FileOutcome, RunTotals
from metering.onramps.ingest.planning import LogRecord, parquet_of, parts_of
from metering.onramps.ingest.totals import HourTotal, Measured, measure
from metering.onramps.ingest.trial import Chosen, outcomes
from metering.onramps.plans import Share
from metering.onramps.reading import Balance, FileName
from metering.onramps.reasons import Classified, Processed, Traffic
from metering.onramps.sources import Bills
from metering.reports.operators.ingest_answer import hint, percent, totals_answer
from metering.stores.codec import Fields, members_of, read_struct
from metering.stores.objects import ObjectInfo
from metering.units import HOUR_S, INT64_MAX
from tests.support.memory.clock import ManualClock
from tests.support.small_logs import ACCOUNT, SMALL, LogBucket, small_file

T = 1_796_083_200  # a full hour
NAME = FileName(kind="small", identity="small:a")


def measured(*lines: tuple[str, int, int, int] | str, **options: object) -> Measured:
    return measure(io.BytesIO(small_file(*lines)), SMALL, NAME, Timeline(), **options)  # type: ignore[arg-type]  # of the test


def internet(resource: str, account: str = ACCOUNT) -> Traffic:
    return Traffic(account, "AmazonEC2", resource, "out", "us-east-1/use1-az1", "internet")


def test_lines_of_an_hour_become_one_total_across_blocks() -> None:
    found = measured(*(("i-1", 10 + n, T + n, T + 60 + n) for n in range(7)), ("i-1", 5, T + 3600, T + 3700))
    assert found.totals == {
        (internet("i-1"), T): HourTotal(91, 7, T, T + 66),
        (internet("i-1"), T + 3600): HourTotal(5, 1, T + 3600, T + 3700),
    }
    assert found.hours == {T, T + 3600}
    line = ("i-1", 1, T, T + 1)
    assert measured(line).content_sha256 == hashlib.sha256(small_file(line)).hexdigest()


def test_every_line_and_byte_is_in_the_balance_once() -> None:
    lines = (("i-1", 100), ("x-1", 7), ("s-1", 8), ("u-1", 9))
    found = measured(*((name, size, T, T + 1) for name, size in lines), "nodata", "broken line")
    balance = found.balance
    assert balance.holds
    assert (balance.lines, balance.header, balance.nodata) == (7, 1, 1)
    assert (balance.metered, balance.shadowed, balance.rejected, balance.refused) == (1, 1, 1, 2)
    assert (balance.metered_bytes, balance.shadowed_bytes) == (100, 8)
    assert (balance.rejected_bytes, balance.refused_bytes) == (9, 7)
    assert found.shadowed == (("fl-broad", 1, 8),)
    assert found.refusals == (("field_count", 1, 0), ("invalid_value", 1, 7))


def test_the_usage_type_of_a_share_is_that_of_the_contract_unless_the_rule_names_one() -> None:
    found = measured(("i-1", 100, T, T + 1), ("?-1", 7, T, T + 1))
    assert [(share.usage_type, share.rule, share.reason, share.bytes) for share in found.shares] == [
        ("DataTransfer-Out-Bytes", "internet", "", 100),
        ("Unclassified-Regional-Bytes", "unknown_peer", "no_next_hop", 7),
    ]


def test_a_line_of_another_account_and_what_the_service_would_refuse_are_refused_and_counted() -> None:
    found = measured(("i-1", 100, T, T + 1), ("i-2@222222222222", 7, T, T + 1), bills=Bills.listed([ACCOUNT]))
    assert found.refusals == (("account_not_allowed", 1, 7),)
    assert (found.balance.metered_bytes, found.balance.refused_bytes, found.balance.holds) == (100, 7, True)
    assert "222222222222" in found.refused[0].detail
    found = measured(("i-1@12345678901", 7, T, T + 1), ("i" * 600, 8, T, T + 1))
    assert found.refusals == (("invalid_account", 1, 7), ("invalid_value", 1, 8))
    assert not found.totals


def test_processing_is_a_second_record_of_the_same_lines_and_no_outcome_of_its_own() -> None:
    """Lines of two workloads are two records of transfer, and one record of their gateway."""
    gateway = Traffic(ACCOUNT, "AmazonEC2", "nat-1", "out", "us-east-1", "us-east-1", "NatGateway-Bytes")

    class Gateway:
        def outcome(self, subject: str, hour_s: int) -> object:
            found = SMALL.classifier(NAME, Timeline()).outcome(subject, hour_s)
            assert isinstance(found, Classified)
            return found._replace(processed=Processed(gateway, "nat")) if subject.startswith("i-n") else found

    kind = replace(SMALL, classifier=lambda _name, _timeline: Gateway())  # type: ignore[arg-type,return-value]  # of the test
    lines = ("i-n1", 100, T, T + 9), ("i-n2", 20, T + 5, T + 60), ("i-3", 3, T, T + 1)
    found = measure(io.BytesIO(small_file(*lines)), kind, NAME, Timeline())
    assert found.totals == {
        (gateway, T): HourTotal(120, 2, T, T + 60),
        (internet("i-n1"), T): HourTotal(100, 1, T, T + 9),
        (internet("i-n2"), T): HourTotal(20, 1, T + 5, T + 60),
        (internet("i-3"), T): HourTotal(3, 1, T, T + 1),
    }
    balance = found.balance
    assert balance.holds
    assert (balance.metered, balance.metered_bytes) == (3, 123)
    assert (balance.processed, balance.processed_bytes) == (2, 120)
    assert balance.batched_bytes == sum(total.bytes for total in found.totals.values())
    assert Share("NatGateway-Bytes", "nat", "", 120, 2) in found.shares
    totals = RunTotals()
    totals.add(FileOutcome(place="a", verdict="metered", identity="a", balance=balance, shares=found.shares))
    told = totals_answer(totals, dry_run=True, with_context=True).footer
    assert any(each.startswith("Processed: 2 metered lines with 120 bytes would count a second time") for each in told)


def test_a_balance_without_processing_is_stored_as_by_earlier_releases() -> None:
    balance = Balance(lines=1, metered=1, stated_bytes=5, metered_bytes=5)
    stored = members_of(balance)
    assert "processed" not in " ".join(stored)
    fields = Fields.of_json(json.dumps(stored).encode(), "plan")
    assert read_struct(Balance, fields) == balance


def test_too_many_distinct_records_refuse_the_file() -> None:
    lines = [(f"i-{n}", 1, T, T + 1) for n in range(11)]
    assert len(measured(*lines[:10], max_records=10).totals) == 10
    with pytest.raises(LogFileRefusedError, match="too_diverse: it would become more than 10 records"):
        measured(*lines, max_records=10)


def test_each_distinct_subject_of_an_hour_is_judged_once() -> None:
    judged: list[tuple[str, int]] = []

    class Counting:
        def outcome(self, subject: str, hour_s: int) -> object:
            judged.append((subject, hour_s))
            return SMALL.classifier(NAME, Timeline()).outcome(subject, hour_s)

    kind = replace(SMALL, classifier=lambda _name, _timeline: Counting())  # type: ignore[arg-type,return-value]  # counts
    lines = [("i-1", 1, T, T + 1)] * 20 + [("i-1", 1, T + 3600, T + 3601)] * 5
    measure(io.BytesIO(small_file(*lines)), kind, NAME, Timeline())
    assert judged == [("i-1", T), ("i-1", T + 3600)]


def _traffic(resource: str, usage_type: str = "") -> Traffic:
    return Traffic("111111111111", "AmazonEC2", resource, "out", "us-east-1/use1-az1", "internet", usage_type)


def _records(*totals: tuple[str, HourTotal]) -> list[LogRecord]:
    found = {(_traffic(name), total.start_s - total.start_s % HOUR_S): total for name, total in totals}
    return [record for part in parts_of("small:a", found) for record in part.records]


def test_a_record_ends_an_hour_after_it_began_at_most_and_keeps_its_hour() -> None:
    # Lines from 10:05 to 10:15, and from 10:59 to 11:09.
    (record,) = _records(("i-1", HourTotal(7, 2, T + 300, T + 3600 + 540)))
    assert (record.start_s, record.end_s, record.bytes) == (T + 300, T + 300 + HOUR_S, 7)
    (short,) = _records(("i-1", HourTotal(7, 2, T + 3540, T + 3600 + 540)))
    assert (short.start_s, short.end_s) == (T + 3540, T + 3600 + 540)


@pytest.mark.parametrize("size", [0, INT64_MAX, INT64_MAX + 1, 3 * INT64_MAX + 5])
def test_a_total_of_any_size_becomes_records_that_add_up(size: int) -> None:
    found = _records(("i-1", HourTotal(size, 1, T, T + 1)))
    assert sum(record.bytes for record in found) == size
    assert all(0 <= record.bytes <= INT64_MAX for record in found)
    assert len(found) == max(1, -(-size // INT64_MAX))


def test_the_order_of_the_totals_does_not_matter() -> None:
    some = [(f"i-{n}", HourTotal(n, 1, T, T + 1)) for n in range(9)]
    assert _records(*some) == _records(*reversed(some)) == sorted(_records(*some))


def test_more_records_than_a_batch_may_have_become_several_parts() -> None:
    totals = {(_traffic(f"i-{n:06}"), T): HourTotal(n, 1, T, T + 1) for n in range(2 * MAX_RECORDS + 1)}
    found = list(parts_of("small:a", totals))
    assert [part.batch_id for part, _ in found] == ["small:a/0", "small:a/1", "small:a/2"]
    assert [part.records for part, _ in found] == [MAX_RECORDS, MAX_RECORDS, 1]
    assert sum(part.bytes for part, _ in found) == sum(total.bytes for total in totals.values())
    assert len({part.sha256 for part, _ in found}) == 3
    assert all(one < other for one, other in pairwise(record for part in found for record in part.records))


def test_an_explicit_usage_type_stands_in_the_file_and_no_other() -> None:
    traffic = _traffic("i-1", "NatGateway-Bytes"), _traffic("i-2")
    (part,) = parts_of("small:a", {(each, T): HourTotal(1, 1, T, T) for each in traffic})
    rows = pq.read_table(io.BytesIO(parquet_of(part.records))).to_pylist()
    assert [row["usage_type"] for row in rows] == ["NatGateway-Bytes", None]


OUT = Share(usage_type="DataTransfer-Out-Bytes", rule="internet", reason="", bytes=60, lines=2)
UNKNOWN = Share(usage_type="Unclassified-Out-Bytes", rule="nothing", reason="zone_unknown", bytes=40, lines=1)
ONE = FileOutcome(
    place="s3://acme-logs/one", verdict="metered", identity="flow:one", content_sha256="a", shares=(OUT, UNKNOWN),
    balance=Balance(lines=4, header=1, metered=3, stated_bytes=100, metered_bytes=100),
)  # fmt: skip


def test_a_replica_adds_nothing_and_other_content_of_its_name_is_a_conflict() -> None:
    totals = RunTotals()
    told = [totals.add(ONE), totals.add(replace(ONE, place="copy")), totals.add(replace(ONE, content_sha256="b"))]
    assert [each.verdict for each in told] == ["metered", "repeated", "conflict"]
    assert totals.balance == ONE.balance
    assert totals.failed


@pytest.mark.parametrize(("part", "whole", "text"), [
    (0, 0, ""), (0, 7, "0.0 %"), (1, 10**12, "<0.1 %"), (10**12 - 1, 10**12, ">99.9 %"), (1, 3, "33.3 %"),
    (7, 7, "100.0 %"),
])  # fmt: skip
def test_a_share_is_never_rounded_to_nothing_or_to_all(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


def test_the_hint_names_causes_shares_and_fields() -> None:
    totals = RunTotals()
    totals.add(ONE)
    assert hint(totals, with_context=False) == (
        "40.0 % of the metered bytes are not classified, because the zone of one side is not known (40.0 %). To know "
        "more, add a context (metering context capture); and to flow logs that lack them, these fields: az-id "
        "next-hop-az-id."
    )
    assert "metering context capture" not in hint(totals, with_context=True)
    assert not hint(RunTotals(), with_context=False)


def test_everything_that_is_left_out_stands_below_the_table() -> None:
    totals = RunTotals()
    totals.add(
        replace(
            ONE,
            balance=Balance(lines=9, header=1, metered=3, skipdata=2, shadowed=2, refused=1, stated_bytes=112,
                            metered_bytes=100, shadowed_bytes=5, refused_bytes=7),
            shadowed=(("fl-broad", 2, 5),),
            refusals=(("field_count", 1, 7),),
        )
    )  # fmt: skip
    totals.add(FileOutcome(place="x.log", verdict="refused", problem=("truncated", "it breaks off")))
    totals.add(FileOutcome(place="y.txt", verdict="left_out", problem=("unknown_name", "no log")))
    text = "\n".join(totals_answer(totals, dry_run=True, with_context=False).footer)
    for said in (
        "Files: 1 would be metered, 1 refused, 1 left out.",
        "Missing: records that the log itself lost, as 2 lines of it say (SKIPDATA).",
        "Shadowed: 2 lines with 5 bytes, which fl-broad logs, too, and counts.",
        "Refused: 1 line with 7 bytes, field_count.",
        "Not in these totals: 1 file, truncated, such as x.log: it breaks off.",
        "Not in these totals: 1 file, unknown_name, such as y.txt: no log.",
    ):
        assert said in text


def test_outcomes_come_in_the_order_of_the_files_and_no_listing_is_held() -> None:
    pulled, store = 0, LogBucket(ManualClock(0))

    def files() -> Iterator[Chosen]:
        nonlocal pulled
        for number in range(50):
            pulled += 1
            yield Chosen(store=store, info=ObjectInfo(key=str(number), size_bytes=1, etag="", modified_s=0))

    ended = []
    for outcome in outcomes(files(), lambda each: FileOutcome(place=each.info.key, verdict="empty"), jobs=3):
        ended.append(outcome.place)
        assert pulled <= len(ended) + 6
    assert ended == [str(n) for n in range(50)]
