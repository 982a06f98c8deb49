"""Help starts fast: it imports nothing heavy, and only the named family."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from metering.cli.command import first_sentence
from metering.cli.families import FAMILIES
from metering.cli.groups import load
from tests.support.with_each import with_each

# The slowest imports: each takes longer than the complete help.
HEAVY = (
    "aws_cdk", "boto3", "botocore", "duckdb", "localstack_client", "numpy", "pyarrow", "pydantic", "urllib3",
)  # fmt: skip
_RUN = """
import json, sys
from metering.cli.app import ended
code = ended()
print(json.dumps([code, sorted(set(sys.modules) & set({heavy!r})), sorted(n for n in sys.modules if n.startswith(
    "metering.cli.commands.") and n.count(".") == 4)]), file=sys.stderr)
"""
LINES = ((), ("--version",), *((family.name,) for family in FAMILIES))


def imported(*arguments: str) -> tuple[int, list[str], list[str]]:
    """The exit code of a command line, and its imports: heavy modules, and families."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN.format(heavy=HEAVY), *arguments],
        text=True, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    code, heavy, families = json.loads(done.stderr.splitlines()[-1])
    return code, heavy, families


@with_each(LINES, " ".join)
def test_help_imports_nothing_heavy(line: tuple[str, ...]) -> None:
    code, heavy, _ = imported(*line, *([] if line == ("--version",) else ["--help"]))
    assert (code, heavy) == (0, [])


def test_the_list_of_what_is_heavy_can_fail() -> None:
    code, heavy, _ = imported("report", "usage", "--endpoint", "http://127.0.0.1:9")
    assert code == 1
    assert {"boto3", "pydantic"} <= set(heavy)


def test_the_help_of_all_commands_imports_no_family() -> None:
    assert imported("--help") == (0, [], [])


def cpu_s(command: list[str]) -> float:
    """CPU time of a process: the minimum of several runs, because other processes disturb it."""
    taken = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


@pytest.mark.parametrize("line", [("--help",), ("--version",), ("verify", "--help")], ids=" ".join)
def test_help_takes_little_more_cpu_than_the_library_that_it_needs(line: tuple[str, ...]) -> None:
    """Twice the import of Typer and its rendering library: 0.11 s here, so that 0.3 s is kept."""
    program = str(Path(sys.executable).with_name("metering"))
    least = cpu_s([sys.executable, "-c", "import typer, typer.main, typer.rich_utils"])
    assert cpu_s([program, *line]) < 2 * least + 0.08


def test_the_list_of_families_tells_what_each_family_says_of_itself() -> None:
    told = {family.name: family.about for family in FAMILIES}
    assert told == {name: first_sentence(load(name).help or "") for name in told}


def test_every_module_of_commands_is_listed() -> None:
    folder = Path("metering/cli/commands")
    root = Path(__file__).parents[3]
    modules = {
        ".".join(path.relative_to(root / folder).with_suffix("").parts)
        for path in (root / folder).rglob("*.py")
        if path.name != "__init__.py" and "command(" in path.read_text()
    }
    listed = {family.place.partition(":")[0] for family in FAMILIES}
    sources = [(root / folder / f"{place.replace('.', '/')}.py").read_text() for place in listed]
    # A module that adds to another module's family is imported by that module.
    added = {module for module in modules if any(f"commands.{module} import" in source for source in sources)}
    assert modules == listed | added
