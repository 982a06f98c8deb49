"""From a description to a context.

What contradicts itself is refused, with every problem: a wrong inventory would classify wrongly, and nobody would see.
What is only incomplete, because things came and went between two calls, is left out and noted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.onramps.context.attached import (
    attachments_of,
    bound_interfaces,
    flow_logs_of,
    interfaces_of,
    metering_policies_of,
    policy_places_of,
    public_addresses_of,
    transit_vpcs_of,
)
from metering.onramps.context.description import DescriptionError, read_description
from metering.onramps.context.document import Context
from metering.onramps.context.facts import Distribution, Prefix
from metering.onramps.context.findings import Findings
from metering.onramps.context.networks import peerings_of, subnets_of, vpcs_of
from metering.units import HOUR_S
from metering.usage.locations import is_region

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.onramps.context.description import Description, IpRanges

MAX_PREFIXES = 200_000
GLOBAL = "GLOBAL"
DISTRIBUTION_LOGS = ("", "legacy", "v2")

_ACCOUNT_ID = re.compile(r"[0-9]{12}")


def context_of(description: Mapping[str, object], effective_s: int) -> Context:
    """The context that a description describes.

    Args:
        description: A description (`metering.onramps.context.description`), decoded from JSON or as it was captured.
        effective_s: Full hour from which it holds, in epoch seconds.

    Raises:
        DescriptionError: It has another shape, or contradicts itself; every problem is named, up to twenty.
    """
    if effective_s % HOUR_S:
        raise DescriptionError((f"a context holds from a full hour, and {rfc3339(effective_s)} is none",))
    described = read_description(description)
    findings = Findings()
    context = _gathered(described, effective_s, findings)
    if findings.problems:
        raise DescriptionError(findings.problems)
    return context


def _gathered(described: Description, effective_s: int, findings: Findings) -> Context:
    places = described.regions
    accounts = frozenset({*described.accounts, *(place.account_id for place in places)})
    _judge_names(described, accounts, findings)
    vpcs = vpcs_of(places, findings)
    subnets = subnets_of(places, vpcs, findings)
    interfaces = interfaces_of(places, subnets, bound_interfaces(places), findings)
    peerings = peerings_of(places, findings)
    flow_logs = flow_logs_of(places, findings)
    attachments, policies = attachments_of(places, findings), metering_policies_of(places, findings)
    return Context(
        sha256="",
        effective_s=effective_s,
        accounts=accounts,
        places=tuple(sorted((place.account_id, place.region) for place in places)),
        vpcs=tuple(vpcs[each] for each in sorted(vpcs)),
        subnets=tuple(subnets[each] for each in sorted(subnets)),
        interfaces=tuple(interfaces[each] for each in sorted(interfaces)),
        peerings=tuple(peerings[each] for each in sorted(peerings)),
        transit_vpcs=transit_vpcs_of(places),
        public_addresses=public_addresses_of(places, findings),
        flow_logs=MappingProxyType(flow_logs),
        buckets=MappingProxyType(described.buckets),
        prefixes=() if described.ip_ranges is None else _prefixes(described.ip_ranges, findings),
        notes=findings.notes,
        bucket_owners=MappingProxyType(described.bucket_owners),
        distributions=MappingProxyType(_distributions(described, findings)),
        attachments=attachments,
        metering_policies=policies,
        policy_places=policy_places_of(places),
    ).named()


def _judge_names(described: Description, accounts: frozenset[str], findings: Findings) -> None:
    for account_id in sorted({*accounts, *described.bucket_owners.values()}):
        if _ACCOUNT_ID.fullmatch(account_id) is None:
            findings.problem(f"{account_id[:40]!r} is no account: it has not 12 digits")
    regions = {place.region for place in described.regions} | set(described.buckets.values())
    for region in sorted(regions):
        if not is_region(region):
            findings.problem(f"{region[:60]!r} is no region")


def _distributions(described: Description, findings: Findings) -> dict[str, Distribution]:
    for name, item in sorted(described.distributions.items()):
        if _ACCOUNT_ID.fullmatch(item.account_id) is None:
            findings.problem(f"{item.account_id[:40]!r} of distribution {name[:40]} is no account of 12 digits")
        if item.log not in DISTRIBUTION_LOGS:
            findings.problem(f"log of distribution {name[:40]} is {item.log[:40]!r}, and neither legacy nor v2")
    return {name: Distribution(name, item.account_id, item.log) for name, item in described.distributions.items()}


def _prefixes(ranges: IpRanges, findings: Findings) -> tuple[Prefix, ...]:
    services: dict[str, set[str]] = defaultdict(set)
    regions: dict[str, str] = {}
    items = [(item.ip_prefix, item.region, item.service) for item in ranges.prefixes]
    items += [(item.ipv6_prefix, item.region, item.service) for item in ranges.ipv6_prefixes]
    if len(items) > MAX_PREFIXES:
        findings.problem(f"the address ranges have {len(items):,} prefixes, more than {MAX_PREFIXES:,}")
        return ()
    for text, region, service in items:
        network = findings.network(text, "the list of address ranges")
        if network is None:
            continue
        if regions.setdefault(str(network), region) != region:
            findings.problem(f"the address range {network} is in {regions[str(network)]}, and in {region}")
        if region != GLOBAL and not is_region(region):
            findings.problem(f"the address range {network} is in {region[:60]!r}, which is no region")
        services[str(network)].add(service)
    return tuple(Prefix(cidr, regions[cidr], tuple(sorted(services[cidr]))) for cidr in sorted(services))
