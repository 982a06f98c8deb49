from __future__ import annotations

import pytest

from tests.mutants.__main__ import occurrences
from tests.mutants.catalogue import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_seeded_bug_still_has_exactly_one_place(mutant: Mutant) -> None:
    assert occurrences(mutant) == 1


def test_there_are_enough_seeded_bugs_with_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20
