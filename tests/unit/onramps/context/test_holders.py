"""Owners of interfaces: by attachment, description, endpoint and tags; tags are stored beside the context."""

from __future__ import annotations

from typing import Any

import pytest

from metering.onramps.context.description import read_description
from metering.onramps.context.document import Context, ContextUnreadableError
from metering.onramps.context.holders import Tags, Workloads, decoded_tags, tags_of
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import ContextKeeper, ContextStore, capture_context
from metering.units import HOUR_S, MINUTE_S
from tests.support.describing import EFFECTIVE_S, SMALL, described, interface, place, subnet, vpc
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore

ASG = "aws:autoscaling:groupName"
DESCRIPTIONS = {
    "AWS Lambda VPC ENI-make-thumbnails-0a1b2c3d-0011-2233-4455-66778899aabb": ("eni-1", "lambda:make-thumbnails"),
    "ELB app/web/50dc6c495c0c9188": ("app/web/50dc6c495c0c9188", "elb:app/web"),
    "ELB net/internal/8d4fbf2a7a1c2f3e": ("net/internal/8d4fbf2a7a1c2f3e", "elb:net/internal"),
    "ELB old-one": ("old-one", "elb:old-one"),
    "ElastiCache sessions-001": ("sessions-001", "elasticache:sessions-001"),
    "EFS mount target for fs-0a1b (fsmt-0c2d)": ("fs-0a1b", "efs:fs-0a1b"),
    "Interface for NAT Gateway nat-0123456789abcdef0": ("nat-0123456789abcdef0", "nat-0123456789abcdef0"),
    "VPC Endpoint Interface vpce-0123": ("vpce-0123", "vpce-0123"),
    "Network Interface for Transit Gateway Attachment tgw-attach-09": ("tgw-attach-09", "tgw-attach-09"),
    "RDSNetworkInterface": ("eni-1", "eni-1"),
    "a description that a person wrote": ("eni-1", "eni-1"),
}


def tag(resource_id: str, key: str, value: str) -> dict[str, Any]:
    return {"ResourceId": resource_id, "Key": key, "Value": value}


def networks(*interfaces: dict[str, Any], **lists: Any) -> dict[str, Any]:
    return described(
        place(
            Vpcs=[vpc("vpc-1", "10.0.0.0/16")],
            Subnets=[subnet("subnet-1", "vpc-1", "10.0.0.0/24")],
            NetworkInterfaces=list(interfaces),
            **lists,
        )
    )


def one(**others: Any) -> dict[str, Any]:
    return interface("eni-1", "subnet-1", "10.0.0.5", **others)


def owned(description: dict[str, Any], its_id: str = "eni-1") -> tuple[str, str]:
    tags = tags_of(read_description(description), EFFECTIVE_S)
    found = Workloads(context_of(description, EFFECTIVE_S), tags).of(its_id)
    return found.resource_id, found.workload


@pytest.mark.parametrize("text", DESCRIPTIONS)
def test_a_service_of_aws_is_told_from_the_description_that_it_gives_its_interfaces(text: str) -> None:
    assert owned(networks(one(Description=text))) == DESCRIPTIONS[text]


def test_an_interface_of_an_instance_belongs_to_what_the_instances_tags_name() -> None:
    attached = one(Attachment={"InstanceId": "i-1"})
    assert owned(networks(attached)) == ("i-1", "i-1")
    assert owned(networks(attached, Tags=[tag("i-1", "Name", "bastion")])) == ("i-1", "name:bastion")
    grouped = [tag("i-1", "Name", "bastion"), tag("i-1", ASG, "ci-runners")]
    assert owned(networks(attached, Tags=grouped)) == ("i-1", "asg:ci-runners")
    # The same for the instance itself, as lines of its flow log name it.
    assert owned(networks(attached, Tags=grouped), "i-1") == ("i-1", "asg:ci-runners")


def test_a_node_group_goes_before_the_auto_scaling_group_that_it_made_and_a_task_before_both() -> None:
    tags = [tag("i-1", ASG, "eks-blue-3ac0"), tag("i-1", "eks:cluster-name", "prod")]
    attached = one(Attachment={"InstanceId": "i-1"})
    # A cluster alone names no node group.
    assert owned(networks(attached, Tags=tags))[1] == "asg:eks-blue-3ac0"
    tags.append(tag("i-1", "eks:nodegroup-name", "blue"))
    assert owned(networks(attached, Tags=tags))[1] == "eks:prod/blue"
    tags += [tag("eni-1", "aws:ecs:clusterName", "prod"), tag("eni-1", "aws:ecs:serviceName", "indexer")]
    assert owned(networks(attached, Tags=tags))[1] == "ecs:prod/indexer"


