"""Descriptions of networks in files (`metering.onramps.context.description`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from metering.adapters.ip_ranges import fetched_ip_ranges
from metering.errors import OperationFailedError
from metering.units import GIB

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# A description of 400,000 interfaces, as EC2 tells of them.
_MAX_BYTES = GIB
_ADVICE = "Write it as metering.description/1, or capture from AWS: metering context capture --help"


def described_by_file(path: Path, *, ip_ranges: str | None) -> Mapping[str, object]:
    """The description of a file; `ip_ranges` replaces its address ranges.

    Raises:
        OperationFailedError: The file cannot be read, or is no JSON.
    """
    description = _json_of(path)
    if ip_ranges is not None:
        description["ip_ranges"] = fetched_ip_ranges(ip_ranges)
    return description


def _json_of(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            body = file.read(_MAX_BYTES + 1)
        if len(body) > _MAX_BYTES:
            raise OperationFailedError(f"{path} has more than {_MAX_BYTES:,} bytes.", _ADVICE)
        decoded = json.loads(body)
    except OSError as error:
        raise OperationFailedError(f"{path} cannot be read: {error.strerror or error}.", _ADVICE) from error
    except (ValueError, RecursionError) as error:
        raise OperationFailedError(f"{path} is no JSON: {error}.", _ADVICE) from error
    if not isinstance(decoded, dict):
        raise OperationFailedError(f"{path} is no description: it is not a JSON object.", _ADVICE)
    return cast("dict[str, object]", decoded)
