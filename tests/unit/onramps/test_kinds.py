"""Names of log files: each kind is metered, or refused with advice. Third-party sample lines."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from metering.errors import LogFileRefusedError
from metering.onramps.ingest.outcomes import ADVICE, advice_of
from metering.onramps.ingest.totals import kind_and_name
from metering.onramps.kinds import KINDS, recognised, why_refused
from metering.onramps.reading import MAX_IDENTITY_CHARS, flow_log_name
from metering.onramps.rules.hop_judge import hop_rules
from tests.unit.onramps.readers import log_of, measured, reasons

_BASE = "012345678901_vpcflowlogs_us-east-1_fl-0123456789abcdef0_20261124T1305Z_a1b2c3d4"
_PLAIN = "acme/AWSLogs/012345678901/vpcflowlogs/us-east-1/2026/11/24/"
_HIVE = "AWSLogs/aws-account-id=012345678901/aws-service=vpcflowlogs/aws-region=us-east-1/year=2026/month=11/hour=13/"
_SLOT_S = 1_795_525_500


@pytest.mark.parametrize("folder", ["", _PLAIN, _HIVE, "a b/ü/"])
@pytest.mark.parametrize("suffix", [".log.gz", ".log", ".log.parquet"])
def test_a_flow_log_is_known_by_its_name_wherever_it_lies(folder: str, suffix: str) -> None:
    name = flow_log_name(folder + _BASE + suffix)
    assert name is not None
    assert (name.kind, name.identity) == ("vpc-flow", f"flow:{_BASE}{suffix.removesuffix('.gz')}")
    assert (name.account_id, name.region, name.source) == ("012345678901", "us-east-1", "fl-0123456789abcdef0")
    assert (name.slot_s, name.parquet) == (_SLOT_S, suffix == ".log.parquet")


@pytest.mark.parametrize("key", [
    "", "x.log.gz", _BASE, f"{_BASE}.log.gz/", f"{_BASE}.log.bz2", f"x{_BASE}.log.gz", f"{_BASE}.log.gz.tmp",
    _BASE.replace("20261124T1305Z", "20261324T1305Z") + ".log.gz",
    _BASE.replace("vpcflowlogs", "elasticloadbalancing") + ".log.gz",
])  # fmt: skip
def test_other_names_say_nothing(key: str) -> None:
    assert flow_log_name(key) is None
    assert recognised(key) is None


def test_a_long_name_becomes_its_hash() -> None:
    names = [flow_log_name(f"{_BASE}{'0' * 59}{end}.log.gz") for end in "01"]
    identities = {name.identity for name in names if name is not None}
    assert len(identities) == 2
    assert {len(identity) for identity in identities} == {len("flow:") + 64} <= {*range(MAX_IDENTITY_CHARS + 1)}


def test_the_registry_knows_each_kind_by_its_name() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    found = log_of(f"{_PLAIN}{_BASE}.log.gz")
    assert found[0].name == found[1].kind == "vpc-flow"


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
    assert recognised(key) is None, "no kind that is metered recognises it"
    with pytest.raises(LogFileRefusedError) as caught:
        kind_and_name(KINDS, key, None)
    assert (caught.value.reason, caught.value.detail) == ("not_metered_kind", why)


@pytest.mark.parametrize("key", [
    f"{DAY}/{ACCOUNT}_vpcflowlogs_us-east-1_fl-0a1b_20261124T1305Z_ab12.log.gz",
    "logs/2026-11-24-13-05-00-0123456789ABCDEF",
    "EMLARXS9EXAMPLE.2026-11-24-12.a1b2c3d4.gz",
    "anything.csv",
])  # fmt: skip
def test_no_other_file_is_taken_for_one(key: str) -> None:
    assert why_refused(key) is None


OWN = {
    *("edge_unknown", "edge_not_logged", "global_service", "ranges_unknown", "peer_not_stated", "direction_unknown"),
    *("method_not_logged", "origin_unknown", "attachment_unknown", "peer_region_unknown", "payer_unknown"),
}


def test_the_reasons_of_all_kinds_have_words() -> None:
    hops = {rule.reason for rule in hop_rules().rules if rule.reason}
    assert not (hops | OWN) - set(ADVICE)
    assert advice_of("new_reason").why == "the log does not say more"


SAMPLES = Path(__file__).parent / "samples"
FILES = sorted(path for folder in ("flows", "s3") for path in (SAMPLES / folder).iterdir())
S3_PREFIX = "logs/123456789012/us-west-1/amzn-s3-demo-bucket1/2019/02/06/"


class Sum(NamedTuple):
    """Lines and bytes of a file, by outcome."""

    lines: int
    metered: int
    metered_bytes: int
    rejected: int
    rejected_bytes: int
    silent: int


def flows_by_hand(text: str) -> Sum:
    """Sum the lines of a flow log; the header names the columns; lines without an `action` count as accepted."""
    header, *lines = text.splitlines()
    names = header.split(" ")
    fitting = [dict(zip(names, line.split(" "), strict=True)) for line in lines if line.count(" ") + 1 == len(names)]
    moved = [row for row in fitting if row["bytes"] != "-"]
    kept = [row for row in moved if row.get("action") != "REJECT"]
    size = sum(int(row["bytes"]) for row in kept)
    dropped = [int(row["bytes"]) for row in moved if row not in kept]
    return Sum(len(lines) + 1, len(kept), size, len(dropped), sum(dropped), len(fitting) - len(moved))


def s3_by_hand(text: str) -> Sum:
    """Sum the lines of an S3 log; the sent bytes come after status and error code."""
    sizes = []
    for line in text.splitlines():
        after = line.partition('" ')[2].split(" ")
        if len(after) > 4 and after[2].isdigit():
            sizes.append(int(after[2]))
    return Sum(len(text.splitlines()), len(sizes), sum(sizes), 0, 0, 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_metered_as_a_sum_by_hand_says(path: Path) -> None:
    text = path.read_text()
    flows = path.parent.name == "flows"
    result = measured(text, path.name if flows else S3_PREFIX + path.name)
    by_hand = (flows_by_hand if flows else s3_by_hand)(text)
    it = result.balance
    found = Sum(it.lines, it.metered, it.metered_bytes, it.rejected, it.rejected_bytes, it.nodata + it.skipdata)
    assert found == by_hand
    assert sum(total.bytes for total in result.totals.values()) == by_hand.metered_bytes


def test_every_misfit_of_the_samples_has_its_reason() -> None:
    found: dict[str, dict[str, int]] = {}
    for path in FILES:
        key = path.name if path.parent.name == "flows" else S3_PREFIX + path.name
        if refused := reasons(measured(path.read_text(), key)):
            found[path.name[-8:]] = refused
    assert found == {"0003.log": {"field_count": 2}, "00000002": {"field_count": 1}}


def test_every_sample_is_named_in_the_notice() -> None:
    notice = (SAMPLES / "NOTICE.md").read_text()
    assert all(path.stem[-4:] in notice for path in FILES if path.parent.name == "s3")
    assert "Apache License, Version 2.0" in notice
    assert "Elastic" not in notice
