"""Answers about contexts: which are kept, and what one knows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.onramps.context.authority import Authorities
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.onramps.context.document import Context

_EFFECTIVE = Column(name="effective", kind="time", priority=KEEP, about="the hour from which it holds")
_NAME = Column(name="context", text="copied", priority=KEEP, about="SHA-256 of its JSON")
_LIST = (_EFFECTIVE, _NAME)
_SHOWN = (
    _EFFECTIVE,
    _NAME,
    Column(name="accounts", text="prose", about="that were captured"),
    Column(name="places", text="prose", about="account and region of each capture"),
    Column(name="vpcs", kind="integer"),
    Column(name="subnets", kind="integer"),
    Column(name="interfaces", kind="integer"),
    Column(name="kinds", text="prose", about="what interfaces belong to"),
    Column(name="public_addresses", kind="integer"),
    Column(name="peerings", kind="integer"),
    Column(name="transit_vpcs", kind="integer", about="VPCs with a transit gateway"),
    Column(name="transit_attachments", kind="integer", about="of transit gateways, whose types are known"),
    Column(name="metering_policies", kind="integer", about="of transit gateways; none if nobody could ask for them"),
    Column(name="flow_logs", kind="integer"),
    Column(name="overlaps", text="prose", about="flow logs that count, and those that see the same and do not"),
    Column(name="address_ranges", kind="integer", about="prefixes of AWS; without them the internet is unclassified"),
    Column(name="buckets", kind="integer", about="whose region is known"),
    Column(name="notes", text="prose", priority=ROOMY, about="what was left out"),
)
_CAPTURED = (_EFFECTIVE, _NAME, Column(name="kept", kind="flag"), *_SHOWN[2:])


def contexts_answer(names: Iterable[tuple[int, str]]) -> Answer:
    """Kept contexts, the newest first."""
    rows: list[dict[str, Cell]] = [
        {"effective": rfc3339(effective_s), "context": sha256} for effective_s, sha256 in sorted(names, reverse=True)
    ]
    return Answer(columns=_LIST, rows=rows, empty="No context is kept.")


def context_answer(context: Context) -> Answer:
    """What a context knows."""
    row = _row(context)
    return Answer(columns=_SHOWN, rows=[row], document={**row})


def captured_answer(context: Context, *, kept: bool) -> Answer:
    """What was captured; `kept` says whether it is a new one."""
    row = _row(context) | {"kept": kept}
    ordered = {column.name: row[column.name] for column in _CAPTURED}
    return Answer(columns=_CAPTURED, rows=[ordered], document={**ordered})


def _row(context: Context) -> dict[str, str | int | bool | None]:
    kinds = Counter(interface.kind for interface in context.interfaces)
    overlaps = Authorities(context).overlaps(context.effective_s)
    return {
        "effective": rfc3339(context.effective_s),
        "context": context.sha256,
        "accounts": ", ".join(sorted(context.accounts)),
        "places": ", ".join(f"{account_id}/{region}" for account_id, region in context.places),
        "vpcs": len(context.vpcs),
        "subnets": len(context.subnets),
        "interfaces": len(context.interfaces),
        "kinds": ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
        "public_addresses": len(context.public_addresses),
        "peerings": len(context.peerings),
        "transit_vpcs": len(context.transit_vpcs),
        "transit_attachments": len(context.attachments),
        "metering_policies": len(context.metering_policies) if context.policy_places else None,
        "flow_logs": len(context.flow_logs),
        "overlaps": "; ".join(f"{each.authority} before {', '.join(each.shadowed)}" for each in overlaps),
        "address_ranges": len(context.prefixes),
        "buckets": len(context.buckets),
        "notes": "; ".join(context.notes),
    }
