"""The home region of a stage, for whoever names no region: by the settings file, or by what is deployed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from metering.cli.connecting import no_answer
from metering.cli.failures import WrongUsageError
from metering.cli.stages.options import SettingsOptions, asked_for
from metering.errors import UnavailableError
from metering.fleet.settings.bases import SAFEST, STAGES, runs_on_emulator
from metering.usage.locations import is_region

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.fleet.settings.layers import Asked

_HOME = "rollout.home"


def stated_home(stage: str) -> str | None:
    """The home region that the settings file names; None if there is no file, or if it names none.

    Raises:
        WrongUsageError: The file is broken, or names what is no region.
    """
    return _stated(asked_for(stage, SettingsOptions()))


def home_region(stage: str, *, endpoint: Callable[[], str | None], asked: Asked | None = None) -> str:
    """The home region: by `--set` or the settings file, else by what is deployed, else by the base of the stage.

    Args:
        stage: Name of the stage.
        endpoint: Gives the endpoint, if somebody must be asked; None for AWS.
        asked: What the command says about settings; None for the settings file alone.

    Raises:
        WrongUsageError: The settings file is broken.
        CommandFailedError: Nothing answers.
    """
    from metering.fleet.stage import StageConfig

    asked = asked or asked_for(stage, SettingsOptions())
    if home := _stated(asked) or _deployed(stage, endpoint):
        return home
    like = asked.table.like if asked.table is not None else asked.stage if asked.stage in STAGES else SAFEST
    return StageConfig.load(asked.stage, like=like).rollout.home


def _deployed(stage: str, endpoint: Callable[[], str | None]) -> str | None:
    """The home region by what is deployed; None if the stage is nowhere, or is one that only emulators run.

    Raises:
        CommandFailedError: Nothing answers, or the stage is in several regions that are no fleet.
    """
    # Slow to import, and help needs neither.
    from metering.adapters.aws.fleet.homes import published_home
    from metering.fleet.rules import RolloutRules

    if runs_on_emulator(stage):
        return None
    asked = endpoint()
    try:
        return published_home(stage, environ=os.environ, endpoint=asked)
    except UnavailableError as error:
        raise no_answer(error, endpoint=asked, region=RolloutRules().home) from error


def known_home(stage: str, *, endpoint: Callable[[], str | None]) -> str | None:
    """The home region, for a command that named a region without such a stage; None if nobody knows it."""
    return stated_home(stage) or _deployed(stage, endpoint)


def _stated(asked: Asked) -> str | None:
    named = asked.options.get(_HOME, asked.table.values.get(_HOME) if asked.table is not None else None)
    if named is None:
        return None
    if not isinstance(named, str) or not is_region(named):
        place = "--set" if _HOME in asked.options or asked.table is None else f"{asked.table.place}:"
        raise WrongUsageError(f"{place} {_HOME} is {named!r}; it must be a region.", "Write it as eu-west-1.")
    return named
