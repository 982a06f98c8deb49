"""Savings rules: data in `rules.json`, one rule for each change of a network that lowers the bill.

A rule selects cause rows and rewrites each as the usage that would be. Nothing is ever applied to a network.
"""

from functools import cache
from importlib import resources
from typing import Literal

import msgspec


class Becomes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Usage in place of a row's: its usage type without billing prefix, `{way}` being `Out` or `In`.

    Attributes:
        service: AWS product code; empty for the row's own.
        account: Who pays: the row's account, or the account of the cause or of the destination, if it is known.
    """

    usage: str
    service: str = ""
    account: Literal["", "cause", "destination"] = ""


class Move(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows of one usage type, and the usage in their place. If it is empty, the bytes go away.

    Attributes:
        hop: `zones`: both locations are zones. `public`: the other side is only known by its region.
        of: `workload`: the cause's own side. `gateway`: the side of a gateway, which names the cause by its address.
        ends: Zones of cause and destination, wherever the row is metered; an unknown zone is said to be the other's.
    """

    usage: str
    hop: Literal["", "zones", "public"] = ""
    of: Literal["", "workload", "gateway"] = ""
    ends: Literal["", "one_zone", "two_zones"] = ""
    becomes: tuple[Becomes, ...] = ()


class SavingsRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule.

    Attributes:
        advice: What to change, as an order.
        place: What is changed: a VPC, a pair of workload and destination, or a pair of VPCs.
        destinations: Destinations that fit; empty for all.
        counts: Usage types of the bytes that the rule is about.
        moves: The first move that fits a row decides.
        risks: What to check before the change.
        at_most: Why the saving is an upper bound; empty if it is exact.
        common_zones: Whether both workloads have to run in both zones.
        hours_of: What is charged by the hour in each zone of the causes; empty for nothing.
        in_zones_without: Whether hours are charged only in zones where no NAT gateway has logged.
    """

    name: str
    advice: str
    place: Literal["vpc", "pair", "vpcs"]
    paths: tuple[str, ...]
    destinations: tuple[str, ...] = ()
    counts: tuple[str, ...]
    moves: tuple[Move, ...]
    risks: tuple[str, ...]
    source: str
    at_most: str = ""
    common_zones: bool = False
    hours_of: str = ""
    in_zones_without: bool = False


@cache
def savings_rules() -> dict[str, SavingsRule]:
    """The rules of this release by name, in the order of the file."""
    body = resources.files("metering.reports.savings").joinpath("rules.json").read_bytes()
    return {rule.name: rule for rule in msgspec.json.decode(body, type=tuple[SavingsRule, ...])}
