"""Producers of a region: registered, shown and removed. Each has a role that can write only what it owns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from metering.errors import OperationFailedError
from metering.intake.senders.producers import MAX_NAME_CHARS, is_producer_name, role_of
from metering.ledger.markers import Marker, marker_key
from metering.ledger.notes.canary_batches import canary_batch_id
from metering.ledger.notes.canary_runs import CANARY_PK, CanaryRun
from metering.ledger.notes.producers import (
    MAX_ACCOUNTS,
    RegisteredProducer,
    ShownProducer,
    producer_key,
    refused_senders,
    registered,
)
from metering.stores.writes import Delete, Put, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore

_ACCOUNT = re.compile(r"[0-9]{12}")
_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:(root|(role|user)/[A-Za-z0-9+=,.@_/-]{1,576})")
# What an emulator says of every sender.
_ACCOUNT_SENDER = re.compile(r"[0-9]{12}(:.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerRole:
    """The role of a producer as IAM has it.

    Attributes:
        arn: Its ARN.
        role_id: Its unique id, which a role that is made anew does not keep.
        trusted: Who may take it: ARNs. Of a role or user that is gone, IAM says its unique id in place of the ARN.
    """

    arn: str
    role_id: str
    trusted: tuple[str, ...]


class ProducerRoles(Protocol):
    """Roles of a stage's producers. Those of one name in several regions are one role."""

    def find(self, name: str) -> ProducerRole | None:
        """The role of a producer; None if there is none."""
        ...

    def put(self, name: str, *, trusted_arn: str) -> ProducerRole:
        """Make the role of a producer, or put right its trust and what it may do in this region.

        Args:
            name: The producer.
            trusted_arn: Role, user or account that may take it; empty for the account of the stage.

        Raises:
            OperationFailedError: IAM does not take the trust: there is no such role, user or account.
        """
        ...

    def remove(self, name: str) -> bool:
        """Take from a role what it may do in this region; returns whether that was the last, and the role is gone."""
        ...


