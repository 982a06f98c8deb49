"""The history of a batch: its outcome from the ledger, and its sums from the rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from metering.ledger.booked_hours import totals_value
from metering.ledger.markers import Marker, marker_key
from metering.ledger.notes.access import Role
from metering.reports.time_range import InvalidParametersError
from metering.stores.queues import Delivery
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.wiring.answers.trace import batch_of, checked_batch_id
from tests.support.command_line import Here
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, record
from tests.support.memory.queues import MemoryQueue
from tests.support.region import quarantine_of
from tests.unit.billing.test_months import AFTER_S, FIRST_S, MONTH, world_with_october

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.reports.answer import Answer

OTHER = "210987654321"
BATCH = "edge-7f3a-000184"


def deliver(world: World, batch_id: str, records: Sequence[object], **more: object) -> None:
    """Deliver a batch message to a worker."""
    body = {"schema": "metering.batch/1", "batch_id": batch_id, "record_count": len(records), "records": records}
    delivery = Delivery(
        message_id="m", body=json.dumps({**body, **more}), sent_at_ms=world.clock.now_ms(), receive_count=1,
        sender_id="AROAEXAMPLE",
    )  # fmt: skip
    assert not world.aggregator.handle([delivery], world.deadline()).retry


def story(world: World, batch_id: str = BATCH, *, now_s: int = NOW_S, **how: Any) -> Answer | None:
    return batch_of(Here(world), batch_id, now_s=now_s, **how)


def document(world: World, batch_id: str = BATCH, **how: Any) -> dict[str, Any]:
    answer = story(world, batch_id, **how)
    assert answer is not None
    assert answer.document is not None
    return dict(answer.document)


def world_with_batch(*, compacted: bool = False) -> World:
    """A batch of two accounts in two hours, with one refused record."""
    world = World()
    records = [
        record(5), record(7, account=OTHER), record(2**62, start_s=NOW_S - HOUR_S), {**record(1), "bytes": -1},
    ]  # fmt: skip
    deliver(world, BATCH, records, source_id="edge-7f3a", sequence=184)
    world.send([record(100)], rolled_up=compacted)
    if compacted:
        world.compact_all()
    return world


@pytest.mark.parametrize("compacted", [False, True])
def test_an_accepted_batch_is_told_with_hours_files_commit_and_its_proof(compacted: bool) -> None:
    found = document(world_with_batch(compacted=compacted))
    assert [found[name] for name in ("verdict", "marker", "source_id")] == ["accepted", "kept", "edge-7f3a"]
    assert found["sequence"] == 184
    assert (found["records"], found["metered"], found["refused"]) == (4, 3, 1)
    assert found["sender"] == "AROAEXAMPLE"
    assert [(each["hour"], each["bytes"], each["rows_bytes"], each["equal"]) for each in found["hours"]] == [
        ("2026-11-24T12:00:00Z", str(2**62), str(2**62), True),
        ("2026-11-24T13:00:00Z", "12", "12", True),
    ]
    files = [file for hour in found["hours"] for file in hour["files"]]
    assert {file["staged"] for file in files} == {not compacted}
    assert all(file["key"].startswith("lake/" if compacted else "staging/") for file in files)
    assert found["proof"] == {"marker": str(2**62 + 12), "rows": str(2**62 + 12), "equal": True}
    assert (found["commit"]["state"], found["commit"]["rolled_up"]) == ("committed", compacted)
    [entry] = found["quarantine"]
    assert entry["reasons"] == {"invalid_bytes": 1}


def test_a_batch_of_a_closed_month_is_found_in_its_frozen_files() -> None:
    world = world_with_october()
    world.jobs.closer.close(MONTH, world.deadline())
    assert document(world, "batch-0", now_s=AFTER_S)["proof"] == {"marker": "12", "rows": "12", "equal": True}
    # Rows that arrive after the close are booked in the hour in which they arrive, and are listed there.
    [late] = world.send([record(17, start_s=FIRST_S + 5)])
    found = story(world, late, now_s=AFTER_S)
    assert found is not None
    assert [(row["hour"], row["bytes"], row["rows_bytes"]) for row in found.rows] == [("2026-11-04T23:00:00Z", 17, 17)]


def test_a_refused_batch_is_told_with_its_reason_and_nothing_is_to_be_proved() -> None:
    world = World()
    deliver(world, BATCH, [record(5)], record_count=2)
    found = document(world)
    assert (found["verdict"], found["reason"]) == ("rejected", "record_count_mismatch")
    assert (found["hours"], found["proof"]) == ([], None)
    assert [entry["kind"] for entry in found["quarantine"]] == ["refused"]


def test_other_content_under_its_id_and_what_it_was_retried_as_are_told() -> None:
    world = world_with_batch()
    deliver(world, BATCH, [record(6)])
    tool = quarantine_of(world, MemoryQueue(world.clock))
    [entry] = [each for each in tool.find(BATCH) if each.kind == "records"]
    sent = tool.retry(entry)
    found = document(world)
    assert [each["records"] for each in found["conflicts"]] == [1]
    unknown = dict.fromkeys(("verdict", "reason", "records", "metered", "refused"))
    assert found["retried_as"] == [{"batch_id": sent.retry_id, **unknown}]
    assert {each["kind"] for each in found["quarantine"]} == {"records", "conflict"}


def test_a_marker_that_says_another_total_is_seen() -> None:
    world = world_with_batch()
    item = world.items.get(Table.LEDGER, marker_key(BATCH))
    assert item is not None
    hours = dict(Marker.from_item(item).hours)
    hours[HOUR] = hours[HOUR]._replace(bytes=13)
    world.items.put(Put(table=Table.LEDGER, item={**item, "hours": totals_value(hours)}))
    found = document(world)
    assert found["proof"] == {"marker": str(2**62 + 13), "rows": str(2**62 + 12), "equal": False}
    assert [each["equal"] for each in found["hours"]] == [True, False]


def test_a_batch_whose_marker_has_expired_is_found_by_its_rows_and_is_not_called_unknown() -> None:
    world = world_with_batch(compacted=True)
    world.items.remove(Table.LEDGER, marker_key(BATCH))
    assert story(world) is None
    found = document(world, within_s=(NOW_S - DAY_S, NOW_S))
    assert (found["verdict"], found["marker"]) == ("accepted", "expired")
    assert found["proof"] == {"marker": None, "rows": str(2**62 + 12), "equal": True}
    assert [each["bytes"] for each in found["hours"]] == [str(2**62), "12"]


def test_a_copy_that_was_refused_after_the_marker_had_expired_does_not_hide_the_rows() -> None:
    world = world_with_batch(compacted=True)
    item = world.items.get(Table.LEDGER, marker_key(BATCH))
    assert item is not None
    refused = {**item, "verdict": "rejected", "reason": "too_late", "hours": totals_value({}), "metered": 0}
    world.items.put(Put(table=Table.LEDGER, item=refused))
    range_s = (NOW_S - DAY_S, NOW_S)
    expired_s = HOUR - HOUR_S + world.settings.marker_life_s
    found = document(world, now_s=expired_s, within_s=range_s)
    assert (found["verdict"], found["marker"], found["metered"]) == ("accepted", "expired", None)
    assert found["proof"] == {"marker": None, "rows": str(2**62 + 12), "equal": True}
    assert (found["later"]["verdict"], found["later"]["reason"]) == ("rejected", "too_late")
    # Without a range, only the marker is read, and the output says how to find the rows.
    alone = story(world)
    assert alone is not None
    assert "--from and --to" in " ".join(alone.footer)
    # A marker that cannot have expired, but does not name the rows, is wrong.
    assert document(world, within_s=range_s)["proof"] == {"marker": "0", "rows": str(2**62 + 12), "equal": False}


def test_who_may_see_one_account_is_told_its_rows_and_nothing_of_others() -> None:
    world = world_with_batch()
    found = document(world, role=Role.CUSTOMER, accounts={OTHER})
    [hour] = found["hours"]
    assert (hour["hour"], hour["bytes"], hour["rows_bytes"]) == ("2026-11-24T13:00:00Z", "7", "7")
    assert found["proof"] == {"marker": "7", "rows": "7", "equal": True}
    for hidden in ("records", "metered", "refused", "sender", "commit", "conflicts", "quarantine", "content_hash"):
        assert hidden not in found
    assert str(2**62) not in json.dumps(found)
    assert story(world, role=Role.CUSTOMER, accounts={"000000000000"}) is None
    # An empty list of accounts does not mean every account.
    assert story(world, role=Role.CUSTOMER, accounts=()) is None
    # An analyst's accounts limit the answer, as a customer's accounts do.
    found = document(world, role=Role.ANALYST, accounts={ACCOUNT})
    assert found["proof"] == {"marker": str(2**62 + 5), "rows": str(2**62 + 5), "equal": True}
    assert "quarantine" not in found


def test_analysts_are_told_no_sender_and_no_key_of_an_object() -> None:
    world = world_with_batch(compacted=True)
    deliver(world, BATCH, [record(6)])
    text = json.dumps(document(world, role=Role.ANALYST))
    assert not any(word in text for word in ("AROAEXAMPLE", "sender", "lake/", "staging/", "quarantine/"))
    operator = json.dumps(document(world))
    assert all(word in operator for word in ("AROAEXAMPLE", "lake/", "staging/", "quarantine/"))


def test_nothing_is_known_of_a_batch_that_never_came_and_of_what_cannot_be_an_id() -> None:
    assert story(World(), "never") is None
    assert checked_batch_id("a:b/c.d_e-F") == "a:b/c.d_e-F"
    for text in ("", "a b", "é", "x" * 129, "a#b"):
        with pytest.raises(InvalidParametersError):
            checked_batch_id(text)
