"""Every command that the documentation shows is a command: it exists, and so do its options."""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING

import pytest

from tests.support.with_each import with_each
from tests.unit.house.command_lines import PAGES, ROOT, USAGE_ERROR, mentions, parsed, whole_lines

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
_TARGET = re.compile(r"(?:^|`)make ([a-z0-9]+(?:-[a-z0-9]+)*)", re.MULTILINE)
_MODULE = re.compile(r"python -m ([a-z_.]+)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


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
    """Else the tests above look at nothing."""
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
