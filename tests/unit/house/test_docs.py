"""Links, anchors, decisions, code map, commands, runbooks and notices of the documentation."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from metering.fleet.regions import ALONE_FUNCTIONS, reserved_executions
from metering.fleet.stage import TUNABLES, StageConfig
from metering.operations.alarms import ALARMS, BILL_ORIGIN, LOG_FIGURES, LOG_ORIGINS, ROLLBACK_ALARMS, Figure
from metering.operations.doctor.catalogue import CHECKS
from metering.operations.runbooks import SHARED_PAGES, commands_by_part, link_of, page_of, runbook_in
from metering.units import HOUR_S, MINUTE_S
from tests import ROOT
from tests.e2e.endpoints import AWS_CLI, Kind, kind_of, why_left_out
from tests.e2e.oncall import UNDRILLED
from tests.size import read_tree, readme_of, rooms
from tests.support.answering import HEALTH, MINISTACK, serving
from tests.support.command_line import tree
from tests.support.localstack import server
from tests.support.with_each import with_each
from tests.unit.house.command_lines import PAGES, USAGE_ERROR, mentions, parsed, whole_lines

DECISIONS = ROOT / "docs" / "decisions"
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADER = re.compile(
    r"# (\d{4}) (.+)\n\n- Status: (accepted|(?:accepted, in part )?superseded by \d{4})\n"
    r"- Date: (\d{4}-\d{2}-\d{2})\n\n\S",
    re.ASCII,
)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """Link targets of the headings in a text, by GitHub's rule."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> Iterator[str]:
    for link in _LINK.findall(_FENCED.sub("", text)):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            yield link


@with_each(PAGES, name)
def test_links_lead_to_a_page_and_a_heading_that_exist(page: Path) -> None:
    assert list(broken_links(page, page.read_text())) == []


def test_a_link_that_leads_nowhere_is_noticed() -> None:
    text = "[a](docs/none.md) [b](README.md#for-whom) [c](README.md#for-nobody) [d](https://example.com/none)"
    assert list(broken_links(ROOT / "README.md", text)) == ["docs/none.md", "README.md#for-nobody"]


