"""Rows are rewritten by what all rows of the month tell about zones, whoever pays and whenever names change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.owners import Attributes
from metering.reports.savings.rewriting import Networks, Rewriting, Row
from metering.reports.savings.rules import savings_rules
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.reports.savings.rewriting import Case

A, B, C = (f"us-west-2/usw2-az{number}" for number in (1, 2, 3))
NAT, REGIONAL = "USW2-NatGateway-Bytes", "USW2-DataTransfer-Regional-Bytes"
HOUR = 500_000 * HOUR_S
NAMES = {
    "i-1": Attributes("111111111111", "i-1", "asg:web", "vpc-1", "subnet-a", {}),
    "i-2": Attributes("222222222222", "i-2", "name:old", "vpc-1", "subnet-b", {}),
    "i-3": Attributes("333333333333", "i-3", "asg:jobs", "vpc-2", "subnet-c", {}),
}


def row(usage_type: str, cause: str, places: tuple[str, str], **more: object) -> Row:
    """A row of a hop or of processing, as an interface of its own account sees it."""
    given: dict[str, object] = {
        "hour_s": HOUR, "account_id": "111111111111", "service": "AmazonEC2", "usage_type": usage_type,
        "resource_id": "eni-nat", "cause": cause, "destination": "internet", "path": "nat_gateway", "direction": "out",
        "from_location": places[0], "to_location": places[1], "basis": "seen", "bytes": 1_000,
    }  # fmt: skip
    return Row(**{**given, **more})  # type: ignore[arg-type]  # its fields


def found(rule: str, *rows: Row, payers: Iterable[str] = ()) -> list[Case]:
    networks = Networks(lambda cause, _hour_s: NAMES.get(cause))
    for each in rows:
        networks.learn(each)
    by_account = dict(zip(("111111111111", "222222222222", "333333333333"), payers, strict=False))
    made = Rewriting([savings_rules()[rule]], lambda account, _hour_s: by_account.get(account, account))
    wanted = made.usage_types(networks)
    for each in rows:
        if each.usage_type in wanted:
            made.take(each, networks)
    return list(made.cases.values())


def test_a_zone_that_has_a_gateway_needs_no_other() -> None:
    across = row(REGIONAL, "i-1", (B, A))
    [case] = found("nat-per-zone", across)
    assert case.zones == {A}
    # A gateway in the zone of the workload has logged, for another workload.
    beside = row("USW2-C3DataTransfer-Out-Bytes", "i-2", (A, A))
    [case] = found("nat-per-zone", across, beside)
    assert case.zones == set()
    assert dict(case.places) == {"vpc-1": 1_000}


def test_the_place_is_the_vpc_of_the_cause_and_gateways_are_those_that_are_metered() -> None:
    processing = row(NAT, "i-1", ("us-west-2", "us-west-2"), destination="S3.us-west-2")
    own = row(REGIONAL, "i-1", (A, B), destination="S3.us-west-2", basis="told", resource_id="i-1")
    elsewhere = row(NAT, "i-1", ("us-west-2", "us-west-2"), destination="S3.eu-west-1", bytes=7)
    nobody = row(NAT, "i-9", ("us-west-2", "us-west-2"), destination="S3.us-west-2", bytes=5)
    one, other = found("gateway-endpoint", processing, own, elsewhere, nobody)
    assert (dict(one.places), dict(one.gateways)) == ({"vpc-1": 1_000}, {"eni-nat": 1_000})
    assert sorted((line.usage_type, line.bytes) for line in one.lines()) == [
        ("USW2-C3DataTransfer-Out-Bytes", 1_000), (REGIONAL, -1_000), (NAT, -1_000),
    ]  # fmt: skip
    # Of the last cause, nothing is known.
    assert dict(other.places) == {"i-9": 5}


def test_a_payer_has_a_case_of_its_own() -> None:
    rows = [row(NAT, "i-1", ("us-west-2", "us-west-2"), destination="S3.us-west-2", account_id=each)
            for each in ("111111111111", "222222222222")]  # fmt: skip
    assert {case.payer_id for case in found("gateway-endpoint", *rows)} == {"111111111111", "222222222222"}
    [case] = found("gateway-endpoint", *rows, payers=["999999999999"] * 2)
    assert (case.payer_id, sum(case.places.values())) == ("999999999999", 2_000)


def test_peering_is_paid_at_both_ends_and_certain_if_each_end_is_in_one_zone() -> None:
    ends = (row("USW2-C3DataTransfer-Out-Bytes", "i-1", (A, A), basis="told", path=""),
            row("USW2-C3DataTransfer-Out-Bytes", "i-3", (C, C), basis="told", path=""))  # fmt: skip
    passed = row("USW2-TransitGateway-Bytes", "i-1", ("us-west-2", "us-west-2"), destination="asg:jobs",
                 path="transit_gateway", service="AmazonVPC")  # fmt: skip
    [case] = found("peering", *ends, passed)
    assert (dict(case.places), case.assumed_bytes) == ({"vpc-1 and vpc-2": 1_000}, 0)
    assert sorted((line.usage_type, line.account_id, line.bytes) for line in case.lines()) == [
        ("USW2-TransitGateway-Bytes", "111111111111", -1_000),
        ("USW2-VpcPeering-In-Bytes", "333333333333", 1_000),
        ("USW2-VpcPeering-Out-Bytes", "111111111111", 1_000),
    ]
    # A member of the destination in the zone of the cause: perhaps all of it is there.
    near = row("USW2-C3DataTransfer-Out-Bytes", "i-3", (A, A), basis="told", path="")
    [case] = found("peering", *ends, near, passed)
    assert case.assumed_bytes == 1_000
    assert [line.usage_type for line in case.lines()] == ["USW2-TransitGateway-Bytes"]
    # A destination that is in no known VPC cannot be peered.
    assert found("peering", *ends, passed._replace(destination="private")) == []


def test_workloads_that_share_one_zone_only_cannot_stay_within_zones() -> None:
    hop = row(REGIONAL, "i-1", (A, B), basis="told", path="vpc", destination="asg:jobs")
    answer = row(REGIONAL, "i-3", (B, A), basis="told", path="vpc", destination="asg:web")
    assert found("same-zone", hop, answer) == []
    also = row("USW2-C3DataTransfer-Out-Bytes", "i-1", (B, B), basis="told", path="")
    assert found("same-zone", hop, answer, also) == []
    both = row("USW2-C3DataTransfer-Out-Bytes", "i-3", (A, A), basis="told", path="")
    [case] = found("same-zone", hop, answer, also, both)
    assert (dict(case.places), case.assumed_bytes) == ({"asg:jobs and asg:web": 2_000}, 2_000)


def test_a_name_that_people_gave_is_no_destination() -> None:
    public = row(REGIONAL, "i-2", (B, "us-west-2"), basis="told", path="internet_gateway", destination="EC2.us-west-2")
    [case] = found("private-address", public)
    assert dict(case.places) == {"EC2.us-west-2 and subnet-b": 1_000}
