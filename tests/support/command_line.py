"""Commands run against in-memory regions, all at one time."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from typer.testing import CliRunner

from metering.cli.app import app
from tests.support.lake_world import NOW_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typer.testing import Result


@contextmanager
def typed_at(connect: Callable[..., object], regions: object = None) -> Iterator[None]:
    """Connect commands to in-memory regions, and stop the clock."""
    with ExitStack() as stack:
        for target, value in {
            "metering.cli.command.connect": connect,
            "metering.cli.command.emulated": lambda **_place: True,
            "metering.cli.command.refuse_aws_for_emulated": lambda _stage, **_place: None,
            **({} if regions is None else {"metering.cli.command.Session.regions": regions}),
            "time.time": lambda: NOW_S,
            "time.time_ns": lambda: NOW_S * 10**9,
        }.items():
            stack.enter_context(patch(target, value))
        yield


def run(*line: object) -> Result:
    """Run a command line, with an endpoint at which nothing listens."""
    return CliRunner().invoke(app, ["--endpoint", "http://127.0.0.1:9", *map(str, line)])


def ask(*line: object) -> Any:
    """Run a command line that succeeds, and parse its JSON."""
    result = run(*line, "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*line: object, code: int = 1) -> str:
    """Run a command line that exits with this code and no data; returns its message with single spaces."""
    result = run(*line)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    return " ".join(result.stderr.split())
