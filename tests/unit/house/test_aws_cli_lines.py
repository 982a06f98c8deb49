"""The AWS CLI in the documentation: version 1 ignores `AWS_ENDPOINT_URL` for SQS, and would send to AWS."""

from __future__ import annotations

import re

from tests.unit.house.command_lines import PAGES, ROOT

_SEND = re.compile(r"\baws\s[^`\n]*\bsqs send-message\b")


def test_the_pages_that_say_how_to_send_have_a_line_for_the_aws_cli_that_names_the_endpoint() -> None:
    for name in ("docs/getting-started.md", "docs/contract.md", "docs/faq.md"):
        lines = _SEND.findall((ROOT / name).read_text())
        assert lines, f"{name} does not say how the AWS CLI sends a batch"


def test_no_line_for_the_aws_cli_sends_to_wherever_version_1_would() -> None:
    for page in PAGES:
        for line in _SEND.findall(page.read_text()):
            assert "--endpoint-url" in line, f"{page.name}: {line}"
