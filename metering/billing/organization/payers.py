"""Payers and the accounts that they pay for, by the hour."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Membership(NamedTuple):
    """An account belongs to a payer in the hours `[from_s, to_s)`; `to_s` None: for ever."""

    account_id: str
    from_s: int
    to_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """Who gets one invoice a month.

    Attributes:
        payer_id: 12 digits, an account id.
        name: Name on the invoice.
        issuer: Who issues it: FOCUS's InvoiceIssuerName and ProviderName.
    """

    payer_id: str
    name: str
    issuer: str
    currency: str = "USD"
    members: tuple[Membership, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Organization:
    """An immutable version of who pays for whom. An account that no payer has is its own payer.

    Attributes:
        version: 0 if none was ever put.
        sha256: Of its canonical document; what invoices pin.
    """

    version: int = 0
    payers: tuple[Payer, ...] = ()
    sha256: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of accounts, for people."""

    def payer_of(self, account_id: str, hour_s: int) -> str:
        """The payer of an account in an hour; the account itself if none has it."""
        spans = self._spans.get(account_id)
        if not spans:
            return account_id
        at = bisect_right(spans, (hour_s, "\uffff")) - 1
        if at < 0:
            return account_id
        _, payer_id = spans[at]
        return payer_id or account_id

    def changes(self, account_id: str) -> Iterator[int]:
        """Hours at which the payer of an account changes, in order."""
        return (hour_s for hour_s, _ in self._spans.get(account_id, ()))

    def payers_between(self, account_id: str, first_s: int, after_s: int) -> frozenset[str]:
        """Whoever pays for an account in any hour of `[first_s, after_s)`."""
        hours = (first_s, *(hour_s for hour_s in self.changes(account_id) if first_s < hour_s < after_s))
        return frozenset(self.payer_of(account_id, hour_s) for hour_s in hours)

    def accounts_of(self, payer_id: str) -> frozenset[str]:
        """Every account that the payer ever pays for, itself included if no other payer has it."""
        named = self._by_id.get(payer_id)
        return frozenset({payer_id, *(each.account_id for each in (named.members if named else ()))})

    def payer(self, payer_id: str) -> Payer:
        """The payer of this id; one without a name of its own if the organization does not name it."""
        return self._by_id.get(payer_id) or Payer(payer_id=payer_id, name=payer_id, issuer="metering")

    @cached_property
    def _by_id(self) -> dict[str, Payer]:
        """Payer by id. There may be as many as accounts, and whoever asks for one asks for each."""
        return {each.payer_id: each for each in self.payers}

    @cached_property
    def _spans(self) -> dict[str, list[tuple[int, str]]]:
        """Account -> (first hour, payer or empty) in the order of time."""
        spans: dict[str, list[tuple[int, str]]] = {}
        for payer in self.payers:
            for each in payer.members:
                of = spans.setdefault(each.account_id, [])
                of.append((each.from_s, payer.payer_id))
                if each.to_s is not None:
                    of.append((each.to_s, ""))
        for of in spans.values():
            # At one hour, the beginning of the next payer counts, and not the end of the last one.
            of.sort(key=lambda span: (span[0], span[1] != ""))
        return {account_id: _last_at_each_hour(of) for account_id, of in spans.items()}


def _last_at_each_hour(spans: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return list(dict(spans).items())
