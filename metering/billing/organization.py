"""The organization's JSON document, and its versions in the bucket."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from metering.billing import documents
from metering.billing.payers import Membership, Organization, Payer
from metering.billing.prices.document import StrictDocument
from metering.stores.objects import ORGANIZATION_PREFIX, ObjectStore
from metering.units import MIB

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
        DocumentRefusedError: The error lists every problem, and names the file or object, `what`.
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
    """Find accounts that have two payers in one hour, or are listed twice for one payer."""
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
        """Write an organization as the next version, unless it equals the newest; returns the newest version.

        Raises:
            DocumentRefusedError: It contradicts itself.
        """
        return self._put(organization, lambda each, number: organization_value(replace(each, version=number)))
