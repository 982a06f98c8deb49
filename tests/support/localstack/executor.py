"""LocalStack runs functions as local processes with the project's Python: `LAMBDA_RUNTIME_EXECUTOR=process`.

This module runs inside LocalStack, in LocalStack's own environment. `FUNCTIONS_PYTHON` is the functions' interpreter.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from localstack import config
from localstack.services.lambda_.invocation.executor_endpoint import ExecutorEndpoint, StatusErrorException
from localstack.services.lambda_.invocation.lambda_models import InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import LambdaRuntimeException, RuntimeExecutor

_RUNTIME = Path(__file__).with_name("runtime.py")
_HOST = "127.0.0.1"
_GRACE_S = 5


class ProcessExecutorPlugin(RuntimeExecutorPlugin):  # type: ignore[misc]  # LocalStack is in an environment of its own
    """Entry point by which LocalStack finds the executor."""

    name = "process"

    def load(self, *_: object, **__: object) -> type[ProcessExecutor]:
        return ProcessExecutor


class ProcessExecutor(RuntimeExecutor):  # type: ignore[misc]  # as above
    """One execution environment: a process that handles one invocation at a time. Mutable.

    A timeout kills the process, and the next invocation restarts it.
    """

    def __init__(self, id: str, function_version: Any) -> None:
        super().__init__(id, function_version)
        self.executor_endpoint = ExecutorEndpoint(id, _HOST)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = self._timed_out = False
        self._env: dict[str, str] = {}
        self._log = Path(tempfile.gettempdir(), "lambda-logs", f"{id}.log")
        self._log_from = 0
        self._request_id = ""

    def start(self, env_vars: dict[str, str]) -> None:
        language = self.function_version.config.runtime or ""
        if not language.startswith("python"):
            raise LambdaRuntimeException(f"process executor runs Python only, not '{language}'")
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._env = {
            **kept,
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            **{name: str(value) for name, value in env_vars.items()},
            "LAMBDA_TASK_ROOT": str(self.function_version.config.code.get_unzipped_code_location()),
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{language}",
        }
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self.executor_endpoint.start()
        self._spawn("ready")
        self.executor_endpoint.wait_for_startup()

    def _spawn(self, announce: str) -> None:
        """Start the process. Only the process keeps the listening socket; the process ends when LocalStack ends."""
        python = os.environ.get("FUNCTIONS_PYTHON") or sys.executable
        alive_read, alive_write = os.pipe()
        with socket.create_server((_HOST, 0)) as server, self._log.open("ab") as log:
            self.executor_endpoint.container_port = server.getsockname()[1]
            self._process = subprocess.Popen(
                [python, str(_RUNTIME), str(server.fileno()), str(alive_read), announce],
                cwd=self._env["LAMBDA_TASK_ROOT"],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(server.fileno(), alive_read),
            )
        os.close(alive_read)
        threading.Thread(target=self._watch, args=(self._process, alive_write), daemon=True).start()

    def _watch(self, process: subprocess.Popen[bytes], alive: int) -> None:
        """If the process exits unexpectedly, fail the pending invocations."""
        status = process.wait()
        os.close(alive)
        if self._stopping:
            return
        endpoint, what = self.executor_endpoint, f"Runtime exited with error: exit status {status}"
        failure = {"errorType": "Runtime.ExitError", "errorMessage": f"Error: {what}"}
        if not endpoint.startup_future.done():
            endpoint.startup_future.set_exception(StatusErrorException(what, payload=json.dumps(failure).encode()))
        elif endpoint.invocation_future and not endpoint.invocation_future.done():
            endpoint.invocation_future.set_result(self._failed(what, failure))

    def _failed(self, what: str, failure: dict[str, str]) -> Any:
        if self._timed_out:
            what = f"Task timed out after {self.function_version.config.timeout}.00 seconds"
            failure["errorType"] = "Sandbox.Timedout"
        failure["errorMessage"] = f"RequestId: {self._request_id} Error: {what}"
        with self._log.open("rb") as log:
            log.seek(self._log_from)
            logged = log.read().decode(errors="replace")
        body = json.dumps(failure).encode()
        return InvocationResult(self._request_id, body, True, f"{logged}\n{failure['errorMessage']}\n")

    def invoke(self, payload: dict[str, str]) -> Any:
        self._request_id, self._timed_out = payload["invoke-id"], False
        self._log_from = self._log.stat().st_size
        if self._process is None or self._process.poll() is not None:
            # The previous process crashed or timed out.
            self._spawn("again")
        timer = threading.Timer(self.function_version.config.timeout, self._time_out)
        timer.start()
        try:
            return self.executor_endpoint.invoke(payload)
        finally:
            timer.cancel()

    def _time_out(self) -> None:
        self._timed_out = True
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        self._stopping = True
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        # LocalStack may be shutting down, with its endpoint closed.
        with suppress(Exception):
            self.executor_endpoint.shutdown()

    def get_logs(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def get_address(self) -> str:
        return _HOST

    def get_endpoint_from_executor(self) -> str:
        return _HOST

    def get_runtime_endpoint(self) -> str:
        port = config.GATEWAY_LISTEN[0].port
        return f"http://{_HOST}:{port}{self.executor_endpoint.get_endpoint_prefix()}"

    @classmethod
    def prepare_version(cls, function_version: Any) -> None:
        if function_version.config.code:
            function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, _function_version: Any) -> None:
        """Do nothing, because no state exists per function version."""