def test_an_endpoint_holds_its_interfaces_and_is_named_by_its_service() -> None:
    service = "com.amazonaws.us-west-2.sqs"
    endpoint = {"VpcEndpointId": "vpce-1", "ServiceName": service, "NetworkInterfaceIds": ["eni-1", "eni-of-nobody"]}
    description = networks(one(Description="VPC Endpoint Interface vpce-1"), VpcEndpoints=[endpoint])
    assert owned(description) == ("vpce-1", f"endpoint:{service}")
    assert [each.interface_id for each in context_of(description, EFFECTIVE_S).holders] == ["eni-1"]


def test_only_what_belongs_to_known_interfaces_is_in_the_context() -> None:
    tags = [tag("i-other", ASG, "elsewhere"), tag("i-1", ASG, "here"), tag("i-1", "team", "search")]
    context = context_of(networks(one(Attachment={"InstanceId": "i-1"}), Tags=tags), EFFECTIVE_S)
    assert context.groups == (("i-1", "asg:here"),)
    # Tags that people gave are not in it: processes that judge lines never load them.
    assert b"search" not in context.encode()
    assert Context.decode(context.encode()).holders == context.holders == (("eni-1", "i-1"),)


def test_a_context_without_holders_has_the_bytes_that_earlier_releases_wrote() -> None:
    plain = context_of(SMALL, EFFECTIVE_S)
    assert (plain.holders, plain.groups) == ((), ())
    assert plain.sha256 == "958766e2eafa90e73e30a5d024d9e4bf317015a11478374e8e1deea2fedb357e"
    assert b"holders" not in plain.encode()


def test_tags_are_kept_by_the_hour_and_found_by_it() -> None:
    store = ContextStore(MemoryObjectStore(ManualClock(0)))
    assert store.tags_at(EFFECTIVE_S) is None
    for hours, value in ((0, "one"), (2, "two")):
        description = networks(one(), Tags=[tag("eni-1", "Name", value)])
        capture_context(description, store, EFFECTIVE_S + hours * HOUR_S)

    def name_at(hours: int) -> str:
        tags = store.tags_at(EFFECTIVE_S + hours * HOUR_S)
        return "" if tags is None else tags.by_id()["eni-1"]["Name"]

    # They hold from the hour after their capture, and the first ones also before.
    assert [name_at(hours) for hours in (0, 1, 2, 3, 9)] == ["one", "one", "one", "two", "two"]
    # The context has not changed, so one is stored; and tags are no contexts.
    assert len(list(store.names())) == 1


def test_tags_that_are_taken_away_are_gone_in_the_next_capture_and_a_role_that_may_not_ask_changes_none() -> None:
    store = ContextStore(MemoryObjectStore(ManualClock(0)))
    captures: list[dict[str, Any]] = [{"Tags": [tag("eni-1", "Name", "one")]}, {}, {"Tags": []}]
    for hours, lists in enumerate(captures):
        capture_context(networks(one(), **lists), store, EFFECTIVE_S + hours * HOUR_S)
    found = [store.tags_at(EFFECTIVE_S + hours * HOUR_S) for hours in (1, 2, 3)]
    assert [len(each.tags) for each in found if each is not None] == [1, 1, 0]


def test_the_schedule_keeps_tags_too() -> None:
    clock = ManualClock((EFFECTIVE_S + 55 * MINUTE_S) * 1000)
    store = ContextStore(MemoryObjectStore(clock))
    description = networks(one(), Tags=[tag("eni-1", "Name", "one")])
    ContextKeeper(contexts=store, describe=lambda: description, clock=clock).run()
    tags = store.tags_at(EFFECTIVE_S + HOUR_S)
    assert tags is not None
    assert tags.tags == (("eni-1", "Name", "one"),)


def test_damaged_tags_are_named_and_those_of_another_release_too() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    store = ContextStore(objects)
    capture_context(networks(one(), Tags=[]), store, EFFECTIVE_S)
    [key] = [info.key for info in objects.list("context/tags/")]
    objects.put(key, objects.get(next(info.key for info in objects.list("context/2"))), if_absent=False)
    with pytest.raises(ContextUnreadableError, match="other content than its name says"):
        store.tags_at(EFFECTIVE_S)
    for body in (b"{", b"[]", Tags(schema="metering.tags/2", effective_s=0, tags=()).encode()):
        with pytest.raises(ContextUnreadableError):
            decoded_tags(body)
