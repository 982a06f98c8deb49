"""Only operators see the internals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import pytest

from metering.api.authentication import Grant
from metering.api.resources import operators
from metering.cli.commands.analyst.lake import reconcile
from metering.cli.commands.analyst.report import trace
from metering.cli.commands.analyst.saved import list_ as list_saved
from metering.cli.commands.operator.quarantine import list_, show_batch
from metering.cli.commands.platform.producers import sources
from metering.cli.printing.output import Format
from metering.hours import rfc3339
from metering.ledger.markers import marker_key
from metering.ledger.notes.access import Role
from metering.ledger.notes.reconciliation import Reconciliation
from metering.ledger.notes.saved import LastReport
from metering.reports.query import UsageParameters
from metering.reports.saved import QuestionStore, question_of
from metering.stores.queues import Delivery
from metering.stores.writes import Put, Table
from metering.units import HOUR_S
from tests.api.world import FIRST, ApiWorld
from tests.support.command_line import HereSession
from tests.support.lake_world import HOUR, NOW_S, record
from tests.support.usage_items import change, usage_of

ROUTES = ("/v1/hours/2026-11-24T11", "/v1/reports", "/v1/sources", "/v1/quarantine", "/v1/reconciliation")


@cache
def world() -> ApiWorld:
    """A region that no test changes: refused batches and records, a gap, and passes of the reconciler."""
    made = ApiWorld()
    for number in range(5):
        deliver(made, f"refused-{number}", [record(5)], record_count=2)
        made.world.clock.advance_s(60)
    deliver(made, "partly-b", [record(5), {**record(5), "bytes": -1}])
    deliver(made, "partly-a", [record(5), {**record(5), "account_id": "12"}])
    made.world.send([record(5)], source="edge-gap")
    made.world.send([record(5)])
    made.world.send([record(5)], source="edge-gap")
    for _ in range(2):
        result = made.world.jobs.reconciler.check(from_s=0, to_s=NOW_S + HOUR_S)
        made.world.jobs.reconciler_state.keep(result)
        made.world.clock.advance_s(3_600)
    made.world.clock.advance_s(-3_600)
    return made


def deliver(made: ApiWorld, batch_id: str, records: Sequence[object], **more: object) -> None:
    body = {"schema": "metering.batch/1", "batch_id": batch_id, "record_count": len(records), "records": records}
    delivery = Delivery(
        message_id="m", body=json.dumps({**body, **more}), sent_at_ms=made.world.clock.now_ms(), receive_count=1,
        sender_id="sender",
    )  # fmt: skip
    made.world.aggregator.handle([delivery], made.world.deadline())


@pytest.mark.parametrize("route", ROUTES)
def test_customers_are_told_nothing_of_the_insides_and_analysts_only_of_hours_and_reports(route: str) -> None:
    assert world().get(route, None).status_code == 401
    assert world().get(route, "first").status_code == 403
    assert world().get(route, "analyst").status_code == (200 if "hours" in route or "reports" in route else 403)
    assert world().get(route, "operator").status_code == 200


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("role", [Role.ANALYST, Role.OPERATOR])
def test_who_sees_some_accounts_only_is_told_no_figures_of_all(route: str, role: Role) -> None:
    made = world()
    made.tokens.grants["some"] = Grant(token_id="some", role=role, accounts=frozenset({FIRST}))
    assert made.get(route, "some").status_code == 403


@pytest.mark.parametrize("hour", ["2026-11-24T11", "2026-11-24T11:00:00Z"])
def test_an_hour_has_three_figures_that_agree(hour: str) -> None:
    found = world().json(f"/v1/hours/{hour}")
    assert found["hour"] == "2026-11-24T11:00:00Z"
    assert (found["agrees"], found["compared"], found["stable"], found["period"]) == (True, True, True, "open")
    assert found["rows"] == found["usage"] == found["markers"]
    assert int(found["rows"]["bytes"]) > 0


def test_an_hour_without_rows_has_figures_of_nothing() -> None:
    found = world().json("/v1/hours/2026-11-20T00")
    assert (found["agrees"], found["rows"]) == (True, {"bytes": "0", "records": 0})


def test_an_hour_that_differs_names_the_key_and_the_batch() -> None:
    made = ApiWorld()
    entry = next(each for each in usage_of(made.world.items) if each.key.hour_s == HOUR)
    change(made.world.items, entry, 1)
    found = made.json(f"/v1/hours/{rfc3339(HOUR)}")
    assert (found["agrees"], found["differences_total"]) == (False, 1)
    [difference] = found["differences"]
    assert (difference["between"], difference["account_id"]) == ("usage/rows", entry.key.account_id)
    assert int(difference["expected_bytes"]) - int(difference["found_bytes"]) == 1
    batch_id = made.world.send([record(1)])[0]
    made.world.items.remove(Table.LEDGER, marker_key(batch_id))
    found = made.json(f"/v1/hours/{rfc3339(HOUR)}")
    assert batch_id in {each["batch_id"] for each in found["differences"]}


@pytest.mark.parametrize(("hour", "status"), [
    ("2026-11-24", 400), ("2026-11-24T11:30:00Z", 400), ("yesterday", 400), ("2026-13-24T11", 422),
    ("2026-02-30T11", 422), ("0001-01-01T00", 422), ("9999-12-31T23", 422),
])  # fmt: skip
def test_what_is_no_hour_is_refused(hour: str, status: int) -> None:
    assert world().get(f"/v1/hours/{hour}").status_code == status


def test_sources_are_told_with_their_gaps() -> None:
    every = world().json("/v1/sources", "operator")
    assert {"edge-7f3a", "edge-gap"} <= {row["source_id"] for row in every["rows"]}
    [gap] = [row for row in world().json("/v1/sources?gaps=true", "operator")["rows"] if row["source_id"] == "edge-gap"]
    assert gap["missing"] == sum(last - first + 1 for first, last in gap["gaps"]) > 0
    assert world().json("/v1/sources?silent=true", "operator")["rows"] == []


def test_the_last_pass_of_the_reconciler_is_told_and_no_row_before_the_first() -> None:
    [row] = world().json("/v1/reconciliation", "operator")["rows"]
    assert (row["differences"], row["waiting"]) == (0, 0)
    assert row["hours"] > 0
    assert ApiWorld().json("/v1/reconciliation", "operator")["rows"] == []
    late = ApiWorld()
    known = Reconciliation(finished_s=0, hours=1, differences=1)
    late.world.items.put(Put(table=Table.LEDGER, item=known.to_item()))
    assert late.json("/v1/reconciliation", "operator")["rows"][0]["finished"] is None


def all_pages(query: str, limit: int) -> list[Any]:
    pages = [page["rows"] for page in world().pages(f"/v1/quarantine?limit={limit}{query}", "operator")]
    assert max(map(len, pages)) <= limit
    return [row for page in pages for row in page]


def test_pages_of_quarantine_together_are_the_whole_newest_first() -> None:
    whole = world().json("/v1/quarantine", "operator")["rows"]
    assert [each["batch_id"] for each in whole][-5:] == [f"refused-{number}" for number in (4, 3, 2, 1, 0)]
    assert {"partly-a", "partly-b"} <= {each["batch_id"] for each in whole}
    for limit in (1, 2, 3, 7, 100):
        assert all_pages("", limit) == whole


def test_filters_of_quarantine_and_their_pages() -> None:
    found = all_pages("&reason=record_count_mismatch", 2)
    assert [each["batch_id"] for each in found] == [f"refused-{number}" for number in (4, 3, 2, 1, 0)]
    assert {each["kind"] for each in all_pages("&kind=records", 1)} == {"records"}
    assert world().json("/v1/quarantine?source=nobody", "operator")["rows"] == []
    for filtered in ("reason", "kind"):
        assert world().get(f"/v1/quarantine?{filtered}=nonsense", "operator").status_code == 400


def test_more_entries_than_a_request_may_read_are_refused_or_paged_and_never_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = world().json("/v1/quarantine", "operator")["rows"]
    monkeypatch.setattr(operators, "MOST_ENTRIES", 3)
    answer = world().get("/v1/quarantine", "operator")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:metering:problem:answer-too-large")
    assert all_pages("", 100) == whole
    # Entries that are filtered out count towards the limit, so a page may be empty and yet be followed by another page.
    assert [each["batch_id"] for each in all_pages("&reason=invalid_account_id", 100)] == ["partly-a"]
    monkeypatch.setattr(operators, "MOST_ENTRIES", 1)
    assert len(all_pages("&reason=record_count_mismatch", 100)) == 5
    monkeypatch.setattr(operators, "MOST_ENTRIES", len(whole))
    assert world().json("/v1/quarantine", "operator")["rows"] == whole


@pytest.mark.parametrize("cursor", ["abc", "W10", "WyJhIixbImIiXSxbMV1d", "bnVsbA"])
def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    assert world().get(f"/v1/quarantine?cursor={cursor}", "operator").status_code == 422


# Operators' queries over HTTP return what the command line prints: the same CSV, and JSON that differs in its time.
_RANGE = {"start": "2026-11-22", "end": "2026-11-24T14:00:00Z"}
_IN_URL = "from=2026-11-22&to=2026-11-24T14:00:00Z"
CASES: dict[str, Callable[[HereSession], None]] = {
    f"/v1/trace?account={FIRST}&{_IN_URL}": lambda here: trace(here, FIRST, **_RANGE),
    f"/v1/trace?account={FIRST}&to_location=internet&hour=2026-11-24T13:00:00Z": lambda here: trace(
        here, FIRST, to_location="internet", hour="2026-11-24T13:00:00Z"
    ),
    **{f"/v1/batches?id={name}": partial(show_batch, batch_id=name) for name in ("partly-a", "refused-0", "batch-0")},
    "/v1/quarantine": list_,
    "/v1/quarantine?reason=record_count_mismatch": lambda here: list_(here, reason="record_count_mismatch"),
    "/v1/sources": sources,
    "/v1/sources?gaps=true": lambda here: sources(here, gaps=True),
    "/v1/reconciliation": lambda here: reconcile(here, result=True),
    "/v1/reports": list_saved,
}


def test_saved_reports_are_told_to_staff_with_the_newest_one() -> None:
    made = ApiWorld()
    store = QuestionStore(items=made.world.items, clock=made.world.clock)
    store.set(question_of("accounts", "day", UsageParameters(group_by="account_id"), now_s=NOW_S))
    made.world.items.put(
        Put(
            table=Table.LEDGER,
            item=LastReport(name="accounts", question="0", date="2026-11-24", sent=True, document="key").to_item(),
        )
    )
    assert made.json("/v1/reports")["rows"] == [
        {
            "report": "accounts", "every": "day", "last": "2026-11-24", "state": "made",
            "question": "metering report usage --group-by account_id", "refused": None, "document": "key",
        }
    ]  # fmt: skip


@pytest.mark.parametrize("path", CASES)
def test_json_and_csv_are_those_of_the_command(path: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    for form in (Format.JSON, Format.CSV):
        CASES[path](HereSession(world().world, form=form))
        printed = capsysbinary.readouterr().out
        mark = "&" if "?" in path else "?"
        answered = world().get(f"{path}{mark}format={form.value}", "operator").content
        if form is Format.CSV:
            assert answered == printed
        else:
            assert without_time(answered) == without_time(printed)


def without_time(text: bytes) -> Any:
    document = json.loads(text)
    document.pop("as_of", None)
    return document
