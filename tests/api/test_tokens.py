"""One strong read verifies a token for a minute; wrong tokens are cheap and evict nothing."""

from __future__ import annotations

import hmac
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.api import authentication as module
from metering.api.authentication import (
    MOST_KNOWN,
    MOST_UNKNOWN,
    REMEMBERED_MS,
    Door,
    Grant,
    LedgerTokens,
    Limiter,
    Limits,
    OneToken,
)
from metering.api.parameters import ProblemError
from metering.errors import LedgerCorruptError, UnavailableError
from metering.ledger.notes.access import Role
from metering.operations.access import MadeToken, TokenBook
from metering.stores.writes import Delete, Item, Key, Put, Table
from metering.units import DAY_S
from tests.support.examples import examples
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore

NOW_S = 1_800_000_000
ACCOUNTS = ["111111111111", "222222222222"]


class CountingItems(MemoryItemStore):
    """Counts strong reads, and fails on request."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.down = False

    def get(self, table: Table, key: Key) -> Item | None:
        self.reads += 1
        if self.down:
            raise UnavailableError("DynamoDB.GetItem", "it is down", may_have_applied=False)
        return super().get(table, key)


class World:
    """A ledger with tokens, and their verifier."""

    def __init__(self) -> None:
        self.items = CountingItems()
        self.clock = ManualClock(1000 * NOW_S)
        self.book = TokenBook(items=self.items, clock=self.clock)
        self.tokens = LedgerTokens(items=self.items, clock=self.clock)

    def made(self, role: Role = Role.CUSTOMER, accounts: list[str] | None = ACCOUNTS, life_s: int = DAY_S) -> MadeToken:
        return self.book.create(role=role, accounts=accounts, life_s=life_s, made_by="arn:ann")


def other_secret(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def test_a_good_token_gives_its_grant() -> None:
    world = World()
    made = world.made()
    grant = Grant(token_id=made.stored.token_id, role=Role.CUSTOMER, accounts=frozenset(ACCOUNTS))
    assert world.tokens.grant_of(made.text) == grant
    everything = world.made(Role.ANALYST, None)
    assert world.tokens.grant_of(everything.text) == Grant(
        token_id=everything.stored.token_id, role=Role.ANALYST, costs=True
    )


def test_a_token_is_read_once_a_minute() -> None:
    world = World()
    made = world.made()
    for waits_ms, reads in ((0, 1), (0, 1), (REMEMBERED_MS - 1, 1), (1, 2)):
        world.clock.sleep_ms(waits_ms)
        assert world.tokens.grant_of(made.text)
        assert world.items.reads == reads


def test_a_revocation_holds_after_a_minute_however_often_the_token_is_used() -> None:
    world = World()
    made = world.made()
    assert world.tokens.grant_of(made.text)
    world.book.revoke(made.stored.token_id, revoked_by="arn:bob")
    for _ in range(59):
        world.clock.advance_s(1)
        world.tokens.grant_of(made.text)
    world.clock.advance_s(1)
    assert world.tokens.grant_of(made.text) is None


def test_an_expiry_holds_at_once_and_a_token_that_dynamodb_deleted_is_unknown() -> None:
    world = World()
    made, deleted = world.made(life_s=DAY_S), world.made()
    world.items.delete(Delete(table=Table.LEDGER, key=deleted.stored.key))
    assert world.tokens.grant_of(deleted.text) is None
    world.clock.advance_s(DAY_S - 1)
    assert world.tokens.grant_of(made.text)
    world.clock.advance_s(1)
    assert world.tokens.grant_of(made.text) is None


def test_a_wrong_secret_is_refused_costs_no_read_and_does_not_spoil_the_right_one() -> None:
    world = World()
    made = world.made()
    for _ in range(5):
        assert world.tokens.grant_of(other_secret(made.text)) is None
        assert world.tokens.grant_of(made.text)
    assert world.items.reads == 1


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    constant_time = hmac.compare_digest

    def watched(left: str, right: str) -> bool:
        compared.append(left)
        return constant_time(left, right)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    world = World()
    made = world.made()
    assert world.tokens.grant_of(made.text)
    assert world.tokens.grant_of(other_secret(made.text)) is None
    assert compared == [made.stored.secret_sha256] * 2


@pytest.mark.parametrize("text", ["", "garbage", "mtr_1_2", "Bearer x", "mtr_" + "g" * 16 + "_" + "0" * 64, "é" * 9])
def test_garbage_is_refused_without_a_read(text: str) -> None:
    world = World()
    assert world.tokens.grant_of(text) is None
    assert world.items.reads == 0


def test_an_unknown_id_is_read_once_a_minute() -> None:
    world = World()
    guess = f"mtr_{7:016x}_{8:064x}"
    for waits_ms, reads in ((0, 1), (0, 1), (REMEMBERED_MS, 2)):
        world.clock.sleep_ms(waits_ms)
        assert world.tokens.grant_of(guess) is None
        assert world.items.reads == reads


def test_guesses_take_bounded_memory_and_push_no_good_token_out() -> None:
    world = World()
    made = world.made()
    assert world.tokens.grant_of(made.text)
    for number in range(MOST_UNKNOWN + 100):
        world.tokens.grant_of(f"mtr_{number:016x}_{number:064x}")
    assert world.tokens.remembered == MOST_UNKNOWN + 1
    reads = world.items.reads
    assert world.tokens.grant_of(made.text)
    assert world.items.reads == reads


def test_good_tokens_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_KNOWN <= 10_000
    monkeypatch.setattr(module, "MOST_KNOWN", 3)
    world = World()
    made = [world.made() for _ in range(5)]
    for _ in range(2):
        assert all(world.tokens.grant_of(each.text) for each in made)
    assert world.tokens.remembered == 3


def test_no_stale_memory_stands_in_for_a_ledger_that_does_not_answer() -> None:
    world = World()
    made = world.made()
    assert world.tokens.grant_of(made.text)
    world.clock.sleep_ms(REMEMBERED_MS)
    world.items.down = True
    with pytest.raises(UnavailableError):
        world.tokens.grant_of(made.text)
    world.items.down = False
    assert world.tokens.grant_of(made.text)


def test_a_clock_that_is_set_back_prolongs_no_memory() -> None:
    world = World()
    made = world.made()
    assert world.tokens.grant_of(made.text)
    world.book.revoke(made.stored.token_id, revoked_by="arn:bob")
    world.clock.advance_s(-3600)
    assert world.tokens.grant_of(made.text) is None


def test_a_damaged_item_is_an_error_and_no_grant() -> None:
    world = World()
    made = world.made()
    world.items.put(Put(table=Table.LEDGER, item={**made.stored.to_item(), "accounts": []}))
    with pytest.raises(LedgerCorruptError):
        world.tokens.grant_of(made.text)


def test_threads_share_one_memory() -> None:
    world = World()
    made = [world.made() for _ in range(20)]
    with ThreadPoolExecutor(8) as pool:
        grants = list(pool.map(world.tokens.grant_of, [each.text for each in made] * 20))
    assert [grant and grant.token_id for grant in grants] == [each.stored.token_id for each in made] * 20
    assert world.tokens.remembered == 20


def test_the_token_of_a_server_here_is_good_and_no_other() -> None:
    tokens = OneToken(secret="abc")
    assert tokens.grant_of("abc") == Grant(token_id="local", role=Role.OPERATOR)
    assert [tokens.grant_of(other) for other in ("", "ab", "abcd", "abé", "\ud800")] == [None] * 5
    assert "abc" not in repr(tokens)


# An unauthenticated caller gets 401 without a reason; if a token exceeds its rate, its user is told when to retry.
GRANTS = {role.value: Grant(token_id=role.value, role=role, accounts=frozenset({"111111111111"})) for role in Role}


class SomeTokens:
    """Tokens that are named after their roles."""

    def grant_of(self, token: str) -> Grant | None:
        return GRANTS.get(token)


def door(clock: ManualClock | None = None, *, burst: int = 1000) -> Door:
    limits = Limits(token_rate_per_s=5, token_burst=burst)
    return Door.of(SomeTokens(), limits, clock or ManualClock(1_800_000_000_000))


def refused(at: Door, *authorization: str) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        at.let_in(authorization)
    return caught.value


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", " Bearer "])
def test_a_good_token_is_let_in_and_the_scheme_is_read_in_any_case(scheme: str) -> None:
    assert door().let_in([f"{scheme} analyst"]) == GRANTS["analyst"]


@pytest.mark.parametrize("authorization", [
    "", "Bearer", "Bearer ", "analyst", "Basic analyst", "Bearer nobody", "Bearer analyst analyst",
    "Bearer analyst,Bearer operator", "Bearer\nanalyst", "Bearer analyst\n", "Bearer analyst\x85",
    "Bearer " + "a" * 257, "Bearer an\u00e4lyst",
], ids=repr)  # fmt: skip
def test_what_is_no_good_token_is_401_and_is_not_repeated(authorization: str) -> None:
    problem = refused(door(), authorization)
    assert problem.status == 401
    assert problem.headers["WWW-Authenticate"] == 'Bearer realm="metering", error="invalid_token"'
    assert "nobody" not in str(problem.response().body)
    assert problem.detail == refused(door()).detail, "nobody hears why"


def test_no_token_and_several_are_none() -> None:
    assert refused(door()).headers == {"WWW-Authenticate": 'Bearer realm="metering"'}
    assert refused(door(), "Bearer analyst", "Bearer operator").status == 401
    assert refused(door(), "Bearer analyst", "Bearer analyst").status == 401


def test_a_token_that_asks_too_often_is_told_when_to_come_again_and_others_are_not_concerned() -> None:
    clock = ManualClock(1_800_000_000_000)
    at = door(clock, burst=2)
    assert [at.let_in(["Bearer analyst"]).token_id for _ in range(2)] == ["analyst"] * 2
    problem = refused(at, "Bearer analyst")
    assert (problem.status, problem.headers) == (429, {"Retry-After": "1"})
    assert at.let_in(["Bearer customer"]).token_id == "customer"
    clock.advance_s(1)
    assert at.let_in(["Bearer analyst"]).token_id == "analyst"
    # Strangers are not counted.
    assert {refused(at, "Bearer nobody").status for _ in range(5)} == {401}


# A token has a burst and a steady rate, and a token that exceeds them does not affect other tokens.
NOW_MS = 1_800_000_000_000


def limiter(clock: ManualClock, *, rate_per_s: float = 5.0, burst: int = 20) -> Limiter:
    return Limiter(rate_per_s=rate_per_s, burst=burst, clock=clock)


def let_in(door: Limiter, token_id: str, asked: int) -> int:
    return sum(door.wait_s(token_id) == 0 for _ in range(asked))


def test_a_burst_is_let_in_and_no_more_and_the_bucket_fills_at_the_rate() -> None:
    clock = ManualClock(NOW_MS)
    door = limiter(clock)
    assert [let_in(door, token_id, 100) for token_id in "ab"] == [20, 20]
    clock.advance_s(1)
    assert let_in(door, "a", 100) == 5
    clock.advance_s(3600)
    assert let_in(door, "a", 100) == 20
    # A request that is refused does not count.
    let_in(door, "a", 1000)
    clock.sleep_ms(200)
    assert let_in(door, "a", 10) == 1


def test_whoever_waits_as_long_as_was_said_is_let_in() -> None:
    for rate_per_s in (5.0, 0.3, 1000.0):
        clock = ManualClock(NOW_MS)
        door = limiter(clock, rate_per_s=rate_per_s, burst=2)
        let_in(door, "a", 3)
        wait_s = door.wait_s("a")
        assert wait_s >= 1
        clock.advance_s(wait_s)
        assert door.wait_s("a") == 0


def test_a_clock_that_is_set_back_shuts_nobody_out() -> None:
    clock = ManualClock(NOW_MS)
    door = limiter(clock)
    let_in(door, "a", 20)
    clock.advance_s(-86_400)
    assert door.wait_s("a") == 1
    clock.advance_s(4)
    assert let_in(door, "a", 100) == 20


def test_memory_is_bounded() -> None:
    door = limiter(ManualClock(NOW_MS))
    for number in range(module.MOST_TOKENS + 10):
        door.wait_s(str(number))
    assert len(door._full_at_ms) == module.MOST_TOKENS


@examples(100)
@given(
    pauses_ms=st.lists(st.integers(0, 3000), min_size=1, max_size=80),
    rate_per_s=st.sampled_from([0.5, 1.0, 3.0, 5.0, 7.0]),
    burst=st.integers(1, 20),
)
def test_no_span_of_time_lets_in_more_than_burst_and_rate(pauses_ms: list[int], rate_per_s: float, burst: int) -> None:
    clock = ManualClock(NOW_MS)
    door = limiter(clock, rate_per_s=rate_per_s, burst=burst)
    moments = []
    for pause_ms in pauses_ms:
        clock.sleep_ms(pause_ms)
        if door.wait_s("a") == 0:
            moments.append(clock.now_ms())
    for first, from_ms in enumerate(moments):
        for last in range(first, len(moments)):
            span_s = (moments[last] - from_ms) / 1000
            assert last - first + 1 <= burst + rate_per_s * span_s + 1e-6
