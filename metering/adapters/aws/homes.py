"""The home region of a stage, found in the settings that the stage's regions publish."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from metering.adapters.aws import published_settings, stacks
from metering.adapters.aws.session import Access, Clients
from metering.errors import OperationFailedError, SettingsError, UnavailableError
from metering.fleet.ports import RegionStacks
from metering.fleet.settings.layers import home_given

_DEFAULT_REGION = "us-east-1"
# There are few attempts per region, because one slow region must not delay the others.
_ATTEMPTS = 2
# Number of regions that are queried in parallel.
_SIDE_BY_SIDE = 16


def published_home(
    stage: str, *, environ: Mapping[str, str], endpoint: str | None, regions: Sequence[str] = ()
) -> str | None:
    """Look up the home region of a stage: first in the profile's region, then in the partition's other regions.

    A region that does not respond or denies access is treated as a region without the stage. None if no answering
    region has the stage. `regions` lists the regions to query, beginning with the first.

    Raises:
        OperationFailedError: The stage's regions do not agree which of them is the home region.
        UnavailableError: The first region does not respond.
    """
    first, *others = regions or _regions()
    clients = Clients(Access.from_env(environ, region=first, endpoint_url=endpoint), attempts=_ATTEMPTS)
    named = _home_said(stage, clients)
    if named is None:
        found = _everywhere(stage, [clients.beside(region) for region in others])
    elif named != first and _home_if_any(stage, clients.beside(named)):
        return named
    else:
        found = {first: named}
    return _home_of(stage, found)


def _everywhere(stage: str, regions: Sequence[Clients]) -> dict[str, str]:
    for clients in regions:
        # The client is created in this thread and then shared by the pool's threads.
        _ = clients.cloudformation
    with ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE) as pool:
        homes = list(pool.map(lambda clients: _home_if_any(stage, clients), regions))
    return {each.access.region: home for each, home in zip(regions, homes, strict=True) if home}


def _home_of(stage: str, found: Mapping[str, str]) -> str | None:
    """The region that the stage's regions name as their home. A stage's only region is its home."""
    homes = sorted({home for home in found.values() if home in found}) or sorted(found)
    if len(homes) > 1:
        raise OperationFailedError(
            f"Stage {stage} is deployed in {', '.join(sorted(found))}, and nothing says which is its home region.",
            "Name a region with --region, or the home region in metering.toml.",
        )
    return homes[0] if homes else None


def _regions() -> Sequence[str]:
    """The profile's region, and all other regions of its partition in this SDK's data."""
    session = boto3.session.Session()
    own = session.region_name or _DEFAULT_REGION
    partition = session.get_partition_for_region(own)
    known = session.get_available_regions("cloudformation", partition_name=partition)
    return list(dict.fromkeys([own, *([_DEFAULT_REGION] if _DEFAULT_REGION in known else []), *known]))


def _home_if_any(stage: str, clients: Clients) -> str | None:
    try:
        return _home_said(stage, clients)
    except (UnavailableError, BotoCoreError):
        return None


def _home_said(stage: str, clients: Clients) -> str | None:
    """Home region named by the stage's deployment in a region; None if no deployment is visible there."""
    try:
        stacks.read_outputs(clients, RegionStacks.of(stage).data)
        given = published_settings.deployed_given(clients, stage)
    except (SettingsError, ClientError):
        return None
    # An earlier version published no settings, or the caller may not read them.
    return clients.access.region if given is None else home_given(given)
