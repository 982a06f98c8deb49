"""What the first answers about log files say: whose they are, what would be metered, and what to do."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from metering.cli.app import app
from metering.onramps.cloudfront import LEGACY_FIELDS
from tests.support.flow_logs import KEY, V2, line, text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_S3_LINE = (
    "79a5 acme-data [24/Nov/2026:13:05:00 +0000] 192.0.2.3 - 3E57427F3EXAMPLE REST.GET.OBJECT photo.jpg"
    ' "GET /acme-data/photo.jpg HTTP/1.1" 200 - {size} {size} 70 10 "-" "curl" - host sig cipher auth'
    " acme-data.s3.us-west-2.amazonaws.com TLSv1.2 - -"
)
_LEGACY = dict.fromkeys(LEGACY_FIELDS, "-") | {
    "date": "2026-11-24",
    "time": "13:05:00",
    "x-edge-location": "LHR61-P2",
    "cs-bytes": "0",
}


def _s3(folder: Path) -> None:
    lines = "".join(f"{_S3_LINE.format(size=size)}\n" for size in range(1, 501))
    (folder / "2026-11-24-14-00-00-0123456789ABCDEF").write_text(lines)


def _edge(folder: Path) -> None:
    rows = ("\t".join(str(value) for value in (_LEGACY | {"sc-bytes": size}).values()) for size in range(1, 501))
    content = "\n".join(("#Version: 1.0", f"#Fields: {' '.join(LEGACY_FIELDS)}", *rows, ""))
    (folder / "E2EXAMPLE12345.2026-11-24-13.a1b2c3d4.gz").write_bytes(gzip.compress(content.encode()))


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stage."""
    for name in ("AWS_ENDPOINT_URL", "METERING_STAGE"):
        monkeypatch.delenv(name, raising=False)


def said(*words: str) -> tuple[int, str]:
    """Exit code, and all that a dry run says, on one line."""
    result = CliRunner().invoke(app, ["ingest", "--dry-run", "--format", "table", *words])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("put", [_s3, _edge], ids=["s3", "cloudfront"])
def test_a_log_that_does_not_say_whose_it_is_is_refused_with_the_option_that_says_it(
    put: Callable[[Path], None], tmp_path: Path
) -> None:
    put(tmp_path)
    code, answer = said(str(tmp_path))
    assert "give its account: --accounts ID" in answer
    assert "Files: 1 refused." in answer
    assert "empty" not in answer
    assert code == 1
    code, answer = said(str(tmp_path), "--accounts", "111122223333")
    assert code == 0
    assert "Files: 1 would be metered." in answer


def _flows(folder: Path, *lines: str, names: tuple[str, ...] = V2) -> None:
    (folder / KEY.rpartition("/")[2]).write_bytes(gzip.compress(text(*lines, names=names)))


def test_a_dry_run_says_what_would_be_metered_and_not_that_it_was(tmp_path: Path) -> None:
    _flows(tmp_path, line())
    _, answer = said(str(tmp_path))
    assert "Files: 1 would be metered." in answer
    assert "would be metered 1 + rejected 0" in answer
    assert "Bytes: 1,000 = would be metered 1,000" in answer
    assert "100.0 % of the bytes that would be metered are not classified" in answer


def test_a_file_without_traffic_is_not_called_empty(tmp_path: Path) -> None:
    _flows(tmp_path, *[line(log_status="NODATA", bytes="-")] * 500)
    _, answer = said(str(tmp_path))
    assert "Nothing in these files would be metered." in answer
    assert "Files: 1 with nothing to meter. Lines: 501 = header 1" in answer


def test_fields_that_all_logs_have_are_not_asked_for(tmp_path: Path) -> None:
    more = (*V2, "region", "flow-direction", "traffic-path", "pkt-srcaddr")
    _flows(tmp_path, line(more), names=more)
    _, answer = said(str(tmp_path))
    assert "whether the interface has a public address is not known" in answer
    assert "To know more, add a context (metering context capture)." in answer
    other = tmp_path / KEY.rpartition("/")[2].replace("_a1b2", "_c3d4")
    other.write_bytes(gzip.compress(text(line())))
    _, answer = said(str(tmp_path))
    assert "flow-direction traffic-path" in answer.partition("these fields:")[2]


def test_address_ranges_that_cannot_be_fetched_are_named_with_the_option_that_takes_a_file(tmp_path: Path) -> None:
    description = tmp_path / "description.json"
    description.write_text('{"schema": "metering.description/1", "regions": []}')
    result = CliRunner().invoke(
        app,
        [
            *("context", "capture", "--from", str(description), "--into", str(tmp_path / "ctx")),
            *("--ip-ranges", "https://127.0.0.1:1/ip-ranges.json"),
        ],
    )
    assert "--ip-ranges FILE" in " ".join(result.output.split())
    assert result.exit_code == 1
