"""What the names of log files say."""

from __future__ import annotations

import pytest

from metering.onramps.kinds import KINDS, recognised
from metering.onramps.reading import MAX_IDENTITY_CHARS, flow_log_name

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


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x.log.gz",
        _BASE,
        f"{_BASE}.log.gz/",
        f"{_BASE}.log.bz2",
        f"x{_BASE}.log.gz",
        f"{_BASE}.log.gz.tmp",
        _BASE.replace("20261124T1305Z", "20261324T1305Z") + ".log.gz",
        _BASE.replace("vpcflowlogs", "elasticloadbalancing") + ".log.gz",
    ],
)
def test_other_names_say_nothing(key: str) -> None:
    assert flow_log_name(key) is None
    assert recognised(key) is None


def test_a_long_name_becomes_its_hash() -> None:
    name = flow_log_name(f"{_BASE}{'0' * 60}.log.gz")
    assert name is not None
    assert len(name.identity) == len("flow:") + 64 <= MAX_IDENTITY_CHARS
    other = flow_log_name(f"{_BASE}{'0' * 59}1.log.gz")
    assert other is not None
    assert name.identity != other.identity


def test_the_registry_knows_each_kind_by_its_name() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    found = recognised(f"{_PLAIN}{_BASE}.log.gz")
    assert found is not None
    assert found[0].name == found[1].kind == "vpc-flow"
