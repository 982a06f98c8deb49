"""An in-memory stage for `metering.connect`: through its stores, and through its HTTP API on a real socket."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from metering.client.connection import Connection
from metering.client.stores import Place, StoreAnswers
from tests.api.world import ApiWorld, WorldRegion
from tests.support.answering import answered_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from http.server import BaseHTTPRequestHandler

    from metering.wiring.connection import RegionConnection
    from tests.support.lake_world import World


@dataclass(frozen=True)
class Readable(WorldRegion):
    """The attributes of a connection that answers use. After a measurement of the watch, queues are not read."""

    ingest: None = None
    dead_letters: None = None
    queue_facts: None = None


@dataclass(frozen=True)
class Here:
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
    """URL of the in-memory API. `fixed` is the response to every request: `status`, `headers`, `body`."""

    def answer(asked: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if fixed:
            return fixed["status"], fixed.get("headers", {}), fixed.get("body", b"")
        found = api.send("GET", asked.path, dict(asked.headers.items()))
        own = {"content-length", "date", "server"}
        headers = {name: text for name, text in found.headers.items() if name.lower() not in own}
        return found.status_code, headers, found.content

    with answered_by(answer) as url:
        yield url
