"""An endpoint is an emulator if it responds as one; otherwise it is AWS."""

from collections.abc import Mapping

import pytest

from metering.adapters.emulator.ministack import ApiAddress, api_address, is_emulator
from metering.errors import UnavailableError
from tests.support.answering import HEALTH, MINISTACK, serving


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


# Address of an API on an emulator: a program cannot resolve the host in CloudFormation's output.

MINISTACK_URL = "http://127.0.0.1:4566"


@pytest.mark.parametrize(("put_out", "endpoint", "base"), [
    ("http://98a294bf.execute-api.localhost:4566", MINISTACK_URL, f"{MINISTACK_URL}/_aws/execute-api/98a294bf"),
    (
        "https://98a294bf.execute-api.localhost:4680",
        "https://127.0.0.1:4680/",
        "https://127.0.0.1:4680/_aws/execute-api/98a294bf",
    ),
    (
        "https://abcdefghijklmnopqrstuvwxyz012345.lambda-url.eu-west-1.on.aws/",
        MINISTACK_URL,
        f"{MINISTACK_URL}/_aws/lambda-url/abcdefghijklmnopqrstuvwxyz012345",
    ),
    ("https://usage.eu-west-1.example.com", MINISTACK_URL, "https://usage.eu-west-1.example.com"),
])  # fmt: skip
def test_what_has_a_path_is_called_by_it(put_out: str, endpoint: str, base: str) -> None:
    assert api_address(put_out, endpoint) == ApiAddress(url=f"{base}/", base=base)


def test_what_is_known_by_its_host_alone_is_called_by_that() -> None:
    put_out = "http://0123456789abcdef0123456789abcdef.lambda-url.us-east-1.127.0.0.1:4599/"
    found = api_address(put_out, "http://127.0.0.1:4599")
    assert found.base == "http://127.0.0.1:4599"
    assert found.host == "0123456789abcdef0123456789abcdef.lambda-url.us-east-1.127.0.0.1:4599"
    # For a browser, every name below `localhost` is this machine.
    assert found.url == "http://0123456789abcdef0123456789abcdef.lambda-url.us-east-1.localhost:4599/"
