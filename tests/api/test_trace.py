"""`/v1/trace` and `/v1/batches`: each token traces its own accounts; others' rows, ids and keys stay hidden."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.hours import rfc3339
from tests.api.world import FIRST, SECOND, THIRD, ApiWorld, read_cursor, written_cursor
from tests.api.world import at_rest as world
from tests.support.lake_world import HOUR, record
from tests.support.usage_items import change, usage_of

NOVEMBER = "from=2026-11-22&to=2026-11-24T14:00:00Z"


def traced(account: str, who: str, more: str = NOVEMBER, *, of: ApiWorld | None = None) -> Any:
    return (of or world()).json(f"/v1/trace?account={account}&{more}", who)


def test_every_line_of_every_account_is_equal_and_its_batches_add_up() -> None:
    usage = world().json(f"/v1/usage?{NOVEMBER}&group_by=account_id,usage_type,service,from,to")
    assert len(usage["rows"]) == 12
    for row in usage["rows"]:
        columns = {"usage_type": "usage_type", "service": "service", "from_location": "from", "to_location": "to"}
        filters = "&".join(f"{name}={row[column]}" for name, column in columns.items())
        found = traced(row["account_id"], "analyst", f"{NOVEMBER}&{filters}")
        assert found["equal"] is True
        assert found["line"]["bytes"] == row["bytes"]
        assert found["sums"] == dict.fromkeys(("usage", "rows", "markers"), row["bytes"])
        assert sum(int(each["bytes"]) for each in found["batches"]) == int(row["bytes"])
        assert sum(int(each["bytes"]) for each in found["hours"]) == int(row["bytes"])


def test_a_customer_traces_its_account_as_an_analyst_does_and_no_other() -> None:
    own = traced(FIRST, "first")
    assert own == traced(FIRST, "analyst")
    for account in (SECOND, "999999999999"):
        answer = world().get(f"/v1/trace?account={account}&{NOVEMBER}", "first")
        assert answer.status_code == 403
        assert "lake/" not in answer.text


def test_only_operators_are_told_which_objects_hold_the_rows() -> None:
    assert all(hour["files"] for hour in traced(FIRST, "operator")["hours"])
    for who in ("analyst", "first"):
        assert not any("files" in hour for hour in traced(FIRST, who)["hours"])


def test_without_an_account_with_several_and_with_unknown_parameters_it_is_refused() -> None:
    for query in ("", f"account={FIRST},{SECOND}", f"account={FIRST}&hours=1", f"account={FIRST}&hour=2026-11-24"):
        assert world().get(f"/v1/trace?{query}").status_code == 400
    answer = world().get(f"/v1/trace?account={FIRST}&hour=2026-11-24T13:00:00Z&from=2026-11")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "hour"


def test_more_hours_than_a_request_may_read_are_refused_before_any_is_read() -> None:
    with world().calls() as calls:
        for asked in (f"/v1/trace?account={FIRST}", "/v1/batches?id=nothing"):
            answer = world().get(f"{asked}&from=2026-10")
            assert (answer.status_code, answer.json()["type"]) == (422, "urn:metering:problem:invalid-parameters")
    assert calls == []
    for hour, status in ((14, 200), (13, 422)):
        week = f"from=2026-11-17T{hour}:00:00Z&to=2026-11-24T14:00:00Z"
        assert world().get(f"/v1/trace?account={FIRST}&{week}").status_code == status


def test_pages_have_every_batch_once_and_the_sums_of_the_whole_line() -> None:
    whole = traced(FIRST, "first")
    pages = list(world().pages(f"/v1/trace?account={FIRST}&{NOVEMBER}&limit=2", "first"))
    for page in pages:
        assert len(page["batches"]) <= 2
        assert (page["sums"], page["hours"]) == (whole["sums"], whole["hours"])
    assert [each for page in pages for each in page["batches"]] == whole["batches"]
    assert len(pages) > 1
    # A cursor is valid only for the same query and token.
    of_another = f"/v1/trace?account={SECOND}&{NOVEMBER}&limit=2&cursor={pages[-2]['next']}"
    assert world().get(of_another, "second").status_code == 422


_TRACE, _DETAILS = f"/v1/trace?account={FIRST}&limit=1", "/v1/usage?detail=resource_id&limit=1"
_NO_RANGES = [[0, 2**38], [2**38 - 3600, 2**38], [HOUR, HOUR], [HOUR + 3600, HOUR], [HOUR]]


@pytest.mark.parametrize(
    ("path", "fixed"),
    [*((path, fixed) for path in (_TRACE, _DETAILS) for fixed in _NO_RANGES), (_TRACE, [HOUR - 1, HOUR + 3600])],
)
def test_a_cursor_with_a_range_that_no_page_had_is_refused(path: str, fixed: list[int]) -> None:
    cursor = world().json(f"{path}&{NOVEMBER}")["next"]
    question, after, _ = read_cursor(cursor)
    made = written_cursor([question, after, fixed])
    answer = world().get(f"{path}&{NOVEMBER}&cursor={made}")
    assert answer.status_code == 422, answer.text


def test_csv_has_the_batches() -> None:
    lines = world().get(f"/v1/trace?account={FIRST}&{NOVEMBER}&format=csv", "first").text.splitlines()
    assert lines[0] == "batch_id,source_id,sequence,bytes,records,first_hour,last_hour,marker"
    assert len(lines) == 1 + len(traced(FIRST, "first")["batches"])


def test_one_byte_added_by_hand_is_told_with_both_figures() -> None:
    changed = ApiWorld()
    entries = [each for each in usage_of(changed.world.items, "2026-11") if each.key.account_id == FIRST]
    before = traced(FIRST, "first", of=changed)
    change(changed.world.items, entries[-1], 1)
    found = traced(FIRST, "first", of=changed)
    assert (before["equal"], found["equal"]) == (True, False)
    assert int(found["sums"]["usage"]) == int(found["sums"]["rows"]) + 1
    assert found["differences_total"] == 1


def batch_ids(who: str, account: str) -> set[str]:
    return {each["batch_id"] for each in traced(account, who)["batches"]}


def test_a_customer_sees_of_a_batch_the_rows_of_its_accounts_alone() -> None:
    batch_id = sorted(batch_ids("first", FIRST))[0]
    whole = world().json(f"/v1/batches?id={batch_id}", "analyst")
    parts = {who: world().json(f"/v1/batches?id={batch_id}", who) for who in ("first", "second")}
    for part in parts.values():
        assert part["proof"]["equal"] is True
        assert int(part["proof"]["rows"]) < int(whole["proof"]["rows"])
        assert set(part) == {
            "batch_id", "as_of", "verdict", "marker", "source_id", "sequence", "decided_at", "hours", "proof",
        }  # fmt: skip
    assert parts["first"]["proof"]["rows"] != parts["second"]["proof"]["rows"]


def test_a_batch_of_others_is_as_unknown_as_one_that_never_came() -> None:
    changed = ApiWorld()
    [foreign] = changed.world.send([record(5, account=THIRD)])
    changed.json(f"/v1/batches?id={foreign}", "analyst")
    answers = [changed.get(f"/v1/batches?id={batch_id}", "first") for batch_id in (foreign, "x" * len(foreign))]
    assert [each.status_code for each in answers] == [404, 404]
    first, second = (each.text.replace(foreign, "ID").replace("x" * len(foreign), "ID") for each in answers)
    assert first == second
    assert changed.get(f"/v1/batches?id={foreign}&from=2026-11-24", "first").status_code == 404


def test_analysts_hear_of_no_sender_and_no_key_and_operators_of_both() -> None:
    batch_id = sorted(batch_ids("first", FIRST))[0]
    analyst, operator = (json.dumps(world().json(f"/v1/batches?id={batch_id}", who)) for who in ("analyst", "operator"))
    assert not any(word in analyst for word in ('"sender', "lake/", "staging/"))
    assert all(word in operator for word in ('"sender"', "lake/"))


@pytest.mark.parametrize("batch_id", ["", "a b", "a%23b", "x" * 129, "%C3%A9", "a,b", "s3:edge/7f3a"])
def test_what_is_no_batch_id_is_refused_and_slashes_and_colons_may_be_in_one(batch_id: str) -> None:
    assert world().get(f"/v1/batches?id={batch_id}").status_code == (404 if ":" in batch_id else 400)


def test_an_hour_is_traced_by_its_beginning_and_hours_that_a_story_reads_are_counted_for_the_log() -> None:
    found = traced(FIRST, "first", f"hour={rfc3339(HOUR)}")
    assert [each["hour"] for each in found["hours"]] == [rfc3339(HOUR)]
    world().json("/v1/batches?id=batch-1", "first")
    assert world().logged[-1].hours == 1
