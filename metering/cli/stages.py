"""Options for commands that deploy a stage or work with its settings, and the home region of the stage."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli import connecting, failures
from metering.cli.options import option, switch
from metering.errors import SettingsError, UnavailableError
from metering.fleet.settings.bases import SAFEST, STAGES, runs_on_emulator
from metering.usage.usage_types import is_region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from metering.fleet.settings.layers import Asked, SettingsFile

_SETTINGS = "Settings"
_SET = "Override a setting, also for later deployments; write lists and tables as JSON. `metering settings fields` "
_FILE = "Settings file. Default: the file in METERING_SETTINGS, else metering.toml in this folder or a parent of it."
SetOption = Annotated[list[str] | None, option("--set", "FIELD=VALUE", f"{_SET}lists the fields.", panel=_SETTINGS)]
UnsetOption = Annotated[
    list[str] | None, option("--unset", "FIELD", "Remove an override that --set made, now or earlier.", panel=_SETTINGS)
]
FileOption = Annotated[str | None, option("--settings", "FILE", _FILE, panel=_SETTINGS)]
ApiOption = Annotated[
    bool | None,
    switch(
        "--api/--no-api",
        "Deploy the HTTP API with its explorer page, or delete it; short for --set api=true or api=false.",
        _SETTINGS,
    ),
]
NoPagerOption = Annotated[bool, switch("--no-pager", "Accept a region whose alarms would page no one.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show each resource as it is created.")]
AssemblyOption = Annotated[
    Path | None,
    option("--assembly", "FOLDER", "Deploy what `deploy --make-assembly` made there, without Node and package index."),
]
MakeAssemblyOption = Annotated[
    Path | None,
    option("--make-assembly", "FOLDER", "Only write what a deployment with these settings needs, with hashes."),
]
WithoutHomeOption = Annotated[
    bool,
    switch("--without-home", "Redeploy one region while the home region is away, by what the region has itself."),
]
OutsideRulesOption = Annotated[
    bool, switch("--outside-rules", "Also build a region that rollout.allow or rollout.deny excludes.")
]

ADVICE = "The fields and what they may be: metering settings fields"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsOptions:
    """Options on a command line that concern settings.

    Attributes:
        given: Values of `--set`, each `field=value`.
        unset: Fields of `--unset`.
        file: File of `--settings`; None for the default file.
    """

    given: Sequence[str] = ()
    unset: Sequence[str] = ()
    file: str | None = None

    @classmethod
    def of(
        cls, given: list[str] | None, unset: list[str] | None, file: str | None, *, api: bool | None = None
    ) -> SettingsOptions:
        """Create the options from the values passed by Typer."""
        also = [] if api is None else [f"api={str(api).lower()}"]
        return cls(given=[*(given or ()), *also], unset=unset or (), file=file)


def settings_file(named: str | None) -> SettingsFile | None:
    """Read the settings file; None if there is no file.

    Raises:
        WrongUsageError: The named file does not exist, or the file is invalid.
    """
    from metering.fleet.settings.layers import find, read

    with settings_explained():
        path = find(Path.cwd(), named or os.environ.get("METERING_SETTINGS"))
        return None if path is None else read(_short(path))


def asked_for(stage: str, options: SettingsOptions) -> Asked:
    """Settings that a command requests.

    Raises:
        WrongUsageError: The file is invalid, or an option is malformed.
    """
    from metering.fleet.settings.bases import flat
    from metering.fleet.settings.layers import Asked

    file = settings_file(options.file)
    wrong = [each for each in options.given if not each.partition("=")[0] or "=" not in each]
    if wrong:
        raise failures.WrongUsageError(f"--set {wrong[0]}: not FIELD=VALUE.", ADVICE)
    with settings_explained():
        values = {name: _value(name, text) for name, _, text in (each.partition("=") for each in options.given)}
        table = file.table(stage) if file is not None else None
        return Asked(stage=stage, table=table, options=flat(values), unset=frozenset(options.unset))


@contextmanager
def settings_explained() -> Iterator[None]:
    """Turn errors in settings into usage errors.

    Raises:
        WrongUsageError: The settings are wrong.
    """
    try:
        yield
    except SettingsError as error:
        raise failures.WrongUsageError(sentence(str(error)), ADVICE) from error


def sentence(text: str) -> str:
    """Complete the description of a problem with a full stop."""
    return text if text.endswith("?") else f"{text}."


def _value(name: str, text: str) -> object:
    """A value given with `--set`: decoded as JSON, unless the field is text."""
    from metering.fleet.stage import StageConfig, decoded

    field = StageConfig.model_fields.get(name)
    if field is not None and field.annotation is str:
        return text
    value = decoded(f"--set {name}", text)
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _short(path: Path) -> Path:
    """Make a path relative if it is below the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


_HOME = "rollout.home"


def stated_home(stage: str) -> str | None:
    """The home region according to the settings file; None if the file or its entry is missing.

    Raises:
        WrongUsageError: The file is invalid, or its home is not a region.
    """
    return _stated(asked_for(stage, SettingsOptions()))


def home_region(stage: str, *, endpoint: Callable[[], str | None], asked: Asked | None = None) -> str:
    """The home region: that of `--set` or the settings file, otherwise of the deployed stage, otherwise of the base.

    Args:
        stage: Name of the stage.
        endpoint: Returns the endpoint; called only if the deployed stage is looked up; None: AWS.
        asked: Settings that the command requests; None for only the settings file.

    Raises:
        WrongUsageError: The settings file is invalid.
        CommandFailedError: Nothing answers.
    """
    from metering.fleet.stage import StageConfig

    asked = asked or asked_for(stage, SettingsOptions())
    if home := _stated(asked) or _deployed(stage, endpoint):
        return home
    like = asked.table.like if asked.table is not None else asked.stage if asked.stage in STAGES else SAFEST
    return StageConfig.load(asked.stage, like=like).rollout.home


def _deployed(stage: str, endpoint: Callable[[], str | None]) -> str | None:
    """The home region of the deployed stage; None if the stage is not deployed, or runs only on emulators."""
    # These imports are slow, and help does not need them.
    from metering.adapters.aws.homes import published_home
    from metering.fleet.stage import RolloutRules

    if runs_on_emulator(stage):
        return None
    asked = endpoint()
    try:
        return published_home(stage, environ=os.environ, endpoint=asked)
    except UnavailableError as error:
        raise connecting.no_answer(error, endpoint=asked, region=RolloutRules().home) from error


def known_home(stage: str, *, endpoint: Callable[[], str | None]) -> str | None:
    """The home region, for a command on a region where the stage is not deployed; None if unknown."""
    return stated_home(stage) or _deployed(stage, endpoint)


def _stated(asked: Asked) -> str | None:
    named = asked.options.get(_HOME, asked.table.values.get(_HOME) if asked.table is not None else None)
    if named is None:
        return None
    if not isinstance(named, str) or not is_region(named):
        place = "--set" if _HOME in asked.options or asked.table is None else f"{asked.table.place}:"
        raise failures.WrongUsageError(f"{place} {_HOME} is {named!r}; it must be a region.", "Write it as eu-west-1.")
    return named
