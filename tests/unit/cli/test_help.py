"""Help is readable at any width, names shared options, and starts fast."""

from __future__ import annotations

import ast
import json
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.text import Text
from typer.testing import CliRunner

from metering.cli.app import app
from metering.cli.command import first_sentence
from metering.cli.groups import FAMILIES, load
from metering.cli.help.topics import TOPICS, VARIABLES, words
from metering.replay.scenarios import SCENARIOS
from tests.support.command_line import help_texts, tree
from tests.support.with_each import with_each
from tests.unit.house.command_lines import parsed

ROOT = Path(__file__).parents[3]
PAGES = [words_ for words_, _ in tree()]
LINES = [*((*words_, "--help") for words_ in PAGES), ("help",), *(("help", topic) for topic in TOPICS)]
WIDTHS = (60, 80, 120)


def told(*line: str, width: int = 80) -> str:
    result = CliRunner().invoke(app, list(line), prog_name="metering", env={"COLUMNS": str(width)})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.cases
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_no_line_is_wider_than_the_terminal(line: tuple[str, ...], width: int) -> None:
    copied = re.compile(r"  +(metering|curl) ")
    lines = told(*line, width=width).splitlines()
    assert [text for text in lines if len(text) > width and not copied.match(text)] == []


def commands_of(text: str) -> list[str]:
    """The commands of a help page, as a shell reads them after they are pasted."""
    return re.findall(r"^ +(metering .+)", re.sub(r"\\\n +", "", text), re.MULTILINE)


@pytest.mark.cases
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_examples_are_whole_commands_when_they_are_pasted(line: tuple[str, ...], width: int) -> None:
    for command in commands_of(told(*line, width=width).partition("Example")[2]):
        assert parsed(re.sub(r" [|>] .*", "", command))


def test_examples_are_the_same_at_every_width() -> None:
    assert len(commands_of(told("query", "--help", width=60))) == 5
    for line in LINES:
        pages = [commands_of(told(*line, width=width).partition("Example")[2]) for width in WIDTHS]
        assert pages[0] == pages[1] == pages[2]


@with_each(PAGES, " ".join)
def test_a_panel_of_shared_options_names_the_topic_that_tells_more(words_: tuple[str, ...]) -> None:
    text = told(*words_, "--help")
    assert ("--format" in text) == ("metering help output" in text)
    assert ("--stage" in text) == ("metering help places" in text)


@with_each([*help_texts()], lambda each: each[0])
def test_no_help_has_what_rich_takes_for_markup(each: tuple[str, str]) -> None:
    assert Text.from_markup(each[1]).plain == each[1]


def test_the_topics_explain_each_shared_option() -> None:
    for option in ("--endpoint URL", "--region NAME", "--stage NAME", "AWS_ENDPOINT_URL"):
        assert option in told("help", "places")
    for option in ("-f, --format", "-o, --output FILE", "130"):
        assert option in told("help", "output")


def test_every_scenario_of_a_replay_is_explained_in_its_help() -> None:
    text = " ".join(told("replay", "--help").split())
    assert [name for name, scenario in SCENARIOS.items() if f"{name}: {scenario.about}" not in text] == []


def test_the_glossary_is_the_table_of_the_documentation() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ", (ROOT / "docs/architecture.md").read_text().partition("## Words")[2], re.M)
    assert [word for word, _ in words()] == [row for row in rows if row != "word"]
    assert len(words()) > 40
    for word in ("roll up", "marker", "commit", "kind", "due", "watch", "silent", "partly", "verdict", "without"):
        assert f"  {word} " in told("help", "glossary")


def test_the_words_stand_in_their_order() -> None:
    known = [word.lower() for word, _ in words()]
    assert known == sorted(known)


def test_one_word_is_explained_and_an_unknown_one_names_the_nearest() -> None:
    assert told("help", "glossary", "wide").startswith("  narrow, wide  ")
    wrong = CliRunner().invoke(app, ["help", "glossary", "makrer"], prog_name="metering")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "Did you mean marker?" in wrong.stderr


def test_help_of_a_command_is_what_the_command_says() -> None:
    assert told("help", "report", "usage") == told("report", "usage", "--help")


@pytest.mark.parametrize("asked", [("report", "usge"), ("repor",)])
def test_help_of_a_wrong_command_ends_with_2(asked: tuple[str, ...]) -> None:
    wrong = CliRunner().invoke(app, ["help", *asked], prog_name="metering")
    assert wrong.exit_code == 2
    assert "Did you mean" in wrong.stderr


@pytest.mark.parametrize(("line", "instead"), [
    (("budget", "forecast", "egress", "--backtest"), "load_tests.billing.backtest"),
    (("cost", "--blended"), "exports in CUR"),
    (("cost", "--plot", "november.svg"), "metering serve"),
    (("report", "usage", "--plot", "november.svg"), "metering serve"),
    (("ingest", "flows.log", "--append"), "into another file"),
    (("logs", "verify", "s3://acme-logs/AWSLogs/"), "metering logs coverage"),
])  # fmt: skip
def test_a_removed_option_or_command_names_what_took_its_place(line: tuple[str, ...], instead: str) -> None:
    wrong = CliRunner().invoke(app, line, prog_name="metering")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    said = " ".join(wrong.stderr.split())
    assert "It was removed: " in said
    assert instead in said


