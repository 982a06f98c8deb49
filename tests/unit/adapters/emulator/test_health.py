"""An endpoint is an emulator if it answers as one, and AWS in every other case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.adapters.emulator.reaching import is_emulator
from metering.errors import UnavailableError
from tests.support.answering import HEALTH, MINISTACK, serving

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.mark.parametrize("answers", [MINISTACK, {"/_localstack/health": HEALTH}])
def test_what_answers_as_an_emulator_is_one(answers: Mapping[str, bytes]) -> None:
    with serving(answers) as endpoint:
        assert is_emulator(endpoint)
        assert is_emulator(f"{endpoint}/")


@pytest.mark.parametrize(
    "answers", [{}, {"/_ministack/health": b"<html>"}, {"/_localstack/health": b"[]"}, {"/health": HEALTH}]
)
def test_what_answers_in_any_other_way_counts_as_aws(answers: Mapping[str, bytes]) -> None:
    with serving(answers) as endpoint:
        assert not is_emulator(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    ["https://dynamodb.us-east-1.amazonaws.com", "https://s3.cn-north-1.amazonaws.com.cn", "https://sts.api.aws"],
)
def test_a_host_of_aws_is_never_asked(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", None)
    assert not is_emulator(endpoint)


def test_no_answer_is_an_error_and_no_kind_of_place() -> None:
    with serving({}) as endpoint:
        pass
    with pytest.raises(UnavailableError):
        is_emulator(endpoint)
