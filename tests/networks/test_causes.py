"""Causes of a network's bytes: all names are right, parts of records add up, and most charged bytes have names."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest

from metering.onramps.context.document import Network as Known
from metering.onramps.context.store import Timeline
from metering.onramps.ingest.causes import MANY, check_sums, rows_of
from metering.onramps.ingest.totals import Who, measure
from metering.onramps.kinds import recognised
from metering.onramps.reading import ReadSettings
from metering.onramps.rules.causes import Cause
from tests.networks.causes import CauseMarks, captures, examined
from tests.networks.exam import FIRST_S, reference_plan
from tests.support.networks.causes import NETWORKS, NOBODY
from tests.support.networks.inventory import OWNER, PARTNER
from tests.support.networks.journeys import HOSTILE, JOURNEYS
from tests.support.networks.traffic import Network, NetworkPlan

if TYPE_CHECKING:
    from tests.support.networks.files import LogFile

STYLES = ("v2", "v3", "v4", "v5", "v9", "v11")
NAT = ("NatGateway-Bytes", "RegionalNatGateway-Bytes")
CROSS_ZONE = ("DataTransfer-Regional-Bytes", "VpcPeering-In-Bytes", "VpcPeering-Out-Bytes")
TRANSIT, ENDPOINT = "TransitGateway-Bytes", "VpcEndpoint-Bytes"
# Charged bytes of networks without hostile events that have a cause, and that have a destination, in percent.
LEAST_CAUSED, LEAST_DESTINED = 97, 95
# Each of these may be missing in a context, because a role may not ask for it, or because nobody captured the account.
_ABSENT = (
    *({"lists": (name,)} for name in (
        "Vpcs", "Subnets", "NetworkInterfaces", "FlowLogs", "VpcPeeringConnections", "Addresses", "Tags",
        "VpcEndpoints", "TransitGatewayVpcAttachments", "TransitGatewayAttachments", "TransitGatewayPeeringAttachments",
        "TransitGatewayMeteringPolicies",
    )),
    {"lists": ("TransitGatewayVpcAttachments", "TransitGatewayAttachments")},
    {"accounts": (OWNER,)},
    {"accounts": (PARTNER,)},
    {"members": ("ip_ranges",)},
)  # fmt: skip


@cache
def hostile(style: str) -> tuple[Network, tuple[LogFile, ...]]:
    """A network in which addresses change hands at 14:38, and its files of 14:30 to 14:45."""
    network = Network(NetworkPlan(
        first_s=FIRST_S, mix=dict.fromkeys(JOURNEYS | HOSTILE, 1), style=style, lines=1_100, slots=4, variety=2,
        overlaps=False, rejected=0, named=True, hostile=True, file_lines=1_000_000,
    ))  # fmt: skip
    return network, tuple(network.files())


def right(marks: CauseMarks) -> CauseMarks:
    assert not marks.wrong, marks.told()
    return marks


@pytest.mark.parametrize("style", STYLES)
def test_no_byte_has_a_wrong_cause_or_destination_whatever_happens(style: str) -> None:
    network, files = hostile(style)
    marks = right(examined(files, captures(network)))
    reasons = {reason for (_, reason), size in marks.reasons.items() if size}
    # Two captures show that an address changed hands, an interface is in no capture, and two spokes have an address,
    # which version 2 does not tell.
    assert reasons >= {"address_reused", "ambiguous_address" if style != "v2" else "side_unknown", "address_unknown"}
    assert marks.share(marks.caused, ENDPOINT) == marks.share(marks.destined, ENDPOINT) == 100


@pytest.mark.parametrize("style", [pytest.param("v2", marks=pytest.mark.long), "v11"])
def test_destinations_that_people_named_are_told_apart_from_all_others(style: str) -> None:
    network, files = hostile(style)
    timeline = captures(network)
    plain = right(examined(files, timeline))
    named = timeline.with_networks(tuple(Known(name, cidrs) for name, cidrs in NETWORKS.items()))
    marks = right(examined(files, named, knows_people=True))
    # Other names are as before, and a network of people has no byte of a network of our own.
    assert (marks.bytes, marks.caused, marks.destined) == (plain.bytes, plain.caused, plain.destined)
    assert not plain.people
    assert marks.people.keys() == NETWORKS.keys() - {"inside"}


@pytest.mark.parametrize("style", ["v2", "v11"])
def test_without_a_context_nothing_is_named_but_what_lines_tell_themselves(style: str) -> None:
    marks = right(examined(hostile(style)[1], Timeline()))
    assert not marks.bases["inventory"] + marks.bases["seen"]
    assert all(not marks.caused[name] for name in (*NAT, TRANSIT, ENDPOINT))


@pytest.mark.long
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("without", _ABSENT)
def test_no_byte_has_a_wrong_name_when_a_list_or_an_account_is_missing(
    style: str, without: dict[str, tuple[str, ...]]
) -> None:
    network, files = hostile(style)
    right(examined(files, captures(network, without=without)))


def test_an_interface_that_no_capture_has_is_named_by_its_own_lines() -> None:
    network, files = hostile("v5")
    assert right(examined(files, captures(network))).bases["seen"]


@pytest.mark.parametrize("style", ["v5", "v11"])
def test_of_the_reference_network_nearly_all_charged_bytes_have_a_cause_and_a_destination(style: str) -> None:
    plan = replace(reference_plan(style), lines=2_500, slots=1, overlaps=False, named=True, file_lines=1_000_000)
    network = Network(plan)
    marks = right(examined(network.files(), captures(network)))
    assert marks.share(marks.caused, *NAT) >= LEAST_CAUSED
    assert marks.share(marks.destined, *NAT) >= LEAST_DESTINED
    for names in (CROSS_ZONE, (TRANSIT,)):
        assert marks.share(marks.destined, *names) >= LEAST_CAUSED
    assert marks.share(marks.destined, ENDPOINT) == 100


@pytest.mark.parametrize("who", [Who.PINNED, Who.DRY_RUN])
@pytest.mark.parametrize("style", ["v2", "v5", "v11"])
def test_causes_of_each_record_add_up_and_change_no_total(style: str, who: Who) -> None:
    network = Network(replace(reference_plan(style), lines=4_000, slots=1))
    timeline = captures(network)
    for file in network.files():
        kind, name = recognised(file.key) or pytest.fail(file.key)
        plain = measure(io.BytesIO(file.body), kind, name, timeline)
        found = measure(io.BytesIO(file.body), kind, name, timeline, who=who)
        assert (found.totals, found.shares, found.balance) == (plain.totals, plain.shares, plain.balance)
        assert not plain.causes
        if found.causes:
            check_sums(found.causes, found.totals)
        # The rows of a record have its bytes, also if most of them are one.
        for most in (len(found.totals) + 5, 100_000):
            rows = rows_of("flow:a", found.causes, found.totals, most=most)
            assert len(rows) <= max(most, 0)
            sums: Counter[tuple[str, ...]] = Counter()
            for row in rows:
                sums[row.account_id, row.resource_id, row.from_location, row.to_location, str(row.own_hour)] += (
                    row.bytes
                )
            wanted: Counter[tuple[str, ...]] = Counter()
            for (traffic, hour_s), total in found.totals.items() if rows else ():
                place = traffic.from_location, traffic.to_location
                wanted[traffic.account_id, traffic.resource_id, *place, str(hour_s)] += total.bytes
            assert sums == wanted
            if most < 100_000 and len(rows) == most:
                assert any(row.reason == MANY for row in rows)


@pytest.mark.parametrize("block_bytes", [2_000, 20_000])
def test_causes_do_not_depend_on_how_much_is_read_at_once(block_bytes: int) -> None:
    network = Network(replace(reference_plan("v5"), lines=2_000, slots=1, overlaps=False))
    timeline = captures(network)
    for file in network.files():
        kind, name = recognised(file.key) or pytest.fail(file.key)
        whole = measure(io.BytesIO(file.body), kind, name, timeline, who=Who.PINNED)
        settings = ReadSettings(block_bytes=block_bytes)
        assert measure(io.BytesIO(file.body), kind, name, timeline, settings, who=Who.PINNED).causes == whole.causes


def test_the_exam_notices_a_wrong_cause_and_a_wrong_destination() -> None:
    marks = CauseMarks()
    marks.add("USW2-NatGateway-Bytes", Cause("i-1", "internet", "nat_gateway", "told", ""), NOBODY, 7)
    assert {fault.what: size for fault, size in marks.wrong.items()} == {"cause": 7, "destination": 7}
    private = NOBODY._replace(causes=("i-1",), destinations=("S3.us-west-2",))
    marks = CauseMarks()
    marks.add("USW2-NatGateway-Bytes", Cause("i-1", "private", "nat_gateway", "told", ""), private, 7)
    assert [fault.what for fault in marks.wrong] == ["destination"]
