"""Payers and their accounts by the hour: the JSON document, and its versions in the bucket."""

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints

from metering.billing import documents
from metering.billing.prices.document import StrictDocument
from metering.stores.objects import ORGANIZATION_PREFIX, ObjectStore
from metering.units import MIB


class Membership(NamedTuple):
    """Membership of an account under a payer in the hours `[from_s, to_s)`; `to_s` is None for no end."""

    account_id: str
    from_s: int
    to_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """A payer, who gets one invoice a month. The issuer is FOCUS's InvoiceIssuerName and ProviderName."""

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
        sha256: SHA-256 of the canonical document, pinned by invoices.
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
        """Every account that the payer ever pays for, and the payer's own account."""
        named = self._by_id.get(payer_id)
        return frozenset({payer_id, *(each.account_id for each in (named.members if named else ()))})

    def payer(self, payer_id: str) -> Payer:
        """The payer with this id, whose name defaults to the id."""
        return self._by_id.get(payer_id) or Payer(payer_id=payer_id, name=payer_id, issuer="metering")

    @cached_property
    def _by_id(self) -> dict[str, Payer]:
        return {each.payer_id: each for each in self.payers}

    @cached_property
    def _spans(self) -> dict[str, list[tuple[int, str]]]:
        """Changes of each account's payer as (first hour, payer or empty), in order of time."""
        spans: dict[str, list[tuple[int, str]]] = {}
        for payer in self.payers:
            for each in payer.members:
                of = spans.setdefault(each.account_id, [])
                of.append((each.from_s, payer.payer_id))
                if each.to_s is not None:
                    of.append((each.to_s, ""))
        for of in spans.values():
            # If one payer's span ends at the hour where another payer's begins, the new span wins.
            of.sort(key=lambda span: (span[0], span[1] != ""))
        return {account_id: list(dict(of).items()) for account_id, of in spans.items()}


