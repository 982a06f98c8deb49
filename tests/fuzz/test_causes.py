"""Damaged causes: parts, days and names are read, or refused as damaged. Nothing else is raised."""

from __future__ import annotations

import hashlib
import io
import os
import random
from functools import cache
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from metering.billing.causes.days import COLUMNS, CauseDays, read_piece
from metering.billing.causes.index import CauseIndex, Piece
from metering.billing.causes.keeper import part_of
from metering.billing.causes.names import CauseNames
from metering.errors import ObjectDamagedError
from metering.stores.objects import CAUSE_PARTS_PREFIX, cause_day_key, cause_names_key
from metering.units import DAY_S
from tests.fuzz.seeds import mutated
from tests.support.cause_world import CauseWorld, network_of
from tests.support.lake_world import HOUR
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "600")) // 3
DAY = HOUR - HOUR % DAY_S


@cache
def examples() -> dict[str, bytes]:
    """A part, a piece of a day, and the names of a day."""
    network = network_of(lines=150, variety=3, instances=2)
    world = CauseWorld(network)
    world.meter(network.files())
    world.keep_causes()
    [piece], name = world.cause_index.days[DAY], world.cause_index.names[DAY]
    part = max(world.objects.list(CAUSE_PARTS_PREFIX), key=lambda info: info.size_bytes)
    return {key: world.objects.get(key if key != "part" else part.key) for key in ("part",)} | {
        "piece": world.objects.get(piece.key), "names": world.objects.get(name), "rows": str(piece.rows).encode(),
    }  # fmt: skip


def _read_part(body: bytes) -> None:
    for (batch, hour), part in part_of(body, "part").items():
        assert isinstance(batch, str)
        assert isinstance(hour, int)
        assert part.bytes == sum(part.rows["bytes"].to_pylist()) >= 0


def _read_piece(body: bytes) -> None:
    objects = MemoryObjectStore(ManualClock(0))
    key = cause_day_key(DAY, hashlib.sha256(body).hexdigest())
    objects.put(key, body, if_absent=True)
    piece = Piece(key, "", "~", int(examples()["rows"]))
    assert read_piece(objects, piece).num_rows == piece.rows
    days = CauseDays(objects, CauseIndex(number=1, days={DAY: (piece,)}))
    for table in days.tables(DAY, COLUMNS, where={"resource_id": frozenset({"eni-a"})}):
        table.validate(full=True)


def _read_names(body: bytes) -> None:
    objects = MemoryObjectStore(ManualClock(0))
    key = cause_names_key(DAY, hashlib.sha256(body).hexdigest())
    objects.put(key, body, if_absent=True)
    names = CauseNames.read(objects, DAY, key)
    for cause in names.stretches:
        names.at(cause, HOUR)
        names.cuts(cause)


@pytest.mark.parametrize(("form", "read"), [("part", _read_part), ("piece", _read_piece), ("names", _read_names)])
@pytest.mark.parametrize("seed", range(2))
def test_damaged_causes_are_refused_as_such(form: str, read: Callable[[bytes], None], seed: int) -> None:
    draw, refused = random.Random(seed), 0
    read(examples()[form])
    for _ in range(_ROUNDS):
        try:
            read(mutated(examples()[form], draw))
        except ObjectDamagedError:
            refused += 1
    assert refused > _ROUNDS // 3


def test_one_changed_byte_of_a_day_or_of_names_is_damage() -> None:
    world = CauseWorld(network_of(lines=60, variety=2, instances=2))
    world.meter(world.network.files())
    world.keep_causes()
    [piece], name = world.cause_index.days[DAY], world.cause_index.names[DAY]
    for key in (piece.key, name):
        body = bytearray(world.objects.get(key))
        body[len(body) // 2] ^= 1
        world.objects.put(key, bytes(body), if_absent=False)
    with pytest.raises(ObjectDamagedError, match="other bytes than its name"):
        read_piece(world.objects, piece)
    with pytest.raises(ObjectDamagedError, match="other bytes than its name"):
        CauseNames.read(world.objects, DAY, name)


def test_the_examples_have_rows() -> None:
    assert pq.read_table(io.BytesIO(examples()["piece"])).num_rows == int(examples()["rows"]) > 10
