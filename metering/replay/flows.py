"""Kinds of traffic that a replay makes, each with the usage type under which AWS bills it.

The usage types are copied from the billing documentation and not computed by `metering/usage/usage_types.py`, because a
replay must not share code with the service that it checks.
"""

from __future__ import annotations

from typing import NamedTuple


class Flow(NamedTuple):
    """One kind of traffic. It must be metered under `usage_type`; `own` says that its records name that type."""

    service: str
    direction: str
    from_location: str
    to_location: str
    usage_type: str
    own: bool = False


FLOWS = (
    Flow("AmazonEC2", "out", "us-east-1/use1-az2", "internet", "DataTransfer-Out-Bytes"),
    Flow("AmazonEC2", "in", "internet", "us-west-2/usw2-az1", "USW2-DataTransfer-In-Bytes"),
    Flow("AmazonS3", "out", "eu-west-1", "cloudfront", "EU-CloudFront-Out-Bytes"),
    Flow("AmazonEC2", "out", "us-east-1/use1-az4", "us-west-2", "USE1-USW2-AWS-Out-Bytes"),
    Flow("AmazonS3", "out", "us-west-2", "internet", "USW2-DataTransfer-Out-Bytes"),
    Flow("AmazonEC2", "out", "us-east-1/use1-az1", "us-east-1/use1-az2", "DataTransfer-Regional-Bytes"),
    Flow("AmazonRDS", "in", "us-east-1/use1-az1", "us-east-1/use1-az6", "DataTransfer-Regional-Bytes"),
    Flow("AWSELB", "in", "ap-south-1", "eu-central-1", "EUC1-APS3-AWS-In-Bytes"),
    Flow("AmazonEC2", "out", "ap-northeast-1/apne1-az4", "internet", "APN1-DataTransfer-Out-Bytes"),
    Flow("AmazonEC2", "out", "us-west-2/usw2-lax1-az1", "us-west-2/usw2-lax1-az1", "USW2-C3DataTransfer-Out-Bytes"),
    Flow("AmazonS3", "in", "eu-west-2", "eu-west-2", "EUW2-C3DataTransfer-In-Bytes"),
    Flow("AmazonEC2", "out", "eu-central-1/euc1-az2", "cn-north-1", "EUC1-DataTransfer-Out-Bytes"),
    Flow("AmazonEC2", "out", "ap-southeast-1/apse1-az1", "us-gov-west-1", "APS1-UGW1-AWS-Out-Bytes"),
    Flow("AmazonEC2", "in", "ap-southeast-1", "us-gov-west-1", "UGW1-APS1-AWS-In-Bytes"),
    Flow("AmazonS3", "out", "ap-southeast-9", "internet", "ap-southeast-9-DataTransfer-Out-Bytes"),
    Flow("AmazonEC2", "in", "ap-southeast-9", "us-east-1", "USE1-ap-southeast-9-AWS-In-Bytes"),
    Flow("AmazonCloudFront", "in", "cloudfront", "us-east-1", "CloudFront-In-Bytes"),
    Flow("AmazonVPC", "out", "us-west-2/usw2-az2", "internet", "USW2-NatGateway-Bytes", own=True),
    Flow("AmazonEC2", "out", "us-east-1/use1-az2", "unknown", "Unclassified-Out-Bytes"),
    Flow("AmazonEC2", "in", "unknown", "eu-west-1", "EU-Unclassified-In-Bytes"),
    Flow("AmazonEC2", "in", "us-west-2", "us-west-2/usw2-az1", "USW2-Unclassified-Regional-Bytes", own=True),
    Flow("AmazonCloudFront", "out", "cloudfront", "internet", "EU-DataTransfer-Out-Bytes", own=True),
)
