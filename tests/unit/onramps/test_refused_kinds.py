"""Kinds of logs that are never metered are known by their names, and refused with a sentence that says what to do."""

from __future__ import annotations

import pytest

from metering.errors import LogFileRefusedError
from metering.onramps.ingest.files import kind_and_name
from metering.onramps.kinds import KINDS, recognised, why_refused

ACCOUNT = "123456789012"
DAY = f"AWSLogs/{ACCOUNT}/x/us-east-1/2026/11/24"
KEYS = {
    "load balancers": [
        f"{DAY}/{ACCOUNT}_elasticloadbalancing_us-east-1_app.web.1a2b_20261124T1305Z_192.0.2.1_3xq8w1.log.gz",
        f"{DAY}/conn_log.{ACCOUNT}_elasticloadbalancing_us-east-1_app.web.1a2b_20261124T1305Z_192.0.2.1_3xq8w1.log.gz",
        f"{DAY}/{ACCOUNT}_elasticloadbalancing_us-east-1_net.tls.1a2b_20261124T1305Z_3xq8w1.log.gz",
        f"{DAY}/{ACCOUNT}_elasticloadbalancing_us-east-1_classic_20261124T1305Z_192.0.2.1_3xq8w1.log",
    ],
    "Network Firewall": [f"{DAY}/{ACCOUNT}_network-firewall_flow_us-east-1_edge_202611241305_ab12.log.gz"],
    "resolver query": [f"{DAY}/{ACCOUNT}_vpcdnsquerylogs_vpc-0a1b_20261124T1305Z_ab12.log.gz"],
    "CloudTrail": [
        f"{DAY}/{ACCOUNT}_CloudTrail_us-east-1_20261124T1305Z_abCD12.json.gz",
        f"{DAY}/{ACCOUNT}_CloudTrail-Digest_us-east-1_trail_us-east-1_20261124T1305Z.json.gz",
    ],
    "Global Accelerator": [f"{DAY}/{ACCOUNT}_globalaccelerator_1a2b_fl-0a1b_20261124T1305Z_ab12.log.gz"],
    "WAF": [f"{DAY}/{ACCOUNT}_waflogs_us-east-1_acl_20261124T1305Z_ab12.log.gz"],
    "Config": [f"{DAY}/{ACCOUNT}_Config_us-east-1_ConfigHistory_AWS_EC2_Instance_20261124T1305Z.json.gz"],
    "CloudWatch": ["exports/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f/eni-1-all/000000.gz"],
    "permissions": ["exports/aws-logs-write-test", f"AWSLogs/{ACCOUNT}/ELBAccessLogTestFile"],
}


@pytest.mark.parametrize(("what", "key"), [(what, key) for what, keys in KEYS.items() for key in keys])
def test_a_file_of_a_kind_that_is_never_metered_is_refused_with_the_sentence_why(what: str, key: str) -> None:
    why = why_refused(key)
    assert why is not None
    assert what in why
    assert ":" in why
    with pytest.raises(LogFileRefusedError) as caught:
        kind_and_name(KINDS, key, None)
    assert (caught.value.reason, caught.value.detail) == ("not_metered_kind", why)


@pytest.mark.parametrize(
    "key",
    [
        f"{DAY}/{ACCOUNT}_vpcflowlogs_us-east-1_fl-0a1b_20261124T1305Z_ab12.log.gz",
        "logs/2026-11-24-13-05-00-0123456789ABCDEF",
        "EMLARXS9EXAMPLE.2026-11-24-12.a1b2c3d4.gz",
        "anything.csv",
    ],
)
def test_no_other_file_is_taken_for_one(key: str) -> None:
    assert why_refused(key) is None


def test_no_kind_that_is_metered_recognises_a_file_of_one_that_is_not() -> None:
    assert not [key for keys in KEYS.values() for key in keys if recognised(key) is not None]
