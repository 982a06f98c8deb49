"""A description may say whose buckets and distributions are, and which of two logs of a distribution is metered."""

from __future__ import annotations

import pytest

from metering.onramps.context.description import DescriptionError
from metering.onramps.context.document import Context
from metering.onramps.context.facts import Distribution
from metering.onramps.context.inventory import context_of

ACCOUNT = "123456789012"
BASE: dict[str, object] = {"schema": "metering.description/1", "buckets": {"acme": "us-west-2"}}
OWNERS: dict[str, object] = {
    "bucket_owners": {"acme": ACCOUNT},
    "distributions": {"E1": {"account_id": ACCOUNT, "log": "v2"}, "E2": {"account_id": ACCOUNT}},
}


def test_owners_come_into_the_context_and_through_its_json() -> None:
    context = Context.decode(context_of(BASE | OWNERS, 0).encode())
    assert dict(context.bucket_owners) == {"acme": ACCOUNT}
    assert dict(context.distributions) == {
        "E1": Distribution("E1", ACCOUNT, "v2"),
        "E2": Distribution("E2", ACCOUNT, ""),
    }


def test_a_context_without_owners_has_the_bytes_that_it_had_before_there_were_any() -> None:
    assert b"owner" not in context_of(BASE, 0).encode()
    assert b"distributions" not in context_of(BASE, 0).encode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket_owners": {"acme": "79a59df9"}},
        {"distributions": {"E1": {"account_id": "1"}}},
        {"distributions": {"E1": {"account_id": ACCOUNT, "log": "both"}}},
        {"distributions": {"E1": {}}},
    ],
)
def test_owners_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DescriptionError):
        context_of(BASE | wrong, 0)
