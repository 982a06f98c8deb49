"""Access control: producers with their IAM roles may send, holders of tokens may use the HTTP API."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from metering.errors import ConditionFailedError, OperationFailedError
from metering.intake.senders import MAX_NAME_CHARS, is_producer_name, role_of
from metering.ledger import markers
from metering.ledger.notes import access
from metering.ledger.notes.checks import CANARY_PK, CanaryRun, canary_batch_id
from metering.stores.writes import Absent, AllOf, Delete, Equals, Exists, ItemStore, Put, Table, read_note
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from metering.stores.clock import Clock

_ACCOUNT = re.compile(r"[0-9]{12}")
_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:(root|(role|user)/[A-Za-z0-9+=,.@_/-]{1,576})")
# On an emulator, every message has this sender.
_ACCOUNT_SENDER = re.compile(r"[0-9]{12}(:.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerRole:
    """Role of a producer in IAM.

    Attributes:
        role_id: Unique id; a re-created role has a different id.
        trusted: ARNs of the principals that may assume the role. For deleted principals, IAM returns the unique id.
    """

    arn: str
    role_id: str
    trusted: tuple[str, ...]


class ProducerRoles(Protocol):
    """Roles of a stage's producers. Producers with the same name in several regions share one role."""

    def find(self, name: str) -> ProducerRole | None:
        """The role of a producer; None if it has no role."""

    def put(self, name: str, *, trusted_arn: str) -> ProducerRole:
        """Create a producer's role, or correct its trust policy and its permissions in this region.

        Args:
            name: The producer.
            trusted_arn: Role, user or account that may assume the role; empty for the stage's account.

        Raises:
            OperationFailedError: IAM rejects the trust policy: the role, user or account does not exist.
        """

    def remove(self, name: str) -> bool:
        """Remove a role's permissions in this region; return whether the role had no others and was deleted."""


