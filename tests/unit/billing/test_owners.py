"""A book of owners says of each workload who owns it in an hour; a book that contradicts itself is refused in words."""

from __future__ import annotations

import json
import time

import pytest

from metering.billing.documents import DocumentRefusedError, hour_of_text
from metering.billing.owners import MOST_RULES, Attributes, Owners, read_owners
from metering.units import HOUR_S

BOOK = b"""
[[rule]]
owner = "search"
when = { tag = { team = "search*" }, vpc = "vpc-1" }
from = 2026-11-01T00:00:00Z
to = "2026-11-20T00:00:00Z"

[[rule]]
owner = "ci"
when = { workload = "asg:ci-runners" }

[[rule]]
owner = "platform"
when = { account = "111122223333" }
"""
NOVEMBER_S, END_S = hour_of_text("2026-11-01T00:00:00Z"), hour_of_text("2026-11-20T00:00:00Z")


def attributes(*, account: str = "", workload: str = "", vpc: str = "", team: str = "") -> Attributes:
    """Attributes of a workload; `team` is its tag."""
    return Attributes(account, "i-1", workload, vpc, "", {"team": team} if team else {})


def owner(book: Owners, found: Attributes, hour_s: int = NOVEMBER_S) -> str | None:
    rule = book.rule_of(found, hour_s)
    return None if rule is None else rule.owner


def test_the_first_rule_that_fits_decides() -> None:
    book = read_owners(BOOK, "owners.toml")
    both = {"workload": "asg:ci-runners", "account": "111122223333"}
    assert owner(book, attributes(**both)) == "ci"
    assert owner(book, attributes(**both, team="search-eu", vpc="vpc-1")) == "search"
    assert owner(book, attributes(account="111122223333")) == "platform"
    assert owner(book, attributes(account="444455556666")) is None


@pytest.mark.parametrize(("team", "vpc"), [("search", "vpc-2"), ("ads", "vpc-1"), ("", "vpc-1"), ("search", "")])
def test_all_that_a_rule_asks_for_must_fit_and_what_is_unknown_fits_nothing(team: str, vpc: str) -> None:
    assert owner(read_owners(BOOK, "owners.toml"), attributes(team=team, vpc=vpc)) is None


def test_a_star_fits_all_that_is_known() -> None:
    book = read_owners(b'[[rule]]\nowner = "a"\nwhen = { workload = "*" }', "owners.toml")
    assert owner(book, attributes(workload="asg:any")) == "a"
    assert owner(book, attributes()) is None


@pytest.mark.parametrize(("hour_s", "name"), [
    (NOVEMBER_S - HOUR_S, None), (NOVEMBER_S, "search"), (END_S - HOUR_S, "search"), (END_S, None),
])  # fmt: skip
def test_a_rule_holds_in_its_hours(hour_s: int, name: str | None) -> None:
    assert owner(read_owners(BOOK, "owners.toml"), attributes(team="search", vpc="vpc-1"), hour_s) == name


def test_a_book_in_json_says_the_same() -> None:
    rules = [{"owner": "ci", "when": {"workload": "asg:ci-runners"}}]
    [rule] = read_owners(json.dumps({"rule": rules}).encode(), "owners.json").rules
    assert rule == read_owners(BOOK, "owners.toml").rules[1]


@pytest.mark.parametrize(("rule", "words"), [
    ('owner = "a"\nwhen = {}', "asks for nothing"),
    ('owner = "unowned"\nwhen = { vpc = "v" }', "is not called unowned"),
    ('owner = "a"\nwhen = { vpc = "v*1" }', "not at its end"),
    ('owner = "a"\nwhen = { tag = { team = "*s" } }', "not at its end"),
    ('owner = "a"\nwhen = { vpc = "v" }\nfrom = "2026-11-01T00:30:00Z"', "from: "),
    ('owner = "a"\nwhen = { vpc = "v" }\nfrom = 2026-11-01', "no TOML"),
    ('owner = "a"\nwhen = { vpc = "v" }\nfrom = "2026-11-02T00:00:00Z"\nto = "2026-11-01T00:00:00Z"', "it ends at"),
    ('owner = "a"\nwhen = { vcp = "v" }', "rule.0.when.vcp"),
    ('owner = "a"', "rule.0.when"),
    ("owner =", "no TOML"),
])  # fmt: skip
def test_a_book_with_a_fault_is_refused(rule: str, words: str) -> None:
    with pytest.raises(DocumentRefusedError) as refused:
        read_owners(f"[[rule]]\n{rule}".encode(), "owners.toml")
    assert words in str(refused.value)
    assert "owners.toml" in str(refused.value)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(DocumentRefusedError) as refused:
        read_owners(b'[[rule]]\nowner = "a"\nwhen = {}\n[[rule]]\nowner = "unowned"\nwhen = { vpc = "v" }', "o.toml")
    assert "rule 1 (a)" in str(refused.value)
    assert "rule 2 (unowned)" in str(refused.value)


def test_more_rules_than_a_book_may_have_are_refused() -> None:
    rules = [{"owner": "a", "when": {"vpc": "v"}}] * (MOST_RULES + 1)
    with pytest.raises(DocumentRefusedError):
        read_owners(json.dumps({"rule": rules}).encode(), "owners.json")


def test_many_workloads_and_rules_take_less_than_seconds() -> None:
    rules = [{"owner": f"o{number}", "when": {"tag": {"team": f"t{number}"}}} for number in range(200)]
    book = read_owners(json.dumps({"rule": rules}).encode(), "owners.json")
    found = [attributes(team=f"t{number % 300}") for number in range(2_000)]
    began_s = time.process_time()
    owners = [owner(book, each) for each in found]
    assert time.process_time() - began_s < 5
    assert [owners[199], owners[200], owners[300]] == ["o199", None, "o0"]
