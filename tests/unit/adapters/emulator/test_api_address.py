"""Where an API on an emulator is called: what CloudFormation puts out there is no host that a program finds."""

from __future__ import annotations

import pytest

from metering.adapters.emulator.reaching import ApiAddress, api_address

MINISTACK = "http://127.0.0.1:4566"


@pytest.mark.parametrize(
    ("put_out", "endpoint", "base"),
    [
        ("http://98a294bf.execute-api.localhost:4566", MINISTACK, f"{MINISTACK}/_aws/execute-api/98a294bf"),
        (
            "https://98a294bf.execute-api.localhost:4680",
            "https://127.0.0.1:4680/",
            "https://127.0.0.1:4680/_aws/execute-api/98a294bf",
        ),
        (
            "https://abcdefghijklmnopqrstuvwxyz012345.lambda-url.eu-west-1.on.aws/",
            MINISTACK,
            f"{MINISTACK}/_aws/lambda-url/abcdefghijklmnopqrstuvwxyz012345",
        ),
        ("https://usage.eu-west-1.example.com", MINISTACK, "https://usage.eu-west-1.example.com"),
    ],
)
def test_what_has_a_path_is_called_by_it(put_out: str, endpoint: str, base: str) -> None:
    assert api_address(put_out, endpoint) == ApiAddress(url=f"{base}/", base=base)


def test_what_is_known_by_its_host_alone_is_called_by_that() -> None:
    put_out = "http://0123456789abcdef0123456789abcdef.lambda-url.us-east-1.127.0.0.1:4599/"
    found = api_address(put_out, "http://127.0.0.1:4599")

    assert found.base == "http://127.0.0.1:4599"
    assert found.host == "0123456789abcdef0123456789abcdef.lambda-url.us-east-1.127.0.0.1:4599"
    # Every name below it is this machine, for a browser.
    assert found.url == "http://0123456789abcdef0123456789abcdef.lambda-url.us-east-1.localhost:4599/"
