"""Answers about producers and quarantine, byte by byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from metering.ledger.notes.deeds import Consent, Deed, DeedState
from metering.ledger.notes.reconciliation import Backlog, Reconciliation, SourceFigures, SourceState
from metering.reports.answer import encoded_bytes
from metering.reports.operators.producers_answer import deeds_answer
from metering.reports.operators.quarantine_answer import entries_answer, entry_answer
from metering.reports.operators.sources_answer import sources_answer
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import NOW_S, World, record
from tests.support.memory.queues import MemoryQueue
from tests.support.region import quarantine_of

ANSWERS = Path(__file__).with_name("answers")


def test_sources_with_their_gaps_and_the_state_of_the_reconciler() -> None:
    states = [
        SourceState(source_id="edge-1", last_sequence=9, last_seen_s=NOW_S, gaps=((3, 4), (7, 7)), unlisted_gaps=1,
                    unlisted_numbers=2),
        SourceState(source_id="edge-2", last_sequence=0, last_seen_s=NOW_S - 2 * DAY_S, incredible=1,
                    incredible_first=9_999),
    ]  # fmt: skip
    answer = sources_answer(
        states,
        SourceFigures(scanned_ms=NOW_S * 1000, unkept=1, names=("edge-3",)),
        Reconciliation(finished_s=NOW_S, hours=4, differences=0, backlog=Backlog(waiting=2, since_s=NOW_S - HOUR_S)),
        silent_s=NOW_S - DAY_S,
    )
    for encoding in ("json", "csv"):
        assert encoded_bytes(answer, encoding) == (ANSWERS / f"sources.{encoding}").read_bytes()


def test_before_the_first_scan_nothing_is_claimed() -> None:
    answer = sources_answer([], SourceFigures(), None, silent_s=NOW_S)
    assert answer.document == {"as_of": None, "unkept": 0, "unkept_names": [], "reconciliation": None, "rows": []}


def test_entries_of_quarantine_in_a_list_and_whole() -> None:
    world = World()
    refused = {**record(5), "account_id": "x"}
    world.send([record(3), refused])
    world.send([refused])
    quarantine = quarantine_of(world, MemoryQueue(world.clock))
    entries = tuple(quarantine.entries(from_s=0, to_s=NOW_S + DAY_S))
    for name, answer in (("quarantine-list", entries_answer(entries)), ("quarantine-show", entry_answer(entries))):
        for encoding in ("json", "csv"):
            assert encoded_bytes(answer, encoding) == (ANSWERS / f"{name}.{encoding}").read_bytes()


def test_deeds_in_every_encoding() -> None:
    begun = Deed(
        deed_id="d1",
        at_ms=NOW_S * 1000 + 123,
        what="period close",
        subject="2026-10",
        consequence="The totals of 2026-10 are frozen for good.",
        who="arn:aws:sts::123456789012:assumed-role/Operator/ada",
        stage="prod",
        region="eu-west-1",
        version="0.1.0",
        consent=Consent.TYPED,
    )
    ended = replace(
        begun, state=DeedState.OK, ended_ms=begun.at_ms + 2_000, result="closed: 5 bytes in 1 records, 1 hours"
    )
    answer = deeds_answer([ended, begun])
    for encoding in ("json", "csv"):
        assert encoded_bytes(answer, encoding) == (ANSWERS / f"audit.{encoding}").read_bytes()
    assert encoded_bytes(answer, "parquet")
