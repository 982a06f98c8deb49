"""Writes a revision's output, API responses and stored data as files below a folder. Run it in the revision's checkout.

    answers.py --requests FILE          writes the requests that its API is asked, a line each
    answers.py --answers FILE FOLDER    asks them, types its recorded command lines, and keeps all of it

Imports only test kits that have the same name in both revisions, because releases move other modules.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tests.cli.record
import tests.cli.snapshots
from tests.api import test_foreign_accounts as foreign

# This module reads names that `tests.cli.record` does not export.
record: Any = tests.cli.record
snapshots: Any = tests.cli.snapshots
FORMATS = ("json", "ndjson", "csv", "parquet")
REQUESTS = 600
SEED = 20261129
_TOKENS = ("analyst", "operator", "first", "portal", "second")
# One of this many answers is also requested as Parquet.
_PARQUET_EACH = 5


def write_requests(path: Path) -> None:
    """Write one line per request: a token, and a path with its parameters."""
    asked = list(foreign.requests(SEED, REQUESTS))
    asked += [
        f"{one}{'&' if '?' in one else '?'}format=parquet" for one in asked[::_PARQUET_EACH] if "format=" not in one
    ]
    path.write_text("".join(f"{_TOKENS[number % len(_TOKENS)]} {one}\n" for number, one in enumerate(asked)))


def ask(path: Path, folder: Path) -> None:
    """Save status, content type and body of each API response, the OpenAPI document, and stored data."""
    world = foreign.world()
    for number, line in enumerate(path.read_text().splitlines()):
        who, asked = line.split(" ", 1)
        answer = world.get(asked, who)
        head = f"{asked}\n{answer.status_code} {answer.headers.get('content-type')}\n"
        (folder / f"request-{number:04}").write_bytes(head.encode() + answer.content)
    (folder / "openapi.json").write_bytes(world.get("/openapi.json", None).content)
    _keep_stores(world.world, folder, "api")


def type_lines(folder: Path) -> None:
    """Run the recorded commands; save the output of each in all formats, and the final stored data."""
    regions: list[Any] = []

    def watched() -> Any:
        regions.append(lively())
        return regions[-1]

    def save(name: str, recorded: Any) -> None:
        for form in FORMATS:
            (folder / f"line-{name}.{form}").write_bytes(snapshots.encoded_bytes(recorded.answer, form))

    lively = record.Lively
    with patch.multiple(record, save=save, FOLDER=folder / "none", Lively=watched):
        record.main()
    _keep_stores(regions[0].world, folder, "lines")


def _keep_stores(world: Any, folder: Path, name: str) -> None:
    """Save items as text, and objects by their hash."""
    tables = type(record.Table.LEDGER)
    items = (f"{table.name} {_text(item)}" for table in tables for item in world.items.everything(table))
    (folder / f"stored-items-{name}").write_text("\n".join(sorted(items)) + "\n")
    (folder / f"stored-objects-{name}").write_text("".join(_objects(world.objects)))


def _objects(objects: Any) -> Iterable[str]:
    for key in sorted(objects.keys()):
        yield f"{key} {hashlib.sha256(objects.peek(key)).hexdigest()}\n"


def _text(item: Any) -> str:
    # Each release outputs its own version number.
    return json.dumps({**item, "written_by": "…"} if "written_by" in item else item, sort_keys=True, default=repr)


def main(arguments: list[str]) -> int:
    """Entry point."""
    match arguments:
        case ["--requests", path]:
            write_requests(Path(path))
        case ["--answers", path, folder]:
            ask(Path(path), Path(folder))
            type_lines(Path(folder))
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
