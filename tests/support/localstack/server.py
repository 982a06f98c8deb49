"""LocalStack without Docker; the process is started, and stopped by its pid.

    python -m tests.support.localstack.server up PORT      prints its endpoint, or why this machine cannot have it
    python -m tests.support.localstack.server down PORT

If LocalStack is missing, the exit code is 1 under `CI`. Otherwise the exit code is 3, and the reason is printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from metering.adapters.emulator.ministack import is_emulator
from metering.adapters.emulator.state import end_tree
from metering.errors import UnavailableError
from tests import ROOT
from tests.tools import Tool, install

_LOCK = tuple(Path(__file__).parent / "lock" / name for name in ("build.txt", "tools.txt"))
LOCALSTACK = Tool(
    name="localstack", python="3.13", lock=_LOCK, requirements=_LOCK, sources=("airspeed-ext", "crontab", "jsonpath-rw")
)
RUNS = ROOT / ".local" / "localstack"
MISSING = 3
_READY_S = 180
_GRACE_S = 15
# plux, with which LocalStack finds its plugins, reads them from installed distributions; this one needs no build.
_DISTRIBUTION = "metering_localstack-1.dist-info"
_ENTRY_POINTS = """[localstack.aws.provider]
dynamodb:moto = tests.support.localstack.dynamodb:dynamodb_moto

[localstack.lambda.runtime_executor]
process = tests.support.localstack.executor:ProcessExecutorPlugin
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    endpoint: str
    pid: int


def why_not() -> str:
    """Install LocalStack; return why it cannot be installed, or an empty text."""
    return "" if install(LOCALSTACK) else f"this machine has no Python {LOCALSTACK.python}"


def start(port: int) -> Running:
    """Start LocalStack on 127.0.0.1, and wait for a response. It must be installed."""
    run = RUNS / str(port)
    (run / "tmp").mkdir(parents=True, exist_ok=True)
    _write_distribution(run / "plugins")
    endpoint = f"http://127.0.0.1:{port}"
    with (run / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(LOCALSTACK.folder() / "bin" / "python"), "-m", "localstack.runtime.main"],
            env=_environment(port, run),
            cwd=run,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (run / "pid").write_text(str(process.pid))
    try:
        _wait(process, endpoint, run / "log")
    except BaseException:
        end_tree(process.pid, grace_s=0)
        raise
    # The process continues to run, and `stop` ends it by its pid.
    process.returncode = 0
    return Running(endpoint=endpoint, pid=process.pid)


def stop(pid: int) -> None:
    """Stop LocalStack and its functions. LocalStack's data is lost, because it is only in memory."""
    end_tree(pid, grace_s=_GRACE_S)


@contextmanager
def running(port: int) -> Iterator[Running]:
    """A LocalStack that runs during the block."""
    found = start(port)
    try:
        yield found
    finally:
        stop(found.pid)


def _environment(port: int, run: Path) -> dict[str, str]:
    private = ("AWS_", "METERING_", "LOCALSTACK_", "PYTHON")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(private)},
        "PYTHONPATH": os.pathsep.join((str(run / "plugins"), str(ROOT))),
        "FUNCTIONS_PYTHON": sys.executable,
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_HOST": f"127.0.0.1:{port}",
        "SQS_ENDPOINT_STRATEGY": "path",
        "LAMBDA_RUNTIME_EXECUTOR": "process",
        "PROVIDER_OVERRIDE_DYNAMODB": "moto",
        # LocalStack's default is a second.
        "LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC": "0.05",
        # LocalStack downloads nothing and sends no telemetry.
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
        "FILESYSTEM_ROOT": str(run / "fs"),
        "TMPDIR": str(run / "tmp"),
    }


def _write_distribution(folder: Path) -> None:
    described = folder / _DISTRIBUTION
    described.mkdir(parents=True, exist_ok=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: metering-localstack\nVersion: 1\n")
    (described / "entry_points.txt").write_text(_ENTRY_POINTS)


def _wait(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    until_s = time.monotonic() + _READY_S
    while time.monotonic() < until_s:
        if process.poll() is not None:
            raise RuntimeError(f"LocalStack ended with {process.returncode}: {_last(log)}")
        try:
            if is_emulator(endpoint):
                return
        except UnavailableError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"no answer at {endpoint} in {_READY_S} s: {_last(log)}")


def _last(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-8:])


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in {"up", "down"}:
        print("usage: python -m tests.support.localstack.server {up|down} PORT", file=sys.stderr)
        return 2
    what, port = arguments[0], int(arguments[1])
    if what == "down":
        stop(int((RUNS / str(port) / "pid").read_text()))
        return 0
    if why := why_not():
        print(f"no LocalStack: {why}", file=sys.stderr)
        return 1 if os.environ.get("CI") else MISSING
    print(start(port).endpoint)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
