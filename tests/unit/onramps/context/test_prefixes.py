"""Look-ups by prefixes equal a slow loop over all prefixes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.onramps.context.facts import Address, Prefix, PrefixMap, address_of, address_ranges, is_public

# Few distinct bits, so that prefixes often nest and touch.
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
    """Addresses at and beside the ends of blocks, where mistakes occur."""
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


def test_a_prefix_of_another_region_inside_a_wider_one_is_of_its_own_region() -> None:
    ranges = address_ranges(
        [
            Prefix("52.32.0.0/11", "us-west-2", ("AMAZON", "EC2")),
            Prefix("52.40.16.0/20", "us-east-1", ("AMAZON", "EC2")),
            Prefix("52.40.16.0/24", "us-east-1", ("S3",)),
        ]
    )
    asked = ("52.40.15.255", "52.40.16.1", "52.40.31.255", "52.40.32.0")
    found = [ranges.at(_address(ip_address(text))) for text in asked]
    assert [(each.region, each.services) for each in found if each] == [
        ("us-west-2", ("AMAZON", "EC2")),
        ("us-east-1", ("S3",)),
        ("us-east-1", ("AMAZON", "EC2")),
        ("us-west-2", ("AMAZON", "EC2")),
    ]


def test_a_prefix_of_amazon_alone_says_nothing_of_the_service() -> None:
    ranges = address_ranges(
        [Prefix("52.32.0.0/11", "us-west-2", ("EC2",)), Prefix("52.40.16.0/20", "us-west-2", ("AMAZON",))]
    )
    found = ranges.at(Address(4, int(ip_address("52.40.16.1"))))
    assert found is not None
    assert (found.services, found.all_services) == (("EC2",), ("AMAZON", "EC2"))


@pytest.mark.parametrize(
    "text", ["", "10.0.0", "10.0.0.256", "010.0.0.1x", "::1::", "10.0.0.1\n", "fe80::1%eth0", "é", "1"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert address_of(text) is None


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_addresses_are_numbers(address: IPv4Address | IPv6Address) -> None:
    assert address_of(str(address)) == _address(address)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("8.8.8.8", True),
        ("10.1.2.3", False),
        ("172.31.255.255", False),
        ("172.32.0.0", True),
        ("100.64.0.1", False),
        ("100.128.0.1", True),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("2600:1f14::1", True),
        ("fd00::1", False),
        ("fe80::1", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_private_addresses_are_no_peers_on_the_internet(text: str, public: bool) -> None:
    address = address_of(text)
    assert address is not None
    assert is_public(address) is public
