"""The JSON document of who pays for whom, `metering.organization/1`, and what contradicts itself in one."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from metering.billing.documents.strict_json import DocumentRefusedError, strict_json
from metering.billing.documents.written import hour_of_text, hour_text
from metering.billing.organization.payers import Membership, Organization, Payer
from metering.billing.prices.document import shape_problems
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = "metering.organization/1"
MOST_ACCOUNTS = 200_000
_MOST_BYTES = 64 * MIB
_ACCOUNT_DIGITS = 12
_Id = Annotated[str, StringConstraints(max_length=64)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Hour = Annotated[str, StringConstraints(max_length=40)]


class PayerDocument(BaseModel):
    """Who gets one invoice a month."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: _Id
    name: _Name
    issuer: _Name
    currency: Literal["USD"] = "USD"


class AccountDocument(BaseModel):
    """An account belongs to a payer in the hours `[from, to)`. Several lines of one account follow each other."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: _Id
    payer: _Id
    begin: _Hour = Field(alias="from")
    end: _Hour | None = Field(default=None, alias="to")
    name: Annotated[str, StringConstraints(max_length=200)] = ""


class OrganizationDocument(BaseModel):
    """Payers and accounts. `schema` and `version` may be left out of a file: the store sets them."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal["metering.organization/1"] = Field(default="metering.organization/1", alias="schema")
    version: int = Field(default=0, ge=0, le=10**9)
    payers: list[PayerDocument] = Field(max_length=MOST_ACCOUNTS)
    accounts: list[AccountDocument] = Field(default=[], max_length=MOST_ACCOUNTS)


def read_organization(body: bytes, what: str) -> Organization:
    """The organization of a document.

    Args:
        body: Its bytes.
        what: Name of the file or object, for errors.

    Raises:
        DocumentRefusedError: Names every problem.
    """
    try:
        document = OrganizationDocument.model_validate(strict_json(body, what, most_bytes=_MOST_BYTES))
    except ValidationError as error:
        raise DocumentRefusedError(what, shape_problems(error)) from error
    problems = list(_of_ids(document))
    members = _members(document, problems)
    problems.extend(_at_one_hour(members))
    if problems:
        raise DocumentRefusedError(what, problems)
    of_payer: dict[str, list[Membership]] = {}
    for payer_id, each in members:
        of_payer.setdefault(payer_id, []).append(each)
    return Organization(
        version=document.version,
        payers=tuple(
            Payer(
                payer_id=payer.id,
                name=payer.name,
                issuer=payer.issuer,
                currency=payer.currency,
                members=tuple(of_payer.get(payer.id, ())),
            )
            for payer in document.payers
        ),
        sha256=hashlib.sha256(body).hexdigest(),
        names={each.id: each.name for each in document.accounts if each.name},
    )


def _of_ids(document: OrganizationDocument) -> Iterator[str]:
    ids = [payer.id for payer in document.payers]
    known = set(ids)
    for twice in (name for name, count in Counter(ids).items() if count > 1):
        yield f"payer {twice} stands twice"
    for wrong in dict.fromkeys([*ids, *(each.id for each in document.accounts)]):
        if not (len(wrong) == _ACCOUNT_DIGITS and wrong.isascii() and wrong.isdigit()):
            yield f"{wrong!r} is no account id: it has {len(wrong)} characters, and not {_ACCOUNT_DIGITS} digits"
    for unknown in dict.fromkeys(each.payer for each in document.accounts if each.payer not in known):
        yield f"payer {unknown} of an account is not among the payers"
    names: dict[str, str] = {}
    for each in document.accounts:
        if each.name and names.setdefault(each.id, each.name) != each.name:
            yield f"account {each.id} has two names"


def _members(document: OrganizationDocument, problems: list[str]) -> list[tuple[str, Membership]]:
    made: list[tuple[str, Membership]] = []
    for each in document.accounts:
        try:
            begin = hour_of_text(each.begin)
            end = None if each.end is None else hour_of_text(each.end)
        except ValueError as error:
            problems.append(f"account {each.id}: {error}")
            continue
        if end is not None and end <= begin:
            problems.append(f"account {each.id}: it ends at {each.end}, and begins at {each.begin}")
            continue
        made.append((each.payer, Membership(each.id, begin, end)))
    return made


def _at_one_hour(members: list[tuple[str, Membership]]) -> Iterator[str]:
    """An account with two payers in one hour, or twice with one of them."""
    spans: dict[str, list[tuple[int, int | None, str]]] = {}
    for payer_id, each in members:
        spans.setdefault(each.account_id, []).append((each.from_s, each.to_s, payer_id))
    for account_id, of in spans.items():
        of.sort(key=lambda span: span[0])
        for (_, end, one), (begin, _, other) in pairwise(of):
            if end is None or end > begin:
                who = f"two payers, {one} and {other}," if one != other else f"payer {one} twice"
                yield f"account {account_id} has {who} at {hour_text(begin)}"


def organization_value(organization: Organization) -> dict[str, object]:
    """The document of an organization."""
    payers = sorted(organization.payers, key=lambda payer: payer.payer_id)
    accounts = sorted((each, payer.payer_id) for payer in payers for each in payer.members)
    return {
        "schema": SCHEMA,
        "version": organization.version,
        "payers": [
            {"id": each.payer_id, "name": each.name, "issuer": each.issuer, "currency": each.currency}
            for each in payers
        ],
        "accounts": [_account_value(each, payer_id, organization) for each, payer_id in accounts],
    }


def _account_value(member: Membership, payer_id: str, organization: Organization) -> dict[str, object]:
    return {
        "id": member.account_id,
        "payer": payer_id,
        "from": hour_text(member.from_s),
        "to": None if member.to_s is None else hour_text(member.to_s),
        "name": organization.names.get(member.account_id, ""),
    }
