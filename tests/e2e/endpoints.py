"""Kinds of emulators, tests that fit only one kind, and an AWS CLI in its own environment."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tests import ROOT
from tests.tools import Tool, install

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

# LocalStack loads a service at its first request: 2 s on an idle machine, and more than 10 s were seen on a busy one.
_PATIENCE_S = 60


class Kind(StrEnum):
    """An implementation of AWS's API."""

    MINISTACK = "MiniStack"
    LOCALSTACK = "LocalStack"
    OTHER = "something else"


# Marker -> the emulator that its tests need; each marker states its `reason`.
_ONLY = {"ministack": Kind.MINISTACK}


def kind_of(endpoint: str) -> Kind:
    """Kind of the service at `endpoint`. MiniStack is checked first, because it passes LocalStack's check, too."""
    if _health(endpoint, "_ministack") is not None:
        return Kind.MINISTACK
    return Kind.LOCALSTACK if _health(endpoint, "_localstack") is not None else Kind.OTHER


def why_left_out(item: pytest.Item, kind: Kind) -> str | None:
    """The reason why a test does not fit the endpoint; None if it does."""
    for marker, needed in _ONLY.items():
        found = item.get_closest_marker(marker)
        if found is not None and kind is not needed:
            return f"only on {needed}, this is {kind}: {found.kwargs['reason']}"
    return None


def _health(endpoint: str, path: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"{endpoint}/{path}/health", timeout=_PATIENCE_S) as reply:  # noqa: S310  # as asked
            answer = json.loads(reply.read())
    except (urllib.error.HTTPError, ValueError):
        return None
    except (OSError, urllib.error.URLError) as error:
        raise ConnectionError(f"nothing answers at {endpoint}: {error}") from error
    return answer if isinstance(answer, dict) and "services" in answer else None


_LOCK = ROOT / "tests" / "support" / "lock" / "aws_cli.txt"
AWS_CLI = Tool(name="aws-cli", python="3.13", lock=(_LOCK,), requirements=(_LOCK,))


def why_no_cli(*, installing: bool = False) -> str:
    """Reason why the CLI is missing; empty if it is installed."""
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
