"""What the API says of a request that it refuses helps whoever sent it, and says nothing twice."""

from __future__ import annotations

import pytest

from tests.api.world import ApiWorld


@pytest.mark.parametrize(
    ("asked", "who", "detail"),
    [
        ("/v1/trace?last=2h", "analyst", "account has to be given. The account of the line: exactly one."),
        (
            "/v1/cost?month=2026-11&from=2026-11",
            "analyst",
            "2026-11 cannot stand beside a beginning, an end or a span. Leave either out.",
        ),
        ("/v1/cost?month=2026", "analyst", "2026 is not a month: write it as 2026-11."),
        ("/v1/batches?id=nope", "analyst", "No marker tells of batch nope. Look whether the id is right."),
        # In ASCII: JSON would write anything else as an escape, which a person at a terminal cannot paste.
        ("/v1/usage", None, "Send a token that is valid: Authorization: Bearer mtr_... "),
    ],
)
def test_the_detail_says_what_to_do(asked: str, who: str | None, detail: str) -> None:
    assert ApiWorld().get(asked, who).json()["detail"].startswith(detail)
