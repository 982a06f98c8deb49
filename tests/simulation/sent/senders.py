"""Registered producers of a history, and foreign senders that use the producers' batch ids.

The owner of a batch is the sender of its first content. A table of owners, not production code, decides who may send.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from metering.intake.records import body_hash
from metering.intake.senders import ServiceSenders
from metering.ledger.notes.access import RegisteredProducer
from metering.stores.objects import disallowed_batch_key
from metering.stores.writes import Put, Table

if TYPE_CHECKING:
    from tests.simulation.sent.traffic import Sending, SentContent, Traffic
    from tests.support.memory.items import MemoryItemStore

OPERATOR = "operator"
SERVICES = ServiceSenders(operators=frozenset({OPERATOR}), onramp="on-ramp", canary="canary")
_PRODUCERS = ("S1", "S2")
_STRANGER = "X"
_SHARE = 0.3
_RETRIED = "retry "


class SentBy(NamedTuple):
    """Original sender of a message, and whether an operator retried the message from quarantine."""

    role: str
    retried: bool


NOBODY = SentBy("", retried=False)


def sent_by(sender_id: str, stated: str) -> SentBy:
    """The original sender of a message. Only operators may state the original sender."""
    role = sender_id.partition(":")[0]
    if role != OPERATOR or not stated:
        return SentBy(role, retried=False)
    return SentBy(stated.removeprefix(_RETRIED).partition(":")[0], retried=stated.startswith(_RETRIED))


class Senders:
    """The owners of batches in a history; no effect if the stage of the history does not check senders."""

    def __init__(self, seed: int, *, judged: bool | None = None) -> None:
        self._seed = seed
        share = random.Random(f"senders {seed}").random()
        self.judged = share < _SHARE if judged is None else judged
        self.owners: dict[str, str] = {}

    @classmethod
    def none(cls) -> Senders:
        """Nobody is judged."""
        return cls(0, judged=False)

    def register(self, items: MemoryItemStore) -> None:
        for role in _PRODUCERS if self.judged else ():
            producer = RegisteredProducer(
                name=role.lower(),
                role_id=role,
                role_arn="arn",
                trusted_arn="arn",
                accounts=None,
                registered_s=0,
                registered_by="",
            )
            items.put(Put(table=Table.LEDGER, item=producer.to_item()))

    def take_over(self, traffic: Traffic) -> int:
        """Prefix batch ids with owners, add foreign senders' messages, and return the number of attacked contents."""
        if not self.judged:
            return 0
        named: dict[str, SentContent] = {}
        firsts = {each.batch_id: each.sender_id for each in reversed(traffic.contents.values()) if not each.retries}
        for name, content in traffic.contents.items():
            first = content if content.retries is None else content.retries
            owner = firsts[first.batch_id]
            named[name] = self._retry(content, named) if content.retries else self._owned(content, owner)
        traffic.contents.clear()
        traffic.contents.update(named)
        return sum(self._attack(traffic, content) for content in list(named.values()) if content.retries is None)

    def _owned(self, content: SentContent, owner: str) -> SentContent:
        batch_id = f"{owner.lower()}:{content.batch_id}"
        self.owners[batch_id] = owner
        return replace(
            content,
            batch_id=batch_id,
            location=content.location and f"ingest/{owner.lower()}/{content.batch_id}",
            rows=tuple(row._replace(batch_id=batch_id) for row in content.rows),
        )

    @staticmethod
    def _retry(content: SentContent, named: dict[str, SentContent]) -> SentContent:
        assert content.retries is not None
        first = named[content.retries.name]
        return replace(content, retries=first, location=first.location)

    def _attack(self, traffic: Traffic, content: SentContent) -> int:
        chance = random.Random(f"attack {self._seed} {content.name}")
        if chance.random() < 0.5:
            return 0
        others = [role for role in (*_PRODUCERS, _STRANGER) if role != self.owners[content.batch_id]]
        own = [each for each in traffic.sendings if each.content == content.name]
        for _ in range(1 + chance.randrange(3)):
            sender = f"{chance.choice(others)}:{self.owners[content.batch_id]}"
            near = chance.choice(own)
            after_ms = max(0, near.after_ms + chance.randrange(-2000, 2000))
            taken = content if chance.random() < 0.5 else self._forged(traffic, content, sender)
            traffic.sendings.append(near._replace(after_ms=after_ms, content=taken.name, sender_id=sender))
        return 1

    @staticmethod
    def _forged(traffic: Traffic, content: SentContent, sender: str) -> SentContent:
        """Other content under the same batch id, which its owner may not have used yet."""
        name = f"{content.name}.forged"
        rows = tuple(row._replace(resource_id=f"{name}/{n}") for n, row in enumerate(content.rows))
        forged = replace(
            content, name=name, content_hash=f"h-{name}", sender_id=sender, rows=rows, refused="", location=""
        )
        return traffic.contents.setdefault(name, forged)

    def stated(self, sending: Sending, content: SentContent) -> str:
        """A sender's statement. Foreign senders may claim that the owner sent the message."""
        if not self.judged:
            return ""
        if content.retries is not None:
            return f"{_RETRIED}{content.retries.sender_id}"
        owner = self.owners[content.batch_id]
        return f"{owner}:x" if sending.sender_id.startswith(_STRANGER) else ""

    def may_send(self, content: SentContent, sender: SentBy) -> bool:
        """Whether a sender may send a content, as the owner of its batch id."""
        if not self.judged:
            return True
        first = content.retries or content
        return self.owners[first.batch_id] == sender.role and (content.retries is None or sender.retried)

    @staticmethod
    def refusal_key(content: SentContent, sender: SentBy) -> str:
        """Quarantine key of a content from a forbidden sender."""
        return disallowed_batch_key(sender.role, content.batch_id, body_hash(content.name))
