"""Where an export goes: a folder, or a prefix of a bucket. It holds one export, and the manifest comes last.

While files are written, `unfinished.json` names what they are made of. So a crash leaves nothing that looks whole, the
same export may be begun again, and no other export is mixed into it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, cast

from metering.errors import ObjectMissingError, OperationFailedError
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from metering.stores.objects import ObjectStore

MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"
_SHOWN = 3
# Files of datasets.
_OWN = re.compile(r"[A-Za-z]+-[0-9]{5}\.(parquet|csv\.gz)")
_PIECE_BYTES = MIB

Document = dict[str, object]


class DestinationTakenError(OperationFailedError):
    """An export was asked for where something else is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A place of one export.

    Attributes:
        objects: The store.
        prefix: Of its keys; empty, or it ends with `/`.
        name: How people call it.
    """

    objects: ObjectStore
    prefix: str
    name: str

    def begin(self, identity: Mapping[str, object]) -> Document | None:
        """Begin an export, or find that it is there.

        Args:
            identity: What the export is, and what it is made of.

        Returns:
            The manifest of the same export, whose files are as they were written; or None if it has to be written.

        Raises:
            DestinationTakenError: Something else is there, or the export was changed since.
        """
        there = self._read(MANIFEST)
        if there is not None:
            if there.get("export") != identity:
                raise self._taken("holds another export")
            self._compare(there)
            return there
        self._clear(identity)
        self.objects.put(self.prefix + UNFINISHED, _bytes({"export": identity}), if_absent=False)
        return None

    def put(self, name: str, file: Path) -> None:
        """Store a file that is whole."""
        self.objects.put(self.prefix + name, file, if_absent=False)

    def finish(self, manifest: Document) -> None:
        """Store the manifest: from now on the export is whole."""
        self.objects.put(self.prefix + MANIFEST, _bytes(manifest), if_absent=False)
        self.objects.delete([self.prefix + UNFINISHED])

    def _clear(self, identity: Mapping[str, object]) -> None:
        """Delete what a crash left of the same export, and nothing that anybody else put there since."""
        unfinished = self._read(UNFINISHED)
        if unfinished is None:
            found = [info.key.removeprefix(self.prefix) for info in islice(self.objects.list(self.prefix), _SHOWN)]
            if found:
                raise self._taken(f"is not empty ({', '.join(found)})")
            return
        if unfinished.get("export") != identity:
            raise self._taken("holds the files of another export that was not finished")
        left = [info.key.removeprefix(self.prefix) for info in self.objects.list(self.prefix)]
        others = [name for name in left if name != UNFINISHED and _OWN.fullmatch(name) is None]
        if others:
            raise self._taken(f"holds what an export did not write ({', '.join(others[:_SHOWN])})")
        self.objects.delete([self.prefix + name for name in left])

    def _compare(self, manifest: Document) -> None:
        for dataset in cast("list[Document]", manifest["datasets"]):
            for file in cast("list[dict[str, str]]", dataset["files"]):
                if self._digest(file["name"]) != file["sha256"]:
                    raise DestinationTakenError(
                        f"{self.name} holds this export, but {file['name']} is not as it was written.",
                        "Delete the whole place, or export to another one.",
                    )

    def _digest(self, name: str) -> str:
        digest = hashlib.sha256()
        try:
            with self.objects.open(self.prefix + name) as stream:
                while piece := stream.read(_PIECE_BYTES):
                    digest.update(piece)
        except ObjectMissingError:
            return ""
        return digest.hexdigest()

    def _read(self, name: str) -> Document | None:
        try:
            body = self.objects.get(self.prefix + name)
        except ObjectMissingError:
            return None
        try:
            document = json.loads(body)
        except ValueError as error:
            raise self._taken(f"has a {name} that is not of an export") from error
        if not isinstance(document, dict):
            raise self._taken(f"has a {name} that is not of an export")
        return document

    def _taken(self, why: str) -> DestinationTakenError:
        return DestinationTakenError(
            f"{self.name} {why}; nothing was written.",
            "Name an empty or new place: exports are never mixed.",
        )


def _bytes(document: Mapping[str, object]) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()