def producer_problems(*, name: str, accounts: Sequence[str] | None, trusted_arn: str) -> list[str]:
    """Problems that prevent a registration, each described in one sentence."""
    problems = []
    if not is_producer_name(name):
        problems.append(
            f"{name!r} is no name of a producer: up to {MAX_NAME_CHARS} small letters, digits, dots, underscores and "
            "hyphens, and no word that the service uses for its own ids, such as retry or canary."
        )
    if accounts is not None:
        problems += [f"{each!r} is no account: it has 12 digits." for each in accounts if not _ACCOUNT.fullmatch(each)]
        if not 0 < len(accounts) <= access.MAX_ACCOUNTS:
            problems.append(f"A producer has 1 to {access.MAX_ACCOUNTS} accounts, or all.")
    if trusted_arn and not _PRINCIPAL.fullmatch(trusted_arn):
        problems.append(f"{trusted_arn!r} is no ARN of a role, a user or an account's root.")
    return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerBook:
    """Registered producers of one region."""

    items: ItemStore
    roles: ProducerRoles
    clock: Clock

    def add(
        self, name: str, *, accounts: Sequence[str] | None, trusted_arn: str, registered_by: str
    ) -> access.RegisteredProducer:
        """Register a producer, or replace a producer's registration (accounts, trusted principal, role).

        A killed call may be repeated: the role is created before its entry, and a role without an entry is refused.

        Args:
            name: Its name.
            accounts: Accounts that the producer may meter; None for all.
            trusted_arn: Role, user or account whose workloads may assume the role; empty for the account of the stage.
            registered_by: ARN of the caller.

        Raises:
            OperationFailedError: The request is invalid; the error names all problems, and nothing was changed.
            UnavailableError: IAM or the ledger did not respond.
        """
        problems = producer_problems(name=name, accounts=accounts, trusted_arn=trusted_arn)
        if problems:
            raise OperationFailedError(" ".join(problems), "Nobody was registered.")
        role = self.roles.put(name, trusted_arn=trusted_arn)
        made = access.RegisteredProducer(
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

    def everyone(self) -> list[access.RegisteredProducer]:
        """All registered producers, sorted by name."""
        return list(access.registered(self.items))

    def get(self, name: str) -> access.RegisteredProducer | None:
        """Producer with this name; None if no such producer is registered."""
        return read_note(self.items, access.producer_key(name), access.RegisteredProducer.from_item)

    def find(self, name: str) -> access.RegisteredProducer:
        """Producer of a name.

        Raises:
            OperationFailedError: There is none.
        """
        found = self.get(name)
        if found is None:
            raise OperationFailedError(
                f"There is no registered producer {name}.", "See all of them with: metering producers list"
            )
        return found

    def show(self, name: str) -> access.ShownProducer:
        """A producer, with a warning about each reason why its batches are or may be refused.

        Raises:
            OperationFailedError: There is none.
        """
        found = self.find(name)
        told = [told_s for role_id, told_s in access.refused_senders(self.items) if role_id == found.role_id]
        warnings = [*self._of_role(found), *self._of_senders()]
        return access.ShownProducer(registered=found, warnings=tuple(warnings), told_s=max(told, default=None))

    def remove(self, name: str) -> bool:
        """Remove a producer's entry, then its role's permissions in this region; return whether the role was deleted.

        Raises:
            OperationFailedError: There is none.
        """
        found = self.find(name)
        self.items.delete(Delete(table=Table.LEDGER, key=found.key))
        return self.roles.remove(name)

    def _of_role(self, found: access.RegisteredProducer) -> list[str]:
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
        """Warn if SQS reports one sender id for all senders, as the canary's newest marker shows."""
        for item in self.items.query(Table.LEDGER, CANARY_PK, descending=True):
            slot_s = CanaryRun.from_item(item).slot_s
            marker = read_note(self.items, markers.marker_key(canary_batch_id(slot_s)), markers.Marker.from_item)
            if marker is not None and marker.sender_id:
                account = role_of(marker.sender_id)
                told = f"This endpoint calls every sender {account}, its account, so it cannot tell producers."
                return [told] if _ACCOUNT_SENDER.fullmatch(marker.sender_id) else []
        # If senders are checked and all have the same name, the canary is also refused, and no marker is written.
        for sender, _ in access.refused_senders(self.items):
            if _ACCOUNT_SENDER.fullmatch(sender):
                return [
                    f"No canary was metered yet, and what {sender} sent was refused: that is an account. An endpoint "
                    "that calls every sender so, as emulators do, cannot tell producers, and takes no batch of theirs."
                ]
        return ["No canary was metered yet, so nobody knows what SQS calls a sender here."]


# Tokens of the HTTP API are created, listed and revoked here. `mtr_<id>_<secret>` is shown once, to its creator.
#
# The secret has 256 random bits, so a plain SHA-256 suffices: nobody can try all values. Id and secret are hex digits,
# so that a double click selects a whole token, and secret scanners can recognise the format.


MAX_LIFE_S = 366 * DAY_S
# Maximum number of accounts per token, because a request that names no accounts reads all of the token's accounts.
MAX_ACCOUNTS = 100
MAX_LABEL_CHARACTERS = 128
TOKEN_PATTERN = re.compile(r"mtr_([0-9a-f]{16})_([0-9a-f]{64})")
_ID = re.compile(r"[0-9a-f]{16}")
_LABEL = re.compile(r"[^\x00-\x1f\x7f-\x9f]*")
_ID_BYTES = 8
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeToken:
    """A new token.

    Attributes:
        text: Sent by its holder. The token's text is stored nowhere, and the object's repr omits it.
    """

    text: str = field(repr=False)
    stored: access.StoredToken


def secret_sha256(secret: str) -> str:
    """Hash of a secret, as stored in the ledger: 64 hex digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def token_parts(text: str) -> tuple[str, str] | None:
    """Split a token into its id and its secret; return None if the text is not a token."""
    # A token has 85 characters. Longer texts are not examined.
    found = TOKEN_PATTERN.fullmatch(text) if len(text) < 100 else None
    return None if found is None else (found[1], found[2])


def _chance(size: int) -> bytes:
    return secrets.token_bytes(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBook:
    """Tokens of one region. `draw` gives random bytes."""

    items: ItemStore
    clock: Clock
    draw: Callable[[int], bytes] = _chance

    def create(
        self,
        *,
        role: access.Role,
        accounts: Collection[str] | None,
        life_s: int,
        made_by: str,
        label: str = "",
        costs: bool = False,
    ) -> MadeToken:
        """Create a token, and store the hash of its secret.

        Args:
            role: Role that determines which responses the token's holder may get.
            accounts: Accounts that the token's holder may see, 1 to 100; None for all (never for a customer).
            life_s: Lifetime in seconds: 1 to 366 days.
            made_by: ARN of the caller.
            label: Name for people, at most 128 characters.
            costs: See `StoredToken`. A token for all accounts always shows costs.

        Raises:
            OperationFailedError: An argument is invalid; the error names every problem, and no token was created.
            UnavailableError: The ledger did not answer. The token may have been stored, but its text is lost.
        """
        problems = token_problems(role=role, accounts=accounts, life_s=life_s, label=label)
        if problems:
            raise OperationFailedError(" ".join(problems), "No token was made.")
        now_s = self.clock.now_ms() // 1000
        while True:
            token_id, secret = self.draw(_ID_BYTES).hex(), self.draw(_SECRET_BYTES).hex()
            stored = access.StoredToken(
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
                # The id already exists, so another id is drawn: no token may replace another.
                continue
            return MadeToken(text=f"mtr_{token_id}_{secret}", stored=stored)

    def list(self) -> list[access.StoredToken]:
        """All tokens, the newest first. DynamoDB deletes expired tokens within days."""
        found = (access.StoredToken.from_item(item) for item in self.items.query(Table.LEDGER, access.TOKENS_PK))
        return sorted(found, key=lambda each: (-each.made_s, each.token_id))

    def find(self, token_id: str) -> access.StoredToken:
        """The token with this id; the argument may also be a whole token.

        Raises:
            OperationFailedError: There is none.
        """
        whole = token_parts(token_id)
        wanted = token_id if whole is None else whole[0]
        item = self.items.get(Table.LEDGER, access.token_key(wanted)) if _ID.fullmatch(wanted) else None
        if item is None:
            # The typed text may be a secret or part of one, so the error does not repeat the text.
            raise OperationFailedError("There is no token of this id.", "See all of them with: metering token list")
        return access.StoredToken.from_item(item)

    def revoke(self, token_id: str, *, revoked_by: str) -> access.StoredToken:
        """Revoke a token. A process that has just checked the token may accept it for up to a minute.

        A token that is already revoked stays unchanged.

        Raises:
            OperationFailedError: There is no such token.
            UnavailableError: The ledger did not answer.
        """
        found = self.find(token_id)
        if found.revoked_s:
            return found
        revoked = replace(found, revoked_by=revoked_by, revoked_s=max(1, self.clock.now_ms() // 1000))
        unrevoked = AllOf((Exists(), Equals(attribute="revoked_s", value=0)))
        try:
            self.items.put(Put(table=Table.LEDGER, item=revoked.to_item(), condition=unrevoked))
        except ConditionFailedError:
            return self.find(found.token_id)
        return revoked


def token_problems(*, role: access.Role, accounts: Collection[str] | None, life_s: int, label: str) -> list[str]:
    """Problems of these token arguments, each described in one sentence."""
    problems = []
    if role is access.Role.CUSTOMER and not accounts:
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
