"""EC2's Describe calls in accounts and regions yield a description of networks, which also names denied calls."""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.ec2.responses import EC2Response

from metering.adapters.aws.inventory import PERMISSIONS, AwsInventory, Step
from metering.adapters.aws.queues import SqsQueue, SqsQueueFacts
from metering.adapters.aws.runtime import SystemClock
from metering.adapters.aws.session import Access, Clients
from metering.audit.freshness import Freshness
from metering.errors import OperationFailedError, UnavailableError
from metering.ledger.notes.watch import WatchState
from metering.onramps.context.description import read_description
from metering.onramps.context.holders import tags_of
from metering.onramps.context.inventory import context_of
from metering.stores.queues import Redelivery
from metering.stores.writes import Put, Table
from tests.support.describing import ranges
from tests.support.emulated import item_store, make_resources

PARTNER_ROLE = "arn:aws:iam::444455556666:role/metering-context"


# Metering policies, which moto does not implement: two pages of the list, and one policy's entries.
POLICIES = (
    "<item><transitGatewayMeteringPolicyId>tgw-mp-1</transitGatewayMeteringPolicyId><transitGatewayId>tgw-1"
    "</transitGatewayId><middleboxAttachmentIdSet><item>tgw-attach-9</item></middleboxAttachmentIdSet><state>available"
    "</state><updateEffectiveAt>2026-11-24T13:00:00.000Z</updateEffectiveAt></item>",
    "<item><transitGatewayMeteringPolicyId>tgw-mp-2</transitGatewayMeteringPolicyId><transitGatewayId>tgw-2"
    "</transitGatewayId><state>pending</state></item>",
)
ENTRIES = (
    "<item><policyRuleNumber>10</policyRuleNumber><meteredAccount>transit-gateway-owner</meteredAccount><state>available"
    "</state><updateEffectiveAt>2026-11-24T13:00:00.000Z</updateEffectiveAt><meteringPolicyRule><sourceCidrBlock>"
    "10.9.0.0/16</sourceCidrBlock><protocol>6</protocol></meteringPolicyRule></item>"
)


def _policies(response: EC2Response) -> str:
    page = int("NextToken" in response.querystring)
    name, token = "DescribeTransitGatewayMeteringPoliciesResponse", "" if page else "<nextToken>more</nextToken>"
    items = f"<transitGatewayMeteringPolicies>{POLICIES[page]}</transitGatewayMeteringPolicies>"
    return f"<{name}>{items}{token}</{name}>"


def _entries(response: EC2Response) -> str:
    name = "GetTransitGatewayMeteringPolicyEntriesResponse"
    items = ENTRIES if response.querystring["TransitGatewayMeteringPolicyId"] == ["tgw-mp-1"] else ""
    return f"<{name}><transitGatewayMeteringPolicyEntries>{items}</transitGatewayMeteringPolicyEntries></{name}>"


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    monkeypatch.setattr(EC2Response, "describe_transit_gateway_metering_policies", _policies, raising=False)
    monkeypatch.setattr(EC2Response, "get_transit_gateway_metering_policy_entries", _entries, raising=False)
    with mock_aws():
        yield Clients(Access(region="us-west-2", access_key=("test", "test")))


def built(clients: Clients) -> dict[str, str]:
    """A VPC with a subnet, an interface with an elastic address, a flow log and a transit gateway."""
    ec2: Any = clients.client("ec2")
    vpc_id = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet_id = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.9.0.0/24")["Subnet"]["SubnetId"]
    tags = [{"ResourceType": "network-interface", "Tags": [{"Key": "password", "Value": "hunter2"}]}]
    interface = ec2.create_network_interface(SubnetId=subnet_id, TagSpecifications=tags)
    interface_id = interface["NetworkInterface"]["NetworkInterfaceId"]
    address = ec2.allocate_address(Domain="vpc")
    ec2.associate_address(AllocationId=address["AllocationId"], NetworkInterfaceId=interface_id)
    location: Any = {"LocationConstraint": "us-west-2"}
    clients.s3.create_bucket(Bucket="acme-logs", CreateBucketConfiguration=location)
    [log_id] = ec2.create_flow_logs(
        ResourceIds=[vpc_id],
        ResourceType="VPC",
        TrafficType="ALL",
        LogDestinationType="s3",
        LogDestination="arn:aws:s3:::acme-logs",
        LogFormat="${version} ${interface-id} ${bytes}",
    )["FlowLogIds"]
    gateway_id = ec2.create_transit_gateway()["TransitGateway"]["TransitGatewayId"]
    ec2.create_transit_gateway_vpc_attachment(TransitGatewayId=gateway_id, VpcId=vpc_id, SubnetIds=[subnet_id])
    return {
        "vpc": vpc_id,
        "subnet": subnet_id,
        "interface": interface_id,
        "log": log_id,
        "address": address["PublicIp"],
    }


