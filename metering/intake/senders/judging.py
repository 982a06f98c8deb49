"""The judgement of one batch by its sender: nobody sends what another one owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.intake.batches import DecodedBatch
from metering.intake.reasons import Problem, Reason, problem, quoted
from metering.intake.senders.producers import Producer, Registry, ServiceSenders, owner_of_id, role_of
from metering.stores.bucket import LOG_PARTS_PREFIX, RETRY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.intake.batches import RefusedBatch
    from metering.stores.deliveries import Delivery

# As the rooms that make such ids name them; they come after this one.
_RETRY_IDS = "retry:"
_CANARY_IDS = "canary:"
_CANARY_ACCOUNT_ID = "000000000000"
# Begins the statement of a retry. No SenderId has a space.
_RETRIED = "retry "
# Accounts that a refusal names.
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The sender that a delivery is judged by.

    Attributes:
        sender_id: Who sent it first: the sender, or the one that an operator states for a retry or a redrive.
        retried: The service made this message, and its id, of what is in quarantine. No other message may have the id
            of a retry.
    """

    sender_id: str
    retried: bool = False

    @property
    def role_id(self) -> str:
        return role_of(self.sender_id)


def statement(sender: Judged) -> str:
    """What an operator states of a message that is sent again: its first sender, and whether it is a retry."""
    return f"{_RETRIED}{sender.sender_id}" if sender.retried else sender.sender_id


def judged_sender(delivery: Delivery, services: ServiceSenders) -> Judged:
    """The sender that a delivery is judged by. Only an operator may state another one; of others, it is ignored."""
    stated = delivery.stated_sender
    if stated and role_of(delivery.sender_id) in services.operators:
        return Judged(sender_id=stated.removeprefix(_RETRIED), retried=stated.startswith(_RETRIED))
    return Judged(sender_id=delivery.sender_id)


def problems_of_sender(
    batch: DecodedBatch | RefusedBatch, sender: Judged, *, registry: Registry, services: ServiceSenders
) -> tuple[Problem, ...]:
    """What a sender may not send of a batch; nothing if it may send all of it."""
    judge = _Judge(batch=batch, sender=sender, registry=registry, services=services)
    return tuple(problem(Reason.SENDER_NOT_ALLOWED, detail) for detail in judge.complaints())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    batch: DecodedBatch | RefusedBatch
    sender: Judged
    registry: Registry
    services: ServiceSenders

    def complaints(self) -> Iterator[str]:
        role_id = self.sender.role_id
        producer = self.registry.of_role(role_id)
        if self.batch.announced:
            return self._of_announced(producer)
        if producer is not None:
            return self._of_producer(producer)
        if role_id and role_id == self.services.canary:
            return self._of_canary()
        if role_id and (role_id == self.services.onramp or role_id in self.services.operators):
            return self._of_onramp()
        return iter([f"{quoted(role_id)} is no registered producer"])

    def _of_announced(self, producer: Producer | None) -> Iterator[str]:
        """A notification. S3 itself is no producer: then the object says whose it is, for only its owner can put it."""
        key = self.batch.object_key
        owner = producer or self.registry.of_dropped(key)
        if owner is None:
            yield f"no registered producer owns {quoted(key)}"
            return
        if not owner.owns_dropped(key):
            yield f"{owner.name} does not own {quoted(key)}"
        yield from self._accounts(owner)

    def _of_producer(self, producer: Producer) -> Iterator[str]:
        batch, name = self.batch, producer.name
        retried = self.sender.retried and batch.batch_id.startswith(_RETRY_IDS)
        if batch.batch_id and not retried and not producer.owns_batch(batch.batch_id):
            yield f"{name} does not own batch id {quoted(batch.batch_id)}"
        if batch.retry_of and not producer.owns_batch(batch.retry_of):
            yield f"{name} does not own batch id {quoted(batch.retry_of)}, which it retries"
        if batch.source_id and not producer.owns_source(batch.source_id):
            yield f"{name} does not own source id {quoted(batch.source_id)}"
        if batch.object_key and not self._may_read(producer.owns_ingested(batch.object_key), retried=retried):
            yield f"{name} does not own {quoted(batch.object_key)}"
        yield from self._accounts(producer)

    def _may_read(self, own: bool, *, retried: bool) -> bool:
        # Refused records that are sent again lie in an object of the service.
        return own or (retried and self.batch.object_key.startswith(RETRY_PREFIX))

    def _accounts(self, producer: Producer) -> Iterator[str]:
        foreign = producer.foreign_accounts(self._metered())
        if foreign:
            more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
            yield f"{producer.name} does not own account {', '.join(foreign[:_NAMED])}{more}"

    def _metered(self) -> set[str]:
        """Accounts that would be metered. Refused records are not, and are judged again when they are retried."""
        return {key.account_id for key in self.batch.usage} if isinstance(self.batch, DecodedBatch) else set()

    def _of_canary(self) -> Iterator[str]:
        if not self.batch.batch_id.startswith(_CANARY_IDS) or self.batch.object_key:
            yield f"batch {quoted(self.batch.batch_id)} is not the canary's"
        if self._metered() - {_CANARY_ACCOUNT_ID}:
            yield "the canary meters its own account only"

    def _of_onramp(self) -> Iterator[str]:
        """Parts of log files, of any account. A person's `metering ingest` sends them as the function does."""
        batch = self.batch
        retried = self.sender.retried and batch.batch_id.startswith(_RETRY_IDS)
        if not self._may_read(batch.object_key.startswith(LOG_PARTS_PREFIX), retried=retried):
            yield f"{quoted(batch.object_key or batch.batch_id)} is no part of a log file"
        for batch_id in (batch.batch_id, batch.retry_of):
            owner = self.registry.producers.get(owner_of_id(batch_id))
            if owner is not None or batch_id.startswith(_CANARY_IDS):
                yield f"batch id {quoted(batch_id)} is none of a log file"
