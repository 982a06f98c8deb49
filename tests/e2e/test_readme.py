"""The README's everyday commands, typed in order against the deployed service."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tests import ROOT
from tests.support.small_logs import network_logs
from tests.unit.house.command_lines import whole_lines

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Service

# The emulator and the region already exist.
_ALREADY_DONE = ("metering local ", "metering region add ")
_MANIFEST, _LOGS = "m.json", "./flowlogs/"


def test_the_commands_of_the_readme_work(service: Service, tmp_path: Path) -> None:
    lines = [line for line in whole_lines((ROOT / "README.md").read_text()) if not line.startswith(_ALREADY_DONE)]
    assert [line.split()[1] for line in lines] == ["ingest", "replay", "verify", "report", "cost", "status", "query"]
    network_logs(tmp_path)
    places = {_MANIFEST: str(tmp_path / _MANIFEST), _LOGS: str(tmp_path / "logs")}
    for line in lines:
        arguments = [places.get(word, word) for word in shlex.split(line)[1:]]
        done = service.run("producer" if arguments[0] == "replay" else "reader", *arguments, timeout_s=300)
        # The region's status depends on earlier tests.
        well = {0, 1} if arguments[0] == "status" else {0}
        assert done.returncode in well, f"{line}: {done.stdout}{done.stderr}"
        assert done.stdout.strip(), line
