"""Items that `metering doctor` tries the ledger with: `W#doctor`, gone when it ends, or by their expiry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.ledger.partitions import NOTE
from metering.stores.writes import Key

if TYPE_CHECKING:
    from metering.stores.writes import Value

_PK = f"{NOTE}doctor"


def doctor_key(name: str) -> Key:
    """Key of an item of one examination."""
    return Key(_PK, name)


def doctor_item(name: str, *, expires_s: int, filler: str = "") -> dict[str, Value]:
    """An item that expires by itself if nobody deletes it."""
    return {**doctor_key(name)._asdict(), "n": 1, "expires_at": expires_s, **({"filler": filler} if filler else {})}
