"""`make api-fuzz` is red if anything is found, if a seeded fault is not, and if nothing was answered with data."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.api.world import ApiWorld
from tests.api_fuzz.__main__ import told
from tests.api_fuzz.faults import FAULTS
from tests.api_fuzz.fuzzing import Findings, Issue, in_process
from tests.api_fuzz.runs import Outcome, judged

ISSUE = Issue(operation="GET /v1/usage", kind="ignored_auth", told="It answers anybody.", code="curl …")


@pytest.mark.parametrize(
    ("issues", "answered", "good"),
    [((), 3, True), ((ISSUE,), 3, False), ((), 0, False)],
    ids=["clean", "issue", "empty"],
)
def test_a_run_is_good_without_an_issue_and_with_data(issues: tuple[Issue, ...], answered: int, good: bool) -> None:
    found = Findings(
        issues={(each.operation, each.kind): each for each in issues},
        answers=Counter({("GET /v1/usage", 200): answered, ("GET /v1/usage", 400): 9}),
    )
    outcome = judged("analyst", found, 0.0, url="")
    assert outcome.good == good
    assert (str(ISSUE) in outcome.told) == bool(issues)


def test_one_outcome_that_is_not_good_makes_the_whole_red(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = (Outcome(name="x", told="y", good=each) for each in (True, False))
    assert (told([good, good]), told([good, bad])) == (0, 1)
    assert capsys.readouterr().out.count("RED") == 1


@pytest.mark.long
def test_a_seeded_fault_is_found_and_the_application_without_it_is_clean() -> None:
    """The one that the tool's own checks would let pass."""
    fault = FAULTS[0]
    app = ApiWorld().app
    clean, spoilt = (
        in_process(each, token="analyst", examples=20, paths="^/v1/freshness$", phases=("fuzzing",))
        for each in (app, fault.spoils(app))
    )
    assert not clean.issues
    assert clean.answered("GET /v1/freshness")
    assert ("GET /v1/freshness", fault.kind) in spoilt.issues
