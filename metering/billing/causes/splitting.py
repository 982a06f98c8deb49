"""Split of the public side of a NAT gateway by the causes of its private side.

Port mappings are in no log, so a line of the public side names no workload. In each hour, direction and destination,
its bytes are cut in the proportion of what the private side moved the other way, and never beyond that. What is left is
unattributed, because the sides differ: scans, answers over the edge of an hour, what the gateway dropped.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.causes.days import KEYS, summed, table_of
from metering.usage.usage_types import is_processing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SPLIT = "split"
PUBLIC_SIDE, SIDES_DIFFER = "public_side", "sides_differ"
_PATH = "nat_gateway"
_OTHER_WAY = {"in": "out", "out": "in"}


class _Side(NamedTuple):
    """Bytes that the two sides of a gateway have in common."""

    resource_id: str
    hour: int
    own_hour: int
    destination: str
    direction: str


class Weight(NamedTuple):
    """Cause of bytes at the private side; empty with a reason if it is unattributed."""

    cause: str
    reason: str


def split(table: pa.Table) -> pa.Table:
    """Split rows of the public side in sorted rows of whole resources; rows that were split before are split anew.

    The sum of each resource, hour and usage type stays.
    """
    public = _is_public(table)
    if not pc.any(public).as_py():
        return table
    others = table.filter(pc.invert(public))
    weights: dict[_Side, dict[Weight, int]] = defaultdict(lambda: defaultdict(int))
    at = pc.and_(pc.equal(others.column("path").cast(pa.string()), _PATH), _are_processing(others))
    for row in _rows(others.filter(at)):
        side = _Side(row["resource_id"], row["hour"], row["own_hour"], row["destination"],
                     _OTHER_WAY.get(row["direction"], ""))  # fmt: skip
        weights[side][Weight(row["cause"], row["reason"])] += row["bytes"]
    whole = _whole(table.filter(public))
    left = {side: sum(found.values()) for side, found in weights.items()}
    parts = chain.from_iterable(_parts(row, weights, left) for row in _rows(whole))
    return summed([others, table_of(list(parts))])


def _is_public(table: pa.Table) -> pa.ChunkedArray:
    reason, basis = table.column("reason").cast(pa.string()), table.column("basis").cast(pa.string())
    return pc.or_(pc.is_in(reason, pa.array([PUBLIC_SIDE, SIDES_DIFFER])), pc.equal(basis, SPLIT))


def _are_processing(table: pa.Table) -> pa.Array:
    kinds = [each for each in pc.unique(table.column("usage_type")).to_pylist() if is_processing(each)]
    return pc.is_in(table.column("usage_type").cast(pa.string()), pa.array(kinds, pa.string()))


def _whole(public: pa.Table) -> pa.Table:
    """Rows of the public side as they were before a split."""
    texts = {"cause": "", "basis": "", "reason": PUBLIC_SIDE}
    for name, text in texts.items():
        column = pa.array([text] * public.num_rows, pa.string())
        public = public.set_column(public.schema.get_field_index(name), name, column)
    return summed([public])


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=16 * 1024):
        yield from batch.to_pylist()


def _parts(
    row: dict[str, Any], weights: Mapping[_Side, Mapping[Weight, int]], left: dict[_Side, int]
) -> Iterator[tuple[str | int, ...]]:
    """Rows that a row of the public side becomes. Several usage types share what the private side moved."""
    side = _Side(row["resource_id"], row["hour"], row["own_hour"], row["destination"], row["direction"])
    whole = row["bytes"]
    common = min(whole, left.get(side, 0))
    if whole > common or not whole:
        yield _row(row, {"reason": SIDES_DIFFER}, whole - common)
    if common:
        left[side] -= common
        for weight, size in in_proportion(common, weights[side]):
            yield _row(row, {"cause": weight.cause, "basis": SPLIT, "reason": weight.reason}, size)


def _row(row: Mapping[str, Any], texts: Mapping[str, str], size: int) -> tuple[str | int, ...]:
    return (*({**row, **texts}[name] for name in KEYS), size)


def in_proportion(total: int, weights: Mapping[Weight, int]) -> list[tuple[Weight, int]]:
    """Cut a total in the proportion of weights: the largest remainders get one more, and of equals the first by id."""
    pairs = sorted(weights.items())
    of = sum(size for _, size in pairs)
    floors = [(weight, *divmod(total * size, of)) for weight, size in pairs]
    over = total - sum(floor for _, floor, _ in floors)
    first = sorted(range(len(floors)), key=lambda place: (-floors[place][2], place))[:over]
    more = set(first)
    return [
        (weight, floor + (place in more)) for place, (weight, floor, _) in enumerate(floors) if floor or place in more
    ]
