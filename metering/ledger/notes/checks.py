"""Notes of checks, which nothing rests on.

`W#drops`, `W` has the objects below `drop/` that were never announced. `metering doctor` tries the ledger with items of
`W#doctor`, which are gone when it ends, or by their expiry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from metering.stores.writes import Item, Value


DROPS_KEY = Key(f"{NOTE}drops", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class LostDrop:
    """An object below `drop/` that no batch came of.

    Attributes:
        etag: Its ETag, without quotes.
        put_s: When it was put, epoch seconds.
    """

    key: str
    etag: str
    put_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedObjects:
    """Passes over `drop/`. Each looks at objects that were put since the pass before it.

    Attributes:
        lost: The first of the objects that no batch came of.
        more: Number of further ones.
        from_s: The last pass looked at objects that were put from this time on, epoch seconds.
        seen_to_s: Objects that were put before this time were looked at.
        began_s: When the last pass began; 0 if there was none.
        finished_s: When the last pass came to its end; 0 if none did.
        upto_s: The pass in work looks at objects that were put before this time; 0 if none is in work.
        after: The last key that it looked at.
        refused_to_s: Batches that came to quarantine before this time are none of `lost`, epoch seconds.
    """

    lost: tuple[LostDrop, ...] = ()
    more: int = 0
    from_s: int = 0
    seen_to_s: int = 0
    began_s: int = 0
    finished_s: int = 0
    upto_s: int = 0
    after: str = ""
    refused_to_s: int = 0

    @property
    def count(self) -> int:
        """Number of lost objects."""
        return len(self.lost) + self.more

    def to_item(self) -> dict[str, Value]:
        lost: list[Value] = [[each.key, each.etag, each.put_s] for each in self.lost]
        return {
            **DROPS_KEY._asdict(),
            "lost": lost,
            "more": self.more,
            "from_s": self.from_s,
            "seen_to_s": self.seen_to_s,
            "began_s": self.began_s,
            "finished_s": self.finished_s,
            "upto_s": self.upto_s,
            "after": self.after,
            "refused_to_s": self.refused_to_s,
        }

    @classmethod
    def from_item(cls, item: Item) -> DroppedObjects:
        fields = Fields.of_item(item)
        made = cls(
            lost=tuple(
                LostDrop(key=row.text("key"), etag=row.text("etag"), put_s=row.whole("put_s"))
                for row in fields.rows("lost", ("key", "etag", "put_s"))
            ),
            more=fields.whole("more"),
            from_s=fields.whole("from_s"),
            seen_to_s=fields.whole("seen_to_s"),
            began_s=fields.whole("began_s"),
            finished_s=fields.whole("finished_s"),
            upto_s=fields.whole("upto_s"),
            after=fields.any_text("after"),
            # An older note has none.
            refused_to_s=fields.whole("refused_to_s", absent=0),
        )
        fields.check_key(DROPS_KEY)
        return made


_DOCTOR = f"{NOTE}doctor"


def doctor_key(name: str) -> Key:
    """Key of an item of one examination."""
    return Key(_DOCTOR, name)


def doctor_item(name: str, *, expires_s: int, filler: str = "") -> dict[str, Value]:
    """An item that expires by itself if nobody deletes it."""
    return {**doctor_key(name)._asdict(), "n": 1, "expires_at": expires_s, **({"filler": filler} if filler else {})}
