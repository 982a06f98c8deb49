"""Published settings of a stage in one region: a parameter that the outputs of the data stack name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from metering.adapters.aws.errors import error_code, translated
from metering.adapters.aws.stacks import read_outputs
from metering.errors import OperationFailedError, SettingsError
from metering.fleet.ports import RegionStacks
from metering.stage_settings import StageSettings

if TYPE_CHECKING:
    from metering.adapters.aws.session import Clients


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsPlace:
    """Parameter of a stage's settings in one region, and their hash.

    Attributes:
        parameter: Name of the parameter.
        sha256: Hash of its document.
        functions_sha256: Hash of the settings that the functions work with; None if the region has no functions.
    """

    parameter: str
    sha256: str
    functions_sha256: str | None


def read_settings(clients: Clients, stage: str) -> StageSettings:
    """Read the settings that the functions of the stage work with, in the region of `clients`.

    Raises:
        OperationFailedError: They cannot be read. No defaults stand in for them: with other shards or another window
            than the functions', answers would be wrong.
        UnavailableError: The region does not answer.
    """
    region = clients.access.region
    try:
        return _published(clients, stage)
    except SettingsError as error:
        raise OperationFailedError(
            f"The settings of stage {stage} in {region} cannot be read ({error}); deploy it again with "
            f"`metering region add {region} --stage {stage} --redeploy`, or `metering local up` on this machine."
        ) from error


def _published(clients: Clients, stage: str) -> StageSettings:
    place = _settings_place(clients, stage)
    if place.functions_sha256 not in {None, place.sha256}:
        raise SettingsError(["the functions have others than were published: a deployment is not finished"])
    try:
        with translated("ssm.GetParameter"):
            answer = clients.ssm.get_parameter(Name=place.parameter)
    except ClientError as error:
        if error_code(error) == "ParameterNotFound":
            raise SettingsError([f"parameter {place.parameter} is gone"]) from error
        raise
    settings = StageSettings.read(answer["Parameter"].get("Value", ""), sha256=place.sha256)
    if settings.stage != stage:
        raise SettingsError([f"they are of stage {settings.stage}"])
    return settings


def _settings_place(clients: Clients, stage: str) -> SettingsPlace:
    name = RegionStacks.of(stage).data
    outputs = read_outputs(clients, name)
    missing = [output for output in ("SettingsParameterName", "SettingsSha256") if output not in outputs]
    if missing:
        raise SettingsError([f"stack {name} has no output {output}" for output in missing])
    return SettingsPlace(
        parameter=outputs["SettingsParameterName"],
        sha256=outputs["SettingsSha256"],
        functions_sha256=_functions_sha256(clients, stage),
    )


def _functions_sha256(clients: Clients, stage: str) -> str | None:
    """Hash of the functions' settings. None without functions: a region out of service keeps only its data stack."""
    try:
        outputs = read_outputs(clients, RegionStacks.of(stage).pipeline)
    except SettingsError:
        return None
    return outputs.get("SettingsSha256", "")
