"""CloudFront in front of a network: standard logs of two distributions, and AWS's charges for each request.

One log has all fields that tell the destination of an upload. The other omits the method, as a log of version 2 may, so
nobody can tell which uploads went on to the origin.
"""

from __future__ import annotations

import gzip
import hashlib
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from metering.units import HOUR_S
from tests.support.networks.billing import Movement
from tests.support.networks.files import Line, LogFile, Tally
from tests.support.networks.flow_logs import FlowLog
from tests.support.networks.inventory import OWNER, WEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KNOWS = "edge"
"""What the fields of these logs are called among the versions of flow logs."""

_SHORT = ("date", "time", "x-edge-location", "sc-bytes", "cs-bytes")
_WHOLE = (*_SHORT, "cs-method", "x-edge-result-type")
# Edge -> its billing area. The last edge is of an airport that is in no list.
_EDGES = {"LHR61-P2": "EU", "IAD89-C3": "US", "GRU3-C1": "SA", "NRT57-P3": "JP", "QQQ1-C1": ""}
_FREE, _TO_ORIGIN, _UNTOLD = "DataTransfer-In-Bytes", "DataTransfer-Out-OBytes", ""
# Method, result, and the usage as which AWS bills the request's bytes. A log does not tell who caused an error.
_REQUESTS = (
    ("GET", "Hit", _FREE),
    ("GET", "Miss", _FREE),
    ("HEAD", "Error", _FREE),
    ("POST", "Miss", _TO_ORIGIN),
    ("PUT", "Miss", _TO_ORIGIN),
    ("POST", "Redirect", _FREE),
    ("PUT", "Error", _UNTOLD),
)
_MOST_BYTES = 400_000


class Move(NamedTuple):
    movement: Movement
    bytes: int


class Request(NamedTuple):
    time_s: int
    text: str
    moves: tuple[Move, ...]


def distribution_logs(seed: int) -> tuple[FlowLog, ...]:
    return tuple(
        FlowLog(
            id=_distribution(seed, fields),
            account_id=OWNER,
            region=WEST,
            resource_id=_distribution(seed, fields),
            created_s=0,
            fields=fields,
            knows=KNOWS,
            bucket="acme-edge-logs",
        )
        for fields in (_WHOLE, _SHORT)
    )


def _distribution(seed: int, fields: tuple[str, ...]) -> str:
    return f"E{hashlib.sha256(f'{seed}/{fields}'.encode()).hexdigest()[:13].upper()}"


def requests(log: FlowLog, seed: int, number: int, first_s: int, last_s: int) -> Iterator[Request]:
    """This many requests between two times, in epoch seconds; the same ones every time."""
    rng = random.Random(f"{seed}/{log.id}")
    for _ in range(number):
        edge = rng.choice(tuple(_EDGES))
        method, result, inward = rng.choice(_REQUESTS)
        sent, received = rng.randrange(1, _MOST_BYTES), rng.randrange(1, _MOST_BYTES)
        time_s = rng.randrange(first_s, last_s)
        told = inward if log.fields == _WHOLE else _UNTOLD
        moves = Move(_movement(log, edge, "DataTransfer-Out-Bytes"), sent), Move(_movement(log, edge, told), received)
        moment = datetime.fromtimestamp(time_s, UTC)
        values = [f"{moment:%Y-%m-%d}", f"{moment:%H:%M:%S}", edge, str(sent), str(received), method, result]
        yield Request(time_s, "\t".join(values[: len(log.fields)]), moves)


def alone(request: Request, move: Move) -> Request:
    """The same request, as if it had moved bytes only this way."""
    values = request.text.split("\t")
    values[4 if move is request.moves[0] else 3] = "-"
    return Request(request.time_s, "\t".join(values), (move,))


def _movement(log: FlowLog, edge: str, traffic: str) -> Movement:
    area = _EDGES[edge]
    inward = traffic in (_FREE, _UNTOLD)
    usage_type = f"{area}-{traffic}" if area and traffic else ""
    return Movement(
        account_id=OWNER,
        service="AmazonCloudFront",
        resource_id=log.id,
        interface_id=log.id,
        direction="in" if inward else "out",
        near="cloudfront",
        far="unknown" if traffic == _TO_ORIGIN else "internet",
        usage_type=usage_type,
        leg=f"edge: {traffic or 'what nobody can say'} at {area or 'an unknown area'}",
        hidden=() if usage_type else ("*",),
    )


def edge_file(log: FlowLog, hour_s: int, found: Sequence[Request], movement: Movement | None) -> LogFile:
    """The file of an hour; `movement` if all of its bytes are of one kind."""
    tally = Tally()
    tally.add("header", lines=2)
    lines = [Line("metered", sum(move.bytes for move in each.moves), each.text) for each in found]
    for outcome, size_bytes, _ in lines:
        tally.add(outcome, size_bytes)
    text = "\n".join(["#Version: 1.0", f"#Fields: {' '.join(log.fields)}", *(line.text for line in lines), ""])
    unique = hashlib.sha256(f"{log.id}/{hour_s}/{movement}".encode()).hexdigest()[:8]
    hour = datetime.fromtimestamp(hour_s - hour_s % HOUR_S, UTC)
    key = f"AWSLogs/{log.account_id}/CloudFront/{log.id}.{hour:%Y-%m-%d-%H}.{unique}.gz"
    body = gzip.compress(text.encode(), 6, mtime=0)
    return LogFile(log=log, bucket=log.bucket, key=key, body=body, tally=tally, movement=movement)
