"""Damaged books of owners get a verdict, never an exception; what is accepted is stored, and means the same again."""

import json
import os
from random import Random

import pytest

from metering.billing.documents import DocumentRefusedError, canonical
from metering.billing.owners import Attributes, Owners, OwnerStore, owners_value, read_owners
from metering.onramps.context.inventory import context_of
from tests.fuzz.seeds import mutated
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore

ROUNDS = int(os.environ.get("METERING_FUZZ_ROUNDS", "150"))
TOML = b"""
[[rule]]
owner = "search"
when = { tag = { team = "search*", env = "*" }, vpc = "vpc-1" }
from = 2026-11-01T00:00:00Z
to = "2026-11-20T00:00:00Z"
[[rule]]
owner = "ci"
when = { workload = "asg:ci", account = "111122223333", resource = "i-*", subnet = "subnet-1" }
[[network]]
name = "datadog"
cidrs = ["203.0.113.0/24", "2a0b:4140::/48"]
[[network]]
name = "office"
cidrs = ["192.168.0.0/22"]
"""
BOOK = read_owners(TOML, "owners.toml")
SEEDS = {"owners.toml": TOML, "owners.json": canonical(owners_value(BOOK))}
HARD = (
    b"", b"[]", b"{}", b"rule = []", b"rule = 1", b"\xff", b"\xef\xbb\xbfrule = []", b"[[rule]]\n" * 2_000,
    b"a." * 5_000,
    b"[" * 100_000, b'{"rule":' * 2_000, b'{"rule": [], "rule": []}', b"rule = [nan]", b"rule = [1979-05-27]",
    b'{"rule": [{"owner": "a", "when": {"tag": {"\\ud800": "\\ud800"}}}]}', b"rule = [" + b"9" * 10_000 + b"]",
    *(b'{"rule": [], "network": [{"name": "a", "cidrs": ["%s"]}]}' % cidr for cidr in (
        b"fe80::%1/64", b"0.0.0.0/0", b"10.0.0.0/255.0.0.0", b"10.0.0.1/8", b"::ffff:10.0.0.0/104",
        b"\\u0661.0.0.0/8", b"/",
    )),
)  # fmt: skip
FOUND = Attributes("111122223333", "i-1", "asg:ci", "vpc-1", "subnet-1", {"team": "search-eu", "env": "prod"})


def judged(body: bytes, what: str) -> Owners | None:
    try:
        book = read_owners(body, what)
    except DocumentRefusedError as refused:
        return None if refused.problems and all(refused.problems) else pytest.fail("a refusal has no reason")
    stored = OwnerStore(MemoryObjectStore(ManualClock(0))).put(book)
    assert (stored.rules, stored.networks, stored.version) == (book.rules, book.networks, 1)
    for hour_s in (0, 1_793_491_200, 4_102_444_800):
        assert stored.rule_of(FOUND, hour_s) == book.rule_of(FOUND, hour_s)
    # A capture takes all networks of an accepted book.
    named = [each._asdict() for each in stored.networks]
    described = {"schema": "metering.description/1", "networks": named}
    assert context_of(described, 0).networks == stored.networks
    return book


@pytest.mark.parametrize("what", SEEDS)
def test_damaged_books_get_a_verdict(what: str) -> None:
    accepted = 0
    for seed in range(ROUNDS):
        accepted += judged(mutated(SEEDS[what], Random(seed)), what) is not None
    assert judged(SEEDS[what], what) is not None
    # Damage within a name or value is no fault.
    assert 0 < accepted < ROUNDS


@pytest.mark.parametrize("what", SEEDS)
@pytest.mark.parametrize("body", HARD)
def test_hard_books_get_a_verdict(body: bytes, what: str) -> None:
    judged(body, what)


@pytest.mark.parametrize("what", SEEDS)
def test_every_beginning_of_a_book_gets_a_verdict(what: str) -> None:
    for length in range(len(SEEDS[what])):
        judged(SEEDS[what][:length], what)


def test_values_of_other_types_get_a_verdict_anywhere() -> None:
    for wrong in (None, True, 1, 1.5, "", "x", [], {}, ["x"], {"x": "y"}, "9" * 300, "\x00", "a*b"):
        for path in _paths(json.loads(SEEDS["owners.json"])):
            value = json.loads(SEEDS["owners.json"])
            at = value
            for step in path[:-1]:
                at = at[step]
            at[path[-1]] = wrong
            judged(json.dumps(value).encode(), "owners.json")


def _paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(*path, key) for key, _ in inner] + [found for key, each in inner for found in _paths(each, (*path, key))]
