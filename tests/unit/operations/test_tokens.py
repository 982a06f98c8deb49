"""Tokens are said once, kept as hashes, listed, and revoked once."""

from __future__ import annotations

from itertools import count

import pytest

from metering.errors import LedgerCorruptError, OperationFailedError
from metering.ledger.notes.access import Role, StoredToken
from metering.operations.access import MAX_LIFE_S, TokenBook, token_parts
from metering.stores.writes import Table
from metering.units import DAY_S
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore

NOW_S = 1_800_000_000
ARN = "arn:aws:iam::123456789012:user/ann"
ACCOUNT = "111111111111"


def book(items: MemoryItemStore | None = None, clock: ManualClock | None = None) -> TokenBook:
    return TokenBook(items=items or MemoryItemStore(), clock=clock or ManualClock(1000 * NOW_S))


def test_a_token_is_said_once_and_only_its_hash_is_kept() -> None:
    items = MemoryItemStore()
    made = book(items).create(role=Role.CUSTOMER, accounts=[ACCOUNT], life_s=30 * DAY_S, made_by=ARN, label="portal")
    parts = token_parts(made.text)
    assert parts is not None
    assert parts[0] == made.stored.token_id
    [item] = items.scan(Table.LEDGER)
    assert parts[1] not in repr(item)
    assert parts[1] not in repr(made)
    assert item["expires_at"] == NOW_S + 30 * DAY_S
    assert StoredToken.from_item(item) == made.stored


def test_no_two_tokens_are_alike_and_each_has_256_bits() -> None:
    tokens = {book().create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=ARN).text for _ in range(20)}
    assert len(tokens) == 20
    assert {len(text.rpartition("_")[2]) for text in tokens} == {64}


def test_a_taken_id_is_drawn_again_and_replaces_nothing() -> None:
    items = MemoryItemStore()
    first = book(items).create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=ARN)
    taken = bytes.fromhex(first.stored.token_id)
    calls = count()
    drawing = TokenBook(
        items=items,
        clock=ManualClock(1000 * NOW_S),
        draw=lambda size: taken if next(calls) == 0 else bytes([size]) * size,
    )
    second = drawing.create(role=Role.OPERATOR, accounts=None, life_s=DAY_S, made_by=ARN)
    assert second.stored.token_id != first.stored.token_id
    assert drawing.find(first.stored.token_id) == first.stored


@pytest.mark.parametrize(("changed", "said"), [
    ({"accounts": None}, "names its accounts"),
    ({"accounts": []}, "names its accounts"),
    ({"accounts": ["12345"]}, "12 digits"),
    ({"accounts": ["\uff1111111111111"]}, "12 digits"),
    ({"accounts": [f"{number:012}" for number in range(101)]}, "1 to 100 accounts"),
    ({"role": Role.ANALYST, "accounts": []}, "1 to 100 accounts"),
    ({"life_s": 0}, "1 to 366 days"),
    ({"life_s": MAX_LIFE_S + 1}, "1 to 366 days"),
    ({"label": "a\x1b[2J"}, "control characters"),
    ({"label": "a" * 129}, "128 characters"),
], ids=repr)  # fmt: skip
def test_what_makes_no_sense_makes_no_token(changed: dict[str, object], said: str) -> None:
    items = MemoryItemStore()
    given: dict[str, object] = {"role": Role.CUSTOMER, "accounts": [ACCOUNT], "life_s": DAY_S, "label": ""}
    with pytest.raises(OperationFailedError, match=said):
        book(items).create(**{**given, **changed}, made_by=ARN)  # type: ignore[arg-type]  # one wrong value at a time
    assert list(items.scan(Table.LEDGER)) == []


def test_every_problem_is_said_at_once() -> None:
    with pytest.raises(OperationFailedError) as caught:
        book().create(role=Role.CUSTOMER, accounts=None, life_s=0, made_by=ARN, label="\n")
    assert [word in str(caught.value) for word in ("accounts", "366 days", "control")] == [True] * 3


