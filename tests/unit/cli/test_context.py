"""`metering context`: capture into a folder or a stage, list, show."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from metering.adapters.folders import FolderLogStore
from metering.cli.app import app
from metering.cli.commands.platform.context import capture, list_
from metering.hours import rfc3339
from metering.onramps.context.description import DescriptionError
from metering.onramps.context.store import ContextStore
from tests.support.command_line import OperatorSession
from tests.support.describing import SMALL
from tests.support.lake_world import World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def description(tmp_path: Path) -> Path:
    path = tmp_path / "description.json"
    path.write_text(json.dumps(SMALL))
    return path


def typed(*line: object) -> Result:
    return CliRunner().invoke(app, ["context", *map(str, line)])


def captured(description: Path, folder: Path, *more: str) -> Any:
    result = typed("capture", "--from", description, "-o", folder, *more)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_description_is_kept_in_a_folder_without_any_stage(description: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ctx"
    answer = captured(description, folder)
    assert (answer["kept"], answer["vpcs"], answer["flow_logs"], answer["address_ranges"]) == (True, 1, 1, 2)
    [(_, sha256)] = ContextStore(FolderLogStore(folder)).names()
    assert sha256 == answer["context"]


def test_the_same_is_not_kept_twice(description: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ctx"
    first, again = captured(description, folder), captured(description, folder)
    assert (again["kept"], again["context"]) == (False, first["context"])
    assert len(list(ContextStore(FolderLogStore(folder)).names())) == 1


def test_kept_contexts_are_listed_and_shown(description: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ctx"
    answer = captured(description, folder)
    listed = json.loads(typed("list", "--context", folder).stdout)
    assert listed["rows"] == [{"effective": answer["effective"], "context": answer["context"]}]
    for which in ((), (answer["effective"],), (answer["effective"][:13],), (answer["context"][:8],)):
        shown = json.loads(typed("show", *which, "--context", folder).stdout)
        assert shown == {name: value for name, value in answer.items() if name != "kept"}


def test_address_ranges_of_a_file_replace_those_of_the_description(description: Path, tmp_path: Path) -> None:
    ranges = tmp_path / "ip-ranges.json"
    ranges.write_text(json.dumps({"prefixes": [], "ipv6_prefixes": []}))
    assert captured(description, tmp_path / "ctx", "--ip-ranges", str(ranges))["address_ranges"] == 0


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (("capture", "--from", "DIR/nothing.json", "-o", "DIR"), 1, "cannot be read: No such file"),
        (("capture", "--from", "DIR/text.json", "-o", "DIR"), 1, "is no JSON"),
        (("capture", "--from", "DIR/list.json", "-o", "DIR"), 1, "not a JSON object"),
        (("capture", "--from", "DIR/empty.json", "-o", "DIR"), 1, "its schema is 'None'"),
        (
            ("capture", "--from", "DIR/empty.json", "-o", "DIR", "--regions", "us-east-1"),
            2,
            "--from takes a description",
        ),
        (("capture", "-o", "DIR", "--regions", "us-east-1a"), 2, "us-east-1a is not the name of a region"),
        (("capture", "-o", "DIR", "--role-arn", "admin"), 2, "admin is no ARN of a role"),
        (("show", "--context", "DIR"), 1, "No context is kept there."),
    ],
)
def test_what_is_wrong_is_said_in_words(tmp_path: Path, line: tuple[str, ...], code: int, words: str) -> None:
    for name, text in {"text.json": "text", "list.json": "[]", "empty.json": "{}"}.items():
        (tmp_path / name).write_text(text)
    result = typed(*(word.replace("DIR", str(tmp_path)) for word in line))
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_context_that_is_not_meant_by_one_word_is_not_guessed(description: Path, tmp_path: Path) -> None:
    captured(description, tmp_path / "ctx")
    result = typed("show", "2020-01-01T00", "--context", tmp_path / "ctx")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "No context is meant by 2020-01-01T00" in result.stderr


def test_an_empty_folder_says_how_to_capture(tmp_path: Path) -> None:
    result = typed("list", "--context", tmp_path)
    assert (result.exit_code, json.loads(result.stdout)["rows"]) == (0, [])
    assert "metering context capture" in result.stderr


def test_a_stage_keeps_contexts_in_its_bucket_and_remembers_who_did_it(
    description: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(now_s=int(time.time()))
    session = OperatorSession(world)
    capture(session, source=description)
    answer = json.loads(capsys.readouterr().out)
    [(effective_s, sha256)] = ContextStore(world.objects).names()
    assert (rfc3339(effective_s), sha256) == (answer["effective"], answer["context"])
    assert effective_s > time.time()
    [deed] = session.trail()
    assert (deed.what, deed.subject) == ("context capture", sha256)
    list_(session)
    assert json.loads(capsys.readouterr().out)["rows"][0]["context"] == sha256


def test_a_description_that_contradicts_itself_changes_nothing_in_a_stage(tmp_path: Path) -> None:
    path = tmp_path / "description.json"
    path.write_text(json.dumps(SMALL | {"accounts": ["1"]}))
    world = World(now_s=int(time.time()))
    with pytest.raises(DescriptionError):
        capture(OperatorSession(world), source=path)
    assert list(world.objects.list("")) == []
