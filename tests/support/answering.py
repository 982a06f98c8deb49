"""A local HTTP server with fixed answers, and a state file that names this process as the emulator."""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from metering.adapters.emulator.state import LocalState, process_began, save_state
from metering.fleet.stage import StageConfig
from metering.settings import GivenSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic import JsonValue

HEALTH = b'{"services": {"s3": "running"}}'
# The answer of an emulator to a request for its name.
MINISTACK = {"/_ministack/health": HEALTH, "/_localstack/health": HEALTH}


def remember_emulator(endpoint: str = "http://127.0.0.1:9", *, stage: str = "local", began: str = "") -> LocalState:
    """Record this process as the emulator of `metering local`; a wrong start time simulates an ended emulator."""
    began = began or process_began(os.getpid()) or ""
    state = LocalState(endpoint=endpoint, region="us-east-1", stage=stage, pid=os.getpid(), began=began, deployed=True)
    save_state(state)
    return state


@contextmanager
def answered_by(answer: Callable[[BaseHTTPRequestHandler], tuple[int, Mapping[str, str], bytes]]) -> Iterator[str]:
    """URL of a server; `answer` returns status, headers and body of each response."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer(self)
            self.send_response(status)
            for name, text in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - as the base class names it

        def log_message(self, *_: object) -> None:
            """Log nothing, to keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(answers: Mapping[str, bytes]) -> Iterator[str]:
    """URL of a server that returns `answers` by path, and status 404 for all other paths."""
    with answered_by(
        lambda asked: (200 if asked.path in answers else 404, {}, answers.get(asked.path, b"none"))
    ) as url:
        yield url


_NAMES = (
    "IngestQueueUrl",
    "DeadLetterQueueUrl",
    "DataBucketName",
    "LedgerTableName",
    "UsageTableName",
    "PageTopicArn",
    "TicketTopicArn",
)


@dataclass(kw_only=True)
class DeployedStage:
    """The deployed stacks of a stage, as an endpoint returns them."""

    stage: str = "prod"
    endpoint: str = ""
    denied: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    outputs: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    documents: dict[tuple[str, str], str] = field(default_factory=dict)

    def deploy(self, region: str, given: Mapping[str, JsonValue] | None = None, *, parts: tuple[str, ...] = ()) -> None:
        """Deploy the stage's data stack and the stacks `parts`, with the values `given` by a settings file."""
        values = dict(given or {})
        config = StageConfig.load(self.stage, values, like="prod")
        published = config.published(GivenSettings(like="prod", by_file=values))
        names = {name: f"{name.lower()}-{region}" for name in _NAMES}
        sha256 = {"SettingsSha256": published.sha256}
        self.documents[region, f"settings-{region}"] = published.to_json()
        self.outputs[region, f"metering-{self.stage}-data"] = {
            **names, **sha256, "UsageGeneration": "1", "SettingsParameterName": f"settings-{region}"
        }  # fmt: skip
        for part in parts:
            functions = {"FunctionSettingsSha256": published.functions_sha256, **sha256}
            self.outputs[region, f"metering-{self.stage}-{part}"] = functions

    def answer(self, region: str, operation: str, asked: Mapping[str, str]) -> tuple[int, str]:
        self.asked.append((region, operation))
        if region in self.denied:
            return 400, _refused(operation, "AccessDenied", "not authorized")
        if operation == "DescribeStacks":
            outputs = self.outputs.get((region, asked["StackName"]))
            if outputs is None:
                return 400, _refused(operation, "ValidationError", f"Stack {asked['StackName']} does not exist")
            return 200, _stack(asked["StackName"], outputs)
        if operation == "GetTemplate":
            return 200, _answered(operation, "<TemplateBody>{}</TemplateBody>")
        if operation == "ListStackResources":
            return 200, _answered(operation, _resources(self.outputs[region, asked["StackName"]]))
        if operation == "GetParameter":
            return 200, json.dumps(
                {"Parameter": {"Name": asked["Name"], "Value": self.documents[region, asked["Name"]]}}
            )
        if operation in {"GetItem", "Query", "BatchGetItem"}:
            return 200, json.dumps({"Items": [], "Count": 0} if operation == "Query" else {})
        return 400, _refused(operation, "NotImplemented", operation)


def _stack(name: str, outputs: Mapping[str, str]) -> str:
    members = "".join(
        f"<member><OutputKey>{key}</OutputKey><OutputValue>{value}</OutputValue></member>"
        for key, value in outputs.items()
    )
    return (
        f"<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>{name}</StackName>"
        "<CreationTime>2026-11-01T00:00:00Z</CreationTime><StackStatus>CREATE_COMPLETE</StackStatus>"
        f"<Outputs>{members}</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
    )


def _answered(operation: str, result: str) -> str:
    return f"<{operation}Response><{operation}Result>{result}</{operation}Result></{operation}Response>"


def _resources(outputs: Mapping[str, str]) -> str:
    """The tables of a data stack."""
    members = "".join(
        f"<member><LogicalResourceId>{name}</LogicalResourceId><PhysicalResourceId>{value}</PhysicalResourceId>"
        "<ResourceType>AWS::DynamoDB::Table</ResourceType></member>"
        for name, value in outputs.items()
        if name.endswith("TableName")
    )
    return f"<StackResourceSummaries>{members}</StackResourceSummaries>"


def _refused(operation: str, code: str, message: str) -> str:
    if operation == "DescribeStacks":
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        return f"<ErrorResponse>{error}</ErrorResponse>"
    return json.dumps({"__type": code, "message": message})


@contextmanager
def deployed_stage(stage: str = "prod") -> Iterator[DeployedStage]:
    """Serve a stage's regions on this machine; at first, nothing is deployed."""
    world = DeployedStage(stage=stage)

    def answer(handler: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if handler.command == "GET":
            return 200 if handler.path in MINISTACK else 404, {}, MINISTACK.get(handler.path, b"")
        body = handler.rfile.read(int(handler.headers["Content-Length"])).decode()
        region = handler.headers["Authorization"].split("/")[2]
        target = handler.headers.get("X-Amz-Target")
        if target is not None:
            operation, asked = target.rpartition(".")[2], json.loads(body)
        else:
            asked = {name: values[0] for name, values in parse_qs(body).items()}
            operation = asked["Action"]
        status, text = world.answer(region, operation, asked)
        return status, {}, text.encode()

    with answered_by(answer) as world.endpoint:
        yield world
