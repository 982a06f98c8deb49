"""Offer files in AWS's form, made from known facts: SKUs, rate codes, usage types and prices of real bill lines.

Like AWS's files, they also have unread fields and misleading descriptions.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from metering.usage.usage_types import billing_prefixes
from tests.support.sample_book import US_EAST_1, bill_lines

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

VERSION = "20260831121448"
EFFECTIVE = "2026-08-01T00:00:00Z"
REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "ap-southeast-1", "sa-east-1")
GLOBAL_OUT, GLOBAL_REGIONAL = "FREE100GBEGRESS1", "FREE1GBREGIONAL1"
EU_WEST_1, EDGE_EU = "FSEU4E6BRE95JTX8", "VU3485RNDU6HBQF6"
GOVCLOUD_OUT, GOVCLOUD_IN, CAPE_TOWN = "APS1UGW1OUT00001", "APS1UGW1IN000001", "APS1AFS1OUT00001"
INTERNET_OUT = {
    "us-east-1": ("HQEH3ZWJVT46JHRG", ""),
    "us-west-2": ("5M4327XEUKBBTWAT", "USW2-"),
    "eu-west-1": (EU_WEST_1, "EU-"),
    "ap-southeast-1": ("SDHP4R7WGBVJPQPY", "APS1-"),
    "sa-east-1": ("QKTPK3975YUWDU3Q", "SAE1-"),
}
NETWORK_FAMILIES = ("NAT Gateway", "Transit Gateway", "VPC Peering", "VpcEndpoint")
_PB = (
    ("0", "1048576", "0.01", "TIER1"),
    ("1048576", "5242880", "0.006", "TIER2"),
    ("5242880", "Inf", "0.004", "TIER3"),
)
# SKU, family, usage type, operation, unit and prices.
_VPC = (
    ("TGWVPC0000000001", "Transit Gateway", "USE1-TransitGateway-Bytes", "TransitGatewayVPC", "GigaBytes", "0.02"),
    ("TGWVPN0000000001", "Transit Gateway", "USE1-TransitGateway-Bytes", "TransitGatewayVPN", "GigaBytes", "0.02"),
    ("TGWPEERING000001", "Transit Gateway", "USE1-TransitGateway-Bytes", "TransitGatewayPeering", "GigaBytes", "0"),
    ("TGWHOURS00000001", "Transit Gateway", "USE1-TransitGateway-Hours", "TransitGatewayVPC", "hour", "0.05"),
    ("ENDPOINT00000001", "VpcEndpoint", "USE1-VpcEndpoint-Bytes", "VpcEndpoint", "GB", ""),
    ("ENDPOINTHOURS001", "VpcEndpoint", "USE1-VpcEndpoint-Hours", "VpcEndpoint", "Hrs", "0.01"),
    ("GWLBE00000000001", "VpcEndpoint", "USE1-VpcEndpoint-GWLBE-Bytes", "VpcEndpoint", "GB", "0.0035"),
    ("PEERINGIN0000001", "VPC Peering", "USE1-VpcPeering-In-Bytes", "VPCPeering-In", "GB", "0.01"),
    ("PEERINGINZONE001", "VPC Peering", "USE1-VpcPeering-In-Bytes", "VPCPeering-Zone-In", "GB", "0"),
    ("PEERINGOUT000001", "VPC Peering", "USE1-VpcPeering-Out-Bytes", "VPCPeering-Out", "GB", "0.01"),
    ("LATTICE000000001", "VPC Lattice", "USE1-VPCLattice-DataProcessed-Bytes", "", "GB", "0.025"),
)
_EC2 = (
    ("COMPUTE000000001", "Compute Instance", "BoxUsage:m5.large", "RunInstances", "Hrs", "0.096"),
    ("NATBYTES00000001", "NAT Gateway", "NatGateway-Bytes", "NatGateway", "GB", "0.045"),
    ("NATHOURS00000001", "NAT Gateway", "NatGateway-Hours", "NatGateway", "Hrs", "0.045"),
    ("NATREGIONAL00001", "NAT Gateway", "USE1-RegionalNatGateway-Bytes", "RegionalNatGateway", "GB", "0.045"),
    ("NATPRVD000000001", "NAT Gateway", "NatGateway-Prvd-Bytes", "NatGateway", "GB", "0"),
)
_FIRST = {"ap-southeast-1": "0.12", "sa-east-1": "0.15"}
_RANGES = (("0", "10240"), ("10240", "51200"), ("51200", "153600"), ("153600", "Inf"))


def product(sku: str, usage_type: str, **about: str) -> dict[str, Any]:
    return {
        "sku": sku,
        "productFamily": "Data Transfer",
        "attributes": {
            "servicecode": "AWSDataTransfer",
            "transferType": "AWS Outbound",
            "fromLocationType": "AWS Region",
            "toLocationType": "Other",
            "usagetype": usage_type,
            "operation": "",
            "servicename": "AWS Data Transfer",
            **about,
        },
    }


def term(sku: str, prices: Iterable[tuple[str, str, str, str]], applies_to: Iterable[str] = ()) -> dict[str, Any]:
    """Terms of a product: the price of each range, with its rate code."""
    dimensions = {
        f"{sku}.JRTCKXETXF.{rate}": {
            "rateCode": f"{sku}.JRTCKXETXF.{rate}",
            "description": "$0.001 per GB - first 1 GB / month data transfer out in US East (Ohio)",
            "beginRange": begin,
            "endRange": end,
            "unit": "GB",
            "pricePerUnit": {"USD": f"{price}0000000000"[:12]},
            "appliesTo": [*applies_to],
        }
        for begin, end, price, rate in prices
    }
    return {
        f"{sku}.JRTCKXETXF": {
            "offerTermCode": "JRTCKXETXF",
            "sku": sku,
            "effectiveDate": EFFECTIVE,
            "priceDimensions": dimensions,
            "termAttributes": {},
        }
    }


def untiered(sku: str, price: str) -> dict[str, Any]:
    return term(sku, [("0", "Inf", price, "6YS6EN2CT7")])


def offer(region: str, *, version: str = VERSION) -> dict[str, Any]:
    products: dict[str, Any] = {}
    terms: dict[str, Any] = {}
    prefix = billing_prefixes()[region]
    for line in bill_lines():
        metered = prefix if region != "us-east-1" or "-AWS-" in line.usage_type else ""
        if line.sku in products or not line.usage_type.startswith(f"{metered}-" if metered else ("D", "C")):
            continue
        if line.usage_type.endswith("DataTransfer-Out-Bytes"):
            continue
        products[line.sku] = product(line.sku, line.usage_type, **_places(line.from_location, line.to_location))
        terms[line.sku] = untiered(line.sku, line.price)
    sku, bare = INTERNET_OUT[region]
    products[sku] = product(sku, f"{bare}DataTransfer-Out-Bytes", **_places(region, "internet"))
    terms[sku] = _internet(sku, _FIRST.get(region, "0.09"))
    if region == "ap-southeast-1":
        _pairs_of_singapore(products, terms)
    regional = [sku for sku, each in products.items() if "Regional" in each["attributes"]["usagetype"]]
    _free(products, terms, GLOBAL_OUT, "Global-DataTransfer-Out-Bytes", "100", [sku])
    if regional:
        _free(products, terms, GLOBAL_REGIONAL, "Global-DataTransfer-Regional-Bytes", "1", regional)
    products["HOURLYTHING00001"] = {"sku": "HOURLYTHING00001", "productFamily": "IP Address", "attributes": {}}
    terms["HOURLYTHING00001"] = untiered("HOURLYTHING00001", "0.005")
    return _file("AWSDataTransfer", version, products, terms)


def edges(*, version: str = VERSION) -> dict[str, Any]:
    about = {"servicecode": "AmazonCloudFront", "transferType": "CloudFront Outbound"}
    places = {"fromLocation": "Europe", "fromLocationType": "AWS Edge Location", "toLocation": "External"}
    products = {EDGE_EU: product(EDGE_EU, "EU-DataTransfer-Out-Bytes", **about, **places)}
    terms = {EDGE_EU: term(EDGE_EU, [("0", "10240", "0.085", "Q3Z75P77EN"), ("10240", "Inf", "0.08", "VF6T3GAUKQ")])}
    return _file("AmazonCloudFront", version, products, terms)


def vpc(*, version: str = VERSION) -> dict[str, Any]:
    """The offer file of AmazonVPC in us-east-1: some of its usage types begin with `USE1-`."""
    return _beside("AmazonVPC", version, _VPC)


def ec2(*, version: str = VERSION) -> dict[str, Any]:
    return _beside("AmazonEC2", version, _EC2)


def _beside(code: str, version: str, rows: Iterable[tuple[str, str, str, str, str, str]]) -> dict[str, Any]:
    products, terms = {}, {}
    for sku, family, usage_type, operation, unit, price in rows:
        attributes = {
            "servicecode": code,
            "location": "US East (N. Virginia)",
            "locationType": "AWS Region",
            "regionCode": "us-east-1",
            "usagetype": usage_type,
            "operation": operation,
        }
        products[sku] = {"sku": sku, "productFamily": family, "attributes": attributes}
        terms[sku] = untiered(sku, price) if price else term(sku, _PB)
        for dimension in terms[sku][f"{sku}.JRTCKXETXF"]["priceDimensions"].values():
            dimension["unit"] = unit
    return _file(code, version, products, terms)


def version_index(*versions: str) -> dict[str, Any]:
    """The newest version last."""
    return {
        "formatVersion": "v1.0",
        "publicationDate": "2026-08-31T12:14:48Z",
        "offerCode": "AWSDataTransfer",
        "currentVersion": versions[-1],
        "versions": {
            each: {
                "versionEffectiveBeginDate": EFFECTIVE,
                "versionEffectiveEndDate": "",
                "offerVersionUrl": f"/offers/v1.0/aws/AWSDataTransfer/{each}/index.json",
            }
            for each in versions
        },
    }


def written(folder: Path, **files: dict[str, Any]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for name, content in files.items():
        paths.append(folder / f"{name.replace('_', '-')}.json")
        paths[-1].write_text(json.dumps(content, indent=2), encoding="utf-8")
    return paths


def every_region(folder: Path) -> list[Path]:
    files = {region.replace("-", "_"): offer(region) for region in REGIONS}
    return written(folder, **files, cloudfront=edges())


def changed(offer: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with another value at a path such as `products/SKU/sku`; `*` names the only member."""
    made = copy.deepcopy(offer)
    at: Any = made
    *names, last = path.split("/")
    for name in names:
        at = at[next(iter(at)) if name == "*" else name]
    at[next(iter(at)) if last == "*" else last] = value
    return made


