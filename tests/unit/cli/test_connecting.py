"""A stopped emulator is reported as such, with the lost data; AWS without an answer is not."""

from __future__ import annotations

import pytest

from metering.cli.connecting import connect, no_answer, refuse_aws_for_emulated
from metering.cli.failures import CommandFailedError
from metering.errors import UnavailableError
from tests.support.answering import remember_emulator, serving

GONE = "http://127.0.0.1:9"
NO_ANSWER = UnavailableError("cloudformation.DescribeStacks", "connection refused")


pytestmark = pytest.mark.usefixtures("nobody")


def test_an_emulator_that_was_killed_is_gone_with_all_that_it_held() -> None:
    state = remember_emulator(began="long ago")
    with pytest.raises(CommandFailedError) as told:
        refuse_aws_for_emulated("local", endpoint=None, region="us-east-1")
    for error in (told.value, no_answer(NO_ANSWER, endpoint=GONE, region="us-east-1")):
        assert str(error) == f"The emulator at {GONE} (pid {state.pid}) is gone, and so is all that it held."
        assert "metering local up" in error.advice


def test_it_is_told_as_well_to_who_names_its_endpoint() -> None:
    remember_emulator(began="long ago")
    with pytest.raises(CommandFailedError, match="is gone, and so is all that it held"):
        connect(endpoint=GONE, region="us-east-1", stage="local")


@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:4999"])
def test_another_place_that_gives_no_answer_is_no_emulator_that_is_gone(endpoint: str | None) -> None:
    remember_emulator(began="long ago")
    assert "gives no answer" in str(no_answer(NO_ANSWER, endpoint=endpoint, region="us-east-1"))


def test_an_emulator_that_runs_and_gives_no_answer_is_not_gone() -> None:
    remember_emulator()
    assert "gives no answer" in str(no_answer(NO_ANSWER, endpoint=GONE, region="us-east-1"))


def test_without_any_emulator_the_sentence_says_how_to_start_one() -> None:
    with pytest.raises(CommandFailedError, match="none runs here") as told:
        refuse_aws_for_emulated("local", endpoint=None, region="us-east-1")
    assert "metering local up" in told.value.advice


def test_a_stage_in_an_account_may_go_to_aws() -> None:
    refuse_aws_for_emulated("prod", endpoint=None, region="us-east-1")
    refuse_aws_for_emulated("a-stage-that-nobody-configured", endpoint=None, region="us-east-1")


def test_the_emulator_of_localstacks_session_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"/_localstack/health": b'{"services": {}}'}) as endpoint:
        monkeypatch.setenv("LOCALSTACK_HOST", endpoint.removeprefix("http://"))
        refuse_aws_for_emulated("local", endpoint=None, region="us-east-1")
