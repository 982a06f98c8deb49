"""Answers from the HTTP API, with a token. The token is sent only to the URL's host."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass, field, fields
from http.client import HTTPException
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

import pyarrow as pa
import pyarrow.parquet as pq

from metering.client.asking import SqlQuestion, with_about
from metering.errors import OperationFailedError, UnavailableError
from metering.reports import parquet_table, time_range
from metering.version import package_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from email.message import Message

    from metering.reports.answer import Json
    from metering.reports.costs.rows import CostParameters
    from metering.reports.query import TraceParameters, UsageParameters
    from metering.reports.who import WhoParameters

_TIMEOUT_S = 60
_NO_TOKEN, _TOO_MANY, _SERVER_ERROR = 401, 429, 500
# Status codes of a request that contradicts the API document or is invalid. Both name the parameters.
_WRONG_QUESTION = frozenset({400, 422})
# Query fields with a different name in a URL, and query fields without a URL parameter.
_NAMES = {"start": "from", "end": "to", "zone": "tz"}
_NO_PARAMETERS = frozenset({"filters", "budget", "region"})
_ABOUT = {"Metering-As-Of": "as_of", "Metering-Complete-Through": "complete_through"}
# Columns of a trace. A trace is sent as JSON, because it has sums in addition to its rows.
_TRACE = {
    "region": "text", "batch_id": "text", "source_id": "text", "sequence": "integer", "bytes": "bytes",
    "records": "integer", "first_hour": "time", "last_hour": "time", "marker": "text",
}  # fmt: skip


class _NoRedirects(HTTPRedirectHandler):
    """Redirects are refused, so that no other host receives the token; the metering API itself never redirects."""

    def redirect_request(
        self, req: Request, fp: object, code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        del req, fp, code, msg, headers, newurl
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswers:
    """Client of one HTTP API, whose URL ends with a slash. The system's certificates and `ca_bundle` are trusted."""

    url: str
    token: str = field(repr=False)
    ca_bundle: str | None = None

    @classmethod
    def at(cls, url: str, token: str | None, *, ca_bundle: str | None = None) -> HttpAnswers:
        """The client for an API with this URL. Nothing is asked yet.

        Raises:
            OperationFailedError: The URL is invalid or would send the token unencrypted, or the token is missing.
        """
        try:
            parts = urlsplit(url.strip())
            host, _port = parts.hostname or "", parts.port
        except ValueError:
            host, parts = "", urlsplit("")
        if parts.scheme not in {"http", "https"} or not host:
            raise OperationFailedError(f"The url {url.partition('#')[0]} is no URL.", "Write it as https://….")
        if "@" in parts.netloc:
            raise OperationFailedError(
                f"The url of {host} holds a name or a password, which errors would show.", "Leave it out; give a token."
            )
        if parts.scheme == "http" and not _is_loopback(host):
            raise OperationFailedError(
                f"http://{host} would send the token for all to read.", "Write https, or ask an API of this machine."
            )
        given = token or _in_fragment(parts.fragment)
        if not given:
            raise OperationFailedError(
                "There is no token.", "Give token=, or set METERING_TOKEN. `metering token create` makes one."
            )
        if not given.isascii() or not given.isprintable():
            raise OperationFailedError("The token is none.", "Copy it as `metering token create` printed it.")
        return cls(url=f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/", token=given, ca_bundle=ca_bundle)

    def usage(self, asked: UsageParameters) -> pa.Table:
        return self._table("v1/usage", _texts(asked))

    def cost(self, asked: CostParameters, *, prices: str | None, exact: bool) -> pa.Table:
        if exact:
            raise OperationFailedError(
                "The HTTP API does not compute tiers anew.",
                "Leave exact out, or connect to the stores: stage=…, region=….",
            )
        return self._table("v1/cost", {**_texts(asked), "prices": prices})

    def who(self, asked: WhoParameters, *, prices: str | None) -> pa.Table:
        return self._table("v1/who", {**_texts(asked), "prices": prices})

    def trace(self, asked: TraceParameters) -> pa.Table:
        body, _ = self._get("v1/trace", _texts(asked))
        document: dict[str, Json] = _document(body)
        rows = document.pop("batches", None)
        if not isinstance(rows, list) or not isinstance(document.get("sums"), dict):
            raise _no_api(self.url)
        batches = [each for each in rows if isinstance(each, dict)]
        if len(batches) != len(rows):
            raise _no_api(self.url)
        return with_about(_batches(batches), document)

    def query(self, asked: SqlQuestion) -> pa.Table:
        del asked
        raise OperationFailedError(
            "The HTTP API takes no SQL.", "Connect to the stores: metering.connect(stage=…, region=…).query(…)."
        )

    def _table(self, path: str, asked: Mapping[str, str | None]) -> pa.Table:
        body, headers = self._get(path, {**asked, "format": "parquet"})
        try:
            table = pq.read_table(pa.BufferReader(body))
        except pa.ArrowInvalid as error:
            raise _no_api(self.url) from error
        return with_about(table, {name: headers[header] for header, name in _ABOUT.items() if header in headers})

    def _get(self, path: str, asked: Mapping[str, str | None]) -> tuple[bytes, Message]:
        query = urlencode({name: text for name, text in asked.items() if text is not None}, safe=",:")
        request = Request(  # noqa: S310 - `at` lets http and https through
            f"{self.url}{path}?{query}",
            headers={"Authorization": f"Bearer {self.token}", "User-Agent": f"metering/{package_version()}"},
        )
        try:
            with self._opener().open(request, timeout=_TIMEOUT_S) as answer:
                return answer.read(), answer.headers
        except HTTPError as error:
            with error:
                raise _told(error, f"GET /{path}", self.url) from None
        except ssl.SSLError as error:
            raise OperationFailedError(f"{self.url} has a certificate that is not trusted: {error}.") from error
        except (URLError, HTTPException, OSError) as error:
            if isinstance(getattr(error, "reason", None), ssl.SSLError):
                raise OperationFailedError(f"{self.url} has a certificate that is not trusted: {error}.") from error
            raise UnavailableError(f"GET /{path}", f"{self.url} gives no answer ({error})") from error

    def _opener(self) -> OpenerDirector:
        own = [ProxyHandler({})] if _is_loopback(urlsplit(self.url).hostname or "") else []
        trusted = ssl.create_default_context()
        if self.ca_bundle:
            trusted.load_verify_locations(self.ca_bundle)
        return build_opener(_NoRedirects(), HTTPSHandler(context=trusted), *own)


def _texts(asked: UsageParameters | TraceParameters) -> dict[str, str | None]:
    given = {each.name: getattr(asked, each.name) for each in fields(asked) if each.name not in _NO_PARAMETERS}
    filters = {
        name: texts if isinstance(texts, str) else ",".join(texts or ()) for name, texts in asked.filters.items()
    }
    return {_NAMES.get(name, name): _text(value) for name, value in {**given, **filters}.items()}


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else None
    return None if value is None else str(value)


def _batches(batches: Sequence[Mapping[str, Json]]) -> pa.Table:
    columns = {
        name: kind for name, kind in _TRACE.items() if name != "region" or any("region" in row for row in batches)
    }
    rows = [{name: _cell(kind, row.get(name)) for name, kind in columns.items()} for row in batches]
    return parquet_table.arrow_table(columns, rows)


def _cell(kind: str, value: Json) -> str | int | None:
    if value is None or not isinstance(value, str | int):
        return None
    return int(value) if kind == "bytes" else value


def _document(body: bytes) -> dict[str, Json]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _told(error: HTTPError, operation: str, url: str) -> Exception:
    """The error that corresponds to a problem document."""
    problem = _document(error.read())
    detail = str(problem.get("detail", "")) or str(error.reason)
    if error.code == _TOO_MANY or error.code >= _SERVER_ERROR:
        return UnavailableError(operation, f"{error.code}: {detail}", may_have_applied=False)
    if error.code == _NO_TOKEN:
        return OperationFailedError(
            f"{url} does not take the token: {detail}", "A token expires, and can be revoked. Ask for a new one."
        )
    if "type" not in problem:
        return _no_api(url)
    told = problem.get("errors")
    faults = [_fault(each) for each in told if isinstance(each, dict)] if isinstance(told, list) else []
    if faults and error.code in _WRONG_QUESTION:
        return time_range.InvalidParametersError(faults)
    return OperationFailedError(detail, " ".join(f"{each.value} {each.problem}" for each in faults))


def _fault(fault: Mapping[str, Json]) -> time_range.ParameterProblem:
    # The message begins with the value, as on the command line; of several parameters, it begins with the name.
    parameter = str(fault.get("parameter", ""))
    value, _, problem = str(fault.get("detail", "")).removeprefix(f"{parameter} ").partition(" ")
    return time_range.ParameterProblem(parameter=parameter, value=value, problem=problem)


def _no_api(url: str) -> OperationFailedError:
    return OperationFailedError(
        f"What answers at {url} is not the HTTP API of metering.",
        "Give the output ApiUrl of the stack, or what `metering serve` prints.",
    )


def _in_fragment(fragment: str) -> str | None:
    name, _, value = fragment.partition("=")
    return value if name == "token" else None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or host.endswith(".localhost") or ip_address(host).is_loopback
    except ValueError:
        return False
