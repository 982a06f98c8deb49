"""Checks of tokens: one strong read of the ledger, remembered for a minute.

Remembered is what the ledger says of an id, never a secret. So a wrong secret of a known id costs no read, an expiry
holds at once, and a revocation within a minute. Ids that the ledger does not know are remembered apart from those that
it knows: whoever guesses pushes no token out.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from metering.api.grants import Grant
from metering.ledger.notes.tokens import Role, StoredToken, token_key
from metering.operations.tokens import secret_sha256, token_parts
from metering.stores.writes import Table

if TYPE_CHECKING:
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore

REMEMBERED_MS = 60_000
# About 1 kB each, with 100 accounts 3 kB.
MOST_KNOWN = 2_000
# About 200 bytes each.
MOST_UNKNOWN = 10_000


class _Memory:
    """What the ledger said of ids, the most recent ones. It is a cache: what is forgotten is read again."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, tuple[int, StoredToken | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, token_id: str, now_ms: int) -> tuple[int, StoredToken | None] | None:
        found = self._kept.get(token_id)
        # A clock that was set back does not prolong a life.
        if found is None or not 0 <= now_ms - found[0] < REMEMBERED_MS:
            self._kept.pop(token_id, None)
            return None
        self._kept.move_to_end(token_id)
        return found

    def put(self, token_id: str, now_ms: int, stored: StoredToken | None) -> None:
        self._kept[token_id] = (now_ms, stored)
        self._kept.move_to_end(token_id)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


@dataclass(kw_only=True)
class LedgerTokens:
    """`Tokens` of the ledger of one region. Several threads may use it.

    Attributes:
        items: The ledger.
        clock: The time now.
    """

    items: ItemStore
    clock: Clock
    _known: _Memory = field(default_factory=lambda: _Memory(MOST_KNOWN), init=False, repr=False)
    _unknown: _Memory = field(default_factory=lambda: _Memory(MOST_UNKNOWN), init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def grant_of(self, token: str) -> Grant | None:
        """What the holder of a token may see; None for a token that is unknown, expired or revoked.

        A text that has not the form of a token is refused without a read.

        Raises:
            LedgerCorruptError: The item of this id is none of a token.
            UnavailableError: The ledger gave no answer. Nothing that it said earlier than a minute ago stands in.
        """
        parts = token_parts(token)
        if parts is None:
            return None
        token_id, secret = parts
        stored = self._stored(token_id)
        if stored is None or not hmac.compare_digest(stored.secret_sha256, secret_sha256(secret)):
            return None
        return grant_of_stored(stored) if stored.good_at(self.clock.now_ms() // 1000) else None

    @property
    def remembered(self) -> int:
        """How many ids are remembered, known and unknown."""
        with self._lock:
            return len(self._known) + len(self._unknown)

    def _stored(self, token_id: str) -> StoredToken | None:
        # Taken before the read: what is remembered is never younger than it says.
        now_ms = self.clock.now_ms()
        with self._lock:
            found = self._known.get(token_id, now_ms) or self._unknown.get(token_id, now_ms)
        if found is not None:
            return found[1]
        item = self.items.get(Table.LEDGER, token_key(token_id))
        stored = None if item is None else StoredToken.from_item(item)
        with self._lock:
            (self._unknown if stored is None else self._known).put(token_id, now_ms, stored)
        return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class OneToken:
    """`Tokens` of a server on this machine: the one that was drawn when it started. Nothing is read or kept.

    Attributes:
        secret: The token.
        role: What its holder may see.
    """

    secret: str = field(repr=False)
    role: Role = Role.OPERATOR

    def grant_of(self, token: str) -> Grant | None:
        """The grant of this token; None for any other."""
        same = hmac.compare_digest(token.encode(errors="replace"), self.secret.encode())
        return Grant(token_id="local", role=self.role) if same else None  # noqa: S106 - no secret: a name for the log


def grant_of_stored(stored: StoredToken) -> Grant:
    """What the holder of a token that is good may see."""
    accounts = None if stored.accounts is None else frozenset(stored.accounts)
    return Grant(token_id=stored.token_id, role=stored.role, accounts=accounts, costs=stored.costs)
