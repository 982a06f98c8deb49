"""The answer of a trace: exact figures as strings, whole sums on every page, and no files for who may not see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metering.hours import rfc3339
from metering.reports.trace_answer import of_page, trace_answer
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World
from tests.support.usage_items import change, usage_of
from tests.unit.reports.trace.test_tracing import line, traced, world_with_traffic

if TYPE_CHECKING:
    from metering.reports.answer import Answer


def answer(world: World, *, with_files: bool = True, everywhere: bool = False) -> Answer:
    query = line()
    return trace_answer(
        query, [traced(world, query)], as_of_s=NOW_S, periods={"2026-11": "open"},
        with_files=with_files, everywhere=everywhere,
    )  # fmt: skip


def document(answer: Answer) -> dict[str, Any]:
    assert answer.document is not None
    return dict(answer.document)


def test_the_document_has_the_line_its_hours_its_batches_and_three_sums() -> None:
    found = document(answer(world_with_traffic()))
    assert found["line"] == {
        "account_id": ACCOUNT, "from": "2026-11-01T00:00:00Z", "to": "2026-11-24T14:00:00Z", "bytes": "46",
        "records": 4,
    }  # fmt: skip
    assert found["sums"] == {"usage": "46", "rows": "46", "markers": "46"}
    assert found["sums_records"] == {"usage": 4, "rows": 4, "markers": 4}
    assert found["equal"] is True
    assert found["next"] is None
    assert [each["batch_id"] for each in found["batches"]] == ["batch-0", "batch-1", "batch-2"]
    assert [(each["hour"], each["bytes"], each["rows_bytes"]) for each in found["hours"]] == [
        ("2026-11-24T12:00:00Z", "11", "11"),
        (rfc3339(HOUR), "35", "35"),
    ]


def test_a_page_has_some_of_the_batches_and_the_sums_of_the_whole_line() -> None:
    whole = answer(world_with_traffic())
    page = of_page(whole, whole.rows[1:2], "more")
    assert [each["batch_id"] for each in document(page)["batches"]] == ["batch-1"]
    assert [row["batch_id"] for row in page.rows] == ["batch-1"]
    assert document(page)["next"] == "more"
    assert document(page)["sums"] == document(whole)["sums"]


def test_without_files_no_key_of_an_object_is_told() -> None:
    world = world_with_traffic()
    assert "lake/" in str(answer(world).document)
    assert not any(word in str(answer(world, with_files=False)) for word in ("lake/", "staging/", "files="))


def test_of_several_regions_each_row_names_its_own() -> None:
    found = answer(world_with_traffic(), everywhere=True)
    assert [row["region"] for row in found.rows] == ["us-east-1"] * 3
    assert document(found)["regions"] == ["us-east-1"]
    assert document(found)["batches"][0]["region"] == "us-east-1"


def test_what_differs_is_told_in_words_with_all_figures_and_the_command_that_looks_deeper() -> None:
    world = world_with_traffic()
    change(world.items, next(each for each in usage_of(world.items) if each.key.account_id == ACCOUNT), 2**70)
    found = answer(world)
    text = "\n".join(found.footer)
    assert "NOT equal" in text
    assert f"{2**70 + 46:,} bytes" in text
    assert "46 bytes" in text
    assert "metering reconcile --deep" in found.footer[-1]
    assert document(found)["sums"]["usage"] == str(2**70 + 46)
    [difference] = document(found)["differences"]
    assert int(difference["usage_bytes"]) - int(difference["rows_bytes"]) == 2**70
