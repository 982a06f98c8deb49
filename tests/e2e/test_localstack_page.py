"""Runs docs/localstack.md as written: on MiniStack in the gate, on LocalStack if the endpoint is a LocalStack.

The page uses a separate region, so it does not affect the other tests' stage.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from metering.adapters.emulator.ministack import is_emulator
from tests import ROOT
from tests.e2e.conftest import plain_environment
from tests.e2e.endpoints import AWS_CLI, version_of, why_no_cli
from tests.support.emulated import running_emulator

pytestmark = pytest.mark.emulator

PAGE = (ROOT / "docs" / "localstack.md").read_text()
REGION = "eu-west-1"
_PORT = 4790
_PLACE = re.compile(r"^export EMULATOR=.+$", re.MULTILINE)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CLI_LINE = re.compile(r"^aws --endpoint-url .+$", re.MULTILINE)
_BY_HAND = "## By the CDK alone"
# The gate does not install the AWS CLI for one line; `make check-long` does.
_INSTEAD = (
    'import boto3, os; boto3.client("sqs").send_message(QueueUrl=os.environ["INGEST_QUEUE_URL"], '
    'MessageBody=open("first.json").read())'
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The emulator that is already running."""
    named = os.environ.get("METERING_E2E_ENDPOINT")
    if named:
        yield named
        return
    with running_emulator(_PORT) as running:
        yield running.endpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A writable copy of the project files that the page uses."""
    for name in (".venv", "infra"):
        (tmp_path / name).symlink_to(Path(sys.prefix) if name == ".venv" else ROOT / name)
    return tmp_path


def shell(script: str, folder: Path, path: str = "") -> str:
    """Output of a script; the shell stops at the first failed command."""
    env: Mapping[str, str] = {
        **plain_environment(),
        "AWS_REGION": REGION,
        "METERING_LOCAL_DIR": str(folder / "local"),
        "PATH": os.pathsep.join(filter(None, (path, os.environ["PATH"]))),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-x"],
        input=script,
        cwd=folder,
        env=env,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def script_of(page: str, endpoint: str) -> str:
    """All command lines of a page as one script. Only the emulator's address is replaced."""
    lines: list[str] = []
    for language, block in _BLOCK.findall(page):
        if language == "python":
            lines += [f"cat > first.py <<'END_OF_PROGRAM'\n{block}END_OF_PROGRAM\n", ".venv/bin/python first.py\n"]
        else:
            lines.append(block)
    return _PLACE.sub(f"export EMULATOR={endpoint}", "".join(lines))


def check_typed(page: str, endpoint: str, folder: Path, *, why_no_cli: str) -> None:
    """Run a page's commands, and check their output."""
    script = script_of(page, endpoint)
    if why_no_cli:
        print(f"the line of the AWS CLI is not typed: {why_no_cli}")
        script = _CLI_LINE.sub(f".venv/bin/python -c '{_INSTEAD}'", script)

    said = shell(script, folder, "" if why_no_cli else str(AWS_CLI.folder() / "bin"))

    # The total of two batches of 41,943,040 bytes: the CLI's and the client's.
    assert '"bytes": "83886080"' in said
    assert said.count('"deployed": true') == 2
    # It runs on.
    assert is_emulator(endpoint)


def test_the_page_works_as_it_stands(endpoint: str, folder: Path) -> None:
    """The manual CDK deployment is a drill on MiniStack, because of its duration."""
    assert len(_PLACE.findall(PAGE)) == 1
    assert len(_CLI_LINE.findall(PAGE)) == 1
    # This variable is empty if `make` runs the tests on an emulator of their own.
    whole = bool(os.environ.get("METERING_E2E_ENDPOINT"))
    why = why_no_cli(installing=whole)
    assert not (whole and why and os.environ.get("CI")), why
    before, section, _ = PAGE.partition(_BY_HAND)
    assert section
    check_typed(PAGE if whole else before, endpoint, folder, why_no_cli=why)


@pytest.mark.drill
def test_the_whole_page_works_with_the_cdk_by_hand(endpoint: str, folder: Path) -> None:
    why = why_no_cli(installing=True)
    assert not (why and os.environ.get("CI")), why
    check_typed(PAGE, endpoint, folder, why_no_cli=why)


def test_version_2_of_the_aws_cli_sends_by_the_line_of_the_page(endpoint: str, folder: Path) -> None:
    if version_of(Path("/usr/bin/aws")) != 2:
        pytest.skip("Debian's AWS CLI 2 (apt-get install awscli) is not installed")
    keys = f"export AWS_ENDPOINT_URL={endpoint} AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test\n"
    made = f"aws sqs create-queue --queue-name cli-{time.time_ns()} --output json\n"
    url = json.loads(shell(keys + made, folder, "/usr/bin"))["QueueUrl"]
    (folder / "first.json").write_text('{"schema": "metering.batch/1"}')
    [line] = _CLI_LINE.findall(PAGE)

    assert "MessageId" in shell(f"{keys}export INGEST_QUEUE_URL={url}\n{line}\n", folder, "/usr/bin")
