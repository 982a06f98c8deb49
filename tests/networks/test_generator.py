"""Generated networks: true usage, log files and description agree, although each is generated separately."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from metering.units import HOUR_S
from tests.networks.exam import FIRST_S
from tests.support.networks.description import description
from tests.support.networks.files import LogFile, replica
from tests.support.networks.flow_logs import MIXED
from tests.support.networks.inventory import FAMILIES, ip_ranges
from tests.support.networks.journeys import JOURNEYS
from tests.support.networks.traffic import Network, NetworkPlan

if TYPE_CHECKING:
    from tests.support.networks.billing import Movement

STYLES = (MIXED, "v2", "v3", "v4", "v5", "v11")


def made(
    style: str = MIXED, *, seed: int = 1, lines: int = 4_000, apart: bool = False
) -> tuple[Network, list[LogFile]]:
    network = Network(NetworkPlan(first_s=FIRST_S, seed=seed, lines=lines, variety=6, style=style, apart=apart))
    return network, list(network.files())


def rows(file: LogFile) -> list[dict[str, str]]:
    """The lines of a file by field, parsed by the test itself."""
    if file.log.parquet:
        table = pq.read_table(io.BytesIO(file.body)).to_pylist()
        return [
            {name.replace("_", "-"): "-" if value is None else str(value) for name, value in row.items()}
            for row in table
        ]
    header, *lines = gzip.decompress(file.body).decode().splitlines()
    return [dict(zip(header.split(" "), line.split(" "), strict=True)) for line in lines]


def test_a_plan_gives_the_same_files_and_the_same_truth_every_time() -> None:
    one, files = made()
    other, again = made()
    assert [(file.key, file.body) for file in files] == [(file.key, file.body) for file in again]
    assert one.truth.sums == other.truth.sums
    assert made(seed=2)[1][0].body != files[0].body


@pytest.mark.parametrize("style", STYLES)
def test_the_truth_is_what_the_lines_of_the_logs_with_authority_add_up_to(style: str) -> None:
    network, files = made(style)
    told: Counter[str] = Counter()
    for file in files:
        for row in rows(file):
            told["lines"] += 1
            if row["log-status"] == "OK":
                told[row.get("action", "PASSED")] += int(row["bytes"])
    truth = network.truth
    shadowed = sum(each.bytes for each in truth.shadowed.values())
    # Some traffic through a transit gateway is free.
    unmetered = truth.tally.bytes["rejected"] - told["REJECT"]
    assert told["ACCEPT"] + told["PASSED"] == truth.metered_bytes + shadowed + unmetered
    assert 0 < unmetered < told["PASSED"]
    assert told["REJECT"]
    assert told["lines"] == sum(truth.tally.lines.values()) - truth.tally.lines["header"]
    assert truth.tally.lines["metered"] == sum(each.lines for each in truth.sums.values())
    assert truth.tally.lines["nodata"]
    assert shadowed


def test_all_formats_see_the_same_traffic() -> None:
    sums = []
    for style in STYLES:
        truth = made(style)[0].truth
        sums.append(Counter({hour._replace(knows=""): each.bytes for hour, each in truth.sums.items()}))
    assert all(each == sums[0] for each in sums)


def test_every_journey_happens_and_a_hop_has_two_mirrored_sides() -> None:
    network, _ = made("v11", lines=20_000)
    movements = [hour.movement for hour in network.truth.sums]
    assert {movement.leg.partition(":")[0] for movement in movements} == set(JOURNEYS)
    places = {(movement.near, movement.far, movement.direction) for movement in movements if "/" in movement.far}
    back = {"out": "in", "in": "out"}
    # If only one side logs traffic, the other side is outside all VPCs.
    assert all((far, near, back[direction]) in places for near, far, direction in places)


def test_files_that_are_kept_apart_hold_one_kind_of_movement_each() -> None:
    network, files = made(apart=True)
    whole, _ = made()
    assert network.truth.sums == whole.truth.sums
    by_kind: Counter[Movement] = Counter()
    for file in files:
        if file.movement is not None:
            by_kind[file.movement] += file.tally.bytes.get("metered", 0)
    wanted: Counter[Movement] = Counter()
    for hour, each in network.truth.sums.items():
        interface_id = "-" if hour.movement.interface_id == "-" else ""
        wanted[hour.movement._replace(resource_id="", interface_id=interface_id)] += each.bytes
    assert +by_kind == wanted


def test_what_cloudfront_logs_adds_up_to_the_truth_and_uploads_go_on_to_origins() -> None:
    network = Network(NetworkPlan(first_s=FIRST_S, lines=12, variety=2, edge_requests=400))
    told: Counter[str] = Counter()
    for file in network.files():
        if "/CloudFront/" in file.key:
            _, names, *lines = gzip.decompress(file.body).decode().splitlines()
            for line in lines:
                row = dict(zip(names.split(" ")[1:], line.split("\t"), strict=True))
                uploaded = row.get("x-edge-result-type") == "Miss" and row["cs-method"] in ("POST", "PUT")
                told["sent"] += int(row["sc-bytes"])
                told["uploaded" if uploaded else "received"] += int(row["cs-bytes"])
    wanted: Counter[str] = Counter()
    for hour, each in network.truth.sums.items():
        if hour.movement.near == "cloudfront":
            uploaded = hour.movement.far == "unknown"
            received = "received" if hour.movement.direction == "in" else "sent"
            wanted["uploaded" if uploaded else received] += each.bytes
    assert told == wanted
    usage_types = {hour.movement.usage_type for hour in network.truth.sums}
    assert {"EU-DataTransfer-Out-OBytes", "JP-DataTransfer-In-Bytes", "US-DataTransfer-Out-Bytes"} <= usage_types


def test_file_names_are_unique_and_a_replica_keeps_name_and_content() -> None:
    _, files = made()
    names = {file.key.rpartition("/")[2] for file in files}
    assert len(names) == len(files)
    for file in files:
        copy = replica(file)
        assert copy.key.rpartition("/")[2] in names
        assert (copy.bucket, copy.key) != (file.bucket, file.key)
        assert rows(copy) == rows(file)
        assert file.log.parquet or copy.body != file.body


def test_the_description_is_json_and_names_every_interface_of_the_logs() -> None:
    network, files = made()
    described = json.loads(json.dumps(description(network.inventory, network.flow_logs, FIRST_S)))
    ids = {"NetworkInterfaces": "NetworkInterfaceId", "TransitGatewayAttachments": "TransitGatewayAttachmentId"}
    known = {each[id_] for region in described["regions"] for name, id_ in ids.items() for each in region[name]}
    logs = {each["FlowLogId"]: each for region in described["regions"] for each in region["FlowLogs"]}
    for file in files:
        assert logs[file.log.id]["LogFormat"].count("$") == len(file.log.fields)
        assert {row.get("interface-id") or row["tgw-attachment-id"] for row in rows(file)} <= known | {"-"}
    assert [len({region[name] for region in described["regions"]}) for name in ("account_id", "region")] == [2, 2]


def test_addresses_lie_in_their_subnets_and_no_two_interfaces_of_a_vpc_share_one() -> None:
    inventory = made()[0].inventory
    for vpc in inventory.vpcs.values():
        for subnet in vpc.subnets:
            assert any(ip_network(subnet.cidr).subnet_of(ip_network(cidr)) for cidr in vpc.cidrs)  # type: ignore[arg-type]  # the version of both is 4
    seen = Counter((each.vpc.id, each.address) for each in inventory.interfaces)
    assert set(seen.values()) == {1}
    for each in inventory.interfaces:
        assert ip_address(each.address) in ip_network(each.subnet.cidr)
        assert not each.ipv6 or ip_address(each.ipv6) in ip_network(f"{each.subnet.ipv6}/64")


def test_the_address_ranges_have_the_traps_of_the_real_ones() -> None:
    published = ip_ranges()
    prefixes = published["prefixes"]
    assert isinstance(prefixes, list)
    services: dict[str, set[str]] = {}
    for each in prefixes:
        services.setdefault(each["ip_prefix"], set()).add(each["service"])
    regions = {each["ip_prefix"]: each["region"] for each in prefixes}
    blocks = {prefix: ip_network(prefix) for prefix in regions}
    assert any({"S3", "EC2"} <= each for each in services.values())
    assert any("AMAZON" not in each for each in services.values())
    assert any(
        inner.subnet_of(outer) and regions[one] != regions[other]  # type: ignore[arg-type]  # the version of both is 4
        for one, inner in blocks.items()
        for other, outer in blocks.items()
        if one != other
    )
    assert "GLOBAL" in regions.values()
    assert {family.location for family in FAMILIES.values()} >= {"internet", "cloudfront", "unknown"}


def test_a_change_of_format_gives_the_authority_to_the_new_log_at_the_next_full_hour() -> None:
    network, files = made(lines=20_000)
    peer = network.inventory.vpcs["peer"]
    old, new = (log for log in network.flow_logs.logs if log.resource_id == peer.id)
    assert new.created_s % HOUR_S
    hours = {hour.hour_s: set() for hour in network.truth.sums}  # type: dict[int, set[str]]
    for hour in network.truth.sums:
        if hour.movement.leg.startswith("peer across zones"):
            hours[hour.hour_s].add(hour.knows)
    before, after = sorted(hours)
    assert hours == {before: {old.knows}, after: {new.knows}}
    assert {old.id, new.id} <= set(network.truth.shadowed)
    assert {file.log.id for file in files} >= {old.id, new.id}
