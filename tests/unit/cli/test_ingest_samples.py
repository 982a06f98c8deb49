"""`metering ingest --dry-run` over sample lines that others wrote, against a sum line by line that knows no reader."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from metering.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "tests" / "unit" / "onramps" / "samples"
PARTITION = Path("logs/123456789012/us-west-1/amzn-s3-demo-bucket1/2019/02/06")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(SAMPLES / "flows", tmp_path / "flows")
    shutil.copytree(SAMPLES / "s3", tmp_path / PARTITION)
    elb = "123456789012_elasticloadbalancing_us-east-1_app.web.1a2b_20261124T1305Z_192.0.2.1_3xq8w1.log.gz"
    (tmp_path / elb).write_bytes(b"")
    return tmp_path


def dry_run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["ingest", "--dry-run", *arguments, "--format", "json"])
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def sums_by_hand(files: Iterable[Path]) -> dict[str, int]:
    """Every number of a flow log by its place below the header, and of S3 by its place behind the request."""
    sums = {"lines": 0, "metered_bytes": 0, "rejected_bytes": 0}
    for path in files:
        lines = path.read_text().splitlines()
        sums["lines"] += len(lines)
        names = lines[0].split(" ")
        for line in lines:
            fields = line.split(" ")
            if path.parent.name == "s3":
                behind = line.partition('" ')[2].split(" ")
                sums["metered_bytes"] += int(behind[2]) if len(behind) > 2 else 0
            elif fields != names and len(fields) == len(names) and fields[names.index("bytes")] != "-":
                rejected = "action" in names and fields[names.index("action")] == "REJECT"
                sums["rejected_bytes" if rejected else "metered_bytes"] += int(fields[names.index("bytes")])
    return sums


def test_all_samples_are_what_a_sum_by_hand_says_and_every_misfit_has_its_reason(folder: Path) -> None:
    answer = dry_run(str(folder))
    by_hand = sums_by_hand(path for name in ("flows", "s3") for path in (SAMPLES / name).iterdir())
    balance = answer["balance"]
    assert balance["holds"] is True
    assert {name: int(balance[name]) for name in by_hand} == by_hand
    assert sum(int(row["bytes"]) for row in answer["rows"]) == by_hand["metered_bytes"]
    assert sum(int(each["bytes"]) for each in answer["unclassified"]["reasons"]) == int(answer["unclassified"]["bytes"])
    assert {reason["reason"]: reason["lines"] for reason in answer["refused"]} == {"field_count": 3}


def test_the_mapping_of_the_documentation_is_tried_as_it_says(tmp_path: Path) -> None:
    row = {
        "status": "done",
        "tenant": {"aws_account": 12345678901},
        "kind": "egress",
        "origin": "edge",
        "target": "client",
        "host": "h",
        "size": 1.5,
        "began": "2026-11-24T13:00:00Z",
        "took": 5,
    }
    file = tmp_path / "transfers.ndjson"
    file.write_text(json.dumps(row) + "\n")
    answer = dry_run("--map", str(ROOT / "docs" / "mapping.toml"), str(file))
    assert [(each["usage_type"], each["bytes"]) for each in answer["rows"]] == [("USW2-DataTransfer-Out-Bytes", "1536")]


def test_a_wrong_mapping_is_refused_with_every_problem_in_words(tmp_path: Path) -> None:
    mapping = tmp_path / "m.toml"
    mapping.write_text('format = "csv"\nacount = "a"\n')
    (tmp_path / "x.csv").write_text("a\n1\n")
    result = CliRunner().invoke(app, ["ingest", "--dry-run", "--map", str(mapping), str(tmp_path / "x.csv")])
    assert result.exit_code != 0
    assert "did you mean 'account'" in result.output.replace("\n", " ")
    assert "service is missing" in result.output.replace("\n", " ")
