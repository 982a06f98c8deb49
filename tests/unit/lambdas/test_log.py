from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lambdas.log import function_logger
from metering.version import package_version

if TYPE_CHECKING:
    import pytest


def test_each_line_of_a_function_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    function_logger("a-function").info("invocation handled", extra={"messages": 1})

    [line] = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert (said["service"], said["version"], said["messages"]) == ("a-function", package_version(), 1)
