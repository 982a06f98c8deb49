"""Benchmark of `metering who`: a month of 10 million rows of causes, one gateway of it, and a day over HTTP.

The rows are kept in memory as the biller keeps them: each day has the causes of gateways and of instances, with names
and a book of 200 rules. A cause is active in half of the hours. For comparison, Arrow alone reads the two columns and
adds the bytes up. The sides alternate, so other load on the machine affects all figures; the load is printed.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from load_tests.stage import judged
from metering.billing.causes.days import COLUMNS, KEYS, SCHEMA, put_pieces
from metering.billing.causes.index import CauseIndex, CauseIndexes
from metering.billing.causes.names import CauseNames
from metering.billing.owners import Owners, OwnerStore, Rule
from metering.ledger.format_version import generations_of
from metering.reports.who import WhoParameters
from metering.units import DAY_S, HOUR_S
from metering.wiring.answers.usage import stored_completeness
from metering.wiring.answers.who import who_of
from tests.api.world import ApiWorld, WorldRegion
from tests.support.kept_causes import stretch
from tests.support.lake_world import HOUR, NOW_S, World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_DAYS, _ROWS_A_DAY = 30, 334_000
_ACCOUNTS, _CAUSES, _GATEWAYS, _DESTINATIONS, _RULES = 40, 3_000, 60, 60, 200
_TYPES = {"gateway": "USW2-NatGateway-Bytes", "instance": "USW2-DataTransfer-Regional-Bytes"}
_ACTIVE = 0.5
_MOST_MONTH_S, _MOST_GATEWAY_S, _MOST_DAY_S = 2.0, 0.5, 0.3
_END_S = HOUR - HOUR % DAY_S
_FROM_S = _END_S - _DAYS * DAY_S
_OK = 200


def keys_of(chance: random.Random, number: int) -> list[tuple[str, ...]]:
    """Keys of a day, in the order of the text columns: 40 % at gateways, the others of instances themselves."""
    found: set[tuple[str, ...]] = set()
    while len(found) < number:
        cause = chance.randrange(_CAUSES)
        # A workload is behind the gateways of its network, of which there are three.
        gateway = (3 * (cause % (_GATEWAYS // 3))) + chance.randrange(3)
        at_gateway = chance.random() < 0.4
        its_id, direction = f"i-{cause:017x}", chance.choice(("in", "out"))
        resource = f"nat-{gateway:017x}" if at_gateway else its_id
        account = f"{(gateway if at_gateway else cause) % _ACCOUNTS:012d}"
        usage_type = _TYPES["gateway" if at_gateway else "instance"]
        path = "nat_gateway" if at_gateway else "vpc"
        named = chance.random() < 0.97
        found.add((
            resource, usage_type, its_id if named else "", f"asg:group-{chance.randrange(_DESTINATIONS)}", path,
            direction, account, "AmazonEC2", "us-west-2/usw2-az1", "us-west-2", "seen" if named else "",
            "" if named else "ambiguous_address",
        ))  # fmt: skip
    return sorted(found)


def fill(world: World, rows: int) -> int:
    """Keep days of causes with names and owners, and usage that has more bytes; returns the number of rows."""
    chance = random.Random(30)
    keys = keys_of(chance, round(rows / _DAYS / 24 / _ACTIVE))
    places = [(place, hour) for place in range(len(keys)) for hour in range(24) if chance.random() < _ACTIVE]
    order = pa.array([place for place, _ in places], pa.int32())
    texts = [pa.array(values).dictionary_encode().take(order) for values in zip(*keys, strict=True)]
    hours = [hour * HOUR_S for _, hour in places]
    names = {
        f"i-{cause:017x}": (stretch(account=f"{cause % _ACCOUNTS:012d}", workload=f"asg:group-{cause % 400}",
                                    team=f"team-{cause % 250}"),)
        for cause in range(_CAUSES)
    }  # fmt: skip
    days, named = {}, {}
    for day_s in range(_FROM_S, _END_S, DAY_S):
        at = pa.array([day_s + hour for hour in hours], pa.int64())
        sizes = pa.array([chance.getrandbits(36) for _ in hours], pa.int64())
        columns = [each.dictionary_decode() for each in texts]
        table = pa.table([*columns, at, at, sizes], names=COLUMNS).cast(SCHEMA)
        days[day_s] = tuple(put_pieces(world.objects, day_s, table.sort_by([(name, "ascending") for name in KEYS])))
        named[day_s] = CauseNames(day_s, names).put(world.objects)
        world.send([
            {"account_id": "1" * 12, "service": "AmazonEC2", "resource_id": "all", "usage_type": name, "bytes": 2**62,
             "direction": "out", "from": "us-west-2", "to": "us-west-2/usw2-az1", "start": day_s, "end": day_s}
            for name in _TYPES.values()
        ])  # fmt: skip
    found = generations_of(world.items)
    index = CauseIndex(
        number=1, counted_s=_END_S, named_s=_END_S + HOUR_S, days=days, names=named, generation=found.usage,
        ledger_generation=found.ledger,
    )  # fmt: skip
    CauseIndexes(objects=world.objects).put(index)
    rules = (Rule(f"owner-{number}", (), (("team", f"team-{number}"),), 0, None) for number in range(_RULES))
    OwnerStore(world.objects).put(Owners(tuple(rules)))
    return len(places) * _DAYS


def arrow_alone(world: World) -> int:
    """Add up bytes by cause and destination, by Arrow alone."""
    index = CauseIndexes(objects=world.objects).newest()
    tables = [
        pq.ParquetFile(BytesIO(world.objects.get(piece.key)), read_dictionary=["cause", "destination"]).read(
            ["cause", "destination", "bytes"]
        )
        for pieces in index.days.values()
        for piece in pieces
    ]
    table = pa.concat_tables(tables).unify_dictionaries()
    return int(table.group_by(["cause", "destination"], use_threads=False).aggregate([("bytes", "sum")]).num_rows)


def ask(world: World, group_by: str | None = None, resource: str = "") -> int:
    """Number of rows of an answer."""
    query = WhoParameters(
        start=time.strftime("%Y-%m-%d", time.gmtime(_FROM_S)), end=time.strftime("%Y-%m-%d", time.gmtime(_END_S)),
        filters={"resource": [resource]}, group_by=group_by,
    ).who_query(now_s=NOW_S)  # fmt: skip
    region = WorldRegion(world)
    owners = OwnerStore(world.objects).newest()
    answer = who_of([region], query, owners=owners, now_s=NOW_S, complete=stored_completeness([region]))
    return len(answer.rows)


def measure(runs: int, rows: int) -> int:
    """Measure and print all figures, and return 1 if a target is missed."""
    world = World()
    began = time.perf_counter()
    kept = fill(world, rows)
    size = sum(len(world.objects.get(key)) for key in world.objects.keys("causes/days/"))
    print(f"{kept:,} rows of causes on {_DAYS} days, {size / kept:.1f} bytes a row, made in "
          f"{time.perf_counter() - began:.0f} s; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")  # fmt: skip
    api = ApiWorld(world)
    day = time.strftime("%Y-%m-%d", time.gmtime(_END_S - DAY_S))

    def over_http() -> int:
        answer = api.get(f"/v1/who?from={day}&group_by=owner,workload")
        if answer.status_code != _OK:
            raise AssertionError(answer.text)
        return len(answer.json()["rows"])

    gateway = f"nat-{7:017x}"
    sides: dict[str, tuple[Callable[[], int], float | None]] = {
        "Arrow alone, by cause and destination": (lambda: arrow_alone(world), None),
        "who, by cause and destination": (partial(ask, world, "cause,destination"), _MOST_MONTH_S),
        "who, by owner, workload and destination": (
            partial(ask, world, "owner,workload,destination"), _MOST_MONTH_S,
        ),
        "who, one gateway": (partial(ask, world, resource=gateway), _MOST_GATEWAY_S),
        "/v1/who of a day": (over_http, _MOST_DAY_S),
    }  # fmt: skip
    missed = judge_all({name: most for name, (_, most) in sides.items()}, in_turns(sides, runs))
    print(f"load {os.getloadavg()[0]:.1f}")
    return judged(missed)


def in_turns(sides: Mapping[str, tuple[Callable[[], int], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each side, alternately, after one run that warms up."""
    took_s: dict[str, list[float]] = {name: [] for name in sides}
    cpu_s = dict.fromkeys(sides, 0.0)
    for number in range(-1, runs):
        for name, (work, _) in sides.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            if not work():
                raise AssertionError(f"{name} has no rows")
            if number >= 0:
                took_s[name].append(time.perf_counter() - began)
                cpu_s[name] += (time.process_time() - cpu_began) / runs
    print("CPU: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in cpu_s.items()))
    return took_s


def judge_all(most_s: Mapping[str, float | None], took_s: Mapping[str, list[float]]) -> list[str]:
    """Print the figures of each side; returns those over their target at p95."""
    alone = statistics.median(next(iter(took_s.values())))
    missed = []
    for name, times in took_s.items():
        p95, median, most = statistics.quantiles(times, n=20)[-1], statistics.median(times), most_s[name]
        print(f"{name}: p50 {median:.2f} s, p95 {p95:.2f} s, {median / alone:.2f} times Arrow alone")
        if most is not None and p95 > most:
            missed.append(f"{name}: over {most} s at p95")
    return missed


def main(arguments: Sequence[str]) -> int:
    """Measure, and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench_who", description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="of each side")
    parser.add_argument("--rows", type=int, default=_DAYS * _ROWS_A_DAY, help="in all; targets are for the default")
    options = parser.parse_args(arguments)
    return measure(options.runs, options.rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
