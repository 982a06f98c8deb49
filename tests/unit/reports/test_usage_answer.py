"""Answers about usage: ranked rows, missing names, completeness. Answers about producers and about quarantine."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from metering.audit.freshness import Complete, HeldBack
from metering.cli.printing.output import Format, encoded
from metering.hours import month_bounds_s, rfc3339
from metering.ledger.notes.deeds import Consent, Deed, DeedState
from metering.ledger.notes.reconciliation import Backlog, Reconciliation, SourceFigures, SourceState
from metering.reports.answer import encoded_bytes
from metering.reports.operators.producers_answer import deeds_answer
from metering.reports.operators.quarantine_answer import entries_answer, entry_answer
from metering.reports.operators.sources_answer import sources_answer
from metering.reports.query import UsageParameters, UsageQuery
from metering.reports.source import report_periods, report_rows
from metering.reports.time_range import InvalidParametersError
from metering.reports.usage_answer import usage_answer
from metering.reports.usage_rows import ReportRow, Seen, UsageRow, in_order, sum_of_rows
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Moved
from tests.support.lake_world import ACCOUNT, NOW_S, World, record
from tests.support.memory.queues import MemoryQueue
from tests.support.region import quarantine_of
from tests.unit.reports.test_closed_reports import OTHER, region

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.reports.answer import Answer
    from tests.support.region import Parts

ANSWERS = Path(__file__).with_name("answers")
ASKED_S = month_bounds_s("2026-11")[0] + 4 * DAY_S
COMPLETE = Complete(
    through_s=ASKED_S - HOUR_S,
    held_back_by=(
        HeldBack(what="2 dead letters", since_s=ASKED_S - HOUR_S, cure="metering dlq redrive --stage x"),
        HeldBack(what="numbers that a source misses", since_s=None, cure="metering sources --gaps"),
    ),
)
QUESTIONS = {
    "this-month": UsageParameters(),
    "corrections": UsageParameters(
        start="2026-10", group_by="account_id, month,hour", filters={"account": [f"{OTHER},{ACCOUNT}"]},
        with_corrections=True,
    ),
    "resources": UsageParameters(
        start="2026-10-01T00:00:05Z", end="2026-11-30", filters={"service": ["AmazonEC2"]},
        group_by="usage_type,usage_type,day", detail="resource_id,batch_id",
    ),
}  # fmt: skip


def check(answer: Answer, name: str, *encodings: str) -> None:
    """Check that an answer equals the stored file byte by byte."""
    for encoding in encodings or ("json", "csv"):
        assert encoded_bytes(answer, encoding) == (ANSWERS / f"{name}.{encoding}").read_bytes()


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_documents_are_what_they_were(name: str) -> None:
    world = region()
    source = world.source()
    query = QUESTIONS[name].query(now_s=ASKED_S)
    several = name == "resources"
    answer = usage_answer(
        query, report_rows([source], query, now_s=ASKED_S), as_of_s=ASKED_S, complete=COMPLETE,
        periods=report_periods([source], query, now_s=ASKED_S),
        regions=("eu-west-1", "us-east-1") if several else (), left_out={"eu-west-1": ["zones"]} if several else {},
    )  # fmt: skip
    check(answer, name, "json", "ndjson", "csv")


def lines(complete: Complete, periods: dict[str, str], *, with_corrections: bool = False) -> list[str]:
    """Lines of text below the total of a table."""
    query = UsageParameters(start="2026-10", end="2026-11-03", with_corrections=with_corrections).query(now_s=ASKED_S)
    return list(usage_answer(query, [], as_of_s=ASKED_S, complete=complete, periods=periods).footer[1:])


def test_a_table_says_by_what_it_is_held_back_since_when_and_what_cures_it() -> None:
    hour_ago = rfc3339(ASKED_S - HOUR_S)
    assert lines(COMPLETE, {"2026-11": "open"}) == [
        f"As of {rfc3339(ASKED_S)}, complete through {hour_ago}.",
        f"Held back by 2 dead letters, since {hour_ago}.",
        "Cure: metering dlq redrive --stage x",
        "Also by numbers that a source misses. To see all: metering status",
    ]


def test_where_nothing_holds_it_back_a_table_says_one_line() -> None:
    assert lines(Complete(through_s=ASKED_S), {}) == [f"As of {rfc3339(ASKED_S)}, complete through {rfc3339(ASKED_S)}."]


def test_what_is_not_known_is_not_told_as_a_time_of_1970() -> None:
    unknown = HeldBack(what="1 message in the ingest queue", since_s=None, cure="metering verify --wait 5m")
    assert lines(Complete(through_s=0, held_back_by=(unknown,)), {}) == [
        f"As of {rfc3339(ASKED_S)}, and it is not known yet how complete.",
        "Held back by 1 message in the ingest queue, for a time that is not known.",
        "Cure: metering verify --wait 5m",
    ]


def test_figures_of_closed_months_alone_are_final_and_nothing_holds_them_back() -> None:
    [line] = lines(COMPLETE, {"2026-10": "closed"})
    assert line.startswith(f"As of {rfc3339(ASKED_S)}. 2026-10 is closed: its figures are final.")
    [line] = lines(COMPLETE, {"2026-09": "closed", "2026-10": "closed"})
    assert "2026-09, 2026-10 are closed: their figures are final." in line


def test_a_closed_month_beside_an_open_one_or_with_corrections_is_told_beside_the_time() -> None:
    for told in (
        lines(COMPLETE, {"2026-10": "closed", "2026-11": "open"}),
        lines(COMPLETE, {"2026-10": "closed"}, with_corrections=True),
    ):
        assert len(told) == 5
        assert told[-1].startswith("2026-10 is closed")


SIZES = {"111111111111": 2**70, "222222222222": 3, "333333333333": 2**70, "444444444444": 1}
ROWS = [ReportRow(values=(account,), total=Moved(size, 2)) for account, size in SIZES.items()]


def asked(**more: object) -> UsageQuery:
    return UsageParameters(**{"group_by": "account_id", **more}).query(now_s=ASKED_S)  # type: ignore[arg-type]  # its texts


def answer_of(query: UsageQuery, rows: Sequence[UsageRow] = ()) -> Answer:
    return usage_answer(query, in_order(rows, query), as_of_s=ASKED_S, complete=Complete(through_s=ASKED_S))


def accounts(query: UsageQuery) -> list[str]:
    return [row.values[0][0] for row in in_order(ROWS, query)]


def test_rows_are_sorted_by_any_column_and_ties_by_name() -> None:
    assert accounts(asked()) == ["1", "2", "3", "4"]
    assert accounts(asked(sort="bytes")) == ["4", "2", "1", "3"]
    assert accounts(asked(sort="bytes:desc")) == accounts(asked(top=1)) == ["1", "3", "2", "4"]
    assert accounts(asked(sort="account_id:desc")) == ["4", "3", "2", "1"]
    assert accounts(asked(sort="records:asc")) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(("more", "said"), [
    ({"sort": "day"}, "is not a column of this report"),
    ({"sort": "bytes:down"}, "has no such direction"),
    ({"sort": ""}, "is not a column of this report"),
    ({"top": 0}, "is not a number of rows"),
    ({"top": -3}, "is not a number of rows"),
])  # fmt: skip
def test_an_order_that_is_none_is_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidParametersError, match=said):
        asked(**more)


def test_every_encoding_of_the_first_rows_adds_up_to_the_whole() -> None:
    answer = answer_of(asked(top=2), ROWS)
    total, records = sum(SIZES.values()), 2 * len(SIZES)
    document = json.loads(encoded(answer, Format.JSON))
    assert (document["rows_total"], len(document["rows"])) == (4, 2)
    assert document["others"] == {"rows": 2, "bytes": "4", "records": 4, "processed_bytes": "0"}
    assert document["query"]["top"] == 2
    assert document["query"]["sort"] == "bytes:desc"
    assert sum(int(row["bytes"]) for row in [*document["rows"], document["others"]]) == total
    for rows in (
        [json.loads(line) for line in encoded(answer, Format.NDJSON).splitlines()],
        list(csv.DictReader(io.StringIO(encoded(answer, Format.CSV).decode()))),
        pq.read_table(io.BytesIO(encoded(answer, Format.PARQUET))).to_pylist(),
    ):
        assert [row["account_id"] for row in rows] == ["111111111111", "333333333333", "others"]
        assert (sum(int(row["bytes"]) for row in rows), sum(int(row["records"]) for row in rows)) == (total, records)
    table = encoded(answer, Format.TABLE, width=120).decode()
    assert "others" in table
    assert f"{total:,} bytes" in table, "the total is that of all rows"
    assert "2 of 4 rows" in table


def test_the_others_of_a_report_by_hour_alone_have_no_label_and_all_bytes() -> None:
    rows = [ReportRow(values=(f"2026-11-24T1{n}:00:00Z",), total=Moved(n, 1)) for n in range(3)]
    answer = answer_of(asked(group_by="hour", top=1), rows)
    table = pq.read_table(io.BytesIO(encoded(answer, Format.PARQUET))).to_pylist()
    assert [(row["hour"] is None, int(row["bytes"])) for row in table] == [(False, 2), (True, 1)]


def test_without_a_rest_there_are_no_others() -> None:
    answer = answer_of(asked(top=4), ROWS)
    document = json.loads(encoded(answer, Format.JSON))
    assert (document["rows_total"], document["others"], len(document["rows"])) == (4, None, 4)
    assert "others" not in encoded(answer, Format.CSV).decode()


def test_hours_of_the_night_when_clocks_go_back_stand_in_the_order_of_time() -> None:
    labels = ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"]
    rows = [ReportRow(values=(label,), total=Moved(1, 1)) for label in sorted(labels)]
    query = asked(group_by="hour", start="2026-10", zone="Europe/Berlin")
    assert [row.values[0] for row in in_order(rows, query)] == labels


def test_the_heading_says_the_range_its_zone_and_whether_it_is_over() -> None:
    for more, title in (
        ({"start": "2026-10"}, "Usage from 2026-10-01T00:00:00Z to 2026-11-01T00:00:00Z"),
        ({"start": "2026-11"}, "Usage from 2026-11-01T00:00:00Z to 2026-12-01T00:00:00Z (not over yet)"),
        (
            {"start": "2026-10", "zone": "Europe/Berlin"},
            "Usage from 2026-10-01T00:00:00+02:00 to 2026-11-01T00:00:00+01:00, by UTC hours in Europe/Berlin",
        ),
    ):
        assert answer_of(asked(**more)).title == title


def test_sources_with_their_gaps_and_the_state_of_the_reconciler() -> None:
    states = [
        SourceState(source_id="edge-1", last_sequence=9, last_seen_s=NOW_S, gaps=((3, 4), (7, 7)), unlisted_gaps=1,
                    unlisted_numbers=2),
        SourceState(source_id="edge-2", last_sequence=0, last_seen_s=NOW_S - 2 * DAY_S, incredible=1,
                    incredible_first=9_999),
    ]  # fmt: skip
    figures = SourceFigures(scanned_ms=NOW_S * 1000, unkept=1, names=("edge-3",))
    backlog = Backlog(waiting=2, since_s=NOW_S - HOUR_S)
    compared = Reconciliation(finished_s=NOW_S, hours=4, differences=0, backlog=backlog)
    check(sources_answer(states, figures, compared, silent_s=NOW_S - DAY_S), "sources")


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
    check(entries_answer(entries), "quarantine-list")
    check(entry_answer(entries), "quarantine-show")


def test_deeds_in_every_encoding() -> None:
    begun = Deed(
        deed_id="d1", at_ms=NOW_S * 1000 + 123, what="period close", subject="2026-10",
        consequence="The totals of 2026-10 are frozen for good.", stage="prod", region="eu-west-1", version="0.1.0",
        who="arn:aws:sts::123456789012:assumed-role/Operator/ada", consent=Consent.TYPED,
    )  # fmt: skip
    closed = "closed: 5 bytes in 1 records, 1 hours"
    ended = replace(begun, state=DeedState.OK, ended_ms=begun.at_ms + 2_000, result=closed)
    answer = deeds_answer([ended, begun])
    check(answer, "audit")
    assert encoded_bytes(answer, "parquet")


# Processing, a second count of bytes

PROCESSING = {
    "USW2-DataTransfer-Out-Bytes": Moved(100, 1), "USW2-NatGateway-Bytes": Moved(70, 2),
    "TransitGateway-Bytes": Moved(30, 3),
}  # fmt: skip


def processed_world() -> World:
    world = World()
    for name, (size, records, _) in PROCESSING.items():
        world.send([record(size, start_s=ASKED_S - HOUR_S) | {"usage_type": name}])
        world.send([record(0, start_s=ASKED_S - HOUR_S) | {"usage_type": name} for _ in range(records - 1)])
    world.compact_all()
    return world


def asked_of(world: World, **more: object) -> dict[str, Any]:
    query = asked(start="2026-11", **more)
    rows = report_rows([world.source()], query, now_s=ASKED_S)
    answer = answer_of(query, rows)
    document: dict[str, Any] = json.loads(encoded(answer, Format.JSON))
    return {**document, "footer": answer.footer}


@pytest.mark.parametrize("more", [{}, {"accounts": ACCOUNT}, {"detail": "resource_id"}, {"service": "AmazonEC2"}])
def test_a_sum_over_usage_types_leaves_processing_out_and_names_it(more: dict[str, str]) -> None:
    names = {"account": more.get("accounts"), "service": more.get("service")}
    filters = {name: [value] for name, value in names.items() if value}
    found = asked_of(processed_world(), filters=filters, detail=more.get("detail"))
    [row] = found["rows"]
    assert (row["bytes"], row["records"], row["processed_bytes"]) == ("100", 1, "100")
    assert "Total: 100 bytes in 1 record." in found["footer"]
    assert any("not in the total: 100 bytes" in line for line in found["footer"])


def test_rows_of_usage_types_have_their_bytes_and_sums_of_them_leave_processing_out() -> None:
    found = asked_of(processed_world(), group_by="usage_type")
    assert {row["usage_type"]: (row["bytes"], row["records"]) for row in found["rows"]} == {
        name: (str(size), records) for name, (size, records, _) in PROCESSING.items()
    }
    assert found["processing"] == ["TransitGateway-Bytes", "USW2-NatGateway-Bytes"]
    assert "Total: 100 bytes in 1 record." in found["footer"]
    found = asked_of(processed_world(), group_by="usage_type", top=1)
    assert found["rows"][0]["bytes"] == "100"
    assert found["others"] == {"rows": 2, "bytes": "0", "records": 0, "processed_bytes": "100"}


def test_a_question_about_processing_alone_counts_it() -> None:
    names = [name for name in PROCESSING if "Gateway" in name]
    found = asked_of(processed_world(), filters={"usage_type": names})
    assert [(row["bytes"], row["records"]) for row in found["rows"]] == [("100", 5)]
    assert "processing" not in found
    found = asked_of(processed_world(), filters={"usage_type": [*PROCESSING]})
    assert [(row["bytes"], row["processed_bytes"]) for row in found["rows"]] == [("100", "100")]


class FewKinds(World):
    """A region whose totals have numbers for few kinds of usage, so that others count with any places, or together."""

    kinds = 6

    def parts(self) -> Parts:
        return replace(super().parts(), region_kinds=self.kinds)


@pytest.mark.parametrize(("kinds", "group_by", "read"), [
    (6, "day", {"region"}), (6, "usage_type", {"region"}), (6, "to", {"accounts"}),
    (1, "day", {"accounts"}), (1, "usage_type", {"accounts"}), (512, "to", {"region"}),
])  # fmt: skip
def test_totals_of_the_region_that_put_kinds_together_answer_what_they_tell(
    kinds: int, group_by: str, read: set[str]
) -> None:
    world = FewKinds()
    world.kinds = kinds
    world.send([record(1)])
    for number in range(4):
        world.send([record(100, to=f"us-west-{number + 1}") | {"usage_type": "DataTransfer-Out-Bytes"}])
        world.send([record(7, to=f"us-west-{number + 1}") | {"usage_type": "NatGateway-Bytes"}])
    query = UsageParameters(start="2026-11", group_by=group_by).query(now_s=NOW_S)
    seen = Seen(query)
    rows = report_rows([world.source()], query, now_s=NOW_S, seen=seen)
    assert seen.sources == read
    assert sum_of_rows(rows, query) == (401, 5, 28)
