"""Registered producers (`W#producers`) and tokens of the HTTP API (`K#tokens`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, ClassVar

from metering.errors import LedgerCorruptError
from metering.intake.senders import Producer, Registry, role_of
from metering.ledger.partitions import NOTE, TOKENS
from metering.stores.codec import Added, AnyText, Fields, Form, SortKey, StoredItem, item_of
from metering.stores.writes import ItemStore, Key, Table, Value
from metering.units import DAY_S, HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from metering.stores.clock import Clock

PRODUCERS_PK = f"{NOTE}producers"
REFUSED_SENDERS_PK = f"{NOTE}refused-senders"
_LOG = logging.getLogger(__name__)
_REMEMBERED_S = 7 * DAY_S
# Time for which a registry is cached.
KNOWN_MS = MINUTE_S * 1000
# An item of 400 KB could hold more. A producer with more accounts may get permission for all accounts.
MAX_ACCOUNTS = 5_000


def _accounts(fields: Fields, name: str) -> tuple[str, ...] | None:
    named, everyone = fields.texts(name), fields.flag("all_accounts")
    if named and everyone:
        fields.fail("all_accounts", "all accounts or those that are named")
    return None if everyone else named


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredProducer(StoredItem):
    """A registered producer.

    Attributes:
        role_id: Unique id of the role at its registration. A role that is deleted and recreated gets another id.
        trusted_arn: Role or account whose workloads may assume the producer's role.
        accounts: Accounts that the producer may meter, sorted; None for all.
        registered_by: ARN of who did.
    """

    name: SortKey
    role_id: str
    role_arn: str
    trusted_arn: str
    accounts: Annotated[tuple[str, ...] | None, Form(_accounts, lambda accounts: list(accounts or ()))]
    registered_s: int
    registered_by: AnyText

    @property
    def key(self) -> Key:
        return producer_key(self.name)

    def producer(self) -> Producer:
        """The producer in the form used to check batches."""
        return Producer(
            name=self.name, role_id=self.role_id, accounts=None if self.accounts is None else frozenset(self.accounts)
        )

    def to_item(self) -> dict[str, Value]:
        return item_of(self) | {"all_accounts": self.accounts is None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownProducer:
    """A registered producer, and its problems.

    Attributes:
        warnings: Reasons why the producer's batches are or will be refused, one sentence each. Empty: all is well.
        told_s: Time of the last alert about a refused batch of the role; None if there was none within a week.
    """

    registered: RegisteredProducer
    warnings: tuple[str, ...]
    told_s: int | None


def may_be_refused(items: ItemStore) -> bool:
    """Whether batches may be refused for their sender: a producer is registered, or a batch was refused within a week.

    A stage that registers producers but has none refuses every batch, and sends alerts.
    """
    kinds = (items.query(Table.LEDGER, pk) for pk in (PRODUCERS_PK, REFUSED_SENDERS_PK))
    return any(next(iter(kind), None) is not None for kind in kinds)


def producer_key(name: str) -> Key:
    """Key of a registered producer."""
    return Key(PRODUCERS_PK, name)


def registered(items: ItemStore) -> Iterator[RegisteredProducer]:
    """Every registered producer, by name.

    Raises:
        LedgerCorruptError: One of them cannot be read.
    """
    return map(RegisteredProducer.from_item, items.query(Table.LEDGER, PRODUCERS_PK))


def refused_sender_item(sender_id: str, now_s: int) -> dict[str, Value]:
    """The note that an alert about a refused sender was sent in this hour."""
    key = refused_sender_key(sender_id, now_s)
    return {**key._asdict(), "told_s": now_s, "expires_at": now_s + _REMEMBERED_S}


def refused_sender_key(sender_id: str, now_s: int) -> Key:
    """Key of this note; there is one note per role and hour. Sessions of one role count as one sender."""
    return Key(REFUSED_SENDERS_PK, f"{role_of(sender_id)[:128]}#{now_s // HOUR_S}")


def refused_senders(items: ItemStore) -> Iterator[tuple[str, int]]:
    """Role of a refused sender -> time of the alert about the sender, epoch seconds."""
    for item in items.query(Table.LEDGER, REFUSED_SENDERS_PK):
        fields = Fields.of_item(item)
        yield fields.text("sk").rpartition("#")[0], fields.whole("told_s")


@dataclass(slots=True, kw_only=True)
class LedgerProducers:
    """`KnownProducers` over the ledger. A process reads them once a minute, for any number of messages. Mutable.

    An unreadable item is skipped and logged: its producer's batches go to quarantine, and all other batches continue.
    """

    items: ItemStore
    clock: Clock
    _registry: Registry | None = field(default=None, init=False)

    def known(self, *, since_ms: int | None = None) -> Registry:
        now_ms = self.clock.now_ms()
        registry = self._registry
        oldest_ms = now_ms - KNOWN_MS if since_ms is None else min(since_ms, now_ms)
        # Setting the clock back must not extend the life of a cached registry.
        if registry is None or not oldest_ms <= registry.read_ms <= now_ms:
            registry = self._registry = Registry(producers=self._producers(), read_ms=now_ms)
        return registry

    def _producers(self) -> dict[str, Producer]:
        found: dict[str, Producer] = {}
        for item in self.items.query(Table.LEDGER, PRODUCERS_PK):
            try:
                producer = RegisteredProducer.from_item(item).producer()
            except LedgerCorruptError as error:
                _LOG.warning("a registered producer cannot be read", extra={"error": str(error)})
                continue
            found[producer.name] = producer
        return found


# Tokens of the HTTP API: `K#tokens`, the token's id. The item has only the SHA-256 of the secret.
#
# All tokens are in one partition, so that one query lists them. A check is one strongly consistent read, cached for a
# minute. Items expire by TTL some time after their token; until then, a revoked token remains and says who revoked it.
#
# `W#api-large`, `W` lists the running large requests in all processes of the function. An entry is removed at the end
# of its request, or expires if its process has died. The function of the API writes no other items.


TOKENS_PK = f"{TOKENS}tokens"
LARGE_KEY = Key(f"{NOTE}api-large", "W")


class Role(StrEnum):
    """Role of a caller: a customer sees its own accounts, an analyst all usage, an operator also internals."""

    CUSTOMER = "customer"
    ANALYST = "analyst"
    OPERATOR = "operator"


def token_key(token_id: str) -> Key:
    """Key of a token."""
    return Key(TOKENS_PK, token_id)


def _accounts_of_token(fields: Fields, name: str) -> tuple[str, ...] | None:
    named, everyone = fields.texts(name), fields.flag("all_accounts")
    customer = fields.one_of("role", tuple(Role)) is Role.CUSTOMER
    if everyone == bool(named) or (everyone and customer):
        fields.fail("all_accounts", "true without accounts, or false with some, and false for a customer")
    return None if everyone else named


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredToken(StoredItem):
    """A token as stored.

    Attributes:
        token_id: Public part of the token: 16 hex digits.
        secret_sha256: SHA-256 of the secret part, 64 hex digits.
        accounts: Accounts that the holder may see, sorted; None for all. A customer's token always has accounts.
        label: Label for the operator; may be empty.
        made_by: ARN of its creator.
        expires_s: Time from which the token is refused, epoch seconds.
        costs: Whether the holder may see costs at tiers shared with other accounts. Otherwise, the holder sees only
            costs of payers with no accounts hidden from the holder. Older tokens have this right until they expire.
        revoked_by: ARN of the person who revoked the token; empty if not revoked.
        revoked_s: Time of the revocation; 0 if not revoked.
    """

    token_id: str
    secret_sha256: str
    role: Role
    accounts: Annotated[tuple[str, ...] | None, Form(_accounts_of_token, lambda accounts: list(accounts or ()))]
    label: AnyText
    made_by: str
    made_s: int
    expires_s: Annotated[int, "expires_at"]
    costs: Annotated[bool, Added(True)] = False
    revoked_by: str = ""
    revoked_s: int = 0

    @property
    def key(self) -> Key:
        return token_key(self.token_id)

    def good_at(self, now_s: int) -> bool:
        """Whether the token is neither expired nor revoked."""
        return not self.revoked_s and now_s < self.expires_s

    def to_item(self) -> dict[str, Value]:
        # This fact is stored redundantly, so that a lost list never means all accounts.
        return item_of(self) | {"all_accounts": self.accounts is None}


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeRequest:
    """A running large request.

    Attributes:
        until_ms: Time after which the entry no longer counts, epoch milliseconds.
    """

    token_id: str
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeRequests(StoredItem):
    """Large requests in work.

    Attributes:
        version: Version number for conditional writes, so that no concurrent change is lost.
    """

    key: ClassVar[Key] = LARGE_KEY
    version: int = 0
    entries: Mapping[str, LargeRequest] = field(default_factory=dict)

    def of(self, token_id: str) -> int:
        """Number of entries of a token."""
        return sum(each.token_id == token_id for each in self.entries.values())

    def at(self, now_ms: int) -> LargeRequests:
        """The list without expired entries."""
        left = {name: each for name, each in self.entries.items() if each.until_ms > now_ms}
        return replace(self, entries=left)
