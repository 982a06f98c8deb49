"""`metering.toml`: a table `[stage.NAME]` with any setting of the stage, and `like` for what it is laid over.

[stage.staging]
like = "prod"
max_concurrency = 8

[[stage.staging.subscriptions]]
severity = "page"
protocol = "email"
endpoint = "oncall@example.com"
"""

from __future__ import annotations

import datetime as dt
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metering.errors import SettingsError
from metering.fleet.settings.bases import SAFEST, STAGES
from metering.fleet.settings.layers import Asked, StageTable, planned
from metering.fleet.settings.names import flat, nearest
from metering.fleet.settings.words import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_NAME = "metering.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    """A settings file, read and not yet checked.

    Attributes:
        path: Where it is.
        stages: What stands in the table of each stage.
    """

    path: Path
    stages: Mapping[str, object]

    def table(self, stage: str) -> StageTable | None:
        """Return the table of a stage, or None if the file has none.

        Raises:
            SettingsError: It is no table, or its base does not exist.
        """
        if stage not in self.stages:
            return None
        place, found = f"{self.path} [stage.{stage}]", self.stages[stage]
        if not isinstance(found, dict):
            raise SettingsError([f"{self.path}: stage.{stage} is {shown(found)}; it must be a table [stage.{stage}]"])
        values = {name: _plain(value) for name, value in found.items()}
        like = values.pop("like", stage if stage in STAGES else SAFEST)
        problems = [f"{place}: {text}" for text in _of_base(stage, like)]
        if "stage" in values:
            problems.append(f"{place}: the name of a stage is that of its table; take `stage` out")
        if problems:
            raise SettingsError(problems)
        return StageTable(place=place, like=str(like), values=flat(values))

    def problems(self) -> tuple[str, ...]:
        """Check every table, and list all problems."""
        found: list[str] = []
        for stage in self.stages:
            try:
                planned(Asked(stage=stage, table=self.table(stage)), None)
            except SettingsError as error:
                found += error.problems
        return tuple(found)


def find(start: Path, named: str | None) -> Path | None:
    """Find the settings file: the one that is named, else `metering.toml` in a folder or the folders around it.

    Raises:
        SettingsError: The named file does not exist.
    """
    if named:
        path = Path(named)
        if not path.exists():
            raise SettingsError([f"{named} does not exist (it was named by --settings or METERING_SETTINGS)"])
        return path
    return next((path for folder in (start, *start.parents) if (path := folder / FILE_NAME).is_file()), None)


def read(path: Path) -> SettingsFile:
    """Read a settings file. Its stages are checked when they are asked for.

    Raises:
        SettingsError: It cannot be read, is not TOML, or has something else than stages.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise SettingsError([f"{path} cannot be read: {error.strerror or error}"]) from error
    except ValueError as error:
        # Also what is not UTF-8.
        raise SettingsError([f"{path} is not TOML: {error}"]) from error
    stages = content.pop("stage", {})
    problems = [_stranger(path, name) for name in content]
    if not isinstance(stages, dict):
        raise SettingsError([*problems, f"{path}: stage is {shown(stages)}; write a table [stage.NAME]"])
    if problems:
        raise SettingsError(problems)
    return SettingsFile(path=path, stages=stages)


def _stranger(path: Path, name: str) -> str:
    meant = f"[stage.{name}]" if name in STAGES else f"[stage.{nearest(name, STAGES) or 'NAME'}]"
    return f"{path}: {name} is in no stage: settings stand below {meant}"


def _of_base(stage: str, like: object) -> list[str]:
    if stage in STAGES and like != stage:
        return [f"{stage} is a stage of its own, like no other; take `like` out, or name the stage otherwise"]
    if like not in STAGES:
        near = nearest(str(like), STAGES)
        hint = f"; did you mean {near}?" if near else ""
        return [f"like is {shown(like)}; it must be one of {', '.join(sorted(STAGES))}{hint}"]
    return []


def _plain(value: object) -> object:
    """A value as JSON has it: TOML has dates of its own."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, (dt.date, dt.time)) else value
