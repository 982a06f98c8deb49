"""Contexts as documents, in their store, by the hour, and how they are captured."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from metering.errors import ObjectMissingError
from metering.onramps.context.document import Context, ContextUnreadableError
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import Captured, ContextStore, Timeline, capture_context, context_key
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.wiring.onramps import BroughtContexts
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.unit.onramps.context.describing import EFFECTIVE_S, SMALL, described

CONTEXT = context_of(SMALL, EFFECTIVE_S)


def test_a_context_comes_back_from_its_bytes() -> None:
    body = CONTEXT.encode()
    again = Context.decode(body)
    assert again.encode() == body
    assert again.sha256 == CONTEXT.sha256 == hashlib.sha256(body).hexdigest()
    assert again.says_the_same(CONTEXT)
    assert again.flow_logs == CONTEXT.flow_logs


def test_what_a_context_says_is_told_apart_from_when_it_holds() -> None:
    later = context_of(SMALL, EFFECTIVE_S + HOUR_S)
    assert later.sha256 != CONTEXT.sha256
    assert later.says_the_same(CONTEXT)
    assert not context_of(described(), EFFECTIVE_S).says_the_same(CONTEXT)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        CONTEXT.encode()[:-1],
        CONTEXT.encode().replace(b"context/1", b"context/9"),
    ],
)
def test_what_is_no_context_is_named_so(body: bytes) -> None:
    with pytest.raises(ContextUnreadableError):
        Context.decode(body)


@dataclass
class Setup:
    description: dict[str, Any] = field(default_factory=lambda: SMALL)

    def __post_init__(self) -> None:
        self.objects = MemoryObjectStore(ManualClock(EFFECTIVE_S * 1000))
        self.store = ContextStore(self.objects)

    def capture(self, now_s: int) -> Captured:
        return capture_context(self.description, self.store, now_s)

    def keys(self) -> list[str]:
        return [info.key for info in self.objects.list("")]


def test_a_kept_context_is_one_object_that_is_never_written_again() -> None:
    setup = Setup()
    assert setup.store.put(CONTEXT)
    assert not setup.store.put(CONTEXT)
    assert setup.keys() == [f"context/2026-11-24T12-{CONTEXT.sha256}.json.gz"]
    assert gzip.decompress(setup.objects.get(setup.keys()[0])) == CONTEXT.encode()
    assert setup.store.get(EFFECTIVE_S, CONTEXT.sha256).encode() == CONTEXT.encode()
    # It is remembered, so whoever judges arranges it once.
    assert setup.store.get(EFFECTIVE_S, CONTEXT.sha256) is setup.store.get(EFFECTIVE_S, CONTEXT.sha256)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"no gzip", "cannot be decompressed"),
        (gzip.compress(CONTEXT.encode(), mtime=0)[:-9], "cannot be decompressed"),
        (gzip.compress(b"{}", mtime=0), "other content than its name says"),
    ],
)
def test_a_stored_context_is_what_its_name_says(body: bytes, words: str) -> None:
    setup = Setup()
    setup.objects.put(context_key(EFFECTIVE_S, CONTEXT.sha256), body, if_absent=True)
    with pytest.raises(ContextUnreadableError, match=words):
        setup.store.get(EFFECTIVE_S, CONTEXT.sha256)


def test_a_stored_context_holds_from_the_hour_of_its_name() -> None:
    setup = Setup()
    body = gzip.compress(CONTEXT.encode())
    setup.objects.put(context_key(EFFECTIVE_S + HOUR_S, CONTEXT.sha256), body, if_absent=True)
    with pytest.raises(ContextUnreadableError, match="another hour"):
        setup.store.get(EFFECTIVE_S + HOUR_S, CONTEXT.sha256)


def test_the_newest_context_that_holds_judges_an_hour() -> None:
    setup = Setup()
    contexts = [context_of(SMALL, EFFECTIVE_S + hours * HOUR_S) for hours in (0, 1, 5)]
    for context in contexts:
        setup.store.put(context)
    timeline = setup.store.timeline()
    judged = {hours: timeline.at(EFFECTIVE_S + hours * HOUR_S) for hours in (-3, 0, 1, 4, 5, 99)}
    effective = {hours: context.effective_s if context else None for hours, context in judged.items()}
    first, second, last = (context.effective_s for context in contexts)
    # What is older than the first is judged by the first.
    assert effective == {-3: first, 0: first, 1: second, 4: second, 5: last, 99: last}
    assert timeline.pins([EFFECTIVE_S, EFFECTIVE_S + 4 * HOUR_S]) == {
        first: contexts[0].sha256,
        second: contexts[1].sha256,
    }


def test_a_timeline_reads_only_what_it_needs() -> None:
    calls: list[str] = []
    objects = MemoryObjectStore(ManualClock(0), on_call=calls.append)
    store = ContextStore(objects)
    for hours in range(10):
        store.put(context_of(SMALL, EFFECTIVE_S + hours * HOUR_S))
    timeline = store.timeline()
    timeline.pins([EFFECTIVE_S])
    assert "objects.get" not in calls
    assert timeline.at(EFFECTIVE_S) is timeline.at(EFFECTIVE_S + MINUTE_S)
    assert calls.count("objects.get") == 1


def test_the_contexts_of_a_plan_judge_as_they_did_whatever_was_kept_since() -> None:
    setup = Setup()
    setup.store.put(CONTEXT)
    pins = setup.store.timeline().pins([EFFECTIVE_S])
    setup.store.put(context_of(described(), EFFECTIVE_S + HOUR_S))
    [(effective_s, _)] = setup.store.pinned(pins).versions
    assert effective_s == EFFECTIVE_S
    judged = setup.store.pinned(pins).at(EFFECTIVE_S + 9 * HOUR_S)
    assert judged is not None
    assert judged.sha256 == CONTEXT.sha256


def test_a_pinned_context_that_is_gone_is_missed_and_never_replaced() -> None:
    setup = Setup()
    with pytest.raises(ObjectMissingError):
        setup.store.pinned({EFFECTIVE_S: "0" * 64}).at(EFFECTIVE_S)


def test_a_context_that_was_brought_for_some_files_judges_them_again_and_no_others() -> None:
    """It may know one account of many. The on-ramp would judge a whole hour by it, and count twice what overlaps."""
    store, folder = (ContextStore(MemoryObjectStore(ManualClock(0))) for _ in range(2))
    brought = context_of(SMALL, EFFECTIVE_S)
    folder.put(brought)
    contexts = BroughtContexts(folder, store)
    pins = contexts.timeline().pins([EFFECTIVE_S])
    judging = [contexts.timeline(), store.pinned(pins), contexts.pinned(pins)]
    found = [timeline.at(EFFECTIVE_S) for timeline in judging]
    assert [context and context.sha256 for context in found] == [brought.sha256] * 3
    assert store.newest() is None
    assert store.timeline().versions == ()


def test_of_two_contexts_of_one_hour_all_take_the_same() -> None:
    setup = Setup()
    other = context_of(described(), EFFECTIVE_S)
    for context in (CONTEXT, other):
        setup.store.put(context)
    judged = setup.store.timeline().at(EFFECTIVE_S)
    assert judged is not None
    assert judged.sha256 == min(CONTEXT.sha256, other.sha256)


def test_without_contexts_nothing_judges() -> None:
    assert Setup().store.newest() is None
    assert Setup().store.timeline().at(EFFECTIVE_S) is None
    assert Timeline().pins([EFFECTIVE_S]) == {}


def test_foreign_objects_among_contexts_are_not_read() -> None:
    setup = Setup()
    setup.objects.put("context/2026-11-24T12-note.txt", b"hello", if_absent=True)
    assert list(setup.store.names()) == []


def test_a_capture_holds_from_the_next_full_hour_and_the_same_is_kept_once() -> None:
    setup = Setup()
    at_s = EFFECTIVE_S + 17 * MINUTE_S
    first = setup.capture(at_s)
    assert (first.kept, first.context.effective_s) == (True, EFFECTIVE_S + HOUR_S)
    for later_s in (at_s + MINUTE_S, at_s + HOUR_S, at_s + DAY_S - HOUR_S):
        again = setup.capture(later_s)
        assert (again.kept, again.context.sha256) == (False, first.context.sha256)
    assert len(setup.keys()) == 1


def test_a_context_in_use_is_kept_again_each_day_so_that_it_outlives_its_plans() -> None:
    setup = Setup()
    setup.capture(EFFECTIVE_S)
    assert setup.capture(EFFECTIVE_S + DAY_S).kept
    assert len(setup.keys()) == 2


def test_what_has_changed_is_kept_beside_what_was() -> None:
    setup = Setup()
    setup.capture(EFFECTIVE_S)
    setup.description = described(accounts=["111122223333"])
    assert setup.capture(EFFECTIVE_S + HOUR_S).kept
    assert len(setup.keys()) == 2
