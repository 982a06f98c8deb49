"""MiniStack as a child process on 127.0.0.1 that is always stopped; and endpoints of emulators in general."""

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from metering.adapters.emulator.state import end_tree, local_dir, process_began, running_endpoint
from metering.errors import OperationFailedError, UnavailableError
from metering.fleet.settings.bases import runs_on_emulator

HOST = "127.0.0.1"
DEFAULT_PORT = 4566
# MiniStack's root credentials: access key id and secret key. Under AUTH=true, policies apply to all other keys.
ROOT_KEY = ("test", "test")
ROOT_KEYS = dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ROOT_KEY, strict=True))

# Under load, Python's garbage collector repeatedly traverses MiniStack's whole state, which takes a fifth of its time.
# With these thresholds, the collector rarely runs, but still frees reference cycles.
_PROGRAM = "import gc, runpy; gc.set_threshold(100_000, 50, 1_000); runpy.run_module('ministack', run_name='__main__')"

_READY_S = 60.0
_POLL_S = 0.1
# MiniStack can survive SIGTERM (observed: indefinitely, while a worker was in a call).
_GRACE_S = 2.0

# Functions inherit MiniStack's environment variables, so our own endpoint, certificate or settings would reach them.
_PRIVATE_PREFIXES = ("AWS_", "METERING_", "LOCALSTACK_")
_PRIVATE_NAMES = {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"}


# Popen warns if it is garbage-collected while its process runs. An emulator runs until `stop`, and may outlive us.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """Running MiniStack.

    Attributes:
        began: Start mark of the process, as `process_began` returns it.
        ca_bundle: File of the certificates that clients must trust; None for plain http.
        log: File with the output of MiniStack and of its functions.
    """

    endpoint: str
    pid: int
    began: str
    ca_bundle: Path | None
    log: Path


def free_port(preferred: int = DEFAULT_PORT) -> int:
    """Port `preferred` if it is free, else a port that the system picks."""
    if not is_port_used(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_port_used(port: int) -> bool:
    """Whether a process listens on 127.0.0.1:`port`."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def start(
    port: int, *, region: str, auth: bool = False, tls: bool = False, environ: Mapping[str, str] | None = None
) -> Emulator:
    """Start MiniStack as a daemon on 127.0.0.1:`port`, and wait until it answers. It serves all regions.

    Args:
        port: A free port.
        region: Default region.
        auth: Enforce IAM policies.
        tls: Whether to serve https with MiniStack's own certificate, which is in `ca_bundle`.
        environ: Further settings of MiniStack.

    Raises:
        UnavailableError: MiniStack exited, or did not respond within a minute.
    """
    run_dir = local_dir() / f"ministack-{port}"
    (run_dir / "tmp").mkdir(parents=True, exist_ok=True)
    log = run_dir / "ministack.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and package
            [sys.executable, "-c", _PROGRAM],
            env=_environment(port, run_dir, region=region, auth=auth, tls=tls) | dict(environ or {}),
            cwd=run_dir,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _started.append(process)
    endpoint = f"{'https' if tls else 'http'}://{HOST}:{port}"
    try:
        _wait_until_ready(process, endpoint, log)
    except BaseException:
        end_tree(process.pid, grace_s=0)
        raise
    bundle = _write_ca_bundle(run_dir) if tls else None
    return Emulator(
        endpoint=endpoint, pid=process.pid, began=process_began(process.pid) or "", ca_bundle=bundle, log=log
    )


def stop(pid: int) -> None:
    """Stop an emulator and its functions, and return when their processes are gone."""
    end_tree(pid, grace_s=_GRACE_S)
    for process in [process for process in _started if process.pid == pid]:
        process.wait()
        _started.remove(process)


def client_environment(endpoint: str, ca_bundle: Path | None, *, region: str) -> dict[str, str]:
    """Environment of a client of the emulator: endpoint, root keys, region, certificates."""
    values = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": region, "AWS_DEFAULT_REGION": region, **ROOT_KEYS}
    if ca_bundle is not None:
        values |= {"AWS_CA_BUNDLE": str(ca_bundle), "NODE_EXTRA_CA_CERTS": str(ca_bundle)}
    return values


def _environment(port: int, run_dir: Path, *, region: str, auth: bool, tls: bool) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_PRIVATE_PREFIXES) and name not in _PRIVATE_NAMES
    }
    own = {
        "BIND_HOST": HOST,
        # MiniStack's MQTT listener ignores BIND_HOST: it binds port 8883 on every address.
        "IOT_MTLS_ENABLED": "0",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": region,
        "TMPDIR": str(run_dir / "tmp"),
        "LOG_LEVEL": "WARNING",
        "PYTHONUNBUFFERED": "1",
    }
    if auth:
        own["AUTH"] = "true"
    if tls:
        own["USE_SSL"] = "1"
    return kept | own


