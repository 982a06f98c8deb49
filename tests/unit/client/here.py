"""An in-memory stage for `metering.connect`: over its stores, and over its HTTP API behind a real socket."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

from metering.client.connection import Connection
from metering.client.stores import Place, StoreAnswers
from tests.api.world import ApiWorld, WorldRegion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.wiring.connection import RegionConnection
    from tests.support.lake_world import World


@dataclass(frozen=True)
class Readable(WorldRegion):
    """The part of a connection that answers use. Queues are not read where the watch has measured."""

    ingest: None = None
    dead_letters: None = None
    queue_facts: None = None


@dataclass(frozen=True)
class Here:
    """A place whose regions are in memory."""

    worlds: Mapping[str, World]
    everywhere: bool = False
    without: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def regions(self) -> list[RegionConnection]:
        return [cast("RegionConnection", Readable(world, region=name)) for name, world in self.worlds.items()]

    @property
    def only(self) -> str | None:
        return None if self.everywhere else next(iter(self.worlds))

    def billing(self) -> tuple[RegionConnection, list[RegionConnection]]:
        return self.regions()[-1], self.regions()

    def left_out(self) -> Mapping[str, Sequence[str]]:
        return self.without


def over_stores(world: World) -> Connection:
    return Connection(StoreAnswers(cast("Place", Here({"us-east-1": world})), clock=world.clock))


@contextmanager
def served(api: ApiWorld, **fixed: Any) -> Iterator[str]:
    """URL of the in-memory API. `fixed` answers every request the same: `status`, `headers`, `body`."""

    class Handler(BaseHTTPRequestHandler):
        """Passes each request to the application."""

        def do_GET(self) -> None:
            if fixed:
                status, headers, body = fixed["status"], fixed.get("headers", {}), fixed.get("body", b"")
            else:
                answer = api.send("GET", self.path, dict(self.headers.items()))
                status, headers, body = answer.status_code, dict(answer.headers), answer.content
            self.send_response(status)
            for name, text in headers.items():
                if name.lower() not in {"content-length", "date", "server"}:
                    self.send_header(name, text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