def _places(origin: str, target: str) -> dict[str, str]:
    places: dict[str, str] = {}
    for way, place in (("from", origin), ("to", target)):
        if place == "internet":
            places |= {f"{way}Location": "External", f"{way}LocationType": "Other"}
        else:
            places |= {f"{way}Location": f"Region {place}", f"{way}RegionCode": place}
    return places


def _internet(sku: str, first: str) -> dict[str, Any]:
    prices = [first, *(price for _, price, _ in US_EAST_1[1:])]
    rates = [rate for _, _, rate in US_EAST_1]
    # AWS writes tiers in arbitrary order.
    rows = [(*ends, price, rate) for ends, price, rate in zip(_RANGES, prices, rates, strict=True)]
    return term(sku, reversed(rows))


def _pairs_of_singapore(products: dict[str, Any], terms: dict[str, Any]) -> None:
    """GovCloud has pair prices. As in AWS's file, the description for Cape Town names another region."""
    pairs = {
        GOVCLOUD_OUT: ("APS1-UGW1-AWS-Out-Bytes", "0.09", "ap-southeast-1", "us-gov-west-1"),
        GOVCLOUD_IN: ("APS1-UGW1-AWS-In-Bytes", "0", "us-gov-west-1", "ap-southeast-1"),
        CAPE_TOWN: ("APS1-AFS1-AWS-Out-Bytes", "0.09", "ap-southeast-1", "af-south-1"),
    }
    for sku, (usage_type, price, origin, target) in pairs.items():
        products[sku] = product(sku, usage_type, **_places(origin, target))
        terms[sku] = untiered(sku, price)
    described = terms[CAPE_TOWN][f"{CAPE_TOWN}.JRTCKXETXF"]["priceDimensions"]
    next(iter(described.values()))["description"] = "EUN1-AWS-Out-Bytes in Africa (Cape Town)"


def _free(
    products: dict[str, Any], terms: dict[str, Any], sku: str, usage_type: str, end: str, applies_to: list[str]
) -> None:
    products[sku] = product(sku, usage_type, fromLocation="Global", toLocation="External")
    terms[sku] = term(sku, [("0", end, "0", "6YS6EN2CT7")], applies_to)


def _file(code: str, version: str, products: dict[str, Any], terms: dict[str, Any]) -> dict[str, Any]:
    return {
        "formatVersion": "v1.0",
        "disclaimer": "This pricing list is for informational purposes only.",
        "offerCode": code,
        "version": version,
        "publicationDate": "2026-08-31T12:14:48Z",
        "products": products,
        "terms": {"OnDemand": terms, "Reserved": {"OTHERSKU00000001": {"x": {"unknown": 1}}}},
        "attributesList": {},
    }
