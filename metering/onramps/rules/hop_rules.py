"""The rules of a hop: data in `hop_rules.json`, in order, of which the first that holds decides.

To change them, change the file and its version: a plan names the version that judged its file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import TypedDict, cast


@dataclass(frozen=True, slots=True, kw_only=True)
class HopRule:
    """One rule.

    Attributes:
        name: Its name, in plans and reports.
        when: Names of conditions; all of them must hold.
        peer: Location of the other side: its zone, its own or the peer's region, or a name of the contract.
        usage: Traffic after the billing prefix, with `{way}` for `Out` or `In`; empty if the contract's table decides.
        reason: Why what it decides is unclassified; empty if it is classified.
        service: AWS product code that it is billed under; empty for that of the own interface.
        source: Where the rule comes from.
    """

    name: str
    when: tuple[str, ...]
    peer: str
    usage: str
    reason: str
    service: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HopRules:
    """All rules, and the kinds of interfaces that they tell apart.

    Attributes:
        version: Version of the rules.
        rules: The rules in order. The last one always holds.
        free_always: Kinds whose hops inside a VPC are free in all zones.
        free_over_ipv4: Kinds whose hops inside a VPC are free in all zones over IPv4.
        charged: Kinds whose hops between zones are charged, if both sides are of them.
        load_balancers: Kinds that are of service AWSELB.
        peering_apart_from_s: Hour from which AWS bills peering between zones under usage types of its own, in epoch
            seconds.
    """

    version: str
    rules: tuple[HopRule, ...]
    free_always: frozenset[str]
    free_over_ipv4: frozenset[str]
    charged: frozenset[str]
    load_balancers: frozenset[str]
    peering_apart_from_s: int


class _Rule(TypedDict, total=False):
    name: str
    when: list[str]
    peer: str
    usage: str
    reason: str
    service: str
    source: str


class _Free(TypedDict):
    any: list[str]
    ipv4: list[str]


class _File(TypedDict):
    version: str
    peering_apart_from: str
    free_across_zones: _Free
    charged_across_zones: list[str]
    elb_kinds: list[str]
    rules: list[_Rule]


@cache
def hop_rules() -> HopRules:
    """The rules of this release."""
    text = resources.files("metering.onramps.rules").joinpath("hop_rules.json").read_text(encoding="utf-8")
    file = cast("_File", json.loads(text))
    return HopRules(
        version=file["version"],
        rules=tuple(_rule(each) for each in file["rules"]),
        free_always=frozenset(file["free_across_zones"]["any"]),
        free_over_ipv4=frozenset(file["free_across_zones"]["ipv4"]),
        charged=frozenset(file["charged_across_zones"]),
        load_balancers=frozenset(file["elb_kinds"]),
        peering_apart_from_s=int(datetime.fromisoformat(file["peering_apart_from"]).timestamp()),
    )


def _rule(entry: _Rule) -> HopRule:
    return HopRule(
        name=entry["name"],
        when=tuple(entry["when"]),
        peer=entry["peer"],
        usage=entry.get("usage", ""),
        reason=entry.get("reason", ""),
        service=entry.get("service", ""),
        source=entry["source"],
    )
