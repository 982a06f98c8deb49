"""One token's reads do not block others: reads are charged, few large requests run concurrently, late requests stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from threading import Event

import pytest

from metering.api.authentication import Limits
from metering.api.parameters import ProblemError
from metering.api.parts import LedgerLarge, Shares
from tests.api.world import FIRST, ApiWorld, at_rest, traffic
from tests.support.lake_world import NOW_S, World
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore

LARGE = "/v1/usage?last=3d&detail=resource_id"
# 15 accounts in 12 months, which are 180 partitions.
MANY = "/v1/usage?from=2025-12&to=2026-11-02&account=" + ",".join(f"{number:012}" for number in range(15))


class Held:
    """Blocks a large request at its first call to the object store, until the request is released. Mutable."""

    def __init__(self, api: ApiWorld) -> None:
        self.api, self.go, self.calls = api, Event(), 0

    def __enter__(self) -> Held:
        self.api.world.objects.on_call = self._called
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self.api.world.objects.on_call = lambda _call: None

    def _called(self, _call: str) -> None:
        self.calls += 1
        assert self.go.wait(20)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Thread pool for concurrent clients."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_a_token_has_two_large_requests_in_work_and_others_are_answered_meanwhile(pool: ThreadPoolExecutor) -> None:
    api = at_rest()
    with Held(api) as held:
        asked = [pool.submit(api.get, LARGE, "first") for _ in range(3)]
        done, _ = wait(asked, timeout=5, return_when=FIRST_COMPLETED)
        assert done, "a third large request of one token is in work, and takes what others need"
        refused = done.pop().result()
        assert (refused.status_code, refused.json()["title"]) == (429, "Too much at once")
        assert int(refused.headers["retry-after"]) >= 1
        began_s = time.monotonic()
        assert api.get(LARGE, "first").status_code == 429
        assert time.monotonic() - began_s < 0.5
        # Small requests are still answered, even for the same token.
        for who in ("first", "second"):
            assert api.get("/v1/usage?from=2026-11&to=2026-11-24T14:00:00Z", who).status_code == 200
            assert api.get("/v1/freshness", who).status_code == 200
        held.go.set()
        assert sorted(each.result().status_code for each in asked) == [200, 200, 429]
    assert api.get(LARGE, "first").status_code == 200


def test_of_all_tokens_four_large_requests_are_in_work(pool: ThreadPoolExecutor) -> None:
    api = at_rest()
    with Held(api) as held:
        asked = [pool.submit(api.get, LARGE, who) for who in ("first", "portal", "second", "analyst", "operator")]
        done, _ = wait(asked, timeout=5, return_when=FIRST_COMPLETED)
        assert done, "a fifth large request is in work"
        assert done.pop().result().status_code == 429
        held.go.set()
        assert sorted(each.result().status_code for each in asked) == [200, 200, 200, 200, 429]


def test_a_token_has_a_share_of_what_is_read_and_not_only_of_requests() -> None:
    api = ApiWorld(at_rest().world, limits=Limits())
    statuses = [api.get(MANY).status_code for _ in range(12)]
    # 20 requests may run at once, each reading 180 partitions; a token's share is 1,000 reads.
    assert statuses.count(200) == 6, (
        f"{statuses.count(200)} requests at once read {180 * statuses.count(200)} partitions"
    )
    refused = api.get(MANY)
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:metering:problem:too-many-requests")
    # Other tokens have their own share, and requests that read nothing are answered.
    assert api.get("/v1/usage", "first").status_code == 200
    assert api.get("/v1/freshness").status_code == 200
    api.world.clock.advance_s(int(refused.headers["retry-after"]))
    try:
        assert api.get(MANY).status_code == 200
    finally:
        api.world.clock.advance_s(-int(refused.headers["retry-after"]))


def test_a_request_that_was_given_up_reads_no_further_and_counts_until_it_ends(pool: ThreadPoolExecutor) -> None:
    api = ApiWorld(traffic(World())).limited(deadline_s=1)
    api.limited(deadline_s=25).json(LARGE, "first")
    with Held(api) as held:
        late = pool.submit(api.get, LARGE, "first")
        assert late.result().status_code == 503
        before, log = held.calls, api.logged[-1]
        held.go.set()
        time.sleep(0.5)
        # The request finishes the objects of its current hour, and reads no later hour.
        assert held.calls - before <= 4, f"{held.calls - before} calls were made after the request was given up"
        assert log.hours <= 1


def test_the_log_is_told_what_was_really_read() -> None:
    api = ApiWorld(at_rest().world)
    api.get(LARGE, "first")
    api.get(f"/v1/trace?last=3d&account={FIRST}", "first")
    api.get("/v1/batches?id=nobodys&from=2026-11-20&to=2026-11-24", "first")
    api.get("/v1/batches?id=batch-3", "analyst")
    # Names similar to a mistyped name are searched for in the lake.
    api.get(f"/v1/usage?from=2026-11&to=2026-11-25&account={FIRST}&service=AmazonEC3", "analyst")
    found = [(each.hours, each.partitions) for each in api.logged]
    # Four of 72 hours have rows. An unknown batch id costs one hour, as does the id of a batch of another account.
    assert found == [(4, 0), (4, 1), (1, 0), (1, 0), (4, 1)]


def test_what_was_not_foreseen_counts_as_large_once_it_is() -> None:
    # One partition is read, and then four hours in which names similar to a mistyped name are searched for.
    api, asked = at_rest().limited(large=3), f"/v1/usage?from=2026-11&to=2026-11-25&account={FIRST}&service=AmazonEC3"
    assert api.get(asked).status_code == 200
    names = [api.parts.shares.begin("analyst") for _ in range(2)]
    assert api.get(asked).status_code == 429
    api.parts.shares.end(names[0])
    assert api.get(asked).status_code == 200


# The limit is for all executions of the function together, because they share an item of the ledger.
Ledger = tuple[MemoryItemStore, ManualClock]


def process(items: MemoryItemStore, clock: ManualClock) -> Shares:
    return Shares.of(LedgerLarge(items=lambda: items), Limits(), clock)


@pytest.fixture
def ledger() -> Ledger:
    return MemoryItemStore(), ManualClock(1000 * NOW_S)


def refused(shares: Shares, who: str) -> None:
    with pytest.raises(ProblemError):
        shares.begin(who)


def test_each_process_counts_those_of_the_others(ledger: Ledger) -> None:
    items, clock = ledger
    one, other = process(items, clock), process(items, clock)
    names = [one.begin("a"), other.begin("a")]
    for each in (one, other):
        refused(each, "a")
    other.end(names[0])
    names[0] = one.begin("a")
    names += [one.begin("b"), other.begin("c")]
    refused(one, "d")
    for name in names:
        other.end(name)
        other.end(name)
    assert one.begin("d")


def test_a_large_request_whose_process_has_ended_counts_for_less_than_a_minute(ledger: Ledger) -> None:
    items, clock = ledger
    one = process(items, clock)
    one.begin("a")
    one.begin("a")
    clock.advance_s(25)
    refused(one, "a")
    clock.advance_s(11)
    assert one.begin("a")


def test_a_large_request_that_begins_while_another_does_is_seen(ledger: Ledger) -> None:
    items, clock = ledger
    one, other = process(items, clock), process(items, clock)

    def meanwhile(call: str) -> None:
        if call == "items.put":
            items.on_call = lambda _call: None
            assert other.begin("a")
            assert other.begin("a")

    items.on_call = meanwhile
    # The store has read that the entry is missing, and refuses the same write.
    refused(one, "a")


def test_of_many_large_requests_at_one_moment_as_many_begin_as_may(ledger: Ledger) -> None:
    items, clock = ledger

    def begun(_number: int) -> bool:
        try:
            return bool(process(items, clock).begin("a"))
        except ProblemError:
            return False

    with ThreadPoolExecutor(18) as many:
        assert sum(many.map(begun, range(18))) == 2
