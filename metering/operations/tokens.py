"""Tokens of the HTTP API: made, listed and revoked. `mtr_<id>_<secret>` is said once, to whoever makes it.

The secret has 256 bits of chance, so a plain SHA-256 of it is enough: nobody can try all of them. Id and secret are hex
digits, so a double click selects a token, and a scanner for secrets finds it by its form.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError, OperationFailedError
from metering.ledger.notes.tokens import TOKENS_PK, Role, StoredToken, token_key
from metering.stores.writes import Absent, AllOf, Equals, Exists, Put, Table, Update
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore

MAX_LIFE_S = 366 * DAY_S
# As many accounts as a request may name: a token's accounts are all read if it names none.
MAX_ACCOUNTS = 100
MAX_LABEL_CHARACTERS = 128
TOKEN_PATTERN = re.compile(r"mtr_([0-9a-f]{16})_([0-9a-f]{64})")
_ID = re.compile(r"[0-9a-f]{16}")
_ACCOUNT = re.compile(r"[0-9]{12}")
_LABEL = re.compile(r"[^\x00-\x1f\x7f-\x9f]*")
_ID_BYTES = 8
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeToken:
    """A new token.

    Attributes:
        text: What its holder sends. It is kept nowhere, and shown by nothing that prints this object.
        stored: What the ledger keeps.
    """

    text: str = field(repr=False)
    stored: StoredToken


def secret_sha256(secret: str) -> str:
    """What is kept of a secret: 64 hex digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def token_parts(text: str) -> tuple[str, str] | None:
    """Id and secret of a token; None for a text that is none."""
    # A token has 85 characters. Nothing longer is looked at.
    found = TOKEN_PATTERN.fullmatch(text) if len(text) < 100 else None
    return None if found is None else (found[1], found[2])


def _chance(size: int) -> bytes:
    return secrets.token_bytes(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBook:
    """The tokens of one region.

    Attributes:
        items: Its ledger.
        clock: The time now.
        draw: Gives as many bytes of chance as it is asked for.
    """

    items: ItemStore
    clock: Clock
    draw: Callable[[int], bytes] = _chance

    def create(
        self,
        *,
        role: Role,
        accounts: Collection[str] | None,
        life_s: int,
        made_by: str,
        label: str = "",
        costs: bool = False,
    ) -> MadeToken:
        """Make a token, and keep its hash.

        Args:
            role: What kinds of answers its holder gets.
            accounts: Accounts that its holder may see, 1 to 100; None for all, which no customer gets.
            life_s: Seconds until it expires: 1 to 366 days.
            made_by: ARN of who makes it.
            label: What people call it, at most 128 characters.
            costs: See `StoredToken`. Who sees all accounts sees their costs.

        Raises:
            OperationFailedError: One of these makes no sense; every problem is said, and nothing was made.
            UnavailableError: The ledger gave no answer. A token that may have been made is known to nobody.
        """
        problems = token_problems(role=role, accounts=accounts, life_s=life_s, label=label)
        if problems:
            raise OperationFailedError(" ".join(problems), "No token was made.")
        now_s = self.clock.now_ms() // 1000
        while True:
            token_id, secret = self.draw(_ID_BYTES).hex(), self.draw(_SECRET_BYTES).hex()
            stored = StoredToken(
                token_id=token_id,
                secret_sha256=secret_sha256(secret),
                role=role,
                accounts=None if accounts is None else tuple(sorted(set(accounts))),
                label=label,
                made_by=made_by,
                made_s=now_s,
                expires_s=now_s + life_s,
                costs=costs or accounts is None,
            )
            try:
                self.items.put(Put(table=Table.LEDGER, item=stored.to_item(), condition=Absent()))
            except ConditionFailedError:
                # The id is taken: another one is drawn, and no token ever replaces another.
                continue
            return MadeToken(text=f"mtr_{token_id}_{secret}", stored=stored)

    def list(self) -> list[StoredToken]:
        """All tokens, the newest first. One that expired stays until DynamoDB deletes it, which takes days.

        Raises:
            LedgerCorruptError: An item is none of a token.
            UnavailableError: The ledger gave no answer.
        """
        found = (StoredToken.from_item(item) for item in self.items.query(Table.LEDGER, TOKENS_PK))
        return sorted(found, key=lambda each: (-each.made_s, each.token_id))

    def find(self, token_id: str) -> StoredToken:
        """The token of this id; a whole token is taken by its id.

        Raises:
            OperationFailedError: There is none.
        """
        whole = token_parts(token_id)
        wanted = token_id if whole is None else whole[0]
        item = self.items.get(Table.LEDGER, token_key(wanted)) if _ID.fullmatch(wanted) else None
        if item is None:
            # What was typed may be a secret, or a part of one: it is not repeated.
            raise OperationFailedError("There is no token of this id.", "See all of them with: metering token list")
        return StoredToken.from_item(item)

    def revoke(self, token_id: str, *, revoked_by: str) -> StoredToken:
        """Refuse a token from now on. Processes that have just checked it notice within a minute.

        A token that is revoked already stays as it is.

        Raises:
            OperationFailedError: There is no such token.
            UnavailableError: The ledger gave no answer.
        """
        found = self.find(token_id)
        change = Update(
            table=Table.LEDGER,
            key=found.key,
            set={"revoked_by": revoked_by, "revoked_s": max(1, self.clock.now_ms() // 1000)},
            condition=AllOf((Exists(), Equals(attribute="revoked_s", value=0))),
        )
        try:
            return StoredToken.from_item(self.items.update(change))
        except ConditionFailedError:
            return self.find(found.token_id)


def token_problems(*, role: Role, accounts: Collection[str] | None, life_s: int, label: str) -> list[str]:
    """Why no token can be made of these, a sentence each."""
    problems = []
    if role is Role.CUSTOMER and not accounts:
        problems.append("A customer's token names its accounts, at least one.")
    if accounts is not None:
        problems += _account_problems(accounts)
    if not 0 < life_s <= MAX_LIFE_S:
        problems.append("A token lives from 1 to 366 days.")
    if len(label) > MAX_LABEL_CHARACTERS or not _LABEL.fullmatch(label):
        problems.append(f"A label has at most {MAX_LABEL_CHARACTERS} characters, and no control characters.")
    return problems


def _account_problems(accounts: Collection[str]) -> list[str]:
    problems = [f"{each!r} is no account: it has 12 digits." for each in accounts if not _ACCOUNT.fullmatch(each)]
    if not 0 < len(set(accounts)) <= MAX_ACCOUNTS:
        problems.append(f"A token names 1 to {MAX_ACCOUNTS} accounts, or none and sees all.")
    return problems
