"""AWS's list of its address ranges, from where AWS publishes it, or from a file."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, build_opener

from metering.errors import OperationFailedError, UnavailableError
from metering.onramps.context.description import read_ip_ranges
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

URL = "https://ip-ranges.amazonaws.com/ip-ranges.json"
"""AWS General Reference, AWS IP address ranges."""
OPERATION = "GET https://"
"""The operation of an error that the network gave no list begins with it."""
# It has 2.4 MB. A longer answer is something else.
_MAX_BYTES = 32 * MIB
_TIMEOUT_S = 20
_HTTPS_OR_FILE = "Give an https address, or a file."


def fetched_ip_ranges(place: str = URL, *, ca_bundle: str | None = None) -> Mapping[str, object]:
    """The list, checked.

    Args:
        place: An https address, or the path of a file.
        ca_bundle: Path of the certificates to trust; None for the system's.

    Raises:
        DescriptionError: It is not such a list.
        OperationFailedError: The file cannot be read, or the address is not of https.
        UnavailableError: The address gave no answer.
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
            return read_ip_ranges(_limited(file.read(_MAX_BYTES + 1), place))
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
            return _limited(answer.read(_MAX_BYTES + 1), url)
    except OSError as error:
        raise UnavailableError(f"GET {url}", f"{type(error).__name__}: {error}") from error


def _limited(body: bytes, place: str) -> bytes:
    if len(body) > _MAX_BYTES:
        raise OperationFailedError(
            f"{place} has more than {_MAX_BYTES:,} bytes, so it is no list of address ranges.", "Give another one."
        )
    return body
