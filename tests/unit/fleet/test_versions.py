from __future__ import annotations

import pytest

from metering.fleet.ports import Direction, Release, direction, order


def release(version: str, *, data_format: int = 1, commit: str = "") -> Release:
    return Release(version=version, data_format=data_format, commit=commit)


def test_versions_stand_in_the_order_of_their_releases() -> None:
    ordered = ["0.1.0", "0.1.9", "0.1.10", "0.2.0.dev0", "0.2.0a1", "0.2.0b1", "0.2.0rc1", "0.2.0", "1.0.0"]

    assert sorted(set(ordered), key=order) == ordered


def test_what_a_stack_puts_out_is_read_again_as_the_same_release() -> None:
    own = release("0.2.0", commit="1911cd8aa657-dirty")

    assert Release.of_outputs({**own.outputs, "Other": "x"}) == own


@pytest.mark.parametrize("outputs", [{}, {"Version": "0.2.0"}, {"Version": "0.2.0", "DataFormat": "one"}])
def test_a_stack_that_does_not_say_both_says_no_release(outputs: dict[str, str]) -> None:
    assert Release.of_outputs(outputs) is None


@pytest.mark.parametrize(("deployed", "own", "way"), [
    (release("0.2.0"), release("0.2.0"), Direction.SAME),
    (release("0.2.0", commit="a"), release("0.2.0", commit="b"), Direction.UPGRADE),
    (release("0.2.0", commit="a"), release("0.2.0"), Direction.SAME),
    (release("0.1.0"), release("0.2.0"), Direction.UPGRADE),
    (release("0.3.0"), release("0.2.0"), Direction.ROLLBACK),
    (None, release("0.2.0.dev0"), Direction.UPGRADE),
    (None, release("0.1.0"), Direction.SAME),
])  # fmt: skip
def test_the_way_goes_from_what_is_deployed_to_this_checkout(
    deployed: Release | None, own: Release, way: Direction
) -> None:
    assert direction(deployed, data_format=1, own=own) is way


def test_a_format_that_this_checkout_does_not_know_is_refused_whatever_the_version() -> None:
    assert direction(release("0.3.0", data_format=2), data_format=2, own=release("0.9.0")) is Direction.REFUSED


def test_a_release_of_a_newer_format_is_refused_while_the_data_is_still_old() -> None:
    assert direction(release("0.1.0"), data_format=1, own=release("0.3.0", data_format=2)) is Direction.REFUSED
