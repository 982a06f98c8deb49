"""`make e2e ENDPOINT=…` finds out what is there, and leaves out what only fits another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.e2e.endpoints import Kind, kind_of, why_left_out
from tests.support.answering import HEALTH, MINISTACK, serving


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (MINISTACK, Kind.MINISTACK),
        ({"/_localstack/health": HEALTH}, Kind.LOCALSTACK),
        ({}, Kind.OTHER),
        ({"/_ministack/health": b"<html>", "/_localstack/health": b"[]"}, Kind.OTHER),
    ],
)
def test_an_endpoint_says_what_it_is(answers: dict[str, bytes], kind: Kind) -> None:
    with serving(answers) as endpoint:
        assert kind_of(endpoint) is kind


def test_an_endpoint_without_an_answer_is_an_error_and_no_kind() -> None:
    with serving({}) as endpoint:
        pass
    with pytest.raises(ConnectionError, match="nothing answers at"):
        kind_of(endpoint)


def _item(*markers: Any) -> pytest.Item:
    named = {marker.name: marker for marker in markers}
    return cast("pytest.Item", SimpleNamespace(get_closest_marker=named.get))


def test_a_test_for_ministack_is_left_out_elsewhere_and_says_why() -> None:
    only = _item(pytest.mark.ministack(reason="it enforces IAM").mark)

    assert why_left_out(only, Kind.MINISTACK) is None
    assert why_left_out(only, Kind.LOCALSTACK) == "only on MiniStack, this is LocalStack: it enforces IAM"
    assert why_left_out(_item(), Kind.OTHER) is None
