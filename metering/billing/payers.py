"""Payers and their accounts by the hour.

This module needs no Pydantic, which only readers of the document load (`organization.py`).
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple


class Membership(NamedTuple):
    """Membership of an account under a payer in the hours `[from_s, to_s)`; if `to_s` is None, it has no end."""

    account_id: str
    from_s: int
    to_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """A payer, who gets one invoice per month. The issuer appears in FOCUS as InvoiceIssuerName and ProviderName."""

    payer_id: str
    name: str
    issuer: str
    currency: str = "USD"
    members: tuple[Membership, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Organization:
    """An immutable version of the mapping from accounts to payers. An account without a payer is its own payer.

    Attributes:
        version: Version number; 0 if no version was ever put.
        sha256: SHA-256 of the canonical document, which invoices pin.
        names: Account names, for people.
    """

    version: int = 0
    payers: tuple[Payer, ...] = ()
    sha256: str = ""
    names: Mapping[str, str] = field(default_factory=dict)

    def payer_of(self, account_id: str, hour_s: int) -> str:
        spans = self._spans.get(account_id, [])
        at = bisect_right(spans, (hour_s, "\uffff"))
        return spans[at - 1][1] or account_id if at else account_id

    def changes(self, account_id: str) -> Iterator[int]:
        return (hour_s for hour_s, _ in self._spans.get(account_id, ()))

    def payers_between(self, account_id: str, first_s: int, after_s: int) -> frozenset[str]:
        """Payers of an account in the hours `[first_s, after_s)`."""
        hours = (first_s, *(hour_s for hour_s in self.changes(account_id) if first_s < hour_s < after_s))
        return frozenset(self.payer_of(account_id, hour_s) for hour_s in hours)

    def accounts_of(self, payer_id: str) -> frozenset[str]:
        """Every account that the payer pays for at any time, and the payer's own account."""
        named = self._by_id.get(payer_id)
        return frozenset({payer_id, *(each.account_id for each in (named.members if named else ()))})

    def payer(self, payer_id: str) -> Payer:
        """The payer with this id; if the id is not listed, a payer whose name is the id."""
        return self._by_id.get(payer_id) or Payer(payer_id=payer_id, name=payer_id, issuer="metering")

    @cached_property
    def _by_id(self) -> dict[str, Payer]:
        return {each.payer_id: each for each in self.payers}

    @cached_property
    def _spans(self) -> dict[str, list[tuple[int, str]]]:
        """Changes of each account's payer as (first hour, payer id or empty), in order of time."""
        spans: dict[str, list[tuple[int, str]]] = {}
        for payer in self.payers:
            for each in payer.members:
                of = spans.setdefault(each.account_id, [])
                of.append((each.from_s, payer.payer_id))
                if each.to_s is not None:
                    of.append((each.to_s, ""))
        for of in spans.values():
            # If one payer's span ends at the hour at which another payer's span begins, the new span wins.
            of.sort(key=lambda span: (span[0], span[1] != ""))
        return {account_id: list(dict(of).items()) for account_id, of in spans.items()}