def test_tokens_are_listed_the_newest_first_revoked_ones_too() -> None:
    items, clock = MemoryItemStore(), ManualClock(1000 * NOW_S)
    tokens = book(items, clock)
    old = tokens.create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=ARN).stored
    clock.advance_s(5)
    new = tokens.create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=ARN).stored
    assert tokens.list() == [new, old]
    revoked = tokens.revoke(old.token_id, revoked_by="arn:boss")
    assert tokens.list() == [new, revoked]


def test_a_token_is_revoked_once_and_keeps_who_did_it_first() -> None:
    clock = ManualClock(1000 * NOW_S)
    tokens = book(clock=clock)
    made = tokens.create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=ARN)
    # A whole token is taken by its id: that is what people have at hand when one leaked.
    first = tokens.revoke(made.text, revoked_by="arn:first")
    clock.advance_s(9)
    second = tokens.revoke(made.stored.token_id, revoked_by="arn:second")
    assert (second.revoked_by, second.revoked_s) == ("arn:first", NOW_S)
    assert second == first
    assert not second.good_at(NOW_S)


@pytest.mark.parametrize("typed", ["0" * 16, "tokens", "", "K#tokens", "mtr_" + "0" * 16 + "_" + "1" * 64])
def test_a_token_that_does_not_exist_is_not_revoked_and_what_was_typed_is_not_repeated(typed: str) -> None:
    with pytest.raises(OperationFailedError, match="no token of this id") as caught:
        book().revoke(typed, revoked_by=ARN)
    assert "111" not in str(caught.value)


def test_a_token_is_good_until_it_expires() -> None:
    stored = book().create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=ARN).stored
    assert stored.good_at(NOW_S + DAY_S - 1)
    assert not stored.good_at(NOW_S + DAY_S)


@pytest.mark.parametrize(
    "lost",
    [{"accounts": []}, {"all_accounts": True}, {"all_accounts": True, "accounts": []}, {"role": "root"}],
    ids=["none", "both", "all", "root"],
)
def test_an_item_that_lost_its_accounts_or_has_an_unknown_role_is_no_token(lost: dict[str, object]) -> None:
    stored = book().create(role=Role.CUSTOMER, accounts=[ACCOUNT], life_s=DAY_S, made_by=ARN).stored
    with pytest.raises(LedgerCorruptError):
        StoredToken.from_item({**stored.to_item(), **lost})  # type: ignore[dict-item]  # a value of any type


@pytest.mark.parametrize(
    "text",
    ["", "mtr_", "mtr_" + "0" * 16, "mtr_" + "0" * 16 + "_" + "A" * 64, " mtr_" + "0" * 16 + "_" + "a" * 64]
    + ["mtr_" + "0" * 16 + "_" + "a" * 64 + tail for tail in ("\n", "a", "a" * 10**6)],
    ids=lambda text: text[:12],
)
def test_a_text_that_has_not_the_form_of_a_token_has_no_parts(text: str) -> None:
    assert token_parts(text) is None


def test_tokens_of_before_keep_costs_and_new_ones_have_them_only_if_they_were_made_so() -> None:
    def made(accounts: list[str] | None, *, costs: bool = False) -> StoredToken:
        return book().create(role=Role.ANALYST, accounts=accounts, life_s=DAY_S, made_by=ARN, costs=costs).stored

    assert [made([ACCOUNT]).costs, made([ACCOUNT], costs=True).costs, made(None).costs] == [False, True, True]
    item = made([ACCOUNT]).to_item()
    assert not StoredToken.from_item(item).costs
    # A release that did not ask wrote no such attribute.
    del item["costs"]
    assert StoredToken.from_item(item).costs
    with pytest.raises(LedgerCorruptError):
        StoredToken.from_item({**item, "costs": "yes"})
