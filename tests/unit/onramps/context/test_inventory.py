"""A description becomes a context, or is refused with a message. Look-ups by prefix return the same as a slow loop."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.onramps.context import document, inventory
from metering.onramps.context.description import DescriptionError, read_ip_ranges
from metering.onramps.context.document import Address, Prefix, PrefixMap, address_of, address_ranges, is_public
from metering.onramps.context.inventory import context_of
from tests.support.describing import (
    ACCOUNT,
    EFFECTIVE_S,
    PARTNER,
    REGION,
    SMALL,
    block,
    described,
    flow_log,
    interface,
    peering,
    place,
    ranges,
    subnet,
    vpc,
)


def problems_of(description: dict[str, Any], effective_s: int = EFFECTIVE_S) -> str:
    with pytest.raises(DescriptionError) as caught:
        context_of(description, effective_s)
    assert caught.value.advice
    return str(caught.value)


def test_everything_that_judges_lines_is_taken() -> None:
    context = context_of(SMALL, EFFECTIVE_S)
    assert context.effective_s == EFFECTIVE_S
    assert context.accounts == {ACCOUNT, PARTNER}
    [known] = context.vpcs
    assert known.cidrs == ("10.0.0.0/16", "100.64.0.0/16", "2600:1f14:abc::/56")
    assert [(each.id, each.zone_id) for each in context.subnets] == [("subnet-1", "usw2-az1"), ("subnet-2", "usw2-az2")]
    one, two = context.interfaces
    assert one.addresses == ("10.0.0.5", "10.0.0.6", "2600:1f14:abc::5")
    assert (one.kind, one.public) == ("interface", True)
    # Only the list of elastic addresses contains the gateway's address.
    assert (two.kind, two.public) == ("nat_gateway", True)
    assert [each.address for each in context.public_addresses] == ["52.34.0.1", "52.34.0.9"]
    assert context.transit_vpcs == ("vpc-1",)
    assert context.peerings[0].cidrs == (("10.0.0.0/16",), ("10.9.0.0/16",))
    assert context.flow_logs["fl-1"].fields == ("version", "interface-id", "srcaddr", "dstaddr", "bytes")
    assert context.flow_logs["fl-1"].resource_type == "vpc"
    assert context.buckets == {"acme-logs": REGION}
    assert [(each.cidr, each.services) for each in context.prefixes] == [
        ("2600:1f14::/36", ("EC2",)),
        ("52.34.0.0/15", ("AMAZON", "EC2")),
    ]
    assert context.notes == ()


def test_the_order_of_a_description_says_nothing() -> None:
    shuffled = copy.deepcopy(SMALL)
    rng = random.Random(1)
    for described_place in shuffled["regions"]:
        for items in described_place.values():
            if isinstance(items, list):
                rng.shuffle(items)
    rng.shuffle(shuffled["ip_ranges"]["prefixes"])
    shuffled["captured_at"] = "2026-11-24T10:18:00Z"
    assert context_of(shuffled, EFFECTIVE_S).encode() == context_of(SMALL, EFFECTIVE_S).encode()


def test_a_shared_vpc_is_what_owner_and_participants_say_together() -> None:
    owner = place(Vpcs=[vpc("vpc-1", "10.0.0.0/16")], Subnets=[subnet("subnet-1", "vpc-1", "10.0.0.0/24")])
    participant = place(
        account_id=PARTNER,
        Vpcs=[vpc("vpc-1", "10.0.0.0/16", "10.4.0.0/16")],
        Subnets=[subnet("subnet-1", "vpc-1", "10.0.0.0/24")],
        NetworkInterfaces=[interface("eni-1", "subnet-1", "10.0.0.4", OwnerId=PARTNER)],
    )
    context = context_of(described(owner, participant), EFFECTIVE_S)
    assert [each.cidrs for each in context.vpcs] == [("10.0.0.0/16", "10.4.0.0/16")]
    assert len(context.subnets) == 1
    assert context.interfaces[0].account_id == PARTNER


def test_what_came_or_went_between_two_calls_is_left_out_and_noted() -> None:
    torn = place(
        Vpcs=[vpc("vpc-1", "10.0.0.0/16")],
        Subnets=[subnet("subnet-1", "vpc-1", "10.0.0.0/24"), subnet("subnet-8", "vpc-8", "10.8.0.0/24")],
        NetworkInterfaces=[interface("eni-1", "subnet-7", "10.0.0.4"), interface("eni-2", "", "10.0.0.5")],
    )
    context = context_of(described(torn), EFFECTIVE_S)
    assert context.interfaces == ()
    assert context.notes == (
        "eni-1 was left out: its subnet-7 was not described",
        "eni-2 was left out: its subnet was not described",
        "subnet-8 was left out: its vpc-8 was not described",
    )


def test_addresses_may_change_between_the_calls_of_two_accounts() -> None:
    busy = copy.deepcopy(SMALL)
    again = interface("eni-1", "subnet-1", "10.0.0.5", "10.0.0.7")
    busy["regions"][0]["NetworkInterfaces"].append(again)
    busy["regions"][0]["FlowLogs"].append(flow_log("fl-1", "vpc-1", DeliverLogsStatus="FAILED"))
    one = context_of(busy, EFFECTIVE_S).interfaces[0]
    assert one.addresses == ("10.0.0.5", "10.0.0.6", "10.0.0.7", "2600:1f14:abc::5")
    # If only one of the two contexts states a fact, the fact is unknown.
    assert not one.public


def test_notes_are_few_however_much_is_left_out() -> None:
    lost = [interface(f"eni-{number:04}", "subnet-7", "10.0.0.4") for number in range(500)]
    notes = context_of(described(place(NetworkInterfaces=lost)), EFFECTIVE_S).notes
    assert len(notes) == document.MAX_NOTES + 1
    assert notes[-1] == "400 more notes were left out"


def test_blocks_and_peerings_that_are_gone_do_not_count() -> None:
    gone = vpc("vpc-1", "10.0.0.0/16")
    gone["CidrBlockAssociationSet"].append(block("10.7.0.0/16", "disassociated"))
    closed = peering("pcx-1", ("vpc-1", "10.0.0.0/16"), ("vpc-2", "10.2.0.0/16")) | {"Status": {"Code": "deleted"}}
    detached = {"VpcId": "vpc-1", "State": "deleted"}
    changed = place(Vpcs=[gone], VpcPeeringConnections=[closed], TransitGatewayVpcAttachments=[detached])
    context = context_of(described(changed), EFFECTIVE_S)
    assert context.vpcs[0].cidrs == ("10.0.0.0/16",)
    assert (context.peerings, context.transit_vpcs) == ((), ())


@pytest.mark.parametrize(("described_interface", "kind"), [
    ({"RequesterId": "amazon-elb", "Description": "ELB app/web/50dc6c495c0c9188"}, "application_load_balancer"),
    ({"RequesterId": "amazon-elb", "Description": "ELB web"}, "classic_load_balancer"),
    ({"InterfaceType": "network_load_balancer", "Description": "ELB net/a/8d4f"}, "network_load_balancer"),
    ({"InterfaceType": "gateway_load_balancer", "Description": "ELB gwy/a/8d4f"}, "gateway_load_balancer"),
    ({"RequesterId": "amazon-elb", "InterfaceType": "network_load_balancer"}, "network_load_balancer"),
    ({"RequesterId": "amazon-elb", "Description": "ELB new/a/8d4f"}, "other"),
    ({"InterfaceType": "natGateway"}, "nat_gateway"),
    ({"InterfaceType": "nat_gateway"}, "nat_gateway"),
    ({"InterfaceType": "transit_gateway"}, "transit_gateway"),
    ({"InterfaceType": "vpc_endpoint"}, "vpc_endpoint"),
    ({"InterfaceType": "gateway_load_balancer_endpoint"}, "gateway_load_balancer_endpoint"),
    ({"Description": "ClientVPN Endpoint resource"}, "client_vpn"),
    ({"RequesterId": "amazon-rds", "Description": "RDSNetworkInterface"}, "database"),
    ({"InterfaceType": "lambda"}, "interface"),
    ({"InterfaceType": "of the future"}, "other"),
    ({}, "interface"),
])  # fmt: skip
def test_an_interface_says_what_it_belongs_to(described_interface: dict[str, str], kind: str) -> None:
    one = interface("eni-1", "subnet-1", "10.0.0.4") | described_interface
    vpcs, subnets = [vpc("vpc-1", "10.0.0.0/16")], [subnet("subnet-1", "vpc-1", "10.0.0.0/24")]
    context = context_of(described(place(Vpcs=vpcs, Subnets=subnets, NetworkInterfaces=[one])), EFFECTIVE_S)
    assert context.interfaces[0].kind == kind


def _in_place(name: str, item: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    return lambda description: description["regions"][0][name].append(item)


def _other(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda description: description.update({name: value})


@pytest.mark.parametrize(("change", "words"), [
    (_in_place("Subnets", subnet("subnet-3", "vpc-1", "10.0.0.128/25")), "subnet-1 and subnet-3 of vpc-1 overlap"),
    (_in_place("Subnets", subnet("subnet-1", "vpc-1", "10.0.9.0/24")), "subnet-1 is described twice, and differs"),
    (_in_place("Subnets", subnet("subnet-3", "vpc-1", "10.0.9.0/24", zone="us-west-2a")), "'us-west-2a'"),
    (_in_place("Subnets", subnet("subnet-3", "vpc-1", "10.0.9.0/99")), "'10.0.9.0/99', which is no CIDR block"),
    (_in_place("Subnets", subnet("subnet-3", "vpc-1", "10.0.9.7/24")), "'10.0.9.7/24', which is no CIDR block"),
    (_in_place("Vpcs", vpc("vpc-2", "everything")), "vpc-2 has 'everything', which is no CIDR block"),
    (_in_place("Vpcs", vpc("vpc-1", "10.0.0.0/16", owner=PARTNER)), "vpc-1 is in us-west-2"),
    (_in_place("FlowLogs", flow_log("fl-1", "vpc-2")), "flow log fl-1 is described twice, and differs"),
    (_in_place("NetworkInterfaces", interface("eni-1", "subnet-2", "10.0.0.9")), "eni-1 is described twice"),
    (_in_place("NetworkInterfaces", interface("eni-3", "subnet-1", "10.0.0.999")), "which is no address"),
    (_in_place("NetworkInterfaces", interface("eni-3", "subnet-1", "10.0.0.9", Ipv4Prefixes=[{"Ipv4Prefix": "x"}])),
     "eni-3 has 'x', which is no CIDR block"),
    (_in_place("Addresses", {"PublicIp": "everywhere"}), "'everywhere', which is no address"),
    (_in_place("VpcPeeringConnections", peering("pcx-1", ("vpc-1", "10.0.0.0/16"), ("vpc-8", "10.8.0.0/16"))),
     "pcx-1 joins"),
    (_in_place("VpcPeeringConnections", peering("pcx-2", ("", ""), ("vpc-8", ""))), "does not say which VPCs"),
    (_other("accounts", ["12345678901"]), "'12345678901' is no account"),
    (_other("buckets", {"logs": "mars"}), "'mars' is no region"),
    (_other("ip_ranges", ranges(("52.0.0.0/9", REGION, "EC2"), ("52.0.0.0/9", "us-east-1", "EC2"))), "52.0.0.0/9"),
    (_other("ip_ranges", ranges(("52.0.0.0/9", "mars", "EC2"))), "which is no region"),
    (_other("ip_ranges", ranges(("52.0.0.1/9", REGION, "EC2"))), "which is no CIDR block"),
    (_other("ip_ranges", {"prefixes": []}), "missing required field `ipv6_prefixes`"),
    (_other("schema", "metering.description/9"), "metering.description/9"),
    (_other("regions", [{"region": REGION}]), "account_id"),
    (_in_place("Vpcs", {"VpcId": 7}), "$.regions[0].Vpcs[1].VpcId"),
    (_in_place("FlowLogs", flow_log("fl-9", "vpc-1", CreationTime="yesterday")), "CreationTime"),
])  # fmt: skip
def test_what_contradicts_itself_is_refused_in_words(change: Callable[[dict[str, Any]], None], words: str) -> None:
    description = copy.deepcopy(SMALL)
    change(description)
    assert words in problems_of(description)


def test_every_problem_is_named_up_to_a_limit() -> None:
    wrong = [vpc(f"vpc-{number}", "nowhere") for number in range(50)]
    with pytest.raises(DescriptionError) as caught:
        context_of(described(place(Vpcs=wrong)), EFFECTIVE_S)
    assert len(caught.value.problems) == document.MAX_PROBLEMS


def test_a_context_holds_from_a_full_hour_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "full hour" in problems_of(SMALL, EFFECTIVE_S + 1)
    monkeypatch.setattr(inventory, "MAX_INTERFACES", 1)
    assert "2 interfaces are more than the 1 of a context" in problems_of(SMALL)
    monkeypatch.setattr(inventory, "MAX_PREFIXES", 2)
    assert "more than 2" in problems_of(SMALL)


@pytest.mark.parametrize(
    "body", [b"", b"<html>sign in</html>", b"[]", b"{}", b'{"prefixes": [{}], "ipv6_prefixes": []}', b"[" * 100_000]
)
def test_what_is_no_list_of_address_rangesis_refused(body: bytes) -> None:
    with pytest.raises(DescriptionError, match="address ranges are not what AWS publishes"):
        read_ip_ranges(body)


# There are few distinct bits, so that prefixes often nest and touch.
_V4 = st.builds(
    lambda number, bits: str(IPv4Network((number << 24 >> bits << bits, 32 - bits))),
    st.integers(0, 15),
    st.integers(20, 30),
)
_V6 = st.builds(
    lambda number, bits: str(IPv6Network((number << 120 >> bits << bits, 128 - bits))),
    st.integers(0, 15),
    st.integers(116, 126),
)
_BLOCKS = st.lists(st.tuples(st.one_of(_V4, _V6), st.integers(0, 9)), max_size=12)


def _edges(cidrs: list[str]) -> list[IPv4Address | IPv6Address]:
    """Addresses at the ends of blocks and next to them, where mistakes occur."""
    found: list[IPv4Address | IPv6Address] = [ip_address("0.0.0.0"), ip_address("::"), ip_address("255.255.255.255")]  # noqa: S104
    for cidr in cidrs:
        network = ip_network(cidr)
        most = (1 << network.max_prefixlen) - 1
        for number in (int(network.network_address), int(network.broadcast_address)):
            for beside in (number - 1, number, number + 1):
                if 0 <= beside <= most:
                    found.append(type(network.network_address)(beside))
    return found


def _address(address: IPv4Address | IPv6Address) -> Address:
    return Address(address.version, int(address))


@given(_BLOCKS)
def test_every_block_that_contains_an_address_is_seen_the_widest_first(blocks: list[tuple[str, int]]) -> None:
    found: PrefixMap[tuple[int, ...]] = PrefixMap(
        [(cidr, (value,)) for cidr, value in blocks], lambda values: tuple(v for each in values for v in each)
    )
    for address in _edges([cidr for cidr, _ in blocks]):
        containing = [(ip_network(cidr), value) for cidr, value in blocks]
        slow = [(network, value) for network, value in containing if address in network]
        fast = found.at(_address(address))
        assert sorted(fast or ()) == sorted(value for _, value in slow)


_REGIONS = ("us-west-2", "us-east-1", "GLOBAL")
_SERVICES = st.sets(st.sampled_from(["AMAZON", "EC2", "S3", "CLOUDFRONT"]), min_size=1).map(lambda s: tuple(sorted(s)))


@given(st.dictionaries(st.one_of(_V4, _V6), st.tuples(st.sampled_from(_REGIONS), _SERVICES), max_size=12))
def test_the_region_is_that_of_the_longest_prefix(published: dict[str, tuple[str, tuple[str, ...]]]) -> None:
    ranges = address_ranges([Prefix(cidr, *told) for cidr, told in published.items()])
    for address in _edges(list(published)):
        slow = [(ip_network(cidr).prefixlen, *told) for cidr, told in published.items() if address in ip_network(cidr)]
        fast = ranges.at(_address(address))
        if not slow:
            assert fast is None
            continue
        assert fast is not None
        longest = max(slow)
        assert fast.region == longest[1]
        assert set(fast.all_services) == {service for _, _, services in slow for service in services}
        telling = [each for each in slow if each[1] == fast.region and each[2] != ("AMAZON",)]
        assert fast.services == (max(telling)[2] if telling else ("AMAZON",))


def test_a_prefix_of_amazon_alone_says_nothing_of_the_service() -> None:
    ranges = address_ranges(
        [Prefix("52.32.0.0/11", "us-west-2", ("EC2",)), Prefix("52.40.16.0/20", "us-west-2", ("AMAZON",))]
    )
    found = ranges.at(Address(4, int(ip_address("52.40.16.1"))))
    assert found is not None
    assert (found.services, found.all_services) == (("EC2",), ("AMAZON", "EC2"))


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_addresses_are_numbers(address: IPv4Address | IPv6Address) -> None:
    assert address_of(str(address)) == _address(address)
    for text in ("", "10.0.0", "10.0.0.256", "010.0.0.1x", "::1::", "10.0.0.1\n", "fe80::1%eth0", "é", "1"):
        assert address_of(text) is None


@pytest.mark.parametrize(("text", "public"), [
    ("8.8.8.8", True), ("10.1.2.3", False), ("172.31.255.255", False), ("172.32.0.0", True), ("100.64.0.1", False),
    ("100.128.0.1", True), ("192.168.0.1", False), ("169.254.169.254", False), ("224.0.0.1", False),
    ("255.255.255.255", False), ("2600:1f14::1", True), ("fd00::1", False), ("fe80::1", False),
    ("::ffff:10.0.0.1", False),
])  # fmt: skip
def test_private_addresses_are_no_peers_on_the_internet(text: str, public: bool) -> None:
    address = address_of(text)
    assert address is not None
    assert is_public(address) is public
