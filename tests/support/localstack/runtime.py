"""The process of a function, started by `executor`: uses the project's Python, and only the standard library.

    python runtime.py LISTEN_FD ALIVE_FD ready|again

Protocol of LocalStack's executor endpoint: the process posts `status/ID/ready` (or `error`), gets `/invoke` on
LISTEN_FD, and posts `invocations/ID/logs`, then `response` or `error`. The process ends when ALIVE_FD is closed.
"""

from __future__ import annotations

import http.client
import http.server
import importlib
import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

ENV = os.environ
# Lambda's response limit is 6 MiB and 100 bytes, unless LocalStack sets another limit.
_MOST_BYTES = int(ENV.get("LOCALSTACK_MAX_PAYLOAD_SIZE") or 6 * 1024 * 1024 + 100)


class Context:
    """Lambda's context object for a handler."""

    def __init__(self, request_id: str, arn: str) -> None:
        self.aws_request_id = request_id
        self.function_name = ENV["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = ENV["AWS_LAMBDA_FUNCTION_VERSION"]
        self.invoked_function_arn = arn
        self.memory_limit_in_mb = ENV["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = ENV["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = ENV["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.identity = SimpleNamespace(cognito_identity_id=None, cognito_identity_pool_id=None)
        self.client_context = self.tenant_id = None
        self._until_s = time.monotonic() + float(ENV["AWS_LAMBDA_FUNCTION_TIMEOUT"])

    def get_remaining_time_in_millis(self) -> int:
        return max(int((self._until_s - time.monotonic()) * 1000), 0)


class Runtime:
    """One execution environment: a handler, and the invocation in progress. Mutable."""

    def __init__(self) -> None:
        self._upstream = urlsplit(ENV["LOCALSTACK_RUNTIME_ENDPOINT"])
        self._handler: Callable[[Any, Context], Any] = lambda _event, _context: None
        self.request_id = ""

    def load(self) -> bool:
        """Import the handler; a failure is reported to LocalStack."""
        try:
            module, _, name = ENV["_HANDLER"].rpartition(".")
            self._handler = getattr(importlib.import_module(module.replace("/", ".")), name)
        except Exception as error:  # noqa: BLE001 - Lambda tells whatever a module raises
            self.tell("error", self._failure(error))
            return False
        return True

    def tell(self, status: str, body: bytes = b"{}") -> None:
        """Report that the execution environment is ready or has failed."""
        self._post(f"/status/{ENV['LOCALSTACK_RUNTIME_ID']}/{status}", body)

    def invoke(self, invocation: dict[str, str]) -> None:
        """Run the handler once, and post its log and its result."""
        self.request_id = invocation["invoke-id"]
        ENV["_X_AMZN_TRACE_ID"] = invocation.get("trace-id") or ""
        began_at, began_s = os.fstat(1).st_size, time.monotonic()
        print(f"START RequestId: {self.request_id} Version: {ENV['AWS_LAMBDA_FUNCTION_VERSION']}")
        kind, body = self._called(invocation)
        self._report(time.monotonic() - began_s)
        with Path("/proc/self/fd/1").open("rb") as log:
            log.seek(began_at)
            text = log.read().decode(errors="replace")
        self._post(f"/invocations/{self.request_id}/logs", json.dumps({"logs": text}).encode())
        self._post(f"/invocations/{self.request_id}/{kind}", body)

    def _called(self, invocation: dict[str, str]) -> tuple[str, bytes]:
        try:
            event = json.loads(invocation["payload"] or "{}")
            answer = self._handler(event, Context(self.request_id, invocation["invoked-function-arn"]))
            return "response", _bounded(json.dumps(answer, ensure_ascii=False).encode())
        except Exception as error:  # noqa: BLE001 - Lambda tells whatever a handler raises
            return "error", self._failure(error)

    def _report(self, used_s: float) -> None:
        with Path("/proc/self/status").open() as status:
            peak_mb = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024
        print(f"END RequestId: {self.request_id}")
        print(
            f"REPORT RequestId: {self.request_id}\tDuration: {used_s * 1000:.2f} ms\tBilled Duration: "
            f"{int(used_s * 1000) + 1} ms\tMemory Size: {ENV['AWS_LAMBDA_FUNCTION_MEMORY_SIZE']} MB\t"
            f"Max Memory Used: {peak_mb} MB\t",
            flush=True,
        )

    def _failure(self, error: Exception) -> bytes:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        print("[ERROR] " + "".join(traceback.format_exception(error)), flush=True)
        return json.dumps(
            {
                "errorMessage": str(error),
                "errorType": type(error).__name__,
                "requestId": self.request_id,
                "stackTrace": traceback.format_list(frames),
            }
        ).encode()

    def _post(self, path: str, body: bytes) -> None:
        connection = http.client.HTTPConnection(self._upstream.hostname or "", self._upstream.port)
        connection.request("POST", self._upstream.path + path, body, {"Content-Type": "application/json"})
        connection.getresponse().read()
        connection.close()


def _bounded(body: bytes) -> bytes:
    if len(body) > _MOST_BYTES:
        raise RuntimeError(f"Response payload size ({len(body)} bytes) exceeded maximum")
    return body


class LogFormatter(logging.Formatter):
    """Formats log lines as Lambda's runtime does, as text or JSON."""

    converter = time.gmtime  # type: ignore[assignment]  # as the logging cookbook does it

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self._runtime = runtime
        self._as_json = ENV.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"

    def format(self, record: logging.LogRecord) -> str:
        message, request_id = record.getMessage(), self._runtime.request_id
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        error = self.formatException(record.exc_info) if record.exc_info else ""
        if not self._as_json:
            tail = f"\n{error}" if error else ""
            return f"[{record.levelname}]\t{stamp}.{int(record.msecs):03d}Z\t{request_id}\t{message}{tail}"
        entry = {"timestamp": stamp + "Z", "level": record.levelname, "message": message, "logger": record.name}
        more = {"stackTrace": error.splitlines()} if error else {}
        return json.dumps({**entry, "requestId": request_id, **more})


def _served(runtime: Runtime, listen_fd: int) -> http.server.HTTPServer:
    class Invocations(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()
            runtime.invoke(body)

        def log_message(self, *_: object) -> None:
            """Log no requests, to keep the function's log clean."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Invocations, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=listen_fd)
    return server


def _end_with(alive_fd: int) -> None:
    os.read(alive_fd, 1)
    os._exit(0)


def main(listen_fd: int, alive_fd: int, announce: str) -> int:
    threading.Thread(target=_end_with, args=(alive_fd,), daemon=True).start()
    sys.path[0] = ENV["LAMBDA_TASK_ROOT"]
    runtime = Runtime()
    out = logging.StreamHandler(sys.stdout)
    out.setFormatter(LogFormatter(runtime))
    logging.getLogger().addHandler(out)
    if not runtime.load():
        return 1
    server = _served(runtime, listen_fd)
    if announce == "ready":
        runtime.tell("ready")
    server.serve_forever()
    return 0


if __name__ == "__main__":
    listens, alive, announced = sys.argv[1:]
    # As in Lambda, the function gets no command-line arguments.
    sys.argv = sys.argv[:1]
    sys.exit(main(int(listens), int(alive), announced))
