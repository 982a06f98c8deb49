"""`metering owners` from outside: a book is put, shown and kept in versions; a book with faults is refused whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from metering.operations.logged_errors import DeedTrail
from tests.support.command_line import HOME, TwoRegions, ask, refused, run
from tests.support.kept_causes import NAT_BYTES, keep_causes, row, stretch
from tests.support.lake_world import NOW_S
from tests.unit.billing.test_owners import BOOK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RULES = [
    {"rule": 1, "owner": "search", "when": "vpc vpc-1, tag team search*", "from": "2026-11-01T00:00:00Z",
     "to": "2026-11-20T00:00:00Z"},
    {"rule": 2, "owner": "ci", "when": "workload asg:ci-runners", "from": None, "to": None},
    {"rule": 3, "owner": "platform", "when": "account 111122223333", "from": None, "to": None},
]  # fmt: skip


@pytest.fixture
def stage() -> Iterator[TwoRegions]:
    made = TwoRegions()
    with made.typed():
        yield made


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "owners.toml"
    path.write_bytes(BOOK)
    return path


def keys(stage: TwoRegions) -> tuple[str, ...]:
    return stage.home.world.objects.keys("owners/")


def test_a_book_is_put_shown_and_kept_in_versions_of_the_home_region(stage: TwoRegions, book: Path) -> None:
    assert ask("owners", "show")["rows"] == []
    answer = ask("owners", "put", book)
    assert (answer["version"], answer["rows"]) == (1, RULES)
    book.write_bytes(BOOK + b'[[rule]]\nowner = "ci"\nwhen = { vpc = "vpc-2" }\n')
    ask("owners", "put", book, "--region", "all")
    assert [len(ask("owners", "show", *which)["rows"]) for which in ((), ("2",), ("1",))] == [4, 4, 3]
    history = ask("owners", "history")["rows"]
    assert [(row["version"], row["rules"], row["owners"]) for row in history] == [(2, 4, 3), (1, 3, 3)]
    assert keys(stage) == ("owners/1.json", "owners/2.json")
    deeds = DeedTrail(items=stage.home.world.items).between(0, NOW_S * 2)
    assert {(deed.what, deed.subject) for deed in deeds} == {("owners put", "version 1"), ("owners put", "version 2")}


def test_the_same_rules_again_write_nothing_in_toml_or_as_the_file_that_show_prints(
    stage: TwoRegions, book: Path, tmp_path: Path
) -> None:
    ask("owners", "put", book)
    shown = tmp_path / "shown.json"
    shown.write_text(run("owners", "show", "1", "--as-file").stdout)
    assert json.loads(shown.read_text()) == json.loads(stage.home.world.objects.get("owners/1.json"))
    for file in (book, shown):
        assert "Nothing was written: version 1 says the same." in run("owners", "put", file).stderr
    assert keys(stage) == ("owners/1.json",)


def test_a_book_with_faults_is_refused_with_each_of_them_and_writes_nothing(stage: TwoRegions, tmp_path: Path) -> None:
    wrong = tmp_path / "owners.json"
    wrong.write_text(json.dumps({"rule": [{"owner": "a", "when": {}}, {"owner": "unowned", "when": {"vpc": "v"}}]}))
    told = refused("owners", "put", wrong)
    assert "rule 1 (a): it asks for nothing" in told
    assert "rule 2 (unowned): an owner is not called unowned" in told
    assert keys(stage) == ()


def test_a_book_on_trial_is_compared_with_the_version_in_force_and_is_not_stored(
    stage: TwoRegions, book: Path, tmp_path: Path
) -> None:
    for region, world in ((name, each.world) for name, each in stage.regions.items()):
        keep_causes(world, [row(5 if region == HOME else 7)], {"i-0abc": [stretch(workload="asg:ci-runners")]})
    ask("owners", "put", book)
    tried = tmp_path / "tried.json"
    tried.write_text(json.dumps({"rule": [{"owner": "builds", "when": {"workload": "asg:*"}}]}))
    for words, size in ((), 5), (("--region", "all"), 12):
        found = ask("owners", "try", tried, "--last", "7d", *words)
        assert [(each["rule"], each["owner"], each["bytes"]) for each in found["rows"]] == [(1, "builds", str(size))]
        assert {each["owner"]: int(each["bytes"]) for each in found["moved"]} == {"builds": size, "ci": -size}
        assert found["against"] == {"version": 1}
    assert keys(stage) == ("owners/1.json",)
    told = " ".join(run("owners", "try", tried, "--format", "table").stdout.split())
    assert f"Against version 1, of {NAT_BYTES}: builds +5 bytes; ci -5 bytes." in told


@pytest.mark.parametrize(("line", "code"), [
    (("put", "/nowhere.toml"), 2), (("try", "/nowhere.toml"), 2), (("show", "3"), 1),
])  # fmt: skip
@pytest.mark.usefixtures("stage")
def test_what_does_not_exist_is_refused_in_words(line: tuple[str, ...], code: int) -> None:
    assert refused("owners", *line, code=code).startswith("Error: ")
