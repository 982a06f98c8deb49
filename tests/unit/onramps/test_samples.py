"""Third-party sample lines: metered totals equal an independent sum, and every misfit has its reason.

`samples/NOTICE.md` names the lines' origin. The sums here split lines at spaces, and share no code with readers.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unit.onramps.readers import measured, reasons

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
    """Every field by its column in the header; missing facts count as usual traffic."""
    header, *lines = text.splitlines()
    names = header.split(" ")
    fitting = [dict(zip(names, line.split(" "), strict=True)) for line in lines if line.count(" ") + 1 == len(names)]
    moved = [row for row in fitting if row["bytes"] != "-"]
    kept = [row for row in moved if row.get("action") != "REJECT"]
    size = sum(int(row["bytes"]) for row in kept)
    dropped = [int(row["bytes"]) for row in moved if row not in kept]
    return Sum(len(lines) + 1, len(kept), size, len(dropped), sum(dropped), len(fitting) - len(moved))


def s3_by_hand(text: str) -> Sum:
    """Sent bytes follow the status and the error code."""
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
    balance = result.balance
    silent = balance.nodata + balance.skipdata
    assert (
        Sum(balance.lines, balance.metered, balance.metered_bytes, balance.rejected, balance.rejected_bytes, silent)
        == by_hand
    )
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
