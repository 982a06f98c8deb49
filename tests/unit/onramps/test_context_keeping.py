"""A context is captured late in each hour, at once if there is none, and made up for if an hour has none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from metering.errors import UnavailableError
from metering.hours import parse_hour
from metering.onramps.context.description import SCHEMA, DescriptionError
from metering.onramps.context.document import Context
from metering.onramps.context.facts import Distribution
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import ContextKeeper, ContextStore, is_due
from metering.units import HOUR_S, MINUTE_S
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore

if TYPE_CHECKING:
    from collections.abc import Mapping

T10 = parse_hour("2026-11-24T10")


@dataclass
class Setup:
    described: int = 0
    fails: bool = False
    clock: ManualClock = field(default_factory=lambda: ManualClock(T10 * 1000))

    def __post_init__(self) -> None:
        self.contexts = ContextStore(MemoryObjectStore(self.clock))
        self.keeper = ContextKeeper(contexts=self.contexts, describe=self.describe, clock=self.clock)

    def at(self, at_s: int) -> None:
        self.clock.advance_s(at_s - self.clock.now_ms() // 1000)

    def describe(self) -> Mapping[str, object]:
        self.described += 1
        if self.fails:
            raise UnavailableError("ec2.DescribeVpcs", "slow down")
        return {"schema": SCHEMA, "regions": [], "accounts": ["111111111111"]}

    def day(self, *, every_s: int = 5 * MINUTE_S, hours: int = 24) -> list[int]:
        """Tick for a day; the minutes of the day in which a context was captured."""
        captured = []
        for at_s in range(T10, T10 + hours * HOUR_S, every_s):
            self.at(at_s)
            if self.keeper.run() is not None:
                captured.append((at_s - T10) // 60)
        return captured


def test_the_first_context_is_captured_at_once_and_the_others_late_in_each_hour() -> None:
    setup = Setup()
    captured = setup.day()
    assert captured[:3] == [0, 60 + 50, 120 + 50]
    assert len(captured) == setup.described == 24
    assert [hour_s for hour_s, _ in setup.contexts.names()] == [T10 + n * HOUR_S for n in range(1, 25)]


def test_every_hour_has_a_context_of_its_own_although_some_captures_fail() -> None:
    setup = Setup()
    setup.keeper.run()
    setup.fails = True
    for minute in (110, 115):
        setup.at(T10 + minute * 60)
        with pytest.raises(UnavailableError):
            setup.keeper.run()
    setup.fails = False
    setup.at(T10 + 125 * 60)
    made = setup.keeper.run()
    assert made is not None
    assert made.effective_s == T10 + 3 * HOUR_S
    assert not is_due(made.effective_s, T10 + 175 * 60)


@pytest.mark.parametrize(
    ("newest", "minute", "due"),
    [(10, 49, False), (10, 50, True), (11, 50, False), (11, 59, False), (9, 0, True), (9, 30, True), (8, 1, True)],
)
def test_when_a_context_is_due(newest: int, minute: int, *, due: bool) -> None:
    assert is_due(parse_hour(f"2026-11-24T{newest:02}"), T10 + minute * MINUTE_S) is due


# A description may say whose buckets and distributions are, and which of two logs of a distribution is metered.

ACCOUNT = "123456789012"
BASE: dict[str, object] = {"schema": "metering.description/1", "buckets": {"acme": "us-west-2"}}
OWNERS: dict[str, object] = {
    "bucket_owners": {"acme": ACCOUNT},
    "distributions": {"E1": {"account_id": ACCOUNT, "log": "v2"}, "E2": {"account_id": ACCOUNT}},
}


def test_owners_come_into_the_context_and_through_its_json() -> None:
    context = Context.decode(context_of(BASE | OWNERS, 0).encode())
    assert dict(context.bucket_owners) == {"acme": ACCOUNT}
    assert dict(context.distributions) == {
        "E1": Distribution("E1", ACCOUNT, "v2"),
        "E2": Distribution("E2", ACCOUNT, ""),
    }


def test_a_context_without_owners_has_the_bytes_that_it_had_before_there_were_any() -> None:
    assert b"owner" not in context_of(BASE, 0).encode()
    assert b"distributions" not in context_of(BASE, 0).encode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket_owners": {"acme": "79a59df9"}},
        {"distributions": {"E1": {"account_id": "1"}}},
        {"distributions": {"E1": {"account_id": ACCOUNT, "log": "both"}}},
        {"distributions": {"E1": {}}},
    ],
)
def test_owners_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DescriptionError):
        context_of(BASE | wrong, 0)
