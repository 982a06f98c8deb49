"""Names of causes hour by hour, and names that later captures take back."""

from __future__ import annotations

import gzip
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from metering.billing.causes.days import table_of, taken_back
from metering.billing.causes.index import Reused
from metering.billing.causes.names import Captures, CauseNames
from metering.errors import ObjectDamagedError
from metering.onramps.context.holders import Tag, Tags
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import ContextStore, context_key
from metering.stores.objects import cause_names_key
from metering.units import DAY_S, HOUR_S
from tests.support.describing import EFFECTIVE_S, interface
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.unit.onramps.rules.test_causes import world

if TYPE_CHECKING:
    from collections.abc import Mapping

DAY = EFFECTIVE_S - EFFECTIVE_S % DAY_S
MIDNIGHT = DAY + DAY_S
SECOND = interface("eni-second", "subnet-1", "10.0.1.20")


class Region:
    """A bucket with contexts, and the names made of them."""

    def __init__(self) -> None:
        self.objects = MemoryObjectStore(ManualClock(EFFECTIVE_S * 1000))
        self.contexts = ContextStore(self.objects)
        self.keys: dict[int, str] = {}
        self.named_s = 0

    def capture(self, effective_s: int, described: Mapping[str, Any], **tags: str) -> None:
        self.contexts.put(context_of(described, effective_s))
        if tags:
            found = tuple(Tag("i-near", key, value) for key, value in sorted(tags.items()))
            self.contexts.put_tags(Tags(schema=Tags.SCHEMA, effective_s=effective_s, tags=found))

    def add(self, *, most: int = 99) -> list[str]:
        captures = Captures(self.contexts, self.keys, self.objects)
        self.named_s = captures.add(self.named_s, from_s=0, most=most)
        self.keys |= captures.put()
        return captures.skipped

    def names(self, day_s: int = DAY) -> CauseNames:
        return CauseNames.read(self.objects, day_s, self.keys.get(day_s))


def test_names_hold_from_the_hour_of_their_context_until_they_change() -> None:
    region = Region()
    region.capture(EFFECTIVE_S, world(), team="red")
    region.capture(EFFECTIVE_S + HOUR_S, world(), team="red")
    region.capture(EFFECTIVE_S + 2 * HOUR_S, world(), team="blue")
    region.add()
    names = region.names()
    assert names.cuts("i-near") == (EFFECTIVE_S + 2 * HOUR_S,)
    teams = [names.at("i-near", EFFECTIVE_S + hour * HOUR_S).tags["team"] for hour in (-1, 0, 1, 2, 3)]  # type: ignore[union-attr]  # it is known
    assert teams == ["red", "red", "red", "blue", "blue"]
    found = names.at("i-near", EFFECTIVE_S)
    assert found is not None
    assert (found.resource, found.workload, found.subnet) == ("i-near", "asg:web", "subnet-1")
    assert names.at("i-nobody", EFFECTIVE_S) is None
    # An interface that a resource holds is no cause of its own.
    assert names.at("eni-near", EFFECTIVE_S) is None


def test_names_do_not_depend_on_how_many_contexts_are_added_at_once() -> None:
    one, other = Region(), Region()
    worlds = [world(), world(SECOND, gone=("eni-near",)), world(), world(gone=("eni-far",))]
    for place, described in enumerate(worlds):
        for region in (one, other):
            region.capture(MIDNIGHT + (place - 2) * HOUR_S, described)
    one.add()
    for _ in worlds:
        other.add(most=1)
    assert one.keys == other.keys
    assert len(one.keys) == 2
    assert one.named_s == other.named_s == MIDNIGHT + HOUR_S


def test_a_day_begins_with_the_names_of_the_day_before() -> None:
    region = Region()
    region.capture(MIDNIGHT - HOUR_S, world())
    region.capture(MIDNIGHT + 5 * HOUR_S, world(gone=("eni-near",)))
    region.add()
    found = region.names(MIDNIGHT).at("i-near", MIDNIGHT)
    assert found is not None
    assert found.workload == "asg:web"


def test_an_address_that_changed_hands_takes_the_names_of_both_back_in_the_hours_between_the_captures() -> None:
    region = Region()
    region.capture(EFFECTIVE_S, world())
    region.capture(EFFECTIVE_S + HOUR_S, world(SECOND, gone=("eni-near",)))
    region.add()
    found = region.names().reused
    hours = (EFFECTIVE_S - HOUR_S, EFFECTIVE_S)
    assert found.causes == {f"{name}@{hour}" for name in ("i-near", "eni-second") for hour in hours}
    assert {f"asg:web@{hour}" for hour in hours} <= found.destinations
    # An address that is only free afterwards has had no other holder that anybody knows.
    alone = Region()
    alone.capture(EFFECTIVE_S, world())
    alone.capture(EFFECTIVE_S + HOUR_S, world(gone=("eni-near",)))
    alone.add()
    assert not alone.names().reused


def row(cause: str, basis: str, destination: str = "internet", hour: int = 0) -> tuple[Any, ...]:
    return ("eni-nat", "u", cause, destination, "nat_gateway", "in", "1", "s", "a", "b", basis, "", hour, hour, 5)


def test_names_are_taken_back_unless_the_line_told_them() -> None:
    reused = Reused(frozenset({"i-a@0"}), frozenset({"asg:web@0"}))
    table = table_of([
        row("i-a", "told"), row("i-a", "seen"), row("i-a", "split"), row("i-a", "seen", hour=3600),
        row("i-b", "inventory", "asg:web"), row("i-b", "told", "asg:web", hour=3600),
    ])  # fmt: skip
    found = taken_back(table, reused).select(["cause", "basis", "reason", "destination"]).to_pylist()
    assert [tuple(each.values()) for each in found] == [
        ("i-a", "told", "", "internet"),
        ("", "", "address_reused", "internet"),
        ("", "", "address_reused", "internet"),
        ("i-a", "seen", "", "internet"),
        ("i-b", "inventory", "", ""),
        ("i-b", "told", "", "asg:web"),
    ]


def test_a_damaged_context_is_skipped_and_told() -> None:
    region = Region()
    region.capture(EFFECTIVE_S, world())
    later = context_of(world(), EFFECTIVE_S + HOUR_S)
    region.objects.put(context_key(later.effective_s, later.sha256), b"nothing", if_absent=True)
    region.capture(EFFECTIVE_S + 2 * HOUR_S, world())
    assert "cannot be decompressed" in region.add()[0]
    assert region.named_s == EFFECTIVE_S + 2 * HOUR_S
    assert region.names().at("i-near", EFFECTIVE_S) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{}", b'{"schema":"metering.cause-names/2"}', b"[" * 100_000,
        b'{"schema":"metering.cause-names/1","day":"2020-01-01","causes":[],"destinations":[]}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("packed", [True, False])
def test_names_that_are_something_else_are_refused(text: bytes, *, packed: bool) -> None:
    body = gzip.compress(text) if packed else text
    region = Region()
    key = cause_names_key(DAY, hashlib.sha256(body).hexdigest())
    region.objects.put(key, body, if_absent=True)
    with pytest.raises(ObjectDamagedError):
        CauseNames.read(region.objects, DAY, key)
    region.capture(EFFECTIVE_S, world())
    region.add()
    more = gzip.compress(gzip.decompress(region.objects.get(region.keys[DAY])) + b'["i-a",7]\n')
    key = cause_names_key(DAY, hashlib.sha256(more).hexdigest())
    region.objects.put(key, more, if_absent=True)
    with pytest.raises(ObjectDamagedError):
        CauseNames.read(region.objects, DAY, key)