def test_what_ec2_describes_becomes_a_context(clients: Clients) -> None:
    made = built(clients)
    steps: list[Step] = []
    published = ranges(("52.32.0.0/11", "us-west-2", "EC2"))
    inventory = AwsInventory(
        clients,
        regions=["us-west-2", "us-east-1", "us-west-2"],
        role_arns=[PARTNER_ROLE],
        buckets={"acme-logs": "us-west-2"},
        ip_ranges=lambda: published,
        on_step=steps.append,
    )
    description = inventory.describe()
    # The description can be written as JSON, and contains no tags.
    assert "hunter2" not in json.dumps(description)
    context = context_of(json.loads(json.dumps(description)), 0)
    assert context.accounts == {"123456789012", "444455556666"}
    assert context.places == (
        ("123456789012", "us-east-1"),
        ("123456789012", "us-west-2"),
        ("444455556666", "us-east-1"),
        ("444455556666", "us-west-2"),
    )
    assert made["vpc"] in {vpc.id for vpc in context.vpcs}
    assert made["subnet"] in {subnet.id for subnet in context.subnets}
    found = {interface.id: interface for interface in context.interfaces}
    assert found[made["interface"]].public
    assert made["address"] in {each.address for each in context.public_addresses}
    assert context.flow_logs[made["log"]].fields == ("version", "interface-id", "bytes")
    assert context.transit_vpcs == (made["vpc"],)
    assert len(context.prefixes) == 1
    assert [step.number for step in steps] == list(range(1, 49))
    assert {step.of for step in steps} == {48}
    assert "us-west-2 of account 123456789012: DescribeVpcs" in steps[0].what


def test_attachments_and_metering_policies_are_captured_with_all_their_pages(clients: Clients) -> None:
    built(clients)
    context = context_of(AwsInventory(clients, regions=["us-west-2"]).describe(), 0)
    [attachment] = context.attachments
    owners = attachment.owner_id, attachment.gateway_owner_id
    assert (attachment.kind, owners) == ("vpc", ("123456789012", "123456789012"))
    one, other = context.metering_policies
    assert (one.id, one.middleboxes, one.state, one.effective_s) == (
        "tgw-mp-1",
        ("tgw-attach-9",),
        "available",
        1_795_525_200,
    )
    assert one.rules is not None
    [rule] = one.rules
    assert (rule.number, rule.payer, rule.source_cidr, rule.protocol) == (
        10,
        "transit-gateway-owner",
        "10.9.0.0/16",
        "6",
    )
    assert (other.id, other.state, other.rules) == ("tgw-mp-2", "pending", ())
    assert context.policy_places == (("123456789012", "us-west-2"),)


@pytest.mark.parametrize("denied", ["DescribeTransitGatewayMeteringPolicies", "GetTransitGatewayMeteringPolicyEntries"])
def test_a_role_of_an_earlier_release_captures_and_what_it_may_not_ask_is_said(clients: Clients, denied: str) -> None:
    built(clients)
    _refuse(clients, "ec2", denied, "UnauthorizedOperation")
    inventory = AwsInventory(clients, regions=["us-west-2"])
    context = context_of(inventory.describe(), 0)
    assert f"ec2:{denied} in us-west-2 of account 123456789012" in inventory.skipped
    if denied.startswith("Describe"):
        assert (context.policy_places, context.metering_policies) == ((), ())
        assert "who pays" in context.notes[0]
    else:
        assert {policy.rules for policy in context.metering_policies} == {None}


