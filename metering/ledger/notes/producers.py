"""Registered producers: `W#producers`, the producer's name; and the last refusal of a sender: `W#refused-senders`.

People register producers, and no registration expires. A note of a refused sender keeps its alert from being sent again
within the hour.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.errors import LedgerCorruptError
from metering.intake.senders.producers import Producer, Registry, role_of
from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.writes import Item, Value

PRODUCERS_PK = f"{NOTE}producers"
REFUSED_SENDERS_PK = f"{NOTE}refused-senders"
_LOG = logging.getLogger(__name__)
_REMEMBERED_S = 7 * DAY_S
# A registry that was read is good for this long.
KNOWN_MS = MINUTE_S * 1000
# An item of 400 KB holds more; a producer with more accounts has all of them.
MAX_ACCOUNTS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredProducer:
    """A producer as a person registered it.

    Attributes:
        name: What it is called.
        role_id: Unique id of its role when it was registered. A role that is made anew has another one.
        role_arn: That role.
        trusted_arn: Role or account whose workloads may take it.
        accounts: Accounts that it may meter, sorted; None for all.
        registered_s: When, epoch seconds.
        registered_by: ARN of who did.
    """

    name: str
    role_id: str
    role_arn: str
    trusted_arn: str
    accounts: tuple[str, ...] | None
    registered_s: int
    registered_by: str

    @property
    def key(self) -> Key:
        return producer_key(self.name)

    def producer(self) -> Producer:
        """What batches are judged by."""
        return Producer(
            name=self.name,
            role_id=self.role_id,
            accounts=None if self.accounts is None else frozenset(self.accounts),
        )

    def to_item(self) -> dict[str, Value]:
        return {
            **self.key._asdict(),
            "role_id": self.role_id,
            "role_arn": self.role_arn,
            "trusted_arn": self.trusted_arn,
            "all_accounts": self.accounts is None,
            "accounts": list(self.accounts or ()),
            "registered_s": self.registered_s,
            "registered_by": self.registered_by,
        }

    @classmethod
    def from_item(cls, item: Item) -> RegisteredProducer:
        """Decode the item; the inverse of `to_item`.

        Raises:
            LedgerCorruptError: It is no registered producer.
        """
        fields = Fields.of_item(item)
        named, everyone = fields.texts("accounts"), fields.flag("all_accounts")
        if named and everyone:
            fields.fail("all_accounts", "all accounts or those that are named")
        made = cls(
            name=fields.text("sk"),
            role_id=fields.text("role_id"),
            role_arn=fields.text("role_arn"),
            trusted_arn=fields.text("trusted_arn"),
            accounts=None if everyone else named,
            registered_s=fields.whole("registered_s"),
            registered_by=fields.any_text("registered_by"),
        )
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownProducer:
    """A registered producer, and what is wrong with it.

    Attributes:
        registered: As it was registered.
        warnings: Why its batches are or will be refused, a sentence each. Empty: all is well.
        told_s: When people were last told that its role sent what it may not; None if not within a week.
    """

    registered: RegisteredProducer
    warnings: tuple[str, ...]
    told_s: int | None


def may_be_refused(items: ItemStore) -> bool:
    """Whether batches may be refused for their sender: a producer is registered, or one was refused within a week.

    A stage that registers producers and has none refuses all, and tells of it.
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
    """The note that people were told of a refused sender in this hour."""
    key = refused_sender_key(sender_id, now_s)
    return {**key._asdict(), "told_s": now_s, "expires_at": now_s + _REMEMBERED_S}


def refused_sender_key(sender_id: str, now_s: int) -> Key:
    """Key of that note: one for each role and hour. Sessions of one role are one sender."""
    return Key(REFUSED_SENDERS_PK, f"{role_of(sender_id)[:128]}#{now_s // HOUR_S}")


def refused_senders(items: ItemStore) -> Iterator[tuple[str, int]]:
    """Roles of senders that people were told of, and when, epoch seconds."""
    for item in items.query(Table.LEDGER, REFUSED_SENDERS_PK):
        fields = Fields.of_item(item)
        yield fields.text("sk").rpartition("#")[0], fields.whole("told_s")


@dataclass(slots=True, kw_only=True)
class LedgerProducers:
    """`KnownProducers` over the ledger. One read a minute and process, whatever the number of messages. Mutable.

    An item that cannot be read is left out and logged: its producer waits in quarantine, and all others go on.
    """

    items: ItemStore
    clock: Clock
    _registry: Registry | None = field(default=None, init=False)

    def known(self, *, since_ms: int | None = None) -> Registry:
        now_ms = self.clock.now_ms()
        registry = self._registry
        oldest_ms = now_ms - KNOWN_MS if since_ms is None else min(since_ms, now_ms)
        # A clock that was put back must not make a cache that lives for long.
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