def variables_read() -> Iterator[str]:
    """Names of environment variables that the package reads individually."""
    for path in (ROOT / "metering").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case (
                    ast.Call(func=ast.Attribute(attr="get" | "getenv"), args=[ast.Constant(value=str(name)), *_])
                    | ast.Subscript(slice=ast.Constant(value=str(name)))
                    | ast.Compare(left=ast.Constant(value=str(name)), ops=[ast.In() | ast.NotIn(), *_])
                ) if re.fullmatch(r"(AWS|METERING|LOCALSTACK)_[A-Z_]+|NO_COLOR|TERM|COLUMNS|TMPDIR", name):
                    yield name


def test_every_environment_variable_that_is_read_is_explained() -> None:
    read = {*variables_read()}
    assert {"METERING_STAGE", "METERING_LOCAL_DIR", "AWS_ENDPOINT_URL", "AWS_REGION"} <= read
    assert read <= {*VARIABLES}
    text = told("help", "environment")
    assert [name for name in VARIABLES if name not in text] == []


def completed(line: str, position: int) -> list[str]:
    """Bash's completions at the end of a line, with the printed script."""
    script = told("completion", "bash")
    typed = f"COMP_WORDS=({line}); COMP_CWORD={position}; _metering_completion metering"
    ask = f'{script}\n{typed}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "--norc", "-c", ask], env={"PATH": path}, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(("line", "position", "offered"), [
    ("metering re", 1, {"replay", "report", "reports", "reconcile", "rebuild", "region", "restore"}),
    ("metering report us", 2, {"usage"}),
    ("metering report usage --acc", 3, {"--account"}),
    ("metering report usage --format c", 4, {"csv"}),
    ("metering replay --scenario lo", 3, {"load", "load-5", "load-1"}),
    ("metering help gl", 2, {"glossary"}),
    ("metering completion f", 2, {"fish"}),
])  # fmt: skip
def test_bash_completes_commands_options_and_values(line: str, position: int, offered: set[str]) -> None:
    assert {*completed(line, position)} == offered


@pytest.mark.parametrize(("shell", "told_as"), [
    ("zsh", '"report":"Totals of usage'), ("fish", "report\tTotals of usage"),
])  # fmt: skip
def test_other_shells_show_what_a_command_does(shell: str, told_as: str) -> None:
    assert "_METERING_COMPLETE" in told("completion", shell)
    environ = {"_METERING_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "metering rep"}
    program = str(Path(sys.executable).with_name("metering"))
    done = subprocess.run(
        [program], env=environ | {"_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert told_as in done.stdout
    assert done.stderr == ""


def test_a_shell_that_is_not_served_is_told() -> None:
    wrong = CliRunner().invoke(app, ["completion", "tcsh"], prog_name="metering")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert shlex.split(wrong.stderr.splitlines()[1])[-1] == "fish."


# Help imports nothing heavy, and imports a command family only if it is named.

# The slowest imports, each of which takes longer than the complete help.
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
STARTED = ((), ("--version",), *((family.name,) for family in FAMILIES))


def imported(*arguments: str) -> tuple[int, list[str], list[str]]:
    """Exit code of a command line, and which heavy modules and which command groups it imports."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN.format(heavy=HEAVY), *arguments],
        text=True, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    code, heavy, families = json.loads(done.stderr.splitlines()[-1])
    return code, heavy, families


@pytest.mark.cases
@pytest.mark.parametrize("line", STARTED, ids=" ".join)
def test_help_imports_nothing_heavy(line: tuple[str, ...]) -> None:
    code, heavy, _ = imported(*line, *([] if line == ("--version",) else ["--help"]))
    assert (code, heavy) == (0, [])


def test_the_list_of_what_is_heavy_can_fail() -> None:
    code, heavy, _ = imported("report", "usage", "--endpoint", "http://127.0.0.1:9")
    assert code == 1
    assert {"boto3", "botocore"} <= set(heavy)


def test_the_help_of_all_commands_imports_no_family() -> None:
    assert imported("--help") == (0, [], [])


def cpu_s(command: list[str]) -> float:
    """CPU time of a process: the minimum over several runs, because other processes disturb the measurement."""
    taken = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


@pytest.mark.parametrize("line", [("--help",), ("--version",), ("verify", "--help")], ids=" ".join)
def test_help_takes_little_more_cpu_than_the_library_that_it_needs(line: tuple[str, ...]) -> None:
    """The limit is twice the import time of Typer with its rendering library (0.11 s here), to stay below 0.3 s."""
    program = str(Path(sys.executable).with_name("metering"))
    least = cpu_s([sys.executable, "-c", "import typer, typer.main, typer.rich_utils"])
    assert cpu_s([program, *line]) < 2 * least + 0.08


def test_the_list_of_families_tells_what_each_family_says_of_itself() -> None:
    told = {family.name: family.about for family in FAMILIES}
    assert told == {name: first_sentence(load(name).help or "") for name in told}


def test_every_module_of_commands_is_listed() -> None:
    folder = Path("metering/cli/commands")
    modules = {
        ".".join(path.relative_to(ROOT / folder).with_suffix("").parts)
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py" and "command(" in path.read_text()
    }
    listed = {family.place.partition(":")[0] for family in FAMILIES}
    sources = [(ROOT / folder / f"{place.replace('.', '/')}.py").read_text() for place in listed]
    # If a module adds commands to the family of another module, that other module imports it.
    added = {module for module in modules if any(f"commands.{module} import" in source for source in sources)}
    assert modules == listed | added