def test_an_interface_has_its_instance_its_endpoints_service_and_only_the_tags_that_were_asked_for(
    clients: Clients,
) -> None:
    made = built(clients)
    ec2: Any = clients.client("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    [instance] = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=made["subnet"])["Instances"]
    instance_id = instance["InstanceId"]
    tags = {"Name": "runner", "password": "hunter2", "team": "search"}
    ec2.create_tags(Resources=[instance_id], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    service = "com.amazonaws.us-west-2.sqs"
    ec2.create_vpc_endpoint(
        VpcId=made["vpc"], ServiceName=service, VpcEndpointType="Interface", SubnetIds=[made["subnet"]]
    )
    description = AwsInventory(clients, regions=["us-west-2"], tag_keys=["Name", "team"]).describe()
    assert "hunter2" not in json.dumps(description)
    context = context_of(description, 0)
    assert instance_id in {each.resource_id for each in context.holders}
    assert f"endpoint:{service}" in {each.workload for each in context.groups}
    found = tags_of(read_description(description), 0)
    assert found is not None
    assert found.tags == ((instance_id, "Name", "runner"), (instance_id, "team", "search"))


@pytest.mark.parametrize("denied", ["DescribeTags", "DescribeVpcEndpoints"])
def test_a_role_that_may_not_ask_for_tags_or_endpoints_captures(clients: Clients, denied: str) -> None:
    _refuse(clients, "ec2", denied, "UnauthorizedOperation")
    inventory = AwsInventory(clients, regions=["us-west-2"])
    description = inventory.describe()
    context_of(description, 0)
    assert inventory.skipped == (f"ec2:{denied} in us-west-2 of account 123456789012",)
    assert (tags_of(read_description(description), 0) is None) == (denied == "DescribeTags")


def test_without_address_ranges_the_description_has_none(clients: Clients) -> None:
    assert "ip_ranges" not in AwsInventory(clients, regions=["us-west-2"]).describe()


def _refuse(clients: Clients, service: str, operation: str, code: str, status: int = 403) -> None:
    """Return an error for a call without sending it."""

    def answer(**_told: object) -> None:
        told: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(told, operation)

    client: Any = clients.client(service)
    client.meta.events.register(f"before-call.{service}.{operation}", answer)


def test_every_denied_call_is_named_with_its_permission_and_place(clients: Clients) -> None:
    _refuse(clients, "ec2", "DescribeFlowLogs", "UnauthorizedOperation")
    _refuse(clients, "ec2", "DescribeVpcPeeringConnections", "AccessDenied")
    _refuse(clients, "sts", "AssumeRole", "AccessDenied")
    with pytest.raises(OperationFailedError) as caught:
        AwsInventory(clients, regions=["us-west-2"], role_arns=[PARTNER_ROLE]).describe()
    told = str(caught.value)
    assert "ec2:DescribeFlowLogs in us-west-2 of account 123456789012" in told
    assert "ec2:DescribeVpcPeeringConnections in us-west-2" in told
    assert f"sts:AssumeRole of {PARTNER_ROLE}" in told
    assert all(permission in caught.value.advice for permission in PERMISSIONS)


def test_buckets_have_their_regions_and_owners_if_s3_may_be_asked(clients: Clients) -> None:
    built(clients)

    def tell(parsed: Any, **_told: object) -> None:
        # AWS returns the region of each bucket on a page; moto does not.
        for bucket in parsed["Buckets"]:
            bucket["BucketRegion"] = "us-west-2"

    clients.s3.meta.events.register("after-call.s3.ListBuckets", tell)
    inventory = AwsInventory(clients, regions=["us-west-2"], asks_for_buckets=True)
    context = context_of(inventory.describe(), 0)
    assert (dict(context.buckets), dict(context.bucket_owners)) == (
        {"acme-logs": "us-west-2"},
        {"acme-logs": "123456789012"},
    )
    assert inventory.skipped == ()


def test_without_the_list_of_buckets_a_context_is_captured_and_says_so(clients: Clients) -> None:
    _refuse(clients, "s3", "ListBuckets", "AccessDenied")
    inventory = AwsInventory(clients, regions=["us-west-2"], asks_for_buckets=True)
    assert inventory.describe()["buckets"] == {}
    assert inventory.skipped == ("s3:ListAllMyBuckets in account 123456789012",)


def test_a_call_that_an_endpoint_does_not_have_is_left_out(clients: Clients) -> None:
    _refuse(clients, "ec2", "DescribeTransitGatewayVpcAttachments", "InvalidAction", 400)
    description: Any = AwsInventory(clients, regions=["us-west-2"]).describe()
    [place] = description["regions"]
    assert "TransitGatewayVpcAttachments" not in place


def test_a_throttled_call_is_transient_and_another_failure_is_loud(clients: Clients) -> None:
    _refuse(clients, "ec2", "DescribeSubnets", "RequestLimitExceeded", 503)
    with pytest.raises(UnavailableError):
        AwsInventory(clients, regions=["us-west-2"]).describe()
    _refuse(clients, "ec2", "DescribeVpcs", "InvalidParameterValue", 400)
    with pytest.raises(ClientError):
        AwsInventory(clients, regions=["us-west-2"]).describe()


def test_temporary_credentials_do_not_show_in_texts() -> None:
    access = Access(region="us-west-2", access_key=None, session_token="secret-token")
    assert "secret-token" not in repr(access)


# `complete_through` over the AWS adapters: an emulator measures no age, and reports its redelivery settings.

VISIBILITY_S = 1
MAX_RECEIVES = 3


def queues(clients: Clients) -> tuple[str, str]:
    name = uuid.uuid4().hex
    dead = clients.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    arn = clients.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES})
    ingest = clients.sqs.create_queue(
        QueueName=name, Attributes={"VisibilityTimeout": str(VISIBILITY_S), "RedrivePolicy": policy}
    )
    return ingest["QueueUrl"], dead


