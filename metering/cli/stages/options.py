"""Options of commands that deploy a stage or work with its settings, and what they ask for."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.failures import WrongUsageError
from metering.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.fleet.settings.file import SettingsFile
    from metering.fleet.settings.layers import Asked

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Give a setting another value, which later deployments keep; lists and tables as JSON. "
        "`metering settings fields` lists the fields.",
        rich_help_panel="Settings",
    ),
]
UnsetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unset", metavar="FIELD", help="Take back what --set gave, now or earlier.", rich_help_panel="Settings"
    ),
]
FileOption = Annotated[
    str | None,
    typer.Option(
        "--settings",
        metavar="FILE",
        help="Settings file. Default: METERING_SETTINGS, else metering.toml in this folder or those around it.",
        rich_help_panel="Settings",
    ),
]

NoPagerOption = Annotated[bool, typer.Option("--no-pager", help="Accept a region whose alarms would page no one.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show each resource as it is created.")]

ApiOption = Annotated[
    bool | None,
    typer.Option(
        "--api/--no-api",
        help="Deploy the HTTP API with its explorer page, or delete it: --set api=true.",
        rich_help_panel="Settings",
    ),
]

OutsideRulesOption = Annotated[
    bool, typer.Option("--outside-rules", help="Also build a region that rollout.allow or rollout.deny leaves out.")
]

ADVICE = "The fields and what they may be: metering settings fields"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsOptions:
    """What a command line says about settings.

    Attributes:
        given: Values of `--set`, each as `field=value`.
        unset: Fields of `--unset`.
        file: File of `--settings`; None for the default.
    """

    given: Sequence[str] = ()
    unset: Sequence[str] = ()
    file: str | None = None

    @classmethod
    def of(
        cls, given: list[str] | None, unset: list[str] | None, file: str | None, *, api: bool | None = None
    ) -> SettingsOptions:
        """Options as Typer gives them."""
        also = [] if api is None else [f"api={str(api).lower()}"]
        return cls(given=[*(given or ()), *also], unset=unset or (), file=file)


def settings_file(named: str | None) -> SettingsFile | None:
    """Read the settings file; None if there is none.

    Raises:
        WrongUsageError: The named file does not exist, or the file is broken.
    """
    from metering.fleet.settings.file import find, read

    with settings_explained():
        path = find(Path.cwd(), named or os.environ.get("METERING_SETTINGS"))
        return None if path is None else read(_short(path))


def asked_for(stage: str, options: SettingsOptions) -> Asked:
    """What a command asks for.

    Raises:
        WrongUsageError: The file is broken, or an option is not of its form.
    """
    from metering.fleet.settings.layers import Asked
    from metering.fleet.settings.names import flat

    file = settings_file(options.file)
    wrong = [each for each in options.given if not each.partition("=")[0] or "=" not in each]
    if wrong:
        raise WrongUsageError(f"--set {wrong[0]}: not FIELD=VALUE.", ADVICE)
    with settings_explained():
        values = {name: _value(name, text) for name, _, text in (each.partition("=") for each in options.given)}
        table = file.table(stage) if file is not None else None
        return Asked(stage=stage, table=table, options=flat(values), unset=frozenset(options.unset))


@contextmanager
def settings_explained() -> Iterator[None]:
    """Turn wrong settings into wrong usage.

    Raises:
        WrongUsageError: The settings are wrong.
    """
    try:
        yield
    except SettingsError as error:
        raise WrongUsageError(sentence(str(error)), ADVICE) from error


def sentence(text: str) -> str:
    """A problem with its full stop."""
    return text if text.endswith("?") else f"{text}."


def _value(name: str, text: str) -> object:
    """A value of `--set`: JSON where the field is no text."""
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
    """A path as people write it from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
