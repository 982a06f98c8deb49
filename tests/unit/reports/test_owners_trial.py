"""A book of owners on trial says what each rule would take, and what moves against the version in force."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from metering.billing.owners import Owners, read_owners
from metering.hours import rfc3339
from metering.reports.answer import encoded_bytes
from metering.reports.who import WhoParameters
from metering.units import HOUR_S
from metering.wiring.answers.who import trial_of
from tests.api.world import WorldRegion
from tests.support.kept_causes import NAT, NAT_BYTES, row, stretch
from tests.support.lake_world import HOUR, NOW_S, World
from tests.unit.reports.test_who import OUT, SEARCH, ask, world_of

if TYPE_CHECKING:
    from typing import Any

TRIED = read_owners(
    b"""
[[rule]]
owner = "search"
when = { tag = { team = "search" } }
[[rule]]
owner = "nobody"
when = { workload = "asg:gone" }
[[rule]]
owner = "net"
when = { resource = "%s" }
[[rule]]
owner = "search"
when = { workload = "asg:c*" }
"""
    % NAT.encode(),
    "owners.toml",
)


def tried(world: World, book: Owners = TRIED, in_force: Owners = SEARCH) -> dict[str, Any]:
    query = WhoParameters(group_by="owner").who_query(now_s=NOW_S)
    answer = trial_of([WorldRegion(world)], query, tried=book, in_force=in_force, now_s=NOW_S)
    told: dict[str, Any] = json.loads(encoded_bytes(answer, "json"))
    return told


def test_each_rule_has_its_bytes_and_rules_without_any_are_told() -> None:
    found = tried(world_of())
    rows = [(row["usage_type"], row["rule"], row["owner"], row["bytes"]) for row in found["rows"]]
    assert rows == [
        (NAT_BYTES, 1, "search", "37"), (NAT_BYTES, 3, "net", "3"), (NAT_BYTES, 4, "search", "60"),
        (OUT, 4, "search", "40"),
    ]  # fmt: skip
    assert found["idle"] == [{"rule": 2, "owner": "nobody"}]
    assert [row["share"] for row in found["rows"]] == ["37.0 %", "3.0 %", "60.0 %", "100.0 %"]


def test_what_moves_is_the_difference_of_two_answers_and_comes_to_nothing() -> None:
    found = tried(world_of(), in_force=SEARCH)
    moved = {(each["usage_type"], each["owner"]): int(each["bytes"]) for each in found["moved"]}
    assert moved == {
        (NAT_BYTES, "search"): 60, (NAT_BYTES, "net"): 3, (NAT_BYTES, "unattributed"): -3, (NAT_BYTES, "unowned"): -60,
        (OUT, "search"): 40, (OUT, "unowned"): -40,
    }  # fmt: skip
    assert tried(world_of(), in_force=TRIED)["moved"] == []


@pytest.mark.parametrize("book", [TRIED, SEARCH, Owners()])
def test_owners_have_the_bytes_that_who_says(book: Owners) -> None:
    world = world_of()
    found: dict[tuple[str, str], int] = {}
    for each in tried(world, book)["rows"]:
        key = each["usage_type"], each["owner"]
        found[key] = found.get(key, 0) + int(each["bytes"])
    told: dict[tuple[str, str], int] = {}
    for each in ask(world, book, group_by="owner,basis").rows:
        if each["reason"] != "other_usage":
            key = str(each["usage_type"]), str(each["owner"])
            told[key] = told.get(key, 0) + int(str(each["bytes"]))
    assert found == told


def test_rules_and_names_are_those_of_the_hour_of_the_bytes() -> None:
    names = {"i-0abc": [stretch(workload="asg:ci"), stretch(HOUR, workload="asg:web")]}
    world = world_of([row(5, hour=HOUR - 2 * HOUR_S), row(7, hour=HOUR - HOUR_S), row(11)], names)
    ends = rfc3339(HOUR - HOUR_S)
    book = read_owners(
        f'[[rule]]\nowner = "old"\nwhen = {{ workload = "*" }}\nto = "{ends}"\n'
        '[[rule]]\nowner = "ci"\nwhen = { workload = "asg:ci" }\n'
        '[[rule]]\nowner = "web"\nwhen = { workload = "asg:web" }\n'.encode(),
        "owners.toml",
    )
    assert [(row["rule"], row["bytes"]) for row in tried(world, book)["rows"]] == [(1, "5"), (2, "7"), (3, "11")]


def test_without_causes_and_without_a_book_the_answer_says_so() -> None:
    found = tried(World(), in_force=Owners())
    assert (found["rows"], found["moved"], found["against"], found["counted_through"]) == ([], [], {"version": 0}, None)
    assert [each["rule"] for each in found["idle"]] == [1, 2, 3, 4]
