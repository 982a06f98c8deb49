import csv
import json
import re
from importlib import resources
from pathlib import Path

import pytest

from metering.usage.usage_types import (
    PROCESSING,
    TRAFFIC,
    Location,
    billing_prefixes,
    classify,
    is_processing,
    parse_location,
    partition_of,
)


def usage_type(direction: str, from_text: str, to_text: str) -> str:
    from_location, to_location = parse_location(from_text), parse_location(to_text)
    assert isinstance(from_location, Location)
    assert isinstance(to_location, Location)
    return classify(direction, from_location, to_location).usage_type


@pytest.mark.parametrize(("direction", "from_text", "to_text", "expected"), [
    ("out", "us-east-1", "internet", "DataTransfer-Out-Bytes"),
    ("in", "internet", "us-east-1/use1-az2", "DataTransfer-In-Bytes"),
    ("out", "us-west-2", "internet", "USW2-DataTransfer-Out-Bytes"),
    ("out", "eu-west-1", "internet", "EU-DataTransfer-Out-Bytes"),
    ("out", "ap-south-1", "internet", "APS3-DataTransfer-Out-Bytes"),
    ("out", "us-east-1", "cloudfront", "CloudFront-Out-Bytes"),
    ("in", "cloudfront", "us-west-2", "USW2-CloudFront-In-Bytes"),
    ("out", "us-east-1/use1-az1", "unknown", "Unclassified-Out-Bytes"),
    ("in", "unknown", "us-west-2", "USW2-Unclassified-In-Bytes"),
    ("out", "us-east-1", "us-west-2", "USE1-USW2-AWS-Out-Bytes"),
    ("in", "us-east-1", "us-west-2", "USW2-USE1-AWS-In-Bytes"),
    ("out", "us-west-2/usw2-az1", "us-west-2/usw2-az2", "USW2-DataTransfer-Regional-Bytes"),
    ("in", "us-west-2/usw2-az1", "us-west-2/usw2-az2", "USW2-DataTransfer-Regional-Bytes"),
    ("out", "us-east-1/use1-az1", "us-east-1/use1-az2", "DataTransfer-Regional-Bytes"),
    ("out", "us-west-2/usw2-az1", "us-west-2/usw2-az1", "USW2-C3DataTransfer-Out-Bytes"),
    ("in", "us-west-2", "us-west-2/usw2-az1", "USW2-C3DataTransfer-In-Bytes"),
    ("out", "us-east-1", "us-east-1", "C3DataTransfer-Out-Bytes"),
    ("out", "us-east-1", "cn-north-1", "DataTransfer-Out-Bytes"),
    ("in", "us-east-1", "us-gov-west-1", "UGW1-USE1-AWS-In-Bytes"),
    ("out", "ap-southeast-1", "us-gov-west-1", "APS1-UGW1-AWS-Out-Bytes"),
    ("in", "us-gov-west-1", "ap-southeast-1/apse1-az1", "APS1-UGW1-AWS-In-Bytes"),
    ("out", "us-gov-east-1", "us-east-1", "UGE1-USE1-AWS-Out-Bytes"),
    ("out", "us-gov-west-1", "internet", "UGW1-DataTransfer-Out-Bytes"),
    ("out", "us-gov-west-1", "cn-north-1", "UGW1-DataTransfer-Out-Bytes"),
    ("in", "cn-north-1", "us-gov-west-1", "UGW1-DataTransfer-In-Bytes"),
    ("out", "us-east-1", "us-iso-east-1", "DataTransfer-Out-Bytes"),
    ("out", "us-gov-west-1", "us-isob-east-1", "UGW1-DataTransfer-Out-Bytes"),
    ("out", "us-east-1", "us-isof-south-1", "DataTransfer-Out-Bytes"),
    ("out", "eu-west-1", "eu-isoe-west-1", "EU-DataTransfer-Out-Bytes"),
    ("in", "eusc-de-east-1", "eu-central-1", "EUC1-DataTransfer-In-Bytes"),
    ("out", "us-gov-west-1", "us-gov-east-1", "UGW1-UGE1-AWS-Out-Bytes"),
    ("out", "cn-north-1", "cn-northwest-1", "CNN1-CNW1-AWS-Out-Bytes"),
    ("in", "cn-north-1", "cn-northwest-1/cnnw1-az1", "CNW1-CNN1-AWS-In-Bytes"),
    ("out", "cn-northwest-1", "internet", "CNW1-DataTransfer-Out-Bytes"),
    ("out", "cn-north-1", "us-gov-west-1", "CNN1-DataTransfer-Out-Bytes"),
    ("in", "us-east-1", "cn-north-1", "CNN1-DataTransfer-In-Bytes"),
    ("out", "ap-southeast-9", "internet", "ap-southeast-9-DataTransfer-Out-Bytes"),
])  # fmt: skip
def test_traffic_has_the_contracts_usage_type(direction: str, from_text: str, to_text: str, expected: str) -> None:
    assert usage_type(direction, from_text, to_text) == expected


