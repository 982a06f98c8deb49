"""The list of AWS's address ranges, from a file or over https, checked and limited."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from metering.adapters import description_files
from metering.adapters.description_files import fetched_ip_ranges
from metering.errors import OperationFailedError, UnavailableError
from metering.onramps.context.description import DescriptionError
from tests.unit.onramps.context.describing import ranges

if TYPE_CHECKING:
    from pathlib import Path

PUBLISHED = ranges(("52.32.0.0/11", "us-west-2", "EC2"), ("2600:1f14::/36", "us-west-2", "EC2"))


def test_a_file_is_read_as_aws_publishes_it(tmp_path: Path) -> None:
    path = tmp_path / "ip-ranges.json"
    path.write_text(json.dumps(PUBLISHED))
    assert fetched_ip_ranges(str(path)) == PUBLISHED


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ip-ranges.json"
    path.write_text("<html>sign in</html>")
    with pytest.raises(DescriptionError, match="address ranges"):
        fetched_ip_ranges(str(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperationFailedError, match=r"ranges\.json cannot be read: No such file"):
        fetched_ip_ranges(str(tmp_path / "ranges.json"))


def test_what_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description_files, "_IP_RANGES_MAX_BYTES", 10)
    path = tmp_path / "ip-ranges.json"
    path.write_text(json.dumps(PUBLISHED))
    with pytest.raises(OperationFailedError, match="more than 10 bytes"):
        fetched_ip_ranges(str(path))


@pytest.mark.parametrize("place", ["http://ip-ranges.amazonaws.com/ip-ranges.json", "ftp://x/y", "file:///etc/hosts"])
def test_only_https_is_asked(place: str) -> None:
    with pytest.raises(OperationFailedError, match="are not read over"):
        fetched_ip_ranges(place)


def test_an_address_that_does_not_answer_is_transient() -> None:
    with pytest.raises(UnavailableError, match=r"GET https://127\.0\.0\.1:9/"):
        fetched_ip_ranges("https://127.0.0.1:9/ip-ranges.json")
