"""Which flow log counts where several see the same interface."""

from __future__ import annotations

import pytest

from metering.onramps.context.document import Authorities, Overlap
from metering.onramps.context.inventory import context_of
from metering.units import HOUR_S
from tests.unit.onramps.context.describing import EFFECTIVE_S, described, flow_log, interface, place, subnet, vpc

_SEEN = ("eni-1", "subnet-1", "vpc-1")
_RICH = {"LogFormat": "${version} ${interface-id} ${az-id} ${flow-direction} ${next-hop-az-id}"}
_NOW = {"CreationTime": "2026-11-24T12:20:00Z"}


def authorities(*logs: dict[str, object]) -> Authorities:
    network = place(
        Vpcs=[vpc("vpc-1", "10.0.0.0/16")],
        Subnets=[subnet("subnet-1", "vpc-1", "10.0.0.0/24")],
        NetworkInterfaces=[interface("eni-1", "subnet-1", "10.0.0.4")],
        FlowLogs=list(logs),
    )
    return Authorities(context_of(described(network), EFFECTIVE_S))


def over(*logs: dict[str, object], hour_s: int = EFFECTIVE_S) -> str:
    log = authorities(*logs).over(_SEEN, hour_s)
    return log.id if log is not None else ""


def test_the_broadest_log_counts_however_poor() -> None:
    narrow = [flow_log("fl-1", "eni-1", **_RICH), flow_log("fl-2", "subnet-1", **_RICH)]
    assert over(*narrow, flow_log("fl-3", "vpc-1")) == "fl-3"


def test_of_two_logs_of_one_breadth_the_richer_counts() -> None:
    assert over(flow_log("fl-1", "vpc-1"), flow_log("fl-2", "vpc-1", **_RICH)) == "fl-2"


def test_of_two_equal_logs_the_older_counts_and_then_the_lesser_id() -> None:
    older = flow_log("fl-9", "vpc-1", CreationTime="2025-01-01T00:00:00Z")
    assert over(flow_log("fl-1", "vpc-1"), older) == "fl-9"
    assert over(flow_log("fl-2", "vpc-1"), flow_log("fl-1", "vpc-1")) == "fl-1"


@pytest.mark.parametrize(
    "other",
    [
        {"LogDestinationType": "cloud-watch-logs", "LogGroupName": "flow"},
        {"TrafficType": "REJECT"},
        {"FlowLogStatus": "DELETED"},
    ],
)
def test_a_log_that_cannot_be_metered_has_no_authority(other: dict[str, str]) -> None:
    assert over(flow_log("fl-1", "vpc-1", **other), flow_log("fl-2", "eni-1")) == "fl-2"


def test_the_authority_switches_at_a_full_hour_and_never_inside_one() -> None:
    old, new = flow_log("fl-old", "vpc-1"), flow_log("fl-new", "vpc-1", **_RICH, **_NOW)
    assert over(old, new, hour_s=EFFECTIVE_S) == "fl-old"
    assert over(old, new, hour_s=EFFECTIVE_S + HOUR_S) == "fl-new"


def test_a_log_that_was_made_within_the_hour_counts_if_none_was_there_before() -> None:
    assert over(flow_log("fl-new", "vpc-1", **_NOW), hour_s=EFFECTIVE_S) == "fl-new"


def test_a_log_has_no_authority_over_hours_before_it_was_made() -> None:
    assert over(flow_log("fl-new", "vpc-1", **_NOW), hour_s=EFFECTIVE_S - HOUR_S) == ""


def test_without_a_log_there_is_no_authority() -> None:
    assert over() == ""


def test_a_regional_nat_gateway_has_a_log_of_its_own() -> None:
    known = authorities(flow_log("fl-1", "vpc-1"), flow_log("fl-2", "nat-1"))
    log = known.over(("nat-1",), EFFECTIVE_S)
    assert log is not None
    assert log.id == "fl-2"


def test_overlaps_name_what_is_hidden_if_the_authority_is_not_ingested() -> None:
    known = authorities(
        flow_log("fl-vpc", "vpc-1"),
        flow_log("fl-subnet", "subnet-1"),
        flow_log("fl-eni", "eni-1"),
        flow_log("fl-2", "vpc-2"),
    )
    assert known.overlaps(EFFECTIVE_S) == (Overlap("fl-vpc", ("fl-eni", "fl-subnet")),)