def test_a_region_without_a_prefix_is_named_for_the_warning() -> None:
    known = Location("us-east-1", "us-east-1", "")
    unknown = Location("ap-southeast-9", "ap-southeast-9", "")
    assert classify("in", unknown, known).unknown_regions == {"ap-southeast-9"}
    assert classify("out", known, known).unknown_regions == frozenset()


def test_every_prefix_is_used_once() -> None:
    prefixes = billing_prefixes()
    assert len(set(prefixes.values())) == len(prefixes) == 38


@pytest.mark.parametrize("text", [
    "",
    "us-east-1a",
    "us-east-1/",
    "us-east-1/us-east-1a",
    "us-east-1/eu-west-1c",
    "us-east-1/USE1-AZ1",
    "u-east-1",
    "us-east-1/" + "z" * 33,
    "us-east-1\n",
    "us-east-1/a/b",
    "us-east-",
    "Internet",
    "us-" + "a" * 64 + "-1",
])  # fmt: skip
def test_what_is_no_location_is_refused(text: str) -> None:
    assert isinstance(parse_location(text), str)


@pytest.mark.parametrize(
    "text", ["internet", "cloudfront", "unknown", "us-west-2/usw2-lax1-az1", "ap-southeast-9", "mx-central-12"]
)
def test_known_and_unknown_locations_are_taken(text: str) -> None:
    assert isinstance(parse_location(text), Location)


@pytest.mark.parametrize(("region", "partition"), [
    ("us-east-1", "aws"),
    ("cn-north-1", "aws-cn"),
    ("us-gov-west-1", "aws-us-gov"),
    ("us-iso-east-1", "aws-iso"),
    ("us-isob-east-1", "aws-iso-b"),
    ("us-isof-south-1", "aws-iso-f"),
    ("eu-isoe-west-1", "aws-iso-e"),
    ("eusc-de-east-1", "aws-eusc"),
    ("xx-new-1", "aws"),
])  # fmt: skip
def test_the_partition_for_billing_follows_the_name(region: str, partition: str) -> None:
    assert partition_of(region) == partition


@pytest.mark.parametrize("name", sorted(PROCESSING))
def test_processing_is_recognised_in_every_region(name: str) -> None:
    assert all(is_processing(f"{prefix}{name}") for prefix in ("", "USE1-", "USW2-", "ap-southeast-9-"))


def test_the_contract_has_the_same_names_in_a_pattern_for_sql() -> None:
    page = (Path(__file__).parents[3] / "docs" / "contract" / "reports.md").read_text()
    [pattern] = re.findall(r"NOT regexp_full_match\(usage_type, '(.+)'\)", page)
    names = [*PROCESSING, *(TRAFFIC - PROCESSING), "DataTransfer-Out-Bytes", "NatGateway-Prvd-Bytes"]
    for name in [*names, *(f"USW2-{each}" for each in names)]:
        assert bool(re.fullmatch(pattern, name)) is is_processing(name)


@pytest.mark.parametrize("name", [
    *sorted(TRAFFIC - PROCESSING), "DataTransfer-Out-Bytes", "USW2-C3DataTransfer-In-Bytes", "NatGateway-Hours",
    "NatGateway-Prvd-Bytes", "MyNatGateway-Bytes", "USW2-NatGateway-Bytes-x", "",
])  # fmt: skip
def test_transfer_and_other_names_are_no_processing(name: str) -> None:
    assert not is_processing(name)


def test_every_real_bill_line_has_the_usage_type_that_aws_billed() -> None:
    folder = resources.files("metering.replay").joinpath("samples/aws-bill-lines")
    lines = folder.joinpath("records.ndjson").read_text(encoding="utf-8").splitlines()
    billed = csv.DictReader(folder.joinpath("expected_lines.csv").read_text(encoding="utf-8").splitlines())
    expected = [line["usage_type"] for line in billed]
    assert len(expected) == 338
    records = map(json.loads, lines)
    assert [usage_type(each["direction"], each["from"], each["to"]) for each in records] == expected
