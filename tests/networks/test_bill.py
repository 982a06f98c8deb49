"""A bill of a generated network, by its table of true usage: `metering compare` finds exactly the planted differences.

The truth's table (`tests/support/networks/billing`) shares no code with the service's rules. Unlike a real bill, this
bill omits usage that no log can classify; the comparison lists that usage as unclassified, to the byte.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from metering.cli.app import app
from metering.cli.command import Session
from metering.units import GIB
from tests.cli.lively import Lively
from tests.networks.exam import FIRST_S
from tests.networks.world import NOW_S, NetworkWorld, metered
from tests.support.bills import Line, quantity_of, write_bill
from tests.support.networks.billing import at
from tests.support.networks.traffic import Network, NetworkPlan

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.networks.files import LogFile

PLAN = NetworkPlan(first_s=FIRST_S, lines=1_500, variety=4, style="v11")
# Charges for which there is no log: hours, requests, storage.
UNSEEN = ("USW2-NatGateway-Hours", "USW2-VpcEndpoint-Hours", "USW2-TransitGateway-Hours", "USW2-Requests-Tier1")
# In AWS's bills, only some usage types have the us-east-1 prefix.
IN_VIRGINIA = {"TransitGateway-Bytes": "USE1-TransitGateway-Bytes"}
# Peering, regions behind peered gateways, and processing by gateways (by policies of transit gateways) and endpoints.
HARD = {
    "USW2-VpcPeering-In-Bytes", "USW2-VpcPeering-Out-Bytes", "USW2-USE1-AWS-Out-Bytes", "USE1-USW2-AWS-Out-Bytes",
    "USW2-TransitGateway-Bytes", "TransitGateway-Bytes", "USW2-DataTransfer-Regional-Bytes",
    "USW2-NatGateway-Bytes", "USW2-RegionalNatGateway-Bytes", "USW2-VpcEndpoint-Bytes",
}  # fmt: skip


@cache
def made() -> tuple[Network, tuple[LogFile, ...]]:
    """Make the network and its log files; the making also records the true usage."""
    network = Network(PLAN)
    return network, tuple(network.files())


def network() -> Network:
    return made()[0]


@cache
def world() -> NetworkWorld:
    return metered(*made())


def moved() -> tuple[Counter[tuple[str, str, int]], int]:
    """Bytes by account, usage type and hour, as AWS bills them, and bytes that no log of the network can classify."""
    sums: Counter[tuple[str, str, int]] = Counter()
    hidden = 0
    for hour, each in network().truth.sums.items():
        movement = at(hour.movement, hour.hour_s)
        if movement.hides(hour.knows):
            hidden += each.bytes
        elif "C3DataTransfer" not in movement.usage_type:
            sums[movement.account_id, movement.usage_type, hour.hour_s] += each.bytes
    return sums, hidden


def processed() -> Counter[tuple[str, str, int]]:
    """True bytes that NAT gateways and endpoints charge for processing, in addition to the transfer of these bytes."""
    sums: Counter[tuple[str, str, int]] = Counter()
    for hour, each in network().truth.sums.items():
        if usage_type := hour.movement.processing:
            sums[hour.movement.account_id, usage_type, hour.hour_s] += each.bytes
    return sums


def bill() -> list[Line]:
    sums = moved()[0] + processed()
    lines = [
        Line(account, IN_VIRGINIA.get(kind, kind), hour_s, quantity_of(size))
        for (account, kind, hour_s), size in sorted(sums.items())
    ]
    account, _, hour_s = min(sums)
    return [*lines, *(Line(account, name, hour_s, "1", unit="Hrs") for name in UNSEEN)]


def compared(lines: list[Line], tmp_path: Path, *options: str) -> Any:
    path = write_bill(tmp_path / "cur.parquet", lines)
    lively = Lively(world=world())
    with patch.object(Session, "region", lambda _self: lively), patch("time.time", lambda: float(NOW_S)):
        result = CliRunner().invoke(app, ["compare", str(path), "--tolerance", "0", "--format", "json", *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    answer = json.loads(result.stdout)
    assert result.exit_code == (1 if answer["beyond"] else 0)
    return answer


def differing(answer: Any) -> dict[tuple[str, str], int]:
    return {
        (row["account_id"], row["usage_type"]): int(row["difference_bytes"])
        for row in answer["rows"]
        if row["difference_bytes"] != "0"
    }


def test_the_bill_of_a_network_differs_in_no_row_and_what_one_side_alone_has_stands_by_name(tmp_path: Path) -> None:
    answer = compared(bill(), tmp_path)
    assert not differing(answer)
    assert (answer["beyond"], answer["broken"]) == (0, {})
    assert {row["usage_type"] for row in answer["rows"]} >= HARD
    assert answer["billed_only"] == []
    assert answer["metered_here_only"] == []
    assert [each["usage_type"] for each in answer["left_out_usage_types"]] == sorted(UNSEEN)
    unclassified = sum(int(size) for name, size in answer["metered_only"].items() if "Unclassified" in name)
    assert unclassified == moved()[1] > 0


@pytest.mark.parametrize("by", ["day", "month"])
def test_three_planted_differences_are_found_and_no_other(tmp_path: Path, by: str) -> None:
    lines = bill()
    peering, regional, internet = (
        next(each for each in lines if each.usage_type == f"USW2-{name}-Bytes")
        for name in ("VpcPeering-Out", "DataTransfer-Regional", "DataTransfer-Out")
    )
    missing = [each for each in lines if each[:2] == peering[:2]]
    wrong = regional._replace(usage_type="DataTransfer-Regional-Bytes")
    planted = [each for each in lines if each not in (*missing, regional)]
    planted += [internet._replace(quantity="1"), wrong]
    sizes = moved()[0]
    size = sizes[regional.account, regional.usage_type, regional.start_s]
    assert differing(compared(planted, tmp_path, "--by", by)) == {
        (internet.account, internet.usage_type): -GIB,
        (peering.account, peering.usage_type): sum(
            each for (account, kind, _), each in sizes.items() if (account, kind) == peering[:2]
        ),
        (regional.account, regional.usage_type): size,
        (wrong.account, wrong.usage_type): -size,
    }
