"""AWS's address ranges as an object, which people put for functions without a way out of their network."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from metering.onramps.context.description import DescriptionError
from metering.wiring.onramps import IP_RANGES_KEY, ip_ranges
from tests.support.describing import ranges
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore

GUIDE = Path(__file__).parents[4] / "docs" / "operator-guide.md"
PUT = ranges(("203.0.113.0/24", "eu-west-1", "EC2"), ("2001:db8::/32", "eu-west-1", "S3"))


@pytest.mark.parametrize("emulated", [False, True])
def test_the_object_that_people_put_is_taken_before_any_network(emulated: bool) -> None:
    objects = MemoryObjectStore(ManualClock(0))
    objects.upload(IP_RANGES_KEY, msgspec.json.encode(PUT))
    assert ip_ranges(objects, emulated=emulated) == PUT


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"prefixes": [{"ip_prefix": 5}]}'])
def test_an_object_that_is_something_else_is_refused_and_nothing_takes_its_place(body: bytes) -> None:
    objects = MemoryObjectStore(ManualClock(0))
    objects.upload(IP_RANGES_KEY, body)
    with pytest.raises(DescriptionError, match=r"not what AWS publishes as ip-ranges\.json"):
        ip_ranges(objects, emulated=True)


def test_the_guide_puts_it_where_the_function_looks() -> None:
    assert f"aws s3 cp ip-ranges.json s3://BUCKET/{IP_RANGES_KEY}\n" in GUIDE.read_text()