def producer_problems(*, name: str, accounts: Sequence[str] | None, trusted_arn: str) -> list[str]:
    """Why nobody can be registered so, a sentence each."""
    problems = []
    if not is_producer_name(name):
        problems.append(
            f"{name!r} is no name of a producer: up to {MAX_NAME_CHARS} small letters, digits, dots, underscores and "
            "hyphens, and no word that the service uses for its own ids, such as retry or canary."
        )
    if accounts is not None:
        problems += [f"{each!r} is no account: it has 12 digits." for each in accounts if not _ACCOUNT.fullmatch(each)]
        if not 0 < len(accounts) <= MAX_ACCOUNTS:
            problems.append(f"A producer has 1 to {MAX_ACCOUNTS} accounts, or all.")
    if trusted_arn and not _PRINCIPAL.fullmatch(trusted_arn):
        problems.append(f"{trusted_arn!r} is no ARN of a role, a user or an account's root.")
    return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerBook:
    """The registered producers of one region.

    Attributes:
        items: Its ledger.
        roles: Their roles.
        clock: The time now.
    """

    items: ItemStore
    roles: ProducerRoles
    clock: Clock

    def add(
        self, name: str, *, accounts: Sequence[str] | None, trusted_arn: str, registered_by: str
    ) -> RegisteredProducer:
        """Register a producer, or register it anew with other accounts, another trust or a new role.

        It may be repeated and killed anywhere: the role comes first, and a role alone sends nothing that is taken.

        Args:
            name: What it is called.
            accounts: Accounts that it may meter; None for all.
            trusted_arn: Role, user or account whose workloads may take its role; empty for the account of the stage.
            registered_by: ARN of who registers it.

        Raises:
            OperationFailedError: One of these makes no sense; every problem is said, and nothing was done.
            UnavailableError: IAM or the ledger gave no answer.
        """
        problems = producer_problems(name=name, accounts=accounts, trusted_arn=trusted_arn)
        if problems:
            raise OperationFailedError(" ".join(problems), "Nobody was registered.")
        role = self.roles.put(name, trusted_arn=trusted_arn)
        made = RegisteredProducer(
            name=name,
            role_id=role.role_id,
            role_arn=role.arn,
            trusted_arn=trusted_arn or ", ".join(role.trusted),
            accounts=None if accounts is None else tuple(sorted(set(accounts))),
            registered_s=self.clock.now_ms() // 1000,
            registered_by=registered_by,
        )
        self.items.put(Put(table=Table.LEDGER, item=made.to_item()))
        return made

    def everyone(self) -> list[RegisteredProducer]:
        """All of them, by name.

        Raises:
            LedgerCorruptError: An item is none of a producer.
            UnavailableError: The ledger gave no answer.
        """
        return list(registered(self.items))

    def get(self, name: str) -> RegisteredProducer | None:
        """The producer of a name; None if nobody is registered so."""
        item = self.items.get(Table.LEDGER, producer_key(name))
        return None if item is None else RegisteredProducer.from_item(item)

    def find(self, name: str) -> RegisteredProducer:
        """The producer of a name.

        Raises:
            OperationFailedError: Nobody is registered so.
        """
        found = self.get(name)
        if found is None:
            raise OperationFailedError(
                f"There is no registered producer {name}.", "See all of them with: metering producers list"
            )
        return found

    def show(self, name: str) -> ShownProducer:
        """A producer, with all that keeps its batches from being taken.

        Raises:
            OperationFailedError: Nobody is registered so.
        """
        found = self.find(name)
        told = [told_s for role_id, told_s in refused_senders(self.items) if role_id == found.role_id]
        warnings = [*self._of_role(found), *self._of_senders()]
        return ShownProducer(registered=found, warnings=tuple(warnings), told_s=max(told, default=None))

    def remove(self, name: str) -> bool:
        """Take a producer out of the registry, then its role in this region; returns whether the role is gone.

        Raises:
            OperationFailedError: Nobody is registered so.
        """
        found = self.find(name)
        self.items.delete(Delete(table=Table.LEDGER, key=found.key))
        return self.roles.remove(name)

    def _of_role(self, found: RegisteredProducer) -> list[str]:
        again = f"Register it anew: metering producers add {found.name} …"
        role = self.roles.find(found.name)
        if role is None:
            return [f"Its role is gone, so it cannot send. {again}"]
        warnings = []
        if role.role_id != found.role_id:
            warnings.append(
                f"Its role was made anew: SQS calls it {role.role_id} and no longer {found.role_id}, so what it sends "
                f"is refused. {again}"
            )
        if gone := [each for each in role.trusted if not each.startswith("arn:")]:
            warnings.append(
                f"Its role trusts {gone[0]}, which is no longer there: whoever has its name now was made anew. {again}"
            )
        return warnings

    def _of_senders(self) -> list[str]:
        """What SQS calls senders here, which the canary's newest marker has."""
        for item in self.items.query(Table.LEDGER, CANARY_PK, descending=True):
            slot_s = CanaryRun.from_item(item).slot_s
            marker = self.items.get(Table.LEDGER, marker_key(canary_batch_id(slot_s)))
            sender = "" if marker is None else Marker.from_item(marker).sender_id
            if sender:
                return (
                    [f"This endpoint calls every sender {role_of(sender)}, its account, so it cannot tell producers."]
                    if _ACCOUNT_SENDER.fullmatch(sender)
                    else []
                )
        # Where senders are judged and all have one name, the canary is refused too, and no marker tells of it.
        for sender, _ in refused_senders(self.items):
            if _ACCOUNT_SENDER.fullmatch(sender):
                return [
                    f"No canary was metered yet, and what {sender} sent was refused: that is an account. An endpoint "
                    "that calls every sender so, as emulators do, cannot tell producers, and takes no batch of theirs."
                ]
        return ["No canary was metered yet, so nobody knows what SQS calls a sender here."]
