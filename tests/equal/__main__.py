"""Compares this revision's output, API responses and stored data with a release's: exit 1 on a forbidden difference.

    python -m tests.equal REVISION

Each revision builds the same in-memory region with its own code, receives the requests of the release, and runs its own
recorded commands. Allowed differences are in `tests/equal/differences.toml`, with their reasons.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

from tests import ROOT
from tests.support.revisions import checked_out, environment, python_of

_HERE = Path(__file__).parent
# Members of the API document that are texts for people.
_WORDS = frozenset({"description", "title", "summary", "version", "example", "examples"})


def answers_of(checkout: Path, asked: Path, folder: Path) -> None:
    """Run a checkout's `answers.py`, which writes that revision's answers into a folder."""
    folder.mkdir()
    _run(checkout, "--answers", str(asked), str(folder))


def _run(checkout: Path, *arguments: str) -> None:
    command = [python_of(checkout), str(_HERE / "answers.py"), *arguments]
    subprocess.run(command, cwd=checkout, env=environment(checkout), check=True)


def differences(before: Path, after: Path) -> Iterator[tuple[str, str]]:
    """Name of each answer that differs between the folders, and its difference."""
    names = sorted({path.name for folder in (before, after) for path in folder.iterdir()})
    for name in names:
        one, other = before / name, after / name
        if not other.exists():
            yield name, "is gone"
        elif one.exists() and name == "openapi.json":
            lost = facts(json.loads(one.read_bytes())) - facts(json.loads(other.read_bytes()))
            yield from ((f"{name} {fact}", "is gone") for fact in sorted(lost))
        elif one.exists() and one.read_bytes() != other.read_bytes():
            asked = f" {one.read_text(errors='replace').splitlines()[0]}" if name.startswith("request-") else ""
            yield f"{name}{asked}", _first_difference(one.read_bytes(), other.read_bytes())


def facts(document: object, at: str = "") -> set[str]:
    """Paths, parameters, schemas, statuses and values of a document, each with its JSON path, without descriptions."""
    if isinstance(document, dict):
        members = ((key, value) for key, value in document.items() if key not in _WORDS or isinstance(value, dict))
        return {at}.union(*(facts(value, f"{at}/{key}") for key, value in members))
    if isinstance(document, list):
        return {at}.union(*(facts(value, f"{at}/{_name(value)}") for value in document))
    return {f"{at}={document!r}"}


def _name(entry: object) -> str:
    """A parameter's name, which identifies it in its list, because its position does not matter."""
    return str(entry.get("name", entry.get("$ref", ""))) if isinstance(entry, dict) else ""


def _first_difference(one: bytes, other: bytes) -> str:
    at = next((number for number, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)
    begin = max(0, at - 60)
    return f"at byte {at}: {one[begin : at + 60]!r} is {other[begin : at + 60]!r}"


def judged(found: Iterator[tuple[str, str]], allowed: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Lines for the forbidden differences, and lines for the allowed differences with the reason of each."""
    wrong: list[str] = []
    right: list[str] = []
    for name, how in found:
        reason = next((reason for pattern, reason in allowed.items() if fnmatch(name, pattern)), "")
        (right if reason else wrong).append(f"{name}: {reason or how}")
    return wrong, right


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.equal", description=__doc__)
    parser.add_argument("revision", help="release to compare with, such as a commit of docs/releasing.md")
    options = parser.parse_args()
    release = checked_out(options.revision)
    allowed = tomllib.loads((_HERE / "differences.toml").read_text())
    with tempfile.TemporaryDirectory() as temporary:
        asked, before, after = (Path(temporary, name) for name in ("asked", "before", "after"))
        _run(release, "--requests", str(asked))
        answers_of(release, asked, before)
        answers_of(ROOT, asked, after)
        count = len(list(before.iterdir()))
        wrong, right = judged(differences(before, after), allowed)
    sys.stdout.writelines(f"may differ: {line}\n" for line in right)
    sys.stdout.writelines(f"DIFFERS: {line}\n" for line in wrong)
    sys.stdout.write(f"{count} answers of {options.revision}: {len(right)} may differ, {len(wrong)} differ\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
