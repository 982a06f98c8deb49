"""Published settings of a stage in one region: an SSM parameter named in the data stack's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from metering.adapters.aws import errors, stacks
from metering.errors import OperationFailedError, SettingsError
from metering.fleet.ports import RegionStacks
from metering.settings import GivenSettings, StageSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.adapters.aws.session import Clients


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsPlace:
    """SSM parameter with a stage's settings in one region, and the hash of its document."""

    parameter: str
    sha256: str


def read_settings(clients: Clients, stage: str) -> StageSettings:
    """Read the settings with which the stage's functions run, in the region of `clients`.

    Raises:
        OperationFailedError: They cannot be read. No defaults are used: with another shard count or window than that of
            the functions, reports would be wrong.
        UnavailableError: The region does not answer.
    """
    region = clients.access.region
    try:
        return _published(clients, stage)
    except SettingsError as error:
        raise OperationFailedError(
            f"The settings of stage {stage} in {region} cannot be read ({error}).",
            f"Deploy it again: `metering region add {region} --stage {stage} --redeploy`, or `metering local up` here.",
        ) from error


def deployed_settings(clients: Clients, stage: str) -> StageSettings | None:
    """Read the settings that a stage's data stack published, even if the functions have others; None if not deployed.

    Raises:
        SettingsError: The data stack is deployed, but its settings cannot be read.
        UnavailableError: The region does not answer.
    """
    try:
        outputs = stacks.read_outputs(clients, RegionStacks.of(stage).data)
    except SettingsError:
        return None
    # A stack whose creation failed has no outputs.
    return _document(clients, stage, _settings_place(stage, outputs)) if outputs else None


def deployed_given(clients: Clients, stage: str) -> GivenSettings | None:
    """Read a stage's given settings, even if another version published them with a policy unknown to this version.

    Returns:
        None if the stage is not deployed, or its given settings are unknown.

    Raises:
        UnavailableError: The region does not answer.
    """
    try:
        place = _settings_place(stage, stacks.read_outputs(clients, RegionStacks.of(stage).data))
        return GivenSettings.read(_text(clients, place), stage=stage, sha256=place.sha256)
    except SettingsError:
        return None


def _published(clients: Clients, stage: str) -> StageSettings:
    place = _settings_place(stage, stacks.read_outputs(clients, RegionStacks.of(stage).data))
    functions = _functions(clients, stage)
    if functions is not None and "FunctionSettingsSha256" not in functions:
        # An older version published no `given` section, and its functions use the whole document.
        _check_same(functions.get("SettingsSha256", ""), place.sha256)
    settings = _document(clients, stage, place)
    if functions is not None and "FunctionSettingsSha256" in functions:
        _check_same(functions["FunctionSettingsSha256"], settings.functions_sha256)
    return settings


def _check_same(functions_sha256: str, published_sha256: str) -> None:
    if functions_sha256 != published_sha256:
        raise SettingsError(["the functions have others than were published: a deployment is not finished"])


def _document(clients: Clients, stage: str, place: SettingsPlace) -> StageSettings:
    settings = StageSettings.read(_text(clients, place), sha256=place.sha256)
    if settings.stage != stage:
        raise SettingsError([f"they are of stage {settings.stage}"])
    return settings


def _text(clients: Clients, place: SettingsPlace) -> str:
    try:
        with errors.translated("ssm.GetParameter"):
            answer = clients.ssm.get_parameter(Name=place.parameter)
    except ClientError as error:
        if errors.error_code(error) == "ParameterNotFound":
            raise SettingsError([f"parameter {place.parameter} is gone"]) from error
        raise
    return answer["Parameter"].get("Value", "")


def _settings_place(stage: str, outputs: Mapping[str, str]) -> SettingsPlace:
    name = RegionStacks.of(stage).data
    missing = [output for output in ("SettingsParameterName", "SettingsSha256") if output not in outputs]
    if missing:
        raise SettingsError([f"stack {name} has no output {output}" for output in missing])
    return SettingsPlace(parameter=outputs["SettingsParameterName"], sha256=outputs["SettingsSha256"])


def _functions(clients: Clients, stage: str) -> Mapping[str, str] | None:
    """Outputs of the pipeline stack. None without that stack: a region out of service keeps only its data stack."""
    try:
        return stacks.read_outputs(clients, RegionStacks.of(stage).pipeline)
    except SettingsError:
        return None
