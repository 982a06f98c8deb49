"""Producers of a region, what each may send, and the check of batches against their senders."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from metering.intake.batches import DecodedBatch, RefusedBatch
from metering.intake.work import Problem, Reason, problem, quoted
from metering.stores.objects import DROP_PREFIX, INGEST_PREFIX, LOG_PARTS_PREFIX, RETRY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.stores import queues


# The name is part of an IAM role's name, which has at most 64 characters and is case-insensitive.
MAX_NAME_CHARS = 28
_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{MAX_NAME_CHARS - 1}}}")
# First words of ids that the service itself creates, and folders that it uses below ingest/.
_RESERVED = frozenset({"retry", "canary", "logs", "log", "s3", "s3c", "ingest", "drop"})
# Characters that may follow a name in an id. No name has such a character, so `edge` does not own the ids of `edge-2`.
_AFTER_NAME = ("/", ":")


def is_producer_name(name: str) -> bool:
    """Whether a producer may have this name."""
    return _NAME.fullmatch(name) is not None and name not in _RESERVED


def role_of(sender_id: str) -> str:
    """Unique id of the role or user in a SenderId. The rest of a SenderId is a session name, chosen by the caller."""
    return sender_id.partition(":")[0]


def owner_of_id(text: str) -> str:
    """Name of the producer that owns a batch id or source id, by the id's form; empty if the id names no producer."""
    name = re.split("[/:]", text, maxsplit=1)[0]
    return name if is_producer_name(name) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """A registered producer.

    Attributes:
        name: Name of the producer; every id and key that the producer owns begins with this name.
        role_id: Unique id of the producer's role, as in SQS's SenderId.
        accounts: Accounts that the producer may meter; None for all.
    """

    name: str
    role_id: str
    accounts: frozenset[str] | None

    def owns_batch(self, batch_id: str) -> bool:
        return batch_id.startswith(tuple(self.name + mark for mark in _AFTER_NAME))

    def owns_source(self, source_id: str) -> bool:
        return source_id == self.name or self.owns_batch(source_id)

    def owns_ingested(self, key: str) -> bool:
        """Whether messages of this producer may refer to an object."""
        return key.startswith(f"{INGEST_PREFIX}{self.name}/")

    def owns_dropped(self, key: str) -> bool:
        """Whether the producer owns an object below `drop/`."""
        return key.startswith(f"{DROP_PREFIX}{self.name}/")

    def foreign_accounts(self, accounts: Iterable[str]) -> list[str]:
        """Those of the given accounts that the producer may not meter, sorted."""
        return [] if self.accounts is None else sorted(set(accounts) - self.accounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSenders:
    """Unique ids of the service's own roles, as the stacks output them.

    Attributes:
        operators: Operators' role: may resend for another sender, and meter log files by hand.
        onramp: On-ramp's role: sends the parts of log files. Empty in a region without log sources.
    """

    operators: frozenset[str] = frozenset()
    onramp: str = ""
    canary: str = ""


def encode_services(*, operators: Iterable[str], onramp: str, canary: str) -> str:
    """The service's own senders as one JSON text, for a function's environment and a stack output.

    Args:
        operators: Unique ids of roles, as in SQS's SenderIds.
        onramp: Unique id of the on-ramp's role; empty in a region without log sources.
        canary: Unique id of the canary's role.
    """
    document = {"canary": canary, "onramp": onramp, "operators": list(operators)}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def decode_services(text: str) -> ServiceSenders:
    """The service's own senders, decoded from the text of `encode_services`.

    Raises:
        ValueError: The text was not written by `encode_services`.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or set(document) != {"canary", "onramp", "operators"}:
        raise ValueError("the senders of the service are an object of canary, onramp and operators")
    operators, onramp, canary = document["operators"], document["onramp"], document["canary"]
    texts = [onramp, canary, *operators] if isinstance(operators, list) else [None]
    if not all(isinstance(each, str) for each in texts):
        raise ValueError("the senders of the service are unique ids of roles")
    return ServiceSenders(operators=frozenset(filter(None, operators)), onramp=onramp, canary=canary)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """The registered producers of a region, as read at one time.

    Attributes:
        read_ms: Start of the read, epoch milliseconds.
    """

    producers: Mapping[str, Producer]
    read_ms: int
    _by_role: dict[str, Producer] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_role", {each.role_id: each for each in self.producers.values()})

    def of_role(self, role_id: str) -> Producer | None:
        return self._by_role.get(role_id)

    def of_dropped(self, key: str) -> Producer | None:
        """The producer that owns an object below `drop/`."""
        name, slash, _ = key.removeprefix(DROP_PREFIX).partition("/")
        return self.producers.get(name) if slash and key.startswith(DROP_PREFIX) else None


class KnownProducers(Protocol):
    """The registry of a region."""

    def known(self, *, since_ms: int | None = None) -> Registry:
        """The registry, possibly cached for a short time.

        Args:
            since_ms: Read the registry again if the last read began before this time.

        Raises:
            UnavailableError: The ledger did not answer.
        """


# These values are repeated from the packages that make such ids, because this package must not import them.
_RETRY_IDS = "retry:"
_CANARY_IDS = "canary:"
_CANARY_ACCOUNT_ID = "000000000000"
# Prefix of the sender in a retry. No SenderId contains a space.
_RETRIED = "retry "
# A refusal names at most this many accounts.
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The sender against whom a delivery's batches are checked.

    Attributes:
        sender_id: Original sender: the message's sender, or the sender that an operator states for a retry or redrive.
        retried: Whether the service made this message and its batch id from quarantined content. Only such messages may
            have a retry's id.
    """

    sender_id: str
    retried: bool = False

    @property
    def role_id(self) -> str:
        return role_of(self.sender_id)


def statement(sender: Judged) -> str:
    """Statement of an operator who resends a message: its original sender, and whether it is a retry."""
    return f"{_RETRIED}{sender.sender_id}" if sender.retried else sender.sender_id


def judged_sender(delivery: queues.Delivery, services: ServiceSenders) -> Judged:
    """The sender against whom a delivery's batches are checked. Only an operator may state another sender."""
    stated = delivery.stated_sender
    if stated and role_of(delivery.sender_id) in services.operators:
        return Judged(sender_id=stated.removeprefix(_RETRIED), retried=stated.startswith(_RETRIED))
    return Judged(sender_id=delivery.sender_id)


def problems_of_sender(
    batch: DecodedBatch | RefusedBatch, sender: Judged, *, registry: Registry, services: ServiceSenders
) -> tuple[Problem, ...]:
    """Problems of a batch that its sender may not send, or may send only in part."""
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
        """A notification. S3 is no producer: the key's prefix names the owner, which alone can put the object."""
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
        # When refused records are resent, they are in an object of the service.
        return own or (retried and self.batch.object_key.startswith(RETRY_PREFIX))

    def _accounts(self, producer: Producer) -> Iterator[str]:
        foreign = producer.foreign_accounts(self._metered())
        if foreign:
            more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
            yield f"{producer.name} does not own account {', '.join(foreign[:_NAMED])}{more}"

    def _metered(self) -> set[str]:
        """Accounts that would be metered. Refused records are checked again when they are retried."""
        return {key.account_id for key in self.batch.usage} if isinstance(self.batch, DecodedBatch) else set()

    def _of_canary(self) -> Iterator[str]:
        if not self.batch.batch_id.startswith(_CANARY_IDS) or self.batch.object_key:
            yield f"batch {quoted(self.batch.batch_id)} is not the canary's"
        if self._metered() - {_CANARY_ACCOUNT_ID}:
            yield "the canary meters its own account only"

    def _of_onramp(self) -> Iterator[str]:
        """Parts of log files may meter any account. `metering ingest` sends parts as the on-ramp does."""
        batch = self.batch
        retried = self.sender.retried and batch.batch_id.startswith(_RETRY_IDS)
        if not self._may_read(batch.object_key.startswith(LOG_PARTS_PREFIX), retried=retried):
            yield f"{quoted(batch.object_key or batch.batch_id)} is no part of a log file"
        for batch_id in (batch.batch_id, batch.retry_of):
            owner = self.registry.producers.get(owner_of_id(batch_id))
            if owner is not None or batch_id.startswith(_CANARY_IDS):
                yield f"batch id {quoted(batch_id)} is none of a log file"