@pytest.fixture
def queue_clients() -> Iterator[Clients]:
    with mock_aws():
        yield Clients(Access(region="us-east-1", access_key=("test", "test")))


def test_a_dead_letter_in_a_queue_of_sqs_holds_back_to_before_it_was_sent(queue_clients: Clients) -> None:
    clients = queue_clients
    ingest_url, dead_url = queues(clients)
    ingest, dead = SqsQueue(clients.sqs, ingest_url), SqsQueue(clients.sqs, dead_url)
    facts = SqsQueueFacts(clients.sqs, clients.cloudwatch, ingest_url=ingest_url, dead_letter_url=dead_url)
    assert facts.redelivery() == Redelivery(visibility_s=VISIBILITY_S, max_receives=MAX_RECEIVES)
    assert facts.oldest_age_s() is None
    items = item_store(clients, make_resources(clients))
    clock = SystemClock()
    freshness = Freshness(
        items=items, ingest=ingest, dead=dead, queue_facts=facts, clock=clock,
        region="us-east-1", stage="local", shards=1, window_s=86_400,
    )  # fmt: skip
    # The watch wrote this state earlier, when its queues were empty.
    empty = WatchState(first_s=0, queue_empty_s=clock.now_ms() // 1000 - 30)
    items.put(Put(table=Table.LEDGER, item=empty.to_item()))
    freshness.keep()
    sent_s = clock.now_ms() // 1000
    ingest.send_many(["{}"])
    end_s = time.monotonic() + 20
    while dead.depth().total == 0:
        assert time.monotonic() < end_s, "the message does not die"
        ingest.receive(1)
        freshness.keep()
        assert freshness.answer().through_s <= sent_s
        time.sleep(VISIBILITY_S)
    assert ingest.depth().total == 0
    freshness.keep()
    assert sent_s - 120 <= freshness.answer().through_s <= sent_s
