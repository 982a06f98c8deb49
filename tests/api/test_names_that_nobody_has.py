"""A name that matches nothing costs no more than one that matches: the budget of a request holds whatever it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.world import FIRST, at_rest

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTHING = "&service=AmazonNone&usage_type=None-Bytes&from_location=eu-west-9&to_location=eu-west-9"
ASKED = {
    "by hour of the lake": "/v1/usage?last=3d&detail=resource_id",
    "by partition": "/v1/usage?from=2026-10&to=2026-11-24T14:00:00Z&group_by=day",
    "as of now": "/v1/usage?from=2026-11&to=2026-11-24T14:00:00Z&now=true",
}


@pytest.fixture
def calls() -> Iterator[list[str]]:
    """Calls to the stores, while the test runs."""
    made: list[str] = []
    stores = (at_rest().world.items, at_rest().world.objects)
    for store in stores:
        store.on_call = made.append
    yield made
    for store in stores:
        store.on_call = lambda _call: None


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_filters_that_match_nothing_read_nothing_again(calls: list[str], asked: str) -> None:
    at_rest().json(asked, "first")
    calls.clear()
    assert at_rest().json(asked, "first")["rows"]
    plain = len(calls)
    calls.clear()
    assert at_rest().json(asked + NOTHING, "first")["rows"] == []
    assert len(calls) <= 1.1 * plain, f"four filters that match nothing made {len(calls)} calls in place of {plain}"


def test_a_customer_is_told_which_of_its_names_its_usage_lacks() -> None:
    def unknown(filters: str) -> dict[str, str]:
        told = at_rest().json(f"/v1/usage?from=2026-11&to=2026-11-24T14:00:00Z&{filters}", "first")
        assert all(each["nearest"] == [] for each in told.get("unknown", []))
        return {each["parameter"]: each["value"] for each in told.get("unknown", [])}

    # The account has both of these, and not together.
    assert unknown("service=AmazonEC2&to_location=eu-west-1") == {}
    assert unknown("service=AmazonEC2,AmazonNone&to_location=eu-west-9") == {
        "service": "AmazonNone",
        "to_location": "eu-west-9",
    }
    assert unknown("service=AmazonNone&usage_type=DataTransfer-Out-Bytes") == {"service": "AmazonNone"}


def test_with_details_a_name_that_matched_nothing_is_not_said_to_be_nowhere() -> None:
    told = at_rest().json(f"/v1/usage?last=3d&detail=resource_id&account={FIRST}{NOTHING}", "first")
    assert {each["cut"] for each in told["unknown"]} == {True}
