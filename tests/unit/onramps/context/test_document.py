"""Contexts: documents, store, choice by hour, and capture; also the authority of flow logs."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from metering.errors import ObjectMissingError, UnavailableError
from metering.hours import parse_hour
from metering.onramps.context.description import SCHEMA, DescriptionError
from metering.onramps.context.document import (
    Authorities,
    Context,
    ContextUnreadableError,
    Distribution,
    Network,
    Overlap,
)
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import (
    Captured,
    ContextKeeper,
    ContextStore,
    Timeline,
    capture_context,
    context_key,
    is_due,
)
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.wiring.onramps import BroughtContexts
from tests.support.describing import EFFECTIVE_S, SMALL, described, flow_log, interface, place, subnet, vpc
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore

CONTEXT = context_of(SMALL, EFFECTIVE_S)


def test_a_context_comes_back_from_its_bytes() -> None:
    body = CONTEXT.encode()
    again = Context.decode(body)
    assert again.encode() == body
    assert again.sha256 == CONTEXT.sha256 == hashlib.sha256(body).hexdigest()
    assert again.says_the_same(CONTEXT)
    assert again.flow_logs == CONTEXT.flow_logs
    # The content of a context is compared separately from its hour.
    later = context_of(SMALL, EFFECTIVE_S + HOUR_S)
    assert later.sha256 != CONTEXT.sha256
    assert later.says_the_same(CONTEXT)
    assert not context_of(described(), EFFECTIVE_S).says_the_same(CONTEXT)


@pytest.mark.parametrize("body", [
    b"", b"{}", b"[]", b"\xff", b"[" * 100_000, CONTEXT.encode()[:-1],
    CONTEXT.encode().replace(b"context/1", b"context/9"),
])  # fmt: skip
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
    # The context is cached, so judges build it only once.
    assert setup.store.get(EFFECTIVE_S, CONTEXT.sha256) is setup.store.get(EFFECTIVE_S, CONTEXT.sha256)


@pytest.mark.parametrize(("body", "words"), [
    (b"no gzip", "cannot be decompressed"),
    (gzip.compress(CONTEXT.encode(), mtime=0)[:-9], "cannot be decompressed"),
    (gzip.compress(b"{}", mtime=0), "other content than its name says"),
])  # fmt: skip
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
    # Hours before the first context are judged with the first context.
    assert effective == {-3: first, 0: first, 1: second, 4: second, 5: last, 99: last}
    pins = timeline.pins([EFFECTIVE_S, EFFECTIVE_S + 4 * HOUR_S])
    assert pins == {first: contexts[0].sha256, second: contexts[1].sha256}


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
    # If a context is lost, it is reported as missing and never replaced.
    with pytest.raises(ObjectMissingError):
        setup.store.pinned({EFFECTIVE_S: "0" * 64}).at(EFFECTIVE_S)


def test_a_context_that_was_brought_for_some_files_judges_them_again_and_no_others() -> None:
    """The context may know only one account. If it were used for a whole hour, overlaps would count twice."""
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


def test_without_contexts_nothing_judges_and_foreign_objects_among_them_are_not_read() -> None:
    setup = Setup()
    setup.objects.put("context/2026-11-24T12-note.txt", b"hello", if_absent=True)
    assert list(setup.store.names()) == []
    assert setup.store.newest() is setup.store.timeline().at(EFFECTIVE_S) is None
    assert Timeline().pins([EFFECTIVE_S]) == {}


def test_a_capture_holds_from_the_next_full_hour_and_the_same_is_kept_once() -> None:
    setup = Setup()
    at_s = EFFECTIVE_S + 17 * MINUTE_S
    first = setup.capture(at_s)
    assert (first.kept, first.context.effective_s) == (True, EFFECTIVE_S + HOUR_S)
    for later_s in (at_s + MINUTE_S, at_s + HOUR_S, at_s + DAY_S - HOUR_S):
        again = setup.capture(later_s)
        assert (again.kept, again.context.sha256) == (False, first.context.sha256)
    assert len(setup.keys()) == 1


def test_what_has_changed_is_kept_beside_what_was_and_what_is_in_use_again_each_day_to_outlive_its_plans() -> None:
    setup = Setup()
    setup.capture(EFFECTIVE_S)
    assert setup.capture(EFFECTIVE_S + DAY_S).kept
    setup.description = described(accounts=["111122223333"])
    assert setup.capture(EFFECTIVE_S + DAY_S + HOUR_S).kept
    assert len(setup.keys()) == 3


T10 = parse_hour("2026-11-24T10")


@dataclass
class KeeperSetup:
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
        """Run the ticks of a day; returns the minutes in which a context was captured."""
        captured = []
        for at_s in range(T10, T10 + hours * HOUR_S, every_s):
            self.at(at_s)
            if self.keeper.run() is not None:
                captured.append((at_s - T10) // 60)
        return captured


def test_the_first_context_is_captured_at_once_and_the_others_late_in_each_hour() -> None:
    setup = KeeperSetup()
    captured = setup.day()
    assert captured[:3] == [0, 60 + 50, 120 + 50]
    assert len(captured) == setup.described == 24
    assert [hour_s for hour_s, _ in setup.contexts.names()] == [T10 + n * HOUR_S for n in range(1, 25)]


def test_every_hour_has_a_context_of_its_own_although_some_captures_fail() -> None:
    setup = KeeperSetup()
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


# A description may state who owns buckets and distributions, and which of a distribution's two logs is metered.

ACCOUNT = "123456789012"
BASE: dict[str, object] = {"schema": "metering.description/1", "buckets": {"acme": "us-west-2"}}
OWNERS: dict[str, object] = {
    "bucket_owners": {"acme": ACCOUNT},
    "distributions": {"E1": {"account_id": ACCOUNT, "log": "v2"}, "E2": {"account_id": ACCOUNT}},
}


def test_owners_come_into_the_context_and_through_its_json() -> None:
    context = Context.decode(context_of(BASE | OWNERS, 0).encode())
    assert dict(context.bucket_owners) == {"acme": ACCOUNT}
    versions = {"E1": "v2", "E2": ""}
    assert dict(context.distributions) == {name: Distribution(name, ACCOUNT, log) for name, log in versions.items()}
    # A context without owners has the same bytes as in releases without owners.
    assert not any(word in context_of(BASE, 0).encode() for word in (b"owner", b"distributions"))


def test_networks_that_people_named_come_into_the_context_and_through_its_json() -> None:
    networks = [{"name": "office", "cidrs": ["192.168.0.0/22", "10.9.0.0/16"]}, {"name": "datadog", "cidrs": ["::/8"]}]
    context = context_of(BASE | {"networks": networks}, 0)
    assert Context.decode(context.encode()).networks == (
        Network("datadog", ("::/8",)), Network("office", ("10.9.0.0/16", "192.168.0.0/22")),
    )  # fmt: skip
    # A context without names has the same bytes as in releases without networks, which ignore a member of others.
    plain = context_of(BASE, 0)
    assert (b"networks" in plain.encode(), context.says_the_same(plain)) == (False, False)
    assert Context.decode(context.encode().replace(b'"networks"', b'"of_others"')).networks == ()
    timeline = Timeline(((0, plain), (HOUR_S, plain))).with_networks(context.networks)
    assert [timeline.at(hour_s) for hour_s in (0, HOUR_S)] == [timeline.at(0)] * 2
    named = timeline.at(0)
    assert named is not None
    assert (named.networks, plain.networks) == (context.networks, ())


@pytest.mark.parametrize("wrong", [
    {"networks": [{"name": "a", "cidrs": ["10.0.0.1/8"]}]},
    {"networks": [{"name": "a"}]},
    {"bucket_owners": {"acme": "79a59df9"}},
    {"distributions": {"E1": {"account_id": "1"}}},
    {"distributions": {"E1": {"account_id": ACCOUNT, "log": "both"}}},
    {"distributions": {"E1": {}}},
])  # fmt: skip
def test_owners_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DescriptionError):
        context_of(BASE | wrong, 0)


_SEEN = ("eni-1", "subnet-1", "vpc-1")
_RICH = {"LogFormat": "${version} ${interface-id} ${az-id} ${flow-direction} ${next-hop-az-id}"}
_NOW = {"CreationTime": "2026-11-24T12:20:00Z"}


def authorities(*logs: dict[str, object]) -> Authorities:
    network = place(
        Vpcs=[vpc("vpc-1", "10.0.0.0/16")],
        Subnets=[subnet("subnet-1", "vpc-1", "10.0.0.0/24")],
        NetworkInterfaces=[interface("eni-1", "subnet-1", "10.0.0.4")],
        FlowLogs=list(logs),
    )
    return Authorities(context_of(described(network), EFFECTIVE_S))


def over(*logs: dict[str, object], hour_s: int = EFFECTIVE_S) -> str:
    log = authorities(*logs).over(_SEEN, hour_s)
    return log.id if log is not None else ""


def test_the_broadest_log_counts_however_poor_and_of_one_breadth_the_richer() -> None:
    narrow = [flow_log("fl-1", "eni-1", **_RICH), flow_log("fl-2", "subnet-1", **_RICH)]
    assert over(*narrow, flow_log("fl-3", "vpc-1")) == "fl-3"
    assert over(flow_log("fl-1", "vpc-1"), flow_log("fl-2", "vpc-1", **_RICH)) == "fl-2"


def test_of_two_equal_logs_the_older_counts_and_then_the_lesser_id() -> None:
    older = flow_log("fl-9", "vpc-1", CreationTime="2025-01-01T00:00:00Z")
    assert over(flow_log("fl-1", "vpc-1"), older) == "fl-9"
    assert over(flow_log("fl-2", "vpc-1"), flow_log("fl-1", "vpc-1")) == "fl-1"


@pytest.mark.parametrize("other", [
    {"LogDestinationType": "cloud-watch-logs", "LogGroupName": "flow"},
    {"TrafficType": "REJECT"},
    {"FlowLogStatus": "DELETED"},
])  # fmt: skip
def test_a_log_that_cannot_be_metered_has_no_authority(other: dict[str, str]) -> None:
    assert over(flow_log("fl-1", "vpc-1", **other), flow_log("fl-2", "eni-1")) == "fl-2"


def test_the_authority_switches_at_a_full_hour_and_never_inside_one() -> None:
    old, new = flow_log("fl-old", "vpc-1"), flow_log("fl-new", "vpc-1", **_RICH, **_NOW)
    assert over(old, new, hour_s=EFFECTIVE_S) == "fl-old"
    assert over(old, new, hour_s=EFFECTIVE_S + HOUR_S) == "fl-new"


def test_a_log_counts_within_the_hour_in_which_it_was_made_if_none_was_there_before_and_never_earlier() -> None:
    new = flow_log("fl-new", "vpc-1", **_NOW)
    assert [over(new, hour_s=hour_s) for hour_s in (EFFECTIVE_S, EFFECTIVE_S - HOUR_S)] == ["fl-new", ""]
    assert over() == ""


def test_a_regional_nat_gateway_has_a_log_of_its_own() -> None:
    known = authorities(flow_log("fl-1", "vpc-1"), flow_log("fl-2", "nat-1"))
    log = known.over(("nat-1",), EFFECTIVE_S)
    assert log is not None
    assert log.id == "fl-2"


def test_overlaps_name_what_is_hidden_if_the_authority_is_not_ingested() -> None:
    logs = {"fl-vpc": "vpc-1", "fl-subnet": "subnet-1", "fl-eni": "eni-1", "fl-2": "vpc-2"}
    known = authorities(*(flow_log(log, resource) for log, resource in logs.items()))
    assert known.overlaps(EFFECTIVE_S) == (Overlap("fl-vpc", ("fl-eni", "fl-subnet")),)
