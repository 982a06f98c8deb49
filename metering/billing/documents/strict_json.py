"""JSON documents that people hand in and that money is pinned to: read strictly, written in one way only."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, NoReturn

from metering.errors import OperationFailedError
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_BYTES = 16 * MIB
"""Largest document that is read. A book of all regions of AWS has less than 4 MB."""
_TOLD = 40


class DocumentRefusedError(OperationFailedError):
    """A document is refused.

    Attributes:
        problems: Every problem that was found, a sentence each.
    """

    def __init__(self, what: str, problems: Sequence[str], advice: str = "") -> None:
        told = [*problems[:_TOLD], *([f"and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else [])]
        super().__init__(f"{what} is refused: {'; '.join(told)}", advice)
        self.what = what
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[object, ...]:
        return (DocumentRefusedError, (self.what, self.problems, self.advice))


def canonical(document: Mapping[str, object]) -> bytes:
    """Bytes of a document: the same content gives the same bytes, whoever writes it."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def strict_json(body: bytes, what: str, *, most_bytes: int = MOST_BYTES) -> dict[str, object]:
    """Read an object of JSON.

    Args:
        body: Its bytes.
        what: What it is, for the error: the name of a file or a key.
        most_bytes: More is not read.

    Raises:
        DocumentRefusedError: It is no JSON, names a key twice, holds NaN or Infinity, is too large or no object.
    """
    if len(body) > most_bytes:
        raise DocumentRefusedError(what, [f"it has {len(body):,} bytes, and {most_bytes:,} are read at most"])
    twice: list[str] = []
    try:
        read = json.loads(
            body,
            object_pairs_hook=lambda pairs: _once(pairs, twice),
            parse_constant=_refuse_constant,
            parse_float=Decimal,
        )
    except (ValueError, ArithmeticError) as error:
        raise DocumentRefusedError(what, [f"it is no JSON ({error})"]) from error
    except RecursionError as error:
        raise DocumentRefusedError(what, ["it is nested too deeply"]) from error
    if twice:
        named = [f"the key {key!r} stands twice in one object" for key in dict.fromkeys(twice)]
        raise DocumentRefusedError(what, named)
    if not isinstance(read, dict):
        raise DocumentRefusedError(what, ["it is no object of JSON"])
    return read


def _once(pairs: list[tuple[str, object]], twice: list[str]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice.extend(key for key, count in counts.items() if count > 1)
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
