"""Connections to a deployed region, built from the outputs of its stacks."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

from metering.adapters.aws.errors import translated
from metering.adapters.aws.published_settings import read_settings
from metering.adapters.aws.region import RegionPorts
from metering.adapters.aws.session import Clients
from metering.adapters.aws.stacks import RegionResources, stack_outputs
from metering.cli.failures import CommandFailedError
from metering.errors import SettingsError, UnavailableError
from metering.settings import Settings


@dataclass(frozen=True)
class RegionConnection(RegionPorts):
    """One deployed region: its names, and ports to what they name, each made on first use.

    Attributes:
        names: Of tables, bucket, queues and topics.
    """

    names: RegionResources

    @property
    def region(self) -> str:
        return self.clients.access.region

    @property
    def stage(self) -> str:
        return self.names.stage

    def caller(self) -> str:
        """Who is asking, as AWS knows them."""
        with translated("sts.GetCallerIdentity"):
            return self.clients.sts.get_caller_identity()["Arn"]

    @cached_property
    def settings(self) -> Settings:
        """Settings as the functions have them.

        Raises:
            OperationFailedError: They cannot be read, and there are no others to go on with.
            UnavailableError: The region gives no answer.
        """
        published = read_settings(self.clients, self.stage)
        return Settings.model_validate(
            {**published.policy.model_dump(), **asdict(self.names), "settings_sha256": published.sha256}
        )


def connect(
    *, endpoint: str | None, region: str, stage: str, environ: Mapping[str, str] | None = None
) -> RegionConnection:
    """Look up the stacks of a stage and connect to what they name.

    Raises:
        CommandFailedError: Nothing answers at the endpoint, or the stage is not deployed there.
    """
    clients = Clients.from_env(os.environ if environ is None else environ, region=region, endpoint_url=endpoint)
    try:
        return RegionConnection(clients=clients, names=stack_outputs(clients, stage))
    except UnavailableError as error:
        raise no_answer(error, endpoint=endpoint, region=region) from error
    except SettingsError as error:
        raise CommandFailedError(
            f"{error}.",
            f"Deploy it with `metering region add {region} --stage {stage}`, or `metering local up` on this machine; "
            "or name another --stage, --region or --endpoint.",
        ) from error


def no_answer(error: UnavailableError, *, endpoint: str | None, region: str) -> CommandFailedError:
    """What to tell people when the first call of a command gets none."""
    return CommandFailedError(
        f"{endpoint or f'AWS in {region}'} gives no answer ({error.detail}).",
        "Start the emulator with `metering local up`, or name another one with --endpoint or AWS_ENDPOINT_URL.",
    )
