"""Answers about who pays for whom, and about overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.documents.written import hour_text, percent_text
from metering.billing.money import usd_text
from metering.hours import rfc3339
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.billing.organization.payers import Organization
    from metering.billing.prices.book import Override
    from metering.billing.prices.overrides import Overrides

_MEMBERS = (
    Column(name="payer", text="copied", priority=KEEP),
    Column(name="payer_name", title="name", text="prose"),
    Column(name="issuer", text="prose", priority=ROOMY),
    Column(name="account", text="copied", priority=KEEP),
    Column(name="account_name", title="account's name", text="prose"),
    Column(name="from", kind="time", priority=KEEP),
    Column(name="to", kind="time", priority=KEEP),
)
_VERSIONS = (
    Column(name="version", kind="integer", priority=KEEP),
    Column(name="written", kind="time"),
    Column(name="payers", kind="integer"),
    Column(name="accounts", kind="integer"),
    Column(name="sha256", text="copied"),
)
_OVERRIDES = (
    Column(name="payer", text="copied", priority=KEEP),
    Column(name="account", text="copied", priority=KEEP),
    Column(name="skus", text="prose"),
    Column(name="from", kind="time", priority=KEEP),
    Column(name="to", kind="time"),
    Column(name="price_usd", title="USD a GB", text="number", priority=KEEP),
    Column(name="percent_off", title="% off", text="number", priority=KEEP),
    Column(name="no_allowance", kind="flag"),
    Column(name="why", text="prose"),
)


def organization_answer(organization: Organization) -> Answer:
    """Every account of every payer, a row for each time that it belongs to one."""
    return Answer(
        columns=_MEMBERS,
        rows=list(_members(organization)),
        meta={"version": organization.version, "sha256": organization.sha256},
        title=f"Payers, version {organization.version}" if organization.version else "Payers",
        empty="No payer was set: each account is its own payer.",
        footer=("An account that no payer has is its own payer.",) if organization.payers else (),
    )


def organizations_answer(versions: Sequence[tuple[Organization, int]]) -> Answer:
    """Versions, the newest first, each with the second at which it was written."""
    return Answer(
        columns=_VERSIONS,
        rows=[
            {
                "version": each.version,
                "written": rfc3339(written_s),
                "payers": len(each.payers),
                "accounts": len({member.account_id for payer in each.payers for member in payer.members}),
                "sha256": each.sha256,
            }
            for each, written_s in versions
        ],
        title="Versions of the organization",
        empty="No payer was set yet: each account is its own payer.",
    )


def overrides_answer(overrides: Overrides) -> Answer:
    """Every override in force, of the past and of the future."""
    return Answer(
        columns=_OVERRIDES,
        rows=[_override(each) for each in overrides.overrides],
        meta={"version": overrides.version, "sha256": overrides.sha256},
        title=f"Overrides, version {overrides.version}" if overrides.version else "Overrides",
        empty="There are no overrides: everybody pays the prices of the book.",
        footer=("That of an account beats that of its payer, which beats the book.",) if overrides.overrides else (),
    )


def _members(organization: Organization) -> Iterator[dict[str, Cell]]:
    for payer in organization.payers:
        about: dict[str, Cell] = {"payer": payer.payer_id, "payer_name": payer.name, "issuer": payer.issuer}
        if not payer.members:
            yield {**about, "account": None, "account_name": None, "from": None, "to": None}
        for member in payer.members:
            yield {
                **about,
                "account": member.account_id,
                "account_name": organization.names.get(member.account_id),
                "from": hour_text(member.from_s),
                "to": None if member.to_s is None else hour_text(member.to_s),
            }


def _override(override: Override) -> dict[str, Cell]:
    return {
        "payer": override.payer or None,
        "account": override.account or None,
        "skus": ", ".join(sorted(override.skus)) or "all",
        "from": hour_text(override.from_s),
        "to": None if override.to_s is None else hour_text(override.to_s),
        "price_usd": None if override.price is None else usd_text(override.price),
        "percent_off": None if override.percent_off is None else percent_text(override.percent_off),
        "no_allowance": override.no_allowance,
        "why": override.why,
    }