def _wait_until_ready(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UnavailableError("MiniStack.Start", f"it ended with {process.returncode}: {_last_lines(log)}")
        if _answers(f"{endpoint}/_ministack/health"):
            return
        time.sleep(_POLL_S)
    raise UnavailableError("MiniStack.Start", f"no answer at {endpoint} in {_READY_S:.0f} s: {_last_lines(log)}")


def _answers(url: str) -> bool:
    # The request only checks whether the emulator is running. Later, the certificate is read and trusted.
    context = ssl._create_unverified_context() if url.startswith("https:") else None  # noqa: S323
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as reply:  # noqa: S310  # our own endpoint
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return False


def _write_ca_bundle(run_dir: Path) -> Path:
    """Write MiniStack's certificate and the system's root certificates to one file for all clients."""
    bundle = run_dir / "ca-bundle.pem"
    roots = ssl.get_default_verify_paths().cafile
    parts = [(run_dir / "tmp" / "ministack-tls" / "server.crt").read_text()]
    if roots is not None and Path(roots).exists():
        parts.append(Path(roots).read_text())
    bundle.write_text("\n".join(parts))
    return bundle


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-5:]
    return " | ".join(lines) or "no output"


# No request is ever sent to AWS's own hosts. Source: https://docs.aws.amazon.com/general/latest/gr/rande.html
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".amazonwebservices.com.cn", ".aws")
_PATHS = ("_ministack/health", "_localstack/health")
# Under load, LocalStack took seconds to respond.
_PATIENCE_S = 10


def is_emulator(endpoint: str, *, ca_bundle: str | None = None) -> bool:
    """Whether MiniStack or LocalStack answers at a URL. Any other response counts as AWS.

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
            # A server answers, but without certificate verification its identity is unknown.
            return False
        told = reason.strerror if isinstance(reason, OSError) and reason.strerror else f"{reason}"
        raise UnavailableError("Endpoint.Health", told) from error
    return isinstance(answer, dict) and "services" in answer


def endpoint_for(stage: str, endpoint: str | None, environ: Mapping[str, str]) -> str | None:
    """Endpoint URL to use for a stage; None for AWS itself.

    `AWS_ENDPOINT_URL` if it is set; otherwise, for a stage of emulators, the endpoint of `metering local up`.

    Raises:
        OperationFailedError: The stage is for emulators only, and no emulator was found.
        UnavailableError: Nothing answers at the endpoint.
    """
    endpoint = endpoint or environ.get("AWS_ENDPOINT_URL") or None
    if not runs_on_emulator(stage):
        return endpoint
    endpoint = endpoint or running_endpoint()
    if endpoint is None or not is_emulator(endpoint, ca_bundle=environ.get("AWS_CA_BUNDLE") or None):
        where = "none runs here" if endpoint is None else f"{endpoint} is none"
        raise OperationFailedError(
            f"Stage {stage} runs on an emulator, and {where}.",
            "Start one with `metering local up`, or name another stage or endpoint.",
        )
    return endpoint


# Resolves the address of a region's HTTP API on an emulator, because its host name in the stack's output is in no DNS.
#
# Both emulators route a request to an API by its host name. MiniStack also accepts a path for the API, which every
# program and browser can call. LocalStack accepts only the host name: browsers resolve every name below `localhost` to
# this machine, and other programs send the name in `Host`.


# MiniStack serves an HTTP API at `<id>.execute-api.localhost:<port>`.
_HTTP_API = re.compile(r"(?P<id>[a-z0-9-]+)\.execute-api\..+")
# A function URL is `<id>.lambda-url.<region>.<host>`; MiniStack outputs AWS's host, and LocalStack its own.
_FUNCTION_URL = re.compile(r"(?P<id>[a-z0-9-]+)\.lambda-url\.(?P<region>[a-z0-9-]+)\.(?P<host>.+)")
_AWS_HOST = "on.aws"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAddress:
    """Where an API answers.

    Attributes:
        url: URL for a browser, with a trailing slash.
        base: For a program: URL without a trailing slash.
        host: `Host` header that a program sends with `base`; empty if the default header is right.
    """

    url: str
    base: str
    host: str = ""


def api_address(put_out: str, endpoint: str) -> ApiAddress:
    """Address on the emulator at `endpoint` of the API whose stack output `ApiUrl` is `put_out`."""
    there = urlsplit(put_out)
    host, base = there.netloc, endpoint.rstrip("/")
    if found := _HTTP_API.fullmatch(host):
        return _by_path(f"{base}/_aws/execute-api/{found['id']}")
    found = _FUNCTION_URL.fullmatch(host)
    if found is None:
        # The stack's output has another host name, such as a custom domain, and is used unchanged.
        return _by_path(put_out.rstrip("/"))
    if found["host"] == _AWS_HOST:
        return _by_path(f"{base}/_aws/lambda-url/{found['id']}")
    port = urlsplit(endpoint).port
    name = f"{found['id']}.lambda-url.{found['region']}.localhost" + (f":{port}" if port else "")
    return ApiAddress(url=f"{urlsplit(endpoint).scheme}://{name}/", base=base, host=host)


def _by_path(base: str) -> ApiAddress:
    return ApiAddress(url=f"{base}/", base=base)
