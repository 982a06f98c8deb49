"""MiniStack as a child process: from the project's own environment, on 127.0.0.1, with a sure end."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metering.adapters.emulator.state import end_tree, local_dir, process_began
from metering.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping


HOST = "127.0.0.1"
DEFAULT_PORT = 4566
# MiniStack's root credentials: access key id and secret key. Under AUTH=true it applies policies to all other keys.
ROOT_KEY = ("test", "test")
ROOT_KEYS = dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ROOT_KEY, strict=True))

# Under load, Python's garbage collector traverses MiniStack's whole state over and over, which takes a fifth of its
# time. With these thresholds the collector runs almost never, and still frees cycles.
_PROGRAM = "import gc, runpy; gc.set_threshold(100_000, 50, 1_000); runpy.run_module('ministack', run_name='__main__')"

_READY_S = 60.0
_POLL_S = 0.1
# MiniStack can survive SIGTERM (seen: forever, while a worker was in a call).
_GRACE_S = 2.0

# Functions inherit MiniStack's environment variables, so an endpoint, certificate or setting of ours would reach them.
_PRIVATE_PREFIXES = ("AWS_", "METERING_", "LOCALSTACK_")
_PRIVATE_NAMES = {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"}


# Popen warns if it is garbage-collected while its process runs. Emulators live until `stop`, or longer than this one.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """Running MiniStack.

    Attributes:
        began: Start mark of the process (`process_began`).
        ca_bundle: Certificates that clients must trust; None over plain http.
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
        tls: Serve https with a certificate of its own, which `ca_bundle` holds.
        environ: Further settings of MiniStack.

    Raises:
        UnavailableError: It ended, or did not answer within a minute.
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
    """End an emulator and its functions, and return when they are gone."""
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
    # The request only asks whether the emulator is up. The certificate is read and trusted later.
    context = ssl._create_unverified_context() if url.startswith("https:") else None  # noqa: S323
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as reply:  # noqa: S310  # our own endpoint
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return False


def _write_ca_bundle(run_dir: Path) -> Path:
    """Write the certificate of MiniStack and the roots of the system to one file, which serves all clients."""
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
