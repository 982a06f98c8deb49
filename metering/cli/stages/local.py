"""Settings of the emulator that `metering local` started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.cli.command import say
from metering.cli.connecting import connect
from metering.cli.failures import CommandFailedError
from metering.cli.stages.options import SettingsOptions, asked_for, settings_explained
from metering.errors import MeteringError

if TYPE_CHECKING:
    from metering.adapters.aws.fleet.deployed_regions import DeployedRegions
    from metering.adapters.emulator.state import LocalState
    from metering.fleet.settings.layers import Asked
    from metering.fleet.settings.regions import RegionSettings
    from metering.stage_settings import GivenSettings


def checked(stage: str, options: SettingsOptions) -> GivenSettings:
    """What a new emulator is given, by the settings file and the options.

    Raises:
        WrongUsageError: The file or an option is wrong.
    """
    return _fresh(asked_for(stage, options))


def deployed_by(state: LocalState) -> DeployedRegions:
    """What is deployed on the emulator.

    Raises:
        CommandFailedError: It does not answer, or the stage is not deployed there.
    """
    from metering.adapters.aws.fleet.deployed_regions import DeployedRegions

    clients = connect(endpoint=state.endpoint, region=state.region, stage=state.stage).clients
    return DeployedRegions(lambda _: clients, stage=state.stage)


def settings_to_keep(state: LocalState) -> GivenSettings:
    """What the emulator was given, and what the settings file says now.

    Raises:
        WrongUsageError: The settings file is wrong.
    """
    asked = asked_for(state.stage, SettingsOptions())
    try:
        before = _settings_of(state, asked)
    except MeteringError as error:
        say(f"What it was given with --set is not known ({error}), and is lost.", style="yellow")
        return _fresh(asked)
    with settings_explained():
        return before.of(state.region).given


def check_settings(state: LocalState, options: SettingsOptions) -> None:
    """Compare the settings of the running emulator with those that are asked for.

    Raises:
        CommandFailedError: An option asks for others.
        WrongUsageError: The settings are wrong.
    """
    with settings_explained():
        change = _settings_of(state, asked_for(state.stage, options)).change(state.region)
    if not change.differences:
        return
    advice = (
        f"Deploy them (metering region add {state.region} --stage {state.stage} --redeploy, with the same --set), "
        "or stop it first: metering local down"
    )
    if options.given or options.unset:
        raise CommandFailedError(f"It is up at {state.endpoint} with other settings: {change}.", advice)
    say(f"The settings file says otherwise than what is up: {change}. {advice}", style="yellow")


def _fresh(asked: Asked) -> GivenSettings:
    from metering.fleet.settings.layers import planned

    with settings_explained():
        return planned(asked, None).given


def _settings_of(state: LocalState, asked: Asked) -> RegionSettings:
    """Settings of its region, read at once: the emulator may be about to stop."""
    from metering.fleet.settings.regions import RegionSettings

    settings = RegionSettings(asked=asked, home=state.region, deployed=deployed_by(state))
    settings.before(state.region)
    return settings
