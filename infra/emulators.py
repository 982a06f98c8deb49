"""Configuration of a stage on an emulator, reduced to the features that this emulator supports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.aws.probe import has_http_apis
from metering.adapters.aws.session import Access, Clients
from metering.adapters.emulator.ministack import is_emulator
from metering.errors import OperationFailedError
from metering.fleet.settings.bases import REHEARSAL
from metering.fleet.settings.layers import Planned, config_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.fleet.stage import StageConfig

_ENDPOINT = "AWS_ENDPOINT_URL"
_OTHER_WAY = "LOCALSTACK_HOST"
_ADVICE = "Name an emulator: export AWS_ENDPOINT_URL=http://127.0.0.1:4566. Or let `metering local up` deploy it."


def fitted(config: StageConfig, clients: Clients) -> StageConfig:
    """Configuration of an emulated stage, without features that the emulator at the clients' endpoint lacks.

    Without HTTP APIs, a function URL serves the API.

    Raises:
        UnavailableError: The emulator does not respond.
    """
    behind_http_api = config.emulated and config.api and config.api_front == "http"
    if not behind_http_api or not clients.access.custom_endpoint or has_http_apis(clients):
        return config
    return config.model_copy(update={"api_front": "url"})


def config_by_hand(settings: Planned, environ: Mapping[str, str]) -> StageConfig:
    """The configuration for a manual `cdk deploy`: `AWS_ENDPOINT_URL` names the target of the deployment.

    An AWS stage becomes a rehearsal if an emulator responds at the endpoint, as in `metering deploy`.

    Raises:
        OperationFailedError: The stage is for emulators only, but the target is not an emulator.
        UnavailableError: The endpoint does not respond.
    """
    config, endpoint = settings.config, environ.get(_ENDPOINT) or None
    # The CDK CLI ignores this variable.
    access = Access.from_env({name: value for name, value in environ.items() if name != _OTHER_WAY})
    if endpoint is None or not is_emulator(endpoint, ca_bundle=access.ca_bundle):
        # The CDK CLI sets the account if it has credentials. Without credentials, the templates can still be inspected.
        if config.emulated and (endpoint is not None or environ.get("CDK_DEFAULT_ACCOUNT")):
            where = f"{endpoint} is none" if endpoint else f"{_ENDPOINT} names none"
            raise OperationFailedError(f"Stage {config.stage} runs on an emulator, and {where}.", _ADVICE)
        return config
    if not config.emulated:
        config = config_of(config.stage, settings.given, REHEARSAL)
    return fitted(config, Clients(access))
