"""The AWS CLI, version 1, from the package index: in its own environment, because it pins the SDK."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.tools import Tool, install

_LOCK = Path(__file__).parent / "lock" / "aws_cli.txt"
AWS_CLI = Tool(name="aws-cli", python="3.13", lock=(_LOCK,), requirements=(_LOCK,))


def why_no_cli(*, installing: bool = False) -> str:
    """Reason why the CLI is missing; empty if it is installed.

    Args:
        installing: Install it first, from the package index.
    """
    if installing and not install(AWS_CLI):
        return f"this machine has no Python {AWS_CLI.python}"
    return "" if AWS_CLI.is_installed() else "it is not installed (make check-long installs it)"


def version_of(program: Path) -> int:
    """Major version of an AWS CLI; 0 if there is none."""
    if not program.is_file():
        return 0
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.match(r"aws-cli/(\d+)", said)
    return int(found[1]) if found else 0
