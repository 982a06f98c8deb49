"""The worked example of docs/billing.md: its commands run against an in-memory region, and print what the page shows.

`python -m tests.cli.billing_page` writes the page's outputs; review the diff.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

from typer.testing import CliRunner

from metering.cli.app import app
from metering.fleet.settings.layers import Asked, planned
from metering.units import GIB, HOUR_S
from tests.cli.lively import REGION, Lively
from tests.cli.lively_fleet import NOW, LivelyAccount, LivelyFleet
from tests.cli.record import _at_one_moment
from tests.support.lake_world import record

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "billing.md"
WIDTH = 80
# Hours counted from the first hour of 28 October 2026.
_BEGIN_S = 1_793_145_600
# Matches a command block, and the block with its output.
_STEP = re.compile(r"^```\n(metering [^\n]+)\n```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Step(NamedTuple):
    """A command of the page, and its output on the page."""

    line: str
    output: str


def steps(text: str) -> list[Step]:
    """A page's commands that have their output beside them, in order."""
    return [Step(*found) for found in _STEP.findall(text)]


def payers_of(text: str) -> str:
    """The payers' file that the page shows."""
    found = re.search(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    assert json.loads(found[1])["payers"]
    return found[1]


class Example:
    """The example's region, in which commands are typed. Mutable."""

    def __init__(self, payers: str) -> None:
        self._region = Lively()
        self._payers = payers
        self.use("111111111111", 6_000, 0)
        self.use("222222222222", 4_000, 1)
        self.use("333333333333", 2_000, 2)

    def use(self, account: str, size_gb: int, hour: int) -> None:
        """An account sends this many GB to the internet."""
        self._region.world.send([record(size_gb * GIB, start_s=_BEGIN_S + hour * HOUR_S, account=account)])

    @contextmanager
    def open(self) -> Iterator[None]:
        """A folder with the payers' file, and commands connected to the region."""
        # A stage of one region: the recordings' stage has more regions.
        with patch("tests.cli.record.lively_account", _one_region):
            moment = _at_one_moment(self._region)
        with moment, tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {"COLUMNS": str(WIDTH)}):
            before = Path.cwd()
            os.chdir(folder)
            try:
                Path("payers.json").write_text(self._payers)
                yield
            finally:
                os.chdir(before)

    def type(self, line: str) -> str:
        """A command's output on stdout; it must exit with 0."""
        _, *words = shlex.split(line)
        form = [] if "export" in words or "--format" in words else ["--format", "table"]
        result = CliRunner().invoke(app, ["--endpoint", "http://127.0.0.1:9", *words, *form])
        if result.exit_code:
            raise SystemExit(f"{line}: exit {result.exit_code}\n{result.output}\n{result.stderr}") from result.exception
        return "".join(f"{row.rstrip()}\n" for row in result.stdout.strip("\n").splitlines())


def _one_region(region: Lively) -> LivelyAccount:
    account = LivelyAccount()
    given = planned(Asked(stage="local"), None)
    account.settings.documents[REGION] = given.config.published(given.given)
    account.outputs = NOW.outputs
    fleet = LivelyFleet(
        asked=Asked(stage="local"), home=REGION, endpoint=None, environ={}, no_pager=True, lively=region,
        account=account,
    )  # fmt: skip
    fleet.manager.add(REGION)
    return account


# Late usage arrives before this command.
_LATE = "metering invoice draft --month 2026-11"


def played(text: str) -> Iterator[Step]:
    """Each command of a page with its current output."""
    example = Example(payers_of(text))
    with example.open():
        for step in steps(text):
            if step.line.startswith(_LATE):
                example.use("333333333333", 100, 30)
            yield Step(step.line, example.type(step.line))


def main() -> None:
    """Write the outputs anew."""
    text = PAGE.read_text(encoding="utf-8")
    for before, now in zip(steps(text), list(played(text)), strict=True):
        block = "```\n{}\n```\n\n```text\n{}```"
        text = text.replace(block.format(*before), block.format(*now))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
