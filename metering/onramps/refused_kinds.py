"""Kinds of logs that are never metered: each is known by its names, and refused with the sentence why.

Most of them tell again what another log tells, so metering both would count bytes twice; the others have no bytes.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class RefusedKind(NamedTuple):
    """A kind of log that is not metered.

    Attributes:
        about: What it is, for people.
        pattern: What its keys look like.
        why: Why it is not metered, and what to use instead, as one sentence.
    """

    about: str
    pattern: re.Pattern[str]
    why: str


_ACCOUNT = r"(?:^|/)(?:conn_log\.|health_check_log\.)?[0-9]{12}_"

REFUSED_KINDS: tuple[RefusedKind, ...] = (
    RefusedKind(
        "access logs of load balancers",
        re.compile(_ACCOUNT + r"elasticloadbalancing_[^/]+$"),
        "they tell the payload of requests whose bytes the flow logs of the balancer's interfaces have on the wire, "
        "so metering both would count twice: meter the VPC flow logs",
    ),
    RefusedKind(
        "Network Firewall logs",
        re.compile(_ACCOUNT + r"network-firewall_[^/]+$"),
        "they tell again what the flow logs of the firewall's endpoints tell: meter the VPC flow logs",
    ),
    RefusedKind(
        "Route 53 resolver query logs",
        re.compile(_ACCOUNT + r"(?:vpcdnsquerylogs|route53resolver)_[^/]+$"),
        "they have no bytes, and traffic of the VPC's own resolver is free: there is nothing to meter",
    ),
    RefusedKind(
        "CloudTrail",
        re.compile(_ACCOUNT + r"CloudTrail(?:-[A-Za-z]+)?_[^/]+$"),
        "it tells who called which API, not what was moved: for S3, meter the server access logs of the bucket",
    ),
    RefusedKind(
        "Global Accelerator flow logs",
        re.compile(_ACCOUNT + r"globalaccelerator_[^/]+$"),
        "AWS bills the dominant direction by the edge, and these logs tell neither: meter the VPC flow logs of the "
        "endpoints, for the transfer itself",
    ),
    RefusedKind(
        "AWS WAF logs",
        re.compile(_ACCOUNT + r"waflogs_[^/]+$"),
        "they have no bytes: meter the logs of what the rules protect, CloudFront's or the VPC's",
    ),
    RefusedKind(
        "AWS Config",
        re.compile(_ACCOUNT + r"Config_[^/]+$"),
        "it tells what there is, not what was moved: it may serve as a context, not as a log",
    ),
    RefusedKind(
        "exports of CloudWatch Logs",
        re.compile(r"(?:^|/)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/[^/]+/[0-9]{6}\.gz$"),
        "an export has no name that says which log it is, so it could be counted twice: add a flow log that delivers "
        "to S3 (metering logs format prints the command)",
    ),
    RefusedKind(
        "a test of permissions",
        re.compile(r"(?:^|/)(?:aws-logs-write-test|AWSLogs/[0-9]{12}/ELBAccessLogTestFile|[^/]*AccessLogTestFile)$"),
        "AWS writes this file to try its permissions: there is nothing to meter",
    ),
)
"""All kinds that are known and refused. Direct Connect has no log of flows at all."""


def why_refused(key: str) -> str | None:
    """Why a file is not metered, if its key is that of a kind that never is; else None."""
    return next((f"{kind.about}: {kind.why}" for kind in REFUSED_KINDS if kind.pattern.search(key)), None)
