"""A token is checked by one strong read, remembered for a minute; guesses cost little and push nothing out."""

from __future__ import annotations

import hmac
from concurrent.futures import ThreadPoolExecutor

import pytest

from metering.api import authentication as module
from metering.api.authentication import MOST_KNOWN, MOST_UNKNOWN, REMEMBERED_MS, Grant, LedgerTokens, OneToken
from metering.errors import LedgerCorruptError, UnavailableError
from metering.ledger.notes.access import Role
from metering.operations.access import MadeToken, TokenBook
from metering.stores.writes import Delete, Item, Key, Put, Table
from metering.units import DAY_S
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore

NOW_S = 1_800_000_000
ACCOUNTS = ["111111111111", "222222222222"]


class CountingItems(MemoryItemStore):
    """Counts strong reads, and fails when told to."""

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
    """A ledger with tokens, and who checks them."""

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
    for _ in range(5):
        assert world.tokens.grant_of(made.text)
    assert world.items.reads == 1
    world.clock.sleep_ms(REMEMBERED_MS - 1)
    assert world.tokens.grant_of(made.text)
    assert world.items.reads == 1
    world.clock.sleep_ms(1)
    assert world.tokens.grant_of(made.text)
    assert world.items.reads == 2


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


def test_an_expiry_holds_at_once() -> None:
    world = World()
    made = world.made(life_s=DAY_S)
    world.clock.advance_s(DAY_S - 1)
    assert world.tokens.grant_of(made.text)
    world.clock.advance_s(1)
    assert world.tokens.grant_of(made.text) is None


def test_a_token_that_dynamodb_deleted_is_unknown() -> None:
    world = World()
    made = world.made()
    world.items.delete(Delete(table=Table.LEDGER, key=made.stored.key))
    assert world.tokens.grant_of(made.text) is None


def test_a_wrong_secret_is_refused_and_costs_no_read() -> None:
    world = World()
    made = world.made()
    assert world.tokens.grant_of(made.text)
    for _ in range(5):
        assert world.tokens.grant_of(other_secret(made.text)) is None
    assert world.items.reads == 1


def test_a_wrong_secret_does_not_spoil_the_right_one() -> None:
    world = World()
    made = world.made()
    assert world.tokens.grant_of(other_secret(made.text)) is None
    assert world.tokens.grant_of(made.text)


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
    for _ in range(5):
        assert world.tokens.grant_of(guess) is None
    assert world.items.reads == 1
    world.clock.sleep_ms(REMEMBERED_MS)
    assert world.tokens.grant_of(guess) is None
    assert world.items.reads == 2


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
    damaged = {**made.stored.to_item(), "accounts": []}
    world.items.put(Put(table=Table.LEDGER, item=damaged))
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
