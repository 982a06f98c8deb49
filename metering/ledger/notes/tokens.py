"""Tokens of the HTTP API: `K#tokens`, the token's id. The secret is not here, only its SHA-256.

All tokens lie in one partition, so that one query lists them. A check is one strong read, remembered for a minute.
Items expire by TTL some time after their token has; until then, a revoked token stays and says who revoked it.

`W#api-large`, `W` has the large requests that are in work, in all processes of the function: an entry ends with its
request, or by its time if its process has ended. It is all that the function of the API ever writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.ledger.partitions import NOTE, TOKENS
from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.writes import Item, Value

TOKENS_PK = f"{TOKENS}tokens"
LARGE_KEY = Key(f"{NOTE}api-large", "W")


class Role(StrEnum):
    """Who asks: a customer sees its own accounts, an analyst all usage, an operator also the insides."""

    CUSTOMER = "customer"
    ANALYST = "analyst"
    OPERATOR = "operator"


def token_key(token_id: str) -> Key:
    """Key of a token."""
    return Key(TOKENS_PK, token_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredToken:
    """A token as it is kept.

    Attributes:
        token_id: Public part of the token: 16 hex digits.
        secret_sha256: SHA-256 of the secret part, 64 hex digits.
        role: What kinds of answers its holder gets.
        accounts: Accounts that its holder may see, sorted; None for all. A customer always has some.
        label: What people call it; may be empty.
        made_by: ARN of who made it.
        made_s: When, epoch seconds.
        expires_s: From then on it is refused, epoch seconds.
        costs: Its holder may see costs at tiers that its accounts share with others. Without it, it sees costs of
            payers all of whose accounts it sees. Tokens that were made before this was asked keep it until they expire.
        revoked_by: ARN of who revoked it; empty if nobody did.
        revoked_s: When; 0 if nobody did.
    """

    token_id: str
    secret_sha256: str
    role: Role
    accounts: tuple[str, ...] | None
    label: str
    made_by: str
    made_s: int
    expires_s: int
    costs: bool = False
    revoked_by: str = ""
    revoked_s: int = 0

    @property
    def key(self) -> Key:
        return token_key(self.token_id)

    def good_at(self, now_s: int) -> bool:
        """Whether it is neither expired nor revoked."""
        return not self.revoked_s and now_s < self.expires_s

    def to_item(self) -> dict[str, Value]:
        return {
            **self.key._asdict(),
            "token_id": self.token_id,
            "secret_sha256": self.secret_sha256,
            "role": self.role.value,
            # Said twice, so that a list that was lost never means all accounts.
            "all_accounts": self.accounts is None,
            "accounts": list(self.accounts or ()),
            "label": self.label,
            "made_by": self.made_by,
            "made_s": self.made_s,
            "expires_at": self.expires_s,
            "costs": self.costs,
            "revoked_by": self.revoked_by,
            "revoked_s": self.revoked_s,
        }

    @classmethod
    def from_item(cls, item: Item) -> StoredToken:
        fields = Fields.of_item(item)
        role = fields.one_of("role", tuple(Role))
        accounts = fields.texts("accounts")
        everything = fields.flag("all_accounts")
        if everything == bool(accounts) or (everything and role is Role.CUSTOMER):
            fields.fail("all_accounts", "true without accounts, or false with some, and false for a customer")
        made = cls(
            token_id=fields.text("token_id"),
            secret_sha256=fields.text("secret_sha256"),
            role=role,
            accounts=None if everything else accounts,
            label=fields.any_text("label"),
            made_by=fields.text("made_by"),
            made_s=fields.whole("made_s"),
            expires_s=fields.whole("expires_at"),
            costs=fields.flag("costs", absent=True),
            revoked_by=fields.any_text("revoked_by"),
            revoked_s=fields.whole("revoked_s"),
        )
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeRequest:
    """A large request in work.

    Attributes:
        token_id: Whose it is.
        until_ms: It counts no longer than this, epoch milliseconds.
    """

    token_id: str
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeRequests:
    """Large requests in work.

    Attributes:
        version: Counts the changes, so that none is lost.
        entries: By a random name.
    """

    version: int = 0
    entries: Mapping[str, LargeRequest] = field(default_factory=dict)

    def of(self, token_id: str) -> int:
        """How many a token has."""
        return sum(each.token_id == token_id for each in self.entries.values())

    def at(self, now_ms: int) -> LargeRequests:
        """Without those whose time is over."""
        left = {name: each for name, each in self.entries.items() if each.until_ms > now_ms}
        return replace(self, entries=left)

    def to_item(self) -> dict[str, Value]:
        entries: dict[str, Value] = {
            name: {"token_id": each.token_id, "until_ms": each.until_ms} for name, each in self.entries.items()
        }
        return {**LARGE_KEY._asdict(), "version": self.version, "entries": entries}

    @classmethod
    def from_item(cls, item: Item) -> LargeRequests:
        fields = Fields.of_item(item)
        read = fields.nested("entries")
        entries = {
            name: LargeRequest(token_id=(of := read.nested(name)).text("token_id"), until_ms=of.whole("until_ms"))
            for name in read
        }
        fields.check_key(LARGE_KEY)
        return cls(version=fields.whole("version"), entries=entries)
