"""A context is captured from the EC2 of an emulator, kept in its S3, and judges a line."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from metering.adapters.aws.inventory import AwsInventory
from metering.adapters.aws.objects import S3ObjectStore
from metering.hours import parse_hour
from metering.onramps.context.store import ContextStore, capture_context
from metering.onramps.reading import FileName, FlowHop
from metering.onramps.reasons import Classified
from metering.onramps.rules.flow_classifier import FlowClassifier
from metering.units import HOUR_S

if TYPE_CHECKING:
    from metering.adapters.aws.session import Clients

pytestmark = pytest.mark.emulator

NOW_S = parse_hour("2026-11-24T13") + 1_020


def test_a_capture_of_an_emulator_judges_a_line(clients: Clients) -> None:
    ec2: Any = clients.client("ec2")
    bucket = f"contexts-{uuid.uuid4().hex}"
    clients.s3.create_bucket(Bucket=bucket)
    vpc_id = ec2.create_vpc(CidrBlock="10.77.0.0/16")["Vpc"]["VpcId"]
    subnet_id = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.77.1.0/24")["Subnet"]["SubnetId"]
    interface = ec2.create_network_interface(SubnetId=subnet_id)["NetworkInterface"]
    [log_id] = ec2.create_flow_logs(
        ResourceIds=[vpc_id],
        ResourceType="VPC",
        TrafficType="ALL",
        LogDestinationType="s3",
        LogDestination=f"arn:aws:s3:::{bucket}",
    )["FlowLogIds"]
    store = ContextStore(S3ObjectStore(clients.s3, bucket))
    region = clients.access.region
    inventory = AwsInventory(clients, regions=[region])

    first = capture_context(inventory.describe(), store, NOW_S)
    assert (first.kept, capture_context(inventory.describe(), store, NOW_S + 60).kept) == (True, False)
    assert len(list(store.names())) == 1

    name = FileName(kind="vpc-flow", identity="flow:a", account_id="123456789012", region=region, source=log_id)
    # A version 2 line: direction and zone are those of the inventory.
    line = FlowHop(
        interface_id=interface["NetworkInterfaceId"],
        source=interface["PrivateIpAddress"],
        destination="10.77.1.200",
    )
    outcome = FlowClassifier(name, store.timeline()).outcome(line, parse_hour("2026-11-24T13") + HOUR_S)
    assert isinstance(outcome, Classified)
    assert (outcome.rule, outcome.traffic.direction) == ("same_zone", "out")
    assert outcome.traffic.from_location == outcome.traffic.to_location
