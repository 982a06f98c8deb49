"""Producers of a region, and what each of them owns: accounts, batch ids, source ids and two prefixes of the bucket."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from metering.stores.bucket import DROP_PREFIX, INGEST_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Part of the name of an IAM role, which has 64 characters at most and does not tell upper from lower case.
MAX_NAME_CHARS = 28
_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{MAX_NAME_CHARS - 1}}}")
# First words of ids that the service makes itself, and folders that it keeps below ingest/.
_RESERVED = frozenset({"retry", "canary", "logs", "log", "s3", "ingest", "drop"})
# What may follow a name in an id. No name has one of them, so `edge` does not own the ids of `edge-2`.
_AFTER_NAME = ("/", ":")


def is_producer_name(name: str) -> bool:
    """Whether a producer may be called so."""
    return _NAME.fullmatch(name) is not None and name not in _RESERVED


def role_of(sender_id: str) -> str:
    """Unique id of the role or user behind a SenderId. What follows its colon is the session, which callers choose."""
    return sender_id.partition(":")[0]


def owner_of_id(text: str) -> str:
    """Name of the producer that would own a batch id or a source id; empty if no name could."""
    name = re.split("[/:]", text, maxsplit=1)[0]
    return name if is_producer_name(name) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """A registered producer.

    Attributes:
        name: What it is called; part of all that it owns.
        role_id: Unique id of its role, as SQS says it of a sender.
        accounts: Accounts that it may meter; None for all.
    """

    name: str
    role_id: str
    accounts: frozenset[str] | None

    def owns_batch(self, batch_id: str) -> bool:
        """Whether a batch id is its own."""
        return batch_id.startswith(tuple(self.name + mark for mark in _AFTER_NAME))

    def owns_source(self, source_id: str) -> bool:
        """Whether a source id is its own."""
        return source_id == self.name or self.owns_batch(source_id)

    def owns_ingested(self, key: str) -> bool:
        """Whether messages of this producer may point to an object."""
        return key.startswith(f"{INGEST_PREFIX}{self.name}/")

    def owns_dropped(self, key: str) -> bool:
        """Whether an object below `drop/` is its own."""
        return key.startswith(f"{DROP_PREFIX}{self.name}/")

    def foreign_accounts(self, accounts: Iterable[str]) -> list[str]:
        """Those of the accounts that it may not meter, sorted."""
        return [] if self.accounts is None else sorted(set(accounts) - self.accounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSenders:
    """Unique ids of the roles of the service itself, which the stacks know.

    Attributes:
        operators: May send again for another sender, and meter log files by hand.
        onramp: Sends the parts of log files. Empty in a region without log sources.
        canary: Sends the canary's batches.
    """

    operators: frozenset[str] = frozenset()
    onramp: str = ""
    canary: str = ""


def encode_services(*, operators: Iterable[str], onramp: str, canary: str) -> str:
    """The service's own senders as one JSON text, for the environment of a function and an output of its stack.

    Args:
        operators: Unique ids of roles, as SQS says them of its senders.
        onramp: Likewise; empty in a region without log sources.
        canary: Likewise.
    """
    document = {"canary": canary, "onramp": onramp, "operators": list(operators)}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def decode_services(text: str) -> ServiceSenders:
    """The service's own senders from the text of `encode_services`.

    Raises:
        ValueError: The text is none of `encode_services`.
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
    """The producers of a region as they were read at one moment.

    Attributes:
        producers: By name.
        read_ms: When the reading began, epoch milliseconds.
    """

    producers: Mapping[str, Producer]
    read_ms: int
    _by_role: dict[str, Producer] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_role", {each.role_id: each for each in self.producers.values()})

    def of_role(self, role_id: str) -> Producer | None:
        """The producer that has a role."""
        return self._by_role.get(role_id)

    def of_dropped(self, key: str) -> Producer | None:
        """The producer that owns an object below `drop/`."""
        name, slash, _ = key.removeprefix(DROP_PREFIX).partition("/")
        return self.producers.get(name) if slash and key.startswith(DROP_PREFIX) else None


class KnownProducers(Protocol):
    """The registry of a region."""

    def known(self, *, since_ms: int | None = None) -> Registry:
        """The registry as of a short while ago.

        Args:
            since_ms: Read it again if it was read before this moment.

        Raises:
            UnavailableError: The ledger did not answer.
        """
        ...
