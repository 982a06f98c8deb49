"""Names of places as people type them: endpoint, region and stage.

They are checked before anything is asked or printed: what has the form of a name can be copied into a shell.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from metering.cli.failures import WrongUsageError
from metering.fleet.settings.names import STAGE_NAME
from metering.usage.locations import is_region

# Names no region, but all of them.
ALL_REGIONS = "all"


def checked_endpoint(endpoint: str | None) -> str | None:
    """Return an endpoint that is a URL.

    Raises:
        WrongUsageError: It is none.
    """
    if endpoint is None:
        return None
    try:
        parts = urlsplit(endpoint)
        right = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        right = False
    if not right or any(character.isspace() for character in endpoint):
        raise WrongUsageError(
            f"The endpoint {shown_endpoint(endpoint)} is not a URL.",
            "Write it as http://127.0.0.1:4566 (--endpoint or AWS_ENDPOINT_URL).",
        )
    return endpoint


def shown_endpoint(endpoint: str) -> str:
    """An endpoint as it may be printed, whatever its form: without what stands before the host."""
    scheme, separator, rest = endpoint.rpartition("://")
    return f"{scheme}{separator}***@{rest.rpartition('@')[2]}" if "@" in rest else endpoint


def checked_stage(stage: str) -> str:
    """Return a stage's name that a stage can have.

    Raises:
        WrongUsageError: None can have it.
    """
    if re.fullmatch(STAGE_NAME, stage) is None:
        raise WrongUsageError(
            f"{stage} is not the name of a stage.",
            "It is a letter, then up to 15 of a-z, 0-9 and dashes (--stage or METERING_STAGE).",
        )
    return stage


def checked_region(region: str, *, every: bool = True) -> str:
    """Return a region's name, known or not, or `all` where `every` allows it.

    Raises:
        WrongUsageError: No region can have it.
    """
    if not (every and region == ALL_REGIONS) and not is_region(region):
        raise WrongUsageError(
            f"{region} is not the name of a region.",
            "Write it as eu-west-1 or ap-southeast-9 (--region or AWS_REGION).",
        )
    return region
