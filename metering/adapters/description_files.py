"""Descriptions of networks in files, and AWS's list of its address ranges."""

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, build_opener

from metering.errors import OperationFailedError, UnavailableError
from metering.onramps.context.description import read_ip_ranges
from metering.units import GIB, MIB

URL = "https://ip-ranges.amazonaws.com/ip-ranges.json"
"""AWS General Reference, AWS IP address ranges."""
OPERATION = "GET https://"
"""The operation of an error that the network gave no list begins with it."""
# It has 2.4 MB. A larger response cannot be AWS's list of address ranges.
_IP_RANGES_MAX_BYTES = 32 * MIB
_TIMEOUT_S = 20
_HTTPS_OR_FILE = "Give an https address, or a file."


def fetched_ip_ranges(place: str = URL, *, ca_bundle: str | None = None) -> Mapping[str, object]:
    """AWS's address ranges from an https URL or file, validated. `ca_bundle` None trusts the system's certificates.

    Raises:
        DescriptionError: The content is not AWS's list of address ranges.
        OperationFailedError: The file cannot be read, or the URL is not https.
        UnavailableError: The URL did not respond.
    """
    scheme = urlsplit(place).scheme
    if scheme == "https":
        return read_ip_ranges(_over_https(place, ca_bundle))
    if "://" in place:
        raise OperationFailedError(
            f"Address ranges are not read over {scheme}: what comes may be anybody's.",
            "Give an https address or a file.",
        )
    try:
        with Path(place).open("rb") as file:
            return read_ip_ranges(_limited(file.read(_IP_RANGES_MAX_BYTES + 1), place))
    except OSError as error:
        raise OperationFailedError(
            f"{place} cannot be read: {error.strerror or error}", "Give another file."
        ) from error


def _over_https(url: str, ca_bundle: str | None) -> bytes:
    opener = build_opener(HTTPSHandler(context=ssl.create_default_context(cafile=ca_bundle)))
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as answer:
            if urlsplit(answer.geturl()).scheme != "https":
                raise OperationFailedError(f"{url} leads to a place that is not of https.", _HTTPS_OR_FILE)
            return _limited(answer.read(_IP_RANGES_MAX_BYTES + 1), url)
    except OSError as error:
        raise UnavailableError(f"GET {url}", f"{type(error).__name__}: {error}") from error


def _limited(body: bytes, place: str) -> bytes:
    if len(body) > _IP_RANGES_MAX_BYTES:
        raise OperationFailedError(
            f"{place} has more than {_IP_RANGES_MAX_BYTES:,} bytes, so it is no list of address ranges.",
            "Give another one.",
        )
    return body


# Room for EC2's descriptions of 400,000 network interfaces.
_MAX_BYTES = GIB
_ADVICE = "Write it as metering.description/1, or capture from AWS: metering context capture --help"


def described_by_file(path: Path, *, ip_ranges: str | None) -> Mapping[str, object]:
    """Read a network description from a file; `ip_ranges` replaces its address ranges.

    Raises:
        OperationFailedError: The file cannot be read, or is not JSON.
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
