"""Whether an emulator is at an endpoint, by what answers there."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from metering.errors import UnavailableError

# Hosts of AWS itself are never asked. Source: https://docs.aws.amazon.com/general/latest/gr/rande.html
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".amazonwebservices.com.cn", ".aws")
_PATHS = ("_ministack/health", "_localstack/health")
# A busy LocalStack was seen to need seconds.
_PATIENCE_S = 10


def is_emulator(endpoint: str, *, ca_bundle: str | None = None) -> bool:
    """Whether MiniStack or LocalStack answers at a URL. Whatever else answers counts as AWS.

    Args:
        endpoint: URL of the endpoint.
        ca_bundle: Path of the certificates to trust; None for the system's.

    Raises:
        UnavailableError: Nothing answers there.
    """
    host = urlsplit(endpoint).hostname or ""
    if f".{host}".endswith(_AWS_DOMAINS):
        return False
    return any(_is_health(f"{endpoint.rstrip('/')}/{path}", ca_bundle) for path in _PATHS)


def _is_health(url: str, ca_bundle: str | None) -> bool:
    context = ssl.create_default_context(cafile=ca_bundle) if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_S, context=context) as reply:  # noqa: S310  # http or https
            answer = json.loads(reply.read())
    except (urllib.error.HTTPError, ValueError, http.client.HTTPException):
        return False
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            # Somebody answers, and nobody vouches for who it is.
            return False
        told = reason.strerror if isinstance(reason, OSError) and reason.strerror else f"{reason}"
        raise UnavailableError("Endpoint.Health", told) from error
    return isinstance(answer, dict) and "services" in answer
