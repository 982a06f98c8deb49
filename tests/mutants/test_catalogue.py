from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.mutants.__main__ import killer_in, occurrences
from tests.mutants.catalogue import MUTANTS
from tests.support.with_each import with_each

if TYPE_CHECKING:
    from tests.mutants.mutant import Mutant


@with_each(MUTANTS, lambda mutant: mutant.name)
def test_every_seeded_bug_still_has_exactly_one_place(mutant: Mutant) -> None:
    assert occurrences(mutant) == 1


def test_there_are_enough_seeded_bugs_with_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20


@pytest.mark.parametrize(
    ("line", "killer"),
    [
        ("FAILED tests/a/test_b.py::test_c - assert 1 == 2", "tests/a/test_b.py::test_c"),
        ("FAILED tests/a/test_b.py::test_c", "tests/a/test_b.py::test_c"),
        ("FAILED tests/a/test_b.py::TestC::test_d[a b] - E [x] - y", "tests/a/test_b.py::TestC::test_d[a b]"),
        ("FAILED tests/a/test_b.py::test_c[two words - and more]", "tests/a/test_b.py::test_c[two words - and more]"),
        ("FAILED tests/a/test_b.py::test_c[{'at': [1, 2]}-x y] - no", "tests/a/test_b.py::test_c[{'at': [1, 2]}-x y]"),
        ("ERROR tests/a/test_b.py - ImportError: no x", "tests/a/test_b.py"),
        ("FAILED because of something else", ""),
        ("1 failed in 0.1s", ""),
    ],
)
def test_the_killer_of_a_seeded_bug_is_read_from_the_summary(line: str, killer: str) -> None:
    assert killer_in(f"...F\n== short test summary info ==\n{line}\n1 failed in 0.10s\n") == killer
