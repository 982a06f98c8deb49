"""Tokens, their rights and their rate limits, which are checked before a request is answered."""

from __future__ import annotations

import hmac
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from metering.api.parameters import ParameterFault, ProblemError, problem
from metering.ledger.notes.access import Role, StoredToken, token_key
from metering.operations.access import secret_sha256, token_parts
from metering.reports.query import ReadBudget
from metering.stores import writes

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from metering.stores.clock import Clock

EVERYONE = frozenset(Role)
STAFF = frozenset({Role.ANALYST, Role.OPERATOR})
OPERATORS = frozenset({Role.OPERATOR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Rights of the holder of a token.

    Attributes:
        token_id: Public part of the token, for logs.
        role: Role, which decides which resources the token may read.
        accounts: The accounts that the token may see; None for all. A customer's token always has a set of accounts.
        costs: Whether the token may see costs whose tiers its accounts share with accounts hidden from it.
    """

    token_id: str
    role: Role
    accounts: frozenset[str] | None = None
    costs: bool = False


class Tokens(Protocol):
    """Knows tokens."""

    def grant_of(self, token: str) -> Grant | None:
        """Rights of the holder of a token; None for a token that is unknown, expired or revoked.

        Raises:
            UnavailableError: The ledger did not answer.
        """


def effective_accounts(grant: Grant, asked: Collection[str], *, parameter: str = "account") -> frozenset[str]:
    """The accounts that a request reads. An empty set means all accounts, and requires a grant for all.

    Raises:
        ProblemError: 403, if an account that `parameter` names is not granted. The error is raised before any look-up,
            so the response does not depend on whether the account exists.
    """
    if grant.accounts is None:
        return frozenset(asked)
    foreign = sorted(set(asked) - grant.accounts)
    if foreign or not grant.accounts:
        raise problem(
            "not-granted",
            "This token does not see that account.",
            faults=[ParameterFault(parameter=parameter, detail=f"{each} is not granted.") for each in foreign],
        )
    return frozenset(asked) or grant.accounts


# About 200 bytes each. Only valid tokens have entries, so guessing cannot fill the dictionary.
MOST_TOKENS = 10_000


@dataclass(kw_only=True)
class Limiter:
    """Limits the rate of each token's requests or reads. Instances are thread-safe.

    Each token has a time up to which its bucket is used. A unit advances this time by `1 / rate_per_s`. A request is
    refused if this time is more than a whole bucket ahead of now.

    Attributes:
        rate_per_s: Average units a second of one token; a request is one unit.
        burst: Maximum burst of one token, in units.
        most_units: Units of the largest request.
    """

    rate_per_s: float
    burst: int
    clock: Clock
    most_units: int = 1
    _full_at_ms: OrderedDict[str, float] = field(default_factory=OrderedDict, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def wait_s(self, token_id: str, units: int = 1) -> int:
        """Count a request of a token; returns 0 if it is admitted, else the seconds until one may be admitted.

        A request that is refused does not count. A request is admitted if the bucket has room for one unit. Units
        beyond the bucket become a debt, and requests are refused until the debt is paid.
        """
        now_ms = self.clock.now_ms()
        step_ms = 1000 / self.rate_per_s
        bucket_ms = step_ms * self.burst
        with self._lock:
            full_at_ms = self._full_at(token_id, now_ms)
            late_ms = full_at_ms + step_ms - (now_ms + bucket_ms)
            self._keep(token_id, full_at_ms if late_ms > 0 else full_at_ms + step_ms * units)
        return -int(-late_ms // 1000) if late_ms > 0 else 0

    def correct(self, token_id: str, units: int) -> None:
        """Charge an admitted request more units; a negative number refunds units."""
        with self._lock:
            self._keep(token_id, self._full_at(token_id, self.clock.now_ms()) + 1000 / self.rate_per_s * units)

    def _full_at(self, token_id: str, now_ms: int) -> float:
        # If the clock was set back, the bucket is at worst empty and the debt at its maximum.
        most_ms = 1000 / self.rate_per_s * (self.burst + self.most_units - 1)
        return min(max(self._full_at_ms.get(token_id, 0.0), now_ms), now_ms + most_ms)

    def _keep(self, token_id: str, full_at_ms: float) -> None:
        self._full_at_ms[token_id] = full_at_ms
        self._full_at_ms.move_to_end(token_id)
        while len(self._full_at_ms) > MOST_TOKENS:
            self._full_at_ms.popitem(last=False)


# Verification of tokens: one strongly consistent read of the ledger, cached for a minute.
#
# The cache holds the ledger's entry for a token id, never a secret. So a wrong secret for a known id costs no read, an
# expiry takes effect immediately, and a revocation takes effect within a minute. Unknown ids have a separate cache, so
# guesses evict no valid token.


REMEMBERED_MS = 60_000
# An entry takes about 1 kB, and 3 kB with 100 accounts.
MOST_KNOWN = 2_000
# About 200 bytes each.
MOST_UNKNOWN = 10_000


class _Memory:
    """Cache of the ledger's entries for the most recent ids."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, tuple[int, StoredToken | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, token_id: str, now_ms: int) -> tuple[int, StoredToken | None] | None:
        found = self._kept.get(token_id)
        # Setting the clock back does not extend the life of a cache entry.
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
    """`Tokens` that are stored in the ledger of one region. Instances are thread-safe."""

    items: writes.ItemStore
    clock: Clock
    _known: _Memory = field(default_factory=lambda: _Memory(MOST_KNOWN), init=False, repr=False)
    _unknown: _Memory = field(default_factory=lambda: _Memory(MOST_UNKNOWN), init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def grant_of(self, token: str) -> Grant | None:
        """Rights of the holder of a token; None for a token that is unknown, expired or revoked.

        A string that does not have a token's form is refused without a read.

        Raises:
            LedgerCorruptError: The item with this id is not a token.
            UnavailableError: The ledger did not answer. No cached entry older than a minute is used instead.
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
        with self._lock:
            return len(self._known) + len(self._unknown)

    def _stored(self, token_id: str) -> StoredToken | None:
        # The time is taken before the read, so an entry is never older than its time says.
        now_ms = self.clock.now_ms()
        with self._lock:
            found = self._known.get(token_id, now_ms) or self._unknown.get(token_id, now_ms)
        if found is not None:
            return found[1]
        item = self.items.get(writes.Table.LEDGER, token_key(token_id))
        stored = None if item is None else StoredToken.from_item(item)
        with self._lock:
            (self._unknown if stored is None else self._known).put(token_id, now_ms, stored)
        return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class OneToken:
    """`Tokens` of a server on this machine: the token that was generated at start. It reads and stores no tokens."""

    secret: str = field(repr=False)
    role: Role = Role.OPERATOR

    def grant_of(self, token: str) -> Grant | None:
        same = hmac.compare_digest(token.encode(errors="replace"), self.secret.encode())
        return Grant(token_id="local", role=self.role) if same else None  # noqa: S106 - no secret: a name for the log


def grant_of_stored(stored: StoredToken) -> Grant:
    """Rights of the holder of a valid token."""
    accounts = None if stored.accounts is None else frozenset(stored.accounts)
    return Grant(token_id=stored.token_id, role=stored.role, accounts=accounts, costs=stored.costs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(ReadBudget):
    """Limits of a request, in addition to its read budget. The numbers are measured or priced in docs/decisions.

    Attributes:
        json_rows: Maximum number of rows of an answer in JSON.
        table_rows: Maximum number of rows of an answer in NDJSON, CSV and Parquet.
        summed_rows: Maximum number of rows that are summed for an answer, before paging.
        cause_rows: Maximum number of rows of causes that are read for an answer.
        page_rows: Number of rows of a page if a cursor is given without `limit`.
        deadline_s: Seconds until a request times out.
        answer_bytes: Maximum size of an answer after compression.
        token_rate_per_s: Average requests a second of one token.
        token_burst: Maximum burst of requests of one token.
        token_reads_per_s: Average number of hours and partitions that one token may read a second.
        token_reads: Maximum burst of such reads. A larger request is answered if the token has read little recently.
        large: Number of reads above which a request is large.
        large_of_token: Maximum number of concurrent large requests of one token.
        large_of_all: Maximum number of concurrent large requests of all tokens.
    """

    json_rows: int = 20_000
    table_rows: int = 100_000
    summed_rows: int = 300_000
    cause_rows: int = 10_000_000
    page_rows: int = 1_000
    deadline_s: float = 25.0
    answer_bytes: int = 5_500_000
    token_rate_per_s: float = 5.0
    token_burst: int = 20
    token_reads_per_s: float = 20.0
    token_reads: int = 1_000
    large: int = 12
    large_of_token: int = 2
    large_of_all: int = 4


# RFC 6750. A longer string is not a token of this service. The scheme is case-insensitive (RFC 9110).
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/=-]{1,256})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Admits and counts requests: one object shared by all routes of an application. Instances are thread-safe."""

    tokens: Tokens
    limiter: Limiter

    @classmethod
    def of(cls, tokens: Tokens, limits: Limits, clock: Clock) -> Door:
        limiter = Limiter(rate_per_s=limits.token_rate_per_s, burst=limits.token_burst, clock=clock)
        return cls(tokens=tokens, limiter=limiter)

    def let_in(self, authorization: Sequence[str], *, person: Grant | None = None) -> Grant:
        """Rights of the sender of a request, which must have exactly one header `Authorization`.

        `person` has the rights of a person whom the identity provider knows; None for the holder of a token.

        Raises:
            ProblemError: 401 without a valid token. The problem does not reveal whether a token is unknown, expired or
                revoked. 429 for a valid token that sends requests too often.
            UnavailableError: The token's validity cannot be checked now.
        """
        found = _BEARER.fullmatch(authorization[0].strip(" \t")) if len(authorization) == 1 else None
        grant = person if person is not None or found is None else self.tokens.grant_of(found[1])
        if grant is None:
            raise _unauthorized(sent=bool(authorization))
        wait_s = self.limiter.wait_s(grant.token_id)
        if wait_s:
            raise _too_often(wait_s)
        return grant


def _unauthorized(*, sent: bool) -> ProblemError:
    # RFC 6750: a request without credentials gets no error code.
    challenge = 'Bearer realm="metering", error="invalid_token"' if sent else 'Bearer realm="metering"'
    return problem(
        "not-authenticated",
        "Send a token that is valid: Authorization: Bearer mtr_... An operator makes one with `metering token create`.",
        headers={"WWW-Authenticate": challenge},
    )


def _too_often(wait_s: int) -> ProblemError:
    return problem(
        "too-many-requests",
        f"This token asks more often than it may. Ask again in {wait_s} s.",
        headers={"Retry-After": str(wait_s)},
    )