def test_each_decision_has_its_number_status_and_date_and_is_in_the_index() -> None:
    index = (DECISIONS / "README.md").read_text().splitlines()
    pages = sorted(DECISIONS.glob("[0-9]*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    for page in pages:
        header = _HEADER.match(page.read_text())
        assert header, page.name
        number, title, status, date = header.groups()
        assert page.name.startswith(f"{number}-")
        assert f"| [{number}]({page.name}) | {title} | {status} | {date} |" in index
        if (later := re.search(r"superseded by (\d{4})", status)) is not None:
            [taker] = DECISIONS.glob(f"{later[1]}-*.md")
            assert number in taker.read_text(), f"{taker.name} does not name {number}"
    assert sum(line.startswith("| [") for line in index) == len(pages)


_PATH = re.compile(r"(?:^|[`\s])((?:metering|lambdas|infra|tests|load_tests|docs)/[\w./-]+)", re.MULTILINE)


@with_each(PAGES, name)
def test_paths_in_sentences_exist(page: Path) -> None:
    text = page.read_text()
    # The paths in the code map are covered by another test.
    text = text.split("\n## Code map\n")[0]
    assert missing([path.rstrip(".") for path in _PATH.findall(text)]) == []


def code_map(text: str) -> dict[str, list[str]]:
    """Subject of a change -> paths to open, in order."""
    section = re.search(r"^## Code map\n(.+?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section
    rows = [line.strip("| ").split(" | ") for line in section[1].splitlines() if line.startswith("| ")]
    return {change: re.findall(r"`([^`]+)`", " ".join(cells)) for change, *cells in rows[1:]}


def missing(paths: list[str]) -> list[str]:
    return [path for path in paths if not (ROOT / path).exists()]


_SPAN = re.compile(r"`([a-z][\w./-]*)`")
_SUFFIX = re.compile(r"\.(?:py|md|json|js|toml|sh|csv|ipynb|ndjson)$")
_ORDER = re.compile(r"read(?:ing)? order|read in this order|read first", re.IGNORECASE)


def lost_paths(room: Path, text: str) -> list[str]:
    """Broken paths in a room's README.

    Paths may be relative to the room, a folder in it, the package or the project, and may omit a module's suffix. In
    the README's reading order, each name is a path.
    """
    text = _FENCED.sub("", text)
    named = [name for name in _SPAN.findall(text) if "/" in name or _SUFFIX.search(name)]
    order = [name for part in text.split("\n\n") if _ORDER.search(part) for name in _SPAN.findall(part)]
    names = dict.fromkeys(name.rstrip("/.") for name in named + [name for name in order if "." not in name])
    return [name for name in names if not _leads_somewhere(room, name)]


def _leads_somewhere(room: Path, name: str) -> bool:
    places = [base / file for base in (ROOT, ROOT / "metering", room) for file in (name, f"{name}.py")]
    return any(place.exists() for place in places) or any(
        next(room.rglob(file), None) for file in (name, f"{name}.py") if not name.startswith(".")
    )


@with_each([readme_of(room) for room in rooms(read_tree())], name)
def test_each_path_in_the_readme_of_a_room_exists(readme: Path) -> None:
    assert lost_paths(readme.parent, readme.read_text()) == []


def test_a_path_in_the_readme_of_a_room_that_does_not_exist_is_noticed() -> None:
    text = "`markers`, `lake/plan.py` and `tests/unit/none.py`, `kinds.py`, `none.py`, `usage/` and `none/`, `a word`"
    assert lost_paths(ROOT / "metering" / "ledger", text) == ["tests/unit/none.py", "none.py", "none"]
    order = "**Reading order:** `markers`, `none`, `Marker`."
    assert lost_paths(ROOT / "metering" / "ledger", order) == ["none"]


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_each_path_of_the_code_map_exists() -> None:
    rows = code_map(ARCHITECTURE)
    assert len(rows) >= 12, "it answers what newcomers ask"
    assert {change: missing(paths) or not paths for change, paths in rows.items()} == dict.fromkeys(rows, False)


def test_a_path_of_the_code_map_that_does_not_exist_is_noticed() -> None:
    rows = code_map("## Code map\n\n| to change | open first |\n|---|---|\n| a | `README.md` |\n| b | `nowhere.py` |\n")
    assert list(rows) == ["a", "b"]
    assert [missing(paths) for paths in rows.values()] == [[], ["nowhere.py"]]


def test_each_word_has_one_meaning() -> None:
    words = re.findall(r"^\| ([a-z, ]+) \| ", ARCHITECTURE.split("\n## Words\n")[1], re.MULTILINE)[1:]
    assert words
    each = [word for words_of_row in words for word in words_of_row.split(", ")]
    assert len(each) == len(set(each))


# Sentences about receive counts, durations of receives, and reserved concurrency.

PROD = StageConfig.load("prod")
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER = rf"\b({'|'.join(_WORDS[2:])}|[2-9])"
# Matches "failed seven times", "seven receives", "7 failures"; but SQS ignores messages "received three times or more".
_TIMES = re.compile(
    rf"(?:received|fails?|failed|be read|a log file|the queue,) {_NUMBER} times\b(?! or more)"
    rf"|{_NUMBER} (?:failed )?(?:receives|failures|tries)\b"
)


def times_of(text: str) -> Iterator[int]:
    for found in _TIMES.finditer(" ".join(text.split())):
        word = found[1] or found[2]
        yield int(word) if word.isdigit() else _WORDS.index(word)


@with_each(PAGES, name)
def test_a_page_names_the_receives_that_a_stage_has_by_default(page: Path) -> None:
    assert {*times_of(page.read_text())} <= {PROD.max_receives}


def test_the_pages_about_dead_letters_name_them_and_their_setting() -> None:
    telling = {name(page): page.read_text() for page in PAGES if "`max_receives`" in page.read_text()}
    assert {
        "docs/architecture.md", "docs/getting-started.md", "docs/on-ramps.md", "docs/releasing.md",
        "docs/runbooks/dead-letters.md", "docs/runbooks/function-errors.md", "docs/runbooks/onramp-dead-letters.md",
    } <= telling.keys()  # fmt: skip
    assert [page for page, text in telling.items() if not [*times_of(text)]] == []


def test_another_number_of_receives_is_noticed() -> None:
    assert [*times_of("What fails\nfive times waits. After 6 receives it is dead, -. eight failures .->")] == [5, 6, 8]
    assert [*times_of("SQS leaves out what was received three times or more; each asks five times a second.")] == []


def test_what_a_stage_may_change_is_no_number_in_alarms_and_help() -> None:
    said = [spec.meaning for spec in ALARMS]
    said += [command.help for words, command in tree() if words[:1] == ("dlq",)]
    assert [text for text in said if [*times_of(text)]] == []


def test_the_time_until_a_message_is_dead_follows_from_the_settings() -> None:
    errors = " ".join((ROOT / "docs/runbooks/function-errors.md").read_text().split())
    minutes = PROD.visibility_s // MINUTE_S
    assert f"hides it for {minutes} minutes (`visibility_s`): about {PROD.max_receives * minutes} minutes" in errors
    assert PROD.max_receives * PROD.onramp_visibility_s == 3.5 * HOUR_S
    assert "about three and a half hours" in errors


def test_the_quota_of_executions_is_what_the_functions_reserve() -> None:
    quota = 100 + reserved_executions(shards=TUNABLES["shards"])
    for page, said in (
        ("docs/architecture.md", f"needs a quota of {quota}"),
        ("docs/operator-guide.md", f"| {quota}: {_WORDS[len(ALONE_FUNCTIONS)]} functions reserve one each"),
        ("docs/runbooks/api-requests.md", f"has to be at least {quota} plus this"),
        ("CHANGELOG.md", f"a Lambda concurrency quota of {quota}."),
    ):
        assert said in " ".join((ROOT / page).read_text().split()), page


# Every command in the documentation is valid: the command and its options exist.

TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
_TARGET = re.compile(r"(?:^|`)make ([a-z0-9]+(?:-[a-z0-9]+)*)", re.MULTILINE)
_MODULE = re.compile(r"python -m ([a-z_.]+)")


@with_each(PAGES, name)
def test_commands_in_blocks_can_be_typed_as_they_stand(page: Path) -> None:
    for line in whole_lines(page.read_text()):
        assert parsed(line)


@with_each(PAGES, name)
def test_commands_in_sentences_exist_with_their_options(page: Path) -> None:
    for line in mentions(page.read_text()):
        assert parsed(line, whole=False) or line.startswith("metering --")


@with_each(PAGES, name)
def test_make_targets_and_modules_exist(page: Path) -> None:
    text = page.read_text()
    assert set(_TARGET.findall(text)) <= TARGETS
    for module in _MODULE.findall(text):
        if module != "pytest":
            assert importlib.util.find_spec(module.rstrip(".")), module


def test_the_readme_and_the_runbooks_have_commands() -> None:
    """If these pages had no commands, the tests above would check nothing."""
    assert len(whole_lines((ROOT / "README.md").read_text())) >= 6
    assert sum(len(whole_lines(page.read_text())) for page in PAGES) > 60
    assert len(mentions((ROOT / "README.md").read_text())) >= 2


@pytest.mark.parametrize("wrong", ["metering dlq drain", "metering dlq list --colour", "metering replay --batches few"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_command_that_does_not_exist_is_noticed(wrong: str, *, whole: bool) -> None:
    with pytest.raises((KeyError, USAGE_ERROR), match=r"drain|colour|valid integer"):
        parsed(wrong, whole=whole)


def test_only_a_sentence_may_leave_arguments_out() -> None:
    assert parsed("metering sources accept-gap", whole=False) == ["sources", "accept-gap"]
    assert parsed("metering region", whole=False) == ["region"]
    with pytest.raises(USAGE_ERROR):
        parsed("metering sources accept-gap")
    with pytest.raises(AssertionError):
        parsed("metering region")


# The AWS CLI in the documentation: version 1 ignores `AWS_ENDPOINT_URL` for SQS, and would send messages to AWS.

_SEND = re.compile(r"\baws\s[^`\n]*\bsqs send-message\b")


def test_every_line_that_sends_with_the_aws_cli_names_the_endpoint_and_the_pages_about_sending_have_one() -> None:
    lines = {name(page): _SEND.findall(page.read_text()) for page in PAGES}
    assert [page for page in ("docs/getting-started.md", "docs/contract/producers.md") if not lines[page]] == []
    assert [line for found in lines.values() for line in found if "--endpoint-url" not in line] == []


# LocalStack in the tests: if it is missing, this is reported, and its page names the versions that were tested.

PAGE = (ROOT / "docs" / "localstack.md").read_text()


@pytest.mark.parametrize(("ci", "code"), [("", server.MISSING), ("true", 1)])
def test_a_machine_that_cannot_have_it_says_why_and_is_red_where_ci_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ci: str, code: int
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(server, "install", lambda _tool: False)
    assert server.main(["up", "1"]) == code
    assert "no LocalStack: this machine has no Python 3.13" in capsys.readouterr().err


def locked(lock: Path, name: str) -> str:
    [found] = re.findall(rf"^{re.escape(name)}==(\S+)", lock.read_text(), re.MULTILINE)
    return str(found)


def test_the_page_names_the_versions_of_the_locks() -> None:
    [tools] = [path for path in server.LOCALSTACK.lock if path.name == "tools.txt"]
    assert f"LocalStack {locked(tools, 'localstack-core')}" in PAGE
    assert f"AWS CLI {locked(AWS_CLI.lock[0], 'awscli')}" in PAGE
    assert f"MiniStack {version('ministack')}" in PAGE


@pytest.mark.parametrize("lock", [*server.LOCALSTACK.lock, *AWS_CLI.lock], ids=lambda path: path.name)
def test_every_package_of_a_lock_has_its_hashes(lock: Path) -> None:
    packages = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert packages
    assert [each for each in packages if "--hash=sha256:" not in each] == []


# `make e2e ENDPOINT=…` detects the emulator and skips tests for other emulators.


@pytest.mark.parametrize(("answers", "kind"), [
    (MINISTACK, Kind.MINISTACK),
    ({"/_localstack/health": HEALTH}, Kind.LOCALSTACK),
    ({}, Kind.OTHER),
    ({"/_ministack/health": b"<html>", "/_localstack/health": b"[]"}, Kind.OTHER),
])  # fmt: skip
def test_an_endpoint_says_what_it_is(answers: dict[str, bytes], kind: Kind) -> None:
    with serving(answers) as endpoint:
        assert kind_of(endpoint) is kind


def test_an_endpoint_without_an_answer_is_an_error_and_no_kind() -> None:
    with serving({}) as endpoint:
        pass
    with pytest.raises(ConnectionError, match="nothing answers at"):
        kind_of(endpoint)


def _item(*markers: Any) -> pytest.Item:
    named = {marker.name: marker for marker in markers}
    return cast("pytest.Item", SimpleNamespace(get_closest_marker=named.get))


def test_a_test_for_ministack_is_left_out_elsewhere_and_says_why() -> None:
    only = _item(pytest.mark.ministack(reason="it enforces IAM").mark)
    assert why_left_out(only, Kind.MINISTACK) is None
    assert why_left_out(only, Kind.LOCALSTACK) == "only on MiniStack, this is LocalStack: it enforces IAM"
    assert why_left_out(_item(), Kind.OTHER) is None


# Each row of docs/aws.md names an existing test, and a check of the doctor.

PAGE_OF_AWS_ROWS = ROOT / "docs/aws.md"
_ROW = re.compile(r"^\| (A\d+) \|.*\| `(tests/[^`]+)::(test_\w+)` \| (?:`([a-z-]+)` )?\|$", re.MULTILINE)
ROWS = _ROW.findall(PAGE_OF_AWS_ROWS.read_text())
NAMES = {check.name for check in CHECKS}


def named_in(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_row_of_the_audit_is_there_once() -> None:
    assert [row for row, *_ in ROWS] == [f"A{number}" for number in range(1, 30)]


def test_a_row_is_shown_by_a_test_that_exists() -> None:
    for row, path, name, check in ROWS:
        assert name in named_in(ROOT / path), f"{row} names a test that is not there"
        assert not check or check in NAMES, row


def test_what_emulators_show_is_told_of_each_check() -> None:
    told = set(re.findall(r"`([a-z-]+)`", PAGE_OF_AWS_ROWS.read_text().partition("## What the emulators show")[2]))
    assert NAMES - told == set()


def test_a_row_without_a_test_would_be_seen() -> None:
    assert _ROW.findall("| A20 | x | y | nothing | `racing` |") == []
    assert "test_nothing" not in named_in(Path(__file__))


# NOTICE names third-party work with its licence. The wheel contains NOTICE, as tests/integration/test_wheel.py checks.


def test_notice_has_every_licence_of_what_others_made() -> None:
    notice = " ".join((ROOT / "NOTICE").read_text().split())
    vendored = sorted((ROOT / "metering").rglob("vendor/LICENSE*"))
    assert vendored
    for licence in vendored:
        assert " ".join(licence.read_text().split()) in notice
    # A README next to third-party data states the licence of the data, and NOTICE names the README's folder.
    for readme in (ROOT / "metering").rglob("README.md"):
        if "CC BY" in readme.read_text():
            assert readme.parent.relative_to(ROOT).as_posix() in notice
            assert "CC BY 4.0" in notice


# Every alarm has a runbook, every runbook has an alarm of the same name, and the commands in runbooks are valid.

FOLDER = ROOT / "docs" / "runbooks"
DRILLS = [
    ROOT / "tests" / "e2e" / name for name in ("test_runbooks.py", "test_log_runbooks.py", "test_money_runbooks.py")
]
PARTS = (
    "What it means", "What it costs", "How long there is", "How to see", "How to mitigate", "How to check",
    "When to hand over",
)  # fmt: skip
ALARM_NAMES = [spec.name for spec in ALARMS]
RUNBOOKS = sorted({spec.runbook for spec in ALARMS})


def text_of(name: str) -> str:
    return runbook_in((FOLDER / f"{page_of(name)}.md").read_text(), name)


def commands_of(name: str) -> list[str]:
    return whole_lines(text_of(name))


def test_every_alarm_has_a_runbook_and_every_page_a_runbook() -> None:
    pages = {path.stem for path in FOLDER.glob("*.md") if path.stem != "README"}
    assert pages == {page_of(name) for name in RUNBOOKS}
    assert set(RUNBOOKS) <= set(ALARM_NAMES)
    assert len(set(ALARM_NAMES)) == len(ALARM_NAMES), "no two alarms have one name"


@with_each(sorted(SHARED_PAGES))
def test_sections_and_items_of_a_shared_page_belong_to_its_runbooks(page: str) -> None:
    text = (FOLDER / f"{page}.md").read_text()
    headed = {name for names in re.findall(r"^### (.+)$", text, re.MULTILINE) for name in names.split(", ")}
    assert headed <= {*SHARED_PAGES[page], "all"}
    for name in SHARED_PAGES[page]:
        assert not re.search(rf"^(?:### |- `(?:{'|'.join(SHARED_PAGES[page])})`)", text_of(name), re.MULTILINE)


@with_each(RUNBOOKS)
def test_a_runbook_has_its_seven_parts_in_order_and_says_what_its_alarms_mean(name: str) -> None:
    text = text_of(name)
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(PARTS)
    for spec in ALARMS:
        if spec.runbook == name:
            assert spec.meaning in " ".join(text.split())
            assert f"Severity: {spec.severity}." in " ".join(text.split())
            assert spec.name == name or f"`{spec.name}`" in text


@with_each(RUNBOOKS)
def test_every_command_of_a_runbook_waits_for_its_region_and_stage_and_switches_no_check_off(name: str) -> None:
    """A command that is pasted from the page always names its stage."""
    assert commands_of(name)
    for line in commands_of(name):
        assert parsed(line)
        assert "REGION" in line.split(), line
        assert line.split()[line.split().index("--stage") + 1] == "STAGE", line
        assert not re.search(r"--(no-|force|skip|yes)", line), line


@with_each(RUNBOOKS)
def test_a_runbook_ends_with_a_step_that_cures_and_its_check(name: str) -> None:
    """A dry run changes nothing, so the last command is none. The expected result is below each block of commands."""
    text = text_of(name)
    last = dict(commands_by_part(text))
    assert "--dry-run" not in last["How to mitigate"]
    assert last["How to check"]
    assert len(re.findall(r"^```$", text, re.MULTILINE)) == len(re.findall(r"^```\n\nExpected: ", text, re.MULTILINE))


@with_each(RUNBOOKS)
def test_a_runbook_is_followed_by_a_drill_or_a_sentence_says_why_not(name: str) -> None:
    text = "\n".join(drills.read_text() for drills in DRILLS)
    drilled = set(re.findall(r'^@follows\("([a-z-]+)"\)$', text, re.MULTILINE))
    assert (name in drilled) != (name in UNDRILLED)
    if name in UNDRILLED:
        assert re.fullmatch(r"[A-Z].{40,}\.", UNDRILLED[name])


@with_each(RUNBOOKS)
def test_links_between_runbooks_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", text_of(name)):
        file, _, anchor = target.partition("#")
        page = FOLDER / (file or f"{page_of(name)}.md")
        assert page.exists()
        if anchor in RUNBOOKS:
            assert link_of(anchor) == f"{page.name}#{anchor}"
            assert f"### {anchor}\n" in page.read_text()


def test_the_alarms_that_turn_a_deployment_back_page_and_are_as_many_as_cloudformation_takes() -> None:
    assert set(ROLLBACK_ALARMS) <= {spec.name for spec in ALARMS if spec.severity == "page"}
    assert len(ROLLBACK_ALARMS) <= 5


def test_every_alarm_has_a_severity_a_missing_data_rule_and_a_source() -> None:
    figures = {figure.value for figure in Figure}
    for spec in ALARMS:
        assert spec.severity in {"page", "ticket"}
        assert (spec.missing == "breaching") == (spec.metric == Figure.HEARTBEAT)
        assert (spec.origin in {"watch", "log_context", BILL_ORIGIN} and spec.metric != "Errors") == (
            spec.metric in figures
        )
        assert (spec.metric in LOG_FIGURES) <= (spec.origin in LOG_ORIGINS)
