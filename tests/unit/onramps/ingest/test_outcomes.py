"""Sums over many files: each file once, and every number says what it leaves out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.onramps.ingest.outcomes import FileOutcome, RunTotals
from metering.onramps.ingest.trial import Chosen, outcomes
from metering.onramps.plans import Share
from metering.onramps.reading import Balance
from metering.reports.operators.ingest_answer import hint, percent, totals_answer
from metering.stores.objects import ObjectInfo
from tests.support.memory.clock import ManualClock
from tests.support.small_logs import LogBucket

if TYPE_CHECKING:
    from collections.abc import Iterator

OUT = Share(usage_type="DataTransfer-Out-Bytes", rule="internet", reason="", bytes=60, lines=2)
UNKNOWN = Share(usage_type="Unclassified-Out-Bytes", rule="nothing", reason="zone_unknown", bytes=40, lines=1)
ONE = FileOutcome(
    place="s3://acme-logs/one",
    verdict="metered",
    identity="flow:one",
    content_sha256="a",
    balance=Balance(lines=4, header=1, metered=3, stated_bytes=100, metered_bytes=100),
    shares=(OUT, UNKNOWN),
)


def test_a_replica_adds_nothing_and_other_content_of_its_name_is_a_conflict() -> None:
    totals = RunTotals()
    told = [totals.add(ONE), totals.add(replace(ONE, place="copy")), totals.add(replace(ONE, content_sha256="b"))]
    assert [each.verdict for each in told] == ["metered", "repeated", "conflict"]
    assert totals.balance == ONE.balance
    assert totals.failed


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, ""),
        (0, 7, "0.0 %"),
        (1, 10**12, "<0.1 %"),
        (10**12 - 1, 10**12, ">99.9 %"),
        (1, 3, "33.3 %"),
        (7, 7, "100.0 %"),
    ],
)
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


def _files(number: int) -> list[Chosen]:
    store = LogBucket(ManualClock(0))
    return [
        Chosen(store=store, info=ObjectInfo(key=f"{n}", size_bytes=1, etag="", modified_s=0)) for n in range(number)
    ]


def test_outcomes_come_in_the_order_of_the_files_and_no_listing_is_held() -> None:
    pulled = 0

    def files() -> Iterator[Chosen]:
        nonlocal pulled
        for each in _files(50):
            pulled += 1
            yield each

    ended = []
    for outcome in outcomes(files(), lambda each: FileOutcome(place=each.info.key, verdict="empty"), jobs=3):
        ended.append(outcome.place)
        assert pulled <= len(ended) + 6
    assert ended == [str(n) for n in range(50)]