SCHEMA = "metering.organization/1"
MOST_ACCOUNTS = 200_000
_MOST_BYTES = 64 * MIB
_Id = Annotated[str, StringConstraints(max_length=64)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Hour = Annotated[str, StringConstraints(max_length=40)]


class _PayerDocument(StrictDocument):
    id: _Id
    name: _Name
    issuer: _Name
    currency: Literal["USD"] = "USD"


class _AccountDocument(StrictDocument):
    id: _Id
    payer: _Id
    begin: _Hour = Field(alias="from")
    end: _Hour | None = Field(default=None, alias="to")
    name: Annotated[str, StringConstraints(max_length=200)] = ""


class _OrganizationDocument(StrictDocument):
    """Payers and accounts. The store sets `schema` and `version`."""

    format: Literal["metering.organization/1"] = Field(default="metering.organization/1", alias="schema")
    version: int = Field(default=0, ge=0, le=10**9)
    payers: list[_PayerDocument] = Field(max_length=MOST_ACCOUNTS)
    accounts: list[_AccountDocument] = Field(default=[], max_length=MOST_ACCOUNTS)


def read_organization(body: bytes, what: str) -> Organization:
    """Parse a document as an organization.

    Raises:
        DocumentRefusedError: The error lists every problem, and names `what`, the file or object.
    """
    document = _OrganizationDocument.read(body, what, most_bytes=_MOST_BYTES)
    problems = list(_of_ids(document))
    members = _members(document, problems)
    problems.extend(_at_one_hour(members))
    if problems:
        raise documents.DocumentRefusedError(what, problems)
    of_payer: dict[str, list[Membership]] = {}
    for payer_id, each in members:
        of_payer.setdefault(payer_id, []).append(each)
    return Organization(
        version=document.version,
        payers=tuple(
            Payer(
                payer_id=each.id,
                name=each.name,
                issuer=each.issuer,
                currency=each.currency,
                members=tuple(of_payer.get(each.id, ())),
            )
            for each in document.payers
        ),
        sha256=hashlib.sha256(body).hexdigest(),
        names={each.id: each.name for each in document.accounts if each.name},
    )


def _of_ids(document: _OrganizationDocument) -> Iterator[str]:
    ids = [payer.id for payer in document.payers]
    known = set(ids)
    for twice in (name for name, count in Counter(ids).items() if count > 1):
        yield f"payer {twice} stands twice"
    for wrong in dict.fromkeys([*ids, *(each.id for each in document.accounts)]):
        if not documents.is_account_id(wrong):
            digits = documents.ACCOUNT_DIGITS
            yield f"{wrong!r} is no account id: it has {len(wrong)} characters, and not {digits} digits"
    for unknown in dict.fromkeys(each.payer for each in document.accounts if each.payer not in known):
        yield f"payer {unknown} of an account is not among the payers"
    names: dict[str, str] = {}
    for each in document.accounts:
        if each.name and names.setdefault(each.id, each.name) != each.name:
            yield f"account {each.id} has two names"


def _members(document: _OrganizationDocument, problems: list[str]) -> list[tuple[str, Membership]]:
    made: list[tuple[str, Membership]] = []
    for each in document.accounts:
        try:
            begin = documents.hour_of_text(each.begin)
            end = None if each.end is None else documents.hour_of_text(each.end)
        except ValueError as error:
            problems.append(f"account {each.id}: {error}")
            continue
        if end is not None and end <= begin:
            problems.append(f"account {each.id}: it ends at {each.end}, and begins at {each.begin}")
            continue
        made.append((each.payer, Membership(each.id, begin, end)))
    return made


def _at_one_hour(members: list[tuple[str, Membership]]) -> Iterator[str]:
    """Find accounts with two payers in one hour, or listed twice for one payer."""
    spans: dict[str, list[tuple[int, int | None, str]]] = {}
    for payer_id, each in members:
        spans.setdefault(each.account_id, []).append((each.from_s, each.to_s, payer_id))
    for account_id, of in spans.items():
        of.sort(key=lambda span: span[0])
        for (_, end, one), (begin, _, other) in pairwise(of):
            if end is None or end > begin:
                who = f"two payers, {one} and {other}," if one != other else f"payer {one} twice"
                yield f"account {account_id} has {who} at {documents.hour_text(begin)}"


def organization_value(organization: Organization) -> dict[str, object]:
    """Convert an organization to its document."""
    payers = sorted(organization.payers, key=lambda payer: payer.payer_id)
    accounts = sorted((each, payer.payer_id) for payer in payers for each in payer.members)
    return {
        "schema": SCHEMA,
        "version": organization.version,
        "payers": [
            {"id": each.payer_id, "name": each.name, "issuer": each.issuer, "currency": each.currency}
            for each in payers
        ],
        "accounts": [
            {
                "id": each.account_id,
                "payer": payer_id,
                "from": documents.hour_text(each.from_s),
                "to": None if each.to_s is None else documents.hour_text(each.to_s),
                "name": organization.names.get(each.account_id, ""),
            }
            for each, payer_id in accounts
        ],
    }


class OrganizationStore(documents.VersionStore[Organization]):
    """All versions of the organization. In version 0, each account is its own payer."""

    def __init__(self, objects: ObjectStore) -> None:
        super().__init__(documents.NumberedDocuments(objects, ORGANIZATION_PREFIX), read_organization, Organization())

    def put(self, organization: Organization) -> Organization:
        """Write an organization as the next version, unless equal to the newest; returns the newest version.

        Raises:
            DocumentRefusedError: It contradicts itself.
        """
        read_organization(documents.canonical(organization_value(organization)), "the organization")

        def document(number: int, newest: documents.Numbered | None) -> dict[str, object] | None:
            made = organization_value(replace(organization, version=number))
            before = None if newest is None else organization_value(replace(self._of(newest), version=number))
            return None if made == before else made

        return self._of(self._documents.append(document))
