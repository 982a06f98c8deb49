"""Choosing of files: those of a folder or a prefix whose names are those of logs, since a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import LogFileRefusedError
from metering.onramps.ingest.files import kind_and_name, path_of, place_of
from metering.onramps.ingest.outcomes import FileOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.onramps.kinds import LogKind
    from metering.onramps.ports import LogStore
    from metering.stores.objects import ObjectInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a person named: one file, or all files below a folder or a prefix.

    Attributes:
        store: Where they lie.
        prefix: Prefix of their keys; the key itself of a single file.
        single: Whether it is one file, which is refused if its name is that of no log; below a folder it is left out.
    """

    store: LogStore
    prefix: str
    single: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A file to be taken, or one that is left out.

    Attributes:
        info: Its key, size and ETag.
        left_out: Why it is not taken; None if it is.
    """

    store: LogStore
    info: ObjectInfo
    left_out: FileOutcome | None = None


def chosen(
    target: Target, kinds: Sequence[LogKind], *, kind: LogKind | str | None = None, since_s: int | None = None
) -> Iterator[Chosen]:
    """Files of a target, in the order of their keys. Nothing is held of them.

    Args:
        target: What a person named.
        kinds: Kinds of logs.
        kind: Kind that a person says they are; None if their names decide.
        since_s: Only files for a time from here on, by their name, or that were written from then on.
    """
    for info in _infos(target):
        left_out = None
        slot_s = None
        try:
            _, name = kind_and_name(kinds, path_of(target.store, info.key), kind)
            slot_s = name.slot_s
        except LogFileRefusedError as error:
            if not target.single:
                left_out = FileOutcome(
                    place=place_of(target.store, info.key),
                    verdict="left_out",
                    stored_bytes=info.size_bytes,
                    problem=(error.reason, error.detail),
                )
        if since_s is None or (info.modified_s if slot_s is None else slot_s) >= since_s:
            yield Chosen(store=target.store, info=info, left_out=left_out)


def _infos(target: Target) -> Iterator[ObjectInfo]:
    if target.single:
        info = target.store.head(target.prefix)
        return iter(() if info is None else (info,))
    # S3's console makes an object of no bytes for a folder.
    return (info for info in target.store.list(target.prefix) if not info.key.endswith("/"))
