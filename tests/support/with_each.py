"""A long list of cases as one test that reports all failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import pytest

T = TypeVar("T")


def with_each(
    values: Iterable[T], name: Callable[[T], str] = str
) -> Callable[[Callable[[T], None]], Callable[[], None]]:
    """Check every value in one test, and continue after a value that fails."""

    def one_test(check: Callable[[T], None]) -> Callable[[], None]:
        def tried() -> None:
            failures: dict[str, BaseException] = {}
            for value in values:
                try:
                    check(value)
                except (Exception, pytest.fail.Exception) as failure:  # noqa: BLE001 - all are told together
                    failures[name(value)] = failure
            if failures:
                told = "".join(f"\n{case}: {failure}" for case, failure in failures.items())
                raise BaseExceptionGroup(f"{len(failures)} cases fail:{told}", [*failures.values()])

        tried.__name__, tried.__doc__ = check.__name__, check.__doc__
        return tried

    return one_test
